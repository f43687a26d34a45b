"""Tiny potentials on every backbone, and molecules to try them on."""

from typing import Any

import torch
from torch import Tensor

from forcefield.potential import Potential
from shared.layers.tensor import building_in

ELEMENTS = [1, 6, 8]
CUTOFF = 2.5  # Å
OPTIONS: dict[str, dict[str, Any]] = {
    "mace": {"channels": 4, "lmax": 2, "lmax_hidden": 1, "radial": [8], "correlation": 3},
    "nequip": {"channels": 4, "lmax": 2, "layers": 2, "radial": [8]},
    "visnet": {"channels": 8, "layers": 2, "heads": 2},
    "segno": {"channels": 8, "vectors": 4, "steps": 2},
}
DIFFUSION = {"channels": 4, "heads": 2, "n_basis": 4, "cutoff": CUTOFF}


def tiny(
    backbone: str, kind: str = "none", dtype: torch.dtype = torch.float64, **changes: Any
) -> Potential:
    """A potential with random weights; its energies are of the order of 1 eV."""
    torch.manual_seed(0)
    with building_in(dtype):
        potential = Potential(
            ELEMENTS,
            backbone,
            {**OPTIONS[backbone], "cutoff": CUTOFF},
            {"kind": kind, **DIFFUSION},
            readout_channels=8,
            e0=[-13.6, -1029.0, -2042.0],
            scale=[0.9, 1.0, 1.1],
            shift=[-0.3, 0.1, 0.2],
            **changes,
        )
    return potential.requires_grad_(False)


def batch(dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Two molecules of 6 and 4 atoms, as types, positions and atoms."""
    generator = torch.Generator().manual_seed(1)
    # On a distorted grid, so that no two atoms come close; some pairs lie beyond the cutoff.
    grid = torch.tensor([[i, j, 0.7 * ((i + j) % 2)] for i in range(3) for j in range(2)])
    noise = 0.3 * torch.randn(2, 6, 3, generator=generator, dtype=torch.float64)
    positions = (1.3 * grid.double() + noise).to(dtype)
    atoms = torch.ones(2, 6, dtype=torch.bool)
    atoms[1, 4:] = False
    types = torch.randint(3, (2, 6), generator=generator)
    return {"types": types, "positions": positions * atoms[..., None], "atoms": atoms}
