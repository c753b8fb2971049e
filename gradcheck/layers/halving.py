"""The cotangents of all outputs as one line of numbers, of which a bisection takes parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Floats = np.ndarray[Any, np.dtype[Any]]


class Line:
    """Cotangents one behind the other.

    Args:
        vectors: One for each output.
    """

    def __init__(self, vectors: Sequence[Floats]) -> None:
        self.shapes = [v.shape for v in vectors]
        self.flat = np.concatenate([v.reshape(-1) for v in vectors])

    def part(self, low: int, high: int) -> list[Floats]:
        """The cotangents with zeros outside a range."""
        kept, start, parts = np.zeros(self.flat.size, np.int8), 0, []
        kept[low:high] = self.flat[low:high]
        for shape in self.shapes:
            size = int(np.prod(shape, dtype=np.int64))
            parts.append(kept[start : start + size].reshape(shape))
            start += size
        return parts

    def output(self, place: int) -> tuple[int, tuple[int, ...]]:
        """Which output a place belongs to, and its index there."""
        for which, shape in enumerate(self.shapes):
            size = int(np.prod(shape, dtype=np.int64))
            if place < size:
                return which, tuple(int(i) for i in np.unravel_index(place, shape))
            place -= size
        return 0, ()

    def shown(self, low: int, high: int) -> str:
        """A range as messages call it: `output 0, [0, 0] to [9, 299]`."""
        (which, first), (other, last) = self.output(low), self.output(high - 1)
        start = f"output {which}, {list(first)}" if first else f"output {which}"
        if which == other:
            return f"{start} to {list(last)}" if last else start
        return f"{start} to output {other}, {list(last)}" if last else f"{start} to output {other}"

    def halves(
        self, gap: Callable[[list[Floats]], float]
    ) -> Iterator[tuple[int, int, list[Floats], float]]:
        """Smaller and smaller ranges, down to one entry: of two halves the one with the larger gap.

        Args:
            gap: How far the results for some cotangents are apart.

        Yields:
            The range, the cotangents with zeros outside it, and their gap.
        """
        low, high = 0, self.flat.size
        while high - low > 1:
            middle = (low + high) // 2
            ranges = ((low, middle), (middle, high))
            parts = [self.part(a, b) for a, b in ranges]
            gaps = [gap(p) for p in parts]
            taken = 0 if gaps[0] >= gaps[1] else 1
            low, high = ranges[taken]
            yield low, high, parts[taken], gaps[taken]
