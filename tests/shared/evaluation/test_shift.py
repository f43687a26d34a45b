"""P3's shift of features: who has one, and that it is what `feature_shift` says of two frames."""

from pathlib import Path

import numpy as np
import pytest
import torch

from forcefield.diffusion import feature_shift
from forcefield.load import LoadedPotential
from forcefield.potential import Potential
from forcefield.shift import shift_between
from shared.checkpoint import CheckpointConfig
from shared.errors import InputError
from shared.evaluation.candidates import FeatureShift, open_candidate
from shared.evaluation.p3_shift import Shift, measure
from shared.evaluation.rollout import Context, Skip
from shared.evaluation.systems import three_bpa
from shared.layers.pairs import all_pairs

NUMBERS = np.array([8, 1, 1])
BEFORE = np.array([[[0.0, 0.0, 0.1], [0.0, 0.8, -0.5], [0.0, -0.8, -0.5]]])


def loaded(kind: str) -> LoadedPotential:
    """A random network for water."""
    torch.manual_seed(0)
    options = {"channels": 4, "layers": 1, "lmax": 1, "bessel": 4, "radial": [8]}
    diffusion = {"kind": kind, "channels": 4, "heads": 2, "steps": 1, "solver": "euler"}
    potential = Potential([1, 8], "nequip", options, diffusion)
    config = CheckpointConfig(
        head="forcefield", name="tiny", kind="potential", model={}, elements=[1, 8]
    )
    return LoadedPotential(config, potential, [1, 8], {})


def test_a_shift_does_not_see_how_frames_lie() -> None:
    subject = loaded("full")
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    still = shift_between(subject, NUMBERS, BEFORE, BEFORE @ turn + 3.0)
    assert still.features[0] < 1e-5 * still.sizes[0]
    after = BEFORE * [1.0, 1.2, 1.0]
    found = shift_between(subject, NUMBERS, BEFORE, after)
    atoms, types = torch.ones(1, 3, dtype=torch.bool), torch.tensor([[1, 0, 0]])
    pairs = [all_pairs(torch.from_numpy(x).float(), atoms) for x in (BEFORE, after)]
    with torch.no_grad():
        expected = feature_shift(subject.potential.diffusion, types, *pairs)
    assert [found.features[0], found.diffusivity[0]] == pytest.approx(
        [float(x) for x in expected], rel=1e-4
    )


def test_without_a_diffusion() -> None:
    with pytest.raises(InputError, match="checkpoint tiny has no diffusion"):
        shift_between(loaded("none"), NUMBERS, BEFORE, BEFORE)
    with pytest.raises(InputError, match="xtb has no diffusion"):
        open_candidate("xtb").feature_shift(None, BEFORE, BEFORE)


class Twice:
    """A candidate whose features shift twice as far as its diffusivity."""

    name, identity = "twice", "twice"

    def feature_shift(self, system, before, after) -> FeatureShift:
        size = np.abs(after - before).sum(axis=(1, 2))
        return FeatureShift(2 * size, size, 4 * size)


def put(path: Path, stretches: list[float]) -> None:
    frame = (
        "2\nProperties=species:S:1:pos:R:3:forces:R:3 energy=0\nC 0 0 0 0 0 1\nO 0 0 {} 0 0 -1\n"
    )
    path.write_text("".join(map(frame.format, stretches)), encoding="utf-8")


def test_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAJGEN_DATA", str(tmp_path))
    three_bpa.cache_clear()
    (tmp_path / "3bpa").mkdir()
    files = {"train_300K": [1.1], "test_300K": [1.1, 1.1], "test_1200K": [1.2, 1.3, 1.4]}
    for name, stretches in files.items():
        put(tmp_path / "3bpa" / f"{name}.xyz", stretches)
    rows = measure(Twice(), "1200K", Shift(), Context(tmp_path))
    found = {row.metric: row for row in rows}
    assert found["feature shift / diffusivity shift"].value == pytest.approx(2.0)
    assert found["feature shift / features"].value == pytest.approx(0.5)
    assert found["diffusivity shift"].value == pytest.approx(0.2)  # of 0.1 and 0.3
    assert {(row.n, row.protocol, row.data) for row in rows} == {(2, "P3", "3BPA 300K to 1200K")}
    with pytest.raises(Skip, match="from 300K to the other systems"):
        measure(Twice(), "300K", Shift(), Context(tmp_path))
    with pytest.raises(Skip, match="mean has no diffusion"):
        measure(open_candidate("mean"), "1200K", Shift(), Context(tmp_path))
    three_bpa.cache_clear()
