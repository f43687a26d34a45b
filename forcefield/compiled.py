"""Energies, forces and training steps as one flat graph of tensor operations, compiled.

`torch.compile` does not differentiate a compiled function twice, and forces are a derivative that
training differentiates again. So everything, backward passes included, is first traced with
`make_fx` into a graph that is all forward; the compiler then sees nothing to differentiate.

The trace bakes in shapes. It also holds `detach` nodes, which cut gradients if the graph is
differentiated once more (forces right, gradients of the weights wrong): they are removed.
Weights are inputs of the graph unless they are frozen, so that averaged weights can take their
place without a new trace.
"""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from forcefield.potential import energy_and_forces
from shared.errors import first_line

__all__ = [
    "compile_energy_forces",
    "compile_in_parts",
    "compile_training_step",
    "evaluator",
    "trace",
]

Tensors = tuple[Tensor, ...]

_log = logging.getLogger(__name__)

# What is evaluated again and again: weights are constants, and all is one C++ function, which is a
# fifth faster than calls from Python and lets go of the interpreter's lock, so that threads can
# evaluate parts side by side.
_FROZEN: dict[str, Any] = {"freezing": True, "cpp_wrapper": True}

# Pairs of atoms that a core evaluates at once: more fall out of its cache, and take longer.
_PAIRS_PER_THREAD = 1000


def trace(function: Callable[..., Sequence[Tensor]], *inputs: Tensor) -> GraphModule:
    """The operations of `function` on inputs of these shapes, without `detach`.

    Outputs are contiguous copies: compiled functions that return views of one tensor can fail.
    """

    def copied(*arguments: Tensor) -> list[Tensor]:
        return [out.clone(memory_format=torch.contiguous_format) for out in function(*arguments)]

    module = make_fx(copied)(*inputs)
    for node in list(module.graph.nodes):
        if node.op == "call_function" and node.target is torch.ops.aten.detach.default:
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def _compiled(module: GraphModule, freeze: bool) -> Callable[..., Tensors]:
    import torch._inductor.config as inductor

    inference = torch.compile(module, fullgraph=True, dynamic=False)
    settings = _FROZEN if freeze else {}

    def call(*inputs: Tensor) -> Tensors:
        nonlocal settings
        if not settings:
            with torch.no_grad():
                return tuple(inference(*inputs))
        with torch.no_grad(), inductor.patch(**settings):  # compiles; it is global, so no threads
            out = tuple(inference(*inputs))
        settings = {}
        return out

    return call


def _compiled_if_possible(module: GraphModule) -> Callable[..., Tensors]:
    """Compiled; where that fails at the first call, say for want of a compiler, a warning is logged
    and the trace runs as it is, with the same numbers."""
    run, tried = _compiled(module, freeze=False), False

    def plain(*inputs: Tensor) -> Tensors:
        with torch.no_grad():
            return tuple(module(*inputs))

    def call(*inputs: Tensor) -> Tensors:
        nonlocal run, tried
        if not tried:
            tried = True
            try:
                return run(*inputs)
            except Exception as error:  # whatever a compiler raises
                _log.warning("not compiled (%s): this will be slower", first_line(error))
                run = plain
        return run(*inputs)

    return call


