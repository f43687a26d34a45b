"""The oracles: the engine that made the reference, restarted; and the reference against itself.

`oracle`, the dynamic one, begins with the velocities that a force-free model gets. For the
surrogates its trajectories lie in files, played back from their start frames; for other data it is
the engine itself, through the entry points `sgdml` and `xtb`. It includes the error of its start,
so that a model that starts better may score below it. `static-oracle` is for distributions: blocks
of the reference against one another.
"""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from shared.data.md17 import SURROGATE_MOLECULES, SurrogateOracle, load_md17s_oracle
from shared.errors import InputError
from shared.evaluation.candidates import Candidate, Variant, open_candidate, repeated
from shared.evaluation.systems import Past, System
from shared.state import PhaseState, Propagator

__all__ = ["ORACLES", "Oracle", "StaticOracle"]

Float = npt.NDArray[np.float64]

STATIC = "static-oracle"


class Oracle:
    """The dynamic oracle of any reference that has one."""

    name = identity = "oracle"
    fits_friction = True

    def __init__(self) -> None:
        self.weights: dict[str, str] = {}
        self.random: tuple[Variant, ...] = ("unknown", "nvt")

    def variants(self, system: System) -> tuple[Variant, ...]:
        if _has_file(system):
            return ("fitted", "unknown", "nve")
        if system.engine is None:
            return ()
        return self._engine(system).variants(system)

    def step_fs(self, system: System) -> float:
        return 5.0 if _has_file(system) else self._engine(system).step_fs(system)

    def propagator(self, system: System, variant: Variant) -> Propagator:
        if _has_file(system):
            return _Playback(load_md17s_oracle(system.name), variant)
        return self._engine(system).propagator(system, variant)

    def start(self, past: Past, variant: Variant, samples: int, seed: int) -> PhaseState:
        if not _has_file(past.system):
            return self._engine(past.system).start(past, variant, samples, seed)
        # The number of the start frame, in fs, is how the playback knows where it is.
        oracle = load_md17s_oracle(past.system.name)
        rows = np.searchsorted(oracle.start_frames, past.frames)
        inside = np.minimum(rows, len(oracle.start_frames) - 1)
        if not np.array_equal(oracle.start_frames[inside], past.frames):
            raise InputError(f"{past.system.data}: the oracle file has other start frames")
        positions = repeated(past.positions[:, -1], samples)
        return PhaseState(
            past.system.numbers, positions, thermostat=repeated(rows[:, None], samples)
        )

    def _engine(self, system: System) -> Candidate:
        if system.engine is None:
            raise InputError(f"no engine of {system.data} can be run here")
        return open_candidate(system.engine)


class _Playback:
    """Stored restarts; a start's row in the file stands where its thermostat variable would."""

    def __init__(self, oracle: SurrogateOracle, variant: Variant) -> None:
        self._oracle, self._positions = oracle, oracle.positions[variant]

    def propagate(
        self, start: PhaseState, n_frames: int, frame_interval_fs: float, *, seed: int
    ) -> Iterator[PhaseState]:
        assert start.thermostat is not None
        rows = start.thermostat[:, 0].astype(np.int64)
        stride = frame_interval_fs / self._oracle.interval_fs
        for frame in range(1, n_frames + 1):
            (at,) = np.nonzero(np.isclose(self._oracle.horizon_steps, frame * stride))
            stored = np.asarray(self._positions[rows, at] if at.size else np.nan, dtype=np.float64)
            if not np.isfinite(stored).all():
                return
            time_fs = start.time_fs + frame * frame_interval_fs
            yield PhaseState(start.numbers, stored, time_fs=time_fs)


class StaticOracle:
    """The reference against itself: it has distributions and no trajectories."""

    name = identity = STATIC

    def __init__(self) -> None:
        self.weights: dict[str, str] = {}
        self.random: tuple[Variant, ...] = ()

    def variants(self, system: System) -> tuple[Variant, ...]:
        return ()

    def step_fs(self, system: System) -> float:
        return system.interval_fs

    def propagator(self, system: System, variant: Variant) -> Propagator:
        raise InputError(f"{STATIC} has no trajectories")

    def start(self, past: Past, variant: Variant, samples: int, seed: int) -> PhaseState:
        raise InputError(f"{STATIC} has no trajectories")


def _has_file(system: System) -> bool:
    return "surrogate" in system.data and system.name in SURROGATE_MOLECULES


ORACLES: dict[str, Callable[[], Candidate]] = {Oracle.name: Oracle, STATIC: StaticOracle}
"""Name -> candidate."""
