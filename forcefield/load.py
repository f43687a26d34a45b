"""Released potentials: by name or path, checked, with their weights.

`open_checkpoint` reads and checks the config alone, without torch, so that a command line can say
what is wrong at once.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from shared.checkpoint import Checkpoint, CheckpointConfig, load
from shared.errors import InputError

if TYPE_CHECKING:
    import torch

    from forcefield.potential import Potential

__all__ = ["LoadedPotential", "build", "load_potential", "open_checkpoint", "types_of"]

KIND = "potential"


@dataclass(frozen=True)
class LoadedPotential:
    """A potential with its weights, in evaluation mode.

    Attributes:
        config: what the checkpoint says about itself.
        potential: the model.
        elements: atomic numbers it knows; type indices count these.
        e0: atomic number -> energy of the isolated atom, eV.
    """

    config: CheckpointConfig
    potential: "Potential"
    elements: list[int]
    e0: dict[int, float]

    def types_of(self, numbers: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Type index of each atom [N]; raises as the function `types_of`."""
        return types_of(self.config, numbers)


def open_checkpoint(name_or_path: str) -> Checkpoint:
    """A checkpoint of this head, its entries checked, its weights still on disk.

    Raises:
        InputError: as `shared.checkpoint.load`, or it is of another kind.
    """
    checkpoint = load(name_or_path, "forcefield")
    if checkpoint.config.kind != KIND:
        raise InputError(
            f"{checkpoint.folder}: kind {checkpoint.config.kind!r} is not known; there is {KIND}"
        )
    return checkpoint


def types_of(config: CheckpointConfig, numbers: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Type index of each atom [N] in the model of a checkpoint.

    Raises:
        InputError: an element that it does not know (the message names those it does).
    """
    from ase.data import chemical_symbols

    numbers = np.asarray(numbers, dtype=np.int64)
    unknown = sorted(set(numbers.tolist()) - set(config.elements))
    if unknown:
        raise InputError(
            f"checkpoint {config.name} does not know the element "
            f"{', '.join(chemical_symbols[z] for z in unknown)}; it knows "
            f"{', '.join(chemical_symbols[z] for z in config.elements)}; train one that does with "
            "python -m forcefield.train --config FILE"
        )
    return np.searchsorted(np.asarray(config.elements), numbers)


def build(
    checkpoint: Checkpoint, dtype: "torch.dtype | None" = None, device: Any = "cpu"
) -> LoadedPotential:
    """The model with its weights.

    Args:
        dtype: of the network; None: float32.

    Raises:
        InputError: entries or weights that do not fit the model.
    """
    import torch

    from forcefield.potential import Potential
    from shared.layers.tensor import building_in

    config = checkpoint.config
    try:
        with building_in(dtype or torch.float32):
            potential = Potential.from_description(config.model, config.normalisation)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{checkpoint.folder}: its config does not describe a model ({error})"
        ) from None
    checkpoint.load_weights(potential)
    potential.requires_grad_(False)
    e0 = dict(zip(potential.elements, potential.e0, strict=True))
    return LoadedPotential(config, potential.eval().to(device), potential.elements, e0)


def load_potential(
    name_or_path: str, dtype: "torch.dtype | None" = None, device: Any = "cpu"
) -> LoadedPotential:
    """A released potential, by name or path.

    Args:
        dtype: of the network; None: float32.

    Raises:
        InputError: as `open_checkpoint` and `build`.
    """
    return build(open_checkpoint(name_or_path), dtype, device)
