"""Single-edit mutants of the bundled specs, and a judge of them that knows none of our algebra.

The judge has its own closed form of each spec, differentiates it by central differences in numbers of
700 bits, and sums a claim letter by letter. A mutant is equivalent where the two agree to 150 bits at
three shapes.
"""

from __future__ import annotations

import copy
import itertools
import random
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import flint
from flint import arb

from gradcheck import load
from gradcheck.algebra.terms import Expression, multiply_sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gradcheck.algebra.terms import Factor, Term
    from gradcheck.operation import Claim
    from gradcheck.spec import Spec

BITS = 700
STEP = 2.0**-120
SAME = arb(2) ** -150
DIFFERENT = arb(2) ** -100
SHAPES = ({"m": 2, "n": 3, "o": 4}, {"m": 3, "n": 4, "o": 2}, {"m": 4, "n": 2, "o": 3})

Place = tuple[int, ...]
Tensor = dict[Place, arb]

# ---------------------------------------------------------------------- mutants


@dataclass(frozen=True)
class Mutant:
    """A spec with one edit in one of its claims."""

    spec: str
    claim: Claim
    edit: str
    operation: Spec
    expression: Expression

    def __str__(self) -> str:
        return f"{self.spec} {self.claim.label}: {self.edit}: {self.expression}"


def mutants(name: str) -> Iterator[Mutant]:
    """Every single-edit mutant of every claim of a bundled spec."""
    spec = load(name)
    for claim in spec.claims():
        original = spec.slice_derivative(claim.output, claim.input)
        seen = [original.terms]
        for edit, terms in edits(original, spec):
            if terms in seen:
                continue
            seen.append(terms)
            expression = replace(original, terms=terms)
            yield Mutant(name, claim, edit, changed(spec, claim, expression), expression)


def changed(spec: Spec, claim: Claim, expression: Expression) -> Spec:
    """The spec with another expression for one claim."""
    other = copy.copy(spec)
    for cache in ("_derivatives", "_composed"):
        other.__dict__.pop(cache, None)
    key = (claim.output, claim.input)
    other._claimed = {**spec._claimed, key: (spec._claimed[key][0], expression)}
    return other


def edits(original: Expression, spec: Spec) -> Iterator[tuple[str, tuple[Term, ...]]]:
    """The terms of each mutant, with the name of the edit."""
    for i, term in enumerate(original.terms):
        before, after = original.terms[:i], original.terms[i + 1 :]
        if before or after:
            yield "dropped term", (*before, *after)
        else:
            yield "dropped term", (replace(term, coefficient=Fraction(0)),)
        for edit, other in term_edits(term, spec):
            yield edit, (*before, other, *after)


def term_edits(term: Term, spec: Spec) -> Iterator[tuple[str, Term]]:
    """Each edit of one term but its removal."""
    yield "sign", replace(term, coefficient=-term.coefficient)
    for by in (Fraction(2), 1 + Fraction(1, 10**12), Fraction(3, 2)):
        yield "coefficient", replace(term, coefficient=term.coefficient * by)
    for axis in (a for a in spec.axes if a in SHAPES[0]):
        for power in (1, -1):
            sizes = multiply_sizes(term.sizes, ((axis, Fraction(power)),))
            yield "axis size", replace(term, sizes=sizes)
    yield from _factor_edits(term, spec)
    yield from _delta_edits(term)


def _factor_edits(term: Term, spec: Spec) -> Iterator[tuple[str, Term]]:
    for i, factor in enumerate(term.factors):
        before, after = term.factors[:i], term.factors[i + 1 :]
        for power in (factor.power + 1, factor.power - 1, -factor.power):
            other = (replace(factor, power=power),) if power else ()
            yield "power", replace(term, factors=(*before, *other, *after))
        for name, shape in spec.shapes.items():
            if name != factor.name and shape == spec.shapes[factor.name]:
                yield (
                    "operand",
                    replace(term, factors=(*before, replace(factor, name=name), *after)),
                )
        for k, letter in enumerate(factor.letters):
            for other_letter in _others(term, letter):
                letters = (*factor.letters[:k], other_letter, *factor.letters[k + 1 :])
                moved = replace(factor, letters=letters)
                yield "letter", replace(term, factors=(*before, moved, *after))


