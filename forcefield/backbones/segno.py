"""SEGNO: one shared equivariant layer, iterated as second-order dynamics in latent space.

Liu et al., ICLR 2024 (arXiv:2308.13212). Their layer is that of EGNN (Satorras et al., ICML 2021)
read as an acceleration, and its iteration, with the same weights every time, as the solution of
Newton's equation over one interval:

    m_ij = φ_e(h_i, h_j, lengths of Δ_ij) u(r_ij),   Δ_ij = q_j - q_i
    p_i ← p_i + τ Σ_j φ_x(m_ij) Δ_ij,   q_i ← q_i + τ p_i,   h_i ← h_i + τ φ_h(h_i, Σ_j m_ij)

The published model predicts future positions and has no energy. Here the same dynamics is a feature
extractor: q starts at the positions and p at rest, what moves are latent copies of the atoms, and
the energy is read from the final scalars.

Differences that follow from it: there are K latent copies of the molecule instead of one, so that
their distances carry more than one direction per atom; u is an envelope of the real distance, so
that the features are smooth at the cutoff wherever the latent atoms are; φ_e sees the real distance
in a radial basis and the latent ones through exp(-length), softened at zero; Δ is divided by
1 + its length, and p by sqrt(1 + p²) where it moves q, so that no copy runs away.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared.errors import InputError
from shared.layers.fields import one_hot
from shared.layers.normalisation import bounded, soft_length
from shared.layers.pairs import Pairs
from shared.layers.radial import BesselBasis, polynomial_envelope

__all__ = ["SEGNO", "SEGNOConfig"]

# Below this latent lengths round off, Å; they are never exactly zero.
_SOFTENING = 0.2


@dataclass(frozen=True)
class SEGNOConfig:
    """Size of a SEGNO.

    Args:
        cutoff: Å.
        channels: C, width of the scalars.
        vectors: K, latent copies of the positions.
        steps: number of times that the shared layer is applied.
        time: length of the interval, steps · τ.
        bessel: radial basis functions.
        envelope_exponent: p of the envelope that ends at the cutoff.
        neighbours: n̄, typical number of atoms within the cutoff.

    Raises:
        InputError: a value is out of its range.
    """

    cutoff: float = 5.0
    channels: int = 64
    vectors: int = 16
    steps: int = 4
    time: float = 4.0
    bessel: int = 8
    envelope_exponent: int = 6
    neighbours: float = 14.0

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if not (value := getattr(self, name)) > 0:
                raise InputError(f"segno.{name}: must be positive, got {value}")


class SEGNOLayer(nn.Module):
    """The shared layer: accelerations of the latent copies and rate of the scalars."""

    def __init__(self, config: SEGNOConfig) -> None:
        super().__init__()
        c, k = config.channels, config.vectors
        self.scale = 1 / math.sqrt(config.neighbours)
        self.norm = nn.LayerNorm(c)
        self.ends = nn.Linear(c, 2 * c)
        self.lengths = nn.Linear(k, c, bias=False)
        self.edge = nn.Linear(c, c)
        self.push = nn.Linear(c, k, bias=False)
        self.node = nn.Sequential(nn.Linear(2 * c, c), nn.SiLU(), nn.Linear(c, c))

    def forward(
        self, h: Tensor, displacements: Tensor, radial: Tensor, pairs: Pairs, envelope: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Rates of change.

        Args:
            h: scalars [B, N, C].
            displacements: q - x [B, N, 3, K], Å.
            radial: what φ_e sees of the real distances [B, N, N, C].
            pairs: real geometry.
            envelope: u [B, N, N, 1].

        Returns:
            Accelerations [B, N, 3, K] and dh [B, N, C].
        """
        separations = pairs.vectors[..., None] + displacements[:, None] - displacements[:, :, None]
        length = torch.sqrt(separations.square().sum(-2) + _SOFTENING**2)
        normed = self.norm(h)
        of_i, of_j = self.ends(normed).chunk(2, -1)
        hidden = of_i[:, :, None] + of_j[:, None] + radial + self.lengths(torch.exp(-length))
        messages = functional.silu(self.edge(functional.silu(hidden))) * envelope
        push = self.push(messages) / (1 + length)
        pulled = (push[..., None, :] * separations).sum(2)
        gathered = self.scale * messages.sum(2)
        rate = self.node(torch.cat([normed, gathered], -1))
        return self.scale * pulled, rate


class SEGNO(nn.Module):
    """The backbone: see the module's docstring.

    Args:
        n_types: number of elements.
        config: sizes.

    Attributes:
        channels: C.
        lmax_out: 1, the latent velocities; they are K wide, the scalars C.
    """

    def __init__(self, n_types: int, config: SEGNOConfig) -> None:
        super().__init__()
        c = config.channels
        self.n_types, self.config = n_types, config
        self.channels, self.lmax_out = c, 1
        self.bessel = BesselBasis(config.cutoff, config.bessel, config.envelope_exponent)
        self.radial = nn.Linear(config.bessel, c, bias=False)
        self.embedding = nn.Parameter(torch.randn(n_types, c))
        self.layer = SEGNOLayer(config)
        self.output = nn.Sequential(nn.Linear(c + config.vectors, c), nn.SiLU(), nn.Linear(c, c))

    def forward(self, types: Tensor, pairs: Pairs) -> tuple[Tensor, list[Tensor]]:
        """See `forcefield.backbones.protocol.Backbone`."""
        config = self.config
        scaled = pairs.distances / config.cutoff
        envelope = polynomial_envelope(scaled, config.envelope_exponent) * pairs.valid
        radial = self.radial(self.bessel(pairs.distances))
        h = one_hot(types, self.n_types, pairs.distances) @ self.embedding
        velocities = pairs.distances.new_zeros(*types.shape, 3, config.vectors)
        displacements = velocities
        step = config.time / config.steps
        for _ in range(config.steps):
            accelerations, rate = self.layer(h, displacements, radial, pairs, envelope[..., None])
            velocities = velocities + step * accelerations
            displacements = displacements + step * bounded([velocities])[0]
            h = h + step * rate
        h = h + self.output(torch.cat([h, soft_length(velocities)], -1))
        return h, [h.unsqueeze(-2), velocities]
