"""What tests of the force-field head share: small random molecules, and checks of a backbone."""

import torch
from torch import Tensor, nn

from shared.layers.pairs import all_pairs
from tests.physics import Case, check_smooth_at


def random_molecules(
    sizes: tuple[int, ...] = (5, 3),
    n_types: int = 3,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> dict[str, Tensor]:
    """types [B, N], positions [B, N, 3] Å and atoms [B, N] of molecules padded to the largest.

    Atoms are at least 0.9 Å apart, within a few Å.
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


def check_crossing_the_cutoff(model: nn.Module, cutoff: float, tolerance: float = 1e-3) -> None:
    """The sum of the scalars and two derivatives are continuous where an atom leaves the cutoff.

    It leaves that of one atom, and stays within reach of another; `cutoff` is at most 4 Å. float64.
    """
    fixed = torch.tensor([[0.0, 0.0, 0.0], [1.2, 0.3, 0.0]], dtype=torch.float64)
    types, atoms = torch.tensor([[0, 1, 2]]), torch.ones(1, 3, dtype=torch.bool)

    def scalars(r: Tensor) -> Tensor:
        moving = torch.stack([r, torch.zeros_like(r), torch.zeros_like(r)])
        positions = torch.cat([fixed, moving[None]])[None]
        return model(types, all_pairs(positions, atoms))[0].sum()

    check_smooth_at(scalars, cutoff, order=2, tolerance=tolerance)
