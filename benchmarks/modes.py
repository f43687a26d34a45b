"""python benchmarks/modes.py MOLECULE: does every normal mode of a rigid molecule have its energy?

Variances along the normal modes (`trajgen.modes`) of the training frames, the test frames and the
generator's long simulation (`generator.py --rows stability`), over those of the engine's 32
trajectories (`engine.py`); what has not been made yet is made. The rms logarithm below says by how
much they differ as a whole.

Data: TRAJGEN_DATA (md17s, sgdml).
"""

from _environment import ROOT as ROOT  # isort: split

import argparse
import sys

import numpy as np
import numpy.typing as npt
import torch
from _report import grid, number
from _runs import Settings, long_run, subject
from engine import DEFAULTS, simulated

from shared.data.md17 import SURROGATE_MOLECULES
from shared.data.splits import SHORT_TO_LONG
from shared.errors import InputError
from trajgen.modes import matching_order, normal_modes

Float = npt.NDArray[np.float64]

CM = 2 * np.pi * 2.99792458e-5  # 1/cm -> 1/fs
FRAMES = 60  # of each simulation, after a fifth of it


def main(argv: list[str] | None = None) -> int:
    """Command line; exit code 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0].split(": ")[1])
    parser.add_argument("molecule", choices=SURROGATE_MOLECULES)
    molecule = parser.parse_args(argv).molecule
    torch.set_num_threads(1)
    try:
        print(measured(molecule, Settings()))
    except InputError as error:
        print(f"benchmarks/modes.py: {error}", file=sys.stderr)
        return 2
    return 0


def measured(molecule: str, settings: Settings) -> str:
    """The table."""
    s = subject(settings.checkpoint, molecule)
    x = s.series.positions.astype(np.float64)
    rows = np.arange(1, SHORT_TO_LONG.train.stop, 3)
    step = s.series.interval_fs
    accelerations = (x[rows + 1] - 2 * x[rows] + x[rows - 1]) / step**2
    mean, vectors, frequencies = normal_modes(s.numbers, s.masses, x[rows], accelerations)
    order = matching_order((s.numbers, mean), s.numbers, x[0])

    def along(positions: Float) -> Float:
        return coordinates(positions[:, order], mean, vectors, s.masses)

    ours = long_run(s, settings.replicas, settings.stability_ps, settings.folder).frames
    engine = simulated(molecule, DEFAULTS)[1].frames
    of_engine = along(picked(engine)).var(0)
    columns = {
        "training frames": along(x[: SHORT_TO_LONG.train.stop : 10]).var(0) / of_engine,
        "test frames": along(x[SHORT_TO_LONG.test.start : SHORT_TO_LONG.test.stop : 10]).var(0)
        / of_engine,
        "generator": along(picked(ours)).var(0) / of_engine,
    }
    lines = [["mode [1/cm]", *columns]]
    for mode, frequency in enumerate(frequencies / CM):
        lines.append([number(frequency), *(number(c[mode]) for c in columns.values())])
    lines.append(["rms log", *(number(_rms(np.log(c))) for c in columns.values())])
    head = f"{molecule}: variances along normal modes over those of the engine's trajectories"
    return f"{head}\n\n{grid(lines)}"


def picked(frames: Float) -> Float:
    """Some frames of all replicas [T, R, N, 3], as [M, N, 3]."""
    rows = np.linspace(len(frames) // 5, len(frames) - 1, FRAMES).astype(int)
    return np.asarray(frames[rows], dtype=np.float64).reshape(-1, *frames.shape[2:])


def coordinates(positions: Float, mean: Float, vectors: Float, masses: Float) -> Float:
    """q = Bᵀ √m (x − x̄) of frames [T, N, 3], each turned onto the mean; [T, K], amu^1/2 Å."""
    share = (masses / masses.sum())[:, None]
    centred = positions - (share * positions).sum(1, keepdims=True)
    u, _, vh = np.linalg.svd(np.einsum("n,tna,nb->tab", masses, centred, mean))
    off = np.sqrt(masses)[:, None] * (centred @ (u @ vh) - mean)
    return np.asarray(np.einsum("tna,nak->tk", off, vectors))


def _rms(values: Float) -> float:
    return float(np.sqrt(np.mean(values**2)))


if __name__ == "__main__":
    sys.exit(main())
