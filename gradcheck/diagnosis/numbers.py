"""Numbers recognised: a rational times powers of axis sizes, from its values at several sizes."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, product
from typing import TYPE_CHECKING

from gradcheck.algebra.shapes import is_broadcast
from gradcheck.algebra.terms import multiply_sizes
from gradcheck.diagnosis.model import factor_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_SAME = 1e-9
_SIMPLE = 60  # no hand-derived coefficient has a larger denominator
_LARGEST = 1000
_POWERS = (Fraction(-1), Fraction(1), Fraction(-2), Fraction(2), Fraction(-1, 2), Fraction(1, 2))

Powers = tuple[tuple[str, Fraction], ...]


@dataclass(frozen=True)
class Coefficient:
    """A rational number times powers of axis sizes."""

    number: Fraction = Fraction(1)
    sizes: Powers = ()

    @property
    def is_one(self) -> bool:
        """Whether it is 1 at every size."""
        return self.number == 1 and not self.sizes

    @property
    def is_minus_one(self) -> bool:
        """Whether it is −1 at every size."""
        return self.number == -1 and not self.sizes

    @property
    def complexity(self) -> Fraction:
        """How much there is to write."""
        digits = abs(self.number.numerator) + self.number.denominator
        return digits + sum((abs(p) for _, p in self.sizes), Fraction(0))

    def times(self, other: Coefficient) -> Coefficient:
        """The product."""
        return Coefficient(self.number * other.number, multiply_sizes(self.sizes, other.sizes))

    def inverse(self) -> Coefficient:
        """One over it."""
        return Coefficient(1 / self.number, tuple((a, -p) for a, p in self.sizes))

    def over(self, other: Coefficient) -> Coefficient:
        """The quotient; 0 where this one is 0."""
        return self.times(other.inverse())

    @property
    def in_excess(self) -> str:
        """What is wrong where a claim is this times the right one: "2 too much", "2 is missing"."""
        if self.sizes or abs(self.number) >= 1:
            return f"{self} too much"
        inverse = self.inverse()
        return f"{inverse} is missing" if inverse.number.denominator == 1 else f"{self} too much"

    def __str__(self) -> str:
        return factor_text(self.number, self.sizes)


def recognise(numbers: Sequence[float], sizes: Sequence[Mapping[str, int]]) -> Coefficient | None:
    """The simplest rational times powers of sizes with these values; None for 0 and for all others."""
    if not numbers or any(abs(n) < 1e-12 for n in numbers):
        return None
    axes = [a for a in sizes[0] if not is_broadcast(a) and not a.startswith(("...", "?"))]
    found: list[Coefficient] = []
    for powers in _monomials(axes):
        rest = [n / _value(powers, table) for n, table in zip(numbers, sizes, strict=True)]
        if max(rest) - min(rest) > _SAME * max(map(abs, rest)):
            continue
        number = Fraction(rest[0]).limit_denominator(_SIMPLE)
        simple = abs(number) <= _LARGEST and abs(float(number) - rest[0]) <= _SAME * abs(rest[0])
        if number and simple:
            found.append(Coefficient(number, tuple(sorted(powers))))
    return min(found, key=lambda c: c.complexity, default=None)


def _monomials(axes: Sequence[str]) -> Iterator[Powers]:
    yield ()
    for power in _POWERS:
        yield from (((axis, power),) for axis in axes)
    for pair in combinations(axes, 2):
        for powers in product(_POWERS[:2], repeat=2):
            yield tuple(zip(pair, powers, strict=True))


def _value(powers: Powers, table: Mapping[str, int]) -> float:
    result = 1.0
    for axis, power in powers:
        result *= float(table[axis]) ** float(power)
    return result
