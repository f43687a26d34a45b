"""Trajectories made here, whatever made them: HDF5 or extended xyz of a head, or a folder of
`shared.data.xtb`.
"""

from os import PathLike
from pathlib import Path

import numpy as np

from shared.data.xtb import read_xtb
from shared.errors import InputError
from shared.io import read_frames
from shared.state import Trajectory
from shared.units import ANGSTROM_PER_NM, FS_PER_PS

__all__ = ["frame_interval", "read_trajectory"]


def read_trajectory(path: str | PathLike[str]) -> Trajectory:
    """All frames of a trajectory, in memory.

    Args:
        path: an .h5 or .extxyz file, or a folder that `shared.data.xtb` wrote as npz.

    Raises:
        InputError: it is not there, or cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        return read_xtb(path)
    return _read_hdf5(path) if path.suffix == ".h5" else read_frames(path)


def frame_interval(path: str | PathLike[str], trajectory: Trajectory) -> float:
    """Time between its frames, fs, to 1e-4 fs.

    Raises:
        InputError: fewer than two frames, no times, or frames that are not equally spaced.
    """
    times = trajectory.times_fs
    if len(times) < 2 or not np.isfinite(times).all():
        raise InputError(f"{path}: a trajectory needs two frames or more, with their times")
    interval = (times[-1] - times[0]) / (len(times) - 1)
    expected = times[0] + interval * np.arange(len(times))
    if not interval > 0 or np.abs(times - expected).max() > 0.1 * interval:
        raise InputError(f"{path}: its frames are not equally spaced in time")
    return float(np.round(interval, 4))


def _read_hdf5(path: Path) -> Trajectory:
    """mdtraj's HDF5: nm, nm/ps, ps."""
    from mdtraj.formats import HDF5TrajectoryFile
    from tables import HDF5ExtError

    if not path.exists():
        raise InputError(f"{path}: no such file")
    try:
        with HDF5TrajectoryFile(path) as file:
            read, topology = file.read(), file.topology
    except (OSError, ValueError, HDF5ExtError):
        raise InputError(f"{path}: not an HDF5 trajectory that can be read") from None
    if topology is None or read.time is None:
        raise InputError(f"{path}: an HDF5 trajectory needs its topology and times")
    speed = ANGSTROM_PER_NM / FS_PER_PS
    return Trajectory(
        numbers=np.array([atom.element.atomic_number for atom in topology.atoms]),
        positions=read.coordinates.astype(np.float64) * ANGSTROM_PER_NM,
        times_fs=read.time.astype(np.float64) * FS_PER_PS,
        velocities=None if read.velocities is None else read.velocities.astype(np.float64) * speed,
    )
