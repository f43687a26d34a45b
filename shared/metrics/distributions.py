"""Does a trajectory sample what the reference samples: geometry, distances, spectrum, torsions?

Every comparison is between windows: pieces of the generated trajectory as long and as finely spaced
as the blocks that the reference is cut into (``cut_windows``), because a histogram of a short piece
differs from that of a long one even under the same dynamics. Each window is compared with each
block and the mean is taken; the *static oracle* is the mean over pairs of blocks of the reference
itself (``mean_distance``, ``static_oracle``). A model is judged by its ratio to that.

- Bonds, angles, torsions: histograms of 100 bins, on the mean ± 0.4 Å of the reference for bonds,
  0-180° for angles, −180-180° for torsions; pooled over the coordinates of one type (the chemical
  elements along it); Jensen-Shannon divergence in bits, averaged over the types. Lengths outside
  the range count in its outermost bin.
- h(r) (Fu et al., TMLR 2023): density of all pair distances, 500 bins on 0-10 Å. Its distance is
  10 Å · mean |Δh|, the integral of |Δh| over r.
- Vibrational density of states: mass-weighted power spectrum of the velocities up to the Nyquist
  frequency of the frames, normalised to sum 1; L1 distance, Σ |Δ|, from 0 to 2.
- Torsion time: when C(τ) = ⟨cos(φ(t + τ) − φ(t))⟩ of a torsion first falls to 1/e.

Units: Å, degrees, fs, 1/cm. W windows, T frames, N atoms; any leading axes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.units import wavenumber_to_angular_frequency

__all__ = [
    "GeometryBins",
    "InternalCoordinates",
    "bond_angles",
    "bond_lengths",
    "central_velocities",
    "cut_windows",
    "decay_time",
    "internal_coordinates",
    "jensen_shannon",
    "l1_distance",
    "mean_distance",
    "pair_distance_density",
    "pair_distance_distance",
    "static_oracle",
    "torsion_angles",
    "torsion_correlation",
    "vibrational_density",
]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

BINS = 100
BOND_HALF_WIDTH = 0.4  # Å
PAIR_BINS, PAIR_RANGE = 500, 10.0  # Å
SEGMENT_FS = 1000.0  # spectra are averaged over segments of this length: 33/cm resolution


# --- windows and their comparison ---------------------------------------------------------------


def cut_windows(frames: npt.NDArray[Any], n_frames: int, stride: int = 1) -> npt.NDArray[Any]:
    """Consecutive windows of a series, each of ``n_frames`` frames that are ``stride`` apart.

    md17s, frames 0.5 fs apart, blocks of 5 ps, seen at 10 fs: ``cut_windows(frames, 500, 20)``.
    What is left at the end is not used.

    Args:
        frames: [T, ...].

    Returns:
        [W, n_frames, ...], a view where the stride allows it.
    """
    count = len(frames) // (n_frames * stride)
    cut = frames[: count * n_frames * stride : stride]
    return cut.reshape(count, n_frames, *frames.shape[1:])


def mean_distance(
    windows: Float, blocks: Float, distance: Callable[[Float, Float], Float]
) -> float:
    """Mean of ``distance`` of each window to each block.

    Args:
        windows: [W, ...], a histogram or spectrum per window.
        blocks: [B, ...], of the reference.
        distance: works on broadcast arrays and gives [W, B].
    """
    return float(np.mean(distance(windows[:, None], blocks[None])))


def static_oracle(blocks: Float, distance: Callable[[Float, Float], Float]) -> float:
    """Mean of ``distance`` over the pairs of different blocks [B, ...] of the reference."""
    first, second = np.triu_indices(len(blocks), k=1)
    return float(np.mean(distance(blocks[first], blocks[second])))


def jensen_shannon(p: Float, q: Float) -> Float:
    """Jensen-Shannon divergence in bits (not its root), averaged over types.

    JSD = ½ Σ p log₂(p/m) + ½ Σ q log₂(q/m), m = (p + q)/2.

    Args:
        p, q: [..., types, bins], each histogram normalised to sum 1.

    Returns:
        [...], from 0 to 1; NaN without types.
    """
    mixture = 0.5 * (p + q)

    def divergence(of: Float) -> Float:
        ratio = np.divide(of, mixture, out=np.ones_like(mixture), where=of > 0)
        return np.asarray(np.sum(of * np.log2(ratio), axis=-1))

    per_type = 0.5 * (divergence(p) + divergence(q))
    if per_type.shape[-1] == 0:
        return np.full(per_type.shape[:-1], np.nan)
    return np.asarray(per_type.mean(axis=-1))


def l1_distance(p: Float, q: Float) -> Float:
    """Σ |p − q| over the last axis."""
    return np.asarray(np.abs(p - q).sum(axis=-1))


# --- bonds, angles, torsions --------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class InternalCoordinates:
    """All bonds [B, 2], angles [A, 3] and proper torsions [D, 4] of a bond graph."""

    bonds: Int
    angles: Int
    torsions: Int


def internal_coordinates(bonds: npt.ArrayLike) -> InternalCoordinates:
    """Every angle i-j-k and torsion i-j-k-l along bonds, each in one direction only.

    Args:
        bonds: [B, 2], atom indices.
    """
    bonds = np.asarray(bonds, dtype=np.int64).reshape(-1, 2)
    neighbours: dict[int, list[int]] = {}
    for a, b in bonds.tolist():
        neighbours.setdefault(a, []).append(b)
        neighbours.setdefault(b, []).append(a)
    angles = [
        (i, j, k) for j in sorted(neighbours) for i in neighbours[j] for k in neighbours[j] if i < k
    ]
    torsions = [
        (i, j, k, end)
        for j, k in bonds.tolist()
        for i in neighbours[j]
        for end in neighbours[k]
        if i != k and end != j and i != end
    ]
    return InternalCoordinates(
        bonds,
        np.array(angles, dtype=np.int64).reshape(-1, 3),
        np.array(torsions, dtype=np.int64).reshape(-1, 4),
    )


def bond_lengths(positions: npt.ArrayLike, bonds: Int) -> Float:
    """Lengths [..., B] in Å of positions [..., N, 3]."""
    (bond,) = _steps(positions, bonds)
    return np.asarray(np.linalg.norm(bond, axis=-1))


def bond_angles(positions: npt.ArrayLike, angles: Int) -> Float:
    """Angles [..., A] at the middle atom, in degrees, 0 to 180."""
    first, second = _steps(positions, angles)
    sine = np.linalg.norm(np.cross(first, second), axis=-1)
    return np.asarray(np.degrees(np.arctan2(sine, -np.sum(first * second, axis=-1))))


def torsion_angles(positions: npt.ArrayLike, torsions: Int) -> Float:
    """Dihedral angles [..., D] in degrees, −180 to 180, 180 for trans (IUPAC sign)."""
    b1, b2, b3 = _steps(positions, torsions)
    n1, n2 = np.cross(b1, b2), np.cross(b2, b3)
    sine = np.linalg.norm(b2, axis=-1) * np.sum(b1 * n2, axis=-1)
    return np.asarray(np.degrees(np.arctan2(sine, np.sum(n1 * n2, axis=-1))))


@dataclass(frozen=True, eq=False)
class GeometryBins:
    """The histograms of a molecule's geometry, with ranges fixed by the reference.

    Attributes:
        coordinates: what is measured.
        types: kind ("bond", "angle", "torsion") -> type index of each of its coordinates.
        bond_centres: middle of the range of each bond type, Å.
    """

    coordinates: InternalCoordinates
    types: dict[str, Int]
    bond_centres: Float

    @classmethod
    def of_reference(
        cls, numbers: npt.ArrayLike, bonds: npt.ArrayLike, reference: npt.ArrayLike
    ) -> "GeometryBins":
        """Bins for a molecule.

        Args:
            numbers: atomic numbers [N].
            bonds: [B, 2].
            reference: [..., N, 3], Å: its mean bond lengths centre the ranges.
        """
        numbers = np.asarray(numbers, dtype=np.int64)
        coordinates = internal_coordinates(bonds)
        lengths = bond_lengths(reference, coordinates.bonds)
        mean = lengths.reshape(-1, lengths.shape[-1]).mean(axis=0)
        types = {
            "bond": _types(numbers[coordinates.bonds]),
            "angle": _types(numbers[coordinates.angles]),
            "torsion": _types(numbers[coordinates.torsions]),
        }
        per_type = np.bincount(types["bond"])
        return cls(coordinates, types, np.bincount(types["bond"], weights=mean) / per_type)

    def histograms(self, positions: npt.ArrayLike) -> dict[str, Float]:
        """Histograms of windows.

        Args:
            positions: [W, T, N, 3], Å.

        Returns:
            kind -> [W, types, 100], each histogram normalised to sum 1.
        """
        measured = {
            "bond": bond_lengths(positions, self.coordinates.bonds)
            - self.bond_centres[self.types["bond"]],
            "angle": bond_angles(positions, self.coordinates.angles),
            "torsion": torsion_angles(positions, self.coordinates.torsions),
        }
        ranges = {
            "bond": (-BOND_HALF_WIDTH, BOND_HALF_WIDTH),
            "angle": (0.0, 180.0),
            "torsion": (-180.0, 180.0),
        }
        return {
            kind: _pooled_histograms(values, self.types[kind], *ranges[kind])
            for kind, values in measured.items()
        }


def _steps(positions: npt.ArrayLike, paths: Int) -> list[Float]:
    """Vectors from each atom of the paths [P, n] to the next, n − 1 arrays [..., P, 3]."""
    corners = np.asarray(positions, dtype=np.float64)[..., paths, :]
    return [corners[..., at + 1, :] - corners[..., at, :] for at in range(paths.shape[1] - 1)]


def _types(elements: Int) -> Int:
    """Index of the type of each path of elements [P, n]; a path and its reverse are one type."""
    named = [min(tuple(path), tuple(path[::-1])) for path in elements.tolist()]
    order = {name: index for index, name in enumerate(sorted(set(named)))}
    return np.array([order[name] for name in named], dtype=np.int64)


def _pooled_histograms(values: Float, types: Int, low: float, high: float) -> Float:
    """Values [W, T, P] to histograms [W, types, BINS], pooled over frames and paths of a type."""
    n_windows, n_types = len(values), int(types.max(initial=-1)) + 1
    bins = np.clip((values - low) * (BINS / (high - low)), 0, BINS - 1).astype(np.int64)
    cell = (np.arange(n_windows)[:, None, None] * n_types + types) * BINS + bins
    counts = np.bincount(cell.ravel(), minlength=n_windows * n_types * BINS)
    counts = counts.reshape(n_windows, n_types, BINS).astype(np.float64)
    return np.asarray(counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1))


# --- pair distances -----------------------------------------------------------------------------


def pair_distance_density(positions: npt.ArrayLike) -> Float:
    """h(r), the density of the distances of all pairs of atoms.

    Args:
        positions: [W, T, N, 3], Å.

    Returns:
        [W, 500], 1/Å, on 0-10 Å; integrates to the share of pairs within 10 Å.
    """
    positions = np.asarray(positions, dtype=np.float64)
    first, second = np.triu_indices(positions.shape[-2], k=1)
    width = PAIR_RANGE / PAIR_BINS
    densities = np.empty((len(positions), PAIR_BINS))
    for window, density in zip(positions, densities, strict=True):
        distances = np.linalg.norm(window[:, first] - window[:, second], axis=-1).ravel()
        counts, _ = np.histogram(distances, bins=PAIR_BINS, range=(0.0, PAIR_RANGE))
        density[:] = counts / (distances.size * width)
    return densities


def pair_distance_distance(h1: Float, h2: Float) -> Float:
    """10 Å · mean |Δh| of densities [..., 500]."""
    return np.asarray(PAIR_RANGE * np.abs(h1 - h2).mean(axis=-1))


# --- spectrum -----------------------------------------------------------------------------------


def central_velocities(positions: npt.ArrayLike, interval_fs: float) -> Float:
    """Velocities of the inner frames, (x_{t+1} − x_{t−1})/2δ: velocity Verlet's own, for analysis.

    (Never as a model's input: it contains the next frame.)

    Args:
        positions: [..., T, N, 3], Å.

    Returns:
        [..., T − 2, N, 3], Å/fs.
    """
    positions = np.asarray(positions, dtype=np.float64)
    ahead, behind = positions[..., 2:, :, :], positions[..., :-2, :, :]
    return np.asarray((ahead - behind) / (2 * interval_fs))


def vibrational_density(
    velocities: npt.ArrayLike, masses: Float, interval_fs: float
) -> tuple[Float, Float]:
    """Vibrational density of states, Σ_i m_i |v̂_i(ν)|², normalised to sum 1.

    Welch's estimate: Hann-windowed segments of 1 ps that overlap by half, averaged. Vibrations
    faster than the Nyquist frequency of the frames appear folded back, in the reference as well:
    compare at one spacing.

    Args:
        velocities: [..., T, N, 3], Å/fs.
        masses: [N], amu.
        interval_fs: time between frames.

    Returns:
        wavenumbers [F], 1/cm, and density [..., F].
    """
    velocities = np.asarray(velocities, dtype=np.float64)
    n_frames = velocities.shape[-3]
    length = min(n_frames, round(SEGMENT_FS / interval_fs))
    taper = np.hanning(length + 1)[:length, None, None]
    starts = range(0, n_frames - length + 1, max(1, length // 2))
    power = sum(
        np.einsum(
            "...fnk,n->...f",
            np.abs(np.fft.rfft(velocities[..., at : at + length, :, :] * taper, axis=-3)) ** 2,
            masses,
        )
        for at in starts
    )
    density = np.asarray(power)
    angular = 2 * np.pi * np.fft.rfftfreq(length, interval_fs)
    return (
        np.asarray(angular / wavenumber_to_angular_frequency(1.0)),
        density / density.sum(axis=-1, keepdims=True),
    )


# --- torsion dynamics ---------------------------------------------------------------------------


def torsion_correlation(angles_deg: npt.ArrayLike) -> Float:
    """C(τ) = ⟨cos(φ(t + τ) − φ(t))⟩_t for lags up to half the series.

    Args:
        angles_deg: [..., T, D], degrees.

    Returns:
        [..., T // 2, D]; C(0) = 1.
    """
    phase = np.exp(1j * np.radians(np.asarray(angles_deg, dtype=np.float64)))
    n_frames = phase.shape[-2]
    spectrum = np.fft.fft(phase, n=2 * n_frames, axis=-2)
    sums = np.fft.ifft(np.abs(spectrum) ** 2, axis=-2).real[..., : n_frames // 2, :]
    return np.asarray(sums / (n_frames - np.arange(n_frames // 2))[:, None])


def decay_time(correlation: Float, interval_fs: float) -> Float:
    """When each correlation first falls to 1/e, linearly interpolated.

    Args:
        correlation: [..., L, D], starting at lag 0; average over windows first.
        interval_fs: time between lags.

    Returns:
        [..., D], fs; inf where it does not fall that far.
    """
    below = correlation <= np.exp(-1.0)
    reached = below.any(axis=-2)
    after = np.maximum(below.argmax(axis=-2), 1)[..., None, :]
    c0 = np.take_along_axis(correlation, after - 1, axis=-2)
    c1 = np.take_along_axis(correlation, after, axis=-2)
    drop = np.where(reached[..., None, :], c0 - c1, 1.0)
    lag = after - 1 + (c0 - np.exp(-1.0)) / drop
    return np.where(reached, lag[..., 0, :] * interval_fs, np.inf)
