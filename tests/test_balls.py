"""Certified refutation: right claims are never refuted, wrong ones are at a real point."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import flint
import numpy as np
import pytest
from flint import arb, arb_series, fmpq
from hypothesis import strategies as st
from regression_cases import CASES as REGRESSIONS
from xp_cases import CASES as XP_CASES

from gradcheck import (
    Spec,
    choice,
    constant,
    delta,
    einsum,
    integers,
    labels,
    load,
    mask,
    number,
    one_hot,
    ones,
    positive,
    probability,
    real,
    running,
    size,
)
from gradcheck.backends.names import COMPARISONS, XP_NAMES
from gradcheck.checking.search import collect, examples
from gradcheck.errors import UnsupportedOperation, UsageError
from gradcheck.library import resolve
from gradcheck.oracles.balls import (
    DIFFERS,
    UNDEFINED,
    BallArray,
    BallNamespace,
    certify,
    examine,
    search_certificate,
    truth,
    witness,
)
from gradcheck.oracles.balls.entry import Entry, Trouble, literal
from gradcheck.oracles.balls.rules import RULES

ROOT = Path(__file__).parent.parent
FILES = sorted([*(ROOT / "specs").glob("*.py"), *(ROOT / "examples" / "specs").glob("*.py")])
TARGETS = [target for file in FILES for target in resolve([str(file)])]


@dataclass
class Point:
    inputs: dict[str, Any]
    params: dict[str, Any] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)


def point(params=None, **inputs):
    arrays = {n: np.asarray(v) for n, v in inputs.items()}
    return Point(
        {n: a if a.dtype.kind == "i" else a.astype(float) for n, a in arrays.items()}, params or {}
    )


def drawn(operation, count, seed=0):
    search = examples(
        operation.inputs,
        operation.params,
        where=operation.where,
        cost=lambda sizes: math.prod(map(float, sizes.values())),
        budget=150.0,
    )
    return collect(search, count, seed)


def only(operation):
    (claim,) = operation.claims()
    return claim


def softmax(xp, z):
    e = xp.exp(z - xp.max(z, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)


diagonal = einsum("pq,pr,qs->pqrs", "a", delta, delta)
outer = einsum("pq,ps,pr->pqrs", "a", "a", delta)
Z = [[0.5, -1.25, 2.0], [0.25, 3.0, -0.75]]


def softmax_with(jacobian):
    return Spec(
        softmax,
        inputs={"z": real("m n")},
        output={"a": "m n"},
        jacobian={"z": jacobian},
    )


def elementwise(forward, factor, domain, *, params=None, output=None):
    """A spec of y[p] = f(x[p]) whose claim is one coefficient times a delta, or a whole expression."""
    return Spec(
        forward,
        inputs={"x": domain},
        params=params,
        output=output or {"y": "m"},
        jacobian={"x": factor},
    )


identity = einsum("pr->pr", delta)


# ---------------------------------------------------------------- right ones


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_right_derivation_is_never_refuted(target):
    operation = target.operation
    points = drawn(operation, 12)
    for claim in operation.claims():
        outcomes = [examine(operation, claim, p, precisions=(200, 400)) for p in points]
        assert [o.certificate for o in outcomes] == [None] * len(points)
        assert sum(o.compared for o in outcomes) > 0
        assert max(o.radius or 0 for o in outcomes) < 1e-30
        assert witness(operation, claim, points)


@pytest.mark.parametrize("case", REGRESSIONS, ids=lambda case: case.name)
def test_regression_case(case):
    points = drawn(case.operation, 24)
    (claim,) = [c for c in case.operation.claims() if c.label == case.label]
    found = search_certificate(case.operation, claim, points)
    if case.name == "defined nowhere":
        assert found is None
        assert not witness(case.operation, claim, points)
        return
    assert (found is not None) is case.wrong
    assert witness(case.operation, claim, points)
    undefined = case.name in ("relu inverse", "h over h", "root of relu")
    if found is not None:
        assert found[1].kind == (UNDEFINED if undefined else DIFFERS)


def cross_entropy(xp, a, y):
    return -xp.sum(y * xp.log(a)) / a.shape[0]


def closed_form(domain):
    links = load("softmax") >> Spec(
        cross_entropy,
        name="ce",
        inputs={"a": probability("m n"), "y": domain},
        output={"L": ""},
        jacobian={"a": -einsum("pq,pq->pq", "y", "a**-1") / size("m")},
    )
    return Spec(links, jacobian={"z": (einsum("pq->pq", "a") - einsum("pq->pq", "y")) / size("m")})


@pytest.mark.parametrize("row", [[0.1, 0.2, 0.7], [1.0, 0.0, 0.0], [3.0, 5.0, 7.0]])
def test_rows_of_probabilities_sum_to_one_exactly(row):
    spec = closed_form(constant(probability("m n")))
    outcome = examine(spec, only(spec), point(z=Z, y=[row, row]))
    assert outcome.certificate is None
    assert outcome.finite
    assert outcome.radius < 1e-200


def test_stored_row_as_reals_would_be_refuted():
    """The same claim on targets that need not sum to 1: the reason for u/Σu."""
    assert sum(map(Fraction, (0.1, 0.2, 0.7))) != 1
    spec = closed_form(constant(positive("m n")))
    found = certify(spec, only(spec), point(z=Z, y=[[0.1, 0.2, 0.7]] * 2))
    assert found is not None
    assert 0 < found.gap < 1e-15


def test_one_hot_and_label_targets():
    spec = closed_form(one_hot("m n"))
    assert examine(spec, only(spec), point(z=Z, y=[[0, 1, 0], [1, 0, 0]])).finite
    taken = Spec(
        lambda xp, z, t: xp.take(z, t, axis=0),
        inputs={"z": real("n d"), "t": labels("m", below="n")},
        output="m d",
        jacobian={"z": einsum("pr,qs->pqrs", "t", delta)},
    )
    assert examine(taken, only(taken), point(z=Z, t=[1, 0, 1])).finite


def test_ambient_derivative_on_symmetric_matrices():
    def symmetric(n):
        entries = st.lists(st.sampled_from([0.5, -1.0, 2.0, 0.1]), min_size=n * n, max_size=n * n)
        return entries.map(lambda v: np.reshape(v, (n, n)) + np.reshape(v, (n, n)).T)

    spec = Spec(
        lambda xp, A: xp.trace(A @ A),
        inputs={"A": symmetric},
        output="",
        jacobian={"A": 2 * einsum("rs->rs", "A")},
    )
    for p in drawn(spec, 10):
        assert certify(spec, only(spec), p) is None
    assert witness(spec, only(spec), drawn(spec, 10))


def test_own_strategies_are_known_up_to_rounding():
    """R Rᵀ = 1 holds for the rotation that is meant, not for the floats that are stored."""
    angles = st.sampled_from([0.3, 1.1, 2.0])
    rotations = angles.map(
        lambda t: np.array([[math.cos(t), -math.sin(t)], [math.sin(t), math.cos(t)]])
    )

    def forward(xp, R, x):
        return x @ R @ xp.matrix_transpose(R)

    def spec(factor):
        return Spec(
            forward,
            inputs={"R": constant(rotations), "x": real("m 2")},
            output="m 2",
            jacobian={"x": factor * einsum("pr,qs->pqrs", delta, delta)},
        )

    right, wrong = spec(1), spec(1 + Fraction(1, 10**9))
    for p in drawn(right, 6):
        assert certify(right, only(right), p) is None
    assert search_certificate(wrong, only(wrong), drawn(wrong, 6)) is not None


# ---------------------------------------------------------------- literals and parameters


@pytest.mark.parametrize(
    ("x", "exact"),
    [(0.1, Fraction(1, 10)), (1e16, Fraction(10**16)), (2.0**-20, Fraction(1, 2**20)), (7, 7),
     (-1e-300, Fraction(-1, 10**300)), (0.0, 0), (Fraction(2, 3), Fraction(2, 3)), (True, 1)],
)  # fmt: skip
def test_short_literals_are_rationals(x, exact):
    with flint.ctx.workprec(1000):
        ball, exact = literal(x), Fraction(exact)
        assert ball.contains(fmpq(exact.numerator, exact.denominator))
        assert ball.rad() <= arb(2) ** -900


def test_long_literals_hold_what_was_rounded():
    with flint.ctx.workprec(200):
        for x, meant in ((1 / 3, arb(fmpq(1, 3))), (math.pi, arb.pi()), (1 - 0.9999, arb("1e-4"))):
            assert literal(x).contains(meant)
            assert literal(x).rad() > 0


def scaled_by(factor):
    return elementwise(lambda _xp, x: factor * x, Fraction(1, 10) * identity, real("m"))


def test_tenth_is_a_tenth():
    right, near = scaled_by(0.1), scaled_by(Fraction(0.1))
    assert certify(right, only(right), point(x=[3.0])) is None
    found = certify(near, only(near), point(x=[3.0]))
    assert found is not None
    assert found.gap < 1e-17


def test_rounded_python_float_is_not_held_against_a_claim():
    spec = elementwise(lambda _xp, x: x * len(x) ** -0.5, identity * size("m") ** Fraction(-1, 2),
                       real("m"))  # fmt: skip
    assert certify(spec, only(spec), point(x=[1.0, 2.0, 3.0])) is None


def test_parameters_are_exact_decimals():
    def forward(_xp, x, *, keep, kind):
        return x / (1 - keep) if kind == 0.5 else x

    def spec(claim):
        return Spec(
            forward,
            inputs={"x": real("m")},
            params={"keep": number(0.1, 0.9), "kind": choice(0.5, 1.0)},
            output="m",
            jacobian={"x": claim * identity},
        )

    at = point({"keep": 0.9, "kind": 0.5}, x=[2.0])
    assert certify(spec(10), only(spec(10)), at) is None
    assert certify(spec(10 + Fraction(1, 10**30)), only(spec(10)), at) is not None
    assert certify(spec(1), only(spec(1)), point({"keep": 0.9, "kind": 1.0}, x=[2.0])) is None


def test_bounds_are_decimals():
    """At x = hi = 0.1 the point is 1/10, not the float just above it."""
    spec = elementwise(lambda _xp, x: x * x, Fraction(1, 5) * identity, real("m", 0, 0.1))
    assert certify(spec, only(spec), point(x=[0.1])) is None
    assert certify(spec, only(spec), point(x=[0.05])) is not None


# ---------------------------------------------------------------- wrong ones


@pytest.mark.parametrize(("power", "precision"), [(12, 200), (30, 200), (80, 400), (200, 800)])
def test_relative_error_of_the_diagonal(power, precision):
    spec = softmax_with((1 + Fraction(1, 10**power)) * diagonal - outer)
    found = certify(spec, only(spec), point(z=Z))
    assert found is not None
    assert (found.kind, found.precision) == (DIFFERS, precision)
    assert found.place[:2] == found.place[2:]
    assert found.claimed_digits != found.true_digits
    assert 0 < found.gap < 10.0**-power


def test_certified_digits_are_digits():
    spec = softmax_with((1 + Fraction(1, 10**12)) * diagonal - outer)
    found = certify(spec, only(spec), point(z=Z))
    exact = truth(spec, only(spec), point(z=Z))
    assert found.true == exact[0][found.place]
    assert abs(Fraction(found.true_digits) - Fraction(found.true)) < Fraction(1, 10**13)
    assert found.gap == pytest.approx(float(Fraction(found.claimed_digits)) * 1e-12, rel=0.5)


one_minus_a = einsum("pq,pr,s->pqrs", "a", delta, ones) - einsum(
    "pq,pr,s->pqrs", "a**2", delta, ones
)


@pytest.mark.parametrize(
    "wrong",
    [
        outer - diagonal,
        diagonal + outer,
        diagonal,
        2 * diagonal - outer,
        diagonal - einsum("ps,ps,pr,q->pqrs", "a", "a", delta, ones),
        2 * diagonal - 2 * einsum("pq,pr,qs->pqrs", "a**2", delta, delta) - one_minus_a,
    ],
    ids=["sign", "sign of a term", "dropped term", "twice", "a[p,s] twice", "right at n = 2"],
)
def test_wrong_softmax(wrong):
    spec = softmax_with(wrong)
    assert search_certificate(spec, only(spec), drawn(spec, 20)) is not None


def test_missing_division_by_m():
    def spec(jacobian):
        return Spec(
            cross_entropy,
            inputs={"a": probability("m n"), "y": one_hot("m n")},
            output={"L": ""},
            jacobian={"a": jacobian},
        )

    right = spec(-einsum("pq,pq->pq", "y", "a**-1") / size("m"))
    wrong = spec(-einsum("pq,pq->pq", "y", "a**-1"))
    one, two = [[0.25, 0.75]], [[0.25, 0.75], [0.5, 0.5]]
    assert certify(wrong, only(wrong), point(a=one, y=[[0, 1]])) is None
    found = certify(wrong, only(wrong), point(a=two, y=[[0, 1], [1, 0]]))
    assert found.claimed == pytest.approx(2 * found.true, rel=1e-15)
    assert certify(right, only(right), point(a=two, y=[[0, 1], [1, 0]])) is None


def test_claim_on_a_residual_output():
    def forward(xp, x):
        r = xp.exp(x)
        return xp.sum(r), r

    spec = Spec(
        forward,
        inputs={"x": real("m")},
        output={"s": "", "r": "m"},
        jacobian={"x": einsum("r->r", "r"), ("r", "x"): 2 * einsum("p,pr->pr", "r", delta)},
    )
    good, bad = spec.claims()
    assert certify(spec, good, point(x=[0.5, 1.0])) is None
    found = certify(spec, bad, point(x=[0.5, 1.0]))
    assert found.claimed == pytest.approx(2 * found.true)


def test_missing_claim_is_an_error():
    spec = Spec(lambda _xp, x: x * x, inputs={"x": real("m")}, output="m")
    with pytest.raises(UsageError, match="no derivative"):
        certify(spec, only(spec), point(x=[1.0]))


# ---------------------------------------------------------------- axes


def broadcast(jacobian):
    return Spec(
        lambda _xp, x, b: x * b,
        inputs={"x": constant(real("m n")), "b": real("#n")},
        output={"y": "m n"},
        jacobian={"b": jacobian},
    )


@pytest.mark.parametrize("b", [[2.0], [2.0, 3.0, 5.0]])
def test_broadcast_axis(b):
    right = broadcast(einsum("pq,qs->pqs", "x", delta))
    wrong = broadcast(einsum("pq,q,qs->pqs", "x", "b", delta))
    assert examine(right, only(right), point(x=Z, b=b)).finite
    assert certify(right, only(right), point(x=Z, b=b)) is None
    assert certify(wrong, only(wrong), point(x=Z, b=b)) is not None


def test_leading_axes():
    def spec(jacobian):
        return Spec(
            softmax,
            inputs={"z": real("... n")},
            output={"a": "... n"},
            jacobian={"z": jacobian},
        )

    right = spec(einsum("q,qs->qs", "a", delta) - einsum("q,s->qs", "a", "a"))
    wrong = spec(einsum("q,qs->qs", "a", delta))
    for z in (Z[0], Z, [Z, [[1.0, 2.0, 4.0], [0.0, 1.0, -1.0]]]):
        assert examine(right, only(right), point(z=z)).radius < 1e-100
        assert certify(wrong, only(wrong), point(z=z)) is not None


def test_composed_claim_with_summed_letters():
    """The chain rule's own letters: Σ over those of both links, of sizes that differ."""
    chain = load("weighted_sum") >> load("softmax") >> load("cross_entropy")
    rng = np.random.default_rng(1)
    at = point(x=rng.normal(size=(3, 2)), w=rng.normal(size=(2, 4)), b=rng.normal(size=4),
               y=np.eye(4)[[0, 2, 2]])  # fmt: skip
    for claim in chain.claims():
        outcome = examine(chain, claim, at)
        assert outcome.finite
        assert outcome.radius < 1e-200


