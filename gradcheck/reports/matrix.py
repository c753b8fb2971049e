"""The matrix of a report: a row for each claim, a column for each oracle, verdicts in the cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck.reports.model import NOTHING
from gradcheck.reports.naming import Names, oracle_name

if TYPE_CHECKING:
    from gradcheck.reports.model import Report

NOT_ASKED = "·"


def matrix(report: Report, names: Names | None = None) -> list[list[str]]:
    """The rows, the first of them the titles; checks on several devices or in dtypes share a cell.

    A cell holds each verdict that occurs once, so that an agreement never hides what stands beside it.
    """
    names = names or Names(report)
    cells: dict[str, dict[str, list[str]]] = {}
    oracles: dict[str, None] = {}
    for check in report.checks:
        row = cells.setdefault(names.of(check), {})
        oracle = oracle_name(check)
        if oracle != NOTHING:
            oracles[oracle] = None
        verdicts = row.setdefault(oracle, [])
        if str(check.verdict) not in verdicts:
            verdicts.append(str(check.verdict))
    rows = [["claim", *(oracles or ["verdict"])]]
    for name, row in cells.items():
        # Of a claim that is missing, or a file that could not be loaded, no oracle was asked.
        absent = row.get(NOTHING, [NOT_ASKED])
        rows.append([name, *("/".join(row.get(oracle, absent)) for oracle in oracles or [""])])
    return rows
