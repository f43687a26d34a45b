"""python benchmarks/publish.py: put measured numbers where they are read; nothing is typed.

Fills what stands between `<!-- results:begin -->` and `<!-- results:end -->` in README.md and in
the model card of every shipped generator, from the rows that benchmarks/generator.py keeps. A card
gets the rows that its own weights made; `md17s.json` has those of the shared model alone, without
the fine-tuned ones.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from _environment import ROOT  # isort: split

from _report import table

from shared.checkpoint import CARD, shipped
from shared.data.md17 import SURROGATE_MOLECULES

RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


def main() -> None:
    """Fill README.md and the cards."""
    rows = _rows(RESULTS / "generator.json")
    fill(ROOT / "README.md", _table(rows))
    for name, folder in shipped("trajgen").items():
        own = _rows(RESULTS / f"{name}.json") or rows
        own = [row for row in own if name in row["weights"]]
        fill(folder / CARD, _table(own) if own else "Not measured yet.")


def fill(path: Path, text: str) -> None:
    """Replace what stands between the markers of a file."""
    before, rest = path.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return rows


def _table(rows: list[dict[str, Any]]) -> str:
    from generator import MEASUREMENTS

    order = list(MEASUREMENTS)
    kept = sorted((row for row in rows if not row["skipped"]), key=lambda row: _place(row, order))
    systems = [m for m in SURROGATE_MOLECULES if any(row["system"] == m for row in kept)]
    return table(kept, systems, markdown=True)


def _place(row: Mapping[str, Any], order: list[str]) -> tuple[int, int]:
    molecules = [*SURROGATE_MOLECULES, "any"]
    return order.index(row["measurement"]), molecules.index(row["job"])


if __name__ == "__main__":
    main()
