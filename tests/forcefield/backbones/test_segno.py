"""SEGNO: symmetries, locality, smoothness, and one shared layer as second-order dynamics."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from forcefield.backbones.segno import SEGNO, SEGNOConfig
from shared.errors import InputError
from shared.layers.pairs import all_pairs
from tests.forcefield.backbones.test_visnet import energy_of
from tests.forcefield.checks import (
    check_float32,
    check_second_derivatives,
    check_size_consistent,
    check_smooth_at_cutoff,
    check_traceable,
)
from tests.forcefield.models import random_molecules, scalar_case
from tests.physics import Case, check_finite_gradients, check_padding, check_symmetries

CUTOFF = 3.0
CONFIG = SEGNOConfig(cutoff=CUTOFF, channels=8, vectors=4, steps=3, bessel=4, neighbours=3.0)


def small(config: SEGNOConfig = CONFIG) -> SEGNO:
    torch.manual_seed(0)
    model = SEGNO(3, config)
    # Biases as training leaves them: at zero they would hide what is left over at the cutoff.
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model.double()


def test_scalars_keep_the_symmetries() -> None:
    case = scalar_case(small())
    check_symmetries(case)
    check_padding(case)
    check_finite_gradients(case.function, case.inputs)


def test_latent_velocities_turn_with_the_molecule() -> None:
    model = small()

    def velocities(types: Tensor, positions: Tensor, atoms: Tensor) -> dict[str, Tensor]:
        _, fields = model(types, all_pairs(positions, atoms))
        return {"velocities": (fields[1] * atoms[..., None, None]).mT}

    case = Case(velocities, random_molecules(), vectors=("velocities",), mask="atoms")
    assert case()["velocities"].std() > 0.01
    check_symmetries(case)


def test_smooth_at_the_cutoff() -> None:
    check_smooth_at_cutoff(energy_of(small()), CUTOFF)


def test_far_molecules_are_independent() -> None:
    check_size_consistent(energy_of(small()), 1e-12)


def test_second_derivatives_are_finite() -> None:
    model = small()
    check_second_derivatives(energy_of(model), model)


def test_single_precision() -> None:
    check_float32(small, energy_of)


def test_one_graph() -> None:
    check_traceable(energy_of(small(replace(CONFIG, steps=2))))


def test_the_layer_is_shared() -> None:
    sizes = [
        sum(p.numel() for p in small(replace(CONFIG, steps=steps)).parameters()) for steps in (1, 5)
    ]
    assert sizes[0] == sizes[1]


def test_steps_follow_one_trajectory() -> None:
    """More steps over the same interval go to a limit: halving the step halves the error."""
    inputs = random_molecules()
    pairs = all_pairs(inputs["positions"], inputs["atoms"])

    def scalars(steps: int) -> Tensor:
        model = small(replace(CONFIG, steps=steps, time=0.5))
        return (model(inputs["types"], pairs)[0] * inputs["atoms"][..., None]).detach()

    values = [scalars(steps) for steps in (8, 16, 32)]
    ratio = (values[1] - values[0]).norm() / (values[2] - values[1]).norm()
    assert ratio.item() == pytest.approx(2.0, abs=0.3)


@pytest.mark.parametrize("options", [{"steps": 0}, {"time": -1.0}, {"vectors": 0}])
def test_bad_options(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match="segno"):
        SEGNOConfig(**options)
