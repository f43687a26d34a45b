"""Multi-head equivariant attention over all pairs of atoms of dense padded batches.

Molecules of a batch are padded to N atoms; `mask` [B, N] is True on real atoms. Queries and keys
are per pair, so that edge features enter both (Wu and Li, DiffMD, AAAI 2023):

    α_ij = softmax_j( ⟨q_ij, k_ij⟩ / √d ),  j ≠ i, padding left out,
    scalars_i = Σ_j α_ij v_ij,   vectors_i = Σ_j α_ij g_ij x_ij,

with invariant q, k, v, g and equivariant x_ij. The gates g are signed: softmax weights alone, being
positive, could only ever pull along x_ij or only push. An atom with no partner gets zeros.
"""

import math

import torch
from torch import Tensor, nn


def pair_mask(mask: Tensor) -> Tensor:
    """Atoms [B, N] bool -> pairs [B, N, N] bool: both atoms real, and not the same."""
    itself = torch.eye(mask.shape[-1], dtype=torch.bool, device=mask.device)
    return mask.unsqueeze(-1) & mask.unsqueeze(-2) & ~itself


def masked_softmax(logits: Tensor, mask: Tensor, dim: int) -> Tensor:
    """Softmax over `dim` of the entries where `mask` is True; rows without any give zeros.

    Gradients are finite, and zero for what is masked, whatever value stands there.
    """
    lowest = torch.finfo(logits.dtype).min
    weights = torch.softmax(torch.where(mask, logits, lowest), dim)
    return torch.where(mask, weights, 0.0)


def attend_scalars(weights: Tensor, values: Tensor) -> Tensor:
    """Σ_j α_ij v_ij: weights [B, N, N, H], values [B, N, N, H, D] -> [B, N, H, D]."""
    return torch.einsum("bijh,bijhd->bihd", weights, values)


def attend_vectors(weights: Tensor, gates: Tensor, vectors: Tensor) -> Tensor:
    """Σ_j α_ij g_ij x_ij, signed, for H heads and V vectors per pair.

    Args:
        weights: α [B, N, N, H].
        gates: g [B, N, N, H, V], invariant, of either sign.
        vectors: x [B, N, N, V, 3], equivariant.

    Returns:
        [B, N, H, V, 3].
    """
    return torch.einsum("bijhv,bijvx->bihvx", weights.unsqueeze(-1) * gates, vectors)


class EquivariantAttention(nn.Module):
    """One attention: node scalars and pair features in, node scalars and vectors out.

    q_ij = W_q h_i + U_q f_ij, k_ij = W_k h_j + U_k f'_ij, v_ij = (W_v h_j) ⊙ (U_v [f_ij, f'_ij]),
    g_ij = W_g silu(v_ij), all heads apart; the heads' vectors are mixed linearly at the end. No
    residual connection and no normalisation: those are the caller's.

    Args:
        channels: C, width of the node scalars, a multiple of `heads`.
        query_features: width of f_ij.
        key_features: width of f'_ij.
        vectors_in: V, vectors per pair.
        vectors_out: vectors per atom.
        heads: H.

    Raises:
        ValueError: channels not a multiple of heads.
    """

    def __init__(
        self,
        channels: int,
        query_features: int,
        key_features: int,
        vectors_in: int = 1,
        vectors_out: int = 1,
        heads: int = 8,
    ) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"channels ({channels}) must be a multiple of heads ({heads})")
        self.heads = heads
        width = channels // heads
        self.node_query = nn.Linear(channels, channels)
        self.node_key = nn.Linear(channels, channels)
        self.node_value = nn.Linear(channels, channels)
        self.pair_query = nn.Linear(query_features, channels, bias=False)
        self.pair_key = nn.Linear(key_features, channels, bias=False)
        self.pair_value = nn.Linear(query_features + key_features, channels)
        self.gate = nn.Linear(width, vectors_in)
        self.mix_scalars = nn.Linear(channels, channels)
        self.mix_vectors = nn.Linear(heads * vectors_in, vectors_out, bias=False)

    def forward(
        self,
        scalars: Tensor,
        query_pairs: Tensor,
        key_pairs: Tensor,
        vectors: Tensor,
        mask: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Attend over all atoms of each molecule.

        Args:
            scalars: h [B, N, C].
            query_pairs: f [B, N, N, query_features], entry [b, i, j] belongs to i attending to j.
            key_pairs: f' [B, N, N, key_features].
            vectors: x [B, N, N, V, 3].
            mask: real atoms [B, N] bool.

        Returns:
            Scalars [B, N, C] and vectors [B, N, vectors_out, 3]; an atom without a partner, padding
            included, gets the bias of the last scalar layer and zero vectors.
        """
        query = self._split(self.node_query(scalars).unsqueeze(-2) + self.pair_query(query_pairs))
        key = self._split(self.node_key(scalars).unsqueeze(-3) + self.pair_key(key_pairs))
        pairs = self.pair_value(torch.cat([query_pairs, key_pairs], dim=-1))
        value = self._split(self.node_value(scalars).unsqueeze(-3) * pairs)
        logits = (query * key).sum(-1) / math.sqrt(query.shape[-1])
        weights = masked_softmax(logits, pair_mask(mask).unsqueeze(-1), dim=-2)
        gates = self.gate(nn.functional.silu(value))
        gathered = attend_vectors(weights, gates, vectors).flatten(-3, -2)
        mixed = torch.einsum("bicx,vc->bivx", gathered, self.mix_vectors.weight)
        return self.mix_scalars(attend_scalars(weights, value).flatten(-2)), mixed

    def _split(self, features: Tensor) -> Tensor:
        """[..., C] -> [..., H, C/H]."""
        return features.unflatten(-1, (self.heads, -1))
