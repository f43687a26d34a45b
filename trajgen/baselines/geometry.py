"""What all networks of this package see of a state: pairs of atoms, invariants, velocities.

Invariants of an atom are |v_t|² and the logarithm of the lag, besides its type. Geometry is that of
x_t, or of positions that the layers of a network have moved (`Moving`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shared.layers.pairs import Pairs, all_pairs
from shared.layers.radial import ExponentialBasis
from trajgen.egt import Condition

__all__ = ["RADIAL", "Geometry", "Moving", "PairMessages", "StateEmbedding", "perceptron"]

# Radial functions, and the length in Å that sets where they resolve distances.
RADIAL = 20
_DECAY_LENGTH = 1.5
# Lag in fs whose logarithm counts as zero.
_LAG = 5.0
# Share of their usual size that the last weights of kicks start with: nothing moves at first.
_QUIET = 0.1


@dataclass(frozen=True)
class Geometry(Pairs):
    """All pairs of B molecules padded to N atoms, pair (i, j) at [b, i, j].

    Unlike those of `all_pairs`, vectors are 0 where a pair is not valid, and so are directions.

    Attributes:
        radial: functions of the distance [B, N, N, RADIAL], 0 where a pair is not valid.
        partners: number of other atoms of the molecule [B, 1, 1], at least 1.
    """

    radial: Tensor
    partners: Tensor

    @classmethod
    def of(cls, positions: Tensor, mask: Tensor, basis: ExponentialBasis) -> "Geometry":
        """Of positions [B, N, 3], Å, of real atoms [B, N] bool; derivatives are finite."""
        pairs = all_pairs(positions, mask)
        real = pairs.valid[..., None]
        partners = (mask.sum(1) - 1).clamp(min=1).to(positions.dtype)[:, None, None]
        radial = basis(pairs.distances) * real
        return cls(mask, pairs.valid, pairs.vectors * real, pairs.distances, radial, partners)


def radial_basis() -> ExponentialBasis:
    """The functions of `Geometry.radial`."""
    return ExponentialBasis(_DECAY_LENGTH, RADIAL)


def perceptron(width: int, hidden: int, out: int, *, quiet: bool = False) -> nn.Sequential:
    """Two linear layers with SiLU between; `quiet` ones are without bias and start small."""
    last = nn.Linear(hidden, out, bias=not quiet)
    if quiet:
        with torch.no_grad():
            last.weight.mul_(_QUIET)
    return nn.Sequential(nn.Linear(width, hidden), nn.SiLU(), last)


class StateEmbedding(nn.Module):
    """Scalars of the atoms from their types and invariants.

    Args:
        n_types: number of types.
        channels: width of the scalars.
        speed: take |v_t|²; otherwise type and lag alone.
    """

    def __init__(self, n_types: int, channels: int, speed: bool = True) -> None:
        super().__init__()
        self.types = nn.Embedding(n_types, channels)
        self.invariants = nn.Linear(1 + speed, channels)
        self.speed = speed

    def forward(self, c: Condition) -> Tensor:
        """Condition -> [B, N, channels]."""
        lag = (c.lag / _LAG).log()[:, None].expand(c.types.shape)
        invariants = [lag, c.velocities.square().sum(-1)] if self.speed else [lag]
        return self.types(c.types) + self.invariants(torch.stack(invariants, -1))


class PairMessages(nn.Module):
    """m_ij = φ(h_i, h_j, f_ij), a perceptron that ends in SiLU (EGNN, Eq. 3).

    The first layer is linear in each of its inputs, so h is mapped per atom and not per pair.

    Args:
        channels: width of h and of m.
        features: width of f_ij besides `Geometry.radial`.
    """

    def __init__(self, channels: int, features: int = 0) -> None:
        super().__init__()
        self.receiver = nn.Linear(channels, channels)
        self.sender = nn.Linear(channels, channels, bias=False)
        self.pair = nn.Linear(RADIAL + features, channels, bias=False)
        self.mix = nn.Linear(channels, channels)

    def forward(self, h: Tensor, features: Tensor, valid: Tensor) -> Tensor:
        """h [B, N, C], f [B, N, N, ·], pairs that are [B, N, N] -> m [B, N, N, C], else 0."""
        first = self.receiver(h)[:, :, None] + self.sender(h)[:, None] + self.pair(features)
        m = nn.functional.silu(self.mix(nn.functional.silu(first)))
        return m * valid[..., None]


class Moving(nn.Module):
    """Networks whose layers move the atoms: each measures its geometry where they have got to.

    Layer k of L sees the atoms after a share (k − 1)/(L − 1) of inertial flight and displaced by
    the kicks of the layers before: x^k of these models, read as dynamics over the lag.

    Args:
        embedding: of the scalars, from a condition.
        layers: each called as layer(h, condition, geometry), returns h and its kick [B, N, 3, 2].
    """

    def __init__(self, embedding: nn.Module, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.embedding = embedding
        self.layers = nn.ModuleList(layers)
        self.basis = radial_basis()

    def forward(self, c: Condition) -> Tensor:
        """Condition -> standardised residuals (y, w) [B, N, 3, 2]."""
        per_rootm = c.inverse_sqrt_mass[..., None]
        flight = c.flight[:, None, None] * per_rootm * c.velocities
        step = c.step[:, None, None] * per_rootm
        h = self.embedding(c)
        kicks = torch.zeros_like(c.positions)[..., None].repeat(1, 1, 1, 2)
        for depth, layer in enumerate(self.layers):
            share = depth / max(1, len(self.layers) - 1)
            positions = c.positions + share * flight + step * kicks[..., 0]
            h, kick = layer(h, c, Geometry.of(positions, c.mask, self.basis))
            kicks = kicks + kick
        return kicks
