"""The energy of a molecule, and forces that are exactly its slope.

    E = Σ_i E0[Z_i] + Σ_i ( σ_{Z_i} ε_i + μ_{Z_i} ),  ε_i = MLP([ l_i ; z_i^(0)(T) ]),  F = −∂E/∂x.

l_i are the scalars of a local backbone (`forcefield.backbones`), z_i^(0)(T) those of the diffused
features (`forcefield.diffusion`), where there is a diffusion. The slope is taken by autograd
through everything, time integration included. E0 are energies of isolated atoms: totals are
thousands of eV, which float32 holds to a few meV, so E0 and μ are added in float64 and the network
predicts the rest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from ase.data import chemical_symbols
from torch import Tensor, nn

from forcefield.options import config_of, typed_config
from forcefield.priors import HydrogenWall, ShortRangeRepulsion
from shared.errors import InputError
from shared.layers.pairs import all_pairs

__all__ = ["Potential"]


class Potential(nn.Module):
    """A local backbone, an optional diffusion over all pairs, and the readout that joins them.

    Args:
        elements: atomic numbers it knows, increasing; `types` index this list.
        backbone: a name of `forcefield.backbones.BACKBONES`.
        backbone_config: options of the backbone's config.
        diffusion: options of `forcefield.diffusion.DiffusionConfig`; kind none: no diffusion.
        zbl: add `forcefield.priors.ShortRangeRepulsion`.
        hydrogen_wall: add `forcefield.priors.HydrogenWall`.
        readout_channels: width of the readout's hidden layer.
        e0: energies of the isolated atoms, in the order of the elements, eV.
        scale: σ of each element, eV.
        shift: μ of each element, eV.

    Raises:
        InputError: an unknown backbone, or an option that it or the diffusion does not have.
    """

    def __init__(
        self,
        elements: Sequence[int],
        backbone: str,
        backbone_config: Mapping[str, Any] | None = None,
        diffusion: Mapping[str, Any] | None = None,
        *,
        zbl: bool = False,
        hydrogen_wall: bool = False,
        readout_channels: int = 64,
        e0: Sequence[float] | None = None,
        scale: Sequence[float] | None = None,
        shift: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        from forcefield.backbones import BACKBONES

        if backbone not in BACKBONES:
            raise InputError(f"no backbone {backbone}; there are {', '.join(BACKBONES)}")
        kind = BACKBONES[backbone]
        self.elements = list(elements)
        self.name = backbone
        n = len(self.elements)
        self.backbone_config = typed_config(
            config_of(kind), backbone_config or {}, f"options of backbone {backbone}"
        )
        self.backbone = kind(n, self.backbone_config)
        self.diffusion_config, self.diffusion = _make_diffusion(n, diffusion or {"kind": "none"})
        self.repulsion = ShortRangeRepulsion(self.elements) if zbl else None
        self.wall = HydrogenWall(self.elements) if hydrogen_wall else None
        width = self.backbone.channels
        if self.diffusion is not None:
            width += self.diffusion.channels
        self.readout = Readout(width, readout_channels)
        self.readout_channels = readout_channels
        # Numbers, not buffers: they stay exact in float64 whatever the dtype of the network.
        self.e0 = [float(x) for x in (e0 if e0 is not None else [0.0] * n)]
        self.scale = [float(x) for x in (scale if scale is not None else [1.0] * n)]
        self.shift = [float(x) for x in (shift if shift is not None else [0.0] * n)]

    def energy(self, types: Tensor, positions: Tensor, atoms: Tensor) -> Tensor:
        """Energies without those of the isolated atoms [B], eV, float64.

        Args:
            types: index of each atom's element [B, N], any valid one in padding.
            positions: [B, N, 3], Å.
            atoms: [B, N] bool, False where there is padding.
        """
        pairs = all_pairs(positions, atoms)
        features = self.backbone(types, pairs)[0]
        if self.diffusion is not None:
            diffused = self.diffusion(types, pairs)[0].squeeze(-2)
            features = torch.cat([features, diffused], dim=-1)
        scale = positions.new_tensor(self.scale)[types]
        per_atom = scale * self.readout(features)
        for prior in (self.repulsion, self.wall):
            if prior is not None:
                per_atom = per_atom + prior(types, pairs)
        return self._summed(per_atom.double() + self._constants(self.shift, types), atoms)

    forward = energy

    def total_energy(self, types: Tensor, positions: Tensor, atoms: Tensor) -> Tensor:
        """Energies with those of the isolated atoms [B], eV, float64; arguments as `energy`."""
        return self.energy(types, positions, atoms) + self.isolated_energy(types, atoms)

    def isolated_energy(self, types: Tensor, atoms: Tensor) -> Tensor:
        """Σ_i E0[Z_i], [B], eV, float64."""
        return self._summed(self._constants(self.e0, types), atoms)

    def energy_and_forces(
        self, types: Tensor, positions: Tensor, atoms: Tensor, *, create_graph: bool = False
    ) -> tuple[Tensor, Tensor]:
        """`energy` [B], eV, float64, and forces −∂E/∂x [B, N, 3], eV/Å, in the dtype of positions.

        Args:
            create_graph: keep what is needed to differentiate the two.
        """
        return energy_and_forces(self, types, positions, atoms, create_graph=create_graph)

    def description(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Arguments that rebuild the model, as `CheckpointConfig.model` and `.normalisation`."""
        symbols = [chemical_symbols[z] for z in self.elements]
        model = {
            "elements": self.elements,
            "backbone": self.name,
            "backbone_config": asdict(self.backbone_config),
            "diffusion": asdict(self.diffusion_config) if self.diffusion else {"kind": "none"},
            "zbl": self.repulsion is not None,
            "hydrogen_wall": self.wall is not None,
            "readout_channels": self.readout_channels,
        }
        constants = {"e0": self.e0, "scale": self.scale, "shift": self.shift}
        return model, {
            name: dict(zip(symbols, values, strict=True)) for name, values in constants.items()
        }

    @classmethod
    def from_description(
        cls, model: Mapping[str, Any], normalisation: Mapping[str, Mapping[str, float]]
    ) -> "Potential":
        """The model that `description` describes, with random weights.

        Raises:
            InputError: as the constructor, or a constant is missing for an element.
        """
        symbols = [chemical_symbols[z] for z in model["elements"]]
        for name in ("e0", "scale", "shift"):
            if missing := [s for s in symbols if s not in normalisation.get(name, {})]:
                raise InputError(f"normalisation: {name} of {missing[0]} is missing")
        constants: dict[str, Any] = {
            name: [normalisation[name][symbol] for symbol in symbols]
            for name in ("e0", "scale", "shift")
        }
        return cls(**model, **constants)

    @staticmethod
    def _constants(values: Sequence[float], types: Tensor) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=types.device)[types]

    @staticmethod
    def _summed(per_atom: Tensor, atoms: Tensor) -> Tensor:
        return torch.where(atoms, per_atom, 0.0).sum(-1)


