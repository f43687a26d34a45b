"""Integrators on force fields whose answers are known."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from forcefield.integrators import Bussi, Langevin, NoseHoover, VelocityVerlet
from shared.data.locate import data_root
from shared.kinetics import maxwell_boltzmann, pair_velocity
from shared.kinetics import temperature as kinetic_temperature
from shared.units import ACCELERATION, KB_EV_PER_K, KCAL_PER_MOL_IN_EV, masses
from tests.forcefield.analytic import WATER, WATER_MASSES, WATER_POSITIONS, harmonic, morse

KELVIN = 300.0
CHAIN = partial(NoseHoover, temperature_K=KELVIN, links=3)
SINGLE = partial(NoseHoover, temperature_K=KELVIN)
BUSSI = partial(Bussi, temperature_K=KELVIN, relaxation_fs=50.0)
LANGEVIN = partial(Langevin, temperature_K=KELVIN, relaxation_fs=50.0)
ENSEMBLES = {
    "nve": VelocityVerlet,
    "nose-hoover": SINGLE,
    "chain": CHAIN,
    "bussi": BUSSI,
    "langevin": LANGEVIN,
}
DETERMINISTIC = ("nve", "nose-hoover", "chain")


def start(n_replicas: int, kelvin: float = KELVIN, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Water at rest as a whole; every replica with velocities of its own."""
    v = maxwell_boltzmann(
        WATER,
        kelvin,
        np.random.default_rng(seed),
        n_replicas,
        remove_rotation=True,
        positions=WATER_POSITIONS.numpy(),
    )
    return WATER_POSITIONS.expand(n_replicas, -1, -1), torch.tensor(v)


def water(
    kind: Callable[..., VelocityVerlet], timestep_fs: float = 0.5, n_replicas: int = 2, **begin
) -> VelocityVerlet:
    integrator = kind(morse(), WATER_MASSES, timestep_fs, 9, seed=3)
    integrator.begin(*start(n_replicas), **begin)
    return integrator


def run(integrator: VelocityVerlet, n_steps: int) -> VelocityVerlet:
    for _ in range(n_steps):
        integrator.step()
    return integrator


# ---- one step, written out -----------------------------------------------------------------------


def test_verlet_is_the_textbooks() -> None:
    """x_{t+1} − 2 x_t + x_{t−1} = δ² a_t, and v_t is the central difference."""
    integrator, frames = water(VelocityVerlet), []
    for _ in range(3):
        frames.append((integrator.positions.clone(), integrator.velocities.clone()))
        force = integrator.forces.clone()
        integrator.step()
        if len(frames) == 2:
            acceleration = ACCELERATION * force / WATER_MASSES[:, None]
    (x0, _), (x1, v1), (x2, _) = frames
    torch.testing.assert_close(x2 - 2 * x1 + x0, 0.25 * acceleration, atol=1e-14, rtol=0)
    torch.testing.assert_close(v1, (x2 - x0) / 1.0, atol=1e-14, rtol=0)


def test_nose_hoover_is_the_differential_equation() -> None:
    """v̇ = F/m − ξ v and ξ̇ = ω² (K/K₀ − 1): the finite differences of a fine run."""
    omega = 2 * math.pi * 2.99792458e-5 * 1700.0
    states = []
    integrator = water(SINGLE, timestep_fs=1e-3, thermostat=torch.tensor([[0.02], [-0.01]]))
    for _ in range(3):
        states.append({n: getattr(integrator, n).clone() for n in ("velocities", "thermostat")})
        if len(states) == 2:
            middle = (integrator.forces.clone(), integrator.kinetic.clone())
        integrator.step()
    before, now, after = states
    forces, kinetic = middle
    pull = (
        ACCELERATION * forces / WATER_MASSES[:, None]
        - now["thermostat"][:, :, None] * now["velocities"]
    )
    change = (after["velocities"] - before["velocities"]) / 2e-3
    torch.testing.assert_close(change, pull, atol=1e-7, rtol=1e-4)
    target = 0.5 * 9 * KB_EV_PER_K * KELVIN
    expected = omega**2 * (kinetic / target - 1)
    change = (after["thermostat"] - before["thermostat"])[:, 0] / 2e-3
    torch.testing.assert_close(change, expected, atol=1e-7, rtol=1e-4)


