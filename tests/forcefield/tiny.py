"""A tiny force field of H, C and O, without training and without data.

Its forces are small, so that a cold molecule stays whole for a while.
"""

from pathlib import Path

import torch

from forcefield.potential import Potential
from shared.checkpoint import CheckpointConfig, save

ELEMENTS = [1, 6, 8]
E0 = [-13.6, -1030.0, -2043.0]


def save_tiny(folder: Path, seed: int = 0, scale: float = 0.02, **changes: object) -> Path:
    """Write a checkpoint; `changes` go into its config."""
    torch.manual_seed(seed)
    potential = Potential(
        ELEMENTS,
        "nequip",
        {"channels": 4, "layers": 1, "lmax": 1, "bessel": 4, "radial": [8]},
        e0=E0,
        scale=[scale] * 3,
    )
    model, normalisation = potential.description()
    entries = {
        "head": "forcefield",
        "name": folder.name,
        "kind": "potential",
        "model": model,
        "elements": ELEMENTS,
        "normalisation": normalisation,
        "temperature_K": 10.0,
    }
    config = CheckpointConfig(**{**entries, **changes})
    return save(folder, potential.state_dict(), config, "# tiny\n", overwrite=True)
