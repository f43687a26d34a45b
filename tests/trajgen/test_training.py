"""Training of all modes on made-up data: it learns, resumes to the bit, and refuses bad input."""

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from ase.build import molecule
from ase.io import write

from shared.card import NOT_MEASURED, block
from shared.checkpoint import CARD
from shared.config import parse_config
from shared.errors import InputError
from shared.training import OptimiserConfig, learning_rate_factor, optimisers, schedulers
from tests.isomers import write_isomers
from trajgen.load import load_model, open_checkpoint, recognise
from trajgen.train import DataConfig, load_more, load_series, main, parser, train
from trajgen.training import Training, _temperature, build_model, molecules_of

# Molecules of the data set md17s, made here of fewer atoms.
ATOMS = {
    "ethanol": ([8, 1, 1], [[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]]),
    "uracil": ([8, 8, 1, 1], [[0, 0.7, 0], [0, -0.7, 0], [0.8, 0.9, 0.4], [-0.8, -0.9, 0.4]]),
}
TINY = {
    "residual": {
        "data": {"lag_fs": [1.0, 2.0], "history": "thermostat"},
        "network": {
            "channels": 8,
            "vectors": 8,
            "heads": 4,
            "directions": 2,
            "radial": 6,
            "layers": 1,
        },
        "optimiser": {"warmup_steps": 1},
        "run": {"mode": "residual", "unroll": {0: 1, 12: 2}, "validation_fs": 4.0},
    },
    "paper": {
        "data": {
            "lag_fs": [0.5, 0.5],
            "history": "acceleration",
            "acceleration_interval_fs": None,
        },
        "paper": {
            "network": {"channels": 8, "heads": 2, "layers": 1, "feed_forward": 8},
        },
        "loss": {"prior_fraction": 0.0},
        "optimiser": {"matrix_learning_rate": None, "schedule": "plateau", "plateau_patience": 0},
        "sampling": {"sampler": "heun", "steps": 3},
        "run": {"mode": "paper", "monitor": "val_loss", "validation_fs": 1.0},
    },
    "regression": {
        "data": {"lag_fs": [1.0, 2.0], "history": "acceleration"},
        "regression": {"network": "egnn", "channels": 8, "layers": 2},
        "optimiser": {"warmup_steps": 1},
        "run": {"mode": "regression", "unroll": {0: 1, 12: 2}, "validation_fs": 4.0},
    },
}
RUN = {"steps": 24, "epoch_steps": 8, "per_molecule": 4, "compile": False}


@pytest.fixture(scope="module", autouse=True)
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """120 frames of vibrations, in the form of md17s."""
    root = tmp_path_factory.mktemp("data")
    (root / "md17s").mkdir()
    rng = np.random.default_rng(0)
    t = 0.5 * np.arange(120)[:, None, None]
    for name, (numbers, positions) in ATOMS.items():
        phases = rng.uniform(0, 6, (2, *np.shape(positions)))
        move = 0.03 * np.sin(0.3 * t + phases[0]) + 0.02 * np.sin(0.11 * t + phases[1])
        np.savez(
            root / "md17s" / f"md17s_{name}.npz",
            R=positions + move,
            z=np.array(numbers),
            E=np.zeros(120),
            F_label=np.zeros((1, *np.shape(positions))),
            label_frames=np.array([0]),
            xi_per_fs=0.01 * np.sin(0.05 * t[:, 0, 0]),
        )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRAJGEN_DATA", str(root))
        yield root


def config(folder: Path, mode: str = "residual", **changes: dict[str, Any]) -> Path:
    """A config file; `changes` go into its sections."""
    sections = {name: dict(section) for name, section in TINY[mode].items()}
    sections["data"] |= {"molecules": list(ATOMS), "train": [0, 80], "validation": [80, 120]}
    sections["run"] |= {"out": str(folder / "run"), "name": "tiny", **RUN}
    for name, section in changes.items():
        sections[name] = sections.get(name, {}) | section
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(sections), encoding="utf-8")
    return path


def settings(folder: Path, mode: str = "residual", **changes: dict[str, Any]) -> Any:
    return parse_config(parser(), ["--config", str(config(folder, mode, **changes))])