def test_delta_over_summed_letters_counts_its_axis():
    """Σ_t δ[t,t'] over both letters is n."""
    spec = Spec(
        lambda _xp, x, y: x * y.shape[0],
        inputs={"x": real("m"), "y": constant(real("n"))},
        output="m",
        jacobian={"x": einsum("tu,t,u,pr->pr", delta, "y**0", "y**0", delta)},
    )
    assert certify(spec, only(spec), point(x=[1.0, 2.0], y=[1.0, 2.0, 3.0])) is None


# ---------------------------------------------------------------- branches and edges


def relu_square(xp, x):
    h = xp.maximum(x, 0)
    return h * h, h


def test_claim_undefined_in_a_whole_cell_is_refuted():
    claim = 2 * einsum("p,p,p,pr->pr", "y", "h**-1", "step(x)", delta)
    spec = elementwise(relu_square, claim, real("m"), output={"y": "m", "h": "m"})
    found = certify(spec, only(spec), point(x=[-1.0]))
    assert (found.kind, found.true, found.gap) == (UNDEFINED, 0.0, math.inf)
    assert math.isnan(found.claimed)
    assert certify(spec, only(spec), point(x=[1.5])) is None


def test_claim_undefined_on_a_null_set_is_not():
    """2 x² x⁻¹ is 2 x wherever x ≠ 0; it is a side condition that it divides by x."""
    spec = elementwise(lambda _xp, x: x * x, 2 * einsum("p,p,pr->pr", "x**2", "x**-1", delta),
                       real("m"))  # fmt: skip
    outcome = examine(spec, only(spec), point(x=[0.0, 1.0]))
    assert outcome.certificate is None
    assert not outcome.finite
    assert outcome.reason == "the claim is undefined at this point, perhaps not nearby"


