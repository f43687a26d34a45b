"""Distributions: internal coordinates against ASE, divergences against SciPy, spectra and torsion
times where the answer is known."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from shared.metrics.distributions import (
    GeometryBins,
    bond_angles,
    bond_lengths,
    central_velocities,
    cut_windows,
    decay_time,
    internal_coordinates,
    jensen_shannon,
    l1_distance,
    mean_distance,
    pair_distance_density,
    pair_distance_distance,
    static_oracle,
    torsion_angles,
    torsion_correlation,
    vibrational_density,
)

# Hydrogen peroxide, H-O-O-H.
NUMBERS = np.array([1, 8, 8, 1])
BONDS = np.array([[0, 1], [1, 2], [2, 3]])
PEROXIDE = np.array([[0.9, 0.3, 0.6], [0.0, 0.0, 0.7], [0.0, 0.0, -0.7], [-0.2, 0.95, -0.7]])


def noisy(n_windows: int, n_frames: int, amplitude: float = 0.05, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return PEROXIDE + amplitude * rng.normal(size=(n_windows, n_frames, 4, 3))


def test_paths_of_a_graph() -> None:
    chain = internal_coordinates(BONDS)
    assert chain.angles.tolist() == [[0, 1, 2], [1, 2, 3]]
    assert chain.torsions.tolist() == [[0, 1, 2, 3]]
    # Ethane: 7 bonds, 3 + 3 H-C-H and 6 H-C-C angles, 9 torsions.
    ethane = internal_coordinates(
        [[0, 1], *([0, h] for h in (2, 3, 4)), *([1, h] for h in (5, 6, 7))]
    )
    assert [len(ethane.bonds), len(ethane.angles), len(ethane.torsions)] == [7, 12, 9]
    # A ring of three has no torsion: its ends would be one atom.
    ring = internal_coordinates([[0, 1], [1, 2], [0, 2]])
    assert [len(ring.angles), len(ring.torsions)] == [3, 0]
    assert internal_coordinates([]).bonds.shape == (0, 2)


def test_internal_coordinates_are_those_of_ase() -> None:
    from ase import Atoms

    chain = internal_coordinates(BONDS)
    for positions in noisy(1, 20, 0.4)[0]:
        atoms = Atoms(NUMBERS, positions)
        assert bond_lengths(positions, chain.bonds)[0] == pytest.approx(atoms.get_distance(0, 1))
        assert bond_angles(positions, chain.angles)[0] == pytest.approx(atoms.get_angle(0, 1, 2))
        dihedral = torsion_angles(positions, chain.torsions)[0]
        assert -180 <= dihedral <= 180
        assert dihedral % 360 == pytest.approx(atoms.get_dihedral(0, 1, 2, 3))


def test_divergence_is_the_square_of_scipys() -> None:
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.full(20, 0.3), size=(2, 5, 3))
    expected = [
        np.mean([jensenshannon(a, b, base=2) ** 2 for a, b in zip(ps, qs, strict=True)])
        for ps, qs in zip(p, q, strict=True)
    ]
    assert jensen_shannon(p, q) == pytest.approx(expected)
    apart = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    assert jensen_shannon(*apart) == pytest.approx(1.0)
    assert np.isnan(jensen_shannon(np.zeros((0, 5)), np.zeros((0, 5))))


def test_histograms_match_numpy() -> None:
    windows = noisy(2, 500)
    bins = GeometryBins.of_reference(NUMBERS, BONDS, windows)
    histograms = bins.histograms(windows)
    assert {kind: one.shape[1:] for kind, one in histograms.items()} == {
        "bond": (2, 100),  # H-O pooled over both, O-O
        "angle": (1, 100),
        "torsion": (1, 100),
    }
    lengths = bond_lengths(windows, BONDS)
    pooled = lengths[1][:, [0, 2]].ravel()
    centre = lengths[..., [0, 2]].mean()
    expected, _ = np.histogram(pooled, bins=100, range=(centre - 0.4, centre + 0.4))
    assert histograms["bond"][1, 0] == pytest.approx(expected / pooled.size)
    angles = bond_angles(windows[0], bins.coordinates.angles).ravel()
    expected, _ = np.histogram(angles, bins=100, range=(0, 180))
    assert histograms["angle"][0, 0] == pytest.approx(expected / angles.size)


def test_lengths_outside_the_range_still_count() -> None:
    windows = noisy(1, 10)
    bins = GeometryBins.of_reference(NUMBERS, BONDS, windows)
    stretched = bins.histograms(windows * 3.0)["bond"]
    assert stretched[0, 0, -1] == pytest.approx(1.0)
    assert stretched.sum(axis=-1) == pytest.approx(1.0)


def test_same_distribution_scores_as_the_oracle_and_another_does_not() -> None:
    blocks, windows, wider = noisy(4, 400, seed=1), noisy(6, 400, seed=2), noisy(6, 400, 0.1)
    bins = GeometryBins.of_reference(NUMBERS, BONDS, blocks)
    reference = bins.histograms(blocks)
    for kind in reference:
        oracle = static_oracle(reference[kind], jensen_shannon)
        same = mean_distance(bins.histograms(windows)[kind], reference[kind], jensen_shannon)
        other = mean_distance(bins.histograms(wider)[kind], reference[kind], jensen_shannon)
        assert same / oracle == pytest.approx(1.0, abs=0.25)
        assert other / oracle > 3


def test_pair_distances() -> None:
    density = pair_distance_density(noisy(3, 50))
    assert density.sum(axis=-1) * (10 / 500) == pytest.approx(1.0)
    # Two molecules of one distance each: the integral of |Δh| is 2.
    pair = np.array([[[[0.0, 0, 0], [1, 0, 0]]], [[[0.0, 0, 0], [2, 0, 0]]]])
    near, far = pair_distance_density(pair)
    assert pair_distance_distance(near, far) == pytest.approx(2.0)


def test_windows_are_spaced() -> None:
    frames = np.arange(42)
    assert cut_windows(frames, 5, 4).tolist() == [[0, 4, 8, 12, 16], [20, 24, 28, 32, 36]]
    assert cut_windows(frames, 50).shape == (0, 50)


@pytest.mark.parametrize("interval_fs", [0.5, 5.0])
def test_spectrum_of_an_oscillator(interval_fs: float) -> None:
    wavenumber = 1500.0  # 1/cm
    times = interval_fs * np.arange(round(5000 / interval_fs))
    phase = 2 * np.pi * 2.99792458e-5 * wavenumber * times
    velocities = np.zeros((1, len(times), 2, 3))
    velocities[0, :, 0, 0] = np.cos(phase)
    wavenumbers, density = vibrational_density(velocities, np.array([1.0, 12.0]), interval_fs)
    assert density.sum() == pytest.approx(1.0)
    peak = np.abs(wavenumbers - wavenumber) < 70
    assert density[0, peak].sum() > 0.99
    assert wavenumbers[-1] == pytest.approx(1e5 / 2.99792458 / (2 * interval_fs), rel=0.01)
    other = np.roll(density, 20, axis=-1)
    assert l1_distance(density, other) == pytest.approx([2.0], abs=0.05)


def test_central_velocities() -> None:
    times = np.arange(6.0)[:, None, None] * np.ones((1, 3))
    assert central_velocities(times**2, 1.0) == pytest.approx(2 * times[1:-1])


def test_torsion_time_of_a_diffusing_angle() -> None:
    """φ a random walk of variance 2Dt: C(τ) = exp(−Dτ), the time is 1/D."""
    rng = np.random.default_rng(0)
    steps = np.sqrt(2 / 50.0) * rng.normal(size=(4, 20_000, 2))
    angles = np.degrees(steps.cumsum(axis=1))
    correlation = torsion_correlation(angles).mean(axis=0)
    assert correlation[0] == pytest.approx(1.0)
    assert decay_time(correlation, 0.5) == pytest.approx([25.0, 25.0], rel=0.1)


def test_correlation_is_the_plain_average() -> None:
    angles = np.random.default_rng(3).uniform(-180, 180, size=(40, 1))
    expected = np.cos(np.radians(angles[7:] - angles[:-7])).mean()
    assert torsion_correlation(angles)[7, 0] == pytest.approx(expected)


def test_a_torsion_that_stays_has_no_time() -> None:
    assert np.isinf(decay_time(torsion_correlation(np.full((50, 1), 60.0)), 1.0)).all()
    falling = np.array([[1.0], [0.5], [0.2]])
    expected = 1 + (0.5 - np.exp(-1)) / 0.3
    assert decay_time(falling, 2.0) == pytest.approx([2 * expected])
