"""EGNN: equivariant graph neural network with velocities.

Satorras, Hoogeboom and Welling, ICML 2021 (arXiv:2102.09844), Eq. 3, 4, 6 and 7, layer by layer:

    m_ij = φ_e(h_i, h_j, |x_ij|),      h_i <- h_i + φ_h(h_i, Σ_j m_ij),
    v_i <- φ_v(h_i) v_i + 1/(N − 1) Σ_j (x_i − x_j) φ_x(m_ij),      x_i <- x_i + v_i.

Here velocity and position each have a weight φ_x and φ_v of their own, for what the network returns
is the residual of both; distances enter φ_e through radial functions in place of |x|²; the mean of
the messages is taken; and φ_v takes the updated h, so that the last layer's is used.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trajgen.baselines.geometry import (
    Geometry,
    Moving,
    PairMessages,
    StateEmbedding,
    perceptron,
)
from trajgen.egt import Condition

__all__ = ["EGNN", "EGNNLayer"]


class EGNNLayer(nn.Module):
    """One layer.

    Args:
        channels: width of h and of the messages.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.messages = PairMessages(channels)
        self.along = perceptron(channels, channels, 2, quiet=True)
        self.update = perceptron(2 * channels, channels, channels)
        self.velocity = perceptron(channels, channels, 2, quiet=True)

    def forward(self, h: Tensor, c: Condition, geometry: Geometry) -> tuple[Tensor, Tensor]:
        """h [B, N, C] -> h and the kick [B, N, 3, 2]."""
        messages = self.messages(h, geometry.radial, geometry.valid)
        weights = self.along(messages)[..., None, :]
        pulls = (geometry.vectors[..., None] * weights).sum(2) / geometry.partners[..., None]
        gathered = messages.sum(2) / geometry.partners
        h = h + self.update(torch.cat([h, gathered], -1))
        return h, pulls + c.velocities[..., None] * self.velocity(h)[..., None, :]


class EGNN(Moving):
    """The network.

    Args:
        atomic_numbers: of each type.
        channels: width of the atoms' features.
        layers: number of layers.
    """

    def __init__(self, atomic_numbers: Sequence[int], channels: int = 32, layers: int = 4) -> None:
        embedding = StateEmbedding(len(atomic_numbers), channels)
        super().__init__(embedding, [EGNNLayer(channels) for _ in range(layers)])
