"""One pass of a forward for one cotangent or one tangent, by each framework: what large shapes afford."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck import backends
from gradcheck.backends.base import outputs_of
from gradcheck.errors import UnsupportedOperation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Floats = np.ndarray[Any, np.dtype[Any]]
    Pull = Callable[[Sequence[Floats]], Floats]

_REVERSE = ("autograd", "jax", "torch", "tensorflow")


def can(framework: str) -> bool:
    """Whether a framework differentiates in reverse."""
    return framework in _REVERSE


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
        UnsupportedOperation: For a framework without a reverse pass.
    """
    makers = {"torch": _torch, "jax": _jax, "autograd": _autograd, "tensorflow": _tensorflow}
    if framework not in makers:
        raise UnsupportedOperation(f"{framework} has no reverse pass for probes")
    return makers[framework](forward, arrays, wrt, dtype, device)


def _torch(
    forward: Callable[..., Any], arrays: Sequence[Any], wrt: int, dtype: str, device: str
) -> Pull:
    import torch

    backend = backends.get("torch")
    with backend.scope(dtype), torch.enable_grad():
        inputs = [backend.asarray(a, dtype, device).detach() for a in arrays]
        x = inputs[wrt].requires_grad_()
        results = outputs_of(forward(backend.namespace(dtype, device), *inputs))
    live = [k for k, r in enumerate(results) if getattr(r, "requires_grad", False)]

    def pull(cotangents: Sequence[Floats]) -> Floats:
        if not live:
            return np.zeros(tuple(x.shape))
        with backend.scope(dtype):
            given = [backend.asarray(cotangents[k], dtype, device) for k in live]
            (found,) = torch.autograd.grad(
                [results[k] for k in live], x, given, retain_graph=True, allow_unused=True
            )
        return np.zeros(tuple(x.shape)) if found is None else backend.to_numpy(found)

    return pull


def _jax(
    forward: Callable[..., Any], arrays: Sequence[Any], wrt: int, dtype: str, device: str
) -> Pull:
    import jax
    import jax.numpy as jnp

    backend = backends.get("jax")
    with backend.scope(dtype):
        inputs = [backend.asarray(a, dtype, device) for a in arrays]
        xp = backend.namespace(dtype, device)

        def moved(x: Any) -> tuple[Any, ...]:
            found = outputs_of(forward(xp, *inputs[:wrt], x, *inputs[wrt + 1 :]))
            return tuple(jnp.asarray(r) for r in found)

        results, run = jax.vjp(moved, inputs[wrt])

    def pull(cotangents: Sequence[Floats]) -> Floats:
        with backend.scope(dtype):
            given = tuple(
                backend.asarray(c, dtype, device).astype(r.dtype)
                if jnp.issubdtype(r.dtype, jnp.floating)
                else np.zeros(r.shape, jax.dtypes.float0)
                for c, r in zip(cotangents, results, strict=True)
            )
            return backend.to_numpy(run(given)[0])

    return pull


def _autograd(
    forward: Callable[..., Any], arrays: Sequence[Any], wrt: int, dtype: str, device: str
) -> Pull:
    from autograd.core import make_vjp
    from autograd.tracer import isbox

    backend = backends.get("autograd")
    xp = backend.namespace(dtype, device)
    inputs = [backend.asarray(a, dtype, device) for a in arrays]
    live: list[bool] = []

    def output(k: int) -> Callable[[Any], Any]:
        def moved(x: Any) -> Any:
            found = outputs_of(forward(xp, *inputs[:wrt], x, *inputs[wrt + 1 :]))
            live[:] = [isbox(r) for r in found]
            return found[k] if live[k] else x  # autograd warns of a constant

        return moved

    with backend.scope(dtype):
        runs = [make_vjp(output(0), inputs[wrt])[0]]
        known = list(live)
        runs += [make_vjp(output(k), inputs[wrt])[0] for k in range(1, len(known))]

    def pull(cotangents: Sequence[Floats]) -> Floats:
        total = np.zeros(inputs[wrt].shape, dtype)
        with backend.scope(dtype):
            for run, cotangent, moves in zip(runs, cotangents, known, strict=True):
                if moves:
                    total = total + np.asarray(run(np.asarray(cotangent, dtype)))
        return total

    return pull


def _tensorflow(
    forward: Callable[..., Any], arrays: Sequence[Any], wrt: int, dtype: str, device: str
) -> Pull:
    import tensorflow as tf

    backend = backends.get("tensorflow")
    with backend.scope(dtype):
        inputs = [backend.asarray(a, dtype, device) for a in arrays]
        x = backend.asarray_like(inputs[wrt])
        xp = backend.namespace(dtype, device)

    def pull(cotangents: Sequence[Floats]) -> Floats:
        with backend.scope(dtype), tf.GradientTape() as tape:
            tape.watch(x)
            results = [backend.asarray_like(r) for r in outputs_of(forward(xp, *inputs))]
            given = [backend.asarray_like(backend.asarray(c, dtype, device)) for c in cotangents]
        found = tape.gradient(results, x, output_gradients=given)
        if found is None:
            return np.zeros(tuple(x.shape))
        return backend.to_numpy(tf.convert_to_tensor(found))

    return pull


