"""Whether one entry of an input lies at a kink of a forward that only a framework can run.

Nothing can be carried through such a forward. Differences along that entry alone show whether there is a
derivative, for every output, at the cost of a few dozen forward passes. That they show none is no kink yet:
they may only be too coarse. At a kink the framework's derivative jumps, by as much at every distance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.layers.large import label
from gradcheck.oracles import Oracle
from gradcheck.oracles.differences import differences

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradcheck.checking.search import Example
    from gradcheck.layers.bench import Bench, Point

    Floats = np.ndarray[Any, np.dtype[Any]]

# Powers of two: where a derivative is smooth, its change is 128 times as large from one to the next.
_STEPS = (-48, -41, -34, -27, -20)
# So many jumps of one height are a kink.
_ALIKE = 3


def refuted(
    bench: Bench, point: Point, name: str, place: tuple[int, ...], vectors: Sequence[Floats],
    claim: float, bound: float,
) -> bool:  # fmt: skip
    """Whether differences show a derivative along one entry, and a claim is not it.

    Args:
        bench: The rule and its reference.
        point: The example, with the values of its outputs.
        name: The input.
        place: The entry that moves.
        vectors: A weight for every entry of every output; what is claimed is the weighted sum.
        claim: The claim.
        bound: What rounding may be off.
    """
    if not np.isfinite(claim):
        return True
    value, error = 0.0, 0.0
    for which, vector in enumerate(vectors):
        used = np.asarray(vector, np.float64) != 0
        if not used.any() or point.outputs[which].dtype.kind != "f":
            continue
        column, off = _along(bench, point, name, place, which)
        weights = np.asarray(vector, np.float64)[used]
        value += float(np.sum(weights * column[used]))
        error += float(np.sum(np.abs(weights) * off[used]))
    return bool(np.isfinite(error)) and not abs(claim - value) <= error + bound


def jumps(moved: Callable[[float], float], claim: float, bound: float, size: float) -> str:
    """Where a derivative jumps, by as much however near it is asked: "kink" or "wrong" for a claim; else "".

    Args:
        moved: The derivative with the entry moved by a step.
        claim: The claim.
        bound: What rounding may be off.
        size: Steps are fractions of this.
    """
    same, before = 0, 0.0
    for power in _STEPS:
        step = size * 2.0**power
        low, high = sorted((moved(step), moved(-step)))
        alike = same and abs((high - low) - before) <= before / 8
        same, before = (same + 1 if alike else 1) if high - low > 2 * bound else 0, high - low
        if same == _ALIKE:
            return "kink" if low - bound <= claim <= high + bound else "wrong"
    return ""


def unlike(name: str, place: tuple[int, ...], oracle: str) -> str:
    """What there is to say where neither an error nor a kink shows."""
    return (
        f"{label(name, place)} is not what {oracle} has, which shows no kink there, and differences cannot "
        "tell who is right"
    )


def confirmed_along(
    bench: Bench, example: Example, name: str, direction: Floats, which: int, claim: Floats, bound: Floats
) -> Floats:  # fmt: skip
    """Where differences show a derivative of an output along a direction, and the claim is not it."""
    value, error = _moved(bench, example, name, direction, which)
    claim = np.asarray(claim, np.float64).reshape(value.shape)
    with np.errstate(all="ignore"):
        off = ~(np.abs(claim - value) <= error + bound)
    return np.asarray((np.isfinite(error) & off) | ~np.isfinite(claim))


def _along(
    bench: Bench, point: Point, name: str, place: tuple[int, ...], which: int
) -> tuple[Floats, Floats]:
    """The derivative of an output along one entry of an input, and its error."""
    direction = np.zeros(point.example.inputs[name].shape)
    direction[place] = 1.0
    return _moved(bench, point.example, name, direction, which)


def _moved(
    bench: Bench, example: Example, name: str, direction: Floats, which: int
) -> tuple[Floats, Floats]:
    """The derivative of an output along a direction, and its error."""
    oracle = Oracle("differences", "numpy")
    question = bench.reference.question(oracle, example, name, which, "float64")
    whole = np.asarray(question.arrays[question.wrt], np.float64)

    def forward(xp: Any, step: Any) -> Any:
        arrays = list(question.arrays)
        arrays[question.wrt] = whole + float(np.reshape(step, ())) * direction
        return question.forward(xp, *arrays)

    return differences(forward, [np.zeros(())], 0, output=which)
