"""Channels in heads: sums within a head as products with a constant matrix.

K channels are split evenly into H heads, one after the other. Everything stays K wide: a reduction
over the few channels of a head, or a broadcast back, would be the innermost loop of an otherwise
contiguous one.
"""

import torch
from torch import Tensor, nn

__all__ = ["Heads"]


class Heads(nn.Module):
    """Maps between values per head [..., H] and values per channel [..., K].

    Args:
        channels: K, a multiple of heads.
        heads: H.

    Raises:
        ValueError: channels is no multiple of heads.
    """

    membership: Tensor

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or channels % heads:
            raise ValueError(f"channels ({channels}) must be a multiple of heads ({heads})")
        self.heads = heads
        membership = torch.eye(heads).repeat_interleave(channels // heads, dim=1)
        self.register_buffer("membership", membership, persistent=False)

    def sum(self, of_channels: Tensor) -> Tensor:
        """[..., K] -> [..., H], the sum over the channels of each head."""
        return of_channels @ self.membership.T

    def spread(self, of_heads: Tensor) -> Tensor:
        """[..., H] -> [..., K], its head's value to each channel."""
        return of_heads @ self.membership

    def collect(self, of_channels: Tensor) -> Tensor:
        """[..., K], equal within each head -> [..., H]."""
        return of_channels.unflatten(-1, (self.heads, -1))[..., 0]
