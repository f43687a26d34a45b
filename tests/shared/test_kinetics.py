"""Velocities: temperature, Maxwell-Boltzmann starts, rigid motion, estimates from positions."""

import math

import ase
import numpy as np
import pytest
from ase.build import molecule

from shared import kinetics
from shared.errors import InputError
from shared.units import ACCELERATION, KB_EV_PER_K, masses, wavenumber_to_angular_frequency

ETHANOL = molecule("CH3CH2OH")
MASSES = masses(ETHANOL.numbers)


def angular_momentum(positions: np.ndarray, velocities: np.ndarray) -> np.ndarray:
    arms = positions - MASSES @ positions / MASSES.sum()
    return np.einsum("n,...nk->...k", MASSES, np.cross(arms, velocities))


def test_temperature_agrees_with_ase() -> None:
    velocities = 0.01 * np.random.default_rng(0).standard_normal((2, 9, 3))
    for v, t in zip(velocities, kinetics.temperature(velocities, MASSES), strict=True):
        atoms = ETHANOL.copy()
        atoms.set_velocities(v / ase.units.fs)
        assert t == pytest.approx(atoms.get_temperature(), rel=1e-6)
        assert kinetics.kinetic_energy(v, MASSES) == pytest.approx(
            atoms.get_kinetic_energy(), rel=1e-6
        )


def test_start_has_exactly_the_temperature_of_its_convention() -> None:
    rng = np.random.default_rng(0)
    md17 = kinetics.maxwell_boltzmann(ETHANOL.numbers, 500.0, rng, 4)
    np.testing.assert_allclose(kinetics.temperature(md17, MASSES), 500.0)
    np.testing.assert_allclose(kinetics.temperature(md17, MASSES, dof=21), 500.0 * 27 / 21)  # 643 K
    usual = kinetics.maxwell_boltzmann(ETHANOL.numbers, 500.0, rng, 4, dof=24)
    np.testing.assert_allclose(kinetics.temperature(usual, MASSES, dof=24), 500.0)
    assert md17.shape == (4, 9, 3)


def test_start_has_no_rigid_motion() -> None:
    rng = np.random.default_rng(1)
    velocities = kinetics.maxwell_boltzmann(
        ETHANOL.numbers, 300.0, rng, 3, remove_rotation=True, positions=ETHANOL.positions
    )
    np.testing.assert_allclose(np.einsum("n,rnk->rk", MASSES, velocities), 0.0, atol=1e-12)
    np.testing.assert_allclose(angular_momentum(ETHANOL.positions, velocities), 0.0, atol=1e-12)
    moving = kinetics.maxwell_boltzmann(ETHANOL.numbers, 300.0, rng, 3, remove_momentum=False)
    assert np.abs(np.einsum("n,rnk->rk", MASSES, moving)).min() > 1e-3


def test_start_is_maxwell_boltzmann() -> None:
    # m v² / kT of each component has mean 1 (up to the momentum taken out) and is Gaussian.
    rng = np.random.default_rng(2)
    v = kinetics.maxwell_boltzmann(ETHANOL.numbers, 400.0, rng, 4000, remove_momentum=False)
    z = v * np.sqrt(MASSES / (KB_EV_PER_K * 400.0 * ACCELERATION))[:, None]
    np.testing.assert_allclose((z**2).mean(axis=(0, 2)), 1.0, atol=0.05)
    # Scaled to one kinetic energy, z lies on a sphere in 27 dimensions: <z⁴> = 3·27/29.
    assert (z**4).mean() == pytest.approx(3 * 27 / 29, abs=0.05)


def test_start_repeats_with_its_generator() -> None:
    first, again = (
        kinetics.maxwell_boltzmann(ETHANOL.numbers, 300.0, np.random.default_rng(3), 2)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)


def test_start_at_zero_temperature_is_at_rest() -> None:
    rng = np.random.default_rng(0)
    assert not kinetics.maxwell_boltzmann(ETHANOL.numbers, 0.0, rng, 2).any()
    assert not kinetics.maxwell_boltzmann([18], 0.0, rng, 2).any()


@pytest.mark.parametrize("temperature", [-1.0, math.nan, math.inf])
def test_impossible_temperature(temperature: float) -> None:
    with pytest.raises(InputError, match="temperature"):
        kinetics.maxwell_boltzmann([1, 1], temperature, np.random.default_rng(0), 1)


def test_impossible_starts() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="one atom"):
        kinetics.maxwell_boltzmann([18], 300.0, rng, 1)
    with pytest.raises(InputError, match="without positions"):
        kinetics.maxwell_boltzmann([1, 1], 300.0, rng, 1, remove_rotation=True)


def test_rotation_is_removed_and_nothing_else() -> None:
    rng = np.random.default_rng(4)
    vibration = kinetics.remove_rotation(
        ETHANOL.positions,
        kinetics.remove_momentum(rng.standard_normal((2, 9, 3)), MASSES),
        MASSES,
    )
    spin, drift = rng.standard_normal(3), rng.standard_normal(3)
    arms = ETHANOL.positions - ETHANOL.get_center_of_mass()
    velocities = vibration + np.cross(spin, arms)
    np.testing.assert_allclose(
        kinetics.remove_rotation(ETHANOL.positions, velocities + drift, MASSES),
        vibration + drift,
        atol=1e-10,
    )


def test_rotation_of_a_linear_molecule() -> None:
    atoms = molecule("CO2")
    m = masses(atoms.numbers)
    arms = atoms.positions - atoms.get_center_of_mass()
    velocities = np.cross([0.1, 0.2, 0.3], arms)
    left = kinetics.remove_rotation(atoms.positions, velocities, m)
    np.testing.assert_allclose(left, 0.0, atol=1e-12)


def test_backward_velocity_is_of_second_order() -> None:
    # A C-H stretch, 3000 / cm, at the 0.5 fs of MD17: exp(iωt) comes out 2.6 % fast.
    omega = wavenumber_to_angular_frequency(3000.0)
    x = [np.exp(-1j * omega * 0.5 * k) for k in range(3)]
    assert abs(kinetics.backward_velocity(*x, 0.5)) / omega == pytest.approx(1.026, abs=1e-3)
    quadratic = [np.full((1, 3), 1.0 + 2.0 * s + 3.0 * s * s) for s in (0.0, -0.5, -1.0)]
    np.testing.assert_allclose(kinetics.backward_velocity(*quadratic, 0.5), 2.0)


def test_pair_velocity_is_that_of_velocity_verlet() -> None:
    rng = np.random.default_rng(5)
    k, dt = 30.0, 0.5  # eV/Å², fs
    x, v = 0.1 * rng.standard_normal((9, 3)), 0.01 * rng.standard_normal((9, 3))

    def acceleration(x: np.ndarray) -> np.ndarray:
        return ACCELERATION * (-k * x) / MASSES[:, None]

    for _ in range(5):
        before = x
        half = v + 0.5 * dt * acceleration(x)
        x = x + dt * half
        v = half + 0.5 * dt * acceleration(x)
    estimate = kinetics.pair_velocity(x, before, dt, -k * x, MASSES)
    np.testing.assert_allclose(estimate, v, atol=1e-15)
