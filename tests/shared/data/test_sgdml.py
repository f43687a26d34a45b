"""The batched sGDML force field against the package that its models come with."""

import logging

import numpy as np
import pytest
import torch

from shared.data.locate import data_root
from shared.data.md17 import SURROGATE_MOLECULES, load_md17s
from shared.data.npz import ArrayFile
from shared.data.sgdml import SGDML, sgdml_model
from shared.errors import InputError
from shared.units import KCAL_PER_MOL_IN_EV


@pytest.mark.data
@pytest.mark.reference("sgdml")
@pytest.mark.parametrize("molecule", SURROGATE_MOLECULES)
def test_it_reproduces_the_package(molecule: str) -> None:
    loggers = logging.getLoggerClass()
    from sgdml.predict import GDMLPredict  # makes all later loggers talk

    logging.setLoggerClass(loggers)
    series, path = load_md17s(molecule), sgdml_model(molecule)
    arrays = ArrayFile(path)
    x = series.positions[[0, 20_000, 39_999]].astype(np.float64)
    theirs = GDMLPredict({name: arrays[name] for name in arrays}, max_processes=1)
    energies, forces = theirs.predict(x.reshape(len(x), -1))
    found = SGDML(path, series.numbers)(torch.from_numpy(x))
    np.testing.assert_allclose(found[0], energies * KCAL_PER_MOL_IN_EV, rtol=1e-6)
    # Relative to the size of the forces: a component may be next to nothing.
    expected = forces.reshape(x.shape) * KCAL_PER_MOL_IN_EV
    assert np.abs(found[1].numpy() - expected).max() < 1e-6 * np.abs(expected).max()


@pytest.mark.data
def test_bad_input() -> None:
    path = data_root() / "sgdml" / "ethanol.npz"
    with pytest.raises(InputError, match="in this order"):
        SGDML(path, [8, 1, 1])
    with pytest.raises(InputError, match="the sGDML force field of water"):
        sgdml_model("water")
