"""`verify_layer` on JAX: the parts of `custom_vjp` and `custom_jvp` raw, other functions through JAX."""

# ruff: noqa: ARG005 - signatures are given
from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import pytest

from gradcheck import constant, labels, number, real, verify_layer
from gradcheck.errors import UsageError

jax = pytest.importorskip("jax")
jnp = jax.numpy
verify = functools.partial(verify_layer, oracles=["autograd"], profile="quick")


def scale(xp, x, s):
    return xp.multiply(x, s)


SCALE = {"of": scale, "inputs": {"x": real("m n"), "s": real("n")}}


def custom(bwd, fwd=None, primal=None, **options):
    """A custom_vjp of x s with this backward pass."""

    @functools.partial(jax.custom_vjp, **options)
    def scaled(x, s):
        return (primal or jnp.multiply)(x, s)

    scaled.defvjp(fwd or (lambda x, s: (x * s, (x, s))), bwd)
    return scaled


def right(kept, g):
    x, s = kept
    return g * s, jnp.sum(g * x, axis=0)


def verdicts(report):
    return {c.input: str(c.verdict) for c in report.checks}


def test_a_right_custom_vjp_agrees_whatever_the_default_width():
    before = jax.config.jax_enable_x64
    report = verify(custom(right), **SCALE)
    assert report.ok, str(report)
    assert "scaled" in str(report)
    assert jax.config.jax_enable_x64 == before


@pytest.mark.parametrize(
    ("bwd", "name", "words"),
    [
        (lambda k, g: (g * k[1], g * k[0]), "s", "s was broadcast, so sum over axis 0"),
        (lambda k, g: (-g * k[1], jnp.sum(g * k[0], 0)), "x", "The sign is wrong"),
        (lambda k, g: (g * k[1], jnp.sum(k[0], 0)), "s", "ot linear in the cotangent"),
        (lambda k, g: (g * k[1], jnp.mean(g * k[0], 0)), "s", "Wrong factor"),
        (lambda k, g: (g * k[1], None), "s", "the gradient of s is None"),
        (lambda k, g: (g * k[1], jnp.sum(g * k[0], 0).astype("float32")), "s", "is float32"),
        (lambda k, g: ((g * k[1]).T, jnp.sum(g * k[0], 0)), "x", "shape"),
    ],
)
def test_wrong_backward_passes_are_looked_at_raw(bwd, name, words):
    report = verify(custom(bwd), **SCALE)
    assert verdicts(report)[name] == "refuted", str(report)
    assert words in str(report)


def test_another_number_of_gradients():
    report = verify(custom(lambda k, g: (g * k[1],)), **SCALE)
    assert set(verdicts(report).values()) == {"refuted"}
    assert "returned 1 gradient" in str(report)


def test_a_rule_in_numpy_runs_as_it_is():
    def bwd(kept, g):
        x, s = (np.asarray(a) for a in kept)
        return jnp.asarray(np.asarray(g) * s), jnp.asarray((np.asarray(g) * x).sum(0))

    report = verify(custom(bwd), **SCALE)
    assert report.ok, str(report)


def test_fwd_and_the_function_are_both_compared():
    off = verify(custom(right, fwd=lambda x, s: (x * s + 1e-9, (x, s))), **SCALE)
    primal = verify(custom(right, primal=lambda x, s: x * s + 1e-9), **SCALE)
    for report in (off, primal):
        assert set(verdicts(report).values()) == {"refuted"}
        assert "the layer computes another function than `of`" in str(report)


def test_static_arguments_and_parameters():
    @functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
    def power(x, k):
        return x**k

    power.defvjp(lambda x, k: (x**k, x), lambda k, x, g: (g * k * x ** (k - 1),))
    wanted = {
        "of": lambda xp, x, *, k: xp.pow(x, k),
        "inputs": {"x": real("n", 0.5, 3)},
        "params": {"k": number(1, 3)},
    }
    report = verify(power, **wanted)
    assert report.ok, str(report)
    power.defvjp(lambda x, k: (x**k, x), lambda k, x, g: (g * x ** (k - 1),))
    assert verdicts(verify(power, **wanted)) == {"x": "refuted"}


