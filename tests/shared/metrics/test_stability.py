"""Stability: a bond that is pulled apart is found at its frame, in an array and in a stream."""

import numpy as np
import pytest

from shared.metrics.stability import (
    StabilityWatch,
    bond_deviation,
    reference_bonds,
    stable_time,
)

NUMBERS = np.array([8, 1, 1])
WATER = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])


def stretched(by: float) -> np.ndarray:
    return WATER + np.array([[0.0, 0.0, 0.0], [by, 0.0, 0.0], [0.0, 0.0, 0.0]])


def test_reference_bonds() -> None:
    bonds = reference_bonds(NUMBERS, WATER)
    assert bonds.pairs.tolist() == [[0, 1], [0, 2]]
    assert bonds.lengths == pytest.approx([0.96, np.hypot(0.24, 0.93)])
    averaged = reference_bonds(NUMBERS, WATER, np.stack([WATER, stretched(0.2)]))
    assert averaged.lengths[0] == pytest.approx(1.06)


def test_the_first_broken_frame_counts() -> None:
    bonds = reference_bonds(NUMBERS, WATER)
    pulls = [[0.0, 0.49, -0.3, 0.1], [0.1, 0.51, 0.0, 0.6], [0.1, 0.0, 0.0, -0.55]]
    replicas = np.array([[stretched(by) for by in pull] for pull in pulls])
    assert bond_deviation(replicas, bonds)[1] == pytest.approx([0.1, 0.51, 0.0, 0.6])
    times = np.array([0.0, 1000.0, 2000.0, 3000.0])
    assert stable_time(replicas, times, bonds) == pytest.approx([3.0, 1.0, 3.0])


def test_the_stream_agrees_with_the_array() -> None:
    rng = np.random.default_rng(1)
    bonds = reference_bonds(NUMBERS, WATER)
    walk = 0.05 * rng.normal(size=(8, 200, 3, 3)).cumsum(axis=1)
    replicas = WATER + walk
    replicas[0, 120:] = np.nan
    times = 10.0 * np.arange(200)
    watch = StabilityWatch(bonds, 8)
    seen = np.array([watch.update(replicas[:, frame]) for frame in range(200)])
    broke = np.where(seen.all(axis=0), 199, seen.argmin(axis=0))
    assert times[broke] / 1000 == pytest.approx(stable_time(replicas, times, bonds))
    assert not seen[-1].all()


def test_temperature_ends_it_too() -> None:
    watch = StabilityWatch(reference_bonds(NUMBERS, WATER), 4)
    temperatures = np.array([500.0, 2e5, 0.01, np.nan])
    alive = watch.update(np.stack([WATER] * 4), temperatures)
    assert alive.tolist() == [True, False, False, False]


def test_a_molecule_without_bonds_is_stable() -> None:
    bonds = reference_bonds([2], np.zeros((1, 3)))
    assert bond_deviation(np.zeros((7, 1, 3)), bonds) == pytest.approx(np.zeros(7))
