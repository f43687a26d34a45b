"""Spherical harmonics and the edge tensor product: equivariant in float64, irreps checked."""

import pytest
import torch
from e3nn import o3

from shared.layers.tensor import EdgeTensorProduct, SphericalHarmonics, building_in
from tests.physics import check_finite_gradients, random_rotation


def vectors(n: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, generator=generator, dtype=torch.float64)


def test_harmonics_are_e3nns_and_lengths_do_not_matter() -> None:
    x = vectors(10)
    expected = o3.spherical_harmonics([0, 1, 2, 3], x, normalize=True, normalization="component")
    torch.testing.assert_close(SphericalHarmonics(3)(4.0 * x), expected)
    assert SphericalHarmonics(2).irreps_out == o3.Irreps("1x0e+1x1o+1x2e")


def test_harmonics_are_safe_at_zero() -> None:
    harmonics = SphericalHarmonics(3)
    x = vectors(3)
    x[1] = 0.0
    assert harmonics(x)[1].abs().sum() == 1.0
    check_finite_gradients(lambda x: {"y": harmonics(x)}, {"x": x})


@pytest.mark.parametrize("improper", [False, True])
def test_edge_product_is_equivariant_in_float64(improper: bool) -> None:
    nodes = o3.Irreps("4x0e+3x1o+2x2e")
    harmonics = SphericalHarmonics(2)
    product = EdgeTensorProduct(nodes, harmonics.irreps_out, "0e+1o+1e+2e", dtype=torch.float64)
    rotation = random_rotation(torch.Generator().manual_seed(3)) * (-1 if improper else 1)
    edges, weights = vectors(7), torch.rand(7, product.weight_numel, dtype=torch.float64)
    features = torch.rand(7, nodes.dim, dtype=torch.float64)

    def turned(irreps: o3.Irreps, x: torch.Tensor) -> torch.Tensor:
        with building_in(torch.float64):
            return x @ irreps.D_from_matrix(rotation).T

    expected = turned(product.irreps_out, product(features, harmonics(edges), weights))
    actual = product(turned(nodes, features), harmonics(edges @ rotation.T), weights)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)
    assert {str(irrep) for _, irrep in product.irreps_out} == {"0e", "1o", "1e", "2e"}


def test_edge_product_channels_stay_apart() -> None:
    product = EdgeTensorProduct("2x0e", "1x1o", "1o", dtype=torch.float64)
    edges, weights = vectors(1), torch.ones(1, product.weight_numel, dtype=torch.float64)
    second = product(torch.tensor([[0.0, 1.0]], dtype=torch.float64), edges, weights)
    assert second[0, :3].abs().max() == 0
    torch.testing.assert_close(second[:, 3:], edges)


def test_wrong_irreps_fail_when_built() -> None:
    with pytest.raises(ValueError, match="multiplicity 1"):
        EdgeTensorProduct("2x0e", "2x1o", "1o")
    with pytest.raises(ValueError, match="no path"):
        EdgeTensorProduct("2x0e", "1x1o", "2e")


def test_compiles_without_graph_breaks() -> None:
    harmonics = SphericalHarmonics(2)
    product = EdgeTensorProduct("2x0e+2x1o", harmonics.irreps_out, "0e+1o", dtype=torch.float64)

    def message(features: torch.Tensor, edges: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return product(features, harmonics(edges), weights)

    inputs = (
        torch.rand(5, 8, dtype=torch.float64),
        vectors(5),
        torch.rand(5, product.weight_numel, dtype=torch.float64),
    )
    compiled = torch.compile(message, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*inputs), message(*inputs))
