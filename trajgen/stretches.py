"""Frictions of the stretches of bonds, by the classes of their two atoms.

A stretch of a bond to hydrogen is fast and exchanges energy with the rest slowly: a small leak of
the network into it heats it, twofold and more, while friction of its class of atoms holds the
hydrogen's kinetic energy at the cost of its bends. The velocity along a bond of reduced mass μ,

    u = (v_j − v_i)·(x_j − x_i)/|x_j − x_i|,     ⟨μ u²⟩ = k T,

is a coordinate of its own, and taking some of μ u off one atom and giving it to the other along the
bond keeps momentum, angular momentum, and all else. It needs no reference structure, so that the
molecule may turn its parts; for rigid ones see `trajgen.modes`.
"""

import torch
from torch import Tensor, nn

__all__ = ["StretchFriction"]


class StretchFriction(nn.Module):
    """u ← u exp(−γ Δ), to first order in what bonds that share an atom do to each other.

    Args:
        types: number of atom classes.
    """

    rates: Tensor

    def __init__(self, types: int) -> None:
        super().__init__()
        self.register_buffer("rates", torch.zeros(types, types))  # γ, 1/fs, symmetric

    def set_rate(self, first: int, second: int, rate: float) -> None:
        """γ of the bonds between two classes, 1/fs."""
        self.rates[first, second] = self.rates[second, first] = rate

    def slow(
        self, pairs: Tensor, types: Tensor, masses: Tensor, x: Tensor, v: Tensor, lag: float
    ) -> Tensor:
        """Velocities [R, N, 3] after a time `lag`, fs, of friction.

        Args:
            pairs: bonds [E, 2].
            types: index of each atom's class [N].
            masses: [N], amu.
            x, v: [R, N, 3], Å and Å/fs.
        """
        first, second = pairs.T
        rates = self.rates.to(v)[types[first], types[second]]
        along, reduced, unit = _along(pairs, masses, x, v)
        impulse = (reduced * torch.expm1(-rates * lag) * along)[..., None] * unit
        momenta = torch.zeros_like(v).index_add(1, second, impulse).index_add(1, first, -impulse)
        return v + momenta / masses[:, None]

    @staticmethod
    def energies(pairs: Tensor, masses: Tensor, x: Tensor, v: Tensor) -> Tensor:
        """μ u² [R, E], amu Å²/fs², of states as in `slow`."""
        along, reduced, _ = _along(pairs, masses, x, v)
        return reduced * along.square()


def _along(pairs: Tensor, masses: Tensor, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """u [R, E], μ [E] and the direction of each bond [R, E, 3]."""
    first, second = pairs.T
    unit = torch.nn.functional.normalize(x[:, second] - x[:, first], dim=-1)
    reduced = masses[first] * masses[second] / (masses[first] + masses[second])
    return ((v[:, second] - v[:, first]) * unit).sum(-1), reduced, unit
