"""Equations of motion of R replicas in one evaluation: NVE, Nosé-Hoover (chains), Bussi, Langevin.

One step δ is a symmetric splitting of kicks v += δ F/m, drifts x += δ v and a thermostat (T half of
it, O its random part):

- `VelocityVerlet`: ½ kick, drift, ½ kick (Swope et al., J. Chem. Phys. 76, 637 (1982));
- `NoseHoover`: T, ½ kick, drift, ½ kick, T; one thermostat or a chain (Hoover, Phys. Rev. A 31,
  1695 (1985); Martyna, Klein, Tuckerman, J. Chem. Phys. 97, 2635 (1992); the splitting is that of
  Martyna, Tuckerman, Tobias, Klein, Mol. Phys. 87, 1117 (1996));
- `Bussi`: ½ kick, drift, ½ kick, O: velocities scaled so that the kinetic energy is canonical
  (Bussi, Donadio, Parrinello, J. Chem. Phys. 126, 014101 (2007));
- `Langevin`: ½ kick, ½ drift, O, ½ drift, ½ kick, known as BAOAB (Leimkuhler, Matthews, Appl. Math.
  Res. Express 2013, 34).

Symbols and where they are: x `positions`, v `velocities` [R, N, 3] (Å, Å/fs), F `forces` (eV/Å),
m `masses` (amu), U `potential`, K `kinetic` [R] (eV), ξ `thermostat` [R, n] (1/fs), g `dof`, T
`temperature_K`. Every ensemble has a conserved quantity: U + K, plus what the thermostat took
(`bath`), plus the kinetic energy of the Nosé-Hoover variables. State is float64 whatever the
precision of the forces. The random numbers of a step depend on the seed and its number alone, so a
run that is taken up again at a step goes on to the bit.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from shared.kinetics import bussi_scale
from shared.units import (
    ACCELERATION,
    AMU_A2_PER_FS2_IN_EV,
    KB_EV_PER_K,
    wavenumber_to_angular_frequency,
)

__all__ = ["Bussi", "ForceFunction", "Langevin", "NoseHoover", "VelocityVerlet"]

ForceFunction = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Positions [R, N, 3], Å, float64 -> energies [R], eV, and forces [R, N, 3], eV/Å, of any dtype."""

_BLOCK = 16  # steps whose random numbers are drawn together


