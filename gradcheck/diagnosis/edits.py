"""Every single edit of a term: letters, deltas, powers, operands, factors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import combinations, combinations_with_replacement, product
from typing import TYPE_CHECKING

from gradcheck.algebra.binding import compatible
from gradcheck.algebra.shapes import DOTS, base_axis
from gradcheck.algebra.terms import FUNCTIONS, Factor, Term, free_alphabet

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gradcheck.operation import Operation

# Which kinds are tried first where several edits are equally small.
ORDER = (
    "sign", "factor", "transposed", "wrong-letter", "missing-delta", "extra-delta", "wrong-power",
    "wrong-operand", "extra-term", "missing-term",
)  # fmt: skip
_MOST_ADDED = 400
_MOST_NEW = 1500


@dataclass(frozen=True)
class TermEdit:
    """A term in place of another: its new shape, what kind of error that mends, how much it changes."""

    kind: str
    term: Term
    cost: int = 1


@dataclass(frozen=True)
class Vocabulary:
    """What a term may be made of.

    Attributes:
        shapes: The axes of each operand, of one slice.
        output: The output letters with their axes.
    """

    shapes: Mapping[str, tuple[str, ...]]
    output: Mapping[str, str]


def vocabulary(operation: Operation, output: Mapping[str, str]) -> Vocabulary:
    """The operands of an operation, without leading axes, labels as one-hot tensors too."""
    shapes = {
        name: tuple(d for d in shape if d != DOTS) for name, shape in operation.shapes.items()
    }
    for name, parameter in operation.params.items():
        if parameter.kind == "choice":  # a word, not a number
            shapes.pop(name, None)
    for name, axis in operation.one_hot.items():
        shapes[name] = (*shapes[name], axis)
    return Vocabulary(shapes, output)


def term_edits(term: Term, words: Vocabulary) -> Iterator[TermEdit]:
    """Each single edit of a term but those of its coefficient; its deltas and letters stay bound."""
    yield from _letter_edits(term, words)
    yield from _delta_edits(term)
    yield from _factor_edits(term, words)
    yield from _added_factors(term, words)


def settled(term: Term, output: Mapping[str, str]) -> Term:
    """The term without axes of letters that no longer occur: a letter that is gone is not summed."""
    used = {*output, *term.letters()}
    return replace(term, axes={s: axis for s, axis in term.axes.items() if s in used})


# ---------------------------------------------------------------------- letters


def _same_axis(term: Term, axis: str, words: Vocabulary, *, but: str | None = None) -> list[str]:
    """The letters of an axis that a term may use: its own, the output's, and a summed one."""
    axes = {**words.output, **term.axes}
    found = [s for s, a in axes.items() if s != but and compatible(a, axis)]
    return [*found, next(free_alphabet([*axes]))]


def _with_letter(term: Term, letter: str, axis: str) -> Term:
    return term if letter in term.axes else replace(term, axes={**term.axes, letter: axis})


def _letter_edits(term: Term, words: Vocabulary) -> Iterator[TermEdit]:
    for i, factor in enumerate(term.factors):
        for k, letter in enumerate(factor.letters):
            if letter is None or letter not in term.axes:
                continue
            axis = term.axes[letter]
            for other in _same_axis(term, axis, words, but=letter):
                letters = (*factor.letters[:k], other, *factor.letters[k + 1 :])
                changed = _replaced(term, i, replace(factor, letters=letters))
                yield TermEdit("wrong-letter", _with_letter(changed, other, axis))
        for j, k in combinations(range(len(factor.letters)), 2):
            swapped = list(factor.letters)
            swapped[j], swapped[k] = swapped[k], swapped[j]
            if swapped[j] != swapped[k] and _alike(term, swapped[j], swapped[k]):
                yield TermEdit(
                    "transposed", _replaced(term, i, replace(factor, letters=tuple(swapped)))
                )


def _alike(term: Term, first: str | None, second: str | None) -> bool:
    if first is None or second is None:
        return False
    return base_axis(term.axes.get(first, "")) == base_axis(term.axes.get(second, "?"))


def _replaced(term: Term, index: int, *factors: Factor) -> Term:
    return replace(term, factors=(*term.factors[:index], *factors, *term.factors[index + 1 :]))


