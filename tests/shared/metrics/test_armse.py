"""ARMSE: the formulas on cases worked by hand, the alignments, and the surrogates' own numbers."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from shared.data.md17 import load_md17s, load_md17s_oracle
from shared.kinetics import backward_velocity
from shared.metrics.armse import (
    Alignment,
    armse,
    bootstrap_interval,
    displacement_errors,
    ensemble_errors,
    inertia,
    mean_structure,
    persistence,
    rmse_at,
    squared_errors,
    superpose,
)
from shared.units import masses

RNG = np.random.default_rng(0)
MASSES = np.array([12.0, 16.0, 1.0, 1.0, 14.0])


def molecule(*shape: int) -> np.ndarray:
    return RNG.normal(size=(*shape, 5, 3))


def test_formula_by_hand() -> None:
    reference = np.zeros((1, 2, 2, 3))
    predicted = np.zeros((1, 2, 2, 3))
    predicted[0, 0, 0] = [3.0, 4.0, 0.0]  # squared errors 25 and 0 at frame 1, 0 at frame 2
    squared = squared_errors(predicted, reference, "raw")
    assert squared == pytest.approx(np.array([[12.5, 0.0]]))
    assert rmse_at(squared) == pytest.approx([12.5**0.5, 0.0])
    assert armse(squared) == pytest.approx([12.5**0.5, 6.25**0.5])
    total = squared_errors(predicted, reference, "raw", normalisation="sum")
    assert armse(total) == pytest.approx([5.0, 12.5**0.5])


def test_starts_are_pooled_inside_the_root() -> None:
    assert rmse_at(np.array([[1.0], [7.0]])) == pytest.approx([2.0])


def test_alignments_remove_what_they_say() -> None:
    reference = molecule(4, 6)
    shifted = reference + RNG.normal(size=(4, 6, 1, 3))
    turns = Rotation.random(24, rng=RNG).as_matrix().reshape(4, 6, 3, 3)
    turned = shifted @ turns
    assert squared_errors(shifted, reference, "com", MASSES) == pytest.approx(0.0, abs=1e-25)
    assert squared_errors(turned, reference, "aligned", MASSES) == pytest.approx(0.0, abs=1e-25)
    assert squared_errors(turned, reference, "com", MASSES).min() > 0.1
    mirrored = reference * np.array([1.0, 1.0, -1.0])
    assert squared_errors(mirrored, reference, "aligned", MASSES).min() > 1e-3


def test_superposition_is_the_best_rotation() -> None:
    moving, fixed = molecule(3), molecule(3)
    for x, y, best in zip(moving, fixed, superpose(moving, fixed), strict=True):
        rotation, _ = Rotation.align_vectors(y - y.mean(0), x - x.mean(0))
        assert best == pytest.approx(rotation.apply(x - x.mean(0)) + y.mean(0), abs=1e-6)


def test_alignment_never_raises_the_error() -> None:
    predicted, reference = molecule(50), molecule(50)
    raw, com, aligned = (
        squared_errors(predicted, reference, alignment, MASSES)
        for alignment in ("raw", "com", "aligned")
    )
    assert (aligned <= np.minimum(raw, com) + 1e-12).all()


def test_a_frame_that_is_nan_spoils_only_itself() -> None:
    reference, predicted = molecule(2, 3), molecule(2, 3)
    predicted[1, 2] = np.nan
    alignment: Alignment
    for alignment in ("raw", "com", "aligned"):
        squared = squared_errors(predicted, reference, alignment, MASSES)
        assert np.isnan(squared).sum() == 1
        assert np.isnan(squared[1, 2])


def test_ensembles() -> None:
    reference = np.zeros((1, 1, 1, 3))
    predicted = np.zeros((1, 2, 1, 1, 3))
    predicted[0, :, 0, 0, 0] = [1.0, -3.0]
    errors = ensemble_errors(predicted, reference, rmse_at, "raw")
    assert errors["one_sample"] == pytest.approx([1.0])
    assert errors["mean_over_samples"] == pytest.approx([2.0])
    assert errors["ensemble_mean"] == pytest.approx([1.0])


def test_displacement_errors() -> None:
    reference = np.zeros((1, 2, 1, 3))
    predicted = np.zeros((1, 2, 2, 1, 3))
    predicted[0, 0, :, 0, 0] = [1.0, 3.0]
    predicted[0, 1, :, 0, 0] = [2.0, 2.0]
    errors = displacement_errors(predicted, reference)
    assert errors == pytest.approx({"ade_mean": 2, "ade_min": 2, "fde_mean": 2.5, "fde_min": 2})


def test_trivial_predictors() -> None:
    start, velocities = molecule(3), molecule(3)
    assert (persistence(start, 4) == start[:, None]).all()
    flight = inertia(start, velocities, [0.0, 2.0])
    assert flight[:, 1] == pytest.approx(start + 2.0 * velocities)
    mean = molecule()
    assert (mean_structure(mean, start, 2) == mean).all()
    superposed = mean_structure(mean, start, 2, superposed=True)
    assert superposed[:, 1] == pytest.approx(superpose(mean, start))


def test_bootstrap_covers_the_truth() -> None:
    squared = RNG.chisquare(3, size=(200, 30, 1))
    bounds = [bootstrap_interval(one, n_resamples=400) for one in squared]
    covered = [low[0] <= 3**0.5 <= high[0] for low, high in bounds]
    assert 0.85 < np.mean(covered) <= 1.0


def test_bootstrap_of_a_ratio_is_paired() -> None:
    squared = RNG.chisquare(3, size=(20, 4))
    low, high = bootstrap_interval(4.0 * squared, armse, relative_to=squared)
    assert low == pytest.approx(2.0)
    assert high == pytest.approx(2.0)


@pytest.mark.data
@pytest.mark.parametrize("molecule_name", ["ethanol", "uracil"])
def test_the_surrogate_oracle_is_reproduced(molecule_name: str) -> None:
    series, oracle = load_md17s(molecule_name), load_md17s_oracle(molecule_name)
    weights, starts = masses(series.numbers), oracle.start_frames
    reference = series.positions[starts[:, None] + oracle.horizon_steps]
    x0, x1, x2 = (series.positions[starts - back].astype(np.float64) for back in range(3))

    def error(predicted: np.ndarray) -> np.ndarray:
        return rmse_at(squared_errors(predicted, reference, "com", weights))

    still = error(persistence(x0, len(oracle.horizon_steps)))
    assert still == pytest.approx(oracle.persistence, rel=1e-12)
    velocities = backward_velocity(x0, x1, x2, oracle.interval_fs)
    flight = inertia(x0, velocities, oracle.horizon_steps * oracle.interval_fs)
    assert error(flight) == pytest.approx(oracle.inertia, rel=1e-9)
    for mode, positions in oracle.positions.items():
        ratio = error(positions) / still
        assert ratio == pytest.approx(oracle.ratios[mode], rel=1e-9, nan_ok=True)
