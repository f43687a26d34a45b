"""Trajectories of any closed-shell molecule, made here with GFN2-xTB.

    python -m shared.data.xtb --from frame.xyz --ensemble nve --length-ps 10 --out water
    python -m shared.data.xtb --smiles many.smi --length-ps 1 --out many  # many/1, many/2, ...

The dynamics are those of ``shared.data.gfn2``.

A run is a folder: ``provenance.json``; the frames, in parts ``frames_<first>.npz`` (full precision)
or ``.extxyz`` (8 decimals, ``cat`` joins them); and ``state.npz``, from which it resumes. Each file
is written under a temporary name and renamed: a killed run loses at most the part it was in.
"""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from shared.command import exit_code
from shared.data.gfn2 import (
    ENSEMBLES,
    XTBDynamics,
    XTBEngine,
    XTBSettings,
    as_trajectory,
    from_smiles,
    prepare,
    simulate,
    stack_frames,
)
from shared.data.npz import ArrayFile
from shared.errors import InputError
from shared.files import replacing
from shared.state import Trajectory
from shared.units import FS_PER_PS

__all__ = ["FORMATS", "main", "make_trajectory", "read_xtb"]

Float = npt.NDArray[np.float64]
Format = Literal["npz", "extxyz"]

FORMATS: tuple[Format, ...] = ("npz", "extxyz")
PART_FRAMES = 1000


def make_trajectory(
    out: str | Path,
    numbers: npt.ArrayLike,
    positions: npt.ArrayLike,
    settings: XTBSettings,
    n_frames: int,
    *,
    velocities: npt.ArrayLike | None = None,
    file_format: Format = "npz",
    resume: bool = False,
    source: str = "given as arrays",
    source_files: tuple[Path, ...] = (),
    on_part: Callable[[int], None] = lambda frames: None,
) -> Path:
    """Write a trajectory of ``n_frames`` frames to the folder ``out``, or finish the one there.

    Args:
        out: the folder.
        numbers, positions, velocities: start [N], [N, 3], Å, Å/fs; velocities None: drawn.
        settings: see there.
        n_frames: frames in all, the start included.
        file_format: "npz" or "extxyz".
        resume: continue the run in ``out``, which must have the same start and settings.
        source: where the start comes from, for the provenance.
        source_files: files it was read from; their checksums are kept.
        on_part: called with the number of frames written after each part.

    Returns:
        ``out``.

    Raises:
        InputError: ``out`` has a run already and ``resume`` is off, or its run is another one; it
            cannot be written; the molecule cannot be treated.
        RuntimeError: the molecule fell apart; the parts before are kept.
        OSError: the disk is full; the parts before are kept.
    """
    out = Path(out)
    numbers = np.asarray(numbers, dtype=np.int64)
    positions = np.asarray(positions, dtype=np.float64)
    given = None if velocities is None else np.asarray(velocities, dtype=np.float64)
    start = positions.tobytes() + (b"" if given is None else given.tobytes())
    identity = {
        "start": f"sha256:{hashlib.sha256(start).hexdigest()}",
        "numbers": numbers.tolist(),
        "format": file_format,
        "settings": asdict(settings),
    }
    has_state = (out / "state.npz").exists()
    if (out / "provenance.json").exists():
        if not resume:
            raise InputError(f"{out} holds a trajectory: resume it, or choose another folder")
        _check_same_run(out, identity)
    elif resume:
        raise InputError(f"{out} holds no trajectory to resume")
    if has_state:
        dynamics, done = _load_state(out, numbers, settings)
    else:
        dynamics, done = prepare(numbers, positions, settings, given), 0
        _write_provenance(out, identity, dynamics, source, source_files)
    write_part = _write_npz if file_format == "npz" else _write_extxyz
    frames = simulate(dynamics, n_frames, done)
    while part := list(islice(frames, PART_FRAMES)):
        write_part(out / f"frames_{done:09d}.{file_format}", numbers, stack_frames(part))
        done += len(part)
        _save_state(out, dynamics, done)
        on_part(done)
    return out


def read_xtb(folder: str | Path) -> Trajectory:
    """The frames of a run that was written as npz parts, with velocities, forces and energies.

    Raises:
        InputError: there are none in the folder.
    """
    folder = Path(folder)
    if not (folder / "state.npz").exists():
        raise InputError(f"{folder}: no trajectory made by shared.data.xtb in it")
    done = int(ArrayFile(folder / "state.npz")["frames"])
    parts = [
        path
        for path in sorted(folder.glob("frames_*.npz"))
        if int(path.stem.removeprefix("frames_")) < done
    ]
    if not parts:
        raise InputError(f"{folder}: no npz parts in it (an extxyz is read by shared.io)")
    files = [ArrayFile(part) for part in parts]
    names = ("time_fs", "energy", "positions", "velocities", "forces")
    return as_trajectory(
        files[0]["numbers"],
        {name: np.concatenate([file[name] for file in files]) for name in names},
    )


