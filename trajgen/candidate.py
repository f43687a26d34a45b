"""The generator as a `shared.evaluation.candidates.Candidate`: `trajgen:NAME` in a config."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from shared.checkpoint import Checkpoint, shipped
from shared.evaluation.candidates import Variant, repeated
from shared.evaluation.systems import Past, System
from shared.evaluation.trivial import velocities_at_start
from shared.kinetics import backward_velocity
from shared.state import PhaseState
from trajgen.load import build, choose, open_checkpoint
from trajgen.rollout import Generator

__all__ = ["GeneratorCandidate", "open_candidate"]

_RELAXATION_FS = 100.0  # of the thermostat of `nvt`


class GeneratorCandidate:
    """A checkpoint with its own lag, sampler and steps, fine-tuned weights where they ship.

    Of the past it takes the velocity, and (`fitted`) the acceleration that shows the friction; a
    one-step predictor takes the velocity alone, and nothing of it is random. Where the reference
    has no friction of its own to learn, `nvt` holds its temperature besides.
    """

    def __init__(self, name: str, checkpoint: Checkpoint) -> None:
        self.name, self._checkpoint = name, checkpoint
        self.weights: dict[str, str] = {}
        self._predictor = checkpoint.config.kind == "regression"
        self.random: tuple[Variant, ...] = () if self._predictor else ("fitted", "unknown", "nvt")
        beside = [checkpoint.folder, *_specialists(checkpoint)]
        self.identity = " ".join(open_checkpoint(str(f)).config.weights_sha256 for f in beside)
        self._built: dict[str, Generator] = {}

    def variants(self, system: System) -> tuple[Variant, ...]:
        if self._predictor:
            return ("unknown",)
        held: tuple[Variant, ...] = () if system.thermostat == "nose-hoover" else ("nvt",)
        return ("fitted", "unknown", *held)

    def step_fs(self, system: System) -> float:
        return self.propagator(system, "fitted").lag_fs

    def propagator(self, system: System, variant: Variant) -> Generator:
        chosen, _ = choose(self._checkpoint, system.numbers, system.reference)
        held = variant == "nvt"
        key = f"{chosen.config.name} {system.data} {system.name}{' nvt' * held}"
        if key not in self._built:
            made = Generator(
                build(chosen),
                chosen.config,
                reference=system.reference,
                thermostat_time_fs=_RELAXATION_FS if held else None,
                thermostat_temperature_K=system.temperature_K,
            )
            self._built = {key: made}
        self.weights = {chosen.config.name: chosen.config.weights_sha256}  # of this system
        return self._built[key]

    def start(self, past: Past, variant: Variant, samples: int, seed: int) -> PhaseState:
        generator, x = self.propagator(past.system, variant), past.positions
        state = PhaseState(past.system.numbers, x[:, -1], velocities_at_start(past))
        interval = past.system.interval_fs
        back = round(generator.acceleration_interval_fs / interval)
        if variant != "unknown" and x.shape[1] >= back + 3:
            before = backward_velocity(x[:, -1 - back], x[:, -2 - back], x[:, -3 - back], interval)
            state = replace(state, previous_velocities=before, previous_interval_fs=back * interval)
        arrays = ("positions", "velocities", "previous_velocities")
        state = replace(state, **{name: repeated(getattr(state, name), samples) for name in arrays})
        if variant == "unknown" and samples > 1 and generator.model.history == "thermostat":
            normalisation: Any = generator.model.normalisation
            spread = float(normalisation.thermostat)
            drawn = np.random.default_rng(seed).normal(scale=spread, size=(state.n_replicas, 1))
            state = replace(state, thermostat=drawn)
        return state

    def evaluations_per_ps(self, system: System) -> float | None:
        """Network evaluations per ps of one replica; of an adaptive sampler, from rest."""
        generator = self.propagator(system, "unknown")
        counted = 0

        def count(*_: object) -> None:
            nonlocal counted
            counted += 1

        velocities = np.zeros((1, *system.reference.shape))
        start = PhaseState(system.numbers, system.reference[None], velocities)
        hook = generator.model.register_forward_hook(count)
        compiled, generator.compile = generator.compile, False
        try:
            next(iter(generator.propagate(start, 1, generator.lag_fs, seed=0)))
        finally:
            hook.remove()
            generator.compile = compiled
        return counted * 1000.0 / generator.lag_fs


def _specialists(checkpoint: Checkpoint) -> list[Path]:
    """Folders of the fine-tuned checkpoints that ship beside one."""
    known = shipped("trajgen")
    if checkpoint.folder not in known.values():
        return []
    return [f for name, f in sorted(known.items()) if name.startswith(f"{checkpoint.folder.name}-")]


def open_candidate(name: str) -> GeneratorCandidate:
    """A shipped generator, or one in a folder.

    Raises:
        InputError: there is none; the message names those there are.
    """
    return GeneratorCandidate(f"trajgen:{name}", open_checkpoint(name))
