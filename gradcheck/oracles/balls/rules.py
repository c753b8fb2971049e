"""The elementary functions in balls: values, derivatives, and where they are defined.

Each derivative is written from the argument u and the value y, in a form that keeps its relative
accuracy far out (1 - tanh² as sech²).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flint import arb

from gradcheck.oracles.balls.entry import Entry, Trouble, is_infinite, order, scaled, troubled

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Rule:
    """An elementary function.

    Attributes:
        value: The function.
        slope: Its derivative, from argument and value.
        margin: What must be positive for the function to be smooth; None where it is everywhere.
        edge: The value where the margin is 0; None where there is none.
        far: The limits at -∞ and +∞, where somebody may want them.
    """

    value: Callable[[Any], Any]
    slope: Callable[[Any, Any], Any]
    margin: Callable[[Any], Any] | None = None
    edge: Callable[[Any], Any] | None = None
    far: tuple[str | int | None, str | int | None] = (None, None)


def _sigmoid(u: Any) -> Any:
    return 1 / (1 + (-u).exp())


def _sigmoid_slope(u: Any, y: Any) -> Any:
    return y * _sigmoid(-u)


def _inside(u: Any) -> Any:
    return (1 - u) * (1 + u)


def _bottom(_: Any) -> Any:
    return arb("-inf")


RULES: dict[str, Rule] = {
    "acos": Rule(lambda u: u.acos(), lambda u, _: -_inside(u).rsqrt(), _inside, lambda u: u.acos()),
    "asin": Rule(lambda u: u.asin(), lambda u, _: _inside(u).rsqrt(), _inside, lambda u: u.asin()),
    "atan": Rule(lambda u: u.atan(), lambda u, _: 1 / (1 + u * u)),
    "cos": Rule(lambda u: u.cos(), lambda u, _: -u.sin()),
    "cosh": Rule(lambda u: u.cosh(), lambda u, _: u.sinh()),
    "erf": Rule(
        lambda u: u.erf(),
        lambda u, _: 2 * (-u * u).exp() / arb.pi().sqrt(),
        far=(-1, 1),
    ),
    "exp": Rule(lambda u: u.exp(), lambda _, y: y, far=(0, "inf")),
    "expm1": Rule(lambda u: u.expm1(), lambda u, _: u.exp(), far=(-1, "inf")),
    "log": Rule(lambda u: u.log(), lambda u, _: 1 / u, lambda u: u, _bottom, (None, "inf")),
    "log1p": Rule(
        lambda u: u.log1p(), lambda u, _: 1 / (1 + u), lambda u: 1 + u, _bottom, (None, "inf")
    ),
    "sigmoid": Rule(_sigmoid, _sigmoid_slope, far=(0, 1)),
    "sin": Rule(lambda u: u.sin(), lambda u, _: u.cos()),
    "sinh": Rule(lambda u: u.sinh(), lambda u, _: u.cosh()),
    "sqrt": Rule(lambda u: u.sqrt(), lambda _, y: 1 / (2 * y), lambda u: u, lambda u: u),
    "tan": Rule(lambda u: u.tan(), lambda u, _: u.sec() ** 2),
    "tanh": Rule(lambda u: u.tanh(), lambda u, _: u.sech() ** 2, far=(-1, 1)),
}


def apply(name: str, x: Entry) -> Entry:
    """A function of an entry, with its derivative."""
    if x.trouble:
        return x
    rule, u = RULES[name], x.value
    if is_infinite(u):
        limit = rule.far[int(u > 0)]
        if limit is None or (limit == "inf" and x.tangent):
            return troubled(Trouble.UNKNOWN if x.moves else Trouble.UNDEFINED)
        return Entry(arb(limit), {k: arb(0) for k in x.tangent}, x.moves)
    if rule.margin is not None and not (margin := rule.margin(u)) > 0:
        return _at_edge(rule, x, margin)
    value = rule.value(u)
    if not value.is_finite():
        return troubled(Trouble.UNKNOWN)
    return Entry(value, scaled(x.tangent, rule.slope(u, value)) if x.tangent else None, x.moves)


def _at_edge(rule: Rule, x: Entry, margin: Any) -> Entry:
    """Outside the domain, or on its edge, where the function has a value but no derivative."""
    if margin < 0:
        return troubled(Trouble.UNDEFINED)
    if not margin.is_zero():
        return troubled(Trouble.UNKNOWN)
    assert rule.edge is not None
    value = rule.edge(x.value)
    if x.tangent or (x.moves and not value.is_finite()):
        return troubled(Trouble.ISOLATED)
    return Entry(value, None, x.moves)


def absolute(x: Entry) -> Entry:
    """|x|, which has a value also where its derivative is open; without derivatives."""
    return x if x.trouble else Entry(abs(x.value), None, x.moves)


def sign(x: Entry) -> Entry:
    """-1, 0 or 1; open at a 0 that moves."""
    known = order(x, Entry(arb(0)))
    if x.trouble or known is None:
        return troubled(x.trouble or Trouble.STRADDLES)
    return Entry(arb(known))


def step(x: Entry) -> Entry:
    """1 where x > 0, else 0; open at a 0 that moves."""
    known = sign(x)
    return known if known.trouble else Entry(known.value.max(arb(0)))


FUNCTIONS: dict[str, Callable[[Entry], Entry]] = {"abs": absolute, "sign": sign, "step": step}


def function(name: str) -> Callable[[Entry], Entry]:
    """A function by its name in an einsum operand such as `"exp(a)"`."""
    return FUNCTIONS.get(name) or functools.partial(apply, name)
