"""What it costs (P7): generated time per core-second beside GFN2-xTB's, and what a user waits for.

Speeds are measured on one thread, in a process of their own, generator and GFN2-xTB by turns, so
that both see the same machine. A core-second is a second of CPU time of the process: other
programs on the machine do not count. Warm-up, compilation above all, is left out and reported
apart.
"""

import importlib.util
import math
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from _environment import ROOT
from _jobs import Skip
from _report import Row, Target
from _runs import SEED, Settings, subject, surrogate_start

from shared.data.gfn2 import XTBDynamics, XTBEngine, XTBSettings
from shared.data.splits import SHORT_TO_LONG, evenly_spaced_starts
from shared.evaluation.p7_cost import Speed
from shared.units import FS_PER_PS

MANY = 64
ROUNDS = 3  # turns that each engine gets
REQUIRED = "ethanol"  # the molecule that the target is set for
HELP_RUNS = 5


def cost(molecule: str, settings: Settings) -> list[Row]:
    """Speed, evaluations and memory for 64 replicas, compiled, and for one, as it comes."""
    rows = []
    for replicas in (MANY, 1):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            rows += pool.submit(_cost_rows, molecule, settings, replicas).result()
    return rows


def _cost_rows(molecule: str, settings: Settings, replicas: int) -> list[Row]:
    import torch

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    s = subject(settings.checkpoint, molecule)
    generator = s.generator
    generator.compile = replicas > 1
    start = surrogate_start(s, evenly_spaced_starts(SHORT_TO_LONG.test, replicas, 0))
    frames = generator.propagate(start, sys.maxsize, generator.lag_fs, seed=SEED)
    began = time.perf_counter()
    next(frames)
    warm_up = time.perf_counter() - began
    for _ in range(2):
        next(frames)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    ours, theirs = Speed(), Speed()
    reference = _xtb(s.numbers, start.positions[0], start.velocities[0]) if replicas > 1 else None
    for _ in range(ROUNDS):
        share = settings.cost_s / ROUNDS
        ours.run(lambda: next(frames), replicas * generator.lag_fs / FS_PER_PS, share)
        if reference is not None:
            step = reference.settings.timestep_fs / FS_PER_PS
            theirs.run(reference.step, step, share)
    row = s.row("P7", horizon=f"{replicas} replica{'s' if replicas > 1 else ''}")
    evaluations = _evaluations_per_step(generator, start) * FS_PER_PS / generator.lag_fs
    rows = [
        row("speed", ours.ps / ours.core_s, unit="ps/core-s", beside=replicas > 1),
        row("speed", ours.ps / ours.wall_s, unit="ps/s"),
        row("first step", warm_up, unit="s"),
        row("network evaluations", evaluations, unit="1/ps"),
        row("peak memory", memory, unit="MiB"),
    ]
    if reference is None:
        return rows
    xtb = theirs.ps / theirs.core_s
    target = Target(at_least=25.0) if molecule == REQUIRED else None
    engine = s.row("P7", horizon="1 replica", model="GFN2-xTB, tblite, 0.5 fs")
    return [
        row("speed / GFN2-xTB's", ours.ps / ours.core_s / xtb, target=target, beside=True),
        *rows,
        engine("speed", xtb, unit="ps/core-s", beside=True),
    ]


def _xtb(numbers: np.ndarray, positions: np.ndarray, velocities: np.ndarray) -> XTBDynamics:
    """Velocity Verlet at 0.5 fs, warm: as fast as tblite allows without loss."""
    if importlib.util.find_spec("tblite") is None:
        raise Skip("tblite is not installed: pip install 'trajgen[reference]'")
    engine = XTBEngine(numbers, accuracy=1.0, warm_start=True)
    settings = XTBSettings(ensemble="nve", timestep_fs=0.5)
    dynamics = XTBDynamics(engine, positions, velocities, settings, np.random.default_rng(0))
    for _ in range(3):
        dynamics.step()
    return dynamics


def _evaluations_per_step(generator: Any, start: Any) -> int:
    """Counted, since an adaptive sampler takes what it needs."""
    counted = 0

    def count(*_: Any) -> None:
        nonlocal counted
        counted += 1

    generator.compile = False
    hook = generator.model.register_forward_hook(count)
    next(generator.propagate(start, 1, generator.lag_fs, seed=SEED))
    hook.remove()
    return counted


# --- what a user waits for ----------------------------------------------------------------------


def command(molecule: str, settings: Settings) -> list[Row]:
    """The README's first command, imports included, in an empty folder: 10 ps of a molecule."""
    example = ROOT / "examples" / f"{molecule}.xyz"
    if not example.exists():
        raise Skip(f"{example} is not there")
    options = ["--from", str(example)]
    if settings.checkpoint != Settings().checkpoint:
        folder = Path(settings.checkpoint)
        options += ["--checkpoint", str(folder.resolve()) if folder.is_dir() else str(folder)]
    seconds = _time(*options)
    return [_seconds("README command 1", seconds, 60.0, molecule, settings.checkpoint)]


def help(system: str, settings: Settings) -> list[Row]:
    """`python -m trajgen.sample --help`, the median of five."""
    seconds = statistics.median(_time("--help") for _ in range(HELP_RUNS))
    return [_seconds("trajgen.sample --help", seconds, 1.0, system, "-")]


def _seconds(metric: str, value: float, bound: float, system: str, model: str) -> Row:
    return Row(metric, value, "-", "-", system, model, unit="s", target=Target(below=bound))


def _time(*arguments: str) -> float:
    """Wall seconds of `python -m trajgen.sample` with the arguments; NaN where it fails."""
    if importlib.util.find_spec("trajgen.sample") is None:
        raise Skip("trajgen.sample is not there")
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "trajgen.sample", *arguments],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        seconds = time.perf_counter() - began
    if done.returncode != 0:
        print(done.stderr, file=sys.stderr)
        return math.nan
    return seconds
