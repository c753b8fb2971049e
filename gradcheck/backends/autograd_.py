"""HIPS autograd: NumPy with reverse mode differentiation, on the host.

Some names need a form that autograd can differentiate everywhere: its own `prod` divides by the
entries (nan at a zero), its `where` does not undo broadcasting, its `einsum` cannot go back through
a repeated letter, and its `erf` needs SciPy, which it does not require.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import autograd.numpy as anp  # noqa: TID253 - this file is imported only when autograd is asked for
import numpy as np
from autograd.core import make_vjp  # noqa: TID253
from autograd.extend import defvjp, primitive, vspace  # noqa: TID253
from autograd.numpy.numpy_vjps import untake  # noqa: TID253
from autograd.tracer import getval, isbox  # noqa: TID253

from gradcheck.backends import numpy_
from gradcheck.backends.base import check_differentiable, is_scalar, outputs_of, pick_output
from gradcheck.backends.functions import NumpyLike

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

erf = primitive(numpy_.erf)
defvjp(erf, lambda _, x: lambda g: g * (2 / math.sqrt(math.pi)) * anp.exp(-x * x))


class AutogradFunctions(NumpyLike):
    """The documented names in autograd.numpy."""

    def __init__(self, dtype: str, device: str = "cpu") -> None:
        super().__init__(anp, dtype, device)
        self.erf = erf

    def asarray(self, x: Any) -> Any:
        """An array in the namespace's dtype, through which derivatives flow."""
        if isbox(x):
            return x if x.dtype == self.dtype else x.astype(self.dtype)
        if isinstance(x, (list, tuple)) and any(_holds_box(member) for member in x):
            return anp.stack([self.asarray(member) for member in x])
        return np.asarray(x, dtype=self.dtype)

    def where(self, condition: Any, x: Any, y: Any) -> Any:
        """X where the condition holds, else y."""
        x, y = _same_dtype(self, x, y)
        shape = np.broadcast_shapes(np.shape(condition), x.shape, y.shape)
        return anp.where(condition, self.broadcast_to(x, shape), self.broadcast_to(y, shape))

    def broadcast_to(self, x: Any, shape: Sequence[int]) -> Any:
        """The array repeated to a shape; autograd must be given the new axes first."""
        x, shape = self.lift(x), tuple(shape)
        return anp.broadcast_to(anp.reshape(x, (1,) * (len(shape) - x.ndim) + x.shape), shape)

    def prod(
        self, x: Any, axis: int | tuple[int, ...] | None = None, keepdims: bool = False
    ) -> Any:
        """The product, by multiplication alone."""
        rank = len(x.shape)
        axes = range(rank) if axis is None else (axis,) if isinstance(axis, int) else axis
        for a in axes:
            before = (slice(None),) * (a % rank)
            shape = tuple(1 if i == a % rank else n for i, n in enumerate(x.shape))
            product = np.ones(shape, dtype=x.dtype)
            for i in range(x.shape[a]):
                product = product * x[(*before, slice(i, i + 1))]
            x = product
        kept = x.shape if keepdims else _without(x.shape, axes)
        return anp.reshape(x, kept)

    def einsum(self, equation: str, *operands: Any) -> Any:
        """A contraction in einsum notation; repeated letters are taken as diagonals first."""
        return _einsum(equation.replace(" ", ""), [self.lift(x) for x in operands])

    def _constant(self, x: Any) -> Any:
        while isbox(x):
            x = getval(x)
        return x


def _holds_box(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_holds_box(member) for member in value)
    return bool(isbox(value))


def _without(shape: Sequence[int], axes: Sequence[int]) -> tuple[int, ...]:
    gone = {a % len(shape) for a in axes}
    return tuple(n for i, n in enumerate(shape) if i not in gone)


def _same_dtype(functions: AutogradFunctions, x: Any, y: Any) -> tuple[Any, Any]:
    """Python numbers as arrays in the dtype of their partner."""
    if is_scalar(x):
        x = np.asarray(x, dtype=functions.dtype if is_scalar(y) else np.result_type(y.dtype, x))
    if is_scalar(y):
        y = np.asarray(y, dtype=np.result_type(x.dtype, y))
    return x, y


