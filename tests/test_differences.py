"""Differences tell the truth within their own error, or say that they cannot."""

import importlib
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradcheck.backends import get
from gradcheck.errors import UsageError
from gradcheck.oracles.differences import differences

# A name, the function, its derivative in closed form, and where it lives.
SMOOTH = {
    "exp": (lambda xp, x: xp.exp(x), np.exp, (-600, 600)),
    "log": (lambda xp, x: xp.log(x), lambda x: 1 / x, (1e-12, 1e12)),
    "sqrt": (lambda xp, x: xp.sqrt(x), lambda x: 0.5 / np.sqrt(x), (1e-12, 1e12)),
    "sin": (lambda xp, x: xp.sin(x), np.cos, (-1e6, 1e6)),
    "fast": (lambda xp, x: xp.sin(300 * x), lambda x: 300 * np.cos(300 * x), (-50, 50)),
    "tanh": (lambda xp, x: xp.tanh(x), lambda x: 1 / np.cosh(x) ** 2, (-300, 300)),
    "erf": (lambda xp, x: xp.erf(x), lambda x: 2 / np.sqrt(np.pi) * np.exp(-x * x), (-20, 20)),
    "cube": (lambda _, x: x * x * x - x, lambda x: 3 * x * x - 1, (-1e6, 1e6)),
    "reciprocal": (lambda _, x: 1 / x, lambda x: -1 / (x * x), (1e-6, 1e6)),
    "logistic": (
        lambda xp, x: xp.sigmoid(x),
        lambda x: 1 / (2 + np.exp(x) + np.exp(-x)),
        (-300, 300),
    ),
}


def at(fn, x, **options):
    jacobian, error = differences(fn, [np.array([x])], 0, **options)
    return jacobian[0, 0], error[0, 0]


@st.composite
def points(draw):
    name = draw(st.sampled_from(sorted(SMOOTH)))
    low, high = SMOOTH[name][2]
    exponent = draw(st.floats(-6, 6))
    sign = draw(st.sampled_from([1.0, -1.0])) if low < 0 else 1.0
    return name, float(np.clip(sign * 10.0**exponent, low, high))


@settings(max_examples=400, deadline=None, derandomize=True)
@given(points())
def test_the_truth_lies_within_the_error_and_a_wrong_derivative_outside(point):
    name, x = point
    fn, derivative, _ = SMOOTH[name]
    value, error = at(fn, x)
    truth = derivative(x)
    assert np.isfinite(error)
    # The closed form rounds too, and `sin(300 x)` rounds its argument.
    slack = 4e-16 * abs(truth) + (1e-14 * 300 * 300 * abs(x) if name == "fast" else 0)
    assert abs(value - truth) <= error + slack
    if error < 1e-5 * abs(truth):
        assert abs(value - truth * (1 + 1e-4)) > error


@pytest.mark.parametrize("name", sorted(SMOOTH))
@pytest.mark.parametrize("x", [1e-6, 1e-3, 0.7, 1.0])
def test_the_error_is_small_enough_to_refute(name, x):
    fn, derivative, _ = SMOOTH[name]
    assert at(fn, x)[1] < 1e-6 * abs(derivative(x))


# ---- where there is no derivative, there is no confident number

KINKED = {
    "relu": (lambda xp, x: xp.maximum(x, 0.0), lambda x: float(x > 0)),
    "abs": (lambda xp, x: xp.abs(x), np.sign),
    "step": (lambda xp, x: xp.where(x > 0, 1.0, 0.0), lambda _: 0.0),
    "elbow": (
        lambda xp, x: xp.where(x > 0, xp.exp(x), 1 + 2 * x),
        lambda x: np.exp(x) if x > 0 else 2,
    ),
}


@pytest.mark.parametrize("name", ["relu", "abs", "step", "elbow"])
def test_at_a_kink_the_error_is_infinite(name):
    assert at(KINKED[name][0], 0.0)[1] == np.inf


@pytest.mark.parametrize("name", sorted(KINKED))
@pytest.mark.parametrize("x", [1e-5, -1e-5, 3e-3, -0.2, 1.0])
def test_beside_a_kink_the_derivative_is_found(name, x):
    fn, derivative = KINKED[name]
    value, error = at(fn, x)
    assert abs(value - derivative(x)) <= error < 1e-5


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.sampled_from(sorted(KINKED)),
    st.floats(-9, 0),
    st.sampled_from([1.0, -1.0]),
    st.sampled_from([0.0, 1.0, -30.0]),
)
def test_a_kink_within_the_stencil_gives_no_confident_wrong_number(name, exponent, sign, centre):
    fn, derivative = KINKED[name]
    x = centre + sign * 10.0**exponent
    value, error = at(lambda xp, x: fn(xp, x - centre), x)
    if np.isfinite(error):
        assert abs(value - derivative(x - centre)) <= error


