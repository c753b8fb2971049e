"""Giving each letter its axis: an expression as written meets the shapes of a spec.

Hypothesis H2 of every later verdict is checked here: one axis a letter, and a delta joins one axis.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING

from gradcheck.algebra.shapes import base_axis, is_broadcast, is_number
from gradcheck.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradcheck.algebra.terms import Expression, Factor, Term


@dataclass(frozen=True)
class Scope:
    """What an expression may mention: names with their shapes, without leading `...` axes.

    Attributes:
        shapes: The axes of each operand.
        one_hot: For integer labels, the axis of the extra letter that makes them one-hot.
        axes: The axes whose sizes may be coefficients.
    """

    shapes: Mapping[str, tuple[str, ...]]
    one_hot: Mapping[str, str] = field(default_factory=dict)
    axes: frozenset[str] = frozenset()

    def of(self, name: str, letters: int) -> tuple[str, ...]:
        """The axes of an operand that stands with that many letters."""
        shape = self.shapes[name]
        if name in self.one_hot and letters == len(shape) + 1:
            return (*shape, self.one_hot[name])
        return shape


def bind(
    expression: Expression,
    output: tuple[tuple[str, tuple[str, ...]], ...],
    scope: Scope,
) -> Expression:
    """The expression with the axis of every letter known.

    Args:
        expression: As the user wrote it.
        output: Names and shapes of the tensors whose letters the output letters are, in order:
            for ∂a/∂z the output, then the input.
        scope: The operands.

    Raises:
        SpecError: Pointing at the letter: a wrong number of output letters, an unknown operand, a
            wrong number of letters for an operand, one letter on axes that differ, a delta between
            axes that differ.
    """
    expected = [(name, axis) for name, shape in output for axis in shape]
    if len(expression.output) != len(expected):
        raise _wrong_output(expression, output)
    terms = tuple(_bind_term(t, expression.output, expected, scope) for t in expression.terms)
    title = tuple((name, len(shape)) for name, shape in output)
    return replace(expression, terms=terms, title=title)


def _wrong_output(
    expression: Expression, output: tuple[tuple[str, tuple[str, ...]], ...]
) -> SpecError:
    parts = " and then ".join(
        f"{len(shape)} for {name} (shape {' '.join(shape)!r})" for name, shape in output
    )
    total = sum(len(shape) for _, shape in output)
    letters = "".join(expression.output)
    return SpecError(
        f"the term ends in '->{letters}', which has {len(letters)} letters where {total} are needed",
        hint=f"output letters are {parts}",
        location=expression.terms[0].location if expression.terms else None,
    )


def _bind_term(
    term: Term, output: tuple[str, ...], expected: list[tuple[str, str]], scope: Scope
) -> Term:
    try:
        axes = {s: (axis, name) for s, (name, axis) in zip(output, expected, strict=True)}
        for factor in term.factors:
            _bind_factor(factor, axes, scope, output)
        _bind_deltas(term, axes)
        _check_sizes(term, scope)
    except SpecError as error:
        raise error.within(location=term.location) from None
    return replace(term, axes={s: axis for s, (axis, _) in axes.items()})


def _bind_factor(
    factor: Factor, axes: dict[str, tuple[str, str]], scope: Scope, output: tuple[str, ...]
) -> None:
    if factor.name not in scope.shapes:
        near = get_close_matches(factor.name, scope.shapes, n=1)
        guess = f"did you mean {near[0]!r}? " if near else ""
        raise SpecError(
            f"unknown operand {factor.name!r}",
            hint=f"{guess}Operands are inputs, parameters and outputs: {', '.join(scope.shapes)}",
        )
    shape = scope.of(factor.name, len(factor.letters))
    if len(shape) != len(factor.letters):
        raise _wrong_count(factor, shape, scope)
    for letter, axis in zip(factor.letters, shape, strict=True):
        if letter is None:
            continue
        known, owner = axes.get(letter, (axis, factor.name))
        if not compatible(known, axis):
            raise SpecError(
                f"the letter {letter!r} stands on axis {known!r} of {owner} and on axis {axis!r} of "
                f"{factor.name}",
                hint=f"{factor.name} has shape {' '.join(shape)!r}; give it letters of these axes",
            )
        # A summed letter on axes n and #n runs over n, whichever comes first, and reads the broadcast
        # tensor along it; that of an output has the output's axis.
        narrow = known.startswith("?") or (is_broadcast(known) and letter not in output)
        axes[letter] = (axis if narrow else known, owner)


def _wrong_count(factor: Factor, shape: tuple[str, ...], scope: Scope) -> SpecError:
    letters = "".join(s or "·" for s in factor.letters)
    takes = "no letters" if not shape else f"{len(shape)} letter{'' if len(shape) == 1 else 's'}"
    extra = " (or one more, as its one-hot tensor)" if factor.name in scope.one_hot else ""
    return SpecError(
        f"the operand {factor.name!r} is given the letters {letters!r}",
        hint=f"{factor.name} has shape {' '.join(shape)!r}, so it takes {takes}{extra}",
    )


def _bind_deltas(term: Term, axes: dict[str, tuple[str, str]]) -> None:
    for _ in term.deltas:  # a delta may give its axis to a letter that only another delta has
        for a, b in term.deltas:
            if a in axes and b not in axes:
                axes[b] = axes[a]
            if b in axes and a not in axes:
                axes[a] = axes[b]
    for a, b in term.deltas:
        if a not in axes or b not in axes:
            raise SpecError(
                f"the delta on {a!r} and {b!r} joins letters that stand nowhere else",
                hint="a sum over a delta alone is the size of its axis: ... * size('n')",
            )
        (first, owner), (second, other) = axes[a], axes[b]
        if not compatible(first, second):
            raise SpecError(
                f"a delta joins {a!r}, on axis {first!r} of {owner}, and {b!r}, on axis {second!r} "
                f"of {other}",
                hint="a Kronecker delta joins letters of one axis",
            )


def _check_sizes(term: Term, scope: Scope) -> None:
    for axis, _ in term.sizes:
        if axis not in scope.axes:
            near = ", ".join(sorted(a for a in scope.axes if not is_number(a))) or "none"
            raise SpecError(
                f"size({axis!r}) names no axis", hint=f"the axes of this spec are: {near}"
            )


def compatible(first: str, second: str) -> bool:
    """Whether one letter may stand on both axes: equal, or one of them n and the other #n."""
    if first.startswith("?") or second.startswith("?"):
        return True
    return base_axis(first) == base_axis(second)
