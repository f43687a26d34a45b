"""EGT of the `paper` mode: the score network of DiffMD as published (Wu and Li, AAAI 2023, 3.3).

Positions come in with their noise, and every layer l measures its geometry on the positions that
the layer before has left. With f_ij the spherical Fourier-Bessel features of (distance, angle of
v_i to the line i-j, dihedral v_i-ij-v_j), and f'_ij those of (distance, angle of v_j, the same
dihedral), the order is velocities, positions, features:

    α_ij = softmax_j ⟨q(h_i, f_ij), k(h_j, f'_ij)⟩ / √d                      (all atoms j ≠ i)
    v_i <- φ_v(h_i) v_i + Σ_j α_ij g_ij x̃_ij,       x_i <- x_i + φ_x(h_i) v_i,
    h_i <- h_i + Σ_j α_ij u_ij,                     h_i <- h_i + FFN(h_i),

where x̃_ij = x_ij/√(x_ij² + 1 Å²), bounded and smooth for atoms that noise has put on each other.
The result is x^L - x^0. What the paper leaves open, or cannot mean, is read so:

* The gates g_ij are signed: softmax weights alone would make every pair repel. q, k and g see the
  pair features, and j = i is masked.
* h is normalised before each of its two residual branches, φ and g are linear in their input.
* The features of the last layer gate the displacement, 1 + φ(h_i^L): they would go unused.
* The displacement is centred, which makes it invariant to translation together with the input: of
  the centre's noise the network can know nothing.
* The acceleration is no input. It acts through the amount of noise (`sde.PaperNoise`), of which
  ln σ is an input.
"""

import torch
from torch import Tensor, nn

from shared.layers.attention import EquivariantAttention
from shared.layers.radial import safe_norm
from shared.layers.spherical import SphericalFourierBessel, soft_unit

# Length in Å below which the vector between two atoms counts as short.
_SOFT_LENGTH = 1.0
# Initial share of a velocity, of unit size, that moves a position, in Å.
_FIRST_STEP = 0.1


class PaperLayer(nn.Module):
    """One layer: attention, then velocities, positions and features.

    Args:
        channels: C, width of h, a multiple of `heads`.
        heads: attention heads.
        pair_features: width of f and f'.
        feed_forward: hidden width of the feed-forward network.
        dropout: probability, on both residual branches of h.
    """

    def __init__(
        self, channels: int, heads: int, pair_features: int, feed_forward: int, dropout: float
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.attention = EquivariantAttention(channels, pair_features, pair_features, heads=heads)
        self.motion = nn.Linear(channels, 2)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(channels),
            nn.Linear(channels, feed_forward),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(feed_forward, channels),
        )
        self.dropout = nn.Dropout(dropout)
        # At the start velocities are kept and positions drift, about alike for all atoms.
        with torch.no_grad():
            self.motion.weight.mul_(0.1)
            self.motion.bias.zero_()

    def forward(
        self, h: Tensor, x: Tensor, v: Tensor, basis: SphericalFourierBessel, mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """h [B, N, C], positions x and velocities v [B, N, 3], mask [B, N] -> new h, x, v."""
        edges = x[:, None] - x[:, :, None]  # from i to j [B, N, N, 3]
        here, there = v[:, :, None].expand_as(edges), v[:, None].expand_as(edges)
        normed = self.norm(h)
        message, push = self.attention(
            normed,
            basis(edges, here, there),
            basis(edges, there, here),
            soft_unit(edges, _SOFT_LENGTH).unsqueeze(-2),
            mask,
        )
        keep, step = self.motion(normed).split(1, -1)
        v = (1 + keep) * v + push.squeeze(-2)
        x = x + (_FIRST_STEP + step) * v
        h = h + self.dropout(message)
        return h + self.dropout(self.feed_forward(h)), x, v


class PaperEGT(nn.Module):
    """The score network of the `paper` mode, up to preconditioning.

    The defaults are the hyper-parameters of the paper.

    Args:
        n_types: number of atom classes (or elements) known.
        channels: C, a multiple of `heads`.
        heads: attention heads.
        layers: L.
        feed_forward: hidden width of the feed-forward networks.
        dropout: probability.
        cutoff: of the radial functions, in Å; attention itself reaches all atoms.
        degree: highest degree and order of the angular functions.
        roots: number of radial functions of each degree.
        softening: speed below which angles fade, in the unit of the velocities given.
        angular: False keeps the radial Bessel functions only (ablation).

    Raises:
        ValueError: channels not a multiple of heads.
    """

    def __init__(
        self,
        n_types: int,
        channels: int = 128,
        heads: int = 8,
        layers: int = 6,
        feed_forward: int = 2048,
        dropout: float = 0.1,
        cutoff: float = 1.6,
        degree: int = 2,
        roots: int = 2,
        softening: float = 0.1,
        angular: bool = True,
    ) -> None:
        super().__init__()
        self.basis = SphericalFourierBessel(
            cutoff, lmax=degree if angular else 0, n_roots=roots, softening=softening
        )
        self.types = nn.Embedding(n_types, channels)
        self.nodes = nn.Sequential(nn.Linear(3, channels), nn.SiLU(), nn.Linear(channels, channels))
        self.layers = nn.ModuleList(
            PaperLayer(channels, heads, self.basis.n_features, feed_forward, dropout)
            for _ in range(layers)
        )
        self.gate = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, 1))

    def forward(
        self,
        types: Tensor,
        mask: Tensor,
        positions: Tensor,
        velocities: Tensor,
        log_sigma: Tensor,
        lag: Tensor,
    ) -> Tensor:
        """Where the noised positions should go.

        Args:
            types: class of each atom [B, N] int64, any on padding.
            mask: real atoms [B, N] bool.
            positions: x_{t+Δ} with noise [B, N, 3] in Å.
            velocities: v_t [B, N, 3], scaled to a typical size of 1.
            log_sigma: ln of the noise's standard deviation [B], σ in Å.
            lag: Δ in fs [B].

        Returns:
            x^L - x^0 [B, N, 3] in Å, without the mean over the atoms; 0 on padding.
        """
        real = mask.unsqueeze(-1).to(positions.dtype)
        v = velocities * real
        whole = torch.stack([log_sigma / 4, lag.log()], -1)[:, None].expand(*types.shape, 2)
        h = self.types(types) + self.nodes(torch.cat([safe_norm(v)[..., None], whole], -1))
        x = positions
        for layer in self.layers:
            h, x, v = layer(h, x, v, self.basis, mask)
        displacement = (1 + self.gate(h)) * (x - positions) * real
        centre = displacement.sum(1, keepdim=True) / real.sum(1, keepdim=True)
        return (displacement - centre) * real
