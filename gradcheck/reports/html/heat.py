"""The gaps of a counterexample as cells: rows are the output's entries, columns the input's."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradcheck.reports import numbers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradcheck.reports.model import Check

Index = tuple[int, ...]


@dataclass(frozen=True)
class Cell:
    """One entry of the Jacobian.

    Attributes:
        row: From the top.
        column: From the left.
        share: Its gap as a share of the largest, from 0 to 1.
        text: What it says when it is pointed at.
        finite: Whether both values are finite.
    """

    row: int
    column: int
    share: float
    text: str
    finite: bool


@dataclass(frozen=True)
class Heat:
    """A heat map over the index pattern.

    Attributes:
        rows: The indices of the output, as text.
        columns: The indices of the input.
        row_letters: The letters of the output, such as "p,q".
        column_letters: Those of the input.
        cells: All entries.
        largest: The largest gap, as text.
        where: At which inputs.
    """

    rows: list[str]
    columns: list[str]
    row_letters: str
    column_letters: str
    cells: list[Cell]
    largest: str
    where: str


def heat_of(check: Check) -> Heat | None:
    """The heat map of a refutation: at a generic point if one was kept, else at its counterexample."""
    known = _known(check)
    if known is None:
        return None
    letters, values, where = known
    shape = _shape(values)
    split = len(letters[0])
    rows, columns = list(_indices(shape[:split])), list(_indices(shape[split:]))
    gaps = {(r, c): _at(values, (*r, *c)) for r in rows for c in columns}
    largest = max((g for g in gaps.values() if math.isfinite(g)), default=0.0)
    cells = [
        Cell(i, j, _share(gaps[r, c], largest), _told(r, c, gaps[r, c]), math.isfinite(gaps[r, c]))
        for i, r in enumerate(rows)
        for j, c in enumerate(columns)
    ]
    return Heat(
        [_index(r) for r in rows],
        [_index(c) for c in columns],
        ",".join(letters[0]),
        ",".join(letters[1]),
        cells,
        numbers.number(largest),
        where,
    )


def _known(check: Check) -> tuple[list[list[str]], Any, str] | None:
    generic = (check.diagnosis or {}).get("gaps")
    if generic:
        return generic["letters"], generic["values"], "at a generic point"
    found = check.counterexample
    if found is None or found.gaps is None or len(found.letters) != 2:
        return None
    return found.letters, found.gaps, "at the counterexample"


def _shape(nested: Any) -> Index:
    return (len(nested), *_shape(nested[0])) if isinstance(nested, list) else ()


def _indices(shape: Index) -> Iterator[Index]:
    return itertools.product(*(range(n) for n in shape))


def _at(nested: Any, index: Index) -> float:
    for i in index:
        nested = nested[i]
    return float(nested)


def _share(gap: float, largest: float) -> float:
    if not math.isfinite(gap):
        return 1.0
    return gap / largest if largest else 0.0


def _index(index: Index) -> str:
    return ",".join(map(str, index)) or "·"


def _told(row: Index, column: Index, gap: float) -> str:
    return f"[{_index(row)}] by [{_index(column)}]: |claim − truth| = {numbers.number(gap)}"