def _write_npz(path: Path, numbers: npt.NDArray[np.int64], block: dict[str, Float]) -> None:
    arrays: dict[str, Any] = {"numbers": numbers, **block}
    with replacing(path) as part:
        np.savez(part, **arrays)


def _write_extxyz(path: Path, numbers: npt.NDArray[np.int64], block: dict[str, Float]) -> None:
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import write

    images = []
    for index, positions in enumerate(block["positions"]):
        atoms = Atoms(numbers, positions)
        atoms.info["time_fs"] = block["time_fs"][index]
        atoms.set_array("velocities", block["velocities"][index])
        atoms.calc = SinglePointCalculator(
            atoms, energy=block["energy"][index], forces=block["forces"][index]
        )
        images.append(atoms)
    text = StringIO()
    write(text, images, format="extxyz")
    with replacing(path) as part:
        part.write_text(text.getvalue(), encoding="utf-8")


def _save_state(out: Path, dynamics: XTBDynamics, frames: int) -> None:
    with replacing(out / "state.npz") as part:
        np.savez(
            part,
            positions=dynamics.positions,
            velocities=dynamics.velocities,
            rng=json.dumps(dynamics.rng.bit_generator.state),
            dof=dynamics.dof,
            frames=frames,
        )


def _load_state(
    out: Path, numbers: npt.NDArray[np.int64], settings: XTBSettings
) -> tuple[XTBDynamics, int]:
    state = ArrayFile(out / "state.npz")
    rng = np.random.default_rng()
    rng.bit_generator.state = json.loads(str(state["rng"]))
    engine = XTBEngine(numbers, settings.charge)
    dynamics = XTBDynamics(engine, state["positions"], state["velocities"], settings, rng)
    if "dof" in state:  # a linear molecule has bent since; files from before 2026-11-24 lack it
        dynamics.dof = int(state["dof"])
    return dynamics, int(state["frames"])


def _write_provenance(
    out: Path,
    identity: dict[str, Any],
    dynamics: XTBDynamics,
    source: str,
    source_files: tuple[Path, ...],
) -> None:
    from importlib.metadata import version

    from shared.provenance import provenance

    record = {
        "data": "GFN2-xTB trajectory made by shared.data.xtb",
        "source": source,
        "engine": {"method": "GFN2-xTB", "tblite": version("tblite")},
        "units": {"length": "Å", "time": "fs", "energy": "eV", "temperature": "K"},
        "accuracy": dynamics.engine.accuracy,
        "degrees_of_freedom": dynamics.dof,
        **identity,
        **provenance(source_files),
    }
    text = json.dumps(record, indent=2, ensure_ascii=False)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with replacing(out / "provenance.json") as part:
            part.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror}") from None


def _check_same_run(out: Path, identity: dict[str, Any]) -> None:
    """Refuse to resume a run of another start or other settings."""
    path = out / "provenance.json"
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
        before = {**there, **there["settings"]}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: not of a run of shared.data.xtb ({error!r})") from None
    for key, value in {**identity, **identity["settings"]}.items():
        found = before.get(key)
        if key != "settings" and found != value:
            said = "other" if key in ("start", "numbers") else f"{found}, not {value}"
            raise InputError(f"{out} cannot be resumed: its {key} is {said}")


