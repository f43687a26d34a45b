"""The force-field head: a learned energy, its exact forces, and molecular dynamics on them.

It stands on `shared` alone and gives trajectories through the same `shared.state.Propagator`
protocol as `trajgen`.
"""
