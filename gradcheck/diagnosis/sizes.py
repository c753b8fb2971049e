"""Wrong from some size of an axis on: a loop that stops after its first block of entries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.diagnosis.hypotheses import Found
from gradcheck.diagnosis.matching import is_special, is_wrong, slack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gradcheck.diagnosis.cases import OpaqueCase

    Array = NDArray[Any]

# Right at so many sizes above 1, so that it is no matter of a single one.
_RIGHT = 2


def beyond_a_size(cases: Sequence[OpaqueCase]) -> Found | None:
    """Right at small sizes of an axis, wrong at all larger ones, whatever the values are."""
    wrong = [c for c in cases if is_wrong(c)]
    right = [c for c in cases if c.true.size and not is_wrong(c)]
    if not wrong or any(c.claimed.shape != c.true.shape for c in wrong):
        return None
    for axis in wrong[0].sizes:
        if any(axis not in c.sizes for c in (*wrong, *right)):
            continue
        small = {c.sizes[axis] for c in right if c.sizes[axis] > 1}
        least, most = min(c.sizes[axis] for c in wrong), max(small, default=0)
        if len(small) < _RIGHT or least <= max(most, *(c.sizes[axis] for c in right)):
            continue
        first = next(c for c in wrong if c.sizes[axis] == least)
        if not is_special(first) or _wrong_at_other_values(first):
            text = f"wrong where {axis} is {least} or more, right where it is {most} or less"
            return Found("beyond-a-size", f"{text}, as if what lies beyond a block were left out")
    return None


def _wrong_at_other_values(case: OpaqueCase) -> bool:
    """Whether values that all differ, at the same sizes, are wrong too."""
    if case.claimed_at is None or case.true_at is None:
        return False
    rng = np.random.default_rng(0)
    values = {n: _different(np.asarray(a), rng) for n, a in case.inputs.items()}
    try:
        claimed = np.asarray(case.claimed_at(values), np.float64)
        true = np.asarray(case.true_at(values), np.float64)
    except (ArithmeticError, ValueError, RuntimeError):
        return False  # values outside of the domain say nothing
    if claimed.shape != true.shape or not np.all(np.isfinite(true)):
        return False
    return bool(np.any(np.abs(claimed - true) > slack(case, claimed, true)))


def _different(array: Array, rng: np.random.Generator) -> Array:
    """Values within the range of the array's own, or of 1/2 to 1 where they are all equal."""
    if array.dtype.kind != "f" or not array.size:
        return array
    low, high = float(array.min()), float(array.max())
    if not low < high:
        low, high = 0.5, 1.0
    found: Array = rng.uniform(low, high, array.shape).astype(array.dtype)
    return found
