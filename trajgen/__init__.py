"""trajgen: trajectories of molecules without an integrator (DiffMD, Wu and Li, AAAI 2023)."""