# ---- what holds exactly --------------------------------------------------------------------------


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_reversible(name: str) -> None:
    """Velocities and thermostat turned round lead back to the start."""
    integrator = water(ENSEMBLES[name])
    x, v = start(2)
    run(integrator, 200)
    assert (integrator.positions - x).abs().max() > 0.01
    xi = integrator.thermostat
    integrator.begin(integrator.positions, -integrator.velocities, None if xi is None else -xi)
    run(integrator, 200)
    torch.testing.assert_close(integrator.positions, x.contiguous(), atol=1e-9, rtol=0)
    torch.testing.assert_close(integrator.velocities, -v, atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", ENSEMBLES)
def test_replicas_are_independent(name: str) -> None:
    """The first of three is what it is alone."""
    together = run(water(ENSEMBLES[name], n_replicas=3), 50)
    alone = ENSEMBLES[name](morse(), WATER_MASSES, 0.5, 9, seed=3)
    x, v = start(3)
    alone.begin(x[:1], v[:1])
    run(alone, 50)
    torch.testing.assert_close(together.positions[:1], alone.positions, atol=1e-12, rtol=0)
    assert (together.positions[0] - together.positions[1]).abs().max() > 1e-3


@pytest.mark.parametrize("name", ENSEMBLES)
def test_taken_up_to_the_bit(name: str) -> None:
    whole = run(water(ENSEMBLES[name]), 60)
    first = run(water(ENSEMBLES[name]), 23)
    second = ENSEMBLES[name](morse(), WATER_MASSES, 0.5, 9, seed=3)
    state = (first.positions, first.velocities, first.thermostat, first.bath, first.count)
    second.begin(*state)
    run(second, 37)
    for attribute in ("positions", "velocities", "bath"):
        assert torch.equal(getattr(whole, attribute), getattr(second, attribute))
    assert torch.equal(whole.conserved(), second.conserved())


@pytest.mark.parametrize("name", ["nve", "nose-hoover", "chain", "bussi"])
def test_rigid_motion_stays_zero(name: str) -> None:
    integrator = run(water(ENSEMBLES[name]), 500)
    momentum = WATER_MASSES[:, None] * integrator.velocities
    torch.testing.assert_close(momentum.sum(1), torch.zeros(2, 3).double(), atol=1e-10, rtol=0)
    angular = torch.linalg.cross(integrator.positions, momentum).sum(1)
    torch.testing.assert_close(angular, torch.zeros(2, 3).double(), atol=1e-10, rtol=0)


def test_precision_of_the_forces_does_not_matter_to_the_state() -> None:
    def narrow(x: Tensor) -> tuple[Tensor, Tensor]:
        energy, forces = morse()(x)
        return energy.float(), forces.float()

    integrator = VelocityVerlet(narrow, WATER_MASSES, 0.5, 9)
    integrator.begin(*start(2))
    run(integrator, 10)
    for name in ("positions", "velocities", "forces", "potential", "kinetic"):
        assert getattr(integrator, name).dtype == torch.float64


# ---- conserved quantities ------------------------------------------------------------------------


def drift(kind: Callable[..., VelocityVerlet], timestep_fs: float, length_fs: float) -> float:
    """Root-mean-square deviation of the conserved quantity from its start, eV."""
    integrator = water(kind, timestep_fs)
    begun, off = integrator.conserved(), []
    for _ in range(round(length_fs / timestep_fs)):
        integrator.step()
        off.append((integrator.conserved() - begun).square().mean())
    return float(torch.stack(off).mean().sqrt())


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_error_is_of_second_order_in_the_time_step(name: str) -> None:
    """Halving the time step, twice, makes the error four times smaller each time."""
    errors = [drift(ENSEMBLES[name], step, 200.0) for step in (0.4, 0.2, 0.1)]
    assert errors[0] < 0.1
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.15)
    assert errors[1] / errors[2] == pytest.approx(4.0, rel=0.15)


