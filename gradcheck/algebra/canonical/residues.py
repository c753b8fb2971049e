"""Whether two forms are equal at random residues, modulo a prime.

First with a residue for each root entry, contraction, opaque atom and size: what is equal so is equal as
a formal expression. Where that is not enough, since contractions of sums of terms depend on each other
(Σ_p a[p]/(a[p] + c[p]) + Σ_p c[p]/(a[p] + c[p]) is m), with weighted axes: an axis has a few places with
residues for weights, whose sum is its size, and a bound letter is a weighted sum over all of them.
Every rewriting rule is an identity there too. If a difference is no formal zero, some term of it with
most bound letters shows at as many places as it has letters, free ones included.
"""

from __future__ import annotations

import random
from fractions import Fraction
from itertools import product
from math import ceil, gcd, prod
from typing import TYPE_CHECKING, Any, NamedTuple

from gradcheck.algebra.canonical import functions
from gradcheck.algebra.canonical.forms import RENEWED, Entry, Form, Key, relettered
from gradcheck.algebra.canonical.naming import components, named_group
from gradcheck.algebra.canonical.symmetry import turned
from gradcheck.algebra.canonical.undecided import Undecided

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from gradcheck.algebra.canonical.atoms import Atom, Table

PRIME = 2**61 - 1
LANES = 2
MOST_LANES = 8
# A proof is printed only below this bound on a false acceptance: more lanes are taken above it.
ACCEPTED = 1e-12
# Entries are random residues to this power, so that their roots of these orders exist.
_ROOTS = 12
# Bound letters are numbered from here: the class of a free letter may be any smaller number, also
# inside a sum that has fewer letters than the form in which it stands.
_BOUND = 10**6
# A weighted axis has at most so many places.
_MOST_PLACES = 7


def agree_at_random(table: Table, first: Form, second: Form, seed: int) -> tuple[bool, float]:
    """Whether two forms agree at random residues for every pattern, and the bound on a false yes."""
    found = _agree(table, first, second, seed)
    if found[0]:
        return found
    again = turned(first), turned(second)
    if again == (first, second):
        return found
    equal, bound = _agree(table, *again, seed)
    return equal, found[1] + bound


def _agree(table: Table, first: Form, second: Form, seed: int) -> tuple[bool, float]:
    patterns = list(equal_letters(first.axes))
    units = units_of(table, first, second)
    found = _lanes(lambda s: Residues(s, table, units), first, second, patterns, seed)
    if found[0] or not any(_depends(f) for f in (first, second)):
        return found
    places = _places(first, second)
    return _lanes(lambda s: Weighted(s, table, places, units), first, second, patterns, seed)


def _lanes(
    make: Any, first: Form, second: Form, patterns: list[tuple[int, ...]], seed: int
) -> tuple[bool, float]:
    bound = 1.0
    same = True
    for lane in range(MOST_LANES):
        if lane >= LANES and (bound < ACCEPTED or not same):
            break
        residues = make(hash((seed, lane)))
        gaps = [residues.at(first, p) - residues.at(second, p) for p in patterns]
        same = same and all(g % PRIME == 0 for g in gaps)
        count = len(first.terms) + len(second.terms) + 1
        bound *= min(1.0, 4 * residues.degree * count * len(patterns) / PRIME)
    return same, bound


def equal_letters(axes: tuple[str, ...]) -> Iterator[tuple[int, ...]]:
    """Every way in which letters of one axis may be equal, as the first letter of each class."""
    choices = [[i, *(j for j in range(i) if axes[j] == axis)] for i, axis in enumerate(axes)]
    for pattern in product(*choices):
        if all(pattern[c] == c for c in pattern):
            yield pattern


