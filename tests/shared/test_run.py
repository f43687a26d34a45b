"""What the commands that write a trajectory share; their own tests run it as a whole."""

import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.checkpoint import CheckpointConfig
from shared.command import run_command
from shared.errors import InputError
from shared.kinetics import temperature
from shared.record import RunRecord
from shared.run import Job, Run, check_arguments, checked_device
from shared.start import (
    degrees_of_freedom,
    far_from_trained,
    with_velocities,
)
from shared.state import PhaseState
from shared.units import masses
from shared.writers import load_state

FINE = {"replicas": 1, "seed": 0, "resume": False, "overwrite": False}


def finished(n_whole: int = 1) -> Run:
    verdict = {
        "n_replicas": 2,
        "n_whole": n_whole,
        "run_ps": 1.0,
        "broke_at_ps": {"1": 0.25},
        "largest_bond_deviation_angstrom": 0.125,
        "mean_temperature_K": 300.4,
        "degrees_of_freedom": 9,
    }
    return Run(
        molecule="water",
        checkpoint="tiny",
        trajectories=[Path(f"w_r00{k}.dcd") for k in range(2)],
        topology=Path("w.pdb"),
        sidecar=Path("w.json"),
        others=[Path("w.csv")],
        plot=None,
        stability=verdict,
        elapsed_s=2.0,
        generated_ps=1.0,
    )


def broken_record(**options: Any) -> RunRecord:
    """Of a replica that was whole at 50 fs and not at 100 fs."""
    record = RunRecord(WATER.numbers, WATER.positions[0], 1, 3, **options)
    still = replace(WATER, velocities=np.zeros((1, 3, 3)))
    record.observe(replace(still, time_fs=50.0, alive=np.array([True])))
    record.observe(replace(still, time_fs=100.0, alive=np.array([False])))
    return record


def test_a_break_is_dated_by_what_saw_it() -> None:
    verdict = broken_record().verdict()
    assert (verdict["broke_at_ps"], verdict["run_ps"]) == ({"0": 0.1}, 0.1)
    assert "broke_at_step" not in verdict
    verdict = broken_record(stopped_fs={0: 62.5}, timestep_fs=2.5).verdict()
    assert (verdict["broke_at_ps"], verdict["run_ps"]) == ({"0": 0.0625}, 0.0625)
    assert verdict["broke_at_step"] == {"0": 25}


def test_summary() -> None:
    assert finished().summary().splitlines() == [
        "water, checkpoint tiny: 2 replicas, 1 ps in 2.0 s (0.5 ps/s)",
        "stability: 1 of 2 whole, largest bond deviation 0.12 Å",
        "  replica 1 broke at 0.25 ps",
        "temperature: 300 K on average (9 degrees of freedom)",
        "wrote w_r000.dcd to w_r001.dcd, w.pdb, w.json, w.csv",
    ]
    verdict = finished().stability | {"broke_at_step": {"1": 500}}
    lines = replace(finished(), stability=verdict, trajectories=[]).summary().splitlines()
    assert lines[2] == "  replica 1 broke at 0.25 ps (step 500)"
    assert lines[-1] == "wrote w.pdb, w.json, w.csv"
    for generated, says in ((0.4, "1 ps, the last 0.4 ps in"), (0.0, "1 ps, nothing left to do")):
        resumed = replace(finished(), generated_ps=generated).summary()
        assert f"2 replicas, {says}" in resumed.splitlines()[0]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"replicas": 0}, "replicas must be at least 1, not 0"),
        ({"seed": 2**32}, "seed must be from 0"),
        ({"resume": True, "overwrite": True}, "either resumed or overwritten"),
        ({"time_step": float("inf")}, "the time step must be more than 0, not inf"),
    ],
)
def test_arguments(changed: dict[str, float], says: str) -> None:
    check_arguments(**FINE, time_step=None)
    with pytest.raises(InputError, match=says):
        check_arguments(**{**FINE, **changed})


def test_device() -> None:
    assert checked_device("cpu") == "cpu"
    for device in ("warp", "meta"):
        with pytest.raises(InputError, match="choose cpu or cuda"):
            checked_device(device)


@pytest.mark.parametrize(
    ("raised", "code", "says"),
    [
        (None, 0, ""),
        (InputError("no such frame"), 2, "pkg.go: no such frame"),
        (OSError("disk full"), 1, "pkg.go: disk full; what was written is valid"),
        (KeyboardInterrupt(), 1, "pkg.go: interrupted; what was written is valid"),
    ],
)
def test_exit_codes(raised, code, says, capsys: pytest.CaptureFixture[str]) -> None:
    def go(source: str, *, steps: int = 3, progress: bool = False) -> Run:
        assert (source, steps, progress) == ("a.xyz", 4, True)
        if raised is not None:
            raise raised
        return finished()

    options = {"run": {"steps": (int, "N", "how many")}}
    argv = ["--from", "a.xyz", "--steps", "4"]
    assert run_command("pkg.go", "Go.", go, options, argv) == code
    assert capsys.readouterr().err.startswith(says)


