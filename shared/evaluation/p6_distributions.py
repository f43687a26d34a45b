"""P6, distributions and dynamics of the long simulation, each against the static oracle.

Windows of the simulation as long and as finely spaced as blocks of the reference, each against each
block; the static oracle is the blocks against one another. The first fifth is left out. Two checks
that no histogram sees stand beside: kinetic temperatures of H and of heavy atoms, and the potential
energy of generated frames under the engine that made the reference.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.errors import InputError
from shared.evaluation.artefacts import save_artefact
from shared.evaluation.candidates import Candidate, KnowsEnergies, Variant, open_candidate
from shared.evaluation.long_run import GROUPS, LongRun
from shared.evaluation.oracles import STATIC
from shared.evaluation.p1_accuracy import row_of
from shared.evaluation.p1_s2l import load_series
from shared.evaluation.p2_stability import Stability, simulated
from shared.evaluation.results import Row
from shared.evaluation.rollout import Context, Skip, stride_of
from shared.evaluation.statistics import Estimate, bootstrap, share
from shared.evaluation.systems import Series
from shared.evaluation.trivial import TRIVIAL
from shared.kinetics import backward_velocity
from shared.metrics import distributions as d
from shared.metrics.energetics import group_temperatures
from shared.units import FS_PER_PS

__all__ = [
    "DISTANCES",
    "PAIR",
    "SPECTRUM",
    "Distributions",
    "cost_counts",
    "measure",
    "torsion_agreement",
]

Float = npt.NDArray[np.float64]

PAIR, SPECTRUM = "h(r)", "VDOS"
DISTANCES: dict[str, Callable[[Float, Float], Float]] = {
    "bond": d.jensen_shannon,
    "angle": d.jensen_shannon,
    "torsion": d.jensen_shannon,
    PAIR: d.pair_distance_distance,
    SPECTRUM: d.l1_distance,
}
RANGES = {"bond": None, "angle": (0.0, 180.0), "torsion": (-180.0, 180.0)}


@dataclass(frozen=True)
class Distributions:
    """Distributions and dynamics.

    Args:
        models: those to measure; null: all of the evaluation.
        systems: those to measure on; null: all of the evaluation.
        replicas: of the simulation; with those of `stability` it is the same one.
        length_ps: of each.
        interval_fs: between saved frames.
        window_ps: of the windows and of the reference's blocks.
        energy_frames: frames whose potential energy is computed.
    """

    models: list[str] | None = None
    systems: list[str] | None = None
    replicas: int = 8
    length_ps: float = 100.0
    interval_fs: float = 5.0
    window_ps: float = 5.0
    energy_frames: int = 300

    def quick(self) -> "Distributions":
        """What a minute allows."""
        return Distributions(self.models, self.systems, 2, 0.1, self.interval_fs, 5.0, 4)


def measure(
    candidate: Candidate, name: str, settings: Distributions, context: Context
) -> list[Row]:
    """Rows of one candidate on one molecule."""
    if candidate.name in TRIVIAL or candidate.name == "oracle":
        raise Skip(f"{candidate.name} makes no simulations of its own")
    series = load_series(name, context)
    system = series.system
    if candidate.name == STATIC:
        stride = system.frames_in(settings.interval_fs, "distributions.interval_fs")
        length = round(settings.window_ps * FS_PER_PS / settings.interval_fs)
        independent = context.references.independent(name)
        return _oracle_rows(candidate, series, _Reference(series, length, stride, independent))
    of_stability = Stability(
        replicas=settings.replicas, length_ps=settings.length_ps, interval_fs=settings.interval_fs
    )
    best, *others = candidate.variants(system)
    rows = []
    for variant in (best, *(v for v in others if v == "nvt")):
        rows += _rows(candidate, variant, name, series, settings, of_stability, context)
    return rows


def _rows(
    candidate: Candidate,
    variant: Variant,
    name: str,
    series: Series,
    settings: Distributions,
    of_stability: Stability,
    context: Context,
) -> list[Row]:
    system = series.system
    run = simulated(candidate, series, variant, of_stability, context)
    stride = stride_of(candidate, system, settings.interval_fs)
    judged = len(run.frames) - run.first
    length = min(round(settings.window_ps * FS_PER_PS / run.interval_fs), judged)
    reference = _Reference(series, length, stride, context.references.independent(name))
    row = row_of("distributions", "P6", system, candidate, variant)
    lasted = np.isinf(run.outcome()[0])
    length_ps = float(run.times_ps[-1])
    where = {"horizon": f"{length_ps:g} ps", "horizon_fs": length_ps * FS_PER_PS}
    rows = [row(share(lasted), metric="stable share", **where)]
    rows += _distance_rows(row, run, reference)
    rows += _torsion_rows(row, run, reference)
    values = {r.metric: r.value for r in rows}
    counts = variant != "nvt" and cost_counts(values, candidate.step_fs(system))
    rows.append(row(float(counts), metric="cost counts", n=len(lasted)))
    rows += _temperature_rows(row, run, series)
    rows += _energy_rows(row, run, series, settings)
    _save(candidate, variant, series, run, reference, context)
    return rows


class _Reference:
    """The blocks of the reference, or of independent trajectories, and their signatures."""

    def __init__(
        self, series: Series, length: int, stride: int, independent: Sequence[Series] = ()
    ) -> None:
        system = series.system
        self.system, self.length, self.stride = system, length, stride
        self.interval_fs = stride * system.interval_fs
        self.frames = series.positions[: series.test.stop]
        self.bins = d.GeometryBins.of_reference(system.numbers, system.bonds.pairs, self.frames)
        sources = [s.positions for s in independent] or [self.frames]
        windows = np.concatenate([d.cut_windows(frames, length, stride) for frames in sources])
        if len(windows) < 2:
            raise Skip(
                f"{sum(map(len, sources))} frames of the reference are fewer than two blocks of "
                f"{length * stride}"
            )
        self.blocks = self.signatures(windows)
        self.distances = {kind: of for kind, of in DISTANCES.items() if self.blocks[kind].size}
        """Of each kind of which the molecule has any: water has no torsions."""

    @property
    def n_blocks(self) -> int:
        return len(self.blocks[PAIR])

    @property
    def window(self) -> dict[str, Any]:
        """The columns that name the window."""
        time_fs = self.length * self.interval_fs
        return {"horizon": f"windows of {time_fs / FS_PER_PS:g} ps", "horizon_fs": time_fs}

    def signatures(self, windows: npt.NDArray[np.floating[Any]]) -> dict[str, Float]:
        """kind -> a histogram or spectrum of each window [W, ...]."""
        velocities = d.central_velocities(windows, self.interval_fs)
        masses = self.system.masses
        return {
            **self.bins.histograms(windows),
            PAIR: d.pair_distance_density(windows),
            SPECTRUM: d.vibrational_density(velocities, masses, self.interval_fs)[1],
        }

    def oracle(self, kind: str) -> float:
        """Mean distance of pairs of blocks."""
        return d.static_oracle(self.blocks[kind], DISTANCES[kind])

    def torsions(self, frames: npt.NDArray[np.floating[Any]]) -> Float:
        """C(τ) of all torsions."""
        return d.torsion_correlation(d.torsion_angles(frames, self.bins.coordinates.torsions))


def _label(kind: str) -> str:
    return f"{kind} JSD" if DISTANCES[kind] is d.jensen_shannon else f"{kind} distance"


def _oracle_rows(candidate: Candidate, series: Series, reference: _Reference) -> list[Row]:
    row = row_of("distributions", "P6", series.system, candidate)
    rows = []
    for kind, distance in reference.distances.items():
        blocks = reference.blocks[kind]
        first, second = np.triu_indices(len(blocks), k=1)
        pairs = distance(blocks[first], blocks[second])
        estimate = Estimate(
            float(np.mean(pairs)), float(pairs.min()), float(pairs.max()), len(blocks)
        )
        note = "low and high: least and largest of the pairs of blocks"
        rows.append(row(estimate, metric=_label(kind), note=note, **reference.window))
    return rows


def _distance_rows(row: Callable[..., Row], run: LongRun, reference: _Reference) -> list[Row]:
    """Each window's mean distance to the blocks; the windows are what is drawn anew, so that an
    interval is one for these blocks."""
    off: dict[str, list[float]] = {kind: [] for kind in reference.distances}
    for windows in run.windows(reference.length):
        signatures = reference.signatures(windows)
        for kind, distance in reference.distances.items():
            each = distance(signatures[kind][:, None], reference.blocks[kind][None])
            off[kind] += each.mean(axis=1).tolist()
    rows = []
    for kind, values in off.items():
        if not values:
            continue
        oracle = reference.oracle(kind)
        ratio = bootstrap(np.array(values) / oracle)
        rows += [
            row(ratio, metric=f"{_label(kind)} / {STATIC}", **reference.window),
            row(bootstrap(np.array(values)), metric=_label(kind), **reference.window),
        ]
    return rows


def _torsion_rows(row: Callable[..., Row], run: LongRun, reference: _Reference) -> list[Row]:
    generated, whole, blocks = _correlations(run, reference)
    count = whole.shape[-1]
    if count == 0:
        return []
    if generated is None:
        return [row(0.0, metric="torsion times that agree", n=count)]
    agree, ratio = torsion_agreement(generated, whole, blocks, run.interval_fs)
    known = ratio[np.isfinite(ratio)]
    largest = float(np.exp(np.abs(np.log(known))).max()) if known.size else np.nan
    rows = [
        row(bootstrap(agree.astype(float)), metric="torsion times that agree"),
        row(largest, metric="largest ratio of torsion times", n=count),
    ]
    for correlation, columns in (
        (generated, {}),
        (whole[: len(generated)], {"model": "reference"}),
    ):
        times = d.decay_time(correlation, run.interval_fs) / FS_PER_PS
        seen = f"in {len(generated) * run.interval_fs / FS_PER_PS:g} ps"
        many = {"n": count, **columns}
        rows.append(row(np.isfinite(times).mean(), metric="torsions that decay", note=seen, **many))
        if np.isfinite(times.min()):
            rows.append(row(times.min(), metric="shortest torsion time", unit="ps", **many))
    return rows


def _correlations(run: LongRun, reference: _Reference) -> tuple[Float | None, Float, Float]:
    """C(τ) generated, of the whole reference, and of its blocks."""
    judged = len(run.frames) - run.first
    longest = min(judged, len(reference.frames) // reference.stride)
    seen = [reference.torsions(one) for windows in run.windows(longest) for one in windows]
    blocks = d.cut_windows(reference.frames, reference.length, reference.stride)
    whole = reference.torsions(reference.frames[:: reference.stride])
    return (np.mean(seen, axis=0) if seen else None), whole, reference.torsions(blocks)


def torsion_agreement(
    generated: Float, reference: Float, blocks: Float, interval_fs: float
) -> tuple[npt.NDArray[np.bool_], Float]:
    """Which torsions [D] decay within 20 % of the reference's time or within its blocks' spread.

    A correlation that does not reach 1/e in the time it is known for has the time inf, and inf
    agrees with inf; against the blocks, the generated correlation is cut to the lags they have.

    Args:
        generated: C(τ) [L, D], averaged over windows.
        reference: of the whole reference [L', D], L' ≥ L.
        blocks: of its blocks [B, L'', D].
        interval_fs: time between lags.

    Returns:
        [D] whether they agree, and the ratio of the times [D], NaN where either is inf.
    """
    time = d.decay_time(generated, interval_fs)
    expected = d.decay_time(reference[: len(generated)], interval_fs)
    spread = d.decay_time(blocks, interval_fs)
    short = d.decay_time(generated[: blocks.shape[-2]], interval_fs)
    both = np.isfinite(time) & np.isfinite(expected)
    ratio = np.divide(time, expected, out=np.full_like(time, np.nan), where=both)
    near = (time == expected) | (np.abs(ratio - 1) <= 0.2)
    return near | ((short >= spread.min(0)) & (short <= spread.max(0))), ratio


def cost_counts(values: Mapping[str, float | None], step_fs: float) -> bool:
    """The condition of P7 on whose speed is compared, else independent samples would win.

    Frames at most 10 fs apart; Jensen-Shannon divergences at most 1.5 of the static oracle's, the
    spectrum's distance at most twice; and every torsion time agrees (where there are torsions). Of
    a simulation without a thermostat: that is the caller's to see to.

    Args:
        values: metric -> value, of P6; what is not there was not reached.
        step_fs: time between the model's frames.
    """
    limits = {kind: 2.0 if kind == SPECTRUM else 1.5 for kind in DISTANCES if kind != PAIR}
    ratios = {kind: values.get(f"{_label(kind)} / {STATIC}") for kind in limits}
    held = all(ratio is not None and ratio <= limits[kind] for kind, ratio in ratios.items())
    return held and step_fs <= 10.0 and values.get("torsion times that agree", 1.0) == 1.0


def _temperature_rows(row: Callable[..., Row], run: LongRun, series: Series) -> list[Row]:
    """Kinetic temperatures of all, H and heavy atoms; three degrees of freedom per atom.

    The reference's velocities are three-point differences, up to 3 % fast for C-H stretches, as a
    model without forces learns them; an engine's own are not, so its H read up to 3 % low.
    """
    system = series.system
    x = series.positions[: series.test.stop].astype(np.float64)
    velocities = backward_velocity(x[2:], x[1:-1], x[:-2], system.interval_fs)
    expected = group_temperatures(velocities, system.numbers)
    kept = run.whole[-1]
    if not kept.any():
        return []
    rows = []
    for index, group in enumerate(GROUPS):
        means = run.temperatures[run.first :, kept, index].astype(np.float64).mean(axis=0)
        mean = float(expected[group].mean())
        rows += [
            row(bootstrap(means / mean), metric=f"T {group} / reference"),
            row(bootstrap(means), metric=f"T {group}", unit="K"),
        ]
    return rows


def _energy_rows(
    row: Callable[..., Row], run: LongRun, series: Series, settings: Distributions
) -> list[Row]:
    """Potential energies of frames under the engine that made the reference."""
    n_replicas = run.frames.shape[1]
    per_replica = -(-settings.energy_frames // n_replicas)
    times = np.linspace(run.first, len(run.frames) - 1, per_replica).round().astype(np.int64)
    kept = run.whole[-1]
    if not kept.any():
        return []
    frames = run.frames[times][:, kept].astype(np.float64)
    try:
        energies = _potential_energies(series, frames)
        reference = _reference_energies(series, settings.energy_frames)
    except InputError:
        return []
    standardised = (energies - reference.mean()) / reference.std()
    spread = bootstrap(standardised.T, lambda drawn: drawn.reshape(len(drawn), -1).std(axis=1))
    return [
        row(bootstrap(standardised.mean(axis=0)), metric="shift of potential energy / std"),
        row(spread, metric="spread of potential energy / reference"),
    ]


def _potential_energies(series: Series, positions: Float) -> Float:
    """Of frames [..., N, 3] under the engine of the reference [...], eV."""
    system = series.system
    engine = None if system.engine is None else open_candidate(system.engine)
    if not isinstance(engine, KnowsEnergies):
        raise InputError(f"no engine of {system.data} can be run here")
    flat = positions.reshape(-1, *positions.shape[-2:])
    return engine.energies_and_forces(system, flat)[0].reshape(positions.shape[:-2])


def _reference_energies(series: Series, count: int) -> Float:
    """Potential energies of the reference: all that are stored, else so many computed; eV."""
    try:
        return series.energies(slice(0, series.test.stop))
    except InputError:
        rows = np.linspace(0, series.test.stop - 1, count).round().astype(np.int64)
        return _potential_energies(series, series.positions[rows].astype(np.float64))


def _save(
    candidate: Candidate,
    variant: str,
    series: Series,
    run: LongRun,
    reference: _Reference,
    context: Context,
) -> None:
    windows = list(_some(run.windows(reference.length), 8))
    if not windows:
        return
    signatures = [reference.signatures(part) for part in windows]
    arrays: dict[str, Any] = {}
    names = {"bond": "bond", "angle": "angle", "torsion": "torsion", PAIR: "pair", SPECTRUM: "vdos"}
    for kind in reference.distances:
        name = names[kind]
        arrays[f"{name}_generated"] = np.concatenate([s[kind] for s in signatures]).mean(axis=0)
        arrays[f"{name}_reference"] = reference.blocks[kind].mean(axis=0)
    for kind, bounds in RANGES.items():
        if kind not in reference.distances:
            continue
        labels = _labels(reference, kind)
        arrays[f"{kind}_labels"] = np.array(labels)
        edges = []
        for index in range(len(labels)):
            if bounds is None:
                centre = reference.bins.bond_centres[index]
                low, high = centre - d.BOND_HALF_WIDTH, centre + d.BOND_HALF_WIDTH
            else:
                low, high = bounds
            edges.append(np.linspace(low, high, d.BINS + 1))
        arrays[f"{kind}_edges"] = np.array(edges)
    arrays["pair_r"] = d.PAIR_RANGE / d.PAIR_BINS * (np.arange(d.PAIR_BINS) + 0.5)
    velocities = np.ones((reference.length - 2, *series.system.reference.shape))
    arrays["vdos_wavenumber"] = d.vibrational_density(
        velocities, series.system.masses, run.interval_fs
    )[0]
    generated, whole, _ = _correlations(run, reference)
    if generated is not None and whole.shape[-1]:
        count = min(len(generated), len(whole))
        arrays["torsion_time_ps"] = run.interval_fs / FS_PER_PS * np.arange(count)
        arrays["torsion_correlation_generated"] = generated[:count]
        arrays["torsion_correlation_reference"] = whole[:count]
    system = series.system
    save_artefact(
        context.folder,
        "distributions",
        system.name,
        candidate.name,
        variant,
        system.data,
        **arrays,
    )


def _labels(reference: _Reference, kind: str) -> list[str]:
    """Elements along each type of coordinate, in the order of the histograms."""
    from ase.data import chemical_symbols

    coordinates = reference.bins.coordinates
    paths = {
        "bond": coordinates.bonds,
        "angle": coordinates.angles,
        "torsion": coordinates.torsions,
    }[kind]
    types = reference.bins.types[kind]
    labels = [""] * (int(types.max(initial=-1)) + 1)
    for path, index in zip(paths, types, strict=True):
        elements = reference.system.numbers[path].tolist()
        labels[index] = "–".join(chemical_symbols[z] for z in min(elements, elements[::-1]))
    return labels


def _some(items: Iterator[Any], count: int) -> Iterator[Any]:
    for index, item in enumerate(items):
        if index >= count:
            return
        yield item
