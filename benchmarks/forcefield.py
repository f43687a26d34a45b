"""python benchmarks/forcefield.py: everything that is required of the force fields, measured.

Prints tables of requirements, and keeps their numbers as tidy rows in
benchmarks/results/forcefield.json. Every measurement of every system stands alone and is written as
soon as it is made: an interrupted benchmark, started again, goes on where it stopped, and the long
simulations within a minute. Numbers belong to the weights they were made with.

Data: TRAJGEN_DATA (3bpa, rmd17, md17s with its oracle files). For the row `speed` MACE_PYTHON names
the interpreter of an environment with mace-torch.
"""

from _environment import ROOT  # isort: split

import argparse
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import _ff_accuracy
import _ff_curve
import _ff_dynamics
import _ff_effect
import _ff_speed
from _ff_measurements import MEASUREMENTS, ROWS, SYSTEMS, section
from _ff_models import Model, Settings, model
from _jobs import Job, Skip, carry_out, chosen, make_parser, options_of
from _report import Row, Store

from shared.data.rmd17 import MOLECULES as RMD17_MOLECULES
from shared.errors import InputError
from shared.provenance import provenance

PROGRAM = "python benchmarks/forcefield.py"
RESULTS = ROOT / "benchmarks" / "results" / "forcefield.json"
QUICK = {
    "frames": 2,
    "curve_frames": 2,
    "replicas": 2,
    "stability_ps": 0.01,
    "order_ps": 0.01,
    "speed_s": 0.4,
    "speed_replicas": 2,
    "speed_threads": 1,
    "effect_replicas": 2,
    "effect_600_ps": 0.01,
    "effect_1200_ps": 0.01,
    "effect_others_ps": 0.01,
    "engine": "eager",
}
Rows = list[dict[str, Any]]


def main(argv: list[str] | None = None) -> int:
    """Command line; exit code 0 once everything was measured, whatever came out; 2 bad input."""
    import torch

    arguments = parser().parse_args(argv)
    settings = chosen(arguments, Settings(), QUICK)
    torch.set_num_threads(settings.threads)
    torch.set_flush_denormal(True)
    quick = settings.folder / "quick-forcefield.json"
    store = Store(arguments.out or (quick if arguments.quick else RESULTS), provenance())
    done = partial(carry_out, store=store, fresh=arguments.fresh)
    try:
        for checkpoint in arguments.checkpoint or ():
            model(checkpoint)  # what was asked for must be there
        runs = [model(run) for run in _ff_effect.checkpoints_in(arguments.runs)]
        for name in arguments.rows:
            if name in _OF_RUNS:
                rows = [row for job in _OF_RUNS[name](runs, settings) for row in done(job)]
            else:
                rows = _rows(name, arguments, settings, done)
            if not rows:
                continue
            options = {"everything": arguments.all, "markdown": arguments.markdown}
            print(f"\n{name}\n\n{section(name, rows, **options)}")
    except InputError as error:
        print(f"benchmarks/forcefield.py: {error}", file=sys.stderr)
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    """Options, with the fields of `Settings` as defaults."""
    words = {
        "frames": "test frames of each set, evenly spaced; 0: all",
        "replicas": "replicas of the long simulations",
        "stability_ps": "their length in ps",
        "ensembles": "nve, and nose-hoover, bussi or langevin beside it",
        "curve_frames": "test frames of each set for each point of a learning curve; 0: all",
        "order_ps": "length of the simulations at three time steps, ps",
        "speed_s": "seconds that each speed is measured for",
        "speed_replicas": "molecules in a batch",
        "speed_threads": "threads of both engines",
        "effect_replicas": "replicas of the simulations that trained runs are compared by",
        "effect_600_ps": "their length at 600 K with MACE and ViSNet, ps",
        "effect_1200_ps": "their length at 1200 K with MACE and ViSNet, ps",
        "effect_others_ps": "their length at 1200 K with the others, ps",
        "engine": "compiled or eager",
        "threads": "threads of everything but speed",
        "folder": "where the long simulations are kept",
    }
    made = make_parser(
        PROGRAM, __doc__.split("\n\n")[0].split(": ")[1], Settings(), words, list(ROWS)
    )
    made.add_argument(
        "--checkpoint",
        nargs="+",
        metavar="NAME",
        help="names or folders of force fields; those that ship for the row",
    )
    made.add_argument(
        "--systems",
        nargs="+",
        choices=SYSTEMS,
        metavar="NAME",
        help="temperatures or molecules, of " + ", ".join(SYSTEMS),
    )
    made.add_argument(
        "--runs",
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="trained runs for the rows effect, curve and alone: checkpoints, or folders that "
        "hold them",
    )
    return made


def _rows(
    name: str, arguments: argparse.Namespace, settings: Settings, done: Callable[[Job], Rows]
) -> Rows:
    """Carry out what a row of the command line asks for."""
    rows: Rows = []
    for measurement in ROWS[name]:
        m = MEASUREMENTS[measurement]
        systems = [s for s in m.systems if s in (arguments.systems or m.systems)]
        for checkpoint in arguments.checkpoint or [m.checkpoint]:
            found = [
                row
                for s in systems
                for row in done(_job(name, measurement, checkpoint, s, settings))
            ]
            rows += found
            if measurement == "rmd17" and systems:
                rows += done(_summary_job(checkpoint, found))
        if measurement == "accuracy":
            rows += [row for s in systems for row in done(_baseline_job(s, settings))]
    return rows


