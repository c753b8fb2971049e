"""How large the numbers are that a random evaluation might miss: degrees and norms along the tape.

Every entry of an array is N / (c · Π Q^e): N a polynomial with integer coefficients, c a whole number
and Q, one for each division, the product of all entries that were divided by. Denominators are
thus shared, and a sum of many entries costs no more than one of two. This bounds what Theorem A of
the proof needs: the degree of the cleared numerator of a wrong entry and the sum of the absolute
values of its coefficients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, eq=False)
class Pole:
    """What one division put under the line: the product of the entries of the divisor."""

    degree: float
    norm: float


@dataclass(frozen=True)
class Bound:
    """On each entry of an array, as N / (scale · Π pole**exponent).

    Attributes:
        degree: Of N.
        norm: log2 of the sum of |coefficients| of N.
        scale: The whole number c.
        poles: The exponent of each pole.
    """

    degree: float = 0.0
    norm: float = 0.0
    scale: int = 1
    poles: dict[Pole, int] = field(default_factory=dict)

    def plus(self, other: Bound) -> Bound:
        """The bound of a sum or a difference, over the common denominator."""
        scale = self.scale if self.scale == other.scale else math.lcm(self.scale, other.scale)
        poles = self.poles
        if poles is not other.poles and poles != other.poles:
            poles = {**self.poles}
            for pole, power in other.poles.items():
                poles[pole] = max(power, poles.get(pole, 0))
        parts = [one._over(scale, poles) for one in (self, other)]
        return Bound(max(d for d, _ in parts), max(n for _, n in parts) + 1, scale, poles)

    def covers(self, other: Bound) -> bool:
        """Whether everything within the other bound is within this one."""
        if self.scale % other.scale or any(
            self.poles.get(p, 0) < e for p, e in other.poles.items()
        ):
            return False
        degree, norm = other._over(self.scale, self.poles)
        return degree <= self.degree and norm <= self.norm

    def _over(self, scale: int, poles: dict[Pole, int]) -> tuple[float, float]:
        """Degree and norm of N over a larger denominator."""
        degree, norm = self.degree, self.norm
        if scale != self.scale:
            norm += log2(scale // self.scale)
        if poles is not self.poles:
            for pole, power in poles.items():
                extra = power - self.poles.get(pole, 0)
                degree += extra * pole.degree
                norm += extra * pole.norm
        return degree, norm

    def times(self, other: Bound) -> Bound:
        """The bound of a product."""
        poles = self.poles or other.poles
        if self.poles and other.poles:
            poles = {**self.poles}
            for pole, power in other.poles.items():
                poles[pole] = poles.get(pole, 0) + power
        return Bound(
            self.degree + other.degree,
            self.norm + other.norm,
            self.scale * other.scale,
            poles,
        )

    def summed(self, count: int) -> Bound:
        """The bound of a sum of so many entries of one array, whose denominator is common."""
        return Bound(self.degree, self.norm + log2(max(count, 1)), self.scale, self.poles)

    def power(self, exponent: int) -> Bound:
        """The bound of a whole power."""
        poles = {pole: exponent * e for pole, e in self.poles.items()}
        return Bound(self.degree * exponent, self.norm * exponent, int(self.scale**exponent), poles)

    def inverse(self, entries: int) -> tuple[Bound, Pole]:
        """The bound of 1/u, for an array of so many different entries, and the new pole."""
        pole = Pole(entries * self.degree, entries * self.norm)
        degree = (entries - 1) * self.degree
        norm = (entries - 1) * self.norm + log2(self.scale)
        for other, power in self.poles.items():
            degree += power * other.degree
            norm += power * other.norm
        return Bound(degree, norm, 1, {pole: 1}), pole


def variable(weight: int) -> Bound:
    """A fresh indeterminate, drawn as a power of a uniform residue."""
    return Bound(float(weight))


def of_numbers(numbers: Iterable[Any]) -> Bound:
    """The bound of an array of rational numbers."""
    found = [Fraction(x) for x in numbers]
    scale = math.lcm(*(x.denominator for x in found))
    largest = max((abs(x.numerator) * (scale // x.denominator) for x in found), default=0)
    return Bound(0.0, log2(max(largest, 1)), scale)


def log2(n: int) -> float:
    """The binary logarithm of a whole number of any size, rounded up a little."""
    return 0.0 if n <= 1 else math.log2(n) * (1 + 1e-12)
