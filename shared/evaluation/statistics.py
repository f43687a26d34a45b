"""Intervals: what an average would be over other starts, replicas or frames, by the bootstrap; of
shares, where drawing n of n whole replicas anew never shows a broken one, Wilson's.

Percentile intervals at 95 %; the units that are independent are drawn with replacement, the same
draws for numerator and denominator of a ratio (Efron, Ann. Statist. 7, 1 (1979)).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Estimate", "PooledErrors", "bootstrap", "mean_of", "resamples", "share"]

Float = npt.NDArray[np.float64]

LEVEL = 0.95
N_RESAMPLES = 1000


@dataclass(frozen=True)
class Estimate:
    """A number and its interval."""

    value: float
    low: float | None
    high: float | None
    n: int


def resamples(n: int, seed: int = 0) -> Float:
    """How often each of n units is drawn, [draws, n]."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), N_RESAMPLES).astype(float)


def bootstrap(units: Float, statistic: Callable[[Float], Float] | None = None) -> Estimate:
    """A statistic of units [n, ...] and its interval.

    Args:
        units: the independent values, first axis.
        statistic: drawn units [draws, n, ...] -> [draws]; None: the mean of [n].
    """
    units = np.asarray(units, dtype=np.float64)
    n = len(units)
    if statistic is None:

        def statistic(drawn: Float) -> Float:
            return np.asarray(drawn.mean(axis=1))

    value = float(statistic(units[None])[0])
    if n < 2:
        return Estimate(value, None, None, n)
    rows = np.random.default_rng(0).integers(n, size=(N_RESAMPLES, n))
    low, high = _percentiles(statistic(units[rows]))
    return Estimate(value, low, high, n)


def share(units: npt.NDArray[np.bool_]) -> Estimate:
    """The share of units [n] that are true, with the score interval of Wilson, J. Am. Stat. Assoc.
    22, 209 (1927)."""
    from scipy.stats import binomtest

    count, n = int(units.sum()), len(units)
    interval = binomtest(count, n).proportion_ci(LEVEL, method="wilson")
    return Estimate(count / n, float(interval.low), float(interval.high), n)


class PooledErrors:
    """Squared errors of starts over frames, pooled inside the root.

    Args:
        squared: [S, T], Å²; NaN where there is nothing to compare with.
        reach: [S], how many of the frames a start is followed; None: all. An error up to a frame
            has no part of the starts that end before it.

    Attributes:
        counts: [T], starts that count at each frame.
    """

    def __init__(self, squared: Float, reach: npt.NDArray[np.int64] | None = None) -> None:
        known = np.isfinite(squared)
        n_starts, n_frames = squared.shape
        reach = np.full(n_starts, n_frames) if reach is None else reach
        self._followed = np.arange(n_frames) < reach[:, None]
        self._weights = known.astype(np.float64)
        self._squared = np.where(known, squared, 0.0)
        self.counts = known.sum(axis=0)

    def rmse(self, cumulative: bool = False) -> Float:
        """RMSE at each frame [T], or ARMSE up to each; NaN where no start counts."""
        return self._pooled(np.ones((1, len(self._squared))), cumulative)[0]

    def interval(
        self, cumulative: bool = False, relative_to: "PooledErrors | None" = None
    ) -> tuple[Float, Float]:
        """Lower and upper bound [T]; of the ratio to another predictor's, from the same starts."""
        weights = resamples(len(self._squared))
        values = self._pooled(weights, cumulative)
        if relative_to is not None:
            with np.errstate(invalid="ignore", divide="ignore"):
                values = values / relative_to._pooled(weights, cumulative)
        values = np.where(np.isfinite(values), values, np.nan)
        known = np.isfinite(values).any(axis=0)
        low, high = np.full((2, values.shape[1]), np.nan)
        tail = (1 - LEVEL) / 2
        if known.any() and len(self._squared) > 1:
            low[known], high[known] = np.nanquantile(values[:, known], [tail, 1 - tail], axis=0)
        return low, high

    def estimate(
        self, at: int, cumulative: bool = False, relative_to: "PooledErrors | None" = None
    ) -> Estimate:
        """The value at one frame, or up to it; ``n`` counts starts."""
        own = self._summed(at, cumulative)
        other = None if relative_to is None else relative_to._summed(at, cumulative)
        value = own.rmse()[0]
        if other is not None:
            with np.errstate(invalid="ignore", divide="ignore"):
                value = value / other.rmse()[0]
        n = int((own._weights > 0).sum())
        if n < 2:
            return Estimate(float(value), None, None, n)
        low, high = own.interval(relative_to=other)
        return Estimate(float(value), _finite(low[0]), _finite(high[0]), n)

    def crossing(self, share: float, of: "PooledErrors", times: Float) -> Estimate:
        """When RMSE first exceeds a share of another predictor's, from the same starts; ``n``
        counts those at that frame, or at the last where it never does.

        Args:
            share: above which it has crossed.
            of: the other predictor.
            times: of the frames that are looked at, the first of all [T'].

        Returns:
            the time, inf where it never does; no interval where it never does at one of its ends.
        """
        n = len(self._squared)
        weights = np.concatenate([np.ones((1, n)), resamples(n)])
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = self._pooled(weights, False) / of._pooled(weights, False)
        crossed = ratio[:, : len(times)] > share
        value, *drawn = np.where(crossed.any(axis=1), times[crossed.argmax(axis=1)], np.inf)
        there = int(self.counts[crossed[0].argmax() if crossed[0].any() else len(times) - 1])
        tail = (1 - LEVEL) / 2
        # A quantile that is one of the draws: between them there would be inf - inf.
        low, high = np.quantile(drawn, [tail, 1 - tail], method="inverted_cdf")
        if n < 2 or not np.isfinite([value, low, high]).all():
            return Estimate(float(value), None, None, there)
        return Estimate(float(value), float(low), float(high), there)

    def _summed(self, at: int, cumulative: bool) -> "PooledErrors":
        """All frames up to one, or that one, as a single frame."""
        here = slice(0, at + 1) if cumulative else slice(at, at + 1)
        followed = self._followed[:, at : at + 1]
        pooled = PooledErrors(np.zeros((len(self._squared), 1)))
        pooled._squared = self._squared[:, here].sum(axis=1, keepdims=True) * followed
        pooled._weights = self._weights[:, here].sum(axis=1, keepdims=True) * followed
        return pooled

    def _pooled(self, weights: Float, cumulative: bool) -> Float:
        squared, known = self._squared, self._weights
        if cumulative:
            squared = np.cumsum(squared, axis=1) * self._followed
            known = np.cumsum(known, axis=1) * self._followed
        sums, counts = weights @ squared, weights @ known
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.sqrt(sums / counts)


def mean_of(predictors: Sequence[PooledErrors], at: int, cumulative: bool = False) -> Estimate:
    """The mean of several predictors' RMSE at a frame, or ARMSE up to it, from the same starts."""
    summed = [one._summed(at, cumulative) for one in predictors]
    value = float(np.mean([one.rmse()[0] for one in summed]))
    n = int((summed[0]._weights > 0).sum())
    if n < 2:
        return Estimate(value, None, None, n)
    weights = resamples(len(summed[0]._squared))
    drawn = np.mean([one._pooled(weights, False)[:, 0] for one in summed], axis=0)
    return Estimate(value, *_percentiles(drawn), n)


def _percentiles(values: Float) -> tuple[float | None, float | None]:
    known = values[np.isfinite(values)]
    if known.size == 0:
        return None, None
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(known, [tail, 1 - tail])
    return float(low), float(high)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
