"""Spherical tensor fields as lists over degrees, and the maps between them that keep symmetry.

A field is a list over l = 0, 1, ..., lmax whose entry l is [..., 2l + 1, K]: components in e3nn's
order, then K channels (last, so that mixing channels is one matrix product). Parity is (-1)^l, so a
product of degrees (l1, l2, l3) belongs here only where l1 + l2 + l3 is even.

Conventions are those of e3nn (Geiger and Smidt, arXiv:2207.09453): harmonics and products in
`component` normalisation, where components of variance 1 give components of variance 1. Products
are written out as sums over the non-zero Clebsch-Gordan coefficients, which are numbers of the
program and not tensors: exact to the dtype of the input, and fused by a compiler into one loop
over atoms and channels.
"""

import math
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor, nn

__all__ = [
    "Coupling",
    "FieldLinear",
    "Harmonics",
    "allowed_paths",
    "clebsch_gordan",
    "couple",
    "one_hot",
]

# Terms (m1, m2, c) of each component m3 of a product.
Terms = tuple[tuple[tuple[int, int, float], ...], ...]

_ZERO = 1e-12


def allowed_paths(
    l_left: Sequence[int], l_right: Sequence[int], l_out: Sequence[int]
) -> list[tuple[int, int, int]]:
    """(l1, l2, l3) with |l1 - l2| <= l3 <= l1 + l2 and an even sum, ordered by l3, l1, l2."""
    return [
        (l1, l2, l3)
        for l3 in l_out
        for l1 in l_left
        for l2 in l_right
        if abs(l1 - l2) <= l3 <= l1 + l2 and (l1 + l2 + l3) % 2 == 0
    ]


@cache
def clebsch_gordan(l1: int, l2: int, l3: int) -> Terms:
    """Non-zero terms of sqrt(2 l3 + 1) · wigner_3j(l1, l2, l3), by component of l3.

    The coefficient of one path of e3nn's `TensorProduct` ('uuu', `component` normalisation).

    Raises:
        ValueError: the degrees do not fulfil the triangle inequality.
    """
    from e3nn import o3

    if not abs(l1 - l2) <= l3 <= l1 + l2:
        raise ValueError(f"no product of degrees {l1} and {l2} has degree {l3}")
    table = o3.wigner_3j(l1, l2, l3, dtype=torch.float64) * math.sqrt(2 * l3 + 1)
    return tuple(
        tuple(
            (m1, m2, table[m1, m2, m3].item())
            for m1 in range(2 * l1 + 1)
            for m2 in range(2 * l2 + 1)
            if abs(table[m1, m2, m3]) > _ZERO
        )
        for m3 in range(2 * l3 + 1)
    )


def couple(left: Sequence[Tensor], right: Sequence[Tensor], terms: Terms) -> list[Tensor]:
    """Components of the product of fields given by their components, all shapes broadcastable.

    `left` and `right` are what `unbind` makes of the component axis: taking components one by one
    from the field would leave a sum of zero-filled fields in the gradient.
    """
    components = []
    for entries in terms:
        m1, m2, coefficient = entries[0]
        total = coefficient * left[m1] * right[m2]
        for m1, m2, coefficient in entries[1:]:
            total = total + coefficient * left[m1] * right[m2]
        components.append(total)
    return components


class Coupling(nn.Module):
    """(x ⊗ y)^(l3), channel by channel: Σ sqrt(2 l3 + 1) wigner_3j[m1, m2, m3] x_m1 y_m2.

    Args:
        l1: degree on the left.
        l2: degree on the right.
        l3: degree of the product.
    """

    def __init__(self, l1: int, l2: int, l3: int) -> None:
        super().__init__()
        self.terms = clebsch_gordan(l1, l2, l3)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """[..., 2 l1 + 1, K] x [..., 2 l2 + 1, K or 1] -> [..., 2 l3 + 1, K]."""
        return torch.stack(couple(left.unbind(-2), right.unbind(-2), self.terms), dim=-2)


