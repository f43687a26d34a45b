"""Checkpoints: a round trip, the registry, and one clear line for each way to be broken."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from shared import checkpoint
from shared.checkpoint import CARD, CONFIG, WEIGHTS, CheckpointConfig
from shared.errors import InputError

CONFIG_OF_LINEAR = CheckpointConfig(
    head="trajgen",
    name="tiny",
    kind="linear",
    model={"in_features": 3, "out_features": 2},
    elements=[1, 6, 8],
    molecules={"water": {"numbers": [8, 1, 1]}},
    normalisation={"scale": 0.25},
    temperature_K=500.0,
    defaults={"lag_fs": 5.0, "sampler": "heun", "steps": 3},
    provenance={"data": "none"},
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    weights = torch.nn.Linear(3, 2).state_dict()
    return checkpoint.save(tmp_path / "tiny", weights, CONFIG_OF_LINEAR, "# tiny\n")


def edit(folder: Path, change: Callable[[dict], object]) -> None:
    entries = json.loads((folder / CONFIG).read_text())
    change(entries)
    (folder / CONFIG).write_text(json.dumps(entries))


def refusal(folder: Path | str, head: str = "trajgen") -> str:
    """The message with which loading, weights included, is refused: one line."""
    with pytest.raises(InputError) as caught:
        checkpoint.load(folder, head).load_weights(torch.nn.Linear(3, 2))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_round_trip(folder: Path) -> None:
    loaded = checkpoint.load(folder, "trajgen")
    assert loaded.config.weights_sha256
    assert loaded.config.model == CONFIG_OF_LINEAR.model
    assert loaded.config.molecules == CONFIG_OF_LINEAR.molecules
    assert (folder / CARD).read_text() == "# tiny\n"
    torch.manual_seed(0)
    expected, module = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    loaded.load_weights(module)
    assert torch.equal(module.weight, expected.weight)
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_either_file_of_the_folder_will_do(folder: Path) -> None:
    assert checkpoint.load(folder / CONFIG, "trajgen").folder == folder
    assert checkpoint.load(folder / WEIGHTS, "trajgen").folder == folder


def test_overwriting_is_on_request(folder: Path) -> None:
    weights = torch.nn.Linear(3, 2).state_dict()
    with pytest.raises(FileExistsError):
        checkpoint.save(folder, weights, CONFIG_OF_LINEAR, "new")
    checkpoint.save(folder, weights, CONFIG_OF_LINEAR, "new", overwrite=True)
    assert (folder / CARD).read_text() == "new"
    assert torch.equal(checkpoint.load(folder, "trajgen").tensors()["weight"], weights["weight"])
    assert len(list(folder.parent.iterdir())) == 1


def test_an_interrupted_save_leaves_the_earlier_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, rename = (folder / WEIGHTS).read_bytes(), os.rename

    def interrupted(source: Path, target: Path) -> None:
        if Path(target) == folder and Path(source).name == "new":
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "rename", interrupted)
    weights = torch.nn.Linear(3, 2).state_dict()
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(folder, weights, CONFIG_OF_LINEAR, "new", overwrite=True)
    assert (folder / WEIGHTS).read_bytes() == before
    assert len(list(folder.parent.iterdir())) == 1


def test_a_failed_save_leaves_nothing(tmp_path: Path) -> None:
    config = CheckpointConfig("trajgen", "x", "y", model={"z": object()}, elements=[1])
    with pytest.raises(TypeError):
        checkpoint.save(tmp_path / "x", {}, config, "")
    assert not list(tmp_path.iterdir())


def test_shipped_checkpoints_are_found_by_name(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "some_head"
    (package / "checkpoints").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    folder.rename(package / "checkpoints" / "tiny")
    edit(package / "checkpoints" / "tiny", lambda entries: entries.update(head="some_head"))
    monkeypatch.syspath_prepend(tmp_path)
    assert list(checkpoint.shipped("some_head")) == ["tiny"]
    assert checkpoint.load("tiny", "some_head").config.name == "tiny"
    assert "no checkpoint small" in refusal("small", "some_head")
    assert "tiny" in refusal("small", "some_head")
    assert refusal("", "some_head") == "the checkpoint has no name; shipped ones: tiny"
    assert checkpoint.shipped("no_such_head") == {}


def test_config_is_read_without_torch(folder: Path) -> None:
    code = (
        "import sys; from shared.checkpoint import load; "
        f"load({str(folder)!r}, 'trajgen'); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


class Bomb:
    def __reduce__(self) -> tuple:
        return (pytest.fail, ("a pickle was opened",))


@pytest.mark.parametrize("name", ["model.pt", "model.ckpt", "model.pkl", "model.pth", "model"])
def test_pickles_are_refused_unopened(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(pickle.dumps(Bomb()))
    assert "can run code" in refusal(path)


@pytest.mark.parametrize("file", [WEIGHTS, CONFIG])
def test_pickles_in_a_folder_are_refused_unopened(folder: Path, file: str) -> None:
    torch.save({"weight": torch.ones(1)}, folder / file)
    assert "can run code" in refusal(folder)
    (folder / file).write_bytes(pickle.dumps(Bomb(), protocol=2))
    assert "can run code" in refusal(folder)


def test_a_header_that_looks_like_a_pickle_is_accepted(tmp_path: Path) -> None:
    """A safetensors file starts with the length of its header; 640 = 0x0280 reads \\x80\\x02."""

    def save(name: str) -> bytes:
        weights = {name: torch.ones(1)}
        checkpoint.save(tmp_path / "tiny", weights, CONFIG_OF_LINEAR, "", overwrite=True)
        return (tmp_path / "tiny" / WEIGHTS).read_bytes()

    name = "w" * (641 - int.from_bytes(save("w")[:8], "little"))
    assert save(name).startswith(b"\x80\x02")
    assert torch.equal(checkpoint.load(tmp_path / "tiny", "trajgen").tensors()[name], torch.ones(1))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda e: e.update(format_version=99), "checkpoint format 99, this version reads 1"),
        (lambda e: e.update(format_version="1"), "checkpoint format '1', this version reads 1"),
        (lambda e: e.pop("format_version"), "checkpoint format None"),
        (lambda e: e.pop("elements"), "the entry elements is missing"),
        (lambda e: e.update(colour="red"), "unknown entry colour"),
        (lambda e: e.update(model=3), "model must be an object, got 3"),
        (lambda e: e.update(elements=["H"]), "atomic numbers"),
        (lambda e: e.update(elements=[6, 1, 8]), "elements must ascend"),
        (lambda e: e.update(temperature_K="hot"), "temperature_K must be a number or null"),
        (lambda e: e["units"].update(length="nm"), "units"),
        (lambda e: e.update(head="forcefield"), "of forcefield, not of trajgen"),
        (lambda e: e.update(weights_sha256="0"), "corrupt, its checksum differs"),
    ],
)
def test_a_wrong_config_is_named(
    folder: Path, change: Callable[[dict], object], expected: str
) -> None:
    edit(folder, change)
    assert expected in refusal(folder)


def test_a_folder_of_something_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("years")
    weights = torch.nn.Linear(3, 2).state_dict()
    with pytest.raises(FileExistsError, match="holds no checkpoint; it is not replaced"):
        checkpoint.save(tmp_path / "precious", weights, CONFIG_OF_LINEAR, "", overwrite=True)
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "years"


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"[" * 100_000])
def test_a_corrupt_config_is_refused(folder: Path, content: bytes) -> None:
    (folder / CONFIG).write_bytes(content)
    assert str(folder / CONFIG) in refusal(folder)


def test_truncated_weights_are_refused(folder: Path) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[:-4])
    assert "corrupt" in refusal(folder)


def test_weights_that_never_were_safetensors_are_refused(folder: Path) -> None:
    import hashlib

    (folder / WEIGHTS).write_bytes(b"nonsense")
    digest = hashlib.sha256(b"nonsense").hexdigest()
    edit(folder, lambda entries: entries.update(weights_sha256=digest))
    assert "not a readable safetensors file" in refusal(folder)


@pytest.mark.parametrize("file", [WEIGHTS, CONFIG])
def test_a_missing_file_is_named(folder: Path, file: str) -> None:
    (folder / file).unlink()
    assert refusal(folder) == f"{folder}: not a checkpoint, {file} is missing"


def test_other_paths_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "frame.xyz").write_text("1\n\nH 0 0 0\n")
    assert "a checkpoint is a folder" in refusal(tmp_path / "frame.xyz")
    assert "no checkpoint" in refusal(tmp_path / "nowhere")
    assert "is missing" in refusal(tmp_path)


def test_what_does_not_fit_the_model_is_said(folder: Path) -> None:
    loaded = checkpoint.load(folder, "trajgen")
    with pytest.raises(InputError, match=r"weight has shape \[2, 3\], the model needs \[2, 4\]"):
        loaded.load_weights(torch.nn.Linear(4, 2))
    with pytest.raises(InputError, match="bias is not part of the model"):
        loaded.load_weights(torch.nn.Linear(3, 2, bias=False))
    with pytest.raises(InputError, match=r"0\.weight is missing.*and 1 more"):
        loaded.load_weights(torch.nn.Sequential(torch.nn.Linear(3, 2)))
