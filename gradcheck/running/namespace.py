"""The part of `xp` that error-carrying namespaces share: names defined through a few primitives.

A subclass gives the arithmetic, `where`, comparisons, sums, extrema, einsum, inverses and
`rearrange`; whatever else a forward may call is written here once, as a user would write it.
Integer and boolean NumPy arrays (labels, indices, masks) are exact and stay what they are.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.errors import UnsupportedOperation
from gradcheck.running.decision import BranchLog, Decision
from gradcheck.running.operand import Operand

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradcheck.running.formats import Format

Axis = int | tuple[int, ...] | None

ELEMENTARY = (
    "acos", "asin", "atan", "cos", "cosh", "erf", "exp", "expm1", "log", "log1p", "sigmoid", "sin",
    "sinh", "sqrt", "tan", "tanh",
)  # fmt: skip

EXACT_KINDS = "biu"


def is_integral(x: Any) -> bool:
    """Whether x is a plain array of integers or booleans, which no rounding touches."""
    return isinstance(x, np.ndarray | np.generic) and x.dtype.kind in EXACT_KINDS


def plain(x: Any, y: Any) -> bool:
    """Whether both are integers and one of them is an array: NumPy computes that exactly."""
    whole = isinstance(x, int) or is_integral(x), isinstance(y, int) or is_integral(y)
    return all(whole) and (is_integral(x) or is_integral(y))


def axes_of(axis: Axis, rank: int) -> tuple[int, ...]:
    """The axes as a tuple of non-negative numbers; None is all of them."""
    if axis is None:
        return tuple(range(rank))
    axes = axis if isinstance(axis, tuple | list) else (axis,)
    for one in axes:
        if not -rank <= one < rank:
            problem = f"axis {one} of an array with {rank} axes"
            raise np.exceptions.AxisError(problem)
    return tuple(one % rank for one in axes)


class Linalg:
    """`xp.linalg`: inv and det of (stacks of) square matrices."""

    def __init__(self, space: Namespace) -> None:
        self.inv: Callable[[Any], Any] = space.inv
        self.det: Callable[[Any], Any] = space.det


class Namespace(ABC):
    """Everything in `XP_NAMES`, given the primitives.

    Attributes:
        format: The format in which the results are to be computed.
        branches: The ties and the ambiguous decisions met so far (`log` is the logarithm).
        level: Which namespace computes where values of two meet: the higher one.
    """

    level = 0

    format: Format
    branches: BranchLog
    inf = float("inf")
    newaxis = None
    pi: Any
    e: Any

    @functools.cached_property
    def linalg(self) -> Linalg:
        """The functions of `xp.linalg`."""
        return Linalg(self)

    # Primitives

    @abstractmethod
    def asarray(self, x: Any) -> Any:
        """X as a value of this namespace."""

    @abstractmethod
    def unary(self, name: str, x: Any) -> Any:
        """An elementary function by name."""

    @abstractmethod
    def negative(self, x: Any) -> Any:
        """-x, exactly."""

    @abstractmethod
    def add(self, x: Any, y: Any) -> Any:
        """X + y."""

    @abstractmethod
    def subtract(self, x: Any, y: Any) -> Any:
        """X - y."""

    @abstractmethod
    def multiply(self, x: Any, y: Any) -> Any:
        """X * y."""

    @abstractmethod
    def divide(self, x: Any, y: Any) -> Any:
        """X / y."""

    @abstractmethod
    def pow(self, x: Any, y: Any) -> Any:
        """X to the power y."""

    @abstractmethod
    def logaddexp(self, x: Any, y: Any) -> Any:
        """The logarithm of exp x + exp y."""

    @abstractmethod
    def logsumexp(self, x: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
        """The logarithm of Σ exp x."""

    @abstractmethod
    def maximum(self, x: Any, y: Any) -> Any:
        """The larger one."""

    @abstractmethod
    def compare(self, name: str, x: Any, y: Any) -> Any:
        """A comparison by name: a `Decision`, or a boolean array of plain integers."""

    @abstractmethod
    def where(self, condition: Any, x: Any, y: Any) -> Any:
        """X where the condition holds, else y."""

    @abstractmethod
    def sum(self, x: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
        """The sum over axes."""

    @abstractmethod
    def max(self, x: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
        """The largest entry along axes."""

    @abstractmethod
    def cumulative_sum(self, x: Any, axis: int | None = None) -> Any:
        """Partial sums along an axis."""

    @abstractmethod
    def einsum(self, equation: str, *operands: Any) -> Any:
        """A sum of products, with an explicit output."""

    @abstractmethod
    def inv(self, x: Any) -> Any:
        """The inverse of (a stack of) square matrices."""

    @abstractmethod
    def det(self, x: Any) -> Any:
        """The determinant of (a stack of) square matrices."""

    @abstractmethod
    def rearrange(
        self, x: Any, move: Callable[[Any], Any], inner: Callable[[Any], Any] | None = None
    ) -> Any:
        """Entries moved, repeated or left out by a NumPy function.

        `inner`, where given, does the same to an array with one more axis in front, and must not
        repeat an entry.
        """

    @abstractmethod
    def concat(self, arrays: Sequence[Any], axis: int | None = 0) -> Any:
        """Arrays joined along an axis that they have."""

    # Arithmetic

    def abs(self, x: Any) -> Any:
        """|x|."""
        return np.abs(x) if is_integral(x) else self.where(self.greater_equal(x, 0), x, -x)

    def sign(self, x: Any) -> Any:
        """-1, 0 or 1."""
        if is_integral(x):
            return np.sign(x)
        below = self.where(self.less(x, 0), -1, 0)
        return self.where(self.greater(x, 0), 1, below)

    def step(self, x: Any) -> Any:
        """1 where x > 0, else 0."""
        return self.where(self.greater(x, 0), 1, 0)

    def square(self, x: Any) -> Any:
        """X * x."""
        return self.multiply(x, x)

    def minimum(self, x: Any, y: Any) -> Any:
        """The smaller one."""
        return self.negative(self.maximum(self.negative(x), self.negative(y)))

    def clip(self, x: Any, min: Any = None, max: Any = None) -> Any:
        """X held between bounds."""
        if min is not None:
            x = self.maximum(x, min)
        return x if max is None else self.minimum(x, max)

    def power(self, x: Any, exponent: Fraction | float) -> Any:
        """X to a rational power."""
        exponent = Fraction(exponent)
        if exponent.denominator == 1:
            return self.pow(x, int(exponent))
        if Fraction(float(exponent)) == exponent:
            return self.pow(x, float(exponent))
        return self.pow(x, self.divide(exponent.numerator, exponent.denominator))

    def function(self, name: str) -> Callable[[Any], Any]:
        """A function by its name in an einsum operand such as `"exp(a)"`."""
        if name in ("abs", "sign", "step"):
            own: Callable[[Any], Any] = getattr(self, name)
            return own
        if name not in ELEMENTARY:
            problem = f"no function {name!r}; write one of {', '.join(ELEMENTARY)}, abs, sign, step"
            raise UnsupportedOperation(problem)
        return functools.partial(self.unary, name)

    # Comparisons

    def greater(self, x: Any, y: Any) -> Any:
        """X > y."""
        return self.compare("greater", x, y)

    def greater_equal(self, x: Any, y: Any) -> Any:
        """X >= y."""
        return self.compare("greater_equal", x, y)

    def less(self, x: Any, y: Any) -> Any:
        """X < y."""
        return self.compare("greater", y, x)

    def less_equal(self, x: Any, y: Any) -> Any:
        """X <= y."""
        return self.compare("greater_equal", y, x)

    def equal(self, x: Any, y: Any) -> Any:
        """X == y."""
        return self.compare("equal", x, y)

    def not_equal(self, x: Any, y: Any) -> Any:
        """X != y."""
        return ~self.compare("equal", x, y)

    def decision(self, condition: Any) -> Decision:
        """A condition as a `Decision`; numbers hold where they are not zero."""
        if isinstance(condition, Decision):
            return condition
        if isinstance(condition, Operand):
            condition = self.not_equal(condition, 0)
            if isinstance(condition, Decision):
                return condition
        true = np.asarray(condition, dtype=bool)
        return Decision(self, true, ~true)

    # Reductions

    def min(self, x: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
        """The smallest entry along axes."""
        return self.negative(self.max(self.negative(x), axis=axis, keepdims=keepdims))

    def _count(self, x: Any, axis: Axis) -> int:
        shape = np.shape(x) if not isinstance(x, Operand) else x.shape
        return int(np.prod([shape[i] for i in axes_of(axis, len(shape))], dtype=np.int64))

    def mean(self, x: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
        """The mean over axes."""
        return self.divide(self.sum(x, axis=axis, keepdims=keepdims), self._count(x, axis))

    def var(
        self, x: Any, axis: Axis = None, *, correction: float = 0, keepdims: bool = False
    ) -> Any:
        """The variance over axes, divided by n - correction."""
        gap = self.subtract(x, self.mean(x, axis=axis, keepdims=True))
        total = self.sum(self.square(gap), axis=axis, keepdims=keepdims)
        return self.divide(total, self._count(x, axis) - correction)

    def std(
        self, x: Any, axis: Axis = None, *, correction: float = 0, keepdims: bool = False
    ) -> Any:
        """The square root of the variance."""
        return self.unary("sqrt", self.var(x, axis, correction=correction, keepdims=keepdims))

    def prod(self, x: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
        """The product over axes."""
        if is_integral(x):
            return np.prod(x, axis=axis, keepdims=keepdims)
        x = self.asarray(x)
        axes = axes_of(axis, x.ndim)
        rest = tuple(i for i in range(x.ndim) if i not in axes)
        kept = tuple(x.shape[i] for i in rest)
        rows = self.reshape(self.permute_dims(x, axes + rest), (self._count(x, axes), *kept))
        total = functools.reduce(self.multiply, rows, self.ones(kept))
        if not keepdims:
            return total
        return self.reshape(total, tuple(1 if i in axes else n for i, n in enumerate(x.shape)))

    # Linear algebra

    def matmul(self, x: Any, y: Any) -> Any:
        """The matrix product, over the last two axes."""
        x, y = self.asarray(x), self.asarray(y)
        if not x.ndim or not y.ndim:
            problem = "matmul of a scalar; write * instead"
            raise UnsupportedOperation(problem)
        stack = "abcdefghijklmnopqrstuvw"[: max(x.ndim, y.ndim, 2) - 2]
        left = "z" if x.ndim == 1 else stack[len(stack) - x.ndim + 2 :] + "xz"
        right = "z" if y.ndim == 1 else stack[len(stack) - y.ndim + 2 :] + "zy"
        x, y = self._stacked(x, y, left[:-2]), self._stacked(y, x, right[:-2])
        out = stack + "x" * (x.ndim > 1) + "y" * (y.ndim > 1)
        return self.einsum(f"{left},{right}->{out}", x, y)

    def _stacked(self, x: Any, other: Any, letters: str) -> Any:
        """X with the leading axes of size 1 broadcast to those of the other factor."""
        if not letters or other.ndim < 3:
            return x
        rank = min(x.ndim, other.ndim) - 2
        sizes = np.broadcast_shapes(x.shape[:-2][-rank:], other.shape[:-2][-rank:])
        shape = (*x.shape[: x.ndim - 2 - rank], *sizes, *x.shape[-2:])
        return x if shape == x.shape else self.broadcast_to(x, shape)

    def matrix_transpose(self, x: Any) -> Any:
        """The last two axes swapped."""
        return self.rearrange(x, lambda t: np.swapaxes(t, -1, -2), lambda t: np.swapaxes(t, -1, -2))

    def diagonal(self, x: Any) -> Any:
        """The diagonal of the last two axes."""

        def move(t: Any) -> Any:
            return np.diagonal(t, axis1=-2, axis2=-1)

        return self.rearrange(x, move, move)

    def trace(self, x: Any) -> Any:
        """The sum of the diagonal of the last two axes."""
        return self.sum(self.diagonal(x), axis=-1)

    def tril(self, x: Any, k: int = 0) -> Any:
        """X below the k-th diagonal of the last two axes, zero above."""
        x = self.asarray(x)
        return self.where(np.tri(x.shape[-2], x.shape[-1], k) > 0, x, 0)

    def triu(self, x: Any, k: int = 0) -> Any:
        """X above the k-th diagonal of the last two axes, zero below."""
        x = self.asarray(x)
        return self.where(np.tri(x.shape[-2], x.shape[-1], k - 1) > 0, 0, x)

    # Shapes

    def index(self, x: Any, key: Any) -> Any:
        """x[key]."""
        if isinstance(x, Decision):
            ahead = x.ahead
            if ahead is not None:
                ahead = (np.stack([m[key] for m in ahead[0]]), np.stack([m[key] for m in ahead[1]]))
            return Decision(self, np.asarray(x.true[key]), np.asarray(x.false[key]), ahead)
        key = tuple(map(indices, key)) if isinstance(key, tuple) else indices(key)
        basic = all(
            part is None or part is Ellipsis or isinstance(part, int | slice)
            for part in (key if isinstance(key, tuple) else (key,))
        )
        inner = (slice(None), *key) if isinstance(key, tuple) else (slice(None), key)
        return self.rearrange(x, lambda t: t[key], (lambda t: t[inner]) if basic else None)

    def reshape(self, x: Any, shape: int | Sequence[int]) -> Any:
        """The same entries in another shape."""
        whole = (shape,) if isinstance(shape, int) else tuple(shape)
        old = np.shape(x) if not isinstance(x, Operand) else x.shape
        new = np.empty(old, dtype=bool).reshape(whole).shape
        return self.rearrange(x, lambda t: t.reshape(new), lambda t: t.reshape((len(t), *new)))

    def broadcast_to(self, x: Any, shape: Sequence[int]) -> Any:
        """X repeated to fill a shape."""
        return self.rearrange(x, lambda t: np.broadcast_to(t, tuple(shape)))

    def expand_dims(self, x: Any, axis: int = 0) -> Any:
        """A new axis of size 1."""
        new = axis if axis < 0 else axis + 1
        return self.rearrange(
            x, lambda t: np.expand_dims(t, axis), lambda t: np.expand_dims(t, new)
        )

    def squeeze(self, x: Any, axis: int | tuple[int, ...]) -> Any:
        """X without axes of size 1."""
        rank = np.ndim(x) if not isinstance(x, Operand) else x.ndim
        axes = axes_of(axis, rank)
        inner = tuple(i + 1 for i in axes)
        return self.rearrange(x, lambda t: np.squeeze(t, axes), lambda t: np.squeeze(t, inner))

    def permute_dims(self, x: Any, axes: Sequence[int]) -> Any:
        """The axes in another order."""
        order = axes_of(tuple(axes), len(axes))
        inner = (0, *(i + 1 for i in order))
        return self.rearrange(x, lambda t: np.transpose(t, order), lambda t: np.transpose(t, inner))

    def flip(self, x: Any, axis: Axis = None) -> Any:
        """The entries in reverse order along axes."""
        return self.rearrange(x, lambda t: np.flip(t, axis))

    def roll(self, x: Any, shift: Any, axis: Any = None) -> Any:
        """The entries shifted cyclically."""
        return self.rearrange(x, lambda t: np.roll(t, shift, axis))

    def take(self, x: Any, indices_: Any, axis: int | None = None) -> Any:
        """Slices of x at integer indices, along an axis."""
        chosen = np.asarray(indices(indices_))
        rank = np.ndim(x) if not isinstance(x, Operand) else x.ndim
        if axis is None and rank != 1:
            problem = f"take() from an array with {rank} axes; write axis=..."
            raise UnsupportedOperation(problem)
        return self.rearrange(x, lambda t: np.take(t, chosen, 0 if axis is None else axis))

    def stack(self, arrays: Sequence[Any], axis: int = 0) -> Any:
        """Arrays joined along a new axis."""
        return self.concat([self.expand_dims(self.asarray(x), axis) for x in arrays], axis)

    def one_hot(self, labels: Any, n: int) -> Any:
        """A new last axis of size n: 1 at the label, else 0."""
        chosen = np.asarray(indices(labels))
        return self.asarray((chosen[..., None] == np.arange(n)).astype(np.float64))

    # Creation

    def arange(self, *args: Any) -> Any:
        """Integers from start to stop, exact."""
        numbers = np.arange(*args)
        return numbers if is_integral(numbers) else self.asarray(numbers)

    def zeros(self, shape: Any) -> Any:
        """Zeros, exact."""
        return self.asarray(np.zeros(shape))

    def ones(self, shape: Any) -> Any:
        """Ones, exact."""
        return self.asarray(np.ones(shape))

    def eye(self, n: int, m: int | None = None) -> Any:
        """The identity matrix."""
        return self.asarray(np.eye(n, m))

    def zeros_like(self, x: Any) -> Any:
        """Zeros in the shape of x."""
        return self.zeros(self.asarray(x).shape)

    def ones_like(self, x: Any) -> Any:
        """Ones in the shape of x."""
        return self.ones(self.asarray(x).shape)


def _elementary(name: str) -> Callable[[Namespace, Any], Any]:
    """The method of a namespace that calls one elementary function."""

    def method(self: Namespace, x: Any) -> Any:
        return self.unary(name, x)

    method.__name__ = name
    method.__doc__ = f"{name}(x), entry by entry."
    return method


for _name in ELEMENTARY:
    setattr(Namespace, _name, _elementary(_name))


def indices(x: Any) -> Any:
    """An index as NumPy takes it: whole numbers, of an error-carrying value too if it is exact."""
    if not isinstance(x, Operand):
        return x
    if isinstance(x, Decision) and not np.any(x.ambiguous):
        return x.true
    value = getattr(x, "value", None)
    if isinstance(value, np.ndarray | np.generic) and not np.any(getattr(x, "error", 1.0)):
        whole = np.asarray(value, dtype=np.int64)
        if np.array_equal(whole, value):
            return whole
    problem = "an index that rounding may change; index with integer arrays"
    raise UnsupportedOperation(problem)
