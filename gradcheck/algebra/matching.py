"""Which factors of two terms coincide, once the summed letters of one are renamed.

The names of summed letters mean nothing; Σ_p x[p,r] a[p,s] and Σ_t x[t,r] y[t,s] share the factor x.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fractions import Fraction

    from gradcheck.algebra.terms import Factor, Term

# The search is exponential in the factors of one name; what was found by then is returned.
MOST_STEPS = 4000


@dataclass(frozen=True)
class Match:
    """Which factors of two terms coincide once summed letters of the second are renamed."""

    letters: dict[str, str]
    factors: tuple[Factor, ...]
    deltas: tuple[tuple[str, str], ...]
    score: float


def _common_power(a: Factor, b: Factor) -> Fraction | None:
    """The power that both contain; None where signs differ or the rest would be a root."""
    if (a.power > 0) != (b.power > 0) or (a.power - b.power).denominator != 1:
        return None
    return min(a.power, b.power, key=abs)


class _Matcher:
    """The best way to match the second term's factors with the first's."""

    def __init__(self, first: Term, second: Term, free: tuple[str, ...]) -> None:
        self.first, self.second, self.free = first, second, set(free)
        self.order = sorted(second.factors, key=lambda f: -len(f.letters))
        self.best = Match({}, (), (), -1.0)
        self.steps = 0

    def run(self) -> Match:
        self._go(0, {}, (), frozenset())
        return self.best

    def _go(
        self,
        place: int,
        letters: dict[str, str],
        common: tuple[Factor, ...],
        used: frozenset[int],
    ) -> None:
        self.steps += 1
        if place == len(self.order):
            self._keep(letters, common)
            return
        if self.steps > MOST_STEPS:
            self._keep(letters, common)
            return
        factor = self.order[place]
        for i, other in enumerate(self.first.factors):
            if i in used or (other.name, other.function) != (factor.name, factor.function):
                continue
            power = _common_power(other, factor)
            extended = None if power is None else self._unified(factor, other, letters)
            if extended is not None and power is not None:
                self._go(place + 1, extended, (*common, replace(other, power=power)), used | {i})
        self._go(place + 1, letters, common, used)

    def _unified(
        self, factor: Factor, other: Factor, letters: dict[str, str]
    ) -> dict[str, str] | None:
        if len(factor.letters) != len(other.letters):
            return None
        extended = dict(letters)
        for s, t in zip(factor.letters, other.letters, strict=True):
            if s is None or t is None or s in self.free or t in self.free:
                if s != t:
                    return None
                continue
            if extended.setdefault(s, t) != t or self._taken(s, t, extended):
                return None
            if self.second.axes.get(s) != self.first.axes.get(t):
                return None
        return extended

    @staticmethod
    def _taken(s: str, t: str, letters: dict[str, str]) -> bool:
        return any(v == t and k != s for k, v in letters.items())

    def _keep(self, letters: dict[str, str], common: tuple[Factor, ...]) -> None:
        renamed = [(letters.get(a, a), letters.get(b, b)) for a, b in self.second.deltas]
        deltas = tuple(pair for pair in self.first.deltas if pair in renamed)
        score = float(sum(2 + len(f.letters) for f in common) + len(deltas))
        if score > self.best.score:
            self.best = Match(letters, common, deltas, score)


def match(first: Term, second: Term, free: tuple[str, ...]) -> Match:
    """The largest common part of two terms whose summed letters are apart."""
    return _Matcher(first, second, free).run()


def alike(first: Term, second: Term, free: tuple[str, ...]) -> bool:
    """Whether two terms are equal up to their coefficients and the names of summed letters."""
    if len(first.factors) != len(second.factors) or first.sizes != second.sizes:
        return False
    apart = second.renamed({s: f"{s}'" for s in second.letters() if s not in free})
    found = match(first, apart, free)
    renamed = apart.renamed(found.letters)
    same = sorted(map(repr, renamed.factors)) == sorted(map(repr, first.factors))
    return same and sorted(renamed.deltas) == sorted(first.deltas)
