"""A frame in, a trajectory out: what is written, resuming, interruptions, bad input."""

import io
import json
import logging
import resource
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import ase.io
import mdtraj
import numpy as np
import pytest
from ase.build import molecule

from shared import progress, writers
from shared.checkpoint import CONFIG, WEIGHTS, shipped
from shared.data.md17 import SURROGATE_MOLECULES
from shared.io import read_frames, read_start
from shared.kinetics import temperature
from shared.record import RunRecord
from shared.run import FORMATS
from shared.units import masses
from tests import commands
from tests.commands import (
    ROOT,
    check_help,
    check_interrupted,
    check_outputs_are_kept,
    check_resumed_to_the_bit,
    contents,
    environment,
)
from tests.trajgen.conftest import MOLECULES, save_tiny
from trajgen import sample as module
from trajgen.sample import main, sample
from trajgen.samplers import SAMPLERS

COMMAND = "trajgen.sample"
check_one_line = partial(commands.check_one_line, COMMAND)
check_refused = partial(commands.check_refused, COMMAND)
command = partial(commands.command, COMMAND)
EXAMPLES = ROOT / "examples"

pytestmark = pytest.mark.filterwarnings("ignore:top= kwargs")


@pytest.fixture
def run(
    tiny: Path, ethanol: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., int]:
    """The command line in an empty folder; ten frames of the tiny generator unless said."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def call(*options: str, source: Path = ethanol, checkpoint: Path = tiny) -> int:
        given = ["--from", str(source), "--checkpoint", str(checkpoint)]
        if "--length-ps" not in options:
            given += ["--length-ps", "0.005"]
        return main([*given, *options])

    return call


# ---- what is written -----------------------------------------------------------------------------


def test_default_output(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    trajectory = mdtraj.load("ethanol.dcd", top="ethanol.pdb")
    assert (trajectory.n_frames, trajectory.n_atoms, trajectory.topology.n_bonds) == (10, 9, 8)
    sidecar = json.loads(Path("ethanol.json").read_text())
    assert sidecar["status"] == "done"
    assert (sidecar["checkpoint"], sidecar["molecule"]) == ("tiny", "ethanol")
    assert sidecar["checkpoint_sha256"].startswith("sha256:")
    assert (sidecar["lag_fs"], sidecar["frame_interval_fs"]) == (0.5, 0.5)
    assert (sidecar["sampler"], sidecar["steps"], sidecar["seed"]) == ("heun", 1, 0)
    assert sidecar["start_velocities"] == "Maxwell-Boltzmann at 10 K"
    assert sidecar["stability"]["n_whole"] == 1
    assert sidecar["stability"]["run_ps"] == pytest.approx(0.005)
    assert sidecar["provenance"]["versions"]["torch"]
    said = capsys.readouterr()
    assert "stability: 1 of 1 whole" in said.out
    assert "wrote ethanol.dcd, ethanol.pdb, ethanol.json" in said.out


@pytest.mark.parametrize("format", ["xtc", "h5", "extxyz"])
def test_replicas_and_formats(run: Callable[..., int], format: str) -> None:
    assert run("--replicas", "2", "--format", format, "--out", "sub/traj") == 0
    names = sorted(p.name for p in Path("sub").iterdir())
    trajectories = [f"traj_r00{r}.{format}" for r in range(2)]
    assert names == ["traj.json", "traj.pdb", "traj.state.npz", *trajectories]
    if format == "extxyz":
        one, other = (read_frames(Path("sub", name)) for name in trajectories)
        assert one.n_frames == 10
        assert not np.allclose(one.velocities[0], other.velocities[0]), "drawn once for all"
    else:
        assert mdtraj.load(f"sub/{trajectories[1]}", top="sub/traj.pdb").n_frames == 10


def test_interval_and_lag(run: Callable[..., int]) -> None:
    """Frames that are saved less often are the same frames."""
    assert run("--format", "extxyz", "--out", "all") == 0
    assert run("--format", "extxyz", "--out", "some", "--interval-fs", "2") == 0
    all_, some = read_frames("all.extxyz"), read_frames("some.extxyz")
    np.testing.assert_allclose(some.times_fs, [2, 4])
    np.testing.assert_array_equal(some.positions, all_.positions[3::4][:2])
    assert run("--format", "extxyz", "--out", "long", "--lag-fs", "1") == 0
    assert read_frames("long.extxyz").n_frames == 5


def test_plot(run: Callable[..., int]) -> None:
    assert run("--plot", "--replicas", "2") == 0
    assert Path("ethanol.png").read_bytes().startswith(b"\x89PNG")


def test_function(tiny: Path, ethanol: Path, tmp_path: Path) -> None:
    done = sample(ethanol, checkpoint=str(tiny), length_ps=0.002, out=tmp_path / "traj")
    assert done.trajectories == [tmp_path / "traj.dcd"]
    assert all(path.exists() for path in (*done.trajectories, done.topology, done.sidecar))
    assert done.survived


def test_order_of_atoms(run: Callable[..., int], tmp_path: Path) -> None:
    order = [8, 0, 3, 2, 1, 4, 7, 6, 5]
    path = tmp_path / "other.xyz"
    MOLECULES["ethanol"][order].write(path)
    assert run(source=path) == 0
    assert json.loads(Path("other.json").read_text())["molecule"] == "ethanol"


# ---- the start -----------------------------------------------------------------------------------


def record_start(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The starts that the generator is given."""
    from trajgen.rollout import Generator

    starts: list[Any] = []
    propagate = Generator.propagate

    def watched(self: Any, start: Any, *arguments: Any, **options: Any) -> Any:
        starts.append(start)
        return propagate(self, start, *arguments, **options)

    monkeypatch.setattr(Generator, "propagate", watched)
    return starts


