"""Arrays of an npz: mapped, unpacked once or read, always the same; damaged files refused."""

from pathlib import Path

import numpy as np
import pytest

from shared.data import npz
from shared.data.npz import ArrayFile, ConvertedRows
from shared.errors import InputError

ARRAY = np.random.default_rng(0).normal(size=(50, 4, 3))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("limit", [0, 2**20])
def test_every_way_of_storing_gives_the_array(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save: object, limit: int
) -> None:
    monkeypatch.setattr(npz, "READ_LIMIT", limit)
    fortran = np.asfortranarray(ARRAY.astype(np.float32))
    save(tmp_path / "a.npz", R=ARRAY, F=fortran, t=0.5)  # type: ignore[operator]
    arrays = ArrayFile(tmp_path / "a.npz", cache=tmp_path / "cache")
    assert list(arrays) == ["R", "F", "t"]
    assert (arrays["R"] == ARRAY).all()
    assert (arrays["F"] == fortran).all()
    assert float(arrays["t"]) == 0.5
    assert isinstance(arrays["R"], np.memmap) == (limit == 0)
    assert arrays.first("coords", "R").shape == ARRAY.shape


def test_unpacking_happens_once_and_again_when_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(npz, "READ_LIMIT", 0)
    path, cache = tmp_path / "a.npz", tmp_path / "cache"
    np.savez_compressed(path, R=ARRAY)
    for _ in range(2):
        assert (ArrayFile(path, cache)["R"] == ARRAY).all()
        assert len(list(cache.iterdir())) == 1
    np.savez_compressed(path, R=ARRAY[:7])
    assert len(ArrayFile(path, cache)["R"]) == 7


def test_bad_files_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        ArrayFile(tmp_path / "none.npz")
    path = tmp_path / "a.npz"
    np.savez(path, R=ARRAY, objects=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match="no array E in it, it has R, objects"):
        ArrayFile(path)["E"]
    with pytest.raises(InputError, match="not readable"):
        ArrayFile(path)["objects"]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="not a complete npz"):
        ArrayFile(path)


def test_damage_inside_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, R=ARRAY)
    content = bytearray(path.read_bytes())
    content[800:900] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(InputError, match="not readable"):
        ArrayFile(path)["R"]


def test_converted_rows() -> None:
    order = np.array([3, 1, 2])
    rows = ConvertedRows(ARRAY.astype(np.float32), 2.0, order)
    assert len(rows) == 3
    assert rows.shape == (3, 4, 3)
    assert rows[0].dtype == np.float64
    assert rows[0] == pytest.approx(2.0 * ARRAY[3], rel=1e-6)
    assert np.asarray(rows) == pytest.approx(2.0 * ARRAY[order], rel=1e-6)
    assert rows[[[0, 1], [2, 0]]].shape == (2, 2, 4, 3)
