"""The results file: tidy rows, and the jobs that made them.

A job is one measurement of one model on one system. Its rows are kept together with a fingerprint
of all that they depend on (settings, seed, weights) and the checksums of the files that were read,
so that an interrupted evaluation, started again, goes on where it stopped, and a number never
outlives what made it.
"""

import fcntl
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from shared.errors import InputError
from shared.evaluation.statistics import Estimate
from shared.files import replacing

__all__ = [
    "FORMAT",
    "VERSION",
    "Results",
    "Row",
    "beyond",
    "not_within",
    "read_results",
    "without_time",
]

FORMAT, VERSION = "trajgen-results", 1


@dataclass(frozen=True)
class Row:
    """One number; the columns are described in docs/evaluation.md."""

    protocol: str
    part: str
    data: str
    system: str
    model: str
    metric: str
    value: float | None
    variant: str = ""
    horizon: str = ""
    horizon_fs: float | None = None
    unit: str = "1"
    n: int | None = None
    low: float | None = None
    high: float | None = None
    timing: bool = False
    note: str = ""

    @classmethod
    def of(cls, estimate: Estimate, **columns: Any) -> "Row":
        """A row with the value, interval and count of an estimate."""
        return cls(
            value=estimate.value, low=estimate.low, high=estimate.high, n=estimate.n, **columns
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON: numbers that are not finite become null."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }


_DEFAULTS = {f.name: f.default for f in fields(Row) if f.default is not MISSING}


def not_within(note: str, time_fs: float) -> str:
    """The note of a time that was not reached, beside what else is noted."""
    return "; ".join(filter(None, (note, f"not within {time_fs:g} fs")))


def beyond(note: str) -> str:
    """ "> 500" where `not_within` noted 500 fs; else ""."""
    found = re.search(r"not within (\S+) fs", note)
    return f"> {found[1]}" if found else ""


def without_time(note: str) -> str:
    """A note without what `not_within` added."""
    return re.sub(r"(; )?not within \S+ fs", "", note)


class Results:
    """A results file that jobs are added to; two processes may.

    Args:
        path: the file; made at the first `put`.
        name: of the evaluation.
        artefacts: folder of the artefacts.
        provenance: of the process that adds; in the file, its `files` are those of all jobs.

    Raises:
        InputError: the file is there and of another version, or no results file.
    """

    def __init__(
        self, path: str | Path, name: str, artefacts: str | Path, provenance: Mapping[str, Any]
    ) -> None:
        self.path = Path(path)
        self._head = {
            "format": FORMAT,
            "version": VERSION,
            "name": name,
            "artefacts": str(artefacts),
        }
        self._provenance = dict(provenance)
        if self.path.exists():
            read_results(self.path)

    def known(self, job: str, fingerprint: str, files: Mapping[str, str] | None = None) -> bool:
        """Whether a job was done with this fingerprint; what was skipped is to be tried again.

        With `files`, path -> SHA-256 of data as they are now, also whether none of them has
        changed since; one that is not here says nothing, nor does a record from before 2026-11-23.
        """
        record = self._content()["jobs"].get(job)
        if record is None or record["fingerprint"] != fingerprint or record["skipped"] is not None:
            return False
        read = record.get("files", {})
        return all(read.get(path, checksum) == checksum for path, checksum in (files or {}).items())

    def measured(self, job: str) -> bool:
        """Whether a job was done, whatever it was asked for."""
        record = self._content()["jobs"].get(job)
        return record is not None and record["skipped"] is None

    def put(self, job: str, rows: Iterable[Row], record: Mapping[str, Any]) -> None:
        """Replace the rows of a job. The file is locked, and replaced as a whole."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            content = self._content()
            others = [row for row in content["rows"] if row["job"] != job]
            new = [{"job": job, **row.as_dict()} for row in rows]
            jobs = dict(sorted({**content["jobs"], job: dict(record)}.items()))
            read: dict[str, str] = dict(content.get("provenance", {}).get("files", {}))
            for each in jobs.values():
                read.update(each.get("files", {}))
            head = {**self._head, "provenance": {**self._provenance, "files": read}}
            with replacing(self.path) as part:
                part.write_text(_text(head, jobs, others + new), encoding="utf-8")

    def rows(self, jobs: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """The rows of some jobs in that order; None: all, in that of the file."""
        rows = self._content()["rows"]
        if jobs is None:
            return list(rows)
        return [row for job in jobs for row in rows if row["job"] == job]

    def skipped(self, jobs: Sequence[str]) -> dict[str, str]:
        """Job -> why, of those that were not measured."""
        records = self._content()["jobs"]
        return {job: reason for job in jobs if (reason := records[job]["skipped"]) is not None}

    def _content(self) -> dict[str, Any]:
        return read_results(self.path) if self.path.exists() else {"jobs": {}, "rows": []}


def _text(
    head: Mapping[str, Any], jobs: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]
) -> str:
    """The file: a job a line, a row a line, without the columns that have their default."""

    def line(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))

    job_lines = ",\n".join(f"  {line(name)}: {line(record)}" for name, record in jobs.items())
    row_lines = ",\n".join(
        "  " + line({k: v for k, v in row.items() if k not in _DEFAULTS or v != _DEFAULTS[k]})
        for row in rows
    )
    start = json.dumps(head, indent=1, ensure_ascii=False, allow_nan=False).removesuffix("\n}")
    return f'{start},\n "jobs": {{\n{job_lines}\n }},\n "rows": [\n{row_lines}\n ]\n}}\n'


def read_results(path: str | Path) -> dict[str, Any]:
    """The content of a results file; rows have all their columns.

    Raises:
        InputError: not there, not JSON, no results file, incomplete, or of another version.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such results file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable results file ({error})") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path}: not a results file of shared.evaluate; give another name")
    if content.get("version") != VERSION:
        raise InputError(
            f"{path}: version {content.get('version')} of the results format, this program writes "
            f"version {VERSION}; move the file away or give another name"
        )
    if not (isinstance(content.get("jobs"), dict) and isinstance(content.get("rows"), list)):
        raise InputError(f"{path}: a results file without its jobs or rows; give another name")
    content["rows"] = [{**_DEFAULTS, **row} for row in content["rows"]]
    return content
