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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from trajgen.egt import EGT, Condition
from trajgen.sde import ResidualNoise


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


History = Literal["thermostat", "acceleration"]


class TransitionModel(nn.Module):
    """Network, noise and normalisation together.

    Args:
        types: the atom classes known, in the order of the network's embedding.
        normalisation: see `Normalisation`.
        network: see `NetworkConfig`.
        noise: see `NoiseConfig`.
        history: what a roll-out hands on from step to step besides positions and velocities: the
            thermostat friction, which the model then predicts with the rest, or the acceleration
            (v_t − v_{t−Δ})/Δ.
    """

    def __init__(
        self,
        types: Sequence[str],
        normalisation: Normalisation,
        network: NetworkConfig = NetworkConfig(),
        noise: NoiseConfig = NoiseConfig(),
        history: History = "thermostat",
    ) -> None:
        super().__init__()
        self.types = list(types)
        self.normalisation = normalisation
        self.network_config, self.noise_config, self.history = network, noise, history
        self.noise = ResidualNoise(**vars(noise))
        self.network = EGT(len(self.types), **vars(network))

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
        return tuple((v[right - 1].lerp(v[right], share)).exp() for v in (step, kick))

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
        """Standardise a state.

        Args:
            types: [B, N] index into `types`. masses: [B, N] amu (1 at padding).
            positions: [B, N, 3] Å. velocities: [B, N, 3] Å/fs. lag: [B] fs.
            acceleration: [B, N, 3] Å/fs². thermostat: ξ [B] 1/fs.
            has_acceleration, has_thermostat: [B] 0 or 1; default 1 where the value is given.
            mask: [B, N] bool; default all atoms real.
        """
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

    def residual(
        self, c: Condition, positions: Tensor, velocities: Tensor, thermostat: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The residual of a next state: (y, w) [B, N, 3, 2] and z [B]."""
        rootm = 1 / c.inverse_sqrt_mass[..., None]
        step, kick = (scale[:, None, None] for scale in self.scales(c.lag))
        was = c.velocities * self.normalisation.velocity
        flight = c.lag[:, None, None] * was
        y = ((positions - c.positions) * rootm - flight) / step
        w = (velocities * rootm - was) / kick
        return project(c, torch.stack([y, w], -1)), thermostat / self.normalisation.thermostat

    def advance(
        self, c: Condition, residual: Tensor, thermostat: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The inverse of `residual`: next positions, velocities [B, N, 3] and ξ [B]."""
        per_rootm = c.inverse_sqrt_mass[..., None]
        step, kick = (scale[:, None, None] for scale in self.scales(c.lag))
        was = c.velocities * self.normalisation.velocity
        positions = c.positions + per_rootm * (c.lag[:, None, None] * was + step * residual[..., 0])
        velocities = per_rootm * (was + kick * residual[..., 1])
        return positions, velocities, thermostat * self.normalisation.thermostat

    def noise_scale(self, c: Condition) -> Tensor:
        """c(a) [B] of the forward process (docs/design.md, the noise)."""
        square = c.acceleration.square().sum((1, 2)) / (3 * c.mask.sum(1))
        return self.noise.scale(square, c.has_acceleration)

    def white_noise(
        self, c: Condition, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Standard normal noise in the space of residuals: [B, N, 3, 2], projected, and [B]."""
        like = c.positions
        options: dict[str, Any] = {
            "generator": generator,
            "dtype": like.dtype,
            "device": like.device,
        }
        return (
            project(c, torch.randn(*like.shape, 2, **options)),
            torch.randn(len(like), **options),
        )

    def forward(
        self, c: Condition, noised: Tensor, noised_thermostat: Tensor, sigma: Tensor
    ) -> tuple[Tensor, Tensor]:
        """D(r; σ): noised residuals [B, N, 3, 2] and [B], σ [B] -> E[r | noised], same shapes."""
        skip = 1 / (1 + sigma.square())
        out = sigma * skip.sqrt()
        wide = (slice(None), None, None, None)
        f, f_thermostat = self.network(
            c, skip[wide] * noised, skip * noised_thermostat, sigma.log()
        )
        denoised = project(c, skip[wide] * noised + out[wide] * f)
        return denoised, skip * noised_thermostat + out * f_thermostat


def project(c: Condition, residuals: Tensor) -> Tensor:
    """(I − uuᵀ) r with u_i ∝ √m_i: no displacement and no momentum of the centre of mass.

    residuals: [B, N, 3, ...]; padding comes out as zero.
    """
    u = c.mask / c.inverse_sqrt_mass
    u = (u / u.square().sum(1, keepdim=True).sqrt())[(..., *(None,) * (residuals.ndim - 2))]
    real = c.mask[(..., *(None,) * (residuals.ndim - 2))]
    return (residuals - u * (u * residuals).sum(1, keepdim=True)) * real
