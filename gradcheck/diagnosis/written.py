"""A claim as its author wrote it: the Jacobian, or the vjp with its cotangent."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gradcheck.algebra.compose import jacobian_of_vjp
from gradcheck.algebra.shapes import DOTS
from gradcheck.algebra.terms import Expression, Factor, Term
from gradcheck.algebra.text import plain

if TYPE_CHECKING:
    from gradcheck.operation import Claim
    from gradcheck.spec import Spec

_CACHES = ("_derivatives", "_composed")


@dataclass(frozen=True)
class Written:
    """One claim of a spec, in the form in which it stands in the source.

    Attributes:
        spec: The spec.
        claim: The claim.
        expression: Its terms as they were written.
    """

    spec: Spec
    claim: Claim
    expression: Expression

    @property
    def split(self) -> int:
        """The number of the output's letters, of one slice."""
        return len([d for d in self.spec.shapes[self.claim.output] if d != DOTS])

    def jacobian(self, expression: Expression) -> Expression:
        """What an expression in the claim's form stands for, output letters first."""
        if self.claim.form != "vjp":
            return expression
        shape = tuple(d for d in self.spec.shapes[self.claim.output] if d != DOTS)
        return jacobian_of_vjp(expression, self.claim.output, shape)

    def changed(self, expression: Expression) -> Spec:
        """The spec with another expression for this claim; nothing else of it is touched."""
        other = copy.copy(self.spec)
        for cache in _CACHES:
            other.__dict__.pop(cache, None)
        key = (self.claim.output, self.claim.input)
        other._claimed = {**self.spec._claimed, key: (self.claim.form, self.jacobian(expression))}
        return other


def written(spec: Spec, claim: Claim) -> Written | None:
    """A claim in its author's form; None where the spec holds no such claim."""
    found = spec._claimed.get((claim.output, claim.input))
    if found is None or not found[1].terms:
        return None
    form, expression = found
    split = len([d for d in spec.shapes[claim.output] if d != DOTS])
    if form == "vjp" and all(
        _has_cotangent(t, expression.output[:split]) for t in expression.terms
    ):
        return Written(spec, claim, _as_vjp(expression, claim.output, split))
    return Written(spec, replace(claim, form="jacobian"), expression)


def _has_cotangent(term: Term, fresh: tuple[str, ...]) -> bool:
    """Whether the output's letters stand in a delta each, as those of a cotangent do."""
    pairs = [pair for pair in term.deltas if pair[0] in fresh]
    others = [s for f in term.factors for s in f.letters] + [b for _, b in term.deltas]
    others += [a for a, _ in term.deltas if a not in fresh]
    return sorted(a for a, _ in pairs) == sorted(fresh) and not set(others) & set(fresh)


def _as_vjp(jacobian: Expression, output: str, split: int) -> Expression:
    """The cotangent back in its place: the output's letters were tied to its letters by deltas."""
    fresh, own = jacobian.output[:split], jacobian.output[split:]
    terms = tuple(_with_cotangent(t, fresh, output) for t in jacobian.terms)
    return replace(jacobian, output=own, terms=terms, title=jacobian.title[-1:])


def _with_cotangent(term: Term, fresh: tuple[str, ...], output: str) -> Term:
    deltas = list(term.deltas)
    letters: list[str | None] = []
    for letter in fresh:
        pair = next((p for p in deltas if p[0] == letter), None)
        letters.append(pair[1] if pair else None)
        if pair:
            deltas.remove(pair)
    factors = (*term.factors, Factor(f"d({output})", tuple(letters)))
    axes = {s: axis for s, axis in term.axes.items() if s not in fresh}
    return replace(term, factors=factors, deltas=tuple(deltas), axes=axes)


def line(expression: Expression, index: int) -> str:
    """One term with its sign, as it stands in a diff: `- a[p,q] a[p,s] δ[p,r]`."""
    text = plain(replace(expression, terms=(expression.terms[index],), title=()))
    if text.startswith("−"):
        return f"- {text[1:]}"
    return f"+ {text}" if index else text
