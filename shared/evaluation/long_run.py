"""One long simulation of R replicas, on disk: stability, temperatures and distributions read it.

It goes on where it was interrupted, within a few picoseconds, and is kept for the next measurement.
No constraints, and no thermostat but that of the variant.
"""

import fcntl
import hashlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.metrics.energetics import group_temperatures
from shared.metrics.stability import THRESHOLD, ReferenceBonds, bond_deviation
from shared.state import PhaseState, Propagator
from shared.units import FS_PER_PS
from shared.writers import ResumePoint, load_state, save_state

__all__ = ["ENERGIES", "GROUPS", "STATE", "LongRun", "long_run", "run_folder"]

Float = npt.NDArray[np.float64]

GROUPS = ("all", "hydrogen", "heavy")
ENERGIES = ("potential", "conserved")
JUDGED_FROM = 0.2  # share of the simulation that is left out: 20 of 100 ps
FLUSH_PS = 5.0
STATE = "run.state.npz"  # what an interrupted simulation goes on from


@dataclass(frozen=True, eq=False)
class LongRun:
    """R replicas over T frames, on disk.

    Attributes:
        frames: [T, R, N, 3], Å, float32.
        temperatures: [T, R, 3], K, of `GROUPS`, counting 3 degrees of freedom per atom; NaN from
            where a replica collapsed.
        energies: [T, R, 2], eV, of `ENERGIES`; NaN where there are none.
        interval_fs: time between frames.
        bonds: what the stability is judged by.
    """

    frames: npt.NDArray[np.float32]
    temperatures: npt.NDArray[np.float32]
    energies: npt.NDArray[np.float64]
    interval_fs: float
    bonds: ReferenceBonds

    @property
    def first(self) -> int:
        """The first frame that is judged, the start's relaxation left out."""
        return round(len(self.frames) * JUDGED_FROM)

    @property
    def whole(self) -> npt.NDArray[np.bool_]:
        """[T, R], whether the replica had not collapsed."""
        return np.isfinite(self.temperatures[..., 0])

    @property
    def times_ps(self) -> Float:
        """[T], of the frames."""
        return np.arange(1.0, len(self.frames) + 1) * (self.interval_fs / FS_PER_PS)

    def outcome(self) -> tuple[Float, Float]:
        """By the rule of `shared.metrics.stability`, on every frame.

        Returns:
            when each replica first had a bond off by more than 0.5 Å [R], ps, inf where it never
            had; and each replica's largest deviation before that [R], Å.
        """
        lost, largest = np.full((2, self.frames.shape[1]), np.inf)
        for replica in range(self.frames.shape[1]):
            deviation = bond_deviation(self.frames[:, replica], self.bonds)
            broken = (deviation > THRESHOLD) | ~self.whole[:, replica]
            if broken.any():
                lost[replica] = self.times_ps[broken.argmax()]
            largest[replica] = deviation[~np.logical_or.accumulate(broken)].max(initial=0.0)
        return lost, largest

    def windows(self, n_frames: int) -> Iterator[npt.NDArray[np.float32]]:
        """The judged part in pieces [A, n_frames, N, 3] of the A replicas that last to its end."""
        for at in range(self.first, len(self.frames) - n_frames + 1, n_frames):
            whole = self.whole[at + n_frames - 1]
            if whole.any():
                yield np.swapaxes(self.frames[at : at + n_frames, whole], 0, 1)


def run_folder(root: Path, *identity: Any) -> Path:
    """Where a simulation of this identity (names first, then all that changes it) is kept."""
    text = "-".join(map(str, identity))
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return root / f"{re.sub(r'[^A-Za-z0-9.@=-]', '_', text)[:60]}-{digest}"


