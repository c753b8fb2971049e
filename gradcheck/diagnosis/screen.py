"""The screen: truth and terms as numbers at generic points, where candidates fail fast.

What passes the screen is only a candidate: nothing is called right before it is proved.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck import backends
from gradcheck.checking.problem import Problem
from gradcheck.diagnosis.points import generic_points
from gradcheck.errors import GradcheckError
from gradcheck.evaluation import evaluate
from gradcheck.oracles import balls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gradcheck.algebra.terms import Expression, Term
    from gradcheck.checking.search import Example
    from gradcheck.evaluation import Bindings
    from gradcheck.operation import Claim, Operation

    Array = NDArray[np.float64]

# Relative to Σ|terms|: above any rounding at these small points, where all values are moderate. It
# only decides which candidates are worth a proof.
NEAR = 1e-10
_MOST_ENTRIES = 4000


@dataclass(frozen=True)
class Place:
    """One generic point: the arrays behind the operands, and the true derivative."""

    example: Example
    bindings: Bindings
    true: Array


class Screen:
    """The true derivative of one output with respect to one input, at generic points.

    Args:
        operation: The operation.
        claim: Which derivative; what it claims does not matter.
        count: The number of points.
    """

    def __init__(self, operation: Operation, claim: Claim, count: int = 2) -> None:
        self.operation, self.claim = operation, claim
        self.places = [
            p for e in generic_points(operation, count) if (p := self._place(e)) is not None
        ]
        self.sizes = [place.example.sizes for place in self.places]

    def _place(self, example: Example) -> Place | None:
        problem = Problem(self.operation, self.claim, "float64")
        if problem.cost(example.sizes) > _MOST_ENTRIES:
            return None
        try:
            with np.errstate(all="ignore"):
                bindings = bindings_at(self.operation, example)
                true = _truth(self.operation, self.claim, problem, example)
        except (GradcheckError, ValueError, ZeroDivisionError, ArithmeticError):
            return None
        return None if true is None else Place(example, bindings, true)

    @property
    def true(self) -> Array:
        """The true derivative at all points, one after another."""
        return np.concatenate([p.true.ravel() for p in self.places])

    def cuts(self) -> list[slice]:
        """Where each point's entries lie in a vector of all."""
        ends = np.cumsum([0, *(p.true.size for p in self.places)])
        return [slice(int(a), int(b)) for a, b in pairwise(ends)]

    def vector(self, expression: Expression) -> Array | None:
        """An expression at all points; None where it is not finite or means nothing there."""
        parts = []
        for place in self.places:
            if (part := self.part(expression, place)) is None:
                return None
            parts.append(part)
        return np.concatenate(parts)

    def part(self, expression: Expression, place: Place) -> Array | None:
        """An expression at one point; None where it is not finite or means nothing there."""
        value = value_at(expression, place.bindings)
        if value is None or value.size != place.true.size or not np.all(np.isfinite(value)):
            return None
        return np.asarray(np.broadcast_to(value, place.true.shape).ravel())

    def terms(self, expression: Expression) -> list[Array] | None:
        """Each term at all points; None where one of them is not finite."""
        found = [self.vector(single(expression, term)) for term in expression.terms]
        return None if any(v is None for v in found) else [v for v in found if v is not None]


def single(expression: Expression, term: Term) -> Expression:
    """An expression of one term."""
    return replace(expression, terms=(term,))


def value_at(expression: Expression, bindings: Bindings) -> Array | None:
    """The dense array of an expression; None where it cannot be evaluated."""
    if not expression.terms:
        return None
    try:
        with np.errstate(all="ignore"):
            return np.asarray(evaluate(expression, bindings, backends.get("numpy")), np.float64)
    except (GradcheckError, TypeError, ValueError, KeyError, IndexError, ArithmeticError):
        return None


def bindings_at(operation: Operation, example: Example) -> Bindings:
    """Every operand's array at an example, in float64."""
    backend = backends.get("numpy")
    values: dict[str, Any] = {
        n: backend.asarray(v, "float64", "cpu") for n, v in example.inputs.items()
    }
    values.update(example.params)
    operands = operation.environment(backend.namespace("float64", "cpu"), values)
    return operation.bind(values, operands, np.zeros(()))


def _truth(operation: Operation, claim: Claim, problem: Problem, example: Example) -> Array | None:
    """The derivative of the forward: in balls, or by dual numbers where balls do not reach."""
    known = balls.truth(operation, claim, example)
    if known is not None:
        return np.asarray(known[0], np.float64)
    carried = problem.evaluate(example).truth
    if carried is None or carried.ties or not np.all(np.isfinite(carried.error)):
        return None
    return np.asarray(carried.value, np.float64)


def close(gap: Array, scale: Array) -> bool:
    """Whether a difference is nothing but rounding, beside the size of what cancelled."""
    return bool(np.all(np.abs(gap) <= NEAR * scale))


def scale_of(parts: Sequence[Array], true: Array) -> Array:
    """Σ|terms| and the derivative itself, entry by entry, with the largest for those that are 0."""
    total = np.abs(true) + sum((np.abs(part) for part in parts), np.zeros_like(true))
    return np.asarray(np.maximum(total, 1e-3 * total.max(initial=0.0)) + 1e-300)
