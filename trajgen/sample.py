"""python -m trajgen.sample --from FILE: a frame in, a trajectory out.

The command line is the signature of `sample`. Nothing heavy is imported before the arguments are
read, and no file is written before everything that can be checked has been.

Exit codes: 0 done; 2 bad input (one line, nothing written); 1 anything else: interrupted by Ctrl-C,
a disk that is full (what was written stays valid, `--resume` goes on), or no replica left whole.
"""

import argparse
import inspect
import logging
import math
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from shared.errors import InputError

__all__ = ["Run", "main", "sample"]

FORMATS = ("dcd", "xtc", "h5", "extxyz")
ANGULAR_MOMENTUM = ("free", "keep")
SAMPLERS = ("heun", "euler-maruyama", "predictor-corrector", "ode")

_log = logging.getLogger("trajgen.sample")
_SERIAL_BELOW = 3000  # replicas x atoms²: one thread is fastest


@dataclass(frozen=True)
class Run:
    """What came of a run: the files, and the verdict that the sidecar holds too."""

    molecule: str
    checkpoint: str
    trajectories: list[Path]
    topology: Path
    sidecar: Path
    plot: Path | None
    stability: dict[str, Any]
    elapsed_s: float
    generated_ps: float

    @property
    def survived(self) -> bool:
        """Whether some replica is whole."""
        return bool(self.stability["n_whole"])

    def summary(self) -> str:
        """A few lines for people."""
        s = self.stability
        total, whole = s["n_replicas"], s["n_whole"]
        replicas = "1 replica" if total == 1 else f"{total} replicas"
        speed = f" ({self.generated_ps / self.elapsed_s:.2f} ps/s)" if self.generated_ps else ""
        lines = [
            f"{self.molecule}, checkpoint {self.checkpoint}: {replicas}, {s['run_ps']:g} ps in "
            f"{self.elapsed_s:.1f} s{speed}",
            f"stability: {whole} of {total} whole, largest bond deviation "
            f"{s['largest_bond_deviation_angstrom']:.2f} Å",
        ]
        lines += [f"  replica {r} broke at {t:g} ps" for r, t in s["broke_at_ps"].items()]
        if s["mean_temperature_K"] is not None:
            lines.append(
                f"temperature: {s['mean_temperature_K']:.0f} K on average "
                f"({s['degrees_of_freedom']} degrees of freedom)"
            )
        first, *others = self.trajectories
        names = f"{first} to {others[-1].name}" if others else str(first)
        written = [names, str(self.topology), str(self.sidecar)]
        lines.append("wrote " + ", ".join(written + ([str(self.plot)] if self.plot else [])))
        return "\n".join(lines)


