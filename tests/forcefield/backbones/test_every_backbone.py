"""What every backbone must keep: symmetries, locality, smoothness, both precisions, one graph."""

from collections.abc import Callable
from functools import partial

import pytest
from torch import Tensor, nn

from shared.layers.pairs import all_pairs
from tests.forcefield.backbones.small import CUTOFF, mace, nequip, segno, visnet
from tests.forcefield.checks import (
    Energy,
    check_float32,
    check_second_derivatives,
    check_size_consistent,
    check_smooth_at_cutoff,
    check_traceable,
)
from tests.forcefield.models import check_crossing_the_cutoff, random_molecules, scalar_case
from tests.physics import Case, check_finite_gradients, check_padding, check_symmetries

MODELS = {
    "mace-3-0": partial(mace, lmax=3, lmax_hidden=0),
    "mace-3-1": partial(mace, lmax=3, lmax_hidden=1),
    "mace-2-2": partial(mace, lmax=2, lmax_hidden=2),
    "mace-envelope-6": partial(mace, envelope_exponent=6),
    "nequip-1": partial(nequip, lmax=1),
    "nequip-2": partial(nequip, lmax=2),
    "nequip-3": partial(nequip, lmax=3),
    "nequip-envelope-6": partial(nequip, envelope_exponent=6),
    "segno": segno,
    "visnet-1": partial(visnet, lmax=1),
    "visnet-2": partial(visnet, lmax=2),
}
Make = Callable[[], nn.Module]

every = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())
one_of_each = pytest.mark.parametrize("make", [mace, nequip, segno, visnet])


def energy_of(model: nn.Module) -> Energy:
    def energy(types: Tensor, positions: Tensor, atoms: Tensor) -> Tensor:
        scalars, _ = model(types, all_pairs(positions, atoms))
        return (scalars.sin().sum(-1) * atoms).sum(1)

    return energy


@every
def test_scalars_keep_the_symmetries(make: Make) -> None:
    case = scalar_case(make())
    check_symmetries(case)
    check_padding(case)


@one_of_each
def test_gradients_are_finite(make: Make) -> None:
    model = make()
    case = scalar_case(model)
    check_finite_gradients(case.function, case.inputs, model)


@pytest.mark.parametrize("make", [segno, visnet])
def test_vectors_turn_with_the_molecule(make: Make) -> None:
    """Of the backbones that give any: with SEGNO these are latent velocities."""
    model = make()

    def vectors(types: Tensor, positions: Tensor, atoms: Tensor) -> dict[str, Tensor]:
        _, fields = model(types, all_pairs(positions, atoms))
        return {"vectors": (fields[1] * atoms[..., None, None]).mT}

    case = Case(vectors, random_molecules(), vectors=("vectors",), mask="atoms")
    assert case()["vectors"].std() > 0.01
    check_symmetries(case)


@every
def test_smooth_at_the_cutoff(make: Make) -> None:
    check_smooth_at_cutoff(energy_of(make()), CUTOFF)
    check_crossing_the_cutoff(make(), CUTOFF)


@one_of_each
def test_far_molecules_are_independent(make: Make) -> None:
    check_size_consistent(energy_of(make()), 1e-12)


@one_of_each
def test_second_derivatives_are_finite(make: Make) -> None:
    model = make()
    check_second_derivatives(energy_of(model), model)


@one_of_each
def test_single_precision(make: Make) -> None:
    check_float32(make, energy_of)


@one_of_each
def test_one_graph(make: Make) -> None:
    check_traceable(energy_of(make()))
