"""One to others: the starts of all isomers are pooled inside the root."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shared.evaluation import p1_o2o
from shared.evaluation.p1_o2o import O2O, measure
from shared.evaluation.rollout import Context
from tests.shared.evaluation.test_rollout import Exact

OFF = {"first": 0.01, "second": 0.03}


class Uneven(Exact):
    """Off by another amount on each isomer."""

    def start(self, past, variant, samples, seed):
        self.off = OFF[past.system.name]
        return super().start(past, variant, samples, seed)


@pytest.fixture
def isomers(spring, monkeypatch: pytest.MonkeyPatch) -> list:
    made = [replace(spring, system=replace(spring.system, name=name)) for name in OFF]
    asked = []

    def under_test(source: str):
        asked.append(source)
        return made, [0, 1]

    monkeypatch.setattr(p1_o2o, "isomers_under_test", under_test)
    return asked


def test_isomers_are_pooled(spring, isomers: list, tmp_path: Path) -> None:
    settings = O2O(horizons=[10, 20], starts=4, interval_fs=1.0)
    rows = measure(Uneven(spring), "unseen", settings, Context(tmp_path))
    found = {(row.system, row.metric, row.horizon): row for row in rows}
    for horizon in ("10 frames", "20 frames"):
        each = [found[name, "RMSE com", horizon] for name in OFF]
        for row, off in zip(each, OFF.values(), strict=True):
            assert (row.value, row.n) == (pytest.approx(off * np.sqrt(3.0)), 4)
        pooled = found["unseen", "RMSE com", horizon]
        assert pooled.value == pytest.approx(np.sqrt(np.mean([row.value**2 for row in each])))
        assert pooled.n == 8
        assert each[0].value < pooled.low <= pooled.value <= pooled.high
        still = [found[name, "RMSE com / persistence", horizon].value for name in OFF]
        ratio = found["unseen", "RMSE com / persistence", horizon].value
        assert min(still) < ratio < max(still)
    assert isomers == ["xtb"]
    assert all("surrogate" in row.note for row in rows if row.metric == "RMSE com")
    official = measure(
        Uneven(spring), "unseen", replace(settings, source="official"), Context(tmp_path)
    )
    assert isomers == ["xtb", "official"]
    assert not any("surrogate" in row.note for row in official)


def test_the_quick_run_has_one_isomer(spring, isomers: list, tmp_path: Path) -> None:
    settings = replace(O2O(interval_fs=1.0).quick(), interval_fs=1.0)
    rows = measure(Uneven(spring), "unseen", settings, Context(tmp_path))
    assert {row.system for row in rows} == {"first", "unseen"}
