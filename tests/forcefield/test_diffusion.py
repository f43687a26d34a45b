"""GGND: symmetries, size consistency, its equation written out, and its integration in time."""

import math
from collections.abc import Callable

import pytest
import torch
from e3nn import o3
from torch import Tensor, nn

from forcefield.diffusion import (
    DIFFUSIONS,
    SOLVERS,
    DiffusionConfig,
    GraphDiffusion,
    feature_shift,
)
from shared.errors import InputError
from shared.layers.fields import Harmonics
from shared.layers.normalisation import bounded
from shared.layers.pairs import Pairs, all_pairs
from tests.forcefield.checks import (
    Energy,
    check_float32,
    check_second_derivatives,
    check_size_consistent,
    check_smooth_at_cutoff,
    check_traceable,
)
from tests.forcefield.models import random_molecules
from tests.physics import (
    Case,
    check_finite_gradients,
    check_padding,
    check_symmetries,
    random_rotation,
)

KINDS = [kind for kind in DIFFUSIONS if kind != "none"]
EQUATIONS = [kind for kind in KINDS if kind != "message_passing"]
CUTOFF = 3.0
ORDERS = {"euler": 1, "midpoint": 2, "rk4": 4}


def small(kind: str = "full", **options: object) -> GraphDiffusion:
    torch.manual_seed(0)
    defaults = {"channels": 4, "heads": 2, "n_basis": 3, "cutoff": CUTOFF}
    module = GraphDiffusion(3, DiffusionConfig(kind=kind, **{**defaults, **options}))
    # Nothing at the special values of the start.
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return module.double()


def energy_of(module: nn.Module) -> Energy:
    def energy(types: Tensor, positions: Tensor, atoms: Tensor) -> Tensor:
        field = module(types, all_pairs(positions, atoms))
        return (field[0].sin().sum((-1, -2)) * atoms).sum(1)

    return energy


def molecules() -> tuple[Tensor, Pairs]:
    inputs = random_molecules()
    return inputs["types"], all_pairs(inputs["positions"], inputs["atoms"])


@pytest.mark.parametrize("kind", KINDS)
def test_fields_keep_the_symmetries(kind: str) -> None:
    module = small(kind)

    def fields(types: Tensor, positions: Tensor, atoms: Tensor) -> dict[str, Tensor]:
        field = module(types, all_pairs(positions, atoms))
        scalars, vectors = (x * atoms[..., None, None] for x in field)
        return {"scalars": scalars.flatten(2), "vectors": vectors.mT}

    case = Case(fields, random_molecules(), vectors=("vectors",), mask="atoms")
    assert case()["vectors"].std() > 0.01
    check_symmetries(case)
    check_padding(case)
    check_finite_gradients(fields, case.inputs, module)


