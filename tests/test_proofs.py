"""Statements of proofs, sums of several terms, diagonals, chains link by link, forms as expressions."""

from __future__ import annotations

import pytest
from regression_cases import maximum

from gradcheck import (
    Spec,
    constant,
    delta,
    einsum,
    load,
    number,
    ones,
    positive,
    probability,
    real,
    size,
    verify,
)
from gradcheck.algebra.canonical import forms
from gradcheck.algebra.canonical.atoms import Table
from gradcheck.algebra.canonical.decide import vanishes
from gradcheck.algebra.canonical.forms import entry
from gradcheck.algebra.canonical.residues import agree_at_random
from gradcheck.algebra.compose import relabel
from gradcheck.errors import SpecError
from gradcheck.oracles.symbolic import derived, equal, residual, symbolic
from gradcheck.oracles.symbolic.arrays import SymArray
from gradcheck.oracles.symbolic.links import NotByLinksError, by_links
from gradcheck.oracles.symbolic.namespace import Symbols


def claim_of(operation, label=None):
    claims = operation.claims()
    return claims[0] if label is None else next(c for c in claims if c.label == label)


def finding(operation, label=None):
    return symbolic(operation, claim_of(operation, label))


@pytest.fixture
def xp():
    return Symbols(Table())


def named(space, name, *axes, positive=False):
    return SymArray(space, entry(space.table.get("input", name, axes, positive=positive)))


def both_ways(space, gap):
    """What canonical forms and random residues say of a difference, which must be the same."""
    form = gap.form
    canonical = vanishes(space.table, form)
    at_random, bound = agree_at_random(space.table, form, forms.Form(form.axes, {}), 0)
    assert canonical == at_random
    assert bound < 1e-12 or not at_random
    return canonical


# ---------------------------------------------------------------- sums of several terms under a sum


def test_a_ratio_of_a_sum_to_itself_counts_its_axis(xp):
    a, c = named(xp, "a", "m", "n"), named(xp, "c", "n")
    u = a + c
    ratio = xp.sum(a / u, axis=0) + xp.sum(c / u, axis=0)
    assert not ratio.form.is_zero
    assert both_ways(xp, ratio - u.shape[0])
    assert not both_ways(xp, ratio - u.shape[1])
    assert not both_ways(xp, ratio - 1)


def test_partial_fractions_meet_under_a_sum(xp):
    a, c = named(xp, "a", "m", "n"), named(xp, "c", "n")
    u = a + c
    apart = xp.sum(1 / a - 1 / u, axis=0)
    assert both_ways(xp, apart - xp.sum(c / (a * u), axis=0))
    assert not both_ways(xp, apart - xp.sum(c / (u * u), axis=0))


def test_two_sums_over_two_letters_are_made_symmetric(xp):
    x, y = named(xp, "x", "n"), named(xp, "y", "n")
    gap = 1 + x[:, None] + y[None, :]
    first = xp.sum(x[:, None] / gap) + xp.sum(y[None, :] / gap) + xp.sum(1 / gap)
    n = x.shape[0]
    assert both_ways(xp, first - n * n)
    turned = 1 + y[:, None] + x[None, :]
    assert both_ways(xp, xp.sum(x[:, None] / gap) - xp.sum(x[None, :] / turned))
    assert not both_ways(xp, xp.sum(x[:, None] / gap) - xp.sum(x[None, :] / gap))


def test_a_sum_with_a_sum_in_its_denominator(xp):
    z, w = named(xp, "z", "m", "n"), named(xp, "w", "m")
    e = xp.exp(z)
    total = 1 + xp.sum(e, axis=1)
    shares = xp.sum(w[:, None] * e / total[:, None]) + xp.sum(w / total)
    assert both_ways(xp, shares - xp.sum(w))
    assert not both_ways(xp, shares - xp.sum(w) - xp.sum(1 / total) / w.shape[0])


def test_a_sigmoid_under_a_sum_is_known_by_its_definition(xp):
    x = named(xp, "x", "n")
    gap = xp.sum(xp.sigmoid(x)) - xp.sum(xp.exp(x) / (1 + xp.exp(x)))
    assert both_ways(xp, gap)
    assert not both_ways(xp, xp.sum(xp.sigmoid(x)) - xp.sum(xp.exp(x) / (2 + xp.exp(x))))


