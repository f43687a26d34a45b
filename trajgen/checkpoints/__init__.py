"""The generators that ship with the package, and the modes there are."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from shared.checkpoint import CheckpointConfig
from shared.errors import InputError

if TYPE_CHECKING:
    from trajgen.kernel import TransitionKernel

# Mode, which is the `kind` of a checkpoint -> module and class of its kernel.
MODES = {
    "residual": ("trajgen.model", "TransitionModel"),
    "paper": ("trajgen.paper", "PaperModel"),
    "regression": ("trajgen.baselines.regression", "RegressionModel"),
}


def model_class(mode: str) -> Any:
    """The class of kernels of a mode.

    Raises:
        InputError: no such mode.
    """
    if mode not in MODES:
        raise InputError(f"kind {mode!r} is no mode here; there are {', '.join(MODES)}")
    module, name = MODES[mode]
    return getattr(import_module(module), name)


def model_from_config(config: CheckpointConfig) -> "TransitionKernel":
    """A model with untrained weights, as the checkpoint's config describes it.

    Raises:
        InputError: a kind of model that is not known.
    """
    try:
        kernel = model_class(config.kind)
    except InputError as error:
        raise InputError(f"checkpoint {config.name}: {error}") from None
    return kernel.from_description(config.model, config.normalisation)