def test_logarithm_of_negative_numbers_is_undefined():
    spec = elementwise(
        lambda xp, x: xp.where(x > 0, xp.log(x), 0),
        einsum("p,p,pr->pr", "step(x)", "log(x)", delta),
        real("m"),
    )
    assert certify(spec, only(spec), point(x=[-1.0])).kind == UNDEFINED


@pytest.mark.parametrize(
    "forward",
    [
        lambda xp, x: xp.maximum(x, 0),
        lambda xp, x: xp.where(x > 0, 2 * x, x),
        lambda xp, x: xp.abs(x),
        lambda xp, x: xp.clip(x, 0, 1),
        lambda xp, x: xp.sign(x) * x,
        lambda _xp, x: (x >= 0) * x,
        lambda xp, x: x * xp.max(xp.stack([x, -x]), axis=0),
        lambda xp, x: xp.sqrt(x),
    ],
)
def test_ties_are_left_open(forward):
    """Wrong claims too get no certificate at a kink: the point must be drawn again."""
    spec = elementwise(forward, 5 * identity, real("m"))
    outcome = examine(spec, only(spec), point(x=[0.0]))
    assert outcome.certificate is None
    assert not outcome.finite
    assert outcome.reason
    assert certify(spec, only(spec), point(x=[0.5])) is not None


