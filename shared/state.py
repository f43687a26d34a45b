"""What a simulation is at one time, and what it was over many: typed arrays, checked on creation.

``PhaseState`` holds R replicas of one molecule at one time, ``Trajectory`` one replica over T
frames. Both heads of the project take and give these (``Propagator``), and everything downstream is
written against them. Units: Å, Å/fs, fs, eV.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from shared.errors import InputError

__all__ = ["PhaseState", "Propagator", "Trajectory"]

Float = npt.NDArray[np.float64]


def _numbers(value: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Atomic numbers [N] as int64."""
    given = np.asarray(value)
    numbers = given.astype(np.int64)
    if numbers.ndim != 1 or numbers.size == 0 or not np.array_equal(numbers, given):
        raise InputError(f"numbers must be a list of atomic numbers [N], not shape {given.shape}")
    if numbers.min() < 1 or numbers.max() > 118:
        raise InputError("numbers must be atomic numbers from 1 to 118")
    return numbers


def _floats(
    name: str, value: npt.ArrayLike, shape: tuple[int | None, ...], *, finite: bool = True
) -> Float:
    """``value`` as a contiguous float64 array of ``shape`` (None: any length)."""
    array = np.ascontiguousarray(value, dtype=np.float64)
    if array.ndim != len(shape) or any(
        want not in (None, got) for want, got in zip(shape, array.shape, strict=True)
    ):
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise InputError(f"{name} must have shape [{wanted}], not {list(array.shape)}")
    if finite and not np.isfinite(array).all():
        first = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise InputError(f"{name} holds a value that is not finite, at index {first}")
    return array


@dataclass(frozen=True, eq=False)
class PhaseState:
    """R replicas of one molecule of N atoms at one time.

    Arrays are converted (int64, float64, contiguous; not copied where they already are) and checked
    on creation.

    Attributes:
        numbers: atomic numbers [N].
        positions: [R, N, 3], Å.
        velocities: [R, N, 3], Å/fs, at the frame; None if unknown.
        previous_velocities: [R, N, 3], Å/fs, ``previous_interval_fs`` earlier; None if unknown.
        previous_interval_fs: time in fs between ``previous_velocities`` and ``velocities``.
        thermostat: thermostat variables [R, n], for Nosé-Hoover the friction ξ in 1/fs (n = 1).
        time_fs: time of the frame.
        alive: [R], False for replicas that collapsed and repeat their last frame; None: all alive.

    Raises:
        InputError: wrong shape, a value that is not finite, or previous velocities without their
            interval.
    """

    numbers: npt.NDArray[np.int64]
    positions: Float
    velocities: Float | None = None
    previous_velocities: Float | None = None
    previous_interval_fs: float | None = None
    thermostat: Float | None = None
    time_fs: float = 0.0
    alive: npt.NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        numbers = _numbers(self.numbers)
        positions = _floats("positions", self.positions, (None, len(numbers), 3))
        if len(positions) == 0:
            raise InputError("positions must hold at least one replica")
        checked: dict[str, Any] = {"numbers": numbers, "positions": positions}
        for name in ("velocities", "previous_velocities"):
            value = getattr(self, name)
            if value is not None:
                checked[name] = _floats(name, value, positions.shape)
        if self.thermostat is not None:
            checked["thermostat"] = _floats("thermostat", self.thermostat, (len(positions), None))
        if self.alive is not None:
            alive = np.ascontiguousarray(self.alive, dtype=np.bool_)
            if alive.shape != (len(positions),):
                raise InputError(f"alive must have shape [{len(positions)}], not {alive.shape}")
            checked["alive"] = alive
        if not np.isfinite(self.time_fs):
            raise InputError(f"time_fs must be finite, not {self.time_fs}")
        if (self.previous_velocities is None) != (self.previous_interval_fs is None):
            raise InputError("previous_velocities and previous_interval_fs go together")
        if self.previous_velocities is not None and self.velocities is None:
            raise InputError("previous_velocities need velocities")
        if self.previous_interval_fs is not None and not self.previous_interval_fs > 0:
            raise InputError(f"previous_interval_fs must be > 0, not {self.previous_interval_fs}")
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def n_replicas(self) -> int:
        """R."""
        return len(self.positions)

    @property
    def n_atoms(self) -> int:
        """N."""
        return len(self.numbers)

    @property
    def accelerations(self) -> Float | None:
        """(velocities − previous_velocities) / previous_interval_fs, [R, N, 3], Å/fs², or None."""
        before, interval = self.previous_velocities, self.previous_interval_fs
        if self.velocities is None or before is None or interval is None:
            return None
        return np.asarray((self.velocities - before) / interval)

    def _each_replica(self, indices: npt.NDArray[np.int64]) -> "PhaseState":
        """The state whose replica r is replica ``indices[r]`` of this one."""
        per_replica = ("positions", "velocities", "previous_velocities", "thermostat", "alive")
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in per_replica:
            if values[name] is not None:
                values[name] = values[name][indices]
        return PhaseState(**values)

    def replicate(self, n_replicas: int) -> "PhaseState":
        """``n_replicas`` copies of a state that holds one replica."""
        if self.n_replicas != 1:
            raise InputError(f"only a single replica can be replicated, not {self.n_replicas}")
        return self._each_replica(np.zeros(n_replicas, dtype=np.int64))

    def select(self, replica: int) -> "PhaseState":
        """One replica as a state with R = 1."""
        return self._each_replica(np.arange(self.n_replicas)[[replica]])


@dataclass(frozen=True, eq=False)
class Trajectory:
    """One replica over T frames.

    Attributes:
        numbers: atomic numbers [N].
        positions: [T, N, 3], Å.
        times_fs: [T]; NaN where the source does not say.
        velocities: [T, N, 3], Å/fs, or None.
        forces: [T, N, 3], eV/Å, or None.
        energies: [T], eV, or None.
        thermostat: [T], Nosé-Hoover friction ξ in 1/fs, or None.

    Raises:
        InputError: wrong shape or a value (other than a time) that is not finite.
    """

    numbers: npt.NDArray[np.int64]
    positions: Float
    times_fs: Float
    velocities: Float | None = None
    forces: Float | None = None
    energies: Float | None = None
    thermostat: Float | None = None

    def __post_init__(self) -> None:
        numbers = _numbers(self.numbers)
        positions = _floats("positions", self.positions, (None, len(numbers), 3))
        times_fs = _floats("times_fs", self.times_fs, (len(positions),), finite=False)
        checked: dict[str, Any] = {
            "numbers": numbers,
            "positions": positions,
            "times_fs": times_fs,
        }
        shapes = {
            "velocities": positions.shape,
            "forces": positions.shape,
            "energies": (len(positions),),
            "thermostat": (len(positions),),
        }
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value is not None:
                checked[name] = _floats(name, value, shape)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def n_frames(self) -> int:
        """T."""
        return len(self.positions)

    @property
    def n_atoms(self) -> int:
        """N."""
        return len(self.numbers)


class Propagator(Protocol):
    """Anything that carries a state forward in time: a force field with its integrator, or a
    learned transition kernel."""

    def propagate(
        self, start: PhaseState, n_frames: int, frame_interval_fs: float, *, seed: int
    ) -> Iterator[PhaseState]:
        """Yield the ``n_frames`` states after ``start``, ``frame_interval_fs`` apart.

        Frames stream: memory does not grow with ``n_frames``. The same ``seed`` gives the same
        trajectory.
        """
        ...
