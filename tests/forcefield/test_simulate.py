"""A frame in, molecular dynamics out: what is written, resuming, interruptions, bad input."""

import resource
import subprocess
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import ase.io
import mdtraj
import numpy as np
import pytest
from ase.build import molecule

from forcefield import propagator
from forcefield.energies import COLUMNS, EnergyLog, read_energies
from forcefield.load import open_checkpoint
from forcefield.propagator import Observables
from forcefield.simulate import ENSEMBLES, main, simulate
from shared import writers
from shared.checkpoint import shipped
from shared.errors import InputError
from shared.io import read_frames
from shared.kinetics import temperature
from shared.topology import atom_classes, molecule_key
from shared.units import masses
from tests import commands
from tests.commands import (
    ROOT,
    check_help,
    check_interrupted,
    check_outputs_are_kept,
    check_resumed_to_the_bit,
    environment,
    sidecar,
)
from tests.forcefield.tiny import E0, save_tiny

COMMAND = "forcefield.simulate"
check_one_line = partial(commands.check_one_line, COMMAND)
check_refused = partial(commands.check_refused, COMMAND)
command = partial(commands.command, COMMAND)
ETHANOL = molecule("CH3CH2OH")

pytestmark = pytest.mark.filterwarnings("ignore:top= kwargs")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture
def ethanol(tmp_path: Path) -> Path:
    path = tmp_path / "ethanol.xyz"
    ETHANOL.write(path, format="xyz")
    return path


@pytest.fixture
def run(
    tiny: Path, ethanol: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., int]:
    """The command line in an empty folder; five frames of two steps unless said."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def call(*options: str, source: Path = ethanol, checkpoint: Path = tiny) -> int:
        given = ["--from", str(source), "--checkpoint", str(checkpoint)]
        for name, value in (("--length-ps", "0.005"), ("--interval-fs", "1")):
            given += [] if name in options else [name, value]
        return main([*given, *options])

    return call


# ---- what is written -----------------------------------------------------------------------------


def test_default_output(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    trajectory = mdtraj.load("ethanol.dcd", top="ethanol.pdb")
    assert (trajectory.n_frames, trajectory.n_atoms, trajectory.topology.n_bonds) == (5, 9, 8)
    said = sidecar()
    assert said["status"] == "done"
    assert said["program"] == "forcefield.simulate"
    assert (said["checkpoint"], said["molecule"]) == ("tiny", "C2H6O")
    assert (said["timestep_fs"], said["frame_interval_fs"]) == (0.5, 1.0)
    assert said["ensemble"] == "bussi at 10 K, 500 fs"
    assert said["start_velocities"] == "Maxwell-Boltzmann at 10 K"
    assert said["stability"]["n_whole"] == 1
    assert said["stability"]["criterion"].endswith("checked at every frame")
    said = capsys.readouterr()
    assert "stability: 1 of 1 whole" in said.out
    assert "wrote ethanol.dcd, ethanol.pdb, ethanol.json, ethanol.csv" in said.out
    assert said.err.startswith("C2H6O, checkpoint tiny, bussi at 10 K, 500 fs, time step 0.5 fs")


def test_energies(run: Callable[..., int]) -> None:
    options = ["--ensemble", "nve", "--replicas", "2", "--format", "extxyz", "--dtype", "float64"]
    assert run(*options, "--plot") == 0
    assert Path("ethanol.csv").read_text().splitlines()[0] == ",".join(COLUMNS)
    table = read_energies("ethanol.csv")
    assert table["time_ps"].shape == (5, 2)
    np.testing.assert_allclose(table["time_ps"][:, 0], 1e-3 * np.arange(1, 6))
    np.testing.assert_array_equal(table["replica"][0], [0, 1])
    isolated = 2 * E0[1] + E0[2] + 6 * E0[0]
    assert table["potential_eV"][0, 0] == pytest.approx(isolated, abs=1)
    total = table["potential_eV"] + table["kinetic_eV"]
    np.testing.assert_allclose(table["conserved_eV"], total, atol=2e-8)
    assert np.ptp(table["conserved_eV"], axis=0).max() < 1e-5
    for replica in range(2):
        frames = read_frames(f"ethanol_r00{replica}.extxyz")
        kelvin = temperature(frames.velocities, masses(frames.numbers))
        np.testing.assert_allclose(table["temperature_K"][:, replica], kelvin, rtol=1e-4)
    assert Path("ethanol.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_ensembles(run: Callable[..., int], ensemble: str) -> None:
    assert run("--ensemble", ensemble, "--format", "extxyz") == 0
    said, frames = sidecar(), read_frames("ethanol.extxyz")
    assert (frames.thermostat is not None) == (ensemble in ("nose-hoover", "md17"))
    kelvin = 500 if ensemble == "md17" else 10
    assert said["start_velocities"] == f"Maxwell-Boltzmann at {kelvin} K"
    if ensemble == "md17":
        assert said["ensemble"] == "nose-hoover at 500 K, 1700 1/cm"
        assert said["stability"]["degrees_of_freedom"] == 27


def test_temperature_and_its_convention(run: Callable[..., int], tmp_path: Path) -> None:
    """The checkpoint's counts; without one it is 300 K, and Langevin dynamics has all 3N."""
    folder = save_tiny(tmp_path / "3N-6", temperature_convention="3N-6", temperature_K=None)
    assert run(checkpoint=folder) == 0
    assert sidecar()["ensemble"].startswith("bussi at 300 K")
    assert sidecar()["stability"]["degrees_of_freedom"] == 21
    assert run("--ensemble", "langevin", "--out", "other", checkpoint=folder) == 0
    assert sidecar("other")["stability"]["degrees_of_freedom"] == 27


