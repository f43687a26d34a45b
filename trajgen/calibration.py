"""Frictions of classes of atoms, stretches or modes that keep training frames' kinetic energies.

A network that is right to a per cent per step still moves a little energy from some atoms to
others, some 1e-4 of it per step: too little for a loss over a few lags to see, enough to heat the
skeleton of a molecule and cool its hydrogens by ten per cent in tens of picoseconds. It is measured
where it shows, in a long roll-out from training frames. There a weak thermostat per class c,

    γ_c = Γ_c + (T_c / T_c,ref − 1) / τ,     dΓ_c/dt = (T_c / T_c,ref − 1) / (τ τ_I),

holds the mean kinetic energies ½ m v² = 3/2 k T_c,ref of the training frames: weak coupling
(Berendsen et al., J. Chem. Phys. 81, 3684, 1984) under proportional-integral control. The friction
that it needed, weighted by the energy it acted on, ⟨γ_c T_c⟩/⟨T_c⟩, is from then on a constant of
the model: v_i ← v_i exp(−γ_c Δ) at every step. Trajectories are made without any thermostat.

Energy leaks from the bends of hydrogens into their stretches as well, which no friction per class
of atoms can mend: c may count kinds of bonds besides (`trajgen.stretches`), or, in a rigid
molecule, normal modes instead (`trajgen.modes`). A few picoseconds of training frames need not have
equipartition; T_c,ref of modes may be one for all c, the mean of the training frames, as well.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from shared.checkpoint import CARD, save
from shared.config import check_values
from shared.errors import InputError
from shared.state import PhaseState
from shared.topology import CLASS_ROUNDS, bonds_of_classes
from shared.units import AMU_A2_PER_FS2_IN_EV, FS_PER_PS, KB_EV_PER_K
from trajgen.load import load_model
from trajgen.model import TransitionModel
from trajgen.modes import ModeFriction, matching_order
from trajgen.pairs import Series
from trajgen.rollout import Generator
from trajgen.stretches import StretchFriction

Float = npt.NDArray[np.float64]

_log = logging.getLogger(__name__)

_INTEGRAL_TIMES = 4.0  # τ_I / τ
_SMOOTHING = 0.25  # averaging time of T_c / τ
_SETTLING = 0.5  # share of the roll-out before frictions are averaged
_SEED = 11


@dataclass(frozen=True)
class CalibrationConfig:
    """The roll-out that frictions are measured in.

    Args:
        by: a friction for each class of atoms; for each of these and each kind of bond, by the
            classes of its atoms (stretches); or for each normal mode of the one molecule there is,
            which must keep its shape.
        temperatures: T_c,ref: those of the training frames, or, of modes, their mean for every c.
            Atoms and bonds of a molecule at rest do not have one temperature.
        length_ps: its length; 0: no calibration.
        replicas: trajectories of each molecule, from evenly spaced training frames.
        coupling_ps: relaxation time τ of its thermostat.
    """

    by: Literal["classes", "stretches", "modes"] = "classes"
    temperatures: Literal["frames", "equal"] = "frames"
    length_ps: float = 0.0
    replicas: int = 32
    coupling_ps: float = 1.0

    def __post_init__(self) -> None:
        check_values(self, "calibration", "length_ps >= 0", "replicas >= 1", "coupling_ps > 0")
        if self.temperatures == "equal" and self.by != "modes":
            raise InputError("calibration.temperatures: equal is for calibration.by: modes")


def check(
    kind: str,
    series: Sequence[Series],
    frames: tuple[int, int],
    settings: CalibrationConfig,
    class_rounds: int = CLASS_ROUNDS,
) -> None:
    """Say before a training what would stop the calibration after it.

    Args:
        kind: mode of the model.
        series, frames, settings: as `calibrate`.
        class_rounds: of the classes of atoms.

    Raises:
        InputError: a model without velocities at the frame; `by` modes for several molecules or
            one that does not keep its shape; `by` stretches with classes that take molecules of
            other kinds of bonds.
    """
    if kind != TransitionModel.kind:
        raise InputError(f"calibration: only the mode residual has it, not {kind}")
    if settings.by == "stretches" and class_rounds < CLASS_ROUNDS:
        raise InputError(f"calibration.by: stretches needs data.class_rounds {CLASS_ROUNDS}")
    if settings.by == "modes":
        if len(series) != 1:
            raise InputError("calibration.by: modes is of one molecule; set data.molecules")
        _modes_of([(series[0], _with_velocities(frames))])


def calibrate(
    folder: Path,
    series: list[Series],
    frames: tuple[int, int],
    settings: CalibrationConfig,
    more: Sequence[Series] = (),
    *,
    compile: bool = True,
) -> None:
    """Measure the frictions of a released checkpoint and store them with its weights.

    Args:
        folder: of the checkpoint.
        series: the trajectories it was trained on, those of one molecule calibrated together; a
            class in several molecules gets the mean.
        frames: first and one past the last training frame.
        settings: see `CalibrationConfig`.
        more: further trajectories of these molecules that it was trained on.
        compile: compile the network.

    Raises:
        InputError: as `check`, every replica collapsed, or a length below a lag.
    """
    model, config = load_model(str(folder))
    rounds = config.defaults.get("class_rounds", CLASS_ROUNDS)
    check(model.kind, series, frames, settings, rounds)
    assert isinstance(model, TransitionModel)
    model.set_friction(None)
    model.modes = model.stretches = None
    found: dict[str, list[float]] = {}
    of_molecule: dict[str, list[tuple[Series, slice]]] = {}
    for s in series:
        of_molecule.setdefault(s.key, []).append((s, _with_velocities(frames)))
    for s in more:
        if s.key in of_molecule:
            of_molecule[s.key].append((s, slice(2, None)))
    for seen in of_molecule.values():
        frictions = measure(Generator(model, config, compile=compile), seen, settings)
        for name, value in frictions.items():
            found.setdefault(name, []).append(value)
    mean = {name: float(np.mean(rates)) for name, rates in found.items()}
    if settings.by != "modes":
        model.set_friction(torch.tensor([mean.get(name, 0.0) for name in model.types]))
    if settings.by == "stretches":
        model.stretches = StretchFriction(len(model.types))
        for name in mean.keys() - set(model.types):
            model.stretches.set_rate(*_types_of(model, name), mean[name])
    entries, _ = model.description()
    card = (folder / CARD).read_text(encoding="utf-8")
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    save(folder, weights, replace(config, model=entries), card, overwrite=True)


def measure(
    generator: Generator, seen: Sequence[tuple[Series, slice]], settings: CalibrationConfig
) -> dict[str, float]:
    """Frictions of the classes, stretches or modes of one molecule, 1/fs, as the module says.

    Args:
        seen: its trajectories, and of each the frames that it was trained on and that have
            velocities: their mean temperatures are held. The roll-out starts from the first.

    Raises:
        InputError: every replica collapsed, or a length below a lag.
    """
    model = generator.model
    assert isinstance(model, TransitionModel)
    molecule = seen[0][0].name
    groups = _GROUPS[settings.by](model, seen)
    wanted = groups.of_frames
    if settings.temperatures == "equal":
        wanted = np.full_like(wanted, np.average(wanted, weights=groups.sizes))

    lag = generator.lag_fs
    coupling = settings.coupling_ps * FS_PER_PS
    steps = round(settings.length_ps * FS_PER_PS / lag)
    if steps < 1:
        raise InputError(
            f"calibration.length_ps: {settings.length_ps:g} is below the lag, {lag:g} fs"
        )
    forget = lag / (_SMOOTHING * coupling)
    constant, smooth = np.zeros(len(wanted)), wanted.copy()
    energy, work = np.zeros((2, len(wanted)))
    judged = 0
    groups.slow(constant)
    start = _starts(*seen[0], settings.replicas)
    states = generator.propagate(start, steps, lag, seed=_SEED)
    friction = constant
    for step, state in enumerate(states):
        alive = state.alive if state.alive is not None else np.ones(state.n_replicas, dtype=bool)
        if not alive.any():
            raise InputError(
                f"calibration: every replica of {molecule} collapsed within "
                f"{(step + 1) * lag / FS_PER_PS:g} ps; train longer"
            )
        assert state.velocities is not None
        now = groups.temperatures(state.positions[alive], state.velocities[alive]).mean(0)
        if step >= _SETTLING * steps:
            energy, work, judged = energy + now, work + friction * now, judged + 1
        smooth += forget * (now - smooth)
        excess = smooth / wanted - 1
        constant = constant + excess * lag / (_INTEGRAL_TIMES * coupling**2)
        friction = constant + excess / coupling
        groups.slow(friction)
    found = work / energy
    groups.slow(found)
    for name, rate, ratio in zip(groups.names, found, energy / judged / wanted, strict=True):
        _log.info(
            "%s %s: friction %+.4f per ps, temperature %.3f of what it is to be",
            molecule,
            name,
            FS_PER_PS * rate,
            ratio,
        )
    return dict(zip(groups.names, found.tolist(), strict=True))


@dataclass(frozen=True)
class _Groups:
    """What frictions act on.

    Attributes:
        names: of the C groups.
        sizes: how many atoms, bonds or modes each has, [C].
        of_frames: their temperatures in the training frames, [C], K.
        temperatures: of states [R, N, 3], Å and Å/fs: [R, C], K.
        slow: lets frictions [C], 1/fs, act from the next step on.
    """

    names: list[str]
    sizes: Float
    of_frames: Float
    temperatures: Callable[[Float, Float], Float]
    slow: Callable[[Float], None]


def _by_class(model: TransitionModel, seen: Sequence[tuple[Series, slice]]) -> _Groups:
    """The classes of atoms."""
    series = seen[0][0]
    kinds = sorted(set(series.classes))
    index = torch.tensor([model.types.index(kind) for kind in kinds])
    member = _members(series.classes, kinds)
    model.set_friction(torch.zeros(len(model.types)))

    def temperatures(positions: Float, velocities: Float) -> Float:
        return _temperatures(velocities, series.masses) @ member.T

    def slow(rates: Float) -> None:
        assert model.friction is not None
        model.friction[index] = torch.from_numpy(rates).to(model.friction)

    of_frames = [
        _temperatures(s.velocities[rows].astype(np.float64), s.masses)
        @ _members(s.classes, kinds).T
        for s, rows in seen
    ]
    sizes = np.count_nonzero(member, axis=1).astype(np.float64)
    return _Groups(kinds, sizes, np.concatenate(of_frames).mean(0), temperatures, slow)


def _by_stretch(model: TransitionModel, seen: Sequence[tuple[Series, slice]]) -> _Groups:
    """The classes of atoms, and the bonds between any two of them."""
    atoms = _by_class(model, seen)
    stretches = model.stretches = StretchFriction(len(model.types))
    kinds = sorted(set(_bonds(seen[0][0])[1]))

    def measured_by(series: Series) -> Callable[[Float, Float], Float]:
        """Mean temperature of each kind of bond, K, of states [T, N, 3] twice: [T, C]."""
        pairs, names = _bonds(series)
        masses, member = torch.from_numpy(series.masses), _members(names, kinds)

        def temperatures(positions: Float, velocities: Float) -> Float:
            states = torch.from_numpy(positions), torch.from_numpy(velocities)
            energies = StretchFriction.energies(pairs, masses, *states).numpy()
            return energies @ member.T * (AMU_A2_PER_FS2_IN_EV / KB_EV_PER_K)

        return temperatures

    of_bonds = measured_by(seen[0][0])

    def temperatures(positions: Float, velocities: Float) -> Float:
        parts = (of(positions, velocities) for of in (atoms.temperatures, of_bonds))
        return np.concatenate(list(parts), 1)

    def slow(rates: Float) -> None:
        atoms.slow(rates[: len(atoms.names)])
        for kind, rate in zip(kinds, rates[len(atoms.names) :], strict=True):
            stretches.set_rate(*_types_of(model, kind), rate)

    of_frames = [
        measured_by(s)(*(v[rows].astype(np.float64) for v in (s.positions, s.velocities)))
        for s, rows in seen
    ]
    return _Groups(
        atoms.names + kinds,
        np.concatenate([atoms.sizes, [_bonds(seen[0][0])[1].count(kind) for kind in kinds]]),
        np.concatenate([atoms.of_frames, np.concatenate(of_frames).mean(0)]),
        temperatures,
        slow,
    )


def _by_mode(model: TransitionModel, seen: Sequence[tuple[Series, slice]]) -> _Groups:
    """The normal modes, those of one frequency together."""
    series = seen[0][0]
    modes, positions, velocities = _modes_of(seen)
    model.modes = modes
    masses = torch.from_numpy(series.masses)
    order = modes.order(series.numbers, series.positions[seen[0][1]][0])
    levels = modes.levels.numpy()
    member = np.eye(levels[-1] + 1)[:, levels]
    sizes = member.sum(1)

    def temperatures(positions: Float, velocities: Float) -> Float:
        states = torch.from_numpy(positions), torch.from_numpy(velocities)
        along = modes.coordinates(order, masses, *states).numpy()
        of_modes = np.square(along) * (AMU_A2_PER_FS2_IN_EV / KB_EV_PER_K)
        return of_modes @ (member / sizes[:, None]).T

    def slow(rates: Float) -> None:
        modes.rates.copy_(torch.from_numpy(rates[levels]))

    names = [f"level {k + 1}" for k in range(len(sizes))]
    return _Groups(names, sizes, temperatures(positions, velocities).mean(0), temperatures, slow)


_GROUPS = {"classes": _by_class, "stretches": _by_stretch, "modes": _by_mode}


def _modes_of(seen: Sequence[tuple[Series, slice]]) -> tuple[ModeFriction, Float, Float]:
    """The modes of these frames, without friction; x and v [T, N, 3] of them, all in the order of
    the first series."""
    first, rows = seen[0]
    reference = first.numbers, first.positions[rows][0].astype(np.float64)
    parts = []
    for series, those in seen:
        order = matching_order(reference, series.numbers, series.positions[those][0])
        x, v = (
            values[those][:, order].astype(np.float64)
            for values in (series.positions, series.velocities)
        )
        parts.append((x[1:-1], v[1:-1], (v[2:] - v[:-2]) / (2 * series.interval_fs)))
    x, v, a = (np.concatenate(values) for values in zip(*parts, strict=True))
    return ModeFriction.of(first.numbers, first.masses, x, a), x, v


def _with_velocities(frames: tuple[int, int]) -> slice:
    """Of frames first to one past the last, those that have velocities."""
    return slice(frames[0] + 2, frames[1])


def _members(names: Sequence[str], kinds: list[str]) -> Float:
    """[C, N]: 1/n where an atom or bond is one of the n of a kind, else 0."""
    member = np.asarray(kinds)[:, None] == np.asarray(names)[None]
    return np.asarray(member / member.sum(1, keepdims=True))


def _bonds(series: Series) -> tuple[torch.Tensor, list[str]]:
    """The bonds of a molecule [E, 2], and their kinds, the classes of their atoms: "a-b"."""
    pairs = bonds_of_classes(series.classes, series.numbers, series.positions[0])
    kinds = ["-".join(sorted(series.classes[atom] for atom in pair)) for pair in pairs]
    return torch.from_numpy(pairs), kinds


def _types_of(model: TransitionModel, bond: str) -> tuple[int, int]:
    """The indices of the classes of a kind of bond."""
    first, second = map(model.types.index, bond.split("-"))
    return first, second


def _temperatures(velocities: Float, masses: Float) -> Float:
    """m v² / 3k of each atom: [T, N, 3] Å/fs, [N] amu -> [T, N] K."""
    return masses * np.square(velocities).sum(-1) * (AMU_A2_PER_FS2_IN_EV / (3 * KB_EV_PER_K))


def _starts(series: Series, seen: slice, replicas: int) -> PhaseState:
    """Evenly spaced frames with their velocities and thermostat."""
    last = min(seen.stop, len(series.positions)) - 1
    rows = np.linspace(seen.start, last, replicas).astype(np.int64)
    thermostat = None if series.thermostat is None else series.thermostat[rows]
    return PhaseState(
        series.numbers,
        series.positions[rows].astype(np.float64),
        series.velocities[rows].astype(np.float64),
        thermostat=None if thermostat is None else thermostat.astype(np.float64)[:, None],
    )
