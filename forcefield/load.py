"""Released potentials: by name or path, or for a molecule; checked, with their weights.

Everything but `build` and `load_potential` reads the config alone, without torch, so that a command
line can say what is wrong at once. A molecule is recognised by its bonds (`shared.topology`).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from shared.checkpoint import Checkpoint, CheckpointConfig, load, shipped
from shared.choice import trained_on
from shared.errors import InputError

if TYPE_CHECKING:
    import torch

    from forcefield.potential import Potential

__all__ = [
    "LoadedPotential",
    "build",
    "choose",
    "load_potential",
    "open_checkpoint",
    "types_of",
]

KIND = "potential"
_FIRST = "rmd17"  # asked before the other shipped ones, which know some of its molecules


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
        InputError: as `shared.checkpoint.load`, or it is of another kind, or a molecule in it has
            no key.
    """
    checkpoint = load(name_or_path, "forcefield")
    if checkpoint.config.kind != KIND:
        raise InputError(
            f"{checkpoint.folder}: kind {checkpoint.config.kind!r} is not known; there is {KIND}"
        )
    for name, molecule in checkpoint.config.molecules.items():
        if not (isinstance(molecule, dict) and "key" in molecule):
            raise InputError(
                f"{checkpoint.folder}: corrupt, the entry molecules.{name}.key is missing"
            )
    return checkpoint


def choose(numbers: npt.ArrayLike, positions: npt.ArrayLike) -> tuple[Checkpoint, str]:
    """The shipped checkpoint that was trained on the molecule of a frame, and its name there.

    Args:
        numbers: atomic numbers [N].
        positions: [N, 3], Å.

    Raises:
        InputError: there is none; the message says which molecules are known.
    """
    folders = sorted(shipped("forcefield").items(), key=lambda item: (item[0] != _FIRST, item[0]))
    opened = [open_checkpoint(str(folder)) for _, folder in folders]
    return trained_on(
        opened, numbers, positions, what="force field", command="python -m forcefield.train"
    )


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
