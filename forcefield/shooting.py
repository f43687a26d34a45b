"""The friction ξ of a Nosé-Hoover start from one frame before it, some steps earlier."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from shared.friction import friction_spread
from shared.state import PhaseState, Propagator

__all__ = ["friction_through"]

Float = npt.NDArray[np.float64]

ROUNDS = 2  # of Gauss-Newton; ξ moves positions almost linearly over a few femtoseconds
DIFFERENCE = 0.1  # of the spread of ξ, for the slope


def friction_through(
    propagator: Propagator,
    start: Callable[[Float], PhaseState],
    earlier: Float,
    steps: npt.NDArray[np.int64],
    interval_fs: float,
    masses: Float,
) -> Float:
    """ξ with which the motion, run backwards, passes through a frame before the start.

    Backwards, v and ξ change sign, since the integrator is symmetric. The mass-weighted distance
    from the earlier frame is made least by Gauss-Newton from ξ = 0.

    Args:
        propagator: Nosé-Hoover dynamics.
        start: ξ [S], 1/fs -> the S starts with it.
        earlier: [S, N, 3], Å.
        steps: [S], intervals from the earlier frame to the start.
        interval_fs: time between frames.
        masses: [N], amu.

    Returns:
        [S], 1/fs.
    """

    def passed(friction: Float) -> Float:
        state = start(friction)
        assert state.velocities is not None
        assert state.thermostat is not None
        back = replace(state, velocities=-state.velocities, thermostat=-state.thermostat)
        found = np.empty_like(earlier)
        frames = propagator.propagate(back, int(steps.max()), interval_fs, seed=0)
        for step, now in enumerate(frames, start=1):
            found[steps == step] = now.positions[steps == step]
        return found

    friction, small = np.zeros(len(earlier)), DIFFERENCE * friction_spread(len(masses))
    for _ in range(ROUNDS):
        at = passed(friction)
        slope = (passed(friction + small) - at) / small
        weighted = slope * masses[:, None]
        change = np.sum(weighted * (earlier - at), axis=(1, 2))
        friction = friction + change / np.sum(weighted * slope, axis=(1, 2))
    return friction
