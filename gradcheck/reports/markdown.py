"""Markdown, for the step summary of a workflow or a comment: the matrix, then each finding."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gradcheck.reports.findings import findings
from gradcheck.reports.matrix import matrix
from gradcheck.reports.refutations import refutations
from gradcheck.reports.text import summary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradcheck.reports.model import Report

# What would be read as markup, or as HTML.
_MARKUP = re.compile(r"([\\`*_{}\[\]()<>#+!|~$])")


def markdown(report: Report) -> str:
    """The report as GitHub-flavoured Markdown; everything that users wrote is escaped."""
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    mark = "✅" if report.ok else "❌"
    yield f"### {mark} gradcheck: {_escaped(summary(report))}\n"
    yield from _matrix(report)
    for refutation in refutations(report):
        yield f"\n#### {_escaped(refutation.title)}\n"
        yield _fenced("\n".join(refutation.lines), "text")
        if refutation.snippet:
            yield "\nTo reproduce:\n"
            yield _fenced(refutation.snippet, "python")
    rest = [finding for finding in findings(report) if finding.rule != "refuted"]
    if rest:
        yield "\n#### Not verified\n"
        yield from (f"- {_escaped(f.title)}: {_escaped(f.text)}" for f in rest)
    if report.gaps:
        yield "\n#### Known gaps\n"
        yield from (f"- {_escaped(str(gap))}" for gap in report.gaps)
    if report.notes:
        yield "\n#### Notes\n"
        yield from (f"- {_escaped(note)}" for note in report.notes)


def _matrix(report: Report) -> Iterator[str]:
    rows = matrix(report)
    if len(rows) < 2:
        return
    head, *body = rows
    yield "| " + " | ".join(_escaped(cell) for cell in head) + " |"
    yield "|" + "---|" * len(head)
    for row in body:
        yield "| " + " | ".join(_escaped(cell) for cell in row) + " |"


def _escaped(text: str) -> str:
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


def _fenced(text: str, language: str) -> str:
    """A block of code behind a fence that the text itself does not hold."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
