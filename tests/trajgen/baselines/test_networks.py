"""The networks of the learned predictors: symmetries, masks, what they see, formulas of sources."""

import pytest
import torch
from torch import Tensor

from shared.errors import InputError
from shared.layers.attention import masked_softmax
from shared.layers.fields import Harmonics
from tests.physics import check_finite_gradients, check_padding, check_smooth_at, check_symmetries
from tests.trajgen.baselines.models import SMALL, build, case, condition, state
from trajgen.baselines import NETWORKS
from trajgen.baselines.egnn import EGNNLayer
from trajgen.baselines.geometry import Geometry, radial_basis
from trajgen.baselines.gmn import stick_motions, stickness
from trajgen.baselines.regression import RegressionConfig
from trajgen.baselines.rf import RadialFieldLayer
from trajgen.baselines.se3_transformer import AttentionMessages

every_network = pytest.mark.parametrize("name", NETWORKS)


@every_network
def test_symmetries_and_padding(name: str) -> None:
    tried = case(build(name))
    check_symmetries(tried)
    check_padding(tried)


@every_network
def test_the_network_adds_to_inertial_flight(name: str) -> None:
    model, s = build(name), state()
    c = condition(model)
    assert model.draw(c, "heun", 1).abs().max() > 1e-2
    model.network = torch.nn.Module()
    model.network.forward = lambda c: torch.zeros(2, 5, 3, 2, dtype=torch.float64)
    x, v, xi = model.decode(c, model.draw(c, "heun", 1))
    torch.testing.assert_close(x, s["positions"] + s["lag"][:, None, None] * s["velocities"])
    torch.testing.assert_close(v, s["velocities"])
    assert xi is None


@every_network
def test_momentum_is_conserved(name: str) -> None:
    model, s = build(name), state()
    c = condition(model)
    x, v, _ = model.decode(c, model.draw(c, "heun", 1))
    weight = (s["masses"] * s["mask"])[..., None]
    flight = s["positions"] + s["lag"][:, None, None] * s["velocities"]
    for change in (x - flight, v - s["velocities"]):
        assert change.abs().max() > 1e-2
        assert (weight * change).sum(1).abs().max() < 1e-12


@every_network
def test_what_stands_on_padding_does_not_matter(name: str) -> None:
    tried = case(build(name))
    expected, mask = tried(), tried.inputs["mask"]
    other = {key: value.clone() for key, value in tried.inputs.items()}
    for key in ("positions", "velocities"):
        other[key] = torch.where(mask[..., None], other[key], 0.7)
    other["types"] = torch.where(mask, other["types"], 2)
    for key, value in tried(other).items():
        torch.testing.assert_close(value, expected[key])


@every_network
def test_only_the_state_is_seen(name: str) -> None:
    """Neither acceleration, nor thermostat, nor noised rows, nor σ; types, x, v and lag are."""
    model = build(name)
    c = condition(model)
    expected = model.draw(c, "heun", 1)
    extra = {"acceleration": state()["velocities"], "thermostat": torch.ones(2).double()}
    other = condition(model, **extra)
    torch.testing.assert_close(model.draw(other, "heun", 1), expected)
    rows = torch.ones_like(expected)
    torch.testing.assert_close(model(c, rows, 3 * torch.ones(2).double()), expected)
    torch.testing.assert_close(model.draw(c, "predictor-corrector", 9), expected)
    for key in ("types", "positions", "velocities", "lag"):
        value = state()[key]
        changed = (value + 1) % 3 if key == "types" else 0.8 * value
        difference = model.draw(condition(model, **{key: changed}), "heun", 1) - expected
        assert difference.abs().max() > 1e-5, key


LINE = torch.arange(5.0, dtype=torch.float64)[None, :, None] * torch.tensor([[[1.0, 0.5, -0.2]]])


@every_network
@pytest.mark.parametrize(
    "changes",
    [
        {"velocities": torch.zeros(2, 5, 3, dtype=torch.float64)},
        {"positions": LINE.expand(2, 5, 3)},
    ],
    ids=["at rest", "collinear"],
)
def test_gradients_are_finite(name: str, changes: dict[str, Tensor]) -> None:
    model = build(name)
    tried = case(model, **changes)
    check_finite_gradients(tried.function, tried.inputs, model)


@every_network
def test_an_atom_alone_flies_on(name: str) -> None:
    model, s = build(name), state()
    alone = {key: value[:, :1] if value.ndim > 1 else value for key, value in s.items()}
    rows = model.draw(model.condition(**alone), "heun", 1)
    assert rows.abs().max() < 1e-12


@every_network
def test_all_parameters_are_used(name: str) -> None:
    """Data-parallel training refuses parameters without a gradient."""
    model = build(name)
    model.draw(condition(model), "heun", 1).square().sum().backward()
    assert not [key for key, p in model.named_parameters() if p.grad is None]


@every_network
def test_compiles_without_graph_breaks(name: str) -> None:
    model = build(name, layers=1, **({"lmax": 1} if "lmax" in SMALL[name] else {}))
    c = condition(model)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    rows, sigma = model.unchanged(c), torch.ones(2, dtype=torch.float64)
    torch.testing.assert_close(compiled(c, rows, sigma), model(c, rows, sigma))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"network": "scfnn"}, "no 'scfnn' here; choose egnn, rf, tfn, se3-transformer, gmn"),
        ({"network": "egnn", "heads": 2}, "regression.heads: egnn has none; leave it null"),
        ({"network": "rf", "layers": 0}, "regression.layers must be at least 1, got 0"),
        ({"network": "se3-transformer", "channels": 6, "heads": 4}, "multiple of heads"),
    ],
)
def test_bad_options(options: dict, says: str) -> None:
    with pytest.raises(InputError, match=says.replace("(", r"\(")):
        RegressionConfig(**options).build([1, 8])


