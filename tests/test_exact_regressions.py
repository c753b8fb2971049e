"""Claims on which an exact check that takes a short cut goes wrong."""

# Forwards take xp, whether they use it or not.
# ruff: noqa: ARG005
from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from exact_cases import SMALL, both, judged, lanes, softmax_with, spec
from hypothesis import strategies as st

from gradcheck import (
    Spec,
    constant,
    delta,
    einsum,
    load,
    number,
    one_hot,
    ones,
    positive,
    probability,
    real,
    size,
)
from gradcheck.errors import SpecError
from gradcheck.oracles.exact import Pool, Settings, exact
from gradcheck.oracles.exact.evaluation import Evaluator
from gradcheck.oracles.exact.inputs import Case


def pair(y: Any, claim: Any, **inputs: Any) -> Any:
    """A scalar f = s · y(x) with a claim about s."""
    output = inputs.pop("output", {"f": ""})
    return spec(y, {"s": claim}, output, **inputs)


def kernel(xp: Any, s: Any, x: Any) -> Any:
    k = xp.exp(-((x[:, None] - x[None, :]) ** 2))
    return xp.sum(s) * xp.trace(k) ** 2, k


W = {
    "1: Σ for the mean": spec(
        lambda xp, x, g, eps: (
            g * x * (xp.mean(x * x, axis=-1) + eps)[:, None] ** -0.5,
            (xp.sum(x * x, axis=-1) + eps) ** -0.5,
        ),
        {"g": einsum("pq,p->pq", "x", "r")},
        {"y": "m n", "r": "m"},
        x=real("m n"), g=real(""), params={"eps": number(1e-8, 1e-3)},
    ),
    "2: squared exponentials": pair(
        lambda xp, s, x: (
            s * xp.sum(xp.exp(x - xp.mean(x))),
            xp.sum(xp.exp(x - xp.mean(x)) ** 2),
        ),
        einsum("->", "t"), output={"f": "", "t": ""}, s=real(""), x=real("n"),
    ),
    "3: passes n = 2 and n = 3": pair(
        kernel,
        5 * einsum("rr,ii->r", "k", "k") - 6 * einsum("rr,rr->r", "k", "k"),
        output={"f": "", "k": "n n"}, s=real("n"), x=real("n"),
    ),
    "4: 7 log n": spec(
        lambda xp, x: (xp.log(x.shape[0]) * xp.sum(x), xp.log(x.shape[0])),
        {"x": 7 * einsum(",r->r", "t", ones)}, {"f": "", "t": ""}, x=real("n"),
    ),
    "5a: exp x exp -x": pair(
        lambda xp, s, x: s * xp.sum(xp.exp(x) * xp.exp(-x)), einsum("->", ones),
        s=real(""), x=real("n"),
    ),
    "5b: trace of ones": pair(
        lambda xp, s, g: xp.sum(s * xp.diagonal(xp.einsum("pj,qj->pq", g, 1 / g))),
        einsum("r->r", ones), s=real("m"), g=positive("m n"),
    ),
    "6: 1/(1 + Σx)": pair(
        lambda xp, s, x: (s / (1 + xp.mean(x)), 1 / (1 + xp.sum(x))),
        einsum("->", "t"), output={"f": "", "t": ""}, s=real(""), x=positive("n"),
    ),
    "7a: a²": spec(
        lambda xp, x, z: (
            xp.einsum("i,iu->u", x, load("softmax").forward(xp, z)),
            load("softmax").forward(xp, z),
        ),
        {"x": einsum("pu->up", "a**2")}, {"f": "n", "a": "m n"}, x=real("m"), z=real("m n"),
    ),
    "7b: δ for the selector of a maximum": spec(
        lambda xp, z: xp.max(z, axis=-1),
        {"z": einsum("pr,s->prs", delta, ones)}, {"t": "m"}, z=real("m n"),
    ),
    "8a: 7 v": pair(
        lambda xp, s, x: (s * xp.var(x), xp.var(x)), 7 * einsum("->", "v"),
        output={"f": "", "v": ""}, s=real(""), x=real("n"),
    ),
    "8b: 7 v, unbiased": pair(
        lambda xp, s, x: (s * xp.var(x, correction=1), xp.var(x, correction=1)),
        7 * einsum("->", "v"), output={"f": "", "v": ""}, s=real(""), x=real("n"),
    ),
    "9a: 2 f/h step": spec(
        lambda xp, z: (xp.maximum(z, 0) ** 2, xp.maximum(z, 0)),
        {"z": 2 * einsum("p,p,p,pr->pr", "f", "h**-1", "step(z)", delta)},
        {"f": "m", "h": "m"}, z=real("m"),
    ),
    "9b: h/h": spec(
        lambda xp, z: (1 * z, xp.maximum(z, 0)),
        {"z": einsum("p,p,pr->pr", "h", "h**-1", delta)}, {"f": "m", "h": "m"}, z=real("m"),
    ),
    "9c: step/(2s)": spec(
        lambda xp, x: xp.sqrt(xp.maximum(x, 0)),
        {"x": einsum("p,p,pr->pr", "step(x)", "s**-1", delta) / 2}, {"s": "m"}, x=real("m"),
    ),
    "10a: 2z": spec(
        lambda xp, z: xp.maximum(z, 0) ** 2,
        {"z": 2 * einsum("p,pr->pr", "z", delta)}, {"f": "m"}, z=real("m"),
    ),
    "10b: 2 step/x": spec(
        lambda xp, x: xp.where(x > 0, xp.log(x), 0),
        {"x": 2 * einsum("p,p,pr->pr", "step(x)", "x**-1", delta)}, {"f": "m"}, x=real("m"),
    ),
    "14: a letter": softmax_with(
        both - einsum("pq,pr,s->pqrs", "a", delta, ones)
    ),
    "a root's sign": spec(
        lambda xp, x: xp.sqrt(x * x), {"x": einsum("pr->pr", delta)}, {"f": "m"}, x=real("m")
    ),
    "a product of roots": spec(
        lambda xp, x, a: xp.sqrt(a) * xp.sqrt(a * x * x),
        {"x": einsum("p,pr->pr", "a", delta)}, {"f": "m"}, x=real("m"), a=positive("m"),
    ),
    "a power's sign": spec(
        lambda xp, x: (x * x) ** 1.5,
        {"x": 3 * einsum("p,pr->pr", "x**2", delta)}, {"f": "m"}, x=real("m"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", W)
def test_what_is_wrong_is_never_an_identity(name):
    for seed in range(6):
        found = judged(W[name], seed=seed)
        assert found.verdict == "suspect" or name.startswith("9c"), (name, found)
        assert found.verdict != "identity"


def max_of_two() -> Any:
    return spec(
        lambda xp, u, v: (xp.maximum(u, v), u - v, v - u),
        {"u": einsum("p,pr->pr", "step(d)", delta), "v": einsum("p,pr->pr", "step(e)", delta)},
        {"f": "m", "d": "m", "e": "m"},
        u=real("m"),
        v=real("m"),
    )


def test_11_a_tie_that_is_an_identity_is_no_generic_branch():
    assert judged(max_of_two(), "u").verdict == "identity"
    assert judged(max_of_two()("x", "x"), "x").verdict == "suspect"


def test_11_one_path_summed_of_two():
    residual = spec(
        lambda xp, x: x + x * x, {"x": 2 * einsum("p,pr->pr", "x", delta)}, {"f": "m"}, x=real("m")
    )
    assert judged(residual).verdict == "suspect"


def test_10_a_sampled_cell_is_named():
    square = spec(
        lambda xp, z: xp.maximum(z, 0) ** 2,
        {"z": 2 * einsum("p,p,pr->pr", "z", "step(z)", delta)}, {"f": "m"}, z=real("m"),
    )  # fmt: skip
    found = judged(square)
    assert found.verdict == "identity"
    assert "in the cells of z = [" in found.statement


def test_12_targets_in_every_form():
    for targets in (constant(probability("m n")), one_hot("m n")):
        closed = Spec(
            load("softmax") >> load("cross_entropy"),
            inputs={"y": targets},
            jacobian={"z": (einsum("pq->pq", "a") - einsum("pq->pq", "y")) / size("m")},
            name="closed",
        )
        assert judged(closed).verdict == "identity"


def symmetric(n: int) -> Any:
    entries = st.lists(st.integers(-9, 9), min_size=n * n, max_size=n * n)
    return entries.map(lambda e: np.array(e, dtype=float).reshape(n, n) / 4).map(lambda a: a + a.T)


def test_12_a_users_strategy_is_sampled_and_taken_exactly():
    def trace(claim: Any) -> Any:
        return spec(
            lambda xp, A, x: xp.trace(xp.matmul(A, A)) + xp.sum(x),
            {"A": claim}, "", A=symmetric, x=real("n"),
        )  # fmt: skip

    found = judged(trace(2 * einsum("pq->pq", "A")), "A")
    assert found.verdict == "identity"
    assert "with samples of A" in found.statement
    assert judged(trace(einsum("pq->pq", "A")), "A").verdict == "suspect"


def test_13_floats_are_the_decimals_they_are_written_as():
    tenth = spec(
        lambda xp, x: 0.1 * x, {"x": einsum("pr->pr", delta) / 10}, {"f": "m"}, x=real("m")
    )
    assert judged(tenth).verdict == "identity"
    shifted = spec(
        lambda xp, x, s: (
            xp.maximum((x + 1e16) - 1e16 - 1.5, 0) ** 2 * xp.sqrt(s * s),
            x - 1.5,
        ),
        {"x": 2 * einsum("p,p,p,pr->pr", "step(t)", "t", "s", delta)},
        {"f": "m", "t": "m"}, x=real("m"), s=positive("m"),
    )  # fmt: skip
    assert judged(shifted, "x").verdict == "identity"


def test_a_rounded_float_that_matters_is_undecided():
    def scaled(factor: Any) -> Any:
        return spec(
            lambda xp, x: x * factor(x.shape[0]),
            {"x": einsum("pr->pr", delta) * size("m") ** Fraction(-1, 2)},
            {"f": "m"}, x=real("m"),
        )  # fmt: skip

    found = judged(scaled(lambda d: d**-0.5))
    assert found.verdict == "undecided"
    assert "test_exact_regressions.py" in found.reason
    assert "which was rounded" in found.reason
    exactly = spec(
        lambda xp, x: x / xp.sqrt(x.shape[0]),
        {"x": einsum("pr->pr", delta) * size("m") ** Fraction(-1, 2)}, {"f": "m"}, x=real("m"),
    )  # fmt: skip
    assert judged(exactly).verdict == "identity"
    assert judged(exactly, sizes=[{"m": 7}, {"m": 22}]).verdict == "identity"


def test_14_a_residual_of_the_wrong_shape_is_an_error():
    wrong = spec(
        lambda xp, z: (1 * z, xp.sum(z, axis=1, keepdims=True)),
        {"z": einsum("pr,qs->pqrs", delta, delta)}, {"h": "m n", "t": "m n"}, z=real("m n"),
    )  # fmt: skip
    with pytest.raises(SpecError, match="t the shape"):
        judged(wrong)


def test_14_a_sum_over_the_wrong_axis_is_an_error():
    wrong = spec(
        lambda xp, x: xp.sum(x, axis=1), {"x": einsum("r,us->urs", ones, delta)},
        {"f": "n"}, x=real("m n"),
    )  # fmt: skip
    with pytest.raises(SpecError, match="f the shape"):
        judged(wrong)


def test_15_degrees_count_summands():
    quotients = spec(
        lambda xp, t, a: xp.sum(t / a), {"t": einsum("q->q", "a**-1")}, "",
        t=real("n"), a=positive("n"),
    )  # fmt: skip
    claim = quotients.claims()[0]
    evaluator = Evaluator(quotients, claim, Settings())
    outcome = evaluator.evaluate(Case({"n": 60}))
    assert not outcome.wrong
    assert outcome.degree >= 60
    assert "degree ≤" in exact(quotients, claim, sizes=[{"n": 60}]).statement


def test_15_a_zero_denominator_ends_undecided():
    vacuous = spec(
        lambda xp, x: 1 / (xp.exp(x) * xp.exp(-x) - 1),
        {"x": einsum("pr->pr", delta)}, {"f": "m"}, x=real("m"),
    )  # fmt: skip
    found = judged(vacuous)
    assert found.verdict == "undecided"
    assert "divides by an expression that is 0 at this size" in found.reason
    assert "test_exact_regressions.py" in found.reason


def test_15_no_real_point_ends_undecided_as_vacuous():
    nowhere = spec(
        lambda xp, x: xp.sqrt(-1 - x * x),
        {"x": -einsum("p,p,pr->pr", "x", "f**-1", delta)}, {"f": "m"}, x=real("m"),
    )  # fmt: skip
    found = judged(nowhere)
    assert found.verdict == "undecided"
    assert "vacuous" in found.reason


def test_15_a_collision_in_one_lane_does_not_merge():
    xp = lanes()
    values = xp.field.random(xp.rng, (2,))
    values[0, 1] = values[0, 0]
    for name in ("exp", "log", "erf", "atan"):
        found = xp.unary(name, xp.variable(values)).values
        assert (found[:, 0] != found[:, 1]).all(), name
    values[:, 1] = values[:, 0]
    for name in ("exp", "log", "erf", "atan"):
        found = xp.unary(name, xp.variable(values)).values
        assert (found[:, 0] == found[:, 1]).all(), name


ACCEPTED = {
    "a product": (lambda xp, x, y: x * x * y, einsum("pr,p->pr", delta, "x**2")),
    "a quotient": (lambda xp, x, y: x * x / (y * y + 1), einsum("pr,p->pr", delta, "x")),
    "an exponential": (lambda xp, x, y: xp.exp(x) * y, einsum("pr,p->pr", delta, "y")),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_15_the_measured_acceptance_stays_below_the_printed_bound(name):
    forward, claim = ACCEPTED[name]
    wrong = spec(forward, {"x": claim}, {"f": "m"}, x=real("m"), y=real("m"))
    settings = Settings(pool=SMALL, lanes=1)
    evaluator = Evaluator(wrong, wrong.claims()[0], settings)
    outcomes = [evaluator.evaluate(Case({"m": 1})) for _ in range(600)]
    accepted = sum(not o.wrong for o in outcomes) / len(outcomes)
    bound = max(o.bound for o in outcomes)
    assert bound < 0.6
    assert accepted < bound
    with_one_prime = Settings(pool=Pool(4, 3, 251, 252, 1), lanes=1)
    outcome = Evaluator(wrong, wrong.claims()[0], with_one_prime).evaluate(Case({"m": 1}))
    assert outcome.bound >= accepted


def test_a_weak_bound_is_no_identity():
    right = spec(
        lambda xp, x: x * x, {"x": 2 * einsum("p,pr->pr", "x", delta)}, {"f": "m"}, x=real("m")
    )
    found = judged(right, settings=Settings(pool=SMALL, lanes=1))
    assert found.verdict == "undecided"
    assert "bound on a false accept" in found.reason


# ---------------------------------------------------------------- roots


def test_roots_of_sums_are_related_to_them():
    unit = spec(
        lambda xp, x: (xp.sqrt(xp.sum(x * x)), xp.sum(x * x)),
        {"x": einsum("p,,->p", "x", "f", "t**-1")}, {"f": "", "t": ""}, x=real("n"),
    )  # fmt: skip
    found = judged(unit)
    assert found.verdict == "identity"
    assert found.bound < 1e-12
    wrong = spec(
        lambda xp, x: (xp.sqrt(xp.sum(x * x)), xp.sum(x * x)),
        {"x": einsum("p,->p", "x", "t**-1")}, {"f": "", "t": ""}, x=real("n"),
    )  # fmt: skip
    assert judged(wrong).verdict == "suspect"


def test_roots_of_rows_are_related_to_them():
    def rows(sign: int) -> Any:
        def forward(xp: Any, x: Any) -> Any:
            norm = xp.sqrt(xp.sum(x * x, axis=-1))
            return norm, norm * norm

        return spec(
            forward, {"x": sign * einsum("p,p,ps,pr->prs", "f", "t**-1", "x", delta)},
            {"f": "m", "t": "m"}, x=real("m n"),
        )  # fmt: skip

    assert judged(rows(1)).verdict == "identity"
    assert judged(rows(-1)).verdict == "suspect"


@pytest.mark.parametrize("seed", range(8))
def test_a_root_that_is_hidden_by_a_sign_stays_opaque(seed):
    """√(x² (1 + y²)) √(1 + y²) is |x| (1 + y²), never x (1 + y²)."""
    hidden = spec(
        lambda xp, x, y: (
            xp.sqrt(x * x * (1 + y * y)) * xp.sqrt(1 + y * y), 1 + y * y,
        ),
        {"x": einsum("p,pr->pr", "t", delta)}, {"f": "m", "t": "m"}, x=real("m"), y=real("m"),
    )  # fmt: skip
    assert judged(hidden, "x", seed=seed).verdict == "suspect"


# ---------------------------------------------------------------- conditions


def test_conditions_are_combined_and_numbers_are_conditions():
    banded = spec(
        lambda xp, x: (
            xp.where((x > -1) & ~(x > 1), 3 * x, 0), xp.where((x > 1) | (x <= -1), 0, 1) + 0 * x,
        ),
        {"x": 3 * einsum("p,pr->pr", "g", delta)}, {"f": "m", "g": "m"}, x=real("m"),
    )  # fmt: skip
    assert judged(banded).verdict == "identity"
    nonzero = spec(
        lambda xp, x: xp.where(x, 2 * x, 5), {"x": 2 * einsum("pr->pr", delta)},
        {"f": "m"}, x=real("m"),
    )  # fmt: skip
    assert judged(nonzero).verdict == "identity"
