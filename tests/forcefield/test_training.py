"""Training on made-up molecules: it learns, resumes to the bit, and refuses bad input."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from safetensors.torch import load_file

from forcefield.labelled import as_graphs, load_labelled
from forcefield.load import load_potential
from forcefield.potential import energy_and_forces
from forcefield.train import LossConfig, main, parser, train
from forcefield.training import (
    Training,
    atomic_shifts,
    build_potential,
    isolated_energies,
    make_loss,
    scheduled,
)
from shared.card import NOT_MEASURED, block
from shared.checkpoint import CARD
from shared.choice import unfamiliar
from shared.config import KEPT, parse_config
from shared.data.extxyz import LabelledFrames, read_labelled
from shared.errors import InputError
from shared.training import OptimiserConfig, averaged, optimisers, renaming_io

VISNET = {"channels": 8, "layers": 1, "heads": 2}
BASES = {1: -13.0, 6: -1000.0, 8: -2000.0}
MOLECULES = {
    "water": ([8, 1, 1], [[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]]),
    "formaldehyde": ([6, 8, 1, 1], [[0, 0, -0.5], [0, 0, 0.7], [0, 0.94, -1.1], [0, -0.94, -1.1]]),
}


def write_molecules(folder: Path, count: int = 24) -> list[str]:
    """Springs between all atoms, about the equilibrium; energies of isolated atoms added."""
    rng = np.random.default_rng(0)
    paths = []
    for name, (numbers, positions) in MOLECULES.items():
        still = np.array(positions)
        rest = np.linalg.norm(still[None] - still[:, None], axis=-1)
        frames = []
        for _ in range(count):
            x = still + 0.08 * rng.normal(size=still.shape)
            r = x[None] - x[:, None]
            d = np.linalg.norm(r, axis=-1) + np.eye(len(x))
            pull = 5.0 * (d - rest - np.eye(len(x)))
            forces = (pull[..., None] * r / d[..., None]).sum(1)
            energy = 0.25 * (pull**2 / 5.0).sum() + sum(BASES[z] for z in numbers)
            atoms = Atoms(numbers, x)
            atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
            frames.append(atoms)
        paths.append(str(folder / f"{name}.xyz"))
        write(paths[-1], frames, format="extxyz")
    single = [Atoms([z]) for z in BASES]
    for atoms, energy in zip(single, BASES.values(), strict=True):
        atoms.calc = SinglePointCalculator(atoms, energy=energy)
    write(str(folder / "atoms.xyz"), single, format="extxyz")
    return paths


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_molecules(folder)
    return folder


def config(data: Path, out: Path, /, **changes: dict[str, Any]) -> Path:
    """A config file; `changes` go into its sections."""
    sections: dict[str, dict[str, Any]] = {
        "data": {
            "source": "extxyz",
            "molecules": [str(data / f"{name}.xyz") for name in MOLECULES],
            "validation": 4,
        },
        "backbone": {"name": "segno", "options": {"channels": 8, "vectors": 4, "steps": 2}},
        "diffusion": {"kind": "none"},
        "potential": {"readout_channels": 8, "e0": str(data / "atoms.xyz")},
        "optimiser": {
            "learning_rate": 0.01,
            "matrix_learning_rate": None,
            "warmup_steps": 1,
            "ema_decay": 0.9,
        },
        "run": {
            "out": str(out / "run"),
            "name": "tiny",
            "steps": 24,
            "epoch_steps": 8,
            "batch_size": 4,
            "validation_batch": 3,
            "compile": False,
        },
    }
    for name, section in changes.items():
        sections[name] = sections.get(name, {}) | section
    out.mkdir(parents=True, exist_ok=True)
    path = out / "config.yaml"
    path.write_text(yaml.safe_dump(sections), encoding="utf-8")
    return path


def settings(data: Path, out: Path, /, **changes: dict[str, Any]) -> Any:
    return parse_config(parser(), ["--config", str(config(data, out, **changes))])


def module(data: Path, out: Path, /, **changes: dict[str, Any]) -> Training:
    chosen = settings(data, out, **changes)
    frames = load_labelled(chosen.data, "train")
    held_out = load_labelled(chosen.data, "validation")
    return Training(build_potential(chosen, frames), frames, held_out, chosen)


def rows(folder: Path) -> list[dict[str, str]]:
    """Validations of a run."""
    with (folder / "run" / "logs" / "version_0" / "metrics.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["val_f_rmse"]]


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an uninterrupted training."""
    folder = tmp_path_factory.mktemp("trained")
    train(settings(data, folder))
    return folder


