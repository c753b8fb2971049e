"""Where what a branch compares is equal: on a null set, on a diagonal, or in a whole cell.

[u > 0] and [u < 0] add up to 1 where u is not 0. Away from ties that is said of nearly all points if u
is 0 on a null set only. Here this is made sure of: x[p] − x[q] is 0 at p = q, x − mean x where there is
one entry, √(x²) − x wherever x > 0, and Σ relu(x) where no x is positive.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import TYPE_CHECKING

from flint import ctx

from gradcheck.algebra.canonical.forms import Form, Key, relettered
from gradcheck.algebra.canonical.residues import equal_letters
from gradcheck.algebra.canonical.text import shown
from gradcheck.algebra.canonical.undecided import Undecided
from gradcheck.algebra.terms import free_alphabet
from gradcheck.oracles.symbolic.points import OpenError, Point

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gradcheck.algebra.canonical.atoms import Atom
    from gradcheck.oracles.symbolic.points import Range

_PRECISION = 128
# Points of which each is asked; and those drawn at most, since not all are in the domain.
_POINTS, _DRAWN = 12, 48
_LARGEST = 3
_MOST_ASSIGNMENTS = 24


@dataclass(frozen=True)
class Ties:
    """Where a form is 0, other than on a null set.

    Attributes:
        diagonals: 1 where its letters are equal so that it is 0, and 0 elsewhere.
        from_two: Axes of which it is 0 at size 1.
    """

    diagonals: Form
    from_two: frozenset[str] = frozenset()


def ties(form: Form, ranges: Mapping[str, Range]) -> Ties:
    """Where a form, which is not 0, is 0 on more than a null set.

    Raises:
        Undecided: Where that is in a whole cell, or may be.
    """
    none = Form(form.axes, {})
    if _stands_alone(form):
        return Ties(none)
    pair = _diagonal(form)
    small: set[str] = set()
    for sizes in _assignments(form):
        if not _vanishes(form, sizes, pair, ranges):
            continue
        single = {a for a, n in sizes.items() if n == 1}
        if not single:
            raise Undecided(f"a branch on {_said(form)}, which may be 0 in a whole cell")
        small |= single
    diagonals = none if pair is None else Form(form.axes, {Key((), (), (pair,)): Fraction(1)})
    return Ties(diagonals, frozenset(small))


def _said(form: Form) -> str:
    supply = free_alphabet(())
    return shown(form, tuple(next(supply) for _ in form.axes))


def _stands_alone(form: Form) -> bool:
    """Whether an input stands in one plain term and nowhere else: nothing cancels that."""
    for key in form.terms:
        atoms = {e.atom for e in key.entries}
        if any(a.kind not in ("input", "exp") or a.selects or a.whole for a in atoms):
            continue
        if any(n.startswith("log(") for n, _ in key.scalars):  # 0 where the size is 1
            continue
        deep = set().union(*map(_deep, atoms))
        others = set().union(*(_inputs(k) for k in form.terms if k != key))
        if any(a.kind == "input" and not a.closed for a in atoms - deep - others):
            return True
    return False


def _inputs(key: Key) -> set[Atom]:
    return set().union(*({e.atom} | _deep(e.atom) for e in key.entries))


def _deep(atom: Atom) -> set[Atom]:
    """The inputs within a function's argument."""
    if atom.argument is None:
        return set()
    return set().union(*(_inputs(k) for k in atom.argument.terms))


def _diagonal(form: Form) -> tuple[int, int] | None:
    """The two letters that make the form 0 where they are equal.

    Raises:
        Undecided: Where there are other such letters too.
    """
    found: tuple[int, int] | None = None
    for pattern in sorted(equal_letters(form.axes), key=lambda p: -len(set(p))):
        merged = [(p, i) for i, p in enumerate(pattern) if p != i]
        covered = found is not None and pattern[found[0]] == pattern[found[1]]
        if not merged or covered or not relettered(form, form.axes, pattern).is_zero:
            continue
        if found is not None or len(merged) > 1:
            raise Undecided(f"a branch on {_said(form)}, which is 0 on several diagonals")
        found = merged[0]
    return found


def _assignments(form: Form) -> Iterator[dict[str, int]]:
    """Small sizes of all axes on which the form depends."""
    axes = sorted(_axes(form))
    choices = range(1, _LARGEST + 1)
    if len(choices) ** len(axes) <= _MOST_ASSIGNMENTS:
        yield from (dict(zip(axes, n, strict=True)) for n in product(choices, repeat=len(axes)))
        return
    for n in choices:
        yield dict.fromkeys(axes, n)
        yield from ({a: n if a == axis else 2 for a in axes} for axis in axes if n != 2)


def _axes(form: Form) -> set[str]:
    found = {a for a in form.axes if not a.isdigit()}
    for key in form.terms:
        for name, _ in key.scalars:
            bare = name.removeprefix("log(").removesuffix(")")
            if not bare.isdigit() and bare not in ("pi", "e"):
                found.add(bare)
        for e in key.entries:
            found |= {a for a in e.atom.axes if not a.isdigit()}
            if e.atom.argument is not None:
                found |= _axes(e.atom.argument)
    return found


def _vanishes(
    form: Form,
    sizes: Mapping[str, int],
    pair: tuple[int, int] | None,
    ranges: Mapping[str, Range],
) -> bool:
    """Whether it is 0, as far as balls tell, at one of some random points; or defined at none."""
    places = list(_places(form, sizes, pair))
    if not places:
        return False
    asked = 0
    with ctx.workprec(_PRECISION):
        for seed in range(_DRAWN):
            point = Point(seed, sizes, ranges)
            try:
                if any(point.value(form, place).contains(0) for place in places):
                    return True
            except OpenError:
                continue
            asked += 1
            if asked == _POINTS:
                return False
    return asked == 0


def _places(
    form: Form, sizes: Mapping[str, int], pair: tuple[int, int] | None
) -> Iterator[tuple[int, ...]]:
    """A place for each way in which letters may be equal, off the diagonal."""
    for pattern in equal_letters(form.axes):
        if pair is not None and pattern[pair[0]] == pattern[pair[1]]:
            continue
        place: list[int] = []
        for i, (first, axis) in enumerate(zip(pattern, form.axes, strict=True)):
            taken = {place[j] for j in range(i) if form.axes[j] == axis}
            place.append(place[first] if first != i else len(taken))
        fits = all(
            n < (int(a) if a.isdigit() else sizes[a]) for n, a in zip(place, form.axes, strict=True)
        )
        if fits:
            yield tuple(place)
