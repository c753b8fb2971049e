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


def test_a_factor_is_named_although_it_overflows_elsewhere():
    def wrong(v, z):
        e = np.exp(z)  # overflows where the largest entry is not subtracted
        a = e / e.sum(1, keepdims=True)
        return len(z) * a * (v - (v * a).sum(1, keepdims=True))

    far = np.array([[0.5, 720.0, 3.0], [1.5, 2.5, -1.0]])
    with np.errstate(all="ignore"):
        cases = softmax_cases(wrong)
        cases.append(case(softmax, of_softmax, wrong, far, ("m", "n", "m", "n")))
    assert not np.isfinite(cases[-1].claimed).all()
    assert told(cases) == ("factor", "wrong factor: m too much")


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


def test_a_branch_although_one_example_lies_on_one_side():
    slope = lambda v, z: v * np.where(z > 0, 1.0, 0.1)  # noqa: E731
    forward = lambda z: np.where(z > 0, z, 0.1 * z)  # noqa: E731
    wrong = lambda v, z: v * np.where(z > 0, 1.0, 0.01)  # noqa: E731
    inputs = [
        np.array([-0.5, -1.5]),
        np.array([0.7, -0.3, 1.1]),
        np.array([-0.2, -0.9, -1.2, -2.0]),
    ]
    cases = [case(forward, slope, wrong, z, ("n", "n")) for z in inputs]
    assert told(cases) == ("wrong-branch", "wrong where z is negative only")
    below = [case(forward, slope, wrong, z, ("n", "n")) for z in inputs[::2]]
    assert told(below)[0] == "factor"  # of negative numbers alone nobody can tell


@pytest.mark.parametrize(
    ("off", "kind", "word"), [(0.0, "missing-term", "missing"), (2.0, "extra-term", "too many")]
)
def test_a_skip_connection_forgotten_or_taken_twice(off, kind, word):
    turn = np.random.default_rng(6).normal(size=(4, 4))

    def own(z):
        return turn[: z.shape[1], : z.shape[1]]

    def inner(v, z):
        return (v * (1 - np.tanh(z @ own(z)) ** 2)) @ own(z).T

    forward = lambda z: z + np.tanh(z @ own(z))  # noqa: E731
    rng = np.random.default_rng(7)
    cases = [
        case(
            forward,
            lambda v, z: v + inner(v, z),
            lambda v, z: off * v + inner(v, z),
            rng.normal(size=shape),
            ("m", "n", "m", "n"),
        )
        for shape in SHAPES
    ]
    found = told(cases)
    assert found[0] == kind
    assert found[1] == (
        f"a term is {word}: 1 where the indices of output and input are equal, as of a skip "
        "connection (z + ...)"
    )


def lookup_cases(backward, *indices):
    forward = lambda z, i: z[i]  # noqa: E731

    def right(v, z, i):
        total = np.zeros_like(z)
        np.add.at(total, i, v)
        return total

    rng = np.random.default_rng(8)
    return [
        case(forward, right, backward, rng.normal(size=(4, 3)), ("m", "d", "n", "d"), others=(i,))
        for i in map(np.array, indices)
    ]


def assigned(v, z, i):
    total = np.zeros_like(z)
    total[i] = v
    return total


def test_an_embedding_that_assigns_where_it_should_add():
    kind, message = told(lookup_cases(assigned, [0, 2], [1, 1], [3, 1, 0], [2, 0, 2]))
    assert kind == "special-values-only"
    assert message == (
        "wrong where an index occurs twice in c0 only, as if its parts were assigned one over "
        "another: add them (np.add.at, index_add_)"
    )


def test_an_embedding_that_is_wrong_elsewhere_too_is_not_said_to_assign():
    def halved(v, z, i):
        return assigned(v, z, i) / 2

    assert "twice" not in told(lookup_cases(halved, [0, 2], [1, 1], [3, 1, 0]))[1]
    assert "twice" not in told(lookup_cases(assigned, [1, 1], [2, 2, 0]))[1]  # nothing to compare


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


def one_block(block):
    """A softmax whose backward pass sums over the first entries of a row alone."""

    def forward(z):
        e = np.exp(z - z.max())
        return e / e.sum()

    def right(v, z):
        a = forward(z)
        return a * (v - (v * a).sum())

    def wrong(v, z):
        a = forward(z)
        return a * (v - (v * a)[:block].sum())

    return forward, right, wrong


def test_wrong_beyond_a_block():
    rng = np.random.default_rng(0)
    message = (
        "wrong where n is 33 or more, right where it is 7 or less, as if what lies beyond a block were "
        "left out"
    )
    small = [case(*one_block(32), rng.normal(size=n), ("n", "n")) for n in (1, 3, 5, 7)]
    for values in (rng.normal(size=33), np.zeros(33)):  # whatever the values are
        long = case(*one_block(32), values, ("n", "n"))
        assert told([*small, long]) == ("beyond-a-size", message)


def test_ties_at_a_large_size_are_still_ties():
    def wrong(v, z):
        return of_sigmoid(v, z) * (1 if np.unique(z).size == z.size else 3)

    rng = np.random.default_rng(0)
    drawn = [*(rng.normal(size=n) for n in (3, 5, 7)), np.repeat(rng.normal(size=3), 11)]
    cases = [case(sigmoid, of_sigmoid, wrong, z, ("n", "n")) for z in drawn]
    assert told(cases) == ("special-values-only", "wrong at equal values only")


def _short_softmax(inner, outer):
    """A vjp of softmax that is computed in a shorter format, rounded once more at the end."""

    def rule(v, z):
        z, v = z.astype(inner), v.astype(inner)
        e = np.exp(z - z.max(1, keepdims=True))
        a = (e / e.sum(1, keepdims=True)).astype(outer).astype(inner)
        return (a * (v - (v * a).sum(1, keepdims=True))).astype(np.float64)

    return rule


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        (_short_softmax(np.float32, np.float32), "float32"),
        (_short_softmax(np.float64, np.float16), "float16 or TF32"),
    ],
)
def test_computed_in_less_precision(rule, name):
    report = verify_vjp(rule, of=load("softmax"), oracles=["autograd"], profile="quick")
    (check,) = report.checks
    assert check.verdict == "refuted"
    assert check.diagnosis["kind"] in ("less-precise", "precision")
    assert f"rounding in {name}" in str(report).replace("\n  ", " ")


def test_a_small_error_of_another_kind_is_none_of_precision():
    def rule(v, z):
        return of_softmax(v, z) + 1e-11 * v * np.cos(z)

    report = verify_vjp(rule, of=load("softmax"), oracles=["autograd"], profile="quick")
    assert report.checks[0].verdict == "refuted"
    assert "rounding in" not in str(report)


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
