"""Kinds of error in derivatives of which only the values are known: each made on purpose."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck import Spec, constant, load, number, real, verify_jvp, verify_vjp
from gradcheck.diagnosis import OpaqueCase, diagnose_opaque
from gradcheck.diagnosis.model import KINDS, blank

SHAPES = ((2, 3), (3, 4), (4, 2))


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def of_softmax(v, z):
    a = softmax(z)
    return a * v - a * (v * a).sum(1, keepdims=True)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def dense(vjp, output, *arrays):
    """A vjp's Jacobian, raw: one row for each entry of the output."""
    rows = []
    for place in np.ndindex(output.shape):
        v = np.zeros(output.shape)
        v[place] = 1
        rows.append(np.asarray(vjp(v, *arrays), np.float64))
    return np.stack(rows).reshape(output.shape + rows[0].shape)


def case(forward, right, wrong, x, axes, *, dtype="float64", params=None, others=()):
    out = forward(x, *others)
    names = dict(zip(axes[out.ndim :], x.shape, strict=True))
    return OpaqueCase(
        claimed=dense(wrong, out, x, *others),
        true=dense(right, out, x, *others),
        split=out.ndim,
        axes=axes,
        input="z",
        inputs={"z": x, **{f"c{i}": o for i, o in enumerate(others)}},
        output=out,
        params=params or {},
        sizes=names,
        dtype=dtype,
        at_ones=np.asarray(wrong(np.ones(out.shape), x, *others)),
        claimed_at=lambda new: dense(wrong, out, new.get("z", x), *others),
        true_at=lambda new: dense(right, out, new.get("z", x), *others),
    )


def softmax_cases(wrong):
    rng = np.random.default_rng(0)
    return [
        case(softmax, of_softmax, wrong, rng.normal(size=shape), ("m", "n", "m", "n"))
        for shape in SHAPES
    ]


def told(cases, **options):
    found = diagnose_opaque(cases, **options)
    assert set(found) == set(blank())
    assert found["kind"] in KINDS
    return found["kind"], found["message"]


# ---------------------------------------------------------------------- from values alone

WRONG_SOFTMAX = {
    "sign": (lambda v, z: -of_softmax(v, z), "the sign is wrong"),
    "factor": (lambda v, z: of_softmax(v, z) / len(z), "wrong factor: 1/m too much"),
    "missing-delta": (
        lambda v, z: softmax(z) * v - softmax(z) * (v * softmax(z)).sum(),
        "a full block where a diagonal belongs: beside the diagonal of m it should be 0",
    ),
    "extra-delta": (
        lambda v, z: softmax(z) * (1 - softmax(z)) * v,
        "a diagonal where a full block belongs: what lies beside the diagonal of n is missing",
    ),
    "cotangent-ignored": (
        lambda _v, z: of_softmax(np.arange(z.size, dtype=float).reshape(z.shape), z),
        None,
    ),
    "missing-term": (lambda v, _z: 0 * v, "the gradient is zero: every term is missing"),
}


@pytest.mark.parametrize("kind", [k for k, (_, message) in WRONG_SOFTMAX.items() if message])
def test_softmax(kind):
    wrong, message = WRONG_SOFTMAX[kind]
    assert told(softmax_cases(wrong)) == (kind, message)


def test_a_mean_for_a_sum_is_answered():
    found = diagnose_opaque(softmax_cases(WRONG_SOFTMAX["factor"][0]))
    assert found["answers"] == "the mean instead of the sum over m"
    assert found["factor"] == "1/m"


def elementwise(right, wrong, forward, shapes=((3,), (4,), (2,)), **options):
    rng = np.random.default_rng(1)
    return [
        case(forward, right, wrong, rng.uniform(0.3, 1.9, shape), ("n", "n"), **options)
        for shape in shapes
    ]


def of_sigmoid(v, z):
    return v * sigmoid(z) * (1 - sigmoid(z))


def test_the_cotangent_is_ignored():
    cases = elementwise(of_sigmoid, lambda _v, z: of_sigmoid(1.0, z), sigmoid)
    assert told(cases)[0] == "cotangent-ignored"


def test_right_for_ones_only():
    cases = elementwise(of_sigmoid, lambda v, z: v.mean() * of_sigmoid(1.0, z), sigmoid)
    kind, message = told(cases)
    assert (kind, message) == ("ones-only", "right for a cotangent of ones, wrong for others")


def test_evaluated_at_the_output():
    cases = elementwise(lambda v, z: v * np.cos(z), lambda v, z: v * np.cos(np.sin(z)), np.sin)
    assert told(cases)[0] == "output-for-input"


