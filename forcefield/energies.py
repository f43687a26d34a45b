"""The energies of a run as a CSV file: one row for each frame and replica.

Rows reach the operating system frame by frame, before the trajectory's do, so a killed process
leaves at least the rows of the frames that it leaves. A run that is resumed cuts them back to
those.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from forcefield.propagator import ForceFieldPropagator, Observables
from shared.errors import InputError
from shared.state import PhaseState
from shared.units import FS_PER_PS

__all__ = ["COLUMNS", "EnergyLog", "read_energies"]

COLUMNS = ("time_ps", "replica", "potential_eV", "kinetic_eV", "temperature_K", "conserved_eV")
_HEADER = ",".join(COLUMNS) + "\n"


class EnergyLog:
    """Appends to the file; nothing is written before the first frame.

    Args:
        path: of the file.
        n_replicas: R.
        n_frames: frames that are there and stay; 0: begin anew, whatever is there.
    """

    def __init__(self, path: Path, n_replicas: int, n_frames: int = 0) -> None:
        self._path, self._rows = path, n_frames * n_replicas

    def begin(self) -> None:
        """Write the header, or cut the file back to the frames that stay.

        Raises:
            InputError: it has fewer.
            OSError: it cannot be written.
        """
        if self._rows == 0:
            self._path.write_text(_HEADER, encoding="ascii")
            return
        try:
            with open(self._path, "r+b") as file:
                for _ in range(self._rows + 1):
                    if not file.readline().endswith(b"\n"):
                        raise InputError(
                            f"{self._path}: has lost rows since it was written, so the run cannot "
                            "be resumed; start a new one"
                        )
                file.truncate(file.tell())
        except FileNotFoundError:
            raise InputError(f"{self._path}: no such file, so the run cannot be resumed") from None

    def following(
        self, propagator: ForceFieldPropagator, frames: Iterator[PhaseState]
    ) -> Iterator[PhaseState]:
        """The frames of a propagator; the rows of each are written before it is handed on.

        A frame without a whole replica has no rows: it is not part of the trajectory either.
        """
        for count, state in enumerate(frames):
            if count == 0:
                self.begin()
            assert propagator.observables is not None
            if state.alive is None or state.alive.any():
                self.append(state.time_fs, propagator.observables)
            yield state

    def append(self, time_fs: float, observables: Observables) -> None:
        """Add the rows of a frame."""
        o, time_ps = observables, time_fs / FS_PER_PS
        columns = (o.potential, o.kinetic, o.temperature, o.conserved)
        text = "".join(
            f"{time_ps:.6f},{replica},{u:.8f},{k:.8f},{kelvin:.3f},{conserved:.8f}\n"
            for replica, (u, k, kelvin, conserved) in enumerate(zip(*columns, strict=True))
        )
        with open(self._path, "ab", buffering=0) as file:
            size = file.tell()
            if file.write(text.encode()) < len(text):
                os.truncate(self._path, size)
                raise OSError(f"{self._path}: not all could be written; is the disk full?")


def read_energies(path: str | Path) -> dict[str, npt.NDArray[np.float64]]:
    """Column -> values [T, R] of a file that `EnergyLog` wrote."""
    rows = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)
    n_replicas = int(rows[:, 1].max()) + 1
    whole = len(rows) // n_replicas * n_replicas
    table = rows[:whole].reshape(-1, n_replicas, len(COLUMNS))
    return {name: table[..., k] for k, name in enumerate(COLUMNS)}
