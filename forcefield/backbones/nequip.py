"""NequIP: equivariant message passing by gated convolutions.

Batzner et al., Nat. Commun. 13, 2453 (2022). Features of each atom are fields of degrees 0..lmax
with parity (-1)^l. A layer (their Fig. 1, "interaction block") is

    h_i ← gate( W2 Σ_j R(r_ij) [(W1 h_j) ⊗ Y(r̂_ij)] / sqrt(n̄)  +  W_z h_i ),

with one radial weight for each channel and path, self-interactions W1 and W2 that mix channels
within a degree, and the self-connection W_z by the element of the atom. The gate applies SiLU to
scalars and multiplies every channel of higher degree by the SiLU of a scalar of its own. The last
layer gives scalars only, which are all that the energy reads.

Difference from the published code: only features of natural parity, no 0o, 1e, 2o.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from forcefield.backbones.protocol import require_positive
from shared.errors import InputError
from shared.layers.convolution import Convolution, RadialNetwork, scaled_silu
from shared.layers.fields import FieldLinear, Harmonics, TypedLinear, one_hot
from shared.layers.pairs import Pairs
from shared.layers.radial import BesselBasis
from shared.layers.unordered import fold, spread

__all__ = ["NequIP", "NequIPConfig"]


@dataclass(frozen=True)
class NequIPConfig:
    """Size of a NequIP.

    Args:
        cutoff: Å.
        channels: K, of every degree.
        layers: number of interaction blocks.
        lmax: highest degree of features and harmonics.
        bessel: radial basis functions.
        envelope_exponent: p of the envelope that ends at the cutoff.
        radial: widths of the hidden layers of the radial networks.
        neighbours: n̄, typical number of atoms within the cutoff.
    """

    cutoff: float = 5.0
    channels: int = 32
    layers: int = 3
    lmax: int = 2
    bessel: int = 8
    envelope_exponent: int = 6
    radial: Sequence[int] = (64, 64)
    neighbours: float = 14.0

    def __post_init__(self) -> None:
        names = ("cutoff", "channels", "layers", "bessel", "envelope_exponent", "neighbours")
        require_positive("nequip", self, names)
        if self.lmax < 0:
            raise InputError(f"nequip.lmax: must not be negative, got {self.lmax}")


class NequIPLayer(nn.Module):
    """Self-interaction, convolution, self-interaction, self-connection, gate."""

    def __init__(self, n_types: int, config: NequIPConfig, lmax_in: int, lmax_out: int) -> None:
        super().__init__()
        k = config.channels
        self.scale = 1 / math.sqrt(config.neighbours)
        self.source = FieldLinear([k] * (lmax_in + 1), [k] * (lmax_in + 1))
        self.convolution = Convolution(lmax_in, config.lmax, lmax_out, k)
        self.radial = RadialNetwork([config.bessel, *config.radial, self.convolution.width])
        # Scalars are followed by one gate for each channel of higher degree.
        before_gate = [k * (1 + lmax_out)] + [k] * lmax_out
        self.target = FieldLinear(self.convolution.channels_out, before_gate)
        shared = min(lmax_in, lmax_out) + 1
        self.connection = TypedLinear(n_types, [k] * shared, before_gate[:shared])

    def forward(
        self, field: list[Tensor], elements: Tensor, harmonics: list[Tensor], radial: Tensor
    ) -> list[Tensor]:
        """Updated h.

        Args:
            field: h, entries [B, N, 2l + 1, K].
            elements: one-hot [B, N, n_types].
            harmonics: Y, entries [B, N, N, 2l + 1], 0 where there is no pair.
            radial: basis functions of the unordered pairs [B, N (N - 1)/2, bessel].
        """
        weights = spread(self.radial(radial), harmonics[0].shape[1])
        summed = self.convolution(self.source(field), harmonics, weights)
        mixed = self.target([x * self.scale for x in summed])
        own = self.connection(field[: len(self.connection.weights)], elements)
        mixed = [x + y for x, y in zip(mixed, own, strict=False)] + mixed[len(own) :]
        scalars, *gates = scaled_silu(mixed[0]).chunk(len(mixed), -1)
        return [scalars] + [x * gate for x, gate in zip(mixed[1:], gates, strict=True)]


class NequIP(nn.Module):
    """The backbone: see the module's docstring.

    Args:
        n_types: number of elements.
        config: sizes.

    Attributes:
        channels: K.
        lmax_out: 0, degree of the last layer.
    """

    def __init__(self, n_types: int, config: NequIPConfig) -> None:
        super().__init__()
        self.n_types = n_types
        self.channels = config.channels
        self.lmax_out = 0
        self.harmonics = Harmonics(config.lmax)
        self.bessel = BesselBasis(config.cutoff, config.bessel, config.envelope_exponent)
        self.embedding = nn.Parameter(torch.randn(n_types, config.channels))
        degrees = [0, *[config.lmax] * (config.layers - 1), 0]
        self.layers = nn.ModuleList(
            NequIPLayer(n_types, config, lmax_in, lmax_out)
            for lmax_in, lmax_out in pairwise(degrees)
        )

    def forward(self, types: Tensor, pairs: Pairs) -> tuple[Tensor, list[Tensor]]:
        """See `forcefield.backbones.protocol.Backbone`."""
        elements = one_hot(types, self.n_types, pairs.distances)
        # Harmonics leave out what is no pair; radial functions run on unordered pairs.
        harmonics = [y * pairs.valid[..., None] for y in self.harmonics(pairs.directions)]
        radial = self.bessel(fold(pairs.distances[..., None]).squeeze(-1) / 2)
        field = [(elements @ self.embedding).unsqueeze(-2)]
        for layer in self.layers:
            field = layer(field, elements, harmonics, radial)
        return field[0].squeeze(-2), field
