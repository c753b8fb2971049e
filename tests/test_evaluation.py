"""Derivatives on the user's own arrays: numpy, torch and JAX, where they lie and as they are."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from gradcheck import (
    Report,
    Spec,
    backends,
    constant,
    delta,
    einsum,
    labels,
    load,
    mask,
    ones,
    positive,
    real,
    size,
    verify,
)
from gradcheck.algebra.relations import Relation
from gradcheck.checking.problem import Problem
from gradcheck.checking.search import Example
from gradcheck.errors import ShapeError, UsageError

jax = pytest.importorskip("jax")
torch = pytest.importorskip("torch")
jnp = jax.numpy

RNG = np.random.default_rng(7)
softmax, add, transpose = load("softmax"), load("add"), load("transpose")
classifier = load("weighted_sum") >> softmax >> load("cross_entropy")
VALUES = {
    "x": RNG.normal(size=(5, 3)),
    "w": RNG.normal(size=(3, 4)),
    "b": RNG.normal(size=4),
    "y": np.eye(4)[[0, 3, 1, 1, 2]],
}
Z = RNG.normal(size=(3, 4))
KINDS = [(f, d) for f in ("numpy", "torch", "jax") for d in ("float64", "float32")]


def loss(x, w, b, y):
    return -(y * jax.nn.log_softmax(x @ w + b)).sum() / x.shape[0]


@pytest.fixture(autouse=True)
def _wide():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def truth():
    """What JAX says: the gradients and the Hessian in w of the chain, the Jacobian of softmax."""
    with jax.enable_x64(True):
        values = [jnp.asarray(v) for v in VALUES.values()]
        return {
            "gradient": dict(zip("xwb", jax.jit(jax.grad(loss, (0, 1, 2)))(*values), strict=True)),
            "hessian": jax.jit(jax.hessian(loss, 1))(*values),
            "softmax": jax.jit(jax.jacrev(lambda v: jax.nn.softmax(v, axis=-1)))(jnp.asarray(Z)),
        }


def softmax_jacobian(z):
    """By the quotient rule, in numpy."""
    a = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    rows = np.einsum("pq,qs->pqs", a, np.eye(a.shape[1])) - np.einsum("pq,ps->pqs", a, a)
    return np.einsum("pqs,pr->pqrs", rows, np.eye(len(a)))


def as_array(value, kind):
    framework, dtype = kind
    if framework == "torch":
        return torch.from_numpy(np.array(value)).to(getattr(torch, dtype))
    return (jnp if framework == "jax" else np).asarray(value, dtype=dtype)


def given(values, kind):
    return {n: as_array(v, kind) for n, v in values.items()}


def same(found, expected, kind):
    """The value within the dtype's precision; framework, dtype and shape exactly."""
    framework, dtype = kind
    home = {"numpy": (np.ndarray, np.floating), "torch": torch.Tensor, "jax": jax.Array}[framework]
    assert isinstance(found, home)
    assert str(found.dtype).removeprefix("torch.") == dtype
    tolerance = 1e-13 if dtype == "float64" else 2e-6
    np.testing.assert_allclose(np.asarray(found), expected, rtol=tolerance, atol=tolerance)


