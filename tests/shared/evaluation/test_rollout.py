"""Candidates beside a reference whose motion is known."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from shared.errors import InputError
from shared.evaluation import long_run as long_runs
from shared.evaluation.artefacts import index
from shared.evaluation.candidates import limit, open_candidate
from shared.evaluation.long_run import long_run, run_folder
from shared.evaluation.p1_accuracy import measure_accuracy, measure_ensemble
from shared.evaluation.rollout import Context, Skip, roll_errors, stride_of, until_all_stopped
from shared.evaluation.trivial import TRIVIAL
from shared.state import PhaseState

HALF, WHOLE = 20, 40  # frames of half a period and of a whole one


class Exact:
    """Knows the motion, but for a shift that each sample draws."""

    name = identity = "exact"
    weights: ClassVar[dict] = {}
    random = ("unknown",)

    def __init__(self, series, off: float = 0.0, breaks: bool = False) -> None:
        self.series, self.off, self.breaks = series, off, breaks

    def variants(self, system):
        return ("unknown",)

    def step_fs(self, system):
        return 1.0

    def propagator(self, system, variant):
        return self

    def start(self, past, variant, samples, seed):
        # The time in the reference is the start's thermostat variable, and the draw its second.
        drawn = np.random.default_rng(seed).choice([-1.0, 1.0], size=(len(past.frames), samples))
        rows = np.repeat(past.frames, samples)
        variables = np.stack([rows, drawn.ravel()], axis=1)
        x = np.repeat(past.positions[:, -1], samples, axis=0)
        return PhaseState(past.system.numbers, x, np.zeros_like(x), thermostat=variables)

    def propagate(self, start, n_frames, frame_interval_fs, *, seed):
        for frame in range(1, n_frames + 1):
            after = round(frame * frame_interval_fs / self.series.system.interval_fs)
            x = self.series.truth(start.thermostat[:, 0].astype(int), after)
            x = x + self.off * start.thermostat[:, 1, None, None] * np.array([[1.0], [-1.0]])
            x[:, 0] -= 5.0 * (self.breaks and frame > 3)
            yield PhaseState(start.numbers, x, np.zeros_like(x), time_fs=frame * frame_interval_fs)


def rolled(candidate, series, variant="", **options):
    rows = np.array([40, 45])
    past = series.past(rows)
    reach = np.array([WHOLE, WHOLE])
    context = Context(Path("unused"))
    truth = lambda starts, after: series.truth(rows[starts], after)  # noqa: E731
    return roll_errors(candidate, past, variant, truth, reach, 2, context, **options)


def test_trivial_predictors(spring) -> None:
    found = {name: rolled(TRIVIAL[name](), spring) for name in TRIVIAL}
    still = found["persistence"].pooled("raw").rmse()
    assert still[-1] == pytest.approx(0.0, abs=1e-12)  # after a whole period
    start = spring.positions[[40, 45]]
    half = spring.positions[[40 + HALF, 45 + HALF]]
    expected = np.sqrt(((half - start) ** 2).sum(-1).mean())
    assert still[found["persistence"].index(HALF)] == pytest.approx(expected)
    # Free flight is good at once, and far off after a period.
    assert found["inertia"].pooled("com").rmse()[0] < 0.3 * still[0]
    assert found["inertia"].pooled("com").rmse()[-1] > 0.1
    off = spring.positions[[42, 47]] - spring.system.mean
    assert found["mean"].pooled("raw").rmse()[0] == pytest.approx(np.sqrt((off**2).sum(-1).mean()))


def test_an_ensemble_is_better_on_average(spring) -> None:
    errors = rolled(Exact(spring, off=0.1), spring, "unknown", samples=16)
    assert errors.squared["com"].shape == (2, 16, WHOLE // 2)
    assert np.allclose(errors.pooled("com").rmse(), 0.1 * np.sqrt(3.0), rtol=1e-6)
    assert (errors.pooled_mean("com").rmse() < 0.1).all()


def test_what_has_stopped_is_not_made_again() -> None:
    made = []

    def states():
        for k, alive in enumerate(([True, True], [True, False], [False, False], [False, False])):
            made.append(k)
            x = np.full((2, 1, 3), float(k))
            yield PhaseState(np.array([6]), x, alive=np.array(alive))

    found = [state.positions[0, 0, 0] for state in until_all_stopped(states(), 6)]
    assert found == [0, 1, 2, 2, 2, 2]
    assert made == [0, 1, 2]


def test_rows_and_curves(spring, tmp_path: Path) -> None:
    rows = np.array([40, 45, 50])
    truth = lambda starts, after: spring.truth(rows[starts], after)  # noqa: E731
    reach, context = np.full(3, WHOLE), Context(tmp_path)
    common = (spring.past(rows), truth, reach, [HALF, WHOLE], 1.0)
    found = measure_accuracy("s2l", Exact(spring, 0.01), *common, context)
    by = {(row.metric, row.horizon): row for row in found}
    assert by["RMSE com", "20 frames"].value == pytest.approx(0.01 * np.sqrt(3.0))
    assert by["RMSE com", "20 frames"].horizon_fs == 10.0
    assert by["RMSE com / persistence", "20 frames"].value < 0.5
    assert by["RMSE com / persistence", "20 frames"].n == 3
    ensemble = measure_ensemble("s2l", Exact(spring, 0.01), *common, 4, context)
    assert any("ensemble mean of 4" in row.metric for row in ensemble)
    (of_each,) = (
        row
        for row in ensemble
        if (row.metric, row.horizon) == ("ARMSE com, mean over 4", "20 frames")
    )
    assert of_each.low <= of_each.value <= of_each.high
    few = measure_accuracy("s2l", Exact(spring, 0.01), *common[:3], [HALF, HALF], 1.0, context)
    assert len([row for row in few if row.metric == "RMSE com"]) == 1  # one frame, one row
    with pytest.raises(InputError, match=r"s2l.horizons: 1 frames are fewer than the 2 between"):
        measure_accuracy("s2l", Exact(spring), *common[:3], [1], 1.0, context)
    certain = Exact(spring)
    certain.random = ()
    assert measure_ensemble("s2l", certain, *common, 4, context) == []
    for artefact in index(tmp_path):
        if not artefact.part.startswith("s2l"):
            continue
        arrays, ending = np.load(artefact.path), ""
        if artefact.part == "s2l-ensemble":
            ending = "_ensemble_mean"
        for name in ("rmse_com", "armse_raw"):  # as the report draws them
            bounds = [arrays[f"{name}{ending}_{end}"] for end in ("low", "high")]
            assert (bounds[0] <= arrays[name + ending] + 1e-12).all()
            assert (arrays[name + ending] <= bounds[1] + 1e-12).all()
    parts = {(a.part, a.model) for a in index(tmp_path)}
    assert ("s2l-ensemble", "exact") in parts
    assert {("s2l", "exact"), ("trajectory", "exact"), ("trajectory", "reference")} <= parts


def test_when_errors_cross_those_of_persistence(spring, tmp_path: Path) -> None:
    """Exact for three frames of 1 fs, then far off; or never off; or seen in too few frames."""
    rows = np.array([40, 45, 50])

    def crossings(candidate, truth) -> list:
        common = (spring.past(rows), truth, np.full(3, HALF), [HALF], 1.0, Context(tmp_path))
        found = measure_accuracy("s2l", candidate, *common)
        return [row for row in found if "exceeds" in row.metric]

    def known(starts, after):
        return spring.truth(rows[starts], after)

    def sparse(starts, after):
        return known(starts, after) if after == HALF else np.full((len(starts), 2, 3), np.nan)

    broken = crossings(Exact(spring, breaks=True), known)
    assert [row.metric for row in broken] == [
        "RMSE com exceeds 0.1 x persistence",
        "RMSE com exceeds 0.5 x persistence",
    ]
    assert {(row.value, row.low, row.high, row.n, row.unit) for row in broken} == {
        (4.0, 4.0, 4.0, 3, "fs")
    }
    never = crossings(Exact(spring), known)
    assert [row.as_dict()["value"] for row in never] == [None, None]
    assert crossings(Exact(spring), sparse) == []


def test_intervals_that_do_not_fit(spring) -> None:
    with pytest.raises(InputError, match=r"no multiple of the 0\.5 fs"):
        stride_of(TRIVIAL["persistence"](), spring.system, 0.7)
    exact = Exact(spring)
    assert stride_of(exact, spring.system, 5.0) == 10
    assert stride_of(exact, spring.system, 0.5) == 2  # its own step is longer
    exact.step_fs = lambda system: 0.7
    with pytest.raises(Skip, match="does not fit"):
        stride_of(exact, spring.system, 5.0)


class Drifting:
    """Moves on with the velocities it was given; dies before a frame, or never."""

    def __init__(self, dies_at: int = 99) -> None:
        self.dies_at, self.made = dies_at, 0

    def propagate(self, start, n_frames, frame_interval_fs, *, seed):
        now = start
        for _ in range(n_frames):
            if self.made == self.dies_at:
                raise KeyboardInterrupt
            self.made += 1
            x = now.positions + frame_interval_fs * now.velocities
            time_fs = now.time_fs + frame_interval_fs
            now = PhaseState(now.numbers, x, now.velocities, time_fs=time_fs)
            yield now


def test_an_interrupted_long_run_goes_on(
    spring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From its last flush, to what it would have been."""
    monkeypatch.setattr(long_runs, "FLUSH_PS", 0.003)
    x = spring.positions[[40, 45]]
    start = PhaseState(spring.system.numbers, x, np.full_like(x, 0.001))

    def run(propagator: Drifting, folder: str):
        arguments = (propagator, start, spring.system.bonds, 10, 1.0, tmp_path / folder)
        return long_run(*arguments, seed=0, report=lambda line: None)

    whole = run(Drifting(), "whole")
    with pytest.raises(KeyboardInterrupt):
        run(Drifting(dies_at=8), "killed")
    second = Drifting()
    resumed = run(second, "killed")
    assert second.made == 4
    for name in ("frames", "temperatures", "energies"):
        assert np.array_equal(getattr(resumed, name), getattr(whole, name), equal_nan=True), name


