"""Edits of source files: what a proved edit changes in the file where the claim was written."""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import unified_diff
from pathlib import Path
from typing import TYPE_CHECKING

from gradcheck.diagnosis.source import Change, Source, Unwritable, applied, changes
from gradcheck.diagnosis.spec import diagnose, repair_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradcheck.operation import Claim, Operation

_MARK = "\ufeff"  # Windows' Notepad begins a file in UTF-8 with it


@dataclass
class Fix:
    """The edits of one file.

    Attributes:
        file: The file.
        text: Its text as it is, without the mark with which some editors begin a file.
        mark: That mark, or nothing.
        claims: What each edit mends: the spec's name, the claim's label, and the edit in words.
        changes: The changes of the text.
    """

    file: Path
    text: str
    mark: str = ""
    claims: list[tuple[str, str, str]] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)

    @property
    def edited(self) -> str:
        """The text with all changes."""
        return applied(self.text, list(dict.fromkeys(self.changes)))

    @property
    def before(self) -> bytes:
        """The file as it was read."""
        return (self.mark + self.text).encode("utf-8")

    @property
    def after(self) -> bytes:
        """The file with all changes."""
        return (self.mark + self.edited).encode("utf-8")

    @property
    def diff(self) -> str:
        """The change as a unified diff, without context."""
        old, new = self.text.split("\n"), self.edited.split("\n")  # Python's lines, and no others
        lines = unified_diff(old, new, str(self.file), str(self.file), n=0, lineterm="")
        return "\n".join(line.rstrip() for line in lines)


def fixes(refuted: Iterable[tuple[Operation, Claim]]) -> tuple[list[Fix], list[str]]:
    """The proved edits of refuted claims by file, and why others have to be made by hand."""
    found: dict[Path, Fix] = {}
    by_hand: list[str] = []
    for operation, claim in refuted:
        name = f"{operation.name}, {claim.label}"
        try:
            _add(found, operation, claim)
        except Unwritable as reason:
            by_hand.append(f"{name}: {reason}{_in_words(operation, claim)}")
    return list(found.values()), list(dict.fromkeys(by_hand))


def _add(found: dict[Path, Fix], operation: Operation, claim: Claim) -> None:
    known = repair_of(operation, claim)
    if known is None:
        raise Unwritable("no edit is known that mends it")
    own, repair = known
    if not repair.proved:
        raise Unwritable("the edit that would mend it is not proved")
    at = next((t.location for t in own.expression.terms if t.location is not None), None)
    path = Path(at.file) if at else Path()
    if at is None or not path.is_file():
        raise Unwritable("the claim was not written in a file")
    fix = found.get(path)
    if fix is None:
        fix = _read(path)
    made = changes(Source(fix.text), own.expression, repair.expression)
    edit = diagnose(operation, claim)["edit"]
    fix.claims.append((own.spec.name, own.claim.label, f"{edit['before']} → {edit['after']}"))
    fix.changes += made
    found[path] = fix


def _read(path: Path) -> Fix:
    """A file without edits so far.

    Raises:
        Unwritable: Where its text is none that can be edited.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise Unwritable(f"{path} is not in UTF-8") from None
    if "\r" in text.replace("\r\n", ""):
        raise Unwritable(f"{path} has lines that end in a carriage return alone")
    bare = text.removeprefix(_MARK)
    return Fix(path, bare, mark=_MARK if bare != text else "")


def _in_words(operation: Operation, claim: Claim) -> str:
    """The edit that is left to the reader."""
    edit = diagnose(operation, claim)["edit"]
    if not edit:
        return ""
    return f"; the edit is  {edit['before'] or 'nothing'} → {edit['after'] or 'nothing'}"
