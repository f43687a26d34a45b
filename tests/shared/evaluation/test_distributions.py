"""P6 of a model that draws independent frames, right in one variant and wrong in the other."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from scipy.spatial.transform import Rotation

from shared.data.splits import FrameRange
from shared.errors import InputError
from shared.evaluation import p6_distributions
from shared.evaluation.oracles import StaticOracle
from shared.evaluation.p6_distributions import Distributions, measure
from shared.evaluation.rollout import Context, Skip
from shared.evaluation.systems import Series, System
from shared.evaluation.trivial import TRIVIAL
from shared.metrics.stability import reference_bonds
from shared.state import PhaseState

INTERVAL_FS = 1.0
TURNING = ", turning"
SETTINGS = Distributions(replicas=4, length_ps=0.4, interval_fs=INTERVAL_FS, window_ps=0.1)


def frames(count: int, seed: int, stretch: float = 1.0, of: str = "H2O") -> np.ndarray:
    """A molecule, its atoms off by 0.03 Å; `turning`: its last goes round in ten frames."""
    still = molecule(of.removesuffix(TURNING)).positions
    x = np.repeat(stretch * still[None], count, axis=0)
    if of.endswith(TURNING):
        axis = (still[1] - still[0]) / np.linalg.norm(still[1] - still[0])
        turn = Rotation.from_rotvec(2 * np.pi / 10 * np.arange(count)[:, None] * axis)
        x[:, 3] = x[:, 0] + turn.apply(x[:, 3] - x[:, 0])
    return x + np.random.default_rng(seed).normal(scale=0.03, size=x.shape)


class Draws:
    """`fitted` has bonds that are 0.1 Å too long; `nvt` has those of the reference."""

    name = identity = "draws"

    def __init__(
        self, variants: tuple[str, ...] = ("fitted", "unknown", "nvt"), of: str = "H2O"
    ) -> None:
        self._variants, self._variant, self._of = variants, "", of

    def variants(self, system):
        return self._variants

    def step_fs(self, system):
        return INTERVAL_FS

    def propagator(self, system, variant):
        self._variant = variant
        return self

    def start(self, past, variant, samples, seed):
        x = past.positions[:, -1]
        return PhaseState(past.system.numbers, x, np.zeros_like(x))

    def propagate(
        self, start: PhaseState, n_frames: int, frame_interval_fs: float, *, seed: int
    ) -> Iterator[PhaseState]:
        stretch = 1.1 if self._variant == "fitted" else 1.0
        shape = (start.n_replicas, n_frames)
        x = frames(shape[0] * n_frames, seed + 1, stretch, self._of).reshape(*shape, -1, 3)
        v = np.random.default_rng(seed).normal(scale=1e-3, size=x.shape)
        for k in range(n_frames):
            time = (k + 1) * frame_interval_fs
            yield PhaseState(start.numbers, x[:, k], v[:, k], time_fs=time)


@pytest.fixture(params=["H2O"])
def reference(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """800 frames, whose engine is not at hand."""
    still = molecule(request.param.removesuffix(TURNING))
    numbers, positions = still.numbers, frames(800, seed=0, of=request.param)

    def none(rows):
        raise InputError("not stored")

    system = System(
        name="made",
        data="made",
        numbers=numbers,
        reference=positions[0],
        bonds=reference_bonds(numbers, still.positions, positions),
        mean=positions.mean(axis=0),
        interval_fs=INTERVAL_FS,
        temperature_K=300.0,
        thermostat="none",
    )
    series = Series(system, positions, none, none, FrameRange(0, 800))
    monkeypatch.setattr(p6_distributions, "load_series", lambda name, context: series)


def test_the_best_variant_and_the_one_with_a_thermostat(reference: None, tmp_path: Path) -> None:
    rows = measure(Draws(), "made", SETTINGS, Context(tmp_path))
    assert {row.variant for row in rows} == {"fitted", "nvt"}
    found = {(row.variant, row.metric): row for row in rows}
    for kind in ("bond", "angle"):
        ratio = found["nvt", f"{kind} JSD / static-oracle"]
        assert ratio.low <= ratio.value <= ratio.high
        assert ratio.value == pytest.approx(1.0, abs=0.2)
    assert found["fitted", "bond JSD / static-oracle"].value > 2.0
    assert found["fitted", "angle JSD / static-oracle"].value < 1.5  # the same angle
    assert found["nvt", "stable share"].value == 1.0
    assert found["nvt", "T all"].unit == "K"
    assert found["nvt", "cost counts"].value == 0.0  # a thermostat: its speed is not compared
    assert not any("torsion" in row.metric for row in rows)  # water has none
    assert not any("energy" in row.metric for row in rows)  # nothing to compute it with


@pytest.mark.parametrize("reference", ["H2O2"], indirect=True)
def test_torsions_that_do_not_turn(reference: None, tmp_path: Path) -> None:
    rows = measure(Draws(("nvt",), "H2O2"), "made", SETTINGS, Context(tmp_path))
    found = {(row.model, row.metric): row.value for row in rows}
    for model in ("draws", "reference"):
        assert found[model, "torsions that decay"] == 0.0
        assert (model, "shortest torsion time") not in found
    assert found["draws", "torsion times that agree"] == 1.0
    assert found["draws", "torsion JSD / static-oracle"] == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize("reference", ["H2O2" + TURNING], indirect=True)
def test_torsions_that_turn(reference: None, tmp_path: Path) -> None:
    """C(τ) = cos 36°τ falls below 1/e from the first frame after to the second."""
    first, second = np.cos(np.radians([36.0, 72.0]))
    expected_ps = (1 + (first - np.exp(-1)) / (first - second)) * 1e-3
    rows = measure(Draws(("nvt",), "H2O2" + TURNING), "made", SETTINGS, Context(tmp_path))
    found = {(row.model, row.metric): row.value for row in rows}
    for model in ("draws", "reference"):
        assert found[model, "torsions that decay"] == 1.0
        assert found[model, "shortest torsion time"] == pytest.approx(expected_ps, rel=0.02)


def test_the_static_oracle_is_blocks_of_the_reference(reference: None, tmp_path: Path) -> None:
    rows = measure(StaticOracle(), "made", SETTINGS, Context(tmp_path))
    by = {row.metric: row for row in rows}
    assert by["bond JSD"].n == 8
    assert 0 < by["bond JSD"].low < by["bond JSD"].value < by["bond JSD"].high
    assert by["bond JSD"].horizon == "windows of 0.1 ps"


def test_what_makes_no_simulations(reference: None, tmp_path: Path) -> None:
    with pytest.raises(Skip, match="persistence makes no simulations"):
        measure(TRIVIAL["persistence"](), "made", SETTINGS, Context(tmp_path))
    long = Distributions(replicas=1, length_ps=0.8, interval_fs=INTERVAL_FS, window_ps=0.6)
    with pytest.raises(Skip, match="fewer than two blocks"):
        measure(Draws(("nvt",)), "made", long, Context(tmp_path))
