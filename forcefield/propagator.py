"""The force field as a `shared.state.Propagator`: R replicas integrated in one batch.

`ForceFieldPropagator` joins forces and an integrator, stops replicas that broke, and keeps at hand
the energies of the latest frame. A run that is taken up from a frame continues to the bit on a CPU,
given the frame and `bath`.

A replica is stopped, and repeats its last whole frame while the others go on, when a bond is off by
more than 0.5 Å (`shared.metrics.stability`; looked at every frame, or every step), when a number is
not finite, or when the temperature leaves 0.1 to 100 000 K (above: looked at every step).
"""

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from forcefield.compiled import compile_in_parts
from forcefield.integrators import Bussi, ForceFunction, Langevin, NoseHoover, VelocityVerlet
from shared.errors import InputError
from shared.kinetics import pair_velocity
from shared.metrics.stability import TEMPERATURE_RANGE, StabilityWatch, reference_bonds
from shared.start import internal_degrees_of_freedom
from shared.state import PhaseState
from shared.units import KB_EV_PER_K, masses

if TYPE_CHECKING:
    from forcefield.load import LoadedPotential

__all__ = [
    "Ensemble",
    "EnsembleKind",
    "ForceFieldPropagator",
    "ForceProvider",
    "Observables",
    "forces_of",
]

Float = npt.NDArray[np.float64]

EnsembleKind = Literal["nve", "nose-hoover", "nose-hoover-chain", "bussi", "langevin"]

