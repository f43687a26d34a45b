"""Molecular dynamics as a `shared.evaluation.candidates.Candidate`: `forcefield:NAME` in a config,
and the engines `sgdml` and `xtb` that made the references, moved by the same integrators.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from forcefield.load import LoadedPotential, build, open_checkpoint, types_of
from forcefield.priors import priors_in
from forcefield.propagator import (
    Ensemble,
    EnsembleKind,
    ForceFieldPropagator,
    ForceProvider,
    forces_of,
)
from forcefield.shift import shift_between
from forcefield.shooting import friction_through
from shared.errors import InputError
from shared.evaluation.candidates import FeatureShift, Variant, repeated
from shared.evaluation.systems import Past, System
from shared.friction import friction_from_frames, friction_spread
from shared.state import PhaseState
from shared.units import FS_PER_PS

__all__ = ["Dynamics", "open_candidate", "open_sgdml", "open_xtb"]

Float = npt.NDArray[np.float64]

COMPILE_ABOVE = 10_000  # steps x replicas: below, compiling costs more than it saves
BATCH = 32  # frames whose energies are computed together


class Dynamics:
    """A force field with the integrator of each variant.

    A start takes the velocity of a pair of frames and the forces at the second: those of the data
    where it has them, else the force field's own. `fitted` needs a third frame, right before them
    or some steps earlier.

    Args:
        name: as in configs.
        forces: (system, compiled) -> what gives the forces of a start.
        timestep_fs: at most; a frame of the reference takes as many equal steps as that needs.
            None: one.
        weights: name -> SHA-256.
        potential: gives the network, where the forces are one's.
        model: what else than weights makes the forces, if anything does.
    """

    def __init__(
        self,
        name: str,
        forces: Callable[[System, bool], ForceProvider],
        timestep_fs: float | None = None,
        weights: dict[str, str] | None = None,
        potential: Callable[[], LoadedPotential] | None = None,
        model: str = "",
    ) -> None:
        self.fits_friction = True
        self.name, self._forces, self._timestep_fs = name, forces, timestep_fs
        self._potential = potential
        self.weights = weights or {}
        self.random: tuple[Variant, ...] = ("unknown", "nvt")
        self.identity = " ".join([name, *self.weights.values(), *([model] if model else [])])

    def variants(self, system: System) -> tuple[Variant, ...]:
        return ("fitted", "unknown", "nve") if _like_md17(system) else ("nve", "nvt")

    def step_fs(self, system: System) -> float:
        if self._timestep_fs is None:
            return system.interval_fs
        return system.interval_fs / math.ceil(system.interval_fs / self._timestep_fs - 1e-9)

    def propagator(self, system: System, variant: Variant) -> ForceFieldPropagator:
        kind: EnsembleKind = "nve"
        if variant in ("fitted", "unknown"):
            kind = "nose-hoover"
        elif variant == "nvt":
            kind = "bussi"
        return _Propagator(
            lambda compiled: self._forces(system, compiled),
            ensemble=Ensemble(kind, None if kind == "nve" else system.temperature_K),
            timestep_fs=self.step_fs(system),
            dof=None if _like_md17(system) else lambda n_atoms: 3 * n_atoms - 6,
            reference=system.reference,
        )

    def start(self, past: Past, variant: Variant, samples: int, seed: int) -> PhaseState:
        system, x = past.system, past.positions
        propagator = self.propagator(system, variant)
        interval = system.interval_fs
        state = PhaseState(system.numbers, x[:, -1])
        forces = past.forces
        if forces is None:
            forces = self._evaluate(propagator, state)
        friction = None
        if variant == "fitted" and past.earlier is not None:
            assert past.earlier_steps is not None
            friction = friction_through(
                propagator,
                lambda xi: propagator.from_pair(
                    replace(state, thermostat=xi[:, None]), x[:, -2], interval, forces
                ),
                past.earlier,
                past.earlier_steps,
                interval,
                system.masses,
            )[:, None]
        elif variant == "fitted":
            middle = self._evaluate(propagator, replace(state, positions=x[:, -2]))
            friction = friction_from_frames(
                x[:, -3:], middle, forces, interval, system.masses, system.temperature_K
            )[:, None]
        elif variant == "unknown":
            friction = np.zeros((len(x), 1))
        state = PhaseState(system.numbers, repeated(x[:, -1], samples))
        if friction is not None:
            friction = repeated(friction, samples)
            if variant == "unknown" and samples > 1:
                spread = friction_spread(len(system.numbers))
                friction = np.random.default_rng(seed).normal(scale=spread, size=friction.shape)
            state = replace(state, thermostat=friction)
        before, forces = repeated(x[:, -2], samples), repeated(forces, samples)
        return propagator.from_pair(state, before, interval, forces)

    def energies_and_forces(self, system: System, positions: Float) -> tuple[Float, Float]:
        """Energies [F], eV, and forces [F, N, 3], eV/Å, of positions [F, N, 3]."""
        energies, forces = [], []
        for at in range(0, len(positions), BATCH):
            state = PhaseState(system.numbers, positions[at : at + BATCH])
            found = self._forces(system, False)(state)(torch.from_numpy(state.positions))
            energies.append(found[0].detach().double().cpu().numpy())
            forces.append(found[1].detach().double().cpu().numpy())
        return np.concatenate(energies), np.concatenate(forces)

    def feature_shift(self, system: System, before: Float, after: Float) -> FeatureShift:
        """Of the diffused features; raises InputError where there is no diffusion."""
        if self._potential is None:
            raise InputError(f"{self.name} has no diffusion")
        return shift_between(self._potential(), system.numbers, before, after)

    def evaluations_per_ps(self, system: System) -> float | None:
        """Force evaluations per ps of one replica."""
        return FS_PER_PS / self.step_fs(system)

    @staticmethod
    def _evaluate(propagator: ForceFieldPropagator, state: PhaseState) -> Float:
        found = propagator.forces(state)(torch.from_numpy(state.positions))[1]
        return np.asarray(found.detach().double().cpu().numpy())


class _Propagator(ForceFieldPropagator):
    """Compiles the force field for runs that are long enough to pay for it.

    Attributes:
        compile: None: decide so.
    """

    def __init__(self, forces: Callable[[bool], ForceProvider], **options: Any) -> None:
        super().__init__(forces(False), **options)
        self._provider, self.compile = forces, None

    def propagate(
        self, start: PhaseState, n_frames: int, frame_interval_fs: float, *, seed: int
    ) -> Iterator[PhaseState]:
        compiled: bool | None = self.compile
        if compiled is None:
            steps = n_frames * self.steps_per_frame(frame_interval_fs)
            compiled = steps * start.n_replicas > COMPILE_ABOVE
        self.forces = self._provider(compiled)
        return super().propagate(start, n_frames, frame_interval_fs, seed=seed)


def open_candidate(name: str) -> Dynamics:
    """A shipped force field, or one in a folder.

    Raises:
        InputError: there is none; the message names those there are.
    """
    opened = open_checkpoint(name)
    potential = cache(partial(build, opened))

    provider = cache(lambda compiled: forces_of(potential(), compiled=compiled))

    def forces(system: System, compiled: bool) -> ForceProvider:
        types_of(opened.config, system.numbers)
        return provider(compiled)

    timestep_fs = opened.config.defaults.get("timestep_fs")
    weights = {opened.config.name: opened.config.weights_sha256}
    model = " ".join(priors_in(opened.config.model))
    return Dynamics(f"forcefield:{name}", forces, timestep_fs, weights, potential, model)


def open_sgdml(name: str = "") -> Dynamics:
    """The sGDML force field of each molecule, in the data folder."""
    from shared.data.sgdml import SGDML, sgdml_model

    _require_no_name("sgdml", name)

    def forces(system: System, compiled: bool) -> ForceProvider:
        engine = SGDML(sgdml_model(system.name), system.numbers)
        return lambda start: engine

    return Dynamics("sgdml", forces)


def _require_no_name(engine: str, name: str) -> None:
    if name:
        raise InputError(f"models: {engine}:{name}: {engine} has no checkpoints; say {engine}")


def open_xtb(name: str = "") -> Dynamics:
    """GFN2-xTB, about 1 ms an evaluation.

    References whose frames are 1 fs apart were made in steps of that, and half of it is another
    motion: of a C–H stretch, half a radian in 100 fs.
    """
    from shared.data.gfn2 import XTBEngine

    _require_no_name("xtb", name)

    def forces(system: System, compiled: bool) -> ForceProvider:
        engine = XTBEngine(system.numbers)

        def evaluate(positions: Tensor) -> tuple[Tensor, Tensor]:
            found = [engine.energy_and_forces(frame) for frame in positions.numpy()]
            energies = torch.tensor([energy for energy, _ in found], dtype=torch.float64)
            return energies, torch.from_numpy(np.stack([slope for _, slope in found]))

        return lambda start: evaluate

    return Dynamics("xtb", forces, 1.0)


def _like_md17(system: System) -> bool:
    return system.thermostat == "nose-hoover"
