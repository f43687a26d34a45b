"""Progress of a run: a bar on a terminal, a line now and then elsewhere."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from shared.record import RunRecord

__all__ = ["reporting"]

_log = logging.getLogger(__name__)
_LOG_SECONDS = 10.0


@contextmanager
def reporting(
    begun_ps: float, total_ps: float, bar: bool
) -> Iterator[Callable[[float, RunRecord], None]]:
    """A function to call after each frame with the time reached, in ps, and how the run goes.

    Args:
        begun_ps: where this run began, not 0 if it is resumed.
        total_ps: where it ends.
        bar: show a bar if there is a terminal.
    """
    began = time.monotonic()

    def status(now_ps: float, record: RunRecord) -> str:
        rate = (now_ps - begun_ps) / max(time.monotonic() - began, 1e-9)
        return (
            f"{now_ps:.2f} of {total_ps:g} ps, {rate:.3g} ps/s, {record.temperature:.0f} K, "
            f"{record.alive.sum()} of {len(record.alive)} whole"
        )

    if not (bar and sys.stderr.isatty()):
        logged = began

        def log(now_ps: float, record: RunRecord) -> None:
            nonlocal logged
            if time.monotonic() - logged >= _LOG_SECONDS:
                logged = time.monotonic()
                _log.info(status(now_ps, record))

        yield log
        return

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task("starting", total=total_ps)
        yield lambda now_ps, record: shown.update(
            task, completed=now_ps, description=status(now_ps, record)
        )