def compile_energy_forces(
    potential: nn.Module,
    types: Tensor,
    positions: Tensor,
    atoms: Tensor,
    *,
    compiled: bool = True,
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Energies and forces of given molecules, as a function of their positions alone.

    Weights, types and atoms become constants: for dynamics, where only positions change.

    Args:
        potential: `forcefield.potential.Potential`, or anything called alike.
        types, atoms: [B, N].
        positions: [B, N, 3], an example of shape and dtype, Å.
        compiled: False: run the trace as it is.

    Returns:
        positions [B, N, 3] -> energies [B] (float64, eV, as `Potential.energy`) and forces
        [B, N, 3], eV/Å.
    """
    weights = {name: value.detach() for name, value in potential.named_parameters()}

    def energy(types: Tensor, x: Tensor, atoms: Tensor) -> Tensor:
        return functional_call(potential, weights, (types, x, atoms))

    def forces(x: Tensor) -> Tensors:
        return energy_and_forces(energy, types, x, atoms)

    module = trace(forces, positions.detach())
    run: Any = _compiled(module, freeze=True) if compiled else module

    def call(positions: Tensor) -> tuple[Tensor, Tensor]:
        energies, slope = run(positions)
        return energies, slope

    return call


def compile_in_parts(
    potential: nn.Module,
    types: Tensor,
    positions: Tensor,
    atoms: Tensor,
    *,
    compiled: bool = True,
    known: dict[Any, Callable[[Tensor], tuple[Tensor, Tensor]]] | None = None,
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """`compile_energy_forces` for replicas of one molecule, in parts that fit a core's cache.

    On a CPU with several threads, each of them evaluates its parts alone: nothing waits for the
    slowest at every operation, as it does where threads share one.

    Args:
        potential, positions, compiled: see there.
        types, atoms: [B, N], every row the same.
        known: parts compiled before, for the same potential; new ones are added.
    """
    known = {} if known is None else known
    replicas, n_atoms, _ = positions.shape
    on_cpu = positions.device.type == "cpu"
    workers = min(replicas, torch.get_num_threads()) if on_cpu else 1
    size = -(-replicas // workers)
    if on_cpu:
        size = min(size, max(1, _PAIRS_PER_THREAD // n_atoms**2))
    key = (tuple(types[0].tolist()), size, workers > 1, positions.dtype, compiled)
    if key not in known:
        known[key] = compile_energy_forces(
            potential, types[:size], positions[:size], atoms[:size], compiled=compiled
        )
    part = known[key]
    if size == replicas:
        return part
    # The last part overlaps the one before it.
    parts = [slice(first, first + size) for first in range(0, replicas - size, size)]
    parts.append(slice(replicas - size, replicas))
    pool = None
    if workers > 1:
        pool = ThreadPoolExecutor(workers, "replicas", torch.set_num_threads, (1,))
        # Code for one thread is compiled by one thread.
        pool.submit(part, positions[:size].detach()).result()

    def whole(positions: Tensor) -> tuple[Tensor, Tensor]:
        pieces = [positions[rows] for rows in parts]
        results = pool.map(part, pieces) if pool else map(part, pieces)
        energies = positions.new_empty(replicas, dtype=torch.float64)
        forces = torch.empty_like(positions)
        for rows, (energy, force) in zip(parts, results, strict=True):
            energies[rows], forces[rows] = energy, force
        return energies, forces

    return whole


def evaluator(
    potential: nn.Module, *, compiled: bool = True
) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Energies and forces of any molecules of one padded shape, with the weights of the moment.

    Args:
        potential: `forcefield.potential.Potential`, or anything called alike.
        compiled: False: plain eager.

    Returns:
        (types, positions, atoms) -> energies [B] and forces [B, N, 3]. It is traced and compiled at
        its first call and again for every new shape.
    """
    names = [name for name, _ in potential.named_parameters()]
    graphs: dict[Any, Callable[..., Tensors]] = {}

    def forces(types: Tensor, positions: Tensor, atoms: Tensor, *weights: Tensor) -> Tensors:
        given = dict(zip(names, weights, strict=True))

        def energy(types: Tensor, x: Tensor, atoms: Tensor) -> Tensor:
            return functional_call(potential, given, (types, x, atoms))

        return energy_and_forces(energy, types, positions, atoms)

    def call(types: Tensor, positions: Tensor, atoms: Tensor) -> tuple[Tensor, Tensor]:
        inputs = (types, positions, atoms, *(w.detach() for w in potential.parameters()))
        if not compiled:
            energies, slope = forces(*inputs)
            return energies, slope
        key = (positions.shape, positions.dtype)
        if key not in graphs:
            graphs[key] = _compiled_if_possible(trace(forces, *inputs))
        energies, slope = graphs[key](*inputs)
        return energies, slope

    return call


def compile_training_step(
    potential: nn.Module,
    loss: Callable[..., Sequence[Tensor]],
    *,
    compiled: bool = True,
) -> Callable[..., tuple[Tensors, Tensors]]:
    """Loss and its gradients with respect to the weights, as one graph.

    Args:
        potential: `forcefield.potential.Potential`, or anything called alike.
        loss: (energy, *batch) -> scalars, the first of which is differentiated; `energy` is the
            potential as a function of (types, positions, atoms), to be differentiated by
            `energy_and_forces` with create_graph.
        compiled: False: plain eager, which gives the same numbers.

    Returns:
        (*batch) -> the scalars, and the gradients in the order of `potential.parameters()`. It is
        traced and compiled at its first call and again for every new shape.
    """
    names = [name for name, _ in potential.named_parameters()]
    graphs: dict[Any, Callable[..., Tensors]] = {}

    def step(*inputs: Tensor) -> Tensors:
        batch, weights = inputs[: -len(names)], inputs[-len(names) :]
        with torch.enable_grad():
            leaves = [weight.detach().requires_grad_() for weight in weights]
            given = dict(zip(names, leaves, strict=True))

            def energy(types: Tensor, x: Tensor, atoms: Tensor) -> Tensor:
                return functional_call(potential, given, (types, x, atoms))

            values = loss(energy, *batch)
            gradients = torch.autograd.grad(
                values[0], leaves, allow_unused=True, materialize_grads=True
            )
        return (*(value.detach() for value in values), *gradients)

    def call(*batch: Tensor) -> tuple[Tensors, Tensors]:
        inputs = (*batch, *(weight.detach() for weight in potential.parameters()))
        if compiled:
            key = tuple((value.shape, value.dtype) for value in batch)
            if key not in graphs:
                graphs[key] = _compiled_if_possible(trace(step, *inputs))
            out = graphs[key](*inputs)
        else:
            out = step(*inputs)
        return out[: -len(names)], out[-len(names) :]

    return call
