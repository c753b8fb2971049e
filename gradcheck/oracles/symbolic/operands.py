"""Forms written with the outputs' own names: a[p,q] for exp(z[p,q]) / Σ_k exp(z[p,k])."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from gradcheck.algebra.canonical import functions
from gradcheck.algebra.canonical.forms import (
    Entry,
    Form,
    Key,
    build,
    entry,
    matches,
    relettered,
    summed,
)
from gradcheck.algebra.canonical.text import shown
from gradcheck.algebra.canonical.undecided import Undecided
from gradcheck.algebra.terms import FUNCTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradcheck.algebra.canonical.atoms import Atom
    from gradcheck.oracles.symbolic.run import Run

# How many times an output may be written in, and how many terms a form may have for that.
_STEPS = 8
_MOST_TERMS = 40

_OPERANDS = ("input", "output")


def in_operands(run: Run, form: Form) -> Form:
    """The form with outputs' names wherever that makes it shorter."""
    if len(form.terms) > _MOST_TERMS:
        return form
    best, least = form, _length(form)
    for _ in range(_STEPS):
        found = [(_length(f), i, f) for i, f in enumerate(_candidates(run, best))]
        if not found or min(found)[0] >= least:
            return best
        least, _, best = min(found)
    return best


def sayable(e: Entry) -> Entry | None:
    """The operand's entry that an entry is a power of, or a function of; None where it is neither."""
    if e.atom.kind in _OPERANDS:
        return e
    if e.atom.kind not in FUNCTIONS or e.atom.argument is None or len(e.atom.argument.terms) != 1:
        return None
    ((key, c),) = e.atom.argument.terms.items()
    if c != 1 or key.scalars or key.deltas or len(key.entries) != 1:
        return None
    (inner,) = key.entries
    return inner if inner.power == 1 and inner.atom.kind in _OPERANDS else None


def _length(form: Form) -> tuple[int, int, int]:
    """What is to become small: what no operand says, or divides by one; terms; and the text."""
    entries = [e for k in form.terms for e in k.entries]
    odd = sum(sayable(e) is None or (e.power < 0 and not e.atom.positive) for e in entries)
    letters = tuple("abcdefghijklmnop"[: form.rank])
    text = shown(form, letters, limit=_MOST_TERMS)
    return odd, len(form.terms), len(text)


def _candidates(run: Run, form: Form) -> Iterator[Form]:
    """The form with one output written in, in each way that there is."""
    operation = run.operation
    for name in run.operands:
        if name in operation.inputs or name in operation.params or name not in operation.shapes:
            continue
        value = run.form(name)
        if value.is_zero or not value.rank <= 8 or "1" in value.axes:
            continue
        named = run.table.get("output", name, value.axes, positive=_positive(value))
        try:
            yield _in_functions(run, form, value, named)
            yield _for_a_product(run, form, value, named)
            yield from _for_an_exponential(run, form, value, named)
            if len(value.terms) > 1:
                yield from _for_a_sum(form, value, named)
        except Undecided:
            continue


def _positive(value: Form) -> bool:
    return all(
        c > 0 and not k.deltas and all(e.atom.positive for e in k.entries)
        for k, c in value.terms.items()
    )


def _for_a_product(run: Run, form: Form, value: Form, named: Atom) -> Form:
    """Where an output is a monomial c E^k R, each E is (output / (c R))^(1/k)."""
    inverse = functions.power(run.table, value, Fraction(-1))
    if len(inverse.terms) != 1:
        return form
    ((key, c),) = inverse.terms.items()
    own = tuple(range(value.rank))
    anchors = [e for e in key.entries if e.letters == own and e.atom.argument is not None]
    if any(s >= value.rank for e in key.entries for s in e.letters) or not anchors:
        return form
    anchor = max(anchors, key=lambda e: e.atom.number)
    form = _gathered(form, anchor.atom)
    # output⁻¹ = c E^−k R⁻¹, so that E = (output · c · R⁻¹)^(1/k).
    rest = [e for e in key.entries if e is not anchor]
    root = -1 / anchor.power
    if root.denominator != 1 and c != 1:
        return form
    items = []
    for k, number in form.terms.items():
        entries: list[Entry] = []
        scalars = k.scalars
        for e in k.entries:
            if e.atom is not anchor.atom:
                entries.append(e)
                continue
            power = e.power * root
            if c != 1 and power.denominator != 1:
                return form
            number *= c ** int(power) if c != 1 else 1  # noqa: PLW2901
            scalars += tuple((n, p * power) for n, p in key.scalars)
            entries.append(Entry(named, e.letters, power))
            entries += [
                Entry(r.atom, tuple(e.letters[s] for s in r.letters), r.power * power) for r in rest
            ]
        items.append((Key(scalars, tuple(entries), k.deltas), number))
    return build(form.axes, items)


