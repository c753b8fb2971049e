"""Branches whose two sides are equal on more than a null set: what is said of them must hold there too."""

from __future__ import annotations

from typing import Any

import pytest

from gradcheck import Spec, constant, delta, einsum, mask, one_hot, ones, probability, real, size
from gradcheck.oracles import examine_exactly
from gradcheck.oracles.symbolic import symbolic

ONE = einsum("->", ones)
VECTOR = {"s": real(""), "x": constant(real("n"))}


def finding(forward: Any, *, oracle: str = "symbolic", **spec: Any) -> Any:
    """Of the only claim of a spec."""
    operation = Spec(forward, name="attack", **spec)
    (claim,) = operation.claims()
    return examine_exactly(oracle, operation, claim, 0)


def above_and_below(xp: Any, u: Any) -> Any:
    """1 for each entry that is not 0."""
    return xp.sum(xp.where(u > 0, 1, 0) + xp.where(u < 0, 1, 0))


def absolute_less_itself(xp, s, x):
    return s * above_and_below(xp, xp.sqrt(x * x) - x)


def always_one(xp, s, x):
    return s * above_and_below(xp, xp.sin(x) ** 2 + xp.cos(x) ** 2 - 1)


def sum_of_relus(xp, s, x):
    return s * x.shape[0] * above_and_below(xp, xp.sum(xp.maximum(x, 0)))


@pytest.mark.parametrize("forward", [absolute_less_itself, always_one, sum_of_relus])
def test_what_is_zero_in_a_whole_cell_is_neither_above_nor_below(forward):
    """√(x²) − x is 0 wherever x > 0, where the claim n is wrong."""
    claim = {"s": ONE * size("n")}
    found = finding(forward, inputs=VECTOR, output="", jacobian=claim)
    assert found.verdict == "undecided"
    assert "which may be 0 in a whole cell" in found.reason


@pytest.mark.parametrize("forward", [absolute_less_itself, sum_of_relus])
def test_exact_names_the_cells_in_which_that_is_right(forward):
    claim = {"s": ONE * size("n")}
    found = finding(forward, oracle="exact", inputs=VECTOR, output="", jacobian=claim)
    assert found.verdict == "suspect" or "in the cells of" in found.statement


def test_rows_of_probabilities_are_not_above_one():
    def forward(xp, s, y):
        return s * above_and_below(xp, xp.sum(y, axis=1) - 1)

    inputs = {"s": real(""), "y": constant(probability("m n"))}
    claim = {"s": ONE * size("m")}
    assert finding(forward, inputs=inputs, output="", jacobian=claim).verdict == "undecided"


@pytest.mark.parametrize("domain", [mask("n"), one_hot("m n")])
def test_sums_of_zeros_and_ones_may_be_zero(domain):
    def forward(xp, s, k):
        return s * above_and_below(xp, xp.sum(k, axis=0) - xp.asarray(1) / 2 - xp.asarray(1) / 2)

    inputs = {"s": real(""), "k": domain}
    claim = {"s": ONE * size("n")} if domain.kind == "one_hot" else {"s": ONE}
    assert finding(forward, inputs=inputs, output="", jacobian=claim).verdict == "undecided"


def test_what_is_zero_at_one_size_is_said_of_larger_ones():
    """x − mean x is 0 where there is one entry, and sign² with it."""

    def forward(xp, s, x):
        return s * xp.sum(xp.sign(x - xp.mean(x)) ** 2)

    found = finding(forward, inputs=VECTOR, output="", jacobian={"s": ONE * size("n")})
    assert found.statement == "for all n ≥ 2, away from ties"


def test_what_is_continuous_is_said_of_one_entry_too():
    def forward(xp, s, x):
        return s * xp.sum(xp.abs(x - xp.mean(x))), xp.sum(xp.abs(xp.mean(x) - x))

    spec = {"inputs": VECTOR, "output": {"f": "", "t": ""}}
    found = finding(forward, jacobian={"s": einsum("->", "t")}, **spec)
    assert found.statement == "for all n ≥ 1, away from ties"


def pairs(xp, s, x, compared):
    return s * xp.sum(xp.where(compared(x[:, None], x[None, :]), 1, 0))


def diagonal(xp, s, x, compared):
    return s * xp.trace(xp.where(compared(x[:, None], x[None, :]), 1, 0))


STRICT = [lambda x, y: x > y, lambda x, y: x < y]
WEAK = [lambda x, y: x >= y, lambda x, y: x <= y]


@pytest.mark.parametrize("compared", STRICT + WEAK)
def test_an_entry_ties_with_itself(compared):
    """x[p] < x[q] is false at p = q, whichever way it is written, and x[p] ≤ x[q] is true."""

    def forward(xp, s, x):
        return diagonal(xp, s, x, compared)

    right, wrong = (0 * ONE, ONE * size("n"))[:: 1 if compared in STRICT else -1]
    spec = {"inputs": VECTOR, "output": ""}
    assert finding(forward, jacobian={"s": right}, **spec).verdict == "proved"
    assert finding(forward, jacobian={"s": wrong}, **spec).verdict == "suspect"


