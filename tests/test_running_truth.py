"""Derivatives with bounds: they hold for reverse mode in real arithmetic, and kinks are exact."""

from __future__ import annotations

import math

import flint
import numpy as np
import pytest
from flint import arb
from hypothesis import given, settings
from hypothesis import strategies as st

from gradcheck import backends
from gradcheck.errors import UsageError
from gradcheck.running import DualNamespace, derivative, format_of

FRAMEWORKS = [name for name in ("torch", "jax") if name in backends.installed()]
U = {"float32": 2.0**-24, "float64": 2.0**-53}


def softmax(xp, z):
    e = xp.exp(z - xp.max(z, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)


def flagship(xp, x, w, b, y):
    a = softmax(xp, xp.matmul(x, w) + b)
    return -xp.sum(y * xp.log(a)) / x.shape[0]


def layer_norm(xp, x, g, b):
    gap = x - xp.mean(x, axis=-1, keepdims=True)
    return g * gap / xp.sqrt(xp.mean(gap * gap, axis=-1, keepdims=True) + 1e-5) + b


def attention(xp, x, wq, wk):
    q, k = xp.matmul(x, wq), xp.matmul(x, wk)
    scores = xp.einsum("ik,jk->ij", q, k) / xp.sqrt(x.shape[-1])
    causal = xp.tril(xp.ones((x.shape[0], x.shape[0]))) > 0
    return xp.matmul(softmax(xp, xp.where(causal, scores, -xp.inf)), x)


def log_softmax(xp, z):
    shifted = z - xp.max(z, axis=-1, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))


def cosine(xp, x, y):
    return xp.sum(x * y) / (xp.sqrt(xp.sum(x * x)) * xp.sqrt(xp.sum(y * y)))


def mixture(xp, x, y):
    gelu = x * 0.5 * (1 + xp.erf(x / xp.sqrt(2.0)))
    return xp.logsumexp(gelu * xp.tanh(y), axis=0) + xp.sigmoid(x[0] - y[-1]) * xp.logaddexp(
        x[1], y[0]
    )


def pieces(xp, x, y):
    parts = xp.stack([xp.flip(x, axis=0), xp.roll(y, 1, 0), xp.expand_dims(x[0], 0) + y])
    joined = xp.concat([parts[0], xp.permute_dims(parts[1], (1, 0))[:, :2].T], axis=0)
    moments = xp.std(joined + x[0], axis=0) + xp.var(y, axis=0, correction=1)
    return moments + xp.trace(parts) + xp.prod(y, axis=0) + xp.cumulative_sum(x, axis=1)[0]


def matrices(xp, x, y):
    a = xp.matmul(x, xp.matrix_transpose(x)) + 2 * xp.eye(x.shape[0])
    return xp.linalg.inv(a) * xp.linalg.det(a / 3) + xp.einsum("ij,kj->ik", y, x * x)


def gathered(xp, x, y):
    rows = xp.take(x, np.array([0, 2, 2, 1]), axis=0)
    return xp.sum(rows * xp.pow(xp.abs(y[0]) + 1, 1.5), axis=1) + xp.minimum(x[0, 0], y[0, 1])


def powers(xp, x, y):
    p = xp.square(x) + 0.5
    return p**y + p**-2 + 2.0**x + xp.clip(x, -0.7, 0.7) + xp.atan(y) + xp.cosh(x) / xp.sinh(p)


def trigonometry(xp, x, y):
    s = 0.9 * xp.sin(x)
    return xp.asin(s) * xp.acos(0.9 * xp.cos(y)) + xp.tan(s) + xp.expm1(y) * xp.log1p(x * x)


def rows(rng, *shape):
    return rng.normal(size=shape)


def one_hot(rng, m, n):
    return np.eye(n)[rng.integers(0, n, m)]


CASES = {
    "softmax": (softmax, lambda r: [rows(r, 4, 5)]),
    "flagship": (flagship, lambda r: [rows(r, 6, 3), rows(r, 3, 4), rows(r, 4), one_hot(r, 6, 4)]),
    "layer norm": (layer_norm, lambda r: [rows(r, 3, 6), rows(r, 6), rows(r, 6)]),
    "attention": (attention, lambda r: [rows(r, 4, 3), rows(r, 3, 3), rows(r, 3, 3)]),
    "log softmax": (log_softmax, lambda r: [rows(r, 3, 5)]),
    "cosine": (cosine, lambda r: [rows(r, 7), rows(r, 7)]),
    "mixture": (mixture, lambda r: [rows(r, 3, 2), rows(r, 3, 2)]),
    "pieces": (pieces, lambda r: [rows(r, 3, 3), rows(r, 3, 3)]),
    "matrices": (matrices, lambda r: [rows(r, 3, 4), rows(r, 3, 4)]),
    "gathered": (gathered, lambda r: [rows(r, 3, 2), rows(r, 4, 2)]),
    "powers": (powers, lambda r: [rows(r, 5), rows(r, 5)]),
    "trigonometry": (trigonometry, lambda r: [rows(r, 5), rows(r, 5)]),
}