def _delta_edits(term: Term) -> Iterator[tuple[str, Term]]:
    for i, pair in enumerate(term.deltas):
        before, after = term.deltas[:i], term.deltas[i + 1 :]
        yield "dropped delta", replace(term, deltas=(*before, *after))
        for k in (0, 1):
            for letter in _others(term, pair[k]):
                moved = (letter, pair[1]) if k == 0 else (pair[0], letter)
                yield "letter", replace(term, deltas=(*before, moved, *after))
    known = {frozenset(pair) for pair in term.deltas}
    for a, b in itertools.combinations(sorted(term.axes), 2):
        if term.axes[a] == term.axes[b] and frozenset((a, b)) not in known:
            yield "added delta", replace(term, deltas=(*term.deltas, (a, b)))


def _others(term: Term, letter: str | None) -> list[str]:
    """The other letters of the term on a letter's axis."""
    assert letter is not None
    return [s for s in term.axes if s != letter and term.axes[s] == term.axes[letter]]


# ---------------------------------------------------------------------- closed forms of our own


@dataclass(frozen=True)
class Form:
    """A spec as a person would write it on paper.

    Attributes:
        inputs: The axes of each input, and whether its rows are probabilities.
        forward: From the inputs to every operand, the inputs apart.
    """

    inputs: dict[str, tuple[str, bool]]
    forward: Callable[..., dict[str, Tensor]]


def _map(function: Callable[[arb], arb], x: Tensor) -> Tensor:
    return {place: function(v) for place, v in x.items()}


def _softmax(z: Tensor) -> Tensor:
    e = _map(lambda v: v.exp(), z)
    total: dict[int, arb] = {}
    for (p, _), v in e.items():
        total[p] = total.get(p, arb(0)) + v
    return {(p, q): v / total[p] for (p, q), v in e.items()}


def _cross_entropy(a: Tensor, y: Tensor) -> Tensor:
    rows = 1 + max(p for p, _ in a)
    return {(): -sum((y[k] * a[k].log() for k in a), arb(0)) / rows}


