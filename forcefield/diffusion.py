"""GGND: geometric fields of a molecule, diffused over all pairs of atoms by a graph heat equation.

Node fields z_i^(l) [2l+1, K] evolve by ∂Z/∂t = div[S(Z) ⊙ ∇Z], t in [0, T], over all pairs:

    start      z_i^(l)(0) = δ_l0 e(Z_i) + Σ_{j≠i} ρ_l(r_ij) e_l(Z_j) Y_l(r̂_ij), ρ_l ~ exp(-r/λ)
    gradient   (∇z)_ij^(l) = W_l (z_j - z_i)^(l)
    diffusivity (the paper's Eq. 3)
               S_ij^(l3) = Σ_{l1,l2} R_{l1 l2 l3}(r_ij) [Y_l1(r̂_ij) ⊗ φ_ij^(l2)]^(l3), l1+l2+l3 even
    weights    α_ij = softmax_j( c tanh(⟨q_i, S_ij⟩/c√d) - β(r_ij) ), over j including i, per head
    flux       dz_i/dt = Σ_{j≠i} α_ij (∇z)_ij + Σ_{j≠i} α_ij [S_ij ⊗ (∇z)_ij]

The paper writes an element-wise product of two tensors, which is not equivariant, and a
right-stochastic tensor, which does not exist. Here what is right-stochastic is the scalar part α,
whose first term is (α - 1) Z for W = 1, and the tensor part is an equivariant product. Three
properties follow from the form of α: logits are bounded and β(r) >= β0 r, so that α vanishes for
far atoms; atom i has a logit of its own, c tanh of an MLP of z_i^(0), so that it keeps its weight
when all others are far; hence molecules far apart do not know of each other.

φ_ij = W_1 z̄_i + W_2 z̄_j and q_i = W_q z̄_i are linear in the bounded field z̄ = z/sqrt(1 + |z|²/d).
Were they linear in z itself, the flux would be quadratic and the equation could reach infinity in
finite time. With z̄ it grows at most as fast as z, solutions exist for every T, and the field of
any geometry is bounded.

There is no cutoff: every radial function is smooth on r > 0. The steps in time are fixed and
unrolled, so that energies and forces trace and differentiate; `rate` can be given to an adaptive
solver, which is how the defaults were chosen (benchmarks/diffusion_solver.py; the tables stand in
docs/design.md). With four evaluations over T = 1, what is wrong of z(T) - z(0) is, for weights as
built and for a diffusivity twice as strong: 3 and 14 % in two midpoint steps, 7 and 9 % in four
Euler steps, 1 and 46 % in one step of RK4. More steps only bring the model closer to the equation:
energies are exact functions of the unrolled steps, and forces exact slopes, in any case.

Ablations: `scalar` has no tensor term; `local` multiplies the exponentials of the softmax and the
sum of the start by an envelope that ends at a cutoff; `message_passing` puts convolutions over all
pairs with the same decay, one per step, in the place of the equation.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared.errors import InputError
from shared.layers.components import (
    Components,
    add_components,
    at_receiver,
    at_sender,
    combine,
    dot,
    stack,
)
from shared.layers.fields import (
    FieldLinear,
    Harmonics,
    allowed_paths,
    clebsch_gordan,
    couple,
    one_hot,
)
from shared.layers.heads import Heads
from shared.layers.normalisation import bounded
from shared.layers.pairs import Pairs
from shared.layers.radial import ExponentialBasis, polynomial_envelope

__all__ = [
    "DIFFUSIONS",
    "SOLVERS",
    "DiffusionConfig",
    "Diffusivity",
    "GraphDiffusion",
    "feature_shift",
    "integrate",
]

DIFFUSIONS = ("none", "scalar", "local", "message_passing", "full")

# Explicit Runge-Kutta methods: of each stage, the stages before it (coefficients), then the sum.
_TABLEAUX: dict[str, tuple[tuple[tuple[float, ...], ...], tuple[float, ...]]] = {
    "euler": (((),), (1.0,)),
    "midpoint": (((), (1 / 2,)), (0.0, 1.0)),
    "rk4": (((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
}
SOLVERS = tuple(_TABLEAUX)

# Bounds that keep molecules 100 Å apart independent to rounding: exp(-25) and exp(-40).
_LONGEST_DECAY = 4.0
_SMALLEST_DISTANCE_DECAY = 0.4

Field = list[Tensor]


@dataclass(frozen=True)
class DiffusionConfig:
    """What the diffusion is.

    Args:
        kind: one of `none`, `scalar`, `local`, `message_passing`, `full`.
        channels: K, width of the fields, a multiple of `heads`.
        heads: number of attention weights per pair.
        lmax: highest degree of the fields.
        edge_lmax: highest degree l1 of the harmonics in the diffusivity.
        n_basis: width of the radial bases.
        time: T.
        steps: number of steps in time; for `message_passing` the number of layers.
        solver: `euler`, `midpoint` or `rk4`: 1, 2 or 4 evaluations of the flux per step.
        decay_length: λ of the start in Å, at most 4.
        distance_decay: β0 in 1/Å, at least 0.4.
        logit_bound: c, bound of the logits.
        cutoff: of `local`, in Å.

    Raises:
        InputError: a value is out of its range.
    """

    kind: str = "full"
    channels: int = 16
    heads: int = 4
    lmax: int = 1
    edge_lmax: int = 2
    n_basis: int = 8
    time: float = 1.0
    steps: int = 2
    solver: str = "midpoint"
    decay_length: float = 2.0
    distance_decay: float = 0.4
    logit_bound: float = 5.0
    cutoff: float = 5.0

    def __post_init__(self) -> None:
        for name, known in (("kind", DIFFUSIONS), ("solver", SOLVERS)):
            if (value := getattr(self, name)) not in known:
                raise InputError(f"diffusion.{name}: {value!r} is none of {', '.join(known)}")
        for name in ("channels", "heads", "n_basis", "steps", "logit_bound", "cutoff"):
            if not (value := getattr(self, name)) > 0:
                raise InputError(f"diffusion.{name}: must be positive, got {value}")
        for name in ("lmax", "edge_lmax", "time"):
            if not (value := getattr(self, name)) >= 0:
                raise InputError(f"diffusion.{name}: must not be negative, got {value}")
        if self.n_basis < 2:
            raise InputError(f"diffusion.n_basis: at least 2 functions, got {self.n_basis}")
        if self.channels % self.heads:
            raise InputError(
                f"diffusion.channels: {self.channels} is no multiple of heads ({self.heads})"
            )
        if not 0 < self.decay_length <= _LONGEST_DECAY:
            raise InputError(
                f"diffusion.decay_length: between 0 and {_LONGEST_DECAY} Å, so that far molecules "
                f"stay independent, got {self.decay_length}"
            )
        if not self.distance_decay >= _SMALLEST_DISTANCE_DECAY:
            raise InputError(
                f"diffusion.distance_decay: at least {_SMALLEST_DISTANCE_DECAY} per Å, so that far "
                f"molecules stay independent, got {self.distance_decay}"
            )


def integrate(
    rate: Callable[[Field, float], Field], field: Field, time: float, steps: int, solver: str
) -> Field:
    """z(T) of dz/dt = rate(z, t) by `steps` equal steps of an explicit Runge-Kutta method."""
    rows, last = _TABLEAUX[solver]
    h = time / steps
    for step in range(steps):
        slopes: list[Field] = []
        for row in rows:
            t = h * (step + sum(row))
            slopes.append(rate(_advance(field, row, slopes, h), t))
        field = _advance(field, last, slopes, h)
    return field


def _advance(field: Field, coefficients: Sequence[float], slopes: list[Field], h: float) -> Field:
    for coefficient, slope in zip(coefficients, slopes, strict=True):
        if coefficient:
            field = [x + h * coefficient * dx for x, dx in zip(field, slope, strict=True)]
    return field


@dataclass(frozen=True)
class Edges:
    """What the pairs of a molecule give that does not change with t.

    Attributes:
        harmonics: components of Y_l(r̂_ij), [B, N, N, 1] each.
        basis: radial basis of r_ij [B, N, N, n_basis].
        reach: 1 for pairs of two atoms (or the envelope of `local`), else 0, [B, N, N, 1].
        distances: r_ij, Å, [B, N, N, 1].
    """

    harmonics: Components
    basis: Tensor
    reach: Tensor
    distances: Tensor


@dataclass(frozen=True)
class Diffusivity:
    """S of every pair at one moment.

    Attributes:
        weights: α [B, N, N, heads], row i sums to 1; the diagonal is the weight of the atom itself.
            Of `message_passing`, which has no such weights, exp(-β(r)) of its first layer.
        tensors: S_ij^(l) [B, N, N, 2l + 1, K] for l = 0..lmax; none of `scalar`, whose flux has no
            tensor term.
    """

    weights: Tensor
    tensors: list[Tensor]

    def operator(self) -> Tensor:
        """[B, n]: all weights, and all α_ij S_ij, of a molecule."""
        heads = self.weights.shape[-1]
        blocks = [self.weights]
        for tensor in self.tensors:
            scaled = self.weights[..., None, :, None] * tensor.unflatten(-1, (heads, -1))
            blocks.append(scaled.flatten(3))
        return torch.cat([block.flatten(1) for block in blocks], dim=1)


class EdgeTransform(nn.Module):
    """S_ij^(l3) = Σ R_{l1 l2 l3}(r_ij) [Y_l1(r̂_ij) ⊗ φ_ij^(l2)]^(l3), R linear in a basis."""

    def __init__(self, channels: int, lmax: int, edge_lmax: int, n_basis: int) -> None:
        super().__init__()
        degrees = range(lmax + 1)
        self.lmax, self.channels = lmax, channels
        self.paths = allowed_paths(range(edge_lmax + 1), degrees, degrees)
        self.terms = [clebsch_gordan(*path) for path in self.paths]
        self.radial = nn.Linear(n_basis, channels * len(self.paths), bias=False)
        into = [sum(l3 == degree for _, _, l3 in self.paths) for degree in degrees]
        with torch.no_grad():
            scales = [1 / math.sqrt(into[l3]) for _, _, l3 in self.paths]
            nn.init.normal_(self.radial.weight, std=1 / math.sqrt(n_basis))
            self.radial.weight.mul_(torch.tensor(scales).repeat_interleave(channels)[:, None])

    def radials(self, edges: Edges) -> tuple[Tensor, ...]:
        """R of each path, [B, N, N, K]."""
        return self.radial(edges.basis).split(self.channels, -1)

    def forward(self, edges: Edges, radials: Sequence[Tensor], features: Components) -> Components:
        """φ by its components [B, N, N, K] -> S by its components."""
        out: Components = [[] for _ in range(self.lmax + 1)]
        for (l1, l2, l3), terms, radial in zip(self.paths, self.terms, radials, strict=True):
            product = couple(edges.harmonics[l1], features[l2], terms)
            out[l3] = add_components(out[l3], [radial * x for x in product])
        return out


class Attraction(nn.Module):
    """exp(-β(r)) with β_h(r) = (β0 + softplus(b_h)) r, zero where there is no pair.

    Heads start with ranges of their own.
    """

    def __init__(self, heads: Heads, distance_decay: float) -> None:
        super().__init__()
        self.heads, self.distance_decay = heads, distance_decay
        self.extra = nn.Parameter(torch.linspace(-4.0, -1.0, heads.heads))

    def forward(self, edges: Edges) -> Tensor:
        """[B, N, N, K], equal within a head."""
        decay = self.heads.spread(self.distance_decay + functional.softplus(self.extra))
        return edges.reach * torch.exp(-decay * edges.distances)


class HeatEquation(nn.Module):
    """The flux; `tensor_term` switches its second sum."""

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        channels, degrees = config.channels, range(config.lmax + 1)
        widths = [channels] * len(degrees)
        self.tensor_term = config.kind != "scalar"
        self.logit_bound = config.logit_bound
        self.heads = Heads(channels, config.heads)
        self.attraction = Attraction(self.heads, config.distance_decay)
        self.transform = EdgeTransform(channels, config.lmax, config.edge_lmax, config.n_basis)
        self.gradient = FieldLinear(widths, widths)
        self.query = FieldLinear(widths, widths)
        self.receiver = FieldLinear(widths, widths)
        self.sender = FieldLinear(widths, widths)
        self.self_logit = nn.Sequential(
            nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, config.heads)
        )
        # ⟨q, S⟩ runs over all components of the channels of a head.
        self.norm = 1 / math.sqrt((config.lmax + 1) ** 2 * channels // config.heads)
        # The start is heat flow: W = 1, and a tensor term that is a small part of the flux.
        with torch.no_grad():
            for weight in self.gradient.weights:
                weight.copy_(torch.eye(channels))
        if self.tensor_term:
            self.paths = allowed_paths(degrees, degrees, degrees)
            self.terms = [clebsch_gordan(*path) for path in self.paths]
            self.path_weights = nn.Parameter(0.3 * torch.randn(len(self.paths), channels))

    def prepare(self, edges: Edges) -> tuple[Tensor, tuple[Tensor, ...]]:
        """exp(-β) and R of all pairs, which do not change with t."""
        return self.attraction(edges), self.transform.radials(edges)

    def diffusivity(
        self, field: Field, edges: Edges, decays: Tensor, radials: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, Components]:
        """exp(logits - β) of the pairs [B, N, N, K], of the atom itself [B, N, K], and S."""
        small = bounded(field)
        query, receiver = at_receiver(self.query(small)), at_receiver(self.receiver(small))
        sender = at_sender(self.sender(small))
        tensors = self.transform(edges, radials, combine(torch.add, receiver, sender))
        overlap = dot(list(chain(*query)), list(chain(*tensors)))
        logits = self.heads.spread(self.heads.sum(overlap))
        own = self.heads.spread(self._bound(self.self_logit(small[0].squeeze(-2))))
        return torch.exp(self._bound(self.norm * logits)) * decays, torch.exp(own), tensors

    def forward(
        self, field: Field, edges: Edges, decays: Tensor, radials: Sequence[Tensor]
    ) -> Field:
        """dz/dt."""
        weights, own, tensors = self.diffusivity(field, edges, decays, radials)
        mixed = self.gradient(field)
        gradient = combine(torch.sub, at_sender(mixed), at_receiver(mixed))
        flux = [list(components) for components in gradient]
        if self.tensor_term:
            for (l1, l2, l3), terms, scale in zip(
                self.paths, self.terms, self.path_weights, strict=True
            ):
                product = couple(tensors[l1], gradient[l2], terms)
                flux[l3] = add_components(flux[l3], [scale * x for x in product])
        # The sum of each row of the softmax divides after the sum over j.
        inverse = 1 / (own + weights.sum(2))
        return [
            torch.stack([inverse * (weights * component).sum(2) for component in components], -2)
            for components in flux
        ]

    def _bound(self, logits: Tensor) -> Tensor:
        return self.logit_bound * torch.tanh(logits / self.logit_bound)


class Convolution(nn.Module):
    """A layer of `message_passing`: z_i + gate(Σ_{j≠i} exp(-β(r)) Σ R(r) [Y(r̂) ⊗ W z_j]).

    A convolution of NequIP (Batzner et al., Nat. Commun. 2022, Eq. 7) over all pairs.
    """

    # About the sum of exp(-β(r)) over the neighbours of an atom in a molecule.
    _NEIGHBOURS = 6.0

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        widths = [config.channels] * (config.lmax + 1)
        self.heads = Heads(config.channels, config.heads)
        self.attraction = Attraction(self.heads, config.distance_decay)
        self.transform = EdgeTransform(
            config.channels, config.lmax, config.edge_lmax, config.n_basis
        )
        self.sender = FieldLinear(widths, widths)
        self.update = FieldLinear(widths, widths, bias=True)
        self.gates = nn.Linear(config.channels, config.channels * config.lmax)

    def tensors(self, field: Field, edges: Edges) -> Components:
        """The messages before their decay, which are to this layer what S is to the diffusion."""
        sender = at_sender(self.sender(field))
        return self.transform(edges, self.transform.radials(edges), sender)

    def forward(self, field: Field, edges: Edges) -> Field:
        """z -> z."""
        decays = self.attraction(edges) / self._NEIGHBOURS
        gathered = [
            torch.stack([(decays * component).sum(2) for component in components], -2)
            for components in self.tensors(field, edges)
        ]
        scalars, *others = self.update(gathered)
        gates = torch.sigmoid(self.gates(scalars)).chunk(max(len(others), 1), -1)
        changes = [functional.silu(scalars)]
        changes += [gate * x for gate, x in zip(gates, others, strict=False)]
        return [x + change for x, change in zip(field, changes, strict=True)]


class GraphDiffusion(nn.Module):
    """Types and pairs of molecules in, diffused fields z(T) out.

    Args:
        n_types: number of elements.
        config: kind other than `none`.

    Attributes:
        channels: K, width of the scalars z^(0)(T).
        lmax: highest degree of the fields.

    Raises:
        ValueError: kind `none`, for which there is nothing to build.
    """

    def __init__(self, n_types: int, config: DiffusionConfig) -> None:
        super().__init__()
        if config.kind == "none":
            raise ValueError("diffusion of kind 'none' is no module")
        self.config, self.n_types = config, n_types
        self.channels, self.lmax = config.channels, config.lmax
        self.harmonics = Harmonics(max(config.lmax, config.edge_lmax))
        self.basis = ExponentialBasis(config.decay_length, config.n_basis)
        self.start_basis = ExponentialBasis(config.decay_length, config.n_basis, decaying=True)
        degrees = config.lmax + 1
        self.own = nn.Parameter(torch.randn(n_types, config.channels))
        self.neighbours = nn.Parameter(torch.randn(n_types, degrees * config.channels))
        self.start_radial = nn.Linear(config.n_basis, degrees * config.channels, bias=False)
        nn.init.normal_(self.start_radial.weight, std=1 / math.sqrt(config.n_basis))
        if config.kind == "message_passing":
            self.layers = nn.ModuleList(Convolution(config) for _ in range(config.steps))
        else:
            self.equation = HeatEquation(config)

    def edges(self, pairs: Pairs) -> Edges:
        """The part of the pairs that the equation needs."""
        reach = pairs.valid.to(pairs.distances.dtype)
        if self.config.kind == "local":
            reach = reach * polynomial_envelope(pairs.distances / self.config.cutoff)
        harmonics = [list(y[..., None, :].unbind(-1)) for y in self.harmonics(pairs.directions)]
        return Edges(
            harmonics, self.basis(pairs.distances), reach[..., None], pairs.distances[..., None]
        )

    def initial(self, types: Tensor, pairs: Pairs) -> Field:
        """z(0) [B, N, 2l + 1, K] for l = 0..lmax."""
        edges = self.edges(pairs)
        basis = self.start_basis(pairs.distances) * edges.reach
        radials = self.start_radial(basis).chunk(self.lmax + 1, -1)
        elements = one_hot(types, self.n_types, pairs.distances)
        senders = (elements @ self.neighbours)[:, None].chunk(self.lmax + 1, -1)
        field = []
        for radial, sender, harmonics in zip(radials, senders, edges.harmonics, strict=False):
            message = radial * sender
            field.append(torch.stack([(message * y).sum(2) for y in harmonics], -2))
        field[0] = field[0] + (elements @ self.own)[..., None, :]
        return field

    def rate(self, pairs: Pairs) -> Callable[[Field, float | Tensor], Field]:
        """flux(z, t) of molecules at rest; t does not enter but through z.

        Raises:
            ValueError: kind `message_passing`, which has no flux.
        """
        if self.config.kind == "message_passing":
            raise ValueError("message_passing solves no equation: it has no flux")
        edges = self.edges(pairs)
        decays, radials = self.equation.prepare(edges)

        def flux(field: Field, t: float | Tensor) -> Field:
            return self.equation(field, edges, decays, radials)

        return flux

    def flux(self, field: Field, t: float | Tensor, pairs: Pairs) -> Field:
        """dz/dt of the fields z at the time t; for many evaluations take `rate`."""
        return self.rate(pairs)(field, t)

    def forward(self, types: Tensor, pairs: Pairs, initial: Field | None = None) -> Field:
        """z(T) [B, N, 2l + 1, K] for l = 0..lmax.

        Args:
            types: index of each atom's element [B, N].
            pairs: of the same molecules.
            initial: z(0) in the place of that of the molecules.
        """
        field = self.initial(types, pairs) if initial is None else initial
        if self.config.kind == "message_passing":
            edges = self.edges(pairs)
            for layer in self.layers:
                field = layer(field, edges)
            return field
        return integrate(
            self.rate(pairs), field, self.config.time, self.config.steps, self.config.solver
        )

    def diffusivity(self, field: Field, pairs: Pairs) -> Diffusivity:
        """S of the fields z on these pairs."""
        edges = self.edges(pairs)
        if self.config.kind == "message_passing":
            layer = self.layers[0]
            assert isinstance(layer, Convolution)
            heads, tensors = layer.heads, layer.tensors(field, edges)
            weights = heads.collect(layer.attraction(edges))
        else:
            heads = self.equation.heads
            prepared = self.equation.prepare(edges)
            others, own, tensors = self.equation.diffusivity(field, edges, *prepared)
            both = others + torch.diag_embed(own.movedim(-1, 1)).movedim(1, -1)
            weights = heads.collect(both / both.sum(2, keepdim=True))
        if self.config.kind == "scalar":
            return Diffusivity(weights, [])
        return Diffusivity(weights, stack(tensors))


def feature_shift(
    diffusion: GraphDiffusion, types: Tensor, before: Pairs, after: Pairs, same_start: bool = True
) -> tuple[Tensor, Tensor]:
    """‖Z(T; A') - Z(T; A)‖ and ‖A' - A‖ (Frobenius) of each molecule, for geometries A and A'.

    A is the operator of the flux at t = 0: weights α and tensors α S. Norms of tensors see
    rotations: superpose the geometries first.

    Args:
        diffusion: any kind.
        types: [B, N].
        before: pairs of the geometry A.
        after: pairs of the geometry A', of the same atoms.
        same_start: both from z(0) of A, so that only the diffusivity differs; else each from its
            own.

    Returns:
        Two tensors [B]; padding does not enter.
    """
    starts = [diffusion.initial(types, before)]
    starts.append(starts[0] if same_start else diffusion.initial(types, after))
    features, operators = [], []
    for pairs, start in zip((before, after), starts, strict=True):
        field = torch.cat(diffusion(types, pairs, start), -2)
        features.append((field * pairs.atoms[..., None, None]).flatten(1))
        operators.append(diffusion.diffusivity(start, pairs).operator())
    return (features[1] - features[0]).norm(dim=1), (operators[1] - operators[0]).norm(dim=1)
