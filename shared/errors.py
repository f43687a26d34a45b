"""The one error type for bad input: it is shown to the user as a single line, without traceback."""

from collections.abc import Iterable

__all__ = ["InputError", "first_line", "some"]

_SHOWN = 12  # names in a message


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message says what is wrong, where, and what to do, on one line: line breaks and runs of
    blanks in ``message`` are folded. Command lines print it and exit with status 2.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


def some(names: Iterable[str]) -> str:
    """Names in a message, with commas; of many the first, and how many there are."""
    every = list(names)
    if len(every) <= _SHOWN:
        return ", ".join(every)
    return f"{', '.join(every[:_SHOWN])}, … ({len(every)})"


def first_line(error: BaseException) -> str:
    """The kind of an error and the first line of what it says, for a message."""
    said = str(error).strip().splitlines()
    return type(error).__name__ + (f": {said[0]:.100}" if said else "")