def _for_an_exponential(run: Run, form: Form, value: Form, named: Atom) -> Iterator[Form]:
    """The exponential of an output, as it stands in the derivative of a log-softmax."""
    if any(e.atom.kind == "log" for k in value.terms for e in k.entries):
        ((key, _),) = functions.exp(run.table, entry(named)).terms.items()
        raised = functions.exp(run.table, value)
        yield _for_a_product(run, form, raised, key.entries[0].atom)


def _in_functions(run: Run, form: Form, value: Form, named: Atom) -> Form:
    """A function of an output's value as a function of the output."""
    items = []
    for k, c in form.terms.items():
        entries = list(k.entries)
        for i, e in enumerate(entries):
            if e.atom.kind not in FUNCTIONS or e.atom.argument is None:
                continue
            factor = _multiple(e.atom.argument, value)
            if factor is None or (factor != 1 and not (e.atom.kind == "step" and factor > 0)):
                continue
            atom, own = functions.atom_of(
                run.table,
                e.atom.kind,
                entry(named),
                positive=e.atom.positive,
                selects=e.atom.selects,
            )
            entries[i] = Entry(atom, tuple(e.letters[s] for s in own), e.power)
        items.append((k._replace(entries=tuple(entries)), c))
    return build(form.axes, items)


def _multiple(first: Form, second: Form) -> Fraction | None:
    """The number that makes a form of another over the same axes."""
    if first.axes != second.axes or set(first.terms) != set(second.terms):
        return None
    ratios = {c / second.terms[k] for k, c in first.terms.items()}
    return ratios.pop() if len(ratios) == 1 else None


def _gathered(form: Form, atom: Atom) -> Form:
    """A sum that stands multiplied out in a term as one entry of its atom."""
    if atom.single is None:
        return form
    items = []
    for k, c in form.terms.items():
        key = k
        for found in matches(list(atom.single.entries), k.entries, {}, len(atom.axes), form.rank):
            others = tuple(e for i, e in enumerate(k.entries) if i not in found.used)
            if any(s in found.bound for e in others for s in e.letters):
                continue
            letters = tuple(found.names[s] for s in range(len(atom.axes)))
            key = k._replace(entries=(*others, Entry(atom, letters, Fraction(1))))
            break
        items.append((key, c))
    return build(form.axes, items)


def _for_a_sum(form: Form, value: Form, named: Atom) -> Iterator[Form]:
    """A multiple of one of an output's terms gives way to that multiple of the output."""
    for first, number in value.terms.items():
        if {s for e in first.entries for s in e.letters} != set(range(value.rank)):
            continue
        for key, c in form.terms.items():
            rest = _divided(key, first, value, form.rank)
            if rest is not None:
                yield _exchanged(form, c / number, rest, value, named)


def _divided(key: Key, divisor: Key, value: Form, rank: int) -> tuple[Key, tuple[int, ...]] | None:
    """The rest of a monomial after a divisor, and where the divisor's letters stand in it."""
    if divisor.deltas or any(s >= value.rank for e in divisor.entries for s in e.letters):
        return None
    pool = key.entries
    loose = [e._replace(power=Fraction(1)) for e in divisor.entries]
    flat = tuple(e._replace(power=Fraction(1)) for e in pool)
    for found in matches(loose, flat, {}, value.rank, rank):
        if len(found.names) < value.rank:
            continue
        letters = tuple(found.names[s] for s in range(value.rank))
        inverse = tuple(
            Entry(e.atom, tuple(letters[s] for s in e.letters), -e.power) for e in divisor.entries
        )
        scalars = key.scalars + tuple((n, -p) for n, p in divisor.scalars)
        return Key(scalars, (*pool, *inverse), key.deltas), letters
    return None


def _exchanged(
    form: Form, c: Fraction, rest: tuple[Key, tuple[int, ...]], value: Form, named: Atom
) -> Form:
    """Form − c · rest · value + c · rest · output, summed over the bound letters of the rest."""
    key, letters = rest
    axes = dict(enumerate(form.axes))
    for e in key.entries:
        axes.update(zip(e.letters, e.atom.axes, strict=True))
    bound = sorted(s for s in axes if s >= form.rank)
    order = [*range(form.rank), *bound]
    names = {s: i for i, s in enumerate(order)}
    common = tuple(axes[s] for s in order)
    moved = Key(
        key.scalars,
        tuple(e._replace(letters=tuple(names[s] for s in e.letters)) for e in key.entries),
        key.deltas,
    )
    factor = build(common, [(moved, c)])
    places = tuple(names[s] for s in letters)
    gap = relettered(entry(named), common, places) - relettered(value, common, places)
    return form + summed(factor * gap, tuple(range(form.rank, len(order))))
