"""RF: radial field, pairs of atoms that push and pull along the line between them.

Köhler, Klein and Noé, arXiv:1910.00753: a field Σ_j φ(|x_ij|) x_ij, with φ expanded in
radial functions. As one of the predictors that EGNN is compared with (Satorras et al., ICML 2021,
Table 2) it is stacked and takes velocities,

    x_i <- x_i + 1/(N − 1) Σ_j (x_j − x_i) φ(|x_ij|; a_i, a_j) + φ_v(|v_i|²; a_i) v_i,

with a the types of the atoms. There are no messages: only positions go from layer to layer.
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

__all__ = ["RadialField", "RadialFieldLayer"]


class RadialFieldLayer(nn.Module):
    """One layer.

    Args:
        channels: width of the embedding of types, and of the hidden layers of φ and φ_v.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.hidden = PairMessages(channels)
        self.along = perceptron(channels, channels, 2, quiet=True)
        self.velocity = perceptron(channels + 1, channels, 2, quiet=True)

    def forward(self, h: Tensor, c: Condition, geometry: Geometry) -> tuple[Tensor, Tensor]:
        """Embedded types [B, N, C] -> themselves and the kick [B, N, 3, 2]."""
        weights = self.along(self.hidden(h, geometry.radial, geometry.valid))[..., None, :]
        pulls = (geometry.vectors[..., None] * weights).sum(2) / geometry.partners[..., None]
        speed = c.velocities.square().sum(-1, keepdim=True)
        own = self.velocity(torch.cat([h, speed], -1))[..., None, :]
        return h, pulls + c.velocities[..., None] * own


class RadialField(Moving):
    """The network.

    Args:
        atomic_numbers: of each type.
        channels: width of the embedding of types and of the hidden layers.
        layers: number of layers.
    """

    def __init__(self, atomic_numbers: Sequence[int], channels: int = 32, layers: int = 4) -> None:
        embedding = StateEmbedding(len(atomic_numbers), channels, speed=False)
        super().__init__(embedding, [RadialFieldLayer(channels) for _ in range(layers)])
