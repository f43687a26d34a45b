"""Tables of results: on the screen, and in documents between markers; no number is typed.

    python -m shared.evaluation.tables README.md docs/results.md

(without names: these and the cards of the shipped checkpoints) fills what stands between

    <!-- table results=md17 part=windows metric="ADE|FDE" -->
    <!-- /table -->

with one line for each model and variant and one column for each system. `results` is a file of
docs/results; the other words are columns of its rows, with one value or several. `across=horizon`
gives each horizon a column instead; what else differs gets a line of its own. `interval=no` leaves
the intervals out.

    <!-- table matrix without=md17s-egnn,md17s-gmn -->

is both heads on all data sets; `without` names checkpoints that are no model of a head. And

    <!-- table targets -->

is what is required of the models that ship, and whether they keep it (`shared.evaluation.targets`).
"""

import re
import shlex
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from shared.checkpoint import CARD, shipped
from shared.command import exit_code
from shared.errors import InputError
from shared.evaluation.results import beyond, read_results, without_time
from shared.evaluation.systems import SETS
from shared.evaluation.targets import TARGETS, former_jobs
from shared.report.models import Key, rank

__all__ = ["fill", "filled", "main", "matrix", "pivot", "summary", "targets"]

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "results"

_MARKED = re.compile(r"(<!-- table (.*?) -->\n).*?(<!-- /table -->)", re.DOTALL)
_HEADS = {"forcefield": "force field", "trajgen": "generator"}


class _Column(NamedTuple):
    """What a column of the matrix is made from."""

    results: str
    heading: str
    query: dict[str, str]
    highest: bool = False


_MATRIX = (
    _Column(
        "md17",
        "MD17 surrogates: ARMSE(1000 frames) [Å]",
        {"part": "s2l", "metric": "ARMSE com", "horizon": "1000 frames"},
    ),
    _Column("md17", "stable share", {"part": "stability", "metric": "stable share"}, True),
    _Column(
        "isomers",
        "C7O2H10: ARMSE(500 frames) [Å]",
        {"part": "o2o", "metric": "ARMSE com", "horizon": "500 frames", "system": "unseen"},
    ),
    _Column("isomers", "stable share", {"part": "stability", "metric": "stable share"}, True),
    _Column(
        "3bpa",
        "3BPA: ARMSE(1000 frames) [Å]",
        {"part": "s2l", "metric": "ARMSE com", "horizon": "1000 frames"},
    ),
    _Column("3bpa", "stable share", {"part": "stability", "metric": "stable share"}, True),
)
# What the screen shows of each part.
_SHOWN = (
    "RMSE com / persistence",
    "RMSE com / best trivial",
    "stable share",
    "RMSE of energies",
    "RMSE of forces",
    "feature shift / diffusivity shift",
    "ADE",
    "S2S, contiguous starts",
    "bond JSD / static-oracle",
    "torsion JSD / static-oracle",
    "VDOS distance / static-oracle",
    "speed",
)
_SYSTEMS = {name: place for place, name in enumerate(sum(SETS.values(), ()))}

Rows = Sequence[Mapping[str, Any]]


