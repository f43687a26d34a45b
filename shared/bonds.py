"""Which atoms of a structure are bonded: a sum of covalent radii, stretched a little."""

import numpy as np
import numpy.typing as npt

__all__ = ["bonded_pairs", "covalent_lengths"]


def bonded_pairs(
    numbers: npt.ArrayLike, positions: npt.ArrayLike, mult: float = 1.2
) -> npt.NDArray[np.int64]:
    """Pairs closer than ``mult`` times the sum of their covalent radii.

    The radii are those of ASE's ``natural_cutoffs`` (Cordero et al., Dalton Trans. 2008, 2832);
    its default, ``mult`` = 1.0, misses most bonds of a vibrating molecule.

    Args:
        numbers: atomic numbers [N].
        positions: [N, 3], Å.
        mult: factor on the radii.

    Returns:
        [B, 2] int64, i < j in each row, rows sorted.
    """
    bonded = np.triu(covalent_lengths(numbers, positions) < mult, k=1)
    return np.argwhere(bonded).astype(np.int64)


def covalent_lengths(numbers: npt.ArrayLike, positions: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Distances in sums of covalent radii (Cordero et al., as above).

    Args:
        numbers: atomic numbers [N].
        positions: [..., N, 3], Å.

    Returns:
        [..., N, N].
    """
    from ase.data import covalent_radii

    radii = np.asarray(covalent_radii, dtype=np.float64)[np.asarray(numbers)]
    x = np.asarray(positions, dtype=np.float64)
    distances = np.linalg.norm(x[..., :, None, :] - x[..., None, :, :], axis=-1)
    return np.asarray(distances / (radii[:, None] + radii))
