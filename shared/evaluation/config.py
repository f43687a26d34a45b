"""What an evaluation is: data set, systems, models, parts and their settings.

A part is one measurement of a protocol, in a file of its own. Each has a section in the config; one
that names `models` or `systems` is made for those alone.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.data.rmd17 import timestep_fs
from shared.errors import InputError
from shared.evaluation import (
    p1_consecutive,
    p1_o2o,
    p1_s2l,
    p1_s2l_real,
    p1_sparse,
    p2_stability,
    p3_energies,
    p3_shift,
    p4_windows,
    p5_long,
    p6_distributions,
    p7_cost,
)
from shared.evaluation.candidates import Candidate, Variant, limit, open_candidate
from shared.evaluation.references import engine_series
from shared.evaluation.results import Row
from shared.evaluation.rollout import Context
from shared.evaluation.systems import check_systems
from shared.units import FS_PER_PS

__all__ = ["PARTS", "Evaluation", "Part", "checked_parts"]


@dataclass(frozen=True)
class Part:
    """One measurement.

    Attributes:
        protocol: P1 to P7.
        settings: its dataclass, a section of the config.
        measure: (candidate, system, settings, context) -> rows; raises Skip with a reason.
        sets: data sets that it is made on.
    """

    protocol: str
    settings: type[Any]
    measure: Callable[[Candidate, str, Any, Context], list[Row]]
    sets: tuple[str, ...]


PARTS = {
    "s2l": Part("P1", p1_s2l.S2L, p1_s2l.measure, ("md17", "3bpa")),
    "o2o": Part("P1", p1_o2o.O2O, p1_o2o.measure, ("isomers",)),
    "consecutive": Part("P1", p1_consecutive.Consecutive, p1_consecutive.measure, ("md17",)),
    "sparse": Part("P1", p1_sparse.Sparse, p1_sparse.measure, ("md17",)),
    "s2l_real": Part("P1", p1_s2l_real.S2LReal, p1_s2l_real.measure, ("md17",)),
    "stability": Part(
        "P2", p2_stability.Stability, p2_stability.measure, ("md17", "isomers", "3bpa")
    ),
    "energies": Part("P3", p3_energies.Energies, p3_energies.measure, ("3bpa",)),
    "shift": Part("P3", p3_shift.Shift, p3_shift.measure, ("3bpa",)),
    "windows": Part("P4", p4_windows.Windows, p4_windows.measure, ("md17",)),
    "long": Part("P5", p5_long.Long, p5_long.measure, ("md17",)),
    "distributions": Part(
        "P6", p6_distributions.Distributions, p6_distributions.measure, ("md17", "3bpa")
    ),
    "cost": Part("P7", p7_cost.Cost, p7_cost.measure, ("md17",)),
}


@dataclass(frozen=True)
class Evaluation:
    """What to measure, and where to put it.

    Args:
        name: of the evaluation.
        data: md17, isomers or 3bpa.
        systems: molecules, isomers or temperatures; empty: all of the data set.
        models: trivial predictors, oracles, `trajgen:NAME`, `forcefield:NAME`.
        parts: those to measure; empty: all that the data set has.
        variants: of the models: fitted, unknown, nve, nvt; empty: all that a model has. Those
            measured before with others of a model are replaced.
        seed: of all that is random.
        trajectories: system -> a held-back trajectory (.h5, .extxyz, or a folder of
            shared.data.xtb): the reference of s2l and distributions for 3bpa.
        blocks: system -> further such trajectories, independent of that one and of one another:
            their windows are the blocks of distributions.
        engine: the model that made them: xtb, forcefield:NAME.
        results: the results file; null: docs/results/<name>.json.
        artefacts: folder of curves and trajectories; null: runs/evaluate/<name>.
    """

    name: str
    data: str
    systems: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=lambda: ["persistence", "inertia", "mean"])
    parts: list[str] = field(default_factory=list)
    variants: list[Variant] = field(default_factory=list)
    seed: int = 0
    trajectories: dict[str, str] = field(default_factory=dict)
    blocks: dict[str, list[str]] = field(default_factory=dict)
    engine: str | None = None
    results: str | None = None
    artefacts: str | None = None


def checked_parts(
    evaluation: Evaluation, settings: dict[str, Any]
) -> tuple[list[str], list[tuple[str, list[str], list[str]]], dict[str, Candidate]]:
    """Everything that can be refused before anything is measured.

    Returns:
        the systems; (part, its systems, its models) in the order of measuring; and the candidates.

    Raises:
        InputError: a data set, system, part or model that is not there (those that are get named),
            no model at all, or a setting that nothing can be measured with.
    """
    systems = check_systems(evaluation.data, evaluation.systems)
    if evaluation.seed < 0:
        raise InputError(f"evaluation.seed must be 0 or more, not {evaluation.seed}")
    if evaluation.trajectories or evaluation.blocks:
        _check_trajectories(evaluation)
    own = [part for part, entry in PARTS.items() if evaluation.data in entry.sets]
    if unknown := [part for part in evaluation.parts if part not in own]:
        raise InputError(
            f"parts: {unknown[0]} is not measured on {evaluation.data}; there are {', '.join(own)}"
        )
    plan = []
    names = list(evaluation.models)
    for part in evaluation.parts or own:
        chosen = settings[part]
        for_systems = systems
        if chosen.systems is not None:
            for_systems = check_systems(evaluation.data, chosen.systems)
        for_models = names if chosen.models is None else chosen.models
        plan.append((part, list(for_systems), list(for_models)))
        for name in for_systems:
            _check_interval(part, name, _spacing_fs(part, name, evaluation), chosen)
        _check_numbers(part, chosen)
    wanted = dict.fromkeys(model for _, _, models in plan for model in models)
    if not wanted:
        raise InputError("evaluation.models: name at least one, such as persistence")
    candidates = {model: open_candidate(model) for model in wanted}
    if evaluation.variants:
        for candidate in candidates.values():
            limit(candidate, evaluation.variants)
    return systems, plan, candidates


def _check_trajectories(evaluation: Evaluation) -> None:
    """They are of 3BPA's systems, there, and by an engine that is there."""
    if evaluation.data != "3bpa":
        raise InputError("evaluation.trajectories: only data 3bpa takes its reference from files")
    check_systems(evaluation.data, list(evaluation.trajectories))
    if evaluation.engine is None:
        raise InputError("evaluation.engine: say which model made the trajectories")
    open_candidate(evaluation.engine)
    for path in evaluation.trajectories.values():
        if not Path(path).exists():
            raise InputError(f"evaluation.trajectories: {path}: no such file or folder")
    for system, paths in evaluation.blocks.items():
        if system not in evaluation.trajectories:
            raise InputError(f"evaluation.blocks: {system} has none of evaluation.trajectories")
        for path in paths:
            if not Path(path).exists():
                raise InputError(f"evaluation.blocks: {path}: no such file or folder")


