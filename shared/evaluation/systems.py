"""What is judged on: a molecule, its reference frames, and what moved them.

Three kinds of reference: `Series`, consecutive frames; `SparseFrames`, frames by their number in a
trajectory that is not all there; `Labelled`, frames with energies and forces that have no order.
`Starts` are structures that simulations begin from, and no more. Each knows its `System`, which is
all that a model is told about it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from shared.data.extxyz import LabelledFrames
from shared.data.isomers import Isomer, load_isomers, load_isomers_xtb, one_to_others
from shared.data.md17 import (
    MOLECULES,
    SURROGATE_MOLECULES,
    MD17Series,
    find_md17s_oracle,
    load_md17,
    load_md17s,
)
from shared.data.rmd17 import MOLECULES as RMD17_MOLECULES
from shared.data.rmd17 import RMD17Frames, load_rmd17
from shared.data.sgdml import sgdml_model
from shared.data.splits import SHORT_TO_LONG, FrameRange
from shared.data.three_bpa import SLICES, TEMPERATURES_K, load_3bpa
from shared.data.torsion_scan import SCAN, SCAN_LABEL, torsion_scans
from shared.errors import InputError
from shared.metrics.stability import ReferenceBonds, bond_deviation, reference_bonds
from shared.units import masses

__all__ = [
    "ISOMER_SOURCES",
    "SETS",
    "Labelled",
    "Past",
    "Series",
    "SparseFrames",
    "Starts",
    "System",
    "check_systems",
    "data_files",
    "isomers_under_test",
    "real_series",
    "sparse_frames",
    "surrogate",
    "three_bpa",
    "three_bpa_starts",
]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Thermostat = Literal["nose-hoover", "bussi", "none"]

HISTORY = 24  # frames before a start that a model is told of, where they are there

SETS: dict[str, tuple[str, ...]] = {
    "md17": tuple(dict.fromkeys((*MOLECULES, *RMD17_MOLECULES))),
    "isomers": ("unseen",),
    "3bpa": (*(f"{kelvin}K" for kelvin in TEMPERATURES_K), *SLICES, SCAN),
}
"""The data sets, and the systems that each has."""

ISOMER_SOURCES = {"xtb": load_isomers_xtb, "official": load_isomers}


@dataclass(frozen=True, eq=False)
class System:
    """A molecule under conditions.

    Attributes:
        name: short, as in configs.
        data: the data's name in results; says whether it is a surrogate.
        numbers: atomic numbers [N].
        reference: [N, 3], Å, a frame whose bonds are near their mean lengths.
        bonds: with mean lengths over the training frames.
        mean: [N, 3], Å, mean of the training frames as they are; None where there are none.
        interval_fs: time between consecutive frames of the reference, the engine's own step.
        temperature_K: of the reference.
        thermostat: what moved the reference beside the forces. Nosé-Hoover is MD17's.
        engine: the model that computed the forces, where it can be run here.
        files: that it was read from.
    """

    name: str
    data: str
    numbers: Int
    reference: Float
    bonds: ReferenceBonds
    mean: Float | None
    interval_fs: float
    temperature_K: float
    thermostat: Thermostat
    engine: str | None = None
    files: tuple[Path, ...] = ()

    @cached_property
    def masses(self) -> Float:
        """[N], amu."""
        return masses(self.numbers)

    def frames_in(self, time_fs: float, what: str) -> int:
        """How many intervals of the reference a time is.

        Raises:
            InputError: not a whole number of them.
        """
        ratio = time_fs / self.interval_fs
        if not (ratio > 0.5 and abs(ratio - round(ratio)) < 1e-6):
            raise InputError(
                f"{what}: {time_fs:g} fs is no multiple of the {self.interval_fs:g} fs between "
                f"frames of {self.data}"
            )
        return round(ratio)


@dataclass(frozen=True, eq=False)
class Past:
    """All that a model may know of S starts: frames up to the start, none after it.

    Attributes:
        system: the molecule.
        positions: [S, B, N, 3], Å, ``system.interval_fs`` apart, the last is the start.
        forces: [S, N, 3], eV/Å, at the start, where the data has them.
        frames: [S], number of the start frame in the reference.
        earlier: [S, N, 3], Å, one more frame before the start, where those of ``positions`` do not
            reach so far; and how many intervals before, ``earlier_steps`` [S].
    """

    system: System
    positions: Float
    forces: Float | None
    frames: Int
    earlier: Float | None = None
    earlier_steps: Int | None = None

    def select(self, starts: Int) -> "Past":
        """Some of the starts."""
        arrays = ("positions", "forces", "frames", "earlier", "earlier_steps")
        found = {name: getattr(self, name) for name in arrays}
        chosen: dict[str, Any] = {n: None if a is None else a[starts] for n, a in found.items()}
        return replace(self, **chosen)


@dataclass(frozen=True, eq=False)
class Series:
    """Consecutive frames.

    Attributes:
        system: the molecule.
        positions: [T, N, 3], Å.
        energies: [T], eV.
        forces_at: rows -> forces, eV/Å; raises InputError where there are none.
        first_frame: number of row 0 in the whole trajectory.
        test: rows that models are judged on.
    """

    system: System
    positions: npt.NDArray[Any]
    energies: Callable[[slice], Float]
    forces_at: Callable[[Int], Float]
    test: FrameRange
    first_frame: int = 0

    def __len__(self) -> int:
        return len(self.positions)

    def past(self, rows: Int, history: int = HISTORY) -> Past:
        """What is known at the start rows, with ``history`` frames before them where there are."""
        before = int(min(history, rows.min()))
        frames = self.positions[rows[:, None] + np.arange(-before, 1)].astype(np.float64)
        forces: Float | None
        try:
            forces = self.forces_at(rows)
        except InputError:
            forces = None
        return Past(self.system, frames, forces, rows + self.first_frame)

    def truth(self, rows: Int, after: int) -> Float:
        """Frames so many after the start rows [S, N, 3], NaN beyond the end."""
        at = rows + after
        inside = at < len(self.positions)
        frames = self.positions[np.minimum(at, len(self.positions) - 1)].astype(np.float64)
        return np.where(inside[:, None, None], frames, np.nan)


@dataclass(frozen=True, eq=False)
class SparseFrames:
    """Frames of a trajectory by their number, most of which are not there."""

    system: System
    data: RMD17Frames

    def past(self, rows: Int) -> Past:
        """Pairs of neighbours: rows − 1 and rows must be consecutive frames."""
        frames = np.stack([self.data.positions[rows - 1], self.data.positions[rows]], axis=1)
        return Past(self.system, frames, self.data.md17_forces[rows], self.data.frames[rows])

    def past_of_three(self, rows: Int) -> Past:
        """Pairs of neighbours with the frame before them, wherever it is: rows ≥ 2."""
        earlier = self.data.positions[rows - 2]
        return replace(self.past(rows), earlier=earlier, earlier_steps=self.steps_before(rows))

    def steps_before(self, rows: Int) -> Int:
        """[S], intervals from the frame before each pair to the pair's second frame."""
        return np.asarray(self.data.frames[rows] - self.data.frames[np.maximum(rows - 2, 0)])

    def truth(self, rows: Int, after: int) -> Float:
        """Frames so many after the start rows [S, N, 3], NaN where there is none."""
        wanted = self.data.frames[rows] + after
        at = np.minimum(np.searchsorted(self.data.frames, wanted), len(self.data.frames) - 1)
        there = self.data.frames[at] == wanted
        found = np.full((len(rows), *self.system.reference.shape), np.nan)
        if there.any():
            found[there] = self.data.positions[at[there]]
        return found

    def has(self, rows: Int, after: int) -> npt.NDArray[np.bool_]:
        """[S], whether there is a frame so many after each start row."""
        return np.isin(self.data.frames[rows] + after, self.data.frames)

    def starts(self) -> Int:
        """Rows whose frame has the one before it."""
        return np.flatnonzero(np.diff(self.data.frames, prepend=-2) == 1)


