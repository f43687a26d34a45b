"""Released checkpoints: a folder of weights.safetensors, config.json and README.md (model card).

Everything a checkpoint says about itself is plain JSON, and its weights are safetensors: nothing is
ever unpickled, since a pickle runs the code it carries. `load` reads and checks the JSON alone, so
that a command line can say what is wrong before torch is imported; `Checkpoint.load_weights` then
fills a module. The checkpoints that ship with a head lie in `<head>/checkpoints/<name>/` and are
found there by name.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

FORMAT_VERSION = 1
WEIGHTS, CONFIG, CARD = "weights.safetensors", "config.json", "README.md"
UNITS = {"length": "Å", "energy": "eV", "time": "fs", "mass": "amu", "temperature": "K"}

_PICKLE_SUFFIXES = {".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin"}
_PICKLE_MAGIC = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")
# Annotation of a field of `CheckpointConfig` -> what JSON may hold there, and that in words.
_JSON_TYPES: dict[Any, tuple[Any, str]] = {
    str: (str, "text"),
    int: (int, "an integer"),
    float | None: ((float, int, type(None)), "a number or null"),
    list[int]: (list, "a list"),
    dict[str, str]: (dict, "an object"),
    dict[str, Any]: (dict, "an object"),
}


@dataclass(frozen=True)
class CheckpointConfig:
    """What config.json says. Units are those of `UNITS`; a file in others is refused.

    Attributes:
        head: package the checkpoint belongs to, "trajgen" or "forcefield".
        name: the checkpoint's own name.
        kind: which model or propagator of the head; the head's registry knows it.
        model: keyword arguments of the model's constructor.
        elements: atomic numbers it was trained on.
        molecules: name -> what the head needs to recognise that molecule; empty if any will do.
        normalisation: constants of the head that belong to the weights.
        temperature_K: of the training data, or None where it has no single one.
        temperature_convention: degrees of freedom that it counts: "3N", all, as in MD17; "3N-3",
            without momentum; "3N-6", those left without rotation, too (3N − 5 if linear).
        defaults: of a roll-out, such as lag_fs, sampler, steps.
        provenance: data, training, versions, dates, licence: free, for readers.
        units: always `UNITS`.
        weights_sha256: of the weights file; `save` fills it.
        format_version: of this layout.
    """

    head: str
    name: str
    kind: str
    model: dict[str, Any]
    elements: list[int]
    molecules: dict[str, Any] = field(default_factory=dict)
    normalisation: dict[str, Any] = field(default_factory=dict)
    temperature_K: float | None = None
    temperature_convention: str = "3N"
    defaults: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=lambda: dict(UNITS))
    weights_sha256: str = ""
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose config has been read and checked, and whose weights are still on disk."""

    folder: Path
    config: CheckpointConfig

    def tensors(self) -> dict[str, "Tensor"]:
        """The weights on the CPU.

        Raises:
            InputError: the file is missing, a pickle, truncated or altered.
        """
        path = self.folder / WEIGHTS
        content = _read(path, self.folder)
        if hashlib.sha256(content).hexdigest() != self.config.weights_sha256:
            raise InputError(
                f"{path}: corrupt, its checksum differs from that in {CONFIG}; fetch it again"
            )
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            return load(content)
        except SafetensorError as error:
            raise InputError(f"{path}: not a readable safetensors file ({error})") from None

    def load_weights(self, module: "nn.Module") -> None:
        """Fill `module`, built from `config.model`, in place; its dtype and device stay.

        Raises:
            InputError: as `tensors`, or names or shapes that do not fit the module (it says which).
        """
        tensors, expected = self.tensors(), module.state_dict()
        problems = [f"{name} is missing" for name in expected if name not in tensors]
        problems += [f"{name} is not part of the model" for name in tensors if name not in expected]
        problems += [
            f"{name} has shape {list(tensors[name].shape)}, the model needs {list(value.shape)}"
            for name, value in expected.items()
            if name in tensors and tensors[name].shape != value.shape
        ]
        if problems:
            more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
            raise InputError(
                f"{self.folder / WEIGHTS}: does not fit the model in {CONFIG}: "
                + "; ".join(problems[:3])
                + more
            )
        module.load_state_dict(tensors)


