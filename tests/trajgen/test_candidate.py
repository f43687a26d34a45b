"""The generator under the yardstick: starts with and without acceleration, samples, evaluations."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shared.data.splits import FrameRange
from shared.evaluation.systems import Series, System
from shared.metrics.stability import reference_bonds
from tests.trajgen.conftest import MOLECULES
from trajgen.candidate import open_candidate


@pytest.fixture
def series() -> Series:
    """Water that trembles."""
    atoms = MOLECULES["water"]
    tremble = 1e-3 * np.random.default_rng(0).standard_normal((60, *atoms.positions.shape))
    positions = atoms.positions + tremble.cumsum(axis=0)
    system = System(
        "water",
        "water",
        atoms.numbers,
        positions[0],
        reference_bonds(atoms.numbers, positions[0]),
        positions.mean(axis=0),
        0.5,
        10.0,
        "nose-hoover",
    )
    zeros = np.zeros(60)
    forces = np.zeros_like(positions)
    return Series(
        system, positions, lambda rows: zeros[rows], lambda rows: forces[rows], FrameRange(0, 60)
    )


def test_starts(tiny: Path, series: Series) -> None:
    candidate, rows = open_candidate(str(tiny)), np.array([30, 40])
    past = series.past(rows)
    fitted = candidate.start(past, "fitted", 2, 0)
    assert fitted.n_replicas == 4
    assert fitted.previous_interval_fs == 0.5
    x = series.positions
    expected = (3 * x[rows] - 4 * x[rows - 1] + x[rows - 2]) / 1.0
    assert np.allclose(fitted.velocities[::2], expected)
    before = (3 * x[rows - 1] - 4 * x[rows - 2] + x[rows - 3]) / 1.0
    assert np.allclose(fitted.previous_velocities[1::2], before)
    unknown = candidate.start(past, "unknown", 2, 0)
    assert unknown.previous_velocities is None
    assert np.ptp(unknown.thermostat) > 0  # samples draw it
    assert candidate.start(past, "unknown", 1, 0).thermostat is None


def test_it_rolls_and_says_what_it_used(tiny: Path, series: Series) -> None:
    candidate = open_candidate(str(tiny))
    assert candidate.weights == {}
    assert candidate.step_fs(series.system) == 0.5
    start = candidate.start(series.past(np.array([30])), "fitted", 1, 0)
    *_, last = candidate.propagator(series.system, "fitted").propagate(start, 3, 0.5, seed=0)
    assert np.isfinite(last.positions).all()
    assert list(candidate.weights) == ["tiny"]
    assert candidate.weights["tiny"] in candidate.identity
    assert candidate.evaluations_per_ps(series.system) == 2000.0


def test_a_reference_without_friction_has_its_temperature_held(tiny: Path, series: Series) -> None:
    candidate = open_candidate(str(tiny))
    assert candidate.variants(series.system) == ("fitted", "unknown")
    free = replace(series.system, thermostat="none", temperature_K=70.0)
    assert candidate.variants(free) == ("fitted", "unknown", "nvt")
    assert candidate.propagator(free, "fitted").thermostat_time_fs is None
    held = candidate.propagator(free, "nvt")
    assert held.thermostat_time_fs > 0
    assert held.thermostat_temperature_K == 70.0
