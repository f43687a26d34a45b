"""SEGNO: one shared layer as second-order dynamics."""

import pytest
from torch import Tensor

from forcefield.backbones.segno import SEGNOConfig
from shared.errors import InputError
from shared.layers.pairs import all_pairs
from tests.forcefield.backbones.small import segno
from tests.forcefield.models import random_molecules


def test_the_layer_is_shared() -> None:
    sizes = [sum(p.numel() for p in segno(steps=steps).parameters()) for steps in (1, 5)]
    assert sizes[0] == sizes[1]


def test_steps_follow_one_trajectory() -> None:
    """More steps over the same interval go to a limit: halving the step halves the error."""
    inputs = random_molecules()
    pairs = all_pairs(inputs["positions"], inputs["atoms"])

    def scalars(steps: int) -> Tensor:
        model = segno(steps=steps, time=0.5)
        return (model(inputs["types"], pairs)[0] * inputs["atoms"][..., None]).detach()

    values = [scalars(steps) for steps in (8, 16, 32)]
    ratio = (values[1] - values[0]).norm() / (values[2] - values[1]).norm()
    assert ratio.item() == pytest.approx(2.0, abs=0.3)


@pytest.mark.parametrize("options", [{"steps": 0}, {"time": -1.0}, {"vectors": 0}])
def test_bad_options(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match="segno"):
        SEGNOConfig(**options)
