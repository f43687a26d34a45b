"""Local models: each turns an atom's surroundings within a cutoff into features.

All follow `forcefield.backbones.protocol.Backbone`; a config file chooses one by name.
"""

from forcefield.backbones.mace import MACE
from forcefield.backbones.nequip import NequIP
from forcefield.backbones.segno import SEGNO
from forcefield.backbones.visnet import ViSNet

__all__ = ["BACKBONES"]

BACKBONES: dict[str, type] = {"mace": MACE, "nequip": NequIP, "segno": SEGNO, "visnet": ViSNet}
