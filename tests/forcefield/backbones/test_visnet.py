"""ViSNet: symmetries, locality, smoothness, and its geometry against vectors written out."""

import pytest
import torch
from torch import Tensor

from forcefield.backbones.visnet import ViSNet, ViSNetConfig, _across, _Geometry
from shared.errors import InputError
from shared.layers.fields import Harmonics
from shared.layers.pairs import all_pairs
from tests.forcefield.checks import (
    Energy,
    check_float32,
    check_second_derivatives,
    check_size_consistent,
    check_smooth_at_cutoff,
    check_traceable,
)
from tests.forcefield.models import random_molecules, scalar_case
from tests.physics import Case, check_finite_gradients, check_padding, check_symmetries

CUTOFF = 3.0


def small(lmax: int = 2, layers: int = 3) -> ViSNet:
    torch.manual_seed(0)
    config = ViSNetConfig(
        cutoff=CUTOFF, channels=8, layers=layers, lmax=lmax, heads=2, n_basis=4, neighbours=3.0
    )
    model = ViSNet(3, config)
    # Biases as training leaves them: at zero they would hide what is left over at the cutoff.
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model.double()


def energy_of(model: torch.nn.Module) -> Energy:
    def energy(types: Tensor, positions: Tensor, atoms: Tensor) -> Tensor:
        scalars, _ = model(types, all_pairs(positions, atoms))
        return (scalars.sin().sum(-1) * atoms).sum(1)

    return energy


@pytest.mark.parametrize("lmax", [1, 2])
def test_scalars_keep_the_symmetries(lmax: int) -> None:
    case = scalar_case(small(lmax))
    check_symmetries(case)
    check_padding(case)
    check_finite_gradients(case.function, case.inputs)


def test_vectors_turn_with_the_molecule() -> None:
    model = small()

    def vectors(types: Tensor, positions: Tensor, atoms: Tensor) -> dict[str, Tensor]:
        _, fields = model(types, all_pairs(positions, atoms))
        return {"vectors": (fields[1] * atoms[..., None, None]).mT}

    case = Case(vectors, random_molecules(), vectors=("vectors",), mask="atoms")
    assert case()["vectors"].std() > 0.01
    check_symmetries(case)


@pytest.mark.parametrize("lmax", [1, 2])
def test_smooth_at_the_cutoff(lmax: int) -> None:
    check_smooth_at_cutoff(energy_of(small(lmax)), CUTOFF)


def test_far_molecules_are_independent() -> None:
    check_size_consistent(energy_of(small()), 1e-12)


def test_second_derivatives_are_finite() -> None:
    model = small()
    check_second_derivatives(energy_of(model), model)


def test_single_precision() -> None:
    check_float32(small, energy_of)


def test_one_graph() -> None:
    check_traceable(energy_of(small(layers=2)))


def test_one_layer_is_enough_to_build() -> None:
    scalars, fields = small(layers=1)(
        torch.zeros(1, 3).long(),
        all_pairs(torch.randn(1, 3, 3, dtype=torch.float64), torch.ones(1, 3, dtype=torch.bool)),
    )
    assert scalars.shape == (1, 3, 8)
    assert [x.shape for x in fields] == [(1, 3, 1, 8), (1, 3, 3, 8), (1, 3, 5, 8)]


def test_sees_dihedrals() -> None:
    """Same distances to all atoms within the cutoff, other dihedral: other features."""
    energy = energy_of(small())

    def chain(angle: float) -> Tensor:
        t = torch.tensor(angle, dtype=torch.float64)
        zero = torch.zeros_like(t)
        end = torch.stack([1.2 + zero, 1.2 * t.cos(), 1.2 * t.sin()])
        rest = torch.tensor([[0.0, 1.2, 0.0], [0.0, 0.0, 0.0], [1.2, 0.0, 0.0]]).double()
        positions = 1.7 * torch.cat([rest, end[None]])
        assert (positions[0] - positions[3]).norm() > CUTOFF
        return energy(torch.zeros(1, 4).long(), positions[None], torch.ones(1, 4, dtype=torch.bool))

    assert (chain(1.8) - chain(2.5)).abs() > 1e-6


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
