"""The results file, the artefacts, and the tables made from them."""

import json
from pathlib import Path

import numpy as np
import pytest

from shared.errors import InputError
from shared.evaluation.artefacts import index, save_artefact
from shared.evaluation.results import Results, Row
from shared.evaluation.tables import fill, matrix, pivot


def row(model: str, value: float, system: str = "ethanol", **columns) -> Row:
    names = {"protocol": "P1", "part": "s2l", "data": "md17s", "metric": "RMSE com"}
    names |= {"horizon": "100 frames", "unit": "Å"}
    return Row(model=model, value=value, system=system, **{**names, **columns})


def record(fingerprint: str, skipped: str | None = None) -> dict:
    return {"fingerprint": fingerprint, "skipped": skipped}


def test_jobs_are_known_by_their_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    results = Results(path, "md17", "runs", {"versions": {}})
    results.put("s2l/ethanol/x", [row("x", 1.0)], record("a"))
    results.put("s2l/uracil/x", [], record("a", "no file"))
    again = Results(path, "md17", "runs", {})
    assert again.known("s2l/ethanol/x", "a")
    assert not again.known("s2l/ethanol/x", "b")
    assert not again.known("s2l/uracil/x", "a")  # skipped: to be tried again
    again.put("s2l/ethanol/x", [row("x", 2.0), row("x", float("nan"))], record("b"))
    assert [r["value"] for r in again.rows()] == [2.0, None]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"format": "trajgen-results", "version": 99, "rows": []}', "version 99"),
        ('{"rows": []}', "not a results file"),
        ("{", "not a readable"),
    ],
)
def test_another_file_is_refused_and_kept(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(content)
    with pytest.raises(InputError, match=says):
        Results(path, "md17", "runs", {})
    assert path.read_text() == content


def test_artefacts_keep_the_names(tmp_path: Path) -> None:
    save_artefact(tmp_path, "s2l", "C=CC(=O)C/C", "trajgen:a/b", "nve", "d", x=np.arange(3))
    (found,) = index(tmp_path)
    assert found[:4] == ("s2l", "C=CC(=O)C/C", "trajgen:a/b", "nve")
    assert ":" not in found.path.name
    with np.load(found.path, allow_pickle=False) as arrays:
        assert arrays["x"].tolist() == [0, 1, 2]


def test_tables_are_filled_from_rows(tmp_path: Path) -> None:
    results = Results(tmp_path / "md17.json", "md17", "runs", {})
    rows = [
        row("persistence", 0.5),
        row("trajgen:a", 0.25, low=0.2, high=0.3, variant="fitted"),
        row("trajgen:a", 0.125, system="uracil", variant="fitted"),
        row("trajgen:a", 0.4, metric="ARMSE com", horizon="1000 frames"),
    ]
    results.put("s2l/ethanol/a", rows, record("a"))
    document = tmp_path / "README.md"
    marker = '<!-- table results=md17 part=s2l metric="RMSE com" horizon="100 frames" -->'
    text = (
        f"before\n{marker}\nold\n<!-- /table -->\nafter\n<!-- table matrix -->\n<!-- /table -->\n"
    )
    document.write_text(text)
    assert fill(document, tmp_path) == 2
    filled = document.read_text()
    assert "| model [Å] | ethanol | uracil |" in filled
    assert "| trajgen:a, fitted | 0.25 (0.2–0.3) | 0.125 |" in filled
    assert "old" not in filled
    assert "| generator | 0.4; trajgen:a | not measured |" in filled
    assert fill(document, tmp_path) == 2
    assert document.read_text() == filled
    document.write_text("<!-- table results=md17 colour=red -->\n<!-- /table -->\n")
    with pytest.raises(InputError, match="no column colour"):
        fill(document, tmp_path)
    assert "not measured" in matrix(tmp_path / "nowhere")
    assert json.loads((tmp_path / "md17.json").read_text())["version"] == 1
    assert pivot(results.rows()[:1]).startswith("| model [Å] |")
