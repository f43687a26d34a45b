"""GFN2-xTB dynamics of one closed-shell molecule: the engine, and three ensembles on it.

GFN2-xTB (Bannwarth, Ehlert, Grimme, J. Chem. Theory Comput. 15, 1652 (2019)) through tblite,
about 1 ms a frame. The self-consistent field starts afresh at every frame, so forces are a function
of the positions alone and a trajectory that is continued is the same trajectory, to the bit on one
thread.

Ensembles, each a splitting of one step δ into kicks v += δ F/m, drifts x += δ v, and a thermostat:

- ``nve``: velocity Verlet, ½ kick, drift, ½ kick;
- ``bussi``: the same, then velocities scaled by α (Bussi, Donadio, Parrinello, J. Chem. Phys. 126,
  014101 (2007)), which draws the kinetic energy from its canonical distribution within a time τ;
- ``langevin``: BAOAB (Leimkuhler, Matthews, Appl. Math. Res. Express 2013, 34), friction 1/τ.

Without Langevin's noise momentum and angular momentum are conserved; they are zero and temperatures
count the degrees of freedom that are left (3N − 6); Langevin's count 3N. Units: Å, fs, eV, K.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from shared.errors import InputError
from shared.kinetics import bussi_scale, kinetic_energy, maxwell_boltzmann, remove_momentum
from shared.state import Trajectory
from shared.units import (
    ACCELERATION,
    BOHR_IN_ANGSTROM,
    FS_PER_PS,
    HARTREE_IN_EV,
    KB_EV_PER_K,
    masses,
)

__all__ = [
    "ENSEMBLES",
    "XTBDynamics",
    "XTBEngine",
    "XTBSettings",
    "as_trajectory",
    "degrees_of_freedom",
    "from_smiles",
    "prepare",
    "quick_trajectory",
    "simulate",
    "stack_frames",
]

Float = npt.NDArray[np.float64]
Ensemble = Literal["nve", "bussi", "langevin"]

ENSEMBLES: tuple[Ensemble, ...] = ("nve", "bussi", "langevin")
HEAVIEST = 86  # GFN2-xTB has parameters up to radon
EQUILIBRATION_FS = 100.0  # relaxation time of the thermostat that prepares the start
WATER = (
    np.array([8, 1, 1]),
    np.array([[0.0, 0.0, 0.0], [0.7575, 0.5871, 0.0], [-0.7575, 0.5871, 0.0]]),
)


# --- the engine ---------------------------------------------------------------------------------


class XTBEngine:
    """GFN2-xTB energies and forces of one closed-shell molecule.

    Args:
        numbers: atomic numbers [N].
        charge: total charge, e.
        accuracy: tblite's; 0.1 leaves errors of 1e-6 hartree/bohr in the forces.
        warm_start: begin each self-consistent field with the last density: a fifth faster, but
            forces then depend, within ``accuracy``, on the frames before.

    Raises:
        InputError: tblite is not installed, the number of electrons is odd, or an element is beyond
            radon.
    """

    def __init__(
        self,
        numbers: npt.ArrayLike,
        charge: int = 0,
        accuracy: float = 0.1,
        warm_start: bool = False,
    ) -> None:
        try:
            from tblite.interface import Calculator
        except ImportError:
            raise InputError("tblite is not installed: pip install 'trajgen[reference]'") from None
        self.numbers = np.asarray(numbers, dtype=np.int64)
        self.accuracy = accuracy
        if (self.numbers.sum() - charge) % 2:
            raise InputError(
                f"an odd number of electrons at charge {charge}: only closed-shell molecules"
            )
        if self.numbers.max() > HEAVIEST:
            raise InputError(f"element {self.numbers.max()}: GFN2-xTB has none beyond {HEAVIEST}")
        # Any positions do here; every evaluation brings its own.
        somewhere = 3.0 * np.arange(self.numbers.size * 3, dtype=np.float64).reshape(-1, 3)
        self._calculator = Calculator("GFN2-xTB", self.numbers, somewhere, charge=float(charge))
        self._calculator.set("verbosity", 0)
        self._calculator.set("accuracy", accuracy)
        self._warm_start = warm_start
        self._last: Any = None

    def energy_and_forces(self, positions: npt.ArrayLike) -> tuple[float, Float]:
        """Energy in eV and forces [N, 3] in eV/Å at positions [N, 3] in Å.

        Raises:
            RuntimeError: the self-consistent field does not converge.
        """
        self._calculator.update(np.asarray(positions, dtype=np.float64) / BOHR_IN_ANGSTROM)
        result = self._calculator.singlepoint(self._last)
        self._last = result if self._warm_start else None
        forces = -result.get("gradient") * (HARTREE_IN_EV / BOHR_IN_ANGSTROM)
        return float(result.get("energy")) * HARTREE_IN_EV, forces


# --- the dynamics -------------------------------------------------------------------------------


@dataclass(frozen=True)
class XTBSettings:
    """What defines a trajectory besides its start.

    Attributes:
        ensemble: "nve", "bussi" or "langevin".
        temperature_K: of the thermostat and of the start.
        timestep_fs: integration step.
        interval_fs: time between stored frames, a multiple of the step.
        relaxation_fs: τ of the thermostat.
        equilibration_ps: time before the first frame, thermostatted (Langevin's where the ensemble
            is that, else Bussi's) with τ = 100 fs.
        charge: total charge, e.
        seed: of start velocities and thermostat.
    """

    ensemble: Ensemble = "nve"
    temperature_K: float = 500.0
    timestep_fs: float = 0.5
    interval_fs: float = 0.5
    relaxation_fs: float = 500.0
    equilibration_ps: float = 1.0
    charge: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.ensemble not in ENSEMBLES:
            raise InputError(f"no ensemble {self.ensemble}; there are {', '.join(ENSEMBLES)}")
        for name in ("temperature_K", "timestep_fs", "interval_fs", "relaxation_fs"):
            if not 0 < getattr(self, name) < np.inf:
                raise InputError(f"{name} must be positive, not {getattr(self, name)}")
        if not 0 <= self.equilibration_ps < np.inf:
            raise InputError(f"equilibration_ps must be 0 or more, not {self.equilibration_ps}")
        ratio = self.interval_fs / self.timestep_fs
        if abs(ratio - round(ratio)) > 1e-6 * ratio or round(ratio) < 1:
            raise InputError(
                f"interval_fs {self.interval_fs} is no multiple of timestep_fs {self.timestep_fs}"
            )

    @property
    def steps_per_frame(self) -> int:
        """Integration steps from one stored frame to the next."""
        return round(self.interval_fs / self.timestep_fs)


class XTBDynamics:
    """One molecule in motion: the current state, and ``step``.

    Args:
        engine: gives the forces.
        positions: [N, 3], Å.
        velocities: [N, 3], Å/fs.
        settings: the ensemble and its parameters.
        rng: drives the thermostat.

    Attributes:
        positions, velocities, forces: [N, 3], Å, Å/fs, eV/Å.
        energy: potential energy, eV.
        dof: degrees of freedom that temperatures count.
    """

    def __init__(
        self,
        engine: XTBEngine,
        positions: Float,
        velocities: Float,
        settings: XTBSettings,
        rng: np.random.Generator,
    ) -> None:
        self.engine, self.settings, self.rng = engine, settings, rng
        self._masses = masses(engine.numbers)
        self.positions, self.velocities = positions.copy(), velocities.copy()
        self.energy, self.forces = engine.energy_and_forces(positions)
        self.dof = degrees_of_freedom(positions, self._masses, settings.ensemble)

    def step(self) -> None:
        """Advance by one time step."""
        interval = self.settings.timestep_fs
        self._kick(interval / 2)
        if self.settings.ensemble == "langevin":
            self._drift(interval / 2)
            self._ornstein_uhlenbeck(interval)
            self._drift(interval / 2)
        else:
            self._drift(interval)
        self.energy, self.forces = self.engine.energy_and_forces(self.positions)
        self._kick(interval / 2)
        if self.settings.ensemble == "bussi":
            self._rescale(interval)

    def _kick(self, interval: float) -> None:
        self.velocities += interval * ACCELERATION * self.forces / self._masses[:, None]

    def _drift(self, interval: float) -> None:
        self.positions += interval * self.velocities

    def _ornstein_uhlenbeck(self, interval: float) -> None:
        """v ← c v + (1 − c²)^½ (kT/m)^½ ξ, c = exp(−δ/τ)."""
        keep = np.exp(-interval / self.settings.relaxation_fs)
        thermal = np.sqrt(KB_EV_PER_K * self.settings.temperature_K * ACCELERATION / self._masses)
        noise = self.rng.standard_normal(self.velocities.shape) * thermal[:, None]
        self.velocities = keep * self.velocities + np.sqrt(1 - keep**2) * noise

    def _rescale(self, interval: float) -> None:
        """v ← α v, with the α of `shared.kinetics.bussi_scale`."""
        keep = np.exp(-interval / self.settings.relaxation_fs)
        kinetic = float(kinetic_energy(self.velocities, self._masses))
        first = self.rng.standard_normal()
        others = self.rng.chisquare(self.dof - 1) if self.dof > 1 else 0.0
        thermal = KB_EV_PER_K * self.settings.temperature_K
        self.velocities *= bussi_scale(kinetic, thermal, keep, first, others)


def degrees_of_freedom(positions: Float, atomic_masses: Float, ensemble: Ensemble) -> int:
    """3N for Langevin; else without translation and rotation, 3N − 6 (3N − 5 if linear)."""
    if ensemble == "langevin":
        return positions.size
    extents = np.linalg.svd(remove_momentum(positions, atomic_masses), compute_uv=False)
    dimensions = int((extents > 1e-3).sum())  # that the molecule extends in: 1 if linear
    rotations = {0: 0, 1: 2}.get(dimensions, 3)
    return positions.size - 3 - rotations


def prepare(
    numbers: npt.ArrayLike,
    positions: Float,
    settings: XTBSettings,
    velocities: Float | None = None,
) -> XTBDynamics:
    """The dynamics at its first frame: velocities drawn if none are given, and equilibrated."""
    engine = XTBEngine(numbers, settings.charge)
    rng = np.random.default_rng(settings.seed)
    langevin = settings.ensemble == "langevin"
    if velocities is None:
        (velocities,) = maxwell_boltzmann(
            numbers,
            settings.temperature_K,
            rng,
            1,
            remove_momentum=not langevin,
            remove_rotation=not langevin,
            dof=degrees_of_freedom(positions, masses(numbers), settings.ensemble),
            positions=positions,
        )
    thermostatted = replace(
        settings,
        ensemble="langevin" if langevin else "bussi",
        relaxation_fs=EQUILIBRATION_FS,
    )
    warm_up = XTBDynamics(engine, positions, velocities, thermostatted, rng)
    for _ in range(round(settings.equilibration_ps * FS_PER_PS / settings.timestep_fs)):
        warm_up.step()
    return XTBDynamics(engine, warm_up.positions, warm_up.velocities, settings, rng)


def simulate(
    dynamics: XTBDynamics, n_frames: int, first_frame: int = 0
) -> Iterator[dict[str, Any]]:
    """Frames ``first_frame`` to ``n_frames`` − 1 of a trajectory.

    Args:
        dynamics: at frame 0, or at frame ``first_frame`` − 1 to go on from there.

    Yields:
        ``time_fs``, ``positions``, ``velocities``, ``forces`` [N, 3] and ``energy``; Å, fs, eV.

    Raises:
        RuntimeError: the molecule fell apart: a position is not finite or the self-consistent field
            does not converge.
    """
    settings = dynamics.settings
    for frame in range(first_frame, n_frames):
        time_fs = frame * settings.interval_fs
        if frame > 0:
            try:
                for _ in range(settings.steps_per_frame):
                    dynamics.step()
            except RuntimeError as error:
                raise RuntimeError(f"GFN2-xTB failed at {time_fs:g} fs: {error}") from error
        if not np.isfinite(dynamics.positions).all():
            raise RuntimeError(f"the molecule fell apart at {time_fs:g} fs")
        yield {
            "time_fs": time_fs,
            "energy": dynamics.energy,
            "positions": dynamics.positions.copy(),
            "velocities": dynamics.velocities.copy(),
            "forces": dynamics.forces.copy(),
        }


def stack_frames(frames: list[dict[str, Any]]) -> dict[str, Float]:
    """Frames as ``simulate`` yields them, as one array for each name."""
    return {name: np.array([frame[name] for frame in frames]) for name in frames[0]}


def as_trajectory(numbers: npt.ArrayLike, frames: dict[str, Float]) -> Trajectory:
    """Stacked frames as a trajectory."""
    return Trajectory(
        numbers=np.asarray(numbers, dtype=np.int64),
        positions=frames["positions"],
        times_fs=frames["time_fs"],
        velocities=frames["velocities"],
        forces=frames["forces"],
        energies=frames["energy"],
    )


def quick_trajectory(
    n_frames: int = 100,
    numbers: npt.ArrayLike | None = None,
    positions: npt.ArrayLike | None = None,
    settings: XTBSettings | None = None,
) -> Trajectory:
    """A short trajectory in memory, of water unless a molecule is given; for tests and examples.

    Args:
        n_frames: T.
        numbers, positions: [N] and [N, 3], Å.
        settings: default: NVE at 500 K without equilibration.
    """
    if numbers is None or positions is None:
        numbers, positions = WATER
    settings = settings or XTBSettings(equilibration_ps=0.0)
    dynamics = prepare(numbers, np.asarray(positions, dtype=np.float64), settings)
    return as_trajectory(numbers, stack_frames(list(simulate(dynamics, n_frames))))


def from_smiles(smiles: str, seed: int = 0) -> tuple[npt.NDArray[np.int64], Float, int]:
    """Numbers [N], positions [N, 3] in Å (ETKDG, then MMFF94) and charge of a SMILES.

    Raises:
        InputError: rdkit is not installed, cannot read the SMILES, or finds no geometry.
    """
    try:
        from rdkit import Chem, rdBase
        from rdkit.Chem import rdDistGeom, rdForceFieldHelpers
    except ImportError:
        raise InputError("rdkit is not installed: pip install 'trajgen[reference]'") from None
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles)
        if molecule is None or molecule.GetNumAtoms() == 0:
            raise InputError(f"{smiles!r} is not a SMILES that rdkit can read")
        molecule = Chem.AddHs(molecule)
        if rdDistGeom.EmbedMolecule(molecule, randomSeed=seed) != 0:
            raise InputError(f"rdkit finds no geometry for {smiles}; give one with --from")
        if rdForceFieldHelpers.MMFFHasAllMoleculeParams(molecule):
            rdForceFieldHelpers.MMFFOptimizeMolecule(molecule)
    numbers = np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()], dtype=np.int64)
    positions = np.asarray(molecule.GetConformer().GetPositions(), dtype=np.float64)
    return numbers, positions, Chem.GetFormalCharge(molecule)
