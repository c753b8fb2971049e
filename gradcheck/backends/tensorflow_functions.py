"""The documented names in TensorFlow: keywords and promotion as the array API has them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf  # noqa: TID253 - this file is imported only when TensorFlow is asked for

from gradcheck.backends.base import is_scalar
from gradcheck.backends.functions import Functions
from gradcheck.backends.names import UNARY
from gradcheck.backends.tensorflow_array import Array, plain, wrapped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Axis = int | tuple[int, ...] | None

_COMPARISONS = {
    "equal": tf.math.equal,
    "greater": tf.math.greater,
    "greater_equal": tf.math.greater_equal,
    "less": tf.math.less,
    "less_equal": tf.math.less_equal,
    "not_equal": tf.math.not_equal,
}
_REAL = {"divide": tf.math.divide, "pow": tf.math.pow}
_KINDS = {
    "add": tf.math.add,
    "maximum": tf.math.maximum,
    "minimum": tf.math.minimum,
    "multiply": tf.math.multiply,
    "subtract": tf.math.subtract,
}
# Operators on masks; they are no documented names.
_LOGICAL = {
    "logical_and": tf.math.logical_and,
    "logical_or": tf.math.logical_or,
    "logical_xor": tf.math.logical_xor,
}
_KEEP_INTEGERS = {"abs", "negative", "sign"}


class TensorFlowFunctions(Functions):
    """The documented names in TensorFlow, for one dtype on one device."""

    def __init__(self, dtype: str, device: str) -> None:
        super().__init__(dtype, device)
        self.type = tf.dtypes.as_dtype(dtype)
        composed = {"sigmoid", "square"}
        for name in UNARY:
            if name not in composed:
                setattr(self, name, self._unary(getattr(tf.math, name), name in _KEEP_INTEGERS))
        for name, function in (_REAL | _KINDS | _COMPARISONS | _LOGICAL).items():
            setattr(self, name, self._binary(function, real=name in _REAL))

    def _unary(self, function: Callable[..., Any], keep: bool) -> Callable[..., Any]:
        return lambda x: Array(function(self.tensor(x) if keep else self.real(x)), self)

    def _binary(self, function: Callable[..., Any], *, real: bool) -> Callable[..., Any]:
        def binary(x: Any, y: Any) -> Array:
            x, y = self.together(x, y)
            if real and not x.dtype.is_floating:
                x, y = tf.cast(x, self.type), tf.cast(y, self.type)
            return Array(function(x, y), self)

        return binary

    # ---- arrays of the namespace

    def tensor(self, x: Any) -> Any:
        """Anything as a plain tensor: floats that are no tensors yet in the namespace's dtype."""
        if isinstance(x, Array):
            return x.tensor
        if isinstance(x, (tf.Tensor, tf.Variable)):
            return tf.convert_to_tensor(x)
        if isinstance(x, (np.ndarray, np.generic)) and x.dtype.kind in "biu":
            return tf.convert_to_tensor(x)
        return self.asarray(x).tensor

    def lift(self, x: Any) -> Array:
        """Anything as an array of the namespace."""
        return x if isinstance(x, Array) else Array(self.tensor(x), self)

    def real(self, x: Any) -> Any:
        """A tensor of floats."""
        x = self.tensor(x)
        return x if x.dtype.is_floating else tf.cast(x, self.type)

    def counted(self, x: Any) -> Any:
        """A tensor of numbers: masks are counted in integers."""
        x = self.tensor(x)
        return tf.cast(x, tf.int64) if x.dtype.is_bool else x

    def together(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Two tensors of one dtype; a Python number takes its partner's, unless it is finer."""
        if is_scalar(x) and not is_scalar(y):
            y, x = self.together(y, x)
            return x, y
        x = self.tensor(x)
        if is_scalar(y):
            if not x.dtype.is_floating and type(y) is not bool:
                x = tf.cast(x, self.type) if type(y) is float else self.counted(x)
            return x, tf.constant(y, dtype=x.dtype)
        x, y = same_type([x, self.tensor(y)])
        return x, y

    def asarray(self, x: Any) -> Array:
        """An array in the namespace's dtype, through which derivatives flow."""
        if isinstance(x, (list, tuple)) and _holds_tensor(x):
            return Array(tf.stack([self.asarray(member).tensor for member in x]), self)
        x = plain(x)
        if not isinstance(x, (tf.Tensor, tf.Variable)):
            x = np.asarray(x)
        return Array(tf.cast(x, self.type), self)

    # ---- reductions

    def _reduce(self, function: Callable[..., Any], x: Any, axis: Axis, keepdims: bool) -> Array:
        return Array(function(x, axis=axis, keepdims=keepdims), self)

    def sum(self, x: Any, axis: Axis = None, keepdims: bool = False) -> Array:
        """The sum over axes."""
        return self._reduce(tf.math.reduce_sum, self.counted(x), axis, keepdims)

    def prod(self, x: Any, axis: Axis = None, keepdims: bool = False) -> Array:
        """The product over axes."""
        return self._reduce(tf.math.reduce_prod, self.counted(x), axis, keepdims)

    def max(self, x: Any, axis: Axis = None, keepdims: bool = False) -> Array:
        """The largest entry; ties share the derivative."""
        return self._reduce(tf.math.reduce_max, self.tensor(x), axis, keepdims)

    def min(self, x: Any, axis: Axis = None, keepdims: bool = False) -> Array:
        """The smallest entry; ties share the derivative."""
        return self._reduce(tf.math.reduce_min, self.tensor(x), axis, keepdims)

    def logsumexp(self, x: Any, axis: Axis = None, keepdims: bool = False) -> Array:
        """Log Σ exp."""
        return self._reduce(tf.math.reduce_logsumexp, self.real(x), axis, keepdims)

    def mean(self, x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
        """The mean, in the namespace's dtype for integers."""
        return super().mean(Array(self.real(x), self), axis=axis, keepdims=keepdims)

    # ---- products and selection

    def logaddexp(self, x: Any, y: Any) -> Array:
        """Log (exp x + exp y), by the larger of the two and what the other adds to it."""
        x, y = self.together(x, y)
        if not x.dtype.is_floating:
            x, y = tf.cast(x, self.type), tf.cast(y, self.type)
        # Not by a maximum, whose derivative at x = y is the one-sided one.
        larger, smaller = tf.where(x >= y, x, y), tf.where(x >= y, y, x)
        both_infinite = tf.math.is_inf(larger) & tf.equal(larger, smaller)
        gap = tf.where(both_infinite, tf.zeros_like(larger), smaller - larger)
        return Array(larger + tf.math.log1p(tf.exp(gap)), self)

    def where(self, condition: Any, x: Any, y: Any) -> Array:
        """X where the condition holds, else y."""
        if is_scalar(x) and is_scalar(y):
            x = self.asarray(x)
        condition = tf.cast(plain(condition), tf.bool)
        return Array(tf.where(condition, *self.together(x, y)), self)

    def einsum(self, equation: str, *operands: Any) -> Array:
        """A contraction in einsum notation."""
        tensors = same_type([self.counted(x) for x in operands])
        return Array(tf.einsum(equation.replace(" ", ""), *tensors), self)

    def matmul(self, x: Any, y: Any) -> Array:
        """The matrix product, of vectors too."""
        x, y = same_type([self.counted(x), self.counted(y)])
        row, column = len(x.shape) == 1, len(y.shape) == 1
        left = x[None, :] if row else x
        right = y[:, None] if column else y
        product = tf.linalg.matmul(left, right)
        axes = [-2] * row + [-1] * column
        return Array(tf.squeeze(product, axis=axes) if axes else product, self)

    def inv(self, x: Any) -> Array:
        """The inverse of square matrices."""
        return Array(tf.linalg.inv(self.real(x)), self)

    def det(self, x: Any) -> Array:
        """The determinant of square matrices."""
        return Array(tf.linalg.det(self.real(x)), self)

    # ---- shapes

    def broadcast_to(self, x: Any, shape: Sequence[int]) -> Array:
        """The array repeated to a shape."""
        return Array(tf.broadcast_to(self.tensor(x), tuple(shape)), self)

    def concat(self, arrays: Sequence[Any], axis: int = 0) -> Array:
        """Arrays joined along an axis that they have."""
        return Array(tf.concat(same_type([self.tensor(x) for x in arrays]), axis=axis), self)

    def stack(self, arrays: Sequence[Any], axis: int = 0) -> Array:
        """Arrays joined along a new axis."""
        return Array(tf.stack(same_type([self.tensor(x) for x in arrays]), axis=axis), self)

    def cumulative_sum(self, x: Any, axis: int | None = None) -> Array:
        """Partial sums along an axis."""
        x = self.counted(x)
        return Array(tf.cumsum(tf.reshape(x, [-1]) if axis is None else x, axis=axis or 0), self)

    def diagonal(self, x: Any) -> Array:
        """The diagonal of the last two axes, which may differ in size."""
        return Array(tf.linalg.diag_part(self.tensor(x)), self)

    def expand_dims(self, x: Any, axis: int = 0) -> Array:
        """A new axis of size 1."""
        return Array(tf.expand_dims(self.tensor(x), axis), self)

    def flip(self, x: Any, axis: Axis = None) -> Array:
        """The order reversed along axes."""
        x = self.tensor(x)
        axes = range(len(x.shape)) if axis is None else (axis,) if isinstance(axis, int) else axis
        return Array(tf.reverse(x, list(axes)), self)

    def permute_dims(self, x: Any, axes: Sequence[int]) -> Array:
        """The axes in another order."""
        return Array(tf.transpose(self.tensor(x), [a % len(axes) for a in axes]), self)

    def reshape(self, x: Any, shape: int | Sequence[int]) -> Array:
        """The same entries in another shape."""
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        return Array(tf.reshape(self.tensor(x), shape), self)

    def roll(self, x: Any, shift: int | tuple[int, ...], axis: Axis = None) -> Array:
        """The entries shifted around along axes."""
        x = self.tensor(x)
        if axis is None:
            return Array(tf.reshape(tf.roll(tf.reshape(x, [-1]), shift, axis=0), x.shape), self)
        return Array(tf.roll(x, shift, axis=axis), self)

    def squeeze(self, x: Any, axis: Axis = None) -> Array:
        """Axes of size 1 taken away."""
        return Array(tf.squeeze(self.tensor(x), axis=axis), self)

    def take(self, x: Any, indices: Any, axis: int | None = None) -> Array:
        """The slices of x along an axis at integer indices of any rank."""
        x = self.tensor(x)
        if axis is None and len(x.shape) != 1:
            message = f"xp.take of an array of rank {len(x.shape)} needs axis="
            raise TypeError(message)
        axis = (axis or 0) % len(x.shape)
        return Array(tf.gather(x, wrapped(indices, x.shape[axis]), axis=axis), self)

    def tril(self, x: Any, k: int = 0) -> Array:
        """The lower triangle of the last two axes."""
        return self._triangle(x, lambda rows, columns: columns - rows <= k)

    def triu(self, x: Any, k: int = 0) -> Array:
        """The upper triangle of the last two axes."""
        return self._triangle(x, lambda rows, columns: columns - rows >= k)

    def _triangle(self, x: Any, keep: Callable[..., Any]) -> Array:
        x = self.tensor(x)
        rows, columns = np.ogrid[: x.shape[-2], : x.shape[-1]]
        # Not by a product with the mask, which would make nan of infinite entries.
        return Array(tf.where(keep(rows, columns), x, tf.zeros_like(x)), self)

    def _index(self, indices: Any) -> Array:
        return Array(tf.cast(plain(indices), tf.int64), self)

    # ---- creation

    def arange(self, n: int) -> Array:
        """The integers below n."""
        return Array(tf.range(n, dtype=tf.int64), self)

    def eye(self, n: int) -> Array:
        """The identity matrix."""
        return Array(tf.eye(n, dtype=self.type), self)

    def ones(self, shape: int | Sequence[int]) -> Array:
        """Ones in the namespace's dtype."""
        return Array(tf.ones((shape,) if isinstance(shape, int) else shape, self.type), self)

    def zeros(self, shape: int | Sequence[int]) -> Array:
        """Zeros in the namespace's dtype."""
        return Array(tf.zeros((shape,) if isinstance(shape, int) else shape, self.type), self)

    def ones_like(self, x: Any) -> Any:
        """Ones of the same shape and dtype."""
        return 1.0 if is_scalar(x) else Array(tf.ones_like(self.tensor(x)), self)

    def zeros_like(self, x: Any) -> Any:
        """Zeros of the same shape and dtype."""
        return 0.0 if is_scalar(x) else Array(tf.zeros_like(self.tensor(x)), self)


@functools.cache
def functions_of(dtype: str, device: str) -> TensorFlowFunctions:
    """The one table of a dtype and device, to which every array of theirs refers."""
    return TensorFlowFunctions(dtype, device)


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_holds_tensor(member) for member in value)
    return isinstance(value, (Array, tf.Tensor, tf.Variable))


def same_type(tensors: Sequence[Any]) -> list[Any]:
    """Tensors in their common type: a float's among floats and integers, the widest of a kind."""
    kinds = {tensor.dtype for tensor in tensors}
    if len(kinds) < 2:
        return list(tensors)
    floats = [kind for kind in kinds if kind.is_floating]
    integers = [kind for kind in kinds if kind.is_integer]
    if set(floats) == {tf.float16, tf.bfloat16}:
        common = tf.float32
    else:
        common = max(floats or integers, key=lambda kind: kind.size)
    return [tf.cast(tensor, common) for tensor in tensors]
