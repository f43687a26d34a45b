"""Terms with nothing to learn: what they are at their ends, and the physics of both."""

import math
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn

from forcefield.potential import energy_and_forces
from forcefield.priors import HydrogenWall, ShortRangeRepulsion
from shared.layers.pairs import all_pairs
from shared.layers.tensor import building_in
from tests.forcefield.checks import check_size_consistent
from tests.forcefield.potentials import ELEMENTS, batch, tiny
from tests.physics import Case, check_gradient, check_padding, check_smooth_at, check_symmetries

KINDS = {"zbl": ShortRangeRepulsion, "hydrogen_wall": HydrogenWall}
# The term, and how wide the batch of the other tests is made for it to act.
CASES = {
    "repulsion": ("zbl", 1.0),
    "leaving": ("hydrogen_wall", 1.3),  # hydrogens are far from everything
    "sharing": ("hydrogen_wall", 0.85),  # hydrogens are near several atoms
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[str, dict[str, Tensor]]:
    """The name of a term, and a batch of molecules where it acts."""
    option, scale = CASES[request.param]
    inputs = batch()
    return option, {**inputs, "positions": scale * inputs["positions"]}


def prior(option: str, elements: list[int] = ELEMENTS) -> nn.Module:
    with building_in(torch.float64):
        return KINDS[option](elements)


def test_padding_has_none(case: tuple[str, dict[str, Tensor]]) -> None:
    option, inputs = case
    types = torch.where(inputs["atoms"], inputs["types"], 0)  # hydrogens, if they were atoms
    found = prior(option)(types, all_pairs(inputs["positions"], inputs["atoms"]))
    assert found[~inputs["atoms"]].abs().max() == 0


def test_it_is_added_to_the_network(case: tuple[str, dict[str, Tensor]]) -> None:
    option, inputs = case
    pairs = all_pairs(inputs["positions"], inputs["atoms"])
    own = prior(option)(inputs["types"], pairs).sum(1)
    assert own.max() > 0.01
    found = tiny("mace", **{option: True}).energy(**inputs) - tiny("mace").energy(**inputs)
    torch.testing.assert_close(found, own, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("option", KINDS)
def test_molecules_far_apart_do_not_feel_each_other(option: str) -> None:
    check_size_consistent(tiny("mace", **{option: True}).energy, tolerance=1e-8)


def test_symmetries_permutation_and_batching(case: tuple[str, dict[str, Tensor]]) -> None:
    option, inputs = case
    model = tiny("mace", **{option: True})

    def function(types: Tensor, positions: Tensor, mask: Tensor) -> Mapping[str, Tensor]:
        energies, forces = model.energy_and_forces(types, positions, mask)
        return {"energies": energies, "forces": torch.where(mask[..., None], forces, 0.0)}

    inputs["mask"] = inputs.pop("atoms")
    physics = Case(function, inputs, vectors=("forces",))
    check_symmetries(physics, tolerance=1e-8)
    check_padding(physics, tolerance=1e-8)


def test_forces_are_the_slope_of_the_energy(case: tuple[str, dict[str, Tensor]]) -> None:
    option, inputs = case
    term, types, atoms = prior(option), inputs["types"], inputs["atoms"]

    def energy(types: Tensor, positions: Tensor, atoms: Tensor) -> Tensor:
        return (term(types, all_pairs(positions, atoms)) * atoms).sum(1)

    _, forces = energy_and_forces(energy, types, inputs["positions"], atoms)
    assert forces.abs().max() > 1e-2
    check_gradient(lambda x: energy(types, x, atoms).sum(), inputs["positions"], -forces, step=1e-5)


def test_repulsion() -> None:
    """Coulomb's law at short range, nothing beyond the covalent radii, smooth in between."""
    energy = of_two("zbl", [6, 8])
    bare = 14.399645 * 48 / 1e-3
    assert energy(torch.tensor(1e-3)).item() == pytest.approx(bare, rel=0.02)
    assert energy(torch.tensor(0.5)) > 10
    reach = 0.76 + 0.66
    assert energy(torch.tensor(reach + 1e-6, dtype=torch.float64)) == 0
    check_smooth_at(energy, reach, order=2, tolerance=1e-2)  # 1e3 eV/Å³ times the distance


def test_wall_before_a_hydrogen() -> None:
    """Nothing along a bond, a rise beyond it, a plateau far away; smooth where it begins."""
    energy, bond = of_two("hydrogen_wall", [1, 6]), 0.31 + 0.76
    assert energy(torch.tensor(1.29 * bond, dtype=torch.float64)) == 0
    check_smooth_at(energy, 1.3 * bond, order=2, tolerance=1e-2)
    rise = [energy(torch.tensor(u * bond, dtype=torch.float64)).item() for u in (1.4, 1.7, 2.0)]
    assert 0 < rise[0] < rise[1] < rise[2]
    assert rise[1] == pytest.approx(3.5 * 0.4**3 / (0.4**2 + 0.25**2), rel=1e-3)
    plateau = 3.5 * 0.9**3 / (0.9**2 + 0.25**2)
    for r in (10.0, 100.0):
        assert energy(torch.tensor(r, dtype=torch.float64)).item() == pytest.approx(plateau)


def test_wall_lets_a_hydrogen_change_its_partner() -> None:
    """Bound to either of two carbons it has nothing to climb, and something in between."""
    term = prior("hydrogen_wall", [1, 6])
    types, atoms = torch.tensor([[1, 0, 1]]), torch.ones(1, 3, dtype=torch.bool)
    for place in (-0.65, 0.65):  # 1.1 Å from one, 2.4 Å from the other
        x = torch.tensor([[[-1.75, 0, 0], [place, 0, 0], [1.75, 0, 0]]], dtype=torch.float64)
        assert term(types, all_pairs(x, atoms)).sum() == 0
    bond = 0.31 + 0.76

    def energy(apart: Tensor) -> Tensor:
        """Of a hydrogen halfway between two carbons, as a function of its distance from each."""
        x = apart * torch.tensor([[[-1, 0, 0], [0, 0, 0], [1, 0, 0]]], dtype=torch.float64)
        return term(types, all_pairs(x, atoms)).sum()

    assert energy(torch.tensor(bond, dtype=torch.float64)).item() == pytest.approx(4.0)
    check_smooth_at(energy, bond, order=2, tolerance=1e-2)
    assert 0 < energy(torch.tensor(1.25 * bond, dtype=torch.float64)).item() < 4.0


def test_wall_is_zero_beside_a_bond_until_a_second_atom_is_near() -> None:
    term, (ch, nh) = prior("hydrogen_wall", [1, 6, 7]), (0.31 + 0.76, 0.31 + 0.71)
    types, atoms = torch.tensor([[1, 0, 2]]), torch.ones(1, 3, dtype=torch.bool)

    def energy(second: Tensor) -> Tensor:
        """Of a hydrogen bound to carbon as a function of its distance from a nitrogen."""
        zero = torch.zeros((), dtype=torch.float64)
        ends = torch.stack([torch.tensor(-0.95 * ch, dtype=torch.float64), zero, second])
        x = torch.stack([ends, 0 * ends, 0 * ends], dim=-1)
        return term(types, all_pairs(x[None], atoms)).sum()

    assert energy(torch.tensor(1.51 * nh, dtype=torch.float64)) == 0
    check_smooth_at(energy, 1.5 * nh, order=2, tolerance=2e-2)  # 1e4 eV/Å³ times the distance
    rise = [energy(torch.tensor(u * nh, dtype=torch.float64)).item() for u in (1.45, 1.3, 1.15)]
    assert 0 < rise[0] < rise[1] < rise[2] < 4.0


def test_wall_is_of_hydrogens_alone() -> None:
    energy = of_two("hydrogen_wall", [6, 8])
    assert energy(torch.tensor(3.0, dtype=torch.float64)) == 0


def test_wall_of_a_lone_hydrogen_is_finite() -> None:
    term = prior("hydrogen_wall", [1])
    x = torch.zeros(1, 1, 3, dtype=torch.float64, requires_grad=True)
    energy = term(torch.zeros(1, 1, dtype=torch.long), all_pairs(x, torch.ones(1, 1).bool()))
    (slope,) = torch.autograd.grad(energy.sum(), x)
    assert energy.item() == pytest.approx(2.924, abs=1e-3)
    assert math.isfinite(slope.sum().item())
    assert slope.abs().max() == 0


def of_two(option: str, elements: list[int]) -> Callable[[Tensor], Tensor]:
    """Energy of two atoms of two elements as a function of their distance, Å."""
    term = prior(option, elements)
    types, atoms = torch.tensor([[0, 1]]), torch.ones(1, 2, dtype=torch.bool)

    def energy(r: Tensor) -> Tensor:
        positions = r * torch.tensor([[[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]], dtype=torch.float64)
        return term(types, all_pairs(positions, atoms)).sum()

    return energy
