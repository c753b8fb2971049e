"""Relations that hold on a domain: the rows of y sum to one, Σ_q y[r,q] = 1.

A relation is used only where that is sound: on a letter that is summed, that stands nowhere else in
the term (never on a diagonal), and that runs over the tensor's own last axis. Only the last axis has
one, so that no two relations share a factor through different letters. Rows exist where that axis has
at least one value, which is recorded as a condition, as is the relation itself: on arrays outside the
domain the result differs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gradcheck.algebra.shapes import is_broadcast, is_number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradcheck.algebra.terms import Factor, Term


@dataclass(frozen=True)
class Relation:
    """Σ over the last letter of a tensor is 1.

    Attributes:
        name: The tensor.
        letters: How many letters it has in one slice.
        dotted: Whether it may have more of them in front, for leading axes.
        because: Why it holds, in words.
    """

    name: str
    letters: int
    dotted: bool
    because: str

    def equation(self) -> str:
        """`Σ_q y[p,q] = 1`, in letters of its own."""
        letters = "pqrstuvw"[: self.letters]
        return f"Σ_{letters[-1]} {self.name}[{','.join(letters)}] = 1"

    def fits(self, factor: Factor) -> bool:
        """Whether a factor is this tensor itself, no power and no function of it."""
        if factor.name != self.name or factor.function is not None or factor.power != 1:
            return False
        count = len(factor.letters)
        return count >= self.letters if self.dotted else count == self.letters


@dataclass(frozen=True)
class Use:
    """One use of a relation in a term: which factor goes, and its private letter."""

    relation: Relation
    factor: Factor
    letter: str

    def equation(self) -> str:
        """`Σ_q y[r,q] = 1`."""
        letters = ",".join(s or "0" for s in self.factor.letters)
        return f"Σ_{self.letter} {self.factor.name}[{letters}] = 1"


def usable(term: Term, output: Iterable[str], relations: Iterable[Relation]) -> Use | None:
    """The first factor of a term whose row is summed by a letter of its own."""
    free = set(output)
    for factor in term.factors:
        for relation in relations:
            if not relation.fits(factor):
                continue
            letter = factor.letters[-1]
            if letter is None or letter in free or not _is_private(letter, term):
                continue
            axis = term.axes.get(letter, "")
            if axis and axis != "1" and not is_broadcast(axis):
                return Use(relation, factor, letter)
    return None


def _is_private(letter: str, term: Term) -> bool:
    """Whether a letter occurs once in all factors and deltas."""
    in_factors = sum(f.letters.count(letter) for f in term.factors)
    return in_factors == 1 and not any(letter in pair for pair in term.deltas)


def used(term: Term, use: Use) -> Term:
    """The term with the row replaced by the 1 that it sums to."""
    factors = list(term.factors)
    factors.remove(use.factor)
    axis = term.axes[use.letter]
    condition = (use.relation.equation(), *(() if is_number(axis) else (f"{axis} ≥ 1",)))
    return replace(
        term,
        factors=tuple(factors),
        # Without the letter's axis, or it would count as a summed letter that occurs nowhere.
        axes={s: a for s, a in term.axes.items() if s != use.letter},
        conditions=term.conditions | set(condition),
    )
