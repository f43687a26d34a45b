"""What training and roll-out know of a generator: one transition kernel, whatever its mode.

A kernel writes the next state as a flat row, one for each molecule: rows [B, M] are what is noised,
what the samplers move and what the network denoises. Modes differ in what a row holds:
`trajgen.model` standardised residuals against inertial flight, `trajgen.paper` positions in Å.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from trajgen.samplers import sample
from trajgen.sde import Noise

if TYPE_CHECKING:
    from trajgen.modes import ModeFriction
    from trajgen.pairs import Series
    from trajgen.stretches import StretchFriction

# What a roll-out hands on from step to step besides positions and velocities.
History = Literal["thermostat", "acceleration"]


class TransitionKernel(nn.Module, ABC):
    """p(next state | state) as a denoiser; B molecules padded to N atoms, rows of M numbers.

    Called as D(x; σ) = E[rows | noised], with a condition, noised rows [B, M] and σ [B] in the unit
    of the rows.

    Attributes:
        kind: name of the mode (`trajgen.checkpoints`).
        pair_velocities: velocities are (x_t − x_{t−Δ})/Δ over the lag; otherwise they are those at
            the frame.
        types: the atom classes known, in the order of the network's embedding.
        history: the thermostat friction, which the model then predicts with the rest, or the
            acceleration (v_t − v_{t−Δ})/Δ.
        noise: the forward process of the rows.
        modes, stretches: frictions that each step of a roll-out ends with, or None.
    """

    kind: ClassVar[str]
    pair_velocities: ClassVar[bool]
    types: list[str]
    history: History
    noise: Noise
    modes: "ModeFriction | None"
    stretches: "StretchFriction | None"

    def __init__(self) -> None:
        super().__init__()
        self.modes = None
        self.stretches = None

    @classmethod
    @abstractmethod
    def from_settings(
        cls, types: Sequence[str], series: "Sequence[Series]", settings: Any
    ) -> "TransitionKernel":
        """A new model for the series, with the sections of a config.

        Raises:
            InputError: data that the mode cannot use.
        """

    @classmethod
    @abstractmethod
    def from_description(
        cls, model: dict[str, Any], normalisation: dict[str, Any]
    ) -> "TransitionKernel":
        """A model with untrained weights, from what `description` gave."""

    @abstractmethod
    def description(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """`model` and `normalisation` of the checkpoint's config."""

    @abstractmethod
    def condition(
        self,
        types: Tensor,
        masses: Tensor,
        positions: Tensor,
        velocities: Tensor,
        lag: Tensor,
        *,
        acceleration: Tensor | None = None,
        has_acceleration: Tensor | None = None,
        thermostat: Tensor | None = None,
        has_thermostat: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Any:
        """What the next state is conditioned on, as a dataclass of tensors.

        Args:
            types: index of each atom's class [B, N]. masses: [B, N] amu (1 at padding).
            positions: [B, N, 3] Å. velocities: [B, N, 3] Å/fs. lag: [B] fs.
            acceleration: [B, N, 3] Å/fs². thermostat: ξ [B] 1/fs.
            has_acceleration, has_thermostat: [B] 0 or 1; default 1 where the value is given.
            mask: [B, N] bool; default all atoms real.
        """

    @abstractmethod
    def encode(
        self, c: Any, positions: Tensor, velocities: Tensor, thermostat: Tensor | None
    ) -> Tensor:
        """A next state [B, N, 3] Å, [B, N, 3] Å/fs, [B] 1/fs (None: zero) as rows."""

    @abstractmethod
    def decode(self, c: Any, rows: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """The inverse; ξ is None unless the thermostat is handed on."""

    @abstractmethod
    def unchanged(self, c: Any) -> Tensor:
        """The rows of the state that takes no change, where `Noise.prior` starts."""

    @abstractmethod
    def project(self, c: Any, rows: Tensor) -> Tensor:
        """Rows without motion of the centre and without padding: the space of the noise."""

    @abstractmethod
    def noise_scale(self, c: Any) -> Tensor:
        """`Noise.scale` of the condition's acceleration [B]."""

    @abstractmethod
    def loss(
        self, c: Any, denoised: Tensor, target: Tensor, sigma: Tensor, thermostat_weight: float
    ) -> Tensor:
        """Error of each molecule [B], weighted as the mode asks for."""

    @abstractmethod
    def spread(self, masses: Tensor, lag: Tensor) -> tuple[Tensor, Tensor]:
        """Typical sizes of what a step adds: Å and Å/fs [B, N, 1]."""

    def white_noise(self, c: Any, generator: torch.Generator | None = None) -> Tensor:
        """Standard normal rows in the space of the noise."""
        like = self.unchanged(c)
        normal = torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)
        return self.project(c, normal)

    def draw(
        self,
        c: Any,
        sampler: str,
        steps: int,
        *,
        generator: torch.Generator | None = None,
        network: Any = None,
    ) -> Tensor:
        """Sample the next state.

        Args:
            c: the condition.
            sampler, steps: as in `trajgen.samplers.sample`.
            generator: of the prior's noise and of what a stochastic sampler adds.
            network: this model, compiled; None: as it is.

        Returns:
            Rows [B, M].
        """
        scale, evaluate = self.noise_scale(c), network or self
        return sample(
            sampler,
            lambda rows, sigma: evaluate(c, rows, sigma),
            self.noise.prior(self.unchanged(c), self.white_noise(c, generator), scale),
            self.noise,
            scale,
            steps,
            generator,
            lambda rows: self.project(c, rows),
        )


def cast(condition: Any, dtype: torch.dtype) -> Any:
    """A condition with its floating tensors in another precision."""
    values = {field.name: getattr(condition, field.name) for field in fields(condition)}
    return replace(
        condition,
        **{name: value.to(dtype) for name, value in values.items() if value.is_floating_point()},
    )
