"""Simplifying the entries of large arrays, which Hypothesis draws from a seed and cannot shrink.

Only for domains whose entries are independent of each other: whole blocks become the simplest value
as long as the example still fails, then single entries become simpler ones.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.drawing import ENTRYWISE
from gradcheck.palettes import real_palette

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from gradcheck.checking.search import Example
    from gradcheck.domains import Domain

# How many simple values are tried in place of an entry that has to differ from the simplest.
_CANDIDATES = 6
# Above so many entries that matter, single ones are left as they are.
_FEW = 16


def simplified(
    example: Example,
    inputs: Mapping[str, Domain],
    dtype: str,
    fails: Callable[[Example], bool],
    deadline: float,
) -> Example:
    """The example with as many simple entries in its large arrays as still fail."""
    for name, domain in inputs.items():
        array = example.inputs[name]
        values = _simple_values(domain, dtype)
        if array.size <= ENTRYWISE or not values:
            continue
        for changed in (*_blocks(array.size), None):
            start = example.inputs[name]
            tries = _blanked(start, values[0], changed) if changed else _replaced(start, values)
            for place, value in tries:
                if time.monotonic() > deadline:
                    return example
                candidate = _with(example, name, place, value)
                if candidate is not None and fails(candidate):
                    example = candidate
    return example


def _simple_values(domain: Domain, dtype: str) -> list[float]:
    """The simplest values of a domain of independent entries; none of any other."""
    if domain.source is not None:
        return []
    if domain.kind == "mask":
        return [1.0, 0.0]
    if domain.kind not in ("real", "positive"):
        return []
    positive = domain.kind == "positive"
    palette = real_palette("unit", domain.lo, domain.hi, dtype, positive=positive)
    return palette[:_CANDIDATES].tolist()  # type: ignore[no-any-return]


def _blocks(size: int) -> Iterator[int]:
    """Block sizes: everything, halves, quarters, down to one entry."""
    while size > 1:
        yield size
        size = (size + 1) // 2
    yield 1


def _blanked(array: NDArray[Any], value: float, block: int) -> Iterator[tuple[slice, float]]:
    """Each block in turn as the simplest value."""
    return ((slice(i, i + block), value) for i in range(0, array.size, block))


def _replaced(array: NDArray[Any], values: list[float]) -> Iterator[tuple[slice, float]]:
    """Each entry that matters as each simpler value, the simplest last, so that it stays."""
    matter = np.flatnonzero(array.ravel() != values[0])
    for i in matter[:_FEW] if len(matter) <= _FEW else ():
        for value in reversed(values[1:]):
            yield slice(i, i + 1), value


def _with(example: Example, name: str, place: slice, value: float) -> Example | None:
    """The example with some entries replaced; None where nothing changes."""
    old = example.inputs[name]
    array = old.copy()
    array.reshape(-1)[place] = value
    if np.array_equal(array, old):
        return None
    return replace(example, inputs={**example.inputs, name: array})
