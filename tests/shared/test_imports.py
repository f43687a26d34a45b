"""Imports point one way: the heads import `shared`, `shared` no head, and no head the other."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEADS = {"forcefield", "trajgen"}
# Entry points that exist to reach both heads: they may, but only inside functions.
ENTRY_POINTS = {"trajgen/cli.py", "trajgen/bootstrap.py", "shared/evaluate.py"}
MODULES = sorted(
    path.relative_to(ROOT).as_posix()
    for package in ("shared", *HEADS)
    for path in (ROOT / package).rglob("*.py")
)


def imported(nodes: Iterator[ast.AST]) -> set[str]:
    """Top-level packages that import statements among the nodes name."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            names.add((node.module or "").split(".")[0])
    return names


def outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes that run when a module is imported."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield child
            yield from outside_functions(child)


def foreign_heads(source: str, module: str) -> set[str]:
    """Heads that a module imports and must not."""
    tree = ast.parse(source)
    nodes = outside_functions(tree) if module in ENTRY_POINTS else ast.walk(tree)
    return imported(nodes) & HEADS - {module.split("/")[0]}


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module: str) -> None:
    assert not foreign_heads((ROOT / module).read_text(encoding="utf-8"), module)


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("shared/x.py", "import trajgen.sde", {"trajgen"}),
        ("shared/x.py", "def f():\n    from forcefield import potential", {"forcefield"}),
        ("trajgen/x.py", "from forcefield import potential", {"forcefield"}),
        ("trajgen/x.py", "from shared import units\nfrom trajgen import sde", set()),
        ("trajgen/cli.py", "def f():\n    from forcefield import simulate", set()),
        ("trajgen/cli.py", "try:\n    import forcefield\nfinally:\n    pass", {"forcefield"}),
    ],
)
def test_the_rule_sees(module: str, source: str, expected: set[str]) -> None:
    assert foreign_heads(source, module) == expected