def test_drawn_velocities(run: Callable[..., int], monkeypatch, capsys) -> None:
    starts = record_start(monkeypatch)
    assert run("--temperature", "20", "--replicas", "3") == 0
    v, x, m = starts[0].velocities, starts[0].positions, masses(starts[0].numbers)
    assert temperature(v, m) == pytest.approx([20.0] * 3)  # all 3N, as the checkpoint counts
    np.testing.assert_allclose(np.einsum("n,rnk->rk", m, v), 0, atol=1e-12)
    np.testing.assert_allclose(np.einsum("n,rnk->rk", m, np.cross(x, v)), 0, atol=1e-12)
    assert "20 K sets the start only" in capsys.readouterr().err
    for options in ([], ["--temperature", "10.1"]):
        run("--overwrite", *options)
        assert "warning" not in capsys.readouterr().err


def test_temperature_convention(run: Callable[..., int], monkeypatch, tmp_path: Path) -> None:
    starts = record_start(monkeypatch)
    folder = save_tiny(tmp_path / "3N-6", temperature_convention="3N-6")
    assert run(checkpoint=folder) == 0
    m = masses(starts[0].numbers)
    assert temperature(starts[0].velocities, m, dof=21) == pytest.approx([10.0])


def test_velocities_of_the_file(run: Callable[..., int], monkeypatch, tmp_path, capsys) -> None:
    starts = record_start(monkeypatch)
    atoms = MOLECULES["ethanol"].copy()
    velocities = 1e-3 * np.random.default_rng(0).standard_normal((9, 3))
    atoms.set_array("velocities", velocities)
    atoms.write(tmp_path / "moving.xyz", format="extxyz")
    assert run("--temperature", "10", source=tmp_path / "moving.xyz") == 0
    np.testing.assert_allclose(starts[0].velocities[0], velocities, atol=1e-8)
    assert "the temperature is not used" in capsys.readouterr().err


def test_velocities_and_acceleration_of_a_history(
    run: Callable[..., int], monkeypatch, tmp_path: Path
) -> None:
    starts = record_start(monkeypatch)
    atoms, frames = MOLECULES["ethanol"], []
    velocity, acceleration = 1e-3 * np.random.default_rng(0).standard_normal((2, 9, 3))
    for t in np.arange(-2.0, 0.1, 0.5):
        frames.append(atoms.copy())
        frames[-1].positions += velocity * t + acceleration * t**2 / 2
    ase.io.write(tmp_path / "history.xyz", frames, format="extxyz")
    assert run("--history-interval-fs", "0.5", source=tmp_path / "history.xyz") == 0
    np.testing.assert_allclose(starts[0].velocities[0], velocity, atol=1e-6)
    np.testing.assert_allclose(starts[0].accelerations[0], acceleration, atol=1e-6)
    said = json.loads(Path("history.json").read_text())["start_velocities"]
    assert said == "the file, with the acceleration"
    ase.io.write(tmp_path / "two.xyz", frames[-2:], format="extxyz")
    assert run("--history-interval-fs", "0.5", source=tmp_path / "two.xyz") == 0
    said = json.loads(Path("two.json").read_text())["start_velocities"]
    assert said == "the file, without the acceleration, which needs frames 0.5 fs apart"


