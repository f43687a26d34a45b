"""A tiny generator of water and ethanol, without training and without data.

Its residuals are small beside inertial flight, so that a cold molecule stays whole for a while and
yet every part of the state matters for the next.
"""

from pathlib import Path

import pytest
import torch
from ase.build import molecule

from shared.checkpoint import CheckpointConfig, save
from shared.topology import atom_classes, molecule_key
from trajgen.model import NetworkConfig, NoiseConfig, Normalisation, TransitionModel

MOLECULES = {"water": molecule("H2O"), "ethanol": molecule("CH3CH2OH")}
NETWORK = {"channels": 8, "vectors": 8, "heads": 4, "directions": 2, "radial": 6, "layers": 1}


def save_tiny(folder: Path, history: str = "thermostat", **changes: object) -> Path:
    """Write a checkpoint; `changes` go into its config."""
    torch.manual_seed(0)
    classes = {n: atom_classes(a.numbers, a.positions) for n, a in MOLECULES.items()}
    normalisation = {
        "velocity": 0.003,
        "acceleration": 0.001,
        "thermostat": 0.05,
        "lags_fs": [0.5],
        "step": [1e-4],
        "kick": [2e-4],
    }
    model = TransitionModel(
        sorted({c for names in classes.values() for c in names}),
        Normalisation(**normalisation),
        NetworkConfig(**NETWORK),
        NoiseConfig(sigma_max=2.0),
        history=history,
    )
    entries = {
        "head": "trajgen",
        "name": folder.name,
        "kind": "residual",
        "model": {
            "types": model.types,
            "network": vars(model.network_config),
            "noise": vars(model.noise_config),
            "history": history,
        },
        "elements": [1, 6, 8],
        "molecules": {n: {"key": molecule_key(c), "atoms": len(c)} for n, c in classes.items()},
        "normalisation": normalisation,
        "temperature_K": 10.0,
        "defaults": {
            "lag_fs": 0.5,
            "lag_range_fs": [0.25, 1.0],
            "acceleration_interval_fs": 0.5,
            "sampler": "heun",
            "steps": 1,
        },
    }
    return save(folder, model.state_dict(), CheckpointConfig(**{**entries, **changes}), "# tiny\n")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its folder."""
    return save_tiny(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture
def ethanol(tmp_path: Path) -> Path:
    """A frame of ethanol, without velocities."""
    path = tmp_path / "input" / "ethanol.xyz"
    path.parent.mkdir()
    MOLECULES["ethanol"].write(path, format="xyz")
    return path
