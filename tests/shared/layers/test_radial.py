"""Radial bases against closed forms; smooth at the cutoff, finite at zero distance."""

import math

import pytest
import torch

from shared.layers.radial import (
    BesselBasis,
    ExponentialBasis,
    GaussianBasis,
    polynomial_envelope,
    safe_norm,
    safe_unit,
)
from tests.physics import check_gradient, check_smooth_at

BASES = [BesselBasis(5.0, 6), GaussianBasis(5.0, 6), ExponentialBasis(3.0, 6)]


def test_envelope_ends_with_two_flat_derivatives() -> None:
    x = torch.tensor([0.0, 1.0, 1.5], dtype=torch.float64)
    assert torch.equal(polynomial_envelope(x), torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))
    check_smooth_at(polynomial_envelope, 1.0, order=2, tolerance=1e-3)


def test_bessel_basis_is_the_formula() -> None:
    r = torch.linspace(0.1, 4.9, 7, dtype=torch.float64)
    n = torch.arange(1, 7, dtype=torch.float64)
    expected = math.sqrt(2 / 5) * torch.sin(n * math.pi * r[:, None] / 5) / r[:, None]
    expected = expected * polynomial_envelope(r[:, None] / 5)
    torch.testing.assert_close(BesselBasis(5.0, 6)(r), expected)


@pytest.mark.parametrize("basis", BASES[:2], ids=lambda basis: type(basis).__name__)
def test_cutoff_bases_die_smoothly(basis: torch.nn.Module) -> None:
    check_smooth_at(basis, 5.0, order=2, tolerance=1e-3)
    assert basis(torch.tensor([5.0, 6.0, 100.0])).abs().max() == 0


@pytest.mark.parametrize("basis", BASES, ids=lambda basis: type(basis).__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_and_differentiable_everywhere(basis: torch.nn.Module, dtype: torch.dtype) -> None:
    r = torch.tensor([0.0, 1e-6, 1.0, 5.0, 1e3], dtype=dtype, requires_grad=True)
    features = basis(r)
    assert features.dtype == dtype
    assert features.shape == (5, 6)
    features.sum().backward()
    assert torch.isfinite(features).all()
    assert torch.isfinite(r.grad).all()


def test_exponential_basis_has_a_limit_or_decays() -> None:
    r = torch.tensor([40.0, 43.0], dtype=torch.float64)
    plain, decaying = ExponentialBasis(3.0, 6), ExponentialBasis(3.0, 6, decaying=True)
    torch.testing.assert_close(plain(r)[0], plain(r)[1], rtol=0, atol=1e-4)
    ratio = decaying(r)[1, 0] / decaying(r)[0, 0]
    assert ratio.item() == pytest.approx(math.exp(-1), rel=1e-4)


def test_exponential_basis_tells_distances_apart() -> None:
    r = torch.linspace(0.8, 8.0, 40, dtype=torch.float64, requires_grad=True)
    slopes = torch.autograd.functional.jacobian(ExponentialBasis(4.0, 16), r)
    assert slopes.diagonal(dim1=0, dim2=2).norm(dim=0).min() > 0.1


def test_safe_norm_and_unit_at_zero_and_elsewhere() -> None:
    vectors = torch.tensor([[0.0, 0, 0], [3.0, 0, 4.0]], dtype=torch.float64, requires_grad=True)
    assert safe_norm(vectors).tolist() == [0.0, 5.0]
    units = torch.tensor([[0.0, 0.0, 0.0], [0.6, 0.0, 0.8]], dtype=torch.float64)
    torch.testing.assert_close(safe_unit(vectors), units)
    (safe_norm(vectors).sum() + safe_unit(vectors).sum()).backward()
    assert vectors.grad[0].tolist() == [0.0, 0.0, 0.0]

    def total(points: torch.Tensor) -> torch.Tensor:
        return safe_norm(points).sum() + safe_unit(points).sum()

    check_gradient(total, vectors.detach()[1:], vectors.grad[1:])


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="cutoff"):
        BesselBasis(-1.0)
    with pytest.raises(ValueError, match="span"):
        GaussianBasis(1.0, start=2.0)
    with pytest.raises(ValueError, match="decay_length"):
        ExponentialBasis(0.0)
