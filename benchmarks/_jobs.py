"""What the benchmarks share: options from settings, and jobs that are done once.

A job is one measurement of one system with given weights and settings. Its rows are written as soon
as they are made; asked for again, they come from the file, so that an interrupted benchmark goes on
where it stopped.
"""

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from _report import Row, Store

from shared.provenance import git_commit

__all__ = ["Job", "Skip", "carry_out", "chosen", "make_parser", "options_of"]


class Skip(Exception):
    """A measurement that cannot be made here; the message says why."""


@dataclass(frozen=True)
class Job:
    """One measurement of one system.

    Attributes:
        measurement: its name on the command line.
        name: what it is made on; with `measurement` the key of its rows in the file.
        measure: makes the rows; raises Skip with a reason.
        settings: what changes the result.
        weights: checkpoint -> checksum of the weights it uses.
        command: repeats it.
        system: in the table, where it is skipped; "": `name`.
        forget: removes what it left half done, before it is made anew.
    """

    measurement: str
    name: str
    measure: Callable[[], list[Row]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    system: str = ""
    forget: Callable[[], None] | None = None


def carry_out(job: Job, store: Store, fresh: bool) -> list[dict[str, Any]]:
    """The rows of a job: from the file, or made now and written to it."""
    checksums = list(job.weights.values())
    used = ", ".join(f"{key} {value}" for key, value in job.settings.items())
    known = store.get(job.measurement, job.name, checksums, used)
    if known and not fresh:
        return known
    print(f"{job.measurement} {job.name}", file=sys.stderr, flush=True)
    if fresh and job.forget is not None:
        job.forget()
    began = time.monotonic()
    skipped = False
    try:
        rows = job.measure()
    except Skip as reason:
        skipped = True
        system = job.system or job.name
        note = f"skipped: {reason}"
        rows = [Row(job.measurement, None, "-", "-", system, "-", beside=True, note=note)]
    extra = {
        "command": job.command,
        "settings": used,
        "weights": list(job.weights),
        "weights_sha256": checksums,
        "skipped": skipped,
        "seconds": round(time.monotonic() - began, 1),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine(),
        "git_commit": git_commit(),
    }
    return store.put(job.measurement, job.name, rows, extra)


def _machine() -> str:
    """The processor's name, where it is known, and the number of cores."""
    info = Path("/proc/cpuinfo")
    names = info.read_text().splitlines() if info.exists() else []
    name = next((line.split(": ")[1] for line in names if line.startswith("model name")), "")
    return f"{name or platform.processor()}, {os.cpu_count()} cores"


# --- command line -------------------------------------------------------------------------------


def make_parser(
    program: str,
    description: str,
    defaults: Any,
    words: Mapping[str, str],
    measurements: Iterable[str],
) -> argparse.ArgumentParser:
    """The options that all benchmarks have, and one for each setting.

    Args:
        program: as it is called.
        description: one sentence.
        defaults: a dataclass of settings; a tuple takes any number of values.
        words: setting -> its help, for those that are options.
        measurements: names that `--rows` takes.
    """
    made = argparse.ArgumentParser(
        program,
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    for name, text in words.items():
        default = getattr(defaults, name)
        option = "--" + name.replace("_", "-")
        if isinstance(default, tuple):
            made.add_argument(option, nargs="+", default=default, metavar="NAME", help=text)
        else:
            made.add_argument(option, type=type(default), default=default, help=text)
    made.add_argument(
        "--rows",
        nargs="+",
        choices=measurements,
        default=list(measurements),
        metavar="NAME",
        help="which of " + ", ".join(measurements),
    )
    made.add_argument("--out", type=Path, default=None, help="JSON file of the results")
    made.add_argument("--all", action="store_true", help="print every number, not only the table")
    made.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    made.add_argument(
        "--fresh",
        action="store_true",
        help="measure again what is in the file; with stability, simulate again",
    )
    made.add_argument("--quick", action="store_true", help="tiny settings: does it run?")
    return made


def chosen(arguments: argparse.Namespace, defaults: Any, quick: Mapping[str, Any]) -> Any:
    """The settings that were asked for; with `--quick`, tiny where nothing else was."""
    values = {f.name: getattr(arguments, f.name) for f in fields(defaults)}
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    settings = replace(defaults, **values)
    if not arguments.quick:
        return settings
    untouched = {k: v for k, v in quick.items() if values[k] == getattr(defaults, k)}
    return replace(settings, **untouched)


def options_of(settings: Any, defaults: Any, names: Iterable[str]) -> str:
    """The options of a command line that give these settings where they are not the defaults."""
    text = ""
    for name in names:
        value = getattr(settings, name)
        if value != getattr(defaults, name):
            value = " ".join(map(str, value)) if isinstance(value, tuple) else value
            text += f" --{name.replace('_', '-')} {value}"
    return text