def softer(_xp, s, a, c):
    u = a + c
    return (s * (a / u) + s * (c / u)).sum(axis=0), u


@pytest.mark.parametrize(("axis", "verdict"), [("m", "proved"), ("n", "suspect")])
def test_a_claim_about_such_a_sum(axis, verdict):
    spec = Spec(
        softer, name="softer",
        inputs={"s": real(""), "a": constant(positive("m n")), "c": constant(positive("n"))},
        output={"f": "n", "u": "m n"},
        jacobian={"s": einsum("q->q", ones) * size(axis)},
    )  # fmt: skip
    assert finding(spec).verdict == verdict


# ---------------------------------------------------------------- functions on a diagonal


@pytest.mark.parametrize("name", ["exp", "erf", "sin", "tanh", "sigmoid", "log"])
def test_a_function_on_a_diagonal_is_that_of_its_argument_there(xp, name):
    x = named(xp, "x", "n", positive=True)
    function = getattr(xp, name)
    outer = function(x[:, None] * x[None, :])
    assert both_ways(xp, xp.diagonal(outer) - function(x * x))
    assert both_ways(xp, xp.trace(outer) - xp.sum(function(x * x)))
    assert not both_ways(xp, xp.diagonal(outer) - function(x))


def test_a_delta_brings_a_diagonal_about(xp):
    x = named(xp, "x", "n")
    kernel = xp.exp(x[:, None] * x[None, :])
    eye = xp.eye(x.shape[0])
    assert both_ways(xp, eye * kernel - eye * xp.exp(x * x)[:, None])
    assert not both_ways(xp, kernel - eye * xp.exp(x * x)[:, None])


def test_a_gap_of_equals_is_zero_on_a_diagonal(xp):
    x = named(xp, "x", "n")
    gaps = x[:, None] - x[None, :]
    assert both_ways(xp, xp.trace(xp.sin(gaps)))
    assert both_ways(xp, xp.trace(1 / (1 + gaps * gaps)) - x.shape[0])


def gaussian(xp, s, x):
    k = xp.exp(x[:, None] * x[None, :])
    return xp.sum(s * xp.diagonal(k)), xp.exp(x * x)


def test_a_claim_on_a_diagonal():
    spec = Spec(
        gaussian, name="gaussian", inputs={"s": real("n"), "x": constant(real("n"))},
        output={"f": "", "d": "n"}, jacobian={"s": einsum("r->r", "d")},
    )  # fmt: skip
    assert finding(spec).verdict == "proved"


# ---------------------------------------------------------------- conditions


def said(forward, expression, domain="x", **options):
    """The statement about one input x[m]."""
    kind = {"x": real("m"), "+": positive("m"), "ε": real("m", 0.5, 2.0)}[domain]
    spec = Spec(
        forward, name="conditional", inputs={"x": kind}, output={"y": "m"},
        jacobian={"x": expression}, **options,
    )  # fmt: skip
    found = finding(spec)
    assert found.verdict == "proved", found.reason
    return found.statement


def test_logs_and_roots_say_where_they_hold_unless_the_domain_says_so():
    log = (lambda xp, x: xp.log(x)), einsum("p,pr->pr", "x**-1", delta)
    assert said(*log) == "for all m ≥ 1, wherever x > 0"
    assert said(*log, domain="+") == "for all m ≥ 1"
    assert said(*log, domain="ε") == "for all m ≥ 1"
    root = (lambda xp, x: xp.sqrt(x)), einsum("p,pr->pr", "y**-1", delta) / 2
    assert said(*root) == "for all m ≥ 1, wherever x > 0"
    assert said(*root, domain="+") == "for all m ≥ 1"


def test_the_claims_own_logs_roots_and_powers_are_conditions_too():
    half = einsum("p,p,pr->pr", "sqrt(x)", "x**-1/2", delta)
    assert said(lambda _xp, x: x + 0, half) == "for all m ≥ 1, wherever x > 0"
    logs = einsum("p,p,pr->pr", "log(x)", "log(x)**-1", delta)
    assert said(lambda _xp, x: x + 0, logs) == ("for all m ≥ 1, wherever log(x[p]) ≠ 0 and x > 0")


