"""Files that are whole or not there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["replacing"]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write to the path given, which then takes the place of ``path`` in one step.

    It is in the same folder and has the same name each time, so that a kill leaves at most one
    behind; what fails leaves none, and ``path`` as it was.
    """
    part = path.with_name(f".part-{path.name}")
    try:
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
