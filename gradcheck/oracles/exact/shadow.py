"""The real point behind an evaluation: object arrays of balls (python-flint's arb).

They decide branches with certainty and witness that forward and claim are finite somewhere in the
domain. A branch that is not taken may be anything there, so selections pick and never multiply.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from flint import arb, fmpq

if TYPE_CHECKING:
    from collections.abc import Callable

PRECISION = 160


def ball(x: Any) -> Any:
    """The ball of a rational number."""
    x = Fraction(x)
    return arb(fmpq(x.numerator, x.denominator))


def balls(exact: Any, shape: tuple[int, ...]) -> Any:
    """Balls of an array of rational numbers."""
    return filled([ball(x) for x in np.reshape(np.asarray(exact, dtype=object), -1)], shape)


def filled(entries: list[Any], shape: tuple[int, ...]) -> Any:
    """An object array of the entries, also where there is only one."""
    out = np.empty(len(entries), dtype=object)
    for i, entry in enumerate(entries):
        out[i] = entry
    return out.reshape(shape)


def wrapped(x: Any) -> Any:
    """What NumPy gave, as an array again where it is a single ball."""
    return x if isinstance(x, np.ndarray) else filled([x], ())


def mapped(function: Callable[[Any], Any], x: Any) -> Any:
    """A function of each entry."""
    return filled([function(entry) for entry in x.reshape(-1)], x.shape)


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "acos": lambda x: x.acos(),
    "asin": lambda x: x.asin(),
    "atan": lambda x: x.atan(),
    "cos": lambda x: x.cos(),
    "cosh": lambda x: x.cosh(),
    "erf": lambda x: x.erf(),
    "exp": lambda x: x.exp(),
    "expm1": lambda x: x.expm1(),
    "log": lambda x: x.log(),
    "log1p": lambda x: x.log1p(),
    "sigmoid": lambda x: 1 / (1 + (-x).exp()),
    "sin": lambda x: x.sin(),
    "sinh": lambda x: x.sinh(),
    "sqrt": lambda x: x.sqrt(),
    "tan": lambda x: x.tan(),
    "tanh": lambda x: x.tanh(),
}


def power(x: Any, exponent: Fraction) -> Any:
    """A rational power of each entry."""
    if exponent.denominator == 1:
        return mapped(lambda a: a ** int(exponent), x)
    return mapped(lambda a: (a.log() * ball(exponent)).exp(), x)


def finite(x: Any) -> bool:
    """Whether every entry is a ball of finite radius."""
    return all(entry.is_finite() for entry in x.reshape(-1))


def sign(x: Any) -> int | None:
    """1 or -1 where the ball excludes 0, else None."""
    return 1 if x > 0 else -1 if x < 0 else None


def largest(entries: list[Any], same: Callable[[int, int], bool]) -> int | None:
    """The place of the largest ball; None where balls overlap that are not known to be the same."""
    best = 0
    for i in range(1, len(entries)):
        if entries[i] > entries[best]:
            best = i
    beaten = all(entries[i] < entries[best] or same(i, best) for i in range(len(entries)))
    return best if beaten else None


# What an undecided branch gives: no finite ball.
NOTHING = arb("nan")
