"""ViSNet: its geometry against vectors written out."""

import pytest
import torch
from torch import Tensor

from forcefield.backbones.visnet import ViSNetConfig, _across, _Geometry
from shared.errors import InputError
from shared.layers.fields import Harmonics
from shared.layers.pairs import all_pairs
from tests.forcefield.backbones.small import CUTOFF, visnet


def test_one_layer_is_enough_to_build() -> None:
    scalars, fields = visnet(layers=1)(
        torch.zeros(1, 3).long(),
        all_pairs(torch.randn(1, 3, 3, dtype=torch.float64), torch.ones(1, 3, dtype=torch.bool)),
    )
    assert scalars.shape == (1, 3, 8)
    assert [x.shape for x in fields] == [(1, 3, 1, 8), (1, 3, 3, 8), (1, 3, 5, 8)]


def test_sees_dihedrals() -> None:
    """Same distances to all atoms within the cutoff, other dihedral: other features."""
    model = visnet()

    def chain(angle: float) -> Tensor:
        t = torch.tensor(angle, dtype=torch.float64)
        zero = torch.zeros_like(t)
        end = torch.stack([1.2 + zero, 1.2 * t.cos(), 1.2 * t.sin()])
        rest = torch.tensor([[0.0, 1.2, 0.0], [0.0, 0.0, 0.0], [1.2, 0.0, 0.0]]).double()
        positions = 1.7 * torch.cat([rest, end[None]])
        assert (positions[0] - positions[3]).norm() > CUTOFF
        pairs = all_pairs(positions[None], torch.ones(1, 4, dtype=torch.bool))
        return model(torch.zeros(1, 4).long(), pairs)[0]

    assert (chain(1.8) - chain(2.5)).abs().max() > 1e-6


def test_parts_across_the_line_are_rejections() -> None:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    a, b = [normal(2, 3, n, 4) for n in (3, 5)], [normal(2, 3, n, 4) for n in (3, 5)]
    unit = torch.nn.functional.normalize(normal(2, 3, 3, 3), dim=-1)
    harmonics = [y / (2 * degree + 1) ** 0.5 for degree, y in enumerate(Harmonics(2)(unit))][1:]
    geometry = _Geometry(harmonics, torch.ones(2, 3, 3, 1))
    actual = _across(a, b, geometry)
    expected = torch.zeros_like(actual)
    for x, y, direction in zip(a, b, harmonics, strict=True):
        line = direction[..., None]
        x_ij, y_ij = x[:, :, None], y[:, None]
        across_x = x_ij - line * (line * x_ij).sum(-2, keepdim=True)
        across_y = y_ij - line * (line * y_ij).sum(-2, keepdim=True)
        expected = expected + (across_x * across_y).sum(-2)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("options", [{"channels": 6, "heads": 4}, {"lmax": 0}, {"n_basis": 1}])
def test_bad_options(options: dict[str, int]) -> None:
    with pytest.raises(InputError, match="visnet"):
        ViSNetConfig(**options)