# --- command line -------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """The command line's options."""
    default = XTBSettings()
    command = argparse.ArgumentParser(
        prog="python -m shared.data.xtb",
        description="Make a GFN2-xTB trajectory of a closed-shell molecule. "
        "Exit status: 0 done, 2 bad input, 1 anything else.",
    )
    start = command.add_mutually_exclusive_group(required=True)
    start.add_argument(
        "--from", dest="start", metavar="FILE", help="xyz, extxyz or pdb; last frame"
    )
    start.add_argument(
        "--smiles",
        help="a SMILES, embedded by rdkit, instead of a file; or a file NAME.smi that begins each "
        "line with one: each gets a folder of its line's number in FOLDER",
    )
    option = command.add_argument
    option("--out", required=True, metavar="FOLDER", help="folder for the trajectory")
    option("--length-ps", type=float, required=True, help="length of the trajectory, ps")
    option("--ensemble", choices=ENSEMBLES, default=default.ensemble, help="default %(default)s")
    option(
        "--temperature",
        type=float,
        default=default.temperature_K,
        help="K, of start velocities and thermostat; default %(default)s",
    )
    option("--timestep-fs", type=float, default=default.timestep_fs, help="default %(default)s")
    option("--interval-fs", type=float, help="between stored frames; default: every step is stored")
    option(
        "--relaxation-fs",
        type=float,
        default=default.relaxation_fs,
        help="relaxation time of the thermostat; default %(default)s",
    )
    option(
        "--equilibrate-ps",
        type=float,
        help="run before the first frame; default: 1, or 0 if the file has velocities",
    )
    option("--charge", type=int, help="total charge, e; default: the SMILES' or 0")
    option("--seed", type=int, default=default.seed, help="default %(default)s")
    option("--format", choices=FORMATS, default="npz", help="default %(default)s")
    option(
        "--resume",
        action="store_true",
        help="continue the run in FOLDER; of a list, all runs, and begin those that are not there",
    )
    return command


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = parser().parse_args(arguments)
    # Molecules are too small for threads to pay, and one thread repeats to the bit.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    return exit_code(
        "shared.data.xtb",
        lambda: _run(options),
        "the frames written so far are kept, --resume goes on",
        stops=(KeyboardInterrupt, OSError, RuntimeError),
    )


def _run(options: argparse.Namespace) -> None:
    if options.smiles is None or not options.smiles.endswith(".smi"):
        _make(options)
        return
    path = Path(options.smiles)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    found = {number: line.split()[0] for number, line in enumerate(lines, 1) if line.strip()}
    if not found:
        raise InputError(f"{path}: no SMILES in it")
    from shared.writers import require_writable

    failed, broken = [], 0
    require_writable(Path(options.out))
    for number, smiles in found.items():
        out = Path(options.out) / str(number)
        resume = options.resume and (out / "provenance.json").exists()
        print(f"{number}: {smiles}", flush=True)
        try:
            _make(
                argparse.Namespace(
                    **vars(options) | {"smiles": smiles, "out": out, "resume": resume}
                )
            )
        except (InputError, RuntimeError) as error:
            broken += not isinstance(error, InputError)
            failed.append(f"line {number}: {error}")
            print(failed[-1], file=sys.stderr, flush=True)
    if failed:
        said = f"{path}: {len(failed)} of {len(found)} not made; {failed[0]}"
        raise RuntimeError(said) if broken else InputError(said)


def _make(options: argparse.Namespace) -> None:
    """One trajectory."""
    from shared.io import read_frames
    from shared.run import check_arguments

    check_arguments(
        replicas=1,
        seed=options.seed,
        resume=options.resume,
        overwrite=False,
        length_in_ps=options.length_ps,
    )
    velocities, charge = None, 0
    files: tuple[Path, ...] = ()
    if options.start:
        frames = read_frames(options.start)
        numbers, positions, files = frames.numbers, frames.positions[-1], (Path(options.start),)
        velocities = None if frames.velocities is None else frames.velocities[-1]
    else:
        numbers, positions, charge = from_smiles(options.smiles, options.seed)
    equilibrate = options.equilibrate_ps
    settings = XTBSettings(
        ensemble=options.ensemble,
        temperature_K=options.temperature,
        timestep_fs=options.timestep_fs,
        interval_fs=options.timestep_fs if options.interval_fs is None else options.interval_fs,
        relaxation_fs=options.relaxation_fs,
        equilibration_ps=(1.0 if velocities is None else 0.0)
        if equilibrate is None
        else equilibrate,
        charge=charge if options.charge is None else options.charge,
        seed=options.seed,
    )
    n_frames = round(options.length_ps * FS_PER_PS / settings.interval_fs)
    if n_frames < 1:
        raise InputError(f"{options.length_ps} ps hold no frame at {settings.interval_fs} fs")
    bar = sys.stdout.isatty()

    def report(done: int) -> None:
        line = f"{done / n_frames:4.0%}  {done * settings.interval_fs / FS_PER_PS:.3f} ps written"
        print(f"\r{line}" if bar else line, end="" if bar and done < n_frames else "\n", flush=True)

    make_trajectory(
        options.out,
        numbers,
        positions,
        settings,
        n_frames,
        velocities=velocities,
        file_format=options.format,
        resume=options.resume,
        source=options.start or options.smiles,
        source_files=files,
        on_part=report,
    )


if __name__ == "__main__":
    sys.exit(main())
