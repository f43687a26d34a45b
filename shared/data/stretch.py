"""Frames with one bond stretched or pressed: what dynamics reaches once in a nanosecond.

A model that never saw a bond 0.4 Å too short or too long may have a hole there, and a long hot
simulation finds it.
"""

import numpy as np
import numpy.typing as npt

from shared.bonds import bonded_pairs

__all__ = ["stretch_bond", "stretched"]

Float = npt.NDArray[np.float64]


def stretched(
    numbers: npt.ArrayLike,
    positions: npt.ArrayLike,
    low: float,
    high: float,
    rng: np.random.Generator,
) -> Float:
    """A copy with one bond, any, longer by an amount between `low` and `high`, even odds.

    Args:
        numbers: atomic numbers [N].
        positions: [N, 3], Å; bonds as in `shared.bonds`.
        low: Å; negative: pressed. Bonds are longer than 0.7 Å.
        high: Å.
        rng: draws the bond and the amount.

    Returns:
        [N, 3], Å; the same frame where nothing is bonded.
    """
    pairs = bonded_pairs(numbers, positions)
    if not len(pairs):
        return np.array(positions, dtype=np.float64)
    chosen = int(rng.integers(len(pairs)))
    return stretch_bond(positions, pairs, chosen, rng.uniform(low, high))


def stretch_bond(
    positions: npt.ArrayLike, pairs: npt.NDArray[np.int64], chosen: int, amount: float
) -> Float:
    """A copy with the bond `pairs[chosen]` longer by `amount`, Å.

    The smaller side of the bond moves as a whole; where the bond lies in a ring, its two atoms move
    by half of the amount each.

    Args:
        positions: [N, 3], Å.
        pairs: all bonds, [P, 2].
        chosen: which.
        amount: Å; negative: shorter.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    out = np.array(positions, dtype=np.float64)
    a, b = pairs[chosen]
    rest = np.delete(pairs, chosen, axis=0)
    graph = coo_array((np.ones(len(rest)), tuple(rest.T)), shape=(len(out), len(out)))
    _, piece = connected_components(graph, directed=False)
    axis = out[b] - out[a]
    step = amount * axis / np.linalg.norm(axis)
    if piece[a] == piece[b]:
        out[a] -= 0.5 * step
        out[b] += 0.5 * step
    elif np.sum(piece == piece[b]) <= np.sum(piece == piece[a]):
        out[piece == piece[b]] += step
    else:
        out[piece == piece[a]] -= step
    return out
