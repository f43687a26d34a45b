"""3BPA: a flexible drug-like molecule (27 atoms), trained at 300 K and tested hotter.

Source: Kovács et al., J. Chem. Theory Comput. 17, 7696 (2021), the BOTNet-datasets repository
(https://github.com/davkovacs/BOTNet-datasets, folder dataset_3BPA, MIT); DFT, eV and eV/Å.

The scans of dihedrals were published as three files, and are one in that repository: their angle β,
of the bond between oxygen and CH₂, is 120, 150 or 180°, which tells them apart.

Where the official test files are not there, `mixedT_*_dev.xyz` take their place: frames of the
official `train_mixedT.xyz`, sorted by temperature. Results say which.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shared.data.extxyz import LabelledFrames, read_isolated_atoms, read_labelled
from shared.data.locate import data_root, find_file
from shared.errors import InputError

__all__ = [
    "SLICES",
    "TEMPERATURES_K",
    "find_3bpa",
    "isolated_atoms",
    "load_3bpa",
    "load_dihedral_slices",
]

TEMPERATURES_K = (300, 600, 1200)

_SITE = "https://github.com/davkovacs/BOTNet-datasets/tree/main/dataset_3BPA"
SLICES = ("dih_beta120", "dih_beta150", "dih_beta180")
_FOLDERS = ("3bpa", "dataset_3BPA")
_WHOLE = "test_dih"  # of the slices
_BETA = [1, 5, 13, 14]  # C-O-C-C, in the order of the files
_NEAR = 5.0  # degrees: slices are 30 apart


def find_3bpa(part: str) -> Path:
    """The file of a part: train_300K, train_mixedT, test_300K, test_dih_beta120, iso_atoms, ...

    Raises:
        InputError: it is not in the data folder (the message says what to fetch and where to put
            it).
    """
    names = [part]
    if part.startswith("test_") and part.endswith("K"):
        names.append(f"mixedT_{part.removeprefix('test_')}_dev")
    elif part.removeprefix("test_") in SLICES:
        for folder in _FOLDERS:  # published as a file of its own
            if (path := data_root() / folder / f"{part}.xyz").exists():
                return path
        names = [_WHOLE]
    return find_file(
        *(f"{folder}/{name}.xyz" for name in names for folder in _FOLDERS),
        what=f"3BPA {part}",
        source=f"{_SITE} ({names[0]}.xyz)",
        name=f"3bpa/{names[0]}",
    )


def load_3bpa(part: str) -> LabelledFrames:
    """The frames of a part, named after the file they came from.

    Raises:
        InputError: as `find_3bpa` and `read_labelled`; a slice that its file does not have.
    """
    path = find_3bpa(part)
    (frames,) = read_labelled(path)
    if path.stem != _WHOLE or part == _WHOLE:
        return frames
    beta = float(part.rpartition("beta")[2])
    found = frames[np.flatnonzero(np.abs(_torsions(frames.positions, _BETA) - beta) < _NEAR)]
    if not len(found):
        raise InputError(f"{path}: no frame has β, the angle of atoms {_BETA}, at {beta:g} degrees")
    return replace(found, name=part)


def load_dihedral_slices() -> dict[str, LabelledFrames]:
    """Official scans of a dihedral angle: slice -> frames.

    Raises:
        InputError: they are not in the data folder.
    """
    return {name: load_3bpa(f"test_{name}") for name in SLICES}


def _torsions(positions: npt.NDArray[np.float64], atoms: list[int]) -> npt.NDArray[np.float64]:
    """Of four atoms, without the sign, degrees, [T]."""
    from ase.geometry import get_dihedrals

    a, b, c, d = (positions[:, i] for i in atoms)
    angles = np.asarray(get_dihedrals(b - a, c - b, d - c), dtype=np.float64)
    return np.minimum(angles, 360.0 - angles)


def isolated_atoms() -> dict[int, float]:
    """Energies of the isolated atoms at the same level of theory: atomic number -> eV.

    Raises:
        InputError: the file is not in the data folder.
    """
    return read_isolated_atoms(find_3bpa("iso_atoms"))