@pytest.mark.parametrize("kind", ["full", "message_passing"])
def test_second_degree_turns_as_its_wigner_matrix(kind: str) -> None:
    module = small(kind, lmax=2)
    inputs = random_molecules((4,))
    rotation = random_rotation(torch.Generator().manual_seed(1))
    # Y(R x) = D Y(x), solved for D: e3nn's own conversion of R goes through float32.
    harmonics = Harmonics(2)
    points = nn.functional.normalize(torch.randn(20, 3).double(), dim=-1)
    before, after = harmonics(points)[2], harmonics(points @ rotation.T)[2]
    matrix = torch.linalg.lstsq(before, after).solution.T
    for sign in (1, -1):
        turned = all_pairs(sign * inputs["positions"] @ rotation.T, inputs["atoms"])
        actual = module(inputs["types"], turned)[2]
        expected = matrix @ module(inputs["types"], all_pairs(*list(inputs.values())[1:]))[2]
        assert expected.std() > 1e-3
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_far_molecules_are_independent(kind: str) -> None:
    check_size_consistent(energy_of(small(kind)), 1e-10)
    # exp(-100/4) of the longest reach that is allowed.
    check_size_consistent(energy_of(small(kind, decay_length=4.0)), 2e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_second_derivatives_are_finite(kind: str) -> None:
    module = small(kind)
    check_second_derivatives(energy_of(module), module)


@pytest.mark.parametrize("kind", KINDS)
def test_single_precision(kind: str) -> None:
    check_float32(lambda: small(kind), energy_of)


@pytest.mark.parametrize("kind", ["full", "message_passing"])
def test_one_graph(kind: str) -> None:
    check_traceable(energy_of(small(kind, steps=1)))


def test_local_is_smooth_at_its_cutoff_and_blind_beyond() -> None:
    energy = energy_of(small("local"))
    check_smooth_at_cutoff(energy, CUTOFF)
    types, atoms = torch.tensor([[0, 1]]), torch.ones(1, 2, dtype=torch.bool)
    apart = [
        energy(types, torch.tensor([[[0.0, 0, 0], [0, 0, r]]]).double(), atoms) for r in (3.1, 4.0)
    ]
    assert torch.equal(*apart)
    assert not torch.equal(
        *(
            energy_of(small("full"))(
                types, torch.tensor([[[0.0, 0, 0], [0, 0, r]]]).double(), atoms
            )
            for r in (3.1, 4.0)
        )
    )


def test_an_atom_alone_keeps_its_field() -> None:
    module = small("full")
    types = torch.tensor([[2]])
    pairs = all_pairs(torch.zeros(1, 1, 3).double(), torch.ones(1, 1, dtype=torch.bool))
    for actual, start in zip(module(types, pairs), module.initial(types, pairs), strict=True):
        torch.testing.assert_close(actual, start, rtol=0, atol=0)


@pytest.mark.parametrize("kind", EQUATIONS)
def test_weights_are_row_stochastic(kind: str) -> None:
    types, pairs = molecules()
    module = small(kind)
    weights = module.diffusivity(module.initial(types, pairs), pairs).weights
    torch.testing.assert_close(weights.sum(2), torch.ones_like(weights[:, :, 0]))
    assert (weights >= 0).all()
    # Padding neither gives nor takes.
    assert (weights[1, :3, 3:] == 0).all()
    assert (weights[1, 3:].diagonal(dim1=0, dim2=1) >= 0).all()


def test_scalar_flux_is_the_heat_equation() -> None:
    """W = 1: dz/dt = (α - 1) z, head by head."""
    types, pairs = molecules()
    module = small("scalar")
    with torch.no_grad():
        for weight in module.equation.gradient.weights:
            weight.copy_(torch.eye(len(weight)))
    field = module.initial(types, pairs)
    operator = module.diffusivity(field, pairs).weights - torch.eye(5)[None, ..., None]
    for flux, x in zip(module.flux(field, 0.0, pairs), field, strict=True):
        per_head = x.unflatten(-1, (2, -1))
        expected = torch.einsum("bijh,bjmhk->bimhk", operator, per_head).flatten(-2)
        torch.testing.assert_close(flux, expected)


def test_flux_is_the_formula() -> None:
    """The equation of the module's docstring, summed pair by pair with e3nn's 3j symbols."""
    types, pairs = molecules()
    module = small("full", lmax=2)
    equation, transform = module.equation, module.equation.transform
    field = module.initial(types, pairs)
    small_field = bounded(field)
    query, phi_i, phi_j = (
        f(small_field) for f in (equation.query, equation.receiver, equation.sender)
    )
    gradient = equation.gradient(field)
    harmonics = o3.spherical_harmonics([0, 1, 2], pairs.directions, normalize=False)
    harmonics = (harmonics * math.sqrt(4 * math.pi)).split([1, 3, 5], -1)
    radials = transform.radial(module.basis(pairs.distances)).split(4, -1)

    def product(path: tuple[int, int, int], rule: str, left: Tensor, right: Tensor) -> Tensor:
        table = o3.wigner_3j(*path, dtype=torch.float64) * math.sqrt(2 * path[2] + 1)
        return torch.einsum(rule, table, left, right)

    tensors = [torch.zeros(2, 5, 5, 2 * degree + 1, 4).double() for degree in range(3)]
    for path, radial in zip(transform.paths, radials, strict=True):
        l1, l2, l3 = path
        phi = phi_i[l2][:, :, None] + phi_j[l2][:, None]
        coupled = product(path, "abc,...a,...bk->...ck", harmonics[l1], phi)
        tensors[l3] = tensors[l3] + radial[..., None, :] * coupled
    overlap = sum((q[:, :, None] * s).sum(-2) for q, s in zip(query, tensors, strict=True))
    overlap = overlap.unflatten(-1, (2, 2)).sum(-1) / math.sqrt(9 * 2)
    logits = 5.0 * torch.tanh(overlap / 5.0)
    beta = 0.4 + torch.nn.functional.softplus(equation.attraction.extra)
    logits = logits - beta * pairs.distances[..., None]
    own = 5.0 * torch.tanh(equation.self_logit(small_field[0].squeeze(-2)) / 5.0)
    eye = torch.eye(5, dtype=torch.bool)[None, ..., None]
    logits = torch.where(eye, own[:, :, None], logits)
    logits = torch.where(pairs.valid[..., None] | eye, logits, -torch.inf)
    weights = torch.softmax(logits, dim=2)
    torch.testing.assert_close(module.diffusivity(field, pairs).weights, weights)

    per_channel = weights.repeat_interleave(2, -1)[..., None, :]
    edges = [x[:, None] - x[:, :, None] for x in gradient]
    flux = [(per_channel * x).sum(2) for x in edges]
    for path, scale in zip(equation.paths, equation.path_weights, strict=True):
        l1, l2, l3 = path
        coupled = product(path, "abc,...ak,...bk->...ck", tensors[l1], edges[l2])
        flux[l3] = flux[l3] + (per_channel * scale * coupled).sum(2)
    for actual, expected in zip(module.flux(field, 0.0, pairs), flux, strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("solver", SOLVERS)
def test_steps_converge_to_the_adaptive_solution(solver: str) -> None:
    from torchdiffeq import odeint

    types, pairs = molecules()
    module = small("full", solver=solver, time=1.0)
    rate = module.rate(pairs)
    start = tuple(x.detach() for x in module.initial(types, pairs))
    with torch.no_grad():
        solution = odeint(
            lambda t, z: tuple(rate(list(z), t)),
            start,
            torch.tensor([0.0, 1.0]).double(),
            method="dopri5",
            rtol=1e-10,
            atol=1e-12,
        )
        exact = torch.cat([x[-1] for x in solution], -2)
        errors = []
        for steps in (8, 16):
            stepped = small("full", solver=solver, time=1.0, steps=steps)
            errors.append((torch.cat(stepped(types, pairs), -2) - exact).norm())
    # Another number of steps is not another module.
    assert errors[0] > 1e-9
    order = math.log2(errors[0] / errors[1])
    assert order == pytest.approx(ORDERS[solver], abs=0.4)
    assert errors[1] / exact.norm() < 0.05


def test_no_time_no_change() -> None:
    types, pairs = molecules()
    module = small("full", time=0.0)
    torch.testing.assert_close(module(types, pairs), module.initial(types, pairs))


@pytest.mark.parametrize("kind", KINDS)
def test_features_shift_with_the_diffusivity(kind: str) -> None:
    inputs = random_molecules()
    positions, atoms, types = inputs["positions"], inputs["atoms"], inputs["types"]
    change = torch.randn(positions.shape, generator=torch.Generator().manual_seed(3)).double()

    def shift(size: float, same_start: bool = True) -> tuple[Tensor, Tensor]:
        moved = all_pairs(positions + size * change, atoms)
        return feature_shift(small(kind), types, all_pairs(positions, atoms), moved, same_start)

    assert all((x == 0).all() for x in shift(0.0))
    ratios = [features / operator for features, operator in (shift(1e-3), shift(1e-4))]
    assert (ratios[0] > 0).all()
    torch.testing.assert_close(ratios[0], ratios[1], rtol=0.05, atol=0)
    assert (shift(1e-3, same_start=False)[0] > 0).all()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"kind": "ful"}, "kind"),
        ({"solver": "RK45"}, "solver"),
        ({"channels": 6, "heads": 4}, "channels"),
        ({"decay_length": 5.0}, "decay_length"),
        ({"distance_decay": 0.1}, "distance_decay"),
        ({"steps": 0}, "steps"),
        ({"n_basis": 1}, "n_basis"),
        ({"time": -1.0}, "time"),
    ],
)
def test_bad_options(options: dict[str, object], named: str) -> None:
    with pytest.raises(InputError, match=rf"diffusion\.{named}"):
        DiffusionConfig(**options)


def test_none_and_message_passing_have_no_flux() -> None:
    with pytest.raises(ValueError, match="none"):
        GraphDiffusion(3, DiffusionConfig(kind="none"))
    _, pairs = molecules()
    call: Callable[[Pairs], object] = small("message_passing").rate
    with pytest.raises(ValueError, match="message_passing"):
        call(pairs)
