"""P3 on invented 3BPA files."""

from pathlib import Path

import numpy as np
import pytest

from shared.evaluation.candidates import open_candidate
from shared.evaluation.p3_energies import Energies, measure
from shared.evaluation.rollout import Context
from shared.evaluation.systems import SETS, three_bpa


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRAJGEN_DATA", str(tmp_path))
    three_bpa.cache_clear()
    (tmp_path / "3bpa").mkdir()
    put(tmp_path / "3bpa" / "train_300K.xyz", [1.0, 3.0])
    yield tmp_path / "3bpa"
    three_bpa.cache_clear()


def put(path: Path, energies: list[float]) -> None:
    frame = (
        "2\nProperties=species:S:1:pos:R:3:forces:R:3 energy={}\nC 0 0 0 0 0 1\nO 0 0 1.1 0 0 -1\n"
    )
    path.write_text("".join(map(frame.format, energies)), encoding="utf-8")


def test_slices_are_measured_where_they_are(root: Path, tmp_path: Path) -> None:
    put(root / "test_dih_beta120.xyz", [2.001, 2.003])
    rows = measure(open_candidate("mean"), "dih_beta120", Energies(), Context(tmp_path))
    found = {row.metric: row.value for row in rows}
    assert found["MAE of energies"] == pytest.approx(2.0)
    assert found["RMSE of forces"] == pytest.approx(1000.0 / np.sqrt(3.0))
    assert {row.data for row in rows} == {"3BPA dih_beta120"}
    assert not any("published" in row.model for row in rows)
    assert three_bpa("dih_beta120").system.temperature_K == 300.0
    assert "dih_beta180" in SETS["3bpa"]


def test_published_figures_stand_beside(root: Path, tmp_path: Path) -> None:
    put(root / "test_600K.xyz", [2.0])
    rows = measure(open_candidate("mean"), "600K", Energies(), Context(tmp_path))
    assert {row.note for row in rows if row.model == "MACE L=2 (published)"} == {
        "official test file"
    }
