"""Where the user wrote a term, and the name of the spec that they were writing."""

from __future__ import annotations

import ast
import linecache
import os
import sys
from pathlib import Path

from gradcheck.errors import Location


def _package() -> tuple[str, ...]:
    """The package's folder as frames spell it, and as it lies, where a link leads to it.

    With the separator: a folder called gradcheck_rules beside the package is a user's.
    """
    imported = __file__.removesuffix(f"algebra{os.sep}source.py")
    return tuple(dict.fromkeys((imported, str(Path(__file__).resolve().parents[1]) + os.sep)))


_PACKAGE = _package()
_SPECS = tuple(f"{folder}_specs{os.sep}" for folder in _PACKAGE)


def internal(file: str) -> bool:
    """Whether a frame's file is one of the package; bundled specs are not."""
    return file.startswith(_PACKAGE) and not file.startswith(_SPECS)


def caller() -> Location | None:
    """The file and line of the nearest caller outside the package (bundled specs are outside)."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not internal(file):
            return Location(file, frame.f_lineno)
        frame = frame.f_back  # type: ignore[assignment]
    return None


def assigned_name(location: Location | None) -> str | None:
    """The name to which the statement around a line assigns: `softmax = Spec(...)` is softmax.

    Read from the source, since an error may strike before the assignment happens.
    """
    if location is None:
        return None
    source = "".join(linecache.getlines(location.file))
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return None
    best: ast.stmt | None = None
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign) and _spans(node, location.line):
            best = node
    if isinstance(best, ast.Assign) and isinstance(best.targets[0], ast.Name):
        return best.targets[0].id
    if isinstance(best, ast.AnnAssign) and isinstance(best.target, ast.Name):
        return best.target.id
    return None


def _spans(node: ast.stmt, line: int) -> bool:
    return node.lineno <= line <= (node.end_lineno or node.lineno)
