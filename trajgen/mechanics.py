"""Angular momentum of a molecule, and velocities that have a given one.

The molecules of the data are isolated: their angular momentum can only decay as the thermostat's
friction says, L(t + Δ) = L(t) exp(−∫ξ dt). Training and roll-out impose it alike.
"""

import torch
from torch import Tensor

# Keeps the inertia tensor of a linear molecule invertible, as a fraction of its trace.
_SOFTENING = 1e-7


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
    inertia = inertia + (_SOFTENING * trace + torch.finfo(x.dtype).tiny) * eye
    lack = wanted - angular_momentum(x, v, mass)
    omega = torch.linalg.solve(inertia, lack)
    return v + torch.linalg.cross(omega[:, None].expand_as(x), x)


def conserve_angular_momentum(
    before: tuple[Tensor, Tensor, Tensor | None],
    after: tuple[Tensor, Tensor, Tensor | None],
    mass: Tensor,
    lag: Tensor,
) -> Tensor:
    """The velocities of `after`, corrected so that L has decayed from that of `before` as it must.

    Args:
        before, after: positions [B, N, 3], velocities [B, N, 3] (centre of mass at the origin and
            at rest) and friction ξ [B] in 1/fs, None where unknown. Where one ξ is unknown the
            other serves for both; without any, L is constant.
        mass: [N] or [B, N], amu. lag: [B], fs.
    """
    x, v, xi = after
    known = [friction for friction in (before[2], xi) if friction is not None]
    friction = sum(known, torch.zeros_like(lag)) / max(1, len(known))
    wanted = angular_momentum(before[0], before[1], mass) * torch.exp(-friction * lag)[:, None]
    return set_angular_momentum(x, v, mass, wanted)