def save(
    folder: str | Path,
    weights: Mapping[str, "Tensor"],
    config: CheckpointConfig,
    card: str,
    *,
    overwrite: bool = False,
) -> Path:
    """Write a checkpoint under a temporary name, then rename it to `folder`.

    Args:
        folder: where it shall be.
        weights: `module.state_dict()`.
        config: its `weights_sha256` is filled in here.
        card: text of the model card, Markdown.
        overwrite: replace a checkpoint that is there.

    Raises:
        FileExistsError: `folder` exists and `overwrite` is not given, or it holds no checkpoint.
    """
    from safetensors.torch import save as serialise

    folder = Path(folder)
    if folder.exists() and not overwrite:
        raise FileExistsError(f"{folder} exists; overwrite=True replaces it")
    if folder.exists() and any(folder.iterdir()) and not (folder / CONFIG).is_file():
        raise FileExistsError(f"{folder} exists and holds no checkpoint; it is not replaced")
    folder.parent.mkdir(parents=True, exist_ok=True)
    content = serialise({name: value.detach().cpu().clone() for name, value in weights.items()})
    entries = asdict(config) | {"weights_sha256": hashlib.sha256(content).hexdigest()}
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        new, old = Path(scratch, "new"), Path(scratch, "old")
        new.mkdir()
        (new / WEIGHTS).write_bytes(content)
        text = json.dumps(entries, indent=2, ensure_ascii=False)
        (new / CONFIG).write_text(text + "\n", encoding="utf-8")
        (new / CARD).write_text(card, encoding="utf-8")
        if folder.exists():
            os.rename(folder, old)
        try:
            os.rename(new, folder)
        except BaseException:
            if old.exists() and not folder.exists():
                os.rename(old, folder)
            raise
        shutil.rmtree(old, ignore_errors=True)
    return folder


def shipped(head: str) -> dict[str, Path]:
    """Name -> folder of the checkpoints that ship with the package `head`, sorted by name."""
    spec = find_spec(head)
    roots = spec.submodule_search_locations if spec else None
    return {
        config.parent.name: config.parent
        for root in roots or []
        for config in sorted(Path(root, "checkpoints").glob(f"*/{CONFIG}"))
    }


def load(name_or_path: str | Path, head: str) -> Checkpoint:
    """Find and check a checkpoint, by the name of a shipped one or by path; torch stays unloaded.

    Raises:
        InputError: there is none, it is a pickle (refused unopened), its JSON is corrupt or
            incomplete, it has another format version, or it belongs to another head.
    """
    folder = _locate(name_or_path, head)
    path = folder / CONFIG
    content = _read(path, folder)
    try:
        entries = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: corrupt, not valid JSON ({error})") from None
    config = _parse(entries, path)
    if config.head != head:
        raise InputError(f"{folder}: a checkpoint of {config.head}, not of {head}")
    return Checkpoint(folder, config)


def _locate(name_or_path: str | Path, head: str) -> Path:
    known = shipped(head)
    if str(name_or_path) in known:
        return known[str(name_or_path)]
    path = Path(name_or_path)
    if path.suffix.lower() in _PICKLE_SUFFIXES:
        raise InputError(
            f"{path}: refused unopened, files of this kind can run code; "
            f"give a folder with {WEIGHTS} and {CONFIG}"
        )
    if path.is_file() and path.name in (WEIGHTS, CONFIG):
        return path.parent
    if path.is_file():
        _refuse_pickle(path)
        raise InputError(f"{path}: a checkpoint is a folder with {WEIGHTS} and {CONFIG}")
    names = ", ".join(known) or "none"
    if not str(name_or_path):  # as a path it would be the current folder
        raise InputError(f"the checkpoint has no name; shipped ones: {names}")
    if not path.is_dir():
        raise InputError(f"no checkpoint {name_or_path}: not a folder; shipped ones: {names}")
    return path


def _read(path: Path, folder: Path) -> bytes:
    try:
        _refuse_pickle(path)
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{folder}: not a checkpoint, {path.name} is missing") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def _refuse_pickle(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(9)
    # A safetensors header of 640 bytes starts like a pickle; its ninth byte is always "{".
    if start.startswith(_PICKLE_MAGIC) and start[8:] != b"{":
        raise InputError(f"{path}: refused, a pickle or zip archive, which can run code")


def _parse(entries: Any, path: Path) -> CheckpointConfig:
    """Check the entries of config.json against the fields of `CheckpointConfig`."""
    if not isinstance(entries, dict):
        raise InputError(f"{path}: expected a JSON object")
    version = entries.get("format_version")
    if version != FORMAT_VERSION:
        raise InputError(
            f"{path}: checkpoint format {version!r}, this version reads {FORMAT_VERSION}; "
            "use the release that wrote it, or retrain"
        )
    types = {entry.name: entry.type for entry in fields(CheckpointConfig)}
    if missing := [name for name in types if name not in entries]:
        raise InputError(f"{path}: the entry {missing[0]} is missing")
    if unknown := [name for name in entries if name not in types]:
        raise InputError(f"{path}: unknown entry {unknown[0]}")
    for name, kind in types.items():
        accepted, words = _JSON_TYPES[kind]
        if not isinstance(entries[name], accepted):
            raise InputError(f"{path}: {name} must be {words}, got {entries[name]!r:.60}")
    if not all(type(number) is int for number in entries["elements"]):
        raise InputError(f"{path}: elements must be atomic numbers, got {entries['elements']}")
    if entries["elements"] != sorted(set(entries["elements"])):
        raise InputError(f"{path}: elements must ascend, got {entries['elements']}")
    if entries["units"] != UNITS:
        raise InputError(f"{path}: units {entries['units']}, expected {UNITS}")
    return CheckpointConfig(**entries)