def test_a_tie_spoils_its_own_entries_only():
    spec = elementwise(lambda xp, x: xp.maximum(x, 0), 5 * identity, real("m"))
    found = certify(spec, only(spec), point(x=[0.0, 1.0]))
    assert found.place == (1, 1)


def test_unselected_branch_may_be_undefined():
    def forward(xp, x):
        return xp.where(x > 0, xp.log(x), x), xp.where(x > 0, 1 / x, 1)

    spec = elementwise(forward, einsum("p,pr->pr", "s", delta), real("m"),
                       output={"y": "m", "s": "m"})  # fmt: skip
    assert examine(spec, only(spec), point(x=[-2.0, 3.0])).finite


def test_masked_softmax_with_infinities():
    def forward(xp, z, k):
        return softmax(xp, xp.where(k > 0, z, -xp.inf))

    spec = Spec(
        forward,
        inputs={"z": real("m n"), "k": mask("m n")},
        output={"a": "m n"},
        jacobian={"z": diagonal - outer},
    )
    outcome = examine(spec, only(spec), point(z=Z, k=[[1, 0, 1], [1, 1, 0]]))
    assert outcome.finite
    assert outcome.radius < 1e-100


def test_selected_entries_equal_themselves():
    """z = max z is decided at the maximum, since both are one entry."""
    row_max = next(t.operation for t in TARGETS if t.name == "row_max")
    assert examine(row_max, row_max.claims()[0], point(z=Z)).finite


