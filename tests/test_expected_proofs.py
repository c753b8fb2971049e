"""What people write, and expect to be proved: activations, losses and numbers of every kind."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest

from gradcheck import Spec, constant, delta, einsum, number, ones, positive, real, verify
from gradcheck.oracles import examine_exactly

if TYPE_CHECKING:
    from gradcheck.oracles.finding import Finding

VECTOR = {"x": real("n")}
SAME = {"x": einsum("p,pq->pq", "k", delta)}
ONE = einsum("->", ones)


def finding(forward: Any, *, oracle: str = "symbolic", **spec: Any) -> Finding:
    """Of the only claim of a spec."""
    operation = Spec(forward, name="expected", **spec)
    (claim,) = operation.claims()
    return examine_exactly(oracle, operation, claim, 0)


def proved(forward: Any, **spec: Any) -> bool:
    return finding(forward, **spec).verdict == "proved"


# ---------------------------------------------------------------- powers of every kind


def gelu(xp, z, root):
    t = xp.tanh(root * (z + 0.044715 * z**3))
    return z * (1 + t) / 2, t, root * (1 + 3 * 0.044715 * z**2)


@pytest.mark.parametrize("root", [lambda xp: xp.sqrt(2 / xp.pi), lambda _: math.sqrt(2 / math.pi)])
@pytest.mark.parametrize("right", [True, False])
def test_the_gelu_of_tanh(root, right):
    """exp(−2u), of which tanh is made, stands there to the power 0.08943."""
    claim = einsum("pq->pq", delta) + einsum("p,pq->pq", "t", delta)
    claim += einsum("p,p,pq->pq", "z", "u", delta)
    claim -= einsum("p,p,p,pq->pq", "z", "u", "t**2" if right else "t", delta)
    found = finding(
        lambda xp, z: gelu(xp, z, root(xp)),
        inputs={"z": real("n")},
        output={"f": "n", "t": "n", "u": "n"},
        jacobian={"z": claim * Fraction(1, 2)},
    )
    assert found.verdict == ("proved" if right else "suspect")


@pytest.mark.parametrize("power", [1.7, 0.1, Fraction(22, 7)])
@pytest.mark.parametrize("right", [True, False])
def test_odd_powers(power, right):
    def forward(xp, x):
        total = xp.sum(x**power)
        return xp.exp(xp.log(total) / power), total, x ** (power - 1 if right else power)

    found = finding(
        forward,
        inputs={"x": positive("n")},
        output={"y": "", "t": "", "k": "n"},
        jacobian={"x": einsum(",,q->q", "y", "t**-1", "k")},
    )
    assert found.verdict == ("proved" if right else "suspect")


@pytest.mark.parametrize("constant_of", [lambda xp: xp.exp(0.1), lambda xp: xp.asarray(2) ** 0.1])
def test_constants_to_odd_powers(constant_of):
    def forward(xp, x):
        return x * constant_of(xp) ** 3, constant_of(xp)

    spec = {"inputs": VECTOR, "output": {"f": "n", "c": ""}}
    assert proved(forward, jacobian={"x": einsum(",pq->pq", "c**3", delta)}, **spec)
    assert not proved(forward, jacobian={"x": einsum(",pq->pq", "c**2", delta)}, **spec)


# ---------------------------------------------------------------- rounded numbers


def two_thirds(_xp, x):
    return x * (2 / 3)


@pytest.mark.parametrize("oracle", ["symbolic", "exact"])
def test_a_quotient_of_small_integers_is_that_fraction(oracle):
    spec = {"inputs": VECTOR, "output": "n", "oracle": oracle}
    right = {"x": Fraction(2, 3) * einsum("pq->pq", delta)}
    wrong = {"x": Fraction(2001, 3000) * einsum("pq->pq", delta)}
    assert finding(two_thirds, jacobian=right, **spec).verdict in ("proved", "identity")
    assert finding(two_thirds, jacobian=wrong, **spec).verdict == "suspect"


def test_such_a_claim_is_refuted_at_a_point():
    wrong = {"x": Fraction(2001, 3000) * einsum("pq->pq", delta)}
    spec = Spec(two_thirds, inputs=VECTOR, output={"f": "n"}, jacobian=wrong, name="thirds")
    checks = verify(spec, oracles=["symbolic", "exact"]).checks
    assert [str(c.verdict) for c in checks] == ["refuted", "refuted"]


def test_a_power_of_a_third_is_a_cube_root():
    claim = {"x": Fraction(1, 3) * einsum("p,pq->pq", "x**-2/3", delta)}
    assert proved(
        lambda _xp, x: x ** (1 / 3), inputs={"x": positive("n")}, output="n", jacobian=claim
    )


def test_a_number_that_was_rounded_is_named():
    def forward(xp, x):
        return xp.erf(x / math.sqrt(2)), xp.exp(-x * x / 2) / xp.sqrt(xp.pi / 2)

    found = finding(forward, inputs=VECTOR, output={"f": "n", "k": "n"}, jacobian=SAME)
    assert found.verdict == "suspect"
    assert "the forward uses 1.4142135623730951, rounded" in found.reason
    assert "xp.sqrt(2)" in found.reason


# ---------------------------------------------------------------- one branch implies another


def huber(xp, x, y, *, k):
    r = x - y
    a = xp.abs(r)
    inner = xp.where(a <= k, r * r / 2, k * (a - k / 2))
    return xp.sum(inner), xp.clip(r, -k, k), xp.clip(r, -k, 2 * k)


@pytest.mark.parametrize(("name", "right"), [("c", True), ("d", False)])
def test_the_huber_loss(name, right):
    """r > k implies r > 0, for a positive k."""
    found = finding(
        huber,
        inputs={"x": real("n"), "y": constant(real("n"))},
        params={"k": number(0.5, 2)},
        output={"L": "", "c": "n", "d": "n"},
        jacobian={"x": einsum("r->r", name)},
    )
    assert found.verdict == ("proved" if right else "suspect")


def hardtanh(xp, x):
    return xp.clip(x, -1, 1), xp.where(xp.abs(x) < 1, 1, 0)


def hardswish(xp, x):
    slope = xp.where(x <= -3, 0, xp.where(x >= 3, 1, (2 * x + 3) / 6))
    return x * xp.clip(x + 3, 0, 6) / 6, slope


def soft_threshold(xp, x):
    return xp.sign(x) * xp.maximum(xp.abs(x) - 0.5, 0), xp.where(xp.abs(x) > 0.5, 1, 0)


@pytest.mark.parametrize("forward", [hardtanh, hardswish, soft_threshold])
def test_pieces_of_one_argument(forward):
    assert proved(forward, inputs=VECTOR, output={"f": "n", "k": "n"}, jacobian=SAME)


@pytest.mark.parametrize("low", [0.5, -0.5])
def test_what_may_be_negative_implies_nothing(low):
    """x > k and x > 0 is x > k for a positive k only."""

    def forward(xp, s, x, *, k):
        return s * xp.sum(xp.where(x > k, 1, 0) * xp.where(x > 0, 1, 0)), xp.where(x > k, 1, 0)

    found = finding(
        forward,
        inputs={"s": real(""), "x": constant(real("n"))},
        params={"k": number(low, 2)},
        output={"f": "", "h": "n"},
        jacobian={"s": einsum("p->", "h")},
    )
    assert found.verdict == ("proved" if low > 0 else "suspect")


def test_a_letter_of_an_implied_selector_still_counts():
    """Σ_pq [x[p] > 0] [x[p] + y[q] > 0] is n Σ_p [x[p] > 0], for positive y."""

    def forward(xp, s, x, y):
        here = xp.where(x > 0, 1, 0)
        both = xp.where(x[:, None] + y[None, :] > 0, 1, 0) * here[:, None]
        return s * xp.sum(both), here, xp.sum(here) * y.shape[0]

    inputs = {"s": real(""), "x": constant(real("m")), "y": constant(positive("n"))}
    spec = {"inputs": inputs, "output": {"f": "", "h": "m", "t": ""}}
    assert proved(forward, jacobian={"s": einsum("->", "t")}, **spec)
    assert not proved(forward, jacobian={"s": einsum("p->", "h")}, **spec)


# ---------------------------------------------------------------- what must be said, or not be got round


def test_a_variance_with_a_large_correction_may_be_negative():
    def forward(xp, s, x):
        root = xp.sqrt(xp.var(x, correction=3) + 1)
        return s * root, root

    inputs = {"s": real(""), "x": constant(real("n"))}
    found = finding(
        forward, inputs=inputs, output={"f": "", "t": ""}, jacobian={"s": einsum("->", "t")}
    )
    assert "> 0" in found.statement


def count_of(_xp, x):
    return int(x.shape[0])


def last_of_a_running_sum(xp, x):
    return xp.cumulative_sum(x * 0, axis=0) + 1


@pytest.mark.parametrize("tried", [count_of, last_of_a_running_sum])
def test_a_forward_that_catches_a_refusal_is_not_read_further(tried):
    def forward(xp, s, x):
        try:
            count = tried(xp, x)
        except Exception:  # noqa: BLE001
            count = 1
        return s * count

    inputs = {"s": real(""), "x": constant(real("n"))}
    found = finding(forward, inputs=inputs, output="", jacobian={"s": ONE})
    assert found.verdict == "undecided"
    assert "not one index expression" in found.reason


@pytest.mark.parametrize(
    "forward",
    [
        lambda xp, x: xp.sum(x, axis=2),
        lambda xp, x: xp.sum(x, axis=(0, -2)),
        lambda xp, x: xp.einsum("ij->jj", x),
        lambda xp, x: xp.sum(xp.expand_dims(x, axis=3), axis=0),
        lambda xp, x: xp.sum(x[False], axis=0),
        lambda xp, x: xp.einsum("ii->i", xp.sum(x, axis=0, keepdims=True)),
    ],
)
def test_what_no_framework_runs_is_not_read_as_something_else(forward):
    claim = {"x": einsum("p,qr->pqr", ones, delta)}
    found = finding(forward, inputs={"x": real("n n")}, output="n", jacobian=claim)
    assert found.verdict == "undecided"


# ---------------------------------------------------------------- products of vectors


@pytest.mark.parametrize("right", [True, False])
def test_a_dot_product(right):
    """Two vectors leave no axis, which every oracle must know of `matmul`."""
    spec = Spec(
        lambda xp, u, v: xp.matmul(u, v),
        name="dot",
        inputs={"u": real("n"), "v": real("n")},
        output={"d": ""},
        jacobian={
            "u": einsum("p->p", "v"),
            "v": einsum("p->p", "u" if right else "v"),
        },
    )
    verdicts: dict[str, set[str]] = {"u": set(), "v": set()}
    for check in verify(
        spec, profile="quick", oracles=["symbolic", "exact", "autograd", "torch", "jax"]
    ).checks:
        verdicts[check.input].add(check.verdict.value)
    assert verdicts["u"] == {"proved", "identity", "agrees"}
    assert verdicts["v"] == ({"proved", "identity", "agrees"} if right else {"refuted"})