# ---------------------------------------------------------------- values against JAX


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_value_and_gradient_of_a_chain(kind, truth):
    values, expected = given(VALUES, kind), truth["gradient"]
    gradient = classifier.gradient("w", "b")(**values)
    assert list(gradient) == ["w", "b"]
    for name, found in gradient.items():
        same(found, expected[name], kind)
    value, both = classifier.value_and_gradient("x", "w")(**values)
    same(value, loss(**VALUES), kind)
    same(classifier.value(**values), loss(**VALUES), kind)
    same(both["x"], expected["x"], kind)
    assert sorted(classifier.gradient()(**values)) == ["b", "w", "x"]


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_dense_structured_vjp_and_jvp(kind, truth):
    z, expected = as_array(Z, kind), truth["softmax"]
    u, v = RNG.normal(size=(3, 4)), RNG.normal(size=(3, 4))
    cotangent, tangent = as_array(v, kind), as_array(u, kind)
    pulled, pushed = np.tensordot(v, expected, 2), np.tensordot(expected, u, 2)
    same(softmax.dense("z")(z=z), expected, kind)
    same(softmax.vjp("z")(cotangent, z=z)["z"], pulled, kind)
    same(softmax.jvp("z")(tangent, z=z), pushed, kind)
    structured = softmax.structured("z")(z=z)
    assert structured.shape == (3, 4, 3, 4)
    same(structured.dense(), expected, kind)
    same(structured @ tangent, pushed, kind)
    same(structured.__rmatmul__(cotangent), pulled, kind)
    if kind[0] != "torch":  # torch's own `@` refuses what is no tensor
        same(cotangent @ structured, pulled, kind)


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_scalar_result_with_several_terms(kind):
    # Each of these is a sum of terms with no letter at all.
    def forward(xp, x, t):
        return xp.sum(x * x) * t + xp.sum(x)

    spec = Spec(
        forward,
        inputs={"x": real("n"), "t": real("")},
        output={"y": ""},
        jacobian={
            "x": 2 * einsum(",p->p", "t", "x") + einsum("p->p", ones),
            "t": einsum("p,p->", "x", "x"),
        },
    )
    x, t = RNG.normal(size=3), np.float64(2.0)
    values = given({"x": x, "t": t}, kind)
    same(spec.jvp("x")(as_array(np.ones(3), kind), **values), (4 * x + 1).sum(), kind)
    same(spec.gradient("t")(**values)["t"], (x * x).sum(), kind)
    square = Spec(
        lambda _, x: x * x + x,
        inputs={"x": real("")},
        output={"y": ""},
        jacobian={"x": 2 * einsum("->", "x") + einsum("->", ones)},
    )
    same(square.dense("x")(x=as_array(3.0, kind)), 7.0, kind)


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1), (1, 4), (33, 2)])
def test_every_size(kind, shape):
    z = as_array(RNG.normal(size=shape), kind)
    if 0 in shape:
        found = transpose.dense("x")(x=z)
        assert tuple(found.shape) == (*shape[::-1], *shape)
        return
    same(softmax.dense("z")(z=z), softmax_jacobian(np.asarray(z, np.float64)), kind)


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_leading_axes_of_any_number(kind):
    linear = Spec(
        lambda xp, x, w: xp.matmul(x, w),
        inputs={"x": real("... n"), "w": real("n o")},
        output={"z": "... o"},
        jacobian={"x": einsum("us->su", "w"), "w": einsum("t,su->stu", "x", delta)},
    )
    w = RNG.normal(size=(3, 2))
    for leading in [(), (2, 4), (2, 0)]:
        x = RNG.normal(size=(*leading, 3))
        values = given({"x": x, "w": w}, kind)
        flat = x.reshape(-1, 3)
        by_x = np.einsum("us,rt->rstu", w, np.eye(len(flat)))
        by_w = np.einsum("rt,su->rstu", flat, np.eye(2))
        same(linear.dense("x")(**values), by_x.reshape(*leading, 2, *leading, 3), kind)
        same(linear.dense("w")(**values), by_w.reshape(*leading, 2, 3, 2), kind)
        cotangent = np.ones((*leading, 2))
        same(linear.vjp("x")(as_array(cotangent, kind), **values)["x"], cotangent @ w.T, kind)


@pytest.mark.parametrize("framework", ["numpy", "torch", "jax"])
def test_labels_and_masks_keep_their_integers(framework):
    picked = Spec(
        lambda xp, a, t, k: xp.sum(a[xp.arange(a.shape[0]), t] * k),
        inputs={"a": real("m n"), "t": labels("m", below="n"), "k": mask("m")},
        output={"L": ""},
        jacobian={"a": einsum("pq,p->pq", "t", "k")},
    )
    kind = (framework, "float32")
    values = {"a": as_array(np.ones((3, 2)), kind), "k": as_array([1.0, 0, 1], kind)}
    t = np.array([1, 1, 0])
    t = {"numpy": t, "torch": torch.from_numpy(t), "jax": jnp.asarray(t)}[framework]
    same(picked.gradient("a")(t=t, **values)["a"], [[0, 1], [0, 0], [1, 0]], kind)


# ---------------------------------------------------------------- traced, transformed


