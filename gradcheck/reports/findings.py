"""What a report finds wrong, one entry each, for the formats that list findings.

A finding is a refuted claim, one that is not covered, a file that could not be loaded, or something
that the run requires and lacks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradcheck.reports.model import Check, Report, Verdict
from gradcheck.reports.naming import Names, load_error, oracle_name
from gradcheck.reports.places import Place, Places
from gradcheck.reports.refutations import Refutation, refutations

if TYPE_CHECKING:
    from collections.abc import Iterator

RULES = {
    "refuted": "A hand-derived gradient differs from the true one",
    "not-covered": "A claim that no oracle supports",
    "incomplete": "Something that the run requires is absent, or a file could not be loaded",
}
TITLES = {"refuted": "Refuted", "not-covered": "Not covered", "incomplete": "Incomplete"}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        rule: A key of `RULES`.
        title: In a few words.
        text: The rest, in plain text.
        place: Where it is written, if that is known.
        claim: The claim and its input, or the file; empty for the run as a whole.
    """

    rule: str
    title: str
    text: str
    place: Place | None
    claim: str

    @property
    def message(self) -> str:
        """The title and then the text, unless the title says it all."""
        return "\n\n".join(part for part in (self.title, self.details) if part)

    @property
    def heading(self) -> str:
        """The title where it stands below that of its rule."""
        return self.title.removeprefix(f"{TITLES[self.rule]}: ")

    @property
    def details(self) -> str:
        """The text, unless the title says it all."""
        return "" if self.title.endswith(self.text) else self.text


def findings(report: Report, names: Names | None = None) -> list[Finding]:
    """The findings of a report, in its order; none at all only if it is ok."""
    names, places = names or Names(report), Places()
    return [
        *_refuted(report, names, places),
        *_not_verified(report, names, places),
        *_lacking(report),
    ]


def _refuted(report: Report, names: Names, places: Places) -> Iterator[Finding]:
    for refutation in refutations(report, names):
        text = told(refutation)
        check = refutation.check
        yield Finding("refuted", refutation.title, text, places.of(check), names.of(check))


def told(refutation: Refutation) -> str:
    """All of a refutation but its title, in plain text."""
    text = "\n".join(refutation.lines)
    return f"{text}\n\nTo reproduce:\n{refutation.snippet}" if refutation.snippet else text


def _not_verified(report: Report, names: Names, places: Places) -> Iterator[Finding]:
    """What has no support: a file that could not be loaded, a claim, a check that is required."""
    groups: dict[str, list[Check]] = {}
    for check in report.not_verified():
        groups.setdefault(names.of(check), []).append(check)
    covered = {names.of(check) for check in report.checks if check.supports}
    for name, checks in groups.items():
        place = places.of(checks[0])
        if checks[0].unread:
            where, why = load_error(checks[0])
            yield Finding("incomplete", f"Could not be loaded: {where}", why, place, name)
            continue
        text = "\n".join(dict.fromkeys(map(_said, checks)))
        if name in covered:
            title = f"Required, but not concluded: {name}"
            yield Finding("incomplete", title, text, place, name)
        else:
            yield Finding("not-covered", f"Not covered: {name}", text, place, name)


def _said(check: Check) -> str:
    """What one check said; of a claim that is missing no oracle was asked."""
    if check.verdict is Verdict.MISSING:
        return f"{check.verdict}: {check.reason}"
    return f"{check.verdict} by {oracle_name(check)}: {check.reason or 'no reason was given'}"


def _lacking(report: Report) -> Iterator[Finding]:
    titles = {f"Incomplete: {problem}": problem for problem in report.problems}
    decided = any(c.supports or c.verdict is Verdict.REFUTED for c in report.checks)
    if not decided and not report.interrupted:
        titles["Incomplete: nothing was verified"] = "nothing was verified"
    if report.interrupted:
        titles["Incomplete: the run was interrupted"] = "the report holds what was done until then"
    for title, text in titles.items():
        yield Finding("incomplete", title, text, None, "")
