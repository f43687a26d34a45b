"""The `regression` mode: a network of `trajgen.baselines` predicts the next state, once per lag.

Rows are those of the `residual` mode, standardised residuals against inertial flight without motion
of the centre of mass (`trajgen.model`). The network sees (x_t, v_t), types and lag: no noise, no
acceleration and no thermostat. That is the denoiser in the limit of infinite noise, E[r | state],
so that training and roll-out need know no difference; what there is to sample is one value.
"""

import inspect
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from shared.errors import InputError
from trajgen.baselines import network_class
from trajgen.egt import Condition
from trajgen.model import Normalisation, ResidualKernel, join, project
from trajgen.sde import ResidualNoise

if TYPE_CHECKING:
    from trajgen.pairs import Series

__all__ = ["RegressionConfig", "RegressionModel"]


@dataclass(frozen=True)
class RegressionConfig:
    """Which network, and its size; null: the network's default.

    Args:
        network: egnn, rf, tfn, se3-transformer or gmn (`trajgen.baselines`).
        channels: width of the atoms' features (tfn, se3-transformer: of every degree).
        layers: number of layers.
        lmax: highest degree of the fields (tfn, se3-transformer).
        heads: attention heads (se3-transformer).
    """

    network: str = "egnn"
    channels: int | None = None
    layers: int | None = None
    lmax: int | None = None
    heads: int | None = None

    def build(self, atomic_numbers: Sequence[int]) -> torch.nn.Module:
        """The network, for types of these elements.

        Raises:
            InputError: no such network, an option it does not have, or a value it cannot take.
        """
        kind = network_class(self.network)
        given = {k: v for k, v in asdict(self).items() if v is not None and k != "network"}
        known = list(inspect.signature(kind).parameters)[1:]
        for name, value in given.items():
            if name not in known:
                raise InputError(
                    f"regression.{name}: {self.network} has none; leave it null "
                    f"(it has {', '.join(known)})"
                )
            if value < 1:
                raise InputError(f"regression.{name} must be at least 1, got {value}")
        try:
            return kind(atomic_numbers, **given)
        except ValueError as error:
            raise InputError(f"regression: {error}") from None


class RegressionModel(ResidualKernel):
    """Network and normalisation together.

    Args:
        types: the atom classes known, in the order of the network's embedding.
        atomic_numbers: of each type.
        normalisation: see `trajgen.model.Normalisation`.
        network: see `RegressionConfig`.
    """

    kind: ClassVar[str] = "regression"

    def __init__(
        self,
        types: Sequence[str],
        atomic_numbers: Sequence[int],
        normalisation: Normalisation,
        network: RegressionConfig = RegressionConfig(),
    ) -> None:
        super().__init__(types, normalisation, "acceleration")
        self.atomic_numbers = list(atomic_numbers)
        self.network_config = network
        self.noise = ResidualNoise()
        self.network = network.build(self.atomic_numbers)

    @classmethod
    def from_settings(
        cls, types: Sequence[str], series: "Sequence[Series]", settings: Any
    ) -> "RegressionModel":
        """A new model for the series, with the sections of a config.

        Raises:
            InputError: a thermostat to be handed on; as `RegressionConfig.build`.
        """
        data = settings.data
        if data.history != "acceleration":
            raise InputError(
                "the regression mode hands on no thermostat; set data.history: acceleration"
            )
        element = {c: int(z) for s in series for c, z in zip(s.classes, s.numbers, strict=True)}
        normalisation = Normalisation.measure(
            series, data.train, data.lag_fs, data.acceleration_interval_fs
        )
        return cls(types, [element[c] for c in types], normalisation, settings.regression)

    @classmethod
    def from_description(
        cls, model: dict[str, Any], normalisation: dict[str, Any]
    ) -> "RegressionModel":
        """A model with untrained weights, from the entries that `description` wrote."""
        return cls(
            model["types"],
            model["atomic_numbers"],
            Normalisation(**normalisation),
            RegressionConfig(**model["network"]),
        )

    def description(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """`model` and `normalisation` of the checkpoint's config."""
        model = {
            "types": self.types,
            "atomic_numbers": self.atomic_numbers,
            "network": asdict(self.network_config),
        }
        return model, asdict(self.normalisation)

    def noise_scale(self, c: Condition) -> Tensor:
        """1: there is nothing to scale."""
        return torch.ones_like(c.lag)

    def forward(self, c: Condition, noised: Tensor, sigma: Tensor) -> Tensor:
        """E[r | state] [B, 6N + 1]; neither the noised rows nor σ enter."""
        return join(project(c, self.network(c)), torch.zeros_like(c.lag))

    def draw(
        self,
        c: Condition,
        sampler: str,
        steps: int,
        *,
        generator: torch.Generator | None = None,
        network: Any = None,
    ) -> Tensor:
        """One evaluation, whatever the sampler and its steps: all would end with this value."""
        evaluate = network or self
        return evaluate(c, self.unchanged(c), torch.ones_like(c.lag))
