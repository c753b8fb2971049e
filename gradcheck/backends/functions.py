"""The documented names as functions: what is common to all frameworks, and the numpy-like ones.

A framework's table is a `Functions` object. Where a name can be composed of others without loss it
is composed here, once, so that every framework differentiates the same formula: `sigmoid`, for
one, through two guarded branches, since s(1 - s) loses the right tail.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.backends.base import Namespace, check_names, is_scalar
from gradcheck.backends.names import BINARY, COMPARISONS, REDUCTIONS, SELECTION, UNARY, XP_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Axis = int | tuple[int, ...] | None

# The standard's names where numpy has kept other ones.
NUMPY_NAMES = {"acos": "arccos", "asin": "arcsin", "atan": "arctan", "pow": "power"}

_ON_SCALARS = frozenset(UNARY + BINARY + COMPARISONS + SELECTION + REDUCTIONS)


def spans(shape: Sequence[int], axis: Axis) -> int:
    """How many entries a reduction over these axes takes together."""
    axes = range(len(shape)) if axis is None else (axis,) if isinstance(axis, int) else axis
    return math.prod(shape[a] for a in axes)


class Functions:
    """The names that are composed of others, in any framework."""

    e, inf, newaxis, pi = math.e, math.inf, None, math.pi

    def __init__(self, dtype: str, device: str) -> None:
        self.dtype = dtype
        self.device = device

    def table(self) -> dict[str, Any]:
        """Name to function, for a namespace."""
        table = {name: getattr(self, name) for name in XP_NAMES if name != "linalg"}
        for name in _ON_SCALARS:
            table[name] = on_scalars(name, table[name])
        linalg = {"inv": self.inv, "det": self.det}
        table["linalg"] = Namespace(linalg, "xp.linalg")
        check_names(table)
        return table

    # What a framework must provide is listed by `names.py`; the rest of this class uses it.
    def __getattr__(self, name: str) -> Any:
        message = f"{type(self).__name__} does not implement xp.{name}"
        raise AttributeError(message)

    def lift(self, x: Any) -> Any:
        """A Python number as an array of the namespace; an array as it is."""
        return x if hasattr(x, "shape") else self.asarray(x)

    def sigmoid(self, x: Any) -> Any:
        """1 / (1 + exp(-x)), accurate in both tails, and so is its derivative."""
        right = x >= 0
        # Each branch sees only arguments at which it neither overflows nor cancels.
        tail, rise = self.exp(-self.where(right, x, 0.0)), self.exp(self.where(right, 0.0, x))
        return self.where(right, 1 / (1 + tail), rise / (1 + rise))

    def clip(self, x: Any, min: Any = None, max: Any = None) -> Any:
        """Between two bounds, each of which may be absent."""
        x = self.lift(x)
        x = x if min is None else self.maximum(x, min)
        return x if max is None else self.minimum(x, max)

    def mean(self, x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
        """The mean; nan (and no warning) over nothing."""
        x = self.lift(x)
        total = self.sum(x, axis=axis, keepdims=keepdims)
        count = spans(x.shape, axis)
        return total / count if count else total * math.nan

    def var(self, x: Any, axis: Axis = None, correction: float = 0, keepdims: bool = False) -> Any:
        """The variance about the mean, in two passes."""
        x = self.lift(x)
        centred = x - self.mean(x, axis=axis, keepdims=True)
        total = self.sum(centred * centred, axis=axis, keepdims=keepdims)
        count = spans(x.shape, axis) - correction
        return total / count if count > 0 else total * math.nan

    def std(self, x: Any, axis: Axis = None, correction: float = 0, keepdims: bool = False) -> Any:
        """The square root of the variance."""
        return self.sqrt(self.var(x, axis=axis, correction=correction, keepdims=keepdims))

    def matrix_transpose(self, x: Any) -> Any:
        """The last two axes exchanged."""
        axes = list(range(len(x.shape)))
        return self.permute_dims(x, (*axes[:-2], axes[-1], axes[-2]))

    def diagonal(self, x: Any) -> Any:
        """The diagonal of the last two axes, which may differ in size."""
        places = np.arange(min(x.shape[-2:]))
        return x[..., places, places]

    def trace(self, x: Any) -> Any:
        """The sum of the diagonal of the last two axes."""
        return self.sum(self.diagonal(x), axis=-1)

    def take(self, x: Any, indices: Any, axis: int | None = None) -> Any:
        """The slices of x along an axis at integer indices of any rank."""
        if axis is None and len(x.shape) != 1:
            message = f"xp.take of an array of rank {len(x.shape)} needs axis="
            raise TypeError(message)
        axis = (axis or 0) % len(x.shape)
        return x[(slice(None),) * axis + (self._index(indices),)]

    def _index(self, indices: Any) -> Any:
        """Indices as the framework likes them."""
        return indices if hasattr(indices, "shape") else np.asarray(indices, dtype=np.int64)

    def one_hot(self, labels: Any, n: int) -> Any:
        """Labels as indicators along a new last axis of size n."""
        labels = self._index(labels)
        return self.asarray(labels[..., None] == self.arange(n))

    def square(self, x: Any) -> Any:
        """X times x."""
        return x * x


class NumpyLike(Functions):
    """The names as numpy, autograd.numpy and jax.numpy have them."""

    def __init__(self, module: Any, dtype: str, device: str = "cpu") -> None:
        super().__init__(dtype, device)
        self.module = module
        plain = ("sum", "prod", "max", "min", "matmul", "squeeze")
        for name in (*UNARY, *BINARY, *COMPARISONS, *plain):
            # What a class defines goes before what the module has; `erf` is each one's own.
            if name != "erf" and not hasattr(type(self), name):
                setattr(self, name, getattr(module, NUMPY_NAMES.get(name, name)))
        self.inv, self.det = module.linalg.inv, module.linalg.det

    def asarray(self, x: Any) -> Any:
        """An array in the namespace's dtype."""
        return self.module.asarray(x, dtype=self.dtype)

    def where(self, condition: Any, x: Any, y: Any) -> Any:
        """X where the condition holds, else y."""
        if is_scalar(x) and is_scalar(y):
            x = self.asarray(x)
        return self.module.where(condition, x, y)

    def logsumexp(self, x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
        """Log Σ exp, shifted by the largest entry, which is held constant."""
        x = self.lift(x)
        top = self._constant(self.max(x, axis=axis, keepdims=True))
        top = self.where(abs(top) < math.inf, top, 0.0)
        total = self.log(self.sum(self.exp(x - top), axis=axis, keepdims=keepdims))
        return total + (top if keepdims else self.module.reshape(top, total.shape))

    def _constant(self, x: Any) -> Any:
        """The value, cut off from differentiation."""
        return x

    def einsum(self, equation: str, *operands: Any) -> Any:
        """A contraction in einsum notation."""
        return self.module.einsum(equation, *(self.lift(x) for x in operands))

    def broadcast_to(self, x: Any, shape: Sequence[int]) -> Any:
        """The array repeated to a shape."""
        return self.module.broadcast_to(self.lift(x), tuple(shape))

    def concat(self, arrays: Sequence[Any], axis: int = 0) -> Any:
        """Arrays joined along an axis that they have."""
        return self.module.concatenate([self.lift(x) for x in arrays], axis=axis)

    def stack(self, arrays: Sequence[Any], axis: int = 0) -> Any:
        """Arrays joined along a new axis."""
        return self.module.stack([self.lift(x) for x in arrays], axis=axis)

    def cumulative_sum(self, x: Any, axis: int | None = None) -> Any:
        """Partial sums along an axis."""
        return self.module.cumsum(x, axis=axis)

    def expand_dims(self, x: Any, axis: int = 0) -> Any:
        """A new axis of size 1."""
        return self.module.expand_dims(self.lift(x), axis)

    def flip(self, x: Any, axis: Axis = None) -> Any:
        """The order reversed along axes."""
        rank = len(x.shape)
        axes = range(rank) if axis is None else (axis,) if isinstance(axis, int) else axis
        flipped = {a % rank for a in axes}
        return x[tuple(slice(None, None, -1 if a in flipped else None) for a in range(rank))]

    def permute_dims(self, x: Any, axes: Sequence[int]) -> Any:
        """The axes in another order."""
        return self.module.transpose(x, tuple(axes))

    def reshape(self, x: Any, shape: int | Sequence[int]) -> Any:
        """The same entries in another shape."""
        return self.module.reshape(self.lift(x), shape)

    def roll(self, x: Any, shift: int | tuple[int, ...], axis: Axis = None) -> Any:
        """The entries shifted around along axes, one axis after the other."""
        if isinstance(shift, int):
            return self.module.roll(x, shift, axis=axis)
        for step, along in zip(shift, axis or (), strict=True):  # type: ignore[arg-type]
            x = self.module.roll(x, step, axis=along)
        return x

    def tril(self, x: Any, k: int = 0) -> Any:
        """The lower triangle of the last two axes."""
        return self.module.tril(x, k=k)

    def triu(self, x: Any, k: int = 0) -> Any:
        """The upper triangle of the last two axes."""
        return self.module.triu(x, k=k)

    def arange(self, n: int) -> Any:
        """The integers below n."""
        return self.module.arange(n)

    def eye(self, n: int) -> Any:
        """The identity matrix."""
        return self.module.eye(n, dtype=self.dtype)

    def ones(self, shape: int | Sequence[int]) -> Any:
        """Ones in the namespace's dtype."""
        return self.module.ones(shape, dtype=self.dtype)

    def zeros(self, shape: int | Sequence[int]) -> Any:
        """Zeros in the namespace's dtype."""
        return self.module.zeros(shape, dtype=self.dtype)

    def ones_like(self, x: Any) -> Any:
        """Ones of the same shape and dtype."""
        return self.module.ones(x.shape, dtype=x.dtype) if hasattr(x, "shape") else 1.0

    def zeros_like(self, x: Any) -> Any:
        """Zeros of the same shape and dtype."""
        return self.module.zeros(x.shape, dtype=x.dtype) if hasattr(x, "shape") else 0.0


_PLAIN = (float, int, bool, type(None), tuple)


def on_scalars(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, giving a Python number for Python numbers.

    A forward may write `x / xp.sqrt(2 * xp.pi)`: the constant must not carry a dtype of its own,
    or it would promote float32 to float64 in NumPy and the reverse in torch.
    """

    @functools.wraps(function, assigned=("__name__", "__doc__"))
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if all(type(x) in _PLAIN for x in args) and all(type(x) in _PLAIN for x in kwargs.values()):
            return _of_numbers(name, args, kwargs)
        return function(*args, **kwargs)

    return wrapper


def _of_numbers(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float | bool:
    from gradcheck.backends.numpy_ import NumpyFunctions

    numbers = [np.float64(x) if type(x) in (int, float) else x for x in args]
    with np.errstate(all="ignore"):
        value = getattr(NumpyFunctions("float64"), name)(*numbers, **kwargs)
    return bool(value) if name in COMPARISONS else float(value)