def test_of_each_pair_one_is_larger():
    """n² − n ordered pairs, since no entry is larger than itself."""

    def forward(xp, s, x):
        return sum(pairs(xp, s, x, c) for c in STRICT)

    spec = {"inputs": VECTOR, "output": ""}
    squared = ONE * size("n") ** 2
    assert finding(forward, jacobian={"s": squared}, **spec).verdict == "suspect"
    right = {"s": squared - ONE * size("n")}
    assert finding(forward, jacobian=right, **spec).verdict == "proved"


def test_a_pairwise_loss_leaves_out_the_diagonal():
    """Σ over pairs with y[p] < y[q] of x[p] x[q] + x[p]²."""

    def forward(xp, x, y):
        less = xp.where(y[:, None] < y[None, :], 1, 0)
        terms = x[:, None] * x[None, :] + x[:, None] ** 2
        return xp.sum(less * terms), less

    inputs = {"x": real("n"), "y": constant(real("n"))}
    claim = {
        "x": einsum("rq,q->r", "g", "x")
        + einsum("pr,p->r", "g", "x")
        + 2 * einsum("rq,r->r", "g", "x")
    }
    spec = {"inputs": inputs, "output": {"f": "", "g": "n n"}}
    assert finding(forward, jacobian=claim, **spec).verdict == "proved"


def test_thresholds_of_softmax_and_of_a_cosine_are_decided():
    """Neither is constant where its inputs vary, though each input stands in it twice."""

    def softmax_above(xp, z):
        e = xp.exp(z - xp.max(z, axis=-1, keepdims=True))
        a = e / xp.sum(e, axis=-1, keepdims=True)
        kept = xp.where(a > xp.asarray(1) / 3, 1, 0)
        return xp.sum(a * kept), a, kept

    claim = {"z": einsum("rs,rs->rs", "a", "k") - einsum("rs,rq,rq->rs", "a", "a", "k")}
    found = finding(
        softmax_above,
        inputs={"z": real("m n")},
        output={"f": "", "a": "m n", "k": "m n"},
        jacobian=claim,
    )
    assert found.statement.endswith("away from ties")


def test_a_dead_layer_is_no_reason_to_doubt_the_next():
    """Σ relu(x) w is 0 where no x is positive; the step of it is multiplied by a slope of 0 there."""

    def forward(xp, x, w):
        z = xp.einsum("i,ij->j", xp.maximum(x, 0), w)
        return xp.maximum(z, 0), xp.where(z > 0, 1, 0), xp.where(x > 0, 1, 0)

    found = finding(
        forward,
        inputs={"x": real("n"), "w": constant(real("n o"))},
        output={"h": "o", "k": "o", "l": "n"},
        jacobian={"x": einsum("p,qp,q->pq", "k", "w", "l")},
    )
    assert found.statement == "for all n ≥ 1, o ≥ 1, away from ties"


def test_a_chain_whose_link_ties_in_a_whole_cell_is_not_proved():
    """max(u, v) with [u > v] and [v > u], at u = √(t²) and v = t: 0 for t > 0, where the truth is 1."""

    def larger(xp, u, v):
        return xp.maximum(u, v), u - v, v - u

    maximum = Spec(
        larger,
        inputs={"u": real(""), "v": real("")},
        output={"h": "", "above": "", "below": ""},
        jacobian={"u": einsum("->", "step(above)"), "v": einsum("->", "step(below)")},
        name="larger",
    )
    root = Spec(
        lambda xp, x: xp.sqrt(xp.sum(x) ** 2),
        inputs={"x": real("n")},
        output={"r": ""},
        jacobian={"x": einsum("p,,q->q", "x", "r**-1", ones)},
        name="root",
    )
    total = Spec(
        lambda xp, x: xp.sum(x),
        inputs={"x": real("n")},
        output={"t": ""},
        jacobian={"x": einsum("q->q", ones)},
        name="total",
    )
    chain = maximum(root("x"), total("x"))
    (claim,) = chain.claims()
    found = symbolic(chain, claim)
    assert found.verdict == "undecided"
    assert "may be 0 in a whole cell" in found.reason


@pytest.mark.parametrize("tied", [True, False])
def test_the_places_of_a_maximum_are_one_unless_entries_tie_in_a_whole_cell(tied):
    """√(z²) − z is 0 for all z > 0, so that several entries may be the smallest."""

    def forward(xp, s, x):
        y = x - xp.sqrt(x * x) if tied else x + xp.sqrt(x * x + 1)
        return s * xp.sum(xp.where(xp.equal(y, xp.max(y, axis=0)), 1, 0))

    found = finding(forward, inputs=VECTOR, output="", jacobian={"s": ONE})
    assert found.verdict == ("undecided" if tied else "proved")


def test_a_broadcast_axis_is_any_size():
    spec = {"inputs": {"b": real("#n")}, "output": {"f": "#n"}}
    found = finding(
        lambda _xp, b: b * b, jacobian={"b": 2 * einsum("p,pq->pq", "b", delta)}, **spec
    )
    assert found.statement == "for all n ≥ 1, for #n of size n and of size 1"
