"""Trajectories on disk: read back by others, killed, resumed, out of room.

Benzene, 12 atoms, since XTC rounds only beyond 9. Frames come from `frame`, which knows any of
them, so that a resumed run can be compared with an uninterrupted one.
"""

import contextlib
import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import ase.io
import mdtraj
import numpy as np
import pytest
from ase.build import molecule

from shared import writers
from shared.bonds import bonded_pairs
from shared.errors import InputError
from shared.io import read_frames, read_start
from shared.state import PhaseState
from shared.writers import FORMATS, TrajectoryWriter, load_state, output_files

# mdtraj says that an HDF5 file has its own topology, MDAnalysis that its DCD reader will change.
pytestmark = pytest.mark.filterwarnings("ignore:top= kwargs", "ignore:DCDReader")

BENZENE = molecule("C6H6")
INTERVAL = 2.5  # fs
TOLERANCE = {"dcd": 1e-6, "xtc": 0.0051, "h5": 1e-6, "extxyz": 1e-8}  # Å


def frame(k: int, n_replicas: int) -> PhaseState:
    """Frame k, from 0 for the start."""
    rng = np.random.default_rng(k)
    shape = (n_replicas, 12, 3)
    return PhaseState(
        numbers=BENZENE.numbers,
        positions=BENZENE.positions + 0.02 * rng.standard_normal(shape),
        velocities=0.01 * rng.standard_normal(shape),
        previous_velocities=0.01 * rng.standard_normal(shape),
        previous_interval_fs=5.0,
        thermostat=0.01 * rng.standard_normal((n_replicas, 1)),
        time_fs=INTERVAL * k,
    )


def write(out: Path, kind: str, n_replicas: int, last: int, flush_every: int, **options) -> None:
    """Frames 1 to `last`, flushed now and then; with `resume`, those that are missing."""
    first, start = 1, frame(0, n_replicas)
    if options.pop("resume", False):
        point = options["resume_from"] = load_state(out)
        first, start = point.n_frames + 1, point.state
    with TrajectoryWriter(
        out, start, format=kind, frame_interval_fs=INTERVAL, flush_seconds=1e9, **options
    ) as writer:
        for k in range(first, last + 1):
            writer.write(frame(k, n_replicas), extra={"frame": k})
            if k % flush_every == 0:
                writer.flush()


def read_positions(path: Path, topology: Path) -> np.ndarray:
    """[T, N, 3], Å, as other programs see the file."""
    if path.suffix == ".extxyz":
        return np.stack([atoms.positions for atoms in ase.io.read(path, ":")])
    return 10.0 * mdtraj.load(str(path), top=str(topology)).xyz.astype(np.float64)


def check_files(out: Path, kind: str, n_replicas: int, n_frames: int, exactly: bool = True) -> None:
    """Every replica's file loads and holds frames 1 to `n_frames`, and none after them."""
    for replica, path in enumerate(output_files(out, kind, n_replicas)):
        expected = [frame(k, n_replicas).positions[replica] for k in range(1, n_frames + 1)]
        x = read_positions(path, out.with_suffix(".pdb"))
        assert len(x) == n_frames or not exactly
        np.testing.assert_allclose(x[:n_frames], expected, atol=TOLERANCE[kind])


def contents(path: Path) -> list[np.ndarray] | bytes:
    """What must be equal to the bit: bytes, or (HDF5 lays them out in its own way) arrays."""
    if path.suffix != ".h5":
        return path.read_bytes()
    with mdtraj.formats.HDF5TrajectoryFile(path) as file:
        data = file.read()
    return [data.coordinates.tolist(), data.velocities.tolist(), data.time.tolist()]


@pytest.fixture(params=FORMATS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=[1, 3], ids=["R1", "R3"])
def n_replicas(request: pytest.FixtureRequest) -> int:
    return request.param


# ---- what is written


