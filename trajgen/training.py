"""The Lightning module of the generator: loss, unrolling, validation, release."""

import logging
import math
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from ase import Atoms
from torch import Tensor
from torch.utils.data import DataLoader

from shared.card import model_card, training_record
from shared.checkpoint import CheckpointConfig, save
from shared.config import files_of
from shared.data.locate import data_root
from shared.data.md17 import SURROGATE_MOLECULES
from shared.errors import InputError, first_line, some
from shared.kinetics import temperature
from shared.metrics.energetics import internal_dof
from shared.topology import CLASS_ROUNDS
from shared.training import epoch_loader, optimisers, schedulers
from trajgen.checkpoints import model_class
from trajgen.kernel import TransitionKernel
from trajgen.load import load_model
from trajgen.mechanics import conserve_angular_momentum
from trajgen.model import ResidualKernel
from trajgen.pairs import (
    FramePairs,
    Series,
    dense_groups,
    examples,
    steps_of,
)

_log = logging.getLogger(__name__)

# Validation starts from this many frames of each molecule.
_VALIDATION_STARTS = 32
# Mean temperatures of trajectories that are said to have one differ by no more than this factor: at
# constant energy two of 3BPA at 300 K differed by 1.146.
_ONE_TEMPERATURE = 8 / 7


def build_model(settings: Any, series: list[Series]) -> TransitionKernel:
    """A new model for the series, or the one that `run.init` names, ready to be trained.

    Raises:
        InputError: data that the mode cannot use; an initial model of another mode, or one that
            does not know the molecules.
    """
    run = settings.run
    types = sorted({c for s in series for c in s.classes})
    if run.init is None:
        torch.manual_seed(run.seed)
        try:
            return model_class(run.mode).from_settings(types, series, settings)
        except InputError:
            raise
        except ValueError as error:
            sections = {"residual": "sections network, noise"}
            section = sections.get(run.mode, f"section {run.mode}")
            raise InputError(f"config {section}: {error}") from None
    model, config = load_model(run.init)
    if model.kind != run.mode:
        raise InputError(f"run.init: checkpoint {config.name} is of mode {model.kind}")
    if model.history != settings.data.history:
        raise InputError(
            f"run.init: checkpoint {config.name} hands on the {model.history}; "
            f"set data.history: {model.history}"
        )
    for s in series:
        if not set(s.classes) <= set(model.types):
            raise InputError(
                f"run.init: checkpoint {config.name} has not seen the kinds of atoms in {s.name}; "
                f"it knows {some(config.molecules)}, by data.class_rounds "
                f"{config.defaults.get('class_rounds', CLASS_ROUNDS)}"
            )
    if isinstance(model, ResidualKernel):
        model.set_friction(None)  # they belong to the weights as they were
        model.modes = model.stretches = None
    return model.train()


