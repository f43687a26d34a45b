"""Traced and compiled graphs give the energies, forces and gradients of plain eager code."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from forcefield import compiled
from forcefield.backbones import BACKBONES
from forcefield.compiled import (
    compile_energy_forces,
    compile_in_parts,
    compile_training_step,
    evaluator,
    trace,
)
from forcefield.potential import Potential, energy_and_forces
from tests.forcefield.potentials import batch, tiny

Tensors = tuple[Tensor, ...]


@pytest.fixture
def traced_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler takes half a minute; the trace is where gradients can go wrong."""
    monkeypatch.setattr(compiled, "_compiled", lambda module, freeze: module)


def loss(
    energy: Any, types: Tensor, positions: Tensor, atoms: Tensor, energies: Tensor, forces: Tensor
) -> Tensors:
    predicted, slopes = energy_and_forces(energy, types, positions, atoms, create_graph=True)
    off = (predicted - energies).square().mean()
    return off + (slopes - forces).square().sum(), off


def labelled(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    inputs = batch(dtype)
    generator = torch.Generator().manual_seed(2)
    energies = torch.randn(2, generator=generator, dtype=torch.float64)
    forces = torch.randn(inputs["positions"].shape, generator=generator, dtype=dtype)
    return [*inputs.values(), energies, forces]


def assert_close(ours: Any, theirs: Any) -> None:
    for mine, yours in zip(ours, theirs, strict=True):
        scale = max(1.0, yours.abs().max().item())
        torch.testing.assert_close(mine, yours, atol=1e-10 * scale, rtol=0)


def check_all(backbone: str, kind: str) -> None:
    model = tiny(backbone, kind).requires_grad_()
    inputs = batch()
    expected = model.energy_and_forces(**inputs)
    assert_close(evaluator(model)(*inputs.values()), expected)
    frozen = compile_energy_forces(model, **inputs)
    assert_close(frozen(inputs["positions"]), expected)
    moved = inputs["positions"] + 0.01
    moved[0, 0] += 0.05
    assert_close(frozen(moved), model.energy_and_forces(inputs["types"], moved, inputs["atoms"]))
    check_training_step(model)


def check_training_step(model: Potential) -> None:
    """Values and gradients of the weights."""
    eager, graph = (
        compile_training_step(model, loss, compiled=choice)(*labelled()) for choice in (False, True)
    )
    assert_close(graph[0], eager[0])
    assert_close(graph[1], eager[1])
    # And the plain way, through a graph that autograd keeps.
    total = loss(model.energy, *labelled())[0]
    assert_close(
        graph[1],
        torch.autograd.grad(
            total, list(model.parameters()), materialize_grads=True, allow_unused=True
        ),
    )


@pytest.mark.usefixtures("traced_only")
@pytest.mark.parametrize("backbone", BACKBONES)
def test_traced_training_steps_agree_with_eager(backbone: str) -> None:
    check_training_step(tiny(backbone, "full").requires_grad_())


@pytest.mark.slow
@pytest.mark.usefixtures("traced_only")
@pytest.mark.parametrize(
    ("backbone", "kind"),
    [("mace", "none"), ("nequip", "none"), ("segno", "full"), ("visnet", "full")],
)
def test_traces_agree_with_eager(backbone: str, kind: str) -> None:
    check_all(backbone, kind)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
def test_compiled_code_agrees_with_eager(backbone: str) -> None:
    check_all(backbone, "full")


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_compiled_parts_agree_with_eager(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(compiled, "_PAIRS_PER_THREAD", 1)
    model, inputs = tiny("mace"), batch()
    types, x, atoms = (value[:1].repeat(3, *[1] * (value.ndim - 1)) for value in inputs.values())
    x += 0.02 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    parts = compile_in_parts(model, types, x, atoms)
    for _ in range(3):
        assert_close(parts(x), model.energy_and_forces(types, x, atoms))
        x = x + 0.01


def test_parts_serve_any_number_of_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_PAIRS_PER_THREAD", 1)
    model, inputs = tiny("mace"), batch()
    known: dict = {}
    for replicas in (2, 5):
        types, x, atoms = (v[:1].repeat(replicas, *[1] * (v.ndim - 1)) for v in inputs.values())
        x += 0.02 * torch.arange(replicas, dtype=x.dtype)[:, None, None] * x
        parts = compile_in_parts(model, types, x, atoms, compiled=False, known=known)
        assert_close(parts(x), model.energy_and_forces(types, x, atoms))
    assert len(known) == 1


def test_a_trace_keeps_gradients() -> None:
    """Differentiated once more, it gives the gradients of the weights: no `detach` is left."""
    model, inputs = tiny("mace").requires_grad_(), batch()
    names = [name for name, _ in model.named_parameters()]

    def forces(*weights: Tensor) -> list[Tensor]:
        def energy(*arguments: Tensor) -> Tensor:
            given = dict(zip(names, weights, strict=True))
            return torch.func.functional_call(model, given, arguments)

        return list(energy_and_forces(energy, **inputs, create_graph=True))

    weights = list(model.parameters())
    module = trace(forces, *weights)
    assert not [node for node in module.graph.nodes if "detach" in str(node.target)]

    def gradients(function: Callable[..., Any]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(function(*weights)[1].square().sum(), weights, allow_unused=True)

    for ours, theirs in zip(gradients(module), gradients(forces), strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None and theirs is not None:
            assert_close([ours], [theirs])


@pytest.mark.usefixtures("traced_only")
def test_weights_can_change_without_a_new_trace() -> None:
    model, inputs = tiny("mace").requires_grad_(), batch()
    evaluate, step = evaluator(model), compile_training_step(model, loss)
    evaluate(*inputs.values())
    step(*labelled())
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.1)
    assert_close(evaluate(*inputs.values()), model.energy_and_forces(**inputs))
    assert_close(step(*labelled())[0], loss(model.energy, *labelled()))


@pytest.mark.usefixtures("traced_only")
def test_a_new_shape_is_traced_anew() -> None:
    model, inputs = tiny("mace"), batch()
    evaluate = evaluator(model)
    evaluate(*inputs.values())
    one = {name: value[:1] for name, value in inputs.items()}
    assert_close(evaluate(*one.values()), model.energy_and_forces(**one))


@pytest.mark.usefixtures("traced_only")
def test_outputs_are_contiguous_copies() -> None:
    model = tiny("mace").requires_grad_()
    values, gradients = compile_training_step(model, loss)(*labelled())
    for tensor in (*values, *gradients):
        assert tensor.is_contiguous()
        assert tensor._base is None
