"""What the diffusion adds: trained runs side by side (P3), and how its features shift with heat.

Checkpoints are named <backbone>-<diffusion>, with -seed<N> where there are several.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _ff_accuracy import label_errors
from _ff_dynamics import stability_rows
from _ff_models import TEMPERATURES, Model, Settings, bpa_frames, run_setting, thinned
from _report import Row, grid, number

from forcefield.shift import shift_between
from shared.checkpoint import CONFIG
from shared.errors import InputError

LONGER = ("mace", "visnet")  # backbones whose stability is looked at for longer
STABILITY = ("600K", "1200K")
COLUMNS = {  # of the table: heading -> metric, and the systems it is made of
    "parameters": ("parameters", ("any",)),
    "steps": ("training steps", ("any",)),
    "E RMSE [meV]": ("E RMSE", tuple(TEMPERATURES)),
    "F RMSE [meV/Å]": ("F RMSE", tuple(TEMPERATURES)),
    "stable [ps], median": ("stable time, median", STABILITY),
    "‖ΔZ‖/‖ΔA‖": ("feature shift / diffusivity shift", ("1200K",)),
}


def checkpoints_in(folders: Sequence[str]) -> list[str]:
    """The folders that are checkpoints, and those one or two levels below the others.

    Raises:
        InputError: a folder that holds none.
    """
    found: list[str] = []
    for folder in folders:
        patterns = (CONFIG, f"*/{CONFIG}", f"*/*/{CONFIG}")
        paths = [p.parent for pattern in patterns for p in sorted(Path(folder).glob(pattern))]
        if not paths:
            raise InputError(f"{folder}: no checkpoint in it")
        found += [str(path) for path in paths]
    return found


def lengths(model: Model) -> dict[str, str]:
    """Temperature -> the setting that says how long it is simulated with this backbone."""
    if model.checkpoint.config.model.get("backbone") in LONGER:
        return {"600K": "effect_600_ps", "1200K": "effect_1200_ps"}
    return {"1200K": "effect_others_ps"}


@dataclass(frozen=True)
class Part:
    """What is measured of a run at once.

    Attributes:
        name: of the part.
        system: what it is made on.
        measure: (model, system, settings) -> rows.
        uses: the settings that change its result.
    """

    name: str
    system: str
    measure: Callable[[Model, str, Settings], list[Row]]
    uses: tuple[str, ...] = ()


# --- measurements -------------------------------------------------------------------------------


def size(model: Model, system: str, settings: Settings) -> list[Row]:
    """Parameters, and the steps it was trained for."""
    row = model.row("P3", system, "-")
    count = sum(weight.numel() for weight in model.loaded.potential.parameters())
    return [row("parameters", count), row("training steps", run_setting(model, "steps"))]


def errors(model: Model, system: str, settings: Settings) -> list[Row]:
    """As in `accuracy`."""
    frames = thinned(bpa_frames(system), settings.frames)
    row = model.row("P3", system, f"3BPA {frames.name}")
    return label_errors(row, frames, *model.evaluate(frames.numbers, frames.positions))


def stability(model: Model, system: str, settings: Settings) -> list[Row]:
    """NVE, capped."""
    length = getattr(settings, lengths(model)[system])
    arguments = (system, "nve", settings.effect_replicas, length, settings)
    return stability_rows(model, *arguments, judged=False)


def shift(model: Model, system: str, settings: Settings) -> list[Row]:
    """`forcefield.shift` from 300 K frames to those of this temperature."""
    cold, hot = (thinned(bpa_frames(s), settings.frames) for s in ("300K", system))
    model.require(cold.numbers)
    count = min(len(cold), len(hot))
    before, after = (thinned(frames, count).positions for frames in (cold, hot))
    found = shift_between(model.loaded, cold.numbers, before, after)
    ratio = found.features / found.diffusivity
    data = f"3BPA {cold.name} to {hot.name}"
    row = model.row("P3", system, data, n=count)
    return [
        row("feature shift / diffusivity shift", float(np.median(ratio))),
        row("feature shift / diffusivity shift, largest", float(ratio.max())),
        row("feature shift", float(np.median(found.features))),
        row("diffusivity shift", float(np.median(found.diffusivity))),
        row("feature shift / features", float(np.median(found.features / found.sizes))),
    ]


def parts(model: Model) -> Iterator[Part]:
    """All that is measured of a run."""
    yield Part("size", "any", size)
    for system in TEMPERATURES:
        yield Part("errors", system, errors, ("frames",))
    if model.checkpoint.config.model.get("diffusion", {}).get("kind", "none") != "none":
        yield Part("shift", "1200K", shift, ("frames",))
    for system, option in lengths(model).items():
        yield Part("stability", system, stability, ("effect_replicas", option))


# --- table --------------------------------------------------------------------------------------


def table(rows: Sequence[Mapping[str, Any]], *, markdown: bool = False) -> str:
    """One line for each run; below those with several seeds, their mean and half their range."""
    cells: dict[str, dict[tuple[str, str], float]] = {}
    for row in rows:
        if row["value"] is not None:
            cells.setdefault(row["model"], {})[row["metric"], row["system"]] = row["value"]
    keys = {h: [(metric, s) for s in systems] for h, (metric, systems) in COLUMNS.items()}
    head = [f"{h}, {' / '.join(s for _, s in k)}" if len(k) > 1 else h for h, k in keys.items()]
    lines = [["", *head]]
    groups: dict[str, list[str]] = {}
    for name in sorted(cells):
        groups.setdefault(re.sub(r"-seed\d+$", "", name), []).append(name)
        lines.append(
            [name, *(" / ".join(number(cells[name].get(k)) for k in ks) for ks in keys.values())]
        )
    for group, names in groups.items():
        if len(names) > 1:
            spread = [" / ".join(_spread(cells, names, k) for k in ks) for ks in keys.values()]
            lines.append([f"{group}, {len(names)} seeds", *spread])
    return grid(lines, markdown=markdown)


def _spread(
    cells: Mapping[str, Mapping[tuple[str, str], float]], names: Sequence[str], key: tuple[str, str]
) -> str:
    values = [cells[name][key] for name in names if key in cells[name]]
    if len(values) < len(names):  # no spread
        return number(None)
    return f"{number(float(np.mean(values)))} ± {number((max(values) - min(values)) / 2)}"
