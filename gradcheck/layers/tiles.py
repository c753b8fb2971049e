"""Two large gradients compared tile by tile: no array of their size is made on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Floats = np.ndarray[Any, np.dtype[Any]]

# Entries of a tile: a few of them in float64 stay in a core's cache.
_TILE = 1 << 16


@dataclass
class Gaps:
    """How far two gradients are apart.

    Attributes:
        suspects: Entries beyond the screen, in flat order, those that exceed it the most first.
        ratio: The largest gap in units of the screen.
        beyond: The largest gap that exceeds it.
        ones: Whether a gradient of ones would exceed it somewhere.
    """

    suspects: list[int] = field(default_factory=list)
    ratio: float = 0.0
    beyond: float = 0.0
    ones: bool = False


def rows(array: Floats) -> Floats:
    """The array as a matrix whose rows are those of its last axis."""
    return array.reshape(-1, array.shape[-1]) if array.ndim else array.reshape(1, 1)


def tiles(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    """The tiles of a matrix."""
    high, wide = shape
    across = min(wide, _TILE)
    down = max(1, _TILE // max(across, 1))
    for top in range(0, high, down):
        for left in range(0, wide, across):
            yield slice(top, top + down), slice(left, left + across)


def largest(array: Floats) -> Floats:
    """The largest magnitude of each row, as a column in float64; NaN where there is one."""
    matrix = rows(array)
    high, low = matrix.max(axis=1, keepdims=True), matrix.min(axis=1, keepdims=True)
    return np.maximum(np.asarray(high, np.float64), -np.asarray(low, np.float64))


def apart(first: Floats, second: Floats) -> Floats:
    """The largest finite gap of each row, as a column."""
    one, two = rows(first), rows(second)
    found = np.zeros((one.shape[0], 1))
    for down, across in tiles(one.shape):
        gap = _gap(one[down, across], two[down, across])
        gap[~np.isfinite(gap)] = 0.0
        np.maximum(found[down], gap.max(axis=1, keepdims=True), out=found[down])
    return found


def compared(claim: Floats, exact: Floats, screen: Floats, most: int) -> Gaps:
    """Where two gradients differ by more than a screen, one number for each row.

    Args:
        claim: The one.
        exact: The other, finite.
        screen: A column.
        most: How many suspects are kept.
    """
    one, two, found = rows(claim), rows(exact), Gaps()
    kept: list[tuple[float, int]] = []
    for down, across in tiles(one.shape):
        e, limit = two[down, across], screen[down]
        gap = _gap(one[down, across], e)
        gap[np.isnan(gap)] = np.inf
        if not found.ones:
            found.ones = bool((np.abs(e - 1) > limit).any())
        top = gap.max(axis=1, keepdims=True)
        rated = np.divide(top, limit, where=limit > 0, out=np.zeros(top.shape))
        found.ratio = max(found.ratio, float(rated.max(initial=0.0)))
        if (top > limit).any():
            found.beyond = max(found.beyond, float(top[top > limit].max()))
            corner = down.start * one.shape[1] + across.start
            kept = sorted([*kept, *_over(gap, limit, corner, one.shape[1], most)])[:most]
    found.suspects = [place for _, place in kept]
    return found


def changed(old: Floats, now: Floats, read: Callable[[Floats], Floats]) -> tuple[int, ...] | None:
    """The first entry at which an array is no longer what it was; None where there is none.

    Args:
        old: What it was, before it became an array of a framework.
        now: What the framework's array holds.
        read: What the framework makes of a part of the old one.
    """
    if not old.size:
        return None
    one, two = rows(old), rows(now.reshape(old.shape))
    for down, across in tiles(one.shape):
        a, b = one[down, across], two[down, across]
        if not _differs(a, b).any():
            continue
        off = _differs(read(a), b)
        if off.any():
            row, column = (int(i) for i in np.argwhere(off)[0])
            flat = (down.start + row) * one.shape[1] + across.start + column
            return tuple(int(i) for i in np.unravel_index(flat, old.shape))
    return None


def _differs(a: Floats, b: Floats) -> Floats:
    """Where two arrays differ; NaN is as NaN was."""
    off = np.not_equal(a, b)
    return off & ~(np.not_equal(a, a) & np.not_equal(b, b)) if off.any() else off


def _gap(claim: Floats, exact: Floats) -> Floats:
    gap = np.subtract(claim, exact, dtype=np.float64)
    return np.abs(gap, out=gap)


def _over(gap: Floats, limit: Floats, corner: int, wide: int, most: int) -> list[tuple[float, int]]:
    """The worst entries of a tile beyond the screen: how far (negative, to be sorted), and where."""
    down, across = np.nonzero(gap > limit)
    ratio = gap[down, across] / np.maximum(limit[down, 0], np.finfo(np.float64).tiny)
    order = np.argsort(-ratio, kind="stable")[:most]
    places = corner + down * wide + across
    return [(-float(ratio[k]), int(places[k])) for k in order]
