"""Which way the imports point, where frameworks are named, and what is public."""

from __future__ import annotations

import ast
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import gradcheck

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(gradcheck.__file__).parent
# A room is a module or a folder of the package; its floor says what it may import.
FLOORS = {
    "errors": 0,
    "arguments": 1,
    "algebra": 1, "axioms": 1, "backends": 1, "domains": 1, "drawing": 1, "evaluation": 1, "palettes": 1,
    "parameters": 1, "probing": 1, "configuration": 1, "reports": 1, "running": 1,
    "operation": 2, "compiling": 2, "spec": 2, "graph": 2, "chain": 2, "calls": 2, "second_order": 2,
    "composing": 2, "accumulating": 2,
    "oracles": 3, "library": 3, "derivation": 3, "dependencies": 3,
    "checking": 4, "diagnosis": 4,
    "layers": 5,
    "cli": 6, "_pytest_plugin": 6, "__main__": 6,
}  # fmt: skip
FRAMEWORKS = {"autograd", "jax", "jaxlib", "torch", "tensorflow", "keras"}
FILES = sorted(PACKAGE.rglob("*.py"))


def room(parts: tuple[str, ...]) -> str:
    return parts[0].removesuffix(".py")


def name_of(file: Path) -> str:
    return str(file.relative_to(PACKAGE))


def statements(tree: ast.AST, *, inside: bool = False) -> Iterator[tuple[ast.stmt, bool]]:
    """Every import that runs, and whether only a function runs it; TYPE_CHECKING blocks are left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, inside
        function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from statements(node, inside=inside or function)


def imported(file: Path) -> Iterator[tuple[str, int, bool]]:
    """The dotted name, the line, and whether the import waits for a call."""
    for node, late in statements(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno, late) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(file)}:{node.lineno} imports relatively"
            module = node.module or ""
            for alias in node.names:
                # `from gradcheck import backends` means a room; from elsewhere, the module itself.
                below = f"{module}.{alias.name}" if module == "gradcheck" else module
                yield below, node.lineno, late


def rooms_imported(file: Path) -> Iterator[tuple[str, int, bool]]:
    for module, line, late in imported(file):
        if module.startswith("gradcheck."):
            yield module.split(".")[1], line, late


def test_every_room_has_a_floor():
    found = {room(file.relative_to(PACKAGE).parts) for file in FILES} - {"__init__"}
    assert found - set(FLOORS) == set()


@pytest.mark.parametrize("file", [f for f in FILES if f != PACKAGE / "__init__.py"], ids=name_of)
def test_imports_point_down(file):
    own = room(file.relative_to(PACKAGE).parts)
    wrong = [
        f"{name_of(file)}:{line} imports {other} of floor {FLOORS[other]}"
        for other, line, _ in rooms_imported(file)
        if other in FLOORS and FLOORS[other] > FLOORS[own]
    ]
    assert not wrong, "\n".join(wrong)


def test_rooms_of_one_floor_do_not_import_each_other_in_a_circle():
    """Of the imports that run when a module is loaded."""
    edges: dict[str, set[str]] = {name: set() for name in FLOORS}
    for file in FILES:
        own = room(file.relative_to(PACKAGE).parts)
        if own in FLOORS:
            edges[own] |= {
                r for r, _, late in rooms_imported(file) if not late and r in FLOORS and r != own
            }
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        circle = " → ".join((*path[path.index(name) :], name)) if name in path else ""
        assert not circle, circle
        if name not in done:
            for other in sorted(edges[name]):
                visit(other, (*path, name))
            done.add(name)

    for name in edges:
        visit(name, ())


def test_algebra_knows_no_arrays():
    for file in (PACKAGE / "algebra").glob("*.py"):
        outside = {m.split(".")[0] for m, _, _ in imported(file)} & {"numpy", *FRAMEWORKS}
        assert not outside, f"{name_of(file)} imports {outside}"


def test_frameworks_are_imported_in_their_own_files_only():
    for file in FILES:
        parts = file.relative_to(PACKAGE).parts
        named = [(m, n) for m, n, _ in imported(file) if m.split(".")[0] in FRAMEWORKS]
        for module, line in named:
            own = parts[0] == "backends" and file.stem.startswith(module.split(".")[0])
            assert own or parts[0] == "layers", f"{name_of(file)}:{line} imports {module}"


@pytest.mark.parametrize("folder", ["specs", "examples/specs"])
def test_specs_name_frameworks_only_where_a_function_runs(folder):
    files = sorted((PACKAGE.parent / folder).glob("*.py"))
    assert files
    for file in files:
        early = [m for m, _, late in imported(file) if not late and m.split(".")[0] in FRAMEWORKS]
        assert not early, f"{file.name} imports {early}"


# ---------------------------------------------------------------- the public names


def test_public_names():
    assert list(gradcheck.__all__) == sorted(gradcheck.__all__)
    assert set(gradcheck.__all__) <= set(dir(gradcheck))
    for first, second in pairwise(gradcheck.__all__):
        assert first != second
    with pytest.raises(AttributeError, match="module 'gradcheck' has no attribute 'Tensor'"):
        gradcheck.Tensor  # noqa: B018


@pytest.mark.parametrize("name", gradcheck.__all__)
def test_public_name_is_documented(name):
    value = getattr(gradcheck, name)
    if name in ("delta", "ones"):  # values, whose text stands below them in the source
        assert repr(value) == name
        return
    assert (value.__doc__ or "").strip(), f"{name} has no docstring"
    assert not value.__doc__.startswith(f"{name}("), f"{name} shows only a signature"
