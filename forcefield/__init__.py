"""The force-field head, to come: a learned energy, its forces, and molecular dynamics on them.

It will stand on `shared` alone and give trajectories through the same `shared.state.Propagator`
protocol as `trajgen`.
"""
