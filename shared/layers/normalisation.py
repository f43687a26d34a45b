"""Fields of bounded size: normalisation that is equivariant and smooth where a field is zero."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["bounded", "soft_length"]


def bounded(field: Sequence[Tensor]) -> list[Tensor]:
    """z/sqrt(1 + mean z²) of each atom, the mean over all components and channels.

    Entries [..., 2l + 1, K] keep their shapes. The root mean square of the result is below 1; a
    small field is left as it is.
    """
    square = torch.cat(list(field), dim=-2).square().mean((-1, -2), keepdim=True)
    scale = torch.rsqrt(1 + square)
    return [scale * x for x in field]


def soft_length(vectors: Tensor) -> Tensor:
    """sqrt(1 + |x|²) - 1 over the components: [..., 2l + 1, K] -> [..., K].

    Invariant; |x|²/2 for small x, |x| for large, with all derivatives at 0.
    """
    square = vectors.square().sum(-2)
    return square / (torch.sqrt(1 + square) + 1)