def test_frames_that_are_not_consecutive(run: Callable[..., int], tmp_path: Path, capsys) -> None:
    frames = [MOLECULES["ethanol"].copy() for _ in range(3)]
    frames[1].positions[[4, 5]] = frames[1].positions[[5, 4]]  # two hydrogens exchanged
    ase.io.write(tmp_path / "swapped.xyz", frames, format="extxyz")
    assert run("--history-interval-fs", "5", source=tmp_path / "swapped.xyz") == 2
    check_one_line(capsys.readouterr().err, "between frames 0 and 1: they are not consecutive")
    assert not list(Path().iterdir())


def test_friction_beyond_any_thermostat(run: Callable[..., int], tmp_path: Path, capsys) -> None:
    atoms = MOLECULES["ethanol"].copy()
    atoms.info["xi_per_fs"] = 1e6
    atoms.write(tmp_path / "hot.xyz", format="extxyz")
    assert run(source=tmp_path / "hot.xyz") == 2
    check_one_line(capsys.readouterr().err, "is no thermostat's")


@pytest.mark.parametrize("name", [*SURROGATE_MOLECULES, "ethanol_history"])
def test_examples(name: str) -> None:
    start = read_start(
        EXAMPLES / f"{name}.xyz",
        history_interval_fs=0.5 if "history" in name else None,
        lag_fs=0.5,
    )
    assert 200 < temperature(start.velocities, masses(start.numbers))[0] < 900
    assert (start.previous_velocities is not None) == ("history" in name)


# ---- resuming ------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["dcd", "extxyz"])
def test_resumed_to_the_bit(run: Callable[..., int], monkeypatch, format: str) -> None:
    endings = f"_r000.{format}", f"_r001.{format}", ".png"
    check_resumed_to_the_bit(run, monkeypatch, ["--format", format], 5, *endings)


def test_a_resumed_run_says_when_it_began_and_went_on(run: Callable[..., int], capsys) -> None:
    def provenance() -> tuple[Any, Any]:
        said = json.loads(Path("ethanol.json").read_text())
        return said["provenance"], said.get("resumed", [])

    assert run("--length-ps", "0.002") == 0
    first, resumed = provenance()
    assert resumed == []
    assert run("--length-ps", "0.004", "--resume") == 0
    assert "0.004 ps, the last 0.002 ps in" in capsys.readouterr().out
    assert run("--length-ps", "0.005", "--resume") == 0
    again, resumed = provenance()
    assert again == first
    assert [set(each) for each in resumed] == [set(first)] * 2


def test_a_file_whose_velocities_are_far_from_the_data(
    run: Callable[..., int], tmp_path: Path, capsys
) -> None:
    atoms = MOLECULES["ethanol"].copy()
    slow = 1e-6 * np.random.default_rng(0).standard_normal((9, 3))
    atoms.set_array("velocities", slow)
    atoms.write(tmp_path / "slow.xyz", format="extxyz")
    run(source=tmp_path / "slow.xyz")  # which need not stay whole
    said = capsys.readouterr().err
    assert "warning: the file's velocities are those of" in said
    assert "are of 10 K" in said


def test_a_molecule_that_was_not_among_those_of_the_data(run: Callable[..., int], capsys) -> None:
    """Is simulated where the kinds of its atoms were, and said."""
    assert run("--length-ps", "0.01", checkpoint="isomers") == 0
    assert "checkpoint isomers was not trained on this molecule" in capsys.readouterr().err


def test_resumed_to_the_bit_with_a_thermostat(run: Callable[..., int], monkeypatch) -> None:
    """Whose random numbers belong to the seed and the time, and whose temperature is kept."""
    options = ["--thermostat-fs", "5", "--temperature", "20"]
    check_resumed_to_the_bit(run, monkeypatch, options, 5, "_r000.dcd", "_r001.dcd")


