"""P1 on sparse real MD17: pairs of neighbouring frames that rMD17 keeps, and the frames after them.

The velocity at a start is the backward difference plus ½δF/m with the stored force. A pair does not
show the thermostat's friction; where the frame before it is at most ten steps from the start, the
variant `fitted` fits it to that frame, from those starts alone. A roll-out is compared wherever the
data has a frame at the gap. Some of the few pairs are from before frame 20 000, where models may
have learned: what is left without them has a metric of its own.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.data.splits import SHORT_TO_LONG
from shared.evaluation.artefacts import save_artefact
from shared.evaluation.candidates import Candidate, Variant
from shared.evaluation.p1_accuracy import best_of, oracle_errors, row_of, trivial_errors
from shared.evaluation.results import Row
from shared.evaluation.rollout import Context, Skip, roll_errors, stride_of
from shared.evaluation.statistics import PooledErrors
from shared.evaluation.systems import Past, SparseFrames, sparse_frames
from shared.evaluation.trivial import TRIVIAL

__all__ = ["Sparse", "load_frames", "measure"]

Int = npt.NDArray[np.int64]

UNCLEAR = {"benzene": "the time between its frames is unclear"}
FEWEST = 10  # comparisons for a row
LATER = f"from frame {SHORT_TO_LONG.train.stop} on"
THIRD_WITHIN = 10  # steps from the frame that friction is fitted to, to the start


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
    return sparse_frames(molecule)


def measure(candidate: Candidate, name: str, settings: Sparse, context: Context) -> list[Row]:
    """Rows of one candidate on one molecule."""
    sparse = load_frames(name)
    system = sparse.system
    gaps = np.array([system.frames_in(gap, "gaps_fs") for gap in settings.gaps_fs])
    starts = sparse.starts()
    starts = starts[_seen(sparse, starts, gaps).any(axis=1)]
    rows: list[Row] = []
    for variant in candidate.variants(system):
        chosen, past_of = starts, sparse.past
        if variant == "fitted":
            if not getattr(candidate, "fits_friction", False):  # a pair does not show it
                continue
            near = (starts >= 2) & (sparse.steps_before(starts) <= THIRD_WITHIN)
            chosen, past_of = starts[near], sparse.past_of_three
        if settings.starts:
            spread = np.linspace(0, len(chosen) - 1, min(settings.starts, len(chosen)))
            chosen = chosen[spread.astype(int)]
        if len(chosen):
            past = past_of(chosen)
            rows += _rows(candidate, variant, sparse, chosen, past, gaps, settings, context)
    if not rows and candidate.name not in TRIVIAL:
        raise Skip(f"no gap has {FEWEST} comparisons, or the model has no step that fits one")
    return rows


def _seen(sparse: SparseFrames, starts: Int, gaps: Int) -> npt.NDArray[np.bool_]:
    """[S, gaps], whether there is a frame to compare with."""
    return np.stack([sparse.has(starts, int(gap)) for gap in gaps], axis=1)


def _rows(
    candidate: Candidate,
    variant: Variant,
    sparse: SparseFrames,
    starts: Int,
    past: Past,
    gaps: Int,
    settings: Sparse,
    context: Context,
) -> list[Row]:
    """Rows of one variant from its starts, and an artefact."""
    system = sparse.system
    reach = np.where(_seen(sparse, starts, gaps), gaps, 0).max(axis=1)

    def truth(which: Int, after: int) -> npt.NDArray[np.float64]:
        return sparse.truth(starts[which], after)

    stride = stride_of(candidate, system, settings.interval_fs)
    trivial = trivial_errors(past, truth, reach, stride, context)
    rows: list[Row] = []
    rolled = roll_errors(
        candidate, past, variant, truth, reach, stride, context, alignments=("com",)
    )
    row = partial(row_of("sparse", "P1", system, candidate, variant))
    errors, still = rolled.pooled("com"), trivial["persistence"].pooled("com")
    oracle = oracle_errors(candidate, past, truth, reach, context)(variant, stride)
    later = sparse.data.frames[starts] >= SHORT_TO_LONG.train.stop
    errors_later, still_later = (
        PooledErrors(one.squared["com"][later, 0]) for one in (rolled, trivial["persistence"])
    )
    curves: dict[str, list[float]] = {}
    for gap, time_fs in zip(gaps, settings.gaps_fs, strict=True):
        at = rolled.index(int(gap))
        if gap % stride or at >= rolled.reached or errors.counts[at] < FEWEST:
            continue
        where = {"horizon": f"{time_fs:g} fs", "horizon_fs": time_fs}
        own, ratio = errors.estimate(at), errors.estimate(at, relative_to=still)
        others = {other: found.pooled("com") for other, found in trivial.items()}
        best_name, best = best_of(others, at)
        rows += [
            row(own, metric="RMSE com", unit="Å", **where),
            row(ratio, metric="RMSE com / persistence", **where),
            row(
                errors.estimate(at, relative_to=best),
                metric="RMSE com / best trivial",
                **{**where, "note": f"best trivial: {best_name}"},
            ),
        ]
        if oracle is not None and oracle.pooled("com").counts[at]:
            of_oracle = errors.estimate(at, relative_to=oracle.pooled("com"))
            rows.append(row(of_oracle, metric="RMSE com / oracle", **where))
        if errors_later.counts[at] >= FEWEST:
            ratio_later = errors_later.estimate(at, relative_to=still_later)
            rows.append(row(ratio_later, metric=f"RMSE com / persistence, {LATER}", **where))
        for metric, count in (
            ("comparisons", errors.counts[at]),
            (f"comparisons, {LATER}", errors_later.counts[at]),
        ):
            rows.append(row(float(count), metric=metric, unit="count", **where))
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
    if curves:
        arrays: dict[str, Any] = {key: np.array(values) for key, values in curves.items()}
        names = (system.name, candidate.name, variant, system.data)
        save_artefact(context.folder, "sparse", *names, **arrays)
    return rows
