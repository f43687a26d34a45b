"""EGT, the equivariant geometric Transformer: the score network of the `residual` mode.

After Wu and Li (DiffMD, AAAI 2023, section 3.3): attention over all pairs of atoms, whose pair
features are the distance and the angles that vectors of atom i and of atom j make with the line
i-j, dihedral included; velocities, then positions, then features are updated layer by layer.
What differs from the paper, and why, is in docs/design.md. In short:

* The vectors are K learned channels u_i [3, K] per atom that start as the velocity, the
  acceleration and the noised residuals. Their angular features with the unit vector r̂ from i to j
  are the polynomials P_i = u_i·r̂, P_j = u_j·r̂ and D = u_i·u_j - P_i P_j, that is |u| cos θ,
  |u'| cos θ' and |u||u'| sin θ sin θ' cos φ with φ the dihedral: the degree-1 part of the paper's
  spherical Fourier-Bessel features (the radial basis carries the rest), smooth where an angle is
  undefined and even in φ, hence reflection-equivariant.
* Geometry starts from the clean frame. Each layer adds a learned kick to the velocities and a
  learned drift to the positions, and the next layer measures its distances there, so that a layer
  reads as one learned step of dynamics over its share of the lag.
* Weights of vectors are signed: softmax weight times a learned gate.

Everything is a function of differences of positions (translation), of inner products and of
linear maps of vectors (rotation, reflection), and of sums over atoms (permutation).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared.layers.attention import masked_softmax, pair_mask
from shared.layers.radial import ExponentialBasis

# Decay of the attention with distance, per Å: far pairs matter less before anything is learned.
_ATTENTION_DECAY = 0.5
_RADIAL_DECAY_LENGTH = 1.5


@dataclass(frozen=True)
class Condition:
    """What the next state is conditioned on; B molecules padded to N atoms, standardised vectors.

    types: index of the atom's class [B, N]. mask: real atoms [B, N] bool. positions: x_t [B, N, 3]
    in Å. inverse_sqrt_mass: [B, N], amu^-1/2. velocities: v_t √m / velocity scale [B, N, 3].
    acceleration: a_t √m / acceleration scale [B, N, 3], zero where `has_acceleration` [B] is 0.
    thermostat: ξ_t / its scale [B], zero where `has_thermostat` [B] is 0. lag: Δ in fs [B].
    flight: Å per unit of standardised velocity over the whole lag [B]. step: ℓ(Δ), Å amu^1/2 [B].
    """

    types: Tensor
    mask: Tensor
    positions: Tensor
    inverse_sqrt_mass: Tensor
    velocities: Tensor
    acceleration: Tensor
    has_acceleration: Tensor
    thermostat: Tensor
    has_thermostat: Tensor
    lag: Tensor
    flight: Tensor
    step: Tensor


class EGTLayer(nn.Module):
    """One layer: pair geometry, attention, update of vectors and scalars, kick and drift.

    Args:
        channels: C, width of the scalars. vectors: K, vector channels. heads: H, divides C and K.
        directions: Q, vector channels whose angles enter the pair features (0: none).
        radial: width of the radial basis.
    """

    def __init__(self, channels: int, vectors: int, heads: int, directions: int, radial: int):
        super().__init__()
        self.vectors, self.heads, self.directions = vectors, heads, directions
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels, bias=False)
        self.pair = nn.Linear(radial + 3 * directions, channels, bias=False)
        if directions:
            self.direction = nn.Linear(vectors, directions, bias=False)
        self.weights = nn.Linear(channels, 2 * vectors + heads)
        self.value = nn.Linear(channels, channels)
        self.left = nn.Linear(vectors, vectors, bias=False)
        self.right = nn.Linear(vectors, vectors, bias=False)
        change = nn.Linear(channels, channels + 2 * vectors)
        self.update = nn.Sequential(nn.Linear(channels + vectors, channels), nn.SiLU(), change)
        self.kick = nn.Linear(vectors, 2, bias=False)
        self.norm = nn.LayerNorm(channels)
        self.update_norm = nn.LayerNorm(channels)
        self.product_norm = nn.LayerNorm(vectors)
        # Small residual branches keep a deep stack of products of vectors finite at the start.
        with torch.no_grad():
            for module in (self.weights, self.value, change, self.kick):
                module.weight.mul_(0.3)

    def forward(
        self, h: Tensor, u: Tensor, positions: Tensor, radial: nn.Module, pairs: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """h [B,N,C], u [B,N,3,K], positions [B,N,3], pairs [B,N,N] bool -> h, u, kick [B,N,3,2]."""
        separation = positions[:, None] - positions[:, :, None]
        square = (separation * separation).sum(-1)
        distance = torch.where(pairs, square, 1.0).sqrt()
        unit = (separation / distance[..., None])[..., None]  # r̂_ij from i to j [B,N,N,3,1]

        features = [radial(distance)]
        if self.directions:
            d = self.direction(u)
            d = d * torch.rsqrt(1 + d.square().sum(2, keepdim=True) / 3)  # bounded, smooth at 0
            here, there = d[:, :, None], d[:, None]
            along_here, along_there = (unit * here).sum(3), (unit * there).sum(3)
            across = (here * there).sum(3) - along_here * along_there
            features += [along_here, along_there, across]
        normed = self.norm(h)
        e = self.query(normed)[:, :, None] + self.key(normed)[:, None]
        e = functional.silu(e + self.pair(torch.cat(features, -1)))

        push, pull, logits = self.weights(e).split([self.vectors, self.vectors, self.heads], -1)
        logits = logits - _ATTENTION_DECAY * distance[..., None]
        alpha = masked_softmax(logits, pairs[..., None], 2)
        wide = alpha.repeat_interleave(self.vectors // self.heads, -1)
        vectors = (wide * push)[:, :, :, None] * unit + (wide * pull)[:, :, :, None] * u[:, None]
        u = u + vectors.sum(2)
        e = e * alpha.repeat_interleave(e.shape[-1] // self.heads, -1)
        h = h + self.value(e.sum(2))

        left, right = self.left(u), self.right(u)
        invariants = self.product_norm((left * right).sum(2))
        change = self.update(torch.cat([self.update_norm(h), invariants], -1))
        channels, k = h.shape[-1], self.vectors
        dh, scale, mix = change.split([channels, k, k], -1)
        h = h + dh
        u = u * (1 + 0.1 * torch.tanh(scale))[:, :, None] + left * mix[:, :, None]
        return h, u, self.kick(u)


class EGT(nn.Module):
    """The network: conditions and noised residuals in, residuals (up to preconditioning) out.

    Args:
        n_types: number of atom classes known.
        channels, vectors, heads, directions, radial: as in `EGTLayer`.
        layers: number of layers.
        acceleration: take the acceleration (ablation: off).
        angular: angular pair features (ablation: off).
    """

    # |v|², v·a, |a|², v·y, |y|², v·w, |w|², y·w of the atom; flags, ξ, noise, lag and the
    # molecule's means of the first three.
    _NODE_INPUTS = 8 + 9

    def __init__(
        self,
        n_types: int,
        channels: int = 64,
        vectors: int = 32,
        heads: int = 8,
        directions: int = 8,
        radial: int = 20,
        layers: int = 4,
        acceleration: bool = True,
        angular: bool = True,
    ) -> None:
        super().__init__()
        if channels % heads or vectors % heads:
            raise ValueError(
                f"heads ({heads}) must divide channels ({channels}) and vectors ({vectors})"
            )
        self.acceleration = acceleration
        self.radial = ExponentialBasis(_RADIAL_DECAY_LENGTH, radial)
        self.types = nn.Embedding(n_types, channels)
        self.nodes = nn.Sequential(
            nn.Linear(self._NODE_INPUTS, channels), nn.SiLU(), nn.Linear(channels, channels)
        )
        self.vectors = nn.Linear(6, vectors, bias=False)
        width = directions if angular else 0
        self.layers = nn.ModuleList(
            EGTLayer(channels, vectors, heads, width, radial) for _ in range(layers)
        )
        self.gate = nn.Linear(channels, 2 * vectors)
        self.residuals = nn.Linear(vectors, 2, bias=False)
        self.thermostat = nn.Sequential(
            nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, 1)
        )

    def forward(
        self, condition: Condition, noised: Tensor, noised_thermostat: Tensor, log_sigma: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Noised residuals (y, w) [B,N,3,2] and (ξ) [B], ln σ [B] -> the same shapes."""
        c = condition
        real = c.mask[..., None].to(noised.dtype)
        v = c.velocities * real
        a = c.acceleration * real * (c.has_acceleration[:, None, None] if self.acceleration else 0)
        y, w = noised[..., 0] * real, noised[..., 1] * real
        rootm = c.inverse_sqrt_mass[..., None]

        def dot(p: Tensor, q: Tensor) -> Tensor:
            return (p * q).sum(-1)

        own = torch.stack(
            [
                dot(v, v),
                dot(v, a),
                dot(a, a),
                dot(v, y),
                dot(y, y),
                dot(v, w),
                dot(w, w),
                dot(y, w),
            ],
            -1,
        )
        means = own[..., :3].sum(1) / c.mask.sum(1, keepdim=True)
        known_a = c.has_acceleration if self.acceleration else torch.zeros_like(c.lag)
        whole = torch.stack(
            [
                known_a,
                c.has_thermostat,
                c.thermostat * c.has_thermostat,
                noised_thermostat,
                log_sigma / 4,
                (c.lag / 5).log(),
            ],
            -1,
        )
        whole = torch.cat([whole, means], -1)[:, None].expand(*own.shape[:2], -1)
        h = self.types(c.types) + self.nodes(torch.cat([own, whole], -1))
        u = self.vectors(torch.stack([v, 3 * rootm * v, a, 3 * rootm * a, y, w], -1))

        pairs = pair_mask(c.mask)
        flight = c.flight[:, None, None] * rootm * v / len(self.layers)
        step = c.step[:, None, None] * rootm
        kicks = torch.zeros_like(noised)
        positions = c.positions
        for depth, layer in enumerate(self.layers, start=1):
            h, u, kick = layer(h, u, positions, self.radial, pairs)
            kicks = kicks + kick
            positions = c.positions + depth * flight + step * kicks[..., 0]

        gates = 1 + self.gate(h).unflatten(-1, (2, -1))  # [B,N,2,K]
        weights = gates * self.residuals.weight
        out = kicks + (u[:, :, :, None] * weights[:, :, None]).sum(-1)
        thermostat = (self.thermostat(h) * real).sum((1, 2)) / c.mask.sum(1)
        return out, thermostat
