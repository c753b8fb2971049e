"""Running error analysis: bounds on values hold, against exact arithmetic and real float32."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import flint
import numpy as np
import pytest
from flint import arb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradcheck import backends
from gradcheck.backends.names import XP_NAMES
from gradcheck.errors import UnsupportedOperation, UsageError
from gradcheck.running import DualNamespace, ErrorArray, ErrorNamespace, bounds, format_of

FAST = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
BITS = 240


def exactly(x):
    """A double as an exact Fraction."""
    return Fraction(float(x))


def assert_encloses(value, error, candidate):
    """The one soundness check of this file: |candidate - value| <= error, decided exactly."""
    value, error = float(value), float(error)
    if error == math.inf:
        return
    if isinstance(candidate, arb):
        gap = abs(candidate - arb(value))
        assert not gap > arb(error), (value, error, candidate)
        assert gap.rad() < max(error, 1e-300), "the reference is too coarse to decide"
    else:
        assert abs(Fraction(candidate) - exactly(value)) <= exactly(error), (
            value,
            error,
            candidate,
        )


def arb_of(x):
    return arb(int(exactly(x).numerator)) / arb(int(exactly(x).denominator))


def sigmoid(x):
    return 1 / (1 + (-x).exp())


UNARY = {
    "acos": (arb.acos, -1, 1), "asin": (arb.asin, -1, 1), "atan": (arb.atan, -50, 50),
    "cos": (arb.cos, -20, 20), "cosh": (arb.cosh, -60, 60), "erf": (arb.erf, -6, 6),
    "exp": (arb.exp, -120, 80), "expm1": (arb.expm1, -60, 60), "log": (arb.log, 1e-30, 1e30),
    "log1p": (arb.log1p, -0.999, 1e6), "sigmoid": (sigmoid, -120, 80), "sin": (arb.sin, -20, 20),
    "sinh": (arb.sinh, -60, 60), "sqrt": (arb.sqrt, 0, 1e30), "tan": (arb.tan, -1.5, 1.5),
    "tanh": (arb.tanh, -30, 30),
}  # fmt: skip


@st.composite
def balls(draw, lo=-1e3, hi=1e3):
    """A centre, a radius (often 0 or tiny) and a point of the ball."""
    x = draw(st.floats(lo, hi, allow_subnormal=False))
    relative = draw(st.sampled_from([0.0, 2.0**-53, 1e-12, 1e-6, 1e-2, 0.3]))
    radius = relative * abs(x) + draw(st.sampled_from([0.0, 0.0, 1e-12, 1e-3]))
    inside = exactly(x) + exactly(radius) * Fraction(draw(st.integers(-64, 64)), 64)
    return x, radius, inside


def ball(space, x, radius):
    return ErrorArray(space, np.float64(x), np.float64(radius))


@pytest.mark.parametrize("name", sorted(UNARY))
def test_elementary_function_encloses_the_whole_ball(name):
    function, lo, hi = UNARY[name]

    @FAST
    @given(balls(lo, hi))
    def check(drawn):
        x, radius, inside = drawn
        if not lo <= inside <= hi:
            return
        space = ErrorNamespace("float64")
        result = space.unary(name, ball(space, x, radius))
        with flint.ctx.workprec(BITS):
            point = arb(int(inside.numerator)) / arb(int(inside.denominator))
            assert_encloses(result.value, result.error, function(point))

    check()


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("name", sorted(UNARY))
def test_real_arithmetic_stays_inside(name, dtype):
    function, lo, hi = UNARY[name]
    rng = np.random.default_rng(7)
    top = min(hi, 9.0) if dtype == "float16" else hi
    x = np.concatenate([rng.uniform(max(lo, -9.0) if dtype == "float16" else lo, top, 60),
                        rng.uniform(max(lo, -1), min(top, 1), 60)])  # fmt: skip
    x = format_of(dtype).rounded(x)
    x = x[(x >= lo) & (x <= top)]
    (value, error), = bounds(lambda xp, x: getattr(xp, name)(x), [x], dtype)  # fmt: skip
    with np.errstate(all="ignore"):
        computed = run_numpy(lambda xp, x: getattr(xp, name)(x), [x], dtype)
    with flint.ctx.workprec(BITS):
        for v, e, c, point in zip(value, error, computed, x, strict=True):
            assert_encloses(v, e, function(arb_of(point)))
            if math.isfinite(c):
                assert_encloses(v, e, exactly(c))


def run_numpy(fn, arrays, dtype):
    """A forward in real NumPy arithmetic of that dtype."""
    if dtype == "float16":  # NumPy's own loops: the backend has none
        (array,) = arrays
        name = fn(Names(), None)
        return Names.table[name](array.astype(np.float16)).astype(np.float64)
    return backends.get("numpy").apply(fn, arrays, dtype)[0].astype(np.float64)


class Names:
    """Finds out which single function a forward calls."""

    table = {
        name: getattr(np, {"acos": "arccos", "asin": "arcsin", "atan": "arctan"}.get(name, name), None)
        for name in UNARY
    } | {
        "erf": lambda x: np.array([math.erf(v) for v in x]).astype(np.float16),
        "sigmoid": lambda x: (np.float16(1) / (np.float16(1) + np.exp(-x))),
    }  # fmt: skip

    def __getattr__(self, name):
        return lambda _: name


@FAST
@given(balls(), balls(), st.sampled_from(["add", "subtract", "multiply", "divide"]))
def test_arithmetic_encloses_both_balls(first, second, name):
    (x, ex, a), (y, ey, b) = first, second
    if name == "divide" and b == 0:
        return
    operation = {
        "add": lambda a, b: a + b, "subtract": lambda a, b: a - b,
        "multiply": lambda a, b: a * b, "divide": lambda a, b: a / b,
    }[name]  # fmt: skip
    space = ErrorNamespace("float64")
    result = getattr(space, name)(ball(space, x, ex), ball(space, y, ey))
    assert_encloses(result.value, result.error, operation(a, b))


@FAST
@given(balls(1e-3, 50), st.sampled_from([2, 3, -1, -2, 0.5, -0.5, 1.5, 0, 1, Fraction(1, 3)]))
def test_power_encloses_the_ball(drawn, exponent):
    x, radius, inside = drawn
    if inside <= 0:
        return
    space = ErrorNamespace("float64")
    result = space.power(ball(space, x, radius), exponent)
    with flint.ctx.workprec(BITS):
        base = arb(int(inside.numerator)) / arb(int(inside.denominator))
        power = Fraction(exponent)
        assert_encloses(
            result.value, result.error, base ** (arb(power.numerator) / power.denominator)
        )


@FAST
@given(balls(1e-3, 20), balls(-8, 8))
def test_power_encloses_balls_of_both(first, second):
    (x, ex, a), (y, ey, b) = first, second
    if a <= 0:
        return
    space = ErrorNamespace("float64")
    result = space.pow(ball(space, x, ex), ball(space, y, ey))
    with flint.ctx.workprec(BITS):
        base, power = (arb(int(v.numerator)) / arb(int(v.denominator)) for v in (a, b))
        assert_encloses(result.value, result.error, (power * base.log()).exp())


@FAST
@given(balls(-50, 50), balls(-50, 50))
def test_branches_and_logaddexp_enclose_both_balls(first, second):
    (x, ex, a), (y, ey, b) = first, second
    space = ErrorNamespace("float64")
    u, v = ball(space, x, ex), ball(space, y, ey)
    cases = {
        "maximum": max(a, b), "minimum": min(a, b), "where": a if a > b else b * b,
        "abs": abs(a), "sign": (a > 0) - (a < 0), "step": int(a > 0),
        "clip": min(max(a, Fraction(-1)), Fraction(2)),
    }  # fmt: skip
    results = {
        "maximum": space.maximum(u, v), "minimum": space.minimum(u, v),
        "where": space.where(u > v, u, v * v), "abs": abs(u), "sign": space.sign(u),
        "step": space.step(u), "clip": space.clip(u, -1, 2),
    }  # fmt: skip
    for name, exact in cases.items():
        assert_encloses(results[name].value, results[name].error, exact)
    result = space.logaddexp(u, v)
    with flint.ctx.workprec(BITS):
        p, q = (arb(int(w.numerator)) / arb(int(w.denominator)) for w in (a, b))
        assert_encloses(result.value, result.error, (p.exp() + q.exp()).log())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", range(4))
def test_sums_in_any_order_stay_inside(dtype, seed):
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    x = (rng.normal(size=200) * 10.0 ** rng.uniform(-6, 6, 200)).astype(kind)
    x[::3] = -x[1::3][: len(x[::3])] if seed % 2 else x[::3]
    (value, error), (_, cumulated) = bounds(
        lambda xp, x: (xp.sum(x), xp.cumulative_sum(x)), [x.astype(np.float64)], dtype
    )
    exact = sum(map(exactly, x))
    assert_encloses(value, error, exact)
    assert error >= cumulated[-1] * 0.99
    for _ in range(20):
        total = kind.type(0)
        for one in rng.permutation(x):
            total = kind.type(total + one)
        assert_encloses(value, error, exactly(total))


@pytest.mark.parametrize("seed", range(5))
def test_einsum_and_matmul_stay_inside(seed):
    rng = np.random.default_rng(seed)
    x, y = (rng.normal(size=s).astype(np.float32) for s in ((3, 7), (7, 2)))
    y[rng.random(y.shape) < 0.4] = 0
    exact = [
        [sum(exactly(a) * exactly(b) for a, b in zip(r, c, strict=True)) for c in y.T] for r in x
    ]
    forms = lambda xp, x, y: (xp.matmul(x, y), xp.einsum("ij,jk->ik", x, y))  # noqa: E731
    for value, error in bounds(forms, [x.astype(float), y.astype(float)], "float32"):
        for v, e, c, t in zip(
            value.flat, error.flat, (x @ y).flat, itertools.chain(*exact), strict=True
        ):
            assert_encloses(v, e, t)
            assert_encloses(v, e, exactly(c))


def test_three_operands_and_their_errors():
    rng = np.random.default_rng(3)
    space = ErrorNamespace("float64")
    parts = [(rng.normal(size=s), 1e-3 * rng.random(s)) for s in ((2, 3), (3, 4), (4,))]
    result = space.einsum("ij,jk,k->i", *(ErrorArray(space, v, e) for v, e in parts))
    for _ in range(200):
        moved = [v + e * rng.choice([-1, 1], v.shape) for v, e in parts]
        exact = np.einsum("ij,jk,k->i", *moved)
        assert np.all(np.abs(exact - result.value) <= result.error * (1 + 1e-9))


@pytest.mark.parametrize("n", [1, 2, 4, 7])
def test_inverse_and_determinant_enclose(n):
    rng = np.random.default_rng(n)
    A, E = rng.normal(size=(2, n, n)), 1e-6 * rng.random((2, n, n))
    space = ErrorNamespace("float32")
    inverse, det = (
        space.linalg.inv(ErrorArray(space, A, E)),
        space.linalg.det(ErrorArray(space, A, E)),
    )
    assert np.all(np.isfinite(inverse.error))
    for _ in range(50):
        moved = A + E * rng.choice([-1.0, 1.0], A.shape)
        for one in range(2):
            matrix = flint.fmpq_mat([[flint.fmpq(*map(int, exactly(v).as_integer_ratio()))
                                      for v in row] for row in moved[one]])  # fmt: skip
            true = matrix.inv()
            for i in range(n):
                for j in range(n):
                    q = Fraction(int(true[i, j].p), int(true[i, j].q))
                    assert_encloses(inverse.value[one, i, j], inverse.error[one, i, j], q)
            d = matrix.det()
            assert_encloses(det.value[one], det.error[one], Fraction(int(d.p), int(d.q)))
        single = np.linalg.inv(moved.astype(np.float32))
        assert np.all(np.abs(single - inverse.value) <= inverse.error)
        assert np.all(np.abs(np.linalg.det(moved.astype(np.float32)) - det.value) <= det.error)


def test_determinant_of_a_singular_matrix_is_bounded():
    space = ErrorNamespace("float64")
    det = space.linalg.det(np.array([[1.0, 2.0], [2.0, 4.0]]))
    assert abs(float(det.value)) <= det.error < 1e-12
    assert np.all(np.isinf(space.linalg.inv(np.ones((2, 2))).error))


# Exactness, overflow, representation


def test_exact_zeros_stay_exact():
    space = ErrorNamespace("float32")
    zero, wide = ball(space, 0.0, 0.0), ball(space, 1e30, 1e29)
    for result in (zero * wide, zero + zero, zero / wide, space.sqrt(zero), space.tanh(zero),
                   space.sum(space.zeros(4)), space.einsum("i,i->", np.zeros(3), np.ones(3))):  # fmt: skip
        assert result.value == 0
        assert result.error == 0
    kept = ball(space, 0.1, 0.0) + zero
    assert kept.value == 0.1
    assert kept.error == 0
    one_hot = space.one_hot(np.array([2, 0]), 3)
    picked = space.einsum("pq->p", one_hot * space.asarray(np.float64(0.5)))
    assert np.all(picked.value == 0.5)
    assert np.isinf((zero * ball(space, 1.0, math.inf)).error)


def test_overflow_nan_and_poles_are_unbounded():
    space = ErrorNamespace("float32")
    assert np.isinf(space.exp(100.0).error)
    assert np.isinf((space.asarray(1e30) * 1e30).error)
    assert np.isinf(space.sqrt(-1.0).error)
    assert np.isinf(space.log(ball(space, 1e-3, 1e-2)).error)
    assert np.isinf((1 / ball(space, 1e-3, 1e-2)).error)
    assert np.isfinite(ErrorNamespace("float64").exp(100.0).error)


def test_masks_of_minus_infinity_vanish_exactly():
    for space in (ErrorNamespace("float32"), DualNamespace("float32")):
        scores = space.where(np.array([True, False]), np.array([1.0, 2.0]), -space.inf)
        weights = space.exp(scores - space.max(scores))
        assert weights.value[1] == 0
        assert weights.error[1] == 0
        assert np.isfinite(weights.error[0])


def test_scalars_are_exact_only_where_the_format_holds_them():
    single, double = ErrorNamespace("float32"), ErrorNamespace("float64")
    assert single.asarray(0.1).error > 0
    assert double.asarray(0.1).error == 0
    assert single.asarray(0.5).error == 0
    assert single.asarray(2**24 + 1).error == 1
    with flint.ctx.workprec(BITS):
        result = double.sqrt(2 * double.pi)
        assert_encloses(result.value, result.error, (2 * arb.pi()).sqrt())
    assert ErrorNamespace("bfloat16").asarray(1.01).error > 1e-4


def test_results_below_the_normal_range_may_be_flushed():
    space = ErrorNamespace("float32")
    product = space.asarray(2.0**-100) * 2.0**-60
    assert product.error >= product.value
    assert space.exp(-200.0).error > 0
    subnormal = space.asarray(np.float64(2.0**-140))
    assert (subnormal * 2.0**100).error >= 2.0**-40


# Decisions


def test_decisions_have_three_values():
    space = ErrorNamespace("float64")
    x = ErrorArray(space, np.array([1.0, 0.0, -1.0, 0.1]), np.array([0.1, 0.0, 0.1, 0.2]))
    positive = x > 0
    assert positive.true.tolist() == [True, False, False, False]
    assert positive.false.tolist() == [False, True, True, False]
    assert (~positive).true.tolist() == [False, True, True, False]
    assert (positive & (x < 5)).true.tolist() == [True, False, False, False]
    assert (positive | np.array([False] * 3 + [True])).true.tolist() == [True, False, False, True]
    assert (space.branches.ties, space.branches.ambiguous) == (1, 1)
    number = positive * 2
    assert number.value.tolist() == [2, 0, 0, 1]
    assert number.error[3] >= 1
    assert bool(x[0] > 0)
    with pytest.raises(UnsupportedOperation, match=r"xp\.where"):
        bool(x[3] > 0)
    with pytest.raises(UnsupportedOperation, match="no single truth"):
        bool(positive)
    with pytest.raises(UnsupportedOperation, match="rounding error would be lost"):
        float(x[0])
    assert float(x[1]) == 0


def test_integers_stay_integers():
    space = ErrorNamespace("float32")
    labels = np.array([0, 2, 1])
    assert isinstance(space.expand_dims(labels, 1), np.ndarray)
    assert space.equal(labels, 2).tolist() == [False, True, False]
    assert space.sum(labels) == 3
    assert (np.arange(3) * space.ones(3)).value.tolist() == [0, 1, 2]
    x = space.asarray(np.arange(12.0).reshape(4, 3))
    assert space.take(x, labels, axis=0).value.tolist() == x.value[labels].tolist()
    assert x[np.arange(3), labels].value.tolist() == [0, 5, 7]
    assert x[..., None, 1:].shape == (4, 1, 2)
    assert [row.shape for row in x] == [(3,)] * 4
    assert len(x) == 4
    assert x.T.shape == (3, 4)
    assert x.reshape(2, -1).shape == (2, 6)
    assert space.roll(x, 1, 0).value.tolist() == np.roll(x.value, 1, 0).tolist()


@pytest.mark.parametrize("space", [ErrorNamespace("float64"), DualNamespace("float64")])
def test_namespace_has_every_documented_name(space):
    for name in XP_NAMES:
        assert hasattr(space, name), name


def test_unknown_dtype_and_function_teach():
    with pytest.raises(UsageError, match="float16"):
        ErrorNamespace("int8")
    with pytest.raises(UnsupportedOperation, match="sigmoid"):
        ErrorNamespace("float64").function("relu")
    with pytest.raises(UnsupportedOperation, match="after '->'"):
        ErrorNamespace("float64").einsum("ij,jk", np.ones((2, 2)), np.ones((2, 2)))


# The checks themselves notice bounds that are too small


@pytest.mark.parametrize("name", ["exp", "tanh", "sqrt"])
def test_a_bound_that_is_too_small_is_caught(name):
    function, _, _ = UNARY[name]
    space = ErrorNamespace("float64")
    result = space.unary(name, ball(space, 0.7, 1e-6))
    with flint.ctx.workprec(BITS), pytest.raises(AssertionError):
        assert_encloses(result.value, 0.5 * result.error, function(arb_of(0.7 - 1e-6)))


def test_bounds_are_tight_to_a_small_factor():
    space = ErrorNamespace("float64")
    x = ball(space, 3.0, 1e-8)
    slopes = {
        "exp": math.exp(3),
        "log": 1 / 3,
        "sqrt": 0.5 / math.sqrt(3),
        "tanh": 1 - math.tanh(3) ** 2,
    }
    for name, slope in slopes.items():
        assert space.unary(name, x).error == pytest.approx(slope * 1e-8, rel=1e-4)
    assert (x * x).error == pytest.approx(6e-8, rel=1e-4)
    assert (1 / x).error == pytest.approx(1e-8 / 9, rel=1e-4)
