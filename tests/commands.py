"""What the commands that write trajectories promise, whichever head is behind them.

Each function is a test of one of them; `run` calls its `main` in an empty folder and returns the
exit code, and writes `ethanol.*` unless told otherwise.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mdtraj
import pytest

from shared.record import RunRecord

ROOT = Path(__file__).parents[1]
Run = Callable[..., int]
Captured = pytest.CaptureFixture[str]


def command(module: str, checkpoint: str | Path, source: Path, *options: str) -> list[str]:
    """The command line of a process of its own."""
    given = ["--from", str(source), "--checkpoint", str(checkpoint), *options]
    return [sys.executable, "-m", module, *given]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def contents(name: str = "ethanol") -> dict[str, bytes]:
    """Trajectories and energies in the current folder."""
    endings = (".dcd", ".h5", ".csv")
    return {p.name: p.read_bytes() for p in Path().glob(f"{name}*") if p.suffix in endings}


def sidecar(name: str | Path = "ethanol") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"{name}.json").read_text())
    return found


def check_one_line(module: str, said: str, expected: str) -> None:
    lines = said.splitlines()
    assert len(lines) == 1, said
    assert lines[0].startswith(f"{module}: ")
    assert expected in lines[0]


def check_refused(
    module: str, run: Run, capsys: Captured, *options: str, says: str, **at: Any
) -> None:
    """One line, exit code 2, and the folder as it was."""
    before = {p.name: p.read_bytes() for p in Path().iterdir()}
    capsys.readouterr()
    assert run(*options, **at) == 2
    check_one_line(module, capsys.readouterr().err, says)
    assert {p.name: p.read_bytes() for p in Path().iterdir()} == before


def check_resumed_to_the_bit(
    run: Run, monkeypatch: pytest.MonkeyPatch, options: Sequence[str], cut: int, *endings: str
) -> None:
    """Interrupted by Ctrl-C after `cut` frames and resumed, or extended when done: the files of two
    replicas are those of the whole run, of all `endings`."""
    given = ["--replicas", "2", "--plot", *options]
    assert run(*given, "--out", "whole") == 0
    observe = RunRecord.observe

    def interrupted(self: RunRecord, state: Any) -> None:
        if state.time_fs > 2.6:
            raise KeyboardInterrupt
        observe(self, state)

    with monkeypatch.context() as patched:
        patched.setattr(RunRecord, "observe", interrupted)
        assert run(*given, "--out", "cut") == 1
    assert (sidecar("cut")["status"], sidecar("cut")["n_frames"]) == ("interrupted", cut)
    assert run(*given, "--out", "cut", "--resume") == 0
    assert run(*given, "--out", "longer", "--length-ps", "0.003") == 0
    assert run(*given, "--out", "longer", "--resume") == 0
    for name in ("cut", "longer"):
        for end in endings:
            assert Path(name + end).read_bytes() == Path("whole" + end).read_bytes(), end
        assert sidecar(name)["stability"] == sidecar("whole")["stability"]


def check_interrupted(module: str, arguments: Sequence[str], folder: Path) -> None:
    """Ctrl-C ends a process with one line, exit code 1 and a trajectory that can be read."""
    process = subprocess.Popen(
        arguments, cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True
    )
    while not ((folder / "ethanol.json").exists() and sidecar(folder / "ethanol")["n_frames"]):
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.splitlines()[-1].startswith(f"{module}: interrupted; what was written is")
    assert "Traceback" not in said
    assert sidecar(folder / "ethanol")["status"] == "interrupted"
    trajectory = mdtraj.load(folder / "ethanol.dcd", top=folder / "ethanol.pdb")
    assert trajectory.n_frames == sidecar(folder / "ethanol")["n_frames"]


def check_outputs_are_kept(
    module: str, run: Run, capsys: Captured, beside: str, *options: str
) -> None:
    """Nothing is replaced without `--overwrite`, not a file `beside` the trajectory either."""
    assert run("--seed", "1") == 0
    before = contents()
    check_refused(module, run, capsys, says="is there already")
    Path(f"other.{beside}").touch()
    says = f"other.{beside} is there already"
    check_refused(module, run, capsys, "--out", "other", *options, says=says)
    assert run("--overwrite") == 0
    assert contents() != before


def check_help(module: str, *expected: str) -> None:
    """`--help` has these words, and imports nothing heavy."""
    code = (
        f"import sys, {module}\n"
        f"try: {module}.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'ase', 'mdtraj', 'rich', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    for words in ("length of the trajectory, ps (default: 10.0)", "(default: dcd)", *expected):
        assert words in text
