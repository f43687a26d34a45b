"""P1, short to long: trained on the first 20 000 frames of a surrogate, judged on 30 000-40 000.

Twenty evenly spaced starts, those of the oracle files; at 10 000 frames those that reach. 3BPA is
judged on held-back trajectories of a labelled engine (shared.evaluation.references).
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from shared.data.md17 import SURROGATE_MOLECULES
from shared.data.splits import FrameRange, evenly_spaced_starts
from shared.errors import InputError
from shared.evaluation.candidates import Candidate
from shared.evaluation.p1_accuracy import measure_accuracy, measure_ensemble, oracle_errors
from shared.evaluation.results import Row
from shared.evaluation.rollout import Context, Skip
from shared.evaluation.systems import SETS, Series, surrogate
from shared.evaluation.trivial import TRIVIAL

__all__ = ["S2L", "measure"]

_NOTES = {"nose-hoover": "surrogate: not comparable with figures published on MD17"}
ORACLE_STARTS, ORACLE_FRAMES = 20, 2000  # of the oracle files


@dataclass(frozen=True)
class S2L:
    """Short to long on surrogates.

    Args:
        models: those to measure; null: all of the evaluation.
        systems: those to measure on; null: all of the evaluation.
        horizons: in frames of 0.5 fs.
        starts: how many.
        interval_fs: between frames of a roll-out, a multiple of the reference's 0.5 fs.
        ensemble: samples of each start.
        ensemble_frames: how far they go.
    """

    models: list[str] | None = None
    systems: list[str] | None = None
    horizons: list[int] = field(default_factory=lambda: [10, 100, 1000, 10000])
    starts: int = 20
    interval_fs: float = 5.0
    ensemble: int = 32
    ensemble_frames: int = 1000

    def quick(self) -> "S2L":
        """What a minute allows."""
        return S2L(self.models, self.systems, [10, 100], 3, self.interval_fs, 4, 100)


def load_series(name: str, context: Context) -> Series:
    """The surrogate of a molecule or the trajectory of a 3BPA system, or why there is none."""
    if name in SETS["3bpa"]:
        return context.references.series(name)
    if name not in SURROGATE_MOLECULES:
        raise Skip(f"{name} has no surrogate")
    return surrogate(name)


def some_starts(test: FrameRange, count: int) -> npt.NDArray[np.int64]:
    """Of the oracle files' starts so many; more than they have are spaced anew."""
    rows = evenly_spaced_starts(test, max(count, ORACLE_STARTS), ORACLE_FRAMES)
    return rows[:: len(rows) // count][:count]


def measure(candidate: Candidate, name: str, settings: S2L, context: Context) -> list[Row]:
    """Rows of one candidate on one molecule."""
    series = load_series(name, context)
    rows = some_starts(series.test, settings.starts)
    past = series.past(rows)
    room = len(series) - 1 - rows
    horizons = np.array(settings.horizons)
    if horizons.min() > room.min():
        raise InputError(
            f"s2l.horizons: {horizons.min()} frames are more than the {room.min()} after the last "
            f"start in {past.system.data}"
        )
    reach = np.array([horizons[horizons <= left].max() for left in room])

    def truth(starts: npt.NDArray[np.int64], after: int) -> npt.NDArray[np.float64]:
        return series.truth(rows[starts], after)

    found = measure_accuracy(
        "s2l",
        candidate,
        past,
        truth,
        reach,
        settings.horizons,
        settings.interval_fs,
        context,
        oracle=oracle_errors(candidate, past, truth, reach, context),
        with_sum=True,
        note=_NOTES.get(series.system.thermostat, ""),
    )
    if candidate.name in (*TRIVIAL, "oracle"):
        return found
    short = np.minimum(reach, settings.ensemble_frames)
    return found + measure_ensemble(
        "s2l",
        candidate,
        past,
        truth,
        short,
        [frames for frames in settings.horizons if frames <= settings.ensemble_frames],
        settings.interval_fs,
        settings.ensemble,
        context,
    )