def test_python_if_on_a_decided_branch():
    def forward(_xp, x):
        return x * x if x[0] > 0 else x

    spec = elementwise(forward, 2 * einsum("p,pr->pr", "x", delta), real("m"))
    assert certify(spec, only(spec), point(x=[1.0, -2.0])) is None
    assert certify(spec, only(spec), point(x=[-1.0, -2.0])) is not None
    assert examine(spec, only(spec), point(x=[0.0])).reason.startswith("`if` on a comparison")


def test_integers_do_not_move():
    spec = Spec(
        lambda xp, x, k: xp.where(k > 0, x, 2 * x),
        inputs={"x": real("m"), "k": integers("m", 0, 3)},
        output="m",
        jacobian={"x": identity},
    )
    assert certify(spec, only(spec), point(x=[1.0], k=[2])) is None
    assert certify(spec, only(spec), point(x=[1.0], k=[0])).true == 2


# ---------------------------------------------------------------- what is no point


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({"a": [[np.inf, 1.0]], "y": [[0, 1]]}, "not finite"),
        ({"a": [[0.0, 0.0]], "y": [[0, 1]]}, "sums to 0"),
        ({"a": np.zeros((0, 2)), "y": np.zeros((0, 2))}, "empty"),
    ],
)
def test_examples_outside_the_domain(inputs, reason):
    spec = load("cross_entropy")
    outcome = examine(spec, only(spec), point(**inputs))
    assert outcome.certificate is None
    assert reason in outcome.reason
    assert not witness(spec, only(spec), [point(**inputs)])


