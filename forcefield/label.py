"""Energies and forces of a potential for the frames of any files.

    python -m forcefield.label hot.extxyz --checkpoint FOLDER --out labels.extxyz

The output is an extended xyz file that `data.more` of a training takes: a model that goes on to
other data then keeps what an earlier one knew of frames that those data do not have (learning
without forgetting, Li and Hoiem 2018, 10.1109/TPAMI.2017.2773081). For labels of GFN2-xTB see
`shared.data.label`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from shared.command import exit_code
from shared.data.label import check_output, labelling_parser

__all__ = ["label", "main"]

_BATCH = 100  # frames


def label(files: Sequence[Path], checkpoint: str, out: Path, *, every: int = 1) -> int:
    """Write the frames of `files` with the labels of a potential; returns how many.

    Args:
        files: xyz, extxyz or pdb; each with frames of one molecule.
        checkpoint: name of a shipped force field, or a checkpoint folder.
        out: an extended xyz file, whole or not there.
        every: take every so many-th frame of each file.

    Raises:
        InputError: as `load_potential`, `shared.io.read_frames` and `types_of`, or labels that are
            not finite.
    """
    import torch

    from forcefield.load import load_potential
    from shared.data.extxyz import LabelledFrames, write_labelled
    from shared.io import read_frames

    model = load_potential(checkpoint, torch.float64)
    found = []
    for file in files:
        frames = read_frames(file)
        types = torch.from_numpy(model.types_of(frames.numbers))
        positions = np.asarray(frames.positions[::every], dtype=np.float64)
        energies, forces = [], []
        for some in torch.from_numpy(positions).split(_BATCH):
            batch = types.expand(len(some), -1)
            present = torch.ones_like(batch, dtype=torch.bool)
            energy, force = model.potential.energy_and_forces(batch, some, present)
            energies.append(energy.numpy())
            forces.append(force.numpy())
        of_atoms = sum(model.e0[number] for number in frames.numbers.tolist())
        labels = np.concatenate(energies) + of_atoms, np.concatenate(forces)
        found.append(LabelledFrames(file.stem, file, frames.numbers, positions, *labels))
    return write_labelled(out, found)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = labelling_parser("forcefield.label", "a potential")
    command.add_argument(
        "--checkpoint", required=True, help="shipped force field, or a checkpoint folder"
    )
    return command


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = parser().parse_args(arguments)

    def act() -> None:
        check_output(options.files, options.out, options.every)
        written = label(options.files, options.checkpoint, options.out, every=options.every)
        print(f"{written} frames to {options.out}")

    return exit_code("forcefield.label", act, "nothing was written")


if __name__ == "__main__":
    sys.exit(main())
