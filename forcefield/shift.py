"""How diffused features shift with the diffusivity, from one set of frames to another.

The theory bounds ‖Z(T; A′) − Z(T; A)‖ by a multiple of ‖A′ − A‖.
"""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from forcefield.diffusion import feature_shift
from shared.errors import InputError
from shared.evaluation.candidates import FeatureShift
from shared.layers.pairs import all_pairs
from shared.metrics.armse import superpose

if TYPE_CHECKING:
    from forcefield.load import LoadedPotential

__all__ = ["shift_between"]

Float = npt.NDArray[np.float64]


def shift_between(
    loaded: "LoadedPotential", numbers: npt.NDArray[np.int64], before: Float, after: Float
) -> FeatureShift:
    """Shifts from each frame to its partner.

    Each frame of A′ is superposed on its partner of A; both diffusions start from z(0) of A, so
    that only the diffusivity differs.

    Args:
        loaded: a potential.
        numbers: atomic numbers [N].
        before: positions of A [F, N, 3], Å.
        after: positions of A′ [F, N, 3], Å.

    Raises:
        InputError: the potential has no diffusion, or does not know an element.
    """
    diffusion = loaded.potential.diffusion
    if diffusion is None:
        raise InputError(f"checkpoint {loaded.config.name} has no diffusion")
    types = torch.from_numpy(loaded.types_of(numbers))[None]
    atoms = torch.ones(types.shape, dtype=torch.bool)
    found = []
    for old, new in zip(before, superpose(after, before), strict=True):
        first, second = (
            all_pairs(torch.from_numpy(x - old.mean(0)).float()[None], atoms) for x in (old, new)
        )
        with torch.no_grad():
            size = torch.cat(diffusion(types, first), -2).norm()
            features, diffusivity = feature_shift(diffusion, types, first, second)
        found.append([float(features), float(diffusivity), float(size)])
    return FeatureShift(*np.array(found).T)
