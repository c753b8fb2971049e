"""TensorFlow: eager forwards, reverse mode differentiation, on the host and on GPUs.

Measured on two cores for the Jacobian of a softmax of (4, 5), at a new shape and at a repeated one:
one gradient of a persistent tape a row takes 25 ms at both; `tape.jacobian` by its loop 50 ms; all
rows at once by its vectorised loop (`pfor`) 75 to 110 ms, whatever the number of rows. Compiled by
`tf.function`, a repeated shape costs next to nothing and a new one 45 ms (one cotangent) to 100 ms
(all). A search comes back to a shape about four times and most outputs have few entries, so that
row by row is the cheapest there; from some 64 rows on the vectorised loop is.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from gradcheck.backends.base import (
    Backend,
    check_differentiable,
    is_scalar,
    outputs_of,
    pick_output,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep to itself what TensorFlow writes while it is imported, unless the import fails.

    Some of it (that oneDNN is on) comes before any of its settings is looked at; it goes to the
    file descriptor, past Python.
    """
    unset = "TF_CPP_MIN_LOG_LEVEL" not in os.environ
    with tempfile.TemporaryFile() as kept, contextlib.ExitStack() as stack:
        if unset:
            os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
            stack.callback(os.environ.pop, "TF_CPP_MIN_LOG_LEVEL", None)
        saved = os.dup(2)
        stack.callback(os.close, saved)
        os.dup2(kept.fileno(), 2)
        stack.callback(os.dup2, saved, 2)
        try:
            yield
        except BaseException:
            kept.seek(0)
            os.write(saved, kept.read())
            raise


if "tensorflow" in sys.modules:
    import tensorflow as tf
else:
    with _quietly():
        import tensorflow as tf

from gradcheck.backends.tensorflow_array import Array, plain  # noqa: E402 - they import TensorFlow
from gradcheck.backends.tensorflow_functions import functions_of, same_type  # noqa: E402

# From so many rows on the vectorised loop is tried; where an operation has no vectorised form
# TensorFlow says so, and each row then has its own pass. And how many numbers go through at a time.
_BATCH_FROM = 64
_CHUNK = 1 << 22


