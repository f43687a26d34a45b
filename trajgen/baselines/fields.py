"""Networks of spherical tensor fields: what `tfn` and `se3_transformer` share.

The first field has the embedded types and invariants in degree 0 and the velocity in degree 1; of
the last one degree 1, gated by degree 0, is mixed to the kick of every atom. Between them come
layers on the geometry of x_t, each with the field of the one before added, so that several can be
trained.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from shared.layers.fields import FieldLinear, Harmonics
from shared.layers.normalisation import soft_length
from trajgen.baselines.geometry import Geometry, StateEmbedding, radial_basis
from trajgen.egt import Condition

__all__ = ["HIDDEN", "FieldLayer", "FieldNetwork", "Messages", "NormNonlinearity", "degrees_out"]

# Width of the hidden layer of the radial networks.
HIDDEN = 32


class NormNonlinearity(nn.Module):
    """silu(x + b) in degree 0; η(|V| + b) V, channel by channel, above (TFN, section 4.1.3).

    η is the logistic function, and |V| is `soft_length`, which is smooth where V is zero.

    Args:
        channels: K of every degree.
        lmax: highest degree.
    """

    def __init__(self, channels: int, lmax: int) -> None:
        super().__init__()
        self.biases = nn.ParameterList(torch.zeros(channels) for _ in range(lmax + 1))

    def forward(self, field: Sequence[Tensor]) -> list[Tensor]:
        """Entries [..., 2l + 1, K], same shapes out."""
        scalars, *others = field
        first, *biases = self.biases
        gated = [
            x * torch.sigmoid(soft_length(x) + bias)[..., None, :]
            for x, bias in zip(others, biases, strict=True)
        ]
        return [nn.functional.silu(scalars + first), *gated]


class Messages(nn.Module, ABC):
    """What an atom receives: a sum over all others.

    Attributes:
        channels_out: of each degree; there may be fewer degrees than the field has.
    """

    channels_out: list[int]

    @abstractmethod
    def forward(
        self, field: list[Tensor], harmonics: list[Tensor], geometry: Geometry
    ) -> list[Tensor]:
        """Field, entries [B, N, 2l + 1, K], and Y [B, N, N, 2l + 1] -> messages.

        Entries [B, N, 2l + 1, channels_out[l]].
        """


class FieldLayer(nn.Module):
    """Adds to its field: messages, mixed over channels and paths, non-linear.

    Args:
        messages: see `Messages`.
        channels: K of every degree.
    """

    def __init__(self, messages: Messages, channels: int) -> None:
        super().__init__()
        self.messages = messages
        wide = [channels] * len(messages.channels_out)
        self.mix = FieldLinear(messages.channels_out, wide)
        self.nonlinearity = NormNonlinearity(channels, len(wide) - 1)
        self.out = FieldLinear(wide, wide)

    def forward(
        self, field: list[Tensor], harmonics: list[Tensor], geometry: Geometry
    ) -> list[Tensor]:
        """Entries [B, N, 2l + 1, K], the same out, as far as there are messages of that degree."""
        change = self.out(self.nonlinearity(self.mix(self.messages(field, harmonics, geometry))))
        return [x + dx for x, dx in zip(field, change, strict=False)]


def degrees_out(lmax: int, layers: int) -> list[int]:
    """Highest degree that each layer gives: lmax, the last one 1, of which kicks are made."""
    return [lmax] * (layers - 1) + [1]


class FieldNetwork(nn.Module):
    """From a condition through layers of fields to kicks.

    Args:
        n_types: number of types.
        channels: K of every degree.
        lmax: highest degree of the fields, at least 1; harmonics go up to 2 lmax, so that all
            degrees couple with all.
        messages: of each layer.

    Raises:
        ValueError: lmax below 1.
    """

    def __init__(
        self, n_types: int, channels: int, lmax: int, messages: Sequence[Messages]
    ) -> None:
        super().__init__()
        if lmax < 1:
            raise ValueError(f"lmax must be at least 1, for velocities are vectors; got {lmax}")
        self.channels, self.lmax = channels, lmax
        self.embedding = StateEmbedding(n_types, channels)
        self.velocity = nn.Parameter(torch.randn(1, channels))
        self.basis = radial_basis()
        self.harmonics = Harmonics(2 * lmax)
        self.layers = nn.ModuleList(FieldLayer(m, channels) for m in messages)
        self.gate = nn.Linear(channels, channels)
        self.kick = nn.Parameter(torch.randn(channels, 2) / channels)

    def forward(self, c: Condition) -> Tensor:
        """Condition -> standardised residuals (y, w) [B, N, 3, 2]."""
        scalars = self.embedding(c)[..., None, :]
        field = [scalars, c.velocities[..., None] @ self.velocity]
        for degree in range(2, self.lmax + 1):
            field.append(torch.zeros_like(scalars).repeat(1, 1, 2 * degree + 1, 1))
        geometry = Geometry.of(c.positions, c.mask, self.basis)
        harmonics = self.harmonics(geometry.directions)
        for layer in self.layers:
            field = layer(field, harmonics, geometry)
        gates = 1 + self.gate(field[0])
        return (gates * field[1]) @ self.kick