# -- whole trainings ----------------------------------------------------------------------------


def test_it_releases_the_best_averaged_weights(trained: Path) -> None:
    found = load_potential(str(trained / "run" / "tiny"))
    validated = [float(row["val_f_rmse"]) for row in rows(trained)]
    assert len(validated) == 3
    assert validated[-1] < validated[0]
    assert found.elements == [1, 6, 8]
    assert found.e0 == BASES
    best = torch.load(trained / "run" / "best.ckpt", weights_only=True)
    assert best["epoch"] == int(np.argmin(validated))
    for name, value in found.potential.state_dict().items():
        torch.testing.assert_close(value, best["state_dict"][f"potential.{name}"])
    assert found.config.temperature_convention == "3N-6"
    for name, (numbers, positions) in MOLECULES.items():
        assert found.config.molecules[name]["atoms"] == len(numbers)
        assert unfamiliar(found.config, numbers, positions) is None
    assert "was not trained on this molecule" in str(unfamiliar(found.config, [1], [[0, 0, 0]]))
    made = found.config.provenance
    reached = made["training"].pop("validation")
    assert reached["f_rmse"] == pytest.approx(min(validated))
    assert reached["f_mae"] == pytest.approx(
        np.mean([reached[f"f_mae_{name}"] for name in ("water", "formaldehyde")])
    )
    assert made["data"]["molecules"]["water"] == {"train": 20, "validation": 4, "atoms": 3}
    assert made["training"] == {
        "arguments": ["--config", str(trained / "config.yaml")],
        "steps": 24,
        "released_step": 8 * (best["epoch"] + 1),
        "seed": 0,
        "init": None,
        "split": {"train": None, "validation": 4, "split_seed": 0},
    }
    card = (trained / "run" / "tiny" / CARD).read_text("utf-8")
    assert card.startswith("# tiny\n")
    for text in (
        f"`python -m forcefield.train --config {trained / 'config.yaml'}`, seed 0. ",
        f"step {made['training']['released_step']} of the 24 asked for, those with the best "
        f"validation. On the frames that validate: F RMSE {min(validated):.3g}, MAE ",
        " meV, means over molecules.",
        "water 20 + 4; formaldehyde 20 + 4. A random part validates (split seed 0).",
        "segno, the backbone alone",
        *made["files"],
        "Elements H, C, O; any other is refused.",
        block("results", NOT_MEASURED),
    ):
        assert text in card
    assert (trained / "run" / "config.yaml").exists()


def test_it_learns(data: Path, tmp_path: Path) -> None:
    """Errors of the validation fall far below the forces themselves, in steps by hand."""
    made = module(data, tmp_path, backbone={"name": "visnet", "options": VISNET})
    adam = torch.optim.Adam(made.potential.parameters(), lr=0.01)
    weights = torch.tensor([1.0, 1.0, 0.0])
    errors = []
    for k in range(120):
        values, gradients = made._compiled[0](*made.batches[k].values(), weights)
        for parameter, gradient in zip(made.potential.parameters(), gradients, strict=True):
            parameter.grad = gradient
        adam.step()
        errors.append(values[2].sqrt().item())
    assert np.mean(errors[-10:]) < 0.4 * np.mean(errors[:5])


