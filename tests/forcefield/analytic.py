"""Force fields whose answers are known: harmonic wells, and a molecule of Morse bonds."""

import torch
from torch import Tensor

from shared.units import masses

WATER = [8, 1, 1]
WATER_POSITIONS = torch.tensor(
    [[0.0, 0.0, 0.0], [0.7575, 0.5871, 0.0], [-0.7575, 0.5871, 0.0]], dtype=torch.float64
)
WATER_MASSES = torch.tensor(masses(WATER))


def harmonic(stiffness: float = 5.0, coupling: float = 0.0):
    """Every coordinate in a well ½ k x² of its own, eV/Å², and ½ c Σ (x_i − x_{i+1})²."""

    def forces(x: Tensor) -> tuple[Tensor, Tensor]:
        steps = x[:, 1:] - x[:, :-1]
        energy = 0.5 * stiffness * x.square().sum((1, 2)) + 0.5 * coupling * steps.square().sum(
            (1, 2)
        )
        pull = -stiffness * x
        pull[:, 1:] -= coupling * steps
        pull[:, :-1] += coupling * steps
        return energy, pull

    return forces


def morse(depth: float = 4.0, width: float = 2.0, reference: Tensor = WATER_POSITIONS):
    """D (1 − exp(−a (r − r₀)))² on every pair of atoms, r₀ that of `reference` [N, 3]."""
    i, j = torch.triu_indices(len(reference), len(reference), 1)
    lengths = (reference[i] - reference[j]).norm(dim=-1)

    def forces(x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            r = (leaf[:, i] - leaf[:, j]).norm(dim=-1)
            energy = depth * (1 - torch.exp(-width * (r - lengths))).square().sum(-1)
            (gradient,) = torch.autograd.grad(energy.sum(), leaf)
        return energy.detach(), -gradient

    return forces
