"""What tests of the force-field head share: small random molecules, and a model as a `Case`."""

import torch
from torch import Tensor, nn

from forcefield.pairs import all_pairs
from tests.physics import Case


def random_molecules(
    sizes: tuple[int, ...] = (5, 3),
    n_types: int = 3,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> dict[str, Tensor]:
    """types [B, N], positions [B, N, 3] Å and atoms [B, N] of molecules padded to the largest.

    Atoms are at least 0.9 Å apart, within a few Å; no two axes of the result have the same length
    unless `sizes` makes them.
    """
    generator = torch.Generator().manual_seed(seed)
    n = max(sizes)
    atoms = torch.arange(n) < torch.tensor(sizes)[:, None]
    # Points of a jittered grid 1.4 Å wide, in random order.
    grid = 1.4 * torch.cartesian_prod(*[torch.arange(3.0, dtype=torch.float64)] * 3)
    order = torch.stack([torch.randperm(27, generator=generator)[:n] for _ in sizes])
    jitter = 0.5 * torch.rand(len(sizes), n, 3, generator=generator, dtype=torch.float64)
    positions = torch.where(atoms[..., None], grid[order] + jitter, 0.0)
    types = torch.randint(n_types, (len(sizes), n), generator=generator) * atoms
    return {"types": types, "positions": positions.to(dtype), "atoms": atoms}


def scalar_case(model: nn.Module, sizes: tuple[int, ...] = (5, 3), n_types: int = 3) -> Case:
    """A backbone's scalars, masked to real atoms, as a case for `tests.physics`."""

    def scalars(types: Tensor, positions: Tensor, atoms: Tensor) -> dict[str, Tensor]:
        values, _ = model(types, all_pairs(positions, atoms))
        return {"scalars": values * atoms[..., None]}

    return Case(scalars, random_molecules(sizes, n_types), mask="atoms")
