"""P2, stability: how long a simulation keeps its molecule, and how well it keeps energy.

A bond off by more than 0.5 Å ends a replica (shared.metrics.stability); every saved frame is looked
at. MD17 and isomers: starts are test frames of the surrogate, moved on as the model does best.
3BPA: test frames of the temperature, or torsion scans at 300 K, with Maxwell-Boltzmann velocities
(neither momentum nor rotation, 3N − 6 degrees of freedom), as NVE and as NVT.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.data.splits import FrameRange, evenly_spaced_starts
from shared.evaluation.artefacts import save_artefact
from shared.evaluation.candidates import Candidate, Variant
from shared.evaluation.long_run import ENERGIES, LongRun, long_run, run_folder
from shared.evaluation.p1_accuracy import row_of
from shared.evaluation.p1_s2l import load_series
from shared.evaluation.results import Row
from shared.evaluation.rollout import Context, Skip, stride_of
from shared.evaluation.statistics import Estimate, bootstrap, share
from shared.evaluation.systems import (
    HISTORY,
    SETS,
    Series,
    Starts,
    System,
    isomers_under_test,
    three_bpa_starts,
)
from shared.evaluation.trivial import TRIVIAL
from shared.kinetics import maxwell_boltzmann
from shared.metrics.stability import bond_deviation
from shared.state import PhaseState
from shared.units import FS_PER_PS

__all__ = ["Stability", "measure", "simulated"]

TRACES = 4  # replicas whose traces are kept


@dataclass(frozen=True)
class Stability:
    """Long simulations.

    Args:
        models: those to measure; null: all of the evaluation.
        systems: those to measure on; null: all of the evaluation.
        replicas: how many, each from a frame of its own.
        length_ps: of each.
        interval_fs: between saved frames.
    """

    models: list[str] | None = None
    systems: list[str] | None = None
    replicas: int = 8
    length_ps: float = 100.0
    interval_fs: float = 5.0

    def quick(self) -> "Stability":
        """What a minute allows."""
        return Stability(self.models, self.systems, 2, 0.1, self.interval_fs)


def simulated(
    candidate: Candidate,
    on: Series | Starts,
    variant: Variant,
    settings: Stability,
    context: Context,
) -> LongRun:
    """The simulation that stability and distributions are read from."""
    system = on.system
    if isinstance(on, Starts):
        chosen = np.linspace(0, len(on.positions) - 1, settings.replicas).round().astype(int)
        positions = on.positions[chosen]
        velocities = maxwell_boltzmann(
            system.numbers,
            system.temperature_K,
            np.random.default_rng(context.seed),
            settings.replicas,
            remove_momentum=True,
            remove_rotation=True,
            dof=3 * len(system.numbers) - 6,
            positions=positions,
        )
        start = PhaseState(system.numbers, positions, velocities)
    else:
        room = FrameRange(max(on.test.start, HISTORY), on.test.stop)
        rows = evenly_spaced_starts(room, settings.replicas, 0)
        start = candidate.start(on.past(rows), variant, 1, context.seed)
    propagator = candidate.propagator(system, variant)
    interval = stride_of(candidate, system, settings.interval_fs) * system.interval_fs
    run = run_folder(
        context.folder / "runs",
        f"{system.name}-{candidate.name}@{variant}",
        settings.replicas,
        settings.length_ps,
        interval,
        context.seed,
        candidate.identity,
        _checksum(start, system),
    )
    n_frames = round(settings.length_ps * FS_PER_PS / interval)
    return long_run(
        propagator,
        start,
        system.bonds,
        n_frames,
        interval,
        run,
        seed=context.seed,
        report=context.report,
        not_before=context.not_before,
    )


def _checksum(start: PhaseState, system: System) -> str:
    """Of the positions that a simulation begins from, and of the bonds that it is held to; the rest
    of its start is computed from what the folder is named after. Rounded, for other machines."""
    found = hashlib.sha256()
    for values in (system.bonds.pairs, system.bonds.lengths, start.positions):
        found.update(np.round(np.asarray(values, dtype=np.float64), 4).tobytes())
    return found.hexdigest()


def measure(candidate: Candidate, name: str, settings: Stability, context: Context) -> list[Row]:
    """Rows of one candidate on one system."""
    if candidate.name in TRIVIAL or candidate.name.endswith("oracle"):
        raise Skip(f"{candidate.name} makes no simulations of its own")
    rows: list[Row] = []
    for on in _subjects(name, context):
        system = on.system
        variants = candidate.variants(system)
        # With a thermostat the friction of the start is soon forgotten: one variant is enough.
        if system.thermostat == "nose-hoover":
            variants = variants[:1]
        elif isinstance(on, Starts):  # where velocities are drawn there is no past to fit
            variants = tuple(v for v in variants if v != "fitted")
        for variant in variants:
            run = simulated(candidate, on, variant, settings, context)
            rows += _rows(candidate, system, variant, run)
            _save(candidate, system, variant, run, context)
        if isinstance(on, Starts):
            largest = float(bond_deviation(on.positions, system.bonds).max())
            row = row_of("stability", "P2", system, candidate)
            columns = {"metric": "largest bond deviation", "unit": "Å", "n": len(on.positions)}
            rows.append(row(largest, model="reference", **columns))
    return rows


def _subjects(name: str, context: Context) -> list[Series] | list[Starts]:
    """What a system of any data set stands for."""
    if name in SETS["3bpa"]:
        return [three_bpa_starts(name)]
    if name in SETS["isomers"]:
        return isomers_under_test(context.references.isomers)[0]
    return [load_series(name, context)]


def _rows(candidate: Candidate, system: System, variant: str, run: LongRun) -> list[Row]:
    """Rows of one run. The two extrema have no interval: drawing the same replicas anew never shows
    one that is beyond the extreme, so the bootstrap says nothing about it.
    """
    lost, largest = run.outcome()
    length = float(run.times_ps[-1])
    capped = np.minimum(lost, length)
    row = row_of("stability", "P2", system, candidate, variant)
    where = {"horizon": f"{length:g} ps", "horizon_fs": length * FS_PER_PS}
    median = bootstrap(capped, lambda drawn: np.median(drawn, axis=1))
    rows = [
        row(share(np.isinf(lost)), metric="stable share", **where),
        row(median, metric="median stable time", unit="ps", **where),
        row(capped.min(), metric="shortest stable time", unit="ps", n=len(lost), **where),
        row(largest.max(), metric="largest bond deviation", unit="Å", n=len(lost), **where),
    ]
    kept = np.isinf(lost)
    kelvin = run.temperatures[..., 0].astype(np.float64)
    if kept.any() and np.isfinite(kelvin[:, kept]).all():
        # Counted as the system counts: all 3N of MD17, else those of a molecule at rest.
        n_atoms = len(system.numbers)
        scale = 1.0 if system.thermostat == "nose-hoover" else 3 * n_atoms / (3 * n_atoms - 6)
        means, spreads = scale * kelvin[:, kept].mean(axis=0), scale * kelvin[:, kept].std(axis=0)
        rows += [
            row(bootstrap(means), metric="mean temperature", unit="K", **where),
            row(bootstrap(spreads), metric="spread of temperature", unit="K", **where),
        ]
    conserved = run.energies[..., ENERGIES.index("conserved")]
    if kept.any() and np.isfinite(conserved[:, kept]).all() and len(conserved) > 2:
        slopes = np.polyfit(run.times_ps, conserved[:, kept], 1)[0]
        drift: Estimate = bootstrap(1000.0 * slopes / len(system.numbers))
        size = bootstrap(np.abs(1000.0 * slopes) / len(system.numbers))
        unit = "meV/atom/ps"
        rows += [
            row(drift, metric="drift of the conserved energy", unit=unit, **where),
            row(size, metric="size of the drift", unit=unit, **where),
        ]
    return rows


def _save(
    candidate: Candidate, system: System, variant: str, run: LongRun, context: Context
) -> None:
    lost, _ = run.outcome()
    times: npt.NDArray[np.float64] = run.times_ps
    some = np.unique(np.linspace(0, len(times) - 1, 2000).astype(int))
    arrays = {
        "time_ps": times[some],
        "surviving": (lost[None] > times[some, None]).mean(axis=1),
        "stable_ps": np.minimum(lost, times[-1]),
        "survived": np.isinf(lost),
        "temperature": run.temperatures[some, :TRACES, 0],
        "temperature_mean": np.nan_to_num(run.temperatures[some, :, 0]).mean(axis=1),
    }
    if np.isfinite(run.energies[0]).any():
        arrays["potential"] = run.energies[some, :TRACES, 0]
        arrays["total"] = run.energies[some, :TRACES, 1]
    names = (system.name, candidate.name, variant, system.data)
    save_artefact(context.folder, "stability", *names, **arrays)
    if system.thermostat == "none":
        shown = slice(0, 1000)
        save_artefact(
            context.folder,
            "trajectory",
            *names,
            numbers=system.numbers,
            positions=run.frames[shown, 0],
            time_fs=times[shown] * FS_PER_PS,
            bonds=system.bonds.pairs,
            from_part="stability",
        )
