"""Every backend implements the documented list of names: values, dtypes, derivatives, promises."""

import json
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

from gradcheck import backends
from gradcheck.backends.names import COMPARISONS, CONSTANTS, XP_NAMES
from gradcheck.errors import MissingBackend, ShapeError, UnsupportedOperation, UsageError

FRAMEWORKS = [name for name in backends.installed() if name != "numpy"]
RNG = np.random.default_rng(20240)
X = np.array([[0.3, -1.2, 2.5], [0.7, 1.1, -0.4]])
Y = np.array([[1.5, 0.2, -0.3], [0.9, -2.0, 0.6]])
P = np.abs(X) + 0.1  # positive
U = X / 3  # inside (-1, 1)
S = np.array([[[2.0, 0.3], [-0.5, 1.5]], [[1.0, 2.0], [0.1, -1.0]]])
V = np.array([0.5, -1.5, 2.0])
INDICES = np.array([[2, 0, 0], [1, 2, 2]])

# name -> (forward, arguments); several cases a name where it has several ways.
CASES = {
    "abs": [(lambda xp, x: xp.abs(x), X)],
    "acos": [(lambda xp, x: xp.acos(x), U)],
    "asin": [(lambda xp, x: xp.asin(x), U)],
    "atan": [(lambda xp, x: xp.atan(x), X)],
    "cos": [(lambda xp, x: xp.cos(x), X)],
    "cosh": [(lambda xp, x: xp.cosh(x), X)],
    "erf": [(lambda xp, x: xp.erf(x), X)],
    "exp": [(lambda xp, x: xp.exp(x), X)],
    "expm1": [(lambda xp, x: xp.expm1(x), X)],
    "log": [(lambda xp, x: xp.log(x), P)],
    "log1p": [(lambda xp, x: xp.log1p(x), P)],
    "negative": [(lambda xp, x: xp.negative(x), X)],
    "sigmoid": [(lambda xp, x: xp.sigmoid(x), X), (lambda xp, x: xp.sigmoid(0 * x), X)],
    "sign": [(lambda xp, x: xp.sign(x), X)],
    "sin": [(lambda xp, x: xp.sin(x), X)],
    "sinh": [(lambda xp, x: xp.sinh(x), X)],
    "sqrt": [(lambda xp, x: xp.sqrt(x), P), (lambda xp, x: x / xp.sqrt(2 * xp.pi), X)],
    "square": [(lambda xp, x: xp.square(x), X)],
    "tan": [(lambda xp, x: xp.tan(x), X)],
    "tanh": [(lambda xp, x: xp.tanh(x), X)],
    "add": [(lambda xp, x, y: xp.add(x, y), X, V), (lambda xp, x: xp.add(1, x), X)],
    "divide": [(lambda xp, x, y: xp.divide(x, y), X, Y), (lambda xp, x: xp.divide(2.0, x), X)],
    "logaddexp": [
        (lambda xp, x, y: xp.logaddexp(x, y), X, V),
        (lambda xp, x: xp.logaddexp(x, 0.0), X),
    ],
    "maximum": [
        (lambda xp, x, y: xp.maximum(x, y), X, Y),
        (lambda xp, x: xp.maximum(x, 0.0), X),
        (lambda xp, x: xp.maximum(0, x), X),
    ],
    "minimum": [(lambda xp, x, y: xp.minimum(x, y), X, V), (lambda xp, x: xp.minimum(0.5, x), X)],
    "multiply": [(lambda xp, x, y: xp.multiply(x, y), X, V)],
    "pow": [
        (lambda xp, x: xp.pow(x, 3), X),
        (lambda xp, x: xp.pow(x, -1.5), P),
        (lambda xp, x: xp.pow(2.0, x), X),
        (lambda xp, x, y: xp.pow(x, y), P, Y),
    ],
    "subtract": [(lambda xp, x, y: xp.subtract(x, y), X, V), (lambda xp, x: xp.subtract(1, x), X)],
    "equal": [(lambda xp, x: xp.equal(x, -1.2), X)],
    "greater": [(lambda xp, x, y: xp.greater(x, y), X, Y)],
    "greater_equal": [(lambda xp, x: xp.greater_equal(x, 0.7), np.round(X, 1))],
    "less": [(lambda xp, x: xp.less(0.5, x), X)],
    "less_equal": [(lambda xp, x, y: xp.less_equal(x, y), X, V)],
    "not_equal": [(lambda xp, x: xp.not_equal(x, 2.5), X)],
    "where": [
        (lambda xp, x, y: xp.where(x > y, x, y), X, V),
        (lambda xp, x: xp.where(x > 0, x, 0.1 * x), X),
        (lambda xp, x: xp.where(x > 0, 0.1, 0.3), X),
        (lambda xp, x: xp.where(x > 0, 0.1, x), X),
        (lambda xp, x, y: xp.where(x > 0, y, 0.0), X, V),
    ],
    "clip": [
        (lambda xp, x: xp.clip(x, -0.5, 1.0), X),
        (lambda xp, x: xp.clip(x, min=0.1), X),
        (lambda xp, x, y: xp.clip(x, max=y), X, V),
    ],
    "logsumexp": [
        (lambda xp, x: xp.logsumexp(x), X),
        (lambda xp, x: xp.logsumexp(1000 * x, axis=-1, keepdims=True), X),
        (lambda xp, x: xp.logsumexp(x, axis=(0, 2)), S),
    ],
    "max": [
        (lambda xp, x: xp.max(x), X),
        (lambda xp, x: xp.max(x, axis=(0, -1)), S),
        (lambda xp, x: xp.max(x, axis=1, keepdims=True), X),
        (lambda xp, x: xp.max(xp.stack([x, x]), axis=0), X),
    ],
    "min": [(lambda xp, x: xp.min(x), X), (lambda xp, x: xp.min(x, axis=0, keepdims=True), X)],
    "mean": [(lambda xp, x: xp.mean(x), X), (lambda xp, x: xp.mean(x, axis=(0, 1)), S)],
    "prod": [
        (lambda xp, x: xp.prod(x), X),
        (lambda xp, x: xp.prod(x, axis=-1, keepdims=True), np.where(X == 0.7, 0.0, X)),
        (lambda xp, x: xp.prod(x, axis=(0, 2)), S),
    ],
    "sum": [
        (lambda xp, x: xp.sum(x), X),
        (lambda xp, x: xp.sum(x, axis=(0, 2), keepdims=True), S),
        (lambda xp, x: xp.sum(x, axis=-1), X),
    ],
    "std": [
        (lambda xp, x: xp.std(x), X),
        (lambda xp, x: xp.std(x, axis=-1, correction=1, keepdims=True), X),
    ],
    "var": [
        (lambda xp, x: xp.var(x, axis=0), X),
        (lambda xp, x: xp.var(x, axis=(1, 2), correction=1), S),
    ],
    "einsum": [
        (lambda xp, x, y: xp.einsum("pq,rq->pr", x, y), X, Y),
        (lambda xp, x: xp.einsum("app->ap", x), S),
        (lambda xp, x: xp.einsum("app->a", x), S),
        (lambda xp, x, y, z: xp.einsum("pq,q,pq->p", x, y, z), X, V, Y),
        (lambda xp, x: xp.einsum("pq,->pq", x, 0.1), X),
    ],
    "matmul": [
        (lambda xp, x, y: xp.matmul(x, y), X, V),
        (lambda xp, x: xp.matmul(x, x), S),
    ],
    "matrix_transpose": [(lambda xp, x: xp.matrix_transpose(x), S)],
    "linalg": [
        (lambda xp, x: xp.linalg.inv(x), S),
        (lambda xp, x: xp.linalg.det(x), S),
    ],
    "broadcast_to": [
        (lambda xp, x: xp.broadcast_to(x, (2, 3)), V),
        (lambda xp, x: x * xp.broadcast_to(0.1, (3,)), V),
    ],
    "concat": [(lambda xp, x, y: xp.concat([x, y], axis=-1), X, Y)],
    "stack": [(lambda xp, x, y: xp.stack([x, y], axis=1), X, Y)],
    "cumulative_sum": [
        (lambda xp, x: xp.cumulative_sum(x, axis=-1), X),
        (lambda xp, x: xp.cumulative_sum(x, axis=0), S),
    ],
    "diagonal": [(lambda xp, x: xp.diagonal(x), S), (lambda xp, x: xp.diagonal(x), X)],
    "trace": [(lambda xp, x: xp.trace(x), S), (lambda xp, x: xp.trace(x), X)],
    "expand_dims": [(lambda xp, x: xp.expand_dims(x, axis=-1), X)],
    "flip": [(lambda xp, x: xp.flip(x, axis=-1), X), (lambda xp, x: xp.flip(x), S)],
    "one_hot": [(lambda xp, x: x * xp.one_hot(np.array([2, 0]), 3), X)],
    "permute_dims": [(lambda xp, x: xp.permute_dims(x, (2, 0, 1)), S)],
    "reshape": [(lambda xp, x: xp.reshape(x, (3, -1)), X)],
    "roll": [
        (lambda xp, x: xp.roll(x, 1, axis=-1), X),
        (lambda xp, x: xp.roll(x, 4), X),
        (lambda xp, x: xp.roll(x, (1, 2), axis=(0, 1)), X),
    ],
    "squeeze": [(lambda xp, x: xp.squeeze(x[:, None, :], axis=1), X)],
    "take": [
        (lambda xp, x: xp.take(x, INDICES, axis=-1), X),
        (lambda xp, x: xp.take(x, np.array([1, 1, 0]), axis=0), X),
        (lambda xp, x, i: xp.take(x, i, axis=0), X.T, INDICES),
    ],
    "tril": [(lambda xp, x: xp.tril(x), S), (lambda xp, x: xp.tril(x, k=-1), X)],
    "triu": [(lambda xp, x: xp.triu(x, k=1), X)],
    "arange": [
        (lambda xp, x: x * (xp.arange(3) * 0.1), X),
        (lambda xp, x: x / xp.arange(4)[1:], X),
    ],
    "asarray": [
        (lambda xp, x: xp.asarray(x > 0) * 0.3 + x, X),
        (lambda xp, x: xp.asarray([x[0], 2 * x[1]]), V),
        (lambda xp, x: x * xp.asarray([1, 2, 3]), X),
    ],
    "eye": [(lambda xp, x: x @ xp.eye(3), X)],
    "ones": [(lambda xp, x: x + xp.ones((2, 1)), X), (lambda xp, x: x + xp.ones(3), X)],
    "zeros": [(lambda xp, x: x + xp.zeros((2, 1)), X)],
    "ones_like": [(lambda xp, x: x + xp.ones_like(x), X)],
    "zeros_like": [(lambda xp, x: x + xp.zeros_like(x), X)],
    "e": [(lambda xp, x: x * xp.e, X)],
    "inf": [(lambda xp, x: xp.where(x > 0, x, -xp.inf), X)],
    "newaxis": [(lambda xp, x: x[:, xp.newaxis], V)],
    "pi": [(lambda xp, x: x * (xp.pi + 1), X)],
}
TABLE = [
    pytest.param(name, case[0], case[1:], id=f"{name}-{i}")
    for name, cases in CASES.items()
    for i, case in enumerate(cases)
]
EPS = {"float64": 2**-52, "float32": 2**-23}


