"""Local models: each turns an atom's surroundings within a cutoff into features.

All follow `forcefield.backbones.protocol.Backbone`; a config file chooses one by name.
"""

from forcefield.backbones.mace import MACE
from forcefield.backbones.nequip import NequIP

__all__ = ["BACKBONES"]

BACKBONES: dict[str, type] = {"mace": MACE, "nequip": NequIP}
