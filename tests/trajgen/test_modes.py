"""Normal modes: those of known harmonic molecules; frictions act on them alone, however the
molecule is turned, reflected or written down; a generator keeps them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from scipy.spatial.transform import Rotation

from shared.errors import InputError
from shared.state import PhaseState
from shared.topology import orderings
from tests.trajgen.conftest import MOLECULES, save_tiny
from trajgen.calibration import CalibrationConfig, _modes_of, calibrate, check
from trajgen.load import load_model
from trajgen.model import TransitionModel
from trajgen.modes import ModeFriction, normal_modes
from trajgen.pairs import Series, make_series
from trajgen.rollout import Generator

GENERATOR = np.random.default_rng(0)
# Flat with degenerate modes, pyramidal, tetrahedral, and one whose equivalent atoms can be
# exchanged in ways that are no motion of the molecule.
NAMES = ["C6H6", "NH3", "CH4", "C3H6_D3h"]


def springs(atoms: Atoms) -> np.ndarray:
    """A mass-weighted stiffness [3N, 3N] with the symmetry of the molecule: a spring between each
    pair, softer with distance, and a little of one that holds each atom. 1/fs²."""
    x, n = atoms.positions, len(atoms)
    out = np.zeros((n, 3, n, 3))
    for i in range(n):
        out[i, :, i] += 1e-4 * np.eye(3)
        for j in range(i):
            d = x[j] - x[i]
            r = np.linalg.norm(d)
            k = 0.05 * np.exp(-2 * r) * np.outer(d / r, d / r)
            for a, b, sign in ((i, i, 1), (j, j, 1), (i, j, -1), (j, i, -1)):
                out[a, :, b] += sign * k
    root = np.sqrt(atoms.get_masses())
    return (out / root[:, None, None, None] / root[:, None]).reshape(3 * n, 3 * n)


def frames(atoms: Atoms, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Turned harmonic frames: positions, accelerations [T, N, 3] and the frequencies."""
    n, root = len(atoms), np.sqrt(atoms.get_masses())[:, None]
    x = atoms.positions - atoms.get_center_of_mass()
    rigid = np.zeros((6, n, 3))
    for axis, unit in enumerate(np.eye(3)):
        rigid[axis], rigid[3 + axis] = root * unit, root * np.cross(unit, x)
    basis = np.linalg.svd(rigid.reshape(6, -1).T)[0][:, 6:]
    squares, inner = np.linalg.eigh(basis.T @ springs(atoms) @ basis)
    amplitudes = 1e-3 * GENERATOR.standard_normal((count, len(squares))) / np.sqrt(squares)
    amplitudes *= 0.2
    q = amplitudes @ (basis @ inner).T
    a = -(amplitudes * squares) @ (basis @ inner).T
    turns = Rotation.random(count, rng=GENERATOR).as_matrix()
    positions = (x + q.reshape(count, n, 3) / root) @ turns
    return positions, (a.reshape(count, n, 3) / root) @ turns, np.sqrt(squares)


def friction_of(atoms: Atoms) -> ModeFriction:
    """A different rate for each level."""
    positions, accelerations, _ = frames(atoms, 2000)
    made = ModeFriction.of(atoms.numbers, atoms.get_masses(), positions, accelerations).double()
    made.rates.copy_(torch.linspace(-0.001, 0.002, int(made.levels[-1]) + 1)[made.levels])
    return made


def state(atoms: Atoms) -> tuple[torch.Tensor, torch.Tensor]:
    positions, _, _ = frames(atoms, 3)
    velocities = 0.01 * GENERATOR.standard_normal(positions.shape)
    return torch.from_numpy(positions), torch.from_numpy(velocities)


