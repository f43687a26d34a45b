"""Reading structures: what a file gives, and that a bad one is refused with one clear line."""

import os
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from shared.errors import InputError
from shared.io import read_frames, read_start
from shared.kinetics import backward_velocity
from shared.units import masses

ETHANOL = molecule("CH3CH2OH")
WATER = "3\n{comment}\nO 0.0 0.0 0.119\nH 0.0 0.763 -0.477\nH 0.0 -0.763 -0.477\n"
PDB_ATOM = "ATOM      1  {0}   MOL A   1       0.000   0.000   {1:5.3f}  1.00  0.00           {0}\n"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def moving_frames(n_frames: int, interval_fs: float) -> np.ndarray:
    """[T, N, 3], each coordinate a parabola in time: the three-point formula is exact."""
    rng = np.random.default_rng(0)
    v, a = 0.01 * rng.standard_normal((9, 3)), 1e-4 * rng.standard_normal((9, 3))
    t = interval_fs * np.arange(n_frames)[:, None, None]
    return ETHANOL.positions + v * t + 0.5 * a * t**2


def write_frames(path: Path, positions: np.ndarray, **columns: np.ndarray) -> Path:
    frames = [ase.Atoms(ETHANOL.numbers, x) for x in positions]
    for name, values in columns.items():
        for atoms, value in zip(frames, values, strict=True):
            if value.ndim:
                atoms.set_array(name, value)
            else:
                atoms.info[name] = value
    ase.io.write(path, frames, format="extxyz")
    return path


# ---- what a file gives


