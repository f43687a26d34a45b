"""rMD17: frames of MD17 with better labels, and with the number each had in the trajectory.

Source: Christensen and von Lilienfeld, Mach. Learn.: Sci. Technol. 1, 045018 (2020),
https://doi.org/10.6084/m9.figshare.12672038. The energies and forces are PBE/def2-SVP; the frames
were moved by the labels of MD17 itself (``md17_energies``, ``md17_forces``), so dynamics must be
judged with those. The official file is shuffled; here frames come in the order of their original
number, each number once, which turns neighbouring frames back into pieces of a trajectory.

Read: the official npz (nuclear_charges, coords, energies, forces, old_*), and the same arrays under
short names (z, R, E, F, old_E, old_F). Å and kcal/mol on disk.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shared.data.locate import find_file
from shared.data.npz import ArrayFile, ConvertedRows
from shared.errors import InputError
from shared.units import KCAL_PER_MOL_IN_EV

__all__ = ["MOLECULES", "RMD17Frames", "load_rmd17", "read_rmd17", "timestep_fs"]

MOLECULES = (
    "aspirin",
    "azobenzene",
    "benzene",
    "ethanol",
    "malonaldehyde",
    "naphthalene",
    "paracetamol",
    "salicylic",
    "toluene",
    "uracil",
)

_TIMESTEP_FS = {"azobenzene": 1.0, "paracetamol": 1.0}  # the others: 0.5
_SITE = "https://doi.org/10.6084/m9.figshare.12672038"


@dataclass(frozen=True, eq=False)
class RMD17Frames:
    """M frames of one molecule, sparse in time, in the order of their original number.

    Attributes:
        source: the data's name for reports.
        path: the file.
        numbers: atomic numbers [N], int64.
        frames: original frame numbers [M], increasing.
        positions: ``positions[rows]`` [..., N, 3], Å.
        energies, forces: PBE/def2-SVP labels, eV and eV/Å.
        md17_energies, md17_forces: the original labels, those that drove the trajectory.
        interval_fs: time between consecutive frame numbers. (Benzene's is doubtful: nearer 0.2 fs
            by its velocities.)
    """

    source: str
    path: Path
    numbers: npt.NDArray[np.int64]
    frames: npt.NDArray[np.int64]
    positions: ConvertedRows
    energies: ConvertedRows
    forces: ConvertedRows
    md17_energies: ConvertedRows
    md17_forces: ConvertedRows
    interval_fs: float

    def __len__(self) -> int:
        return len(self.frames)

    def pairs(self, gap: int = 1) -> npt.NDArray[np.int64]:
        """Rows [P, 2] of all frames (n, n + ``gap``) that are both here."""
        rows = np.searchsorted(self.frames, self.frames + gap)
        here = np.flatnonzero(rows < len(self))
        here = here[self.frames[rows[here]] == self.frames[here] + gap]
        return np.stack([here, rows[here]], axis=1)


def load_rmd17(molecule: str) -> RMD17Frames:
    """The frames of a molecule.

    Raises:
        InputError: an unknown molecule, or no file in the data folder (the message says what to
            fetch and where to put it).
    """
    if molecule not in MOLECULES:
        raise InputError(f"rMD17 has no molecule {molecule}; it has {', '.join(MOLECULES)}")
    name = f"rmd17_{molecule}.npz"
    path = find_file(
        f"rmd17/{name}",
        f"rmd17/npz_data/{name}",
        what=f"rMD17 {molecule}",
        source=f"{_SITE} ({name} in its archive)",
        name="rmd17",
    )
    return read_rmd17(path, source=f"rMD17 {molecule}", interval_fs=timestep_fs(molecule))


def timestep_fs(molecule: str) -> float:
    """Between frames of MD17 as they are numbered."""
    return _TIMESTEP_FS.get(molecule, 0.5)


def read_rmd17(
    path: str | Path, source: str | None = None, interval_fs: float = 0.5
) -> RMD17Frames:
    """Read an rMD17 file; large arrays stay on disk.

    Raises:
        InputError: a file that is missing, damaged or holds other arrays.
    """
    path = Path(path)
    arrays = ArrayFile(path)
    numbers = arrays.first("nuclear_charges", "z").astype(np.int64)
    positions = arrays.first("coords", "R")
    frames, order = np.unique(arrays["old_indices"].astype(np.int64), return_index=True)
    if positions.ndim != 3 or positions.shape[1:] != (len(numbers), 3):
        raise InputError(f"{path}: coordinates have shape {positions.shape}")

    def labels(*names: str) -> ConvertedRows:
        values = arrays.first(*names)
        if len(values) != len(positions):
            raise InputError(f"{path}: {len(values)} {names[0]} for {len(positions)} frames")
        return ConvertedRows(values, KCAL_PER_MOL_IN_EV, order)

    return RMD17Frames(
        source=source or path.stem,
        path=path,
        numbers=numbers,
        frames=frames,
        positions=ConvertedRows(positions, order=order),
        energies=labels("energies", "E"),
        forces=labels("forces", "F"),
        md17_energies=labels("old_energies", "old_E"),
        md17_forces=labels("old_forces", "old_F"),
        interval_fs=interval_fs,
    )
