"""TensorFlow as a backend, as an oracle and as a spec's own implementation."""

# ruff: noqa: ARG005 - the forwards of a table share one signature
import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from xp_cases import CASES, EPS, RNG, S, V, X, Y

from gradcheck import Spec, backends, delta, einsum, load, ones, probability, real, verify
from gradcheck.backends.names import COMPARISONS, XP_NAMES
from gradcheck.errors import MissingBackend, UsageError

# Not by importing it: whoever runs other tests only collects this file.
if importlib.util.find_spec("tensorflow") is None:
    pytest.skip("TensorFlow is not installed", allow_module_level=True)

TABLE = [
    pytest.param(name, case[0], case[1:], id=f"{name}-{i}")
    for name, cases in CASES.items()
    for i, case in enumerate(cases)
]
DIFFERENTIABLE = [case for case in TABLE if case.values[0] not in COMPARISONS]


@pytest.fixture(scope="module")
def backend():
    return backends.get("tensorflow")


@pytest.fixture(scope="module")
def tf():
    backends.get("tensorflow")
    import tensorflow

    return tensorflow


def softmax(xp, z):
    e = xp.exp(z - xp.max(z, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)


# ---- the documented names


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("name", "fn", "arrays"), TABLE)
def test_values_and_dtypes_are_numpys(backend, name, fn, arrays, dtype):
    (expected,) = backends.get("numpy").apply(fn, arrays, "float64")
    (value,) = backend.apply(fn, arrays, dtype)
    assert value.dtype == (np.dtype(bool) if name in COMPARISONS else np.dtype(dtype))
    assert value.shape == expected.shape
    scale = 1 + np.max(np.abs(np.where(np.isfinite(expected), expected, 0)), initial=0)
    np.testing.assert_allclose(value, expected, rtol=0, atol=32 * EPS[dtype] * scale)


@pytest.mark.parametrize(("name", "fn", "arrays"), DIFFERENTIABLE)
def test_derivatives_are_those_of_jax(backend, name, fn, arrays):  # noqa: ARG001
    for wrt, array in enumerate(arrays):
        if array.dtype.kind != "f":
            continue
        _, truth = backends.get("jax").derivative(fn, arrays, wrt)
        _, jacobian = backend.derivative(fn, arrays, wrt)
        assert jacobian.dtype == np.float64
        assert jacobian.shape == truth.shape
        scale = 1 + np.max(np.abs(truth))
        np.testing.assert_allclose(jacobian, truth, rtol=0, atol=1e-13 * scale)


def test_the_namespace_is_the_documented_list(backend):
    xp = backend.namespace("float32", "cpu")
    assert set(dir(xp)) == XP_NAMES
    assert type(xp.sqrt(2 * xp.pi)) is float
    assert xp.less(1, 2) is True


def test_logaddexp_keeps_small_results_infinities_and_ties(backend):
    x = np.array([0.0, -1e-3, -np.inf, 2.0, 1e300, -np.inf])
    y = np.array([-40.0, -1e3, -np.inf, 2.0, -1e300, 1.0])
    (value,) = backend.apply(lambda xp, x, y: xp.logaddexp(x, y), [x, y], "float64")
    np.testing.assert_allclose(value, np.logaddexp(x, y), rtol=1e-15)
    _, jacobian = backend.derivative(lambda xp, x, y: xp.logaddexp(x, y), [x, y], 0)
    assert np.isfinite(jacobian).all()
    assert jacobian[3, 3] == 0.5


# ---- operators, without NumPy behaviour switched on for the process

OPERATORS = [
    lambda xp, x, y: x.T @ y,
    lambda xp, x, y: x @ y[0] + y[0] @ x.T,
    lambda xp, x, y: (x[:, None] * y[None]) ** 3 / x.shape[0],
    lambda xp, x, y: 2 - x + 1 / y - -x * 3,
    lambda xp, x, y: np.array([1.0, 2.0, 3.0]) * x - x / np.arange(1, 4),
    lambda xp, x, y: 2.0**x + abs(x) ** 0.5 + xp.sum(x, axis=-1)[:, None] ** -1,
    lambda xp, x, y: x * ((x > 0) * 0.9 + 0.1) + (xp.arange(3) + 1) / 3,
    lambda xp, x, y: xp.where((x > 0) & ~(y > 0) | (x == y), x, 0.5),
    lambda xp, x, y: xp.sum(x > 0) * x + xp.mean(y > 0) * y,
    lambda xp, x, y: sum(row * row for row in x) + len(x),
    lambda xp, x, y: x[..., ::-1] + x[-1, 1:2],
    lambda xp, x, y: x[np.array([0, -1]), np.array([2, 0])],
    lambda xp, x, y: x[:, np.array([[2, 0], [1, -1]])],
    lambda xp, x, y: xp.stack([x, y])[:, 1, [0, 2]],
    lambda xp, x, y: xp.stack([x, y])[xp.arange(2), :, xp.arange(2)],
    lambda xp, x, y: x[np.array([[True, False, True], [False, True, False]])],
    lambda xp, x, y: x.mT.size * x.mT,
]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("which", range(len(OPERATORS)))
def test_operators_work_as_numpys_do(backend, which, dtype):
    fn = OPERATORS[which]
    # numpy makes float64 of integers and floats, so that the values are compared, not its dtype
    (expected,) = backends.get("numpy").apply(fn, [X, Y], "float64")
    (value,) = backend.apply(fn, [X, Y], dtype)
    assert value.shape == expected.shape
    assert value.dtype == dtype
    np.testing.assert_allclose(value, expected, rtol=0, atol=64 * EPS[dtype] * abs(expected).max())
    if dtype == "float64":
        _, truth = backends.get("jax").derivative(fn, [X, Y], 0)
        _, jacobian = backend.derivative(fn, [X, Y], 0)
        np.testing.assert_allclose(jacobian, truth, rtol=0, atol=1e-13 * (1 + abs(truth).max()))


