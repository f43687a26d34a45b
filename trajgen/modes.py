"""Normal modes of a molecule that keeps its shape, and a friction for each of them.

In such a molecule energy may stay in a mode for longer than a trajectory lasts, so that a small
leak of the network into one mode or out of another is not shared out as it is among the atoms of a
floppy one. The modes are those of the mean structure in the frame that follows its rotation
(Eckart, Phys. Rev. 47, 552, 1935): eigenvectors of the K that fits ü = −K q best over the training
frames, q = √m (x − x̄). Both x̄ and K are averaged over the symmetry operations of the bond graph, so
that it does not matter which of equivalent atoms is which.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from shared.errors import InputError
from shared.topology import orderings

Float = npt.NDArray[np.float64]

_ROUNDS = 4  # of aligning frames to their own mean
_DEGENERATE = 1e-6  # relative difference of frequencies that count as one
_FLAT = 1e-4  # Σ m z² over Σ m x² of a mean structure that counts as flat


class ModeFriction(nn.Module):
    """c_k ← c_k exp(−γ_k Δ) for the velocities c = Bᵀ √m v along the modes, in the turned frame.

    Args:
        atoms: N.
        modes: K.
    """

    reference: Tensor
    vectors: Tensor
    rates: Tensor
    levels: Tensor
    numbers: Tensor

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
        """Which atom of a frame is in the place of which of the reference: [N]; the frame's bonds
        must be the reference's."""
        reference = self.numbers.cpu().numpy(), self.reference.cpu().double().numpy()
        return torch.tensor(orderings(reference, numbers, positions)[0])

    def coordinates(self, order: Tensor, masses: Tensor, x: Tensor, v: Tensor) -> Tensor:
        """c [R, K], amu^1/2 Å/fs, of states [R, N, 3] whose atoms `order` puts in place."""
        momenta = (masses.sqrt()[:, None] * v)[:, order] @ self._turn(order, masses, x)
        return torch.einsum("rna,nak->rk", momenta, self.vectors.to(v))

    def slow(self, order: Tensor, masses: Tensor, x: Tensor, v: Tensor, lag: float) -> Tensor:
        """Velocities [R, N, 3] after a time `lag` of friction."""
        vectors, root = self.vectors.to(v), masses.sqrt()[:, None]
        turned, c = self._turn(order, masses, x), self.coordinates(order, masses, x, v)
        change = c * torch.expm1(-self.rates.to(v) * lag)
        back = torch.einsum("rk,nak->rna", change, vectors) @ turned.mT
        return v + (back / root[order])[:, order.argsort()]

    def _turn(self, order: Tensor, masses: Tensor, x: Tensor) -> Tensor:
        """Rotations [R, 3, 3] that turn row vectors of each state onto the reference."""
        weights = masses[order, None]
        ordered = x[:, order]
        centred = ordered - (weights * ordered).sum(1, keepdim=True) / weights.sum()
        overlap = torch.einsum("rna,nb->rab", weights * centred, self.reference.to(x))
        u, _, vh = torch.linalg.svd(overlap)
        sign = torch.linalg.det(u @ vh)
        last = torch.stack([torch.ones_like(sign), torch.ones_like(sign), sign], -1)
        return (u * last[:, None]) @ vh


def normal_modes(
    numbers: npt.NDArray[np.int64], masses: Float, positions: Float, accelerations: Float
) -> tuple[Float, Float, Float]:
    """Mean structure, modes and their frequencies.

    Args:
        numbers, masses: [N], amu.
        positions, accelerations: of the frames, [T, N, 3], Å, Å/fs².

    Returns:
        x̄ [N, 3] about its centre of mass, Å; B [N, 3, 3N − 6], orthonormal; angular frequencies
        [3N − 6], 1/fs, increasing (0 where the fit has a negative square).

    Raises:
        InputError: the mean structure has other bonds than the first frame.
    """
    root = np.sqrt(masses)[:, None]
    first = positions[0]
    mean = _centred(first, masses)
    for _ in range(_ROUNDS):
        mean = (_centred(positions, masses) @ _rotations(positions, mean, masses)).mean(0)
    operations = [
        (order, turn)
        for order in orderings((numbers, first), numbers, first)
        for turn in _operations(mean[order], mean, masses)
    ]
    mean = np.mean([mean[order] @ turn for order, turn in operations], 0)
    if not orderings((numbers, mean), numbers, first):
        raise InputError(
            "the molecule does not keep its shape: its mean structure has other bonds; "
            "set calibration.by: classes"
        )
    turns = _rotations(positions, mean, masses)
    q = (root * (_centred(positions, masses) @ turns - mean)).reshape(len(positions), -1)
    a = (root * (accelerations @ turns)).reshape(len(positions), -1)
    inside = _internal(mean, root)
    q, a = q @ inside, a @ inside
    fit = np.linalg.lstsq(q, -a, rcond=None)[0]
    full = inside @ (fit + fit.T) @ inside.T / 2
    n = len(numbers)
    blocks = full.reshape(n, 3, n, 3)
    symmetric = np.mean(
        [
            np.einsum("iajb,ac,bd->icjd", blocks[order][:, :, order], turn, turn)
            for order, turn in operations
        ],
        0,
    ).reshape(3 * n, 3 * n)
    squares, inner = np.linalg.eigh(inside.T @ symmetric @ inside)
    return mean, (inside @ inner).reshape(n, 3, -1), np.sqrt(np.maximum(squares, 0))


def _internal(mean: Float, root: Float) -> Float:
    """Orthonormal basis [3N, 3N − 6] of what neither moves nor turns the structure."""
    n = len(mean)
    moves = np.zeros((6, n, 3))
    for axis, unit in enumerate(np.eye(3)):
        moves[axis] = root * unit
        moves[3 + axis] = root * np.cross(unit, mean)
    basis, sizes, _ = np.linalg.svd(moves.reshape(6, -1).T, full_matrices=True)
    return basis[:, int((sizes > 1e-6 * sizes[0]).sum()) :]


def _centred(positions: Float, masses: Float) -> Float:
    share = (masses / masses.sum())[:, None]
    return positions - (share * positions).sum(-2, keepdims=True)


def _rotations(positions: Float, mean: Float, masses: Float) -> Float:
    """Rotations [T, 3, 3] that turn each frame onto the mean (Kabsch, Acta Cryst. A 32, 922)."""
    centred = _centred(positions, masses)
    overlap = np.einsum("n,tna,nb->tab", masses, centred, mean)
    u, _, vh = np.linalg.svd(overlap)
    u[..., -1] *= np.linalg.det(u @ vh)[:, None]
    return u @ vh


def _operations(equivalent: Float, mean: Float, masses: Float) -> list[Float]:
    """The rotation or reflection [3, 3] that turns equivalent atoms onto one another; both, if both
    do (a flat molecule)."""
    u, sizes, vh = np.linalg.svd((masses[:, None] * equivalent).T @ mean)
    other = (u * [1, 1, -1]) @ vh
    return [u @ vh, other] if sizes[2] < _FLAT * sizes[0] else [u @ vh]
