"""How far rounding alone takes an implementation whose formula nobody sees.

Of a forward that is written in our namespace the error is derived. A framework's own implementation, or a
layer's, may take another way to the same number, and cancel on it: with z = -7 and y = 0.01 torch's binary
cross-entropy computes (1 - y) z - z + log(1 + exp z), and loses what log(1 + exp z) - y z keeps; so does its
derivative, 1 - y - sigma(-z). Such an error is measured, as in `gradcheck.layers.precision`: roundings are
proportional to the unit roundoff to first order.

It is measured in another format than the one that is judged, for what is wrong in one format alone would
excuse itself. And it is measured on the way to 0 and, from a point close to 0, on the way to 1, for where all
digits of a part are lost its size no longer shows: log(1 + exp z) is 0 in float32 from z = -17 on, in float64
from -37 on, and exp(x) - 1 is 0 for small x.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gradcheck.running import format_of, rescaled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Values = Callable[[Sequence[Any], str], Sequence[Any]]

# Where it is measured: at these parts of the inputs, every entry moved by up to another part, but for the
# first of them. At a single point an error may be small by accident.
_POINTS = [1.0] * 8 + [0.25] * 4 + [2.0**-4] * 4 + [2.0**-6] * 4
_FEW = [1.0] * 4 + [0.25] * 2 + [2.0**-4, 2.0**-6]  # of so many entries as take time
_MANY = 1 << 16
_PART = 2.0**-6
_SMALL = 2.0**-4  # from here on down an input is close to 0
# Half precision, in which float32 is measured, is often computed in float32 and shows less than its own
# rounding then: so many roundings of the largest value are believed without it.
_ROUNDINGS = 64.0


class _Seen(NamedTuple):
    """What a format was seen to do: by value, its largest error and its largest magnitude."""

    errors: list[float]
    sizes: list[float]


def measured_rounding(values: Values, arrays: Sequence[Any], dtype: str) -> list[Any] | None:
    """The rounding errors of what an implementation computes at a point.

    In float64 it is twice the largest distance, over entries and points, of its values in float32 from those
    in float64, in the unit roundoff of float64. Below float64 it is, entry by entry, the distance from its
    own values in float64, but no more than another format shows in this way.

    Args:
        values: What it computes, from arrays and a dtype: one array or several.
        arrays: The point, in numbers that the dtype has; what is no float array stays as it is.
        dtype: The dtype of the check.

    Returns:
        An array or a number for each of the values; None where the other dtype is refused.
    """
    single = _seen(values, arrays, "float32")
    if single is None:
        return None
    wide = _scaled(single, "float32", "float64")
    if dtype == "float64":
        return wide
    own = _gaps(values, arrays, dtype)
    if own is None:
        return None
    gaps = own[0]
    most = (
        _of_half(values, arrays, single, gaps)
        if dtype == "float32"
        else _scaled(single, "float32", dtype)
    )
    # Its values in float64 are rounded, too.
    return [np.minimum(gap + e, m) for gap, e, m in zip(gaps, wide, most, strict=True)]


def _of_half(
    values: Values, arrays: Sequence[Any], single: _Seen, gaps: Sequence[Any]
) -> list[float]:
    """What may be rounding in float32; half precision is asked only where that is not enough without it."""
    most = [_ROUNDINGS * format_of("float32").unit * size for size in single.sizes]
    for other in ("float16", "bfloat16"):
        if any(np.any(gap > m) for gap, m in zip(gaps, most, strict=True)):
            seen = _seen(values, arrays, other)
            most = most if seen is None else list(map(max, most, _scaled(seen, other, "float32")))
    return most


def _scaled(seen: _Seen, measured: str, dtype: str) -> list[float]:
    """Twice the errors in one format, as they are in another."""
    return [rescaled(2 * error, measured, dtype) for error in seen.errors]


def _seen(values: Values, arrays: Sequence[Any], dtype: str) -> _Seen | None:
    """What a format does from a point to 0; None where it is refused at all of them."""
    found = [
        [[float(np.max(a, initial=0.0)) for a in kind] for kind in gaps]
        for point in _points(arrays, dtype)
        if (gaps := _gaps(values, point, dtype)) is not None
    ]
    if not found:
        return None
    return _Seen(
        *([max(each) for each in zip(*kind, strict=True)] for kind in zip(*found, strict=True))
    )


def _gaps(values: Values, arrays: Sequence[Any], dtype: str) -> tuple[list[Any], list[Any]] | None:
    """The distances of its values in a dtype from those in float64, and the magnitudes of these."""
    try:
        near, wide = (
            [np.asarray(v, np.float64) for v in values(arrays, d)] for d in (dtype, "float64")
        )
        with np.errstate(all="ignore"):
            gaps = [np.abs(n - w) for n, w in zip(near, wide, strict=True)]
    except (Exception, SystemExit):  # noqa: BLE001  somebody's code may raise anything in another dtype
        return None
    return list(map(_finite, gaps)), [_finite(np.abs(w)) for w in wide]


def _finite(array: Any) -> Any:
    return np.where(np.isfinite(array), array, 0.0)


def _points(arrays: Sequence[Any], dtype: str) -> Iterator[list[Any]]:
    """The point itself, points close by, and likewise on the way to 0 and to 1, in numbers of the dtype."""
    draw, target = np.random.default_rng(0), format_of(dtype)
    many = sum(np.size(a) for a in arrays) > _MANY
    scales = [[part] * len(arrays) for part in (_FEW if many else _POINTS)]
    to_one = [_to_one(a) for a in arrays]
    if any(up > 1 for up in to_one):
        scales += [to_one] * (2 if many else 4)
    for k, scale in enumerate(scales):
        moved = [1 + bool(k) * draw.uniform(-_PART, _PART, np.shape(a)) for a in arrays]
        with np.errstate(over="ignore"):
            there = [
                target.rounded(a * s * m) if _is_real(a) else a
                for a, s, m in zip(arrays, scale, moved, strict=True)
            ]
        yield there


def _to_one(array: Any) -> float:
    """The power of two that takes the largest entry of a small array to 1; else 1."""
    largest = float(np.max(np.abs(array), initial=0.0)) if _is_real(array) else 1.0
    return 2.0 ** -math.floor(math.log2(largest)) if 2.0**-1000 < largest < _SMALL else 1.0


def _is_real(array: Any) -> bool:
    return getattr(array, "dtype", np.dtype(int)).kind == "f"
