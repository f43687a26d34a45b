"""Stability: how long a trajectory keeps its molecule.

It lasts until any bond of the reference is off by more than 0.5 Å,

    max_{ab} |d_ab(t) − d̄_ab| > 0.5 Å

(Fu et al., TMLR 2023). The bonds are those of the start frame; d̄ is the mean length over reference
data, else the start frame's. Real frames of a drug-like molecule at 1200 K stay within 0.26 Å. A
frame that is not finite ends it as well, and so does a temperature outside [0.1, 1e5] K.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.bonds import bonded_pairs
from shared.units import FS_PER_PS

__all__ = [
    "THRESHOLD",
    "ReferenceBonds",
    "StabilityWatch",
    "bond_deviation",
    "reference_bonds",
    "stable_time",
]

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

THRESHOLD = 0.5  # Å
TEMPERATURE_RANGE = (0.1, 1e5)  # K


@dataclass(frozen=True, eq=False)
class ReferenceBonds:
    """Bonded pairs [B, 2] and the lengths d̄ [B], Å, that they are held against."""

    pairs: npt.NDArray[np.int64]
    lengths: Float


def reference_bonds(
    numbers: npt.ArrayLike, start: npt.ArrayLike, reference: npt.ArrayLike | None = None
) -> ReferenceBonds:
    """The bonds of a start frame.

    Args:
        numbers: atomic numbers [N].
        start: [N, 3], Å; pairs within 1.2 times the sum of covalent radii are bonded.
        reference: [T, N, 3], Å, frames to average the lengths over; None: the start frame's.
    """
    pairs = bonded_pairs(numbers, start)
    frames = np.asarray(start)[None] if reference is None else np.asarray(reference)
    return ReferenceBonds(pairs, _lengths(frames, pairs).mean(axis=0))


def bond_deviation(positions: npt.ArrayLike, bonds: ReferenceBonds) -> Float:
    """max_{ab} |d_ab − d̄_ab| of each frame.

    Args:
        positions: [..., N, 3], Å.

    Returns:
        [...], Å; 0 for a molecule without bonds, NaN where positions are.
    """
    deviations = np.abs(_lengths(np.asarray(positions), bonds.pairs) - bonds.lengths)
    return np.asarray(deviations.max(axis=-1, initial=0.0))


def stable_time(
    positions: npt.ArrayLike,
    times_fs: npt.ArrayLike,
    bonds: ReferenceBonds,
    threshold: float = THRESHOLD,
) -> Float:
    """Time of the first frame with a broken bond, capped at the last frame's.

    Args:
        positions: [..., T, N, 3], Å.
        times_fs: [T], since the start.
        bonds: the reference.
        threshold: Å.

    Returns:
        [...], ps.
    """
    broken = ~(bond_deviation(positions, bonds) <= threshold)
    times = np.asarray(times_fs, dtype=np.float64) / FS_PER_PS
    return np.asarray(np.where(broken.any(axis=-1), times[broken.argmax(axis=-1)], times[-1]))


class StabilityWatch:
    """The same rule on a stream of frames of R replicas; a replica that broke stays broken.

    Args:
        bonds: the reference.
        n_replicas: R.
        threshold: Å.

    Attributes:
        alive: [R], the replicas that are whole.
    """

    def __init__(
        self, bonds: ReferenceBonds, n_replicas: int, threshold: float = THRESHOLD
    ) -> None:
        self._bonds, self._threshold = bonds, threshold
        self.alive: Bool = np.ones(n_replicas, dtype=np.bool_)

    def update(self, positions: npt.ArrayLike, temperature_K: Float | None = None) -> Bool:
        """Look at the next frame.

        Args:
            positions: [R, N, 3], Å; may be NaN.
            temperature_K: kinetic temperatures [R], if they are to be watched too.

        Returns:
            ``alive`` [R] after this frame.
        """
        whole = bond_deviation(positions, self._bonds) <= self._threshold
        if temperature_K is not None:
            coldest, hottest = TEMPERATURE_RANGE
            whole &= (temperature_K >= coldest) & (temperature_K <= hottest)
        self.alive = self.alive & whole
        return self.alive


def _lengths(positions: npt.NDArray[np.floating], pairs: npt.NDArray[np.int64]) -> Float:
    bonds = positions[..., pairs[:, 0], :] - positions[..., pairs[:, 1], :]
    return np.asarray(np.linalg.norm(bonds.astype(np.float64), axis=-1))
