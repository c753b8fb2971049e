"""The derivative of one operand f(u)**k by its entry u, from the table of axioms.

The power rule gives k f(u)**(k-1) f'(u), and f' comes from `gradcheck.axioms`, read on sums of powers of
functions of u: the rules are not written down a second time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from gradcheck.algebra.terms import FUNCTIONS, Factor
from gradcheck.axioms import RULES
from gradcheck.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

# A product of powers of functions of u, by function (None is u itself).
Monomial = tuple[tuple[str | None, Fraction], ...]

# Functions whose rule in the table holds where their argument is not 0.
KINKED = ("abs", "sign", "step")


class _NoOperandError(Exception):
    """A rule needs something that the notation has no operand for."""


@dataclass(frozen=True)
class _Sum:
    """A sum of monomials in functions of one u: what a rule of the table is read on."""

    terms: tuple[tuple[Monomial, Fraction], ...]

    def __add__(self, other: object) -> _Sum:
        totals = dict(self.terms)
        for monomial, c in _sum(other).terms:
            totals[monomial] = totals.get(monomial, Fraction(0)) + c
        return _Sum(tuple((m, c) for m, c in totals.items() if c))

    __radd__ = __add__

    def __mul__(self, other: object) -> _Sum:
        total = _Sum(())
        for m, c in self.terms:
            for n, d in _sum(other).terms:
                total = total + _Sum(((_times(m, n), c * d),) if c * d else ())
        return total

    __rmul__ = __mul__

    def __neg__(self) -> _Sum:
        return self * -1

    def __sub__(self, other: object) -> _Sum:
        return self + -_sum(other)

    def __rsub__(self, other: object) -> _Sum:
        return _sum(other) - self

    def __truediv__(self, other: object) -> _Sum:
        divisor = _sum(other).terms
        if len(divisor) != 1:
            raise _NoOperandError
        ((monomial, c),) = divisor
        return self * _Sum(((tuple((f, -p) for f, p in monomial), 1 / c),))

    def __rtruediv__(self, other: object) -> _Sum:
        return _sum(other) / self


def _times(left: Monomial, right: Monomial) -> Monomial:
    powers = dict(left)
    for function, power in right:
        powers[function] = powers.get(function, Fraction(0)) + power
    kept = [(f, p) for f, p in powers.items() if p]
    return tuple(sorted(kept, key=lambda item: item[0] or ""))


def _sum(value: object) -> _Sum:
    if isinstance(value, _Sum):
        return value
    if not isinstance(value, int | Fraction):
        raise _NoOperandError
    return _Sum((((), Fraction(value)),) if value else ())


def _of_u(function: str | None) -> _Sum:
    return _Sum(((((function, Fraction(1)),), Fraction(1)),))


class _Rules:
    """The `xp` of the table's rules: a function of u is a symbol, of anything else no operand."""

    def __getattr__(self, name: str) -> object:
        if name not in FUNCTIONS:
            raise _NoOperandError

        def function(x: object) -> _Sum:
            if x != _of_u(None):
                raise _NoOperandError
            return _of_u(name)

        return function


def slopes(factor: Factor) -> Iterator[tuple[Fraction, tuple[Factor, ...]]]:
    """∂f(u)**k/∂u as a sum: for each term its coefficient and its factors.

    Args:
        factor: `f(u)[letters] ** k`.

    Raises:
        UsageError: Where f' is no sum of operands (the derivative of erf), saying what to write.
    """
    bare = replace(factor, function=None, power=Fraction(1))
    outer = () if factor.power == 1 else (replace(factor, power=factor.power - 1),)
    for monomial, c in _derivative(factor).terms:
        inner = tuple(replace(bare, function=f, power=p) for f, p in monomial)
        yield factor.power * c, (*outer, *inner)


def _derivative(factor: Factor) -> _Sum:
    if factor.function is None:
        return _sum(1)
    try:
        rule = RULES[factor.function]
        return _sum(rule(_Rules(), _of_u(None), _of_u(factor.function)))
    except _NoOperandError:
        shown = f"{factor.function}({factor.name})"
        raise UsageError(
            f"the derivative of {shown} has no operand; return {shown} from the forward as a residual "
            'output r, claim its derivative as jacobian["r", ...], and write r where it stands'
        ) from None
