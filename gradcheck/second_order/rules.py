"""The product rule on expressions: from a claimed first derivative to a second one.

∂²o/∂v∂w is the derivative of the claimed ∂o/∂v. It is a sum over the operands u that occur there:
Σ_u ∂(∂o/∂v)/∂u ∂u/∂w, the first by the product, power and function rules, the second as it was
claimed (of an output or a residual), composed (of what a chain computes) or δ (of w itself). What is
differentiated is the claim before any relation of a domain was applied: that the rows of an input sum to
one holds on the domain only, and says nothing about the change of a single entry.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from gradcheck.algebra.compose import compose, identity, relabel
from gradcheck.algebra.normal import normalise
from gradcheck.algebra.shapes import at_rank
from gradcheck.algebra.terms import Expression, Factor, Term, free_alphabet
from gradcheck.errors import UsageError
from gradcheck.second_order.slopes import KINKED, slopes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradcheck.algebra.shapes import Shape
    from gradcheck.operation import Operation


def partial(expression: Expression, name: str, shape: Shape) -> Expression | None:
    """∂expression/∂u: its letters, then those of u; None where u does not occur.

    Args:
        expression: A bound expression.
        name: The operand u; every other operand is held constant.
        shape: The axes of u. A factor with more letters is the one-hot tensor of labels, a constant.
    """
    used = {s for t in expression.terms for s in (*t.letters(), *t.axes)} | set(expression.output)
    fresh = tuple(s for s, _ in zip(free_alphabet(used), shape, strict=False))
    terms = [
        changed
        for term in expression.terms
        for place, factor in enumerate(term.factors)
        if factor.name == name and len(factor.letters) == len(shape)
        for changed in _terms(term, place, fresh, shape)
    ]
    if not terms:
        return None
    return Expression((*expression.output, *fresh), tuple(terms))


def _terms(term: Term, place: int, fresh: tuple[str, ...], shape: Shape) -> Iterator[Term]:
    """The term with one factor differentiated; a delta joins each letter of it and a new one."""
    factor = term.factors[place]
    rest = (*term.factors[:place], *term.factors[place + 1 :])
    pairs = tuple((s, f) for s, f in zip(factor.letters, fresh, strict=True) if s is not None)
    for coefficient, factors in slopes(factor):
        yield replace(
            term,
            coefficient=term.coefficient * coefficient,
            factors=(*rest, *factors),
            deltas=(*term.deltas, *pairs),
            axes={**term.axes, **dict(zip(fresh, shape, strict=True))},
        )


def directional(expression: Expression, name: str, shape: Shape) -> Expression | None:
    """The change of an expression as u moves along `t(u)`: Σ over u's letters of ∂expression/∂u t(u)."""
    slope = partial(expression, name, shape)
    if slope is None:
        return None
    count = len(expression.output)
    factor = Factor(tangent(name), slope.output[count:])
    terms = tuple(replace(t, factors=(factor, *t.factors)) for t in slope.terms)
    return normalise(Expression(expression.output, terms))


def tangent(name: str) -> str:
    """The operand's name for the tangent of another."""
    return f"t({name})"


def along(jacobian: Expression, name: str, rank: int) -> Expression:
    """Σ over the letters of v of ∂u/∂v · t(v): the letters of u remain.

    Args:
        jacobian: ∂u/∂v.
        name: The variable v.
        rank: The number of letters of u.
    """
    factor = Factor(tangent(name), jacobian.output[rank:])
    terms = tuple(replace(t, factors=(factor, *t.factors)) for t in jacobian.terms)
    return normalise(Expression(jacobian.output[:rank], terms))


# ---------------------------------------------------------------------- the second derivative


def second(operation: Operation, first: str, name: str, rank: int = 0) -> Expression:
    """∂²result/∂first∂name: letters of the result, of the first input, of the second.

    Args:
        operation: A spec or a chain.
        first: The input of the claimed first derivative.
        name: The input by which that is differentiated once more.
        rank: The number of leading axes.

    Raises:
        UsageError: For an input without derivatives, and where a derivative that the product rule needs
            is claimed nowhere: it is named.
    """
    cache: dict[Any, Expression] = operation.__dict__.setdefault("_second", {})
    key = (first, name, rank)
    if key not in cache:
        _check_input(operation, name)
        once = operation.derivative(operation.result, first, rank)
        cache[key] = _differentiated(operation, once, first, name, rank)
    return cache[key]


def closed(operation: Operation, expression: Expression) -> Expression:
    """The closed form by what holds on the operation's domains: what runs, as for its gradient."""
    relations = tuple(operation.row_relations().values())
    return replace(expression, relations=relations or expression.relations).simplify()


def closed_second(operation: Operation, first: str, name: str, rank: int) -> Expression:
    """∂²result/∂first∂name in closed form, made once for each rank."""
    cache: dict[Any, Expression] = operation.__dict__.setdefault("_closed_second", {})
    key = (first, name, rank)
    if key not in cache:
        cache[key] = closed(operation, second(operation, *key))
    return cache[key]


def _check_input(operation: Operation, name: str) -> None:
    if name not in operation.inputs:
        raise UsageError(
            f"{operation.name} has no input {name!r}; it has {', '.join(operation.inputs)}"
        )
    if not operation.inputs[name].differentiable:
        raise UsageError(
            f"{name} is {operation.inputs[name].describe()}, a constant: {operation.name} is not "
            f"differentiated by it; it is by {', '.join(operation.differentiable) or 'nothing'}"
        )