def test_temperature_of_the_thermostat(run: Callable[..., int], tmp_path: Path, capsys) -> None:
    """Is the one asked for, which is said where the checkpoint learned another."""
    held = ["--thermostat-fs", "5", "--temperature", "20"]
    assert run(*held) == 0
    assert "20 K is what the thermostat drives at" in capsys.readouterr().err
    said = json.loads(Path("ethanol.json").read_text())
    assert said["thermostat_fs"] == 5
    assert said["thermostat_temperature_K"] == 20
    atoms = MOLECULES["ethanol"].copy()
    atoms.set_array("velocities", np.full((9, 3), 1e-3))
    atoms.write(tmp_path / "moving.xyz", format="extxyz")
    moving = {"source": tmp_path / "moving.xyz"}
    assert run(*held, **moving) == 0
    assert "not used" not in capsys.readouterr().err
    assert run("--resume", "--thermostat-fs", "5", "--temperature", "30", **moving) == 2
    assert "thermostat temperature K 30.0: the run has 20.0" in capsys.readouterr().err


def test_resuming_what_is_done_changes_nothing(run: Callable[..., int], capsys) -> None:
    assert run() == 0
    before = contents()
    assert run("--resume") == 0
    assert contents() == before


def test_resuming_what_was_stopped_before_its_first_frame(
    run: Callable[..., int], monkeypatch
) -> None:
    def interrupted(self: RunRecord, state: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(RunRecord, "observe", interrupted)
        assert run() == 1
    assert run("--resume") == 0
    assert mdtraj.load("ethanol.dcd", top="ethanol.pdb").n_frames == 10


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--seed", "1"], "cannot resume with seed 1: the run has 0"),
        (["--lag-fs", "1", "--interval-fs", "1"], "cannot resume with frame interval fs 1.0"),
        (["--steps", "2"], "cannot resume with steps 2: the run has 1"),
        (["--replicas", "2"], "cannot resume with replicas 2: the run has 1"),
        (["--length-ps", "0.002"], "0.005 ps are there already"),
        (["--out", "other"], "no run to resume"),
        (["--overwrite"], "either resumed or overwritten"),
    ],
)
def test_resuming_something_else(run: Callable[..., int], capsys, options, says) -> None:
    assert run() == 0
    check_refused(run, capsys, "--resume", *options, says=says)


def test_resuming_with_another_checkpoint_or_molecule(
    run: Callable[..., int], capsys, tmp_path: Path
) -> None:
    assert run() == 0
    other = save_tiny(tmp_path / "tiny", history="acceleration")
    says = "cannot resume with checkpoint sha256"
    check_refused(run, capsys, "--resume", says=says, checkpoint=other)
    water = tmp_path / "water.xyz"
    MOLECULES["water"].write(water)
    options, says = ("--resume", "--out", "ethanol"), "cannot resume with molecule water"
    check_refused(run, capsys, *options, says=says, source=water)


# ---- interruptions -------------------------------------------------------------------------------


def test_ctrl_c(tmp_path: Path) -> None:
    """With a shipped model: untrained ones break their molecule before they are interrupted."""
    options = "md17s", EXAMPLES / "ethanol.xyz", "--length-ps", "100"
    check_interrupted(COMMAND, command(*options), tmp_path)


def test_full_disk(run: Callable[..., int], monkeypatch, capsys) -> None:
    """The first block fits, the second does not."""
    eager = partial(writers.TrajectoryWriter, flush_seconds=0)
    monkeypatch.setattr(writers, "TrajectoryWriter", eager)
    monkeypatch.setattr(writers, "_FLUSH_SHARE", 1e9)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
    try:
        assert run("--format", "extxyz", "--temperature", "1", "--length-ps", "1") == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("trajgen.sample: ")
    assert "--resume goes on" in said[-1]
    n_frames = json.loads(Path("ethanol.json").read_text())["n_frames"]
    assert read_frames("ethanol.extxyz").n_frames == n_frames > 5


def test_when_no_replica_is_whole(run: Callable[..., int], capsys) -> None:
    assert run("--temperature", "2000", "--length-ps", "1", "--replicas", "2") == 1
    said = capsys.readouterr()
    assert "0 of 2 whole" in said.out
    assert "replica 1 broke at" in said.out
    assert said.err.splitlines()[-1] == "trajgen.sample: no replica is whole, stopped"
    n_frames = json.loads(Path("ethanol.json").read_text())["n_frames"]
    assert mdtraj.load("ethanol_r000.dcd", top="ethanol.pdb").n_frames == n_frames < 500
    before = contents()
    assert run("--temperature", "2000", "--length-ps", "1", "--replicas", "2", "--resume") == 1
    assert contents() == before


# ---- bad input -----------------------------------------------------------------------------------