@pytest.mark.parametrize("suffix", [".xyz", ".extxyz", ".pdb", ".XYZ"])
def test_a_frame_of_each_kind(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"ethanol{suffix}"
    kind = {".xyz": "xyz", ".pdb": "proteindatabank"}.get(suffix, "extxyz")
    ase.io.write(path, ETHANOL, format=kind)
    frames = read_frames(path)
    assert frames.numbers.tolist() == ETHANOL.numbers.tolist()
    np.testing.assert_allclose(frames.positions[0], ETHANOL.positions, atol=6e-4)
    assert np.isnan(frames.times_fs).all()
    assert frames.velocities is None
    assert frames.energies is None
    state = read_start(path)
    assert (state.n_replicas, state.velocities, state.time_fs) == (1, None, 0.0)


@pytest.mark.parametrize("name", ["velocities", "velocity", "velo", "vel"])
def test_velocity_columns_are_angstrom_per_fs(tmp_path: Path, name: str) -> None:
    v = 0.01 * np.random.default_rng(0).standard_normal((1, 9, 3))
    path = write_frames(tmp_path / "a.xyz", ETHANOL.positions[None], **{name: v})
    np.testing.assert_allclose(read_start(path).velocities, v, atol=1e-8)


def test_momenta_are_in_the_units_of_ase(tmp_path: Path) -> None:
    atoms = ETHANOL.copy()
    atoms.set_velocities(np.full((9, 3), 0.01 / ase.units.fs))
    ase.io.write(tmp_path / "a.xyz", atoms)
    np.testing.assert_allclose(read_start(tmp_path / "a.xyz").velocities, 0.01, rtol=1e-5)


def test_labels_times_and_thermostat(tmp_path: Path) -> None:
    frames = []
    for k in range(3):
        atoms = ETHANOL.copy()
        atoms.info.update(time_fs=0.5 * k, xi_per_fs=0.01 * k)
        forces = np.full((9, 3), 0.1 * k)
        atoms.calc = SinglePointCalculator(atoms, energy=-100.0 - k, forces=forces)
        frames.append(atoms)
    ase.io.write(tmp_path / "a.xyz", frames)
    read = read_frames(tmp_path / "a.xyz")
    assert read.times_fs.tolist() == [0.0, 0.5, 1.0]
    assert read.energies.tolist() == [-100.0, -101.0, -102.0]
    np.testing.assert_allclose(read.forces[:, 0, 0], [0.0, 0.1, 0.2])
    np.testing.assert_allclose(read.thermostat, [0.0, 0.01, 0.02])
    assert read_start(tmp_path / "a.xyz", frame=1).thermostat.tolist() == [[0.01]]


@pytest.mark.parametrize(
    "comment", ["", "energy -154.1 eV", "i = 0, time = 0.5, E = -97.4", "a 'b"]
)
def test_any_comment_of_a_plain_file(tmp_path: Path, comment: str) -> None:
    frames = read_frames(write(tmp_path / "a.xyz", WATER.format(comment=comment)))
    assert frames.numbers.tolist() == [8, 1, 1]
    assert frames.energies is None


def test_blank_lines_between_frames_do_not_end_the_file(tmp_path: Path) -> None:
    frame = WATER.format(comment="")
    assert read_frames(write(tmp_path / "a.xyz", f"\n{frame}\n\n{frame}\n")).n_frames == 2


def test_a_cell_alone_is_not_periodic(tmp_path: Path) -> None:
    comment = 'Lattice="50 0 0 0 50 0 0 0 50" pbc="F F F"'
    assert read_frames(write(tmp_path / "a.xyz", WATER.format(comment=comment))).n_frames == 1
    unit_cube = "CRYST1    1.000    1.000    1.000  90.00  90.00  90.00 P 1           1\n"
    text = unit_cube + PDB_ATOM.format("O", 0.0) + "END\n"
    assert read_frames(write(tmp_path / "a.pdb", text)).n_frames == 1


@pytest.mark.parametrize("end", ["ENDMDL\n", "END\n"])
def test_models_of_a_pdb_file(tmp_path: Path, end: str) -> None:
    models = [f"MODEL     {k}\n{PDB_ATOM.format('O', 0.1 * k)}{end}" for k in range(3)]
    frames = read_frames(write(tmp_path / "a.pdb", "".join(models) + "END\n"))
    np.testing.assert_allclose(frames.positions[:, 0, 2], [0.0, 0.1, 0.2])


# ---- which frame, and what comes before it


def test_the_last_frame_unless_another_is_asked_for(tmp_path: Path) -> None:
    x = moving_frames(5, 1.0)
    path = write_frames(tmp_path / "a.xyz", x)
    for frame, expected in ((None, 4), (0, 0), (3, 3), (-1, 4), (-5, 0)):
        np.testing.assert_allclose(read_start(path, frame).positions[0], x[expected], atol=1e-8)
    for frame in (5, -6):
        with pytest.raises(InputError, match=f"no frame {frame}; the file holds 5 frames, 0 to 4"):
            read_start(path, frame)


def test_velocities_from_the_frames_before(tmp_path: Path) -> None:
    x = moving_frames(8, 0.5)
    path = write_frames(tmp_path / "a.xyz", x)
    assert read_start(path).velocities is None
    state = read_start(path, history_interval_fs=0.5)
    np.testing.assert_allclose(
        state.velocities[0], backward_velocity(x[7], x[6], x[5], 0.5), atol=1e-7
    )
    assert state.previous_velocities is None
    two = read_start(path, frame=1, history_interval_fs=0.5, lag_fs=0.5)
    np.testing.assert_allclose(two.velocities[0], (x[1] - x[0]) / 0.5, atol=1e-7)
    assert two.previous_velocities is None


@pytest.mark.parametrize(
    ("frame", "lag_fs", "known"),
    [(7, 2.5, True), (7, 3.0, False), (4, 1.0, True), (3, 1.0, False), (7, 0.7, False)],
)
def test_acceleration_needs_a_history_as_long_as_the_lag(
    tmp_path: Path, frame: int, lag_fs: float, known: bool
) -> None:
    x = moving_frames(8, 0.5)
    path = write_frames(tmp_path / "a.xyz", x)
    state = read_start(path, frame, history_interval_fs=0.5, lag_fs=lag_fs)
    assert (state.previous_velocities is not None) == known
    if known:
        a = (x[2] - 2 * x[1] + x[0]) / 0.25
        assert state.previous_interval_fs == lag_fs
        np.testing.assert_allclose(state.accelerations[0], a, atol=1e-6)


def test_velocities_of_the_file_come_first(tmp_path: Path) -> None:
    v = 0.01 * np.random.default_rng(1).standard_normal((4, 9, 3))
    path = write_frames(tmp_path / "a.xyz", moving_frames(4, 5.0), velocities=v)
    state = read_start(path, history_interval_fs=5.0, lag_fs=10.0)
    np.testing.assert_allclose(state.velocities[0], v[3], atol=1e-8)
    np.testing.assert_allclose(state.previous_velocities[0], v[1], atol=1e-8)
    assert read_start(path, lag_fs=10.0).previous_velocities is None


def test_times_of_the_file_place_frames_with_velocities(tmp_path: Path) -> None:
    v = 0.01 * np.random.default_rng(1).standard_normal((4, 9, 3))
    times = np.array([100.0, 105.0, 110.0, 115.0])
    path = write_frames(tmp_path / "a.xyz", moving_frames(4, 5.0), velocities=v, time_fs=times)
    state = read_start(path, lag_fs=10.0)
    np.testing.assert_allclose(state.previous_velocities[0], v[1], atol=1e-8)
    bare = write_frames(tmp_path / "b.xyz", moving_frames(4, 5.0), time_fs=times)
    assert read_start(bare, lag_fs=5.0).velocities is None


@pytest.mark.parametrize("interval", [0.0, -1.0, float("nan"), float("inf")])
def test_history_interval_must_be_positive(tmp_path: Path, interval: float) -> None:
    path = write_frames(tmp_path / "a.xyz", moving_frames(4, 0.5))
    with pytest.raises(InputError, match="history interval must be > 0"):
        read_start(path, history_interval_fs=interval)


def test_history_without_frames(tmp_path: Path) -> None:
    path = write_frames(tmp_path / "a.xyz", moving_frames(4, 0.5))
    with pytest.raises(InputError, match="frame 0 has no frames before it"):
        read_start(path, frame=0, history_interval_fs=0.5)


def test_velocities_in_another_unit(tmp_path: Path) -> None:
    v = np.full((1, 9, 3), 10.0)  # Å/ps, say
    path = write_frames(tmp_path / "a.xyz", ETHANOL.positions[None], vel=v)
    with pytest.raises(InputError, match="more than 100000 K"):
        read_start(path)
    shuffled = ETHANOL.positions + np.random.default_rng(0).standard_normal((3, 9, 3))
    path = write_frames(tmp_path / "b.xyz", shuffled)
    with pytest.raises(InputError, match="not consecutive"):
        read_start(path, history_interval_fs=0.5)


# ---- bad input

GOOD = WATER.format(comment="")
VELOCITIES = 'Properties=species:S:1:pos:R:3:vel:R:3 pbc="F F F"'


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.xyz", "", "is empty"),
        ("a.xyz", " \n\n", "is empty"),
        ("a.pdb", "", "is empty"),
        ("a.xyz", "hello world\n", "expected a number of atoms but found 'hello world'"),
        ("a.xyz", "0\n\n", "expected a number of atoms"),
        ("a.xyz", "-3\n\n", "expected a number of atoms"),
        ("a.xyz", "\x00\x01\xff", "expected a number of atoms"),
        ("a.pdb", "hello world\n", "no atoms found"),
        ("a.docx", GOOD, "unknown kind of file"),
        ("a.xyz", GOOD.replace("O 0.0", "O x"), "not a structure that can be read"),
        ("a.xyz", GOOD.replace("H 0.0", "H1 0.0"), "'H1' is no element"),
        ("a.xyz", GOOD.replace("H 0.0", "X 0.0"), r"atom 1 \(from 0\) is of no known element"),
        # truncated
        ("a.xyz", GOOD + "".join(GOOD.splitlines(True)[:3]), r"frame 1 \(line 6\) is truncated"),
        ("a.xyz", "3\n", "frame 0 .line 1. is truncated: 3 atoms announced, 0 lines found"),
        ("a.xyz", GOOD[:-10], "is truncated"),
        ("a.xyz", GOOD[:-3], "is truncated"),
        ("a.pdb", PDB_ATOM.format("O", 0.0)[:50], "is truncated"),
        ("a.pdb", "MODEL     1\n" + PDB_ATOM.format("O", 0.0), "does not end in ENDMDL"),
        # geometry
        ("a.xyz", GOOD.replace("0.119", "nan"), r"coordinates of atom 0 \(from 0\) are not finite"),
        ("a.xyz", GOOD + GOOD.replace("0.119", "inf"), "frame 1: the coordinates of atom 0"),
        ("a.xyz", GOOD.replace("-0.763", "0.5"), "atoms 1 and 2 .from 0. are 0.263 Å apart"),
        # periodic
        ("a.xyz", WATER.format(comment='Lattice="9 0 0 0 9 0 0 0 9"'), "only molecules"),
        ("a.xyz", WATER.format(comment='pbc="F F T"'), "only molecules"),
        (
            "a.pdb",
            "CRYST1   20.000   20.000   20.000  90.00  90.00  90.00 P 1\n"
            + PDB_ATOM.format("O", 0.0),
            "only molecules",
        ),
        # frames that differ
        ("a.xyz", GOOD + "1\n\nO 0 0 0\n", "frame 1 has 1 atoms but frame 0 has 3"),
        (
            "a.xyz",
            GOOD + "3\n\nH 0 0.763 0\nO 0 0 0\nH 0 -0.763 0\n",
            "frame 1: atom 0 .from 0. is H but in frame 0 it is O",
        ),
        (
            "a.xyz",
            GOOD + f"3\n{VELOCITIES}\nO 0 0 0 0 0 0\nH 0 0.8 0 0 0 0\nH 0 -0.8 0 0 0 0\n",
            "frame 0 has no velocities but others have",
        ),
        (
            "a.xyz",
            f"3\n{VELOCITIES}\nO 0 0 0 0 0 nan\nH 0 0.8 0 0 0 0\nH 0 -0.8 0 0 0 0\n",
            "a.xyz: velocities holds a value that is not finite",
        ),
    ],
)
def test_bad_files(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=message) as caught:
        read_start(path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_start(tmp_path / "a.xyz")
    with pytest.raises(InputError, match="no such file"):
        read_start(tmp_path / "a.docx")
    (tmp_path / "folder.xyz").mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        read_start(tmp_path / "folder.xyz")


@pytest.mark.parametrize("cut", range(1, 230, 7))
def test_an_own_file_cut_anywhere_is_refused(tmp_path: Path, cut: int) -> None:
    """With a fixed number of decimals even an end within the last number is noticed."""
    v = 0.01 * np.random.default_rng(1).standard_normal((2, 9, 3))
    path = write_frames(tmp_path / "a.xyz", moving_frames(2, 5.0), velocities=v)
    path.write_bytes(path.read_bytes()[: -cut - 1])
    with pytest.raises(InputError, match="truncated"):
        read_frames(path)


def test_last_line_without_a_line_break_is_fine(tmp_path: Path) -> None:
    assert read_frames(write(tmp_path / "a.xyz", GOOD.rstrip("\n"))).n_frames == 1
    hand_written = "2\n\nH 0.0 0.0 0.74\nH 0 0 0"
    assert read_frames(write(tmp_path / "b.xyz", hand_written)).n_frames == 1


@pytest.mark.data
def test_3bpa() -> None:
    frames = read_frames(Path(os.environ["TRAJGEN_DATA"], "3bpa", "train_300K.xyz"))
    assert frames.positions.shape == (500, 27, 3)
    assert frames.forces is not None
    assert frames.energies.mean() == pytest.approx(-17660.0, abs=5.0)
    assert masses(frames.numbers).sum() == pytest.approx(200.24, abs=0.01)  # C12H12N2O
