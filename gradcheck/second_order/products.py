"""The steps of a Hessian-vector product, as expressions: none of them is a Hessian.

Tangents go forward, `t(u)` for each operand u that moves, and the gradient is differentiated along them:
of a spec as one expression, of a chain link by link through its reverse pass, where `∂L/∂u` is the
cotangent of u and `t(∂L/∂u)` its change. Source: Pearlmutter, Fast Exact Multiplication by the Hessian,
Neural Computation 6 (1994).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gradcheck.algebra.compose import compose, lift, relabel, rename_operands, vjp_of
from gradcheck.algebra.normal import normalise
from gradcheck.algebra.shapes import DOTS, at_rank, leading_axes
from gradcheck.algebra.terms import Expression, Term
from gradcheck.evaluation import Bindings, evaluate
from gradcheck.second_order.rules import (
    along,
    closed,
    directional,
    linked,
    moved,
    residual_derivatives,
    tangent,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from gradcheck.algebra.shapes import Shape
    from gradcheck.operation import Operation


@dataclass(frozen=True)
class Step:
    """One assignment.

    Attributes:
        target: `t(u)`, `∂L/∂u` or `t(∂L/∂u)`.
        expression: Its value, in operands that earlier steps or the forward made.
    """

    target: str
    expression: Expression

    def __str__(self) -> str:
        letters = ",".join(self.expression.output)
        return f"{self.target}{f'[{letters}]' if letters else ''} = {self.expression}"


def cotangent(operation: Operation, name: str) -> str:
    """The operand's name for the cotangent of another."""
    return f"∂{operation.result}/∂{name}"


def steps(operation: Operation, names: tuple[str, ...], rank: int) -> tuple[Step, ...]:
    """The program that ends in `t(∂L/∂v)` for each named input v, made once for each rank.

    Raises:
        UsageError: Where a derivative that it needs is claimed nowhere.
    """
    cache: dict[Any, tuple[Step, ...]] = operation.__dict__.setdefault("_products", {})
    if (names, rank) not in cache:
        made = derived_steps(operation, names, rank)
        simple = (Step(s.target, closed(operation, s.expression)) for s in made)
        cache[names, rank] = needed(tuple(simple), set(ends(operation, names).values()))
    return cache[names, rank]


def derived_steps(operation: Operation, names: tuple[str, ...], rank: int) -> tuple[Step, ...]:
    """The same program before any step is simplified; each target of it is that of one step.

    Raises:
        UsageError: Where a derivative that it needs is claimed nowhere.
    """
    cache: dict[Any, tuple[Step, ...]] = operation.__dict__.setdefault("_derived_products", {})
    if (names, rank) not in cache:
        make = _of_links if linked(operation) else _whole
        cache[names, rank] = tuple(make(operation, names, rank))
    return cache[names, rank]


def needed(program: tuple[Step, ...], wanted: set[str]) -> tuple[Step, ...]:
    """The steps without those whose targets nobody reads."""
    needed, kept = set(wanted), []
    for step in reversed(program):
        if step.target in needed:
            needed |= step.expression.names()
            kept.append(step)
    return tuple(reversed(kept))


def run(
    program: tuple[Step, ...],
    operation: Operation,
    bindings: Bindings,
    ops: Any,
    moving: Mapping[str, Any],
    rank: int,
) -> dict[str, Any]:
    """The product for each input that moves.

    Args:
        program: What `steps` made.
        operation: The spec or chain.
        bindings: The arrays of its forward.
        ops: What evaluates expressions on them.
        moving: The tangent of each input that moves.
        rank: The number of leading axes.
    """
    values = dict(bindings.values)
    values.update((tangent(n), v) for n, v in moving.items())
    shapes = shapes_of(operation, rank)
    bound = replace(bindings, values=values, shapes=shapes, memo=dict(bindings.memo))
    for step in program:
        values[step.target] = evaluate(step.expression, bound, ops)
    found = {n: values.get(t) for n, t in ends(operation, tuple(moving)).items()}
    return {n: _nothing(bound, ops, n) if v is None else v for n, v in found.items()}


def _nothing(bindings: Bindings, ops: Any, name: str) -> Any:
    shape = tuple(bindings.extent(a) for a in bindings.shapes[name])
    return ops.zeros(shape, bindings.like)


def ends(operation: Operation, names: tuple[str, ...]) -> dict[str, str]:
    """The target of the step that gives the product for each input."""
    return {n: tangent(cotangent(operation, n)) for n in names}


def shapes_of(operation: Operation, rank: int) -> dict[str, Shape]:
    """The axes of each operand, of its cotangent, and of the tangents of both."""
    return {n: at_rank(s, rank) for n, s in slice_shapes(operation).items()}


def slice_shapes(operation: Operation) -> dict[str, Shape]:
    """The same as they are declared: leading axes stand as `...`."""
    own = operation.shapes
    both = {**own, **{cotangent(operation, n): s for n, s in own.items()}}
    return {**both, **{tangent(n): s for n, s in both.items()}}


