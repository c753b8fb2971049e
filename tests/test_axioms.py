"""Every rule of the trusted table against power series in ball arithmetic, to 1e-50."""

from __future__ import annotations

import flint
import pytest
from flint import arb, arb_series

from gradcheck import Spec, delta, einsum, real
from gradcheck.axioms import RULES, RULES_OF_TWO
from gradcheck.backends.names import UNARY
from gradcheck.oracles.balls import certify
from gradcheck.oracles.exact import exact
from gradcheck.oracles.symbolic import symbolic

PRECISION = 400
BOUND = arb("1e-50")


class Balls:
    """The functions that rules mention, on balls and on power series."""

    def __init__(self):
        self.pi = arb.pi()

    def exp(self, x):
        return x.exp()

    def log(self, x):
        return x.log()

    def sqrt(self, x):
        return x.sqrt()

    def sin(self, x):
        return x.sin()

    def cos(self, x):
        return x.cos()

    def sinh(self, x):
        return (x.exp() - (-x).exp()) / 2

    def cosh(self, x):
        return (x.exp() + (-x).exp()) / 2

    def sign(self, x):
        return arb(1) if x > 0 else arb(-1)


# The definitions that the series are of, none of which uses a derivative rule.
SERIES = {
    "abs": lambda x: x if x[0] > 0 else -x,
    "acos": lambda x: x.acos(),
    "asin": lambda x: x.asin(),
    "atan": lambda x: x.atan(),
    "cos": lambda x: x.cos(),
    "cosh": lambda x: (x.exp() + (-x).exp()) / 2,
    "erf": lambda x: x.erf(),
    "exp": lambda x: x.exp(),
    "expm1": lambda x: x.exp() - 1,
    "log": lambda x: x.log(),
    "log1p": lambda x: (1 + x).log(),
    "negative": lambda x: -x,
    "sigmoid": lambda x: 1 / (1 + (-x).exp()),
    "sign": lambda x: arb_series([1 if x[0] > 0 else -1], prec=2),
    "sin": lambda x: x.sin(),
    "sinh": lambda x: (x.exp() - (-x).exp()) / 2,
    "sqrt": lambda x: x.sqrt(),
    "square": lambda x: x * x,
    "step": lambda x: arb_series([1 if x[0] > 0 else 0], prec=2),
    "tan": lambda x: x.tan(),
    "tanh": lambda x: 1 - 2 / ((2 * x).exp() + 1),
}
POINTS = {
    "log": ["0.3", "7.1", "1e-3"],
    "sqrt": ["0.3", "7.1", "1e-3"],
    "log1p": ["-0.7", "0.2", "5.5"],
}
INSIDE = ["-0.9", "0.01", "0.6"]
ANYWHERE = ["-2.3", "-0.4", "0.7", "3.1"]


def points(name):
    fallback = INSIDE if name in ("acos", "asin") else ANYWHERE
    return [arb(text) for text in POINTS.get(name, fallback)]


def close(found, expected):
    return abs(found - expected) < BOUND


@pytest.fixture(autouse=True)
def _precision():
    with flint.ctx.workprec(PRECISION):
        yield


def test_every_elementary_function_has_a_rule_and_a_series():
    assert set(RULES) == {*UNARY, "step"} == set(SERIES)
    assert set(RULES_OF_TWO) == {"pow", "logaddexp"}


@pytest.mark.parametrize("name", sorted(RULES))
def test_rule_agrees_with_the_power_series(name):
    for u in points(name):
        series = SERIES[name](arb_series([u, 1], prec=3))
        assert close(RULES[name](Balls(), u, series[0]), series[1]), f"{name} at {u}"


@pytest.mark.parametrize("name", sorted(RULES))
def test_a_rule_that_is_off_by_little_is_noticed(name):
    u = points(name)[0]
    series = SERIES[name](arb_series([u, 1], prec=3))
    assert not close(RULES[name](Balls(), u, series[0]) + arb("1e-49"), series[1])


