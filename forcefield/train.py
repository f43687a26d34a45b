"""python -m forcefield.train --config FILE: train a potential, release the checkpoint.

The loss is that of energies and forces; loss and gradients, the second derivatives included, are
one compiled graph (`forcefield.compiled`).
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from shared.command import train_command
from shared.config import TrainingRun, check_values
from shared.errors import InputError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


@dataclass(frozen=True)
class BackboneConfig:
    """The local model.

    Args:
        name: of `forcefield.backbones.BACKBONES`.
        options: of that backbone's own config; what is left out has its default.
    """

    name: str = "mace"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PotentialConfig:
    """What the features become.

    Args:
        readout_channels: width of the readout's hidden layer.
        zbl: add a short-range repulsion of the nuclei.
        hydrogen_wall: add a wall before hydrogens that leave their bond, or share it.
        e0: energies of isolated atoms: fit (least squares), isolated (the file of 3bpa), or an
            extended xyz file of single atoms.
        scale: of atomic energies: global (rms force component), or element (that of each).
    """

    readout_channels: int = 64
    zbl: bool = False
    hydrogen_wall: bool = False
    e0: str = "fit"
    scale: Literal["global", "element"] = "global"

    def __post_init__(self) -> None:
        check_values(self, "potential", "readout_channels >= 1")


@dataclass(frozen=True)
class LossConfig:
    """What is asked of the potential. Errors count in units of the rms force component.

    Args:
        energy: weight of the energies from a training step on, as {step: weight}.
        forces: the same of the forces.
        response: the same of how far the errors of the forces move the atoms, squared
            (`forcefield.response`), in units of how far the forces themselves do.
        per_atom: energies count per atom.
        huber: error of energies and forces from which on the penalty grows linearly; null: squares.
    """

    energy: dict[int, float] = field(default_factory=lambda: {0: 1.0})
    forces: dict[int, float] = field(default_factory=lambda: {0: 1.0})
    response: dict[int, float] = field(default_factory=lambda: {0: 0.0})
    per_atom: bool = True
    huber: float | None = None

    def __post_init__(self) -> None:
        for name in ("energy", "forces", "response"):
            if 0 not in getattr(self, name):
                raise InputError(f"loss.{name} must say the weight from step 0 on")
        check_values(self, "loss", "energy >= 0", "forces >= 0", "response >= 0", "huber > 0")


@dataclass(frozen=True)
class RunConfig(TrainingRun):
    """The run.

    Args:
        batch_size: frames in a step, of each process.
        size_groups: molecules of how many sizes, at most, are padded to and compiled for; a batch
            is of one of them. 1: any molecules together, padded to the largest.
        validation_batch: frames evaluated at once in a validation.
        dtype: float32 or float64.
        monitor: what decides which weights are released, and the plateau schedule; val_loss is of
            squares, whatever `loss.huber`.
    """

    CONDITIONS: ClassVar[tuple[str, ...]] = (
        *TrainingRun.CONDITIONS,
        "batch_size >= 1",
        "size_groups >= 1",
        "validation_batch >= 1",
    )

    out: str = "runs/forcefield"
    name: str = "forcefield"
    steps: int = 20_000
    batch_size: int = 5
    size_groups: int = 1
    validation_batch: int = 10
    dtype: Literal["float32", "float64"] = "float32"
    monitor: Literal["val_f_rmse", "val_f_mae", "val_e_rmse", "val_loss"] = "val_f_rmse"


def parser(
    program: str = "python -m forcefield.train", description: str = __doc__.split("\n\n")[0]
) -> "ArgumentParser":
    """One option for each key of the config."""
    from forcefield.diffusion import DiffusionConfig
    from forcefield.labelled import DataConfig
    from shared.config import config_parser
    from shared.training import OptimiserConfig

    sections = {
        "data": DataConfig,
        "backbone": BackboneConfig,
        "diffusion": DiffusionConfig,
        "potential": PotentialConfig,
        "loss": LossConfig,
        "optimiser": OptimiserConfig,
        "run": RunConfig,
    }
    return config_parser(program, description, sections)


def main(argv: list[str] | None = None) -> int:
    """Command line; exit code 0 done, 2 bad input."""
    return train_command("forcefield.train", parser, train, argv)


def train(settings: Any) -> Path | None:
    """Train with the sections of a config; returns the folder of the released checkpoint."""
    import torch

    from forcefield.labelled import load_labelled, load_more
    from forcefield.training import Training, build_potential, release
    from shared.training import fit

    torch.set_flush_denormal(True)
    run = settings.run
    frames = load_labelled(settings.data, "train")
    more = load_more(settings.data)
    held_out = load_labelled(settings.data, "validation")
    if unseen := {f.path for f in held_out} & {f.path for f in more}:
        raise InputError(f"data.more: {min(unseen)} validates; leave it out of one of the two")
    seen = frames + more
    module = Training(build_potential(settings, seen), seen, held_out, settings)
    out = Path(run.out)
    files = sorted({f.path for f in [*seen, *held_out]})
    first = fit(module, settings, data=files)
    return release(module, settings, frames, more, out) if first else None


if __name__ == "__main__":
    sys.exit(main())
