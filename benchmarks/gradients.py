"""python benchmarks/gradients.py: what are forces worth if the diffusion copies positions?

A public implementation of GGND hands its global branch a copy of the positions, which autograd does
not follow: the energy is right, its forces lack a part. Here the same is done to ours, on one test
frame of 3BPA at 300 K, in float64; beside both stand central differences of the energy. The weights
are random (those of `configs/forcefield/3bpa-mace-ggnd.yaml` before training, three seeds): what
counts is the ratio.

Data: TRAJGEN_DATA (3bpa).
"""

from _environment import ROOT as ROOT  # isort: split

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from _report import grid, number
from torch import Tensor, nn

from forcefield.potential import Potential
from forcefield.train import parser as training_parser
from shared.config import parse_config
from shared.data.three_bpa import load_3bpa
from shared.errors import InputError
from shared.layers.pairs import Pairs
from shared.layers.tensor import building_in

CONFIG = "configs/forcefield/3bpa-mace-ggnd.yaml"
SEEDS = (0, 1, 2)
STEP = 1e-4  # Å
AT_ONCE = 9  # molecules


class Copied(nn.Module):
    """A diffusion that sees a copy of the positions."""

    def __init__(self, diffusion: nn.Module) -> None:
        super().__init__()
        self.diffusion = diffusion
        self.channels = diffusion.channels

    def forward(self, types: Tensor, pairs: Pairs) -> Any:
        pairs = replace(pairs, vectors=pairs.vectors.detach(), distances=pairs.distances.detach())
        return self.diffusion(types, pairs)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; exit code 0, or 2 for bad input."""
    description = __doc__.split("\n\n")[0].split(": ")[1]
    argparse.ArgumentParser(description=description).parse_args(argv)
    try:
        print(measured())
    except InputError as error:
        print(f"benchmarks/gradients.py: {error}", file=sys.stderr)
        return 2
    return 0


def measured() -> str:
    """The table."""
    settings = parse_config(training_parser(), ["--config", str(Path(ROOT, CONFIG))])
    frames = load_3bpa("mixedT_300K_dev")
    elements = sorted(set(frames.numbers.tolist()))
    types = torch.tensor([[elements.index(z) for z in frames.numbers]])
    x = torch.from_numpy(frames.positions[:1])
    atoms = torch.ones_like(types, dtype=torch.bool)
    lines = [["eV/Å", "largest force", "off, positions followed", "off, positions copied"]]
    for seed in SEEDS:
        torch.manual_seed(seed)
        with building_in(torch.float64):
            model = Potential(
                elements,
                settings.backbone.name,
                settings.backbone.options,
                vars(settings.diffusion),
            ).requires_grad_(False)
        slope = -by_differences(model, types, x, atoms)
        followed = model.energy_and_forces(types, x, atoms)[1]
        model.diffusion = Copied(model.diffusion)
        copied = model.energy_and_forces(types, x, atoms)[1]
        errors = [(forces - slope).abs().max().item() for forces in (followed, copied)]
        largest = slope.abs().max().item()
        lines.append([f"seed {seed}", number(largest), *(f"{error:.2g}" for error in errors)])
    return grid(lines)


def by_differences(model: Potential, types: Tensor, x: Tensor, atoms: Tensor) -> Tensor:
    """dE/dx [1, N, 3], eV/Å."""
    size = x.numel()
    moved = torch.stack([x.flatten()] * (2 * size))
    moved[range(size), range(size)] += STEP
    moved[range(size, 2 * size), range(size)] -= STEP
    shape = (2 * size, *x.shape[1:])
    many = types.expand(2 * size, -1), moved.view(shape), atoms.expand(2 * size, -1)
    energies = torch.cat(
        [model.energy(*part) for part in zip(*(m.split(AT_ONCE) for m in many), strict=True)]
    )
    return ((energies[:size] - energies[size:]) / (2 * STEP)).view(x.shape)


if __name__ == "__main__":
    sys.exit(main())
