"""Stream trajectories to disk so that they outlive the process that makes them.

R replicas go to NAME_r000.dcd, NAME_r001.dcd, … (one: NAME.dcd; or .xtc, .h5, .extxyz), with
NAME.pdb (topology with bonds), NAME.json (sidecar: what made it) and NAME.state.npz (to resume).

mdtraj can neither append to DCD and XTC nor flush DCD. So frames are collected, encoded by mdtraj
in a scratch file, and at each flush

- DCD, XTC, extxyz: the bytes of the block are appended to the final file and synced; a DCD then
  gets its frame count. A write that fails is truncated away. Nothing is rewritten, so a killed
  process leaves every frame flushed before; killed within the write itself it can leave part of
  one more, which DCD readers skip and resuming removes;
- HDF5, which an interrupted write can destroy: a copy is appended to and takes the file's place;
- then the state file and the sidecar are replaced. The state file counts the frames (and bytes)
  that belong to it, and resuming cuts the trajectories back to them: a resumed trajectory equals an
  uninterrupted one to the bit.

A flush comes every few seconds, never more often than keeps its cost below 5 %, and when the frames
waiting fill the memory set aside for them, so memory does not grow with the trajectory.

What the formats hold: DCD positions alone, Å in float32 (no times: the interval is in the title and
in the sidecar, and the header's own time step is mdtraj's constant 1, which other readers take for
0.0489 ps); XTC positions in nm, rounded to 0.001 nm (an error of up to 0.005 Å) beyond 9 atoms, and
times; HDF5 positions, velocities (nm/ps) and times in float32; extxyz positions, velocities (Å/fs),
momenta (for ASE), ``time_fs`` and ``xi_per_fs`` as text with 8 decimals.
"""

import errno
import io
import json
import os
import re
import shutil
import signal
import struct
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, fields, replace
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from shared.bonds import bonded_pairs
from shared.errors import InputError
from shared.files import replacing
from shared.state import PhaseState
from shared.units import ACCELERATION, ANGSTROM_PER_NM, FS_PER_PS

if TYPE_CHECKING:
    from mdtraj import Topology

__all__ = [
    "FORMATS",
    "ResumePoint",
    "TrajectoryWriter",
    "load_state",
    "output_files",
    "require_writable",
    "save_state",
]

Float = npt.NDArray[np.float64]

FORMATS = {
    "dcd": "positions Å (float32); no times, no velocities",
    "xtc": "positions nm (rounded to 0.001 nm beyond 9 atoms), times ps; no velocities",
    "h5": "positions nm, velocities nm/ps, times ps (float32)",
    "extxyz": "positions Å, velocities Å/fs, momenta in ASE's units, time_fs, xi_per_fs 1/fs",
}
"""File endings of the trajectory formats, and what each holds."""

_STATE_VERSION = 1
_PENDING_BYTES = 64 * 2**20  # positions and velocities that may wait for a flush
_HDF5_OVERHEAD = 2**20  # bytes that a block may need beside its own
_LOST = "has lost frames since it was written, so the run cannot be resumed; start a new one"
_FLUSH_SHARE = 0.05  # of the time may go into flushes


# ---- state file ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class ResumePoint:
    """Where a run can go on: the last state that was flushed, and what the files hold up to it.

    Attributes:
        state: the state, in full precision.
        n_frames: frames written to each trajectory file.
        n_bytes: size in bytes of each replica's file with these frames.
        format: one of ``FORMATS``.
        frame_interval_fs: time between frames, fs.
        extra: what the caller of ``TrajectoryWriter.write`` gave with the state.
    """

    state: PhaseState
    n_frames: int
    n_bytes: tuple[int, ...]
    format: str
    frame_interval_fs: float
    extra: dict[str, Any]


