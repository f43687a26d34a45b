"""Normal modes of a molecule that keeps its shape, and a friction for each of them.

In such a molecule energy may stay in a mode for longer than a trajectory lasts, so that a small
leak of the network into one mode or out of another is not shared out as it is among the atoms of a
floppy one. The modes are those of the mean structure in the frame that follows its rotation
(Eckart, Phys. Rev. 47, 552, 1935): eigenvectors of the K that fits ü = −K q best over the training
frames, q = √m (x − x̄). Both x̄ and K are averaged over the operations, rotations and reflections,
that take the mean structure onto itself with equivalent atoms exchanged, so that it does not matter
which of equivalent atoms is which.
"""

from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from shared.bonds import bonded_pairs
from shared.errors import InputError
from shared.topology import orderings

__all__ = ["ModeFriction", "matching_order", "normal_modes"]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

_ROUNDS = 4  # of aligning frames to their own mean
_ORDERINGS = 5000  # a molecule with more ways to exchange equivalent atoms has parts that turn
_MISFIT = 0.1  # Å: of a bond of the mean structure, and of a symmetry operation
_DEGENERATE = 1e-6  # relative difference of frequencies that count as one
_FLAT = 1e-4  # Σ m z² over Σ m x² of a mean structure that counts as flat


class ModeFriction(nn.Module):
    """c_k ← c_k exp(−γ_k Δ) for the velocities c = Bᵀ √m v along the modes, in the turned frame.

    Args:
        atoms: N.
        modes: K.
    """

    numbers: Tensor
    reference: Tensor
    vectors: Tensor
    rates: Tensor
    levels: Tensor

    def __init__(self, atoms: int, modes: int) -> None:
        super().__init__()
        self.register_buffer("numbers", torch.zeros(atoms, dtype=torch.int64))
        self.register_buffer("reference", torch.zeros(atoms, 3))  # x̄, Å
        self.register_buffer("vectors", torch.zeros(atoms, 3, modes))  # B
        self.register_buffer("rates", torch.zeros(modes))  # γ, 1/fs
        # Modes of one frequency mix at will, so they are to share a rate.
        self.register_buffer("levels", torch.zeros(modes, dtype=torch.int64))

    @property
    def sizes(self) -> dict[str, int]:
        """The arguments that it was made with."""
        atoms, _, modes = self.vectors.shape
        return {"atoms": atoms, "modes": modes}

    @classmethod
    def of(
        cls, numbers: npt.ArrayLike, masses: Float, positions: Float, accelerations: Float
    ) -> "ModeFriction":
        """The modes of a molecule, without friction.

        Args:
            numbers, masses: [N], amu.
            positions, accelerations: of the frames, [T, N, 3], Å, Å/fs².

        Raises:
            InputError: as `normal_modes`.
        """
        mean, vectors, frequencies = normal_modes(
            np.asarray(numbers), masses, positions, accelerations
        )
        made = cls(len(mean), vectors.shape[-1])
        apart = np.diff(frequencies) > _DEGENERATE * frequencies[1:]
        made.levels.copy_(torch.from_numpy(np.concatenate([[0], np.cumsum(apart)])))
        made.numbers.copy_(torch.from_numpy(np.asarray(numbers)))
        made.reference.copy_(torch.from_numpy(mean))
        made.vectors.copy_(torch.from_numpy(vectors))
        return made

    def order(self, numbers: npt.ArrayLike, positions: npt.ArrayLike) -> Tensor:
        """Which atom of a frame is in the place of which of the reference, [N].

        Raises:
            InputError: as `matching_order`.
        """
        reference = self.numbers.cpu().numpy(), self.reference.cpu().double().numpy()
        return torch.from_numpy(matching_order(reference, numbers, positions))

    def coordinates(self, order: Tensor, masses: Tensor, x: Tensor, v: Tensor) -> Tensor:
        """c [R, K], amu^1/2 Å/fs, of states [R, N, 3] whose atoms `order` puts in place."""
        return self._along(order, masses, v, self._turn(order, masses, x))

    def slow(self, order: Tensor, masses: Tensor, x: Tensor, v: Tensor, lag: float) -> Tensor:
        """Velocities [R, N, 3] after a time `lag`, fs, of friction.

        Momentum is kept. So is angular momentum at x̄, and nearly so near it.
        """
        turn = self._turn(order, masses, x)
        change = self._along(order, masses, v, turn) * torch.expm1(-self.rates.to(v) * lag)
        back = torch.einsum("rk,nak->rna", change, self.vectors.to(v)) @ turn.mT
        return v + (back / masses.sqrt()[order, None])[:, order.argsort()]

    def _along(self, order: Tensor, masses: Tensor, v: Tensor, turn: Tensor) -> Tensor:
        momenta = (masses.sqrt()[:, None] * v)[:, order] @ turn
        return torch.einsum("rna,nak->rk", momenta, self.vectors.to(v))

    def _turn(self, order: Tensor, masses: Tensor, x: Tensor) -> Tensor:
        """Rotations and reflections [R, 3, 3] that take row vectors of each state onto the
        reference best; of a state that is not finite, any."""
        weights = masses[order, None]
        ordered = x[:, order]
        centred = ordered - (weights * ordered).sum(1, keepdim=True) / weights.sum()
        overlap = torch.einsum("rna,nb->rab", weights * centred, self.reference.to(x))
        u, _, vh = torch.linalg.svd(overlap.nan_to_num(0.0, 0.0, 0.0))
        return u @ vh


