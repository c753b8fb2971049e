"""A picture of a refutation: |claim − truth|, entry by entry, over the indices of output and input."""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING, Any

from gradcheck.errors import MissingBackend, UsageError
from gradcheck.reports import numbers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gradcheck.reports.model import Check

_MOST_TICKS = 40
_INCHES = 0.32  # a cell's side
_LEAST, _LARGEST = 3.2, 12.0


def heatmap(check: Check) -> Figure:
    """The error of a refuted claim as a matplotlib figure.

    A row for each entry of the output, a column for each of the input; white where the claim is right.

    Raises:
        UsageError: Where the check has no errors to draw.
        MissingBackend: Where matplotlib is not installed.
    """
    letters, values = _gaps(check)
    try:
        from matplotlib.figure import Figure
    except ImportError:
        problem = 'a heat map needs matplotlib: pip install "gradcheck[plot]"'
        raise MissingBackend(problem) from None
    shape = numbers.shape(values)
    split = len(letters[0])
    rows, columns = _places(shape[:split]), _places(shape[split:])
    cells = _matrix(values, len(rows), len(columns))
    width = min(max(_LEAST, _INCHES * len(columns) + 2.2), _LARGEST)
    height = min(max(_LEAST - 0.6, _INCHES * len(rows) + 1.4), _LARGEST)
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    drawn = axes.imshow(cells, cmap="Reds", vmin=0.0, aspect="equal")
    figure.colorbar(drawn, ax=axes, label="|claim − truth|", shrink=0.8)
    _label(axes, letters, rows, columns)
    _divide(axes, shape, split)
    axes.set_title(_title(check), fontsize=10)
    return figure


def _gaps(check: Check) -> tuple[list[list[str]], Any]:
    """The letters and the errors: at a generic point, or else of the counterexample."""
    found = (check.diagnosis or {}).get("gaps")
    if found:
        return found["letters"], found["values"]
    known = check.counterexample
    if known is not None and known.gaps is not None:
        return known.letters, known.gaps
    problem = (
        f"{check.claim}, {check.input} by {check.oracle} has no errors to draw: it is {check.verdict}; "
        "draw a refuted check of a small claim"
    )
    raise UsageError(problem)


def _places(shape: Sequence[int]) -> list[tuple[int, ...]]:
    return list(product(*(range(n) for n in shape)))


def _leaves(values: Any) -> Iterator[float]:
    if not isinstance(values, list):
        yield float(values)
        return
    for item in values:
        yield from _leaves(item)


def _matrix(values: Any, rows: int, columns: int) -> list[list[float]]:
    """The errors as a table; those without a size as the largest that has one."""
    flat = list(_leaves(values))
    largest = max((v for v in flat if math.isfinite(v)), default=1.0)
    flat = [v if math.isfinite(v) else largest for v in flat]
    return [flat[i * columns : (i + 1) * columns] for i in range(rows)]


def _label(
    axes: Axes,
    letters: list[list[str]],
    rows: list[tuple[int, ...]],
    columns: list[tuple[int, ...]],
) -> None:
    if len(rows) <= _MOST_TICKS:
        axes.set_yticks(range(len(rows)), [",".join(map(str, place)) for place in rows], fontsize=7)
    if len(columns) <= _MOST_TICKS:
        names = [",".join(map(str, place)) for place in columns]
        axes.set_xticks(range(len(columns)), names, fontsize=7, rotation=90)
    axes.set_ylabel(", ".join(letters[0]) or "the output")
    axes.set_xlabel(", ".join(letters[1]) or "the input")


def _divide(axes: Axes, shape: Sequence[int], split: int) -> None:
    """Lines between the blocks of the first letter on each side."""
    for sizes, line in ((shape[:split], axes.axhline), (shape[split:], axes.axvline)):
        block = math.prod(sizes[1:])
        for k in range(1, sizes[0] if len(sizes) > 1 else 0):
            line(k * block - 0.5, color="0.6", linewidth=0.8)


def _title(check: Check) -> str:
    """The claim, and where it is wrong."""
    found = check.diagnosis or {}
    patterns = found.get("patterns") or (
        check.counterexample.patterns if check.counterexample else []
    )
    wrong = [str(p["pattern"]) for p in patterns if p["wrong"] and p["pattern"] != "every entry"]
    where = f"\nwrong where {'; '.join(wrong)}" if wrong else ""
    return f"{check.claim}, {check.input}: {found.get('message') or 'refuted'}{where}"
