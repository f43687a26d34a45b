"""The kernel of the `residual` mode: preconditioning, residuals, projection, normalisation."""

import json
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shared.errors import InputError
from trajgen.checkpoints import model_class, model_from_config
from trajgen.egt import Condition
from trajgen.kernel import cast
from trajgen.model import NetworkConfig, NoiseConfig, Normalisation, TransitionModel, project
from trajgen.pairs import make_series
from trajgen.train import DataConfig

TINY = NetworkConfig(channels=8, vectors=8, heads=4, directions=2, radial=6, layers=1)
NORMALISATION = Normalisation(0.05, 0.01, 0.02, [1.0, 4.0], [0.01, 0.08], [0.02, 0.04])


def build(**changes: Any) -> TransitionModel:
    torch.manual_seed(0)
    arguments = {"normalisation": NORMALISATION, "network": TINY, **changes}
    return TransitionModel(["a", "b", "c"], **arguments).double().eval()


def state() -> dict[str, Tensor]:
    """Two molecules of four atoms, the second padded with one; centre of mass at rest."""
    g = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    mask = torch.tensor([[True] * 4, [True] * 3 + [False]])
    masses = torch.where(mask, 1 + 5 * normal(2, 4).abs(), 1.0)

    def centred(values: Tensor) -> Tensor:
        weight = (masses * mask)[..., None]
        centre = (weight * values).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
        return (values - centre) * mask[..., None]

    return {
        "types": torch.tensor([[0, 1, 2, 0], [1, 1, 0, 0]]),
        "mask": mask,
        "masses": masses,
        "positions": centred(normal(2, 4, 3)),
        "velocities": centred(0.05 * normal(2, 4, 3)),
        "lag": torch.tensor([1.0, 3.0], dtype=torch.float64),
        "acceleration": centred(0.01 * normal(2, 4, 3)),
        "thermostat": 0.02 * normal(2),
    }


def condition(model: TransitionModel, **changes: Any) -> Condition:
    return model.condition(**{**state(), **changes})


class Nothing(nn.Module):
    """A network that returns zeros."""

    def forward(self, c: Any, noised: Tensor, thermostat: Tensor, log_sigma: Tensor) -> Any:
        return torch.zeros_like(noised), torch.zeros_like(thermostat)


class Echo(nn.Module):
    """A network that returns what it is given."""

    def forward(self, c: Any, noised: Tensor, thermostat: Tensor, log_sigma: Tensor) -> Any:
        return noised, thermostat


def test_decode_inverts_encode() -> None:
    model, s = build(), state()
    c = condition(model)
    x, v, xi = s["positions"] * 1.1, s["velocities"] * 0.7, s["thermostat"] + 0.01
    found = model.decode(c, model.encode(c, x, v, xi))
    for got, wanted in zip(found, (x, v, xi), strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-13, rtol=0)


def test_no_change_is_inertial_flight() -> None:
    model, s = build(), state()
    c = condition(model)
    x, v, xi = model.decode(c, model.unchanged(c))
    flight = s["positions"] + s["lag"][:, None, None] * s["velocities"]
    torch.testing.assert_close(x, flight)
    torch.testing.assert_close(v, s["velocities"])
    assert xi is not None
    assert xi.abs().max() == 0


def test_without_a_thermostat_none_is_handed_on() -> None:
    model = build(history="acceleration")
    c = condition(model, thermostat=None)
    rows = model.encode(c, state()["positions"], state()["velocities"], None)
    assert model.decode(c, rows)[2] is None


def test_projection_removes_motion_of_the_centre_and_padding() -> None:
    model, s = build(), state()
    c = condition(model)
    noise = model.white_noise(c, torch.Generator().manual_seed(0))
    x, v, _ = model.decode(c, noise)
    for values in (x, v):
        momentum = (s["masses"][..., None] * values * s["mask"][..., None]).sum(1)
        assert momentum.abs().max() < 1e-12
    assert noise[1, 18:24].abs().max() == 0
    torch.testing.assert_close(model.project(c, noise), noise)
    # Orthogonal: what is removed has no component in what stays.
    rows = torch.randn(2, 4, 3, dtype=torch.float64)
    kept = project(c, rows)
    assert ((rows * s["mask"][..., None] - kept) * kept).sum((1, 2)).abs().max() < 1e-12


@pytest.mark.parametrize("sigma", [1e-3, 0.3, 1.0, 80.0])
def test_preconditioning(sigma: float) -> None:
    """D = c_skip r + c_out F(c_in r) with c_skip = c_in = 1/(1 + σ²), c_out = σ/√(1 + σ²)."""
    model = build()
    c = condition(model)
    rows = model.white_noise(c, torch.Generator().manual_seed(0))
    level = torch.full((2,), sigma, dtype=torch.float64)
    skip, out = 1 / (1 + sigma**2), sigma / (1 + sigma**2) ** 0.5
    model.network = Nothing()
    torch.testing.assert_close(model(c, rows, level), skip * rows)
    model.network = Echo()
    torch.testing.assert_close(model(c, rows, level), (skip + out * skip) * rows)


def test_without_noise_the_denoiser_is_the_identity_and_with_much_it_forgets() -> None:
    model = build()
    c = condition(model)
    one = model.white_noise(c, torch.Generator().manual_seed(0))
    other = model.white_noise(c, torch.Generator().manual_seed(1))
    none, much = torch.full((2,), 1e-8).double(), torch.full((2,), 1e8).double()
    torch.testing.assert_close(model(c, one, none), one, atol=1e-6, rtol=0)
    torch.testing.assert_close(model(c, one * 1e8, much), model(c, other * 1e8, much))


