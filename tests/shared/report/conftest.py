"""A small evaluation with every part, invented; and its report."""

import json
from pathlib import Path
from typing import Any

import ase.build
import numpy as np
import pytest

from shared.bonds import bonded_pairs
from shared.evaluation.artefacts import save_artefact
from shared.report import write_report

COMMAND = "python -m shared.evaluate --config configs/evaluate/invented.yaml"
DATA = "md17s (surrogate)"
MODELS = {
    "persistence": 1.0,
    "inertia": 0.8,
    "mean": 0.6,
    "oracle": 0.02,
    "forcefield:md17s": 0.03,
    "trajgen:md17s": 0.1,
    "EGNN": 0.7,
}
VARIANTS = {"forcefield:md17s": ("fitted", "nve")}


def models() -> list[tuple[str, str, float]]:
    """(model, variant, size of the error)."""
    return [
        (model, variant, scale * (4.0 if variant == "nve" else 1.0))
        for model, scale in MODELS.items()
        for variant in VARIANTS.get(model, ("",))
    ]


def invented_rows(system: str, factor: float) -> list[dict[str, Any]]:
    rows = []

    def add(
        part: str, protocol: str, model: str, metric: str, value: float, **columns: Any
    ) -> None:
        job = f"{part}/{system}/{model}"
        interval = {"low": 0.8 * value, "high": 1.3 * value, "n": 20}
        row = {"job": job, "protocol": protocol, "part": part, "data": DATA, "system": system}
        rows.append(
            {**row, "model": model, "metric": metric, "value": value, **interval, **columns}
        )

    for model, variant, scale in models():
        for frames in (10, 100, 1000):
            for alignment in ("raw", "com", "aligned"):
                columns = {"horizon": f"{frames} frames", "horizon_fs": 0.5 * frames, "unit": "Å"}
                value = factor * scale * frames**0.7 / 50
                metric = f"RMSE {alignment}"
                add("s2l", "P1", model, metric, value, variant=variant, **columns)
        if model in ("forcefield:md17s", "trajgen:md17s"):
            add("stability", "P2", model, "stable share", 0.75, variant=variant, horizon="10 ps")
            for kind in ("bond", "angle", "torsion"):
                metric = f"{kind} JSD / static-oracle"
                add("distributions", "P6", model, metric, 1 + 10 * scale, variant=variant)
            speed = {"unit": "ps/s", "timing": True, "horizon": "64 replicas"}
            add("cost", "P7", model, "speed", 3.1, variant=variant, **speed)
    published = {
        "horizon": "100 frames",
        "horizon_fs": 50.0,
        "unit": "Å",
        "low": None,
        "high": None,
    }
    note = "not comparable: published on real MD17 <b>&"
    add("s2l", "P1", "DiffMD (published)", "RMSE com", 0.64, note=note, **published)
    return rows


