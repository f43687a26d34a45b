"""Splits: disjoint ranges in the order of time, windows that stay inside."""

import pytest

from shared.data.splits import (
    SHORT_TO_LONG,
    FrameRange,
    Split,
    contiguous_split,
    evenly_spaced_starts,
)
from shared.errors import InputError


def test_short_to_long() -> None:
    parts = (SHORT_TO_LONG.train, SHORT_TO_LONG.validation, SHORT_TO_LONG.test)
    assert [len(part) for part in parts] == [20_000, 10_000, 10_000]
    assert SHORT_TO_LONG.test == FrameRange(30_000, 40_000)


def test_contiguous_split_covers_everything_once() -> None:
    split = contiguous_split(1001)
    assert split.train.start == 0
    assert split.train.stop == split.validation.start == 601
    assert split.validation.stop == split.test.start == 801
    assert split.test.stop == 1001


def test_windows_stay_inside() -> None:
    frames = FrameRange(100, 110)
    assert frames.window_centres(2, 3).tolist() == [102, 103, 104, 105, 106]
    assert frames.window_centres(2, 3, stride=2).tolist() == [102, 104, 106]
    assert frames.window_centres(6, 6).tolist() == []


def test_starts() -> None:
    starts = evenly_spaced_starts(SHORT_TO_LONG.test, 20, 2000)
    assert starts[:2].tolist() == [30_000, 30_400]
    assert starts[-1] + 2000 <= 40_000
    with pytest.raises(InputError, match="do not fit"):
        evenly_spaced_starts(FrameRange(0, 100), 20, 90)


def test_overlap_is_refused() -> None:
    with pytest.raises(InputError, match="follow one another"):
        Split(FrameRange(0, 10), FrameRange(9, 20), FrameRange(20, 30))
    with pytest.raises(InputError, match="no range"):
        FrameRange(3, 2)
