"""What a step costs (P7): 3BPA, float32, one molecule and a batch, beside mace-torch by turns.

Every engine is a process of its own that stays alive and is asked in turn, so that all see the same
machine. The clock is on the wall, both engines have the same number of threads; compiling and what
else comes first is outside it.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from _ff_models import Model, Settings, start
from _jobs import Skip
from _report import Row, Target

PYTHON = "MACE_PYTHON"  # interpreter of an environment that has mace-torch
ROUNDS = 4
FOLDER = Path(__file__).resolve().parent
OTHER = "mace-torch, 128 channels, L=1"
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Worker:
    """A process that does things for a while when told to.

    Args:
        command: what to run.
        threads: it may have.

    Attributes:
        about: what it said of itself.
        memory_MiB: its largest memory so far.

    Raises:
        Skip: it ended before it was ready.
    """

    def __init__(self, command: Sequence[str], threads: int) -> None:
        self._name = Path(command[1]).name
        environment = os.environ | dict.fromkeys(VARIABLES, str(threads))
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._totals: dict[str, list[float]] = {}
        self.memory_MiB = 0.0
        self.about = self._answer()

    def run(self, what: str, seconds: float) -> None:
        """Do it for so long."""
        assert self._process.stdin is not None
        print(json.dumps({"what": what, "seconds": seconds}), file=self._process.stdin, flush=True)
        answer = self._answer()
        total = self._totals.setdefault(what, [0.0, 0.0])
        total[0] += answer["count"]
        total[1] += answer["seconds"]

    def rate(self, what: str) -> float:
        """How often per second, over all turns."""
        count, seconds = self._totals[what]
        return count / seconds

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            errors = self._process.communicate()[1].strip().splitlines()
            raise Skip(f"{self._name}: {errors[-1] if errors else 'ended'}")
        answer: dict[str, Any] = json.loads(line)
        self.memory_MiB = answer["memory_MiB"]
        return answer

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.communicate()  # closes its input, which ends it


def mace_python() -> str:
    """The interpreter, "" where there is none."""
    return os.environ.get(PYTHON, "")


def speed(model: Model, system: str, settings: Settings) -> list[Row]:
    """Energies and forces per second, steps per second, and the same of mace-torch."""
    sizes = sorted({1, settings.speed_replicas})
    model.require(start("300K", 1).numbers)
    threads = settings.speed_threads
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        ours, theirs = {}, {}
        for n in sizes:
            state = start("300K", n)
            frames = str(Path(folder, f"{n}.npz"))
            np.savez(frames, numbers=state.numbers, positions=state.positions)
            checkpoint = str(model.checkpoint.folder.resolve())
            own = [checkpoint, frames, str(threads), settings.engine]
            ours[n] = stack.enter_context(
                Worker([sys.executable, str(FOLDER / "_ff_worker.py"), *own], threads)
            )
            if mace_python():
                other = [mace_python(), str(FOLDER / "_ff_mace.py"), frames, str(threads)]
                theirs[n] = stack.enter_context(Worker(other, threads))
        for _ in range(ROUNDS):
            for n in sizes:
                for worker, what in (
                    (ours[n], "forces"),
                    (ours[n], "steps"),
                    *([(theirs[n], "forces")] if theirs else []),
                ):
                    worker.run(what, settings.speed_s / ROUNDS)
    row = model.row("P7", system, f"3BPA, float32, {threads} threads")
    return _rows(row, ours, theirs)


def _rows(row: Callable[..., Row], ours: dict[int, Worker], theirs: dict[int, Worker]) -> list[Row]:
    """Ratios first, then what they are made of."""
    rows = []
    missing = "" if theirs else f"mace-torch was not run: {PYTHON} is not set"
    for n in ours:
        rate, at = ours[n].rate("forces"), {"horizon": _times(n)}
        ratio = rate / theirs[n].rate("forces") if theirs else None
        name = "force steps / mace-torch's"
        rows.append(row(name, ratio, target=Target(at_least=8.0), note=missing, **at))
        overhead = rate / ours[n].rate("steps") - 1
        name = "overhead of a step outside the network"
        rows.append(row(name, overhead, target=Target(at_most=0.10), **at))
    many = max(ours)
    batched = many * ours[many].rate("forces") / ours[1].rate("forces")
    name = "batched / single, per molecule"
    rows.append(row(name, batched, target=Target(at_least=1.25), horizon=_times(many)))
    for n in ours:
        for workers, about in ((ours, {}), (theirs, {"model": OTHER})):
            if n not in workers:
                continue
            worker, more = workers[n], {"horizon": _times(n), **about}
            rate = n * worker.rate("forces")
            rows.append(row("molecule force steps", rate, unit="1/s", beside=True, **more))
            if not about:
                rate = n * worker.rate("steps")
                rows.append(row("molecule MD steps", rate, unit="1/s", **more))
            rows.append(row("peak memory", worker.memory_MiB, unit="MiB", beside=True, **more))
            rows.append(
                row("first evaluation", worker.about["first_s"], unit="s", beside=True, **more)
            )
            rows.append(row("parameters", worker.about["parameters"], **more))
    return rows


def _times(n: int) -> str:
    return f"{n} molecule{'s' if n > 1 else ''}"
