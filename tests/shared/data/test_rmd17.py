"""rMD17: shuffled frames come back in the order of the trajectory they are from."""

from pathlib import Path

import numpy as np
import pytest

from shared.data.rmd17 import MOLECULES, load_rmd17, read_rmd17
from shared.errors import InputError
from shared.units import KCAL_PER_MOL_IN_EV

FRAMES = np.array([40, 7, 41, 8, 100, 40, 9])  # 40 twice


def official() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "nuclear_charges": np.array([8, 1, 1]),
        "coords": FRAMES[:, None, None] + rng.normal(size=(1, 3, 3)),
        "energies": 1.0 * FRAMES,
        "forces": rng.normal(size=(7, 3, 3)),
        "old_indices": 1.0 * FRAMES,  # float in the official file
        "old_energies": 2.0 * FRAMES,
        "old_forces": rng.normal(size=(7, 3, 3)),
    }


def test_sorted_by_frame_number_each_once(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **official())
    frames = read_rmd17(tmp_path / "a.npz")
    assert frames.frames.tolist() == [7, 8, 9, 40, 41, 100]
    assert len(frames) == 6
    assert frames.energies[:] == pytest.approx(frames.frames * KCAL_PER_MOL_IN_EV)
    assert frames.md17_energies[4] == pytest.approx(82 * KCAL_PER_MOL_IN_EV)
    assert frames.positions[4] - frames.positions[0] == pytest.approx(34.0)
    expected = official()["old_forces"][1] * KCAL_PER_MOL_IN_EV
    assert frames.md17_forces[0] == pytest.approx(expected)


def test_pairs(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **official())
    frames = read_rmd17(tmp_path / "a.npz")
    assert frames.frames[frames.pairs()].tolist() == [[7, 8], [8, 9], [40, 41]]
    assert frames.frames[frames.pairs(gap=2)].tolist() == [[7, 9]]
    assert frames.frames[frames.pairs(gap=60)].tolist() == [[40, 100]]
    assert frames.pairs(gap=5).shape == (0, 2)


def test_labels_that_do_not_fit(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{**official(), "old_forces": np.zeros((6, 3, 3))})
    with pytest.raises(InputError, match="6 old_forces for 7 frames"):
        read_rmd17(tmp_path / "a.npz")


def test_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAJGEN_DATA", str(tmp_path))
    with pytest.raises(InputError, match=r"rmd17_benzene.npz in its archive.*put it at .*rmd17/"):
        load_rmd17("benzene")
    with pytest.raises(InputError, match="no molecule water"):
        load_rmd17("water")


@pytest.mark.data
@pytest.mark.parametrize("molecule", MOLECULES)
def test_neighbours_are_neighbours(molecule: str) -> None:
    frames = load_rmd17(molecule)
    pairs = frames.pairs()
    assert len(pairs) > 50
    apart = np.abs(frames.positions[pairs[:, 1]] - frames.positions[pairs[:, 0]]).max()
    assert apart < 0.15  # Å in one step
    assert frames.interval_fs == (1.0 if molecule in ("azobenzene", "paracetamol") else 0.5)
