"""The `regression` mode: it learns a trajectory, is saved and loaded, and samples."""

from pathlib import Path
from types import SimpleNamespace

import mdtraj
import numpy as np
import pytest
import torch

from shared.checkpoint import CheckpointConfig, save
from shared.config import parse_config, resolved
from shared.errors import InputError
from shared.kinetics import maxwell_boltzmann
from shared.state import PhaseState
from shared.topology import atom_classes, molecule_key
from tests.trajgen.baselines.models import SMALL
from tests.trajgen.conftest import MOLECULES
from trajgen.baselines import NETWORKS
from trajgen.baselines.regression import RegressionConfig, RegressionModel
from trajgen.load import load_model
from trajgen.model import Normalisation
from trajgen.pairs import FramePairs, Series, dense_groups, make_series
from trajgen.rollout import Generator
from trajgen.sample import sample
from trajgen.train import DataConfig, parser

LAG = 2.0  # fs
every_network = pytest.mark.parametrize("name", NETWORKS)


@pytest.fixture(scope="module")
def vibrations() -> Series:
    """Water with harmonic springs between its atoms, velocity Verlet, 0.5 fs."""
    water = MOLECULES["water"]
    x, m = water.positions.copy(), water.get_masses()[:, None]
    separations = x[:, None] - x
    rest = np.linalg.norm(separations, axis=-1) + np.eye(3)
    stiffness = 0.5 * (1 - np.eye(3))  # amu/fs²

    def acceleration(x: np.ndarray) -> np.ndarray:
        d = x[:, None] - x
        r = np.linalg.norm(d, axis=-1) + np.eye(3)
        return -((stiffness * (r - rest) / r)[..., None] * d).sum(1) / m

    v = maxwell_boltzmann(water.numbers, 500.0, np.random.default_rng(0), 1)[0]
    frames, h, a = [], 0.5, acceleration(x)
    for _ in range(4000):
        frames.append(x)
        v = v + 0.5 * h * a
        x = x + h * v
        a = acceleration(x)
        v = v + 0.5 * h * a
    return make_series("water", water.numbers, np.array(frames), h)


def settings(name: str) -> SimpleNamespace:
    sizes = SMALL[name] | ({"lmax": 1} if "lmax" in SMALL[name] else {})
    data = DataConfig(train=(0, 3000), lag_fs=(LAG, LAG), history="acceleration")
    return SimpleNamespace(data=data, regression=RegressionConfig(name, **sizes))


@every_network
def test_it_learns(name: str, vibrations: Series) -> None:
    """Inertial flight has an error of 1 for y and 1 for w: on later frames less is left."""
    torch.manual_seed(0)
    types = sorted(set(vibrations.classes))
    model = RegressionModel.from_settings(types, [vibrations], settings(name))
    oxygen = vibrations.classes[0]
    assert model.atomic_numbers == [8 if c == oxygen else 1 for c in types]
    index = {c: k for k, c in enumerate(types)}

    def pairs(frames: tuple[int, int], count: int) -> FramePairs:
        return FramePairs([vibrations], frames, (LAG, LAG), 0.5, count, {0: 1}, index, 0)

    def loss(batch: object) -> torch.Tensor:
        (g,) = dense_groups(batch)
        c = model.condition(g["type"], g["mass"], g["pos"], g["vel"], g["lag"])
        target = model.encode(c, g["next_pos"][:, :, 0], g["next_vel"][:, :, 0], None)
        return model.loss(c, model.draw(c, "heun", 1), target, g["lag"], 0.0).mean()

    test = pairs((3000, 4000), 128)[0]
    before = loss(test).item()
    adam = torch.optim.Adam(model.parameters(), lr=1e-2)
    train = pairs((0, 3000), 32)
    for step in range(120):
        adam.zero_grad()
        loss(train[step]).backward()
        adam.step()
    assert before > 1.5
    assert loss(test).item() < 0.7


