"""Entries of functions whose argument is symmetric in two letters, turned one way.

erf(c[p] c[q]) is the same with p and q exchanged, so Σ_pq e[p] k[p,q] is Σ_pq e[q] k[p,q] for it. The names
of bound letters do not show this, since they are given to monomials in which a place is a place.
"""

from __future__ import annotations

from itertools import combinations, islice, product
from typing import TYPE_CHECKING

from gradcheck.algebra.canonical.forms import RENEWED, Form, build, normalise, relettered

if TYPE_CHECKING:
    from fractions import Fraction

    from gradcheck.algebra.canonical.atoms import Atom
    from gradcheck.algebra.canonical.forms import Entry, Key

# Of one monomial at most so many ways are looked at. Those beyond are left out, which costs proofs only.
_MOST_WAYS = 128


def turned(form: Form) -> Form:
    """An equal form, whose monomials are each the first of those that symmetries make of it."""
    items = []
    for key, c in form.terms.items():
        ways = [[e, *_exchanged(e)] for e in key.entries]
        if all(len(way) == 1 for way in ways):
            items.append((key, c))
            continue
        chosen = islice(product(*ways), _MOST_WAYS)
        found = [normalise(key._replace(entries=entries), form.rank) for entries in chosen]
        first, factor = min(found, key=_order)
        items.append((first, c * factor))
    return build(form.axes, items, normal=True)


def _order(found: tuple[Key, Fraction]) -> tuple[object, ...]:
    key, factor = found
    entries = tuple((e.atom.number, e.power, e.letters) for e in key.entries)
    return (len(entries), entries, key.scalars, factor)


def _exchanged(e: Entry) -> list[Entry]:
    """The same entry with two of its letters exchanged, for each symmetry of its function."""
    known = e.atom.table.symmetries
    if e.atom not in known:
        known[e.atom] = _symmetries(e.atom)
    found = []
    for i, j in known[e.atom]:
        letters = list(e.letters)
        letters[i], letters[j] = letters[j], letters[i]
        found.append(e._replace(letters=tuple(letters)))
    return found


def _symmetries(atom: Atom) -> list[tuple[int, int]]:
    """Pairs of letters that may be exchanged: the function is one of each entry of its argument."""
    argument = atom.argument
    if argument is None or atom.kind not in RENEWED:
        return []
    found = []
    for i, j in combinations(range(argument.rank), 2):
        if argument.axes[i] != argument.axes[j]:
            continue
        letters = list(range(argument.rank))
        letters[i], letters[j] = j, i
        if turned(relettered(argument, argument.axes, tuple(letters))) == turned(argument):
            found.append((i, j))
    return found
