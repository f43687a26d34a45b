"""What is measured of force fields, under which name, and how its numbers become tables."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import _ff_accuracy
import _ff_curve
import _ff_dynamics
import _ff_effect
import _ff_speed
from _ff_models import STARTS, TEMPERATURES, Model, Settings
from _report import Row, table

from shared.data.md17 import SURROGATE_MOLECULES
from shared.data.rmd17 import MOLECULES as RMD17_MOLECULES


@dataclass(frozen=True)
class Measurement:
    """A function that measures one checkpoint on one system, and what it depends on.

    Attributes:
        measure: (model, system, settings) -> rows; raises Skip with a reason.
        systems: what it is made on.
        checkpoint: the shipped one that it is about.
        uses: the settings that change its result.
    """

    measure: Callable[[Model, str, Settings], list[Row]]
    systems: tuple[str, ...]
    checkpoint: str
    uses: tuple[str, ...] = ()


BPA, SIMULATION = tuple(TEMPERATURES), ("replicas", "stability_ps")
MEASUREMENTS = {
    "accuracy": Measurement(_ff_accuracy.accuracy, BPA, "3bpa", ("frames",)),
    "stability": Measurement(
        _ff_dynamics.stability, tuple(STARTS), "3bpa", (*SIMULATION, "ensembles")
    ),
    "drift": Measurement(_ff_dynamics.drift, ("300K",), "3bpa", SIMULATION),
    "order": Measurement(_ff_dynamics.order, ("300K",), "3bpa", ("replicas", "order_ps")),
    "rmd17": Measurement(_ff_accuracy.rmd17, RMD17_MOLECULES, "rmd17", ("frames",)),
    "md17s": Measurement(_ff_accuracy.md17s, SURROGATE_MOLECULES, "md17s"),
    "speed": Measurement(
        _ff_speed.speed,
        ("3BPA",),
        "3bpa",
        ("speed_s", "speed_replicas", "speed_threads", "engine"),
    ),
}
ROWS = {  # name on the command line -> measurements
    "accuracy": ("accuracy",),
    "stability": ("stability",),
    "conservation": ("drift", "order"),
    "rmd17": ("rmd17",),
    "md17s": ("md17s",),
    "speed": ("speed",),
    "effect": (),  # of trained runs, as are the next
    "curve": (),
    "alone": (),
}
SYSTEMS = tuple(dict.fromkeys(s for m in MEASUREMENTS.values() for s in m.systems))


def section(
    name: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    everything: bool = False,
    short: bool = False,
    markdown: bool = False,
) -> str:
    """The table of a row of the command line; of the effect, one line for each run comes first."""
    options = {"everything": everything, "short": short, "markdown": markdown}
    present = {row["system"] for row in rows}
    columns = [s for s in (*SYSTEMS, _ff_curve.VALIDATION) if s in present]
    whole = table(rows, columns, **options)
    if name != "effect":
        return whole
    lines = _ff_effect.table(rows, markdown=markdown)
    return f"{lines}\n\n{whole}" if everything else lines


def sections(rows: Sequence[Mapping[str, Any]], *, short: bool = False) -> str:
    """All rows of a results file, as Markdown, each row of the command line under its name.

    `short` leaves out names of which nothing is required.
    """
    made = []
    for name, measurements in ROWS.items():
        order = list(measurements or (name,))
        kept = [row for row in rows if row["measurement"] in order and not row["skipped"]]
        kept.sort(key=lambda row: order.index(row["measurement"]))
        required = any(row["target"] is not None for row in kept)
        if kept and (required or not short):
            made.append(f"**{name}**\n\n{section(name, kept, short=short, markdown=True)}")
    return "\n\n".join(made)
