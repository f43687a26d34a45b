"""Checks of functions of a molecule that every part of an energy must pass, beside `tests.physics`.

Each takes a scalar energy `energy(types [B, N], positions [B, N, 3], atoms [B, N]) -> Tensor [B]`
in float64.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from tests.physics import check_smooth_at

Energy = Callable[[Tensor, Tensor, Tensor], Tensor]


def molecule(types: list[int], positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One molecule as a batch, without padding."""
    atoms = torch.ones(1, len(types), dtype=torch.bool)
    return torch.tensor([types]), positions.double()[None], atoms


def carbon_dioxide() -> tuple[Tensor, Tensor, Tensor]:
    """O=C=O along z: linear, with a centre of symmetry."""
    z = torch.tensor([-1.16, 0.0, 1.16])
    return molecule([1, 0, 1], torch.stack([0 * z, 0 * z, z], -1))


def ring() -> tuple[Tensor, Tensor, Tensor]:
    """Six atoms, each with a neighbour outside of it, as in benzene: symmetric and flat."""
    angle = torch.arange(6) * math.pi / 3
    unit = torch.stack([angle.cos(), angle.sin(), 0 * angle], -1)
    return molecule([0] * 6 + [1] * 6, torch.cat([1.39 * unit, 2.48 * unit]))


def check_second_derivatives(energy: Energy, module: nn.Module) -> None:
    """Forces, and gradients of a loss on them, are finite where directions cancel or are undefined.

    On a linear molecule, a symmetric one, a single atom, and padding.
    """
    alone = molecule([0], torch.zeros(1, 3))
    types, positions, atoms = carbon_dioxide()
    padding = torch.cat([atoms, torch.zeros(1, 2, dtype=torch.bool)], 1)
    padded = (torch.zeros(1, 5).long(), torch.nn.functional.pad(positions, (0, 0, 0, 2)), padding)
    for types, positions, atoms in (carbon_dioxide(), ring(), alone, padded):
        x = positions.clone().requires_grad_()
        total = energy(types, x, atoms).sum()
        # An atom alone may have an energy that does not see its position at all.
        (slope,) = torch.autograd.grad(total, x, create_graph=True)
        leaves = [x, *module.parameters()]
        (slope.square().sum() + total).backward(inputs=leaves)
        for leaf in leaves:
            assert leaf.grad is None or torch.isfinite(leaf.grad).all()
            leaf.grad = None
        assert torch.isfinite(slope).all()
        assert (slope[~atoms] == 0).all()


def check_smooth_at_cutoff(energy: Energy, cutoff: float) -> None:
    """Value, slope and curvature are continuous where an atom leaves the cutoff of another.

    The atom that leaves keeps a neighbour within reach, so that messages still come to it.
    """
    direction = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)

    def at(r: Tensor) -> Tensor:
        near = torch.tensor([[0.0, 0.0, 0.0], [0.3, 1.1, 0.2]], dtype=torch.float64)
        leaving = r * direction
        companion = leaving + torch.tensor([0.9, 0.4, 0.5], dtype=torch.float64)
        return energy(*molecule([0, 1, 1, 2], torch.stack([*near, leaving, companion])))

    check_smooth_at(at, cutoff, order=2)


def check_size_consistent(energy: Energy, tolerance: float) -> None:
    """Two molecules 100 Å apart have the sum of their energies."""
    _, a, _ = carbon_dioxide()
    types_b, b, atoms_b = ring()
    b = b + torch.tensor([60.0, 0.0, 80.0], dtype=torch.float64)
    types_a, a, atoms_a = molecule([1, 0, 1], a[0] + 0.1 * torch.arange(9).reshape(3, 3).sin())
    both = energy(
        torch.cat([types_a, types_b], 1), torch.cat([a, b], 1), torch.cat([atoms_a, atoms_b], 1)
    )
    apart = energy(types_a, a, atoms_a) + energy(types_b, b, atoms_b)
    assert (both - apart).abs().max() < tolerance


def check_float32(make: Callable[[], nn.Module], energy_of: Callable[[nn.Module], Energy]) -> None:
    """Energies and forces in float32 are those in float64 to its rounding."""
    results = []
    for dtype in (torch.float32, torch.float64):
        torch.manual_seed(0)
        module = make().to(dtype)
        types, positions, atoms = ring()
        tilt = 0.05 * torch.arange(36, dtype=torch.float64).reshape(1, 12, 3).sin()
        x = (positions + tilt).to(dtype).requires_grad_()
        value = energy_of(module)(types, x, atoms)
        (slope,) = torch.autograd.grad(value.sum(), x)
        assert value.dtype == slope.dtype == dtype
        results.append(torch.cat([value.detach(), slope.flatten()]).double())
    scale = results[1].abs().max()
    assert (results[0] - results[1]).abs().max() < 3e-5 * scale


def check_traceable(energy: Energy) -> None:
    """Energy and forces as one `make_fx` graph, run on another geometry, are those of eager."""
    from torch.fx.experimental.proxy_tensor import make_fx

    types, positions, atoms = ring()

    def both(x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.detach().requires_grad_()
        value = energy(types, x, atoms)
        return value, torch.autograd.grad(value.sum(), x)[0]

    graph = make_fx(both)(positions)
    moved = positions + 0.1 * torch.arange(36, dtype=torch.float64).reshape(1, 12, 3).cos()
    for traced, eager in zip(graph(moved), both(moved), strict=True):
        torch.testing.assert_close(traced, eager, rtol=1e-10, atol=1e-12)