def test_evaluated_at_the_input():
    cases = elementwise(of_sigmoid, lambda v, z: v * z * (1 - z), sigmoid)
    assert told(cases)[0] == "input-for-output"


def test_a_transposed_gradient():
    rng = np.random.default_rng(2)
    w = rng.normal(size=(3, 3))
    cases = [
        case(lambda x, w: x @ w, lambda v, _x, w: v @ w.T, lambda v, _x, w: v @ w, rng.normal(size=(m, 3)),
             ("m", "n", "m", "k"), others=(w,))
        for m in (2, 4)
    ]  # fmt: skip
    assert told(cases)[0] in ("transposed", "permuted")


def test_a_gradient_of_the_transposed_shape():
    rng = np.random.default_rng(2)
    cases = [
        case(
            softmax,
            of_softmax,
            lambda v, z: of_softmax(v, z).T,
            rng.normal(size=shape),
            ("m", "n", "m", "n"),
        )
        for shape in SHAPES
    ]
    kind, message = told(cases)
    assert kind == "transposed"
    assert message == "the gradient is transposed: the gradient has shape (3, 2) where z has (2, 3)"


def bias_cases(wrong):
    rng = np.random.default_rng(3)
    return [
        case(lambda b, x: x + b, lambda v, _b, _x: v.sum(0), wrong, rng.normal(size=n), ("m", "n", "n"),
             others=(rng.normal(size=(m, n)),))
        for m, n in SHAPES
    ]  # fmt: skip


def test_a_forgotten_sum_shows_in_the_shape():
    kind, message = told(bias_cases(lambda v, _b, _x: v))
    assert kind == "missing-sum"
    assert message.startswith(
        "a sum over a broadcast axis is missing: the gradient has shape (2, 3)"
    )


def test_a_forgotten_sum_that_takes_the_first_row():
    kind, message = told(bias_cases(lambda v, _b, _x: v[0]))
    assert (kind, message) == (
        "missing-sum",
        "the sum over m is missing: only the first entry counts",
    )


def test_another_shape_is_only_that():
    kind, message = told(bias_cases(lambda _v, _b, _x: np.ones((7, 7))))
    assert (kind, message) == ("shape", "the gradient has shape (7, 7) where z has (3,)")


def test_eps_in_another_place():
    rng = np.random.default_rng(4)
    eps, cases = 1e-2, []

    def right(x, e):
        return np.diag(e / (x + e) ** 2 + 1 / np.sqrt(x * x + e))

    def wrong(x, e):
        return np.diag(e / (x + e) ** 2 + 1 / (np.sqrt(x * x) + e))

    for n in (2, 3):
        x = rng.uniform(0.5, 2.0, n)
        cases.append(
            OpaqueCase(
                wrong(x, eps), right(x, eps), 1, ("n", "n"), "z", {"z": x}, np.log(x), {"eps": eps}, {"n": n},
                claimed_at=lambda new, x=x: wrong(new.get("z", x), new.get("eps", eps)),
                true_at=lambda new, x=x: right(new.get("z", x), new.get("eps", eps)),
            )
        )  # fmt: skip
    assert told(cases)[0] == "eps-placement"


def test_a_branch_at_a_choice():
    cases = elementwise(of_sigmoid, of_sigmoid, sigmoid, params={"mode": "exact"})
    cases += elementwise(
        of_sigmoid, lambda v, z: of_sigmoid(v, z) + z, sigmoid, params={"mode": "fast"}
    )
    assert told(cases) == ("wrong-branch", "wrong where mode is 'fast' only")


def test_a_branch_at_the_input():
    rng = np.random.default_rng(5)
    slope = lambda v, z: v * np.where(z > 0, 1.0, 0.1)  # noqa: E731
    forward = lambda z: np.where(z > 0, z, 0.1 * z)  # noqa: E731
    wrong = lambda v, z: v * np.where(z > 0, 1.0, 0.1 * z)  # noqa: E731
    cases = [case(forward, slope, wrong, rng.normal(size=n) + 0.01, ("n", "n")) for n in (5, 6, 7)]
    assert told(cases) == ("wrong-branch", "wrong where z is negative only")


def test_wrong_at_zeros_only():
    def wrong(v, z):
        return of_sigmoid(v, z) + 0.5 * (z == 0)

    cases = elementwise(of_sigmoid, wrong, sigmoid)
    cases.append(case(sigmoid, of_sigmoid, wrong, np.array([0.0, 0.3, -0.7]), ("n", "n")))
    assert told(cases) == ("special-values-only", "wrong at zeros only")


def test_wrong_at_size_one_only():
    def wrong(v, z):
        return of_sigmoid(v, z) * (1 if len(z) > 1 else 3)

    cases = elementwise(of_sigmoid, wrong, sigmoid, shapes=((3,), (4,), (1,)))
    assert told(cases) == ("special-values-only", "wrong where an axis has size 1 only")


