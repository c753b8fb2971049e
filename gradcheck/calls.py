"""Building chains: an operation called on variables and chains, `a >> b`, sums and multiples.

Each way ends in a `Call`, from which `Chain` makes a graph.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gradcheck.algebra.compose import identity
from gradcheck.algebra.notation import delta, einsum, ones
from gradcheck.algebra.terms import Expression, as_fraction
from gradcheck.arguments import counted
from gradcheck.chain import Call, Chain, Fixed
from gradcheck.domains import real
from gradcheck.errors import SpecError
from gradcheck.operation import Operation
from gradcheck.spec import Spec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from fractions import Fraction

    from gradcheck.domains import Parameter


def apply(
    operation: Operation, args: tuple[Any, ...], names: Mapping[str, Any], where: str | None
) -> Chain:
    """`operation(*args, **names)`: the chain that a call stands for.

    Raises:
        SpecError: For too many arguments, an unknown name, an argument that is neither a name nor a
            chain, or a chain fed into an input that is constant by nature.
    """
    if len(args) > len(operation.inputs):
        raise SpecError(
            f"{operation.name} takes {counted(len(operation.inputs), 'input')} and got {len(args)}",
            hint=f"its inputs are {', '.join(operation.inputs)}",
        )
    given = dict(zip(operation.inputs, args, strict=False))
    for name, value in names.items():
        if name in given or name not in {**operation.inputs, **operation.params}:
            known = ", ".join([*operation.inputs, *operation.params])
            why = "is given twice" if name in given else "is no input or parameter"
            raise SpecError(f"{name!r} {why} of {operation.name}", hint=f"it takes {known}")
        given[name] = value
    arguments = {n: _argument(operation, n, given.get(n, n)) for n in operation.inputs}
    _check_omitted(operation, given)
    params = {n: _parameter(operation.params[n], given.get(n, n)) for n in operation.params}
    fed = [v for v in given.values() if isinstance(v, Chain)]
    return Chain(Call(operation, arguments, params, where), fed)


def _check_omitted(operation: Operation, given: Mapping[str, Any]) -> None:
    """An input that was not given keeps its own name, but shares no variable by mere omission."""
    taken = {n for v in given.values() if isinstance(v, Chain) for n in v.taken}
    tied = [n for n in operation.inputs if n not in given and n in taken]
    if tied:
        raise SpecError(
            f"input {tied[0]!r} of {operation.name} is not given, and {tied[0]!r} is a variable of the chain "
            "that is fed in",
            hint=f'write {tied[0]}="{tied[0]}" to share that variable, or name another: '
            f'{tied[0]}="{tied[0]}2"',
        )


def _parameter(parameter: Parameter, value: Any) -> Any:
    """A parameter's new name, or the value at which a call fixes it."""
    return Fixed(value) if isinstance(value, str) and value in parameter.values else value


def _argument(operation: Operation, name: str, value: Any) -> str | Call:
    if isinstance(value, str):
        if not value.isidentifier():
            raise SpecError(f"{value!r} is no name for a variable", hint="use a Python identifier")
        return value
    if isinstance(value, Spec):
        value = value()
    if not isinstance(value, Chain):
        raise SpecError(
            f"input {name!r} of {operation.name} is given {value!r}",
            hint='give the name of a variable ("x") or a chain; arrays come when it is evaluated',
        )
    _check_not_constant(operation, name, value)
    return value.root


def _check_not_constant(operation: Operation, name: str, value: Chain) -> None:
    if not operation.inputs[name].differentiable and value.differentiable:
        raise SpecError(
            f"input {name!r} of {operation.name} is {operation.inputs[name].describe()}, a constant, "
            f"but is fed from {value.name}, which depends on {', '.join(value.differentiable)}",
            hint="gradients would stop here; declare the input differentiable and derive for it",
        )


