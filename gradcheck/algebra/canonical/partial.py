"""Partial fractions: a/(a + c) is 1 − c/(a + c), wherever it stands, under sums too.

A sum S = α v + β, whose last entry v stands in one of its terms only and to the first power, is solved
for v; where a power of v stands beside a negative power of S, it gives way to S and to what comes
before v. So Σ_p a[p]/(a[p] + c[p]) and m − Σ_p c[p]/(a[p] + c[p]) have one form.

Source: partial fractions in one variable; in several, E. K. Leinartas, Factorization of rational
functions of several variables into partial fractions (1978).
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from gradcheck.algebra.canonical.forms import Entry, Form, Key, build, freed, relettered, summed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck.algebra.canonical.atoms import Atom

# More steps than this are not taken: the form stays as it is.
MOST_STEPS = 400


class _Solved(NamedTuple):
    """S = α v + β: the entry v, the monomial c α, and β."""

    entry: Entry
    factor: tuple[Key, Fraction]
    rest: Form


def apart(form: Form) -> Form:
    """The form in partial fractions, as far as its sums can be solved."""
    total, steps = build(form.axes, []), 0
    waiting = list(form.terms.items())
    while waiting:
        key, c = waiting.pop()
        step = _step(form.axes, key)
        if step is None:
            total = total + Form(form.axes, {key: c})
            continue
        steps += 1
        if steps > MOST_STEPS:
            return form
        waiting += step.times(c).terms.items()
    return total


def _step(axes: tuple[str, ...], key: Key) -> Form | None:
    """A monomial in which a power of some v beside S⁻ᵏ has come nearer to 0; None where none stands."""
    present = {(e.atom, e.letters): e for e in key.entries}
    for e in key.entries:
        if e.atom.kind != "sum" or e.power >= 0:
            continue
        solved = _solved(e.atom)
        if solved is None:
            continue
        place = tuple(e.letters[s] for s in solved.entry.letters)
        found = present.get((solved.entry.atom, place))
        if found is None or found.power.denominator != 1:
            continue
        if found.power > 0:
            return _exchanged(axes, key, e, found, solved)
        if _monomial(solved.rest):
            return _exchanged_below(axes, key, e, found, solved)
    return None


def _monomial(form: Form) -> bool:
    """Whether a form is one term without sums, which may be divided by."""
    letters = [s for k in form.terms for e in k.entries for s in e.letters]
    return len(form.terms) == 1 and all(s < form.rank for s in letters)


def _solved(atom: Atom) -> _Solved | None:
    """The sum solved for its last entry, if that stands in one term to the first power."""
    form = atom.argument
    assert form is not None
    if len(form.terms) < 2:
        return None
    roots = [
        (e.atom.number, e.letters, e)
        for k in form.terms
        for e in k.entries
        if all(s < form.rank for s in e.letters)
    ]
    if not roots:
        return None
    last = max(roots, key=lambda r: r[:2])[2]
    holding = [
        (k, c)
        for k, c in form.terms.items()
        if any((e.atom, e.letters) == (last.atom, last.letters) for e in k.entries)
    ]
    if len(holding) != 1 or last.power != 1:
        return None
    ((key, c),) = holding
    if any(s >= form.rank for e in key.entries for s in e.letters):
        return None
    others = tuple(e for e in key.entries if e is not last)
    rest = Form(form.axes, {k: n for k, n in form.terms.items() if k != key})
    return _Solved(last, (key._replace(entries=others), c), rest)


def _placed(
    axes: tuple[str, ...], key: Key, e: Entry, pieces: Sequence[tuple[Form, tuple[Entry, ...]]]
) -> Form:
    """Σ piece · entries · monomial, the pieces over the letters of an entry of the monomial."""
    common, (free, letters) = freed(axes, key, e)
    total = Form(axes, {})
    for piece, more in pieces:
        extra = _inside(axes, key, more)
        factor = build(common, [(free._replace(entries=(*free.entries, *extra)), Fraction(1))])
        product = factor * relettered(piece, common, letters)
        total = total + summed(product, tuple(range(len(axes), len(common))))
    return total


def _inside(axes: tuple[str, ...], key: Key, more: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Entries of the monomial's own letters, under the names that these have once they are free."""
    rank = len(axes)
    bound = sorted({s for e in key.entries for s in e.letters if s >= rank})
    names = {s: rank + i for i, s in enumerate(bound)}
    return tuple(e._replace(letters=tuple(names.get(s, s) for s in e.letters)) for e in more)


def _inverse(solved: _Solved) -> Form:
    """1 / (c α), over the sum's letters."""
    key, c = solved.factor
    entries = tuple(e._replace(power=-e.power) for e in key.entries)
    scalars = tuple((n, -p) for n, p in key.scalars)
    return build(solved.rest.axes, [(Key(scalars, entries, ()), 1 / c)])


def _exchanged(axes: tuple[str, ...], key: Key, e: Entry, found: Entry, solved: _Solved) -> Form:
    """V = (S − β) / α, once."""
    inverse = _inverse(solved)
    one_less = found._replace(power=Fraction(-1))
    above = (one_less, e._replace(power=Fraction(1)))
    pieces = [(inverse, above), ((inverse * solved.rest).times(Fraction(-1)), (one_less,))]
    return _placed(axes, key, e, pieces)


def _exchanged_below(
    axes: tuple[str, ...], key: Key, e: Entry, found: Entry, solved: _Solved
) -> Form:
    """1/v = S/(β v) − α/β, once, for a β of one term."""
    ((rest, c),) = solved.rest.terms.items()
    entries = tuple(x._replace(power=-x.power) for x in rest.entries)
    scalars = tuple((n, -p) for n, p in rest.scalars)
    inverse = build(solved.rest.axes, [(Key(scalars, entries, ()), 1 / c)])
    alpha, number = solved.factor
    factor = build(solved.rest.axes, [(alpha, number)])
    pieces = [
        (inverse, (e._replace(power=Fraction(1)),)),
        ((inverse * factor).times(Fraction(-1)), (found._replace(power=Fraction(1)),)),
    ]
    return _placed(axes, key, e, pieces)