def quantised(arrays, dtype):
    return [format_of(dtype).rounded(a) for a in arrays]


def worst_ratio(truth, jacobian):
    """The largest |computed - value| in units of the error."""
    gap = np.abs(np.asarray(jacobian, dtype=np.float64) - truth.value)
    assert jacobian.shape == truth.value.shape
    with np.errstate(all="ignore"):
        ratio = np.where(gap == 0, 0.0, gap / truth.error)
    return float(np.max(np.where(np.isinf(truth.error), 0.0, ratio), initial=0.0))


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted(CASES))
def test_reverse_mode_stays_inside(name, dtype, framework):
    forward, draw = CASES[name]
    for seed in range(2):
        arrays = quantised(draw(np.random.default_rng(seed)), dtype)
        for wrt in range(len(arrays)):
            truth = derivative(forward, arrays, wrt, dtype)
            outputs, jacobian = backends.get(framework).derivative(
                forward, arrays, wrt, dtype=dtype
            )
            assert worst_ratio(truth, jacobian) <= 1
            value, error = truth.outputs[0]
            assert np.all(np.abs(outputs[0] - value) <= error)
            size = np.max(np.abs(truth.value), initial=1e-3)
            assert np.max(truth.error, initial=0.0) <= 2e5 * U[dtype] * size


@pytest.mark.parametrize("name", sorted(CASES))
def test_float32_bounds_enclose_the_float64_derivative(name):
    forward, draw = CASES[name]
    arrays = quantised(draw(np.random.default_rng(5)), "float32")
    for wrt in range(len(arrays)):
        single, double = (derivative(forward, arrays, wrt, d) for d in ("float32", "float64"))
        assert np.all(np.abs(single.value - double.value) <= single.error + double.error)
        assert np.array_equal(single.error == 0, double.error == 0)
        assert not np.any(single.value[single.error == 0])


def exact_gradient(x, w, b, y):
    """The flagship's gradient for the weights, by the closed form in ball arithmetic."""
    total = flint.arb_mat(w.shape[0], w.shape[1])
    for row, target in zip(x, y, strict=True):
        z = [
            sum(
                (arb(float(v)) * arb(float(u)) for v, u in zip(row, column, strict=True)),
                arb(float(c)),
            )
            for column, c in zip(w.T, b, strict=True)
        ]
        e = [v.exp() for v in z]
        for q, (one, t) in enumerate(zip(e, target, strict=True)):
            for k, v in enumerate(row):
                total[k, q] += arb(float(v)) * (one / sum(e, arb(0)) - arb(float(t))) / len(x)
    return total


def compared(framework, dtype, size, seed):
    """One gradient: |computed - value| in bounds, |computed - exact| in u Σ|terms|, finite entries."""
    rng = np.random.default_rng(seed)
    m = 1 if seed < 2 else 6
    parts = [size * rng.normal(size=(m, 3)), rng.normal(size=(3, 4)) / 10, rng.normal(size=4)]
    x, w, b, y = arrays = quantised([*parts, one_hot(rng, m, 4)], dtype)
    truth = derivative(flagship, arrays, 1, dtype)
    _, found = backends.get(framework).derivative(flagship, arrays, 1, dtype=dtype)
    gap = np.zeros(w.shape)
    with flint.ctx.workprec(2500):
        exact = exact_gradient(x, w, b, y)
        for place in np.ndindex(*w.shape):
            value, error = (float(t[place]) for t in (truth.value, truth.error))
            if math.isfinite(error):
                assert not abs(exact[place] - arb(value)) > arb(error)
                gap[place] = float(abs(exact[place] - arb(float(found[place]))))
    z = x @ w + b
    a = np.exp(z - z.max(1, keepdims=True))
    terms = np.abs(x).T @ (a / a.sum(1, keepdims=True) + y) / m
    without = np.max(np.where(terms > 0, gap / np.where(terms > 0, terms, 1), 0)) / U[dtype]
    known = np.count_nonzero(np.isfinite(truth.error) & (found != 0))
    return worst_ratio(truth, found), float(without), known


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_flagship_at_inputs_of_every_size(framework, dtype):
    most = 0.0
    for size in (1, 30, 100, 1000):
        worst, without, known = zip(
            *(compared(framework, dtype, size, k) for k in range(4)), strict=True
        )
        line = f"{framework} {dtype} size {size}: {max(worst):.3g} bounds, {max(without):.3g} u Σ|terms|"
        print(line)  # noqa: T201
        assert max(worst) <= 1
        assert sum(known), "no entry has a finite bound: nothing was compared"
        most = max(most, *without)
    assert most > 20, "u Σ|terms| would have been a bound"


