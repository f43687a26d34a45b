"""sGDML force fields (Chmiela et al., Nat. Commun. 9, 3887 (2018)), evaluated in batches.

The published models of the MD17 molecules, which made the surrogate trajectories. Here they are
matrix products over all frames at once; the package sgdml is not needed.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from shared.data.locate import find_file
from shared.data.npz import ArrayFile
from shared.errors import InputError
from shared.units import KCAL_PER_MOL_IN_EV

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["SGDML", "sgdml_model"]


def sgdml_model(molecule: str) -> Path:
    """The sGDML force field of a molecule, ``sgdml/<molecule>.npz`` in the data folder.

    Raises:
        InputError: it is not there.
    """
    return find_file(
        f"sgdml/{molecule}.npz",
        what=f"the sGDML force field of {molecule}",
        source="http://www.quantum-machine.org/gdml (sGDML models)",
    )


class SGDML:
    """Energies and forces of an sGDML force field for a batch, as matrix products.

    Descriptors are x = 1/r of all pairs, with a Matérn kernel of length σ between them and those of
    the training geometries and their permutations.

    Args:
        path: the model's npz, read without unpickling; energies in kcal/mol.
        numbers: atomic numbers [N] of what it shall be used for, in the model's order of atoms.

    Raises:
        InputError: the file is not readable, for other atoms, or in other units.
    """

    def __init__(self, path: str | Path, numbers: npt.ArrayLike) -> None:
        import torch

        model = ArrayFile(path)
        if not np.array_equal(model["z"], numbers):
            raise InputError(f"{path}: made for atoms {model['z'].tolist()} in this order")
        if (unit := str(model["e_unit"])) != "kcal/mol":
            raise InputError(f"{path}: energies are in {unit}, expected kcal/mol")
        n = len(model["z"])
        lower = np.tril_indices(n, -1)
        place = np.zeros((n, n), dtype=np.int64)
        place[lower] = np.arange(len(lower[0]))
        place += place.T
        permutations = model["perms"] - model["perms"].min()  # counted from 1 in older files
        orders = [place[np.ix_(p, p)][lower] for p in permutations]

        def permuted(rows: np.ndarray) -> "Tensor":
            return torch.tensor(np.concatenate([rows[:, order] for order in orders]))

        self._sigma = float(model["sig"])
        self._scale, self._offset = float(model["std"]), float(model["c"])
        self._q = 5**0.5 / self._sigma
        self._known = permuted(model["R_desc"].T) * self._q
        self._weights = permuted(model["R_d_desc_alpha"])
        self._squares = self._known.square().sum(1)
        self._dots = (self._known * self._weights).sum(1)
        self._pairs = tuple(torch.tensor(index) for index in lower)

    def __call__(self, positions: "Tensor") -> "tuple[Tensor, Tensor]":
        """Positions [R, N, 3], Å, float64 -> energies [R], eV, and forces [R, N, 3], eV/Å."""
        import torch

        i, j = self._pairs
        vectors = positions[:, i] - positions[:, j]
        distances = vectors.norm(dim=-1)
        x = self._q / distances
        squares = x.square().sum(1, keepdim=True) + self._squares - 2 * x @ self._known.T
        off = squares.clamp_min(0).sqrt()
        decay = 5 / (3 * self._sigma**2) * torch.exp(-off)
        along = x @ self._weights.T - self._dots
        smooth = decay * (1 + off)
        pulls = decay * along
        slope = x * pulls.sum(1, keepdim=True) - pulls @ self._known - smooth @ self._weights
        push = -(self._scale * slope / distances**3)[..., None] * vectors
        forces = torch.zeros_like(positions).index_add_(1, i, push).index_add_(1, j, -push)
        energies = self._scale * (smooth * along).sum(1) / self._q + self._offset
        return energies * KCAL_PER_MOL_IN_EV, forces * KCAL_PER_MOL_IN_EV
