"""Cost: what counts as simulated time, and what is left out of it."""

import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest

from shared.data.splits import FrameRange
from shared.evaluation import p7_cost
from shared.evaluation.p7_cost import WARM_UP, Cost
from shared.evaluation.rollout import Context, Skip
from tests.shared.evaluation.test_rollout import Exact


class Counted(Exact):
    """Stands still, and counts its frames."""

    compile = True
    frames = 0

    def propagate(self, start, n_frames, frame_interval_fs, *, seed):
        self.replicas, self.interval_fs = len(start.positions), frame_interval_fs
        for _ in range(n_frames):
            self.frames += 1
            yield start


def test_a_process_that_is_killed_is_a_reason(spring, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(p7_cost, "load_series", lambda name, context: spring)
    monkeypatch.setattr(p7_cost, "_measured", _killed)
    with pytest.raises(Skip, match="killed with 2 replicas"):
        p7_cost.measure(Exact(spring), "spring", Cost(replicas=[2]), Context(tmp_path))


def _killed(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("replicas", [1, 3])
def test_speed_is_of_all_replicas_without_the_warm_up(spring, monkeypatch, replicas: int) -> None:
    candidate = Counted(spring)
    monkeypatch.setattr(p7_cost, "open_candidate", lambda name: candidate)
    monkeypatch.setattr(p7_cost, "load_series", lambda name, context: spring)
    split = SimpleNamespace(test=FrameRange(100, 300))
    monkeypatch.setattr(p7_cost, "SHORT_TO_LONG", split)
    settings = Cost(core_s=0.02, compile=False)
    speed, first, memory = p7_cost._measured("it", "spring", "unknown", replicas, settings, 0)
    counted = candidate.frames - 1 - WARM_UP  # those that are timed
    assert (candidate.replicas, candidate.interval_fs, candidate.compile) == (replicas, 1.0, False)
    assert speed.ps == pytest.approx(counted * replicas * 1.0 / 1000.0)
    assert 0.02 <= speed.core_s < 1.0
    assert np.isfinite([speed.wall_s, first, memory]).all()
    assert memory > 10  # MiB
