"""Whose speed is compared."""

import pytest

from shared.evaluation.p6_distributions import cost_counts

HELD = {
    "bond JSD / static-oracle": 1.2,
    "angle JSD / static-oracle": 1.5,
    "torsion JSD / static-oracle": 1.0,
    "VDOS distance / static-oracle": 1.9,
    "torsion times that agree": 1.0,
}


def test_what_holds_counts() -> None:
    assert cost_counts(HELD, 5.0)
    assert cost_counts({k: v for k, v in HELD.items() if k != "torsion times that agree"}, 5.0)


@pytest.mark.parametrize(("metric", "value"), [(m, v) for m in HELD for v in (2.1, None)])
def test_what_does_not_hold_does_not(metric: str, value: float | None) -> None:
    assert not cost_counts(HELD | {metric: value}, 5.0)
    assert not cost_counts(HELD, 20.0)