class VelocityVerlet:
    """NVE: ½ kick, drift, ½ kick; the other ensembles are this with a thermostat.

    Args:
        forces: the force field.
        masses: [N], amu.
        timestep_fs: δ.
        dof: degrees of freedom g that a temperature counts.
        seed: of the random numbers of a thermostat.

    Attributes:
        positions, velocities: [R, N, 3], Å and Å/fs, float64.
        forces: [R, N, 3] at the positions, eV/Å, float64.
        potential, kinetic: [R], eV, float64.
        thermostat: [R, n], 1/fs; None where the ensemble has no such variables.
        bath: [R], energy that the thermostat has taken since the start, eV.
        count: number of steps from time 0.
    """

    thermostat: Tensor | None = None

    def __init__(
        self, forces: ForceFunction, masses: Tensor, timestep_fs: float, dof: int, seed: int = 0
    ) -> None:
        self._evaluate, self.timestep_fs, self.dof, self._seed = forces, timestep_fs, dof, seed
        self.masses = masses.double()
        self._half_kick = 0.5 * timestep_fs * ACCELERATION / self.masses[:, None]
        self._weights = (0.5 * AMU_A2_PER_FS2_IN_EV * self.masses).repeat_interleave(3)

    @torch.no_grad()
    def begin(
        self,
        positions: Tensor,
        velocities: Tensor,
        thermostat: Tensor | None = None,
        bath: Tensor | None = None,
        count: int = 0,
    ) -> None:
        """Set the state; what is given is copied.

        Args:
            positions, velocities: [R, N, 3], Å and Å/fs.
            thermostat: ξ [R, n], 1/fs; where there are fewer than the ensemble has the others are
                0, and none is read where it has none.
            bath: [R], eV, of the run that is taken up; None: 0.
            count: steps before this one.
        """
        self.positions, self.velocities = positions.double().clone(), velocities.double().clone()
        self._flat_velocities = self.velocities.flatten(1)  # a view: all changes are in place
        self._begin_thermostat(thermostat)
        self.bath = (
            self.positions.new_zeros(len(positions)) if bath is None else bath.double().clone()
        )
        self.count = count
        self.kinetic = self._kinetic()
        self._new_forces()

    @torch.no_grad()
    def step(self) -> None:
        """Advance by one time step."""
        self._before()
        self.velocities.addcmul_(self.forces, self._half_kick)
        self._drift()
        self._new_forces()
        self.velocities.addcmul_(self.forces, self._half_kick)
        self.kinetic = self._kinetic()
        self._after()
        self.count += 1

    def conserved(self) -> Tensor:
        """The quantity that exact dynamics would keep, [R], eV."""
        return self.potential + self.kinetic + self.bath

    def temperature(self) -> Tensor:
        """T = 2K/(g k), [R], K."""
        return self.kinetic * (2.0 / (self.dof * KB_EV_PER_K))

    def closed(self, velocities: Tensor, thermostat: Tensor | None) -> Tensor:
        """Velocities at the end of a step from those before the thermostat's last half-step.

        A pair of frames and the forces give the latter (`shared.kinetics.pair_velocity`).

        Args:
            velocities: [R, N, 3], Å/fs, after the kick.
            thermostat: all n variables [R, n] at the end of the step, 1/fs; None: unknown, and
                nothing is done.
        """
        return velocities

    def _begin_thermostat(self, thermostat: Tensor | None) -> None:
        """Set the thermostat variables, where there are any."""

    def _before(self) -> None:
        """The thermostat's part before the first kick."""

    def _after(self) -> None:
        """And after the second, with `kinetic` up to date before and after."""

    def _drift(self) -> None:
        self.positions.add_(self.velocities, alpha=self.timestep_fs)

    def _new_forces(self) -> None:
        potential, forces = self._evaluate(self.positions)
        self.potential, self.forces = potential.detach().double(), forces.detach().double()

    def _kinetic(self) -> Tensor:
        """K = ½ Σ m v²."""
        return torch.mv(self._flat_velocities.square(), self._weights)


