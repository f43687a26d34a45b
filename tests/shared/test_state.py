"""States and trajectories check what they are given."""

import numpy as np
import pytest

from shared.errors import InputError
from shared.state import PhaseState, Trajectory

NUMBERS = [8, 1, 1]


def positions(n: int = 2) -> np.ndarray:
    return np.arange(n * 9, dtype=np.float64).reshape(n, 3, 3)


def test_arrays_are_converted() -> None:
    state = PhaseState(NUMBERS, positions().astype(np.float32), alive=[1, 0])
    assert state.numbers.dtype == np.int64
    assert state.positions.dtype == np.float64
    assert state.positions.flags.c_contiguous
    assert state.alive.dtype == np.bool_
    assert (state.n_replicas, state.n_atoms) == (2, 3)
    assert state.accelerations is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positions": positions()[0]}, "positions must have shape"),
        ({"positions": positions()[:, :2]}, r"positions must have shape \[any, 3, 3\]"),
        ({"positions": positions(0)}, "at least one replica"),
        ({"positions": np.full((1, 3, 3), np.nan)}, "not finite, at index"),
        ({"numbers": [8, 1, 0]}, "atomic numbers from 1 to 118"),
        ({"numbers": [8, 1, 1.5]}, "list of atomic numbers"),
        ({"velocities": positions(1)}, r"velocities must have shape \[2, 3, 3\]"),
        ({"velocities": np.full((2, 3, 3), np.inf)}, "velocities holds a value that is not finite"),
        ({"velocities": positions(), "previous_velocities": positions()}, "go together"),
        ({"velocities": positions(), "previous_interval_fs": 5.0}, "go together"),
        ({"previous_velocities": positions(), "previous_interval_fs": 5.0}, "need velocities"),
        (
            {
                "velocities": positions(),
                "previous_velocities": positions(),
                "previous_interval_fs": 0.0,
            },
            "must be > 0",
        ),
        ({"thermostat": [0.1, 0.2]}, "thermostat must have shape"),
        ({"alive": [True]}, "alive must have shape"),
        ({"time_fs": float("nan")}, "time_fs must be finite"),
    ],
)
def test_wrong_states_are_refused(change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        PhaseState(**{"numbers": NUMBERS, "positions": positions(), **change})


def test_acceleration_is_the_difference_over_the_interval() -> None:
    v = positions()
    state = PhaseState(
        NUMBERS, positions(), velocities=v, previous_velocities=v - 2.0, previous_interval_fs=4.0
    )
    np.testing.assert_array_equal(state.accelerations, np.full_like(v, 0.5))


def test_select_and_replicate_take_everything_along() -> None:
    state = PhaseState(
        NUMBERS,
        positions(),
        velocities=positions() + 1,
        previous_velocities=positions() + 2,
        previous_interval_fs=5.0,
        thermostat=[[0.1], [0.2]],
        time_fs=7.0,
        alive=[True, False],
    )
    one = state.select(1)
    np.testing.assert_array_equal(one.positions, positions()[1:])
    np.testing.assert_array_equal(one.velocities, positions()[1:] + 1)
    assert one.thermostat.tolist() == [[0.2]]
    assert one.alive.tolist() == [False]
    assert (one.time_fs, one.previous_interval_fs) == (7.0, 5.0)
    three = one.replicate(3)
    assert three.n_replicas == 3
    np.testing.assert_array_equal(three.positions, np.repeat(positions()[1:], 3, axis=0))
    with pytest.raises(InputError, match="single replica"):
        state.replicate(2)
    with pytest.raises(IndexError):
        state.select(2)


def test_trajectory() -> None:
    frames = Trajectory(NUMBERS, positions(4), [0.0, np.nan, 1.0, 2.0], energies=[1, 2, 3, 4])
    assert (frames.n_frames, frames.n_atoms) == (4, 3)
    assert frames.energies.dtype == np.float64
    with pytest.raises(InputError, match="times_fs must have shape"):
        Trajectory(NUMBERS, positions(4), [0.0])
    with pytest.raises(InputError, match="forces must have shape"):
        Trajectory(NUMBERS, positions(4), np.zeros(4), forces=positions(3))
    with pytest.raises(InputError, match="energies holds a value that is not finite"):
        Trajectory(NUMBERS, positions(1), [0.0], energies=[np.nan])
