"""The documented names in torch: keywords and promotion as the array API has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch  # noqa: TID253 - this file is imported only when torch is asked for
from torch.overrides import TorchFunctionMode  # noqa: TID253

from gradcheck.backends.base import is_scalar
from gradcheck.backends.functions import Functions
from gradcheck.backends.names import UNARY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Axis = int | tuple[int, ...] | None

_COMPARISONS = {
    "equal": torch.eq,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "less": torch.lt,
    "less_equal": torch.le,
    "not_equal": torch.ne,
}
_REAL = {"divide": torch.divide, "logaddexp": torch.logaddexp, "pow": torch.pow}
_KINDS = {
    "add": torch.add,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "multiply": torch.multiply,
    "subtract": torch.subtract,
}
_KEEP_INTEGERS = {"abs", "negative", "sign"}


class TorchFunctions(Functions):
    """The documented names in torch, for one dtype on one device."""

    def __init__(self, dtype: str, device: str) -> None:
        super().__init__(dtype, device)
        self.type: torch.dtype = getattr(torch, dtype)
        composed = {"sigmoid", "square"}
        for name in UNARY:
            if name not in composed:
                setattr(self, name, self._unary(getattr(torch, name), name in _KEEP_INTEGERS))
        for name, function in (_REAL | _KINDS | _COMPARISONS).items():
            setattr(self, name, self._binary(function, real=name in _REAL))
        self.inv, self.det = torch.linalg.inv, torch.linalg.det

    def _unary(self, function: Callable[..., Any], keep: bool) -> Callable[..., Any]:
        return lambda x: function(self.lift(x) if keep else self.real(x))

    def _binary(self, function: Callable[..., Any], *, real: bool) -> Callable[..., Any]:
        def binary(x: Any, y: Any) -> Any:
            x, y = self.together(x, y)
            return function(self.real(x), self.real(y)) if real else function(x, y)

        return binary

    def lift(self, x: Any) -> Any:
        """Anything as a tensor: floats in the namespace's dtype."""
        if isinstance(x, torch.Tensor):
            return x
        if isinstance(x, (np.ndarray, np.generic)) and x.dtype.kind in "biu":
            return torch.as_tensor(x, device=self.device)
        return self.asarray(x)

    def real(self, x: Any) -> Any:
        """A tensor of floats: torch would turn integers into its default dtype."""
        x = self.lift(x)
        return x if x.is_floating_point() else x.to(self.type)

    def together(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Two tensors; a Python number takes the dtype of its partner, unless it is finer."""
        if is_scalar(x) and not is_scalar(y):
            y, x = self.together(y, x)
            return x, y
        x = self.lift(x)
        if is_scalar(y):
            fits = x.is_floating_point() or type(y) is not float
            y = torch.tensor(y, dtype=x.dtype if fits else self.type, device=x.device)
        return x, self.lift(y)

    def asarray(self, x: Any) -> Any:
        """A tensor in the namespace's dtype, through which derivatives flow."""
        if isinstance(x, torch.Tensor):
            return x.to(device=self.device, dtype=self.type)
        if isinstance(x, (list, tuple)) and _holds_tensor(x):
            return torch.stack([self.asarray(member) for member in x])
        return torch.as_tensor(np.asarray(x), dtype=self.type, device=self.device)

    # ---- reductions

    def _axes(self, x: Any, axis: Axis) -> tuple[int, ...]:
        if axis is None:
            return tuple(range(x.ndim))
        return (axis,) if isinstance(axis, int) else tuple(axis)

    def _reduce(self, function: Callable[..., Any], x: Any, axis: Axis, keepdims: bool) -> Any:
        x = self.lift(x)
        axes = self._axes(x, axis)
        # torch reads an empty tuple as "all axes".
        return function(x, dim=axes, keepdim=keepdims) if axes else x

    def sum(self, x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
        """The sum over axes."""
        return self._reduce(torch.sum, x, axis, keepdims)

    def max(self, x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
        """The largest entry; ties share the derivative."""
        return self._reduce(torch.amax, x, axis, keepdims)

    def min(self, x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
        """The smallest entry; ties share the derivative."""
        return self._reduce(torch.amin, x, axis, keepdims)

    def logsumexp(self, x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
        """Log Σ exp."""
        return self._reduce(torch.logsumexp, self.real(x), axis, keepdims)

    def prod(self, x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
        """The product over axes."""
        x = self.lift(x)
        axes = sorted((a % x.ndim for a in self._axes(x, axis)), reverse=True)
        for a in axes:
            x = torch.prod(x, dim=a, keepdim=keepdims)
        return x

    def mean(self, x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
        """The mean, in the namespace's dtype for integers."""
        return super().mean(self.real(x), axis=axis, keepdims=keepdims)

    # ---- products, selection, shapes

    def where(self, condition: Any, x: Any, y: Any) -> Any:
        """X where the condition holds, else y."""
        if is_scalar(x) and is_scalar(y):
            x = self.asarray(x)
        condition = torch.as_tensor(condition, dtype=torch.bool, device=self.device)
        return torch.where(condition, *self.together(x, y))

    def einsum(self, equation: str, *operands: Any) -> Any:
        """A contraction in einsum notation."""
        return torch.einsum(equation, *same_type([self.lift(x) for x in operands]))

    def matmul(self, x: Any, y: Any) -> Any:
        """The matrix product."""
        return torch.matmul(*same_type([self.lift(x), self.lift(y)]))

    def broadcast_to(self, x: Any, shape: Sequence[int]) -> Any:
        """The array repeated to a shape."""
        return torch.broadcast_to(self.lift(x), tuple(shape))

    def concat(self, arrays: Sequence[Any], axis: int = 0) -> Any:
        """Arrays joined along an axis that they have."""
        return torch.cat(same_type([self.lift(x) for x in arrays]), dim=axis)

    def stack(self, arrays: Sequence[Any], axis: int = 0) -> Any:
        """Arrays joined along a new axis."""
        return torch.stack(same_type([self.lift(x) for x in arrays]), dim=axis)

    def cumulative_sum(self, x: Any, axis: int | None = None) -> Any:
        """Partial sums along an axis."""
        return torch.cumsum(x.reshape(-1) if axis is None else x, dim=axis or 0)

    def expand_dims(self, x: Any, axis: int = 0) -> Any:
        """A new axis of size 1."""
        return torch.unsqueeze(self.lift(x), axis)

    def flip(self, x: Any, axis: Axis = None) -> Any:
        """The order reversed along axes."""
        return torch.flip(x, self._axes(x, axis))

    def permute_dims(self, x: Any, axes: Sequence[int]) -> Any:
        """The axes in another order."""
        return torch.permute(x, tuple(axes))

    def reshape(self, x: Any, shape: int | Sequence[int]) -> Any:
        """The same entries in another shape."""
        return torch.reshape(self.lift(x), (shape,) if isinstance(shape, int) else tuple(shape))

    def roll(self, x: Any, shift: int | tuple[int, ...], axis: Axis = None) -> Any:
        """The entries shifted around along axes."""
        return torch.roll(x, shift) if axis is None else torch.roll(x, shift, axis)

    def squeeze(self, x: Any, axis: Axis = None) -> Any:
        """Axes of size 1 taken away."""
        return torch.squeeze(x) if axis is None else torch.squeeze(x, dim=axis)

    def tril(self, x: Any, k: int = 0) -> Any:
        """The lower triangle of the last two axes."""
        return torch.tril(x, diagonal=k)

    def triu(self, x: Any, k: int = 0) -> Any:
        """The upper triangle of the last two axes."""
        return torch.triu(x, diagonal=k)

    def _index(self, indices: Any) -> Any:
        indices = torch.as_tensor(indices, device=self.device)
        return indices if indices.dtype is torch.bool else indices.long()

    # ---- creation

    def arange(self, n: int) -> Any:
        """The integers below n."""
        return torch.arange(n, device=self.device)

    def eye(self, n: int) -> Any:
        """The identity matrix."""
        return torch.eye(n, dtype=self.type, device=self.device)

    def ones(self, shape: int | Sequence[int]) -> Any:
        """Ones in the namespace's dtype."""
        return torch.ones(shape, dtype=self.type, device=self.device)

    def zeros(self, shape: int | Sequence[int]) -> Any:
        """Zeros in the namespace's dtype."""
        return torch.zeros(shape, dtype=self.type, device=self.device)

    def ones_like(self, x: Any) -> Any:
        """Ones of the same shape and dtype."""
        return 1.0 if is_scalar(x) else torch.ones_like(x)

    def zeros_like(self, x: Any) -> Any:
        """Zeros of the same shape and dtype."""
        return 0.0 if is_scalar(x) else torch.zeros_like(x)


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_holds_tensor(member) for member in value)
    return isinstance(value, torch.Tensor)


def same_type(operands: Sequence[Any]) -> list[Any]:
    """Tensors in their common type, which torch's products do not find by themselves."""
    kinds = {operand.dtype for operand in operands}
    if len(kinds) < 2:
        return list(operands)
    common = torch.result_type(operands[0], operands[1])
    for operand in operands[2:]:
        common = torch.promote_types(common, operand.dtype)
    return [operand.to(common) for operand in operands]


# Where torch makes floats of integers and Python floats, or of integers alone.
_WITH_FLOATS = {"add", "sub", "subtract", "mul", "multiply", "rsub", "pow", "rpow"}
_ALWAYS = {"div", "divide", "true_divide", "truediv", "rdiv", "rtruediv", "reciprocal"}


class WideIntegers(TorchFunctionMode):  # type: ignore[misc]
    """Integers and masks meet Python floats in float64, not in torch's default dtype.

    `(x > 0) * 0.9 + 0.1` would otherwise round its constants to float32 in a forward that runs in
    float64. Changing the default dtype would do it too, for every thread of the user's process.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "").strip("_")
        if name in _ALWAYS or (name in _WITH_FLOATS and any(type(a) is float for a in args)):
            tensors = [a for a in args if isinstance(a, torch.Tensor)]
            if tensors and not any(a.is_floating_point() for a in tensors):
                args = [a.double() if isinstance(a, torch.Tensor) else a for a in args]
        return func(*args, **(kwargs or {}))
