"""Sparse real frames: which pairs are compared, what a third frame is for, and what counts late."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from shared.data.splits import FrameRange
from shared.errors import InputError
from shared.evaluation import p1_accuracy, p1_sparse
from shared.evaluation.p1_sparse import FEWEST, LATER, THIRD_WITHIN, Sparse, measure
from shared.evaluation.rollout import Context, Skip
from shared.evaluation.systems import SparseFrames
from shared.evaluation.trivial import TRIVIAL
from tests.shared.evaluation.test_rollout import Exact

LATE = 200  # stands for frame 20 000
OFF = 0.01


class Fitted(Exact):
    """Exact, and asks for a third frame to fit a friction to."""

    fits_friction = True

    def variants(self, system):
        return ("fitted", "unknown")

    def start(self, past, variant, samples, seed):
        self.given = getattr(self, "given", {}) | {variant: past}
        return super().start(past, variant, samples, seed)


@pytest.fixture
def sparse(spring, monkeypatch: pytest.MonkeyPatch) -> SparseFrames:
    """Of 400 frames a third or so; every start has the frame before it."""
    rng = np.random.default_rng(0)
    starts = np.arange(25, 370, 9)
    kept = {0, *starts, *(starts - 1)}
    kept.update(int(s) - int(rng.integers(3, 16)) for s in starts[::2])  # third frames
    kept.update(int(s) + 10 for s in starts[::2])
    frames = np.array(sorted(kept))
    data = SimpleNamespace(
        positions=spring.positions[frames], frames=frames, md17_forces=np.zeros((len(frames), 2, 3))
    )
    made = SparseFrames(spring.system, data)
    monkeypatch.setattr(p1_sparse, "load_frames", lambda name: made)
    late = SimpleNamespace(train=FrameRange(0, LATE))
    monkeypatch.setattr(p1_sparse, "SHORT_TO_LONG", late)
    return made


def compared(sparse: SparseFrames, after: int, since: int = 0) -> list[int]:
    """Frames that are there with the one before and the one so many after, one by one."""
    there = set(sparse.data.frames.tolist())
    return [f for f in sorted(there) if f >= since and {f - 1, f + after} <= there]


def test_every_pair_at_the_gap_is_compared(spring, sparse, tmp_path: Path) -> None:
    rows = measure(
        Exact(spring, OFF), "spring", Sparse(gaps_fs=[5.0], interval_fs=1.0), Context(tmp_path)
    )
    found = {row.metric: row for row in rows}
    assert found["comparisons"].value == len(compared(sparse, 10)) >= FEWEST
    assert found[f"comparisons, {LATER}"].value == len(compared(sparse, 10, LATE))
    assert found["RMSE com"].value == pytest.approx(OFF * np.sqrt(3.0))
    assert found["RMSE com"].n == len(compared(sparse, 10))
    # Against standing still from the same starts.
    starts = np.array(compared(sparse, 10))
    moved = spring.positions[starts + 10] - spring.positions[starts]
    still = np.sqrt((moved**2).sum(-1).mean())
    ratio = found["RMSE com / persistence"].value
    assert ratio == pytest.approx(OFF * np.sqrt(3.0) / still)


def test_few_pairs_are_no_comparison(spring, sparse, tmp_path: Path) -> None:
    fewer = Sparse(gaps_fs=[5.0], starts=FEWEST - 1, interval_fs=1.0)
    with pytest.raises(Skip, match=f"no gap has {FEWEST} comparisons"):
        measure(Exact(spring), "spring", fewer, Context(tmp_path))
    assert measure(TRIVIAL["persistence"](), "spring", fewer, Context(tmp_path)) == []
    with pytest.raises(InputError, match="gaps_fs"):
        measure(Exact(spring), "spring", Sparse(gaps_fs=[5.3]), Context(tmp_path))


def test_the_oracle_stands_beside_from_the_same_pairs(
    spring, sparse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle = Exact(spring, 2 * OFF)
    oracle.name = "oracle"
    monkeypatch.setattr(p1_accuracy, "Oracle", lambda: oracle)
    settings, context = Sparse(gaps_fs=[5.0], interval_fs=1.0), Context(tmp_path)
    (ratio,) = (
        row
        for row in measure(Exact(spring, OFF), "spring", settings, context)
        if row.metric == "RMSE com / oracle"
    )
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((0.5, 0.5, 0.5))
    assert ratio.n == len(compared(sparse, 10))
    assert not any("oracle" in row.metric for row in measure(oracle, "spring", settings, context))

    def absent(*_):
        raise InputError("its engine is not here")

    oracle.propagator = absent
    said: list[str] = []
    rows = measure(Exact(spring, OFF), "spring", settings, Context(tmp_path, report=said.append))
    assert rows
    assert not any("oracle" in row.metric for row in rows)
    assert said[-1] == "no oracle beside it: its engine is not here"


def test_a_friction_is_fitted_where_a_third_frame_is_near(spring, sparse, tmp_path: Path) -> None:
    candidate = Fitted(spring, OFF)
    rows = measure(candidate, "spring", Sparse(gaps_fs=[5.0], interval_fs=1.0), Context(tmp_path))
    counts = {row.variant: row.value for row in rows if row.metric == "comparisons"}
    frames = sparse.data.frames
    near = [
        f
        for f in compared(sparse, 10)
        if f - max(g for g in (*frames, -99) if g < f - 1) <= THIRD_WITHIN
    ]
    assert counts == {"unknown": len(compared(sparse, 10)), "fitted": len(near)}
    assert 0 < len(near) < len(compared(sparse, 10))
    past = candidate.given["fitted"]
    assert past.frames.tolist() == near
    assert past.earlier_steps.max() <= THIRD_WITHIN
    for f, steps, earlier in zip(past.frames, past.earlier_steps, past.earlier, strict=True):
        assert np.array_equal(earlier, spring.positions[f - steps])
    assert candidate.given["unknown"].earlier is None
