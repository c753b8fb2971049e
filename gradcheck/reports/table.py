"""The table of checks, with the columns that fit the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Text

from gradcheck.reports import numbers
from gradcheck.reports.cleaning import one_line
from gradcheck.reports.listing import folded
from gradcheck.reports.model import NOTHING, Check, Report, Verdict
from gradcheck.reports.naming import oracle_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from gradcheck.reports.naming import Names

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

Row = tuple[str, ...]


class Table:
    """The checks as rows of text, with the breadth of each column; to be made once a rendering."""

    def __init__(self, report: Report, names: Names) -> None:
        self.checks = report.checks
        self.rows = [row(check, names) for check in report.checks]
        columns = zip(*self.rows, strict=True) if self.rows else [()] * len(COLUMNS)
        self._breadths = {
            title: max(map(cell_len, {title, *cells}))
            for title, cells in zip(COLUMNS, columns, strict=True)
        }

    @property
    def width(self) -> int:
        """The width at which the whole table stands without a fold."""
        return self._width(COLUMNS)

    def lines(self, width: int) -> Iterator[Text]:
        """The table line by line; a list where even the shortest table is wider than the terminal."""
        if not self.rows:
            return
        columns = self._fitting(width)
        if columns is None:
            for check, cells in zip(self.checks, self.rows, strict=True):
                yield from folded(_listed(check, dict(zip(COLUMNS, cells, strict=True))), width)
        else:
            yield from self._aligned(columns, width)

    def _width(self, columns: Sequence[str]) -> int:
        return sum(self._breadths[column] for column in columns) + _GAP * (len(columns) - 1)

    def _fitting(self, width: int) -> tuple[str, ...] | None:
        """The most columns that fit, the claim's folded if need be; None where none do."""
        columns: tuple[str, ...] = COLUMNS
        for given_up in ("", *_GIVEN_UP):
            columns = tuple(column for column in columns if column != given_up)
            if self._width(columns) <= width:
                return columns
        claim = min(_NARROWEST_CLAIM, self._breadths["claim"])
        return columns if self._width(columns[1:]) + _GAP + claim <= width else None

    def _aligned(self, columns: tuple[str, ...], width: int) -> Iterator[Text]:
        claim = width - self._width(columns[1:]) - _GAP
        breadths = {**self._breadths, "claim": min(self._breadths["claim"], claim)}
        places = [
            (COLUMNS.index(column), breadths[column], column in _NUMERIC) for column in columns
        ]
        blank = " " * _GAP
        yield Text(blank.join(_padded(COLUMNS, places)), "bold")
        yield Text("─" * (sum(breadths[column] for column in columns) + _GAP * (len(columns) - 1)))
        verdict = columns.index("verdict")
        for check, cells in zip(self.checks, self.rows, strict=True):
            first, *rest = _claim_lines(cells[0], breadths["claim"])
            parts = _padded((first, *cells[1:]), places)
            line = Text(blank.join(parts))
            start = sum(len(part) + _GAP for part in parts[:verdict])
            line.stylize(STYLES[check.verdict], start, start + len(check.verdict))
            yield line
            yield from map(Text, rest)


def row(check: Check, names: Names) -> Row:
    """A check's cells; those of which there is nothing to say are left empty."""
    return (
        one_line(names.claim(check)),
        "" if check.unread else one_line(check.input),
        _said(oracle_name(check)),
        _said(check.device),
        _said(check.dtype),
        str(check.verdict),
        str(check.examples),
        numbers.worst(check.worst),
        numbers.duration(check.seconds),
    )


def _said(cell: str) -> str:
    return "" if cell == NOTHING else one_line(cell)


def _padded(cells: Sequence[str], places: Iterable[tuple[int, int, bool]]) -> list[str]:
    """The cells as broad as their columns: numbers to the right, words to the left."""
    parts = []
    for index, breadth, right in places:
        blank = " " * (breadth - cell_len(cells[index]))
        parts.append(blank + cells[index] if right else cells[index] + blank)
    return parts


def _claim_lines(claim: str, width: int) -> list[str]:
    """A claim's name, folded where its column is narrower."""
    if cell_len(claim) <= width:
        return [claim]
    return [line.plain.rstrip() for line in folded(Text(claim), width)]


def _listed(check: Check, cells: dict[str, str]) -> Text:
    """One paragraph a check, for terminals too narrow for columns."""
    where = ", ".join(cells[key] for key in ("oracle", "device", "dtype") if cells[key])
    claim = ", ".join(cells[key] for key in ("claim", "input") if cells[key])
    return Text.assemble(
        (cells["verdict"], STYLES[check.verdict]),
        (f" {claim}", "bold"),
        f" by {where}" if where else "",
        f", {check.examples} example{'s' * (check.examples != 1)}" if check.examples else "",
        f", worst/bound {cells['worst/bound']}" if check.worst is not None else "",
    )
