"""Typed YAML configs: dataclasses become a command line, a config file fills it.

Each section of a config is a dataclass of the code that uses it; jsonargparse checks the types. A
key that no section has is refused with the nearest one that there is, because a misspelt key that
is silently ignored means an experiment other than the one described.
"""

import difflib
import json
import operator
from argparse import ArgumentError
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from shared.errors import InputError
from shared.files import replacing

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

RESOLVED, RECORD = "config.yaml", "run.json"
_ORDERS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}


def config_parser(prog: str, description: str, sections: Mapping[str, type]) -> "ArgumentParser":
    """A parser with `--config FILE`, `--print-config` and one `--SECTION.KEY` for each field.

    Args:
        prog: the command, as help shows it.
        description: what it does.
        sections: name -> dataclass whose fields are the keys of that section.
    """
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(
        prog=prog, description=description, exit_on_error=False, print_config="--print-%s"
    )
    parser.add_argument("--config", action="config", help="YAML file; later options override it")
    for name, section in sections.items():
        parser.add_class_arguments(section, name)
    return parser


def parse_config(parser: "ArgumentParser", argv: Sequence[str] | None = None) -> "Namespace":
    """Parse a command line (default: this process's) into a namespace of filled sections.

    Its `arguments` are the command line.

    Raises:
        InputError: a file that is missing or not YAML, an unknown key (the nearest is named), a
            value of the wrong type.
    """
    import sys

    argv = sys.argv[1:] if argv is None else argv
    known = [name for name, _ in parser.get_defaults().items() if name != "config"]
    for path in _config_files(argv):
        _check_keys(_read_yaml(path), known, path)
    try:
        settings = parser.instantiate(parser.parse_args(argv))
    except (ArgumentError, TypeError, ValueError) as error:
        message = " ".join(str(error).split())
        if message.startswith("unrecognized arguments: --"):
            name = message.split("--", 1)[1].split("=")[0].split()[0]
            options = [key if "." in key else key.replace("_", "-") for key in known]  # switches
            message = f"unknown option --{name}, the nearest is --{_nearest(name, options)}"
        raise InputError(message) from None
    settings.arguments = list(argv)  # for the record
    return settings


def check_disjoint(
    train: tuple[int, int], validation: tuple[int, int], name: str, other: str
) -> None:
    """Refuse ranges of frames that share some; `name` and `other` are theirs in the message."""
    first, end = max(train[0], validation[0]), min(train[1], validation[1])
    if first < end:
        raise InputError(f"{name} and {other} share frames {first} to {end}; they must not")


def check_values(config: Any, section: str, *conditions: str) -> None:
    """Refuse a section whose numbers break a condition, such as "steps >= 1".

    Of a list or a mapping every value is checked; null breaks no condition, NaN every one.

    Args:
        config: the dataclass, whose `__post_init__` calls this.
        section: its name in the config.
        conditions: key, one of > >= < <=, and a number, with blanks between.

    Raises:
        InputError: a value breaks one.
    """
    for condition in conditions:
        key, order, bound = condition.split()
        value = getattr(config, key)
        values = value.values() if isinstance(value, Mapping) else value
        for one in values if isinstance(values, Iterable) else [values]:
            if one is not None and not _ORDERS[order](one, float(bound)):
                raise InputError(f"{section}.{key} must be {order} {bound}, got {resolved(value)}")


KEPT = "kept"  # folder of the weights that `run.keep_every` keeps
# What a run folder has beside states.
RUN_FILES = (RESOLVED, RECORD, "logs", "tensorboard", KEPT)


@dataclass(frozen=True)
class TrainingRun:
    """What the sections `run` of both heads have in common; each adds its own.

    Args:
        out: run folder.
        name: of the released checkpoint, a folder in the run folder.
        steps: training steps.
        epoch_steps: steps between validations.
        seed: of weights and examples.
        init: released checkpoint (name or folder) to start from; null: random weights.
        compile: compile the training step; false: plain eager, with the same numbers.
        accelerator: cpu, gpu or auto.
        devices: how many; several train data-parallel.
        nodes: how many.
        keep_every: steps between averaged weights that are kept in the folder `kept`, say for a
            learning curve (of force fields, benchmarks/forcefield.py --rows curve); null: none are.
        max_minutes: stop after the validation that follows; resume goes on. Null: no limit.
        resume: go on from last.ckpt in the run folder, if there is one.
    """

    CONDITIONS: ClassVar[tuple[str, ...]] = (
        "steps >= 1",
        "epoch_steps >= 1",
        "seed >= 0",
        "devices >= 1",
        "nodes >= 1",
        "keep_every >= 1",
        "max_minutes >= 0",
    )

    out: str = "runs/training"
    name: str = "model"
    steps: int = 10_000
    epoch_steps: int = 500
    seed: int = 0
    init: str | None = None
    compile: bool = True
    accelerator: str = "cpu"
    devices: int = 1
    nodes: int = 1
    keep_every: int | None = None
    max_minutes: float | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        check_values(self, "run", *self.CONDITIONS)
        if Path(self.name).name != self.name or self.name in ("", ".", ".."):
            raise InputError(f"run.name: {self.name!r} is no plain name of a folder")
        if self.name in RUN_FILES or self.name.endswith(".ckpt"):
            raise InputError(f"run.name: {self.name} is what the run folder keeps; choose another")


def files_of(patterns: Sequence[str], key: str) -> list[Path]:
    """The files that names or patterns like folder/*.extxyz in a config stand for.

    Raises:
        InputError: a name or pattern that no file has; the message begins with `key`.
    """
    from glob import glob

    found: list[Path] = []
    for pattern in patterns:
        paths = sorted(glob(pattern))
        if not paths:
            raise InputError(f"{key}: {pattern}: no such file")
        found += map(Path, paths)
    return list(dict.fromkeys(found))


