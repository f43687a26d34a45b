"""The results file, the artefacts, and the tables made from them."""

import json
from pathlib import Path

import numpy as np
import pytest

from shared.checkpoint import load
from shared.errors import InputError
from shared.evaluation.artefacts import index, save_artefact
from shared.evaluation.results import Results, Row, beyond, not_within
from shared.evaluation.statistics import Estimate
from shared.evaluation.tables import FOLDER, documents, fill, filled, matrix, pivot, targets
from shared.evaluation.targets import TARGETS, Found, Target
from shared.report.page import page
from shared.report.source import read_source


def row(model: str, value: float | None, system: str = "ethanol", **columns) -> Row:
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


def test_a_job_is_known_by_the_files_it_read(tmp_path: Path) -> None:
    results = Results(tmp_path / "r.json", "md17", "runs", {})
    results.put("s2l/ethanol/x", [], record("a") | {"files": {"e.npz": "sha256:1"}})
    results.put("s2l/ethanol/old", [], record("a"))
    assert results.known("s2l/ethanol/x", "a", {"e.npz": "sha256:1"})
    assert not results.known("s2l/ethanol/x", "a", {"e.npz": "sha256:2"})
    assert results.known("s2l/ethanol/x", "a", {})  # not here, so not known to have changed
    assert results.known("s2l/ethanol/x", "a", {"another.npz": "sha256:3"})
    assert results.known("s2l/ethanol/old", "a", {"e.npz": "sha256:1"})


def test_provenance_has_the_files_of_all_processes(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    first, second = (
        Results(path, "md17", "runs", {"git_commit": name, "files": {}}) for name in ("a", "b")
    )
    for results, name in ((first, "a"), (second, "b"), (first, "a")):
        files = {"files": {f"{name}.npz": name}}
        results.put(f"s2l/{name}/x", [row("x", 1.0)], record("a") | files)
    found = json.loads(path.read_text(encoding="utf-8"))["provenance"]
    assert found == {"git_commit": "a", "files": {"a.npz": "a", "b.npz": "b"}}


def test_rows_take_a_line_each_and_come_back_whole(tmp_path: Path) -> None:
    rows = [
        row("x", 1.0),
        row("y", 2.0, note="no ξ", horizon_fs=50.0),
        row("z", 0.0, n=3, low=-1.0),
    ]
    results = Results(tmp_path / "r.json", "md17", "runs", {"versions": {"torch": "2"}})
    results.put("s2l/ethanol/x", rows, record("a"))
    assert results.rows() == [{"job": "s2l/ethanol/x", **r.as_dict()} for r in rows]
    text = results.path.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if '"RMSE com"' in line]
    assert len(lines) == 3
    assert '"low"' not in lines[0]
    assert list(json.loads(text)) == [
        "format",
        "version",
        "name",
        "artefacts",
        "provenance",
        "jobs",
        "rows",
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"format": "trajgen-results", "version": 99, "rows": []}', "version 99"),
        ('{"format": "trajgen-results", "version": 1}', "without its jobs or rows"),
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


def test_each_part_has_a_trajectory_of_its_own(tmp_path: Path) -> None:
    for part, data in (("s2l", "surrogate"), ("s2l_real", "real")):
        common = ("ethanol", "persistence", "", data)
        save_artefact(tmp_path, "trajectory", *common, from_part=part)
    assert len(index(tmp_path)) == 2
    old = tmp_path / "trajectory" / "ethanol" / "persistence.npz"
    old.write_bytes(index(tmp_path)[0].path.read_bytes())
    save_artefact(tmp_path, "trajectory", *common, from_part="s2l")
    assert len(index(tmp_path)) == 2  # what all parts had as one file goes


def test_artefacts_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for system in ("1200K", "torsion-scan", "300K", "600K"):
        save_artefact(tmp_path, "s2l", system, "x", "", "d")
    assert [a.system for a in index(tmp_path)] == ["300K", "600K", "1200K", "torsion-scan"]


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
    text = document.read_text()
    assert "| model [Å] | ethanol | uracil |" in text
    assert "| trajgen:a, fitted | 0.25 (0.2–0.3) | 0.125 |" in text
    assert "old" not in text
    assert "| generator | 0.4; trajgen:a; 1000 frames | not measured |" in text
    assert "Data: md17s." in text
    assert fill(document, tmp_path) == 2
    assert document.read_text() == text
    for wrong, says in (("md17 colour=red", "no column colour"), ("md71", "none of md17, isomers")):
        document.write_text(f"<!-- table results={wrong} -->\n<!-- /table -->\n")
        with pytest.raises(InputError, match=says):
            fill(document, tmp_path)
    document.write_text("<!-- table results=isomers part=o2o -->\n<!-- /table -->\n")
    assert fill(document, tmp_path) == 1
    assert "Not measured yet." in document.read_text()
    assert "not measured" in matrix(tmp_path / "nowhere")
    assert json.loads((tmp_path / "md17.json").read_text())["version"] == 1
    assert pivot(results.rows()[:1]).startswith("| model [Å] |")


