"""GFN2-xTB dynamics: units, energy conservation, the ensembles' distributions."""

from types import SimpleNamespace

import numpy as np
import pytest

from shared.data.gfn2 import (
    WATER,
    Ensemble,
    XTBDynamics,
    XTBEngine,
    XTBSettings,
    degrees_of_freedom,
    from_smiles,
    quick_trajectory,
)
from shared.errors import InputError
from shared.kinetics import kinetic_energy, temperature
from shared.units import ACCELERATION, HARTREE_IN_EV, masses


class Harmonic:
    """A stand-in for the engine: independent springs, F = −k (x − x0)."""

    def __init__(self, numbers: np.ndarray, positions: np.ndarray, stiffness: float = 5.0) -> None:
        self.numbers, self._rest, self._stiffness = numbers, positions, stiffness

    def energy_and_forces(self, positions: np.ndarray) -> tuple[float, np.ndarray]:
        shift = positions - self._rest
        return 0.5 * self._stiffness * float((shift**2).sum()), -self._stiffness * shift


def harmonic(settings: XTBSettings, velocities: np.ndarray | None = None) -> XTBDynamics:
    numbers, positions = WATER
    still = np.zeros((3, 3)) if velocities is None else velocities
    engine = Harmonic(numbers, positions)
    return XTBDynamics(engine, positions, still, settings, np.random.default_rng(0))  # type: ignore[arg-type]


@pytest.mark.reference("tblite")
def test_units() -> None:
    """Energy in eV, forces −dE/dx in eV/Å, whatever tblite works in."""
    engine = XTBEngine(WATER[0])
    energy, forces = engine.energy_and_forces(WATER[1])
    assert energy == pytest.approx(-5.07 * HARTREE_IN_EV, abs=0.01 * HARTREE_IN_EV)
    assert forces.sum(axis=0) == pytest.approx(0.0, abs=1e-9)
    step = 1e-3
    for atom, axis in [(0, 1), (1, 0)]:
        shifted = np.repeat(WATER[1][None], 2, axis=0)
        shifted[:, atom, axis] += [-step, step]
        low, high = (engine.energy_and_forces(one)[0] for one in shifted)
        assert forces[atom, axis] == pytest.approx(-(high - low) / (2 * step), abs=1e-4)


@pytest.mark.reference("tblite")
def test_nve_conserves_energy_and_momenta() -> None:
    trajectory = quick_trajectory(200)
    weights = masses(trajectory.numbers)
    kinetic = kinetic_energy(trajectory.velocities, weights)
    total = trajectory.energies + kinetic
    assert np.ptp(total) < 0.03 * np.ptp(kinetic)  # velocity Verlet oscillates, δ²
    assert abs(total[100:].mean() - total[:100].mean()) < 0.002 * np.ptp(kinetic)
    momentum = np.einsum("n,tnk->tk", weights, trajectory.velocities)
    assert np.abs(momentum).max() < 1e-10
    assert temperature(trajectory.velocities[0], weights, dof=3) == pytest.approx(500.0)
    # Frames, velocities and forces belong together: x(t+δ) = x + δ v + ½ δ² a.
    ahead = (
        trajectory.positions[:-1]
        + 0.5 * trajectory.velocities[:-1]
        + 0.125 * ACCELERATION * trajectory.forces[:-1] / weights[:, None]
    )
    assert trajectory.positions[1:] == pytest.approx(ahead, abs=1e-12)
    assert trajectory.times_fs[:3] == pytest.approx([0.0, 0.5, 1.0])


@pytest.mark.reference("tblite")
def test_the_seed_decides() -> None:
    settings = {"ensemble": "langevin", "equilibration_ps": 0.005, "interval_fs": 1.0}
    one, same, other = (
        quick_trajectory(5, settings=XTBSettings(seed=seed, **settings)) for seed in (1, 1, 2)
    )
    assert (one.positions == same.positions).all()
    assert not np.allclose(one.positions, other.positions)


@pytest.mark.parametrize("ensemble", ["bussi", "langevin"])
def test_thermostats_sample_the_canonical_distribution(ensemble: Ensemble) -> None:
    """On springs: mean and variance of K, and of the potential for Langevin."""
    settings = XTBSettings(
        ensemble=ensemble,
        temperature_K=300.0,
        timestep_fs=1.0,
        interval_fs=1.0,
        relaxation_fs=20.0,
    )
    rng = np.random.default_rng(1)
    spread = np.sqrt(8.617333e-5 * 300 * ACCELERATION / masses(WATER[0]))[:, None]
    dynamics = harmonic(settings, rng.normal(size=(3, 3)) * spread)
    dynamics.dof = 9  # springs to fixed points: nothing is conserved
    kinetic, potential = [], []
    for step in range(30_000):
        dynamics.step()
        if step > 500:
            kinetic.append(float(kinetic_energy(dynamics.velocities, masses(WATER[0]))))
            potential.append(dynamics.energy)
    thermal = 8.617333e-5 * 300
    assert np.mean(kinetic) == pytest.approx(4.5 * thermal, rel=0.05)
    assert np.var(kinetic) == pytest.approx(4.5 * thermal**2, rel=0.15)
    if ensemble == "langevin":
        assert np.mean(potential) == pytest.approx(4.5 * thermal, rel=0.1)


def test_degrees_of_freedom() -> None:
    numbers, positions = WATER
    assert degrees_of_freedom(positions, masses(numbers), "nve") == 3
    assert degrees_of_freedom(positions, masses(numbers), "langevin") == 9
    linear = np.array([[-1.16, 0, 0], [0, 0, 0], [1.16, 0, 0]])
    assert degrees_of_freedom(linear, masses([8, 6, 8]), "bussi") == 4


@pytest.mark.reference("tblite")
def test_what_cannot_be_treated() -> None:
    with pytest.raises(InputError, match="odd number of electrons"):
        XTBEngine([8, 1])
    XTBEngine([8, 1], charge=-1)
    with pytest.raises(InputError, match="none beyond 86"):
        XTBEngine([92])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ensemble": "npt"}, "no ensemble npt; there are nve, bussi, langevin"),
        ({"timestep_fs": -1.0}, "timestep_fs must be positive"),
        ({"temperature_K": float("nan")}, "temperature_K must be positive"),
        ({"equilibration_ps": -1.0}, "equilibration_ps must be 0 or more"),
        ({"interval_fs": 0.75}, "no multiple"),
    ],
)
def test_bad_settings(change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        XTBSettings(**change)


@pytest.mark.reference("rdkit")
def test_smiles() -> None:
    numbers, positions, charge = from_smiles("CC(=O)[O-]", seed=3)
    assert sorted(numbers.tolist()) == [1, 1, 1, 6, 6, 8, 8]
    assert positions.shape == (7, 3)
    assert charge == -1
    assert (positions == from_smiles("CC(=O)[O-]", seed=3)[1]).all()
    with pytest.raises(InputError, match="not a SMILES"):
        from_smiles("C(C")


def test_without_the_packages_the_message_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tblite.interface", SimpleNamespace())
    with pytest.raises(InputError, match=r"pip install 'trajgen\[reference\]'"):
        XTBEngine(WATER[0])
