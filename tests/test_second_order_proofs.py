"""What is proved of a second derivative holds for what runs: closed forms and steps, right and broken."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from second_order_cases import draw, in_letters

from gradcheck import Spec, constant, delta, einsum, load, ones, positive, real, size, verify
from gradcheck.algebra.compose import relabel
from gradcheck.algebra.relations import Relation
from gradcheck.algebra.terms import Factor
from gradcheck.checking import proving
from gradcheck.errors import UsageError
from gradcheck.oracles.finding import Finding
from gradcheck.oracles.symbolic import equal
from gradcheck.second_order import products, rules

RULE = "as the product rule gives it"
CLOSED = "closed form after cancelling powers and Σ_q y[p,q] = 1"


def classifier():
    """A new one each time: what is made of a chain is kept with it."""
    return load("weighted_sum") >> load("softmax") >> load("cross_entropy")


def proofs(operation, **options):
    """The checks of the symbolic oracle, those of the first derivatives left out."""
    report = verify(operation, oracles="symbolic", **options)
    return report, [c for c in report.checks if "," not in c.input]


# ---------------------------------------------------------------- the well-known Hessians

DIAGONAL = einsum("pq,qs,pr->pqrs", "a", delta, delta)
OUTER = einsum("pq,ps,pr->pqrs", "a", "a", delta)
IN_W = einsum("pr,pt,ps,su->rstu", "x", "x", "a", delta)
OUTER_IN_W = einsum("pr,pt,ps,pu->rstu", "x", "x", "a", "a")

# (diag(a) − a aᵀ)/m in each row, and x xᵀ ⊗ of it, summed over the rows
HESSIANS = {
    "z": (lambda: load("softmax") >> load("cross_entropy"), (DIAGONAL - OUTER) / size("m")),
    "w": (classifier, (IN_W - OUTER_IN_W) / size("m")),
}

SLIPS = {
    "the outer product left out": {"z": DIAGONAL / size("m"), "w": IN_W / size("m")},
    "plus for minus": {
        "z": (DIAGONAL + OUTER) / size("m"),
        "w": (IN_W + OUTER_IN_W) / size("m"),
    },
    "the mean left out": {"z": DIAGONAL - OUTER, "w": IN_W - OUTER_IN_W},
    "rows mixed": {
        "z": (DIAGONAL - einsum("pq,rs->pqrs", "a", "a")) / size("m"),
        "w": (IN_W - einsum("pr,vt,ps,vu->rstu", "x", "x", "a", "a")) / size("m"),
    },
}


def claimed(name, hessian):
    """A Hessian as somebody else derived it: a spec whose forward is the claimed gradient."""
    make, _ = HESSIANS[name]
    return Spec(make().second_order(name, name), jacobian={name: hessian}, name="by_hand")


@pytest.mark.parametrize("name", HESSIANS)
def test_the_well_known_hessian_is_proved(name):
    report = verify(claimed(name, HESSIANS[name][1]), oracles=("symbolic", "exact"), wrt=name)
    assert [str(c.verdict) for c in report.checks] == ["proved", "identity"]
    assert report.checks[0].reason == f"for all m ≥ 1, n ≥ 1{', o ≥ 1' if name == 'w' else ''}"


@pytest.mark.parametrize("slip", SLIPS)
@pytest.mark.parametrize("name", HESSIANS)
def test_a_slip_in_the_well_known_hessian_is_refuted(name, slip):
    (check,) = verify(claimed(name, SLIPS[slip][name]), oracles="symbolic", wrt=name).checks
    assert check.verdict == "refuted"


@pytest.mark.parametrize("name", HESSIANS)
def test_what_runs_is_the_well_known_hessian_and_proved(name):
    make, hand = HESSIANS[name]
    hessian = make().hessian(name, name)
    assert in_letters(hessian.expression) == in_letters(hand)
    assert hessian.as_operation().simplified(name)[0].runs is hessian.expression
    report, (check,) = proofs(hessian.as_operation())
    assert report.ok
    assert (check.verdict, check.form) == ("proved", f"{RULE}, and as it runs ({CLOSED})")


def test_in_z_as_it_is_printed():
    chain = load("softmax") >> load("cross_entropy")
    assert str(chain.hessian("z", "z")).startswith(
        "∂²L/∂z[p,q]∂z[r,s] = a[p,q] δ[p,r] (δ[q,s] − a[p,s]) / m"
    )


def test_that_in_w_is_that_in_z_between_two_x():
    """x xᵀ ⊗: Σ over two rows of x[v,r] x[t,p] ∂²L/∂z[t,q]∂z[v,s] is ∂²L/∂w[p,q]∂w[r,s], by proof."""
    chain = classifier()
    whole = second = rules.second(chain, "w", "w")
    outer = einsum("tp,vr,tq,qs,tv->pqrs", "x", "x", "a", delta, delta)
    product = einsum("tp,vr,tq,ts,tv->pqrs", "x", "x", "a", "a", delta)
    tensor = claimed("w", (outer - product) / size("m")).derivative("∂L/∂w", "w")
    found = equal(chain, whole, relabel(tensor, second.output))
    assert found.verdict == "proved"


# ---------------------------------------------------------------- the report says so


def test_each_closed_form_that_runs_is_proved_and_the_report_says_so():
    for first in "xwb":
        report, found = proofs(classifier().second_order(first))
        assert [(c.input, str(c.verdict)) for c in found] == [(n, "proved") for n in "xwb"]
        assert {c.form for c in found} == {f"{RULE}, and as it runs ({CLOSED})"}
        assert "and as it runs (closed form after" in " ".join(str(report).split())


def test_frameworks_compare_what_runs_and_exact_what_the_product_rule_gives():
    operation = load("softmax") >> load("cross_entropy")
    report = verify(
        operation.second_order("z"), oracles=("symbolic", "exact", "jax"), profile="quick"
    )
    forms = {c.oracle: c.form for c in report.checks if c.input == "z"}
    assert forms == {
        "symbolic": f"{RULE}, and as it runs ({CLOSED})",
        "exact": RULE,
        "jax": CLOSED,
    }
    rest = {c.form for c in report.checks if c.input == "L, z"}
    assert rest == {"as composed by the chain rule"}


@pytest.mark.parametrize(
    "target",
    [
        "softmax",
        "examples/specs/gelu.py::gelu",
        "examples/specs/rms_norm.py::rms_norm",
        "examples/specs/row_max.py::row_max",
    ],
)
def test_specs_with_residuals_branches_and_leading_axes(target):
    operation = load(target)
    report, found = proofs(operation.second_order(operation.differentiable[0]))
    assert report.ok
    assert found
    assert all("and as it runs (closed form" in c.form for c in found)


# ---------------------------------------------------------------- broken on purpose


def _doubled(expression):
    head, *rest = expression.terms
    return replace(expression, terms=(replace(head, coefficient=2 * head.coefficient), *rest))


def _dropped(expression):
    return replace(expression, terms=expression.terms[:-1])


def _without_a_delta(expression):
    terms = tuple(replace(t, deltas=t.deltas[1:]) for t in expression.terms)
    return replace(expression, terms=terms)


def _power(expression):
    terms = tuple(
        replace(
            t,
            factors=tuple(replace(f, power=f.power + 1) if f.name == "a" else f for f in t.factors),
        )
        for t in expression.terms
    )
    return replace(expression, terms=terms)


def _without_the_size(expression):
    return replace(expression, terms=tuple(replace(t, sizes=()) for t in expression.terms))


BROKEN = [_doubled, _dropped, _without_a_delta, _power, _without_the_size]


@pytest.mark.parametrize("slip", BROKEN)
def test_a_broken_simplification_is_refuted_by_name(monkeypatch, slip):
    right = rules.closed
    monkeypatch.setattr(rules, "closed", lambda o, e: slip(right(o, e)))
    report, (check,) = proofs(classifier().second_order("w", "w"))
    assert not report.ok
    assert check.verdict == "refuted"
    assert check.form == f"as it runs, and not {RULE}"
    assert check.reason.startswith(
        "what runs is not what the product rule gives, in ∂²L/∂w∂w: first − second ="
    )
    assert check.reason.endswith("; a simplification is wrong or Σ_q y[p,q] = 1 does not hold")
    assert check.counterexample.claim_value != check.counterexample.oracle_value
    assert check.counterexample.location is None
    assert "what runs is not what the product rule gives, in ∂²L/∂w∂w" in " ".join(
        str(report).split()
    )


def test_a_broken_simplification_fails_where_what_runs_is_looked_at(monkeypatch):
    right = rules.closed
    monkeypatch.setattr(rules, "closed", lambda o, e: _doubled(right(o, e)))
    operation = (load("softmax") >> load("cross_entropy")).second_order("z")
    report = verify(operation, oracles=("symbolic", "exact", "jax"), wrt="z", profile="quick")
    verdicts = {c.oracle: str(c.verdict) for c in report.checks if c.input == "z"}
    assert verdicts == {"symbolic": "refuted", "exact": "identity", "jax": "refuted"}
    assert not report.ok


def test_a_closed_form_by_a_false_relation_is_refuted():
    """Rows of y are believed to sum to one; they are any numbers."""
    loss = Spec(
        lambda xp, a, y: -xp.sum(y * xp.log(a)) / a.shape[0],
        inputs={"a": positive("m n"), "y": constant(real("m n"))},
        output={"L": ""},
        jacobian={"a": -einsum("pq,pq->pq", "y", "a**-1") / size("m")},
        name="loss",
    )
    chain = load("softmax") >> loss
    chain.row_relations = lambda: {"y": Relation("y", 2, False, "so it is said")}
    report, (check,) = proofs(chain.second_order("z"))
    assert not report.ok
    assert check.verdict == "refuted"
    assert "in ∂²L/∂z∂z: first − second" in check.reason
    assert "Σ_q y[p,q] = 1 does not hold" in check.reason


def test_a_form_that_is_equal_but_defined_less_is_no_proof(monkeypatch):
    """The factor a/a is 1 in every canonical form, and 0/0 where a underflows."""
    right = rules.closed

    def undefined(operation, expression):
        found = right(operation, expression)
        terms = []
        for term in found.terms:
            at = next(f.letters for f in term.factors if f.name == "a")
            ratio = (Factor("a", at), Factor("a", at, Fraction(-1)))
            terms.append(replace(term, factors=(*term.factors, *ratio)))
        return replace(found, terms=tuple(terms))

    # The product rule divides by a itself: here is a claim that does not.
    closed = Spec(
        load("softmax") >> load("cross_entropy"),
        jacobian={"z": (einsum("pq->pq", "a") - einsum("pq->pq", "y")) / size("m")},
        name="closed",
    )
    monkeypatch.setattr(rules, "closed", undefined)
    _, (check,) = proofs(closed.second_order("z"))
    assert (check.verdict, check.form) == ("proved", RULE)
    assert (
        "not of what runs: whether ∂²L/∂z∂z in closed form equals it is undecided" in check.reason
    )
    assert "it divides by a, or takes a root or logarithm of it" in check.reason


def test_where_equality_is_undecided_the_proof_is_of_the_product_rule_only(monkeypatch):
    def undecided(_operation, pairs, _rank):
        return [Finding("undecided", reason="too large") for _ in pairs]

    monkeypatch.setattr(proving, "equal_pairs", undecided)
    _, (check,) = proofs(classifier().second_order("w", "b"))
    assert (check.verdict, check.form) == ("proved", RULE)
    assert check.reason.endswith(
        "; not of what runs: whether ∂²L/∂w∂b in closed form equals it is undecided: too large"
    )


def exponentials():
    return Spec(
        lambda xp, z: xp.sum(xp.exp(z), axis=-1),
        inputs={"z": real("... n")},
        output={"s": "..."},
        jacobian={"z": einsum("p->p", "exp(z)")},
        name="exponentials",
    )


@pytest.mark.parametrize("leading", [0, 1, 2])
def test_a_closed_form_is_compared_at_each_number_of_leading_axes(monkeypatch, leading):
    report, (check,) = proofs(exponentials().second_order("z"))
    assert report.ok
    assert check.form == f"{RULE}, and as it runs (closed form)"
    right = rules.closed

    def wrong_there(operation, expression):
        found = right(operation, expression)
        letters = {0: 2, 1: 5, 2: 8}[leading]  # ∂s/∂z∂z of a slice has two
        return _doubled(found) if len(found.output) == letters else found

    monkeypatch.setattr(rules, "closed", wrong_there)
    report, (check,) = proofs(exponentials().second_order("z"))
    assert not report.ok
    assert check.verdict == "refuted"
    assert "in ∂²s/∂z∂z: first − second" in check.reason


# ---------------------------------------------------------------- Hessian-vector products

STEP_BY_STEP = f"{RULE}, step by step"
STEPS = ["t(z)", "t(a)", "t(∂L/∂z)", "t(∂L/∂w)"]


def test_a_product_is_proved_as_it_runs():
    product = classifier().hvp("w")
    operation = product.as_operation()
    assert [s.what for s in operation.simplified("w")] == STEPS
    assert all(
        f.runs is s.expression
        for f, s in zip(operation.simplified("w"), product.steps, strict=True)
    )
    report, (check,) = proofs(operation)
    assert report.ok
    assert (check.verdict, check.form) == ("proved", f"{STEP_BY_STEP}, and as it runs ({CLOSED})")
    assert check.claim == "t(L) of weighted_sum >> softmax >> cross_entropy along t(w)"


def test_a_product_along_several_inputs():
    report = verify(classifier().hvp(), oracles=("symbolic", "exact"))
    assert report.ok
    assert [c.input for c in report.checks if c.oracle == "exact"] == [
        *("x", "w", "b"),
        *("L, x", "L, w", "L, b"),
    ]
    proved = [c for c in report.checks if c.oracle == "symbolic"]
    assert {str(c.verdict) for c in proved} == {"proved"}
    assert {c.form for c in proved[:3]} == {f"{STEP_BY_STEP}, and as it runs ({CLOSED})"}


@pytest.mark.parametrize("step", STEPS)
def test_a_step_broken_on_purpose_is_refuted_by_its_name(monkeypatch, step):
    right = products.closed
    count = iter(range(100))
    targets = [s.target for s in products.derived_steps(classifier(), ("w",), 0)]

    def wrong(operation, expression):
        found = right(operation, expression)
        return _doubled(found) if targets[next(count)] == step else found

    monkeypatch.setattr(products, "closed", wrong)
    report, (check,) = proofs(classifier().hvp("w").as_operation())
    assert not report.ok
    assert check.verdict == "refuted"
    assert (
        f"what runs is not what the product rule gives, in {step}: first − second" in check.reason
    )


def test_a_wrong_step_of_the_rule_itself_is_refuted(monkeypatch):
    """Steps before any simplification are compared with the derivative of the claimed gradient."""
    right = products.along
    monkeypatch.setattr(products, "along", lambda *given: _doubled(right(*given)))
    report = verify(classifier().hvp("w").as_operation(), oracles=("symbolic", "exact"), wrt="w")
    found = {(c.oracle, str(c.verdict)) for c in report.checks if c.input == "w"}
    assert found == {("symbolic", "refuted"), ("exact", "refuted")}


def test_frameworks_judge_a_product_too():
    pytest.importorskip("jax")
    report = verify(
        (load("softmax") >> load("cross_entropy")).hvp("z").as_operation(),
        oracles=("jax", "autograd"),
        profile="quick",
    )
    assert report.ok
    assert {str(c.verdict) for c in report.checks} == {"agrees"}
    assert {c.form for c in report.checks if c.input == "z"} == {CLOSED}


def test_a_product_through_residuals():
    gelu = load("examples/specs/gelu.py::gelu")
    loss = load("examples/specs/mean_squared_error.py::mean_squared_error")
    net = loss(gelu(load("weighted_sum")("x", "w", "b")), "y")
    report, found = proofs(net.hvp("w", "b").as_operation())
    assert report.ok
    assert all(f"{STEP_BY_STEP}, and as it runs (" in c.form for c in found)


def test_a_product_that_is_zero_has_no_steps_and_is_proved():
    linear = Spec(
        lambda xp, z: xp.sum(z),
        inputs={"z": real("n")},
        output={"L": ""},
        jacobian={"z": einsum("p->p", ones)},
        name="linear",
    )
    operation = linear.hvp("z").as_operation()
    assert operation.simplified("z") == []
    report, (check,) = proofs(operation)
    assert report.ok
    assert check.verdict == "proved"


def test_a_wrong_gradient_is_refuted_beside_its_right_product():
    off = Spec(
        lambda xp, z: xp.sum(z * z * z),
        inputs={"z": real("n")},
        output={"L": ""},
        jacobian={"z": 3 * einsum("p->p", "z**2") + einsum("p->p", ones)},
        name="off",
    )
    report = verify(off.hvp("z").as_operation(), oracles="symbolic")
    assert {c.input: str(c.verdict) for c in report.checks} == {"z": "proved", "L, z": "refuted"}


def test_the_value_of_a_directional_derivative():
    chain, values = classifier(), draw()
    operation = chain.hvp("w", "b").as_operation()
    rng = np.random.default_rng(3)
    moving = {"t(w)": rng.normal(size=(4, 3)), "t(b)": rng.normal(size=3)}
    slopes = chain.gradient("w", "b")(**values)
    expected = sum(np.sum(slopes[n] * moving[f"t({n})"]) for n in "wb")
    np.testing.assert_allclose(operation.value(**values, **moving), expected, rtol=1e-12)


def test_what_is_there_to_be_verified_is_not_compiled():
    operation = classifier().hvp("w").as_operation()
    with pytest.raises(UsageError, match=r'to be verified; .* call .*hvp\("w"\)\(tangent, ...\)'):
        operation.gradient("w")
    with pytest.raises(UsageError, match="is there to be verified"):
        operation.dense("w")


def test_a_spec_file_holds_a_product(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        '"""The classifier\'s products."""\n'
        "from gradcheck import load\n\n"
        'chain = load("softmax") >> load("cross_entropy")\n'
        'product = chain.hvp("z").as_operation()\n',
        encoding="utf-8",
    )
    report = verify(f"{file}::product", oracles="symbolic")
    assert report.ok
    assert [c.claim for c in report.checks] == ["product", "product"]
