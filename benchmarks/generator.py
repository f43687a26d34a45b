"""python benchmarks/generator.py: everything that is required of the generator, measured.

Prints the table of requirements for the shipped checkpoint, and keeps its numbers as tidy rows in
benchmarks/results/generator.json. Every measurement of every molecule stands alone and is written
as soon as it is made: an interrupted benchmark, started again, goes on where it stopped, and the
long simulations within a few picoseconds. Numbers belong to the weights they were made with.

Data: TRAJGEN_DATA (md17s with its oracle files, md17, sgdml). Packages: the extra `reference`.
"""

from _environment import ROOT  # isort: split

import argparse
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import _accuracy
import _cost
import _validity
from _jobs import Job, carry_out, chosen, make_parser, options_of
from _report import Row, Store, table
from _runs import Settings, run_folder, subject

from shared.data.md17 import SURROGATE_MOLECULES
from shared.errors import InputError
from shared.provenance import provenance
from trajgen.load import open_checkpoint

RESULTS = ROOT / "benchmarks" / "results" / "generator.json"
QUICK = {
    "replicas": 4,
    "stability_ps": 2.0,
    "paper_replicas": 2,
    "paper_ps": 0.1,
    "ensemble": 4,
    "energy_frames": 8,
    "cost_s": 1.0,
}


@dataclass(frozen=True)
class Measurement:
    """A function that measures one system, and what it depends on.

    Attributes:
        measure: (system, settings) -> rows; raises Skip with a reason.
        uses: the settings that change its result.
        systems: what it is made on; None: every molecule asked for.
    """

    measure: Callable[[str, Settings], list[Row]]
    uses: tuple[str, ...] = ()
    systems: tuple[str, ...] | None = None


SIMULATION = ("replicas", "stability_ps")
MEASUREMENTS = {
    "stability": Measurement(_validity.stability, SIMULATION),
    "temperature": Measurement(_validity.temperature, SIMULATION),
    "distributions": Measurement(_validity.distributions, SIMULATION),
    "energy": Measurement(_validity.energy, (*SIMULATION, "energy_frames")),
    "rmse": Measurement(_accuracy.rmse),
    "windows": Measurement(_accuracy.windows),
    "ensemble": Measurement(_accuracy.ensemble, ("ensemble",)),
    "real": Measurement(_accuracy.real, systems=("ethanol",)),
    "cost": Measurement(_cost.cost, ("cost_s",)),
    "command": Measurement(_cost.command, systems=("ethanol",)),
    "help": Measurement(_cost.help, systems=("any",)),
    "paper": Measurement(_accuracy.paper, ("paper", "paper_replicas", "paper_ps")),
}


def main(argv: list[str] | None = None) -> int:
    """Command line; exit code 0 once everything was measured, whatever came out; 2 bad input."""
    import torch

    arguments = parser().parse_args(argv)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # distant pairs underflow; denormals slow matmuls tenfold
    settings = chosen(arguments, Settings(), QUICK)
    out = arguments.out or (settings.folder / "quick.json" if arguments.quick else RESULTS)
    store = Store(out, provenance())
    rows: list[dict[str, Any]] = []
    try:
        known = open_checkpoint(settings.checkpoint).config.molecules
        molecules = arguments.molecules or [m for m in SURROGATE_MOLECULES if m in known]
        for name in arguments.rows:
            for system in MEASUREMENTS[name].systems or molecules:
                if system in (*molecules, "any"):
                    rows += carry_out(_job(name, system, settings), store, arguments.fresh)
    except InputError as error:
        print(f"benchmarks/generator.py: {error}", file=sys.stderr)
        return 2
    print(table(rows, molecules, everything=arguments.all, markdown=arguments.markdown))
    return 0


def parser() -> argparse.ArgumentParser:
    """Options, with the fields of `Settings` as defaults."""
    words = {
        "checkpoint": "name or folder of the generator",
        "paper": "name or folder of the generator in paper mode",
        "replicas": "replicas of the long simulation",
        "stability_ps": "its length in ps",
        "paper_replicas": "replicas of the short simulation that paper mode is compared by",
        "paper_ps": "its length in ps",
        "ensemble": "samples per start of the ensemble",
        "energy_frames": "generated frames whose potential energy is computed",
        "cost_s": "CPU seconds that each speed is measured for",
        "folder": "where the long simulations are kept",
    }
    made = make_parser(
        "python benchmarks/generator.py",
        __doc__.split("\n\n")[0].split(": ")[1],
        Settings(),
        words,
        MEASUREMENTS,
    )
    made.add_argument(
        "--molecules",
        nargs="+",
        choices=SURROGATE_MOLECULES,
        metavar="NAME",
        help="which of " + ", ".join(SURROGATE_MOLECULES) + "; all that the checkpoint knows",
    )
    return made


def _job(name: str, system: str, settings: Settings) -> Job:
    """One measurement of one system."""
    measurement = MEASUREMENTS[name]
    uses = measurement.uses
    asked = "" if system == "any" else f" --molecules {system}"
    options = options_of(settings, Settings(), ("checkpoint", *uses))

    def forget() -> None:
        s = subject(settings.checkpoint, system)
        folder = run_folder(s, settings.replicas, settings.stability_ps, settings.folder)
        shutil.rmtree(folder, ignore_errors=True)

    return Job(
        name,
        system,
        lambda: measurement.measure(system, settings),
        settings={key: getattr(settings, key) for key in uses},
        weights=_checkpoints(settings, system, "paper" in uses),
        command=f"python benchmarks/generator.py --rows {name}{asked}{options}",
        forget=forget if name == "stability" else None,
    )


def _checkpoints(settings: Settings, system: str, with_paper: bool) -> dict[str, str]:
    """Name -> checksum of the weights that a measurement of this system uses."""
    if system == "any":
        return {}
    found = {}
    for checkpoint in (settings.checkpoint, *([settings.paper] if with_paper else [])):
        try:
            s = subject(checkpoint, system)
        except InputError:
            if checkpoint == settings.checkpoint:
                raise
        else:
            found[s.generator.config.name] = s.weights
    return found


if __name__ == "__main__":
    sys.exit(main())
