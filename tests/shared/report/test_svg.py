"""Charts: what is drawn, what is left out, what is read aloud."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from shared.report.models import Key, Looks, best_trivial, family
from shared.report.svg import Curve, Level, Style, chart, short, thin


def test_chart_is_xml_with_a_label_that_has_the_last_values() -> None:
    curve = Curve("a < b", [1, 2, 3], [0.1, 0.2, 0.3], Style(marker="circle"))
    svg = chart([curve], title="Title & more", x_label="t", y_label="y")
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    label = root.get("aria-label") or ""
    assert "Title & more" in label
    assert "a < b: 0.300 at 3.00" in label
    assert len(root.findall("path[@class='marker circle']")) == 3


def test_larger_values_are_higher_and_later_ones_further_right() -> None:
    svg = chart(
        [Curve("a", [0, 1, 2], [1.0, 5.0, 9.0], Style("c0"))], title="t", x_label="x", y_label="y"
    )
    path = re.search(r'd="(M[^"]*)" fill="none" stroke="var\(--c0\)"', svg)
    assert path is not None
    points = [tuple(map(float, pair.split())) for pair in re.findall(r"[\d.]+ [\d.]+", path[1])]
    xs, ys = zip(*points, strict=True)
    assert list(xs) == sorted(xs)
    assert list(ys) == sorted(ys, reverse=True)


def test_a_gap_breaks_the_line_and_logarithms_leave_out_what_is_not_positive() -> None:
    values = [1.0, np.nan, 2.0, 0.0, 3.0, np.inf, 4.0]
    svg = chart(
        [Curve("a", range(1, 8), values, Style("c0"))],
        title="t",
        x_label="x",
        y_label="y",
        y_log=True,
    )
    path = re.search(r'd="(M[^"]*)" fill="none" stroke="var\(--c0\)"', svg)
    assert path is not None
    assert path[1].count("M") == 4
    assert "nan" not in svg


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(
    ("low", "high"), [(0.5, 0.5), (1e-7, 3e5), (499.0, 501.0), (0.02, 0.03), (1e9, 5e9)]
)
def test_every_axis_has_ticks(low: float, high: float, log: bool) -> None:
    curve = Curve("a", [1, 2], [low, high], Style())
    svg = chart([curve], title="t", x_label="x", y_label="y", y_log=log)
    ticks = re.findall(r'class="tick end"[^>]*>([^<]*)<', svg)
    assert 1 <= len(ticks) <= 14
    assert len(set(ticks)) == len(ticks)


def test_a_chart_of_nothing_says_so() -> None:
    svg = chart([Curve("a", [1], [np.nan], Style())], title="t", x_label="x", y_label="y")
    assert "no finite value" in svg
    assert "no finite value" in chart([], title="t", x_label="x", y_label="y")


def test_levels_categories_bands_steps_and_areas() -> None:
    style = Style("c1")
    svg = chart(
        [
            Curve("band", [1, 2], [1, 2], style, [0.5, 1], [2, 3]),
            Curve("step", [1, 2], [1, 2], style, kind="step"),
            Curve("area", [1, 2], [1, 2], style, kind="area"),
            Curve("points", [1, 2], [1, 2], style, [0.5, 1], [2, 3], kind="points"),
        ],
        title="t",
        x_label="x",
        y_label="y",
        levels=[Level(1.0, "<one>")],
        x_names=["bond", "angle"],
    )
    root = ElementTree.fromstring(svg)
    texts = [element.text for element in root.iter("text")]
    assert {"<one>", "bond", "angle"} <= set(texts)
    assert len(root.findall("path[@class='band']")) == 1
    assert len(root.findall("path[@class='area']")) == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (None, "–"),
        (float("nan"), "–"),
        (0.12345, "0.123"),
        (-12.345, "−12.3"),
        (1234.5, "1234"),
        (1.5e-7, "1.5·10⁻⁷"),
        (2.5e8, "2.5·10⁸"),
        (9.97e-6, "1·10⁻⁵"),
    ],
)
def test_short(value: float | None, text: str) -> None:
    assert short(value) == text


def test_thinning_keeps_the_extremes_and_the_order() -> None:
    y = np.sin(np.linspace(0, 60, 5000))
    y[3333] = 9.0
    x, thinned = thin(np.arange(5000), y, 200)
    assert len(x) <= 200
    assert thinned.max() == 9.0
    assert thinned.min() == y.min()
    assert (np.diff(x) > 0).all()


def test_looks_differ_in_greyscale_too() -> None:
    names = [f"trajgen:{letter}" for letter in "abcdefghij"]
    keys = [Key(name, variant) for name in names for variant in ("", "nve", "fitted")]
    looks = Looks(keys)
    assert len({(looks[k].colour, looks[k].dash, looks[k].marker) for k in keys}) == len(keys)
    without_colour = {(looks[k].dash, looks[k].marker) for k in keys[:12]}
    assert len(without_colour) == 12


def test_families_and_their_order() -> None:
    names = ["EGNN", "xtb", "trajgen:a", "mean", "EGNO (published)", "reference", "persistence"]
    keys = [Key(name) for name in names]
    assert [key.model for key in Looks(keys).sort(keys)] == [
        "reference",
        "persistence",
        "mean",
        "xtb",
        "EGNO (published)",
        "trajgen:a",
        "EGNN",
    ]
    assert family("GMN") == "learned"
    values = {Key("mean"): 2.0, Key("inertia"): 1.5, Key("oracle"): 0.1}
    assert best_trivial(values) == (Key("inertia"), 1.5)
    assert best_trivial({Key("oracle"): 0.1}) is None
