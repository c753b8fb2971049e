"""Local derivatives of the elementary functions, as balls.

Each is written in the least accurate form that frameworks use (1 - y² for tanh, y + 1 for expm1),
so that its ball contains what the others compute too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradcheck.running.namespace import Namespace

Partial = Callable[["Namespace", Any, Any], Any]


def _arc(xp: Namespace, x: Any, _y: Any) -> Any:
    return xp.divide(1, xp.unary("sqrt", xp.subtract(1, xp.square(x))))


def _erf(xp: Namespace, x: Any, _y: Any) -> Any:
    factor = xp.divide(2, xp.unary("sqrt", xp.pi))
    return xp.multiply(factor, xp.unary("exp", xp.negative(xp.square(x))))


PARTIALS: dict[str, Partial] = {
    "acos": lambda xp, x, y: -_arc(xp, x, y),
    "asin": _arc,
    "atan": lambda xp, x, _y: xp.divide(1, xp.add(1, xp.square(x))),
    "cos": lambda xp, x, _y: -xp.unary("sin", x),
    "cosh": lambda xp, x, _y: xp.unary("sinh", x),
    "erf": _erf,
    "exp": lambda _xp, _x, y: y,
    "expm1": lambda xp, _x, y: xp.add(y, 1),
    "log": lambda xp, x, _y: xp.divide(1, x),
    "log1p": lambda xp, x, _y: xp.divide(1, xp.add(1, x)),
    "sigmoid": lambda xp, _x, y: xp.multiply(y, xp.subtract(1, y)),
    "sin": lambda xp, x, _y: xp.unary("cos", x),
    "sinh": lambda xp, x, _y: xp.unary("cosh", x),
    "sqrt": lambda xp, _x, y: xp.divide(0.5, y),
    "tan": lambda xp, _x, y: xp.add(1, xp.square(y)),
    "tanh": lambda xp, _x, y: xp.subtract(1, xp.square(y)),
}
