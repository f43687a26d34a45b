"""Published numbers: they land between their markers, and belong to the weights that ship."""

import sys
from pathlib import Path
from typing import Any

import pytest

from shared.card import NOT_MEASURED
from shared.checkpoint import CARD, load, shipped
from shared.errors import InputError

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
FORCE_FIELD = "3bpa"
needs_weights = pytest.mark.skipif(
    FORCE_FIELD not in shipped("forcefield"), reason=f"needs the shipped checkpoint {FORCE_FIELD}"
)


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script as a module, which imports its neighbours as scripts do."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(sys, "path", [*sys.path, str(BENCHMARKS)])
    import publish

    return publish


def entry(measurement: str, system: str, value: float, **about: Any) -> dict:
    """A row as results files keep it."""
    from _report import Row

    row = Row("F RMSE", value, "P3", "d", system, "m", unit="meV/Å", beside=True).as_dict()
    file = {"measurement": measurement, "job": system, "skipped": False}
    return row | file | {"weights": [], "weights_sha256": []} | about


def test_markers(publish: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- x:begin -->\nold\n<!-- x:end -->\nb\n", encoding="utf-8")
    for text in ("new", "newer"):
        publish.fill(page, "x", text)
    assert page.read_text("utf-8") == "a\n<!-- x:begin -->\nnewer\n<!-- x:end -->\nb\n"
    for bad in ("", "<!-- x:end --><!-- x:begin -->", 2 * page.read_text("utf-8")):
        page.write_text(bad, encoding="utf-8")
        with pytest.raises(InputError, match=r"page\.md: needs <!-- x:begin -->"):
            publish.fill(page, "x", "new")
        assert page.read_text("utf-8") == bad


def test_force_fields_have_a_table_for_each_row(publish: Any) -> None:
    rows = [
        entry("rmd17", "ethanol", 21.0),
        entry("order", "300K", 2.0),
        entry("accuracy", "600K", 67.2),
        entry("accuracy", "300K", 34.4),
        entry("accuracy", "1200K", 1.0, skipped=True),
    ]
    text = publish.sections(rows)
    assert [line for line in text.splitlines() if line.startswith("**")] == [
        "**accuracy**",
        "**conservation**",
        "**rmd17**",
    ]
    assert "|  | target | met | 300K | 600K |\n" in text
    assert "| F RMSE, m [meV/Å] |  |  | 34.4 | 67.2 |\n" in text
    rows.append(entry("order", "300K", 2.0, target="1.8–2.2", **{"pass": True}))
    assert publish.sections(rows, short=True).startswith("**conservation**\n")
    assert "**rmd17**" not in publish.sections(rows, short=True)
    assert publish.sections([]) == ""


@needs_weights
def test_rows_of_former_weights_are_left_out(publish: Any) -> None:
    now = publish.identity(load(FORCE_FIELD, "forcefield").config)
    ours = {"weights": [FORCE_FIELD], "weights_sha256": [now]}
    without_priors = ours | {"weights_sha256": [now.split()[0]]}
    assert now.endswith(" hydrogen_wall-2")
    rows = [
        entry("accuracy", "300K", 1.0, **ours),
        entry("accuracy", "600K", 2.0, **ours | {"weights_sha256": ["0" * 64]}),
        entry("effect", "300K", 3.0, weights=["nequip-none"], weights_sha256=["1"]),
        entry("accuracy", "300K", 4.0),
        entry("speed", "300K", 5.0, **without_priors),
    ]
    assert [row["value"] for row in publish.current(rows, "forcefield")] == [1.0, 3.0, 4.0]


@needs_weights
def test_a_card_gets_what_its_weights_made(
    publish: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = publish.identity(load(FORCE_FIELD, "forcefield").config)
    folder = tmp_path / FORCE_FIELD
    folder.mkdir()
    monkeypatch.setattr(publish, "shipped", lambda head: {FORCE_FIELD: folder})
    monkeypatch.setattr(publish, "RESULTS", tmp_path)
    for checksum, expected in ((now, "| F RMSE, m [meV/Å] |"), ("0", NOT_MEASURED)):
        (folder / CARD).write_text("<!-- results:begin --><!-- results:end -->", encoding="utf-8")
        row = entry("accuracy", "300K", 1.0, weights=["x"], weights_sha256=[checksum])
        publish.fill_cards("forcefield", [row], publish.sections)
        assert expected in (folder / CARD).read_text("utf-8")


@pytest.mark.parametrize(
    "page",
    [
        Path("README.md"),
        Path("docs/benchmarks.md"),
        *(folder / CARD for head in ("trajgen", "forcefield") for folder in shipped(head).values()),
    ],
    ids=str,
)
def test_pages_have_their_markers(page: Path) -> None:
    text = (BENCHMARKS.parent / page).read_text("utf-8")
    names = ["results", "forcefield"] if page.parent.name in ("", "docs") else ["results"]
    names += ["engine"] if page.name == "benchmarks.md" else []
    for name in names:
        assert text.index(f"<!-- {name}:begin -->") < text.index(f"<!-- {name}:end -->")