class Residues:
    """Random residues for everything that a form is made of, the same for equal things."""

    def __init__(self, seed: int, table: Table, units: Mapping[object, Fraction]) -> None:
        self._table = table
        self._units = dict(units)
        self._random = random.Random(seed)
        self._memo: dict[object, int] = {}
        self.degree = 1

    def of(self, key: object) -> int:
        """The residue of a thing, drawn when it is first asked for."""
        if key not in self._memo:
            self._memo[key] = self._random.randrange(1, PRIME)
        return self._memo[key]

    def at(self, form: Form, pattern: tuple[int, ...]) -> int:
        """The form at one equality pattern: each free letter's class.

        Functions of entries with several letters of one axis are looked at anew where these meet.
        """
        if len(set(pattern)) < len(pattern) and any(map(_may_meet, form.terms)):
            form = relettered(form, form.axes, pattern)
        return self.value(form, pattern)

    def value(self, form: Form, letters: tuple[int, ...]) -> int:
        """The form where `letters` gives each free letter its class."""
        total = 0
        for key, c in form.terms.items():
            if any(letters[a] != letters[b] for a, b in key.deltas):
                continue
            total += self._monomial(key, form.rank, letters) * _residue(c)
        return total % PRIME

    def _monomial(self, key: Key, rank: int, letters: tuple[int, ...]) -> int:
        result, degree = 1, Fraction(0)
        for name, power in key.scalars:
            result = result * self.scalar(name, power) % PRIME
            degree += abs(power) / self.unit(("scalar", name), power)
        entries = tuple(
            e._replace(
                letters=tuple(letters[s] if s < rank else s - rank + _BOUND for s in e.letters)
            )
            for e in key.entries
        )
        roots, groups = components(entries, _BOUND)
        for e in roots:
            result = result * self.root(e) % PRIME
            degree += abs(e.power) / self.unit(e.atom.number, e.power)
        for group in groups:
            result = result * self.contraction(group) % PRIME
            degree += 1
        self.degree = max(self.degree, int(degree) + 1)
        return result

    def scalar(self, name: str, power: Fraction) -> int:
        """A power of a size or of a number such as π."""
        key = ("scalar", name)
        return self.rooted(key, power, self.unit(key, power))

    def contraction(self, group: list[Entry]) -> int:
        """A sum over bound letters: a residue for each canonical name."""
        named = named_group(tuple(group), _BOUND)
        return self.of(("sum", tuple((e.atom.number, e.letters, e.power) for e in named)))

    def root(self, e: Entry) -> int:
        """A power of an entry without bound letters."""
        inner = defining(self._table, e.atom)
        if inner is None:
            unit = self.unit(e.atom.number, e.power)
            return self.rooted((e.atom.number, e.letters), e.power, unit)
        return self.raised(e, self.value(inner, e.letters))

    def raised(self, e: Entry, base: int) -> int:
        """A power of something with a value; what is not whole in it is opaque."""
        whole = e.power.numerator // e.power.denominator
        if base == 0:
            raise Undecided("a denominator is 0 at every size")
        rest = e.power - whole
        opaque = self.of((e.atom.number, e.letters, rest)) if rest else 1
        return pow(base, whole, PRIME) * opaque % PRIME

    def unit(self, thing: object, power: Fraction) -> Fraction:
        """The power of a thing whose residue is drawn: the others are whole powers of that one."""
        if thing not in self._units:
            self._units[thing] = _common_unit([power])
        return self._units[thing]

    def rooted(self, key: object, power: Fraction, unit: Fraction) -> int:
        """A rational power of a thing, whose residue is a power of one that was drawn."""
        exponent = power / unit
        if exponent.denominator != 1:
            raise Undecided(f"a power {power} beside other powers that it is no multiple of")
        return pow(self.of(key), int(exponent), PRIME)


def units_of(table: Table, *forms: Form) -> dict[object, Fraction]:
    """The unit of the powers of each atom and scalar: exp(0.3 x) beside exp(0.6 x) is its square."""
    powers: dict[object, set[Fraction]] = {}
    seen: set[Atom] = set()

    def visit(form: Form) -> None:
        for key in form.terms:
            for name, power in key.scalars:
                powers.setdefault(("scalar", name), set()).add(power)
            for e in key.entries:
                powers.setdefault(e.atom.number, set()).add(e.power)
                if e.atom not in seen:
                    seen.add(e.atom)
                    inner = defining(table, e.atom)
                    if inner is not None:
                        visit(inner)

    for form in forms:
        visit(form)
    return {thing: _common_unit(found) for thing, found in powers.items()}


