"""3BPA under its official names, and the stand-ins for its test files."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from shared.data.three_bpa import isolated_atoms, load_3bpa, load_dihedral_slices
from shared.errors import InputError

FRAME = (
    '2\nLattice="50 0 0 0 50 0 0 0 50" Properties=species:S:1:pos:R:3:forces:R:3 '
    'energy={energy} dihedrals="1.0 2.0 3.0" pbc="F F F"\nC 0 0 0 0 0 1\nO 0 0 1.1 0 0 -1\n'
)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRAJGEN_DATA", str(tmp_path))
    (tmp_path / "3bpa").mkdir()
    return tmp_path / "3bpa"


def put(path: Path, energy: float) -> None:
    path.write_text(FRAME.format(energy=energy), encoding="utf-8")


def test_official_files_come_first(root: Path) -> None:
    put(root / "mixedT_600K_dev.xyz", 1.0)
    stand_in = load_3bpa("test_600K")
    assert (stand_in.name, stand_in.energies[0]) == ("mixedT_600K_dev", 1.0)
    put(root / "test_600K.xyz", 2.0)
    official = load_3bpa("test_600K")
    assert (official.name, official.energies[0]) == ("test_600K", 2.0)


def test_dihedral_slices(root: Path) -> None:
    with pytest.raises(
        InputError, match=r"3BPA test_dih_beta120 is not here: run .*/test_dih, "
    ) as said:
        load_dihedral_slices()
    assert "put it at" in str(said.value)
    assert "3bpa/test_dih.xyz" in str(said.value)
    for k, angle in enumerate((120, 150, 180)):
        put(root / f"test_dih_beta{angle}.xyz", float(k))
    slices = load_dihedral_slices()
    assert {name: frames.energies[0] for name, frames in slices.items()} == {
        "dih_beta120": 0.0,
        "dih_beta150": 1.0,
        "dih_beta180": 2.0,
    }


def test_slices_of_the_one_file_of_the_repository(root: Path) -> None:
    """They are told apart by their angle, of either sign."""
    angles = [120.0, -180.0, 150.5, -120.4, 179.0, 61.0]
    frames = []
    for k, angle in enumerate(np.radians(angles)):
        positions = 3.0 * np.arange(15)[:, None] + [20.0, 0.0, 0.0]
        positions[[1, 5, 13, 14]] = [
            [1.0, 0.0, 0.0],
            [0.0, 0.0, 0.0],
            [0.0, 0.0, 1.5],
            [np.cos(angle), np.sin(angle), 1.5],
        ]
        atoms = Atoms("C15", positions)
        atoms.calc = SinglePointCalculator(atoms, energy=float(k), forces=0.0 * positions)
        frames.append(atoms)
    write(root / "test_dih.xyz", frames, format="extxyz")
    found = {name: part.energies.tolist() for name, part in load_dihedral_slices().items()}
    assert found == {"dih_beta120": [0, 3], "dih_beta150": [2], "dih_beta180": [1, 4]}
    assert load_3bpa("test_dih_beta150").name == "test_dih_beta150"
    assert len(load_3bpa("test_dih")) == 6
    write(root / "test_dih.xyz", frames[-1], format="extxyz")
    with pytest.raises(InputError, match=r"test_dih\.xyz: no frame has β, .* at 120 degrees"):
        load_dihedral_slices()


@pytest.mark.data
def test_the_data_at_hand() -> None:
    frames = load_3bpa("train_300K")
    assert frames.positions.shape == (500, 27, 3)
    assert np.bincount(frames.numbers)[[1, 6, 7, 8]].tolist() == [12, 12, 2, 1]  # C12H12N2O
    assert frames.energies[0] == -17660.461737861464
    assert frames.forces[0, 0].tolist() == [0.17092934, 0.13274200, 0.79555789]
    assert frames.forces.sum(1) == pytest.approx(0.0, abs=0.02)
    assert isolated_atoms()[1] == -13.587222780835477