def test_sizes_and_depth_are_options() -> None:
    for name, options in SMALL.items():
        network = RegressionConfig(name, **options).build([1, 8])
        assert len(network.layers) == 2
    assert len(RegressionConfig("gmn").build([1, 8]).layers) == 4


# -- formulas of the sources --------------------------------------------------------------------


def geometry() -> Geometry:
    s = state()
    return Geometry.of(s["positions"], s["mask"], radial_basis())


def test_egnn_is_its_sums() -> None:
    """Eq. 3-7 for the first molecule, pair by pair."""
    torch.manual_seed(2)
    layer, g, c = EGNNLayer(4).double(), geometry(), condition(build("egnn"))
    h = torch.randn(2, 5, 4, dtype=torch.float64)
    found_h, found_kick = layer(h, c, g)
    m = layer.messages
    x = state()["positions"][0]
    for i in range(5):
        gathered, pull = torch.zeros(4).double(), torch.zeros(3, 2).double()
        for j in (k for k in range(5) if k != i):
            radial = radial_basis()((x[j] - x[i]).norm())
            first = m.receiver(h[0, i]) + m.sender(h[0, j]) + m.pair(radial)
            message = torch.nn.functional.silu(m.mix(torch.nn.functional.silu(first)))
            gathered = gathered + message / 4
            pull = pull + (x[j] - x[i])[:, None] * layer.along(message) / 4
        new = h[0, i] + layer.update(torch.cat([h[0, i], gathered]))
        torch.testing.assert_close(found_h[0, i], new)
        own = c.velocities[0, i][:, None] * layer.velocity(new)
        torch.testing.assert_close(found_kick[0, i], pull + own)


def test_a_radial_field_is_along_the_lines_between_atoms_at_rest() -> None:
    torch.manual_seed(2)
    layer = RadialFieldLayer(4).double()
    s = {key: value[:, :2] if value.ndim > 1 else value for key, value in state().items()}
    s["velocities"] = torch.zeros(2, 2, 3, dtype=torch.float64)
    g = Geometry.of(s["positions"], s["mask"], radial_basis())
    h = torch.randn(2, 2, 4, dtype=torch.float64)
    same, kick = layer(h, build("rf").condition(**s), g)
    assert same is h
    line = (s["positions"][:, 1] - s["positions"][:, 0])[:, None, :, None]
    assert torch.linalg.cross(kick, line.expand_as(kick), dim=2).abs().max() < 1e-12
    assert kick.abs().max() > 1e-3


def test_keys_are_those_of_the_convolution() -> None:
    """α from keys [B, N, N, 2l + 1, K] that are made by convolving one neighbour at a time."""
    torch.manual_seed(2)
    layer, g = AttentionMessages(4, 2, 1, 2).double(), geometry()
    field = [torch.randn(2, 5, 2 * degree + 1, 4, dtype=torch.float64) for degree in range(3)]
    harmonics = Harmonics(4)(g.directions)
    found = layer.attention(field, harmonics, g)
    radial, query = layer.key_radial(g.radial), layer.query(field[:2])
    logits = []
    for j in range(5):
        weights = torch.zeros_like(radial)
        weights[:, :, j] = radial[:, :, j]
        paths = layer.convolution(layer.source(field), harmonics, weights)
        keys = [x.unflatten(-1, (-1, 4)).sum(-2) for x in paths]
        products = sum((q * k).sum(-2) for q, k in zip(query, keys, strict=True))
        logits.append(products.unflatten(-1, (2, 2)).sum(-1) / (4 * 4 / 2) ** 0.5)
    expected = masked_softmax(torch.stack(logits, 2), g.valid[..., None], 2)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found[0].sum(1), torch.ones(5, 2, dtype=torch.float64))


def test_bonds_are_sticks_smoothly() -> None:
    radii = torch.tensor([[0.76, 0.31]], dtype=torch.float64)

    def of(ratio: Tensor) -> Tensor:
        return stickness(ratio.expand(1, 2, 2) * 1.07, radii)[0, 0, 1]

    ratios = torch.tensor([0.9, 1.2, 1.35, 1.5, 2.4], dtype=torch.float64)
    expected = torch.tensor([1.0, 1.0, 0.5, 0.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(torch.stack([of(r) for r in ratios]), expected)
    for edge in (1.2, 1.5):
        check_smooth_at(of, edge, order=2, tolerance=1e-2)


def test_sticks_move_as_rigid_bodies() -> None:
    """Centre and rotation: no stretching, momentum kept, and rigid motions are left as they are."""
    g, s = geometry(), state()
    inverse_masses = 1 / s["masses"]
    changes = torch.randn(2, 5, 3, 2, dtype=torch.float64)
    centre, rotation = stick_motions(changes, inverse_masses, g.directions)
    pair = g.valid[..., None, None]
    total = (centre + rotation) * pair
    stretching = (total - total.transpose(1, 2)) * g.directions[..., None]
    assert stretching.sum(3).abs().max() < 1e-12
    m = s["masses"][:, :, None, None, None]
    momentum, free = m * total, m * changes[:, :, None] * pair
    torch.testing.assert_close(
        momentum + momentum.transpose(1, 2), free + free.transpose(1, 2), atol=1e-12, rtol=0
    )
    spin = torch.randn(3, dtype=torch.float64)
    rigid = torch.linalg.cross(spin.expand(2, 5, 3), s["positions"])[..., None] + 0.3
    again = sum(stick_motions(rigid, inverse_masses, g.directions))
    torch.testing.assert_close(again * pair, rigid[:, :, None].expand_as(again) * pair)
