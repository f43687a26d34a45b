"""P1 on real, consecutive MD17 frames: those of ethanol that are at hand, or an official file.

Twenty starts; with the thermostat's friction from three frames and the force, and without.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from shared.data.splits import FrameRange, evenly_spaced_starts
from shared.evaluation.candidates import Candidate
from shared.evaluation.p1_accuracy import measure_accuracy, oracle_errors
from shared.evaluation.results import Row
from shared.evaluation.rollout import Context
from shared.evaluation.systems import HISTORY, real_series

__all__ = ["Consecutive", "measure"]


@dataclass(frozen=True)
class Consecutive:
    """Real consecutive frames.

    Args:
        models: those to measure; null: all of the evaluation.
        systems: those to measure on; null: all of the evaluation.
        horizons: in frames of 0.5 fs.
        starts: how many.
        interval_fs: between frames of a roll-out, a multiple of the reference's 0.5 fs.
        frames: how many frames of the file, from its first.
    """

    models: list[str] | None = None
    systems: list[str] | None = None
    horizons: list[int] = field(default_factory=lambda: [10, 20, 50, 100, 200])
    starts: int = 20
    interval_fs: float = 5.0
    frames: int = 1000

    def quick(self) -> "Consecutive":
        """What a minute allows."""
        return Consecutive(self.models, self.systems, [10, 50], 4, self.interval_fs, self.frames)


def measure(candidate: Candidate, name: str, settings: Consecutive, context: Context) -> list[Row]:
    """Rows of one candidate on one molecule."""
    series = real_series(name)
    longest = max(settings.horizons)
    used = FrameRange(HISTORY, min(len(series), settings.frames))
    rows = evenly_spaced_starts(used, settings.starts, longest)

    def truth(starts: npt.NDArray[np.int64], after: int) -> npt.NDArray[np.float64]:
        return series.truth(rows[starts], after)

    past, reach = series.past(rows), np.full(len(rows), longest)
    return measure_accuracy(
        "consecutive",
        candidate,
        past,
        truth,
        reach,
        settings.horizons,
        settings.interval_fs,
        context,
        oracle=oracle_errors(candidate, past, truth, reach, context),
    )
