"""A spec or chain as a `tf.custom_gradient` function whose gradient is the derivation."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from gradcheck import backends
from gradcheck.backends.writing import GENERIC, Writing, generic
from gradcheck.layers.rules_out import Forwarded, FrameworkRule, Rewritten

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gradcheck.operation import Operation


def as_tensorflow(target: Operation | str) -> TensorFlowRule:
    """A spec or chain as a TensorFlow function that is differentiated by its hand-derived rule.

    The function takes tensors or variables for the inputs, in order or by name, and the parameters by
    name; it works eagerly and inside `tf.function` at known shapes, on its own and inside Keras layers,
    and can be differentiated again.

    Args:
        target: A spec, a chain, or the name of one as on the command line.

    Returns:
        A callable.

    Raises:
        UsageError: Where a derivative is missing, naming it.
    """
    return TensorFlowRule(target)


class TensorFlowRule(FrameworkRule):
    """A function on tensors with a hand-derived gradient; made by `as_tensorflow`.

    Attributes:
        operation: The spec or chain.
        framework: "tensorflow".
    """

    framework = "tensorflow"
    _shown = "TensorFlow"
    _hook = "tf.custom_gradient function"

    def _array(self, value: Any) -> Any:
        import tensorflow as tf

        return tf.convert_to_tensor(value)

    def _common(self, real: Mapping[str, Any]) -> Any:
        dtype = real[self._rule.wrt[0]].dtype
        for tensor in real.values():
            if tensor.dtype.is_floating and tensor.dtype.size > dtype.size:
                dtype = tensor.dtype
        return dtype

    def _cast(self, array: Any, dtype: Any) -> Any:
        import tensorflow as tf

        return tf.cast(array, dtype)

    def _apply(self, arrays: Sequence[Any], params: dict[str, Any]) -> Any:
        return self._custom(params)(*arrays)

    def _custom(self, params: Mapping[str, Any]) -> Callable[..., Any]:
        """The `tf.custom_gradient` function at these parameters: a graph's takes no arguments by name."""
        import tensorflow as tf

        rule, backend = self._rule, _plainly()

        @tf.custom_gradient  # type: ignore[untyped-decorator]
        def function(*arrays: Any) -> tuple[Any, Callable[..., Any]]:
            value, forwarded = self._forward(arrays, params)

            def gradient(cotangent: Any) -> list[Any]:
                found = rule.backward(backend, forwarded, cotangent, rule.wrt)
                return [backend.asarray_like(found[n]) if n in found else None for n in rule.inputs]

            return value, gradient

        return function  # type: ignore[no-any-return]

    def _forward(self, arrays: Sequence[Any], params: Mapping[str, Any]) -> tuple[Any, Forwarded]:
        """The forward in TensorFlow; of what it leaves, tensors of real numbers are plain."""
        backend = self.backend
        like = arrays[self._rule.inputs.index(self._rule.wrt[0])]
        place = backend.dtype_of(like), backend.device_of(like)
        wrapped = [backend.asarray(a, *place) for a in arrays]
        value, kept = self._rule.forward(backend, wrapped, params)
        operands = {n: self._bare(v) for n, v in kept.operands.items()}
        return value, Forwarded(operands, kept.sizes)

    def _bare(self, value: Any) -> Any:
        """A tensor out of its wrapper, but for integers, which TensorFlow refuses to mix with floats."""
        plain = hasattr(value, "shape") and "float" in self.backend.dtype_of(value)
        return self.backend.asarray_like(value) if plain else value


# Lines without the namespace's wrapper around tensors, which takes as long as a small operation.
_DIRECT = {
    **GENERIC,
    "xp.sum": "tf.reduce_sum({0}, axis={axis}, keepdims={keepdims})",
    "transpose": "tf.transpose({0}, {1})",
    "turned": "tf.transpose({0})",
    "dot": "tf.matmul({0}, {1})",
    "dot turned": "tf.matmul({0}, {1}, transpose_a=True)",
    "reshape": "tf.reshape({0}, {1})",
    "expand": "expand({0}, {1})",
    "copy": "tf.identity({0})",
    "zeros": "tf.zeros({shape}, {dtype})",
    "full": "tf.fill({shape}, tf.cast({0}, {dtype}))",
}


@functools.cache
def _plainly() -> Any:
    """TensorFlow's backend, its programs of operations on plain tensors."""
    import tensorflow as tf

    backend = backends.get("tensorflow")

    def expand(tensor: Any, index: tuple[slice | None, ...]) -> Any:
        """`tensor[:, None]`, which takes three times as long."""
        for axis, place in enumerate(index):
            tensor = tf.expand_dims(tensor, axis) if place is None else tensor
        return tensor

    def writing(dtype: str, device: str) -> Writing:
        spread = generic(backend.namespace(dtype, device)).calls
        calls = {**spread, "tf": tf, "expand": expand, dtype: tf.dtypes.as_dtype(dtype)}
        return Writing(direct=_DIRECT, calls=calls)

    return Rewritten(backend, writing)