# ---------------------------------------------------------------------- forward mode

_FORWARD = ("autograd", "jax", "torch", "tensorflow")


def can_push(framework: str) -> bool:
    """Whether a framework differentiates in forward mode."""
    return framework in _FORWARD


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
    """
    if framework == "jax":
        return _push_jax(forward, arrays, wrt, tangent, dtype, device)
    if framework == "torch":
        return _push_torch(forward, arrays, wrt, tangent, dtype, device)
    if framework == "autograd":
        return _push_autograd(forward, arrays, wrt, tangent, dtype)
    if framework == "tensorflow":
        return _push_tensorflow(forward, arrays, wrt, tangent, dtype, device)
    raise UnsupportedOperation(f"{framework} has no forward mode for probes")


def _push_jax(
    forward: Callable[..., Any], arrays: Sequence[Any], wrt: int, tangent: Floats, dtype: str,
    device: str,
) -> list[Floats]:  # fmt: skip
    import jax
    import jax.numpy as jnp

    backend = backends.get("jax")
    with backend.scope(dtype):
        inputs = [backend.asarray(a, dtype, device) for a in arrays]
        xp = backend.namespace(dtype, device)

        def moved(x: Any) -> tuple[Any, ...]:
            found = outputs_of(forward(xp, *inputs[:wrt], x, *inputs[wrt + 1 :]))
            return tuple(jnp.asarray(r) for r in found)

        _, moves = jax.jvp(moved, (inputs[wrt],), (backend.asarray(tangent, dtype, device),))
        return [backend.to_numpy(m) for m in moves]


def _push_torch(
    forward: Callable[..., Any], arrays: Sequence[Any], wrt: int, tangent: Floats, dtype: str,
    device: str,
) -> list[Floats]:  # fmt: skip
    import torch

    backend = backends.get("torch")
    with backend.scope(dtype), torch.enable_grad():
        inputs = [backend.asarray(a, dtype, device).detach() for a in arrays]
        x = inputs[wrt].requires_grad_()
        results = outputs_of(forward(backend.namespace(dtype, device), *inputs))
        direction = backend.asarray(tangent, dtype, device)
        moves = []
        for result in results:
            zero = torch.zeros_like(result)
            if not result.requires_grad:
                moves.append(zero)
                continue
            v = zero.requires_grad_()
            (row,) = torch.autograd.grad(result, x, v, create_graph=True, allow_unused=True)
            found = (
                torch.autograd.grad(row, v, direction, allow_unused=True)[0]
                if row is not None and row.requires_grad
                else None
            )
            moves.append(torch.zeros_like(result) if found is None else found)
    return [backend.to_numpy(m) for m in moves]


def _push_autograd(
    forward: Callable[..., Any], arrays: Sequence[Any], wrt: int, tangent: Floats, dtype: str
) -> list[Floats]:
    from autograd.core import make_vjp
    from autograd.tracer import isbox

    backend = backends.get("autograd")
    xp = backend.namespace(dtype, "cpu")
    inputs = [backend.asarray(a, dtype, "cpu") for a in arrays]
    direction = np.asarray(tangent, dtype)

    def output(k: int, live: list[bool]) -> Callable[[Any], Any]:
        def moved(x: Any) -> Any:
            found = outputs_of(forward(xp, *inputs[:wrt], x, *inputs[wrt + 1 :]))[k]
            live.append(isbox(found))
            return found if live[-1] else x  # autograd warns of a constant

        return moved

    with backend.scope(dtype):
        moves = []
        for k, value in enumerate(outputs_of(forward(xp, *inputs))):
            live: list[bool] = []
            rows, _ = make_vjp(output(k, live), inputs[wrt])
            if live[-1]:
                columns, _ = make_vjp(rows, np.zeros(np.shape(value), dtype))
                moves.append(np.asarray(columns(direction)))
            else:
                moves.append(np.zeros(np.shape(value)))
    return moves


def _push_tensorflow(
    forward: Callable[..., Any], arrays: Sequence[Any], wrt: int, tangent: Floats, dtype: str,
    device: str,
) -> list[Floats]:  # fmt: skip
    import tensorflow as tf

    backend = backends.get("tensorflow")
    with backend.scope(dtype):
        inputs = [backend.asarray(a, dtype, device) for a in arrays]
        x = backend.asarray_like(inputs[wrt])
        direction = backend.asarray_like(backend.asarray(tangent, dtype, device))
        xp = backend.namespace(dtype, device)
        with tf.autodiff.ForwardAccumulator(x, direction) as accumulator:
            results = [backend.asarray_like(r) for r in outputs_of(forward(xp, *inputs))]
        moves = [accumulator.jvp(r) for r in results]
    pairs = zip(moves, results, strict=True)
    return [np.zeros(tuple(r.shape)) if m is None else backend.to_numpy(m) for m, r in pairs]