def test_long_run_sees_a_break_and_is_read_again(spring, tmp_path: Path) -> None:
    series, past = spring, spring.past(np.array([40, 45]))
    exact = Exact(series, breaks=True)
    start = exact.start(past, "unknown", 1, 0)
    folder = run_folder(tmp_path, "spring", 1)
    arguments = (exact, start, series.system.bonds, 10, 1.0, folder)
    run = long_run(*arguments, seed=0, report=lambda line: None)
    lost, largest = run.outcome()
    assert lost.tolist() == [0.004, 0.004]
    assert (largest < 0.1).all()
    exact.propagate = None  # a second call reads what is there
    again = long_run(*arguments, seed=0, report=lambda line: None)
    assert np.array_equal(again.frames, run.frames)


def test_names_that_are_not_there() -> None:
    with pytest.raises(InputError, match=r"no model nothing; there are persist.*trajgen:NAME"):
        open_candidate("nothing")
    with pytest.raises(InputError, match="nothing"):
        open_candidate("trajgen:nothing")
    with pytest.raises(InputError, match="nothing"):
        open_candidate("forcefield:nothing")


def test_some_variants_alone(spring) -> None:
    exact, still = Exact(spring), TRIVIAL["persistence"]()
    limit(exact, ["unknown", "nve"])
    limit(still, ["fitted"])
    assert exact.variants(spring.system) == ("unknown",)
    assert still.variants(spring.system) == ("",)  # it has no others
    limit(exact, ["fitted"])
    with pytest.raises(Skip, match="exact has none of fitted on spring"):
        exact.variants(spring.system)
