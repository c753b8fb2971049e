"""The `xp` whose arrays are residues: a forward runs on dual numbers over four prime fields.

This file has the arithmetic; `functions` has the opaque functions and `branches` the decisions.
Whatever else a forward may call is composed of these, as for the error-carrying namespaces.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.algebra.literals import literal
from gradcheck.algebra.source import caller
from gradcheck.backends.base import UnknownNameError
from gradcheck.oracles.exact import shadow
from gradcheck.oracles.exact.array import (
    FieldArray,
    ResampleError,
    aligned,
    entries_of,
    unsupported,
)
from gradcheck.oracles.exact.branches import Branches
from gradcheck.oracles.exact.degrees import Bound, Pole, log2, of_numbers
from gradcheck.oracles.exact.functions import Functions
from gradcheck.oracles.exact.linear import Linear
from gradcheck.running.namespace import Namespace, axes_of, indices, is_integral, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradcheck.errors import Location
    from gradcheck.oracles.exact.memory import Key, Memory
    from gradcheck.oracles.exact.primes import Field, Residues

# Square roots that exist of a constant: as many as anyone takes.
MANY = 9


class FieldNamespace(Functions, Branches, Linear, Namespace):
    """One random evaluation.

    Attributes:
        field: The primes.
        memory: Opaque values by argument.
        shadowed: Whether arrays carry balls at a real point.
        cell: Whether branches are decided at that point, or stay generic.
        zeros_met: The degree of the product of all denominators.
        extension: The degree of the number field that roots of constants generate.
        rounded: Floats of many digits that the forward used, with their places.
        branching: The degree of the field of functions that roots generate.
        related: Whether roots of generic values are related to them; `alive` has the lanes in which
            all of those exist, `opaque_roots` counts the roots met, and `hidden` those of what
            may be a square itself.
    """

    level = 5

    def __init__(
        self,
        field: Field,
        memory: Memory,
        rng: np.random.Generator,
        *,
        shadowed: bool = False,
        cell: bool = False,
        related: bool = False,
    ) -> None:
        self.field = field
        self.memory = memory
        self.rng = rng
        self.shadowed = shadowed
        self.cell = cell
        self.related = related
        self.alive = np.ones(field.count, dtype=bool)
        self.opaque_roots = 0
        self.hidden = 0
        self.selected = 0
        # For each difference, how many calls had drawn selectors when its own was drawn.
        self.born: dict[Key, int] = {}
        self.zeros_met = 0.0
        self.extension = 1
        self.rounded: dict[float, Location | None] = {}
        self._numbers: dict[Any, FieldArray] = {}
        self._rooted: set[int] = set()
        self._constants: set[int] = set()
        self.branching = 1

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        place = caller()
        message = f"{place}: xp.{name} is not in the documented list; see gradcheck.backends.names"
        raise UnknownNameError(message)

    # ------------------------------------------------------------------ making arrays

    def asarray(self, x: Any) -> FieldArray:
        """X as residues: numbers exactly, floats as the simplest rational that rounds to them."""
        if isinstance(x, FieldArray):
            return x
        if isinstance(x, list | tuple):
            if _holds_arrays(x):
                return self.stack([self.asarray(part) for part in x])  # type: ignore[no-any-return]
            x = np.asarray(x)
        if isinstance(x, np.ndarray) and (x.ndim or x.dtype == object):
            flat = [self._number(entry) for entry in x.reshape(-1).tolist()]
            return self.constant(shadowless(flat, x.shape))
        x = x.item() if isinstance(x, np.ndarray | np.generic) else x
        key = (type(x), x)
        if key not in self._numbers:
            self._numbers[key] = self.constant(shadowless([self._number(x)], ()))
        return self._numbers[key]

    def _number(self, x: Any) -> Fraction:
        if isinstance(x, float):
            if not math.isfinite(x):
                raise unsupported(
                    f"{x!r} is no number of a field; write the formula so that no infinity "
                    "occurs, such as xp.where(mask, xp.exp(z), 0) in place of exp(-inf)"
                )
            number, rounded = literal(x)
            if rounded:
                self.rounded.setdefault(x, caller())
            return number
        if isinstance(x, bool | int | Fraction):
            return Fraction(x)
        raise unsupported(f"{x!r} of type {type(x).__name__} in a formula; write numbers or arrays")

    def constant(self, exact: Any) -> FieldArray:
        """An array of rational numbers, from an object array of fractions."""
        numbers = entries_of(exact)
        known: dict[Fraction, list[int]] = {}
        for x in numbers:
            if x not in known:
                known[x] = self._residues(x)
        shape = np.shape(exact)
        columns = np.array([known[x] for x in numbers], dtype=np.int64)
        data = columns.reshape(-1, self.field.count).T.reshape((self.field.count, 1, *shape))
        balls = shadow.balls(exact, shape) if self.shadowed else None
        return FieldArray(self, data, of_numbers(known), exact=exact, shadow=balls)

    def _residues(self, x: Fraction) -> list[int]:
        try:
            return self.field.rational(x.numerator, x.denominator)
        except ZeroDivisionError:
            raise ResampleError(f"the denominator of {x}") from None

    def variable(
        self,
        values: Residues,
        *,
        weight: int = 1,
        depth: int = 0,
        point: Any = None,
    ) -> FieldArray:
        """An array of independent indeterminates."""
        balls = None
        if self.shadowed and point is not None:
            balls = shadow.balls(point, values.shape[1:])
        return FieldArray(self, values[:, None], Bound(float(weight)), depth=depth, shadow=balls)

    def seeded(self, x: FieldArray) -> FieldArray:
        """The array with a tangent of 1 for each of its entries."""
        size = x.size
        unit = np.eye(size, dtype=np.int64).reshape(size, *x.shape)
        tangents = np.broadcast_to(unit, (self.field.count, *unit.shape))
        data = np.concatenate([x.data[:, :1], tangents], axis=1)
        return self._new(data, x, slope=Bound(), depth=x.depth, recipe=x.recipe, shadow=x.shadow)

    def _new(self, data: Residues, like: FieldArray | Bound, **known: Any) -> FieldArray:
        bound = like if isinstance(like, Bound) else like.bound
        return FieldArray(self, data, bound, **known)

    # ------------------------------------------------------------------ arithmetic

    def negative(self, x: Any) -> Any:
        """-x."""
        return -x if is_integral(x) else self._combined(-1, self.asarray(x))

    def _combined(self, factor: int, x: FieldArray) -> FieldArray:
        """A whole multiple."""
        if x.exact is not None:
            return self.constant(np.asarray(x.exact * factor, dtype=object))
        size = log2(abs(factor))
        known = Bound(x.bound.degree, x.bound.norm + size, x.bound.scale, x.bound.poles)
        slope = None
        if x.slope is not None:
            slope = Bound(x.slope.degree, x.slope.norm + size, x.slope.scale, x.slope.poles)
        return self._new(
            self.field.reduce(x.data * self._lanes(factor, x.data.ndim)),
            known,
            slope=slope,
            depth=min(x.depth, self._root_depth(Fraction(factor))) if x.depth else 0,
            recipe=("lin", ((factor, x),)),
            shadow=None if x.shadow is None else shadow.wrapped(x.shadow * factor),
        )

    def _lanes(self, factor: int, ndim: int) -> Residues:
        lanes = np.array([factor % p for p in self.field.primes], dtype=np.int64)
        return lanes.reshape((-1,) + (1,) * (ndim - 1))

    def add(self, x: Any, y: Any) -> Any:
        """X + y."""
        return np.add(x, y) if plain(x, y) else self._sum_of(x, y, 1)

    def subtract(self, x: Any, y: Any) -> Any:
        """X - y."""
        return np.subtract(x, y) if plain(x, y) else self._sum_of(x, y, -1)

    def _sum_of(self, x: Any, y: Any, sign: int) -> FieldArray:
        x, y = self.asarray(x), self.asarray(y)
        if x.exact is not None and y.exact is not None:
            total = x.exact + y.exact if sign > 0 else x.exact - y.exact
            return self.constant(np.asarray(total, dtype=object))
        a, b = self._paired(x, y)
        # Both have all tangents or neither has.
        data = self.field.reduce(a + b if sign > 0 else a - b)
        balls = None
        if x.shadow is not None and y.shadow is not None:
            balls = shadow.wrapped(x.shadow + y.shadow if sign > 0 else x.shadow - y.shadow)
        return self._new(
            data,
            x.bound.plus(y.bound),
            slope=_either(x.slope, y.slope),
            recipe=("lin", ((1, x), (sign, y))),
            shadow=balls,
        )

    def _paired(self, x: FieldArray, y: FieldArray) -> tuple[Residues, Residues]:
        """The data of both, with as many axes and as many tangents."""
        ndim = max(x.ndim, y.ndim)
        a, b = aligned(x.data, ndim), aligned(y.data, ndim)
        if x.moves == y.moves:
            return a, b
        return (self.padded(a, b.shape[1]), b) if y.moves else (a, self.padded(b, a.shape[1]))

    def padded(self, data: Residues, count: int) -> Residues:
        """With tangents that are 0."""
        if data.shape[1] == count:
            return data
        missing = np.zeros((data.shape[0], count - 1, *data.shape[2:]), dtype=np.int64)
        return np.concatenate([data, missing], axis=1)

    def multiply(self, x: Any, y: Any) -> Any:
        """X * y: the product rule."""
        if plain(x, y):
            return np.multiply(x, y)
        x, y = self.asarray(x), self.asarray(y)
        if x.exact is not None and y.exact is not None:
            return self.constant(np.asarray(x.exact * y.exact, dtype=object))
        for one, other in ((x, y), (y, x)):
            if one.exact is not None and not one.shape and one.exact.item().denominator == 1:
                return self._combined(int(one.exact.item()), other)
        return self._product(x, y)

    def _product(self, x: FieldArray, y: FieldArray) -> FieldArray:
        ndim = max(x.ndim, y.ndim)
        a, b = aligned(x.data, ndim), aligned(y.data, ndim)
        multiply = self.field.multiply
        if x.moves and y.moves:
            value = multiply(a[:, :1], b[:, :1])
            moved = multiply(a[:, 1:], b[:, :1]) + multiply(a[:, :1], b[:, 1:])
            data = np.concatenate([value, self.field.reduce(moved)], axis=1)
        else:
            data = multiply(a, b)
        balls = None
        if x.shadow is not None and y.shadow is not None:
            balls = shadow.wrapped(x.shadow * y.shadow)
        left = None if x.slope is None else x.slope.times(y.bound)
        right = None if y.slope is None else x.bound.times(y.slope)
        depth = min(self._depth(x, y.depth), self._depth(y, x.depth))
        return self._new(
            data, x.bound.times(y.bound), slope=_either(left, right), depth=depth, shadow=balls
        )

    def _depth(self, x: FieldArray, other: int) -> int:
        """How many square roots may be taken; of constants found out only where it matters."""
        if x.exact is None or not other:
            return x.depth
        return min((self._root_depth(c) for c in set(entries_of(x.exact))), default=0)

    def _root_depth(self, number: Fraction) -> int:
        """MANY for a positive number whose root exists in every lane, else 0."""
        whole = number.numerator * number.denominator
        if whole <= 0 or not self.has_root(whole):
            return 0
        if math.isqrt(whole) ** 2 != whole:
            self._constants.add(whole)
        return MANY

    def has_root(self, whole: int) -> bool:
        """Whether a whole number is a square in every lane."""
        return all(pow(whole, (p - 1) // 2, p) == 1 for p in self.field.primes)

    def extend(self, *numbers: int) -> None:
        """Count roots of whole numbers into the degree of the number field.

        A root is taken of an array that constants were multiplied into: it may be that of any of
        them, and each has up to two roots in a row.
        """
        self._rooted.update(numbers, self._constants)
        self.extension = 4 ** len(self._rooted)

    def divide(self, x: Any, y: Any) -> Any:
        """X / y."""
        x, y = self.asarray(x), self.asarray(y)
        if y.exact is None:
            return self.multiply(x, self.reciprocal(y))
        if any(c == 0 for c in entries_of(y.exact)):
            raise ResampleError("divides by an expression that is 0 at this size")
        ones = [Fraction(1) / c for c in entries_of(y.exact)]
        return self.multiply(x, self.constant(shadowless(ones, y.shape)))

    def reciprocal(self, x: FieldArray) -> FieldArray:
        """1 / x.

        Raises:
            ResampleError: Where an entry is 0 in some lane.
        """
        if x.exact is not None:
            return self.divide(1, x)  # type: ignore[no-any-return]
        values = x.data[:, :1]
        if not values.all():
            raise ResampleError("divides by an expression that is 0 at this size")
        bound, pole = x.bound.inverse(max(x.size, 1))
        self.met(pole)
        data = self.field.inverse(values)
        slope = None
        if x.moves and x.slope is not None:
            square = self.field.multiply(data, data)
            moved = self.field.reduce(-self.field.multiply(x.data[:, 1:], square))
            data = np.concatenate([data, moved], axis=1)
            slope = x.slope.times(bound.power(2))
        balls = None if x.shadow is None else shadow.mapped(lambda a: 1 / a, x.shadow)
        return self._new(data, bound, slope=slope, depth=x.depth, shadow=balls)

    def met(self, pole: Pole) -> None:
        """Count a denominator into the degree of their product."""
        self.zeros_met += pole.degree

    # ------------------------------------------------------------------ sums and moves

    def sum(self, x: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
        """The sum over axes."""
        if is_integral(x):
            return np.sum(x, axis=axis, keepdims=keepdims)
        x = self.asarray(x)
        axes = axes_of(axis, x.ndim)
        if x.exact is not None:
            total = (
                np.sum(x.exact, axis=axes, keepdims=keepdims)
                if x.size
                else np.zeros(
                    np.sum(np.zeros(x.shape), axis=axes, keepdims=keepdims).shape, dtype=object
                )
                + Fraction(0)
            )
            return self.constant(np.asarray(total, dtype=object))
        inner = tuple(i + 2 for i in axes)
        data = self.field.reduce(np.sum(x.data, axis=inner, keepdims=keepdims))
        count = math.prod(x.shape[i] for i in axes)
        balls = None
        if x.shadow is not None:
            balls = shadow.wrapped(np.sum(x.shadow, axis=axes, keepdims=keepdims))
        return self._new(
            data,
            x.bound.summed(count),
            slope=None if x.slope is None else x.slope.summed(count),
            recipe=("sum", x, axes, keepdims),
            shadow=balls,
        )

    def cumulative_sum(self, x: Any, axis: int | None = None) -> Any:
        """Partial sums along an axis."""
        if is_integral(x):
            return np.cumsum(x, axis=axis)
        x = self.asarray(x)
        (along,) = axes_of(axis, x.ndim)
        count = x.shape[along]
        places = [self.index(x, (slice(None),) * along + (slice(0, k + 1),)) for k in range(count)]
        return self.stack([self.sum(part, axis=along) for part in places], axis=along)

    def rearrange(
        self,
        x: Any,
        move: Callable[[Any], Any],
        inner: Callable[[Any], Any] | None = None,  # noqa: ARG002 - all are moved by their places
    ) -> Any:
        """Entries moved, repeated or left out by a NumPy function."""
        if is_integral(x):
            return move(np.asarray(x))
        x = self.asarray(x)
        places = np.asarray(move(np.arange(x.size).reshape(x.shape)))
        if x.exact is not None:
            return self.constant(
                shadowless([entries_of(x.exact)[i] for i in places.reshape(-1)], places.shape)
            )
        return self._new(
            x.data.reshape((*x.data.shape[:2], x.size))[:, :, places],
            x,
            slope=x.slope,
            depth=x.depth,
            recipe=("move", x, places),
            shadow=None if x.shadow is None else shadow.wrapped(x.shadow.reshape(-1)[places]),
            truth=x.truth,
        )

    def concat(self, arrays: Sequence[Any], axis: int | None = 0) -> Any:
        """Arrays joined along an axis that they have."""
        if all(is_integral(x) for x in arrays):
            return np.concatenate(list(arrays), axis=axis)
        if axis is None:
            return self.concat([self.reshape(x, (-1,)) for x in arrays], 0)
        parts = [self.asarray(x) for x in arrays]
        along = axes_of(axis, parts[0].ndim)[0]
        if all(x.exact is not None for x in parts):
            return self.constant(np.concatenate([x.exact for x in parts], axis=along))
        count = max(x.data.shape[1] for x in parts)
        data = np.concatenate([self.padded(x.data, count) for x in parts], axis=along + 2)
        bound, slope = parts[0].bound, parts[0].slope
        for x in parts[1:]:
            bound, slope = bound.plus(x.bound), _either(slope, x.slope)
        balls = None
        if all(x.shadow is not None for x in parts):
            balls = np.concatenate([x.shadow for x in parts], axis=along)
        depth = min(self._depth(x, 1) for x in parts)
        return self._new(data, bound, slope=slope, depth=depth, shadow=balls)

    def index(self, x: Any, key: Any) -> Any:
        """x[key]."""
        return super().index(self.asarray(x), _plain_key(key))

    def take(self, x: Any, indices_: Any, axis: int | None = None) -> Any:
        """Slices of x at integer indices, along an axis."""
        return super().take(x, whole_numbers(indices_), axis)

    def one_hot(self, labels: Any, n: int) -> Any:
        """A new last axis of size n: 1 at the label, else 0."""
        return super().one_hot(whole_numbers(labels), n)


def _either(x: Bound | None, y: Bound | None) -> Bound | None:
    return y if x is None else x if y is None else x.plus(y)


def _holds_arrays(x: Any) -> bool:
    return any(
        _holds_arrays(part) if isinstance(part, list | tuple) else isinstance(part, FieldArray)
        for part in x
    )


def shadowless(entries: list[Any], shape: tuple[int, ...]) -> Any:
    """An object array of fractions, also of one or none."""
    return shadow.filled(entries, shape)


def whole_numbers(x: Any) -> Any:
    """An index as NumPy takes it; a constant of whole numbers is one."""
    if not isinstance(x, FieldArray):
        return indices(x)
    if x.exact is None or any(c.denominator != 1 for c in entries_of(x.exact)):
        raise unsupported("a computed value as an index; index with integer inputs or xp.arange")
    return np.array([int(c) for c in entries_of(x.exact)], dtype=np.int64).reshape(x.shape)


def _plain_key(key: Any) -> Any:
    if isinstance(key, tuple):
        return tuple(map(_plain_key, key))
    return whole_numbers(key) if isinstance(key, FieldArray) else key
