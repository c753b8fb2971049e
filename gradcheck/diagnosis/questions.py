"""Right after all: the other questions that a wrong claim may answer rightly."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.diagnosis.numbers import Coefficient, recognise
from gradcheck.diagnosis.screen import NEAR

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Evidence:
    """A claimed derivative, the true one, and the point, as arrays.

    Attributes:
        claimed: Of shape output + input.
        true: Of the same shape.
        split: The number of output axes.
        input: The name of the input.
        value: Its array.
        output: The array of the differentiated output.
        sizes: The size of each axis.
        near: What rounding can explain, entry by entry.
        others: The true derivatives of other things, by what they are called.
    """

    claimed: Array
    true: Array
    split: int
    input: str
    value: Array
    output: Array
    output_name: str
    sizes: Mapping[str, int]
    near: Array
    others: Mapping[str, Array] = field(default_factory=dict)

    def agrees(self, candidate: Array) -> bool:
        """Whether the claim is this derivative instead."""
        if candidate.shape != self.claimed.shape or not np.all(np.isfinite(candidate)):
            return False
        size = np.maximum(np.abs(candidate), np.abs(self.claimed))
        slack = self.near + NEAR * np.maximum(size, 1e-3 * size.max(initial=0.0))
        # Whatever the rounding, a candidate explains most of the error, or it explains nothing.
        error = 0.01 * float(np.abs(self.claimed - self.true).max(initial=0.0))
        return bool(np.all(np.abs(candidate - self.claimed) <= np.minimum(slack, error or np.inf)))

    @property
    def over_input(self) -> Array:
        """The input's value along the Jacobian's last axes."""
        return self.value.reshape((1,) * self.split + self.value.shape)

    @property
    def over_output(self) -> Array:
        """The output's value along the Jacobian's first axes."""
        return self.output.reshape(self.output.shape + (1,) * self.value.ndim)


def answers(evidence: Sequence[Evidence]) -> str | None:
    """The question to which the claim is the right answer at every point; None where there is none."""
    if not evidence or any(not e.claimed.size for e in evidence):
        return None
    for words, candidate in _questions(evidence[0]):
        if all(e.agrees(candidate(e)) for e in evidence):
            return words
    return _of_others(evidence) or _mean_or_sum(evidence)


def _questions(e: Evidence) -> list[tuple[str, Callable[[Evidence], Array]]]:
    name, result = e.input, e.output_name
    return [
        (f"the gradient with respect to log {name}", lambda e: e.true * e.over_input),
        (f"the gradient with respect to 1/{name}", lambda e: -e.true * e.over_input**2),
        (f"the gradient with respect to {name}²", lambda e: _divided(e.true, 2 * e.over_input)),
        (f"the gradient of log {result}", lambda e: _divided(e.true, e.over_output)),
        (f"the gradient of {result}²", lambda e: 2 * e.true * e.over_output),
        ("the transposed layout: the input's letters first", _transposed),
    ]


def _divided(x: Array, y: Array) -> Array:
    with np.errstate(all="ignore"):
        return np.asarray(x / y)


def _transposed(e: Evidence) -> Array:
    axes = (*range(e.split, e.true.ndim), *range(e.split))
    turned = np.transpose(e.true, axes)
    # A symmetric derivative says nothing, and a square layout with itself neither.
    return (
        turned
        if turned.shape != e.true.shape or not np.array_equal(turned, e.true)
        else e.true * np.nan
    )


def _of_others(evidence: Sequence[Evidence]) -> str | None:
    for words in evidence[0].others:
        if all(words in e.others and e.agrees(e.others[words]) for e in evidence):
            return words
    return None


def ratio(evidence: Sequence[Evidence]) -> Coefficient | None:
    """The one factor by which the claim differs from the truth everywhere, if there is one."""
    numbers = []
    for e in evidence:
        square = float(np.vdot(e.true, e.true))
        if e.claimed.shape != e.true.shape or not square or not np.all(np.isfinite(e.claimed)):
            return None
        number = float(np.vdot(e.claimed, e.true)) / square
        if not e.agrees(number * e.true):
            return None
        numbers.append(number)
    return recognise(numbers, [e.sizes for e in evidence])


def _mean_or_sum(evidence: Sequence[Evidence]) -> str | None:
    """A factor of sizes alone is a mean for a sum, or a sum for a mean."""
    found = ratio(evidence)
    if found is None or found.number != 1 or not found.sizes:
        return None
    powers = {power for _, power in found.sizes}
    axes = " and ".join(axis for axis, _ in found.sizes)
    if powers == {1}:
        return f"the sum instead of the mean over {axes}"
    if powers == {-1}:
        return f"the mean instead of the sum over {axes}"
    return None
