"""Does a trajectory follow the reference's? Roll-outs from the test frames of the oracle files (P1,
P4) and from real MD17, against persistence, inertia, the mean and the engine itself, restarted.

Each roll-out is one sample from one start, unless said. Errors are taken with the (mass-weighted)
centres of mass removed, as in the oracle files; ADE and FDE as the positions are. Ratios divide
root mean squares over all starts; intervals draw the starts anew.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from _jobs import Skip
from _report import Row, Target
from _runs import (
    Settings,
    Subject,
    long_run,
    repeat,
    roll_out,
    start_state,
    subject,
    surrogate_start,
)

from shared.data.md17 import MD17Series, SurrogateOracle, load_md17, load_md17s_oracle
from shared.data.splits import SHORT_TO_LONG, FrameRange, evenly_spaced_starts
from shared.errors import InputError
from shared.evaluation.p4_windows import GEOTDM
from shared.metrics import armse as e
from shared.state import PhaseState
from shared.units import masses

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

# In steps of 0.5 fs: where the RMSE is taken, the P4 window, and up to where the ARMSE goes.
HORIZON, WINDOW, LONG_HORIZON = 100, 200, 1000
N_STARTS = 20  # of the oracle files
# What a start knows of its past -> mode of the oracle files: ξ from three frames and the force; 0.
HISTORIES = {"acceleration": "fitted", "null": "unknown"}


def true_positions(series: MD17Series, oracle: SurrogateOracle, steps: Int) -> Float:
    """The surrogate's positions [S, T, N, 3] that many steps after the oracle's starts."""
    frames = oracle.start_frames[:, None] + steps
    return series.positions[frames].astype(np.float64)


def engine_positions(oracle: SurrogateOracle, mode: str, steps: Int) -> Float:
    """Where the engine, restarted, was at those steps [S, T, N, 3]."""
    at = np.searchsorted(oracle.horizon_steps, steps)
    return oracle.positions[mode][:, at].astype(np.float64)


# --- RMSE at one horizon ------------------------------------------------------------------------


def ratio_rows(
    row: Callable[..., Row], metric: str, squared: Float, still: Float, target: Target | None = None
) -> list[Row]:
    """RMSE as a ratio to persistence and in Å, from squared errors [S, 1] of both."""
    value, scale = float(e.rmse_at(squared)[0]), float(e.rmse_at(still)[0])
    low, high = (float(bound[0]) for bound in e.bootstrap_interval(squared, e.rmse_at, still))
    return [
        row(f"{metric} / persistence", value / scale, low=low, high=high, target=target),
        row(metric, value, unit="Å", beside=False),
    ]


def rmse(molecule: str, settings: Settings) -> list[Row]:
    """RMSE@100, with the acceleration given and (`null`) without; beside it the engine."""
    return rmse_rows(subject(settings.checkpoint, molecule))


def rmse_rows(s: Subject) -> list[Row]:
    """The rows of `rmse` for any checkpoint."""
    oracle = load_md17s_oracle(s.molecule)
    steps = np.array([HORIZON])
    truth = true_positions(s.series, oracle, steps)
    row = s.row("P1", horizon="50 fs", n=N_STARTS, beside=True)

    def squared(predicted: Float) -> Float:
        return e.squared_errors(predicted, truth, "com", s.masses)

    still = squared(e.persistence(s.series.positions[oracle.start_frames], 1))
    rows = []
    for (history, mode), bound in zip(HISTORIES.items(), (0.10, 0.25), strict=True):
        metric = f"RMSE@{HORIZON} com, {history}"
        start = surrogate_start(s, oracle.start_frames, acceleration=history == "acceleration")
        predicted = roll_out(s.generator, start, 1, HORIZON * oracle.interval_fs)
        engine = s.row("P1", horizon="50 fs", n=N_STARTS, beside=True, model=f"engine, ξ {mode}")
        rows += ratio_rows(row, metric, squared(predicted), still, Target(at_most=bound))
        rows += ratio_rows(engine, metric, squared(engine_positions(oracle, mode, steps)), still)
    return rows


def real(molecule: str, settings: Settings) -> list[Row]:
    """RMSE@100 on real MD17, frames 0-999 of ethanol, which the surrogate's model has never seen.

    Published sGDML restarted from such frames reaches 0.032 with ξ and 0.41 without thermostat.
    """
    s = subject(settings.checkpoint, molecule)
    series = load_md17(molecule)
    # The first start has its whole history in the file.
    first = 2 + round(s.generator.acceleration_interval_fs / series.interval_fs)
    frames = FrameRange(first, min(len(series), 1000))
    starts = evenly_spaced_starts(frames, N_STARTS, HORIZON)
    truth = series.positions[starts[:, None] + HORIZON].astype(np.float64)
    data = f"{series.source}, frames 0–999"
    row = s.row("P1", horizon="50 fs", n=N_STARTS, data=data, beside=True)

    def squared(predicted: Float) -> Float:
        return e.squared_errors(predicted, truth, "com", masses(series.numbers))

    still = squared(e.persistence(series.positions[starts], 1))
    rows = []
    for history, target in (("acceleration", Target(at_most=0.2)), ("null", None)):
        start = start_state(
            s.generator,
            series.numbers,
            series.positions,
            starts,
            series.interval_fs,
            acceleration=history == "acceleration",
        )
        predicted = roll_out(s.generator, start, 1, HORIZON * series.interval_fs)
        metric = f"real MD17 RMSE@{HORIZON} com, {history}"
        rows += ratio_rows(row, metric, squared(predicted), still, target)
    return rows


# --- ADE and FDE of short windows ---------------------------------------------------------------


def windows(molecule: str, settings: Settings) -> list[Row]:
    """P4: 20 frames, 5 fs apart, unaligned, one sample, from a history that is 0.5 fs fine."""
    s = subject(settings.checkpoint, molecule)
    oracle = load_md17s_oracle(molecule)
    interval = s.interval_fs()
    stride = round(interval / oracle.interval_fs)
    steps = np.arange(stride, WINDOW + 1, stride)
    truth = true_positions(s.series, oracle, steps)
    row = s.row("P4", horizon="100 fs", n=N_STARTS)
    published = dict(zip(("ADE", "FDE"), GEOTDM[molecule], strict=True))
    rows = []
    for history, mode in HISTORIES.items():
        start = surrogate_start(s, oracle.start_frames, acceleration=history == "acceleration")
        predicted = roll_out(s.generator, start, len(steps), interval)
        ours = e.displacement_errors(predicted[:, None], truth)
        engine = e.displacement_errors(engine_positions(oracle, mode, steps)[:, None], truth)
        for name, column in published.items():
            judged = name == "ADE" and history == "acceleration"
            target = Target(at_most=0.5) if judged else None
            key, metric = f"{name.lower()}_mean", f"{name}, {history}"
            rows += [
                row(f"{metric} / GeoTDM's", ours[key] / column, target=target),
                row(metric, ours[key], unit="Å", beside=name == "ADE"),
                row(metric, engine[key], unit="Å", model=f"engine, ξ {mode}", beside=name == "ADE"),
            ]
    other = {"model": "GeoTDM, published", "data": "MD17, another split", "n": None}
    return rows + [
        row(name, value, unit="Å", beside=name == "ADE", **other)
        for name, value in published.items()
    ]


# --- ARMSE of an ensemble -----------------------------------------------------------------------


def ensemble(molecule: str, settings: Settings) -> list[Row]:
    """ARMSE(1000) of the mean of 32 samples per start, against what needs no dynamics.

    Two ensembles. Judged is the one over the unknown: no acceleration is given, and each sample
    draws the thermostat's friction ξ0 from its distribution in the training data, N(0, ξ_rms²);
    that is what a user knows who has positions and velocities alone. In the other the acceleration
    is given and samples differ by the sampler's noise only, which at one network evaluation per
    step is next to none. The mean of an ensemble minimises the error and is not a structure.
    """
    s = subject(settings.checkpoint, molecule)
    oracle = load_md17s_oracle(molecule)
    interval = s.interval_fs()
    stride = round(interval / oracle.interval_fs)
    steps = np.arange(stride, LONG_HORIZON + 1, stride)
    truth = true_positions(s.series, oracle, steps)
    start = surrogate_start(s, oracle.start_frames)
    row = s.row("P1", horizon="500 fs", n=N_STARTS * settings.ensemble)
    metric = f"ARMSE({LONG_HORIZON}) com"
    trivial = {
        name: float(e.armse(e.squared_errors(predicted, truth, "com", s.masses))[-1])
        for name, predicted in _trivial(s, start, steps * oracle.interval_fs).items()
    }
    rows = []
    for history in HISTORIES:
        many = repeat(start, settings.ensemble)
        if history == "null":
            many = _unknown_thermostat(s, many)
        samples = roll_out(s.generator, many, len(steps), interval)
        samples = samples.reshape(N_STARTS, settings.ensemble, *samples.shape[1:])
        errors = e.ensemble_errors(samples, truth, e.armse, "com", s.masses)
        judged = history == "null"
        value = float(errors["ensemble_mean"][-1])
        rows += [
            row(
                f"{metric}, {history}, ensemble mean / best trivial",
                value / min(trivial.values()),
                target=Target(below=1.0) if judged else None,
                note=f"null: ξ0 drawn from N(0, ξ_rms²); frames {interval:g} fs apart",
            ),
            row(f"{metric}, {history}, ensemble mean", value, unit="Å", beside=judged),
            *(
                row(f"{metric}, {history}, {name.replace('_', ' ')}", errors[name][-1], unit="Å")
                for name in ("one_sample", "mean_over_samples")
            ),
            row(
                f"spread of the samples at the end, {history}",
                float(np.sqrt(samples[:, :, -1].var(axis=1).sum(-1).mean())),
                unit="Å",
            ),
        ]
    return rows + [
        row(metric, value, unit="Å", model=name, n=N_STARTS, beside=True)
        for name, value in trivial.items()
    ]


def _trivial(s: Subject, start: PhaseState, times_fs: Float) -> dict[str, Float]:
    """Predictors [S, T, N, 3] that need no dynamics; the mean is that of the training frames."""
    assert start.velocities is not None
    train = s.series.positions[: SHORT_TO_LONG.train.stop]
    mean, x, n = e.centre(train, s.masses).mean(axis=0), start.positions, len(times_fs)
    return {
        "persistence": e.persistence(x, n),
        "inertia": e.inertia(x, start.velocities, times_fs),
        "mean": e.mean_structure(mean, x, n),
        "mean, superposed on the start": e.mean_structure(mean, x, n, superposed=True),
    }


def _unknown_thermostat(s: Subject, start: PhaseState) -> PhaseState:
    """Without previous velocities, and with ξ0 drawn where the model has a thermostat."""
    blank = replace(start, previous_velocities=None, previous_interval_fs=None)
    if s.generator.model.history != "thermostat":
        return blank
    spread = s.generator.model.normalisation.thermostat
    drawn = np.random.default_rng(0).normal(scale=spread, size=(start.n_replicas, 1))
    return replace(blank, thermostat=drawn)


# --- paper mode ---------------------------------------------------------------------------------


def paper(molecule: str, settings: Settings) -> list[Row]:
    """The published form of the model beside the shipped one, on the same data: RMSE@100, and how
    long bonds last in a short simulation."""
    rows = []
    for checkpoint in (settings.paper, settings.checkpoint):
        try:
            s = subject(checkpoint, molecule)
        except InputError as error:
            raise Skip(str(error)) from None
        rows += [
            replace(row, target=None, beside=True, metric=f"paper mode: {row.metric}")
            for row in rmse_rows(s)
            if row.model == s.name
        ]
        run = long_run(s, settings.paper_replicas, settings.paper_ps, settings.folder)
        lost, _ = run.outcome()
        median = float(np.median(np.minimum(lost, settings.paper_ps)))
        row = s.row(
            "P2", horizon=f"{settings.paper_ps:g} ps", n=settings.paper_replicas, beside=True
        )
        rows += [
            row("paper mode: stable replicas", float(np.isinf(lost).mean())),
            row("paper mode: median stable time", median, unit="ps"),
        ]
    return rows
