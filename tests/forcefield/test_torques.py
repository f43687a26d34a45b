"""Torques about bonds: which bonds, and the force along a rotation by finite differences."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.data import atomic_masses
from ase.io import read

from forcefield.torques import torque_weights, turning_sides

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def sides(atoms: Atoms) -> list[tuple[str, str]]:
    """Formulas of what turns, and the symbols of the bond."""
    found = turning_sides(atoms.numbers, atoms.positions[None])
    symbols = np.array(atoms.symbols)
    return sorted(("".join(sorted(symbols[side])), symbols[b] + symbols[c]) for b, c, side in found)


def test_which_bonds_turn() -> None:
    """Neither rings nor double bonds nor ends of chains; the lighter side turns."""
    ethanol = read(EXAMPLES / "ethanol.xyz", index=0)
    assert sides(ethanol) == [("H", "CO"), ("HHH", "CC")]
    assert sides(molecule("C2H4")) == []
    assert sides(molecule("C6H6")) == []
    assert sides(molecule("H2O")) == []
    assert sides(read(EXAMPLES / "toluene.xyz", index=0)) == [("HHH", "CC")]
    assert len(sides(read(EXAMPLES / "aspirin.xyz", index=0))) == 5


def test_weights_are_unit_rotations_of_mass_weighted_coordinates() -> None:
    """Σ m |g|² is 1, as of the derivative of √m x by √I φ; what does not turn has none."""
    atoms = read(EXAMPLES / "ethanol.xyz", index=0)
    masses = atomic_masses[atoms.numbers]
    x = atoms.positions + np.random.default_rng(0).normal(0, 0.05, (4, len(atoms), 3))
    weights = torque_weights(atoms.numbers, x)
    assert weights.shape == (4, len(atoms), 2, 3)
    assert (masses[:, None, None] * weights**2).sum((1, 3)) == pytest.approx(1.0)
    step = 1e-5
    for r, (b, c, side) in enumerate(turning_sides(atoms.numbers, x)):
        assert not weights[:, np.setdiff1d(np.arange(len(atoms)), side), r].any()
        for frame, g in zip(x, weights[:, :, r], strict=True):
            turned = Atoms(atoms.numbers, frame)
            axis = frame[c] - frame[b]
            part = turned[side]
            part.rotate(np.degrees(step), axis, center=frame[c])
            moved = (part.positions - frame[side]) / step
            inertia = (masses[side, None] * moved**2).sum()
            assert g[side] == pytest.approx(moved / np.sqrt(inertia), abs=1e-4)


def test_what_turns_on_the_axis_has_no_weight() -> None:
    """The single bond of H–C≡C–C≡C–H: what turns is on it, no 0/0."""
    z = [-3.1, -1.9, -0.69, 0.69, 1.9, 3.1]
    atoms = Atoms("HC4H", [[0.0, 0.0, x] for x in z])
    weights = torque_weights(atoms.numbers, atoms.positions[None])
    assert weights.shape == (1, 6, 1, 3)
    assert not weights.any()
