"""The console script `trajgen`: `trajgen sample …` is `python -m trajgen.sample …`, and so on.

The modules of the commands are imported when they are called, so that each pays for its own only.
"""

import difflib
import sys
from importlib import import_module, metadata

__all__ = ["main"]

# Command -> module with `main(argv) -> exit code`, and what it does.
_COMMANDS = {
    "sample": ("trajgen.sample", "generate a trajectory from a frame"),
    "simulate": ("forcefield.simulate", "run molecular dynamics from a frame"),
    "train": ("trajgen.train", "train a generator from a config"),
    "train-forcefield": ("forcefield.train", "train a force field from a config"),
    "evaluate": ("shared.evaluate", "measure models by the protocols P1 to P7"),
    "report": ("shared.report.__main__", "make an HTML report of an evaluation's results"),
}


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns its exit code, 2 for one that is unknown."""
    argv = sys.argv[1:] if argv is None else argv
    command = argv[0] if argv else ""
    if command in _COMMANDS:
        return int(import_module(_COMMANDS[command][0]).main(argv[1:]))
    if command in ("-h", "--help"):
        print(_usage())
        return 0
    if command == "--version":
        print(metadata.version("trajgen"))
        return 0
    if not command:
        print(_usage(), file=sys.stderr)
        return 2
    near = difflib.get_close_matches(command, _COMMANDS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(_COMMANDS)}"
    print(f"trajgen: unknown command {command!r}; {hint}", file=sys.stderr)
    return 2


def _usage() -> str:
    width = max(map(len, _COMMANDS)) + 2
    lines = [f"  {name:<{width}}{what}" for name, (_, what) in _COMMANDS.items()]
    return "\n".join(
        ["usage: trajgen COMMAND [OPTIONS]", "", *lines, "", "trajgen COMMAND --help says more."]
    )