def save_model(name: str, folder: Path) -> RegressionModel:
    """A checkpoint of untrained weights whose residuals are small."""
    torch.manual_seed(0)
    found = {n: atom_classes(a.numbers, a.positions) for n, a in MOLECULES.items()}
    element = {
        c: int(z) for n, a in MOLECULES.items() for c, z in zip(found[n], a.numbers, strict=True)
    }
    types = sorted(element)
    model = RegressionModel(
        types,
        [element[c] for c in types],
        Normalisation(0.003, 0.001, 1.0, [0.5], [1e-4], [2e-4]),
        RegressionConfig(name, **SMALL[name]),
    )
    entries, normalisation = model.description()
    config = CheckpointConfig(
        head="trajgen",
        name=folder.name,
        kind=model.kind,
        model=entries,
        elements=[1, 6, 8],
        molecules={n: {"key": molecule_key(c), "atoms": len(c)} for n, c in found.items()},
        normalisation=normalisation,
        temperature_K=10.0,
        defaults={"lag_fs": 0.5, "lag_range_fs": [0.5, 0.5], "sampler": "heun", "steps": 1},
    )
    save(folder, model.state_dict(), config, "# tiny\n")
    return model.eval()


@every_network
def test_checkpoint_and_sample(name: str, tmp_path: Path, ethanol: Path) -> None:
    saved = save_model(name, tmp_path / "tiny")
    model, config = load_model(str(tmp_path / "tiny"))
    assert (model.kind, model.history) == ("regression", "acceleration")
    assert model.description() == saved.description()
    for key, value in saved.state_dict().items():
        assert torch.equal(model.state_dict()[key], value)

    out = tmp_path / "out" / "ethanol"
    out.parent.mkdir()
    run = sample(ethanol, checkpoint=str(tmp_path / "tiny"), length_ps=0.005, out=out)
    assert run.survived
    trajectory = mdtraj.load(str(out.with_suffix(".dcd")), top=str(out.with_suffix(".pdb")))
    assert trajectory.n_frames == 10
    assert np.isfinite(trajectory.xyz).all()

    atoms = MOLECULES["ethanol"]
    v = maxwell_boltzmann(atoms.numbers, 10.0, np.random.default_rng(0), 2)
    start = PhaseState(atoms.numbers, np.stack([atoms.positions] * 2), v)
    generator = Generator(model, config, reference=atoms.positions)
    states = list(generator.propagate(start, 6, 0.5, seed=0))
    (other,) = list(generator.propagate(states[4], 1, 0.5, seed=7))
    np.testing.assert_array_equal(other.positions, states[5].positions)  # nothing is random
    momentum = [(s.velocities * atoms.get_masses()[:, None]).sum(1) for s in (start, states[-1])]
    np.testing.assert_allclose(momentum[1], momentum[0], atol=1e-12)
    assert np.abs(states[-1].velocities - start.velocities).max() > 1e-5


def test_configs_are_alike_but_for_the_network() -> None:
    found = []
    for name in NETWORKS:
        path = f"configs/trajgen/baselines/{name}.yaml"
        chosen = resolved(parse_config(parser(), ["--config", path]))
        network = chosen.pop("regression")
        assert network["network"] == name
        RegressionConfig(**network).build([1, 6, 8])
        assert chosen["run"].pop("out").endswith(chosen["run"].pop("name").removeprefix("md17s-"))
        found.append(chosen)
    assert all(chosen == found[0] for chosen in found)


def test_the_thermostat_is_refused(vibrations: Series) -> None:
    chosen = settings("egnn")
    chosen.data = DataConfig(history="thermostat")
    with pytest.raises(InputError, match=r"set data\.history: acceleration"):
        RegressionModel.from_settings(vibrations.classes, [vibrations], chosen)


def test_a_checkpoint_of_an_unknown_network_is_refused(tmp_path: Path) -> None:
    save_model("egnn", tmp_path / "tiny")
    path = tmp_path / "tiny" / "config.json"
    path.write_text(path.read_text().replace('"egnn"', '"scfnn"'))
    with pytest.raises(InputError, match="no 'scfnn' here"):
        load_model(str(tmp_path / "tiny"))
