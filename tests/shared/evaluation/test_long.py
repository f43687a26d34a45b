"""P5 on a reference whose motion is known: which squares, of which atoms and frames."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shared.evaluation import p5_long
from shared.evaluation.p5_long import EGNO, Long, measure
from shared.evaluation.rollout import Context
from shared.evaluation.systems import HISTORY
from shared.evaluation.trivial import TRIVIAL
from tests.shared.evaluation.test_rollout import Exact

SETTINGS = Long(starts=3, frames=80, interval_fs=2.5)


@pytest.fixture
def measured(spring, tmp_path: Path, monkeypatch):
    """The rows of persistence, of a spring between a heavy atom and a hydrogen."""
    changed = replace(spring, system=replace(spring.system, numbers=np.array([6, 1])))
    monkeypatch.setattr(p5_long, "load_series", lambda name, context: changed)

    def of(name: str) -> dict:
        rows = measure(TRIVIAL["persistence"](), name, SETTINGS, Context(tmp_path, seed=5))
        return {(row.model, row.metric): row for row in rows}

    return of


def test_final_frame_and_mean_over_eight_of_the_heavy_atom(spring, measured) -> None:
    found = measured("spring")
    assert {model for model, _ in found} == {"persistence"}
    last = len(spring.positions) - SETTINGS.frames - 1
    random = np.sort(np.random.default_rng(5).integers(HISTORY, last, SETTINGS.starts))
    x = spring.positions[:, 0, 0]  # the heavy atom moves along one of three coordinates
    frames = np.arange(10, 81, 10)
    squares = 100 * np.array([(x[s + frames] - x[s]) ** 2 / 3 for s in random])
    row = found["persistence", "S2S, random starts"]
    assert row.value == pytest.approx(squares[:, -1].mean(), abs=1e-12)
    assert row.horizon == "80 frames"
    assert row.unit == "1e-2 Å²"
    assert found["persistence", "S2T, random starts"].value == pytest.approx(squares.mean())
    assert ("persistence", "S2S, contiguous starts") in found


def test_what_is_told_the_most_and_what_the_protocol_tells(
    spring, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(p5_long, "load_series", lambda name, context: spring)

    told = []

    class Told(Exact):
        def variants(self, system):
            return ("fitted", "nve", "unknown")

        def start(self, past, variant, samples, seed):
            told.append(variant)
            return super().start(past, variant, samples, seed)

    rows = measure(Told(spring, 0.01), "spring", SETTINGS, Context(tmp_path))
    assert {row.variant for row in rows} == {"fitted", "unknown"} == set(told)
    assert [row.value for row in rows] == pytest.approx([1e-2] * 8)  # 0.01² Å² a coordinate


def test_published_figures_stand_beside(measured) -> None:
    found = measured("aspirin")
    row = found["EGNO (published)", "S2S, random starts"]
    assert row.value == EGNO["aspirin"]
    assert "not comparable" in row.note
