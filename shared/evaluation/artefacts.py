"""Curves and trajectories of an evaluation, one npz for each part, system, model and variant."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from shared.files import replacing

__all__ = ["Artefact", "index", "save_artefact"]


class Artefact(NamedTuple):
    """A file and what it belongs to."""

    part: str
    system: str
    model: str
    variant: str
    path: Path


def save_artefact(
    folder: Path, part: str, system: str, model: str, variant: str, data: str, **arrays: Any
) -> Path:
    """Write an artefact under a temporary name, and rename it.

    Trajectories are kept for the viewer whichever part made them, and say which in `from_part`:
    each part has a file of its own.
    """
    name = _plain(model) + (f"@{variant}" if variant else "")
    if "from_part" in arrays:
        name = f"{_plain(arrays['from_part'])}-{name}"
    path = folder / part / _plain(system) / f"{name}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    names: dict[str, Any] = {
        "part": part,
        "system": system,
        "model": model,
        "variant": variant,
        "data": data,
    }
    with replacing(path) as scratch:
        np.savez_compressed(scratch, **names, **arrays)
    if "from_part" in arrays:  # before 2026-11-24 all parts had one file
        path.with_name(path.name.removeprefix(f"{_plain(arrays['from_part'])}-")).unlink(
            missing_ok=True
        )
    return path


def index(folder: str | Path) -> list[Artefact]:
    """All artefacts of a folder, in the order of their paths, 300 before 1200."""
    return list(_found(Path(folder)))


def _found(folder: Path) -> Iterator[Artefact]:
    for path in sorted(folder.glob("*/*/*.npz"), key=_natural):
        with np.load(path, allow_pickle=False) as arrays:
            if "part" in arrays:
                part, system = str(arrays["part"]), str(arrays["system"])
                yield Artefact(part, system, str(arrays["model"]), str(arrays["variant"]), path)


def _natural(path: Path) -> list[tuple[str, int]]:
    """To sort by, numbers by their value."""
    return [(text, int(number or 0)) for text, number in re.findall(r"(\D*)(\d*)", str(path))]


def _plain(name: str) -> str:
    """A name as a file's: letters, digits, and a few signs."""
    return re.sub(r"[^\w.()=+-]", "_", name)
