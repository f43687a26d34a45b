"""The Lightning glue both heads use: trainer, averaged weights, learning rates, optimisers.

Matrices are trained with Muon (Jordan et al., 2024: momentum, orthogonalised), everything else with
Adam: in equal time on the score network this left 0.16 of the error of persistence after 50 fs,
where Adam alone left 0.41 (docs/training.md).
"""

import io
import math
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn
from torch.optim import AdamW, Muon, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau
from torch.utils.data import DataLoader

from shared.checkpoint import CONFIG
from shared.config import KEPT, check_same_run, check_values, store_run
from shared.errors import InputError
from shared.files import replacing

if TYPE_CHECKING:
    import lightning

# What may change when a training is resumed: how long, how fast and where, not what is learned.
_FREE = (
    "calibration",
    "run.accelerator",
    "run.compile",
    "run.devices",
    "run.keep_every",
    "run.max_minutes",
    "run.name",
    "run.nodes",
    "run.out",
    "run.resume",
    "run.steps",
    "run.validation_batch",
)


@dataclass(frozen=True)
class OptimiserConfig:
    """How the weights move.

    Args:
        learning_rate: of Adam, at its peak.
        matrix_learning_rate: of Muon, at its peak; null trains everything with Adam.
        weight_decay: decoupled (AdamW), of matrices and larger tensors.
        amsgrad: Adam's second moment never falls (Reddi et al., ICLR 2018).
        warmup_steps: of the cosine schedule.
        schedule: cosine, from the peak to `final_fraction` of it, after a linear warm-up; or
            plateau, which lowers the rates whenever validation stops improving.
        final_fraction: learning rate at the end, as a fraction of the peak (plateau: the least).
        plateau_factor: what a plateau multiplies the rates by.
        plateau_patience: validations without improvement that make a plateau.
        clip_norm: largest norm of the gradient.
        ema_decay: of the averaged weights that are validated and released.
    """

    learning_rate: float = 2e-3
    matrix_learning_rate: float | None = 1e-2
    weight_decay: float = 0.0
    amsgrad: bool = False
    schedule: Literal["cosine", "plateau"] = "cosine"
    warmup_steps: int = 100
    final_fraction: float = 0.02
    plateau_factor: float = 0.5
    plateau_patience: int = 10
    clip_norm: float = 1.0
    ema_decay: float = 0.999

    def __post_init__(self) -> None:
        check_values(
            self,
            "optimiser",
            "learning_rate > 0",
            "matrix_learning_rate > 0",
            "weight_decay >= 0",
            "warmup_steps >= 0",
            "final_fraction >= 0",
            "final_fraction <= 1",
            "plateau_factor > 0",
            "plateau_factor < 1",
            "plateau_patience >= 0",
            "clip_norm > 0",
            "ema_decay >= 0",
            "ema_decay < 1",
        )