class Training(L.LightningModule):
    """One optimisation step per batch, by hand because there can be two optimisers.

    Random numbers depend on the seed, the step and the process alone, so that a resumed training
    repeats the uninterrupted one.

    Args:
        model: what is trained.
        series: the molecules.
        settings: the sections of the config.
        more: further trajectories of these molecules, to train on.
        held_out: the molecules to validate on; None: other frames of the same.
    """

    def __init__(
        self,
        model: TransitionKernel,
        series: list[Series],
        settings: Any,
        more: Sequence[Series] = (),
        held_out: Sequence[Series] | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model, self.series, self.settings = model, series, settings
        self.held_out = series if held_out is None else held_out
        self.type_index = {c: k for k, c in enumerate(model.types)}
        self._compiled: list[Any] = []  # a list, so that its weights are not stored twice
        self.step = 0
        self._validated: list[float] = []
        run, data = settings.run, settings.data
        self.pairs = FramePairs(
            series,
            data.train,
            data.lag_fs,
            data.acceleration_interval_fs,
            run.per_molecule,
            run.unroll,
            self.type_index,
            run.seed,
            more,
            run.molecules,
        )
        keys: dict[str, str] = {}
        for s in series:
            if keys.setdefault(s.name, s.key) != s.key:
                raise InputError(f"{s.name}: two molecules have this name; rename a file")
        for s in self.held_out:
            if not set(s.classes) <= set(self.type_index):
                raise InputError(
                    f"{s.name}: no molecule to train on has some of its kinds of atoms; "
                    f"set data.class_rounds below {settings.data.class_rounds}"
                )
            self._validation_examples(s)  # bad input is refused now, not after the first epoch

    def configure_optimizers(self) -> Any:
        run, config = self.settings.run, self.settings.optimiser
        chosen = optimisers(self.model, config)
        return chosen, schedulers(chosen, config, run.steps)

    def train_dataloader(self) -> Any:
        """Items are steps of the epoch. What a step sees is drawn in `training_step`: when a
        training is resumed, Lightning does not tell a sampler which epoch it is in."""
        return epoch_loader(self.settings.run, self.trainer.current_epoch)

    def val_dataloader(self) -> Any:
        """Items are indices of molecules."""
        return DataLoader(range(len(self.held_out)), batch_size=None)  # type: ignore[arg-type]

    # -- one step -------------------------------------------------------------------------------

    def training_step(self, item: int, batch_idx: int) -> None:
        run, config = self.settings.run, self.settings.optimiser
        self.step = step = self.current_epoch * run.epoch_steps + batch_idx
        torch.manual_seed(
            (run.seed * 1_000_003 + step) * self.trainer.world_size + self.global_rank
        )
        chosen = _as_list(self.optimizers())
        for optimiser in chosen:
            optimiser.zero_grad()
        batch = self.pairs[step * self.trainer.world_size + self.global_rank]
        groups = list(dense_groups(batch.to(self.device)))
        count = sum(len(g["lag"]) for g in groups)
        total = 0.0
        for g in groups:
            loss = self.loss(g).sum() / count
            self.manual_backward(loss)
            total += float(loss.detach())
        if not math.isfinite(total):
            raise InputError(
                f"the loss is not finite at step {step}; lower optimiser.learning_rate or check "
                "the data"
            )
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm)
        for optimiser in chosen:
            optimiser.step()
        if config.schedule == "cosine":
            for scheduler in _as_list(self.lr_schedulers()):
                scheduler.step()
        self.log("train_loss", total, prog_bar=True)

    def denoise(self, c: Any, noised: Tensor, sigma: Tensor) -> Tensor:
        """The model; compiled on first use where the config asks for it, and the compiler can."""
        if not (self.settings.run.compile and self.training):
            return self.model(c, noised, sigma)
        if self._compiled:
            return self._compiled[0](c, noised, sigma)
        torch._dynamo.config.recompile_limit = 64
        fast = torch.compile(self.model, dynamic=False)
        try:
            out = fast(c, noised, sigma)
        except Exception as error:  # whatever a compiler raises
            _log.warning("not compiled (%s): this will be slower", first_line(error))
            fast, out = self.model, self.model(c, noised, sigma)
        self._compiled.append(fast)
        return out

    def loss(self, g: dict[str, Tensor]) -> Tensor:
        """Loss of each example of a dense group [G], averaged over the lags unrolled."""
        loss, model, like = self.settings.loss, self.model, g["lag"]
        draw = torch.rand_like(like)
        none = draw < loss.no_history_fraction
        only_acceleration = ~none & (draw < loss.no_history_fraction + loss.acceleration_fraction)
        by_thermostat = model.history == "thermostat"
        has_acceleration = (only_acceleration if by_thermostat else ~none).to(like.dtype)
        has_thermostat = (~none & ~only_acceleration & by_thermostat).to(like.dtype)
        x, v, a = g["pos"], g["vel"], g["acc"]
        xi: Tensor | None = torch.nan_to_num(g["thermostat"])
        if loss.state_noise:
            dx, dv = model.spread(g["mass"], like)
            x = x + loss.state_noise * dx * torch.randn_like(x)
            v = v + loss.state_noise * dv * torch.randn_like(v)
        total = torch.zeros_like(like)
        unroll = g["next_pos"].shape[2]
        balance = loss.balance_at(self.step) if self.training else 0.0
        for k in range(unroll):
            c = model.condition(
                g["type"],
                g["mass"],
                x,
                v,
                like,
                acceleration=a,
                has_acceleration=has_acceleration,
                thermostat=xi,
                has_thermostat=has_thermostat,
            )
            target = model.encode(
                c,
                g["next_pos"][:, :, k],
                g["next_vel"][:, :, k],
                torch.nan_to_num(g["next_thermostat"][:, k]),
            )
            s = torch.ones_like(like)
            if k == 0:
                last = model.noise.last_time
                anywhere = last + (1 - last) * torch.rand_like(like)
                s = torch.where(torch.rand_like(like) < loss.prior_fraction, s, anywhere)
            sigma = model.noise.std(s, model.noise_scale(c))
            out = self.denoise(c, target + sigma[:, None] * model.white_noise(c), sigma)
            total = total + model.loss(c, out, target, sigma, loss.thermostat_weight)
            before = x, v
            x, v, xi = model.decode(c, out)
            if loss.angular_momentum:
                v = conserve_angular_momentum(before, (x, v), g["mass"])
            if balance:
                total = total + balance * self.imbalance(g, before, (x, v), k)
            a, has_acceleration = (v - before[1]) / like[:, None, None], torch.ones_like(like)
            if by_thermostat:
                has_acceleration, has_thermostat = torch.zeros_like(like), torch.ones_like(like)
        return total / unroll

    def imbalance(
        self,
        g: dict[str, Tensor],
        before: tuple[Tensor, Tensor],
        now: tuple[Tensor, Tensor],
        k: int,
    ) -> Tensor:
        """How far mean squares are off, relative, averaged over the atoms: classes apart.

        A regression shrinks what it predicts by its own error, ⟨v̂²⟩ = ⟨v²⟩ − ⟨error²⟩, a loss of
        energy that a roll-out repeats at every step. Compared are ⟨v²⟩ and ⟨(x' − x − Δv)²⟩, what
        forces did to the positions, of each class of atoms over the group, in lag k.

        Args:
            g: the examples. before, now: positions and velocities [G, N, 3] at the ends of lag k.
        """
        kinds = torch.nn.functional.one_hot(g["type"], len(self.model.types)).to(now[0].dtype)
        count = kinds.sum((0, 1))
        lag = g["lag"][:, None, None]
        true = g["next_pos"][:, :, k], g["next_vel"][:, :, k]
        was = (g["pos"], g["vel"])
        if k:
            was = g["next_pos"][:, :, k - 1], g["next_vel"][:, :, k - 1]

        def gap(ours: Tensor, theirs: Tensor) -> Tensor:
            mine, wanted = (
                torch.einsum("gnd,gnc->c", values.square(), kinds) for values in (ours, theirs)
            )
            relative = (mine - wanted) / wanted.clamp(min=torch.finfo(mine.dtype).tiny)
            return (relative.square() * count).sum() / count.sum()

        bent = gap(now[0] - before[0] - lag * before[1], true[0] - was[0] - lag * was[1])
        return gap(now[1], true[1]) + bent

    # -- validation -----------------------------------------------------------------------------

    def validation_step(self, index: int, batch_idx: int) -> None:
        """The loss, and the error of a roll-out as a ratio to persistence."""
        series, run = self.held_out[index], self.settings.run
        torch.manual_seed(index)  # the same noise every time, so that validations compare
        with torch.no_grad():
            g = self._validation_examples(series)
            loss = float(self.loss({**g, **_first_lag(g)}).mean())
            ratio, one = self._roll_out(g)
        self._validated.append(loss if run.monitor == "val_loss" else ratio)
        self.log("val_loss", loss, batch_size=1)
        self.log(f"val_rmse_{series.name}", ratio, batch_size=1)
        self.log("val_rmse", ratio, batch_size=1, prog_bar=True)
        self.log("val_one_step", one, batch_size=1)

    def on_validation_epoch_end(self) -> None:
        mean = sum(self._validated) / len(self._validated)
        self._validated.clear()
        if self.settings.optimiser.schedule == "plateau":
            for scheduler in _as_list(self.lr_schedulers()):
                scheduler.step(mean)

    def _validation_examples(self, series: Series) -> dict[str, Tensor]:
        """Evenly spaced validation frames of one molecule and what follows them.

        Raises:
            InputError: the range holds none.
        """
        data = self.settings.data
        k = steps_of(data.lag_fs[1], series)
        n = max(1, round(self.settings.run.validation_fs / data.lag_fs[1]))
        h_fs = data.acceleration_interval_fs
        h = k if h_fs is None else steps_of(h_fs, series)
        first, end = data.validation[0] + 2 + h, min(data.validation[1], len(series.positions))
        last = end - 1 - n * k
        if last < first:
            raise InputError(
                f"{series.name}: {max(0, end - data.validation[0])} frames in data.validation "
                f"{list(data.validation)} are too few for roll-outs over {n} lags; "
                "see run.validation_fs"
            )
        frames = np.linspace(first, last, _VALIDATION_STARTS).astype(np.int64)
        full = np.full(len(frames), k), np.full(len(frames), h)
        batch = examples(series, frames, *full, n, self.type_index).to(self.device)
        return next(dense_groups(batch))

    def _roll_out(self, g: dict[str, Tensor]) -> tuple[float, float]:
        """RMSE/persistence at the last lag of the examples, and the error of the first, in Å."""
        model, sampling = self.model, self.settings.sampling
        x, v, a = g["pos"], g["vel"], g["acc"]
        xi: Tensor | None = torch.nan_to_num(g["thermostat"])
        one = torch.ones_like(g["lag"])
        by_thermostat = model.history == "thermostat"
        known = {
            "has_acceleration": one * (not by_thermostat),
            "has_thermostat": one * by_thermostat,
        }

        def rmse(guess: Tensor, lags: int) -> float:
            off = guess - g["next_pos"][:, :, lags]
            return float((off - off.mean(1, keepdim=True)).square().sum(-1).mean().sqrt())

        first_error = 0.0
        for step in range(g["next_pos"].shape[2]):
            c = model.condition(
                g["type"], g["mass"], x, v, g["lag"], acceleration=a, thermostat=xi, **known
            )
            before = x, v
            x, v, xi = model.decode(c, model.draw(c, sampling.sampler, sampling.steps))
            if self.settings.loss.angular_momentum:
                v = conserve_angular_momentum(before, (x, v), g["mass"])
            a = (v - before[1]) / g["lag"][:, None, None]
            if step == 0:
                first_error = rmse(x, 0)
        return rmse(x, -1) / rmse(g["pos"], -1), first_error