def test_no_whole_replica_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    def go(source: str, *, progress: bool = False) -> Run:
        return finished(n_whole=0)

    assert run_command("pkg.go", "Go.", go, {}, ["--from", "a.xyz"]) == 1
    assert capsys.readouterr().err == "pkg.go: no replica is whole, stopped\n"


# ---- the start -----------------------------------------------------------------------------------


def config(convention: str = "3N", kelvin: float | None = 500.0) -> CheckpointConfig:
    return CheckpointConfig(
        "forcefield", "c", "potential", {}, [1, 8],
        temperature_K=kelvin, temperature_convention=convention,
    )  # fmt: skip


WATER = PhaseState(
    np.array([8, 1, 1]), np.array([[[0.0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]]])
)


@pytest.mark.parametrize(("convention", "dof"), [("3N", 9), ("3N-3", 6), ("3N-6", 3)])
def test_velocities_in_the_convention_of_the_checkpoint(convention: str, dof: int) -> None:
    state, origin = with_velocities(WATER.replicate(2), config(convention), None, seed=0)
    assert origin == "Maxwell-Boltzmann at 500 K"
    kelvin = temperature(state.velocities, masses(state.numbers), dof)
    np.testing.assert_allclose(kelvin, 500.0)
    assert degrees_of_freedom(config(convention), WATER.numbers, WATER.positions[0]) == dof


def test_no_temperature() -> None:
    with pytest.raises(InputError, match="has no temperature of its own"):
        with_velocities(WATER, config(kelvin=None), None, seed=0)
    for convention in ("3N-3", "3N-6"):
        with pytest.raises(InputError, match="no temperature is defined for 1 atoms"):
            degrees_of_freedom(config(convention), [8], np.ones((1, 3)))


def test_velocities_in_another_unit_bring_a_warning() -> None:
    start, _ = with_velocities(WATER.replicate(2), config(), None, seed=0)
    assert far_from_trained(start, config(), 9) == ""
    other = replace(start, velocities=start.velocities / 41.3)  # atomic units
    assert far_from_trained(other, config(), 9) == (
        "the file's velocities are those of 0.293 K; the training data of checkpoint c are of 500 K"
    )
    assert far_from_trained(other, config(kelvin=None), 9) == ""
    assert "those of 0 K" in far_from_trained(
        replace(start, velocities=0 * start.velocities), config(), 9
    )


def test_a_linear_molecule_has_two_rotations() -> None:
    line = np.array([1.0, 2.0, -0.5])
    diatomic = PhaseState(np.array([8, 1]), np.outer([0.0, 0.4], line)[None])
    assert degrees_of_freedom(config("3N-6"), diatomic.numbers, diatomic.positions[0]) == 1
    assert degrees_of_freedom(config("3N-6"), [8, 6, 8], np.outer([0, 0.5, 1.0], line)) == 4
    state, _ = with_velocities(diatomic, config("3N-6"), None, seed=0)
    np.testing.assert_allclose(temperature(state.velocities, masses([8, 1]), 1), 500.0)


# ---- Ctrl-C --------------------------------------------------------------------------------------


def test_ctrl_c_that_a_callback_swallows_still_ends_the_run(tmp_path: Path) -> None:
    def frames(start: PhaseState, n: int) -> Iterator[PhaseState]:
        for k in range(n):
            if k == 2:
                with suppress(KeyboardInterrupt):
                    signal.raise_signal(signal.SIGINT)
            time_fs = start.time_fs + 10.0 * (k + 1)
            yield replace(start, time_fs=time_fs, alive=np.array([True]))

    still = replace(WATER, velocities=np.zeros((1, 3, 3)))
    job = Job(
        "p", "water.xyz", still, {}, length_ps=1.0, interval_fs=10.0, out=tmp_path / "w",
        format="extxyz",
    )  # fmt: skip
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        job.carry_out(
            frames, RunRecord(still.numbers, still.positions[0], 1, 9), config(),
            molecule="water", extra=dict, lines=[], target_K=None, progress=False,
        )  # fmt: skip
    assert signal.getsignal(signal.SIGINT) is handler
    assert load_state(tmp_path / "w").n_frames == 3
