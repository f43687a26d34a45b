"""Errors of predicted trajectories: ARMSE, RMSE at a frame, ADE and FDE, and what they must beat.

ARMSE is the metric of DiffMD (Wu and Li, AAAI 2023),

    ARMSE(n) = ( 1/(nN) Σ_{t≤n} Σ_i ‖x̂_i(t) − x_i(t)‖² )^½ ,

in Å per atom, cumulative over the frames up to n. RMSE@n has frame n alone and is what ratios to
persistence use. Both start from the same array, ``squared_errors``, and pool the starts inside the
root. Three alignments: ``raw``; ``com``, centres of mass removed; ``aligned``, each predicted frame
superposed on the reference by the shift and proper rotation that make its error least (Kabsch,
Acta Cryst. A32, 922 (1976)), so never above the other two.

Shapes: S starts, K samples of an ensemble, T frames, N atoms.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = [
    "Alignment",
    "armse",
    "bootstrap_interval",
    "displacement_errors",
    "ensemble_errors",
    "inertia",
    "mean_structure",
    "persistence",
    "rmse_at",
    "squared_errors",
    "superpose",
]

Float = npt.NDArray[np.float64]
Alignment = Literal["raw", "com", "aligned"]


def centre(positions: npt.ArrayLike, masses: Float) -> Float:
    """Positions [..., N, 3] relative to their centre of mass, in float64."""
    positions = np.asarray(positions, dtype=np.float64)
    origin = np.einsum("...nk,n->...k", positions, masses / np.sum(masses))
    return np.asarray(positions - origin[..., None, :])


def superpose(moving: npt.ArrayLike, fixed: npt.ArrayLike) -> Float:
    """``moving`` shifted and rotated onto ``fixed``, minimising Σ_i ‖x_i − y_i‖².

    About the geometric centres and with H = Σ x yᵀ = U S Vᵀ the rotation is V diag(1, 1, d) Uᵀ,
    d = det V Uᵀ: proper, so a molecule is never reflected onto its mirror image.

    Args:
        moving, fixed: [..., N, 3], Å, leading axes broadcast.

    Returns:
        [..., N, 3].
    """
    moving = np.asarray(moving, dtype=np.float64)
    fixed = np.asarray(fixed, dtype=np.float64)
    origin = fixed.mean(axis=-2, keepdims=True)
    x, y = moving - moving.mean(axis=-2, keepdims=True), fixed - origin
    u, _, vt = np.linalg.svd(x.swapaxes(-1, -2) @ y)
    handedness = np.linalg.det(u) * np.linalg.det(vt)
    u = np.concatenate([u[..., :2], u[..., 2:] * handedness[..., None, None]], axis=-1)
    return np.asarray(x @ (u @ vt) + origin)


def squared_errors(
    predicted: npt.ArrayLike,
    reference: npt.ArrayLike,
    alignment: Alignment = "com",
    masses: Float | None = None,
    normalisation: Literal["mean", "sum"] = "mean",
) -> Float:
    """Squared error of every frame, 1/N Σ_i ‖x̂_i − x_i‖².

    Args:
        predicted, reference: [..., T, N, 3], Å, leading axes broadcast.
        alignment: see the module.
        masses: [N], amu; needed for ``com``.
        normalisation: ``sum`` leaves out the 1/N.

    Returns:
        [..., T], Å²; NaN where a frame is NaN.
    """
    predicted = np.asarray(predicted, dtype=np.float64)
    reference = np.asarray(reference, dtype=np.float64)
    if alignment == "com":
        if masses is None:
            raise TypeError("alignment com needs masses")
        difference = centre(predicted, masses) - centre(reference, masses)
    elif alignment == "aligned":
        difference = _superpose_finite(predicted, reference) - reference
    else:
        difference = predicted - reference
    squares = np.sum(difference**2, axis=-1)
    return np.asarray(squares.mean(axis=-1) if normalisation == "mean" else squares.sum(axis=-1))


def _superpose_finite(moving: Float, fixed: Float) -> Float:
    """``superpose``, with NaN for frames that are not finite (the SVD would refuse all of them)."""
    bad = ~np.isfinite(moving).all(axis=(-1, -2), keepdims=True)
    return np.where(bad, np.nan, superpose(np.where(bad, 0.0, moving), fixed))


def rmse_at(squared: Float) -> Float:
    """RMSE@n: the root of the squared errors' mean over starts, at each frame.

    Args:
        squared: [..., S, T], Å².

    Returns:
        [..., T], Å.
    """
    return np.asarray(np.sqrt(squared.mean(axis=-2)))


def armse(squared: Float) -> Float:
    """ARMSE(n): as ``rmse_at``, but over all frames up to n; the frames must be evenly spaced.

    Args:
        squared: [..., S, T], Å².

    Returns:
        [..., T], Å; entry n − 1 is ARMSE(n).
    """
    mean = squared.mean(axis=-2)
    return np.asarray(np.sqrt(np.cumsum(mean, axis=-1) / np.arange(1, mean.shape[-1] + 1)))


def ensemble_errors(
    predicted: npt.ArrayLike,
    reference: npt.ArrayLike,
    statistic: Callable[[Float], Float] = armse,
    alignment: Alignment = "com",
    masses: Float | None = None,
) -> dict[str, Float]:
    """Errors of an ensemble, in the three ways they can be read.

    Args:
        predicted: [S, K, T, N, 3], Å: K samples from each start.
        reference: [S, T, N, 3], Å.
        statistic: ``armse`` or ``rmse_at``.
        alignment, masses: as for ``squared_errors``.

    Returns:
        [T] each, Å: ``one_sample``, the first; ``mean_over_samples``, the mean of their errors;
        ``ensemble_mean``, the mean of the samples taken as a predictor. The last minimises the
        error and is not a physical structure.
    """
    predicted = np.asarray(predicted, dtype=np.float64)
    reference = np.asarray(reference, dtype=np.float64)
    squared = squared_errors(predicted, reference[:, None], alignment, masses)
    of_mean = squared_errors(predicted.mean(axis=1), reference, alignment, masses)
    return {
        "one_sample": statistic(squared[:, 0]),
        "mean_over_samples": statistic(squared.swapaxes(0, 1)).mean(axis=0),
        "ensemble_mean": statistic(of_mean),
    }


def bootstrap_interval(
    squared: Float,
    statistic: Callable[[Float], Float] = rmse_at,
    relative_to: Float | None = None,
    *,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> tuple[Float, Float]:
    """Percentile interval of a statistic over starts, which are drawn with replacement.

    Args:
        squared: [S, T], Å².
        statistic: ``rmse_at`` or ``armse``.
        relative_to: squared errors [S, T] of a predictor to divide by, from the same starts.
        level: coverage.
        n_resamples: number of draws.
        seed: of the draws.

    Returns:
        lower and upper bound, [T] each.
    """
    n_starts = len(squared)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(n_starts, np.full(n_starts, 1 / n_starts), n_resamples) / n_starts
    values = statistic((weights @ squared)[:, None])
    if relative_to is not None:
        values = values / statistic((weights @ relative_to)[:, None])
    tail = (1 - level) / 2
    lower, upper = np.quantile(values, [tail, 1 - tail], axis=0)
    return lower, upper


def displacement_errors(predicted: npt.ArrayLike, reference: npt.ArrayLike) -> dict[str, float]:
    """ADE and FDE: mean distance over all frames and atoms, and over the atoms of the last frame.

    ADE = 1/(TN) Σ_t Σ_i ‖x̂_i(t) − x_i(t)‖, unaligned, as GeoTDM (Han et al., NeurIPS 2024) reports.

    Args:
        predicted: [S, K, T, N, 3], Å.
        reference: [S, T, N, 3], Å.

    Returns:
        ``ade_mean``, ``fde_mean`` over the K samples, ``ade_min``, ``fde_min`` with the best of the
        K of each start; Å.
    """
    predicted = np.asarray(predicted, dtype=np.float64)
    reference = np.asarray(reference, dtype=np.float64)
    distances = np.linalg.norm(predicted - reference[:, None], axis=-1).mean(axis=-1)
    ade, fde = distances.mean(axis=-1), distances[..., -1]
    return {
        "ade_mean": float(ade.mean()),
        "ade_min": float(ade.min(axis=1).mean()),
        "fde_mean": float(fde.mean()),
        "fde_min": float(fde.min(axis=1).mean()),
    }


def persistence(start: npt.ArrayLike, n_frames: int) -> Float:
    """The start frames [S, N, 3], repeated: [S, T, N, 3]."""
    start = np.asarray(start, dtype=np.float64)
    return np.repeat(start[:, None], n_frames, axis=1)


def inertia(start: npt.ArrayLike, velocities: npt.ArrayLike, times_fs: npt.ArrayLike) -> Float:
    """Free flight x0 + v0 t.

    Args:
        start: [S, N, 3], Å.
        velocities: [S, N, 3], Å/fs.
        times_fs: [T], since the start.

    Returns:
        [S, T, N, 3], Å.
    """
    start = np.asarray(start, dtype=np.float64)
    velocities = np.asarray(velocities, dtype=np.float64)
    times_fs = np.asarray(times_fs, dtype=np.float64)
    return np.asarray(start[:, None] + velocities[:, None] * times_fs[:, None, None])


def mean_structure(
    mean: npt.ArrayLike, start: npt.ArrayLike, n_frames: int, *, superposed: bool = False
) -> Float:
    """The mean structure of the training frames, at every frame.

    Args:
        mean: [N, 3], Å.
        start: [S, N, 3], Å.
        n_frames: T.
        superposed: superpose the mean on each start frame first.

    Returns:
        [S, T, N, 3], Å.
    """
    start = np.asarray(start, dtype=np.float64)
    mean = np.broadcast_to(np.asarray(mean, dtype=np.float64), start.shape)
    return persistence(superpose(mean, start) if superposed else mean, n_frames)
