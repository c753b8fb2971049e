"""Whether two forms are equal: by canonical form, and by evaluation at random residues.

Canonical: their difference is 0, at once or after its denominators are cleared. Random: entries,
contractions, opaque atoms, selectors and sizes are residues modulo a prime; a difference that is 0 as
a formal expression is 0 for every equality pattern of the free letters. Both must agree.
"""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction
from itertools import product
from typing import TYPE_CHECKING

from gradcheck.algebra.canonical import functions
from gradcheck.algebra.canonical.forms import (
    Entry,
    Form,
    Key,
    Undecided,
    build,
    components,
    relettered,
)
from gradcheck.algebra.canonical.forms import _named as named_group

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradcheck.algebra.canonical.atoms import Atom, Table

PRIME = 2**61 - 1
LANES = 2
MOST_LANES = 8
# A proof is printed only below this bound on a false acceptance (H11): more lanes are taken above it.
ACCEPTED = 1e-12
# Entries are random residues to this power, so that their roots of these orders exist.
_ROOTS = 12
_ROUNDS = 6
# Bound letters are numbered from here: the class of a free letter may be any smaller number, also
# inside a sum that has fewer letters than the form in which it stands.
_BOUND = 10**6


def with_relations(form: Form, related: dict[Atom, Atom]) -> Form:
    """The form with rows of probabilities known to sum to one."""
    items = [
        (
            k._replace(
                entries=tuple(e._replace(atom=related.get(e.atom, e.atom)) for e in k.entries)
            ),
            c,
        )
        for k, c in form.terms.items()
    ]
    return build(form.axes, items)


def related_atom(atom: Atom) -> Atom:
    """An input of probabilities, now with the relation of its domain."""
    return replace(atom, sums_to_one=True)


def vanishes(table: Table, form: Form) -> bool:
    """Whether a form is 0 at every size, denominators cleared where that is needed."""
    if form.is_zero:
        return True
    form = _through_exp(table, form)
    for _ in range(_ROUNDS):
        if form.is_zero:
            return True
        cleared = _cleared(form)
        if cleared is None:
            return False
        form = cleared
    return form.is_zero


def _through_exp(table: Table, form: Form) -> Form:
    """The form with its sigmoids and tanhs (outside sums) written through exp."""
    result = build(form.axes, [])
    for key, c in form.terms.items():
        kept, factors = [], []
        for e in key.entries:
            inner = functions.defined(table, e.atom)
            if inner is None or any(s >= form.rank for s in e.letters):
                kept.append(e)
            else:
                placed = relettered(inner, form.axes, e.letters)
                factors.append(functions.power(table, placed, e.power))
        term = build(form.axes, [(key._replace(entries=tuple(kept)), c)])
        for factor in factors:
            term = term * factor
        result = result + term
    return result


def _cleared(form: Form) -> Form | None:
    """The form times the powers of sums that stand in its denominators, these multiplied out."""
    least: dict[tuple[Atom, tuple[int, ...]], Fraction] = {}
    present: dict[tuple[Atom, tuple[int, ...]], set[Fraction]] = {}
    for key in form.terms:
        here = {(e.atom, e.letters): e.power for e in components(key.entries, form.rank)[0]}
        for place, power in here.items():
            if place[0].kind == "sum":
                present.setdefault(place, set()).add(power)
    for place, powers in present.items():
        counted = (
            powers
            if all(place in _roots(k, form.rank) for k in form.terms)
            else powers | {Fraction(0)}
        )
        whole = {p for p in counted if (p - min(counted)).denominator == 1}
        least[place] = min(whole)
    if not any(len(p) > 1 or least[place] for place, p in present.items()):
        return None
    items = [
        (k._replace(entries=(*k.entries, *(Entry(a, s, -p) for (a, s), p in least.items()))), c)
        for k, c in form.terms.items()
    ]
    return _expanded(build(form.axes, items))


def _roots(key: Key, rank: int) -> set[tuple[Atom, tuple[int, ...]]]:
    return {(e.atom, e.letters) for e in components(key.entries, rank)[0]}


