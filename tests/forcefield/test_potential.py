"""Physics that every backbone must show, with every kind of diffusion, in float64."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from forcefield.backbones import BACKBONES
from forcefield.diffusion import DIFFUSIONS
from forcefield.potential import Potential
from shared.errors import InputError
from tests.forcefield.potentials import CUTOFF, ELEMENTS, OPTIONS, batch, tiny
from tests.physics import (
    Case,
    check_gradient,
    check_padding,
    check_smooth_at,
    check_symmetries,
)

EVERY = [(backbone, kind) for backbone in BACKBONES for kind in DIFFUSIONS]


@pytest.fixture(scope="module", params=EVERY, ids=lambda pair: "-".join(pair))
def potential(request: Any) -> Potential:
    return tiny(*request.param)


def test_symmetries_permutation_and_batching(potential: Potential) -> None:
    def function(types: Tensor, positions: Tensor, mask: Tensor) -> Mapping[str, Tensor]:
        energies, forces = potential.energy_and_forces(types, positions, mask)
        return {"energies": energies, "forces": torch.where(mask[..., None], forces, 0.0)}

    inputs = batch()
    inputs["mask"] = inputs.pop("atoms")
    case = Case(function, inputs, vectors=("forces",))
    check_symmetries(case, tolerance=1e-8)
    check_padding(case, tolerance=1e-8)


def test_forces_are_the_slope_of_the_energy(potential: Potential) -> None:
    """To 1e-6 eV/Å, through the backbone, the diffusion and the integration of both."""
    inputs = batch()
    types, atoms = inputs["types"], inputs["atoms"]
    _, forces = potential.energy_and_forces(**inputs)
    assert forces.abs().max() > 1e-2

    def energy(positions: Tensor) -> Tensor:
        return potential.energy(types, positions, atoms).sum()

    check_gradient(energy, inputs["positions"], -forces, tolerance=1e-6)
    assert forces[~atoms].abs().max() == 0


def test_far_molecules_do_not_feel_each_other(potential: Potential) -> None:
    """E(A + B) = E(A) + E(B) and the forces of each alone, at 100 Å."""
    inputs = batch()
    types, positions, atoms = inputs.values()
    energies, forces = potential.energy_and_forces(types, positions, atoms)
    far = positions + torch.tensor([[[0.0, 0.0, 0.0]], [[0.0, 100.0, 0.0]]])
    both = [x.flatten(0, 1)[None] for x in (types, far, atoms)]
    together, pulls = potential.energy_and_forces(*both)
    assert abs(together.item() - energies.sum().item()) < 1e-8
    torch.testing.assert_close(pulls.unflatten(1, (2, -1))[0], forces, atol=1e-8, rtol=0)


def test_smooth_at_the_cutoff(potential: Potential) -> None:
    """Energy, force and its slope as a third atom leaves the cutoff of a first."""
    types, atoms = torch.tensor([[1, 0, 2]]), torch.ones(1, 3, dtype=torch.bool)
    fixed = torch.tensor([[0.0, 0.0, 0.0], [0.9, 0.5, 0.0]], dtype=torch.float64)
    axis = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)

    def energy(r: Tensor) -> Tensor:
        return potential.energy(types, torch.cat([fixed, (r * axis)[None]])[None], atoms)

    check_smooth_at(energy, CUTOFF, order=2, tolerance=1e-3)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_float32_agrees(backbone: str) -> None:
    double, inputs = tiny(backbone, "full"), batch()
    single = tiny(backbone, "full", torch.float32)
    single.load_state_dict({k: v.float() for k, v in double.state_dict().items()})
    expected = double.energy_and_forces(**inputs)
    found = single.energy_and_forces(**{**inputs, "positions": inputs["positions"].float()})
    assert (found[0].dtype, found[1].dtype) == (torch.float64, torch.float32)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs, atol=2e-4, rtol=1e-4)


def test_total_energies_keep_float64() -> None:
    """−2000 eV and more, to a fraction of what float32 holds."""
    model, inputs = tiny("mace", dtype=torch.float32), batch(torch.float32)
    isolated = [-13.6, -1029.0, -2042.0]
    expected = [
        sum(isolated[t] for t, real in zip(types, atoms, strict=True) if real)
        for types, atoms in zip(inputs["types"].tolist(), inputs["atoms"].tolist(), strict=True)
    ]
    difference = model.total_energy(**inputs) - model.energy(**inputs)
    assert difference.tolist() == pytest.approx(expected, abs=1e-10)


def test_scale_and_shift_are_those_of_the_element() -> None:
    inputs, plain, other = batch(), tiny("mace"), tiny("mace")
    other.shift = [1.0, 2.0, 3.0]
    moved = other.energy(**inputs) - plain.energy(**inputs)
    change = torch.tensor([1.3, 1.9, 2.8], dtype=torch.float64)[inputs["types"]]
    torch.testing.assert_close(moved, torch.where(inputs["atoms"], change, 0.0).sum(1))
    other.shift, other.scale = plain.shift, [2 * s for s in plain.scale]
    shifts = torch.tensor(plain.shift, dtype=torch.float64)[inputs["types"]]
    constant = torch.where(inputs["atoms"], shifts, 0.0).sum(1)
    twice = 2 * (plain.energy(**inputs) - constant)
    torch.testing.assert_close(other.energy(**inputs) - constant, twice)


def test_description_rebuilds_the_model() -> None:
    model = tiny("mace", "full", zbl=True, hydrogen_wall=True)
    again = Potential.from_description(*model.description()).double()
    assert again.description() == model.description()
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again.total_energy(**batch()), model.total_energy(**batch()))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("schnet",), "no backbone schnet; there are mace"),
        (("mace", {"chanels": 8}), "unknown option chanels, the nearest is channels"),
        (("mace", {"channels": "many"}), "options of backbone mace: .*channels"),
        (("mace", {}, {"kind": "half"}), "'half' is none of none, scalar"),
        (("mace", {}, {"kind": "full", "head": 1}), "the nearest is heads"),
    ],
)
def test_bad_input(arguments: tuple[Any, ...], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Potential(ELEMENTS, *arguments)


def test_a_constant_of_an_element_is_missing() -> None:
    model, constants = tiny("mace").description()
    del constants["e0"]["O"]
    with pytest.raises(InputError, match="e0 of O is missing"):
        Potential.from_description(model, constants)


def test_options_cover_every_backbone() -> None:
    assert set(BACKBONES) <= set(OPTIONS)