def save_state(out: str | PathLike[str], point: ResumePoint) -> None:
    """Replace the state file of the run ``out`` (the path given to the writer) by ``point``."""
    header: dict[str, Any] = {"version": _STATE_VERSION}
    arrays: dict[str, Any] = {}
    for part in (point, point.state):
        for field in fields(part):
            value = getattr(part, field.name)
            if isinstance(value, np.ndarray):
                arrays[field.name] = value
            elif not isinstance(value, PhaseState):
                header[field.name] = value
    content = io.BytesIO()
    np.savez(content, header=np.array(json.dumps(header)), **arrays)
    _write_atomically(_outputs(out).state, content.getvalue())


def load_state(out: str | PathLike[str]) -> ResumePoint:
    """The resume point of the run ``out`` (the path given to the writer).

    Raises:
        InputError: there is no state file, or it is broken or of another version.
    """
    path = _outputs(out).state
    if not path.exists():
        raise InputError(f"{path}: no such file, so there is no run to resume; start a new one")
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = dict(content)
        header = json.loads(str(arrays.pop("header")))
        if header.pop("version") != _STATE_VERSION:
            raise InputError(f"{path}: written by another version of this program; start a new run")
        in_state = {field.name for field in fields(PhaseState)} & header.keys()
        state = PhaseState(**arrays, **{name: header.pop(name) for name in in_state})
        return ResumePoint(state=state, n_bytes=tuple(header.pop("n_bytes")), **header)
    except (OSError, EOFError, zipfile.BadZipFile, KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not a state file, or a broken one; start a new run") from None


# ---- files ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Outputs:
    topology: Path
    sidecar: Path
    state: Path


def _stem(out: str | PathLike[str]) -> Path:
    """``out`` without the ending of a trajectory."""
    out = Path(out)
    return out.with_suffix("") if out.suffix[1:] in FORMATS else out


def _outputs(out: str | PathLike[str]) -> _Outputs:
    """The files a run has whatever its format."""
    out = _stem(out)
    return _Outputs(*(out.with_name(out.name + end) for end in (".pdb", ".json", ".state.npz")))


def output_files(out: str | PathLike[str], format: str, n_replicas: int) -> list[Path]:
    """The trajectory files of a run, one for each replica.

    Args:
        out: path of the outputs, with or without the ending of ``format``.
        format: one of ``FORMATS``.
        n_replicas: R.
    """
    out = _stem(out)
    if n_replicas == 1:
        return [out.with_name(f"{out.name}.{format}")]
    return [out.with_name(f"{out.name}_r{r:03d}.{format}") for r in range(n_replicas)]


def _write_atomically(path: Path, content: bytes) -> None:
    with replacing(path) as part:
        part.write_bytes(content)


def require_writable(folder: Path) -> None:
    """Make the folder if need be, and a file in it.

    Raises:
        InputError: that is not possible.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"{folder}: cannot write there ({error.strerror}); choose another output folder"
        ) from None


# ---- formats -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Block:
    """Consecutive frames of one replica, Å, Å/fs, fs; NaN for what is not known.

    ``first`` is the number of frames before them, ``interval_fs`` the time between frames.
    """

    numbers: npt.NDArray[np.int64]
    positions: Float  # [F, N, 3]
    velocities: Float  # [F, N, 3]
    times_fs: Float  # [F]
    thermostat: Float  # [F]
    first: int
    interval_fs: float


@contextmanager
def _checked(scratch: Path) -> Iterator[None]:
    """On a full disk mdtraj raises this and that; here it is an OSError."""
    try:
        yield
    except (RuntimeError, TypeError) as error:
        raise OSError(f"{scratch}: mdtraj could not write it; is the disk full?") from error


def _encode_dcd(block: _Block, scratch: Path) -> tuple[bytes, bytes]:
    """Header (that counts the frames of the block) and frames of a DCD file."""
    from mdtraj.formats import DCDTrajectoryFile

    with _checked(scratch):
        with DCDTrajectoryFile(str(scratch), "w") as file:
            file.write(block.positions.astype(np.float32))
        content = scratch.read_bytes()
        if len(content) != _DCD_HEADER + len(block.positions) * 3 * (4 * len(block.numbers) + 8):
            raise RuntimeError("the DCD file has another size than its frames")
    # mdtraj fills the title with the time of day and with whatever was in memory.
    lines = ("Lengths in Angstrom", f"Time between frames {block.interval_fs:.12g} fs")
    title = "".join(line.ljust(80) for line in lines).encode("ascii")
    after = _DCD_TITLE + len(title)
    return content[:_DCD_TITLE] + title + content[after:_DCD_HEADER], content[_DCD_HEADER:]


# A DCD header is three Fortran records: 84 bytes (CORD, 20 integers), 164 (title), 4 (atoms).
_DCD_HEADER = (84 + 8) + (164 + 8) + (4 + 8)
_DCD_TITLE = (84 + 8) + 4 + 4
_DCD_COUNTS = (8, 20)  # where it holds the number of frames, and of steps


def _encode_xtc(block: _Block, scratch: Path) -> tuple[bytes, bytes]:
    """Frames of an XTC file, which has no header; numbered and timed, so any block can follow."""
    from mdtraj.formats import XTCTrajectoryFile

    n_frames = len(block.positions)
    with _checked(scratch):
        with XTCTrajectoryFile(str(scratch), "w") as file:
            file.write(
                (block.positions / ANGSTROM_PER_NM).astype(np.float32),
                time=(block.times_fs / FS_PER_PS).astype(np.float32),
                step=np.arange(block.first, block.first + n_frames, dtype=np.int32),
            )
        with XTCTrajectoryFile(str(scratch)) as file:
            if len(file.read()[0]) != n_frames:
                raise RuntimeError("the XTC file has fewer frames than were written")
        return b"", scratch.read_bytes()


def _encode_extxyz(block: _Block, scratch: Path) -> tuple[bytes, bytes]:
    """Frames of an extended XYZ file."""
    from ase import Atoms
    from ase.io import write

    frames = []
    for index, positions in enumerate(block.positions):
        atoms = Atoms(block.numbers, positions)
        atoms.info["time_fs"] = block.times_fs[index]
        if not np.isnan(block.thermostat[index]):
            atoms.info["xi_per_fs"] = block.thermostat[index]
        velocities = block.velocities[index]
        if not np.isnan(velocities).any():
            atoms.set_array("velocities", velocities)
            atoms.set_velocities(velocities / np.sqrt(ACCELERATION))  # Å per Å √(amu/eV)
        frames.append(atoms)
    text = io.StringIO()
    write(text, frames, format="extxyz")
    return b"", text.getvalue().encode()


class _TrajectoryFile(Protocol):
    """The file of one replica."""

    @property
    def path(self) -> Path: ...

    def append(self, block: _Block, n_bytes: int, scratch: Path) -> int:
        """Keep the first ``block.first`` frames, ``n_bytes`` long, add the block, and sync.

        ``scratch`` is the path of a file that may be written on the way. Returns the new size;
        raises OSError with the file as it was.
        """
        ...

    def cut(self, n_frames: int, n_bytes: int) -> None:
        """Keep the first ``n_frames`` frames, ``n_bytes`` long, to resume after them."""
        ...


@dataclass(frozen=True)
class _AppendedFile:
    """A file that grows at its end: a header and then frames, each complete in itself.

    Attributes:
        path: the file.
        encode: turns a block into (header, frames), by way of a scratch file.
        counts: where in the header 32-bit integers hold the number of frames.
    """

    path: Path
    encode: Callable[[_Block, Path], tuple[bytes, bytes]]
    counts: tuple[int, ...] = ()

    def append(self, block: _Block, n_bytes: int, scratch: Path) -> int:
        header, frames = self.encode(block, scratch)
        if block.first == 0:
            _write_atomically(self.path, header + frames)
            return len(header) + len(frames)
        with open(self.path, "r+b", buffering=0) as file:
            file.truncate(n_bytes)
            try:
                file.seek(n_bytes)
                left = memoryview(frames)
                while left:
                    left = left[file.write(left) :]
                self._set_counts(file, block.first + len(block.positions))
            except OSError:
                file.truncate(n_bytes)
                raise
        return n_bytes + len(frames)

    def cut(self, n_frames: int, n_bytes: int) -> None:
        if self.path.stat().st_size < n_bytes:
            raise InputError(f"{self.path}: {_LOST}")
        with open(self.path, "r+b", buffering=0) as file:
            file.truncate(n_bytes)
            self._set_counts(file, n_frames)

    def _set_counts(self, file: io.FileIO, n_frames: int) -> None:
        """Put the number of frames where the header has it, and sync the file."""
        for offset in self.counts:
            file.seek(offset)
            file.write(struct.pack("=i", n_frames))
        os.fsync(file.fileno())


@dataclass(frozen=True)
class _Hdf5File:
    """A file that is replaced whole by a longer one."""

    path: Path
    topology: "Topology"

    def append(self, block: _Block, n_bytes: int, scratch: Path) -> int:
        written = {
            "coordinates": (block.positions / ANGSTROM_PER_NM).astype(np.float32),
            "velocities": (block.velocities * (FS_PER_PS / ANGSTROM_PER_NM)).astype(np.float32),
            "time": (block.times_fs / FS_PER_PS).astype(np.float32),
        }
        self._rewrite(block.first, written)
        return self.path.stat().st_size

    def cut(self, n_frames: int, n_bytes: int) -> None:
        self._rewrite(n_frames, {})

    def _rewrite(self, n_frames: int, added: dict[str, npt.NDArray[np.float32]]) -> None:
        """Keep ``n_frames`` frames and put the added ones after them.

        HDF5 can lose data on a full disk and say nothing, so there must be room before, and what
        was added is read back.
        """
        from mdtraj.formats import HDF5TrajectoryFile
        from tables import HDF5ExtError

        needed = sum(values.nbytes for values in added.values()) + _HDF5_OVERHEAD
        needed += self.path.stat().st_size if n_frames else 0
        if shutil.disk_usage(self.path.parent).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        with replacing(self.path) as part:
            if n_frames:
                shutil.copyfile(self.path, part)
            try:
                with HDF5TrajectoryFile(part, "a" if n_frames else "w") as file:
                    if n_frames == 0:
                        file.topology = self.topology
                    elif len(file.root.coordinates) < n_frames:
                        raise InputError(f"{self.path}: {_LOST}")
                    else:
                        for name in ("coordinates", "velocities", "time"):
                            file.root[name].truncate(n_frames)
                    if added:
                        file.write(**added)
                with HDF5TrajectoryFile(part) as file:
                    for name, values in added.items():
                        if not np.array_equal(file.root[name][n_frames:], values, equal_nan=True):
                            raise OSError(f"{part}: HDF5 lost what was written; is the disk full?")
            except HDF5ExtError as error:
                raise OSError(f"{part}: HDF5 could not write; is the disk full?") from error


def _open(path: Path, format: str, topology: "Topology") -> _TrajectoryFile:
    if format == "h5":
        return _Hdf5File(path, topology)
    if format == "dcd":
        return _AppendedFile(path, _encode_dcd, _DCD_COUNTS)
    return _AppendedFile(path, {"xtc": _encode_xtc, "extxyz": _encode_extxyz}[format])


def _topology(numbers: npt.NDArray[np.int64], positions: Float) -> "Topology":
    """One residue MOL with atoms named by element and count, and with bonds."""
    import mdtraj

    topology = mdtraj.Topology()
    residue = topology.add_residue("MOL", topology.add_chain(), resSeq=1)
    counts: dict[str, int] = {}
    for number in numbers:
        element = mdtraj.element.Element.getByAtomicNumber(int(number))
        counts[element.symbol] = counts.get(element.symbol, 0) + 1
        name = f"{element.symbol}{counts[element.symbol]}"
        if len(name) > 4:
            raise InputError(
                f"more than {counts[element.symbol] - 1} {element.name} atoms: a pdb"
                " file has no names for so many"
            )
        topology.add_atom(name, element, residue)
    atoms = list(topology.atoms)
    for i, j in bonded_pairs(numbers, positions):
        topology.add_bond(atoms[i], atoms[j])
    return topology


def _save_topology(path: Path, topology: "Topology", positions: Float) -> None:
    import mdtraj

    frame = mdtraj.Trajectory(positions[None] / ANGSTROM_PER_NM, topology)
    with replacing(path) as part:
        frame.save_pdb(part)


# ---- the writer ----------------------------------------------------------------------------------


class TrajectoryWriter:
    """Writes the states of a run as they come; a context manager.

    ::

        with TrajectoryWriter("ethanol", start, format="dcd", frame_interval_fs=5.0) as writer:
            for state in propagator.propagate(start, 1000, 5.0, seed=0):
                writer.write(state)
            writer.sidecar["stability"] = verdict

    To go on with a run that was stopped::

        point = load_state("ethanol")
        TrajectoryWriter("ethanol", point.state, resume_from=point, ...)

    Leaving the block, also by an exception or Ctrl-C, writes the frames that wait and the sidecar,
    whose ``status`` says how the run ended: ``done``, ``interrupted`` or ``failed`` (``running``:
    it is still going on, or was killed).

    Attributes:
        trajectories: the trajectory files, one for each replica.
        topology: the pdb file.
        sidecar_path: the JSON file.
        sidecar: what goes into it, beside the writer's own entries; may be changed until the end.
        n_frames: frames written or waiting to be.
    """

    def __init__(
        self,
        out: str | PathLike[str],
        start: PhaseState,
        *,
        format: str = "dcd",
        frame_interval_fs: float,
        sidecar: Mapping[str, Any] | None = None,
        resume_from: ResumePoint | None = None,
        overwrite: bool = False,
        flush_seconds: float = 5.0,
    ) -> None:
        """Check everything, then write topology, sidecar and state file.

        Args:
            out: path of the outputs, with or without the ending of ``format``; its folder is made
                if need be.
            start: the state before the first frame: gives atoms, bonds and number of replicas. It
                is not written as a frame.
            format: one of ``FORMATS``.
            frame_interval_fs: time between the frames that will come, fs.
            sidecar: provenance and settings, as JSON can hold them.
            resume_from: go on after this point: the files are cut back to it.
            overwrite: replace the outputs of an earlier run of this name.
            flush_seconds: least time between flushes.

        Raises:
            InputError: an unknown format, a folder that is not writable, outputs that exist
                already, or files that do not fit the point to resume from.
        """
        ending = Path(out).suffix[1:]
        if format not in FORMATS:
            raise InputError(f"unknown format {format!r}; choose one of {', '.join(FORMATS)}")
        if ending in FORMATS and ending != format:
            raise InputError(
                f"{out}: the name says {ending} but the format is {format}; choose one"
            )
        out = _stem(out)
        if out.name == "" or out.is_dir():
            raise InputError(f"{out}: is a folder; give a name for the outputs in it")
        if not (np.isfinite(frame_interval_fs) and frame_interval_fs > 0):
            raise InputError(f"the time between frames must be > 0 fs, not {frame_interval_fs}")
        self._out = out
        self._format = format
        self._interval_fs = float(frame_interval_fs)
        self._flush_seconds = flush_seconds
        common = _outputs(out)
        self.trajectories = output_files(out, format, start.n_replicas)
        self.topology = common.topology
        self.sidecar_path = common.sidecar
        self.sidecar: dict[str, Any] = dict(sidecar or {})
        topology = _topology(start.numbers, start.positions[0])
        self._files = [_open(path, format, topology) for path in self.trajectories]
        self._pending: list[PhaseState] = []
        self._extra: dict[str, Any] = {}
        self._disk_failed = False

        if resume_from is None:
            self._clear(overwrite)
            self._point = ResumePoint(
                state=start,
                n_frames=0,
                n_bytes=(0,) * start.n_replicas,
                format=format,
                frame_interval_fs=self._interval_fs,
                extra={},
            )
            try:
                save_state(out, self._point)
                _save_topology(self.topology, topology, start.positions[0])
                self._write_sidecar("running")
            except OSError:  # a full disk: what would be left is no run
                for path in (common.state, self.topology, self.sidecar_path):
                    path.unlink(missing_ok=True)
                raise
        else:
            self._point = resume_from
            self._cut_back(start)
            if not self.topology.exists():
                _save_topology(self.topology, topology, self._point.state.positions[0])
            self._write_sidecar("running")
        self._flushed_at, self._flush_took = time.monotonic(), 0.0

    @property
    def n_frames(self) -> int:
        """Frames written or waiting to be."""
        return self._point.n_frames + len(self._pending)

    def write(self, state: PhaseState, extra: Mapping[str, Any] | None = None) -> None:
        """Take the next frame; it is on disk after the next flush.

        Args:
            state: the frame. Replicas that are not alive are written as they are.
            extra: what resuming after this frame needs beside the state (say that of a random
                number generator), as JSON can hold it. It comes back in ``ResumePoint.extra``.

        Raises:
            OSError: the disk is full, or failed. What was flushed before stays valid, and the run
                can be resumed.
        """
        if state.positions.shape != self._point.state.positions.shape:
            raise InputError(
                f"a frame of shape {state.positions.shape} does not fit a trajectory of shape"
                f" {self._point.state.positions.shape}"
            )
        self._pending.append(_copy(state))
        self._extra = dict(extra or {})
        waiting = 2 * state.positions.nbytes * len(self._pending)
        waited = time.monotonic() - self._flushed_at
        due = max(self._flush_seconds, self._flush_took / _FLUSH_SHARE)
        if waiting >= _PENDING_BYTES or waited >= due:
            self.flush()

    def flush(self) -> None:
        """Bring all frames to disk, and the state file up to them.

        Ctrl-C waits for the end of it. Should it be interrupted otherwise, the next flush does it
        all again, to the same effect.
        """
        if self._pending:
            with _interrupt_after():
                self._flush()

    def _flush(self) -> None:
        began = time.monotonic()
        try:
            with tempfile.TemporaryDirectory() as folder:
                n_bytes = tuple(
                    file.append(self._block(r), self._point.n_bytes[r], Path(folder, "block"))
                    for r, file in enumerate(self._files)
                )
            point = replace(
                self._point,
                state=self._pending[-1],
                n_frames=self.n_frames,
                n_bytes=n_bytes,
                extra=self._extra,
            )
            save_state(self._out, point)
            self._point, self._pending = point, []
            self._write_sidecar("running")
        except OSError:
            self._disk_failed = True
            with suppress(OSError, InputError):
                self._cut_files()  # makes a little room, and all replicas as long as each other
            raise
        self._flushed_at = time.monotonic()
        self._flush_took = self._flushed_at - began

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        status = "done" if error is None else "failed"
        if isinstance(error, KeyboardInterrupt):
            status = "interrupted"
        try:
            if not self._disk_failed:
                self.flush()
        finally:
            if self._disk_failed:  # what it says must be of the frames that are there
                self.sidecar = self._sidecar_on_disk
            with suppress(OSError) if self._disk_failed else nullcontext():
                self._write_sidecar("failed" if self._disk_failed else status)

    def _block(self, replica: int) -> _Block:
        """The waiting frames of one replica."""
        frames = self._pending
        unknown = np.full((frames[0].n_atoms, 3), np.nan)
        xi = [f.thermostat for f in frames]
        return _Block(
            numbers=frames[0].numbers,
            positions=np.stack([f.positions[replica] for f in frames]),
            velocities=np.stack(
                [unknown if f.velocities is None else f.velocities[replica] for f in frames]
            ),
            times_fs=np.array([f.time_fs for f in frames]),
            thermostat=np.array(
                [np.nan if x is None or x.shape[1] != 1 else x[replica, 0] for x in xi]
            ),
            first=self._point.n_frames,
            interval_fs=self._interval_fs,
        )

    def _clear(self, overwrite: bool) -> None:
        """Make way for a new run: nothing of an earlier one may be there, or it is removed."""
        require_writable(self._out.parent)
        replicas = re.compile(rf"{re.escape(self._out.name)}(_r\d{{3,}})?\.{self._format}")
        earlier = [
            path
            for path in (_outputs(self._out).state, self.sidecar_path, self.topology)
            if path.exists()
        ]
        others = _trajectories_named_in(self.sidecar_path)  # an earlier run had another format
        earlier += [
            path
            for path in self._out.parent.iterdir()
            if replicas.fullmatch(path.name) or path.name in others
        ]
        if earlier and not overwrite:
            raise InputError(
                f"{earlier[0]} is there already; resume the run, overwrite it, or choose another"
                " name"
            )
        for path in earlier:
            path.unlink()

    def _cut_back(self, start: PhaseState) -> None:
        """Check that the files are those of the point to resume from, and cut them back to it."""
        point = self._point
        for what, now, then in (
            ("atoms", start.numbers.tolist(), point.state.numbers.tolist()),
            ("number of replicas", start.n_replicas, point.state.n_replicas),
            ("format", self._format, point.format),
            ("time between frames", self._interval_fs, point.frame_interval_fs),
        ):
            if now != then:
                raise InputError(
                    f"{self._out}: cannot resume with {what} {now}: the run has {then}"
                )
        require_writable(self._out.parent)
        for path in self.trajectories:
            if point.n_frames and not path.exists():
                raise InputError(f"{path}: no such file, so the run cannot be resumed")
        self._cut_files()

    def _cut_files(self) -> None:
        """Leave in the files what belongs to the last state that was saved."""
        for file, size in zip(self._files, self._point.n_bytes, strict=True):
            if self._point.n_frames:
                file.cut(self._point.n_frames, size)
            else:
                file.path.unlink(missing_ok=True)

    def _write_sidecar(self, status: str) -> None:
        content = {
            **self.sidecar,
            "status": status,
            "trajectories": [path.name for path in self.trajectories],
            "topology": self.topology.name,
            "format": self._format,
            "contents": FORMATS[self._format],
            "n_replicas": len(self.trajectories),
            "n_frames": self._point.n_frames,
            "frame_interval_fs": self._interval_fs,
            "last_time_fs": self._point.state.time_fs,
        }
        text = json.dumps(content, indent=2, ensure_ascii=False, default=_to_json)
        _write_atomically(self.sidecar_path, text.encode() + b"\n")
        self._sidecar_on_disk = dict(self.sidecar)


def _trajectories_named_in(sidecar: Path) -> list[str]:
    """Names of the trajectory files of the run that a sidecar is of; none if it says none."""
    try:
        names = json.loads(sidecar.read_bytes())["trajectories"]
        return [Path(name).name for name in names]
    except (OSError, ValueError, KeyError, TypeError):
        return []


@contextmanager
def _interrupt_after() -> Iterator[None]:
    """Let Ctrl-C wait: raised while numpy formats numbers for ASE, KeyboardInterrupt can get lost.

    Signals belong to the main thread; in another one nothing happens here.
    """
    handler = signal.getsignal(signal.SIGINT)
    if handler is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if received:
            signal.raise_signal(signal.SIGINT)


def _copy(state: PhaseState) -> PhaseState:
    """A state with arrays of its own: a propagator may use its arrays again."""
    values: dict[str, Any] = {}
    for field in fields(state):
        value = getattr(state, field.name)
        values[field.name] = value.copy() if isinstance(value, np.ndarray) else value
    return PhaseState(**values)


def _to_json(value: Any) -> Any:
    """JSON for what ``json`` does not know: numpy arrays and scalars, paths."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
