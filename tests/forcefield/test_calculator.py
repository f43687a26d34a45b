"""The ASE calculator: energies and forces, and what ASE does with them."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from ase import units
from ase.build import molecule
from ase.io import read
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from ase.vibrations import Vibrations

from forcefield.calculator import TrajgenCalculator
from shared.checkpoint import shipped
from shared.errors import InputError
from shared.topology import atom_classes, molecule_key
from tests.commands import ROOT
from tests.forcefield.tiny import E0, save_tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("checkpoints") / "tiny", scale=0.3))


@pytest.fixture
def calculator(folder: str) -> TrajgenCalculator:
    return TrajgenCalculator(checkpoint=folder, dtype="float64")


def test_energy_and_forces(calculator: TrajgenCalculator) -> None:
    atoms = molecule("H2O")
    atoms.calc = calculator
    assert atoms.get_potential_energy() == pytest.approx(2 * E0[0] + E0[2], abs=5)
    assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()
    forces = atoms.get_forces()
    assert forces.shape == (3, 3)
    energies = []
    for step in (1e-4, -2e-4):
        atoms.positions[1, 0] += step
        energies.append(atoms.get_potential_energy())
    assert (energies[1] - energies[0]) / 2e-4 == pytest.approx(forces[1, 0], abs=1e-6)


@pytest.mark.parametrize(("example", "name"), [("3bpa", "3bpa"), ("aspirin", "rmd17")])
def test_the_shipped_ones(example: str, name: str) -> None:
    """By name: forces pull a squeezed bond apart, and no atom of a real frame far."""
    if name not in shipped("forcefield"):
        pytest.skip(f"needs the shipped checkpoint {name}")
    atoms = read(ROOT / "examples" / f"{example}.xyz")
    atoms.calc = TrajgenCalculator(checkpoint=name)
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    assert np.abs(forces.sum(0)).max() < 1e-3
    assert 0.1 < np.sqrt(np.mean(forces**2)) < 3.0
    hydrogen = int(np.flatnonzero(atoms.numbers == 1)[0])
    near = int(np.argsort(atoms.get_distances(hydrogen, range(len(atoms))))[1])
    axis = atoms.positions[hydrogen] - atoms.positions[near]
    atoms.positions[hydrogen] -= 0.2 * axis
    assert atoms.get_potential_energy() > energy
    assert atoms.get_forces()[hydrogen] @ axis > 1.0


def test_another_molecule(calculator: TrajgenCalculator) -> None:
    """The same calculator serves molecules of any size, one after the other."""
    values = []
    for name in ("H2O", "CH3CH2OH", "H2O"):
        atoms = molecule(name)
        atoms.calc = calculator
        values.append(atoms.get_potential_energy())
    assert values[0] == values[2] != values[1]


def test_precision(folder: str) -> None:
    energies = []
    for dtype in ("float32", "float64"):
        atoms = molecule("CH3CH2OH")
        atoms.calc = TrajgenCalculator(folder, dtype=dtype)
        energies.append(atoms.get_potential_energy())
    assert energies[0] == pytest.approx(energies[1], abs=1e-4)
    assert energies[0] != energies[1]


def test_optimiser_and_vibrations(calculator: TrajgenCalculator, tmp_path: Path) -> None:
    atoms = molecule("H2O")
    atoms.rattle(0.05, seed=0)
    atoms.calc = calculator
    before = atoms.get_potential_energy()
    BFGS(atoms, logfile=None).run(fmax=1e-3, steps=20)
    assert atoms.get_potential_energy() < before
    vibrations = Vibrations(atoms, name=str(tmp_path / "vib"))
    vibrations.run()
    assert len(vibrations.get_energies()) == 9


def test_dynamics_conserve_energy(calculator: TrajgenCalculator) -> None:
    atoms = molecule("CH3CH2OH")
    atoms.calc = calculator
    atoms.set_momenta(0.15 * np.random.default_rng(0).standard_normal((9, 3)))
    before, kinetic = atoms.get_total_energy(), atoms.get_kinetic_energy()
    VelocityVerlet(atoms, timestep=0.25 * units.fs).run(80)
    assert abs(atoms.get_kinetic_energy() - kinetic) > 1e-3
    assert atoms.get_total_energy() == pytest.approx(before, abs=1e-4)


def test_atoms_in_one_place(calculator: TrajgenCalculator) -> None:
    atoms = molecule("H2O")
    atoms.positions[2] = atoms.positions[1]
    atoms.calc = calculator
    for ask in (atoms.get_potential_energy, atoms.get_forces):
        with pytest.raises(InputError, match=r"atoms 1 and 2 \(from 0\) are 0 Å apart"):
            ask()


def test_a_molecule_it_was_not_trained_on(tmp_path: Path) -> None:
    """A warning, once for each molecule."""
    water = molecule("H2O")
    key = molecule_key(atom_classes(water.numbers, water.positions))
    known = {"water": {"key": key, "atoms": 3}}
    calculator = TrajgenCalculator(str(save_tiny(tmp_path / "wet", molecules=known)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calculator.get_potential_energy(water)
    methane = molecule("CH4")
    with pytest.warns(UserWarning, match="wet was not trained on this molecule; it was on water"):
        calculator.get_potential_energy(methane)


def test_bad_input(calculator: TrajgenCalculator, folder: str) -> None:
    with pytest.raises(InputError, match="no checkpoint nowhere"):
        TrajgenCalculator("nowhere")
    with pytest.raises(InputError, match="dtype 'float16' is not known"):
        TrajgenCalculator(folder, dtype="float16")
    with pytest.raises(InputError, match="choose cpu or cuda"):
        TrajgenCalculator(folder, device="tpu")
    calculator.get_potential_energy(molecule("H2O"))
    for _ in range(2):
        with pytest.raises(InputError, match="does not know the element N; it knows H, C, O"):
            calculator.get_potential_energy(molecule("NH3"))
    with pytest.raises(InputError, match="only molecules are supported"):
        calculator.get_potential_energy(molecule("H2O", vacuum=5, pbc=True))


def test_a_misspelt_option_is_refused() -> None:
    with pytest.raises(TypeError, match="chekpoint"):
        TrajgenCalculator(chekpoint="3bpa")  # type: ignore[call-arg]
