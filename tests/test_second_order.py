"""Second derivatives: the product rule on claims, its proofs, and what it says where a claim is missing."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from second_order_cases import (
    assert_product,
    bound,
    draw,
    in_letters,
    jax_hessians,
    torch_hessians,
)

from gradcheck import (
    Spec,
    delta,
    einsum,
    labels,
    load,
    number,
    ones,
    positive,
    real,
    size,
    verify,
)
from gradcheck.errors import UsageError
from gradcheck.library import resolve
from gradcheck.second_order.rules import partial, second

PAIRS = [(u, v) for u in "xwb" for v in "xwb"]
EXACT = ("symbolic", "exact")


@pytest.fixture
def rng():
    """The same draws for a test in whatever order the tests run."""
    return np.random.default_rng(20)


@pytest.fixture(scope="module")
def classifier():
    return load("weighted_sum") >> load("softmax") >> load("cross_entropy")


@pytest.fixture(scope="module")
def relu_net():
    hidden = load("relu")(load("weighted_sum")("x", "w1", "b1"))
    return load("cross_entropy")(load("softmax")(load("weighted_sum")(hidden, "w2", "b2")), "y")


# ---------------------------------------------------------------- the softmax classifier


def test_the_hessian_of_the_classifier_is_proved_in_every_pair(classifier):
    for first in "wbx":
        report = verify(classifier.second_order(first), oracles=EXACT)
        assert {c.input for c in report.checks} == {"x", "w", "b", f"L, {first}"}
        assert {(c.oracle, str(c.verdict)) for c in report.checks} == {
            ("symbolic", "proved"),
            ("exact", "identity"),
        }


WELL_KNOWN = {
    # Σ_p x[p,r] x[p,t] (diag(a) − a aᵀ)[p,s,u] / m
    "w": (
        einsum("pr,pt,ps,su->rstu", "x", "x", "a", delta)
        - einsum("pr,pt,ps,pu->rstu", "x", "x", "a", "a")
    )
    / size("m"),
    "b": (einsum("pr,ps,st->rst", "x", "a", delta) - einsum("pr,ps,pt->rst", "x", "a", "a"))
    / size("m"),
}


@pytest.mark.parametrize("name", WELL_KNOWN)
def test_the_hessian_of_the_classifier_letter_for_letter(classifier, name):
    """x xᵀ ⊗ (diag(a) − a aᵀ) / m: the rows of y sum to one, so that y drops out."""
    hessian = classifier.hessian("w", name)
    assert in_letters(hessian.expression) == in_letters(WELL_KNOWN[name])
    assert len(hessian.expression.terms) == 2
    assert str(hessian).startswith(f"∂²L/∂w[p,q]∂{name}[r")
    assert "y" not in str(hessian).partition("=")[2]
    assert r"\delta_{q" in hessian.latex()
    assert hessian._repr_latex_() == f"$\\displaystyle {hessian.latex()}$"


def test_what_is_verified_is_the_product_rule_as_it_comes(classifier):
    assert str(second(classifier, "w", "w")) == (
        "Σ_tu a[t,q] x[t,p] x[t,r] y[t,u] δ[q,s] / m − Σ_tu a[t,q] a[t,s] x[t,p] x[t,r] y[t,u] / m"
    )


def claiming(operation, first: str, **expressions):
    """The second derivatives of an operation as somebody else claims them."""
    derived = operation.second_order(first, *expressions)
    for name, expression in expressions.items():
        own = second(operation, first, name)
        axes = dict(zip(expression.output, (own.terms[0].axes[s] for s in own.output), strict=True))
        others = {"p": "m"}
        terms = tuple(replace(t, axes={**others, **axes}) for t in expression.terms)
        claimed = replace(expression, terms=terms, title=own.title)
        derived._derivatives = {
            **derived.__dict__.get("_derivatives", {}),
            (derived.output, name, 0): claimed,
        }
    return derived


def test_the_well_known_closed_form_is_proved(classifier):
    """∂²L/∂w∂w = Σ_p x xᵀ ⊗ (diag(a) − a aᵀ) / m, because each row of y sums to one."""
    report = verify(claiming(classifier, "w", **WELL_KNOWN), oracles=EXACT)
    assert report.ok
    assert {str(c.verdict) for c in report.checks if c.oracle == "symbolic"} == {"proved"}


WRONG = {
    "the outer product left out": einsum("pr,pt,ps,su->rstu", "x", "x", "a", delta) / size("m"),
    "plus for minus": (
        einsum("pr,pt,ps,su->rstu", "x", "x", "a", delta)
        + einsum("pr,pt,ps,pu->rstu", "x", "x", "a", "a")
    )
    / size("m"),
    "the mean left out": WELL_KNOWN["w"] * size("m"),
    "letters exchanged": (
        einsum("pr,pt,ps,su->rstu", "x", "x", "a", delta)
        - einsum("pr,pt,ps,ps,ut->rstu", "x", "x", "a", "a", ones)
    )
    / size("m"),
    "a squared": (
        einsum("pr,pt,ps,su->rstu", "x", "x", "a**2", delta)
        - einsum("pr,pt,ps,pu->rstu", "x", "x", "a", "a")
    )
    / size("m"),
}


@pytest.mark.parametrize("slip", WRONG)
@pytest.mark.parametrize("oracle", EXACT)
def test_a_wrong_hessian_is_refuted(classifier, slip, oracle):
    report = verify(claiming(classifier, "w", w=WRONG[slip]), oracles=oracle, wrt="w")
    assert [str(c.verdict) for c in report.checks] == ["refuted"]


def test_a_wrong_gradient_is_refuted_with_its_right_derivative():
    """The Hessian of a wrong gradient may be right; the claim on which it rests is a check of its own."""
    off = Spec(
        lambda xp, z: xp.sum(z * z * z),
        inputs={"z": real("n")},
        output={"L": ""},
        jacobian={"z": 3 * einsum("p->p", "z**2") + einsum("p->p", ones)},
        name="off",
    )
    verdicts = {
        c.input: str(c.verdict) for c in verify(off.second_order("z"), oracles="exact").checks
    }
    assert verdicts == {"z": "identity", "L, z": "refuted"}


# ---------------------------------------------------------------- against other people's Hessians


# torch's own rules are compiled when it first differentiates twice, by a function that it deprecates.
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize("hessians", [jax_hessians, torch_hessians])
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_hessians_agree_with_those_of_the_frameworks(classifier, hessians, scale):
    """Two right values, each within the claim's bound of the exact one; float32 against float64."""
    values = draw()
    values["x"] = values["x"] * scale
    narrow = {n: v.astype(np.float32) for n, v in values.items()}
    wide = {n: v.astype(np.float64) for n, v in narrow.items()}
    truth, exact = hessians(values), hessians(wide)
    for pair in PAIRS:
        hessian = classifier.hessian(*pair)
        assert np.all(np.abs(hessian(**values) - truth[pair]) <= 2 * bound(hessian, values))
        single = hessian(**narrow)
        assert single.dtype == np.float32
        allowed = bound(hessian, wide, "float32") + bound(hessian, wide)
        assert np.all(np.abs(single.astype(np.float64) - exact[pair]) <= allowed)