def test_wrong_in_low_precision_only():
    cases = elementwise(of_sigmoid, of_sigmoid, sigmoid)
    cases += elementwise(of_sigmoid, lambda v, z: of_sigmoid(v, z) * 1.01, sigmoid, dtype="float32")
    assert told(cases) == ("low-precision-only", "right in float64, wrong in float32")


def test_overflow():
    cases = elementwise(of_sigmoid, of_sigmoid, sigmoid)
    broken = cases[0]
    claimed = broken.claimed.copy()
    claimed[0, 0] = np.inf
    from dataclasses import replace

    cases[0] = replace(broken, claimed=claimed)
    kind, message = told(cases)
    assert (kind, message) == (
        "overflow",
        "it is infinite in float64 where the derivative is finite",
    )


def test_what_nothing_explains_is_not_explained():
    rng = np.random.default_rng(6)
    noise = [rng.normal(size=s) for s in SHAPES]
    cases = softmax_cases(
        lambda v, z: of_softmax(v, z) + next(n for n in noise if n.shape == z.shape) * v**3
    )
    assert told(cases) == ("none", "no single known error explains all examples")


def test_a_right_claim_has_no_kind():
    assert told(softmax_cases(of_softmax))[0] == "none"
    assert diagnose_opaque([])["message"] == "there is no example to tell from"


# ---------------------------------------------------------------------- with the right expression at hand

OF_TERMS = {
    "sign": (
        lambda v, z: softmax(z) * v + softmax(z) * (v * softmax(z)).sum(1, keepdims=True),
        "wrong sign in term 2: it computes + a[p,q] a[p,s] δ[p,r] where - a[p,q] a[p,s] δ[p,r] belongs, "
        "in ∂a[p,q]/∂z[r,s]",
    ),
    "missing-term": (
        lambda v, z: softmax(z) * v,
        "a term is missing: - a[p,q] a[p,s] δ[p,r], in ∂a[p,q]/∂z[r,s]",
    ),
    "wrong-letter": (
        lambda v, z: softmax(z) * v - softmax(z) ** 2 * v.sum(1, keepdims=True),
        "wrong letter in term 2: it computes - a[p,s] a[p,s] δ[p,r] where - a[p,q] a[p,s] δ[p,r] belongs, "
        "in ∂a[p,q]/∂z[r,s]",
    ),
    "factor": (
        lambda v, z: softmax(z) * v - 2 * softmax(z) * (v * softmax(z)).sum(1, keepdims=True),
        "wrong factor in term 2, - a[p,q] a[p,s] δ[p,r]: 2 too much, in ∂a[p,q]/∂z[r,s]",
    ),
    "missing-delta": (
        lambda v, z: softmax(z) * v - (softmax(z) * (v * softmax(z)).sum()),
        "a full block where a diagonal belongs: beside the diagonal of m it should be 0",
    ),
}


@pytest.mark.parametrize("kind", OF_TERMS)
def test_the_term_at_fault_is_named_where_the_operation_is_known(kind):
    wrong, message = OF_TERMS[kind]
    assert told(softmax_cases(wrong), operation=load("softmax")) == (kind, message)


def test_the_right_derivative_is_derived_from_a_bare_forward():
    def forward(xp, z):
        e = xp.exp(z)
        return e / xp.sum(e, axis=-1, keepdims=True)

    bare = Spec(forward, inputs={"z": real("m n")}, output={"a": "m n"})
    found = diagnose_opaque(softmax_cases(OF_TERMS["sign"][0]), operation=bare)
    assert found["kind"] == "sign"
    assert 'einsum("pq,' in found["derived"]


def test_an_operation_that_cannot_be_read_is_no_hindrance():
    bare = Spec(
        lambda xp, z, *, eps: xp.linalg.inv(z) * eps,
        inputs={"z": real("n n")},
        params={"eps": number(0.1, 1)},
        output={"b": "n n"},
    )
    assert told(softmax_cases(OF_TERMS["sign"][0]), operation=bare)[0] == "none"


def test_what_no_error_explains_is_derived_from_the_forward():
    found = diagnose_opaque(
        softmax_cases(lambda v, z: of_softmax(v, z) + np.cos(z) * v), operation=load("softmax")
    )
    assert found["kind"] == "none"
    assert found["derived"].startswith('einsum("pq,pr,qs->pqrs", "a", delta, delta)')


