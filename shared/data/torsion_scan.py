"""Torsion scans: a structure turned about its rotatable bonds, one after the other, all else rigid.

A rotatable bond is single, in no ring, between heavy atoms that each have another heavy neighbour,
off its axis.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.bonds import bonded_pairs
from shared.errors import InputError

__all__ = ["SCAN", "SCAN_LABEL", "Torsion", "rotatable_bonds", "torsion_scan", "torsion_scans"]

Float = npt.NDArray[np.float64]

SCAN = "torsion-scan"
"""The name of starts from torsion scans."""
SCAN_LABEL = "torsion scans built from a training frame"
"""What they are, for tables."""

SINGLE = 0.9  # of the sum of covalent radii: double bonds are shorter
OFF_AXIS = 0.3  # Å, of a neighbour: less is as good as in line with the bond
CLOSEST = 0.7  # of the sum of van der Waals radii; 3BPA at 300 K comes as near as 0.72
ANGLES_DEG = tuple(range(-180, 180, 30))


@dataclass(frozen=True, eq=False)
class Torsion:
    """A rotatable bond.

    Attributes:
        atoms: a-b-c-d, heavy atoms; b-c is the bond.
        moves: [N], those on the side of c.
    """

    atoms: tuple[int, int, int, int]
    moves: npt.NDArray[np.bool_]


def rotatable_bonds(numbers: npt.ArrayLike, positions: npt.ArrayLike) -> list[Torsion]:
    """The rotatable bonds of a structure, from its bond graph.

    Args:
        numbers: atomic numbers [N].
        positions: [N, 3], Å; bonds as in `shared.bonds`, single where they are longer than `SINGLE`
            times the sum of the covalent radii.
    """
    from ase.data import covalent_radii
    from scipy.sparse.csgraph import connected_components

    numbers, positions = np.asarray(numbers), np.asarray(positions, dtype=np.float64)
    heavy = numbers > 1
    pairs = bonded_pairs(numbers, positions)
    bonded = np.zeros((len(numbers), len(numbers)), dtype=bool)
    bonded[tuple(pairs.T)] = bonded[tuple(pairs.T[::-1])] = True
    found = []
    for b, c in pairs.tolist():
        without = bonded.copy()
        without[b, c] = without[c, b] = False
        axis = positions[c] - positions[b]
        length = np.linalg.norm(axis)
        off = np.linalg.norm(np.cross(positions - positions[b], axis), axis=1) > OFF_AXIS * length
        before, after = (np.flatnonzero(without[end] & heavy & off) for end in (b, c))
        single = length > SINGLE * (covalent_radii[numbers[b]] + covalent_radii[numbers[c]])
        _, piece = connected_components(without, directed=False)
        turns = single and piece[b] != piece[c]
        if heavy[b] and heavy[c] and len(before) and len(after) and turns:
            found.append(Torsion((int(before[0]), b, c, int(after[0])), piece == piece[c]))
    return found


def torsion_scan(
    numbers: npt.ArrayLike,
    positions: npt.ArrayLike,
    torsion: Torsion,
    angles_deg: Sequence[float] = ANGLES_DEG,
    closest: float = CLOSEST,
) -> Float:
    """A structure with a torsion at each of some angles.

    Args:
        numbers: atomic numbers [N].
        positions: [N, 3], Å.
        torsion: one of `rotatable_bonds`.
        angles_deg: of a-b-c-d, degrees.
        closest: structures are left out where two atoms that move against each other come closer
            than so many times the sum of their van der Waals radii (Alvarez, Dalton Trans. 2013).

    Returns:
        [K, N, 3], Å; K is at most the number of angles.
    """
    from ase import Atoms
    from ase.data.vdw_alvarez import vdw_radii

    radii = vdw_radii[np.asarray(numbers)]
    on_axis = np.isin(np.arange(len(radii)), torsion.atoms[1:3])
    here, there = (np.flatnonzero(side & ~on_axis) for side in (~torsion.moves, torsion.moves))
    least = closest * (radii[here, None] + radii[there])
    structures = []
    for angle in angles_deg:
        atoms = Atoms(numbers, positions)
        atoms.set_dihedral(*torsion.atoms, angle, mask=torsion.moves)
        x = atoms.positions
        if not (np.linalg.norm(x[here, None] - x[there], axis=-1) < least).any():
            structures.append(x)
    return np.array(structures).reshape(-1, len(radii), 3)


def torsion_scans(numbers: npt.ArrayLike, positions: npt.ArrayLike) -> Float:
    """The scans of all rotatable bonds of a structure [N, 3], Å, one after the other [K, N, 3].

    Raises:
        InputError: it has no rotatable bond.
    """
    torsions = rotatable_bonds(numbers, positions)
    if not torsions:
        raise InputError("the molecule has no rotatable bond to scan")
    return np.concatenate([torsion_scan(numbers, positions, torsion) for torsion in torsions])
