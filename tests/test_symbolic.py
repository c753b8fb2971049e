"""The symbolic oracle: proofs for every shape, residuals, and what it refuses to decide."""

from __future__ import annotations

from fractions import Fraction

import pytest
from regression_cases import CASES

from gradcheck import Spec, delta, einsum, load, number, ones, positive, real, size, verify
from gradcheck.algebra.canonical.atoms import Table
from gradcheck.algebra.canonical.decide import vanishes
from gradcheck.algebra.canonical.forms import entry
from gradcheck.algebra.canonical.residues import agree_at_random
from gradcheck.algebra.canonical.undecided import Undecided
from gradcheck.library import bundled
from gradcheck.oracles.symbolic import symbolic
from gradcheck.oracles.symbolic.arrays import SymArray
from gradcheck.oracles.symbolic.namespace import Symbols


def finding(operation, label=None):
    claims = operation.claims()
    claim = claims[0] if label is None else next(c for c in claims if c.label == label)
    return symbolic(operation, claim)


def named(space, name, *axes, positive=False):
    return SymArray(space, entry(space.table.get("input", name, axes, positive=positive)))


@pytest.fixture
def xp():
    return Symbols(Table())


# ---------------------------------------------------------------- verdicts


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_wrong_claims_are_never_proved_and_right_ones_are(case):
    found = finding(case.operation, case.label)
    assert (found.verdict == "proved") is (not case.wrong), found


@pytest.mark.parametrize("target", bundled(), ids=lambda t: t.name)
def test_every_bundled_claim_is_proved(target):
    for claim in target.operation.claims():
        found = symbolic(target.operation, claim)
        assert found.verdict == "proved", (claim, found)
        assert found.bound < 1e-12
        assert found.statement.startswith("for all m ≥ 1")


def test_statements_name_what_they_need():
    assert finding(load("relu")).statement == "for all m ≥ 1, n ≥ 1, away from ties"
    assert finding(load("softmax")).statement == (
        "for all m ≥ 1, n ≥ 1; that rows of a sum to 1 is proved too"
    )
    inverse = Spec(
        lambda _xp, x: (x * x, 1 / x), name="squared", inputs={"x": real("m")},
        output={"y": "m", "i": "m"}, jacobian={"x": 2 * einsum("p,p,pr->pr", "x**2", "i", delta)},
    )  # fmt: skip
    assert finding(inverse).verdict == "proved"
    own = Spec(
        lambda _xp, x: x * x, name="squared", inputs={"x": real("m")}, output={"y": "m"},
        jacobian={"x": 2 * einsum("p,p,pr->pr", "x**2", "x**-1", delta)},
    )  # fmt: skip
    assert finding(own).statement == "for all m ≥ 1, wherever x ≠ 0"
    generic = Spec(
        lambda _xp, x, *, k: k * x, name="scaled", inputs={"x": real("m")}, output="m",
        params={"k": number(-1.0, 2.0)}, jacobian={"x": einsum(",pr->pr", "k", delta)},
    )  # fmt: skip
    assert finding(generic).verdict == "proved"


def test_residual_is_in_the_claims_own_letters_and_operands():
    softmax = load("softmax")
    wrong = Spec(
        softmax.forward, name="wrong", inputs={"z": real("m n")}, output={"a": "m n"},
        jacobian={
            "z": einsum("pq,pr,qs->pqrs", "a", delta, delta)
            - einsum("ps,ps,pr,q->pqrs", "a", "a", delta, ones)
        },
    )  # fmt: skip
    found = finding(wrong)
    assert found.verdict == "suspect"
    assert found.residual == "−a[p,q] a[p,s] δ[p,r] + a^2[p,s] δ[p,r]"


@pytest.mark.parametrize("factor", [1 + Fraction(1, 10**12), 1 - Fraction(1, 10**30)])
def test_no_error_is_too_small(factor):
    wrong = Spec(
        load("softmax").forward, name="wrong", inputs={"z": real("m n")}, output={"a": "m n"},
        jacobian={
            "z": factor * einsum("pq,pr,qs->pqrs", "a", delta, delta)
            - einsum("pq,ps,pr->pqrs", "a", "a", delta)
        },
    )  # fmt: skip
    assert finding(wrong).verdict == "suspect"


# ---------------------------------------------------------------- what is not decided


def _length(xp, x):
    return xp.sum(x) / len(x)


def _branch(xp, x):
    return xp.sum(x) if x.shape[0] == 3 else 2 * xp.sum(x)


def _entry_branch(xp, x):
    return xp.sum(x) if xp.sum(x) > 0 else 2 * xp.sum(x)


def _running(xp, x):
    return xp.sum(xp.cumulative_sum(x, axis=0))


def _float_power(xp, x):
    return xp.sum(x) * x.shape[0] ** -0.5


def _first(_xp, x):
    return x[0]


@pytest.mark.parametrize(
    ("forward", "words"),
    [
        (_length, "x.shape[0]"),
        (_branch, "a comparison with a size"),
        (_entry_branch, "xp.where"),
        (_running, "xp.cumulative_sum"),
        (_float_power, "size('n')**Fraction(-1, 2)"),
        (_first, "indexing a symbolic axis with 0"),
    ],
)
def test_what_depends_on_a_size_or_an_entry_is_undecided_with_its_line(forward, words):
    spec = Spec(
        forward, name="odd", inputs={"x": real("n")}, output={"y": ""},
        jacobian={"x": einsum("r->r", ones) / size("n")},
    )  # fmt: skip
    found = finding(spec)
    assert found.verdict == "undecided"
    assert words in found.reason
    assert "test_symbolic.py:" in found.reason


