"""P4 on a reference whose motion is known."""

from pathlib import Path

import numpy as np
import pytest

from shared.evaluation import p4_windows
from shared.evaluation.p4_windows import Windows, measure
from shared.evaluation.rollout import Context
from shared.evaluation.trivial import TRIVIAL
from tests.shared.evaluation.test_rollout import Exact


class Drawn(Exact):
    """Off by one or three times as much, as each sample draws."""

    random = ("unknown",)

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.drawn = []

    def start(self, past, variant, samples, seed):
        state = super().start(past, variant, samples, seed)
        state.thermostat[:, 1] = 2.0 + state.thermostat[:, 1]
        self.drawn.append(state.thermostat[:, 1].reshape(-1, samples))
        return state


def test_the_mean_over_samples_and_the_best_of_them(spring, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(p4_windows, "load_series", lambda name, context: spring)
    monkeypatch.setattr(p4_windows, "some_starts", lambda test, count: np.arange(100, 106))
    candidate = Drawn(spring, off=0.01)
    settings = Windows(starts=6, samples=4, frames=4, interval_fs=2.5)
    rows = measure(candidate, "spring", settings, Context(tmp_path))
    found = {row.metric: row for row in rows}
    for drawn, split in zip(candidate.drawn, ("", ", GeoTDM's split"), strict=True):
        size = 0.01 * np.sqrt(3.0) * drawn  # of every atom at every frame
        for metric in ("ADE", "FDE"):
            assert found[f"{metric}{split}"].value == pytest.approx(size.mean())
            best = found[f"{metric}, best of 4{split}"]
            assert best.value == pytest.approx(size.min(axis=1).mean())
            assert best.n == 6
    assert found["ADE, best of 4"].value < found["ADE"].value


def test_both_splits_and_their_histories(spring, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(p4_windows, "load_series", lambda name, context: spring)
    monkeypatch.setattr(p4_windows, "some_starts", lambda test, count: np.array([100, 110]))
    settings = Windows(starts=2, samples=2, frames=2, interval_fs=2.5)
    rows = measure(TRIVIAL["persistence"](), "spring", settings, Context(tmp_path))
    found = {row.metric: row.value for row in rows}
    # Persistence is off by the same of both atoms, half the change of the bond.
    bond = spring.positions[:, 1, 0] - spring.positions[:, 0, 0]
    expected = np.mean([abs(bond[s + 10] - bond[s]) / 2 for s in (100, 110)])
    assert found["FDE"] == pytest.approx(expected)
    assert {"ADE, GeoTDM's split", "FDE, GeoTDM's split"} <= set(found)
    assert not any("best of" in metric for metric in found)  # its samples are all the same
    starts, past = p4_windows._coarse(spring, settings)
    assert starts.min() >= 320 + 50  # the last fifth, and ten frames of history
    assert past.positions.shape == (2, 10, 2, 3)
    assert past.system.interval_fs == 2.5
    assert np.array_equal(past.positions[0, -2], spring.positions[starts[0] - 5])