class Readout(nn.Module):
    """ε = w·s + MLP(s): linear, as in MACE's first layers, plus one hidden layer.

    Args:
        channels: width of the scalars s.
        hidden: width of the hidden layer.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, 1, bias=False)
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.SiLU(), nn.Linear(hidden, 1))

    def forward(self, scalars: Tensor) -> Tensor:
        """[B, N, channels] -> [B, N]."""
        return (self.linear(scalars) + self.mlp(scalars)).squeeze(-1)


def energy_and_forces(
    energy: Any, types: Tensor, positions: Tensor, atoms: Tensor, *, create_graph: bool = False
) -> tuple[Tensor, Tensor]:
    """Energies [B] of a function of (types, positions, atoms), and minus their slope [B, N, 3]."""
    with torch.enable_grad():
        x = positions.detach().requires_grad_()
        energies = energy(types, x, atoms)
        (slope,) = torch.autograd.grad(energies.sum(), x, create_graph=create_graph)
    return (energies if create_graph else energies.detach()), -slope


def _make_diffusion(n_types: int, options: Mapping[str, Any]) -> tuple[Any, Any]:
    """Config and module of a diffusion; the module is None for kind none."""
    if options.get("kind") == "none":
        return None, None
    from forcefield.diffusion import DiffusionConfig, GraphDiffusion

    config = typed_config(DiffusionConfig, options, "diffusion")
    return config, None if config.kind == "none" else GraphDiffusion(n_types, config)