def resolved(settings: Any) -> Any:
    """Settings as plain mappings, lists and scalars, for YAML and JSON."""
    if is_dataclass(settings) and not isinstance(settings, type):
        return resolved(asdict(settings))
    if hasattr(settings, "as_dict"):
        told = "config", "arguments"  # how it was said, not what
        settings = {key: value for key, value in vars(settings).items() if key not in told}
    if isinstance(settings, Mapping):
        return {key: resolved(value) for key, value in settings.items()}
    if isinstance(settings, (list, tuple)):
        return [resolved(value) for value in settings]
    return settings if isinstance(settings, (str, int, float, type(None))) else str(settings)


def store_run(folder: str | Path, settings: Any, *, seed: int, data: Iterable[Path] = ()) -> None:
    """Write the resolved config and what else a repetition needs into a run folder.

    `config.yaml` can be given to `--config` again; `run.json` has the seed, the versions, the git
    commit and the checksum of each file in `data`. Both are written under a temporary name and
    renamed.
    """
    import yaml

    from shared.provenance import provenance

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    record = {"seed": seed, **provenance(data)}
    texts = {
        RESOLVED: yaml.safe_dump(resolved(settings), sort_keys=False, allow_unicode=True),
        RECORD: json.dumps(record, indent=2, ensure_ascii=False) + "\n",
    }
    for name, text in texts.items():
        with replacing(folder / name) as part:
            part.write_text(text, encoding="utf-8")


def check_same_run(
    folder: str | Path, settings: Any, *, data: Iterable[Path], free: Collection[str]
) -> None:
    """Refuse to go on with a run of another config or other data than `store_run` wrote down.

    A key that is newer than the stored config had its default there.

    Args:
        folder: the run folder.
        settings: the sections of the config.
        data: the files to be read.
        free: dotted names of what may change: keys or whole sections.

    Raises:
        InputError: something else differs (the first is named), or the record is not readable.
    """
    from shared.provenance import provenance

    folder = Path(folder)
    stored = dict(_mapping(_read_yaml(folder / RESOLVED), folder))
    for name, section in vars(settings).items():
        if is_dataclass(section):
            stored[name] = _with_new_keys(_mapping(stored.get(name, {}), folder), section)
    stored = _flat(stored)
    now = _flat(resolved(settings))
    for name in [*now, *(name for name in stored if name not in now)]:
        if any(f"{name}.".startswith(f"{key}.") for key in free):
            continue
        before, after = stored.get(name), now.get(name)
        if before != after:
            raise InputError(
                f"{folder}: the run to go on with has {name} {before}, the config {after}; "
                "choose another run.out, or the same value"
            )
    checksums = _read_yaml(folder / RECORD).get("files", {})  # JSON is YAML
    found = provenance(data)["files"]
    for path in [*found, *(path for path in checksums if path not in found)]:
        if path not in checksums:
            what = "was not among the data when the run began"
        elif path not in found:
            what = "was among the data when the run began, and is not"
        elif checksums[path] != found[path]:
            what = "has changed since the run began"
        else:
            continue
        raise InputError(f"{folder}: {path} {what}; choose another run.out")


def _mapping(value: Any, folder: Path) -> Mapping[str, Any]:
    """A part of a stored config that has keys; refuses anything else."""
    if not isinstance(value, Mapping):
        raise InputError(f"{folder / RESOLVED}: no config of a training; choose another run.out")
    return value


def _with_new_keys(stored: Mapping[str, Any], section: Any) -> dict[str, Any]:
    """A stored section with the defaults of the keys that it does not have."""
    found = dict(stored)
    for key in fields(section):
        value = getattr(section, key.name)
        if is_dataclass(value):
            below = found.get(key.name, {})
            found[key.name] = _with_new_keys(below, value) if isinstance(below, Mapping) else below
        elif key.name not in found and key.default is not MISSING:
            found[key.name] = resolved(key.default)
        elif key.name not in found and key.default_factory is not MISSING:
            found[key.name] = resolved(key.default_factory())
    return found


def _flat(values: Any, above: str = "") -> dict[str, Any]:
    """Dotted name -> value of nested mappings."""
    if not isinstance(values, Mapping):
        return {above.rstrip("."): values}
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{above}{key}.")
    return found


def _config_files(argv: Sequence[str]) -> list[Path]:
    following = [value for flag, value in pairwise(argv) if flag == "--config"]
    joined = [flag.removeprefix("--config=") for flag in argv if flag.startswith("--config=")]
    return [Path(value) for value in following + joined]


def _read_yaml(path: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such config file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: not a readable YAML file ({error})") from None


def _check_keys(content: Any, known: list[str], path: Path, above: str = "") -> None:
    """Refuse keys of a config file that lead to none of the `known` dotted names."""
    if not isinstance(content, Mapping):
        where = f"{above.rstrip('.')} must be" if above else "expected"
        raise InputError(f"{path}: {where} a mapping of keys to values, got {content!r:.60}")
    for key, value in content.items():
        name = f"{above}{key}"
        if name in known:
            continue
        if not any(other.startswith(f"{name}.") for other in known):
            raise InputError(f"{path}: unknown key {name}, the nearest is {_nearest(name, known)}")
        _check_keys(value, known, path, f"{name}.")


def _nearest(name: str, known: list[str]) -> str:
    sections = {other.rsplit(".", 1)[0] for other in known if "." in other}
    return difflib.get_close_matches(name, [*known, *sections], n=1, cutoff=0.0)[0]
