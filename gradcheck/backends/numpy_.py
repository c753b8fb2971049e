"""NumPy: runs forwards and evaluates expressions; it cannot differentiate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import numpy as np

from gradcheck.backends.base import Backend
from gradcheck.backends.functions import NumpyLike
from gradcheck.backends.writing import Writing, expanded, pairs
from gradcheck.errors import UnsupportedOperation

if TYPE_CHECKING:
    from collections.abc import Sequence


def erf(x: Any) -> Any:
    """The error function by the C library, entry by entry: NumPy has none of its own."""
    x = np.asarray(x)
    values = np.fromiter(map(math.erf, x.ravel().tolist()), np.float64, x.size)
    dtype = x.dtype if x.dtype.kind == "f" else np.float64
    return values.reshape(x.shape).astype(dtype)[()]


class NumpyFunctions(NumpyLike):
    """The documented names in NumPy."""

    def __init__(self, dtype: str, device: str = "cpu") -> None:
        super().__init__(np, dtype, device)
        self.erf = erf


_UNARY = (
    "exp",
    "expm1",
    "log",
    "log1p",
    "sqrt",
    "sin",
    "cos",
    "tan",
    "sinh",
    "cosh",
    "tanh",
    "abs",
)
_REDUCE = {"sum": "np.add.reduce", "max": "np.maximum.reduce", "min": "np.minimum.reduce"}
_DIRECT = {
    **{f"{p}.{n}": f"np.{n}({{0}})" for n in _UNARY for p in ("xp", "f")},
    **{f"xp.{n}": f"{f}({{0}}, axis={{axis}}, keepdims={{keepdims}})" for n, f in _REDUCE.items()},
    "xp.square": "np.square({0})",
    "matmul": "np.matmul({0}, {1})",
    "dot": "np.dot({0}, {1})",
    "transpose": "{0}.transpose({1})",
    "turned": "{0}.T",
    "copy": "np.array({0})",
    "settled": "np.ascontiguousarray({0})",
    "settled copy": "np.array({0}, order='C')",
    "zeros": "np.zeros({shape}, {dtype})",
    "full": "np.full({shape}, {0}, {dtype})",
    "diagonal": "np.einsum({equation}, {0})",
}
_INTO = {
    "add": "{out} += {other}",
    "multiply": "{out} *= {other}",
    "subtract first": "{out} -= {1}",
    "divide first": "{out} /= {1}",
    "subtract": "np.subtract({0}, {1}, out={out})",
    "divide": "np.divide({0}, {1}, out={out})",
    **{f"{p}.{n}": f"np.{n}({{0}}, out={{out}})" for n in (*_UNARY, "square") for p in ("xp", "f")},
    "negative": "np.negative({0}, out={out})",
    "add over": "np.add({0}, {1}, out={out})",
    "subtract over": "np.subtract({0}, {1}, out={out})",
    "multiply over": "np.multiply({0}, {1}, out={out})",
    "divide over": "np.divide({0}, {1}, out={out})",
    "negative over": "np.negative({0}, out={out})",
    **{f"{p}.{n} over": f"np.{n}({{0}}, out={{out}})" for n in _UNARY for p in ("xp", "f")},
}


def spread(core: Any, places: tuple[int, ...], shape: tuple[int, ...], dtype: str) -> Any:
    """`core` where the axes of one letter agree, and zero elsewhere, in one new array."""
    grid = np.ogrid[tuple(slice(n) for n in shape)]
    mask: Any = True
    for first, other in pairs(places):
        mask = mask & (grid[first] == grid[other])
    values = expanded(core, places)
    return np.where(mask, values, np.zeros(shape, dtype))


class NumpyBackend(Backend):
    """NumPy on the host."""

    name: ClassVar[str] = "numpy"
    package: ClassVar[str] = "numpy"
    differentiates: ClassVar[bool] = False
    dtypes: ClassVar[tuple[str, ...]] = ("float64", "float32", "float16")
    # NumPy's einsum of two operands is a plain loop; opt_einsum calls BLAS where it can.
    _path_from: ClassVar[int] = 2

    def _functions(self, dtype: str, device: str) -> NumpyLike:
        return NumpyFunctions(dtype, device)

    def writing(self, dtype: str, device: str) -> Writing:  # noqa: ARG002 - there is one device
        """How a program for numpy arrays is written."""
        return Writing(
            direct=_DIRECT,
            into=_INTO,
            guard="{n}.__class__ is np.ndarray and {n}.shape == {shape} and {n}.dtype is {dtype}",
            view="np.ndarray({shape}, {dtype}, {out}, 0, {bytes})",
            calls={"np": np, "spread": spread, dtype: np.dtype(dtype)},
        )

    def can_write(self, *arrays: Any) -> bool:  # noqa: ARG002
        """NumPy keeps no record of what was computed from what."""
        return True

    def asarray(self, value: Any, dtype: str, device: str = "cpu") -> Any:
        """A numpy array."""
        self.find_device(device)
        array = np.asarray(value)
        return (
            array
            if array.dtype.kind in "biu"
            else array.astype(self.check_dtype(dtype), copy=False)
        )

    def to_numpy(self, array: Any) -> np.ndarray:
        """The array itself."""
        return np.asarray(array)

    def derivative(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: numpy has no automatic differentiation."""
        message = (
            "numpy cannot differentiate: choose autograd, jax, torch or tensorflow, or differences"
        )
        raise UnsupportedOperation(message)

    def _plain_einsum(self, equation: str, *arrays: Any) -> Any:
        return np.einsum(equation, *arrays)

    def _step(self, x: Any) -> Any:
        return (np.asarray(x) > 0).astype(x.dtype)[()]

    def asarray_like(self, value: Any) -> Any:
        """The value as an array in its own dtype."""
        return np.asarray(value)

    def full(self, shape: tuple[int, ...], value: float, like: Any = None) -> Any:
        """A constant array in the dtype of another."""
        return np.full(shape, value, dtype=np.float64 if like is None else like.dtype)

    def one_hot(self, labels: Any, size: int, like: Any) -> Any:
        """Labels as indicators in the dtype of `like`."""
        return (np.asarray(labels)[..., None] == np.arange(size)).astype(like.dtype)

    def _transpose(self, x: Any, axes: Sequence[int]) -> Any:
        return np.transpose(x, axes)

    def _add_diagonal(self, out: Any, core: Any, places: Sequence[int]) -> Any:
        if not places:  # of a scalar, einsum gives a copy
            return out + core
        # With repeated places and nothing summed, einsum gives a writable view of the diagonal.
        view = np.einsum(out, list(places), list(range(core.ndim)))
        view += core
        return out