def test_the_table_of_cases_is_the_documented_list():
    assert set(CASES) == XP_NAMES


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("name", "fn", "arrays"), TABLE)
def test_values_and_dtypes_are_numpys(name, fn, arrays, dtype):
    (expected,) = backends.get("numpy").apply(fn, arrays, "float64")
    kind = np.dtype(bool) if name in COMPARISONS else np.dtype(dtype)
    for framework in backends.installed():
        backend = backends.get(framework)
        (value,) = backend.apply(fn, arrays, dtype)
        assert value.dtype == kind
        assert value.shape == expected.shape
        scale = 1 + np.max(np.abs(np.where(np.isfinite(expected), expected, 0)), initial=0)
        np.testing.assert_allclose(value, expected, rtol=0, atol=32 * EPS[dtype] * scale)
        if name in CONSTANTS or (name, framework, dtype) == ("arange", "numpy", "float32"):
            continue  # numpy makes float64 of integers and floats; never less than was asked for
        with backend.scope(dtype):
            xp = backend.namespace(dtype, "cpu")
            raw = fn(xp, *(backend.asarray(array, dtype) for array in arrays))
            assert backend.dtype_of(raw) in (str(kind), "float64")
            if dtype == "float32" and name != "arange":
                assert backend.dtype_of(raw) == str(kind)