def _common_unit(powers: Iterable[Fraction]) -> Fraction:
    """1/12, or what all powers are multiples of where that is not enough."""
    if all((p * _ROOTS).denominator == 1 for p in powers):
        return Fraction(1, _ROOTS)
    found = Fraction(0)
    for p in powers:
        top = gcd(found.numerator * p.denominator, p.numerator * found.denominator)
        found = Fraction(top, found.denominator * p.denominator)
    return found


def defining(table: Table, atom: Atom) -> Form | None:
    """What an atom stands for, where that is made of other atoms."""
    return atom.argument if atom.kind == "sum" else functions.defined(table, atom)


def _residue(c: Fraction) -> int:
    return c.numerator * pow(c.denominator, -1, PRIME) % PRIME


def _may_meet(key: Key) -> bool:
    return any(
        e.atom.kind in RENEWED and len(set(e.atom.axes)) < len(e.atom.axes) for e in key.entries
    )


# ---------------------------------------------------------------------- weighted axes


def _depends(form: Form) -> bool:
    """Whether a contraction holds something that is defined by a sum of terms."""
    return any(
        e.atom.kind in ("sum", "sigmoid", "tanh") and any(s >= form.rank for s in e.letters)
        for k in form.terms
        for e in k.entries
    )


def _places(*forms: Form) -> dict[str, int]:
    """How many places each axis needs: its free letters, and the most bound ones of one term."""
    found: dict[str, int] = {}
    for form in forms:
        for key in form.terms:
            bound = _letters(key, form.rank)
            for axis, count in bound.items():
                wanted = min(form.axes.count(axis) + count, _MOST_PLACES)
                found[axis] = max(found.get(axis, 0), wanted)
    return found


def _letters(key: Key, rank: int) -> dict[str, int]:
    """The bound letters of each axis, those of sums within sums included."""
    found: dict[str, int] = {}
    for axis in _bound_axes(key, rank).values():
        found[axis] = found.get(axis, 0) + 1
    for e in key.entries:
        if e.atom.kind != "sum" or e.atom.argument is None:
            continue
        inner = e.atom.argument
        deeper = [_letters(k, inner.rank) for k in inner.terms]
        for axis in {a for d in deeper for a in d}:
            most = max(d.get(axis, 0) for d in deeper)
            found[axis] = found.get(axis, 0) + most * ceil(abs(e.power))
    return found


def _bound_axes(key: Key, rank: int) -> dict[int, str]:
    """The axis of each bound letter."""
    return {
        s: a for e in key.entries for s, a in zip(e.letters, e.atom.axes, strict=True) if s >= rank
    }