def rows(folder: Path) -> list[dict[str, str]]:
    """Validations of a run."""
    with (folder / "run" / "logs" / "version_0" / "metrics.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["val_loss"]]


@pytest.fixture(scope="module", params=TINY)
def trained(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Mode, and the folder of an uninterrupted training."""
    folder = tmp_path_factory.mktemp(request.param)
    train(settings(folder, request.param))
    return request.param, folder


def test_it_learns(trained: tuple[str, Path]) -> None:
    losses = [float(row["val_loss"]) for row in rows(trained[1])]
    assert len(losses) == 3
    assert losses[-1] < losses[0]


def test_the_run_folder(trained: tuple[str, Path]) -> None:
    mode, folder = trained
    run = folder / "run"
    for name in ("config.yaml", "run.json", "best.ckpt", "last.ckpt", "tensorboard"):
        assert (run / name).exists(), name
    again = parse_config(parser(), ["--config", str(run / "config.yaml")])
    assert again.run.unroll == settings(folder, mode).run.unroll
    assert again.paper == settings(folder, mode).paper


def test_the_released_checkpoint(trained: tuple[str, Path]) -> None:
    mode, folder = trained
    model, found = load_model(str(folder / "run" / "tiny"))
    assert (model.kind, found.kind) == (mode, mode)
    assert set(found.molecules) == set(ATOMS)
    assert found.elements == [1, 8]
    assert found.temperature_K == 500.0
    lags = TINY[mode]["data"]["lag_fs"]
    assert (found.defaults["lag_fs"], found.defaults["lag_range_fs"]) == (lags[1], lags)
    assert found.defaults["steps"] == {"residual": 1, "paper": 3, "regression": 1}[mode]
    # These are the averaged weights of the epoch with the least of what was monitored.
    best = torch.load(folder / "run" / "best.ckpt", weights_only=True)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, best["state_dict"][f"model.{name}"])
    monitored = [float(row[settings(folder, mode).run.monitor]) for row in rows(folder)]
    assert best["epoch"] == int(np.argmin(monitored))
    run = settings(folder, mode).run
    training = found.provenance["training"]
    assert (training["steps"], training["seed"]) == (run.steps, run.seed)
    assert training["validation"][run.monitor.removeprefix("val_")] == pytest.approx(min(monitored))
    assert training["released_step"] == (best["epoch"] + 1) * run.epoch_steps
    ranges = settings(folder, mode).data
    assert training["split"] == {"train": list(ranges.train), "validation": list(ranges.validation)}
    card = (folder / "run" / "tiny" / CARD).read_text("utf-8")
    for text in (
        f"A transition kernel for {', '.join(found.molecules)}, mode {mode}: a step of {lags[1]:g}",
        f"`python -m trajgen.train --config {folder / 'config.yaml'}`, seed {run.seed}",
        f"at the end of the roll-outs by {training['validation']['rmse']:.3g} of persistence.",
        f"frames {ranges.train[0]} to {ranges.train[1]} train",
        "Trained on frames at 500 K (3N degrees of freedom)",
        f"No frames closer than {lags[0]:g} fs.",
        *found.provenance["files"],
        block("results", NOT_MEASURED),
    ):
        assert text in card


def test_a_killed_training_resumes_to_the_bit(
    trained: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the middle of an epoch; weights, average, optimisers and schedules come back."""
    mode, folder = trained

    def killed(self: Training, batch: Any, batch_idx: int) -> None:
        if self.current_epoch == 1 and batch_idx == 3:
            raise RuntimeError("killed")
        step(self, batch, batch_idx)

    step = Training.training_step
    monkeypatch.setattr(Training, "training_step", killed)
    with pytest.raises(RuntimeError, match="killed"):
        train(settings(tmp_path, mode))
    monkeypatch.setattr(Training, "training_step", step)
    train(settings(tmp_path, mode, run={"resume": True}))
    ours, theirs = (
        torch.load(root / "run" / "last.ckpt", weights_only=True) for root in (tmp_path, folder)
    )
    for part in ("state_dict", "current_model_state"):
        for name, value in theirs[part].items():
            assert torch.equal(ours[part][name], value), (part, name)
    for part in ("optimizer_states", "lr_schedulers"):
        assert str(ours[part]) == str(theirs[part])
    weights = [root / "run" / "tiny" / "weights.safetensors" for root in (tmp_path, folder)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_run_folder_belongs_to_one_training(trained: tuple[str, Path], tmp_path: Path) -> None:
    mode, folder = trained
    run = {"out": str(folder / "run")}
    with pytest.raises(InputError, match="holds a training already"):
        train(settings(tmp_path, mode, run=run))
    other = settings(tmp_path, mode, run=run | {"resume": True, "seed": 5})
    with pytest.raises(InputError, match=r"has run\.seed 0, the config 5"):
        train(other)


def test_it_takes_the_steps_that_were_asked_for(tmp_path: Path) -> None:
    train(settings(tmp_path, run={"steps": 3, "epoch_steps": 2}))
    assert len(rows(tmp_path)) == 2
    last = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    assert [one["last_epoch"] for one in last["lr_schedulers"]] == [3, 3]


def test_fine_tuning_starts_from_a_checkpoint(trained: tuple[str, Path], tmp_path: Path) -> None:
    mode, folder = trained
    init = {"init": str(folder / "run" / "tiny")}
    chosen = settings(tmp_path, mode, run=init, data={"molecules": ["uracil"]})
    model = build_model(chosen, load_series(chosen.data))
    assert model.training
    for name, value in load_model(init["init"])[0].state_dict().items():
        assert torch.equal(model.state_dict()[name], value)
    other = settings(tmp_path, "residual" if mode == "paper" else "paper", run=init)
    with pytest.raises(InputError, match=f"is of mode {mode}"):
        build_model(other, load_series(other.data))


def test_fine_tuning_needs_the_same_atoms_and_history(
    trained: tuple[str, Path], tmp_path: Path
) -> None:
    mode, folder = trained
    if mode != "residual":
        pytest.skip(f"the {mode} mode has one history")
    chosen = settings(
        tmp_path, run={"init": str(folder / "run" / "tiny")}, data={"history": "acceleration"}
    )
    series = load_series(chosen.data)
    with pytest.raises(InputError, match=r"set data\.history: thermostat"):
        build_model(chosen, series)
    chosen.data = DataConfig(history="thermostat")
    series[0].classes[0] = "unheard of"
    with pytest.raises(InputError, match="has not seen the kinds of atoms in ethanol"):
        build_model(chosen, series)


# -- schedules ----------------------------------------------------------------------------------


def rates(config: OptimiserConfig, values: list[float]) -> list[float]:
    model = torch.nn.Linear(4, 4)
    chosen = optimisers(model, config)
    one = schedulers(chosen, config, len(values))[0]
    found = []
    for value in values:
        found.append(chosen[0].param_groups[0]["lr"])
        chosen[0].step()
        one.step(value) if config.schedule == "plateau" else one.step()
    return found


def test_cosine() -> None:
    config = OptimiserConfig(matrix_learning_rate=0.1, warmup_steps=4, final_fraction=0.1)
    expected = [0.1 * learning_rate_factor(step, 40, config) for step in range(40)]
    assert rates(config, [0.0] * 40) == pytest.approx(expected)
    assert max(expected) == pytest.approx(0.1, rel=0.03)
    assert expected[0] == pytest.approx(0.025)


def test_plateau() -> None:
    config = OptimiserConfig(
        learning_rate=0.8,
        matrix_learning_rate=None,
        schedule="plateau",
        plateau_factor=0.5,
        plateau_patience=1,
        final_fraction=0.25,
    )
    found = rates(config, [3, 2, 1, 1, 1, 1, 1, 1, 1, 1])
    assert found == pytest.approx([0.8] * 5 + [0.4] * 2 + [0.2] * 3)


# -- the command line ---------------------------------------------------------------------------


def test_without_a_compiler_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(*_: Any, **__: Any) -> Any:
        def call(*_: Any) -> None:
            raise RuntimeError("no C++ compiler")

        return call

    monkeypatch.setattr(torch, "compile", missing)
    run = {"compile": True, "steps": 8}
    assert main(["--config", str(config(tmp_path, run=run))]) == 0
    shown = capsys.readouterr()
    assert "not compiled (RuntimeError: no C++ compiler): this will be slower" in shown.err
    assert "the weights of step 8 of 8" in shown.out


def test_print_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = config(tmp_path, "paper")
    with pytest.raises(SystemExit) as stopped:
        main(["--config", str(path), "--print-config", "--run.steps", "7"])
    assert stopped.value.code == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert (shown["run"]["steps"], shown["run"]["mode"]) == (7, "paper")
    assert shown["paper"]["network"]["channels"] == 8
    assert shown["paper"]["network"]["cutoff"] == 1.6
    assert shown["optimiser"]["clip_norm"] == 1.0


@pytest.mark.parametrize(
    ("mode", "changes", "says"),
    [
        ("residual", {"network": {"chanels": 8}}, "network.chanels, the nearest is network.chan"),
        ("paper", {"paper": {"network": {"head": 8}}}, "the nearest is paper.network.heads"),
        ("residual", {"run": {"mode": "flow"}}, "run.mode"),
        ("residual", {"run": {"steps": "many"}}, "run.steps"),
        ("residual", {"data": {"source": "md18"}}, "data.source 'md18' is not known"),
        ("residual", {"data": {"molecules": ["benzene"]}}, "no molecule benzene"),
        ("residual", {"data": {"lag_fs": [0.7, 2.0]}}, "0.7 fs is not a multiple"),
        ("residual", {"data": {"train": [0, 6]}}, "6 frames in the range"),
        ("residual", {"data": {"validation": [110, 120]}}, "10 frames in data.validation"),
        ("residual", {"data": {"acceleration_interval_fs": 0.3}}, "0.3 fs is not a multiple"),
        ("residual", {"run": {"unroll": {5: 2}}}, "from step 0 on"),
        ("residual", {"run": {"init": "nowhere"}}, "no checkpoint nowhere"),
        ("residual", {"run": {"steps": 0}}, "run.steps must be >= 1, got 0"),
        ("residual", {"run": {"epoch_steps": 0}}, "run.epoch_steps must be >= 1, got 0"),
        ("residual", {"run": {"per_molecule": 0}}, "run.per_molecule must be >= 1, got 0"),
        ("residual", {"run": {"accelerator": "foo"}}, "run.accelerator foo, run.devices 1: "),
        ("residual", {"run": {"out": "/dev/null/x"}}, "run.out: [Errno 20] Not a directory"),
        ("residual", {"optimiser": {"ema_decay": 1.0}}, "optimiser.ema_decay must be < 1, got 1"),
        ("residual", {"loss": {"prior_fraction": 2.0}}, "loss.prior_fraction must be <= 1, got 2"),
        ("residual", {"data": {"lag_fs": [0.0, 2.0]}}, "data.lag_fs must be > 0, got [0.0, 2.0]"),
        ("residual", {"sampling": {"sampler": "euler"}}, "unknown sampler 'euler'"),
        ("residual", {"sampling": {"steps": 0}}, "steps must be at least 1"),
        ("paper", {"data": {"lag_fs": [0.5, 1.0]}}, "the paper mode takes one lag"),
        ("paper", {"data": {"history": "thermostat"}}, "set data.history: acceleration"),
        ("regression", {"data": {"history": "thermostat"}}, "set data.history: acceleration"),
        ("regression", {"regression": {"network": "scfnn"}}, "no 'scfnn' here; choose egnn, rf"),
        ("regression", {"regression": {"lmax": 2}}, "regression.lmax: egnn has none"),
        ("regression", {"regression": {"layer": 2}}, "the nearest is regression.layers"),
        ("residual", {"network": {"heads": 7}}, "config sections network, noise: "),
        ("paper", {"paper": {"network": {"heads": 7}}}, "config section paper: "),
        ("paper", {"paper": {"noise": {"epsilon": 2.0}}}, "config section paper: "),
        ("residual", {"data": {"molecules": []}}, "data.molecules is empty"),
        ("residual", {"data": {"lag_fs": [2.0, 1.0]}}, "data.lag_fs: 2 is more than 1"),
        ("residual", {"data": {"train": [0, 90]}}, "share frames 80 to 90; they must not"),
        ("residual", {"data": {"class_rounds": 5}}, "data.class_rounds must be <= 4, got 5"),
        ("residual", {"run": {"molecules": 0}}, "run.molecules must be >= 1, got 0"),
        ("paper", {"calibration": {"length_ps": 1.0}}, "only the mode residual has it, not paper"),
        (
            "residual",
            {"calibration": {"length_ps": 1.0, "by": "modes"}},
            "modes is of one molecule",
        ),
    ],
)
def test_bad_input(
    mode: str, changes: dict, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, exit code 2, nothing written."""
    path = config(tmp_path, mode, **changes)
    assert main(["--config", str(path)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("trajgen.train: ")
    assert says in lines[-1]
    assert not (tmp_path / "run").exists()


def test_isomers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained on some, validated on others; the checkpoint knows what it has not seen."""
    write_isomers(tmp_path)
    monkeypatch.setenv("TRAJGEN_DATA", str(tmp_path))
    data = {"source": "isomers", "train": [0, 1000], "validation": [0, 1000]}
    data |= {"history": "acceleration", "acceleration_interval_fs": None, "class_rounds": 1}
    changes = {"data": data, "run": {"molecules": 1, "unroll": {0: 1}}}
    path = config(tmp_path, "residual", **changes)
    assert main(["--config", str(path)]) == 0
    checkpoint = open_checkpoint(str(tmp_path / "run" / "tiny"))
    assert list(checkpoint.config.molecules) == ["ethanol-0", "ether-1"]
    assert checkpoint.config.temperature_convention == "3N-6"
    methanol = molecule("CH3OH")
    assert recognise(checkpoint.config, methanol.numbers, methanol.positions)[1] == "CH4O"
    ether = molecule("CH3OCH3")
    assert recognise(checkpoint.config, ether.numbers, ether.positions)[1] == "ether-1"
    card = " ".join((checkpoint.folder / CARD).read_text(encoding="utf-8").split())
    assert "of 2 molecules train" in card
    assert "ethanol-6, ether-5, ethanol-4, ether-3, ethanol-2 validate" in card


def test_coarse_frames_bring_a_warning(tmp_path: Path) -> None:
    write_trajectory(tmp_path / "a.extxyz", molecule("CH3OH"), interval_fs=2.0)
    with pytest.warns(UserWarning, match=r"a.extxyz: frames are 2 fs apart; velocities, which"):
        load_series(DataConfig(source="xtb", molecules=[str(tmp_path / "a.extxyz")]))


def write_trajectory(
    path: Path, atoms: Any, amplitude: float = 0.02, interval_fs: float = 0.5
) -> None:
    """A hundred frames, `interval_fs` apart, that vibrate, Å."""
    frames = []
    for k in range(100):
        moved = atoms.copy()
        moved.positions += amplitude * np.sin(0.2 * k + np.arange(3 * len(atoms))).reshape(-1, 3)
        moved.info["time_fs"] = interval_fs * k
        frames.append(moved)
    write(path, frames)


def test_further_trajectories_have_the_same_kinds_of_atoms(tmp_path: Path) -> None:
    write_trajectory(tmp_path / "a.extxyz", molecule("CH3OH"))
    data = DataConfig(
        source="xtb",
        molecules=[str(tmp_path / "a.extxyz")],
        more=[str(tmp_path / "a.extxyz")],
        class_rounds=1,
    )
    (series,), (more,) = load_series(data), load_more(data)
    assert more.classes == series.classes
    assert more.key == series.key


def test_a_molecule_of_several_files_goes_by_its_formula(tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("a.extxyz", "b.extxyz", "c.extxyz")]
    for path, name in zip(paths, ("CH3OH", "CH3OH", "H2O"), strict=True):
        write_trajectory(Path(path), molecule(name))
    found = molecules_of(load_series(DataConfig(source="xtb", molecules=paths)))
    assert {name: entry["atoms"] for name, entry in found.items()} == {"CH4O": 6, "c": 3}


def test_molecules_of_one_formula_are_both_known(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{k}.extxyz") for k in range(4)]
    for path, name in zip(paths, ("CH3CH2OH", "CH3OCH3", "CH3CH2OH", "CH3OCH3"), strict=True):
        write_trajectory(Path(path), molecule(name))
    found = molecules_of(load_series(DataConfig(source="xtb", molecules=paths)))
    assert list(found) == ["C2H6O", "C2H6O-2"]
    assert found["C2H6O"]["key"] != found["C2H6O-2"]["key"]


def test_a_loss_that_is_not_finite_ends_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        Training, "loss", lambda self, g: g["lag"] * torch.nan + next(self.model.parameters()).sum()
    )
    assert main(["--config", str(config(tmp_path))]) == 2
    assert "the loss is not finite at step 0" in capsys.readouterr().err
    assert not (tmp_path / "run" / "tiny").exists()


def test_part_of_a_trajectory_has_other_rows(data: Path, tmp_path: Path) -> None:
    numbers, positions = next(iter(ATOMS.values()))
    (data / "md17").mkdir(exist_ok=True)
    np.savez(
        data / "md17" / "md17_ethanol_frames30000-30019.npz",
        R=np.repeat(np.array(positions)[None], 20, axis=0),
        z=np.array(numbers),
        E=np.zeros(20),
        F=np.zeros((20, *np.shape(positions))),
    )
    with pytest.raises(InputError, match="begins at frame 30000 of ethanol"):
        load_series(DataConfig(source="md17", molecules=["ethanol"]))


def test_the_temperature_of_trajectories(tmp_path: Path) -> None:
    """That of their velocities; none where they differ."""
    paths = []
    for k, amplitude in enumerate((0.02, 0.02, 0.03)):
        paths.append(str(tmp_path / f"{k}.extxyz"))
        write_trajectory(Path(paths[-1]), molecule("H2O"), amplitude)
    series = load_series(DataConfig(source="xtb", molecules=paths, train=(0, 80)))
    data = DataConfig(source="xtb", molecules=paths, train=(0, 80))
    speed = np.square(series[0].velocities[2:80].astype(float)).sum(-1)  # 3 degrees of freedom
    expected = (speed * series[0].masses).sum(1).mean() * 103.6427 / (3 * 8.617333e-5)
    assert _temperature(series[:2], data) == pytest.approx(expected, rel=1e-3)
    assert _temperature(series, data) is None
    assert _temperature([], DataConfig(source="md17s")) == 500.0


def test_frames_without_times_are_refused(tmp_path: Path) -> None:
    atoms = "3\n\nO 0 0 0.12\nH 0 0.76 -0.48\nH 0 -0.76 -0.48\n"
    (tmp_path / "water.xyz").write_text(atoms * 10, encoding="utf-8")
    data = DataConfig(source="xtb", molecules=[str(tmp_path / "water.xyz")])
    with pytest.raises(InputError, match="with their times"):
        load_series(data)


@pytest.mark.parametrize("path", sorted(Path("configs/trajgen").rglob("*.yaml")), ids=str)
def test_shipped_configs_are_valid(path: Path) -> None:
    arguments = ["--config", str(path)]
    if path.stem.startswith("ablation-"):
        arguments = ["--config", "configs/trajgen/ablation.yaml", *arguments]
    if path.stem.startswith("ablation"):
        arguments = ["--config", "configs/trajgen/md17s.yaml", *arguments]
    found = parse_config(parser(), arguments)
    assert found.run.name
    if path.stem == "ablation-no-acceleration":
        assert (found.network.acceleration, found.network.channels) == (False, 64)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["residual", "paper"])
def test_two_processes(mode: str, tmp_path: Path) -> None:
    """Data-parallel over gloo: both step alike and one of them writes."""
    path = config(tmp_path, mode, run={"devices": 2, "steps": 8, "epoch_steps": 4})
    command = [sys.executable, "-m", "trajgen.train", "--config", str(path)]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert load_model(str(tmp_path / "run" / "tiny"))[0].kind == mode
    assert len(rows(tmp_path)) == 2
