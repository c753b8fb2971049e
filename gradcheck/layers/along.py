"""The forward carried along one direction: J u of every output with its error, at any size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.errors import GradcheckError
from gradcheck.running import DualNamespace
from gradcheck.running.dual import Dual
from gradcheck.running.tangent import Tangent

if TYPE_CHECKING:
    from gradcheck.checking.search import Example
    from gradcheck.layers.reference import Reference

    Floats = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Moved:
    """The forward carried along one direction.

    Attributes:
        outputs: J u of every output, and its error.
        ties: The number of decisions at an exact tie.
    """

    outputs: list[tuple[Floats, Floats]]
    ties: int


def carried(
    reference: Reference, example: Example, name: str, towards: Floats, dtype: str,
    *, every: bool = False,
) -> Moved | None:  # fmt: skip
    """J u of every output for one direction u, and the number of ties on the way; None where it cannot be.

    At a kink it is the derivative just ahead. Memory is linear in the input: there is one direction, not one
    for each entry.

    Args:
        reference: The forward.
        example: Where.
        name: The input that moves.
        towards: The direction, of the input's shape.
        dtype: The format whose rounding errors are charged.
        every: Whether a tie leaves every branch open, instead of the one just ahead.
    """
    assert reference.forward is not None
    space = DualNamespace(dtype, every=every)
    arrays: list[Any] = reference.carried(example, dtype, name)
    direction = np.asarray(towards, np.float64)[None]
    variable = Dual(
        space,
        space.base.asarray(example.inputs[name]),
        Tangent(direction, np.zeros_like(direction), np.abs(direction)),
    )
    space.directions = 1
    arrays[list(reference.inputs).index(name)] = variable
    try:
        with np.errstate(all="ignore"):
            results = reference.forward(space, *arrays, **example.params)
            outputs = [_moved(space, space.asarray(r)) for r in results]
    except (GradcheckError, TypeError, AttributeError, MemoryError):
        return None
    return Moved(outputs, space.branches.ties)


def _moved(space: DualNamespace, result: Any) -> tuple[Floats, Floats]:
    if not isinstance(result, Dual):
        return np.zeros(result.shape), np.zeros(result.shape)
    value, error = space.closed(result.tangent)
    return value[0], error[0]
