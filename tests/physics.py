"""Physics checks written once, to run on every model, layer and sampler.

A `Case` bundles a function of named tensors with inputs to try it on and says which of the names
are points (they rotate and translate) and which are vectors (they rotate); everything else, in and
out, is invariant. Batched tensors are [B, N, ...]; an entry whose axis 1 has the length N of the
first point counts as one value per atom, so no other axis 1 may have that length.

    case = Case(function, inputs, points=("positions",), vectors=("velocities", "score"))
    check_symmetries(case)

Each check raises AssertionError; tolerances are relative to the largest entry of the output, and
meant for float64 inputs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Case:
    """A function under test, called as `function(**inputs)`, and how its entries transform."""

    function: Callable[..., Tensors]
    inputs: Tensors
    points: tuple[str, ...] = ("positions",)
    vectors: tuple[str, ...] = ()
    mask: str = "mask"
    seed: int = 0

    def __call__(self, inputs: Tensors | None = None) -> Tensors:
        return self.function(**(self.inputs if inputs is None else inputs))

    @property
    def n_atoms(self) -> int:
        return self.inputs[self.points[0]].shape[1]

    def is_per_atom(self, value: Tensor) -> bool:
        return value.ndim > 1 and value.shape[1] == self.n_atoms

    def generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed)

    def transform(self, entries: Tensors, orthogonal: Tensor, shift: Tensor) -> dict[str, Tensor]:
        """Points x -> O x + t, vectors v -> O v, the rest as it is."""

        def move(name: str, value: Tensor) -> Tensor:
            if name in self.points:
                return value @ orthogonal.T + shift
            return value @ orthogonal.T if name in self.vectors else value

        return {name: move(name, value) for name, value in entries.items()}


def random_rotation(generator: torch.Generator, dtype: torch.dtype = torch.float64) -> Tensor:
    """A proper rotation [3, 3]."""
    matrix = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=dtype)).Q
    return matrix * torch.linalg.det(matrix).sign()


def check_rotation(case: Case, tolerance: float = 1e-9) -> None:
    """f(Rx) = R f(x) for a proper rotation."""
    _check_transform(case, random_rotation(case.generator()), torch.zeros(3), tolerance, "rotation")


def check_reflection(case: Case, tolerance: float = 1e-9) -> None:
    """f(-Rx) = -R f(x), an improper rotation."""
    improper = -random_rotation(case.generator())
    _check_transform(case, improper, torch.zeros(3), tolerance, "reflection")


def check_translation(case: Case, tolerance: float = 1e-9) -> None:
    """f(x + t) = f(x) (+ t for points)."""
    shift = torch.randn(3, generator=case.generator(), dtype=torch.float64)
    _check_transform(case, torch.eye(3), shift, tolerance, "translation")


def check_permutation(case: Case, tolerance: float = 1e-9) -> None:
    """Renumbering the atoms renumbers what is per atom, and changes nothing else."""
    order = torch.randperm(case.n_atoms, generator=case.generator())

    def permuted(entries: Tensors) -> dict[str, Tensor]:
        return {k: v[:, order] if case.is_per_atom(v) else v for k, v in entries.items()}

    _assert_same(case(permuted(case.inputs)), permuted(case()), tolerance, "permutation")


def check_batching(case: Case, tolerance: float = 1e-9) -> None:
    """A molecule gives the same result alone as in a batch."""
    together, size = case(), case.inputs[case.points[0]].shape[0]
    for b in range(size):
        alone = case({name: value[b : b + 1] for name, value in case.inputs.items()})
        expected = {name: value[b : b + 1] for name, value in together.items()}
        _assert_same(alone, expected, tolerance, f"batching, molecule {b}")


def check_padding(case: Case, extra: int = 2, tolerance: float = 1e-9) -> None:
    """Zero-padding each molecule by `extra` masked atoms changes nothing on the real ones."""

    def padded(value: Tensor) -> Tensor:
        if not case.is_per_atom(value):
            return value
        filler = value.new_zeros(value.shape[0], extra, *value.shape[2:])
        return torch.cat([value, filler], dim=1)

    assert case.mask in case.inputs, f"the case has no input {case.mask!r}"
    expected = case()
    longer = case({name: padded(value) for name, value in case.inputs.items()})
    real = {k: v[:, : case.n_atoms] if v.ndim > 1 else v for k, v in longer.items()}
    _assert_same(real, expected, tolerance, "padding")


def check_symmetries(case: Case, tolerance: float = 1e-9) -> None:
    """Rotation, reflection, translation, permutation and batching."""
    for check in (
        check_rotation,
        check_reflection,
        check_translation,
        check_permutation,
        check_batching,
    ):
        check(case, tolerance)


def check_gradient(
    function: Callable[[Tensor], Tensor],
    point: Tensor,
    gradient: Tensor,
    step: float = 1e-4,
    tolerance: float = 1e-6,
) -> None:
    """`gradient` is that of the scalar `function` at `point`, by central finite differences.

    For forces give -F. Only up to 30 coordinates, evenly spread, are tried; `tolerance` is
    absolute. float64.
    """
    assert point.dtype == torch.float64, "finite differences need float64"
    flat, slopes = point.detach().flatten(), gradient.detach().flatten()
    stride = max(1, flat.numel() // 30)
    for index in range(0, flat.numel(), stride):
        moved = []
        for sign in (1, -1):
            shifted = flat.clone()
            shifted[index] += sign * step
            moved.append(function(shifted.view_as(point)).item())
        numeric = (moved[0] - moved[1]) / (2 * step)
        error = abs(numeric - slopes[index].item())
        assert error < tolerance, f"coordinate {index}: finite difference off by {error:.2e}"


def check_smooth_at(
    function: Callable[[Tensor], Tensor], distance: float, order: int = 1, tolerance: float = 1e-4
) -> None:
    """Value and derivatives up to `order` of f(r) [..] agree on both sides of r = `distance`.

    `function` maps a scalar float64 tensor to any shape.
    """

    def derivatives(r: float) -> list[Tensor]:
        x = torch.tensor(r, dtype=torch.float64, requires_grad=True)
        rows = []
        for component in function(x).flatten():
            row = [component]
            for _ in range(order):
                (slope,) = torch.autograd.grad(row[-1], x, create_graph=True, allow_unused=True)
                row.append(torch.zeros_like(x) if slope is None else slope)
                if not row[-1].requires_grad:
                    row[-1] = row[-1] + 0.0 * x
            rows.append(torch.stack(row).detach())
        return rows

    h = 1e-6
    for below, above in zip(derivatives(distance - h), derivatives(distance + h), strict=True):
        jump = (above - below).abs().max().item()
        assert jump < tolerance, f"a jump of {jump:.2e} at r = {distance}"


def check_finite_gradients(
    function: Callable[..., Tensors], inputs: Tensors, module: torch.nn.Module | None = None
) -> None:
    """Outputs, and gradients of all floating inputs and parameters, have no NaN or infinity."""
    leaves = {
        name: value.detach().clone().requires_grad_() if value.is_floating_point() else value
        for name, value in inputs.items()
    }
    outputs = function(**leaves)
    for name, value in outputs.items():
        assert torch.isfinite(value).all(), f"output {name} is not finite"
    sum(value.square().sum() for value in outputs.values()).backward()
    gradients = {name: leaf.grad for name, leaf in leaves.items()}
    if module is not None:
        gradients |= {name: parameter.grad for name, parameter in module.named_parameters()}
    for name, gradient in gradients.items():
        finite = gradient is None or torch.isfinite(gradient).all()
        assert finite, f"the gradient of {name} is not finite"


def gaussian_denoiser(mean: Tensor, covariance: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """The exact denoiser E[x0 | x0 + std·noise = x] of data N(mean [D], covariance [D, D]).

    D(x, std) = μ + Σ (Σ + std² I)⁻¹ (x - μ) for x [n, D] and std a scalar or [n]; the score of the
    noised data is (D(x, std) - x)/std².
    """
    variances, axes = torch.linalg.eigh(covariance)

    def denoise(x: Tensor, std: Tensor) -> Tensor:
        noise = torch.as_tensor(std, dtype=x.dtype).square().reshape(-1, 1)
        return mean + ((x - mean) @ axes) * (variances / (variances + noise)) @ axes.T

    return denoise


def check_gaussian_samples(
    samples: Tensor, mean: Tensor, covariance: Tensor, bias: float = 0.0
) -> None:
    """Samples [n, D] have the moments of N(mean, covariance) to five standard errors.

    `bias` is the discretisation error that is granted on top, relative to the largest standard
    deviation (mean) and variance (covariance).
    """
    n, variances = samples.shape[0], covariance.diagonal()
    mean_error = (samples.mean(0) - mean).abs()
    mean_allowed = 5 * (variances / n).sqrt() + bias * variances.max().sqrt()
    assert (mean_error <= mean_allowed).all(), f"mean off by {mean_error.max():.3g}"
    spread = ((torch.outer(variances, variances) + covariance.square()) / n).sqrt()
    error = (torch.cov(samples.T) - covariance).abs()
    assert (error <= 5 * spread + bias * variances.max()).all(), (
        f"covariance off by {error.max():.3g}"
    )


def check_sampler(
    sample: Callable[[Callable[[Tensor, Tensor], Tensor], int], Tensor],
    n_samples: int = 4000,
    bias: float = 0.02,
    seed: int = 0,
) -> None:
    """A diffusion sampler gives back a correlated Gaussian when it is given its exact denoiser.

    `sample(denoiser, n)` runs the sampler from its own prior on n samples of dimension 3, float64,
    and returns [n, 3]; `denoiser(x, std)` as `gaussian_denoiser`.
    """
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    covariance = root @ root.T / 3 + 0.1 * torch.eye(3, dtype=torch.float64)
    mean = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    samples = sample(gaussian_denoiser(mean, covariance), n_samples)
    check_gaussian_samples(samples, mean, covariance, bias)


def with_inputs(case: Case, **inputs: Tensor) -> Case:
    """The same case with some inputs replaced."""
    return replace(case, inputs={**case.inputs, **inputs})


def _check_transform(
    case: Case, orthogonal: Tensor, shift: Tensor, tolerance: float, what: str
) -> None:
    dtype = case.inputs[case.points[0]].dtype
    orthogonal, shift = orthogonal.to(dtype), shift.to(dtype)
    moved = case(case.transform(case.inputs, orthogonal, shift))
    _assert_same(moved, case.transform(case(), orthogonal, shift), tolerance, what)


def _assert_same(actual: Tensors, expected: Tensors, tolerance: float, what: str) -> None:
    assert set(actual) == set(expected)
    for name, value in expected.items():
        error = (actual[name].double() - value.double()).abs().max().item()
        scale = max(1.0, value.double().abs().max().item())
        assert error <= tolerance * scale, f"{what}: output {name} off by {error:.2e}"