@pytest.mark.parametrize("name", NAMES)
def test_the_modes_of_a_harmonic_molecule(name: str) -> None:
    atoms = molecule(name)
    n = len(atoms)
    positions, accelerations, expected = frames(atoms, 2000)
    mean, vectors, found = normal_modes(atoms.numbers, atoms.get_masses(), positions, accelerations)
    assert found == pytest.approx(expected, rel=5e-3)
    flat = vectors.reshape(3 * n, -1)
    assert flat.T @ flat == pytest.approx(np.eye(3 * n - 6), abs=1e-10)
    assert Atoms(atoms.numbers, mean).get_all_distances() == pytest.approx(
        atoms.get_all_distances(), abs=0.01
    )


def test_degenerate_modes_are_one_level() -> None:
    assert friction_of(molecule("CH4")).levels.tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 3]
    assert friction_of(molecule("NH3")).levels[-1] == 3  # 6 modes, of which 2 pairs


@pytest.mark.parametrize("name", NAMES)
def test_each_mode_is_slowed_at_its_own_rate(name: str) -> None:
    atoms = molecule(name)
    friction, (x, v) = friction_of(atoms), state(atoms)
    masses = torch.from_numpy(atoms.get_masses())
    order = friction.order(atoms.numbers, atoms.positions)
    before = friction.coordinates(order, masses, x, v)
    slowed = friction.slow(order, masses, x, v, 5.0)
    after = friction.coordinates(order, masses, x, slowed)
    expected = before * torch.exp(-5.0 * friction.rates)
    torch.testing.assert_close(after, expected, rtol=1e-4, atol=1e-6)  # reference is float32
    momentum = (masses[:, None] * (slowed - v)).sum(1)
    assert float(momentum.abs().max()) < 1e-6
    torch.testing.assert_close(friction.slow(order, masses, x, v, 0.0), v)


@pytest.mark.parametrize("name", NAMES)
def test_it_turns_and_reorders_with_the_molecule(name: str) -> None:
    """Rotation, reflection and any order of the atoms: which of equivalent ones is which is open,
    so this needs the symmetry of the modes."""
    atoms = molecule(name)
    n, friction, (x, v) = len(atoms), friction_of(atoms), state(atoms)
    masses = torch.from_numpy(atoms.get_masses())
    order = friction.order(atoms.numbers, atoms.positions)
    expected = friction.slow(order, masses, x, v, 5.0)
    turn = torch.from_numpy(Rotation.random(rng=GENERATOR).as_matrix())
    for matrix in (turn, -turn):
        moved = x @ matrix + 1.0, v @ matrix
        found = friction.slow(order, masses, *moved, 5.0)
        torch.testing.assert_close(found, expected @ matrix, rtol=0, atol=1e-7)
    for _ in range(4):
        shuffled = GENERATOR.permutation(n)
        new = friction.order(atoms.numbers[shuffled], x[0, shuffled].numpy())
        found = friction.slow(new, masses[shuffled], x[:, shuffled], v[:, shuffled], 5.0)
        torch.testing.assert_close(found, expected[:, shuffled], rtol=0, atol=1e-6)


def test_modes_hold_all_the_energy_that_neither_moves_nor_turns() -> None:
    atoms = molecule("NH3")
    friction = friction_of(atoms)
    mean, masses = friction.reference.numpy(), atoms.get_masses()
    order = friction.order(atoms.numbers, atoms.positions)
    velocities = 0.01 * GENERATOR.standard_normal(mean.shape)
    still = Atoms(atoms.numbers[order.argsort()], mean, velocities=velocities)
    still.set_momenta(
        still.get_momenta() - masses[:, None] * still.get_momenta().sum(0) / masses.sum()
    )
    spin = np.linalg.solve(inertia(mean, masses), still.get_angular_momentum())
    v = still.get_velocities() - np.cross(spin, mean)
    turned = torch.from_numpy(mean[None]), torch.from_numpy(v[None])
    c = friction.coordinates(torch.arange(len(mean)), torch.from_numpy(masses), *turned)
    assert float(c.square().sum()) == pytest.approx((masses[:, None] * v**2).sum(), rel=1e-5)


