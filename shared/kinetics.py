"""Velocities: temperature, Maxwell-Boltzmann starts, rigid motion, estimates from positions.

Two conventions of temperature are in use and both are served by ``dof``, the number of degrees of
freedom g in K = ½ g k T. MD17 and data like it count all 3N although the total momentum is zero
(their 500 K is 643 K in the usual sense for ethanol); molecular dynamics otherwise counts those
that are left, 3N − 3 without centre-of-mass motion, 3N − 6 without rotation either.

Velocities at a frame are estimated from frames up to it only: a forward or central difference
would contain the next frame, which is what a model is to predict.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.errors import InputError
from shared.units import ACCELERATION, AMU_A2_PER_FS2_IN_EV, KB_EV_PER_K
from shared.units import masses as atomic_masses

__all__ = [
    "backward_velocity",
    "bussi_scale",
    "kinetic_energy",
    "maxwell_boltzmann",
    "pair_velocity",
    "remove_momentum",
    "remove_rotation",
    "temperature",
]

Float = npt.NDArray[np.float64]


def kinetic_energy(velocities: Float, masses: Float) -> Float:
    """K = ½ Σ m v².

    Args:
        velocities: [..., N, 3], Å/fs.
        masses: [N], amu.

    Returns:
        [...], eV.
    """
    squares = np.einsum("...nk,...nk,n->...", velocities, velocities, masses)
    return np.asarray(0.5 * AMU_A2_PER_FS2_IN_EV * squares)


def temperature(velocities: Float, masses: Float, dof: int | None = None) -> Float:
    """Kinetic temperature T = 2K / (g k).

    Args:
        velocities: [..., N, 3], Å/fs.
        masses: [N], amu.
        dof: degrees of freedom g; None: all 3N, the convention of MD17.

    Returns:
        [...], K.
    """
    dof = 3 * len(masses) if dof is None else dof
    return np.asarray(2.0 * kinetic_energy(velocities, masses) / (dof * KB_EV_PER_K))


def remove_momentum(velocities: Float, masses: Float) -> Float:
    """Velocities relative to the centre of mass: v_i − Σ m v / Σ m.

    Args:
        velocities: [..., N, 3].
        masses: [N], amu.

    Returns:
        [..., N, 3], unit of ``velocities``.
    """
    drift = np.einsum("...nk,n->...k", velocities, masses) / np.sum(masses)
    return np.asarray(velocities - drift[..., None, :])


def remove_rotation(positions: Float, velocities: Float, masses: Float) -> Float:
    """Velocities without the rotation of the whole: v_i − ω × r_i with ω = I⁻¹ L.

    r_i is relative to the centre of mass, L = Σ m r × v and I is the inertia tensor; the
    pseudo-inverse serves linear molecules, which have no rotation about their axis. The momentum of
    the centre of mass is kept.

    Args:
        positions: [..., N, 3], Å.
        velocities: [..., N, 3].
        masses: [N], amu.

    Returns:
        [..., N, 3], unit of ``velocities``.
    """
    arms = remove_momentum(positions, masses)
    angular = np.einsum("n,...nk->...k", masses, np.cross(arms, velocities))
    second = np.einsum("n,...ni,...nj->...ij", masses, arms, arms)
    inertia = np.trace(second, axis1=-2, axis2=-1)[..., None, None] * np.eye(3) - second
    spin = np.einsum("...ij,...j->...i", np.linalg.pinv(inertia, hermitian=True), angular)
    return np.asarray(velocities - np.cross(spin[..., None, :], arms))


# maxwell_boltzmann has switches of the same names.
_remove_momentum, _remove_rotation = remove_momentum, remove_rotation


def maxwell_boltzmann(
    numbers: npt.ArrayLike,
    temperature_K: float,
    rng: np.random.Generator,
    n_replicas: int,
    remove_momentum: bool = True,
    remove_rotation: bool = False,
    dof: int | None = None,
    positions: Float | None = None,
) -> Float:
    """Velocities drawn from the Maxwell-Boltzmann distribution, scaled to the exact temperature.

    v ~ N(0, k T / m) per component; the asked-for rigid motion is taken out; each replica is then
    scaled so that ``temperature(v, m, dof)`` is ``temperature_K``.

    Args:
        numbers: atomic numbers [N].
        temperature_K: K, ≥ 0.
        rng: source of random numbers.
        n_replicas: R.
        remove_momentum: take out the motion of the centre of mass.
        remove_rotation: take out the rotation of the whole; needs ``positions``.
        dof: degrees of freedom that ``temperature_K`` counts; None: all 3N, as in MD17.
        positions: [R, N, 3] or [N, 3], Å, read only to remove rotation.

    Returns:
        [R, N, 3], Å/fs.

    Raises:
        InputError: a temperature that is negative or not finite, or that no motion is left to carry
            (one atom without momentum).
    """
    if not (math.isfinite(temperature_K) and temperature_K >= 0):
        raise InputError(f"temperature must be a number of K, 0 or more, not {temperature_K}")
    masses = atomic_masses(numbers)
    if remove_momentum and len(masses) == 1 and temperature_K > 0:
        raise InputError("one atom without momentum has no motion left to carry a temperature")
    spread = np.sqrt(KB_EV_PER_K * temperature_K * ACCELERATION / masses)[:, None]
    velocities = rng.standard_normal((n_replicas, len(masses), 3)) * spread
    if remove_rotation:
        if positions is None:
            raise InputError("rotation cannot be removed without positions")
        velocities = _remove_rotation(
            np.broadcast_to(positions, velocities.shape), velocities, masses
        )
    if remove_momentum:
        velocities = _remove_momentum(velocities, masses)
    if temperature_K > 0:
        drawn = temperature(velocities, masses, dof)
        velocities = velocities * np.sqrt(temperature_K / drawn)[:, None, None]
    return velocities


def backward_velocity(x_t: Float, x_tm1: Float, x_tm2: Float, interval_fs: float) -> Float:
    """Three-point backward difference (3 x_t − 4 x_{t−1} + x_{t−2}) / 2δ, of second order in δ.

    Its error is δ²/3 of the third derivative of x: for a C-H stretch, 2.6 % at δ = 0.5 fs.

    Args:
        x_t, x_tm1, x_tm2: positions [..., N, 3] at t, t − δ and t − 2δ, Å.
        interval_fs: δ, fs.

    Returns:
        velocities at t, [..., N, 3], Å/fs.
    """
    return (3.0 * x_t - 4.0 * x_tm1 + x_tm2) / (2.0 * interval_fs)


def pair_velocity(
    x_t: Float, x_tm1: Float, interval_fs: float, forces: Float, masses: Float
) -> Float:
    """Velocity from a pair of frames and the forces: (x_t − x_{t−1})/δ + ½ δ F_t/m.

    For frames made by velocity Verlet with step δ this is the integrator's own velocity, exactly;
    under a thermostat its closing half-step is still to be applied.

    Args:
        x_t, x_tm1: positions [..., N, 3] at t and t − δ, Å.
        interval_fs: δ, fs.
        forces: F_t, [..., N, 3], eV/Å.
        masses: [N], amu.

    Returns:
        velocities at t, [..., N, 3], Å/fs.
    """
    kick = 0.5 * interval_fs * ACCELERATION * forces / masses[:, None]
    return (x_t - x_tm1) / interval_fs + kick


def bussi_scale(kinetic: Any, thermal_eV: float, keep: float, first: Any, others: Any) -> Any:
    """Factor α of the velocities in stochastic velocity rescaling.

    α² = c + (1−c) K̄/(gK) Σ_g R² + 2 R₁ (c(1−c) K̄/(gK))^½ with K̄ = ½ g kT and R₁…R_g standard
    normal (Bussi, Donadio, Parrinello, J. Chem. Phys. 126, 014101 (2007), eq. A7), written as
    (√c + R₁ √a)² + a Σ_{2…g} R², a = (1−c) kT/2K, which is never negative.

    Args:
        kinetic: K, eV; number, array or tensor, as the next two.
        thermal_eV: kT.
        keep: c = exp(−δ/τ) of a time step δ and a relaxation time τ.
        first: R₁.
        others: Σ_{2…g} R², of a chi-square distribution with g − 1 degrees of freedom.

    Returns:
        α, of the kind and shape of `kinetic`.
    """
    gain = (1.0 - keep) * 0.5 * thermal_eV / kinetic
    return ((keep**0.5 + first * gain**0.5) ** 2 + gain * others) ** 0.5
