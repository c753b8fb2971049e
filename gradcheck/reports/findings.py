"""What a report finds wrong, one entry each, for the formats that list findings.

A finding is a refuted claim, a claim or a required check that is not verified, or something that the
run as a whole lacks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradcheck.reports.model import Check, Report, Verdict
from gradcheck.reports.places import Place, place_of
from gradcheck.reports.refutations import refutations
from gradcheck.reports.table import oracle_name

if TYPE_CHECKING:
    from collections.abc import Iterator

RULES = {
    "refuted": "A hand-derived gradient differs from the true one",
    "not-verified": "A claim, or a check that is required, is not verified",
    "incomplete": "Something that the run requires is absent",
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        rule: A key of `RULES`.
        title: In a few words.
        text: The rest, in plain text.
        place: Where it is written, if that is known.
        claim: The claim and its input; empty for the run as a whole.
    """

    rule: str
    title: str
    text: str
    place: Place | None
    claim: str


def findings(report: Report) -> list[Finding]:
    """The findings of a report, in its order; none at all only if it is ok or was interrupted."""
    return [*_refuted(report), *_unverified(report), *_lacking(report)]


def _refuted(report: Report) -> Iterator[Finding]:
    for refutation in refutations(report):
        text = "\n".join(refutation.lines)
        if refutation.snippet:
            text += f"\n\nTo reproduce:\n{refutation.snippet}"
        check = refutation.check
        yield Finding("refuted", refutation.title, text, place_of(check), _named(report, check))


def _unverified(report: Report) -> Iterator[Finding]:
    groups: dict[str, list[Check]] = {}
    for check in report.not_verified():
        groups.setdefault(_named(report, check), []).append(check)
    for claim, checks in groups.items():
        lines = [f"{oracle_name(c)}: {c.verdict}: {c.reason}" for c in checks]
        if all(c.verdict is Verdict.MISSING for c in checks):
            lines = [c.reason for c in checks]
        text = "\n".join(dict.fromkeys(lines))
        yield Finding("not-verified", f"Not verified: {claim}", text, place_of(checks[0]), claim)


def _lacking(report: Report) -> Iterator[Finding]:
    problems = list(report.problems)
    if not any(check.supports for check in report.checks) and not report.interrupted:
        problems.append("nothing was verified")
    if report.interrupted:
        problems.append("the run was interrupted before its end")
    for problem in problems:
        yield Finding("incomplete", f"Incomplete: {problem}", problem, None, "")


def _named(report: Report, check: Check) -> str:
    return f"{report.labels()[check.claim, check.address]}, {check.input}"
