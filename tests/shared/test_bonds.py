"""Bonds from covalent radii."""

import numpy as np
import pytest
from ase.build import molecule
from ase.neighborlist import natural_cutoffs, neighbor_list

from shared.bonds import bonded_pairs


@pytest.mark.parametrize("name", ["CH3CH2OH", "C6H6", "CH3CONH2", "SiH4", "CH3Cl"])
@pytest.mark.parametrize("mult", [1.0, 1.2])
def test_agrees_with_ase(name: str, mult: float) -> None:
    atoms = molecule(name)
    i, j = neighbor_list("ij", atoms, natural_cutoffs(atoms, mult=mult))
    expected = sorted((int(a), int(b)) for a, b in zip(i, j, strict=True) if a < b)
    assert bonded_pairs(atoms.numbers, atoms.positions, mult).tolist() == [
        list(p) for p in expected
    ]


def test_ethanol_has_eight_bonds() -> None:
    atoms = molecule("CH3CH2OH")
    bonds = bonded_pairs(atoms.numbers, atoms.positions)
    assert bonds.shape == (8, 2)
    assert bonds.dtype == np.int64
    assert (bonds[:, 0] < bonds[:, 1]).all()


def test_no_bonds() -> None:
    assert bonded_pairs([18, 18], [[0.0, 0.0, 0.0], [0.0, 0.0, 5.0]]).shape == (0, 2)
    assert bonded_pairs([18], [[0.0, 0.0, 0.0]]).shape == (0, 2)