def _weighted_sum(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    rows, inner = {p for p, _ in x}, {k for k, _ in w}
    return {(r, s): sum((x[r, k] * w[k, s] for k in inner), b[(s,)]) for r in rows for (s,) in b}


def _of_logits(z: Tensor, y: Tensor) -> dict[str, Tensor]:
    a = _softmax(z)
    return {"a": a, "L": _cross_entropy(a, y)}


FORMS = {
    "add": Form(
        {"a": ("mn", False), "b": ("mn", False)}, lambda a, b: {"s": {k: a[k] + b[k] for k in a}}
    ),
    "cross_entropy": Form(
        {"a": ("mn", True), "y": ("mn", True)}, lambda a, y: {"L": _cross_entropy(a, y)}
    ),
    "l2": Form(
        {"w": ("mn", False)}, lambda w: {"l": {(): sum((v * v for v in w.values()), arb(0))}}
    ),
    "relu": Form({"z": ("mn", False)}, lambda z: {"h": _map(lambda v: v if v > 0 else arb(0), z)}),
    "sigmoid": Form({"z": ("mn", False)}, lambda z: {"s": _map(lambda v: 1 / (1 + (-v).exp()), z)}),
    "softmax": Form({"z": ("mn", False)}, lambda z: {"a": _softmax(z)}),
    "softmax_cross_entropy": Form({"z": ("mn", False), "y": ("mn", True)}, _of_logits),
    "softmax_vjp": Form({"z": ("mn", False)}, lambda z: {"a": _softmax(z)}),
    "transpose": Form(
        {"x": ("mn", False)}, lambda x: {"t": {(q, p): v for (p, q), v in x.items()}}
    ),
    "weighted_sum": Form(
        {"x": ("mn", False), "w": ("no", False), "b": ("o", False)},
        lambda x, w, b: {"z": _weighted_sum(x, w, b)},
    ),
}


# ---------------------------------------------------------------------- the judge


class Judge:
    """Decides by brute force which expressions are the derivative of a spec.

    Args:
        name: The spec's.
        seed: Of the points.
    """

    def __init__(self, name: str, seed: int = 0) -> None:
        self.form = FORMS[name]
        self.chance = random.Random(f"{name} {seed}")
        with flint.ctx.workprec(BITS):
            self.points = [self._point(sizes) for sizes in SHAPES]
        self._true: dict[tuple[int, str, str], Tensor] = {}

    def _point(self, sizes: dict[str, int]) -> dict[str, Tensor]:
        return {n: self._tensor(axes, rows, sizes) for n, (axes, rows) in self.form.inputs.items()}

    def _tensor(self, axes: str, rows: bool, sizes: dict[str, int]) -> Tensor:
        """Random rationals of both signs, or of rows that sum to 1."""
        places = list(itertools.product(*(range(sizes[a]) for a in axes)))
        if not rows:
            signs = {k: (-1) ** i for i, k in enumerate(places)}
            return {k: arb(signs[k] * self.chance.randint(100, 2000)) / 997 for k in places}
        weights = {k: self.chance.randint(100, 2000) for k in places}
        total = [sum(v for k, v in weights.items() if k[0] == p) for p in range(sizes[axes[0]])]
        return {k: arb(v) / total[k[0]] for k, v in weights.items()}

    def equivalent(self, claim: Claim, expression: Expression) -> bool:
        """Whether a claim is the derivative at all three shapes."""
        with flint.ctx.workprec(BITS):
            return all(self._agrees(i, claim, expression) for i in range(len(SHAPES)))

    def _agrees(self, i: int, claim: Claim, expression: Expression) -> bool:
        true = self._derivative(i, claim.output, claim.input)
        operands = {**self.points[i], **self.form.forward(**self.points[i])}
        for place, slope in true.items():
            claimed = value_at(expression, place, operands, SHAPES[i])
            if claimed is None:
                return False
            gap = abs(claimed - slope)
            if gap > DIFFERENT:
                return False
            assert gap < SAME, f"neither equal nor different: {gap}"
        return True

    def _derivative(self, i: int, output: str, name: str) -> Tensor:
        """Central differences of one input's entries; of an intermediate's own forward never."""
        key = (i, output, name)
        if key not in self._true:
            found: Tensor = {}
            for place in self.points[i][name]:
                up, down = (self._moved(i, name, place, h)[output] for h in (STEP, -STEP))
                for k in up:
                    found[(*k, *place)] = (up[k] - down[k]) / (2 * arb(STEP))
            self._true[key] = found
        return self._true[key]

    def _moved(self, i: int, name: str, place: Place, by: float) -> dict[str, Tensor]:
        point = dict(self.points[i])
        point[name] = {**point[name], place: point[name][place] + arb(by)}
        return self.form.forward(**point)


def value_at(
    expression: Expression, place: Place, operands: dict[str, Tensor], sizes: dict[str, int]
) -> arb | None:
    """One entry of an expression, summed letter by letter; None where it is undefined."""
    total = arb(0)
    for term in expression.terms:
        free = dict(zip(expression.output, place, strict=True))
        bound = [s for s in dict.fromkeys([*term.axes, *term.letters()]) if s not in free]
        number = arb(term.coefficient.numerator) / term.coefficient.denominator
        for axis, power in term.sizes:
            number *= arb(sizes[axis]) ** int(power)
        for values in itertools.product(*(range(sizes[term.axes[s]]) for s in bound)):
            letters = {**free, **dict(zip(bound, values, strict=True))}
            product = _product(term, letters, operands)
            if product is None:
                return None
            total += number * product
    return total


def _product(term: Term, letters: dict[str, int], operands: dict[str, Tensor]) -> arb | None:
    # A factor that is undefined makes the term so, where a delta is 0 too.
    result = arb(1)
    for factor in term.factors:
        value = _factor(factor, letters, operands)
        if value is None:
            return None
        result *= value
    return result if all(letters[a] == letters[b] for a, b in term.deltas) else arb(0)


def _factor(factor: Factor, letters: dict[str, int], operands: dict[str, Tensor]) -> arb | None:
    value = operands[factor.name][tuple(letters[s] for s in factor.letters)]  # type: ignore[index]
    if factor.function is not None:
        assert factor.function == "step", "no other function stands in a bundled claim"
        value = arb(1 if value > 0 else 0)
    if factor.power < 0 and value == 0:
        return None
    return value ** int(factor.power)
