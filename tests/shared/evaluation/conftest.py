"""A reference without data files: two atoms on a spring, whose motion is known."""

import numpy as np
import pytest

from shared.data.splits import FrameRange
from shared.errors import InputError
from shared.evaluation.systems import Series, System
from shared.metrics.stability import reference_bonds

N_FRAMES, INTERVAL_FS = 400, 0.5


@pytest.fixture
def spring() -> Series:
    """C2, its bond 0.75 + 0.05 sin(ωt) Å with a period of 20 fs."""
    numbers = np.array([6, 6])
    time = INTERVAL_FS * np.arange(N_FRAMES)
    length = 0.75 + 0.05 * np.sin(2 * np.pi * time / 20.0)
    positions = np.zeros((N_FRAMES, 2, 3))
    positions[:, 1, 0] = length
    positions -= positions.mean(axis=1, keepdims=True)

    def no_forces(rows):
        raise InputError("no forces")

    system = System(
        name="spring",
        data="spring",
        numbers=numbers,
        reference=positions[0],
        bonds=reference_bonds(numbers, positions[0], positions),
        mean=positions.mean(axis=0),
        interval_fs=INTERVAL_FS,
        temperature_K=300.0,
        thermostat="nose-hoover",
    )
    energies = np.zeros(N_FRAMES)
    return Series(
        system, positions, lambda rows: energies[rows], no_forces, FrameRange(0, N_FRAMES)
    )
