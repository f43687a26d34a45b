"""The kernel of the `paper` mode: positions as rows, the prior, roll-outs through the generator."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shared.checkpoint import CheckpointConfig, save
from shared.errors import InputError
from shared.kinetics import maxwell_boltzmann
from shared.state import PhaseState
from shared.topology import atom_classes, molecule_key
from tests.physics import random_rotation
from tests.trajgen.conftest import MOLECULES
from trajgen.checkpoints import model_class
from trajgen.load import load_model
from trajgen.pairs import make_series
from trajgen.paper import (
    PaperCondition,
    PaperConfig,
    PaperModel,
    PaperNetworkConfig,
    PaperNoiseConfig,
)
from trajgen.rollout import Generator
from trajgen.train import DataConfig

TINY = PaperNetworkConfig(channels=8, heads=2, layers=1, feed_forward=8, cutoff=4.0)
LAG = 0.5  # fs


def build(**noise: float) -> PaperModel:
    torch.manual_seed(0)
    return PaperModel(["a", "b"], 0.02, TINY, PaperNoiseConfig(**noise)).double().eval()


def state() -> dict[str, Tensor]:
    """Two molecules of four atoms, the second padded with one."""
    g = torch.Generator().manual_seed(1)
    mask = torch.tensor([[True] * 4, [True] * 3 + [False]])

    def normal() -> Tensor:
        return torch.randn(2, 4, 3, generator=g, dtype=torch.float64) * mask[..., None]

    return {
        "types": torch.tensor([[0, 1, 1, 0], [1, 1, 0, 0]]),
        "masses": torch.ones(2, 4, dtype=torch.float64),
        "positions": normal(),
        "velocities": 0.02 * normal(),
        "lag": torch.full((2,), LAG, dtype=torch.float64),
        "mask": mask,
    }


def condition(model: PaperModel, **changes: Any) -> PaperCondition:
    return model.condition(**{**state(), **changes})


class Constant(nn.Module):
    """A network that always returns the same displacement."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, types: Any, mask: Any, positions: Tensor, *others: Any) -> Tensor:
        return torch.full_like(positions, self.value)


def test_velocities_are_differences_of_positions() -> None:
    model, s = build(), state()
    c = condition(model)
    x, v, xi = model.decode(c, model.encode(c, s["positions"] + 0.01, s["velocities"], None))
    torch.testing.assert_close(x, s["positions"] + 0.01)
    torch.testing.assert_close(v, torch.full_like(v, 0.01 / LAG))
    assert xi is None


def test_preconditioning_and_loss() -> None:
    """D = x + σ F; a network that returns the noise with the other sign has no loss, zeros 1."""
    model = build()
    c = condition(model)
    target, sigma = model.unchanged(c), torch.tensor([0.2, 0.3], dtype=torch.float64)
    white = model.project(c, torch.randn(4000, 12, generator=None, dtype=torch.float64)[:2])
    noised = target + sigma[:, None] * white
    model.network = Constant(0.5)
    torch.testing.assert_close(model(c, noised, sigma), noised + 0.5 * sigma[:, None])
    assert model.loss(c, target, target, sigma, 0.0).tolist() == [0.0, 0.0]
    expected = white.square().sum(1) / torch.tensor([12.0, 9.0])
    torch.testing.assert_close(model.loss(c, noised, target, sigma, 0.0), expected)


def test_noise_has_no_mean_and_is_zero_on_padding() -> None:
    model = build()
    c = condition(model)
    noise = model.white_noise(c, torch.Generator().manual_seed(0))
    assert noise.unflatten(1, (4, 3)).sum(1).abs().max() < 1e-12
    assert noise[1, 9:].abs().max() == 0
    torch.testing.assert_close(model.project(c, noise), noise)


def test_acceleration_sets_the_noise() -> None:
    model = build(sigma=0.5, eta=2.0, threshold=0.04)
    a = torch.full((2, 4, 3), 0.1, dtype=torch.float64) * state()["mask"][..., None]
    c = condition(model, acceleration=a, has_acceleration=torch.tensor([1.0, 0.0]).double())
    # ‖a‖² is 0.03 per atom, padding left out.
    assert c.squared_acceleration.tolist() == pytest.approx([0.03, 0.03])
    assert model.noise_scale(c).tolist() == pytest.approx([0.5 * 2.0 * 0.01**2, 0.5])
    assert condition(model).has_acceleration.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("sampler", "steps"), [("ode", 1), ("heun", 1), ("heun", 5)])
def test_sampling_starts_from_the_frame_without_noise(sampler: str, steps: int) -> None:
    """A network that sees nothing to do returns x_t, whatever the seed."""
    model = build()
    c = condition(model)
    model.network = Constant(0.0)
    torch.testing.assert_close(model.draw(c, sampler, steps), model.unchanged(c))


@pytest.mark.parametrize(("sampler", "steps"), [("ode", 1), ("heun", 5)])
def test_samples_turn_with_the_molecule_and_are_finite(sampler: str, steps: int) -> None:
    model, s = build(), state()
    turn = random_rotation(torch.Generator().manual_seed(0))
    turned = {name: s[name] @ turn.T for name in ("positions", "velocities")}
    found = model.draw(condition(model, **turned), sampler, steps).unflatten(1, (4, 3))
    expected = model.draw(condition(model), sampler, steps).unflatten(1, (4, 3))
    assert (expected - s["positions"]).abs().max() > 1e-3
    torch.testing.assert_close(found, expected @ turn.T, atol=1e-6, rtol=0)


