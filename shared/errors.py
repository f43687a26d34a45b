"""The one error type for bad input: it is shown to the user as a single line, without traceback."""

__all__ = ["InputError"]


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message says what is wrong, where, and what to do, on one line: line breaks and runs of
    blanks in ``message`` are folded. Command lines print it and exit with status 2.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
