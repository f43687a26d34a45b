"""What the measurements of force fields share: settings, checkpoints, test frames and starts.

Networks run in float32, as they ship. 3BPA starts are evenly spaced test frames of a temperature,
or torsion scans built from a training frame, with Maxwell-Boltzmann velocities of that temperature
(of scans 300 K): they neither drift nor rotate, and temperatures count 3N − 6 degrees of freedom.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from _jobs import Skip
from _report import Row

from forcefield.integrators import ForceFunction
from forcefield.load import LoadedPotential, build, open_checkpoint
from forcefield.priors import priors_in
from forcefield.propagator import EnsembleKind, ForceProvider, forces_of
from shared.checkpoint import Checkpoint, CheckpointConfig
from shared.config import RESOLVED
from shared.data.extxyz import LabelledFrames
from shared.data.three_bpa import load_3bpa
from shared.data.torsion_scan import SCAN, torsion_scans
from shared.errors import InputError
from shared.kinetics import maxwell_boltzmann
from shared.metrics.stability import ReferenceBonds, bond_deviation, reference_bonds
from shared.state import PhaseState

Float = npt.NDArray[np.float64]

MEV = 1000.0  # per eV
BATCH = 16  # frames evaluated together
SEED = 20
TEMPERATURES = {"300K": 300, "600K": 600, "1200K": 1200}  # of the 3BPA test sets
STARTS = TEMPERATURES | {SCAN: 300}  # what simulations begin from, and its temperature


@dataclass(frozen=True)
class Settings:
    """What can be chosen on the command line.

    Attributes:
        frames: test frames of a set, evenly spaced; 0: all.
        replicas, stability_ps: of the long simulations.
        ensembles: nve, and others beside it.
        curve_frames: test frames of a set for each point of a learning curve; 0: all.
        order_ps: length of the simulations at three time steps.
        speed_s: seconds that each speed is measured for.
        speed_replicas: molecules in a batch.
        speed_threads: threads of both engines.
        effect_replicas: of the simulations that trained runs are compared by.
        effect_600_ps, effect_1200_ps: their lengths with MACE and ViSNet.
        effect_others_ps: length at 1200 K with the other backbones.
        engine: compiled, or eager.
        threads: of everything else.
        folder: where the long simulations are kept.
    """

    frames: int = 0
    replicas: int = 8
    stability_ps: float = 100.0
    ensembles: tuple[EnsembleKind, ...] = ("nve",)
    curve_frames: int = 20
    order_ps: float = 1.0
    speed_s: float = 20.0
    speed_replicas: int = 32
    speed_threads: int = 2
    effect_replicas: int = 4
    effect_600_ps: float = 10.0
    effect_1200_ps: float = 30.0
    effect_others_ps: float = 5.0
    engine: str = "compiled"
    threads: int = 1
    folder: Path = Path("runs/benchmark")


# --- a checkpoint -------------------------------------------------------------------------------


def identity(config: CheckpointConfig) -> str:
    """What makes the forces, and rows belong to: SHA-256 of the weights, and the names of terms
    without weights that are on."""
    return " ".join([config.weights_sha256, *priors_in(config.model)])


@dataclass(frozen=True, eq=False)
class Model:
    """A checkpoint of a force field; its weights are read when they are needed."""

    checkpoint: Checkpoint

    @property
    def name(self) -> str:
        """Its own name."""
        return self.checkpoint.config.name

    @property
    def weights(self) -> str:
        """`identity` of the checkpoint."""
        return identity(self.checkpoint.config)

    @cached_property
    def loaded(self) -> LoadedPotential:
        """With weights, in float32."""
        return build(self.checkpoint)

    @cached_property
    def _functions(self) -> dict[Any, ForceFunction]:
        return {}

    def forces(self, engine: str) -> ForceProvider:
        """Forces for dynamics; molecules of the same shape share what was compiled."""
        make = forces_of(self.loaded, compiled=engine == "compiled")

        def provider(start: PhaseState) -> ForceFunction:
            key = (engine, start.n_replicas, start.numbers.tobytes())
            if key not in self._functions:
                self._functions[key] = make(start)
            return self._functions[key]

        return provider

    def evaluate(self, numbers: npt.NDArray[np.int64], positions: Float) -> tuple[Float, Float]:
        """Energies [M], isolated atoms included, eV, and forces [M, N, 3], eV/Å.

        Raises:
            Skip: an element that the model does not know.
        """
        self.require(numbers)
        provider = forces_of(self.loaded, compiled=False)
        energies, forces = [], []
        for at in range(0, len(positions), BATCH):
            x = positions[at : at + BATCH]
            e, f = provider(PhaseState(numbers, x))(torch.from_numpy(x))
            energies.append(e.double().numpy())
            forces.append(f.double().numpy())
        return np.concatenate(energies), np.concatenate(forces)

    def require(self, numbers: npt.NDArray[np.int64]) -> None:
        """Raises Skip where the molecule has an element that the model does not know."""
        try:
            self.loaded.types_of(numbers)
        except InputError as error:
            raise Skip(str(error)) from None

    def row(self, protocol: str, system: str, data: str, **common: Any) -> Callable[..., Row]:
        """(metric, value, …) -> a row about this checkpoint, unless said."""
        common = {"model": self.name} | common
        return partial(Row, protocol=protocol, system=system, data=data, **common)


@lru_cache(maxsize=64)
def model(name_or_path: str) -> Model:
    """A shipped force field by name, or a folder.

    Raises:
        InputError: as `forcefield.load.open_checkpoint`.
    """
    return Model(open_checkpoint(name_or_path))


def run_setting(model: Model, key: str) -> Any:
    """A key of the section `run`, from the run folder that a checkpoint lies in; None where it has
    left it."""
    import yaml

    path = model.checkpoint.folder.resolve().parent / RESOLVED
    if not path.exists():
        return None
    return yaml.safe_load(path.read_text(encoding="utf-8")).get("run", {}).get(key)


# --- 3BPA ---------------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def bpa_frames(system: str) -> LabelledFrames:
    """The 3BPA test frames of a temperature."""
    return load_3bpa(f"test_{TEMPERATURES[system]}K")


def thinned(frames: LabelledFrames, count: int) -> LabelledFrames:
    """`count` frames, evenly spaced; 0, or more than there are: all."""
    if not 0 < count < len(frames):
        return frames
    return frames[_evenly(len(frames), count)]


def start(system: str, replicas: int) -> PhaseState:
    """Replicas of 3BPA, from one of `STARTS`.

    Raises:
        Skip: there are fewer structures than replicas.
    """
    numbers = load_3bpa("train_300K").numbers
    scan = system == SCAN
    x = torsion_scans(numbers, reference()[1]) if scan else bpa_frames(system).positions
    if replicas > len(x):
        raise Skip(f"3BPA {system} has {len(x)} structures for {replicas} replicas")
    kelvin = STARTS[system]
    rng = np.random.default_rng([SEED, kelvin])
    x = x[_evenly(len(x), replicas)]
    v = maxwell_boltzmann(
        numbers, kelvin, rng, replicas, remove_rotation=True, dof=dof(len(numbers)), positions=x
    )
    return PhaseState(numbers, x, velocities=v)


def dof(n_atoms: int) -> int:
    """Degrees of freedom that temperatures count: neither drift nor rotation is left."""
    return 3 * n_atoms - 6


@lru_cache(maxsize=1)
def reference() -> tuple[ReferenceBonds, Float]:
    """Bonds with their mean lengths over the training frames, and the frame [N, 3] nearest them."""
    frames = load_3bpa("train_300K")
    bonds = reference_bonds(frames.numbers, frames.positions[0], frames.positions)
    return bonds, frames.positions[bond_deviation(frames.positions, bonds).argmin()]


def _evenly(n: int, count: int) -> npt.NDArray[np.int64]:
    return np.linspace(0, n - 1, count).round().astype(np.int64)
