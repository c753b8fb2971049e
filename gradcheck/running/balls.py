"""Balls: a centre and a bound on the distance of the exact and of every computed value from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from gradcheck.running.formats import UNIT64, Floats
from gradcheck.running.operand import Operand

if TYPE_CHECKING:
    from gradcheck.running.namespace import Namespace

quiet = np.errstate(all="ignore")


class ErrorArray(Operand):
    """Balls: `value` ± `error`, entry by entry.

    Attributes:
        value: The centres.
        radius: The errors, or None where all are zero (cheaper than an array of zeros).
    """

    __slots__ = ("_upper", "radius", "space", "value")

    def __init__(self, space: Namespace, value: Any, radius: Any = None) -> None:
        self.space = space
        self.value: Any = value
        self.radius: Any = radius
        self._upper: Any = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the axes."""
        return cast("tuple[int, ...]", self.value.shape)

    @property
    def error(self) -> Floats:
        """The bounds, an array of the same shape."""
        return np.zeros(self.shape) if self.radius is None else np.asarray(self.radius)

    @property
    def upper(self) -> Any:
        """|value| + error."""
        if self._upper is None:
            size = np.abs(self.value)
            self._upper = size if self.radius is None else size + self.radius
        return self._upper

    def __float__(self) -> float:
        if self.size == 1 and not np.any(self.error):
            return float(self.value.reshape(()))
        return super().__float__()

    def __repr__(self) -> str:
        return f"ErrorArray({self.value!r}, error={self.error!r})"


def at_infinity(x: ErrorArray) -> Any:
    """Where x is infinite on purpose (a mask's -inf): exactly, not by overflow."""
    infinite = np.isinf(x.value)
    return infinite if x.radius is None else infinite & (x.radius == 0)


def total_error(x: ErrorArray, y: ErrorArray) -> Any:
    """The sum of two errors, None where both are exact."""
    if x.radius is None or y.radius is None:
        return y.radius if x.radius is None else x.radius
    return x.radius + y.radius


def hull(x: Any, ex: Any, y: Any, ey: Any) -> tuple[Any, Any]:
    """The smallest ball around two balls."""
    low, high = np.minimum(x - ex, y - ey), np.maximum(x + ex, y + ey)
    middle = low / 2 + high / 2
    half = (high / 2 - low / 2) * (1 + 4 * UNIT64) + 4 * UNIT64 * np.abs(middle)
    same = (x == y) & (ex == ey)
    middle, half = np.where(same, x, middle), np.where(same, ex, half)
    return middle, np.where(np.isfinite(middle) & ~np.isnan(half), half, np.inf)


def contenders(x: ErrorArray, axes: tuple[int, ...]) -> tuple[Any, Any]:
    """Which entries may be the largest along axes, and which slices have an exact tie."""
    if x.radius is None:
        top = np.max(x.value, axis=axes, keepdims=True)
        first = x.value == top
        return first, np.sum(first, axis=axes) > 1
    slack = 4 * UNIT64 * np.where(x.radius == 0, 0.0, x.upper)
    low = np.max(x.value - x.radius - slack, axis=axes, keepdims=True)
    first = ~(x.value + x.radius + slack < low)
    exact = np.all(~first | (x.radius == 0), axis=axes)
    return first, exact & (np.sum(first, axis=axes) > 1)
