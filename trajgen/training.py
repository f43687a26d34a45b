"""The Lightning module of the generator: loss, unrolling, validation, release."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch_geometric.data import Batch

from shared.checkpoint import CheckpointConfig, save
from shared.training import learning_rate_factor, optimisers
from trajgen.egt import Condition
from trajgen.load import load_model
from trajgen.model import Normalisation, TransitionModel
from trajgen.pairs import (
    FramePairs,
    Series,
    StepSampler,
    dense_groups,
    examples,
    steps_of,
)

# Validation: roll-outs of this length, from this many starts of each molecule.
VALIDATION_FS = 50.0
_VALIDATION_STARTS = 32


def measure_normalisation(
    series: list[Series], frames: tuple[int, int], lag_fs: tuple[float, float], h_fs: float | None
) -> Normalisation:
    """Root-mean-square sizes of velocity, acceleration, friction and residuals; see the class.

    Each molecule counts alike; residuals are measured at up to eight lags of the range.
    """
    span = np.unique(np.geomspace(*lag_fs, num=8).round(6))
    squares: dict[str, list[float]] = {"v": [], "a": [], "xi": []}
    steps: dict[float, list[float]] = {}
    kicks: dict[float, list[float]] = {}
    for s in series:
        rootm = np.sqrt(s.masses)[:, None]
        first, last = frames[0] + 2, min(frames[1], len(s.positions))
        x = s.positions[first:last] * rootm
        v = s.velocities[first:last] * rootm
        h = 1 if h_fs is None else steps_of(h_fs, s)
        squares["v"].append(float(np.mean(v**2)))
        squares["a"].append(float(np.mean(((v[h:] - v[:-h]) / (h * s.interval_fs)) ** 2)))
        if s.thermostat is not None:
            squares["xi"].append(float(np.mean(s.thermostat[first:last] ** 2)))
        for lag in span:
            k = max(1, round(lag / s.interval_fs))
            lag = k * s.interval_fs
            y = x[k:] - x[:-k] - lag * v[:-k]
            steps.setdefault(lag, []).append(float(np.mean(y**2)))
            kicks.setdefault(lag, []).append(float(np.mean((v[k:] - v[:-k]) ** 2)))

    def rms(values: list[float]) -> float:
        return math.sqrt(sum(values) / len(values)) if values else 1.0

    lags = sorted(steps)
    return Normalisation(
        velocity=rms(squares["v"]),
        acceleration=rms(squares["a"]),
        thermostat=rms(squares["xi"]),
        lags_fs=[float(lag) for lag in lags],
        step=[rms(steps[lag]) for lag in lags],
        kick=[rms(kicks[lag]) for lag in lags],
    )


def build_model(settings: Any, series: list[Series]) -> TransitionModel:
    """A new model for the series, or the one that `run.init` names."""
    data = settings.data
    if settings.run.init is not None:
        return load_model(settings.run.init)[0]
    torch.manual_seed(settings.run.seed)
    types = sorted({c for s in series for c in s.classes})
    normalisation = measure_normalisation(
        series, data.train, data.lag_fs, data.acceleration_interval_fs
    )
    return TransitionModel(
        types, normalisation, settings.network, settings.noise, history=data.history
    )


class Training(L.LightningModule):
    """One optimisation step per batch, by hand because there are two optimisers.

    Args:
        model: what is trained.
        series: the molecules, training and validation frames alike.
        settings: the sections of the config.
    """

    def __init__(self, model: TransitionModel, series: list[Series], settings: Any) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model, self.series, self.settings = model, series, settings
        self.type_index = {c: k for k, c in enumerate(model.types)}
        self._compiled: Any = None

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return optimisers(self.model, self.settings.optimiser)

    def train_dataloader(self) -> DataLoader[Batch]:
        run, data = self.settings.run, self.settings.data
        pairs = FramePairs(
            self.series,
            data.train,
            data.lag_fs,
            data.acceleration_interval_fs,
            run.per_molecule,
            run.unroll,
            self.type_index,
            run.seed,
        )
        world = self.trainer.world_size
        sampler = StepSampler(run.epoch_steps, world, self.trainer.global_rank)
        return DataLoader(pairs, sampler=sampler, batch_size=None)

    def val_dataloader(self) -> DataLoader[int]:
        return DataLoader(list(range(len(self.series))), batch_size=None)

    # -- one step -------------------------------------------------------------------------------

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        run, config = self.settings.run, self.settings.optimiser
        step = self.current_epoch * run.epoch_steps + batch_idx
        for optimiser in self.optimizers():
            optimiser.zero_grad()
        groups = list(dense_groups(batch))
        count = sum(len(g["lag"]) for g in groups)
        total = 0.0
        for g in groups:
            loss = self.loss(g).sum() / count
            self.manual_backward(loss)
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm)
        factor = learning_rate_factor(step, run.steps, config)
        for optimiser in self.optimizers():
            for group in optimiser.param_groups:
                group.setdefault("peak_lr", group["lr"])
                group["lr"] = group["peak_lr"] * factor
            optimiser.step()
        self.log("train_loss", total, prog_bar=True)

    def denoise(self, c: Condition, *noised: Tensor) -> tuple[Tensor, Tensor]:
        """The model; compiled on first use where the config asks for it."""
        if not self.settings.run.compile:
            return self.model(c, *noised)
        if self._compiled is None:
            torch._dynamo.config.cache_size_limit = 64
            self._compiled = torch.compile(self.model, dynamic=False)
        return self._compiled(c, *noised)

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
        xi = torch.nan_to_num(g["thermostat"])
        if loss.state_noise:
            per_rootm = g["mass"].rsqrt()[..., None]
            step, kick = (s[:, None, None] for s in model.scales(like))
            x = x + loss.state_noise * step * per_rootm * torch.randn_like(x)
            v = v + loss.state_noise * kick * per_rootm * torch.randn_like(v)
        total = torch.zeros_like(like)
        unroll = g["next_pos"].shape[2]
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
            target, target_xi = model.residual(
                c,
                g["next_pos"][:, :, k],
                g["next_vel"][:, :, k],
                torch.nan_to_num(g["next_thermostat"][:, k]),
            )
            sigma = model.noise.std(torch.ones_like(like), model.noise_scale(c))
            if k == 0:
                low = torch.rand_like(like) > loss.prior_fraction
                sigma = torch.where(
                    low, model.noise.std(torch.rand_like(like), model.noise_scale(c)), sigma
                )
            white, white_xi = model.white_noise(c)
            out, out_xi = self.denoise(
                c,
                target + sigma[:, None, None, None] * white,
                target_xi + sigma * white_xi,
                sigma,
            )
            total = total + (out - target).square().mean((1, 2)).sum(-1)
            if by_thermostat:
                total = total + loss.thermostat_weight * (out_xi - target_xi).square()
            before = v
            x, v, xi = model.advance(c, out, out_xi)
            if by_thermostat:
                has_acceleration = torch.zeros_like(like)
                has_thermostat = torch.ones_like(like)
            else:
                a, has_acceleration = (v - before) / like[:, None, None], torch.ones_like(like)
        return total / unroll

    # -- validation -----------------------------------------------------------------------------

    def validation_step(self, index: int, batch_idx: int) -> None:
        """RMSE after VALIDATION_FS of roll-out, as a ratio to persistence, and one-step errors."""
        with torch.no_grad():
            ratio, one = validate(self.model, self.series[index], self.settings, self.type_index)
        self.log(f"val_rmse_{self.series[index].name}", ratio, batch_size=1)
        self.log("val_rmse", ratio, batch_size=1, prog_bar=True)
        self.log("val_one_step", one, batch_size=1)


def validate(
    model: TransitionModel, series: Series, settings: Any, type_index: dict[str, int]
) -> tuple[float, float]:
    """RMSE/persistence after VALIDATION_FS from validation frames with history, one-step error."""
    data = settings.data
    lag = data.lag_fs[1]
    k = steps_of(lag, series)
    n = max(1, round(VALIDATION_FS / lag))
    h = (
        k
        if data.acceleration_interval_fs is None
        else steps_of(data.acceleration_interval_fs, series)
    )
    first, last = data.validation[0] + 2 + h, min(data.validation[1], len(series.positions))
    frames = np.linspace(first, last - n * k - 1, _VALIDATION_STARTS).astype(np.int64)
    full = np.full(len(frames), k), np.full(len(frames), h)
    g = next(dense_groups(examples(series, frames, *full, n, type_index)))
    x, v, a, xi = g["pos"], g["vel"], g["acc"], torch.nan_to_num(g["thermostat"])
    one = torch.ones_like(g["lag"])
    flags = {"has_acceleration": one, "has_thermostat": 0 * one}
    if model.history == "thermostat":
        flags = {"has_acceleration": 0 * one, "has_thermostat": one}
    error = 0.0
    for step in range(n):
        c = model.condition(
            g["type"], g["mass"], x, v, g["lag"], acceleration=a, thermostat=xi, **flags
        )
        sigma = model.noise.std(one, model.noise_scale(c))
        white, white_xi = model.white_noise(c)
        out, out_xi = model(c, sigma[:, None, None, None] * white, sigma * white_xi, sigma)
        if step == 0:
            target, _ = model.residual(c, g["next_pos"][:, :, 0], g["next_vel"][:, :, 0], 0 * one)
            error = float((out - target).square().mean().sqrt())
        before = v
        x, v, xi = model.advance(c, out, out_xi)
        a = (v - before) / lag
    end = g["next_pos"][:, :, -1]

    def rmse(guess: Tensor) -> float:
        off = guess - end
        return float((off - off.mean(1, keepdim=True)).square().sum(-1).mean().sqrt())

    return rmse(x) / rmse(g["pos"]), error


def data_files(data: Any) -> list[Path]:
    """The files a data section reads, for provenance."""
    if data.source == "xtb":
        return [Path(path) for path in data.molecules]
    from shared.data import md17

    load_one = md17.load_md17s if data.source == "md17s" else md17.load_md17
    return [load_one(name).path for name in data.molecules]


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
    model, data = module.model, settings.data
    config = CheckpointConfig(
        head="trajgen",
        name=settings.run.name,
        kind="residual",
        model={
            "types": model.types,
            "network": asdict(model.network_config),
            "noise": asdict(model.noise_config),
            "history": model.history,
        },
        elements=sorted({int(z) for s in module.series for z in s.numbers}),
        molecules={s.name: {"key": s.key, "atoms": len(s.numbers)} for s in module.series},
        normalisation=asdict(model.normalisation),
        temperature_K=500.0 if data.source.startswith("md17") else None,
        temperature_convention="3N",
        defaults={
            "lag_fs": data.lag_fs[1],
            "lag_range_fs": list(data.lag_fs),
            "acceleration_interval_fs": data.acceleration_interval_fs,
            "sampler": "heun",
            "steps": 1,
        },
        provenance=provenance(data_files(data)),
    )
    folder = out / settings.run.name
    save(folder, weights, config, card=f"# {settings.run.name}\n", overwrite=True)
    return folder
