"""Constants against independent values, masses and the wavenumber conversion."""

import math

import ase.units
import numpy as np
import pytest

from shared import units
from shared.errors import InputError


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (units.KB_EV_PER_K, ase.units.kB),
        (units.ACCELERATION, ase.units.fs**2),  # ASE's time unit is Å √(amu/eV)
        (units.ACCELERATION, 9.648533e-3),
        (units.AMU_A2_PER_FS2_IN_EV * units.ACCELERATION, 1.0),
        (units.KCAL_PER_MOL_IN_EV, ase.units.kcal / ase.units.mol),
        (units.HARTREE_IN_EV, ase.units.Hartree),
        (units.BOHR_IN_ANGSTROM, ase.units.Bohr),
        (units.ANGSTROM_PER_NM, ase.units.nm),
        (units.FS_PER_PS, 1000.0),
    ],
)
def test_constants(value: float, expected: float) -> None:
    assert value == pytest.approx(expected, rel=1e-6)  # ASE: CODATA 2014


def test_masses_are_float64_and_keep_the_shape() -> None:
    masses = units.masses([[1, 6], [8, 92]])
    assert masses.dtype == np.float64
    np.testing.assert_allclose(masses, [[1.008, 12.011], [15.999, 238.029]], atol=1e-3)


@pytest.mark.parametrize("number", [0, -1, 119])
def test_masses_of_no_element(number: int) -> None:
    with pytest.raises(InputError, match=f"{number} is no atomic number"):
        units.masses([1, number])


def test_wavenumber_has_the_period_it_should() -> None:
    omega = units.wavenumber_to_angular_frequency(1700.0)
    assert 2.0 * math.pi / omega == pytest.approx(1e15 / (1700.0 * 2.99792458e10))  # 19.6 fs


def test_input_error_is_one_line() -> None:
    assert str(InputError("two\n  lines")) == "two lines"
