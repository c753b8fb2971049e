"""Terms with common factors as one product: Σ_p x[p,r] (a[p,s] − y[p,s]) / m.

Two terms are matched by finding which summed letters of one play the part of which of the other; what
then coincides is the common part, and what is left of each term stands in a sum. Sums are factors
like any other in the next round, so that a s − a s² − y s + y s² becomes s (1 − s) (a − y).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import gcd, lcm
from typing import TYPE_CHECKING

from gradcheck.algebra.matching import match
from gradcheck.algebra.terms import Factor, Size, Term, free_alphabet

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gradcheck.algebra.terms import Expression

# Pairs of terms are matched, again and again; beyond this many nothing is grouped.
MOST_TERMS = 24

Sum = tuple[Term, ...]


@dataclass(frozen=True)
class Group:
    """coefficient × Π sizes × Π factors × Π deltas × Π sums, summed over the letters in `summed`.

    Attributes:
        coefficient: A rational number.
        sizes: Powers of axis sizes.
        factors: What all terms of the group share.
        deltas: The Kronecker deltas that all share.
        sums: Each a sum of terms, to be formed before the product is contracted. A letter of such a
            term that is neither an output letter nor in `summed` is summed inside that term.
        summed: The letters over which the whole product is summed.
        axes: The axis of each letter.
        conditions: What must not be zero for this form to hold.
    """

    coefficient: Fraction
    sizes: tuple[tuple[str, Fraction], ...]
    factors: tuple[Factor, ...]
    deltas: tuple[tuple[str, str], ...]
    sums: tuple[Sum, ...]
    summed: tuple[str, ...]
    axes: Mapping[str, str] = field(default_factory=dict, hash=False, compare=False)
    conditions: frozenset[str] = field(default_factory=frozenset, hash=False, compare=False)

    def inside(self, term: Term, output: Iterable[str]) -> tuple[str, ...]:
        """The letters over which one term of a sum is summed by itself."""
        outside = {*output, *self.summed}
        return tuple(s for s in term.letters() if s not in outside)

    def expanded(self, output: Iterable[str]) -> tuple[Term, ...]:
        """The terms of which this is the product, multiplied out."""
        head = Term(
            self.coefficient,
            self.sizes,
            self.factors,
            self.deltas,
            self.axes,
            conditions=self.conditions,
        )
        terms = [head]
        used = {*output, *self.axes}
        for total in self.sums:
            supply = free_alphabet(used)
            fresh = []
            for term in total:
                names = {s: next(supply) for s in self.inside(term, output)}
                used |= set(names.values())
                fresh.append(term.renamed(names))
            terms = [_times(t, u) for t in terms for u in fresh]
        return tuple(terms)


def grouped(
    expression: Expression, *, keep: bool = False, small: bool = False
) -> tuple[Group, ...]:
    """The terms of a normalised expression as products of common factors and sums.

    The value does not change: multiplying out (`Group.expanded`) gives the terms back. With `keep`,
    summed letters keep their names where that is possible. With `small`, a sum is formed only where
    one of its factors has all its letters, so that it is no larger than what it is made of.
    """
    if not expression.terms:
        return ()
    free = expression.output
    terms = [_apart(t, i, free) for i, t in enumerate(expression.terms) if t.coefficient]
    sums: dict[str, Sum] = {}
    while len(terms) <= MOST_TERMS:
        cluster = _best_cluster(terms, free, sums, small=small)
        if cluster is None:
            break
        core, members = cluster
        first = min(members)
        merged = _merged(core, [terms[i] for i in sorted(members)], free, sums)
        rest = [(i, t) for i, t in enumerate(terms) if i not in members]
        terms = [t for _, t in sorted([*rest, (first, merged)], key=lambda pair: pair[0])]
    return tuple(_finished(t, free, sums, keep=keep) for t in terms)


def _times(left: Term, right: Term) -> Term:
    product = left.scaled(Size(right.coefficient, right.sizes))
    return replace(
        product,
        factors=left.factors + right.factors,
        deltas=left.deltas + right.deltas,
        axes={**right.axes, **left.axes},
        location=right.location or left.location,
        conditions=left.conditions | right.conditions,
    )


def _apart(term: Term, index: int, free: tuple[str, ...]) -> Term:
    """The term with summed letters that no other term has."""
    return term.renamed({s: f"{s}.{index}" for s in term.letters() if s not in free})


# ------------------------------------------------------------------ finding


def _best_cluster(
    terms: list[Term], free: tuple[str, ...], sums: Mapping[str, Sum], *, small: bool
) -> tuple[Term, set[int]] | None:
    """The largest common part of any two terms, and all terms that contain it."""
    best: tuple[float, Term, int, int] | None = None
    for i, first in enumerate(terms):
        for j in range(i + 1, len(terms)):
            core, score = _common(first, terms[j], free)
            if not score or not all(_plain_rest(core, t, sums) for t in (first, terms[j])):
                continue
            if small and _grows(core, (first, terms[j]), free):
                continue
            if best is None or score > best[0]:
                best = (score, core, i, j)
    if best is None:
        return None
    _, core, i, j = best
    members = {
        k
        for k, t in enumerate(terms)
        if k in (i, j) or (_contains(t, core, free) and _plain_rest(core, t, sums))
    }
    if small and _grows(core, [terms[k] for k in sorted(members)], free):
        members = {i, j}
    return core, members


def _grows(core: Term, members: Sequence[Term], free: tuple[str, ...]) -> bool:
    """Whether the sum of what is left of the terms would be larger than all that it is made of."""
    outside = {*free, *core.letters()}
    return swells([_rest(core, t, free) for t in members], outside)


def swells(terms: Iterable[Term], outside: Iterable[str]) -> bool:
    """Whether a sum of terms has more letters from `outside` than any factor in it."""
    known = set(outside)
    own = [{s for s in f.letters if s in known} for t in terms for f in t.factors]
    whole = set().union(*own)
    return bool(own) and whole not in own


def _common(first: Term, second: Term, free: tuple[str, ...]) -> tuple[Term, float]:
    """The common part of two terms as a term, and how much it is."""
    found = match(first, second, free)
    theirs = dict(second.sizes)
    sizes = tuple((a, p) for a, p in first.sizes if theirs.get(a) == p)
    core = Term(sizes=sizes, factors=found.factors, deltas=found.deltas, axes=first.axes)
    score = found.score + 0.5 * len(sizes)
    if not score and _hoistable([first, second], (), free):
        score = 0.25
    return core, score


def _contains(term: Term, core: Term, free: tuple[str, ...]) -> bool:
    sizes = dict(term.sizes)
    if any(sizes.get(a) != p for a, p in core.sizes):
        return False
    found = match(core, term, free)
    whole = sorted(core.factors, key=repr) == sorted(found.factors, key=repr)
    if not core.factors and not core.deltas and not core.sizes:
        return False
    return whole and set(found.deltas) == set(core.deltas)


def _plain_rest(core: Term, term: Term, sums: Mapping[str, Sum]) -> bool:
    """Whether all sums of a term are in the common part, so that no sum stands inside a sum."""
    have = [f.name for f in core.factors if f.name in sums]
    return sorted(have) == sorted(f.name for f in term.factors if f.name in sums)


# ------------------------------------------------------------------ merging


def _merged(core: Term, members: list[Term], free: tuple[str, ...], sums: dict[str, Sum]) -> Term:
    """The common part times the sum of what is left, the sum as one factor."""
    rests = [_rest(core, t, free) for t in members]
    outside = {s for s in core.letters() if s not in free}
    hoisted = _hoistable(rests, tuple(outside), free)
    if hoisted:
        rests = [t.renamed(names) for t, names in zip(rests, hoisted, strict=True)]
        outside |= {s for names in hoisted for s in names.values()}
    content, rests = _content(rests)
    rests = _collected(rests)
    axes = {s: a for t in (core, *rests) for s, a in t.axes.items() if s in {*free, *outside}}
    if not rests:
        return Term(Fraction(0), axes=axes)
    factor = _sum_factor(tuple(rests), [*free, *sorted(outside)], sums)
    return replace(core, coefficient=content, factors=(*core.factors, factor), axes=axes)


def _rest(core: Term, term: Term, free: tuple[str, ...]) -> Term:
    """The term divided by the common part, in the common part's letters."""
    found = match(core, term, free)
    renamed = term.renamed(found.letters)
    left: list[Factor] = []
    wanted = list(found.factors)
    for factor in renamed.factors:
        part = next((f for f in wanted if f.base == factor.base), None)
        if part is None:
            left.append(factor)
            continue
        wanted.remove(part)
        if factor.power != part.power:
            left.append(replace(factor, power=factor.power - part.power))
    shared = dict(core.sizes)
    return replace(
        renamed,
        sizes=tuple((a, p) for a, p in renamed.sizes if a not in shared),
        factors=tuple(left),
        deltas=tuple(pair for pair in renamed.deltas if pair not in core.deltas),
    )


