"""The force field as a propagator: frames, replicas that break, going on to the bit."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from forcefield.compiled import compile_in_parts
from forcefield.integrators import ForceFunction
from forcefield.load import load_potential
from forcefield.propagator import Ensemble, ForceFieldPropagator, forces_of
from shared.checkpoint import CheckpointConfig
from shared.data.locate import data_root
from shared.data.sgdml import SGDML, sgdml_model
from shared.errors import InputError
from shared.kinetics import (
    maxwell_boltzmann,
    remove_momentum,
    remove_rotation,
    temperature,
)
from shared.start import degrees_of_freedom, with_velocities
from shared.state import PhaseState, Propagator
from shared.units import masses
from tests.forcefield.analytic import WATER, WATER_POSITIONS, morse
from tests.forcefield.tiny import E0, save_tiny

ENSEMBLES = {
    "nve": Ensemble(),
    "nose-hoover": Ensemble("nose-hoover", 300.0),
    "nose-hoover-chain": Ensemble("nose-hoover-chain", 300.0),
    "bussi": Ensemble("bussi", 300.0, relaxation_fs=50.0),
    "langevin": Ensemble("langevin", 300.0, relaxation_fs=50.0),
}


def forces(start: PhaseState) -> ForceFunction:
    assert start.numbers.tolist() == WATER
    return morse()


def water(n_replicas: int = 1, kelvin: float = 300.0) -> PhaseState:
    x = np.tile(WATER_POSITIONS.numpy(), (n_replicas, 1, 1))
    v = maxwell_boltzmann(
        WATER, kelvin, np.random.default_rng(0), n_replicas, remove_rotation=True, positions=x
    )
    return PhaseState(np.array(WATER), x, velocities=v)


def frames(propagator: Propagator, start: PhaseState, n: int = 10, interval_fs: float = 2.0):
    return list(propagator.propagate(start, n, interval_fs, seed=5))


# ---- frames --------------------------------------------------------------------------------------


def test_frames_and_energies() -> None:
    propagator = ForceFieldPropagator(forces, dof=lambda n: 3 * n - 6)
    states = frames(propagator, water(2))
    assert [state.time_fs for state in states] == pytest.approx([2.0 * k for k in range(1, 11)])
    assert all(state.alive.all() for state in states)
    last, seen = states[-1], propagator.observables
    np.testing.assert_allclose(
        seen.temperature, temperature(last.velocities, masses(WATER), dof=3), rtol=1e-12
    )
    potential = morse()(torch.tensor(last.positions))[0]
    np.testing.assert_allclose(seen.potential, potential, atol=1e-14)
    np.testing.assert_allclose(seen.conserved, seen.potential + seen.kinetic, atol=1e-14)
    assert not seen.bath.any()


def test_frames_stream() -> None:
    """A frame is made when it is asked for."""
    count = 0

    def counted(start: PhaseState) -> ForceFunction:
        def evaluate(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            nonlocal count
            count += 1
            return morse()(x)

        return evaluate

    states = ForceFieldPropagator(counted).propagate(water(), 10**9, 0.5, seed=0)
    assert count == 0
    next(states)
    assert count == 2


@pytest.mark.parametrize("name", ENSEMBLES)
def test_frames_saved_less_often_are_the_same(name: str) -> None:
    propagator = ForceFieldPropagator(forces, ensemble=ENSEMBLES[name])
    often, seldom = frames(propagator, water(2), 8, 1.0), frames(propagator, water(2), 2, 4.0)
    np.testing.assert_array_equal(often[3].positions, seldom[0].positions)
    np.testing.assert_array_equal(often[7].velocities, seldom[1].velocities)


@pytest.mark.parametrize("name", ENSEMBLES)
def test_taken_up_to_the_bit(name: str) -> None:
    ensemble = ENSEMBLES[name]
    propagator = ForceFieldPropagator(forces, ensemble=ensemble)
    whole = frames(propagator, water(3), 20, 1.5)
    conserved = propagator.observables.conserved
    propagator = ForceFieldPropagator(forces, ensemble=ensemble)
    begun = frames(propagator, water(3), 7, 1.5)
    taken = ForceFieldPropagator(
        forces,
        ensemble=ensemble,
        reference=WATER_POSITIONS.numpy(),
        bath=propagator.observables.bath.tolist(),
    )
    rest = frames(taken, begun[-1], 13, 1.5)
    np.testing.assert_array_equal(whole[-1].positions, rest[-1].positions)
    np.testing.assert_array_equal(whole[-1].velocities, rest[-1].velocities)
    np.testing.assert_array_equal(conserved, taken.observables.conserved)
    assert whole[-1].time_fs == rest[-1].time_fs


def test_seed() -> None:
    propagator = ForceFieldPropagator(forces, ensemble=ENSEMBLES["langevin"])
    one, other = (next(propagator.propagate(water(), 1, 1.0, seed=s)) for s in (0, 1))
    assert not np.array_equal(one.velocities, other.velocities)


def test_thermostat_variables_are_gone_on_with() -> None:
    """And are those of a single thermostat in `PhaseState`."""
    start = replace(water(2), thermostat=np.array([[0.03], [-0.03]]))
    states = frames(ForceFieldPropagator(forces, ensemble=ENSEMBLES["nose-hoover"]), start, 1, 0.5)
    assert states[0].thermostat.shape == (2, 1)
    np.testing.assert_allclose(states[0].thermostat, start.thermostat, atol=0.02)
    chain = frames(ForceFieldPropagator(forces, ensemble=ENSEMBLES["nose-hoover-chain"]), start, 1)
    assert chain[0].thermostat.shape == (2, 3)
    assert frames(ForceFieldPropagator(forces), start, 1)[0].thermostat is None


@pytest.mark.parametrize("name", ["nose-hoover", "nose-hoover-chain"])
def test_start_from_a_pair_of_frames(name: str) -> None:
    """The velocities of the engine that made the frames, for its forces and friction."""
    propagator = ForceFieldPropagator(forces, ensemble=ENSEMBLES[name])
    before, now = frames(propagator, water(2), 20, 0.5)[-2:]
    found = propagator.from_pair(replace(now, velocities=None), before.positions, 0.5)
    np.testing.assert_allclose(found.velocities, now.velocities, atol=1e-12)
    labels = morse()(torch.tensor(now.positions))[1].numpy()
    found = propagator.from_pair(replace(now, velocities=None), before.positions, 0.5, labels)
    np.testing.assert_allclose(found.velocities, now.velocities, atol=1e-12)


@pytest.mark.data
def test_it_goes_on_with_the_surrogate_data() -> None:
    """From a pair, forces and friction, the engine that made the frames: what is left is rounding.

    The frames are stored in float32; without the thermostat they are not followed at all.
    """
    data = np.load(data_root() / "md17s" / "md17s_ethanol.npz")
    engine = SGDML(sgdml_model("ethanol"), data["z"])

    def published(start: PhaseState) -> ForceFunction:
        return engine

    at = np.array([30_000, 34_000])
    xi = data["xi_per_fs"][at].astype(np.float64)[:, None]
    start = PhaseState(data["z"], data["R"][at], thermostat=xi)
    thermostatted = ForceFieldPropagator(published, ensemble=Ensemble("nose-hoover", 500.0))
    start = thermostatted.from_pair(start, data["R"][at - 1], 0.5)
    ahead = data["R"][at + 20]
    errors = []
    for propagator in (thermostatted, ForceFieldPropagator(published)):
        (state,) = propagator.propagate(start, 1, 10.0, seed=0)
        errors.append(np.sqrt(np.square(state.positions - ahead).mean()))
    assert errors[0] < 1e-5
    assert errors[1] > 0.005


def test_the_temperature_is_that_of_what_moves() -> None:
    """Without drift and rotation 3N − 6 degrees of freedom are live: the start has T over them, and
    Bussi keeps it there, and the other motions at rest."""
    x = np.tile(WATER_POSITIONS.numpy(), (400, 1, 1))
    config = CheckpointConfig(
        "forcefield", "c", "potential", {}, [1, 8], temperature_convention="3N-6"
    )
    start, _ = with_velocities(PhaseState(np.array(WATER), x), config, 300.0, seed=0)
    np.testing.assert_allclose(temperature(start.velocities, masses(WATER), 3), 300.0)
    bussi = Ensemble("bussi", 300.0, relaxation_fs=10.0)
    count = degrees_of_freedom(config, start.numbers, start.positions[0])
    propagator = ForceFieldPropagator(forces, ensemble=bussi, dof=lambda _: count)
    found = []
    for state in frames(propagator, start, 40, 10.0)[20:]:
        m, v = masses(WATER), state.velocities
        internal = remove_rotation(state.positions, remove_momentum(v, m), m)
        np.testing.assert_allclose(internal, v, atol=1e-8)
        found.append(temperature(internal, m, 3))
    # The standard error of one frame is 300 K · √(2/(3 · 400)) = 12 K, that of 20 smaller.
    assert np.mean(found) == pytest.approx(300.0, abs=12.0)


@pytest.mark.parametrize("name", ["bussi", "nose-hoover-chain"])
def test_what_is_counted_does_not_change_what_is_canonical(name: str) -> None:
    """MD17 counts all 3N: at 100 K so counted, water's three live degrees of freedom are at 300 K,
    and their kinetic energy is spread as that of three, not as that of nine."""
    start = water(400)
    m = masses(WATER)
    inner = remove_rotation(start.positions, remove_momentum(start.velocities, m), m)
    start = replace(start, velocities=inner)
    ensemble = Ensemble(name, 100.0, relaxation_fs=10.0)
    propagator = ForceFieldPropagator(forces, ensemble=ensemble)
    found = []
    for state in propagator.propagate(start, 60, 10.0, seed=5):
        found.append(temperature(state.velocities, m))
        np.testing.assert_allclose(propagator.observables.temperature, found[-1])
    found = np.array(found)[20:, state.alive]
    assert np.mean(found) == pytest.approx(100.0, rel=0.04)
    assert np.std(found) == pytest.approx(100.0 * np.sqrt(2 / 3), rel=0.08)  # of nine: 47 K


def test_what_moves_is_that_of_the_first_start() -> None:
    """However a linear molecule has bent since, and whatever the replicas beside it do."""
    line = np.array([[-1.16, 0, 0], [0, 0, 0], [1.16, 0, 0.0]])
    bent = line + np.array([[0, 0, 0], [0, 0.1, 0], [0, 0, 0.0]])
    ensemble = Ensemble("bussi", 300.0)
    found = []
    for x, reference in ((line, None), (bent, line), (bent, None)):
        state = PhaseState(np.array([8, 6, 8]), x[None], velocities=np.ones((1, 3, 3)))
        propagator = ForceFieldPropagator(forces, ensemble=ensemble, reference=reference)
        found.append(propagator._integrator(state, None, 0.5, 0).dof)
    assert found == [4, 4, 3]
    atom = PhaseState(np.array([18]), np.zeros((1, 1, 3)), velocities=np.ones((1, 1, 3)))
    propagator = ForceFieldPropagator(forces, ensemble=ensemble)
    assert propagator._integrator(atom, None, 0.5, 0).dof == 3  # nothing else moves


# ---- replicas that break -------------------------------------------------------------------------


def hot(n_replicas: int = 3) -> PhaseState:
    """Replica 1 flies apart, the others do not."""
    start = water(n_replicas)
    start.velocities[1] *= 12.0
    return start


@pytest.mark.parametrize("watch", ["frame", "step"])
def test_a_broken_replica_repeats_its_last_frame(watch: str, caplog) -> None:
    propagator = ForceFieldPropagator(forces, watch=watch)
    start = hot()
    states = frames(propagator, start, 20, 5.0)
    alive = np.array([state.alive for state in states])
    assert alive[:, [0, 2]].all()
    assert not alive[-1, 1]
    broke = int(np.argmin(alive[:, 1]))
    last = states[broke - 1].positions[1] if broke else start.positions[1]
    for state in states[broke:]:
        np.testing.assert_array_equal(state.positions[1], last)
    stopped = propagator.stopped_fs[1]
    assert 5.0 * broke < stopped <= 5.0 * (broke + 1)
    assert (stopped == 5.0 * (broke + 1)) == (watch == "frame")
    assert f"({stopped:g} fs): a bond is off" in caplog.text
    only = frames(ForceFieldPropagator(forces), start.select(0), 20, 5.0)
    np.testing.assert_allclose(states[-1].positions[0], only[-1].positions[0], atol=1e-9)


def test_a_time_step_too_long(caplog) -> None:
    """It stops, says at which step, and what was whole before stays."""
    propagator = ForceFieldPropagator(forces, timestep_fs=12.0)
    states = frames(propagator, water(2), 60, 120.0)
    assert not states[-1].alive.any()
    assert all(np.isfinite(state.positions).all() for state in states)
    assert all(np.isfinite(values).all() for values in vars(propagator.observables).values())
    assert set(propagator.stopped_fs) == {0, 1}
    assert "replica 0 stopped at step" in caplog.text


def test_explosion_is_dated_to_the_step(caplog) -> None:
    def bomb(start: PhaseState) -> ForceFunction:
        steps = -1

        def evaluate(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            nonlocal steps
            steps += 1
            energy, pull = morse()(x)
            return energy, torch.full_like(pull, torch.nan) if steps == 7 else pull

        return evaluate

    propagator = ForceFieldPropagator(bomb)
    (state,) = frames(propagator, water(), 1, 10.0)
    assert not state.alive.any()
    np.testing.assert_array_equal(state.positions, water().positions)
    assert propagator.stopped_fs == {0: 3.5}
    assert "stopped at step 7 (3.5 fs): not finite" in caplog.text


def test_frozen_is_broken(caplog) -> None:
    propagator = ForceFieldPropagator(forces)
    (state,) = frames(propagator, water(kelvin=0.01), 1, 0.5)
    assert not state.alive.any()
    assert "below 0.1 K" in caplog.text


def test_a_replica_that_broke_before_stays_so() -> None:
    start = replace(water(2), alive=np.array([True, False]))
    state = frames(ForceFieldPropagator(forces), start, 3)[-1]
    assert state.alive.tolist() == [True, False]
    np.testing.assert_array_equal(state.positions[1], start.positions[1])


def test_bond_lengths_of_reference_frames() -> None:
    """Their mean is what bonds are held against."""
    long = 2.2 * WATER_POSITIONS.numpy()
    for frames_given, whole in (
        ([water().positions[0]] * 2, True),
        ([water().positions[0], long], False),
    ):
        reference = np.array(frames_given)
        propagator = ForceFieldPropagator(forces, reference=reference)
        (state,) = frames(propagator, water(), 1)
        assert state.alive.all() == whole


# ---- bad input -----------------------------------------------------------------------------------


def test_bad_input() -> None:
    propagator = ForceFieldPropagator(forces)
    with pytest.raises(InputError, match="no velocities"):
        propagator.propagate(replace(water(), velocities=None), 1, 1.0, seed=0)
    with pytest.raises(InputError, match="must be a multiple of the time step"):
        propagator.propagate(water(), 1, 0.7, seed=0)
    with pytest.raises(InputError, match="time step must be more than 0"):
        ForceFieldPropagator(forces, timestep_fs=0.0)
    with pytest.raises(InputError, match="needs a temperature"):
        Ensemble("bussi")
    with pytest.raises(InputError, match="no ensemble npt"):
        Ensemble("npt")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="relaxation_fs must be more than 0"):
        Ensemble("bussi", 300.0, relaxation_fs=-1.0)


# ---- a checkpoint's forces -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory):
    return load_potential(str(save_tiny(tmp_path_factory.mktemp("tiny"))), torch.float64)


def test_energies_have_those_of_the_isolated_atoms_and_forces_their_slope(loaded) -> None:
    evaluate = forces_of(loaded, compiled=False)(water(2))
    x = torch.tensor(water(2).positions)
    energy, pull = evaluate(x)
    assert energy[0] == pytest.approx(2 * E0[0] + E0[2], abs=1.0)
    assert energy[0] != 2 * E0[0] + E0[2]
    step = torch.zeros_like(x)
    step[:, 1, 0] = 1e-4
    slope = (evaluate(x + step)[0] - evaluate(x - step)[0]) / 2e-4
    torch.testing.assert_close(pull[:, 1, 0], -slope, atol=1e-7, rtol=0)


def test_far_from_the_origin_nothing_is_lost(tmp_path) -> None:
    narrow = load_potential(str(save_tiny(tmp_path / "tiny")))
    evaluate = forces_of(narrow, compiled=False)(water())
    x = torch.tensor(water().positions)
    near, far = evaluate(x), evaluate(x + 1e4)
    torch.testing.assert_close(near[1], far[1], atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("pairs", [1, 18, 1000])  # 1, 2 or all of a thread's 5 replicas at once
def test_traced_forces_are_the_same(pairs, threads, loaded, monkeypatch) -> None:
    """As they are compiled, but for the compiler, which takes half a minute."""
    traced = partial(compile_in_parts, compiled=False)
    monkeypatch.setattr("forcefield.propagator.compile_in_parts", traced)
    monkeypatch.setattr("forcefield.compiled._PAIRS_PER_THREAD", pairs)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    x = torch.tensor(water(5).positions)
    x += 0.02 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    (e, f), (e2, f2) = (forces_of(loaded, compiled=c)(water(5))(x) for c in (False, True))
    torch.testing.assert_close(e, e2, atol=1e-10, rtol=0)
    torch.testing.assert_close(f, f2, atol=1e-10, rtol=0)


def test_without_a_compiler_it_runs_uncompiled(loaded, monkeypatch, caplog) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no compiler")

    monkeypatch.setattr("forcefield.propagator.compile_in_parts", broken)
    energy, _ = forces_of(loaded)(water())(torch.tensor(water().positions))
    assert torch.isfinite(energy).all()
    assert "not compiled (RuntimeError)" in caplog.text


def test_unknown_element(loaded) -> None:
    start = PhaseState(np.array([7, 1, 1]), water().positions)
    with pytest.raises(InputError, match="does not know the element N; it knows H, C, O"):
        forces_of(loaded)(start)
