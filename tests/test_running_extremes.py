"""Bounds where results vanish, overflow or cancel, against float32 as frameworks compute it."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck.running import DualNamespace, ErrorNamespace, derivative

jax = pytest.importorskip("jax")
jnp = jax.numpy


def outside(ball, found):
    """Where a computed array leaves value ± error; what is not finite does, unless nothing is bounded."""
    found = np.asarray(found, np.float64)
    with np.errstate(all="ignore"):
        inside = np.abs(found - ball.value) <= ball.error
    return ~(inside | np.isinf(ball.error))


def single(*arrays):
    space = ErrorNamespace("float32")
    return space, [space.asarray(np.asarray(a, np.float64)) for a in arrays]


@pytest.mark.parametrize("name", ["sinh", "cosh", "expm1"])
def test_hyperbolic_functions_of_xla_stay_inside(name):
    x = np.linspace(-80, 80, 4001, dtype=np.float32)
    space, (ball,) = single(x)
    assert not outside(space.unary(name, ball), getattr(jnp, name)(x)).any()


@pytest.mark.parametrize("function", [np.logaddexp, jnp.logaddexp])
def test_logaddexp_of_small_numbers_stays_inside(function):
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((2, 4000)) * 10.0 ** rng.uniform(-6, 1, (2, 4000))).astype(
        np.float32
    )
    space, balls = single(x, y)
    ball = space.logaddexp(*balls)
    assert not outside(ball, function(x, y)).any()
    assert np.all(ball.error <= 24 * 2.0**-24 * np.maximum(1, np.maximum(np.abs(x), np.abs(y))))


def test_partial_sums_that_overflow_are_unbounded():
    x = np.array([3e38, 3e38, -3e38, -3e38], np.float32)
    space, (ball,) = single(x)
    assert np.isinf(space.sum(ball).error)
    assert np.isinf(space.cumulative_sum(ball).error[-2:]).all()
    assert np.isinf(space.einsum("i,i->", ball, space.asarray(np.ones(4))).error)
    assert np.isfinite(space.sum(space.asarray(x / 8.0)).error)


def test_products_of_three_in_any_order():
    a, b, c = (np.full(2, v, np.float32) for v in (1e-25, 1e-25, 1e30))
    space, balls = single(a, b, c)
    ball = space.einsum("i,i,i->", *balls)
    for path in ([(0, 1), (0, 1)], [(0, 2), (0, 1)]):
        found = np.einsum("i,i,i->", a, b, c, optimize=["einsum_path", *path])
        assert not outside(ball, found).any()
    a, b, c = (np.full(2, v, np.float32) for v in (1e25, 1e25, 1e-30))
    assert np.isinf(space.einsum("i,i,i->", *single(a, b, c)[1]).error)


@pytest.mark.parametrize("scale", [1e-36, 1e-12, 1.0, 1e12, 1e36])
def test_inverses_and_determinants_of_any_size(scale):
    rng = np.random.default_rng(1)
    matrices = rng.standard_normal((40, 4, 4)) * 10.0 ** rng.uniform(-4, 2, (40, 4, 4)) * scale
    for matrix in matrices.astype(np.float32):
        space, (ball,) = single(matrix)
        for mine, others in (
            (space.inv(ball), (np.linalg.inv, jnp.linalg.inv)),
            (space.det(ball), (np.linalg.det, jnp.linalg.det)),
        ):
            for function in others:
                with np.errstate(all="ignore"), jax.default_device(jax.devices("cpu")[0]):
                    assert not outside(mine, function(matrix)).any()


def test_bounds_of_derivatives_are_numbers():
    forwards = {
        "exp": (lambda xp, x: xp.exp(x), [1.0, 1e4]),
        "atan": (lambda xp, x: xp.atan(x), [1.0, 1e35]),
        "erf": (lambda xp, x: xp.erf(x), [1.0, 1e25]),
        "sqrt": (lambda xp, x: xp.sqrt(x), [1.0, 1e-43]),
    }
    for forward, x in forwards.values():
        truth = derivative(forward, [np.array(x)], 0, "float32")
        assert not np.isnan(truth.error).any()
        assert np.isfinite(truth.error[0, 0])


def test_exponents_that_lose_digits_beside_one():
    x, y = np.array([9.6e-8], np.float32), np.array([-1.8832701e-07], np.float32)
    truth = derivative(
        lambda xp, x, y: xp.pow(x, y), [a.astype(np.float64) for a in (x, y)], 0, "float32"
    )
    found = jax.jacrev(jnp.power)(x, y)
    assert np.all(np.abs(np.asarray(found, np.float64) - truth.value) <= truth.error)
    assert np.all(truth.error < 1e-4 * np.abs(truth.value))


def test_quotients_whose_squared_divisor_overflows():
    x, y = np.array([5e35], np.float32), np.array([-5e33], np.float32)
    truth = derivative(
        lambda xp, x, y: xp.divide(x, y), [a.astype(np.float64) for a in (x, y)], 1, "float32"
    )
    found = jax.jacrev(jnp.divide, argnums=1)(x, y)
    assert np.all(np.abs(np.asarray(found, np.float64) - truth.value) <= truth.error)
    space = DualNamespace("float32")
    ordinary = space.divide(1.0, space.variable(np.array([3.0])))
    assert np.all(ordinary.tangent.error < 1e-6)


@pytest.mark.parametrize(("dtype", "end"), [("float16", 0x7C00), ("bfloat16", 0x7F80)])
def test_erf_of_every_number_in_half_precision(dtype, end):
    torch = pytest.importorskip("torch")
    bits = torch.arange(0, end, dtype=torch.int32).to(torch.int16)
    x = bits.view(getattr(torch, dtype))
    space = ErrorNamespace(dtype)
    ball = space.unary("erf", space.asarray(x.double().numpy()))
    assert not outside(ball, torch.erf(x).double().numpy()).any()
    assert ball.error[0] == 0
