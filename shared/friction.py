"""The friction ξ of a Nosé-Hoover thermostat, which positions and velocities do not show.

v̇ = F/m − ξ v;  ξ̇ = ω² (K/K₀ − 1), K₀ = ½ g k T (Hoover, Phys. Rev. A 31, 1695 (1985)). MD17 was
made so, with g = 3N, T = 500 K and ω of 1700 1/cm; its state is (x, v, ξ). Three frames and the
force at the middle one give ξ there; the thermostat's own equation carries it to the last.
"""

import numpy as np
import numpy.typing as npt

from shared.kinetics import kinetic_energy
from shared.units import ACCELERATION, KB_EV_PER_K, wavenumber_to_angular_frequency

__all__ = ["WAVENUMBER_PER_CM", "friction_from_frames", "friction_spread"]

Float = npt.NDArray[np.float64]

WAVENUMBER_PER_CM = 1700.0
"""Of MD17's thermostat."""


def friction_from_frames(
    frames: npt.ArrayLike,
    forces: npt.ArrayLike,
    last_forces: npt.ArrayLike,
    interval_fs: float,
    masses: Float,
    temperature_K: float,
    wavenumber_per_cm: float = WAVENUMBER_PER_CM,
) -> Float:
    """ξ at the last of three frames made by velocity Verlet between two half-steps of the
    thermostat.

    With the velocities between frames, v₋ = (x_{t−1} − x_{t−2})/δ and v₊ = (x_t − x_{t−1})/δ, the
    thermostat scales u = v₋ + ½δF/m to w = v₊ − ½δF/m: exp(−ξδ) is their least-squares ratio, ξ
    that at t − 1. Then ξ_t = ξ_{t−1} + δω²(K̄/K₀ − 1), K̄ the mean of K at t − 1 and t.

    Args:
        frames: [..., 3, N, 3], Å, δ apart, oldest first.
        forces: [..., N, 3], eV/Å, at the middle frame.
        last_forces: [..., N, 3], eV/Å, at the last.
        interval_fs: δ, the time step of the integrator.
        masses: [N], amu.
        temperature_K: T, counting g = 3N degrees of freedom.
        wavenumber_per_cm: ω/2πc.

    Returns:
        [...], 1/fs.
    """
    frames = np.asarray(frames, dtype=np.float64)
    before, after = np.moveaxis(np.diff(frames, axis=-3) / interval_fs, -3, 0)
    kick = 0.5 * interval_fs * ACCELERATION / masses[:, None]
    middle_kick = kick * np.asarray(forces)
    arriving, leaving = before + middle_kick, after - middle_kick
    ratio = _mixed_kinetic_energy(arriving, leaving, masses) / kinetic_energy(arriving, masses)
    middle = -np.log(np.maximum(ratio, 1e-3)) / interval_fs
    scale = np.exp(-0.5 * interval_fs * middle)[..., None, None]
    at_middle = kinetic_energy(arriving * scale, masses)
    at_last = kinetic_energy(after + kick * np.asarray(last_forces), masses)
    thermal = 0.5 * 3 * len(masses) * KB_EV_PER_K * temperature_K
    gain = interval_fs * wavenumber_to_angular_frequency(wavenumber_per_cm) ** 2
    return np.asarray(middle + gain * (0.5 * (at_middle + at_last) / thermal - 1.0))


def _mixed_kinetic_energy(first: Float, second: Float, masses: Float) -> Float:
    """½ Σ m v·w of two sets of velocities, by polarisation; eV."""
    half = kinetic_energy(first + second, masses) - kinetic_energy(first - second, masses)
    return np.asarray(0.25 * half)


def friction_spread(n_atoms: int, wavenumber_per_cm: float = WAVENUMBER_PER_CM) -> float:
    """Standard deviation of ξ in the canonical ensemble, ω/√g with g = 3N; 1/fs.

    p(ξ) ∝ exp(−Qξ²/2kT) with Q = g kT/ω².
    """
    return wavenumber_to_angular_frequency(wavenumber_per_cm) / float(np.sqrt(3 * n_atoms))
