"""Training examples: what an example holds, that it holds no future, batches, determinism."""

import numpy as np
import pytest
import torch

from shared.errors import InputError
from trajgen.pairs import (
    FramePairs,
    Series,
    dense_groups,
    examples,
    make_series,
    mixed,
)

WATER = np.array([[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]])
PEROXIDE = np.array([[0.0, 0.7, 0.0], [0.0, -0.7, 0.0], [0.8, 0.9, 0.4], [-0.8, -0.9, 0.4]])


def series(name: str = "water", n_frames: int = 60, **options: object) -> Series:
    numbers, reference = ([8, 1, 1], WATER) if name == "water" else ([8, 8, 1, 1], PEROXIDE)
    rng = np.random.default_rng(len(name))
    phases = rng.uniform(0, 6, reference.shape)
    t = 0.5 * np.arange(n_frames)[:, None, None]
    positions = reference + 0.05 * np.sin(0.3 * t + phases) + 7.0
    return make_series(name, numbers, positions, 0.5, np.arange(n_frames) / 100, **options)


def index_of(*several: Series) -> dict[str, int]:
    return {c: k for k, c in enumerate(sorted({c for s in several for c in s.classes}))}


def pairs(*several: Series, **changes: object) -> FramePairs:
    arguments = {
        "frames": (0, 60),
        "lag_fs": (0.5, 2.0),
        "acceleration_interval_fs": None,
        "per_molecule": 3,
        "unroll": {0: 1},
        "type_index": index_of(*several),
        "seed": 0,
    }
    return FramePairs(several, **{**arguments, **changes})


def test_some_molecules_in_each_batch() -> None:
    both = series(), series("peroxide")
    sizes = {tuple(pairs(*both, molecules=1)[k].ptr.diff().tolist()) for k in range(8)}
    assert sizes == {(3, 3, 3), (4, 4, 4)}
    assert len(pairs(*both, molecules=2)[0].ptr) == 7


def test_kinds_of_atoms_and_identity() -> None:
    """However few kinds of atoms there are to be, a molecule is told from others."""
    coarse, fine = series("peroxide", class_rounds=0), series("peroxide")
    assert len(set(coarse.classes)) == 2
    assert coarse.key == fine.key != series().key


def test_centre_of_mass_is_at_the_origin() -> None:
    s = series()
    centre = np.einsum("n,tnd->td", s.masses, s.positions)
    assert np.abs(centre).max() < 1e-5


def test_velocities_at_the_frame() -> None:
    s = series()
    x = s.positions.astype(np.float64)
    expected = (3 * x[2:] - 4 * x[1:-1] + x[:-2]) / (2 * 0.5)
    np.testing.assert_allclose(s.velocities[2:], expected, atol=1e-5)
    assert np.isnan(s.velocities[:2]).all()


@pytest.mark.parametrize("steps", [1, 4])
def test_pair_velocities(steps: int) -> None:
    s = series(pair_steps=steps)
    x = s.positions.astype(np.float64)
    np.testing.assert_allclose(
        s.velocities[steps:], (x[steps:] - x[:-steps]) / (0.5 * steps), atol=1e-5
    )
    assert np.isnan(s.velocities[:steps]).all()


def test_an_example() -> None:
    s = series()
    lag, history = np.array([4, 2]), np.array([1, 3])
    g = next(dense_groups(examples(s, np.array([10, 20]), lag, history, 2, index_of(s))))
    assert g["lag"].tolist() == [2.0, 1.0]
    assert g["next_pos"].shape == (2, 3, 2, 3)
    np.testing.assert_array_equal(g["pos"][1], s.positions[20])
    np.testing.assert_array_equal(g["next_pos"][0, :, 1], s.positions[18])
    np.testing.assert_array_equal(g["next_vel"][1, :, 0], s.velocities[22])
    np.testing.assert_allclose(g["acc"][1], (s.velocities[20] - s.velocities[17]) / 1.5, rtol=1e-5)
    np.testing.assert_allclose(g["next_thermostat"], [[0.14, 0.18], [0.22, 0.24]], rtol=1e-6)


