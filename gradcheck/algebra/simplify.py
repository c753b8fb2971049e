"""An expression in closed form: deltas eliminated, powers cancelled, relations applied, terms collected.

Each rule changes no value at any size: those of `normal`, and the relations that the expression
carries from the domains of its operands. What is printed groups common factors (`grouping`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gradcheck.algebra.matching import alike
from gradcheck.algebra.normal import collect, normalise_term
from gradcheck.algebra.relations import usable, used

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradcheck.algebra.relations import Relation
    from gradcheck.algebra.terms import Expression, Term

# Terms are compared pair by pair; beyond this many only equal texts are collected.
MOST_TERMS = 60


def simplified(expression: Expression) -> Expression:
    """The closed form of an expression, to be printed with its common factors grouped."""
    terms = [closed(t, expression.output, expression.relations) for t in expression.terms]
    return replace(expression, terms=tuple(like_terms(terms, expression.output)), is_grouped=True)


def closed(term: Term, output: tuple[str, ...], relations: Iterable[Relation]) -> Term:
    """One term with every rule applied until none applies."""
    term = normalise_term(term, output)
    while (use := usable(term, output, relations)) is not None:
        term = normalise_term(used(term, use), output)
    return term


def like_terms(terms: Iterable[Term], output: tuple[str, ...]) -> list[Term]:
    """Terms that are equal up to the names of summed letters, added; zeros dropped."""
    collected = collect(terms)
    if len(collected) > MOST_TERMS:
        return collected
    kept: list[Term] = []
    for term in collected:
        place = next((i for i, t in enumerate(kept) if alike(t, term, output)), None)
        if place is None:
            kept.append(term)
            continue
        seen = kept[place]
        kept[place] = replace(
            seen,
            coefficient=seen.coefficient + term.coefficient,
            conditions=seen.conditions | term.conditions,
        )
    return collect(kept)
