"""Finding the smallest edit of a claim that makes it right, and proving it.

Candidates are held against the true derivative at generic points first (`screen`): one linear
equation a candidate, since an edit changes one term of a sum. Those that pass are proved, smallest
first, and only a proof counts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.diagnosis.edits import ORDER, TermEdit, new_terms, settled, term_edits, vocabulary
from gradcheck.diagnosis.numbers import Coefficient, recognise
from gradcheck.diagnosis.screen import Screen, close, scale_of
from gradcheck.oracles.symbolic import symbolic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from gradcheck.algebra.terms import Expression, Term
    from gradcheck.diagnosis.written import Written

    Array = NDArray[np.float64]

# So many candidates are proved at most, the smallest first: a proof takes some milliseconds.
_MOST_PROOFS = 60


@dataclass(frozen=True)
class Repair:
    """An edit that makes a claim right.

    Attributes:
        kind: The kind of error that it mends.
        cost: The number of single edits.
        index: The place of the (first) term edited; for a new term, the number of terms.
        expression: The claim with the edit, in its author's form.
        proved: Whether the symbolic oracle proves it.
        ratio: For a factor or a sign, what the claim has too much.
        changed: The places of all terms edited, in order.
        sums: How many more letters it sums over.
    """

    kind: str
    cost: int
    index: int
    expression: Expression
    proved: bool = False
    ratio: Coefficient | None = None
    changed: tuple[int, ...] = field(default=())
    sums: int = 0

    @property
    def order(self) -> tuple[int, int, int, int, int]:
        """Small edits first, then those without new sums, the likelier kinds, short texts."""
        rank = ORDER.index(self.kind) if self.kind in ORDER else len(ORDER)
        letters = sum(len(t.axes) + len(t.factors) for t in self.expression.terms)
        return self.cost, self.sums, rank, letters, self.index


class Workshop:
    """One wrong claim: its terms as vectors, and the edits that the screen lets through."""

    def __init__(self, wrong: Written, screen: Screen, deadline: float) -> None:
        self.written, self.screen, self.deadline = wrong, screen, deadline
        self.expression = wrong.expression
        axes = {s: a for t in self.expression.terms for s, a in t.axes.items()}
        self.output = {s: axes[s] for s in self.expression.output if s in axes}
        self.words = vocabulary(wrong.spec, self.output)
        vectors = [self.vector(t) for t in self.expression.terms] if screen.places else []
        # One term that is nowhere finite is surely the one at fault.
        self.broken = [k for k, v in enumerate(vectors) if v is None]
        self.usable = bool(vectors) and len(self.broken) <= 1
        if self.usable:
            self.vectors = [np.zeros_like(screen.true) if v is None else v for v in vectors]
            self.residual = screen.true - sum(self.vectors, np.zeros_like(screen.true))
            self.scale = scale_of(self.vectors, screen.true)
            self.cuts = screen.cuts()

    def vector(self, term: Term) -> Array | None:
        """One term at all points, as the Jacobian that it stands for."""
        alone = replace(self.expression, terms=(term,))
        return self.screen.vector(self.written.jacobian(alone))

    @property
    def late(self) -> bool:
        """Whether the time is up."""
        return time.thread_time() > self.deadline

    # ------------------------------------------------------------------ candidates

    def singles(self) -> Iterator[Repair]:
        """Every repair by an edit of one term, perhaps with another coefficient."""
        for k in self.broken or range(len(self.expression.terms)):
            yield from self._of_term(k)
        if not self.broken:
            yield from self._scaled()
            yield from self._permuted()

    def _of_term(self, k: int) -> Iterator[Repair]:
        term = self.expression.terms[k]
        target = self.residual + self.vectors[k]
        if close(target, self.scale) and len(self.expression.terms) > 1:
            yield Repair("extra-term", 1, k, self._without(k), changed=(k,))
        own = Coefficient(term.coefficient, term.sizes)
        for edit in (TermEdit("factor", term, 0), *term_edits(term, self.words)):
            found = self._solved(target, edit.term)
            if found is None:
                continue
            shape, coefficient = found
            same = coefficient == own
            if edit.cost == 0 and same:
                continue
            kind = _kind(edit, own, coefficient)
            cost = edit.cost + (not same)
            made = replace(shape, coefficient=coefficient.number, sizes=coefficient.sizes)
            ratio = own.over(coefficient) if edit.cost == 0 and own.number else None
            sums = max(0, len({*made.letters()} - {*term.letters(), *self.output}))
            yield Repair(kind, cost, k, self._with(k, made), ratio=ratio, changed=(k,), sums=sums)

    def _solved(self, target: Array, term: Term) -> tuple[Term, Coefficient] | None:
        """The coefficient with which a term's shape is the target, if there is one."""
        shape = replace(settled(term, self.output), coefficient=Fraction(1), sizes=())
        jacobian = self.written.jacobian(replace(self.expression, terms=(shape,)))
        # Point after point: nearly all candidates fail at the first.
        parts = (self.screen.part(jacobian, place) for place in self.screen.places)
        found = self._coefficient(target, parts)
        return None if found is None else (shape, found)

    def _coefficient(self, target: Array, parts: Iterable[Array | None]) -> Coefficient | None:
        """The number by which a vector, given point by point, is the target."""
        numbers = []
        for v, cut in zip(parts, self.cuts, strict=True):
            if v is None:
                return None
            t = target[cut]
            square = float(v @ v)
            number = float(v @ t) / square if square > 0 else 0.0
            if not close(t - number * v, self.scale[cut]):
                return None
            numbers.append(number)
        return recognise(numbers, self.screen.sizes)

    def _scaled(self) -> Iterator[Repair]:
        """The whole claim times a number or a size: a mean for a sum."""
        if len(self.expression.terms) < 2:
            return
        total = sum(self.vectors, np.zeros_like(self.residual))
        found = self._coefficient(self.screen.true, [total[cut] for cut in self.cuts])
        if found is None or found.is_one:
            return
        made = replace(
            self.expression,
            terms=tuple(
                replace(t, coefficient=c.number, sizes=c.sizes)
                for t in self.expression.terms
                for c in [Coefficient(t.coefficient, t.sizes).times(found)]
            ),
        )
        kind = "sign" if found.is_minus_one else "factor"
        places = tuple(range(len(made.terms)))
        yield Repair(kind, 1, 0, made, ratio=found.inverse(), changed=places)

    def _permuted(self) -> Iterator[Repair]:
        """The output letters in another order, all terms alike."""
        if self.written.claim.form == "vjp":
            return
        total = sum(self.vectors, np.zeros_like(self.residual))
        for order in permutations_of(self.expression, self.output):
            arrays = []
            for place, cut in zip(self.screen.places, self.cuts, strict=True):
                arrays.append(np.transpose(total[cut].reshape(place.true.shape), order).ravel())
            if not close(self.screen.true - np.concatenate(arrays), self.scale):
                continue
            names = {
                s: self.expression.output[order.index(i)]
                for i, s in enumerate(self.expression.output)
            }
            made = self.expression.map(lambda t, names=names: t.renamed(names))  # type: ignore[misc]
            moved = sum(i != j for i, j in enumerate(order))
            kind = "transposed" if moved == 2 else "permuted"
            yield Repair(kind, 1, 0, made, changed=tuple(range(len(made.terms))))

    def additions(self, like: Sequence[Term], *, only: bool = False) -> Iterator[Repair]:
        """Every repair by one more term: one of those given, or of all that are short."""
        count = len(self.expression.terms)
        if self.broken:
            return
        # A term of a vjp holds its cotangent: only those that are known to are tried.
        vjp = self.written.claim.form == "vjp"
        for term in like if only or vjp else new_terms(self.words):
            if self.late:
                return
            found = self._solved(self.residual, term)
            if found is None:
                continue
            shape, coefficient = found
            made = replace(shape, coefficient=coefficient.number, sizes=coefficient.sizes)
            expression = replace(self.expression, terms=(*self.expression.terms, made))
            yield Repair("missing-term", 1, count, expression, changed=(count,))

    def rescaled(self) -> Iterator[Repair]:
        """Every term with the coefficient that it should have, where that is all that is wrong."""
        terms = self.expression.terms
        if len(terms) < 2 or self.broken:
            return
        solved = [self._shares(cut) for cut in self.cuts]
        if any(s is None for s in solved):
            return
        sizes = self.screen.sizes
        ratios = [
            recognise([float(s[k]) for s in solved if s is not None], sizes)
            for k in range(len(terms))
        ]
        if any(r is None for r in ratios):
            return
        changed = tuple(k for k, r in enumerate(ratios) if r is not None and not r.is_one)
        made = tuple(
            replace(t, coefficient=c.number, sizes=c.sizes)
            for t, r in zip(terms, ratios, strict=True)
            for c in [Coefficient(t.coefficient, t.sizes).times(r or Coefficient())]
        )
        kinds = {"sign" if r.is_minus_one else "factor" for r in ratios if r and not r.is_one}
        if changed:
            kind = "sign" if kinds == {"sign"} else "factor"
            expression = replace(self.expression, terms=made)
            yield Repair(kind, len(changed), changed[0], expression, changed=changed)

    def _shares(self, cut: slice) -> Array | None:
        """How often each term is contained in the truth at one point; None where that is not unique."""
        matrix = np.stack([v[cut] for v in self.vectors], axis=1)
        shares, _, rank, _ = np.linalg.lstsq(matrix, self.screen.true[cut], rcond=None)
        unique = rank == len(self.vectors)
        fits = close(self.screen.true[cut] - matrix @ shares, self.scale[cut])
        return np.asarray(shares, np.float64) if unique and fits else None

    def pairs(self) -> Iterator[Repair]:
        """Every repair by an edit of one term and an edit of another: two numbers with a given sum."""
        steps = [s for k in range(len(self.expression.terms)) for s in self._steps(k)]
        if not steps or self.broken:
            return
        rng = np.random.default_rng(0)
        weights = rng.standard_normal(self.residual.size)
        shadows = np.array([float(weights @ d) for _, _, _, d in steps])
        wanted = float(weights @ self.residual)
        reach = 1e-8 * (float(np.abs(weights) @ self.scale))
        order = np.argsort(shadows)
        for i, (k, kind, term, change) in enumerate(steps):
            low = np.searchsorted(shadows, wanted - shadows[i] - reach, sorter=order)
            high = np.searchsorted(shadows, wanted - shadows[i] + reach, sorter=order)
            for j in order[low:high]:
                other, second, made, moved = steps[int(j)]
                if other <= k or not close(self.residual - change - moved, self.scale):
                    continue
                yield self._both(k, kind, term, other, second, made)

    def _both(
        self, k: int, kind: str, term: Term | None, other: int, second: str, made: Term | None
    ) -> Repair:
        terms = list(self.expression.terms)
        terms[other : other + 1] = [] if made is None else [made]
        terms[k : k + 1] = [] if term is None else [term]
        expression = replace(self.expression, terms=tuple(terms))
        first = min((kind, second), key=lambda w: ORDER.index(w) if w in ORDER else 99)
        return Repair(first, 2, k, expression, changed=(k, other))

    def _steps(self, k: int) -> Iterator[tuple[int, str, Term | None, Array]]:
        """Each edit of a term with its own coefficient, and by how much it moves the claim."""
        term, vector = self.expression.terms[k], self.vectors[k]
        yield k, "extra-term", None, -vector
        yield k, "sign", replace(term, coefficient=-term.coefficient), -2 * vector
        for edit in term_edits(term, self.words):
            if self.late:
                return
            made = settled(edit.term, self.output)
            moved = self.vector(made)
            if moved is not None:
                yield k, edit.kind, made, moved - vector

    def doubles(self) -> Iterator[Repair]:
        """Every repair by two edits of the same term."""
        for k in self.broken or range(len(self.expression.terms)):
            term = self.expression.terms[k]
            target = self.residual + self.vectors[k]
            own = Coefficient(term.coefficient, term.sizes)
            for first in term_edits(term, self.words):
                for second in term_edits(settled(first.term, self.output), self.words):
                    if self.late:
                        return
                    found = self._solved(target, second.term)
                    if found is None:
                        continue
                    shape, coefficient = found
                    made = replace(shape, coefficient=coefficient.number, sizes=coefficient.sizes)
                    cost = 2 + (coefficient != own)
                    yield Repair(first.kind, cost, k, self._with(k, made), changed=(k,))

    def _with(self, k: int, term: Term) -> Expression:
        terms = self.expression.terms
        return replace(self.expression, terms=(*terms[:k], term, *terms[k + 1 :]))

    def _without(self, k: int) -> Expression:
        terms = self.expression.terms
        return replace(self.expression, terms=(*terms[:k], *terms[k + 1 :]))


