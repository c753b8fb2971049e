"""What the evaluation of einsum terms asks of a backend, on the user's own arrays."""

from fractions import Fraction

import numpy as np
import pytest
from xp_cases import EPS, INDICES, RNG, V, X, Y

from gradcheck import backends
from gradcheck.errors import ShapeError


def arrays_of(backend, *values):
    return [backend.asarray(value, "float64", "cpu") for value in values]


@pytest.fixture(params=backends.installed())
def backend(request):
    found = backends.get(request.param)
    with found.scope("float64"):
        yield found


@pytest.mark.parametrize(
    ("equation", "values"),
    [
        ("pq->qp", (X,)),
        ("pp->p", (X[:, :2],)),
        ("pq,q->p", (X, V)),
        ("pq,,pr->qr", (X, 0.25, Y)),
        ("pq,rq,rs,s->p", (X, Y, Y, V)),
        ("pq,rq,p->r", (np.ones((0, 3)), Y, np.ones(0))),
        (",->", (2.0, 0.5)),
    ],
)
def test_einsum_contracts_where_the_arrays_lie(backend, equation, values):
    lifted = [v if np.isscalar(v) else backend.asarray(v, "float64", "cpu") for v in values]
    result = backend.to_numpy(backend.einsum(equation, *lifted))
    np.testing.assert_allclose(result, np.einsum(equation, *values), rtol=1e-14, atol=1e-15)


def test_functions_keep_the_dtype(backend):
    reference = backends.get("numpy")
    for dtype in ("float64", "float32"):
        (x,) = (backend.asarray(np.array([0.0, 0.5, 2.0]), dtype, "cpu"),)
        for name in ("exp", "log", "sqrt", "sigmoid", "tanh", "erf", "abs", "sign", "step"):
            value = backend.function(name)(x)
            assert backend.dtype_of(value) == dtype
            with reference.scope(dtype):
                expected = reference.function(name)(np.array([0.0, 0.5, 2.0]))
            np.testing.assert_allclose(backend.to_numpy(value), expected, rtol=4 * EPS[dtype])
            assert type(backend.function(name)(0.5)) is float


@pytest.mark.parametrize("exponent", ["0", "1", "2", "5", "-1", "-3", "1/2", "-1/2", "3/2", "-1/3"])
def test_powers(backend, exponent):
    exponent = Fraction(exponent)
    for dtype in ("float64", "float32"):
        x = backend.asarray(np.array([0.25, 4.0, 9.0]), dtype, "cpu")
        value = backend.power(x, exponent)
        assert backend.dtype_of(value) == dtype
        expected = np.array([0.25, 4.0, 9.0]) ** float(exponent)
        np.testing.assert_allclose(backend.to_numpy(value), expected, rtol=4 * EPS[dtype])
    assert backend.power(4.0, exponent) == pytest.approx(4.0 ** float(exponent), rel=1e-15)
    assert backend.power(0.0, Fraction(-1, 2)) == np.inf


def test_one_hot_and_zeros_follow_another_array(backend):
    like = backend.asarray(X, "float32", "cpu")
    hot = backend.one_hot(INDICES, 3, like)
    np.testing.assert_array_equal(backend.to_numpy(hot), np.eye(3)[INDICES])
    zeros = backend.zeros((2, 0), like)
    assert backend.dtype_of(hot) == backend.dtype_of(zeros) == "float32"
    assert tuple(zeros.shape) == (2, 0)


@pytest.mark.parametrize("out", ["p", "pq", "pqpq", "ppqq", "pqrp", "qpppq", "prqsrp", "qp"])
def test_a_core_is_added_along_the_diagonals(backend, out):
    sizes = dict(zip("pqrs", (2, 3, 4, 5), strict=True))
    letters = "".join(sorted(set(out)))
    core = RNG.standard_normal([sizes[letter] for letter in letters])
    start = RNG.standard_normal([sizes[letter] for letter in out])
    expected = start.copy()
    for place in np.ndindex(*start.shape):
        if all(place[i] == place[out.index(letter)] for i, letter in enumerate(out)):
            expected[place] += core[tuple(place[out.index(letter)] for letter in letters)]
    into, what = arrays_of(backend, start.copy(), core)
    result = backend.add_diagonal(into, what, tuple(out), tuple(letters))
    np.testing.assert_array_equal(backend.to_numpy(result), expected)


def test_a_core_that_does_not_fit_is_named(backend):
    into, what, other = arrays_of(backend, np.zeros((2, 3, 2)), np.ones((2, 3)), np.ones((2, 4)))
    with pytest.raises(ShapeError, match="letter 'q' has size 4 in the core, 3 in the output"):
        backend.add_diagonal(into, other, "pqp", "pq")
    with pytest.raises(ShapeError, match="must be those of the output"):
        backend.add_diagonal(into, what, "prp", "pq")


def test_evaluation_is_traceable_and_differentiable():
    torch, jax = pytest.importorskip("torch"), pytest.importorskip("jax")

    def rule(backend, x, y):
        out = backend.zeros((2, 3, 2), x)
        core = backend.einsum("pq,pr,rq->pq", x, backend.function("sigmoid")(y[:, :2]), y)
        return backend.add_diagonal(out, core, "pqp", "pq")

    expected = rule(backends.get("numpy"), X, Y)
    jaxy = backends.get("jax")
    with jaxy.scope("float64"):
        x, y = jaxy.asarray(X, "float64"), jaxy.asarray(Y, "float64")
        traced = jax.jit(lambda x, y: rule(jaxy, x, y))(x, y)
        slope = jax.grad(lambda x: rule(jaxy, x, y).sum())(x)
    np.testing.assert_allclose(traced, expected, rtol=1e-14)
    leaf = torch.tensor(X, requires_grad=True)
    total = rule(backends.get("torch"), leaf, torch.tensor(Y)).sum()
    (gradient,) = torch.autograd.grad(total, leaf)
    np.testing.assert_allclose(gradient.numpy(), np.asarray(slope), rtol=1e-13)
