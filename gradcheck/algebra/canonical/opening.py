"""Sums of several terms under a bound letter: Σ_p a[p]/(a[p] + c[p]) + Σ_p c[p]/(a[p] + c[p]) = m.

Each contraction of a form is a monomial of its own, so that sums which only together are simple stay
apart. Here a whole form is written as one sum over common letters, Σ_ℓ F(ℓ): a term with fewer
letters is its own mean, x = Σ_p x/m. Where F(ℓ), made symmetric in the letters of each axis, is 0, so is
the form. The converse holds where all bound letters are opened and no denominator sums over letters
of its own: a form is then graded by the letters of each axis, and F can be read off where all of them
differ.
"""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import combinations, permutations, product
from math import factorial, prod
from typing import TYPE_CHECKING

from gradcheck.algebra.canonical.forms import Form, Key, build, freed, relettered, summed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# More orders of the opened letters than this are not averaged over.
MOST_ORDERS = 120
_DEFINED = ("sum", "sigmoid", "tanh")

Letters = tuple[int, ...]


def openings(form: Form) -> Iterator[Form]:
    """Forms over more free letters whose vanishing implies that this one vanishes."""
    if not any(_touched(k, form.rank) for k in form.terms):
        return
    least = _Opening(form, _touched)
    yield from least.forms()
    most = _Opening(form, _bound)
    if most.target != least.target:
        yield from most.forms()


def _bound(key: Key, rank: int) -> dict[int, str]:
    """The bound letters of a monomial, each with its axis."""
    return {
        s: a for e in key.entries for s, a in zip(e.letters, e.atom.axes, strict=True) if s >= rank
    }


def _touched(key: Key, rank: int) -> dict[int, str]:
    """Those bound letters on which something stands that is defined by a sum of terms."""
    standing = {s for e in key.entries if e.atom.kind in _DEFINED for s in e.letters}
    return {s: a for s, a in _bound(key, rank).items() if s in standing}


class _Opening:
    """One way to open a form.

    Args:
        form: The form.
        chosen: The letters of a monomial that must be opened.
    """

    def __init__(self, form: Form, chosen: Callable[[Key, int], dict[int, str]]) -> None:
        self.form = form
        self.chosen = {k: chosen(k, form.rank) for k in form.terms}
        counts = [Counter(found.values()) for found in self.chosen.values()]
        axes = sorted({a for c in counts for a in c})
        self.target = {a: max(c[a] for c in counts) for a in axes}
        self.common = (*form.axes, *(a for a in axes for _ in range(self.target[a])))

    def forms(self) -> Iterator[Form]:
        """The opened form, if it is not too large."""
        orders = prod(factorial(n) for n in self.target.values())
        if orders <= MOST_ORDERS:
            yield self._symmetric()

    def _symmetric(self) -> Form:
        total = Form(self.common, {})
        for key, c in self.form.terms.items():
            ways = list(self._ways(key))
            for letters in ways:
                total = total + self._placed(key, c / len(ways), letters)
        return total

    def _ways(self, key: Key) -> Iterator[tuple[int | None, ...]]:
        """Which letter of a monomial stands at each opened place; None where its mean is taken."""
        per_axis = [list(self._along(key, a, n)) for a, n in self.target.items()]
        for parts in product(*per_axis):
            yield tuple(s for part in parts for s in part)

    def _along(self, key: Key, axis: str, places: int) -> Iterator[tuple[int | None, ...]]:
        """The orders in which letters of one axis, and means, fill its places."""
        must = [s for s, a in self.chosen[key].items() if a == axis]
        others = [s for s, a in _bound(key, self.form.rank).items() if a == axis and s not in must]
        more = min(len(others), places - len(must), self._wanted(key, axis) - len(must))
        for extra in combinations(others, max(more, 0)):
            filled: list[int | None] = [*must, *extra]
            filled += [None] * (places - len(filled))
            yield from set(permutations(filled))

    def _wanted(self, key: Key, axis: str) -> int:
        """How many letters leave the monomial with the power of the size that others have."""
        full = [k for k, found in self.chosen.items() if list(found.values()).count(axis)]
        least = min((_size(k, axis) + self._missing(k, axis) for k in full), default=Fraction(0))
        gap = least - _size(key, axis) + self.target[axis]
        return max(0, gap.numerator // gap.denominator)

    def _missing(self, key: Key, axis: str) -> int:
        return list(self.chosen[key].values()).count(axis) - self.target[axis]

    def _placed(self, key: Key, c: Fraction, letters: tuple[int | None, ...]) -> Form:
        """The monomial with letters opened at their places, summed over the rest."""
        rank = self.form.rank
        axes, (inner, _) = freed(self.form.axes, key)
        order = sorted(_bound(key, rank))
        names = {s: rank + i for i, s in enumerate(order)}
        opened = {s: rank + i for i, s in enumerate(letters) if s is not None}
        rest = [s for s in order if s not in opened]
        places = {names[s]: p for s, p in opened.items()}
        places |= {names[s]: len(self.common) + i for i, s in enumerate(rest)}
        wide = (*self.common, *(axes[names[s]] for s in rest))
        letters_of = tuple(places.get(i, i) for i in range(len(axes)))
        placed = relettered(build(axes, [(inner, c)]), wide, letters_of)
        result = summed(placed, tuple(range(len(self.common), len(wide))))
        for axis, letter in zip(self.common[rank:], letters, strict=True):
            if letter is None:
                mean = Key(((axis, Fraction(-1)),), (), ())
                result = result * build(self.common, [(mean, Fraction(1))])
        return result


def _size(key: Key, axis: str) -> Fraction:
    """The power of an axis size in a monomial."""
    return dict(key.scalars).get(axis, Fraction(0))
