"""Frames with labels from extended xyz files, whatever the labels are called."""

from pathlib import Path

import numpy as np
import pytest

from shared.data.extxyz import read_isolated_atoms, read_labelled
from shared.errors import InputError

CELL = 'Lattice="50.0 0.0 0.0 0.0 50.0 0.0 0.0 0.0 50.0" '


def frame(
    symbols: str = "OHH",
    energy: str = "energy=-1.5",
    forces: str = "forces",
    pbc: str = "F F F",
    cell: str = CELL,
    value: str = "0.25",
) -> str:
    rows = [f"{s} {k}.0 0.1 0.2 {value} 0.5 -1.0\n" for k, s in enumerate(symbols)]
    columns = f"Properties=species:S:1:pos:R:3:{forces}:R:3"
    return f'{len(symbols)}\n{cell}{columns} {energy} pbc="{pbc}"\n' + "".join(rows)


def written(folder: Path, text: str) -> Path:
    path = folder / "frames.xyz"
    path.write_text(text, encoding="utf-8")
    return path


def test_labels_and_a_cell_that_is_not_periodic(tmp_path: Path) -> None:
    (frames,) = read_labelled(written(tmp_path, frame() + frame(energy="energy=-2.0")))
    assert frames.name == "frames"
    assert frames.numbers.tolist() == [8, 1, 1]
    assert frames.energies.tolist() == [-1.5, -2.0]
    assert frames.forces[0].tolist() == [[0.25, 0.5, -1.0]] * 3
    assert frames.positions[1, 2].tolist() == [2.0, 0.1, 0.2]
    assert len(frames[[1]]) == 1
    assert frames[[1]].energies.tolist() == [-2.0]


def test_other_names(tmp_path: Path) -> None:
    path = written(tmp_path, frame(energy="dft_energy=-7", forces="dft_force"))
    (frames,) = read_labelled(path, "dft_energy", "dft_force")
    assert frames.energies.tolist() == [-7.0]
    assert frames.forces[0, 0].tolist() == [0.25, 0.5, -1.0]


def test_several_molecules(tmp_path: Path) -> None:
    text = frame() + frame("CO", energy="energy=3") + frame(energy="energy=4")
    water, carbon_monoxide = read_labelled(written(tmp_path, text))
    assert water.energies.tolist() == [-1.5, 4.0]
    assert carbon_monoxide.numbers.tolist() == [6, 8]
    assert (water.name, carbon_monoxide.name) == ("frames-0", "frames-1")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (frame(energy="E=1"), "frame 0 has no energy; it has E, forces; name.*data.energy_key"),
        (frame(forces="push"), "frame 0 has no forces; it has energy, push; .*data.forces_key"),
        (frame() + frame(energy=""), "frame 1 has no energy; it has forces"),
        (frame(pbc="T T T"), "frame 0: periodic boundary conditions"),
        (frame() + frame(energy="energy=nan"), "energies of frame 1 .* not finite, as of 1 of 2"),
        (frame(value="nan"), "forces of frame 0 .* not finite"),
        (frame(forces="forces:R:1:rest").replace(":rest:R:3", ":rest:R:2"), "has shape"),
        ("", "empty"),
    ],
)
def test_bad_labels(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says):
        read_labelled(written(tmp_path, text))


def test_isolated_atoms(tmp_path: Path) -> None:
    text = frame("C", energy="energy=-1029") + frame() + frame("H", energy="energy=-13.6")
    path = written(tmp_path, text)
    assert read_isolated_atoms(path) == {6: -1029.0, 1: -13.6}
    with pytest.raises(InputError, match="no frame of a single atom"):
        read_isolated_atoms(written(tmp_path, frame()))


def test_a_folder_of_labels_keeps_precision(tmp_path: Path) -> None:
    (frames,) = read_labelled(written(tmp_path, frame(energy="energy=-17660.461737861464")))
    assert frames.energies[0] == np.float64("-17660.461737861464")