class FieldLinear(nn.Module):
    """Mixing of channels within each degree; variance is preserved at the start.

    Args:
        channels_in: K of each degree, l = 0, 1, ....
        channels_out: K' of each degree, as many.
        bias: add a learned constant to l = 0 (it would break rotation elsewhere).
    """

    def __init__(
        self, channels_in: Sequence[int], channels_out: Sequence[int], bias: bool = False
    ) -> None:
        super().__init__()
        self.weights = nn.ParameterList(
            torch.randn(k_in, k_out) / math.sqrt(k_in)
            for k_in, k_out in zip(channels_in, channels_out, strict=True)
        )
        self.bias = nn.Parameter(torch.zeros(channels_out[0])) if bias else None

    def forward(self, field: Sequence[Tensor]) -> list[Tensor]:
        """Entries [..., 2l + 1, K] -> [..., 2l + 1, K']."""
        mixed = [x @ weight for x, weight in zip(field, self.weights, strict=True)]
        if self.bias is not None:
            mixed[0] = mixed[0] + self.bias
        return mixed


class TypedLinear(nn.Module):
    """Mixing of channels within each degree, with weights of the atom's type.

    Args:
        n_types: number of types.
        channels_in: K of each degree, l = 0, 1, ....
        channels_out: K' of each degree, as many.
    """

    def __init__(
        self, n_types: int, channels_in: Sequence[int], channels_out: Sequence[int]
    ) -> None:
        super().__init__()
        self.weights = nn.ParameterList(
            torch.randn(n_types, k_in, k_out) / math.sqrt(k_in)
            for k_in, k_out in zip(channels_in, channels_out, strict=True)
        )

    def forward(self, field: Sequence[Tensor], types: Tensor) -> list[Tensor]:
        """Entries [..., 2l + 1, K] and one-hot types [..., n_types] -> [..., 2l + 1, K']."""
        return [
            torch.einsum("...zmq,...z->...mq", x.unsqueeze(-3) @ weight, types)
            for x, weight in zip(field, self.weights, strict=True)
        ]


class Harmonics(nn.Module):
    """Y_l(r̂) for l = 0..lmax, |Y_l|² = 2l + 1 (e3nn's `component` normalisation).

    Degree l is made of l - 1 and 1, as Y_l ∝ (Y_{l-1} ⊗ Y_1)^(l): polynomials in x, y, z.
    Unlike `shared.layers.tensor.SphericalHarmonics` it does not normalise its input.

    Args:
        lmax: highest degree.
    """

    def __init__(self, lmax: int) -> None:
        super().__init__()
        self.lmax = lmax
        self.terms: list[Terms] = []
        # Along the second axis e3nn's Y_l is sqrt(2l + 1) at m = 0 and 0 elsewhere.
        for degree in range(2, lmax + 1):
            terms = clebsch_gordan(degree - 1, 1, degree)
            on_axis = sum(c for m1, m2, c in terms[degree] if (m1, m2) == (degree - 1, 1))
            scale = math.sqrt(2 * degree + 1) / (on_axis * math.sqrt(3 * (2 * degree - 1)))
            self.terms.append(
                tuple(tuple((m1, m2, scale * c) for m1, m2, c in row) for row in terms)
            )

    def forward(self, directions: Tensor) -> list[Tensor]:
        """Unit vectors [..., 3], axes ordered x, y, z -> list of [..., 2l + 1]."""
        components = [[torch.ones_like(directions[..., 0])]]
        if self.lmax > 0:
            components.append([math.sqrt(3) * axis for axis in directions.unbind(-1)])
        for terms in self.terms:
            components.append(couple(components[-1], components[1], terms))
        return [torch.stack(degree, dim=-1) for degree in components]


def one_hot(types: Tensor, n_types: int, like: Tensor) -> Tensor:
    """Indices [...] -> [..., n_types] in the dtype of `like`, for products with weights of a type.

    Unlike an embedding its gradient is a matrix product, not a scatter, and it has no check of the
    indices that a trace would stumble on.
    """
    return (types.unsqueeze(-1) == torch.arange(n_types, device=types.device)).to(like.dtype)
