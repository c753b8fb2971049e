"""Where a check's claim is written: file and line, for whoever marks lines."""

from __future__ import annotations

import re
import tokenize
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradcheck.reports.model import Check

_PLACE = re.compile(r"(?P<file>.+?):(?P<line>[1-9]\d*)\Z")
_ASSIGNMENT = re.compile(r"(?P<name>\w+)\s*(:[^=]+)?=(?!=)")


@dataclass(frozen=True)
class Place:
    """A line of a file.

    Attributes:
        file: Relative to the working folder where it lies in there, with forward slashes.
        line: From 1.
    """

    file: str
    line: int


class Places:
    """Where checks are written; to be made once a rendering, for it reads each file once."""

    def __init__(self) -> None:
        self._names: dict[str, dict[str, int] | None] = {}
        self._files: dict[str, str] = {}

    def of(self, check: Check) -> Place | None:
        """The line of the term at fault, else that of the claim, else that of the spec."""
        found = check.counterexample
        known = [(check.diagnosis or {}).get("location"), found.location if found else None]
        if check.unread:  # the reason begins with the line at which loading ended
            known.append(check.reason.partition(": ")[0])
        for text in known:
            if text and (match := _PLACE.match(str(text))) and not match["file"].startswith("<"):
                return Place(self._relative(match["file"]), int(match["line"]))
        return self._assignment(check.address)

    def _assignment(self, address: str) -> Place | None:
        """The line on which the file of an address assigns its name; the first where none does."""
        file, _, name = address.partition("::")
        if file not in self._names:
            self._names[file] = _assigned(Path(file))
        lines = self._names[file]
        return None if lines is None else Place(self._relative(file), lines.get(name, 1))

    def _relative(self, file: str) -> str:
        if file not in self._files:
            self._files[file] = _relative(Path(file))
        return self._files[file]


def _assigned(path: Path) -> dict[str, int] | None:
    """The line on which each name of a file is first assigned; None where there is no such file."""
    try:
        if not path.is_file():
            return None
        with tokenize.open(path) as file:  # its encoding and its line ends as Python takes them
            lines = list(file)
    except (OSError, ValueError, SyntaxError):  # it may not be read, or is no text
        return {}
    found: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if match := _ASSIGNMENT.match(line):
            found.setdefault(match["name"], number)
    return found


def _relative(path: Path) -> str:
    try:
        path = path.resolve()
        near = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    except (OSError, ValueError, RuntimeError):  # a name that no file can have, links in a circle
        near = path
    return near.as_posix()