class NoseHoover(VelocityVerlet):
    """NVT by Nosé-Hoover dynamics, one thermostat or a chain of them.

    v̇ = F/m − ξ₁ v;  ξ̇₁ = ω² (K/K₀ − 1) − ξ₂ ξ₁ with K₀ = ½ g k T, which is Q₁ = g k T/ω²;
    ξ̇ₖ = (Qₖ₋₁ ξₖ₋₁² − k T)/Qₖ − ξₖ₊₁ ξₖ with Qₖ = k T/ω². Conserved: U + K + ½ Σ Qₖ ξₖ² + g k T η₁
    + k T Σ_{k>1} ηₖ with η̇ₖ = ξₖ. Momenta that are 0 stay 0.

    MD17 was made with one thermostat of 1700 1/cm, g = 3N and T = 500 K.

    Args:
        temperature_K: T.
        wavenumber_per_cm: ω/2πc, that of the thermostat's own oscillation.
        links: length of the chain.
    """

    def __init__(
        self,
        forces: ForceFunction,
        masses: Tensor,
        timestep_fs: float,
        dof: int,
        seed: int = 0,
        *,
        temperature_K: float,
        wavenumber_per_cm: float = 1700.0,
        links: int = 1,
    ) -> None:
        super().__init__(forces, masses, timestep_fs, dof, seed)
        self.links = links
        self._thermal = KB_EV_PER_K * temperature_K
        self._squared_frequency = wavenumber_to_angular_frequency(wavenumber_per_cm) ** 2
        inertia = [self._thermal / self._squared_frequency] * links  # Q, eV fs²
        inertia[0] *= dof
        self._inertia = inertia

    def conserved(self) -> Tensor:
        assert self.thermostat is not None
        extended = self.thermostat.square() @ self.thermostat.new_tensor(self._inertia)
        return super().conserved() + 0.5 * extended

    @torch.no_grad()
    def closed(self, velocities: Tensor, thermostat: Tensor | None) -> Tensor:
        """As `VelocityVerlet.closed`: the half-step is run backward from the end sought.

        Going back from (v, ξ) scales v by a factor that depends on K(v), so v is the fixed point of
        v = v_before / factor(v), which the iteration reaches within rounding. Frames so far apart
        that ξ changes much between them (ω δ > ½) were not a step of this integrator, and that
        equation need not have a solution: there v = v_before exp(−½ δ ξ₁).
        """
        if thermostat is None:
            return velocities
        before = velocities.double()
        if self._squared_frequency * self.timestep_fs**2 > 0.25:
            factor = torch.exp(thermostat[:, 0] * (-0.5 * self.timestep_fs))
            return before * factor.view(-1, 1, 1)
        kinetic = torch.mv(before.flatten(1).square(), self._weights)
        scale, unused = torch.ones_like(kinetic), torch.zeros_like(kinetic)
        for _ in range(20):
            links = self._variables(thermostat, len(before)).unbind(1)
            now = kinetic * scale.square()
            scale = 1.0 / self._half_step(links, now, unused, -0.5 * self.timestep_fs)
        return before * scale.view(-1, 1, 1)

    def _variables(self, thermostat: Tensor | None, n_replicas: int) -> Tensor:
        """A copy of the variables given, with 0 for those that are not, [R, n]."""
        every = self.masses.new_zeros(n_replicas, self.links)
        if thermostat is not None:
            known = min(self.links, thermostat.shape[1])
            every[:, :known] = thermostat[:, :known]
        return every

    def _begin_thermostat(self, thermostat: Tensor | None) -> None:
        self.thermostat = self._variables(thermostat, len(self.positions))
        self._links = self.thermostat.unbind(1)  # views, too

    def _before(self) -> None:
        scale = self._half_step(self._links, self.kinetic, self.bath, 0.5 * self.timestep_fs)
        self.velocities.mul_(scale.view(-1, 1, 1))

    def _after(self) -> None:
        self._before()
        self.kinetic = self._kinetic()

    def _half_step(
        self, links: tuple[Tensor, ...], kinetic: Tensor, bath: Tensor, interval: float
    ) -> Tensor:
        """The thermostat through an interval h at fixed positions.

        From the end of the chain to its head, the velocities' factor exp(−ξ₁ h), and back.

        Args:
            links: ξₖ, each [R], changed in place.
            kinetic: K at the beginning, [R], eV.
            bath: [R], eV, to which g k T Δη₁ + k T Σ Δηₖ is added in place.
            interval: h, fs.

        Returns:
            the factor of the velocities, [R].
        """
        for k in reversed(range(self.links)):
            self._push(links, k, kinetic, interval)
        scale = torch.exp(links[0] * -interval)
        kinetic = kinetic * scale.square()
        bath.add_(links[0], alpha=self.dof * self._thermal * interval)
        for other in links[1:]:
            bath.add_(other, alpha=self._thermal * interval)
        for k in range(self.links):
            self._push(links, k, kinetic, interval)
        return scale

    def _push(self, links: tuple[Tensor, ...], k: int, kinetic: Tensor, interval: float) -> None:
        """ξₖ through half the interval under its force, damped by the next link."""
        drag = torch.exp(links[k + 1] * (-0.25 * interval)) if k + 1 < self.links else None
        if drag is not None:
            links[k].mul_(drag)
        # ω² (K/K₀ − 1), or (Qₖ₋₁ ξₖ₋₁² − k T)/Qₖ = ω² (Qₖ₋₁ ξₖ₋₁²/k T − 1)
        gain = 0.5 * interval * self._squared_frequency
        if k == 0:
            links[0].add_(kinetic, alpha=gain / (0.5 * self.dof * self._thermal)).sub_(gain)
        else:
            previous = links[k - 1].square()
            links[k].add_(previous, alpha=gain * self._inertia[k - 1] / self._thermal).sub_(gain)
        if drag is not None:
            links[k].mul_(drag)


