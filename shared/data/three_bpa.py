"""3BPA: a flexible drug-like molecule (27 atoms), trained at 300 K and tested hotter.

Source: Kovács et al., J. Chem. Theory Comput. 17, 7696 (2021), the BOTNet-datasets repository
(https://github.com/davkovacs/BOTNet-datasets, folder dataset_3BPA, MIT); DFT, eV and eV/Å.

Where the official test files are not there, `mixedT_*_dev.xyz` take their place: frames of the
official `train_mixedT.xyz`, sorted by temperature. Results say which.
"""

from pathlib import Path

from shared.data.extxyz import LabelledFrames, read_isolated_atoms, read_labelled
from shared.data.locate import find_file

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


def find_3bpa(part: str) -> Path:
    """The file of a part: train_300K, train_mixedT, test_300K, test_dih_beta120, iso_atoms, ...

    Raises:
        InputError: it is not in the data folder (the message says what to fetch and where to put
            it).
    """
    names = [part]
    if part.startswith("test_") and part.endswith("K"):
        names.append(f"mixedT_{part.removeprefix('test_')}_dev")
    return find_file(
        *(f"{folder}/{name}.xyz" for name in names for folder in ("3bpa", "dataset_3BPA")),
        what=f"3BPA {part}",
        source=f"{_SITE} ({part}.xyz)",
    )


def load_3bpa(part: str) -> LabelledFrames:
    """The frames of a part, named after the file they came from.

    Raises:
        InputError: as `find_3bpa` and `read_labelled`.
    """
    (frames,) = read_labelled(find_3bpa(part))
    return frames


def load_dihedral_slices() -> dict[str, LabelledFrames]:
    """Official scans of a dihedral angle: slice -> frames.

    Raises:
        InputError: they are not in the data folder.
    """
    return {name: load_3bpa(f"test_{name}") for name in SLICES}


def isolated_atoms() -> dict[int, float]:
    """Energies of the isolated atoms at the same level of theory: atomic number -> eV.

    Raises:
        InputError: the file is not in the data folder.
    """
    return read_isolated_atoms(find_3bpa("iso_atoms"))