def test_the_bound_sees_a_change_of_four_bounds_and_every_slip(classifier):
    values = draw()
    hessian = classifier.hessian("w", "w")
    truth, allowed = jax_hessians(values)["w", "w"], 2 * bound(hessian, values)
    computed = hessian(**values)
    place = np.unravel_index(np.argmax(np.abs(computed)), computed.shape)
    computed[place] += 2 * allowed[place]
    assert np.flatnonzero(np.abs(computed - truth) > allowed).tolist() == [
        np.ravel_multi_index(place, computed.shape)
    ]
    for slip in WRONG.values():
        wrong = claiming(classifier, "w", w=slip).dense("w")(**values)
        assert np.any(np.abs(wrong - truth) > 1e6 * allowed)


def test_the_hessian_is_symmetric(classifier):
    values = draw()
    for first, name in [("x", "w"), ("x", "b"), ("w", "b"), ("w", "w"), ("x", "x")]:
        one, other = classifier.hessian(first, name), classifier.hessian(name, first)
        front = values[name].ndim
        gap = np.abs(one(**values) - _turned(other(**values), front))
        assert np.all(gap <= bound(one, values) + _turned(bound(other, values), front))


def _turned(array, front):
    return np.transpose(array, (*range(front, array.ndim), *range(front)))


