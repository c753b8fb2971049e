"""What leads from one line of a derivation to the next, each rule with the reason that is printed.

The rules are those of `algebra.simplify`, one at a time: powers that cancel, deltas, multiplying out
where that is needed, relations, sums over a letter that occurs nowhere, like terms, common factors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from gradcheck.algebra.grouping import Group, grouped
from gradcheck.algebra.normal import elimination, merge_factors
from gradcheck.algebra.relations import usable, used
from gradcheck.algebra.shapes import is_number
from gradcheck.algebra.simplify import like_terms
from gradcheck.algebra.terms import Expression, Term, multiply_sizes
from gradcheck.derivation.lines import Line, renamed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradcheck.algebra.relations import Relation

# A derivation that takes longer has lost its thread; what is reached is then printed as it stands.
MOST_STEPS = 200


@dataclass(frozen=True)
class Rewritten:
    """A line, the rule that led to it, and the reason in words.

    Attributes:
        rule: "substitute", "powers", "delta", "multiply out", "relation", "size", "like terms",
            "group".
    """

    line: Line
    rule: str
    reason: str


def steps(line: Line) -> Iterator[Rewritten]:
    """Every line after this one, up to the closed form."""
    for _ in range(MOST_STEPS):
        found = _local(line) or _needed_expansion(line) or _like(line)
        if found is None:
            last = _common(line)
            if last is not None:
                yield last
            return
        yield found
        line = found.line


def _local(line: Line) -> Rewritten | None:
    """The first rule that applies to a group by itself, applied to all groups that it fits."""
    for rule in (_powers, _delta, _open, _relation, _unused):
        groups: list[Group] = []
        reasons: list[str] = []
        for group in line.groups:
            found = rule(group, line)
            groups.extend((group,) if found is None else found[0])
            if found is not None:
                reasons.append(found[1])
        if reasons:
            kept = tuple(g for g in groups if g.coefficient)
            said = "; ".join(dict.fromkeys(reasons))
            return Rewritten(replace(line, groups=kept), _RULES[rule], said)
    return None


_Found = tuple[tuple[Group, ...], str]


def _head(group: Group) -> Term:
    return Term(
        group.coefficient,
        group.sizes,
        group.factors,
        group.deltas,
        group.axes,
        conditions=group.conditions,
    )


def _powers(group: Group, line: Line) -> _Found | None:  # noqa: ARG001
    """Equal factors become one power."""
    merged = merge_factors(_head(group))
    if len(merged.factors) == len(group.factors):
        return None
    gone = sorted(merged.conditions - group.conditions)
    bases = {f.base for f in merged.factors}
    cancelled = [f for f in dict.fromkeys(g.base for g in group.factors) if f not in bases]
    shown = ", ".join(n if f is None else f"{f}({n})" for n, _, f in cancelled)
    what = f"the powers of {shown} cancel" if cancelled else "powers are added"
    reason = f"{what}, wherever {', '.join(gone)}" if gone else what
    return (replace(group, factors=merged.factors, conditions=merged.conditions),), reason


def _delta(group: Group, line: Line) -> _Found | None:
    """Σ_p δ[p,r] f[p] = f[r]."""
    for pair in group.deltas:
        rename = elimination(pair, set(line.output), group.axes)
        if rename is None:
            continue
        left = list(group.deltas)
        left.remove(pair)
        new = renamed(replace(group, deltas=tuple(left)), rename)
        (gone, kept), *_ = [*rename.items(), pair]
        summed = tuple(s for s in new.summed if s not in line.output and s != gone)
        if not rename:
            return (new,), f"δ[{gone},{kept}] = 1"
        axes = {**new.axes, **({kept: group.axes[kept]} if kept in group.axes else {})}
        return (replace(new, summed=summed, axes=axes),), (
            f"Σ_{gone} with δ[{pair[0]},{pair[1]}] leaves {gone} = {kept}"
        )
    return None


def _open(group: Group, line: Line) -> _Found | None:
    """A sum whose deltas join summed letters is multiplied out."""
    summed = set(group.summed)
    for i, total in enumerate(group.sums):
        if any(s in summed for t in total for pair in t.deltas for s in pair):
            rest = replace(group, sums=group.sums[:i] + group.sums[i + 1 :])
            return tuple(_times(rest, t, group, line) for t in total), "multiply out"
    return None


def _times(rest: Group, term: Term, group: Group, line: Line) -> Group:
    inside = group.inside(term, line.output)
    return Group(
        rest.coefficient * term.coefficient,
        multiply_sizes(rest.sizes, term.sizes),
        rest.factors + term.factors,
        rest.deltas + term.deltas,
        rest.sums,
        (*rest.summed, *inside),
        {**term.axes, **rest.axes},
        rest.conditions | term.conditions,
    )


def _relation(group: Group, line: Line) -> _Found | None:
    """Σ_q y[r,q] = 1, where q stands nowhere else."""
    elsewhere = {s for total in group.sums for t in total for s in t.letters()}
    use = usable(_head(group), (*line.output, *elsewhere), line.relations)
    if use is None:
        return None
    term = used(_head(group), use)
    summed = tuple(s for s in group.summed if s != use.letter)
    new = replace(
        group, factors=term.factors, axes=term.axes, conditions=term.conditions, summed=summed
    )
    return (new,), f"since {use.equation()}: {use.relation.because}"


def _unused(group: Group, line: Line) -> _Found | None:  # noqa: ARG001
    """A sum of something that does not depend on the letter: the size of its axis."""
    occurring = {*_head(group).letters(), *(s for x in group.sums for t in x for s in t.letters())}
    letter = next((s for s in group.summed if s not in occurring), None)
    if letter is None:
        return None
    axis = group.axes[letter]
    summed = tuple(s for s in group.summed if s != letter)
    axes = {s: a for s, a in group.axes.items() if s != letter}
    reason = f"nothing depends on {letter}: Σ_{letter} 1 = {axis}"
    if is_number(axis):
        number = group.coefficient * int(axis)
        return (replace(group, coefficient=number, summed=summed, axes=axes),), reason
    sizes = multiply_sizes(group.sizes, ((axis, Fraction(1)),))
    return (replace(group, sizes=sizes, summed=summed, axes=axes),), reason


_RULES = {
    _powers: "powers",
    _delta: "delta",
    _open: "multiply out",
    _relation: "relation",
    _unused: "size",
}


def _closed(term: Term, output: tuple[str, ...], relations: tuple[Relation, ...]) -> bool:
    """Whether nothing in a term cancels or sums to one."""
    signs: dict[object, set[bool]] = {}
    for factor in term.factors:
        signs.setdefault(factor.base, set()).add(factor.power > 0)
    if any(len(s) == 2 for s in signs.values()):
        return False
    return usable(merge_factors(term), output, relations) is None


def _needed_expansion(line: Line) -> Rewritten | None:
    """All sums multiplied out, if something then cancels, sums to one, or is alike."""
    if not any(g.sums for g in line.groups):
        return None
    terms = [t for g in line.groups for t in g.expanded(line.output)]
    closed = all(_closed(t, line.output, line.relations) for t in terms)
    merged = [merge_factors(t) for t in terms]
    if closed and len(like_terms(merged, line.output)) == len(terms):
        return None
    groups = tuple(_flat(t, line) for t in terms)
    return Rewritten(replace(line, groups=groups), "multiply out", "multiply out")


def _flat(term: Term, line: Line) -> Group:
    # A letter may be summed that stands nowhere in the term: Σ_p (x[p] − t) is Σ_p x[p] − Σ_p t.
    letters = dict.fromkeys((*term.letters(), *term.axes))
    summed = tuple(s for s in letters if s not in line.output)
    return Group(
        term.coefficient,
        term.sizes,
        term.factors,
        term.deltas,
        (),
        summed,
        term.axes,
        term.conditions,
    )


def _like(line: Line) -> Rewritten | None:
    """Terms that are alike, added."""
    if any(g.sums for g in line.groups):
        return None
    terms = [_head(g) for g in line.groups]
    kept = like_terms(terms, line.output)
    if len(kept) == len(terms):
        return None
    groups = tuple(_flat(t, line) for t in kept if t.coefficient)
    return Rewritten(replace(line, groups=groups), "like terms", "like terms are added")


def _common(line: Line) -> Rewritten | None:
    """Common factors in front of sums."""
    new = regrouped(line)
    if len(new.groups) >= len(line.groups) and new.size() >= line.size():
        return None
    return Rewritten(new, "group", "common factors")


def regrouped(line: Line) -> Line:
    """The line with common factors grouped anew."""
    expression: Expression = line.expression()
    return replace(line, groups=grouped(expression, keep=True))
