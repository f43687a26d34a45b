"""Samplers, where the answer is known: correlated Gaussians with their exact denoiser."""

import pytest
import torch
from torch import Tensor

from shared.errors import InputError
from tests.physics import check_sampler
from trajgen.samplers import (
    SAMPLERS,
    Denoiser,
    heun,
    predictor_corrector,
    probability_flow_ode,
    sample,
)
from trajgen.sde import PaperNoise, ResidualNoise

NOISE = ResidualNoise(sigma_min=1e-3, sigma_max=80.0)
MANY = {"heun": 81, "euler-maruyama": 401, "predictor-corrector": 601, "ode": 1}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scales(n: int) -> Tensor:
    """Noise of a different amount for every row."""
    return torch.linspace(1.0, 1.5, n, dtype=torch.float64)


def prior(n: int, dimensions: int = 3, noise: ResidualNoise = NOISE) -> Tensor:
    normal = torch.randn(n, dimensions, generator=generator(7), dtype=torch.float64)
    return noise.prior(torch.zeros_like(normal), normal, scales(n))


def narrow(width: float | Tensor) -> Denoiser:
    """Denoiser of N(0, width²) in every coordinate, in the precision of x."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return x / (1 + (sigma[:, None] / width).square())

    return denoise


def counted(denoise: Denoiser) -> tuple[Denoiser, list[Tensor]]:
    calls: list[Tensor] = []

    def counting(x: Tensor, sigma: Tensor) -> Tensor:
        assert sigma.shape == x.shape[:1]
        calls.append(sigma)
        return denoise(x, sigma)

    return counting, calls


@pytest.mark.parametrize("name", SAMPLERS)
def test_gaussian_comes_back(name: str) -> None:
    bias = 0.02 if name in ("heun", "ode") else 0.06

    def draw(denoise: Denoiser, n: int) -> Tensor:
        return sample(name, denoise, prior(n), NOISE, scales(n), MANY[name], generator())

    check_sampler(draw, n_samples=3000, bias=bias)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_seed_repeats(name: str) -> None:
    first, same, other = (
        sample(name, narrow(1.0), prior(4), NOISE, scales(4), 21, generator(seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, same)
    assert torch.equal(first, other) == (name in ("heun", "ode"))


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 3, 6, 9])
def test_steps_are_network_evaluations(name: str, steps: int) -> None:
    denoise, calls = counted(narrow(1.0))
    sample(name, denoise, prior(2), NOISE, scales(2), steps, generator())
    if name == "predictor-corrector":
        assert steps - 1 <= len(calls) <= steps
    elif name != "ode":
        assert len(calls) == steps
    torch.testing.assert_close(calls[0], NOISE.sigmas(0, scales(2))[0])


@pytest.mark.parametrize("name", ["heun", "euler-maruyama", "predictor-corrector"])
def test_one_step_is_the_posterior_mean(name: str) -> None:
    x, denoise = prior(3), narrow(1.0)
    mean = denoise(x, NOISE.std(torch.ones(3, dtype=torch.float64), scales(3)))
    torch.testing.assert_close(sample(name, denoise, x, NOISE, scales(3), 1), mean)


@pytest.mark.parametrize("name", SAMPLERS)
def test_rows_do_not_depend_on_each_other(name: str) -> None:
    """The same start and noise, alone and beside rows of another size: the same sample."""

    def draw(rows: slice) -> Tensor:
        scale = scales(3) * torch.tensor([1.0, 30.0, 1e-2], dtype=torch.float64)
        draws = generator()

        def choose(z: Tensor) -> Tensor:
            return torch.randn(3, 3, generator=draws, dtype=torch.float64)[rows]

        x, denoise = prior(3) * torch.tensor([[1.0], [30.0], [1e-2]]), narrow(0.3)
        return sample(name, denoise, x[rows], NOISE, scale[rows], 31, generator(), choose)

    together = draw(slice(0, 3))
    tolerance = 1e-4 if name == "ode" else 1e-12
    for row in range(3):
        torch.testing.assert_close(
            draw(slice(row, row + 1)), together[row : row + 1], rtol=tolerance, atol=tolerance
        )


def test_heun_is_second_order() -> None:
    exact = prior(5) * (0.3 / (0.3**2 + NOISE.sigmas(0, scales(5))[0] ** 2).sqrt())[:, None]

    def error(steps: int) -> float:
        levels = ResidualNoise(1e-3, 80.0).sigmas(steps, scales(5))
        return (heun(narrow(0.3), prior(5), levels) - exact).norm().item()

    assert 3.5 < error(80) / error(160) < 4.5


@pytest.mark.parametrize("width", [1e-3, 0.05, 1.0])
@pytest.mark.parametrize("steps", [2, 3, 4, 5, 9])
def test_heun_in_few_steps_never_overshoots(width: float, steps: int) -> None:
    """Coarse steps may lose spread, but leave no noise: a roll-out feeds the sample back."""
    drawn = sample("heun", narrow(width), prior(500), NOISE, scales(500), steps)
    assert drawn.std() < 1.05 * width


def test_corrector_alone_keeps_the_distribution() -> None:
    """Langevin steps at a fixed level are stationary, whatever the dimension."""
    levels = torch.full((2, 4000), 0.5, dtype=torch.float64)
    x = torch.randn(4000, 3, generator=generator(), dtype=torch.float64) * (1 + 0.25) ** 0.5
    draws = generator(3)

    def normal(x: Tensor) -> Tensor:
        return torch.randn(x.shape, generator=draws, dtype=x.dtype)

    denoise, calls = counted(narrow(1.0))
    # Equal levels: the predictor does nothing, 200 Langevin steps remain.
    x = predictor_corrector(denoise, x, levels, normal, n_corrector=200)
    assert len(calls) == 202
    # The last denoising multiplies by 1/1.25, which leaves the variance 1.25/1.25².
    assert x.var().item() == pytest.approx(1 / 1.25, rel=0.05)


def test_the_correctors_step_is_each_molecules_own() -> None:
    levels = torch.tensor([[1.0, 5.0], [0.5, 2.5]], dtype=torch.float64)
    x = torch.zeros(2, 3, dtype=torch.float64)
    steps: list[Tensor] = []

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        steps.append(x)
        return torch.zeros_like(x)

    predictor_corrector(denoise, x, levels, torch.ones_like, signal_to_noise=0.1)
    moved = steps[2] - steps[1] * (1 - 2 * 0.1**2)
    expected = 2 * 0.1 * levels[1]
    torch.testing.assert_close(moved, expected[:, None].expand(2, 3))


def test_ode_controls_every_row() -> None:
    """One hard row among many easy ones is as accurate as alone."""
    n = 200
    widths = torch.ones(n, 1, dtype=torch.float64)
    widths[0] = 1e-2
    levels = NOISE.sigmas(1, scales(n))
    x = prior(n)
    drawn = probability_flow_ode(narrow(widths), x, levels)
    flow = (widths.square() + levels[1, :, None] ** 2) / (widths.square() + levels[0, :, None] ** 2)
    end = x * flow.sqrt()
    exact = end / (1 + (levels[1, :, None] / widths).square())
    assert (drawn - exact).abs().max() < 1e-4


def test_ode_loses_only_the_row_that_fails() -> None:
    healthy = narrow(1.0)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        clean = healthy(x, sigma)
        return torch.where((torch.arange(len(x)) == 1)[:, None], torch.nan, clean)

    drawn = sample("ode", denoise, prior(3), NOISE, scales(3), 1)
    expected = sample("ode", healthy, prior(3), NOISE, scales(3), 1)
    assert drawn[1].isnan().all()
    torch.testing.assert_close(drawn[[0, 2]], expected[[0, 2]], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", SAMPLERS)
def test_samples_stay_in_the_projected_space(name: str) -> None:
    direction = torch.tensor([1.0, 2.0, 2.0], dtype=torch.float64) / 3

    def project(x: Tensor) -> Tensor:
        return x - (x @ direction)[:, None] * direction

    denoise = narrow(1.0)
    drawn = sample(name, denoise, project(prior(5)), NOISE, scales(5), 21, generator(), project)
    assert (drawn @ direction).abs().max() < 1e-9


@pytest.mark.parametrize("name", SAMPLERS)
def test_single_precision_and_the_papers_process(name: str) -> None:
    noise = PaperNoise()
    scale = noise.scale(torch.rand(4), torch.ones(4))
    current = torch.randn(4, 3, generator=generator())
    drawn = sample(name, narrow(1.0), current, noise, scale, 5, generator())
    assert drawn.dtype == torch.float32
    assert torch.isfinite(drawn).all()


@pytest.mark.parametrize("name", SAMPLERS)
def test_gradients_flow(name: str) -> None:
    width = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    sample(name, narrow(width), prior(2), NOISE, scales(2), 5, generator()).sum().backward()
    assert torch.isfinite(width.grad)
    assert width.grad != 0


def test_bad_requests_say_what_to_do() -> None:
    with pytest.raises(InputError, match="heun, euler-maruyama, predictor-corrector, ode"):
        sample("huen", narrow(1.0), prior(1), NOISE, scales(1), 3)
    with pytest.raises(InputError, match="at least 1"):
        sample("heun", narrow(1.0), prior(1), NOISE, scales(1), 0)
