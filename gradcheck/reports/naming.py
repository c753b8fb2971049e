"""What a report calls its claims and oracles."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradcheck.reports.model import Check, Report


class Names:
    """What to call each claim of a report; to be made once a rendering, for it looks at every check."""

    def __init__(self, report: Report) -> None:
        self._labels = report.labels()

    def claim(self, check: Check) -> str:
        """The spec, chain or function: its address where names are ambiguous."""
        return self._labels[check.claim, check.address]

    def of(self, check: Check) -> str:
        """The claim and its input, "softmax, z"; of a file that could not be loaded the file alone."""
        return self.claim(check) if check.unread else f"{self.claim(check)}, {check.input}"


def oracle_name(check: Check) -> str:
    """The oracle, and for the native one whose implementation it was."""
    return f"{check.oracle} ({check.framework})" if check.framework else check.oracle


def load_error(check: Check) -> tuple[str, str]:
    """Which file or chain could not be loaded, with the line where that is known, and why."""
    where, _, why = check.reason.replace("the file cannot be loaded: ", "", 1).partition(": ")
    return (where, why) if where.startswith(check.claim) else (check.claim, check.reason)


def shell_word(target: str) -> str:
    """A target as a shell takes it for one word: quoted where its path holds blanks, or it is a chain."""
    if not target or re.fullmatch(r"[\w@%+=:,./\\-]+", target):
        return target
    return shlex.quote(target) if set(target) & set('"$`\\!') else f'"{target}"'
