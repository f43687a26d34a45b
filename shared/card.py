"""The model card of a released checkpoint, and the record of the training that it is written from.

A card says nothing that config.json beside it does not say: both come from one `CheckpointConfig`.
Numbers are not typed in; benchmarks/publish.py puts them between the markers.
"""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from shared.checkpoint import CheckpointConfig

__all__ = ["NOT_MEASURED", "block", "model_card", "training_record"]

NOT_MEASURED = "Not measured yet."
_FILES = 12  # that a card names


def training_record(
    settings: Any, state: Mapping[str, Any], split: Mapping[str, Any]
) -> dict[str, Any]:
    """What a repetition of a training needs, for the entry `training` of the provenance.

    Args:
        settings: the sections of the config, with `arguments`, the last command line; that it
            went on with a run is left out.
        state: Lightning's, with the weights that are released; `shared.training` puts what they
            reached on the validation frames into it (older states have nothing).
        split: keys of the section `data` that say which frames train, validate and test.
    """
    run = settings.run
    return {
        "arguments": _from_the_start(getattr(settings, "arguments", ())),
        "steps": run.steps,
        "released_step": min(run.steps, (state["epoch"] + 1) * run.epoch_steps),
        "validation": dict(state.get("validation", {})),
        "seed": run.seed,
        "init": run.init,
        "split": dict(split),
    }


def _from_the_start(arguments: Iterable[str]) -> list[str]:
    """A command line without `--run.resume VALUE`."""
    kept = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--run.resume":
            next(rest, None)
        elif not argument.startswith("--run.resume="):
            kept.append(argument)
    return kept


def block(name: str, text: str) -> str:
    """Text between the markers by which benchmarks/publish.py finds it."""
    return f"<!-- {name}:begin -->\n{text}\n<!-- {name}:end -->"


def model_card(
    config: CheckpointConfig,
    *,
    summary: str,
    use: Sequence[str],
    data: str,
    validation: str,
    limits: Sequence[str] = (),
) -> str:
    """Markdown.

    Args:
        config: of the checkpoint, with `training_record` and `shared.provenance.provenance` in its
            provenance.
        summary: what the model is, a sentence or two.
        use: commands.
        data: the data set, and which of its frames train, validate and test.
        validation: what the weights reached on the frames that validate; "" if not known.
        limits: those of the head; those of all heads follow from the config.
    """
    made = config.provenance
    training = made["training"]
    files = [f"- `{path}` ({checksum})" for path, checksum in made["files"].items()]
    if len(files) > _FILES:
        files[_FILES:] = [f"- and {len(files) - _FILES} more; config.json has them all"]
    files += [
        f"- `{pattern}` ({all_of['files']} files, {all_of['checksum']})"
        for pattern, all_of in made.get("many", {}).items()
    ]
    lines = [*limits, *_limits(config)]
    parts = [
        f"# {config.name}",
        summary,
        "## Use",
        "```bash\n" + "\n".join(use) + "\n```",
        "## Data",
        data,
        "\n".join(files),
        "## Training",
        _training(config.head, training)
        + (f" On the frames that validate: {validation}." if validation else ""),
        f"Made with trajgen at commit {made['git_commit'] or 'unknown'}, torch "
        f"{made['versions']['torch']}, {made['created'][:10]}.",
        "## Results",
        block("results", NOT_MEASURED),
        "## Known limits",
        "\n".join(f"- {line}" for line in lines),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _training(head: str, training: Mapping[str, Any]) -> str:
    command = shlex.join(["python", "-m", f"{head}.train", *training["arguments"]])
    start = f", from the weights of {training['init']}" if training["init"] else ""
    return (
        f"`{command}`, seed {training['seed']}{start}. These are the averaged weights of step "
        f"{training['released_step']} of the {training['steps']} asked for, those with the best "
        "validation."
    )


def _limits(config: CheckpointConfig) -> list[str]:
    """What follows from the config of any checkpoint."""
    from ase.data import chemical_symbols

    elements = ", ".join(chemical_symbols[z] for z in config.elements)
    lines = [f"Elements {elements}; any other is refused."]
    if config.temperature_K is not None:
        lines.append(
            f"Trained on frames at {config.temperature_K:g} K "
            f"({config.temperature_convention.replace('-', ' − ')} degrees of freedom); hotter "
            "ones are an extrapolation."
        )
    lines.append("Molecules only: no periodic systems, no ions or solvents.")
    lines.append("As good as its data at best.")
    return lines
