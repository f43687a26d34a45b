"""Is what comes out physical, for as long as it runs? Stability, temperatures, distributions,
dynamics and potential energies (P2, P6), all of one long simulation per molecule.

The distributions are judged as P6 says: windows of the generated trajectories as long and as finely
spaced as blocks of the reference, each against each block; the static oracle is the blocks against
one another. The first fifth of the simulation is left out, since it starts in frames of the
reference.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from _jobs import Skip
from _report import Row, Target
from _runs import REFERENCE, LongRun, Settings, Subject, long_run, subject

from shared.errors import InputError
from shared.evaluation.long_run import GROUPS
from shared.evaluation.p6_distributions import DISTANCES, PAIR, SPECTRUM, torsion_agreement
from shared.kinetics import backward_velocity
from shared.metrics import distributions as d
from shared.metrics.energetics import (
    compare_energies,
    group_temperatures,
    internal_dof,
    sgdml_energies,
    sgdml_model,
)
from shared.metrics.stability import bond_deviation
from shared.units import FS_PER_PS

Float = npt.NDArray[np.float64]

WINDOW_PS = 5.0  # of the reference's blocks
BOUNDS = {"bond": 1.5, "angle": 1.5, "torsion": 1.5, SPECTRUM: 2.0}  # x static oracle
RESAMPLES = 2000

Judged = Callable[[str, Settings], tuple[Subject, LongRun]]
"""Molecule and settings -> what is judged: the generator's long simulation, or the engine's."""


def _run(molecule: str, settings: Settings) -> tuple[Subject, LongRun]:
    s = subject(settings.checkpoint, molecule)
    return s, long_run(s, settings.replicas, settings.stability_ps, settings.folder)


# --- stability ----------------------------------------------------------------------------------


def stability(molecule: str, settings: Settings, judge: Judged = _run) -> list[Row]:
    """Share of replicas that reach the end with no bond off by more than 0.5 Å, at any frame."""
    s, run = judge(molecule, settings)
    lost, largest = run.outcome()
    row = s.row("P2", horizon=f"{settings.stability_ps:g} ps", n=settings.replicas)
    reference = float(bond_deviation(s.series.positions[REFERENCE], s.bonds).max())
    first = float(np.minimum(lost, settings.stability_ps).min())
    return [
        row("stable replicas", float(np.isinf(lost).mean()), target=Target(0.95)),
        row("first break", first, unit="ps"),
        row("largest bond deviation", float(largest.max()), unit="Å", beside=True),
        s.row("P2")("largest bond deviation", reference, unit="Å", model="reference"),
    ]


# --- temperature --------------------------------------------------------------------------------


def temperature(molecule: str, settings: Settings, judge: Judged = _run) -> list[Row]:
    """Kinetic temperatures of all, H and heavy atoms, counting three degrees of freedom per atom.

    Velocities are those the model was trained on, three-point differences of frames 0.5 fs apart.
    They are up to 3 % fast for C-H stretches, so that the reference, which its thermostat holds at
    500 K exactly, reads up to 516 K. Each temperature is therefore judged against the reference's
    own by the same estimator. Beside it stands equipartition at 500 K among the degrees of freedom
    of a molecule that neither drifts nor rotates (true velocities).
    """
    s, run = judge(molecule, settings)
    judged = run.temperatures[run.first :].astype(np.float64)
    x, interval = s.series.positions[REFERENCE].astype(np.float64), s.series.interval_fs
    velocities = backward_velocity(x[2:], x[1:-1], x[:-2], interval)
    reference = group_temperatures(velocities, s.numbers)
    dof = internal_dof(x[::40], s.numbers)
    atoms = {"all": s.numbers > 0, "hydrogen": s.numbers == 1, "heavy": s.numbers > 1}
    per_dof = s.series.temperature_K * 3 * len(s.numbers) / dof["all"]
    first = run.first * run.interval_fs / FS_PER_PS
    row = s.row("P6", horizon=f"{first:g}–{settings.stability_ps:g} ps", n=settings.replicas)
    beside = s.row("P6", unit="K", n=len(velocities), beside=True)
    rows = []
    for index, group in enumerate(GROUPS):
        value, low, high = _mean_over_replicas(judged[..., index])
        mean = float(reference[group].mean())
        target = Target(0.97, 1.03) if group == "all" else Target(0.95, 1.05)
        rows += [
            row(f"T {group} / reference", value / mean, target=target),
            row(f"T {group}", value, unit="K", low=low, high=high, beside=True),
            beside(f"T {group}", mean, model="reference"),
        ]
        if group != "all":
            equal = per_dof * dof[group] / (3 * atoms[group].sum())
            rows += [
                beside(f"T {group}", equal, model="equipartition"),
                row(f"T {group} / equipartition", value / equal),
            ]
    return rows


def _mean_over_replicas(values: Float) -> tuple[float, float, float]:
    """Mean of [T, R], leaving out NaN, and its 95 % interval by drawing replicas anew."""
    known = np.isfinite(values)
    sums, counts = np.where(known, values, 0.0).sum(0), known.sum(0)
    if not counts.any():
        return np.nan, np.nan, np.nan
    drawn = np.random.default_rng(0).integers(len(sums), size=(RESAMPLES, len(sums)))
    with np.errstate(invalid="ignore"):
        means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.nanquantile(means, [0.025, 0.975])
    return float(sums.sum() / counts.sum()), float(low), float(high)


# --- distributions and dynamics -----------------------------------------------------------------


def distributions(molecule: str, settings: Settings, judge: Judged = _run) -> list[Row]:
    """JSD of bonds, angles and torsions, h(r), VDOS, each as a ratio to the static oracle; and the
    torsions' 1/e times."""
    s, run = judge(molecule, settings)
    judged = len(run.frames) - run.first
    stride = round(run.interval_fs / s.series.interval_fs)
    length = min(round(WINDOW_PS * FS_PER_PS / run.interval_fs), judged)
    reference = s.series.positions[REFERENCE]
    bins = d.GeometryBins.of_reference(s.numbers, s.bonds.pairs, reference)

    def signatures(windows: npt.NDArray[np.floating]) -> dict[str, Float]:
        velocities = d.central_velocities(windows, run.interval_fs)
        return {
            **bins.histograms(windows),
            PAIR: d.pair_distance_density(windows),
            SPECTRUM: d.vibrational_density(velocities, s.masses, run.interval_fs)[1],
        }

    blocks = signatures(d.cut_windows(reference, length, stride))
    n_windows, sums = 0, dict.fromkeys(DISTANCES, 0.0)
    for windows in run.windows(length):
        n_windows += len(windows)
        for name, values in signatures(windows).items():
            off = d.mean_distance(values, blocks[name], DISTANCES[name])
            sums[name] += len(windows) * off
    duration = length * run.interval_fs / FS_PER_PS
    row = s.row("P6", horizon=f"windows of {duration:g} ps", n=n_windows)
    rows = []
    for name, distance in DISTANCES.items():
        oracle = d.static_oracle(blocks[name], distance)
        value = sums[name] / n_windows if n_windows else np.nan
        label = f"{name} JSD" if distance is d.jensen_shannon else f"{name} distance"
        bound = BOUNDS.get(name)
        rows += [
            row(
                f"{label} / static oracle",
                value / oracle,
                target=None if bound is None else Target(at_most=bound),
                beside=True,
            ),
            row(label, value),
            row(label, oracle, model="static oracle", n=len(blocks[name])),
        ]
    longest = min(judged, len(reference) // stride)

    def correlation(frames: npt.NDArray[np.floating]) -> Float:
        return d.torsion_correlation(d.torsion_angles(frames, bins.coordinates.torsions))

    seen = [correlation(replica) for windows in run.windows(longest) for replica in windows]
    generated = np.mean(seen, axis=0) if seen else None
    whole = correlation(reference[::stride])
    parts = correlation(d.cut_windows(reference, length, stride))
    return rows + torsion_rows(s, generated, whole, parts, run.interval_fs)


def torsion_rows(
    s: Subject, generated: Float | None, reference: Float, blocks: Float, interval_fs: float
) -> list[Row]:
    """The 1/e times of ⟨cos Δφ⟩ of all torsions against the reference's.

    Args:
        generated: C(τ) [L, D], averaged over windows; None: no replica lasted for one.
        reference: of the whole reference [L', D], L' ≥ L.
        blocks: of its blocks [B, L'', D].
        interval_fs: time between lags.
    """
    of_reference = d.decay_time(reference, interval_fs)
    row = s.row("P6", n=len(of_reference))
    share, largest, moving = 0.0, np.nan, np.nan
    if generated is not None:
        agree, ratio = torsion_agreement(generated, reference, blocks, interval_fs)
        share = float(agree.mean())
        moving = float(np.isfinite(d.decay_time(generated, interval_fs)).sum())
        known = ratio[np.isfinite(ratio)]
        largest = float(np.exp(np.abs(np.log(known))).max()) if known.size else np.nan
    decaying = float(np.isfinite(of_reference).sum())
    return [
        row("torsion times that agree", share, target=Target(1.0)),
        row("torsions that decay", moving, unit="count"),
        row("torsions that decay", decaying, unit="count", model="reference"),
        row("largest ratio of torsion times", largest),
    ]


# --- potential energy ---------------------------------------------------------------------------


def energy(molecule: str, settings: Settings, judge: Judged = _run) -> list[Row]:
    """Potential energies of generated frames under the force field that made the reference.

    The interval of the shift comes from drawing replicas anew.
    """
    s, run = judge(molecule, settings)
    per_replica = -(-settings.energy_frames // settings.replicas)
    times = np.linspace(run.first, len(run.frames) - 1, per_replica).round().astype(np.int64)
    whole = run.whole[times]
    reference = s.series.energies[REFERENCE]
    energies = np.full(whole.shape, np.nan)
    try:
        energies[whole] = sgdml_energies(sgdml_model(molecule), s.numbers, run.frames[times][whole])
    except InputError as error:
        raise Skip(str(error)) from None
    agreement = compare_energies(energies[whole], reference)
    standardised = (energies - reference.mean()) / reference.std()
    _, low, high = _mean_over_replicas(standardised)
    row = s.row("P6", n=int(whole.sum()))
    return [
        row(
            "shift of potential energy / std",
            agreement.shift,
            low=low,
            high=high,
            target=Target(-0.25, 0.25),
        ),
        row(
            "spread of potential energy / reference",
            agreement.spread_ratio,
            target=Target(0.85, 1.15),
        ),
    ]