def test_the_forwards_own_denominators_are_conditions_unless_certified():
    inverse = einsum("p,pr->pr", "y**2", delta)
    assert said(lambda _xp, x: 1 / x, -inverse) == "for all m ≥ 1, wherever x ≠ 0"
    assert said(lambda _xp, x: 1 / (1 - x), inverse) == "for all m ≥ 1, wherever 1 − x[p] ≠ 0"
    squared = -2 * einsum("p,p,pr->pr", "x", "y**2", delta)
    assert said(lambda _xp, x: 1 / (1 + x * x), squared) == "for all m ≥ 1"


def test_a_variance_and_a_norm_are_known_not_to_be_negative(xp):
    x = named(xp, "x", "m", "n")
    eps = named(xp, "eps", positive=True)
    xp.sqrt(xp.var(x, axis=1) + eps)
    xp.log(xp.einsum("ij,ij->i", x, x) + 1)
    1 / (1 + abs(x)) / (xp.maximum(x, 0) + eps) / xp.exp(x)
    assert not xp.asked
    xp.log(xp.var(x, axis=1))
    assert [r for _, r in xp.asked] == ["> 0"]


def test_the_boundary_of_a_simplex_is_left_out_where_it_must_be():
    assert finding(load("cross_entropy")).statement == ("for all m ≥ 1, n ≥ 1, wherever a > 0")
    spec = Spec(
        lambda xp, y: xp.sum(y * xp.log(y)), name="entropy", inputs={"y": probability("m n")},
        output={"h": ""}, jacobian={"y": einsum("rs->rs", "log(y)") + einsum("rs->rs", ones)},
    )  # fmt: skip
    assert finding(spec).statement == "for all m ≥ 1, n ≥ 1, wherever y > 0"
    linear = Spec(
        lambda xp, z, y: xp.sum(y * z), name="linear",
        inputs={"z": real("m n"), "y": constant(probability("m n"))},
        output={"h": ""}, jacobian={"z": einsum("rs->rs", "y")},
    )  # fmt: skip
    assert finding(linear).statement == "for all m ≥ 1, n ≥ 1"


def test_reasons_name_a_hypothesis_once():
    spec = Spec(
        lambda xp, x: xp.linalg.inv(x), name="inverse", inputs={"x": real("n n")}, output="n n",
        jacobian={"x": einsum("pr,qs->pqrs", delta, delta)},
    )  # fmt: skip
    assert finding(spec).reason.count("not one index expression") == 1
    nowhere = Spec(
        lambda xp, x: x / (xp.exp(x) * xp.exp(-x) - 1), name="nowhere", inputs={"x": real("m")},
        output="m", jacobian={"x": einsum("pr->pr", delta)},
    )  # fmt: skip
    assert finding(nowhere).reason.startswith("vacuous: it divides by an expression that is 0 (")


# ---------------------------------------------------------------- chains link by link


def eighth(_xp, x, a):
    t = x + a
    return t**8, t


EIGHTH = Spec(
    eighth, name="eighth", inputs={"x": real("m"), "a": constant(real("m"))},
    output={"y": "m", "t": "m"}, jacobian={"x": 8 * einsum("p,pr->pr", "t**7", delta)},
)  # fmt: skip


def test_a_chain_that_is_too_large_is_proved_link_by_link():
    chain = EIGHTH(EIGHTH(EIGHTH("x", "a"), "b"), "c")
    found = finding(chain, "x")
    assert found.verdict == "proved"
    assert found.statement == "for all m ≥ 1, by the chain rule over eighth (each proved)"
    assert 0 < found.bound < 1e-12


def test_a_wrong_link_is_named():
    wrong = Spec(
        eighth, name="wrong", inputs={"x": real("m"), "a": constant(real("m"))},
        output={"y": "m", "t": "m"}, jacobian={"x": 7 * einsum("p,pr->pr", "t**7", delta)},
    )  # fmt: skip
    found = finding(EIGHTH(wrong(EIGHTH("x", "a"), "b"), "c"), "x")
    assert found.verdict == "suspect"  # which a real point is to confirm
    assert found.reason.startswith("link 2 of 3, wrong, is wrong in x: true − claimed = ")


def linked(chain, label):
    return by_links(chain, claim_of(chain, label), symbolic)


