"""Which form of a derivative is checked: as somebody wrote it, or the closed form that runs.

Of a chain nobody wrote the derivative. What its `gradient` runs is the closed form of the composed
rule, with powers cancelled and the relations of domains used; that is what is compared with oracles, and
the symbolic oracle proves it equal to the composed rule. So it is with what the product rule gives.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gradcheck.second_order import Directional, SecondOrder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck.algebra.relations import Relation
    from gradcheck.algebra.terms import Expression
    from gradcheck.operation import Claim, Operation

WRITTEN = "as written"
PRODUCT_RULE = "as the product rule gives it"
STEP_BY_STEP = "as the product rule gives it, step by step"
COMPOSED = "as composed by the chain rule"
LINK_BY_LINK = "by the chain rule, link by link"


def stated(operation: Operation, claim: Claim) -> str:
    """What a claim is before any simplification, in words."""
    if claim.form == "chain":
        return COMPOSED
    if not isinstance(operation, SecondOrder):
        return WRITTEN
    if claim.output == operation.output:
        return STEP_BY_STEP if isinstance(operation, Directional) else PRODUCT_RULE
    return COMPOSED if hasattr(operation.of, "nodes") else WRITTEN


def is_second(operation: Operation, claim: Claim) -> bool:
    """Whether a claim is what the product rule gives."""
    return isinstance(operation, SecondOrder) and claim.output == operation.output


def closed_form(operation: Operation, claim: Claim, rank: int) -> Expression:
    """The closed form by what holds on the operation's domains, as programs compute it."""
    if isinstance(operation, SecondOrder) and claim.output == operation.output:
        return operation.as_it_runs().derivative(claim.output, claim.input, rank)
    expression = operation.derivative(claim.output, claim.input, rank)
    relations = tuple(operation.row_relations().values())
    return replace(expression, relations=relations or expression.relations).simplify()


def relied_on(operation: Operation, closed: Expression) -> tuple[Relation, ...]:
    """The relations without which a closed form would not equal what it comes from."""
    named = set(closed.conditions())
    return tuple(r for r in operation.row_relations().values() if r.equation() in named)


def as_it_runs(operation: Operation, claim: Claim, closed: Sequence[Expression]) -> str:
    """`as the product rule gives it, and as it runs: closed form after cancelling powers`."""
    return f"{stated(operation, claim)}, and as it runs ({in_words(*closed)})"


def in_words(*closed: Expression) -> str:
    """`closed form after cancelling powers and Σ_q y[p,q] = 1`."""
    conditions = list(dict.fromkeys(c for form in closed for c in form.conditions()))
    powers = ["cancelling powers"] if any("≠" in c for c in conditions) else []
    parts = [*powers, *(c for c in conditions if c.startswith("Σ"))]
    return f"closed form after {' and '.join(parts)}" if parts else "closed form"
