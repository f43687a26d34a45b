"""SE(3)-Transformer: tensor field network whose messages are weighted by attention.

Fuchs et al., NeurIPS 2020 (arXiv:2006.10503), Eq. 10-11:

    q_i = W_Q f_i,   k_ij = W_K(x_ij) f_j,   v_ij = W_V(x_ij) f_j,
    α_ij = softmax_j (q_i · k_ij)/√d,   f_i <- W f_i + Σ_j α_ij v_ij,

with kernels W_K, W_V as in TFN and d the number of components in a head. All atoms attend to all
others. The α are invariant, so the values are summed by the convolution of TFN, its radial weights
times α; the keys are made component by component and never stored. Layers end in the norm
nonlinearity of TFN, in place of the source's, and add to their field (W = 1).
"""

import math
from collections.abc import Sequence

from torch import Tensor

from shared.layers.attention import masked_softmax
from shared.layers.components import Components, add_components, at_receiver, at_sender, dot
from shared.layers.convolution import Convolution, RadialNetwork
from shared.layers.fields import FieldLinear, couple
from shared.layers.heads import Heads
from trajgen.baselines.fields import HIDDEN, FieldNetwork, Messages, degrees_out
from trajgen.baselines.geometry import RADIAL, Geometry

__all__ = ["AttentionMessages", "SE3Transformer"]


class AttentionMessages(Messages):
    """Σ_j α_ij R(r_ij) [h_j ⊗ Y(r̂_ij)], all paths.

    Args:
        channels: K of every degree, a multiple of heads.
        lmax: highest degree of the field.
        lmax_out: highest degree of the messages.
        heads: H.

    Raises:
        ValueError: channels is no multiple of heads.
    """

    def __init__(self, channels: int, lmax: int, lmax_out: int, heads: int) -> None:
        super().__init__()
        self.channels = channels
        self.heads = Heads(channels, heads)
        wide = [channels] * (lmax + 1)
        self.query = FieldLinear(wide[: lmax_out + 1], wide[: lmax_out + 1])
        self.source = FieldLinear(wide, wide)
        self.convolution = Convolution(lmax, 2 * lmax, lmax_out, channels)
        self.channels_out = self.convolution.channels_out
        widths = [RADIAL, HIDDEN, self.convolution.width]
        self.key_radial, self.value_radial = RadialNetwork(widths), RadialNetwork(widths)
        self.scale = 1 / math.sqrt((lmax_out + 1) ** 2 * channels // heads)

    def forward(
        self, field: list[Tensor], harmonics: list[Tensor], geometry: Geometry
    ) -> list[Tensor]:
        """See `Messages`."""
        alpha = self.attention(field, harmonics, geometry)
        paths = len(self.convolution.paths)
        weights = self.value_radial(geometry.radial) * self.heads.spread(alpha).repeat(
            1, 1, 1, paths
        )
        return self.convolution(field, harmonics, weights)

    def attention(self, field: list[Tensor], harmonics: list[Tensor], geometry: Geometry) -> Tensor:
        """α [B, N, N, H]."""
        own = field[: len(self.channels_out)]
        sent, queries = at_sender(self.source(field)), at_receiver(self.query(own))
        lines = [list(y[..., None].unbind(-2)) for y in harmonics]
        keys: Components = [[] for _ in queries]
        radial = self.key_radial(geometry.radial).split(self.channels, -1)
        convolution = self.convolution
        for path, terms, weight in zip(convolution.paths, convolution.terms, radial, strict=True):
            l1, l2, l3 = path
            product = couple(sent[l1], lines[l2], terms)
            keys[l3] = add_components(keys[l3], [weight * component for component in product])
        products = dot(queries[0], keys[0])
        for query, key in zip(queries[1:], keys[1:], strict=True):
            products = products + dot(query, key)
        logits = self.scale * self.heads.sum(products)
        return masked_softmax(logits, geometry.valid[..., None], 2)


class SE3Transformer(FieldNetwork):
    """The network.

    Args:
        atomic_numbers: of each type.
        channels: K of every degree, a multiple of heads.
        layers: number of layers.
        lmax: highest degree of the fields.
        heads: of the attention.

    Raises:
        ValueError: lmax below 1, or channels is no multiple of heads.
    """

    def __init__(
        self,
        atomic_numbers: Sequence[int],
        channels: int = 16,
        layers: int = 4,
        lmax: int = 1,
        heads: int = 4,
    ) -> None:
        messages = [AttentionMessages(channels, lmax, n, heads) for n in degrees_out(lmax, layers)]
        super().__init__(len(atomic_numbers), channels, lmax, messages)
