"""The physics checks themselves: each passes what is right and catches what is wrong."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from tests import physics
from tests.physics import Case


def forces(positions: Tensor, velocities: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Springs of all pairs of real atoms, with friction."""
    pairs = (mask[:, None] & mask[:, :, None]).unsqueeze(-1)
    edges = torch.where(pairs, positions[:, None] - positions[:, :, None], 0.0)
    return {
        "force": torch.where(mask.unsqueeze(-1), edges.sum(2) - velocities, 0.0),
        "energy": edges.square().sum((1, 2, 3)) / 4,
    }


def case(function: Callable[..., dict[str, Tensor]] = forces) -> Case:
    generator = torch.Generator().manual_seed(0)
    shape = (2, 5, 3)
    inputs = {
        "positions": torch.randn(*shape, generator=generator, dtype=torch.float64),
        "velocities": torch.randn(*shape, generator=generator, dtype=torch.float64),
        "mask": torch.ones(2, 5, dtype=torch.bool),
    }
    return Case(function, inputs, vectors=("velocities", "force"))


def test_a_right_model_passes() -> None:
    physics.check_symmetries(case())
    physics.check_padding(case())


def broken(name: str) -> Callable[..., dict[str, Tensor]]:
    def function(positions: Tensor, velocities: Tensor, mask: Tensor) -> dict[str, Tensor]:
        outputs = forces(positions, velocities, mask)
        error = {
            "rotation": torch.tensor([1e-6, 0.0, 0.0]),
            "reflection": torch.linalg.cross(outputs["force"], velocities),
            "translation": positions,
            "permutation": torch.arange(positions.shape[1])[:, None] * velocities,
            "batching": positions.mean(0) - positions.mean((0, 1)),
            "padding": velocities.mean(1, keepdim=True),
        }[name]
        return {**outputs, "force": outputs["force"] + error}

    return function


@pytest.mark.parametrize(
    "name", ["rotation", "reflection", "translation", "permutation", "batching", "padding"]
)
def test_a_wrong_model_is_caught(name: str) -> None:
    with pytest.raises(AssertionError, match=name):
        getattr(physics, f"check_{name}")(case(broken(name)))


def test_gradients_are_checked_by_finite_differences() -> None:
    inputs = case().inputs
    outputs = forces(**inputs | {"velocities": torch.zeros(2, 5, 3, dtype=torch.float64)})

    def energy(positions: Tensor) -> Tensor:
        return forces(positions, inputs["velocities"], inputs["mask"])["energy"].sum()

    physics.check_gradient(energy, inputs["positions"], -outputs["force"])
    with pytest.raises(AssertionError, match="finite difference"):
        physics.check_gradient(energy, inputs["positions"], -1.001 * outputs["force"])


def test_kinks_are_seen() -> None:
    physics.check_smooth_at(lambda r: torch.relu(1 - r) ** 3, 1.0, order=2)
    with pytest.raises(AssertionError, match="jump"):
        physics.check_smooth_at(lambda r: torch.relu(1 - r), 1.0)
    with pytest.raises(AssertionError, match="jump"):
        physics.check_smooth_at(lambda r: torch.where(r < 1, 1.0 + 0 * r, 0.0), 1.0, order=0)


def test_infinite_gradients_are_seen() -> None:
    inputs = {"x": torch.zeros(2, 3)}
    physics.check_finite_gradients(lambda x: {"y": x.square().sum(-1)}, inputs)
    with pytest.raises(AssertionError, match="gradient of x"):
        physics.check_finite_gradients(lambda x: {"y": 1 + x.norm(dim=-1).sqrt()}, inputs)


def euler(denoiser: Callable[[Tensor, Tensor], Tensor], n: int) -> Tensor:
    """A plain probability-flow sampler, dx/dσ = (x - D(x, σ))/σ, as a sampler to be tested."""
    generator = torch.Generator().manual_seed(1)
    stds = torch.logspace(1.5, -3, 400, dtype=torch.float64)
    x = stds[0] * torch.randn(n, 3, generator=generator, dtype=torch.float64)
    for here, there in pairwise(stds):
        x = x + (there - here) * (x - denoiser(x, here)) / here
    return x


def test_samplers_are_judged_by_moments() -> None:
    physics.check_sampler(euler, bias=0.03)
    with pytest.raises(AssertionError, match="mean"):
        physics.check_sampler(lambda denoiser, n: 0.2 + euler(denoiser, n), bias=0.03)
    samples = torch.randn(4000, 3, generator=torch.Generator().manual_seed(2))
    physics.check_gaussian_samples(samples, torch.zeros(3), torch.eye(3))
    with pytest.raises(AssertionError, match="covariance"):
        physics.check_gaussian_samples(1.2 * samples, torch.zeros(3), torch.eye(3))
