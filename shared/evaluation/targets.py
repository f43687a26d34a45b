"""What is required of the models that ship, held against the rows: `<!-- table targets -->`.

Rows of weights that do not ship any more do not count. A bound holds for every system, horizon and
metric that the rows of it have; the table shows the one that is worst. A force field of one
molecule stands in for that of all, on its molecule, where the requirement is of the better of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from shared.checkpoint import load, shipped
from shared.evaluation.results import Row
from shared.evaluation.statistics import Estimate

__all__ = ["TARGETS", "Found", "Target", "former_jobs"]

Rows = list[dict[str, Any]]
Read = Callable[[str], Rows]
Place = tuple[str, str, str]  # system, metric and horizon


@dataclass(frozen=True)
class Found:
    """How a target stands.

    Attributes:
        met: None where nothing was measured.
        worst: of all; None where nothing was measured.
        where: what has it.
        places: systems and horizons that were measured.
        missed: how many of those miss.
    """

    met: bool | None
    worst: Estimate | None = None
    where: str = ""
    places: int = 0
    missed: int = 0


def former_jobs(jobs: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Of the jobs of a results file, those of weights that a shipped checkpoint had before."""
    return {job for job, record in jobs.items() if _are_former(job, record.get("weights", {}))}


def _are_former(job: str, weights: Mapping[str, str]) -> bool:
    head, _, name = job.split("/", 2)[-1].partition(":")
    ships = _shipped_weights(head) if head in ("forcefield", "trajgen") else {}
    return name in ships and any(ships.get(n, sha256) != sha256 for n, sha256 in weights.items())


@lru_cache
def _shipped_weights(head: str) -> dict[str, str]:
    """Name of a checkpoint that ships with a head -> SHA-256 of its weights."""
    return {name: load(name, head).config.weights_sha256 for name in shipped(head)}


@dataclass(frozen=True)
class Target:
    """A bound on rows.

    Args:
        says: what is required.
        results: of which evaluation.
        query: column -> values that rows may have.
        bounds: by horizon, or by metric; "" for all.
        at_least: the bound is from below.
        over: rows, and their intervals, are divided by the one row that this model has of the same
            part, system, metric and horizon, such as what is published.
        fewest: rows with fewer `n` do not count.
        without: systems that do not count.
    """

    says: str
    results: str
    query: Mapping[str, tuple[str, ...]]
    bounds: Mapping[str, float]
    at_least: bool = False
    over: str = ""
    fewest: int = 0
    without: tuple[str, ...] = field(default=())

    def hold(self, read: Read) -> Found:
        """Against the rows that `read` gives for an evaluation."""
        rows = read(self.results)
        sign = -1 if self.at_least else 1
        best: dict[Place, Estimate] = {}
        for row in self.of(rows):
            place = row["system"], row["metric"], row["horizon"]
            if (found := self._relative(row, rows)) is None:
                continue
            if place not in best or sign * (found.value - best[place].value) < 0:
                best[place] = found
        if not best:
            return Found(None)
        off = {place: sign * (found.value - self._bound(place)) for place, found in best.items()}
        scale = {place: abs(self._bound(place)) or 1.0 for place in best}
        worst = max(off, key=lambda place: off[place] / scale[place])
        missed = sum(value > 0 for value in off.values())
        metric = worst[1] if len({metric for _, metric, _ in best}) > 1 else ""
        where = ", ".join(filter(None, (worst[0], metric, worst[2])))
        return Found(missed == 0, best[worst], where, len(best), missed)

    def of(self, rows: Rows) -> Rows:
        """Those of the rows that it is about."""
        assert set(self.query) <= set(Row.__dataclass_fields__)
        wanted = self.query.items()
        return [
            row
            for row in rows
            if row["value"] is not None
            and not row.get("former")
            and row["system"] not in self.without
            and (row["n"] or 0) >= self.fewest
            and all(row[key] in values for key, values in wanted)
        ]

    def _relative(self, row: Mapping[str, Any], rows: Rows) -> Estimate | None:
        unit = 1.0
        if self.over:
            same = ("part", "system", "metric", "horizon")
            units = [
                other["value"]
                for other in rows
                if other["model"] == self.over and all(other[key] == row[key] for key in same)
            ]
            if not units or not units[0]:
                return None
            unit = units[0]
        low, high = (None if row[end] is None else row[end] / unit for end in ("low", "high"))
        return Estimate(row["value"] / unit, low, high, row["n"] or 0)

    def _bound(self, place: Place) -> float:
        _, metric, horizon = place
        return next(self.bounds[key] for key in (horizon, metric, "") if key in self.bounds)

    @property
    def bound(self) -> str:
        """As the table shows it."""
        sign = "≥" if self.at_least else "≤"
        return " / ".join(f"{sign} {value:g}" for value in self.bounds.values())


def _surrogate(model: str, variant: str, metric: str, frames: int) -> dict[str, tuple[str, ...]]:
    return {
        "part": ("s2l",),
        "model": (model,),
        "variant": (variant,),
        "metric": (metric,),
        "horizon": (f"{frames} frames",),
    }


