"""The dense Jacobian by each framework: every rank, every output, once compiled."""

import numpy as np
import pytest
from xp_cases import EPS, RNG, V, X

from gradcheck import backends
from gradcheck.errors import UnsupportedOperation, UsageError

FRAMEWORKS = [name for name in backends.installed() if name != "numpy"]


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
    with pytest.raises(UnsupportedOperation, match="choose autograd, jax, torch or tensorflow"):
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


def test_torch_batches_and_rows_are_the_same(monkeypatch):
    from gradcheck.backends import torch_

    x = RNG.standard_normal((13, 7))
    _, whole = backends.get("torch").derivative(softmax, [x], 0)
    monkeypatch.setattr(torch_, "_CPU_CHUNK", 91 * 20)
    _, chunked = backends.get("torch").derivative(softmax, [x], 0)
    monkeypatch.setattr(torch_, "_BATCH_FROM", np.inf)
    _, rows = backends.get("torch").derivative(softmax, [x], 0)
    np.testing.assert_allclose(chunked, whole, rtol=0, atol=1e-16)
    np.testing.assert_allclose(rows, whole, rtol=0, atol=1e-16)


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
