"""python -m trajgen.sample --from FILE: a frame in, a trajectory out.

The command line is the signature of `sample`. Nothing heavy is imported before the arguments are
read, and no file is written before everything that can be checked has been.

Exit codes: 0 done; 2 bad input (one line, nothing written); 1 anything else: interrupted by Ctrl-C,
a disk that is full (what was written stays valid, `--resume` goes on), or no replica left whole.
"""

import sys
from pathlib import Path

from shared.command import DEVICE, FILES, FRAME, LENGTH, REPLICAS, Options, run_command
from shared.errors import InputError
from shared.run import Job, Run, check_arguments, checked_device, common_settings

__all__ = ["Run", "main", "sample"]

ANGULAR_MOMENTUM = ("free", "keep")
SAMPLERS = ("heun", "euler-maruyama", "predictor-corrector", "ode")

_SAME_TEMPERATURE = 0.03  # relative: a checkpoint's may be measured, on frames that fluctuate


def sample(
    source: str | Path,
    *,
    checkpoint: str | None = None,
    length_ps: float = 10.0,
    interval_fs: float | None = None,
    lag_fs: float | None = None,
    history_interval_fs: float | None = None,
    frame: int | None = None,
    replicas: int = 1,
    temperature: float | None = None,
    sampler: str | None = None,
    steps: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    angular_momentum: str | None = None,
    thermostat_fs: float | None = None,
    out: str | Path | None = None,
    format: str = "dcd",
    resume: bool = False,
    overwrite: bool = False,
    plot: bool = False,
    progress: bool = False,
) -> Run:
    """Generate a trajectory from a frame and write it.

    The same arguments give the same files, to the bit on one machine's CPU, whether the run was
    interrupted and resumed or not.

    Args:
        source: xyz, extxyz or pdb file with the start frame.
        checkpoint: name of a shipped generator, or a checkpoint folder. If one is shipped for the
            molecule (NAME-MOLECULE), that one is taken. None: the shipped one that was trained on
            the molecule.
        length_ps: length, rounded down to whole frames.
        interval_fs: time between frames, a multiple of the lag; None: the lag.
        lag_fs: time step of the model; None: the checkpoint's.
        history_interval_fs: time between consecutive frames of `source`; gives the velocities,
            where the file has none, and the acceleration.
        frame: frame to start from, from 0, negative from the end; None: the last.
        replicas: how many, each with velocities of its own where they are drawn.
        temperature: of drawn start velocities and of the thermostat, K; None: that of the
            training data.
        sampler: one of `SAMPLERS`; None: the checkpoint's.
        steps: network evaluations per lag; None: the checkpoint's.
        seed: of start velocities and noise.
        device: where the network runs, cpu or cuda.
        angular_momentum: "keep" to conserve it, or "free"; None:
            as the checkpoint was trained.
        thermostat_fs: relaxation time of a thermostat (stochastic velocity rescaling) at
            `temperature`; None: none.
        out: path of the outputs without ending; None: stem of `source`, in the current folder.
        format: one of `FORMATS`.
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
        lag=lag_fs,
        relaxation_time_of_the_thermostat=thermostat_fs,
    )
    if angular_momentum not in (None, *ANGULAR_MOMENTUM):
        raise InputError(f"angular momentum is free or keep, not {angular_momentum!r}")
    if sampler == "ode" and steps is not None:
        raise InputError("sampler ode takes as many evaluations as it needs; leave steps out")

    import logging

    import numpy as np

    from shared.choice import unfamiliar
    from shared.io import read_start
    from shared.start import degrees_of_freedom, far_from_trained, with_velocities
    from trajgen.load import (
        acceleration_interval,
        build,
        choose,
        choose_shipped,
        open_checkpoint,
    )

    if checkpoint is None:
        first = read_start(source, frame)
        opened = choose_shipped(first.numbers, first.positions[0])
    else:
        opened = open_checkpoint(checkpoint)
    history_fs = acceleration_interval(opened.config, lag_fs)
    start = read_start(source, frame, history_interval_fs, history_fs)
    chosen, molecule = choose(opened, start.numbers, start.positions[0])
    config = chosen.config
    special = " (fine-tuned for it)" if chosen.folder != opened.folder else ""
    trained, warnings = (
        config.temperature_K,
        [unfamiliar(config, start.numbers, start.positions[0])],
    )
    given = start.velocities is not None
    if temperature is not None and given and thermostat_fs is None:
        warnings.append("the file gives velocities; the temperature is not used")
    elif trained is not None and abs((temperature or trained) / trained - 1) > _SAME_TEMPERATURE:
        does = (
            "sets the start only" if thermostat_fs is None else "is what the thermostat drives at"
        )
        warnings.append(
            f"{temperature:g} K {does}; checkpoint {config.name} learned the dynamics "
            f"at {trained:g} K"
        )
    start, origin = with_velocities(start.replicate(replicas), config, temperature, seed)
    if history_interval_fs and history_fs and origin == "the file":
        origin += f", without the acceleration, which needs frames {history_fs:g} fs apart"
    dof = degrees_of_freedom(config, start.numbers, start.positions[0])
    if given:
        warnings.append(far_from_trained(start, config, dof))

    from shared.record import RunRecord
    from trajgen.rollout import Generator

    generator = Generator(
        build(chosen),
        config,
        lag_fs=lag_fs,
        sampler=sampler,
        steps=steps,
        keep_angular_momentum=None if angular_momentum is None else angular_momentum == "keep",
        thermostat_time_fs=thermostat_fs,
        thermostat_temperature_K=temperature,
        device=checked_device(device),
    )
    interval_fs = generator.lag_fs if interval_fs is None else float(interval_fs)
    generator.steps_per_frame(interval_fs)
    settings = {
        **common_settings(
            source,
            chosen,
            molecule=molecule,
            frame=frame,
            history_interval_fs=history_interval_fs,
            start_velocities=origin,
            seed=seed,
            replicas=replicas,
            frame_interval_fs=interval_fs,
        ),
        "lag_fs": generator.lag_fs,
        "sampler": generator.sampler,
        "steps": None if generator.sampler == "ode" else generator.steps,
        "angular_momentum": "keep" if generator.keep_angular_momentum else "free",
        "thermostat_fs": thermostat_fs,
    }
    if thermostat_fs is not None:
        settings["thermostat_temperature_K"] = generator.thermostat_temperature_K
    job = Job(
        "trajgen.sample",
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
    )
    reference = np.array(job.kept.get("reference", start.positions[0]))
    compile = job.kept.get("compiled")
    if compile is None:
        compile = generator.worth_compiling(start, job.n_frames_asked, interval_fs)
    generator.reference, generator.compile = reference, compile
    lines = [(logging.INFO, f"{molecule}, checkpoint {config.name}{special}, velocities: {origin}")]
    lines += [(logging.WARNING, f"warning: {text}") for text in warnings if text]
    return job.carry_out(
        lambda state, n_frames: generator.propagate(state, n_frames, interval_fs, seed=seed),
        RunRecord(start.numbers, reference, replicas, dof, "at every lag", generator.stopped_fs),
        config,
        molecule=molecule,
        extra=lambda: {"reference": reference.tolist(), "compiled": compile},
        lines=lines,
        target_K=trained,
        progress=progress,
    )


# ---- command line --------------------------------------------------------------------------------

_OPTIONS: Options = {
    "start": {
        **FRAME,
        "history-interval-fs": (
            float,
            "FS",
            "time between consecutive frames of FILE, fs: gives the velocities, if FILE has none, "
            "and the acceleration (default: no history)",
        ),
        "temperature": (
            float,
            "K",
            "of drawn start velocities, K, and of the thermostat, if there is one; else sets the "
            "start only (default: the checkpoint's)",
        ),
        **REPLICAS,
        "seed": (int, "N", "of start velocities and noise"),
    },
    "model": {
        "checkpoint": (
            str,
            "NAME",
            "name of a shipped generator, or a folder; NAME-MOLECULE is taken where it is shipped "
            "(default: the shipped one that was trained on the molecule)",
        ),
        "lag-fs": (float, "FS", "time step of the model, fs (default: the checkpoint's)"),
        "sampler": (SAMPLERS, None, "how a step is sampled (default: the checkpoint's)"),
        "steps": (int, "N", "network evaluations per lag (default: the checkpoint's)"),
        "angular-momentum": (
            ANGULAR_MOMENTUM,
            None,
            "keep: conserve it (default: the checkpoint's)",
        ),
        "thermostat-fs": (
            float,
            "FS",
            "relaxation time of a thermostat, stochastic velocity rescaling at --temperature, fs "
            "(default: none)",
        ),
        **DEVICE,
    },
    "output": {
        **LENGTH,
        "interval-fs": (
            float,
            "FS",
            "time between frames, fs, a multiple of the lag (default: the lag)",
        ),
        **FILES,
    },
}


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    description = "Generate a molecular trajectory from a frame."
    return run_command("trajgen.sample", description, sample, _OPTIONS, argv)


if __name__ == "__main__":
    sys.exit(main())
