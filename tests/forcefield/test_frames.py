"""A section of data as a file: the same frames and labels, in the order of the data."""

from pathlib import Path

import numpy as np
import pytest

from forcefield.frames import main
from forcefield.labelled import DataConfig, load_labelled, load_more
from shared.data.extxyz import LabelledFrames
from tests.isomers import write_isomers


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRAJGEN_DATA", str(tmp_path))
    write_isomers(tmp_path)
    return tmp_path


def in_order(found: list[LabelledFrames]) -> list[np.ndarray]:
    """Energies, positions and forces of all frames, by energy: files are grouped by elements."""
    order = np.argsort(np.concatenate([frames.energies for frames in found]))
    keys = "energies", "positions", "forces"
    return [np.concatenate([getattr(frames, key) for frames in found])[order] for key in keys]


def test_another_training_reads_the_frames_of_the_data(root: Path, capsys) -> None:
    out = root / "frames.extxyz"
    command = ["--data.source", "isomers", "--data.train", "7", "--out", str(out)]
    assert main(command) == 0
    data = DataConfig(source="isomers", train=7)
    expected = load_labelled(data, "train")
    assert f"{7 * len(expected)} frames to {out}" in capsys.readouterr().out
    found = load_more(DataConfig(more=[str(out)]))
    for got, true in zip(in_order(found), in_order(expected), strict=True):
        np.testing.assert_allclose(got, true, rtol=1e-9, atol=1e-7)


def test_other_parts(root: Path, capsys) -> None:
    out = root / "frames.extxyz"
    options = ["--data.source", "isomers", "--data.validation", "3", "--out", str(out)]
    assert main([*options, "--part", "validation"]) == 0
    expected = load_labelled(DataConfig(source="isomers", validation=3), "validation")
    assert f"{3 * len(expected)} frames" in capsys.readouterr().out
    found = load_more(DataConfig(more=[str(out)]))
    for got, true in zip(in_order(found), in_order(expected), strict=True):
        np.testing.assert_allclose(got, true, rtol=1e-9, atol=1e-7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data.source", "none"], "no data.source none"),
        (["--data.sorce", "isomers"], "the nearest is --data.source"),
        (["--out", "no/frames.extxyz"], "there is no folder no"),
        (["--out", "frames.dat"], "must end in .extxyz"),
        (["--part", "all"], "--part"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, root: Path, capsys, monkeypatch
) -> None:
    monkeypatch.chdir(root)
    assert main(["--data.source", "isomers", "--out", "frames.extxyz", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert message in said
    assert not Path("frames.extxyz").exists()
