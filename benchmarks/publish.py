"""python benchmarks/publish.py: put measured numbers where they are read; nothing is typed.

Fills what stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->`: in docs/benchmarks.md
`results`, from the rows that benchmarks/generator.py keeps, and `forcefield`, from those of
benchmarks/forcefield.py; the same in README.md, without what nothing is required of; in
docs/benchmarks.md `engine`, from those of benchmarks/engine.py; `results` in the model card of
every shipped checkpoint, from the rows that its own weights made. `md17s.json` has those of the
shared generator alone, without the fine-tuned ones.
"""

from _environment import ROOT  # isort: split

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from _ff_measurements import sections
from _ff_models import identity
from _report import table

from shared.card import NOT_MEASURED
from shared.checkpoint import CARD, load, shipped
from shared.data.md17 import SURROGATE_MOLECULES
from shared.errors import InputError

RESULTS = ROOT / "benchmarks" / "results"

Rows = list[dict[str, Any]]


def main() -> int:
    """Fill the pages and the cards; exit code 2 where one has no place for them."""
    rows = {
        head: current(_rows(RESULTS / f"{name}.json"), head)
        for head, name in (("trajgen", "generator"), ("forcefield", "forcefield"))
    }
    try:
        for page, short in (("README.md", True), ("docs/benchmarks.md", False)):
            fill(ROOT / page, "results", _table(rows["trajgen"], short=short))
            text = sections(rows["forcefield"], short=short)
            fill(ROOT / page, "forcefield", text or NOT_MEASURED)
        engine = _rows(RESULTS / "engine.json")
        fill(ROOT / "docs/benchmarks.md", "engine", _table(engine) if engine else NOT_MEASURED)
        fill_cards("trajgen", rows["trajgen"], _table)
        fill_cards("forcefield", rows["forcefield"], sections)
    except InputError as error:
        print(f"benchmarks/publish.py: {error}", file=sys.stderr)
        return 2
    return 0


def current(rows: Rows, head: str) -> Rows:
    """Without the rows that former weights of a head's shipped checkpoints made."""
    now = {name: identity(load(name, head).config) for name in shipped(head)}

    def belongs(row: Mapping[str, Any]) -> bool:
        pairs = zip(row["weights"], row["weights_sha256"], strict=True)
        return all(now.get(name, checksum) == checksum for name, checksum in pairs)

    return [row for row in rows if belongs(row)]


def fill_cards(head: str, rows: Rows, written: Callable[[Rows], str]) -> None:
    """Fill the cards of a head's shipped checkpoints.

    One whose results are tables of an evaluation keeps them: `shared.evaluation.tables` fills it.

    Args:
        head: trajgen or forcefield.
        rows: of all of them, where a checkpoint has no results file of its own name.
        written: rows -> tables.
    """
    for name, folder in shipped(head).items():
        weights = identity(load(name, head).config)
        own = _rows(RESULTS / f"{name}.json") or rows
        own = [row for row in own if weights in row["weights_sha256"]]
        if "<!-- table " not in (folder / CARD).read_text(encoding="utf-8"):
            fill(folder / CARD, "results", written(own) if own else NOT_MEASURED)


def fill(path: Path, name: str, text: str) -> None:
    """Replace what stands between the markers of that name in a file.

    Raises:
        InputError: the file does not have them once each, in order.
    """
    begin, end = (f"<!-- {name}:{which} -->" for which in ("begin", "end"))
    content = path.read_text(encoding="utf-8")
    before, found, rest = content.partition(begin)
    _, also, after = rest.partition(end)
    if not (found and also) or content.count(begin) + content.count(end) > 2:
        raise InputError(f"{path}: needs {begin} and {end}, once each")
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def _rows(path: Path) -> Rows:
    if not path.exists():
        return []
    rows: Rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return rows


def _table(rows: Rows, *, short: bool = False) -> str:
    from generator import MEASUREMENTS

    order = list(MEASUREMENTS)
    kept = sorted((row for row in rows if not row["skipped"]), key=lambda row: _place(row, order))
    systems = [m for m in SURROGATE_MOLECULES if any(row["system"] == m for row in kept)]
    return table(kept, systems, short=short, markdown=True)


def _place(row: Mapping[str, Any], order: list[str]) -> tuple[int, int]:
    molecules = [*SURROGATE_MOLECULES, "any"]
    return order.index(row["measurement"]), molecules.index(row["job"])


if __name__ == "__main__":
    sys.exit(main())
