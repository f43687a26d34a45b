"""The learning curve of a trained run: errors against training steps.

On the test sets from the weights that the training kept (`run.keep_every`), on the validation
frames from its log. Both belong to a run folder, in which the released checkpoint lies.
"""

import csv
from collections.abc import Callable
from pathlib import Path

from _ff_accuracy import label_errors
from _ff_models import TEMPERATURES, Model, Settings, bpa_frames, run_setting, thinned
from _jobs import Skip
from _report import Row
from safetensors.torch import load_file

from shared.config import KEPT

VALIDATION = "validation"
SYSTEMS = (VALIDATION, *TEMPERATURES)
LOGGED = {"E RMSE": ("val_e_rmse", "meV"), "F RMSE": ("val_f_rmse", "meV/Å")}


def curve(model: Model, system: str, settings: Settings) -> list[Row]:
    """E and F RMSE at every step that there is something of.

    Raises:
        Skip: there is nothing.
    """
    if system == VALIDATION:
        return _validation(model)
    files = kept(model)
    if not files:
        raise Skip(f"{model.name} kept no weights: train with run.keep_every")
    frames = thinned(bpa_frames(system), settings.curve_frames)
    own = Model(model.checkpoint)  # whose weights may change
    rows = []
    for step, path in files.items():
        own.loaded.potential.load_state_dict(load_file(path))
        row = _row(model, system, f"3BPA {frames.name}", step)
        predicted = own.evaluate(frames.numbers, frames.positions)
        rows += [r for r in label_errors(row, frames, *predicted) if r.metric in LOGGED]
    return rows


def kept(model: Model) -> dict[int, Path]:
    """Training step -> file of the weights, in order."""
    folder = model.checkpoint.folder.resolve().parent / KEPT
    return {int(p.stem): p for p in sorted(folder.glob("*.safetensors"), key=lambda p: int(p.stem))}


def _validation(model: Model) -> list[Row]:
    """From the CSV files that the training logs to, one each time that it was begun or resumed."""
    logs = model.checkpoint.folder.resolve().parent / "logs"
    paths = sorted(logs.glob("version_*/metrics.csv"), key=lambda p: int(p.parent.name[8:]))
    steps, epoch_steps = (run_setting(model, key) for key in ("steps", "epoch_steps"))
    if epoch_steps is None or not paths:
        raise Skip(f"{model.name} lies in no run folder with a log")
    logged = {}
    for path in paths:
        with path.open(encoding="utf-8") as file:
            logged |= {int(r["epoch"]): r for r in csv.DictReader(file) if r.get("val_f_rmse")}
    rows = []
    for epoch, entry in sorted(logged.items()):
        step = (epoch + 1) * epoch_steps
        step = step if steps is None else min(step, steps)
        row = _row(model, VALIDATION, "validation frames", step)
        rows += [row(m, float(entry[key]), unit=unit) for m, (key, unit) in LOGGED.items()]
    return rows


def _row(model: Model, system: str, data: str, step: int) -> Callable[..., Row]:
    return model.row("P3", system, data, horizon=f"{step} steps", beside=True)