@pytest.mark.parametrize("size", [1, 30, 100, 700])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_what_cancels_late_in_reverse_mode_is_covered(framework, size):
    z = size * np.array([[1.0, 0.25, -0.5, 0.0]])
    loss = lambda xp, z: -log_softmax(xp, z)[0, 0]  # noqa: E731
    truth = derivative(loss, [z], 0)
    _, found = backends.get(framework).derivative(loss, [z], 0)
    assert worst_ratio(truth, found) <= 1


@settings(max_examples=60, deadline=None)
@given(
    st.floats(-3, 3),
    st.sampled_from(sorted({"exp", "log", "sqrt", "sin", "cos", "tan", "atan", "erf"})),
)
def test_elementary_derivatives_enclose_the_exact_ones(x, name):
    x = abs(x) + 0.01 if name in ("log", "sqrt") else min(x, 1.5) if name == "tan" else x
    truth = derivative(lambda xp, x: getattr(xp, name)(x * x + x), [np.array(x)], 0)
    old = flint.ctx.cap
    try:
        flint.ctx.cap = 3
        with flint.ctx.workprec(240):
            series = flint.arb_series([arb(x), 1])
            exact = getattr(series * series + series, name)()[1]
            if math.isfinite(truth.error):
                assert not abs(exact - arb(float(truth.value))) > arb(float(truth.error))
    finally:
        flint.ctx.cap = old


# Exactness and tightness


def test_softmax_is_tight_and_its_zeros_are_exact():
    z = np.random.default_rng(0).normal(size=(4, 5))
    truth = derivative(softmax, [z], 0)
    assert truth.error.max() <= 1e-13
    between = np.einsum("pqrs->prqs", truth.value)[~np.eye(4, dtype=bool)]
    spread = np.einsum("pqrs->prqs", truth.error)[~np.eye(4, dtype=bool)]
    assert not between.any()
    assert not spread.any()
    assert (truth.kinks, truth.ambiguous) == (0, 0)


def test_four_bounds_off_in_one_entry_are_seen():
    z = np.random.default_rng(1).normal(size=(2, 3))
    truth = derivative(softmax, [z], 0)
    found = np.array(truth.value)
    found[1, 2, 1, 0] += 4 * truth.error[1, 2, 1, 0]
    assert worst_ratio(truth, found) > 1


@pytest.mark.parametrize("wrong", ["sign", "missing max(0)", "transposed"])
def test_wrong_derivatives_leave_the_bounds(wrong):
    z = np.random.default_rng(2).normal(size=(3, 3))
    truth = derivative(softmax, [z], 0)
    found = {
        "sign": -truth.value,
        "missing max(0)": np.zeros_like(truth.value),
        "transposed": truth.value.transpose(1, 0, 2, 3),
    }[wrong]
    assert worst_ratio(truth, found) > 1e3


# Kinks


def at(forward, x, dtype="float64"):
    return derivative(forward, [np.array(x)], 0, dtype)


KINKS = {
    "relu": (lambda xp, x: xp.maximum(x, 0), 0, 1),
    "relu the other way": (lambda xp, x: xp.maximum(0, x), 0, 1),
    "relu by where": (lambda xp, x: xp.where(x > 0, x, 0), 0, 1),
    "relu by where, closed": (lambda xp, x: xp.where(x >= 0, x, 0), 0, 1),
    "relu by max": (lambda xp, x: xp.max(xp.stack([x, xp.zeros_like(x)]), axis=0), 0, 1),
    "abs": (lambda xp, x: xp.abs(x), -1, 1),
    "negated abs": (lambda _, x: -abs(x), -1, 1),
    "leaky": (lambda xp, x: xp.where(x > 0, x, 0.25 * x), 0.25, 1),
    "min": (lambda xp, x: xp.minimum(3 * x, x), 1, 3),
    "clip": (lambda xp, x: xp.clip(x, 0, 6), 0, 1),
    "masked": (lambda xp, x: xp.where((x > 0) & (x < 1), x, 0), 0, 1),
    "logical or": (lambda xp, x: xp.where(~(x <= 0) | (x < -1), 2 * x, 0), 0, 2),
}


@pytest.mark.parametrize("name", sorted(KINKS))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_sided_derivatives_at_a_kink(name, dtype):
    forward, low, high = KINKS[name]
    truth = at(forward, [0.0, 0.5], dtype)
    assert truth.lower[0, 0] == pytest.approx(low, abs=1e-6)
    assert truth.upper[0, 0] == pytest.approx(high, abs=1e-6)
    assert truth.kinks == 1
    assert truth.ambiguous == 0
    assert truth.error[0, 1] == truth.value[0, 1] == 0


