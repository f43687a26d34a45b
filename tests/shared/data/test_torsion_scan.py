"""Torsion scans of small molecules, built here atom by atom or by ASE."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from shared.bonds import bonded_pairs
from shared.data.torsion_scan import Torsion, rotatable_bonds, torsion_scan, torsion_scans
from shared.errors import InputError


@pytest.fixture(scope="module")
def butane() -> Atoms:
    return molecule("trans-butane")


def heavy(atoms: Atoms) -> list[int]:
    return np.flatnonzero(atoms.numbers > 1).tolist()


def only(torsions: list[Torsion]) -> Torsion:
    (torsion,) = torsions
    return torsion


def test_the_rotatable_bond_of_butane(butane: Atoms) -> None:
    torsion = only(rotatable_bonds(butane.numbers, butane.positions))
    assert sorted(torsion.atoms) == heavy(butane)
    assert torsion.moves.sum() == 7  # C2H5
    assert torsion.moves[list(torsion.atoms)].tolist() == [False, False, True, True]


@pytest.mark.parametrize("name", ["CH3CH2OH", "C6H6", "C2H6CHOH", "NCCN", "2-butyne", "CH4"])
def test_ends_rings_and_lines_do_not_turn(name: str) -> None:
    atoms = molecule(name)
    assert rotatable_bonds(atoms.numbers, atoms.positions) == []


def test_a_double_bond_does_not_turn(butane: Atoms) -> None:
    b, c = only(rotatable_bonds(butane.numbers, butane.positions)).atoms[1:3]
    shorter = butane.copy()
    shorter.set_distance(b, c, 1.34)
    assert rotatable_bonds(shorter.numbers, shorter.positions) == []


def test_angles_are_as_asked_and_all_else_is_rigid(butane: Atoms) -> None:
    torsion = only(rotatable_bonds(butane.numbers, butane.positions))
    angles = [60.0, 120.0, 180.0, -60.0]
    scan = torsion_scan(butane.numbers, butane.positions, torsion, angles)
    found = [Atoms(butane.numbers, x).get_dihedral(*torsion.atoms) for x in scan]
    assert found == pytest.approx([60.0, 120.0, 180.0, 300.0])
    before = butane.get_all_distances()
    for x in scan:
        after = Atoms(butane.numbers, x).get_all_distances()
        for side in (torsion.moves, ~torsion.moves):
            assert np.allclose(after[side][:, side], before[side][:, side], atol=1e-12)
        assert np.array_equal(
            bonded_pairs(butane.numbers, x), bonded_pairs(butane.numbers, butane.positions)
        )
    assert np.allclose(scan[2], butane.positions, atol=1e-9)  # trans, as it was
    assert np.allclose(scan[:, ~torsion.moves], butane.positions[~torsion.moves])


def test_clashes_are_left_out(butane: Atoms) -> None:
    torsion = only(rotatable_bonds(butane.numbers, butane.positions))
    asked = {"angles_deg": [0.0, 180.0], "closest": 0.8}
    left = torsion_scan(butane.numbers, butane.positions, torsion, **asked)
    assert np.allclose(left, butane.positions[None], atol=1e-9)  # cis: C 2.7 Å from C
    none = torsion_scan(butane.numbers, butane.positions, torsion, [0.0], closest=5.0)
    assert none.shape == (0, len(butane), 3)


def test_a_molecule_without_a_rotatable_bond() -> None:
    water = molecule("H2O")
    with pytest.raises(InputError, match="no rotatable bond"):
        torsion_scans(water.numbers, water.positions)


@pytest.mark.data
def test_3bpa_has_the_three_of_its_data_set() -> None:
    from shared.data.three_bpa import load_3bpa
    from shared.evaluation.systems import three_bpa_starts

    frames = load_3bpa("train_300K")
    torsions = rotatable_bonds(frames.numbers, frames.positions[0])
    assert [[frames.numbers[a] for a in t.atoms] for t in torsions] == [
        [6, 6, 8, 6],
        [6, 8, 6, 6],
        [8, 6, 6, 6],
    ]
    starts = three_bpa_starts("torsion-scan")
    assert len(starts.positions) >= 8
    assert starts.system.temperature_K == 300.0
    assert "torsion scans built from a training frame" in starts.system.data
