"""Fields by their components, at either end of each pair of atoms.

What acts on the components of a field one by one over all pairs is written as sums over lists of
tensors [B, N, N, K]: a compiler then makes one loop over pairs and channels of it, and no tensor
of all components of all pairs is ever made. Components are taken by `unbind`, never by index, whose
gradient would be a sum of zero-filled fields.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["Components", "add_components", "at_receiver", "at_sender", "combine", "dot", "stack"]

# Entry l holds the 2l + 1 components of degree l, of one shape.
Components = list[list[Tensor]]


def at_receiver(field: Sequence[Tensor]) -> Components:
    """Entries [B, N, 2l + 1, K] -> components [B, N, 1, K], of atom i of each pair (i, j)."""
    return [list(x[:, :, None].unbind(-2)) for x in field]


def at_sender(field: Sequence[Tensor]) -> Components:
    """Entries [B, N, 2l + 1, K] -> components [B, 1, N, K], of atom j of each pair (i, j)."""
    return [list(x[:, None].unbind(-2)) for x in field]


def combine(
    operation: Callable[[Tensor, Tensor], Tensor], left: Components, right: Components
) -> Components:
    """The operation on each component of two fields of the same degrees."""
    return [
        [operation(x, y) for x, y in zip(of_left, of_right, strict=True)]
        for of_left, of_right in zip(left, right, strict=True)
    ]


def add_components(total: Sequence[Tensor], terms: Sequence[Tensor]) -> list[Tensor]:
    """Sum of two degrees, component by component; an empty total is zero."""
    if not total:
        return list(terms)
    return [x + y for x, y in zip(total, terms, strict=True)]


def dot(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    """Σ_m x_m y_m of two degrees given by their components."""
    total = left[0] * right[0]
    for x, y in zip(left[1:], right[1:], strict=True):
        total = total + x * y
    return total


def stack(components: Components) -> list[Tensor]:
    """Components [...] -> field, entries [..., 2l + 1, K]."""
    return [torch.stack(degree, dim=-2) for degree in components]
