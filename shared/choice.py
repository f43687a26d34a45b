"""Which of the checkpoints that ship was trained on a molecule."""

from collections.abc import Sequence

import numpy.typing as npt

from shared.checkpoint import Checkpoint
from shared.errors import InputError, some
from shared.topology import find_molecule

__all__ = ["trained_on"]


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
    known = "; ".join(f"{c.config.name}: {some(c.config.molecules)}" for c in opened)
    raise InputError(
        f"no shipped {what} was trained on this molecule; there are {known or 'none'}; train "
        f"one for it with {command} --config FILE, or name one with --checkpoint"
    )
