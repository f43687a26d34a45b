"""MD17: consecutive frames of one molecule, 0.5 fs apart at 500 K, and surrogates of it.

Source: Chmiela et al., Sci. Adv. 3, e1603015 (2017), http://www.quantum-machine.org/gdml. The
dynamics are Nosé-Hoover with all 3N degrees of freedom counted, so (x, v, ξ) is the state.

Three forms are read, all npz with lengths in Å and energies in kcal/mol:

- the official file: R [T,N,3], E [T] or [T,1], F [T,N,3], z [N];
- a part of it, ``md17_<molecule>_frames<first>-<last>.npz``, whose name says which frames;
- a surrogate, ``md17s_<molecule>.npz``: the same molecules and thermostat on published sGDML force
  fields instead of the electronic structure. It adds the thermostat's friction ``xi_per_fs`` [T],
  ``kinetic_eV`` [T], and has forces ``F_label`` [L,N,3] at ``label_frames`` [L] only. A result from
  it never carries the name MD17.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.data.download import REMOTES
from shared.data.locate import find_file
from shared.data.npz import ArrayFile, ConvertedRows
from shared.errors import InputError
from shared.units import KCAL_PER_MOL_IN_EV

__all__ = [
    "MOLECULES",
    "SURROGATE_MOLECULES",
    "MD17Series",
    "SurrogateOracle",
    "find_md17s_oracle",
    "load_md17",
    "load_md17s",
    "load_md17s_oracle",
    "read_md17",
]

MOLECULES = (
    "aspirin",
    "benzene",
    "ethanol",
    "malonaldehyde",
    "naphthalene",
    "salicylic",
    "toluene",
    "uracil",
)
"""The eight molecules of MD17."""

SURROGATE_MOLECULES = tuple(molecule for molecule in MOLECULES if molecule != "benzene")
"""The seven that have a surrogate."""

TIMESTEP_FS = 0.5
TEMPERATURE_K = 500.0  # counting 3N degrees of freedom
_PART = re.compile(r"_frames(\d+)-(\d+)$")


@dataclass(frozen=True, eq=False)
class MD17Series:
    """T consecutive frames of one molecule.

    Attributes:
        source: the data's name for reports, "MD17 ethanol" or "md17s ethanol (surrogate)".
        path: the file.
        numbers: atomic numbers [N], int64.
        positions: [T, N, 3], Å, in the file's precision, memory-mapped where the file is large.
        energies: potential energies, ``energies[rows]`` in eV.
        forces: [L, N, 3], ``forces[rows]`` in eV/Å, at the frames ``force_frames``.
        force_frames: [L], rows of ``positions`` that have forces, increasing.
        interval_fs: time between frames.
        temperature_K: of the thermostat, counting 3N degrees of freedom.
        first_frame: number of row 0 in the whole trajectory.
        thermostat: Nosé-Hoover friction ξ [T] in 1/fs (v̇ = F/m − ξv), or None.
        kinetic_energies: [T], eV, or None.
    """

    source: str
    path: Path
    numbers: npt.NDArray[np.int64]
    positions: npt.NDArray[Any]
    energies: ConvertedRows
    forces: ConvertedRows
    force_frames: npt.NDArray[np.int64]
    interval_fs: float = TIMESTEP_FS
    temperature_K: float = TEMPERATURE_K
    first_frame: int = 0
    thermostat: npt.NDArray[np.float64] | None = None
    kinetic_energies: npt.NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.positions)

    def forces_at(self, frames: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Forces at the given rows of ``positions``, [..., N, 3], eV/Å.

        Raises:
            InputError: a frame that has no forces.
        """
        frames = np.asarray(frames)
        labels = np.searchsorted(self.force_frames, frames)
        known = self.force_frames[np.minimum(labels, len(self.force_frames) - 1)] == frames
        if not known.all():
            raise InputError(f"{self.path}: frame {frames[~known].flat[0]} has no forces")
        return self.forces[labels]


@dataclass(frozen=True, eq=False)
class SurrogateOracle:
    """The surrogate's own engine, restarted from what a model can see: the dynamic oracle.

    Attributes:
        start_frames: [S], frames of the surrogate's file.
        horizon_steps: [H], steps of ``interval_fs`` after the start.
        positions: mode -> [S, H, N, 3], Å, float32; NaN beyond a mode's run. Modes: ``fitted``
            (ξ from three frames and the force), ``unknown`` (thermostat on, ξ = 0), ``known`` (ξ of
            the file), ``nve``.
        persistence: RMSE of the start frame repeated [H], Å, centres of mass removed.
        inertia: RMSE of x0 + v0 t [H], Å.
        ratios: mode -> RMSE of the mode divided by ``persistence`` [H].
    """

    start_frames: npt.NDArray[np.int64]
    horizon_steps: npt.NDArray[np.int64]
    positions: dict[str, npt.NDArray[np.float32]]
    persistence: npt.NDArray[np.float64]
    inertia: npt.NDArray[np.float64]
    ratios: dict[str, npt.NDArray[np.float64]]
    interval_fs: float = TIMESTEP_FS