def _first_lag(g: dict[str, Tensor]) -> dict[str, Tensor]:
    """What follows one lag later, as examples without unrolling have it."""
    return {
        name: g[name].narrow(-2 if g[name].ndim == 4 else -1, 0, 1)
        for name in ("next_pos", "next_vel", "next_thermostat")
    }


def _as_list(value: Any) -> list[Any]:
    """What Lightning gives bare where there is only one."""
    return value if isinstance(value, list) else [value]


def data_files(data: Any) -> list[Path]:
    """The files a data section reads, for provenance."""
    more = files_of(data.more, "data.more")
    if data.source == "xtb":
        return [*map(Path, data.molecules), *more]
    if data.source == "isomers":
        from shared.data.isomers import ISOMERS_XTB

        return [data_root() / ISOMERS_XTB, *more]
    from shared.data import md17

    load_one = md17.load_md17s if data.source == "md17s" else md17.load_md17
    return [*(load_one(name).path for name in data.molecules), *more]


def release(module: Training, settings: Any, out: Path) -> Path:
    """Write the averaged weights of the best epoch as a checkpoint that can be shipped."""
    from shared.provenance import provenance

    best = out / "best.ckpt"
    state = torch.load(best, map_location="cpu", weights_only=True)
    weights = {
        name.removeprefix("model."): value.contiguous()
        for name, value in state["state_dict"].items()
        if name.startswith("model.")
    }
    model, data, sampling = module.model, settings.data, settings.sampling
    entries, normalisation = model.description()
    config = CheckpointConfig(
        head="trajgen",
        name=settings.run.name,
        kind=model.kind,
        model=entries,
        elements=sorted({int(z) for s in module.series for z in s.numbers}),
        molecules=molecules_of(module.series),
        normalisation=normalisation,
        temperature_K=_temperature(module.series, data),
        temperature_convention="3N" if data.source.startswith("md17") else "3N-6",
        defaults={
            "lag_fs": data.lag_fs[1],
            "lag_range_fs": list(data.lag_fs),
            "acceleration_interval_fs": data.acceleration_interval_fs,
            "sampler": sampling.sampler,
            "steps": sampling.steps,
            "keep_angular_momentum": settings.loss.angular_momentum,
            **({"class_rounds": data.class_rounds} if data.class_rounds < CLASS_ROUNDS else {}),
        },
        provenance={
            "data": {"source": data.source, "validation_molecules": _others(module)},
            "training": training_record(
                settings,
                state,
                {"train": list(data.train), "validation": list(data.validation)},
            ),
            **provenance(data_files(data)),
        },
    )
    card = _card(config, sum(value.numel() for value in weights.values()))
    return save(out / settings.run.name, weights, config, card, overwrite=True)


