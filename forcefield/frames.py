"""The frames of a training's data, with their labels, as a file.

    python -m forcefield.frames --config configs/forcefield/md17.yaml \\
        --data.molecules '[aspirin]' --out aspirin.extxyz

The output is an extended xyz file of what the section `data` of a config names: of the part to
train on, or another. Any program that trains on energies and forces reads it, and so does
`data.more` of another training: that one then learns from both.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from shared.command import exit_code

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

    from forcefield.labelled import DataConfig, Part

__all__ = ["main", "write_frames"]


def write_frames(data: "DataConfig", out: Path, part: "Part" = "train") -> int:
    """Write the frames of a part of the data; returns how many.

    Args:
        data: which frames; what `data.more` names is not among them.
        out: an extended xyz file, whole or not there; energies in eV, forces in eV/Å.
        part: train, validation or test.

    Raises:
        InputError: as `load_labelled`, or the output is no file that can be written.
    """
    from forcefield.labelled import load_labelled
    from shared.data.extxyz import write_labelled
    from shared.data.label import check_output

    found = load_labelled(data, part)
    check_output([frames.path for frames in found], out, every=1)
    return write_labelled(out, found)


def parser() -> "ArgumentParser":
    """The options of a training, and the file."""
    from forcefield.train import parser as training_parser

    command = training_parser("python -m forcefield.frames", __doc__.split("\n\n")[0])
    command.add_argument("--out", type=str, required=True, help="extended xyz file to write")
    command.add_argument(
        "--part", choices=["train", "validation", "test"], default="train", help="of the data"
    )
    return command


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""

    def act() -> None:
        from shared.config import parse_config

        options = parse_config(parser(), argv)
        written = write_frames(options.data, Path(options.out), options.part)
        print(f"{written} frames to {options.out}")

    return exit_code("forcefield.frames", act, "nothing was written")


if __name__ == "__main__":
    sys.exit(main())
