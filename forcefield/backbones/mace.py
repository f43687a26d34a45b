"""MACE: equivariant message passing whose messages are many-body.

Batatia et al., NeurIPS 2022 (arXiv:2206.07697). Each layer makes, for every atom,

* the one-particle basis A_i = Σ_j R(r_ij) [W h_j ⊗ Y(r̂_ij)] / n̄ (Eq. 8-9), one radial weight
  for each channel and path, mixed over paths and channels;
* the symmetric contraction B_i of up to `correlation` copies of A_i, weighted by the element of i
  (Eq. 10-11, `shared.layers.contraction`);
* the update h_i ← W B_i + W_z h_i, the residual by the element of i (Eq. 12).

h_i starts as the element's embedding; between layers it has degrees up to `lmax_hidden`, and the
last layer gives scalars only. The scalars of all layers are returned one behind the other, so a
linear readout of them is the paper's sum of linear readouts (Eq. 13), and an MLP contains it.

Differences from the published code: the contraction runs over a basis without linearly dependent
couplings; n̄ is a constant of the configuration; the residual is in the first layer as well, where
it is one more constant per element.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from forcefield.backbones.protocol import require_positive
from shared.errors import InputError
from shared.layers.contraction import SymmetricContraction
from shared.layers.convolution import Convolution, RadialNetwork
from shared.layers.fields import FieldLinear, Harmonics, TypedLinear, one_hot
from shared.layers.pairs import Pairs
from shared.layers.radial import BesselBasis
from shared.layers.unordered import fold, spread

__all__ = ["MACE", "MACEConfig"]


@dataclass(frozen=True)
class MACEConfig:
    """Size of a MACE.

    Args:
        cutoff: Å.
        channels: K, of every degree.
        layers: number of message passing layers.
        lmax: highest degree of the harmonics and of the one-particle basis.
        lmax_hidden: highest degree of the features between layers (0: invariant messages).
        correlation: highest number of neighbours that a message joins, 1 to 3.
        bessel: radial basis functions.
        envelope_exponent: p of the envelope that ends at the cutoff.
        radial: widths of the hidden layers of the radial networks.
        neighbours: n̄, typical number of atoms within the cutoff.
    """

    cutoff: float = 5.0
    channels: int = 64
    layers: int = 2
    lmax: int = 3
    lmax_hidden: int = 0
    correlation: int = 3
    bessel: int = 8
    envelope_exponent: int = 5
    radial: Sequence[int] = (64, 64, 64)
    neighbours: float = 14.0

    def __post_init__(self) -> None:
        names = ("cutoff", "channels", "layers", "bessel", "envelope_exponent", "neighbours")
        require_positive("mace", self, names)
        if self.correlation not in (1, 2, 3):
            raise InputError(f"mace.correlation: must be 1, 2 or 3, got {self.correlation}")
        if not 0 <= self.lmax_hidden <= self.lmax:
            raise InputError(
                f"mace.lmax_hidden: must be in 0..lmax ({self.lmax}), got {self.lmax_hidden}"
            )


class MACELayer(nn.Module):
    """One-particle basis, symmetric contraction, update."""

    def __init__(self, n_types: int, config: MACEConfig, lmax_in: int, lmax_out: int) -> None:
        super().__init__()
        k, degrees = config.channels, range(config.lmax + 1)
        self.neighbours = config.neighbours
        self.source = FieldLinear([k] * (lmax_in + 1), [k] * (lmax_in + 1))
        self.convolution = Convolution(lmax_in, config.lmax, config.lmax, k)
        self.radial = RadialNetwork([config.bessel, *config.radial, self.convolution.width])
        self.basis = FieldLinear(self.convolution.channels_out, [k for _ in degrees])
        self.contraction = SymmetricContraction(
            config.lmax, lmax_out, config.correlation, k, n_types
        )
        self.product = FieldLinear([k] * (lmax_out + 1), [k] * (lmax_out + 1))
        kept = [k] * (min(lmax_in, lmax_out) + 1)
        self.residual = TypedLinear(n_types, kept, kept)

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
        basis = [x / self.neighbours for x in self.basis(summed)]
        updated = self.product(self.contraction(basis, elements))
        own = self.residual(field[: len(self.residual.weights)], elements)
        return [x + y for x, y in zip(updated, own, strict=False)] + updated[len(own) :]


class MACE(nn.Module):
    """The backbone: see the module's docstring.

    Args:
        n_types: number of elements.
        config: sizes.

    Attributes:
        channels: K times the number of layers.
        lmax_out: 0, degree of the last layer.
    """

    def __init__(self, n_types: int, config: MACEConfig) -> None:
        super().__init__()
        self.n_types = n_types
        self.channels = config.layers * config.channels
        self.lmax_out = 0
        self.harmonics = Harmonics(config.lmax)
        self.bessel = BesselBasis(config.cutoff, config.bessel, config.envelope_exponent)
        self.embedding = nn.Parameter(torch.randn(n_types, config.channels))
        hidden = [0, *[config.lmax_hidden] * (config.layers - 1), 0]
        self.layers = nn.ModuleList(
            MACELayer(n_types, config, lmax_in, lmax_out) for lmax_in, lmax_out in pairwise(hidden)
        )

    def forward(self, types: Tensor, pairs: Pairs) -> tuple[Tensor, list[Tensor]]:
        """See `forcefield.backbones.protocol.Backbone`."""
        elements = one_hot(types, self.n_types, pairs.distances)
        # Harmonics leave out what is no pair; radial functions run on unordered pairs.
        harmonics = [y * pairs.valid[..., None] for y in self.harmonics(pairs.directions)]
        radial = self.bessel(fold(pairs.distances[..., None]).squeeze(-1) / 2)
        field = [(elements @ self.embedding).unsqueeze(-2)]
        scalars = []
        for layer in self.layers:
            field = layer(field, elements, harmonics, radial)
            scalars.append(field[0].squeeze(-2))
        return torch.cat(scalars, dim=-1), field