def _temperature(series: Sequence[Series], data: Any) -> float | None:
    """That of the training frames, K: what the data set states, else what their velocities have.

    None where trajectories differ by more than `_ONE_TEMPERATURE`, and where velocities are
    differences over several frames, which are too slow."""
    if data.source.startswith(("md17", "isomers")):
        return 500.0
    found = []
    for s in series:
        velocities = s.velocities[data.train[0] + 2 : data.train[1]].astype(np.float64)
        dof = round(internal_dof(s.positions[0], s.numbers)["all"])
        if not np.isfinite(velocities).all():
            return None
        if dof > 0:
            found.append(float(temperature(velocities, s.masses, dof).mean()))
    if not found or max(found) > _ONE_TEMPERATURE * min(found):
        return None
    return round(float(np.mean(found)), 1)


def _others(module: Training) -> list[str]:
    """The molecules that validate and do not train."""
    trained = {s.name for s in module.series}
    return [s.name for s in module.held_out if s.name not in trained]


def molecules_of(series: Sequence[Series]) -> dict[str, Any]:
    """What a checkpoint recognises molecules by; one of several series goes by its formula, with a
    number where another molecule has it."""
    of_key: dict[str, list[Series]] = {}
    for s in series:
        of_key.setdefault(s.key, []).append(s)
    found = {}
    for key, own in of_key.items():
        formula = Atoms(own[0].numbers).get_chemical_formula()
        name = own[0].name if len(own) == 1 else formula
        if name in found:
            name = next(f"{name}-{k}" for k in count(2) if f"{name}-{k}" not in found)
        found[name] = {"key": key, "atoms": len(own[0].numbers)}
    return found


