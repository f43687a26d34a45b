"""Radial bases: a distance in Å becomes a vector of smooth features.

With a cutoff: `BesselBasis` (Gasteiger et al., DimeNet, ICLR 2020, Eq. 7-8) and `GaussianBasis`
(Schütt et al., SchNet, NeurIPS 2017), brought to zero by `polynomial_envelope`. Without one:
`ExponentialBasis`, Gaussians in exp(-r/λ) (Unke and Meuwly, PhysNet, JCTC 2019, Eq. 7), smooth
and bounded on all of r > 0.

`safe_norm` and `safe_unit` give |x| and x/|x| with finite gradients at x = 0, which dense pair
tensors meet on their diagonal.
"""

import math

import torch
from torch import Tensor, nn

# Below this length (Å, or the unit of the vector) a vector counts as zero; its square is still a
# normal float32.
_TINY = 1e-12


def safe_norm(vectors: Tensor) -> Tensor:
    """Length of vectors [..., D] -> [...]; value and gradient are 0 at the zero vector."""
    square = vectors.square().sum(-1)
    nonzero = square > _TINY**2
    # The inner where keeps the square root's infinite slope out of the backward pass.
    return torch.where(nonzero, torch.where(nonzero, square, 1.0).sqrt(), 0.0)


def safe_unit(vectors: Tensor) -> Tensor:
    """Direction of vectors [..., D], same shape; 0 at the zero vector, gradients finite."""
    square = vectors.square().sum(-1, keepdim=True)
    nonzero = square > _TINY**2
    return torch.where(nonzero, vectors * torch.where(nonzero, square, 1.0).rsqrt(), 0.0)


def polynomial_envelope(scaled: Tensor, exponent: int = 6) -> Tensor:
    """Envelope u(x) of x = r/cutoff [...]: 1 at x = 0, 0 for x >= 1 (DimeNet Eq. 8).

    u(x) = 1 - (p+1)(p+2)/2 x^p + p(p+2) x^(p+1) - p(p+1)/2 x^(p+2), with u, u' and u'' all 0 at
    x = 1; p is `exponent`.
    """
    p = exponent
    u = 1.0 - scaled**p * (
        (p + 1) * (p + 2) / 2 - p * (p + 2) * scaled + p * (p + 1) / 2 * scaled.square()
    )
    return torch.where(scaled < 1.0, u, 0.0)


class BesselBasis(nn.Module):
    """e_n(r) = sqrt(2/c) sin(nπr/c)/r · u(r/c), n = 1..n_basis (DimeNet Eq. 7).

    Args:
        cutoff: c in Å.
        n_basis: number of functions.
        envelope_exponent: p of `polynomial_envelope`.
    """

    frequencies: Tensor

    def __init__(self, cutoff: float, n_basis: int = 8, envelope_exponent: int = 6) -> None:
        super().__init__()
        _require_positive(cutoff=cutoff, n_basis=n_basis)
        self.cutoff = cutoff
        self.n_basis = n_basis
        self.envelope_exponent = envelope_exponent
        frequencies = torch.arange(1, n_basis + 1, dtype=torch.float64)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, distances: Tensor) -> Tensor:
        """Distances [...] in Å -> features [..., n_basis] in Å^(-3/2)."""
        scaled = (distances / self.cutoff).unsqueeze(-1)
        n = self.frequencies.to(distances.dtype)
        # sin(nπx)/r = (nπ/c) sinc(nx), smooth through r = 0.
        waves = math.pi * n / self.cutoff * torch.sinc(n * scaled)
        norm = math.sqrt(2.0 / self.cutoff)
        return norm * waves * polynomial_envelope(scaled, self.envelope_exponent)


class GaussianBasis(nn.Module):
    """g_k(r) = exp(-(r - μ_k)²/2w²) · u(r/c), μ_k evenly spaced on [start, c], w their spacing.

    Args:
        cutoff: c in Å.
        n_basis: number of functions, at least 2.
        start: first centre in Å.
        envelope_exponent: p of `polynomial_envelope`.
    """

    centres: Tensor

    def __init__(
        self, cutoff: float, n_basis: int = 16, start: float = 0.0, envelope_exponent: int = 6
    ) -> None:
        super().__init__()
        _require_positive(cutoff=cutoff, n_basis=n_basis - 1, span=cutoff - start)
        self.cutoff = cutoff
        self.n_basis = n_basis
        self.envelope_exponent = envelope_exponent
        self.width = (cutoff - start) / (n_basis - 1)
        centres = torch.linspace(start, cutoff, n_basis, dtype=torch.float64)
        self.register_buffer("centres", centres, persistent=False)

    def forward(self, distances: Tensor) -> Tensor:
        """Distances [...] in Å -> features [..., n_basis] in [0, 1]."""
        r = distances.unsqueeze(-1)
        offsets = (r - self.centres.to(r.dtype)) / self.width
        envelope = polynomial_envelope(r / self.cutoff, self.envelope_exponent)
        return torch.exp(-0.5 * offsets.square()) * envelope


class ExponentialBasis(nn.Module):
    """All-pairs basis b_k(r) = exp(-(s - μ_k)²/2w²) of the bounded map s = exp(-r/λ) in (0, 1].

    The centres μ_k are evenly spaced on [0, 1] with spacing w, so that the resolution is finest at
    short range and every function has a limit as r grows: no cutoff, no discontinuity. With
    `decaying`, b_k is multiplied by s and falls off as exp(-r/λ).

    Args:
        decay_length: λ in Å.
        n_basis: number of functions, at least 2.
        decaying: multiply by exp(-r/λ).
    """

    centres: Tensor

    def __init__(
        self, decay_length: float = 4.0, n_basis: int = 16, decaying: bool = False
    ) -> None:
        super().__init__()
        _require_positive(decay_length=decay_length, n_basis=n_basis - 1)
        self.decay_length = decay_length
        self.n_basis = n_basis
        self.decaying = decaying
        self.width = 1.0 / (n_basis - 1)
        centres = torch.linspace(0.0, 1.0, n_basis, dtype=torch.float64)
        self.register_buffer("centres", centres, persistent=False)

    def forward(self, distances: Tensor) -> Tensor:
        """Distances [...] in Å -> features [..., n_basis] in [0, 1]."""
        s = torch.exp(-distances / self.decay_length).unsqueeze(-1)
        basis = torch.exp(-0.5 * ((s - self.centres.to(s.dtype)) / self.width).square())
        return basis * s if self.decaying else basis


def _require_positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")
