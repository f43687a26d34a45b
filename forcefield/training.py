"""The Lightning module of the force field: loss, compiled steps, validation, release."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from ase.data import chemical_symbols
from torch import Tensor
from torch.utils.data import DataLoader

from forcefield.compiled import compile_training_step, evaluator
from forcefield.labelled import FrameBatches, as_graphs, dense_batch, split_of, type_indices
from forcefield.load import load_potential
from forcefield.potential import Potential, energy_and_forces
from forcefield.priors import PRIORS
from shared.card import model_card, training_record
from shared.checkpoint import CheckpointConfig, save
from shared.config import files_of
from shared.data.extxyz import LabelledFrames, read_isolated_atoms
from shared.errors import InputError, some
from shared.layers.tensor import building_in
from shared.topology import atom_classes, molecule_key
from shared.training import epoch_loader, optimisers, schedulers, steps_after

__all__ = ["Training", "build_potential", "isolated_energies", "release"]

_DTYPES = {"float32": torch.float32, "float64": torch.float64}
_MEV = 1000.0  # meV per eV
# Of the data sets that have one.
_TEMPERATURES_K = {"3bpa": 300.0} | dict.fromkeys(("md17", "rmd17", "md17s", "isomers"), 500.0)


# -- the model ----------------------------------------------------------------------------------


def isolated_energies(
    source: str,
    frames: Sequence[LabelledFrames],
    elements: Sequence[int],
    energy_key: str = "energy",
) -> list[float]:
    """E0 of each element, eV.

    Args:
        source: fit (least squares over the total energies; of least norm where the compositions
            leave them undetermined), isolated (the file of the data set 3bpa), or a file.
        frames: to train on.
        elements: atomic numbers.
        energy_key: name of the energies in a file.

    Raises:
        InputError: a file that is missing or bad, or has no energy for an element.
    """
    if source == "fit":
        return _least_squares(frames, elements, [float(f.energies.mean()) for f in frames])
    if source == "isolated":
        from shared.data.three_bpa import find_3bpa

        source, energy_key = str(find_3bpa("iso_atoms")), "energy"
    known = read_isolated_atoms(source, energy_key)
    if missing := [chemical_symbols[z] for z in elements if z not in known]:
        raise InputError(
            f"{source}: no E0 for {', '.join(missing)}; it has "
            f"{', '.join(chemical_symbols[z] for z in known)}; add it, or set potential.e0: fit"
        )
    return [known[z] for z in elements]


def _least_squares(
    frames: Sequence[LabelledFrames], elements: Sequence[int], energies: Sequence[float]
) -> list[float]:
    """Energy of each element whose sums over molecules come nearest to `energies`, eV.

    Molecules count by their frames. Where the compositions leave the solution undetermined, as
    those of isomers do, it is the one of least norm.
    """
    counts = np.array([[(f.numbers == z).sum() for z in elements] for f in frames], dtype=float)
    weights = np.sqrt([len(f) for f in frames])
    wanted = np.array(energies) * weights
    return np.linalg.lstsq(counts * weights[:, None], wanted, rcond=None)[0].tolist()


def atomic_shifts(
    frames: Sequence[LabelledFrames], elements: Sequence[int], e0: Mapping[int, float]
) -> list[float]:
    """μ of each element, eV: what E0 leaves of the mean energies, by least squares.

    What the compositions do not tell apart is shared by all atoms alike: elements depart as little
    as they can from the mean over all atoms, and for one molecule alone not at all.
    """
    left = [float(f.energies.mean()) - sum(e0[int(z)] for z in f.numbers) for f in frames]
    atoms = sum(len(f) * len(f.numbers) for f in frames)
    mean = sum(len(f) * rest for f, rest in zip(frames, left, strict=True)) / atoms
    beyond = [rest - mean * len(f.numbers) for f, rest in zip(frames, left, strict=True)]
    return [mean + own for own in _least_squares(frames, elements, beyond)]


def force_scales(
    frames: Sequence[LabelledFrames], elements: Sequence[int], per_element: bool
) -> list[float]:
    """σ of each element, eV: the rms force component of its atoms, or of all atoms, times 1 Å."""

    def rms(chosen: Sequence[int]) -> float:
        parts = [f.forces[:, np.isin(f.numbers, chosen)].ravel() for f in frames]
        return float(np.sqrt(np.mean(np.concatenate(parts) ** 2)))

    if per_element:
        return [rms([z]) for z in elements]
    return [rms(elements)] * len(elements)


def build_potential(settings: Any, frames: Sequence[LabelledFrames]) -> Potential:
    """A new model for the training frames, or the one that `run.init` names, ready to be trained.

    Constants are measured on the frames; an initial model keeps its scales and its elements.

    Raises:
        InputError: as `Potential` and `isolated_energies`; an initial model of another make, or
            one that does not know an element.
    """
    run, chosen = settings.run, settings.potential
    dtype = _DTYPES[run.dtype]
    present = sorted({int(z) for f in frames for z in f.numbers})
    init = None if run.init is None else load_potential(run.init, dtype)
    elements = present if init is None else init.elements
    for f in frames:
        type_indices(f.numbers, elements, str(f.path))
    model = {
        "elements": elements,
        "backbone": settings.backbone.name,
        "backbone_config": settings.backbone.options,
        "diffusion": asdict(settings.diffusion),
        "zbl": chosen.zbl,
        "hydrogen_wall": chosen.hydrogen_wall,
        "readout_channels": chosen.readout_channels,
    }
    known = [] if init is None else [z for z in elements if z not in present]
    isolated = isolated_energies(chosen.e0, frames, present, settings.data.energy_key)
    e0 = dict(zip(present, isolated, strict=True))
    shift = dict(zip(present, atomic_shifts(frames, present, e0), strict=True))
    if init is not None:
        e0 |= {z: init.e0[z] for z in known}
        shift |= {z: init.potential.shift[elements.index(z)] for z in known}
    constants: dict[str, Any] = {
        "e0": [e0[z] for z in elements],
        "scale": force_scales(frames, present, chosen.scale == "element"),
        "shift": [shift[z] for z in elements],
    }
    if init is not None:
        constants["scale"] = init.potential.scale
    torch.manual_seed(run.seed)
    with building_in(dtype):
        potential = Potential(**model, **constants)
    if init is not None:
        ours, theirs = potential.description()[0], init.potential.description()[0]
        if differ := [name for name in ours if ours[name] != theirs[name] and name not in PRIORS]:
            raise InputError(
                f"run.init: checkpoint {init.config.name} has {differ[0]} {theirs[differ[0]]}, "
                f"the config {ours[differ[0]]}"
            )
        potential.load_state_dict(init.potential.state_dict())
    return potential.train()


# -- the loss -----------------------------------------------------------------------------------


def make_loss(
    settings: Any, unit: float, response_unit: float = 1.0
) -> Callable[..., tuple[Tensor, ...]]:
    """w_E ⟨ρ(ΔE/n)⟩ + w_F ⟨⟨ρ(ΔF)⟩⟩ + w_R ⟨R(ΔF)⟩ of a batch, ΔE and ΔF in units of the rms force
    component.

    ρ is the square, or Huber's function: the square up to δ, linear beyond. n is the number of
    atoms, or 1. Forces are averaged over the components of each molecule, then over molecules. R
    is the mean square shift of the atoms by `forcefield.response`, in units of that of the forces.

    Args:
        settings: the sections of the config.
        unit: rms force component of the training data, eV/Å.
        response_unit: mean square shift by the forces of the training data, Å².

    Returns:
        (energy, types, positions, atoms, energies, forces, response, w) -> the loss, and mean
        squares of ΔE/n and ΔF, eV² and (eV/Å)²; w [3] are w_E, w_F and w_R.
    """
    loss = settings.loss

    def penalty(error: Tensor) -> Tensor:
        if loss.huber is None:
            return error.square()
        size = error.abs()
        linear = loss.huber * (2.0 * size - loss.huber)
        return torch.where(size < loss.huber, error.square(), linear)

    def batch_loss(
        energy: Any,
        types: Tensor,
        positions: Tensor,
        atoms: Tensor,
        energies: Tensor,
        forces: Tensor,
        response: Tensor,
        weights: Tensor,
    ) -> tuple[Tensor, ...]:
        predicted, slopes = energy_and_forces(energy, types, positions, atoms, create_graph=True)
        count = atoms.sum(-1).to(positions.dtype)
        off = (predicted - energies).to(positions.dtype)
        if loss.per_atom:
            off = off / count
        wrong = torch.where(atoms[..., None], slopes - forces, 0.0)

        def mean(values: Tensor) -> Tensor:
            return (values.mean(-1).sum(-1) / count).mean()

        total = weights[0] * penalty(off / unit).mean() + weights[1] * mean(penalty(wrong / unit))
        if response.shape[2]:
            total = total + weights[2] * moved(wrong, response).mean() / response_unit
        return total, off.square().mean(), mean(wrong.square())

    return batch_loss


def moved(forces: Tensor, response: Tensor) -> Tensor:
    """Square of the shift by forces [..., N, 3] with weights [..., N, R, 3] (`as_graphs`)."""
    return torch.einsum("...nc,...nrc->...r", forces, response).square().sum(-1)


def scheduled(weights: Mapping[int, float], step: int) -> float:
    """The value from a training step on, of {step: value}."""
    return weights[max(first for first in weights if first <= step)]


# -- training -----------------------------------------------------------------------------------


class Training(L.LightningModule):
    """One optimisation step per batch, by hand: loss and gradients come out of one graph.

    What a step sees depends on the seed, the step and the process alone, so that a resumed
    training repeats the uninterrupted one.

    Args:
        potential: what is trained.
        frames: to train on.
        validation: to validate on.
        settings: the sections of the config.
    """

    def __init__(
        self,
        potential: Potential,
        frames: Sequence[LabelledFrames],
        validation: Sequence[LabelledFrames],
        settings: Any,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.potential, self.frames, self.settings = potential, list(frames), settings
        self.validation = list(validation)
        run = settings.run
        self.dtype_ = _DTYPES[run.dtype]
        self.n_atoms = max(len(f.numbers) for f in [*frames, *validation])
        elements, e0 = potential.elements, potential.e0
        response = any(settings.loss.response.values())
        graphs = as_graphs(frames, elements, e0, response=response)
        self.batches = FrameBatches(graphs, run.batch_size, self.dtype_, run.seed, run.size_groups)
        self._held_out = [as_graphs([f], elements, e0, response=response) for f in validation]
        unit = force_scales(frames, elements, per_element=False)[0]
        moves = [float(moved(g.forces.float(), g.response)) for g in graphs] if response else [1.0]
        response_unit = sum(moves) / len(moves)
        # In a tuple, so that the weights they close over are not stored twice.
        self._compiled = (
            compile_training_step(
                potential, make_loss(settings, unit, response_unit), compiled=run.compile
            ),
            evaluator(potential, compiled=run.compile),
        )
        self._unit, self._response_unit = unit, response_unit
        self._validated: list[dict[str, float]] = []
        self._started = time.monotonic()

    def configure_optimizers(self) -> Any:
        run, config = self.settings.run, self.settings.optimiser
        chosen = optimisers(self.potential, config)
        return chosen, schedulers(chosen, config, run.steps)

    def train_dataloader(self) -> Any:
        """Items are steps of the epoch. What a step sees is drawn in `training_step`: when a
        training is resumed, Lightning does not tell a sampler which epoch it is in."""
        return epoch_loader(self.settings.run, self.trainer.current_epoch)

    def val_dataloader(self) -> Any:
        """Items are indices of molecules."""
        return DataLoader(range(len(self.validation)), batch_size=None)  # type: ignore[arg-type]

    def on_fit_start(self) -> None:
        self._started = time.monotonic()

    def training_step(self, item: int, batch_idx: int) -> None:
        run, config, loss = self.settings.run, self.settings.optimiser, self.settings.loss
        step = self.current_epoch * run.epoch_steps + batch_idx
        world = self.trainer.world_size
        batch = self.batches[step * world + self.global_rank]
        weights = [scheduled(w, step) for w in (loss.energy, loss.forces, loss.response)]
        inputs = [value.to(self.device) for value in batch.values()]
        inputs.append(torch.tensor(weights, dtype=self.dtype_, device=self.device))
        values, gradients = self._compiled[0](*inputs)
        if not bool(torch.isfinite(values[0])):
            raise InputError(
                f"the loss is not finite at step {step}; lower optimiser.learning_rate or check "
                "the data"
            )
        for parameter, gradient in zip(self.potential.parameters(), gradients, strict=True):
            if world > 1:
                torch.distributed.all_reduce(gradient)
                gradient /= world
            parameter.grad = gradient
        norm = torch.nn.utils.clip_grad_norm_(self.potential.parameters(), config.clip_norm)
        for optimiser in _as_list(self.optimizers()):
            optimiser.step()
        if config.schedule == "cosine":
            for scheduler in _as_list(self.lr_schedulers()):
                scheduler.step()
        self.log("train_loss", values[0], prog_bar=True)
        self.log("train_f_rmse", _MEV * values[2].sqrt())
        self.log("train_gradient_norm", norm)

    # -- validation -----------------------------------------------------------------------------

    def validation_step(self, index: int, batch_idx: int) -> None:
        """Errors of one molecule, with the averaged weights."""
        graphs, molecule = self._held_out[index], self.validation[index]
        size = min(self.settings.run.validation_batch, len(graphs))
        off, wrong, moves = [], [], []
        for first in range(0, len(graphs), size):
            real = len(graphs[first : first + size])
            rows = [min(first + k, len(graphs) - 1) for k in range(size)]
            batch = dense_batch([graphs[k] for k in rows], self.n_atoms, self.dtype_)
            batch = {name: value.to(self.device) for name, value in batch.items()}
            energies, forces = self._compiled[1](batch["types"], batch["positions"], batch["atoms"])
            off.append((energies - batch["energies"])[:real])
            apart = (forces - batch["forces"])[:real, : len(molecule.numbers)]
            wrong.append(apart.double())
            moves.append(moved(apart, batch["response"][:real, : len(molecule.numbers)]).double())
        e, f = torch.cat(off), torch.cat(wrong)
        loss = self.settings.loss
        errors = {
            "e_mae": _MEV * float(e.abs().mean()),
            "e_rmse": _MEV * float(e.square().mean().sqrt()),
            "f_mae": _MEV * float(f.abs().mean()),
            "f_rmse": _MEV * float(f.square().mean().sqrt()),
        }
        if any(loss.response.values()):
            errors["response"] = float(torch.cat(moves).mean()) / self._response_unit
        step = steps_after(self.settings.run, self.current_epoch) - 1
        per = len(molecule.numbers) if loss.per_atom else 1
        errors["loss"] = (
            scheduled(loss.energy, step) * (errors["e_rmse"] / _MEV / per / self._unit) ** 2
            + scheduled(loss.forces, step) * (errors["f_rmse"] / _MEV / self._unit) ** 2
            + scheduled(loss.response, step) * errors.get("response", 0.0)
        )
        self._validated.append(errors)
        for name, value in errors.items():
            self.log(f"val_{name}", value, batch_size=1, prog_bar=name == "f_rmse")
        if len(self.validation) > 1:
            self.log(f"val_f_mae_{molecule.name}", errors["f_mae"], batch_size=1)

    def on_validation_epoch_end(self) -> None:
        run = self.settings.run
        mean = {
            name: sum(errors[name] for errors in self._validated) / len(self._validated)
            for name in self._validated[0]
        }
        self._validated.clear()
        minutes = (time.monotonic() - self._started) / 60
        if self.trainer.is_global_zero:
            step = steps_after(run, self.current_epoch)
            print(
                f"step {step}/{run.steps}  {minutes:.1f} min  validation: "
                f"F RMSE {mean['f_rmse']:.2f} MAE {mean['f_mae']:.2f} meV/Å, "
                f"E RMSE {mean['e_rmse']:.2f} MAE {mean['e_mae']:.2f} meV"
                + (f", response {mean['response']:.2e}" if "response" in mean else ""),
                file=sys.stderr,
                flush=True,
            )
        if self.settings.optimiser.schedule == "plateau":
            for scheduler in _as_list(self.lr_schedulers()):
                scheduler.step(mean[run.monitor.removeprefix("val_")])


def _as_list(value: Any) -> list[Any]:
    """What Lightning gives bare where there is only one."""
    return value if isinstance(value, list) else [value]


def molecules_of(source: str, frames: Sequence[LabelledFrames]) -> dict[str, Any]:
    """What a checkpoint is to recognise the molecules of its training data by.

    The key is that of most of some twenty frames: in a hot one a bond may be stretched too far.
    """
    found: dict[str, dict[str, Any]] = {}
    for f in frames:
        keys = [molecule_key(atom_classes(f.numbers, x)) for x in f.positions[:: len(f) // 20 + 1]]
        name = source if source == "3bpa" else f.name  # its file is named after a temperature
        key = Counter(keys).most_common(1)[0][0]
        if found.get(name, {"key": key})["key"] != key:
            name = next(f"{name}-{k}" for k in count(2) if f"{name}-{k}" not in found)
        found[name] = {"key": key, "atoms": len(f.numbers)}
    return found


def release(
    module: Training,
    settings: Any,
    frames: Sequence[LabelledFrames],
    more: Sequence[LabelledFrames],
    out: Path,
) -> Path:
    """Write the averaged weights of the best epoch as a checkpoint that can be shipped.

    Args:
        module: the training.
        settings: the sections of the config.
        frames, more: what it trained on, of the data set and of `data.more`.
        out: the run folder.
    """
    from shared.provenance import provenance

    state = torch.load(out / "best.ckpt", map_location="cpu", weights_only=True)
    weights = {
        name.removeprefix("potential."): value.contiguous()
        for name, value in state["state_dict"].items()
        if name.startswith("potential.")
    }
    model, normalisation = module.potential.description()
    data = settings.data
    files_of_entry: dict[str, set[Path]] = {}
    for entry in data.more:
        found = {f.path for f in more}.intersection(files_of([entry], "data.more"))
        files_of_entry[entry] = found.difference(*files_of_entry.values())
    patterns = {
        entry: paths for entry, paths in files_of_entry.items() if paths and paths != {Path(entry)}
    }
    read = {frames.path for frames in [*module.frames, *module.validation]}
    single = read.difference(*patterns.values())
    counts = {f.name: {"train": len(f), "atoms": len(f.numbers)} for f in frames}
    for f in module.validation:
        counts.setdefault(f.name, {"train": 0, "atoms": len(f.numbers)})["validation"] = len(f)
    trained_on = {"source": data.source, "molecules": counts, "dtype": settings.run.dtype}
    if more:
        trained_on["more"] = {
            entry: sum(len(f) for f in more if f.path in paths)
            for entry, paths in files_of_entry.items()
        }
    if repeated := {name: k for name, k in Counter(f.name for f in frames).items() if k > 1}:
        trained_on["repeated"] = repeated
    split, split_words = split_of(data)
    config = CheckpointConfig(
        head="forcefield",
        name=settings.run.name,
        kind="potential",
        model=model,
        elements=model["elements"],
        molecules=molecules_of(data.source, frames),
        normalisation=normalisation,
        temperature_K=_TEMPERATURES_K.get(data.source),
        temperature_convention="3N" if "md17" in data.source else "3N-6",
        provenance={
            "data": trained_on,
            "training": training_record(settings, state, split),
            **provenance(sorted(single), patterns),
        },
    )
    folder = out / settings.run.name
    card = _card(config, sum(value.numel() for value in weights.values()), split_words)
    return save(folder, weights, config, card, overwrite=True)


def _card(config: CheckpointConfig, parameters: int, split: str) -> str:
    """The model card of a potential."""
    backbone, diffusion = config.model["backbone"], config.model["diffusion"]["kind"]
    data = config.provenance["data"]
    reached = ""
    if found := config.provenance["training"]["validation"]:
        reached = (
            f"F RMSE {found['f_rmse']:.3g}, MAE {found['f_mae']:.3g} meV/Å, "
            f"E RMSE {found['e_rmse']:.3g}, MAE {found['e_mae']:.3g} meV"
            + (", means over molecules" if len(data["molecules"]) > 1 else "")
        )
    shape = "the backbone alone" if diffusion == "none" else f"with the diffusion {diffusion}"
    counts = {
        name: f"{count['train']} + {count.get('validation', 0)}"
        for name, count in data["molecules"].items()
    }
    frames = "; ".join(f"{name} {count}" for name, count in counts.items())
    if len(counts) > len(set(counts.values())) + 12:  # isomers, one like another
        shares = Counter(counts.values()).items()
        frames = "; ".join(f"{many} molecules {count} each" for count, many in shares)
    if "repeated" in data:
        split += f" To train on, {some(data['repeated'])} count more than once."
    if "more" in data:
        files = "; ".join(f"`{path}` {count}" for path, count in data["more"].items())
        split += f" Beside these, labelled frames of files: {files}."
    return model_card(
        config,
        summary=f"Energies and conservative forces: {backbone}, {shape}, {parameters} parameters.",
        use=[
            f"python -m forcefield.simulate --from FILE --checkpoint {config.name}",
            f"python benchmarks/forcefield.py --checkpoint {config.name}",
        ],
        data=f"`{data['source']}`, frames to train on + to validate on: {frames}. {split}",
        validation=reached,
        limits=[f"Molecules like those of the data: {some(config.molecules)}."],
    )
