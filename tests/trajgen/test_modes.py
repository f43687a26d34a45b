"""Normal modes: those of a known harmonic molecule; frictions act on them alone, however turned."""

import numpy as np
import pytest
import torch
from ase.build import molecule
from scipy.spatial.transform import Rotation

from shared.errors import InputError
from shared.kinetics import temperature
from shared.units import AMU_A2_PER_FS2_IN_EV, KB_EV_PER_K
from trajgen.modes import ModeFriction, normal_modes

BENZENE = molecule("C6H6")
MASSES = BENZENE.get_masses()
N = len(MASSES)
GENERATOR = np.random.default_rng(0)


def springs() -> np.ndarray:
    """A mass-weighted stiffness [3N, 3N] with the symmetry of the molecule: a spring between each
    pair, softer with distance, and one that keeps the ring flat. 1/fs²."""
    x = BENZENE.positions
    out = np.zeros((N, 3, N, 3))
    for i in range(N):
        for j in range(i):
            d = x[j] - x[i]
            r = np.linalg.norm(d)
            k = 0.05 * np.exp(-2 * r) * (np.outer(d / r, d / r) + 0.3 * np.diag([0, 0, 1]))
            for a, b, sign in ((i, i, 1), (j, j, 1), (i, j, -1), (j, i, -1)):
                out[a, :, b] += sign * k
    root = np.sqrt(MASSES)[:, None, None, None]
    return (out / root / np.sqrt(MASSES)[:, None]).reshape(3 * N, 3 * N)


def frames(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Turned harmonic frames: positions, accelerations [T, N, 3] and the frequencies."""
    stiffness = springs()
    rigid = np.zeros((6, N, 3))
    root = np.sqrt(MASSES)[:, None]
    x = BENZENE.positions - BENZENE.get_center_of_mass()
    for axis, unit in enumerate(np.eye(3)):
        rigid[axis], rigid[3 + axis] = root * unit, root * np.cross(unit, x)
    basis = np.linalg.svd(rigid.reshape(6, -1).T)[0][:, 6:]
    squares, inner = np.linalg.eigh(basis.T @ stiffness @ basis)
    amplitudes = 1e-3 * GENERATOR.standard_normal((count, len(squares))) / np.sqrt(squares)
    q = amplitudes @ (basis @ inner).T
    a = -(amplitudes * squares) @ (basis @ inner).T
    turns = Rotation.random(count, rng=GENERATOR).as_matrix()
    positions = (x + q.reshape(count, N, 3) / root) @ turns
    return positions, (a.reshape(count, N, 3) / root) @ turns, np.sqrt(squares)


def test_the_modes_of_a_harmonic_molecule() -> None:
    positions, accelerations, expected = frames(2000)
    mean, vectors, found = normal_modes(BENZENE.numbers, MASSES, positions, accelerations)
    assert found == pytest.approx(expected, rel=1e-3)
    assert vectors.shape == (N, 3, 3 * N - 6)
    flat = vectors.reshape(3 * N, -1)
    assert flat.T @ flat == pytest.approx(np.eye(3 * N - 6), abs=1e-10)
    assert np.linalg.svd(mean)[1][2] == pytest.approx(0, abs=1e-3)  # flat


@pytest.fixture(scope="module")
def friction() -> ModeFriction:
    positions, accelerations, _ = frames(2000)
    made = ModeFriction.of(BENZENE.numbers, MASSES, positions, accelerations).double()
    assert made.levels[-1] == 19  # 30 modes, of which 10 pairs are degenerate
    made.rates.copy_(torch.linspace(-0.001, 0.002, 20)[made.levels])
    return made


def state() -> tuple[torch.Tensor, torch.Tensor]:
    positions, _, _ = frames(3)
    velocities = 0.01 * GENERATOR.standard_normal(positions.shape)
    return torch.from_numpy(positions), torch.from_numpy(velocities)


def test_each_mode_is_slowed_at_its_own_rate(friction: ModeFriction) -> None:
    x, v = state()
    masses = torch.from_numpy(MASSES)
    order = friction.order(BENZENE.numbers, BENZENE.positions)
    before = friction.coordinates(order, masses, x, v)
    slowed = friction.slow(order, masses, x, v, 5.0)
    after = friction.coordinates(order, masses, x, slowed)
    expected = before * torch.exp(-5.0 * friction.rates)
    torch.testing.assert_close(after, expected, rtol=1e-4, atol=1e-6)  # reference is float32
    momentum = (masses[:, None] * (slowed - v)).sum(1)
    assert float(momentum.abs().max()) < 1e-6
    friction_off = friction.slow(order, masses, x, v, 0.0)
    torch.testing.assert_close(friction_off, v)


def test_it_turns_and_reorders_with_the_molecule(friction: ModeFriction) -> None:
    """Rotation, reflection and any order of the atoms: which of equivalent ones is which is open,
    so this needs the symmetry of the modes."""
    x, v = state()
    masses = torch.from_numpy(MASSES)
    order = friction.order(BENZENE.numbers, BENZENE.positions)
    expected = friction.slow(order, masses, x, v, 5.0)
    turn = torch.from_numpy(Rotation.random(rng=GENERATOR).as_matrix())
    shuffled = GENERATOR.permutation(N)
    for matrix in (turn, -turn):
        moved = x @ matrix + 1.0, v @ matrix
        found = friction.slow(order, masses, *moved, 5.0)
        torch.testing.assert_close(found, expected @ matrix, rtol=0, atol=1e-8)
    new = friction.order(BENZENE.numbers[shuffled], BENZENE.positions[shuffled])
    found = friction.slow(new, masses[shuffled], x[:, shuffled], v[:, shuffled], 5.0)
    torch.testing.assert_close(found, expected[:, shuffled], rtol=0, atol=1e-6)


def test_a_molecule_whose_parts_turn_is_refused() -> None:
    ethane = molecule("C2H6")
    turned = np.repeat(ethane.positions[None], 60, 0)
    far = ethane.positions[:, 2] > 0
    for k, frame in enumerate(turned):
        frame[far] = frame[far] @ Rotation.from_rotvec([0, 0, k * np.pi / 30]).as_matrix()
    with pytest.raises(InputError, match=r"calibration\.by: classes"):
        normal_modes(ethane.numbers, ethane.get_masses(), turned, np.zeros_like(turned))


def test_temperatures_of_modes_add_up(friction: ModeFriction) -> None:
    """Σ c² is twice the kinetic energy without translation and rotation."""
    x, v = state()
    masses = torch.from_numpy(MASSES)
    order = friction.order(BENZENE.numbers, BENZENE.positions)
    still = friction.slow(order, masses, x, v, 0.0)
    whole = temperature(still.numpy(), MASSES) * 3 * N
    parts = friction.coordinates(order, masses, x, still).square().sum(1).numpy()
    assert np.all(parts * AMU_A2_PER_FS2_IN_EV / KB_EV_PER_K < whole)