def test_under_jit_vmap_and_differentiation_of_jax(truth):
    values = {n: jnp.asarray(v) for n, v in VALUES.items()}
    gradient = classifier.gradient("w")
    found = jax.jit(lambda v: gradient(**v))(values)["w"]
    np.testing.assert_allclose(found, truth["gradient"]["w"], rtol=1e-13, atol=1e-14)

    def by_w(w):
        return gradient(**{**values, "w": w})["w"]

    mapped = jax.jit(jax.vmap(by_w))(jnp.stack([values["w"], 2 * values["w"]]))
    np.testing.assert_allclose(mapped[0], truth["gradient"]["w"], rtol=1e-13, atol=1e-14)
    hessian = jax.jit(jax.jacrev(by_w))(values["w"])
    np.testing.assert_allclose(hessian, truth["hessian"], rtol=1e-10, atol=1e-12)


def test_dense_and_structured_under_jit(truth):
    z = jnp.asarray(Z)
    dense = jax.jit(lambda v: softmax.dense("z")(z=v))(z)
    np.testing.assert_allclose(dense, truth["softmax"], atol=1e-15)
    pushed = jax.jit(lambda v: softmax.structured("z")(z=v) @ v)(z)
    np.testing.assert_allclose(pushed, np.tensordot(truth["softmax"], Z, 2), atol=1e-15)


def test_under_the_tape_of_torch(truth):
    values = given(VALUES, ("torch", "float64"))
    values["w"].requires_grad_()
    gradient = classifier.gradient("w")(**values)["w"]
    (second,) = torch.autograd.grad(gradient.sum(), values["w"])
    np.testing.assert_allclose(second, truth["hessian"].sum((0, 1)), rtol=1e-10, atol=1e-12)
    z = torch.from_numpy(Z).requires_grad_()
    (total,) = torch.autograd.grad((softmax.dense("z")(z=z) ** 2).sum(), z)
    step = 1e-6 * np.eye(12)[5].reshape(3, 4)
    rise = [(softmax_jacobian(Z + s * step) ** 2).sum() for s in (1, -1)]
    np.testing.assert_allclose(total.numpy()[1, 1], (rise[0] - rise[1]) / 2e-6, rtol=1e-6)


def test_widths_of_jax_are_left_as_the_user_has_them():
    with jax.enable_x64(False):
        found = softmax.vjp("z")(Z, z=jnp.asarray(Z, dtype="float32"))["z"]
        assert found.dtype == jnp.float32
        assert jnp.ones(1).dtype == jnp.float32


# ---------------------------------------------------------------- nothing is shared, nothing is written


half = Spec(
    lambda xp, x: xp.sum(x * x) / 2,
    inputs={"x": real("m n")},
    output={"l": ""},
    jacobian={"x": einsum("pq->pq", "x")},
)
same_as_it_was = Spec(
    lambda _, x: x,
    inputs={"x": real("m n")},
    output={"y": "m n"},
    jacobian={"x": einsum("pr,qs->pqrs", delta, delta)},
)
RESULTS = {
    "a gradient that is the input": lambda x, _: half.gradient("x")(x=x)["x"],
    "a dense derivative that is the input": lambda x, _: half.dense("x")(x=x),
    "a structured one": lambda x, _: half.structured("x")(x=x).dense(),
    "a value that is the input": lambda x, _: same_as_it_was.value(x=x),
    "a value that is a view": lambda x, _: transpose.value(x=x),
    "a chain's value": lambda x, _: (transpose >> transpose).value(x=x),
    "a cotangent that passes": lambda x, v: add.vjp("a")(v, a=x, b=x)["a"],
    "a tangent that passes": lambda x, v: add.jvp("a")(v, a=x, b=x),
    "a cotangent that is turned": lambda x, v: transpose.vjp("x")(v.T, x=x)["x"],
    "a product": lambda x, v: add.structured("a")(a=x, b=x) @ v,
}


@pytest.mark.parametrize("framework", ["numpy", "torch"])
@pytest.mark.parametrize("what", RESULTS)
def test_result_may_be_written_into(what, framework):
    kind = (framework, "float64")
    x, v = as_array(RNG.normal(size=(2, 3)), kind), as_array(RNG.normal(size=(2, 3)), kind)
    before = [np.asarray(x).copy(), np.asarray(v).copy()]
    result = RESULTS[what](x, v)
    result[...] = 7.0
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(v, before[1])


