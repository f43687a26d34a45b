"""Consecutive real frames, on a reference whose motion is known, beside an oracle that is off."""

from pathlib import Path

import numpy as np
import pytest

from shared.evaluation import p1_accuracy, p1_consecutive
from shared.evaluation.p1_consecutive import Consecutive, measure
from shared.evaluation.rollout import Context
from tests.shared.evaluation.test_rollout import Exact


def test_ratios_to_the_oracle_from_the_same_starts(spring, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(p1_consecutive, "real_series", lambda name: spring)
    oracle = Exact(spring, off=0.02)
    oracle.name = "oracle"
    monkeypatch.setattr(p1_accuracy, "Oracle", lambda: oracle)
    settings = Consecutive(horizons=[10, 20], starts=5, interval_fs=1.0, frames=300)
    rows = measure(Exact(spring, off=0.01), "spring", settings, Context(tmp_path))
    found = {(row.metric, row.horizon): row for row in rows}
    for horizon in ("10 frames", "20 frames"):
        own = found["RMSE com", horizon]
        assert (own.value, own.n) == (pytest.approx(0.01 * np.sqrt(3.0)), 5)
        ratio = found["RMSE com / oracle", horizon]
        assert (ratio.value, ratio.low, ratio.high) == pytest.approx((0.5, 0.5, 0.5))
    still = found["RMSE com / persistence", "20 frames"]
    assert still.value == pytest.approx(own.value / _persistence(spring, settings))


def _persistence(spring, settings: Consecutive) -> float:
    """RMSE of standing still after the longest horizon, from evenly spaced starts."""
    from shared.data.splits import FrameRange, evenly_spaced_starts
    from shared.evaluation.systems import HISTORY

    longest = max(settings.horizons)
    used = FrameRange(HISTORY, settings.frames)
    starts = evenly_spaced_starts(used, settings.starts, longest)
    moved = spring.positions[starts + longest] - spring.positions[starts]
    return float(np.sqrt((moved**2).sum(-1).mean()))