def test_kinks_are_named_and_frameworks_agree_away_from_ties(relu_net, rng):
    relu = load("relu").hessian("z", "z")
    assert str(relu) == "∂²h[p,q]/∂z[r,s]∂z[t,u] = 0\n  wherever z ≠ 0"
    assert not relu(z=rng.normal(size=(3, 2))).any()
    assert "z ≠ 0" in relu_net.hessian("w1", "w1").conditions()
    report = verify(
        relu_net.second_order("w1", "w1", "b2"), oracles=("symbolic", "jax"), profile="quick"
    )
    assert report.ok
    assert {str(c.verdict) for c in report.checks} == {"proved", "agrees"}


# ---------------------------------------------------------------- rules, residuals, shapes

POSITIVE = positive("n")
RULES = {
    "exp": (lambda xp, z: xp.sum(xp.exp(z)), real("n")),
    "log": (lambda xp, z: xp.sum(z * xp.log(z) - z), POSITIVE),
    "sqrt": (lambda xp, z: xp.sum(2 * z * xp.sqrt(z) / 3), POSITIVE),
    "sigmoid": (lambda xp, z: xp.sum(xp.logaddexp(z, 0)), real("n")),
    "tanh": (lambda xp, z: xp.sum(xp.log(xp.cosh(z))), real("n")),
    "abs": (lambda xp, z: xp.sum(z * xp.abs(z)) / 2, real("n")),
    "sign": (lambda xp, z: xp.sum(xp.abs(z)), real("n")),
    "step": (lambda xp, z: xp.sum(xp.maximum(z, 0)), real("n")),
}


@pytest.mark.parametrize("name", RULES)
def test_the_rule_of_each_function(name):
    forward, domain = RULES[name]
    spec = Spec(
        forward,
        inputs={"z": domain},
        output={"L": ""},
        jacobian={"z": einsum("p->p", f"{name}(z)")},
        name=name,
    )
    report = verify(
        spec.second_order("z"),
        oracles=(*EXACT, "autograd"),
        profile="quick",
    )
    assert report.ok, report
    assert any(str(c.verdict) in ("proved", "identity") for c in report.checks if c.input == "z"), (
        report
    )
    kinked = name in ("abs", "sign", "step")
    assert spec.hessian("z", "z").conditions() == (["z ≠ 0"] if kinked else [])


@pytest.mark.parametrize("power", [2, 3, -1, -2, Fraction(1, 2), Fraction(-3, 2), Fraction(2, 3)])
def test_the_power_rule(power):
    up = Fraction(power) + 1

    def forward(xp, z):
        if up == 0:
            return xp.sum(xp.log(z))
        if up.denominator == 1:
            raised = xp.pow(z, int(up))
        else:
            raised = xp.exp(xp.log(z) * up.numerator / up.denominator)
        return xp.sum(raised) * up.denominator / up.numerator

    spec = Spec(
        forward,
        inputs={"z": POSITIVE},
        output={"L": ""},
        jacobian={"z": einsum("p->p", f"z**({Fraction(power)})")},
        name="power",
    )
    report = verify(spec.second_order("z"), oracles=("symbolic", "autograd"), profile="quick")
    assert report.ok, report
    assert any(str(c.verdict) == "proved" for c in report.checks if c.input == "z"), report


def test_a_function_whose_derivative_is_no_operand_says_what_to_write():
    spec = Spec(
        lambda xp, z: xp.sum(z * xp.erf(z) + xp.exp(-z * z) / xp.sqrt(xp.pi)),
        inputs={"z": real("n")},
        output={"L": ""},
        jacobian={"z": einsum("p->p", "erf(z)")},
        name="soft",
    )
    message = (
        r"the derivative of erf\(z\) has no operand; return erf\(z\) from the forward as a residual "
        r'output r, claim its derivative as jacobian\["r", ...\], and write r where it stands'
    )
    with pytest.raises(UsageError, match=message):
        spec.hessian("z", "z")


