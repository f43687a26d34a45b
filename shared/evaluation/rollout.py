"""Roll-outs beside the reference: errors frame by frame, without keeping the frames.

The S·K replicas of S starts go in batches, a start's K samples together. What is kept of each frame
is three numbers per replica, one for each alignment, so memory does not grow with the molecule.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shared.evaluation.candidates import Candidate, Variant
from shared.evaluation.references import References
from shared.evaluation.statistics import PooledErrors
from shared.evaluation.systems import Past, System
from shared.metrics.armse import Alignment, squared_errors
from shared.state import PhaseState

__all__ = ["ALIGNMENTS", "Context", "RolledErrors", "Skip", "roll_errors", "stride_of", "together"]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Truth = Callable[[Int, int], Float]
"""(indices of starts, frames after them) -> positions [S, N, 3], Å, NaN where there are none."""

ALIGNMENTS: tuple[Alignment, ...] = ("raw", "com", "aligned")
BATCH = 64


class Skip(Exception):
    """A measurement that cannot be made here; the message says why."""


@dataclass(frozen=True)
class Context:
    """What every measurement is given.

    Attributes:
        folder: of the artefacts.
        seed: of all that is random.
        report: called now and then with a line on how far a measurement is.
        references: trajectories of systems whose data have none.
        not_before: simulations on disk from before this time are made anew, s since the epoch.
    """

    folder: Path
    seed: int = 0
    report: Callable[[str], None] = lambda line: None
    references: References = field(default_factory=References)
    not_before: float = 0.0


@dataclass(frozen=True, eq=False)
class RolledErrors:
    """Squared errors of a roll-out.

    Attributes:
        frames: [T], frames of the reference after the start.
        reach: [S], how many of the T each start is followed.
        squared: alignment -> [S, K, T], Å²; NaN where there is no reference, or no prediction.
        of_mean: the same of the mean of the K samples, [S, T].
        reached: how many of the T frames were predicted from every start that goes so far.
        first: the first sample of the first start [T, N, 3], Å.
        whole: share of replicas that were whole at their end.
    """

    frames: Int
    reach: Int
    squared: dict[Alignment, Float]
    of_mean: dict[Alignment, Float]
    reached: int
    first: npt.NDArray[np.float32]
    whole: float

    def pooled(self, alignment: Alignment, sample: int = 0) -> PooledErrors:
        """One sample of each start."""
        return PooledErrors(self.squared[alignment][:, sample], self.reach)

    def pooled_mean(self, alignment: Alignment) -> PooledErrors:
        """The mean of the samples, as a predictor."""
        return PooledErrors(self.of_mean[alignment], self.reach)

    def index(self, frame: int) -> int:
        """Where a frame is in ``frames``."""
        return int(np.searchsorted(self.frames, frame))


def together(parts: list[RolledErrors]) -> RolledErrors:
    """The starts of several roll-outs over the same frames as one."""
    first = parts[0]
    return RolledErrors(
        first.frames,
        np.concatenate([part.reach for part in parts]),
        {a: np.concatenate([part.squared[a] for part in parts]) for a in first.squared},
        {a: np.concatenate([part.of_mean[a] for part in parts]) for a in first.of_mean},
        min(part.reached for part in parts),
        first.first,
        float(np.mean([part.whole for part in parts])),
    )


def stride_of(candidate: Candidate, system: System, wished_fs: float) -> int:
    """Frames of the reference from one frame of a roll-out to the next.

    The wished interval where the candidate can give it, else the nearest multiple of its own step.

    Raises:
        InputError: an interval that is no multiple of the reference's.
        Skip: the candidate's own step is not.
    """
    wished = system.frames_in(wished_fs, "interval_fs")
    own = candidate.step_fs(system) / system.interval_fs
    if abs(own - round(own)) > 1e-6:
        if abs(1 / own - round(1 / own)) > 1e-6:
            raise Skip(
                f"its step of {candidate.step_fs(system):g} fs does not fit the "
                f"{system.interval_fs:g} fs between frames of {system.data}"
            )
        own = 1.0
    return round(own) * max(1, round(wished / round(own)))


def until_all_stopped(states: Iterable[PhaseState], n_frames: int) -> Iterator[PhaseState]:
    """The same states; once every replica has stopped, which then stays as it is, the last again
    up to `n_frames` without being made."""
    for count, now in enumerate(states, 1):
        yield now
        if now.alive is not None and not now.alive.any():
            yield from repeat(now, n_frames - count)
            return


def roll_errors(
    candidate: Candidate,
    past: Past,
    variant: Variant,
    truth: Truth,
    reach: Int,
    stride: int,
    context: Context,
    *,
    samples: int = 1,
    alignments: tuple[Alignment, ...] = ALIGNMENTS,
) -> RolledErrors:
    """Errors of a candidate from each start.

    Args:
        candidate: who.
        past: of S starts.
        variant: what the starts are told.
        truth: the reference.
        reach: [S], frames of the reference to go from each start.
        stride: frames of the reference between two of the roll-out.
        samples: K.
        alignments: which errors.

    Raises:
        InputError: the candidate cannot do it.
    """
    system, n_starts = past.system, len(past.frames)
    frames = stride * np.arange(1, int(reach.max()) // stride + 1)
    shape = (n_starts, samples, len(frames))
    squared = {a: np.full(shape, np.nan) for a in alignments}
    of_mean = {a: np.full((n_starts, len(frames)), np.nan) for a in alignments}
    first = np.full((len(frames), *system.reference.shape), np.nan, dtype=np.float32)
    alive = np.ones((n_starts, samples), dtype=bool)
    reached = len(frames)
    propagator = candidate.propagator(system, variant)
    per_batch = max(1, BATCH // samples)
    for length in np.unique(reach):
        (group,) = np.nonzero(reach == length)
        for at in range(0, len(group), per_batch):
            starts = group[at : at + per_batch]
            state = candidate.start(
                past.select(starts), variant, samples, context.seed + int(starts[0])
            )
            n_frames = int(length) // stride
            seed = context.seed + int(starts[0])
            interval = stride * system.interval_fs
            t = -1
            states = propagator.propagate(state, n_frames, interval, seed=seed)
            for t, now in enumerate(until_all_stopped(states, n_frames)):
                predicted = now.positions.reshape(len(starts), samples, *now.positions.shape[1:])
                expected = truth(starts, int(frames[t]))
                there = np.isfinite(expected).all(axis=(1, 2))
                known, given = starts[there], predicted[there]
                for a in alignments if len(known) else ():
                    squared[a][known, :, t] = squared_errors(
                        given, expected[there, None], a, system.masses
                    )
                    of_mean[a][known, t] = squared_errors(
                        given.mean(axis=1), expected[there], a, system.masses
                    )
                if starts[0] == 0:
                    first[t] = predicted[0, 0]
                if now.alive is not None:
                    alive[starts] = now.alive.reshape(len(starts), samples)
                if t % 200 == 199:
                    context.report(f"start {at + 1} of {n_starts}, frame {frames[t]} of {length}")
            if t + 1 < n_frames:
                reached = min(reached, t + 1)
    goes = reach // stride
    return RolledErrors(frames, goes, squared, of_mean, reached, first, float(alive.mean()))
