"""Forward processes: their kernels are the integrals of g², their limits and their conditioning."""

import math

import pytest
import torch
from torch import Tensor

from trajgen.sde import Noise, PaperNoise, ResidualNoise

NOISES = [ResidualNoise(), ResidualNoise(1e-2, 20.0, eta=2.0), PaperNoise(), PaperNoise(0.5, 3.0)]
SCALES = torch.tensor([1e-3, 0.3, 1.0, 1.0 + 1e-9, 1.2, 3.0], dtype=torch.float64)
KNOWN = torch.ones(4)


def doubles(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("noise", NOISES)
def test_variance_is_the_integral_of_the_squared_diffusion(noise: Noise) -> None:
    start, end = 0.2, 0.9
    s = torch.linspace(start, end, 20001, dtype=torch.float64)[:, None]
    integral = torch.trapezoid(noise.diffusion(s, SCALES).square(), s, dim=0)
    variance = [noise.std(torch.full_like(SCALES, at), SCALES).square() for at in (start, end)]
    torch.testing.assert_close(variance[1] - variance[0], integral, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("noise", NOISES)
def test_levels_fall_from_the_full_noise_to_the_last_time(noise: Noise) -> None:
    sigmas = noise.sigmas(7, SCALES)
    assert sigmas.shape == (8, len(SCALES))
    assert sigmas.dtype == SCALES.dtype
    assert (sigmas.diff(dim=0) < 0).all()
    torch.testing.assert_close(sigmas[0], noise.std(torch.ones_like(SCALES), SCALES))
    last = torch.full_like(SCALES, noise.last_time)
    torch.testing.assert_close(sigmas[-1], noise.std(last, SCALES))
    torch.testing.assert_close(noise.sigmas(0, SCALES), sigmas[:1])


def test_residual_noise_is_geometric_between_its_limits() -> None:
    sigmas = ResidualNoise(1e-3, 80.0).sigmas(5, doubles(1.0, 1.5))
    torch.testing.assert_close(sigmas[0], doubles(80.0, 120.0))
    torch.testing.assert_close(sigmas[-1], doubles(1e-3, 1.5e-3))
    ratios = sigmas[1:] / sigmas[:-1]
    torch.testing.assert_close(ratios, ratios[:1, :1].expand_as(ratios))


def test_calm_molecules_get_more_noise_and_unknown_acceleration_changes_nothing() -> None:
    noise = ResidualNoise(eta=0.5, threshold=1.0)
    squares = doubles(0.0, 0.5, 1.0, 9.0)
    torch.testing.assert_close(noise.scale(squares, KNOWN), doubles(1.5, 1.125, 1.0, 1.0))
    torch.testing.assert_close(noise.scale(squares, 0 * KNOWN), torch.ones_like(squares))


def test_the_paper_scales_by_the_distance_to_the_threshold_with_a_floor() -> None:
    noise = PaperNoise(sigma=0.1, eta=2.0, threshold=1.0, floor=1e-4)
    squares = doubles(0.0, 0.5, 1.0 - 1e-9, 9.0)
    torch.testing.assert_close(noise.scale(squares, KNOWN), doubles(0.2, 0.05, 1e-4, 0.1))
    torch.testing.assert_close(noise.scale(squares, 0 * KNOWN), torch.full_like(squares, 0.1))


def test_the_papers_kernel_has_its_limits() -> None:
    noise = PaperNoise()
    s = doubles(0.0, 0.1, 0.5, 1.0)
    torch.testing.assert_close(noise.std(s, torch.ones_like(s)), s.sqrt())
    for near in (1 - 1e-12, 1 + 1e-12, 1 - 1e-6, 1 + 1e-6):
        close = noise.std(s, torch.full_like(s, near))
        torch.testing.assert_close(close, s.sqrt(), rtol=2e-6, atol=0)
    # The number that the docs give: 0.27 Å at σ = 1e-3.
    assert noise.std(doubles(1.0), doubles(1e-3)).item() == pytest.approx(0.269, abs=1e-3)


def test_the_kernel_is_accurate_in_single_precision() -> None:
    s, noise = torch.linspace(0.01, 1, 50), PaperNoise()
    for scale in (1e-3, 0.9, 0.999999, 1.0, 1.000001, 2.0):
        # The rounded scale, so that only the formula is tested.
        scales = torch.full_like(s, scale)
        exact = noise.std(s.double(), scales.double()).float()
        torch.testing.assert_close(noise.std(s, scales), exact, rtol=2e-6, atol=0)


def test_gradients_at_the_limit_are_finite() -> None:
    scale = torch.ones(3, dtype=torch.float64, requires_grad=True)
    PaperNoise().std(doubles(0.1, 0.5, 1.0), scale).sum().backward()
    assert torch.isfinite(scale.grad).all()


def test_priors() -> None:
    start, normal, scale = torch.ones(2, 6), torch.randn(2, 6), torch.tensor([1.0, 1.5])
    drawn = ResidualNoise(sigma_max=80.0).prior(start, normal, scale)
    torch.testing.assert_close(drawn, start + torch.tensor([[80.0], [120.0]]) * normal)
    assert PaperNoise().prior(start, normal, scale) is start


@pytest.mark.parametrize(
    ("make", "values", "word"),
    [
        (ResidualNoise, {"sigma_min": 0.0}, "sigma_min"),
        (ResidualNoise, {"sigma_max": 1e-4}, "sigma_max"),
        (ResidualNoise, {"eta": -1.0}, "eta"),
        (PaperNoise, {"sigma": 0.0}, "sigma"),
        (PaperNoise, {"floor": math.nan}, "floor"),
        (PaperNoise, {"epsilon": 1.0}, "epsilon"),
    ],
)
def test_impossible_processes_are_refused(make: type, values: dict, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        make(**values)
