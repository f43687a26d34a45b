"""How far errors of forces move atoms: the response of a model Hessian.

An error of the forces leads dynamics astray along soft modes and hardly along stiff ones, but a
mean over forces is ruled by the stiff ones. After a time t, an error δF along a mode of frequency ω
and mass m has shifted it by δF t²/(2m) while ω t < 1. Later it is the error of the frequency that
counts, which lets the phase run away: δF = δω/ω of the mode's own force, a shift of δF t/(2mω).
Both at once, for all modes, are

    δx = t/2 · G δF,   G = M^(−1/2) (M^(−1/2) H M^(−1/2) + 1/t²)^(−1/2) M^(−1/2),

H the Hessian and M the masses. H need not be exact. Here it is Lindh's model of it (Lindh,
Bernhardsson, Karlström & Malmqvist, Chem. Phys. Lett. 241, 423 (1995)): springs on bonds, angles
and torsions, whose constants fall with the lengths of the bonds in them. Between bonded atoms
alone, and with two things besides: planes are stiff, and so are angles of 180°, about which there
are no torsions. Torsions about double bonds are too soft in it (ethylene's: 600 for 1020/cm).
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from shared.bonds import covalent_lengths
from shared.units import AMU_A2_PER_FS2_IN_EV, BOHR_IN_ANGSTROM, HARTREE_IN_EV

__all__ = ["TIME_FS", "model_hessian", "response_weights"]

Float = npt.NDArray[np.float64]
Bonds = list[tuple[int, int]]

TIME_FS = 100.0
"""t of the module docstring."""

# Lindh's: of bonds, angles and torsions, hartree/bohr² and hartree; falloff, 1/bohr², and reference
# lengths, bohr, by rows of the periodic table (H-He, Li-Ne, below).
STRETCH, BEND, TORSION = 0.45, 0.15, 0.005
FALLOFF = np.array([[1.0, 0.3949, 0.3949], [0.3949, 0.28, 0.28], [0.3949, 0.28, 0.28]])
LENGTHS = np.array([[1.35, 2.10, 2.53], [2.10, 2.87, 3.40], [2.53, 3.40, 3.40]])
# Not his: of atoms that leave the plane of three others, so that formaldehyde's has 1100/cm; and
# what is left of the stiffness of an angle of 180°, so that those of CO2 and HCN have 600 to 800.
PLANE = 0.04  # hartree
SP = 0.15
BONDED = 1.35  # sums of covalent radii: no bond is longer, also at 900 K; a hydrogen bond is
STRAIGHT = 0.25  # square of the sine, of 30 and 150°: what is straighter has no torsions
_CHUNK = 64  # frames at a time


def response_weights(numbers: npt.ArrayLike, positions: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """t/2 · G for every frame: Σ_k F_k · g_kr is the shift r of the 3N that forces F make.

    Args:
        numbers: atomic numbers [N].
        positions: frames [T, N, 3], Å, of one molecule or of several with the same atoms.

    Returns:
        g [T, N, 3N, 3], Å per eV/Å, not finite where two atoms are at one place; 36 N² bytes a
        frame.
    """
    from ase.data import atomic_masses

    x = np.asarray(positions, dtype=np.float64)
    numbers = np.asarray(numbers)
    n_atoms = len(numbers)
    root = np.sqrt(np.repeat(atomic_masses[numbers], 3) * AMU_A2_PER_FS2_IN_EV)  # √eV fs/Å
    weights = np.empty((len(x), n_atoms, 3 * n_atoms, 3), dtype=np.float32)
    for first in range(0, len(x), _CHUNK):
        part = x[first : first + _CHUNK]
        hessian = model_hessian(numbers, part) / np.outer(root, root)
        apart = np.isfinite(hessian).all((1, 2))
        squares, modes = np.linalg.eigh(hessian[apart])  # 1/fs²
        slow = (np.maximum(squares, 0.0) + 1 / TIME_FS**2) ** -0.5
        shifts = np.full(hessian.shape, np.nan)
        shifts[apart] = (modes * slow[:, None]) @ modes.swapaxes(1, 2) / np.outer(root, root)
        shifts = (TIME_FS / 2 * shifts).reshape(len(part), -1, n_atoms, 3)
        weights[first : first + _CHUNK] = shifts.swapaxes(1, 2)
    return weights


def model_hessian(numbers: npt.ArrayLike, positions: npt.ArrayLike) -> Float:
    """Lindh's model Hessian of bonded atoms.

    Args:
        numbers: atomic numbers [N].
        positions: frames [T, N, 3], Å, of one molecule or of several with the same atoms.

    Returns:
        [T, 3N, 3N], eV/Å², positive semidefinite; not finite where two atoms are at one place.
    """
    x = np.asarray(positions, dtype=np.float64)
    numbers = np.asarray(numbers)
    bonded = np.triu(covalent_lengths(numbers, x) < BONDED, k=1)
    hessian = np.empty((len(x), 3 * len(numbers), 3 * len(numbers)))
    kinds, kind = np.unique(bonded.reshape(len(x), -1), axis=0, return_inverse=True)
    for k in range(len(kinds)):
        frames = np.flatnonzero(kind.ravel() == k)
        bonds = [(int(i), int(j)) for i, j in np.argwhere(bonded[frames[0]])]
        hessian[frames] = _hessian(numbers, x[frames], bonds)
    return hessian


@np.errstate(invalid="ignore", divide="ignore")  # atoms at one place
def _hessian(numbers: npt.NDArray[np.int64], x: Float, bonds: Bonds) -> Float:
    """Of frames with the same bonds."""
    rows = np.searchsorted([2, 10], numbers)
    hessian = np.zeros((len(x), 3 * len(numbers), 3 * len(numbers)))

    def falloff(i: int, j: int) -> Float:
        squared = np.square((x[:, i] - x[:, j]) / BOHR_IN_ANGSTROM).sum(-1)
        of = rows[i], rows[j]
        return np.asarray(np.exp(FALLOFF[of] * (LENGTHS[of] ** 2 - squared)))

    def add(atoms: list[int], constant: float, along: Bonds, slope: Float) -> None:
        """A spring on a coordinate with this slope [T, atoms, 3]."""
        stiffness = np.full(len(x), HARTREE_IN_EV * constant)
        for i, j in along:
            stiffness = stiffness * falloff(i, j)
        slope = slope.reshape(len(x), -1) * np.sqrt(stiffness)[:, None]
        at = (3 * np.array(atoms)[:, None] + np.arange(3)).ravel()
        hessian[:, at[:, None], at] += slope[:, :, None] * slope[:, None, :]

    near = _neighbours(bonds, len(numbers))
    straight = False
    for chain in _chains(bonds, near):
        constant = (STRETCH / BOHR_IN_ANGSTROM**2, BEND, TORSION)[len(chain) - 2]
        along = list(pairwise(chain))
        slopes = (_stretch, _bend, _torsion)[len(chain) - 2](x[:, chain])
        straight |= len(slopes) > 1
        for slope in slopes:
            add(chain, constant, along, slope)
    for j, around in enumerate(near):
        if len(around) == 3:
            add([j, *around], PLANE, [(j, i) for i in around], _plane(x[:, [j, *around]]))
    return _without_rotation(x, hessian) if straight else hessian


def _neighbours(bonds: Bonds, n_atoms: int) -> list[list[int]]:
    near: list[list[int]] = [[] for _ in range(n_atoms)]
    for i, j in bonds:
        near[i].append(j)
        near[j].append(i)
    return near


def _chains(bonds: Bonds, near: list[list[int]]) -> Iterator[list[int]]:
    """Bonds, pairs of them that share an atom, and chains of three, each once."""
    for i, j in bonds:
        yield [i, j]
        for a in near[i]:
            for d in near[j]:
                if a != j and d != i and a != d:
                    yield [a, i, j, d]
    for j, around in enumerate(near):
        for n, i in enumerate(around):
            for k in around[n + 1 :]:
                yield [i, j, k]


def _stretch(x: Float) -> list[Float]:
    """Slope of a length, of frames [T, 2, 3]."""
    axis = _unit(x[:, 1] - x[:, 0])
    return [np.stack([-axis, axis], axis=1)]


def _bend(x: Float) -> list[Float]:
    """Slope of an angle, of frames [T, 3, 3]; of a straight one, two that are at right angles."""
    u, v = x[:, 0] - x[:, 1], x[:, 2] - x[:, 1]
    normal = np.cross(_unit(u), _unit(v))
    straight = _straightness(normal)
    aside = np.cross(u, np.eye(3)[np.abs(u).argmin(-1)])  # where any plane will do
    normal = _unit(np.where((normal**2).sum(-1, keepdims=True) > 1e-12, normal, aside))
    first = np.cross(u, normal) / np.square(u).sum(-1, keepdims=True)
    last = np.cross(normal, v) / np.square(v).sum(-1, keepdims=True)
    stiff = 1.0 - (1.0 - SP**0.5) * straight
    slopes = [stiff[:, None, None] * np.stack([first, -first - last, last], axis=1)]
    if straight.any():
        ends = [normal / np.linalg.norm(w, axis=-1, keepdims=True) for w in (u, v)]
        other = np.stack([ends[0], -ends[0] - ends[1], ends[1]], axis=1)
        slopes.append(SP**0.5 * straight[:, None, None] * other)
    return slopes


def _torsion(x: Float) -> list[Float]:
    """Slope of a torsion, of frames [T, 4, 3], less where one of its angles is straight.

    Blondel & Karplus, J. Comput. Chem. 17, 1132 (1996), eq. 27.
    """
    f, g, h = x[:, 0] - x[:, 1], x[:, 1] - x[:, 2], x[:, 3] - x[:, 2]
    bent = 1.0 - _straightness(np.cross(_unit(f), _unit(g)))
    bent = bent * (1.0 - _straightness(np.cross(_unit(h), _unit(g))))
    a, b = np.cross(f, g), np.cross(h, g)
    a, b = (v / np.maximum(np.square(v).sum(-1, keepdims=True), 1e-12) for v in (a, b))
    length = np.linalg.norm(g, axis=-1, keepdims=True)
    along = [(v * g).sum(-1, keepdims=True) / length for v in (f, h)]
    middle = along[0] * a - along[1] * b
    slopes = [-length * a, length * a + middle, -length * b - middle, length * b]
    return [bent[:, None, None] * np.stack(slopes, axis=1)]


def _plane(x: Float) -> Float:
    """Slope of the volume that three unit vectors from the first atom span, of frames [T, 4, 3],
    less where they are in no plane."""
    arms = x[:, 1:] - x[:, :1]
    units = _unit(arms)
    areas = np.cross(units[:, [1, 2, 0]], units[:, [2, 0, 1]])
    volume = (units[:, 0] * areas[:, 0]).sum(-1)
    slopes = areas - units * (units * areas).sum(-1, keepdims=True)
    slopes = slopes / np.linalg.norm(arms, axis=-1, keepdims=True)
    slopes = np.concatenate([-slopes.sum(1, keepdims=True), slopes], axis=1)
    return np.asarray((1.0 - volume**2)[:, None, None] ** 2 * slopes)


def _straightness(sine: Float) -> Float:
    """1 where vectors of the length of a sine [T, 3] are nothing, 0 beyond `STRAIGHT`, smooth."""
    bent = np.clip(np.square(sine).sum(-1) / STRAIGHT, 0.0, 1.0)
    return np.asarray(1.0 - bent**2 * (3.0 - 2.0 * bent))


def _without_rotation(x: Float, hessian: Float) -> Float:
    """Without the rotation of the whole, which the second slope of `_bend` is in part.

    Args:
        x: frames [T, N, 3].
        hessian: theirs [T, 3N, 3N].
    """
    turns = np.cross(np.eye(3)[:, None], (x - x.mean(1, keepdims=True))[:, None])  # [T, 3, N, 3]
    turns = turns.reshape(len(x), 3, -1)
    rest = np.eye(hessian.shape[-1]) - np.linalg.pinv(turns) @ turns
    return np.asarray(rest @ hessian @ rest)


def _unit(vectors: Float) -> Float:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))
