"""Which frames train, validate and test; warnings; batches that repeat after a resume."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from forcefield.labelled import (
    DataConfig,
    FrameBatches,
    as_graphs,
    dense_batch,
    load_labelled,
    load_more,
    paddings,
    split_of,
)
from forcefield.training import molecules_of
from shared.data.extxyz import LabelledFrames
from shared.errors import InputError
from shared.units import KCAL_PER_MOL_IN_EV
from tests.isomers import write_isomers

HARTREE_PER_BOHR = 51.422  # eV/Å
WATER = np.array([8, 1, 1])


def made_up(count: int, numbers: np.ndarray = WATER) -> LabelledFrames:
    rng = np.random.default_rng(0)
    shape = (count, len(numbers), 3)
    energies = -100.0 + np.arange(count)
    return LabelledFrames(
        "made up", Path("made_up.xyz"), numbers, rng.normal(size=shape), energies, np.ones(shape)
    )


def write(path: Path, count: int, force: float = 0.5, energy: str = "energy") -> str:
    head = f"3\nProperties=species:S:1:pos:R:3:forces:R:3 {energy}="
    rows = "".join(f"{s} {k} 0.0 0.1 {force} 0.0 0.0\n" for k, s in enumerate("OHH"))
    path.write_text("".join(f"{head}{k}\n{rows}" for k in range(count)), encoding="utf-8")
    return str(path)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRAJGEN_DATA", str(tmp_path))
    for folder in ("3bpa", "rmd17", "md17s", "md17"):
        (tmp_path / folder).mkdir()
    return tmp_path


def test_isomers_are_whole_on_one_side(root: Path) -> None:
    names = write_isomers(root)
    data = DataConfig(source="isomers", train=7, validation=3)
    parts = {part: load_labelled(data, part) for part in ("train", "validation", "test")}
    found = {part: [f.name for f in frames] for part, frames in parts.items()}
    assert found == {"train": names[:2], "validation": names[6:1:-1], "test": names[:6:-1]}
    assert [len(frames[0]) for frames in parts.values()] == [7, 3, 1000]
    assert "five isomers that move most test" in split_of(data)[1]


def test_three_bpa_is_split_once_and_for_all(root: Path) -> None:
    write(root / "3bpa" / "train_300K.xyz", 100)
    for temperature in (300, 600, 1200):
        write(root / "3bpa" / f"mixedT_{temperature}K_dev.xyz", 2)
    data = DataConfig(validation=10)
    (train,), (validation,) = load_labelled(data, "train"), load_labelled(data, "validation")
    assert (len(train), len(validation)) == (90, 10)
    assert not set(train.energies) & set(validation.energies)
    assert load_labelled(data, "validation")[0].energies.tolist() == validation.energies.tolist()
    (fewer,) = load_labelled(replace(data, train=20), "train")
    assert set(fewer.energies) <= set(train.energies)
    assert len(fewer) == 20
    names = [frames.name for frames in load_labelled(data, "test")]
    assert names == ["mixedT_300K_dev", "mixedT_600K_dev", "mixedT_1200K_dev"]


def write_rmd17(root: Path, numbers: np.ndarray) -> None:
    shape = (len(numbers), 3, 3)
    np.savez(
        root / "rmd17" / "rmd17_ethanol.npz",
        z=WATER,
        R=np.broadcast_to(numbers[:, None, None], shape).astype(float),
        E=1.0 * numbers,
        F=np.full(shape, 2.0),
        old_indices=numbers,
        old_E=3.0 * numbers,
        old_F=np.full(shape, 4.0),
    )


def test_blocks_of_rmd17_keep_their_distance(root: Path) -> None:
    """Parts are disjoint, no frame is near one of another part, and order on disk is no matter."""
    rng = np.random.default_rng(0)
    write_rmd17(root, rng.permutation(np.sort(rng.choice(100_000, 5000, replace=False))))
    data = DataConfig(source="rmd17", molecules=["ethanol"], validation=None, margin=200)
    parts = {part: load_labelled(data, part)[0] for part in ("train", "validation", "test")}
    frames = {part: found.positions[:, 0, 0] for part, found in parts.items()}
    assert [len(frames[part]) for part in frames] == pytest.approx([3000, 1000, 1000], rel=0.15)
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        gaps = np.abs(frames[one][:, None] - frames[other])
        assert gaps.min() > 200
    assert frames["train"].max() > 85_000 * 0.9
    few = load_labelled(replace(data, train=50), "train")[0]
    assert set(few.positions[:, 0, 0]) <= set(frames["train"])
    assert len(few) == 50


def test_rmd17_without_blocks_is_cut_by_frame_number(root: Path) -> None:
    write_rmd17(root, np.random.default_rng(0).permutation(np.arange(0, 50_000, 10)))
    data = DataConfig(
        source="rmd17",
        molecules=["ethanol"],
        validation=None,
        blocks=None,
        train_range=(1000, 20000),
    )
    parts = ("train", "validation", "test")
    frames = [load_labelled(data, part)[0].positions[:, 0, 0] for part in parts]
    assert [(f.min(), f.max()) for f in frames] == [(1000, 19990), (20000, 29990), (30000, 49990)]
    keys, words = split_of(data)
    assert keys["train_range"] == (1000, 20000)
    assert "those from 30000 on test" in words
    assert words.endswith("Labels are the revised ones.")


def test_labels_of_rmd17(root: Path) -> None:
    write_rmd17(root, np.arange(0, 5000, 10))
    data = DataConfig(source="rmd17", molecules=["ethanol"], margin=0)
    revised, original = (
        load_labelled(replace(data, labels=labels), "train")[0]
        for labels in ("revised", "original")
    )
    assert revised.forces == pytest.approx(2.0 * KCAL_PER_MOL_IN_EV)
    assert original.forces == pytest.approx(4.0 * KCAL_PER_MOL_IN_EV)
    assert original.energies == pytest.approx(3.0 * revised.energies)


def test_surrogate_labels_by_frame_number(root: Path) -> None:
    labels = np.array([0, 5, 9, 12, 19, 25])
    np.savez(
        root / "md17s" / "md17s_ethanol.npz",
        R=np.broadcast_to(np.arange(40.0)[:, None, None], (40, 3, 3)),
        z=WATER,
        E=np.arange(40.0),
        F_label=np.broadcast_to(labels[:, None, None], (6, 3, 3)),
        label_frames=labels,
    )
    data = DataConfig(
        source="md17s",
        molecules=["ethanol"],
        train_range=(0, 10),
        validation_range=(10, 20),
        validation=None,
    )
    found = {part: load_labelled(data, part)[0] for part in ("train", "validation", "test")}
    expected = {"train": [0, 5, 9], "validation": [12, 19], "test": [25]}
    for part, frames in found.items():
        assert frames.positions[:, 0, 0].tolist() == expected[part]
        for values in (frames.energies, frames.forces[:, 0, 0]):
            assert values == pytest.approx(np.array(expected[part]) * KCAL_PER_MOL_IN_EV)


def test_files_with_their_own_validation(tmp_path: Path) -> None:
    data = DataConfig(
        source="extxyz",
        molecules=[write(tmp_path / "a.xyz", 8)],
        validation_files=[write(tmp_path / "b.xyz", 3)],
    )
    assert len(load_labelled(data, "train")[0]) == 8
    (validation,) = load_labelled(data, "validation")
    assert (validation.name, len(validation)) == ("b", 3)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"source": "md18"}, "no data.source md18; there are 3bpa, rmd17"),
        ({"source": "rmd17", "molecules": []}, "data.molecules is empty"),
        ({"energy_key": "E_dft"}, "frame 0 has no E_dft; it has energy, forces"),
        ({"train": -5}, "data.train must be >= 1, got -5"),
        ({"blocks": 0}, "data.blocks must be >= 1, got 0"),
        ({"molecules": ["nowhere.xyz"]}, "no such file"),
        (
            {"source": "md17s", "train_range": (0, 30), "validation_range": (20, 40)},
            "share frames 20 to 30",
        ),
    ],
)
def test_bad_input(changes: dict, says: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.xyz", 8)
    with pytest.raises(InputError, match=says):
        load_labelled(DataConfig(**{"source": "extxyz", "molecules": [path], **changes}), "train")


def test_a_label_that_is_a_word(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "a.xyz", 8))
    path.write_text(path.read_text().replace(" energy=", " config_type=random energy="))
    data = DataConfig(source="extxyz", molecules=[str(path)], energy_key="config_type")
    with pytest.raises(InputError, match="frame 0: config_type is no number: 'random'"):
        load_labelled(data, "train")


def test_molecules_of_one_name_are_told_apart(tmp_path: Path) -> None:
    water, peroxide = made_up(2), made_up(2, np.array([8, 8, 1, 1]))
    found = molecules_of("extxyz", [replace(f, name="a") for f in (water, water, peroxide)])
    assert {name: entry["atoms"] for name, entry in found.items()} == {"a": 3, "a-2": 4}


def write_molecules(path: Path, counts: dict[str, int]) -> DataConfig:
    """One file of diatomic molecules, so many frames of each."""
    rows = "{0[0]} 0 0 0 0 0 0.5\n{0[1]} 0 0 1 0 0 -0.5\n"
    head = "2\nProperties=species:S:1:pos:R:3:forces:R:3 energy=1\n"
    text = "".join((head + rows.format(pair)) * count for pair, count in counts.items())
    path.write_text(text, encoding="utf-8")
    return DataConfig(source="extxyz", molecules=[str(path)])


def test_no_molecule_is_held_out_altogether(tmp_path: Path) -> None:
    """A fifth of each at most, whatever data.validation asks for."""
    data = write_molecules(tmp_path / "a.xyz", {"HO": 30, "HC": 8, "HN": 2})
    for wanted, expected in ((4, [4, 1]), (10, [6, 1]), (50, [6, 1]), (None, [3])):
        chosen = replace(data, validation=wanted)
        train, validation = (load_labelled(chosen, part) for part in ("train", "validation"))
        assert [len(frames) for frames in validation] == expected
        assert len(train) == 3
        assert sum(len(frames) for frames in train) == 40 - sum(expected)


def test_molecules_of_one_frame_train_and_ask_for_files_to_validate_on(tmp_path: Path) -> None:
    data = write_molecules(tmp_path / "a.xyz", {"HO": 1, "HC": 1, "HN": 1})
    assert [len(frames) for frames in load_labelled(data, "train")] == [1, 1, 1]
    with pytest.raises(InputError, match=r"none of 3 molecules .* data\.validation_files"):
        load_labelled(data, "validation")


def write_vibrations(path: Path, unit: float, spread: float = 0.03) -> DataConfig:
    """Two water molecules, as files have it, with springs of 20 eV/Å² between bonded atoms."""
    rng = np.random.default_rng(0)
    still = np.array([[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]])
    text = ""
    for name in ("OHH", "HOH"):
        for _ in range(10):
            x = still + spread * rng.normal(size=still.shape)
            forces = 20.0 / unit * (still - x)
            text += "3\nProperties=species:S:1:pos:R:3:forces:R:3 energy=1\n"
            for symbol, row in zip(name, np.hstack([x, forces]), strict=True):
                text += f"{symbol} {' '.join(f'{v:.8f}' for v in row)}\n"
    path.write_text(text, encoding="utf-8")
    return DataConfig(source="extxyz", molecules=[str(path)], validation=2)


@pytest.mark.parametrize("unit", [KCAL_PER_MOL_IN_EV, HARTREE_PER_BOHR], ids=["kcal", "hartree"])
def test_absurd_forces_bring_one_warning_for_a_file(tmp_path: Path, unit: float) -> None:
    data = write_vibrations(tmp_path / "a.xyz", unit)
    with pytest.warns(UserWarning, match=r"a\.xyz: force components have an rms .* eV/Å") as found:
        load_labelled(data, "train")
    assert len(found) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_labelled(data, "validation")  # of the same file


def test_energies_of_mixed_units_bring_a_warning(tmp_path: Path) -> None:
    data = write_vibrations(tmp_path / "a.xyz", 1.0)
    text = (
        (tmp_path / "a.xyz").read_text(encoding="utf-8").replace("energy=1\n", "energy=-2000\n", 3)
    )
    (tmp_path / "a.xyz").write_text(text, encoding="utf-8")
    with pytest.warns(UserWarning, match=r"a\.xyz: energies of .* differ by 2001 eV"):
        load_labelled(data, "train")


@pytest.mark.parametrize("spread", [0.03, 0.002], ids=["hot", "relaxed"])
def test_sound_forces_bring_none(tmp_path: Path, spread: float) -> None:
    """Relaxed geometries have small forces, and bonds that do not vibrate."""
    data = write_vibrations(tmp_path / "a.xyz", 1.0, spread)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = load_labelled(data, "train")
    assert all(np.isfinite(frames.forces).all() and len(frames) for frames in found)
    assert found


def test_labels_of_an_xtb_file_have_the_names_it_gives_them(tmp_path: Path) -> None:
    path = write(tmp_path / "a.xyz", 8, energy="E_dft")
    data = DataConfig(source="xtb", molecules=[path], train_range=(0, 6), validation_range=(6, 8))
    with pytest.raises(InputError, match="frame 0 has no energy; it has E_dft, forces"):
        load_labelled(data, "train")
    data = replace(data, energy_key="E_dft")
    found = [load_labelled(data, part)[0].energies.tolist() for part in ("train", "validation")]
    assert found == [[0, 1, 2, 3, 4, 5], [6, 7]]


@pytest.mark.reference("tblite")
def test_an_xtb_folder_is_read_with_its_labels(tmp_path: Path) -> None:
    from shared.data.gfn2 import WATER as START
    from shared.data.gfn2 import XTBSettings
    from shared.data.xtb import make_trajectory, read_xtb

    settings = XTBSettings(ensemble="bussi", equilibration_ps=0.01, relaxation_fs=50.0)
    folder = make_trajectory(tmp_path / "water", *START, settings, 8)
    data = DataConfig(
        source="xtb", molecules=[str(folder)], train_range=(0, 6), validation_range=(6, 8)
    )
    (train,), (validation,) = load_labelled(data, "train"), load_labelled(data, "validation")
    made = read_xtb(folder)
    assert made.energies is not None
    assert made.forces is not None
    assert (train.name, len(train), len(validation)) == ("water", 6, 2)
    assert train.energies.tolist() == made.energies[:6].tolist()
    np.testing.assert_allclose(validation.forces, made.forces[6:])
    np.testing.assert_allclose(validation.positions, made.positions[6:])


def test_batches_are_padded_and_lose_nothing() -> None:
    small, large = made_up(2), made_up(1, np.array([6, 1, 1, 1, 1]))
    graphs = as_graphs([small, large], [1, 6, 8], [-1.0, -10.0, -20.0])
    batch = dense_batch(graphs, 5, torch.float32)
    assert batch["atoms"].sum(1).tolist() == [3, 3, 5]
    assert batch["types"].tolist()[0][:3] == [2, 0, 0]
    assert (batch["positions"].dtype, batch["energies"].dtype) == (torch.float32, torch.float64)
    # Energies lose those of the isolated atoms: −100 + 22 and −100 + 14.
    assert batch["energies"].tolist() == [-78.0, -77.0, -86.0]
    assert batch["forces"][0].tolist() == [[1.0] * 3] * 3 + [[0.0] * 3] * 2


def test_every_pass_sees_every_frame_once_in_a_new_order() -> None:
    graphs = as_graphs([made_up(10)], [1, 8], [0.0, 0.0])

    def order(batches: FrameBatches, steps: range) -> list[float]:
        return [e for k in steps for e in batches[k]["energies"].tolist()]

    def fresh() -> FrameBatches:
        return FrameBatches(graphs, 4, torch.float64, seed=3)

    seen = order(fresh(), range(5))
    assert sorted(seen[:10]) == sorted(seen[10:]) == [-100.0 + k for k in range(10)]
    assert seen[:10] != seen[10:]
    assert order(fresh(), range(3, 5)) == seen[12:]


def test_molecules_of_like_size_are_padded_together() -> None:
    assert paddings([21, 9, 18, 16, 15, 12], 1) == [21]
    assert paddings([21, 9, 18, 16, 15, 12], 3) == [12, 16, 21]
    assert paddings([9, 9, 21], 5) == [9, 21]
    kinds = [made_up(40), made_up(20, np.array([8, 1, 1, 1, 1]))]
    graphs = as_graphs(kinds, [1, 8], [0.0, 0.0])
    batches = FrameBatches(graphs, 4, torch.float64, seed=3, groups=2)
    assert batches.paddings == [3, 5]
    seen = [batches[k] for k in range(30)]  # two rounds of 10 + 5 batches
    sizes = [batch["atoms"].shape[1] for batch in seen]
    assert all(batch["atoms"].all() for batch in seen)  # nothing is padded
    assert sizes.count(5) == 10
    assert sizes[:15].count(5) == 5
    small = [e for b in seen if b["atoms"].shape[1] == 3 for e in b["energies"].tolist()]
    assert sorted(small[:40]) == sorted(small[40:]) == [-100.0 + k for k in range(40)]
    again = FrameBatches(graphs, 4, torch.float64, seed=3, groups=2)
    assert again[17]["energies"].tolist() == seen[17]["energies"].tolist()


def test_an_element_that_is_not_known() -> None:
    with pytest.raises(InputError, match="the element O is not known to the model; it knows H, C"):
        as_graphs([made_up(1)], [1, 6], [0.0, 0.0])


def test_further_files_train_beside_the_data_set(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.xyz", 20), write(tmp_path / "b.extxyz", 7)
    data = DataConfig(source="extxyz", molecules=[first], validation=4)
    more = replace(data, more=[str(tmp_path / "*.extxyz")])
    assert [len(f) for f in load_labelled(more, "train")] == [16]
    assert [len(f) for f in load_more(more)] == [7]
    assert [len(f) for f in load_more(replace(more, more=[second, *more.more]))] == [7]
    with pytest.raises(InputError, match=r"data\.more: .*none\.xyz: no such file"):
        load_more(replace(data, more=[str(tmp_path / "none.xyz"), second]))


def test_a_molecule_that_is_named_twice_trains_twice_and_validates_once(root: Path) -> None:
    write_rmd17(root, np.arange(0, 50_000, 10))
    data = DataConfig(source="rmd17", molecules=["ethanol", "ethanol"])
    assert [len(load_labelled(data, part)) for part in ("train", "validation")] == [2, 1]
