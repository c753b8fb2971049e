"""Every backend implements the documented list of names: values, dtypes, derivatives, promises."""

import json
import subprocess
import sys

import numpy as np
import pytest
from xp_cases import CASES, EPS, INDICES, V, X

from gradcheck import backends
from gradcheck.backends.names import COMPARISONS, CONSTANTS, XP_NAMES
from gradcheck.errors import MissingBackend, UnsupportedOperation, UsageError

FRAMEWORKS = [name for name in backends.installed() if name != "numpy"]
TABLE = [
    pytest.param(name, case[0], case[1:], id=f"{name}-{i}")
    for name, cases in CASES.items()
    for i, case in enumerate(cases)
]
DIFFERENTIABLE = [case for case in TABLE if case.values[0] not in COMPARISONS]


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


@pytest.mark.parametrize(("name", "fn", "arrays"), DIFFERENTIABLE)
def test_derivatives_are_those_of_jax(name, fn, arrays):  # noqa: ARG001
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
                backend.apply(lambda xp, x: xp.exp(x), [X], dtype)
            assert state() == before
            with pytest.raises(ZeroDivisionError), backend.scope(dtype):
                raise ZeroDivisionError
            assert state() == before
