"""A run from the first check to the last file: what every command that writes a trajectory shares.

A propagator gives frames; a `Job` checks what was asked for, goes on with an earlier run where that
is wanted, writes the frames as they come, watches them, and says what came of it. No file is
written before everything that can be checked has been. Nothing heavy is imported with this module,
so that a command line can be read at once.
"""

import logging
import math
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.errors import InputError

if TYPE_CHECKING:
    from shared.checkpoint import Checkpoint, CheckpointConfig
    from shared.record import RunRecord
    from shared.state import PhaseState

__all__ = ["FORMATS", "Job", "Run", "check_arguments", "checked_device", "common_settings"]

FORMATS = ("dcd", "xtc", "h5", "extxyz")

_log = logging.getLogger(__name__)
_SERIAL_BELOW = 3000  # replicas x atoms²: one thread is fastest


@dataclass(frozen=True)
class Run:
    """What came of a run: the files, and the verdict that the sidecar holds too."""

    molecule: str
    checkpoint: str
    trajectories: list[Path]
    topology: Path
    sidecar: Path
    others: list[Path]
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
        length = f"{s['run_ps']:g} ps"
        if self.generated_ps == 0:
            length += ", nothing left to do"
        else:
            if self.generated_ps < s["run_ps"]:  # resumed
                length += f", the last {self.generated_ps:g} ps"
            speed = self.generated_ps / self.elapsed_s
            length += f" in {self.elapsed_s:.1f} s ({speed:.3g} ps/s)"
        lines = [
            f"{self.molecule}, checkpoint {self.checkpoint}: {replicas}, {length}",
            f"stability: {whole} of {total} whole, largest bond deviation "
            f"{s['largest_bond_deviation_angstrom']:.2f} Å",
        ]
        steps = {r: f" (step {step})" for r, step in s.get("broke_at_step", {}).items()}
        lines += [
            f"  replica {r} broke at {t:g} ps{steps.get(r, '')}"
            for r, t in s["broke_at_ps"].items()
        ]
        if s["mean_temperature_K"] is not None:
            lines.append(
                f"temperature: {s['mean_temperature_K']:.0f} K on average "
                f"({s['degrees_of_freedom']} degrees of freedom)"
            )
        written = [str(path) for path in self.trajectories[:1]]
        if len(self.trajectories) > 1:
            written = [f"{written[0]} to {self.trajectories[-1].name}"]
        written += map(str, (self.topology, self.sidecar, *self.others))
        written += [str(self.plot)] if self.plot else []
        lines.append("wrote " + ", ".join(written))
        return "\n".join(lines)


def check_arguments(
    *, replicas: int, seed: int, resume: bool, overwrite: bool, **positive: float | None
) -> None:
    """Refuse numbers that no run can use.

    Args:
        replicas: how many.
        seed: of random numbers.
        resume, overwrite: what to do with an earlier run.
        positive: further numbers that must be more than 0 where they are given; the name is that in
            the message, with _ for a space.

    Raises:
        InputError: which one, and why.
    """
    if resume and overwrite:
        raise InputError("a run is either resumed or overwritten; give one of the two")
    if replicas < 1:
        raise InputError(f"the number of replicas must be at least 1, not {replicas}")
    if not 0 <= seed < 2**32:
        raise InputError(f"the seed must be from 0 to 2**32 - 1, not {seed}")
    for name, value in positive.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InputError(f"the {name.replace('_', ' ')} must be more than 0, not {value}")


def checked_device(device: str) -> str:
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


def common_settings(
    source: str | Path,
    checkpoint: "Checkpoint",
    *,
    molecule: str,
    frame: int | None,
    history_interval_fs: float | None,
    start_velocities: str,
    seed: int,
    replicas: int,
    frame_interval_fs: float,
) -> dict[str, Any]:
    """What the `settings` of every `Job` begin with, in the order that a resumed run is checked."""
    from shared.checkpoint import CONFIG
    from shared.provenance import file_checksum

    return {
        "molecule": molecule,
        "checkpoint": checkpoint.config.name,
        "checkpoint_sha256": file_checksum(checkpoint.folder / CONFIG),  # holds the weights' own
        "source_sha256": file_checksum(source),
        "frame": frame,
        "history_interval_fs": history_interval_fs,
        "start_velocities": start_velocities,
        "seed": seed,
        "replicas": replicas,
        "frame_interval_fs": frame_interval_fs,
    }


