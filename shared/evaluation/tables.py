"""Tables of results: on the screen, and in documents between markers; no number is typed.

    python -m shared.evaluation.tables README.md docs/results.md

fills what stands between

    <!-- table results=md17 part=s2l metric="RMSE com / persistence" horizon="100 frames" -->
    <!-- /table -->

with one line per model and variant and one column per system. `results` is a file of docs/results,
the other words are columns of its rows; `interval=no` leaves the intervals out. `<!-- table matrix
-->` stands for both heads on all data sets.
"""

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shared.errors import InputError
from shared.evaluation.results import read_results

__all__ = ["fill", "main", "matrix", "pivot", "summary"]

_MARKED = re.compile(r"(<!-- table (.*?) -->\n).*?(<!-- /table -->)", re.DOTALL)
_HEADS = {"forcefield": "force field", "trajgen": "generator"}
# Data set -> (part, metric, horizon) of its accuracy and of its stability.
_MATRIX = {
    "md17": (("s2l", "ARMSE com", "1000 frames"), ("stability", "stable share", None)),
    "isomers": (("o2o", "ARMSE com", "500 frames"), ("stability", "stable share", None)),
    "3bpa": (("s2l", "ARMSE com", None), ("stability", "stable share", None)),
}
# What the screen shows of each part.
_SHOWN = (
    "RMSE com / persistence",
    "RMSE com / best trivial",
    "stable share",
    "RMSE of energies",
    "RMSE of forces",
    "ADE",
    "S2S, contiguous starts",
    "bond JSD / static-oracle",
    "torsion JSD / static-oracle",
    "VDOS distance / static-oracle",
    "speed",
)

Rows = Sequence[Mapping[str, Any]]


def pivot(rows: Rows, *, interval: bool = True) -> str:
    """Rows of one metric and horizon as Markdown: models down, systems across."""
    systems = list(dict.fromkeys(row["system"] for row in rows))
    models = list(dict.fromkeys((row["model"], row["variant"]) for row in rows))
    units = {row["unit"] for row in rows} - {"1"}
    head = f"model{f' [{units.pop()}]' if len(units) == 1 else ''}"
    cells = {(row["model"], row["variant"], row["system"]): row for row in rows}
    lines = [[head, *systems]]
    for model, variant in models:
        name = f"{model}, {variant}" if variant else model
        found = (cells.get((model, variant, system)) for system in systems)
        lines.append([name, *(_cell(row, interval) for row in found)])
    notes = dict.fromkeys(row["note"] for row in rows if row["note"] and ":" in row["note"][:24])
    text = _markdown(lines)
    return text + "".join(f"\n\n{note[0].upper()}{note[1:]}." for note in notes)


def matrix(folder: Path) -> str:
    """Both heads × data sets × accuracy and stability: the median over systems, and the range."""
    lines = [["", *(f"{data}, {what}" for data in _MATRIX for what in ("ARMSE", "stable share"))]]
    for head, words in _HEADS.items():
        line = [words]
        for data, queries in _MATRIX.items():
            rows = _read(folder, data)
            for part, metric, horizon in queries:
                found = [
                    row
                    for row in rows
                    if row["model"].startswith(f"{head}:")
                    and (row["part"], row["metric"]) == (part, metric)
                    and horizon in (None, row["horizon"])
                    and row["value"] is not None
                ]
                line.append(_of_best_model(found, highest=metric == "stable share"))
        lines.append(line)
    return _markdown(lines)


def _of_best_model(rows: Rows, *, highest: bool) -> str:
    """Median and range over systems of the model and variant that is best by the median."""
    groups: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        groups.setdefault((row["model"], row["variant"]), []).append(row["value"])
    if not groups:
        return "not measured"
    sign = -1 if highest else 1
    (model, variant), values = min(groups.items(), key=lambda item: sign * np.median(item[1]))
    name = f"{model}, {variant}" if variant else model
    spread = f" ({_number(min(values))} to {_number(max(values))})" if len(values) > 1 else ""
    return f"{_number(float(np.median(values)))}{spread}; {name}"


def fill(path: str | Path, folder: str | Path) -> int:
    """Fill the tables of a document from the results in a folder; returns how many.

    Raises:
        InputError: a marker that says nothing known, or results that are not there.
    """
    path, folder = Path(path), Path(folder)
    count = 0

    def filled(match: re.Match[str]) -> str:
        nonlocal count
        count += 1
        return f"{match[1]}{_table(match[2], folder, path)}\n{match[3]}"

    text = _MARKED.sub(filled, path.read_text(encoding="utf-8"))
    path.write_text(text, encoding="utf-8")
    return count


def _table(words: str, folder: Path, path: Path) -> str:
    if words.strip() == "matrix":
        return matrix(folder)
    query = dict(word.partition("=")[::2] for word in shlex.split(words))
    interval = query.pop("interval", "yes") != "no"
    name = query.pop("results", "")
    rows = _read(folder, name, must=True)
    if rows and (unknown := [key for key in query if key not in rows[0]]):
        raise InputError(f"{path}: no column {unknown[0]}; there are {', '.join(rows[0])}")
    found = [row for row in rows if all(str(row[key]) == value for key, value in query.items())]
    return pivot(found, interval=interval) if found else "Not measured yet."


def _read(folder: Path, name: str, must: bool = False) -> list[dict[str, Any]]:
    path = folder / f"{name}.json"
    if not must and not path.exists():
        return []
    rows: list[dict[str, Any]] = read_results(path)["rows"]
    return rows


def summary(rows: Rows, path: Path) -> str:
    """What a run of the evaluation prints: the figures that matter most, as plain columns."""
    blocks = []
    keys = dict.fromkeys(
        (row["protocol"], row["part"], row["metric"], row["horizon"])
        for row in rows
        if row["metric"] in _SHOWN
    )
    for key in keys:
        own = [
            row
            for row in rows
            if (row["protocol"], row["part"], row["metric"], row["horizon"]) == key
        ]
        protocol, part, metric, horizon = key
        title = ", ".join(word for word in (f"{protocol} {part}", metric, horizon) if word)
        blocks.append(f"{title}\n{_plain(pivot(own, interval=False))}")
    return "\n\n".join([*blocks, f"{len(rows)} rows in {path}"])


def _cell(row: Mapping[str, Any] | None, interval: bool) -> str:
    if row is None:
        return ""
    value = _number(row["value"])
    if interval and row["low"] is not None and row["low"] != row["high"]:
        return f"{value} ({_number(row['low'])}–{_number(row['high'])})"
    return value


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    head, *body = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([head, "|---" * len(lines[0]) + "|", *body])


def _plain(markdown: str) -> str:
    """A Markdown table as aligned columns."""
    lines = [line.strip("| ").split(" | ") for line in markdown.split("\n\n")[0].splitlines()]
    del lines[1]
    width = max(map(len, lines))
    lines = [line + [""] * (width - len(line)) for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def main(argv: list[str] | None = None) -> int:
    """Fill the documents named on the command line."""
    paths = sys.argv[1:] if argv is None else argv
    folder = Path(__file__).resolve().parents[2] / "docs" / "results"
    try:
        for path in paths or ["README.md", "docs/results.md"]:
            print(f"{path}: {fill(path, folder)} tables")
    except (InputError, OSError) as error:
        print(f"shared.evaluation.tables: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
