"""python benchmarks/diffusion_solver.py: how the time integration of the diffusion was chosen.

Fields z(T) by fixed steps against `torchdiffeq`'s dopri5 (float64, rtol 1e-9), for several T,
solvers and numbers of steps, on the molecules of examples/ or a given file. The cost of a solution
is its number of evaluations of the flux; what one costs is printed below the table.

The diffusion is that of a checkpoint, or one with random weights: `--strength 1` as it is built;
more scales the weights of the diffusivity, and perturbs W of the gradient from 1, as training
might.
"""

from _environment import ROOT  # isort: split

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from forcefield.diffusion import SOLVERS, DiffusionConfig, GraphDiffusion, integrate
from shared.errors import InputError
from shared.io import read_frames
from shared.layers.pairs import Pairs, all_pairs

TIMES = (0.5, 1.0, 2.0)
STEPS = (1, 2, 4, 8)
STAGES = {"euler": 1, "midpoint": 2, "rk4": 4}
EXAMPLES = ("ethanol", "aspirin", "naphthalene")

Field = list[Tensor]
Rate = Callable[[Field, float], Field]


def random_diffusion(lmax: int, strength: float, n_types: int, seed: int) -> GraphDiffusion:
    """Weights as built, those of the equation scaled by `strength`."""
    torch.manual_seed(seed)
    diffusion = GraphDiffusion(n_types, DiffusionConfig(lmax=lmax))
    equation = diffusion.equation
    with torch.no_grad():
        equation.transform.radial.weight.mul_(strength)
        equation.path_weights.mul_(strength)
        for weight in equation.gradient.weights:
            weight.add_(0.1 * (strength - 1.0) * torch.randn_like(weight))
    return diffusion.double()


def molecule(path: str, elements: Sequence[int] | None) -> tuple[Tensor, Pairs]:
    """The first frame of a file: types, as indices of the elements (default: its own), and pairs.

    Raises:
        InputError: the file cannot be read, or has an element that is not known.
    """
    frames = read_frames(path)
    numbers = [int(z) for z in frames.numbers]
    known = sorted(set(numbers)) if elements is None else list(elements)
    if unknown := sorted(set(numbers) - set(known)):
        raise InputError(f"{path}: the checkpoint does not know elements {unknown}")
    positions = torch.as_tensor(frames.positions[:1], dtype=torch.float64)
    atoms = torch.ones(positions.shape[:2], dtype=torch.bool)
    return torch.tensor([[known.index(z) for z in numbers]]), all_pairs(positions, atoms)


def exact(rate: Rate, start: Field, end: float) -> Tensor:
    """z(T) by dopri5, all degrees in one tensor."""
    from torchdiffeq import odeint

    times = torch.tensor([0.0, end], dtype=torch.float64)
    solution = odeint(
        lambda t, z: tuple(rate(list(z), t)),
        tuple(start),
        times,
        method="dopri5",
        rtol=1e-9,
        atol=1e-11,
    )
    return torch.cat([x[-1] for x in solution], -2)


def errors(
    diffusion: GraphDiffusion, types: Tensor, pairs: Pairs
) -> dict[tuple[float, str, int], float]:
    """‖z - z_exact‖/‖z_exact - z(0)‖ by T, solver and steps."""
    rate, start = diffusion.rate(pairs), diffusion.initial(types, pairs)
    before = torch.cat(start, -2)
    table = {}
    for end in TIMES:
        solution = exact(rate, start, end)
        change = (solution - before).norm()
        for solver in SOLVERS:
            for steps in STEPS:
                stepped = torch.cat(integrate(rate, start, end, steps, solver), -2)
                table[end, solver, steps] = ((stepped - solution).norm() / change).item()
    return table


def seconds_per_evaluation(diffusion: GraphDiffusion, types: Tensor, pairs: Pairs) -> float:
    """Median processor time of one eager evaluation of the flux."""
    rate, start = diffusion.rate(pairs), diffusion.initial(types, pairs)
    taken = []
    for _ in range(10):
        before = time.process_time()
        rate(start, 0.0)
        taken.append(time.process_time() - before)
    return statistics.median(taken)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--from", dest="files", nargs="+", help="molecules (default: examples/)")
    parser.add_argument("--checkpoint", help="name or folder of a potential with a diffusion")
    parser.add_argument("--lmax", type=int, default=1, help="of random weights (default: 1)")
    parser.add_argument("--strength", type=float, default=1.0, help="of random weights")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    files = options.files or [str(ROOT / "examples" / f"{name}.xyz") for name in EXAMPLES]
    try:
        _report(options, files)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


@torch.no_grad()
def _report(options: argparse.Namespace, files: Sequence[str]) -> None:
    trained, elements = None, None
    if options.checkpoint:
        from forcefield.load import load_potential

        loaded = load_potential(options.checkpoint, dtype=torch.float64)
        trained, elements = loaded.potential.diffusion, loaded.elements
        if trained is None or trained.config.kind == "message_passing":
            raise InputError(f"{options.checkpoint}: its potential solves no equation")
    tables, costs = [], []
    for path in files:
        types, pairs = molecule(path, elements)
        n_types = int(types.max()) + 1
        diffusion = trained or random_diffusion(
            options.lmax, options.strength, n_types, options.seed
        )
        tables.append(errors(diffusion, types, pairs))
        costs.append(seconds_per_evaluation(diffusion, types, pairs))

    print("largest relative error of z(T) - z(0) over", len(files), "molecules")
    print("| solver | steps | evaluations |" + "".join(f" T = {end} |" for end in TIMES))
    print("|---" * (3 + len(TIMES)) + "|")
    for solver in SOLVERS:
        for steps in STEPS:
            row = [max(table[end, solver, steps] for table in tables) for end in TIMES]
            print(f"| {solver} | {steps} | {steps * STAGES[solver]} |", end="")
            print("".join(f" {error:.1e} |" for error in row))
    milliseconds = ", ".join(f"{1e3 * cost:.1f}" for cost in costs)
    print(f"one evaluation (eager, float64, one thread), ms of each molecule: {milliseconds}")


if __name__ == "__main__":
    sys.exit(main())