def inertia(x: np.ndarray, masses: np.ndarray) -> np.ndarray:
    square = (masses[:, None] * x**2).sum()
    return square * np.eye(3) - np.einsum("n,na,nb->ab", masses, x, x)


def test_a_molecule_whose_parts_turn_is_refused() -> None:
    for name, axis, part in (("C2H6", (0, 1), [1, 5, 6, 7]), ("HCOOH", (1, 2), None)):
        atoms = molecule(name)
        if name == "HCOOH":
            oxygen = next(
                i
                for i in range(len(atoms))
                if atoms.numbers[i] == 8
                and np.sort(atoms.get_distances(i, np.flatnonzero(atoms.numbers == 1)))[0] < 1.1
            )
            hydrogen = min(
                np.flatnonzero(atoms.numbers == 1), key=lambda h: atoms.get_distance(oxygen, h)
            )
            axis, part = (int(np.flatnonzero(atoms.numbers == 6)[0]), oxygen), [int(hydrogen)]
        turned = []
        for k in range(60):
            copy = atoms.copy()
            line = copy.positions[axis[1]] - copy.positions[axis[0]]
            rotation = Rotation.from_rotvec(line / np.linalg.norm(line) * k * np.pi / 30)
            base = copy.positions[axis[1]]
            copy.positions[part] = base + rotation.apply(copy.positions[part] - base)
            turned.append(copy.positions)
        x = np.array(turned)
        with pytest.raises(InputError, match=r"calibration\.by: classes"):
            normal_modes(atoms.numbers, atoms.get_masses(), x, np.zeros_like(x))


def test_too_many_ways_to_exchange_atoms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trajgen.modes._ORDERINGS", 11)
    with pytest.raises(InputError, match="more than 11 ways"):
        friction_of(molecule("C6H6"))  # which has twelve


def test_another_molecule_has_no_order() -> None:
    friction, other = friction_of(molecule("NH3")), molecule("PH3")
    assert not list(
        orderings(
            (molecule("NH3").numbers, molecule("NH3").positions), other.numbers, other.positions
        )
    )
    with pytest.raises(InputError, match="other bonds"):
        friction.order(other.numbers, other.positions)


# -- in a generator ------------------------------------------------------------------------------


def leak(self: Any, c: Any, *_: Any, **__: Any) -> torch.Tensor:
    """Rows of a next state in the same place, all its velocities slowed alike."""
    momenta = c.velocities * self.normalisation.velocity
    velocities = momenta * c.inverse_sqrt_mass[..., None] * torch.exp(-0.002 * c.lag)[:, None, None]
    return self.encode(c, c.positions, velocities, torch.zeros_like(c.lag))


def frozen_ethanol() -> Series:
    """Small vibrations of a molecule that the tiny checkpoint knows: it keeps its shape."""
    atoms = MOLECULES["ethanol"]
    positions, _, _ = frames(atoms, 2000)
    series = make_series("ethanol", atoms.numbers, positions, 0.5, np.zeros(len(positions)))
    n = len(atoms)
    v = GENERATOR.standard_normal((2000, n, 3)) / np.sqrt(atoms.get_masses())[:, None]
    return replace(series, velocities=(0.01 * v).astype(np.float32))


