"""P3, what heat does to diffused features: their shift against that of the diffusivity.

‖Z(T; A′) − Z(T; A)‖ and ‖A′ − A‖ from 300 K frames of 3BPA to those of another system; the theory
bounds the first norm by a multiple of the second.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from shared.evaluation.candidates import Candidate, KnowsFeatures
from shared.evaluation.p1_accuracy import row_of
from shared.evaluation.results import Row
from shared.evaluation.rollout import Context, Skip
from shared.evaluation.statistics import bootstrap
from shared.evaluation.systems import three_bpa

__all__ = ["Shift", "measure"]

COLD = "300K"


@dataclass(frozen=True)
class Shift:
    """Shift of diffused features.

    Args:
        models: those to measure; null: all of the evaluation.
        systems: those to measure on; null: all of the evaluation.
        frames: at most so many pairs of frames, evenly spaced; 0: all.
    """

    models: list[str] | None = None
    systems: list[str] | None = None
    frames: int = 0

    def quick(self) -> "Shift":
        """What a minute allows."""
        return Shift(self.models, self.systems, 4)


def measure(candidate: Candidate, name: str, settings: Shift, context: Context) -> list[Row]:
    """Rows of one candidate, from 300 K to one system."""
    if not isinstance(candidate, KnowsFeatures):
        raise Skip(f"{candidate.name} has no diffusion")
    if name == COLD:
        raise Skip(f"features shift from {COLD} to the other systems")
    cold, hot = three_bpa(COLD), three_bpa(name)
    count = min(len(cold.test), len(hot.test), settings.frames or len(cold.test))
    before, after = (
        test.positions[np.linspace(0, len(test) - 1, count).round().astype(int)]
        for test in (cold.test, hot.test)
    )
    shift = candidate.feature_shift(hot.system, before, after)
    row = row_of("shift", "P3", hot.system, candidate)
    row = partial(row, data=f"{cold.system.data} to {hot.system.data.removeprefix('3BPA ')}")
    ratio = shift.features / shift.diffusivity
    return [
        row(bootstrap(ratio, _median), metric="feature shift / diffusivity shift"),
        row(ratio.max(), metric="feature shift / diffusivity shift, largest", n=count),
        row(bootstrap(shift.features, _median), metric="feature shift"),
        row(bootstrap(shift.diffusivity, _median), metric="diffusivity shift"),
        row(bootstrap(shift.features / shift.sizes, _median), metric="feature shift / features"),
    ]


def _median(drawn: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(np.median(drawn, axis=1))