def invented_curves(folder: Path, system: str, factor: float, rng: np.random.Generator) -> None:
    frames = np.arange(1, 401)
    time = 0.5 * frames
    for model, variant, scale in models():
        curves: dict[str, Any] = {}
        for alignment in ("raw", "com", "aligned"):
            value = factor * scale * frames**0.7 / 50
            for quantity, share in (("rmse", 1.0), ("armse", 0.8)):
                name = f"{quantity}_{alignment}"
                curves[name] = share * value
                curves[f"{name}_low"], curves[f"{name}_high"] = 0.8 * value, 1.3 * value
        n_starts = np.full(400, 20)
        if model.startswith("trajgen"):
            means = {
                f"{name}_ensemble_mean": 0.6 * values
                for name, values in curves.items()
                if not name.endswith(("low", "high"))
            }
            save_artefact(
                folder,
                "s2l-ensemble",
                system,
                model,
                variant,
                DATA,
                time_fs=time,
                frames=frames,
                n_starts=n_starts,
                **means,
            )
        save_artefact(
            folder,
            "s2l",
            system,
            model,
            variant,
            DATA,
            time_fs=time,
            frames=frames,
            n_starts=n_starts,
            **curves,
        )
        if ":" in model:
            long = np.linspace(0, 10, 2000)
            noise = rng.normal(size=(2000, 3))
            save_artefact(
                folder,
                "stability",
                system,
                model,
                variant,
                DATA,
                time_ps=long,
                surviving=1 - 0.25 * (long > 4) - 0.25 * (long > 7 + 10 * scale),
                stable_ps=np.array([4.0, 7.0, 10.0, 10.0]),
                survived=np.array([False, False, True, True]),
                temperature=500 + 80 * noise,
                temperature_mean=500 + 80 * noise.mean(1),
                total=2.0 + scale * 0.1 * long[:, None] + 0.002 * noise,
                potential=1.0 + scale * 0.1 * long[:, None] + 0.1 * noise,
            )
            edges = np.linspace(0.7, 1.5, 101)
            middle = (edges[1:] + edges[:-1]) / 2
            bell = np.exp(-((middle - 1.1) ** 2) / 0.005)
            shifted = np.exp(-((middle - 1.1 - 0.1 * scale) ** 2) / 0.005)
            save_artefact(
                folder,
                "distributions",
                system,
                model,
                variant,
                DATA,
                bond_labels=np.array(["C-H", "C-C"]),
                bond_edges=np.stack([edges, edges]),
                bond_generated=np.stack([shifted, shifted]),
                bond_reference=np.stack([bell, bell]),
                vdos_wavenumber=np.linspace(0, 4000, 200),
                vdos_generated=rng.random(200),
                vdos_reference=rng.random(200),
                torsion_time_ps=np.linspace(0, 2, 100),
                torsion_correlation_generated=np.exp(-np.linspace(0, 2, 100))[:, None],
                torsion_correlation_reference=np.exp(-np.linspace(0, 3, 100))[:, None],
            )


def invented_trajectories(folder: Path, rng: np.random.Generator) -> None:
    atoms = ase.build.molecule("CH3CH2OH")
    numbers, start = atoms.numbers, atoms.positions
    bonds = bonded_pairs(numbers, start)
    modes = rng.normal(size=(2, 3, *start.shape))
    time = np.arange(0, 300, 2.0)

    def moved(strength: float) -> np.ndarray:
        phase = 2 * np.pi * time[:, None] / np.array([20.0, 35.0, 90.0])
        swing = np.sin(phase)[..., None, None] * (modes[0] + strength * modes[1])
        return start + 0.06 * swing.sum(1)

    for model, frames in (("reference", moved(0.0)[:120]), ("forcefield:md17s", moved(0.4))):
        save_artefact(
            folder,
            "trajectory",
            "ethanol",
            model,
            "" if model == "reference" else "fitted",
            DATA,
            numbers=numbers,
            positions=frames.astype(np.float32),
            time_fs=time[: len(frames)],
            bonds=bonds,
        )


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results file, its artefacts beside it."""
    root = tmp_path_factory.mktemp("evaluation")
    rng = np.random.default_rng(0)
    rows = []
    for system, factor in (("ethanol", 1.0), ("aspirin", 0.7), ("uracil", 1.3)):
        rows += invented_rows(system, factor)
        invented_curves(root / "curves", system, factor, rng)
    invented_trajectories(root / "curves", rng)
    jobs = {row["job"]: {"command": COMMAND, "machine": "2 cores", "skipped": None} for row in rows}
    jobs["s2l/benzene/EGNN"] = {"command": COMMAND, "skipped": "its time step is not known"}
    content = {
        "format": "trajgen-results",
        "version": 1,
        "name": "invented",
        "artefacts": "curves",
        "provenance": {"created": "2026-01-01T00:00:00+00:00", "versions": {"torch": "2.13"}},
        "jobs": jobs,
        "rows": rows,
    }
    path = root / "invented.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def report(results: Path) -> Path:
    """The report of that evaluation."""
    return write_report(results, results.with_suffix(".html"))
