"""Forms at real points, in ball arithmetic: what they are where sizes are numbers.

No proof rests on these values. They tell whether something may be 0 in a whole cell.
"""

from __future__ import annotations

import random
from fractions import Fraction
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

from flint import arb, fmpq

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradcheck.algebra.canonical.atoms import Atom
    from gradcheck.algebra.canonical.forms import Entry, Form, Key

# A sum over more places than this is not formed.
_MOST_PLACES = 5_000
_GRID = 64

Range = tuple[float | None, float | None]


class OpenError(Exception):
    """A form is not defined at a point, or a branch in it is not decided there."""


class Point:
    """A random point: numbers for sizes, and for the entries of inputs as they are asked for.

    Args:
        seed: What the entries are drawn from.
        sizes: The size of each axis, by the name that forms give it.
        ranges: The bounds of inputs that have some.
    """

    def __init__(
        self, seed: int, sizes: Mapping[str, int], ranges: Mapping[str, Range] | None = None
    ) -> None:
        self._random = random.Random(seed)
        self._scale = self._random.choice((1, 1, 4, 16))
        self._sizes = sizes
        self._ranges = ranges or {}
        self._memo: dict[object, Any] = {}

    def size(self, axis: str) -> int:
        """The size of an axis."""
        return int(axis) if axis.isdigit() else self._sizes[axis]

    def value(self, form: Form, places: tuple[int, ...]) -> Any:
        """The form where its free letters stand at these places.

        Raises:
            OpenError: Where it is not defined there, or not decided.
        """
        total = arb(0)
        for key, c in form.terms.items():
            if all(places[a] == places[b] for a, b in key.deltas):
                total += self._monomial(key, form.rank, places) * fmpq(c.numerator, c.denominator)
        if not total.is_finite():
            raise OpenError
        return total

    def _monomial(self, key: Key, rank: int, places: tuple[int, ...]) -> Any:
        axes = {
            s: a
            for e in key.entries
            for s, a in zip(e.letters, e.atom.axes, strict=True)
            if s >= rank
        }
        sizes = [self.size(a) for a in axes.values()]
        if prod(sizes) > _MOST_PLACES:
            raise OpenError
        total = arb(0)
        for chosen in product(*map(range, sizes)):
            at = dict(zip(axes, chosen, strict=True)) | dict(enumerate(places))
            factor = arb(1)
            for e in key.entries:
                factor *= self._entry(e, tuple(at[s] for s in e.letters))
            total += factor
        for name, power in key.scalars:
            total *= _raised(self._scalar(name), power)
        return total

    def _scalar(self, name: str) -> Any:
        if name.startswith("log("):
            return self._scalar(name[4:-1]).log()
        if name in ("pi", "e"):
            return arb.pi() if name == "pi" else arb(1).exp()
        return arb(self.size(name))

    def _entry(self, e: Entry, places: tuple[int, ...]) -> Any:
        key = (e.atom.number, places, e.power)
        if key not in self._memo:
            self._memo[key] = _raised(self._atom(e.atom, places), e.power)
        return self._memo[key]

    def _atom(self, atom: Atom, places: tuple[int, ...]) -> Any:
        u = atom.argument
        if atom.kind == "selector":
            return self._largest(atom, places)
        if u is None:
            return self._input(atom, places)
        value = self.value(u, places)
        if atom.kind == "sum":
            return value
        if atom.kind in ("step", "equal"):
            if value.contains(0):
                raise OpenError
            return arb(1 if atom.kind == "step" and value > 0 else 0)
        if atom.kind == "sigmoid":
            return 1 / (1 + (-value).exp())
        return getattr(value, atom.kind)()

    def _largest(self, atom: Atom, places: tuple[int, ...]) -> Any:
        """1 at the place of a row's largest entry: of several, the first."""
        assert atom.argument is not None
        last = range(self.size(atom.axes[-1]))
        row = [self.value(atom.argument, (*places[:-1], i)).mid() for i in last]
        return arb(int(row.index(max(row)) == places[-1]))

    # ------------------------------------------------------------------ inputs

    def _input(self, atom: Atom, places: tuple[int, ...]) -> Any:
        key = (atom.number, places)
        if key not in self._memo:
            if places and (atom.sums_to_one or atom.closed):
                self._row(atom, places[:-1])
            else:
                self._memo[key] = self._drawn(atom)
        return self._memo[key]

    def _row(self, atom: Atom, place: tuple[int, ...]) -> None:
        """A row that sums to 1."""
        count = self.size(atom.axes[-1])
        if atom.selects:
            hot = self._random.randrange(count)
            row = [arb(int(i == hot)) for i in range(count)]
        else:
            parts = [self._random.randrange(1, _GRID) for _ in range(count)]
            row = [arb(fmpq(p, sum(parts))) for p in parts]
        for i, value in enumerate(row):
            self._memo[atom.number, (*place, i)] = value

    def _drawn(self, atom: Atom) -> Any:
        if atom.selects or atom.whole:
            return arb(self._random.randrange(2 if atom.selects else 4))
        low, high = self._ranges.get(atom.name, (None, None))
        part = Fraction(self._random.randrange(1, 16 * _GRID), 16 * _GRID)
        if low is not None and high is not None:
            drawn = Fraction(low) + (Fraction(high) - Fraction(low)) * part
        elif low is not None or high is not None:
            edge, way = (low, 1) if low is not None else (high, -1)
            drawn = Fraction(edge or 0) + way * self._scale * part
        else:
            way = 1 if atom.positive else self._random.choice((-1, 1))
            drawn = way * self._scale * part
        return arb(fmpq(drawn.numerator, drawn.denominator))


def _raised(base: Any, power: Fraction) -> Any:
    if power.denominator == 1:
        found = base ** int(power)
    else:
        found = base ** arb(fmpq(power.numerator, power.denominator))
    if not found.is_finite():
        raise OpenError
    return found