def sample(
    source: str | Path,
    *,
    checkpoint: str = "md17s",
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
            molecule (NAME-MOLECULE), that one is taken.
        length_ps: length, rounded down to whole frames.
        interval_fs: time between frames, a multiple of the lag; None: the lag.
        lag_fs: time step of the model; None: the checkpoint's.
        history_interval_fs: time between consecutive frames of `source`; gives the velocities,
            where the file has none, and the acceleration.
        frame: frame to start from, from 0, negative from the end; None: the last.
        replicas: how many, each with velocities of its own where they are drawn.
        temperature: of drawn start velocities, K; None: that of the training data.
        sampler: one of `SAMPLERS`; None: the checkpoint's.
        steps: network evaluations per lag; None: the checkpoint's.
        seed: of start velocities and noise.
        device: where the network runs, cpu or cuda.
        angular_momentum: "keep" to conserve it, or "free"; None:
            as the checkpoint was trained.
        thermostat_fs: relaxation time of a thermostat at the training temperature; None: none.
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
    if resume and overwrite:
        raise InputError("a run is either resumed or overwritten; give one of the two")
    if replicas < 1:
        raise InputError(f"the number of replicas must be at least 1, not {replicas}")
    if not 0 <= seed < 2**32:
        raise InputError(f"the seed must be from 0 to 2**32 - 1, not {seed}")
    if angular_momentum not in (None, *ANGULAR_MOMENTUM):
        raise InputError(f"angular momentum is free or keep, not {angular_momentum!r}")
    for what, value in (
        ("length", length_ps),
        ("interval between frames", interval_fs),
        ("lag", lag_fs),
        ("relaxation time of the thermostat", thermostat_fs),
    ):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InputError(f"the {what} must be more than 0, not {value}")

    import numpy as np

    from shared.checkpoint import CONFIG, UNITS
    from shared.io import read_start
    from shared.provenance import file_checksum, provenance
    from shared.writers import TrajectoryWriter, load_state
    from trajgen.load import acceleration_interval, build, choose, open_checkpoint
    from trajgen.start import degrees_of_freedom, with_velocities

    opened = open_checkpoint(checkpoint)
    history_fs = acceleration_interval(opened.config, lag_fs)
    start = read_start(source, frame, history_interval_fs, history_fs)
    chosen, molecule = choose(opened, start.numbers, start.positions[0])
    config = chosen.config
    start, origin, warning = with_velocities(start.replicate(replicas), config, temperature, seed)
    dof = degrees_of_freedom(config, start.n_atoms)

    from trajgen.progress import reporting
    from trajgen.record import RunRecord
    from trajgen.rollout import Generator

    generator = Generator(
        build(chosen),
        config,
        lag_fs=lag_fs,
        sampler=sampler,
        steps=steps,
        keep_angular_momentum=None if angular_momentum is None else angular_momentum == "keep",
        thermostat_time_fs=thermostat_fs,
        device=_checked_device(device),
    )
    interval_fs = generator.lag_fs if interval_fs is None else float(interval_fs)
    generator.steps_per_frame(interval_fs)
    n_frames = int(length_ps * 1000 / interval_fs + 1e-6)
    if n_frames < 1:
        raise InputError(f"{length_ps:g} ps are shorter than one frame of {interval_fs:g} fs")
    out = _output_stem(source, out, format)
    picture = out.with_name(f"{out.name}.png") if plot else None
    if picture is not None and picture.exists() and not (resume or overwrite):
        raise InputError(f"{picture} is there already; overwrite it, or choose another name")

    settings = {
        "molecule": molecule,
        "checkpoint": config.name,
        "checkpoint_sha256": file_checksum(chosen.folder / CONFIG),  # it holds that of the weights
        "source_sha256": file_checksum(source),
        "frame": frame,
        "history_interval_fs": history_interval_fs,
        "start_velocities": origin,
        "seed": seed,
        "replicas": replicas,
        "frame_interval_fs": interval_fs,
        "lag_fs": generator.lag_fs,
        "sampler": generator.sampler,
        "steps": generator.steps,
        "angular_momentum": "keep" if generator.keep_angular_momentum else "free",
        "thermostat_fs": thermostat_fs,
    }
    generator.reference = start.positions[0]
    generator.compile = generator.worth_compiling(start, n_frames, interval_fs)
    point = load_state(out) if resume else None
    if point is not None and point.n_frames == 0:
        point, overwrite = None, True  # stopped before the first flush: nothing to go on with
    if point is not None:
        _check_same_run(out, settings, point.extra.get("settings", {}))
        if point.n_frames > n_frames:
            raise InputError(
                f"{out}: {point.state.time_fs / 1000:g} ps are there already; ask for more"
            )
        start = point.state
        generator.reference = np.array(point.extra["reference"])
        generator.compile = point.extra["compiled"]
    record = RunRecord(start.numbers, generator.reference, replicas, dof)
    if point is not None:
        record.restore(point.extra["record"])
    extra = {
        "settings": settings,
        "reference": generator.reference.tolist(),
        "compiled": generator.compile,
    }

    begun_fs = start.time_fs
    left = n_frames - (point.n_frames if point else 0) if record.alive.any() else 0
    frames = generator.propagate(start, left, interval_fs, seed=seed)
    sidecar = {
        "program": "trajgen.sample",
        "source": str(source),
        **settings,
        "temperature_convention": config.temperature_convention,
        "training_temperature_K": config.temperature_K,
        "units": UNITS,
        "stability": record.verdict(),
        "provenance": provenance(),
    }
    writer = TrajectoryWriter(
        out,
        start,
        format=format,
        frame_interval_fs=interval_fs,
        sidecar=sidecar,
        resume_from=point,
        overwrite=overwrite,
    )
    special = " (fine-tuned for it)" if chosen.folder != opened.folder else ""
    _log.info("%s, checkpoint %s%s, velocities: %s", molecule, config.name, special, origin)
    if warning is not None:
        _log.warning("warning: %s", warning)
    began = time.monotonic()
    with (
        _numerics(replicas * start.n_atoms**2),
        writer,
        reporting(begun_fs / 1000, n_frames * interval_fs / 1000, progress) as report,
    ):
        for state in frames:
            record.observe(state)
            writer.sidecar["stability"] = record.verdict()
            writer.write(state, extra | {"record": record.snapshot()})
            report(state.time_fs / 1000, record)
            if not record.alive.any():
                break
    elapsed = time.monotonic() - began
    if picture is not None:
        from trajgen.plot import save_plot

        save_plot(picture, record.series(), f"{molecule} ({config.name})", config.temperature_K)
    return Run(
        molecule=molecule,
        checkpoint=config.name,
        trajectories=writer.trajectories,
        topology=writer.topology,
        sidecar=writer.sidecar_path,
        plot=picture,
        stability=record.verdict(),
        elapsed_s=elapsed,
        generated_ps=record.verdict()["run_ps"] - begun_fs / 1000,
    )


# ---- details -------------------------------------------------------------------------------------


def _checked_device(device: str) -> str:
    """`device`, if it is there."""
    import torch

    try:
        wanted = torch.device(device)
    except RuntimeError:
        raise InputError(f"unknown device {device!r}; choose cpu or cuda") from None
    if wanted.type not in ("cpu", "cuda"):
        raise InputError(f"device {device!r} is not supported; choose cpu or cuda")
    if wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count():
        raise InputError(f"there is no device {device!r} here; choose cpu")
    return device


@contextmanager
def _numerics(n_pairs: int) -> Iterator[None]:
    """No denormals, and one thread for small systems unless OMP_NUM_THREADS says otherwise."""
    import torch

    torch.set_flush_denormal(True)  # distant pairs underflow, and denormals are slow
    threads = torch.get_num_threads()
    if n_pairs < _SERIAL_BELOW and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _output_stem(source: str | Path, out: str | Path | None, format: str) -> Path:
    """Path of the outputs without ending; none of them may take the place of the source."""
    source = Path(source)
    stem = Path(source.stem) if out is None else Path(out)
    if stem.suffix[1:] == format:
        stem = stem.with_suffix("")
    taken = rf"{re.escape(stem.name)}((_r\d+)?\.{format}|\.pdb|\.json|\.png|\.state\.npz)"
    beside = stem.parent.resolve() == source.resolve().parent
    if beside and re.fullmatch(taken, source.name):
        raise InputError(f"{source}: the outputs would take its place; give them another name")
    return stem


def _check_same_run(out: Path, settings: dict[str, Any], before: dict[str, Any]) -> None:
    """Refuse to go on with a run that had other settings."""
    for name, value in settings.items():
        if before.get(name) != value:
            raise InputError(
                f"{out}: cannot resume with {name.replace('_', ' ')} {value}: the run has "
                f"{before.get(name)}"
            )


# ---- command line --------------------------------------------------------------------------------

# Group -> option -> type or choices (bool: a switch), metavar, help. Where the default of `sample`
# is not None it is added to the help.
_OPTIONS: dict[str, dict[str, tuple[Any, str | None, str]]] = {
    "start": {
        "frame": (int, "N", "frame, from 0, negative from the end (default: last)"),
        "history-interval-fs": (
            float,
            "FS",
            "time between consecutive frames of FILE, fs: gives the velocities, if FILE has none, "
            "and the acceleration (default: no history)",
        ),
        "temperature": (
            float,
            "K",
            "of drawn start velocities, K; sets the start only (default: the checkpoint's)",
        ),
        "replicas": (int, "R", "how many trajectories"),
        "seed": (int, "N", "of start velocities and noise"),
    },
    "model": {
        "checkpoint": (
            str,
            "NAME",
            "name of a shipped generator, or a folder; NAME-MOLECULE is taken where it is shipped",
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
            "relaxation time of a weak-coupling thermostat at the training temperature, fs "
            "(default: none)",
        ),
        "device": (str, "DEVICE", "cpu or cuda"),
    },
    "output": {
        "length-ps": (float, "PS", "length of the trajectory, ps"),
        "interval-fs": (
            float,
            "FS",
            "time between frames, fs, a multiple of the lag (default: the lag)",
        ),
        "out": (
            str,
            "PATH",
            "path of the outputs without ending (default: name of FILE, in the current folder)",
        ),
        "format": (
            FORMATS,
            None,
            "dcd and xtc hold positions, h5 and extxyz velocities and times too",
        ),
        "resume": (
            bool,
            None,
            "go on with a run of the same arguments; --length-ps may be longer",
        ),
        "overwrite": (bool, None, "replace the outputs of an earlier run"),
        "plot": (bool, None, "write a PNG: temperature, bond deviation, RMSD to the start"),
    },
}


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"trajgen.sample: {message}; --help lists the options\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m trajgen.sample",
        usage="%(prog)s --from FILE [OPTIONS]",
        description="Generate a molecular trajectory from a frame.",
        epilog="Exit codes: 0 done, 2 bad input (nothing is written), 1 anything else.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--from",
        dest="source",
        metavar="FILE",
        required=True,
        help="xyz, extxyz or pdb file of one molecule, Å; velocities in Å/fs are read if present",
    )
    parameters = inspect.signature(sample).parameters
    for title, options in _OPTIONS.items():
        group = parser.add_argument_group(title)
        for name, (kind, metavar, text) in options.items():
            default = parameters[name.replace("-", "_")].default
            if kind is bool:
                group.add_argument(f"--{name}", action="store_true", help=text)
                continue
            accepted = {"choices": kind} if isinstance(kind, tuple) else {"type": kind}
            shown = "" if default is None else f" (default: {default})"
            group.add_argument(
                f"--{name}", default=default, metavar=metavar, help=text + shown, **accepted
            )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    arguments = vars(_parser().parse_args(argv))
    handler = logging.StreamHandler(sys.stderr)
    log = logging.getLogger("trajgen")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False  # the lines are the command's own: a root handler would print them again
    try:
        run = sample(**arguments, progress=True)
    except InputError as error:
        print(f"trajgen.sample: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, OSError) as error:
        what = "interrupted" if isinstance(error, KeyboardInterrupt) else error
        print(
            f"trajgen.sample: {what}; what was written is valid, --resume goes on", file=sys.stderr
        )
        return 1
    finally:
        log.removeHandler(handler)
        log.propagate = True
    print(run.summary())
    if not run.survived:
        print("trajgen.sample: no replica is whole, stopped", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
