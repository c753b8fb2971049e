"""A spec or chain as an autograd primitive whose vjp is the derivation."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck import backends
from gradcheck.layers.rules_out import Forwarded, RuleOut, check_float

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

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
    return AutogradRule(RuleOut(target))


class AutogradRule:
    """A function on numpy arrays with a hand-derived backward pass; made by `as_autograd`.

    Attributes:
        function: The autograd primitive.
        operation: The spec or chain.
        framework: "autograd".
    """

    framework = "autograd"

    def __init__(self, rule: RuleOut) -> None:
        self.operation = rule.operation
        self._rule = rule
        self.function = _function_of(rule)
        self.__name__ = f"{rule.operation.name}_by_hand"
        self.__doc__ = rule.describe("numpy", "autograd primitive")

    def __call__(self, *args: Any, **given: Any) -> Any:
        """The result of the forward.

        Raises:
            UsageError: For a name that is unknown or missing, or a dtype that is not a float's.
            ShapeError: For arrays that do not fit the axes.
        """
        arrays, params = self._rule.arguments(args, given)
        arrays = _arrays(self._rule, arrays)
        self._rule.check_shapes(arrays, params)
        return self.function(*arrays, **params)

    def __repr__(self) -> str:
        return f"<autograd rule of {self.operation.name}>"


def _arrays(rule: RuleOut, arrays: Sequence[Any]) -> list[Any]:
    """Arrays of one floating point type; conversions are autograd's own, and so are their gradients."""
    from autograd.tracer import isbox

    named = {
        n: a if isbox(a) and hasattr(a, "dtype") else np.asarray(a)
        for n, a in zip(rule.inputs, arrays, strict=True)
    }
    for name in rule.wrt:
        check_float(name, str(named[name].dtype), rule.operation)
    real = {n: a for n, a in named.items() if not rule.is_integer(n)}
    dtype = np.result_type(*(a.dtype for a in real.values() if a.dtype.kind == "f"))
    return [a.astype(dtype) if n in real and a.dtype != dtype else a for n, a in named.items()]


class _Left:
    """What forwards left, found by their result for as long as that lives.

    An autograd primitive hands its vjp the arguments and the result, and nothing else.
    """

    def __init__(self) -> None:
        self._kept: dict[int, tuple[Any, dict[str, Any]]] = {}

    def keep(self, value: Any, operands: dict[str, Any]) -> None:
        """Keep operands until the result is gone."""
        place = id(value)
        self._kept[place] = (weakref.ref(value, lambda _: self._kept.pop(place, None)), operands)

    def find(self, value: Any) -> dict[str, Any] | None:
        """The operands of this very result."""
        found = self._kept.get(id(value))
        return found[1] if found is not None and found[0]() is value else None


class _Functional:
    """The backend's operations in forms that autograd follows through two differentiations.

    Contractions go two by two through autograd's own einsum, and diagonals are written without indexing.
    """

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def einsum(self, equation: str, *arrays: Any) -> Any:
        """A contraction, along a good order."""
        import opt_einsum

        operands = self._backend.lift(arrays)
        if len(operands) < 3:
            return self._backend._plain_einsum(equation, *operands)
        shapes = [tuple(a.shape) for a in operands]
        _, found = opt_einsum.contract_path(equation, *shapes, shapes=True)
        for places, _, step, *_ in found.contraction_list:
            chosen = [operands.pop(i) for i in sorted(places, reverse=True)]
            operands.append(self._backend._plain_einsum(step, *chosen))
        return operands[0]

    def add_diagonal(
        self, out: Any, core: Any, letters_out: Sequence[str], letters_core: Sequence[str]
    ) -> Any:
        """`core` added where equal letters of `out` agree, into a new array."""
        import autograd.numpy as anp

        distinct = tuple(dict.fromkeys(letters_out))
        core = anp.transpose(core, [list(letters_core).index(s) for s in distinct])
        grids = np.ogrid[tuple(slice(n) for n in out.shape)]
        first = [list(letters_out).index(s) for s in distinct]
        agree = np.ones(out.shape)
        for letter, grid in zip(letters_out, grids, strict=True):
            agree = agree * (grid == grids[list(letters_out).index(letter)])
        index = tuple(slice(None) if i in first else None for i in range(len(letters_out)))
        return out + anp.transpose(core, np.argsort(np.argsort(first)))[index] * agree


def _function_of(rule: RuleOut) -> Callable[..., Any]:
    from autograd.extend import defvjp_argnums, primitive

    left = _Left()

    @primitive  # type: ignore[untyped-decorator]
    def function(*arrays: Any, **params: Any) -> Any:
        value, forwarded = _run(rule, params, arrays, "numpy")
        value = np.array(value)  # no number, nor a view of an input
        left.keep(value, {n: forwarded.operands[n] for n in rule.inner})
        return value

    def pull(
        argnums: Sequence[int], value: Any, arrays: Any, params: Any
    ) -> Callable[[Any], tuple[Any, ...]]:
        forwarded = _forwarded(rule, value, left.find(value), arrays, params)
        names = tuple(rule.inputs[i] for i in argnums)

        def back(cotangent: Any) -> tuple[Any, ...]:
            derived = tuple(n for n in names if n in rule.wrt)
            ops = _Functional(backends.get("autograd"))
            found = rule.backward(ops, forwarded, cotangent, derived)
            # autograd has no word for "no gradient" but zeros
            zeros = {n: np.zeros(np.shape(arrays[i])) for i, n in zip(argnums, names, strict=True)}
            return tuple({**zeros, **found}[n] for n in names)

        return back

    defvjp_argnums(function, pull)
    function.__name__ = f"{rule.operation.name}_by_hand"
    return function  # type: ignore[no-any-return]


def _run(
    rule: RuleOut, params: Mapping[str, Any], arrays: Sequence[Any], framework: str
) -> tuple[Any, Forwarded]:
    """The forward, in numpy or on arrays that autograd follows."""
    backend = backends.get(framework)
    like = arrays[rule.inputs.index(rule.wrt[0])]
    return rule.forward(backend, str(like.dtype), "cpu", arrays, params)


def _forwarded(
    rule: RuleOut,
    value: Any,
    left: Mapping[str, Any] | None,
    arrays: Sequence[Any],
    params: Mapping[str, Any],
) -> Forwarded:
    """What the forward left; computed again where autograd follows the inputs a second time."""
    from autograd.tracer import isbox

    named = {**dict(zip(rule.inputs, arrays, strict=True)), **params}
    if rule.inner and (left is None or any(isbox(a) for a in arrays)):
        left = _run(rule, params, arrays, "autograd")[1].operands
    operands = {**(left or {}), **named, rule.operation.result: value}
    return Forwarded(operands, rule.operation.sizes_of(named))
