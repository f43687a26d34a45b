"""Tidy rows of a benchmark, the JSON file that keeps them, and the table that shows them.

A row is one number: what was measured, on what, with which model, at which horizon, and, where
something is required of it, the target and whether it was met, which is computed here and nowhere
else. The file keeps the rows of a measurement together with the checksum of the weights and the
settings that they belong to, so that an interrupted benchmark goes on where it stopped.
"""

import fcntl
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from shared.files import replacing

__all__ = ["Row", "Store", "Target", "grid", "number", "table"]


@dataclass(frozen=True)
class Target:
    """Bounds of a required value, both included; `below` is not."""

    at_least: float | None = None
    at_most: float | None = None
    below: float | None = None

    def met(self, value: float | None) -> bool:
        """Does a value keep the bounds? None and NaN never do."""
        return (
            value is not None
            and (self.at_least is None or value >= self.at_least)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
            and not math.isnan(value)
        )

    def __str__(self) -> str:
        if self.at_least is not None and self.at_most is not None:
            return f"{self.at_least:g}–{self.at_most:g}"
        signs = {"≥": self.at_least, "≤": self.at_most, "<": self.below}
        return " ".join(f"{sign} {bound:g}" for sign, bound in signs.items() if bound is not None)


@dataclass(frozen=True)
class Row:
    """One number.

    Attributes:
        metric: what was measured.
        value: the number; None where it could not be measured.
        protocol: P1-P7 of docs/evaluation, or "-".
        data: the data set it was measured on.
        system: molecule, or "any".
        model: checkpoint, or what the number belongs to beside it: engine, reference, persistence…
        unit: its unit, "1" for ratios and shares.
        horizon: time or frames it refers to, or "".
        n: how many samples (starts, replicas, windows, frames) it comes from.
        low, high: 95 % interval, where there is one.
        target: what is required of it.
        beside: belongs in the short table although nothing is required of it.
        note: what a reader must know; the reason where it was skipped.
    """

    metric: str
    value: float | None
    protocol: str
    data: str
    system: str
    model: str
    unit: str = "1"
    horizon: str = ""
    n: int | None = None
    low: float | None = None
    high: float | None = None
    target: Target | None = None
    beside: bool = False
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON: numbers that are not finite become null, the verdict is added."""
        entries = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("value", "low", "high"):
            if entries[name] is not None:
                number = float(entries[name])
                entries[name] = number if math.isfinite(number) else None
        entries["target"] = None if self.target is None else str(self.target)
        entries["pass"] = None if self.target is None else self.target.met(entries["value"])
        return entries


class Store:
    """The JSON file of results; two processes may add to it.

    Args:
        path: the file; made on the first `put`.
        common: provenance of the last process that added to it (versions, platform).
    """

    def __init__(self, path: Path, common: Mapping[str, Any]) -> None:
        self.path, self._common = path, dict(common)

    def get(
        self, measurement: str, system: str, weights: Sequence[str], settings: str
    ) -> list[dict[str, Any]]:
        """The rows of a measurement made on these weights with these settings; skipped ones are
        not among them, since what they lacked may be there now."""
        return [
            row
            for row in self._rows()
            if (row["measurement"], row["job"]) == (measurement, system)
            and row["weights_sha256"] == list(weights)
            and row["settings"] == settings
            and not row["skipped"]
        ]

    def put(
        self, measurement: str, system: str, rows: Iterable[Row], extra: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Replace a measurement's rows. The file is locked, and replaced as a whole."""
        job = {"measurement": measurement, "job": system}
        new = [job | row.as_dict() | dict(extra) for row in rows]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            others = [row for row in self._rows() if any(row[key] != job[key] for key in job)]
            content = {"provenance": self._common, "rows": others + new}
            text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
            with replacing(self.path) as part:
                part.write_text(text + "\n", encoding="utf-8")
        return new

    def _rows(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        rows: list[dict[str, Any]] = json.loads(self.path.read_text(encoding="utf-8"))["rows"]
        return rows


def table(
    rows: Sequence[Mapping[str, Any]],
    systems: Sequence[str],
    *,
    everything: bool = False,
    short: bool = False,
    markdown: bool = False,
) -> str:
    """The rows as a table: one line per metric, horizon and model, one column per system.

    Args:
        rows: as `Store` keeps them, in the order they shall appear.
        systems: the columns; "any" is added where a row has it.
        everything: also what is neither required nor set beside what is.
        short: only metrics of which something is required, of whatever model, without intervals.
        markdown: pipes instead of aligned columns.
    """
    groups: dict[tuple[str, ...], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        key = tuple(row[name] for name in ("measurement", "metric", "horizon", "model", "unit"))
        groups.setdefault(key, {})[row["system"]] = row
    if any("any" in cells for cells in groups.values()):
        systems = [*systems, "any"]
    lines = [["", "target", "met", *systems]]
    judged = {row["metric"] for row in rows if row["target"]}
    for (_, metric, horizon, model, unit), cells in groups.items():
        bounds = (cells[s]["target"] for s in systems if s in cells)
        target = " / ".join(dict.fromkeys(bound for bound in bounds if bound))
        if short and metric not in judged:
            continue
        if not (everything or target or any(row["beside"] for row in cells.values())):
            continue
        label = ", ".join(part for part in (metric, horizon, model) if part)
        label += f" [{unit}]" if unit != "1" else ""
        values = [number(cells[s]["value"]) if s in cells else "" for s in systems]
        lines.append([label, target, _verdict(cells.values()), *values])
        if not short and any(row["low"] is not None for row in cells.values()):
            intervals = [_interval(cells[s]) if s in cells else "" for s in systems]
            lines.append(["  95 % interval", "", "", *intervals])
    notes = dict.fromkeys(f"{row['measurement']}: {row['note']}" for row in rows if row["note"])
    notes |= dict.fromkeys(
        f"{row['system']}: weights of {name}"
        for row in rows
        for name in row["weights"]
        if name.endswith(f"-{row['system']}")
    )
    body = grid(lines, markdown=markdown)
    return "\n".join([body, "", _summary(rows), *(["", *(f"- {n}" for n in notes)] * bool(notes))])


def grid(lines: Sequence[Sequence[str]], *, markdown: bool = False) -> str:
    """Cells as aligned columns, or with pipes; the first line is the head."""
    return _markdown(lines) if markdown else _plain(lines)


def _verdict(cells: Iterable[Mapping[str, Any]]) -> str:
    judged = [row["pass"] for row in cells if row["target"] is not None]
    if not judged:
        return ""
    return "yes" if all(judged) else f"no ({sum(judged)} of {len(judged)})"


def _summary(rows: Sequence[Mapping[str, Any]]) -> str:
    judged = [row for row in rows if row["target"] is not None]
    if not judged:
        return "Nothing is required of these."
    models = {row["model"] for row in judged}
    missed: dict[str, list[str]] = {}
    for row in judged:
        if not row["pass"]:
            whose = f"{row['model']}, " if len(models) > 1 else ""
            missed.setdefault(row["metric"], []).append(f"{whose}{row['system']}")
    text = f"{sum(row['pass'] for row in judged)} of {len(judged)} targets met."
    where = ", ".join(f"{metric} ({'; '.join(places)})" for metric, places in missed.items())
    return f"{text} Missed: {where}." if where else text


def number(value: float | None) -> str:
    """Three digits, a dash for None."""
    if value is None:
        return "–"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _interval(row: Mapping[str, Any]) -> str:
    return "" if row["low"] is None else f"{number(row['low'])}–{number(row['high'])}"


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    head, *body = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([head, "|---" * len(lines[0]) + "|", *body])


def _plain(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
