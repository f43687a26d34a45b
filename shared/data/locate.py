"""Where data files are: ``$TRAJGEN_DATA`` if it is set, else ``~/.cache/trajgen``."""

import os
from pathlib import Path

from shared.errors import InputError

__all__ = ["data_root", "find_file"]


def data_root() -> Path:
    """The folder that holds the data sets, one subfolder each; it need not exist."""
    configured = os.environ.get("TRAJGEN_DATA")
    return Path(configured).expanduser() if configured else Path.home() / ".cache" / "trajgen"


def find_file(*candidates: str, what: str, source: str, name: str | None = None) -> Path:
    """The first of the ``candidates`` that is there.

    Args:
        candidates: paths relative to the data folder, the last component may be a pattern; the
            first one is where a user is told to put the file.
        what: the data, for the message ("MD17 ethanol").
        source: where to fetch it, a URL or a command.
        name: what ``shared.data.download`` calls it, where it can fetch it.

    Raises:
        InputError: none is there; the message says what to fetch and where to put it.
    """
    root = data_root()
    for candidate in candidates:
        folder, pattern = (root / candidate).parent, Path(candidate).name
        found = sorted(folder.glob(pattern))
        if found:
            return found[0]
    command = f"run python -m shared.data.download {name}, or " if name else ""
    raise InputError(
        f"{what} is not here: {command}fetch {source} and put it at {root / candidates[0]} "
        "(or point TRAJGEN_DATA at the folder that has it)"
    )