def matching_order(
    reference: tuple[npt.ArrayLike, Float], numbers: npt.ArrayLike, positions: npt.ArrayLike
) -> Int:
    """The order of a frame's atoms that superposes them best on a reference with the same bonds.

    Args:
        reference: numbers [N] and positions [N, 3], Å.
        numbers, positions: of the frame.

    Returns:
        [N]: which atom of the frame is in the place of which of the reference.

    Raises:
        InputError: the bonds are others, or there are too many orders.
    """
    wanted, x = _centred(reference[1]), _centred(np.asarray(positions, dtype=np.float64))
    best: tuple[float, list[int]] | None = None
    for order in _limited(reference, numbers, positions):
        (turn, *_) = _operations(x[order], wanted)
        misfit = float(np.square(x[order] @ turn - wanted).sum())
        if best is None or misfit < best[0]:
            best = misfit, order
    if best is None:
        raise InputError("the frame has other bonds than the structure that the modes are of")
    return np.array(best[1])


def normal_modes(
    numbers: Int, masses: Float, positions: Float, accelerations: Float
) -> tuple[Float, Float, Float]:
    """Mean structure, modes and their frequencies.

    Args:
        numbers, masses: [N], amu.
        positions, accelerations: of the frames, [T, N, 3], Å, Å/fs².

    Returns:
        x̄ [N, 3] about its centre of mass, Å; B [N, 3, 3N − 6], orthonormal; angular frequencies
        [3N − 6], 1/fs, increasing (0 where the fit has a negative square).

    Raises:
        InputError: the molecule does not keep its shape: a bond of the mean structure is off by
            more than 0.1 Å from its mean length, or equivalent atoms can be exchanged in too many
            ways.
    """
    n, root = len(numbers), np.sqrt(masses)[:, None]
    mean = _centred(positions[0], masses)
    for _ in range(_ROUNDS):
        mean = (_centred(positions, masses) @ _rotations(positions, mean, masses)).mean(0)
    _require_shape(numbers, positions, mean)
    operations = [
        (order, turn)
        for order in _limited((numbers, mean), numbers, mean)
        for turn in _operations(mean[order], mean)
        if np.abs(mean[order] @ turn - mean).max() < _MISFIT
    ]
    mean = np.mean([mean[order] @ turn for order, turn in operations], 0)
    turns = _rotations(positions, mean, masses)
    q = (root * (_centred(positions, masses) @ turns - mean)).reshape(len(positions), -1)
    a = (root * (accelerations @ turns)).reshape(len(positions), -1)
    inside = _internal(mean, root)
    q, a = q @ inside, a @ inside
    fit = np.linalg.lstsq(q, -a, rcond=None)[0]
    blocks = (inside @ (fit + fit.T) @ inside.T / 2).reshape(n, 3, n, 3)
    symmetric = np.mean(
        [
            np.einsum("iajb,ac,bd->icjd", blocks[order][:, :, order], turn, turn)
            for order, turn in operations
        ],
        0,
    ).reshape(3 * n, 3 * n)
    squares, inner = np.linalg.eigh(inside.T @ symmetric @ inside)
    return mean, (inside @ inner).reshape(n, 3, -1), np.sqrt(np.maximum(squares, 0))