@pytest.mark.parametrize("muon", [None, 0.02], ids=["adam", "muon"])
def test_a_killed_training_resumes_to_the_bit(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, muon: float | None
) -> None:
    """Killed in the middle of an epoch; weights, average, optimisers and schedules come back."""
    whole, piece = tmp_path / "whole", tmp_path / "piece"
    optimiser = {"matrix_learning_rate": muon}

    def killed(self: Training, item: int, batch_idx: int) -> None:
        if self.current_epoch == 1 and batch_idx == 3:
            raise RuntimeError("killed")
        step(self, item, batch_idx)

    step = Training.training_step
    for folder in (whole, piece):
        folder.mkdir()
    train(settings(data, whole, optimiser=optimiser))
    monkeypatch.setattr(Training, "training_step", killed)
    with pytest.raises(RuntimeError, match="killed"):
        train(settings(data, piece, optimiser=optimiser))
    monkeypatch.setattr(Training, "training_step", step)
    train(settings(data, piece, optimiser=optimiser, run={"resume": True}))
    ours, theirs = (
        torch.load(root / "run" / "last.ckpt", weights_only=True) for root in (piece, whole)
    )
    assert len(ours["optimizer_states"]) == (1 if muon is None else 2)
    for part in ("state_dict", "current_model_state"):
        for name, value in theirs[part].items():
            assert torch.equal(ours[part][name], value), (part, name)
    for part in ("optimizer_states", "lr_schedulers"):
        assert str(ours[part]) == str(theirs[part])
    weights = [root / "run" / "tiny" / "weights.safetensors" for root in (piece, whole)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert len(list((piece / "run" / "logs").glob("version_*/metrics.csv"))) == 2  # both logs


def test_gradients_are_clipped(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the optimiser sees has the norm of the limit, which it would be above."""
    norms = []

    def looked_at(self: torch.optim.AdamW, *given: Any, **named: Any) -> Any:
        gradients = [w.grad for group in self.param_groups for w in group["params"]]
        norms.append(float(torch.stack([g.norm() for g in gradients if g is not None]).norm()))
        return step(self, *given, **named)

    step = torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", looked_at)
    run = {"steps": 8, "dtype": "float64"}
    train(settings(data, tmp_path, optimiser={"clip_norm": 0.01}, run=run))
    assert norms == pytest.approx([0.01] * 8, rel=1e-3)


def test_the_average_follows_faster_at_first(tmp_path: Path) -> None:
    """Weight of the past: min(decay, (k + 1) / (k + 10)) after k averages."""
    average = averaged(0.5, tmp_path, 10, None)._kwargs["multi_avg_fn"]
    for count, past in ((1, 2 / 11), (20, 0.5)):
        old, new = [torch.tensor([1.0, 3.0])], [torch.tensor([2.0, 5.0])]
        average(old, new, torch.tensor(count))
        assert old[0].tolist() == pytest.approx([2.0 - past, 5.0 - 2.0 * past])


def test_a_time_limit_stops_after_a_validation_and_releases(data: Path, tmp_path: Path) -> None:
    folder = train(settings(data, tmp_path, run={"max_minutes": 0.0, "dtype": "float64"}))
    assert len(rows(tmp_path)) == 1
    assert load_potential(str(folder)).elements == [1, 6, 8]


def test_averaged_weights_are_kept_along_the_way(data: Path, trained: Path, tmp_path: Path) -> None:
    """Those of step 8 are those of the first validation: nothing about the training changes."""
    folder = train(settings(data, tmp_path, run={"steps": 8, "keep_every": 4}))
    kept = tmp_path / "run" / KEPT
    assert sorted(path.name for path in kept.iterdir()) == ["4.safetensors", "8.safetensors"]
    released, last = load_file(folder / "weights.safetensors"), load_file(kept / "8.safetensors")
    first = load_file(kept / "4.safetensors")
    assert all(torch.equal(last[name], value) for name, value in released.items())
    assert any(not torch.equal(first[name], value) for name, value in released.items())
    assert not (trained / "run" / KEPT).exists()


def test_fine_tuning_starts_from_a_checkpoint(data: Path, trained: Path, tmp_path: Path) -> None:
    """Elements and scales stay; energies of isolated atoms come from the new data."""
    init = {"init": str(trained / "run" / "tiny")}
    only_water = {"molecules": [str(data / "water.xyz")]}
    first = load_potential(init["init"]).potential
    chosen = settings(data, tmp_path, run=init, data=only_water, potential={"e0": "fit"})
    model = build_potential(chosen, load_labelled(chosen.data, "train"))
    assert model.training
    assert all(weight.requires_grad for weight in model.parameters())
    assert (model.elements, model.scale) == (first.elements, first.scale)
    assert model.e0[1] == BASES[6]
    assert model.e0[0] != BASES[1]
    for name, value in first.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)
    walled = {"e0": "fit", "hydrogen_wall": True}  # has no weights: may come with the fine-tuning
    chosen = settings(data, tmp_path, run=init, data=only_water, potential=walled)
    assert build_potential(chosen, load_labelled(chosen.data, "train")).wall is not None
    other = settings(data, tmp_path, run=init, backbone={"name": "nequip", "options": {}})
    with pytest.raises(InputError, match="checkpoint tiny has backbone segno, the config nequip"):
        build_potential(other, load_labelled(other.data, "train"))


@pytest.mark.parametrize(("steps", "epoch_steps", "ends"), [(5, 3, [3, 5]), (3, 9, [3])])
def test_it_takes_the_steps_that_were_asked_for(
    data: Path,
    tmp_path: Path,
    steps: int,
    epoch_steps: int,
    ends: list[int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The last epoch is cut short, the schedule ends there, and nothing is left to resume."""
    run = {"steps": steps, "epoch_steps": epoch_steps, "keep_every": 1}
    folder = train(settings(data, tmp_path, run=run))
    shown = capsys.readouterr().err
    assert [line.split()[1] for line in shown.splitlines() if line.startswith("step ")] == [
        f"{end}/{steps}" for end in ends
    ]
    last = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    assert last["lr_schedulers"][0]["last_epoch"] == steps
    kept = {int(path.stem) for path in (tmp_path / "run" / KEPT).iterdir()}
    assert kept == set(range(1, steps + 1))
    made = load_potential(str(folder)).config.provenance["training"]
    assert made["released_step"] in ends
    train(settings(data, tmp_path, run=run | {"resume": True}))
    again = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    assert again["global_step"] == last["global_step"]
    with pytest.raises(InputError, match=f"stands at step {steps} .within an epoch., .* is 40"):
        train(settings(data, tmp_path, run=run | {"resume": True, "steps": 40}))


# -- run folders --------------------------------------------------------------------------------


def test_a_used_run_folder_is_not_overwritten(data: Path, trained: Path) -> None:
    run = {"out": str(trained / "run")}
    with pytest.raises(InputError, match=r"holds a training already; .* run\.resume: true"):
        train(settings(data, trained / "again", run=run))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"backbone": {"options": {"channels": 4}}}, r"has backbone\.options\.channels 8, .* 4"),
        ({"data": {"split_seed": 1}}, r"has data\.split_seed 0, the config 1"),
        ({"run": {"steps": 8}}, "stands at step 24, run.steps is 8"),
    ],
)
def test_another_run_is_not_resumed(data: Path, trained: Path, changes: dict, says: str) -> None:
    """The first key that differs is named, and the stored config stays."""
    before = (trained / "run" / "config.yaml").read_bytes()
    changes["run"] = {"out": str(trained / "run"), "resume": True} | changes.get("run", {})
    with pytest.raises(InputError, match=says):
        train(settings(data, trained / "again", **changes))
    assert (trained / "run" / "config.yaml").read_bytes() == before


