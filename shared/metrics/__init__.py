"""The yardstick: pure functions on numpy arrays that compare trajectories with a reference."""
