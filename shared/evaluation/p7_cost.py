"""P7, cost: simulated time per wall and per core second, evaluations, memory; 1 and 64 replicas.

Each figure is measured in a process of its own, on one thread, where
nothing was compiled before.
Warm-up, compilation above all, is left out and reported apart: it is a cost to the user. A core
second is one of CPU time of the process, so other programs on the machine do not count.
"""

import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from shared.data.splits import SHORT_TO_LONG, evenly_spaced_starts
from shared.evaluation.candidates import Candidate, Variant, open_candidate
from shared.evaluation.p1_accuracy import row_of
from shared.evaluation.p1_s2l import load_series
from shared.evaluation.results import Row
from shared.evaluation.rollout import Context, Skip
from shared.evaluation.trivial import TRIVIAL
from shared.units import FS_PER_PS

__all__ = ["Cost", "Speed", "measure"]

WARM_UP = 3  # frames


@dataclass(frozen=True)
class Cost:
    """Cost.

    Args:
        models: those to measure; null: all of the evaluation.
        systems: those to measure on; null: all of the evaluation.
        replicas: how many at once, one measurement each.
        core_s: CPU seconds that each speed is measured for.
        compile: compile the models that can be.
    """

    models: list[str] | None = None
    systems: list[str] | None = None
    replicas: tuple[int, ...] = (1, 64)
    core_s: float = 15.0
    compile: bool = True

    def quick(self) -> "Cost":
        """What a minute allows."""
        return Cost(self.models, self.systems, self.replicas[:1], 0.2, False)


@dataclass
class Speed:
    """How much simulated time a piece of code makes: ps, and the seconds it took."""

    ps: float = 0.0
    core_s: float = 0.0
    wall_s: float = 0.0

    def run(self, step: Callable[[], Any], ps_per_step: float, core_s: float) -> None:
        """Call ``step`` for that many core-seconds more."""
        wall, core = time.perf_counter(), time.process_time()
        until = core + core_s
        while time.process_time() < until:
            step()
            self.ps += ps_per_step
        self.core_s += time.process_time() - core
        self.wall_s += time.perf_counter() - wall


def measure(candidate: Candidate, name: str, settings: Cost, context: Context) -> list[Row]:
    """Rows of one candidate on one molecule."""
    if candidate.name in TRIVIAL or candidate.name.endswith("oracle"):
        raise Skip(f"the cost of {candidate.name} means nothing")
    system = load_series(name, context).system
    variant = candidate.variants(system)[0]
    row = row_of("cost", "P7", system, candidate, variant)
    rows: list[Row] = []
    for replicas in settings.replicas:
        spawn = multiprocessing.get_context("spawn")
        with (
            TemporaryDirectory() as folder,
            ProcessPoolExecutor(1, spawn, _compile_in, (folder,)) as pool,
        ):
            subject = (candidate.name, name, variant, replicas)
            try:
                speed, warm_up, memory = pool.submit(
                    _measured, *subject, settings, context.seed
                ).result()
            except BrokenProcessPool:
                raise Skip(
                    f"its process was killed with {replicas} replicas: too little memory?"
                ) from None
        where = {"horizon": f"{replicas} replica{'s' if replicas > 1 else ''}", "timing": True}
        rows += [
            row(speed.ps / speed.core_s, metric="speed", unit="ps/core-s", **where),
            row(speed.ps / speed.wall_s, metric="speed on the clock", unit="ps/s", **where),
            row(warm_up, metric="first frame", unit="s", **where),
            row(memory, metric="peak memory", unit="MiB", **where),
        ]
    count = getattr(candidate, "evaluations_per_ps", lambda system: None)(system)
    if count is not None:
        rows.append(row(count, metric="evaluations of the model", unit="1/ps"))
    return rows


def _compile_in(folder: str) -> None:
    """Have torch keep what it compiles in a folder; of a new one, it knows nothing yet."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder


def _measured(
    model: str, name: str, variant: Variant, replicas: int, settings: Cost, seed: int
) -> tuple[Speed, float, float]:
    """Speed, seconds of the first frame, peak memory in MiB; in a process of its own."""
    import torch

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # distant pairs underflow; denormals slow matmuls tenfold
    candidate, series = open_candidate(model), load_series(name, Context(Path()))
    system = series.system
    rows = evenly_spaced_starts(SHORT_TO_LONG.test, replicas, 0)
    start = candidate.start(series.past(rows), variant, 1, seed)
    interval = candidate.step_fs(system)
    propagator = candidate.propagator(system, variant)
    if hasattr(propagator, "compile"):
        propagator.compile = settings.compile
    frames = iter(propagator.propagate(start, sys.maxsize, interval, seed=seed))
    began = time.perf_counter()
    next(frames)
    warm_up = time.perf_counter() - began
    for _ in range(WARM_UP):
        next(frames)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    speed = Speed()
    speed.run(lambda: next(frames), replicas * interval / FS_PER_PS, settings.core_s)
    return speed, warm_up, memory