@pytest.mark.parametrize("name", ["nose-hoover", "chain", "bussi", "langevin"])
def test_the_bath_accounts_for_the_energy(name: str) -> None:
    """Energies change by much, the conserved quantity does not."""
    integrator = water(ENSEMBLES[name], 0.1)
    begun, energy = integrator.conserved(), integrator.potential + integrator.kinetic
    run(integrator, 5000)
    now = integrator.potential + integrator.kinetic
    change, error = now - energy, integrator.conserved() - begun
    assert error.abs().max() < 0.05 * change.abs().max()


# ---- what they sample ----------------------------------------------------------------------------


def sampled(kind: Callable[..., VelocityVerlet], n_steps: int, every: int, **well: float):
    """K [T·R] and x² [T·R] of two atoms in wells, by many replicas after equilibration."""
    integrator = kind(harmonic(**well), torch.tensor([1.0, 16.0]), 1.0, 6, seed=1)
    numbers, n_replicas = [1, 8], 200
    v = maxwell_boltzmann(
        numbers, KELVIN, np.random.default_rng(0), n_replicas, remove_momentum=False
    )
    spread = math.sqrt(KB_EV_PER_K * KELVIN / 5.0)
    x = spread * torch.randn(n_replicas, 2, 3, generator=torch.Generator().manual_seed(0))
    integrator.begin(x.double(), torch.tensor(v))
    run(integrator, 300)
    kinetic, squares = [], []
    for _ in range(n_steps // every):
        run(integrator, every)
        kinetic.append(integrator.kinetic.clone())
        squares.append(integrator.positions.square())
    return torch.cat(kinetic), torch.cat(squares)


@pytest.mark.parametrize("name", ["bussi", "langevin"])
def test_kinetic_energy_is_canonical(name: str) -> None:
    """2K/kT follows the chi-square distribution of g = 6."""
    kinetic, _ = sampled(ENSEMBLES[name], 1200, 300)
    reduced = 2 * kinetic / (KB_EV_PER_K * KELVIN)
    assert stats.kstest(reduced.numpy(), stats.chi2(6).cdf).pvalue > 1e-3
    assert float(reduced.mean()) == pytest.approx(6, rel=0.05)
    assert float(reduced.var()) == pytest.approx(12, rel=0.2)


@pytest.mark.parametrize("name", ["nose-hoover", "chain", "bussi", "langevin"])
def test_temperature_is_kept(name: str) -> None:
    """From 600 K to 300 K; averages over replicas of a molecule."""
    integrator = ENSEMBLES[name](morse(), WATER_MASSES, 0.5, 9, seed=1)
    integrator.begin(*start(40, kelvin=2 * KELVIN))
    run(integrator, 1000)
    values = []
    for _ in range(1000):
        integrator.step()
        values.append(integrator.temperature().mean())
    assert float(torch.stack(values).mean()) == pytest.approx(KELVIN, rel=0.05)


@pytest.mark.parametrize("timestep_fs", [1.0, 4.0])
def test_baoab_positions_are_exact_in_a_harmonic_well(timestep_fs: float) -> None:
    """⟨x²⟩ = kT/k at any time step, which no other splitting has (Leimkuhler, Matthews 2013)."""
    integrator = Langevin(
        harmonic(), torch.tensor([1.0]), timestep_fs, 3, seed=0, temperature_K=KELVIN,
        relaxation_fs=20.0,
    )  # fmt: skip
    spread = math.sqrt(KB_EV_PER_K * KELVIN / 5.0)
    rng = torch.Generator().manual_seed(0)
    x = spread * torch.randn(4000, 1, 3, generator=rng, dtype=torch.float64)
    v = maxwell_boltzmann([1], KELVIN, np.random.default_rng(0), 4000, remove_momentum=False)
    integrator.begin(x, torch.tensor(v))
    run(integrator, 100)
    squares = []
    for _ in range(20):
        run(integrator, 5)
        squares.append(integrator.positions.square().mean())
    assert float(torch.stack(squares).mean()) == pytest.approx(spread**2, rel=0.02)


def test_equipartition_between_coupled_wells() -> None:
    """Light and heavy atom get ½ kT per component each, through the coupling, with a chain."""
    integrator = NoseHoover(
        harmonic(stiffness=5.0, coupling=4.0), torch.tensor([1.0, 16.0]), 0.5, 6,
        temperature_K=KELVIN, links=3,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    v = maxwell_boltzmann([1, 8], KELVIN, rng, 100, remove_momentum=False)
    x = torch.tensor(0.06 * rng.standard_normal((100, 2, 3)))
    integrator.begin(x, torch.tensor(v))
    run(integrator, 500)
    sums = torch.zeros(2, dtype=torch.float64)
    for _ in range(1500):
        integrator.step()
        sums += integrator.velocities.square().mean((0, 2)) * torch.tensor([1.0, 16.0])
    kelvin = sums / 1500 / ACCELERATION / KB_EV_PER_K
    np.testing.assert_allclose(kelvin, KELVIN, rtol=0.15)


# ---- a start from a pair of frames ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["nve", "nose-hoover", "chain"])
def test_velocity_of_pair_forces_and_closing_half_step(name: str) -> None:
    integrator = run(water(ENSEMBLES[name]), 40)
    before = integrator.positions.clone()
    integrator.step()
    pair = pair_velocity(
        integrator.positions.numpy(),
        before.numpy(),
        0.5,
        integrator.forces.numpy(),
        WATER_MASSES.numpy(),
    )
    closed = integrator.closed(torch.tensor(pair), integrator.thermostat)
    torch.testing.assert_close(closed, integrator.velocities, atol=1e-12, rtol=0)
    if name != "nve":
        assert (torch.tensor(pair) - integrator.velocities).abs().max() > 1e-5


@pytest.mark.parametrize("xi", [-0.2, 0.0, 0.2])
def test_closing_half_step_of_frames_far_apart(xi: float) -> None:
    """5 fs are most of a period of the thermostat: its half-step there has no inverse."""
    integrator = NoseHoover(
        harmonic(), WATER_MASSES, 5.0, 9, temperature_K=500.0, wavenumber_per_cm=1700.0
    )
    v = torch.full((2, 3, 3), 0.01, dtype=torch.float64)
    thermostat = torch.full((2, 1), xi, dtype=torch.float64)
    torch.testing.assert_close(integrator.closed(v, thermostat), v * np.exp(-2.5 * xi))


@pytest.mark.data
def test_closing_half_step_on_surrogate_data() -> None:
    """The stored kinetic energy and friction are those of this splitting."""
    path = Path(data_root()) / "md17s" / "md17s_ethanol.npz"
    data = np.load(path)
    labels = data["label_frames"]
    at = np.flatnonzero(labels > 0)[:50]
    frames, m = labels[at], masses(data["z"])
    forces = data["F_label"][at] * KCAL_PER_MOL_IN_EV
    x, before = (data["R"][frames - lag].astype(np.float64) for lag in (0, 1))
    v = pair_velocity(x, before, 0.5, forces, m)
    integrator = NoseHoover(
        harmonic(), torch.tensor(m), 0.5, 3 * len(m), temperature_K=500.0, wavenumber_per_cm=1700.0
    )
    xi = torch.tensor(data["xi_per_fs"][frames], dtype=torch.float64)[:, None]
    kelvin = kinetic_temperature(integrator.closed(torch.tensor(v), xi).numpy(), m)
    stored = 2 * data["kinetic_eV"][frames] / (3 * len(m) * KB_EV_PER_K)
    np.testing.assert_allclose(kelvin, stored, rtol=2e-5)
    assert abs(kinetic_temperature(v, m) / stored - 1).max() > 0.01
