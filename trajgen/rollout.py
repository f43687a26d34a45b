"""Roll-out: each generated state conditions the next, for R replicas in one batch.

`Generator` is the head's `shared.state.Propagator`. Positions and velocities are kept in float64
and the network sees them relative to the centre of mass in its own precision, so that a frame far
from the origin loses nothing and a run that is resumed from a saved state continues to the bit: the
noise of a step depends on the seed and on the time alone.

What holds at every step: the centre of mass does not move relative to inertial flight and total
momentum is kept (projection of the residual). Angular momentum is kept on request; otherwise the
frictions of modes (`trajgen.modes`), where a model has them, change it a little; those of stretches
(`trajgen.stretches`) do not. A replica that
becomes non-finite or breaks a bond (`shared.metrics.stability`) stops and repeats its last whole
frame; the rest go on.
"""

import logging
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from shared.checkpoint import CheckpointConfig
from shared.errors import InputError
from shared.kinetics import bussi_scale, kinetic_energy, temperature
from shared.metrics.stability import StabilityWatch, reference_bonds
from shared.start import degrees_of_freedom, internal_degrees_of_freedom
from shared.state import PhaseState
from shared.topology import bonds_of_classes
from shared.units import KB_EV_PER_K, masses
from trajgen.kernel import TransitionKernel, cast
from trajgen.load import acceleration_interval, recognise
from trajgen.mechanics import conserve_angular_momentum
from trajgen.samplers import check_sampler

_log = logging.getLogger(__name__)

# Below this much work compiling costs more than it saves.
_COMPILE_ABOVE = 4e7  # network evaluations x replicas x atoms²


class Generator:
    """Draws trajectories from a trained transition model.

    Args:
        model: the model, in evaluation mode.
        config: what its checkpoint says; gives the molecules known and the defaults.
        lag_fs: time step; None: the checkpoint's.
        sampler: a name of `trajgen.samplers.SAMPLERS`; None: the checkpoint's.
        steps: network evaluations per lag; None: the checkpoint's.
        reference: positions [N, 3] Å that say which atoms are bonded and how long the bonds are;
            None: the start's. Give those of the first start when resuming.
        keep_angular_momentum: project velocities so that L(t + Δ) is L(t); None: as the checkpoint
            was trained.
        thermostat_time_fs: relaxation time of a thermostat, stochastic velocity rescaling
            (`shared.kinetics.bussi_scale`), that holds `thermostat_temperature_K`; None: none.
        thermostat_temperature_K: its temperature, in the convention of the checkpoint; None: that
            of the training data.
        compile: compile the network; None: where the run is long enough to pay for it.
        device: where the network runs.

    Attributes:
        stopped_fs: replica -> time of the lag at which it broke.

    Raises:
        InputError: a lag outside what the model was trained for, an unknown sampler, steps < 1,
            or a thermostat without temperature.
    """

    def __init__(
        self,
        model: TransitionKernel,
        config: CheckpointConfig,
        *,
        lag_fs: float | None = None,
        sampler: str | None = None,
        steps: int | None = None,
        reference: npt.NDArray[np.float64] | None = None,
        keep_angular_momentum: bool | None = None,
        thermostat_time_fs: float | None = None,
        thermostat_temperature_K: float | None = None,
        compile: bool | None = None,
        device: str = "cpu",
    ) -> None:
        defaults = config.defaults
        self.model, self.config = model.to(device).eval(), config
        self.lag_fs = float(defaults["lag_fs"] if lag_fs is None else lag_fs)
        shortest, longest = defaults.get("lag_range_fs", [self.lag_fs, self.lag_fs])
        if not shortest - 1e-9 <= self.lag_fs <= longest + 1e-9:
            known = f"{shortest:g}" if shortest == longest else f"{shortest:g} to {longest:g}"
            raise InputError(
                f"a lag of {self.lag_fs:g} fs is outside what checkpoint {config.name} was trained "
                f"for ({known} fs)"
            )
        self.sampler = sampler or str(defaults["sampler"])
        self.steps = int(defaults["steps"] if steps is None else steps)
        check_sampler(self.sampler, self.steps)
        self.reference = reference
        if keep_angular_momentum is None:
            keep_angular_momentum = bool(defaults.get("keep_angular_momentum", False))
        self.keep_angular_momentum = keep_angular_momentum
        self.thermostat_time_fs = thermostat_time_fs
        if thermostat_temperature_K is None:
            thermostat_temperature_K = config.temperature_K
        self.thermostat_temperature_K = thermostat_temperature_K
        if thermostat_time_fs is not None and self.thermostat_temperature_K is None:
            raise InputError(
                f"checkpoint {config.name} has no temperature of its own for the thermostat; "
                "give one"
            )
        self.compile, self.device = compile, device
        self.stopped_fs: dict[int, float] = {}
        self.acceleration_interval_fs = acceleration_interval(config, self.lag_fs)

    def steps_per_frame(self, frame_interval_fs: float) -> int:
        """Lags in a frame interval.

        Raises:
            InputError: not a whole number of them.
        """
        ratio = frame_interval_fs / self.lag_fs
        if not (math.isfinite(ratio) and ratio > 0.5 and abs(ratio - round(ratio)) < 1e-6):
            raise InputError(
                f"the interval between frames ({frame_interval_fs:g} fs) must be a multiple of the "
                f"lag ({self.lag_fs:g} fs)"
            )
        return round(ratio)

    def propagate(
        self, start: PhaseState, n_frames: int, frame_interval_fs: float, *, seed: int
    ) -> Iterator[PhaseState]:
        """Generate `n_frames` states after the start, `frame_interval_fs` apart.

        Args:
            start: with velocities. Its thermostat variable, or else its previous velocities (if
                they are `acceleration_interval_fs` old), condition the first step.
            n_frames: how many.
            frame_interval_fs: a multiple of the lag.
            seed: of the noise; the step at time t uses (seed, t / lag), whatever came before.

        Raises:
            InputError: no velocities, an unknown molecule, or an interval that does not fit.
        """
        if start.velocities is None:
            raise InputError(
                "the start has no velocities; draw them (maxwell_boltzmann) or give a "
                "history of frames"
            )
        per_frame = self.steps_per_frame(frame_interval_fs)
        state = _State(self, start)
        compile = self.compile
        if compile is None:
            compile = self.worth_compiling(start, n_frames, frame_interval_fs)
        denoise = _compiled(self.model) if compile else self.model
        return self._frames(state, denoise, n_frames, per_frame, seed)

    def worth_compiling(self, start: PhaseState, n_frames: int, frame_interval_fs: float) -> bool:
        """Whether compiling the network pays for a run of that many frames."""
        evaluations = n_frames * self.steps_per_frame(frame_interval_fs) * self.steps
        return evaluations * start.n_replicas * start.n_atoms**2 > _COMPILE_ABOVE

    def _frames(
        self, state: "_State", denoise: Any, n_frames: int, per_frame: int, seed: int
    ) -> Iterator[PhaseState]:
        for _ in range(n_frames):
            for _ in range(per_frame):
                state.step(denoise, seed)
            yield state.phase()