def test_the_composition_needs_an_open_cell():
    """max(u, v) with [u > v] and [v > u] is right for itself, and gives 0 for u = v = x."""
    assert finding(maximum, "u").verdict == finding(maximum, "v").verdict == "proved"
    chain = maximum("x", "x")
    with pytest.raises(NotByLinksError, match="equal in a whole cell"):
        linked(chain, "x")
    assert finding(chain).verdict == "suspect"
    apart = maximum("x", "v")
    assert "away from ties" in linked(apart, "x").statement


def test_a_tie_through_other_links_is_seen_too():
    relu = load("relu")
    flat = maximum(Spec(
        lambda _xp, x: x * 2 / 2, name="same", inputs={"x": real("m")}, output="m",
        jacobian={"x": einsum("pr->pr", delta)},
    )("x"), "x")  # fmt: skip
    with pytest.raises(NotByLinksError, match="equal in a whole cell"):
        linked(flat, "x")
    with pytest.raises(NotByLinksError, match="equal in a whole cell"):
        linked(relu(relu("z")), "z")
    dense = load("weighted_sum")
    assert linked(relu(dense(relu("z"), "w", "b")), "z").verdict == "proved"


def test_inner_values_lie_in_the_domain_of_the_outer_link():
    root = Spec(
        lambda xp, t: xp.sqrt(t), name="root", inputs={"t": positive("m")}, output={"s": "m"},
        jacobian={"t": einsum("p,pr->pr", "s**-1", delta) / 2},
    )  # fmt: skip
    shift = Spec(
        lambda _xp, x: x + 1, name="shift", inputs={"x": real("m")}, output={"t": "m"},
        jacobian={"x": einsum("pr->pr", delta)},
    )  # fmt: skip
    exponential = Spec(
        lambda xp, x: xp.exp(x), name="exponential", inputs={"x": real("m")}, output={"t": "m"},
        jacobian={"x": einsum("p,pr->pr", "t", delta)},
    )  # fmt: skip
    assert "wherever t > 0" in linked(shift >> root, "x").statement
    assert "wherever" not in linked(exponential >> root, "x").statement
    bounded = Spec(
        lambda _xp, t: 2 * t, name="bounded", inputs={"t": real("m", 0.5, 1.0)}, output={"s": "m"},
        jacobian={"t": 2 * einsum("pr->pr", delta)},
    )  # fmt: skip
    with pytest.raises(NotByLinksError, match="not known that t of bounded is"):
        linked(exponential >> bounded, "x")
    rows = load("softmax") >> load("cross_entropy")
    assert linked(rows, "z").verdict == "proved"
    with pytest.raises(NotByLinksError, match="not known that a of cross_entropy is"):
        linked(load("sigmoid") >> load("cross_entropy"), "z")


# ---------------------------------------------------------------- equal expressions, derived ones


def rms(xp, x, g, *, eps):
    r = 1 / xp.sqrt(xp.mean(x * x, axis=-1) + eps)
    return g * x * r[:, None], r


RMS = Spec(
    rms, name="rms", inputs={"x": real("m n"), "g": real("n")}, params={"eps": number(1e-8, 1e-3)},
    output={"h": "m n", "r": "m"},
    jacobian={
        "x": einsum("q,p,pr,qs->pqrs", "g", "r", delta, delta)
        - einsum("q,pq,ps,p,pr->pqrs", "g", "x", "x", "r**3", delta) / size("n"),
        "g": einsum("pq,p,qr->pqr", "x", "r", delta),
    },
)  # fmt: skip


def test_equal_expressions_over_the_operands():
    softmax = load("softmax")
    known = softmax.derivative("a", "z")
    found = equal(softmax, known, known + known - known)
    assert found.verdict == "proved"
    assert found.statement.startswith("for all m ≥ 1, n ≥ 1")
    other = equal(softmax, known, 2 * known)
    assert other.verdict == "suspect"
    assert other.reason.startswith("first − second = ")
    with pytest.raises(SpecError, match="same output letters"):
        equal(RMS, RMS.derivative("h", "x"), RMS.derivative("h", "g"))