def _einsum(equation: str, operands: list[Any]) -> Any:
    inputs, _, output = equation.partition("->")
    words = inputs.split(",")
    for i, word in enumerate(words):
        words[i], operands[i] = _diagonal(word, operands[i])
    return anp.einsum(f"{','.join(words)}->{output}", *operands)


def _diagonal(word: str, x: Any) -> tuple[str, Any]:
    """An operand with each letter once: `ppq` becomes `pq`, by indexing."""
    letters = "".join(dict.fromkeys(word))
    if letters == word:
        return word, x
    sizes = [x.shape[word.index(letter)] for letter in letters]
    grids = np.ogrid[tuple(slice(n) for n in sizes)]
    return letters, x[tuple(grids[letters.index(letter)] for letter in word)]


class AutogradBackend(numpy_.NumpyBackend):
    """HIPS autograd on the host."""

    name: ClassVar[str] = "autograd"
    package: ClassVar[str] = "autograd"
    differentiates: ClassVar[bool] = True
    dtypes: ClassVar[tuple[str, ...]] = ("float64", "float32", "float16")
    _path_from: ClassVar[int] = 3

    def _functions(self, dtype: str, device: str) -> NumpyLike:
        return AutogradFunctions(dtype, device)

    def asarray(self, value: Any, dtype: str, device: str = "cpu") -> Any:
        """A numpy array, or autograd's box with its history."""
        if not isbox(value):
            return super().asarray(value, dtype, device)
        return value if value.dtype.kind in "biu" else value.astype(self.check_dtype(dtype))

    def asarray_like(self, value: Any) -> Any:
        """The value as an array in its own dtype, or autograd's box as it is."""
        return value if isbox(value) else np.asarray(value)

    def to_numpy(self, array: Any) -> np.ndarray:
        """The values, out of autograd's boxes."""
        while isbox(array):
            array = getval(array)
        return np.asarray(array)

    def derivative(  # type: ignore[override]
        self,
        fn: Callable[..., Any],
        arrays: Sequence[Any],
        wrt: int,
        *,
        output: int = 0,
        dtype: str = "float64",
        device: str = "cpu",
        key: Hashable | None = None,  # noqa: ARG002
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """One backward pass an entry of the output."""
        check_differentiable(arrays, wrt)
        outputs: list[np.ndarray] = []
        depends: list[bool] = []
        with self.scope(dtype):
            xp = self.namespace(dtype, device)
            inputs = [self.asarray(np.array(array), dtype, device) for array in arrays]

            def chosen(x: Any) -> Any:
                results = outputs_of(fn(xp, *inputs[:wrt], x, *inputs[wrt + 1 :]))
                outputs.extend(self._host(value, dtype) for value in results)
                value = pick_output(results, output)
                depends.append(isbox(value))
                return value if depends[0] else x  # autograd warns of a constant

            vjp, _ = make_vjp(chosen, inputs[wrt])
            jacobian = _rows(vjp if depends[0] else None, outputs[output], inputs[wrt])
        return outputs, jacobian.astype(dtype, copy=False)

    def _plain_einsum(self, equation: str, *arrays: Any) -> Any:
        return _einsum(equation, list(arrays))

    def _step(self, x: Any) -> Any:
        return np.asarray(x > 0).astype(x.dtype)[()]

    def _transpose(self, x: Any, axes: Sequence[int]) -> Any:
        return anp.transpose(x, axes)

    def _add_diagonal(self, out: Any, core: Any, places: Sequence[int]) -> Any:
        if not (isbox(out) or isbox(core)):
            return super()._add_diagonal(out, core, places)
        grids = np.ogrid[tuple(slice(n) for n in core.shape)]
        # `untake` is autograd's own scatter, the derivative of indexing.
        return out + untake(core, tuple(grids[place] for place in places), vspace(getval(out)))


def _rows(
    vjp: Callable[[Any], Any] | None, value: np.ndarray[Any, Any], x: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    """The Jacobian, one cotangent of the standard basis at a time."""
    jacobian = np.zeros((value.size, *x.shape), dtype=x.dtype)
    if vjp is not None and jacobian.size and value.dtype.kind == "f":
        for i in range(value.size):
            cotangent = np.zeros(value.shape, dtype=value.dtype)
            cotangent.flat[i] = 1
            jacobian[i] = vjp(cotangent)
    return jacobian.reshape(value.shape + x.shape)
