"""GMN: graph mechanics network, atoms as members of rigid objects.

Huang et al., ICLR 2022 (arXiv:2203.06442). Forces between atoms come from messages on the matrix
Z_ij = [x_j − x_i, v_j − v_i] and its invariants ZᵀZ (their Eq. 8-10), and move objects by their
generalised coordinates, from which the atoms follow by kinematics (Eq. 5-7). The source has systems
with rigid constraints: single particles, sticks of two, hinges of three. The molecules here have
none. What is used instead: every atom is a particle, as which it moves freely, and every bond is a
stick, whose two atoms share its motion. An atom belongs to itself and to the sticks of its bonds,
and moves by the mean over all of them, each with a learned weight.

With a_i the free change of atom i and m the masses, a stick (i, j) moves its atom i by

    ψ_c (m_i a_i + m_j a_j)/(m_i + m_j)  +  ψ_s m_j/(m_i + m_j) (1 − r̂ r̂ᵀ)(a_i − a_j),

its centre and its rotation ω × (x_i − x_c). A bond has to vibrate, so it is no constraint; nor are
sticks chosen without a common atom, as in the source, for such a choice depends on the numbering of
the atoms. Whether two atoms are bonded depends on their distance alone, smoothly: a pair closer
than 1.2 times the sum of their covalent radii is a stick, beyond 1.5 times it is none.
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

__all__ = ["GMN", "GMNLayer", "stick_motions", "stickness"]

# Distances, in sums of covalent radii, up to which a pair is a stick and from which it is none.
_BONDED, _APART = 1.2, 1.5


def stickness(distances: Tensor, radii: Tensor) -> Tensor:
    """1 for bonded pairs, 0 for others, twice differentiable between.

    Args:
        distances: [B, N, N], Å. radii: covalent radii [B, N], Å.
    """
    ratio = distances / (radii[:, :, None] + radii[:, None])
    t = ((_APART - ratio) / (_APART - _BONDED)).clamp(0, 1)
    return t**3 * (10 - 15 * t + 6 * t**2)


def stick_motions(changes: Tensor, inverse_masses: Tensor, directions: Tensor) -> list[Tensor]:
    """What the centre and the rotation of the stick (i, j) do to atom i, if atoms change so.

    Args:
        changes: of positions or velocities [B, N, 3, K].
        inverse_masses: [B, N]. directions: r̂_ij [B, N, N, 3].

    Returns:
        Two tensors [B, N, N, 3, K].
    """
    here, there = inverse_masses[:, :, None], inverse_masses[:, None]
    share = (here / (here + there))[..., None, None]  # m_j/(m_i + m_j)
    own, other = changes[:, :, None], changes[:, None]
    relative, line = own - other, directions[..., None]
    across = relative - line * (line * relative).sum(3, keepdim=True)
    return [own - share * relative, share * across]


class GMNLayer(nn.Module):
    """One layer.

    Args:
        channels: width of h and of the messages.
        radii: covalent radius of each type, Å.
    """

    radii: Tensor

    def __init__(self, channels: int, radii: Sequence[float]) -> None:
        super().__init__()
        values = torch.tensor(radii, dtype=torch.float64)
        self.register_buffer("radii", values, persistent=False)
        self.messages = PairMessages(channels, features=2)
        self.along = perceptron(channels, channels, 4, quiet=True)
        self.update = perceptron(2 * channels, channels, channels)
        self.velocity = perceptron(channels, channels, 2, quiet=True)
        self.particle = perceptron(channels, channels, 2)
        self.stick = perceptron(channels, channels, 4)

    def forward(self, h: Tensor, c: Condition, geometry: Geometry) -> tuple[Tensor, Tensor]:
        """h [B, N, C] -> h and the kick [B, N, 3, 2]."""
        per_rootm = c.inverse_sqrt_mass
        v = per_rootm[..., None] * c.velocities
        relative = v[:, None] - v[:, :, None]
        invariants = [(geometry.directions * relative).sum(-1), relative.square().sum(-1)]
        features = torch.cat([geometry.radial, torch.stack(invariants, -1)], -1)
        messages = self.messages(h, features, geometry.valid)
        weights = self.along(messages) * geometry.valid[..., None]
        z = torch.stack([geometry.vectors, relative], -1)
        forces = torch.einsum("bijxz,bijzk->bixk", z, weights.unflatten(-1, (2, 2)))
        gathered = messages.sum(2) / geometry.partners
        h = h + self.update(torch.cat([h, gathered], -1))

        free = forces / geometry.partners[..., None]
        free = free + c.velocities[..., None] * self.velocity(h)[..., None, :]
        return h, self.constrained(h, free, c, geometry)

    def constrained(self, h: Tensor, free: Tensor, c: Condition, geometry: Geometry) -> Tensor:
        """Mean of an atom's motions as a particle and in its sticks, mass-weighted as `free`."""
        per_rootm = c.inverse_sqrt_mass[..., None, None]
        radii = self.radii.to(free.dtype)[c.types]
        sticks = stickness(geometry.distances, radii) * geometry.valid
        inverse_masses = c.inverse_sqrt_mass.square()
        motions = stick_motions(per_rootm * free, inverse_masses, geometry.directions)
        weights = (1 + self.stick(h[:, :, None] + h[:, None])) * sticks[..., None]
        shared = sum(
            (weight[..., None, :] * motion).sum(2)
            for weight, motion in zip(weights.split(2, -1), motions, strict=True)
        )
        alone = (1 + self.particle(h))[..., None, :] * free
        return (alone + shared / per_rootm) / (1 + sticks.sum(-1))[..., None, None]


class GMN(Moving):
    """The network.

    Args:
        atomic_numbers: of each type; they give the covalent radii.
        channels: width of the atoms' features.
        layers: number of layers.
    """

    def __init__(self, atomic_numbers: Sequence[int], channels: int = 32, layers: int = 4) -> None:
        from ase.data import covalent_radii

        radii = [float(covalent_radii[z]) for z in atomic_numbers]
        embedding = StateEmbedding(len(radii), channels)
        super().__init__(embedding, [GMNLayer(channels, radii) for _ in range(layers)])
