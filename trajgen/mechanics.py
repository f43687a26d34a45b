"""Angular momentum of a molecule, and velocities that have a given one.

The molecules of the data are isolated, and their thermostat's friction averages to zero: angular
momentum stays what it was. Training and roll-out impose it alike. It is not scaled by exp(−∫ξ dt):
a learned propagator loses a little energy at every step, which its friction, then negative on
average, makes up for, and by that factor the smallest rotation would grow until it holds the
kinetic energy of the vibrations (the "flying ice cube", Harvey et al., J. Comput. Chem. 19, 726,
1998; seen here after 30 ps).
"""

import torch
from torch import Tensor

# Keeps the inertia tensor of a linear molecule invertible: in rounding errors of its trace.
_SOFTENING = 10


def angular_momentum(x: Tensor, v: Tensor, mass: Tensor) -> Tensor:
    """L = Σ m x × v about the origin: x, v [B, N, 3], mass [N] or [B, N] -> [B, 3]."""
    return (mass[..., None] * torch.linalg.cross(x, v)).sum(1)


def set_angular_momentum(x: Tensor, v: Tensor, mass: Tensor, wanted: Tensor) -> Tensor:
    """v + ω × x with ω = I⁻¹ (wanted − L): the least change, mass-weighted, that gives `wanted`.

    Args:
        x, v: [B, N, 3], centre of mass at the origin and at rest. mass: [N] or [B, N].
        wanted: L [B, 3].
    """
    eye = torch.eye(3, dtype=x.dtype, device=x.device)
    square = x.square().sum(-1)[..., None, None] * eye
    inertia = (mass[..., None, None] * (square - x[..., :, None] * x[..., None, :])).sum(1)
    inertia = inertia.nan_to_num(0.0, 0.0, 0.0)  # one broken replica must not stop the others
    trace = inertia.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None]
    rounding = torch.finfo(x.dtype)
    inertia = inertia + (_SOFTENING * rounding.eps * trace + rounding.tiny) * eye
    lack = wanted - angular_momentum(x, v, mass)
    omega = torch.linalg.solve(inertia, lack)
    return v + torch.linalg.cross(omega[:, None].expand_as(x), x)


def conserve_angular_momentum(
    before: tuple[Tensor, Tensor], after: tuple[Tensor, Tensor], mass: Tensor
) -> Tensor:
    """The velocities of `after`, corrected to the angular momentum of `before`.

    Args:
        before, after: positions and velocities [B, N, 3], centre of mass at the origin and at rest.
        mass: [N] or [B, N], amu.
    """
    return set_angular_momentum(*after, mass, angular_momentum(*before, mass))
