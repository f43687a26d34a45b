"""python -m forcefield.simulate --from FILE: a frame in, molecular dynamics out.

The command line is the signature of `simulate`. Nothing heavy is imported before the arguments are
read, and no file is written before everything that can be checked has been.

Exit codes: 0 done; 2 bad input (one line, nothing written); 1 anything else: interrupted by Ctrl-C,
a disk that is full (what was written stays valid, `--resume` goes on), or no replica left whole.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.command import DEVICE, FILES, FRAME, LENGTH, REPLICAS, Options, run_command
from shared.errors import InputError
from shared.run import Job, Run, check_arguments, checked_device, common_settings

if TYPE_CHECKING:
    from forcefield.propagator import Ensemble, ForceFieldPropagator
    from shared.state import PhaseState

__all__ = ["ENSEMBLES", "Run", "main", "simulate"]

ENSEMBLES = ("nve", "nose-hoover", "nose-hoover-chain", "bussi", "langevin", "md17")
DTYPES = ("float32", "float64")
WATCHES = ("frame", "step")

_MD17_KELVIN = 500.0  # over all 3N degrees of freedom
_WHOLE = 0.05  # of the kinetic energy: above it drift and rotation are worth a word
_ROOM = 300.0  # K, where a checkpoint has no temperature of its own
_STEPS_PER_FRAME = 10
_GIVEN = "the file gives velocities"
_COMPILE_ABOVE = 3000  # time steps: below, compiling costs more than it saves


def simulate(
    source: str | Path,
    *,
    checkpoint: str | None = None,
    ensemble: str | None = None,
    temperature: float | None = None,
    timestep_fs: float | None = None,
    length_ps: float = 10.0,
    interval_fs: float | None = None,
    thermostat_wavenumber: float | None = None,
    thermostat_fs: float | None = None,
    history_interval_fs: float | None = None,
    frame: int | None = None,
    replicas: int = 1,
    seed: int = 0,
    device: str = "cpu",
    dtype: str = "float32",
    watch: str = "frame",
    out: str | Path | None = None,
    format: str = "dcd",
    resume: bool = False,
    overwrite: bool = False,
    plot: bool = False,
    progress: bool = False,
) -> Run:
    """Integrate the equations of motion from a frame, and write the trajectory and its energies.

    The same arguments give the same files, to the bit on one machine's CPU, whether the run was
    interrupted and resumed or not.

    Args:
        source: xyz, extxyz or pdb file with the start frame.
        checkpoint: name of a shipped force field, or a checkpoint folder; None: the shipped one
            that was trained on the molecule.
        ensemble: one of `ENSEMBLES`; md17 is nose-hoover as MD17 was made: 500 K over all 3N
            degrees of freedom, 1700 1/cm. None: the checkpoint's, else bussi.
        temperature: of drawn start velocities and of the thermostat, K; None: that of the training
            data, else 300 K.
        timestep_fs: None: the checkpoint's, else 0.5 fs.
        length_ps: length, rounded down to whole frames.
        interval_fs: time between frames, a multiple of the time step; None: ten of them.
        thermostat_wavenumber: of Nosé-Hoover thermostats, 1/cm; None: 1700.
        thermostat_fs: relaxation time of bussi and langevin; None: 500 fs.
        history_interval_fs: time between consecutive frames of `source`; gives the velocities,
            where the file has none, from a pair of frames and the forces.
        frame: frame to start from, from 0, negative from the end; None: the last.
        replicas: how many, each with velocities of its own where they are drawn.
        seed: of start velocities and thermostat.
        device: where the network runs, cpu or cuda.
        dtype: its precision, one of `DTYPES`; the state is float64.
        watch: when bonds are looked at, one of `WATCHES`.
        out: path of the outputs without ending; None: stem of `source`, in the current folder.
        format: one of `shared.run.FORMATS`.
        resume: go on with a run of the same arguments, that may only be longer now.
        overwrite: replace the outputs of an earlier run.
        plot: write a PNG with temperature, bond deviation and RMSD to the start.
        progress: show a progress bar on a terminal.

    Returns:
        the files written and how the run went. It stops early if no replica is whole.

    Raises:
        InputError: something given cannot be used; nothing has been written.
        OSError: the disk is full, or failed; what was written is valid.
        KeyboardInterrupt: likewise.
    """
    check_arguments(
        replicas=replicas,
        seed=seed,
        resume=resume,
        overwrite=overwrite,
        length=length_ps,
        interval_between_frames=interval_fs,
        time_step=timestep_fs,
        temperature=temperature,
        wavenumber_of_the_thermostat=thermostat_wavenumber,
        relaxation_time_of_the_thermostat=thermostat_fs,
    )
    for what, value, known in (
        ("ensemble", ensemble, (None, *ENSEMBLES)),
        ("dtype", dtype, DTYPES),
        ("watch", watch, WATCHES),
    ):
        if value not in known:
            choices = ", ".join(name for name in known if name)
            raise InputError(f"{what} {value!r} is not known; choose one of {choices}")

    import logging
    from dataclasses import replace

    import numpy as np
    from ase import Atoms

    from forcefield.load import build, choose, open_checkpoint, types_of
    from shared.choice import unfamiliar
    from shared.io import read_start
    from shared.start import (
        degrees_of_freedom,
        far_from_trained,
        share_of_the_whole,
        with_velocities,
    )

    start, chosen_for = read_start(source, frame, history_interval_fs), ""
    if checkpoint is None:
        opened, trained_on = choose(start.numbers, start.positions[0])
        chosen_for = f" (trained on {trained_on})"
    else:
        opened = open_checkpoint(checkpoint)
    config, defaults = opened.config, opened.config.defaults
    types_of(config, start.numbers)
    warnings = [unfamiliar(config, start.numbers, start.positions[0])]
    molecule = str(Atoms(start.numbers).symbols.formula.format("hill"))
    ensemble = ensemble or str(defaults.get("ensemble", "bussi"))
    trained = config.temperature_K
    kelvin = temperature or trained or _ROOM
    if ensemble == "md17":
        config = replace(config, temperature_convention="3N")
        kelvin = temperature or _MD17_KELVIN
    dof = degrees_of_freedom(config, start.numbers, start.positions[0])
    timestep_fs = float(timestep_fs or defaults.get("timestep_fs", 0.5))
    interval_fs = float(interval_fs or _STEPS_PER_FRAME * timestep_fs)

    import torch

    from forcefield.energies import EnergyLog
    from forcefield.propagator import ForceFieldPropagator, forces_of
    from shared.record import RunRecord

    motion = _motion(ensemble, kelvin, thermostat_wavenumber, thermostat_fs)
    loaded = build(opened, getattr(torch, dtype), checked_device(device))
    propagator = ForceFieldPropagator(
        forces_of(loaded, compiled=False),
        ensemble=motion,
        timestep_fs=timestep_fs,
        dof=lambda _: dof,
        watch="step" if watch == "step" else "frame",
        device=device,
    )
    propagator.steps_per_frame(interval_fs)
    given = start.velocities is not None
    pair = None
    if history_interval_fs is not None:
        start, pair = _paired(start, propagator, source, frame, history_interval_fs)
    start, origin = with_velocities(start.replicate(replicas), config, kelvin, seed)
    origin = pair or origin

    settings = {
        **common_settings(
            source,
            opened,
            molecule=molecule,
            frame=frame,
            history_interval_fs=history_interval_fs,
            start_velocities=origin,
            seed=seed,
            replicas=replicas,
            frame_interval_fs=interval_fs,
        ),
        "timestep_fs": timestep_fs,
        "ensemble": str(motion),
        "degrees_of_freedom": propagator.dof(start.n_atoms),
        "dtype": dtype,
        "watch": watch,
    }
    job = Job(
        "forcefield.simulate",
        source,
        start,
        settings,
        length_ps=length_ps,
        interval_fs=interval_fs,
        out=out,
        format=format,
        resume=resume,
        overwrite=overwrite,
        plot=plot,
        beside=(".csv",),
    )
    reference = np.array(job.kept.get("reference", start.positions[0]))
    n_steps = job.n_frames_asked * propagator.steps_per_frame(interval_fs)
    compiled = bool(job.kept.get("compiled", n_steps > _COMPILE_ABOVE))
    propagator.reference, propagator.bath = reference, job.kept.get("bath_eV")
    propagator.forces = forces_of(loaded, compiled=compiled)
    log = EnergyLog(job.out.with_name(f"{job.out.name}.csv"), replicas, job.n_frames)

    def propagate(state: "PhaseState", n_frames: int) -> "Iterator[PhaseState]":
        frames = propagator.propagate(state, n_frames, interval_fs, seed=seed)
        return log.following(propagator, frames)

    kept = {"reference": reference.tolist(), "compiled": compiled}

    def extra() -> dict[str, Any]:
        assert propagator.observables is not None
        return {**kept, "bath_eV": propagator.observables.bath.tolist()}

    lines = [
        (
            logging.INFO,
            f"{molecule}, checkpoint {config.name}{chosen_for}, {motion}, time step "
            f"{timestep_fs:g} fs, velocities: {origin}",
        )
    ]
    if given and motion.kind == "nve":
        if temperature is not None:
            warnings.append(f"{_GIVEN}; the temperature is not used")
    elif trained is not None and kelvin > trained + 1e-6:
        warnings.append(
            f"{kelvin:g} K is hotter than the training data of checkpoint {config.name}, "
            f"{trained:g} K"
        )
    if given:
        warnings.append(far_from_trained(start, config, dof))
    share = share_of_the_whole(start) if given and config.temperature_convention == "3N-6" else 0.0
    if share > _WHOLE and motion.kind not in ("nve", "langevin"):
        warnings.append(
            f"{share:.0%} of the kinetic energy that the file gives is drift and rotation of the "
            "whole molecule, which the thermostat takes for heat; leave the velocities out of the "
            "file, or choose --ensemble langevin"
        )
    if given and replicas > 1 and motion.kind not in ("bussi", "langevin"):
        warnings.append(f"{_GIVEN}, so all replicas are the same")
    lines += [(logging.WARNING, f"warning: {text}") for text in warnings if text]
    return job.carry_out(
        propagate,
        RunRecord(
            start.numbers,
            reference,
            replicas,
            propagator.dof(start.n_atoms),
            f"at every {watch}",
            propagator.stopped_fs,
            timestep_fs,
        ),
        config,
        molecule=molecule,
        extra=extra,
        lines=lines,
        target_K=None if motion.kind == "nve" else kelvin,
        progress=progress,
    )


def _motion(
    name: str, kelvin: float, wavenumber: float | None, relaxation_fs: float | None
) -> "Ensemble":
    """The ensemble, refusing options that it does not have."""
    from forcefield.propagator import Ensemble

    nose_hoover, stochastic = "nose-hoover" in name or name == "md17", name in ("bussi", "langevin")
    if wavenumber is not None and not nose_hoover:
        raise InputError(f"ensemble {name} has no wavenumber; leave --thermostat-wavenumber out")
    if relaxation_fs is not None and not stochastic:
        raise InputError(f"ensemble {name} has no relaxation time; leave --thermostat-fs out")
    options: dict[str, Any] = {}
    if wavenumber is not None:
        options["wavenumber_per_cm"] = wavenumber
    if relaxation_fs is not None:
        options["relaxation_fs"] = relaxation_fs
    kind: Any = "nose-hoover" if name == "md17" else name
    return Ensemble(kind, None if name == "nve" else kelvin, **options)


def _paired(
    start: "PhaseState",
    propagator: "ForceFieldPropagator",
    source: str | Path,
    frame: int | None,
    interval_fs: float,
) -> "tuple[PhaseState, str | None]":
    """The start with velocities of a pair of frames and forces, unless the file has velocities.

    Returns:
        the start, and where its velocities come from if from there.
    """
    from shared.io import check_velocities, read_frames

    frames = read_frames(source)
    if frames.velocities is not None:
        return start, None
    index = range(frames.n_frames)[-1 if frame is None else frame]
    forces = None if frames.forces is None else frames.forces[index]
    start = propagator.from_pair(start, frames.positions[index - 1], interval_fs, forces)
    assert start.velocities is not None
    check_velocities(source, index, start.numbers, start.velocities)
    whose = "force field" if forces is None else "file"
    return start, f"a pair of frames and the forces of the {whose}"


# ---- command line --------------------------------------------------------------------------------

_OPTIONS: Options = {
    "start": {
        **FRAME,
        "history-interval-fs": (
            float,
            "FS",
            "time between consecutive frames of FILE, fs: gives the velocities, if FILE has none, "
            "from a pair of frames and the forces (default: no history)",
        ),
        "temperature": (
            float,
            "K",
            "of drawn start velocities and of the thermostat, K (default: the checkpoint's, else "
            f"{_ROOM:g})",
        ),
        **REPLICAS,
        "seed": (int, "N", "of start velocities and thermostat"),
    },
    "force field": {
        "checkpoint": (
            str,
            "NAME",
            "name of a shipped force field, or a folder (default: the shipped one that was trained "
            "on the molecule)",
        ),
        **DEVICE,
        "dtype": (DTYPES, None, "precision of the network; the state is float64"),
    },
    "dynamics": {
        "ensemble": (
            ENSEMBLES,
            None,
            "nve; nvt by Nosé-Hoover, a chain of three, Bussi or Langevin; md17: Nosé-Hoover at "
            "500 K over 3N degrees of freedom, 1700 1/cm (default: the checkpoint's, else bussi)",
        ),
        "timestep-fs": (float, "FS", "time step, fs (default: the checkpoint's, else 0.5)"),
        "thermostat-wavenumber": (
            float,
            "1/CM",
            "of Nosé-Hoover thermostats, 1/cm (default: 1700)",
        ),
        "thermostat-fs": (float, "FS", "relaxation time of bussi and langevin, fs (default: 500)"),
        "watch": (WATCHES, None, "look for broken bonds at every saved frame, or at every step"),
    },
    "output": {
        **LENGTH,
        "interval-fs": (
            float,
            "FS",
            "time between frames, fs, a multiple of the time step (default: ten of them)",
        ),
        **FILES,
    },
}


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    description = "Integrate the equations of motion of a molecule from a frame."
    return run_command("forcefield.simulate", description, simulate, _OPTIONS, argv)


if __name__ == "__main__":
    sys.exit(main())
