"""The response to errors of forces: slopes by finite steps, invariance, soft against stiff."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from ase import Atoms
from ase.build import molecule
from ase.data import atomic_masses
from ase.io import read
from scipy.optimize import approx_fprime
from scipy.spatial.transform import Rotation

from forcefield.response import TIME_FS, _bend, _torsion, model_hessian, response_weights
from shared.units import AMU_A2_PER_FS2_IN_EV, BOHR_IN_ANGSTROM, HARTREE_IN_EV

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
Float = npt.NDArray[np.float64]


def response(atoms: Atoms, forces: Float) -> float:
    weights = response_weights(atoms.numbers, atoms.positions[None])[0].astype(np.float64)
    return float(np.square(np.einsum("nc,nrc->r", forces, weights)).sum())


def angle(x: Float) -> float:
    u, v = x[0] - x[1], x[2] - x[1]
    return float(np.arctan2(np.linalg.norm(np.cross(u, v)), u @ v))


def torsion(x: Float) -> float:
    f, g, h = x[0] - x[1], x[1] - x[2], x[3] - x[2]
    a, b = np.cross(f, g), np.cross(h, g)
    return float(np.arctan2(np.cross(b, a) @ g / np.linalg.norm(g), a @ b))


@pytest.mark.parametrize(("slope", "value", "size"), [(_bend, angle, 3), (_torsion, torsion, 4)])
def test_slopes_of_angles_and_torsions(
    slope: Callable[[Float], Float], value: Callable[[Float], float], size: int
) -> None:
    x = np.random.default_rng(0).normal(size=(5, size, 3))
    for frame in x:
        angles = [angle(frame[k : k + 3]) for k in range(size - 2)]
        if max(angles) > np.radians(145) or min(angles) < np.radians(35):
            continue  # straight
        (found,) = slope(frame[None])
        by_steps = approx_fprime(frame.ravel(), lambda v: value(v.reshape(-1, 3)), 1e-7)
        assert found.ravel() == pytest.approx(by_steps, abs=1e-5)


def test_the_model_hessian_is_that_of_a_molecule() -> None:
    """Six motions cost nothing, and frequencies lie where bonds, angles and torsions have them."""
    atoms = read(EXAMPLES / "ethanol.xyz", index=0)
    hessian = model_hessian(atoms.numbers, atoms.positions[None])[0]
    root = np.sqrt(np.repeat(atomic_masses[atoms.numbers], 3))
    squares = np.linalg.eigvalsh(hessian / np.outer(root, root))
    wavenumbers = 521.47 * np.sqrt(np.abs(squares))
    assert wavenumbers[:6].max() < 1.0
    assert 50 < wavenumbers[6] < 400
    assert ((wavenumbers > 2500) & (wavenumbers < 4500)).sum() == 6  # bonds to hydrogen


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("H2CO", [1085, 1203]),
        ("C2H2", [612, 612, 729, 729]),
        ("HCN", [777, 777]),
        ("CO2", [600, 600]),
        ("C3H4_C3v", [296, 296, 645, 645]),
        ("CH3CHO", [146, 490, 755]),
    ],
)
def test_its_softest_modes_are_those_of_the_molecule(name: str, reference: list[float]) -> None:
    """To a factor of three (1/cm, GFN2-xTB), planes and straight angles among them."""
    atoms = molecule(name)
    root = np.sqrt(np.repeat(atomic_masses[atoms.numbers], 3))
    hessian = model_hessian(atoms.numbers, atoms.positions[None])[0]
    squares = np.linalg.eigvalsh(hessian / np.outer(root, root))
    wavenumbers = 521.47 * np.sqrt(np.abs(squares))
    linear = np.linalg.matrix_rank(atoms.positions - atoms.positions[0], 0.01) == 1
    rigid = 5 if linear else 6
    assert wavenumbers[:rigid].max() < 1.0
    ratios = wavenumbers[rigid : rigid + len(reference)] / np.array(reference)
    assert ratios.min() > 1 / 3
    assert ratios.max() < 3


@pytest.mark.parametrize(
    ("symbols", "reference", "falloff"),
    [("H2", 1.35, 1.0), ("CH", 2.10, 0.3949), ("C2", 2.87, 0.28), ("CS", 3.40, 0.28)],
)
def test_springs_of_bonds(symbols: str, reference: float, falloff: float) -> None:
    """Lindh's constant at his reference lengths, bohr, and its falloff beside them."""
    for length in (reference, reference + 0.05):
        atoms = Atoms(symbols, [[0.0, 0.0, 0.0], [0.0, 0.0, length * BOHR_IN_ANGSTROM]])
        hessian = model_hessian(atoms.numbers, atoms.positions[None])[0]
        share = np.exp(falloff * (reference**2 - length**2))
        constant = 0.45 * HARTREE_IN_EV / BOHR_IN_ANGSTROM**2
        assert hessian[2, 2] == pytest.approx(constant * share)