def power(u, v):
    return (v * u.log()).exp()


def logaddexp(u, v):
    return (u.exp() + v.exp()).log()


@pytest.mark.parametrize(("name", "function"), [("pow", power), ("logaddexp", logaddexp)])
def test_rules_of_two_arguments(name, function):
    for texts in [("0.3", "2.5"), ("4.1", "-1.5"), ("1.7", "0.2")]:
        u, v = map(arb, texts)
        first, second = RULES_OF_TWO[name]
        y = function(u, v)
        moved = function(arb_series([u, 1], prec=3), arb_series([v], prec=3))
        assert close(first(Balls(), u, v, y), moved[1])
        moved = function(arb_series([u], prec=3), arb_series([v, 1], prec=3))
        assert close(second(Balls(), u, v, y), moved[1])


@pytest.mark.parametrize("exponent", [-3, 2, 5])
def test_whole_powers_of_negative_numbers(exponent):
    u = arb("-1.3")
    series = arb_series([u, 1], prec=3) ** exponent
    assert close(RULES_OF_TWO["pow"][0](Balls(), u, exponent, series[0]), series[1])


# ---------------------------------------------------------------------- one table for all engines


class Point:
    """Where balls look for a difference."""

    inputs = {"x": [0.5, -0.25]}  # noqa: RUF012
    params: dict = {}  # noqa: RUF012
    sizes = {"m": 2}  # noqa: RUF012


def of_function(name):
    """y = name(x) with its right derivative, written through a residual."""

    def forward(xp, x):
        y = getattr(xp, name)(x)
        slopes = {
            "tanh": lambda: 1 - y * y,
            "sigmoid": lambda: y - y * y,
            "erf": lambda: 2 * xp.exp(-(x * x)) / xp.sqrt(xp.pi),
            "atan": lambda: 1 / (1 + x * x),
        }
        return y, slopes[name]()

    return Spec(
        forward, name=name, inputs={"x": real("m")}, output={"y": "m", "d": "m"},
        jacobian={"x": einsum("p,pr->pr", "d", delta)},
    )  # fmt: skip


@pytest.mark.parametrize("name", ["tanh", "erf", "atan", "sigmoid"])
def test_symbolic_exact_and_balls_read_the_one_table(name, monkeypatch):
    """Each must notice, at a right claim, that a rule of the table was spoilt."""
    spec = of_function(name)
    claim = spec.claims()[0]
    assert symbolic(spec, claim).verdict == "proved"
    assert exact(spec, claim).verdict == "identity"
    assert certify(spec, claim, Point) is None
    rule = RULES[name]
    monkeypatch.setitem(RULES, name, lambda xp, u, y: 2 * rule(xp, u, y))
    assert symbolic(spec, claim).verdict == "suspect"
    assert exact(spec, claim).verdict == "suspect"
    assert certify(spec, claim, Point) is not None


def test_the_rule_for_powers_is_read_from_the_table_too(monkeypatch):
    from gradcheck.algebra.canonical import calculus

    cubed = Spec(
        lambda _xp, x: x**3, name="cubed", inputs={"x": real("m")}, output="m",
        jacobian={"x": 3 * einsum("p,pr->pr", "x**2", delta)},
    )  # fmt: skip
    claim = cubed.claims()[0]
    assert symbolic(cubed, claim).verdict == "proved"
    by_base, by_exponent = RULES_OF_TWO["pow"]
    spoilt = (lambda xp, u, v, y: by_base(xp, u, v, y) * v, by_exponent)
    monkeypatch.setitem(RULES_OF_TWO, "pow", spoilt)
    calculus.power_rule.cache_clear()
    assert symbolic(cubed, claim).verdict == "suspect"
    monkeypatch.undo()
    calculus.power_rule.cache_clear()
    assert symbolic(cubed, claim).verdict == "proved"
