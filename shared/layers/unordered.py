"""Functions of the distance alone, evaluated once for each unordered pair of atoms.

A radial network gives the same for (i, j) and (j, i), so it need only run on the N (N - 1)/2 pairs
with i < j, half of a dense block. `fold` takes a block to those pairs and `spread` back. Each is
the other's transpose, and they are declared so: gradients of any order are gathers, and not the
scatter that indexing has as a gradient.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["fold", "spread"]


@cache
def _positions_in_block(n: int) -> tuple[list[int], list[int]]:
    """Where the pairs i < j stand in a flat [n, n] block: as (i, j), and as (j, i)."""
    i, j = np.triu_indices(n, 1)
    return (i * n + j).tolist(), (j * n + i).tolist()


@cache
def _positions_in_pairs(n: int) -> list[int]:
    """Of each entry of a flat [n, n] block, its pair; on the diagonal, one behind the last."""
    size = n * (n - 1) // 2
    table = np.full((n, n), size)
    i, j = np.triu_indices(n, 1)
    table[i, j] = table[j, i] = np.arange(size)
    return table.flatten().tolist()


def _gather(flat: Tensor, index: list[int]) -> Tensor:
    # The index is made of numbers here, so that a trace holds it as a constant.
    return flat.index_select(1, torch.tensor(index, device=flat.device, dtype=torch.long))


class _Fold(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, block: Tensor) -> Tensor:
        ctx.n = block.shape[1]
        above, below = _positions_in_block(ctx.n)
        flat = block.flatten(1, 2)
        return _gather(flat, above) + _gather(flat, below)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Spread.apply(gradient, ctx.n)


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pairs: Tensor, n: int) -> Tensor:
        padded = functional.pad(pairs, (0, 0, 0, 1))
        return _gather(padded, _positions_in_pairs(n)).unflatten(1, (n, n))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Fold.apply(gradient), None


def fold(block: Tensor) -> Tensor:
    """x_ij + x_ji of a block [B, N, N, F] -> [B, N (N - 1)/2, F], pairs i < j row by row."""
    return _Fold.apply(block)


def spread(pairs: Tensor, n: int) -> Tensor:
    """Pairs i < j [B, n (n - 1)/2, F] -> symmetric block [B, n, n, F], 0 on the diagonal."""
    return _Spread.apply(pairs, n)