def _compiled(model: TransitionKernel) -> Callable[..., Any]:
    """The model, compiled at its first call; as it is if that fails, say for want of a compiler."""
    # One shape for every number of atoms and replicas: past its limit torch falls back silently.
    torch._dynamo.config.recompile_limit = 64
    call: Callable[..., Any] = torch.compile(model, dynamic=False)

    def denoise(*arguments: Any) -> Any:
        nonlocal call
        try:
            return call(*arguments)
        except Exception as error:
            if call is model:
                raise
            _log.warning("not compiled (%s): this will be slower", type(error).__name__)
            call = model
            return call(*arguments)

    return denoise


class _State:
    """The R replicas between two frames, and the step that advances them."""

    def __init__(self, generator: Generator, start: PhaseState) -> None:
        self.generator, self.start = generator, start
        model, device = generator.model, generator.device
        self.model = model
        self.dtype = next(model.parameters()).dtype
        index = {c: k for k, c in enumerate(model.types)}
        r = start.n_replicas
        reference = start.positions[0] if generator.reference is None else generator.reference
        classes, _ = recognise(generator.config, start.numbers, reference)

        def tensor(values: Any) -> Tensor:
            return torch.tensor(values, dtype=torch.float64, device=device)

        self.types = torch.tensor([index[c] for c in classes], device=device).repeat(r, 1)
        self.masses = tensor(masses(start.numbers))
        if generator.thermostat_time_fs is not None:
            assert generator.thermostat_temperature_K is not None
            counted = degrees_of_freedom(generator.config, start.numbers, reference)
            # What moves: momentum is kept, and angular momentum where that is asked for.
            moving = internal_degrees_of_freedom(start.numbers, reference)
            self.dof = moving if generator.keep_angular_momentum else 3 * start.n_atoms - 3
            self.dof = self.dof or counted
            # There K is what those counted have at the temperature asked for.
            self.thermal = KB_EV_PER_K * generator.thermostat_temperature_K * counted / self.dof
        modes = model.modes
        self.order = None if modes is None else modes.order(start.numbers, reference).to(device)
        self.lag = torch.full((r,), generator.lag_fs, dtype=torch.float64, device=device)
        self.x, self.v = tensor(start.positions), tensor(start.velocities)
        by_thermostat = model.history == "thermostat"
        self.xi = None
        if by_thermostat and start.thermostat is not None:
            self.xi = tensor(start.thermostat[:, 0])
        self.a = None
        # Without ξ the roll-out hands on the acceleration over a lag, and a resumed one starts so.
        of_use = [generator.acceleration_interval_fs] + [generator.lag_fs] * (not by_thermostat)
        interval = start.previous_interval_fs
        if interval is not None and np.isclose(interval, of_use, rtol=0, atol=1e-6).any():
            self.a = tensor(start.accelerations)
        self.previous_v: Tensor | None = None
        self.alive = torch.ones(r, dtype=torch.bool, device=device)
        if start.alive is not None:
            self.alive = torch.tensor(start.alive, device=device)
        self.count = round(start.time_fs / generator.lag_fs)
        self.bonds = None
        if model.stretches is not None:
            pairs = bonds_of_classes(classes, start.numbers, reference)
            self.bonds = torch.from_numpy(pairs).to(device)
        self.watch = StabilityWatch(reference_bonds(start.numbers, reference), r)
        self.watch.alive = self.alive.cpu().numpy().copy()

    @torch.no_grad()
    def step(self, denoise: Any, seed: int) -> None:
        """Advance by one lag."""
        model, g = self.model, self.generator
        share = (self.masses / self.masses.sum())[:, None]
        centre = (share * self.x).sum(1, keepdim=True)
        drift = (share * self.v).sum(1, keepdim=True)
        x, v = self.x - centre, self.v - drift
        knows_xi = self.xi is not None
        c = model.condition(
            self.types,
            self.masses.expand(len(x), -1),
            x,
            v,
            self.lag,
            acceleration=None if knows_xi else self.a,
            thermostat=self.xi if knows_xi else None,
        )
        random = torch.Generator(self.lag.device)
        random.manual_seed(seed * 1_000_003 + self.count)
        narrow = cast(c, self.dtype)
        rows = model.draw(narrow, g.sampler, g.steps, generator=random, network=denoise)
        new_x, new_v, new_xi = model.decode(c, rows.double())
        new_x = new_x - (share * new_x).sum(1, keepdim=True)
        new_v = new_v - (share * new_v).sum(1, keepdim=True)
        if model.modes is not None:
            assert self.order is not None
            new_v = model.modes.slow(self.order, self.masses, new_x, new_v, g.lag_fs)
        if model.stretches is not None:
            assert self.bonds is not None
            new_v = model.stretches.slow(
                self.bonds, self.types[0], self.masses, new_x, new_v, g.lag_fs
            )
        if g.keep_angular_momentum:
            new_v = conserve_angular_momentum((x, v), (new_x, new_v), self.masses)
        if g.thermostat_time_fs is not None:
            new_v = self._couple(new_v, seed)
        self._accept(new_x + centre + g.lag_fs * drift, new_v + drift, new_xi)

    def _couple(self, v: Tensor, seed: int) -> Tensor:
        """v ← α v, with the α of `shared.kinetics.bussi_scale`; what does not move stays so."""
        g = self.generator
        assert g.thermostat_time_fs is not None
        # Of the seed and the time alone, and of a replica whatever the others are.
        normal, square = (np.random.default_rng([seed, self.count, k]) for k in range(2))
        first = normal.standard_normal(len(v))
        others = square.chisquare(self.dof - 1, len(v)) if self.dof > 1 else np.zeros(len(v))
        kinetic = kinetic_energy(v.cpu().numpy(), self.masses.cpu().numpy())
        keep = math.exp(-g.lag_fs / g.thermostat_time_fs)
        moves = kinetic > 0
        scale = np.where(
            moves,
            bussi_scale(np.where(moves, kinetic, 1.0), self.thermal, keep, first, others),
            0.0,
        )
        return v * torch.from_numpy(scale).to(v)[:, None, None]

    def _accept(self, x: Tensor, v: Tensor, xi: Tensor | None) -> None:
        """Take the new state of the replicas that are whole; the others repeat their last."""
        self.count += 1
        time_fs = self.count * self.generator.lag_fs
        finite = x.isfinite().all(-1).all(-1) & v.isfinite().all(-1).all(-1)
        if xi is not None:
            finite &= xi.isfinite()
        seen = torch.where(finite[:, None, None], x, torch.nan)
        kelvin = temperature(v.cpu().numpy(), self.masses.cpu().numpy())
        alive = self.watch.update(seen.cpu().numpy(), kelvin)
        for replica in np.flatnonzero(self.alive.cpu().numpy() & ~alive).tolist():
            self.generator.stopped_fs[replica] = time_fs
        self.alive = torch.from_numpy(alive.copy()).to(x.device)
        keep = self.alive[:, None, None]
        self.previous_v = self.v
        self.x, self.v = torch.where(keep, x, self.x), torch.where(keep, v, self.v)
        if xi is not None:
            old = torch.zeros_like(xi) if self.xi is None else self.xi
            self.xi = torch.where(self.alive, xi, old)
        self.a = (self.v - self.previous_v) / self.generator.lag_fs

    def phase(self) -> PhaseState:
        """The state as arrays."""

        def array(values: Tensor) -> Any:
            return values.cpu().numpy().copy()

        return PhaseState(
            numbers=self.start.numbers,
            positions=array(self.x),
            velocities=array(self.v),
            previous_velocities=None if self.previous_v is None else array(self.previous_v),
            previous_interval_fs=None if self.previous_v is None else self.generator.lag_fs,
            thermostat=None if self.xi is None else array(self.xi)[:, None],
            time_fs=self.count * self.generator.lag_fs,
            alive=array(self.alive),
        )