def test_outside_the_domain_the_error_is_infinite():
    assert at(lambda xp, x: xp.log(x), -1.0)[1] == np.inf
    assert at(lambda xp, x: xp.sqrt(x), 0.0)[1] == np.inf


def test_steps_that_leave_the_domain_are_not_used():
    for x in (1e-17, 1e-9, 1e-3):
        value, error = at(lambda xp, x: xp.log(x), x)
        assert abs(value - 1 / x) <= error < 1e-6 / x


def test_a_step_beyond_the_scale_of_the_function_is_seen_through():
    value, error = at(lambda xp, x: xp.sin(x), 1e6)
    assert abs(value - np.cos(1e6)) <= error < 1e-9


def test_given_noise_widens_the_error():
    def forward(xp, x):
        return xp.sum((x + 1e8) - 1e8)  # loses eight digits

    x = np.array([0.3, 0.7])
    jacobian, error = differences(forward, [x], 0, noise=3e-8)
    assert np.all(np.abs(jacobian - 1) <= error)
    assert error.max() < 1e-5
    jacobian, error = differences(forward, [x], 0)  # or is seen
    assert np.all(np.abs(jacobian - 1) <= error)
    assert error.max() < 1e-5
    _, exact = differences(lambda xp, x: xp.sum(x), [x], 0, noise=0.0)
    assert exact.max() < 1e-13


# ---- shapes


def softmax(xp, z):
    e = xp.exp(z - xp.max(z, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)


@pytest.mark.parametrize("shape", [(2, 3), (1, 1), (3, 7), (0, 3), (3, 0)])
def test_every_entry_of_a_softmax(shape):
    z = np.random.default_rng(3).standard_normal(shape)
    if 0 in shape[1:]:
        with pytest.raises(ValueError, match="zero-size"):
            differences(softmax, [z], 0)
        return
    jacobian, error = differences(softmax, [z], 0)
    _, truth = get("jax").derivative(softmax, [z], 0)
    assert jacobian.shape == error.shape == truth.shape
    assert np.all(np.abs(jacobian - truth) <= error)
    assert np.max(error, initial=0) < 1e-9


def test_arguments_and_outputs_are_chosen_by_number_and_left_alone():
    def forward(xp, x, labels, w):
        return xp.take(w, labels, axis=0) * x, xp.sum(x * x)

    x, labels, w = np.array([1.0, 2.0]), np.array([2, 0]), np.array([1.0, -1.0, 3.0])
    for array in (x, labels, w):
        array.setflags(write=False)
    jacobian, error = differences(forward, [x, labels, w], 2)
    np.testing.assert_allclose(jacobian, [[0, 0, 1], [2, 0, 0]], atol=1e-12)
    jacobian, error = differences(forward, [x, labels, w], 0, output=1)
    np.testing.assert_allclose(jacobian, 2 * x, atol=1e-11)
    assert error.shape == (2,)
    with pytest.raises(UsageError, match="only real numbers"):
        differences(forward, [x, labels, w], 1)
    with pytest.raises(UsageError, match="there is no number 2"):
        differences(forward, [x, labels, w], 0, output=2)


def test_views_of_the_input_are_copied():
    jacobian, _ = differences(lambda xp, x: xp.permute_dims(x, (1, 0)), [np.ones((2, 2))], 0)
    np.testing.assert_allclose(jacobian, np.einsum("ps,qr->pqrs", np.eye(2), np.eye(2)), atol=1e-12)


def test_a_large_jacobian_in_chunks_is_the_same(monkeypatch):
    # The package's attribute of this name may be the function.
    module = importlib.import_module("gradcheck.oracles.differences")
    z = np.random.default_rng(4).standard_normal((3, 5))
    whole = differences(softmax, [z], 0)
    monkeypatch.setattr(module, "_BUDGET", 2000)
    for one, other in zip(whole, differences(softmax, [z], 0), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_small_softmax_is_quick():
    z = np.random.default_rng(5).standard_normal((2, 3))
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        differences(softmax, [z], 0)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.05  # measured 0.004; the rest is for a busy machine
