"""Hessian-vector products and the frameworks' arrays; what `hessian` and `hvp` say when misused."""

from __future__ import annotations

import numpy as np
import pytest
from second_order_cases import assert_product, bound, draw, jax_hessians

from gradcheck import Spec, einsum, load, ones, real, size, verify
from gradcheck.errors import ShapeError, UsageError


@pytest.fixture
def rng():
    """The same draws for a test in whatever order the tests run."""
    return np.random.default_rng(21)


@pytest.fixture(scope="module")
def classifier():
    return load("weighted_sum") >> load("softmax") >> load("cross_entropy")


# ---------------------------------------------------------------- Hessian-vector products


def test_products_of_the_classifier(classifier, rng):
    values = draw()
    tangents = {n: rng.normal(size=values[n].shape) for n in "xwb"}
    truth = jax_hessians(values)
    for name in "xwb":
        axes = "rs"[: values[name].ndim]
        product = f"{'pq'[: values[name].ndim]}{axes},{axes}->{'pq'[: values[name].ndim]}"
        expected = np.einsum(product, truth[name, name], tangents[name])
        slack = np.einsum(
            product, bound(classifier.hessian(name, name), values), np.abs(tangents[name])
        )
        assert_product(classifier, name, tangents[name], values, expected, 2 * slack)


def test_products_along_several_inputs_add_up(classifier, rng):
    values = draw()
    tangents = {n: rng.normal(size=values[n].shape) for n in "wb"}
    whole = classifier.hvp("w", "b")(tangents, **values)
    assert list(whole) == ["w", "b"]
    expected = classifier.hvp("w")(tangents["w"], **values)["w"] + np.einsum(
        "pqr,r->pq", classifier.hessian("w", "b")(**values), tangents["b"]
    )
    np.testing.assert_allclose(whole["w"], expected, rtol=1e-12)


def test_products_by_link_and_by_whole_expression_agree(classifier, rng):
    """The closed form (a − y)/m of a spec is differentiated as it stands, the chain link by link."""
    closed = Spec(
        classifier,
        jacobian={"w": (einsum("rt,ru->tu", "x", "a") - einsum("rt,ru->tu", "x", "y")) / size("m")},
        name="closed",
    )
    values, tangent = draw(), rng.normal(size=(4, 3))
    one, other = (op.hvp("w")(tangent, **values)["w"] for op in (closed, classifier))
    np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-14)
    assert verify(closed.second_order("w", "w"), oracles="symbolic").ok


def test_a_product_through_residuals_agrees_with_the_hessian(rng):
    gelu = load("examples/specs/gelu.py::gelu")
    loss = load("examples/specs/mean_squared_error.py::mean_squared_error")
    net = loss(gelu(load("weighted_sum")("x", "w", "b")), "y")
    values = draw()
    tangent = rng.normal(size=values["w"].shape)
    hessian = net.hessian("w", "w")
    expected = np.einsum("pqrs,rs->pq", hessian(**values), tangent)
    slack = np.einsum("pqrs,rs->pq", bound(hessian, values), np.abs(tangent))
    assert_product(net, "w", tangent, values, expected, slack)


def test_a_product_does_not_build_the_hessian(classifier):
    """At this size the Hessian in w would hold 4e10 numbers."""
    values = draw(m=8, n=2000, o=100)
    product = classifier.hvp("w")(np.ones((2000, 100)), **values)["w"]
    assert product.shape == (2000, 100)
    assert np.all(np.isfinite(product))


def test_a_product_stays_finite_where_the_naive_chain_divides_by_zero(classifier, rng):
    """Logits of ±100 in float32: a underflows to 0, and y/a would be 0/0."""
    x, w = np.eye(3, dtype=np.float32), np.diag([100.0, -100.0, 100.0]).astype(np.float32)
    values = {"x": x, "w": w, "b": np.zeros(3, np.float32), "y": np.eye(3, dtype=np.float32)}
    tangent = rng.normal(size=(3, 3)).astype(np.float32)
    with np.errstate(all="ignore"):
        product = classifier.hvp("w")(tangent, **values)["w"]
        hessian = classifier.hessian("w", "w")(**values)
    assert product.dtype == np.float32
    assert np.isfinite(product).all()
    assert np.isfinite(hessian).all()
    a = np.exp((x @ w).astype(np.float64))
    a /= a.sum(axis=1, keepdims=True)
    change = a * (x @ tangent - np.sum(a * (x @ tangent), axis=1, keepdims=True))
    np.testing.assert_allclose(product, x.T @ change / 3, rtol=1e-5, atol=1e-30)


