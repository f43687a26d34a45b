"""This project's force field, timed: python _ff_worker.py CHECKPOINT FRAMES.npz THREADS ENGINE.

Two tasks: `forces`, energies and forces of all frames, and `steps`, NVE steps from them.
"""

import sys
from typing import Any

from _environment import ROOT as ROOT  # isort: split

from _ff_serve import Tasks, serve

STEPS_PER_FRAME = 10


def prepare() -> tuple[Tasks, dict[str, Any]]:
    """Both compiled, for the same molecules."""
    import time

    import numpy as np
    import torch

    from forcefield.compiled import compile_in_parts
    from forcefield.load import load_potential
    from forcefield.propagator import ForceFieldPropagator, forces_of
    from shared.kinetics import maxwell_boltzmann
    from shared.state import PhaseState

    name, frames, threads, engine = sys.argv[1:]
    torch.set_num_threads(int(threads))
    torch.set_flush_denormal(True)
    compiled = engine == "compiled"
    loaded = load_potential(name)
    with np.load(frames) as arrays:
        numbers, positions = arrays["numbers"], arrays["positions"]
    types = torch.from_numpy(loaded.types_of(numbers)).expand(len(positions), -1).contiguous()
    atoms = torch.ones_like(types, dtype=torch.bool)
    x = torch.from_numpy(positions - positions[:, :1]).float()
    began = time.perf_counter()
    bare = compile_in_parts(loaded.potential, types, x, atoms, compiled=compiled)
    bare(x)
    first = time.perf_counter() - began

    v = maxwell_boltzmann(numbers, 300.0, np.random.default_rng(0), len(positions))
    propagator = ForceFieldPropagator(forces_of(loaded, compiled=compiled), timestep_fs=0.5)
    interval = STEPS_PER_FRAME * propagator.timestep_fs
    start = PhaseState(numbers, positions, velocities=v)
    steps = propagator.propagate(start, sys.maxsize, interval, seed=0)
    next(steps)
    tasks: Tasks = {
        "forces": (lambda: bare(x), 1),
        "steps": (lambda: next(steps), STEPS_PER_FRAME),
    }
    weights = sum(w.numel() for w in loaded.potential.parameters())
    return tasks, {"first_s": first, "parameters": weights}


if __name__ == "__main__":
    serve(prepare)