def load_md17(molecule: str) -> MD17Series:
    """The real MD17 frames of a molecule: the official file, else a part of it.

    Raises:
        InputError: an unknown molecule, or no file in the data folder (the message says what to
            fetch and where to put it).
    """
    _check_molecule(molecule, MOLECULES, "MD17")
    name = f"md17/{molecule}"
    path = find_file(
        REMOTES[name].path,
        f"md17/md17_{molecule}_frames*-*.npz",
        what=f"MD17 {molecule}",
        source=REMOTES[name].urls[0],
        name=name,
    )
    return read_md17(path, source=f"MD17 {molecule}")


def load_md17s(molecule: str) -> MD17Series:
    """The surrogate frames of a molecule.

    Raises:
        InputError: a molecule without surrogate, or no file in the data folder.
    """
    return read_md17(_surrogate_file(molecule, ""), source=f"md17s {molecule} (surrogate)")


def find_md17s_oracle(molecule: str) -> Path:
    """The file of `load_md17s_oracle`, which raises the same."""
    return _surrogate_file(molecule, "oracle_")


def load_md17s_oracle(molecule: str) -> SurrogateOracle:
    """The dynamic oracle of a molecule's surrogate.

    Raises:
        InputError: a molecule without surrogate, or no file in the data folder.
    """
    arrays = ArrayFile(find_md17s_oracle(molecule))
    modes = [str(mode) for mode in arrays["modes"]]
    return SurrogateOracle(
        start_frames=arrays["start_frames"].astype(np.int64),
        horizon_steps=arrays["horizon_steps"].astype(np.int64),
        positions=dict(zip(modes, arrays["R"], strict=True)),
        persistence=arrays["persistence"],
        inertia=arrays["inertia"],
        ratios={mode: arrays[f"ratio_{mode}"] for mode in modes},
        interval_fs=float(arrays["timestep_fs"]),
    )


def read_md17(path: str | Path, source: str | None = None) -> MD17Series:
    """Read any of the three forms; large arrays stay on disk.

    Args:
        path: the npz file.
        source: name for reports; default: the file's stem.

    Raises:
        InputError: a file that is missing, damaged, or does not hold consecutive frames of one
            molecule.
    """
    path = Path(path)
    arrays = ArrayFile(path)
    positions, numbers = arrays["R"], arrays["z"].astype(np.int64)
    if positions.ndim != 3 or positions.shape[1:] != (len(numbers), 3):
        raise InputError(f"{path}: R has shape {positions.shape}, expected [T, {len(numbers)}, 3]")
    n_frames = len(positions)
    part = _PART.search(path.stem)
    if part and int(part[2]) - int(part[1]) + 1 != n_frames:
        raise InputError(f"{path}: the name says frames {part[1]}-{part[2]}, R has {n_frames}")
    surrogate = "F_label" in arrays
    force_frames = arrays["label_frames"].astype(np.int64) if surrogate else np.arange(n_frames)
    forces = arrays["F_label" if surrogate else "F"]
    energies = arrays["E"].reshape(-1)
    if len(energies) != n_frames or forces.shape != (len(force_frames), *positions.shape[1:]):
        raise InputError(f"{path}: E or F does not fit the {n_frames} frames of R")

    def scalar(name: str, default: float) -> float:
        return float(arrays[name]) if name in arrays else default

    def series(name: str) -> npt.NDArray[np.float64] | None:
        return arrays[name].astype(np.float64) if name in arrays else None

    return MD17Series(
        source=source or path.stem,
        path=path,
        numbers=numbers,
        positions=positions,
        energies=ConvertedRows(energies, KCAL_PER_MOL_IN_EV),
        forces=ConvertedRows(forces, KCAL_PER_MOL_IN_EV),
        force_frames=force_frames,
        interval_fs=scalar("timestep_fs", TIMESTEP_FS),
        temperature_K=scalar("temperature_K", TEMPERATURE_K),
        first_frame=int(part[1]) if part else 0,
        thermostat=series("xi_per_fs"),
        kinetic_energies=series("kinetic_eV"),
    )


def _check_molecule(molecule: str, known: tuple[str, ...], data_set: str) -> None:
    if molecule not in known:
        raise InputError(f"{data_set} has no molecule {molecule}; it has {', '.join(known)}")


def _surrogate_file(molecule: str, kind: str) -> Path:
    _check_molecule(molecule, SURROGATE_MOLECULES, "md17s")
    name = f"md17s/md17s_{kind}{molecule}.npz"
    return find_file(name, what=f"md17s {molecule}", source="the surrogate data set md17s")
