"""C7O2H10: the official archive and the surrogate read alike, and are split by isomer."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from shared.data.isomers import (
    Isomers,
    load_isomers,
    load_isomers_xtb,
    one_to_others,
    persistence_armse,
    read_isomers,
)
from shared.errors import InputError

Z = np.array([8, 1, 1])
RNG = np.random.default_rng(0)


def xyz(positions: np.ndarray, symbols: str = "OHH") -> str:
    """The text of a trajectory in the form of the archive."""
    frames = (
        "".join(
            [f"{len(frame)}\nIteration: {index}\n"]
            + [
                f"{symbol} {x:.8f} {y:.8f} {z:.8f}\n"
                for symbol, (x, y, z) in zip(symbols, frame, strict=True)
            ]
        )
        for index, frame in enumerate(positions)
    )
    return "".join(frames)


def official(amplitudes: list[float], n_frames: int = 6) -> dict[str, str]:
    """File name -> text; isomer k moves with amplitude k."""
    files = {}
    for number, amplitude in enumerate(amplitudes, start=1000):
        positions = amplitude * RNG.normal(size=(n_frames, 3, 3))
        files[f"{number}.xyz"] = xyz(positions)
        energies = "".join(f"{-11_000 - k}.5\n" for k in range(n_frames))
        files[f"{number}.energy.dat"] = "# total energy\n" + energies
    return files


def write(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def archive(path: Path, files: dict[str, str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"c7o2h10_md/{name}")
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
    return path


def test_the_official_form(tmp_path: Path) -> None:
    files = official([1.0, 1.0]) | {"readme.txt": "", "._1000.energy.dat": "", "9.energy.dat": ""}
    files["1001.xyz"] = xyz(np.ones((6, 3, 3)), "HOH").replace("1.00000000", "1.5*^-7", 1)
    isomers = read_isomers(write(tmp_path / "md", files), source="C7O2H10 isomers")
    assert isomers.names == ("1000", "1001")
    first, second = isomers
    assert first.source == "C7O2H10 isomers, 1000"
    assert first.numbers.tolist() == [8, 1, 1]
    assert first.positions.shape == (6, 3, 3)
    assert xyz(first.positions) == files["1000.xyz"]
    assert first.energies.tolist() == [-11_000.5 - k for k in range(6)]
    assert first.forces is None
    assert (first.interval_fs, first.temperature_K) == (1.0, 500.0)
    assert second.numbers.tolist() == [1, 8, 1]
    assert second.positions[0, 0].tolist() == [1.5e-7, 1, 1]


def test_the_surrogate_form(tmp_path: Path) -> None:
    arrays = {
        "R": RNG.normal(size=(2, 6, 3, 3)).astype(np.float32),
        "E": RNG.normal(size=(2, 6)),
        "F": RNG.normal(size=(2, 6, 3, 3)).astype(np.float32),
        "z": Z,
        "smiles": np.array(["O", "[OH2]"]),
        "timestep_fs": 2.0,
        "temperature_K": 300.0,
    }
    np.savez(tmp_path / "a.npz", **arrays)
    isomers = read_isomers(tmp_path / "a.npz")
    assert [isomer.name for isomer in isomers[:]] == ["O", "[OH2]"]
    isomer = isomers.named("[OH2]")
    assert (isomer.positions == arrays["R"][1]).all()
    assert isomer.forces is not None
    assert (isomer.forces == arrays["F"][1]).all()
    assert (isomer.energies == arrays["E"][1]).all()
    assert (isomer.interval_fs, isomer.temperature_K) == (2.0, 300.0)
    with pytest.raises(InputError, match=r"no isomer C; it has O, \[OH2\]"):
        isomers.named("C")
    np.savez(tmp_path / "a.npz", **{**arrays, "z": np.stack([Z, Z[::-1]])})
    assert read_isomers(tmp_path / "a.npz")[-1].numbers.tolist() == [1, 1, 8]
    np.savez(tmp_path / "a.npz", **{**arrays, "E": np.zeros((2, 5))})
    with pytest.raises(InputError, match="does not fit R"):
        read_isomers(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("1000.xyz", lambda text: text[:-40], "truncated"),
        ("1000.xyz", lambda text: "", "truncated, or not an xyz"),
        ("1000.xyz", lambda text: text.replace("3\n", "4\n", 2).replace("4\n", "3\n", 1), "number"),
        ("1000.xyz", lambda text: text.replace("O", "H"), None),
        ("1000.xyz", lambda text: text.replace("O", "H", 1), "order of the atoms"),
        ("1000.xyz", lambda text: text.replace("O", "Qq"), "'Qq' is no element"),
        ("1000.xyz", lambda text: text + xyz(np.full((1, 3, 3), np.nan)), "not finite"),
        ("1000.xyz", lambda text: text + xyz(np.ones((1, 3, 3))), "7 frames, .* 6 energies"),
        ("1000.energy.dat", lambda text: text + "low", "not a file of energies"),
        ("1000.energy.dat", lambda text: text + "nan", "not finite"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, file, change, message: str | None) -> None:
    files = official([1.0])
    files[file] = change(files[file])
    isomers = read_isomers(write(tmp_path, files))
    if message is None:
        assert isomers[0].numbers.tolist() == [1, 1, 1]
        return
    with pytest.raises(InputError, match=message) as error:
        isomers[0]
    assert str(tmp_path) in str(error.value)


def test_a_folder_without_isomers(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no pairs of"):
        read_isomers(write(tmp_path, {"1000.xyz": ""}))
    with pytest.raises(InputError, match="no such file"):
        read_isomers(tmp_path / "none.npz")


def test_the_split_is_by_persistence(tmp_path: Path) -> None:
    amplitudes = [0.1, 3.0, 0.2, 300.0, 0.3, 30.0, 0.4]
    isomers = read_isomers(write(tmp_path, official(amplitudes)))
    split = one_to_others(isomers, n_test=2, n_validation=1, n_frames=6)
    assert (split.test, split.validation, split.train) == ((3, 5), (1,), (0, 2, 4, 6))
    with pytest.raises(InputError, match="7 isomers, too few to hold 7 out"):
        one_to_others(isomers, n_test=5, n_validation=2, n_frames=6)
    with pytest.raises(InputError, match="isomer 1000 has 6 frames, 1000 are needed"):
        one_to_others(isomers, n_test=1, n_validation=1)


def test_drift_does_not_count(tmp_path: Path) -> None:
    drifting = np.arange(6.0)[:, None, None] + np.zeros((1, 3, 3))
    swinging = np.zeros((6, 3, 3))
    swinging[1:, 1, 0], swinging[1:, 2, 0] = 1.0, -1.0  # the H atoms, by 1 Å each
    for positions, expected in ((drifting, 0.0), (swinging, np.sqrt(2 / 3))):
        files = official([1.0]) | {"1000.xyz": xyz(positions)}
        isomer = read_isomers(write(tmp_path, files))[0]
        assert persistence_armse(isomer, 6) == pytest.approx(expected)


def test_an_archive_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAJGEN_DATA", str(tmp_path))
    path = archive(tmp_path / "isomers" / "c7o2h10_md.tar.gz", official([1.0, 2.0]))
    isomers = load_isomers()
    assert (isomers.source, isomers.names) == ("C7O2H10 isomers", ("1000", "1001"))
    path.write_bytes(b"no longer needed")
    assert len(load_isomers()) == 2


def test_a_truncated_archive_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAJGEN_DATA", str(tmp_path))
    path = archive(tmp_path / "isomers" / "c7o2h10_md.tar.gz", official([1.0, 2.0]))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match="truncated or damaged, nothing was unpacked"):
        load_isomers()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_without_files_the_message_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAJGEN_DATA", str(tmp_path))
    with pytest.raises(InputError) as error:
        load_isomers()
    message = str(error.value)
    assert "python -m shared.data.download isomers" in message
    assert "fetch http://quantum-machine.org/data/c7o2h10_md.tar.gz" in message
    assert f"put it at {tmp_path}/isomers/c7o2h10_md.tar.gz" in message
    with pytest.raises(InputError, match=r"isomers/c7o2h10_xtb\.npz"):
        load_isomers_xtb()


@pytest.fixture(scope="module")
def surrogate() -> Isomers:
    return load_isomers_xtb()


@pytest.mark.data
def test_real_surrogate(surrogate: Isomers) -> None:
    assert len(surrogate) == 113
    isomer = surrogate[0]
    assert isomer.source == f"C7O2H10 isomers (GFN2-xTB surrogate), {isomer.name}"
    assert sorted(isomer.numbers.tolist()) == [1] * 10 + [6] * 7 + [8] * 2
    assert isomer.positions.shape == (1000, 19, 3)
    # Energies and forces belong to the positions: dE = −F·dx, to second order.
    steps = np.diff(isomer.positions.astype(np.float64), axis=0)
    forces = isomer.forces.astype(np.float64)
    work = ((forces[1:] + forces[:-1]) / 2 * steps).sum(axis=(1, 2))
    residual = np.diff(isomer.energies) + work
    assert residual.std() < 0.05 * np.diff(isomer.energies).std()


@pytest.mark.data
def test_real_split(surrogate: Isomers) -> None:
    split = one_to_others(surrogate)
    assert (len(split.test), len(split.validation), len(split.train)) == (5, 5, 103)
    assert sorted(split.test + split.validation + split.train) == list(range(113))
    errors = [
        [persistence_armse(surrogate[index]) for index in part]
        for part in (split.test, split.validation, split.train)
    ]
    assert min(errors[0]) > max(errors[1])
    assert min(errors[1]) > max(errors[2])
    assert [surrogate.names[index] for index in split.test] == [
        "COC(O)C1=CCC=C1",
        "C=CC(=O)CCC(C)=O",
        "C=C1CCOC1C(C)=O",
        "CC1=C(OCO)C=CC1",
        "C=C1CCCC1C(=O)O",
    ]
