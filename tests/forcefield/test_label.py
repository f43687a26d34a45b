"""Frames labelled by a potential: the calculator's numbers, in a file that a training reads."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from forcefield.calculator import TrajgenCalculator
from forcefield.label import main
from shared.data.extxyz import read_labelled
from shared.data.gfn2 import WATER
from tests.forcefield.tiny import save_tiny


def frames(path: Path) -> Path:
    """Seven shaken frames of water."""
    rng = np.random.default_rng(0)
    shaken = [WATER[1] + 0.05 * rng.normal(size=(3, 3)) for _ in range(7)]
    write(path, [Atoms(WATER[0], shape) for shape in shaken], format="xyz")
    return path


def test_labels_are_those_of_the_calculator(tmp_path: Path, capsys) -> None:
    folder, out = save_tiny(tmp_path / "tiny"), tmp_path / "labels.extxyz"
    files = [str(frames(tmp_path / name)) for name in ("a.xyz", "b.xyz")]
    assert main([*files, "--checkpoint", str(folder), "--out", str(out), "--every", "2"]) == 0
    assert f"8 frames to {out}" in capsys.readouterr().out
    (found,) = read_labelled(out)
    calculator = TrajgenCalculator(str(folder), dtype="float64")
    for shape, energy, forces in zip(found.positions, found.energies, found.forces, strict=True):
        atoms = Atoms(WATER[0], shape, calculator=calculator)
        assert energy == pytest.approx(atoms.get_potential_energy(), abs=1e-5)
        assert forces == pytest.approx(atoms.get_forces(), abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.xyz"], "none.xyz"),
        (["water.xyz", "--checkpoint", "none"], "none"),
        (["water.xyz", "--every", "0"], "--every"),
        (["water.xyz", "--out", "no/labels.extxyz"], "there is no folder no"),
        (["water.xyz", "--out", "tiny"], "tiny is a folder"),
        (["water.xyz", "--out", "labels.dat"], "must end in .extxyz"),
        (["water.xyz", "--out", "water.xyz"], "is one of the files to read"),
        (["ammonia.xyz"], "does not know the element N"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    frames(Path("water.xyz"))
    write("ammonia.xyz", Atoms("NH3", np.eye(4, 3)), format="xyz")
    save_tiny(Path("tiny"))
    before = Path("water.xyz").read_bytes()
    options = ["--checkpoint", "tiny", "--out", "labels.extxyz"]
    assert main([*options, *arguments]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert message in said
    assert not Path("labels.extxyz").exists()
    assert Path("water.xyz").read_bytes() == before