def pivot(rows: Rows, *, interval: bool = True, across: str = "system") -> str:
    """Rows as Markdown: models down, the values of a column across.

    Args:
        rows: of any kind; systems, horizons and metrics that differ and are not across get lines.
        interval: show the 95 % intervals.
        across: system or horizon.
    """
    apart = [
        name
        for name in ("metric", "horizon", "system")
        if name != across and len({row[name] for row in rows}) > 1
    ]
    columns = sorted(dict.fromkeys(row[across] for row in rows), key=_order(rows, across))
    cells: dict[tuple[Any, ...], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        line = (*(row[name] for name in apart), Key(row["model"], row["variant"]))
        cells.setdefault(line, {})[row[across]] = row
    orders = [_order(rows, name) for name in apart]
    names = _names(rows)
    units = {row["unit"] for row in rows}
    of_all = f" [{units.pop()}]" if len(units) == 1 and units != {"1"} else ""
    lines = [[*apart, f"model{of_all}", *columns]]
    for line in sorted(
        cells,
        key=lambda line: (
            *(order(value) for order, value in zip(orders, line[:-1], strict=True)),
            rank(line[-1]),
        ),
    ):
        key = line[-1]
        name = ", ".join(filter(None, (names[key.model], key.variant)))
        found = cells[line]
        said = list(line[:-1])
        if "metric" in apart and not of_all and (unit := next(iter(found.values()))["unit"]) != "1":
            said[apart.index("metric")] += f" [{unit}]"
        lines.append([*said, name, *(_cell(found.get(c), interval) for c in columns)])
    notes = _notes(rows, apart, across)
    return _markdown(lines) + "".join(f"\n\n{note[0].upper()}{note[1:]}." for note in notes)


def _names(rows: Rows) -> dict[str, str]:
    """Models as tables show them: of a checkpoint in a folder its name, if no other has it."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    short = [_short(model) for model in models]
    return {m: name if short.count(name) == 1 else m for m, name in zip(models, short, strict=True)}


def _short(model: str) -> str:
    head, colon, name = model.partition(":")
    return f"{head}{colon}{Path(name).name}" if colon else model


def _notes(rows: Rows, apart: Sequence[str], across: str) -> list[str]:
    """What rows note as "subject: words". Where the best trivial predictor is not the same in all
    cells, each is named with its columns, and with its lines where those differ too; where it is
    not the same for all models of a cell (one may be compared at fewer frames), with those that
    have another than most."""
    best, others = "best trivial: ", list[str]()
    names = _names(rows)
    if former := _names([row for row in rows if row.get("former")]):
        others.append(f"of weights before those that ship now: {', '.join(former.values())}")
    # line -> predictor -> column -> models
    found: dict[str, dict[str, dict[str, dict[str, None]]]] = {}
    for row in rows:
        note = without_time(row["note"])
        if note.startswith(best):
            line = ", ".join(str(row[name]) for name in apart)
            columns = found.setdefault(line, {}).setdefault(note.removeprefix(best), {})
            columns.setdefault(row[across], {})[names[row["model"]]] = None
        elif ":" in note[:24]:
            others.append(note)
    if len({predictor for line in found.values() for predictor in line}) == 1:
        others += [f"{best}{next(iter(line))}" for line in found.values()]
    else:
        for line, predictors in found.items():
            words = (f"{name} ({', '.join(_places(name, predictors))})" for name in predictors)
            others.append(f"best trivial{line and f', {line}'}: {', '.join(words)}")
    return list(dict.fromkeys(others))


def _places(name: str, predictors: Mapping[str, Mapping[str, Collection[str]]]) -> list[str]:
    """The columns of a predictor; with models where most of that column have another."""
    places = []
    for column, models in predictors[name].items():
        most = max(predictors, key=lambda other: len(predictors[other].get(column, ())))
        places.append(column if most == name else f"{column} beside {', '.join(models)}")
    return places


def _order(rows: Rows, name: str) -> Callable[[str], Any]:
    """How the values of a column are sorted: systems as their data set has them, horizons by time,
    what is left as it comes."""
    place = {value: at for at, value in enumerate(dict.fromkeys(row[name] for row in rows))}
    if name == "system":
        return lambda value: (_SYSTEMS.get(value, len(_SYSTEMS)), place[value])
    times = {row["horizon"]: row["horizon_fs"] or 0.0 for row in rows}
    return lambda value: (times[value] if name == "horizon" else 0.0, place[value])


def matrix(folder: Path, without: Collection[str] = ()) -> str:
    """Both heads × data sets × accuracy and stability: the median over systems, and the range.

    Args:
        folder: of the results.
        without: names of checkpoints that do not count.
    """
    lines = [["", *(column.heading for column in _MATRIX)]]
    data: dict[str, None] = {}
    for head, words in _HEADS.items():
        line = [words]
        for column in _MATRIX:
            found = [
                row
                for row in _chosen(_read(folder, column.results), column.query)
                if row["model"].startswith(f"{head}:")
                and Path(row["model"].partition(":")[2]).name not in without
                and row["value"] is not None
                and not row["former"]
            ]
            line.append(_of_best_model(found, highest=column.highest))
            data |= dict.fromkeys(row["data"] for row in found)
        lines.append(line)
    return _markdown(lines) + (f"\n\nData: {'; '.join(data)}." if data else "")


def targets(folder: Path) -> str:
    """What is required, and how it stands: the worst of all that a bound is for.

    Args:
        folder: of the results.
    """
    read = cache(partial(_read, folder))
    lines = [["required", "bound", "met", "worst", "places"]]
    held = [(target, target.hold(read)) for target in TARGETS]
    for target, found in held:
        places = f"{found.places - found.missed} of {found.places}" if found.missed else ""
        if found.worst is None:
            lines.append([target.says, target.bound, "not measured", "", ""])
            continue
        met = "yes" if found.met else f"**no** ({places})"
        worst = f"{_cell(vars(found.worst), True)}, {found.where}"
        lines.append([target.says, target.bound, met, worst, str(found.places)])
    count = sum(found.met is True for _, found in held)
    return f"{_markdown(lines)}\n\n{count} of {len(held)} targets met."


def _of_best_model(rows: Rows, *, highest: bool) -> str:
    """Median and range over systems of the best model by the median, of those that were measured on
    the most systems."""
    groups: dict[tuple[str, str, str], list[float]] = {}
    for row in rows:
        groups.setdefault((row["model"], row["variant"], row["horizon"]), []).append(row["value"])
    if not groups:
        return "not measured"
    sign = -1 if highest else 1
    (model, variant, horizon), values = min(
        groups.items(), key=lambda item: (-len(item[1]), sign * np.median(item[1]))
    )
    name = ", ".join(filter(None, (_short(model), variant)))
    spread = f" ({_number(min(values))} to {_number(max(values))})" if len(values) > 1 else ""
    return f"{_number(float(np.median(values)))}{spread}; {name}; {horizon}"


def fill(path: str | Path, folder: str | Path) -> int:
    """Fill the tables of a document from the results in a folder; returns how many.

    Raises:
        InputError: a marker that says nothing known, or results of another version.
    """
    path = Path(path)
    text, count = filled(path, folder)
    path.write_text(text, encoding="utf-8")
    return count


def filled(path: str | Path, folder: str | Path) -> tuple[str, int]:
    """The text of a document with its tables filled, and how many there are."""
    path, folder = Path(path), Path(folder)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a readable document ({error})") from None
    return _MARKED.subn(
        lambda match: f"{match[1]}{_table(match[2], folder, path)}\n{match[3]}", text
    )


def _table(marker: str, folder: Path, path: Path) -> str:
    words = shlex.split(marker)
    if words == ["targets"]:
        return targets(folder)
    is_matrix = words[:1] == ["matrix"]
    query = dict(word.partition("=")[::2] for word in words[is_matrix:])
    if is_matrix:
        return matrix(folder, query.get("without", "").split(","))
    interval = query.pop("interval", "yes") != "no"
    across, name = query.pop("across", "system"), query.pop("results", "")
    rows = _read(folder, name)
    if not rows and name not in SETS:
        known = dict.fromkeys([*SETS, *(file.stem for file in sorted(folder.glob("*.json")))])
        raise InputError(f"{path}: results={name} is none of {', '.join(known)}")
    if rows and (unknown := [key for key in (*query, across) if key not in rows[0]]):
        raise InputError(f"{path}: no column {unknown[0]}; there are {', '.join(rows[0])}")
    found = _chosen(rows, query)
    return pivot(found, interval=interval, across=across) if found else "Not measured yet."


def _chosen(rows: Rows, query: Mapping[str, str]) -> list[Mapping[str, Any]]:
    """The rows whose columns have one of the values asked for."""
    wanted = {key: value.split("|") for key, value in query.items()}
    return [row for row in rows if all(str(row[key]) in wanted[key] for key in wanted)]


def _read(folder: Path, name: str) -> list[dict[str, Any]]:
    """The rows of a results file; none where it is not there. Those that a shipped checkpoint had
    with weights that it does not ship with any more are noted as such."""
    path = folder / f"{name}.json"
    if not path.exists():
        return []
    results = read_results(path)
    former = former_jobs(results["jobs"])
    return [{**row, "former": row["job"] in former} for row in results["rows"]]


def summary(rows: Rows, path: Path, skipped: Mapping[str, str]) -> str:
    """What a run of the evaluation prints: the figures that matter most, as plain columns; then
    what was not measured, a line for each reason.

    Args:
        rows: of this run's jobs.
        path: of the results file.
        skipped: job -> why.
    """
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
    jobs: dict[str, list[str]] = {}
    for job, reason in skipped.items():
        jobs.setdefault(reason, []).append(job)
    lines = [
        f"not measured: {of[0]}{f' and {len(of) - 1} more' if of[1:] else ''}: {reason}"
        for reason, of in jobs.items()
    ]
    return "\n\n".join([*blocks, "\n".join([f"{len(rows)} rows in {path}", *lines])])


def _cell(row: Mapping[str, Any] | None, interval: bool) -> str:
    if row is None:
        return ""
    if row["value"] is None:
        return beyond(row["note"]) or "–"
    value = _number(row["value"])
    if interval and row["low"] is not None and row["low"] != row["high"]:
        return f"{value} ({_number(row['low'])}–{_number(row['high'])})"
    return value


def _number(value: float) -> str:
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


def documents() -> list[Path]:
    """The files of the project that have tables."""
    root = FOLDER.parents[1]
    cards = [folder / CARD for head in _HEADS for folder in shipped(head).values()]
    return [root / "README.md", root / "docs" / "results.md", *cards]


def main(argv: list[str] | None = None) -> int:
    """Fill the documents named on the command line."""
    paths = sys.argv[1:] if argv is None else argv

    def act() -> None:
        for path in paths or documents():
            if count := fill(path, FOLDER):
                print(f"{path}: {count} tables")

    return exit_code("shared.evaluation.tables", act)


if __name__ == "__main__":
    sys.exit(main())
