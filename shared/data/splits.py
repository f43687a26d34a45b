"""Splits by ranges of frames: neighbouring frames are nearly equal, so nothing is ever shuffled.

A split is three ranges in the order of time. A window that is trained or judged on lies in one of
them with all its frames; only the history that a model is given before a start may reach back.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.errors import InputError

__all__ = ["SHORT_TO_LONG", "FrameRange", "Split", "contiguous_split", "evenly_spaced_starts"]


@dataclass(frozen=True)
class FrameRange:
    """Frames ``start`` ≤ n < ``stop``."""

    start: int
    stop: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.stop:
            raise InputError(f"frames {self.start} to {self.stop} are no range")

    def __len__(self) -> int:
        return self.stop - self.start

    def window_centres(self, before: int, after: int, stride: int = 1) -> npt.NDArray[np.int64]:
        """All t whose window t − ``before`` … t + ``after`` lies in the range, ``stride`` apart."""
        return np.arange(self.start + before, self.stop - after, stride)


@dataclass(frozen=True)
class Split:
    """Training, validation and test frames: disjoint, in the order of time."""

    train: FrameRange
    validation: FrameRange
    test: FrameRange

    def __post_init__(self) -> None:
        if self.train.stop > self.validation.start or self.validation.stop > self.test.start:
            raise InputError("training, validation and test frames must follow one another")


SHORT_TO_LONG = Split(FrameRange(0, 20_000), FrameRange(20_000, 30_000), FrameRange(30_000, 40_000))
"""The S2L split of DiffMD, which the surrogates share."""


def contiguous_split(n_frames: int, train: float = 0.6, validation: float = 0.2) -> Split:
    """The first ``train`` of the frames, the next ``validation``, and the rest for the test."""
    first, second = round(n_frames * train), round(n_frames * (train + validation))
    return Split(FrameRange(0, first), FrameRange(first, second), FrameRange(second, n_frames))


def evenly_spaced_starts(frames: FrameRange, n_starts: int, horizon: int) -> npt.NDArray[np.int64]:
    """``n_starts`` frames, evenly spaced from the first, each with ``horizon`` frames after it.

    They are ⌊(length − horizon)/n⌋ apart: 30 000 + 400 k for 20 starts of 2 000 frames in
    30 000–40 000.

    Raises:
        InputError: the range is too short.
    """
    spacing = (len(frames) - horizon) // n_starts
    if spacing < 1:
        raise InputError(f"{n_starts} starts of {horizon} frames do not fit in {len(frames)}")
    return frames.start + spacing * np.arange(n_starts)