def test_tables_say_which_rows_are_of_former_weights(tmp_path: Path) -> None:
    ships = load("md17s", "forcefield").config.weights_sha256
    results = Results(tmp_path / "trial.json", "trial", "runs", {})
    for model, weights in (
        ("forcefield:md17s", {"md17s": ships}),
        ("forcefield:3bpa", {"3bpa": "0" * 64}),
        ("forcefield:runs/mine/3bpa", {"3bpa": "0" * 64}),
        ("oracle", {}),
    ):
        results.put(f"s2l/ethanol/{model}", [row(model, 1.0)], record("a") | {"weights": weights})
    document = tmp_path / "README.md"
    document.write_text("<!-- table results=trial part=s2l -->\n<!-- /table -->\n")
    fill(document, tmp_path)
    said = document.read_text()
    assert "Of weights before those that ship now: forcefield:3bpa.\n" in said


def test_former_weights_meet_no_target_and_are_not_in_the_matrix(tmp_path: Path) -> None:
    results = Results(tmp_path / "md17.json", "md17", "runs", {})
    columns = {"variant": "fitted", "n": 20}
    rows = [
        row("forcefield:md17s", 0.04, metric="RMSE com / best trivial", **columns),
        row("forcefield:md17s", 0.2, metric="ARMSE com", **{**columns, "horizon": "1000 frames"}),
    ]
    job = "s2l/ethanol/forcefield:md17s"
    for weights, counts in (
        (load("md17s", "forcefield").config.weights_sha256, True),
        ("0", False),
    ):
        results.put(job, rows, record("a") | {"weights": {"md17s": weights}})
        assert ("forcefield:md17s, fitted" in matrix(tmp_path)) is counts
        said = page(read_source(results.path))
        assert ("What is required" in said) is counts
        assert ("| ≤ 0.05 | yes |" in targets(tmp_path)) is counts


def test_the_matrix_takes_the_best_model_of_those_measured_everywhere(tmp_path: Path) -> None:
    results = Results(tmp_path / "md17.json", "md17", "runs", {})
    columns = {"metric": "ARMSE com", "horizon": "1000 frames"}
    values = {"all": (0.4, 0.2), "worse": (0.5, 0.6), "egnn": (0.1, 0.1)}
    rows = [
        row(f"forcefield:runs/{name}", value, system, **columns)
        for name, found in values.items()
        for value, system in zip(found, ("ethanol", "uracil"), strict=True)
    ]
    rows.append(row("forcefield:special", 0.01, **columns))
    results.put("s2l/ethanol/a", rows, record("a"))
    text = matrix(tmp_path, without=["egnn"])
    cell = "0.3 (0.2 to 0.4); forcefield:all; 1000 frames"
    assert f"| force field | {cell} | not measured |" in text
    assert "forcefield:egnn" in matrix(tmp_path)


def test_what_differs_gets_a_line_and_an_order(tmp_path: Path) -> None:
    rows = [
        row("trajgen:a", 4.0, horizon="100 fs", horizon_fs=100.0),
        row("trajgen:a", 3.0, horizon="5 fs", horizon_fs=5.0),
        row("trajgen:a", 2.0, "aspirin", horizon="5 fs", horizon_fs=5.0),
        row("persistence", 1.0, horizon="5 fs", horizon_fs=5.0),
    ]
    plain = [one.as_dict() for one in rows]
    assert pivot(plain).splitlines()[2:] == [
        "| 5 fs | persistence |  | 1 |",
        "| 5 fs | trajgen:a | 2 | 3 |",
        "| 100 fs | trajgen:a |  | 4 |",
    ]
    head, _, *lines = pivot(plain, across="horizon").splitlines()
    assert head == "| system | model [Å] | 5 fs | 100 fs |"
    assert lines[0] == "| aspirin | trajgen:a | 2 |  |"