def test_conditions_hold_no_future() -> None:
    """Changing every frame after t changes nothing but the targets."""
    s, t = series(), 20
    x = s.positions.astype(np.float64).copy()
    x[t + 1 :] += np.random.default_rng(0).normal(size=x[t + 1 :].shape)
    changed = make_series("water", s.numbers, x, 0.5, s.thermostat)
    arguments = np.array([t]), np.array([4]), np.array([4]), 1, index_of(s)
    before, after = (next(dense_groups(examples(q, *arguments))) for q in (s, changed))
    for name in ("pos", "vel", "acc", "thermostat", "lag"):
        torch.testing.assert_close(before[name], after[name], atol=1e-5, rtol=1e-4)
    assert (before["next_pos"] - after["next_pos"]).abs().max() > 0.1


def test_a_mixed_batch_comes_apart_again() -> None:
    several = series("water"), series("peroxide")
    index = index_of(*several)
    one = np.array([10, 20]), np.array([2, 2]), np.array([2, 2])
    batch = mixed([examples(s, *one, 1, index) for s in several])
    assert batch.ptr.tolist() == [0, 3, 6, 10, 14]
    groups = list(dense_groups(batch))
    assert [tuple(g["pos"].shape) for g in groups] == [(2, 3, 3), (2, 4, 3)]
    np.testing.assert_array_equal(groups[1]["pos"], several[1].positions[[10, 20]])


def test_further_trajectories_of_a_molecule() -> None:
    one, other = series("water"), series("peroxide")
    more = [series("water", 20 + k) for k in range(5)]
    sizes = pairs(one, other, more=more)[0].ptr.diff().tolist()
    assert sizes == 3 * [3] + 3 * [4] + 3 * [3]
    alone = next(dense_groups(pairs(one)[0]))
    beside = next(dense_groups(pairs(one, more=more)[0]))
    torch.testing.assert_close(beside["pos"][:3], alone["pos"])
    with pytest.raises(InputError, match="not one of the molecules"):
        pairs(one, more=[other])


def test_a_step_depends_on_seed_and_number_alone() -> None:
    several = series("water"), series("peroxide")
    one, again = pairs(*several), pairs(*several)
    one[3]
    torch.testing.assert_close(one[7].pos, again[7].pos)
    assert not torch.equal(one[7].pos, one[8].pos)
    assert not torch.equal(one[7].pos, pairs(*several, seed=1)[7].pos)


def test_frames_stay_in_their_range() -> None:
    s = series(n_frames=200)
    drawn = pairs(s, frames=(40, 80), per_molecule=200, unroll={0: 2})[0]
    row = {s.positions[t].tobytes(): t for t in range(200)}
    g = next(dense_groups(drawn))
    first = [row[x.numpy().tobytes()] for x in g["pos"]]
    last = [row[x.contiguous().numpy().tobytes()] for x in g["next_pos"][:, :, -1]]
    steps = (g["lag"] / 0.5).int()
    assert (torch.tensor(last) - torch.tensor(first)).tolist() == (2 * steps).tolist()
    # Two frames make the oldest velocity, the acceleration lies a lag back.
    assert min(f - int(k) - 2 for f, k in zip(first, steps, strict=True)) >= 40
    assert max(last) < 80
    assert set(steps.tolist()) == {1, 2, 3, 4}


def test_velocities_over_a_lag_are_drawn_from_where_they_are() -> None:
    """Paper mode: the first that there is lies a lag after the first frame."""
    s = series(pair_steps=4)
    drawn = pairs(s, lag_fs=(2.0, 2.0), acceleration_interval_fs=0.5, per_molecule=400)
    g = next(dense_groups(drawn[0]))
    assert g["vel"].isfinite().all()
    assert g["acc"].isfinite().all()


def test_unrolling_starts_where_it_should() -> None:
    drawn = pairs(series(), unroll={0: 1, 5: 2, 8: 3})
    assert [drawn[k].next_pos.shape[1] for k in (0, 4, 5, 7, 8, 50)] == [1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"lag_fs": (0.5, 1.7)}, "1.7 fs is not a multiple of the 0.5 fs"),
        ({"lag_fs": (0.2, 2.0)}, "0.2 fs is not a multiple"),
        ({"acceleration_interval_fs": 0.3}, "0.3 fs is not a multiple"),
        ({"frames": (0, 8)}, "8 frames in the range"),
        ({"frames": (50, 90)}, "10 frames in the range"),
        ({"unroll": {10: 2}}, "from step 0 on"),
    ],
)
def test_what_is_refused(changes: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        pairs(series(), **changes)


def test_too_few_frames() -> None:
    with pytest.raises(InputError, match="3 frames are too few"):
        series(n_frames=3)