# ---- the Jacobian


@pytest.mark.parametrize("shape", [(), (0,), (1,), (0, 3), (3, 0), (2, 1, 2), (1, 2, 1, 2)])
def test_all_ranks_and_empty_arrays(backend, shape):
    x = np.arange(np.prod(shape, dtype=int), dtype=float).reshape(shape) + 1
    outputs, jacobian = backend.derivative(lambda xp, x: xp.log(x), [x], 0)
    assert outputs[0].shape == shape
    assert jacobian.shape == shape + shape
    np.testing.assert_array_equal(jacobian.reshape(x.size, x.size), np.diag(1 / x.ravel()))


def test_outputs_that_do_not_depend_on_the_input(backend):
    def forward(xp, x, y):
        return 2.0 * y, x * y, 3.5, x > 0, xp.sum(xp.sign(x))

    for output, shape in enumerate([(3,), (2, 3), (), (2, 3), ()]):
        outputs, jacobian = backend.derivative(forward, [X, V], 0, output=output)
        assert [value.shape for value in outputs] == [(3,), (2, 3), (), (2, 3), ()]
        assert jacobian.shape == shape + X.shape
        assert jacobian.any() == (output == 1)
    with pytest.raises(UsageError, match=r"5 output\(s\); there is no number 5"):
        backend.derivative(forward, [X, V], 0, output=5)


def test_rows_batches_and_chunks_are_the_same(backend, monkeypatch, caplog):
    from gradcheck.backends import tensorflow_

    x = RNG.standard_normal((13, 7))
    assert x.size > tensorflow_._BATCH_FROM
    _, whole = backend.derivative(softmax, [x], 0)
    monkeypatch.setattr(tensorflow_, "_CHUNK", 91 * 20)
    for _ in range(7):  # TensorFlow warns of what is traced again and again
        _, chunked = backend.derivative(softmax, [x], 0)
    monkeypatch.setattr(tensorflow_, "_BATCH_FROM", np.inf)
    _, rows = backend.derivative(softmax, [x], 0)
    np.testing.assert_allclose(chunked, whole, rtol=0, atol=1e-16)
    np.testing.assert_allclose(rows, whole, rtol=0, atol=1e-16)
    assert not caplog.records


def test_an_operation_without_a_vectorised_form_goes_row_by_row(backend, tf, monkeypatch):
    from gradcheck.backends import tensorflow_

    @tf.custom_gradient
    def cube(x):
        def back(cotangent):
            slope = tf.numpy_function(lambda c, x: 3 * c * x**2, [cotangent, x], tf.float64)
            return tf.ensure_shape(slope, x.shape)

        return x**3, back

    tried = []
    batched = tensorflow_._batched_rows
    monkeypatch.setattr(tensorflow_, "_batched_rows", lambda *a: tried.append(batched(*a)))
    monkeypatch.setattr(tensorflow_, "_BATCH_FROM", 1)
    _, jacobian = backend.derivative(lambda _, x: cube(tf.convert_to_tensor(x)), [V], 0)
    np.testing.assert_array_equal(jacobian, np.diag(3 * V**2))
    assert tried == [None]


def test_the_callers_arrays_stay_as_they_are(backend):
    x = X.copy()
    x.setflags(write=False)
    _, first = backend.derivative(lambda _, x, y: x * x * y, [x, x], 0)
    _, second = backend.derivative(lambda _, x, y: x * x * y, [x, x], 1)
    np.testing.assert_allclose(first, 2 * second, rtol=1e-15)
    with pytest.raises(UsageError, match="argument 1 holds int64 values"):
        backend.derivative(lambda xp, x, i: xp.take(x, i, axis=0), [X, np.array([0])], 1)


