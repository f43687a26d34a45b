"""Who is judged: anything that makes a `shared.state.Propagator` for a system and a start for it.

`trivial` and `oracles` hold what needs no learning. Checkpoints come through the entry points of
the group `trajgen.propagators`, one per kind, so that this package imports neither head:
`KIND:NAME` in a config calls the function named KIND there with NAME.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from shared.errors import InputError
from shared.evaluation.systems import Past, System
from shared.state import PhaseState, Propagator

__all__ = [
    "GROUP",
    "Candidate",
    "FeatureShift",
    "KnowsEnergies",
    "KnowsFeatures",
    "Variant",
    "limit",
    "open_candidate",
]

Float = npt.NDArray[np.float64]
Variant = Literal["", "fitted", "unknown", "nve", "nvt"]
"""What a start is told and how it is moved on: `fitted`, with the thermostat of the reference and
its friction (or the acceleration that shows it) from the frames before; `unknown`, with that
thermostat and no friction; `nve`, no thermostat; `nvt`, Bussi's; "" where there is no choice. A
candidate whose `fits_friction` is true can fit the friction to `Past.earlier`."""

GROUP = "trajgen.propagators"


class Candidate(Protocol):
    """A model, a trivial predictor or an oracle.

    Attributes:
        name: as in configs and results.
        identity: changes whenever its results may: with the weights it can choose from.
        weights: name -> SHA-256 of those that the system measured last was given; empty without.
        random: variants whose samples of one start differ.
    """

    name: str
    identity: str
    weights: dict[str, str]
    random: tuple[Variant, ...]

    def variants(self, system: System) -> tuple[Variant, ...]:
        """Those that make sense for a system, the best informed first."""
        ...

    def step_fs(self, system: System) -> float:
        """The shortest time between frames that it can give."""
        ...

    def propagator(self, system: System, variant: Variant) -> Propagator:
        """What moves the molecule.

        Raises:
            InputError: it does not know the molecule.
        """
        ...

    def start(self, past: Past, variant: Variant, samples: int, seed: int) -> PhaseState:
        """The states after which the propagator goes on.

        Args:
            past: of S starts.
            variant: one of `variants`.
            samples: K of each start, in a row. They differ in what is unknown: with `unknown`, and
                K > 1, in a friction drawn from its distribution.
            seed: of that draw.

        Returns:
            S·K replicas.
        """
        ...


@runtime_checkable
class KnowsEnergies(Protocol):
    """A candidate that has energies."""

    def energies_and_forces(self, system: System, positions: Float) -> tuple[Float, Float]:
        """Positions [F, N, 3] Å -> energies [F] eV, the isolated atoms' included, and forces
        [F, N, 3] eV/Å."""
        ...


@dataclass(frozen=True, eq=False)
class FeatureShift:
    """What becomes of diffused features between two geometries, of F pairs of frames.

    Attributes:
        features: ‖Z(T; A′) − Z(T; A)‖ [F].
        diffusivity: ‖A′ − A‖ [F].
        sizes: ‖Z(T; A)‖ [F].
    """

    features: Float
    diffusivity: Float
    sizes: Float


@runtime_checkable
class KnowsFeatures(Protocol):
    """A candidate that may have diffused features."""

    def feature_shift(self, system: System, before: Float, after: Float) -> FeatureShift:
        """From frames [F, N, 3], Å, each to its partner in ``after`` [F, N, 3].

        Raises:
            InputError: it has no diffusion.
        """
        ...


def open_candidate(name: str) -> Candidate:
    """The candidate of a name in a config.

    Raises:
        InputError: there is none; the message names those there are.
    """
    from shared.evaluation.oracles import ORACLES
    from shared.evaluation.trivial import TRIVIAL

    own: dict[str, Callable[[], Candidate]] = {**TRIVIAL, **ORACLES}
    if name in own:
        return own[name]()
    kind, colon, rest = name.partition(":")
    factories = _factories()
    if kind in factories and (colon or kind == name):
        opened: Candidate = resolve_name(factories[kind])(rest)
        return opened
    known = [*own, *(f"{kind}:NAME" for kind in factories)]
    raise InputError(f"models: no model {name}; there are {', '.join(known)}")


def limit(candidate: Candidate, variants: Sequence[Variant]) -> None:
    """Let a candidate have these of its variants alone; one without variants keeps what it has.

    Its `variants` then raises Skip where a system has none of them.
    """
    from shared.evaluation.rollout import Skip

    every = candidate.variants

    def some(system: System) -> tuple[Variant, ...]:
        found = every(system)
        chosen = tuple(v for v in found if v in variants or not v)
        if found and not chosen:
            raise Skip(f"{candidate.name} has none of {', '.join(variants)} on {system.data}")
        return chosen

    vars(candidate)["variants"] = some


def _factories() -> dict[str, str]:
    """Entry points of the group, name -> "module:function".

    An installation made before the group was there does not list it; the source tree's pyproject
    then does.
    """
    found = {entry.name: entry.value for entry in entry_points(group=GROUP)}
    source = Path(__file__).resolve().parents[2] / "pyproject.toml"
    if not found and source.exists():
        import tomllib

        project: dict[str, Any] = tomllib.loads(source.read_text(encoding="utf-8"))["project"]
        found = project.get("entry-points", {}).get(GROUP, {})
    return dict(found)


def repeated(values: Any, samples: int) -> Any:
    """Each row ``samples`` times in a row."""
    return None if values is None else np.repeat(values, samples, axis=0)
