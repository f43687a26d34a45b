"""Symmetric contraction: all symmetric couplings, each once, and products of sums over neighbours.

Brute force is a dense coupling tensor of e3nn's 3j symbols with one index for each factor.
"""

from collections.abc import Sequence

import pytest
import torch
from e3nn import o3
from torch import Tensor

from shared.layers.contraction import SymmetricContraction, symmetric_paths
from shared.layers.tensor import building_in
from tests.physics import check_finite_gradients, random_rotation

TYPES = torch.eye(2, dtype=torch.float64)[torch.tensor([0, 1, 1])]


def random_field(lmax: int, *shape: int, channels: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(*shape, 2 * d + 1, channels, generator=generator, dtype=torch.float64)
        for d in range(lmax + 1)
    ]


def coupled(path: tuple[int, ...], factors: Sequence[Sequence[Tensor]]) -> Tensor:
    """The chain of products of fields, by dense tensors: factors[a][l] is [..., 2l + 1, K]."""

    def product(left: Tensor, right: Tensor, l1: int, l2: int, l3: int) -> Tensor:
        table = o3.wigner_3j(l1, l2, l3, dtype=torch.float64) * (2 * l3 + 1) ** 0.5
        return torch.einsum("abc,...ak,...bk->...ck", table, left, right)

    if len(path) == 1:
        return factors[0][path[0]]
    first = product(factors[0][path[0]], factors[1][path[1]], *path[:3])
    return first if len(path) == 3 else product(first, factors[2][path[3]], *path[2:])


def brute_force(module: SymmetricContraction, neighbours: list[Tensor], types: Tensor) -> Tensor:
    """Σ over all tuples (j1, ..., jν) of neighbours [n, J, 2l + 1, K], L = 0 to lmax_out behind
    each other."""
    degrees = []
    for paths, weights in zip(module.paths, module.weights, strict=True):
        own = torch.einsum("nz,zpk->pnk", types, weights)
        total = torch.zeros(())
        for path, weight in zip(paths, own, strict=True):
            n_factors = (len(path) + 1) // 2
            # Factor a has its own axis of neighbours among n_factors of them.
            factors = [
                [
                    x.reshape(
                        x.shape[0], *[-1 if b == a else 1 for b in range(n_factors)], *x.shape[2:]
                    )
                    for x in neighbours
                ]
                for a in range(n_factors)
            ]
            tuples = coupled(path, factors).flatten(1, n_factors)
            total = total + weight[:, None] * tuples.sum(1)
        degrees.append(total)
    return torch.cat(degrees, dim=1)


@pytest.mark.parametrize("correlation", [1, 2, 3])
def test_is_the_sum_over_all_tuples_of_neighbours(correlation: int) -> None:
    with building_in(torch.float64):
        module = SymmetricContraction(3, 1, correlation, channels=2, n_types=2)
    neighbours = random_field(3, 3, 4, channels=2)
    field = [x.sum(1) for x in neighbours]
    expected = brute_force(module, neighbours, TYPES)
    torch.testing.assert_close(torch.cat(module(field, TYPES), 1), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("lmax", "degrees"), [(2, [0, 1, 2]), (3, [0])])
def test_spans_every_symmetric_coupling(lmax: int, degrees: list[int]) -> None:
    irreps = o3.Irreps([(1, (d, (-1) ** d)) for d in range(lmax + 1)])
    kept = [o3.Irrep(d, (-1) ** d) for d in degrees]
    with building_in(torch.float64):
        reduced = o3.ReducedTensorProducts("ijk=jik=jki", i=irreps, filter_ir_out=kept)
    field = random_field(lmax, 200, channels=1)
    x = torch.cat(field, 1).squeeze(-1)
    products = torch.einsum("zijk,ni,nj,nk->nz", reduced.change_of_basis, x, x, x)
    for multiplicity, (degree, _) in reduced.irreps_out:
        paths = symmetric_paths(lmax, degree, 3)
        assert len(paths) == multiplicity
    for (_, (degree, _)), section in zip(
        reduced.irreps_out, reduced.irreps_out.slices(), strict=True
    ):
        theirs = products[:, section].unflatten(-1, (-1, 2 * degree + 1)).mT.flatten(0, 1)
        paths = symmetric_paths(lmax, degree, 3)
        ours = torch.cat([coupled(p, [field] * 3) for p in paths], -1).flatten(0, 1)
        reproduced = ours @ torch.linalg.lstsq(ours, theirs).solution
        torch.testing.assert_close(reproduced, theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize("improper", [False, True])
def test_is_equivariant(improper: bool) -> None:
    rotation = random_rotation(torch.Generator().manual_seed(1)) * (-1 if improper else 1)
    with building_in(torch.float64):
        module = SymmetricContraction(3, 2, 3, channels=2, n_types=2)
        turns = [o3.Irrep(d, (-1) ** d).D_from_matrix(rotation) for d in range(4)]
    field = random_field(3, 3, channels=2)
    turned = module([turn @ x for turn, x in zip(turns, field, strict=True)], TYPES)
    for turn, x, y in zip(turns[:3], module(field, TYPES), turned, strict=True):
        torch.testing.assert_close(y, turn @ x, rtol=1e-11, atol=1e-11)


def test_float32_and_float64_agree_and_gradients_are_finite() -> None:
    module = SymmetricContraction(2, 1, 3, channels=4, n_types=2)
    field = random_field(2, 3, channels=4)
    single = module([x.float() for x in field], TYPES.float())
    double = module.double()(field, TYPES)
    for a, b in zip(single, double, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-4)
    names = ["scalars", "vectors", "tensors"]
    check_finite_gradients(
        lambda **x: dict(zip(names, module([x[name] for name in names], TYPES), strict=False)),
        dict(zip(names, field, strict=True)),
        module,
    )


def test_traces_in_one_graph() -> None:
    with building_in(torch.float64):
        module = SymmetricContraction(1, 1, 3, channels=2, n_types=2)
    field = random_field(1, 3, channels=2)
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    for a, b in zip(compiled(field, TYPES), module(field, TYPES), strict=True):
        torch.testing.assert_close(a, b)


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(ValueError, match="1, 2 or 3"):
        SymmetricContraction(2, 0, 4, channels=2, n_types=2)
    with pytest.raises(ValueError, match="do not reach lmax_out 2"):
        SymmetricContraction(1, 2, 1, channels=2, n_types=2)