# ---------------------------------------------------------------------- deltas


def _delta_edits(term: Term) -> Iterator[TermEdit]:
    for i, (a, b) in enumerate(term.deltas):
        before, after = term.deltas[:i], term.deltas[i + 1 :]
        yield TermEdit("extra-delta", replace(term, deltas=(*before, *after)))
        for kept, moved in ((a, b), (b, a)):
            for other in term.axes:
                if other in (kept, moved) or not compatible(
                    term.axes[other], term.axes.get(moved, "?")
                ):
                    continue
                pair = (kept, other) if kept == a else (other, kept)
                yield TermEdit("wrong-letter", replace(term, deltas=(*before, pair, *after)))
    known = {frozenset(pair) for pair in term.deltas}
    for a, b in combinations(term.axes, 2):
        if compatible(term.axes[a], term.axes[b]) and frozenset((a, b)) not in known:
            yield TermEdit("missing-delta", replace(term, deltas=(*term.deltas, (a, b))))


# ---------------------------------------------------------------------- factors


def _factor_edits(term: Term, words: Vocabulary) -> Iterator[TermEdit]:
    for i, factor in enumerate(term.factors):
        if factor.name.startswith("d("):
            continue  # a vjp is linear in its cotangent
        yield TermEdit("wrong-power", _replaced(term, i))
        for power in _other_powers(factor.power):
            yield TermEdit("wrong-power", _replaced(term, i, replace(factor, power=power)))
        for other in _other_operands(factor, words):
            yield TermEdit("wrong-operand", _replaced(term, i, other))


def _other_powers(power: Fraction) -> list[Fraction]:
    half = Fraction(1, 2)
    found = [
        power + 1,
        power - 1,
        -power,
        power * 2,
        power / 2,
        power + 2,
        power - 2,
        power + half,
        power - half,
    ]
    return [p for p in dict.fromkeys(found) if p and p != power]


def _other_operands(factor: Factor, words: Vocabulary) -> Iterator[Factor]:
    """Another tensor of the same axes, or another function of the same one."""
    shape = words.shapes.get(factor.name, ())
    for name, other in words.shapes.items():
        if name != factor.name and other == shape:
            yield replace(factor, name=name)
    for function in (None, *FUNCTIONS):
        if function != factor.function:
            yield replace(factor, function=function)


def _added_factors(term: Term, words: Vocabulary) -> Iterator[TermEdit]:
    """The term times one more tensor, or one more inverse."""
    count = 0
    for name, shape in words.shapes.items():
        fresh = free_alphabet([*words.output, *term.axes])
        choices = [
            [*(s for s in term.axes if compatible(term.axes[s], axis)), next(fresh)]
            for axis in shape
        ]
        for letters in product(*choices):
            axes = {**dict(zip(letters, shape, strict=True)), **term.axes}
            for power in (Fraction(1), Fraction(-1)):
                count += 1
                if count > _MOST_ADDED:
                    return
                factor = Factor(name, letters, power)
                factors = (*term.factors, factor)
                yield TermEdit("wrong-power", replace(term, factors=factors, axes=axes))


# ---------------------------------------------------------------------- whole terms


def new_terms(words: Vocabulary) -> Iterator[Term]:
    """Terms of at most two tensors, beside deltas between output letters."""
    axes = dict(words.output)
    factors = [
        Factor(name, tuple(letters))
        for name, shape in words.shapes.items()
        for letters in product(*([s for s in axes if compatible(axes[s], a)] for a in shape))
    ]
    pairs = [p for p in combinations(axes, 2) if compatible(axes[p[0]], axes[p[1]])]
    count = 0
    for size in (0, 1, 2):
        for chosen in combinations_with_replacement(factors, size):
            for deltas in _subsets(pairs):
                count += 1
                if count > _MOST_NEW:
                    return
                yield Term(factors=chosen, deltas=deltas, axes=axes)


def _subsets(pairs: list[tuple[str, str]]) -> Iterator[tuple[tuple[str, str], ...]]:
    for size in range(min(2, len(pairs)) + 1):
        yield from combinations(pairs, size)