def rms(xp, x, g, *, eps):
    r = 1 / xp.sqrt(xp.mean(x * x, axis=-1) + eps)
    return g * x * r[:, None], r


def rms_norm(more=None):
    return Spec(
        rms,
        inputs={"x": real("m n"), "g": real("n")},
        params={"eps": number(1e-8, 1e-3)},
        output={"h": "m n", "r": "m"},
        jacobian={
            "x": einsum("q,p,pr,qs->pqrs", "g", "r", delta, delta)
            - einsum("q,pq,ps,p,pr->pqrs", "g", "x", "x", "r**3", delta) / size("n"),
            "g": einsum("pq,p,qr->pqr", "x", "r", delta),
            **(more or {}),
        },
        name="rms_norm",
    )


RESIDUALS = {
    ("r", "x"): -einsum("p,ps,pr->prs", "r**3", "x", delta) / size("n"),
    ("r", "g"): 0,
}


def test_a_residual_without_a_claim_is_named():
    message = (
        r"a second derivative of rms_norm needs ∂r/∂x of rms_norm, which is not claimed; add it to that "
        r'spec: jacobian={..., \("r", "x"\): einsum\(...\)}, or 0 for the einsum where r does not depend '
        r"on x"
    )
    with pytest.raises(UsageError, match=message):
        rms_norm().hessian("x", "x")
    with pytest.raises(UsageError, match="needs ∂r/∂x of rms_norm"):
        load("l2")(rms_norm()("x", "g")).hvp("x")
    with pytest.raises(UsageError, match="needs ∂r/∂x of rms_norm"):
        load("l2")(rms_norm()("x", "g")).hessian("x", "x")


def test_residual_jacobians_give_the_hessian():
    spec = rms_norm(RESIDUALS)
    for first in ("x", "g"):
        report = verify(spec.second_order(first), oracles=EXACT)
        assert report.ok, report
        assert {str(c.verdict) for c in report.checks} <= {"proved", "identity"}


def test_a_wrong_zero_of_a_residual_is_refuted():
    wrong = rms_norm({**RESIDUALS, ("r", "x"): 0})
    report = verify(wrong.second_order("x", "x"), oracles="exact", wrt="x")
    assert [str(c.verdict) for c in report.checks] == ["refuted"]


def test_a_chain_knows_the_derivatives_of_its_residuals(rng):
    chain = load("l2")(rms_norm(RESIDUALS)("x", "g"))
    derivative = chain.slice_derivative("r", "x")
    assert str(derivative) == "−r^3[p] x[p,t] δ[p,s] / n"
    report = verify(chain.second_order("x"), oracles=EXACT)
    assert report.ok, report
    values = {"x": rng.normal(size=(3, 4)), "g": rng.normal(size=4), "eps": 1e-3}
    tangent = rng.normal(size=(3, 4))
    expected = np.einsum("pqrs,rs->pq", chain.hessian("x", "x")(**values), tangent)
    allowed = np.einsum("pqrs,rs->pq", bound(chain.hessian("x", "x"), values), np.abs(tangent))
    assert_product(chain, "x", tangent, values, expected, 2 * allowed)


def test_leading_axes_are_carried_along(rng):
    cubes = Spec(
        lambda xp, x, w: xp.sum(x * x * x * w, axis=-1),
        inputs={"x": real("... n"), "w": real("n")},
        output={"L": "..."},
        jacobian={"x": 3 * einsum("p,p->p", "x**2", "w"), "w": einsum("p->p", "x**3")},
        name="cubes",
    )
    for first in ("x", "w"):
        report = verify(cubes.second_order(first), oracles=(*EXACT, "autograd"), profile="quick")
        assert report.ok, report
    x, w = rng.normal(size=(2, 3, 4)), rng.normal(size=4)
    found = cubes.hessian("x", "x")(x=x, w=w)
    assert found.shape == (2, 3, 2, 3, 4, 2, 3, 4)
    np.testing.assert_allclose(np.einsum("ababnabn->abn", found), 6 * x * w, rtol=1e-14)
    assert np.count_nonzero(found) == x.size
    mixed = cubes.hessian("w", "x")(x=x, w=w)
    assert mixed.shape == (2, 3, 4, 2, 3, 4)
    np.testing.assert_allclose(np.einsum("abnabn->abn", mixed), 3 * x * x, rtol=1e-14)


