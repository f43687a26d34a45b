"""The report: its structure, what every figure tells, and bad input."""

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from shared.errors import InputError
from shared.evaluation.config import PARTS as MEASURED
from shared.report import write_report
from shared.report.__main__ import main
from shared.report.figures import FIGURES
from shared.report.models import TRIVIAL, Looks, family
from shared.report.page import PARTS, _data, page
from shared.report.source import Row, Source, read_source
from shared.report.tables import is_error, published
from shared.report.viewer import LIBRARY, UNIT, clips, embedded, quantised
from tests.shared.report.conftest import COMMAND, MODELS

VOID = {"meta", "link", "input", "br", "wbr", "img"}


class Tree(HTMLParser):
    """Tags with their attributes, and whether they are balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts.setdefault(self._open[-1], []).append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def text(report: Path) -> str:
    return report.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def tree(text: str) -> Tree:
    return Tree(text)


def test_is_one_well_formed_page_with_unique_ids(tree: Tree) -> None:
    ids = [attributes["id"] for _, attributes in tree.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert [attributes["lang"] for attributes in tree.all("html")] == ["en"]
    sections = [attributes["id"] for attributes in tree.all("section")]
    assert sections == [
        "standing",
        "watch",
        "published",
        "s2l",
        "stability",
        "distributions",
        "cost",
        "left-out",
    ]
    assert [a["href"] for a in tree.all("a")][1:] == [f"#{part}" for part in sections[3:-1]]


def test_refers_to_nothing_outside(tree: Tree, text: str) -> None:
    for _, attributes in tree.tags:
        for name in ("src", "href", "action", "poster", "srcset"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
    style = "".join(tree.texts["style"])
    assert "url(" not in style
    assert "@import" not in style
    policy = next(a["content"] for a in tree.all("meta") if "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert policy.count("'sha256-") == 3
    assert "connect-src" not in policy  # falls back to 'none'


def test_every_chart_has_a_label_and_every_table_a_caption(tree: Tree, text: str) -> None:
    charts = [a for a in tree.all("svg") if a.get("class") == "chart"]
    assert len(charts) > 30
    assert all(len(a["aria-label"] or "") > 30 for a in charts)
    assert len(tree.all("table")) == len(tree.all("caption")) > 5
    regions = [a for a in tree.all("div") if a.get("class") == "scroll"]
    assert all(a["tabindex"] == "0" and a["aria-label"] for a in regions)


def test_controls_have_labels(text: str) -> None:
    for control in re.findall(r"<(?:select|input)[^>]*>", text):
        before = text[: text.index(control)]
        assert before.rfind("<label") > before.rfind("</label>"), control


def test_every_table_and_group_tells_command_data_and_n(text: str) -> None:
    sources = re.findall(r'<p class="source">(.*?)</p>(<details class="made">.*?</details>)', text)
    assert len(sources) == text.count('class="source"') >= 9
    for source, made in sources:
        assert f"<code>{COMMAND}</code>" in made
        assert "The command behind it" in made
        assert "md17s (surrogate)" in source
        assert "n = " in source


def test_all_alignments_and_both_quantities_are_drawn(tree: Tree) -> None:
    panels = {
        (a["data-quantity"], a["data-alignment"])
        for a in tree.all("figure")
        if "data-quantity" in a
    }
    assert panels == {(q, a) for q in ("rmse", "armse") for a in ("com", "raw", "aligned")}


def test_marks_the_best_and_those_that_learned_nothing(text: str) -> None:
    table = text[text.index("RMSE com, Å</caption>") :]
    line = table[table.index(">100 frames<") : table.index("</tr>", table.index(">100 frames<"))]
    cells = re.findall(r"<td([^>]*)>([^<]*)", line)
    marks = [(attributes.strip(), value) for attributes, value in cells if "class" in attributes]
    assert ('class="best"', "0.0151") in marks
    assert ('class="beaten"', "0.352") in marks
    assert "0.640" in line
    assert "not comparable: published on real MD17 &lt;b&gt;&amp;" in text


def test_standing_counts_systems(text: str) -> None:
    section = text[text.index('id="standing"') : text.index('id="watch"')]
    line = section[section.index(">EGNN<") :]
    assert "0 of 3" in line
    assert "median 1.2 ×" in line
    assert "3 of 3" in section


def test_published_figures_stand_beside_ours(text: str) -> None:
    section = text[text.index('id="published"') : text.index('id="s2l"')]
    assert '<th scope="col">DiffMD (published)</th>' in section
    line = re.findall(r"<tr>(<th scope=\"row\">.*?)</tr>", section)[0].replace("<wbr>", "")
    cells = [cell for cell in re.split(r"<[^>]*>", line) if cell]
    assert cells[:2] == ["ethanol", "0.640"]
    assert '<th scope="rowgroup" colspan="4">RMSE com, 100 frames [Å]</th>' in section
    named = [cell for cell in cells if cell.split(" ")[0] in (*TRIVIAL, *MODELS)]
    assert named == ["mean", "forcefield:md17s (fitted)"]
    assert "not comparable: published on real MD17 &lt;b&gt;&amp;" in section


def test_published_figures_without_a_horizon_stand_beside_ours() -> None:
    common = {"job": "", "protocol": "P3", "part": "energies", "data": "d", "system": "300K"}
    common |= {"metric": "RMSE of forces", "unit": "meV/Å"}
    rows = [
        Row(**common, model=model, value=value)
        for model, value in (
            ("forcefield:x", 9.0),
            ("MACE (published)", 10.3),
            ("NequIP (published)", 10.8),
        )
    ]
    said = published(rows, "Energies").replace("<wbr>", "")
    assert said.count("RMSE of forces [meV/Å]") == 1  # one line, a column for each
    assert "<td>10.3</td><td>10.8</td>" in said
    assert "forcefield:x" in said


def test_data_are_named_once_for_all_their_systems() -> None:
    found = _data(
        [
            ("md17s aspirin (surrogate)", "aspirin"),
            ("md17s ethanol (surrogate)", "ethanol"),
            ("3BPA 300K, trajectory of xtb", "300K"),
            ("C7O2H10 isomers", "unseen"),
            ("", "300K"),
        ]
    )
    assert found == (
        "md17s (surrogate): aspirin, ethanol; 3BPA, trajectory of xtb: 300K; C7O2H10 isomers"
    )


def test_horizons_stand_in_the_order_of_time() -> None:
    common = {"job": "", "protocol": "P2", "part": "stability", "data": "d", "system": "300K"}
    rows = [
        Row(**common, model="forcefield:x", metric="stable share", value=1.0, **where)
        for where in (
            {"horizon": "100 ps", "horizon_fs": 1e5},
            {"horizon": "2 ps", "horizon_fs": 2e3},
            {"horizon": "10 ps", "horizon_fs": 1e4},
        )
    ]
    said = page(Source("other", tuple(rows)))
    table = said[said.index("stable share</caption>") :]
    assert re.findall(r"<td>(\d+ ps)</td>", table)[:3] == ["2 ps", "10 ps", "100 ps"]


def test_what_is_required_is_said_to_be_missed_as_plainly_as_met() -> None:
    common = {"job": "j", "protocol": "P1", "part": "s2l", "data": "md17s", "n": 20}
    common |= {"metric": "RMSE com / best trivial", "horizon": "100 frames"}
    rows = [
        Row(**common, system=system, model=f"{head}:md17s", variant="fitted", value=value)
        for head, system, value in (
            ("forcefield", "ethanol", 0.04),
            ("forcefield", "uracil", 0.06),
            ("trajgen", "ethanol", 0.08),
        )
    ]
    said = page(Source("md17", tuple(rows), jobs={"j": {"command": COMMAND}}))
    assert "Of the models that ship: 1 met, 1 missed, " in said
    assert "<b>no</b> (1 of 2)" in said
    assert re.search(
        r'<td>0\.060*<span class="interval"></span><span class="where">uracil, 100 frames<', said
    )
    assert "What is required" not in page(Source("other", tuple(rows)))


def test_the_mean_of_an_ensemble_has_its_curve(text: str) -> None:
    """From the artefact of its own that the evaluator writes."""
    shown = {model for model in MODELS if model.startswith("trajgen")}
    assert shown
    for model in shown:
        assert re.search(rf"{model} \([^)]*ensemble mean\)", text)


def test_what_knows_the_answer_is_no_learned_model() -> None:
    assert family("window's own mean") == "ceiling"


@pytest.mark.parametrize(
    ("metric", "error"),
    [
        ("RMSE com / persistence", True),
        ("S2S, random starts", True),
        ("VDOS distance / static-oracle", True),
        ("h(r) distance", True),
        ("stable share", False),
        ("largest ratio of torsion times", False),
        ("RMSE com exceeds 0.5 x persistence", False),
    ],
)
def test_knows_which_metrics_are_errors(metric: str, error: bool) -> None:
    assert is_error(metric) == error


def test_every_part_of_an_evaluation_has_its_section() -> None:
    assert set(PARTS) == set(MEASURED)
    assert set(FIGURES) < set(MEASURED)


def test_tells_what_was_not_measured_and_whose_the_viewer_is(text: str) -> None:
    assert "its time step is not known" in text
    assert "3Dmol.js 2.5.5" in text
    assert "Copyright (c) 2014, University of Pittsburgh" in text
    assert "2 cores" in text


def test_coordinates_survive_the_embedding(results: Path) -> None:
    source = read_source(results)
    found = clips(source, Looks([]), frames=60)
    assert [str(clip.key) for clip in found] == ["forcefield:md17s (fitted)"]
    clip = found[0]
    assert len(clip.time_fs) == 50  # 150 frames, every third
    assert clip.reference is not None
    assert len(clip.reference) == 40  # of 120
    content = json.loads(embedded(found))
    entry = content["clips"][0]
    raw = base64.b64decode(content["coordinates"][entry["reference"]])
    back = np.frombuffer(raw, "<i2").reshape(40, 9, 3) * UNIT
    assert np.abs(back - clip.reference).max() <= 0.51 * UNIT
    assert entry["elements"].count("C") == 2
    assert len(entry["bonds"]) == 8


def test_a_clip_ends_before_the_first_frame_that_is_not_finite(results: Path) -> None:
    source = read_source(results)
    artefact = next(a for a in source.drawn("trajectory") if a.model != "reference")
    broken = artefact.arrays["positions"].copy()
    broken[7:] = np.nan
    artefact.arrays["positions"] = broken  # type: ignore[index]
    assert len(clips(source, Looks([]))[0].time_fs) == 7


def test_what_is_far_away_stays_at_the_edge() -> None:
    raw = base64.b64decode(quantised(np.array([[[100.0, -100.0, 0.0005]]])))
    assert np.frombuffer(raw, "<i2").tolist() == [32767, -32767, 0]


def test_without_artefacts_there_are_tables_only(results: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.json"
    bare.write_text(results.read_text(encoding="utf-8"), encoding="utf-8")
    text = write_report(bare, tmp_path / "bare.html").read_text(encoding="utf-8")
    tree = Tree(text)
    assert not [a for a in tree.all("figure") if "data-quantity" in a]
    assert LIBRARY not in text
    assert "3Dmol" not in text
    assert len(tree.all("table")) > 5


def test_an_empty_evaluation_has_a_page() -> None:
    tree = Tree(page(Source("empty", ())))
    assert tree.all("h1")
    assert not tree.all("figure")


def test_the_same_results_give_the_same_page(results: Path) -> None:
    assert page(read_source(results)) == page(read_source(results))


def test_command(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "report.html"
    assert main([str(results), "--out", str(out)]) == 0
    assert out.stat().st_size > 500_000
    assert str(out) in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, "no json", "{}", '{"format": "trajgen-results"}'])
def test_bad_input_is_one_line_and_writes_nothing(
    content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    assert main([str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("shared.report: ")
    assert str(path) in error
    assert error.count("\n") == 1
    assert not path.with_suffix(".html").exists()


def test_a_damaged_artefact_or_folder_is_named(results: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a folder"):
        read_source(results, tmp_path / "nowhere")
    damaged = tmp_path / "s2l" / "ethanol" / "mean.npz"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(InputError, match="damaged"):
        read_source(results, tmp_path)
