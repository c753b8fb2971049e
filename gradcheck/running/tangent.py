"""Directional derivatives with bounds that hold for every mode of differentiation.

An entry of a derivative is a sum over paths through the program of products of local derivatives.
Forward mode, reverse mode and hand-written rules compute that sum in different orders, and what
cancels early in one cancels late in another: at z - max(z) the forward tangent of the largest entry
is 1 - 1 = 0 exactly, while reverse mode subtracts two rounded sums. So a tangent carries, besides
its value and error, `paths`: the sum over paths of the products of |local derivatives|. Each
operation charges its roundings relative to `paths`, not to the value; whoever evaluates the sum in
whatever order spends no more. What a reverse mode adds where a value is used several times is
charged where the value is repeated (`repeated`) and, for reuse by several operations, at the end.

`paths == 0` says that no path leads from the direction to the entry: the tangent is zero, exactly,
in every mode.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.running import linear
from gradcheck.running.elementary import beyond
from gradcheck.running.formats import ARITHMETIC, PARTIAL, SLACK, Floats, Format

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradcheck.running.balls import ErrorArray

_GROW = 1.0 + SLACK


class Tangent:
    """Directional derivatives, with one leading axis of directions.

    Attributes:
        value: The centres, shape (directions, axes...).
        error: The bounds.
        paths: Σ over paths of Π |local derivatives|, an upper bound.
    """

    __slots__ = ("error", "paths", "value")

    def __init__(self, value: Any, error: Any, paths: Any) -> None:
        self.value: Any = value
        self.error: Any = error
        self.paths: Any = paths

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of directions, then the sizes of the axes."""
        shape: tuple[int, ...] = self.value.shape
        return shape

    def map(self, function: Callable[[Any], Any]) -> Tangent:
        """The same movement of entries applied to all three arrays."""
        return Tangent(function(self.value), function(self.error), function(self.paths))

    def reached(self, shape: tuple[int, ...]) -> Tangent:
        """Aligned with an output of that shape: new axes follow the axis of directions."""
        missing = len(shape) - (self.value.ndim - 1)
        if missing == 0:
            return self
        inner = (len(self.value), *(1,) * missing, *self.value.shape[1:])
        return self.map(lambda t: t.reshape(inner))

    def filled(self, shape: tuple[int, ...]) -> Tangent:
        """Broadcast to (directions, *shape)."""
        full = (len(self.value), *shape)
        return self if full == self.shape else self.map(lambda t: np.broadcast_to(t, full))


def seed(shape: tuple[int, ...], side: int) -> Tangent:
    """Unit directions, one an entry, times the side from which the point is approached."""
    size = int(np.prod(shape, dtype=np.int64))
    unit = np.eye(size).reshape((size, *shape))
    return Tangent(side * unit, np.zeros_like(unit), unit)


def checked(fmt: Format, t: Tangent) -> Tangent:
    """Errors inf where a value overflows the target or is not a number."""
    fine = np.abs(t.value) + t.error <= fmt.huge
    if np.count_nonzero(fine) != fine.size:
        t.error = np.where(fine, t.error, np.inf)
    return t


def repeated(fmt: Format, t: Tangent, times: Any) -> Tangent:
    """A value that reappears in n entries: reverse mode adds n adjoints, n - 1 roundings."""
    if np.ndim(times) == 0 and times <= 1:
        return t
    charge = fmt.rate(ARITHMETIC) * np.maximum(times - 1.0, 0.0)
    return Tangent(t.value, t.error + charge * t.paths, t.paths)


def spread_to(fmt: Format, t: Tangent, shape: tuple[int, ...]) -> Tangent:
    """Aligned with an output of that shape, and charged for the broadcasting."""
    inner = int(np.prod(t.shape[1:], dtype=np.int64))
    outer = int(np.prod(shape, dtype=np.int64))
    t = t.reached(shape)
    return t if inner == outer or not inner else repeated(fmt, t, outer / inner)


def negated(t: Tangent) -> Tangent:
    """The tangents of -f."""
    return Tangent(-t.value, t.error, t.paths)


def scaled(fmt: Format, t: Tangent, partial: ErrorArray) -> Tangent:
    """Tangents times a local derivative, entry by entry."""
    size = partial.upper
    paths = size * t.paths
    error = size * t.error
    if partial.radius is not None:
        error = error + partial.radius * np.abs(t.value)
    if np.count_nonzero(paths) != paths.size:
        vanished = (paths == 0) & (size > 0) & (t.paths > 0)
        paths = np.where(vanished, fmt.normal, paths)
    error = (error + fmt.rate(PARTIAL) * paths + fmt.flush * (paths > 0)) * _GROW
    return checked(fmt, Tangent(partial.value * t.value, error, paths))


