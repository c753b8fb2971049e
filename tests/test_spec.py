"""What a spec may hold, what it refuses, and that what it holds is verified."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st

from gradcheck import (
    Spec,
    choice,
    constant,
    delta,
    einsum,
    integer,
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
    size,
    verify,
)
from gradcheck.errors import ShapeError, SpecError, UsageError

pytest.importorskip("autograd")


def verdicts(target, **options):
    """The verdict of each claim, held against autograd."""
    report = verify(target, **{"oracles": ["autograd"], "profile": "quick", **options})
    assert all(c.verdict != "agrees" or c.worst < 1 for c in report.checks), str(report)
    return {c.input: str(c.verdict) for c in report.checks}


def reason(target, **options):
    report = verify(target, **{"oracles": ["autograd"], "profile": "quick", **options})
    return report.checks[0].reason


def elementwise(operand):
    return einsum("pq,pr,qs->pqrs", operand, delta, delta)


def squares(xp, x):  # noqa: ARG001
    return x * x


def square(**changes):
    given = {"inputs": {"x": real("m n")}, "output": {"y": "m n"}, "name": "square"}
    return Spec(squares, **{**given, "jacobian": {"x": 2 * elementwise("x")}, **changes})


# ---------------------------------------------------------------- outputs and residuals


def rms(xp, x, g, *, eps):
    r = 1 / xp.sqrt(xp.mean(x * x, axis=-1) + eps)
    return g * x * r[:, None], r


def rms_norm(**changes):
    given = {
        "inputs": {"x": real("m n"), "g": real("n")},
        "params": {"eps": number(1e-8, 1e-3)},
        "output": {"h": "m n", "r": "m"},
        "jacobian": {
            "x": einsum("q,p,pr,qs->pqrs", "g", "r", delta, delta)
            - einsum("q,pq,ps,p,pr->pqrs", "g", "x", "x", "r**3", delta) / size("n"),
            "g": einsum("pq,p,qr->pqr", "x", "r", delta),
            ("r", "x"): -einsum("ps,p,pr->prs", "x", "r**3", delta) / size("n"),
        },
    }
    return Spec(rms, **{**given, **changes})


def test_residuals_are_operands_and_have_claims_of_their_own():
    spec = rms_norm()
    assert verdicts(spec) == {"x": "agrees", "g": "agrees", "r, x": "agrees"}
    values = {"x": np.array([[1.0, 2.0]]), "g": np.ones(2), "eps": 1e-8}
    assert spec.dense("x", "r")(**values).shape == (1, 1, 2)
    assert spec.dense("x")(**values).shape == (1, 2, 1, 2)


def test_wrong_claim_about_a_residual_is_refuted_and_the_right_ones_are_not():
    claims = dict(rms_norm()._claimed.items())
    jacobian = {k: e for k, (_, e) in claims.items()}
    jacobian["r", "x"] = einsum("ps,p,pr->prs", "x", "r**3", delta) / size("n")
    assert verdicts(rms_norm(jacobian=jacobian)) == {
        "x": "agrees",
        "g": "agrees",
        "r, x": "refuted",
    }


def test_missing_and_constant_inputs():
    def scale(xp, x, g, c):  # noqa: ARG001
        return x * g * c

    spec = Spec(
        scale,
        inputs={"x": real("n"), "g": real("n"), "c": constant(real("n"))},
        output={"y": "n"},
        jacobian={"x": einsum("p,p,pq->pq", "g", "c", delta)},
    )
    report = verify(spec, oracles=["autograd"], profile="quick")
    assert {c.input: str(c.verdict) for c in report.checks} == {"x": "agrees", "g": "missing"}
    assert report.exit_code == 3
    with pytest.raises(UsageError, match="no derivative of y with respect to 'g'; it has: x"):
        spec.vjp("g")


def test_false_domain_of_an_output_is_refuted_whatever_the_claim():
    def doubled(xp, z):
        e = xp.exp(z - xp.max(z, axis=-1, keepdims=True))
        return 2 * e / xp.sum(e, axis=-1, keepdims=True)

    jacobian = {"z": elementwise("a") - einsum("pq,ps,pr->pqrs", "a", "a", delta) / 2}
    inputs = {"z": real("m n")}
    assert verdicts(Spec(doubled, inputs=inputs, output={"a": "m n"}, jacobian=jacobian)) == {
        "z": "agrees"
    }
    false = Spec(doubled, inputs=inputs, output={"a": probability("m n")}, jacobian=jacobian)
    assert verdicts(false) == {"z": "refuted"}
    assert "a is declared probability" in reason(false)
    assert "a row sums to 2" in reason(false)


def test_negative_output_that_is_declared_positive_is_refuted():
    spec = square(output={"y": positive("m n")})
    assert verdicts(spec) == {"x": "agrees"}  # zeros are allowed to rounding
    cubes = Spec(
        lambda xp, x: x * x * x,  # noqa: ARG005
        inputs={"x": real("n")},
        output={"y": positive("n")},
        jacobian={"x": 3 * einsum("p,pq->pq", "x**2", delta)},
    )
    assert verdicts(cubes) == {"x": "refuted"}


@pytest.mark.parametrize("declared", ["m", "n m", "m n 1", "m 1", ""])
def test_wrong_shape_of_an_output_is_an_error_that_names_both(declared):
    letters = "pqt"[: len(declared.split())]
    wrong = square(
        output={"y": declared}, jacobian={"x": einsum(f"{letters},rs->{letters}rs", ones, "x")}
    )
    with pytest.raises(
        SpecError, match=r"gives y the shape \(2, 3\), but it is declared"
    ) as caught:
        wrong.value(x=np.ones((2, 3)))
    assert repr(declared) in str(caught.value)
    assert verdicts(wrong) == {"x": "error"}


def test_too_few_outputs():
    spec = square(output={"y": "m n", "z": "m"})
    with pytest.raises(SpecError, match="returns 1 array for 2 outputs") as caught:
        spec.value(x=np.ones((2, 3)))
    assert "return y, z in this order" in str(caught.value)


# ---------------------------------------------------------------- outputs that are not declared


@pytest.mark.parametrize(
    ("forward", "inputs", "expected"),
    [
        (lambda _, x: x, {"x": real("m n")}, ("m", "n")),
        (lambda xp, x: xp.sum(x, axis=0), {"x": real("m n")}, ("n",)),
        (lambda xp, x: xp.sum(x), {"x": real("m n")}, ()),
        (lambda xp, x: xp.matrix_transpose(x), {"x": real("m n")}, ("n", "m")),
        (lambda xp, x: xp.sum(x, axis=1, keepdims=True), {"x": real("m n")}, ("m", "1")),
        (lambda xp, x: xp.stack([x, x]), {"x": real("n")}, ("2", "n")),
        (lambda xp, x, w: xp.matmul(x, w), {"x": real("m n"), "w": real("n o")}, ("m", "o")),
        (lambda _, x, b: x + b, {"x": real("m n"), "b": real("m #n")}, ("m", "n")),
        (lambda xp, x: (x, xp.sum(x)), {"x": real("4 n")}, ("4", "n")),
        (lambda _, x: x, {"x": real("... n")}, ("...", "n")),
    ],
)
def test_shape_of_an_undeclared_output(forward, inputs, expected):
    assert Spec(forward, inputs=inputs).outputs == {"out": expected}


def test_undeclared_output_with_an_axis_that_no_input_has():
    with pytest.raises(SpecError, match="which is no axis of an input"):
        Spec(lambda xp, x: xp.reshape(x, (-1,)), inputs={"x": real("m n")})


def test_undeclared_output_of_a_forward_that_cannot_run():
    with pytest.raises(SpecError, match="cannot be run to find it: ValueError") as caught:
        Spec(lambda xp, x: xp.matmul(x, x), inputs={"x": real("m n")})
    assert 'output={"a": "m n"}' in caught.value.hint


# ---------------------------------------------------------------- vjp in place of a Jacobian


def softmax_vjp(expression):
    return Spec(
        load("softmax").forward,
        inputs={"z": real("m n")},
        output={"a": "m n"},
        vjp={"z": expression},
    )


def test_vjp_is_a_claim_about_the_jacobian():
    right = softmax_vjp(einsum("pq,pq->pq", "a", "d(a)") - einsum("pq,ps,ps->pq", "a", "a", "d(a)"))
    assert verdicts(right) == {"z": "agrees"}
    z = np.array([[0.3, -1.0, 2.0]])
    np.testing.assert_allclose(right.dense("z")(z=z), load("softmax").dense("z")(z=z), atol=1e-16)
    wrong = softmax_vjp(einsum("pq,pq->pq", "a", "d(a)"))
    assert verdicts(wrong) == {"z": "refuted"}


def test_vjp_that_is_right_only_for_cotangents_of_ones_is_refuted():
    # Σ_s v[p,s] a[p,s] a[p,q] and v[p,q] Σ_s a[p,s] a[p,q] agree where v is constant.
    wrong = softmax_vjp(einsum("pq,pq->pq", "a", "d(a)") - einsum("pq,ps,pq->pq", "a", "a", "d(a)"))
    assert verdicts(wrong) == {"z": "refuted"}


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        (einsum("pq->pq", "a"), "none"),
        (einsum("pq,pq,pq->pq", "a", "d(a)", "d(a)"), r"d\(a\), d\(a\)"),
        (einsum("pq,pq->pq", "a", "d(z)"), r"d\(z\)"),
        (einsum("pq->pq", "d(a)") + einsum("pq->pq", "a"), "none"),
    ],
)
def test_vjp_that_is_not_linear_is_refused(expression, found):
    with pytest.raises(
        SpecError, match=rf"holds the cotangent 'd\(a\)' once; this one holds: {found}"
    ):
        softmax_vjp(expression)


def test_jacobian_and_vjp_of_one_input():
    with pytest.raises(SpecError, match="'x' has both a jacobian and a vjp"):
        square(vjp={"x": 2 * einsum("pq,pq->pq", "x", "d(y)")})


# ---------------------------------------------------------------- parameters, conditions, domains


def test_parameters_are_drawn_and_reach_forward_and_claim():
    def power(xp, x, *, k, weight):  # noqa: ARG001
        return weight * x**k

    def spec(term):
        return Spec(
            power,
            inputs={"x": positive("n")},
            params={"k": integer(1, 3), "weight": number(-2, 2)},
            output={"y": "n"},
            jacobian={"x": term},
        )

    # ∂y/∂x = k y / x holds whatever k is.
    assert verdicts(spec(einsum(",p,p,pq->pq", "k", "y", "x**-1", delta))) == {"x": "agrees"}
    assert verdicts(spec(einsum("p,p,pq->pq", "y", "x**-1", delta))) == {"x": "refuted"}
    assert verdicts(spec(2 * einsum(",p,pq->pq", "weight", "x", delta))) == {"x": "refuted"}


def test_choices_reach_the_forward():
    def reduced(xp, x, *, reduction):
        return xp.sum(x * x) if reduction == "sum" else xp.sum(x * x) / x.shape[0]

    spec = Spec(
        reduced,
        inputs={"x": real("n")},
        params={"reduction": choice("mean", "sum")},
        output={"y": ""},
        jacobian={"x": 2 * einsum("p->p", "x") / size("n")},
    )
    assert verdicts(spec) == {"x": "refuted"}


@pytest.mark.parametrize(("where", "verdict"), [("n >= k", "agrees"), (None, "refuted")])
def test_condition_bounds_what_is_claimed(where, verdict):
    def forward(xp, x, *, k):
        return x * x if x.shape[0] >= k else xp.exp(x)

    spec = Spec(
        forward,
        inputs={"x": real("n")},
        params={"k": integer(1, 4)},
        where=where,
        output={"y": "n"},
        jacobian={"x": 2 * einsum("p,pq->pq", "x", delta)},
    )
    assert verdicts(spec, profile="standard") == {"x": verdict}


def test_condition_on_a_name_that_is_not_there():
    with pytest.raises(SpecError, match="'l' is neither an axis nor a parameter"):
        square(where="l >= n")


def test_domains_that_depend_on_sizes():
    def matrices(n):
        return st.integers(0, 9).map(lambda k: np.eye(n) * (k + 1) + np.ones((n, n)))

    spec = Spec(
        lambda xp, S, v: xp.matmul(S, v),
        inputs={"S": matrices, "v": real("n")},
        output={"y": "n"},
        jacobian={"S": einsum("s,pr->prs", "v", delta), "v": einsum("pq->pq", "S")},
    )
    assert spec.shapes["S"] == ("n", "n")
    assert verdicts(spec) == {"S": "agrees", "v": "agrees"}


def test_labels_are_their_one_hot_tensor_with_one_letter_more():
    def picked(xp, a, t):
        return xp.sum(a[xp.arange(a.shape[0]), t] ** 2)

    def spec(term):
        inputs = {"a": real("m n"), "t": labels("m", below="n")}
        return Spec(picked, inputs=inputs, output={"L": ""}, jacobian={"a": term})

    assert verdicts(spec(2 * einsum("pq,pq->pq", "a", "t"))) == {"a": "agrees"}
    assert verdicts(spec(2 * einsum("pq->pq", "a"))) == {"a": "refuted"}
    dense = spec(2 * einsum("pq,pq->pq", "a", "t")).dense("a")
    found = dense(a=np.ones((2, 3)), t=np.array([2, 0]))
    assert found.tolist() == [[0, 0, 2], [2, 0, 0]]


@pytest.mark.parametrize(
    "domain",
    [
        one_hot("m n"),
        mask("m n"),
        integers("m n", 0, 3),
        labels("m n", below=3),
        constant(real("m n")),
    ],
)
def test_claim_about_a_constant_is_refused(domain):
    with pytest.raises(SpecError, match="a constant") as caught:
        square(inputs={"x": domain})
    assert "leave the claim out" in caught.value.hint


# ---------------------------------------------------------------- claims about chains


def closed(**changes):
    return Spec(
        load("softmax") >> load("cross_entropy"),
        **{
            "jacobian": {"z": (einsum("pq->pq", "a") - einsum("pq->pq", "y")) / size("m")},
            **changes,
        },
    )


def test_closed_form_is_a_claim_about_the_chain():
    form = closed()
    assert list(form.inputs) == ["z", "y"]
    assert form.outputs == {"L": ()}
    assert verdicts(form) == {"z": "agrees"}
    wrong = (einsum("pq->pq", "a") - einsum("pq->pq", "y")) / size("n")
    assert verdicts(closed(jacobian={"z": wrong})) == {"z": "refuted"}


@pytest.mark.parametrize("output", [{"L": ""}, "", {"L": "", "a": probability("m n")}])
def test_outputs_of_a_chain_keep_their_names(output):
    form = closed(output=output)
    assert next(iter(form.outputs)) == "L"
    assert verdicts(form) == {"z": "agrees"}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"output": {"loss": ""}},
            "the output 'loss' of shape '' is nothing that the chain computes",
        ),
        ({"output": {"a": "n m"}}, "the output 'a' of shape 'n m' is nothing"),
        ({"inputs": {"x": real("m n")}}, "the chain has no input 'x'"),
        (
            {"inputs": {"z": real("k l")}},
            "'z' is declared 'k l', but the chain calls its axes 'm n'",
        ),
        ({"params": {"eps": number(0, 1)}}, "the chain has no parameter 'eps'"),
        ({"jacobian": {"y": einsum("pq->pq", "a")}}, "a constant"),
        ({"jacobian": {"a": einsum("pq->pq", "a")}}, r"jacobian\['a'\] names no input"),
    ],
)
def test_what_is_declared_about_a_chain_is_what_it_has(changes, problem):
    with pytest.raises(SpecError, match=problem):
        closed(**changes)


def test_narrower_domain_of_a_chains_input():
    narrow = closed(inputs={"z": real("m n", -1, 1)})
    assert narrow.inputs["z"].hi == 1
    assert verdicts(narrow) == {"z": "agrees"}


# ---------------------------------------------------------------- what is refused, and names


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: Spec(3, inputs={"x": real("n")}), "the forward is 3"),
        (lambda: Spec(squares), "needs the domains of its inputs"),
        (lambda: square(inputs={"x": "m n"}), "does not say where its values live"),
        (lambda: square(inputs={"x y": real("m n")}), "is no name for an input"),
        (lambda: square(params={"x": number(0, 1)}), "both an input and a parameter"),
        (lambda: square(output={}), "at least one output"),
        (lambda: square(output={"x": "m n"}), "both an input and an output"),
        (lambda: square(jacobian={"x": 3}), r"jacobian\['x'\] is 3"),
        (lambda: square(jacobian={"x": True}), r"jacobian\['x'\] is True"),
        (lambda: square(jacobian={"x": "0"}), r"jacobian\['x'\] is '0'"),
        (lambda: square(jacobian={"x": np.zeros(2)}), r"jacobian\['x'\] is array"),
        (lambda: square(jacobian={}, vjp={"x": 0}), r"vjp\['x'\] is 0"),
        (lambda: square(jacobian={("z", "x"): elementwise("x")}), "names no output"),
        (lambda: square(native={"pytorch": squares}), "unknown framework 'pytorch'"),
        (lambda: square(inputs={"x": real("... n")}), "has leading axes '...', but the output 'y'"),
    ],
)
def test_what_a_spec_refuses(make, problem):
    with pytest.raises(SpecError, match=problem) as caught:
        make()
    assert caught.value.hint
    assert "test_spec.py:" in str(caught.value)


def test_name_is_that_of_the_variable():
    doubling = Spec(squares, inputs={"x": real("n")}, output={"y": "n"})
    annotated: Spec = Spec(squares, inputs={"x": real("n")}, output={"y": "n"})
    assert (doubling.name, annotated.name) == ("doubling", "annotated")
    assert Spec(squares, inputs={"x": real("n")}, name="given").name == "given"
    assert Spec(squares, inputs={"x": real("n")}, output={"y": "n"}).name == "spec"


def test_arrays_that_do_not_fit_are_named():
    with pytest.raises(
        ShapeError, match=r"y has shape \(3, 3\), so m = 3, but a has shape \(2, 3\)"
    ):
        load("cross_entropy").value(a=np.ones((2, 3)), y=np.ones((3, 3)))


# ---------------------------------------------------------------- the derivative 0


def with_residual(**claimed):
    """The claims of rms_norm, and those about its residual as they are given."""
    claims = {k: e for k, (_, e) in rms_norm()._claimed.items()}
    return rms_norm(jacobian={**claims, **{("r", n): e for n, e in claimed.items()}})


def test_zero_is_a_derivative_with_the_letters_of_its_arrays():
    spec = with_residual(g=0)
    found = spec.derivative("r", "g")
    assert [t.axes[s] for t in found.terms for s in found.output] == ["m", "n"]
    assert str(found) == "0"
    report = verify(spec, oracles=["symbolic", "exact", "autograd"], profile="quick")
    found = [str(c.verdict) for c in report.checks if c.input == "r, g"]
    assert found == ["proved", "identity", "agrees"]
    dense = spec.dense("g", "r")(x=np.ones((2, 3)), g=np.ones(3), eps=1e-8)
    assert dense.tolist() == np.zeros((2, 3)).tolist()


@pytest.mark.parametrize(
    ("output", "given", "letters"),
    [("", "n", 1), ("... n", "... n", 2), ("4 n", "#n", 3), ("n n", "n n", 4)],
)
def test_zero_fits_arrays_of_any_shape(output, given, letters):
    spec = Spec(squares, inputs={"x": real(given)}, output={"y": output}, jacobian={"x": 0.0})
    assert len(spec.derivative("y", "x").output) == letters


def test_a_wrong_zero_is_refuted_and_another_number_is_an_error():
    for oracle in ("autograd", "symbolic", "exact"):
        assert verdicts(with_residual(x=0), oracles=oracle)["r, x"] == "refuted"
    hint = "the only number without letters is 0: jacobian={'x': 0}, where y does not depend on x"
    with pytest.raises(SpecError) as caught:
        square(jacobian={"x": 1})
    assert caught.value.hint == f"write it as einsum(...) terms; {hint}"
