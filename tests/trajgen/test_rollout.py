"""Roll-out: conservation laws, symmetries, determinism, resuming, replicas that break."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shared.errors import InputError
from shared.kinetics import maxwell_boltzmann, temperature
from shared.state import PhaseState
from shared.units import masses
from tests.physics import random_rotation
from tests.trajgen.conftest import MOLECULES, save_tiny
from trajgen.load import load_model
from trajgen.rollout import Generator, _State

LAG = 0.5  # fs
HISTORIES = ["thermostat", "acceleration"]


def start_state(n_replicas: int = 2, name: str = "ethanol", drift: float = 0.0) -> PhaseState:
    """At 10 K, with rotation; with `drift` Å/fs along each axis."""
    numbers = MOLECULES[name].numbers
    rng = np.random.default_rng(3)
    velocities = maxwell_boltzmann(numbers, 10.0, rng, n_replicas) + drift
    positions = np.repeat(MOLECULES[name].positions[None], n_replicas, 0) + 3.0
    return PhaseState(
        numbers=numbers,
        positions=positions,
        velocities=velocities,
        previous_velocities=velocities + 1e-4 * rng.standard_normal(velocities.shape),
        previous_interval_fs=0.5,
    )


@pytest.fixture
def generator(tmp_path: Path) -> Callable[..., Generator]:
    folders = {history: save_tiny(tmp_path / history, history) for history in HISTORIES}

    def make(history: str = "thermostat", dtype: Any = None, **options: Any) -> Generator:
        model, config = load_model(str(folders[history]))
        return Generator(model if dtype is None else model.to(dtype), config, **options)

    return make


def last(generator: Generator, start: PhaseState, n_frames: int = 10, seed: int = 1) -> PhaseState:
    return list(generator.propagate(start, n_frames, LAG, seed=seed))[-1]


def same(one: PhaseState, other: PhaseState) -> bool:
    """To the bit."""
    names = ("positions", "velocities", "previous_velocities", "thermostat", "alive")
    pairs = [(getattr(one, n), getattr(other, n)) for n in names]
    return one.time_fs == other.time_fs and all(
        a is b is None or np.array_equal(a, b) for a, b in pairs
    )


@pytest.mark.parametrize("history", HISTORIES)
def test_momentum_is_kept_and_the_centre_flies_on(generator, history: str) -> None:
    start = start_state(drift=0.01)
    m = masses(start.numbers)
    end = last(generator(history), start, n_frames=20)
    assert np.abs(end.velocities - start.velocities).max() > 1e-4, "nothing happened"

    def mean(values: np.ndarray) -> np.ndarray:
        return np.einsum("rnk,n->rk", values, m / m.sum())

    np.testing.assert_allclose(mean(end.velocities), mean(start.velocities), atol=1e-14)
    flight = mean(start.positions) + end.time_fs * mean(start.velocities)
    np.testing.assert_allclose(mean(end.positions), flight, atol=1e-12)


@pytest.mark.parametrize("history", HISTORIES)
def test_angular_momentum_is_kept_on_request(generator, history: str) -> None:
    start = start_state()
    m = masses(start.numbers)

    def spin(state: PhaseState) -> np.ndarray:
        x = state.positions - np.einsum("rnk,n->rk", state.positions, m / m.sum())[:, None]
        return np.einsum("n,rnk->rk", m, np.cross(x, state.velocities))

    size = np.abs(spin(start)).max()
    kept = last(generator(history, keep_angular_momentum=True), start)
    np.testing.assert_allclose(spin(kept), spin(start), atol=1e-6 * size)
    free = last(generator(history), start)
    assert np.abs(spin(free) - spin(start)).max() > 1e-3 * size


@pytest.mark.parametrize("history", HISTORIES)
def test_rotation_translation_permutation(generator, monkeypatch, history: str) -> None:
    """Of the mean of the kernel: noise is drawn in the frame and the order of the laboratory."""
    model = generator(history, torch.float64)
    monkeypatch.setattr(torch, "randn", lambda *shape, generator, **of: torch.zeros(*shape, **of))
    rotation = random_rotation(torch.Generator().manual_seed(0)).numpy()
    order = np.random.default_rng(0).permutation(9)
    start = start_state()

    def moved(state: PhaseState) -> PhaseState:
        values = {"numbers": state.numbers[order], "positions": state.positions @ rotation.T + 5.0}
        for name in ("velocities", "previous_velocities"):
            values[name] = (getattr(state, name) @ rotation.T)[:, order]
        return replace(state, **values | {"positions": values["positions"][:, order]})

    moved_end, end = last(model, moved(start)), last(model, start)
    assert np.abs(end.velocities - start.velocities).max() > 1e-4, "nothing happened"
    expected = moved(end)
    np.testing.assert_allclose(moved_end.positions, expected.positions, atol=1e-9)
    np.testing.assert_allclose(moved_end.velocities, expected.velocities, atol=1e-10)


@pytest.mark.parametrize("sampler", ["heun", "euler-maruyama", "predictor-corrector"])
def test_the_seed_decides(generator, sampler: str) -> None:
    model, start = generator(sampler=sampler, steps=3), start_state()
    end = last(model, start, seed=1)
    assert end.alive.all()
    assert same(end, last(model, start, seed=1))
    assert not same(end, last(model, start, seed=2))


@pytest.mark.parametrize("history", HISTORIES)
def test_stopping_and_going_on_changes_nothing(generator, history: str) -> None:
    """Neither does the interval between frames."""
    model, start = generator(history, sampler="euler-maruyama", steps=3), start_state()
    model.reference = start.positions[0]
    whole = last(model, start, n_frames=12)
    assert whole.alive.all()
    assert same(whole, last(model, last(model, start, n_frames=5), n_frames=7))
    assert same(whole, list(model.propagate(start, 3, 4 * LAG, seed=1))[-1])


def test_history_matters(generator) -> None:
    """The acceleration of a start is used where it was taken over the right time, else not."""
    model, start = generator(), start_state()
    without = replace(start, previous_velocities=None, previous_interval_fs=None)
    assert not same(last(model, start, 1), last(model, without, 1))
    assert same(last(model, replace(start, previous_interval_fs=0.7), 1), last(model, without, 1))
    with_xi = replace(without, thermostat=np.full((2, 1), 0.05))
    assert not same(last(model, with_xi, 1), last(model, without, 1))


def test_a_broken_replica_stops_and_the_others_go_on(generator) -> None:
    start = start_state(3)
    velocities = start.velocities.copy()
    velocities[1] *= 8
    start = replace(start, velocities=velocities, previous_velocities=None,
                    previous_interval_fs=None)  # fmt: skip
    states = list(generator().propagate(start, 30, LAG, seed=0))
    alive = np.array([s.alive for s in states])
    assert alive[0].all()
    assert alive[-1].tolist() == [True, False, True]
    broke = int(alive[:, 1].argmin())
    assert not alive[broke:, 1].any()
    for later in states[broke:]:
        np.testing.assert_array_equal(later.positions[1], states[broke - 1].positions[1])
    assert not np.array_equal(states[-1].positions[0], states[-2].positions[0])
    # A run that is resumed still knows.
    again = last(generator(), states[broke], n_frames=2)
    assert again.alive.tolist() == [True, False, True]


def test_a_replica_that_is_not_finite_stops(generator) -> None:
    start = start_state()
    velocities = start.velocities.copy()
    velocities[1] = 1e30  # more than the network's precision holds
    start = replace(start, velocities=velocities)
    model = generator()
    (end,) = model.propagate(start, 1, 5 * model.lag_fs, seed=0)
    assert model.stopped_fs == {1: model.lag_fs}  # when it broke, not when a frame shows it
    assert end.alive.tolist() == [True, False]
    np.testing.assert_array_equal(end.positions[1], start.positions[1])


def test_angular_momentum_of_what_broke(generator) -> None:
    """Keeping it takes an eigenvalue problem, which must not fail for all with one replica."""
    start = start_state()
    velocities = start.velocities.copy()
    velocities[1] = 1e30
    end = last(generator(keep_angular_momentum=True), replace(start, velocities=velocities))
    assert end.alive.tolist() == [True, False]


def test_thermostat_brings_the_temperature(generator) -> None:
    model = generator(thermostat_time_fs=2.0, thermostat_temperature_K=20.0)
    end = last(model, start_state(64), n_frames=20)
    assert end.alive.all()
    kelvin = temperature(end.velocities, masses(end.numbers))
    assert kelvin.mean() == pytest.approx(20, rel=0.1)


def test_thermostat_alone_is_canonical(generator) -> None:
    """Of what nothing else moves, kinetic energy is spread as that of the g degrees of freedom that
    move, here all but the drift, whatever the temperature counts, here all 3N."""
    model, start = generator(thermostat_time_fs=1.0, thermostat_temperature_K=20.0), start_state(64)
    state, seen = _State(model, start), []
    v = state.v
    for state.count in range(200):
        v = state._couple(v, seed=0)
        seen.append(temperature(v.numpy(), masses(start.numbers)))
    kelvin, dof = np.array(seen[20:]), 3 * start.n_atoms - 3
    assert kelvin.mean() == pytest.approx(20, rel=0.02)
    assert kelvin.std() == pytest.approx(20 * np.sqrt(2 / dof), rel=0.05)


def test_far_from_the_origin(generator) -> None:
    """Positions are float64, and the network sees them relative to the centre of mass."""
    model, start = generator(), start_state()
    far = replace(start, positions=start.positions + 1e5)
    shifted = last(model, far).positions - 1e5
    np.testing.assert_allclose(shifted, last(model, start).positions, atol=1e-8)


def test_where_compiling_fails_it_runs_as_it_is(generator, monkeypatch, caplog) -> None:
    def no_compiler(model: Any, **options: Any) -> Any:
        def call(*arguments: Any) -> Any:
            raise RuntimeError("no C++ compiler")

        return call

    monkeypatch.setattr(torch, "compile", no_compiler)
    start = start_state()
    assert same(last(generator(compile=True), start), last(generator(), start))
    assert "not compiled" in caplog.text


def test_what_is_refused(generator, tmp_path: Path) -> None:
    start = start_state()
    with pytest.raises(InputError, match=r"lag of 5 fs is outside .*\(0.25 to 1 fs\)"):
        generator(lag_fs=5.0)
    with pytest.raises(InputError, match="lag of nan fs"):
        generator(lag_fs=float("nan"))
    with pytest.raises(InputError, match=r"unknown sampler 'magic'.* one of heun"):
        generator(sampler="magic")
    with pytest.raises(InputError, match="at least 1"):
        generator(steps=0)
    model, config = load_model(str(save_tiny(tmp_path / "cold", temperature_K=None)))
    with pytest.raises(InputError, match="no temperature of its own for the thermostat"):
        Generator(model, config, thermostat_time_fs=5.0)
    for interval in (0.7, 0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="must be a multiple of the lag"):
            generator().propagate(start, 1, interval, seed=0)
    still = replace(start, velocities=None, previous_velocities=None, previous_interval_fs=None)
    with pytest.raises(InputError, match="no velocities"):
        generator().propagate(still, 1, LAG, seed=0)
    other = replace(start, numbers=np.array([6, 6, 6, 1, 1, 1, 1, 1, 1]))
    with pytest.raises(InputError, match="does not know this molecule"):
        generator().propagate(other, 1, LAG, seed=0)
