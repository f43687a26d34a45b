"""Frames with energies and forces for training: which ones, what is wrong with them, batches.

No source is shuffled in time where its frames have one: training, validation and test frames are
stretches of the trajectory; isomers are whole on one side. 3BPA and files of frames without an
order are split at random.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from forcefield.response import response_weights
from shared.config import check_disjoint, check_values, files_of
from shared.data.extxyz import LabelledFrames, read_labelled
from shared.data.locate import data_root
from shared.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor
    from torch_geometric.data import Data

__all__ = [
    "SOURCES",
    "DataConfig",
    "FrameBatches",
    "Part",
    "as_graphs",
    "dense_batch",
    "load_labelled",
    "load_more",
    "paddings",
    "split_of",
]

Part = Literal["train", "validation", "test"]
Rows = npt.NDArray[np.int64]

_SHARES = {"train": (0.0, 0.6), "validation": (0.6, 0.8), "test": (0.8, 1.0)}  # of a block
_HELD_OUT = 5  # at most every fifth frame of a molecule is held out of those to train on

_SPREAD = 100.0  # eV: no frames of a molecule differ by more

# Forces in eV/Å that say another unit (rms component, largest one). At 300 to 1200 K molecules have
# 0.9 to 1.9 and 5 to 11, in kcal/mol/Å 20 and more. In hartree/bohr they have 0.02 to 0.04, which
# relaxed geometries have as well, but not while their bonds vibrate: 0.026 Å at 300 K.
_LARGE_RMS, _LARGE = 10.0, 30.0
_SMALL_RMS, _VIBRATION, _BOND = 0.1, 0.015, 1.8


@dataclass(frozen=True)
class DataConfig:
    """Which frames.

    Args:
        source: 3bpa, rmd17, md17, md17s, isomers (the GFN2-xTB set), xtb or extxyz.
        molecules: names in that data set; for xtb and extxyz, paths; unused for 3bpa and isomers.
        train: frames of each molecule to train on; null: all of the split.
        validation: frames of each molecule to validate on; null: all of the split. Of a random
            split a fifth at most, and a tenth for null.
        train_range: md17, md17s, xtb, rmd17 without blocks: first and one past the last frame to
            train on.
        validation_range: the same to validate on.
        blocks: rmd17: the trajectory is cut into so many blocks; of each the first 60 % train, the
            next 20 % validate, the rest is for the test. Null: ranges of frame numbers as of md17.
        margin: rmd17: frame numbers left out on both sides of a border between these.
        labels: rmd17: revised (PBE), or original (MD17's own, which drove the trajectory).
        validation_files: extxyz: files to validate on; none: a random part of `molecules`.
        more: further extended xyz files of labelled frames, or patterns like folder/*.extxyz, to
            train on beside the data set: labels of the same method, with the same zero of energy.
        split_seed: 3bpa, extxyz: of the random split.
        energy_key: extxyz files: name of the energies on the comment lines, eV.
        forces_key: extxyz files: name of the column of forces, eV/Å.
    """

    source: str = "3bpa"
    molecules: list[str] = field(default_factory=list)
    train: int | None = None
    validation: int | None = 50
    train_range: tuple[int, int] = (0, 20_000)
    validation_range: tuple[int, int] = (20_000, 30_000)
    blocks: int | None = 5
    margin: int = 200
    labels: Literal["revised", "original"] = "revised"
    validation_files: list[str] = field(default_factory=list)
    more: list[str] = field(default_factory=list)
    split_seed: int = 0
    energy_key: str = "energy"
    forces_key: str = "forces"

    def __post_init__(self) -> None:
        conditions = "train >= 1", "validation >= 1", "blocks >= 1", "margin >= 0"
        check_values(self, "data", *conditions, "train_range >= 0", "validation_range >= 0")
        if self.source in ("md17", "md17s", "xtb") or (self.source == "rmd17" and not self.blocks):
            names = ("data.train_range", "data.validation_range")
            check_disjoint(self.train_range, self.validation_range, *names)


def load_labelled(data: DataConfig, part: Part) -> list[LabelledFrames]:
    """The frames of a part of the data, one entry for each molecule.

    One that is named twice is there twice to train on, and once otherwise. Forces that are absurd
    in eV/Å bring a warning, one for each file.

    Raises:
        InputError: an unknown source; files that are missing or bad; labels that are missing or not
            finite; a part without frames; a part that the source does not have.
    """
    if data.source not in SOURCES:
        raise InputError(f"no data.source {data.source}; there are {', '.join(SOURCES)}")
    if data.source not in ("3bpa", "isomers") and not data.molecules:
        raise InputError(f"data.molecules is empty; say which of {data.source}")
    if part != "train":
        data = replace(data, molecules=list(dict.fromkeys(data.molecules)))
    found = SOURCES[data.source](data, part)
    for frames in found:
        if not len(frames):
            raise InputError(f"{frames.path}: {frames.name} has no frames for {part}")
    if part != "validation" or data.validation_files:  # else training has seen these files
        _check_units(found)
    return found


def load_more(data: DataConfig) -> list[LabelledFrames]:
    """The frames of the files of `data.more`, one entry for each molecule of a file.

    Raises:
        InputError: as `load_labelled`, of files.
    """
    found: list[LabelledFrames] = []
    for path in files_of(data.more, "data.more"):
        found += read_labelled(path, data.energy_key, data.forces_key)
    _check_units(found)
    return found


def _check_units(found: Sequence[LabelledFrames]) -> None:
    """Warn of files whose forces are no molecule's in eV/Å, or energies no one molecule's in eV."""
    for path in dict.fromkeys(frames.path for frames in found):
        _check_unit(path, [frames for frames in found if frames.path == path])


def _check_unit(path: Path, found: list[LabelledFrames]) -> None:
    """Warn of a file, once of its forces, and of each molecule whose energies differ too much."""
    forces = np.concatenate([frames.forces.ravel() for frames in found])
    rms, largest = float(np.sqrt(np.mean(forces**2))), float(np.abs(forces).max())
    small = rms < _SMALL_RMS and any(_vibrates(frames.positions) for frames in found)
    if rms > _LARGE_RMS or largest > _LARGE or small:
        warnings.warn(
            f"{path}: force components have an rms of {rms:.4g} and reach {largest:.4g}; are the "
            "labels in eV and eV/Å?",
            stacklevel=4,
        )
    for frames in found:
        if (spread := float(np.ptp(frames.energies))) > _SPREAD:
            warnings.warn(
                f"{path}: energies of {frames.name} differ by {spread:.4g} eV; are all of them in "
                "eV, and of one molecule's whole energy?",
                stacklevel=4,
            )


def _vibrates(positions: npt.NDArray[np.float64]) -> bool:
    """Whether bonds change from frame to frame: distances of nearest neighbours, where bonded."""
    some = positions[:: -(-len(positions) // 100)]
    distances = np.linalg.norm(some[:, :, None] - some[:, None], axis=-1)
    distances[:, *np.diag_indices(some.shape[1])] = np.inf
    nearest = distances.min(-1)  # [M, N]
    bonded = nearest.max(0) < _BOND
    return bool(bonded.any() and nearest.std(0)[bonded].mean() > _VIBRATION)


# -- sources ------------------------------------------------------------------------------------


def _three_bpa(data: DataConfig, part: Part) -> list[LabelledFrames]:
    from shared.data.three_bpa import TEMPERATURES_K, load_3bpa

    if part == "test":
        return [load_3bpa(f"test_{temperature}K") for temperature in TEMPERATURES_K]
    return [_random_part(load_3bpa("train_300K"), data, part)]


def _extxyz(data: DataConfig, part: Part) -> list[LabelledFrames]:
    if part == "test":
        raise InputError("data.source extxyz has no test frames of its own; name their files")
    separate = bool(data.validation_files)
    paths = data.validation_files if separate and part == "validation" else data.molecules
    groups = [
        frames for path in paths for frames in read_labelled(path, data.energy_key, data.forces_key)
    ]
    if separate:
        wanted = data.train if part == "train" else data.validation
        return [frames[_evenly(np.arange(len(frames)), wanted)] for frames in groups]
    found = [_random_part(frames, data, part) for frames in groups]
    if part == "train":
        return found
    if not any(map(len, found)):
        raise InputError(
            f"none of {len(groups)} molecules has the {_HELD_OUT} frames of which one can be held "
            "out; name files to validate on with data.validation_files"
        )
    return [frames for frames in found if len(frames)]


def _rmd17(data: DataConfig, part: Part) -> list[LabelledFrames]:
    from shared.data.rmd17 import load_rmd17

    found = []
    for name in data.molecules:
        frames = load_rmd17(name)
        if data.blocks is None:
            rows = _range_rows(frames.frames, data, part)
        else:
            rows = _block_rows(frames.frames, part, data.blocks, data.margin)
        rows = _evenly(rows, _wanted(data, part))
        revised = data.labels == "revised"
        energies = frames.energies if revised else frames.md17_energies
        forces = frames.forces if revised else frames.md17_forces
        found.append(
            LabelledFrames(
                name,
                frames.path,
                frames.numbers,
                frames.positions[rows],
                energies[rows],
                forces[rows],
            )
        )
    return found


def _md17(data: DataConfig, part: Part) -> list[LabelledFrames]:
    from shared.data import md17

    load = md17.load_md17s if data.source == "md17s" else md17.load_md17
    found = []
    for name in data.molecules:
        series = load(name)
        numbers = series.first_frame + series.force_frames
        rows = series.force_frames[_range_rows(numbers, data, part)]
        rows = _evenly(rows, _wanted(data, part))
        found.append(
            LabelledFrames(
                name,
                series.path,
                series.numbers,
                np.asarray(series.positions[rows], dtype=np.float64),
                series.energies[rows],
                series.forces_at(rows),
            )
        )
    return found


def _isomers(data: DataConfig, part: Part) -> list[LabelledFrames]:
    from shared.data.isomers import ISOMERS_XTB, isomers_of

    found = []
    for isomer in isomers_of(part):
        rows = _evenly(np.arange(len(isomer)), _wanted(data, part))
        found.append(
            LabelledFrames(
                isomer.name,
                data_root() / ISOMERS_XTB,
                isomer.numbers,
                np.asarray(isomer.positions[rows], dtype=np.float64),
                isomer.energies[rows],
                np.asarray(isomer.forces, dtype=np.float64)[rows],
            )
        )
    return found


def _xtb(data: DataConfig, part: Part) -> list[LabelledFrames]:
    found = []
    for path in data.molecules:
        folder = Path(path).is_dir()
        for frames in (
            [_xtb_folder(path)] if folder else read_labelled(path, data.energy_key, data.forces_key)
        ):
            rows = _range_rows(np.arange(len(frames)), data, part)
            found.append(frames[_evenly(rows, _wanted(data, part))])
    return found


def _xtb_folder(path: str) -> LabelledFrames:
    from shared.data.xtb import read_xtb

    frames = read_xtb(path)
    if frames.energies is None or frames.forces is None:
        what = "energies" if frames.energies is None else "forces"
        raise InputError(f"{path}: not every frame has {what}")
    return LabelledFrames(
        Path(path).stem,
        Path(path),
        frames.numbers,
        np.asarray(frames.positions, dtype=np.float64),
        frames.energies,
        np.asarray(frames.forces, dtype=np.float64),
    )


SOURCES: dict[str, Callable[[DataConfig, Part], list[LabelledFrames]]] = {
    "3bpa": _three_bpa,
    "rmd17": _rmd17,
    "md17": _md17,
    "md17s": _md17,
    "isomers": _isomers,
    "xtb": _xtb,
    "extxyz": _extxyz,
}


# -- splits -------------------------------------------------------------------------------------


def split_of(data: DataConfig) -> tuple[dict[str, Any], str]:
    """The keys that say which frames train, validate and test, and the same in words."""
    keys: tuple[str, ...]
    if data.source == "rmd17" and data.blocks is not None:
        keys, words = (
            ("blocks", "margin", "labels"),
            f"The trajectory is cut into {data.blocks} blocks; of each the first 60 % train, the "
            f"next 20 % validate, the rest tests; {data.margin} frame numbers are left out on both "
            f"sides of a border. Labels are the {data.labels} ones.",
        )
    elif data.source in ("md17", "md17s", "xtb", "rmd17"):
        (first, end), (start, stop) = data.train_range, data.validation_range
        keys, words = (
            ("train_range", "validation_range"),
            f"Frames {first} to {end} train, {start} to {stop} validate, those from {stop} on test "
            "(the end of a range is not part of it).",
        )
        if data.source == "rmd17":
            keys, words = (*keys, "labels"), f"{words} Labels are the {data.labels} ones."
    elif data.source == "isomers":
        keys, words = (), "The five isomers that move most test, the next five validate."
    elif data.validation_files:
        keys, words = ("validation_files",), "Files of their own validate."
    else:
        keys, words = ("split_seed",), f"A random part validates (split seed {data.split_seed})."
    return {key: getattr(data, key) for key in ("train", "validation", *keys)}, words


def _wanted(data: DataConfig, part: Part) -> int | None:
    return {"train": data.train, "validation": data.validation, "test": None}[part]


def _evenly(rows: Rows, count: int | None) -> Rows:
    """`count` of the rows, evenly spaced; all if there are no more."""
    if count is None or count >= len(rows):
        return rows
    return rows[np.linspace(0, len(rows) - 1, count).round().astype(np.int64)]


def _random_part(frames: LabelledFrames, data: DataConfig, part: Part) -> LabelledFrames:
    """A random part of frames without an order: first those to validate on, then those to train.

    Every molecule keeps most of its frames to train on, however many are to validate.
    """
    order = np.random.default_rng(data.split_seed).permutation(len(frames))
    wanted = len(frames) // 10 if data.validation is None else data.validation
    held_out = min(wanted, len(frames) // _HELD_OUT)
    if part == "validation":
        return frames[np.sort(order[:held_out])]
    return frames[np.sort(order[held_out:][: data.train])]


def _range_rows(numbers: Rows, data: DataConfig, part: Part) -> Rows:
    """Rows whose frame number is in the range of a part; the test begins where validation ends."""
    first, end = {
        "train": data.train_range,
        "validation": data.validation_range,
        "test": (data.validation_range[1], np.iinfo(np.int64).max),
    }[part]
    return np.flatnonzero((numbers >= first) & (numbers < end))


def _block_rows(numbers: Rows, part: Part, blocks: int, margin: int) -> Rows:
    """Rows of a part of a trajectory cut into blocks of as many frames each.

    Args:
        numbers: original frame numbers, increasing.
        margin: frame numbers left out on both sides of a border between parts.
    """
    shares = [(k + share) / blocks for k in range(blocks) for share in (0.0, 0.6, 0.8)]
    borders = numbers[(np.array(shares[1:]) * len(numbers)).astype(np.int64)]
    distance = np.abs(numbers[:, None] - (borders - 0.5)).min(axis=1)
    place = (np.arange(len(numbers)) + 0.5) / len(numbers) * blocks % 1.0
    first, end = _SHARES[part]
    return np.flatnonzero((place >= first) & (place < end) & (distance > margin))


# -- batches ------------------------------------------------------------------------------------


def as_graphs(
    frames: Sequence[LabelledFrames],
    elements: Sequence[int],
    isolated: Sequence[float],
    *,
    response: bool = False,
) -> "list[Data]":
    """One graph for each frame: `type` [N], `pos` [N, 3], `forces` [N, 3], `energy` [1] float64,
    and `response` [N, 3N, 3] float32.

    The energy is that without the isolated atoms'.

    Args:
        elements: atomic numbers in the order of the type indices.
        isolated: energy of each of them, eV.
        response: with `forcefield.response.response_weights` over √N, so that squares are a mean
            over atoms; otherwise `response` is [N, 0, 3].

    Raises:
        InputError: an element that is not among them; atoms at one place.
    """
    import torch
    from torch_geometric.data import Data

    graphs = []
    for molecule in frames:
        types = type_indices(molecule.numbers, elements, str(molecule.path))
        base = np.asarray(isolated, dtype=np.float64)[types].sum()
        kinds = torch.from_numpy(types)
        weights = np.zeros((len(molecule), len(types), 0, 3), dtype=np.float32)
        if response:
            weights = response_weights(molecule.numbers, molecule.positions)
            weights /= np.sqrt(np.float32(len(types)))
            if not np.isfinite(weights).all():
                raise InputError(f"{molecule.path}: {molecule.name} has two atoms at one place")
        for positions, energy, forces, factor in zip(
            molecule.positions, molecule.energies, molecule.forces, weights, strict=True
        ):
            graphs.append(
                Data(
                    type=kinds,
                    pos=torch.from_numpy(positions),
                    forces=torch.from_numpy(forces),
                    energy=torch.tensor([energy - base], dtype=torch.float64),
                    response=torch.from_numpy(factor),
                    num_nodes=len(types),
                )
            )
    return graphs


def type_indices(numbers: npt.ArrayLike, elements: Sequence[int], where: str) -> Rows:
    """Index of each atom's element in `elements`.

    Raises:
        InputError: an element that is not among them (the message names those that are).
    """
    from ase.data import chemical_symbols

    numbers = np.asarray(numbers, dtype=np.int64)
    unknown = sorted(set(numbers.tolist()) - set(elements))
    if unknown:
        raise InputError(
            f"{where}: the element {', '.join(chemical_symbols[z] for z in unknown)} is not known "
            f"to the model; it knows {', '.join(chemical_symbols[z] for z in elements)}"
        )
    return np.searchsorted(np.asarray(elements), numbers)


def dense_batch(graphs: "Sequence[Data]", n_atoms: int, dtype: Any) -> "dict[str, Tensor]":
    """Graphs padded to `n_atoms`: types, positions, atoms, energies (float64), forces, response.

    Args:
        graphs: those of `as_graphs`.
        dtype: of positions, forces and response.
    """
    import torch
    from torch_geometric.data import Batch
    from torch_geometric.utils import to_dense_batch

    batch = Batch.from_data_list(list(graphs), exclude_keys=["response"])

    def dense(values: "Tensor") -> "tuple[Tensor, Tensor]":
        return to_dense_batch(values, batch.batch, max_num_nodes=n_atoms, batch_size=len(graphs))

    types, atoms = dense(batch.type)
    columns = 3 * n_atoms if any(g.response.shape[1] for g in graphs) else 0
    response = torch.zeros(len(graphs), n_atoms, columns, 3, dtype=dtype)
    for padded, g in zip(response, graphs, strict=True):
        padded[: g.response.shape[0], : g.response.shape[1]] = g.response
    return {
        "types": types,
        "positions": dense(batch.pos)[0].to(dtype),
        "atoms": atoms,
        "energies": batch.energy,
        "forces": dense(batch.forces)[0].to(dtype),
        "response": response,
    }


class FrameBatches:
    """Batch k of an endless sequence: the frames in a new random order at each pass.

    All pairs of padded atoms are computed, so molecules of like size can be put together: a batch
    is then of one group, and groups take turns in random order, as often as they have frames. Which
    frames a batch has depends on the seed and on k alone, so a resumed training sees what the
    uninterrupted one would have.

    Args:
        graphs: the frames.
        size: frames in a batch.
        dtype: of positions and forces.
        seed: of the order.
        groups: of how many sizes, at most.
    """

    def __init__(
        self, graphs: "Sequence[Data]", size: int, dtype: Any, seed: int, groups: int = 1
    ) -> None:
        self.size, self.dtype, self.seed = size, dtype, seed
        n_atoms = [int(graph.num_nodes) for graph in graphs]
        self.paddings = paddings(n_atoms, groups)
        self._groups: list[list[Data]] = [[] for _ in self.paddings]
        for graph, group in zip(graphs, np.searchsorted(self.paddings, n_atoms), strict=True):
            self._groups[group].append(graph)
        turns = [max(1, round(len(group) / size)) for group in self._groups]
        self._turns = np.repeat(np.arange(len(turns)), turns)  # of a round
        self._passes: dict[int, tuple[int, Rows]] = {}

    def __getitem__(self, index: int) -> "dict[str, Tensor]":
        number, position = divmod(index, len(self._turns))
        order = np.random.default_rng([self.seed, number]).permutation(self._turns)
        group = int(order[position])
        before = number * np.count_nonzero(order == group)
        turn = int(before + np.count_nonzero(order[:position] == group))
        places = range(turn * self.size, (turn + 1) * self.size)
        chosen = [self._groups[group][self._row(group, place)] for place in places]
        return dense_batch(chosen, self.paddings[group], self.dtype)

    def _row(self, group: int, place: int) -> int:
        number, position = divmod(place, len(self._groups[group]))
        if self._passes.get(group, (-1,))[0] != number:
            rng = np.random.default_rng([self.seed, number, group])
            self._passes[group] = number, rng.permutation(len(self._groups[group]))
        return int(self._passes[group][1][position])


def paddings(n_atoms: npt.ArrayLike, groups: int) -> list[int]:
    """Sizes to pad molecules to, ascending, so that the fewest pairs of atoms are computed.

    Args:
        n_atoms: of each molecule.
        groups: how many sizes, at most.
    """
    sizes, counts = np.unique(np.asarray(n_atoms), return_counts=True)
    inner = range(len(sizes) - 1)

    def pairs(ends: tuple[int, ...]) -> int:
        padded = sizes[[*ends, len(sizes) - 1]]
        return int((counts * padded[np.searchsorted(padded, sizes)] ** 2).sum())

    best = min(combinations(inner, min(groups, len(sizes)) - 1), key=pairs)
    return [int(size) for size in sizes[[*best, len(sizes) - 1]]]
