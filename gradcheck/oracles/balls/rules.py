"""The elementary functions in balls: values, derivatives, and where they are defined.

Each derivative is the rule of the axiom table, at the argument u and the value y.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flint import arb, ctx

from gradcheck import axioms
from gradcheck.oracles.balls.entry import Entry, Trouble, is_infinite, order, scaled, troubled

if TYPE_CHECKING:
    from collections.abc import Callable


class _Functions:
    """The functions that rules of the axiom table mention, on single balls."""

    @property
    def pi(self) -> Any:
        return arb.pi()

    def __getattr__(self, name: str) -> Any:
        return lambda u: getattr(u, name)()


_FUNCTIONS = _Functions()
# Rules that take the difference of numbers which are nearly equal far out.
_CANCELLING = ("expm1", "sigmoid", "tanh")
_MOST_BITS = 4096


@dataclass(frozen=True)
class Rule:
    """An elementary function.

    Attributes:
        name: Its name in the axiom table.
        value: The function.
        margin: What must be positive for the function to be smooth; None where it is everywhere.
        edge: The value where the margin is 0; None where there is none.
        far: The limits at -∞ and +∞, where somebody may want them.
    """

    name: str
    value: Callable[[Any], Any]
    margin: Callable[[Any], Any] | None = None
    edge: Callable[[Any], Any] | None = None
    far: tuple[str | int | None, str | int | None] = (None, None)

    def slope(self, u: Any, y: Any) -> Any:
        """The derivative at u, where y is the value: the rule of the axiom table."""
        if self.name not in _CANCELLING:
            return axioms.RULES[self.name](_FUNCTIONS, u, y)
        # 1 − tanh² loses as many bits as it is small: 2 |u| / log 2 of them.
        bits = min(_MOST_BITS, 16 + 3 * math.ceil(float(abs(u).mid())))
        with ctx.workprec(ctx.prec + bits):
            found = axioms.RULES[self.name](_FUNCTIONS, u, self.value(u))
        return found + 0


def _sigmoid(u: Any) -> Any:
    return 1 / (1 + (-u).exp())


def _inside(u: Any) -> Any:
    return (1 - u) * (1 + u)


def _bottom(_: Any) -> Any:
    return arb("-inf")


_RULES = (
    Rule("acos", lambda u: u.acos(), _inside, lambda u: u.acos()),
    Rule("asin", lambda u: u.asin(), _inside, lambda u: u.asin()),
    Rule("atan", lambda u: u.atan()),
    Rule("cos", lambda u: u.cos()),
    Rule("cosh", lambda u: u.cosh()),
    Rule("erf", lambda u: u.erf(), far=(-1, 1)),
    Rule("exp", lambda u: u.exp(), far=(0, "inf")),
    Rule("expm1", lambda u: u.expm1(), far=(-1, "inf")),
    Rule("log", lambda u: u.log(), lambda u: u, _bottom, (None, "inf")),
    Rule("log1p", lambda u: u.log1p(), lambda u: 1 + u, _bottom, (None, "inf")),
    Rule("sigmoid", _sigmoid, far=(0, 1)),
    Rule("sin", lambda u: u.sin()),
    Rule("sinh", lambda u: u.sinh()),
    Rule("sqrt", lambda u: u.sqrt(), lambda u: u, lambda u: u),
    Rule("tan", lambda u: u.tan()),
    Rule("tanh", lambda u: u.tanh(), far=(-1, 1)),
)
RULES: dict[str, Rule] = {rule.name: rule for rule in _RULES}


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
