"""P4, short windows: 20 frames, 5 fs apart, after a history; ADE and FDE, unaligned, all atoms.

Comparable in form with GeoTDM (Han et al., NeurIPS 2024); on surrogates, with a history that is
0.5 fs fine, not in figures.
"""

from dataclasses import dataclass

import numpy as np

from shared.evaluation.artefacts import save_artefact
from shared.evaluation.candidates import Candidate
from shared.evaluation.p1_accuracy import row_of
from shared.evaluation.p1_s2l import load_series, some_starts
from shared.evaluation.results import Row
from shared.evaluation.rollout import Context, Skip, stride_of
from shared.evaluation.statistics import bootstrap

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


@dataclass(frozen=True)
class Windows:
    """Short windows.

    Args:
        models: those to measure; null: all of the evaluation.
        systems: those to measure on; null: all of the evaluation.
        starts: how many windows.
        samples: of each window; a model that is deterministic gives one.
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
    starts = some_starts(series.test, settings.starts)
    stride = stride_of(candidate, system, settings.interval_fs)
    wished = system.frames_in(settings.interval_fs, "windows.interval_fs")
    every = max(1, wished // stride)
    n_frames = settings.frames * every
    past, variants = series.past(starts), candidate.variants(system)
    if not variants:
        raise Skip(f"{candidate.name} has no trajectories on {system.data}")
    rows: list[Row] = []
    for variant in variants:
        samples = settings.samples
        state = candidate.start(past, variant, samples, context.seed)
        propagator = candidate.propagator(system, variant)
        shape = (len(starts), samples, settings.frames)
        distances = np.full(shape, np.nan)
        interval = stride * system.interval_fs
        for t, now in enumerate(propagator.propagate(state, n_frames, interval, seed=context.seed)):
            if (t + 1) % every:
                continue
            truth = series.truth(starts, (t + 1) * stride)
            predicted = now.positions.reshape(len(starts), samples, *truth.shape[1:])
            off = np.linalg.norm(predicted - truth[:, None], axis=-1).mean(axis=-1)
            distances[:, :, (t + 1) // every - 1] = off
        if not np.isfinite(distances).all():
            continue  # a stored oracle that does not go so far
        row = row_of("windows", "P4", system, candidate, variant)
        length = n_frames * interval
        where = {"horizon": f"{length:g} fs", "horizon_fs": length, "unit": "Å"}
        where["note"] = "surrogate: not comparable with figures published on MD17"
        for metric, per_sample in (
            ("ADE", distances.mean(axis=-1)),
            ("FDE", distances[..., -1]),
        ):
            rows += [
                row(bootstrap(per_sample.mean(axis=1)), metric=metric, **where),
                row(
                    bootstrap(per_sample.min(axis=1)),
                    metric=f"{metric}, best of {samples}",
                    **where,
                ),
            ]
        save_artefact(
            context.folder,
            "windows",
            system.name,
            candidate.name,
            variant,
            system.data,
            time_fs=interval * every * np.arange(1, settings.frames + 1),
            displacement=distances.mean(axis=(0, 1)),
        )
    if candidate.name == "persistence" and name in GEOTDM:
        row = row_of("windows", "P4", system, candidate)
        note = "not comparable: published on real MD17, secondary source"
        for metric, value in zip(("ADE", "FDE"), GEOTDM[name], strict=True):
            columns = {"unit": "Å", "horizon": "100 fs", "horizon_fs": 100.0, "note": note}
            rows.append(row(value, metric=metric, model="GeoTDM (published)", **columns))
    return rows
