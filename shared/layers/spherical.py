"""Spherical Fourier-Bessel features of a distance, an angle and a dihedral.

The features of an edge a-b with a vector on either end (in practice a velocity),

    f_nlm = sqrt(2)/|j_{l+1}(z_ln)| · j_l(z_ln r/c) · u(r/c) · Y_lm(θ, φ),

join the radial spherical Bessel functions of DimeNet (Gasteiger et al., ICLR 2020, Eq. 6) with
real spherical harmonics of the angle θ between the vector of a and the edge, and of the dihedral φ
between the vectors of a and b about the edge (Wu and Li, DiffMD, AAAI 2023, Sec. "Equivariant
Geometric Transformer"). Only cos(mφ) enters, so reflections leave the features unchanged.

No angle is ever computed. An angle is undefined where a vector vanishes, and a dihedral where a
vector lies along the edge; their gradients diverge there. Instead, with a = v_a/sqrt(v_a² + s²)
(s, the softening, is a speed well below the thermal one), ê the edge's direction and ⊥ the part
orthogonal to it, everything is a polynomial in

    z = a·ê -> cos θ_a,   a·a -> 1,   p = a⊥·b⊥ -> sin θ_a sin θ_b cos φ,   q = a⊥² b⊥²

(limits for v >> s). The solid harmonics |a|^l Y_lm, times sin^m θ_b, are such polynomials:

    h_lm = N_lm · Π_lm(z, a·a) · C_m(p, q) -> N_lm P_l^m(cos θ_a) cos(mφ) · sin^m θ_b.

For v >> s this is Y_lm but for the factor sin^m θ_b, which carries the channel smoothly to zero
where the dihedral of b is undefined; the factor sin^m θ_a of P_l^m does the same for a, and all
channels with l > 0 vanish as |v_a|^l. Values and gradients are finite everywhere.
"""

import math
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shared.layers.radial import polynomial_envelope, safe_norm, safe_unit


def spherical_bessel_roots(lmax: int, n_roots: int) -> NDArray[np.float64]:
    """Positive roots z_ln of the spherical Bessel functions j_l, [lmax + 1, n_roots].

    The roots of j_l lie one by one between those of j_{l-1}, and j_0 has nπ, so each is bracketed
    and found by `scipy.optimize.brentq` on `scipy.special.spherical_jn`.
    """
    from scipy.optimize import brentq
    from scipy.special import spherical_jn

    brackets = np.pi * np.arange(1, n_roots + lmax + 1)
    roots = [brackets[:n_roots]]
    for degree in range(1, lmax + 1):
        brackets = np.array(
            [
                brentq(lambda x, degree=degree: spherical_jn(degree, x), low, high, xtol=1e-14)
                for low, high in pairwise(brackets)
            ]
        )
        roots.append(brackets[:n_roots])
    return np.stack(roots)


def spherical_bessel(degree: int, x: Tensor) -> Tensor:
    """j_l(x) for x >= 0, any shape, smooth through x = 0.

    Power series below x = l + 1, where the upward recurrence
    j_{l+1} = (2l+1)/x j_l - j_{l-1} loses digits; the recurrence above.
    """
    edge = degree + 1.0
    below = x < edge
    return torch.where(
        below, _bessel_series(degree, x.clamp(max=edge)), _bessel_upward(degree, x.clamp(min=edge))
    )


def _bessel_series(degree: int, x: Tensor) -> Tensor:
    """x^l/(2l+1)!! · Σ_k (-x²/2)^k / (k! (2l+3)(2l+5)...(2l+2k+1)), to float64 for x <= l + 1."""
    largest = (degree + 1.0) ** 2 / 2
    coefficients, size = [1.0], 1.0
    while size > 1e-18:
        k = len(coefficients)
        ratio = k * (2 * degree + 2 * k + 1)
        coefficients.append(-coefficients[-1] / ratio)
        size *= largest / ratio
    half_square = x.square() / 2
    total = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * half_square + coefficient
    return x**degree / math.prod(range(1, 2 * degree + 2, 2)) * total


def _bessel_upward(degree: int, x: Tensor) -> Tensor:
    """j_l by upward recurrence from j_{-1} = cos(x)/x and j_0 = sin(x)/x."""
    inverse = 1.0 / x
    previous, current = x.cos() * inverse, x.sin() * inverse
    for order in range(degree):
        previous, current = current, (2 * order + 1) * inverse * current - previous
    return current


def soft_unit(vectors: Tensor, softening: float) -> Tensor:
    """v/sqrt(v² + s²) [..., 3]: the direction where |v| >> s, smoothly 0 at v = 0.

    `softening` (s) is in the unit of the vectors.
    """
    return vectors * torch.rsqrt(vectors.square().sum(-1, keepdim=True) + softening**2)


def dihedral_harmonics(edge: Tensor, a: Tensor, b: Tensor, lmax: int, mmax: int) -> Tensor:
    """h_lm of the module docstring, for l = 0..lmax, m = 0..min(l, mmax).

    Normalised such that the mean square over the sphere of a unit `a` is 1 for m = 0 and
    sin^2m θ_b otherwise.

    Args:
        edge: unit vectors along the edge [..., 3].
        a: vectors of the end whose angle is meant, at most of unit length [..., 3].
        b: vectors of the other end, likewise [..., 3].

    Returns:
        [..., n_lm], ordered by l, then m.
    """
    along_a = (a * edge).sum(-1)
    across_a = a - along_a.unsqueeze(-1) * edge
    across_b = b - (b * edge).sum(-1, keepdim=True) * edge
    square_a = a.square().sum(-1)
    cosines = _multiple_cosines(
        (across_a * across_b).sum(-1), across_a.square().sum(-1) * across_b.square().sum(-1), mmax
    )
    polynomials = _solid_legendre(along_a, square_a, lmax, mmax)
    channels = []
    for degree, order in _degrees_and_orders(lmax, mmax):
        fold = 1 if order == 0 else 2
        ratio = math.factorial(degree - order) / math.factorial(degree + order)
        norm = math.sqrt(fold * (2 * degree + 1) * ratio)
        channels.append(norm * polynomials[degree, order] * cosines[order])
    return torch.stack(channels, dim=-1)


