"""Rewriting a bound term without changing its value.

Each rule is sound at every size: delta elimination (union-find; a free letter represents its class),
merging equal factors into one power, and a summed letter that occurs in no factor as a factor of its
axis size. Merging may cancel a tensor; what must then not be zero is recorded as a condition.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from gradcheck.algebra.shapes import is_broadcast, is_number
from gradcheck.algebra.terms import Factor, Term, free_alphabet, multiply_sizes
from gradcheck.errors import ShapeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gradcheck.algebra.terms import Expression


def normalise(expression: Expression) -> Expression:
    """An equal expression: each term rewritten, like terms collected, zero terms dropped."""
    terms = [normalise_term(t, expression.output) for t in expression.terms]
    return replace(expression, terms=tuple(collect(terms)))


def normalise_term(term: Term, output: tuple[str, ...]) -> Term:
    """The normal form of one term (up to the names of its summed letters, made canonical here)."""
    term = merge_factors(eliminate_deltas(term, output))
    return name_summed(count_unused(term, output), output)


def eliminate_deltas(term: Term, output: tuple[str, ...]) -> Term:
    """The term without any delta that touches a summed letter.

    Deltas among free letters stay, as a star around the first of each class.
    """
    free = set(output)
    deltas = list(term.deltas)
    changed = True
    while changed:
        changed = False
        for pair in deltas:
            rename = elimination(pair, free, term.axes)
            if rename is None:
                continue
            deltas.remove(pair)
            kept = {s: term.axes[s] for s in rename.values() if s in term.axes}
            term = replace(term, deltas=tuple(deltas)).renamed(rename)
            # The letter that stays runs over its own axis, also where the other's is narrower.
            term = replace(term, axes={**term.axes, **kept})
            deltas = list(term.deltas)
            changed = True
            break
    return _star(term, output)


def elimination(
    pair: tuple[str, str], free: set[str], axes: Mapping[str, str]
) -> dict[str, str] | None:
    """The renaming that removes a delta: nothing to rename where both letters are one already."""
    a, b = pair
    if a == b:
        return {}
    for gone, kept in ((b, a), (a, b)):
        # Σ_p δ[p,r] f[p] over p on axis n is not f[r] where r, on #n or 1, may have size 1.
        narrows = _is_narrow(axes.get(kept, "")) and not _is_narrow(axes.get(gone, ""))
        if gone not in free and not narrows:
            return {gone: kept}
    return None


def _is_narrow(axis: str) -> bool:
    """Whether the axis may be shorter than one that it is broadcast to."""
    return is_broadcast(axis) or axis == "1"


def _star(term: Term, output: tuple[str, ...]) -> Term:
    """Deltas among free letters as (first, other) pairs, and factors on the first."""
    if not term.deltas:
        return term
    order = {s: i for i, s in enumerate(output)}
    parent: dict[str, str] = {}

    def find(s: str) -> str:
        while parent.get(s, s) != s:
            s = parent[s]
        return s

    kept = []
    for a, b in term.deltas:
        mixed = _is_narrow(term.axes.get(a, "")) != _is_narrow(term.axes.get(b, ""))
        if a not in order or b not in order or mixed:
            kept.append((a, b) if order.get(a, 99) <= order.get(b, 99) else (b, a))
            continue
        first, other = sorted((find(a), find(b)), key=order.__getitem__)
        parent[other] = first
    star = [(find(s), s) for s in output if find(s) != s]
    moved = term.renamed({s: first for first, s in star})
    return replace(moved, deltas=tuple(sorted([*star, *dict.fromkeys(kept)])), axes=term.axes)


def merge_factors(term: Term) -> Term:
    """Equal factors as one power; a tensor that cancels leaves the condition that it is not 0."""
    powers: dict[tuple[object, ...], list[Factor]] = defaultdict(list)
    for factor in term.factors:
        powers[factor.base].append(factor)
    factors, conditions = [], set(term.conditions)
    for group in powers.values():
        if len(group) == 1:  # nothing to merge, and nothing that cancels
            factors += group if group[0].power else []
            continue
        total = sum((f.power for f in group), Fraction(0))
        first = group[0]
        shown = first.name if first.function is None else f"{first.function}({first.name})"
        if any(f.power < 0 for f in group) and total >= 0:
            conditions.add(f"{shown} ≠ 0")
        if total.denominator < max(f.power.denominator for f in group):
            conditions.add(f"{shown} ≥ 0")
        if total:
            factors.append(replace(group[0], power=total))
    return replace(term, factors=tuple(factors), conditions=frozenset(conditions))


def count_unused(term: Term, output: tuple[str, ...]) -> Term:
    """A summed letter that occurs nowhere is a factor of its axis size."""
    occurring = {*output, *term.letters()}
    sizes, coefficient = term.sizes, term.coefficient
    for letter, axis in term.axes.items():
        if letter in occurring:
            continue
        if is_number(axis):
            coefficient *= int(axis)
        else:
            sizes = multiply_sizes(sizes, ((axis, Fraction(1)),))
    axes = {s: axis for s, axis in term.axes.items() if s in occurring}
    return replace(term, sizes=sizes, coefficient=coefficient, axes=axes)


def name_summed(term: Term, output: tuple[str, ...]) -> Term:
    """Summed letters named in the order in which sorted factors mention them.

    Equal names prove terms equal; terms that are equal under a subtler renaming merely stay apart.
    """
    free = set(output)
    ordered = sorted(term.factors, key=lambda f: _shape_key(f, free))
    summed: dict[str, None] = {}
    for factor in ordered:
        summed.update((s, None) for s in factor.letters if s is not None and s not in free)
    for pair in term.deltas:
        summed.update((s, None) for s in pair if s not in free)
    fresh = free_alphabet(output)
    renamed = replace(term, factors=tuple(ordered)).renamed(dict(zip(summed, fresh, strict=False)))
    return replace(renamed, factors=tuple(sorted(renamed.factors, key=_factor_key)))


def _shape_key(factor: Factor, free: set[str]) -> tuple[object, ...]:
    letters = tuple(s if s in free else "~" for s in (x or "·" for x in factor.letters))
    return (factor.name, factor.function or "", factor.power, letters)


def _factor_key(factor: Factor) -> tuple[object, ...]:
    return (
        factor.name,
        factor.function or "",
        factor.power,
        tuple(x or "·" for x in factor.letters),
    )


def collect(terms: Iterable[Term]) -> list[Term]:
    """Like terms added; zeros dropped; the order of first appearance kept."""
    sums: dict[tuple[object, ...], Term] = {}
    for term in terms:
        key = (term.sizes, term.factors, term.deltas)
        seen = sums.get(key)
        if seen is None:
            sums[key] = term
            continue
        sums[key] = replace(
            seen,
            coefficient=seen.coefficient + term.coefficient,
            conditions=seen.conditions | term.conditions,
        )
    kept = [t for t in sums.values() if t.coefficient]
    return kept or [_zero(t) for t in list(sums.values())[:1]]


def _zero(term: Term) -> Term:
    """Zero, which still knows the axes of its letters."""
    return Term(Fraction(0), axes=term.axes, location=term.location, conditions=term.conditions)


def resolve_broadcast(term: Term, shapes: dict[str, tuple[str, ...]], single: set[str]) -> Term:
    """The term at sizes where each broadcast axis is known to be 1 (in `single`) or its base's.

    A factor's letter on a `#n` axis of size 1 becomes None (its first entry), and so does a letter that
    itself runs over such an axis, on whatever axis of the factor it stands: it takes one value. A delta
    that such a letter belongs to is 1.
    """
    if not any(_is_narrow(a) for a in term.axes.values()) and not any(
        _is_narrow(a) for f in term.factors for a in shapes.get(f.name, ())
    ):
        return term
    alone = {s for s, a in term.axes.items() if a in single}
    factors = tuple(_first_entry(f, shapes, single, alone) for f in term.factors)
    deltas = tuple(pair for pair in term.deltas if alone.isdisjoint(pair))
    axes = {s: a if a in single else a.removeprefix("#") for s, a in term.axes.items()}
    return replace(term, factors=factors, deltas=deltas, axes=axes)


def _first_entry(
    factor: Factor, shapes: dict[str, tuple[str, ...]], single: set[str], alone: set[str]
) -> Factor:
    shape = shapes.get(factor.name, ())
    letters = tuple(
        None if s in alone or (i < len(shape) and shape[i] in single) else s
        for i, s in enumerate(factor.letters)
    )
    return replace(factor, letters=letters)


def first_entries(factor: Factor, shape: Iterable[Any]) -> tuple[int | slice, ...] | None:
    """The index of what a factor stands for, each letter that is None at its first entry; None for all.

    Raises:
        ShapeError: Where there is no first entry.
    """
    if None not in factor.letters:
        return None
    if any(s is None and n == 0 for s, n in zip(factor.letters, shape, strict=True)):
        raise ShapeError(
            f"a derivative reads the first entry of {factor.name} along a broadcast axis of size 1, and "
            f"{factor.name} has none there; where an axis n has size 0, #n must have it too"
        )
    return tuple(0 if s is None else slice(None) for s in factor.letters)
