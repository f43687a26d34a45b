"""P2 from torsion scans, on an invented 3BPA file and a molecule that stands still."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from shared.evaluation import p2_stability
from shared.evaluation.long_run import _alone
from shared.evaluation.p2_stability import Stability, measure, simulated
from shared.evaluation.references import References
from shared.evaluation.rollout import Context
from shared.evaluation.systems import (
    data_files,
    real_series,
    sparse_frames,
    surrogate,
    three_bpa_starts,
)
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
    assert data_files("stability", "torsion-scan") == [trained]


def test_other_starts_make_another_simulation(trained: Path, tmp_path: Path) -> None:
    """Not the one that is there, whatever else is the same; the same starts read it."""
    settings, context = Stability(replicas=4, length_ps=0.01), Context(tmp_path / "out")
    on, still = three_bpa_starts("torsion-scan"), Still()
    first = simulated(still, on, "nve", settings, context)
    del still.begun
    assert np.array_equal(simulated(still, on, "nve", settings, context).frames, first.frames)
    assert not hasattr(still, "begun")
    moved = replace(on, positions=on.positions[::-1].copy())
    other = simulated(still, moved, "nve", settings, context)
    assert not np.array_equal(other.frames, first.frames)


def test_a_fresh_measurement_simulates_again(trained: Path, tmp_path: Path) -> None:
    starts, settings = three_bpa_starts("torsion-scan"), Stability(replicas=2, length_ps=0.01)
    begun = []
    for not_before in (0.0, 0.0, time.time() + 60.0):
        still, context = Still(), Context(tmp_path / "out", not_before=not_before)
        simulated(still, starts, "nve", settings, context)
        begun.append(hasattr(still, "begun"))
    assert begun == [True, False, True]


def test_two_processes_do_not_make_the_same_simulation_at_once(tmp_path: Path) -> None:
    said: list[str] = []
    with _alone(tmp_path, said.append):
        later = Thread(target=lambda: _enter(tmp_path, said))
        later.start()
        while not said:
            time.sleep(0.01)
        assert said == ["waits for another process that makes the same simulation"]
    later.join()
    assert said[1:] == ["mine"]


def _enter(run: Path, said: list[str]) -> None:
    with _alone(run, said.append):
        said.append("mine")


def test_what_has_a_past_is_moved_as_the_model_does_best(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Isomers have frames before the start; where velocities are drawn there are none."""
    every, made = ("fitted", "unknown", "nvt"), []
    still = Still()
    monkeypatch.setattr(still, "variants", lambda system: every, raising=False)
    made_by = p2_stability.simulated

    def seen(candidate, on, variant, settings, context):
        made.append(variant)
        return made_by(candidate, starts, variant, settings, context)

    monkeypatch.setattr(p2_stability, "simulated", seen)
    starts = three_bpa_starts("torsion-scan")
    settings, context = Stability(replicas=2, length_ps=0.01), Context(tmp_path / "out")
    measure(still, "torsion-scan", settings, context)
    assert made == ["unknown", "nvt"]
    made.clear()
    isomer = SimpleNamespace(system=starts.system)
    monkeypatch.setattr(p2_stability, "isomers_under_test", lambda source: ([isomer], []))
    measure(still, "unseen", settings, context)
    assert made == ["fitted", "unknown", "nvt"]


def test_isomers_are_those_of_the_set_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def of_set(source: str):
        asked.append(source)
        return [], []

    monkeypatch.setattr(p2_stability, "isomers_under_test", of_set)
    official = References(isomers="official")
    measure(Still(), "unseen", Stability(), Context(Path("unused"), references=official))
    assert asked == ["official"]
    assert official.identity("unseen") != References().identity("unseen") == []


def test_the_engine_of_a_reference_is_one_of_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAJGEN_DATA", str(tmp_path))
    for cached in (surrogate, sparse_frames, real_series):
        cached.cache_clear()  # another test may have read the real files
    wanted = [tmp_path / "md17s" / "md17s_oracle_ethanol.npz", tmp_path / "sgdml" / "ethanol.npz"]
    for path in wanted:
        path.parent.mkdir()
        path.touch()
    assert data_files("s2l", "ethanol", "sgdml") == wanted
    assert data_files("stability", "ethanol", "persistence") == []
    for part in ("sparse", "consecutive"):
        assert data_files(part, "ethanol", "forcefield:md17") == wanted[1:]