@dataclass(frozen=True, eq=False)
class Labelled:
    """Frames with energies and forces: those to train on and those to test on."""

    system: System
    train: LabelledFrames
    test: LabelledFrames


@dataclass(frozen=True, eq=False)
class Starts:
    """Structures [M, N, 3], Å, whose velocities are drawn at the temperature of their system."""

    system: System
    positions: Float


# --- the data sets ------------------------------------------------------------------------------


def check_systems(data: str, systems: list[str]) -> list[str]:
    """The systems asked for, all of the data set if none are.

    Raises:
        InputError: no such data set or system; the message names those there are.
    """
    if data not in SETS:
        raise InputError(f"data: no data set {data}; there are {', '.join(SETS)}")
    known = SETS[data]
    if unknown := [name for name in systems if name not in known]:
        raise InputError(f"systems: data set {data} has no {unknown[0]}; it has {', '.join(known)}")
    return list(systems or known)


@lru_cache(maxsize=4)
def surrogate(molecule: str) -> Series:
    """The md17s frames of a molecule.

    Raises:
        InputError: none of that molecule, or no file.
    """
    series = load_md17s(molecule)
    return _md17(series, molecule, series.positions[: SHORT_TO_LONG.train.stop])


@lru_cache(maxsize=4)
def real_series(molecule: str) -> Series:
    """The real, consecutive MD17 frames of a molecule, or what is there of them.

    Structures for the mean come from rMD17 where its file is here, frames < 20 000 as S2L has it.
    """
    series = load_md17(molecule)
    train = series.positions[: SHORT_TO_LONG.train.stop]
    if series.first_frame + len(series) <= SHORT_TO_LONG.train.stop:
        train = _training_part(load_rmd17(molecule))
    return _md17(series, molecule, train)


