"""One reverse and one forward pass by each framework: they are each other's transpose."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck.errors import UnsupportedOperation
from gradcheck.layers.pullback import can, pullback, push

FRAMEWORKS = ("autograd", "jax", "torch", "tensorflow")
RNG = np.random.default_rng(0)
X, W = RNG.normal(size=(4, 3)), RNG.normal(size=(3, 2))


def forward(xp, x, w):
    """Three outputs: of both inputs, and of one each."""
    return xp.tanh(xp.matmul(x, w)), xp.sum(w), xp.sum(x * x, axis=1)


@pytest.mark.parametrize("wrt", [0, 1])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_both_passes_are_those_of_the_formulas(framework, wrt):
    pytest.importorskip(framework)
    u = RNG.normal(size=(X, W)[wrt].shape)
    v, s, r = RNG.normal(size=(4, 2)), RNG.normal(), RNG.normal(size=4)
    moves = push(framework, forward, [X, W], wrt, u, "float64")
    slope = 1 - np.tanh(X @ W) ** 2
    expected = {
        0: lambda: (slope * (u @ W), 0.0, 2 * (X * u).sum(1)),
        1: lambda: (slope * (X @ u), u.sum(), np.zeros(4)),
    }
    for got, want in zip(moves, expected[wrt](), strict=True):
        assert np.shape(got) == np.shape(want)
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)
    found = pullback(framework, forward, [X, W], wrt, "float64")([v, np.array(s), r])
    own = X.T @ (v * slope) + s if wrt else (v * slope) @ W.T + 2 * r[:, None] * X
    np.testing.assert_allclose(found, own, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_output_that_does_not_move(framework):
    pytest.importorskip(framework)

    def constant(xp, x, w):  # noqa: ARG001
        return (2 * x,)

    (moved,) = push(framework, constant, [X, W], 1, np.ones_like(W), "float32")
    assert moved.shape == X.shape
    assert not moved.any()
    found = pullback(framework, constant, [X, W], 1, "float32")([np.ones_like(X)])
    assert found.shape == W.shape
    assert not found.any()


def test_a_framework_that_does_not_differentiate():
    assert can("jax")
    assert not can("numpy")
    with pytest.raises(UnsupportedOperation, match=r"numpy does not differentiate.*autograd, jax"):
        pullback("numpy", forward, [X, W], 0, "float64")
