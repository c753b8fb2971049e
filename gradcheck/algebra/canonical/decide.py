"""Whether a form is 0 at every size, by rewriting.

Its canonical form is 0, at once, after its denominators are cleared, in partial fractions, or after
sums of several terms are opened: Σ_p f(p) + Σ_p g(p) is 0 where f(p) + g(p) is. Each step is an identity
wherever both of its sides are defined.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

from gradcheck.algebra.canonical import functions
from gradcheck.algebra.canonical.forms import (
    Entry,
    Form,
    Key,
    build,
    freed,
    relettered,
    summed,
)
from gradcheck.algebra.canonical.naming import components
from gradcheck.algebra.canonical.opening import openings
from gradcheck.algebra.canonical.partial import apart
from gradcheck.algebra.canonical.symmetry import turned
from gradcheck.algebra.canonical.undecided import Undecided

if TYPE_CHECKING:
    from gradcheck.algebra.canonical.atoms import Atom, Table

_ROUNDS = 6
# Sums within sums are opened so many times.
_DEPTH = 3


def with_relations(form: Form, related: dict[Atom, Atom]) -> Form:
    """The form with rows of probabilities known to sum to one, also within powers of sums."""
    if not related:
        return form
    total = Form(form.axes, {})
    for key, c in form.terms.items():
        common, (free, _) = freed(form.axes, key)
        within = [e for e in free.entries if _holds(e.atom, related)]
        beside = tuple(
            e._replace(atom=related.get(e.atom, e.atom)) for e in free.entries if e not in within
        )
        product = build(common, [(free._replace(entries=beside), c)])
        for e in within:
            assert e.atom.argument is not None
            base = relettered(with_relations(e.atom.argument, related), common, e.letters)
            product = product * functions.power(e.atom.table, base, e.power)
        total = total + summed(product, tuple(range(form.rank, len(common))))
    return total


def _holds(atom: Atom, related: dict[Atom, Atom]) -> bool:
    """Whether a sum that is raised to a power holds one of these atoms."""
    if atom.kind != "sum" or atom.argument is None:
        return False
    inner = {e.atom for k in atom.argument.terms for e in k.entries}
    return any(a in related or _holds(a, related) for a in inner)


def related_atom(atom: Atom) -> Atom:
    """An input of probabilities, now with the relation of its domain."""
    return replace(atom, sums_to_one=True)


def vanishes(table: Table, form: Form) -> bool:
    """Whether a form is 0 at every size: at once, with denominators cleared, or with sums opened.

    If not as it stands, then perhaps with the entries of symmetric functions turned one way.
    """
    if _vanishes(table, form, 0):
        return True
    again = turned(form)
    return again != form and _vanishes(table, again, 0)


def _vanishes(table: Table, form: Form, depth: int) -> bool:
    if form.is_zero:
        return True
    form = _through_exp(table, form)
    for _ in range(_ROUNDS):
        cleared = None if form.is_zero else _cleared(form)
        if cleared is None:
            break
        form = cleared
    if form.is_zero:
        return True
    try:
        solved = apart(form)
        if solved.is_zero or depth >= _DEPTH:
            return solved.is_zero
        ways = (form,) if solved.terms == form.terms else (form, solved)
        return any(_vanishes(table, f, depth + 1) for way in ways for f in openings(way))
    except Undecided:
        return False


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
    if not any(len(p) > 1 or least[place] or max(p) >= 1 for place, p in present.items()):
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
