"""python benchmarks/response.py: what takes dynamics away from a reference?

Isomers of C7O2H10: a force field's errors on their frames, of the forces by element and of how far
the atoms yield to them (`forcefield.response`), beside a force field without forces; then dynamics
at constant energy from ten frames of each, and how much of the squared distance from the reference
after 100 fs lies along soft modes (mass-weighted, modes of the model Hessian), and how much of it
is that of hydrogens. Of those that train, five.

Data: TRAJGEN_DATA (isomers).
"""

from _environment import ROOT as ROOT  # isort: split

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from _report import grid, number
from ase.data import atomic_masses, chemical_symbols

from forcefield.compiled import evaluator
from forcefield.load import LoadedPotential, load_potential
from forcefield.propagator import ForceFieldPropagator
from forcefield.response import TIME_FS, model_hessian, response_weights
from shared.data.isomers import isomers_of
from shared.errors import InputError
from shared.metrics.armse import centre
from shared.state import PhaseState
from shared.units import AMU_A2_PER_FS2_IN_EV, wavenumber_to_angular_frequency

Float = npt.NDArray[np.float64]
Forces = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]

PARTS = ("train", "validation", "test")
ISOMERS, FRAMES, STARTS = 5, 50, 10
STEPS_FS, LENGTH_FS = 1.0, round(TIME_FS)
SOFT = 450.0  # 1/cm
MEV = 1000.0


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; exit code 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0].split(": ")[1])
    parser.add_argument("--checkpoint", default="isomers", help="name or folder; %(default)s")
    checkpoint = parser.parse_args(argv).checkpoint
    torch.set_num_threads(1)
    try:
        model = load_potential(checkpoint)
        print(measured(model, checkpoint))
    except InputError as error:
        print(f"benchmarks/response.py: {error}", file=sys.stderr)
        return 2
    return 0


def measured(model: LoadedPotential, name: str) -> str:
    """The table."""
    evaluate = evaluator(model.potential)  # compiled once: they all have 19 atoms
    head = ["", *(f"F RMSE {chemical_symbols[z]} [meV/Å]" for z in model.elements)]
    head += [
        "shift of these after 100 fs [Å]",
        "found [Å]",
        "found / persistence",
        "of its square, H",
        f"mass-weighted, below {SOFT:g}/cm",
    ]
    lines = [head]
    for part in PARTS:
        chosen = isomers_of(part)[:: len(isomers_of(part)) // ISOMERS][:ISOMERS]
        found = [errors(model, isomer) for isomer in chosen]
        for who, key in (("no force", "none"), (name, "ours")):
            row = [f"{who}, {part}"]
            for z in model.elements:
                row.append(number(_rms([each[key][z] for each in found])))
            row.append(number(_rms([each[f"{key} shift"] for each in found])))
            lines.append([*row, "", "", "", ""])
        far = [distances(model, evaluate, isomer) for isomer in chosen]
        total = {key: sum(each[key] for each in far) for key in far[0]}
        lines[-1][-4:] = [
            number(_rms([total["ours"] / (len(chosen) * STARTS)])),
            number(_rms([total["ours"] / total["still"]])),
            number(total["light"] / total["ours"]),
            number(total["soft"] / total["weighted"]),
        ]
    return grid(lines)


def errors(model: LoadedPotential, isomer: Any) -> dict[str, Any]:
    """Mean squares of force components by element, and of the shift of the molecule by them after
    100 fs; of our errors and, without forces, of the forces."""
    every = slice(None, None, max(1, len(isomer) // FRAMES))
    x = np.asarray(isomer.positions[every], dtype=np.float64)
    true = np.asarray(isomer.forces, dtype=np.float64)[every]
    types = torch.from_numpy(model.types_of(isomer.numbers)).expand(len(x), -1)
    atoms = torch.ones(types.shape, dtype=torch.bool)
    made = model.potential.energy_and_forces(types, torch.from_numpy(x).float(), atoms)[1]
    weights = response_weights(isomer.numbers, x)
    found: dict[str, Any] = {}
    for key, off in (("ours", made.numpy() - true), ("none", true)):
        of = {int(z): off[:, isomer.numbers == z] for z in np.unique(isomer.numbers)}
        found[key] = {z: float(np.mean((MEV * part) ** 2)) for z, part in of.items()}
        shifts = np.einsum("tnc,tnrc->tr", off, weights)
        found[f"{key} shift"] = float(np.square(shifts).sum(-1).mean())
    return found


def distances(model: LoadedPotential, evaluate: Forces, isomer: Any) -> dict[str, float]:
    """Squared distances after 100 fs: ours, the start's and the hydrogens' part of ours; ours in
    mass-weighted coordinates, and its part along soft modes."""
    x = np.asarray(isomer.positions, dtype=np.float64)
    rows = np.linspace(1, len(x) - 1 - LENGTH_FS, STARTS).astype(int)
    types = torch.from_numpy(model.types_of(isomer.numbers)).repeat(len(rows), 1)
    atoms = torch.ones(types.shape, dtype=torch.bool)

    def forces(positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return evaluate(types, positions.float(), atoms)

    dynamics = ForceFieldPropagator(lambda start: forces)
    start = dynamics.from_pair(
        PhaseState(isomer.numbers, x[rows]), x[rows - 1], STEPS_FS, isomer.forces[rows]
    )
    *_, end = dynamics.propagate(start, LENGTH_FS, STEPS_FS, seed=0)
    masses = atomic_masses[isomer.numbers]
    truth = centre(x[rows + LENGTH_FS], masses)
    apart = centre(end.positions, masses) - truth
    off = np.square(apart).sum(-1)
    weighted, soft = soft_part(isomer.numbers, truth, apart)
    return {
        "ours": float(off.sum()),
        "still": float(np.square(centre(x[rows], masses) - truth).sum()),
        "light": float(off[:, isomer.numbers == 1].sum()),
        "weighted": weighted,
        "soft": soft,
    }


def soft_part(numbers: Any, frames: Float, apart: Float) -> tuple[float, float]:
    """Squares of distances from frames, both [T, N, 3], in mass-weighted coordinates: all, and
    along modes softer than `SOFT`, turning of the whole included."""
    root = np.sqrt(np.repeat(atomic_masses[numbers], 3))
    squares, modes = np.linalg.eigh(model_hessian(numbers, frames) / np.outer(root, root))
    along = np.einsum("tk,tkm->tm", root * apart.reshape(len(frames), -1), modes) ** 2
    soft = squares < wavenumber_to_angular_frequency(SOFT) ** 2 * AMU_A2_PER_FS2_IN_EV
    return float(along.sum()), float(along[soft].sum())


def _rms(squares: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(squares)))


if __name__ == "__main__":
    sys.exit(main())