class Bussi(VelocityVerlet):
    """NVT by stochastic velocity rescaling: K relaxes to its canonical distribution in time τ.

    v ← α v, with α of `shared.kinetics.bussi_scale`; momenta that are 0 stay 0.

    Args:
        temperature_K: T.
        relaxation_fs: τ.
    """

    def __init__(
        self,
        forces: ForceFunction,
        masses: Tensor,
        timestep_fs: float,
        dof: int,
        seed: int = 0,
        *,
        temperature_K: float,
        relaxation_fs: float = 500.0,
    ) -> None:
        super().__init__(forces, masses, timestep_fs, dof, seed)
        self._keep = math.exp(-timestep_fs / relaxation_fs)
        self._thermal = KB_EV_PER_K * temperature_K
        self._first, self._others = _Random(seed, 0), _Random(seed, 1)

    def _after(self) -> None:
        n_replicas, others = len(self.kinetic), self.dof - 1
        first = self._first.at(
            self.count, n_replicas, lambda rng, shape: rng.standard_normal(shape), self.kinetic
        )
        rest = self._others.at(
            self.count,
            n_replicas,
            lambda rng, shape: rng.chisquare(others, shape) if others else np.zeros(shape),
            self.kinetic,
        )
        scale = bussi_scale(self.kinetic, self._thermal, self._keep, first, rest)
        self.velocities.mul_(scale.view(-1, 1, 1))
        before, self.kinetic = self.kinetic, self._kinetic()
        self.bath.add_(before).sub_(self.kinetic)


class Langevin(VelocityVerlet):
    """NVT by Langevin dynamics, v̇ = F/m − v/τ + noise, as BAOAB.

    O: v ← c v + (1 − c²)^½ (kT/m)^½ N(0, 1), c = exp(−δ/τ). All 3N degrees of freedom take part:
    the molecule drifts and turns, and T is that of 3N.

    Args:
        temperature_K: T.
        relaxation_fs: τ, the inverse of the friction.
    """

    def __init__(
        self,
        forces: ForceFunction,
        masses: Tensor,
        timestep_fs: float,
        dof: int,
        seed: int = 0,
        *,
        temperature_K: float,
        relaxation_fs: float = 500.0,
    ) -> None:
        super().__init__(forces, masses, timestep_fs, dof, seed)
        self._keep = math.exp(-timestep_fs / relaxation_fs)
        variance = KB_EV_PER_K * temperature_K * ACCELERATION / self.masses[:, None]
        self._spread = ((1.0 - self._keep**2) * variance).sqrt()
        self._noise = _Random(seed, 0)

    def _drift(self) -> None:
        n_replicas, *shape = self.velocities.shape
        self.positions.add_(self.velocities, alpha=0.5 * self.timestep_fs)
        before = self._kinetic()
        noise = self._noise.at(
            self.count,
            n_replicas,
            lambda rng, size: rng.standard_normal((*size, *shape)),
            self.velocities,
        )
        self.velocities.mul_(self._keep).addcmul_(noise, self._spread)
        self.bath.add_(before).sub_(self._kinetic())
        self.positions.add_(self.velocities, alpha=0.5 * self.timestep_fs)


class _Random:
    """Random numbers of steps: a function of seed, stream and step, drawn some steps at a time.

    The first of R replicas has the numbers that it would have alone.
    """

    def __init__(self, seed: int, stream: int) -> None:
        self._seed, self._stream = seed, stream
        self._block, self._values = -1, torch.empty(0)

    def at(
        self,
        step: int,
        n_replicas: int,
        draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray],
        like: Tensor,
    ) -> Tensor:
        """Numbers of a step, [R, ...], of the device of `like`."""
        block, index = divmod(step, _BLOCK)
        if block != self._block:
            rng = np.random.default_rng([self._seed, self._stream, block])
            values = torch.from_numpy(draw(rng, (n_replicas, _BLOCK)))
            self._block, self._values = block, values.to(like.device)
        return self._values[:, index]
