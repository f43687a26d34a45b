"""Calibration: it finds the friction that undoes a known leak, and stores it with the weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shared.errors import InputError
from shared.kinetics import maxwell_boltzmann
from tests.trajgen.conftest import MOLECULES, save_tiny
from trajgen.calibration import CalibrationConfig, calibrate
from trajgen.load import load_model
from trajgen.model import TransitionModel
from trajgen.pairs import Series, make_series

LAG = 0.5  # fs
LEAK = {1: 0.002, 6: -0.001, 8: 0.0005}  # 1/fs by element: what the false kernel loses
SETTINGS = CalibrationConfig(length_ps=1.0, replicas=128, coupling_ps=0.05)


def ethanol() -> Series:
    """Frames of one structure with Maxwell–Boltzmann velocities."""
    atoms, rng = MOLECULES["ethanol"], np.random.default_rng(0)
    frames = np.repeat(atoms.positions[None], 2000, 0)
    series = make_series("ethanol", atoms.numbers, frames, LAG, np.zeros(len(frames)))
    velocities = maxwell_boltzmann(atoms.numbers, 300.0, rng, len(frames))
    return replace(series, velocities=velocities.astype(np.float32))


def leak(self: TransitionModel, c: Any, *_: Any, **__: Any) -> torch.Tensor:
    """Rows of a next state in the same place, its velocities slowed by element."""
    masses = c.inverse_sqrt_mass**-2
    loss = LEAK[1] + (LEAK[6] - LEAK[1]) * (masses > 2) + (LEAK[8] - LEAK[6]) * (masses > 14)
    momenta = c.velocities * self.normalisation.velocity
    velocities = momenta * c.inverse_sqrt_mass[..., None]
    slowed = velocities * torch.exp(-loss * c.lag[:, None])[..., None]
    return self.encode(c, c.positions, slowed, torch.zeros_like(c.lag))


def test_the_leak_of_each_class_is_found_and_undone(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(TransitionModel, "draw", leak)
    folder, series = save_tiny(tmp_path / "tiny"), ethanol()
    before = load_model(str(folder))[1].weights_sha256
    calibrate(folder, [series], (0, 2000), SETTINGS, compile=False)
    model, config = load_model(str(folder))
    assert config.weights_sha256 != before
    found = dict(zip(model.types, model.friction.tolist(), strict=True))
    for kind, number in zip(series.classes, series.numbers, strict=True):
        # momentum is shared by the whole molecule, which moves what each class needs a little
        assert found[kind] == pytest.approx(-LEAK[int(number)], abs=4e-4), kind
    others = [found[kind] for kind in set(model.types) - set(series.classes)]
    assert others
    assert not any(others)


def test_further_trajectories_have_their_share_in_the_temperatures_to_hold(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(TransitionModel, "draw", leak)
    for element in LEAK:
        monkeypatch.setitem(LEAK, element, 0.0)
    folder, series = save_tiny(tmp_path / "tiny"), ethanol()
    hot = replace(series, velocities=series.velocities * np.float32(2**0.5))
    short = replace(SETTINGS, length_ps=0.05)
    found = []
    for trained, more in (([series], []), ([series], [hot]), ([series, hot], [])):
        calibrate(folder, trained, (0, 2000), short, more, compile=False)
        model = load_model(str(folder))[0]
        frictions = dict(zip(model.types, model.friction.tolist(), strict=True))
        found.append([frictions[kind] for kind in set(series.classes)])
    assert max(map(abs, found[0])) < 0.5 * min(map(abs, found[1]))
    assert max(found[1]) < 0  # it heats
    assert found[2] == found[1]  # trajectories of one molecule are calibrated together


def test_atoms_are_not_held_at_one_temperature() -> None:
    with pytest.raises(InputError, match=r"equal is for calibration\.by: modes"):
        replace(SETTINGS, temperatures="equal")


def test_friction_slows_and_keeps_momentum_at_zero(tmp_path: Path) -> None:
    model = load_model(str(save_tiny(tmp_path / "tiny")))[0].double()
    atoms, count = MOLECULES["ethanol"], len(MOLECULES["ethanol"])
    types = torch.arange(count)[None] % len(model.types)
    masses = torch.from_numpy(atoms.get_masses())[None]
    velocities = torch.randn(1, count, 3, dtype=torch.float64)
    velocities -= (masses[..., None] * velocities).sum(1, keepdim=True) / masses.sum()
    lag = torch.full((1,), LAG, dtype=torch.float64)
    c = model.condition(types, masses, torch.from_numpy(atoms.positions)[None], velocities, lag)
    rows = model.unchanged(c)
    model.set_friction(torch.full((len(model.types),), 0.01))
    slowed = model.decode(c, rows)[1]
    torch.testing.assert_close(slowed, velocities * np.exp(-0.01 * LAG), rtol=1e-6, atol=0)
    model.set_friction(torch.linspace(0, 0.1, len(model.types)))
    drift = (masses[..., None] * model.decode(c, rows)[1]).sum(1)
    assert float(drift.abs().max()) < 1e-12