def test_springs_of_angles_and_torsions() -> None:
    """Those of water and of hydrogen peroxide, by the energy of a small turn."""

    def falloff(x: Float, s: float, reference: float) -> float:
        return float(np.exp(s * (reference**2 - (x @ x) / BOHR_IN_ANGSTROM**2)))

    water = molecule("H2O")
    x = water.positions
    arms = x[1:] - x[0]
    normal = np.cross(*arms)
    moved = np.zeros_like(x)
    moved[1] = np.cross(normal / np.linalg.norm(normal), arms[0])
    found = moved.ravel() @ model_hessian(water.numbers, x[None])[0] @ moved.ravel()
    share = np.prod([falloff(arm, 0.3949, 2.10) for arm in arms])
    assert found == pytest.approx(0.15 * HARTREE_IN_EV * share)
    peroxide = molecule("H2O2")
    x = peroxide.positions
    i, j = np.flatnonzero(peroxide.numbers == 8)
    a, d = np.flatnonzero(peroxide.numbers == 1)
    if np.linalg.norm(x[a] - x[i]) > np.linalg.norm(x[a] - x[j]):
        a, d = d, a
    axis = x[j] - x[i]
    moved = np.zeros_like(x)
    moved[d] = np.cross(axis / np.linalg.norm(axis), x[d] - x[j])
    found = moved.ravel() @ model_hessian(peroxide.numbers, x[None])[0] @ moved.ravel()
    share = falloff(axis, 0.28, 2.87)
    share *= falloff(x[a] - x[i], 0.3949, 2.10) * falloff(x[d] - x[j], 0.3949, 2.10)
    assert found == pytest.approx(0.005 * HARTREE_IN_EV * share)


def test_bonds_are_those_of_each_frame() -> None:
    """Ethanol and dimethyl ether, of the same atoms, in one array."""
    found = []
    for name in ("CH3CH2OH", "CH3OCH3"):
        atoms = molecule(name)
        found.append(atoms[np.argsort(-atoms.numbers, kind="stable")])
    numbers = found[0].numbers
    both = response_weights(numbers, np.stack([atoms.positions for atoms in found]))
    for weights, atoms in zip(both, found, strict=True):
        assert weights == pytest.approx(response_weights(numbers, atoms.positions[None])[0])
    assert both[0] != pytest.approx(both[1], rel=0.5)


def test_the_shift_is_that_of_each_mode() -> None:
    """Of the modes of the mass-weighted Hessian: t/2 over √(ω² + 1/t²) of the force along it."""
    atoms = read(EXAMPLES / "ethanol.xyz", index=0)
    forces = np.random.default_rng(1).normal(size=(9, 3))
    root = np.sqrt(np.repeat(atomic_masses[atoms.numbers], 3) * AMU_A2_PER_FS2_IN_EV)
    hessian = model_hessian(atoms.numbers, atoms.positions[None])[0]
    squares, modes = np.linalg.eigh(hessian / np.outer(root, root))
    along = modes.T @ (forces.ravel() / root)
    expected = modes @ (along * TIME_FS / 2 / np.sqrt(squares + 1 / TIME_FS**2)) / root
    weights = response_weights(atoms.numbers, atoms.positions[None])[0]
    found = np.einsum("nc,nrc->r", forces, weights)
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_it_turns_with_the_molecule() -> None:
    atoms = read(EXAMPLES / "aspirin.xyz", index=0)
    forces = np.random.default_rng(2).normal(size=(21, 3))
    turn = Rotation.from_rotvec([0.4, -1.2, 0.7]).as_matrix()
    turned = Atoms(atoms.numbers, atoms.positions @ turn.T + 3.0)
    assert response(turned, forces @ turn.T) == pytest.approx(response(atoms, forces), rel=1e-4)


def test_a_push_on_the_whole_moves_it_freely() -> None:
    """Newton: F t²/(2M)."""
    atoms = molecule("CH3OH")
    masses = atomic_masses[atoms.numbers]
    push = np.array([0.0, 0.6, 0.8])
    weights = response_weights(atoms.numbers, atoms.positions[None])[0]
    shift = np.einsum("nc,nrc->r", np.outer(masses / masses.sum(), push), weights)
    expected = push * TIME_FS**2 / 2 / masses.sum() / AMU_A2_PER_FS2_IN_EV
    assert shift.reshape(-1, 3) == pytest.approx(
        np.tile(expected, (len(atoms), 1)), rel=1e-3, abs=1e-8
    )


def test_a_methyl_group_yields_to_a_torque_and_not_to_a_pull() -> None:
    atoms = molecule("C2H6")
    x = atoms.positions
    bond = (x[1] - x[0]) / np.linalg.norm(x[1] - x[0])
    hydrogens = [k for k in range(2, 8) if np.linalg.norm(x[k] - x[1]) < 1.3]
    turning, pulling = np.zeros_like(x), np.zeros_like(x)
    turning[hydrogens] = np.cross(bond, x[hydrogens] - x[1])
    pulling[hydrogens] = x[hydrogens] - x[1]
    turning /= np.linalg.norm(turning)
    pulling /= np.linalg.norm(pulling)
    assert response(atoms, turning) > 20 * response(atoms, pulling)


def test_the_response_has_no_step_where_atoms_come_into_line() -> None:
    """Propyne's last hydrogen, off the line by next to nothing and by a little."""
    atoms = molecule("C3H4_C3v")
    last = np.abs(atoms.get_all_distances()[atoms.numbers == 6]).sum(0)
    last = np.where(atoms.numbers == 1, last, -1.0).argmax()
    axis = atoms.positions[last] - atoms.positions[atoms.numbers == 6].mean(0)
    aside = np.cross(axis, [0.3, 0.5, 0.7])
    forces = np.zeros((len(atoms), 3))
    forces[last] = aside / np.linalg.norm(aside)
    found = []
    for off in (0.0, 1e-7, 1e-6, 1e-5, 1e-3):
        moved = atoms.copy()
        moved.positions[last] += off * forces[last]
        found.append(response(moved, forces))
    assert found == pytest.approx([found[0]] * len(found), rel=0.02)


def test_two_atoms_at_one_place_are_not_finite() -> None:
    atoms = molecule("CH3OH")
    x = np.stack([atoms.positions, atoms.positions])
    x[1, 1] = x[1, 0]
    weights = response_weights(atoms.numbers, x)
    assert np.isfinite(weights[0]).all()
    assert not np.isfinite(weights[1]).any()
