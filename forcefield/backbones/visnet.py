"""ViSNet: vector-scalar interactive attention with geometry computed at run time.

Wang et al., Nat. Commun. 15, 313 (2024). Atoms carry scalars h [C] and vectors v^(l) [2l+1, C] for
l = 1..lmax, pairs carry f_ij [C]. No angle or dihedral is ever listed: they enter as products of an
atom's vectors with each other (their Eq. 2-3) and of the parts of v_i and v_j across the line i-j
(Eq. 5-6), which cost as much as the pairs. A layer:

    f_ij ← f_ij + silu(W f_ij) Σ_l ⟨(A v_i)⊥, (B v_j)⊥⟩, ⊥ the rejection from Y_l(r̂_ij)
    a_ij = silu(Σ_head q_i k_j silu(D_k f_ij)) u(r_ij),   m_ij = a_ij val_j silu(D_v f_ij)
    s1_ij, s2_ij = silu(W_s m_ij),   o1, o2, o3 = W_o Σ_j m_ij
    h_i ← h_i + ⟨V1 v_i, V2 v_i⟩ o2 + o3
    v_i ← v_i + V3 v_i o1 + Σ_j (s1_ij v_j + s2_ij Y(r̂_ij))

with u the envelope that ends at the cutoff. The start is ViSNet's: f_ij = (h_i + h_j) W b(r_ij)
with radial basis functions b in exp(-r), and h from the elements of the atom and its neighbours.

Differences from the published model, all for smoothness and boundedness: the envelope is a
polynomial with two flat derivatives, W_s has no bias (it would be left over at the cutoff), pairs
are updated from the vectors before attention and not after, where those of the first layer would
still be zero, vectors are bounded by a smooth norm and not by their largest and smallest, and sums
over neighbours are divided by sqrt(n̄). Lengths of vectors enter the scalars at the end, as in the
published output block, by a function that is smooth at zero.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shared.errors import InputError
from shared.layers.convolution import scaled_silu
from shared.layers.fields import FieldLinear, Harmonics, one_hot
from shared.layers.heads import Heads
from shared.layers.normalisation import bounded, soft_length
from shared.layers.pairs import Pairs
from shared.layers.radial import ExponentialBasis, polynomial_envelope

__all__ = ["ViSNet", "ViSNetConfig"]


@dataclass(frozen=True)
class ViSNetConfig:
    """Size of a ViSNet.

    Args:
        cutoff: Å.
        channels: C, a multiple of `heads`.
        layers: number of layers.
        lmax: highest degree of the vectors, at least 1.
        heads: of the attention.
        n_basis: radial basis functions.
        envelope_exponent: p of the envelope that ends at the cutoff.
        neighbours: n̄, typical number of atoms within the cutoff.

    Raises:
        InputError: a value is out of its range.
    """

    cutoff: float = 5.0
    channels: int = 64
    layers: int = 3
    lmax: int = 2
    heads: int = 8
    n_basis: int = 16
    envelope_exponent: int = 6
    neighbours: float = 14.0

    def __post_init__(self) -> None:
        for name in ("cutoff", "channels", "layers", "lmax", "heads", "neighbours"):
            if not (value := getattr(self, name)) > 0:
                raise InputError(f"visnet.{name}: must be positive, got {value}")
        if self.n_basis < 2:
            raise InputError(f"visnet.n_basis: at least 2 functions, got {self.n_basis}")
        if self.channels % self.heads:
            raise InputError(
                f"visnet.channels: {self.channels} is no multiple of heads ({self.heads})"
            )


def _linear(n_in: int, n_out: int, bias: bool = True) -> nn.Linear:
    """A layer that keeps the variance: a vector's message is a product of five of them."""
    layer = nn.Linear(n_in, n_out, bias=bias)
    nn.init.normal_(layer.weight, std=1 / math.sqrt(n_in))
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


@dataclass(frozen=True)
class _Geometry:
    """Of all pairs: Y_l/sqrt(2l + 1) for l = 1..lmax, and the envelope u [B, N, N, 1]."""

    harmonics: Sequence[Tensor]
    envelope: Tensor


