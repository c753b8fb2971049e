"""What a forward and a claim ask of a point: "x ≠ 0", "n − 1 ≠ 0", "y > 0", as people say it."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from gradcheck.algebra.canonical.forms import ONE, Entry, Form, Key, build
from gradcheck.algebra.canonical.text import shown
from gradcheck.algebra.terms import free_alphabet
from gradcheck.oracles.symbolic.arrays import SymArray

if TYPE_CHECKING:
    from gradcheck.oracles.symbolic.run import Run


def asked(run: Run) -> set[str]:
    """The conditions of a run, each once; where something is > 0 it is not said that it is ≠ 0."""
    found = {_said(run, form, relation) for form, relation in run.xp.asked}
    positive = {text for text, relation in found if relation == "> 0"}
    return {f"{t} {r}" for t, r in found if t and (r == "> 0" or t not in positive)}


def _said(run: Run, form: Form, relation: str) -> tuple[str, str]:
    """A condition with an operand's name for its form, where there is one."""
    form = _core(form, relation)
    if form.terms == {ONE: Fraction(1)}:
        return "", relation
    for name, value in run.operands.items():
        if isinstance(value, SymArray) and value.form.terms == form.terms:
            return name, relation
    supply = free_alphabet(())
    return shown(form, tuple(next(supply) for _ in form.axes)), relation


def _core(form: Form, relation: str) -> Form:
    """A form without the factors that are positive anyway; of a power, its base."""
    if len(form.terms) != 1:
        return form
    ((key, c),) = form.terms.items()
    if any(n.startswith("log(") for n, _ in key.scalars):
        return form
    if c < 0 and relation == "> 0":
        return form
    entries = tuple(e for e in key.entries if not e.atom.positive or e.atom.closed)
    bound = any(s >= form.rank for e in key.entries for s in e.letters)
    if bound or (len(entries) > 1 and relation == "> 0"):
        return build(form.axes, [(key._replace(scalars=()), Fraction(1 if c > 0 else -1))])
    if len(entries) == 1:
        (e,) = entries
        whole = e.power.denominator == 1
        if relation == "≠ 0" or not whole or e.power.numerator % 2 == 1:
            own = e.letters == tuple(range(form.rank))
            if e.atom.kind == "sum" and e.atom.argument is not None and own:
                return e.atom.argument
            entries = (Entry(e.atom, e.letters, Fraction(1)),)
    return build(form.axes, [(Key((), entries, ()), Fraction(1))])
