"""The values that examples are made of: short decimals that a person can redo by hand.

A palette is a one-dimensional array of distinct values that all lie inside the domain and in the
dtype, the simplest first: examples are drawn as indices into it, so that shrinking an index towards
0 makes the value simpler.
"""

from __future__ import annotations

import math
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

# How large the values of an example are; "unit" is the simplest. "tiny" and "mixed" are
# log-uniform in 1e-17..1 and 1e-17..1e3; "edge" is near log(largest number of the dtype), where
# exp overflows.
MAGNITUDES = ("unit", "30", "100", "1000", "tiny", "mixed", "edge")

_SIMPLEST = (0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0)
# Fewer values than these make arrays that are full of ties.
_ENOUGH = 12
# The largest finite and the smallest normal number.
_BFLOAT16_MAX, _BFLOAT16_TINY = 3.3895313892515355e38, 2.0**-126


def round_to(values: Floats, dtype: str) -> Floats:
    """The nearest numbers of the dtype, as float64; beyond its range they are infinite."""
    values = np.asarray(values, dtype=np.float64)
    if dtype == "float64":
        return values
    with np.errstate(over="ignore", under="ignore"):
        single = values.astype(np.float32)
        if dtype == "bfloat16":
            # The upper half of a float32, rounded to nearest, ties to even.
            bits = single.view(np.uint32)
            bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
            return bits.view(np.float32).astype(np.float64)
        if dtype == "float32":
            return single.astype(np.float64)
        return values.astype(np.dtype(dtype)).astype(np.float64)


def largest(dtype: str) -> float:
    """The largest finite number of the dtype."""
    return _BFLOAT16_MAX if dtype == "bfloat16" else float(np.finfo(dtype).max)


def smallest(dtype: str) -> float:
    """The smallest positive normal number of the dtype."""
    return _BFLOAT16_TINY if dtype == "bfloat16" else float(np.finfo(dtype).tiny)


@lru_cache(maxsize=512)
def real_palette(
    magnitude: str, lo: float | None, hi: float | None, dtype: str, *, positive: bool = False
) -> Floats:
    """The values of a real domain between lo and hi, both included; simplest first.

    Args:
        magnitude: One of `MAGNITUDES`; where the bounds leave too few values of that size, values
            spread over the interval stand in.
        lo: The lower bound, or None.
        hi: The upper bound, or None.
        dtype: All values are numbers of this dtype.
        positive: Whether 0 and below are left out.

    Raises:
        SpecError: If the dtype has no number between the bounds.
    """
    wanted = _of_magnitude(magnitude, dtype)
    if positive:
        wanted = tuple(v for v in wanted if v > 0)
    found = _inside(wanted, lo, hi, dtype, positive=positive)
    if len(found) < _ENOUGH:
        more = [*found, *_SIMPLEST, *_between(lo, hi, magnitude, dtype)]
        found = _inside(more, lo, hi, dtype, positive=positive)
    if not found:
        problem = f"{dtype} has no number between {lo} and {hi}"
        raise SpecError(problem, hint="widen the bounds")
    palette = np.array(found)
    palette.flags.writeable = False
    return palette


def _inside(
    values: Iterable[float], lo: float | None, hi: float | None, dtype: str, *, positive: bool
) -> list[float]:
    """The distinct values that still lie between the bounds once they are numbers of the dtype."""
    least = smallest(dtype) if positive else -largest(dtype)
    low = least if lo is None else max(lo, least)
    high = largest(dtype) if hi is None else min(hi, largest(dtype))
    rounded = round_to(np.array(list(dict.fromkeys(values)), dtype=np.float64), dtype)
    # `+ 0.0` turns -0.0 into 0.0
    return list(dict.fromkeys(float(v) + 0.0 for v in rounded if low <= v <= high))


def _between(lo: float | None, hi: float | None, magnitude: str, dtype: str) -> list[float]:
    """Values spread between the bounds, or beside the only one; the bounds themselves too."""
    if lo is not None and hi is not None:
        if lo == hi:
            return [lo, *_neighbours(lo, dtype)]
        return [*sorted(_grid(lo, hi), key=_complexity), lo, hi, *_neighbours((lo + hi) / 2, dtype)]
    offsets = [abs(v) for v in _of_magnitude(magnitude, dtype)]
    if lo is not None:
        return [lo, *(_exact_sum(lo, v) for v in offsets)]
    if hi is not None:
        return [hi, *(_exact_sum(hi, -v) for v in offsets)]
    return []


def _neighbours(value: float, dtype: str) -> list[float]:
    """Values so near that rounding one to the dtype may fall inside where another does not."""
    step = abs(value) * 2.0**-7 if dtype == "bfloat16" else abs(value) * float(np.finfo(dtype).eps)
    return [value, value - step, value + step]


