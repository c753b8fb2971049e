"""The trusted table: the derivative of each elementary function, as a rule of argument and value.

Whoever proves something here believes these rules and nothing else about the functions. A rule is
written with `+ - * /` and the functions of a namespace `xp`, so that any engine may use it: residues
in prime fields, symbols, balls. Source: Abramowitz and Stegun, Handbook of Mathematical Functions
(1964), sections 4.1 to 4.6 and 7.1; each rule is also tested against power series in ball arithmetic.
"""

from __future__ import annotations

# All rules take the same arguments, whichever they use.
# ruff: noqa: ARG005
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    # rule(xp, u, y) = dg/du at u, where y = g(u).
    Rule = Callable[[Any, Any, Any], Any]

RULES: dict[str, Rule] = {
    "abs": lambda xp, u, y: xp.sign(u),
    "acos": lambda xp, u, y: -1 / xp.sqrt(1 - u * u),
    "asin": lambda xp, u, y: 1 / xp.sqrt(1 - u * u),
    "atan": lambda xp, u, y: 1 / (1 + u * u),
    "cos": lambda xp, u, y: -xp.sin(u),
    "cosh": lambda xp, u, y: xp.sinh(u),
    "erf": lambda xp, u, y: 2 * xp.exp(-(u * u)) / xp.sqrt(xp.pi),
    "exp": lambda xp, u, y: y,
    "expm1": lambda xp, u, y: y + 1,
    "log": lambda xp, u, y: 1 / u,
    "log1p": lambda xp, u, y: 1 / (1 + u),
    "negative": lambda xp, u, y: 0 * y - 1,
    "sigmoid": lambda xp, u, y: y - y * y,
    "sign": lambda xp, u, y: 0 * y,
    "sin": lambda xp, u, y: xp.cos(u),
    "sinh": lambda xp, u, y: xp.cosh(u),
    "sqrt": lambda xp, u, y: 1 / (2 * y),
    "square": lambda xp, u, y: 2 * u,
    "step": lambda xp, u, y: 0 * y,
    "tan": lambda xp, u, y: 1 + y * y,
    "tanh": lambda xp, u, y: 1 - y * y,
}

# The rules of two arguments, rule(xp, u, v, y) with y = g(u, v): the derivatives by u and by v.
# That of abs, sign and step holds where u is not 0; that of pow where u > 0, or, for a whole v,
# where u is not 0.
RULES_OF_TWO: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "pow": (lambda xp, u, v, y: v * y / u, lambda xp, u, v, y: xp.log(u) * y),
    "logaddexp": (
        lambda xp, u, v, y: xp.exp(u) / (xp.exp(u) + xp.exp(v)),
        lambda xp, u, v, y: xp.exp(v) / (xp.exp(u) + xp.exp(v)),
    ),
}
