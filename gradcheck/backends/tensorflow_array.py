"""TensorFlow's tensors as a forward sees them: operators, indexing and promotion as in NumPy.

A plain tensor has no `.T`, refuses `mask * 0.9`, `integers * floats` and indices that are arrays.
`tf.experimental.numpy.experimental_enable_numpy_behavior` would change that for every tensor of the
user's process; this thin wrapper changes it only where a forward of ours runs. TensorFlow's own
functions take it as they take a tensor.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf  # noqa: TID253 - this file is imported only when TensorFlow is asked for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


def _operator(name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """An operator and its reflection, by the namespace's function of that name."""

    def direct(self: Array, other: Any) -> Any:
        return getattr(self.functions, name)(self, other)

    def reflected(self: Array, other: Any) -> Any:
        return getattr(self.functions, name)(other, self)

    return direct, reflected


class Array:
    """A tensor, and the functions of the namespace in which it is computed with."""

    __slots__ = ("functions", "tensor")
    # NumPy would otherwise take `numbers * array` entry by entry.
    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, tensor: Any, functions: Any) -> None:
        self.tensor = tensor
        self.functions = functions

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> Any:
        return tf.convert_to_tensor(self.tensor, dtype=dtype, name=name)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = np.asarray(self.tensor)
        return array if dtype is None and not copy else np.array(array, dtype=dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the axes."""
        return tuple(self.tensor.shape)

    @property
    def dtype(self) -> Any:
        """TensorFlow's dtype."""
        return self.tensor.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.tensor.shape)

    @property
    def size(self) -> int:
        """The number of entries."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def T(self) -> Array:  # noqa: N802 - NumPy's name
        """The axes in reverse order."""
        return Array(tf.transpose(self.tensor), self.functions)

    @property
    def mT(self) -> Any:  # noqa: N802 - the array API's name
        """The last two axes exchanged."""
        return self.functions.matrix_transpose(self)

    def __len__(self) -> int:
        if not self.shape:
            message = "len() of an array without axes"
            raise TypeError(message)
        return self.shape[0]

    def __iter__(self) -> Iterator[Array]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key: Any) -> Array:
        return Array(indexed(self.tensor, key), self.functions)

    def __bool__(self) -> bool:
        return bool(self.tensor)

    def __float__(self) -> float:
        return float(self.tensor)

    def __int__(self) -> int:
        return int(self.tensor)

    def __index__(self) -> int:
        return operator.index(self.tensor)

    def __repr__(self) -> str:
        return repr(self.tensor)

    __add__, __radd__ = _operator("add")
    __sub__, __rsub__ = _operator("subtract")
    __mul__, __rmul__ = _operator("multiply")
    __truediv__, __rtruediv__ = _operator("divide")
    __pow__, __rpow__ = _operator("pow")
    __matmul__, __rmatmul__ = _operator("matmul")
    __lt__, __gt__ = _operator("less")
    __le__, __ge__ = _operator("less_equal")
    __and__, __rand__ = _operator("logical_and")
    __or__, __ror__ = _operator("logical_or")
    __xor__, __rxor__ = _operator("logical_xor")

    def __eq__(self, other: object) -> Any:
        return self.functions.equal(self, other)

    def __ne__(self, other: object) -> Any:
        return self.functions.not_equal(self, other)

    def __invert__(self) -> Array:
        return Array(tf.logical_not(self.tensor), self.functions)

    def __neg__(self) -> Any:
        return self.functions.negative(self)

    def __pos__(self) -> Array:
        return self

    def __abs__(self) -> Any:
        return self.functions.abs(self)


def plain(value: Any) -> Any:
    """The tensor itself, out of the wrapper."""
    return value.tensor if isinstance(value, Array) else value


def indexed(tensor: Any, key: Any) -> Any:
    """`tensor[key]` with NumPy's meaning: slices, new axes, integers, arrays of integers, masks."""
    parts = key if isinstance(key, tuple) else (key,)
    if not any(_is_array(part) for part in parts):
        return tensor[tuple(_slice(part) for part in parts)]
    places: list[int] = []
    indices: list[Any] = []
    basic: list[Any] = []
    for part in _expanded(parts, len(tensor.shape)):
        if _is_array(part) or _is_integer(part):
            places.append(len(basic))
            indices.append(np.asarray(part) if _is_integer(part) else plain(part))
            basic.append(slice(None))
        else:
            basic.append(_slice(part))
    return _gathered(tensor[tuple(basic)], places, indices)


def _is_integer(part: Any) -> bool:
    return isinstance(part, (int, np.integer)) and not isinstance(part, (bool, np.bool_))


def _is_array(part: Any) -> bool:
    return isinstance(part, list) or (hasattr(part, "shape") and not isinstance(part, np.generic))


def _slice(part: Any) -> Any:
    """A slice or an integer as TensorFlow takes it."""
    if isinstance(part, slice):
        ends = (part.start, part.stop, part.step)
        return slice(*(None if end is None else operator.index(end) for end in ends))
    return int(part) if _is_integer(part) else part


def _expanded(parts: Sequence[Any], rank: int) -> list[Any]:
    """The parts of a key with masks as the places where they hold, and without an ellipsis."""
    found: list[Any] = []
    for part in parts:
        kind = getattr(getattr(part, "dtype", None), "name", "")
        if isinstance(part, list):
            found.append(np.asarray(part))
        elif kind == "bool" and len(part.shape) > 0:
            found.extend(np.nonzero(np.asarray(plain(part))))
        else:
            found.append(part)
    taken = sum(part is not None and part is not Ellipsis for part in found)
    if not any(part is Ellipsis for part in found):
        return found
    at = next(i for i, part in enumerate(found) if part is Ellipsis)
    return [*found[:at], *[slice(None)] * (rank - taken), *found[at + 1 :]]


def _gathered(tensor: Any, places: list[int], indices: list[Any]) -> Any:
    """The entries at integer indices along some axes, whose common shape takes their place."""
    sizes = [tensor.shape[place] for place in places]
    indices = [wrapped(index, size) for index, size in zip(indices, sizes, strict=True)]
    shape: Any = tuple(indices[0].shape)
    for index in indices[1:]:
        shape = np.broadcast_shapes(shape, tuple(index.shape))
    indices = [tf.broadcast_to(index, shape) for index in indices]
    rest = [axis for axis in range(len(tensor.shape)) if axis not in places]
    front = tf.transpose(tensor, [*places, *rest])
    found = tf.gather_nd(front, tf.stack(indices, axis=-1))
    together = places == list(range(places[0], places[0] + len(places)))
    start, rank = (places[0] if together else 0), len(shape)
    if not start:
        return found
    before = range(rank, rank + start)
    after = range(rank + start, len(found.shape))
    return tf.transpose(found, [*before, *range(rank), *after])


def wrapped(index: Any, size: int) -> Any:
    """Integer indices as a tensor, those below zero counted from the end."""
    index = tf.cast(tf.convert_to_tensor(plain(index)), tf.int64)
    return tf.where(index < 0, index + size, index)
