"""Predictors that know no dynamics, as propagators: what any model must beat.

`persistence`, the start repeated; `inertia`, free flight x₀ + v₀ t; `mean`, the mean structure of
the training frames; `mean-superposed`, the same laid on the start.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from shared.errors import InputError
from shared.evaluation.candidates import Candidate, Variant, repeated
from shared.evaluation.systems import Past, System
from shared.kinetics import backward_velocity, pair_velocity
from shared.metrics.armse import superpose
from shared.state import PhaseState, Propagator

__all__ = ["TRIVIAL", "Trivial", "velocities_at_start"]

Float = npt.NDArray[np.float64]
Rule = Callable[[System, PhaseState, float], Float]
"""(system, start, time since it in fs) -> positions [R, N, 3]."""


class Trivial:
    """A candidate given by a rule."""

    def __init__(self, name: str, rule: Rule) -> None:
        self.name, self.identity, self._rule = name, name, rule
        self.weights: dict[str, str] = {}
        self.random: tuple[Variant, ...] = ()

    def variants(self, system: System) -> tuple[Variant, ...]:
        if self.name.startswith("mean") and system.mean is None:
            return ()
        return ("",)

    def step_fs(self, system: System) -> float:
        return system.interval_fs

    def propagator(self, system: System, variant: Variant) -> Propagator:
        return _Rolled(system, self._rule)

    def start(self, past: Past, variant: Variant, samples: int, seed: int) -> PhaseState:
        velocities = velocities_at_start(past)
        return PhaseState(
            past.system.numbers,
            repeated(past.positions[:, -1], samples),
            repeated(velocities, samples),
        )


class _Rolled:
    def __init__(self, system: System, rule: Rule) -> None:
        self._system, self._rule = system, rule

    def propagate(
        self, start: PhaseState, n_frames: int, frame_interval_fs: float, *, seed: int
    ) -> Iterator[PhaseState]:
        for frame in range(1, n_frames + 1):
            elapsed = frame * frame_interval_fs
            positions = self._rule(self._system, start, elapsed)
            yield replace(start, positions=positions, time_fs=start.time_fs + elapsed)


def velocities_at_start(past: Past) -> Float | None:
    """From what is known: a pair and the force, else three frames; None of a single frame.

    Three frames are preferred where there are both: so a model without forces sees it.
    """
    x, interval = past.positions, past.system.interval_fs
    if x.shape[1] >= 3:
        return np.asarray(backward_velocity(x[:, -1], x[:, -2], x[:, -3], interval))
    if x.shape[1] == 2 and past.forces is not None:
        masses = past.system.masses
        return np.asarray(pair_velocity(x[:, -1], x[:, -2], interval, past.forces, masses))
    return None


def _inertia(system: System, start: PhaseState, elapsed: float) -> Float:
    if start.velocities is None:
        raise InputError("inertia: the start has no velocities")
    return np.asarray(start.positions + elapsed * start.velocities)


def _mean(system: System, start: PhaseState, elapsed: float) -> Float:
    if system.mean is None:
        raise InputError(f"mean: there are no training frames of {system.name}")
    return np.broadcast_to(system.mean, start.positions.shape)


def _mean_superposed(system: System, start: PhaseState, elapsed: float) -> Float:
    return superpose(_mean(system, start, elapsed), start.positions)


_RULES: dict[str, Rule] = {
    "persistence": lambda system, start, elapsed: start.positions,
    "inertia": _inertia,
    "mean": _mean,
    "mean-superposed": _mean_superposed,
}

TRIVIAL: dict[str, Callable[[], Candidate]] = {
    name: (lambda name=name, rule=rule: Trivial(name, rule))  # type: ignore[misc]
    for name, rule in _RULES.items()
}
"""Name -> candidate."""
