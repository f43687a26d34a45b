"""Frames with energies and forces from extended xyz files, under whatever names they have there.

ASE moves what is called `energy` and `forces` into the results of a calculator and leaves other
names on the comment line and in the columns; both places are searched. Units are eV and eV/Å. A
file may hold several molecules: frames are grouped by their sequence of elements. A cell is no
matter, periodic boundary conditions are refused.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from io import StringIO
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from shared.errors import InputError
from shared.files import replacing
from shared.io import check_frame, parse_file

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["LabelledFrames", "read_isolated_atoms", "read_labelled", "write_labelled"]


@dataclass(frozen=True, eq=False)
class LabelledFrames:
    """M frames of one molecule with energies and forces.

    Attributes:
        name: of the molecule or file, for reports.
        path: the file.
        numbers: atomic numbers [N].
        positions: [M, N, 3], Å.
        energies: [M], eV.
        forces: [M, N, 3], eV/Å.
    """

    name: str
    path: Path
    numbers: npt.NDArray[np.int64]
    positions: npt.NDArray[np.float64]
    energies: npt.NDArray[np.float64]
    forces: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        for what in ("positions", "energies", "forces"):
            values = np.asarray(getattr(self, what))
            broken = np.flatnonzero(~np.isfinite(values).all(axis=tuple(range(1, values.ndim))))
            if broken.size:
                raise InputError(
                    f"{self.path}: {self.name}: {what} of frame {broken[0]} (from 0) are not "
                    f"finite, as of {broken.size} of {len(values)} frames; leave those out"
                )

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, rows: Any) -> "LabelledFrames":
        """The frames of an index array or slice."""
        return LabelledFrames(
            self.name,
            self.path,
            self.numbers,
            self.positions[rows],
            self.energies[rows],
            self.forces[rows],
        )


def read_labelled(
    path: str | PathLike[str], energy_key: str = "energy", forces_key: str = "forces"
) -> list[LabelledFrames]:
    """All frames of a file, those of each molecule together, in the order of the file.

    Args:
        path: an extended xyz file.
        energy_key: name of the energies on the comment lines, eV.
        forces_key: name of the column of forces, eV/Å.

    Raises:
        InputError: as `shared.io.read_frames` for a single frame, or a frame without that label
            (the message names those it has), or one that is not finite.
    """
    path = Path(path)
    groups: dict[tuple[int, ...], list[tuple[Any, float, Any]]] = {}
    for index, atoms in enumerate(parse_file(path)):
        where = f"{path}: frame {index}"
        check_frame(where, atoms, atoms)
        energy = _label(where, atoms, energy_key, atoms.info, "energy")
        forces = _label(where, atoms, forces_key, atoms.arrays, "forces")
        if energy.shape != () or forces.shape != atoms.positions.shape:
            raise InputError(
                f"{where}: {energy_key} has shape {energy.shape} and {forces_key} "
                f"{forces.shape}, expected one number and {atoms.positions.shape}"
            )
        key = tuple(atoms.numbers.tolist())
        groups.setdefault(key, []).append((atoms.positions, float(energy), forces))
    names = [path.stem] if len(groups) == 1 else [f"{path.stem}-{k}" for k in range(len(groups))]
    return [
        LabelledFrames(
            name,
            path,
            np.array(numbers, dtype=np.int64),
            np.stack([frame[0] for frame in frames]),
            np.array([frame[1] for frame in frames]),
            np.stack([frame[2] for frame in frames]),
        )
        for name, (numbers, frames) in zip(names, groups.items(), strict=True)
    ]


def write_labelled(path: str | PathLike[str], found: Iterable[LabelledFrames]) -> int:
    """Write frames with their labels, so that the file is whole or not there; returns how many."""
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import write

    text, written = StringIO(), 0
    for frames in found:
        for shape, energy, forces in zip(
            frames.positions, frames.energies, frames.forces, strict=True
        ):
            atoms = Atoms(frames.numbers, shape)
            atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
            write(text, atoms, format="extxyz")
        written += len(frames)
    with replacing(Path(path)) as part:
        part.write_text(text.getvalue(), encoding="utf-8")
    return written


def read_isolated_atoms(path: str | PathLike[str], energy_key: str = "energy") -> dict[int, float]:
    """Atomic number -> energy in eV, of the frames of a file that are single atoms.

    Raises:
        InputError: a file that cannot be read or has no such frame, or one whose energy is missing
            or not finite.
    """
    path = Path(path)
    found: dict[int, float] = {}
    for index, atoms in enumerate(parse_file(path)):
        if len(atoms) == 1:
            where = f"{path}: frame {index}"
            label = _label(where, atoms, energy_key, atoms.info, "energy")
            if label.shape != ():
                raise InputError(f"{where}: {energy_key} is not one number")
            if not math.isfinite(label):
                raise InputError(f"{where}: {energy_key} of the atom {atoms.symbols} is {label}")
            found[int(atoms.numbers[0])] = float(label)
    if not found:
        raise InputError(f"{path}: no frame of a single atom, so no energies of isolated atoms")
    return found


def _label(
    where: str, atoms: "Atoms", key: str, own: dict[str, Any], kind: str
) -> npt.NDArray[np.float64]:
    """The label `key`, from the frame's own mapping or from the results of its calculator."""
    results = {} if atoms.calc is None else atoms.calc.results
    value = own.get(key, results.get(key))
    if value is None:
        structure = ("numbers", "positions")
        there = sorted({*own, *results} - {*structure})
        raise InputError(
            f"{where} has no {key}; it has {', '.join(there) or 'no labels'}; "
            f"name the {kind} with data.{kind}_key"
        )
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{where}: {key} is no number: {value!r:.60}") from None
