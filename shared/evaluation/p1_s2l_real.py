"""P1, short to long on real MD17: trained on frames < 20 000 kept by rMD17, judged beyond 30 000.

Starts are pairs of neighbouring frames at or after 30 000; a roll-out is compared wherever the data
has a frame, so n counts starts and the note gives the frames compared. The first start alone is the
window of the DiffMD paper (benzene's time step is unclear: left out).
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.data.splits import SHORT_TO_LONG
from shared.evaluation.candidates import Candidate
from shared.evaluation.p1_accuracy import horizon, measure_accuracy, measure_ensemble, row_of
from shared.evaluation.p1_sparse import load_frames
from shared.evaluation.results import Row
from shared.evaluation.rollout import Context, RolledErrors, Skip
from shared.evaluation.statistics import PooledErrors
from shared.evaluation.trivial import TRIVIAL
from shared.metrics.armse import Alignment, squared_errors

__all__ = ["PUBLISHED", "S2LReal", "measure"]

LAST = 60_000  # starts are taken up to here, where there are enough
PUBLISHED = {
    "aspirin": 0.648,
    "benzene": 2.365,
    "ethanol": 0.637,
    "malonaldehyde": 0.784,
    "naphthalene": 0.298,
    "salicylic": 0.471,
    "toluene": 0.820,
    "uracil": 0.393,
}
"""ARMSE of DiffMD, Å (Wu and Li, AAAI 2023), whose horizon and normalisation are not stated."""


@dataclass(frozen=True)
class S2LReal:
    """Short to long on real frames.

    Args:
        models: those to measure; null: all of the evaluation.
        systems: those to measure on; null: all of the evaluation.
        horizons: in frames.
        starts: how many pairs, evenly chosen of those between frames 30 000 and 60 000; where there
            are fewer, the first ones from 30 000 on.
        ensemble: samples of each start.
        ensemble_horizons: of the ensemble's mean, in frames.
    """

    models: list[str] | None = None
    systems: list[str] | None = None
    horizons: list[int] = field(default_factory=lambda: [100, 1000, 2000, 10000])
    starts: int = 10
    ensemble: int = 32
    ensemble_horizons: list[int] = field(default_factory=lambda: [100, 1000, 2000, 10000])

    def quick(self) -> "S2LReal":
        """What a minute allows."""
        return S2LReal(self.models, self.systems, [100], 2, 4, [100])


def measure(candidate: Candidate, name: str, settings: S2LReal, context: Context) -> list[Row]:
    """Rows of one candidate on one molecule."""
    sparse = load_frames(name)
    system, numbers = sparse.system, sparse.data.frames
    starts = _chosen(sparse.starts(), numbers, settings.starts)
    if len(starts) == 0:
        raise Skip(f"{system.data} has no neighbouring frames from {SHORT_TO_LONG.test.start} on")
    past, longest = sparse.past(starts), max(settings.horizons)

    def truth(which: npt.NDArray[np.int64], after: int) -> npt.NDArray[np.float64]:
        return sparse.truth(starts[which], after)

    def first_and_counts(
        rolled: RolledErrors, trivial: dict[str, RolledErrors], row: Any
    ) -> list[Row]:
        rows = []
        for frames in settings.horizons:
            at = rolled.index(frames)
            if at >= rolled.reached:
                continue
            where = horizon(system, frames)
            compared = int(np.isfinite(rolled.squared["com"][:, 0, : at + 1]).sum())
            rows.append(row(compared, metric="frames compared", unit="count", **where))
            for alignment in ("raw", "com"):
                alone = PooledErrors(rolled.squared[alignment][:1, 0]).estimate(at, True)
                metric = f"ARMSE {alignment}, first start"
                note = f"from frame {numbers[starts[0]]}"
                rows.append(row(alone, metric=metric, unit="Å", **{**where, "note": note}))
        return rows

    # Every frame of the data that a model can give is compared, so its own step is the interval.
    interval = candidate.step_fs(system)
    reach = np.full(len(starts), longest)
    found = measure_accuracy(
        "s2l_real",
        candidate,
        past,
        truth,
        reach,
        settings.horizons,
        max(interval, system.interval_fs),
        context,
        variants=[v for v in candidate.variants(system) if v != "fitted"],
        with_sum=True,
        extra=first_and_counts,
    )
    if candidate.name == "persistence":
        found += _window_means(candidate, name, settings, starts)
        if name in PUBLISHED:
            note = "horizon and normalisation not stated in the paper"
            row = row_of("s2l_real", "P1", system, candidate)
            columns = {"metric": "ARMSE (published)", "unit": "Å", "note": note}
            found.append(row(PUBLISHED[name], model="DiffMD (published)", **columns))
    if candidate.name in TRIVIAL:
        return found
    return found + measure_ensemble(
        "s2l_real",
        candidate,
        past,
        truth,
        np.full(len(starts), max(settings.ensemble_horizons)),
        settings.ensemble_horizons,
        max(interval, system.interval_fs),
        settings.ensemble,
        context,
    )


def _chosen(
    starts: npt.NDArray[np.int64], numbers: npt.NDArray[np.int64], count: int
) -> npt.NDArray[np.int64]:
    """At most so many starts, as `S2LReal.starts` says; frames have increasing numbers."""
    starts = starts[numbers[starts] >= SHORT_TO_LONG.test.start]
    starts = starts[: max(count, np.count_nonzero(numbers[starts] < LAST))]
    spread = np.linspace(0, len(starts) - 1, min(count, len(starts)))
    return starts[spread.astype(int)]


def _window_means(
    candidate: Candidate, name: str, settings: S2LReal, starts: npt.NDArray[np.int64]
) -> list[Row]:
    """The mean of the frames of the window itself, which no predictor can know."""
    sparse = load_frames(name)
    system, numbers = sparse.system, sparse.data.frames
    row = row_of("s2l_real", "P1", system, candidate)
    rows = []
    for frames in settings.horizons:
        per_start: dict[Alignment, list[npt.NDArray[np.float64]]] = {"raw": [], "com": []}
        for start in starts:
            inside = (numbers > numbers[start]) & (numbers <= numbers[start] + frames)
            window = sparse.data.positions[np.flatnonzero(inside)]
            if len(window) == 0:
                continue
            for alignment, found in per_start.items():
                mean = np.broadcast_to(window.mean(axis=0), window.shape)
                found.append(squared_errors(mean, window, alignment, system.masses))
        for alignment, found in per_start.items():
            if not found:
                continue
            width = max(map(len, found))
            squared = np.full((len(found), width), np.nan)
            for one, values in zip(squared, found, strict=True):
                one[: len(values)] = values
            estimate = PooledErrors(squared).estimate(width - 1, cumulative=True)
            columns = {"metric": f"ARMSE {alignment}", "unit": "Å", "model": "window's own mean"}
            rows.append(row(estimate, **columns, **horizon(system, frames)))
    return rows