@lru_cache(maxsize=4)
def sparse_frames(molecule: str) -> SparseFrames:
    """The real MD17 frames that rMD17 keeps, by their original number."""
    data = load_rmd17(molecule)
    train = _training_part(data)
    source = data.source.replace("rMD17", "MD17 (frames kept by rMD17)")
    return SparseFrames(
        _system(
            molecule,
            source,
            data.numbers,
            train,
            interval_fs=data.interval_fs,
            temperature_K=500.0,
            thermostat="nose-hoover",
            engine="sgdml",
            files=(data.path,),
        ),
        data,
    )


@lru_cache(maxsize=4)
def isomers_under_test(source: str) -> tuple[list[Series], list[int]]:
    """The five isomers that no model was trained on, and their indices in the set."""
    isomers = ISOMER_SOURCES[source]()
    indices = one_to_others(isomers).test
    return [_isomer(isomers[i], isomers.path, source) for i in indices], list(indices)


@lru_cache(maxsize=4)
def three_bpa(name: str) -> Labelled:
    """3BPA: training frames at 300 K; test frames at 300, 600 or 1200 K, or a slice of dihedrals.

    Slices have no temperature of their own; what starts from them is at 300 K.

    Raises:
        InputError: a file is not here, or the system has no labels.
    """
    if name == SCAN:
        raise InputError(f"{SCAN} has no energies and forces")
    train, test = load_3bpa("train_300K"), load_3bpa(f"test_{name}")
    official = test.path.stem.startswith("test")
    kind = "" if official else f" ({test.path.stem}, part of train_mixedT)"
    kelvin = 300.0 if name in SLICES else float(name.removesuffix("K"))
    system = _bpa(name, f"3BPA {name}{kind}", train, kelvin, test.path)
    return Labelled(system, train, test)


@lru_cache(maxsize=4)
def three_bpa_starts(name: str) -> Starts:
    """What simulations of 3BPA begin from: its test frames, or torsion scans at 300 K.

    The scans stand in for the slices of dihedrals where the official files are not here: all
    rotatable bonds of the training frame whose bonds are nearest their mean lengths.

    Raises:
        InputError: a file is not here.
    """
    if name != SCAN:
        labelled = three_bpa(name)
        return Starts(labelled.system, labelled.test.positions)
    train = load_3bpa("train_300K")
    system = _bpa(name, f"3BPA {SCAN_LABEL}", train, 300.0)
    return Starts(system, torsion_scans(system.numbers, system.reference))


def _bpa(name: str, data: str, train: LabelledFrames, kelvin: float, *files: Path) -> System:
    return _system(
        name,
        data,
        train.numbers,
        train.positions,
        interval_fs=0.5,
        temperature_K=kelvin,
        thermostat="none",
        files=(train.path, *files),
    )