class TensorFlowBackend(Backend):
    """TensorFlow on the host or on GPUs."""

    name: ClassVar[str] = "tensorflow"
    package: ClassVar[str] = "tensorflow"
    # tf.einsum finds and keeps a good order by itself.
    _path_from: ClassVar[int] = 1 << 30

    def version(self) -> str:
        """The version, under whichever name it was installed (tensorflow, tensorflow-cpu)."""
        return str(tf.__version__)

    def devices(self) -> list[str]:
        """The host, and the GPUs that TensorFlow sees."""
        return ["cpu", *(f"cuda:{i}" for i in range(_gpus()))]

    def _functions(self, dtype: str, device: str) -> Any:
        return functions_of(dtype, device)

    @contextlib.contextmanager
    def scope(self, dtype: str) -> Iterator[None]:
        """The dtype, on GPUs at full precision: products without TF32."""
        with super().scope(dtype), _full_precision() if _gpus() else contextlib.nullcontext():
            yield

    def asarray(self, value: Any, dtype: str, device: str = "cpu") -> Any:
        """An array for a forward; what is a tensor already keeps its history."""
        device = self.find_device(device)
        functions = functions_of(self.check_dtype(dtype), device)
        value = plain(value)
        with _on(device):
            # A copy of what is the caller's own: TensorFlow may share memory with NumPy.
            foreign = not isinstance(value, (tf.Tensor, tf.Variable))
            tensor = tf.convert_to_tensor(np.array(value) if foreign else value)
            if tensor.dtype.is_floating:
                tensor = tf.cast(tensor, functions.type)
            if _gpus() and self.device_of(tensor) != device:
                tensor = tf.identity(tensor)
        return Array(tensor, functions)

    def bare_results(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function with tensors for the namespace's arrays."""

        def bare(*args: Any, **values: Any) -> Any:
            return tf.nest.map_structure(plain, function(*args, **values))

        return bare

    def asarray_like(self, value: Any) -> Any:
        """The plain tensor; anything else as a tensor in its own dtype."""
        value = plain(value)
        if isinstance(value, (tf.Tensor, tf.Variable)):
            return value
        return tf.convert_to_tensor(np.asarray(value))

    def to_numpy(self, array: Any) -> np.ndarray:
        """The values on the host."""
        array = plain(array)
        if getattr(array, "dtype", None) == tf.bfloat16:
            array = tf.cast(array, tf.float32)
        return np.asarray(array)

    def device_of(self, array: Any) -> str:
        """The device on which the tensor lies; one that is being traced lies on the host."""
        kind, _, index = getattr(plain(array), "device", "").rpartition("device:")[2].partition(":")
        return f"cuda:{int(index)}" if kind == "GPU" else "cpu"

    def dtype_of(self, array: Any) -> str:
        """The name of the dtype."""
        array = plain(array)
        return str(array.dtype.name) if hasattr(array, "dtype") else super().dtype_of(array)

    def apply(
        self,
        fn: Callable[..., Any],
        arrays: Sequence[Any],
        dtype: str,
        device: str = "cpu",
        *,
        key: Hashable | None = None,
    ) -> list[np.ndarray]:
        """The outputs of `fn(xp, *arrays)`, computed on the device."""
        with _on(self.find_device(device)):
            return super().apply(fn, arrays, dtype, device, key=key)

    def derivative(
        self,
        fn: Callable[..., Any],
        arrays: Sequence[Any],
        wrt: int,
        *,
        output: int = 0,
        dtype: str = "float64",
        device: str = "cpu",
        key: Hashable | None = None,  # noqa: ARG002 - nothing is compiled
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """One forward on a tape, and a backward pass for each entry of the output."""
        check_differentiable(arrays, wrt)
        with self.scope(dtype), _on(self.find_device(device)):
            inputs = [self.asarray(np.array(array), dtype, device) for array in arrays]
            x = inputs[wrt].tensor
            with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
                tape.watch(x)
                results = outputs_of(fn(self.namespace(dtype, device), *inputs))
            value = plain(pick_output(results, output))
            rows = _rows(tape, value, x)
        shape = tuple(getattr(value, "shape", ())) + tuple(x.shape)
        outputs = [self._host(result, dtype) for result in results]
        return outputs, self._host(rows, dtype).reshape(shape)

    # ---- the evaluation of einsum terms: plain tensors come out, whatever went in

    def lift(self, arrays: Sequence[Any]) -> list[Any]:
        """Plain tensors in their common type."""
        return same_type([plain(array) for array in super().lift(arrays)])

    def _plain_einsum(self, equation: str, *arrays: Any) -> Any:
        with _on(self.device_of(arrays[0])):
            return tf.einsum(equation, *arrays)

    def function(self, name: str) -> Callable[[Any], Any]:
        """A function of the notation, in the dtype and on the device of its argument."""
        function = super().function(name)
        if name == "step":
            return function

        def typed(x: Any) -> Any:
            if is_scalar(x):
                return function(x)
            x = plain(x)
            device = self.device_of(x)
            dtype = self.dtype_of(x) if x.dtype.is_floating else "float64"
            with _on(device):
                return plain(getattr(self.namespace(dtype, device), name)(x))

        return typed

    def _step(self, x: Any) -> Any:
        x = plain(x)
        return tf.cast(x > 0, x.dtype)

    def power(self, x: Any, exponent: Any) -> Any:
        """A rational power, of a plain tensor."""
        return super().power(plain(x), exponent)

    def scale(self, x: Any, coefficient: float) -> Any:
        """The tensor times a number."""
        x = plain(x)
        if is_scalar(x) or x.dtype.is_floating:
            return x * coefficient
        return tf.cast(x, tf.float64) * coefficient

    def full(self, shape: tuple[int, ...], value: float, like: Any = None) -> Any:
        """A constant tensor in the dtype and on the device of another."""
        kind = tf.float64 if like is None else plain(like).dtype
        with _on(self.device_of(like)):
            return tf.fill(shape, tf.constant(value, dtype=kind))

    def one_hot(self, labels: Any, size: int, like: Any) -> Any:
        """Labels as indicators in the dtype and on the device of `like`."""
        with _on(self.device_of(like)):
            labels = tf.cast(plain(labels), tf.int64)
            return tf.cast(labels[..., None] == tf.range(size, dtype=tf.int64), plain(like).dtype)

    def _transpose(self, x: Any, axes: Sequence[int]) -> Any:
        return tf.transpose(plain(x), list(axes))

    def _add_diagonal(self, out: Any, core: Any, places: Sequence[int]) -> Any:
        out, rank = plain(out), len(core.shape)
        if len(places) == rank:
            return out + core
        grids = np.indices(tuple(core.shape), sparse=False)
        where = np.stack([grids[place] for place in places], axis=-1)
        with _on(self.device_of(out)):
            return tf.tensor_scatter_nd_add(out, where, core) if where.size else out


def _gpus() -> int:
    return len(tf.config.list_physical_devices("GPU"))


def _on(device: str) -> contextlib.AbstractContextManager[Any]:
    """Compute on a device; where there is only the host there is nothing to say."""
    if not _gpus():
        return contextlib.nullcontext()
    place: contextlib.AbstractContextManager[Any] = tf.device(
        "/CPU:0" if device == "cpu" else f"/GPU:{device.partition(':')[2]}"
    )
    return place


@contextlib.contextmanager
def _full_precision() -> Iterator[None]:
    """Products of float32 in float32, put back as it was: this setting is the process's."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


def _rows(tape: Any, value: Any, x: Any) -> Any:
    """The Jacobian, one row for each entry of the value."""
    shape = tuple(getattr(value, "shape", ()))
    size = int(np.prod(shape, dtype=np.int64))
    nothing = np.zeros((size, *x.shape))
    if not nothing.size or not isinstance(value, tf.Tensor) or not value.dtype.is_floating:
        return nothing
    if size >= _BATCH_FROM:
        rows = _batched_rows(tape, value, x, size)
        if rows is not None:
            return rows
    rows = []
    for cotangent in tf.unstack(tf.reshape(tf.eye(size, dtype=value.dtype), (size, *shape))):
        row = tape.gradient(value, x, output_gradients=cotangent)
        if row is None:  # the value does not depend on x, whatever the cotangent
            return nothing
        rows.append(tf.convert_to_tensor(row))  # indexing has sparse gradients
    return tf.stack(rows)


def _batched_rows(tape: Any, value: Any, x: Any, size: int) -> Any:
    """The rows by vectorised backward passes, or None where an operation has no such form."""
    step = max(1, min(size, _CHUNK // max(size, int(np.prod(x.shape, dtype=np.int64)))))

    def back(cotangent: Any) -> Any:
        row = tape.gradient(value, x, output_gradients=cotangent, unconnected_gradients="zero")
        return tf.convert_to_tensor(row)

    def rows(basis: Any) -> Any:
        return tf.vectorized_map(back, basis, fallback_to_while_loop=False)

    # Traced, not called: TensorFlow would warn its users of functions traced again and again.
    taken = tf.TensorSpec((step, *value.shape), value.dtype)
    try:
        traced = tf.function(rows, autograph=False).get_concrete_function(taken)
    except (ValueError, TypeError, LookupError, NotImplementedError):
        return None
    # Rows beyond the last are of zeros, so that every chunk has the shape that was traced.
    bases = (np.eye(step, size, start).reshape(taken.shape) for start in range(0, size, step))
    return tf.concat([traced(tf.cast(basis, value.dtype)) for basis in bases], axis=0)[:size]
