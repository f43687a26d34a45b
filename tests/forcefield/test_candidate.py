"""The force-field head under the yardstick: starts, friction, ensembles; the engine as oracle."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from forcefield.candidate import Dynamics, open_xtb
from forcefield.integrators import NoseHoover
from shared.data.gfn2 import WATER
from shared.data.splits import FrameRange
from shared.errors import InputError
from shared.evaluation.systems import Series, System
from shared.friction import friction_spread
from shared.metrics.stability import reference_bonds
from shared.units import masses

NUMBERS = np.array([8, 1, 1])
SPRING, LENGTH, KELVIN = 30.0, 0.96, 500.0  # eV/Å², Å


def springs(positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Water of three springs."""
    with torch.enable_grad():
        x = positions.detach().requires_grad_()
        lengths = torch.stack(
            [(x[:, a] - x[:, b]).norm(dim=-1) for a, b in ((0, 1), (0, 2), (1, 2))], dim=-1
        )
        rest = lengths.new_tensor([LENGTH, LENGTH, 1.5])
        energies = 0.5 * SPRING * (lengths - rest).square().sum(-1)
        (slope,) = torch.autograd.grad(energies.sum(), x)
    return energies.detach(), -slope


@pytest.fixture(scope="module")
def reference() -> tuple[Series, np.ndarray]:
    """Nosé-Hoover dynamics of the springs at 0.5 fs, and its friction."""
    rng = np.random.default_rng(0)
    start = torch.from_numpy(WATER[1][None].copy())
    velocities = torch.from_numpy(rng.normal(scale=0.01, size=(1, 3, 3)))
    integrator = NoseHoover(
        springs, torch.from_numpy(masses(NUMBERS)), 0.5, 9, temperature_K=KELVIN
    )
    integrator.begin(start, velocities)
    frames, friction = [], []
    for _ in range(300):
        integrator.step()
        frames.append(integrator.positions[0].numpy().copy())
        friction.append(float(integrator.thermostat[0, 0]))
    positions = np.array(frames)

    def no_forces(rows):
        raise InputError("none")

    system = System(
        "springs",
        "springs",
        NUMBERS,
        positions[0],
        reference_bonds(NUMBERS, positions[0], positions),
        positions.mean(axis=0),
        0.5,
        KELVIN,
        "nose-hoover",
    )
    energies = np.zeros(300)
    series = Series(system, positions, lambda rows: energies[rows], no_forces, FrameRange(0, 300))
    return series, np.array(friction)


@pytest.fixture
def dynamics() -> Dynamics:
    return Dynamics("springs", lambda system, compiled: lambda start: springs)


def test_the_friction_is_found(reference, dynamics) -> None:
    series, friction = reference
    rows = np.arange(100, 250, 10)
    start = dynamics.start(series.past(rows), "fitted", 1, 0)
    assert np.abs(start.thermostat[:, 0] - friction[rows]).max() < 0.05 * friction.std()


def test_the_friction_is_found_from_a_frame_some_steps_before(reference, dynamics) -> None:
    series, friction = reference
    rows, steps = np.arange(100, 250, 30), np.array([2, 4, 6, 8, 10])
    earlier = series.positions[rows - steps]
    pairs = replace(series.past(rows, history=1), earlier=earlier, earlier_steps=steps)
    start = dynamics.start(pairs, "fitted", 1, 0)
    assert np.abs(start.thermostat[:, 0] - friction[rows]).max() < 0.01 * friction.std()


def test_fitted_follows_where_others_do_not(reference, dynamics) -> None:
    series, _ = reference
    rows, error = np.arange(100, 250, 10), {}
    for variant in dynamics.variants(series.system):
        start = dynamics.start(series.past(rows), variant, 1, 0)
        propagator = dynamics.propagator(series.system, variant)
        *_, last = propagator.propagate(start, 2, 10.0, seed=0)
        error[variant] = np.sqrt(np.mean((last.positions - series.truth(rows, 40)) ** 2))
    assert error["fitted"] < 0.1 * error["unknown"]
    assert error["fitted"] < 0.1 * error["nve"]


def test_samples_draw_the_friction(reference, dynamics) -> None:
    past = reference[0].past(np.array([100, 110]))
    start = dynamics.start(past, "unknown", 500, 0)
    assert start.n_replicas == 1000
    assert start.thermostat.std() == pytest.approx(friction_spread(3), rel=0.1)
    assert np.array_equal(start.positions[0], start.positions[499])
    alone = dynamics.start(past, "unknown", 1, 0)
    assert (alone.thermostat == 0).all()
    again = dynamics.start(past, "unknown", 500, 0)
    assert np.array_equal(start.thermostat, again.thermostat)


def test_energies_and_forces(reference, dynamics) -> None:
    series, _ = reference
    energies, forces = dynamics.energies_and_forces(series.system, series.positions[:40])
    expected = springs(torch.from_numpy(series.positions[:40]))
    assert np.allclose(energies, expected[0])
    assert np.allclose(forces, expected[1])


def test_the_step_divides_the_interval_of_the_reference(reference) -> None:
    series, _ = reference
    for longest, interval, expected in (
        (None, 5.0, 5.0),
        (1.0, 0.5, 0.5),
        (1.0, 1.0, 1.0),
        (1.0, 2.5, 2.5 / 3),
        (0.25, 0.5, 0.25),
    ):
        candidate = Dynamics("springs", lambda system, compiled: lambda start: springs, longest)
        system = replace(series.system, interval_fs=interval)
        assert candidate.step_fs(system) == pytest.approx(expected)


@pytest.mark.reference("tblite")
def test_the_engine_restarted_follows_itself() -> None:
    from shared.data.gfn2 import quick_trajectory

    made = quick_trajectory(30)
    system = System(
        "water",
        "xtb",
        made.numbers,
        made.positions[0],
        reference_bonds(made.numbers, made.positions[0]),
        None,
        0.5,
        500.0,
        "none",
        "xtb",
    )
    series = Series(
        system,
        made.positions,
        lambda rows: made.energies[rows],
        lambda rows: made.forces[rows],
        FrameRange(0, 30),
    )
    engine, rows = open_xtb(), np.array([5, 9])
    start = engine.start(series.past(rows), "nve", 1, 0)
    assert np.allclose(start.velocities, made.velocities[rows], atol=1e-9)
    *_, last = engine.propagator(system, "nve").propagate(start, 10, 0.5, seed=0)
    assert np.abs(last.positions - series.truth(rows, 10)).max() < 1e-6
