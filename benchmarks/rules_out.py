"""Rules in their framework: `as_jax(spec)` and its like, against autodiff and against rules written by hand.

    python benchmarks/rules_out.py [FRAMEWORK ...] [--rounds N]

Each contender runs forward and backward: the vjp of softmax at (128, 100), and the gradient in w and b of
the chain `weighted_sum >> softmax >> cross_entropy` at (m, n, o) = (100, 5, 3), in float64, called as it
is and, where the framework compiles, inside `jax.jit` and `tf.function`. `own` is what the framework's
users write (`jax.nn.softmax`, the cross-entropy of logits) and its autodiff; `hand` is the best rule that we
could write on its hook for custom gradients. Each framework has a process of its own; the contenders of a
case run in turn. Printed are the least time of each in microseconds, and the quartiles of ours / theirs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from timing import Case, measure

if TYPE_CHECKING:
    from collections.abc import Callable

    Cases = dict[str, dict[str, Callable[[], Any]]]

FRAMEWORKS = ("jax", "autograd", "tensorflow", "torch")
CHAIN = "weighted_sum >> softmax >> cross_entropy"
RNG = np.random.default_rng(0)
SECONDS = 0.01


def softmax_data() -> tuple[Any, Any]:
    """Logits and a cotangent."""
    return RNG.normal(size=(128, 100)), RNG.normal(size=(128, 100))


def chain_data() -> tuple[Any, ...]:
    """A batch, its one-hot classes, and weights."""
    x, w, b = RNG.normal(size=(100, 5)), RNG.normal(size=(5, 3)), RNG.normal(size=3)
    return x, w, b, np.eye(3)[RNG.integers(3, size=100)]


def in_jax() -> Cases:
    """The cases in JAX."""
    import jax
    import jax.numpy as jnp

    from gradcheck import as_jax

    jax.config.update("jax_enable_x64", True)
    z, v = map(jnp.asarray, softmax_data())
    x, w, b, y = map(jnp.asarray, chain_data())

    @jax.custom_vjp
    def soft(z: Any) -> Any:
        return jax.nn.softmax(z, axis=-1)

    def soft_forward(z: Any) -> Any:
        a = jax.nn.softmax(z, axis=-1)
        return a, a

    def soft_backward(a: Any, v: Any) -> Any:
        va = v * a
        return (va - a * jnp.sum(va, axis=-1, keepdims=True),)

    soft.defvjp(soft_forward, soft_backward)

    def value(x: Any, w: Any, b: Any, y: Any) -> Any:
        return -jnp.sum(y * jax.nn.log_softmax(x @ w + b, axis=-1)) / len(x)

    @jax.custom_vjp
    def loss(x: Any, w: Any, b: Any, y: Any) -> Any:
        return value(x, w, b, y)

    def loss_forward(x: Any, w: Any, b: Any, y: Any) -> Any:
        a = jax.nn.softmax(x @ w + b, axis=-1)
        return -jnp.sum(y * jnp.log(a)) / len(x), (x, w, a, y)

    def loss_backward(kept: Any, v: Any) -> Any:
        x, w, a, y = kept
        d = v * (a - y) / len(x)
        return d @ w.T, x.T @ d, jnp.sum(d, axis=0), None

    loss.defvjp(loss_forward, loss_backward)
    softs = {"compiled": as_jax("softmax"), "own": lambda z: jax.nn.softmax(z, axis=-1)}
    losses = {"compiled": as_jax(CHAIN), "own": value}

    def pulling(f: Any) -> Any:
        return lambda z, v: jax.vjp(f, z)[1](v)

    def waits(f: Any, *args: Any) -> Any:
        return lambda: jax.block_until_ready(f(*args))

    pulls = {n: pulling(f) for n, f in {**softs, "hand": soft}.items()}
    grads = {n: jax.grad(f, argnums=(1, 2)) for n, f in {**losses, "hand": loss}.items()}
    return {
        "softmax vjp": {n: waits(f, z, v) for n, f in pulls.items()},
        "softmax vjp, jit": {n: waits(jax.jit(f), z, v) for n, f in pulls.items()},
        "chain": {n: waits(f, x, w, b, y) for n, f in grads.items()},
        "chain, jit": {n: waits(jax.jit(f), x, w, b, y) for n, f in grads.items()},
    }


def in_autograd() -> Cases:
    """The cases in autograd."""
    import autograd.numpy as anp
    from autograd.core import make_vjp
    from autograd.extend import defvjp, primitive

    from gradcheck import as_autograd

    z, v = softmax_data()
    x, w, b, y = chain_data()

    def soft_of(xp: Any, z: Any) -> Any:
        e = xp.exp(z - xp.max(z, axis=-1, keepdims=True))
        return e / xp.sum(e, axis=-1, keepdims=True)

    soft = primitive(lambda z: soft_of(np, z))

    def soft_vjp(a: Any, _: Any) -> Any:
        return lambda v: a * (v - anp.sum(v * a, axis=-1, keepdims=True))

    defvjp(soft, soft_vjp)

    def loss_of(xp: Any, x: Any, w: Any, b: Any, y: Any) -> Any:
        return -xp.sum(y * xp.log(soft_of(xp, xp.dot(x, w) + b))) / len(x)

    loss = primitive(lambda x, w, b, y: loss_of(np, x, w, b, y))

    def part(make: Any) -> Any:
        def vjp(_: Any, x: Any, w: Any, b: Any, y: Any) -> Any:
            d = (soft_of(anp, anp.dot(x, w) + b) - y) / len(x)
            return lambda v: v * make(x, w, d)

        return vjp

    defvjp(
        loss,
        part(lambda _, w, d: anp.dot(d, w.T)),
        part(lambda x, _, d: anp.dot(x.T, d)),
        part(lambda _, __, d: anp.sum(d, axis=0)),
        None,
    )
    softs = {"compiled": as_autograd("softmax"), "own": lambda z: soft_of(anp, z), "hand": soft}
    losses = {
        "compiled": as_autograd(CHAIN),
        "own": lambda *a: loss_of(anp, *a),
        "hand": loss,
    }

    def pulling(f: Any) -> Any:
        return lambda: make_vjp(f, z)[0](v)

    def grads(f: Any) -> Any:
        def both() -> Any:
            run, value = make_vjp(lambda wb: f(x, wb[0], wb[1], y), (w, b))
            return run(np.ones_like(value))

        return both

    return {
        "softmax vjp": {n: pulling(f) for n, f in softs.items()},
        "chain": {n: grads(f) for n, f in losses.items()},
    }


def in_tensorflow() -> Cases:
    """The cases in TensorFlow."""
    from gradcheck import as_tensorflow, backends

    backends.get("tensorflow")  # imported without its messages
    import tensorflow as tf

    z, v = map(tf.constant, softmax_data())
    x, w, b, y = map(tf.constant, chain_data())

    @tf.custom_gradient
    def soft(z: Any) -> Any:
        a = tf.nn.softmax(z)

        def back(v: Any) -> Any:
            va = v * a
            return va - a * tf.reduce_sum(va, axis=-1, keepdims=True)

        return a, back

    def value(x: Any, w: Any, b: Any, y: Any) -> Any:
        logits = tf.matmul(x, w) + b
        return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(y, logits))

    @tf.custom_gradient
    def loss(x: Any, w: Any, b: Any, y: Any) -> Any:
        a = tf.nn.softmax(tf.matmul(x, w) + b)
        m = x.shape[0]

        def back(v: Any) -> Any:
            d = v * (a - y) / m
            dx = tf.matmul(d, w, transpose_b=True)
            return dx, tf.matmul(x, d, transpose_a=True), tf.reduce_sum(d, axis=0), None

        return -tf.reduce_sum(y * tf.math.log(a)) / m, back

    softs = {"compiled": as_tensorflow("softmax"), "own": tf.nn.softmax, "hand": soft}
    losses = {"compiled": as_tensorflow(CHAIN), "own": value, "hand": loss}

    def pulling(f: Any) -> Any:
        def pull(z: Any, v: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(z)
                a = f(z)
            return tape.gradient(a, z, output_gradients=v)

        return pull

    def graded(f: Any) -> Any:
        def both(x: Any, w: Any, b: Any, y: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch((w, b))
                found = f(x, w, b, y)
            return tape.gradient(found, (w, b))

        return both

    def called(f: Any, *args: Any) -> Any:
        return lambda: f(*args)

    def traced(f: Any, *args: Any) -> Any:
        return called(tf.function(f, autograph=False), *args)

    return {
        "softmax vjp": {n: called(pulling(f), z, v) for n, f in softs.items()},
        "softmax vjp, tf.function": {n: traced(pulling(f), z, v) for n, f in softs.items()},
        "chain": {n: called(graded(f), x, w, b, y) for n, f in losses.items()},
        "chain, tf.function": {n: traced(graded(f), x, w, b, y) for n, f in losses.items()},
    }


def in_torch() -> Cases:
    """The cases in torch."""
    import torch

    from gradcheck import as_torch

    torch.set_num_threads(1)  # at these sizes threads only wait for each other
    z, v = map(torch.tensor, softmax_data())
    x, w, b, y = map(torch.tensor, chain_data())
    for leaf in (z, w, b):
        leaf.requires_grad_()

    class Soft(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, z: Any) -> Any:
            a = torch.softmax(z, -1)
            ctx.save_for_backward(a)
            return a

        @staticmethod
        def backward(ctx: Any, v: Any) -> Any:
            (a,) = ctx.saved_tensors
            va = v * a
            return va - a * va.sum(-1, keepdim=True)

    class Loss(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, w: Any, b: Any, y: Any) -> Any:
            a = torch.softmax(torch.addmm(b, x, w), -1)
            ctx.save_for_backward(x, a, y)
            return -(y * a.log()).sum() / len(x)

        @staticmethod
        def backward(ctx: Any, v: Any) -> Any:
            x, a, y = ctx.saved_tensors
            d = v * (a - y) / len(x)
            return None, x.T @ d, d.sum(0), None

    def value(x: Any, w: Any, b: Any, y: Any) -> Any:
        return torch.nn.functional.cross_entropy(torch.addmm(b, x, w), y)

    softs = {
        "compiled": as_torch("softmax"),
        "own": lambda z: torch.softmax(z, -1),
        "hand": Soft.apply,
    }
    losses = {"compiled": as_torch(CHAIN), "own": value, "hand": Loss.apply}

    def pulling(f: Any) -> Any:
        return lambda: torch.autograd.grad(f(z), z, v)

    def grads(f: Any) -> Any:
        return lambda: torch.autograd.grad(f(x, w, b, y), (w, b))

    return {
        "softmax vjp": {n: pulling(f) for n, f in softs.items()},
        "chain": {n: grads(f) for n, f in losses.items()},
    }


def child(framework: str, rounds: int) -> None:
    """One framework: every case, a line each."""
    makers = {
        "jax": in_jax,
        "autograd": in_autograd,
        "tensorflow": in_tensorflow,
        "torch": in_torch,
    }
    for name, calls in makers[framework]().items():
        _check(name, calls)
        result = measure(Case("rules", name, calls), rounds, SECONDS)
        least = {n: 1e6 * min(s) for n, s in result.seconds.items()}
        ratios = ", ".join(
            f"/ {n} {middle:.2f} ({low:.2f} to {high:.2f})"
            for n, (low, middle, high) in result.ratios.items()
        )
        times = "  ".join(f"{'ours' if n == 'compiled' else n} {t:7.1f}" for n, t in least.items())
        print(f"{framework:10}  {name:24}  {times} us;  ours {ratios}", flush=True)


def _check(name: str, calls: dict[str, Any]) -> None:
    """All contenders compute the same."""
    found = {n: call() for n, call in calls.items()}
    expected = _flat(found.pop("hand"))
    for other, value in found.items():
        for got, want in zip(_flat(value), expected, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-9, err_msg=f"{name}: {other}")


def _flat(value: Any) -> list[Any]:
    parts = value if isinstance(value, tuple | list) else (value,)
    return [np.asarray(p) for p in parts]


def main() -> None:
    """One process a framework."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("frameworks", nargs="*", metavar="FRAMEWORK", default=FRAMEWORKS)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    for framework in options.frameworks:
        if options.child:
            child(framework, options.rounds)
        else:
            again = [sys.executable, __file__, "--child", framework]
            subprocess.run([*again, "--rounds", str(options.rounds)], check=True)


if __name__ == "__main__":
    main()
