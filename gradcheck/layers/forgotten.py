"""A gradient of the wrong shape: whether the sum that its shape lacks makes it right.

Where an input was broadcast in the forward, its gradient is summed over the broadcast axes. A rule that
forgot to returns a larger array; summed over them here, it is compared with the oracle's derivative.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.layers import precision
from gradcheck.layers.faults import missing_axes
from gradcheck.running import format_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck.checking.search import Example
    from gradcheck.layers.bench import Bench, Point
    from gradcheck.oracles import Oracle

    Floats = np.ndarray[Any, np.dtype[np.float64]]

# How many examples are looked at until one has something to sum.
_EXAMPLES = 8


def forgotten_sum(
    bench: Bench, examples: Sequence[Example], name: str, oracle: Oracle
) -> str | None:
    """That a sum over broadcast axes mends the gradient, with an entry; None where it does not.

    Args:
        bench: The rule and its reference.
        examples: Where to look; those with nothing to sum say nothing.
        name: The input whose gradient has another shape.
        oracle: Who knows the derivative.
    """
    shown = None
    for example in examples[:_EXAMPLES]:
        point = bench.at(example)
        if point.trouble or point.large:
            continue
        tried = _tried(bench, point, name, oracle)
        if tried is None:
            continue
        if not tried:
            return None
        shown = shown or tried
    return shown


def _tried(bench: Bench, point: Point, name: str, oracle: Oracle) -> str | None:
    """What the sum gives at one example; "" where that is wrong, None where there is none to take."""
    caller, example = bench.caller, point.example
    rng = np.random.default_rng(bench.seed)
    vectors = [
        rng.choice([-1.0, 1.0], o.shape) * rng.integers(1, 9, o.shape) / 4 for o in point.outputs
    ]
    raw = caller.pull([caller.array(v) for v in vectors], caller.arrays(example), example.params)
    came = caller.host(raw[bench.rule.differentiable.index(name)])
    shape = example.inputs[name].shape
    axes = missing_axes(came.shape, shape)
    if axes is None or all(came.shape[a] == 1 for a in axes):
        return None
    total = came.sum(axis=axes).reshape(shape)
    exact, bound = _expected(bench, point, name, oracle, vectors)
    # The sum that was forgotten has roundings of its own.
    unit = format_of(bench.dtype).unit * came.size / max(total.size, 1)
    slack = bound + unit * np.abs(came).sum(axis=axes).reshape(shape)
    if not np.all(np.abs(total - exact) <= slack):
        return ""
    place = tuple(int(i) for i in np.unravel_index(int(np.argmax(np.abs(exact))), shape))
    at = f"{name}[{','.join(map(str, place))}]" if place else name
    return (
        f"of shape {came.shape} as it came, so summed it gives {at} the gradient {total[place]:.6g}, as it "
        f"must be ({oracle.name}: {exact[place]:.6g})"
    )


def _expected(
    bench: Bench, point: Point, name: str, oracle: Oracle, vectors: Sequence[Floats]
) -> tuple[Floats, Floats]:
    """The gradient for cotangents according to the oracle, and what a right one may be off."""
    example = point.example
    shape = example.inputs[name].shape
    exact, bound = np.zeros(shape), np.zeros(shape)
    for k, vector in enumerate(vectors):
        full = (*vector.shape, *shape)
        answer = bench.ask(oracle, example, name, k)
        truth = bench.reference.truth(example, name, k, bench.dtype, vector.size)
        error = truth.error if truth is not None else precision.measured(bench, example, name, k)
        own = 0.0 if answer.error is None else np.broadcast_to(answer.error, full)
        exact += np.tensordot(vector, np.reshape(answer.jacobian, full), vector.ndim)
        bound += np.tensordot(np.abs(vector), 2 * np.broadcast_to(error, full) + own, vector.ndim)
    return exact, bound
