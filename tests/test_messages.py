"""What a new user reads when a derivation is wrong, word for word: what, where, and what to do."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck import constant, load, real, verify, verify_vjp

FILE = """\
from gradcheck import Spec, delta, einsum, load, number, ones, positive, real, size


def softmax_forward(xp, z):
    e = xp.exp(z - xp.max(z, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)


def softmax_of(claim, name):
    return Spec(
        softmax_forward, inputs={"z": real("m n")}, output={"a": "m n"}, jacobian={"z": claim}, name=name
    )


softmax = Spec(
    softmax_forward,
    inputs={"z": real("m n")},
    output={"a": "m n"},
    jacobian={
        "z": einsum("pq,pr,qs->pqrs", "a", delta, delta)
        - einsum("q,ps,ps,pr->pqrs", ones, "a", "a", delta)
    },
)

sign = softmax_of(
    einsum("pq,pr,qs->pqrs", "a", delta, delta)
    + einsum("pq,ps,pr->pqrs", "a", "a", delta),
    "sign",
)

one_term = softmax_of(einsum("pq,pr,qs->pqrs", "a", delta, delta), "one_term")

across_rows = softmax_of(
    einsum("pq,pr,qs->pqrs", "a", delta, delta)
    - einsum("pq,ps,r->pqrs", "a", "a", ones),
    "across_rows",
)


def mean_square(xp, x):
    return xp.mean(x * x)


mean = Spec(
    mean_square,
    inputs={"x": real("n")},
    output={"L": ""},
    jacobian={"x": 2 * einsum("p->p", "x")},
)

growth = Spec(
    lambda xp, x: xp.exp(x),
    inputs={"x": positive("n")},
    output={"y": "n"},
    jacobian={"x": einsum("p,p,pq->pq", "y", "x", delta)},
)

cube = Spec(
    lambda xp, x: x * x * x,
    inputs={"x": real("n")},
    output={"y": "n"},
    jacobian={"x": 3 * einsum("p,pq->pq", "x", delta)},
)

parabola = Spec(
    lambda xp, x, y: x * x * y + x,
    inputs={"x": real("n"), "y": real("n")},
    output={"h": "n"},
    jacobian={
        "x": einsum("p,p,pq->pq", "exp(x)", "exp(y)", delta),
        "y": einsum("p,pq->pq", "x**2", delta),
    },
)

damped = Spec(
    lambda xp, x, *, eps: x * xp.log(x + eps),
    inputs={"x": positive("n")},
    params={"eps": number(1e-8, 1e-3)},
    output={"y": "n"},
    jacobian={"x": einsum("p,pq->pq", "log(x)", delta) + einsum("pq->pq", delta)},
)

chain = load("weighted_sum") >> softmax >> load("cross_entropy")

closed = Spec(
    load("softmax") >> load("cross_entropy"),
    jacobian={"z": (einsum("rs->rs", "y") - einsum("rs->rs", "a")) / size("m")},
)

logistic = Spec(
    lambda xp, z: xp.sigmoid(z),
    inputs={"z": real("n")},
    output={"s": "n"},
    jacobian={"z": einsum("p,p,pq->pq", "s**2", "exp(z)**-1", delta)},
)
"""

MESSAGES: dict[tuple[str, str, str], str] = {
    ("softmax", "z", "symbolic"): """\
Refuted: softmax, input z (mine.py:21)
  Wrong letter in term 2 (mine.py:21).
  - a[p,s] a[p,s] δ[p,r] → - a[p,q] a[p,s] δ[p,r]
  With this edit it is proved; `gradcheck verify mine.py::softmax --fix` writes it.
  Refuted by symbolic (cpu exact)
  m = 1, n = 2
  z (1 × 2) = [[0.0, 1.0]]
  ∂a[0,0]/∂z[0,1]: spec −0.53, symbolic −0.20
  certified in ball arithmetic: the two values cannot be equal
  wrong where p = r, q ≠ s (∂a[2,3]/∂z[2,1]: −0.00049, true −0.011); right where p = r, q = s
  (∂a[0,2]/∂z[0,2]: 0.034); p ≠ r (∂a[0,0]/∂z[1,1]: 0)
  true − claimed = −a[p,q] a[p,s] δ[p,r] + a^2[p,s] δ[p,r]""",
    ("sign", "z", "symbolic"): """\
Refuted: sign, input z (mine.py:27)
  Wrong sign in term 2 (mine.py:27).
  + a[p,q] a[p,s] δ[p,r] → - a[p,q] a[p,s] δ[p,r]
  With this edit it is proved; `gradcheck verify mine.py::sign --fix` writes it.
  Refuted by symbolic (cpu exact)
  m = 1, n = 1
  z (1 × 1) = [[0.0]]
  ∂a[0,0]/∂z[0,0]: spec 2, symbolic 0
  certified in ball arithmetic: the two values cannot be equal
  wrong where p = r (∂a[1,2]/∂z[1,0]: 0.13, true −0.13); right where p ≠ r (∂a[0,0]/∂z[1,1]: 0)
  true − claimed = −2 a[p,q] a[p,s] δ[p,r]""",
    ("one_term", "z", "symbolic"): """\
Refuted: one_term, input z (mine.py:31)
  A term is missing (mine.py:31).
  nothing → - a[p,q] a[p,s] δ[p,r]
  With this edit it is proved; `gradcheck verify mine.py::one_term --fix` writes it.
  Refuted by symbolic (cpu exact)
  m = 1, n = 1
  z (1 × 1) = [[0.0]]
  ∂a[0,0]/∂z[0,0]: spec 1, symbolic 0
  certified in ball arithmetic: the two values cannot be equal
  wrong where p = r (∂a[1,2]/∂z[1,0]: 0, true −0.13); right where p ≠ r (∂a[0,0]/∂z[1,1]: 0)
  true − claimed = −a[p,q] a[p,s] δ[p,r]""",
    ("across_rows", "z", "symbolic"): """\
Refuted: across_rows, input z (mine.py:35)
  A delta is missing in term 2 (mine.py:35).
  - a[p,q] a[p,s] → - a[p,q] a[p,s] δ[p,r]
  With this edit it is proved; `gradcheck verify mine.py::across_rows --fix` writes it.
  Refuted by symbolic (cpu exact)
  m = 2, n = 1
  z (2 × 1) = [[0.0], [0.0]]
  ∂a[0,0]/∂z[1,0]: spec −1, symbolic 0
  certified in ball arithmetic: the two values cannot be equal
  wrong where p ≠ r (∂a[1,2]/∂z[0,2]: −0.14, true 0); right where p = r (∂a[0,2]/∂z[0,3]: −0.0077)
  true − claimed = −a[p,q] a[p,s] δ[p,r] + a[p,q] a[p,s]""",
    ("mean", "x", "symbolic"): """\
Refuted: mean, input x (mine.py:48)
  Wrong factor: n too much (mine.py:48).
  2 x[p] → 2 x[p] / n
  With this edit it is proved; `gradcheck verify mine.py::mean --fix` writes it.
  It would be right for another question: it is the sum instead of the mean over n.
  Refuted by symbolic (cpu exact)
  n = 2
  x (2) = [0.0, 1.0]
  ∂L/∂x[1]: spec 2, symbolic 1
  certified in ball arithmetic: the two values cannot be equal
  true − claimed = 2 x[p] / n − 2 x[p]""",
    ("growth", "x", "symbolic"): """\
Refuted: growth, input x (mine.py:55)
  A tensor too many (mine.py:55).
  y[p] x[p] δ[p,q] → y[p] δ[p,q]
  With this edit it is proved; `gradcheck verify mine.py::growth --fix` writes it.
  It would be right for another question: it is the gradient with respect to log x.
  Refuted by symbolic (cpu exact)
  n = 1
  x (1) = [0.5]
  ∂y[0]/∂x[0]: spec 0.82, symbolic 1.6
  certified in ball arithmetic: the two values cannot be equal
  wrong where p = q (∂y[1]/∂x[1]: 0.15, true 1.1); right where p ≠ q (∂y[0]/∂x[1]: 0)
  true − claimed = y[p] δ[p,q] − x[p] y[p] δ[p,q]""",
    ("cube", "x", "symbolic"): """\
Refuted: cube, input x (mine.py:62)
  Wrong power (mine.py:62).
  3 x[p] δ[p,q] → 3 x^2[p] δ[p,q]
  With this edit it is proved; `gradcheck verify mine.py::cube --fix` writes it.
  Refuted by symbolic (cpu exact)
  n = 1
  x (1) = [-1.0]
  ∂y[0]/∂x[0]: spec −3, symbolic 3
  certified in ball arithmetic: the two values cannot be equal
  wrong where p = q (∂y[1]/∂x[1]: −3.7, true 4.5); right where p ≠ q (∂y[0]/∂x[1]: 0)
  true − claimed = 3 x^2[p] δ[p,q] − 3 x[p] δ[p,q]""",
    ("parabola", "x", "symbolic"): """\
Refuted: parabola, input x (mine.py:70)
  No single edit and no pair of edits mends it (mine.py:70).
  The derivative that follows from the forward, to paste:
    2 * einsum("p,p,pq->pq", "x", "y", delta)
    + einsum("pq->pq", delta)
  Refuted by symbolic (cpu exact)
  n = 1
  x (1) = [0.0]
  y (1) = [1.0]
  ∂h[0]/∂x[0]: spec 2.7, symbolic 1
  certified in ball arithmetic: the two values cannot be equal
  wrong where p = q (∂h[2]/∂x[2]: 1.2, true −3.6); right where p ≠ q (∂h[0]/∂x[1]: 0)
  true − claimed = 2 x[p] y[p] δ[p,q] + δ[p,q] − exp(x[p]) exp(y[p]) δ[p,q]""",
    ("damped", "x", "symbolic"): """\
Refuted: damped, input x (mine.py:80)
  The parameter eps stands in another place: the smaller it is, the less is wrong (mine.py:80).
  Refuted by symbolic (cpu exact)
  n = 1, eps = 0.001
  x (1) = [1.0]
  ∂y[0]/∂x[0]: spec 1, symbolic 1.0
  certified in ball arithmetic: the two values cannot be equal
  wrong where p = q (∂y[1]/∂x[1]: −1.0421477303, true −1.0421477301); right where p ≠ q
  (∂y[0]/∂x[1]: 0)
  true − claimed = x^(-1)[p] y[p] δ[p,q] + x[p] (x[p] + eps)^(-1) δ[p,q] − log(x[p]) δ[p,q] − δ[p,q]""",
    ("chain", "b", "symbolic"): """\
Refuted: chain, input b (mine.py:21)
  Link softmax: wrong letter in term 2 (mine.py:21).
  - a[p,s] a[p,s] δ[p,r] → - a[p,q] a[p,s] δ[p,r]
  With this edit it is proved; `gradcheck verify mine.py::chain --fix` writes it.
  Refuted by symbolic (cpu exact)
  m = 1, n = 1, o = 2
  x (1 × 1) = [[0.0]]
  w (1 × 2) = [[0.0, 0.0]]
  b (2) = [0.0, 1.0]
  y (1 × 2) = [[0.5, 0.5]]
  ∂L/∂b[1]: chain 0.86, symbolic 0.23
  certified in ball arithmetic: the two values cannot be equal
  in softmax: wrong where p = r, q ≠ s (∂a[2,3]/∂z[2,1]: −0.00049, true −0.011); right where p = r,
  q = s (∂a[0,2]/∂z[0,2]: 0.034); p ≠ r (∂a[0,0]/∂z[1,1]: 0)
  true − claimed = Σ_p a[p,r] / m − Σ_pq y[p,q] a^(-1)[p,q] a^2[p,r] / m""",
    ("closed", "z", "symbolic"): """\
Refuted: closed, input z (mine.py:87)
  The closed form: wrong sign (mine.py:87).
  y[r,s] / m → - y[r,s] / m
  - a[r,s] / m → + a[r,s] / m
  With this edit it is proved; `gradcheck verify mine.py::closed --fix` writes it.
  Refuted by symbolic (cpu exact)
  m = 1, n = 2
  z (1 × 2) = [[0.0, 1.0]]
  y (1 × 2) = [[0.5, 0.5]]
  ∂L/∂z[0,0]: spec 0.23, symbolic −0.23
  certified in ball arithmetic: the two values cannot be equal
  true − claimed = −2 y[r,s] / m + 2 a[r,s] / m""",
    ("logistic", "z", "autograd"): """\
Refuted: logistic, input z (mine.py:94)
  It overflows in float32 where the derivative is finite (mine.py:94).
  Refuted by autograd (cpu float32)
  n = 1
  z (1) = [-90.0]
  ∂s[0]/∂z[0]: spec nan, autograd 8.2e−40
  one of them is not finite
  the claim overflows where the derivative is finite""",
}


def told(name: str, label: str, oracle: str) -> str:
    """The paragraph of a report on one claim, up to the code that reproduces it."""
    report = verify(f"mine.py::{name}", wrt=label, oracles=[oracle], dtypes=["float32"])
    text = str(report)
    return text[text.index("Refuted: ") : text.index("  To reproduce:")].rstrip()


@pytest.mark.parametrize("case", MESSAGES, ids=lambda case: case[0])
def test_a_message_says_what_is_wrong_where_and_what_to_do(case, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(FILE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert told(*case) == MESSAGES[case]


# ---------------------------------------------------------------------- somebody's vjp


def forward(xp, z):
    e = xp.exp(z - xp.max(z, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def letter(v, z):
    a = softmax(z)
    return a * v - a**2 * v.sum(-1, keepdims=True)


def averaged(v, z):
    a = softmax(z)
    return a * (v - (v * a).sum(axis=-1, keepdims=True)) / len(z)


def odd(v, z):
    a = softmax(z)
    return a * (v - (v * a).sum(axis=-1, keepdims=True)) + np.cos(z) * v


def plus(v, z, y):
    return v * (softmax(z) + y) / len(z)


OPAQUE = {
    letter: """\
  Wrong letter in term 2: it computes - out[p,s] out[p,s] δ[p,r] where - out[p,q] out[p,s] δ[p,r]
  belongs, in ∂out[p,q]/∂z[r,s].
  The derivative that follows from the forward, as a spec has it:
    einsum("pq,pr,qs->pqrs", "out", delta, delta)
    - einsum("pq,ps,pr->pqrs", "out", "out", delta)
  Refuted by autograd (cpu float64)
  m = 1, n = 2
  z (1 × 2) = [[0.0, 1.0]]
  ∂out[0,0]/∂z[0,1]: vjp −0.53, autograd −0.20
  the gap of 0.34 is 6.6e+13 times what rounding can explain (5.1e−15)
  in ∂out[p,q]/∂z[r,s]: wrong where p = r, q ≠ s (∂out[0,2]/∂z[0,1]: −0.32, true −0.020); right
  where p = r, q = s (∂out[0,2]/∂z[0,2]: 0.25); p ≠ r (∂out[0,0]/∂z[1,1]: 0)""",
    averaged: """\
  Wrong factor: 1/m too much.
  It would be right for another question: it is the mean instead of the sum over m.
  Refuted by autograd (cpu float64)
  m = 2, n = 2
  z (2 × 2) = [[0.0, 0.0], [0.0, 0.0]]
  ∂out[0,0]/∂z[0,0]: vjp 0.125, autograd 0.25
  the gap of 0.125 is 1.3e+13 times what rounding can explain (9.7e−15)
  in ∂out[p,q]/∂z[r,s]: wrong where p = r (∂out[1,3]/∂z[1,3]: 0.083, true 0.25); right where p ≠ r
  (∂out[0,0]/∂z[1,1]: 0)""",
    odd: """\
  No single known error explains all examples.
  The derivative that follows from the forward, as a spec has it:
    einsum("pq,pr,qs->pqrs", "out", delta, delta)
    - einsum("pq,ps,pr->pqrs", "out", "out", delta)
  Refuted by autograd (cpu float64)
  m = 1, n = 1
  z (1 × 1) = [[0.0]]
  ∂out[0,0]/∂z[0,0]: vjp 1, autograd 0
  the gap of 1 is 7e+13 times what rounding can explain (1.4e−14)
  in ∂out[p,q]/∂z[r,s]: wrong where p = r, q = s (∂out[0,0]/∂z[0,0]: 1.1, true 0.094); right where p
  = r, q ≠ s (∂out[0,1]/∂z[0,2]: −0.20); p ≠ r (∂out[0,0]/∂z[1,1]: 0)""",
}


def told_of(rule, of, inputs):
    report = verify_vjp(rule, of=of, inputs=inputs, oracles=["autograd"], profile="quick")
    text = str(report)
    _, _, said = text[text.index("Refuted: ") : text.index("  To reproduce:")].partition("\n")
    return said.rstrip()


@pytest.mark.parametrize("rule", OPAQUE, ids=lambda rule: rule.__name__)
def test_a_message_about_a_vjp(rule):
    assert told_of(rule, forward, {"z": real("m n")}) == OPAQUE[rule]


PLUS = """\
  Wrong sign in term 1: it computes y[p,q] / m where - y[p,q] / m belongs, in ∂L/∂z[p,q].
  The derivative that follows from the forward, as a spec has it:
    -einsum("pq->pq", "y") / size("m")
    + einsum("pq->pq", "a") / size("m")
  Refuted by autograd (cpu float64)
  m = 1, n = 1
  z (1 × 1) = [[0.0]]
  y (1 × 1) = [[1.0]]
  ∂L/∂z[0,0]: vjp 2, autograd 0
  the gap of 2 is 8e+13 times what rounding can explain (2.5e−14)"""


def test_a_message_about_a_vjp_of_a_chain():
    targets = constant(load("cross_entropy").inputs["y"])
    assert told_of(plus, load("softmax") >> load("cross_entropy"), {"y": targets}) == PLUS


# ---------------------------------------------------------------------- told once


def test_a_link_that_refutes_a_chain_for_several_inputs_is_told_once(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(FILE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    text = str(verify("mine.py::chain", oracles=["symbolic"]))
    assert text.count("Refuted: ") == text.count("Link softmax: ") == 1
    assert "Refuted: chain, inputs x, w, b (mine.py:21)\n  Link softmax: wrong letter" in text


def test_a_forward_that_fails_is_told_once_for_all_oracles():
    report = verify_vjp(
        letter, of=lambda xp, z: xp.no_such(z), inputs={"z": real("m n")},
        oracles=["autograd", "torch", "differences"], profile="quick",
    )  # fmt: skip
    assert """
Not concluded
  error by autograd, torch, differences (cpu float64): letter, z: xp.no_such is not in the
  documented list; see gradcheck.backends.names for all that a forward may use
""" in str(report)
