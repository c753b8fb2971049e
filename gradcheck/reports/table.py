"""The table of checks, with the columns that fit the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from gradcheck.reports import numbers
from gradcheck.reports.model import Check, Report, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

COLUMNS = (
    "claim", "input", "oracle", "device", "dtype", "verdict", "examples", "worst/bound", "time",
)  # fmt: skip
_NUMERIC = frozenset({"examples", "worst/bound", "time"})
_GIVEN_UP = ("time", "device", "examples", "worst/bound")  # in this order, where space is short
_GAP = 2
_NARROWEST_CLAIM = 14  # a claim's name folded below this is no longer readable

STYLES = {
    Verdict.PROVED: "bold green",
    Verdict.IDENTITY: "green",
    Verdict.AGREES: "green",
    Verdict.REFUTED: "bold red",
    Verdict.UNDECIDED: "yellow",
    Verdict.ERROR: "magenta",
    Verdict.SKIPPED: "dim",
    Verdict.MISSING: "yellow",
}

Row = dict[str, str]


def oracle_name(check: Check) -> str:
    """The oracle, and for the native one whose implementation it was."""
    return f"{check.oracle} ({check.framework})" if check.framework else check.oracle


def natural_width(report: Report) -> int:
    """The width at which the whole table stands without a fold."""
    return _width(COLUMNS, _rows(report))


def tabulate(report: Report, width: int) -> Iterator[Table | Text]:
    """The checks as a table; as a list where even the shortest table is wider than the terminal."""
    rows = _rows(report)
    columns = _fitting(rows, width)
    if columns is None:
        yield from _listing(report, rows)
    else:
        yield _table(report, rows, columns)


def _rows(report: Report) -> list[Row]:
    labels = report.labels()
    return [_row(check, labels[check.claim, check.address]) for check in report.checks]


def _row(check: Check, label: str) -> Row:
    return {
        "claim": label,
        "input": check.input,
        "oracle": oracle_name(check),
        "device": check.device,
        "dtype": check.dtype,
        "verdict": str(check.verdict),
        "examples": str(check.examples),
        "worst/bound": numbers.worst(check.worst),
        "time": numbers.duration(check.seconds),
    }


def _breadth(column: str, rows: list[Row]) -> int:
    return max(cell_len(column), *(cell_len(row[column]) for row in rows), 0)


def _width(columns: tuple[str, ...], rows: list[Row]) -> int:
    return sum(_breadth(column, rows) for column in columns) + _GAP * (len(columns) - 1)


def _fitting(rows: list[Row], width: int) -> tuple[str, ...] | None:
    """The most columns that fit, the claim's folded if need be; None where none do."""
    columns: tuple[str, ...] = COLUMNS
    for given_up in ("", *_GIVEN_UP):
        columns = tuple(column for column in columns if column != given_up)
        if _width(columns, rows) <= width:
            return columns
    folded = _width(columns[1:], rows) + _GAP + min(_NARROWEST_CLAIM, _breadth("claim", rows))
    return columns if folded <= width else None


def _table(report: Report, rows: list[Row], columns: tuple[str, ...]) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, _GAP - 1, 0, 0),  # the box's own divider is a blank
    )
    for column in columns:
        justify = "right" if column in _NUMERIC else "left"
        table.add_column(column, justify=justify, no_wrap=column != "claim", overflow="fold")  # type: ignore[arg-type]
    for check, row in zip(report.checks, rows, strict=True):
        cells = [Text(row[column]) for column in columns]
        cells[columns.index("verdict")].stylize(STYLES[check.verdict])
        table.add_row(*cells)
    return table


def _listing(report: Report, rows: list[Row]) -> Iterator[Text]:
    """One paragraph a check, for terminals too narrow for columns."""
    for check, row in zip(report.checks, rows, strict=True):
        where = ", ".join(row[key] for key in ("oracle", "device", "dtype") if row[key])
        yield Text.assemble(
            (row["verdict"], STYLES[check.verdict]),
            (f" {row['claim']}, {row['input']}", "bold"),
            f" by {where}" if where else "",
            f", {row['examples']} examples" if check.examples else "",
            f", worst/bound {row['worst/bound']}" if check.worst is not None else "",
        )