def test_broadcast_axes(rng):
    weighted = Spec(
        lambda xp, a, b: xp.sum(a * b * b),
        inputs={"a": real("m n"), "b": real("m #n")},
        output={"L": ""},
        jacobian={
            "a": einsum("pq->pq", "b**2"),
            "b": 2 * einsum("pk,pk,kq->pq", "a", "b", delta),
        },
        name="weighted",
    )
    for first in ("a", "b"):
        report = verify(weighted.second_order(first), oracles=(*EXACT, "autograd"), profile="quick")
        assert report.ok, report
    a = rng.normal(size=(2, 3))
    narrow = weighted.hessian("b", "b")(a=a, b=np.ones((2, 1)))
    np.testing.assert_allclose(np.einsum("papa->p", narrow), 2 * a.sum(axis=1), rtol=1e-14)
    assert weighted.hessian("b", "b")(a=a, b=np.ones((2, 3))).shape == (2, 3, 2, 3)


def test_labels_are_constants():
    picked = Spec(
        lambda xp, z, t: xp.sum(xp.one_hot(t, z.shape[1]) * z * z),
        inputs={"z": real("m n"), "t": labels("m", below="n")},
        output={"L": ""},
        jacobian={"z": 2 * einsum("pq,pq->pq", "t", "z")},
        name="picked",
    )
    report = verify(picked.second_order("z"), oracles=(*EXACT, "autograd"), profile="quick")
    assert report.ok, report
    assert str(second(picked, "z", "z")) == "2 t[p,q] δ[p,r] δ[q,s]"
    assert partial(picked.derivative("L", "z"), "t", ("m",)) is None


# ---------------------------------------------------------------- the gallery

ROOT = Path(__file__).parent.parent
FILES = sorted([*(ROOT / "specs").glob("*.py"), *(ROOT / "examples" / "specs").glob("*.py")])
TARGETS = [target for file in FILES for target in resolve([str(file)])]
UNDECIDED = {"inverse": "xp.linalg is not one index expression of symbolic size"}


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_every_second_derivative_is_proved(target):
    """Each pair of inputs once: what is claimed in the other order is the same array, transposed."""
    operation, names = target.operation, target.operation.differentiable
    reason = UNDECIDED.get(target.name, "")
    for place, first in enumerate(names):
        operation.second_order(
            first
        )  # nothing that the product rule needs is unclaimed, in any order
        rest = names[place:]
        report = verify(
            operation.second_order(first, *rest), oracles="symbolic", wrt=rest, profile="quick"
        )
        assert [(c.input, str(c.verdict)) for c in report.checks] == [
            (name, "undecided" if reason else "proved") for name in rest
        ], report
        assert all(c.reason.startswith(reason) for c in report.checks)


def test_what_is_not_one_index_expression_is_identical_at_small_shapes():
    report = verify(load("examples/specs/inverse.py::inverse").second_order("a"), oracles="exact")
    assert {str(c.verdict) for c in report.checks} == {"identity"}


def test_a_file_of_second_derivatives_is_a_target(tmp_path):
    """`gradcheck verify hessians.py` and a pool of processes find it by address."""
    file = tmp_path / "hessians.py"
    file.write_text(
        'from gradcheck import load\nhessian = load("softmax_cross_entropy").second_order("z")\n',
        encoding="utf-8",
    )
    report = verify(f"{file}::hessian", oracles="symbolic")
    assert report.ok
    assert {(c.claim, c.input) for c in report.checks} == {("hessian", "z"), ("hessian", "L, z")}
