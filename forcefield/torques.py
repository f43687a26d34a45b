"""Torques about rotatable bonds, as linear functions of the forces.

Methyl groups, hydroxyl groups and chains turn about single bonds against a slope of a few
hundredths of an eV/Å, which is less than the errors of forces along bonds. But those average out
as bonds vibrate, while a wrong torque keeps on turning: how far dynamics follow a reference is
decided here. In mass-weighted coordinates the torque about a bond b-c is

    τ = Σ_k F_k · g_k,   g_k = n × (x_k − x_c) / √I,   I = Σ_k m_k |n × (x_k − x_c)|²,

n the direction of the bond and k the atoms on the side of c, the lighter one: the force along the
rotation, a unit vector of √m x.
"""

import numpy as np
import numpy.typing as npt

__all__ = ["torque_weights", "turning_sides"]

Float = npt.NDArray[np.float64]

SINGLE = 0.9  # of the sum of covalent radii: double bonds are shorter
BONDED = 1.2  # of the same: no bond is longer
_FRAMES = 50  # that bond lengths are averaged over


def turning_sides(
    numbers: npt.ArrayLike, positions: npt.ArrayLike
) -> list[tuple[int, int, npt.NDArray[np.intp]]]:
    """Single bonds in no ring whose two ends have other neighbours.

    Args:
        numbers: atomic numbers [N].
        positions: frames [T, N, 3], Å: bonds are those of the mean distances.

    Returns:
        (b, c, atoms on the side of c without c itself), that side the lighter one.
    """
    from ase.data import atomic_masses, covalent_radii
    from scipy.sparse.csgraph import connected_components

    numbers = np.asarray(numbers)
    x = np.asarray(positions, dtype=np.float64)
    x = x[:: max(1, len(x) // _FRAMES)]
    distances = np.linalg.norm(x[:, :, None] - x[:, None], axis=-1).mean(0)
    radii = covalent_radii[numbers]
    scaled = distances / (radii[:, None] + radii)
    bonded = (scaled < BONDED) & ~np.eye(len(numbers), dtype=bool)
    found = []
    for b, c in np.argwhere(np.triu(bonded & (scaled > SINGLE))).tolist():
        without = bonded.copy()
        without[b, c] = without[c, b] = False
        _, piece = connected_components(without, directed=False)
        sides = [
            np.flatnonzero((piece == piece[end]) & (piece != piece[other]))
            for end, other in ((b, c), (c, b))
        ]
        if min(len(side) for side in sides) < 2:
            continue  # a ring, or nothing to turn
        if atomic_masses[numbers[sides[0]]].sum() < atomic_masses[numbers[sides[1]]].sum():
            b, c, sides = c, b, sides[::-1]
        found.append((b, c, sides[1][sides[1] != c]))
    return found


def torque_weights(numbers: npt.ArrayLike, positions: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """g of the module docstring for every frame.

    Args:
        numbers: atomic numbers [N].
        positions: frames [T, N, 3], Å.

    Returns:
        [T, N, R, 3], 1/√amu; R rotatable bonds. 0 where all that turns is on
        the axis.
    """
    from ase.data import atomic_masses

    x = np.asarray(positions, dtype=np.float64)
    masses = atomic_masses[np.asarray(numbers)]
    sides = turning_sides(numbers, x)
    weights = np.zeros((*x.shape[:2], len(sides), 3), dtype=np.float32)
    for r, (b, c, atoms) in enumerate(sides):
        axis = x[:, c] - x[:, b]
        axis /= np.linalg.norm(axis, axis=-1, keepdims=True)
        turned = np.cross(axis[:, None], x[:, atoms] - x[:, [c]])  # [T, K, 3]
        inertia = (masses[atoms, None] * turned**2).sum((1, 2))
        weights[:, atoms, r] = turned / np.sqrt(np.maximum(inertia, 1e-3))[:, None, None]
    return weights