def _card(config: CheckpointConfig, parameters: int) -> str:
    """The model card of a generator."""
    defaults, molecules = config.defaults, some(config.molecules)
    known = f"Only {molecules}, known by their bonds: reactions are out of reach."
    if (rounds := defaults.get("class_rounds")) is not None:
        known = (
            f"Molecules whose atoms are of kinds that those of training have, told by their "
            f"elements and what is within {rounds} bonds (1: the neighbours): reactions are out "
            "of reach."
        )
    reached = ""
    if found := config.provenance["training"]["validation"]:
        reached = (
            f"after a step off by {found['one_step']:.3g} Å, at the end of the roll-outs by "
            f"{found['rmse']:.3g} of persistence"
        )
    (first, end), (start, stop) = config.provenance["training"]["split"].values()
    data = config.provenance["data"]
    frames = (
        f"frames {first} to {end} train, {start} to {stop} validate (the end of a range is not "
        "part of it)."
    )
    if others := data["validation_molecules"]:
        frames = (
            f"all frames from {first} to {end} of {len(config.molecules)} molecules train, from "
            f"{start} to {stop} of {some(others)} validate, and five more molecules, those that "
            "move most, test."
        )
    measured = any(name in config.molecules for name in SURROGATE_MOLECULES)
    return model_card(
        config,
        summary=f"A transition kernel for {molecules}, mode {config.kind}: a step of "
        f"{defaults['lag_fs']:g} fs, sampler {defaults['sampler']} (steps {defaults['steps']}), "
        f"{parameters} parameters.",
        use=[
            f"python -m trajgen.sample --from FILE --checkpoint {config.name}",
            *([f"python benchmarks/generator.py --checkpoint {config.name}"] if measured else []),
        ],
        data=f"`{data['source']}`: {frames}",
        validation=reached,
        limits=[
            known,
            f"No frames closer than {defaults['lag_range_fs'][0]:g} fs.",
        ],
    )