def _job(name: str, measurement: str, checkpoint: str, system: str, settings: Settings) -> Job:
    """One measurement of one checkpoint on one system."""
    m = MEASUREMENTS[measurement]
    subject = _known(checkpoint)
    used = {key: getattr(settings, key) for key in m.uses}
    if measurement == "speed":
        used["mace-torch"] = bool(_ff_speed.mace_python())
    options = options_of(settings, Settings(), m.uses)

    def measure() -> list[Row]:
        if subject is None:
            raise Skip(f"there is no checkpoint {checkpoint}")
        return m.measure(subject, system, settings)

    return Job(
        measurement,
        f"{subject.name if subject else checkpoint}, {system}",
        measure,
        settings=used,
        weights={subject.name: subject.weights} if subject else {},
        command=f"{PROGRAM} --rows {name} --checkpoint {checkpoint} --systems {system}{options}",
        system=system,
        forget=partial(_forget, subject, system, settings) if measurement == "stability" else None,
    )


def _known(checkpoint: str) -> Model | None:
    try:
        return model(checkpoint)
    except InputError:
        return None


def _forget(subject: Model | None, system: str, settings: Settings) -> None:
    """Remove the long simulations of a system."""
    if subject is not None:
        for folder in _ff_dynamics.weights_folder(subject, settings.folder).glob(
            f"3bpa-{system}-*"
        ):
            shutil.rmtree(folder)


def _baseline_job(system: str, settings: Settings) -> Job:
    """What stands beside the accuracy of any checkpoint."""
    return Job(
        "accuracy",
        f"baselines, {system}",
        lambda: _ff_accuracy.baselines(system, settings),
        settings={"frames": settings.frames},
        command=f"{PROGRAM} --rows accuracy --systems {system}",
        system=system,
    )


def _summary_job(checkpoint: str, rows: Rows) -> Job:
    """Median and worst of the molecules."""
    subject = _known(checkpoint)
    errors = {
        row["system"]: row["value"]
        for row in rows
        if row["metric"] == "F MAE" and subject is not None and row["model"] == subject.name
    }

    def measure() -> list[Row]:
        if subject is None:
            raise Skip(f"there is no checkpoint {checkpoint}")
        return _ff_accuracy.rmd17_summary(subject, errors, len(RMD17_MOLECULES))

    return Job(
        "rmd17",
        f"{subject.name if subject else checkpoint}, all",
        measure,
        settings=errors,
        weights={subject.name: subject.weights} if subject else {},
        command=f"{PROGRAM} --rows rmd17 --checkpoint {checkpoint}",
        system="any",
    )


def _effect_jobs(runs: Sequence[Model], settings: Settings) -> Iterator[Job]:
    """All parts of all runs, the long simulations last."""
    pairs = [(run, part) for run in runs for part in _ff_effect.parts(run)]
    for run, part in sorted(pairs, key=lambda pair: pair[1].measure is _ff_effect.stability):
        options = options_of(settings, Settings(), part.uses)
        yield Job(
            "effect",
            f"{run.name}, {part.name} {part.system}",
            partial(part.measure, run, part.system, settings),
            settings={key: getattr(settings, key) for key in part.uses},
            weights={run.name: run.weights},
            command=f"{PROGRAM} --rows effect --runs {run.checkpoint.folder}{options}",
            system=part.system,
        )


def _curve_jobs(runs: Sequence[Model], settings: Settings) -> Iterator[Job]:
    """All test sets, and the validation frames, of all runs."""
    for run in runs:
        for system in _ff_curve.SYSTEMS:
            used = {"steps": " ".join(map(str, _ff_curve.kept(run)))}
            used |= {"curve_frames": settings.curve_frames}
            yield Job(
                "curve",
                f"{run.name}, {system}",
                partial(_ff_curve.curve, run, system, settings),
                settings={} if system == _ff_curve.VALIDATION else used,
                weights={run.name: run.weights},
                command=f"{PROGRAM} --rows curve --runs {run.checkpoint.folder}"
                + options_of(settings, Settings(), ("curve_frames",)),
                system=system,
            )


def _alone_jobs(runs: Sequence[Model], settings: Settings) -> Iterator[Job]:
    """All test sets of all runs."""
    for run in runs:
        for system in _ff_accuracy.TARGETS:
            yield Job(
                "alone",
                f"{run.name}, {system}",
                partial(_ff_accuracy.alone, run, system, settings),
                settings={"frames": settings.frames},
                weights={run.name: run.weights},
                command=f"{PROGRAM} --rows alone --runs {run.checkpoint.folder}"
                + options_of(settings, Settings(), ("frames",)),
                system=system,
            )


_OF_RUNS = {"effect": _effect_jobs, "curve": _curve_jobs, "alone": _alone_jobs}


if __name__ == "__main__":
    sys.exit(main())
