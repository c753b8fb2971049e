"""One number of a run in balls: its value, its derivatives, and whether it varies at all.

A ball (`arb`) holds the exact real number. What cannot be computed at the point is a `Trouble` of
that entry alone, which spreads to whatever depends on it: an unselected branch of `where` may be
undefined, as in mathematics. Entries are never multiplied by masks, since 0 · undefined is undefined.
"""

from __future__ import annotations

import functools
from enum import IntEnum
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from flint import arb, fmpq

if TYPE_CHECKING:
    from collections.abc import Iterable

Tangent = dict[int, arb]


class Trouble(IntEnum):
    """Why an entry has no value; of several, the largest is reported."""

    NONE = 0
    UNKNOWN = 1  # the balls are too wide to tell; a higher precision may
    STRADDLES = 2  # a tie, or a branch that the balls leave open
    ISOLATED = 3  # undefined at this point, where a varying number is exactly 0
    UNDEFINED = 4  # certainly undefined here and at all points nearby


class Entry:
    """A number that depends on the inputs.

    Attributes:
        value: The ball; meaningless where there is trouble.
        tangent: The derivative in each direction on which the entry may depend.
        moves: Whether it may vary with any input of real numbers. What does not move (a literal, a
            mask, the 0 of a relu below 0) keeps its value in a whole neighbourhood.
        trouble: Why it has no value.
    """

    __slots__ = ("moves", "tangent", "trouble", "value")

    def __init__(
        self,
        value: Any,
        tangent: Tangent | None = None,
        moves: bool = False,
        trouble: Trouble = Trouble.NONE,
    ) -> None:
        self.value = value
        self.tangent: Tangent = {} if tangent is None else tangent
        self.moves = moves
        self.trouble = trouble

    def still(self) -> Entry:
        """The same number without its derivatives."""
        return Entry(self.value, None, self.moves, self.trouble) if self.tangent else self


def troubled(trouble: Trouble) -> Entry:
    """An entry without a value."""
    return Entry(None, None, True, trouble)


def worst(*entries: Entry) -> Entry:
    """The trouble that a result inherits."""
    return troubled(max(e.trouble for e in entries))


# The significant digits up to which a float is read as a decimal that somebody wrote.
_WRITTEN = 12
# How well a longer float is known: it is the outcome of rounded operations that nobody recorded.
_ROUNDED = 2.0**-33


def literal(x: Any) -> arb:
    """A Python number as a ball: 0.1 is 1/10; a float with many digits is only known roughly."""
    if isinstance(x, Fraction):
        return rational(x)
    if not isinstance(x, float):
        return arb(int(x))
    if x != x or x in (float("inf"), float("-inf")):
        return arb(x)
    text = repr(x)
    digits = text.partition("e")[0].replace(".", "").lstrip("-0").rstrip("0")
    decimal = Fraction(text)
    if len(digits) <= _WRITTEN or decimal == Fraction(x):
        return rational(decimal)
    return arb(x, abs(x) * _ROUNDED)


def rational(x: Fraction) -> arb:
    """The smallest ball around a rational number at this precision."""
    if x.denominator == 1:
        return arb(x.numerator)
    return arb(fmpq(x.numerator, x.denominator))


def is_infinite(x: arb) -> bool:
    """Whether the ball is exactly +∞ or -∞, as the -inf of a mask is."""
    return bool(x.is_exact()) and not x.is_finite()


def _undefined(*operands: Entry) -> Entry:
    """∞ - ∞, 0 · ∞ and the like; an overflow of finite numbers is only not known."""
    certain = not any(e.moves for e in operands) and any(is_infinite(e.value) for e in operands)
    return troubled(Trouble.UNDEFINED if certain else Trouble.UNKNOWN)


# ------------------------------------------------------------------ tangents


def plus(first: Tangent, second: Tangent) -> Tangent:
    """The sum of two tangents."""
    if not first or not second:
        return first or second
    out = dict(first)
    for k, v in second.items():
        out[k] = out[k] + v if k in out else v
    return out


def scaled(tangent: Tangent, factor: arb) -> Tangent:
    """A tangent times a number."""
    return {k: v * factor for k, v in tangent.items()}


# ------------------------------------------------------------------ arithmetic


def negative(x: Entry) -> Entry:
    """-x."""
    if x.trouble:
        return x
    return Entry(-x.value, {k: -v for k, v in x.tangent.items()}, x.moves)


def add(x: Entry, y: Entry) -> Entry:
    """X + y."""
    if x.trouble or y.trouble:
        return worst(x, y)
    value = x.value + y.value
    if not value.is_finite():
        value = _infinite_sum(x.value, y.value)
        if value is None:
            return _undefined(x, y)
    return Entry(value, plus(x.tangent, y.tangent), x.moves or y.moves)


def _infinite_sum(x: arb, y: arb) -> arb | None:
    if is_infinite(x):
        return x if y.is_finite() or x == y else None
    return y if is_infinite(y) and x.is_finite() else None


def subtract(x: Entry, y: Entry) -> Entry:
    """X - y."""
    return add(x, negative(y))