def test_a_damaged_state_or_changed_data_is_not_resumed(trained: Path, tmp_path: Path) -> None:
    write_molecules(tmp_path)
    start = {"steps": 1}
    train(settings(tmp_path, tmp_path, run=start))
    resume = settings(tmp_path, tmp_path, run=start | {"resume": True})
    (tmp_path / "run" / "last.ckpt").write_bytes(b"no checkpoint")
    with pytest.raises(InputError, match=r"last\.ckpt: cannot be resumed \(UnpicklingError"):
        train(resume)
    write_molecules(tmp_path, count=30)
    with pytest.raises(InputError, match=r"\.xyz has changed since the run began"):
        train(resume)


def test_it_says_what_it_released(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", str(config(data, tmp_path))]) == 0
    said = capsys.readouterr().out.strip()
    assert said.startswith(str(tmp_path / "run"))
    assert "the weights of step " in said


def test_files_of_a_pattern_are_one_entry(data: Path, tmp_path: Path) -> None:
    """Of the record and the card; the frames of `data.more` that training saw are counted."""
    write_molecules(tmp_path, count=5)
    pattern, again = str(tmp_path / "*er.xyz"), str(tmp_path / "w*.xyz")
    one = str(tmp_path / "formaldehyde.xyz")
    more = {"more": [pattern, one, again]}
    folder = train(settings(data, tmp_path, data=more, run={"steps": 1}))
    made = json.loads((folder / "config.json").read_text())["provenance"]
    assert made["data"]["more"] == {pattern: 5, one: 5, again: 0}
    assert made["many"][pattern]["files"] == 1
    assert one in made["files"]
    assert not any(Path(path).match(pattern) for path in made["files"])
    assert f"`{pattern}` (1 files, sha256:" in (folder / CARD).read_text()


def test_what_validates_does_not_train(data: Path, tmp_path: Path) -> None:
    pattern, water = str(data / "*er.xyz"), str(data / "water.xyz")
    chosen = settings(
        data,
        tmp_path,
        data={"molecules": [str(data / "formaldehyde.xyz")], "validation_files": [water]}
        | {"more": [pattern]},
    )
    with pytest.raises(InputError, match=r"data\.more: .*water\.xyz validates"):
        train(chosen)


def test_two_atoms_at_one_place_are_named(data: Path) -> None:
    (frames,) = read_labelled(data / "water.xyz")
    frames.positions[3, 1] = frames.positions[3, 0]
    with pytest.raises(InputError, match=r"water\.xyz: .* two atoms at one place"):
        as_graphs([frames], [1, 8], [0.0, 0.0], response=True)


def test_a_full_disk_leaves_the_state_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "last.ckpt"
    renaming_io().save_checkpoint({"step": 1}, path)
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        renaming_io().save_checkpoint({"step": 2}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_without_a_compiler_training_goes_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(*_: Any, **__: Any) -> Any:
        def call(*_: Any) -> None:
            raise RuntimeError("no C++ compiler")

        return call

    monkeypatch.setattr("forcefield.compiled._compiled", missing)
    found = {}
    for name, compiled in (("plain", False), ("traced", True)):
        run = {"out": str(tmp_path / name), "compile": compiled}
        assert main(["--config", str(config(data, tmp_path, run=run))]) == 0
        said = (
            "not compiled (RuntimeError: no C++ compiler): this will be slower"
            in capsys.readouterr().err
        )
        assert said == compiled
        (weights,) = (tmp_path / name).glob("*/weights.safetensors")
        found[name] = load_file(weights)
    for name, value in found["plain"].items():
        torch.testing.assert_close(found["traced"][name], value, rtol=1e-4, atol=1e-6)


def test_ctrl_c_and_a_full_disk_are_one_line(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stopped(error: BaseException) -> str:
        def step(*_: Any) -> None:
            raise error

        monkeypatch.setattr(Training, "training_step", step)
        assert main(["--config", str(config(data, tmp_path))]) == 1
        return capsys.readouterr().err.strip().splitlines()[-1]

    handler = signal.getsignal(signal.SIGINT)  # Lightning leaves it ignored
    try:
        assert stopped(KeyboardInterrupt()) == (
            "forcefield.train: interrupted; run.resume: true goes on from the last validation"
        )
    finally:
        signal.signal(signal.SIGINT, handler)
    assert "No space left" in stopped(OSError(28, "No space left on device"))


def test_two_processes(data: Path, tmp_path: Path) -> None:
    """torchrun with two gloo processes gives what one gives with all of their frames in a batch,
    and one of them writes."""
    run = {"steps": 8, "epoch_steps": 4, "dtype": "float64"}
    path = config(data, tmp_path, run=run | {"devices": 2})
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["-m", "forcefield.train", "--config", str(path)]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert load_potential(str(tmp_path / "run" / "tiny")).elements == [1, 6, 8]
    assert len(rows(tmp_path)) == 2
    alone = tmp_path / "alone"
    alone.mkdir()
    joint = config(data, alone, run=run | {"batch_size": 8})
    assert main(["--config", str(joint)]) == 0
    two, one = (load_file(p / "run" / "tiny" / "weights.safetensors") for p in (tmp_path, alone))
    for name, weights in one.items():
        torch.testing.assert_close(two[name], weights, rtol=0, atol=1e-6)


# -- constants and loss -------------------------------------------------------------------------


def test_constants_are_measured_on_the_training_frames(data: Path, tmp_path: Path) -> None:
    chosen = settings(data, tmp_path)
    frames = load_labelled(chosen.data, "train")
    model = build_potential(chosen, frames)
    forces = np.concatenate([f.forces.ravel() for f in frames])
    assert model.scale == pytest.approx([np.sqrt(np.mean(forces**2))] * 3)
    shift = dict(zip(model.elements, model.shift, strict=True))
    for f in frames:
        left = f.energies.mean() - sum(BASES[z] for z in f.numbers)
        assert sum(shift[z] for z in f.numbers) == pytest.approx(left, abs=1e-9)
    each = settings(data, tmp_path, potential={"scale": "element"})
    hydrogens = np.concatenate([f.forces[:, f.numbers == 1].ravel() for f in frames])
    assert build_potential(each, frames).scale[0] == pytest.approx(np.sqrt(np.mean(hydrogens**2)))


def test_shifts_of_elements_that_no_composition_tells_apart_are_one_constant() -> None:
    """One molecule or isomers: the mean over atoms. Another molecule: what it tells apart."""
    water, _ = (made_up(numbers) for numbers in ([8, 1, 1], [1, 8, 1]))
    assert atomic_shifts([water], [1, 8], {1: 0.0, 8: 3.0}) == pytest.approx([-0.7] * 2)
    isomers = [water, made_up([1, 8, 1])]
    assert atomic_shifts(isomers, [1, 8], {1: 0.0, 8: 3.0}) == pytest.approx([-0.7] * 2)
    hydrogen = made_up([1, 1])
    found = atomic_shifts([*isomers, hydrogen], [1, 8], {1: 0.0, 8: 3.0})
    assert found == pytest.approx([0.45, -3.0])


def made_up(numbers: list[int]) -> LabelledFrames:
    """Two frames of 0.8 and 1.0 eV."""
    shape = (2, len(numbers), 3)
    energies = np.array([0.8, 1.0])
    return LabelledFrames(
        "m", Path("m"), np.array(numbers), np.ones(shape), energies, np.ones(shape)
    )


def test_fitted_energies_reproduce_the_molecules(data: Path, tmp_path: Path) -> None:
    chosen = settings(data, tmp_path, potential={"e0": "fit"})
    frames = load_labelled(chosen.data, "train")
    e0 = dict(zip([1, 6, 8], build_potential(chosen, frames).e0, strict=True))
    for f in frames:
        assert sum(e0[z] for z in f.numbers) == pytest.approx(f.energies.mean(), abs=1e-6)


@pytest.mark.parametrize(("per_atom", "huber"), [(True, None), (False, None), (True, 0.3)])
def test_loss(data: Path, tmp_path: Path, per_atom: bool, huber: float | None) -> None:
    """Against a loop over molecules and atoms."""
    made = module(data, tmp_path, run={"dtype": "float64"})
    made.settings.loss = LossConfig(per_atom=per_atom, huber=huber)
    batch, unit = made.batches[0], 0.7
    energies, forces = energy_and_forces(
        made.potential, batch["types"], batch["positions"], batch["atoms"]
    )

    def penalty(error: float) -> float:
        size = abs(error) / unit
        beyond = huber is not None and size > huber
        return huber * (2 * size - huber) if beyond else size**2

    expected = 0.0
    for b, count in enumerate(batch["atoms"].sum(1).tolist()):
        off = (energies[b] - batch["energies"][b]).item() / (count if per_atom else 1)
        wrong = (forces[b] - batch["forces"][b])[:count].flatten().tolist()
        expected += 2.0 * penalty(off) + 3.0 * sum(penalty(x) for x in wrong) / len(wrong)
    weights = torch.tensor([2.0, 3.0, 0.0])
    found = make_loss(made.settings, unit)(made.potential, *batch.values(), weights)[0]
    assert found.item() == pytest.approx(expected / len(energies), rel=1e-9)


def test_loss_of_the_response(data: Path, tmp_path: Path) -> None:
    """The quadratic form of the errors, in units of that of the forces themselves."""
    made = module(data, tmp_path, run={"dtype": "float64"}, loss={"response": {0: 1.0}})
    batch, unit = made.batches[0], made._response_unit
    rows, n_atoms = batch["types"].shape
    assert batch["response"].shape == (rows, n_atoms, 3 * n_atoms, 3)
    graphs = as_graphs(made.frames, made.potential.elements, made.potential.e0, response=True)
    of_forces = [np.einsum("nc,nrc->r", g.forces, g.response) for g in graphs]
    assert unit == pytest.approx(np.mean([np.square(v).sum() for v in of_forces]), rel=1e-5)
    _, forces = energy_and_forces(
        made.potential, batch["types"], batch["positions"], batch["atoms"]
    )
    wrong = (forces - batch["forces"]) * batch["atoms"][..., None]
    expected = torch.einsum("bnc,bnrc->br", wrong, batch["response"]).square().sum(1).mean() / unit
    weights = torch.tensor([0.0, 0.0, 5.0], dtype=torch.float64)
    found = make_loss(made.settings, 0.7, unit)(made.potential, *batch.values(), weights)[0]
    assert found.item() == pytest.approx(5.0 * expected.item(), rel=1e-9)


def test_the_response_is_validated(data: Path, tmp_path: Path) -> None:
    """What the monitor sees is the loss of training."""
    chosen = settings(
        data,
        tmp_path,
        loss={"response": {0: 3.0}, "energy": {0: 0.0}, "forces": {0: 0.0}},
        run={"steps": 2, "epoch_steps": 2, "monitor": "val_loss"},
    )
    train(chosen)
    last = rows(tmp_path)[-1]
    assert float(last["val_response"]) > 0
    assert float(last["val_loss"]) == pytest.approx(3 * float(last["val_response"]), rel=1e-4)


def test_weights_follow_their_schedule() -> None:
    weights = {0: 1.0, 100: 50.0}
    assert [scheduled(weights, step) for step in (0, 99, 100, 500)] == [1.0, 1.0, 50.0, 50.0]
    with pytest.raises(InputError, match=r"loss\.energy must say the weight from step 0 on"):
        LossConfig(energy={5: 1.0})


def test_optimisers_and_their_groups() -> None:
    layer = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Embedding(3, 4))
    (adam,) = optimisers(
        layer, OptimiserConfig(matrix_learning_rate=None, weight_decay=0.1, amsgrad=True)
    )
    assert [group["weight_decay"] for group in adam.param_groups] == [0.1, 0.0]
    assert [len(group["params"]) for group in adam.param_groups] == [2, 1]
    assert all(group["amsgrad"] for group in adam.param_groups)
    muon, rest = optimisers(layer, OptimiserConfig())
    assert [tuple(w.shape) for w in muon.param_groups[0]["params"]] == [(4, 4)]
    assert sum(len(group["params"]) for group in rest.param_groups) == 2


# -- the command line ---------------------------------------------------------------------------


def test_print_config(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = config(data, tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["--config", str(path), "--print-config", "--run.steps", "7"])
    assert stopped.value.code == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["run"]["steps"] == 7
    assert shown["backbone"] == {
        "name": "segno",
        "options": {"channels": 8, "vectors": 4, "steps": 2},
    }
    assert shown["optimiser"]["clip_norm"] == 1.0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"backbone": {"name": "schnet"}}, "no backbone schnet; there are mace"),
        ({"backbone": {"options": {"chanels": 8}}}, "unknown option chanels, the nearest is chan"),
        ({"diffusion": {"kind": "half"}}, "'half' is none of"),
        ({"run": {"step": 8}}, "unknown key run.step, the nearest is run.steps"),
        ({"run": {"steps": "many"}}, "run.steps"),
        ({"run": {"init": "nowhere"}}, "no checkpoint nowhere"),
        ({"data": {"source": "md18"}}, "no data.source md18"),
        ({"data": {"forces_key": "push"}}, "has no push; it has energy, forces"),
        ({"potential": {"e0": "nowhere.xyz"}}, "nowhere.xyz: no such file"),
        ({"loss": {"energy": {5: 1.0}}}, "weight from step 0"),
        ({"loss": {"huber": -1.0}}, "loss.huber must be > 0, got -1"),
        ({"data": {"train": -5}}, "data.train must be >= 1, got -5"),
        ({"optimiser": {"learning_rate": -1.0}}, "optimiser.learning_rate must be > 0, got -1"),
        ({"run": {"steps": 0}}, "run.steps must be >= 1, got 0"),
        ({"run": {"epoch_steps": 0}}, "run.epoch_steps must be >= 1, got 0"),
        ({"run": {"batch_size": 0}}, "run.batch_size must be >= 1, got 0"),
        ({"run": {"accelerator": "foo"}}, "run.accelerator foo, run.devices 1: "),
        ({"run": {"out": "/dev/null/x"}}, "run.out: [Errno 20] Not a directory"),
        ({"run": {"name": "../precious"}}, "run.name: '../precious' is no plain name of a folder"),
        ({"run": {"name": ""}}, "run.name: '' is no plain name of a folder"),
        ({"run": {"name": "logs"}}, "run.name: logs is what the run folder keeps"),
    ],
)
def test_bad_input(
    data: Path, changes: dict, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, exit code 2, nothing written."""
    assert main(["--config", str(config(data, tmp_path, **changes))]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("forcefield.train: ")
    assert says in lines[-1]
    assert not (tmp_path / "run").exists()


def test_an_energy_of_an_isolated_atom_is_missing(data: Path, tmp_path: Path) -> None:
    text = (data / "atoms.xyz").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "few.xyz").write_text("".join(text[:6]), encoding="utf-8")
    chosen = settings(data, tmp_path, potential={"e0": str(tmp_path / "few.xyz")})
    with pytest.raises(InputError, match="no E0 for O; it has H, C"):
        build_potential(chosen, load_labelled(chosen.data, "train"))


def test_energies_of_isolated_atoms_have_the_key_of_the_data(data: Path, tmp_path: Path) -> None:
    text = (data / "atoms.xyz").read_text(encoding="utf-8").replace("energy=", "E_dft=")
    (tmp_path / "named.xyz").write_text(text, encoding="utf-8")
    found = isolated_energies(str(tmp_path / "named.xyz"), [], list(BASES), "E_dft")
    assert dict(zip(BASES, found, strict=True)) == BASES
    (tmp_path / "named.xyz").write_text(text.replace("=-1000.0", "=nan"), encoding="utf-8")
    with pytest.raises(InputError, match=r"named\.xyz: frame 1: E_dft of the atom C is nan"):
        isolated_energies(str(tmp_path / "named.xyz"), [], list(BASES), "E_dft")


@pytest.mark.parametrize("path", sorted(Path("configs/forcefield").glob("*.yaml")), ids=str)
def test_shipped_configs_are_valid(path: Path) -> None:
    """Every option of its backbone is there, and it is named after its file."""
    from forcefield.potential import Potential

    found = parse_config(parser(), ["--config", str(path)])
    Potential([1, 6], found.backbone.name, found.backbone.options)
    assert found.run.name == path.stem
