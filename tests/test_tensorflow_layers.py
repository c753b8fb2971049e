"""TensorFlow and Keras layers in, TensorFlow rules out."""

# ruff: noqa: ARG005 - signatures are given
from __future__ import annotations

import functools
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from gradcheck import as_tensorflow, as_torch, backends, load, real, verify_layer
from gradcheck.errors import ShapeError, UsageError
from gradcheck.library import bundled, resolve

# Not by importing it: whoever runs other tests only collects this file.
if importlib.util.find_spec("tensorflow") is None:
    pytest.skip("TensorFlow is not installed", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
FOLDER = Path(__file__).parent.parent / "examples" / "custom_layers"
RNG = np.random.default_rng(0)
verify = functools.partial(verify_layer, oracles=["autograd"], profile="quick")


@pytest.fixture(scope="module")
def tf():
    backends.get("tensorflow")
    import tensorflow

    return tensorflow


def add(xp, x, b):
    return xp.add(x, b)


ADD = {"of": add, "inputs": {"x": real("m n"), "b": real("n")}}


def verdicts(report):
    return {c.input: str(c.verdict) for c in report.checks}


def custom(tf, gradient, forward=None):
    @tf.custom_gradient
    def added(x, b):
        return (forward or tf.add)(x, b), gradient

    return added


# ---------------------------------------------------------------- tf.custom_gradient


def test_a_right_function_agrees(tf):
    report = verify(custom(tf, lambda g: (g, tf.reduce_sum(g, 0))), **ADD)
    assert report.ok, str(report)
    assert "added" in str(report)


def test_wrong_gradients_are_looked_at_raw(tf):
    cases = [
        (lambda g: (g, g), "b", "b was broadcast, so sum over axis 0"),
        (
            lambda g: (g, tf.cast(tf.reduce_sum(g, 0), tf.float32)),
            "b",
            "the gradient of b is float32",
        ),
        (lambda g: (g, None), "b", "the gradient of b is None"),
        (lambda g: (-g, tf.reduce_sum(g, 0)), "x", "The sign is wrong"),
        (lambda g: (tf.ones_like(g), tf.reduce_sum(g, 0)), "x", "ot linear in the cotangent"),
    ]
    for gradient, name, words in cases:
        report = verify(custom(tf, gradient), **ADD)
        assert verdicts(report)[name] == "refuted", str(report)
        assert words in str(report)


def test_another_forward_is_refuted_as_such(tf):
    report = verify(
        custom(tf, lambda g: (g, tf.reduce_sum(g, 0)), forward=lambda x, b: x + b + 1e-9), **ADD
    )
    assert set(verdicts(report).values()) == {"refuted"}
    assert "another function than `of`" in str(report)


def test_plain_functions_and_low_precision(tf):
    assert verify(lambda x, b: x + b, **ADD, framework="tensorflow").ok
    right = custom(tf, lambda g: (g, tf.reduce_sum(g, 0)))
    assert verify(right, **ADD, dtypes=["float32", "bfloat16"]).ok


# ---------------------------------------------------------------- Keras layers


def test_a_dense_layer_in_its_own_dtype(tf):  # noqa: ARG001
    import keras

    for dtype in ("float64", "float32"):
        layer = keras.layers.Dense(3, dtype=dtype)
        layer.build((None, 4))
        before = [np.array(w) for w in layer.get_weights()]
        of = load("weighted_sum")("x", "kernel", "bias")
        report = verify(layer, of=of)
        assert report.ok, str(report)
        assert {c.dtype for c in report.checks} == {dtype}
        assert set(verdicts(report)) == {"x", "kernel", "bias"}
        for old, new in zip(before, layer.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)


def test_what_a_keras_layer_does_not_say(tf):  # noqa: ARG001
    import keras

    layer = keras.layers.Dense(3, dtype="float64")
    of = load("weighted_sum")("x", "kernel", "bias")
    with pytest.raises(UsageError, match="Dense has no weights yet: build it first"):
        verify(layer, of=of)
    layer.build((None, 4))
    with pytest.raises(
        UsageError, match=r"has the trainable weight 'bias', which is no input of `of`"
    ):
        verify(
            layer,
            of=lambda xp, x, kernel: x @ kernel,
            inputs={"x": real("m n"), "kernel": real("n o")},
        )
    with pytest.raises(UsageError, match="training= is for a Keras layer"):
        verify(keras.ops.relu, of="relu", framework="tensorflow", training=True)


def test_training_mode_is_said(tf):  # noqa: ARG001
    import keras

    class Doubled(keras.layers.Layer):
        def call(self, x, training=False):
            return 2 * x if training else x

    layer = Doubled(dtype="float64")
    layer.build((None, 3))
    inputs = {"x": real("m n")}
    report = verify(layer, of=lambda xp, x: 2 * x, inputs=inputs, training=True)
    assert report.ok, str(report)
    assert "Doubled (training=True)" in str(report)
    assert not verify(layer, of=lambda xp, x: 2 * x, inputs=inputs, training=False).ok


def test_the_example(tf):  # noqa: ARG001
    spec = importlib.util.spec_from_file_location("scale_keras", FOLDER / "scale_keras.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["scale_keras"] = module
    spec.loader.exec_module(module)
    right, wrong = module.layers()
    report = module.verify(right)
    assert report.ok, str(report)
    report = module.verify(wrong)
    assert {c.input for c in report.checks if c.verdict == "refuted"} == {"scale"}
    assert "Refuted: ScaleForSums, input scale (" in str(report)
    assert "scale[2]" in str(report) or "scale[" in str(report)
    assert "Not linear in the cotangent" in str(report)


# ---------------------------------------------------------------- rules out


@pytest.mark.parametrize("name", [t.name for t in bundled()])
def test_every_bundled_spec_is_right_as_a_rule(name):
    report = verify(as_tensorflow(name), of=name)
    assert report.ok, str(report)


RULES = ["softmax", "cross_entropy", "rms_norm", "gelu", "embedding", "dropout", "batch_norm"]


@pytest.mark.parametrize("name", RULES)
def test_twice_and_traced(tf, name, monkeypatch):
    import torch

    path = f"examples/specs/{name}.py::{name}"
    op = load(name) if name in ("softmax", "cross_entropy") else resolve([path])[0].operation
    sizes = {a: 2 + i for i, a in enumerate(op.axes)}
    params = {n: p.simplest() for n, p in op.params.items()}
    values = [np.array(d.simplest(sizes, params)) for d in op.inputs.values()]
    own = [d.differentiable for d in op.inputs.values()]
    values = [v + RNG.random(v.shape) if d else v for v, d in zip(values, own, strict=True)]
    wrt = [i for i, n in enumerate(op.inputs) if n in op.differentiable]
    leaves = [torch.tensor(v, requires_grad=i in wrt) for i, v in enumerate(values)]
    moving = [leaves[i] for i in wrt]
    loss = torch.sin(as_torch(op)(*leaves, **params)).sum()
    first = torch.autograd.grad(loss, moving, create_graph=True)
    second = torch.autograd.grad(
        sum(g.square().sum() for g in first), moving, materialize_grads=True
    )
    rule, tensors = as_tensorflow(op), [tf.constant(v) for v in values]

    def run(*given):
        chosen = [given[i] for i in wrt]
        with tf.GradientTape() as outer:
            outer.watch(chosen)
            with tf.GradientTape() as inner:
                inner.watch(chosen)
                value = tf.reduce_sum(tf.sin(rule(*given, **params)))
            one = inner.gradient(value, chosen)
            total = tf.add_n([tf.reduce_sum(g * g) for g in one])
        return one, outer.gradient(total, chosen, unconnected_gradients="zero")

    # Never the expressions term by term.
    monkeypatch.setattr(type(op), "pull", lambda *_: pytest.fail("term by term"))
    for function in (run, tf.function(run, autograph=False)):
        one, two = function(*tensors)
        for got, want in zip((*one, *two), (*first, *second), strict=True):
            np.testing.assert_allclose(got, want.detach(), rtol=1e-10, atol=1e-12)


def test_a_rule_in_low_precision(tf):  # noqa: ARG001
    report = verify(as_tensorflow("softmax"), of="softmax", dtypes=["float32", "bfloat16"])
    assert report.ok, str(report)


def test_a_keras_model_trains_through_a_rule(tf):
    import keras

    keras.utils.set_random_seed(0)
    rule = as_tensorflow("softmax_cross_entropy")
    x = RNG.standard_normal((30, 4)).astype("float32")
    y = np.eye(3, dtype="float32")[np.argmax(x[:, :3], axis=1)]
    model = keras.Sequential([keras.layers.Dense(3)])
    model.build((None, 4))
    losses = []
    for _ in range(30):
        with tf.GradientTape() as tape:
            loss = rule(model(x), y)
        gradients = tape.gradient(loss, model.trainable_variables)
        for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
            variable.assign_sub(0.5 * gradient)
        losses.append(float(loss))
    assert losses[-1] < 0.5 * losses[0]


def test_calls_that_do_not_fit(tf):
    rule = as_tensorflow("weighted_sum")
    x, w, b = tf.ones((2, 3)), tf.ones((3, 4)), tf.ones(4)
    with pytest.raises(ShapeError, match="so n = 2, but x has shape"):
        rule(x, w[:2], b)
    with pytest.raises(UsageError, match="missing b"):
        rule(x, w)
    unknown = tf.function(lambda x: rule(x, w, b), input_signature=[tf.TensorSpec((None, 3))])
    with pytest.raises(UsageError, match="give the tensors known shapes"):
        unknown(x)