def test_output_is_projected_whatever_the_network_says() -> None:
    model = build()
    c = condition(model)
    out = model(c, torch.randn(2, 25, dtype=torch.float64), torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(model.project(c, out), out)


def test_scales_are_log_log_linear_and_go_on_outside() -> None:
    step, kick = build().scales(torch.tensor([1.0, 2.0, 4.0, 8.0], dtype=torch.float64))
    slope = 8**0.5  # ℓ grows eightfold from 1 to 4 fs
    torch.testing.assert_close(step, 0.01 * slope ** torch.arange(4).double())
    torch.testing.assert_close(kick, 0.02 * 2.0 ** (torch.arange(4).double() / 2))


def test_loss_weighs_the_thermostat_only_where_it_is_handed_on() -> None:
    target = torch.zeros(2, 25, dtype=torch.float64)
    wrong = target.clone()
    wrong[:, -1] = 2.0
    sigma = torch.ones(2, dtype=torch.float64)
    for history, expected in (("thermostat", 1.2), ("acceleration", 0.0)):
        model = build(history=history)
        found = model.loss(condition(model), wrong, target, sigma, 0.3)
        assert found.tolist() == pytest.approx([expected] * 2)
    unit = model.loss(condition(model), target + 1, target, sigma, 0.3)
    assert unit.tolist() == pytest.approx([2.0, 2.0])  # one for y, one for w


def test_calm_molecules_get_more_noise() -> None:
    model, s = build(), state()
    unknown = model.noise_scale(condition(model, acceleration=None))
    calm = model.noise_scale(condition(model, acceleration=0 * s["acceleration"]))
    assert unknown.tolist() == [1.0, 1.0]
    assert calm.tolist() == [1.5, 1.5]


def test_cast_changes_numbers_only() -> None:
    c = cast(condition(build()), torch.float32)
    assert c.positions.dtype == c.lag.dtype == torch.float32
    assert c.types.dtype == torch.int64
    assert c.mask.dtype == torch.bool


def accelerated(xi: bool = True) -> Any:
    """Water whose atoms, each on its own, are uniformly accelerated: residuals are known."""
    t = 0.5 * np.arange(40)[:, None, None]
    a = np.array([[0.0, 0.0, 0.0], [2e-3, 0.0, 0.0], [-2e-3, 0.0, 0.0]])
    x = np.array([[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]]) + a * t**2 / 2
    return make_series("water", [8, 1, 1], x, 0.5, np.full(40, 0.03) if xi else None)


def test_normalisation_is_measured() -> None:
    series = accelerated()
    a = 2e-3 * np.sqrt(2 * series.masses[1] / 9)  # rms of √m a over atoms and directions
    found = Normalisation.measure([series], (0, 40), (1.0, 4.0), 0.5)
    assert (found.lags_fs[0], found.lags_fs[-1]) == (1.0, 4.0)
    assert found.acceleration == pytest.approx(a, rel=1e-2)
    assert found.thermostat == pytest.approx(0.03, rel=1e-5)
    for lag, step, kick in zip(found.lags_fs, found.step, found.kick, strict=True):
        assert step == pytest.approx(a * lag**2 / 2, rel=2e-2)
        assert kick == pytest.approx(a * lag, rel=1e-2)
    with pytest.raises(InputError, match=r"0\.7 fs is not a multiple"):
        Normalisation.measure([series], (0, 40), (1.0, 4.0), 0.7)


def test_thermostat_history_needs_a_thermostat() -> None:
    settings = SimpleNamespace(
        data=DataConfig(train=(0, 40), lag_fs=(1.0, 1.0)), network=TINY, noise=NoiseConfig()
    )
    series = accelerated(xi=False)
    types = sorted(set(series.classes))
    with pytest.raises(InputError, match=r"set data\.history: acceleration"):
        TransitionModel.from_settings(types, [series], settings)
    settings.data = DataConfig(train=(0, 40), lag_fs=(1.0, 1.0), history="acceleration")
    assert TransitionModel.from_settings(types, [series], settings).history == "acceleration"


def test_description_builds_the_same_model() -> None:
    model = build(noise=NoiseConfig(eta=0.25), history="acceleration")
    entries, normalisation = json.loads(json.dumps(model.description()))
    assert set(entries) == {
        "types",
        "network",
        "noise",
        "history",
        "friction",
        "modes",
        "stretches",
    }
    assert set(normalisation) == set(asdict(NORMALISATION))
    again = model_class("residual").from_description(entries, normalisation).double()
    again.load_state_dict(model.state_dict())
    c, sigma = condition(model), torch.ones(2, dtype=torch.float64)
    rows = model.white_noise(c, torch.Generator().manual_seed(0))
    torch.testing.assert_close(again.eval()(c, rows, sigma), model(c, rows, sigma))
    assert again.noise == model.noise
    assert again.history == "acceleration"


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InputError, match=r"checkpoint x: kind 'flow' .* residual, paper"):
        model_from_config(SimpleNamespace(name="x", kind="flow"))


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"history": "memory"}, "no history memory; there are thermostat, acceleration"),
        ({"noise": {"threshold": 0.0}}, r"noise\.threshold must be > 0, got 0"),
        ({"noise": {"sigma_min": 100.0}}, r"noise\.sigma_min must be below noise\.sigma_max"),
        ({"network": {"layers": 0}}, r"network\.layers must be >= 1, got 0"),
    ],
)
def test_entries_that_make_no_model(entries: dict, says: str) -> None:
    described, normalisation = build().description()
    with pytest.raises(InputError, match=says):
        model_class("residual").from_description(described | entries, normalisation)
