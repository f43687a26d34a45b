"""Intervals and pooled errors."""

import numpy as np
import pytest

from shared.evaluation.statistics import PooledErrors, bootstrap, mean_of
from shared.metrics.armse import armse, bootstrap_interval, rmse_at


def test_pooled_errors_are_the_metrics_where_nothing_is_missing() -> None:
    squared = np.random.default_rng(0).gamma(2.0, size=(12, 7))
    pooled = PooledErrors(squared)
    assert np.allclose(pooled.rmse(), rmse_at(squared))
    assert np.allclose(pooled.rmse(cumulative=True), armse(squared))
    low, high = pooled.interval()
    expected = bootstrap_interval(squared, rmse_at)
    assert np.allclose(low, expected[0], rtol=0.05)
    assert np.allclose(high, expected[1], rtol=0.05)


def test_missing_frames_do_not_count() -> None:
    squared = np.array([[1.0, np.nan, 9.0], [4.0, np.nan, np.nan]])
    pooled = PooledErrors(squared)
    assert pooled.counts.tolist() == [2, 0, 1]
    assert pooled.rmse()[[0, 2]].tolist() == [np.sqrt(2.5), 3.0]
    assert np.isnan(pooled.rmse()[1])
    estimate = pooled.estimate(2, cumulative=True)
    assert estimate.value == pytest.approx(np.sqrt(14 / 3))
    assert estimate.n == 2
    alone = pooled.estimate(2)
    assert (alone.n, alone.low) == (1, None)


def test_a_ratio_draws_the_same_starts() -> None:
    squared = np.random.default_rng(1).gamma(2.0, size=(10, 1))
    own, other = PooledErrors(squared), PooledErrors(4 * squared)
    estimate = own.estimate(0, relative_to=other)
    assert estimate.value == pytest.approx(0.5)
    assert estimate.low == pytest.approx(0.5)
    assert estimate.high == pytest.approx(0.5)


def test_bootstrap_covers_the_mean() -> None:
    rng = np.random.default_rng(2)
    inside = 0
    for _ in range(200):
        estimate = bootstrap(rng.normal(size=30))
        assert estimate.low is not None
        assert estimate.high is not None
        inside += estimate.low <= 0.0 <= estimate.high
    assert 0.88 < inside / 200 < 0.99
    assert bootstrap(np.array([3.0])).low is None


def test_crossings_of_a_share() -> None:
    """RMSE t beside 4 at every frame t = 0, 1, …, in starts that differ by a factor of up to 2."""
    factors, times = np.linspace(1.0, 2.0, 8)[:, None], np.arange(10.0)
    errors, other = PooledErrors((factors * times) ** 2), PooledErrors(np.full((8, 10), 16.0))
    found = errors.crossing(0.5, other, times)
    rms = np.sqrt((factors**2).mean())
    assert found.value == np.ceil(2.0 / rms)
    assert found.low <= found.value <= found.high
    never = errors.crossing(100.0, other, times)
    assert (never.value, never.low, never.high) == (np.inf, None, None)
    assert errors.crossing(0.5, other, times[:2]).value == np.inf  # later frames are not seen
    fewer = (factors * times) ** 2
    fewer[3:, 2:] = np.nan
    assert PooledErrors(fewer).crossing(0.5, other, times).n == 3
    assert PooledErrors(fewer).crossing(0.1, other, times).n == 8


def test_errors_up_to_a_frame_are_of_the_starts_that_go_so_far() -> None:
    squared = np.array([[1.0, 1.0, 1.0, 1.0], [9.0, 9.0, np.nan, np.nan]])
    errors = PooledErrors(squared, np.array([4, 2]))
    assert errors.rmse(True) == pytest.approx([5**0.5, 5**0.5, 1.0, 1.0])
    assert errors.estimate(1, cumulative=True).n == 2
    up_to_the_end = errors.estimate(3, cumulative=True)
    assert (up_to_the_end.value, up_to_the_end.n) == (1.0, 1)
    ratio = errors.estimate(3, True, relative_to=PooledErrors(4 * squared, np.array([4, 2])))
    assert ratio.value == 0.5
    # A start that lacks frames of the reference is followed all the same.
    assert PooledErrors(squared).estimate(3, True).value == pytest.approx((22 / 6) ** 0.5)


def test_the_mean_of_predictors() -> None:
    rng = np.random.default_rng(0)
    several = [PooledErrors(rng.random((20, 5))) for _ in range(4)]
    found = mean_of(several, 3, cumulative=True)
    assert found.value == pytest.approx(np.mean([one.rmse(True)[3] for one in several]))
    assert found.low < found.value < found.high
    assert found.n == 20
    assert mean_of([PooledErrors(np.ones((1, 5)))], 3).low is None
