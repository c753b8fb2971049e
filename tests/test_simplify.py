"""Closed forms: what `simplify` reaches, that it changes no value, and when it must not apply a rule."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from gradcheck import Spec, constant, delta, einsum, load, one_hot, ones, probability, real, size
from gradcheck.algebra.compose import relabel
from gradcheck.algebra.grouping import grouped
from gradcheck.algebra.vectorise import vectorised
from gradcheck.backends import get
from gradcheck.errors import UsageError
from gradcheck.evaluation import Bindings, evaluate
from gradcheck.library import resolve
from gradcheck.oracles.symbolic import equal

if TYPE_CHECKING:
    from gradcheck.algebra.terms import Expression

CHAIN = load("weighted_sum") >> load("softmax") >> load("cross_entropy")
GALLERY = Path(__file__).parent.parent / "examples" / "specs"


@pytest.mark.parametrize(
    ("name", "letters", "matrix"),
    [
        ("z", "(a[r,s] − y[r,s]) / m", "(a − y)/m"),
        ("w", "Σ_p x[p,r] (a[p,s] − y[p,s]) / m", "xᵀ(a − y)/m"),
        ("b", "Σ_p (a[p,r] − y[p,r]) / m", "1ᵀ(a − y)/m"),
        ("x", "Σ_p w[s,p] (a[r,p] − y[r,p]) / m", "(a − y)wᵀ/m"),
    ],
)
def test_closed_forms_of_the_classifier(name, letters, matrix):
    closed = CHAIN.jacobian[name].simplify()
    assert str(closed) == letters
    assert closed.vectorised() == matrix
    assert closed.conditions() == ["a ≠ 0", "o ≥ 1", "Σ_q y[p,q] = 1"]
    assert equal(CHAIN, CHAIN.jacobian[name], closed).verdict == "proved"


def test_vjp_of_softmax():
    closed = load("softmax").vjp_expression("z").simplify()
    assert str(closed) == "a[r,s] (v[r,s] − Σ_p v[r,p] a[r,p])"
    assert closed.vectorised() == "a ⊙ (v − (v ⊙ a)1)"
    assert closed.latex() == r"a_{rs} \left( v_{rs} - \sum_{p} v_{rp} a_{rp} \right)"
    assert closed._repr_latex_().startswith("$\\displaystyle a_{rs}")


def test_product_of_sums_is_found_again():
    chain = load("weighted_sum") >> load("sigmoid") >> load("softmax") >> load("cross_entropy")
    closed = chain.jacobian["w"].simplify()
    assert str(closed) == "Σ_p s[p,s] x[p,r] (1 − s[p,s]) (a[p,s] − y[p,s]) / m"
    assert closed.vectorised() == "xᵀ(s ⊙ (1 − s) ⊙ (a − y))/m"


# ---------------------------------------------------------------- a relation, and where it must not apply


def spec_of(y, jacobian: Expression) -> Spec:
    def forward(xp, x, y):
        return x * xp.sum(y)

    return Spec(
        forward, inputs={"x": real("m m"), "y": y}, output={"f": "m m"}, jacobian={"x": jacobian}
    )


SUMMED = einsum("pr,qs,uv->pqrs", delta, delta, "y")


def test_rows_of_a_real_matrix_do_not_sum_to_one():
    spec = spec_of(constant(real("m m")), SUMMED)
    assert str(spec.jacobian["x"].simplify()) == "Σ_tu y[t,u] δ[p,r] δ[q,s]"


@pytest.mark.parametrize("domain", [constant(probability("m m")), one_hot("m m")])
def test_rows_of_a_distribution_do(domain):
    closed = spec_of(domain, SUMMED).jacobian["x"].simplify()
    assert str(closed) == "m δ[p,r] δ[q,s]"
    assert closed.conditions() == ["m ≥ 1", "Σ_q y[p,q] = 1"]


@pytest.mark.parametrize(
    "jacobian",
    [
        einsum("pr,qs,uu->pqrs", delta, delta, "y"),  # a diagonal
        einsum("pr,qs,uv->pqrs", delta, delta, "y**2"),  # a power
        einsum("pr,qs,uv,uv->pqrs", delta, delta, "y", "x"),  # a letter that something else has
        einsum("pr,qs,uv->pqrs", delta, delta, "log(y)"),
        einsum("pr,qs,uq->pqrs", delta, delta, "y"),  # over rows, not along one
    ],
)
def test_no_relation_on_a_diagonal_a_power_or_a_shared_letter(jacobian):
    expression = spec_of(constant(probability("m m")), jacobian).jacobian["x"]
    assert any("y" in e.names() for e in [expression.simplify()])
    assert expression.simplify().conditions() == []


def test_only_declared_relations_are_used():
    def undeclared(xp, z):
        return load("softmax").forward(xp, z)

    plain = Spec(
        undeclared, inputs={"z": real("m n")}, output={"a": "m n"},
        jacobian={"z": einsum("pr,qs,rt->pqrs", delta, delta, "a")},
    )  # fmt: skip
    declared = Spec(
        undeclared, inputs={"z": real("m n")}, output={"a": probability("m n")},
        jacobian={"z": einsum("pr,qs,rt->pqrs", delta, delta, "a")},
    )  # fmt: skip
    assert str(plain.jacobian["z"].simplify()) == "Σ_t a[p,t] δ[p,r] δ[q,s]"
    assert str(declared.jacobian["z"].simplify()) == "δ[p,r] δ[q,s]"
    chained = load("weighted_sum") >> declared
    assert [r.name for r in chained.jacobian["z"].relations] == ["a"]


def test_what_is_fed_into_a_probability_is_none_by_that():
    chain = load("sigmoid") >> load("cross_entropy")
    assert "s" not in chain.row_relations()
    assert "y" in chain.row_relations()


def test_renamed_variables_keep_their_relations():
    loss = load("cross_entropy")(load("softmax")("logits"), "targets")
    assert str(loss.jacobian["logits"].simplify()) == "(a[r,s] − targets[r,s]) / m"


# ---------------------------------------------------------------- no value changes


def arrays(operation, seed):
    rng = np.random.default_rng(seed)
    sizes = {a: 2 + i for i, a in enumerate(operation.axes)}
    values = {}
    for name, shape in operation.shapes.items():
        dims = tuple(int(a) if a.isdigit() else sizes[a.removeprefix("#")] for a in shape)
        values[name] = rng.uniform(0.5, 2, dims)
    for name in operation.row_relations():
        if name in values:
            values[name] /= values[name].sum(axis=-1, keepdims=True)
    return values, {**sizes, **{f"#{a}": n for a, n in sizes.items()}}


def number(expression, operation, values, sizes):
    backend = get("numpy")
    bindings = Bindings(values, sizes, operation.shapes, {}, np.zeros(()))
    return evaluate(expression, bindings, backend)


def expressions():
    for target in resolve(["specs", str(GALLERY)]):
        operation = target.operation
        if operation.dotted or operation.one_hot:
            continue
        for claim in operation.claims():
            if claim.form != "missing" and claim.output == operation.result:
                yield pytest.param(operation, claim.input, id=f"{target.name}-{claim.input}")


@pytest.mark.parametrize(("operation", "name"), list(expressions()))
def test_simplified_and_grouped_forms_have_the_same_value(operation, name):
    expression = operation.slice_derivative(operation.result, name)
    closed = expression.simplify()
    values, sizes = arrays(operation, 7)
    wanted = number(expression, operation, values, sizes)
    np.testing.assert_allclose(
        number(closed, operation, values, sizes), wanted, rtol=1e-12, atol=1e-12
    )
    free = {s: closed.terms[0].axes[s] for s in closed.output}
    out = [t for g in grouped(closed) for t in g.expanded(closed.output)]
    again = replace(closed, terms=tuple(replace(t, axes={**t.axes, **free}) for t in out))
    if out:
        np.testing.assert_allclose(
            number(again, operation, values, sizes), wanted, rtol=1e-12, atol=1e-12
        )
    finding = equal(operation, expression, closed)
    assert finding.verdict in ("proved", "undecided"), finding.reason


def test_a_wrong_relation_would_be_found_out():
    """Without Σ_q y = 1, (a − y)/m is not the derivative: the proof must notice."""
    loss = replace_domain(load("cross_entropy"))
    chain = load("softmax") >> loss
    wrong = relabel(CHAIN.jacobian["z"].simplify(), chain.jacobian["z"].output)
    wrong = replace(wrong, terms=tuple(
        replace(t, axes={s: {"o": "n"}.get(a, a) for s, a in t.axes.items()}) for t in wrong.terms
    ))  # fmt: skip
    assert equal(chain, chain.jacobian["z"], wrong).verdict == "suspect"
    assert str(chain.jacobian["z"].simplify()) == "(Σ_p a[r,s] y[r,p] − y[r,s]) / m"


def replace_domain(spec: Spec) -> Spec:
    return Spec(
        spec.forward,
        inputs={"a": probability("m n"), "y": constant(real("m n", 0, 1))},
        output={"L": ""},
        jacobian={"a": -einsum("pq,pq->pq", "y", "a**-1") / size("m")},
    )


# ---------------------------------------------------------------- matrix form


def spec_mn(output: str, jacobian: Expression) -> Expression:
    def forward(xp, a, b, u, v):
        return xp.sum(a) + xp.sum(b) + xp.sum(u) + xp.sum(v)

    inputs = {"a": real("m n"), "b": real("m n"), "u": real("m"), "v": real("n")}
    spec = Spec(forward, inputs=inputs, output={"f": ""}, jacobian={output: jacobian})
    return spec.jacobian[output].simplify()


@pytest.mark.parametrize(
    ("output", "jacobian", "text"),
    [
        ("a", einsum("pq->pq", "a"), "a"),
        ("a", 2 * einsum("pq->pq", "a") / size("m"), "2 a/m"),
        ("a", einsum("pq->pq", "a") / size("m") ** Fraction(1, 2), "a/√m"),
        ("a", einsum("pq,pq->pq", "a", "b**-2"), "a ⊘ b^∘2"),
        ("a", einsum("pq->pq", "b**-1"), "1 ⊘ b"),
        ("a", einsum("pr,qr,qs->ps", "a", "b", "b"), "a bᵀb"),
        ("a", einsum("p,q->pq", "u", "v"), "u vᵀ"),
        ("a", einsum("p,pq->pq", "u", "b"), "u ⊙ b"),
        ("a", einsum("p,q->pq", "u", ones), "u 1ᵀ"),
        ("a", einsum("pq,r,pr->pq", "a", "v", "b"), "(b v) ⊙ a"),
        ("u", einsum("pq,q->p", "a", "v"), "a v"),
        ("u", einsum("pq->p", "a"), "a 1"),
        ("u", einsum("p->p", "u"), "u"),
        ("v", einsum("pq->q", "a"), "1ᵀa"),
        ("a", einsum("pq,r,r->pq", "a", "u", "u"), "(1ᵀu^∘2)a"),
    ],
)
def test_matrix_form(output, jacobian, text):
    assert spec_mn(output, jacobian).vectorised() == text


def test_where_there_is_no_matrix_form():
    with pytest.raises(UsageError, match=r"has 4 free letters where a matrix has two, so that"):
        load("softmax").jacobian["z"].simplify().vectorised()
    diagonal = einsum("pp->p", "c")

    def forward(xp, c, u):
        return xp.sum(u) + xp.sum(c)

    spec = Spec(
        forward, inputs={"c": real("m m"), "u": real("m")}, output={"f": ""},
        jacobian={"u": diagonal},
    )  # fmt: skip
    with pytest.raises(UsageError, match=r"c is taken along a diagonal"):
        spec.jacobian["u"].vectorised()


def test_diagonal_of_a_vector_jacobian():
    def forward(xp, z):
        e = xp.exp(z)
        return e / xp.sum(e)

    spec = Spec(
        forward, inputs={"z": real("n")}, output={"a": probability("n")},
        jacobian={"z": einsum("p,pq->pq", "a", delta) - einsum("p,q->pq", "a", "a")},
    )  # fmt: skip
    assert spec.jacobian["z"].simplify().vectorised() == "diag(a) − a aᵀ"
    shown = vectorised(spec.jacobian["z"].simplify(), latex=True)
    assert shown == r"\operatorname{diag}(\mathbf{a}) - \mathbf{a} \mathbf{a}^{\top}"


def test_a_cotangent_is_not_called_v_where_v_is_an_operand():
    mix = load(f"{GALLERY}/attention.py::mix")
    assert mix.vjp_expression("a").simplify().vectorised() == "d(h)vᵀ"


def test_a_power_written_as_a_fraction_is_the_whole_exponent():
    assert str(einsum("p->p", "a**-1/2")) == str(einsum("p->p", "a**(-1/2)")) == "a^(-1/2)[p]"