def _md17(series: MD17Series, molecule: str, train: npt.NDArray[Any]) -> Series:
    is_surrogate = series.thermostat is not None
    system = _system(
        molecule,
        series.source,
        series.numbers,
        train,
        interval_fs=series.interval_fs,
        temperature_K=series.temperature_K,
        thermostat="nose-hoover",
        engine="sgdml" if molecule in SURROGATE_MOLECULES else None,
        files=(series.path,),
    )
    test = SHORT_TO_LONG.test if is_surrogate else FrameRange(0, len(series))
    return Series(
        system,
        series.positions,
        lambda rows: series.energies[rows],
        series.forces_at,
        test,
        series.first_frame,
    )


def _isomer(isomer: Isomer, path: Path, source: str) -> Series:
    def forces_at(rows: Int) -> Float:
        if isomer.forces is None:
            raise InputError(f"isomer {isomer.name} has no forces")
        return np.asarray(isomer.forces[rows], dtype=np.float64)

    # An unseen isomer has no training frames: lengths of bonds are the first frame's.
    system = _system(
        isomer.name,
        isomer.source.removesuffix(f", {isomer.name}"),
        isomer.numbers,
        isomer.positions[:1],
        seen=False,
        interval_fs=isomer.interval_fs,
        temperature_K=isomer.temperature_K,
        thermostat="bussi",
        engine="xtb" if source == "xtb" else None,
        files=(path,),
    )
    test = FrameRange(0, len(isomer))
    return Series(system, isomer.positions, lambda rows: isomer.energies[rows], forces_at, test)


def _training_part(data: RMD17Frames) -> Float:
    return data.positions[data.frames < SHORT_TO_LONG.train.stop]


def _system(
    name: str,
    data: str,
    numbers: Int,
    train: npt.NDArray[Any],
    *,
    seen: bool = True,
    **conditions: Any,
) -> System:
    bonds = reference_bonds(numbers, train[0], train)
    calmest = int(bond_deviation(train, bonds).argmin())
    return System(
        name=name,
        data=data,
        numbers=numbers,
        reference=np.asarray(train[calmest], dtype=np.float64),
        bonds=bonds,
        mean=np.asarray(train, dtype=np.float64).mean(axis=0) if seen else None,
        **conditions,
    )


def data_files(part: str, name: str, model: str = "", isomers: str = "xtb") -> list[Path]:
    """The files that a measurement of a model on a system reads, those that are here.

    Args:
        part: of the evaluation.
        name: of the system.
        model: as in a config; weights are not among the files.
        isomers: the set that they are of, as `isomers_under_test`.
    """
    loaders: dict[str, Callable[[str], Any]] = {
        "consecutive": real_series,
        "sparse": sparse_frames,
        "s2l_real": sparse_frames,
    }
    load = three_bpa_starts if name in SETS["3bpa"] else loaders.get(part, surrogate)

    def of_system() -> Iterable[Path]:
        if name in SETS["isomers"]:
            return isomers_under_test(isomers)[0][0].system.files
        return load(name).system.files

    sources: list[Callable[[], Iterable[Path]]] = [of_system]
    on_surrogate = load is surrogate and name in SURROGATE_MOLECULES
    if on_surrogate and (part == "s2l" or (part == "windows" and model == "oracle")):
        sources.append(lambda: [find_md17s_oracle(name)])
    elif model == "sgdml" or (
        name in SETS["md17"] and (model == "oracle" or part in ("sparse", "consecutive"))
    ):  # errors on real frames are set against the oracle's
        sources.append(lambda: [sgdml_model(name)])
    if on_surrogate and (part == "distributions" or (part == "s2l" and model == "sgdml")):
        sources.append(lambda: [sgdml_model(name)])  # energies under the engine
    if part == "shift":
        sources.append(lambda: three_bpa("300K").system.files)
    if part == "consecutive":
        sources.append(lambda: [load_rmd17(name).path])
    found: list[Path] = []
    for source in sources:
        try:
            found += source()
        except InputError:
            continue
    return found
