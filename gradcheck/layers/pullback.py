"""One pass of a forward for one cotangent or one tangent, by each framework: what large shapes afford."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck import backends
from gradcheck.backends.base import outputs_of
from gradcheck.errors import UnsupportedOperation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Floats = np.ndarray[Any, np.dtype[Any]]
    Pull = Callable[[Sequence[Floats]], Floats]


# Up to so many entries JAX compiles forward and backward as one program; beyond, it keeps the forward's
# values between the passes.
_COMPILED = 1 << 17


@dataclass(frozen=True)
class _Asked:
    """A forward at a point, and the input that moves.

    Attributes:
        forward: `forward(xp, *arrays)` to a tuple of outputs.
        arrays: Its arguments.
        wrt: Which of them moves.
        dtype: The dtype of the passes.
        device: Where they run.
    """

    forward: Callable[..., Any]
    arrays: Sequence[Any]
    wrt: int
    dtype: str
    device: str

    def array(self, backend: Any, values: Any) -> Any:
        """Values as an array of a framework."""
        return backend.asarray(values, self.dtype, self.device)

    def on(self, backend: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
        """The array that moves, and the outputs as a function of it; within the backend's scope."""
        inputs = [self.array(backend, a) for a in self.arrays]
        before, after = inputs[: self.wrt], inputs[self.wrt + 1 :]
        xp = backend.namespace(self.dtype, self.device)
        return inputs[self.wrt], lambda x: outputs_of(self.forward(xp, *before, x, *after))


def can(framework: str) -> bool:
    """Whether a framework differentiates, in reverse and in forward mode."""
    return framework in _PASSES


def pullback(
    framework: str,
    forward: Callable[..., Any],
    arrays: Sequence[Any],
    wrt: int,
    dtype: str,
    device: str = "cpu",
) -> Pull:
    """One forward pass, and a function from cotangents to the gradient of arrays[wrt].

    Args:
        framework: Who differentiates.
        forward: `forward(xp, *arrays)` to a tuple of outputs.
        arrays: Its arguments.
        wrt: Which of them.
        dtype: The dtype of the passes.
        device: Where they run.

    Raises:
        UnsupportedOperation: For a framework that does not differentiate.
    """
    pull, _ = _passes(framework)
    return pull(_Asked(forward, arrays, wrt, dtype, device))


def push(
    framework: str,
    forward: Callable[..., Any],
    arrays: Sequence[Any],
    wrt: int,
    tangent: Floats,
    dtype: str,
    device: str = "cpu",
) -> list[Floats]:
    """The tangents of all outputs where arrays[wrt] moves along one direction.

    In torch and autograd by reverse mode twice: vᵀJ is linear in v, and its transpose at any v is J;
    so operations without a forward rule are no obstacle.

    Args:
        framework: Who differentiates.
        forward: `forward(xp, *arrays)` to a tuple of outputs.
        arrays: Its arguments.
        wrt: Which of them moves.
        tangent: Along what.
        dtype: The dtype of the pass.
        device: Where it runs.

    Raises:
        UnsupportedOperation: For a framework that does not differentiate.
    """
    _, moved = _passes(framework)
    return moved(_Asked(forward, arrays, wrt, dtype, device), tangent)


def _passes(framework: str) -> tuple[Callable[..., Pull], Callable[..., list[Floats]]]:
    if framework not in _PASSES:
        raise UnsupportedOperation(
            f"{framework} does not differentiate: probes need one of {', '.join(_PASSES)}"
        )
    return _PASSES[framework]


# ---------------------------------------------------------------------- torch


def _recorded(asked: _Asked, backend: Any) -> tuple[Any, list[Any]]:
    """A leaf, and the outputs that torch has followed from it."""
    import torch

    with backend.scope(asked.dtype), torch.enable_grad():
        x, outputs = asked.on(backend)
        x = x.detach().requires_grad_()
        return x, list(outputs(x))


def _pull_torch(asked: _Asked) -> Pull:
    import torch

    backend = backends.get("torch")
    x, results = _recorded(asked, backend)
    live = [k for k, r in enumerate(results) if getattr(r, "requires_grad", False)]

    def pull(cotangents: Sequence[Floats]) -> Floats:
        if not live:
            return np.zeros(tuple(x.shape))
        with backend.scope(asked.dtype):
            given = [asked.array(backend, cotangents[k]) for k in live]
            (found,) = torch.autograd.grad(
                [results[k] for k in live], x, given, retain_graph=True, allow_unused=True
            )
        return np.zeros(tuple(x.shape)) if found is None else backend.to_numpy(found)

    return pull


def _push_torch(asked: _Asked, tangent: Floats) -> list[Floats]:
    import torch

    backend = backends.get("torch")
    x, results = _recorded(asked, backend)
    with backend.scope(asked.dtype), torch.enable_grad():
        direction = asked.array(backend, tangent)
        moves = []
        for result in results:
            v = torch.zeros_like(result)
            found = None
            if result.requires_grad:
                v.requires_grad_()
                (row,) = torch.autograd.grad(result, x, v, create_graph=True, allow_unused=True)
                if row is not None and row.requires_grad:
                    (found,) = torch.autograd.grad(row, v, direction, allow_unused=True)
            moves.append(torch.zeros_like(result) if found is None else found)
    return [backend.to_numpy(m) for m in moves]


# ---------------------------------------------------------------------- JAX


