"""Whether a claim of which only the values are known is wrong, and whether a hypothesis explains it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.diagnosis.questions import Evidence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gradcheck.diagnosis.cases import OpaqueCase

    Array = NDArray[Any]

# A hypothesis explains a claim where it leaves less than a hundredth of the error, and no more than so
# many units of roundoff of the largest entry: hypotheses differ by whole factors and entries.
_ULPS = 2.0**14
_EXPLAINED = 0.01
_ROUNDOFF = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
_WIDEST = 0.05


def slack(case: OpaqueCase, *arrays: Array) -> Array:
    """What rounding explains where two ways to compute the same are compared."""
    unit = min(_ROUNDOFF.get(case.dtype, 2.0**-52) * _ULPS, _WIDEST)
    size = max((float(np.abs(a[np.isfinite(a)]).max(initial=0.0)) for a in arrays), default=0.0)
    own = (
        case.tolerance
        if case.tolerance is not None and np.all(np.isfinite(case.tolerance))
        else 0.0
    )
    return np.asarray(min(unit * size + 4.0 * float(np.max(own, initial=0.0)), _error(case)))


def _error(case: OpaqueCase) -> float:
    """What may be left of the claim's error; infinite where it has no size."""
    if case.claimed.shape != case.true.shape:
        return np.inf
    gap = np.abs(np.asarray(case.claimed, np.float64) - np.asarray(case.true, np.float64))
    worst = float(np.max(gap, initial=0.0))
    return _EXPLAINED * worst if np.isfinite(worst) and worst > 0 else np.inf


def same(case: OpaqueCase, candidate: Array) -> bool:
    """Whether the claim is this array."""
    claimed = np.asarray(case.claimed, np.float64)
    if candidate.shape != claimed.shape or not np.all(np.isfinite(candidate)):
        return False
    return bool(np.all(np.abs(candidate - claimed) <= slack(case, candidate, claimed)))


def wrong_entries(case: OpaqueCase) -> Array:
    """Where the claim is wrong."""
    claimed, true = np.asarray(case.claimed, np.float64), np.asarray(case.true, np.float64)
    if case.tolerance is not None:
        limit: Array = np.broadcast_to(case.tolerance, true.shape)
    else:
        unit = _ROUNDOFF.get(case.dtype, 2.0**-52) * 2.0**6
        limit = np.asarray(unit * np.maximum(np.abs(true), np.abs(true).max(initial=0.0)))
    return ~(np.abs(claimed - true) <= limit)


def is_wrong(case: OpaqueCase) -> bool:
    """Whether the claim is wrong anywhere at this example."""
    return case.claimed.shape != case.true.shape or bool(wrong_entries(case).any())


def is_special(case: OpaqueCase) -> bool:
    """Whether an axis has size 1 or less, or an input a zero or a tie."""
    arrays = [np.asarray(a) for a in case.inputs.values()]
    floats = [a for a in arrays if a.dtype.kind == "f" and a.size]
    small = any(size <= 1 for size in case.true.shape)
    return small or any((a == 0).any() or np.unique(a).size < a.size for a in floats)


def typical(cases: Sequence[OpaqueCase]) -> list[OpaqueCase]:
    """The wrong examples to explain: generic ones in the best precision, if there are any.

    Where some claims are numbers, those that are not (it overflows too) have nothing to explain.
    """
    wrong = [c for c in cases if c.claimed.shape == c.true.shape and c.true.size and is_wrong(c)]
    generic = [c for c in wrong if not is_special(c)]
    if not generic and any(not is_special(c) and not is_wrong(c) for c in cases):
        return []
    chosen = generic or wrong
    chosen = [c for c in chosen if np.all(np.isfinite(c.claimed))] or chosen
    best = max((_ROUNDOFF.get(c.dtype, 2.0**-52) for c in chosen), default=0.0)
    best = min((_ROUNDOFF.get(c.dtype, 2.0**-52) for c in chosen), default=best)
    return [c for c in chosen if _ROUNDOFF.get(c.dtype, 2.0**-52) == best]


def evidence(case: OpaqueCase) -> Evidence:
    """The example as the other questions take it."""
    claimed, true = np.asarray(case.claimed, np.float64), np.asarray(case.true, np.float64)
    return Evidence(
        claimed,
        true,
        case.split,
        case.input,
        np.asarray(case.inputs[case.input], np.float64),
        np.asarray(case.output, np.float64),
        "the output",
        _sizes(case),
        np.broadcast_to(slack(case, true, claimed), true.shape),
    )


def _sizes(case: OpaqueCase) -> dict[str, int]:
    named = {a: n for a, n in zip(case.axes, case.true.shape, strict=True) if a}
    return {**named, **{a: int(n) for a, n in case.sizes.items()}}
