"""How a run goes: temperature, bonds and distance from the start, frame by frame, and the verdict.

Kept in bounded memory, as JSON can hold it, and with the state from which a run is resumed, so that
the verdict and the picture (`shared.plot`) of a resumed run are those of an uninterrupted one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.kinetics import temperature
from shared.metrics.armse import superpose
from shared.metrics.stability import THRESHOLD, bond_deviation, reference_bonds
from shared.state import PhaseState
from shared.units import FS_PER_PS, masses

__all__ = ["RunRecord", "Series"]

Float = npt.NDArray[np.float64]

_MOST_POINTS = 1000  # of the series; when there are more, every other one is dropped


@dataclass(frozen=True, eq=False)
class Series:
    """Lowest, mean and highest over the replicas that are whole, at T times.

    Attributes:
        times_ps: [T].
        temperature: [T, 3], K.
        deviation: [T, 3], largest deviation of a bond from its length at the start, Å.
        rmsd: [T, 3], distance from the start, superposed, root of the mean over atoms, Å.
    """

    times_ps: Float
    temperature: Float
    deviation: Float
    rmsd: Float


class RunRecord:
    """Watches the frames of R replicas.

    Args:
        numbers: atomic numbers [N].
        reference: positions of the start [N, 3], Å.
        n_replicas: R.
        dof: degrees of freedom that the temperature counts.
        checked: when bonds are looked at, for the verdict: "at every ...".
        stopped_fs: replica -> when it broke, filled by what makes the frames before it gives them;
            None: replicas break at the frame that shows it.
        timestep_fs: of what makes the frames; None: the verdict says no step.

    Attributes:
        temperature: mean over the whole replicas in the latest frame, K; NaN before the first.
        alive: [R], the replicas that are whole.
    """

    def __init__(
        self,
        numbers: npt.ArrayLike,
        reference: Float,
        n_replicas: int,
        dof: int,
        checked: str = "at every frame",
        stopped_fs: Mapping[int, float] | None = None,
        timestep_fs: float | None = None,
    ) -> None:
        self._masses, self._reference, self._dof = masses(numbers), reference, dof
        self._bonds, self._checked = reference_bonds(numbers, reference), checked
        self._stopped_fs = {} if stopped_fs is None else stopped_fs
        self._timestep_fs = timestep_fs
        self.alive = np.ones(n_replicas, dtype=np.bool_)
        self.temperature = float("nan")
        self._run_fs = 0.0
        self._broke_fs: list[float | None] = [None] * n_replicas
        self._largest = 0.0
        self._sum, self._count = 0.0, 0
        self._points: list[list[float]] = []
        self._n_frames, self._stride = 0, 1

    def observe(self, state: PhaseState) -> None:
        """Take the next frame."""
        self.alive = self.alive if state.alive is None else state.alive.copy()
        self._run_fs = state.time_fs
        for replica in np.flatnonzero(~self.alive):
            if self._broke_fs[replica] is None:
                self._broke_fs[replica] = self._stopped_fs.get(int(replica), state.time_fs)
        if not self.alive.any():
            self._run_fs = max(t for t in self._broke_fs if t is not None)
        self._n_frames += 1
        if not self.alive.any() or state.velocities is None:
            return
        positions = state.positions[self.alive]
        kelvin = temperature(state.velocities[self.alive], self._masses, self._dof)
        deviation = bond_deviation(positions, self._bonds)
        self.temperature = float(kelvin.mean())
        self._sum, self._count = self._sum + float(kelvin.sum()), self._count + len(kelvin)
        self._largest = max(self._largest, float(deviation.max()))
        if self._n_frames % self._stride == 0:
            off = superpose(positions, self._reference) - self._reference
            rmsd = np.sqrt(np.square(off).sum(-1).mean(-1))
            self._points.append(
                [state.time_fs / FS_PER_PS]
                + [
                    float(f(q))
                    for q in (kelvin, deviation, rmsd)
                    for f in (np.min, np.mean, np.max)
                ]
            )
            if len(self._points) > _MOST_POINTS:
                self._points, self._stride = self._points[1::2], 2 * self._stride

    def series(self) -> Series:
        """What there is to plot."""
        rows = np.array(self._points, dtype=np.float64).reshape(-1, 10)
        return Series(rows[:, 0], rows[:, 1:4], rows[:, 4:7], rows[:, 7:10])

    def verdict(self) -> dict[str, Any]:
        """Stability and temperature so far, for the sidecar."""
        broke = {str(r): t for r, t in enumerate(self._broke_fs) if t is not None}
        steps = {}
        if self._timestep_fs is not None:
            at = {r: round(t / self._timestep_fs) for r, t in broke.items()}
            steps = {"broke_at_step": at}
        return {
            "criterion": f"no bond of the start frame off by more than {THRESHOLD} Å from its "
            f"length there; checked {self._checked}",
            "n_replicas": len(self.alive),
            "n_whole": int(self.alive.sum()),
            "run_ps": self._run_fs / FS_PER_PS,
            "broke_at_ps": {r: t / FS_PER_PS for r, t in broke.items()},
            **steps,
            "largest_bond_deviation_angstrom": self._largest,
            "mean_temperature_K": self._sum / self._count if self._count else None,
            "degrees_of_freedom": self._dof,
        }

    def snapshot(self) -> dict[str, Any]:
        """All that it holds, for JSON."""
        kept = {name: getattr(self, name) for name in self._KEPT}
        return kept | {"_points": list(self._points), "_broke_fs": list(self._broke_fs)}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        for name in self._KEPT:
            setattr(self, name, snapshot[name])
        self.alive = np.array([t is None for t in self._broke_fs])

    _KEPT = (
        "temperature",
        "_run_fs",
        "_broke_fs",
        "_largest",
        "_sum",
        "_count",
        "_points",
        "_n_frames",
        "_stride",
    )
