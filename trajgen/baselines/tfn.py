"""TFN: tensor field network.

Thomas et al., arXiv:1802.08219. A layer is a convolution with filters R(r) Y(r̂) over all pairs
(Eq. 2-3, `shared.layers.convolution`), then self-interaction, a linear map of the channels of each
degree, and the norm nonlinearity, between two of which a layer here stands. Sums over neighbours
are divided by the root of their number; layers add to their field; pseudo-tensors are left out,
for the data are symmetric under reflection.
"""

from collections.abc import Sequence

from torch import Tensor

from shared.layers.convolution import Convolution, RadialNetwork
from trajgen.baselines.fields import HIDDEN, FieldNetwork, Messages, degrees_out
from trajgen.baselines.geometry import RADIAL, Geometry

__all__ = ["ConvolutionMessages", "TensorFieldNetwork"]


class ConvolutionMessages(Messages):
    """Σ_j R(r_ij) [h_j ⊗ Y(r̂_ij)], all paths.

    Args:
        channels: K of every degree.
        lmax: highest degree of the field.
        lmax_out: highest degree of the messages.
    """

    def __init__(self, channels: int, lmax: int, lmax_out: int) -> None:
        super().__init__()
        self.convolution = Convolution(lmax, 2 * lmax, lmax_out, channels)
        self.channels_out = self.convolution.channels_out
        self.radial = RadialNetwork([RADIAL, HIDDEN, self.convolution.width])

    def forward(
        self, field: list[Tensor], harmonics: list[Tensor], geometry: Geometry
    ) -> list[Tensor]:
        """See `Messages`."""
        summed = self.convolution(field, harmonics, self.radial(geometry.radial))
        return [x * geometry.partners[..., None].rsqrt() for x in summed]


class TensorFieldNetwork(FieldNetwork):
    """The network.

    Args:
        atomic_numbers: of each type.
        channels: K of every degree.
        layers: number of layers.
        lmax: highest degree of the fields.

    Raises:
        ValueError: lmax below 1.
    """

    def __init__(
        self, atomic_numbers: Sequence[int], channels: int = 16, layers: int = 4, lmax: int = 1
    ) -> None:
        messages = [ConvolutionMessages(channels, lmax, n) for n in degrees_out(lmax, layers)]
        super().__init__(len(atomic_numbers), channels, lmax, messages)