@pytest.mark.parametrize(("name", "fn", "arrays"), TABLE)
def test_derivatives_are_those_of_jax(name, fn, arrays):
    if name in COMPARISONS:
        pytest.skip("a comparison has no derivative")
    for wrt, array in enumerate(arrays):
        if array.dtype.kind != "f":
            continue
        outputs, truth = backends.get("jax").derivative(fn, arrays, wrt)
        assert truth.shape == outputs[0].shape + array.shape
        for framework in FRAMEWORKS:
            _, jacobian = backends.get(framework).derivative(fn, arrays, wrt)
            assert jacobian.dtype == np.float64
            assert jacobian.shape == truth.shape
            scale = 1 + np.max(np.abs(truth))
            np.testing.assert_allclose(jacobian, truth, rtol=0, atol=1e-13 * scale)


def test_jax_agrees_with_closed_forms():
    # The other derivatives are compared with JAX's, so that a few of its own are pinned here.
    for fn, expected in (
        (lambda xp, x: xp.sigmoid(x), lambda x: 1 / (2 + np.exp(x) + np.exp(-x))),
        (lambda xp, x: xp.erf(x), lambda x: 2 / np.sqrt(np.pi) * np.exp(-x * x)),
        (lambda xp, x: xp.pow(x, 3), lambda x: 3 * x * x),
    ):
        _, jacobian = backends.get("jax").derivative(fn, [V], 0)
        np.testing.assert_allclose(jacobian, np.diag(expected(V)), rtol=1e-13)


