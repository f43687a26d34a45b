"""All ordered pairs of atoms of a batch of molecules, dense.

Molecules are small, so the pairs are a dense [B, N, N] block: shapes are static, which is what
lets energy, forces and training step be traced and compiled; no neighbour list can be out of date;
and the pairs beyond a cutoff are those where its envelope is 0.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from shared.layers.attention import pair_mask

__all__ = ["Pairs", "all_pairs"]


@dataclass(frozen=True)
class Pairs:
    """Geometry of B molecules padded to N atoms.

    Attributes:
        atoms: [B, N] bool, False where there is padding.
        valid: [B, N, N] bool, pairs (i, j) of two different atoms.
        vectors: [B, N, N, 3], r_ij = x_j − x_i, Å; the unit vector z where a pair is not valid.
        distances: [B, N, N], Å; 1 where a pair is not valid.
    """

    atoms: Tensor
    valid: Tensor
    vectors: Tensor
    distances: Tensor

    @property
    def directions(self) -> Tensor:
        """[B, N, N, 3], r̂_ij from i to j."""
        return self.vectors / self.distances[..., None]


def all_pairs(positions: Tensor, atoms: Tensor) -> Pairs:
    """The pairs of positions [B, N, 3], Å, with atoms [B, N] bool; derivatives are finite.

    The stand-in for pairs that are not valid is a constant, so that nothing depends on it; what is
    summed over pairs must be multiplied by `valid` or an envelope that includes it.
    """
    valid = pair_mask(atoms)
    # A constant unit vector made of the input, so that a trace bakes in no device or dtype.
    axis = torch.zeros_like(positions[:1, :1]) + positions.new_tensor([0.0, 0.0, 1.0])
    separations = positions[:, None] - positions[:, :, None]
    vectors = torch.where(valid[..., None], separations, axis[:, None])
    return Pairs(atoms, valid, vectors, vectors.square().sum(-1).sqrt())
