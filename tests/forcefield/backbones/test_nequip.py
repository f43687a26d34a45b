"""NequIP: a layer by explicit sums over neighbours."""

import pytest
import torch
from e3nn import o3
from torch import Tensor

from forcefield.backbones.nequip import NequIPConfig, NequIPLayer
from shared.errors import InputError
from shared.layers.fields import Harmonics, one_hot
from shared.layers.pairs import all_pairs
from shared.layers.radial import BesselBasis
from shared.layers.tensor import building_in
from shared.layers.unordered import fold
from tests.forcefield.backbones.small import nequip
from tests.forcefield.models import random_molecules
from tests.physics import random_rotation


def test_shapes() -> None:
    model = nequip()
    molecules = random_molecules((5, 3))
    scalars, fields = model(
        molecules["types"], all_pairs(molecules["positions"], molecules["atoms"])
    )
    assert scalars.shape == (2, 5, model.channels) == (2, 5, 4)
    assert len(fields) == model.lmax_out + 1 == 1


@pytest.fixture(scope="module")
def layer_inputs() -> tuple[NequIPLayer, dict[str, Tensor], list[Tensor]]:
    config = NequIPConfig(channels=3, lmax=2, radial=(8,), neighbours=4.0)
    with building_in(torch.float64):
        layer = NequIPLayer(3, config, 2, 2)
    molecules = random_molecules((4,), seed=3)
    generator = torch.Generator().manual_seed(0)
    field = [
        torch.randn(1, 4, 2 * d + 1, 3, generator=generator, dtype=torch.float64) for d in range(3)
    ]
    return layer, molecules, field


def run_layer(layer: NequIPLayer, molecules: dict[str, Tensor], field: list[Tensor]) -> list:
    pairs = all_pairs(molecules["positions"], molecules["atoms"])
    radial = BesselBasis(5.0, 8, 6)(fold(pairs.distances[..., None]).squeeze(-1) / 2)
    harmonics = [y * pairs.valid[..., None] for y in Harmonics(2)(pairs.directions)]
    elements = one_hot(molecules["types"], 3, pairs.distances)
    return layer(field, elements, harmonics, radial)


def test_a_layer_is_an_explicit_sum_over_neighbours(layer_inputs: tuple) -> None:
    layer, molecules, field = layer_inputs
    positions, types = molecules["positions"][0], molecules["types"][0]
    bessel, silu = BesselBasis(5.0, 8, 6), 1.6790
    source = [x[0] @ w for x, w in zip(field, layer.source.weights, strict=True)]
    updated: list[list[Tensor]] = [[], [], []]
    for i in range(4):
        summed: list[list[Tensor]] = [[], [], []]
        for n, (l1, l2, l3) in enumerate(layer.convolution.paths):
            table = o3.wigner_3j(l1, l2, l3, dtype=torch.float64) * (2 * l3 + 1) ** 0.5
            total = torch.zeros(2 * l3 + 1, 3, dtype=torch.float64)
            for j in set(range(4)) - {i}:
                r = positions[j] - positions[i]
                harmonics = o3.spherical_harmonics(l2, r, normalize=True, normalization="component")
                weights = layer.radial(bessel(r.norm())).unflatten(-1, (-1, 3))[n]
                message = torch.einsum("abc,ak,b->ck", table, source[l1][j], harmonics)
                total = total + weights * message / 2.0
            summed[l3].append(total)
        before = [
            torch.cat(parts, -1) @ target + field[d][0, i] @ own[types[i]]
            for d, (parts, target, own) in enumerate(
                zip(summed, layer.target.weights, layer.connection.weights, strict=True)
            )
        ]
        scalars = silu * torch.nn.functional.silu(before[0])
        updated[0].append(scalars[:, :3])
        updated[1].append(before[1] * scalars[:, 3:6])
        updated[2].append(before[2] * scalars[:, 6:])
    for a, b in zip(run_layer(layer, molecules, field), updated, strict=True):
        torch.testing.assert_close(a[0], torch.stack(b), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("improper", [False, True])
def test_a_layer_is_equivariant(improper: bool, layer_inputs: tuple) -> None:
    layer, molecules, field = layer_inputs
    rotation = random_rotation(torch.Generator().manual_seed(1)) * (-1 if improper else 1)
    with building_in(torch.float64):
        turns = [o3.Irrep(d, (-1) ** d).D_from_matrix(rotation) for d in range(3)]
    moved = molecules | {"positions": molecules["positions"] @ rotation.T}
    turned = run_layer(layer, moved, [t @ x for t, x in zip(turns, field, strict=True)])
    for turn, x, y in zip(turns, run_layer(layer, molecules, field), turned, strict=True):
        torch.testing.assert_close(y, turn @ x, rtol=0, atol=1e-11)


@pytest.mark.parametrize("options", [{"lmax": -1}, {"channels": 0}, {"neighbours": 0.0}])
def test_impossible_configs_are_refused(options: dict) -> None:
    with pytest.raises(InputError, match="nequip." + next(iter(options))):
        NequIPConfig(**options)
