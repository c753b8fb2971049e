"""TensorFlow functions and Keras layers as rules: `tf.custom_gradient`, `keras.Layer`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradcheck import backends
from gradcheck.errors import UsageError
from gradcheck.layers.rule import Rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcheck.layers.reference import Reference

    Arrays = dict[str, Any]


def is_layer(layer: Any) -> bool:
    """Whether it is a Keras layer; found without importing Keras."""
    return any(
        c.__module__.startswith("keras.") and c.__name__ == "Layer" for c in type(layer).__mro__
    )


def rule_of_function(layer: Callable[..., Any], reference: Reference, name: str) -> Rule:
    """A function on tensors, called with the inputs by place and the parameters by name.

    The tape hands on what a `tf.custom_gradient` returns as it is: it neither sums nor casts.
    """

    def call(tensors: Arrays, params: dict[str, Any]) -> Any:
        return layer(*tensors.values(), **params)

    return _rule(_Layer(call, name), reference)


def rule_of_layer(layer: Any, reference: Reference, name: str, *, training: bool | None) -> Rule:
    """A Keras layer; an input named as one of its weights is that weight.

    The layer itself is left as it is: it runs without state, on copies of its weights.

    Raises:
        UsageError: Where it is not built, does not run on TensorFlow, or has a trainable weight that is
            no input of the reference.
    """
    _check_layer(layer, reference)
    held = weights_of(layer)
    places = {n: held[n] for n in reference.inputs if n in held}
    free = [n for n, v in held.items() if v.trainable and n not in places]
    if free:
        raise UsageError(
            f"{name} has the trainable weight {free[0]!r}, which is no input of `of` "
            f"({', '.join(reference.inputs)}): its gradient would not be verified. Name it in `of`, or "
            "freeze it: layer.trainable = False"
        )
    mode = "" if training is None else f" (training={training})"
    rule = _rule(_Layer(_stateless(layer, places, training), name + mode), reference)
    rule.dtypes = (layer.compute_dtype,)
    return rule


def _check_layer(layer: Any, reference: Reference) -> None:
    import keras

    name = type(layer).__name__
    if keras.backend.backend() != "tensorflow":
        raise UsageError(
            f"{name} runs on Keras's {keras.backend.backend()} backend; Keras layers are verified on "
            "TensorFlow: set KERAS_BACKEND=tensorflow before Keras is imported"
        )
    if not layer.built:
        lacks = "is not built yet" if layer.weights else "has no weights yet"
        raise UsageError(f"{name} {lacks}: build it first, layer.build((None, 4))")
    if reference.params:
        one = next(iter(reference.params))
        raise UsageError(
            f"`of` has the parameter {one!r}, but a layer has its own; fix it as the layer has it, such as "
            f"of=spec({one}=...)"
        )


def weights_of(layer: Any) -> dict[str, Any]:
    """The layer's weights by the names that inputs can have: inside sublayers, the path in underscores."""
    short = [v.name for v in layer.weights]
    return {
        v.name if short.count(v.name) == 1 else v.path.partition("/")[2].replace("/", "_"): v
        for v in layer.weights
    }


def _stateless(layer: Any, places: dict[str, Any], training: bool | None) -> Callable[..., Any]:
    mode = {} if training is None else {"training": training}
    variables = {id(v): n for n, v in places.items()}

    def call(tensors: Arrays, _: dict[str, Any]) -> Any:
        import tensorflow as tf

        def value(variable: Any) -> Any:
            name = variables.get(id(variable))
            return tf.identity(variable.value) if name is None else tensors[name]

        moving = [value(v) for v in layer.trainable_variables]
        still = [value(v) for v in layer.non_trainable_variables]
        others = [t for n, t in tensors.items() if n not in places]
        return layer.stateless_call(moving, still, *others, **mode)[0]

    return call


@dataclass
class _Layer:
    """A TensorFlow layer as a function of named tensors."""

    call: Callable[..., Any]
    name: str

    def outputs(self, tensors: Arrays, params: dict[str, Any]) -> tuple[Any, ...]:
        """What the layer gives, as a tuple."""
        given = self.call(tensors, params)
        return tuple(given) if isinstance(given, tuple | list) else (given,)


def _rule(layer: _Layer, reference: Reference) -> Rule:
    names = [n for n, d in reference.inputs.items() if d.differentiable]

    def forward(arrays: Arrays, params: dict[str, Any]) -> tuple[Any, ...]:
        return layer.outputs(_tensors(arrays), params)

    def vjp(cotangents: tuple[Any, ...], arrays: Arrays, params: dict[str, Any]) -> tuple[Any, ...]:
        import tensorflow as tf

        tensors = _tensors(arrays)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([tensors[n] for n in names])
            outputs = layer.outputs(tensors, params)
        vectors = [backends.get("tensorflow").asarray_like(c) for c in cotangents]
        found = tape.gradient(list(outputs), [tensors[n] for n in names], output_gradients=vectors)
        # Indexing has sparse gradients.
        return tuple(None if g is None else tf.convert_to_tensor(g) for g in found)

    return Rule(
        layer.name,
        "layer",
        "tensorflow",
        reference.inputs,
        tuple(names),
        reference.params,
        reference.where,
        reference.outputs,
        forward,
        vjp,
    )


def _tensors(arrays: Arrays) -> Arrays:
    """Plain tensors, each input's its own: a tape tells them apart by identity."""
    import tensorflow as tf

    backend = backends.get("tensorflow")
    return {n: tf.identity(backend.asarray_like(a)) for n, a in arrays.items()}
