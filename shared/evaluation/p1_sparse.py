"""P1 on sparse real MD17: pairs of neighbouring frames that rMD17 keeps, and the frames after them.

The velocity at a start is the backward difference plus ½δF/m with the stored force; a pair does not
show the thermostat's friction. A roll-out is compared wherever the data has a frame at the gap.
"""

from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt

from shared.errors import InputError
from shared.evaluation.artefacts import save_artefact
from shared.evaluation.candidates import Candidate
from shared.evaluation.p1_accuracy import row_of, trivial_errors
from shared.evaluation.results import Row
from shared.evaluation.rollout import Context, Skip, roll_errors, stride_of
from shared.evaluation.systems import SparseFrames, sparse_frames
from shared.evaluation.trivial import TRIVIAL

__all__ = ["Sparse", "load_frames", "measure"]

UNCLEAR = {"benzene": "the time between its frames is unclear"}
FEWEST = 10  # comparisons for a row


@dataclass(frozen=True)
class Sparse:
    """Sparse real frames.

    Args:
        models: those to measure; null: all of the evaluation.
        systems: those to measure on; null: all of the evaluation.
        gaps_fs: times after the start at which frames are compared.
        starts: at most so many, evenly chosen; 0: all there are.
        interval_fs: between frames of a roll-out.
    """

    models: list[str] | None = None
    systems: list[str] | None = None
    gaps_fs: list[float] = field(default_factory=lambda: [5.0, 10.0, 25.0, 50.0, 100.0])
    starts: int = 0
    interval_fs: float = 5.0

    def quick(self) -> "Sparse":
        """What a minute allows."""
        return Sparse(self.models, self.systems, [5.0, 10.0], 60, self.interval_fs)


def load_frames(molecule: str) -> SparseFrames:
    """The frames, or why not."""
    if molecule in UNCLEAR:
        raise Skip(UNCLEAR[molecule])
    try:
        return sparse_frames(molecule)
    except InputError as error:
        raise Skip(str(error)) from None


def measure(candidate: Candidate, name: str, settings: Sparse, context: Context) -> list[Row]:
    """Rows of one candidate on one molecule."""
    sparse = load_frames(name)
    system = sparse.system
    gaps = np.array([system.frames_in(gap, "gaps_fs") for gap in settings.gaps_fs])
    starts = sparse.starts()
    seen = np.stack([sparse.has(starts, int(gap)) for gap in gaps], axis=1)
    starts, seen = starts[seen.any(axis=1)], seen[seen.any(axis=1)]
    if settings.starts:
        chosen = np.linspace(0, len(starts) - 1, min(settings.starts, len(starts))).astype(int)
        starts, seen = starts[chosen], seen[chosen]
    reach = np.where(seen, gaps, 0).max(axis=1)
    past = sparse.past(starts)

    def truth(which: npt.NDArray[np.int64], after: int) -> npt.NDArray[np.float64]:
        return sparse.truth(starts[which], after)

    stride = stride_of(candidate, system, settings.interval_fs)
    trivial = trivial_errors(past, truth, reach, stride, context)
    rows: list[Row] = []
    for variant in candidate.variants(system):
        if variant == "fitted":  # a pair does not show it
            continue
        rolled = roll_errors(
            candidate, past, variant, truth, reach, stride, context, alignments=("com",)
        )
        row = partial(row_of("sparse", "P1", system, candidate, variant))
        errors, still = rolled.pooled("com"), trivial["persistence"].pooled("com")
        curves: dict[str, list[float]] = {}
        for gap, time_fs in zip(gaps, settings.gaps_fs, strict=True):
            at = rolled.index(int(gap))
            if gap % stride or at >= rolled.reached or errors.counts[at] < FEWEST:
                continue
            where = {"horizon": f"{time_fs:g} fs", "horizon_fs": time_fs}
            own, ratio = errors.estimate(at), errors.estimate(at, relative_to=still)
            best = min(
                (trivial[other].pooled("com") for other in trivial),
                key=lambda other, at=at: other.rmse()[at],  # type: ignore[misc]
            )
            rows += [
                row(own, metric="RMSE com", unit="Å", **where),
                row(ratio, metric="RMSE com / persistence", **where),
                row(
                    errors.estimate(at, relative_to=best),
                    metric="RMSE com / best trivial",
                    **where,
                ),
            ]
            found = {
                "gap_fs": time_fs,
                "ratio": ratio.value,
                "ratio_low": ratio.low,
                "ratio_high": ratio.high,
                "rmse": own.value,
                "persistence": still.rmse()[at],
                "n": own.n,
            }
            for key, value in found.items():
                curves.setdefault(key, []).append(np.nan if value is None else float(value))
        arrays = {key: np.array(values) for key, values in curves.items()}
        folder, model = context.folder, candidate.name
        save_artefact(folder, "sparse", system.name, model, variant, system.data, **arrays)
    if not rows and candidate.name not in TRIVIAL:
        raise Skip(f"no gap has {FEWEST} comparisons, or the model has no step that fits one")
    return rows
