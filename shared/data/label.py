"""Energies and forces of GFN2-xTB for the frames of any files.

    python -m shared.data.label bpa_r0*.extxyz --out bpa-xtb.extxyz

A dynamics with a force field of this project costs a fifth of one with GFN2-xTB and gives as good
frames to learn from; only those that are kept need the engine. The output is an extended xyz file
that `data.source: extxyz` trains on. A frame that repeats the one before (of a replica that broke)
and one for which the engine finds no answer are left out, and counted.

`--stretch -0.3 0.7` labels another frame with each: the same with one bond, any, longer by so many
Å (`shared.data.stretch`). The model then knows bonds that its dynamics meets once in a nanosecond.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from shared.command import Parser, exit_code
from shared.data.extxyz import LabelledFrames, write_labelled
from shared.data.gfn2 import XTBEngine
from shared.data.stretch import stretched
from shared.errors import InputError
from shared.io import read_frames

__all__ = ["check_output", "label", "labelling_parser", "main"]

_SEED = 0


def label(
    files: Sequence[Path],
    out: Path,
    *,
    charge: int = 0,
    every: int = 1,
    stretch: tuple[float, float] | None = None,
) -> tuple[int, int]:
    """Write the labelled frames of `files` to `out`.

    Args:
        files: xyz, extxyz or pdb; each with frames of one molecule.
        out: an extended xyz file, whole or not there.
        charge: total charge of the molecules, e.
        every: take every so many-th frame of each file.
        stretch: Å, least and largest: beside each frame, one with a bond changed by so much.

    Returns:
        How many frames were written and how many left out.

    Raises:
        InputError: as `shared.io.read_frames` and `XTBEngine`, or no frame is left.
    """
    found, left = [], 0
    rng = np.random.default_rng(_SEED)
    for file in files:
        frames = read_frames(file)
        engine = XTBEngine(frames.numbers, charge)
        before = None
        shapes, energies, forces = [], [], []
        for positions in frames.positions[::every]:
            same = before is not None and np.array_equal(positions, before)
            before = positions
            if same:
                left += 1
                continue
            several = [positions]
            if stretch is not None:
                several.append(stretched(frames.numbers, positions, *stretch, rng))
            for shape in several:
                try:
                    energy, force = engine.energy_and_forces(shape)
                except RuntimeError:  # no self-consistent field
                    energy, force = np.nan, np.full(shape.shape, np.nan)
                if not (np.isfinite(energy) and np.isfinite(force).all()):
                    left += 1
                    continue
                shapes.append(shape)
                energies.append(energy)
                forces.append(force)
        if shapes:
            labels = np.array(energies), np.stack(forces)
            found.append(LabelledFrames(file.stem, file, frames.numbers, np.stack(shapes), *labels))
    if not found:
        raise InputError(f"GFN2-xTB finds an answer for none of {left} frames")
    return write_labelled(out, found), left


def check_output(files: Sequence[Path], out: Path, every: int) -> None:
    """Refuse what a labelling command line cannot mean.

    Raises:
        InputError: `every` below 1; `out` in no folder, or one itself, or one of the files, or of
            an ending that is not read as extended xyz.
    """
    if every < 1:
        raise InputError(f"--every must be 1 or more, got {every}")
    if not out.parent.is_dir():
        raise InputError(f"--out: there is no folder {out.parent}")
    if out.is_dir():
        raise InputError(f"--out: {out} is a folder; name a file")
    if out.suffix not in (".xyz", ".extxyz"):
        raise InputError(f"--out: {out} must end in .extxyz or .xyz")
    if out.exists() and any(file.exists() and out.samefile(file) for file in files):
        raise InputError(f"--out: {out} is one of the files to read; name another")


def labelling_parser(program: str, source: str) -> argparse.ArgumentParser:
    """What every command that labels files is told: which, where to, how many of their frames.

    Args:
        program: the module, as in `python -m`.
        source: whose energies and forces.
    """
    command = Parser(
        prog=f"python -m {program}",
        description=f"Energies and forces of {source} for the frames of files, as extended xyz. "
        "Exit status: 0 done, 2 bad input, 1 anything else.",
    )
    option = command.add_argument
    option("files", nargs="+", type=Path, metavar="FILE", help="xyz, extxyz or pdb")
    option("--out", required=True, type=Path, metavar="FILE", help="extended xyz to write")
    option("--every", type=int, default=1, help="take every so many-th frame; default %(default)s")
    return command


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = labelling_parser("shared.data.label", "GFN2-xTB")
    option = command.add_argument
    option("--charge", type=int, default=0, help="total charge, e; default %(default)s")
    option(
        "--stretch",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="beside each frame, label one with a bond longer by LOW to HIGH Å, LOW above -0.5",
    )
    return command


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = parser().parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as in shared.data.xtb

    def act() -> None:
        check_output(options.files, options.out, options.every)
        low, high = options.stretch or (0.0, 0.0)
        if not -0.5 < low <= high < np.inf:
            raise InputError(f"--stretch: expected -0.5 < LOW <= HIGH, got {low:g} {high:g}")
        written, left = label(
            options.files,
            options.out,
            charge=options.charge,
            every=options.every,
            stretch=tuple(options.stretch) if options.stretch else None,
        )
        print(f"{written} frames to {options.out}" + (f", {left} left out" if left else ""))

    return exit_code("shared.data.label", act, "nothing was written")


if __name__ == "__main__":
    sys.exit(main())
