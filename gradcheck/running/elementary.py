"""How far an elementary function spreads over a ball: sup |f(x') - f(x)| for |x' - x| <= e.

Each entry of `SPREAD` takes the centre x, the radius e > 0 (elementwise) and f(x), and returns a
bound on the spread: inf where the ball reaches a pole or leaves the domain. The formulas avoid the
difference of two nearly equal function values, which float64 would not resolve.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gradcheck.running.formats import UNIT64, Floats

Spread = Callable[[Floats, Floats, Floats], Floats]
_TINY = 2.0**-1022
_ERF = np.frompyfunc(math.erf, 1, 1)


def _erf(x: Floats) -> Any:
    return np.asarray(_ERF(x), dtype=np.float64)


def _sigmoid(x: Floats) -> Any:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


VALUE: dict[str, Callable[[Floats], Any]] = {
    "acos": np.arccos, "asin": np.arcsin, "atan": np.arctan, "cos": np.cos, "cosh": np.cosh,
    "erf": _erf, "exp": np.exp, "expm1": np.expm1, "log": np.log, "log1p": np.log1p,
    "sigmoid": _sigmoid, "sin": np.sin, "sinh": np.sinh, "sqrt": np.sqrt, "tan": np.tan,
    "tanh": np.tanh,
}  # fmt: skip

# Results that may underflow although the argument does not: an exact zero means nothing here.
UNDERFLOWING = frozenset({"exp", "sigmoid"})

# Common implementations round something of the argument's size first: 1 - x², or XLA's exp(x - log 2).
ARGUMENT_ROUNDED = frozenset({"acos", "asin", "cosh", "sinh"})


def nearest_to_zero(x: Floats, e: Floats) -> Any:
    """The smallest |x'| in the ball, rounded towards zero."""
    return np.maximum(np.abs(x) * (1 - 4 * UNIT64) - e, 0.0)


def beyond(bad: Any, bound: Any) -> Any:
    """The bound, and inf where the ball leaves the domain."""
    return np.where(bad, np.inf, bound)


def _exp(_x: Floats, e: Floats, y: Floats) -> Any:
    return np.maximum(y, _TINY) * np.expm1(e)


def _expm1(_x: Floats, e: Floats, y: Floats) -> Any:
    return np.maximum(y + (1 + 4 * UNIT64), _TINY) * np.expm1(e)


def _log(x: Floats, e: Floats, _y: Floats) -> Any:
    low = x - e
    return beyond(low <= 0, np.log1p(e / np.abs(low)))


def _log1p(x: Floats, e: Floats, _y: Floats) -> Any:
    low = (1 + x) - e - 4 * UNIT64 * (1 + np.abs(x))
    return beyond(low <= 0, np.log1p(e / np.abs(low)))


def _sqrt(x: Floats, e: Floats, y: Floats) -> Any:
    low = x - e
    return beyond(low < 0, e / (y + np.sqrt(np.maximum(low, 0.0))))


def _sin(x: Floats, e: Floats, _y: Floats) -> Any:
    return e * np.minimum(np.abs(np.cos(x)) + 4 * UNIT64 + e, 1.0)


def _cos(x: Floats, e: Floats, _y: Floats) -> Any:
    return e * np.minimum(np.abs(np.sin(x)) + 4 * UNIT64 + e, 1.0)


def _tan(_x: Floats, e: Floats, y: Floats) -> Any:
    t = np.tan(np.minimum(e, 1.0))
    room = 1 - np.abs(y) * t * (1 + 8 * UNIT64) - 8 * UNIT64
    return beyond((room <= 0) | (e > 1), t * (1 + y * y) * (1 + 16 * UNIT64) / np.abs(room))


def _sinh(x: Floats, e: Floats, _y: Floats) -> Any:
    return e * np.cosh(np.abs(x) + e)


def _cosh(x: Floats, e: Floats, _y: Floats) -> Any:
    return e * np.sinh(np.abs(x) + e)


def _tanh(x: Floats, e: Floats, _y: Floats) -> Any:
    return np.fmin(e / np.cosh(nearest_to_zero(x, e)) ** 2, 2.0)


def _sigmoid_spread(x: Floats, e: Floats, _y: Floats) -> Any:
    return np.fmin(e / (4 * np.cosh(nearest_to_zero(x, e) / 2) ** 2), 1.0)


def _erf_spread(x: Floats, e: Floats, _y: Floats) -> Any:
    near = nearest_to_zero(x, e)
    return np.fmin(e * (2 / math.sqrt(math.pi)) * np.exp(-near * near), 2.0)


def _arc(x: Floats, e: Floats, _y: Floats) -> Any:
    far = np.abs(x) + e
    return beyond(far >= 1, e / np.sqrt(np.abs((1 - far) * (1 + far))))


def _atan(x: Floats, e: Floats, _y: Floats) -> Any:
    near = nearest_to_zero(x, e)
    return e / (1 + near * near)


SPREAD: dict[str, Spread] = {
    "acos": _arc, "asin": _arc, "atan": _atan, "cos": _cos, "cosh": _cosh, "erf": _erf_spread,
    "exp": _exp, "expm1": _expm1, "log": _log, "log1p": _log1p, "sigmoid": _sigmoid_spread,
    "sin": _sin, "sinh": _sinh, "sqrt": _sqrt, "tan": _tan, "tanh": _tanh,
}  # fmt: skip


def spread(name: str, x: Floats, e: Floats, y: Floats) -> Any:
    """The spread of a function over balls; 0 where the radius is 0, whatever the formula says."""
    return np.where(e == 0, 0.0, SPREAD[name](x, e, y) * (1 + 64 * UNIT64))


def power_spread(x: Floats, e: Floats, exponent: float, y: Floats) -> Any:
    """The spread of x**exponent for one exact exponent."""
    far, near = np.abs(x) + e, nearest_to_zero(x, e)
    steepest = far if exponent >= 1 else near
    bound = np.abs(exponent) * e * np.power(steepest, exponent - 1)
    if exponent < 0:
        bound = beyond(near <= 0, bound)
    if exponent != round(exponent):
        bound = beyond(x - e < 0, bound)
    safe = (1 + (64 + 4 * abs(exponent)) * UNIT64) * bound
    return np.where((e == 0) | (exponent == 0), 0.0, safe + 0 * y)