def _sum(parts: Iterable[Expression | None]) -> Expression | None:
    """Expressions with the same axes, as one."""
    total: Expression | None = None
    for part in parts:
        if part is not None:
            total = part if total is None else total + relabel(part, total.output)
    return None if total is None else normalise(total)


def _changes(
    expression: Expression, moving: Iterable[str], shapes: Mapping[str, Shape]
) -> Expression | None:
    """The directional derivative of an expression along all that moves."""
    operands = sorted(expression.names() & set(moving))
    return _sum(directional(expression, n, shapes[n]) for n in operands)


def _whole(operation: Operation, names: tuple[str, ...], rank: int) -> Iterator[Step]:
    """The gradient of a spec, differentiated along the tangents of its inputs."""
    shapes = shapes_of(operation, rank)
    gradients = {n: operation.derivative(operation.result, n, rank) for n in names}
    moving = set(names)
    for operand in sorted(set().union(*(g.names() for g in gradients.values())) - moving):
        slopes = {n: moved(operation, operand, n, rank) for n in names}
        total = _sum(along(j, n, len(shapes[operand])) for n, j in slopes.items() if j is not None)
        if total is not None:
            moving.add(operand)
            yield Step(tangent(operand), total)
    for name, gradient in gradients.items():
        change = _changes(gradient, moving, shapes)
        if change is not None:
            yield Step(tangent(cotangent(operation, name)), change)


def _of_links(chain: Any, names: tuple[str, ...], rank: int) -> Iterator[Step]:
    """The reverse pass of a chain, differentiated along the tangents.

    A cotangent that divides by its own variable (y/a, of a logarithm) is not computed: its expression
    is composed with the next link's, where a cancels, so that nothing becomes 0/0.
    """
    shapes = shapes_of(chain, rank)
    moving = set(names)
    for step in _tangents(chain, moving, shapes, rank):
        moving.add(step.target[2:-1])
        yield step
    pending: dict[str, list[Expression]] = {chain.result: [Expression((), (Term(),))]}
    for node in reversed(chain.nodes):
        outer = _sum(pending.get(node.result, ()))
        if outer is None:
            continue
        target = cotangent(chain, node.result)
        fused = not outer.output or _divides(outer, node.result)
        if not fused:
            yield from _cotangent(target, outer, moving, shapes)
        for variable, local in _active(node, moving):
            lifted = _lifted(chain, node.result, variable, local, rank)
            letters = len(shapes[node.result])
            path = (
                compose(outer, lifted, letters)
                if fused
                else _pulled(lifted, node.result, letters, target)
            )
            pending.setdefault(variable, []).append(path)
    for name in names:
        total = _sum(pending.get(name, ()))
        if total is not None:
            yield from _cotangent(cotangent(chain, name), total, moving, shapes)


def _cotangent(
    target: str, expression: Expression, moving: set[str], shapes: Mapping[str, Shape]
) -> Iterator[Step]:
    """A cotangent and its change."""
    yield Step(target, expression)
    change = _changes(expression, moving, shapes)
    if change is not None:
        moving.add(target)
        yield Step(tangent(target), change)


def _divides(expression: Expression, name: str) -> bool:
    return any(f.name == name and f.power < 0 for t in expression.terms for f in t.factors)


def _pulled(jacobian: Expression, output: str, letters: int, target: str) -> Expression:
    """Σ over the output's letters of its cotangent and ∂output/∂variable."""
    pulled = vjp_of(jacobian, output, letters)
    return rename_operands(pulled, {f"d({output})": target}, lambda axis: axis)


def _tangents(
    chain: Any, inputs: set[str], shapes: Mapping[str, Shape], rank: int
) -> Iterator[Step]:
    """The tangent of every result that moves, and of every residual that a derivative mentions."""
    moving = set(inputs)

    def total(output: str, locals_: Iterable[tuple[str, Expression]]) -> Iterator[Step]:
        parts = [
            along(_lifted(chain, output, v, e, rank), v, len(shapes[output])) for v, e in locals_
        ]
        found = _sum(parts)
        if found is not None:
            moving.add(output)
            yield Step(tangent(output), found)

    for node in chain.nodes:
        yield from total(node.result, _active(node, moving))
    for residual, locals_ in residual_derivatives(chain, set(moving)):
        yield from total(residual, locals_)


def _active(node: Any, moving: set[str]) -> list[tuple[str, Expression]]:
    """The arguments of a link that move, with its derivatives."""
    return [(v, e) for v, e in node.local.items() if v in moving and e is not None]


def _lifted(chain: Any, output: str, variable: str, local: Expression, rank: int) -> Expression:
    split = len([d for d in chain.shapes[output] if d != DOTS])
    return lift(local, split, leading_axes(rank), chain.dotted, of=output, to=variable)
