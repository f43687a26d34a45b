"""The console script: commands, help, hints."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import mdtraj
import pytest

from trajgen import cli

ROOT = Path(__file__).parents[2]


def test_sample(tiny: Path, ethanol: Path, tmp_path: Path) -> None:
    out = tmp_path / "traj"
    options = ["--checkpoint", str(tiny), "--length-ps", "0.002", "--out", str(out)]
    assert cli.main(["sample", "--from", str(ethanol), *options]) == 0
    assert mdtraj.load(f"{out}.dcd", top=f"{out}.pdb").n_frames == 4


def test_exit_code_of_a_command(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sample", "--from", "nowhere.xyz", "--checkpoint", str(tiny)]) == 2
    assert "nowhere.xyz: no such file" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "train-forcefield"])
def test_unknown_key_of_a_config(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("run:\n  stpes: 10\n")
    assert cli.main([command, "--config", str(path)]) == 2
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1
    assert "stpes" in said
    assert "steps" in said


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    said = capsys.readouterr().out
    commands = ("sample", "simulate", "train", "train-forcefield", "evaluate", "report")
    assert all(f"\n  {name} " in said for name in commands)
    assert cli.main([]) == 2


def test_an_evaluation_and_its_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results, report = tmp_path / "r.json", tmp_path / "r.html"
    (tmp_path / "config.yaml").write_text(
        "evaluation: {name: test, data: md17, systems: [benzene], models: [persistence],"
        f" parts: [s2l], results: {results}, artefacts: {tmp_path}/artefacts}}\n"
    )
    assert cli.main(["evaluate", "--config", str(tmp_path / "config.yaml"), "--no-report"]) == 0
    assert "benzene has no surrogate" in capsys.readouterr().out
    assert cli.main(["report", str(results)]) == 0
    assert report.exists()
    assert cli.main(["report", "absent.json"]) == 2


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("smaple", "did you mean sample?"),
        ("evalute", "did you mean evaluate?"),
        ("xyz", "choose one of sample, simulate, train, train-forcefield, evaluate, report"),
    ],
)
def test_unknown_command(command: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command]) == 2
    assert says in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: f"{name} 1.2.3")
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == "trajgen 1.2.3\n"


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; from trajgen.cli import main; main(['--help'])\n"
        "sys.exit(bool({'torch', 'numpy', 'trajgen.sample'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0
