"""Two checks that no histogram sees: equipartition, and the potential energy of the frames.

Equipartition: kinetic temperature T = 2K/(g k) of all atoms, of H and of the heavy atoms apart. In
the convention of MD17 every atom counts three degrees of freedom; but a molecule that neither
drifts nor rotates lacks six, most of them the heavy atoms', so that at equipartition H is hotter
than the heavy atoms (ethanol at 500 K: 589 and 321 K). ``internal_dof`` gives what each group has
left; with those the groups are equally hot. Compare with a reference under the same estimator of
velocities: one Nosé-Hoover thermostat does not bring every small molecule to equipartition.

Potential energy: generated frames under the engine that made the reference, sGDML force fields
(Chmiela et al., Nat. Commun. 9, 3887 (2018)) or GFN2-xTB (Bannwarth et al., J. Chem. Theory Comput.
15, 1652 (2019)), which is in the extra ``reference``.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shared.data.sgdml import SGDML, sgdml_model
from shared.kinetics import kinetic_energy, remove_momentum
from shared.units import KB_EV_PER_K, masses

__all__ = [
    "EnergyAgreement",
    "compare_energies",
    "group_temperatures",
    "internal_dof",
    "sgdml_energies",
    "sgdml_model",
]

Float = npt.NDArray[np.float64]

_BATCH = 64  # frames evaluated together


def group_temperatures(
    velocities: npt.ArrayLike, numbers: npt.ArrayLike, dof: dict[str, float] | None = None
) -> dict[str, Float]:
    """Kinetic temperatures of all atoms, H atoms and heavy atoms.

    Args:
        velocities: [..., N, 3], Å/fs.
        numbers: atomic numbers [N].
        dof: degrees of freedom of each group; None: three per atom.

    Returns:
        ``all``, ``hydrogen``, ``heavy`` -> [...], K; NaN for a group without atoms.
    """
    velocities = np.asarray(velocities, dtype=np.float64)
    groups = _groups(numbers)
    dof = dof or {name: 3 * int(members.sum()) for name, members in groups.items()}
    atomic_masses = masses(numbers)
    return {
        name: 2
        * kinetic_energy(velocities[..., members, :], atomic_masses[members])
        / (dof[name] * KB_EV_PER_K)
        if members.any()
        else np.full(velocities.shape[:-2], np.nan)
        for name, members in groups.items()
    }


def internal_dof(positions: npt.ArrayLike, numbers: npt.ArrayLike) -> dict[str, float]:
    """Degrees of freedom of each group in a molecule that neither drifts nor rotates.

    In mass-weighted coordinates rigid motion spans six directions (five if linear); atom i keeps
    3 − Σ |its components of an orthonormal basis of them|².

    Args:
        positions: [..., N, 3], Å; the mean over the frames is given.
        numbers: atomic numbers [N].

    Returns:
        ``all`` (3N − 6), ``hydrogen``, ``heavy``.
    """
    roots = np.sqrt(masses(numbers))
    arms = remove_momentum(np.asarray(positions, dtype=np.float64), masses(numbers))
    axes = np.broadcast_to(np.eye(3), (*arms.shape[:-2], len(roots), 3, 3))
    turns = np.cross(axes, arms[..., None, :])
    rigid = np.concatenate([axes, turns], axis=-2) * roots[:, None, None]  # [..., N, 6, 3]
    matrix = rigid.swapaxes(-1, -2).reshape(*rigid.shape[:-3], -1, 6)
    basis, sizes, _ = np.linalg.svd(matrix, full_matrices=False)
    basis = basis * (sizes > 1e-6 * sizes[..., :1])[..., None, :]
    shares = (basis**2).reshape(-1, len(roots), 3 * basis.shape[-1]).sum(axis=-1).mean(axis=0)
    return {name: float((3 - shares[members]).sum()) for name, members in _groups(numbers).items()}


def _groups(numbers: npt.ArrayLike) -> dict[str, npt.NDArray[np.bool_]]:
    numbers = np.asarray(numbers, dtype=np.int64)
    return {"all": numbers > 0, "hydrogen": numbers == 1, "heavy": numbers > 1}


@dataclass(frozen=True)
class EnergyAgreement:
    """How potential energies compare with the reference's.

    Attributes:
        shift: (mean − reference mean) / standard deviation of the reference.
        spread_ratio: standard deviation / standard deviation of the reference.
    """

    shift: float
    spread_ratio: float


def compare_energies(energies: npt.ArrayLike, reference: npt.ArrayLike) -> EnergyAgreement:
    """Compare potential energies of generated frames [M] with the reference's [T], one unit."""
    energies, reference = np.asarray(energies), np.asarray(reference)
    spread = reference.std()
    return EnergyAgreement(
        shift=float((energies.mean() - reference.mean()) / spread),
        spread_ratio=float(energies.std() / spread),
    )


def sgdml_energies(model: str | Path, numbers: npt.ArrayLike, positions: npt.ArrayLike) -> Float:
    """Potential energies under an sGDML force field.

    Args:
        model: the model's npz, read without unpickling.
        numbers: atomic numbers [N], in the model's order of atoms.
        positions: [..., N, 3], Å.

    Returns:
        [...], eV.

    Raises:
        InputError: as `shared.data.sgdml.SGDML`.
    """
    import torch

    engine = SGDML(model, numbers)
    positions = np.asarray(positions, dtype=np.float64)
    frames = torch.from_numpy(positions.reshape(-1, *positions.shape[-2:]))
    parts = [engine(part)[0] for part in frames.split(_BATCH)]
    energies = torch.cat(parts).numpy() if parts else np.empty(0)
    return np.asarray(energies.reshape(positions.shape[:-2]))
