"""The `xp` of balls: arrays of entries, for everything that a forward may call.

Names that are compositions of others come from the shared part of the namespaces; here are the
primitives, entry by entry. Maxima, `where` and `clip` hand on the chosen entry itself, so that a
comparison of an entry with itself is decided.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
from flint import arb

from gradcheck.errors import ShapeError, UnsupportedOperation
from gradcheck.oracles.balls import entry as scalar
from gradcheck.oracles.balls.entry import Entry, Trouble, literal, troubled
from gradcheck.oracles.balls.rules import apply
from gradcheck.running.decision import BranchLog, Decision
from gradcheck.running.formats import FORMATS
from gradcheck.running.linear import parse
from gradcheck.running.namespace import Axis, Namespace, axes_of, is_integral, plain
from gradcheck.running.operand import Operand

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_add = np.frompyfunc(scalar.add, 2, 1)
_subtract = np.frompyfunc(scalar.subtract, 2, 1)
_multiply = np.frompyfunc(scalar.multiply, 2, 1)
_divide = np.frompyfunc(scalar.divide, 2, 1)
_power = np.frompyfunc(scalar.power, 2, 1)
_negative = np.frompyfunc(scalar.negative, 1, 1)
_order = np.frompyfunc(scalar.order, 2, 1)
_still = np.frompyfunc(Entry.still, 1, 1)
_motion = np.frompyfunc(
    lambda e: e if e.trouble else Entry(arb(0), e.tangent, e.moves or bool(e.tangent)), 1, 1
)
_literal = np.frompyfunc(lambda x: Entry(literal(x)), 1, 1)


def as_objects(x: Any) -> Any:
    """An array of objects, also where NumPy returned a single one."""
    if isinstance(x, np.ndarray):
        return x
    out = np.empty((), dtype=object)
    out[()] = x
    return out


class BallArray(Operand):
    """An array of entries.

    Attributes:
        entries: A NumPy array of `Entry` objects.
    """

    __slots__ = ("entries", "space")

    def __init__(self, space: BallNamespace, entries: Any) -> None:
        self.space = space
        self.entries: Any = as_objects(entries)

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the axes."""
        return tuple(self.entries.shape)

    def __repr__(self) -> str:
        return f"<BallArray of shape {self.shape}>"


