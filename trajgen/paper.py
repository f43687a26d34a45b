"""The `paper` mode: DiffMD as published (Wu and Li, AAAI 2023), noise on positions.

The next positions x_{t+Δ} in Å are noised by dx = σ_a^s dw (`trajgen.sde.PaperNoise`), and the
network of `trajgen.egt_paper` sees these noised positions, the velocities v_t = (x_t − x_{t−Δ})/Δ
and the amount of noise, but not x_t. Sampling starts from x_t and runs from s = 1 to ε. With F the
network, of order 1,

    D(x; σ) = x + σ F(x, σ),   score = F/σ,   loss = ‖D − x_{t+Δ}‖²/σ² = σ² ‖score − ∇ ln p‖²,

the preconditioning of Karras et al. (EDM, 2022) in the limit of data much wider than the noise, and
the paper's weight of the loss. Only positions are generated: velocities are differences.

docs/paper-mode.md says what the prior does to a roll-out.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from shared.errors import InputError
from trajgen.egt_paper import PaperEGT
from trajgen.kernel import History, TransitionKernel
from trajgen.sde import PaperNoise

if TYPE_CHECKING:
    from trajgen.pairs import Series


@dataclass(frozen=True)
class PaperNetworkConfig:
    """Size and switches of `trajgen.egt_paper.PaperEGT`; the defaults are the paper's.

    Args:
        channels: width of the atoms' features.
        heads: attention heads.
        layers: number of layers.
        feed_forward: hidden width of the feed-forward networks.
        dropout: probability.
        cutoff: of the radial functions, in Å.
        degree: highest degree and order of the angular functions.
        roots: radial functions of each degree.
        angular: angular pair features (ablation switch).
    """

    channels: int = 128
    heads: int = 8
    layers: int = 6
    feed_forward: int = 2048
    dropout: float = 0.1
    cutoff: float = 1.6
    degree: int = 2
    roots: int = 2
    angular: bool = True


@dataclass(frozen=True)
class PaperNoiseConfig:
    """The forward process (`trajgen.sde.PaperNoise`); in brackets what the paper tries.

    Args:
        sigma: σ, Å (0.001 to 1).
        eta: η, strength of the acceleration conditioning (0.01 to 10).
        threshold: ā, (Å/fs²)², mean squared acceleration of an atom below which a molecule counts
            as calm (0.01 to 10); 0 turns the conditioning off.
        floor: smallest σ_a, Å.
        epsilon: ε, where sampling ends (0.1 to 0.99).
    """

    sigma: float = 1e-3
    eta: float = 1.0
    threshold: float = 1.0
    floor: float = 1e-5
    epsilon: float = 0.1


@dataclass(frozen=True)
class PaperConfig:
    """Network and noise of the `paper` mode.

    Args:
        network: see `PaperNetworkConfig`.
        noise: see `PaperNoiseConfig`.
    """

    network: PaperNetworkConfig = field(default_factory=PaperNetworkConfig)
    noise: PaperNoiseConfig = field(default_factory=PaperNoiseConfig)


@dataclass(frozen=True)
class PaperCondition:
    """What the next positions are conditioned on; B molecules padded to N atoms.

    types: index of the atom's class [B, N]. mask: real atoms [B, N] bool. positions: x_t [B, N, 3],
    Å; the network does not see them. velocities: (x_t − x_{t−Δ})/Δ [B, N, 3], Å/fs.
    squared_acceleration: mean of ‖a‖² over the atoms [B], (Å/fs²)², meaningless where
    `has_acceleration` [B] is 0. lag: Δ [B], fs.
    """

    types: Tensor
    mask: Tensor
    positions: Tensor
    velocities: Tensor
    squared_acceleration: Tensor
    has_acceleration: Tensor
    lag: Tensor


class PaperModel(TransitionKernel):
    """Network and noise together; a row holds the positions, M = 3N.

    Args:
        types: the atom classes known, in the order of the network's embedding.
        velocity: rms of a velocity component in the training data, Å/fs.
        network: see `PaperNetworkConfig`.
        noise: see `PaperNoiseConfig`.
    """

    kind: ClassVar[str] = "paper"
    pair_velocities: ClassVar[bool] = True

    def __init__(
        self,
        types: Sequence[str],
        velocity: float,
        network: PaperNetworkConfig = PaperNetworkConfig(),
        noise: PaperNoiseConfig = PaperNoiseConfig(),
    ) -> None:
        super().__init__()
        self.types, self.velocity = list(types), velocity
        self.network_config, self.noise_config = network, noise
        self.noise = PaperNoise(**vars(noise))
        self.history: History = "acceleration"
        self.network = PaperEGT(len(self.types), **vars(network))

    @classmethod
    def from_settings(
        cls, types: Sequence[str], series: "Sequence[Series]", settings: Any
    ) -> "PaperModel":
        """A new model for the series, with the sections of a config.

        Raises:
            InputError: more than one lag, or a thermostat to be handed on.
        """
        data, paper = settings.data, settings.paper
        if data.history != "acceleration":
            raise InputError(
                "the paper mode hands on no thermostat; set data.history: acceleration"
            )
        first, last = data.train
        squares = [np.nanmean(s.velocities[first:last].astype(float) ** 2) for s in series]
        return cls(types, float(np.sqrt(np.mean(squares))), paper.network, paper.noise)

    @classmethod
    def from_description(cls, model: dict[str, Any], normalisation: dict[str, Any]) -> "PaperModel":
        """A model with untrained weights, from the entries that `description` wrote."""
        network, noise = PaperNetworkConfig(**model["network"]), PaperNoiseConfig(**model["noise"])
        return cls(model["types"], normalisation["velocity"], network, noise)

    def description(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """`model` and `normalisation` of the checkpoint's config."""
        model = {
            "types": self.types,
            "network": asdict(self.network_config),
            "noise": asdict(self.noise_config),
        }
        return model, {"velocity": self.velocity}

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
    ) -> PaperCondition:
        """The state as it is; the thermostat is not used."""
        mask = torch.ones_like(types, dtype=torch.bool) if mask is None else mask
        like = torch.zeros_like(lag)
        if has_acceleration is None:
            has_acceleration = like if acceleration is None else like + 1
        square = like
        if acceleration is not None:
            square = acceleration.square().sum((1, 2)) / mask.sum(1)
        return PaperCondition(types, mask, positions, velocities, square, has_acceleration, lag)

    def encode(
        self, c: PaperCondition, positions: Tensor, velocities: Tensor, thermostat: Tensor | None
    ) -> Tensor:
        """The positions [B, N, 3] as rows [B, 3N]."""
        return positions.flatten(1)

    def decode(self, c: PaperCondition, rows: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Positions, their change over the lag as velocities, no thermostat."""
        positions = rows.unflatten(1, (-1, 3))
        return positions, (positions - c.positions) / c.lag[:, None, None], None

    def unchanged(self, c: PaperCondition) -> Tensor:
        """x_t."""
        return c.positions.flatten(1)

    def project(self, c: PaperCondition, rows: Tensor) -> Tensor:
        """Without the mean over the atoms, which a translation-invariant network cannot know."""
        x, real = rows.unflatten(1, (-1, 3)), c.mask[..., None]
        centre = (x * real).sum(1, keepdim=True) / real.sum(1, keepdim=True)
        return ((x - centre) * real).flatten(1)

    def noise_scale(self, c: PaperCondition) -> Tensor:
        """σ_a [B]."""
        return self.noise.scale(c.squared_acceleration, c.has_acceleration)

    def spread(self, masses: Tensor, lag: Tensor) -> tuple[Tensor, Tensor]:
        """The rms velocity over the lag, and itself; all atoms alike [B, N, 1]."""
        velocity = torch.full_like(masses, self.velocity)[..., None]
        return velocity * lag[:, None, None], velocity

    def loss(
        self,
        c: PaperCondition,
        denoised: Tensor,
        target: Tensor,
        sigma: Tensor,
        thermostat_weight: float,
    ) -> Tensor:
        """‖D − x_{t+Δ}‖²/σ² per coordinate [B]: 1 for a network that returns 0."""
        return (denoised - target).square().sum(1) / (3 * c.mask.sum(1) * sigma.square())

    def forward(self, c: PaperCondition, noised: Tensor, sigma: Tensor) -> Tensor:
        """D(x; σ): noised positions [B, 3N] in Å, σ [B] in Å -> E[x_{t+Δ} | noised]."""
        displacement = self.network(
            c.types,
            c.mask,
            noised.unflatten(1, (-1, 3)),
            c.velocities / self.velocity,
            sigma.log(),
            c.lag,
        )
        return noised + sigma[:, None] * displacement.flatten(1)
