"""Arithmetic in four prime fields at once: int64 arrays whose first axis is the lane.

A lane is one prime of 31 bits. Products of two residues fit; sums of products are formed from halves
of 16 bits, so that nothing overflows below 2**16 summands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Residues = NDArray[np.int64]


@dataclass(frozen=True)
class Pool:
    """The primes ≡ residue (mod modulus) in [low, high), from which lanes are drawn uniformly.

    Attributes:
        count: How many there are; the bound on a false accept is no better than this number.
        bits: The whole part of log2 of the least of them.
    """

    modulus: int
    residue: int
    low: int
    high: int
    count: int

    @property
    def bits(self) -> int:
        """How many bits of an integer one prime of the pool stands for, at least."""
        return self.low.bit_length() - 1

    def draw(self, rng: np.random.Generator) -> int:
        """A prime, uniform in the pool: candidates are drawn uniformly until one is prime."""
        first = self.low + (self.residue - self.low) % self.modulus
        steps = (self.high - 1 - first) // self.modulus + 1
        while True:
            candidate = first + self.modulus * int(rng.integers(steps))
            if is_prime(candidate):
                return candidate


# p ≡ -1 (mod 120): -1 is no square, so that a square has exactly one root that is a square itself
# (and these roots multiply); 2, 3 and 5 are squares; every residue has one cube and one fifth root.
STANDARD = Pool(120, 119, 2**30, 2**31, 1_584_690)


def is_prime(n: int) -> bool:
    """Whether n < 3,215,031,751 is prime (Miller and Rabin; bases by Pomerance et al., 1980)."""
    if n < 2:
        return False
    for q in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37):
        if n % q == 0:
            return n == q
    odd, twos = n - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    return all(_passes(n, base, odd, twos) for base in (2, 3, 5, 7))


def _passes(n: int, base: int, odd: int, twos: int) -> bool:
    power = pow(base, odd, n)
    if power in (1, n - 1):
        return True
    for _ in range(twos - 1):
        power = power * power % n
        if power == n - 1:
            return True
    return False


class Field:
    """The lanes: one prime each."""

    def __init__(self, primes: list[int]) -> None:
        self.primes = primes
        self.count = len(primes)
        self._columns = [
            np.array(primes, dtype=np.int64).reshape((-1,) + (1,) * k) for k in range(24)
        ]

    def column(self, ndim: int) -> Residues:
        """The primes along the first of `ndim` axes."""
        return self._columns[ndim - 1]

    def reduce(self, a: Residues) -> Residues:
        """Residues between 0 and p - 1."""
        return a % self.column(a.ndim)

    def multiply(self, a: Residues, b: Residues) -> Residues:
        """Entry by entry, broadcast."""
        product = a * b
        return product % self.column(product.ndim)

    def rational(self, numerator: int, denominator: int) -> list[int]:
        """A fraction in each lane; ZeroDivisionError where the denominator is 0 there."""
        return [numerator * invert(denominator, p) % p for p in self.primes]

    def map(self, a: Residues, function: Any) -> Residues:
        """`function(residue, prime)` of Python ints, entry by entry."""
        rows = a.reshape((self.count, -1)).tolist()
        found = [[function(x, p) for x in row] for row, p in zip(rows, self.primes, strict=True)]
        return np.array(found, dtype=np.int64).reshape(a.shape)

    def inverse(self, a: Residues) -> Residues:
        """1/a, for entries that are not 0."""
        return self.map(a, invert)

    def root(self, a: Residues) -> Residues:
        """The square root that is a square itself, for squares."""
        return self.map(a, lambda x, p: pow(x, (p + 1) // 4, p))

    def odd_root(self, a: Residues, degree: int) -> Residues:
        """The one root of a degree that is coprime to p - 1 (3, 5 and their products)."""
        return self.map(a, lambda x, p: pow(x, pow(degree, -1, p - 1), p))

    def power(self, a: Residues, exponent: int) -> Residues:
        """A whole power from 0 on, by repeated squaring."""
        result = np.ones_like(a)
        while exponent:
            if exponent & 1:
                result = self.multiply(result, a)
            exponent >>= 1
            if exponent:
                a = self.multiply(a, a)
        return result

    def contract(self, equation: str, a: Residues, b: Residues) -> Residues:
        """An einsum of two arrays; the equation names the lane's letter too."""
        high = self.reduce(np.einsum(equation, a >> 16, b))
        low = self.reduce(np.einsum(equation, a & 0xFFFF, b))
        return self.reduce((high << 16) + low)

    def random(
        self, rng: np.random.Generator, shape: tuple[int, ...], *, fourth: bool = False
    ) -> Residues:
        """Residues uniform in 1 … p - 1, or their fourth powers."""
        drawn = np.stack([rng.integers(1, p, shape) for p in self.primes]).astype(np.int64)
        return self.power(drawn, 4) if fourth else drawn


def invert(x: int, p: int) -> int:
    """1/x modulo p.

    Raises:
        ZeroDivisionError: For x = 0.
    """
    if x % p == 0:
        raise ZeroDivisionError
    return pow(x, -1, p)


def reference(steps: list[tuple[Any, ...]], values: list[int], p: int) -> list[int]:
    """The ten-line interpreter in Python ints that the arrays are tested against.

    Each step (operation, i, j) appends the sum, difference, product or quotient of two values.
    """
    tape = [v % p for v in values]
    for operation, i, j in steps:
        a, b = tape[i], tape[j]
        if operation == "/":
            b = invert(b, p)
        tape.append((a + b if operation == "+" else a - b if operation == "-" else a * b) % p)
    return tape