class Weighted(Residues):
    """Residues at the places of weighted axes; a class of free letters is a place.

    Args:
        seed: Of the residues.
        table: The atoms.
        places: The number of places of each axis that is summed over.
        units: Of the powers of atoms and scalars.
    """

    def __init__(
        self, seed: int, table: Table, places: dict[str, int], units: Mapping[object, Fraction]
    ) -> None:
        super().__init__(seed, table, units)
        self._places = places
        self._weights: dict[str, list[int]] = {}

    def at(self, form: Form, pattern: tuple[int, ...]) -> int:
        """The form where letters of one class are at one place, and others at different ones."""
        letters: list[int] = []
        for s, axis in zip(pattern, form.axes, strict=True):
            same = [letters[i] for i, t in enumerate(pattern[: len(letters)]) if t == s]
            before = {letters[i] for i in range(len(letters)) if form.axes[i] == axis}
            letters.append(same[0] if same else len(before))
        self.degree = max(self.degree, self._degree(form))
        return self.value(form, tuple(letters))

    def _degree(self, form: Form) -> int:
        """A bound on the degree of numerator and denominator together, all terms' added up."""
        return sum(self._degree_of(key, form.rank) for key in form.terms) + 1

    def _degree_of(self, key: Key, rank: int) -> int:
        total = sum(ceil(abs(p) / self.unit(("scalar", n), p)) for n, p in key.scalars)
        for e in key.entries:
            inner = defining(self._table, e.atom)
            if inner is None:
                total += ceil(abs(e.power) / self.unit(e.atom.number, e.power))
            else:
                total += self._degree(inner) * ceil(abs(e.power))
        # Denominators may differ from place to place; their product has the degree of all.
        places = _bound_axes(key, rank).values()
        return (total + len(places)) * prod(len(self.weights(axis)) for axis in places)

    def weights(self, axis: str) -> list[int]:
        """Residues that sum up to the size of the axis."""
        if axis not in self._weights:
            count = max(self._places.get(axis, 1), 1)
            own = [self.of(("weight", axis, i)) for i in range(count - 1)]
            size = int(axis) if axis.isdigit() else self.scalar(axis, Fraction(1))
            self._weights[axis] = [*own, (size - sum(own)) % PRIME]
        return self._weights[axis]

    def contraction(self, group: list[Entry]) -> int:
        """The weighted sum over all places of the bound letters, one letter after the other."""
        axes = {s: a for e in group for s, a in zip(e.letters, e.atom.axes, strict=True)}
        bound = sorted(s for s in axes if s >= _BOUND)
        pool = [self._values(e, axes) for e in group]
        for s in bound:
            touching = [x for x in pool if s in x.letters]
            pool = [x for x in pool if s not in x.letters]
            pool.append(_summed(touching, s, self.weights(axes[s])))
        return prod(x.values[()] for x in pool) % PRIME

    def _values(self, e: Entry, axes: dict[int, str]) -> _Values:
        """An entry's values over the places of its bound letters."""
        bound = tuple(sorted({s for s in e.letters if s >= _BOUND}))
        values = {}
        for place in product(*(range(len(self.weights(axes[s]))) for s in bound)):
            at = dict(zip(bound, place, strict=True))
            values[place] = self.root(e._replace(letters=tuple(at.get(s, s) for s in e.letters)))
        return _Values(bound, values)

    def root(self, e: Entry) -> int:
        """A power of an entry at places; a function on a diagonal is that of its argument there."""
        key = ("root", *e)
        if key not in self._memo:
            self._memo[key] = self._root(e)
        return self._memo[key]

    def _root(self, e: Entry) -> int:
        if e.atom.kind in RENEWED and e.atom.kind != "sum" and _at_one_place(e):
            names = tuple(
                next(i for i, t in enumerate(e.letters) if t == s and e.atom.axes[i] == axis)
                for s, axis in zip(e.letters, e.atom.axes, strict=True)
            )
            return self.value(functions.renewed(e._replace(letters=names)), e.letters)
        if e.atom.sums_to_one and e.letters:
            return self.raised(e, self._of_row(e))
        return super().root(e)

    def _of_row(self, e: Entry) -> int:
        """An entry of rows whose weighted sum is 1: the last place takes what is left."""
        weights = self.weights(e.atom.axes[-1])
        last = len(weights) - 1
        if e.letters[-1] != last:  # a free letter may stand at a place beyond
            return self.of((e.atom.number, e.letters))
        row = [self.of((e.atom.number, (*e.letters[:-1], i))) for i in range(last)]
        total = sum(w * v for w, v in zip(weights, row, strict=False))
        return (1 - total) * pow(weights[last], -1, PRIME) % PRIME


def _at_one_place(e: Entry) -> bool:
    pairs = list(zip(e.letters, e.atom.axes, strict=True))
    return len(set(pairs)) < len(pairs)


class _Values(NamedTuple):
    """A residue for each place of some bound letters."""

    letters: tuple[int, ...]
    values: dict[tuple[int, ...], int]


def _summed(factors: list[_Values], letter: int, weights: list[int]) -> _Values:
    """Tables over bound letters multiplied, and summed over one letter."""
    sizes: dict[int, int] = {}
    for x in factors:
        sizes.update(zip(x.letters, (n + 1 for n in max(x.values)), strict=True))
    kept = tuple(sorted(s for s in sizes if s != letter))
    where = {s: i for i, s in enumerate((*kept, letter))}
    picks = [(tuple(where[s] for s in x.letters), x.values) for x in factors]
    found = {}
    for place in product(*(range(sizes[s]) for s in kept)):
        total = 0
        for i, weight in enumerate(weights):
            at = (*place, i)
            value = weight
            for letters, values in picks:
                value = value * values[tuple(at[j] for j in letters)] % PRIME
            total += value
        found[place] = total % PRIME
    return _Values(kept, found)
