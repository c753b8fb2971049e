"""NumPy: runs forwards and evaluates expressions; it cannot differentiate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import numpy as np

from gradcheck.backends.base import Backend
from gradcheck.backends.functions import NumpyLike
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