_POSITIVE = (
    "starts",
    "replicas",
    "samples",
    "ensemble",
    "ensemble_frames",
    "length_ps",
    "window_ps",
    "core_s",
    "frames",
    "energy_frames",
    "isomers",
)
_REFERENCE_FS = {"md17": 0.5, "isomers": 1.0, "3bpa": 0.5}


def _spacing_fs(part: str, name: str, evaluation: Evaluation) -> float:
    """Time between frames of what a part compares a system with."""
    if part in ("sparse", "s2l_real"):
        return timestep_fs(name)
    if part in ("s2l", "distributions") and name in evaluation.trajectories:
        path, engine = evaluation.trajectories[name], str(evaluation.engine)
        return engine_series(name, path, engine).system.interval_fs  # kept for the measurement
    return _REFERENCE_FS[evaluation.data]


def _check_interval(part: str, system: str, reference: float, settings: Any) -> None:
    """An interval must be a whole number of the reference's frames."""
    given: Sequence[float] = getattr(settings, "gaps_fs", [])
    interval = getattr(settings, "interval_fs", None)
    wished = [] if interval is None else [interval]
    for name, values in (("interval_fs", wished), ("gaps_fs", given)):
        for value in values:
            ratio = value / reference
            if not (0.5 <= ratio < math.inf and abs(ratio - round(ratio)) < 1e-6):
                raise InputError(
                    f"{part}.{name}: {value:g} fs is no multiple of the {reference:g} fs between "
                    f"frames of {system}"
                )


FEWEST_FRAMES = 10  # of a window: a spectrum of fewer says nothing


def _check_numbers(part: str, settings: Any) -> None:
    """Counts and lengths are positive and finite, lists are not empty."""
    none = (("sparse", "starts"), ("energies", "frames"), ("shift", "frames"))  # 0: all there are
    for name in _POSITIVE:
        value = getattr(settings, name, 1)
        values = value if isinstance(value, (tuple, list)) else [value]
        least = 0 if (part, name) in none else 1e-9
        if not (values and all(least <= v < math.inf for v in values)):
            raise InputError(f"{part}.{name} must be more than 0, not {value}")
    for name in ("horizons", "ensemble_horizons"):
        horizons = getattr(settings, name, [1])
        if not horizons or min(horizons) < 1:
            raise InputError(f"{part}.{name}: a horizon is a number of frames, 1 or more")
    if not getattr(settings, "gaps_fs", [1]):
        raise InputError(f"{part}.gaps_fs: name at least one gap")
    window_ps = getattr(settings, "window_ps", None)
    if window_ps is not None and window_ps * FS_PER_PS < FEWEST_FRAMES * settings.interval_fs:
        raise InputError(
            f"{part}.window_ps: {window_ps:g} ps are less than {FEWEST_FRAMES} of interval_fs"
        )
    length_ps = getattr(settings, "length_ps", None)
    if length_ps is not None and length_ps * FS_PER_PS < settings.interval_fs:
        raise InputError(f"{part}.length_ps: {length_ps:g} ps is less than one interval_fs")
