"""A spec or chain as an autograd primitive whose vjp is the derivation."""

from __future__ import annotations

import functools
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck import backends
from gradcheck.backends.writing import generic
from gradcheck.layers.rules_out import Forwarded, FrameworkRule, Rewritten

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gradcheck.layers.rules_out import RuleOut
    from gradcheck.operation import Operation


def as_autograd(target: Operation | str) -> AutogradRule:
    """A spec or chain as an autograd primitive that is differentiated by its hand-derived rule.

    The function takes arrays for the inputs, in order or by name, and the parameters by name. It can be
    differentiated again: what the forward left is then computed once more, on arrays that autograd
    follows.

    Args:
        target: A spec, a chain, or the name of one as on the command line.

    Returns:
        A callable.

    Raises:
        UsageError: Where a derivative is missing, naming it.
    """
    return AutogradRule(target)


class AutogradRule(FrameworkRule):
    """A function on numpy arrays with a hand-derived backward pass; made by `as_autograd`.

    Attributes:
        function: The autograd primitive.
        operation: The spec or chain.
        framework: "autograd".
    """

    framework = "autograd"
    _shown = "autograd"
    _hook = "autograd primitive"

    def __init__(self, target: Operation | str) -> None:
        super().__init__(target)
        self.function = _primitive(self._rule)
        self.function.__name__ = self.__name__

    def _array(self, value: Any) -> Any:
        return self.backend.asarray_like(value)

    def _common(self, real: Mapping[str, Any]) -> Any:
        return np.result_type(*(a.dtype for a in real.values() if a.dtype.kind == "f"))

    def _cast(self, array: Any, dtype: Any) -> Any:
        return array.astype(dtype)

    def _apply(self, arrays: Sequence[Any], params: dict[str, Any]) -> Any:
        return self.function(*arrays, **params)


class _Left:
    """What forwards left, found by their result for as long as that lives.

    An autograd primitive hands its vjp the arguments and the result, and nothing else.
    """

    def __init__(self) -> None:
        self._kept: dict[int, tuple[Any, Forwarded]] = {}

    def keep(self, value: Any, forwarded: Forwarded) -> None:
        """Keep what a forward left until the result is gone."""
        place = id(value)
        self._kept[place] = (weakref.ref(value, lambda _: self._kept.pop(place, None)), forwarded)

    def find(self, value: Any) -> Forwarded | None:
        """What the forward of this very result left."""
        found = self._kept.get(id(value))
        return found[1] if found is not None and found[0]() is value else None


def _primitive(rule: RuleOut) -> Callable[..., Any]:
    from autograd.extend import defvjp_argnums, primitive

    left = _Left()

    @primitive  # type: ignore[untyped-decorator]
    def function(*arrays: Any, **params: Any) -> Any:
        value, forwarded = rule.forward(backends.get("numpy"), arrays, params)
        value = np.array(value)  # no number, nor a view of an input
        inner = {n: forwarded.operands[n] for n in rule.inner}
        left.keep(value, Forwarded(inner, forwarded.sizes))
        return value

    def pull(
        argnums: Sequence[int], value: Any, arrays: Any, params: Any
    ) -> Callable[[Any], tuple[Any, ...]]:
        forwarded = _forwarded(rule, value, left.find(value), arrays, params)
        names = tuple(rule.inputs[i] for i in argnums)

        def back(cotangent: Any) -> tuple[Any, ...]:
            derived = tuple(n for n in names if n in rule.wrt)
            backend = _backend_of(cotangent, *forwarded.operands.values())
            found = rule.backward(backend, forwarded, cotangent, derived)
            # autograd has no word for "no gradient" but zeros
            return tuple(
                found[n] if n in found else np.zeros(np.shape(arrays[i]))
                for i, n in zip(argnums, names, strict=True)
            )

        return back

    defvjp_argnums(function, pull)
    return function  # type: ignore[no-any-return]


def _backend_of(*values: Any) -> Any:
    """Whose operations the values are for: NumPy's, unless autograd follows one of them."""
    from autograd.tracer import isbox

    return _followed() if any(map(isbox, values)) else backends.get("numpy")


@functools.cache
def _followed() -> Any:
    """The backend of autograd, its programs of autograd's own operations in place of NumPy's."""
    backend = backends.get("autograd")
    return Rewritten(backend, lambda dtype, device: generic(backend.namespace(dtype, device)))


def _forwarded(
    rule: RuleOut,
    value: Any,
    left: Forwarded | None,
    arrays: Sequence[Any],
    params: Mapping[str, Any],
) -> Forwarded:
    """What the forward left; computed again where autograd follows the inputs a second time."""
    from autograd.tracer import isbox

    if rule.inner and (left is None or any(map(isbox, arrays))):
        left = rule.forward(backends.get("autograd"), arrays, params)[1]
    named = {**dict(zip(rule.inputs, arrays, strict=True)), **params}
    sizes = rule.operation.sizes_of(named) if left is None else left.sizes
    known = {**(left.operands if left else {}), **named, rule.operation.result: value}
    kept = {n: v for n, v in known.items() if n in rule.mentioned or n in params}
    return Forwarded(kept, sizes)
