"""The force fields' benchmark: that it measures what it says, keeps it, and goes on."""

import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from forcefield.potential import Potential
from shared.checkpoint import CheckpointConfig, save, shipped
from shared.data.extxyz import LabelledFrames

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
ELEMENTS = [1, 6, 7, 8]


def save_model(folder: Path, backbone: str = "nequip", diffusion: str = "none") -> Path:
    """A random network without forces to speak of: bonds at 300 K last for about 15 fs."""
    torch.manual_seed(0)
    options = {"channels": 4, "layers": 1, "lmax": 1, "bessel": 4, "radial": [8]}
    diffused = {"kind": diffusion, "channels": 4, "heads": 2, "steps": 1, "solver": "euler"}
    potential = Potential(
        ELEMENTS,
        backbone,
        options,
        diffused if diffusion != "none" else None,
        e0=[-13.6, -1030.0, -1485.0, -2043.0],
        scale=[0.02] * 4,
    )
    description, normalisation = potential.description()
    config = CheckpointConfig(
        head="forcefield",
        name=folder.name,
        kind="potential",
        model=description,
        elements=ELEMENTS,
        normalisation=normalisation,
        temperature_K=300.0,
        temperature_convention="3N-3",
        provenance={"data": {"source": "3bpa"}},
    )
    return save(folder, potential.state_dict(), config, "# tiny\n")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint."""
    return save_model(tmp_path_factory.mktemp("checkpoints") / "nequip-none")


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The benchmark's files; its main one has the name of the package that it measures."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.delenv("MACE_PYTHON", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path, str(BENCHMARKS)])
    import _ff_accuracy
    import _ff_dynamics
    import _ff_effect
    import _ff_models
    import _ff_speed

    spec = importlib.util.spec_from_file_location(
        "benchmark_forcefield", BENCHMARKS / "forcefield.py"
    )
    assert spec is not None
    assert spec.loader is not None
    main = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, main)
    spec.loader.exec_module(main)
    return SimpleNamespace(
        main=main.main,
        accuracy=_ff_accuracy,
        dynamics=_ff_dynamics,
        effect=_ff_effect,
        models=_ff_models,
        speed=_ff_speed,
    )


def rows_of(path: Path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))["rows"]


def test_label_errors(modules) -> None:
    """Energies off by 1 and −3 meV, one force component of six off by 6 meV/Å in one frame."""
    zeros = np.zeros((2, 2, 3))
    frames = LabelledFrames("x", Path("x"), np.array([1, 1]), zeros, np.zeros(2), zeros)
    forces = zeros.copy()
    forces[0, 0, 0] = 0.006
    row = modules.models.Model.row
    subject = SimpleNamespace(name="x")
    made = modules.accuracy.label_errors(
        row(subject, "P3", "300K", "d"), frames, [0.001, -0.003], forces
    )
    values = {r.metric: r.value for r in made}
    assert values == pytest.approx(
        {"E RMSE": 5**0.5, "E MAE": 2.0, "F RMSE": 3**0.5, "F MAE": 0.5}, rel=1e-12
    )
    assert all(r.low <= r.value <= r.high for r in made)


def test_what_is_read_from_a_simulation(modules) -> None:
    """Two replicas, 5 fs apart: one whole, drifting by 2 meV/ps; one that breaks at 0.02 ps."""
    times = 0.005 * np.arange(1, 11)
    deviation = np.full((10, 2), 0.1)
    deviation[3:, 1] = [0.6, *[np.nan] * 6]
    conserved = np.stack([-5.0 + 0.002 * times, np.full(10, np.nan)], axis=1)
    run = modules.dynamics.Run(deviation, deviation, conserved, n_atoms=4)
    assert run.stable_ps().tolist() == [np.inf, pytest.approx(0.02)]
    drifts = run.drifts()
    assert drifts[0] == pytest.approx(0.5)
    assert np.isnan(drifts[1])


def test_fitted_order(modules) -> None:
    steps = np.array(modules.dynamics.TIMESTEPS_FS)
    assert modules.dynamics.fitted_order(0.3 * steps**2) == pytest.approx(2.0)


@pytest.mark.data
def test_quick_run_resumes(modules, tiny: Path, tmp_path: Path, capsys) -> None:
    options = ["--checkpoint", str(tiny), "--quick", "--folder", str(tmp_path)]
    options += ["--out", str(tmp_path / "results.json"), "--systems", "300K", "ethanol", "3BPA"]
    rows = ["accuracy", "stability", "conservation", "rmd17", "md17s"]
    assert modules.main([*options, "--rows", *rows]) == 0
    first = capsys.readouterr()
    assert "stability nequip-none, 300K" in first.err
    assert "targets met" in first.out
    assert "MACE L=1, published" in first.out
    assert "1 of 10 molecules were measured" in first.out
    kept = rows_of(tmp_path / "results.json")
    values = {(r["metric"], r["model"], r["system"]): r["value"] for r in kept}
    assert values["stable replicas", "nequip-none", "300K"] == 1.0
    assert values["order of the energy error", "nequip-none", "300K"] is not None
    # A force field that is next to none errs as much as no force.
    nothing = values["F MAE", "no force", "ethanol"]
    assert values["F MAE", "nequip-none", "ethanol"] == pytest.approx(nothing, rel=0.05)
    # The oracle file's own figure, from the same frames by another program.
    from shared.data.md17 import load_md17s_oracle

    oracle = load_md17s_oracle("ethanol")
    published = oracle.ratios["known"][oracle.horizon_steps.tolist().index(100)]
    ratio = values["RMSE@100 com / persistence", "engine, ξ known", "ethanol"]
    assert ratio == pytest.approx(published, rel=1e-3)

    assert modules.main([*options, "--rows", *rows]) == 0
    second = capsys.readouterr()
    assert second.err == "rmd17 nequip-none, all\n"  # skipped: tried again
    assert second.out == first.out


@pytest.mark.data
def test_stability_from_torsion_scans(modules, tiny: Path, tmp_path: Path) -> None:
    """A column of its own, labelled, without a target."""
    settings = modules.models.Settings(
        replicas=2, stability_ps=0.01, engine="eager", folder=tmp_path
    )
    rows = modules.dynamics.stability(modules.models.model(str(tiny)), "torsion-scan", settings)
    assert {row.data for row in rows} == {
        "3BPA torsion scans built from a training frame, nve 0.5 fs"
    }
    assert all(row.note.startswith("torsion-scan: torsion scans built") for row in rows)
    assert not any(row.target for row in rows)
    starts = [modules.models.start(system, 2).positions for system in ("torsion-scan", "300K")]
    assert not np.allclose(*starts)


@pytest.mark.data
def test_interrupted_simulation_goes_on(modules, tiny: Path, tmp_path: Path, monkeypatch) -> None:
    from dataclasses import replace

    dynamics = modules.dynamics
    model = modules.models.model(str(tiny))
    settings = modules.models.Settings(engine="eager", folder=tmp_path / "whole")
    arguments = (model, "300K", "langevin", 2, 0.01)
    whole = dynamics.long_run(*arguments, settings)
    monkeypatch.setattr(dynamics, "FLUSH_S", 0.0)
    save_state, saved = dynamics.save_state, []

    def killed(out, point):
        save_state(out, point)
        saved.append(point)
        if len(saved) == 1:
            raise KeyboardInterrupt

    settings = replace(settings, folder=tmp_path / "killed")
    monkeypatch.setattr(dynamics, "save_state", killed)
    with pytest.raises(KeyboardInterrupt):
        dynamics.long_run(*arguments, settings)
    resumed = dynamics.long_run(*arguments, settings)
    assert len(saved) == 2
    for name in dynamics.KEPT:
        assert np.array_equal(getattr(resumed, name), getattr(whole, name))


@pytest.mark.data
def test_speed_without_the_other(modules, tiny: Path) -> None:
    settings = modules.models.Settings(
        engine="eager", speed_s=0.1, speed_replicas=1, speed_threads=1
    )
    rows = modules.speed.speed(modules.models.model(str(tiny)), "3BPA", settings)
    ours = {(r.metric, r.horizon): r for r in rows}
    assert ours["molecule force steps", "1 molecule"].value > 1
    assert ours["overhead of a step outside the network", "1 molecule"].value > -0.9
    ratio = ours["force steps / mace-torch's", "1 molecule"]
    assert ratio.value is None
    assert "MACE_PYTHON is not set" in ratio.note


def test_ratios_of_speeds(modules) -> None:
    """Per second: alone 100 evaluations and 80 steps, 32 at once 5 and 4; MACE 10 and 0.5."""

    def worker(**rates: float) -> SimpleNamespace:
        about = {"first_s": 1.0, "parameters": 10}
        return SimpleNamespace(rate=rates.get, about=about, memory_MiB=1.0)

    ours = {1: worker(forces=100.0, steps=80.0), 32: worker(forces=5.0, steps=4.0)}
    theirs = {1: worker(forces=10.0), 32: worker(forces=0.5)}
    row = modules.models.Model.row(SimpleNamespace(name="x"), "P7", "3BPA", "d")
    rows = modules.speed._rows(row, ours, theirs)
    values = {(r.metric, r.horizon, r.model): r.value for r in rows}
    assert values["force steps / mace-torch's", "32 molecules", "x"] == pytest.approx(10.0)
    assert values["batched / single, per molecule", "32 molecules", "x"] == pytest.approx(1.6)
    assert values["molecule force steps", "32 molecules", modules.speed.OTHER] == 16.0
    overhead = values["overhead of a step outside the network", "1 molecule", "x"]
    assert overhead == pytest.approx(0.25)


def test_a_worker_that_ends_says_why(modules, tmp_path: Path) -> None:
    script = tmp_path / "broken.py"
    script.write_text("raise SystemExit('no mace here')\n", encoding="utf-8")
    with pytest.raises(modules.speed.Skip, match=r"broken\.py: no mace here"):
        modules.speed.Worker([sys.executable, str(script)], 1)


@pytest.mark.data
def test_effect(modules, tmp_path: Path, capsys) -> None:
    for name in ("nequip-full-seed0", "nequip-full-seed1"):
        run = tmp_path / "runs" / name
        save_model(run / name, diffusion="full")
        (run / "config.yaml").write_text("run: {steps: 7}\n", encoding="utf-8")
    options = ["--quick", "--rows", "effect", "--folder", str(tmp_path)]
    out = tmp_path / "results.json"
    assert modules.main([*options, "--runs", str(tmp_path / "runs"), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "nequip-full, 2 seeds" in text
    values = {(r["metric"], r["model"], r["system"]): r["value"] for r in rows_of(out)}
    assert values["training steps", "nequip-full-seed1", "any"] == 7
    assert values["feature shift / diffusivity shift", "nequip-full-seed0", "1200K"] > 0
    assert 0 < values["stable time, median", "nequip-full-seed0", "1200K"] <= 0.01
    assert ("stable time, median", "nequip-full-seed0", "600K") not in values


@pytest.mark.data
def test_backbones_alone(modules, tiny: Path, tmp_path: Path, capsys) -> None:
    """Beside what is published of the same backbone; another training says why it is not."""
    full = save_model(tmp_path / "nequip-full", diffusion="full")
    ships = shipped("forcefield")
    runs = [str(folder) for folder in (tiny, full, ships["3bpa"], ships["rmd17"])]
    out = tmp_path / "results.json"
    options = ["--quick", "--rows", "alone", "--folder", str(tmp_path), "--out", str(out)]
    assert modules.main([*options, "--runs", *runs]) == 0
    text = capsys.readouterr().out
    assert "nequip-full has a diffusion beside its backbone" in text
    assert "3bpa began with the weights of" in text
    assert "rmd17 has learned other frames than those of 3BPA" in text
    values = {(r["metric"], r["model"], r["system"]): r["value"] for r in rows_of(out)}
    ratio = values["F RMSE / published", "nequip-none", "1200K"]
    assert ratio == pytest.approx(values["F RMSE", "nequip-none", "1200K"] / 76.2)
    assert not any(model == "3bpa" for _, model, _ in values)


@pytest.mark.data
def test_curve(modules, tiny: Path, tmp_path: Path, capsys) -> None:
    """Kept weights one after the other, and the log; without them the row says what is missing."""
    from safetensors.torch import load_file, save_file

    run = tmp_path / "run"
    released = save_model(run / "nequip-none")
    (run / "config.yaml").write_text("run: {epoch_steps: 5}\n", encoding="utf-8")
    out = tmp_path / "results.json"
    options = ["--quick", "--rows", "curve", "--folder", str(tmp_path), "--out", str(out)]
    options += ["--runs", str(run)]
    assert modules.main(options) == 0
    text = capsys.readouterr().out
    assert "train with run.keep_every" in text
    assert "no run folder with a log" in text
    (run / "kept").mkdir()
    weights = load_file(released / "weights.safetensors")
    save_file(weights, run / "kept" / "10.safetensors")
    nothing = {name: torch.zeros_like(value) for name, value in weights.items()}
    save_file(nothing, run / "kept" / "5.safetensors")
    (run / "logs" / "version_0").mkdir(parents=True)
    log = "epoch,val_e_rmse,val_f_rmse\n0,,\n0,9.0,90.0\n1,8.0,80.0\n"
    (run / "logs" / "version_0" / "metrics.csv").write_text(log, encoding="utf-8")
    assert modules.main(options) == 0
    values = {(r["metric"], r["horizon"], r["system"]): r["value"] for r in rows_of(out)}
    assert values["F RMSE", "5 steps", "validation"] == 90.0
    assert values["E RMSE", "10 steps", "validation"] == 8.0
    model = modules.models.model(str(released))
    frames = modules.models.thinned(modules.models.bpa_frames("600K"), 2)
    off = model.evaluate(frames.numbers, frames.positions)[1] - frames.forces
    rmse = 1000 * np.sqrt((off**2).mean())
    assert values["F RMSE", "10 steps", "600K"] == pytest.approx(rmse)
    still = 1000 * np.sqrt((frames.forces**2).mean())
    assert values["F RMSE", "5 steps", "600K"] == pytest.approx(still)
    assert "F RMSE, 5 steps, nequip-none [meV/Å]" in capsys.readouterr().out


def test_bad_input(modules, tmp_path: Path, capsys) -> None:
    assert modules.main(["--checkpoint", "nothing", "--quick", "--folder", str(tmp_path)]) == 2
    assert "no checkpoint nothing" in capsys.readouterr().err
    assert modules.main(["--rows", "effect", "--quick", "--runs", str(tmp_path)]) == 2
    assert "no checkpoint in it" in capsys.readouterr().err
