"""The model card says what config.json says."""

from types import SimpleNamespace
from typing import Any

from shared.card import model_card, training_record
from shared.checkpoint import CheckpointConfig
from shared.provenance import provenance


def state() -> dict[str, Any]:
    return {"epoch": 2, "validation": {"rmse": 0.5}}


def config(**training: object) -> CheckpointConfig:
    run = SimpleNamespace(steps=100, epoch_steps=30, seed=7, init=None)
    record = training_record(SimpleNamespace(run=run), state(), {"train": 5})
    return CheckpointConfig(
        head="forcefield",
        name="tiny",
        kind="potential",
        model={},
        elements=[1, 8],
        temperature_K=300.0,
        temperature_convention="3N-3",
        provenance={"training": record | training, **provenance([__file__])},
    )


def test_record_of_a_training() -> None:
    assert config().provenance["training"] == {
        "arguments": [],
        "steps": 100,
        "released_step": 90,
        "validation": {"rmse": 0.5},
        "seed": 7,
        "init": None,
        "split": {"train": 5},
    }


def test_the_last_epoch_may_be_shorter() -> None:
    run = SimpleNamespace(steps=80, epoch_steps=30, seed=7, init=None)
    assert training_record(SimpleNamespace(run=run), state(), {})["released_step"] == 80


def test_a_training_that_was_resumed_is_repeated_from_its_start() -> None:
    run = SimpleNamespace(steps=80, epoch_steps=30, seed=7, init=None)
    told = ["--config", "a.yaml", "--run.resume", "true", "--run.resume=true", "--run.steps", "80"]
    record = training_record(SimpleNamespace(run=run, arguments=told), state(), {})
    assert record["arguments"] == ["--config", "a.yaml", "--run.steps", "80"]


def test_a_state_of_before_has_no_validation() -> None:
    run = SimpleNamespace(steps=80, epoch_steps=30, seed=7, init=None)
    assert training_record(SimpleNamespace(run=run), {"epoch": 2}, {})["validation"] == {}
    card = model_card(config(), summary="", use=[], data="", validation="")
    assert "those with the best validation.\n" in card


def test_card() -> None:
    arguments = ["--config", "a.yaml", "--data.molecules", "[one, two]"]
    made = config(arguments=arguments, init="other", released_step=60)
    card = model_card(
        made,
        summary="Small.",
        use=["one", "two"],
        data="Data.",
        validation="off by half",
        limits=["Odd."],
    )
    (checksum,) = made.provenance["files"].values()
    for text in (
        "# tiny\n\nSmall.\n",
        "```bash\none\ntwo\n```",
        f"{__file__}` ({checksum})",
        "`python -m forcefield.train --config a.yaml --data.molecules '[one, two]'`, seed 7, from "
        "the weights of other. ",
        "step 60 of the 100 asked for, those with the best validation. ",
        " On the frames that validate: off by half.",
        "<!-- results:begin -->\nNot measured yet.\n<!-- results:end -->",
        "- Odd.\n- Elements H, O; any other is refused.\n- Trained on frames at 300 K (3N − 3 ",
        "- Molecules only: no periodic systems",
    ):
        assert text in card
    assert not card.endswith("\n\n")
