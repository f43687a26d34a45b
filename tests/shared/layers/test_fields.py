"""Fields: products and harmonics are e3nn's, linear maps keep symmetry and variance."""

import pytest
import torch
from e3nn import o3

from shared.layers.fields import Coupling, FieldLinear, Harmonics, allowed_paths, clebsch_gordan
from shared.layers.tensor import building_in
from tests.physics import check_finite_gradients, random_rotation


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def test_paths_are_those_of_natural_parity() -> None:
    natural = [o3.Irrep(degree, (-1) ** degree) for degree in range(4)]
    expected = {
        (a.l, b.l, c.l) for a in natural for b in natural for c in a * b if c in natural[:3]
    }
    paths = allowed_paths(range(4), range(4), range(3))
    assert set(paths) == expected
    assert len(paths) == len(expected)


@pytest.mark.parametrize("path", [(0, 0, 0), (1, 1, 2), (2, 1, 3), (2, 2, 2), (1, 1, 1), (3, 3, 2)])
@pytest.mark.parametrize("shared", [False, True])
def test_a_product_is_e3nns(path: tuple[int, int, int], shared: bool) -> None:
    l1, l2, l3 = path
    channels = 4
    left = normal(5, 2 * l1 + 1, channels)
    right = normal(5, 2 * l2 + 1, 1 if shared else channels, seed=1)
    parities = ["e" if degree % 2 == 0 else "o" for degree in (l1, l2)] + ["eo"[(l1 + l2) % 2]]
    with building_in(torch.float64):
        product = o3.TensorProduct(
            f"{channels}x{l1}{parities[0]}",
            f"{right.shape[-1]}x{l2}{parities[1]}",
            f"{channels}x{l3}{parities[2]}",
            [(0, 0, 0, "uvu" if shared else "uuu", False)],
        )
    # e3nn keeps channels before components.
    expected = product(left.mT.flatten(1), right.mT.flatten(1)).unflatten(-1, (channels, -1)).mT
    torch.testing.assert_close(Coupling(*path)(left, right), expected, rtol=0, atol=1e-12)


def test_a_product_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="degrees 1 and 1 has degree 3"):
        clebsch_gordan(1, 1, 3)


def test_harmonics_are_e3nns() -> None:
    directions = torch.nn.functional.normalize(normal(20, 3), dim=-1)
    for degree, harmonics in enumerate(Harmonics(5)(directions)):
        expected = o3.spherical_harmonics(
            degree, directions, normalize=False, normalization="component"
        )
        torch.testing.assert_close(harmonics, expected, rtol=0, atol=1e-12)


def test_float32_and_float64_agree() -> None:
    directions = torch.nn.functional.normalize(normal(20, 3), dim=-1)
    double, single = Harmonics(3)(directions), Harmonics(3)(directions.float())
    for a, b in zip(double, single, strict=True):
        assert b.dtype == torch.float32
        torch.testing.assert_close(b.double(), a, rtol=0, atol=3e-6)
    product = Coupling(2, 1, 3)
    left, right = normal(4, 5, 3), normal(4, 3, 3, seed=1)
    single_product = product(left.float(), right.float())
    assert single_product.dtype == torch.float32
    torch.testing.assert_close(single_product.double(), product(left, right), rtol=0, atol=3e-6)


@pytest.mark.parametrize("improper", [False, True])
def test_linear_maps_commute_with_rotation(improper: bool) -> None:
    with building_in(torch.float64):
        linear = FieldLinear([3, 2, 4], [5, 5, 2], bias=True)
        rotation = random_rotation(torch.Generator().manual_seed(2)) * (-1 if improper else 1)
        turns = [o3.Irrep(d, (-1) ** d).D_from_matrix(rotation) for d in range(3)]
    torch.nn.init.normal_(linear.bias)
    field = [normal(6, 2 * d + 1, k, seed=d) for d, k in enumerate([3, 2, 4])]
    turned = linear([turn @ x for turn, x in zip(turns, field, strict=True)])
    for turn, x, y in zip(turns, linear(field), turned, strict=True):
        torch.testing.assert_close(y, turn @ x, rtol=0, atol=1e-12)
    assert [y.shape[-1] for y in turned] == [5, 5, 2]


def test_linear_maps_and_products_preserve_variance() -> None:
    torch.manual_seed(0)
    (mixed,) = FieldLinear([256], [256])([torch.randn(100, 1, 256)])
    assert abs(mixed.var().item() - 1) < 0.1
    product = Coupling(2, 1, 3)(torch.randn(500, 5, 64), torch.randn(500, 3, 64))
    assert abs(product.var().item() - 1) < 0.1


def test_compiles_without_graph_breaks_and_gradients_are_finite() -> None:
    harmonics, product = Harmonics(2), Coupling(2, 1, 1)

    def function(directions: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return product(harmonics(directions)[2][..., None], features)

    inputs = {"directions": normal(7, 3), "features": normal(7, 3, 2, seed=1)}
    compiled = torch.compile(function, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(**inputs), function(**inputs))
    check_finite_gradients(lambda **x: {"y": function(**x)}, inputs)
