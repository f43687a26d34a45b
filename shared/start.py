"""The state a run starts from: velocities that the file gives, else Maxwell-Boltzmann."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from shared.checkpoint import CheckpointConfig
from shared.errors import InputError
from shared.kinetics import (
    kinetic_energy,
    maxwell_boltzmann,
    remove_momentum,
    remove_rotation,
    temperature,
)
from shared.metrics.energetics import internal_dof
from shared.state import PhaseState
from shared.units import masses

__all__ = [
    "degrees_of_freedom",
    "far_from_trained",
    "internal_degrees_of_freedom",
    "share_of_the_whole",
    "with_velocities",
]


_FAR_TEMPERATURE = 4.0  # times another: beyond what a frame's own fluctuates by


def degrees_of_freedom(
    config: CheckpointConfig, numbers: npt.ArrayLike, positions: npt.ArrayLike
) -> int:
    """What the temperature of a checkpoint counts; "3N-6" is 3N − 5 for a linear molecule.

    Args:
        config: the checkpoint's.
        numbers: atomic numbers [N].
        positions: [N, 3], Å.

    Raises:
        InputError: an unknown convention, or a molecule too small for it.
    """
    n_atoms, convention = np.size(numbers), config.temperature_convention
    left = {"3N": 3 * n_atoms, "3N-3": 3 * n_atoms - 3}.get(convention, 0)
    if convention == "3N-6":
        left = internal_degrees_of_freedom(numbers, positions)
    if left <= 0:
        raise InputError(
            f"checkpoint {config.name}: no temperature is defined for {n_atoms} atoms by the "
            f"convention {convention!r}"
        )
    return left


def with_velocities(
    start: PhaseState, config: CheckpointConfig, temperature: float | None, seed: int
) -> tuple[PhaseState, str]:
    """The start with velocities, and where they come from.

    Drawn velocities have neither momentum nor angular momentum, and each replica its own; they are
    scaled to the temperature in the convention of the checkpoint.

    Args:
        start: R replicas, with velocities or without.
        config: the checkpoint's, for the training temperature and its convention.
        temperature: to draw at, K; None: that of the training data.
        seed: of the draw.

    Raises:
        InputError: a temperature that is missing, negative or not finite.
    """
    if temperature is not None and not (np.isfinite(temperature) and temperature >= 0):
        raise InputError(f"the temperature must be 0 K or more, not {temperature}")
    if start.velocities is not None:
        origin = "the file"
        if start.thermostat is not None:
            origin += ", with the thermostat's friction"
        elif start.previous_velocities is not None:
            origin += ", with the acceleration"
        return start, origin
    kelvin = config.temperature_K if temperature is None else temperature
    if kelvin is None:
        raise InputError(
            f"checkpoint {config.name} has no temperature of its own to draw start velocities at; "
            "give one"
        )
    velocities = maxwell_boltzmann(
        start.numbers,
        kelvin,
        np.random.default_rng(seed),
        start.n_replicas,
        remove_momentum=True,
        remove_rotation=True,
        dof=degrees_of_freedom(config, start.numbers, start.positions[0]),
        positions=start.positions,
    )
    return replace(start, velocities=velocities), f"Maxwell-Boltzmann at {kelvin:g} K"


def internal_degrees_of_freedom(numbers: npt.ArrayLike, positions: npt.ArrayLike) -> int:
    """3N − 6 of a molecule, 3N − 5 of a linear one: what moves where it neither drifts nor rotates,
    whatever a temperature counts.

    Args:
        numbers: atomic numbers [N].
        positions: [N, 3], Å.
    """
    return round(internal_dof(positions, numbers)["all"])


def far_from_trained(start: PhaseState, config: CheckpointConfig, dof: int) -> str:
    """A warning where a file's velocities are of another temperature than a checkpoint's data,
    such as those in another unit; else "".

    Args:
        start: with the file's velocities.
        config: the checkpoint's.
        dof: degrees of freedom that its temperature counts.
    """
    assert start.velocities is not None
    kelvin = float(temperature(start.velocities, masses(start.numbers), dof).mean())
    trained = config.temperature_K
    if trained is None or 1 / _FAR_TEMPERATURE < kelvin / trained < _FAR_TEMPERATURE:
        return ""
    return (
        f"the file's velocities are those of {kelvin:.3g} K; the training data of checkpoint "
        f"{config.name} are of {trained:g} K"
    )


def share_of_the_whole(start: PhaseState) -> float:
    """The largest share, over replicas, of the kinetic energy that drift and rotation of the whole
    molecule have; 0 where nothing moves."""
    if start.velocities is None:
        return 0.0
    weights = masses(start.numbers)
    resting = remove_momentum(start.velocities, weights)
    resting = remove_rotation(start.positions, resting, weights)
    every = kinetic_energy(start.velocities, weights)
    inner = kinetic_energy(resting, weights)
    return float(
        np.max(1.0 - inner / np.where(every > 0, every, 1.0), where=every > 0, initial=0.0)
    )