def optimisers(module: nn.Module, config: OptimiserConfig) -> list[Optimizer]:
    """Muon for the matrices of linear maps, Adam for the rest (or for all).

    Matrices are the weights of `nn.Linear` and what lies in an `nn.ParameterList`.
    """
    matrices = [] if config.matrix_learning_rate is None else _matrices(module)
    chosen = {id(weight) for weight in matrices}
    rest = [weight for weight in module.parameters() if id(weight) not in chosen]
    decay = config.weight_decay
    groups = [
        {"params": [w for w in rest if w.ndim > 1], "weight_decay": decay},
        {"params": [w for w in rest if w.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    adam = AdamW(groups, lr=config.learning_rate, amsgrad=config.amsgrad)
    if config.matrix_learning_rate is None or not matrices:
        return [adam]
    return [Muon(matrices, lr=config.matrix_learning_rate, weight_decay=decay), adam]


def _matrices(module: nn.Module) -> list[nn.Parameter]:
    """Weights of linear maps that have more than two rows and columns."""
    found: list[Any] = []
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            found.append(layer.weight)
        elif isinstance(layer, nn.ParameterList):
            found.extend(layer)
    return [weight for weight in found if weight.ndim == 2 and min(weight.shape) > 2]


def learning_rate_factor(step: int, total: int, config: OptimiserConfig) -> float:
    """Warm-up, then a cosine from 1 to `final_fraction` at the last step."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / total)))
    return warm * (config.final_fraction + (1 - config.final_fraction) * cosine)


def schedulers(
    optimisers: list[Optimizer], config: OptimiserConfig, total: int
) -> list[LRScheduler]:
    """One for each optimiser: stepped after every training step (cosine), or with the monitored
    value after every validation (plateau)."""
    if config.schedule == "plateau":
        return [
            ReduceLROnPlateau(
                optimiser,
                factor=config.plateau_factor,
                patience=config.plateau_patience,
                min_lr=config.final_fraction * optimiser.param_groups[0]["lr"],
            )
            for optimiser in optimisers
        ]
    factor = partial(learning_rate_factor, total=total, config=config)
    return [LambdaLR(optimiser, factor) for optimiser in optimisers]


def steps_after(run: Any, epoch: int) -> int:
    """Training steps at the end of an epoch, counted from 0; the last one may be shorter."""
    return int(min(run.steps, (epoch + 1) * run.epoch_steps))


def epoch_loader(run: Any, epoch: int) -> "DataLoader[int]":
    """Items are the steps of an epoch, which ends where the training does."""
    steps: Any = range(epoch * run.epoch_steps, steps_after(run, epoch))
    return DataLoader(steps, batch_size=None)


def averaged(decay: float, folder: Path, epoch_steps: int, keep_every: int | None = None) -> Any:
    """Lightning's exponential moving average, with a faster start: min(decay, (k+1)/(k+10)).

    Args:
        decay: of the average.
        folder: where `keep_every` puts the averaged weights, as <step>.safetensors, with the names
            of the released checkpoint.
        epoch_steps: training steps of an epoch.
        keep_every: training steps between those; None: none are kept.
    """
    from lightning.pytorch.callbacks import WeightAveraging
    from safetensors.torch import save

    def update(average: Any, current: Any, count: Any) -> None:
        k = float(count)
        if average[0].is_floating_point():  # tensors come sorted by type
            weight = 1 - min(decay, (k + 1) / (k + 10))
            torch._foreach_lerp_(list(average), list(current), weight)

    class FastStartEMA(WeightAveraging):
        def __init__(self) -> None:
            super().__init__(multi_avg_fn=update)

        # Several optimisers each count a step; average once per batch instead.
        def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
            return False

        def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
            assert self._average_model is not None
            trainer, module, _, _, batch = args
            self._average_model.update_parameters(module)
            step = trainer.current_epoch * epoch_steps + batch + 1
            if keep_every and step % keep_every == 0 and trainer.is_global_zero:
                folder.mkdir(parents=True, exist_ok=True)
                weights = self._average_model.module.state_dict()
                tensors = {k.partition(".")[2]: v.contiguous() for k, v in weights.items()}
                with replacing(folder / f"{step}.safetensors") as part:
                    part.write_bytes(save(tensors))

    return FastStartEMA()


def validation_kept() -> Any:
    """A callback that puts the last metrics `val_NAME` into a state: its `validation` by NAME."""
    from lightning.pytorch.callbacks import Callback

    class ValidationKept(Callback):
        def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: Any) -> None:
            checkpoint["validation"] = {
                name.removeprefix("val_"): float(value)
                for name, value in trainer.callback_metrics.items()
                if name.startswith("val_")
            }

    return ValidationKept()


def time_limit(minutes: float) -> Any:
    """A callback that stops a training after the first validation past so many minutes."""
    from lightning.pytorch.callbacks import Callback

    class TimeLimit(Callback):
        def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
            self.began = time.monotonic()

        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            over = time.monotonic() - self.began > 60 * minutes
            if trainer.strategy.reduce_boolean_decision(over, all=False):
                trainer.should_stop = True

    return TimeLimit()


def renaming_io() -> Any:
    """Lightning's checkpoint files, written under a temporary name in their folder and renamed:
    a full disk or a kill leaves the earlier one as it was."""
    from lightning.pytorch.plugins.io import TorchCheckpointIO

    class RenamingIO(TorchCheckpointIO):
        def save_checkpoint(
            self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
        ) -> None:
            path = Path(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            content = io.BytesIO()  # torch's own writing says nothing of a disk that is full
            torch.save(checkpoint, content)
            with replacing(path) as part:
                part.write_bytes(content.getvalue())

    return RenamingIO()


def fit(module: Any, settings: Any, *, data: Iterable[Path]) -> bool:
    """Train, or go on training, as the sections `run` and `optimiser` of a config say.

    Args:
        module: a LightningModule.
        settings: all sections of the config; stored in the run folder.
        data: files that were read, for the record.

    Returns:
        whether this process is the one of a data-parallel run that shall release the weights.

    Raises:
        InputError: a run folder that cannot be made, or that holds a run that is not to be resumed
            or not this one; a device that is not there.
        KeyboardInterrupt: Ctrl-C.
    """
    run, out, files = settings.run, Path(settings.run.out), list(data)
    last = out / "last.ckpt"
    resume = run.resume and last.exists()
    trainer = make_trainer(
        out,
        steps=run.steps,
        epoch_steps=run.epoch_steps,
        monitor=run.monitor,
        ema_decay=settings.optimiser.ema_decay,
        accelerator=run.accelerator,
        devices=run.devices,
        nodes=run.nodes,
        progress=sys.stderr.isatty(),
        keep_every=run.keep_every,
        max_minutes=run.max_minutes,
    )
    if trainer.is_global_zero:  # the others may come when this one has begun to write
        if resume:
            check_same_run(out, settings, data=files, free=_FREE)
            _check_state(last, module, run)
        elif not run.resume and any((out / name).exists() for name in (last.name, run.name)):
            raise InputError(
                f"{out}: holds a training already; go on with it by run.resume: true, or choose "
                "another run.out"
            )
        if (out / run.name).exists() and not (out / run.name / CONFIG).is_file():
            raise InputError(f"run.name: {out / run.name} is there and holds no checkpoint")
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"run.out: {error}") from None
        store_run(out, settings, seed=run.seed, data=files)
    state = last if resume else None
    try:
        trainer.fit(module, ckpt_path=state, weights_only=True if resume else None)
    except SystemExit as stop:
        if stop.code == 1:  # Lightning's answer to Ctrl-C
            raise KeyboardInterrupt from None
        raise
    return bool(trainer.is_global_zero)


def _check_state(path: Path, module: nn.Module, run: Any) -> None:
    """Refuse a training state that is damaged, of another model, or past the last step.

    Loading a state changes the module, which does not matter here: Lightning loads it again.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        module.load_state_dict(state["state_dict"])
        done = state["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["processed"]
    except Exception as error:  # a damaged file can raise anything
        raise InputError(
            f"{path}: cannot be resumed ({type(error).__name__}: {str(error).strip():.100}); "
            "start anew in another run.out"
        ) from None
    if run.steps < done or (done % run.epoch_steps and run.steps != done):
        within = " (within an epoch)" if done % run.epoch_steps else ""
        raise InputError(f"{path}: stands at step {done}{within}, run.steps is {run.steps}")


def make_trainer(
    folder: Path,
    *,
    steps: int,
    epoch_steps: int,
    monitor: str,
    ema_decay: float,
    devices: int | str = 1,
    accelerator: str = "cpu",
    nodes: int = 1,
    progress: bool = True,
    keep_every: int | None = None,
    max_minutes: float | None = None,
) -> "lightning.Trainer":
    """A Trainer that logs to CSV and TensorBoard and keeps the best and the last checkpoint.

    Args:
        folder: run folder.
        steps: how many.
        epoch_steps: those of an epoch, the stretch between two validations.
        monitor: metric to be small.
        ema_decay: of the averaged weights.
        devices, accelerator, nodes: Lightning's; several devices (of a node) or nodes train
            data-parallel.
        progress: a progress bar.
        keep_every: steps between the averaged weights that are kept in `KEPT`; None: none are.
        max_minutes: as `time_limit`; None: no limit.

    Raises:
        InputError: a device that is not there.
    """
    import lightning as L
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    keep = ModelCheckpoint(
        dirpath=folder,
        filename="best",
        monitor=monitor,
        mode="min",
        save_last=True,
        enable_version_counter=False,
    )
    try:
        return L.Trainer(
            default_root_dir=folder,
            max_epochs=-(-steps // epoch_steps),
            reload_dataloaders_every_n_epochs=1,  # the last epoch may be shorter
            accelerator=accelerator,
            devices=devices,
            num_nodes=nodes,
            callbacks=[
                averaged(ema_decay, folder / KEPT, epoch_steps, keep_every),
                keep,
                validation_kept(),
                *([] if max_minutes is None else [time_limit(max_minutes)]),
            ],
            logger=[
                CSVLogger(folder, name="logs"),  # a version each time, so that none is lost
                TensorBoardLogger(folder, name="tensorboard", version=0),
            ],
            log_every_n_steps=50,
            enable_progress_bar=progress,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            plugins=[renaming_io()],
        )
    except (MisconfigurationException, ValueError) as error:
        raise InputError(f"run.accelerator {accelerator}, run.devices {devices}: {error}") from None
