"""How far rounding alone takes an implementation whose formula nobody sees.

Of a forward that is written in our namespace the error is derived. A framework's own implementation, or a
layer's, may take another way to the same number, and cancel on it: with z = -7 and y = 0.01 torch's binary
cross-entropy computes (1 - y) z - z + log(1 + exp z), and loses what log(1 + exp z) - y z keeps; so does its
derivative, 1 - y - sigma(-z). Such an error is measured, as in `gradcheck.layers.precision`: roundings are
proportional to the unit roundoff to first order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.running import format_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# In float64 it is measured in float32, at so many points around, each entry moved by up to this part: at a
# single one an error may be small by accident.
_AROUND, _PART = 8, 2.0**-6
_NARROW = "float32"


def measured_rounding(
    values: Callable[[Sequence[Any], str], Sequence[Any]], arrays: Sequence[Any], dtype: str
) -> list[Any] | None:
    """The rounding errors of what an implementation computes around a point.

    Below float64 they are the distances, entry by entry, from its own values in float64 at this very point.
    In float64 it is twice the largest distance, over points and entries, of its values in float32 from
    those in float64, in the unit roundoff of float64.

    Args:
        values: What it computes, from arrays and a dtype: one array or several.
        arrays: The point, in numbers that the dtype has; what is no float array stays as it is.
        dtype: The dtype of the check.

    Returns:
        An array or a number for each of the values; None where the other dtype is refused.
    """
    if dtype != "float64":
        return _gaps(values, arrays, dtype)
    ratio = 2 * format_of(dtype).unit / format_of(_NARROW).unit
    around = [_gaps(values, point, _NARROW) for point in _around(arrays)]
    largest = [[np.max(gap, initial=0.0) for gap in gaps] for gaps in around if gaps is not None]
    return [ratio * max(gaps) for gaps in zip(*largest, strict=True)] or None


def _gaps(
    values: Callable[[Sequence[Any], str], Sequence[Any]], arrays: Sequence[Any], dtype: str
) -> list[Any] | None:
    try:
        near, wide = (
            [np.asarray(v, np.float64) for v in values(arrays, d)] for d in (dtype, "float64")
        )
    except (Exception, SystemExit):  # noqa: BLE001  somebody's code may raise anything in another dtype
        return None
    with np.errstate(all="ignore"):
        gaps = [np.abs(n - w) for n, w in zip(near, wide, strict=True)]
    return [np.where(np.isfinite(gap), gap, 0.0) for gap in gaps]


def _around(arrays: Sequence[Any]) -> Iterator[list[Any]]:
    """Points close by, in numbers that float32 has; the first is the point itself."""
    draw, narrow = np.random.default_rng(0), format_of(_NARROW)
    for k in range(_AROUND):
        yield [
            narrow.rounded(a * (1 + bool(k) * draw.uniform(-_PART, _PART, np.shape(a))))
            if getattr(a, "dtype", np.dtype(int)).kind == "f"
            else a
            for a in arrays
        ]
