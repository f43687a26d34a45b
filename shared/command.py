"""The command lines of both heads: options, log lines, exit codes.

`run_command` takes a frame and gives a trajectory: the command line is the signature of a function,
its help a table of options. `train_command` takes a config. `exit_code` is what all commands do
with what goes wrong. Nothing heavy is imported before the arguments are read.

Exit codes: 0 done; 2 bad input (one line, nothing written); 1 anything else: interrupted by Ctrl-C,
a disk that is full (what was written stays valid, `--resume` goes on), or no replica left whole.
"""

import argparse
import inspect
import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from shared.errors import InputError
from shared.run import FORMATS, Run

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

__all__ = [
    "DEVICE",
    "FILES",
    "FRAME",
    "LENGTH",
    "REPLICAS",
    "Options",
    "Parser",
    "exit_code",
    "run_command",
    "train_command",
]

# Group -> option -> type or choices (bool: a switch), metavar, help. Where the default in the
# function's signature is not None it is added to the help.
Group = dict[str, tuple[Any, str | None, str]]
Options = dict[str, Group]

# What every run can be asked for.
FRAME: Group = {"frame": (int, "N", "frame, from 0, negative from the end (default: last)")}
REPLICAS: Group = {"replicas": (int, "R", "how many trajectories")}
DEVICE: Group = {"device": (str, "DEVICE", "cpu or cuda")}
LENGTH: Group = {"length-ps": (float, "PS", "length of the trajectory, ps")}
FILES: Group = {
    "out": (
        str,
        "PATH",
        "path of the outputs without ending (default: name of FILE, in the current folder)",
    ),
    "format": (FORMATS, None, "dcd and xtc hold positions, h5 and extxyz velocities and times too"),
    "resume": (bool, None, "go on with a run of the same arguments; --length-ps may be longer"),
    "overwrite": (bool, None, "replace the outputs of an earlier run"),
    "plot": (bool, None, "write a PNG: temperature, bond deviation, RMSD to the start"),
}


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        name = self.prog.removeprefix("python -m ")
        self.exit(2, f"{name}: {message}; --help lists the options\n")


def _parser(
    program: str, description: str, function: Callable[..., Run], options: Options
) -> argparse.ArgumentParser:
    parser = Parser(
        prog=f"python -m {program}",
        usage="%(prog)s --from FILE [OPTIONS]",
        description=description,
        epilog="Exit codes: 0 done, 2 bad input (nothing is written), 1 anything else.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--from",
        dest="source",
        metavar="FILE",
        required=True,
        help="xyz, extxyz or pdb file of one molecule, Å; velocities in Å/fs are read if present",
    )
    parameters = inspect.signature(function).parameters
    for title, entries in options.items():
        group = parser.add_argument_group(title)
        for name, (kind, metavar, text) in entries.items():
            default = parameters[name.replace("-", "_")].default
            if kind is bool:
                group.add_argument(f"--{name}", action="store_true", help=text)
                continue
            accepted = {"choices": kind} if isinstance(kind, tuple) else {"type": kind}
            shown = "" if default is None else f" (default: {default})"
            group.add_argument(
                f"--{name}", default=default, metavar=metavar, help=text + shown, **accepted
            )
    return parser


def run_command(
    program: str,
    description: str,
    function: Callable[..., Run],
    options: Options,
    argv: list[str] | None,
) -> int:
    """Read the arguments, call the function, say what came of it; returns the exit code.

    Args:
        program: the module, as in `python -m`.
        description: first line of the help.
        function: takes `source`, the options as keyword arguments, and `progress`.
        options: what the command line offers.
        argv: arguments; None: those of the process.
    """
    arguments = vars(_parser(program, description, function, options).parse_args(argv))

    def act() -> int:
        with _log_lines(program.partition(".")[0], "shared"):
            run = function(**arguments, progress=True)
        print(run.summary())
        if not run.survived:
            print(f"{program}: no replica is whole, stopped", file=sys.stderr)
        return 0 if run.survived else 1

    return exit_code(program, act, "what was written is valid, --resume goes on")


def train_command(
    program: str,
    parser: "Callable[[], ArgumentParser]",
    train: Callable[[Any], Path | None],
    argv: list[str] | None,
) -> int:
    """Read a config, train by it; returns the exit code.

    Args:
        program: the module, as in `python -m`.
        parser: of its config.
        train: takes the sections of the config; returns the folder of what it released, None in
            those processes of a data-parallel run that release nothing.
        argv: arguments; None: those of the process.
    """
    from shared.config import parse_config

    def act() -> None:
        with _log_lines(program.partition(".")[0], "shared"), _warnings_as_lines(program):
            folder = train(parse_config(parser(), argv))
        if folder is not None:
            print(f"{folder}: {_released(folder)}")

    return exit_code(program, act, "run.resume: true goes on from the last validation")


def _released(folder: Path) -> str:
    """Which weights a training released."""
    from shared.checkpoint import CONFIG

    made = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["provenance"]["training"]
    return f"the weights of step {made['released_step']} of {made['steps']}, with a model card"


def exit_code(
    program: str,
    act: Callable[[], int | None],
    kept: str = "",
    stops: tuple[type[BaseException], ...] = (KeyboardInterrupt, OSError, MemoryError),
) -> int:
    """Act; what goes wrong is one line on stderr and an exit code, as the module says.

    Args:
        program: the line begins with it.
        act: returns the exit code, None for 0.
        kept: what is left of what was begun and how to go on, said if it is cut short.
        stops: what is neither bad input nor a mistake of this program.
    """
    try:
        return act() or 0
    except InputError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    except stops as error:
        what = "interrupted" if isinstance(error, KeyboardInterrupt) else error
        print(f"{program}: {what}" + (f"; {kept}" if kept else ""), file=sys.stderr)
        return 1


@contextmanager
def _warnings_as_lines(program: str) -> Iterator[None]:
    """Warnings on stderr, one line each."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        print(f"{program}: warning: {' '.join(str(message).split())}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


@contextmanager
def _log_lines(*packages: str) -> Iterator[None]:
    """Log lines of the packages on stderr, as they are."""
    handler = logging.StreamHandler(sys.stderr)
    logs = [logging.getLogger(package) for package in packages]
    for log in logs:
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False  # the lines are the command's own: root would print them again
    try:
        yield
    finally:
        for log in logs:
            log.removeHandler(handler)
            log.propagate = True