def _expanded(form: Form) -> Form:
    """Whole positive powers of sums multiplied out."""
    result = build(form.axes, [])
    for key, c in form.terms.items():
        kept, factors = [], []
        for e in key.entries:
            root = all(s < form.rank for s in e.letters)
            if e.atom.kind == "sum" and root and e.power >= 1:
                whole = e.power.numerator // e.power.denominator
                if whole > functions.LARGEST_POWER:
                    raise Undecided("a denominator of a high power")
                assert e.atom.argument is not None
                factors += [relettered(e.atom.argument, form.axes, e.letters)] * whole
                e = e._replace(power=e.power - whole)  # noqa: PLW2901
            kept.append(e)
        term = build(form.axes, [(key._replace(entries=tuple(kept)), c)])
        for factor in factors:
            term = term * factor
        result = result + term
    return result


# ---------------------------------------------------------------------- random evaluation


class Residues:
    """Random residues for everything that a form is made of, the same for equal things."""

    def __init__(self, seed: int, table: Table) -> None:
        self._table = table
        self._random = random.Random(seed)
        self._memo: dict[object, int] = {}
        self.degree = 1

    def of(self, key: object) -> int:
        """The residue of a thing, drawn when it is first asked for."""
        if key not in self._memo:
            self._memo[key] = self._random.randrange(1, PRIME)
        return self._memo[key]

    def value(self, form: Form, letters: tuple[int, ...]) -> int:
        """The form at one equality pattern: `letters` gives each free letter its class."""
        total = 0
        for key, c in form.terms.items():
            if any(letters[a] != letters[b] for a, b in key.deltas):
                continue
            total += self._monomial(key, form.rank, letters) * _residue(c)
        return total % PRIME

    def _monomial(self, key: Key, rank: int, letters: tuple[int, ...]) -> int:
        result, degree = 1, Fraction(0)
        for name, power in key.scalars:
            result = result * self._rooted(("scalar", name), power) % PRIME
            degree += abs(power) * _ROOTS
        entries = tuple(
            e._replace(
                letters=tuple(letters[s] if s < rank else s - rank + _BOUND for s in e.letters)
            )
            for e in key.entries
        )
        roots, groups = components(entries, _BOUND)
        for e in roots:
            result = result * self._root(e) % PRIME
            degree += abs(e.power) * _ROOTS
        for group in groups:
            named = named_group(tuple(group), _BOUND)
            names = tuple((e.atom.number, e.letters, e.power) for e in named)
            result = result * self.of(("sum", names)) % PRIME
            degree += 1
        self.degree = max(self.degree, int(degree) + 1)
        return result

    def _root(self, e: Entry) -> int:
        inner = e.atom.argument if e.atom.kind == "sum" else functions.defined(self._table, e.atom)
        if inner is None:
            return self._rooted((e.atom.number, e.letters), e.power)
        base = self.value(inner, e.letters)
        whole = e.power.numerator // e.power.denominator
        if base == 0:
            raise Undecided("a denominator is 0 at every size")
        result = pow(base, whole, PRIME)
        rest = e.power - whole
        return result * (self.of((e.atom.number, e.letters, rest)) if rest else 1) % PRIME

    def _rooted(self, key: object, power: Fraction) -> int:
        exponent = power * _ROOTS
        if exponent.denominator != 1:
            raise Undecided(f"a power {power}, whose denominator does not divide {_ROOTS}")
        return pow(self.of(key), int(exponent), PRIME)


def _residue(c: Fraction) -> int:
    return c.numerator * pow(c.denominator, -1, PRIME) % PRIME


def agree_at_random(table: Table, first: Form, second: Form, seed: int) -> tuple[bool, float]:
    """Whether two forms agree at random residues for every pattern, and the bound on a false yes."""
    bound = 1.0
    patterns = list(_patterns(first.axes))
    same = True
    for lane in range(MOST_LANES):
        if lane >= LANES and bound < ACCEPTED:
            break
        residues = Residues(hash((seed, lane)), table)
        gaps = [residues.value(first, p) - residues.value(second, p) for p in patterns]
        same = same and all(g % PRIME == 0 for g in gaps)
        count = len(first.terms) + len(second.terms) + 1
        bound *= min(1.0, 4 * residues.degree * count * len(patterns) / PRIME)
    return same, bound


def _patterns(axes: tuple[str, ...]) -> Iterator[tuple[int, ...]]:
    """Every way in which letters of one axis may be equal, as the first letter of each class."""
    choices = [[i, *(j for j in range(i) if axes[j] == axis)] for i, axis in enumerate(axes)]
    for pattern in product(*choices):
        if all(pattern[c] == c for c in pattern):
            yield pattern