def _hoistable(
    rests: list[Term], outside: tuple[str, ...], free: tuple[str, ...]
) -> list[dict[str, str]] | None:
    """Renamings that turn Σ_p a[p,s] − Σ_p y[p,s] into Σ_p (a[p,s] − y[p,s]).

    Only where the sum inside is then no larger than an operand: each term must be entry by entry, all
    of its letters on one of its factors.
    """
    known = {*outside, *free}
    private = [[s for s in t.letters() if s not in known] for t in rests]
    axes = [[t.axes.get(s, "") for s in p] for t, p in zip(rests, private, strict=True)]
    if not private[0] or any(sorted(a) != sorted(axes[0]) for a in axes):
        return None
    for term in rests:
        if not any(set(f.letters) >= set(term.letters()) for f in term.factors):
            return None
    renamings = []
    for letters, own in zip(private, axes, strict=True):
        left = list(zip(private[0], axes[0], strict=True))
        names = {}
        for s, axis in zip(letters, own, strict=True):
            target = next(pair for pair in left if pair[1] == axis)
            left.remove(target)
            names[s] = target[0]
        renamings.append(names)
    return renamings


def _content(terms: list[Term]) -> tuple[Fraction, list[Term]]:
    """The rational number common to all coefficients, with the sign of the first in sorted order."""
    numbers = [t.coefficient for t in terms]
    above = gcd(*(abs(n.numerator) for n in numbers))
    below = lcm(*(n.denominator for n in numbers))
    ordered = sorted(terms, key=sum_key)
    content = Fraction(above, below) * (1 if ordered[0].coefficient > 0 else -1)
    return content, [replace(t, coefficient=t.coefficient / content) for t in ordered]


