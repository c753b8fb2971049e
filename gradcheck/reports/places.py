"""Where a check's claim is written: file and line, for whoever marks lines."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradcheck.reports.model import Check

_PLACE = re.compile(r"(?P<file>.+?):(?P<line>\d+)\Z")


@dataclass(frozen=True)
class Place:
    """A line of a file.

    Attributes:
        file: Relative to the working folder where it lies in there, with forward slashes.
        line: From 1.
    """

    file: str
    line: int


def place_of(check: Check) -> Place | None:
    """The line of the term at fault, else that of the claim, else that of the spec."""
    found = check.counterexample
    known = [(check.diagnosis or {}).get("location"), found.location if found else None]
    for text in known:
        if text and (match := _PLACE.match(str(text))) and not match["file"].startswith("<"):
            return Place(_relative(Path(match["file"])), int(match["line"]))
    return _assignment(check.address)


def _assignment(address: str) -> Place | None:
    """The line on which the file of an address assigns its name; the first where none does."""
    file, _, name = address.partition("::")
    path = Path(file)
    if not path.is_file():
        return None
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return Place(_relative(path), 1)
    written = re.compile(rf"{re.escape(name)}\s*(:[^=]+)?=(?!=)") if name else None
    numbers = (n for n, line in enumerate(lines, 1) if written and written.match(line))
    return Place(_relative(path), next(numbers, 1))


def _relative(path: Path) -> str:
    path = path.resolve()
    return (path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path).as_posix()