def test_the_same_bits_every_time(backend):
    x = RNG.standard_normal((40, 30))
    w = RNG.standard_normal((30, 3))
    runs = [backend.derivative(lambda _, x, w: x @ w, [x, w], 1)[1] for _ in range(3)]
    assert runs[0].tobytes() == runs[1].tobytes() == runs[2].tobytes()


def test_devices(backend):
    assert backend.devices()[0] == "cpu"
    assert backend.device_of(backend.asarray(X, "float64", "cpu")) == "cpu"
    with pytest.raises(MissingBackend, match=r"no device 'cuda:99' here; found: cpu"):
        backend.find_device("cuda:99")
    assert backend.version()[0].isdigit()


# ---- specs on the user's own tensors


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_derivatives_of_a_spec_on_tensors(tf, dtype):
    spec, z = load("softmax"), tf.constant(X, dtype)
    v = tf.constant(Y, dtype)
    expected = load("softmax").dense("z")(z=X)
    got = {
        "dense": spec.dense("z")(z=z),
        "structured": spec.structured("z")(z=z).dense(),
        "jvp": spec.jvp("z")(v, z=z),
        "vjp": spec.vjp("z")(v, z=z)["z"],
        "left": v @ spec.structured("z")(z=z),
    }
    wanted = {
        "dense": expected,
        "structured": expected,
        "jvp": np.einsum("pqrs,rs->pq", expected, Y),
        "vjp": np.einsum("pq,pqrs->rs", Y, expected),
        "left": np.einsum("pq,pqrs->rs", Y, expected),
    }
    for name, value in got.items():
        assert isinstance(value, tf.Tensor), name
        assert value.dtype.name == dtype
        np.testing.assert_allclose(value.numpy(), wanted[name], rtol=0, atol=32 * EPS[dtype])
    np.testing.assert_allclose(np.asarray(spec.value(z=z)).sum(-1), 1, rtol=4 * EPS[dtype])


def test_the_gradient_of_a_chain_is_the_tapes_also_when_traced(tf):
    chain = load("weighted_sum") >> load("softmax") >> load("cross_entropy")
    x, w, b = (tf.constant(RNG.standard_normal(s)) for s in ((5, 4), (4, 3), (3,)))
    y = tf.constant(np.eye(3)[[0, 2, 1, 1, 0]])
    with tf.GradientTape() as tape:
        tape.watch([w, b])
        logits = x @ w + b
        loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(y, logits))
    expected = tape.gradient(loss, {"w": w, "b": b})
    gradient = chain.gradient("w", "b")
    traced = tf.function(lambda x, w, b, y: gradient(x=x, w=w, b=b, y=y), autograph=False)
    for got in (gradient(x=x, w=tf.Variable(w), b=b, y=y), traced(x, w, b, y)):
        for name in ("w", "b"):
            assert isinstance(got[name], tf.Tensor)
            np.testing.assert_allclose(got[name], expected[name], rtol=0, atol=1e-15)


def test_diagonals_are_written_without_identity_matrices(backend, tf):
    for out in ("p", "pq", "pqpq", "ppqq", "qpppq", "qp"):
        sizes = {"p": 2, "q": 3}
        letters = "".join(sorted(set(out)))
        core = RNG.standard_normal([sizes[letter] for letter in letters])
        start = RNG.standard_normal([sizes[letter] for letter in out])
        reference = backends.get("numpy").add_diagonal(start.copy(), core, out, letters)
        result = backend.add_diagonal(tf.constant(start), tf.constant(core), out, letters)
        np.testing.assert_array_equal(result.numpy(), reference)


def test_tensors_know_their_backend(tf):
    assert backends.of(tf.constant(1.0), 2.0, X).name == "tensorflow"
    assert backends.of(tf.Variable([1.0])).name == "tensorflow"


# ---- the oracle

DTYPES = ["float64", "float32"]


@pytest.mark.parametrize(
    "target",
    [
        "weighted_sum",
        "softmax",
        "cross_entropy",
        "sigmoid",
        "relu",
        "transpose",
        "softmax_cross_entropy",
        "weighted_sum >> softmax >> cross_entropy",
        "weighted_sum >> sigmoid >> softmax >> cross_entropy",
    ],
)
def test_the_library_agrees_with_tensorflow(target):
    report = verify(target, oracles=["tensorflow"], profile="quick", dtypes=DTYPES)
    assert report.ok, str(report)
    assert {(check.oracle, check.verdict) for check in report.checks} == {("tensorflow", "agrees")}
    assert {check.dtype for check in report.checks} == set(DTYPES)


