"""The terminal summary: the matrix of claims and oracles, and what is not verified, with reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradcheck.reports.matrix import matrix
from gradcheck.reports.model import Report
from gradcheck.reports.reasons import reasons, uncovered
from gradcheck.reports.text import summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck._pytest_plugin.results import Results


def summarise(results: Results, terminal: Any) -> None:
    """Write the summary; under -q only what is not concluded, and the counts."""
    report = results.report
    if report is None:
        return
    terminal.section("gradcheck")
    if terminal.verbosity >= 0:
        _tables(results, report, terminal)
    _listed(terminal, "Not concluded", reasons(report))
    _listed(terminal, "Not covered", uncovered(report), red=True)
    _listed(terminal, "Incomplete", report.problems, red=True)
    _listed(terminal, "Known gaps", [str(gap) for gap in report.gaps], yellow=True)
    _listed(terminal, "Trouble", results.trouble, red=True)
    for path in results.settings.reports if not results.trouble else ():
        terminal.write_line(f"report in {path}")
    terminal.write_line(summary(report), red=not report.ok, green=report.ok, bold=True)


def _tables(results: Results, report: Report, terminal: Any) -> None:
    """Claims of spec files, and then those that tests verified, by test."""
    tested = {id(check) for _, check in results.tested}
    own = Report([check for check in report.checks if id(check) not in tested])
    if own.checks:
        _aligned(terminal, matrix(own))
    by_test: dict[str, Report] = {}
    for nodeid, check in results.tested:
        by_test.setdefault(nodeid, Report()).checks.append(check)
    for nodeid, found in by_test.items():
        terminal.write_line(f"in {nodeid}", bold=True)
        _aligned(terminal, matrix(found))


def _aligned(terminal: Any, rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        terminal.write_line("  ".join(cells).rstrip())


def _listed(terminal: Any, title: str, lines: Sequence[str], **style: bool) -> None:
    if lines:
        terminal.write_line(title, bold=True, **style)
        for line in lines:
            terminal.write_line(f"  {line}")
