"""The namespace `xp` whose arrays are forms: the forward runs once, for all sizes.

What is not one index expression (a concatenation, a cumulative sum) ends in `Undecided`; so does what
would make the run depend on a size or an entry. Here are the branches; arithmetic, contractions and
shapes stand in modules of their own.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from gradcheck.algebra.canonical import functions
from gradcheck.algebra.canonical.forms import Entry, Form, Key, build, constant, relettered, summed
from gradcheck.algebra.canonical.undecided import Undecided
from gradcheck.oracles.symbolic.contracting import positions_of
from gradcheck.oracles.symbolic.shaping import Shaping
from gradcheck.oracles.symbolic.ties import ties

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcheck.oracles.symbolic.arrays import SymArray


def _may_tie(form: Form) -> bool:
    """Whether entries may be equal in a whole cell: where a selector stands, as in a relu."""
    atoms = {e.atom for k in form.terms for e in k.entries}
    return any(a.selects or (a.argument is not None and _may_tie(a.argument)) for a in atoms)


def _may_vanish(form: Form) -> bool:
    """Whether a form may be 0 in a whole cell: not where an input stands in one plain term alone."""
    if form.is_zero:
        return True
    if not _may_tie(form):
        return False
    for key in form.terms:
        one = Form(form.axes, {key: Fraction(1)})
        others = Form(form.axes, {k: Fraction(1) for k in form.terms if k != key})
        if not _may_tie(one) and _inputs(one) - _inputs(others):
            return False
    return True


def _inputs(form: Form) -> set[str]:
    """The inputs on which a form depends."""
    atoms = {e.atom for k in form.terms for e in k.entries}
    own = {a.name for a in atoms if a.kind == "input"}
    return own.union(*(_inputs(a.argument) for a in atoms if a.argument is not None))


class Symbols(Shaping):
    """The symbolic `xp`.

    Args:
        table: The atoms of the run.
    """

    def step(self, x: Any) -> SymArray:
        """1 where x > 0, else 0."""
        self.jumps = True
        return self._step(x, self._ties)

    def _ties(self, form: Form) -> Form:
        """Where a form is 0 on a diagonal; sizes at which it is 0 everywhere are noted."""
        key = form.key()
        if key not in self._known_ties:
            self._known_ties[key] = ties(form, self.ranges)
        found = self._known_ties[key]
        self.from_two |= found.from_two
        return found.diagonals

    def _step(self, x: Any, ties: Callable[[Form], Form] | None = None) -> SymArray:
        """The same; without `ties`, within something that has no jump where x is 0."""
        form = self.asarray(x).form
        # Where the argument may be 0 in a whole cell, points of that cell lie in no open one.
        self.tied = self.tied or _may_vanish(form)
        return self.array(functions.step(self.table, form, ties=ties))

    def greater(self, x: Any, y: Any) -> SymArray:
        """Where x > y, as a selector; at a tie nothing is claimed."""
        return self.step(self.subtract(x, y))

    def greater_equal(self, x: Any, y: Any) -> SymArray:
        """Where x ≥ y: 1 where they are one expression, in a whole cell or everywhere."""
        return self.subtract(1, self.less(x, y))

    def less(self, x: Any, y: Any) -> SymArray:
        """Where x < y."""
        return self.step(self.subtract(y, x))

    def less_equal(self, x: Any, y: Any) -> SymArray:
        """Where x ≤ y."""
        return self.subtract(1, self.greater(x, y))

    def equal(self, x: Any, y: Any) -> SymArray:
        """Where x = y: a selector of its own, 1 where they are one expression."""
        gap = self.subtract(x, y).form
        self.tied = self.tied or gap.is_zero or _may_tie(gap)
        if gap.is_zero:
            return self.array(constant(gap.axes, Fraction(1)))
        self.jumps = True
        chosen = self._selected_by(gap)
        if chosen is not None:
            return chosen
        atom, letters = functions.atom_of(self.table, "equal", gap, selects=True)
        key = Key((), (Entry(atom, letters, Fraction(1)),), ())
        return self.array(build(gap.axes, [(key, Fraction(1))]))

    def _selected_by(self, gap: Form) -> SymArray | None:
        """The selector of a maximum, if the gap is x − max x: away from ties they are one."""
        for atom in [a for a in self.table.atoms.values() if a.kind == "selector"]:
            x = atom.argument
            if x is None or x.rank != gap.rank or atom.axes != x.axes or _may_tie(x):
                continue
            for last in range(gap.rank):
                order = (*(i for i in range(gap.rank) if i != last), last)
                if tuple(gap.axes[i] for i in order) != x.axes:
                    continue
                selector = build(
                    x.axes,
                    [(Key((), (Entry(atom, tuple(range(x.rank)), Fraction(1)),), ()), Fraction(1))],
                )
                most = relettered(
                    summed(selector * x, (x.rank - 1,)), x.axes, tuple(range(x.rank - 1))
                )
                if relettered(x - most, gap.axes, order).terms in (
                    gap.terms,
                    gap.times(Fraction(-1)).terms,
                ):
                    if functions.on_integers(x):
                        raise Undecided("a comparison of integers with their maximum: they may tie")
                    self._check_apart(x)
                    return self.array(relettered(selector, gap.axes, order))
        return None

    def _check_apart(self, x: Form) -> None:
        """Two entries of a row are equal on a null set only.

        Raises:
            Undecided: Where they may be equal in a whole cell.
        """
        wide = (*x.axes, x.axes[-1])
        own = tuple(range(x.rank))
        gap = relettered(x, wide, own) - relettered(x, wide, (*own[:-1], x.rank))
        if not gap.is_zero:
            self._ties(gap)

    def not_equal(self, x: Any, y: Any) -> SymArray:
        """Where x ≠ y."""
        return self.subtract(1, self.equal(x, y))

    def condition(self, x: Any) -> SymArray:
        """A condition, whose entries are 0 or 1.

        Raises:
            Undecided: For numbers, with which `~`, `&` and `|` do something else.
        """
        if not self._holds_or_not(x):
            raise Undecided("~, & or | of numbers; compare them, which gives conditions")
        return self.asarray(x)

    def _holds_or_not(self, x: Any) -> bool:
        form = self.asarray(x).form
        return (form * form).terms == form.terms

    def where(self, condition: Any, x: Any, y: Any) -> SymArray:
        """X where the condition holds, else y; a number holds where it is not 0."""
        if not self._holds_or_not(condition):
            condition = self.not_equal(condition, 0)
        return self._chosen(condition, x, y)

    def _chosen(self, condition: Any, x: Any, y: Any) -> SymArray:
        x, y = self.asarray(x), self.asarray(y)
        found = self.add(self.multiply(condition, x), self.multiply(self.subtract(1, condition), y))
        least = ">" if x.sign == y.sign == ">" else "≥"
        return self.array(found.form, sign=least if x.sign and y.sign else "")

    def maximum(self, x: Any, y: Any) -> SymArray:
        """The larger one."""
        x, y = self.asarray(x), self.asarray(y)
        found = self._chosen(self._step(self.subtract(x, y)), x, y)
        return self.array(found.form, sign=max(x.sign, y.sign, key=("", "≥", ">").index))

    def minimum(self, x: Any, y: Any) -> SymArray:
        """The smaller one."""
        return self._chosen(self._step(self.subtract(x, y)), y, x)

    def clip(self, x: Any, min: Any = None, max: Any = None) -> SymArray:
        """X held between bounds."""
        x = self.asarray(x)
        if min is not None:
            x = self.maximum(x, min)
        return x if max is None else self.minimum(x, max)

    def sign(self, x: Any) -> SymArray:
        """−1 or 1, and 0 where x is 0 in a whole cell."""
        return self.subtract(self.step(x), self.step(self.negative(x)))

    def _sign(self, x: Any) -> SymArray:
        return self.subtract(self._step(x), self._step(self.negative(x)))

    def abs(self, x: Any) -> SymArray:
        """The absolute value."""
        return self.array(self.multiply(self._sign(x), x).form, sign="≥")

    def max(self, x: Any, axis: Any = None, *, keepdims: bool = False) -> SymArray:
        """The maximum over axes: Σ w x with a selector w whose rows sum to 1."""
        x = self.asarray(x)
        positions = positions_of(axis, x.ndim)
        if not positions:
            return x  # type: ignore[no-any-return]
        if len(positions) > 1:
            raise Undecided("a maximum over several axes; take one axis after the other")
        chosen = self.array(self._selected(x, positions[0]).form, sign=x.sign)
        return self._keep(chosen, x, positions, keepdims=keepdims)

    def _selected(self, x: SymArray, position: int) -> SymArray:
        order = [i for i in range(x.ndim) if i != position] + [position]
        moved = self.permute_dims(x, order).form
        if moved.axes[-1] == "1":
            return self.array(summed(moved, (moved.rank - 1,)))
        # The selector depends on every letter, and its rows run along the last one.
        letters = tuple(i for i, a in enumerate(moved.axes) if a != "1")
        axes = tuple(moved.axes[i] for i in letters)
        self.tied = self.tied or _may_tie(moved)
        atom = self.table.get(
            "selector", "selector", axes, argument=moved, selects=True, sums_to_one=True
        )
        key = Key((), (Entry(atom, letters, Fraction(1)),), ())
        chosen = build(moved.axes, [(key, Fraction(1))]) * moved
        return self.array(summed(chosen, (moved.rank - 1,)))

    def min(self, x: Any, axis: Any = None, *, keepdims: bool = False) -> SymArray:
        """The minimum over axes."""
        return self.negative(self.max(self.negative(x), axis=axis, keepdims=keepdims))