@pytest.mark.parametrize("framework", backends.installed())
def test_numbers_alone_give_a_python_float(framework):
    xp = backends.get(framework).namespace("float32", "cpu")
    for value in (xp.sqrt(2 * xp.pi), xp.exp(1), xp.maximum(1, 2), xp.where(True, 1, 2.0)):
        assert type(value) is float
    for value in (xp.sum(2.5), xp.max(3), xp.clip(5, 0, 1), xp.pow(2, -1), xp.logsumexp(1.0)):
        assert type(value) is float
    assert xp.less(1, 2) is True
    assert xp.log(0.0) == -np.inf
    assert xp.pow(2, -1) == 0.5
    assert xp.std(2.0) == 0


@pytest.mark.parametrize("framework", backends.installed())
def test_sigmoid_neither_overflows_nor_loses_a_tail(framework):
    backend = backends.get(framework)
    x = np.array([-700.0, -40.0, 0.0, 40.0, 700.0])
    (value,) = backend.apply(lambda xp, x: xp.sigmoid(x), [x], "float64")
    np.testing.assert_allclose(value, np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x))), 1e-14)
    if backend.differentiates:
        _, jacobian = backend.derivative(lambda xp, x: xp.sigmoid(x), [x], 0)
        tail = np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))) ** 2
        np.testing.assert_allclose(np.diag(jacobian), tail, rtol=1e-13)