_TO_TRIVIAL = "RMSE com / best trivial"
_SPARSE = {
    "part": ("sparse",),
    "variant": ("unknown",),
    "metric": ("RMSE com / oracle",),
    "horizon": ("5 fs", "25 fs", "50 fs"),
}
_JSD = tuple(f"{kind} JSD / static-oracle" for kind in ("bond", "angle", "torsion"))
_THE_300K = {
    "part": ("distributions",),
    "model": ("trajgen:3bpa-300K",),
    "variant": ("fitted",),
    "metric": _JSD,
}
TARGETS = (
    Target(
        "short to long, surrogates: force field, friction fitted, RMSE@100 / best trivial",
        "md17",
        _surrogate("forcefield:md17s", "fitted", _TO_TRIVIAL, 100),
        {"": 0.05},
    ),
    Target(
        "the same, ARMSE(1000) / best trivial (one sample: nothing in it is random)",
        "md17",
        _surrogate("forcefield:md17s", "fitted", "ARMSE com / best trivial", 1000),
        {"": 1.0},
    ),
    Target(
        "generator, friction fitted, RMSE@100 / best trivial",
        "md17",
        _surrogate("trajgen:md17s", "fitted", _TO_TRIVIAL, 100),
        {"": 0.1},
    ),
    Target(
        "the same, of one generator for all molecules, not fine-tuned",
        "md17",
        _surrogate("trajgen:runs/md17s-alone", "fitted", _TO_TRIVIAL, 100),
        {"": 0.1},
    ),
    Target(
        "generator, friction unknown, RMSE@100 / best trivial",
        "md17",
        _surrogate("trajgen:md17s", "unknown", _TO_TRIVIAL, 100),
        {"": 0.25},
    ),
    Target(
        "generator, ensemble mean of 32, ARMSE(1000) / best trivial",
        "md17",
        _surrogate(
            "trajgen:md17s", "unknown", "ARMSE com, ensemble mean of 32 / best trivial", 1000
        ),
        {"": 1.0},
    ),
    Target(
        "short to long, real MD17: force field, ARMSE(100) / best trivial, all but benzene",
        "md17",
        {
            "part": ("s2l_real",),
            "model": ("forcefield:md17",),
            "variant": ("unknown",),
            "metric": ("ARMSE com / best trivial",),
            "horizon": ("100 frames",),
        },
        {"": 1.0},
        without=("benzene",),
    ),
    Target(
        "sparse real MD17, 5 to 50 fs, friction unknown, ten comparisons or more: "
        "force field of all molecules, RMSE / sGDML's",
        "md17",
        _SPARSE | {"model": ("forcefield:md17",)},
        {"": 1.2},
        fewest=10,
    ),
    Target(
        "the same, the better of that and the force field of the molecule alone",
        "md17",
        _SPARSE
        | {
            "model": (
                "forcefield:md17",
                "forcefield:md17-aspirin",
                "forcefield:md17-ethanol",
                "forcefield:md17-paracetamol",
            )
        },
        {"": 1.2},
        fewest=10,
    ),
    Target(
        "real consecutive ethanol: force field, friction fitted, RMSE / persistence, 5, 25, 50 fs",
        "md17",
        {
            "part": ("consecutive",),
            "model": ("forcefield:md17",),
            "variant": ("fitted",),
            "metric": ("RMSE com / persistence",),
            "horizon": ("10 frames", "50 frames", "100 frames"),
        },
        {"10 frames": 0.03, "50 frames": 0.05, "100 frames": 0.06},
    ),
    Target(
        "the same: generator, which learned surrogates, 50 fs",
        "md17",
        {
            "part": ("consecutive",),
            "model": ("trajgen:md17s",),
            "variant": ("fitted",),
            "metric": ("RMSE com / persistence",),
            "horizon": ("100 frames",),
        },
        {"": 0.2},
    ),
    Target(
        "one to others: better head, RMSE@100 and RMSE@500 / best trivial",
        "isomers",
        {
            "part": ("o2o",),
            "model": ("forcefield:isomers", "trajgen:isomers"),
            "variant": ("nve", "fitted"),
            "system": ("unseen",),
            "metric": (_TO_TRIVIAL,),
            "horizon": ("100 frames", "500 frames"),
        },
        {"100 frames": 0.1, "500 frames": 0.6},
    ),
    Target(
        "windows of surrogates: force field, friction fitted, ADE [Å]",
        "md17",
        {
            "part": ("windows",),
            "model": ("forcefield:md17s",),
            "variant": ("fitted",),
            "metric": ("ADE",),
        },
        {"": 0.02},
    ),
    Target(
        "windows of surrogates: generator, friction fitted, "
        "ADE / GeoTDM's (published, of real MD17)",
        "md17",
        {
            "part": ("windows",),
            "model": ("trajgen:md17s",),
            "variant": ("fitted",),
            "metric": ("ADE",),
        },
        {"": 0.5},
        over="GeoTDM (published)",
    ),
    Target(
        "3BPA, 300 K: generator's bonds, angles, torsions, JSD / static oracle, one trajectory",
        "3bpa-300K",
        _THE_300K,
        {"": 2.0},
    ),
    Target(
        "the same against independent trajectories",
        "3bpa-300K-independent",
        _THE_300K,
        {"": 2.0},
    ),
    Target(
        "3BPA, 300 K: generator of three temperatures, without a thermostat, one trajectory",
        "3bpa",
        {
            "part": ("distributions",),
            "model": ("trajgen:3bpa",),
            "variant": ("fitted",),
            "system": ("300K",),
            "metric": _JSD,
        },
        {"": 2.0},
    ),
    Target(
        "3BPA, 300 K: stable share of 32 replicas, 20 ps",
        "3bpa-300K",
        {
            "part": ("distributions",),
            "model": ("trajgen:3bpa-300K",),
            "variant": ("fitted",),
            "metric": ("stable share",),
            "horizon": ("20 ps",),
        },
        {"": 0.95},
        at_least=True,
    ),
)
