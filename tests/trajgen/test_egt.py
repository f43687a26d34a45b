"""The score network of the `residual` mode: symmetries, masks, degenerate geometry, switches."""

import pytest
import torch
from torch import Tensor

from tests.physics import Case, check_finite_gradients, check_padding, check_symmetries
from trajgen.egt import EGT, Condition

SMALL = {
    "channels": 16,
    "vectors": 8,
    "heads": 4,
    "directions": 3,
    "radial": 8,
    "layers": 3,
}
VECTORS = ("velocities", "acceleration", "y", "w")


def network(**changes: object) -> EGT:
    torch.manual_seed(0)
    return EGT(5, **{**SMALL, **changes}).double().eval()


def inputs() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    return {
        "types": torch.randint(5, (2, 6), generator=generator),
        "mask": mask,
        "positions": 1.5 * normal(2, 6, 3) * mask[..., None],
        "inverse_sqrt_mass": (0.2 + normal(2, 6).abs()) * mask,
        "velocities": normal(2, 6, 3) * mask[..., None],
        "acceleration": normal(2, 6, 3) * mask[..., None],
        "has_acceleration": torch.ones(2, dtype=torch.float64),
        "thermostat": normal(2),
        "has_thermostat": torch.ones(2, dtype=torch.float64),
        "lag": torch.tensor([0.5, 5.0], dtype=torch.float64),
        "flight": torch.tensor([0.02, 0.2], dtype=torch.float64),
        "step": torch.tensor([0.01, 0.1], dtype=torch.float64),
        "y": normal(2, 6, 3) * mask[..., None],
        "w": normal(2, 6, 3) * mask[..., None],
        "noised_thermostat": normal(2),
        "log_sigma": normal(2),
    }


def case(model: EGT, **changes: Tensor) -> Case:
    def function(
        y: Tensor, w: Tensor, noised_thermostat: Tensor, log_sigma: Tensor, **condition: Tensor
    ) -> dict[str, Tensor]:
        noised = torch.stack([y, w], -1)
        residuals, thermostat = model(Condition(**condition), noised, noised_thermostat, log_sigma)
        real = residuals * condition["mask"][..., None, None]
        return {"dy": real[..., 0], "dw": real[..., 1], "thermostat": thermostat}

    return Case(function, {**inputs(), **changes}, vectors=(*VECTORS, "dy", "dw"))


@pytest.mark.parametrize("changes", [{}, {"angular": False}, {"acceleration": False}])
def test_symmetries_and_padding(changes: dict[str, bool]) -> None:
    tried = case(network(**changes))
    check_symmetries(tried)
    check_padding(tried)
    for value in tried().values():
        assert value.abs().max() > 1e-3


def test_what_stands_on_padding_does_not_matter() -> None:
    tried = case(network())
    expected, mask = tried(), tried.inputs["mask"]
    other = dict(tried.inputs)
    for name in ("positions", *VECTORS):
        other[name] = torch.where(mask[..., None], other[name], 0.7)
    other["types"] = torch.where(mask, other["types"], 3)
    for name, value in tried(other).items():
        torch.testing.assert_close(value, expected[name])


LINE = torch.arange(6.0, dtype=torch.float64)[None, :, None] * torch.tensor([[[1.0, 0.5, -0.2]]])
ZERO = torch.zeros(2, 6, 3, dtype=torch.float64)


@pytest.mark.parametrize(
    "changes",
    [
        {"velocities": ZERO},
        dict.fromkeys(VECTORS, ZERO),
        {"positions": LINE.expand(2, 6, 3)},
        dict.fromkeys(("positions", *VECTORS), LINE.expand(2, 6, 3)),
    ],
    ids=["at rest", "no vectors", "collinear", "collinear, along the line"],
)
def test_gradients_are_finite_where_angles_are_not_defined(changes: dict[str, Tensor]) -> None:
    model = network()
    tried = case(model, **changes)
    check_finite_gradients(tried.function, tried.inputs, model)


def test_an_unknown_acceleration_is_not_seen() -> None:
    unknown = {"has_acceleration": torch.zeros(2, dtype=torch.float64)}
    tried = case(network(), **unknown)
    other = {**tried.inputs, "acceleration": 3 * tried.inputs["acceleration"]}
    for name, value in tried(other).items():
        torch.testing.assert_close(value, tried()[name])
    known = case(network())()
    assert (known["dy"] - tried()["dy"]).abs().max() > 1e-4


def test_the_acceleration_can_be_switched_off() -> None:
    tried = case(network(acceleration=False))
    other = {
        **tried.inputs,
        "acceleration": 3 * tried.inputs["acceleration"],
        "has_acceleration": torch.zeros(2, dtype=torch.float64),
    }
    for name, value in tried(other).items():
        torch.testing.assert_close(value, tried()[name])


def test_angular_features_can_be_switched_off() -> None:
    assert network().layers[0].directions == SMALL["directions"]
    assert network(angular=False).layers[0].directions == 0


@pytest.mark.parametrize(
    "name", ["types", "velocities", "acceleration", "thermostat", "lag", "y", "w", "log_sigma"]
)
def test_conditions_matter(name: str) -> None:
    tried = case(network())
    other = {**tried.inputs, name: (tried.inputs[name] + 1) % 5}
    assert (tried(other)["dy"] - tried()["dy"]).abs().max() > 1e-4


def test_all_parameters_are_used() -> None:
    """Data-parallel training refuses parameters without a gradient."""
    model = network()
    sum(value.square().sum() for value in case(model)().values()).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]


def test_compiles_without_graph_breaks() -> None:
    tried = case(network())
    compiled = torch.compile(tried.function, backend="eager", fullgraph=True)
    for name, value in compiled(**tried.inputs).items():
        torch.testing.assert_close(value, tried()[name])


@pytest.mark.parametrize("changes", [{"channels": 18}, {"vectors": 6}])
def test_heads_must_divide_both_widths(changes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must divide"):
        network(**changes)