def test_calibrated_stored_loaded_and_used(tmp_path: Path, monkeypatch: Any) -> None:
    """The leak of every mode is found; a replica that is not finite stops, the other goes on."""
    monkeypatch.setattr(TransitionModel, "draw", leak)
    folder, series = save_tiny(tmp_path / "tiny"), frozen_ethanol()
    settings = CalibrationConfig("modes", length_ps=1.0, replicas=64, coupling_ps=0.05)
    calibrate(folder, [series], (0, 2000), settings, compile=False)
    model, config = load_model(str(folder))
    assert model.modes is not None
    assert model.modes.sizes == {"atoms": 9, "modes": 21}
    assert model.modes.rates.numpy() == pytest.approx(np.full(21, -0.002), abs=4e-4)

    def broken(self: Any, c: Any, *_: Any, **__: Any) -> torch.Tensor:
        rows = leak(self, c)
        rows[1] = torch.nan
        return rows

    monkeypatch.setattr(TransitionModel, "draw", broken)
    shuffled = GENERATOR.permutation(9)
    x, v = (
        np.repeat(values[5:6, shuffled].astype(float), 2, 0)
        for values in (series.positions, series.velocities)
    )
    start = PhaseState(series.numbers[shuffled], x, velocities=v)
    generator = Generator(model, config, keep_angular_momentum=False, compile=False)
    *_, last = generator.propagate(start, 20, generator.lag_fs, seed=0)
    assert last.alive.tolist() == [True, False]
    masses = series.masses[shuffled, None]
    rigid = v[0] - (masses * v[0]).sum(0) / masses.sum()
    kept = (masses * last.velocities[0] ** 2).sum() / (masses * rigid**2).sum()
    alone = np.exp(-4 * 0.002 / 2 * 20 * generator.lag_fs)  # without frictions
    assert alone < 0.97
    assert kept > 0.5 * (1 + alone)


def test_temperatures_of_the_frames_or_equal_ones(tmp_path: Path, monkeypatch: Any) -> None:
    def still(self: Any, c: Any, *_: Any, **__: Any) -> torch.Tensor:
        """The same place and velocities: nothing leaks."""
        velocities = c.velocities * self.normalisation.velocity * c.inverse_sqrt_mass[..., None]
        return self.encode(c, c.positions, velocities, torch.zeros_like(c.lag))

    monkeypatch.setattr(TransitionModel, "draw", still)
    folder, series = save_tiny(tmp_path / "tiny"), frozen_ethanol()
    factors = np.where(series.numbers == 1, 3.0, 1.0).astype(np.float32)
    series = replace(series, velocities=series.velocities * factors[:, None])
    found = []
    for temperatures in ("frames", "equal"):
        settings = CalibrationConfig("modes", temperatures, 0.05, 1500, 0.05)
        calibrate(folder, [series], (0, 2000), settings, compile=False)
        modes = load_model(str(folder))[0].modes
        assert modes is not None
        found.append(modes.rates.numpy().copy())
    kept, equal = (np.abs(rates).mean() for rates in found)
    assert kept < 0.3 * equal
    assert found[1].min() < 0 < found[1].max()  # skeleton heated, hydrogens cooled


def test_other_trajectories_in_another_order(monkeypatch: pytest.MonkeyPatch) -> None:
    series = frozen_ethanol()
    shuffled = GENERATOR.permutation(9)
    other = make_series("x", series.numbers[shuffled], series.positions[:, shuffled], 0.5, None)
    other = replace(other, velocities=series.velocities[:, shuffled])
    rows = slice(2, None)
    alone, together = (
        _modes_of(seen)[0] for seen in ([(series, rows)], [(series, rows), (other, rows)])
    )
    torch.testing.assert_close(alone.reference, together.reference, rtol=0, atol=1e-3)


def test_what_would_stop_a_calibration_is_said_before_training() -> None:
    series = frozen_ethanol()
    settings = CalibrationConfig("modes", length_ps=1.0)
    check("residual", [series], (0, 2000), settings)
    with pytest.raises(InputError, match="only the mode residual"):
        check("paper", [series], (0, 2000), settings)
    with pytest.raises(InputError, match="of one molecule"):
        check("residual", [series, series], (0, 2000), settings)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"length_ps": -1.0}, r"calibration\.length_ps must be >= 0"),
        ({"replicas": 0}, r"calibration\.replicas must be >= 1"),
        ({"coupling_ps": 0.0}, r"calibration\.coupling_ps must be > 0"),
    ],
)
def test_settings_that_cannot_be(changes: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        CalibrationConfig(**changes)