def test_right_for_ones_says_nothing_where_that_gives_zero():
    # The rows of softmax sum to 1: a cotangent of ones gives 0, whatever else is wrong.
    centred = lambda v, z: (v - v.mean(1, keepdims=True)) * softmax(z) ** 2 + 0 * z  # noqa: E731
    wrong = lambda v, z: centred(v, z) - centred(v, z).mean(1, keepdims=True)  # noqa: E731
    assert told(softmax_cases(wrong))[0] != "ones-only"


# ---------------------------------------------------------------------- where it is wrong


def test_patterns_of_values_alone():
    found = diagnose_opaque(softmax_cases(WRONG_SOFTMAX["extra-delta"][0]), output="a")
    patterns = {item["pattern"]: (item["wrong"], item["entry"][:3]) for item in found["patterns"]}
    assert patterns == {
        "p = r, q ≠ s": (True, "∂a["),
        "p = r, q = s": (False, "∂a["),
        "p ≠ r": (False, "∂a["),
    }
    assert found["gaps"]["letters"] == [["p", "q"], ["r", "s"]]
    assert np.shape(found["gaps"]["values"]) == (*SHAPES[0], *SHAPES[0])


def test_a_right_claim_has_no_wrong_patterns():
    found = diagnose_opaque(softmax_cases(of_softmax))
    assert found["patterns"] == []
    assert found["gaps"] is None


# ---------------------------------------------------------------------- through verify_vjp


def forward(xp, z):
    e = xp.exp(z - xp.max(z, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)


def diagnosis(rule, *, of=forward, inputs=None, verify=verify_vjp, **options):
    options = {"oracles": ["autograd"], "profile": "quick"} | options
    report = verify(rule, of=of, inputs=inputs or {"z": real("m n")}, **options)
    return report.checks[0].diagnosis


@pytest.mark.parametrize("axis", [0, 1])
def test_a_size_is_not_mistaken_for_a_number(axis):
    found = diagnosis(lambda v, z: of_softmax(v, z) * z.shape[axis])
    assert (found["kind"], found["factor"]) == ("factor", "mn"[axis])
    assert found["seconds"] < 2


def test_a_plain_forward_names_the_term():
    found = diagnosis(OF_TERMS["wrong-letter"][0])
    assert found["kind"] == "wrong-letter"
    assert found["message"] == OF_TERMS["wrong-letter"][1].replace("a[", "out[")


def test_a_jvp_is_diagnosed_too():
    def pushed(t, z):
        a = softmax(z)
        return a * t + a * (a * t).sum(1, keepdims=True)

    assert diagnosis(pushed, verify=verify_jvp)["message"].startswith("wrong sign in term 2: ")


def test_axes_of_the_output_are_named():
    def bias(_xp, b, x):
        return x + b

    found = diagnosis(
        lambda v, _b, _x: v[-1], of=bias, inputs={"b": real("n"), "x": constant(real("m n"))}
    )
    assert found["message"] == "the sum over m is missing: only the last entry counts"


def test_the_rule_is_asked_again_elsewhere():
    rule = lambda v, z: v * z * (1 - z)  # noqa: E731
    found = diagnosis(rule, of=lambda xp, z: xp.sigmoid(z), inputs={"z": real("n")})
    assert found["kind"] == "input-for-output"


def test_eps_is_moved_in_the_rule_itself():
    params = {"eps": number(1e-8, 1e-3)}
    found = diagnosis(
        lambda v, x, *, eps: v / (np.sqrt(x) + eps) / 2,
        of=lambda xp, x, *, eps: xp.sqrt(x + eps), inputs={"x": real("n", 0.5, 4)}, params=params,
    )  # fmt: skip
    assert found["kind"] == "eps-placement"


def test_an_error_of_float32_is_not_there_in_float64():
    def rule(v, z):
        return of_softmax(v, z) * (1.001 if z.dtype == np.float32 else 1)

    found = diagnosis(rule, dtypes=["float32"])
    assert (found["kind"], found["message"]) == (
        "low-precision-only",
        "right in float64, wrong in float32",
    )


def test_a_rule_that_raises_elsewhere_is_still_refuted():
    def rule(v, z):
        if z.size > 4:
            raise RuntimeError(z.shape)
        return -of_softmax(v, z)

    data = {"z": np.array([[0.0, 1.0]])}
    report = verify_vjp(rule, of=forward, inputs={"z": real("m n")}, oracles="autograd", data=data)
    assert report.checks[0].verdict == "refuted"
    assert report.checks[0].diagnosis["message"].startswith("no diagnosis: RuntimeError")


def test_an_output_whose_size_is_no_axis_is_diagnosed_by_values():
    found = diagnosis(
        lambda v, _x: -v[1:],
        of=lambda xp, x: xp.concat([xp.ones((1,)), x]),
        inputs={"x": real("n")},
    )
    assert found["kind"] == "sign"
    assert found["derived"] is None
