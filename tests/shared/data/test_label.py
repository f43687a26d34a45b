"""Frames labelled by GFN2-xTB: the engine's own numbers, in a file that a training reads."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from shared.data.extxyz import read_labelled
from shared.data.gfn2 import WATER, XTBEngine
from shared.data.label import main

pytestmark = pytest.mark.reference("tblite")


def frames(folder: Path, name: str = "water.xyz") -> Path:
    """Three frames of water, the second one twice."""
    path = folder / name
    shifts = (0.0, 0.02, 0.02, -0.03)
    moved = [Atoms(WATER[0], np.asarray(WATER[1]) * (1 + shift)) for shift in shifts]
    write(path, moved, format="xyz")
    return path


def test_labels_are_the_engines_and_repeats_are_left_out(tmp_path: Path, capsys) -> None:
    out = tmp_path / "labels.extxyz"
    assert main([str(frames(tmp_path)), str(frames(tmp_path, "b.xyz")), "--out", str(out)]) == 0
    assert "6 frames" in (said := capsys.readouterr().out)
    assert "2 left out" in said
    (labelled,) = read_labelled(out)
    engine = XTBEngine(WATER[0], 0)
    for row in range(6):
        energy, forces = engine.energy_and_forces(labelled.positions[row])
        assert labelled.energies[row] == pytest.approx(energy, abs=1e-5)
        assert labelled.forces[row] == pytest.approx(forces, abs=1e-5)


def test_stretch_adds_a_frame_with_one_bond_changed_to_each(tmp_path: Path) -> None:
    out = tmp_path / "labels.extxyz"
    options = ["--out", str(out), "--stretch", "-0.2", "0.4"]
    assert main([str(frames(tmp_path)), *options]) == 0
    (labelled,) = read_labelled(out)
    assert len(labelled.positions) == 6
    bonds = np.linalg.norm(labelled.positions[:, 1:] - labelled.positions[:, :1], axis=-1)
    change = bonds[1::2] - bonds[::2]
    assert (np.isclose(change, 0.0, atol=1e-6).sum(axis=1) == 1).all()
    assert change.min() > -0.2
    assert change.max() < 0.4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.xyz"], "none.xyz"),
        (["water.xyz", "--stretch", "0.3", "-0.3"], "--stretch"),
        (["water.xyz", "--every", "0"], "--every"),
        (["water.xyz", "--charge", "1"], "odd number of electrons"),
        (["water.xyz", "--out", "no/folder/x.extxyz"], "there is no folder"),
        (["water.xyz", "--out", "."], "is a folder"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    arguments: list[str], message: str, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    frames(tmp_path)
    if "--out" not in arguments:
        arguments = [*arguments, "--out", "out.extxyz"]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("shared.data.label: ")
    assert message in said
    assert said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["water.xyz"]
