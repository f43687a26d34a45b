"""python benchmarks/torques.py: what takes dynamics away from a reference?

Isomers of C7O2H10: a force field's errors on their frames, of the forces by element and of the
torques about rotatable bonds (`forcefield.torques`), beside a force field without forces; then
dynamics at constant energy from ten frames of each, and how much of the squared distance from the
reference after 100 fs is that of hydrogens. Of those that train, five.

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
from forcefield.torques import torque_weights
from shared.data.isomers import isomers_of
from shared.errors import InputError
from shared.metrics.armse import centre
from shared.state import PhaseState

Float = npt.NDArray[np.float64]
Forces = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]

PARTS = ("train", "validation", "test")
ISOMERS, FRAMES, STARTS = 5, 50, 10
STEPS_FS, LENGTH_FS = 1.0, 100
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
        print(f"benchmarks/torques.py: {error}", file=sys.stderr)
        return 2
    return 0


def measured(model: LoadedPotential, name: str) -> str:
    """The table."""
    evaluate = evaluator(model.potential)  # compiled once: they all have 19 atoms
    head = ["", *(f"F RMSE {chemical_symbols[z]} [meV/Å]" for z in model.elements)]
    head += ["torque RMSE [meV/Å/√amu]", "distance / persistence, 100 fs", "of its square, H"]
    lines = [head]
    for part in PARTS:
        chosen = isomers_of(part)[:: len(isomers_of(part)) // ISOMERS][:ISOMERS]
        found = [errors(model, isomer) for isomer in chosen]
        for who, keys in (("no force", ("none", "torque none")), (name, ("ours", "torque"))):
            row = [f"{who}, {part}"]
            for z in model.elements:
                row.append(number(_rms([each[keys[0]][z] for each in found])))
            row.append(number(_rms([each[keys[1]] for each in found])))
            lines.append([*row, "", ""])
        far = [distances(model, evaluate, isomer) for isomer in chosen]
        ours, still, light = (sum(each[k] for each in far) for k in range(3))
        lines[-1][-2:] = [number(float(np.sqrt(ours / still))), number(light / ours)]
    return grid(lines)


def errors(model: LoadedPotential, isomer: Any) -> dict[str, Any]:
    """Mean squares of force components by element and of torques, ours and without forces."""
    every = slice(None, None, max(1, len(isomer) // FRAMES))
    x = np.asarray(isomer.positions[every], dtype=np.float64)
    true = np.asarray(isomer.forces, dtype=np.float64)[every]
    types = torch.from_numpy(model.types_of(isomer.numbers)).expand(len(x), -1)
    atoms = torch.ones(types.shape, dtype=torch.bool)
    made = model.potential.energy_and_forces(types, torch.from_numpy(x).float(), atoms)[1]
    turning = torque_weights(isomer.numbers, x)
    found: dict[str, Any] = {}
    for key, off in (("ours", made.numpy() - true), ("none", true)):
        of = {int(z): off[:, isomer.numbers == z] for z in np.unique(isomer.numbers)}
        found[key] = {z: float(np.mean((MEV * part) ** 2)) for z, part in of.items()}
        torques = MEV * np.einsum("tnc,tnrc->tr", off, turning)
        found["torque" if key == "ours" else "torque none"] = float(np.mean(torques**2))
    return found


def distances(model: LoadedPotential, evaluate: Forces, isomer: Any) -> tuple[float, float, float]:
    """Squared distances after 100 fs: of ours and of the start, and the hydrogens' part of ours."""
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
    off = np.square(centre(end.positions, masses) - truth).sum(-1)
    still = np.square(centre(x[rows], masses) - truth).sum()
    return float(off.sum()), float(still), float(off[:, isomer.numbers == 1].sum())


def _rms(squares: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(squares)))


if __name__ == "__main__":
    sys.exit(main())