def _differentiated(
    operation: Operation, once: Expression, first: str, name: str, rank: int
) -> Expression:
    shapes = {n: at_rank(shape, rank) for n, shape in operation.shapes.items()}
    count = len(once.output)
    supply = free_alphabet(())
    letters = tuple(next(supply) for _ in range(count + len(shapes[name])))
    terms: list[Term] = []
    relations = dict.fromkeys(once.relations)
    kinks: set[str] = {c for t in once.terms for c in t.conditions}
    for operand in sorted(once.names()):
        inner = moved(operation, operand, name, rank)
        if inner is None:
            continue
        kinks |= _kinks(once, operand)
        relations.update(dict.fromkeys(inner.relations))
        outer = partial(once, operand, shapes[operand])
        if outer is not None:
            path = compose(outer, inner, len(shapes[operand]))
            terms += relabel(path, letters).terms
    title = (
        (f"∂{operation.result}/∂{first}", count),
        (name, len(shapes[name])),
    )
    if not terms:
        axes = _axes(letters, (*shapes[operation.result], *shapes[first], *shapes[name]))
        terms = [Term(Fraction(0), axes=axes)]
    total = normalise(Expression(letters, tuple(terms), title, tuple(relations)))
    return _with_conditions(total, kinks)


def _axes(letters: tuple[str, ...], shape: Shape) -> dict[str, str]:
    return dict(zip(letters, shape, strict=True))


def _kinks(expression: Expression, operand: str) -> set[str]:
    """Where the rules of abs, sign and step hold."""
    return {
        f"{operand} ≠ 0"
        for term in expression.terms
        for f in term.factors
        if f.name == operand and f.function in KINKED
    }


def _with_conditions(expression: Expression, conditions: set[str]) -> Expression:
    """A condition on a term that vanished holds for the sum all the same."""
    if not conditions:
        return expression
    head, *rest = expression.terms
    head = replace(head, conditions=head.conditions | conditions)
    return replace(expression, terms=(head, *rest))


def moved(operation: Operation, operand: str, name: str, rank: int) -> Expression | None:
    """∂operand/∂name; None where the operand does not depend on the input.

    Raises:
        UsageError: Where an output depends on the input, as far as anyone knows, and nothing is claimed.
    """
    if operand == name:
        return identity(name, at_rank(operation.shapes[name], rank))
    if operand in operation.inputs or operand in operation.params:
        return None
    if operation.slice_derivative(operand, name) is None:
        raise _unclaimed(operation, operand, name)
    found = operation.derivative(operand, name, rank)
    return None if all(not t.coefficient for t in found.terms) else found


def _unclaimed(operation: Operation, operand: str, name: str) -> UsageError:
    owner, output, variable = _place(operation, operand, name)
    return UsageError(
        f"a second derivative of {operation.name} needs ∂{output}/∂{variable} of {owner.name}, which is not "
        f'claimed; add it to that spec: jacobian={{..., ("{output}", "{variable}"): einsum(...)}}, or 0 '
        f"for the einsum where {output} does not depend on {variable}"
    )


def _place(operation: Operation, operand: str, name: str) -> tuple[Operation, str, str]:
    """The spec that lacks a derivative, with its own names for output and input."""
    inner = getattr(operation, "forward", None)
    if (
        inner is not None
        and operand not in operation.outputs
        and hasattr(inner, "slice_derivative")
    ):
        return _place(inner, operand, name)
    for node in getattr(operation, "nodes", ()):
        spec = node.call.operation
        own = {v: n for n, v in node.names.items() if n not in spec.inputs}
        for output in [own.get(operand), spec.result]:
            for slot, domain in spec.inputs.items():
                if output is None or not domain.differentiable:
                    continue
                if spec.slice_derivative(output, slot) is None:
                    return spec, output, slot
    return operation, operand, name


# ---------------------------------------------------------------------- link by link


def linked(operation: Operation) -> bool:
    """Whether the operation is a chain, which is differentiated link by link."""
    return hasattr(operation, "nodes")


def check_product(operation: Operation, names: tuple[str, ...]) -> None:
    """Everything that a Hessian-vector product needs is claimed.

    Raises:
        UsageError: For an input without derivatives, and naming the derivative that is missing.
    """
    for name in names:
        _check_input(operation, name)
        if not linked(operation):
            for first in names:
                second(operation, first, name)
    if linked(operation):
        complete = [c.input for c in operation.claims() if c.form != "missing"]
        for name in names:
            if name not in complete:
                operation.derivative(operation.result, name)  # says what is missing
        for _ in residual_derivatives(operation, _depending(operation, names)):
            pass


def _depending(chain: Any, names: tuple[str, ...]) -> set[str]:
    """The variables of a chain that move with its inputs."""
    active = set(names)
    for node in chain.nodes:
        if any(v in active for v in node.local):
            active.add(node.result)
    return active


def residual_derivatives(
    chain: Any, active: set[str]
) -> Iterator[tuple[str, list[tuple[str, Expression]]]]:
    """Each residual that a local derivative mentions, with its own local derivatives.

    Args:
        chain: A chain.
        active: The variables that move.

    Raises:
        UsageError: Naming the derivative of a residual that is not claimed.
    """
    for index, node in enumerate(chain.nodes):
        mentioned = {n for v, e in node.local.items() if v in active and e for n in e.names()}
        spec = node.call.operation
        outside = {*spec.inputs, *spec.params, spec.result}
        for own in [n for n in node.names if n not in outside and node.names[n] in mentioned]:
            found = []
            for slot in [s for s in spec.inputs if node.names[s] in active]:
                local = chain._local(index, node, slot, own)
                if local is None:
                    raise _unclaimed(chain, node.names[own], node.names[slot])
                found.append((node.names[slot], local))
            yield node.names[own], found