def _on_jax(asked: _Asked, backend: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    import jax.numpy as jnp

    x, outputs = asked.on(backend)
    return x, lambda x: tuple(jnp.asarray(r) for r in outputs(x))


def _pull_jax(asked: _Asked) -> Pull:
    import jax
    import jax.numpy as jnp

    backend = backends.get("jax")
    with backend.scope(asked.dtype):
        x, outputs = _on_jax(asked, backend)
        if x.size <= _COMPILED:
            # One program, where operation by operation JAX compiles dozens for each new shape.
            results = jax.eval_shape(outputs, x)
            run = jax.jit(lambda given: jax.vjp(outputs, x)[1](given))  # noqa: PLW0108  traced anew
        else:
            results, run = jax.vjp(outputs, x)

    def pull(cotangents: Sequence[Floats]) -> Floats:
        with backend.scope(asked.dtype):
            given = tuple(
                asked.array(backend, c).astype(r.dtype)
                if jnp.issubdtype(r.dtype, jnp.floating)
                else np.zeros(r.shape, jax.dtypes.float0)
                for c, r in zip(cotangents, results, strict=True)
            )
            return backend.to_numpy(run(given)[0])

    return pull


def _push_jax(asked: _Asked, tangent: Floats) -> list[Floats]:
    import jax

    backend = backends.get("jax")
    with backend.scope(asked.dtype):
        x, outputs = _on_jax(asked, backend)
        _, moves = jax.jvp(outputs, (x,), (asked.array(backend, tangent),))
        return [backend.to_numpy(m) for m in moves]


# ---------------------------------------------------------------------- autograd


def _rows(x: Any, outputs: Callable[[Any], tuple[Any, ...]]) -> list[Callable[[Any], Any] | None]:
    """The reverse pass of each output, None where it does not move."""
    from autograd.core import make_vjp
    from autograd.tracer import isbox

    live: list[bool] = []

    def output(k: int) -> Callable[[Any], Any]:
        def moved(x: Any) -> Any:
            found = outputs(x)
            live[:] = [isbox(r) for r in found]
            return found[k] if live[k] else x  # autograd warns of a constant

        return moved

    runs = [make_vjp(output(0), x)[0]]
    runs += [make_vjp(output(k), x)[0] for k in range(1, len(live))]
    return [run if moves else None for run, moves in zip(runs, live, strict=True)]


def _pull_autograd(asked: _Asked) -> Pull:
    backend = backends.get("autograd")
    with backend.scope(asked.dtype):
        x, outputs = asked.on(backend)
        runs = _rows(x, outputs)

    def pull(cotangents: Sequence[Floats]) -> Floats:
        total = np.zeros(x.shape, asked.dtype)
        with backend.scope(asked.dtype):
            for run, cotangent in zip(runs, cotangents, strict=True):
                if run is not None:
                    total = total + np.asarray(run(np.asarray(cotangent, asked.dtype)))
        return total

    return pull


def _push_autograd(asked: _Asked, tangent: Floats) -> list[Floats]:
    from autograd.core import make_vjp

    backend = backends.get("autograd")
    with backend.scope(asked.dtype):
        x, outputs = asked.on(backend)
        moves = [np.zeros(np.shape(value)) for value in outputs(x)]
        for k, run in enumerate(_rows(x, outputs)):
            if run is not None:
                columns, _ = make_vjp(run, moves[k].astype(asked.dtype))
                moves[k] = np.asarray(columns(np.asarray(tangent, asked.dtype)))
    return moves


# ---------------------------------------------------------------------- TensorFlow


def _on_tensorflow(asked: _Asked, backend: Any) -> tuple[Any, Callable[[], list[Any]]]:
    """The tensor that moves, and the outputs where a tape or an accumulator follows it."""
    x, outputs = asked.on(backend)
    return backend.asarray_like(x), lambda: [backend.asarray_like(r) for r in outputs(x)]


def _pull_tensorflow(asked: _Asked) -> Pull:
    import tensorflow as tf

    backend = backends.get("tensorflow")
    with backend.scope(asked.dtype):
        x, outputs = _on_tensorflow(asked, backend)

    def pull(cotangents: Sequence[Floats]) -> Floats:
        with backend.scope(asked.dtype), tf.GradientTape() as tape:
            tape.watch(x)
            results = outputs()
            given = [backend.asarray_like(asked.array(backend, c)) for c in cotangents]
        found = tape.gradient(results, x, output_gradients=given)
        if found is None:
            return np.zeros(tuple(x.shape))
        return backend.to_numpy(tf.convert_to_tensor(found))

    return pull


def _push_tensorflow(asked: _Asked, tangent: Floats) -> list[Floats]:
    import tensorflow as tf

    backend = backends.get("tensorflow")
    with backend.scope(asked.dtype):
        x, outputs = _on_tensorflow(asked, backend)
        direction = backend.asarray_like(asked.array(backend, tangent))
        with tf.autodiff.ForwardAccumulator(x, direction) as accumulator:
            results = outputs()
        moves = [accumulator.jvp(r) for r in results]
    pairs = zip(moves, results, strict=True)
    return [np.zeros(tuple(r.shape)) if m is None else backend.to_numpy(m) for m, r in pairs]


_PASSES: dict[str, tuple[Callable[..., Pull], Callable[..., list[Floats]]]] = {
    "autograd": (_pull_autograd, _push_autograd),
    "jax": (_pull_jax, _push_jax),
    "torch": (_pull_torch, _push_torch),
    "tensorflow": (_pull_tensorflow, _push_tensorflow),
}
