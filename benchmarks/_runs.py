"""What the measurements share: a checkpoint on a molecule, starts from frames, roll-outs, and the
one long simulation that stability, temperatures, distributions and energies are all read from.

Every run uses the checkpoint's own lag, sampler and number of steps. No thermostat, no constraints.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from _report import Row

from shared.data.md17 import MD17Series, load_md17s
from shared.data.splits import SHORT_TO_LONG, evenly_spaced_starts
from shared.evaluation import long_run as shared_run
from shared.evaluation.long_run import LongRun
from shared.kinetics import backward_velocity
from shared.metrics.stability import ReferenceBonds, bond_deviation, reference_bonds
from shared.state import PhaseState
from shared.units import FS_PER_PS, masses
from trajgen.load import build, choose, open_checkpoint
from trajgen.rollout import Generator

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

REFERENCE = slice(0, SHORT_TO_LONG.test.stop)  # frames that distributions are held against
SPACING_FS = 5.0  # of frames where a protocol asks for 5 fs
BATCH = 64  # replicas advanced together where there are many
SEED = 20


@dataclass(frozen=True)
class Settings:
    """What can be chosen on the command line.

    Attributes:
        checkpoint: name or folder of the generator.
        paper: name or folder of the generator in `paper` mode.
        replicas, stability_ps: of the long simulation.
        paper_replicas, paper_ps: of the short one that `paper` mode is compared by.
        ensemble: samples per start of the ensemble.
        energy_frames: generated frames whose potential energy is computed.
        cost_s: CPU seconds that each speed is measured for.
        folder: where long simulations are kept.
    """

    checkpoint: str = "md17s"
    paper: str = "md17s-paper"
    replicas: int = 32
    stability_ps: float = 100.0
    paper_replicas: int = 8
    paper_ps: float = 0.5
    ensemble: int = 32
    energy_frames: int = 300
    cost_s: float = 15.0
    folder: Path = Path("runs/benchmark")


# --- a checkpoint on a molecule -----------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Subject:
    """A generator and the surrogate data of the molecule it is judged on.

    Attributes:
        name: of the checkpoint that was asked for; that of the weights may be a specialist's.
        molecule: the molecule.
        generator: with the checkpoint's own lag, sampler and steps.
        series: the data.
    """

    name: str
    molecule: str
    generator: Generator
    series: MD17Series

    @property
    def weights(self) -> str:
        """SHA-256 of the weights."""
        return self.generator.config.weights_sha256

    @property
    def numbers(self) -> npt.NDArray[np.int64]:
        """Atomic numbers [N]."""
        return self.series.numbers

    @cached_property
    def masses(self) -> Float:
        """[N], amu."""
        return masses(self.numbers)

    @cached_property
    def bonds(self) -> ReferenceBonds:
        """Bonds with their mean lengths over the training frames."""
        return mean_bonds(self.series)

    def row(self, protocol: str, **common: Any) -> Callable[..., Row]:
        """(metric, value, …) -> a row about this checkpoint on this molecule, unless said."""
        common = {"model": self.name, "data": self.series.source} | common
        return partial(Row, protocol=protocol, system=self.molecule, **common)

    def interval_fs(self, wished: float = SPACING_FS) -> float:
        """The multiple of the lag nearest to a wished spacing of frames, fs."""
        lag = self.generator.lag_fs
        return lag * max(1, round(wished / lag))


@lru_cache(maxsize=16)
def subject(checkpoint: str, molecule: str) -> Subject:
    """The generator that a checkpoint's name stands for on this molecule, as a user would get it.

    Raises:
        InputError: there is no such checkpoint, or it does not know the molecule.
    """
    asked = open_checkpoint(checkpoint)
    series = load_md17s(molecule)
    reference = calmest_frame(series)
    chosen, _ = choose(asked, series.numbers, reference)
    generator = Generator(build(chosen), chosen.config, reference=reference)
    return Subject(asked.config.name, molecule, generator, series)


def mean_bonds(series: MD17Series) -> ReferenceBonds:
    """Bonds of the first frame; mean lengths over the training frames."""
    train = series.positions[: SHORT_TO_LONG.train.stop]
    return reference_bonds(series.numbers, train[0], train)


def calmest_frame(series: MD17Series) -> Float:
    """The training frame whose bonds are closest to their mean lengths, [N, 3] Å."""
    train = series.positions[: SHORT_TO_LONG.train.stop]
    return np.asarray(train[bond_deviation(train, mean_bonds(series)).argmin()], dtype=np.float64)


# --- starts -------------------------------------------------------------------------------------


def start_state(
    generator: Generator,
    numbers: npt.ArrayLike,
    positions: npt.NDArray[Any],
    frames: npt.ArrayLike,
    interval_fs: float,
    *,
    acceleration: bool = True,
) -> PhaseState:
    """Replicas that start from frames of a trajectory, with what the model can use of the past.

    Args:
        generator: says which velocities it takes and how far back the previous ones shall lie.
        numbers: [N].
        positions: [T, N, 3], Å, consecutive.
        frames: [R], rows of `positions`.
        interval_fs: time between rows.
        acceleration: give the previous velocities; False: the null flag.
    """
    frames = np.asarray(frames)
    over = round(generator.lag_fs / interval_fs)

    def velocities(at: Int) -> Float:
        def x(back: int) -> Float:
            return positions[at - back].astype(np.float64)

        if generator.model.pair_velocities:
            return (x(0) - x(over)) / generator.lag_fs
        return backward_velocity(x(0), x(1), x(2), interval_fs)

    start = PhaseState(numbers, positions[frames], velocities(frames))
    if not acceleration:
        return start
    back = round(generator.acceleration_interval_fs / interval_fs)
    return replace(
        start,
        previous_velocities=velocities(frames - back),
        previous_interval_fs=back * interval_fs,
    )


def surrogate_start(s: Subject, frames: npt.ArrayLike, *, acceleration: bool = True) -> PhaseState:
    """`start_state` from frames of the surrogate data."""
    x, interval = s.series.positions, s.series.interval_fs
    return start_state(s.generator, s.numbers, x, frames, interval, acceleration=acceleration)


def repeat(start: PhaseState, count: int) -> PhaseState:
    """Each replica `count` times in a row."""
    return _select(start, np.repeat(np.arange(start.n_replicas), count))


def _select(start: PhaseState, rows: Int | slice) -> PhaseState:
    names = ("positions", "velocities", "previous_velocities", "thermostat", "alive")
    arrays = {name: getattr(start, name) for name in names}
    return replace(start, **{n: a if a is None else a[rows] for n, a in arrays.items()})


# --- roll-outs ----------------------------------------------------------------------------------


def roll_out(generator: Generator, start: PhaseState, n_frames: int, interval_fs: float) -> Float:
    """Positions [R, T, N, 3] Å of the frames after the start; many replicas go in batches."""
    batches = []
    for at in range(0, start.n_replicas, BATCH):
        part = _select(start, slice(at, at + BATCH))
        frames = generator.propagate(part, n_frames, interval_fs, seed=SEED + at)
        batches.append(np.stack([state.positions for state in frames], axis=1))
    return np.concatenate(batches)


# --- the long simulation ------------------------------------------------------------------------


def run_folder(s: Subject, replicas: int, length_ps: float, folder: Path) -> Path:
    """Where a long simulation of these weights is kept."""
    weights = f"{s.generator.config.name}-{s.weights[:8]}"
    return folder / weights / f"{s.molecule}-{replicas}x{length_ps:g}ps"


def long_run(s: Subject, replicas: int, length_ps: float, folder: Path) -> LongRun:
    """Simulate, or go on from where an interrupted simulation stopped, or read what is there."""
    interval = s.interval_fs()
    starts = evenly_spaced_starts(SHORT_TO_LONG.test, replicas, 0)
    made = shared_run.long_run(
        s.generator,
        surrogate_start(s, starts),
        s.bonds,
        round(length_ps * FS_PER_PS / interval),
        interval,
        run_folder(s, replicas, length_ps, folder),
        seed=SEED,
        report=lambda line: print(f"  {s.molecule} {line}", file=sys.stderr, flush=True),
    )
    torch.compiler.reset()  # another molecule's shapes would count against the compiler's limit
    return made
