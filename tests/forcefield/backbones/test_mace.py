"""MACE: a layer by explicit sums over triples of neighbours."""

from itertools import product

import pytest
import torch
from e3nn import o3
from torch import Tensor

from forcefield.backbones.mace import MACEConfig
from shared.errors import InputError
from shared.layers.pairs import all_pairs
from tests.forcefield.backbones.small import mace
from tests.forcefield.models import random_molecules


def test_scalars_of_all_layers() -> None:
    model = mace(layers=3)
    molecules = random_molecules((5, 3))
    scalars, fields = model(
        molecules["types"], all_pairs(molecules["positions"], molecules["atoms"])
    )
    assert scalars.shape == (2, 5, model.channels) == (2, 5, 12)
    assert len(fields) == model.lmax_out + 1 == 1
    torch.testing.assert_close(fields[0][:, :, 0], scalars[..., 8:])


def test_a_layer_is_an_explicit_sum_over_triples() -> None:
    """Four atoms, so three neighbours and 27 ordered triples; everything but R written out."""
    model = mace(cutoff=5.0, lmax_hidden=0, layers=1)
    molecules = random_molecules((4,), seed=3)
    types, positions = molecules["types"][0], molecules["positions"][0]
    (layer,) = model.layers
    embedded = model.embedding[types]
    source = embedded @ layer.source.weights[0]

    def contribution(i: int, j: int) -> list[Tensor]:
        """Of atom j to the one-particle basis of i, [2l + 1, K] for each degree."""
        separation = positions[j] - positions[i]
        radial = layer.radial(model.bessel(separation.norm())).unflatten(-1, (3, 4))
        return [
            torch.outer(
                o3.spherical_harmonics(d, separation, normalize=True, normalization="component"),
                radial[d] * source[j],
            )
            @ layer.basis.weights[d]
            / 4.0
            for d in range(3)
        ]

    def pair(x: Tensor, y: Tensor, l1: int, l2: int, l3: int) -> Tensor:
        table = o3.wigner_3j(l1, l2, l3, dtype=torch.float64) * (2 * l3 + 1) ** 0.5
        return torch.einsum("abc,ak,bk->ck", table, x, y)

    rows = []
    for i in range(4):
        neighbours = [contribution(i, j) for j in range(4) if j != i]
        message = torch.zeros(4, dtype=torch.float64)
        weights = layer.contraction.weights[0][types[i]]
        for path, weight in zip(layer.contraction.paths[0], weights, strict=True):
            for triple in product(neighbours, repeat=(len(path) + 1) // 2):
                term = triple[0][path[0]]
                if len(path) > 1:
                    term = pair(term, triple[1][path[1]], *path[:3])
                if len(path) > 3:
                    term = pair(term, triple[2][path[3]], *path[2:])
                message = message + weight * term[0]
        residual = embedded[i] @ layer.residual.weights[0][types[i]]
        rows.append(message @ layer.product.weights[0] + residual)
    scalars, _ = model(types[None], all_pairs(positions[None], molecules["atoms"]))
    torch.testing.assert_close(scalars[0], torch.stack(rows), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"correlation": 4}, "mace.correlation"),
        ({"lmax": 1, "lmax_hidden": 2}, "mace.lmax_hidden"),
        ({"cutoff": 0.0}, "mace.cutoff"),
        ({"layers": 0}, "mace.layers"),
    ],
)
def test_impossible_configs_are_refused(options: dict, named: str) -> None:
    with pytest.raises(InputError, match=named):
        MACEConfig(**options)
