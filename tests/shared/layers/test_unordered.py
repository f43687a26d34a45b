"""Unordered pairs: to a block and back, with exact gradients of first and second order."""

import pytest
import torch

from shared.layers.unordered import fold, spread


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_blocks_and_pairs(n: int) -> None:
    i, j = torch.triu_indices(n, n, 1)
    pairs, block = normal(2, n * (n - 1) // 2, 3), normal(2, n, n, 3)
    assert torch.equal(fold(block), block[:, i, j] + block[:, j, i])
    wide = spread(pairs, n)
    assert wide.shape == (2, n, n, 3)
    assert torch.equal(wide[:, i, j], pairs)
    assert torch.equal(wide, wide.transpose(1, 2))
    assert wide.diagonal(dim1=1, dim2=2).abs().sum() == 0


def test_gradients() -> None:
    pairs, block = normal(1, 6, 2), normal(1, 4, 4, 2)
    for function, x in ((lambda x: spread(x, 4).sin(), pairs), (lambda x: fold(x).sin(), block)):
        assert torch.autograd.gradcheck(function, x)
        assert torch.autograd.gradgradcheck(function, x)
