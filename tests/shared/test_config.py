"""Typed configs: files, overrides, the nearest key, the stored run."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.config import (
    check_same_run,
    check_values,
    config_parser,
    parse_config,
    resolved,
    store_run,
)
from shared.errors import InputError


@dataclass
class Model:
    """A model.

    Args:
        channels: width.
        lags_fs: lags to train on.
        options: anything.
    """

    channels: int = 32
    lags_fs: tuple[float, ...] = (1.0, 5.0)
    options: dict[str, float] | None = None


@dataclass
class Training:
    """Its training.

    Args:
        learning_rate: of Adam.
        schedule: which.
    """

    learning_rate: float = 1e-3
    schedule: str | None = None


def parse(*argv: str) -> Any:
    parser = config_parser("train", "Train.", {"model": Model, "training": Training})
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    return parse_config(parser, argv)


def refusal(*argv: str) -> str:
    with pytest.raises(InputError) as caught:
        parse(*argv)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write(folder: Path, text: str) -> str:
    (folder / "config.yaml").write_text(text)
    return f"--config={folder / 'config.yaml'}"


def test_defaults_file_and_options_in_that_order(tmp_path: Path) -> None:
    assert parse().model == Model()
    text = "seed: 3\nmodel: {channels: 8, lags_fs: [1, 10]}\ntraining: {learning_rate: 1e-4}\n"
    file = write(tmp_path, text)
    settings = parse(file, "--model.channels", "16")
    assert settings.model == Model(channels=16, lags_fs=(1.0, 10.0))
    assert settings.training == Training(learning_rate=1e-4)
    assert settings.seed == 3
    assert parse("--config", file.removeprefix("--config=")).seed == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model: {chanels: 8}", "unknown key model.chanels, the nearest is model.channels"),
        ("modle: {channels: 8}", "unknown key modle, the nearest is model"),
        ("training: {learningrate: 1}", "the nearest is training.learning_rate"),
        ("sede: 1", "the nearest is seed"),
        ("model: 3", "model must be a mapping of keys to values, got 3"),
        ("- 1", "expected a mapping"),
        ("", "expected a mapping"),
        ("model: [", "not a readable YAML file"),
        ("model: {channels: many}", "model.channels"),
        ("model: {channels: 2.5}", "model.channels"),
        ("model: {lags_fs: [a]}", "model.lags_fs"),
    ],
)
def test_a_wrong_file_is_refused_with_the_key(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in refusal(write(tmp_path, text))


def test_a_missing_file_and_a_wrong_option_are_refused(tmp_path: Path) -> None:
    assert "no such config file" in refusal("--config", str(tmp_path / "none.yaml"))
    assert "the nearest is --model.channels" in refusal("--model.chanels=3")
    assert "the nearest is --seed" in refusal("--sed", "3")
    assert "model.channels" in refusal("--model.channels=x")


def test_free_mappings_keep_their_own_keys(tmp_path: Path) -> None:
    assert parse(write(tmp_path, "model: {options: {a: 1}}")).model.options == {"a": 1.0}


def test_print_config_shows_everything_resolved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(write(tmp_path, "model: {channels: 8}"), "--print-config")
    assert caught.value.code == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["model"]["channels"] == 8
    assert shown["training"] == {"learning_rate": 0.001, "schedule": None}


def test_help_has_defaults_and_descriptions(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("--help")
    shown = capsys.readouterr().out
    assert "--print-config" in shown
    assert "width." in shown
    assert "default: 32" in shown


def test_a_stored_run_can_be_repeated(tmp_path: Path) -> None:
    settings = parse(write(tmp_path, "model: {channels: 8}"), "--seed=5")
    data = tmp_path / "data.npz"
    data.write_bytes(b"x")
    store_run(tmp_path / "run", settings, seed=5, data=[data])
    again = parse("--config", str(tmp_path / "run" / "config.yaml"))
    assert resolved(again) == resolved(settings)
    assert again.model == settings.model
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["seed"] == 5
    assert record["versions"]["torch"]
    assert record["files"][str(data)].startswith("sha256:")
    assert "git_commit" in record
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["config.yaml", "run.json"]


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (Model(channels=0), "model.channels must be >= 1, got 0"),
        (Model(lags_fs=(1.0, -5.0)), r"model.lags_fs must be > 0, got \[1.0, -5.0\]"),
        (Model(options={"a": 1.0, "b": float("nan")}), "model.options must be <= 1"),
    ],
)
def test_values_out_of_range(model: Model, says: str) -> None:
    conditions = "channels >= 1", "lags_fs > 0", "options <= 1"
    check_values(Model(), "model", *conditions)
    with pytest.raises(InputError, match=says):
        check_values(model, "model", *conditions)


def test_a_run_is_the_same_or_not(tmp_path: Path) -> None:
    data = tmp_path / "data.xyz"
    data.write_text("1")
    store_run(tmp_path / "run", parse("--model.options", "{a: 1}"), seed=0, data=[data])

    def check(*argv: str, free: tuple[str, ...] = (), files: Sequence[Path] = (data,)) -> None:
        check_same_run(tmp_path / "run", parse(*argv), data=files, free=free)

    same = ("--model.options", "{a: 1.0}")
    check(*same)
    check(*same, "--seed", "1", "--training.schedule", "late", free=("training", "seed"))
    with pytest.raises(InputError, match=r"has training\.schedule None, the config late"):
        check(*same, "--training.schedule", "late", free=("training.sched",))
    with pytest.raises(InputError, match=r"has model\.options\.b None, the config 1"):
        check("--model.options", "{b: 1}")
    stored = tmp_path / "run" / "config.yaml"
    older = yaml.safe_load(stored.read_text())
    del older["model"]["channels"], older["training"]
    stored.write_text(yaml.safe_dump(older))
    check(*same)
    with pytest.raises(InputError, match=r"has model\.channels 32, the config 8"):
        check(*same, "--model.channels", "8")
    for broken in ("", "[1]", "model: 3"):
        stored.write_text(broken)
        with pytest.raises(InputError):
            check(*same)
    stored.write_text(yaml.safe_dump(older))
    data.write_text("2")
    with pytest.raises(InputError, match=r"data\.xyz has changed since the run began"):
        check(*same)
    data.write_text("1")
    with pytest.raises(InputError, match=r"data\.xyz was among the data when the run began, and"):
        check(*same, files=())
    (other := tmp_path / "other.xyz").write_text("1")
    with pytest.raises(InputError, match=r"other\.xyz was not among the data when the run began"):
        check(*same, files=(data, other))
    (tmp_path / "run" / "config.yaml").unlink()
    with pytest.raises(InputError, match="no such config file"):
        check(*same)


def test_every_shipped_config_has_a_run_folder_of_its_own() -> None:
    folder = Path(__file__).parents[2] / "configs"
    found: dict[str, Path] = {}
    for path in sorted([*folder.glob("trajgen/**/*.yaml"), *folder.glob("forcefield/*.yaml")]):
        run = yaml.safe_load(path.read_text(encoding="utf-8")).get("run", {})
        if out := run.get("out"):
            assert out not in found, (path, found[out])
            found[out] = path
    assert len(found) > 20
