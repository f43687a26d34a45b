"""Where a result comes from: time, versions, git commit, checksums of the files it was made with.

For the JSON beside every trajectory, run folder and table. Cheap: nothing heavy is imported.
"""

import hashlib
import platform
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from os import PathLike
from pathlib import Path
from typing import Any

from shared.data.locate import data_root

__all__ = ["checksums", "file_checksum", "git_commit", "provenance", "versions"]

_DISTRIBUTIONS = (
    "trajgen",
    "torch",
    "numpy",
    "scipy",
    "e3nn",
    "torch-geometric",
    "lightning",
    "ase",
    "mdtraj",
)
_RESULTS = (":(exclude)docs/results", ":(exclude)benchmarks/results")  # written by what has one


def versions() -> dict[str, str]:
    """Versions of Python and of the installed distributions that results depend on."""
    found = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """Commit of the source tree this file lies in, with ``-dirty`` if changed; None if no tree.

    Results that evaluations write into the tree are no change of it.
    """
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", *_RESULTS)
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + "-dirty" * bool(changed)


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


def file_checksum(path: str | PathLike[str]) -> str:
    """SHA-256 of a file, as ``sha256:<hex>``."""
    with open(path, "rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def checksums(files: Iterable[str | PathLike[str]]) -> dict[str, str]:
    """Path -> SHA-256; of a folder, all files in it. Files of the data folder go by their path in
    it, wherever it lies."""
    return {_name(path): file_checksum(path) for given in files for path in _files(given)}


def provenance(
    files: Iterable[str | PathLike[str]] = (), many: Mapping[str, Iterable[Path]] | None = None
) -> dict[str, Any]:
    """What to keep beside a result, ready for JSON.

    Args:
        files: the files the result was made from; of a folder, all files in it.
        many: files that one name stands for, a pattern say, with one checksum for all.

    Returns:
        ``created`` (UTC, ISO 8601), ``platform``, ``versions``, ``git_commit``, and ``files``:
        as `checksums`. With `many`, also ``many``: name -> number of files and SHA-256 of the
        lines ``sha256:<hex> <path>``, sorted by path.
    """
    found: dict[str, Any] = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "platform": f"{platform.system()} {platform.machine()}",
        "versions": versions(),
        "git_commit": git_commit(),
        "files": checksums(files),
    }
    if many:
        found["many"] = {pattern: _together(checksums(paths)) for pattern, paths in many.items()}
    return found


def _together(found: Mapping[str, str]) -> dict[str, Any]:
    lines = "".join(f"{checksum} {path}\n" for path, checksum in sorted(found.items()))
    digest = hashlib.sha256(lines.encode()).hexdigest()
    return {"files": len(found), "checksum": f"sha256:{digest}"}


def _name(path: str | PathLike[str]) -> str:
    full, root = Path(path).resolve(), data_root().resolve()
    return full.relative_to(root).as_posix() if full.is_relative_to(root) else str(path)


def _files(path: str | PathLike[str]) -> list[str | PathLike[str]]:
    """The file, or those of a folder."""
    if not Path(path).is_dir():
        return [path]
    return [*sorted(file for file in Path(path).iterdir() if file.is_file())]
