"""The force field as an ASE calculator: optimisation, vibrations, molecular dynamics with ASE."""

import warnings
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from forcefield.load import load_potential
from forcefield.propagator import forces_of
from shared.choice import unfamiliar
from shared.errors import InputError
from shared.run import checked_device
from shared.state import PhaseState

__all__ = ["TrajgenCalculator"]


class TrajgenCalculator(Calculator):
    """Energies, eV, with those of the isolated atoms, and forces, eV/Å.

    A molecule that the checkpoint was not trained on brings a warning.

    ::

        atoms.calc = TrajgenCalculator(checkpoint="3bpa")

    Args:
        checkpoint: name of a shipped force field, or a checkpoint folder.
        device: cpu or cuda.
        dtype: precision of the network, float32 or float64 (for vibrations and tight
            optimisations).
        compiled: compile for each number of atoms; it takes about half a minute and pays for some
            thousand evaluations.
        atoms, label, directory: of any ASE calculator.

    Raises:
        InputError: no such checkpoint, device or dtype; when it is asked for an energy: an element
            the checkpoint does not know, periodic boundary conditions, or an energy or forces that
            are not finite, as of two atoms in one place.
    """

    def __init__(
        self,
        checkpoint: str = "3bpa",
        device: str = "cpu",
        dtype: str = "float32",
        compiled: bool = False,
        *,
        atoms: Atoms | None = None,
        label: str | None = None,
        directory: str = ".",
    ) -> None:
        self.implemented_properties = ["energy", "free_energy", "forces"]
        super().__init__(atoms=atoms, label=label, directory=directory)
        if dtype not in ("float32", "float64"):
            raise InputError(f"dtype {dtype!r} is not known; choose float32 or float64")
        self.loaded = load_potential(checkpoint, getattr(torch, dtype), checked_device(device))
        self._forces_of = forces_of(self.loaded, compiled=compiled)
        self._forces: Any = None
        self._numbers: Any = None  # those that the forces are of
        self._device = device

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Evaluate; ASE calls this."""
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        if self.atoms.pbc.any():
            raise InputError(
                "periodic boundary conditions; only molecules are supported: atoms.pbc = False"
            )
        state = PhaseState(self.atoms.numbers, self.atoms.positions[None])
        if not np.array_equal(self._numbers, state.numbers):
            self._forces, self._numbers = self._forces_of(state), state.numbers
            remark = unfamiliar(self.loaded.config, state.numbers, self.atoms.positions)
            if remark is not None:
                warnings.warn(remark, stacklevel=2)
        positions = torch.tensor(state.positions, device=self._device)
        energy, forces = (values.detach().double().cpu() for values in self._forces(positions))
        if not (torch.isfinite(energy).all() and torch.isfinite(forces).all()):
            raise InputError(f"no finite energy and forces{_closest(self.atoms)}")
        self.results = {
            "energy": float(energy[0]),
            "free_energy": float(energy[0]),
            "forces": forces[0].numpy(),
        }


def _closest(atoms: Atoms) -> str:
    """Which atoms are closest, for a message."""
    if len(atoms) < 2:
        return ""
    first, second = np.triu_indices(len(atoms), 1)
    distances = np.linalg.norm(atoms.positions[first] - atoms.positions[second], axis=1)
    k = distances.argmin()
    return f": atoms {first[k]} and {second[k]} (from 0) are {distances[k]:.3g} Å apart"
