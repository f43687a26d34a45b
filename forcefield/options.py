"""Options of a part that is chosen by name: plain mappings of a config file or of a checkpoint.

A backbone is a class built from a frozen dataclass; a config says `{name: mace, options: {...}}`.
Which options there are, and of which type, only the chosen class knows.
"""

import difflib
from argparse import ArgumentError
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_type_hints

from shared.errors import InputError

__all__ = ["config_of", "typed_config"]


def config_of(part: type) -> type:
    """The dataclass that the argument `config` of a class is annotated with."""
    return get_type_hints(vars(part)["__init__"])["config"]


def typed_config(kind: type, options: Mapping[str, Any], where: str) -> Any:
    """A dataclass `kind` filled with `options`, types checked, defaults for the rest.

    Args:
        where: what the options belong to, for the message.

    Raises:
        InputError: an option that is not there (the nearest is named), or of the wrong type, or
            that the dataclass itself refuses.
    """
    from jsonargparse import ArgumentParser

    known = [entry.name for entry in fields(kind)]
    for name in options:
        if name not in known:
            nearest = difflib.get_close_matches(str(name), known, n=1, cutoff=0.0)[0]
            raise InputError(f"{where}: unknown option {name}, the nearest is {nearest}")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, "part")
    try:
        return parser.instantiate(parser.parse_object({"part": dict(options)})).part
    except (ArgumentError, TypeError, ValueError) as error:
        raise InputError(f"{where}: {error}") from None