def test_the_relations_of_constants_make_expressions_equal():
    chain = load("softmax") >> load("cross_entropy")
    composed = chain.derivative("L", "z")
    closed = relabel(load("softmax_cross_entropy").derivative("L", "z"), composed.output)
    assert equal(chain, composed, closed).verdict == "proved"


def test_equal_at_a_rank():
    linear = load("weighted_sum")
    known = linear.derivative("z", "x")
    assert equal(linear, known, known, rank=0).verdict == "proved"


@pytest.mark.parametrize(
    ("operation", "output", "name", "text"),
    [
        (load("softmax"), "a", "z", "a[p,q] δ[p,r] δ[q,s] − a[p,q] a[p,s] δ[p,r]"),
        (load("softmax_cross_entropy"), "L", "z", "−y[p,q] / m + a[p,q] / m"),
        (load("relu"), "h", "z", "step(z)[p,q] δ[p,r] δ[q,s]"),
        (RMS, "r", "x", "−x[p,r] r^3[p] δ[p,q] / n"),
    ],
)
def test_the_derivative_in_the_operations_own_operands(operation, output, name, text):
    assert str(derived(operation, output, name)) == text


@pytest.mark.parametrize("name", ["x", "g"])
def test_a_derived_expression_can_be_claimed(name):
    found = derived(RMS, "h", name)
    claimed = Spec(
        rms, name="rms", inputs=RMS.inputs, params=RMS.params, output={"h": "m n", "r": "m"},
        jacobian={name: found},
    )  # fmt: skip
    assert finding(claimed, name).verdict == "proved"


def test_what_no_term_can_say_is_not_derived():
    spec = Spec(
        lambda xp, x: xp.max(x, axis=-1), name="rows", inputs={"x": real("m n")}, output="m",
        jacobian={"x": einsum("pr,s->prs", delta, ones)},
    )  # fmt: skip
    assert derived(spec, "out", "x") is None
    assert residual(spec, claim_of(spec)) is None


def test_a_residual_is_the_correction_to_add():
    wrong = Spec(
        load("softmax").forward, name="wrong", inputs={"z": real("m n")}, output={"a": "m n"},
        jacobian={"z": einsum("pq,pr,qs->pqrs", "a", delta, delta)},
    )  # fmt: skip
    claim = claim_of(wrong)
    lacking = residual(wrong, claim)
    assert str(lacking) == "−a[p,q] a[p,s] δ[p,r]"
    mended = wrong.derivative("a", "z") + lacking
    assert equal(wrong, mended, load("softmax").derivative("a", "z")).verdict == "proved"
    right = load("softmax")
    assert residual(right, claim_of(right)).terms == ()


# ---------------------------------------------------------------- what exact says of a suspect


def test_a_suspect_of_exact_says_where_and_by_how_much():
    spec = Spec(
        lambda _xp, x: x * x, name="square", inputs={"x": real("m")}, output="m",
        jacobian={"x": 3 * einsum("p,pr->pr", "x", delta)},
    )  # fmt: skip
    check = verify(spec, oracles=["exact"], profile="quick").checks[0]
    assert "differs from the claim in 2 of 4 entries, first at p = 0, r = 0 (m = 2)" in check.reason
    assert "; at m = 2, where p = " in check.reason
    said = check.reason.rpartition("where ")[2]
    point, values = said.split(": claimed ")
    claimed, true = map(float, values.split(", true "))
    assert claimed == pytest.approx(1.5 * true, rel=1e-4)
    assert "x = [" in point


@pytest.mark.parametrize(
    "looks",
    [
        lambda x: x.shape[0] == x.shape[1],
        lambda x: x.shape[0] != x.shape[1],
        lambda x: str(x.shape[0]) == "3",
        lambda x: f"{x.shape[0]}" == "3",
    ],
    ids=["equal", "unequal", "str", "format"],
)
def test_a_branch_on_a_size_is_not_traced(looks):
    """W: what runs where two axes have one size is not what was traced on two symbols."""
    spec = Spec(
        lambda xp, x: xp.sum(x, axis=-1) * (2 if looks(x) else 1),
        inputs={"x": real("m n")},
        output="m",
        jacobian={"x": einsum("pr,s->prs", delta, ones)},
    )
    found = symbolic(spec, spec.claims()[0])
    assert found.verdict == "undecided"
    assert "of a symbolic value" in found.reason
