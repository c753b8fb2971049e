"""A spec or chain as a `tf.custom_gradient` function whose gradient is the derivation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradcheck import backends
from gradcheck.layers.rules_out import Forwarded, RuleOut, check_float

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
    return TensorFlowRule(RuleOut(target))


class TensorFlowRule:
    """A function on tensors with a hand-derived gradient; made by `as_tensorflow`.

    Attributes:
        operation: The spec or chain.
        framework: "tensorflow".
    """

    framework = "tensorflow"

    def __init__(self, rule: RuleOut) -> None:
        backends.get("tensorflow")
        self.operation = rule.operation
        self._rule = rule
        self.__name__ = f"{rule.operation.name}_by_hand"
        self.__doc__ = rule.describe("TensorFlow", "tf.custom_gradient function")

    def __call__(self, *args: Any, **given: Any) -> Any:
        """The result of the forward.

        Raises:
            UsageError: For a name that is unknown or missing, a dtype that is not a float's, or a shape
                that is not known while a graph is traced.
            ShapeError: For tensors that do not fit the axes.
        """
        arrays, params = self._rule.arguments(args, given)
        tensors = _tensors(self._rule, arrays)
        self._rule.check_shapes(tensors, params)
        return _function_of(self._rule, params)(*tensors)

    def __repr__(self) -> str:
        return f"<TensorFlow rule of {self.operation.name}>"


def _tensors(rule: RuleOut, arrays: Sequence[Any]) -> list[Any]:
    """Tensors of one floating point type; conversions are TensorFlow's own, and so are their gradients."""
    import tensorflow as tf

    named = {n: tf.convert_to_tensor(a) for n, a in zip(rule.inputs, arrays, strict=True)}
    for name in rule.wrt:
        check_float(name, named[name].dtype.name, rule.operation)
    real = {n: t for n, t in named.items() if not rule.is_integer(n)}
    dtype = next(named[n].dtype for n in rule.wrt)
    for tensor in real.values():
        if tensor.dtype.is_floating and tensor.dtype.size > dtype.size:
            dtype = tensor.dtype
    return [tf.cast(t, dtype) if n in real else t for n, t in named.items()]


def _function_of(rule: RuleOut, params: Mapping[str, Any]) -> Callable[..., Any]:
    """The `tf.custom_gradient` function at these parameters: a graph's takes no arguments by name."""
    import tensorflow as tf

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def function(*arrays: Any) -> tuple[Any, Callable[..., Any]]:
        value, forwarded = _run(rule, params, arrays)

        def gradient(cotangent: Any) -> list[Any]:
            found = rule.backward(backends.get("tensorflow"), forwarded, cotangent, rule.wrt)
            return [found.get(n) for n in rule.inputs]

        return value, gradient

    return function  # type: ignore[no-any-return]


def _run(rule: RuleOut, params: Mapping[str, Any], arrays: Sequence[Any]) -> tuple[Any, Forwarded]:
    """The forward in TensorFlow, its arrays plain tensors."""
    backend = backends.get("tensorflow")
    like = arrays[rule.inputs.index(rule.wrt[0])]
    place = backend.dtype_of(like), backend.device_of(like)
    wrapped = [backend.asarray(a, *place) for a in arrays]
    value, kept = rule.forward(backend, *place, wrapped, params)
    operands = {
        n: v if isinstance(v, int | float | str) else backend.asarray_like(v)
        for n, v in kept.operands.items()
    }
    return backend.asarray_like(value), Forwarded(operands, kept.sizes)
