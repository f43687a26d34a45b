"""Read structures: xyz, extended xyz and pdb files, through ASE, checked before anything uses them.

Positions are Å. What else is read from the frames of an extended xyz file:

- velocities, from the first of the columns ``velocities``, ``velocity``, ``velo``, ``vel``, taken
  as Å/fs (what this project writes), else from ASE's own ``momenta``, amu·Å per ASE time unit
  (Å·√(amu/eV) = 10.18 fs). ASE itself knows only ``momenta`` and leaves the others zero;
- ``energy``, eV, and ``forces``, eV/Å, which ASE moves into the results of a calculator;
- ``time_fs`` and ``xi_per_fs`` (Nosé-Hoover friction ξ, 1/fs) of the comment line.

Only molecules are supported: periodic boundary conditions are refused (a cell alone is not
periodic), and so are frames whose atoms differ. Frames count from 0, negative ones from the end.
"""

import io
import math
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from shared.errors import InputError
from shared.kinetics import backward_velocity, temperature
from shared.state import PhaseState, Trajectory
from shared.units import ACCELERATION, masses

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["check_frame", "check_velocities", "parse_file", "read_frames", "read_start"]

Float = npt.NDArray[np.float64]

_CLOSEST = 0.4  # Å: no two nuclei of a molecule come nearer (H2: 0.74 Å)
_JUMP = 0.5  # Å between consecutive frames: some ten times what atoms do in 5 fs
_STRONGEST = 1.0  # 1/fs: a friction of a hundred times a thermostat's
_HOTTEST = 1e5  # K: above it velocities are in another unit, or frames are not consecutive
_PERIODIC = "periodic boundary conditions; only molecules are supported, without periodic cell"
_NO_CRYSTAL = (["1.000"] * 3, ["0.000"] * 3)  # cell lengths of a pdb file without a crystal
_VELOCITY_COLUMNS = ("velocities", "velocity", "velo", "vel")


