"""P1, what its parts share: rows and curves of RMSE and ARMSE, against the trivial and the oracle.

RMSE@n has frame n alone, ARMSE(n) those that are compared up to n, of the starts that go so far;
starts are pooled inside the root; ratios are of RMSE@n, with centres of mass removed. Every row
says which.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.errors import InputError
from shared.evaluation.artefacts import save_artefact
from shared.evaluation.candidates import Candidate, Variant
from shared.evaluation.oracles import Oracle
from shared.evaluation.results import Row, not_within
from shared.evaluation.rollout import (
    ALIGNMENTS,
    Context,
    RolledErrors,
    Skip,
    Truth,
    roll_errors,
    stride_of,
)
from shared.evaluation.statistics import Estimate, PooledErrors, mean_of
from shared.evaluation.systems import Past, System
from shared.evaluation.trivial import TRIVIAL

__all__ = ["CROSSINGS", "best_of", "horizon_rows", "measure_accuracy", "measure_ensemble", "row_of"]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

Extra = Callable[[RolledErrors, dict[str, RolledErrors], Any], list[Row]]

FEWEST = 2  # starts that RMSE@n is taken over
CROSSINGS = (0.1, 0.5)  # of persistence
CURVE_POINTS = 200  # of a curve that is kept
SHOWN_FRAMES = 1000  # of the trajectory that is kept to be looked at


def row_of(
    part: str, protocol: str, system: System, candidate: Candidate, variant: str = ""
) -> Any:
    """(estimate, metric=…, …) -> a row about this candidate on this system, unless said."""
    common = {
        "protocol": protocol,
        "part": part,
        "data": system.data,
        "system": system.name,
        "model": candidate.name,
        "variant": variant,
    }

    def row(estimate: Estimate | float, **columns: Any) -> Row:
        if isinstance(estimate, Estimate):
            return Row.of(estimate, **{**common, **columns})
        return Row(value=float(estimate), **{**common, **columns})

    return row


def horizon(system: System, frames: int) -> dict[str, Any]:
    """The columns that name a horizon."""
    return {"horizon": f"{frames} frames", "horizon_fs": frames * system.interval_fs}


def trivial_errors(
    past: Past, truth: Truth, reach: Int, stride: int, context: Context
) -> dict[str, RolledErrors]:
    """Errors (com) of what knows no dynamics, from the same starts at the same frames."""
    found = {}
    for name, make in TRIVIAL.items():
        candidate = make()
        if not candidate.variants(past.system):
            continue
        found[name] = roll_errors(
            candidate, past, "", truth, reach, stride, context, alignments=("com",)
        )
    return found


def oracle_errors(
    candidate: Candidate, past: Past, truth: Truth, reach: Int, context: Context
) -> Callable[[Variant, int], RolledErrors | None]:
    """(variant, stride) -> errors (com) of the dynamic oracle from a candidate's starts at the same
    frames; None where there is none, its engine is not at hand, or it is the candidate."""

    def errors(variant: Variant, stride: int) -> RolledErrors | None:
        oracle = Oracle()
        try:
            if candidate.name in (oracle.name, past.system.engine):
                return None
            if variant not in oracle.variants(past.system):
                return None
            context.report("the oracle beside it")
            return roll_errors(
                oracle, past, variant, truth, reach, stride, context, alignments=("com",)
            )
        except InputError as reason:
            context.report(f"no oracle beside it: {reason}")
            return None

    return errors


def measure_accuracy(
    part: str,
    candidate: Candidate,
    past: Past,
    truth: Truth,
    reach: Int,
    horizons: Sequence[int],
    interval_fs: float,
    context: Context,
    *,
    variants: Sequence[Variant] | None = None,
    oracle: Callable[[Variant, int], RolledErrors | None] = lambda variant, stride: None,
    with_sum: bool = False,
    extra: Extra = lambda rolled, trivial, row: [],
    note: str = "",
) -> list[Row]:
    """All rows of one candidate on one system, and an artefact of each variant.

    Args:
        part: of P1.
        candidate: who.
        past: of S starts.
        truth: the reference.
        reach: [S], frames of the reference that each start is followed.
        horizons: frames to report.
        interval_fs: wished between frames of the roll-out.
        variants: those to measure; None: the candidate's.
        oracle: (variant, stride) -> errors of the oracle from the same starts, where there is one.
        with_sum: at the longest horizon also ARMSE without the 1/N, for the table beside the paper.
        extra: (errors, those of the trivial, row) -> further rows of a roll-out.
        note: for every row.
    """
    system = past.system
    stride = stride_of(candidate, system, interval_fs)
    if variants is None:
        variants = candidate.variants(system)
    if not variants:
        raise Skip(f"{candidate.name} has no trajectories on {system.data}")
    if min(horizons) < stride:
        raise InputError(
            f"{part}.horizons: {min(horizons)} frames are fewer than the {stride} between two of "
            "a roll-out"
        )
    trivial = trivial_errors(past, truth, reach, stride, context)
    rows: list[Row] = []
    for variant in variants:
        context.report(variant or "rolling out")
        rolled = roll_errors(candidate, past, variant, truth, reach, stride, context)
        row = partial(row_of(part, "P1", system, candidate, variant), note=note)
        best = oracle(variant, stride)
        for frames in {rolled.index(frames): frames for frames in horizons}.values():
            if rolled.index(frames) < rolled.reached:
                whole = with_sum and frames == max(horizons)
                rows += horizon_rows(row, system, rolled, trivial, best, frames, whole)
        rows += _crossing_rows(row, system, rolled, trivial["persistence"], note)
        if rolled.whole < 1:
            rows.append(row(rolled.whole, metric="share whole at the end", n=len(reach)))
        rows += extra(rolled, trivial, row)
        _save_curves(part, candidate, variant, past, truth, rolled, context)
    return rows


def horizon_rows(
    row: Callable[..., Row],
    system: System,
    rolled: RolledErrors,
    trivial: dict[str, RolledErrors],
    oracle: RolledErrors | None,
    frames: int,
    with_sum: bool = False,
) -> list[Row]:
    """All rows of one horizon; none where nothing was compared up to it."""
    at, where = rolled.index(frames), horizon(system, int(rolled.frames[rolled.index(frames)]))
    if not rolled.pooled("com").counts[: at + 1].any():
        return []
    rows = []
    for alignment in ALIGNMENTS:
        errors = rolled.pooled(alignment)
        if errors.counts[at] >= FEWEST:
            rows.append(row(errors.estimate(at), metric=f"RMSE {alignment}", unit="Å", **where))
        armse = errors.estimate(at, cumulative=True)
        rows.append(row(armse, metric=f"ARMSE {alignment}", unit="Å", **where))
        if with_sum and alignment == "raw":
            rows.append(
                row(_without_mean(armse, system), metric="ARMSE raw, sum", unit="Å", **where)
            )
    errors = rolled.pooled("com")
    others = {name: trivial[name].pooled("com") for name in trivial}
    for cumulative, metric in ((False, "RMSE com"), (True, "ARMSE com")):
        if not cumulative and errors.counts[at] < FEWEST:
            continue
        name, best = best_of(others, at, cumulative)
        for label, other in (("persistence", others["persistence"]), ("best trivial", best)):
            ratio = errors.estimate(at, cumulative, relative_to=other)
            note = f"best trivial: {name}" if label == "best trivial" else ""
            columns = {"note": note} if note else {}
            rows.append(row(ratio, metric=f"{metric} / {label}", **where, **columns))
    if oracle is not None and oracle.index(frames) < oracle.reached:
        same = oracle.pooled("com")
        if same.counts[at] and errors.counts[at]:
            ratio = errors.estimate(at, relative_to=same)
            rows.append(row(ratio, metric="RMSE com / oracle", **where))
    return rows


def _without_mean(armse: Estimate, system: System) -> Estimate:
    root = float(np.sqrt(len(system.numbers)))
    bounds = [None if bound is None else bound * root for bound in (armse.low, armse.high)]
    return Estimate(armse.value * root, bounds[0], bounds[1], armse.n)


def best_of(
    trivial: dict[str, PooledErrors], at: int, cumulative: bool = False
) -> tuple[str, PooledErrors]:
    """The trivial predictor of least error at, or up to, a frame."""
    values = {name: errors.rmse(cumulative)[at] for name, errors in trivial.items()}
    name = min(values, key=lambda key: (not np.isfinite(values[key]), values[key]))
    return name, trivial[name]


def _crossing_rows(
    row: Callable[..., Row], system: System, rolled: RolledErrors, still: RolledErrors, note: str
) -> list[Row]:
    """When RMSE com first exceeds a share of persistence's; null, with a note, where it never does.

    None where the reference lacks frames, since a crossing there would go unseen.
    """
    errors, reference = rolled.pooled("com"), still.pooled("com")
    counts = errors.counts[: rolled.reached]
    if not counts.size or counts.min() < FEWEST:
        return []
    times = system.interval_fs * rolled.frames[: len(counts)].astype(np.float64)
    rows = []
    for share in CROSSINGS:
        when = errors.crossing(share, reference, times)
        metric = f"RMSE com exceeds {share:g} x persistence"
        said = note if np.isfinite(when.value) else not_within(note, times[-1])
        rows.append(row(when, metric=metric, unit="fs", note=said))
    return rows


def measure_ensemble(
    part: str,
    candidate: Candidate,
    past: Past,
    truth: Truth,
    reach: Int,
    horizons: Sequence[int],
    interval_fs: float,
    samples: int,
    context: Context,
    *,
    variant: Variant = "unknown",
    note: str = "",
) -> list[Row]:
    """ARMSE of K samples from each start: one, the mean over them, and their mean as a predictor.

    The last minimises the error and is not a physical structure.
    """
    system = past.system
    if samples < 2 or variant not in candidate.random or variant not in candidate.variants(system):
        return []
    stride = stride_of(candidate, system, interval_fs)
    trivial = trivial_errors(past, truth, reach, stride, context)
    context.report(f"ensemble of {samples}")
    rolled = roll_errors(candidate, past, variant, truth, reach, stride, context, samples=samples)
    row = partial(row_of(part, "P1", system, candidate, variant), note=note)
    rows = []
    for frames in horizons:
        at = rolled.index(frames)
        if at >= rolled.reached or not rolled.pooled("com").counts[: at + 1].any():
            continue
        where = horizon(system, int(rolled.frames[at]))
        others = {name: errors.pooled("com") for name, errors in trivial.items()}
        name, best = best_of(others, at, cumulative=True)
        for alignment in ("raw", "com"):
            mean = rolled.pooled_mean(alignment).estimate(at, cumulative=True)
            each = [rolled.pooled(alignment, k) for k in range(samples)]
            of_each = mean_of(each, at, cumulative=True)
            rows += [
                row(
                    mean,
                    metric=f"ARMSE {alignment}, ensemble mean of {samples}",
                    unit="Å",
                    **{**where, "note": "not a physical structure"},
                ),
                row(of_each, metric=f"ARMSE {alignment}, mean over {samples}", unit="Å", **where),
            ]
        ratio = rolled.pooled_mean("com").estimate(at, True, relative_to=best)
        columns = {**where, "note": f"best trivial: {name}"}
        metric = f"ARMSE com, ensemble mean of {samples} / best trivial"
        rows.append(row(ratio, metric=metric, **columns))
    means = {f"{a}_ensemble_mean": rolled.pooled_mean(a) for a in ALIGNMENTS}
    curves = _curves(rolled.frames, system, means)
    data = system.data
    save_artefact(
        context.folder, f"{part}-ensemble", system.name, candidate.name, variant, data, **curves
    )
    return rows


def _curves(frames: Int, system: System, errors: dict[str, PooledErrors]) -> dict[str, Any]:
    kept = np.unique(np.linspace(0, len(frames) - 1, CURVE_POINTS).round().astype(np.int64))
    curves: dict[str, Any] = {"frames": frames[kept], "time_fs": frames[kept] * system.interval_fs}
    for key, pooled in errors.items():
        curves["n_starts"] = pooled.counts[kept]
        for cumulative, quantity in ((False, "rmse"), (True, "armse")):
            found = [pooled.estimate(int(at), cumulative) for at in kept]
            for name in ("value", "low", "high"):
                values = [getattr(estimate, name) for estimate in found]
                column = f"{quantity}_{key}" + ("" if name == "value" else f"_{name}")
                curves[column] = np.array([np.nan if v is None else v for v in values])
    return curves


def _save_curves(
    part: str,
    candidate: Candidate,
    variant: str,
    past: Past,
    truth: Truth,
    rolled: RolledErrors,
    context: Context,
) -> None:
    system = past.system
    curves = _curves(rolled.frames, system, {a: rolled.pooled(a) for a in ALIGNMENTS})
    save_artefact(context.folder, part, system.name, candidate.name, variant, system.data, **curves)
    shown = min(len(rolled.frames), SHOWN_FRAMES)
    start = past.positions[0, -1].astype(np.float32)[None]
    common = {
        "numbers": system.numbers,
        "time_fs": np.concatenate([[0.0], rolled.frames[:shown] * system.interval_fs]),
        "bonds": system.bonds.pairs,
        "from_part": part,
    }
    name = system.name
    if np.isfinite(rolled.first[:shown]).all():
        positions = np.concatenate([start, rolled.first[:shown]])
        folder, model = context.folder, candidate.name
        save_artefact(
            folder, "trajectory", name, model, variant, system.data, positions=positions, **common
        )
    reference = [truth(np.array([0]), int(frame))[0] for frame in rolled.frames[:shown]]
    if np.isfinite(reference).all():
        positions = np.concatenate([start, np.asarray(reference, dtype=np.float32)])
        save_artefact(
            context.folder,
            "trajectory",
            name,
            "reference",
            "",
            system.data,
            positions=positions,
            **common,
        )