def test_two_gradients_of_one_call_are_apart():
    x = np.ones((2, 3))
    found = add.vjp("a", "b")(x, a=x, b=x)
    found["a"][...] = 7
    assert found["b"].max() == 1


@pytest.mark.parametrize(
    "make", [np.asfortranarray, lambda x: x[::-1], lambda x: x.copy()[:, ::-1]]
)
@pytest.mark.parametrize("framework", ["numpy", "torch", "jax"])
def test_layout_in_memory_does_not_matter(make, framework):
    z = make(Z)
    array = z if framework == "numpy" else as_array(np.array(z), (framework, "float64"))
    found = softmax.vjp("z")(make(np.ones_like(Z) * Z), z=array)["z"]
    expected = softmax.vjp("z")(np.array(z), z=np.array(z))["z"]
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-15)


# ---------------------------------------------------------------- no identity matrix


def test_no_identity_matrix_is_made(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("an identity matrix")

    for module, name in [
        (np, "eye"),
        (np, "identity"),
        (torch, "eye"),
        (jnp, "eye"),
        (jnp, "identity"),
    ]:
        monkeypatch.setattr(module, name, refuse)
    for framework in ("numpy", "torch", "jax"):
        values = given(VALUES, (framework, "float64"))
        classifier.gradient()(**values)
        classifier.dense("x")(**values)
        structured = softmax.structured("z")(z=as_array(Z, (framework, "float64")))
        structured @ as_array(Z, (framework, "float64"))
        structured.dense()


def test_memory_of_a_dense_jacobian_is_that_of_its_entries():
    z = RNG.normal(size=(64, 64))
    dense, entries = softmax.dense("z"), 64**4 * 8
    dense(z=z[:2, :2])
    tracemalloc.start()
    dense(z=z)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.1 * entries  # 128 MiB: an identity of the same shape would be as much again


def test_vjp_and_structured_need_no_dense_array():
    z = RNG.normal(size=(64, 64))
    softmax.vjp("z")(z, z=z)
    tracemalloc.start()
    softmax.vjp("z")(z, z=z)
    structured = softmax.structured("z")(z=z)
    structured @ z
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64**3 * 8 * 2.5  # a[p,q] a[p,s] is as large as n per entry of z


# ---------------------------------------------------------------- devices


def cuda(framework):
    found = backends.get(framework).devices()
    if len(found) == 1:
        pytest.skip(f"{framework} sees no CUDA device here")
    return found[1]


@pytest.mark.parametrize("framework", ["numpy", "torch", "jax"])
def test_arrays_of_the_host_stay_there(framework):
    backend = backends.get(framework)
    values = given(VALUES, (framework, "float64"))
    if framework == "jax":
        values = jax.device_put(values, jax.devices("cpu")[0])
    assert {backend.device_of(g) for g in classifier.gradient()(**values).values()} == {"cpu"}


@pytest.mark.gpu
@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_arrays_on_a_gpu_stay_there(framework):
    device = cuda(framework)
    backend = backends.get(framework)
    values = {n: backend.asarray(v, "float64", device) for n, v in VALUES.items()}
    gradient = classifier.gradient()(**values)
    assert {backend.device_of(g) for g in gradient.values()} == {device}
    expected = classifier.gradient()(**VALUES)
    for name, found in gradient.items():
        np.testing.assert_allclose(backend.to_numpy(found), expected[name], rtol=1e-12, atol=1e-13)
    dense = softmax.dense("z")(z=backend.asarray(Z, "float64", device))
    assert backend.device_of(dense) == device


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("call", "error", "problem"),
    [
        (lambda: classifier.gradient("q"), UsageError, "has no input 'q'; it has x, w, b, y"),
        (lambda: classifier.gradient("y"), UsageError, "no derivative of L with respect to 'y'"),
        (lambda: softmax.gradient("z"), UsageError, "of shape 'm n'; a gradient needs a scalar"),
        (lambda: softmax.dense("z", "b"), UsageError, "no derivative of b"),
        (lambda: softmax.dense("z")(x=Z), UsageError, "takes z: unknown x; missing z"),
        (lambda: softmax.dense("z")(Z), UsageError, "takes its inputs by name"),
        (lambda: softmax.vjp("z")(z=Z), UsageError, "vjp takes the cotangent"),
        (lambda: softmax.jvp("z")(Z, Z, z=Z), UsageError, "jvp takes the tangent"),
        (
            lambda: softmax.vjp("z")(Z.T, z=Z),
            ShapeError,
            r"cotangent has shape \(4, 3\), but a has shape",
        ),
        (
            lambda: softmax.jvp("z")(Z[0], z=Z),
            ShapeError,
            r"tangent has shape \(4,\), but z has shape",
        ),
        (lambda: softmax.structured("z")(z=Z) @ Z.T, ShapeError, r"has shape \(4, 3\)"),
        (lambda: softmax.value(z=Z[0]), ShapeError, "of rank 1; expected z: 'm n'"),
        (lambda: add.value(a=Z, b=Z.T), ShapeError, "m = 4, but a has shape"),
        (lambda: half.gradient("x")(x=np.ones((2, 3), int)), UsageError, "int64 came; convert it"),
        (lambda: add.value(a=jnp.asarray(Z), b=torch.ones(3, 4)), UsageError, "no silent transfer"),
    ],
)
def test_errors_say_what_was_expected(call, error, problem):
    with pytest.raises(error, match=problem):
        call()


