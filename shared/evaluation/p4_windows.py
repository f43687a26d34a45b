"""P4, short windows: 20 frames, 5 fs apart, after a history; ADE and FDE, unaligned, all atoms.

Comparable in form with GeoTDM (Han et al., NeurIPS 2024); on surrogates, with a history that is
0.5 fs fine, not in figures. Reported apart, as "GeoTDM's split": starts in the last fifth of the
frames, with a history of ten frames as far apart as those predicted, from which velocities are
poor and the friction does not show.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.data.splits import FrameRange, contiguous_split, evenly_spaced_starts
from shared.evaluation.artefacts import save_artefact
from shared.evaluation.candidates import Candidate, Variant
from shared.evaluation.oracles import Oracle
from shared.evaluation.p1_accuracy import row_of
from shared.evaluation.p1_s2l import load_series, some_starts
from shared.evaluation.results import Row
from shared.evaluation.rollout import Context, Skip, stride_of
from shared.evaluation.statistics import bootstrap
from shared.evaluation.systems import Past, Series, System

__all__ = ["GEOTDM", "Windows", "measure"]

# ADE and FDE in Å of GeoTDM on real MD17, from a secondary source: indicative.
GEOTDM = {
    "aspirin": (0.107, 0.193),
    "benzene": (0.023, 0.039),
    "ethanol": (0.115, 0.209),
    "malonaldehyde": (0.107, 0.176),
    "naphthalene": (0.064, 0.087),
    "salicylic": (0.083, 0.120),
    "toluene": (0.083, 0.121),
    "uracil": (0.074, 0.099),
}


OWN_SPLIT = ", GeoTDM's split"
GIVEN = 10  # frames of its history


@dataclass(frozen=True)
class Windows:
    """Short windows.

    Args:
        models: those to measure; null: all of the evaluation.
        systems: those to measure on; null: all of the evaluation.
        starts: how many windows.
        samples: of each window; a variant that is deterministic gives one.
        frames: predicted.
        interval_fs: between them.
    """

    models: list[str] | None = None
    systems: list[str] | None = None
    starts: int = 20
    samples: int = 5
    frames: int = 20
    interval_fs: float = 5.0

    def quick(self) -> "Windows":
        """What a minute allows."""
        return Windows(self.models, self.systems, 3, 2, 4, self.interval_fs)


def measure(candidate: Candidate, name: str, settings: Windows, context: Context) -> list[Row]:
    """Rows of one candidate on one molecule."""
    series = load_series(name, context)
    system = series.system
    variants = candidate.variants(system)
    if not variants:
        raise Skip(f"{candidate.name} has no trajectories on {system.data}")
    starts = some_starts(series.test, settings.starts)
    past = series.past(starts)
    rows: list[Row] = []
    for variant in variants:
        found = _distances(candidate, series, starts, past, variant, settings, context)
        if not np.isfinite(found).all():
            continue  # a stored oracle that does not go so far
        row = _row(candidate, system, variant, settings)
        rows += _rows(row, found, settings)
        save_artefact(
            context.folder,
            "windows",
            system.name,
            candidate.name,
            variant,
            system.data,
            time_fs=row.keywords["horizon_fs"] * np.linspace(0, 1, settings.frames + 1)[1:],
            displacement=found.mean(axis=(0, 1)),
        )
    if not isinstance(candidate, Oracle):  # its files have starts of their own
        starts, past = _coarse(series, settings)
        for variant in variants:
            if variant != "fitted":
                found = _distances(candidate, series, starts, past, variant, settings, context)
                row = _row(candidate, system, variant, settings)
                rows += _rows(row, found, settings, OWN_SPLIT)
    if candidate.name == "persistence" and name in GEOTDM:
        row = row_of("windows", "P4", system, candidate)
        note = "not comparable: published on real MD17, secondary source"
        for metric, value in zip(("ADE", "FDE"), GEOTDM[name], strict=True):
            columns = {"unit": "Å", "horizon": "100 fs", "horizon_fs": 100.0, "note": note}
            rows.append(row(value, metric=metric, model="GeoTDM (published)", **columns))
    return rows


def _coarse(series: Series, settings: Windows) -> tuple[npt.NDArray[np.int64], Past]:
    """Starts in the last fifth of the frames, and a past that is as coarse as the prediction."""
    system = series.system
    stride = system.frames_in(settings.interval_fs, "windows.interval_fs")
    test = contiguous_split(len(series)).test
    room = FrameRange(test.start + GIVEN * stride, test.stop)
    starts = evenly_spaced_starts(room, settings.starts, settings.frames * stride)
    fine = series.past(starts, (GIVEN - 1) * stride)
    coarse = replace(system, interval_fs=settings.interval_fs)
    return starts, replace(fine, system=coarse, positions=fine.positions[:, ::stride])


def _distances(
    candidate: Candidate,
    series: Series,
    starts: npt.NDArray[np.int64],
    past: Past,
    variant: Variant,
    settings: Windows,
    context: Context,
) -> npt.NDArray[np.float64]:
    """Mean distance over atoms [S, K, frames], Å; NaN from where the candidate ends."""
    system = series.system
    samples = settings.samples if variant in candidate.random else 1
    stride, every = _spacing(candidate, system, settings)
    state = candidate.start(past, variant, samples, context.seed)
    frames = candidate.propagator(system, variant).propagate(
        state, settings.frames * every, stride * system.interval_fs, seed=context.seed
    )
    found = np.full((len(starts), samples, settings.frames), np.nan)
    for t, now in enumerate(frames, start=1):
        if t % every == 0:
            truth = series.truth(starts, t * stride)
            predicted = now.positions.reshape(len(starts), samples, *truth.shape[1:])
            off = np.linalg.norm(predicted - truth[:, None], axis=-1)
            found[:, :, t // every - 1] = off.mean(axis=-1)
    return found


def _spacing(candidate: Candidate, system: System, settings: Windows) -> tuple[int, int]:
    """Frames of the reference in a step of the roll-out, and steps in a frame that is judged."""
    stride = stride_of(candidate, system, settings.interval_fs)
    wished = system.frames_in(settings.interval_fs, "windows.interval_fs")
    return stride, max(1, wished // stride)


def _row(candidate: Candidate, system: System, variant: str, settings: Windows) -> Any:
    """`row_of` with the columns that all rows of a window share."""
    length = settings.frames * float(np.prod(_spacing(candidate, system, settings)))
    length *= system.interval_fs
    return partial(
        row_of("windows", "P4", system, candidate, variant),
        horizon=f"{length:g} fs",
        horizon_fs=length,
        unit="Å",
        note="surrogate: not comparable with figures published on MD17",
    )


def _rows(
    row: Any, distances: npt.NDArray[np.float64], settings: Windows, split: str = ""
) -> list[Row]:
    """ADE and FDE, over the samples and, where there are several, of the best of them."""
    of = {"ADE": distances.mean(axis=-1), "FDE": distances[..., -1]}
    best = f", best of {settings.samples}"
    found = []
    for metric, each in of.items():
        found.append(row(bootstrap(each.mean(axis=1)), metric=f"{metric}{split}"))
        if each.shape[1] > 1:
            found.append(row(bootstrap(each.min(axis=1)), metric=f"{metric}{best}{split}"))
    return found
