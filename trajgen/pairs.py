"""Training examples of the generator: a frame, its history and what follows it a lag later.

A series is consecutive frames of one molecule. Velocities and accelerations come from frames at or
before t alone (docs/design.md, velocities): v_t = (3x_t − 4x_{t−1} + x_{t−2})/2δ and
a_t = (v_t − v_{t−h})/h over the model's acceleration interval h. A batch mixes molecules as a
torch-geometric `Batch`; `dense_groups` turns it into padded-free dense tensors, one group for each
number of atoms, whose shapes stay the same from step to step where every step has all molecules, or
all have as many atoms.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch_geometric.data import Batch, Data

from shared.errors import InputError
from shared.kinetics import backward_velocity
from shared.topology import CLASS_ROUNDS, atom_classes, molecule_key
from shared.units import masses


@dataclass(frozen=True, eq=False)
class Series:
    """Consecutive frames of one molecule, ready for training.

    Attributes:
        name: molecule.
        numbers: [N].
        masses: [N], amu.
        classes: environment class of each atom, N.
        key: identity of the molecule, whatever the order of its atoms.
        positions: [T, N, 3], Å, float32, centre of mass at the origin.
        velocities: [T, N, 3], Å/fs, float32; NaN where there is no past to take them from.
        thermostat: ξ [T], 1/fs, or None.
        interval_fs: time between frames δ.
    """

    name: str
    numbers: npt.NDArray[np.int64]
    masses: npt.NDArray[np.float64]
    classes: list[str]
    key: str
    positions: npt.NDArray[np.float32]
    velocities: npt.NDArray[np.float32]
    thermostat: npt.NDArray[np.float32] | None
    interval_fs: float


def make_series(
    name: str,
    numbers: npt.ArrayLike,
    positions: npt.ArrayLike,
    interval_fs: float,
    thermostat: npt.ArrayLike | None = None,
    pair_steps: int | None = None,
    class_rounds: int = CLASS_ROUNDS,
) -> Series:
    """Centre the frames, difference them for velocities, classify the atoms by the first frame.

    Args:
        name, numbers, positions, thermostat, interval_fs: as in `Series`.
        pair_steps: k of velocities (x_t − x_{t−k})/kδ; None: those at the frame.
        class_rounds: how many bonds away an atom can be and still tell two classes apart.
    """
    numbers = np.asarray(numbers, dtype=np.int64)
    x = np.asarray(positions, dtype=np.float64)
    if len(x) < 4:
        raise InputError(f"{name}: {len(x)} frames are too few to train on; 4 are the least")
    m = masses(numbers)
    x = x - np.einsum("n,tnd->td", m / m.sum(), x)[:, None]
    v = np.full_like(x, np.nan)
    if pair_steps is None:
        v[2:] = backward_velocity(x[2:], x[1:-1], x[:-2], interval_fs)
    else:
        v[pair_steps:] = (x[pair_steps:] - x[:-pair_steps]) / (pair_steps * interval_fs)
    return Series(
        name=name,
        numbers=numbers,
        masses=m,
        classes=atom_classes(numbers, x[0], class_rounds),
        key=molecule_key(atom_classes(numbers, x[0])),
        positions=x.astype(np.float32),
        velocities=v.astype(np.float32),
        thermostat=None if thermostat is None else np.asarray(thermostat, dtype=np.float32),
        interval_fs=interval_fs,
    )


def steps_of(duration_fs: float, series: Series) -> int:
    """A duration as a whole number of frames of the series.

    Raises:
        InputError: it is not one, to 1e-6.
    """
    steps = duration_fs / series.interval_fs
    if round(steps) < 1 or abs(steps - round(steps)) > 1e-6:
        raise InputError(
            f"{duration_fs:g} fs is not a multiple of the {series.interval_fs:g} fs between frames "
            f"of {series.name}; choose one"
        )
    return round(steps)


def examples(
    series: Series,
    frames: npt.NDArray[np.int64],
    lag_steps: npt.NDArray[np.int64],
    history_steps: npt.NDArray[np.int64],
    unroll: int,
    type_index: Mapping[str, int],
) -> Batch:
    """G examples of one molecule as a torch-geometric batch.

    Args:
        frames: t of each example [G].
        lag_steps: Δ in frames [G].
        history_steps: frames over which the acceleration is taken [G].
        unroll: U, how many lags of what follows are given.
        type_index: class -> index of the model.

    Returns:
        Node level (G·N): type, mass, pos, vel, acc [·, 3], next_pos and next_vel [·, U, 3]; graph
        level: lag [G] fs, thermostat [G], next_thermostat [G, U] (NaN without thermostat).
    """
    x, v, n = series.positions, series.velocities, len(series.numbers)
    later = frames[:, None] + lag_steps[:, None] * np.arange(1, unroll + 1)
    interval = (history_steps * series.interval_fs).astype(np.float32)[:, None, None]
    acceleration = (v[frames] - v[frames - history_steps]) / interval
    xi = series.thermostat
    if xi is None:
        xi = np.full(len(x), np.nan, dtype=np.float32)
    count = len(frames)

    def nodes(values: npt.NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(values.reshape(count * n, *values.shape[2:]))

    types = torch.tensor([type_index[c] for c in series.classes])
    return Batch(
        type=types.repeat(count),
        mass=torch.from_numpy(series.masses.astype(np.float32)).repeat(count),
        pos=nodes(x[frames]),
        vel=nodes(v[frames]),
        acc=nodes(acceleration),
        next_pos=nodes(x[later].transpose(0, 2, 1, 3)),
        next_vel=nodes(v[later].transpose(0, 2, 1, 3)),
        lag=torch.from_numpy((lag_steps * series.interval_fs).astype(np.float32)),
        thermostat=torch.from_numpy(xi[frames]),
        next_thermostat=torch.from_numpy(xi[later]),
        batch=torch.arange(count).repeat_interleave(n),
        ptr=torch.arange(count + 1) * n,
    )


def mixed(batches: Sequence[Batch]) -> Batch:
    """Batches of several molecules as one."""
    parts = [b.to_dict() for b in batches]
    shared = [name for name in parts[0] if name not in ("ptr", "batch")]
    whole = Batch(**{name: torch.cat([part[name] for part in parts]) for name in shared})
    sizes = torch.cat([b.ptr.diff() for b in batches])
    whole.ptr = torch.cat([torch.zeros(1, dtype=torch.long), sizes.cumsum(0)])
    whole.batch = torch.arange(len(sizes)).repeat_interleave(sizes)
    return whole


def dense_groups(batch: Data) -> Iterator[dict[str, Tensor]]:
    """Split a mixed batch by number of atoms: dense tensors [G, N, ...] and [G, ...] by name."""
    sizes = batch.ptr.diff()
    for n in torch.unique(sizes).tolist():
        graphs = (sizes == n).nonzero()[:, 0]
        nodes = (batch.ptr[graphs, None] + torch.arange(n, device=graphs.device)).flatten()
        yield {
            name: (
                value[nodes].unflatten(0, (len(graphs), n))
                if len(value) == len(batch.batch)
                else value[graphs]
            )
            for name, value in batch.to_dict().items()
            if name not in ("ptr", "batch")
        }


@dataclass(frozen=True, eq=False)
class _Source:
    """A series, its frames [first, end) to draw from, its range of lags and history in frames, and
    how many frames behind it a velocity is made from."""

    series: Series
    first: int
    end: int
    shortest: int
    longest: int
    history: int | None
    behind: int


class FramePairs(Dataset[Batch]):
    """Item k is the batch of training step k: random frames of every molecule.

    The frames depend on the seed and on k alone, so a resumed training sees what the uninterrupted
    one would have. Lags are log-uniform over the multiples of δ within `lag_fs`.

    Args:
        series: the molecules.
        frames: [first, last) rows to draw from; everything an example touches lies within.
        lag_fs: smallest and largest lag.
        acceleration_interval_fs: h of the acceleration; None: the example's own lag.
        per_molecule: examples of each molecule in a batch.
        unroll: training step -> number of lags given, as {first step: number}.
        type_index: class -> index of the model.
        seed: of the random choice.
        more: further trajectories of these molecules, used whole: `per_molecule` examples again of
            each molecule that has some, each from one of them drawn at random.
        molecules: how many of these sets of examples a batch has, drawn at random; None: all.

    Raises:
        InputError: `more` has a molecule that `series` has not, a range too short for the lag, or a
            lag that is no multiple of δ.
    """

    def __init__(
        self,
        series: Sequence[Series],
        frames: tuple[int, int],
        lag_fs: tuple[float, float],
        acceleration_interval_fs: float | None,
        per_molecule: int,
        unroll: Mapping[int, int],
        type_index: Mapping[str, int],
        seed: int,
        more: Sequence[Series] = (),
        molecules: int | None = None,
    ) -> None:
        self.molecules = molecules
        self.per_molecule = per_molecule
        self.unroll, self.type_index, self.seed = dict(unroll), type_index, seed
        if 0 not in unroll:
            raise InputError(f"unroll must say how many lags from step 0 on, got {dict(unroll)}")
        h = acceleration_interval_fs

        def source(s: Series, first: int, end: int) -> _Source:
            shortest, longest = steps_of(lag_fs[0], s), steps_of(lag_fs[1], s)
            h_steps = None if h is None else steps_of(h, s)
            behind = int(np.isfinite(s.velocities).all(axis=(1, 2)).argmax())
            needed = behind + (h_steps or longest) + longest * max(self.unroll.values()) + 1
            if end - first < needed:
                raise InputError(
                    f"{s.name}: {max(0, end - first)} frames in the range {[first, end]}, but this "
                    f"lag and unrolling need at least {needed}"
                )
            return _Source(s, first, end, shortest, longest, h_steps, behind)

        # Groups: examples of a batch come from one source of each, or are spread over them.
        self._groups = [[source(s, frames[0], min(frames[1], len(s.positions)))] for s in series]
        further: dict[str, list[_Source]] = {}
        for s in more:
            if s.key not in [own.key for own in series]:
                raise InputError(f"{s.name}: not one of the molecules of the data set")
            further.setdefault(s.key, []).append(source(s, 0, len(s.positions)))
        self._groups += further.values()

    def unroll_at(self, step: int) -> int:
        """Number of lags unrolled at a training step."""
        return self.unroll[max(first for first in self.unroll if first <= step)]

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng([self.seed, step])
        unroll = self.unroll_at(step)
        batches = []
        groups = self._groups
        if self.molecules is not None and self.molecules < len(groups):
            groups = [groups[k] for k in rng.permutation(len(groups))[: self.molecules]]
        for group in groups:
            counts = np.array([self.per_molecule])
            if len(group) > 1:
                chosen = rng.integers(len(group), size=self.per_molecule)
                counts = np.bincount(chosen, minlength=len(group))
            for s, count in zip(group, counts.tolist(), strict=True):
                if count == 0:
                    continue
                drawn = np.exp(rng.uniform(np.log(s.shortest), np.log(s.longest), count))
                lags = np.clip(np.rint(drawn).astype(np.int64), s.shortest, s.longest)
                history = lags if s.history is None else np.full(count, s.history)
                frames = rng.integers(s.first + s.behind + history, s.end - lags * unroll)
                batches.append(examples(s.series, frames, lags, history, unroll, self.type_index))
        return mixed(batches)