@pytest.mark.parametrize("name", shipped("forcefield"))
def test_conventions_of_the_shipped(name: str) -> None:
    """What is left, but for MD17's own."""
    expected = {"3bpa": "3N-6", "isomers": "3N-6"}.get(name, "3N")
    assert open_checkpoint(name).config.temperature_convention == expected


@pytest.mark.skipif(
    not {"3bpa", "rmd17"} <= set(shipped("forcefield")), reason="needs the shipped checkpoints"
)
@pytest.mark.parametrize(("example", "chosen"), [("3bpa", "3bpa"), ("ethanol", "rmd17")])
def test_the_shipped_one_of_a_molecule(
    example: str, chosen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it comes: a frame and nothing else to choose but how long."""
    monkeypatch.chdir(tmp_path)
    source = ROOT / "examples" / f"{example}.xyz"
    assert main(["--from", str(source), "--length-ps", "0.02", "--interval-fs", "1"]) == 0
    assert sidecar(example)["checkpoint"] == chosen
    log = read_energies(tmp_path / f"{example}.csv")
    assert np.ptp(log["conserved_eV"]) < 0.1 * np.ptp(log["potential_eV"])
    done = mdtraj.load(str(tmp_path / f"{example}.dcd"), top=str(tmp_path / f"{example}.pdb"))
    assert done.n_frames == 20


def test_defaults_of_the_checkpoint(run: Callable[..., int], tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "own", defaults={"timestep_fs": 0.25, "ensemble": "md17"})
    assert run(checkpoint=folder) == 0
    assert sidecar()["timestep_fs"] == 0.25
    assert sidecar()["ensemble"] == "nose-hoover at 500 K, 1700 1/cm"


def test_function(tiny: Path, ethanol: Path, tmp_path: Path) -> None:
    done = simulate(ethanol, checkpoint=str(tiny), length_ps=0.01, out=tmp_path / "traj")
    assert done.trajectories == [tmp_path / "traj.dcd"]
    assert done.others == [tmp_path / "traj.csv"]
    assert done.survived
    assert mdtraj.load(done.trajectories[0], top=done.topology).n_frames == 2


def test_long_runs_are_compiled(run: Callable[..., int], monkeypatch, capsys) -> None:
    from forcefield import simulate as module

    traced = partial(propagator.compile_in_parts, compiled=False)
    monkeypatch.setattr(propagator, "compile_in_parts", traced)
    monkeypatch.setattr(module, "_COMPILE_ABOVE", 5)
    assert run() == 0
    assert "compiling the force field" in capsys.readouterr().err
    assert run("--length-ps", "0.006", "--resume") == 0


# ---- the start -----------------------------------------------------------------------------------


def history(path: Path, **arrays: np.ndarray) -> Path:
    """Three frames 0.5 fs apart."""
    velocity = 1e-3 * np.random.default_rng(0).standard_normal((9, 3))
    frames = []
    for t in (-1.0, -0.5, 0.0):
        frames.append(ETHANOL.copy())
        frames[-1].positions += velocity * t
        for name, values in arrays.items():
            frames[-1].set_array(name, values)
    ase.io.write(path, frames, format="extxyz")
    return path


def test_velocities_of_a_pair_of_frames(run: Callable[..., int], tmp_path: Path) -> None:
    """(x_t − x_{t−1})/δ + ½ δ F/m, by the force field or by the forces of the file."""
    options = ["--history-interval-fs", "0.5", "--ensemble", "nve"]
    assert run(*options, source=history(tmp_path / "h.xyz")) == 0
    assert sidecar("h")["start_velocities"] == "a pair of frames and the forces of the force field"
    labelled = history(tmp_path / "f.xyz", forces=np.zeros((9, 3)))
    assert run(*options, source=labelled) == 0
    assert sidecar("f")["start_velocities"] == "a pair of frames and the forces of the file"


def test_a_file_whose_velocities_are_far_from_the_data(
    run: Callable[..., int], tmp_path: Path, capsys
) -> None:
    atoms = molecule("CH3CH2OH")
    atoms.set_array("velocities", 1e-6 * np.random.default_rng(0).standard_normal((9, 3)))
    atoms.write(tmp_path / "slow.xyz", format="extxyz")
    run(source=tmp_path / "slow.xyz")  # which need not stay whole
    said = capsys.readouterr().err
    assert "warning: the file's velocities are those of" in said
    assert "are of 10 K" in said


def test_velocities_of_a_pair_that_is_none(run: Callable[..., int], tmp_path: Path, capsys) -> None:
    source = history(tmp_path / "h.xyz", forces=np.full((9, 3), 1.0))
    assert run("--history-interval-fs", "500", "--out", str(tmp_path / "x"), source=source) == 2
    check_one_line(capsys.readouterr().err, "velocities at frame 2 are those of more than 100000 K")
    assert not list(tmp_path.glob("x*"))


def test_drift_is_no_heat(run: Callable[..., int], tmp_path: Path, capsys) -> None:
    velocities = 1e-3 * np.random.default_rng(0).standard_normal((9, 3)) + [0.03, 0.0, 0.0]
    source = history(tmp_path / "v.xyz", velocities=velocities)
    says = "% of the kinetic energy that the file gives is drift and rotation of the whole molecule"
    resting = save_tiny(tmp_path / "resting", temperature_convention="3N-6")
    for ensemble, warned in (("bussi", True), ("langevin", False)):
        told = ("--ensemble", ensemble, "--overwrite")
        assert run(*told, source=source, checkpoint=resting) == 0
        assert (says in capsys.readouterr().err) == warned


def test_velocities_of_the_file(run: Callable[..., int], tmp_path: Path, capsys) -> None:
    velocities = 1e-3 * np.random.default_rng(0).standard_normal((9, 3))
    source = history(tmp_path / "v.xyz", velocities=velocities)
    assert run("--ensemble", "nve", "--temperature", "20", "--replicas", "2", source=source) == 0
    said = capsys.readouterr().err
    assert "the file gives velocities; the temperature is not used" in said
    assert "so all replicas are the same" in said
    assert sidecar("v")["start_velocities"] == "the file"
    assert run("--ensemble", "langevin", "--replicas", "2", "--overwrite", source=source) == 0
    assert "warning" not in capsys.readouterr().err


# ---- resuming ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ensemble", ["nve", "nose-hoover-chain", "langevin"])
def test_resumed_to_the_bit(run: Callable[..., int], monkeypatch, ensemble: str) -> None:
    endings = "_r000.dcd", "_r001.dcd", ".csv", ".png"
    check_resumed_to_the_bit(run, monkeypatch, ["--ensemble", ensemble], 2, *endings)


def test_killed_and_resumed(tiny: Path, ethanol: Path, tmp_path: Path) -> None:
    """kill -9 leaves energies for every frame that it leaves, and the run goes on from there."""
    options = [*SLOW, "--interval-fs", "0.01", "--length-ps"]
    done = {"cwd": tmp_path, "env": environment()}
    with subprocess.Popen(
        command(tiny, ethanol, *options, "1"), stderr=subprocess.DEVNULL, **done
    ) as process:
        while not (
            (tmp_path / "ethanol.json").exists() and sidecar(tmp_path / "ethanol")["n_frames"]
        ):
            assert process.poll() is None
            time.sleep(0.05)
        process.kill()
    n_frames = sidecar(tmp_path / "ethanol")["n_frames"]
    assert len(read_energies(tmp_path / "ethanol.csv")["time_ps"]) >= n_frames
    longer = [*options, str((n_frames + 20) * 1e-5), "--resume"]
    subprocess.run(command(tiny, ethanol, *longer), check=True, **done)
    assert sidecar(tmp_path / "ethanol")["n_frames"] == n_frames + 20
    times = read_energies(tmp_path / "ethanol.csv")["time_ps"][:, 0]
    np.testing.assert_allclose(times, 1e-5 * np.arange(1, n_frames + 21), atol=1e-9)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--seed", "1"], "cannot resume with seed 1: the run has 0"),
        (["--timestep-fs", "0.25"], "cannot resume with timestep fs 0.25: the run has 0.5"),
        (["--ensemble", "nve"], "cannot resume with ensemble nve: the run has bussi at 10 K"),
        (["--temperature", "10.0000001"], "ensemble bussi at 10.0000001 K, 500 fs: the run has"),
        (["--dtype", "float64"], "cannot resume with dtype float64: the run has float32"),
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
    other = save_tiny(tmp_path / "tiny", seed=1)
    says = "cannot resume with checkpoint sha256"
    check_refused(run, capsys, "--resume", says=says, checkpoint=other)
    water = tmp_path / "water.xyz"
    molecule("H2O").write(water)
    options, says = ("--resume", "--out", "ethanol"), "cannot resume with molecule H2O"
    check_refused(run, capsys, *options, says=says, source=water)


def test_resuming_with_other_degrees_of_freedom(
    run: Callable[..., int], capsys, tmp_path: Path
) -> None:
    """The preset md17 is Nosé-Hoover over all 3N, whatever the checkpoint counts."""
    folder = save_tiny(tmp_path / "3N-6", temperature_convention="3N-6")
    assert run("--ensemble", "md17", checkpoint=folder) == 0
    capsys.readouterr()
    options = ["--ensemble", "nose-hoover", "--temperature", "500", "--resume"]
    assert run(*options, checkpoint=folder) == 2
    says = "cannot resume with degrees of freedom 21: the run has 27"
    check_one_line(capsys.readouterr().err, says)


def test_lost_energies(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    with pytest.raises(InputError, match="no such file"):
        EnergyLog(path, 1, 2).begin()
    path.write_text("header\nrow\nhalf a r")
    with pytest.raises(InputError, match="has lost rows"):
        EnergyLog(path, 1, 2).begin()
    EnergyLog(path, 1, 1).begin()
    assert path.read_text() == "header\nrow\n"


def test_energies_that_do_not_fit_leave_whole_rows(tmp_path: Path) -> None:
    log = EnergyLog(tmp_path / "run.csv", 1)
    log.begin()
    row = Observables(*[np.ones(1)] * 5)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
    try:
        with pytest.raises(OSError):  # noqa: PT011  # the system's, or that of a short write
            deque((log.append(1.0, row) for _ in range(9)), maxlen=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    text = (tmp_path / "run.csv").read_text()
    assert text.endswith("\n")
    assert len(read_energies(tmp_path / "run.csv")["time_ps"]) == text.count("\n") - 1 > 1


# ---- interruptions -------------------------------------------------------------------------------


# Random weights hold no molecule for long, so atoms hardly move while a run is interrupted.
SLOW = ["--ensemble", "langevin", "--temperature", "1", "--timestep-fs", "0.01"]


def test_ctrl_c(tiny: Path, ethanol: Path, tmp_path: Path) -> None:
    options = [*SLOW, "--interval-fs", "0.1", "--length-ps", "1"]
    check_interrupted(COMMAND, command(tiny, ethanol, *options), tmp_path)


def test_full_disk(run: Callable[..., int], monkeypatch, capsys) -> None:
    """The energies do not fit any more."""
    append = EnergyLog.append

    def full(self: EnergyLog, time_fs: float, observables: Any) -> None:
        if time_fs > 3.5:
            raise OSError(28, "No space left on device")
        append(self, time_fs, observables)

    monkeypatch.setattr(EnergyLog, "append", full)
    assert run() == 1
    said = capsys.readouterr().err.splitlines()
    assert "No space left" in said[-1]
    assert "--resume goes on" in said[-1]
    assert sidecar()["n_frames"] == 3
    monkeypatch.undo()


def test_a_time_step_that_makes_it_explode(run: Callable[..., int], tmp_path: Path, capsys) -> None:
    """It stops, says at which step, and keeps what was before."""
    folder = save_tiny(tmp_path / "stiff", scale=30.0)
    options = ["--ensemble", "nve", "--timestep-fs", "2", "--interval-fs", "2"]
    assert run(*options, "--length-ps", "0.2", checkpoint=folder) == 1
    said = capsys.readouterr()
    assert "replica 0 stopped at step" in said.err
    assert "a time step below 2 fs may help" in said.err
    assert said.err.splitlines()[-1] == "forcefield.simulate: no replica is whole, stopped"
    assert "0 of 1 whole" in said.out
    n_frames = sidecar()["n_frames"]
    assert mdtraj.load("ethanol.dcd", top="ethanol.pdb").n_frames == n_frames < 100
    assert len(read_energies("ethanol.csv")["time_ps"]) == n_frames


def test_an_explosion_before_the_first_frame(
    run: Callable[..., int], tmp_path: Path, capsys
) -> None:
    """It is dated to the step, and a frame that only repeats the start is not written."""
    folder = save_tiny(tmp_path / "stiff", scale=1e8)
    options = ["--ensemble", "nve", "--timestep-fs", "5", "--interval-fs", "50", "--plot"]
    for more in ([], ["--resume"]):
        assert run(*options, "--length-ps", "0.1", *more, checkpoint=folder) == 1
        said = capsys.readouterr()
        assert "replica 0 stopped at step 1 (5 fs)" in said.err
        assert "replica 0 broke at 0.005 ps (step 1)" in said.out
        verdict = sidecar()["stability"]
        assert (verdict["broke_at_ps"], verdict["broke_at_step"]) == ({"0": 0.005}, {"0": 1})
        assert (verdict["run_ps"], sidecar()["n_frames"]) == (0.005, 0)
        assert not Path("ethanol.dcd").exists()
        assert Path("ethanol.csv").read_text().splitlines() == [",".join(COLUMNS)]


# ---- the force field's domain --------------------------------------------------------------------


def key_of(name: str) -> dict[str, Any]:
    atoms = molecule(name)
    return {"key": molecule_key(atom_classes(atoms.numbers, atoms.positions)), "atoms": len(atoms)}


@pytest.fixture
def ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three force fields, of which two know ethanol."""
    known = {
        "md17s": {"ethanol": key_of("CH3CH2OH"), "methane": key_of("CH4")},
        "other": {"ethanol": key_of("CH3CH2OH")},
        "rmd17": {"ethanol": key_of("CH3CH2OH")},
    }
    folders = {name: save_tiny(tmp_path / name, molecules=m) for name, m in known.items()}
    monkeypatch.setattr("forcefield.load.shipped", lambda head: folders)


def test_the_force_field_for_the_molecule_is_chosen(
    ships: None, ethanol: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--length-ps", "0.005", "--out", "chosen"]
    assert main(["--from", str(ethanol), *options]) == 0
    assert "C2H6O, checkpoint rmd17 (trained on ethanol), bussi" in capsys.readouterr().err
    assert sidecar("chosen")["checkpoint"] == "rmd17"
    methane = tmp_path / "methane.xyz"
    molecule("CH4").write(methane)
    assert main(["--from", str(methane), *options, "--overwrite"]) == 0
    assert sidecar("chosen")["checkpoint"] == "md17s"


def test_a_molecule_that_no_force_field_knows(
    ships: None, tmp_path: Path, monkeypatch, capsys
) -> None:
    """Dimethyl ether has the atoms of ethanol, and other bonds."""
    ether = tmp_path / "ether.xyz"
    molecule("CH3OCH3").write(ether)
    assert main(["--from", str(ether)]) == 2
    check_one_line(
        capsys.readouterr().err,
        "no shipped force field was trained on this molecule; known molecules: ethanol, methane; "
        "train one for it with python -m forcefield.train",
    )
    for name, says in (("CH3Cl", "none knows the element Cl"), ("CH3CH2OH", "coordinates in Å?")):
        atoms = molecule(name)
        atoms.positions *= 1.0 if name == "CH3Cl" else 1.89
        atoms.write(ether)
        assert main(["--from", str(ether)]) == 2
        check_one_line(capsys.readouterr().err, says)
    molecule("CH3OCH3").write(ether)
    monkeypatch.chdir(tmp_path)
    options = ["--checkpoint", str(tmp_path / "rmd17"), "--length-ps", "0.005"]
    assert main(["--from", str(ether), *options]) == 0
    assert (
        "warning: checkpoint rmd17 was not trained on this molecule; it was on ethanol"
        in capsys.readouterr().err.splitlines()
    )


def test_hotter_than_the_training_data(run: Callable[..., int], capsys) -> None:
    says = "warning: 20 K is hotter than the training data of checkpoint tiny, 10 K"
    assert run("--temperature", "20") == 0
    assert says in capsys.readouterr().err.splitlines()
    assert run("--temperature", "9", "--overwrite") == 0
    assert "warning" not in capsys.readouterr().err


def test_a_molecule_without_a_key(tmp_path: Path, ethanol: Path, capsys) -> None:
    folder = save_tiny(tmp_path / "bad", molecules={"ethanol": {}})
    assert main(["--from", str(ethanol), "--checkpoint", str(folder)]) == 2
    check_one_line(capsys.readouterr().err, "the entry molecules.ethanol.key is missing")


# ---- bad input -----------------------------------------------------------------------------------


BAD_FILES = {
    "empty": ("", "empty"),
    "close": ("2\n\nH 0 0 0\nH 0 0 0.3\n", "less than 0.4 Å"),
    "periodic": (
        '2\nLattice="9 0 0 0 9 0 0 0 9" pbc="T T T"\nH 0 0 0\nH 0 0 0.8\n',
        "only molecules are supported",
    ),
    "element": ("2\n\nH 0 0 0\nF 0 0 0.9\n", "does not know the element F; it knows H, C, O"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_files(run: Callable[..., int], tmp_path: Path, capsys, kind: str) -> None:
    text, says = BAD_FILES[kind]
    path = tmp_path / "bad.xyz"
    path.write_text(text)
    check_refused(run, capsys, says=says, source=path)


BAD_OPTIONS = {
    "interval": (["--interval-fs", "0.7"], "must be a multiple of the time step (0.5 fs)"),
    "no interval": (["--interval-fs", "nan"], "the interval between frames must be more than 0"),
    "time step": (["--timestep-fs", "-1"], "the time step must be more than 0"),
    "length": (["--length-ps", "0.0001"], "shorter than one frame"),
    "temperature": (["--temperature", "-3"], "the temperature must be more than 0"),
    "replicas": (["--replicas", "0"], "number of replicas must be at least 1"),
    "seed": (["--seed", "-1"], "the seed must be from 0"),
    "out": (["--out", "."], "the outputs need a name, not a folder's alone"),
    "device": (["--device", "tpu"], "choose cpu or cuda"),
    "history": (["--history-interval-fs", "0.5"], "no frames before it"),
    "wavenumber": (
        ["--ensemble", "nve", "--thermostat-wavenumber", "900"],
        "ensemble nve has no wavenumber",
    ),
    "relaxation": (
        ["--ensemble", "md17", "--thermostat-fs", "100"],
        "ensemble md17 has no relaxation time",
    ),
}


@pytest.mark.parametrize("kind", BAD_OPTIONS)
def test_bad_options(run: Callable[..., int], capsys, kind: str) -> None:
    options, says = BAD_OPTIONS[kind]
    check_refused(run, capsys, *options, says=says)


def test_bad_arguments_of_the_function(tiny: Path, ethanol: Path) -> None:
    for name in ("ensemble", "dtype", "watch"):
        with pytest.raises(InputError, match=f"{name} 'none' is not known; choose one of"):
            simulate(ethanol, checkpoint=str(tiny), **{name: "none"})


def test_choices(run: Callable[..., int], capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        run("--ensemble", "npt")
    assert stopped.value.code == 2
    check_one_line(capsys.readouterr().err, "--ensemble: invalid choice: 'npt'")


def test_existing_outputs_are_kept(run: Callable[..., int], capsys) -> None:
    check_outputs_are_kept(COMMAND, run, capsys, "csv")


def test_help_says_units_and_defaults_and_imports_nothing_heavy() -> None:
    check_help(
        COMMAND,
        "time step, fs (default: the checkpoint's, else 0.5)",
        "(default: the shipped one that was trained on the molecule)",
    )


def test_console_script(tiny: Path, ethanol: Path, tmp_path: Path) -> None:
    from trajgen import cli

    options = ["--checkpoint", str(tiny), "--length-ps", "0.005", "--out", str(tmp_path / "traj")]
    assert cli.main(["simulate", "--from", str(ethanol), *options]) == 0
    assert (tmp_path / "traj.csv").exists()


def test_formats(run: Callable[..., int]) -> None:
    for name in writers.FORMATS:
        assert run("--format", name, "--out", name) == 0
        assert Path(f"{name}.{name}").exists()