def read_frames(path: str | PathLike[str]) -> Trajectory:
    """Every frame of a file.

    Args:
        path: a .xyz, .extxyz, .pdb or .ent file of one frame or many.

    Returns:
        the frames. ``times_fs`` is NaN where the file gives no time; energies, forces and
        thermostat are None unless every frame has them.

    Raises:
        InputError: the file is missing, empty, truncated or not a structure; a coordinate is not
            finite; two atoms are closer than 0.4 Å; boundary conditions are periodic; the atoms, or
            whether they have velocities, differ from frame to frame.
    """
    path = Path(path)
    frames = parse_file(path)
    for index, atoms in enumerate(frames):
        check_frame(f"{path}: frame {index}", atoms, frames[0])
    numbers = np.asarray(frames[0].numbers, dtype=np.int64)
    per_atom = (len(numbers), 3)

    velocities = [_numeric(_velocities(atoms), per_atom) for atoms in frames]
    known = [values is not None for values in velocities]
    if any(known) and not all(known):
        raise InputError(f"{path}: frame {known.index(False)} has no velocities but others have")
    times = [_numeric(atoms.info.get("time_fs"), ()) for atoms in frames]
    try:
        return Trajectory(
            numbers=numbers,
            positions=np.stack([atoms.positions for atoms in frames]),
            times_fs=np.array([math.nan if time is None else time for time in times]),
            velocities=_if_complete(velocities),
            forces=_if_complete([_numeric(_label(atoms, "forces"), per_atom) for atoms in frames]),
            energies=_if_complete([_numeric(_label(atoms, "energy"), ()) for atoms in frames]),
            thermostat=_if_complete(
                [_numeric(atoms.info.get("xi_per_fs"), ()) for atoms in frames]
            ),
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def read_start(
    path: str | PathLike[str],
    frame: int | None = None,
    history_interval_fs: float | None = None,
    lag_fs: float | None = None,
) -> PhaseState:
    """The state to start from: one frame, with the velocities and acceleration that can be known.

    Velocities are those of the file. If it has none but ``history_interval_fs`` says how far apart
    its frames are, they come from the frames before the chosen one: by the three-point backward
    difference, or the two-point one if there is a single frame before.

    Velocities at ``lag_fs`` before the frame, which give the acceleration, are found in the same
    way at the frame of that time, but never by two points. Without ``history_interval_fs`` frames
    with velocities are placed by the ``time_fs`` of the file.

    Args:
        path: as for ``read_frames``.
        frame: which frame, from 0, negative from the end; None: the last.
        history_interval_fs: time between consecutive frames of the file, fs.
        lag_fs: how long before the frame the previous velocities are wanted, fs.

    Returns:
        a state with R = 1 and time 0. ``velocities`` and ``previous_velocities`` are None where
        they cannot be known, ``thermostat`` is [1, 1] if the file has ``xi_per_fs``.

    Raises:
        InputError: as ``read_frames``; no such frame; a history interval that is not positive, or
            with no frame before the chosen one; atoms that move by more than 0.5 Å between frames
            that velocities are taken from; velocities hotter than 100 000 K; a friction ξ beyond
            any thermostat's.
    """
    frames = read_frames(path)
    chosen = _frame_index(path, frame, frames.n_frames)
    if history_interval_fs is None:
        times = frames.times_fs
    elif history_interval_fs > 0 and math.isfinite(history_interval_fs):
        times = np.arange(frames.n_frames, dtype=np.float64) * np.float64(history_interval_fs)
    else:
        raise InputError(f"the history interval must be > 0 fs, not {history_interval_fs}")
    if history_interval_fs is not None and frames.velocities is None and chosen == 0:
        raise InputError(
            f"{path}: frame 0 has no frames before it to take velocities from; choose a later frame"
            " or leave the history interval out"
        )

    def velocities_at(index: int, points: int) -> Float | None:
        """[1, N, 3] from the file, else from up to three frames, but from ``points`` at least."""
        if frames.velocities is not None:
            return frames.velocities[[index]]
        if history_interval_fs is None or index + 1 < points:
            return None
        x = frames.positions
        if index == 1:
            return (x[[1]] - x[[0]]) / history_interval_fs
        return backward_velocity(x[[index]], x[[index - 1]], x[[index - 2]], history_interval_fs)

    if history_interval_fs is not None and frames.velocities is None:
        _check_consecutive(path, frames.positions[: chosen + 1], chosen)
    velocities = velocities_at(chosen, points=2)
    previous = None
    if lag_fs is not None:
        at_lag = np.isclose(times[:chosen], times[chosen] - lag_fs, rtol=0.0, atol=1e-6 * lag_fs)
        for index in np.flatnonzero(at_lag):
            previous = velocities_at(int(index), points=3)
    for known in (velocities, previous):
        if known is not None:
            check_velocities(path, chosen, frames.numbers, known)
    if frames.thermostat is not None and not abs(frames.thermostat[chosen]) < _STRONGEST:
        raise InputError(
            f"{path}: xi_per_fs of {frames.thermostat[chosen]:g} at frame {chosen} is no"
            " thermostat's; it is in 1/fs"
        )
    return PhaseState(
        numbers=frames.numbers,
        positions=frames.positions[[chosen]],
        velocities=velocities,
        previous_velocities=previous,
        previous_interval_fs=None if previous is None else lag_fs,
        thermostat=None if frames.thermostat is None else frames.thermostat[None, [chosen]],
    )


def check_velocities(
    path: str | PathLike[str], frame: int, numbers: npt.ArrayLike, velocities: Float
) -> None:
    """Refuse velocities [R, N, 3], Å/fs, that no molecule has.

    Raises:
        InputError: they are hotter than 100 000 K.
    """
    if temperature(velocities, masses(numbers)).max() > _HOTTEST:
        raise InputError(
            f"{path}: the velocities at frame {frame} are those of more than {_HOTTEST:.0f} K; "
            "check their unit (Å/fs), or that the frames are consecutive and the history interval "
            "is right"
        )


def _check_consecutive(path: str | PathLike[str], positions: Float, chosen: int) -> None:
    """No atom of the frames before the chosen one jumps: [F, N, 3], the last one is chosen."""
    steps = np.linalg.norm(np.diff(positions[-3:], axis=0), axis=-1)  # [2 or 1, N]
    if steps.max() > _JUMP:
        step, atom = np.unravel_index(steps.argmax(), steps.shape)
        last = chosen - len(steps) + int(step) + 1
        raise InputError(
            f"{path}: atom {atom} moves by {steps.max():.1f} Å between frames {last - 1} and"
            f" {last}: they are not consecutive, or not in one order of atoms"
        )


def _frame_index(path: str | PathLike[str], frame: int | None, n_frames: int) -> int:
    """``frame`` counted from 0."""
    if frame is None:
        return n_frames - 1
    if not -n_frames <= frame < n_frames:
        held = "one frame, 0" if n_frames == 1 else f"{n_frames} frames, 0 to {n_frames - 1}"
        raise InputError(f"{path}: there is no frame {frame}; the file holds {held}")
    return frame % n_frames


def parse_file(path: Path) -> list["Atoms"]:
    """All frames of a file as ASE reads them, at least one; what is in them is not checked.

    Raises:
        InputError: the file is missing, empty, truncated or not a structure.
    """
    parsers = {".xyz": _parse_xyz, ".extxyz": _parse_xyz, ".pdb": _parse_pdb, ".ent": _parse_pdb}
    parse = parsers.get(path.suffix.lower())
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if parse is None:
        raise InputError(
            f"{path}: unknown kind of file; give one that ends in {', '.join(parsers)}"
        )
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if not text.strip():
        raise InputError(f"{path}: the file is empty")
    frames = parse(path, text.split("\n"))
    if not frames:
        raise InputError(f"{path}: no atoms found; not a structure")
    return frames


def _parse_xyz(path: Path, lines: list[str]) -> list["Atoms"]:
    """Frames of an xyz or extended xyz file.

    The file is cut into frames here, since ASE stops without a word at the first blank line.
    """
    frames: list[Atoms] = []
    position = 0
    while True:
        while position < len(lines) and not lines[position].strip():
            position += 1
        if position == len(lines):
            return frames
        where = f"{path}: frame {len(frames)} (line {position + 1})"
        header = lines[position].strip()
        if not header.isdecimal() or int(header) == 0:
            raise InputError(f"{where}: expected a number of atoms but found {header[:40]!r}")
        n_atoms = int(header)
        chunk = lines[position : position + n_atoms + 2]
        found = sum(bool(line.strip()) for line in chunk[2:])
        if found < n_atoms or _is_cut_in_a_number(chunk, last=position + len(chunk) == len(lines)):
            raise InputError(
                f"{where} is truncated: {n_atoms} atoms announced, {found} lines found"
            )
        frames.append(_parse_frame(where, chunk, "extxyz"))
        position += n_atoms + 2


def _is_cut_in_a_number(chunk: list[str], last: bool) -> bool:
    """Whether the file ends inside a number, ``last`` telling that ``chunk`` ends at its last byte.

    It does if the final line has fewer columns than the others, or its last number has fewer
    decimals than all of its neighbours, above and to the left.
    """
    *others, final = [line.split() for line in chunk[2:]]
    if not last or not others:
        return False
    if len(final) < min(map(len, others)):
        return True
    if len(final) < 2:
        return False
    neighbours = {_decimals(row[-1]) for row in [*others, final[:-1]]}
    return len(neighbours) == 1 and _decimals(final[-1]) < neighbours.pop()


def _decimals(number: str) -> int:
    return len(number.partition(".")[2])


def _parse_pdb(path: Path, lines: list[str]) -> list["Atoms"]:
    """Models of a pdb file, with or without MODEL records; ASE is given the atom lines of each.

    ASE would apply CRYST1 to the first model alone, make a model without atoms of a final END, and
    drop a last model that is not ended.
    """
    frames: list[Atoms] = []
    model: list[str] = []
    numbered = any(line.startswith("MODEL ") for line in lines)
    for number, line in enumerate([*lines, "END OF FILE"], start=1):
        where = f"{path}: frame {len(frames)} (line {number})"
        if line.startswith("CRYST1") and line[6:33].split() not in _NO_CRYSTAL:
            raise InputError(f"{where}: {_PERIODIC}")
        if line.startswith(("ATOM  ", "HETATM")):
            if len(line.rstrip()) < 54:
                raise InputError(f"{where} is truncated: the line ends before its coordinates")
            model.append(line)
        elif line.startswith("END") and model:
            if number > len(lines) and (frames or numbered):
                raise InputError(f"{where} is truncated: its model does not end in ENDMDL")
            frames.append(_parse_frame(where, model, "proteindatabank"))
            model = []
    return frames


def _parse_frame(where: str, lines: list[str], kind: str) -> "Atoms":
    """One frame from its lines, by ASE."""
    from ase.io import read

    try:
        return cast("Atoms", read(io.StringIO("\n".join([*lines, ""])), format=kind, index=0))
    except KeyError as error:
        raise InputError(f"{where}: {error} is no element") from None
    except Exception as error:  # ASE's parsers raise whatever the line of the file led them to
        raise InputError(f"{where}: not a structure that can be read ({error})") from None


def check_frame(where: str, atoms: "Atoms", first: "Atoms") -> None:
    """Raise an InputError if the frame cannot be a frame of the molecule ``first``."""
    if atoms.pbc.any():
        raise InputError(f"{where}: {_PERIODIC}")
    if len(atoms) != len(first):
        raise InputError(
            f"{where} has {len(atoms)} atoms but frame 0 has {len(first)}; a file must hold one"
            " molecule"
        )
    differ = np.flatnonzero(atoms.numbers != first.numbers)
    if differ.size:
        i = differ[0]
        raise InputError(
            f"{where}: atom {i} (from 0) is {atoms.symbols[i]} but in frame 0 it is"
            f" {first.symbols[i]}; keep one order of atoms"
        )
    unknown = np.flatnonzero(atoms.numbers < 1)
    if unknown.size:
        raise InputError(f"{where}: atom {unknown[0]} (from 0) is of no known element")
    broken = np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))
    if broken.size:
        raise InputError(f"{where}: the coordinates of atom {broken[0]} (from 0) are not finite")
    distances = np.linalg.norm(atoms.positions[:, None] - atoms.positions[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    i, j = divmod(int(distances.argmin()), len(atoms))
    if distances[i, j] < _CLOSEST:
        raise InputError(
            f"{where}: atoms {i} and {j} (from 0) are {distances[i, j]:.3f} Å apart, less than"
            f" {_CLOSEST} Å; mend the structure, and check that it is in Å"
        )


def _velocities(atoms: "Atoms") -> Any:
    """Velocities of a frame in Å/fs, whatever the file calls them, or None."""
    for name in _VELOCITY_COLUMNS:
        if name in atoms.arrays:
            return atoms.arrays[name]
    if "momenta" in atoms.arrays:
        return atoms.get_velocities() * math.sqrt(ACCELERATION)  # from Å per Å √(amu/eV)
    return None


def _label(atoms: "Atoms", name: str) -> Any:
    """A result that the file stores for a frame, or None."""
    return None if atoms.calc is None else atoms.calc.results.get(name)


def _numeric(value: Any, shape: tuple[int, ...]) -> Float | None:
    """``value`` as floats, or None if it is none: a word of a comment line can pose as a label."""
    array = np.asarray(value)
    if array.dtype.kind not in "if" or array.shape != shape:
        return None
    return array.astype(np.float64)


def _if_complete(values: list[Float | None]) -> Float | None:
    """The values of all frames stacked, or None if some frame has none."""
    present = [value for value in values if value is not None]
    return np.stack(present) if len(present) == len(values) else None
