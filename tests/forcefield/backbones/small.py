"""Backbones small enough for checks in float64, of three kinds of atoms within 3 Å."""

from typing import TypeVar

import torch
from torch import nn

from forcefield.backbones.mace import MACE, MACEConfig
from forcefield.backbones.nequip import NequIP, NequIPConfig
from forcefield.backbones.segno import SEGNO, SEGNOConfig
from forcefield.backbones.visnet import ViSNet, ViSNetConfig
from shared.layers.tensor import building_in

CUTOFF = 3.0  # Å

Model = TypeVar("Model", bound=nn.Module)


def mace(**options: object) -> MACE:
    """Features of degree 1 between layers."""
    sizes = {"cutoff": CUTOFF, "channels": 4, "lmax": 2, "lmax_hidden": 1, "radial": (8,)}
    torch.manual_seed(0)
    with building_in(torch.float64):
        return MACE(3, MACEConfig(**sizes | {"neighbours": 4.0} | options))


def nequip(**options: object) -> NequIP:
    """Features of degree 2."""
    sizes = {"cutoff": CUTOFF, "channels": 4, "lmax": 2, "radial": (8,), "neighbours": 4.0}
    torch.manual_seed(0)
    with building_in(torch.float64):
        return NequIP(3, NequIPConfig(**sizes | options))


def segno(**options: object) -> SEGNO:
    """Three steps."""
    sizes = {"channels": 8, "vectors": 4, "steps": 3, "bessel": 4, "neighbours": 3.0}
    torch.manual_seed(0)
    return _with_biases(SEGNO(3, SEGNOConfig(**{"cutoff": CUTOFF} | sizes | options))).double()


def visnet(**options: object) -> ViSNet:
    """Vectors of degrees 1 and 2."""
    sizes = {"channels": 8, "layers": 3, "lmax": 2, "heads": 2, "n_basis": 4, "neighbours": 3.0}
    torch.manual_seed(0)
    return _with_biases(ViSNet(3, ViSNetConfig(**{"cutoff": CUTOFF} | sizes | options))).double()


def _with_biases(model: Model) -> Model:
    """Biases as training leaves them: at zero they would hide what is left over at the cutoff."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model
