"""Symmetric contraction: all products of up to three copies of a field, with learned weights.

The many-body step of MACE (Batatia et al., NeurIPS 2022, Eq. 10-11; Drautz, PRB 99, 014104 (2019)):
from the one-particle basis A of an atom, channel by channel,

    B^(L) = Σ_ν Σ_η w_νη(z) Σ_{m1..mν} U^η_{m1..mν} A_{m1} ... A_{mν},   ν = 1..correlation,

where the U of each ν are a basis of the symmetric couplings to degree L. Here the basis consists of
coupled products ((A^l1 ⊗ A^l2)^l12 ⊗ A^l3)^L. There are more of those than symmetric couplings (23
against 8 for L = 0 from degrees up to 3), so when the module is built the cheapest independent ones
are kept; they span what a dense U spans, at some hundred multiplications per channel instead of
thousands. With w summed into the pair products before the last product, that product is done once
for each (l12, l3, L).
"""

import math
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor, nn

from shared.layers.fields import Terms, clebsch_gordan, couple

__all__ = ["SymmetricContraction", "symmetric_paths"]

# (L,), (l1, l2, L) or (l1, l2, l12, l3, L): a chain of products, by degree.
Path = tuple[int, ...]
Components = Sequence[Tensor]


@cache
def _terms(l1: int, l2: int, l3: int) -> Terms:
    """Terms of a product; those of a field with itself are merged, x_m1 x_m2 = x_m2 x_m1."""
    terms = clebsch_gordan(l1, l2, l3)
    if l1 != l2:
        return terms
    merged = []
    for row in terms:
        table: dict[tuple[int, int], float] = {}
        for m1, m2, c in row:
            key = (min(m1, m2), max(m1, m2))
            table[key] = table.get(key, 0.0) + c
        merged.append(tuple((m1, m2, c) for (m1, m2), c in table.items() if abs(c) > 1e-12))
    return tuple(merged)


def _candidates(lmax: int, degree: int, correlation: int) -> list[Path]:
    """Chains of `correlation` factors to `degree`, overall parity natural, cheapest first.

    The intermediate l12 may have the other parity, as in ((A^1 ⊗ A^2)^2 ⊗ A^3)^3.
    """
    degrees = range(lmax + 1)
    if correlation == 1:
        return [(degree,)] if degree <= lmax else []
    pairs = [
        (l1, l2, l12)
        for l1 in degrees
        for l2 in range(l1, lmax + 1)
        for l12 in range(l2 - l1, l1 + l2 + 1)
        if any(_terms(l1, l2, l12))
    ]
    if correlation == 2:
        paths: list[Path] = [p for p in pairs if p[2] == degree and sum(p) % 2 == 0]
    else:
        paths = [
            (l1, l2, l12, l3, degree)
            for l1, l2, l12 in pairs
            for l3 in degrees
            if abs(l12 - l3) <= degree <= l12 + l3 and (l1 + l2 + l3 + degree) % 2 == 0
        ]

    def cost(path: Path) -> int:
        products = [path[:3]] if correlation == 2 else [path[:3], path[2:]]
        return sum(sum(map(len, clebsch_gordan(*product))) for product in products)

    return sorted(paths, key=lambda path: (cost(path), path))


def _evaluate(path: Path, field: Sequence[Components]) -> Components:
    if len(path) == 1:
        return field[path[0]]
    l1, l2, l12 = path[:3]
    pair = couple(field[l1], field[l2], _terms(l1, l2, l12))
    return pair if len(path) == 3 else couple(pair, field[path[3]], clebsch_gordan(*path[2:]))


@cache
def symmetric_paths(lmax: int, degree: int, correlation: int) -> tuple[Path, ...]:
    """Paths whose products of A with itself, `correlation` factors, are a basis of degree `degree`.

    Candidates are taken from the cheapest on, and kept if they are linearly independent of those
    kept before, as functions of random fields of degrees 0..lmax.
    """
    candidates = _candidates(lmax, degree, correlation)
    generator = torch.Generator().manual_seed(0)
    points = 3 * len(candidates) + 10
    field = [
        torch.randn(2 * d + 1, points, generator=generator, dtype=torch.float64).unbind(0)
        for d in range(lmax + 1)
    ]
    kept: list[Path] = []
    basis: list[Tensor] = []
    for path in candidates:
        values = torch.stack(list(_evaluate(path, field))).flatten()
        size = values.norm()
        # Twice, because once loses digits where little is left.
        for _ in range(2):
            for vector in basis:
                values = values - (vector @ values) * vector
        if values.norm() > 1e-8 * size:
            kept.append(path)
            basis.append(values / values.norm())
    return tuple(kept)


class SymmetricContraction(nn.Module):
    """Products of up to `correlation` copies of a field, weighted by channel and atom type.

    Args:
        lmax_in: highest degree of the field.
        lmax_out: highest degree of the products.
        correlation: highest number of factors, 1 to 3.
        channels: K.
        n_types: number of atom types, each with its own weights.

    Attributes:
        paths: of each degree L, the chains of products, of all numbers of factors.

    Raises:
        ValueError: correlation not in 1..3, or too low for lmax_out.
    """

    def __init__(
        self, lmax_in: int, lmax_out: int, correlation: int, channels: int, n_types: int
    ) -> None:
        super().__init__()
        if correlation not in (1, 2, 3):
            raise ValueError(f"correlation must be 1, 2 or 3, got {correlation}")
        self.paths = [
            [
                path
                for factors in range(1, correlation + 1)
                for path in symmetric_paths(lmax_in, degree, factors)
            ]
            for degree in range(lmax_out + 1)
        ]
        if not all(self.paths):
            raise ValueError(
                f"{correlation} factors of degrees up to {lmax_in} do not reach lmax_out {lmax_out}"
            )
        chains = [path for paths in self.paths for path in paths]
        self.first = {path[:3]: _terms(*path[:3]) for path in chains if len(path) > 1}
        self.last = {path[2:]: clebsch_gordan(*path[2:]) for path in chains if len(path) > 3}
        self.weights = nn.ParameterList(
            torch.randn(n_types, len(paths), channels) / math.sqrt(len(paths))
            for paths in self.paths
        )

    def forward(self, field: Sequence[Tensor], one_hot: Tensor) -> list[Tensor]:
        """Products of each atom's field with itself.

        Args:
            field: entries [..., 2l + 1, K], l = 0..lmax_in.
            one_hot: of the atom's type [..., n_types].

        Returns:
            Entries [..., 2L + 1, K], L = 0..lmax_out.
        """
        components = [x.unbind(-2) for x in field]
        pairs = {
            path: couple(components[path[0]], components[path[1]], terms)
            for path, terms in self.first.items()
        }
        products = []
        for degree, (paths, weights) in enumerate(zip(self.paths, self.weights, strict=True)):
            own = torch.einsum("...z,zpk->...pk", one_hot, weights).unbind(-2)
            total: list[Tensor] = []
            before_last: dict[Path, list[Tensor]] = {}
            for path, weight in zip(paths, own, strict=True):
                product = components[degree] if len(path) == 1 else pairs[path[:3]]
                target = before_last.setdefault(path[2:], []) if len(path) > 3 else total
                _add(target, [weight * component for component in product])
            for path, combined in before_last.items():
                _add(total, couple(combined, components[path[1]], self.last[path]))
            products.append(torch.stack(total, dim=-2))
        return products


def _add(total: list[Tensor], summand: Sequence[Tensor]) -> None:
    """Add components to those in `total`, in place of the list."""
    total[:] = [a + b for a, b in zip(total, summand, strict=True)] if total else list(summand)
