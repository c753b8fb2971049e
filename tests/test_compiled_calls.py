"""What a call of a compiled derivative takes and refuses, cold and warm, on every framework."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck import Spec, constant, delta, einsum, labels, load, number, real, verify
from gradcheck.errors import UsageError

FRAMEWORKS = ["numpy", "torch", "jax"]

scaled = Spec(
    lambda xp, x, *, t: x * t,  # noqa: ARG005
    inputs={"x": real("n")},
    output={"y": "n"},
    params={"t": number(0.1, 3)},
    jacobian={"x": einsum(",pq->pq", "t", delta)},
    name="scaled",
)


def array_of(framework, value):
    """An array of a framework, in the dtype that the value has."""
    if framework == "numpy":
        return np.array(value)
    module = pytest.importorskip(framework)
    return module.from_numpy(np.array(value)) if framework == "torch" else module.numpy.array(value)


def linear(framework):
    shapes = {"x": (2, 3), "w": (3, 2), "b": (2,)}
    return {n: array_of(framework, np.ones(s, np.float32)) for n, s in shapes.items()}


WRONG = [
    (("u", None), {}, "takes the cotangent as its positional argument"),
    ((None, "u"), {}, "takes the cotangent as its positional argument"),
    ((None,), {}, "expected arrays of numpy"),
    (("u",), {"q": None}, "unknown q"),
    ((), {"d_z": "u"}, "takes the cotangent as its positional argument"),
    (("a word",), {}, "expected arrays of numpy.*got str"),
    ((object(),), {}, "expected arrays of numpy.*got object"),
    (("complex",), {}, "holds complex numbers"),
    (("u",), {"w": "complex"}, "holds complex numbers"),
    (("u",), {"x": None}, "got NoneType"),
]


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize(("vector", "more", "message"), WRONG)
@pytest.mark.parametrize("warm", [False, True])
def test_wrong_arguments_are_refused_in_our_words(framework, vector, more, message, warm):
    vjp, arrays = load("weighted_sum").vjp("x"), linear(framework)
    u = array_of(framework, np.ones((2, 2), np.float32))
    wide = array_of(framework, np.ones((3, 2) if "w" in more else (2, 2), np.complex64))
    named = {"u": u, "complex": wide}

    def meant(thing):
        return named.get(thing, thing) if isinstance(thing, str) else thing

    for _ in range(2 * warm):
        vjp(u, **arrays)
    with pytest.raises(UsageError, match=message):
        vjp(*map(meant, vector), **{**arrays, **{n: meant(v) for n, v in more.items()}})


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_cotangent_of_integers_is_one_of_real_numbers(framework):
    vjp, arrays = load("weighted_sum").vjp("x"), linear(framework)
    found = vjp(array_of(framework, np.ones((2, 2), np.int64)), **arrays)["x"]
    assert "float32" in str(found.dtype)
    np.testing.assert_array_equal(np.asarray(found), np.full((2, 3), 2.0))


@pytest.mark.parametrize("value", [1j, np.ones(3), "a", None])
def test_a_parameter_is_a_number(value):
    with pytest.raises(UsageError, match=r"parameter 't' of scaled is number\(0.1, 3\)"):
        scaled.vjp("x")(np.ones(3), x=np.ones(3), t=value)


def test_a_traced_parameter_is_refused():
    jax = pytest.importorskip("jax")
    with pytest.raises(UsageError, match="under jit, mark it static"):
        jax.jit(lambda t: scaled.vjp("x")(np.ones(3), x=jax.numpy.ones(3), t=t))(2.0)


@pytest.mark.parametrize("name", ["np", "\u03f5"])
def test_an_input_may_not_hide_what_its_program_calls(name):
    given = {name: real("n")}
    claim = 2 * einsum("p,pq->pq", name, delta)
    space = {}
    exec(f"def forward(xp, {name}): return {name} * {name}", space)
    square = Spec(
        space["forward"], inputs=given, output={"r": "n"}, jacobian={name: claim}, name="square"
    )
    with pytest.raises(
        UsageError, match=f"square has an input called '{name}'.*call the input something else"
    ):
        square.dense(name)(**{name: np.ones(3)})


def test_an_input_may_be_called_self():
    square = Spec(
        lambda xp, self: self * self,  # noqa: ARG005
        inputs={"self": real("n")},
        output={"r": "n"},
        jacobian={"self": 2 * einsum("p,pq->pq", "self", delta)},
    )
    for framework in FRAMEWORKS:
        x = array_of(framework, np.arange(3, dtype=np.float32))
        for _ in range(2):
            found = square.vjp("self")(x, self=x)["self"]
        np.testing.assert_array_equal(np.asarray(found), [0, 2, 8])


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_number_among_the_operands_of_a_structured_jacobian(framework, dtype):
    """Copied, it was an array of float64, and the diagonal was written at its strides."""
    both = Spec(
        lambda xp, x, *, t: x * t,  # noqa: ARG005
        inputs={"x": real("n")},
        output={"y": "n"},
        params={"t": number(0.1, 3)},
        jacobian={
            "x": einsum("p,q,->pq", "x", "x", "t") + einsum("p,pq->pq", "x", delta),
        },
        name="both",
    )
    jax = pytest.importorskip("jax")
    with jax.enable_x64(dtype == "float64"):
        x = array_of(framework, np.arange(1, 4).astype(dtype))
        held = both.structured("x")(x=x, t=0.5)
        found, row = held.dense(), array_of(framework, np.ones(3, dtype)) @ held
        assert dtype in str(found.dtype)
        expected = 0.5 * np.outer([1, 2, 3], [1, 2, 3]) + np.diag([1, 2, 3])
        np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-6)
        np.testing.assert_allclose(np.asarray(row), expected.sum(axis=0), rtol=1e-6)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_structured_jacobian_without_operands(framework):
    transpose = load("transpose")
    (name,) = transpose.inputs
    found = transpose.structured(name)(**{name: array_of(framework, np.ones((2, 3)))}).dense()
    np.testing.assert_array_equal(
        np.asarray(found), transpose.dense(name)(**{name: np.ones((2, 3))})
    )


@pytest.mark.parametrize("order", [("b", "t"), ("t", "b")])
def test_a_summed_letter_on_a_broadcast_axis_runs_over_the_whole_one(order):
    """Whichever operand comes first: at size 1 of `#m` the sum has m terms all the same."""

    def forward(xp, g, b, t):
        return g * xp.sum(b + xp.zeros((t.shape[0], 1)), axis=0)

    letters = {"b": "ip", "t": "il"}
    gathered = Spec(
        forward,
        inputs={"g": real("n"), "b": constant(real("#m n")), "t": labels("m", below="n")},
        output={"y": "n"},
        jacobian={"g": einsum(f"{letters[order[0]]},{letters[order[1]]},pq->pq", *order, delta)},
        name="gathered",
    )
    found = gathered.dense("g")(g=np.ones(2), b=np.array([[1.0, 2.0]]), t=np.array([0, 1, 1]))
    np.testing.assert_array_equal(found, np.diag([3.0, 6.0]))
    report = verify(gathered, oracles=["symbolic", "exact", "autograd"])
    assert [str(c.verdict) for c in report.checks] == ["proved", "identity", "agrees"]


def test_structured_products_keep_64_bits_where_jax_has_32_by_default():
    jax = pytest.importorskip("jax")
    z = np.random.default_rng(0).normal(size=(3, 4))
    with jax.enable_x64(True):
        arrays = {"z": jax.numpy.asarray(z)}
        vector = jax.numpy.asarray(z)
    structured = load("softmax").structured("z")
    for given in (vector, z):
        for found in (structured(**arrays) @ given, given @ structured(**arrays)):
            assert found.dtype == "float64"
            np.testing.assert_allclose(found, structured(z=z) @ z, rtol=1e-14, atol=1e-16)