@pytest.mark.parametrize("framework", backends.installed())
def test_masks_and_integers_meet_floats_in_the_dtype_of_the_forward(framework):
    def leaky(xp, x):
        return x * ((x > 0) * 0.9 + 0.1) + (xp.arange(3) + 1) / 3

    (value,) = backends.get(framework).apply(leaky, [X], "float64")
    expected = X * np.where(X > 0, 0.9 + 0.1, 0.1) + np.arange(1, 4) / 3
    np.testing.assert_allclose(value, expected, rtol=1e-15)


@pytest.mark.parametrize("framework", backends.installed())
def test_an_unknown_name_teaches(framework):
    xp = backends.get(framework).namespace("float64", "cpu")
    with pytest.raises(UnsupportedOperation, match=r"xp\.softmax is not in the documented list"):
        xp.softmax  # noqa: B018
    with pytest.raises(UnsupportedOperation, match="nearest: logsumexp"):
        xp.log_sum_exp  # noqa: B018
    with pytest.raises(UnsupportedOperation, match=r"xp\.linalg\.norm"):
        xp.linalg.norm  # noqa: B018
    assert not hasattr(xp, "softmax")
    assert set(dir(xp)) == XP_NAMES


# ---- the derivative


def softmax(xp, z):
    e = xp.exp(z - xp.max(z, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_jacobian_of_a_softmax(framework, dtype):
    (a,), jacobian = backends.get(framework).derivative(softmax, [X], 0, dtype=dtype)
    expected = np.einsum("pq,pr,qs->pqrs", a, np.eye(2), np.eye(3))
    expected -= np.einsum("pq,ps,pr->pqrs", a, a, np.eye(2))
    assert jacobian.dtype == a.dtype == dtype
    np.testing.assert_allclose(jacobian, expected, rtol=0, atol=8 * EPS[dtype])


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_outputs_that_do_not_depend_on_the_input(framework):
    def forward(xp, x, y):
        return 2.0 * y, x * y, 3.5, x > 0, xp.sum(xp.sign(x))

    backend = backends.get(framework)
    for output, shape in enumerate([(3,), (2, 3), (), (2, 3), ()]):
        outputs, jacobian = backend.derivative(forward, [X, V], 0, output=output)
        assert [value.shape for value in outputs] == [(3,), (2, 3), (), (2, 3), ()]
        assert jacobian.shape == shape + X.shape
        assert jacobian.any() == (output == 1)
    with pytest.raises(UsageError, match=r"5 output\(s\); there is no number 5"):
        backend.derivative(forward, [X, V], 0, output=5)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (0, 3), (3, 0), (2, 1, 2), (1, 2, 1, 2)])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_all_ranks_and_empty_arrays(framework, shape):
    x = np.arange(np.prod(shape, dtype=int), dtype=float).reshape(shape) + 1
    backend = backends.get(framework)
    outputs, jacobian = backend.derivative(lambda xp, x: xp.log(x), [x], 0)
    assert outputs[0].shape == shape
    assert jacobian.shape == shape + shape
    np.testing.assert_array_equal(jacobian.reshape(x.size, x.size), np.diag(1 / x.ravel()))
    _, total = backend.derivative(lambda xp, x: xp.sum(x * x), [x], 0)
    np.testing.assert_array_equal(total, 2 * x)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_one_slot_at_a_time_and_the_inputs_stay_as_they_were(framework):
    x = X.copy()
    x.setflags(write=False)
    backend = backends.get(framework)
    _, first = backend.derivative(lambda _, x, y: x * x * y, [x, x], 0)
    _, second = backend.derivative(lambda _, x, y: x * x * y, [x, x], 1)
    np.testing.assert_allclose(first, 2 * second, rtol=1e-15)
    strided = np.repeat(X, 2, axis=1)[::-1, ::2]
    _, jacobian = backend.derivative(softmax, [strided], 0)
    np.testing.assert_array_equal(jacobian, backend.derivative(softmax, [strided.copy()], 0)[1])


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_integers_are_not_differentiated_by(framework):
    backend = backends.get(framework)
    with pytest.raises(UsageError, match="argument 1 holds int64 values: only real numbers"):
        backend.derivative(lambda xp, x, i: xp.take(x, i, axis=0), [X, np.array([0])], 1)


