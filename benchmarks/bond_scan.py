"""python benchmarks/bond_scan.py: what it costs a force field to break a bond or share a hydrogen.

Every bond of a few test frames of 3BPA is stretched, the parts that it holds together at rest:
means over the bonds of a kind and, below, the least. Then hydrogens that are near a second heavy
atom in one of the frames are pushed on towards it, to u times the sum of the covalent radii:
medians and the least. Energies are relative to the frame. Beside the force field: the same without
its wall (`forcefield.priors`), and GFN2-xTB, which is not the functional of the labels but knows
what a broken bond is.

Data: TRAJGEN_DATA (3bpa). Needs tblite, of the `reference` extra.
"""

from _environment import ROOT as ROOT  # isort: split

import argparse
import sys
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from _report import grid, number
from ase.data import chemical_symbols, covalent_radii

from forcefield.load import LoadedPotential, load_potential
from shared.bonds import bonded_pairs
from shared.data.gfn2 import XTBEngine
from shared.data.stretch import stretch_bond
from shared.data.three_bpa import load_3bpa
from shared.errors import InputError

Float = npt.NDArray[np.float64]
Energies = Callable[[Float], Float]
Average = Callable[..., Float]
Scans = dict[str, list[Float]]  # of a kind of bond, frames [1 + S, N, 3] each: as it was, then on

STRETCHES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.3)  # Å
FRAMES = 4
SHARES = (1.5, 1.4, 1.3, 1.2, 1.1, 1.0)  # sums of the covalent radii
SHARED = 24  # pairs


def main(argv: list[str] | None = None) -> int:
    """Command line; exit code 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0].split(": ")[1])
    parser.add_argument("--checkpoint", default="3bpa", help="name or folder; %(default)s")
    parser.add_argument("--part", default="mixedT_1200K_dev", help="frames; default %(default)s")
    options = parser.parse_args(argv)
    try:
        print(measured(options.checkpoint, options.part))
    except InputError as error:
        print(f"benchmarks/bond_scan.py: {error}", file=sys.stderr)
        return 2
    return 0


def measured(checkpoint: str, part: str) -> str:
    """The tables."""
    model, frames = load_potential(checkpoint), load_3bpa(part)
    numbers = frames.numbers
    models = {checkpoint: _energies(model, numbers)}
    if model.potential.wall is not None:
        plain = load_potential(checkpoint)
        plain.potential.wall = None
        models["without the wall"] = _energies(plain, numbers)
    engine = XTBEngine(numbers)
    models["GFN2-xTB"] = lambda x: np.array([engine.energy_and_forces(each)[0] for each in x])
    chosen = np.linspace(0, len(frames) - 1, FRAMES).astype(int)
    pulled: Scans = {}
    for frame in frames.positions[chosen]:
        for kind, scan in stretched_bonds(numbers, frame):
            pulled.setdefault(kind, []).append(scan)
    pushed = {"H": shared_hydrogens(numbers, frames.positions)}
    return "\n\n".join(
        [
            _table(pulled, models, [f"+{s:g} Å" for s in STRETCHES], "", np.mean),
            _table(pushed, models, [f"u {u:g}" for u in SHARES], ", median", np.median),
        ]
    )


def _table(
    scans: Scans, models: dict[str, Energies], places: list[str], word: str, average: Average
) -> str:
    """Energies of each model along the scans of each kind: an average of them, and the least."""
    rows = []
    for kind, found in sorted(scans.items()):
        for name, energies in models.items():
            along = np.stack([energies(scan) for scan in found])
            rises = along[:, 1:] - along[:, :1]
            for what, values in ((word, average(rises, axis=0)), (", least", rises.min(0))):
                rows.append([f"{kind}, {name}{what}", *(number(v) for v in values)])
    return grid([["eV", *places], *rows])


def stretched_bonds(numbers: npt.NDArray[np.int64], positions: Float) -> list[tuple[str, Float]]:
    """For each bond its kind, and frames [1 + S, N, 3] with it ever longer."""
    pairs = bonded_pairs(numbers, positions)
    found = []
    for chosen, atoms in enumerate(pairs):
        scan = [stretch_bond(positions, pairs, chosen, s) for s in (0.0, *STRETCHES)]
        kind = "–".join(sorted(chemical_symbols[z] for z in numbers[atoms]))
        found.append((kind.replace("H–N", "N–H").replace("H–O", "O–H"), np.stack(scan)))
    return found


def shared_hydrogens(numbers: npt.NDArray[np.int64], positions: Float) -> list[Float]:
    """Frames [1 + U, N, 3] with a hydrogen ever nearer to a second heavy atom.

    Of every hydrogen and heavy atom not its own, the frame of `positions` [T, N, 3] in which they
    are nearest; of these pairs, the `SHARED` nearest.
    """
    hydrogens, heavy = np.flatnonzero(numbers == 1), np.flatnonzero(numbers > 1)
    apart = positions[:, hydrogens, None] - positions[:, None, heavy]
    bond = covalent_radii[1] + covalent_radii[numbers[heavy]]
    scaled = np.linalg.norm(apart, axis=-1) / bond
    scaled[:, np.arange(len(hydrogens)), scaled.mean(0).argmin(1)] = np.inf  # its own
    nearest, frame = scaled.min(0), scaled.argmin(0)
    found = []
    others = np.isfinite(nearest).sum()
    for flat in nearest.argsort(axis=None)[: min(SHARED, others)]:
        h, j = np.unravel_index(flat, nearest.shape)
        start = positions[frame[h, j]]
        axis = apart[frame[h, j], h, j] / np.linalg.norm(apart[frame[h, j], h, j])
        pushed = np.repeat(start[None], 1 + len(SHARES), axis=0)
        pushed[1:, hydrogens[h]] = start[heavy[j]] + np.outer(bond[j] * np.array(SHARES), axis)
        found.append(pushed)
    return found


def _energies(model: LoadedPotential, numbers: npt.NDArray[np.int64]) -> Energies:
    """Energies of frames [S, N, 3], eV."""
    types = torch.from_numpy(model.types_of(numbers))

    def energies(positions: Float) -> Float:
        shape = len(positions), len(numbers)
        x = torch.from_numpy(positions).float()
        mask = torch.ones(shape, dtype=torch.bool)
        return np.asarray(model.potential.energy(types.expand(shape), x, mask))

    return energies


if __name__ == "__main__":
    sys.exit(main())