def long_run(
    propagator: Propagator,
    start: PhaseState,
    bonds: ReferenceBonds,
    n_frames: int,
    interval_fs: float,
    run: Path,
    *,
    seed: int,
    report: Callable[[str], None],
    not_before: float = 0.0,
) -> LongRun:
    """Simulate, or go on from where an interrupted simulation stopped, or read what is there.

    Two processes that ask for the same simulation take turns: the second reads what the first made.

    Args:
        propagator: what moves the replicas; its `observables`, if it has them, are kept, and its
            `bath` is restored.
        start: R replicas with velocities.
        bonds: of the reference.
        n_frames, interval_fs: T, and the time between them.
        run: folder of this simulation alone.
        seed: of all that is random.
        report: called with a line at every flush.
        not_before: seconds since the epoch; what was written last before then is made again.
    """
    run.mkdir(parents=True, exist_ok=True)
    with _alone(run, report):
        shape = (n_frames, start.n_replicas, start.n_atoms, 3)
        done, mode = 0, "w+"
        if (run / STATE).exists() and (run / STATE).stat().st_mtime < not_before:
            (run / STATE).unlink()
        if (run / STATE).exists():
            point = load_state(run / "run")
            start, done, mode = point.state, point.n_frames, "r+"
            if "bath_eV" in point.extra and hasattr(propagator, "bath"):
                propagator.bath = np.array(point.extra["bath_eV"])
        frames = _memmap(run / "frames.npy", mode, shape, np.float32)
        temperatures = _memmap(
            run / "temperatures.npy", mode, (*shape[:2], len(GROUPS)), np.float32
        )
        new = mode == "w+" or not (run / "energies.npy").exists()
        size = (*shape[:2], len(ENERGIES))
        energies = _memmap(run / "energies.npy", "w+" if new else mode, size, np.float64)
        if new:
            energies[:] = np.nan
        began, first = time.monotonic(), done
        every = max(1, round(FLUSH_PS * FS_PER_PS / interval_fs))
        left = n_frames - done
        for state in propagator.propagate(start, left, interval_fs, seed=seed) if left else ():
            alive = np.ones(state.n_replicas, bool) if state.alive is None else state.alive
            frames[done] = state.positions
            temperatures[done] = np.nan
            if state.velocities is not None:
                kinetic = group_temperatures(state.velocities, state.numbers)
                temperatures[done] = np.stack([kinetic[group] for group in GROUPS], axis=-1)
                temperatures[done][:, 0] = np.nan_to_num(temperatures[done][:, 0])
            temperatures[done][~alive] = np.nan
            extra: dict[str, Any] = {}
            observed = getattr(propagator, "observables", None)
            if observed is not None:
                for column, name in enumerate(ENERGIES):
                    energies[done, :, column] = np.where(alive, getattr(observed, name), np.nan)
                extra["bath_eV"] = observed.bath.tolist()
            done += 1
            if not alive.any():  # nothing more will change
                frames[done:], temperatures[done:], done = state.positions, np.nan, n_frames
            if done % every == 0 or done == n_frames:
                for array in (frames, temperatures, energies):
                    array.flush()
                save_state(run / "run", ResumePoint(state, done, (), "npy", interval_fs, extra))
                simulated = (done - first) * interval_fs * state.n_replicas / FS_PER_PS
                report(
                    f"{done * interval_fs / FS_PER_PS:g} of "
                    f"{n_frames * interval_fs / FS_PER_PS:g} ps, "
                    f"{simulated / (time.monotonic() - began):.2f} ps/s, "
                    f"{alive.sum()} of {state.n_replicas} whole"
                )
            if done == n_frames:
                break
        return LongRun(frames, temperatures, energies, interval_fs, bonds)


@contextmanager
def _alone(run: Path, report: Callable[[str], None]) -> Iterator[None]:
    """Until no other process has the folder of this simulation."""
    with (run / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("waits for another process that makes the same simulation")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _memmap(path: Path, mode: str, shape: tuple[int, ...], dtype: type) -> np.memmap[Any, Any]:
    return np.lib.format.open_memmap(path, mode=mode, dtype=dtype, shape=shape)
