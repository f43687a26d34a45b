"""Does it stay on the rails? Long simulations of 3BPA (P2), energy conservation, order of the step.

A simulation is kept as what is judged, every 5 fs: largest bond deviation from the mean of the
training frames, temperature, conserved quantity. Interrupted, it goes on from the last flush.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from _ff_models import MEV, SEED, STARTS, TEMPERATURES, Model, Settings, dof, reference, start
from _report import Row, Target

from forcefield.propagator import Ensemble, EnsembleKind, ForceFieldPropagator
from shared.data.torsion_scan import SCAN, SCAN_LABEL
from shared.metrics.stability import THRESHOLD, bond_deviation
from shared.units import FS_PER_PS
from shared.writers import ResumePoint, load_state, save_state

Float = npt.NDArray[np.float64]

TIMESTEP_FS = 0.5
INTERVAL_FS = 5.0
FLUSH_S = 30.0
KEPT = ("deviation", "temperature", "conserved")
TIMESTEPS_FS = (0.25, 0.5, 1.0)
ORDER_INTERVAL_FS = 1.0


@dataclass(frozen=True, eq=False)
class Run:
    """What is kept of a simulation, [T, R] each, NaN from where a replica broke.

    Attributes:
        deviation: of the bond that is off most, Å.
        temperature: K.
        conserved: eV.
        n_atoms: N.
    """

    deviation: npt.NDArray[Any]
    temperature: npt.NDArray[Any]
    conserved: npt.NDArray[Any]
    n_atoms: int

    @property
    def times_ps(self) -> Float:
        """[T]."""
        return INTERVAL_FS / FS_PER_PS * np.arange(1, len(self.deviation) + 1)

    def stable_ps(self) -> Float:
        """[R]: time of the first frame with a bond off by more than 0.5 Å; inf where none is."""
        broken = ~(self.deviation <= THRESHOLD)
        return np.where(broken.any(axis=0), self.times_ps[broken.argmax(axis=0)], np.inf)

    def drifts(self) -> Float:
        """Slope of a straight line through the conserved quantity, meV/atom/ps, [R]; NaN for a
        replica that broke."""
        t = self.times_ps - self.times_ps.mean()
        return np.asarray(MEV * (t @ self.conserved) / (t @ t) / self.n_atoms)


def weights_folder(model: Model, folder: Path) -> Path:
    """Where the simulations with these weights are kept."""
    checksum, *priors = model.weights.split()
    return folder / "-".join([model.name, checksum[:8], *priors])


def long_run(
    model: Model,
    system: str,
    ensemble: EnsembleKind,
    replicas: int,
    length_ps: float,
    settings: Settings,
) -> Run:
    """Simulate, or go on from where an interrupted simulation stopped, or read what is there.

    Raises:
        Skip: the model does not know an element, or there are too few starts.
    """
    n_frames = max(2, round(length_ps * FS_PER_PS / INTERVAL_FS))
    state = start(system, replicas)
    model.require(state.numbers)
    counted = dof(len(state.numbers))
    name = f"3bpa-{system}-{ensemble}-{counted}dof-{replicas}x{length_ps:g}ps"
    folder = weights_folder(model, settings.folder) / name
    kelvin = None if ensemble == "nve" else float(STARTS[system])
    bonds, frame = reference()
    propagator = ForceFieldPropagator(
        model.forces(settings.engine),
        ensemble=Ensemble(ensemble, kelvin),
        timestep_fs=TIMESTEP_FS,
        dof=dof,
        reference=frame,
    )
    done, mode = 0, "w+"
    if (folder / "run.state.npz").exists():
        point = load_state(folder / "run")
        state, done, mode = point.state, point.n_frames, "r+"
        propagator.bath = point.extra["bath_eV"]
    folder.mkdir(parents=True, exist_ok=True)
    shape = (n_frames, replicas, len(KEPT))
    series = np.lib.format.open_memmap(folder / "series.npy", mode, np.float64, shape)
    began = flushed = time.monotonic()
    first = done
    left = n_frames - done
    frames = propagator.propagate(state, left, INTERVAL_FS, seed=SEED) if left else ()
    for state in frames:
        seen, alive = propagator.observables, state.alive
        assert seen is not None
        assert alive is not None
        kept = (bond_deviation(state.positions, bonds), seen.temperature, seen.conserved)
        series[done] = np.where(alive[:, None], np.stack(kept, axis=-1), np.nan)
        done += 1
        if not alive.any():  # nothing more will change
            series[done:], done = np.nan, n_frames
        if time.monotonic() - flushed > FLUSH_S or done == n_frames:
            series.flush()
            bath = {"bath_eV": seen.bath.tolist()}
            save_state(folder / "run", ResumePoint(state, done, (), "npy", INTERVAL_FS, bath))
            flushed = time.monotonic()
            speed = (done - first) * INTERVAL_FS * replicas / FS_PER_PS / (flushed - began)
            print(
                f"  {model.name} {system} {ensemble}: {done * INTERVAL_FS / FS_PER_PS:g} of "
                f"{length_ps:g} ps, {speed:.2f} ps/s, {alive.sum()} of {replicas} whole",
                file=sys.stderr,
                flush=True,
            )
        if done == n_frames:
            break
    return Run(*np.moveaxis(series, -1, 0), n_atoms=len(state.numbers))


def stability(model: Model, system: str, settings: Settings) -> list[Row]:
    """How long every replica keeps its bonds, looked at every 5 fs; NVT beside NVE on request."""
    rows = []
    for ensemble in settings.ensembles:
        arguments = (settings.replicas, settings.stability_ps)
        judged = ensemble == "nve" and system in TEMPERATURES
        rows += stability_rows(model, system, ensemble, *arguments, settings, judged=judged)
    return rows


def stability_rows(
    model: Model,
    system: str,
    ensemble: EnsembleKind,
    replicas: int,
    length_ps: float,
    settings: Settings,
    *,
    judged: bool,
) -> list[Row]:
    """The rows of one simulation; `judged`: all replicas are required to last."""
    run = long_run(model, system, ensemble, replicas, length_ps, settings)
    lasted = run.stable_ps()
    capped = np.minimum(lasted, length_ps)
    scan = system == SCAN
    row = model.row(
        "P2",
        system,
        f"3BPA{f' {SCAN_LABEL}' if scan else ''}, {ensemble} {TIMESTEP_FS:g} fs",
        horizon=f"{ensemble}, {length_ps:g} ps",
        n=replicas,
        note=f"{SCAN}: {SCAN_LABEL}, {STARTS[SCAN]} K" if scan else "",
    )
    target = Target(at_least=1.0) if judged else None
    kelvin = run.temperature[len(run.temperature) // 5 :]
    whole = run.deviation[~np.logical_or.accumulate(~(run.deviation <= THRESHOLD), axis=0)]
    return [
        row("stable replicas", float(np.isinf(lasted).mean()), target=target, beside=True),
        row("stable time, median", float(np.median(capped)), unit="ps", beside=True),
        row("stable time, least", float(capped.min()), unit="ps", beside=True),
        row("largest bond deviation", float(whole.max(initial=0.0)), unit="Å"),
        row("temperature, mean", _finite(np.mean, kelvin), unit="K"),
        row("temperature, spread", _finite(np.std, kelvin), unit="K"),
    ]


def _finite(statistic: Any, values: npt.NDArray[Any]) -> float:
    values = values[np.isfinite(values)]
    return float(statistic(values)) if values.size else float("nan")


# --- energy -------------------------------------------------------------------------------------


def drift(model: Model, system: str, settings: Settings) -> list[Row]:
    """NVE drift over the long simulation; judged is the replica that drifts most."""
    arguments = (system, "nve", settings.replicas, settings.stability_ps, settings)
    run = long_run(model, *arguments)
    drifts = run.drifts()
    row = model.row(
        "P2",
        system,
        f"3BPA, nve {TIMESTEP_FS:g} fs, float32",
        unit="meV/atom/ps",
        horizon=f"{settings.stability_ps:g} ps",
        n=settings.replicas,
    )
    largest = float(np.abs(drifts).max())
    return [
        row("energy drift, largest of the replicas", largest, target=Target(at_most=0.05)),
        row("energy drift, mean", float(drifts.mean()), beside=True),
    ]


def order(model: Model, system: str, settings: Settings) -> list[Row]:
    """Rms error of the total energy at three time steps, from the same starts at the same times."""
    state = start(system, settings.replicas)
    model.require(state.numbers)
    n_frames = max(2, round(settings.order_ps * FS_PER_PS / ORDER_INTERVAL_FS))
    row = model.row(
        "P2",
        system,
        "3BPA, nve, float32",
        horizon=f"{settings.order_ps:g} ps",
        n=settings.replicas,
        beside=True,
    )
    rows, errors = [], []
    for timestep in TIMESTEPS_FS:
        propagator = ForceFieldPropagator(
            model.forces(settings.engine), timestep_fs=timestep, dof=dof, reference=reference()[1]
        )
        energies = []
        for _ in propagator.propagate(state, n_frames, ORDER_INTERVAL_FS, seed=SEED):
            assert propagator.observables is not None
            energies.append(propagator.observables.conserved)
        errors.append(_rms_about_mean(np.stack(energies)) / len(state.numbers))
        rows.append(row(f"energy error at {timestep:g} fs", MEV * errors[-1], unit="meV/atom"))
    return [*rows, row("order of the energy error", fitted_order(errors), target=Target(1.8, 2.2))]


def fitted_order(errors: Sequence[float]) -> float:
    """Slope of log error over log time step."""
    return float(np.polyfit(np.log(TIMESTEPS_FS), np.log(errors), 1)[0])


def _rms_about_mean(energies: Float) -> float:
    """Over times and replicas of [T, R], each replica about its own mean."""
    return float(np.sqrt(((energies - energies.mean(axis=0)) ** 2).mean()))
