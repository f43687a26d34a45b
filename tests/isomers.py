"""Made-up isomers in the form of the GFN2-xTB set: ethanol and dimethyl ether, six of each."""

from pathlib import Path

import numpy as np
from ase.build import molecule

N_ISOMERS, N_FRAMES = 12, 1000


def write_isomers(root: Path) -> list[str]:
    """Write isomers/c7o2h10_xtb.npz; returns their names. The later one is, the more it moves:
    the last five test, the five before validate, the first two train."""
    kinds = [molecule("CH3CH2OH"), molecule("CH3OCH3")]
    made = [kinds[k % 2] for k in range(N_ISOMERS)]
    rng = np.random.default_rng(0)
    t = np.arange(N_FRAMES)[None, :, None, None]
    phases = rng.uniform(0, 6, (N_ISOMERS, 1, len(made[0]), 3))
    amplitudes = 0.01 * np.arange(1, N_ISOMERS + 1)[:, None, None, None]
    positions = np.stack([a.positions for a in made])[:, None] + amplitudes * np.sin(t + phases)
    names = [f"{'ether' if k % 2 else 'ethanol'}-{k}" for k in range(N_ISOMERS)]
    (root / "isomers").mkdir()
    np.savez(
        root / "isomers" / "c7o2h10_xtb.npz",
        R=positions.astype(np.float32),
        E=rng.normal(size=(N_ISOMERS, N_FRAMES)),
        F=rng.normal(size=positions.shape).astype(np.float32),
        z=np.stack([a.numbers for a in made]),
        smiles=np.array(names),
        timestep_fs=1.0,
        temperature_K=500.0,
    )
    return names