def test_labels_and_constants():
    @jax.custom_vjp
    def pick(w, t, c):
        return w[t] + c

    pick.defvjp(
        lambda w, t, c: (w[t] + c, (w, t)),
        lambda k, g: (jnp.zeros_like(k[0]).at[k[1]].add(g), None, None),
    )
    wanted = {
        "of": lambda xp, w, t, c: xp.take(w, t, axis=0) + c,
        "inputs": {"w": real("k n"), "t": labels("m", below="k"), "c": constant(real("n"))},
    }
    assert verify(pick, **wanted).ok
    pick.defvjp(
        lambda w, t, c: (w[t] + c, (w, t)),
        lambda k, g: (jnp.zeros_like(k[0]).at[k[1]].set(g), None, None),
    )
    assert verdicts(verify(pick, **wanted)) == {"w": "refuted"}


def sine():
    @jax.custom_jvp
    def wave(x):
        return jnp.sin(x)

    return wave


WAVE = {"of": lambda xp, x: xp.sin(x), "inputs": {"x": real("n", -3, 3)}}


def test_a_custom_jvp_both_ways():
    wave = sine()
    wave.defjvp(lambda p, t: (jnp.sin(p[0]), t[0] * jnp.cos(p[0])))
    report = verify(wave, **WAVE)
    assert report.ok, str(report)
    assert "⟨v, Ju⟩ = ⟨Jᵀv, u⟩" in str(report)
    wave.defjvp(lambda p, t: (jnp.sin(p[0]), t[0] * jnp.sin(p[0])))
    assert verdicts(verify(wave, **WAVE)) == {"x": "refuted"}


def test_a_custom_jvp_that_only_goes_forwards():
    wave = sine()

    def rule(p, t):
        # No rule for the transpose of a while loop.
        moved = jax.lax.while_loop(
            lambda s: s[0] < 1, lambda s: (s[0] + 1, s[1] * jnp.cos(p[0])), (0, t[0])
        )
        return jnp.sin(p[0]), moved[1]

    wave.defjvp(rule)
    report = verify(wave, **WAVE)
    assert report.ok, str(report)


def test_other_functions_go_through_jax():
    inner = custom(right)
    assert verify(jax.jit(inner), **SCALE).ok
    wrong = custom(lambda k, g: (-g * k[1], jnp.sum(g * k[0], 0)))
    report = verify(jax.jit(wrong), **SCALE)
    assert verdicts(report) == {"x": "refuted", "s": "agrees"}
    assert verify(lambda x, s: x * s, **SCALE, framework="jax").ok


def test_low_precision():
    report = verify(custom(right), **SCALE, dtypes=["float32", "bfloat16"])
    assert report.ok, str(report)


def test_a_function_without_a_rule():
    with pytest.raises(UsageError, match=r"has no rule yet: call wave.defjvp\(rule\)"):
        verify(sine(), **WAVE)


def test_two_outputs():
    @jax.custom_vjp
    def both(x):
        return 2 * x, x * x

    both.defvjp(lambda x: ((2 * x, x * x), x), lambda x, g: (2 * g[0] + 2 * x * g[1],))
    wanted = {"of": lambda xp, x: (2 * x, x * x), "inputs": {"x": real("n")}}
    assert verify(both, **wanted).ok
    both.defvjp(lambda x: ((2 * x, x * x), x), lambda x, g: (2 * g[0] + x * g[1],))
    assert verdicts(verify(both, **wanted)) == {"x": "refuted"}


def test_a_backward_pass_that_returns_no_tuple_is_what_jax_refuses():
    @jax.custom_vjp
    def square(x):
        return x * x

    square.defvjp(lambda x: (x * x, x), lambda x, g: 2 * x * g)
    report = verify(square, of=lambda xp, x: x * x, inputs={"x": real("n")})
    assert not report.ok
    assert "it must return a tuple with one gradient for each" in " ".join(str(report).split())
    with pytest.raises(TypeError, match="must produce an output with the same container"):
        jax.grad(square)(1.0)


def test_outputs_in_a_named_tuple():
    @jax.custom_vjp
    def both(x):
        return Both(x * x, x + 1)

    both.defvjp(lambda x: (both(x), x), lambda x, g: (2 * x * g.square + g.next,))
    assert verify(both, of=lambda xp, x: (x * x, x + 1), inputs={"x": real("n")}).ok


class Both(NamedTuple):
    square: object
    next: object