class BallNamespace(Namespace):
    """The namespace at the precision that flint is set to.

    Its constants are made for that precision: make a new one for another.
    """

    def __init__(self) -> None:
        self.format = FORMATS["float64"]
        self.branches = BranchLog()
        self.pi = BallArray(self, Entry(arb.pi()))
        self.e = BallArray(self, Entry(arb(1).exp()))

    def asarray(self, x: Any) -> Any:
        """X as an array of entries; floats that are no input are literals."""
        if isinstance(x, BallArray):
            return x
        if isinstance(x, Decision):
            return self.where(x, 1, 0)
        if isinstance(x, Operand):
            problem = "a value of another namespace; use the xp that the forward was given"
            raise UnsupportedOperation(problem)
        if isinstance(x, list | tuple) and any(isinstance(one, Operand) for one in x):
            return self.stack(list(x))
        array = np.asarray(x)
        if array.dtype.kind not in "biufO":
            problem = f"xp takes real numbers, not {x!r}"
            raise UnsupportedOperation(problem)
        return BallArray(self, _literal(array.astype(object)))

    def _binary(self, function: Any, x: Any, y: Any) -> BallArray:
        return BallArray(self, function(self.asarray(x).entries, self.asarray(y).entries))

    # Arithmetic

    def negative(self, x: Any) -> Any:
        """-x."""
        return -x if is_integral(x) else BallArray(self, _negative(self.asarray(x).entries))

    def add(self, x: Any, y: Any) -> Any:
        """X + y."""
        return x + y if plain(x, y) else self._binary(_add, x, y)

    def subtract(self, x: Any, y: Any) -> Any:
        """X - y."""
        return x - y if plain(x, y) else self._binary(_subtract, x, y)

    def multiply(self, x: Any, y: Any) -> Any:
        """X * y."""
        return x * y if plain(x, y) else self._binary(_multiply, x, y)

    def divide(self, x: Any, y: Any) -> Any:
        """X / y."""
        return self._binary(_divide, x, y)

    def pow(self, x: Any, y: Any) -> Any:
        """X to the power y."""
        if plain(x, y) and np.all(np.asarray(y) >= 0):
            return x**y
        return self._binary(_power, x, y)

    def unary(self, name: str, x: Any) -> Any:
        """An elementary function by name."""
        function = np.frompyfunc(functools.partial(apply, name), 1, 1)
        return BallArray(self, function(self.asarray(x).entries))

    def logaddexp(self, x: Any, y: Any) -> Any:
        """The logarithm of exp x + exp y: balls have exponents enough to do without a shift."""
        return self.unary("log", self.add(self.unary("exp", x), self.unary("exp", y)))

    def logsumexp(self, x: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
        """The logarithm of Σ exp x."""
        return self.unary("log", self.sum(self.unary("exp", x), axis=axis, keepdims=keepdims))

    # Decisions

    def compare(self, name: str, x: Any, y: Any) -> Any:
        """A comparison by name; open where numbers that move are equal or their balls overlap."""
        if plain(x, y):
            return getattr(np, name)(x, y)
        known = as_objects(_order(self.asarray(x).entries, self.asarray(y).entries))
        wanted = {"greater": (1,), "greater_equal": (1, 0), "equal": (0,)}[name]
        decided = np.array([k is not None for k in known.flat], dtype=bool).reshape(known.shape)
        holds = np.array([k in wanted for k in known.flat], dtype=bool).reshape(known.shape)
        return Decision(self, decided & holds, decided & ~holds)

    def where(self, condition: Any, x: Any, y: Any) -> Any:
        """The entry of x where the condition holds, else that of y: selected, never multiplied."""
        if isinstance(condition, np.ndarray) and plain(x, y):
            return np.where(condition, x, y)
        choice = self.decision(condition)
        chosen = _select(
            choice.true, choice.false, self.asarray(x).entries, self.asarray(y).entries
        )
        return BallArray(self, chosen)

    def maximum(self, x: Any, y: Any) -> Any:
        """The larger one."""
        if plain(x, y):
            return np.maximum(x, y)
        x, y = self.asarray(x), self.asarray(y)
        return self.where(self.greater_equal(x, y), x, y)

    def minimum(self, x: Any, y: Any) -> Any:
        """The smaller one."""
        if plain(x, y):
            return np.minimum(x, y)
        x, y = self.asarray(x), self.asarray(y)
        return self.where(self.less_equal(x, y), x, y)

    # Reductions

    def sum(self, x: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
        """The sum over axes."""
        if is_integral(x):
            return np.sum(x, axis=axis, keepdims=keepdims)
        return self._reduced(scalar.total, x, axis, keepdims=keepdims)

    def max(self, x: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
        """The largest entry along axes."""
        if is_integral(x):
            return np.max(x, axis=axis, keepdims=keepdims)
        return self._reduced(scalar.largest, x, axis, keepdims=keepdims)

    def min(self, x: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
        """The smallest entry along axes."""
        if is_integral(x):
            return np.min(x, axis=axis, keepdims=keepdims)
        smallest = functools.partial(scalar.largest, sign=-1)
        return self._reduced(smallest, x, axis, keepdims=keepdims)

    def _reduced(
        self, reduce: Callable[[list[Entry]], Entry], x: Any, axis: Axis, *, keepdims: bool
    ) -> BallArray:
        entries = self.asarray(x).entries
        axes = axes_of(axis, entries.ndim)
        rest = [i for i in range(entries.ndim) if i not in axes]
        kept = tuple(entries.shape[i] for i in rest)
        rows = np.transpose(entries, (*rest, *axes)).reshape((*kept, -1) if entries.size else None)
        out = np.empty(kept, dtype=object)
        for place in np.ndindex(kept):
            out[place] = reduce(list(rows[place]) if entries.size else [])
        if keepdims:
            shape = tuple(1 if i in axes else n for i, n in enumerate(entries.shape))
            out = out.reshape(shape)
        return BallArray(self, out)

    def cumulative_sum(self, x: Any, axis: int | None = None) -> Any:
        """Partial sums along an axis."""
        if is_integral(x):
            return np.cumsum(x, axis=axis)
        entries = self.asarray(x).entries
        (along,) = axes_of(axis, entries.ndim)
        out = np.moveaxis(entries.copy(), along, 0)
        for i in range(1, len(out)):
            out[i] = _add(out[i - 1], out[i])
        return BallArray(self, np.moveaxis(out, 0, along))

    def einsum(self, equation: str, *operands: Any) -> Any:
        """A sum of products: operands aligned along all letters, multiplied, summed."""
        letters, out = parse(equation)
        arrays = [self.asarray(x).entries for x in operands]
        sizes: dict[str, int] = {}
        for group, array in zip(letters, arrays, strict=True):
            if len(group) != array.ndim:
                problem = (
                    f"einsum({equation!r}): {group!r} stands for an array of {array.ndim} axes"
                )
                raise ShapeError(problem)
            sizes.update(zip(group, array.shape, strict=True))
        order = [*out, *(s for s in sizes if s not in out)]
        aligned = [_aligned(a, g, order) for g, a in zip(letters, arrays, strict=True)]
        product = BallArray(self, functools.reduce(_multiply, aligned))
        summed = tuple(range(len(out), len(order)))
        return self.sum(product, axis=summed) if summed else product

    # Linear algebra

    def inv(self, x: Any) -> Any:
        """The inverse X of (a stack of) square matrices: adjugate over determinant, and -X dA X."""
        values, motion = self._apart(x)
        adjugate, det = self._faddeev(values)
        inverse = self.divide(adjugate, self.reshape(det, (*det.shape, 1, 1)))
        moved = self.matmul(inverse, self.matmul(motion, inverse))
        return self.subtract(inverse, moved)

    def det(self, x: Any) -> Any:
        """The determinant of (a stack of) square matrices; it moves by the trace of adj(A) dA."""
        values, motion = self._apart(x)
        adjugate, det = self._faddeev(values)
        moved = self.sum(self.multiply(self.matrix_transpose(adjugate), motion), axis=(-2, -1))
        return self.add(det, moved)

    def _apart(self, x: Any) -> tuple[BallArray, BallArray]:
        """The values without derivatives, and zeros with the derivatives."""
        entries = self.asarray(x).entries
        return BallArray(self, _still(entries)), BallArray(self, _motion(entries))

    def _faddeev(self, x: BallArray) -> tuple[Any, Any]:
        """Adjugate and determinant without pivots, by Faddeev and LeVerrier's recursion.

        M_1 = 1, c_k = -tr(A M_k)/k, M_{k+1} = A M_k + c_k; then det A = (-1)^n c_n and
        adj A = (-1)^(n-1) M_n. Only whole numbers divide, so that it holds for singular A too.
        """
        n = x.shape[-1]
        one = self.eye(n)
        inner, c = self.broadcast_to(one, x.shape), self.ones(x.shape[:-2])
        for k in range(1, n + 1):
            product = self.matmul(x, inner)
            c = self.divide(self.negative(self.trace(product)), k)
            if k < n:
                inner = self.add(product, self.multiply(self.reshape(c, (*c.shape, 1, 1)), one))
        odd = n % 2
        return (inner if odd else self.negative(inner)), (self.negative(c) if odd else c)

    # Moving entries

    def rearrange(
        self,
        x: Any,
        move: Callable[[Any], Any],
        inner: Callable[[Any], Any] | None = None,  # noqa: ARG002
    ) -> Any:
        """Entries moved, repeated or left out by a NumPy function."""
        if is_integral(x):
            return move(np.asarray(x))
        return BallArray(self, move(self.asarray(x).entries))

    def concat(self, arrays: Sequence[Any], axis: int | None = 0) -> Any:
        """Arrays joined along an axis that they have."""
        if all(is_integral(x) for x in arrays):
            return np.concatenate(list(arrays), axis=axis)
        return BallArray(self, np.concatenate([self.asarray(x).entries for x in arrays], axis=axis))


def _choose(true: bool, false: bool, x: Entry, y: Entry) -> Entry:
    if true or x is y:
        return x
    return y if false else troubled(Trouble.STRADDLES)


_select = np.frompyfunc(_choose, 4, 1)


def _aligned(array: Any, letters: str, order: Sequence[str]) -> Any:
    """The array with one axis for each letter of the order, of size 1 where it has none.

    A letter that occurs twice reads the diagonal.
    """
    grids = []
    for letter, size in zip(letters, array.shape, strict=True):
        shape = [1] * len(order)
        shape[order.index(letter)] = size
        grids.append(np.arange(size).reshape(shape))
    if not grids:
        return as_objects(array).reshape((1,) * len(order))
    return array[tuple(grids)]
