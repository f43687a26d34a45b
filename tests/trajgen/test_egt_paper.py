"""The score network of the `paper` mode: symmetries, masks, degenerate geometry, switches."""

import pytest
import torch
from torch import Tensor

from tests.physics import Case, check_finite_gradients, check_padding, check_symmetries
from trajgen.egt_paper import PaperEGT

SMALL = {"channels": 16, "heads": 4, "layers": 2, "feed_forward": 32, "cutoff": 4.0}


def network(**changes: object) -> PaperEGT:
    torch.manual_seed(0)
    return PaperEGT(5, **{**SMALL, **changes}).double().eval()


def inputs() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return {
        "types": torch.randint(5, (2, 6), generator=generator),
        "mask": torch.tensor([[True] * 6, [True] * 4 + [False] * 2]),
        "positions": 1.5 * normal(2, 6, 3),
        "velocities": normal(2, 6, 3),
        "log_sigma": normal(2),
        "lag": torch.tensor([0.5, 5.0], dtype=torch.float64),
    }


def case(model: PaperEGT, **changes: Tensor) -> Case:
    def function(**arguments: Tensor) -> dict[str, Tensor]:
        return {"displacement": model(**arguments)}

    return Case(function, {**inputs(), **changes}, vectors=("velocities", "displacement"))


@pytest.mark.parametrize("angular", [True, False])
def test_symmetries_and_padding(angular: bool) -> None:
    tried = case(network(angular=angular))
    check_symmetries(tried)
    check_padding(tried)
    assert tried()["displacement"].abs().max() > 1e-3


def test_output_is_centred_and_zero_on_padding() -> None:
    displacement = case(network())()["displacement"]
    assert displacement.sum(1).abs().max() < 1e-12
    assert displacement[1, 4:].abs().max() == 0


def test_what_stands_on_padding_does_not_matter() -> None:
    model, padded = network(), inputs()
    expected = model(**padded)
    for name in ("positions", "velocities"):
        padded[name] = torch.where(padded["mask"][..., None], padded[name], 7.0)
    torch.testing.assert_close(model(**padded), expected)


LINE = torch.arange(6.0, dtype=torch.float64)[None, :, None] * torch.tensor([[[1.0, 0.5, -0.2]]])


@pytest.mark.parametrize(
    "changes",
    [
        {"velocities": torch.zeros(2, 6, 3, dtype=torch.float64)},
        {"positions": LINE.expand(2, 6, 3)},
        {"positions": LINE.expand(2, 6, 3), "velocities": LINE.expand(2, 6, 3)},
        {"positions": torch.zeros(2, 6, 3, dtype=torch.float64)},
        {"mask": torch.tensor([[True] + [False] * 5, [True] * 6])},
    ],
    ids=["at rest", "collinear", "collinear, along the line", "all in one point", "one atom"],
)
def test_gradients_are_finite_where_angles_are_not_defined(changes: dict[str, Tensor]) -> None:
    model = network()
    tried = case(model, **changes)
    check_finite_gradients(tried.function, tried.inputs, model)


def test_all_parameters_are_used() -> None:
    """Data-parallel training refuses parameters without a gradient."""
    model = network()
    model(**inputs()).square().sum().backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]


@pytest.mark.parametrize("name", ["velocities", "log_sigma", "lag", "types"])
def test_conditions_matter(name: str) -> None:
    model, changed = network(), inputs()
    before = model(**changed)
    changed[name] = (changed[name] + 1) % 5
    assert (model(**changed) - before).abs().max() > 1e-4


def test_angular_features_can_be_switched_off() -> None:
    """Without them only speeds matter to the features, and they are fewer."""
    with_angles, without = network(), network(angular=False)
    assert with_angles.basis.n_features == 12
    assert without.basis.n_features == 2


def test_pairs_can_repel_and_attract() -> None:
    """Weights are signed: of random networks, some close a pair at rest and some open it."""
    pair = {
        "types": torch.tensor([[0, 1]]),
        "mask": torch.ones(1, 2, dtype=torch.bool),
        "positions": torch.tensor([[[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]], dtype=torch.float64),
        "velocities": torch.zeros(1, 2, 3, dtype=torch.float64),
        "log_sigma": torch.zeros(1, dtype=torch.float64),
        "lag": torch.ones(1, dtype=torch.float64),
    }
    opened = set()
    for seed in range(12):
        torch.manual_seed(seed)
        model = PaperEGT(5, **SMALL).double().eval()
        opened.add((model(**pair)[0, 1, 0] > 0).item())
    assert opened == {True, False}


def test_defaults_are_the_papers() -> None:
    model = PaperEGT(4)
    assert len(model.layers) == 6
    assert model.types.embedding_dim == 128
    layer = model.layers[0]
    assert (layer.attention.heads, layer.dropout.p) == (8, 0.1)
    assert layer.feed_forward[1].out_features == 2048
    assert (model.basis.cutoff, model.basis.lmax, model.basis.mmax) == (1.6, 2, 2)


def test_compiles_without_graph_breaks() -> None:
    model = network()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(**inputs()), model(**inputs()))


def test_heads_must_divide_channels() -> None:
    with pytest.raises(ValueError, match="multiple of heads"):
        PaperEGT(4, channels=10, heads=4)