def _exact_sum(a: float, b: float) -> float:
    """The float nearest to the sum of two decimals: 0.1 + 0.2 is 0.3."""
    return float(Decimal(repr(a)) + Decimal(repr(b)))


def _grid(lo: float, hi: float) -> list[float]:
    """The multiples of a round step between the bounds: a hundred at most, thirty at least."""
    digits = math.log10(hi - lo)
    step = Decimal(10) ** (math.floor(digits) - 1)
    if digits % 1 < math.log10(3):
        step /= 5
    first, last = math.ceil(Decimal(repr(lo)) / step), math.floor(Decimal(repr(hi)) / step)
    return [float(k * step) for k in range(first, last + 1)]


def _complexity(value: float) -> tuple[int, float, bool]:
    """How hard a value is to work with: digits after the point, then size, then sign."""
    exponent = Decimal(repr(value)).normalize().as_tuple().exponent
    digits = -exponent if isinstance(exponent, int) and exponent < 0 else 0
    return digits, abs(value), value < 0


def log_complexity(value: float) -> tuple[int, float, bool]:
    """How hard a value of any size is to work with: digits, then distance from 1, then sign."""
    digits = len(Decimal(repr(value)).normalize().as_tuple().digits)
    return digits, abs(math.log10(abs(value))) if value else 0.0, value < 0


def _signed(values: Iterable[float]) -> list[float]:
    return [signed for v in values for signed in (v, -v)]


@lru_cache(maxsize=64)
def _of_magnitude(magnitude: str, dtype: str) -> tuple[float, ...]:
    """The values of one magnitude, of either sign, the simplest first."""
    if magnitude == "unit":
        values = [k / 10 for k in range(-30, 31)] + [k / 100 for k in range(-200, 201)]
        return tuple(dict.fromkeys([*_SIMPLEST, *sorted(values, key=_complexity)]))
    if magnitude in ("tiny", "mixed"):
        top = 0 if magnitude == "tiny" else 3
        values = [float(f"{d}e{e}") for e in range(-17, top) for d in (1, 2, 3, 5, 7)]
        return tuple(_signed(sorted([*values, 10.0**top], key=log_complexity)))
    if magnitude == "edge":
        edge = float(math.floor(math.log(largest(dtype))))
        near = [edge, edge - 1, edge + 1, edge - 0.5, edge + 0.5, edge - 2, edge / 2, 1.0]
        return (0.0, *_signed(near))
    scale = int(magnitude)
    step = max(1, scale // 100)
    values = [float(k) for k in range(-scale, scale + 1, step)]
    near = [0.0, float(scale), -float(scale), scale / 2, -scale / 2]
    return tuple(dict.fromkeys([*near, *sorted(values, key=_complexity)]))


@lru_cache(maxsize=64)
def weight_palette(magnitude: str, dtype: str) -> Floats:
    """What rows of probabilities are made of, before they are divided by their sum."""
    weights = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]
    if magnitude == "tiny":
        # Rows next to one-hot, whose logarithms are large.
        least = max(1e-17, smallest(dtype) * 100)
        weights = [1.0, *(10.0**e for e in range(-1, -18, -1) if 10.0**e >= least)]
    elif magnitude in ("30", "100", "1000", "mixed"):
        scale = 1000.0 if magnitude == "mixed" else float(magnitude)
        weights = [1.0, scale, 2.0, 3.0, scale / 2, scale / 10]
    return np.array(weights)


@lru_cache(maxsize=64)
def integer_palette(lo: int, hi: int) -> NDArray[np.int64]:
    """Integers between lo and hi, both included, the nearest to 0 first.

    All of them where they are few; else small ones, powers of two with their neighbours, the ends.
    """
    if hi - lo < 256:
        values = set(range(lo, hi + 1))
    else:
        powers = [s * (2**e + d) for e in range(63) for d in (-1, 0, 1) for s in (1, -1)]
        near = [*range(lo, lo + 4), *range(hi - 3, hi + 1), *range(-16, 17), *powers]
        values = {v for v in near if lo <= v <= hi}
    return np.array(sorted(values, key=lambda v: (abs(v), v < 0)), dtype=np.int64)


@lru_cache(maxsize=64)
def number_palette(lo: float, hi: float) -> tuple[float, ...]:
    """Values of a parameter from lo to hi; log-uniform where the range is wide."""
    if lo > 0 and hi / lo > 100:
        low, high = math.floor(math.log10(lo)), math.ceil(math.log10(hi))
        values = [float(f"{d}e{e}") for e in range(low, high + 1) for d in (1, 2, 3, 5)]
        inside = [v for v in [*values, lo, hi] if lo <= v <= hi]
        return tuple(dict.fromkeys(sorted(inside, key=log_complexity)))
    palette = real_palette("unit", lo, hi, "float64")
    return tuple(dict.fromkeys([*palette.tolist(), lo, hi]))