ForceProvider = Callable[[PhaseState], ForceFunction]
"""The forces of the atoms and the number of replicas of a state."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ensemble:
    """Which equations of motion, and their parameters where they have them.

    Attributes:
        kind: nve, nose-hoover, nose-hoover-chain, bussi or langevin.
        temperature_K: of the thermostat.
        wavenumber_per_cm: of Nosé-Hoover.
        relaxation_fs: τ of Bussi and Langevin.
        links: length of a Nosé-Hoover chain.

    Raises:
        InputError: no such ensemble, a number that is not positive, or no temperature.
    """

    kind: EnsembleKind = "nve"
    temperature_K: float | None = None
    wavenumber_per_cm: float = 1700.0
    relaxation_fs: float = 500.0
    links: int = 3

    def __post_init__(self) -> None:
        if self.kind not in (kinds := get_args(EnsembleKind)):
            raise InputError(f"no ensemble {self.kind}; there are {', '.join(kinds)}")
        if self.kind != "nve" and self.temperature_K is None:
            raise InputError(f"ensemble {self.kind} needs a temperature")
        for name in ("temperature_K", "wavenumber_per_cm", "relaxation_fs", "links"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} must be more than 0, not {value}")

    def __str__(self) -> str:
        if self.kind == "nve":
            return self.kind
        if self.kind in ("bussi", "langevin"):
            return f"{self.kind} at {self.temperature_K:.12g} K, {self.relaxation_fs:.12g} fs"
        return f"{self.kind} at {self.temperature_K:.12g} K, {self.wavenumber_per_cm:.12g} 1/cm"

    def integrator(
        self, forces: ForceFunction, masses: Tensor, timestep_fs: float, dof: int, seed: int
    ) -> VelocityVerlet:
        """The integrator of this ensemble; arguments as `VelocityVerlet`."""
        system = (forces, masses, timestep_fs, dof, seed)
        if self.kind == "nve":
            return VelocityVerlet(*system)
        assert self.temperature_K is not None
        if self.kind in ("nose-hoover", "nose-hoover-chain"):
            return NoseHoover(
                *system,
                temperature_K=self.temperature_K,
                wavenumber_per_cm=self.wavenumber_per_cm,
                links=1 if self.kind == "nose-hoover" else self.links,
            )
        stochastic = {"bussi": Bussi, "langevin": Langevin}[self.kind]
        return stochastic(
            *system, temperature_K=self.temperature_K, relaxation_fs=self.relaxation_fs
        )


@dataclass(frozen=True, eq=False)
class Observables:
    """Energies of a frame, each [R]; a replica that broke keeps those of its last frame.

    Attributes:
        potential, kinetic: eV.
        temperature: K.
        conserved: what exact dynamics would keep, eV.
        bath: energy that the thermostat has taken, eV.
    """

    potential: Float
    kinetic: Float
    temperature: Float
    conserved: Float
    bath: Float


class ForceFieldPropagator:
    """Molecular dynamics with a force field.

    Args:
        forces: gives the forces of a start (`forces_of`).
        ensemble: the equations of motion.
        timestep_fs: δ.
        dof: degrees of freedom that temperatures count, from the number of atoms; None: 3N. Of
            Langevin dynamics they are always 3N.
        reference: positions, Å, that say which atoms are bonded and how long the bonds are: a frame
            [N, 3], or frames [T, N, 3] of which the first says which and the mean how long; None:
            the start's first replica. Give the first start when a run is taken up again.
        bath: [R], eV, of the run that is taken up (`observables.bath`); None: 0.
        watch: "frame" or "step": when bonds are looked at.
        device: where the state lives.

    Attributes:
        observables: of the latest frame.
        stopped_fs: time at which each replica that broke did so.
    """

    def __init__(
        self,
        forces: ForceProvider,
        *,
        ensemble: Ensemble | None = None,
        timestep_fs: float = 0.5,
        dof: Callable[[int], int] | None = None,
        reference: Float | None = None,
        bath: npt.ArrayLike | None = None,
        watch: Literal["frame", "step"] = "frame",
        device: str = "cpu",
    ) -> None:
        if not (math.isfinite(timestep_fs) and timestep_fs > 0):
            raise InputError(f"the time step must be more than 0 fs, not {timestep_fs}")
        self.forces, self.ensemble = forces, ensemble or Ensemble()
        self.timestep_fs, self._dof = timestep_fs, dof
        self.reference, self.bath = reference, bath
        self.watch, self.device = watch, device
        self.observables: Observables | None = None
        self.stopped_fs: dict[int, float] = {}

    def dof(self, n_atoms: int) -> int:
        """Degrees of freedom that temperatures count."""
        if self._dof is None or self.ensemble.kind == "langevin":
            return 3 * n_atoms
        return self._dof(n_atoms)

    def steps_per_frame(self, frame_interval_fs: float) -> int:
        """Time steps in a frame interval.

        Raises:
            InputError: not a whole number of them.
        """
        ratio = frame_interval_fs / self.timestep_fs
        if not (math.isfinite(ratio) and ratio > 0.5 and abs(ratio - round(ratio)) < 1e-6):
            raise InputError(
                f"the interval between frames ({frame_interval_fs:g} fs) must be a multiple of the "
                f"time step ({self.timestep_fs:g} fs)"
            )
        return round(ratio)

    def propagate(
        self, start: PhaseState, n_frames: int, frame_interval_fs: float, *, seed: int
    ) -> Iterator[PhaseState]:
        """Integrate `n_frames` frames after the start, `frame_interval_fs` apart.

        Args:
            start: with velocities; its thermostat variables are gone on with.
            n_frames: how many.
            frame_interval_fs: a multiple of the time step.
            seed: of a stochastic thermostat; the step at time t uses (seed, t / δ), whatever came
                before.

        Raises:
            InputError: no velocities, an interval that does not fit, or atoms that the force field
                does not know.
        """
        if start.velocities is None:
            raise InputError(
                "the start has no velocities; draw them (maxwell_boltzmann) or give a pair of "
                "frames (from_pair)"
            )
        per_frame = self.steps_per_frame(frame_interval_fs)
        integrator = self._integrator(start, self.forces(start), self.timestep_fs, seed)
        return self._frames(start, integrator, n_frames, per_frame)

    def from_pair(
        self, start: PhaseState, before: Float, interval_fs: float, forces: Float | None = None
    ) -> PhaseState:
        """The start with velocities of a pair of frames and the forces at the second.

        (x_t − x_{t−1})/δ + ½ δ F_t/m, then the closing half-step of the thermostat that made the
        frames, if the start has its variables: for frames made by this integrator with step
        `interval_fs` this is its own velocity.

        Args:
            start: at t; its velocities do not matter.
            before: positions [R, N, 3] or [N, 3] at t − δ, Å.
            interval_fs: δ.
            forces: [R, N, 3] or [N, 3] at t, eV/Å; None: those of this force field.
        """
        evaluate = self.forces(start)
        if forces is None:
            forces = evaluate(self._tensor(start.positions))[1].detach().double().cpu().numpy()
        velocities = pair_velocity(
            start.positions, before, interval_fs, forces, masses(start.numbers)
        )
        if start.thermostat is not None:
            integrator = self._integrator(start, evaluate, interval_fs, seed=0)
            xi = self._tensor(start.thermostat)
            velocities = integrator.closed(self._tensor(velocities), xi).cpu().numpy()
        return replace(start, velocities=velocities)

    def _tensor(self, values: Any) -> Tensor:
        return torch.tensor(np.asarray(values), dtype=torch.float64, device=self.device)

    def _integrator(
        self, start: PhaseState, forces: ForceFunction, timestep_fs: float, seed: int
    ) -> VelocityVerlet:
        """A thermostat's canonical distribution is over what moves in a molecule that neither
        drifts nor rotates; there it has the temperature that gives the kinetic energy asked for."""
        m = self._tensor(masses(start.numbers))
        dof, ensemble = self.dof(start.n_atoms), self.ensemble
        if ensemble.kind not in ("nve", "langevin"):
            assert ensemble.temperature_K is not None
            frame = start.positions[0] if self.reference is None else self.reference
            frame = frame.reshape(-1, start.n_atoms, 3)[0]
            moving = internal_degrees_of_freedom(start.numbers, frame) or dof
            ensemble = replace(ensemble, temperature_K=ensemble.temperature_K * dof / moving)
            dof = moving
        return ensemble.integrator(forces, m, timestep_fs, dof, seed)

    def _frames(
        self, start: PhaseState, integrator: VelocityVerlet, n_frames: int, per_frame: int
    ) -> Iterator[PhaseState]:
        integrator.begin(
            self._tensor(start.positions),
            self._tensor(start.velocities),
            None if start.thermostat is None else self._tensor(start.thermostat),
            None if self.bath is None else self._tensor(self.bath),
            round(start.time_fs / self.timestep_fs),
        )
        replicas = _Replicas(self, start, integrator)
        for _ in range(n_frames):
            replicas.advance(per_frame)
            self.observables = replicas.observables()
            yield replicas.phase()


class _Replicas:
    """R replicas under way: the integrator, and which of them are whole."""

    _KEPT = ("positions", "velocities", "thermostat", "bath", "potential", "kinetic")

    def __init__(
        self, propagator: ForceFieldPropagator, start: PhaseState, integrator: VelocityVerlet
    ) -> None:
        self._owner, self._integrator, self._numbers = propagator, integrator, start.numbers
        reference = start.positions[0] if propagator.reference is None else propagator.reference
        frames = reference.reshape(-1, start.n_atoms, 3)
        bonds = reference_bonds(start.numbers, frames[0], frames)
        self._watch = StabilityWatch(bonds, start.n_replicas)
        if start.alive is not None:
            self._watch.alive = start.alive.copy()
        self._unit = 0.5 * propagator.dof(start.n_atoms) * KB_EV_PER_K  # kinetic energy of 1 K, eV
        self._hottest = TEMPERATURE_RANGE[1] * self._unit
        self._last = self._now()

    def advance(self, n_steps: int) -> None:
        """To the next frame; those that break on the way are set back to the last."""
        integrator, watch = self._integrator, self._watch
        begun = integrator.count
        whole = torch.ones_like(integrator.kinetic, dtype=torch.bool)
        lasted = torch.full_like(integrator.kinetic, begun, dtype=torch.int64)
        for step in range(1, n_steps + 1):
            integrator.step()
            whole &= integrator.kinetic < self._hottest  # false for NaN, too
            lasted += whole
            if step == n_steps or self._owner.watch == "step":
                self._look(whole, lasted)
        if not watch.alive.all():
            dead = torch.from_numpy(~watch.alive).to(whole.device)
            for name, values in self._last.items():
                getattr(integrator, name)[dead] = values[dead]
            integrator.forces[dead] = 0.0
        self._last = self._now()

    def observables(self) -> Observables:
        """Energies now."""
        values = {"conserved": self._integrator.conserved(), **self._now()}
        values["temperature"] = self._integrator.kinetic / self._unit
        names = Observables.__dataclass_fields__
        return Observables(**{name: values[name].cpu().numpy().copy() for name in names})

    def phase(self) -> PhaseState:
        """The state as arrays."""
        arrays = {name: values.cpu().numpy().copy() for name, values in self._now().items()}
        return PhaseState(
            numbers=self._numbers,
            positions=arrays["positions"],
            velocities=arrays["velocities"],
            thermostat=arrays.get("thermostat"),
            time_fs=self._integrator.count * self._integrator.timestep_fs,
            alive=self._watch.alive.copy(),
        )

    def _now(self) -> dict[str, Tensor]:
        """Copies of what makes the state of each replica."""
        values = {name: getattr(self._integrator, name) for name in self._KEPT}
        return {name: value.clone() for name, value in values.items() if value is not None}

    def _look(self, whole: Tensor, lasted: Tensor) -> None:
        """Look at bonds and temperatures, and say which replica has just broken.

        Args:
            whole: [R], those that are finite and not too hot.
            lasted: [R], up to which step.
        """
        integrator, watch = self._integrator, self._watch
        before, timestep_fs = watch.alive, integrator.timestep_fs
        positions = torch.where(whole[:, None, None], integrator.positions, torch.nan)
        kelvin = (integrator.kinetic / self._unit).cpu().numpy()
        alive = watch.update(positions.cpu().numpy(), kelvin)
        for replica in np.flatnonzero(before & ~alive).tolist():
            step, why = integrator.count, "a bond is off by more than 0.5 Å"
            if not whole[replica]:
                step, why = int(lasted[replica]) + 1, "not finite, or above 100 000 K"
            elif kelvin[replica] < TEMPERATURE_RANGE[0]:
                why = "below 0.1 K"
            if kelvin[replica] >= TEMPERATURE_RANGE[0] or not whole[replica]:
                why += f"; a time step below {timestep_fs:g} fs may help"
            self._owner.stopped_fs[replica] = step * timestep_fs
            _log.warning(
                "replica %d stopped at step %d (%g fs): %s", replica, step, step * timestep_fs, why
            )


def forces_of(loaded: "LoadedPotential", *, compiled: bool = True) -> ForceProvider:
    """The forces of a checkpoint, energies of the isolated atoms included.

    The network sees positions relative to the first atom in its own precision, so that nothing is
    lost far from the origin.

    Args:
        loaded: the potential, with the dtype and device that it is to have.
        compiled: trace and compile for each molecule at the first evaluation, which takes a while.
            Where that fails, say for want of a compiler, a warning is logged and it runs as it is.
    """

    known: dict[Any, Any] = {}  # of compile_in_parts

    def provider(start: PhaseState) -> ForceFunction:
        potential = loaded.potential
        weight = next(potential.parameters())
        types = torch.as_tensor(loaded.types_of(start.numbers), device=weight.device)
        types = types.expand(start.n_replicas, -1).contiguous()
        atoms = torch.ones_like(types, dtype=torch.bool)
        isolated = potential.isolated_energy(types, atoms)
        run: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None

        def eager(positions: Tensor) -> tuple[Tensor, Tensor]:
            return potential.energy_and_forces(types, positions, atoms)

        def prepare(positions: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
            if not compiled:
                return eager
            _log.info("compiling the force field")
            try:
                fast = compile_in_parts(potential, types, positions, atoms, known=known)
                fast(positions)
            except Exception as error:
                _log.warning("not compiled (%s): this will be slower", type(error).__name__)
                return eager
            return fast

        def forces(positions: Tensor) -> tuple[Tensor, Tensor]:
            nonlocal run
            relative = (positions - positions[:, :1]).to(weight.dtype)
            run = run or prepare(relative)
            energy, slope = run(relative)
            return energy + isolated, slope

        return forces

    return provider
