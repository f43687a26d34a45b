"""Terms with nothing to learn, for where a network has seen nothing: pressed and broken bonds.

The repulsion reaches into bonds, so that a network learns what is left beside it. The wall is zero
where every hydrogen has its bond: what a network learns from such frames does not depend on it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from ase.data import covalent_radii
from torch import Tensor, nn

from shared.layers.pairs import Pairs
from shared.layers.radial import polynomial_envelope
from shared.units import BOHR_IN_ANGSTROM, HARTREE_IN_EV

__all__ = ["PRIORS", "HydrogenWall", "ShortRangeRepulsion", "priors_in"]

# Options of a potential that turn these terms on; they have no weights. The number changes with
# the formula or its constants.
PRIORS = {"zbl": 1, "hydrogen_wall": 2}


def priors_in(model: Mapping[str, Any]) -> list[str]:
    """Those that the `model` of a checkpoint's config turns on, as "hydrogen_wall-2": what makes
    its forces beside its weights."""
    return [f"{name}-{number}" for name, number in PRIORS.items() if model.get(name)]


class ShortRangeRepulsion(nn.Module):
    """Ziegler-Biersack-Littmark repulsion of nuclei, faded out at the length of a bond.

    V(r) = e²/(4πε0) Z_i Z_j / r · φ(r/a) u(r/c), with a = 0.8854 a0 / (Z_i^0.23 + Z_j^0.23), φ the
    universal screening function (Ziegler, Biersack, Littmark, The Stopping and Range of Ions in
    Solids, 1985), u the `polynomial_envelope` and c the sum of the covalent radii.

    Args:
        elements: atomic numbers, in the order of the type indices.
    """

    numbers: Tensor
    radii: Tensor

    _SCREENING = ((0.18175, 3.19980), (0.50986, 0.94229), (0.28022, 0.40290), (0.02817, 0.20162))

    def __init__(self, elements: Sequence[int]) -> None:
        super().__init__()
        numbers = torch.tensor(list(elements), dtype=torch.get_default_dtype())
        radii = torch.tensor([covalent_radii[z] for z in elements], dtype=numbers.dtype)
        self.register_buffer("numbers", numbers, persistent=False)
        self.register_buffer("radii", radii, persistent=False)

    def forward(self, types: Tensor, pairs: Pairs) -> Tensor:
        """Half of the energy of its pairs for each atom, eV, [B, N]."""
        z, radius = self.numbers[types], self.radii[types]
        r = pairs.distances
        length = 0.8854 * BOHR_IN_ANGSTROM / (z.pow(0.23)[:, :, None] + z.pow(0.23)[:, None, :])
        screening = sum(c * torch.exp(-k * r / length) for c, k in self._SCREENING)
        envelope = polynomial_envelope(r / (radius[:, :, None] + radius[:, None, :]))
        charges = HARTREE_IN_EV * BOHR_IN_ANGSTROM * z[:, :, None] * z[:, None, :]
        energies = charges / r * screening * envelope
        return 0.5 * torch.where(pairs.valid, energies, 0.0).sum(-1)


class HydrogenWall(nn.Module):
    """What a hydrogen has to climb that leaves its bond, or takes a second partner.

    A network that saw bonds near their minimum is flat, or falls, where they are long, and rises
    too little where atoms that are not bound are close. For every hydrogen i

        W_i = s x³ / (x² + b²) + p Σ_{j<k} e_ij e_ik,   x = max(û_i − u0, 0),
        û_i = −(1/β) ln( e^{−β u∞} + Σ_j e^{−β u_ij} ),   u_ij = r_ij / (R_i + R_j),

    where û_i is a smooth least distance from any other atom, in units of the sum of the covalent
    radii R, and at most u∞, and e falls from 1 at u1 to 0 at u2 (`polynomial_envelope`). Nothing is
    said about which bond: a hydrogen may change its partner, at a price of at most p.
    Ours, of no paper. In the frames of 3BPA that train, at 300 K, the nearest atom is at u ≤ 1.14
    and the second nearest at u ≥ 1.73, in those at 1200 K at ≤ 1.23 and ≥ 1.64: W is 0 there. s, b
    and u∞ bring the sum of network and wall to within 0.5 eV of GFN2-xTB for bonds that break, and
    p, u1 and u2 their medians to within 1 eV for hydrogens between two atoms, of frames at 1200 K
    (`benchmarks/bond_scan.py`). W'' is continuous. A hydrogen that is alone has W(u∞), 2.9 eV; two
    that were one molecule have twice that.

    Args:
        elements: atomic numbers, in the order of the type indices.
    """

    radii: Tensor
    is_hydrogen: Tensor

    _BEGIN, _END = 1.3, 2.2  # u0, u∞
    _SLOPE, _SOFTNESS = 3.5, 0.25  # s in eV, b
    _SHARPNESS = 20.0  # β
    _SHARED, _BOUND, _APART = 4.0, 1.0, 1.5  # p in eV, u1, u2

    def __init__(self, elements: Sequence[int]) -> None:
        super().__init__()
        dtype = torch.get_default_dtype()
        radii = torch.tensor([covalent_radii[z] for z in elements], dtype=dtype)
        self.register_buffer("radii", radii, persistent=False)
        hydrogen = torch.tensor([z == 1 for z in elements], dtype=dtype)
        self.register_buffer("is_hydrogen", hydrogen, persistent=False)

    def forward(self, types: Tensor, pairs: Pairs) -> Tensor:
        """The energy of each atom, eV, [B, N]; 0 of all but hydrogens, and in padding."""
        radius, beta = self.radii[types], self._SHARPNESS
        scaled = pairs.distances / (radius[:, :, None] + radius[:, None, :])
        near = torch.where(pairs.valid, torch.exp(-beta * (scaled - self._BEGIN)), 0.0).sum(-1)
        nobody = math.exp(-beta * (self._END - self._BEGIN))
        x = (-torch.log(near + nobody) / beta).clamp(min=0.0)
        leaving = self._SLOPE * x**3 / (x**2 + self._SOFTNESS**2)
        closer = ((scaled - self._BOUND) / (self._APART - self._BOUND)).clamp(min=0.0)
        partner = torch.where(pairs.valid, polynomial_envelope(closer), 0.0)
        others = partner.sum(-1, keepdim=True) - partner
        sharing = 0.5 * self._SHARED * (partner * others).sum(-1)
        return (leaving + sharing) * self.is_hydrogen[types] * pairs.atoms
