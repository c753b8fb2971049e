"""A spec or chain as a `jax.custom_vjp` function whose backward pass is the derivation."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from gradcheck import backends
from gradcheck.layers.rules_out import Forwarded, RuleOut, check_float

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gradcheck.operation import Operation


def as_jax(target: Operation | str) -> JaxRule:
    """A spec or chain as a JAX function that is differentiated by its hand-derived rule.

    The function takes arrays for the inputs, in order or by name, and the parameters by name, as Python
    numbers; it works under `jit`, `vmap` and `grad`, and can be differentiated again. As for every
    `jax.custom_vjp` there is no forward mode.

    Args:
        target: A spec, a chain, or the name of one as on the command line.

    Returns:
        A callable; its attribute `function` is the `jax.custom_vjp` function, which takes the
        parameters first, as a tuple of pairs.

    Raises:
        UsageError: Where a derivative is missing, naming it.
    """
    return JaxRule(RuleOut(target))


class JaxRule:
    """A function on JAX arrays with a hand-derived backward pass; made by `as_jax`.

    Attributes:
        function: The `jax.custom_vjp` function.
        operation: The spec or chain.
        framework: "jax".
    """

    framework = "jax"

    def __init__(self, rule: RuleOut) -> None:
        self.operation = rule.operation
        self._rule = rule
        self.function = _function_of(rule)
        self.__name__ = f"{rule.operation.name}_by_hand"
        self.__doc__ = rule.describe("JAX", "jax.custom_vjp function")

    def __call__(self, *args: Any, **given: Any) -> Any:
        """The result of the forward.

        Raises:
            UsageError: For a name that is unknown or missing, or a dtype that is not a float's.
            ShapeError: For arrays that do not fit the axes.
        """
        arrays, params = self._rule.arguments(args, given)
        arrays = _arrays(self._rule, arrays)
        self._rule.check_shapes(arrays, params)
        return self.function(tuple(params.items()), *arrays)

    def __repr__(self) -> str:
        return f"<JAX rule of {self.operation.name}>"


def _arrays(rule: RuleOut, arrays: Sequence[Any]) -> list[Any]:
    """Arrays of one floating point type; conversions are JAX's own, and so are their gradients."""
    import jax.numpy as jnp

    named = dict(zip(rule.inputs, map(jnp.asarray, arrays), strict=True))
    for name in rule.wrt:
        check_float(name, str(named[name].dtype), rule.operation)
    floats = [a for n, a in named.items() if "float" in str(a.dtype) and not rule.is_integer(n)]
    dtype = jnp.result_type(*floats)
    return [a if rule.is_integer(n) else a.astype(dtype) for n, a in named.items()]


def _function_of(rule: RuleOut) -> Callable[..., Any]:
    import jax

    _register()

    @functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
    def function(params: tuple[tuple[str, Any], ...], *arrays: Any) -> Any:
        return _run(rule, dict(params), arrays)[0]

    def forward(params: tuple[tuple[str, Any], ...], *arrays: Any) -> tuple[Any, Any]:
        value, kept = _run(rule, dict(params), arrays)
        tensors = {n: v for n, v in kept.operands.items() if hasattr(v, "shape")}
        numbers = {n: v for n, v in kept.operands.items() if n not in tensors}
        return value, (tensors, _Static(numbers, kept.sizes))

    def backward(_: Any, kept: Any, cotangent: Any) -> tuple[Any, ...]:
        tensors, static = kept
        forwarded = Forwarded({**tensors, **static.numbers}, static.sizes)
        found = rule.backward(backends.get("jax"), forwarded, cotangent, rule.wrt)
        return tuple(found.get(n) for n in rule.inputs)

    function.defvjp(forward, backward)
    function.__name__ = f"{rule.operation.name}_by_hand"
    return function  # type: ignore[no-any-return]


def _run(rule: RuleOut, params: Mapping[str, Any], arrays: Sequence[Any]) -> tuple[Any, Forwarded]:
    """The forward in JAX."""
    backend = backends.get("jax")
    like = arrays[rule.inputs.index(rule.wrt[0])]
    place = backend.dtype_of(like), backend.device_of(like)
    value, kept = rule.forward(backend, *place, arrays, params)
    return backend.asarray_like(value), kept


@functools.cache
def _register() -> None:
    """Tell JAX that a `_Static` holds nothing to trace."""
    import jax

    jax.tree_util.register_static(_Static)


class _Static:
    """Numbers that a trace carries along without tracing them."""

    def __init__(self, numbers: dict[str, Any], sizes: dict[str, int]) -> None:
        self.numbers, self.sizes = numbers, sizes

    def key(self) -> tuple[Any, ...]:
        """What tells it from another."""
        return tuple(self.numbers.items()), tuple(self.sizes.items())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Static) and self.key() == other.key()

    def __hash__(self) -> int:
        return hash(self.key())
