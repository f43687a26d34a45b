"""Samplers: from the prior to the data, through the noise levels of a process without drift.

For x = x0 + σ z the denoiser D(x, σ) = E[x0 | x] holds all a sampler needs; the score is
(D - x)/σ² (Tweedie's formula). The noise level σ itself is the clock, so that one sampler serves
every process of `trajgen.sde`. Reverse-time SDE and probability-flow ODE (Song et al., ICLR 2021,
Eq. 6 and 13, with f = 0 and g² ds = dσ²):

    dx = -(D - x)/σ² d(σ²) + sqrt(d(σ²)) dw̄,       dx/dσ = (x - D)/σ.

All act on flat states x [B, M], one row per molecule or replica, float32 or float64. `sigmas`
[K + 1, B] are K + 1 decreasing levels, of which each row has its own, and x starts at the first.
After the last level each sampler returns D(x, σ_K), which removes the noise that is left (Song
et al. 2021, App. G). Rows never mix: a row's result does not depend on the others, but for the
random numbers that it gets (and in `probability_flow_ode`, within its tolerance). Gradients flow
through every sampler, so that training can see its own samples.

`steps` counts network evaluations everywhere it appears.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from shared.errors import InputError
from trajgen.sde import Noise

# D(x [B, M], sigma [B]) -> E[x0 | x] [B, M].
Denoiser = Callable[[Tensor, Tensor], Tensor]
# x [B, M] -> standard normal noise of that shape.
Normal = Callable[[Tensor], Tensor]


def heun(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, correct_last: bool = True) -> Tensor:
    """Deterministic, second order, for few steps: 2K + 1 evaluations.

    Predictor and corrector are those of Karras et al. (EDM, NeurIPS 2022, Algorithm 1), but the
    linear part of the ODE is solved exactly and D alone is interpolated, linearly in σ (as in Lu
    et al., DPM-Solver++, 2022). With r = σ'/σ and D' = D(x', σ'):

        x' = r x + (1 - r) D                                      (this is Euler's step)
        x  <- r x + (1 - r) D' + (D - D') r (ln(1/r) - 1 + r)/(1 - r)

    Algorithm 1 averages the slopes (x - D)/σ instead. Where the data are much narrower than a step
    is long, as for a nearly deterministic transition, that leaves half of the noise in x: for
    N(0, 0.05²), from σ = 80 to 1e-3 in 9 evaluations, a standard deviation 3.1 times too large,
    against 0.68 times here.

    Args:
        denoise: see above. x: [B, M]. sigmas: [K + 1, B].
        correct_last: False leaves out the corrector of the last step: 2K evaluations.

    Returns:
        [B, M].
    """
    last = len(sigmas) - 2
    for step, (sigma, following) in enumerate(pairwise(sigmas)):
        r = (following / sigma)[:, None]
        clean = denoise(x, sigma)
        predicted = r * x + (1 - r) * clean
        if step < last or correct_last:
            corrected = denoise(predicted, following)
            d = 1 - r  # the next line is r (ln(1/r) - d)/d, and its series for levels all but equal
            weight = r * torch.where(d < 1e-2, d / 2 + d**2 / 3 + d**3 / 4, (-r.log() - d) / d)
            predicted = r * x + (1 - r) * corrected + weight * (clean - corrected)
        x = predicted
    return denoise(x, sigmas[-1])


def euler_maruyama(denoise: Denoiser, x: Tensor, sigmas: Tensor, normal: Normal) -> Tensor:
    """Euler-Maruyama for the reverse SDE with the clock σ²: K + 1 evaluations.

    x <- x + (σ² - σ'²) score + sqrt(σ² - σ'²) z (Song et al. 2021, App. E, "reverse diffusion").

    Args:
        denoise: see above. x: [B, M]. sigmas: [K + 1, B].
        normal: draws z.

    Returns:
        [B, M].
    """
    return predictor_corrector(denoise, x, sigmas, normal, n_corrector=0)


def predictor_corrector(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    normal: Normal,
    *,
    n_corrector: int = 1,
    signal_to_noise: float = 0.16,
) -> Tensor:
    """Euler-Maruyama with Langevin steps at each new level: (1 + N_C) K + 1 evaluations.

    Corrector (Song et al. 2021, Algorithms 2 and 4): x <- x + ε score + sqrt(2ε) z, where the ratio
    of signal to noise, r, sets ε = 2 (r ‖z‖/‖score‖)². The norms here are each molecule's root
    mean squares under its kernel, ‖z‖² = M and ‖score‖² = M/σ², hence

        ε = 2 r² σ²,

    one step size per molecule. Norms averaged over the batch would couple molecules. Norms of the
    one sample would make ε a function of x: such Langevin steps sample p ‖score‖² instead of p,
    whatever their size, which adds 2/M to the relative variance of a Gaussian (67 % for M = 3).

    Args:
        denoise: see above. x: [B, M]. sigmas: [K + 1, B].
        normal: draws z.
        n_corrector: N_C.
        signal_to_noise: r; 0.16 is the choice of the source.

    Returns:
        [B, M].
    """
    for sigma, following in pairwise(sigmas[:, :, None]):
        drop = sigma.square() - following.square()
        x = x + drop * _score(denoise, x, sigma) + drop.sqrt() * normal(x)
        epsilon = 2 * (signal_to_noise * following).square()
        for _ in range(n_corrector):
            x = x + epsilon * _score(denoise, x, following) + (2 * epsilon).sqrt() * normal(x)
    return denoise(x, sigmas[-1])


def _score(denoise: Denoiser, x: Tensor, sigma: Tensor) -> Tensor:
    """∇ ln p of the noised data at x [B, M], level sigma [B, 1]."""
    return (denoise(x, sigma[:, 0]) - x) / sigma.square()


def probability_flow_ode(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, *, rtol: float = 1e-5, atol: float = 1e-5
) -> Tensor:
    """The probability-flow ODE from the first to the last level, by adaptive Dormand-Prince 5(4).

    With σ = σ_0 (σ_K/σ_0)^t per row, dx/dt = ln(σ_K/σ_0) (x - D), t from 0 to 1; the levels in
    between are not used, and the number of evaluations is what the tolerances ask for.

    Every replica controls the step: the error norm is the largest error of any coordinate of any
    row, so the step taken is the shortest that any row needs, each row is as accurate as if solved
    alone, and all advance in one batch. (A root mean square over the batch, the usual norm, lets
    accurate rows hide inaccurate ones.) A row whose derivative is not finite stands still; the last
    denoising shows it as not finite, and the others go on.

    Args:
        denoise: see above. x: [B, M], finite. sigmas: [K + 1, B].
        rtol, atol: tolerances of each coordinate, per step; atol in the unit of x.

    Returns:
        [B, M].
    """
    from torchdiffeq import odeint

    span = (sigmas[-1] / sigmas[0]).log()

    def derivative(t: Tensor, x: Tensor) -> Tensor:
        sigma = sigmas[0] * (t.to(span.dtype) * span).exp()
        slope = span[:, None] * (x - denoise(x, sigma))
        return torch.where(slope.isfinite().all(1, keepdim=True), slope, 0.0)

    times = torch.tensor([0.0, 1.0], dtype=torch.float64, device=x.device)
    options = {"norm": lambda error: error.abs().max()}
    end = odeint(derivative, x, times, rtol=rtol, atol=atol, method="dopri5", options=options)[-1]
    return denoise(end, sigmas[-1])


# Name -> (denoise, x, levels, steps, normal) -> [B, M]; levels(K) gives sigmas [K + 1, B].
_Levels = Callable[[int], Tensor]
SAMPLERS: dict[str, Callable[[Denoiser, Tensor, _Levels, int, Normal], Tensor]] = {
    "heun": lambda denoise, x, levels, steps, normal: heun(
        denoise, x, levels(steps // 2), correct_last=steps % 2 == 1
    ),
    "euler-maruyama": lambda denoise, x, levels, steps, normal: euler_maruyama(
        denoise, x, levels(steps - 1), normal
    ),
    "predictor-corrector": lambda denoise, x, levels, steps, normal: predictor_corrector(
        denoise, x, levels((steps - 1) // 2), normal
    ),
    "ode": lambda denoise, x, levels, steps, normal: probability_flow_ode(denoise, x, levels(1)),
}


def check_sampler(name: str, steps: int) -> None:
    """Raise InputError for a sampler that there is not, or fewer than 1 evaluations."""
    if name not in SAMPLERS:
        raise InputError(f"unknown sampler {name!r}: choose one of {', '.join(SAMPLERS)}")
    if steps < 1:
        raise InputError(f"steps must be at least 1, got {steps}")


def sample(
    name: str,
    denoise: Denoiser,
    prior: Tensor,
    noise: Noise,
    scale: Tensor,
    steps: int,
    generator: torch.Generator | None = None,
    project: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Draw one sample per row with the sampler called `name`.

    Args:
        name: one of `SAMPLERS`.
        denoise: see above.
        prior: x(1) [B, M], as `Noise.prior` gives it.
        noise: the forward process.
        scale: of each row [B], as `Noise.scale` gives it.
        steps: network evaluations, at most; steps = 1 denoises the prior once, which is the
            posterior mean. `ode` takes what it needs.
        generator: of the noise that stochastic samplers add; the same seed, the same sample.
        project: linear map [B, M] -> [B, M] of that noise onto the space where x lives, for data
            without centre-of-mass motion or with padding.

    Returns:
        [B, M].

    Raises:
        InputError: unknown name, or steps < 1.
    """
    check_sampler(name, steps)

    def normal(x: Tensor) -> Tensor:
        device = x.device if generator is None else generator.device
        z = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=device).to(x.device)
        return z if project is None else project(z)

    def levels(intervals: int) -> Tensor:
        return noise.sigmas(intervals, scale)

    return SAMPLERS[name](denoise, prior, levels, steps, normal)
