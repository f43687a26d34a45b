"""Attention over padded batches: masks, lonely atoms, signed gates, equivariance."""

import pytest
import torch

from shared.layers.attention import (
    EquivariantAttention,
    attend_scalars,
    attend_vectors,
    masked_softmax,
    pair_mask,
)
from shared.layers.radial import BesselBasis, safe_norm, safe_unit
from tests.physics import Case, check_finite_gradients, check_padding, check_symmetries


def test_softmax_is_the_usual_one_on_what_is_left() -> None:
    logits = torch.randn(4, 6, dtype=torch.float64)
    mask = torch.rand(4, 6) > 0.4
    mask[0] = True
    mask[2] = False
    weights = masked_softmax(logits, mask, dim=-1)
    torch.testing.assert_close(weights[0], torch.softmax(logits[0], -1))
    torch.testing.assert_close(weights[1][mask[1]], torch.softmax(logits[1][mask[1]], -1))
    assert weights[2].abs().max() == 0
    assert weights[~mask].abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_softmax_gradient_is_finite_whatever_is_masked(dtype: torch.dtype) -> None:
    logits = torch.tensor([[1.0, float("inf"), 2.0], [float("nan")] * 3], dtype=dtype)
    logits.requires_grad_()
    mask = torch.tensor([[True, False, True], [False] * 3])
    masked_softmax(logits, mask, dim=-1)[:, 0].sum().backward()
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[~mask].abs().max() == 0


def test_pairs_leave_out_padding_and_the_atom_itself() -> None:
    pairs = pair_mask(torch.tensor([[True, True, False]]))
    assert pairs[0].tolist() == [[False, True, False], [True, False, False], [False] * 3]


def test_sums_are_the_explicit_sums_and_gates_can_push() -> None:
    generator = torch.Generator().manual_seed(0)
    weights, gates, values, vectors = (
        torch.randn(*shape, generator=generator)
        for shape in ((1, 3, 3, 2), (1, 3, 3, 2, 4), (1, 3, 3, 2, 5), (1, 3, 3, 4, 3))
    )
    expected = sum(weights[0, 1, j, 0] * values[0, 1, j, 0] for j in range(3))
    torch.testing.assert_close(attend_scalars(weights, values)[0, 1, 0], expected)
    summed = attend_vectors(weights, gates, vectors)
    expected = sum(
        weights[0, 1, j, 0] * gates[0, 1, j, 0, 2] * vectors[0, 1, j, 2] for j in range(3)
    )
    torch.testing.assert_close(summed[0, 1, 0, 2], expected)
    torch.testing.assert_close(attend_vectors(weights, -gates, vectors), -summed)


@pytest.fixture
def case() -> Case:
    torch.manual_seed(1)
    attention = EquivariantAttention(8, 4, 4, vectors_in=2, vectors_out=3, heads=2).double()
    basis = BesselBasis(5.0, 4)

    def function(positions, velocities, scalars, mask):
        edges = positions[:, None] - positions[:, :, None]
        features = basis(safe_norm(edges))
        vectors = torch.stack([safe_unit(edges), velocities[:, None].expand_as(edges)], dim=-2)
        features_out, vectors_out = attention(scalars, features, features, vectors, mask)
        return {"scalars": features_out, "vectors": vectors_out}

    inputs = {
        "positions": torch.randn(2, 5, 3, dtype=torch.float64),
        "velocities": torch.randn(2, 5, 3, dtype=torch.float64),
        "scalars": torch.randn(2, 5, 8, dtype=torch.float64),
        "mask": torch.ones(2, 5, dtype=torch.bool),
    }
    return Case(function, inputs, vectors=("velocities", "vectors"))


def test_attention_is_equivariant_and_ignores_padding(case: Case) -> None:
    check_symmetries(case)
    check_padding(case)
    assert case()["vectors"].abs().max() > 1e-3


def test_lonely_and_padded_atoms_get_zero_vectors(case: Case) -> None:
    mask = torch.tensor([[True, False, False, False, False], [True, True, True, False, False]])
    outputs = case({**case.inputs, "mask": mask})
    assert outputs["vectors"][0].abs().max() == 0
    assert outputs["vectors"][1, 3:].abs().max() == 0
    assert outputs["vectors"][1, :3].abs().max() > 0
    check_finite_gradients(case.function, {**case.inputs, "mask": mask})


def test_heads_must_divide_channels() -> None:
    with pytest.raises(ValueError, match="multiple of heads"):
        EquivariantAttention(10, 4, 4, heads=4)


def test_compiles_without_graph_breaks() -> None:
    attention = EquivariantAttention(8, 4, 4, heads=2)
    pairs = torch.randn(2, 5, 5, 4)
    inputs = (
        torch.randn(2, 5, 8),
        pairs,
        pairs,
        torch.randn(2, 5, 5, 1, 3),
        torch.ones(2, 5, dtype=torch.bool),
    )
    compiled = torch.compile(attention, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*inputs)[1], attention(*inputs)[1])
