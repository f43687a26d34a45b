"""What a local model of atoms is: types and pairs in, features of each atom out."""

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from shared.errors import InputError
from shared.layers.pairs import Pairs

__all__ = ["Backbone", "require_positive"]


class Backbone(Protocol):
    """A `torch.nn.Module` built as `Name(n_types, config)`, config a frozen dataclass.

    Its features of an atom depend on the atoms within reach of its cutoff only, are smooth
    functions of the positions, and keep the symmetries: scalars are invariant, entry l of the
    fields turns as degree l of parity (-1)^l.

    Attributes:
        channels: C, width of the scalars.
        lmax_out: highest degree of the fields.
    """

    channels: int
    lmax_out: int

    def __call__(self, types: Tensor, pairs: Pairs) -> tuple[Tensor, list[Tensor]]:
        """Features of B molecules padded to N atoms.

        Args:
            types: index of each atom's element [B, N], any valid one in padding.
            pairs: of the same molecules.

        Returns:
            Scalars [B, N, C], and fields [B, N, 2l + 1, K] for l = 0..lmax_out. Rows of padding
            hold anything finite.
        """
        ...


def require_positive(where: str, config: Any, names: Sequence[str]) -> None:
    """Refuse a config in which one of the named numbers is not positive.

    Raises:
        InputError: naming the number as `where`.name.
    """
    for name in names:
        if not (value := getattr(config, name)) > 0:
            raise InputError(f"{where}.{name}: must be positive, got {value}")
