"""Scans and coordinates of the smaller benchmark scripts, on a molecule whose answers are known."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase.data import atomic_masses, covalent_radii
from ase.io import read
from scipy.spatial.transform import Rotation

from forcefield.load import load_potential
from shared.bonds import bonded_pairs

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Any:
    """bond_scan.py and modes.py as modules, which import their neighbours as scripts do."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT / "benchmarks")])
    import bond_scan
    import modes

    return bond_scan, modes


@pytest.fixture(scope="module")
def ethanol() -> Any:
    return read(ROOT / "examples" / "ethanol.xyz", index=0)


def test_every_bond_is_stretched_by_what_is_asked(scripts: Any, ethanol: Any) -> None:
    scan, _ = scripts
    numbers, x = ethanol.numbers, ethanol.positions
    found = scan.stretched_bonds(numbers, x)
    assert sorted(kind for kind, _ in found) == ["C–C", *["C–H"] * 5, "C–O", "O–H"]
    for (_, frames), (i, j) in zip(found, bonded_pairs(numbers, x), strict=True):
        lengths = np.linalg.norm(frames[:, i] - frames[:, j], axis=-1)
        assert lengths - lengths[0] == pytest.approx((0.0, *scan.STRETCHES))


def test_hydrogens_are_pushed_towards_a_second_partner(scripts: Any, ethanol: Any) -> None:
    scan, _ = scripts
    numbers, x = ethanol.numbers, ethanol.positions
    noise = np.random.default_rng(0).normal(0, 0.02, (5, *x.shape))
    found = scan.shared_hydrogens(numbers, x + noise)
    assert len(found) == 12  # six hydrogens, each with two heavy atoms that are not its own
    for frames in found:
        moved = np.flatnonzero(np.abs(frames - frames[0]).max((0, 2)))
        assert len(moved) == 1
        assert numbers[moved[0]] == 1
        scaled = np.linalg.norm(frames - frames[:, moved], axis=-1) / (
            covalent_radii[1] + covalent_radii[numbers]
        )
        partner = np.abs(scaled[1:] - np.array(scan.SHARES)[:, None]).max(0).argmin()
        assert numbers[partner] > 1
        assert scaled[1:, partner] == pytest.approx(scan.SHARES)


def test_coordinates_of_modes_do_not_see_where_the_molecule_is(scripts: Any, ethanol: Any) -> None:
    _, modes = scripts
    masses = atomic_masses[ethanol.numbers]
    x = ethanol.positions - (masses / masses.sum()) @ ethanol.positions
    vibration = np.random.default_rng(1).normal(size=x.shape)
    rigid = [np.tile(axis, (len(x), 1)) for axis in np.eye(3)]
    rigid += [np.cross(axis, x) for axis in np.eye(3)]
    basis = np.linalg.qr(
        np.stack([(np.sqrt(masses)[:, None] * v).ravel() for v in (*rigid, vibration)], axis=1)
    )[0]
    vectors = basis[:, 6:].reshape(*x.shape, 1)
    moved = x + 1e-5 * vectors[..., 0] / np.sqrt(masses)[:, None]
    turned = moved @ Rotation.from_rotvec([0.3, -1.0, 0.5]).as_matrix().T + 3.0
    for frame in (moved, turned):
        assert modes.coordinates(frame[None], x, vectors, masses) == pytest.approx(1e-5, rel=1e-3)


def test_errors_by_element_and_of_the_response(scripts: Any, ethanol: Any) -> None:
    """Those of a force field against itself, and of none against it."""
    import response

    model = load_potential("rmd17")
    numbers = ethanol.numbers
    x = ethanol.positions + np.random.default_rng(2).normal(0, 0.03, (4, 9, 3))
    types = torch.from_numpy(model.types_of(numbers)).expand(4, -1)
    atoms = torch.ones(types.shape, dtype=torch.bool)
    forces = model.potential.energy_and_forces(types, torch.from_numpy(x).float(), atoms)[1].numpy()

    class Isomer:
        def __len__(self) -> int:
            return len(x)

    isomer = Isomer()
    isomer.numbers, isomer.positions, isomer.forces = numbers, x, forces
    found = response.errors(model, isomer)
    assert found["ours shift"] == pytest.approx(0.0, abs=1e-9)
    assert max(found["ours"].values()) == pytest.approx(0.0, abs=1e-3)
    for z in (1, 6, 8):
        assert found["none"][z] == pytest.approx(np.mean(1e6 * forces[:, numbers == z] ** 2))
    push = np.tile(atomic_masses[numbers][:, None] * [0.0, 0.0, 0.01], (4, 1, 1))
    isomer.forces = push  # Newton: as far as it moves the whole, half of t² F/M
    moved = response.errors(model, isomer)["none shift"]
    far = 0.5 * response.TIME_FS**2 * 0.01 / response.AMU_A2_PER_FS2_IN_EV
    assert moved == pytest.approx(far**2 * len(numbers), rel=1e-4)


def test_moving_the_whole_is_soft_and_stretching_is_not(scripts: Any, ethanol: Any) -> None:
    import response

    frames = ethanol.positions[None]
    whole = np.ones_like(frames)
    bond = np.zeros_like(frames)
    oxygen = (ethanol.numbers == 8).argmax()
    hydrogen = ethanol.get_all_distances()[oxygen].argsort()[1]
    assert ethanol.numbers[hydrogen] == 1
    bond[0, hydrogen] = frames[0, hydrogen] - frames[0, oxygen]
    for apart, share in ((whole, 1.0), (bond, 0.0)):
        total, soft = response.soft_part(ethanol.numbers, frames, apart)
        weighted = (atomic_masses[ethanol.numbers][:, None] * apart[0] ** 2).sum()
        assert total == pytest.approx(weighted)
        assert soft / total == pytest.approx(share, abs=0.1)  # H alone turns the whole


def test_frames_are_picked_after_the_first_fifth(scripts: Any) -> None:
    _, modes = scripts
    frames = np.arange(600.0)[:, None, None, None] * np.ones((1, 2, 4, 3))
    picked = modes.picked(frames)
    assert picked.shape == (2 * modes.FRAMES, 4, 3)
    assert picked.min() == 120
    assert picked.max() == 599
