"""Markdown, for the step summary of a workflow or a comment: each finding, then the matrix."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gradcheck.reports.cleaning import visible
from gradcheck.reports.findings import TITLES, findings
from gradcheck.reports.matrix import matrix
from gradcheck.reports.naming import Names
from gradcheck.reports.refutations import refutations
from gradcheck.reports.text import summary

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gradcheck.reports.findings import Finding
    from gradcheck.reports.model import Report

# What would be read as markup, as HTML or as an entity.
_MARKUP = re.compile(r"([\\`*_{}\[\]()<>#+!|~$&])")
# What begins a list, a rule or the underline of a heading.
_OPENING = re.compile(r"(\d*)([-=.])")


def markdown(report: Report) -> str:
    """The report as GitHub-flavoured Markdown; everything that users wrote is escaped."""
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    names = Names(report)
    mark = "✅" if report.ok else "❌"
    yield f"### {mark} gradcheck: {_escaped(summary(report))}"
    for refutation in refutations(report, names):
        yield f"\n#### {_escaped(refutation.title)}\n"
        yield _fenced("\n".join(refutation.lines), "text")
        if refutation.snippet:
            yield "\nTo reproduce:\n"
            yield _fenced(refutation.snippet, "python")
    found = findings(report, names)
    for rule in ("not-covered", "incomplete"):
        yield from _list(TITLES[rule], (_item(f) for f in found if f.rule == rule))
    yield from _list("Known gaps", map(str, report.gaps))
    yield from _matrix(report, names)
    yield from _list("Notes", report.notes)


def _item(finding: Finding) -> str:
    return ": ".join(part for part in (finding.heading, finding.details) if part)


def _list(title: str, items: Iterable[str]) -> Iterator[str]:
    lines = [f"- {_escaped(item)}" for item in items]
    if lines:
        yield f"\n#### {title}\n"
        yield from lines


def _matrix(report: Report, names: Names) -> Iterator[str]:
    rows = matrix(report, names)
    if len(rows) < 2:
        return
    head, *body = rows
    yield "\n#### Claims and oracles\n"
    yield "| " + " | ".join(map(_escaped, head)) + " |"
    yield "|" + "---|" * len(head)
    for row in body:
        yield "| " + " | ".join(map(_escaped, row)) + " |"


def _escaped(text: str) -> str:
    """The text on one line, with nothing in it that is markup."""
    line = _MARKUP.sub(r"\\\1", " ".join(visible(text).split()))
    opening = _OPENING.match(line)
    return line if opening is None else f"{opening[1]}\\{line[opening.end(1) :]}"


def _fenced(text: str, language: str) -> str:
    """A block of code behind a fence that the text itself does not hold."""
    text = visible(text).rstrip()
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