def test_files_of_a_run(tmp_path: Path, kind: str, n_replicas: int) -> None:
    write(tmp_path / "benzene", kind, n_replicas, last=250, flush_every=60)
    numbered = [f"benzene_r00{r}.{kind}" for r in range(3)]
    trajectories = [f"benzene.{kind}"] if n_replicas == 1 else numbered
    common = ["benzene.json", "benzene.pdb", "benzene.state.npz"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(trajectories + common)
    check_files(tmp_path / "benzene", kind, n_replicas, 250)
    sidecar = json.loads((tmp_path / "benzene.json").read_text())
    assert sidecar["status"] == "done"
    assert sidecar["trajectories"] == trajectories
    assert (sidecar["n_frames"], sidecar["frame_interval_fs"]) == (250, INTERVAL)
    assert sidecar["last_time_fs"] == 250 * INTERVAL


def test_topology_has_the_bonds(tmp_path: Path) -> None:
    write(tmp_path / "a", "dcd", 1, last=1, flush_every=1)
    topology = mdtraj.load(str(tmp_path / "a.pdb")).topology
    bonds = sorted((a.index, b.index) for a, b in topology.bonds)
    expected = bonded_pairs(BENZENE.numbers, BENZENE.positions)
    assert bonds == [tuple(pair) for pair in expected.tolist()]
    assert "CONECT" in (tmp_path / "a.pdb").read_text()
    frames = read_frames(tmp_path / "a.pdb")
    assert frames.numbers.tolist() == BENZENE.numbers.tolist()
    np.testing.assert_allclose(frames.positions[0], frame(0, 1).positions[0], atol=6e-4)


def test_xtc_and_hdf5_have_times(tmp_path: Path) -> None:
    for kind in ("xtc", "h5"):
        write(tmp_path / kind, kind, 1, last=20, flush_every=7)
        times = mdtraj.load(
            str(tmp_path / f"{kind}.{kind}"), top=str(tmp_path / f"{kind}.pdb")
        ).time
        np.testing.assert_allclose(times, np.arange(1, 21) * INTERVAL / 1000, rtol=1e-6)


def test_hdf5_velocities_are_nm_per_ps(tmp_path: Path) -> None:
    write(tmp_path / "a", "h5", 1, last=3, flush_every=2)
    with mdtraj.formats.HDF5TrajectoryFile(tmp_path / "a.h5") as file:
        velocities = file.read().velocities
    expected = [100.0 * frame(k, 1).velocities[0] for k in (1, 2, 3)]
    np.testing.assert_allclose(velocities, expected, rtol=1e-6)


def test_extxyz_can_be_started_from(tmp_path: Path) -> None:
    write(tmp_path / "a", "extxyz", 1, last=5, flush_every=2)
    state = read_start(tmp_path / "a.extxyz", lag_fs=2 * INTERVAL)
    np.testing.assert_allclose(state.velocities, frame(5, 1).velocities, atol=1e-8)
    np.testing.assert_allclose(state.previous_velocities, frame(3, 1).velocities, atol=1e-8)
    np.testing.assert_allclose(state.thermostat, frame(5, 1).thermostat)
    assert read_frames(tmp_path / "a.extxyz").times_fs.tolist() == [2.5, 5.0, 7.5, 10.0, 12.5]
    atoms = ase.io.read(tmp_path / "a.extxyz")
    expected = frame(5, 1).velocities[0] / ase.units.fs
    np.testing.assert_allclose(atoms.get_velocities(), expected, atol=1e-6)


def test_states_without_velocities(tmp_path: Path, kind: str) -> None:
    start = PhaseState(BENZENE.numbers, BENZENE.positions[None])
    with TrajectoryWriter(tmp_path / "a", start, format=kind, frame_interval_fs=1.0) as writer:
        writer.write(start)
    x = read_positions(tmp_path / f"a.{kind}", tmp_path / "a.pdb")
    np.testing.assert_allclose(x[0], BENZENE.positions, atol=TOLERANCE[kind])


def test_dcd_repeats_to_the_bit_and_leaks_nothing(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / name, "dcd", 1, last=3, flush_every=1 if name == "a" else 2)
    content = (tmp_path / "a.dcd").read_bytes()
    assert content == (tmp_path / "b.dcd").read_bytes()
    assert b"Time between frames 2.5 fs" in content


@pytest.mark.parametrize("kind", ["dcd", "xtc"])
def test_mdanalysis_reads_it(tmp_path: Path, kind: str) -> None:
    mdanalysis = pytest.importorskip("MDAnalysis")
    write(tmp_path / "a", kind, 1, last=7, flush_every=3)
    universe = mdanalysis.Universe(str(tmp_path / "a.pdb"), str(tmp_path / f"a.{kind}"))
    assert len(universe.trajectory) == 7
    universe.trajectory[6]
    np.testing.assert_allclose(
        universe.atoms.positions, frame(7, 1).positions[0], atol=TOLERANCE[kind]
    )


def test_arrays_used_again_are_not_what_is_written(tmp_path: Path) -> None:
    state = frame(1, 1)
    with TrajectoryWriter(tmp_path / "a", frame(0, 1), frame_interval_fs=INTERVAL) as writer:
        writer.write(state)
        state.positions[:] = 0.0
    check_files(tmp_path / "a", "dcd", 1, 1)


def test_flushes_come_with_time_and_with_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def frames_on_disk(flush_seconds: float) -> int:
        with TrajectoryWriter(
            tmp_path / "a",
            frame(0, 1),
            frame_interval_fs=INTERVAL,
            overwrite=True,
            flush_seconds=flush_seconds,
        ) as writer:
            for k in range(1, 11):
                writer.write(frame(k, 1))
            return load_state(tmp_path / "a").n_frames

    monkeypatch.setattr(writers, "_FLUSH_SHARE", 1e9)
    assert frames_on_disk(flush_seconds=0.0) == 10
    assert frames_on_disk(flush_seconds=1e9) == 0
    monkeypatch.setattr(writers, "_PENDING_BYTES", 4 * frame(0, 1).positions.nbytes * 2)
    assert frames_on_disk(flush_seconds=1e9) == 8


# ---- stopped and resumed


def test_resumed_equals_uninterrupted(tmp_path: Path, kind: str, n_replicas: int) -> None:
    write(tmp_path / "whole", kind, n_replicas, last=120, flush_every=50)
    write(tmp_path / "parts", kind, n_replicas, last=33, flush_every=10)
    write(tmp_path / "parts", kind, n_replicas, last=34, flush_every=10, resume=True)
    write(tmp_path / "parts", kind, n_replicas, last=120, flush_every=30, resume=True)
    pairs = (output_files(tmp_path / name, kind, n_replicas) for name in ("whole", "parts"))
    for whole, parts in zip(*pairs, strict=True):
        assert contents(whole) == contents(parts)


def test_state_comes_back_to_the_bit(tmp_path: Path) -> None:
    write(tmp_path / "a", "dcd", 3, last=9, flush_every=4)
    point = load_state(tmp_path / "a")
    assert (point.n_frames, point.extra, point.frame_interval_fs) == (9, {"frame": 9}, INTERVAL)
    for field in fields(PhaseState):
        saved, given = (getattr(state, field.name) for state in (point.state, frame(9, 3)))
        np.testing.assert_array_equal(saved, given)


def test_random_numbers_go_on_where_they_stopped(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with TrajectoryWriter(tmp_path / "a", frame(0, 1), frame_interval_fs=INTERVAL) as writer:
        writer.write(frame(1, 1), extra={"rng": rng.bit_generator.state})
    again = np.random.default_rng()
    again.bit_generator.state = load_state(tmp_path / "a").extra["rng"]
    assert again.random() == rng.random()


def test_ctrl_c_leaves_everything_closed(tmp_path: Path, kind: str) -> None:
    with (
        contextlib.suppress(KeyboardInterrupt),
        TrajectoryWriter(
            tmp_path / "a", frame(0, 1), format=kind, frame_interval_fs=INTERVAL, flush_seconds=1e9
        ) as writer,
    ):
        for k in range(1, 6):
            writer.write(frame(k, 1))
        raise KeyboardInterrupt
    check_files(tmp_path / "a", kind, 1, 5)
    assert json.loads((tmp_path / "a.json").read_text())["status"] == "interrupted"


@pytest.mark.parametrize("call", range(4))
def test_ctrl_c_within_a_flush(
    tmp_path: Path, kind: str, call: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leaving the block flushes again; no replica gets a frame twice."""
    calls = 0

    def interrupted(source: Path, target: Path) -> None:
        nonlocal calls
        replace(source, target)
        calls += 1
        if calls == call + 1:
            raise KeyboardInterrupt

    write(tmp_path / "a", kind, 3, last=4, flush_every=2)
    point = load_state(tmp_path / "a")
    writer = TrajectoryWriter(
        tmp_path / "a", point.state, format=kind, frame_interval_fs=INTERVAL, resume_from=point
    )
    replace = os.replace
    monkeypatch.setattr(os, "replace", interrupted)
    with contextlib.suppress(KeyboardInterrupt), writer:
        writer.write(frame(5, 3))
        writer.flush()
        writer.write(frame(6, 3))
        writer.flush()
    assert load_state(tmp_path / "a").n_frames in (5, 6)
    check_files(tmp_path / "a", kind, 3, load_state(tmp_path / "a").n_frames)


def test_ctrl_c_waits_for_the_flush(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def and_interrupt(source: Path, target: Path) -> None:
        replace(source, target)
        signal.raise_signal(signal.SIGINT)

    with TrajectoryWriter(
        tmp_path / "a", frame(0, 3), format=kind, frame_interval_fs=INTERVAL
    ) as writer:
        writer.write(frame(1, 3))
        replace = os.replace
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", and_interrupt)
            with pytest.raises(KeyboardInterrupt):
                writer.flush()
        assert load_state(tmp_path / "a").n_frames == 1
        writer.write(frame(2, 3))
    check_files(tmp_path / "a", kind, 3, 2)


def test_an_exception_keeps_the_frames(tmp_path: Path) -> None:
    class ModelError(Exception):
        pass

    with (
        contextlib.suppress(ModelError),
        TrajectoryWriter(tmp_path / "a", frame(0, 1), frame_interval_fs=INTERVAL) as writer,
    ):
        writer.write(frame(1, 1))
        raise ModelError
    check_files(tmp_path / "a", "dcd", 1, 1)
    assert json.loads((tmp_path / "a.json").read_text())["status"] == "failed"


KILLED = """
import importlib.util, sys, time
spec = importlib.util.spec_from_file_location("test_writers", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
kind, n_replicas, out = sys.argv[2], int(sys.argv[3]), sys.argv[4]
writer = module.TrajectoryWriter(
    out, module.frame(0, n_replicas), format=kind, frame_interval_fs=module.INTERVAL
)
for k in range(1, 100_000):
    writer.write(module.frame(k, n_replicas), extra={"frame": k})
    if k % 3 == 0:
        writer.flush()
        print(k, flush=True)
"""


@contextlib.contextmanager
def running(kind: str, n_replicas: int, out: Path) -> Iterator[subprocess.Popen]:
    """A process that writes until it is killed, and prints how many frames it has flushed."""
    command = [sys.executable, "-c", KILLED, __file__, kind, str(n_replicas), str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=os.getcwd()) as process:
        try:
            yield process
        finally:
            process.kill()


def test_killed_and_resumed(tmp_path: Path, kind: str, n_replicas: int) -> None:
    out = tmp_path / "killed"
    with running(kind, n_replicas, out) as process:
        for _ in range(4):
            flushed = int(process.stdout.readline())
        time.sleep(np.random.default_rng().uniform(0.0, 0.02))  # anywhere, a flush included
        process.send_signal(signal.SIGKILL)
        flushed = max([flushed, *map(int, process.stdout.read().split())])
    assert json.loads((tmp_path / "killed.json").read_text())["status"] == "running"
    point = load_state(out)
    assert flushed <= point.n_frames <= flushed + 3
    for path in output_files(out, kind, n_replicas):
        if kind == "extxyz":  # a kill within the write itself leaves part of a frame
            frames = path.read_text().count("\n") // (len(BENZENE) + 2)
            assert len(ase.io.read(path, f":{frames}")) == frames
        else:
            frames = len(read_positions(path, tmp_path / "killed.pdb"))
        assert point.n_frames <= frames <= point.n_frames + 3
    last = point.n_frames + 20
    write(out, kind, n_replicas, last=last, flush_every=8, resume=True)
    write(tmp_path / "whole", kind, n_replicas, last=last, flush_every=50)
    pairs = (output_files(tmp_path / name, kind, n_replicas) for name in ("whole", "killed"))
    for whole, killed in zip(*pairs, strict=True):
        assert contents(whole) == contents(killed)


def test_part_of_a_frame_is_cut_away(tmp_path: Path) -> None:
    """What a kill within the write itself can leave."""
    for kind in ("dcd", "xtc", "extxyz"):
        out = tmp_path / kind
        write(out, kind, 1, last=6, flush_every=3)
        whole = (tmp_path / f"{kind}.{kind}").read_bytes()
        with open(tmp_path / f"{kind}.{kind}", "ab") as file:
            file.write(whole[-100:-10])
        if kind == "dcd":
            assert len(read_positions(tmp_path / "dcd.dcd", tmp_path / "dcd.pdb")) == 6
        write(out, kind, 1, last=6, flush_every=3, resume=True)
        assert (tmp_path / f"{kind}.{kind}").read_bytes() == whole


def test_resume_before_the_first_flush(tmp_path: Path, kind: str) -> None:
    TrajectoryWriter(tmp_path / "a", frame(0, 1), format=kind, frame_interval_fs=INTERVAL)
    assert not (tmp_path / f"a.{kind}").exists()
    write(tmp_path / "a", kind, 1, last=2, flush_every=1, resume=True)
    check_files(tmp_path / "a", kind, 1, 2)


def resume(out: Path, **options) -> None:
    point = load_state(out)
    options = {"format": "dcd", "frame_interval_fs": INTERVAL, "start": point.state, **options}
    TrajectoryWriter(out, resume_from=point, **options)


def test_what_cannot_be_resumed(tmp_path: Path) -> None:
    out = tmp_path / "a"
    with pytest.raises(InputError, match="no run to resume"):
        load_state(out)
    write(out, "dcd", 1, last=3, flush_every=3)
    with pytest.raises(InputError, match="cannot resume with format xtc: the run has dcd"):
        resume(out, format="xtc")
    with pytest.raises(InputError, match=r"time between frames 1\.0: the run has 2\.5"):
        resume(out, frame_interval_fs=1.0)
    with pytest.raises(InputError, match="number of replicas 3: the run has 1"):
        resume(out, start=frame(0, 3))


def test_files_that_lost_frames(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "a", kind, 1, last=3, flush_every=3)
    write(tmp_path / "short", kind, 1, last=2, flush_every=3)
    (tmp_path / f"short.{kind}").replace(tmp_path / f"a.{kind}")
    with pytest.raises(InputError, match="has lost frames"):
        resume(tmp_path / "a", format=kind)
    (tmp_path / f"a.{kind}").unlink()
    with pytest.raises(InputError, match="no such file"):
        resume(tmp_path / "a", format=kind)


@pytest.mark.parametrize("content", [b"", b"hello", "cut", "version"])
def test_broken_state_files(tmp_path: Path, content: bytes | str) -> None:
    write(tmp_path / "a", "dcd", 1, last=3, flush_every=3)
    path = tmp_path / "a.state.npz"
    if content == "cut":
        path.write_bytes(path.read_bytes()[:-300])
    elif content == "version":
        arrays = dict(np.load(path))
        header = json.loads(str(arrays.pop("header")))
        np.savez(path, header=json.dumps({**header, "version": 0}), **arrays)
    else:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"another version|not a state file"):
        load_state(tmp_path / "a")


# ---- bad input, and no room


def test_outputs_are_not_overwritten_by_accident(tmp_path: Path) -> None:
    write(tmp_path / "a", "dcd", 3, last=3, flush_every=3)
    before = (tmp_path / "a_r002.dcd").read_bytes()
    with pytest.raises(InputError, match="is there already"):
        write(tmp_path / "a", "dcd", 3, last=1, flush_every=3)
    assert (tmp_path / "a_r002.dcd").read_bytes() == before
    (tmp_path / "a_rest.dcd").touch()
    write(tmp_path / "a", "dcd", 1, last=1, flush_every=3, overwrite=True)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["a.dcd", "a.json", "a.pdb", "a.state.npz", "a_rest.dcd"]
    write(tmp_path / "a", "xtc", 1, last=1, flush_every=3, overwrite=True)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["a.json", "a.pdb", "a.state.npz", "a.xtc", "a_rest.dcd"]


def test_a_lost_topology_comes_back_with_resuming(tmp_path: Path) -> None:
    write(tmp_path / "a", "dcd", 1, last=3, flush_every=3)
    topology = (tmp_path / "a.pdb").read_bytes()
    (tmp_path / "a.pdb").unlink()
    write(tmp_path / "a", "dcd", 1, last=6, flush_every=3, resume=True)
    assert len((tmp_path / "a.pdb").read_bytes()) == len(topology)


@pytest.mark.parametrize(
    ("out", "options", "message"),
    [
        ("a", {"format": "trr"}, "unknown format 'trr'; choose one of dcd, xtc, h5, extxyz"),
        ("a.xtc", {}, "the name says xtc but the format is dcd"),
        ("folder", {}, "is a folder"),
        ("a", {"frame_interval_fs": 0.0}, "must be > 0 fs"),
        ("a", {"frame_interval_fs": float("nan")}, "must be > 0 fs"),
        ("file/a", {}, "cannot write there"),
    ],
)
def test_bad_outputs(tmp_path: Path, out: str, options: dict, message: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    options = {"frame_interval_fs": INTERVAL, **options}
    with pytest.raises(InputError, match=message):
        TrajectoryWriter(tmp_path / out, frame(0, 1), **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_that_is_not_writable(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(InputError, match="cannot write there"):
        TrajectoryWriter(tmp_path / "a", frame(0, 1), frame_interval_fs=INTERVAL)
    tmp_path.chmod(0o755)


def test_the_ending_may_be_in_the_name_and_the_folder_is_made(tmp_path: Path) -> None:
    write(tmp_path / "new" / "run.1.dcd", "dcd", 1, last=1, flush_every=1)
    assert (tmp_path / "new" / "run.1.dcd").exists()
    assert (tmp_path / "new" / "run.1.pdb").exists()
    assert load_state(tmp_path / "new" / "run.1").n_frames == 1


def test_frames_must_fit(tmp_path: Path) -> None:
    writer = TrajectoryWriter(tmp_path / "a", frame(0, 1), frame_interval_fs=INTERVAL)
    with pytest.raises(InputError, match="does not fit"):
        writer.write(frame(1, 3))


@contextlib.contextmanager
def largest_file(n_bytes: int) -> Iterator[None]:
    """No file can grow beyond: a write stops midway, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def check_what_is_left(out: Path, kind: str, n_replicas: int) -> None:
    """The files are valid, agree with the state, and the run can go on when there is room.

    HDF5 files may be longer: to cut them takes room.
    """
    n_frames = load_state(out).n_frames
    assert n_frames >= 10
    check_files(out, kind, n_replicas, n_frames, exactly=kind != "h5")
    sidecar = json.loads(out.with_suffix(".json").read_text())
    assert (sidecar["status"], sidecar["n_frames"]) == ("failed", n_frames)
    write(out, kind, n_replicas, last=n_frames + 5, flush_every=5, resume=True)
    check_files(out, kind, n_replicas, n_frames + 5)


@pytest.mark.parametrize("kind", ["dcd", "xtc", "extxyz"])
def test_disk_that_fills_midway(tmp_path: Path, kind: str, n_replicas: int) -> None:
    write(tmp_path / "a", kind, n_replicas, last=10, flush_every=10)
    size = max(path.stat().st_size for path in output_files(tmp_path / "a", kind, n_replicas))
    with largest_file(size + 5000), pytest.raises(OSError, match="File too large"):
        write(tmp_path / "a", kind, n_replicas, last=5000, flush_every=2, resume=True)
    check_what_is_left(tmp_path / "a", kind, n_replicas)


def test_disk_that_is_full_at_the_start(tmp_path: Path) -> None:
    with largest_file(100), pytest.raises(OSError, match="File too large"):
        TrajectoryWriter(tmp_path / "a", frame(0, 1), frame_interval_fs=INTERVAL)
    assert not list(tmp_path.iterdir())


def test_the_sidecar_is_of_the_frames_that_are_there(tmp_path: Path) -> None:
    out = tmp_path / "a"

    def fill() -> None:
        with TrajectoryWriter(out, frame(0, 1), frame_interval_fs=INTERVAL) as writer:
            for k in range(1, 100):
                writer.sidecar["frames"] = k
                writer.write(frame(k, 1))
                with largest_file(10_000 if k > 10 else 10**9):
                    writer.flush()

    with pytest.raises(OSError, match="File too large"):
        fill()
    sidecar = json.loads(out.with_suffix(".json").read_text())
    assert sidecar["frames"] == sidecar["n_frames"] >= 10


def test_disk_that_fills_midway_hdf5(
    tmp_path: Path, n_replicas: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Room to cut the files on resuming and to write one; none for the next, nor to cut back.
    free = iter([10**9] * (n_replicas + 1) + [0] * 2)
    write(tmp_path / "a", "h5", n_replicas, last=10, flush_every=10)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: usage._replace(free=next(free, usage.free))
    )
    with pytest.raises(OSError, match="No space left") as caught:
        write(tmp_path / "a", "h5", n_replicas, last=30, flush_every=10, resume=True)
    assert caught.value.errno == errno.ENOSPC
    check_what_is_left(tmp_path / "a", "h5", n_replicas)


def test_hdf5_that_loses_data_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a", "h5", 1, last=10, flush_every=10)

    def write_nothing(self: object, coordinates: np.ndarray, **others: np.ndarray) -> None:
        pass

    with monkeypatch.context() as patch:
        patch.setattr(mdtraj.formats.HDF5TrajectoryFile, "write", write_nothing)
        with pytest.raises(OSError, match="lost what was written"):
            write(tmp_path / "a", "h5", 1, last=20, flush_every=10, resume=True)
    check_what_is_left(tmp_path / "a", "h5", 1)