def _require_shape(numbers: Int, positions: Float, mean: Float) -> None:
    """A part that turns has its mean on its axis, with bonds that are too short."""
    bonds = np.concatenate([bonded_pairs(numbers, x) for x in (positions[0], mean)])

    def lengths(x: Float) -> Float:
        return np.asarray(np.linalg.norm(x[..., bonds[:, 0], :] - x[..., bonds[:, 1], :], axis=-1))

    off = np.abs(lengths(mean) - lengths(positions).mean(0)).max()
    if off > _MISFIT:
        raise InputError(
            f"the molecule does not keep its shape: a bond of its mean structure is off by "
            f"{off:.2f} Å; set calibration.by: classes"
        )


def _limited(
    reference: tuple[npt.ArrayLike, npt.ArrayLike], numbers: npt.ArrayLike, positions: npt.ArrayLike
) -> list[list[int]]:
    found = list(islice(orderings(reference, numbers, positions), _ORDERINGS + 1))
    if len(found) > _ORDERINGS:
        raise InputError(
            f"equivalent atoms can be exchanged in more than {_ORDERINGS} ways; "
            "set calibration.by: classes"
        )
    return found


def _internal(mean: Float, root: Float) -> Float:
    """Orthonormal basis [3N, 3N − 6] of what neither moves nor turns the structure."""
    n = len(mean)
    moves = np.zeros((6, n, 3))
    for axis, unit in enumerate(np.eye(3)):
        moves[axis] = root * unit
        moves[3 + axis] = root * np.cross(unit, mean)
    basis, sizes, _ = np.linalg.svd(moves.reshape(6, -1).T, full_matrices=True)
    return basis[:, int((sizes > 1e-6 * sizes[0]).sum()) :]


def _centred(positions: Float, masses: Float | None = None) -> Float:
    """About the centre of mass, or of the atoms."""
    weights = np.ones(positions.shape[-2]) if masses is None else masses
    return positions - ((weights / weights.sum())[:, None] * positions).sum(-2, keepdims=True)


def _rotations(positions: Float, mean: Float, masses: Float) -> Float:
    """Rotations [T, 3, 3] that turn each frame onto the mean (Kabsch, Acta Cryst. A 32, 922)."""
    overlap = np.einsum("n,tna,nb->tab", masses, _centred(positions, masses), mean)
    u, _, vh = np.linalg.svd(overlap)
    u[..., -1] *= np.linalg.det(u @ vh)[:, None]
    return u @ vh


def _operations(equivalent: Float, mean: Float) -> list[Float]:
    """The rotation or reflection [3, 3] that takes equivalent atoms onto one another; both, if both
    do (a flat molecule)."""
    u, sizes, vh = np.linalg.svd(equivalent.T @ mean)
    other = (u * [1, 1, -1]) @ vh
    return [u @ vh, other] if sizes[2] < _FLAT * sizes[0] else [u @ vh]
