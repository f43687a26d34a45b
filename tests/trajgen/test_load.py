"""Which generator: molecules are recognised in any order of atoms, specialists are preferred."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import molecule

from shared import checkpoint as checkpoints
from shared.checkpoint import CONFIG
from shared.errors import InputError
from shared.io import read_start
from shared.start import with_velocities
from shared.topology import atom_classes
from tests.trajgen.conftest import MOLECULES, save_tiny
from trajgen import load
from trajgen.load import (
    acceleration_interval,
    choose,
    choose_shipped,
    load_model,
    open_checkpoint,
    recognise,
)


def ship(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    """Let these be the checkpoints that the package ships."""
    for module in (checkpoints, load):
        monkeypatch.setattr(module, "shipped", lambda head: {f.name: f for f in folders})


@pytest.mark.parametrize("name", MOLECULES)
def test_any_order_of_atoms(tiny: Path, name: str) -> None:
    config, atoms = open_checkpoint(str(tiny)).config, MOLECULES[name]
    classes, found = recognise(config, atoms.numbers, atoms.positions)
    order = np.random.default_rng(0).permutation(len(atoms))
    permuted, found_again = recognise(config, atoms.numbers[order], atoms.positions[order])
    assert found == found_again == name
    assert permuted == [classes[i] for i in order]


def test_a_stretched_bond(tiny: Path) -> None:
    """Beyond 1.2 times the covalent radii, as one frame in hundreds has it at 500 K."""
    atoms = MOLECULES["water"].copy()
    atoms.set_distance(0, 1, 1.25 * (0.66 + 0.31), fix=0)
    config = open_checkpoint(str(tiny)).config
    assert recognise(config, atoms.numbers, atoms.positions)[1] == "water"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("NH3", "does not know the element N; it knows H, C, O; train .* trajgen.train"),
        ("CH3OH", "does not know this molecule; it knows water, ethanol; train .* trajgen.train"),
        ("CH3OCH3", "does not know this molecule"),  # an isomer of ethanol
    ],
)
def test_unknown(tiny: Path, name: str, says: str) -> None:
    atoms = molecule(name)
    with pytest.raises(InputError, match=says):
        recognise(open_checkpoint(str(tiny)).config, atoms.numbers, atoms.positions)


def test_what_ships_for_a_molecule_is_named() -> None:
    atoms = molecule("CH3CH2OH")
    with pytest.raises(InputError, match=r"knows C12H12N2O; md17s, which ships, does \(leave"):
        recognise(open_checkpoint("3bpa").config, atoms.numbers, atoms.positions)


def test_kinds_of_atoms_instead_of_molecules(tmp_path: Path) -> None:
    """Methanol has the methyl group of the ether and the hydroxyl of ethanol."""
    seen = [molecule(name) for name in ("CH3CH2OH", "CH3OCH3")]
    kinds = {c for a in seen for c in atom_classes(a.numbers, a.positions, rounds=1)}
    config = open_checkpoint(str(save_tiny(tmp_path / "one"))).config
    config.defaults["class_rounds"] = 1
    config.model["types"] = sorted(kinds)
    methanol, water = molecule("CH3OH"), molecule("H2O")
    classes, name = recognise(config, methanol.numbers, methanol.positions)
    assert name == "CH4O"
    assert classes == atom_classes(methanol.numbers, methanol.positions, rounds=1)
    with pytest.raises(InputError, match="has not seen the kinds of atoms in this molecule"):
        recognise(config, water.numbers, water.positions)


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"defaults": {"class_rounds": 9}}, "defaults.class_rounds must be an integer from 0 to 4"),
        ({"defaults": {"class_rounds": 1}, "model": {"types": None}}, "model.types must be a list"),
        ({"defaults": {"class_rounds": 1}, "model": {"types": []}}, "model.types must be a list"),
    ],
)
def test_kinds_of_atoms_that_make_no_sense(
    tmp_path: Path, entries: dict[str, dict[str, object]], says: str
) -> None:
    folder = save_tiny(tmp_path / "one")
    stored = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    for name, changes in entries.items():
        stored[name] |= changes
    (folder / CONFIG).write_text(json.dumps(stored), encoding="utf-8")
    with pytest.raises(InputError, match=says):
        open_checkpoint(str(folder))


def test_specialist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shared = save_tiny(tmp_path / "many")
    special = save_tiny(tmp_path / "many-ethanol")
    ship(monkeypatch, shared, special)

    def chosen(name: str, of: str) -> tuple[Path, str]:
        atoms = MOLECULES[of]
        found, known_as = choose(open_checkpoint(name), atoms.numbers, atoms.positions)
        return found.folder, known_as

    assert chosen("many", "ethanol") == (special, "ethanol")
    assert chosen("many", "water") == (shared, "water")
    assert chosen("many-ethanol", "ethanol") == (special, "ethanol")
    ship(monkeypatch, special)  # a folder that is given by path has no specialists
    assert chosen(str(shared), "ethanol") == (shared, "ethanol")


@pytest.mark.parametrize(
    ("example", "name"), [("ethanol", "md17s"), ("3bpa", "3bpa-300K"), ("uracil", "md17s")]
)
def test_the_shipped_one_that_knows_the_molecule(example: str, name: str) -> None:
    start = read_start(f"examples/{example}.xyz")
    config = choose_shipped(start.numbers, start.positions[0]).config
    assert config.name == name
    drawn, _ = with_velocities(replace(start, velocities=None), config, None, seed=0)
    assert np.isfinite(drawn.velocities).all()


def test_no_shipped_one_knows_the_molecule() -> None:
    atoms = MOLECULES["water"]
    with pytest.raises(InputError) as caught:
        choose_shipped(atoms.numbers, atoms.positions)
    said = str(caught.value)
    assert "no shipped generator was trained on this molecule; known molecules: C12H12N2O" in said
    assert ", aspirin, ethanol, " in said


def test_model_and_weights(tiny: Path) -> None:
    model, config = load_model(str(tiny))
    assert not model.training
    assert config.name == "tiny"
    weights = open_checkpoint(str(tiny)).tensors()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, weights[name], rtol=0, atol=0)


def test_acceleration_interval(tiny: Path) -> None:
    config = open_checkpoint(str(tiny)).config
    assert acceleration_interval(config, 1.0) == 0.5
    config.defaults["acceleration_interval_fs"] = None
    assert acceleration_interval(config, 1.0) == 1.0
    assert acceleration_interval(config) == 0.5


DEFAULTS = {"lag_fs": 5.0, "sampler": "heun", "steps": 1}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"defaults": {"lag_fs": 5.0, "steps": 1}}, "defaults.sampler is missing"),
        ({"defaults": DEFAULTS | {"lag_fs": "x"}}, "lag_fs must be a positive number, got 'x'"),
        ({"defaults": DEFAULTS | {"lag_fs": None}}, "defaults.lag_fs must be .*, got None"),
        ({"defaults": DEFAULTS | {"lag_fs": float("nan")}}, "defaults.lag_fs must be .*, got nan"),
        ({"defaults": DEFAULTS | {"steps": 0}}, "defaults.steps must be a positive integer, got 0"),
        ({"defaults": DEFAULTS | {"sampler": 1}}, "defaults.sampler must be text, got 1"),
        ({"defaults": DEFAULTS | {"lag_range_fs": 3}}, "lag_range_fs must be two positive numbers"),
        ({"defaults": DEFAULTS | {"acceleration_interval_fs": "x"}}, "number or null, got 'x'"),
        ({"molecules": {"water": {"key": []}}}, r"molecules.water.key must be text, got \[\]"),
        ({"molecules": {"water": {}}}, "molecules.water.key is missing"),
        (
            {"normalisation": {"velocity": "x"}},
            "normalisation.velocity must be of positive numbers",
        ),
        ({"model": {"types": 3, "network": {}, "noise": {}}}, "does not describe a model"),
        ({"model": {}}, "does not describe a model"),
        ({"kind": "flow"}, "'flow'"),
        ({"head": "forcefield"}, "checkpoint of forcefield"),
    ],
)
def test_broken_entries(tmp_path: Path, changes: dict, says: str) -> None:
    folder = save_tiny(tmp_path / "broken", **changes)
    with pytest.raises(InputError, match=says):
        load_model(str(folder))


def test_shipped_specialists_run_as_the_shared_model_does() -> None:
    known = checkpoints.shipped("trajgen")
    if "md17s" not in known:
        pytest.skip("the shipped checkpoint md17s is not here")
    shared = open_checkpoint("md17s").config
    for name in shared.molecules:
        if f"md17s-{name}" in known:
            config = open_checkpoint(f"md17s-{name}").config
            assert config.defaults == shared.defaults
            assert list(config.molecules) == [name]
