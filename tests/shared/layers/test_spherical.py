"""Spherical Fourier-Bessel features against SciPy, and where angles are undefined."""

import numpy as np
import pytest
import torch
from scipy.special import sph_harm_y, spherical_jn

from shared.layers.spherical import (
    SphericalFourierBessel,
    dihedral_harmonics,
    spherical_bessel,
    spherical_bessel_roots,
)
from tests.physics import Case, check_finite_gradients, check_smooth_at, check_symmetries


def random_vectors(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, 3, generator=generator, dtype=torch.float64)


def test_roots_are_all_the_roots_in_order() -> None:
    roots = spherical_bessel_roots(6, 8)
    np.testing.assert_allclose(roots[0], np.pi * np.arange(1, 9))
    np.testing.assert_allclose(
        roots[1, :3], [4.493409457909064, 7.725251836937707, 10.904121659428899]
    )
    for degree, row in enumerate(roots):
        assert np.abs(spherical_jn(degree, row)).max() < 1e-13
        fine = np.linspace(0.1, row[-1] + 0.1, 20_000)
        assert np.count_nonzero(np.diff(np.sign(spherical_jn(degree, fine)))) == len(row)


@pytest.mark.parametrize("degree", [0, 1, 2, 3, 6, 10])
def test_spherical_bessel_is_scipys(degree: int) -> None:
    x = np.concatenate([[0.0, 1e-8], np.linspace(1e-3, 40, 2000)])
    computed = spherical_bessel(degree, torch.from_numpy(x))
    np.testing.assert_allclose(computed, spherical_jn(degree, x), rtol=0, atol=2e-14)
    single = spherical_bessel(degree, torch.from_numpy(x).float())
    np.testing.assert_allclose(single, spherical_jn(degree, x), rtol=0, atol=2e-6)


@pytest.mark.parametrize("degree", [0, 1, 2, 5])
def test_spherical_bessel_slope_is_scipys(degree: int) -> None:
    x = torch.linspace(0.0, 30, 500, dtype=torch.float64, requires_grad=True)
    spherical_bessel(degree, x).sum().backward()
    expected = spherical_jn(degree, x.detach().numpy(), derivative=True)
    np.testing.assert_allclose(x.grad, expected, rtol=0, atol=1e-12)


def test_radial_part_is_orthonormal() -> None:
    basis = SphericalFourierBessel(4.0, lmax=3, n_roots=4)
    x, weights = np.polynomial.legendre.leggauss(200)
    x, weights = (x + 1) / 2, weights / 2
    envelope = (1 - 28 * x**6 + 48 * x**7 - 21 * x**8)[:, None, None]
    functions = basis.radial(torch.from_numpy(4.0 * x)).numpy() / envelope
    overlap = np.einsum("x,xln,xlm->lnm", weights * x**2, functions, functions)
    np.testing.assert_allclose(overlap, np.broadcast_to(np.eye(4), (4, 4, 4)), atol=1e-9)


def test_harmonics_are_scipys_with_explicit_angles() -> None:
    """Polynomials of dot products equal Y_lm of angles by atan2, times sin^m θ_b."""
    ends = [torch.nn.functional.normalize(random_vectors(50, seed=s), dim=-1) for s in (1, 2, 3)]
    edge, a, b = (vectors.numpy() for vectors in ends)

    def angle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return np.arctan2(np.linalg.norm(np.cross(u, v), axis=-1), (u * v).sum(-1))

    phi = angle(np.cross(a, edge), np.cross(b, edge))
    theta_a, theta_b = angle(a, edge), angle(b, edge)
    computed = dihedral_harmonics(*ends, lmax=4, mmax=4).numpy()
    column = 0
    for degree in range(5):
        for m in range(degree + 1):
            fold = 1 if m == 0 else np.sqrt(2) * (-1) ** m
            harmonic = np.sqrt(4 * np.pi) * fold * sph_harm_y(degree, m, theta_a, phi).real
            np.testing.assert_allclose(
                computed[:, column], harmonic * np.sin(theta_b) ** m, rtol=0, atol=1e-12
            )
            column += 1
    assert column == computed.shape[1]


def dense(basis: SphericalFourierBessel, positions: torch.Tensor, velocities: torch.Tensor) -> dict:
    """Features of all pairs, the diagonal (zero edges) included, summed over the partners too."""
    edges = positions[:, None] - positions[:, :, None]
    a, b = velocities[:, :, None].expand_as(edges), velocities[:, None].expand_as(edges)
    features = torch.cat([basis(edges, a, b), basis(edges, b, a)], dim=-1)
    return {"atoms": features.sum(2), "molecules": features.sum((1, 2))}


def test_features_are_invariant() -> None:
    basis = SphericalFourierBessel(5.0, lmax=3, n_roots=3, softening=0.1)
    case = Case(
        lambda positions, velocities: dense(basis, positions, velocities),
        {"positions": random_vectors(2, 5), "velocities": random_vectors(2, 5, seed=1)},
        vectors=("velocities",),
    )
    check_symmetries(case)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_where_angles_are_not_defined(dtype: torch.dtype) -> None:
    basis = SphericalFourierBessel(5.0, lmax=3, n_roots=2)
    positions, velocities = random_vectors(1, 5).to(dtype), 0.01 * random_vectors(1, 5).to(dtype)
    velocities[:, 0] = 0.0
    velocities[:, 1] = 0.01 * (positions[:, 2] - positions[:, 1])
    positions[:, 4] = positions[:, 3]
    inputs = {"positions": positions, "velocities": velocities}
    check_finite_gradients(lambda **x: dense(basis, **x), inputs)


def test_angular_channels_vanish_smoothly_with_the_velocity() -> None:
    basis = SphericalFourierBessel(5.0, lmax=2, n_roots=1, softening=1e-3)
    edge, a, b = (
        random_vectors(1, seed=1)[0],
        random_vectors(1, seed=2)[0],
        random_vectors(1, seed=3)[0],
    )
    still = basis(edge, 0.0 * a, b)
    assert still[0] != 0
    assert still[1:].abs().max() == 0
    check_smooth_at(lambda t: basis(edge, t * 1e-3 * a, b), 0.0, order=2)
    along = basis(edge, a, edge)
    with_order = [2, 4, 5]
    assert along[with_order].abs().max() < 1e-12
    check_smooth_at(lambda t: basis(edge, a, edge + t * b), 0.0, order=2)


def test_cutoff_is_smooth_and_orders_can_be_left_out() -> None:
    a, b = random_vectors(1, seed=2)[0], random_vectors(1, seed=3)[0]
    basis = SphericalFourierBessel(3.0, lmax=2, n_roots=2, mmax=0)
    assert basis.n_features == 6
    axis = torch.tensor([0.0, 0.6, 0.8], dtype=torch.float64)
    check_smooth_at(lambda r: basis(r * axis, a, b), 3.0, order=2, tolerance=1e-3)
    assert basis(50.0 * axis, a, b).abs().max() == 0
    assert SphericalFourierBessel(3.0, lmax=2, n_roots=2).n_features == 12


def test_compiles_without_graph_breaks() -> None:
    basis = SphericalFourierBessel(5.0)
    inputs = [random_vectors(2, 4, seed=s) for s in (1, 2, 3)]
    compiled = torch.compile(basis, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*inputs), basis(*inputs))