def test_notes_name_the_molecules_that_they_are_about() -> None:
    rows = [
        row("a", 1.0, "ethanol", note="best trivial: mean"),
        row("a", 1.0, "uracil", note="best trivial: persistence"),
        row("b", 1.0, "uracil", note="best trivial: persistence"),
        row("b", 1.0, "aspirin", note="best trivial: mean"),
        row("b", 1.0, "aspirin", note="not comparable: published"),
    ]
    plain = [one.as_dict() for one in rows]
    assert pivot(plain).split("\n\n")[1:] == [
        "Not comparable: published.",
        "Best trivial: mean (ethanol, aspirin), persistence (uracil).",
    ]
    assert pivot(plain[:1]).endswith("\n\nBest trivial: mean.")
    plain += [one | {"horizon": "1000 frames"} for one in plain]
    assert "Best trivial, 1000 frames: mean (ethanol, aspirin)" in pivot(plain)


def test_a_time_that_was_not_reached_says_what_it_is_beyond() -> None:
    note = not_within("surrogate: odd", 500.0)
    assert (beyond(note), beyond("surrogate: odd")) == ("> 500", "")
    rows = [row("a", None, "uracil", note=note), row("a", None, "ethanol")]
    assert "| a | – | > 500 |" in pivot([one.as_dict() for one in rows])


def test_notes_name_models_that_have_another_best_trivial_predictor() -> None:
    rows = [
        row(model, 1.0, "uracil", note=f"best trivial: {best}").as_dict()
        for model, best in (("a", "mean"), ("b", "persistence"), ("c", "persistence"))
    ]
    assert pivot(rows).endswith("\n\nBest trivial: mean (uracil beside a), persistence (uracil).")


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.parent.name))
def test_shipped_tables_are_those_of_the_shipped_rows(document: Path) -> None:
    text, count = filled(document, FOLDER)
    assert text == document.read_text(encoding="utf-8")
    assert count or document.name != "results.md"


def test_a_target_is_as_good_as_its_worst_place() -> None:
    def rows(name: str) -> list[dict]:
        assert name == "md17"
        found = [
            row("a", 0.2, n=20, low=0.1, high=0.5),
            row("a", 0.9, system="uracil", n=20),
            row("own", 0.4, system="uracil", n=20),
            row("a", 5.0, system="toluene", n=20),
            row("a", 5.0, system="aspirin", n=3),
            row("a", None, system="salicylic", n=20),
            row("engine", 0.4, n=20),
            row("engine", 0.8, system="uracil", n=20),
        ]
        return [each.as_dict() for each in found]

    query = {"part": ("s2l",), "model": ("a", "own"), "metric": ("RMSE com",)}
    common = {"fewest": 10, "without": ("toluene",)}
    target = Target("x", "md17", query, {"": 0.3}, **common)
    found = target.hold(rows)
    assert found == Found(False, Estimate(0.4, None, None, 20), "uracil, 100 frames", 2, 1)
    assert Target("x", "md17", query, {"100 frames": 0.4}, **common).hold(rows).met
    over = Target("x", "md17", query, {"": 0.5}, over="engine", **common).hold(rows)
    assert over == Found(True, Estimate(0.5, 0.25, 1.25, 20), "ethanol, 100 frames", 2, 0)
    least = Target("x", "md17", query, {"": 0.5}, at_least=True, **common).hold(rows)
    assert least == Found(False, Estimate(0.2, 0.1, 0.5, 20), "ethanol, 100 frames", 2, 1)
    assert Target("x", "md17", query | {"model": ("b",)}, {"": 1.0}).hold(rows) == Found(None)


def test_targets_make_a_table(tmp_path: Path) -> None:
    """What was not measured says so; bounds are of rows that evaluations write."""
    assert "not measured" in targets(tmp_path)
    path = tmp_path / "page.md"
    path.write_text("<!-- table targets -->\n<!-- /table -->\n", encoding="utf-8")
    assert fill(path, FOLDER) == 1
    text = path.read_text("utf-8")
    assert text.count("\n| ") == len(TARGETS) + 1
    assert "not measured" not in text
    # Of all molecules, horizons and metrics: what is no longer there cannot be missed.
    places = [int(line.split("|")[-2]) for line in text.splitlines()[3 : 3 + len(TARGETS)]]
    assert places == [7, 7, 7, 7, 7, 7, 9, 9, 9, 3, 1, 2, 7, 7, 3, 3, 3, 1]