class Job:
    """A run that has been asked for: where its files go, and where it begins.

    Args:
        program: the module of the command, for the sidecar.
        source: file of the start frame; must not be overwritten.
        start: R replicas; of a resumed run, only the atoms matter.
        settings: what a resumed run must have in common with its beginning, as JSON can hold it.
        length_ps: length, rounded down to whole frames.
        interval_fs: time between frames.
        out: path of the outputs without ending; None: stem of `source`, in the current folder.
        format: one of `FORMATS`.
        resume, overwrite: what to do with an earlier run.
        plot: make a picture.
        beside: endings of further files that the run writes itself, such as ".csv".

    Attributes:
        start: the state to go on from: that given, or the last of the run that is resumed.
        n_frames: frames that are there already.
        n_frames_asked: and that shall be there in the end.
        kept: what `carry_out` was given as `extra` with the last of them; empty without any.
        out: path of the outputs without ending.

    Raises:
        InputError: no whole frame, outputs that are there already, or a run that cannot be resumed
            so.
    """

    def __init__(
        self,
        program: str,
        source: str | Path,
        start: "PhaseState",
        settings: dict[str, Any],
        *,
        length_ps: float,
        interval_fs: float,
        out: str | Path | None = None,
        format: str = "dcd",
        resume: bool = False,
        overwrite: bool = False,
        plot: bool = False,
        beside: tuple[str, ...] = (),
    ) -> None:
        from shared.writers import load_state

        self._program, self._source, self._format = program, source, format
        asked = length_ps * 1000 / interval_fs + 1e-6
        if asked >= 2**31:  # XTC counts frames in 32 bits
            raise InputError(f"{length_ps:g} ps are too many frames of {interval_fs:g} fs")
        self._interval_fs, self.n_frames_asked = interval_fs, int(asked)
        if self.n_frames_asked < 1:
            raise InputError(f"{length_ps:g} ps are shorter than one frame of {interval_fs:g} fs")
        self.out = _output_stem(source, out, format)
        self._picture = self.out.with_name(f"{self.out.name}.png") if plot else None
        self._beside = [self.out.with_name(self.out.name + ending) for ending in beside]
        for path in [*self._beside, *filter(None, [self._picture])]:
            if path.exists() and not (resume or overwrite):
                raise InputError(f"{path} is there already; overwrite it, or choose another name")
        self._settings, self._overwrite = settings, overwrite
        self.start, self.n_frames = start, 0
        self.kept: dict[str, Any] = {}
        self._point = load_state(self.out) if resume else None
        if self._point is not None and self._point.n_frames == 0:
            self._point, self._overwrite = None, True  # stopped before the first flush: begin again
        if self._point is not None:
            _check_same_run(self.out, settings, self._point.extra.get("settings", {}))
            self.start, self.n_frames = self._point.state, self._point.n_frames
            self.kept = self._point.extra
            if self.n_frames > self.n_frames_asked:
                raise InputError(
                    f"{self.out}: {self.start.time_fs / 1000:g} ps are there already; ask for more"
                )

    def carry_out(
        self,
        propagate: "Callable[[PhaseState, int], Iterator[PhaseState]]",
        record: "RunRecord",
        config: "CheckpointConfig",
        *,
        molecule: str,
        extra: Callable[[], dict[str, Any]],
        lines: list[tuple[int, str]],
        target_K: float | None,
        progress: bool,
    ) -> Run:
        """Write the frames until they end or no replica is whole; that frame is left out.

        Args:
            propagate: frames after a state, so many.
            record: watches them; is restored if the run is resumed.
            config: of the checkpoint.
            molecule: its name.
            extra: called after each frame: what `kept` shall hold when the run is resumed after it.
            lines: log level and text of each, before the first frame.
            target_K: temperature to draw in the picture.
            progress: show a progress bar on a terminal.

        Raises:
            OSError: the disk is full, or failed; what was written is valid.
            KeyboardInterrupt: likewise.
        """
        from shared.checkpoint import UNITS
        from shared.progress import reporting
        from shared.provenance import provenance
        from shared.writers import TrajectoryWriter

        if self.kept:
            record.restore(self.kept["record"])
        begun_fs, start = self.start.time_fs, self.start
        left = self.n_frames_asked - self.n_frames if record.alive.any() else 0
        made = {"provenance": self.kept.get("provenance") or provenance()}
        if resumed := [
            *self.kept.get("resumed", []),
            *([provenance()] if begun_fs and left else []),
        ]:
            made["resumed"] = resumed
        frames = propagate(start, left)
        sidecar = {
            "program": self._program,
            "source": str(self._source),
            **self._settings,
            "temperature_convention": config.temperature_convention,
            "training_temperature_K": config.temperature_K,
            "units": UNITS,
            "stability": record.verdict(),
            **made,
        }
        writer = TrajectoryWriter(
            self.out,
            start,
            format=self._format,
            frame_interval_fs=self._interval_fs,
            sidecar=sidecar,
            resume_from=self._point,
            overwrite=self._overwrite,
        )
        for level, line in lines:
            _log.log(level, line)
        began = time.monotonic()
        total_ps = self.n_frames_asked * self._interval_fs / 1000
        with (
            _numerics(start.n_replicas * start.n_atoms**2),
            _interruptions() as interruptions,
            writer,
            reporting(begun_fs / 1000, total_ps, progress) as report,
        ):
            for state in frames:
                record.observe(state)
                writer.sidecar["stability"] = record.verdict()
                if not record.alive.any():  # the frame only repeats what is there
                    break
                kept = {"settings": self._settings, "record": record.snapshot(), **made, **extra()}
                writer.write(state, kept)
                if interruptions:
                    raise KeyboardInterrupt
                report(state.time_fs / 1000, record)
        elapsed = time.monotonic() - began
        if self._picture is not None:
            from shared.plot import save_plot

            save_plot(self._picture, record.series(), f"{molecule} ({config.name})", target_K)
        verdict = record.verdict()
        return Run(
            molecule=molecule,
            checkpoint=config.name,
            trajectories=writer.trajectories if writer.n_frames else [],
            topology=writer.topology,
            sidecar=writer.sidecar_path,
            others=self._beside,
            plot=self._picture,
            stability=verdict,
            elapsed_s=elapsed,
            generated_ps=verdict["run_ps"] - begun_fs / 1000,
        )


@contextmanager
def _interruptions() -> Iterator[list[int]]:
    """Every Ctrl-C since: a KeyboardInterrupt that is raised in a callback gets lost."""
    seen: list[int] = []
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield seen
        return

    def note(number: int, frame: Any) -> None:
        seen.append(number)
        handler(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, handler)


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
    if not stem.name or stem.name == "..":
        raise InputError(f"{out}: the outputs need a name, not a folder's alone")
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