def xyz(name: str = "CH3CH2OH", comment: str = "") -> str:
    """A structure as text."""
    atoms = molecule(name)
    rows = [
        f"{symbol} {x:.6f} {y:.6f} {z:.6f}"
        for symbol, (x, y, z) in zip(atoms.symbols, atoms.positions, strict=True)
    ]
    return "\n".join([str(len(atoms)), comment, *rows]) + "\n"


BAD_FILES = {
    "empty": ("", "empty"),
    "prose": ("It was a dark and stormy night.\n", "expected a number of atoms"),
    "truncated": (xyz()[:-60], "truncated"),
    "nan": (xyz().replace("0.000000", "nan", 1), "not finite"),
    "infinite": (xyz().replace("0.000000", "inf", 1), "not finite"),
    "close": ("2\n\nH 0 0 0\nH 0 0 0.3\n", "less than 0.4 Å"),
    "periodic": (
        xyz(comment='Lattice="9 0 0 0 9 0 0 0 9" pbc="T T T"'),
        "only molecules are supported",
    ),
    "element": (xyz("NH3"), "does not know the element N; it knows H, C, O; train"),
    "molecule": (xyz("CH3OH"), "does not know this molecule; it knows water, ethanol; train"),
    "order": (xyz() + xyz().replace("C ", "O ", 1), "keep one order of atoms"),
    "count": (xyz() + xyz("H2O"), "has 3 atoms but frame 0 has 9"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_files(run: Callable[..., int], tmp_path: Path, capsys, kind: str) -> None:
    text, says = BAD_FILES[kind]
    path = tmp_path / "bad.xyz"
    path.write_text(text)
    check_refused(run, capsys, says=says, source=path)


BAD_OPTIONS = {
    "frame": (["--frame", "3"], "there is no frame 3"),
    "history": (["--history-interval-fs", "0.5"], "no frames before it"),
    "history interval": (["--history-interval-fs", "-1"], "must be > 0 fs"),
    "lag": (["--lag-fs", "7"], "lag of 7 fs is outside"),
    "no lag": (["--lag-fs", "0"], "the lag must be more than 0"),
    "interval": (["--interval-fs", "0.7"], "must be a multiple of the lag"),
    "no interval": (["--interval-fs", "nan"], "the interval between frames must be more than 0"),
    "length": (["--length-ps", "-1"], "the length must be more than 0"),
    "no length": (["--length-ps", "nan"], "the length must be more than 0"),
    "short": (["--length-ps", "0.0001"], "shorter than one frame"),
    "replicas": (["--replicas", "0"], "at least 1"),
    "steps": (["--steps", "0"], "at least 1"),
    "steps of ode": (["--sampler", "ode", "--steps", "5"], "leave steps out"),
    "endless": (["--length-ps", "1e308"], "too many frames"),
    "seed": (["--seed", "-1"], "seed must be from 0"),
    "temperature": (["--temperature", "-5"], "temperature must be"),
    "no temperature": (["--temperature", "nan"], "temperature must be"),
    "thermostat": (["--thermostat-fs", "0"], "thermostat must be more than 0"),
    "device": (["--device", "abacus"], "unknown device"),
    "no device": (["--device", "cuda:99"], "there is no device"),
    "not a folder": (["--out", "/dev/null/ethanol"], "cannot write there"),
    "ending": (["--out", "ethanol.xtc"], "the name says xtc but the format is dcd"),
    "no checkpoint": (["--checkpoint", "nowhere"], "no checkpoint nowhere"),
}


@pytest.mark.parametrize("kind", BAD_OPTIONS)
def test_bad_options(run: Callable[..., int], capsys, kind: str) -> None:
    options, says = BAD_OPTIONS[kind]
    check_refused(run, capsys, *options, says=says)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "arguments are required: --from"),
        (["--from", "a.xyz", "--lenght-ps", "1"], "unrecognized arguments: --lenght-ps"),
        (["--from", "a.xyz", "--format", "gro"], "invalid choice: 'gro'"),
        (["--from", "a.xyz", "--replicas", "two"], "invalid int value: 'two'"),
    ],
)
def test_bad_command_lines(capsys, options: list[str], says: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(options)
    assert stopped.value.code == 2
    check_one_line(capsys.readouterr().err, says)


def test_missing_file(run: Callable[..., int], capsys) -> None:
    assert run(source=Path("nowhere.xyz")) == 2
    check_one_line(capsys.readouterr().err, "no such file")


def test_bad_checkpoints(run: Callable[..., int], tmp_path: Path, capsys) -> None:
    folder = save_tiny(tmp_path / "broken")
    weights = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(weights[:-9])
    assert run(checkpoint=folder) == 2
    check_one_line(capsys.readouterr().err, "corrupt, its checksum differs")
    (folder / WEIGHTS).write_bytes(b"\x80\x04\x95" + weights)
    assert run(checkpoint=folder) == 2
    check_one_line(capsys.readouterr().err, "refused, a pickle")
    assert run(checkpoint=tmp_path / "model.pt") == 2
    check_one_line(capsys.readouterr().err, "refused unopened")
    (folder / CONFIG).write_text(
        (folder / CONFIG).read_text().replace('_version": 1', '_version": 9')
    )
    assert run(checkpoint=folder) == 2
    check_one_line(capsys.readouterr().err, "checkpoint format 9")
    (folder / CONFIG).write_text("{")
    assert run(checkpoint=folder) == 2
    check_one_line(capsys.readouterr().err, "corrupt, not valid JSON")
    assert list(Path().iterdir()) == []


def test_existing_outputs_are_kept(run: Callable[..., int], capsys) -> None:
    check_outputs_are_kept(COMMAND, run, capsys, "png", "--plot")


@pytest.mark.parametrize("name", ["ethanol.extxyz", "ethanol.pdb", "ethanol_r003.extxyz"])
def test_the_source_is_never_overwritten(run: Callable[..., int], capsys, name: str) -> None:
    kind = "extxyz" if name.endswith("extxyz") else "proteindatabank"
    MOLECULES["ethanol"].write(name, format=kind)
    options = ["--format", "extxyz", "--overwrite", "--out", "ethanol"]
    assert run(*options, source=Path(name)) == 2
    check_one_line(capsys.readouterr().err, "the outputs would take its place")
    assert [p.name for p in Path().iterdir()] == [name]


def test_exit_code_of_the_process(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.xyz"
    path.write_text(BAD_FILES["truncated"][0])
    done = subprocess.run(
        command(tiny, path), cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 2
    check_one_line(done.stderr, "truncated")
    assert done.stdout == ""
    assert [p.name for p in tmp_path.iterdir()] == ["bad.xyz"]


# ---- the command line ----------------------------------------------------------------------------


def test_help_says_units_and_defaults_and_imports_nothing_heavy() -> None:
    check_help(
        COMMAND,
        "time between frames, fs, a multiple of the lag (default: the lag)",
        "(default: the shipped one that was trained on the molecule)",
    )


def test_choices_are_those_there_are() -> None:
    assert tuple(writers.FORMATS) == FORMATS
    assert tuple(SAMPLERS) == module.SAMPLERS


def test_progress_lines(run: Callable[..., int], monkeypatch, capsys) -> None:
    monkeypatch.setattr(progress, "_LOG_SECONDS", 0.0)
    assert run() == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "ethanol, checkpoint tiny, velocities: Maxwell-Boltzmann at 10 K"
    assert len(lines) == 11
    assert "of 0.005 ps" in lines[-1]
    assert lines[-1].endswith("K, 1 of 1 whole")


def test_lines_are_printed_once_whatever_the_root_logger_does(
    run: Callable[..., int], capsys
) -> None:
    closed = io.StringIO()
    closed.close()
    handlers = [logging.StreamHandler(sys.stderr), logging.StreamHandler(closed)]
    for handler in handlers:
        logging.getLogger().addHandler(handler)
    try:
        assert run() == 0
    finally:
        for handler in handlers:
            logging.getLogger().removeHandler(handler)
    assert capsys.readouterr().err.count("checkpoint tiny") == 1


def test_progress_bar(run: Callable[..., int], monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert run() == 0
    assert "of 0.005 ps" in capsys.readouterr().err


# ---- the shipped generator -----------------------------------------------------------------------


@pytest.mark.skipif("md17s" not in shipped("trajgen"), reason="md17s is not here")
def test_the_shipped_generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--from", str(EXAMPLES / "ethanol.xyz"), "--length-ps", "1"]) == 0
    trajectory = mdtraj.load("ethanol.dcd", top="ethanol.pdb")
    lag = json.loads(Path("ethanol.json").read_text())["lag_fs"]
    assert trajectory.n_frames == round(1000 / lag)
    verdict = json.loads(Path("ethanol.json").read_text())["stability"]
    assert verdict["n_whole"] == 1
    assert 300 < verdict["mean_temperature_K"] < 700
