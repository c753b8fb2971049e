"""A spec or chain as a `jax.custom_vjp` function whose backward pass is the derivation."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from gradcheck.layers.rules_out import Forwarded, FrameworkRule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gradcheck.operation import Operation


def as_jax(target: Operation | str) -> JaxRule:
    """A spec or chain as a JAX function that is differentiated by its hand-derived rule.

    The function takes arrays for the inputs, in order or by name, and the parameters by name, as Python
    numbers; it works under `jit`, `vmap` and `grad`, and can be differentiated again. As for every
    `jax.custom_vjp` there is no forward mode. Where its forward does not look at values it is compiled by
    XLA, and so is its backward pass, inside `jit` or not.

    Args:
        target: A spec, a chain, or the name of one as on the command line.

    Returns:
        A callable; its attribute `function` is the `jax.custom_vjp` function, which takes before the
        arrays the words and whole numbers among the parameters, as a tuple of pairs, and the others, as
        a dict.

    Raises:
        UsageError: Where a derivative is missing, naming it.
    """
    return JaxRule(target)


class JaxRule(FrameworkRule):
    """A function on JAX arrays with a hand-derived backward pass; made by `as_jax`.

    Attributes:
        function: The `jax.custom_vjp` function.
        operation: The spec or chain.
        framework: "jax".
    """

    framework = "jax"
    _shown = "JAX"
    _hook = "jax.custom_vjp function"

    def __init__(self, target: Operation | str) -> None:
        super().__init__(target)
        self.function = self._custom()
        self._compiled: dict[Any, Callable[..., Any]] = {}

    def _array(self, value: Any) -> Any:
        return self.backend.asarray_like(value)

    def _common(self, real: Mapping[str, Any]) -> Any:
        import jax.numpy as jnp

        return jnp.result_type(*(a for a in real.values() if "float" in str(a.dtype)))

    def _cast(self, array: Any, dtype: Any) -> Any:
        return array.astype(dtype)

    def _apply(self, arrays: Sequence[Any], params: dict[str, Any]) -> Any:
        numbers = {n: v for n, v in params.items() if isinstance(v, float)}
        fixed = tuple((n, v) for n, v in params.items() if n not in numbers)
        if fixed not in self._compiled:
            function = functools.partial(self.function, fixed)
            self._compiled[fixed] = self.backend.jitted(function)
        return self._compiled[fixed](numbers, *arrays)

    def _custom(self) -> Callable[..., Any]:
        import jax

        _register()
        rule, backend = self._rule, self.backend

        @functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
        def function(fixed: Any, numbers: dict[str, Any], *arrays: Any) -> Any:
            return rule.forward(backend, arrays, {**dict(fixed), **numbers})[0]

        def forward(fixed: Any, numbers: dict[str, Any], *arrays: Any) -> tuple[Any, Any]:
            value, kept = rule.forward(backend, arrays, {**dict(fixed), **numbers})
            tensors = {n: v for n, v in kept.operands.items() if hasattr(v, "shape")}
            rest = {n: v for n, v in kept.operands.items() if n not in tensors}
            return value, (tensors, _Static(rest, kept.sizes))

        def backward(_: Any, kept: Any, cotangent: Any) -> tuple[Any, ...]:
            tensors, static = kept
            forwarded = Forwarded({**tensors, **static.numbers}, static.sizes)
            found = rule.backward(backend, forwarded, cotangent, rule.wrt)
            return (None, *(found.get(n) for n in rule.inputs))

        function.defvjp(forward, backward)
        function.__name__ = self.__name__
        return function  # type: ignore[no-any-return]


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