def test_numpy_cannot_differentiate():
    with pytest.raises(UnsupportedOperation, match="choose autograd, jax or torch"):
        backends.get("numpy").derivative(softmax, [X], 0)


def test_a_large_jacobian_in_chunks_is_the_same(monkeypatch):
    from gradcheck.backends import jax_

    x = RNG.standard_normal((13, 7))
    _, whole = backends.get("jax").derivative(softmax, [x], 0)
    monkeypatch.setattr(jax_, "_CHUNK", 91 * 20)
    _, chunked = backends.get("jax").derivative(softmax, [x], 0)
    np.testing.assert_allclose(chunked, whole, rtol=0, atol=1e-16)


def test_jax_compiles_once_for_a_key_and_shape():
    traced = []

    def forward(xp, x):
        traced.append(x.shape)
        return xp.exp(x)

    backend = backends.get("jax")
    for _ in range(3):
        backend.derivative(forward, [X], 0, key="counted")
        backend.apply(forward, [X], "float64", key="counted")
    assert traced == [X.shape] * 2
    backend.derivative(forward, [X[:1]], 0, key="counted")
    backend.derivative(forward, [X], 0, dtype="float32", key="counted")
    assert len(traced) == 4
    backend.derivative(forward, [X], 0)
    backend.derivative(forward, [X], 0)
    assert len(traced) == 6


def test_jax_compiles_without_the_cheap_options_where_they_are_unknown(monkeypatch):
    from gradcheck.backends import jax_

    monkeypatch.setattr(jax_, "_CHEAP_ON_CPU", {"xla_no_such_option": True})
    _, jacobian = backends.get("jax").derivative(lambda _, x: 3 * x, [V], 0)
    np.testing.assert_array_equal(jacobian, 3 * np.eye(3))


def test_torch_goes_row_by_row_where_there_is_no_batched_rule():
    torch = pytest.importorskip("torch")

    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, cotangent):
            (x,) = ctx.saved_tensors
            return torch.from_numpy(3 * cotangent.numpy() * x.detach().numpy() ** 2)

    _, jacobian = backends.get("torch").derivative(lambda _, x: Cube.apply(x), [V], 0)
    np.testing.assert_array_equal(jacobian, np.diag(3 * V**2))


# ---- finding backends, devices, and leaving the process alone


