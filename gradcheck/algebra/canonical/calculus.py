"""Derivatives of forms: the product rule on monomials, the chain rule through atoms.

What is known of each function is read from the axiom table; there are no rules here.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, Any

from gradcheck.algebra.canonical.forms import Entry, Form, Key, build, entry, relettered
from gradcheck.algebra.canonical.undecided import Undecided
from gradcheck.axioms import RULES, RULES_OF_TWO

if TYPE_CHECKING:
    from gradcheck.algebra.canonical.atoms import Atom


class Calculus:
    """Derivatives with respect to one input.

    Args:
        space: A namespace of arrays of forms, on which the rules of the axiom table run.
        variable: The input's atom.
    """

    def __init__(self, space: Any, variable: Atom) -> None:
        self.space = space
        self.variable = variable
        self._atoms: dict[Atom, Form] = {}

    def of(self, form: Form) -> Form:
        """∂form/∂variable: the variable's letters follow the form's."""
        axes = form.axes + self.variable.axes
        width = len(self.variable.axes)
        items: list[tuple[Key, Fraction]] = []
        for key, c in form.terms.items():
            # Bound letters move behind the variable's.
            place = {s: s + width for e in key.entries for s in e.letters if s >= form.rank}
            entries = [
                e._replace(letters=tuple(place.get(s, s) for s in e.letters)) for e in key.entries
            ]
            for i, e in enumerate(entries):
                outer = power_rule(e.power)
                others = (*entries[:i], *entries[i + 1 :], e._replace(power=outer.exponent))
                items += self._step(key, others, e, c * outer.number, form.rank, axes)
        return build(axes, items)

    def _step(
        self,
        key: Key,
        others: tuple[Entry, ...],
        e: Entry,
        coefficient: Fraction,
        rank: int,
        axes: tuple[str, ...],
    ) -> list[tuple[Key, Fraction]]:
        """One factor of a monomial replaced by its derivative."""
        inner = self._atom(e.atom)
        width = len(self.variable.axes)
        own = len(e.atom.axes)
        bound = max([*(s for x in (*others, e) for s in x.letters), len(axes) - 1]) + 1
        found = []
        for k, c in inner.terms.items():

            def place(s: int, own: int = own) -> int:
                if s < own:
                    return e.letters[s]
                if s < own + width:
                    return rank + s - own
                return bound + s - own - width

            moved = tuple(x._replace(letters=tuple(place(s) for s in x.letters)) for x in k.entries)
            deltas = [(place(a), place(b)) for a, b in k.deltas]
            # An entry of power 0 stays until the deltas are carried out: its letters still count.
            raw = Key(key.scalars + k.scalars, (*others, *moved), (*key.deltas, *deltas))
            found.append((_eliminated(raw, len(axes)), coefficient * c))
        return found

    def _atom(self, atom: Atom) -> Form:
        """The derivative of an atom: its own letters, then the variable's."""
        if atom not in self._atoms:
            self._atoms[atom] = self._derive(atom)
        return self._atoms[atom]

    def _derive(self, atom: Atom) -> Form:
        axes = atom.axes + self.variable.axes
        if atom is self.variable:
            own = len(atom.axes)
            deltas = tuple((i, own + i) for i in range(own))
            return build(axes, [(Key((), (), deltas), Fraction(1))])
        # Within a cell, selectors are constants.
        if atom.argument is None or atom.kind in ("equal", "selector"):
            return Form(axes, {})
        inner = self.of(atom.argument)
        if atom.kind == "sum" or inner.is_zero:
            return inner
        outer = self._outer(atom, atom.argument)
        return relettered(outer, axes, tuple(range(len(atom.axes)))) * inner

    def _outer(self, atom: Atom, u: Form) -> Form:
        """g′ at the atom's argument, over the atom's letters: the table's rule, run on forms."""
        if atom.kind not in RULES:
            raise Undecided(f"no derivative rule is known for {atom.kind}")
        space = self.space
        found = RULES[atom.kind](space, space.array(u), space.array(entry(atom))).form
        return relettered(found, u.axes, tuple(range(u.rank - found.rank, u.rank)))


@dataclass(frozen=True)
class _Power:
    """c xᵏ of one unknown x, on which the table's rule for powers runs."""

    number: Fraction
    exponent: Fraction

    def __mul__(self, other: _Power) -> _Power:
        return _Power(self.number * other.number, self.exponent + other.exponent)

    def __truediv__(self, other: _Power) -> _Power:
        return _Power(self.number / other.number, self.exponent - other.exponent)


@cache
def power_rule(k: Fraction) -> _Power:
    """The derivative of xᵏ by x."""
    one, zero = Fraction(1), Fraction(0)
    by_base, _ = RULES_OF_TWO["pow"]
    found: _Power = by_base(None, _Power(one, one), _Power(k, zero), _Power(one, k))
    return found


def _eliminated(key: Key, rank: int) -> Key:
    """The monomial without deltas that hold a bound letter."""
    deltas, entries = list(key.deltas), key.entries
    while True:
        found = next((d for d in deltas if max(d) >= rank), None)
        if found is None:
            return Key(key.scalars, entries, tuple(deltas))
        deltas.remove(found)
        kept, gone = sorted(found)
        if kept != gone:
            entries = tuple(
                e._replace(letters=tuple(kept if s == gone else s for s in e.letters))
                for e in entries
            )
            deltas = [tuple(kept if s == gone else s for s in d) for d in deltas]  # type: ignore[misc]
