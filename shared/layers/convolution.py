"""Convolution over all pairs of atoms of dense batches: radial networks and harmonics of the pairs,
fields of the neighbours.

The message that NequIP sums over neighbours (Batzner et al., Nat. Commun. 13, 2453 (2022), Eq. 6-7)
and MACE's one-particle basis (Batatia et al., NeurIPS 2022, Eq. 8-9):

    A_i^(l3) = Σ_j R_path(r_ij) [h_j^(l1) ⊗ Y^(l2)(r̂_ij)]^(l3),   path = (l1, l2, l3).

The product is linear in both, so the sum over j is done first, as one matrix product for each path
and atom, Σ_j Y_m2(r̂_ij) · R(r_ij) h_j,m1; what is coupled afterwards is a tensor per atom and not
per pair.
"""

import functools
import math
import operator
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from shared.layers.fields import Terms, allowed_paths, clebsch_gordan

__all__ = ["Convolution", "RadialNetwork", "scaled_silu"]

# 1/sqrt of the second moment of silu(x), x ~ N(0, 1): e3nn's normalize2mom.
_SILU = 1.6790


def scaled_silu(x: Tensor) -> Tensor:
    """silu(x) times a constant, so that input of variance 1 gives second moment 1."""
    return _SILU * nn.functional.silu(x)


class RadialNetwork(nn.Module):
    """Features of a pair to its weights in a convolution: an MLP with SiLU.

    There is no bias, so features that end smoothly at a cutoff give weights that do. Weights are
    normal with variance 1/width, as in e3nn's `FullyConnectedNet`.

    Args:
        widths: of the features, of the hidden layers and of the weights.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(
            torch.randn(n_in, n_out) / math.sqrt(n_in) for n_in, n_out in pairwise(widths)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Features [..., widths[0]] -> [..., widths[-1]]."""
        x = features @ self.weights[0]
        for weight in list(self.weights)[1:]:
            x = scaled_silu(x) @ weight
        return x


class Convolution(nn.Module):
    """A_i of the module docstring, for all paths between the degrees asked for.

    Args:
        lmax_in: highest degree of h.
        lmax_pairs: highest degree of Y.
        lmax_out: highest degree of A.
        channels: K of h; every path has its own K channels in A.

    Attributes:
        paths: (l1, l2, l3), ordered by l3.
        width: number of weights that each pair brings, K for each path.
        channels_out: of each degree l3 of A, K times the number of its paths.
    """

    def __init__(self, lmax_in: int, lmax_pairs: int, lmax_out: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.paths = allowed_paths(range(lmax_in + 1), range(lmax_pairs + 1), range(lmax_out + 1))
        self.terms = [clebsch_gordan(*path) for path in self.paths]
        self.width = channels * len(self.paths)
        self.channels_out = [
            channels * sum(l3 == degree for _, _, l3 in self.paths)
            for degree in range(lmax_out + 1)
        ]

    def forward(
        self, field: Sequence[Tensor], harmonics: Sequence[Tensor], weights: Tensor
    ) -> list[Tensor]:
        """Sum over neighbours.

        Args:
            field: h, entries [B, N, 2l + 1, K].
            harmonics: Y, entries [B, N, N, 2l + 1], pair (i, j) at [b, i, j], 0 where a pair is
                to be left out.
            weights: R [B, N, N, width].

        Returns:
            A, entries [B, N, 2l + 1, channels_out[l]].
        """
        gathered: list[list[Tensor]] = [[] for _ in self.channels_out]
        radials = weights.split(self.channels, -1)
        for (l1, l2, l3), terms, radial in zip(self.paths, self.terms, radials, strict=True):
            neighbours = radial.unsqueeze(-2) * field[l1].unsqueeze(-4)  # [B, N, N, m1, K]
            summed = harmonics[l2].mT @ neighbours.flatten(-2)  # [B, N, m2, m1 K]
            if l1 > 0:
                summed = _project(summed.unflatten(-1, (-1, self.channels)), terms)
            gathered[l3].append(summed)
        return [torch.cat(parts, dim=-1) for parts in gathered]


def _project(products: Tensor, terms: Terms) -> Tensor:
    """All products [..., m2, m1, K] of two fields -> the part with these terms, [..., m3, K]."""
    by_left = [x.unbind(-2) for x in products.unbind(-2)]
    rows = [[c * by_left[m1][m2] for m1, m2, c in row] for row in terms]
    return torch.stack([functools.reduce(operator.add, row) for row in rows], dim=-2)
