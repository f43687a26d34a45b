"""P5, long horizon: heavy atoms, 3 000 frames (1.5 ps), square error per coordinate in 10⁻² Å².

S2S, the final frame; S2T, the mean over eight frames. Comparable in form with EGNO (Xu et al., ICML
2024). Two sets of starts: `contiguous`, in the test frames; `random`, over the whole trajectory as
theirs are, which leaks, since half of such starts lie within 50 fs of a training start.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from shared.data.splits import evenly_spaced_starts
from shared.evaluation.candidates import Candidate, Variant
from shared.evaluation.oracles import Oracle
from shared.evaluation.p1_accuracy import row_of
from shared.evaluation.p1_s2l import load_series
from shared.evaluation.results import Row
from shared.evaluation.rollout import Context, Skip, stride_of
from shared.evaluation.statistics import bootstrap
from shared.evaluation.systems import HISTORY, Series

__all__ = ["EGNO", "Long", "measure"]

EGNO = {
    "aspirin": 9.18,
    "benzene": 48.85,
    "ethanol": 4.62,
    "malonaldehyde": 12.80,
    "naphthalene": 0.37,
    "salicylic": 0.86,
    "toluene": 10.21,
    "uracil": 0.52,
}
"""S2S of EGNO on real MD17, 10⁻² Å²."""

POINTS = 8  # frames of S2T


@dataclass(frozen=True)
class Long:
    """Long horizon.

    Args:
        models: those to measure; null: all of the evaluation.
        systems: those to measure on; null: all of the evaluation.
        starts: how many, of each set.
        frames: of 0.5 fs, to the last.
        interval_fs: between frames of a roll-out; the eight frames are the nearest multiples.
    """

    models: list[str] | None = None
    systems: list[str] | None = None
    starts: int = 20
    frames: int = 3000
    interval_fs: float = 5.0

    def quick(self) -> "Long":
        """What a minute allows."""
        return Long(self.models, self.systems, 2, 80, self.interval_fs)


def measure(candidate: Candidate, name: str, settings: Long, context: Context) -> list[Row]:
    """Rows of one candidate on one molecule."""
    if isinstance(candidate, Oracle):
        raise Skip("the oracle files end before 3 000 frames; name the engine for this")
    series = load_series(name, context)
    system = series.system
    if not candidate.variants(system):
        raise Skip(f"{candidate.name} has no trajectories on {system.data}")
    last = len(series) - settings.frames - 1
    rng = np.random.default_rng(context.seed)
    sets = {
        "contiguous": evenly_spaced_starts(series.test, settings.starts, settings.frames),
        "random": np.sort(rng.integers(HISTORY, last, settings.starts)),
    }
    stride = stride_of(candidate, system, settings.interval_fs)
    wanted = settings.frames / POINTS * np.arange(1, POINTS + 1)
    frames = stride * np.maximum(1, np.round(wanted / stride)).astype(np.int64)
    heavy = system.numbers > 1
    rows: list[Row] = []
    # Told the most, and what P5 gives: a position and a velocity.
    most, *others = candidate.variants(system)
    variants = [most, *(v for v in others if v == "unknown")]
    columns = {
        "horizon": f"{settings.frames} frames",
        "horizon_fs": settings.frames * system.interval_fs,
        "unit": "1e-2 Å²",
        "note": "surrogate: not comparable with figures published on MD17",
    }
    for variant, (split, starts) in product(variants, sets.items()):
        row = row_of("long", "P5", system, candidate, variant)
        context.report(f"{variant} {split}".strip())
        squares = _squares(candidate, series, variant, starts, frames, stride, heavy, context)
        rows += [
            row(bootstrap(squares[:, -1]), metric=f"S2S, {split} starts", **columns),
            row(bootstrap(squares.mean(axis=1)), metric=f"S2T, {split} starts", **columns),
        ]
    if candidate.name == "persistence" and name in EGNO:
        row = row_of("long", "P5", system, candidate)
        note = "not comparable: published on real MD17"
        columns = {"unit": "1e-2 Å²", "horizon": "3000 frames", "horizon_fs": 1500.0, "note": note}
        rows.append(
            row(EGNO[name], metric="S2S, random starts", model="EGNO (published)", **columns)
        )
    return rows


def _squares(
    candidate: Candidate,
    series: Series,
    variant: Variant,
    starts: npt.NDArray[np.int64],
    frames: npt.NDArray[np.int64],
    stride: int,
    heavy: npt.NDArray[np.bool_],
    context: Context,
) -> npt.NDArray[np.float64]:
    """Mean squares per coordinate [S, 8], 10⁻² Å²."""
    system = series.system
    state = candidate.start(series.past(starts), variant, 1, context.seed)
    interval = stride * system.interval_fs
    propagator = candidate.propagator(system, variant)
    found = np.full((len(starts), len(frames)), np.nan)
    n_frames = int(frames[-1]) // stride
    for t, now in enumerate(propagator.propagate(state, n_frames, interval, seed=context.seed)):
        for column in np.flatnonzero(frames == (t + 1) * stride):
            truth = series.truth(starts, int(frames[column]))
            off = (now.positions - truth)[:, heavy]
            found[:, column] = 100.0 * np.mean(off**2, axis=(1, 2))
    return found
