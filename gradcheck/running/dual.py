"""Dual numbers with error bounds: a forward run on them gives its exact derivative, enclosed.

Off ties each operation is the chain rule. At an exact tie (a difference of 0 with error 0) the
branch is the one that lies just ahead in each direction, so that the result is the exact one-sided
directional derivative. Where rounding errors leave a decision open, both branches are enclosed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.running import tangent
from gradcheck.running.balls import ErrorArray, contenders, quiet
from gradcheck.running.decision import BranchLog, Decision
from gradcheck.running.error import ErrorNamespace
from gradcheck.running.formats import Floats, format_of
from gradcheck.running.namespace import Axis, Namespace, axes_of, is_integral, plain
from gradcheck.running.operand import Operand
from gradcheck.running.partials import PARTIALS
from gradcheck.running.tangent import Tangent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Part = tuple[Tangent | None, ErrorArray | None]


class Dual(Operand):
    """A value and its directional derivatives.

    Attributes:
        value: The value, an `ErrorArray`.
        tangent: Its derivatives, with one leading axis of directions.
        uses: How many operations took it so far.
    """

    __slots__ = ("space", "tangent", "uses", "value")

    def __init__(self, space: Namespace, value: ErrorArray, tangent: Tangent) -> None:
        self.space = space
        self.value = value
        self.tangent = tangent
        self.uses = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the axes."""
        return self.value.shape

    def __repr__(self) -> str:
        return f"Dual({self.value!r}, directions={self.tangent.shape[0]})"


