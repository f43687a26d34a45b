"""Short to long on real frames: which pairs it starts from, and what it is compared with."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from shared.data.splits import FrameRange
from shared.evaluation import p1_s2l_real
from shared.evaluation.p1_s2l_real import S2LReal, _chosen, measure
from shared.evaluation.rollout import Context
from shared.evaluation.systems import SparseFrames
from shared.evaluation.trivial import TRIVIAL
from tests.shared.evaluation.test_rollout import Exact

OFF = 0.01


def test_starts_are_spread_up_to_frame_60_000_and_beyond_where_there_are_few() -> None:
    numbers = np.array([10_000, 30_000, 40_000, 50_000, 59_999, 70_000, 80_000])
    starts = np.arange(7)
    assert list(numbers[_chosen(starts, numbers, 2)]) == [30_000, 59_999]
    assert list(numbers[_chosen(starts, numbers, 4)]) == [30_000, 40_000, 50_000, 59_999]
    assert list(numbers[_chosen(starts, numbers, 5)]) == [30_000, 40_000, 50_000, 59_999, 70_000]
    assert len(_chosen(starts, numbers, 10)) == 6
    assert len(_chosen(starts[:1], numbers, 10)) == 0


@pytest.fixture
def kept(spring, monkeypatch: pytest.MonkeyPatch) -> SparseFrames:
    """Every third frame and those before every ninth, beyond which starts may lie from 100 on."""
    frames = np.array([f for f in range(400) if f % 3 == 0 or f % 9 == 8])
    forces = np.zeros((len(frames), 2, 3))
    data = SimpleNamespace(positions=spring.positions[frames], frames=frames, md17_forces=forces)
    made = SparseFrames(spring.system, data)
    monkeypatch.setattr(p1_s2l_real, "load_frames", lambda name: made)
    split = SimpleNamespace(train=FrameRange(0, 80), test=FrameRange(100, 400))
    monkeypatch.setattr(p1_s2l_real, "SHORT_TO_LONG", split)
    monkeypatch.setattr(p1_s2l_real, "LAST", 200)
    return made


def test_every_frame_that_a_model_meets_is_compared(spring, kept, tmp_path: Path) -> None:
    settings = S2LReal(horizons=[30], starts=4, ensemble=8, ensemble_horizons=[30])
    rows = measure(Exact(spring, OFF), "spring", settings, Context(tmp_path))
    found = {row.metric: row for row in rows}
    starts = kept.data.frames[_chosen(kept.starts(), kept.data.frames, 4)]
    there = set(kept.data.frames.tolist())
    met = [f for start in starts for f in range(start + 2, start + 31, 2) if f in there]
    assert found["frames compared"].value == len(met) > 0
    assert found["ARMSE raw"].value == pytest.approx(OFF * np.sqrt(3.0))
    assert found["ARMSE raw, sum"].value == pytest.approx(OFF * np.sqrt(6.0))
    assert found["ARMSE raw, first start"].note == f"from frame {starts[0]}"
    of_mean = found["ARMSE raw, ensemble mean of 8"].value
    assert of_mean < found["ARMSE raw, mean over 8"].value == pytest.approx(OFF * np.sqrt(3.0))


def test_the_windows_own_mean(spring, kept, tmp_path: Path) -> None:
    """It has all frames of the data in the window, not those of a model's step alone."""
    rows = measure(TRIVIAL["persistence"](), "spring", S2LReal(horizons=[30]), Context(tmp_path))
    (own,) = (row for row in rows if (row.model, row.metric) == ("window's own mean", "ARMSE raw"))
    frames = kept.data.frames
    squares = []
    for start in frames[_chosen(kept.starts(), frames, 10)]:
        inside = spring.positions[frames[(frames > start) & (frames <= start + 30)]]
        squares += ((inside - inside.mean(axis=0)) ** 2).sum(-1).mean(-1).tolist()
    assert own.value == pytest.approx(np.sqrt(np.mean(squares)))
