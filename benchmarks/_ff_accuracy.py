"""Energies and forces against their labels (P3), and short trajectories against the engine's (P1).

Errors of forces are over components, errors of energies over molecules; intervals draw the test
frames anew. What stands beside a model: the mean energy of the training frames and no force at all.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from _accuracy import HORIZON, N_STARTS, engine_positions, ratio_rows, true_positions
from _ff_models import MEV, Model, Settings, bpa_frames, thinned
from _jobs import Skip
from _report import Row, Target
from _runs import calmest_frame

from forcefield.labelled import DataConfig, load_labelled
from forcefield.propagator import Ensemble, ForceFieldPropagator
from shared.data.extxyz import LabelledFrames
from shared.data.md17 import load_md17s, load_md17s_oracle
from shared.data.three_bpa import load_3bpa
from shared.metrics import armse as e
from shared.state import PhaseState
from shared.units import masses

Float = npt.NDArray[np.float64]

# E and F RMSE, meV and meV/Å, after training on frames at 300 K: MACE, and NequIP beside it, as in
# Batatia et al., NeurIPS 2022. The test frames are others of the same distributions.
PUBLISHED = {
    "NequIP L=3": {"300K": (3.3, 10.8), "600K": (11.2, 26.4), "1200K": (38.5, 76.2)},
    "MACE L=0": {"300K": (4.5, 14.6), "600K": (13.7, 33.3), "1200K": (37.1, 81.6)},
    "MACE L=1": {"300K": (3.4, 10.3), "600K": (9.9, 24.6), "1200K": (31.7, 67.8)},
    "MACE L=2": {"300K": (3.0, 8.8), "600K": (9.7, 21.8), "1200K": (29.8, 62.0)},
}
# Backbone -> its published name, the option that is the degree of its features, degrees published.
ALONE = {"mace": ("MACE", "lmax_hidden", (0, 1, 2)), "nequip": ("NequIP", "lmax", (3,))}
TARGETS = {"300K": (4.5, 10.3), "600K": (13.7, 24.6), "1200K": (37.0, 67.8)}


def label_errors(
    row: Callable[..., Row],
    frames: LabelledFrames,
    energies: npt.ArrayLike,
    forces: npt.ArrayLike,
    targets: Mapping[str, Target] | None = None,
) -> list[Row]:
    """RMSE and MAE of energies [M] (eV) and forces [M, N, 3] (eV/Å), with 95 % intervals.

    Args:
        row: makes the rows.
        targets: metric -> what is required of it.
    """
    errors = {
        "E": ("meV", MEV * (np.asarray(energies) - frames.energies)[:, None]),
        "F": ("meV/Å", MEV * (np.asarray(forces) - frames.forces).reshape(len(frames), -1)),
    }
    rows = []
    for label, (unit, error) in errors.items():
        for name, power, statistic in (("RMSE", 2, e.rmse_at), ("MAE", 1, _mean)):
            each = (np.abs(error) ** power).mean(axis=1, keepdims=True)
            low, high = (float(bound[0]) for bound in e.bootstrap_interval(each, statistic))
            metric = f"{label} {name}"
            rows.append(
                row(
                    metric,
                    float(statistic(each)[0]),
                    unit=unit,
                    n=len(frames),
                    low=low,
                    high=high,
                    target=(targets or {}).get(metric),
                )
            )
    return rows


def _mean(each: Float) -> Float:
    return np.asarray(each.mean(axis=-2))


# --- 3BPA ---------------------------------------------------------------------------------------


def accuracy(model: Model, system: str, settings: Settings) -> list[Row]:
    """Trained at 300 K, tested at 300, 600 and 1200 K."""
    frames = thinned(bpa_frames(system), settings.frames)
    note = f"frames of {frames.name}; the published figures are on the official test sets"
    if (init := began_from(model)) is not None:
        note += f"; {model.name} began from {init}"
    row = model.row("P3", system, f"3BPA {frames.name}", beside=True, note=note)
    predicted = model.evaluate(frames.numbers, frames.positions)
    names = ("E RMSE", "F RMSE")
    targets = {n: Target(at_most=b) for n, b in zip(names, TARGETS[system], strict=True)}
    return label_errors(row, frames, *predicted, targets)


def began_from(model: Model) -> str | None:
    """The weights that a training began from; None: random ones."""
    init = model.checkpoint.config.provenance.get("training", {}).get("init")
    return None if init is None else str(init)


def baselines(system: str, settings: Settings) -> list[Row]:
    """Beside `accuracy`: what needs no model, and what is published."""
    frames = thinned(bpa_frames(system), settings.frames)
    mean = load_3bpa("train_300K").energies.mean()

    def row(metric: str, value: float, **more: object) -> Row:
        about = {"data": f"3BPA {frames.name}", "model": "mean energy, no force"} | more
        return Row(metric, value, "P3", system=system, beside=True, **about)  # type: ignore[arg-type]

    nothing = np.full(len(frames), mean), np.zeros_like(frames.forces)
    rows = label_errors(row, frames, *nothing)
    for name, figures in PUBLISHED.items():
        other = {"model": f"{name}, published", "data": f"3BPA test_{system}"}
        for metric, value, unit in zip(
            ("E RMSE", "F RMSE"), figures[system], ("meV", "meV/Å"), strict=True
        ):
            rows.append(row(metric, value, unit=unit, **other))
    return rows


def alone(model: Model, system: str, settings: Settings) -> list[Row]:
    """A backbone without diffusion, trained on the 300 K frames from random weights, beside what is
    published of it at its degree, or else the nearest, which the note says.

    Raises:
        Skip: another training, or nothing is published.
    """
    config = model.checkpoint.config
    backbone = config.model["backbone"]
    if config.model.get("diffusion", {}).get("kind", "none") != "none":
        raise Skip(f"{model.name} has a diffusion beside its backbone")
    if (init := began_from(model)) is not None:
        raise Skip(f"{model.name} began with the weights of {init}")
    data = config.provenance.get("data", {})
    if data.get("source") != "3bpa" or data.get("more"):
        raise Skip(f"{model.name} has learned other frames than those of 3BPA at 300 K")
    if backbone not in ALONE:
        raise Skip(f"nothing is published of {backbone} on these data")
    frames = thinned(bpa_frames(system), settings.frames)
    title, option, degrees = ALONE[backbone]
    degree = config.model["backbone_config"][option]
    nearest = min(degrees, key=lambda known: abs(known - degree))
    name = f"{title} L={nearest}"
    other = "" if degree == nearest else f" ({model.name} has L={degree})"
    note = f"published: {name}{other}, on the official test sets"
    row = model.row("P3", system, f"3BPA {frames.name}", beside=True, note=note)
    rows = label_errors(row, frames, *model.evaluate(frames.numbers, frames.positions))
    found = {r.metric: r for r in rows}
    for metric, published, target in zip(
        ("E RMSE", "F RMSE"), PUBLISHED[name][system], (None, Target(at_most=1.5)), strict=True
    ):
        own = found[metric]
        ratio = {
            key: None if value is None else value / published
            for key, value in (("value", own.value), ("low", own.low), ("high", own.high))
        }
        rows.append(replace(own, metric=f"{metric} / published", unit="1", target=target, **ratio))
    return rows


# --- rMD17 --------------------------------------------------------------------------------------


def rmd17(model: Model, molecule: str, settings: Settings) -> list[Row]:
    """The test blocks of the trajectory, which training never saw (`forcefield.labelled`)."""
    (frames,) = load_labelled(DataConfig("rmd17", [molecule]), "test")
    frames = thinned(frames, settings.frames)
    data = f"rMD17 {molecule}, test blocks"
    row = model.row("P3", molecule, data)
    energies, forces = model.evaluate(frames.numbers, frames.positions)
    rows = label_errors(row, frames, energies, forces)
    zero = float(MEV * np.abs(frames.forces).mean())
    beside = model.row("P3", molecule, data, model="no force", n=len(frames), beside=True)
    rows = [replace(r, beside=r.metric == "F MAE") for r in rows]
    return [*rows, beside("F MAE", zero, unit="meV/Å")]


def rmd17_summary(model: Model, errors: Mapping[str, float], molecules: int) -> list[Row]:
    """Median and worst of the molecules' F MAE.

    Args:
        errors: molecule -> meV/Å.
        molecules: how many there should be.

    Raises:
        Skip: there are fewer.
    """
    if len(errors) < molecules:
        raise Skip(f"{len(errors)} of {molecules} molecules were measured")
    trained = model.checkpoint.config.provenance.get("data", {}).get("molecules", {})
    counts = sorted({entry["train"] for entry in trained.values()})
    note = f"trained on {'/'.join(map(str, counts))} frames of each molecule" if counts else ""
    row = model.row("P3", "any", "rMD17, test blocks", unit="meV/Å", n=molecules, note=note)
    worst = max(errors, key=lambda name: errors[name])
    return [
        row("F MAE, median", float(np.median(list(errors.values()))), target=Target(at_most=20.0)),
        row("F MAE, worst", errors[worst], target=Target(at_most=45.0), horizon=worst),
    ]


# --- md17s --------------------------------------------------------------------------------------


def md17s(model: Model, molecule: str, settings: Settings) -> list[Row]:
    """RMSE@100 after the starts of the oracle file, beside its engine restarted.

    The state is (x, v, ξ): ξ of the file, v from a pair of frames and the model's forces, and the
    thermostat goes on as it does in the data (Nosé-Hoover, 500 K over 3N, 1700 1/cm).
    """
    series, oracle = load_md17s(molecule), load_md17s_oracle(molecule)
    model.require(series.numbers)
    if series.thermostat is None:
        raise Skip(f"{series.path} has no thermostat")
    steps = np.array([HORIZON])
    truth = true_positions(series, oracle, steps)
    frames, interval = oracle.start_frames, oracle.interval_fs
    propagator = ForceFieldPropagator(
        model.forces(settings.engine),
        ensemble=Ensemble("nose-hoover", series.temperature_K),
        timestep_fs=interval,
        reference=calmest_frame(series),
    )
    start = PhaseState(
        series.numbers,
        series.positions[frames],
        thermostat=series.thermostat[frames, None],
    )
    before = np.asarray(series.positions[frames - 1], dtype=np.float64)
    start = propagator.from_pair(start, before, interval)
    (end,) = propagator.propagate(start, 1, HORIZON * interval, seed=0)

    def squared(predicted: Float) -> Float:
        return e.squared_errors(predicted, truth, "com", masses(series.numbers))

    still = squared(e.persistence(start.positions, 1))
    common = {"horizon": f"{HORIZON * interval:g} fs", "n": N_STARTS, "beside": True}
    metric = f"RMSE@{HORIZON} com"
    rows = ratio_rows(
        model.row("P1", molecule, series.source, **common),
        metric,
        squared(end.positions[:, None]),
        still,
        Target(at_most=0.05),
    )
    for mode in ("known", "fitted"):
        engine = model.row("P1", molecule, series.source, **common | {"model": f"engine, ξ {mode}"})
        rows += ratio_rows(engine, metric, squared(engine_positions(oracle, mode, steps)), still)
    return rows
