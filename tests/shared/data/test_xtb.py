"""Runs on disk: resumed to the same trajectory, also after kill −9; bad input exits with 2."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shared.data import xtb
from shared.data.gfn2 import WATER, XTBSettings
from shared.data.xtb import main, make_trajectory, read_xtb
from shared.errors import InputError
from shared.io import read_frames

pytestmark = pytest.mark.reference("tblite")
SETTINGS = XTBSettings(ensemble="bussi", equilibration_ps=0.01, relaxation_fs=50.0)


def files(folder: Path, pattern: str = "frames_*") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob(pattern))}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xtb, "PART_FRAMES", 20)


def test_a_run_holds_everything(tmp_path: Path) -> None:
    out = make_trajectory(tmp_path / "run", *WATER, SETTINGS, 50)
    trajectory = read_xtb(out)
    assert trajectory.n_frames == 50
    assert trajectory.times_fs == pytest.approx(0.5 * np.arange(50))
    for values in (trajectory.velocities, trajectory.forces, trajectory.energies):
        assert values is not None
    record = json.loads((out / "provenance.json").read_text())
    assert record["settings"]["ensemble"] == "bussi"
    assert record["engine"]["method"] == "GFN2-xTB"
    assert record["degrees_of_freedom"] == 3
    assert sorted(path.name for path in out.iterdir()) == [
        *(f"frames_{first:09d}.npz" for first in (0, 20, 40)),
        "provenance.json",
        "state.npz",
    ]


@pytest.mark.parametrize("file_format", ["npz", "extxyz"])
def test_resumed_is_the_same_trajectory(tmp_path: Path, file_format: str) -> None:
    start = {"numbers": WATER[0], "positions": WATER[1], "settings": SETTINGS}
    kind = {"file_format": file_format}
    whole = make_trajectory(tmp_path / "whole", n_frames=60, **start, **kind)
    piece = make_trajectory(tmp_path / "piece", n_frames=40, **start, **kind)
    # A part that was written, but not yet its state.
    (piece / f"frames_000000040.{file_format}").write_bytes(b"rubbish")
    make_trajectory(piece, n_frames=60, resume=True, **start, **kind)
    if file_format == "npz":
        assert (read_xtb(piece).positions == read_xtb(whole).positions).all()
        assert (read_xtb(piece).velocities == read_xtb(whole).velocities).all()
    else:
        assert files(piece) == files(whole)


def test_killed_and_resumed(tmp_path: Path) -> None:
    frame = tmp_path / "water.xyz"
    lines = [f"{s} {x} {y} {z}" for s, (x, y, z) in zip("OHH", WATER[1], strict=True)]
    frame.write_text("\n".join(["3", "", *lines, ""]))
    options = ["--from", str(frame), "--ensemble", "langevin", "--equilibrate-ps", "0"]
    options += ["--interval-fs", "2", "--length-ps"]
    command = [sys.executable, "-m", "shared.data.xtb", *options, "1000", "--out"]
    killed = tmp_path / "killed"
    process = subprocess.Popen(
        [*command, str(killed)],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[3],
    )
    deadline = time.monotonic() + 50
    while not (killed / "state.npz").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    n_kept = read_xtb(killed).n_frames
    assert n_kept >= 1000
    total = f"{(n_kept + 30) * 2e-3}"
    assert main([*options, total, "--out", str(killed), "--resume"]) == 0
    assert main([*options, total, "--out", str(tmp_path / "whole")]) == 0
    resumed, whole = read_xtb(killed), read_xtb(tmp_path / "whole")
    assert resumed.n_frames == n_kept + 30
    assert (resumed.positions == whole.positions).all()
    assert (resumed.forces == whole.forces).all()


def test_extxyz_is_read_by_the_project(tmp_path: Path) -> None:
    out = make_trajectory(tmp_path / "run", *WATER, SETTINGS, 15, file_format="extxyz")
    made = make_trajectory(tmp_path / "same", *WATER, SETTINGS, 15)
    read, expected = read_frames(out / "frames_000000000.extxyz"), read_xtb(made)
    for name in ("positions", "velocities", "forces", "energies", "times_fs"):
        assert getattr(read, name) == pytest.approx(getattr(expected, name), abs=1e-7)


def test_another_run_is_not_resumed(tmp_path: Path) -> None:
    out = make_trajectory(tmp_path / "run", *WATER, SETTINGS, 5)
    with pytest.raises(InputError, match="resume it, or choose another folder"):
        make_trajectory(out, *WATER, SETTINGS, 10)
    colder = replace(SETTINGS, temperature_K=300.0)
    with pytest.raises(InputError, match=r"its temperature_K is 500\.0, not 300\.0"):
        make_trajectory(out, *WATER, colder, 10, resume=True)
    with pytest.raises(InputError, match="its start is other"):
        make_trajectory(out, WATER[0], WATER[1] + 0.1, SETTINGS, 10, resume=True)
    with pytest.raises(InputError, match="no trajectory to resume"):
        make_trajectory(tmp_path / "none", *WATER, SETTINGS, 5, resume=True)
    with pytest.raises(InputError, match="no trajectory made by"):
        read_xtb(tmp_path / "none")


def test_start_velocities_are_kept(tmp_path: Path) -> None:
    velocities = np.array([[0.0, 0.001, 0.0], [0.0, -0.008, 0.0], [0.0, -0.008, 0.0]])
    settings = XTBSettings(equilibration_ps=0.0)
    out = make_trajectory(tmp_path / "run", *WATER, settings, 2, velocities=velocities)
    assert (read_xtb(out).velocities[0] == velocities).all()


@pytest.mark.reference("tblite")
def test_a_linear_start_goes_on_to_the_bit(tmp_path: Path) -> None:
    """It has bent since: the degrees of freedom are those of the start."""
    dioxide = (np.array([8, 6, 8]), np.array([[-1.16, 0, 0], [0, 0, 0], [1.16, 0, 0.0]]))
    settings = XTBSettings(equilibration_ps=0.0, ensemble="bussi", relaxation_fs=50.0)
    whole = make_trajectory(tmp_path / "whole", *dioxide, settings, 30)
    make_trajectory(tmp_path / "parts", *dioxide, settings, 15)
    parts = make_trajectory(tmp_path / "parts", *dioxide, settings, 30, resume=True)
    assert (read_xtb(parts).positions == read_xtb(whole).positions).all()


@pytest.mark.parametrize("text", ["{}", "no JSON", '{"settings": 3}'])
def test_a_foreign_folder_is_not_resumed(tmp_path: Path, text: str) -> None:
    out = make_trajectory(tmp_path / "run", *WATER, XTBSettings(equilibration_ps=0.0), 2)
    (out / "provenance.json").write_text(text)
    with pytest.raises(InputError, match=r"provenance.json: not of a run of shared.data.xtb"):
        make_trajectory(out, *WATER, XTBSettings(equilibration_ps=0.0), 4, resume=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "none.xyz", "--length-ps", "1"], "none.xyz"),
        (["--smiles", "C(C", "--length-ps", "1"], "not a SMILES"),
        (["--smiles", "[OH]", "--length-ps", "1"], "odd number of electrons"),
        (["--smiles", "O", "--length-ps", "0"], "length in ps must be more than 0"),
        (["--smiles", "O", "--length-ps", "0.0001"], "hold no frame"),
        (["--smiles", "O", "--length-ps", "nan"], "length in ps must be more than 0, not nan"),
        (["--smiles", "O", "--length-ps", "inf"], "length in ps must be more than 0, not inf"),
        (["--smiles", "O", "--length-ps", "1", "--seed", "-1"], "seed must be from 0"),
        (["--smiles", "O", "--length-ps", "1", "--seed", "5000000000"], "seed must be from 0"),
        (["--smiles", "O", "--length-ps", "1", "--temperature", "-5"], "temperature_K"),
    ],
)
@pytest.mark.reference("tblite", "rdkit")
def test_bad_input_exits_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert message in said
    assert not (tmp_path / "run").exists()


@pytest.mark.reference("tblite", "rdkit")
def test_a_file_of_smiles_makes_a_folder_of_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lines that cannot be made are named, the others are what they would be alone."""
    listed = tmp_path / "two.smi"
    options = ["--length-ps", "0.01", "--equilibrate-ps", "0.01", "--ensemble", "langevin"]
    whole = ["--smiles", str(listed), "--out", str(tmp_path / "all"), *options]
    listed.write_text("O water\n\nC(C bad\nCO\n", encoding="utf-8")
    assert main(whole) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("line 3: ")
    assert "two.smi: 1 of 3 not made; line 3: " in said[1]
    assert main(["--smiles", "CO", "--out", str(tmp_path / "alone"), *options]) == 0
    assert files(tmp_path / "all" / "4") == files(tmp_path / "alone")
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == ["1", "4"]
    assert main(whole) == 2  # they are there
    (tmp_path / "file").touch()
    capsys.readouterr()
    assert main([*whole[:2], "--out", str(tmp_path / "file"), *options]) == 2
    said = capsys.readouterr()
    assert "file: cannot write there" in said.err
    assert "1: O" not in said.out  # before anything is begun
    listed.write_text("O\n\nN\nCO\n", encoding="utf-8")
    assert main([*whole, "--resume"]) == 0
    assert files(tmp_path / "all" / "4") == files(tmp_path / "alone")
    assert read_xtb(tmp_path / "all" / "3").n_frames == 20
    listed.write_text("\n", encoding="utf-8")
    assert main(whole) == 2
    assert "no SMILES in it" in capsys.readouterr().err


def test_unknown_options_exit_with_2() -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--length", "1"])
    assert stop.value.code == 2
