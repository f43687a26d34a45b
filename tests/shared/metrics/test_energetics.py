"""Energetics: equipartition where it is known, and energies of the engines against stored ones."""

import numpy as np
import pytest

from shared.data.gfn2 import WATER
from shared.data.md17 import load_md17s
from shared.errors import InputError
from shared.kinetics import maxwell_boltzmann, remove_momentum, remove_rotation
from shared.metrics.distributions import central_velocities
from shared.metrics.energetics import (
    compare_energies,
    group_temperatures,
    internal_dof,
    sgdml_energies,
    sgdml_model,
)
from shared.units import masses

ETHANOL = np.array([6, 6, 8, 1, 1, 1, 1, 1, 1])


def test_groups_at_equilibrium() -> None:
    rng = np.random.default_rng(0)
    velocities = maxwell_boltzmann(ETHANOL, 500.0, rng, 4000, remove_momentum=False)
    for temperatures in group_temperatures(velocities, ETHANOL).values():
        assert temperatures.shape == (4000,)
        assert temperatures.mean() == pytest.approx(500.0, rel=0.02)
    assert np.isnan(group_temperatures(velocities[:, :3], ETHANOL[:3])["hydrogen"]).all()


def test_without_rigid_motion_groups_are_equally_hot_per_internal_dof() -> None:
    rng = np.random.default_rng(1)
    positions = rng.normal(size=(9, 3))
    dof = internal_dof(positions, ETHANOL)
    assert dof["all"] == pytest.approx(21)
    assert dof["hydrogen"] + dof["heavy"] == pytest.approx(21)
    free = maxwell_boltzmann(ETHANOL, 500.0, rng, 20_000, remove_momentum=False)
    still = remove_momentum(free, masses(ETHANOL))
    still = remove_rotation(np.broadcast_to(positions, still.shape), still, masses(ETHANOL))
    for temperatures in group_temperatures(still, ETHANOL, dof).values():
        assert temperatures.mean() == pytest.approx(500.0, rel=0.02)
    plain = group_temperatures(still, ETHANOL)
    assert plain["hydrogen"].mean() > 1.3 * plain["heavy"].mean()


def test_a_linear_molecule_has_five_rigid_directions() -> None:
    positions = np.array([[-1.16, 0, 0], [0, 0, 0], [1.16, 0, 0]])
    assert internal_dof(positions, [8, 6, 8])["all"] == pytest.approx(4)
    assert internal_dof(positions[:2], [8, 6])["all"] == pytest.approx(1)
    assert internal_dof(positions[:1], [8])["all"] == pytest.approx(0)


def test_compare_energies() -> None:
    reference = np.array([-1.0, 1.0])
    agreement = compare_energies([0.0, 1.0], reference)
    assert agreement.shift == pytest.approx(0.5)
    assert agreement.spread_ratio == pytest.approx(0.5)


@pytest.mark.data
def test_sgdml_gives_the_energies_of_its_own_trajectory() -> None:
    series = load_md17s("ethanol")
    frames = [0, 12_345, 41_999]
    energies = sgdml_energies(sgdml_model("ethanol"), series.numbers, series.positions[frames])
    assert energies == pytest.approx(series.energies[frames], abs=2e-6)  # float32 positions
    with pytest.raises(InputError, match="in this order"):
        sgdml_energies(sgdml_model("ethanol"), WATER[0], WATER[1])


@pytest.mark.data
def test_the_surrogate_is_at_500_kelvin() -> None:
    series = load_md17s("ethanol")
    velocities = central_velocities(series.positions[30_000:40_002], series.interval_fs)
    temperatures = group_temperatures(velocities, series.numbers)
    assert temperatures["all"].mean() == pytest.approx(500.0, abs=1.0)
    assert series.kinetic_energies is not None
    assert temperatures["all"] == pytest.approx(
        series.kinetic_energies[30_001:40_001] / (1.5 * 9 * 8.617333e-5), rel=2e-2, abs=5.0
    )
