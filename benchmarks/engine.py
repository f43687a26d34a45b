"""python benchmarks/engine.py: the engine that made the surrogate data, judged as generators are.

The reference of the generator's long simulations is one trajectory of 20 ps for each molecule,
under a single Nosé-Hoover thermostat. How far other trajectories of the same engine with the same
thermostat lie from it is what no model can be asked to beat: here 32 of them, from frames of the
test part with velocities drawn at 500 K, through the same measurements. Rows are kept in
benchmarks/results/engine.json.

Data: TRAJGEN_DATA (md17s, sgdml). Packages: the extra `reference`.
"""

from _environment import ROOT  # isort: split

import sys
import time
from dataclasses import replace
from pathlib import Path

import _validity
import numpy as np
import torch
from _jobs import Job, carry_out, chosen, make_parser, options_of
from _report import Row, Store, table
from _runs import SEED, LongRun, Settings, Subject, subject

from forcefield.integrators import NoseHoover
from shared.data.md17 import SURROGATE_MOLECULES
from shared.data.sgdml import SGDML, sgdml_model
from shared.data.splits import SHORT_TO_LONG, evenly_spaced_starts
from shared.errors import InputError
from shared.evaluation.long_run import ENERGIES, GROUPS
from shared.kinetics import backward_velocity, maxwell_boltzmann
from shared.metrics.energetics import group_temperatures
from shared.metrics.stability import THRESHOLD, bond_deviation
from shared.provenance import file_checksum, provenance
from shared.units import FS_PER_PS, masses

RESULTS = ROOT / "benchmarks" / "results" / "engine.json"
DEFAULTS = Settings(stability_ps=25.0, folder=Path("runs/benchmark/engine"))
QUICK = {"replicas": 2, "stability_ps": 0.1, "energy_frames": 4}
MEASUREMENTS = {
    name: getattr(_validity, name)
    for name in ("stability", "temperature", "distributions", "energy")
}
SPACING_FS = 5.0
WAVENUMBER = 1700.0


def simulated(molecule: str, settings: Settings) -> tuple[Subject, LongRun]:
    """The engine's replicas, made now or read from the folder."""
    s = replace(subject(settings.checkpoint, molecule), name="engine")
    folder = settings.folder / f"{molecule}-{settings.replicas}x{settings.stability_ps:g}ps"
    files = [folder / name for name in ("frames.npy", "temperatures.npy")]
    if not all(file.exists() for file in files):
        folder.mkdir(parents=True, exist_ok=True)
        for file, values in zip(files, _simulate(s, settings), strict=True):
            np.save(file, values)
    frames, temperatures = np.load(files[0], mmap_mode="r"), np.load(files[1])
    for replica in range(settings.replicas):  # stopped where a generator's would be
        broken = bond_deviation(frames[:, replica], s.bonds) > THRESHOLD
        temperatures[np.logical_or.accumulate(broken), replica] = np.nan
    energies = np.full((*frames.shape[:2], len(ENERGIES)), np.nan)
    return s, LongRun(frames, temperatures, energies, SPACING_FS, s.bonds)


def _simulate(s: Subject, settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Frames [T, R, N, 3], Å, and temperatures [T, R, 3], K, by the reference's own estimator."""
    starts = evenly_spaced_starts(SHORT_TO_LONG.test, settings.replicas, 0)
    positions = s.series.positions[starts].astype(np.float64)
    kelvin, dof = s.series.temperature_K, 3 * len(s.numbers)
    velocities = maxwell_boltzmann(
        s.numbers,
        kelvin,
        np.random.default_rng(SEED),
        settings.replicas,
        remove_momentum=True,
        remove_rotation=True,
        dof=dof,
        positions=positions,
    )
    step = s.series.interval_fs
    engine = NoseHoover(
        SGDML(sgdml_model(s.molecule), s.numbers),
        torch.tensor(masses(s.numbers)),
        step,
        dof,
        temperature_K=kelvin,
        wavenumber_per_cm=WAVENUMBER,
    )
    engine.begin(torch.tensor(positions), torch.tensor(velocities))
    frames, temperatures = [], []
    n_frames = round(settings.stability_ps * FS_PER_PS / SPACING_FS)
    per_frame = round(SPACING_FS / step)
    began = time.monotonic()
    for frame in range(1, n_frames + 1):
        last = []
        for _ in range(per_frame):
            engine.step()
            last = [*last[-2:], engine.positions.numpy().copy()]
        kinetic = group_temperatures(backward_velocity(*reversed(last), step), s.numbers)
        frames.append(last[-1].astype(np.float32))
        temperatures.append(np.stack([kinetic[group] for group in GROUPS], axis=-1))
        if frame % 500 == 0:
            now, speed = frame * SPACING_FS / FS_PER_PS, frame / (time.monotonic() - began)
            text = f"  {s.molecule} {now:g} of {settings.stability_ps:g} ps, {speed:.1f} frames/s"
            print(text, file=sys.stderr, flush=True)
    return np.stack(frames), np.stack(temperatures).astype(np.float32)


def main(argv: list[str] | None = None) -> int:
    """Command line; exit code 0 once everything was measured, 2 bad input."""
    words = {
        "replicas": "how many trajectories",
        "stability_ps": "their length in ps",
        "energy_frames": "frames whose potential energy is computed",
        "folder": "where the trajectories are kept",
    }
    summary = __doc__.split("\n\n")[0].split(": ")[1]
    parser = make_parser("python benchmarks/engine.py", summary, DEFAULTS, words, MEASUREMENTS)
    parser.add_argument("--molecules", nargs="+", choices=SURROGATE_MOLECULES, metavar="NAME")
    parser.set_defaults(molecules=list(SURROGATE_MOLECULES))
    arguments = parser.parse_args(argv)
    for name, value in vars(DEFAULTS).items():
        vars(arguments).setdefault(name, value)
    torch.set_num_threads(1)
    settings = chosen(arguments, DEFAULTS, QUICK)
    out = arguments.out or (settings.folder / "quick.json" if arguments.quick else RESULTS)
    store = Store(out, provenance())
    uses = ("replicas", "stability_ps")
    rows = []
    try:
        for name in arguments.rows:
            for molecule in arguments.molecules:
                job = _job(name, molecule, settings, uses)
                rows += carry_out(job, store, arguments.fresh)
    except InputError as error:
        print(f"benchmarks/engine.py: {error}", file=sys.stderr)
        return 2
    print(table(rows, arguments.molecules, everything=arguments.all, markdown=arguments.markdown))
    return 0


def _job(name: str, molecule: str, settings: Settings, uses: tuple[str, ...]) -> Job:
    def measure() -> list[Row]:
        return MEASUREMENTS[name](molecule, settings, simulated)

    model = sgdml_model(molecule)
    return Job(
        name,
        molecule,
        measure,
        settings={key: getattr(settings, key) for key in uses},
        weights={f"sGDML {molecule}": file_checksum(model)},
        command=f"python benchmarks/engine.py --rows {name} --molecules {molecule}"
        + options_of(settings, DEFAULTS, uses),
    )


if __name__ == "__main__":
    sys.exit(main())
