"""Short to long on real frames: which pairs it starts from."""

import numpy as np

from shared.evaluation.p1_s2l_real import _chosen


def test_starts_are_spread_up_to_frame_60_000_and_beyond_where_there_are_few() -> None:
    numbers = np.array([10_000, 30_000, 40_000, 50_000, 59_999, 70_000, 80_000])
    starts = np.arange(7)
    assert list(numbers[_chosen(starts, numbers, 2)]) == [30_000, 59_999]
    assert list(numbers[_chosen(starts, numbers, 4)]) == [30_000, 40_000, 50_000, 59_999]
    assert list(numbers[_chosen(starts, numbers, 5)]) == [30_000, 40_000, 50_000, 59_999, 70_000]
    assert len(_chosen(starts, numbers, 10)) == 6
    assert len(_chosen(starts[:1], numbers, 10)) == 0
