"""Which generator for which molecule: recognise the frame, choose a checkpoint, build its model.

A molecule is recognised by the environment classes of its atoms (`shared.topology`), whatever their
order. Beside a shared checkpoint NAME the package may ship NAME-MOLECULE, the same model fine-tuned
for one molecule; it is chosen for that molecule. A frame without a checkpoint gets the one that
was trained on its molecule. Everything but `build` and `load_model` works
without torch, so that a command line can say what is wrong at once.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from shared.checkpoint import Checkpoint, CheckpointConfig, load, shipped
from shared.choice import trained_on
from shared.errors import InputError, some
from shared.topology import CLASS_ROUNDS, find_molecule, known_classes

if TYPE_CHECKING:
    from trajgen.kernel import TransitionKernel

__all__ = [
    "acceleration_interval",
    "build",
    "choose",
    "choose_shipped",
    "load_model",
    "open_checkpoint",
    "recognise",
]


# Asked before the others that ship: of 3BPA the one that keeps its temperature.
_FIRST = ("md17s", "3bpa-300K")


def _is_positive(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < math.inf


# Entry of `defaults` -> whether it must be there, what it may be, and that in words.
_DEFAULTS: dict[str, tuple[bool, Callable[[Any], bool], str]] = {
    "lag_fs": (True, _is_positive, "a positive number"),
    "sampler": (True, lambda value: isinstance(value, str), "text"),
    "steps": (True, lambda value: type(value) is int and value > 0, "a positive integer"),
    "lag_range_fs": (
        False,
        lambda value: isinstance(value, list) and list(map(_is_positive, value)) == [True, True],
        "two positive numbers",
    ),
    "acceleration_interval_fs": (
        False,
        lambda value: value is None or _is_positive(value),
        "a positive number or null",
    ),
    "keep_angular_momentum": (False, lambda value: isinstance(value, bool), "true or false"),
    "class_rounds": (
        False,
        lambda value: type(value) is int and 0 <= value <= CLASS_ROUNDS,
        f"an integer from 0 to {CLASS_ROUNDS}",
    ),
}


def open_checkpoint(name_or_path: str) -> Checkpoint:
    """A checkpoint of this head, its entries checked, its weights still on disk.

    Raises:
        InputError: as `shared.checkpoint.load`, or an entry that a roll-out needs is missing or of
            another type.
    """
    checkpoint = load(name_or_path, "trajgen")
    problems = _problems(checkpoint.config)
    if problems:
        raise InputError(f"{checkpoint.folder}: corrupt, {problems[0]}")
    return checkpoint


def _problems(config: CheckpointConfig) -> list[str]:
    """What is wrong with the entries that a roll-out needs."""
    found = []
    for key, (needed, fits, words) in _DEFAULTS.items():
        if key not in config.defaults:
            found += [f"the entry defaults.{key} is missing"] if needed else []
        elif not fits(value := config.defaults[key]):
            found.append(f"defaults.{key} must be {words}, got {value!r:.60}")
    types = config.model.get("types")
    texts = isinstance(types, list) and all(isinstance(kind, str) for kind in types)
    if "class_rounds" in config.defaults and not (texts and types):
        found.append("model.types must be a list of text")
    for name, molecule in config.molecules.items():
        if not (isinstance(molecule, dict) and "key" in molecule):
            found.append(f"the entry molecules.{name}.key is missing")
        elif not isinstance(key := molecule["key"], str):
            found.append(f"molecules.{name}.key must be text, got {key!r:.60}")
    for key, value in config.normalisation.items():
        numbers = value if isinstance(value, list) else [value]
        if not (numbers and all(map(_is_positive, numbers))):
            found.append(f"normalisation.{key} must be of positive numbers, got {value!r:.60}")
    return found


def choose(
    checkpoint: Checkpoint, numbers: npt.ArrayLike, positions: npt.ArrayLike
) -> tuple[Checkpoint, str]:
    """The checkpoint, or the one that ships beside it for the molecule of a frame, and its name.

    Args:
        checkpoint: one that knows the molecule.
        numbers: atomic numbers [N].
        positions: [N, 3], Å.

    Raises:
        InputError: as `recognise`.
    """
    _, molecule = recognise(checkpoint.config, numbers, positions)
    known = shipped("trajgen")
    special = f"{checkpoint.folder.name}-{molecule}"
    if checkpoint.folder in known.values() and special in known:
        checkpoint = open_checkpoint(special)
        recognise(checkpoint.config, numbers, positions)
    return checkpoint, molecule


def choose_shipped(numbers: npt.ArrayLike, positions: npt.ArrayLike) -> Checkpoint:
    """The shipped checkpoint that was trained on the molecule of a frame; `choose` has those that
    were fine-tuned for it. Reproductions of other modes are for those who name them.

    Args:
        numbers: atomic numbers [N].
        positions: [N, 3], Å.

    Raises:
        InputError: there is none; the message says which molecules are known.
    """
    names = list(shipped("trajgen"))
    opened = [open_checkpoint(name) for name in sorted(names, key=lambda name: name not in _FIRST)]
    own = [
        c
        for c in opened
        if c.config.kind == "residual"
        and not any(c.folder.name == f"{name}-{m}" for name in names for m in c.config.molecules)
    ]
    command = "python -m trajgen.train"
    checkpoint, _ = trained_on(own, numbers, positions, what="generator", command=command)
    return checkpoint


def acceleration_interval(config: CheckpointConfig, lag_fs: float | None = None) -> float:
    """Time over which a start's acceleration must have been taken to be of use, fs.

    Args:
        config: what the checkpoint says; where it says nothing, the interval is the lag.
        lag_fs: time step; None: the checkpoint's.
    """
    lag_fs = config.defaults["lag_fs"] if lag_fs is None else lag_fs
    return float(config.defaults.get("acceleration_interval_fs") or lag_fs)


def recognise(
    config: CheckpointConfig, numbers: npt.ArrayLike, positions: npt.ArrayLike
) -> tuple[list[str], str]:
    """Classes of the atoms of a frame [N], [N, 3] Å, and the name of the molecule.

    A checkpoint with the default `class_rounds` takes every molecule whose kinds of atoms it has
    seen; one that it was not trained on goes by its formula.

    Raises:
        InputError: an element or a molecule the checkpoint does not know.
    """
    from ase import Atoms
    from ase.data import chemical_symbols

    unknown = sorted(set(np.asarray(numbers).tolist()) - set(config.elements))
    if unknown:
        raise InputError(
            f"checkpoint {config.name} does not know the element "
            f"{', '.join(chemical_symbols[z] for z in unknown)}; it knows "
            f"{', '.join(chemical_symbols[z] for z in config.elements)}; train one that does with "
            "python -m trajgen.train --config FILE"
        )
    found = find_molecule(config.molecules, numbers, positions)
    if (rounds := config.defaults.get("class_rounds")) is not None:
        classes = known_classes(config.model["types"], numbers, positions, rounds)
        if classes is not None:
            name = found[1] if found else Atoms(np.asarray(numbers)).get_chemical_formula()
            return classes, name
        raise InputError(
            f"checkpoint {config.name} has not seen the kinds of atoms in this molecule; "
            f"{_instead(numbers, positions)}"
        )
    if found is not None:
        return found
    raise InputError(
        f"checkpoint {config.name} does not know this molecule; it knows "
        f"{some(config.molecules)}; {_instead(numbers, positions)}"
    )


def _instead(numbers: npt.ArrayLike, positions: npt.ArrayLike) -> str:
    """What to do about a molecule that a checkpoint does not know."""
    try:
        known = choose_shipped(numbers, positions)
    except InputError:
        return "train one for it with python -m trajgen.train --config FILE"
    return f"{known.config.name}, which ships, does (leave --checkpoint out)"


def build(checkpoint: Checkpoint) -> "TransitionKernel":
    """The model with its weights, in evaluation mode.

    Raises:
        InputError: entries or weights that do not fit the model.
    """
    from trajgen.checkpoints import model_from_config

    try:
        model = model_from_config(checkpoint.config)
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{checkpoint.folder}: its config does not describe a model ({error})"
        ) from None
    checkpoint.load_weights(model)
    return model.eval()


def load_model(name_or_path: str) -> "tuple[TransitionKernel, CheckpointConfig]":
    """A released generator, by name or path: the model in evaluation mode, and its config.

    Raises:
        InputError: as `open_checkpoint` and `build`.
    """
    checkpoint = open_checkpoint(name_or_path)
    return build(checkpoint), checkpoint.config
