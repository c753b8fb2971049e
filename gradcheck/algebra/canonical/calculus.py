"""Derivatives of forms: the product rule on monomials, the chain rule through atoms."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from gradcheck.algebra.canonical import functions
from gradcheck.algebra.canonical.forms import (
    Entry,
    Form,
    Key,
    Undecided,
    build,
    constant,
    entry,
    relettered,
    scalar,
)

if TYPE_CHECKING:
    from gradcheck.algebra.canonical.atoms import Atom, Table


class Calculus:
    """Derivatives with respect to one input.

    Args:
        table: The atoms of the run.
        variable: The input's atom.
    """

    def __init__(self, table: Table, variable: Atom) -> None:
        self.table = table
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
                others = (*entries[:i], *entries[i + 1 :], e._replace(power=e.power - 1))
                items += self._step(key, others, e, c * e.power, form.rank, axes)
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
        if atom.argument is None or atom.kind in ("step", "equal", "selector"):
            return Form(axes, {})
        inner = self.of(atom.argument)
        if atom.kind == "sum" or inner.is_zero:
            return inner
        outer = self._outer(atom)
        return relettered(outer, axes, tuple(range(len(atom.axes)))) * inner

    def _outer(self, atom: Atom) -> Form:
        """f′ at the atom's argument, over the atom's letters."""
        table, u = self.table, atom.argument
        assert u is not None
        one = constant(u.axes, Fraction(1))
        match atom.kind:
            case "exp":
                return entry(atom)
            case "log":
                return functions.power(table, u, Fraction(-1))
            case "erf":
                two = relettered(scalar("pi", Fraction(-1, 2)).times(Fraction(2)), u.axes, ())
                return two * functions.exp(table, (u * u).times(Fraction(-1)))
            case "sigmoid":
                return entry(atom) - entry(atom, Fraction(2))
            case "tanh":
                return one - entry(atom, Fraction(2))
            case "sin":
                return functions.opaque(table, "cos", u)
            case "cos":
                return functions.opaque(table, "sin", u).times(Fraction(-1))
            case "asin":
                return functions.power(table, one - u * u, Fraction(-1, 2))
            case "acos":
                return functions.power(table, one - u * u, Fraction(-1, 2)).times(Fraction(-1))
            case "atan":
                return functions.power(table, one + u * u, Fraction(-1))
        raise Undecided(f"no derivative rule is known for {atom.kind}")


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
