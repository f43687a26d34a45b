"""P3, energies and forces of 3BPA test frames: MAE and RMSE, meV and meV/Å.

At three temperatures and, where the official files are, on slices of dihedrals.

The bar is `mean`: the mean training energy and no force at all.
"""

from dataclasses import dataclass

import numpy as np

from shared.evaluation.artefacts import save_artefact
from shared.evaluation.candidates import Candidate, KnowsEnergies
from shared.evaluation.p1_accuracy import row_of
from shared.evaluation.results import Row
from shared.evaluation.rollout import Context, Skip
from shared.evaluation.statistics import bootstrap
from shared.evaluation.systems import three_bpa

__all__ = ["PUBLISHED", "Energies", "measure"]

# Published RMSE, E in meV and F in meV/Å, on the official test files.
PUBLISHED = {
    "NequIP L=3": {"300K": (3.3, 10.8), "600K": (11.2, 26.4), "1200K": (38.5, 76.2)},
    "MACE L=0": {"300K": (4.5, 14.6), "600K": (13.7, 33.3), "1200K": (37.1, 81.6)},
    "MACE L=1": {"300K": (3.4, 10.3), "600K": (9.9, 24.6), "1200K": (31.7, 67.8)},
    "MACE L=2": {"300K": (3.0, 8.8), "600K": (9.7, 21.8), "1200K": (29.8, 62.0)},
}


@dataclass(frozen=True)
class Energies:
    """Energies and forces.

    Args:
        models: those to measure; null: all of the evaluation.
        systems: those to measure on; null: all of the evaluation.
        frames: at most so many test frames; 0: all.
    """

    models: list[str] | None = None
    systems: list[str] | None = None
    frames: int = 0

    def quick(self) -> "Energies":
        """What a minute allows."""
        return Energies(self.models, self.systems, 4)


def measure(candidate: Candidate, name: str, settings: Energies, context: Context) -> list[Row]:
    """Rows of one candidate at one temperature, or on one slice of dihedrals."""
    labelled = three_bpa(name)
    system, test = labelled.system, labelled.test
    if settings.frames:
        test = test[: settings.frames]
    if candidate.name == "mean":
        energies = np.full(len(test), labelled.train.energies.mean())
        forces = np.zeros_like(test.forces)
    elif isinstance(candidate, KnowsEnergies):
        energies, forces = candidate.energies_and_forces(system, test.positions)
    else:
        raise Skip(f"{candidate.name} has no energies")
    row = row_of("energies", "P3", system, candidate)
    energy_errors = 1000.0 * (energies - test.energies)
    force_errors = 1000.0 * (forces - test.forces).reshape(len(test), -1)

    def root(drawn: np.ndarray) -> np.ndarray:
        return np.sqrt(drawn.reshape(len(drawn), -1).mean(axis=1))

    squares = np.mean(force_errors**2, axis=1)
    rows = [
        row(bootstrap(energy_errors**2, root), metric="RMSE of energies", unit="meV"),
        row(bootstrap(np.abs(energy_errors)), metric="MAE of energies", unit="meV"),
        row(bootstrap(squares, root), metric="RMSE of forces", unit="meV/Å"),
        row(bootstrap(np.abs(force_errors).mean(axis=1)), metric="MAE of forces", unit="meV/Å"),
    ]
    if candidate.name == "mean" and name in PUBLISHED["MACE L=2"]:
        note = "official test file" if test.path.stem.startswith("test") else "other test frames"
        for model, published in PUBLISHED.items():
            for metric, value, unit in zip(
                ("RMSE of energies", "RMSE of forces"),
                published[name],
                ("meV", "meV/Å"),
                strict=True,
            ):
                columns = {"metric": metric, "unit": unit, "note": note}
                rows.append(row(value, model=f"{model} (published)", **columns))
    save_artefact(
        context.folder,
        "energies",
        system.name,
        candidate.name,
        "",
        system.data,
        energy_true=test.energies,
        energy_predicted=energies,
        force_rmse=np.sqrt(squares) / 1000.0,
    )
    return rows