@pytest.mark.parametrize("sigma", [1.0, 1e-3, 1e-9])
def test_few_steps_between_levels_that_are_all_but_equal(sigma: float) -> None:
    """In float32 std(1) and std(0.9) can be the same number."""
    model = build(sigma=sigma, floor=1e-12).float()
    c = model.condition(
        **{k: v.float() if v.is_floating_point() else v for k, v in state().items()}
    )
    assert model.draw(c, "heun", 21).isfinite().all()


def test_few_steps_approach_the_ode() -> None:
    model = build(sigma=0.5)
    c = condition(model)
    exact = model.draw(c, "ode", 1)
    errors = [(model.draw(c, "heun", steps) - exact).abs().max() for steps in (3, 9, 33)]
    assert errors[0] > 3 * errors[1] > 9 * errors[2]


def settings(**data: Any) -> Any:
    return SimpleNamespace(data=DataConfig(train=(0, 30), **data), paper=PaperConfig(TINY))


def test_a_model_for_series() -> None:
    atoms = MOLECULES["water"]
    flight = 0.01 * np.arange(30)[:, None, None] * np.array([[0, 0, 0], [0, 0, 1], [0, 0, -1]])
    series = make_series("water", atoms.numbers, atoms.positions + flight, LAG, pair_steps=1)
    types = sorted(set(series.classes))
    model = PaperModel.from_settings(types, [series], settings(history="acceleration"))
    assert model.velocity == pytest.approx(0.01 / LAG * (2 / 9) ** 0.5, rel=1e-4)
    with pytest.raises(InputError, match=r"set data\.history: acceleration"):
        PaperModel.from_settings(types, [series], settings())


def test_description_builds_the_same_model() -> None:
    model = build(sigma=0.3, epsilon=0.2)
    again = model_class("paper").from_description(*json.loads(json.dumps(model.description())))
    again = again.double().eval()
    again.load_state_dict(model.state_dict())
    assert again.noise == model.noise
    c, sigma = condition(model), torch.ones(2, dtype=torch.float64)
    rows = model.unchanged(c)
    torch.testing.assert_close(again(c, rows, sigma), model(c, rows, sigma))


# -- through the generator ----------------------------------------------------------------------


@pytest.fixture
def generator(tmp_path: Path) -> Generator:
    atoms = MOLECULES["ethanol"]
    classes = atom_classes(atoms.numbers, atoms.positions)
    torch.manual_seed(0)
    model = PaperModel(sorted(set(classes)), 0.002, TINY)
    with torch.no_grad():  # almost nothing to do, so that the molecule stays whole
        model.network.gate[1].weight.zero_()
        model.network.gate[1].bias.fill_(-0.98)
    entries, normalisation = model.description()
    config = CheckpointConfig(
        head="trajgen",
        name="tiny",
        kind="paper",
        model=entries,
        elements=[1, 6, 8],
        molecules={"ethanol": {"key": molecule_key(classes), "atoms": 9}},
        normalisation=normalisation,
        defaults={"lag_fs": LAG, "sampler": "heun", "steps": 3},
    )
    save(tmp_path / "tiny", model.state_dict(), config, "# tiny\n")
    return Generator(*load_model(str(tmp_path / "tiny")))


@pytest.fixture
def start() -> PhaseState:
    atoms, rng = MOLECULES["ethanol"], np.random.default_rng(0)
    velocities = maxwell_boltzmann(atoms.numbers, 10.0, rng, 2)
    positions = np.repeat(atoms.positions[None], 2, 0) + 2.0
    return PhaseState(numbers=atoms.numbers, positions=positions, velocities=velocities)


def test_roll_out(generator: Generator, start: PhaseState) -> None:
    states = [start, *generator.propagate(start, 6, LAG, seed=0)]
    for before, after in pairwise(states):
        assert after.alive.all()
        moved = after.positions - before.positions
        np.testing.assert_allclose(after.velocities, moved / LAG, atol=1e-12)
    assert np.abs(states[-1].positions - start.positions).max() > 1e-4, "nothing happened"
    assert states[-1].thermostat is None


def test_roll_out_resumes_to_the_bit(generator: Generator, start: PhaseState) -> None:
    generator.reference = start.positions[0]
    states = list(generator.propagate(start, 6, LAG, seed=0))
    rest = list(generator.propagate(states[2], 3, LAG, seed=0))
    for name in ("positions", "velocities", "previous_velocities"):
        np.testing.assert_array_equal(getattr(rest[-1], name), getattr(states[-1], name))


def test_deterministic_samplers_have_nothing_random(
    generator: Generator, start: PhaseState
) -> None:
    one, other = (list(generator.propagate(start, 3, LAG, seed=seed))[-1] for seed in (0, 1))
    np.testing.assert_array_equal(one.positions, other.positions)


def test_a_start_far_away_changes_nothing(generator: Generator, start: PhaseState) -> None:
    far = replace(start, positions=start.positions + 1000.0)
    here, there = (list(generator.propagate(s, 3, LAG, seed=0))[-1] for s in (start, far))
    np.testing.assert_allclose(there.positions - 1000.0, here.positions, atol=1e-5)