def test_importing_the_backends_imports_no_framework():
    code = (
        "import sys, json, gradcheck.backends as b; b.installed(); b.of([1.0], 2); b.BACKENDS;"
        "print(json.dumps([m for m in ('autograd', 'jax', 'torch', 'tensorflow') "
        "if m in sys.modules]))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == []


def test_arrays_know_their_backend():
    torch, jnp = pytest.importorskip("torch"), pytest.importorskip("jax.numpy")
    import autograd
    import jax

    assert backends.of(1.0, [1, 2.0], X).name == "numpy"
    assert backends.of(np.float32(1), True).name == "numpy"
    assert backends.of(X, torch.ones(2)).name == "torch"
    assert backends.of(torch.nn.Parameter(torch.ones(2))).name == "torch"
    assert backends.of(jnp.ones(2), 3).name == "jax"
    seen = []
    jax.jit(lambda x: seen.append(backends.of(x, 1.0).name) or x)(jnp.ones(2))
    autograd.grad(lambda x: seen.append(backends.of(x).name) or x)(1.0)
    assert seen == ["jax", "autograd"]
    with pytest.raises(UsageError, match="arrays of jax and torch in one call"):
        backends.of(jnp.ones(2), X, torch.ones(2))
    with pytest.raises(UsageError, match="got dict"):
        backends.of({})


def test_a_missing_backend_says_what_to_install(monkeypatch):
    backends.get.cache_clear()
    monkeypatch.setattr(backends, "_is_installed", lambda name: name == "numpy")
    try:
        with pytest.raises(
            MissingBackend, match=r'torch is not .*; pip install "gradcheck\[torch\]"'
        ):
            backends.get("torch")
        assert backends.installed() == ["numpy"]
    finally:
        backends.get.cache_clear()


def test_unknown_words_get_the_nearest():
    with pytest.raises(UsageError, match="unknown backend 'pytorch'; did you mean torch"):
        backends.get("pytorch")
    with pytest.raises(UsageError, match=r"'float46'.*did you mean float64"):
        backends.get("jax").namespace("float46", "cpu")
    with pytest.raises(UsageError, match="unknown device 'graphics'"):
        backends.get("torch").find_device("graphics")
    with pytest.raises(UsageError, match=r"unknown function 'sigmoyd'.*did you mean sigmoid"):
        backends.get("numpy").function("sigmoyd")


@pytest.mark.parametrize("framework", backends.installed())
def test_devices(framework):
    backend = backends.get(framework)
    assert backend.devices()[0] == "cpu"
    assert backend.find_device("cpu") == "cpu"
    assert backend.device_of(backend.asarray(X, "float64", "cpu")) == "cpu"
    with pytest.raises(MissingBackend, match=r"no device 'cuda:99' here; found: cpu"):
        backend.find_device("cuda:99")
    assert backend.version()[0].isdigit()


@pytest.mark.parametrize("framework", backends.installed())
def test_conversions_keep_kinds(framework):
    backend = backends.get(framework)
    with backend.scope("float32"):
        for value, kind in ((X, "float32"), (2.5, "float32"), (INDICES, "int"), (X > 0, "bool")):
            array = backend.asarray(value, "float32", "cpu")
            assert backend.dtype_of(array).startswith(kind)
            np.testing.assert_allclose(backend.to_numpy(array), value, rtol=1e-6)


def test_scopes_leave_the_process_as_it_was():
    torch, jax = pytest.importorskip("torch"), pytest.importorskip("jax")

    def state():
        return (
            jax.config.jax_enable_x64,
            jax.config.jax_default_matmul_precision,
            jax.numpy.ones(2).dtype,
            torch.get_default_dtype(),
            torch.get_float32_matmul_precision(),
            (torch.arange(2) * 0.5).dtype,
            np.geterr(),
        )

    before = state()
    for framework in backends.installed():
        backend = backends.get(framework)
        for dtype in ("float64", "float32"):
            with backend.scope(dtype):
                backend.apply(softmax, [X], dtype)
            assert state() == before
            with pytest.raises(ZeroDivisionError), backend.scope(dtype):
                raise ZeroDivisionError
            assert state() == before


@pytest.mark.gpu
@pytest.mark.parametrize("framework", ["jax", "torch"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_derivatives_on_a_gpu(framework, dtype):
    backend = backends.get(framework)
    if len(backend.devices()) < 2:
        pytest.skip(f"{framework} sees no CUDA device here")
    assert backend.find_device("gpu") == backend.find_device("cuda") == "cuda:0"
    x = RNG.standard_normal((33, 40))
    w = RNG.standard_normal((40, 5))

    def forward(xp, x, w):
        return softmax(xp, x @ w)

    outputs, jacobian = backend.derivative(forward, [x, w], 1, dtype=dtype, device="cuda")
    _, truth = backend.derivative(forward, [x, w], 1, dtype="float64", device="cpu")
    assert outputs[0].dtype == jacobian.dtype == dtype
    np.testing.assert_allclose(jacobian, truth, rtol=0, atol=400 * EPS[dtype])
    with backend.scope(dtype):
        assert backend.device_of(backend.asarray(x, dtype, "cuda:0")) == "cuda:0"


# ---- the user's own arrays


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
