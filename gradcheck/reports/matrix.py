"""The matrix of a report: a row for each claim, a column for each oracle, verdicts in the cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck.reports.model import Verdict
from gradcheck.reports.table import oracle_name

if TYPE_CHECKING:
    from gradcheck.reports.model import Report

NOT_ASKED = "·"


def matrix(report: Report) -> list[list[str]]:
    """The rows, the first of them the titles; checks on several devices or in dtypes share a cell.

    A cell holds each verdict that occurs once, so that an agreement never hides what stands beside it.
    """
    labels = report.labels()
    cells: dict[str, dict[str, list[str]]] = {}
    oracles: dict[str, None] = {}
    for check in report.checks:
        row = cells.setdefault(f"{labels[check.claim, check.address]}, {check.input}", {})
        oracle = "claim" if check.verdict is Verdict.MISSING else oracle_name(check)
        if oracle != "claim":
            oracles[oracle] = None
        verdicts = row.setdefault(oracle, [])
        if str(check.verdict) not in verdicts:
            verdicts.append(str(check.verdict))
    rows = [["claim", *oracles]]
    for name, row in cells.items():
        # Of a claim that is missing, no oracle was asked.
        absent = f"{Verdict.MISSING}" if "claim" in row else NOT_ASKED
        rows.append([name, *("/".join(row.get(oracle, [absent])) for oracle in oracles)])
    return rows
