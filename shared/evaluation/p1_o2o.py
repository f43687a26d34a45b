"""P1, one to others: C7O2H10 isomers, trained on all but ten, judged on the five that move most.

Rows of each unseen isomer, and of the five together.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from shared.data.splits import FrameRange, evenly_spaced_starts
from shared.evaluation.candidates import Candidate
from shared.evaluation.p1_accuracy import horizon_rows, measure_accuracy, row_of
from shared.evaluation.results import Row
from shared.evaluation.rollout import Context, RolledErrors, together
from shared.evaluation.systems import HISTORY, isomers_under_test

__all__ = ["O2O", "measure"]


@dataclass(frozen=True)
class O2O:
    """One to others.

    Args:
        models: those to measure; null: all of the evaluation.
        systems: those to measure on; null: all of the evaluation.
        source: xtb, the GFN2-xTB surrogate, or official, the published trajectories.
        horizons: in frames of 1 fs.
        starts: how many of each isomer.
        interval_fs: between frames of a roll-out, a multiple of the reference's 1 fs.
        isomers: how many of the five.
    """

    models: list[str] | None = None
    systems: list[str] | None = None
    source: Literal["xtb", "official"] = "xtb"
    horizons: list[int] = field(default_factory=lambda: [10, 100, 500])
    starts: int = 10
    interval_fs: float = 5.0
    isomers: int = 5

    def quick(self) -> "O2O":
        """What a minute allows."""
        return O2O(self.models, self.systems, self.source, [10, 50], 2, self.interval_fs, 1)


def measure(candidate: Candidate, name: str, settings: O2O, context: Context) -> list[Row]:
    """Rows of one candidate on the unseen isomers."""
    found: list[Row] = []
    every: dict[str, list[tuple[RolledErrors, dict[str, RolledErrors]]]] = {}
    note = "surrogate: not comparable with published figures" if settings.source == "xtb" else ""

    def collect(rolled: RolledErrors, trivial: dict[str, RolledErrors], row: Any) -> list[Row]:
        every.setdefault(row(0.0, metric="").variant, []).append((rolled, trivial))
        return []

    all_series, _ = isomers_under_test(settings.source)
    longest = max(settings.horizons)
    for series in all_series[: settings.isomers]:
        context.report(series.system.name)
        used = FrameRange(HISTORY, len(series))
        rows = evenly_spaced_starts(used, settings.starts, longest)

        def truth(
            starts: npt.NDArray[np.int64], after: int, series=series, rows=rows
        ) -> npt.NDArray[np.float64]:
            return series.truth(rows[starts], after)

        found += measure_accuracy(
            "o2o",
            candidate,
            series.past(rows),
            truth,
            np.full(len(rows), longest),
            settings.horizons,
            settings.interval_fs,
            context,
            extra=collect,
            note=note,
        )
    system = replace(all_series[0].system, name=name)
    for variant, parts in every.items():
        rolled = together([own for own, _ in parts])
        trivial = {key: together([other[key] for _, other in parts]) for key in parts[0][1]}
        row = partial(row_of("o2o", "P1", system, candidate, variant), note=note)
        for frames in settings.horizons:
            if rolled.index(frames) < rolled.reached:
                found += horizon_rows(row, system, rolled, trivial, None, frames)
    return found