def permutations_of(expression: Expression, axes: dict[str, str]) -> Iterator[tuple[int, ...]]:
    """The orders of the output letters, the written one apart, that keep every axis in its place."""
    from itertools import permutations

    letters = expression.output
    if len(letters) > 5:
        return
    identity = tuple(range(len(letters)))
    for order in permutations(identity):
        kept = all(axes.get(letters[i]) == axes.get(letters[j]) for i, j in enumerate(order))
        if order != identity and kept:
            yield order


def _kind(edit: TermEdit, own: Coefficient, found: Coefficient) -> str:
    if edit.cost:
        return edit.kind
    if not own.number:
        return "missing-term"  # a term of nothing stands for none
    return "sign" if own.over(found).is_minus_one else "factor"


# ---------------------------------------------------------------------- proving


def find_repair(
    wrong: Written, screen: Screen, *, like: Sequence[Term] = (), seconds: float = 1.2
) -> Repair | None:
    """The smallest edit of a claim that is proved right; None where none is found in time.

    Args:
        wrong: The claim.
        screen: Its true derivative at generic points.
        like: Terms of the right derivative, tried first where one is missing.
        seconds: How long it may take.

    Returns:
        The edit. Where the symbolic oracle cannot read the forward, the smallest that agrees at every
        point of the screen, not proved.
    """
    shop = Workshop(wrong, screen, time.thread_time() + seconds)
    if not shop.usable or symbolic(wrong.spec, wrong.claim).verdict == "proved":
        return None
    singles = cache(lambda: list(shop.singles()))
    stages: list[Callable[[], list[Repair]]] = [
        lambda: [r for r in singles() if r.cost == 1],
        lambda: list(shop.additions(like, only=True)),
        lambda: list(shop.additions(())),
        lambda: [r for r in singles() if r.cost > 1],
        lambda: [*shop.rescaled(), *shop.pairs()],
        lambda: list(shop.doubles()),
    ]
    for stage in stages:
        found = _first_proved(wrong, stage(), shop)
        if found is not None or shop.late:
            return found
    return None


def _first_proved(wrong: Written, candidates: list[Repair], shop: Workshop) -> Repair | None:
    """The smallest candidate that is proved; one that merely agrees where no proof can be had at all."""
    for tried, repair in enumerate(sorted(candidates, key=lambda r: r.order)):
        if tried >= _MOST_PROOFS or (tried and shop.late):
            return None
        verdict = symbolic(wrong.changed(repair.expression), wrong.claim).verdict
        if verdict == "proved":
            return replace(repair, proved=True)
        if verdict == "undecided" and symbolic(wrong.spec, wrong.claim).verdict == "undecided":
            return repair
    return None