def test_a_tie_is_a_kink_only_where_the_sides_differ():
    truth = at(lambda xp, x: xp.maximum(x, 0) - xp.maximum(-x, 0), [0.0])
    assert truth.kinks == 0
    assert truth.lower[0, 0] == pytest.approx(1)
    assert truth.upper[0, 0] == pytest.approx(1)
    tied = derivative(softmax, [np.array([[1.0, 1.0, 0.0]])], 0)
    assert tied.kinks == 0
    assert np.max(tied.upper - tied.lower) < 1e-13
    several = at(lambda xp, x: xp.max(x), [2.0, 1.0, 2.0])
    assert several.lower.tolist() == pytest.approx([0, 0, 0])
    assert several.upper.tolist() == pytest.approx([1, 0, 1])
    assert several.kinks == 2


def test_jumps_have_no_derivative():
    for jump in (lambda xp, x: xp.sign(x), lambda xp, x: xp.where(x > 0, 1.0, 0.0) + 0 * x,
                 lambda _, x: (x >= 0) * 3):  # fmt: skip
        assert np.isinf(at(jump, [0.0]).error[0, 0])
        truth = at(jump, [0.5])
        assert abs(truth.value[0, 0]) <= truth.error[0, 0] < 1e-15
    assert at(lambda xp, x: xp.sign(x), [0.5]).error[0, 0] == 0


def test_masks_that_do_not_move_are_no_kinks():
    x, keep = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    truth = derivative(lambda xp, x, keep: xp.where(keep > 0, x, 0), [x, keep], 0)
    assert truth.kinks == truth.ambiguous == 0
    assert truth.value.tolist() == [[0, 0], [0, 1]]
    assert truth.error.ravel()[:3].tolist() == [0, 0, 0]
    assert truth.error[1, 1] < 1e-300


def test_rounding_near_a_kink_encloses_both_branches():
    rng = np.random.default_rng(0)
    x, w = format_of("float32").rounded(rng.normal(size=(2, 4))), rng.normal(size=4)
    w = format_of("float32").rounded(w)
    b = format_of("float32").rounded(-(x[0] @ w))
    relu = lambda xp, x, w, b: xp.maximum(xp.matmul(x, w) + b, 0)  # noqa: E731
    truth = derivative(relu, [x, w, b], 2, "float32")
    assert truth.ambiguous == 1
    assert truth.value[0] == pytest.approx(0.5)
    assert 0.5 <= truth.error[0] < 0.51
    assert truth.error[1] < 1e-6


# The call


def test_outputs_residuals_and_constants():
    def forward(xp, x, k, scale):
        r = 1 / xp.sqrt(xp.mean(x * x, axis=-1) + 1e-5)
        return x * r[:, None] * scale, r, xp.sum(k)

    x = np.random.default_rng(0).normal(size=(2, 3))
    truth = derivative(forward, [x, np.arange(3), 0.5], 0, output=1)
    assert [v.shape for v, _ in truth.outputs] == [(2, 3), (2,), ()]
    assert truth.value.shape == (2, 2, 3)
    assert truth.outputs[2] == (3, 0)
    constant = derivative(forward, [x, np.arange(3), 0.5], 0, output=2)
    assert constant.value.shape == (2, 3)
    assert not constant.value.any()
    assert not constant.error.any()


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (2, 0), (1, 1)])
def test_every_shape(shape):
    x = np.full(shape, 0.5)
    truth = derivative(lambda xp, x: xp.sum(xp.exp(x) * x) + xp.tanh(x), [x], 0)
    assert truth.value.shape == shape + shape


def test_too_many_directions_teach():
    with pytest.raises(UsageError, match="max_directions"):
        derivative(softmax, [np.zeros((3, 3))], 0, max_directions=8)


def test_dual_space_takes_the_side():
    space = DualNamespace("float64", side=-1)
    x = space.variable(np.array([0.0]))
    assert space.abs(x).tangent.value.tolist() == [[1.0]]  # |0 - h| rises as h does


def test_a_kink_is_one_in_half_precision_too_where_errors_are_larger_than_its_step():
    """The errors of e³ − e³ hide a step of a quarter at relu's tie; the tie is one all the same."""

    def forward(xp, x, c):
        return xp.maximum(x, 0) / 4 + x * (xp.exp(c) - xp.exp(c))

    arrays = [np.zeros(1), np.full(1, 3.0)]
    found = derivative(forward, arrays, 0, "bfloat16")
    assert found.error.max() > 0.25
    assert found.kinks == 1
    low, high = found.chosen
    assert low[0, 0] <= 0
    assert high[0, 0] >= 0.25
    smooth = derivative(lambda xp, x, c: x * (xp.exp(c) - xp.exp(c)), arrays, 0, "bfloat16")
    assert smooth.kinks == 0
