"""The Lightning glue both heads use: trainer, averaged weights, learning rates, optimisers.

Matrices are trained with Muon (Jordan et al., 2024: momentum, orthogonalised), everything else with
Adam: on the score network this reached in 1500 steps what Adam alone reached in more than 4000
(docs/training.md).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import Adam, Muon, Optimizer

if TYPE_CHECKING:
    import lightning


@dataclass(frozen=True)
class OptimiserConfig:
    """How the weights move.

    Args:
        learning_rate: of Adam, at its peak.
        matrix_learning_rate: of Muon, at its peak; null trains everything with Adam.
        warmup_steps: linear warm-up.
        final_fraction: learning rate at the end, as a fraction of the peak (cosine in between).
        clip_norm: largest norm of the gradient.
        ema_decay: of the averaged weights that are validated and released.
    """

    learning_rate: float = 2e-3
    matrix_learning_rate: float | None = 1e-2
    warmup_steps: int = 100
    final_fraction: float = 0.02
    clip_norm: float = 1.0
    ema_decay: float = 0.999


def optimisers(module: nn.Module, config: OptimiserConfig) -> list[Optimizer]:
    """Muon for the matrices of linear layers, Adam for the rest (or for all)."""
    adam = {"lr": config.learning_rate}
    if config.matrix_learning_rate is None:
        return [Adam(module.parameters(), **adam)]
    matrices = [
        layer.weight
        for layer in module.modules()
        if isinstance(layer, nn.Linear) and min(layer.weight.shape) > 2
    ]
    chosen = {id(weight) for weight in matrices}
    rest = [weight for weight in module.parameters() if id(weight) not in chosen]
    muon = Muon(matrices, lr=config.matrix_learning_rate, weight_decay=0.0)
    return [muon, Adam(rest, **adam)]


def learning_rate_factor(step: int, total: int, config: OptimiserConfig) -> float:
    """Warm-up, then a cosine from 1 to `final_fraction` at the last step."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / total)))
    return warm * (config.final_fraction + (1 - config.final_fraction) * cosine)


def averaged(decay: float) -> Any:
    """Lightning's exponential moving average, with a faster start: min(decay, (k+1)/(k+10))."""
    from lightning.pytorch.callbacks import WeightAveraging

    def update(average: Any, current: Any, count: Any) -> None:
        k = float(count)
        torch._foreach_lerp_(list(average), list(current), 1 - min(decay, (k + 1) / (k + 10)))

    class FastStartEMA(WeightAveraging):
        def __init__(self) -> None:
            super().__init__(multi_avg_fn=update)

        # Several optimisers each count a step; average once per batch instead.
        def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
            return False

        def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
            assert self._average_model is not None
            self._average_model.update_parameters(args[1])

    return FastStartEMA()


def make_trainer(
    folder: Path,
    *,
    epochs: int,
    monitor: str,
    ema_decay: float,
    devices: int | str = 1,
    accelerator: str = "cpu",
    progress: bool = True,
    on_epoch: Callable[[], None] | None = None,
) -> "lightning.Trainer":
    """A Trainer that logs to CSV and TensorBoard and keeps the best and the last checkpoint.

    Args:
        folder: run folder.
        epochs: how many; an epoch is the stretch between two validations.
        monitor: metric to be small.
        ema_decay: of the averaged weights.
        devices, accelerator: Lightning's; several devices train data-parallel.
        progress: a progress bar.
        on_epoch: unused hook for tests.
    """
    import lightning as L
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

    keep = ModelCheckpoint(
        dirpath=folder,
        filename="best",
        monitor=monitor,
        mode="min",
        save_last=True,
        enable_version_counter=False,
    )
    return L.Trainer(
        default_root_dir=folder,
        max_epochs=epochs,
        accelerator=accelerator,
        devices=devices,
        callbacks=[averaged(ema_decay), keep],
        logger=[
            CSVLogger(folder, name="logs", version=0),
            TensorBoardLogger(folder, name="tensorboard", version=0),
        ],
        log_every_n_steps=50,
        enable_progress_bar=progress,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
