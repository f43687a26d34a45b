"""Small models of every network, and a batch of states to try them on."""

from typing import Any

import torch
from torch import Tensor

from tests.physics import Case
from trajgen.baselines.regression import RegressionConfig, RegressionModel
from trajgen.egt import Condition
from trajgen.model import Normalisation

# Small, and with every option a network has.
SMALL: dict[str, dict[str, Any]] = {
    "egnn": {"channels": 6, "layers": 2},
    "rf": {"channels": 6, "layers": 2},
    "tfn": {"channels": 4, "layers": 2, "lmax": 2},
    "se3-transformer": {"channels": 4, "layers": 2, "lmax": 2, "heads": 2},
    "gmn": {"channels": 6, "layers": 2},
}
# Residuals of the size of the state itself, so that no error hides behind inertial flight.
NORMALISATION = Normalisation(0.05, 0.01, 1.0, [1.0, 5.0], [0.5, 1.0], [0.5, 1.0])
ATOMIC_NUMBERS = [1, 6, 8]


def build(name: str, **changes: Any) -> RegressionModel:
    """A model of three types in float64."""
    torch.manual_seed(0)
    config = RegressionConfig(**{"network": name, **SMALL[name], **changes})
    return RegressionModel(["a", "b", "c"], ATOMIC_NUMBERS, NORMALISATION, config).double().eval()


def state() -> dict[str, Tensor]:
    """Two molecules of five atoms, the second padded with one; all atoms about a bond apart."""
    g = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    mask = torch.tensor([[True] * 5, [True] * 4 + [False]])
    real = mask[..., None]
    return {
        "types": torch.randint(3, (2, 5), generator=g) * mask,
        "masses": torch.where(mask, 1 + 5 * normal(2, 5).abs(), 1.0),
        "positions": 1.2 * normal(2, 5, 3) * real,
        "velocities": 0.05 * normal(2, 5, 3) * real,
        "lag": torch.tensor([1.0, 5.0], dtype=torch.float64),
        "mask": mask,
    }


def condition(model: RegressionModel, **changes: Any) -> Condition:
    return model.condition(**{**state(), **changes})


def case(model: RegressionModel, **changes: Tensor) -> Case:
    """What a step adds to positions and velocities of the real atoms."""

    def function(**inputs: Tensor) -> dict[str, Tensor]:
        inputs["masses"] = torch.where(inputs["mask"], inputs["masses"], 1.0)
        c = model.condition(**inputs)
        positions, velocities, _ = model.decode(c, model.draw(c, "heun", 1))
        real = inputs["mask"][..., None]
        return {
            "moved": (positions - inputs["positions"]) * real,
            "kicked": (velocities - inputs["velocities"]) * real,
        }

    vectors = ("velocities", "moved", "kicked")
    return Case(function, {**state(), **changes}, vectors=vectors)
