"""Frictions of stretches: what they slow and keep, and that calibration finds them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shared.bonds import bonded_pairs
from shared.errors import InputError
from shared.kinetics import maxwell_boltzmann
from shared.topology import atom_classes, bonds_of_classes
from shared.units import AMU_A2_PER_FS2_IN_EV, KB_EV_PER_K
from tests.trajgen.conftest import MOLECULES, save_tiny
from trajgen.calibration import CalibrationConfig, _starts, calibrate, check
from trajgen.load import load_model
from trajgen.model import TransitionModel
from trajgen.pairs import Series, make_series
from trajgen.rollout import Generator
from trajgen.stretches import StretchFriction

ATOMS = MOLECULES["ethanol"]
PAIRS = torch.from_numpy(bonded_pairs(ATOMS.numbers, ATOMS.positions))
MASSES = torch.from_numpy(ATOMS.get_masses())
TYPES = torch.arange(len(ATOMS))
LAG = 0.5  # fs


def states(count: int = 50) -> tuple[torch.Tensor, torch.Tensor]:
    """Shaken positions and velocities at 300 K."""
    rng = np.random.default_rng(0)
    x = ATOMS.positions + 0.05 * rng.normal(size=(count, len(ATOMS), 3))
    return torch.from_numpy(x), torch.from_numpy(
        maxwell_boltzmann(ATOMS.numbers, 300.0, rng, count)
    )


def random_friction() -> StretchFriction:
    friction = StretchFriction(len(ATOMS)).double()
    rates = torch.rand(len(ATOMS), len(ATOMS), dtype=torch.float64) * 0.02
    friction.rates.copy_(rates + rates.T)
    return friction


def test_one_bond_slows_by_the_exponential_and_the_rest_stays() -> None:
    friction, (x, v) = StretchFriction(len(ATOMS)).double(), states()
    first, second = PAIRS[0].tolist()
    friction.set_rate(second, first, 0.1)
    slowed = friction.slow(PAIRS, TYPES, MASSES, x, v, LAG)
    before, after = (StretchFriction.energies(PAIRS[:1], MASSES, x, u) for u in (v, slowed))
    torch.testing.assert_close(after, before * np.exp(-2 * 0.1 * LAG))
    others = [atom for atom in range(len(ATOMS)) if atom not in (first, second)]
    assert torch.equal(slowed[:, others], v[:, others])
    unit = torch.nn.functional.normalize(x[:, second] - x[:, first], dim=-1)
    change = (slowed - v)[:, first]
    torch.testing.assert_close(change, (change * unit).sum(-1, keepdim=True) * unit)


def test_momentum_and_angular_momentum_stay() -> None:
    x, v = states()
    change = random_friction().slow(PAIRS, TYPES, MASSES, x, v, LAG) - v
    assert float(change.abs().max()) > 1e-5
    momenta = MASSES[:, None] * change
    assert float(momenta.sum(1).abs().max()) < 1e-13
    assert float(torch.linalg.cross(x, momenta).sum(1).abs().max()) < 1e-13


def test_rotations_reflections_and_the_order_of_atoms_and_bonds() -> None:
    friction, (x, v) = random_friction(), states()
    slowed = friction.slow(PAIRS, TYPES, MASSES, x, v, LAG)
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    for q in (turn, -turn):
        turned = friction.slow(PAIRS, TYPES, MASSES, x @ q, v @ q, LAG)
        torch.testing.assert_close(turned, slowed @ q)
    order = torch.randperm(len(ATOMS))
    pairs = order.argsort()[PAIRS].flip(0).flip(1)
    moved = friction.slow(pairs, TYPES[order], MASSES[order], x[:, order], v[:, order], LAG)
    torch.testing.assert_close(moved, slowed[:, order])


def test_every_stretch_has_the_temperature_of_its_atoms() -> None:
    x, _ = states(20_000)
    spread = (300.0 * KB_EV_PER_K / (MASSES * AMU_A2_PER_FS2_IN_EV)).sqrt()
    v = spread[:, None] * torch.randn(x.shape, dtype=x.dtype)
    mean = StretchFriction.energies(PAIRS, MASSES, x, v).mean(0) * AMU_A2_PER_FS2_IN_EV
    torch.testing.assert_close(
        mean / KB_EV_PER_K, torch.full_like(mean, 300.0), rtol=0.05, atol=0.0
    )


def test_stretches_need_classes_that_tell_bonds_apart() -> None:
    frames = np.repeat(ATOMS.positions[None], 5, 0)
    series = make_series("ethanol", ATOMS.numbers, frames, LAG, np.zeros(5))
    settings = CalibrationConfig("stretches", length_ps=1.0)
    check("residual", [series], (0, 5), settings)
    with pytest.raises(InputError, match=r"needs data\.class_rounds 4"):
        check("residual", [series], (0, 5), settings, class_rounds=1)


def test_a_stretched_bond_is_still_one_of_those_that_tell_classes() -> None:
    oxygen = int(np.flatnonzero(ATOMS.numbers == 8)[0])
    (hydroxyl,) = (p for p in PAIRS.tolist() if oxygen in p and 1 in ATOMS.numbers[p])
    (hydrogen,) = set(hydroxyl) - {oxygen}
    x = ATOMS.positions.copy()
    bond = x[hydrogen] - x[oxygen]
    x[hydrogen] = x[oxygen] + 1.19 * bond / np.linalg.norm(bond)
    assert len(bonded_pairs(ATOMS.numbers, x)) == len(PAIRS) - 1
    classes = atom_classes(ATOMS.numbers, ATOMS.positions)
    assert bonds_of_classes(classes, ATOMS.numbers, x).tolist() == PAIRS.tolist()
    assert len(bonds_of_classes(["x"] * len(ATOMS), ATOMS.numbers, x)) == 0


def test_calibration_finds_what_one_kind_of_bond_gains(tmp_path: Path, monkeypatch: Any) -> None:
    frames = np.repeat(ATOMS.positions[None], 2000, 0)
    series: Series = make_series("ethanol", ATOMS.numbers, frames, LAG, np.zeros(len(frames)))
    velocities = maxwell_boltzmann(ATOMS.numbers, 300.0, np.random.default_rng(0), len(frames))
    series = replace(series, velocities=velocities.astype(np.float32))
    gain, oxygen = StretchFriction(len(ATOMS)).double(), int(np.flatnonzero(ATOMS.numbers == 8)[0])
    (hydroxyl,) = (p for p in PAIRS.tolist() if oxygen in p and 1 in ATOMS.numbers[p])
    gain.set_rate(*hydroxyl, -0.004)

    def draw(self: TransitionModel, c: Any, *_: Any, **__: Any) -> torch.Tensor:
        """The same place, velocities with more of that stretch."""
        v = c.velocities * self.normalisation.velocity * c.inverse_sqrt_mass[..., None]
        more = gain.slow(PAIRS, TYPES, MASSES, c.positions.double(), v.double(), LAG)
        return self.encode(c, c.positions, more.to(v), torch.zeros_like(c.lag))

    monkeypatch.setattr(TransitionModel, "draw", draw)
    folder = save_tiny(tmp_path / "tiny")
    settings = CalibrationConfig("stretches", length_ps=1.0, replicas=64, coupling_ps=0.05)
    calibrate(folder, [series], (0, 2000), settings, compile=False)
    model, config = load_model(str(folder))
    assert model.stretches is not None
    places = [model.types.index(kind) for kind in series.classes]
    for i, j in PAIRS.tolist():
        wanted = 0.004 if [i, j] == hydroxyl else 0.0
        found = float(model.stretches.rates[places[i], places[j]])
        assert found == pytest.approx(wanted, abs=6e-4), (i, j)
    assert float(model.friction.abs().max()) < 6e-4

    # Another order of the atoms is no other molecule.
    rates, order = model.stretches.rates.clone(), np.random.default_rng(1).permutation(len(ATOMS))
    shuffled = make_series("ethanol", ATOMS.numbers[order], frames[:, order], LAG, None)
    shuffled = replace(shuffled, velocities=series.velocities[:, order])
    calibrate(folder, [series, shuffled], (0, 2000), settings, compile=False)
    again = load_model(str(folder))[0].stretches
    torch.testing.assert_close(again.rates, rates, rtol=0, atol=1e-5)

    # The roll-out has it.
    start = _starts(series, slice(2, 2000), 64)
    *_, last = Generator(model, config, compile=False).propagate(start, 1000, LAG, seed=0)
    bond = torch.tensor([hydroxyl])
    state = torch.from_numpy(last.positions), torch.from_numpy(last.velocities)
    held = float(StretchFriction.energies(bond, MASSES, *state).mean())
    wanted = 300.0 * KB_EV_PER_K / AMU_A2_PER_FS2_IN_EV
    assert 0.5 * wanted < held < 1.7 * wanted  # without: e^(2 · 0.004 · 500) = 55 times