# ---------------------------------------------------------------- forms


def test_a_bound_letter_that_cancels_counts_as_its_axis(xp):
    g = named(xp, "g", "m", "n", positive=True)
    ratio = xp.einsum("pj,qj->pq", g, 1 / g)
    diagonal = xp.diagonal(ratio).form
    n = xp.add(xp.zeros_like(SymArray(xp, diagonal)), g.shape[1]).form
    assert diagonal.terms == n.terms


def test_a_relation_does_not_fire_on_a_diagonal(xp):
    w = SymArray(xp, entry(xp.table.get("input", "w", ("n", "n"), sums_to_one=True)))
    assert xp.trace(w).form != xp.sum(xp.ones_like(xp.sum(w, axis=1))).form
    rows = xp.sum(w, axis=-1)
    assert rows.form.terms == xp.ones_like(rows).form.terms


def test_denominators_are_cleared(xp):
    x = named(xp, "x", "n")
    gap = (1 / (1 + xp.exp(-x)) + 1 / (1 + xp.exp(x)) - 1).form
    assert not gap.is_zero
    assert vanishes(xp.table, gap)
    assert agree_at_random(xp.table, gap, xp.zeros_like(x).form, 0)[0]
    assert not vanishes(xp.table, (1 / (1 + xp.exp(-x)) - 1 / (1 + xp.exp(x))).form)


def test_symmetric_sums_have_one_name(xp):
    x, y = named(xp, "x", "m", "n"), named(xp, "y", "n", "n")
    first = xp.einsum("ab,bc,cd->ad", x, y, y).form
    second = xp.einsum("as,st,td->ad", x, y, y).form
    assert first.terms == second.terms
    many = xp.einsum("ab,cb,ad,cd->", x, x, x, x).form
    again = xp.einsum("cd,ad,cb,ab->", x, x, x, x).form
    assert many.terms == again.terms


def test_root_of_a_square_is_not_the_number_itself(xp):
    x = named(xp, "x", "n")
    assert not vanishes(xp.table, (xp.sqrt(x * x) - x).form)
    y = named(xp, "y", "n", positive=True)
    assert vanishes(xp.table, (xp.sqrt(y * y) - y).form)


def test_axes_that_differ_do_not_meet(xp):
    with pytest.raises(Undecided, match="different axes"):
        xp.add(named(xp, "x", "m"), named(xp, "y", "n"))


def test_an_axis_of_size_one_broadcasts(xp):
    x = named(xp, "x", "m", "n")
    centred = x - xp.mean(x, axis=1, keepdims=True)
    assert xp.sum(centred, axis=1).form.is_zero


def test_positive_domains_are_positive():
    spec = Spec(
        lambda xp, x: xp.sqrt(x * x), name="root", inputs={"x": positive("m")}, output="m",
        jacobian={"x": einsum("pr->pr", delta)},
    )  # fmt: skip
    assert finding(spec).verdict == "proved"
    anywhere = Spec(
        lambda xp, x: xp.sqrt(x * x), name="root", inputs={"x": real("m")}, output="m",
        jacobian={"x": einsum("pr->pr", delta)},
    )  # fmt: skip
    assert finding(anywhere).verdict != "proved"


def test_what_holds_on_the_domain_only_is_not_refuted():
    """2A is the derivative of tr(AA) where A is symmetric; elsewhere it is 2Aᵀ."""
    from hypothesis import strategies as st
    from hypothesis.extra.numpy import arrays

    def symmetric(n):
        whole = arrays(float, (n, n), elements=st.integers(-4, 4).map(float))
        return whole.map(lambda a: a + a.T)

    spec = Spec(
        lambda xp, a: xp.trace(xp.matmul(a, a)), name="trace", inputs={"a": symmetric}, output={"t": ""},
        jacobian={"a": 2 * einsum("rs->rs", "a")},
    )  # fmt: skip
    assert finding(spec).verdict == "suspect"
    report = verify(spec, oracles=["symbolic", "exact", "differences"], profile="quick")
    assert {str(c.verdict) for c in report.checks} <= {"undecided", "identity", "agrees"}
    assert report.ok
    wrong = Spec(
        spec.forward, name="trace", inputs={"a": symmetric}, output={"t": ""},
        jacobian={"a": 3 * einsum("rs->rs", "a")},
    )  # fmt: skip
    assert verify(wrong, oracles=["symbolic"], profile="quick").exit_code == 1


def test_a_residual_of_another_shape_than_declared_is_never_proved():
    spec = Spec(
        lambda xp, x: (x * 2, xp.sum(x, axis=1, keepdims=True)), name="kept", inputs={"x": real("m n")},
        output={"y": "m n", "t": "m n"},
        jacobian={"x": 2 * einsum("pr,qs->pqrs", delta, delta)},
    )  # fmt: skip
    found = finding(spec)
    assert found.verdict == "undecided"
    assert "declared 'm n'" in found.reason


def test_a_chain_says_that_it_is_one():
    chain = load("weighted_sum") >> load("softmax") >> load("cross_entropy")
    assert finding(chain, "w").statement == (
        "for all m ≥ 1, n ≥ 1, o ≥ 1, by the chain rule over weighted_sum, softmax, cross_entropy"
    )