def test_large_jacobians_are_declined():
    spec = load("softmax")
    outcome = examine(spec, only(spec), point(z=np.ones((20, 20))))
    assert "160000 entries" in outcome.reason


def test_computed_values_are_no_python_numbers():
    spec = elementwise(lambda _xp, x: x * float(x[0]), identity, real("m"))
    assert "float()" in examine(spec, only(spec), point(x=[2.0])).reason


def test_witness_of_a_vacuous_claim():
    def nowhere(xp, x):
        return 1 / (xp.exp(x) * xp.exp(-x) - 1)

    spec = elementwise(nowhere, 3 * identity, real("m"))
    assert not witness(spec, only(spec), drawn(spec, 10))
    assert search_certificate(spec, only(spec), drawn(spec, 10)) is None


@pytest.mark.parametrize("fails", [False, True])
def test_context_is_restored(fails):
    def forward(_xp, x):
        if fails:
            raise RuntimeError
        return x

    spec = elementwise(forward, identity, real("m"))
    flint.ctx.prec = 77
    try:
        if fails:
            with pytest.raises(RuntimeError):
                certify(spec, only(spec), point(x=[1.0]))
        else:
            certify(spec, only(spec), point(x=[1.0]))
            truth(spec, only(spec), point(x=[1.0]))
        assert flint.ctx.prec == 77
    finally:
        flint.ctx.prec = 53


# ---------------------------------------------------------------- the truth in doubles


def test_truth_to_a_part_of_an_ulp():
    spec = load("softmax")
    high, low = truth(spec, only(spec), point(z=Z))
    with flint.ctx.workprec(500):
        e = [[arb(x).exp() for x in row] for row in Z]
        a = [[x / sum(row) for x in row] for row in e]
        for p, q, r, s in np.ndindex(high.shape):
            exact = a[p][q] * (int(q == s) - a[p][s]) if p == r else arb(0)
            gap = abs(exact - arb(high[p, q, r, s]) - arb(low[p, q, r, s]))
            assert gap <= arb(2) ** -12 * arb(math.ulp(high[p, q, r, s]))
    assert np.any(low != 0)