class DualNamespace(Namespace):
    """The `xp` that carries directional derivatives; constants in it are plain `ErrorArray`s.

    Args:
        dtype: The target format.
        side: +1 or -1, the side from which variables approach the point.
        every: Whether a tie leaves every branch open, instead of the one just ahead: tangents then
            enclose whatever element of its subdifferential each operation takes.
    """

    level = 2

    def __init__(self, dtype: Any = "float64", side: int = 1, *, every: bool = False) -> None:
        self.format = format_of(dtype)
        self.side = side
        self.every = every
        self.branches = BranchLog()
        self.base = ErrorNamespace(dtype, self.branches)
        self.pi, self.e = self.base.pi, self.base.e
        self.directions = 0
        self.reuses = 0
        self.reach: Any = 0.0

    def variable(self, x: Any) -> Dual:
        """The variable of the run: one direction an entry."""
        value = self.base.asarray(x)
        self.directions = value.size
        return Dual(self, value, tangent.seed(value.shape, self.side))

    def closed(self, t: Tangent) -> tuple[Floats, Floats]:
        """Value and error of a result's tangents, with what only a whole reverse pass can add.

        Adjoints of a value that several operations use are added up: at most one rounding for each
        reuse in the program. An adjoint below the normal range may be flushed anywhere: the flush
        error times the derivative of that place, summed over all places.
        """
        inner = (...,) + (None,) * (t.value.ndim - 1)
        flushed = np.broadcast_to(self.format.flush * np.asarray(self.reach), t.shape[:1])[inner]
        late = self.format.rate(1.0) * self.reuses * t.paths
        error = (t.error + late + np.where(t.paths > 0, flushed, 0.0)) * tangent._GROW
        known = np.isfinite(t.value) & ~np.isnan(error)  # 0 · inf, where a path overflows
        return np.asarray(t.value), np.where(known, error, np.inf)

    # Taking operands apart and putting results together

    def asarray(self, x: Any) -> Any:
        """X as a value of this namespace."""
        if isinstance(x, Dual):
            return x
        if isinstance(x, Decision):
            return self.where(x, 1, 0)
        if isinstance(x, list | tuple) and any(isinstance(one, Operand) for one in x):
            return self.stack(list(x))
        return self.base.asarray(x)

    def _split(self, x: Any) -> tuple[ErrorArray, Tangent | None]:
        """Value and tangent of an operand; this counts as a use of it."""
        x = self.asarray(x)
        if not isinstance(x, Dual):
            return x, None
        x.uses += 1
        self.reuses += x.uses > 1
        return x.value, x.tangent

    def _dual(self, value: ErrorArray, t: Tangent | None) -> Any:
        if t is None:
            return value
        inner = tuple(range(1, t.value.ndim))
        total = np.sum(t.paths, axis=inner)
        if not np.all(np.isfinite(total)):
            total = np.sum(t.paths, axis=inner, where=np.isfinite(t.paths))
        self.reach = self.reach + total
        return Dual(self, value, t)

    def _combined(self, value: ErrorArray, *parts: Part) -> Any:
        """Σ tangent times local derivative (None: 1), broadcast to the shape of the value."""
        total: Tangent | None = None
        for t, partial in parts:
            if t is None:
                continue
            term = tangent.spread_to(self.format, t, value.shape)
            if partial is not None:
                term = tangent.scaled(self.format, term, partial)
            total = term if total is None else tangent.added(self.format, total, term)
        return self._dual(value, None if total is None else total.filled(value.shape))

    # Arithmetic

    def negative(self, x: Any) -> Any:
        """-x, exactly."""
        if is_integral(x):
            return -x
        v, t = self._split(x)
        return self._dual(-v, None if t is None else tangent.negated(t))

    @quiet
    def add(self, x: Any, y: Any) -> Any:
        """X + y."""
        if plain(x, y):
            return x + y
        (v, s), (w, t) = self._split(x), self._split(y)
        return self._combined(self.base.add(v, w), (s, None), (t, None))

    @quiet
    def subtract(self, x: Any, y: Any) -> Any:
        """X - y."""
        if plain(x, y):
            return x - y
        (v, s), (w, t) = self._split(x), self._split(y)
        t = None if t is None else tangent.negated(t)
        return self._combined(self.base.subtract(v, w), (s, None), (t, None))

    @quiet
    def multiply(self, x: Any, y: Any) -> Any:
        """X * y."""
        if plain(x, y):
            return x * y
        (v, s), (w, t) = self._split(x), self._split(y)
        return self._combined(self.base.multiply(v, w), (s, w), (t, v))

    @quiet
    def divide(self, x: Any, y: Any) -> Any:
        """X / y: (dx - (x / y) dy) / y."""
        (v, s), (w, t) = self._split(x), self._split(y)
        value = self.base.divide(v, w)
        by_x = None if s is None else self.base.divide(1, w)
        by_y = None if t is None else self._divisor_partial(v, w, value)
        return self._combined(value, (s, by_x), (t, by_y))

    def _divisor_partial(self, x: ErrorArray, y: ErrorArray, quotient: ErrorArray) -> ErrorArray:
        """-(x / y) / y, also where it is computed as -x y**-2, as JAX does, and y**-2 is flushed."""
        partial: ErrorArray = -self.base.divide(quotient, y)
        vanishing = ~(1 / np.square(y.upper) >= self.format.normal) & (x.upper > 0)
        if not np.count_nonzero(vanishing):
            return partial
        error = partial.error + self.format.flush * np.where(vanishing, x.upper, 0.0)
        return ErrorArray(self.base, partial.value, error)

    @quiet
    def pow(self, x: Any, y: Any) -> Any:
        """X to the power y: y x^(y-1) dx + x^y log(x) dy."""
        if plain(x, y):
            return self.base.pow(x, y)
        (v, s), (w, t) = self._split(x), self._split(y)
        value = self.base.pow(v, w)
        by_x = None if s is None else self._power_partial(v, w)
        by_y = None if t is None else value * self.base.unary("log", v)
        return self._combined(value, (s, by_x), (t, by_y))

    def _power_partial(self, x: ErrorArray, y: ErrorArray) -> Any:
        if y.radius is None and not np.any(y.value):
            return self.base.asarray(np.zeros(()))
        less = y.value - 1.0
        kept = (less + 1.0 == y.value) & (self.format.rounded(less) == less)
        exact = y.radius is None and np.all(kept)
        lower = ErrorArray(self.base, less) if exact else self.base.subtract(y, 1)
        return self.base.asarray(self.base.multiply(y, self.base.pow(x, lower)))

    @quiet
    def unary(self, name: str, x: Any) -> Any:
        """An elementary function by name."""
        v, t = self._split(x)
        value = self.base.unary(name, v)
        if t is None:
            return value
        return self._dual(
            value, tangent.scaled(self.format, t, PARTIALS[name](self.base, v, value))
        )

    @quiet
    def abs(self, x: Any) -> Any:
        """|x|; at an exact zero |dx|."""
        if is_integral(x):
            return np.abs(x)
        v, t = self._split(x)
        if t is None:
            return self.base.abs(v)
        choice = self._compared("greater_equal", v, t, self.base.asarray(0), None)
        return self._dual(self.base.abs(v), self._chosen(choice, t, tangent.negated(t), v.shape))

    @quiet
    def logaddexp(self, x: Any, y: Any) -> Any:
        """The logarithm of exp x + exp y."""
        (v, s), (w, t) = self._split(x), self._split(y)
        value = self.base.logaddexp(v, w)
        by_x = None if s is None else self.base.unary("exp", v - value)
        by_y = None if t is None else self.base.unary("exp", w - value)
        return self._combined(value, (s, by_x), (t, by_y))

    @quiet
    def logsumexp(self, x: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
        """The logarithm of Σ exp x: Σ exp(x - result) dx."""
        v, t = self._split(x)
        axes = axes_of(axis, v.ndim)
        whole = self.base.logsumexp(v, axes, keepdims=True)
        value = whole if keepdims else self.base.squeeze(whole, axes)
        if t is None:
            return value
        terms = tangent.scaled(self.format, t, self.base.unary("exp", v - whole))
        return self._dual(value, tangent.summed(self.format, terms, axes, keepdims=keepdims))

    # Decisions

    @quiet
    def compare(self, name: str, x: Any, y: Any) -> Any:
        """A comparison by name: greater, greater_equal or equal."""
        if plain(x, y):
            return self.base.compare(name, x, y)
        (v, s), (w, t) = self._split(x), self._split(y)
        return self._compared(name, v, s, w, t)

    def _compared(
        self, name: str, v: ErrorArray, s: Tangent | None, w: ErrorArray, t: Tangent | None
    ) -> Decision:
        choice: Decision = self.base.compare(name, v, w)
        result = Decision(self, choice.true, choice.false)
        tie = (v.value == w.value) & (v.error == 0) & (w.error == 0)
        if (s is None and t is None) or not np.count_nonzero(tie):
            return result
        below, still, above, live = self._motion(s, t, tie.shape)
        ties = int(np.count_nonzero(tie & np.any(live, axis=0)))
        self.branches.ties += ties
        if ties:
            true, false = choice.true, choice.false
            if self.every:
                open_ = tie & live
                moved = (true & ~open_, false & ~open_)
            elif name == "equal":
                moved = (np.where(tie, still, true), np.where(tie, above | below, false))
            else:
                moved = (
                    np.where(tie, above | (still & true), true),
                    np.where(tie, below | (still & false), false),
                )
            result.ahead = moved
        return result

    def _motion(self, s: Tangent | None, t: Tangent | None, shape: tuple[int, ...]) -> Any:
        """Where x - y falls, stays or rises just ahead, and where it depends on the direction."""
        nothing = np.zeros((self.directions, *shape))
        value, error, live = nothing, nothing, nothing > 0
        for sign, one in ((1.0, s), (-1.0, t)):
            if one is not None:
                near = one.reached(shape)
                value, error = value + sign * near.value, error + near.error
                live = live | (near.paths > 0) | (near.error > 0)
        return value < -error, (value == 0) & (error == 0), value > error, live

    def _chosen(
        self, choice: Decision, s: Tangent | None, t: Tangent | None, shape: tuple[int, ...]
    ) -> Tangent:
        """The tangents of the branch just ahead, both where that is open."""
        nothing = Tangent(*(np.zeros((self.directions, *shape)),) * 3)
        s = nothing if s is None else tangent.spread_to(self.format, s, shape)
        t = nothing if t is None else tangent.spread_to(self.format, t, shape)
        true, false = choice.masks_ahead(len(shape))
        result = Tangent(
            *(np.where(true, a, b) for a, b in zip(_arrays(s), _arrays(t), strict=True))
        )
        open_ = ~(true | false)
        if np.count_nonzero(open_):
            low = np.minimum(s.value - s.error, t.value - t.error)
            high = np.maximum(s.value + s.error, t.value + t.error)
            both = tangent.joined(low, high, np.maximum(s.paths, t.paths))
            pairs = zip(_arrays(both), _arrays(result), strict=True)
            result = Tangent(*(np.where(open_, a, b) for a, b in pairs))
        return result.filled(shape)

    @quiet
    def where(self, condition: Any, x: Any, y: Any) -> Any:
        """X where the condition holds, else y; where the value jumps at a tie, anything."""
        if isinstance(condition, np.ndarray) and plain(x, y):
            return np.where(condition, x, y)
        choice = self.decision(condition)
        (v, s), (w, t) = self._split(x), self._split(y)
        value = self.base.where(choice, v, w)
        if s is None and t is None and choice.ahead is None:
            return value
        result = self._chosen(choice, s, t, value.shape)
        if choice.ahead is not None:
            true, false = choice.masks_ahead(value.ndim)
            left = (choice.true & ~true) | (choice.false & ~false)
            jump = left & (np.abs(v.value - w.value) > (v.error + w.error))
            result.error = np.where(jump, np.inf, result.error)
        return self._dual(value, result)

    @quiet
    def maximum(self, x: Any, y: Any) -> Any:
        """The larger one; at an exact tie the larger derivative."""
        if plain(x, y):
            return np.maximum(x, y)
        (v, s), (w, t) = self._split(x), self._split(y)
        choice = self._compared("greater_equal", v, s, w, t)
        value = self.base.larger(choice, v, w)
        if s is None and t is None:
            return value
        return self._dual(value, self._chosen(choice, s, t, value.shape))

    @quiet
    def max(self, x: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
        """The largest entry; at exact ties the largest derivative among them."""
        if is_integral(x):
            return np.max(x, axis=axis, keepdims=keepdims)
        v, t = self._split(x)
        axes = axes_of(axis, v.ndim)
        value = self.base.max(v, axes, keepdims=keepdims)
        if t is None:
            return value
        first, tied = contenders(v, axes)
        inner = tuple(i + 1 for i in axes)
        if np.count_nonzero(first) == value.size:
            best = t.map(lambda a: np.sum(np.where(first, a, 0.0), axis=inner, keepdims=keepdims))
            return self._dual(value, best)
        live = np.any((t.paths > 0) & first, axis=(0, *inner))
        self.branches.ties += int(np.count_nonzero(tied & live))
        exact = np.reshape(tied, value.shape) & (not self.every)
        best = _best(t, first, exact, inner, keepdims=keepdims)
        return self._dual(value, best)

    # Sums and products

    @quiet
    def sum(self, x: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
        """The sum over axes."""
        if is_integral(x):
            return np.sum(x, axis=axis, keepdims=keepdims)
        v, t = self._split(x)
        axes = axes_of(axis, v.ndim)
        value = self.base.sum(v, axes, keepdims=keepdims)
        if t is None:
            return value
        return self._dual(value, tangent.summed(self.format, t, axes, keepdims=keepdims))

    @quiet
    def cumulative_sum(self, x: Any, axis: int | None = None) -> Any:
        """Partial sums along an axis."""
        if is_integral(x):
            return np.cumsum(x, axis=axis)
        v, t = self._split(x)
        (along,) = axes_of(axis, v.ndim)
        value = self.base.cumulative_sum(v, along)
        return self._dual(value, None if t is None else tangent.cumulated(self.format, t, along))

    @quiet
    def einsum(self, equation: str, *operands: Any) -> Any:
        """A sum of products: one term an operand that has tangents."""
        parts = [self._split(x) for x in operands]
        values = [v for v, _ in parts]
        value = self.base.einsum(equation, *values)
        total: Tangent | None = None
        for place, (_, t) in enumerate(parts):
            if t is None:
                continue
            term = tangent.contracted(self.format, equation, place, t, values)
            total = term if total is None else tangent.added(self.format, total, term)
        return self._dual(value, total)

    @quiet
    def inv(self, x: Any) -> Any:
        """The inverse X of A: -X dA X."""
        v, t = self._split(x)
        value = self.base.inv(v)
        if t is None:
            return value
        s = "abcdefghuvw"[: v.ndim - 2]
        equation = f"{s}ij,{s}jk,{s}kl->{s}il"
        moved = tangent.contracted(self.format, equation, 1, t, [value, v, value])
        return self._dual(value, tangent.negated(moved))

    @quiet
    def det(self, x: Any) -> Any:
        """The determinant: Σ of cofactors times dA."""
        v, t = self._split(x)
        value = self.base.det(v)
        if t is None:
            return value
        cofactors = value[..., None, None] * self.base.matrix_transpose(self.base.inv(v))
        terms = tangent.scaled(self.format, t, cofactors)
        axes = (v.ndim - 2, v.ndim - 1)
        return self._dual(value, tangent.summed(self.format, terms, axes, keepdims=False))

    # Moving entries

    def rearrange(
        self, x: Any, move: Callable[[Any], Any], inner: Callable[[Any], Any] | None = None
    ) -> Any:
        """Entries moved, repeated or left out by a NumPy function."""
        if is_integral(x):
            return move(np.asarray(x))
        v, t = self._split(x)
        value = self.base.rearrange(v, move)
        if t is None:
            return value
        if inner is not None:
            return self._dual(value, t.map(inner))
        places = np.asarray(move(np.arange(v.size).reshape(v.shape)))
        times = np.bincount(places.reshape(-1), minlength=1).max() if v.size else 1
        flat = t.map(lambda a: a.reshape((len(a), v.size))[:, places])
        return self._dual(value, tangent.repeated(self.format, flat, float(times)))

    def concat(self, arrays: Sequence[Any], axis: int | None = 0) -> Any:
        """Arrays joined along an axis that they have."""
        if all(is_integral(x) for x in arrays):
            return np.concatenate(list(arrays), axis=axis)
        if axis is None:
            return self.concat([self.reshape(x, (-1,)) for x in arrays], 0)
        parts = [self._split(x) for x in arrays]
        value = self.base.concat([v for v, _ in parts], axis)
        if all(t is None for _, t in parts):
            return value
        zeros = [np.zeros((self.directions, *v.shape)) for v, _ in parts]
        blocks = [
            Tangent(z, z, z) if t is None else t for z, (_, t) in zip(zeros, parts, strict=True)
        ]
        along = axes_of(axis, value.ndim)[0] + 1
        joined = (
            np.concatenate(rows, axis=along) for rows in zip(*map(_arrays, blocks), strict=True)
        )
        return self._dual(value, Tangent(*joined))


def _arrays(t: Tangent) -> tuple[Any, Any, Any]:
    return t.value, t.error, t.paths


def _best(t: Tangent, first: Any, tied: Any, inner: tuple[int, ...], *, keepdims: bool) -> Tangent:
    """The tangents of a maximum with several contenders: the largest at ties, else all of them."""

    def over(reduce: Any, a: Any, absent: float) -> Any:
        return reduce(np.where(first, a, absent), axis=inner, keepdims=keepdims)

    paths = over(np.max, t.paths, 0.0)
    largest = Tangent(over(np.max, t.value, -np.inf), over(np.max, t.error, 0.0), paths)
    low, high = over(np.min, t.value - t.error, np.inf), over(np.max, t.value + t.error, -np.inf)
    every = tangent.joined(low, high, paths)
    single = np.sum(first, axis=tuple(i - 1 for i in inner), keepdims=keepdims) == 1
    pairs = zip(_arrays(largest), _arrays(every), strict=True)
    return Tangent(*(np.where(single | tied, a, b) for a, b in pairs))