def test_the_steps_of_a_product_can_be_read(classifier):
    assert [str(s) for s in classifier.hvp("w").steps] == [
        "t(z)[r,s] = Σ_p t(w)[p,s] x[r,p]",
        "t(a)[p,q] = a[p,q] (t(z)[p,q] − Σ_r a[p,r] t(z)[p,r])",
        "t(∂L/∂z)[r,s] = t(a)[r,s] / m",
        "t(∂L/∂w)[t,u] = Σ_p t(∂L/∂z)[p,u] x[p,t]",
    ]


def test_a_product_in_an_input_that_the_result_ignores_is_zero():
    linear = Spec(
        lambda xp, z: xp.sum(z),
        inputs={"z": real("n")},
        output={"L": ""},
        jacobian={"z": einsum("p->p", ones)},
        name="linear",
    )
    assert linear.hvp("z")(np.ones(3), z=np.ones(3))["z"].tolist() == [0, 0, 0]
    assert linear().hvp("z")(np.ones(3), z=np.ones(3))["z"].tolist() == [0, 0, 0]
    assert str(linear.hessian("z", "z")) == "∂²L/∂z[p]∂z[q] = 0"


# ---------------------------------------------------------------- frameworks


def test_jax_arrays_under_jit_and_vmap(classifier, rng):
    jax = pytest.importorskip("jax")
    values = {n: jax.numpy.asarray(v, "float32") for n, v in draw().items()}
    hessian, product = classifier.hessian("w", "w"), classifier.hvp("w")
    plain = hessian(**values)
    assert isinstance(plain, jax.Array)
    np.testing.assert_allclose(jax.jit(lambda v: hessian(**v))(values), plain, rtol=1e-4, atol=1e-6)
    tangents = jax.numpy.asarray(rng.normal(size=(2, 4, 3)), "float32")
    many = jax.vmap(lambda t: product(t, **values)["w"])(tangents)
    one = product(tangents[1], **values)["w"]
    assert one.dtype == "float32"
    np.testing.assert_allclose(many[1], one, rtol=1e-4, atol=1e-6)


def test_torch_tensors_stay_torch(classifier):
    torch = pytest.importorskip("torch")
    values = draw()
    tensors = {n: torch.tensor(v, dtype=torch.float32) for n, v in values.items()}
    found = classifier.hessian("w", "b")(**tensors)
    assert isinstance(found, torch.Tensor)
    assert found.dtype == torch.float32
    product = classifier.hvp("w")(torch.ones(4, 3), **tensors)["w"]
    assert isinstance(product, torch.Tensor)
    np.testing.assert_allclose(
        product, classifier.hvp("w")(np.ones((4, 3)), **values)["w"], rtol=1e-4, atol=1e-6
    )


# ---------------------------------------------------------------- what it says


def test_names_and_shapes_that_do_not_fit(classifier):
    values = draw()
    with pytest.raises(UsageError, match="has no input 'v'; it has x, w, b, y"):
        classifier.hessian("w", "v")
    with pytest.raises(
        UsageError, match=r"y is .*, a constant: .* is not differentiated by it; it is by x, w, b"
    ):
        classifier.hessian("w", "y")
    with pytest.raises(UsageError, match=r"has no derivative of L with respect to 'y'"):
        classifier.hessian("y", "w")
    with pytest.raises(
        UsageError, match=r"name the input of the first derivative: .*second_order\(\"x\"\)"
    ):
        classifier.second_order()
    with pytest.raises(ShapeError, match=r"the tangent has shape \(3,\), but w has shape \(4, 3\)"):
        classifier.hvp("w")(np.ones(3), **values)
    with pytest.raises(
        UsageError, match=r"hvp takes the tangent as its positional argument.*hvp\(tangent, x=...\)"
    ):
        classifier.hvp("w")(**values)
    with pytest.raises(UsageError, match=r'several inputs: give a dict {"w": ..., "b": ...}'):
        classifier.hvp("w", "b")(np.ones((4, 3)), **values)
    with pytest.raises(
        UsageError, match=r'the tangents are for w; this hvp takes {"w": ..., "b": ...}'
    ):
        classifier.hvp("w", "b")({"w": np.ones((4, 3))}, **values)
    with pytest.raises(UsageError, match="missing y"):
        classifier.hessian("w", "w")(**{n: v for n, v in values.items() if n != "y"})


def test_a_product_needs_a_scalar():
    with pytest.raises(
        UsageError, match=r"gives a of shape 'm n'; a Hessian-vector product needs a scalar"
    ):
        load("softmax").hvp("z")


def test_a_missing_first_derivative_is_named():
    bare = Spec(lambda xp, z: xp.sum(z * z), inputs={"z": real("n")}, output={"L": ""}, name="bare")
    with pytest.raises(
        UsageError, match="bare has no derivative of L with respect to 'z'; it has: none"
    ):
        bare.hessian("z", "z")
    with pytest.raises(UsageError, match="bare has no derivative of L with respect to 'z'"):
        bare().hvp("z")