def test_truth_through_cancellation():
    """1 - tanh² far out: precision is doubled until it suffices."""
    spec = elementwise(
        lambda xp, x: xp.tanh(x) ** 2 - 1 + 1 / xp.cosh(x) ** 2 + x, identity, real("m")
    )
    high, low = truth(spec, only(spec), point(x=[400.0]))
    assert high[0, 0] == 1
    assert abs(low[0, 0]) < 2.0**-64


def test_truth_has_none_at_a_kink():
    spec = elementwise(lambda xp, x: xp.abs(x), identity, real("m"))
    assert truth(spec, only(spec), point(x=[0.0])) is None


# ---------------------------------------------------------------- rules and names

ARGUMENTS = {"acos": "0.3", "asin": "-0.4", "log": "0.7", "log1p": "-0.2", "sqrt": "2.5"}
SERIES = ("acos", "asin", "atan", "cos", "erf", "exp", "log", "sin", "sqrt", "tan")


@pytest.mark.parametrize("name", sorted(RULES))
def test_rule_against_differences_of_high_precision(name):
    with flint.ctx.workprec(2000):
        u, h, rule = arb(ARGUMENTS.get(name, "0.9")), arb(2) ** -600, RULES[name]
        quotient = (rule.value(u + h) - rule.value(u - h)) / (2 * h)
        assert abs(quotient - rule.slope(u, rule.value(u))) < arb("1e-300")


@pytest.mark.parametrize("name", SERIES)
def test_rule_against_power_series(name):
    with flint.ctx.workprec(400):
        u, rule = arb(ARGUMENTS.get(name, "0.9")), RULES[name]
        value, slope = getattr(arb_series([u, 1], prec=2), name)().coeffs()
        assert abs(value - rule.value(u)) < arb("1e-50")
        assert abs(slope - rule.slope(u, rule.value(u))) < arb("1e-50")


def test_every_name_is_there():
    space = BallNamespace()
    assert [n for n in sorted(XP_NAMES) if not hasattr(space, n)] == []


NAMED = [
    (name, k, *case)
    for name, cases in XP_CASES.items()
    for k, case in enumerate(cases)
    if name not in COMPARISONS  # their cases meet floats such as 1.2 with the decimal 1.2
]


def directed(space, x, wrt):
    if not isinstance(x, np.ndarray) or x.dtype.kind != "f":
        return x
    out = np.empty(x.shape, dtype=object)
    for direction, place in enumerate(np.ndindex(x.shape)):
        out[place] = Entry(arb(float(x[place])), {direction: arb(1)} if wrt else None, True)
    return BallArray(space, out)


@pytest.mark.parametrize(("name", "k", "forward", "arrays"),
                         [(n, k, f, a) for n, k, f, *a in NAMED],
                         ids=[f"{n}-{k}" for n, k, *_ in NAMED])  # fmt: skip
def test_name_against_the_error_carrying_run(name, k, forward, arrays):
    expected = running.derivative(forward, arrays, 0)
    with flint.ctx.workprec(200):
        space = BallNamespace()
        values = [directed(space, x, i == 0) for i, x in enumerate(arrays)]
        out = space.asarray(forward(space, *values)).entries
        (value, error), *_ = expected.outputs
        assert out.shape == value.shape
        jacobian = expected.value.reshape((out.size, -1))
        bounds = expected.error.reshape((out.size, -1))
        for i, entry in enumerate(out.flat):
            if not entry.trouble and entry.value.is_finite():
                near(entry.value, value.flat[i], error.flat[i])
                for j in range(arrays[0].size):
                    near(entry.tangent.get(j, arb(0)), jacobian[i, j], bounds[i, j])
        troubles = {e.trouble for e in out.flat}
    ties = name == "max" and k == 3  # the maximum of x and x is a tie, but of one entry with itself
    assert troubles == {Trouble.NONE} or ties or expected.kinks, troubles


