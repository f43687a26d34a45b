"""Which of the checkpoints that ship was trained on a molecule."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from shared.checkpoint import Checkpoint, CheckpointConfig
from shared.errors import InputError, some
from shared.topology import find_molecule

__all__ = ["trained_on", "unfamiliar"]

_FARTHEST = 1.5  # Å, between the closest atoms of a molecule


def trained_on(
    opened: Sequence[Checkpoint],
    numbers: npt.ArrayLike,
    positions: npt.ArrayLike,
    *,
    what: str,
    command: str,
) -> tuple[Checkpoint, str]:
    """The first checkpoint that was trained on the molecule of a frame, and its name there.

    Args:
        opened: those there are, the preferred first.
        numbers: atomic numbers [N].
        positions: [N, 3], Å.
        what: what a checkpoint is, in words.
        command: that trains one.

    Raises:
        InputError: there is none; the message says which molecules are known.
    """
    for checkpoint in opened:
        found = find_molecule(checkpoint.config.molecules, numbers, positions)
        if found is not None:
            return checkpoint, found[1]
    known = some(dict.fromkeys(m for c in opened for m in c.config.molecules)) or "none"
    raise InputError(
        f"no shipped {what} was trained on this molecule{_why(opened, numbers, positions)}; known "
        f"molecules: {known}; train one for it with {command} --config FILE, or name one with "
        "--checkpoint"
    )


def unfamiliar(
    config: CheckpointConfig, numbers: npt.ArrayLike, positions: npt.ArrayLike
) -> str | None:
    """A warning if the molecule is not one of those that a checkpoint says it was trained on."""
    if not config.molecules or find_molecule(config.molecules, numbers, positions) is not None:
        return None
    return (
        f"checkpoint {config.name} was not trained on this molecule; it was on "
        f"{some(config.molecules)}"
    )


def _why(opened: Sequence[Checkpoint], numbers: npt.ArrayLike, positions: npt.ArrayLike) -> str:
    """What is odd about a molecule, if anything: its elements, or a unit that is not Å."""
    from ase.data import chemical_symbols
    from scipy.spatial.distance import pdist

    elements = {element for checkpoint in opened for element in checkpoint.config.elements}
    if unknown := sorted(set(np.asarray(numbers).tolist()) - elements):
        return f" (none knows the element {', '.join(chemical_symbols[z] for z in unknown)})"
    closest = pdist(np.asarray(positions)).min(initial=np.inf)
    if _FARTHEST < closest < np.inf:
        return f" (its closest atoms are {closest:.3g} Å apart: are its coordinates in Å?)"
    return ""
