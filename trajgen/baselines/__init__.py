"""Learned one-step predictors, the models that the tables of DiffMD set beside it.

Each is a network of the literature made small, which maps (x_t, v_t) to the next state a lag later
(`trajgen.baselines.regression`): a deterministic regression, trained on one lag and rolled out.

| name | module | source |
|---|---|---|
| egnn | `trajgen.baselines.egnn` | Satorras, Hoogeboom and Welling, ICML 2021 |
| rf | `trajgen.baselines.rf` | radial field: Köhler, Klein and Noé, arXiv:1910.00753 |
| tfn | `trajgen.baselines.tfn` | Thomas et al., arXiv:1802.08219 |
| se3-transformer | `trajgen.baselines.se3_transformer` | Fuchs et al., NeurIPS 2020 |
| gmn | `trajgen.baselines.gmn` | Huang et al., ICLR 2022 |

So that what differs is the architecture, all see the same: the types and velocities of the atoms,
the lag, all pairs of atoms without a cutoff, distances in the same radial basis. Each module says
where it departs from its source.

The sixth of those tables, SCFNN (Gao and Remsing, Nat. Commun. 13, 1572 (2022)), is not here: it
learns from the positions of Wannier centres, which none of the data sets has (MD17, the C7O2H10
isomers, 3BPA), and without them there is nothing to train it on.
"""

from importlib import import_module
from typing import Any

from shared.errors import InputError

__all__ = ["NETWORKS", "network_class"]

# Name in a config -> module and class.
NETWORKS = {
    "egnn": ("trajgen.baselines.egnn", "EGNN"),
    "rf": ("trajgen.baselines.rf", "RadialField"),
    "tfn": ("trajgen.baselines.tfn", "TensorFieldNetwork"),
    "se3-transformer": ("trajgen.baselines.se3_transformer", "SE3Transformer"),
    "gmn": ("trajgen.baselines.gmn", "GMN"),
}


def network_class(name: str) -> Any:
    """The class of a network: a module from a `trajgen.egt.Condition` to kicks [B, N, 3, 2].

    It is made from the atomic numbers of the types, and the options of its constructor.

    Raises:
        InputError: no such network.
    """
    if name not in NETWORKS:
        raise InputError(f"regression.network: no {name!r} here; choose {', '.join(NETWORKS)}")
    module, class_name = NETWORKS[name]
    return getattr(import_module(module), class_name)
