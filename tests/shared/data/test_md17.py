"""MD17 in its three forms, from files made here and from the data at hand."""

from pathlib import Path

import numpy as np
import pytest

from shared.data.md17 import (
    SURROGATE_MOLECULES,
    load_md17,
    load_md17s,
    load_md17s_oracle,
    read_md17,
)
from shared.data.splits import SHORT_TO_LONG, evenly_spaced_starts
from shared.errors import InputError
from shared.kinetics import kinetic_energy
from shared.metrics.distributions import central_velocities
from shared.units import ACCELERATION, KCAL_PER_MOL_IN_EV, masses

Z = np.array([8, 1, 1], dtype=np.uint8)
RNG = np.random.default_rng(0)


def arrays(n_frames: int = 10) -> dict[str, np.ndarray]:
    return {
        "R": RNG.normal(size=(n_frames, 3, 3)),
        "F": RNG.normal(size=(n_frames, 3, 3)),
        "E": RNG.normal(size=(n_frames, 1)),
        "z": Z,
    }


def test_official_form(tmp_path: Path) -> None:
    given = arrays()
    np.savez(tmp_path / "md17_water.npz", **given)
    series = read_md17(tmp_path / "md17_water.npz")
    assert series.source == "md17_water"
    assert series.numbers.dtype == np.int64
    assert (series.positions == given["R"]).all()
    assert series.energies[:] == pytest.approx(given["E"][:, 0] * KCAL_PER_MOL_IN_EV)
    assert series.forces_at([[7, 1]]) == pytest.approx(given["F"][[[7, 1]]] * KCAL_PER_MOL_IN_EV)
    assert (series.interval_fs, series.temperature_K, series.first_frame) == (0.5, 500.0, 0)
    assert series.thermostat is None


def test_a_part_knows_its_frames(tmp_path: Path) -> None:
    np.savez(tmp_path / "md17_water_frames200-209.npz", **arrays())
    assert read_md17(tmp_path / "md17_water_frames200-209.npz").first_frame == 200
    np.savez(tmp_path / "md17_water_frames200-219.npz", **arrays())
    with pytest.raises(InputError, match="the name says frames 200-219, R has 10"):
        read_md17(tmp_path / "md17_water_frames200-219.npz")


def test_surrogate_form(tmp_path: Path) -> None:
    given = arrays()
    labels = np.array([2, 5, 8])
    surrogate = {
        **{key: given[key] for key in ("R", "z")},
        "E": given["E"][:, 0],
        "xi_per_fs": np.linspace(-1, 1, 10),
        "kinetic_eV": np.ones(10),
        "timestep_fs": 0.25,
        "temperature_K": 400.0,
        "label_frames": labels,
        "F_label": given["F"][labels],
    }
    np.savez(tmp_path / "a.npz", **surrogate)
    series = read_md17(tmp_path / "a.npz")
    assert (series.interval_fs, series.temperature_K) == (0.25, 400.0)
    assert series.thermostat == pytest.approx(np.linspace(-1, 1, 10))
    assert series.forces_at([8, 2]) == pytest.approx(given["F"][[8, 2]] * KCAL_PER_MOL_IN_EV)
    for missing in (0, 6, 9):
        with pytest.raises(InputError, match=f"frame {missing} has no forces"):
            series.forces_at([2, missing])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"R": np.zeros((10, 4, 3))}, "expected \\[T, 3, 3\\]"),
        ({"F": np.zeros((9, 3, 3))}, "E or F does not fit"),
        ({"E": np.zeros(11)}, "E or F does not fit"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path: Path, change: dict, message: str) -> None:
    np.savez(tmp_path / "a.npz", **{**arrays(), **change})
    with pytest.raises(InputError, match=message):
        read_md17(tmp_path / "a.npz")


def test_without_the_file_the_message_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAJGEN_DATA", str(tmp_path))
    with pytest.raises(InputError) as error:
        load_md17("benzene")
    message = str(error.value)
    assert "\n" not in message
    assert "fetch http://www.quantum-machine.org/gdml/data/npz/md17_benzene2017.npz" in message
    assert f"put it at {tmp_path}/md17/md17_benzene2017.npz" in message
    with pytest.raises(InputError, match="no molecule phenol; it has aspirin, benzene"):
        load_md17("phenol")
    with pytest.raises(InputError, match="no molecule benzene"):
        load_md17s("benzene")


def test_the_data_folder_defaults_to_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    from shared.data.locate import data_root

    monkeypatch.delenv("TRAJGEN_DATA", raising=False)
    assert data_root() == Path.home() / ".cache" / "trajgen"


@pytest.mark.data
def test_real_ethanol() -> None:
    series = load_md17("ethanol")
    assert (series.source, len(series), series.first_frame) == ("MD17 ethanol", 1000, 0)
    assert series.numbers.tolist() == [6, 6, 8, 1, 1, 1, 1, 1, 1]
    # The frames are consecutive, and follow v̇ = F/m − ξ v with one ξ per frame.
    x = series.positions
    velocities = central_velocities(x, 0.5)
    weights = masses(series.numbers)[:, None]
    acceleration = (x[2:] - 2 * x[1:-1] + x[:-2]) / 0.5**2
    drag = ACCELERATION * series.forces[1:-1] / weights - acceleration
    squares = (weights * velocities**2).sum(axis=(1, 2))
    friction = (weights * velocities * drag).sum(axis=(1, 2)) / squares
    residual = drag - friction[:, None, None] * velocities
    assert np.sqrt((residual**2).mean() / (acceleration**2).mean()) < 0.05
    assert np.sqrt((drag**2).mean() / (acceleration**2).mean()) > 0.15


@pytest.mark.data
@pytest.mark.parametrize("molecule", SURROGATE_MOLECULES)
def test_surrogates(molecule: str) -> None:
    series, oracle = load_md17s(molecule), load_md17s_oracle(molecule)
    assert series.source == f"md17s {molecule} (surrogate)"
    assert len(series) == 42_000
    starts = evenly_spaced_starts(SHORT_TO_LONG.test, 20, 2000)
    assert (oracle.start_frames == starts).all()
    assert set(oracle.positions) == {"fitted", "unknown", "known", "nve"}
    # v̇ = F/m − ξ v with the forces and the friction of the file.
    at = np.stack([starts - 1, starts, starts + 1], axis=1)
    x = series.positions[at].astype(np.float64)
    velocities = central_velocities(x, series.interval_fs)[:, 0]
    acceleration = (x[:, 2] - 2 * x[:, 1] + x[:, 0]) / series.interval_fs**2
    forces = ACCELERATION * series.forces_at(starts) / masses(series.numbers)[:, None]
    assert series.thermostat is not None
    friction = series.thermostat[starts][:, None, None]
    residual = acceleration - (forces - friction * velocities)
    assert np.sqrt((residual**2).mean() / (acceleration**2).mean()) < 0.02
    assert series.kinetic_energies is not None
    kinetic = kinetic_energy(velocities, masses(series.numbers))
    assert kinetic == pytest.approx(series.kinetic_energies[starts], rel=0.02)