# ---------------------------------------------------------------- which form is checked


def test_the_report_says_which_form_was_checked():
    report = verify(classifier, wrt="w", oracles=["symbolic", "differences"], profile="quick")
    form = "closed form after cancelling powers and Σ_q y[p,q] = 1"
    assert report.ok
    assert [c.form for c in report.checks] == [form, form]
    assert f"Form checked\n  {form}: {classifier.name}, w" in str(report)
    assert Report.from_json(report.to_json()).checks[0].form == form
    written = verify(load("softmax"), oracles=["differences"], profile="quick")
    assert [c.form for c in written.checks] == ["as written"]
    assert "Form checked" not in str(written)


def test_a_chain_is_evaluated_as_it_runs():
    """0 · ∞ stands in the composed terms, and not in the closed form."""
    problem = Problem(classifier, classifier.claims()[1], "float64")
    assert [r.name for r in problem.relations] == ["y"]
    example = Example(
        {"x": np.ones((2, 3)), "w": np.ones((3, 2)), "b": np.zeros(2), "y": np.eye(2)},
        {},
        {"m": 2, "n": 3, "o": 2},
    )
    assert problem.expression(example).conditions() == ["a ≠ 0", "o ≥ 1", "Σ_q y[p,q] = 1"]
    found = problem.evaluate(example)
    # xᵀ(a − y)/m with a = 1/2 everywhere: each column of a − y sums to 0
    np.testing.assert_array_equal(found.claim.reshape(3, 2), np.zeros((3, 2)))


def false_relation():
    """A chain that is believed to have rows of y that sum to one; they are any numbers."""
    loss = Spec(
        lambda xp, a, y: -xp.sum(y * xp.log(a)) / a.shape[0],
        inputs={"a": positive("m n"), "y": constant(real("m n"))},
        output={"L": ""},
        jacobian={"a": -einsum("pq,pq->pq", "y", "a**-1") / size("m")},
        name="loss",
    )
    chain = load("softmax") >> loss
    believed = Relation("y", 2, False, "so it is said")
    chain.row_relations = lambda: {"y": believed}
    return chain


@pytest.mark.parametrize("oracle", ["differences", "jax"])
def test_a_closed_form_by_a_false_relation_is_refuted(oracle):
    report = verify(false_relation(), wrt="z", oracles=[oracle], profile="quick")
    (check,) = report.checks
    assert check.verdict == "refuted"
    assert check.form == "closed form after cancelling powers and Σ_q y[p,q] = 1"


def test_no_proof_where_the_closed_form_is_another():
    report = verify(false_relation(), wrt="z", oracles=["symbolic"], profile="quick")
    (check,) = report.checks
    assert check.verdict == "undecided"
    assert "its closed form is not the composed one" in check.reason
