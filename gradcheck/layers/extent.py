"""How far around a wrong entry things are wrong: the block that a kernel forgot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Floats = np.ndarray[Any, np.dtype[Any]]
    Place = tuple[int, ...]

# What differs by less than this part of the largest difference is not told from what rounding leaves.
_PART = 1e-3
# Each edge takes some further passes: only where these are cheap.
ENTRIES = 1_000_000


def around(shape: Sequence[int], index: Place, wrong: Callable[[Place], bool]) -> list[range]:
    """Along each axis through a wrong index, how far it is wrong too.

    The outermost indices are asked first; where they are right, an edge between wrong and right is
    found by bisection. Both sides of that edge have been asked.

    Args:
        shape: Of the array.
        index: Where it is wrong.
        wrong: Whether it is at another index.
    """

    def edge(axis: int, far: int) -> int:
        def asked(i: int) -> bool:
            return wrong((*index[:axis], i, *index[axis + 1 :]))

        near = index[axis]
        if near == far or asked(far):
            return far
        while abs(far - near) > 1:
            middle = (far + near) // 2
            near, far = (middle, far) if asked(middle) else (near, middle)
        return near

    return [range(edge(k, 0), edge(k, size - 1) + 1) for k, size in enumerate(shape)]


def off(first: Floats, second: Floats) -> list[range]:
    """The smallest block that holds all entries at which two arrays differ as much as they do anywhere."""
    with np.errstate(all="ignore"):
        gap = np.abs(np.asarray(first, np.float64) - np.asarray(second, np.float64))
        gap = np.where(np.isnan(gap), np.inf, gap)
        places = np.argwhere(gap > _PART * np.max(gap, initial=0.0, where=np.isfinite(gap)))
    if not places.size:
        return []
    low, high = places.min(axis=0), places.max(axis=0)
    return [range(int(a), int(b) + 1) for a, b in zip(low, high, strict=True)]


def shown(name: str, block: Sequence[range]) -> str:
    """A block as messages call it: `a[0, 128 to 1024]`."""
    parts = [f"{r[0]}" if len(r) == 1 else f"{r[0]} to {r[-1]}" for r in block]
    return f"{name}[{', '.join(parts)}]" if parts else name
