"""Forward noising processes: variance exploding, without drift, conditioned on the acceleration.

Both add noise to clean data x(0) on the clock s in [0, 1] (Song et al., ICLR 2021, App. C),

    dx = g(s) dw,   x(s) = x(0) + std(s) z,   g² = d std²/ds,   z standard normal,

and both let the acceleration of the molecule set the amount of noise through one `scale` per
molecule (Wu and Li, DiffMD, AAAI 2023). They differ in the data and in the schedule:

* `ResidualNoise`, for standardised residuals against inertial flight: std is geometric in s and
  exceeds the data at s = 1, so that noise alone is the prior.
* `PaperNoise`, DiffMD as published, for positions in Å: g = σ_a^s, and sampling starts from the
  current positions.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Noise(Protocol):
    """What training and samplers know of a forward process; B molecules, M coordinates each."""

    @property
    def last_time(self) -> float:
        """s at which sampling ends; a denoising follows."""
        ...

    def scale(self, squared_acceleration: Tensor, has_acceleration: Tensor) -> Tensor:
        """Conditioning: ‖a‖² [B], of any value where has_acceleration [B] is 0 -> scale [B]."""
        ...

    def std(self, s: Tensor, scale: Tensor) -> Tensor:
        """Standard deviation of x(s) around x(0); s and scale [B] (or broadcastable) -> [B]."""
        ...

    def diffusion(self, s: Tensor, scale: Tensor) -> Tensor:
        """g(s) = sqrt(d std²/ds); shapes as in `std`."""
        ...

    def prior(self, start: Tensor, normal: Tensor, scale: Tensor) -> Tensor:
        """x(1), where sampling starts.

        start [B, M] is the state that takes no change (0 for residuals, x_t for positions), normal
        [B, M] standard normal noise, scale [B] -> [B, M].
        """
        ...

    def sigmas(self, steps: int, scale: Tensor) -> Tensor:
        """Noise levels for `steps` steps evenly spaced in s, from s = 1 to `last_time`.

        scale [B] -> [steps + 1, B], decreasing; steps = 0 gives std(1) alone.
        """
        times = torch.linspace(1.0, self.last_time, steps + 1, dtype=scale.dtype)
        return self.std(times.to(scale.device)[:, None], scale)


@dataclass(frozen=True)
class ResidualNoise(Noise):
    """std(s) = c(a) σ_min (σ_max/σ_min)^s, c(a) = 1 + η relu(ā - â²)².

    Geometric from c σ_min to c σ_max (Song et al. 2021, App. C), in units of the standardised data.
    â² is the molecule's mean squared standardised acceleration: calm molecules get more noise, as
    in DiffMD, but continuously at ā. Where the acceleration is unknown, c = 1.

    Args:
        sigma_min: σ_min, well below the width of p(next state | state).
        sigma_max: σ_max, well above 1, the width of the data.
        eta: η >= 0; 0 switches the conditioning off.
        threshold: ā, in the unit of â²; above it, c = 1.

    Raises:
        ValueError: not 0 < sigma_min < sigma_max, or eta negative.
    """

    sigma_min: float = 1e-3
    sigma_max: float = 80.0
    eta: float = 0.5
    threshold: float = 1.0

    last_time = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(
                f"need 0 < sigma_min < sigma_max, got {self.sigma_min} and {self.sigma_max}"
            )
        if self.eta < 0:
            raise ValueError(f"eta must not be negative, got {self.eta}")

    def scale(self, squared_acceleration: Tensor, has_acceleration: Tensor) -> Tensor:
        """c(a) [B] >= 1."""
        calm = torch.relu(self.threshold - squared_acceleration)
        return torch.where(has_acceleration.bool(), 1 + self.eta * calm.square(), 1.0)

    def std(self, s: Tensor, scale: Tensor) -> Tensor:
        return scale * self.sigma_min * (self.sigma_max / self.sigma_min) ** s

    def diffusion(self, s: Tensor, scale: Tensor) -> Tensor:
        """g = std(s) sqrt(2 ln(σ_max/σ_min))."""
        return self.std(s, scale) * math.sqrt(2 * math.log(self.sigma_max / self.sigma_min))

    def prior(self, start: Tensor, normal: Tensor, scale: Tensor) -> Tensor:
        """start + std(1) z: a real prior, since the data's width is negligible beside std(1)."""
        return start + self.std(torch.ones_like(scale), scale)[:, None] * normal


@dataclass(frozen=True)
class PaperNoise(Noise):
    """g(s) = σ_a^s, std²(s) = (σ_a^2s - 1)/(2 ln σ_a), with the limit s at σ_a = 1; lengths in Å.

    σ_a = σ η (‖a‖² - ā)² if ‖a‖² < ā, else σ; at least `floor` (DiffMD). The scale of
    this process is σ_a. ‖a‖² is the molecule's mean squared acceleration per atom in the unit of ā;
    in (Å/fs²)² it rarely comes near the paper's ā of 0.01 to 10, so that σ_a is all but constant.
    Where the acceleration is unknown, σ_a = σ.

    Sampling starts from x_t itself. That is not the distribution of x(1): at σ = 1e-3 std(1) is
    0.27 Å, and std(0.1) still 0.23 Å, where one frame moves an atom by 0.01 Å.

    Args:
        sigma: σ; the paper tries 1e-3 to 1.
        eta: η; the paper tries 1e-2 to 10.
        threshold: ā; the paper tries 1e-2 to 10.
        floor: smallest σ_a.
        epsilon: ε, where sampling ends; the paper tries 0.1 to 0.99.

    Raises:
        ValueError: sigma, eta, or floor not positive, or epsilon not in (0, 1).
    """

    sigma: float = 1e-3
    eta: float = 1.0
    threshold: float = 1.0
    floor: float = 1e-5
    epsilon: float = 0.1

    def __post_init__(self) -> None:
        for name in ("sigma", "eta", "floor"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not 0 < self.epsilon < 1:
            raise ValueError(f"epsilon must lie between 0 and 1, got {self.epsilon}")

    @property
    def last_time(self) -> float:
        return self.epsilon

    def scale(self, squared_acceleration: Tensor, has_acceleration: Tensor) -> Tensor:
        """σ_a [B]."""
        calm = has_acceleration.bool() & (squared_acceleration < self.threshold)
        factor = self.eta * (squared_acceleration - self.threshold).square()
        return (self.sigma * torch.where(calm, factor, 1.0)).clamp(min=self.floor)

    def std(self, s: Tensor, scale: Tensor) -> Tensor:
        exponent = 2 * s * scale.log()
        moving = exponent != 0
        ratio = torch.expm1(exponent) / torch.where(moving, exponent, 1.0)
        return (s * torch.where(moving, ratio, 1.0)).sqrt()

    def diffusion(self, s: Tensor, scale: Tensor) -> Tensor:
        """g = σ_a^s in Å."""
        return scale**s

    def prior(self, start: Tensor, normal: Tensor, scale: Tensor) -> Tensor:
        """x_t, as published: no noise is added."""
        return start
