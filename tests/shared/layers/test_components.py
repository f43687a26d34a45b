"""Components, heads and bounded fields against plain tensor operations."""

import math

import pytest
import torch

from shared.layers.components import (
    add_components,
    at_receiver,
    at_sender,
    combine,
    dot,
    stack,
)
from shared.layers.heads import Heads
from shared.layers.normalisation import bounded, soft_length
from tests.physics import check_smooth_at


def field(seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 4, n, 6, generator=generator, dtype=torch.float64) for n in (1, 3)]


def test_components_are_the_field_at_either_end() -> None:
    x, y = field(0), field(1)
    difference = stack(combine(torch.sub, at_sender(x), at_receiver(y)))
    for actual, sender, receiver in zip(difference, x, y, strict=True):
        torch.testing.assert_close(actual, sender[:, None] - receiver[:, :, None])


def test_dot_and_sum() -> None:
    x, y = field(0)[1], field(1)[1]
    left, right = list(x.unbind(-2)), list(y.unbind(-2))
    torch.testing.assert_close(dot(left, right), (x * y).sum(-2))
    torch.testing.assert_close(torch.stack(add_components(left, right), -2), x + y)
    assert add_components([], right) == right


def test_heads() -> None:
    heads = Heads(6, 2).double()
    x = field(0)[0]
    expected = x.unflatten(-1, (2, 3)).sum(-1)
    torch.testing.assert_close(heads.sum(x), expected)
    torch.testing.assert_close(heads.spread(expected), expected.repeat_interleave(3, -1))
    torch.testing.assert_close(heads.collect(heads.spread(expected)), expected)
    with pytest.raises(ValueError, match="multiple"):
        Heads(6, 4)


def test_bounded_fields() -> None:
    x = field(0)
    for scale in (1e-6, 1e6):
        limited = bounded([scale * degree for degree in x])
        size = torch.cat(limited, -2).square().mean((-1, -2)).sqrt()
        raw = scale * torch.cat(x, -2).square().mean((-1, -2)).sqrt()
        torch.testing.assert_close(size, raw / (1 + raw.square()).sqrt())


def test_soft_length() -> None:
    x = field(0)[1]
    torch.testing.assert_close(soft_length(1e5 * x), 1e5 * x.norm(dim=-2), rtol=1e-4, atol=0)
    torch.testing.assert_close(soft_length(x), (1 + x.square().sum(-2)).sqrt() - 1)
    axis = torch.ones(3, 1, dtype=torch.float64) / math.sqrt(3)
    check_smooth_at(lambda r: soft_length(r * axis), 0.0, order=3, tolerance=1e-5)