def link(first: Operation, second: object) -> Chain:
    """`first >> second`.

    Raises:
        SpecError: Where both own a name, saying how to write the chain as a call.
    """
    if not isinstance(second, Operation):
        raise SpecError(f"{second!r} is no spec and no chain", hint="chain specs: a >> b")
    left = first if isinstance(first, Chain) else first()
    slot, *others = second.inputs
    own = (
        [*second.inputs, *second.params] if isinstance(second, Chain) else [*others, *second.params]
    )
    clash = [n for n in own if n != slot and n in left.taken]
    if clash:
        raise _clash(left, second, clash[0], others)
    return _substitute(second, slot, left)


def _clash(left: Chain, second: Operation, name: str, others: list[str]) -> SpecError:
    shown = ", ".join(f'"{n}2"' if n in left.taken else f'"{n}"' for n in others)
    return SpecError(
        f"{left.name} and {second.name} both own the name {name!r}",
        hint=f'write {second.name}({left.name}, {shown}) to name them apart, or give both "{name}" '
        "there to share one variable",
    )


def _substitute(second: Operation, slot: str, left: Chain) -> Chain:
    """The second operation with its first input fed; inside a chain, wherever that name occurs."""
    if not isinstance(second, Chain):
        return apply(second, (left,), {}, None)
    copies: dict[int, Call] = {}
    for call in second.layout.calls:
        for n, v in call.arguments.items():
            if v == slot:
                _check_not_constant(call.operation, n, left)
        arguments = {
            n: copies[id(v)] if isinstance(v, Call) else (left.root if v == slot else v)
            for n, v in call.arguments.items()
        }
        copies[id(call)] = replace(call, arguments=arguments)
    return Chain(copies[id(second.root)], [left])


def combine(first: Operation, second: object, sign: int) -> Chain:
    """`first + second` or `first - second`, for chains whose results have the same shape."""
    if not isinstance(second, Operation):
        raise SpecError(
            f"{first.name} and {second!r} cannot be added", hint="add chains, such as two losses"
        )
    chains = [op if isinstance(op, Chain) else op() for op in (first, second)]
    shapes = [c.outputs[c.result] for c in chains]
    if len(shapes[0]) != len(shapes[1]):
        raise SpecError(
            f"{chains[0].name} gives shape {' '.join(shapes[0])!r} and {chains[1].name} gives "
            f"{' '.join(shapes[1])!r}",
            hint="only results of one shape are added",
        )
    return apply(_elementwise(len(shapes[0]), sign), tuple(chains), {}, None)


def scaled(operation: Operation, factor: object) -> Chain:
    """A rational multiple of a chain's result, such as a weight of a penalty."""
    number = as_fraction(factor, "the factor of a chain")
    chain = operation if isinstance(operation, Chain) else operation()
    return apply(_multiple(len(chain.outputs[chain.result]), number), (chain,), {}, None)


def _elementwise(rank: int, sign: int) -> Spec:
    shape, one = _delta(rank)

    def forward(_xp: Any, a: Any, b: Any) -> Any:
        """The sum (or difference) of two results."""
        return a + b if sign > 0 else a - b

    return Spec(
        forward,
        inputs={"a": real(shape), "b": real(shape)},
        output={"total": shape},
        jacobian={"a": one, "b": sign * one},
        source="linearity of the derivative",
        name="plus" if sign > 0 else "minus",
    )


def _multiple(rank: int, factor: Fraction) -> Spec:
    shape, one = _delta(rank)

    def forward(_xp: Any, a: Any) -> Any:
        """A rational multiple of a result."""
        return a * factor.numerator / factor.denominator

    return Spec(
        forward,
        inputs={"a": real(shape)},
        output={"scaled": shape},
        jacobian={"a": factor * one},
        source="linearity of the derivative",
        name=f"({factor})·",
    )


def _delta(rank: int) -> tuple[str, Expression]:
    """A shape of that rank and the identity Jacobian on it."""
    axes = [f"i{k}" for k in range(rank)]
    bound = identity("a", tuple(axes))
    letters = bound.output
    if not rank:
        return "", einsum("->", ones)
    pattern = ",".join(a + b for a, b in bound.terms[0].deltas) + "->" + "".join(letters)
    return " ".join(axes), einsum(pattern, *[delta] * rank)
