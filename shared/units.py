"""Constants and conversions: the only place that has them.

Inside the project: Å, eV, fs, amu, K. Readers convert from kcal/mol and hartree, writers to nm and
ps, with the factors below.

Source: CODATA 2022 recommended values (Mohr, Newell, Taylor, Tiesinga, Rev. Mod. Phys. 97, 025002
(2025); https://physics.nist.gov/constants). e, k_B, N_A and c are exact in the SI of 2019; the
calorie is the thermochemical one, exactly 4.184 J.
"""

import math

import numpy as np
import numpy.typing as npt

from shared.errors import InputError

__all__ = [
    "ACCELERATION",
    "AMU_A2_PER_FS2_IN_EV",
    "ANGSTROM_PER_NM",
    "BOHR_IN_ANGSTROM",
    "FS_PER_PS",
    "HARTREE_IN_EV",
    "KB_EV_PER_K",
    "KCAL_PER_MOL_IN_EV",
    "masses",
    "wavenumber_to_angular_frequency",
]

_ELEMENTARY_CHARGE = 1.602176634e-19  # C, exact: 1 eV in J
_BOLTZMANN = 1.380649e-23  # J/K, exact
_AVOGADRO = 6.02214076e23  # 1/mol, exact
_ATOMIC_MASS = 1.66053906892e-27  # kg, relative uncertainty 3.1e-10
_LIGHT_CM_PER_FS = 2.99792458e-5  # cm/fs, exact

KB_EV_PER_K = _BOLTZMANN / _ELEMENTARY_CHARGE
"""Boltzmann's constant, eV/K (8.617333e-5)."""

ACCELERATION = _ELEMENTARY_CHARGE / _ATOMIC_MASS * 1e-10
"""Å/fs² per (eV/Å)/amu (9.648533e-3): a = ACCELERATION · F / m."""

AMU_A2_PER_FS2_IN_EV = 1.0 / ACCELERATION
"""eV per amu Å²/fs² (103.6427): kinetic energy = ½ m v² · AMU_A2_PER_FS2_IN_EV."""

KCAL_PER_MOL_IN_EV = 4184.0 / _AVOGADRO / _ELEMENTARY_CHARGE
"""eV per kcal/mol (0.04336411)."""

HARTREE_IN_EV = 27.211386245981
"""eV per hartree."""

BOHR_IN_ANGSTROM = 0.529177210544
"""Å per bohr."""

ANGSTROM_PER_NM = 10.0
FS_PER_PS = 1000.0


def masses(numbers: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Standard atomic weights.

    Args:
        numbers: atomic numbers, any shape.

    Returns:
        masses in amu, float64, same shape (IUPAC 2016 values, ``ase.data.atomic_masses``).

    Raises:
        InputError: an atomic number outside 1..118.
    """
    from ase.data import atomic_masses

    numbers = np.asarray(numbers, dtype=np.int64)
    unknown = numbers[(numbers < 1) | (numbers > 118)]
    if unknown.size:
        raise InputError(f"{unknown.flat[0]} is no atomic number; elements are numbered 1 to 118")
    return np.asarray(atomic_masses, dtype=np.float64)[numbers]


def wavenumber_to_angular_frequency(wavenumber_per_cm: float) -> float:
    """Angular frequency ω = 2πc·ν̃ in rad/fs of a wavenumber ν̃ in 1/cm."""
    return 2.0 * math.pi * _LIGHT_CM_PER_FS * wavenumber_per_cm
