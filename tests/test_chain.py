"""Chains and graphs: names, axes, and derivatives that automatic differentiation agrees with."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gradcheck import (
    Spec,
    choice,
    constant,
    delta,
    einsum,
    integer,
    labels,
    load,
    mask,
    number,
    ones,
    positive,
    real,
    size,
    verify,
)
from gradcheck.errors import SpecError, UsageError

pytest.importorskip("autograd")

add, l2, cross_entropy, relu = map(load, ("add", "l2", "cross_entropy", "relu"))
sigmoid, softmax, transpose = map(load, ("sigmoid", "softmax", "transpose"))
weighted_sum = load("weighted_sum")


def spec(forward, jacobian, output, where=None, **inputs):
    params = {n: d for n, d in inputs.items() if d.__class__.__name__ == "Parameter"}
    domains = {n: d for n, d in inputs.items() if n not in params}
    given = {"inputs": domains, "params": params, "output": output, "where": where}
    return Spec(forward, jacobian=jacobian, name="link", **given)


def both(operand):
    return einsum("pq,pr,qs->pqrs", operand, delta, delta)


linear = spec(
    lambda xp, x, w: xp.matmul(x, w),
    {"x": einsum("us->su", "w"), "w": einsum("t,su->stu", "x", delta)},
    {"z": "... o"},
    x=real("... n"),
    w=real("n o"),
)
scale = spec(
    lambda _, x, b: x * b,
    {"x": both("b"), "b": both("x")},
    {"z": "m n"},
    x=real("m n"),
    b=real("m #n"),
)
row_sum = spec(
    lambda xp, x: xp.sum(x, axis=1, keepdims=True),
    {"x": einsum("pr,q,s->pqrs", delta, ones, ones)},
    {"r": "m 1"},
    x=real("m n"),
)
row_mean = spec(
    lambda xp, x: xp.mean(x, axis=1),
    {"x": einsum("pr,s->prs", delta, ones) / size("n")},
    {"r": "m"},
    x=real("m n"),
)
four = spec(lambda _, x: x * x, {"x": 2 * both("x")}, {"y": "m 4"}, x=real("m 4"))
five = spec(lambda _, x: x * x, {"x": 2 * both("x")}, {"y": "m 5"}, x=real("m 5"))
root = spec(
    lambda xp, x: x / xp.sqrt(x.shape[1]),
    {"x": einsum("pr,qs->pqrs", delta, delta) * size("n") ** Fraction(-1, 2)},
    {"y": "m n"},
    x=real("m n"),
)
masked = spec(lambda _, k, x: k * x, {"x": both("k")}, {"y": "m n"}, k=mask("m n"), x=real("m n"))
times = spec(
    lambda _, x, *, k: k * x,
    {"x": einsum(",pr,qs->pqrs", "k", delta, delta)},
    {"y": "m n"},
    x=real("m n"),
    k=integer(1, 4),
    where="n >= k",
)


def agrees(chain, **options):
    """Whether autograd agrees with every composed derivative."""
    report = verify(chain, oracles=["autograd"], profile="quick", **options)
    assert report.ok, str(report)
    assert {str(c.verdict) for c in report.checks} == {"agrees"}, str(report)
    assert all(c.worst < 1 for c in report.checks)
    return sorted(c.input for c in report.checks)


# ---------------------------------------------------------------- graphs that must be right


def perceptron():
    hidden = relu(weighted_sum("x", "w1", "b1"))
    loss = cross_entropy(softmax(weighted_sum(hidden, "w2", "b2")), "y")
    return loss + Fraction(1, 10) * l2("w1")


def shared():
    h = weighted_sum("x", "w", "b")
    return add(sigmoid(h), softmax(h))


GRAPHS = {
    "perceptron with a penalty": (perceptron, "b1 b2 w1 w2 x"),
    "residual": (lambda: add("z", relu(weighted_sum("z", "w", "b"))), "b w z"),
    "tied weights": (lambda: weighted_sum(weighted_sum("x", "w", "b"), "w", "b"), "b w x"),
    "tied and transposed": (
        lambda: weighted_sum(sigmoid(weighted_sum("x", "w", "b")), transpose("w"), "c"),
        "b c w x",
    ),
    "subgraph used twice": (shared, "b w x"),
    "one variable in two slots": (lambda: weighted_sum("x", "x", "b"), "b x"),
    "one variable in two slots of one shape": (lambda: add("a", "a"), "a"),
    "difference": (lambda: (softmax >> cross_entropy) - 2 * l2("z"), "z"),
    "fixed size": (lambda: weighted_sum >> four, "b w x"),
    "size of a fixed axis": (lambda: five >> row_mean, "x"),
    "root of a fixed axis": (lambda: five >> root, "x"),
    "leading axes meet fixed ones": (lambda: linear >> softmax, "w x"),
    "fixed axes meet leading ones": (lambda: linear(weighted_sum, "v"), "b v w x"),
    "leading axes stay leading": (lambda: linear(linear, "v"), "v w x"),
    "one leading axis": (lambda: linear(row_mean("x"), "v"), "v x"),
    "broadcast input fed a wide result": (lambda: scale("x", sigmoid("b")), "b x"),
    "broadcast input fed a column": (lambda: scale("x", row_sum("u")), "u x"),
    "broadcast input that is also wide": (lambda: scale("x", "x"), "x"),
    "broadcast variable used twice": (lambda: scale(scale("x", "b"), "b"), "b x"),
    "normalised by its own column": (lambda: scale("x", row_sum("x")), "x"),
    "chain as a link": (
        lambda: (softmax >> cross_entropy)(weighted_sum("x", "w", "b"), "y"),
        "b w x",
    ),
    "renamed parameter": (lambda: times(times("x", k="i"), k="j"), "x"),
    "fixed parameter": (lambda: times(times("x", k=2), k=3), "x"),
    "fixed parameter in a chain as a link": (lambda: times("x", k=2)(softmax("z")), "z"),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_graph_agrees_with_autograd(name):
    make, inputs = GRAPHS[name]
    assert agrees(make()) == inputs.split()


def test_wrong_link_is_refuted_in_the_chain_and_only_where_it_matters():
    wrong = Spec(
        weighted_sum.forward,
        inputs=weighted_sum.inputs,
        output={"z": "m o"},
        jacobian={**weighted_sum.jacobian, "w": 2 * einsum("rt,su->rstu", "x", delta)},
    )
    report = verify(wrong >> softmax >> cross_entropy, oracles=["autograd"], profile="quick")
    found = {c.input: str(c.verdict) for c in report.checks}
    assert found == {"x": "agrees", "w": "refuted", "b": "agrees"}


def test_closed_form_of_a_graph():
    form = Spec(
        weighted_sum >> softmax >> cross_entropy,
        jacobian={
            "w": (einsum("rt,ru->tu", "x", "a") - einsum("rt,ru->tu", "x", "y")) / size("m"),
            "b": (einsum("ru->u", "a") - einsum("ru->u", "y")) / size("m"),
        },
    )
    report = verify(form, oracles=["autograd"], profile="quick")
    assert {c.input: str(c.verdict) for c in report.checks} == {
        "w": "agrees",
        "b": "agrees",
        "x": "missing",
    }


# ---------------------------------------------------------------- names


def test_names_axes_and_text():
    chain = weighted_sum >> softmax >> cross_entropy
    assert chain.name == "weighted_sum >> softmax >> cross_entropy"
    assert list(chain.inputs) == ["x", "w", "b", "y"]
    assert chain.shapes["w"] == ("n", "o")  # softmax has its own n, which is o here
    assert chain.shapes["y"] == ("m", "o")
    assert list(chain.outputs) == ["L"]
    assert {"z", "a"} <= set(chain.shapes)


def test_outputs_of_one_name_are_numbered_and_axes_too():
    chain = weighted_sum(relu(weighted_sum("x", "w1", "b1")), "w2", "b2")
    assert chain.result == "z_2"
    assert chain.shapes["w2"] == ("o", "o_2")
    assert chain.shapes["z_2"] == ("m", "o_2")


def test_two_axes_merge():
    chain = weighted_sum("x", "x", "b")
    assert chain.shapes["x"] == ("m", "m")
    assert add("s", transpose("s")).shapes["s"] == ("m", "m")


def test_variable_named_like_an_output_is_another_variable():
    chain = softmax("a")
    assert (list(chain.inputs), chain.result) == (["a"], "a_2")
    assert agrees(chain) == ["a"]


@pytest.mark.parametrize(
    ("make", "problem", "hint"),
    [
        (
            lambda: weighted_sum >> weighted_sum,
            "weighted_sum and weighted_sum both own the name 'w'",
            'weighted_sum(weighted_sum, "w2", "b2")',
        ),
        (lambda: (weighted_sum >> l2) >> weighted_sum, "both own the name 'w'", '"w2"'),
        (lambda: weighted_sum >> 3, "3 is no spec and no chain", "a >> b"),
        (lambda: softmax + 1, "softmax and 1 cannot be added", "two losses"),
        (lambda: softmax + l2, "gives shape 'm n' and l2 gives ''", "one shape"),
        (lambda: 0.1 * l2, "the rounded number 0.1", "Fraction(1, 10)"),
        (lambda: l2 * l2, "must be a rational number", "Fraction"),
        (lambda: add("a", "b", "c"), "takes 2 inputs and got 3", "a, b"),
        (lambda: add("a", a="b"), "'a' is given twice", "a, b"),
        (lambda: add("a", c="b"), "'c' is no input or parameter of add", "a, b"),
        (lambda: add("a", "b b"), "'b b' is no name for a variable", "identifier"),
        (lambda: add("a", np.ones(3)), "input 'b' of add is given", "arrays come when"),
        (lambda: five >> four, "an axis of size 5", "fixed sizes must agree"),
        (lambda: five("x") + four("x"), "size 5", "fixed sizes must agree"),
        (lambda: l2 >> softmax, "l has 0 axes in l2, but input 'z'", "'...'"),
    ],
)
def test_refused_with_what_to_write_instead(make, problem, hint):
    with pytest.raises(SpecError) as caught:
        make()
    assert problem in caught.value.problem
    assert hint in caught.value.hint


def test_what_the_hint_says_works():
    assert agrees(weighted_sum(weighted_sum, "w2", "b2")) == ["b", "b2", "w", "w2", "x"]


# ---------------------------------------------------------------- constants, missing links


@pytest.mark.parametrize(
    "make",
    [
        lambda: masked(sigmoid("x")),
        lambda: sigmoid >> masked,
        lambda: sigmoid >> masked(),
        lambda: cross_entropy("a", softmax("u")),
        lambda: sigmoid >> (masked >> softmax),
    ],
)
def test_chain_fed_into_a_constant_is_refused(make):
    with pytest.raises(SpecError, match="a constant, but is fed from") as caught:
        make()
    assert "gradients would stop here" in caught.value.hint


def test_constant_chain_may_feed_a_constant():
    picked = Spec(
        lambda xp, t: xp.take(xp.asarray([0.0, 1.0, 1.0]), t),
        inputs={"t": labels("m n", below=3)},
        output={"k": "m n"},
    )
    assert agrees(masked(picked("t"), "x")) == ["x"]


def test_variable_that_is_also_a_constant_has_no_known_derivative():
    chain = cross_entropy("a", "a")
    assert [(c.input, c.form) for c in chain.claims()] == [("a", "missing")]
    with pytest.raises(UsageError, match="no derivative of L with respect to 'a'"):
        chain.gradient("a")
    kept = l2("w") + Fraction(1, 2) * l2("v")
    assert [c.form for c in kept.claims()] == ["chain", "chain"]


def test_missing_link_makes_the_claims_through_it_missing_and_no_others():
    half = Spec(
        lambda xp, x, w: xp.matmul(x, w),
        inputs={"x": real("m n"), "w": real("n o")},
        output={"z": "m o"},
        jacobian={"w": einsum("rt,su->rstu", "x", delta)},
    )
    chain = half(sigmoid("u"), "w") >> softmax
    assert {c.input: c.form for c in chain.claims()} == {"w": "chain", "u": "missing"}
    report = verify(chain, oracles=["autograd"], profile="quick")
    assert {c.input: str(c.verdict) for c in report.checks} == {"w": "agrees", "u": "missing"}
    assert report.exit_code == 3


def test_constants_of_the_links_stay_constant():
    chain = weighted_sum >> softmax >> cross_entropy
    assert chain.differentiable == ("x", "w", "b")
    frozen = add(weighted_sum("x", "w", "b"), "r")
    assert "r" in frozen.differentiable
    held = spec(
        lambda _, x, c: x * c,
        {"x": both("c")},
        {"y": "m n"},
        x=real("m n"),
        c=constant(real("m n")),
    )
    assert held("x", "c").differentiable == ("x",)


def test_narrowest_domain_of_a_shared_variable():
    logs = spec(lambda xp, x: xp.log(x), {"x": both("x**-1")}, {"y": "m n"}, x=positive("m n"))
    assert add(sigmoid("x"), logs("x")).inputs["x"].kind == "positive"
    assert agrees(add(sigmoid("x"), logs("x"))) == ["x"]


# ---------------------------------------------------------------- parameters and conditions


def test_parameters_keep_their_names_are_renamed_or_fixed():
    assert list(times("x").params) == ["k"]
    assert list(times(times("x", k="i"), k="j").params) == ["i", "j"]
    assert list(times(times("x")).params) == ["k"]  # the same name is the same parameter
    fixed = times("x", k=2)
    assert fixed.params == {}
    np.testing.assert_array_equal(fixed.value(x=np.ones((1, 2))), [[2.0, 2.0]])
    np.testing.assert_array_equal(fixed.dense("x")(x=np.ones((1, 2))).sum(), 4.0)


def test_conditions_speak_of_the_chains_axes_and_parameters():
    assert times("x").where == ("n >= k",)
    assert times("x", k="j").where == ("n >= j",)
    assert times("x", k=3).where == ("n >= 3",)
    chain = times(weighted_sum("x", "w", "b"), where="m < n")
    assert chain.where == ("o >= k", "m < o")
    sizes = {tuple(sorted(e.sizes.items())) for e in drawn(chain)}
    assert sizes
    assert all(dict(s)["m"] < dict(s)["o"] for s in sizes)


def drawn(chain):
    from gradcheck.checking import search

    strategy = search.examples(chain.inputs, chain.params, where=chain.where, profile="quick")
    return search.collect(strategy, 10, 0)


def test_choice_is_fixed_by_its_own_word_and_renamed_by_any_other():
    def reduced(xp, x, *, reduction):
        return xp.sum(x * x) if reduction == "sum" else xp.sum(x * x) / x.shape[0]

    total = Spec(
        reduced,
        inputs={"x": real("n")},
        params={"reduction": choice("mean", "sum")},
        output={"y": ""},
        jacobian={"x": 2 * einsum("p->p", "x")},
        where="reduction == 'sum'",
    )
    assert total("x", reduction="sum").params == {}
    assert list(total("x", reduction="how").params) == ["how"]
    assert agrees(total("x", reduction="sum")) == ["x"]
    assert total("x", reduction="sum").value(x=np.ones(3)) == 3


def test_labels_below_a_parameter_that_is_fixed():
    def counted(xp, x, t, *, k):  # noqa: ARG001
        return x * x

    link = Spec(
        counted,
        inputs={"x": real("m"), "t": labels("m", below="k")},
        params={"k": integer(2, 4)},
        output={"y": "m"},
        jacobian={"x": 2 * einsum("p,pq->pq", "x", delta)},
    )
    assert agrees(link("x", "t", k=3)) == ["x"]
    assert agrees(link("x", "t", k="j")) == ["x"]


def test_real_parameter_that_is_fixed():
    shifted = Spec(
        lambda _, x, *, eps: x * (x + eps),
        inputs={"x": real("n")},
        params={"eps": number(0, 1)},
        output={"y": "n"},
        jacobian={
            "x": 2 * einsum("p,pq->pq", "x", delta) + einsum(",pq->pq", "eps", delta),
        },
    )
    assert agrees(shifted(shifted("x", eps=0.5), eps=0.25)) == ["x"]
    assert shifted("x", eps=0.5).value(x=np.ones(1)) == [1.5]


# ---------------------------------------------------------------- derivatives one can look at


def test_intermediate_results_have_derivatives_too():
    chain = weighted_sum >> softmax >> cross_entropy
    assert str(chain.jacobian["a"]) == "−a^(-1)[p,q] y[p,q] / m"
    assert sorted(chain.jacobian) == ["b", "w", "x"]
    values = {"x": np.ones((2, 3)), "w": np.ones((3, 2)), "b": np.ones(2), "y": np.eye(2)}
    found = chain.gradient("z")(**values)["z"]
    np.testing.assert_allclose(found, [[-0.25, 0.25], [0.25, -0.25]])
    with pytest.raises(
        UsageError, match="no derivative with respect to 'q'; its variables are x, w"
    ):
        chain.jacobian["q"]


def test_composed_derivative_is_simplified_and_says_where_it_holds():
    chain = softmax >> cross_entropy
    assert "δ" not in str(chain.jacobian["z"])
    assert chain.jacobian["z"].conditions() == ["a ≠ 0"]


def test_links_show_the_chain_rule_in_letters():
    chain = weighted_sum >> softmax >> cross_entropy
    assert chain.links("w") == ["einsum('pq,pqrs,rstu->tu', ∂L/∂a, ∂a/∂z, ∂z/∂w)"]
    assert len(weighted_sum(weighted_sum("x", "w", "b"), "w", "c").links("w")) == 2


def test_links_of_a_long_chain():
    long = sigmoid
    for _ in range(12):
        long = relu(long)
    (line,) = long.links("z")
    assert line.count("∂") == 26


def test_variable_that_does_not_matter_has_a_zero_derivative():
    constant_in_x = spec(
        lambda xp, x, w: xp.sum(w) + 0 * xp.sum(x),
        {"x": 0 * einsum("pq->pq", ones), "w": einsum("pq->pq", ones)},
        {"L": ""},
        x=real("m n"),
        w=real("n o"),
    )
    found = constant_in_x("x", "w").gradient("x", "w")(x=np.ones((2, 3)), w=np.ones((3, 1)))
    assert not found["x"].any()
    assert found["w"].all()


def test_an_omitted_input_ties_no_variable_silently():
    weighted_sum = load("weighted_sum")
    first = weighted_sum("x", "w", "b")
    with pytest.raises(SpecError, match="input 'b' of weighted_sum is not given") as caught:
        weighted_sum(first, "w2")
    assert 'b="b2"' in str(caught.value)
    assert "b2" in weighted_sum(first, "w2", b="b2").inputs
    assert list(weighted_sum(first, "w", b="b").inputs) == ["x", "w", "b"]
