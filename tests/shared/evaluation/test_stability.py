"""P2 from torsion scans, on an invented 3BPA file and a molecule that stands still."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from shared.evaluation.p2_stability import Stability, measure
from shared.evaluation.rollout import Context
from shared.evaluation.systems import data_files, three_bpa_starts
from shared.state import PhaseState


class Still:
    """A candidate that does not move, and its propagator; keeps where it began."""

    name, identity = "still", "still"

    def variants(self, system):
        return ("nve",)

    def step_fs(self, system):
        return system.interval_fs

    def propagator(self, system, variant):
        return self

    def propagate(
        self, start: PhaseState, n_frames: int, frame_interval_fs: float, *, seed: int
    ) -> Iterator[PhaseState]:
        self.begun = start
        yield from [start] * n_frames


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """One training frame: butane."""
    monkeypatch.setenv("TRAJGEN_DATA", str(tmp_path))
    three_bpa_starts.cache_clear()
    butane = molecule("trans-butane")
    butane.calc = SinglePointCalculator(butane, energy=0.0, forces=0 * butane.positions)
    path = tmp_path / "3bpa" / "train_300K.xyz"
    path.parent.mkdir()
    write(path, butane, format="extxyz")
    yield path
    three_bpa_starts.cache_clear()


def test_starts_from_torsion_scans(trained: Path, tmp_path: Path) -> None:
    still = Still()
    settings = Stability(replicas=4, length_ps=0.01)
    rows = measure(still, "torsion-scan", settings, Context(tmp_path / "out"))
    found = {row.metric: row for row in rows if row.model == "still"}
    assert found["stable share"].value == 1.0
    assert found["median stable time"].low == found["median stable time"].value
    assert found["shortest stable time"].low is None  # an extremum has no bootstrap
    assert found["largest bond deviation"].value < 1e-6  # a scan leaves bonds as they are
    assert {row.system for row in rows} == {"torsion-scan"}
    assert {row.data for row in rows} == {"3BPA torsion scans built from a training frame"}
    assert still.begun.n_replicas == 4
    assert still.begun.velocities is not None
    assert len({x.tobytes() for x in still.begun.positions}) == 4
    assert data_files("stability", ["torsion-scan"]) == [trained]
