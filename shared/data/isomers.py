"""C7O2H10: trajectories of 113 isomers of one composition, 1 fs apart, and a surrogate of them.

Source: Schütt, Arbabzadah, Chmiela, Müller, Tkatchenko, Nat. Commun. 8, 13890 (2017), "MD
Trajectories of C7O2H10" of http://quantum-machine.org/datasets: 500 K, PBE with FHI-aims, without
forces. The molecules are isomers of QM9. DiffMD learns dynamics on some of them and is judged on
others ("one to others").

Two forms are read:

- the official archive, unpacked or not: ``<isomer>.xyz``, all frames (Å), and
  ``<isomer>.energy.dat``, a line of comment and one energy a frame (eV). Exponents may be written
  ``*^``. It is large text: an isomer is read when it is asked for;
- a surrogate, ``c7o2h10_xtb.npz``: GFN2-xTB dynamics of 113 other isomers at 500 K (Bussi's
  thermostat): R [M,T,N,3] Å, E [M,T] eV, F [M,T,N,3] eV/Å, z [M,N] or [N], smiles [M],
  ``timestep_fs``, ``temperature_K``. A result from it says so.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from shared.data.download import REMOTES, obtain
from shared.data.locate import data_root, find_file
from shared.data.npz import ArrayFile
from shared.errors import InputError
from shared.metrics.armse import armse, persistence, squared_errors
from shared.units import masses

__all__ = [
    "ISOMERS_XTB",
    "Isomer",
    "IsomerSplit",
    "Isomers",
    "isomers_of",
    "load_isomers",
    "load_isomers_xtb",
    "one_to_others",
    "persistence_armse",
    "read_isomers",
]

ISOMERS_XTB = "isomers/c7o2h10_xtb.npz"  # in the data folder
TIMESTEP_FS = 1.0
TEMPERATURE_K = 500.0
SPLIT_FRAMES = 1000  # over which persistence ranks the isomers

_REMOTE = REMOTES["isomers"]
_ENERGIES = ".energy.dat"


@dataclass(frozen=True, eq=False)
class Isomer:
    """T consecutive frames of one isomer.

    Attributes:
        name: its number in the archive, or its SMILES.
        source: the data's name for reports.
        numbers: atomic numbers [N], int64; their order differs from isomer to isomer.
        positions: [T, N, 3], Å, in the file's precision.
        energies: [T], eV.
        forces: [T, N, 3], eV/Å, or None.
        interval_fs: time between frames.
        temperature_K: of the thermostat.
    """

    name: str
    source: str
    numbers: npt.NDArray[np.int64]
    positions: npt.NDArray[Any]
    energies: npt.NDArray[np.float64]
    forces: npt.NDArray[Any] | None
    interval_fs: float = TIMESTEP_FS
    temperature_K: float = TEMPERATURE_K

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(frozen=True, eq=False)
class Isomers(Sequence[Isomer]):
    """All isomers of a set, each read when it is asked for.

    Attributes:
        source: the data's name for reports, "C7O2H10 isomers" or "... (GFN2-xTB surrogate)".
        path: the file or folder.
        names: of the isomers, in the order of the file.
        read: index -> isomer.
    """

    source: str
    path: Path
    names: tuple[str, ...]
    read: Callable[[int], Isomer]

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Isomer: ...
    @overload
    def __getitem__(self, index: slice) -> list[Isomer]: ...
    def __getitem__(self, index: int | slice) -> Isomer | list[Isomer]:
        chosen = range(len(self))[index]
        return self.read(chosen) if isinstance(chosen, int) else [self.read(i) for i in chosen]

    def named(self, name: str) -> Isomer:
        """The isomer of a name.

        Raises:
            InputError: there is none; the message gives some of those there are.
        """
        if name not in self.names:
            some = ", ".join(self.names[:5])
            raise InputError(f"{self.path} has no isomer {name}; it has {some}, … ({len(self)})")
        return self.read(self.names.index(name))


@dataclass(frozen=True)
class IsomerSplit:
    """Indices of isomers; every frame of an isomer is on one side, in the order of time.

    Attributes:
        train: in the order of the file.
        validation, test: by falling persistence ARMSE.
    """

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]


def load_isomers() -> Isomers:
    """The official trajectories; an archive that is still packed is checked and unpacked first.

    Raises:
        InputError: no file in the data folder (the message says what to fetch and where to put
            it), or one that is truncated or damaged.
    """
    folder = data_root() / str(_REMOTE.folder)
    if not folder.is_dir():
        find_file(_REMOTE.path, what="the C7O2H10 archive", source=_REMOTE.urls[0], name="isomers")
        obtain(_REMOTE)
    return read_isomers(folder, source="C7O2H10 isomers")


def load_isomers_xtb() -> Isomers:
    """The surrogate.

    Raises:
        InputError: no file in the data folder.
    """
    path = find_file(
        ISOMERS_XTB,
        what="the GFN2-xTB set of C7O2H10 isomers",
        source="the surrogate data set c7o2h10_xtb",
    )
    return read_isomers(path, source="C7O2H10 isomers (GFN2-xTB surrogate)")


def isomers_of(part: Literal["train", "validation", "test"]) -> list[Isomer]:
    """Those of the surrogate on one side of the O2O split.

    Raises:
        InputError: as `load_isomers_xtb` and `one_to_others`.
    """
    isomers = load_isomers_xtb()
    return [isomers[index] for index in getattr(one_to_others(isomers), part)]


def read_isomers(path: str | Path, source: str | None = None) -> Isomers:
    """Read the unpacked archive, a folder, or the npz of the surrogate.

    Raises:
        InputError: the path is missing, damaged, or holds something else. Reading an isomer of the
            archive raises it too, for a file that is truncated, not finite, or of other atoms.
    """
    path = Path(path)
    return (_read_folder if path.is_dir() else _read_npz)(path, source or path.stem)


def one_to_others(
    isomers: Isomers, n_test: int = 5, n_validation: int = 5, n_frames: int = SPLIT_FRAMES
) -> IsomerSplit:
    """The O2O split: the isomers that move most are the test, the next ones validate.

    Args:
        isomers: the set.
        n_test, n_validation: how many.
        n_frames: over which ``persistence_armse`` ranks them.

    Raises:
        InputError: none would be left to train on, or an isomer has too few frames.
    """
    held_out = n_test + n_validation
    if len(isomers) <= held_out:
        raise InputError(f"{isomers.path}: {len(isomers)} isomers, too few to hold {held_out} out")
    errors = np.array([persistence_armse(isomer, n_frames) for isomer in isomers])
    ranked = tuple(np.argsort(-errors, kind="stable").tolist())
    return IsomerSplit(
        train=tuple(sorted(ranked[held_out:])),
        validation=ranked[n_test:held_out],
        test=ranked[:n_test],
    )


def persistence_armse(isomer: Isomer, n_frames: int = SPLIT_FRAMES) -> float:
    """ARMSE, centres of mass removed, of the first frame repeated over the ``n_frames`` first; Å.

    Raises:
        InputError: the trajectory is shorter.
    """
    if not 2 <= n_frames <= len(isomer):
        raise InputError(f"isomer {isomer.name} has {len(isomer)} frames, {n_frames} are needed")
    window = isomer.positions[:n_frames]
    still = persistence(window[:1], n_frames - 1)
    squared = squared_errors(still, window[None, 1:], masses=masses(isomer.numbers))
    return float(armse(squared)[-1])


# --- the two forms ------------------------------------------------------------------------------


def _read_npz(path: Path, source: str) -> Isomers:
    arrays = ArrayFile(path)
    positions, energies, forces = arrays["R"], arrays["E"], arrays["F"]
    names = tuple(map(str, arrays["smiles"]))
    if (
        positions.ndim != 4
        or positions.shape[-1] != 3
        or len(names) != len(positions)
        or energies.shape != positions.shape[:2]
        or forces.shape != positions.shape
        or arrays["z"].shape not in (positions.shape[2:3], positions.shape[0:4:2])
    ):
        raise InputError(f"{path}: E, F, z or smiles does not fit R, {positions.shape}")
    numbers = np.broadcast_to(arrays["z"].astype(np.int64), positions.shape[0:4:2])
    interval_fs, temperature = float(arrays["timestep_fs"]), float(arrays["temperature_K"])

    def read(index: int) -> Isomer:
        return Isomer(
            name=names[index],
            source=f"{source}, {names[index]}",
            numbers=numbers[index],
            positions=positions[index],
            energies=energies[index].astype(np.float64),
            forces=forces[index],
            interval_fs=interval_fs,
            temperature_K=temperature,
        )

    return Isomers(source, path, names, read)


def _read_folder(path: Path, source: str) -> Isomers:
    names = sorted(file.name.removesuffix(_ENERGIES) for file in path.glob(f"[!.]*{_ENERGIES}"))
    names = [name for name in names if (path / f"{name}.xyz").is_file()]
    if not names:
        raise InputError(f"{path}: no pairs of <isomer>.xyz and <isomer>{_ENERGIES} in it")

    def read(index: int) -> Isomer:
        name = names[index]
        numbers, positions = _read_trajectory(path / f"{name}.xyz")
        energies = _read_energies(path / f"{name}{_ENERGIES}")
        if len(energies) != len(positions):
            raise InputError(
                f"{path / name}.xyz has {len(positions)} frames, "
                f"{name}{_ENERGIES} has {len(energies)} energies"
            )
        return Isomer(name, f"{source}, {name}", numbers, positions, energies, forces=None)

    return Isomers(source, path, tuple(names), read)


def _read_trajectory(path: Path) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Atomic numbers [N] and positions [T, N, 3] of an xyz file.

    All frames are parsed at once: one by one (``shared.io``) they take twenty times as long.
    """
    from ase.data import atomic_numbers

    lines = _text(path).rstrip().splitlines()
    n_atoms = int(lines[0]) if lines and lines[0].strip().isdecimal() else 0
    if n_atoms == 0 or len(lines) % (n_atoms + 2):
        raise InputError(f"{path}: truncated, or not an xyz file of frames of equal length")
    frames = np.array(lines, dtype=object).reshape(-1, n_atoms + 2)
    try:
        if any(int(count) != n_atoms for count in frames[:, 0]):
            raise ValueError("the number of atoms changes")
        atoms = np.array([line.split()[:4] for line in frames[:, 2:].flat]).reshape(-1, n_atoms, 4)
        positions = atoms[..., 1:].astype(np.float64)
        if not np.isfinite(positions).all():
            raise ValueError("a coordinate is not finite")
        if (atoms[..., 0] != atoms[0, :, 0]).any():
            raise ValueError("the order of the atoms changes")
        numbers = np.array(
            [atomic_numbers[str(symbol)] for symbol in atoms[0, :, 0]], dtype=np.int64
        )
    except KeyError as error:
        raise InputError(f"{path}: {error} is no element") from None
    except ValueError as error:
        raise InputError(f"{path}: not a trajectory of one molecule ({error})") from None
    return numbers, positions


def _read_energies(path: Path) -> npt.NDArray[np.float64]:
    """Energies [T], eV: the last column, after lines of comment."""
    lines = [line.split() for line in _text(path).splitlines()]
    try:
        energies = np.array([float(row[-1]) for row in lines if row and row[0][0] != "#"])
    except ValueError as error:
        raise InputError(f"{path}: not a file of energies ({error})") from None
    if not np.isfinite(energies).all():
        raise InputError(f"{path}: an energy is not finite")
    return energies


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").replace("*^", "e")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