@pytest.mark.parametrize("name", COMPARISONS)
def test_comparison(name):
    x, y = np.array([1.0, 2.0, 3.0]), np.array([1.5, 0.5, 3.0])
    expected = getattr(np, name)(x, y)
    with flint.ctx.workprec(100):
        space = BallNamespace()
        fixed = getattr(space, name)(space.asarray(x), space.asarray(y))
        moving = getattr(space, name)(directed(space, x, wrt=True), y)
        same = directed(space, x, wrt=True)
        assert fixed.true.tolist() == expected.tolist()
        assert fixed.false.tolist() == (~expected).tolist()
        assert moving.ambiguous.tolist() == [False, False, True]
        assert moving.true[:2].tolist() == expected[:2].tolist()
        assert getattr(space, name)(same, same).true.tolist() == getattr(np, name)(x, x).tolist()


def near(ball, centre, error):
    """The ball meets the other run's bound; short literals read as decimals move it by an ulp."""
    slack = 1e-14 * (1 + abs(centre))
    assert arb(float(centre), float(error) + slack).contains(ball.mid())


def test_infinite_and_undefined_arithmetic():
    with flint.ctx.workprec(100):
        space = BallNamespace()
        trouble = lambda x: space.asarray(x).entries.item().trouble  # noqa: E731
        inf = space.asarray(np.inf)
        assert trouble(inf - inf) is Trouble.UNDEFINED
        assert trouble(inf * 0) is Trouble.UNDEFINED
        assert trouble(inf + 1) is Trouble.NONE
        assert space.exp(-inf).entries.item().value.is_zero()
        assert trouble(space.asarray(1.0) / 0) is Trouble.UNDEFINED
        assert trouble(space.log(-1.0)) is Trouble.UNDEFINED
        assert trouble(space.sqrt(space.pi - space.pi)) is Trouble.UNKNOWN
        assert trouble(1 / (space.pi - space.pi)) is Trouble.UNKNOWN
        moving = directed(space, np.array(0.0), wrt=True)
        assert trouble(1 / moving) is Trouble.ISOLATED
        assert trouble(moving * (1 / moving)) is Trouble.ISOLATED
        assert trouble(space.where(moving > 0, 1, 2)) is Trouble.STRADDLES
        assert trouble(space.pow(space.asarray(-8.0), Fraction(1, 3))) is Trouble.UNDEFINED
        with pytest.raises(UnsupportedOperation, match="another namespace"):
            space.asarray(running.ErrorNamespace("float64").asarray(1.0))


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_inverse_and_determinant_against_flint(n):
    rng = np.random.default_rng(n)
    x = rng.normal(size=(n, n))
    with flint.ctx.workprec(300):
        space = BallNamespace()
        matrix = flint.arb_mat(n, n, [float(v) for v in x.flat])
        seeded = directed(space, x, wrt=True)
        inverse, det = matrix.inv(), space.det(seeded).entries.item()
        assert (det.value - matrix.det()).contains(0)
        for place in np.ndindex(n, n):
            entry = space.linalg.inv(seeded).entries[place]
            assert (entry.value - inverse[place]).contains(0)
            for j, (r, s) in enumerate(np.ndindex(n, n)):
                moved = -inverse[place[0], r] * inverse[s, place[1]]
                assert (entry.tangent[j] - moved).contains(0)
                cofactor = matrix.det() * inverse[s, r]
                assert (det.tangent[j] - cofactor).contains(0)


def test_determinant_of_a_singular_matrix_is_smooth():
    spec = Spec(
        lambda xp, a: xp.linalg.det(a),
        inputs={"a": real("2 2")},
        output="",
        jacobian={"a": einsum("rs->rs", ones)},
    )
    found = certify(spec, only(spec), point(a=[[1.0, 2.0], [2.0, 4.0]]))
    assert found.true in (4.0, -2.0, 1.0)
    undecided = Spec(
        lambda xp, a: xp.linalg.inv(a),
        inputs={"a": real("2 2")},
        output="2 2",
        jacobian={"a": einsum("pq,r,s->pqrs", "a", ones, ones)},
    )
    assert certify(undecided, only(undecided), point(a=[[1.0, 2.0], [2.0, 4.0]])) is None