@pytest.mark.parametrize(
    "name",
    ["softmax", "sigmoid", "relu", "softmax_cross_entropy", "weighted_sum", "transpose"],
)
def test_tensorflows_own_functions_mean_the_same(name):
    spec = load(name)
    only = Spec(
        spec.forward,
        inputs=spec.inputs,
        output=spec.outputs and {n: " ".join(s) for n, s in spec.outputs.items()},
        jacobian=spec.jacobian,
        native={"tensorflow": spec.native["tensorflow"]},
        name=name,
    )
    report = verify(only, oracles=["native"], profile="quick", dtypes=DTYPES)
    assert report.ok, str(report)
    assert {check.verdict for check in report.checks} == {"agrees"}


def test_natives_are_given_plain_tensors(tf):
    seen = []

    def own(z):
        seen.append(isinstance(z, tf.Tensor))
        return tf.nn.softmax(z)

    spec = Spec(
        softmax,
        inputs={"z": real("m n")},
        output={"a": "m n"},
        jacobian=load("softmax").jacobian,
        native={"tensorflow": own},
        name="own",
    )
    assert verify(spec, oracles=["native"], profile="quick").ok
    assert set(seen) == {True}


def test_a_wrong_softmax_is_refuted():
    wrong = Spec(
        softmax,
        inputs={"z": real("m n")},
        output={"a": probability("m n")},
        jacobian={
            "z": einsum("pq,pr,qs->pqrs", "a", delta, delta)
            - einsum("ps,ps,pr,q->pqrs", "a", "a", delta, ones),
        },
        name="wrong_softmax",
    )
    for dtype in DTYPES:
        report = verify(wrong, oracles=["tensorflow"], profile="quick", dtypes=[dtype])
        assert [check.verdict for check in report.checks] == ["refuted"]
        (check,) = report.checks
        assert check.counterexample is not None
        assert "tensorflow" in str(report)


def test_a_wrong_native_function_is_refuted(tf):
    spec = Spec(
        lambda xp, z: xp.sigmoid(z),
        inputs={"z": real("m n")},
        output={"s": "m n"},
        jacobian=load("sigmoid").jacobian,
        native={"tensorflow": lambda z: tf.math.sigmoid(2 * z) / 2},
        name="halved",
    )
    (check,) = verify(spec, oracles=["native"], profile="quick").checks
    assert check.verdict == "refuted"


# ---- promises: lean imports, a process left as it was

STATE = """
import json, os, sys, warnings
import numpy as np
from gradcheck import backends, verify

def state():
    import tensorflow as tf
    return [
        dict(os.environ), np.geterr(), "keras" in sys.modules, hasattr(tf.constant(1.0), "T"),
        tf.constant(1.0).dtype.name, tf.get_logger().level, tf.executing_eagerly(),
        tf.config.experimental.tensor_float_32_execution_enabled(),
        tf.config.get_soft_device_placement(), len(warnings.filters),
        tf.config.threading.get_intra_op_parallelism_threads(),
    ]
"""


def run_python(code):
    env = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env
    )


def test_tensorflow_is_not_imported_unless_it_is_asked_for():
    code = (
        "import sys, json, gradcheck; r = gradcheck.verify('softmax', oracles=['torch'], "
        "profile='quick'); print(json.dumps([r.ok, 'torch' in sys.modules, "
        "any(m in sys.modules for m in ('tensorflow', 'keras'))]))"
    )
    assert json.loads(run_python(code).stdout) == [True, True, False]


def test_a_process_is_left_as_it_was_and_the_import_is_quiet():
    code = STATE + (
        "environment = dict(os.environ)\n"
        "backends.get('tensorflow')\n"
        "same = dict(os.environ) == environment\n"
        "before = state()\n"
        "r = verify('softmax', oracles=['tensorflow'], profile='quick', dtypes=DTYPES)\n"
        "print(json.dumps([same, r.ok, state() == before]))\n"
    ).replace("DTYPES", repr(DTYPES))
    done = run_python(code)
    assert json.loads(done.stdout) == [True, True, True]
    assert done.stderr == ""


def test_an_import_that_fails_tells_all(tmp_path):
    (tmp_path / "tensorflow.py").write_text(
        "import os\nos.write(2, b'the cause')\nraise ImportError('broken')\n", encoding="utf-8"
    )
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nimport gradcheck.backends.tensorflow_"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "the cause" in done.stderr
    assert "ImportError: broken" in done.stderr


def test_stacks_of_matrices(backend):
    inverse, determinant = (
        backend.apply(lambda xp, x, f=f: getattr(xp.linalg, f)(x), [S], "float64")[0]
        for f in ("inv", "det")
    )
    np.testing.assert_allclose(inverse @ S, np.broadcast_to(np.eye(2), S.shape), atol=1e-14)
    np.testing.assert_allclose(determinant, np.linalg.det(S), rtol=1e-13)
