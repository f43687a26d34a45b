"""The generators that ship with the package, and how a config becomes a model."""

from shared.checkpoint import CheckpointConfig
from shared.errors import InputError


def model_from_config(config: CheckpointConfig):
    """A model with untrained weights, as the checkpoint's config describes it."""
    from trajgen.model import NetworkConfig, NoiseConfig, Normalisation, TransitionModel

    if config.kind != "residual":
        raise InputError(f"checkpoint {config.name}: kind {config.kind!r} is not a generator here")
    settings = dict(config.model)
    return TransitionModel(
        types=settings["types"],
        normalisation=Normalisation(**config.normalisation),
        network=NetworkConfig(**settings["network"]),
        noise=NoiseConfig(**settings["noise"]),
        history=settings["history"],
    )
