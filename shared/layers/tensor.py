"""Real spherical harmonics and the edge tensor product, from e3nn, safe to use everywhere.

What is added to e3nn (Geiger and Smidt, arXiv:2207.09453): irreps are checked when a module is
built; directions of zero vectors (the diagonal of a dense pair tensor) have finite gradients; and
Clebsch-Gordan constants are made in the dtype in which the module will run, because a module built
in float32 and turned to double afterwards keeps their rounding (3e-9).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from e3nn import o3
from torch import Tensor, nn

from shared.layers.radial import safe_unit


@contextmanager
def building_in(dtype: torch.dtype) -> Iterator[None]:
    """Build e3nn modules inside this context to give their constants `dtype`."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class SphericalHarmonics(nn.Module):
    """Y_l(x/|x|) for l = 0..lmax, |Y_l|² = 2l + 1 (e3nn's `component` normalisation).

    Args:
        lmax: highest degree, at most 12.

    Attributes:
        irreps_out: 1x0e + 1x1o + 1x2e + ...
    """

    def __init__(self, lmax: int) -> None:
        super().__init__()
        degrees = list(range(lmax + 1))
        self.harmonics = o3.SphericalHarmonics(degrees, normalize=False, normalization="component")
        self.irreps_out: o3.Irreps = self.harmonics.irreps_out

    def forward(self, vectors: Tensor) -> Tensor:
        """Vectors [..., 3], axes ordered x, y, z -> [..., (lmax + 1)²]; at 0 only l = 0 is left."""
        return self.harmonics(safe_unit(vectors))


class EdgeTensorProduct(nn.Module):
    """Per channel, node features ⊗ edge harmonics, each path weighted by a radial network.

    The convolution of NequIP (Batzner et al., Nat. Commun. 2022, Eq. 7) before the sum over
    neighbours: m_ij = Σ_paths w_path(r_ij) [x_j ⊗ Y(r̂_ij)]. Only paths that parity and
    `irreps_wanted` allow are made.

    Args:
        irreps_nodes: of the node features, all with their own multiplicity.
        irreps_edges: of the edge features, multiplicity 1 each.
        irreps_wanted: degrees and parities to keep; their multiplicities are ignored.
        dtype: in which the module will run.

    Attributes:
        irreps_out: of the output, sorted; multiplicities follow from the paths.
        weight_numel: number of weights that each edge brings.

    Raises:
        ValueError: an edge irrep with multiplicity other than 1, or no path between the irreps.
    """

    def __init__(
        self,
        irreps_nodes: str | o3.Irreps,
        irreps_edges: str | o3.Irreps,
        irreps_wanted: str | o3.Irreps,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        nodes, edges = o3.Irreps(irreps_nodes), o3.Irreps(irreps_edges)
        kept = {irrep for _, irrep in o3.Irreps(irreps_wanted)}
        if any(multiplicity != 1 for multiplicity, _ in edges):
            raise ValueError(f"edge irreps must have multiplicity 1, got {edges}")
        paths = [
            (i, j, multiplicity, irrep)
            for i, (multiplicity, node) in enumerate(nodes)
            for j, (_, edge) in enumerate(edges)
            for irrep in node * edge
            if irrep in kept
        ]
        if not paths:
            raise ValueError(f"no path from {nodes} x {edges} to {o3.Irreps(irreps_wanted)}")
        unsorted = o3.Irreps([(multiplicity, irrep) for _, _, multiplicity, irrep in paths])
        self.irreps_out, position, _ = unsorted.sort()
        instructions = [(i, j, position[k], "uvu", True) for k, (i, j, _, _) in enumerate(paths)]
        with building_in(dtype):
            self.product = o3.TensorProduct(
                nodes,
                edges,
                self.irreps_out,
                sorted(instructions, key=lambda instruction: instruction[2]),
                shared_weights=False,
                internal_weights=False,
            )
        self.irreps_nodes, self.irreps_edges = nodes, edges
        self.weight_numel: int = self.product.weight_numel

    def forward(self, nodes: Tensor, edges: Tensor, weights: Tensor) -> Tensor:
        """Of each edge: features [..., dim], weights [..., weight_numel] -> messages [..., dim]."""
        return self.product(nodes, edges, weights)