def added(fmt: Format, x: Tangent, y: Tangent) -> Tangent:
    """The sum of two tangents; adding an exact zero adds no rounding."""
    paths = x.paths + y.paths
    rounding = fmt.rate(ARITHMETIC) * paths + fmt.flush
    rounding = np.minimum(rounding, 2 * np.minimum(x.paths, y.paths))
    error = (x.error + y.error + rounding) * _GROW
    return checked(fmt, Tangent(x.value + y.value, error, paths))


def summed(fmt: Format, t: Tangent, axes: tuple[int, ...], *, keepdims: bool) -> Tangent:
    """Tangents added over axes of the value."""
    inner = tuple(i + 1 for i in axes)
    live = np.sum(t.paths > 0, axis=inner, keepdims=keepdims, dtype=np.float64)
    paths = np.sum(t.paths, axis=inner, keepdims=keepdims)
    error = np.sum(t.error, axis=inner, keepdims=keepdims)
    error = error + linear.accumulated(fmt, paths, live)
    growth = linear.sum_growth(fmt, t.value.size // max(paths.size, 1))
    value = np.sum(t.value, axis=inner, keepdims=keepdims)
    return checked(fmt, Tangent(value, error * growth, paths))


def cumulated(fmt: Format, t: Tangent, axis: int) -> Tangent:
    """Partial sums; reverse mode sums the adjoints from the other end."""
    live = np.cumsum(t.paths > 0, axis + 1, dtype=np.float64)
    paths = np.cumsum(t.paths, axis + 1)
    n = t.shape[axis + 1]
    error = np.cumsum(t.error, axis + 1) + linear.accumulated(fmt, paths, live)
    error = (error + n * fmt.rate(ARITHMETIC) * paths) * linear.sum_growth(fmt, n)
    return checked(fmt, Tangent(np.cumsum(t.value, axis + 1), error, paths))


def contracted(
    fmt: Format, equation: str, place: int, t: Tangent, operands: Sequence[ErrorArray]
) -> Tangent:
    """The einsum whose operand at `place` is a tangent, the others being local derivatives."""
    letters, out = linear.parse(equation)
    free = next(
        c for c in "zyxwvutsrqponmlkjihgfedcbaZYXWVUTSRQPONMLKJIHGFEDCBA" if c not in equation
    )
    terms = [free + one if i == place else one for i, one in enumerate(letters)]
    inner = f"{','.join(terms)}->{free}{out}"

    def product(mine: Any, others: Sequence[Any]) -> Any:
        return linear.contract(inner, [*others[:place], mine, *others[place + 1 :]])

    values, uppers = [x.value for x in operands], [x.upper for x in operands]
    value, paths = product(t.value, values), product(t.paths, uppers)
    live = product((t.paths > 0).astype(float), [(u > 0).astype(float) for u in uppers])
    paths = np.where((paths == 0) & (live > 0), fmt.normal, paths)
    error = product(t.error, uppers)
    radii = [None if i == place else x.radius for i, x in enumerate(operands)]
    mine = [np.abs(t.value) if i == place else v for i, v in enumerate(values)]
    tops = [np.abs(t.value) if i == place else u for i, u in enumerate(uppers)]
    moved = linear.propagated(inner, mine, radii, tops)
    error = error if moved is None else error + moved
    # Reverse mode sums over the letters of the output and of the others that are not mine.
    sizes = {
        c: n
        for one, x in zip(letters, operands, strict=True)
        for c, n in zip(one, x.shape, strict=True)
    }
    back = float(np.prod([float(n) for c, n in sizes.items() if c not in letters[place]]))
    error = error + linear.accumulated(fmt, paths, live, products=len(operands) - 1.0 + PARTIAL)
    error = error + fmt.rate(ARITHMETIC) * max(back - 1.0, 0.0) * paths
    growth = linear.sum_growth(fmt, int(np.max(live, initial=0.0) + back) + len(operands))
    return checked(fmt, Tangent(value, error * growth, paths))


def joined(low: Any, high: Any, paths: Any) -> Tangent:
    """The tangents of which only bounds are known."""
    middle = low / 2 + high / 2
    half = (high / 2 - low / 2) * _GROW + 4 * 2.0**-53 * np.abs(middle)
    half = beyond(~np.isfinite(middle) | np.isnan(half), half)
    return Tangent(middle, half, paths)


def zeros_like(t: Tangent, shape: tuple[int, ...]) -> Tangent:
    """The tangent of a constant in as many directions."""
    nothing: Floats = np.zeros((len(t.value), *shape))
    return Tangent(nothing, nothing, nothing)
