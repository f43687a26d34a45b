"""Which atom is which, whatever the order of the file: environment classes from the bond graph.

The class of an atom is its element refined by the classes of its bonded neighbours, repeated
(Weisfeiler and Lehman, 1968; the idea behind Morgan's canonical numbering, 1965). Atoms in
equivalent places, such as the hydrogens of a methyl group, share a class. The sorted classes of all
atoms identify the molecule among those a model was trained on. A class is a short hash, the same on
every machine.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.bonds import bonded_pairs

CLASS_ROUNDS = 4
# Factors on the covalent radii under which atoms count as bonded, in the order tried: in one of
# some hundred frames at 500 K a bond is stretched beyond the first.
_BOND_FACTORS = (1.2, 1.25, 1.3, 1.15)


def atom_classes(
    numbers: npt.ArrayLike, positions: npt.ArrayLike, rounds: int = CLASS_ROUNDS, mult: float = 1.2
) -> list[str]:
    """Environment class of each atom.

    Args:
        numbers: atomic numbers [N].
        positions: [N, 3], Å; bonds as in `shared.bonds`.
        rounds: how many bonds away an atom can be and still tell two classes apart.
        mult: factor on the covalent radii.

    Returns:
        N hashes of eight hexadecimal digits; permuting the atoms permutes them.
    """
    numbers = np.asarray(numbers, dtype=np.int64)
    neighbours: list[list[int]] = [[] for _ in numbers]
    for first, second in bonded_pairs(numbers, positions, mult):
        neighbours[first].append(int(second))
        neighbours[second].append(int(first))
    classes = [_digest(str(number)) for number in numbers]
    for _ in range(rounds):
        classes = [
            _digest(own + "".join(sorted(classes[other] for other in near)))
            for own, near in zip(classes, neighbours, strict=True)
        ]
    return classes


def molecule_key(classes: Sequence[str]) -> str:
    """One hash for a molecule: of the sorted classes of its atoms."""
    return _digest("".join(sorted(classes)))


def find_molecule(
    molecules: Mapping[str, Any], numbers: npt.ArrayLike, positions: npt.ArrayLike
) -> tuple[list[str], str] | None:
    """Classes of the atoms of a frame, and its name among the molecules of a checkpoint.

    Args:
        molecules: name -> {"key": `molecule_key`, ...}.
        numbers: atomic numbers [N].
        positions: [N, 3], Å.

    Returns:
        N classes and the name; None if it is none of them.
    """
    names = {molecule["key"]: name for name, molecule in molecules.items()}
    for factor in _BOND_FACTORS:
        found = atom_classes(numbers, positions, mult=factor)
        if (name := names.get(molecule_key(found))) is not None:
            return found, name
    return None


def bonds_of_classes(
    classes: list[str], numbers: npt.ArrayLike, positions: npt.ArrayLike
) -> npt.NDArray[np.int64]:
    """The bonds [E, 2] of a frame by which its atoms have their classes; none if they never have.

    Args:
        classes: N, as `find_molecule` found them.
        numbers: atomic numbers [N].
        positions: [N, 3], Å.
    """
    for factor in _BOND_FACTORS:
        if atom_classes(numbers, positions, mult=factor) == classes:
            return bonded_pairs(numbers, positions, factor)
    return np.zeros((0, 2), dtype=np.int64)


def known_classes(
    known: Collection[str], numbers: npt.ArrayLike, positions: npt.ArrayLike, rounds: int
) -> list[str] | None:
    """Classes of the atoms of a frame, N; None unless all of them are known.

    Args:
        known: the classes.
        numbers: atomic numbers [N].
        positions: [N, 3], Å.
        rounds: as in `atom_classes`.
    """
    for factor in _BOND_FACTORS:
        found = atom_classes(numbers, positions, rounds, factor)
        if set(found) <= set(known):
            return found
    return None


def orderings(
    reference: tuple[npt.ArrayLike, npt.ArrayLike], numbers: npt.ArrayLike, positions: npt.ArrayLike
) -> Iterator[list[int]]:
    """Every way to put the atoms of a frame in the order of another frame of the same molecule.

    Isomorphisms of the two bond graphs (networkx' VF2); with itself, a molecule's automorphisms.

    Args:
        reference: numbers [N] and positions [N, 3], Å.
        numbers, positions: of the frame.

    Yields:
        Permutations p: atom p[i] of the frame is in the place of atom i of the reference. None, if
        the bonds of the two differ. Their number grows with the factorial of equivalent atoms.
    """
    from networkx import Graph
    from networkx.algorithms.isomorphism import GraphMatcher

    def graph(numbers: npt.ArrayLike, positions: npt.ArrayLike, mult: float) -> Graph:
        made = Graph()
        for atom, kind in enumerate(atom_classes(numbers, positions, mult=mult)):
            made.add_node(atom, kind=kind)
        made.add_edges_from(bonded_pairs(numbers, positions, mult).tolist())
        return made

    wanted = graph(*reference, _BOND_FACTORS[0])
    for factor in _BOND_FACTORS:
        matcher = GraphMatcher(
            wanted, graph(numbers, positions, factor), lambda a, b: a["kind"] == b["kind"]
        )
        found = None
        for found in matcher.isomorphisms_iter():
            yield [found[i] for i in range(len(found))]
        if found is not None:
            return


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