class ViSNetLayer(nn.Module):
    """One layer; the `first` has no vectors to start from."""

    def __init__(self, config: ViSNetConfig, first: bool) -> None:
        super().__init__()
        c = config.channels
        self.first, self.lmax = first, config.lmax
        self.scale = 1 / math.sqrt(config.neighbours)
        # Sums over the components of all vectors have about this size.
        self.components = math.sqrt((config.lmax + 1) ** 2 - 1)
        self.logit_scale = math.sqrt(config.heads / c)
        self.heads = Heads(c, config.heads)
        self.norm = nn.LayerNorm(c)
        self.atoms = _linear(c, 3 * c)
        self.pairs = _linear(c, 2 * c)
        self.output = _linear(c, c if first else 3 * c)
        if first:
            self.messages = _linear(c, c, bias=False)
        else:
            self.messages = _linear(c, 2 * c, bias=False)
            self.vectors = FieldLinear([c] * config.lmax, [5 * c] * config.lmax)
            self.pair_update = _linear(c, c)

    def forward(
        self, h: Tensor, v: list[Tensor], f: Tensor, geometry: _Geometry
    ) -> tuple[Tensor, list[Tensor], Tensor]:
        """h [B, N, C], v [B, N, 2l + 1, C] (none in the first), f [B, N, N, C] -> updated."""
        if not self.first:
            small = bounded(v)
            left, right, own, of_i, of_j = self._split(self.vectors(small))
            across = _across(of_i, of_j, geometry) / self.components
            f = f + scaled_silu(self.pair_update(f)) * across

        query, key, value = self.atoms(self.norm(h)).chunk(3, -1)
        of_key, of_value = scaled_silu(self.pairs(f)).chunk(2, -1)
        logits = self.heads.sum(query[:, :, None] * key[:, None] * of_key)
        weights = scaled_silu(self.logit_scale * logits) * geometry.envelope
        messages = self.heads.spread(weights) * value[:, None] * of_value
        gathered = self.scale * messages.sum(2)
        gates = scaled_silu(self.messages(messages)).chunk(1 if self.first else 2, -1)
        # Σ_j s2_ij Y(r̂_ij) is a matrix product for each atom.
        change = [self.scale * (y.mT @ gates[0]) for y in geometry.harmonics]
        if self.first:
            return h + self.output(gathered), change, f

        o1, o2, o3 = self.output(gathered).chunk(3, -1)
        # Σ_j s1_ij v_j, all degrees at once.
        passed = self.scale * (gates[1][..., None, :] * torch.cat(small, -2)[:, None]).sum(2)
        passed_by_degree = passed.split([x.shape[-2] for x in v], -2)
        inner = (torch.cat(left, -2) * torch.cat(right, -2)).sum(-2) / self.components
        v = [
            x + y * o1[..., None, :] + dx + message
            for x, y, dx, message in zip(v, own, change, passed_by_degree, strict=True)
        ]
        return h + inner * o2 + o3, v, f

    def _split(self, vectors: list[Tensor]) -> list[list[Tensor]]:
        """Entries [..., 5 C] -> five fields."""
        return [list(field) for field in zip(*(x.chunk(5, -1) for x in vectors), strict=True)]


def _across(of_i: list[Tensor], of_j: list[Tensor], geometry: _Geometry) -> Tensor:
    """Σ_l ⟨a_i⊥, b_j⊥⟩ = Σ_l a_i·b_j - (a_i·Y)(b_j·Y), Y normalised, [B, N, N, C]."""
    inner = (torch.cat(of_i, -2)[:, :, None] * torch.cat(of_j, -2)[:, None]).sum(-2)
    for a, b, y in zip(of_i, of_j, geometry.harmonics, strict=True):
        # a_i·Y_ij is a matrix product for each i, b_j·Y_ij for each j.
        inner = inner - (y @ a) * (y.transpose(1, 2) @ b).transpose(1, 2)
    return inner


class ViSNet(nn.Module):
    """The backbone: see the module's docstring.

    Args:
        n_types: number of elements.
        config: sizes.

    Attributes:
        channels: C.
        lmax_out: that of the config.
    """

    def __init__(self, n_types: int, config: ViSNetConfig) -> None:
        super().__init__()
        c = config.channels
        self.n_types, self.config = n_types, config
        self.channels, self.lmax_out = c, config.lmax
        self.scale = 1 / math.sqrt(config.neighbours)
        self.harmonics = Harmonics(config.lmax)
        # 5 decay lengths within the cutoff, as ViSNet's.
        self.basis = ExponentialBasis(config.cutoff / 5, config.n_basis)
        self.embedding = nn.Parameter(torch.randn(n_types, c))
        self.neighbours = nn.Parameter(torch.randn(n_types, c))
        self.radial = nn.Linear(config.n_basis, 2 * c)
        # Few of the functions are not small at any one distance.
        nn.init.normal_(self.radial.weight, std=0.4)
        self.start = _linear(2 * c, c)
        self.layers = nn.ModuleList(
            ViSNetLayer(config, first=layer == 0) for layer in range(config.layers)
        )
        self.norm = nn.LayerNorm(c)
        self.lengths = FieldLinear([c] * config.lmax, [c] * config.lmax)
        self.output = nn.Sequential(_linear((1 + config.lmax) * c, c), nn.SiLU(), _linear(c, c))

    def forward(self, types: Tensor, pairs: Pairs) -> tuple[Tensor, list[Tensor]]:
        """See `forcefield.backbones.protocol.Backbone`."""
        geometry = self._geometry(pairs)
        elements = one_hot(types, self.n_types, pairs.distances)
        of_start, of_pairs = self.radial(self.basis(pairs.distances)).chunk(2, -1)
        neighbours = (elements @ self.neighbours)[:, None] * of_start * geometry.envelope
        gathered = self.scale * neighbours.sum(2)
        h = self.start(torch.cat([elements @ self.embedding, gathered], -1))
        f = (h[:, :, None] + h[:, None]) / math.sqrt(2) * of_pairs
        v: list[Tensor] = []
        for layer in self.layers:
            h, v, f = layer(h, v, f, geometry)
        v = bounded(v)
        lengths = [soft_length(x) for x in self.lengths(v)]
        h = self.norm(h)
        h = h + self.output(torch.cat([h, *lengths], -1))
        return h, [h.unsqueeze(-2), *v]

    def _geometry(self, pairs: Pairs) -> _Geometry:
        harmonics = [
            y / math.sqrt(2 * degree + 1)
            for degree, y in enumerate(self.harmonics(pairs.directions)[1:], start=1)
        ]
        envelope = polynomial_envelope(
            pairs.distances / self.config.cutoff, self.config.envelope_exponent
        )
        # A pair that is not valid has a direction, but no weight: its messages are 0.
        return _Geometry(harmonics, (envelope * pairs.valid)[..., None])
