"""The way users write terms: `einsum("pq,pr,qs->pqrs", "a", delta, delta)`."""

from __future__ import annotations

import re
from dataclasses import replace
from difflib import get_close_matches
from fractions import Fraction

from gradcheck.algebra.source import assigned_name, caller
from gradcheck.algebra.terms import FUNCTIONS, Expression, Factor, Size, Term, free_alphabet
from gradcheck.errors import Location, SpecError


class _Marker:
    """An operand that is no tensor: a Kronecker delta, or a tensor of ones."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


delta = _Marker("delta")
"""The Kronecker delta: 1 where its two letters are equal, else 0."""

ones = _Marker("ones")
"""A tensor of ones: carries output letters that no other operand has."""

_OPERAND = re.compile(
    r"^\s*(?:(?P<function>[^\W\d]\w*)\s*\(\s*(?P<argument>[^\W\d]\w*)\s*\)|(?P<name>[^\W\d]\w*))"
    r"\s*(?:\*\*\s*(?P<open>\()?\s*(?P<power>[-+]?\s*\d+(?:\s*/\s*0*[1-9]\d*|\.\d+)?)\s*(?(open)\)))?\s*$"
)


def size(axis: str) -> Size:
    """The size of an axis, to multiply or divide a term by.

    For example `einsum("pq->pq", "a") / size("m")`.

    Raises:
        SpecError: Where `axis` is not the name of an axis.
    """
    if not isinstance(axis, str) or not axis.isidentifier():
        raise SpecError(
            f"size({axis!r}) does not name an axis",
            hint='write size("m"); numbers stand as they are',
        ).within(location=caller())
    return Size(powers=((axis, Fraction(1)),))


def einsum(pattern: str, *operands: object) -> Expression:
    """One term of a hand-derived derivative, in the notation of `numpy.einsum`.

    Args:
        pattern: Letters of each operand, separated by commas, then `->` and the letters of the
            output. For a Jacobian these are the output's letters followed by the input's.
        operands: An input or output by name, `"a**k"` with rational k (all that follows `**` is
            the exponent: `"a**-1/2"` is `"a**(-1/2)"`, one over the root of a), `"f(a)"` with f one
            of exp, log, sqrt, sigmoid, tanh, erf, abs, sign, step; `delta`; `ones`; or another
            expression, whose output letters are renamed to the ones given.

    Returns:
        An expression of one term (of several, where an operand is an expression).

    Raises:
        SpecError: Naming file, spec and letter, where the pattern cannot be read, the number of
            operands differs from it, or an output letter occurs in no operand.
    """
    location = caller()
    try:
        return _parse(pattern, operands, location)
    except SpecError as error:
        raise error.within(spec=assigned_name(location), location=location) from None


def _parse(pattern: str, operands: tuple[object, ...], location: Location | None) -> Expression:
    groups, output = _split(pattern, len(operands))
    _check_output(pattern, groups, output)
    terms = [Term(location=location)]
    for letters, operand in zip(groups, operands, strict=True):
        terms = _times(terms, operand, tuple(letters), {*"".join(groups), *output}, pattern)
    carried = {s for g, o in zip(groups, operands, strict=True) if o is ones for s in g}
    _check_carried(pattern, carried, terms, output)
    return Expression(tuple(output), tuple(terms))


def _split(pattern: object, count: int) -> tuple[list[str], str]:
    if not isinstance(pattern, str):
        raise SpecError(
            f"the first argument of einsum is a pattern, not {pattern!r}",
            hint='write einsum("pq,pr->pqr", "a", delta)',
        )
    text = pattern.replace(" ", "")
    if text.count("->") != 1:
        raise SpecError(
            f"the pattern {pattern!r} needs one '->' before its output letters",
            hint="write the letters of each operand, then '->', then the letters of the output",
        )
    left, output = text.split("->")
    if "." in text:
        raise SpecError(
            f"the pattern {pattern!r} holds '...'",
            hint="write the derivative of one slice; leading axes are added by the shape '... n'",
        )
    bad = [s for s in left.replace(",", "") + output if not s.isalpha()]
    if bad:
        raise SpecError(
            f"{bad[0]!r} in the pattern {pattern!r} is not a letter",
            hint="index letters are single letters, such as p, q, r, s",
        )
    groups = left.split(",") if count or left else []
    if len(groups) != count:
        groups_text = "one group" if len(groups) == 1 else f"{len(groups)} groups"
        raise SpecError(
            f"the pattern {pattern!r} has {groups_text} of letters for {count} "
            f"operand{'' if count == 1 else 's'}",
            hint="give each operand its letters, separated by commas (a scalar has none: 'pq,->pq')",
        )
    return groups, output


def _check_output(pattern: str, groups: list[str], output: str) -> None:
    for letter in output:
        if output.count(letter) > 1:
            raise SpecError(
                f"the output letter {letter!r} occurs twice in {pattern!r}",
                hint=f"use two letters and join them by a delta: '...,{letter}x->...{letter}x'",
            )
        if not any(letter in group for group in groups):
            near = sorted({s for g in groups for s in g} - set(output))
            instead = f"did you mean {near[-1]!r}? " if near else ""
            raise SpecError(
                f"the output letter {letter!r} of {pattern!r} occurs in no operand",
                hint=f"{instead}If the term does not depend on {letter!r}, carry it by ones: "
                f"einsum('...,{letter}->...', ..., ones)",
            )


def _check_carried(pattern: str, carried: set[str], terms: list[Term], output: str) -> None:
    for letter in sorted(carried - set(output)):
        if any(letter not in term.letters() for term in terms):
            raise SpecError(
                f"the letter {letter!r} of {pattern!r} is summed, but only ones carry it",
                hint="multiply by the size of its axis instead: ... * size('n')",
            )


def _times(
    terms: list[Term], operand: object, letters: tuple[str, ...], used: set[str], pattern: str
) -> list[Term]:
    """Each term times one operand; an operand that is a sum is multiplied out."""
    if operand is ones:
        return terms
    if operand is delta:
        if len(letters) != 2:
            raise SpecError(
                f"a delta of {pattern!r} has the letters {''.join(letters)!r}",
                hint="a Kronecker delta joins exactly two letters, such as 'pr'",
            )
        pair = (letters[0], letters[1])
        return [replace(t, deltas=(*t.deltas, pair)) for t in terms]
    if isinstance(operand, Expression):
        return [
            _joined(t, i) for t in terms for i in _renamed(operand, letters, used, terms, pattern)
        ]
    factor = _factor(operand, letters)
    return [replace(t, factors=(*t.factors, factor)) for t in terms]


def _joined(left: Term, right: Term) -> Term:
    product = left.scaled(Size(right.coefficient, right.sizes))
    return replace(
        product,
        factors=left.factors + right.factors,
        deltas=left.deltas + right.deltas,
        location=left.location or right.location,
    )


def _renamed(
    inner: Expression, letters: tuple[str, ...], used: set[str], terms: list[Term], pattern: str
) -> list[Term]:
    if len(letters) != len(inner.output):
        raise SpecError(
            f"the operand '->{''.join(inner.output)}' of {pattern!r} is given the letters "
            f"{''.join(letters)!r}",
            hint=f"an expression with {len(inner.output)} output letters takes as many",
        )
    fresh = iter(free_alphabet(used | {s for t in terms for s in t.letters()}))
    renamed = []
    for term in inner.terms:
        names = dict(zip(inner.output, letters, strict=True))
        names.update((s, next(fresh)) for s in term.letters() if s not in names)
        renamed.append(term.renamed(names))
    return renamed


def _factor(operand: object, letters: tuple[str, ...]) -> Factor:
    if not isinstance(operand, str):
        raise SpecError(
            f"{operand!r} is no operand",
            hint="name an input or output as text ('a', 'a**-1', 'exp(a)'), or use delta, ones or "
            "an einsum expression; numbers multiply the whole term: 2 * einsum(...)",
        )
    match = _OPERAND.match(operand)
    if match is None:
        raise SpecError(
            f"the operand {operand!r} cannot be read",
            hint="write 'a', 'a**k' with a rational k, or 'f(a)' with f one of "
            + ", ".join(FUNCTIONS),
        )
    power = Fraction((match["power"] or "1").replace(" ", ""))
    if match["function"] is None:
        return Factor(match["name"], letters, power)
    if match["function"] == "d":
        if power != 1:
            raise SpecError(
                f"the operand {operand!r} is not linear in the cotangent",
                hint=f"write 'd({match['argument']})' without a power",
            )
        return Factor(f"d({match['argument']})", letters)
    return Factor(match["argument"], letters, power, _function(match["function"], operand))


def _function(name: str, operand: str) -> str:
    if name in FUNCTIONS:
        return name
    near = get_close_matches(name, FUNCTIONS, n=1)
    guess = f"did you mean '{near[0]}'? " if near else ""
    raise SpecError(
        f"unknown function {name!r} in the operand {operand!r}",
        hint=f"{guess}Known are {', '.join(FUNCTIONS)}; anything else is returned by the forward as "
        "a residual output",
    )
