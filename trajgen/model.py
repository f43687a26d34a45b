"""The transition kernel p(next state | state) of the `residual` mode: a preconditioned denoiser.

A state is positions, velocities and, where the data have one, the thermostat friction ξ. The next
state, a lag Δ later, is written as a standardised residual against inertial flight,

    y_i = (x_i' − x_i − Δ v_i) √m_i / ℓ(Δ),   w_i = (v_i' − v_i) √m_i / ω(Δ),   z = ξ' / ξ_rms,

whose space without motion of the centre of mass is the orthogonal complement of u, u_i ∝ √m_i.
Noise, input and output are projected by I − uuᵀ. The denoiser is that of Karras et al. (EDM, 2022,
Eq. 7) for unit data,

    D(r; σ) = c_skip r + c_out F(c_in r; σ),   c_skip = 1/(1 + σ²),   c_out = σ/√(1 + σ²),

with c_in = 1/(1 + σ²) in place of EDM's 1/√(1 + σ²): the kernel is almost deterministic, so a
sample of the prior says nothing about the next state, and the smaller factor keeps it from
disturbing the network. score = (D − r)/σ², ε = (r − D)/σ.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, get_args

import numpy as np
import torch
from torch import Tensor

from shared.config import check_values
from shared.errors import InputError
from trajgen.egt import EGT, Condition
from trajgen.kernel import History, TransitionKernel
from trajgen.modes import ModeFriction
from trajgen.sde import ResidualNoise
from trajgen.stretches import StretchFriction

if TYPE_CHECKING:
    from trajgen.pairs import Series


@dataclass(frozen=True)
class Normalisation:
    """Constants that make a state dimensionless; measured on the training data, stored with it.

    Attributes:
        velocity: rms of √m v, amu^1/2 Å/fs.
        acceleration: rms of √m a, amu^1/2 Å/fs².
        thermostat: rms of ξ, 1/fs.
        lags_fs: lags at which ℓ and ω were measured, increasing; between them log-log linear.
        step: ℓ at those lags, amu^1/2 Å.
        kick: ω at those lags, amu^1/2 Å/fs.
    """

    velocity: float
    acceleration: float
    thermostat: float
    lags_fs: list[float]
    step: list[float]
    kick: list[float]

    @classmethod
    def measure(
        cls,
        series: "Sequence[Series]",
        frames: tuple[int, int],
        lag_fs: tuple[float, float],
        acceleration_interval_fs: float | None,
    ) -> "Normalisation":
        """Of the frames [first, last); each molecule counts alike, at up to eight lags.

        Raises:
            InputError: an acceleration interval that is no multiple of the frames' interval.
        """
        from trajgen.pairs import steps_of  # torch-geometric takes seconds to import

        span = np.unique(np.geomspace(*lag_fs, num=8).round(6))
        squares: dict[str, list[float]] = {"v": [], "a": [], "xi": []}
        steps: dict[float, list[float]] = {}
        kicks: dict[float, list[float]] = {}
        for s in series:
            rootm = np.sqrt(s.masses)[:, None]
            first, last = frames[0] + 2, min(frames[1], len(s.positions))
            x = s.positions[first:last] * rootm
            v = s.velocities[first:last] * rootm
            h = 1 if acceleration_interval_fs is None else steps_of(acceleration_interval_fs, s)
            squares["v"].append(float(np.mean(v**2)))
            squares["a"].append(float(np.mean(((v[h:] - v[:-h]) / (h * s.interval_fs)) ** 2)))
            if s.thermostat is not None:
                squares["xi"].append(float(np.mean(s.thermostat[first:last] ** 2)))
            for lag in span:
                k = max(1, round(lag / s.interval_fs))
                lag = k * s.interval_fs
                y = x[k:] - x[:-k] - lag * v[:-k]
                steps.setdefault(lag, []).append(float(np.mean(y**2)))
                kicks.setdefault(lag, []).append(float(np.mean((v[k:] - v[:-k]) ** 2)))

        def rms(values: list[float]) -> float:
            return math.sqrt(sum(values) / len(values)) if values else 1.0

        lags = sorted(steps)
        return cls(
            velocity=rms(squares["v"]),
            acceleration=rms(squares["a"]),
            thermostat=rms(squares["xi"]),
            lags_fs=[float(lag) for lag in lags],
            step=[rms(steps[lag]) for lag in lags],
            kick=[rms(kicks[lag]) for lag in lags],
        )


@dataclass(frozen=True)
class NetworkConfig:
    """Size and switches of the score network (`trajgen.egt.EGT`).

    Args:
        channels: scalar channels per atom.
        vectors: vector channels per atom.
        heads: attention heads.
        directions: vector channels whose angles enter the pair features.
        radial: radial functions.
        layers: number of layers.
        acceleration: condition on the acceleration (ablation switch).
        angular: angular pair features (ablation switch).
    """

    channels: int = 64
    vectors: int = 32
    heads: int = 8
    directions: int = 8
    radial: int = 24
    layers: int = 4
    acceleration: bool = True
    angular: bool = True

    def __post_init__(self) -> None:
        counts = "channels", "vectors", "heads", "directions", "radial", "layers"
        check_values(self, "network", *(f"{name} >= 1" for name in counts))


@dataclass(frozen=True)
class NoiseConfig:
    """The forward process of the `residual` mode (`trajgen.sde.ResidualNoise`).

    Args:
        sigma_min: smallest noise, in units of the standardised residual.
        sigma_max: largest noise, that of the prior.
        eta: strength of the acceleration conditioning of the noise; 0 turns it off.
        threshold: mean squared standardised acceleration below which a molecule counts as calm.
    """

    sigma_min: float = 1e-3
    sigma_max: float = 80.0
    eta: float = 0.5
    threshold: float = 1.0

    def __post_init__(self) -> None:
        conditions = ("sigma_min > 0", "sigma_max > 0", "eta >= 0", "threshold > 0")
        check_values(self, "noise", *conditions)
        if self.sigma_min >= self.sigma_max:
            raise InputError(
                f"noise.sigma_min must be below noise.sigma_max, got {self.sigma_min:g} and "
                f"{self.sigma_max:g}"
            )


class ResidualKernel(TransitionKernel):
    """States as standardised residuals, whatever makes the next one of them.

    A row holds y and w of every atom and z: M = 6N + 1.

    Args:
        types: the atom classes known, in the order of the network's embedding.
        normalisation: see `Normalisation`.
        history: what a roll-out hands on from step to step besides positions and velocities: the
            thermostat friction, which the model then predicts with the rest, or the acceleration
            (v_t − v_{t−Δ})/Δ.
    """

    pair_velocities: ClassVar[bool] = False

    def __init__(
        self, types: Sequence[str], normalisation: Normalisation, history: History
    ) -> None:
        super().__init__()
        if history not in get_args(History):
            raise InputError(f"no history {history}; there are {', '.join(get_args(History))}")
        self.types = list(types)
        self.normalisation = normalisation
        self.history = history
        self.friction: Tensor | None
        self.register_buffer("friction", None)

    def set_friction(self, per_type: Tensor | None) -> None:
        """Frictions of the atom classes [types], 1/fs, that every step ends with; None: no more.

        `trajgen.calibration` measures them; they are stored with the weights.
        """
        like = next(self.parameters())
        self.friction = None if per_type is None else per_type.to(like)

    def scales(self, lag: Tensor) -> tuple[Tensor, Tensor]:
        """ℓ(Δ) and ω(Δ) for lags [B] in fs: log-log linear, the end pieces extended outwards."""
        n = self.normalisation
        lags = torch.tensor(n.lags_fs, dtype=lag.dtype, device=lag.device).log()
        if len(lags) == 1:
            return torch.full_like(lag, n.step[0]), torch.full_like(lag, n.kick[0])
        right = torch.bucketize(lag.log(), lags).clamp(1, len(lags) - 1)
        share = (lag.log() - lags[right - 1]) / (lags[right] - lags[right - 1])
        step, kick = (
            torch.tensor(values, dtype=lag.dtype, device=lag.device).log()
            for values in (n.step, n.kick)
        )
        step, kick = (v[right - 1].lerp(v[right], share).exp() for v in (step, kick))
        return step, kick

    def condition(
        self,
        types: Tensor,
        masses: Tensor,
        positions: Tensor,
        velocities: Tensor,
        lag: Tensor,
        *,
        acceleration: Tensor | None = None,
        has_acceleration: Tensor | None = None,
        thermostat: Tensor | None = None,
        has_thermostat: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Condition:
        """The state, standardised."""
        n, like = self.normalisation, torch.zeros_like(lag)
        rootm = masses.sqrt()[..., None]
        step, _ = self.scales(lag)
        if has_acceleration is None:
            has_acceleration = like if acceleration is None else like + 1
        if has_thermostat is None:
            has_thermostat = like if thermostat is None else like + 1
        acceleration = torch.zeros_like(velocities) if acceleration is None else acceleration
        thermostat = like if thermostat is None else thermostat
        return Condition(
            types=types,
            mask=torch.ones_like(types, dtype=torch.bool) if mask is None else mask,
            positions=positions,
            inverse_sqrt_mass=1 / masses.sqrt(),
            velocities=velocities * rootm / n.velocity,
            acceleration=acceleration * rootm / n.acceleration * has_acceleration[:, None, None],
            has_acceleration=has_acceleration,
            thermostat=thermostat / n.thermostat * has_thermostat,
            has_thermostat=has_thermostat,
            lag=lag,
            flight=lag * n.velocity,
            step=step,
        )

    def spread(self, masses: Tensor, lag: Tensor) -> tuple[Tensor, Tensor]:
        """ℓ(Δ)/√m and ω(Δ)/√m [B, N, 1]."""
        step, kick = (scale[:, None, None] for scale in self.scales(lag))
        per_rootm = masses.rsqrt()[..., None]
        return step * per_rootm, kick * per_rootm

    def encode(
        self, c: Condition, positions: Tensor, velocities: Tensor, thermostat: Tensor | None
    ) -> Tensor:
        """The residual of a next state."""
        rootm = 1 / c.inverse_sqrt_mass[..., None]
        step, kick = (scale[:, None, None] for scale in self.scales(c.lag))
        was = c.velocities * self.normalisation.velocity
        flight = c.lag[:, None, None] * was
        y = ((positions - c.positions) * rootm - flight) / step
        w = (velocities * rootm - was) / kick
        z = torch.zeros_like(c.lag) if thermostat is None else thermostat
        return join(project(c, torch.stack([y, w], -1)), z / self.normalisation.thermostat)

    def decode(self, c: Condition, rows: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """The inverse of `encode`, then friction: positions, velocities [B, N, 3] and ξ [B]."""
        residual, z = _split(rows)
        per_rootm = c.inverse_sqrt_mass[..., None]
        step, kick = (scale[:, None, None] for scale in self.scales(c.lag))
        was = c.velocities * self.normalisation.velocity
        positions = c.positions + per_rootm * (c.lag[:, None, None] * was + step * residual[..., 0])
        momenta = was + kick * residual[..., 1]  # √m v
        if self.friction is not None:
            slower = torch.exp(-self.friction.to(momenta)[c.types] * c.lag[:, None])
            momenta = project(c, momenta * slower[..., None])
        velocities = per_rootm * momenta
        by_thermostat = self.history == "thermostat"
        return positions, velocities, z * self.normalisation.thermostat if by_thermostat else None

    def unchanged(self, c: Condition) -> Tensor:
        """Inertial flight: the residual 0."""
        return c.positions.new_zeros(len(c.positions), 6 * c.positions.shape[1] + 1)

    def project(self, c: Condition, rows: Tensor) -> Tensor:
        """`project` on y and w; z stays."""
        residual, z = _split(rows)
        return join(project(c, residual), z)

    def loss(
        self,
        c: Condition,
        denoised: Tensor,
        target: Tensor,
        sigma: Tensor,
        thermostat_weight: float,
    ) -> Tensor:
        """Mean squared error of y, plus that of w, plus the weighted one of z; all σ alike [B]."""
        residual, z = _split((denoised - target).square())
        if self.history != "thermostat":
            thermostat_weight = 0.0
        return residual.mean((1, 2)).sum(-1) + thermostat_weight * z


class TransitionModel(ResidualKernel):
    """Network, noise and normalisation together.

    Args:
        types, normalisation, history: see `ResidualKernel`.
        network: see `NetworkConfig`.
        noise: see `NoiseConfig`.
    """

    kind: ClassVar[str] = "residual"

    def __init__(
        self,
        types: Sequence[str],
        normalisation: Normalisation,
        network: NetworkConfig = NetworkConfig(),
        noise: NoiseConfig = NoiseConfig(),
        history: History = "thermostat",
    ) -> None:
        super().__init__(types, normalisation, history)
        self.network_config, self.noise_config = network, noise
        self.noise = ResidualNoise(**vars(noise))
        self.network = EGT(len(self.types), **vars(network))

    @classmethod
    def from_settings(
        cls, types: Sequence[str], series: "Sequence[Series]", settings: Any
    ) -> "TransitionModel":
        """A new model for the series, with the sections of a config.

        Raises:
            InputError: the thermostat is to be handed on, and a series has none.
        """
        data = settings.data
        without = [s.name for s in series if s.thermostat is None]
        if data.history == "thermostat" and without:
            raise InputError(
                f"{without[0]}: the data have no thermostat; set data.history: acceleration"
            )
        normalisation = Normalisation.measure(
            series, data.train, data.lag_fs, data.acceleration_interval_fs
        )
        return cls(types, normalisation, settings.network, settings.noise, data.history)

    @classmethod
    def from_description(
        cls, model: dict[str, Any], normalisation: dict[str, Any]
    ) -> "TransitionModel":
        """A model with untrained weights, from the entries that `description` wrote."""
        built = cls(
            model["types"],
            Normalisation(**normalisation),
            NetworkConfig(**model["network"]),
            NoiseConfig(**model["noise"]),
            model["history"],
        )
        if model.get("friction", False):
            built.set_friction(torch.zeros(len(built.types)))
        if modes := model.get("modes"):
            built.modes = ModeFriction(**modes)
        if model.get("stretches", False):
            built.stretches = StretchFriction(len(built.types))
        return built

    def description(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """`model` and `normalisation` of the checkpoint's config."""
        model = {
            "types": self.types,
            "network": asdict(self.network_config),
            "noise": asdict(self.noise_config),
            "history": self.history,
            "friction": self.friction is not None,
            "modes": None if self.modes is None else self.modes.sizes,
            "stretches": self.stretches is not None,
        }
        return model, asdict(self.normalisation)

    def noise_scale(self, c: Condition) -> Tensor:
        """c(a) [B] of the forward process (docs/design.md, the noise)."""
        square = c.acceleration.square().sum((1, 2)) / (3 * c.mask.sum(1))
        return self.noise.scale(square, c.has_acceleration)

    def forward(self, c: Condition, noised: Tensor, sigma: Tensor) -> Tensor:
        """D(r; σ): noised rows [B, 6N + 1], σ [B] -> E[r | noised], the same shape."""
        skip = 1 / (1 + sigma.square())
        out = sigma * skip.sqrt()
        wide = (slice(None), None, None, None)
        residual, z = _split(noised)
        f, f_z = self.network(c, skip[wide] * residual, skip * z, sigma.log())
        denoised = project(c, skip[wide] * residual + out[wide] * f)
        return join(denoised, skip * z + out * f_z)


def _split(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows [B, 6N + 1] -> (y, w) [B, N, 3, 2] and z [B]."""
    return rows[:, :-1].unflatten(1, (-1, 3, 2)), rows[:, -1]


def join(residual: Tensor, z: Tensor) -> Tensor:
    """The inverse of `_split`."""
    return torch.cat([residual.flatten(1), z[:, None]], 1)


def project(c: Condition, residuals: Tensor) -> Tensor:
    """(I − uuᵀ) r with u_i ∝ √m_i: no displacement and no momentum of the centre of mass.

    residuals: [B, N, 3, ...]; padding comes out as zero.
    """
    u = c.mask / c.inverse_sqrt_mass
    u = (u / u.square().sum(1, keepdim=True).sqrt())[(..., *(None,) * (residuals.ndim - 2))]
    real = c.mask[(..., *(None,) * (residuals.ndim - 2))]
    return (residuals - u * (u * residuals).sum(1, keepdim=True)) * real
