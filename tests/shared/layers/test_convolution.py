"""Convolution over pairs: e3nn's tensor product on every pair, summed; radial networks end at 0."""

import pytest
import torch
from e3nn import o3
from torch import Tensor

from shared.layers.convolution import Convolution, RadialNetwork, scaled_silu
from shared.layers.fields import Harmonics, TypedLinear, one_hot
from shared.layers.radial import BesselBasis
from shared.layers.tensor import building_in
from tests.physics import check_smooth_at


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def e3nn_messages(
    convolution: Convolution, field: list[Tensor], harmonics: list[Tensor], weights: Tensor
) -> list[Tensor]:
    """Σ_j of `o3.TensorProduct` with one instruction for each path, same layout as the module."""
    natural = [o3.Irrep(d, (-1) ** d) for d in range(len(harmonics) + len(field))]
    k = convolution.channels
    irreps = o3.Irreps([(k, natural[l3]) for _, _, l3 in convolution.paths])
    with building_in(torch.float64):
        product = o3.TensorProduct(
            o3.Irreps([(k, natural[d]) for d in range(len(field))]),
            o3.Irreps([(1, natural[d]) for d in range(len(harmonics))]),
            irreps,
            [(l1, l2, n, "uvu", True) for n, (l1, l2, _) in enumerate(convolution.paths)],
            shared_weights=False,
            internal_weights=False,
        )
    n = field[0].shape[1]
    nodes = torch.cat([x.mT.flatten(-2) for x in field], -1)[:, None].expand(-1, n, -1, -1)
    summed = product(nodes, torch.cat(harmonics, -1), weights).sum(2)
    parts = [summed[..., section].unflatten(-1, (k, -1)).mT for section in irreps.slices()]
    return [
        torch.cat(
            [x for x, (_, _, l3) in zip(parts, convolution.paths, strict=True) if l3 == d], -1
        )
        for d in range(len(convolution.channels_out))
    ]


@pytest.mark.parametrize(("lmax_in", "lmax_pairs", "lmax_out"), [(0, 3, 3), (1, 3, 3), (2, 2, 2)])
def test_is_e3nns_product_on_every_pair(lmax_in: int, lmax_pairs: int, lmax_out: int) -> None:
    convolution = Convolution(lmax_in, lmax_pairs, lmax_out, channels=3)
    field = [normal(2, 4, 2 * d + 1, 3, seed=d) for d in range(lmax_in + 1)]
    directions = torch.nn.functional.normalize(normal(2, 4, 4, 3), dim=-1)
    harmonics = Harmonics(lmax_pairs)(directions)
    weights = normal(2, 4, 4, convolution.width, seed=9)
    expected = e3nn_messages(convolution, field, harmonics, weights)
    summed = convolution(field, harmonics, weights)
    assert [x.shape[-1] for x in summed] == convolution.channels_out
    for a, b in zip(summed, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_radial_networks_end_smoothly_at_the_cutoff() -> None:
    basis = BesselBasis(3.0, 4, 5)
    with building_in(torch.float64):
        network = RadialNetwork([4, 8, 8, 5])
    check_smooth_at(lambda r: network(basis(r)), 3.0, order=2, tolerance=1e-3)
    assert network(basis(torch.tensor([3.0, 4.0], dtype=torch.float64))).abs().max() == 0


def test_radial_networks_are_e3nns() -> None:
    from e3nn.nn import FullyConnectedNet

    with building_in(torch.float64):
        network = RadialNetwork([4, 8, 8, 5])
        theirs = FullyConnectedNet([4, 8, 8, 5], torch.nn.functional.silu)
    # e3nn keeps the scale apart from the weights.
    for layer, weight in zip(theirs, network.weights, strict=True):
        layer.weight.data = weight.data * weight.shape[0] ** 0.5
    features = normal(6, 4)
    expected = theirs(features)
    # e3nn finds the scale of the activation by sampling: to 1e-3 of the outputs.
    tolerance = 1e-3 * float(expected.detach().abs().max())
    torch.testing.assert_close(network(features), expected, rtol=0, atol=tolerance)


def test_silu_keeps_the_second_moment() -> None:
    assert abs(scaled_silu(normal(200_000)).square().mean().item() - 1) < 0.01


def test_typed_linear_uses_the_weights_of_the_type() -> None:
    with building_in(torch.float64):
        linear = TypedLinear(3, [4, 4], [2, 5])
    types = torch.tensor([2, 0, 2])
    field = [normal(3, 1, 4), normal(3, 3, 4)]
    mixed = linear(field, one_hot(types, 3, field[0]))
    for x, y, weight in zip(field, mixed, linear.weights, strict=True):
        torch.testing.assert_close(y, x @ weight[types])
