"""A line of a derivation: a sum of groups, with the letters that stay."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from gradcheck.algebra.grouping import Group, grouped
from gradcheck.algebra.terms import Expression, Term, free_alphabet, multiply_sizes
from gradcheck.algebra.text import latex_groups, plain_groups

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradcheck.algebra.relations import Relation


@dataclass(frozen=True)
class Line:
    """Σ of groups; each is summed over its letters that are not in `output`."""

    groups: tuple[Group, ...]
    output: tuple[str, ...]
    axes: tuple[str, ...]
    relations: tuple[Relation, ...] = ()
    seed: str = "v"

    def expression(self) -> Expression:
        """The line multiplied out, for whoever checks it."""
        own = dict(zip(self.output, self.axes, strict=True))
        terms = [
            replace(t, axes={**t.axes, **own}) for g in self.groups for t in g.expanded(self.output)
        ]
        zero = Term(Fraction(0), axes=own)
        return Expression(
            self.output, tuple(terms) or (zero,), relations=self.relations, seed=self.seed
        )

    def text(self) -> str:
        """As plain text."""
        return plain_groups(self.groups, self.output, self.seed) if self.groups else "0"

    def latex(self) -> str:
        """As LaTeX."""
        return latex_groups(self.groups, self.output, self.seed) if self.groups else "0"

    def size(self) -> int:
        """How much ink it takes: what grouping makes smaller."""
        return sum(_ink(g) for g in self.groups)


def _ink(group: Group) -> int:
    inner = [t for total in group.sums for t in total]
    return (
        2
        + len(group.factors)
        + len(group.deltas)
        + len(group.sizes)
        + sum(1 + len(t.factors) + len(t.deltas) + len(t.sizes) for t in inner)
    )


def line_of(expression: Expression, relations: tuple[Relation, ...]) -> Line:
    """An expression with its common factors grouped, in its own letters."""
    axes = next((t.axes for t in expression.terms), {})
    groups = grouped(expression, keep=True)
    own = tuple(axes.get(s, "") for s in expression.output)
    return Line(groups, expression.output, own, relations)


def as_factor(line: Line) -> Group:
    """A line as one group: itself, or a product of nothing but the sum of all terms."""
    if len(line.groups) == 1:
        return line.groups[0]
    total = tuple(t for g in line.groups for t in g.expanded(line.output))
    axes = {s: a for t in total for s, a in t.axes.items() if s in line.output}
    return Group(Fraction(1), (), (), (), (total,), (), axes)


def multiplied(left: Group, right: Group, shared: Iterable[str], output: Iterable[str]) -> Group:
    """The product of two groups, summed over the letters that they share."""
    kept = {*output, *shared}
    right = _apart(right, {*kept, *_letters(left)}, kept)
    left = _apart(left, {*kept, *_letters(right)}, kept)
    over = [s for s in shared if s not in set(output)]
    return Group(
        left.coefficient * right.coefficient,
        multiply_sizes(left.sizes, right.sizes),
        left.factors + right.factors,
        left.deltas + right.deltas,
        left.sums + right.sums,
        tuple(dict.fromkeys((*left.summed, *over, *right.summed))),
        {**right.axes, **left.axes},
        left.conditions | right.conditions,
    )


def _letters(group: Group) -> set[str]:
    found = {s for f in group.factors for s in f.letters if s} | set(group.summed)
    found |= {s for pair in group.deltas for s in pair}
    return found | {s for total in group.sums for t in total for s in t.letters()}


def _apart(group: Group, taken: set[str], kept: set[str]) -> Group:
    """The group with its own summed letters renamed where something else has them."""
    supply = free_alphabet(taken | _letters(group))
    own = [s for s in group.summed if s in taken and s not in kept]
    group = renamed(group, {s: next(supply) for s in own})
    sums = []
    for total in group.sums:
        fresh = []
        for term in total:
            inside = [s for s in term.letters() if s not in kept and s not in group.summed]
            fresh.append(term.renamed({s: next(supply) for s in inside if s in taken}))
        sums.append(tuple(fresh))
    return replace(group, sums=tuple(sums))


def renamed(group: Group, names: dict[str, str]) -> Group:
    """A group under a renaming of letters."""
    if not names:
        return group
    return replace(
        group,
        factors=tuple(f.renamed(names) for f in group.factors),
        deltas=tuple((names.get(a, a), names.get(b, b)) for a, b in group.deltas),
        sums=tuple(tuple(t.renamed(names) for t in total) for total in group.sums),
        summed=tuple(dict.fromkeys(names.get(s, s) for s in group.summed)),
        axes={names.get(s, s): a for s, a in group.axes.items()},
    )