def _multiple_cosines(p: Tensor, q: Tensor, mmax: int) -> list[Tensor]:
    """C_m = q^(m/2) cos(mφ) with p = sqrt(q) cos φ, by C_{m+1} = 2p C_m - q C_{m-1}."""
    cosines = [torch.ones_like(p), p]
    while len(cosines) <= mmax:
        cosines.append(2 * p * cosines[-1] - q * cosines[-2])
    return cosines


def _solid_legendre(z: Tensor, square: Tensor, lmax: int, mmax: int) -> dict:
    """Π_lm(z, r²) = r^(l-m) d^m P_l/dx^m (x = z/r), without the (-1)^m phase.

    Recurrence: Π_mm = (2m-1)!!, (l-m) Π_lm = (2l-1) z Π_{l-1,m} - (l+m-1) r² Π_{l-2,m}.
    """
    table: dict[tuple[int, int], Tensor] = {}
    for m in range(min(lmax, mmax) + 1):
        below = torch.zeros_like(z)
        current = torch.full_like(z, float(math.prod(range(1, 2 * m, 2))))
        table[m, m] = current
        for degree in range(m + 1, lmax + 1):
            above = (2 * degree - 1) * z * current - (degree + m - 1) * square * below
            below, current = current, above / (degree - m)
            table[degree, m] = current
    return table


def _degrees_and_orders(lmax: int, mmax: int) -> list[tuple[int, int]]:
    return [(degree, m) for degree in range(lmax + 1) for m in range(min(degree, mmax) + 1)]


class SphericalFourierBessel(nn.Module):
    """The features f_nlm of the module docstring, for edges with a vector at either end.

    Called as `basis(edges, a, b)` it takes the angle of a, as `basis(edges, b, a)` that of b; the
    dihedral is the same.

    Args:
        cutoff: c in Å, beyond which all features are 0.
        lmax: highest degree l.
        n_roots: number of radial functions n for each l.
        mmax: highest order m, default `lmax`; 0 leaves the dihedral out.
        softening: s in the unit of the vectors; the default is for velocities in Å/fs.
        envelope_exponent: p of `polynomial_envelope`.

    Attributes:
        n_features: width of the output.
    """

    roots: Tensor
    norms: Tensor
    degree_of_channel: Tensor

    def __init__(
        self,
        cutoff: float,
        lmax: int = 2,
        n_roots: int = 2,
        mmax: int | None = None,
        softening: float = 1e-3,
        envelope_exponent: int = 6,
    ) -> None:
        super().__init__()
        from scipy.special import spherical_jn

        if not (cutoff > 0 and lmax >= 0 and n_roots > 0 and softening > 0):
            raise ValueError("cutoff, n_roots and softening must be positive, lmax at least 0")
        self.cutoff = cutoff
        self.lmax = lmax
        self.mmax = lmax if mmax is None else min(mmax, lmax)
        self.softening = softening
        self.envelope_exponent = envelope_exponent
        roots = spherical_bessel_roots(lmax, n_roots)
        slopes = spherical_jn(np.arange(1, lmax + 2)[:, None], roots)
        degrees = [degree for degree, _ in _degrees_and_orders(self.lmax, self.mmax)]
        self.n_features = n_roots * len(degrees)
        self.register_buffer("roots", torch.from_numpy(roots), persistent=False)
        norms = torch.from_numpy(np.sqrt(2.0) / np.abs(slopes))
        self.register_buffer("norms", norms, persistent=False)
        self.register_buffer("degree_of_channel", torch.tensor(degrees), persistent=False)

    def radial(self, distances: Tensor) -> Tensor:
        """The radial part [..., lmax + 1, n_roots] at distances [...] in Å.

        Without the envelope, ∫ f_n f_n' x² dx = δ_nn' over x = r/c in [0, 1].
        """
        scaled = distances / self.cutoff
        # Clamped, so that far pairs, which the envelope zeroes, stay in the tested range.
        arguments = scaled.clamp(max=1.0)[..., None, None] * self.roots.to(scaled.dtype)
        waves = torch.stack(
            [
                spherical_bessel(degree, arguments[..., degree, :])
                for degree in range(self.lmax + 1)
            ],
            dim=-2,
        )
        envelope = polynomial_envelope(scaled, self.envelope_exponent)[..., None, None]
        return waves * self.norms.to(scaled.dtype) * envelope

    def forward(self, edges: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """Features [..., n_features], invariant to rotation, reflection and translation.

        Args:
            edges: vectors along the edges in Å [..., 3]; zero edges are allowed.
            a: vectors of the end whose angle is taken, [..., 3], in the unit of `softening`.
            b: vectors of the other end, likewise.
        """
        radial = self.radial(safe_norm(edges))
        angular = dihedral_harmonics(
            safe_unit(edges),
            soft_unit(a, self.softening),
            soft_unit(b, self.softening),
            self.lmax,
            self.mmax,
        )
        features = radial[..., self.degree_of_channel, :] * angular.unsqueeze(-1)
        return features.flatten(-2)
