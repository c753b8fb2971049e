"""Known gaps: what a project declares to be unverified, why, and until when."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import date
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

OPEN = "open"
EXPIRED = "expired"
UNUSED = "unused"
UNMATCHED = "unmatched"


@dataclass(frozen=True)
class Gap:
    """Something that is known not to be verified, so that its absence does not fail the gate.

    It excuses what is missing, skipped or undecided. It never excuses a refutation.

    Attributes:
        claim: The spec's or chain's name, its address `file.py::name`, or a pattern of either.
        input: The input whose derivative is meant; `*` for all.
        oracle: The one oracle that cannot say; empty where the claim as a whole is meant.
        reason: Why it is left open.
        until: The last day on which it is accepted.
        state: `open`, `expired`, `unused` (nothing there needs it), `unmatched` (nothing is there).
    """

    claim: str
    input: str
    reason: str
    until: date
    oracle: str = ""
    state: str = OPEN

    def names(self, claim: str, addresses: Iterable[str], label: str) -> bool:
        """Whether it speaks of this claim with respect to this input."""
        homes = (claim, *addresses)
        return any(fnmatchcase(home, self.claim) for home in homes) and fnmatchcase(
            label, self.input
        )

    def speaks_of(self, oracle: str) -> bool:
        """Whether it covers this oracle's check."""
        return self.oracle in ("", oracle)

    def expired(self, today: date) -> bool:
        """Whether its last day has passed."""
        return today > self.until

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The gap as a report in JSON holds it."""
        names = {entry.name for entry in fields(cls)}
        known = {key: value for key, value in data.items() if key in names}
        return cls(**{**known, "until": date.fromisoformat(str(known["until"]))})

    def __str__(self) -> str:
        where = f"{self.claim}, {self.input}" + (f" by {self.oracle}" if self.oracle else "")
        endings = {
            OPEN: f"accepted until {self.until}",
            EXPIRED: f"expired on {self.until}",
            UNUSED: "no longer needed: all of it is verified; delete it",
            UNMATCHED: "names no claim of this run; correct it, or delete it",
        }
        return f"{where}: {self.reason} ({endings[self.state]})"


class OpenGaps:
    """The gaps that are open, found by the names under which they speak of a claim.

    Only those whose name is a pattern are tried one after another.
    """

    def __init__(self, gaps: Iterable[Gap]) -> None:
        self._plain: dict[str, list[tuple[int, Gap]]] = {}
        self._patterns: list[tuple[int, Gap]] = []
        for place, gap in enumerate(gaps):
            if gap.state != OPEN:
                continue
            is_pattern = bool(set("*?[") & set(gap.claim))
            kept = self._patterns if is_pattern else self._plain.setdefault(gap.claim, [])
            kept.append((place, gap))

    def __bool__(self) -> bool:
        return bool(self._plain or self._patterns)

    def of(self, homes: Sequence[str], label: str, oracle: str = "") -> Gap | None:
        """The first that speaks of the claim with these names, or of this oracle's say on it."""
        likely = [item for home in homes for item in self._plain.get(home, ())] + self._patterns
        for _, gap in sorted(likely, key=lambda item: item[0]):
            if gap.oracle in ("", oracle) and gap.names(homes[0], homes[1:], label):
                return gap
        return None
