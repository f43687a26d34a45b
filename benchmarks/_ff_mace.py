"""MACE of the mace-torch package, timed: python _ff_mace.py FRAMES.npz THREADS.

128 channels of scalars and vectors (L = 1), two layers, cutoff 5 Å, correlation 3: the published
model of that size with random weights, eager, float32. Frames are one batch; the list of neighbours
is made once, outside the clock.
"""

import sys
from typing import Any

from _ff_serve import Tasks, serve


def prepare() -> tuple[Tasks, dict[str, Any]]:
    """Energies and forces of all frames."""
    import os
    import time

    # The e3nn that mace-torch needs keeps its constants in a file that today's torch asks about.
    os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"
    import ase
    import numpy as np
    import torch
    from e3nn import o3
    from mace import data, modules, tools
    from mace.tools import torch_geometric

    torch.set_num_threads(int(sys.argv[2]))
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    frames = np.load(sys.argv[1])
    elements = tools.AtomicNumberTable(sorted(set(frames["numbers"].tolist())))
    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    model = modules.ScaleShiftMACE(
        r_max=5.0,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=3,
        interaction_cls=block,
        interaction_cls_first=block,
        num_interactions=2,
        num_elements=len(elements),
        hidden_irreps=o3.Irreps("128x0e + 128x1o"),
        MLP_irreps=o3.Irreps("16x0e"),
        atomic_energies=np.zeros(len(elements)),
        avg_num_neighbors=10.0,
        atomic_numbers=elements.zs,
        correlation=3,
        gate=torch.nn.functional.silu,
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    )
    model.requires_grad_(False)
    graphs = [
        data.AtomicData.from_config(
            data.config_from_atoms(ase.Atoms(frames["numbers"], x)), z_table=elements, cutoff=5.0
        )
        for x in frames["positions"]
    ]
    loader = torch_geometric.dataloader.DataLoader(graphs, batch_size=len(graphs), shuffle=False)
    batch = next(iter(loader)).to_dict()

    def forces() -> None:
        model(batch, training=False, compute_force=True)

    began = time.perf_counter()
    forces()
    first = time.perf_counter() - began
    for _ in range(2):
        forces()
    weights = sum(w.numel() for w in model.parameters())
    return {"forces": (forces, 1)}, {"first_s": first, "parameters": weights}


if __name__ == "__main__":
    serve(prepare)