def multiply(x: Entry, y: Entry) -> Entry:
    """X · y; a 0 that does not move stays one."""
    if x.trouble or y.trouble:
        return worst(x, y)
    value = x.value * y.value
    if not value.is_finite():
        value = _infinite_product(x.value, y.value)
        if value is None:
            return _undefined(x, y)
    if (x.value.is_zero() and not x.moves) or (y.value.is_zero() and not y.moves):
        return Entry(value)
    tangent = plus(scaled(x.tangent, y.value), scaled(y.tangent, x.value))
    return Entry(value, tangent, x.moves or y.moves)


def _infinite_product(x: arb, y: arb) -> arb | None:
    if not (is_infinite(x) or is_infinite(y)) or x.contains(0) or y.contains(0):
        return None
    return arb("inf") if (x > 0) == (y > 0) else arb("-inf")


def divide(x: Entry, y: Entry) -> Entry:
    """X / y."""
    if x.trouble or y.trouble:
        return worst(x, y)
    if y.value.contains(0):
        return _no_quotient(y)
    value = x.value / y.value
    if not value.is_finite():
        value = _infinite_product(x.value, y.value) if is_infinite(x.value) else None
        if value is None:
            return _undefined(x, y)
    if x.value.is_zero() and not x.moves:
        return Entry(value)
    tangent = plus(x.tangent, scaled(y.tangent, -value)) if y.tangent else x.tangent
    return Entry(value, {k: v / y.value for k, v in tangent.items()}, x.moves or y.moves)


def _no_quotient(y: Entry) -> Entry:
    if not y.value.is_zero():
        return troubled(Trouble.UNKNOWN)
    return troubled(Trouble.ISOLATED if y.moves else Trouble.UNDEFINED)


def power(x: Entry, y: Entry) -> Entry:
    """X to the power y: by products where y is a whole number that does not move."""
    if x.trouble or y.trouble:
        return worst(x, y)
    whole = None if y.tangent else y.value.unique_fmpz()
    if whole is not None and y.value.is_exact():
        return _whole_power(x, int(whole))
    if x.value > 0:
        return _positive_power(x, y)
    if x.value.is_zero():
        return _power_of_zero(x, y)
    if x.value < 0 and not y.value.contains_integer():
        return troubled(Trouble.UNDEFINED)
    return troubled(Trouble.UNKNOWN)


def _whole_power(x: Entry, n: int) -> Entry:
    if n < 0:
        return divide(Entry(arb(1)), _whole_power(x, -n))
    if n == 0:
        return Entry(arb(1))
    value = x.value**n
    if not value.is_finite():
        return _undefined(x)
    tangent = scaled(x.tangent, n * x.value ** (n - 1)) if x.tangent else None
    return Entry(value, tangent, x.moves)


def _positive_power(x: Entry, y: Entry) -> Entry:
    value = x.value**y.value
    if not value.is_finite():
        return _undefined(x, y)
    tangent = scaled(x.tangent, y.value * value / x.value) if x.tangent else {}
    if y.tangent:
        tangent = plus(tangent, scaled(y.tangent, value * x.value.log()))
    return Entry(value, tangent, x.moves or y.moves)


def _power_of_zero(x: Entry, y: Entry) -> Entry:
    """0 to a positive power is 0; its derivative, where 0 is the edge of the domain, is not asked."""
    if y.value > 0 and not x.tangent:
        return Entry(arb(0), None, x.moves)
    return troubled(Trouble.ISOLATED if x.moves else Trouble.UNDEFINED)


def total(entries: Iterable[Entry]) -> Entry:
    """The sum of many."""
    value, moves = arb(0), False
    tangent: Tangent = {}
    kept = list(entries)
    for e in kept:
        if e.trouble:
            return worst(*kept)
        value = value + e.value
        moves = moves or e.moves
        for k, v in e.tangent.items():
            tangent[k] = tangent[k] + v if k in tangent else v
    if not value.is_finite():
        return functools.reduce(add, kept, Entry(arb(0)))
    return Entry(value, tangent, moves)


# ------------------------------------------------------------------ decisions


def order(x: Entry, y: Entry) -> int | None:
    """1, 0 or -1 as x is larger than, equal to or smaller than y nearby; None where that is open.

    Equal are one entry and itself, and equal numbers that do not move: there a branch is the same in
    a whole neighbourhood. An exact tie of numbers that move is open.
    """
    if x.trouble or y.trouble:
        return None
    if x is y:
        return 0
    if x.value > y.value:
        return 1
    if x.value < y.value:
        return -1
    return 0 if not (x.moves or y.moves) and x.value == y.value else None


def largest(entries: list[Entry], sign: int = 1) -> Entry:
    """The entry that is certainly the largest (smallest with sign -1), itself."""
    if not entries:
        return troubled(Trouble.UNDEFINED)
    best = entries[0]
    if any(e.trouble for e in entries):
        return worst(*entries)
    for e in entries[1:]:
        low, high = (best, e) if sign > 0 else (e, best)
        if high.value.mid() > low.value.mid():
            best = e
    for e in entries:
        known = order(best, e)
        if known is None or sign * known < 0:
            return troubled(Trouble.STRADDLES)
    return best
