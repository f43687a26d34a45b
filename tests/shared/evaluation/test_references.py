"""Trajectories of an engine as the reference of 3BPA, here of two atoms on a spring."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from shared.data.trajectories import frame_interval, read_trajectory
from shared.errors import InputError
from shared.evaluate import _has_reference, main
from shared.evaluation import references
from shared.evaluation.references import References, engine_series
from shared.evaluation.results import read_results
from shared.evaluation.systems import three_bpa
from shared.state import PhaseState
from shared.writers import TrajectoryWriter

FRAME = "2\nProperties=species:S:1:pos:R:3:forces:R:3 energy=1.0\nC 0 0 0 0 0 1\nO 0 0 1.1 0 0 -1\n"
N_FRAMES = 2100


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("TRAJGEN_DATA", str(tmp_path))
    (tmp_path / "3bpa").mkdir()
    for part in ("train_300K", "test_300K"):
        (tmp_path / "3bpa" / f"{part}.xyz").write_text(2 * FRAME, encoding="utf-8")
    for cached in (three_bpa, engine_series):
        cached.cache_clear()
    yield tmp_path
    for cached in (three_bpa, engine_series):
        cached.cache_clear()


def written(
    folder: Path,
    ending: str,
    n_frames: int,
    numbers: tuple[int, int] = (6, 8),
    interval_fs: float = 0.5,
) -> Path:
    """A vibration with a period of 40 frames."""
    states = []
    for frame in range(n_frames + 1):
        phase = np.pi * frame / 20.0
        positions = np.array([[[0.0, 0.0, 0.0], [0.0, 0.0, 1.1 + 0.05 * np.sin(phase)]]])
        velocities = np.array([[[0.0, 0.0, 0.0], [0.0, 0.0, 0.05 * np.pi / 10 * np.cos(phase)]]])
        states.append(
            PhaseState(np.array(numbers), positions, velocities, time_fs=interval_fs * frame)
        )
    out = folder / "made"
    with TrajectoryWriter(out, states[0], format=ending, frame_interval_fs=interval_fs) as writer:
        for state in states[1:]:
            writer.write(state)
    return out.with_suffix(f".{ending}")


@pytest.mark.parametrize("ending", ["h5", "extxyz"])
def test_trajectories_are_read_in_our_units(tmp_path: Path, ending: str) -> None:
    path = written(tmp_path, ending, 30)
    made = read_trajectory(path)
    assert made.numbers.tolist() == [6, 8]
    assert made.times_fs[:2] == pytest.approx([0.5, 1.0], abs=1e-4)
    assert made.positions[9, 1, 2] == pytest.approx(1.15, abs=1e-6)
    assert made.velocities[19, 1, 2] == pytest.approx(-0.005 * np.pi, abs=1e-6)
    assert frame_interval(path, made) == 0.5


def test_bad_trajectories(root: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_trajectory(root / "absent.h5")
    (root / "bad.h5").write_text("no")
    with pytest.raises(InputError, match="not an HDF5 trajectory"):
        read_trajectory(root / "bad.h5")
    other = str(written(root, "extxyz", 30, numbers=(6, 7)))
    with pytest.raises(InputError, match="not those of 3BPA"):
        References({"300K": other}, "xtb").series("300K")
    with pytest.raises(InputError, match=r"no trajectory of 600K: name it"):
        References().series("600K")


def config(root: Path, **entries: object) -> list[str]:
    own = {"name": "test", "data": "3bpa", "systems": ["300K"], "models": ["persistence"]}
    own |= {"parts": ["s2l"], "results": f"{root}/r.json", "artefacts": f"{root}/a"}
    path = root / "config.yaml"
    content = {"evaluation": own | entries, "s2l": {"horizons": [10, 100], "starts": 4}}
    path.write_text(json.dumps(content), encoding="utf-8")
    return ["--config", str(path), "--no-report"]


def test_rows_name_the_engine(root: Path) -> None:
    path = written(root, "h5", N_FRAMES)
    assert main(config(root, trajectories={"300K": str(path)}, engine="xtb")) == 0
    content = read_results(root / "r.json")
    assert {row["data"] for row in content["rows"]} == {"3BPA 300K, trajectory of xtb"}
    found = {(row["metric"], row["horizon"]): row["value"] for row in content["rows"]}
    assert found["RMSE raw", "100 frames"] > 0  # two periods and a half later
    assert any(name.endswith("made.h5") for name in content["provenance"]["files"])
    job = content["jobs"]["s2l/300K/persistence"]
    assert job["skipped"] is None
    other = References({"300K": str(path)}, "forcefield:3bpa").identity("300K")
    assert other != References({"300K": str(path)}, "xtb").identity("300K") != []


def test_without_its_trajectory_a_reference_keeps_its_rows(root: Path) -> None:
    """And what reads none is not measured again for it."""
    path = written(root, "h5", N_FRAMES)
    entries = {"trajectories": {"300K": str(path)}, "engine": "xtb"}
    assert main(config(root, **entries)) == 0
    before = read_results(root / "r.json")
    assert main(config(root)) == 2  # nothing could be measured
    assert read_results(root / "r.json") == before
    assert [_has_reference(part) for part in ("s2l", "distributions")] == [True, True]
    assert not any(_has_reference(part) for part in ("energies", "shift", "stability"))


def test_the_engine_is_known_by_its_weights(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(written(root, "h5", 30))
    of = References({"300K": path}, "forcefield:3bpa")
    first = of.identity("300K")
    trained = SimpleNamespace(identity="other weights")
    monkeypatch.setattr(references, "open_candidate", lambda name: trained)
    assert first != of.identity("300K")


def test_blocks_are_windows_of_independent_trajectories(root: Path) -> None:
    folders = [root / name for name in ("a", "b", "c")]
    for folder in folders:
        folder.mkdir()
    whole = written(root, "h5", N_FRAMES)
    blocks = [str(written(folder, "h5", 500)) for folder in folders]
    entries = {"trajectories": {"300K": str(whole)}, "engine": "xtb", "parts": ["distributions"]}
    entries |= {"models": ["static-oracle"]}
    options = ["--distributions.window_ps", "0.2"]
    assert main([*config(root, **entries), *options]) == 0
    (one, *_) = read_results(root / "r.json")["rows"]
    assert one["n"] == N_FRAMES // 400
    assert main([*config(root, **entries, blocks={"300K": blocks}), *options]) == 0
    content = read_results(root / "r.json")
    assert {row["n"] for row in content["rows"]} == {3}  # one window of each
    assert sum("made.h5" in name for name in content["provenance"]["files"]) == 4
    alone, beside = (
        References({"300K": str(whole)}, "xtb", found).identity("300K")
        for found in ({}, {"300K": blocks})
    )
    assert alone != beside
    (root / "d").mkdir()
    coarse = written(root / "d", "h5", 50, interval_fs=1.0)
    with pytest.raises(InputError, match=r"frames are 1 fs apart, those of .* 0\.5"):
        References({"300K": str(whole)}, "xtb", {"300K": [str(coarse)]}).independent("300K")


def test_an_interval_that_does_not_divide_the_trajectory(root: Path, capsys) -> None:
    path = written(root, "extxyz", 60, interval_fs=2.0)
    assert main(config(root, trajectories={"300K": str(path)}, engine="xtb")) == 2
    assert "s2l.interval_fs: 5 fs is no multiple of the 2 fs" in capsys.readouterr().err
    assert not (root / "r.json").exists()


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"trajectories": {"300K": "absent.h5"}, "engine": "xtb"}, "absent.h5: no such file"),
        ({"trajectories": {"300K": "absent.h5"}}, "evaluation.engine: say which"),
        ({"trajectories": {"301K": "absent.h5"}, "engine": "xtb"}, "has no 301K; it has 300K"),
        ({"trajectories": {"300K": "."}, "engine": "nothing"}, "no model nothing"),
        ({"blocks": {"300K": ["."]}, "engine": "xtb"}, "300K has none of evaluation.trajectories"),
        (
            {"trajectories": {"300K": "."}, "blocks": {"300K": ["absent.h5"]}, "engine": "xtb"},
            "evaluation.blocks: absent.h5: no such file",
        ),
        ({"data": "md17", "systems": [], "trajectories": {"300K": "."}}, "only data 3bpa"),
    ],
)
def test_bad_entries_are_one_line(root: Path, capsys, entries: dict, says: str) -> None:
    assert main(config(root, **entries)) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
