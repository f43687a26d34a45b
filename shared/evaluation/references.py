"""Held-back trajectories of a labelled engine, for molecules whose data have no order: 3BPA.

A config names one trajectory for each system, all of it held back from training, and the engine
that made it. The engine's name stands in the `data` of every row, and is the dynamic oracle.

A bond to hydrogen keeps its energy for longer than a trajectory lasts, so blocks of one trajectory
are no independent samples of it. A config may name further trajectories, each from a start of its
own, whose windows are then the blocks that distributions are compared with.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shared.data.splits import FrameRange
from shared.data.trajectories import frame_interval, read_trajectory
from shared.errors import InputError
from shared.evaluation.candidates import open_candidate
from shared.evaluation.systems import HISTORY, SETS, Series, three_bpa

__all__ = ["References", "engine_series"]

Float = npt.NDArray[np.float64]


@dataclass(frozen=True)
class References:
    """Which trajectory stands for a system.

    Attributes:
        paths: system -> trajectory, as `shared.data.trajectories` reads it.
        engine: that made them, named as a model in a config.
        blocks: system -> independent trajectories, for distributions.
        isomers: the set of isomers, as `shared.evaluation.systems.isomers_under_test`.
    """

    paths: Mapping[str, str] = field(default_factory=dict)
    engine: str | None = None
    blocks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    isomers: str = "xtb"

    def series(self, name: str) -> Series:
        """The trajectory of a system.

        Raises:
            InputError: none is named, it cannot be read, or it is of another molecule.
        """
        if name not in self.paths or self.engine is None:
            raise InputError(
                f"no trajectory of {name}: name it in evaluation.trajectories, and its engine"
            )
        return engine_series(name, self.paths[name], self.engine)

    def independent(self, name: str) -> list[Series]:
        """The independent trajectories of a system; none where none are named.

        Raises:
            InputError: as `series`, or their frames are not as far apart as those of `series`.
        """
        found = []
        for path in self.blocks.get(name, ()):
            found.append(engine_series(name, path, str(self.engine)))
            ours, theirs = (s.system.interval_fs for s in (self.series(name), found[-1]))
            if abs(ours - theirs) > 1e-6:
                raise InputError(
                    f"{path}: frames are {theirs:g} fs apart, those of {self.paths[name]} {ours:g}"
                )
        return found

    def files(self, name: str) -> list[Path]:
        """Of the trajectories of a system; none where none is named."""
        if name not in self.paths:
            return []
        files: list[Path] = []
        for path in map(Path, [self.paths[name], *self.blocks.get(name, ())]):
            files += sorted(path.glob("frames_*.npz")) if path.is_dir() else [path]
        return [file for file in files if file.is_file()]

    def identity(self, name: str) -> list[str]:
        """Changes with the engine, its weights and the trajectory of a system, and with the set of
        isomers; empty without the one and with the surrogate of the other."""
        from shared.provenance import file_checksum

        if name in SETS["isomers"]:
            return [] if self.isomers == "xtb" else [self.isomers]
        if not (found := self.files(name)):
            return []
        engine = open_candidate(self.engine).identity if self.engine else ""
        return [str(self.engine), engine, *map(file_checksum, found)]


@lru_cache(maxsize=16)
def engine_series(name: str, path: str, engine: str) -> Series:
    """A trajectory of 3BPA at a temperature; mean and bonds are those of the training frames."""
    system = three_bpa(name).system
    made = read_trajectory(path)
    if not np.array_equal(made.numbers, system.numbers):
        raise InputError(f"{path}: its atoms are not those of 3BPA in the order of its files")

    def energies(rows: slice) -> Float:
        if made.energies is None:
            raise InputError(f"{path}: no energies")
        return made.energies[rows]

    def forces_at(rows: npt.NDArray[np.int64]) -> Float:
        if made.forces is None:
            raise InputError(f"{path}: no forces")
        return made.forces[rows]

    system = replace(
        system,
        data=f"3BPA {name}, trajectory of {engine}",
        interval_fs=frame_interval(path, made),
        engine=engine,
    )
    test = FrameRange(min(HISTORY, made.n_frames), made.n_frames)
    return Series(system, made.positions, energies, forces_at, test)