def _collected(terms: list[Term]) -> list[Term]:
    """Like terms added, as hoisting may have made terms alike."""
    from gradcheck.algebra.normal import collect

    return [t for t in collect(terms) if t.coefficient]


def sum_key(term: Term) -> tuple[object, ...]:
    """The order of terms in a sum: the fewest factors first, then by name."""
    names = [
        (f.name, f.function or "", f.power, tuple(s or "" for s in f.letters)) for f in term.factors
    ]
    return (len(term.factors), sorted(names), term.deltas, term.sizes)


def _sum_factor(rests: Sum, outside: list[str], sums: dict[str, Sum]) -> Factor:
    """A factor that stands for the sum; equal sums get one name, whatever their letters are called."""
    letters = list(dict.fromkeys(s for t in rests for s in t.letters() if s in outside))
    places = {s: f"#{i}" for i, s in enumerate(letters)}
    shown = []
    for term in rests:
        own = [s for s in term.letters() if s not in places]
        names = {**places, **{s: f"~{i}" for i, s in enumerate(own)}}
        # Letters of the common part are summed outside: here they would count as unused ones.
        axes = {s: a for s, a in term.axes.items() if s in names}
        shown.append(replace(term, axes=axes).renamed(names))
    text = " + ".join(repr((t.coefficient, t.sizes, t.factors, t.deltas)) for t in shown)
    sums.setdefault(text, tuple(shown))
    return Factor(text, tuple(letters))


# ------------------------------------------------------------------ finishing


def _finished(term: Term, free: tuple[str, ...], sums: Mapping[str, Sum], *, keep: bool) -> Group:
    """The term as a group, its sums written out and its letters named."""
    summed = [s for s in term.letters() if s not in free]
    names = _named(summed, free, keep=keep)
    named = term.renamed(names)
    spare = list(dict.fromkeys(names.values()))
    written = [_written(sums[f.name], f, (*free, *spare)) for f in named.factors if f.name in sums]
    coefficient, written = _signed(term.coefficient, written)
    axes = {s: a for s, a in named.axes.items() if s in {*free, *spare}}
    return Group(
        coefficient,
        term.sizes,
        tuple(f for f in named.factors if f.name not in sums),
        named.deltas,
        tuple(written),
        tuple(spare),
        axes,
        term.conditions,
    )


def _written(total: Sum, factor: Factor, used: tuple[str, ...]) -> Sum:
    """A sum with the letters that it has at this place; what it sums inside gets letters of its own."""
    places = {f"#{i}": s or "" for i, s in enumerate(factor.letters)}
    terms = []
    for term in total:
        supply = free_alphabet(used)
        inside = {s: next(supply) for s in term.letters() if s.startswith("~")}
        terms.append(term.renamed({**places, **inside}))
    return tuple(terms)


def _named(summed: list[str], free: tuple[str, ...], *, keep: bool) -> dict[str, str]:
    """Names for the summed letters of a product: their own, as far as these are free, or new ones."""
    names: dict[str, str] = {}
    if keep:
        for s in summed:
            if (own := s.rpartition(".")[0]) not in {*free, *names.values()}:
                names[s] = own
    supply = free_alphabet((*free, *names.values()))
    names.update((s, next(supply)) for s in summed if s not in names)
    return names


def _signed(coefficient: Fraction, written: list[Sum]) -> tuple[Fraction, list[Sum]]:
    """−(a − y) as (y − a), and no sum that begins with a minus if it need not."""
    signed = []
    for total in written:
        turned = total
        if coefficient < 0 and len({t.coefficient > 0 for t in total}) == 2:
            coefficient = -coefficient
            turned = tuple(replace(t, coefficient=-t.coefficient) for t in total)
        signed.append(_positive_first(turned))
    return coefficient, signed


def _positive_first(total: Sum) -> Sum:
    first = next((t for t in total if t.coefficient > 0), None)
    return total if first is None else (first, *(t for t in total if t is not first))
