"""Target formats and the documented accuracy of library functions: every constant of the analysis.

Nothing here is tuned. A format is given by IEEE 754 (or by the definition of bfloat16); the number
of ulps that a function may be off is what the libraries document or are measured by their own test
suites (numpy's SIMD loops: up to 4 ulp; SLEEF, which torch uses: 1 to 3.5 ulp; CUDA's libdevice: up
to 8 for erf, tanh and pow; XLA's rational tanh and erf: below 8, and its expm1, which is made of
tanh, too).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcheck.errors import UsageError

Floats = NDArray[np.float64]

UNIT64 = 2.0**-53
SINGLE = 2.0**-24  # the unit roundoff of float32, in which half precision is often computed

# Centres and errors are themselves computed in float64; each bound is enlarged by this factor, far
# more than the rounding of the few float64 operations that compute one bound.
SLACK = 2.0**-47

# Units in the last place (in units of u) that a well-behaved implementation may be off.
ARITHMETIC = 1.0
QUOTIENT = 2.0  # compilers turn x / constant into x * (1 / constant)
ULPS: dict[str, float] = {
    "sqrt": 2.0,
    "exp": 4.0, "log": 4.0, "log1p": 4.0, "sin": 4.0, "cos": 4.0,
    "acos": 8.0, "asin": 8.0, "atan": 8.0, "cosh": 8.0, "erf": 8.0, "expm1": 8.0, "pow": 8.0,
    "sigmoid": 8.0, "sinh": 8.0, "tan": 8.0, "tanh": 8.0,
}  # fmt: skip

# A product with a local derivative is one rounding; frameworks spend another one where they apply
# the two factors of a quotient or of a composite rule one after the other.
PARTIAL = 2.0

# Constant in the bound for an inverse by elimination with partial pivoting, Higham (2002), ch. 14:
# |X - inv(A)| <= c n u |X| |A| |X| to first order, at a growth factor of order one.
ELIMINATION = 8.0


@dataclass(frozen=True, slots=True)
class Format:
    """A floating-point format in which somebody computes.

    Attributes:
        name: As in NumPy.
        unit: Unit roundoff, half the distance from 1 to the next number.
        normal: The number from which on results are never flushed to zero: the smallest normal one;
            in float32 twice that, since oneDNN's exp doubles 2**(n - 1) at its end (measured: its
            softmax gives 0 up to 1.999 times the smallest normal number).
        flush: Absolute error of a result below `normal`. Frameworks and GPUs may flush such results
            to zero, except in float16, where every implementation keeps gradual underflow.
        huge: The largest finite number.
    """

    name: str
    unit: float
    normal: float
    flush: float
    huge: float

    def rate(self, ulps: float) -> float:
        """Rounding error of one result relative to it: the target's, and the centre's own."""
        return ulps * (self.unit + UNIT64)

    def growth(self, ulps: float) -> float:
        """The factor for second-order terms: propagated errors are rounded too."""
        return 1.0 + ulps * self.unit + SLACK

    def rounded(self, x: Any) -> Floats:
        """The nearest numbers of this format, as float64."""
        wide: Floats = np.asarray(x, dtype=np.float64)
        if self.name == "float64":
            return wide
        if self.name == "bfloat16":
            return _bfloat16(wide)
        narrow: Floats = wide.astype(self.name).astype(np.float64)
        return narrow


def _bfloat16(x: Floats) -> Floats:
    """Round to nearest even in the upper half of a float32."""
    single = np.ascontiguousarray(x, dtype=np.float32)
    bits = single.view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    near = (rounded & np.uint32(0xFFFF0000)).view(np.float32)
    finite = np.isfinite(single)
    return np.asarray(np.where(finite, near, single), dtype=np.float64).reshape(x.shape)


FORMATS: dict[str, Format] = {
    "float64": Format("float64", UNIT64, 2.0**-1022, 2.0**-1022, float(np.finfo(np.float64).max)),
    "float32": Format("float32", 2.0**-24, 2.0**-125, 2.0**-125, float(np.finfo(np.float32).max)),
    "bfloat16": Format("bfloat16", 2.0**-8, 2.0**-125, 2.0**-125, 2.0**128 * (1 - 2.0**-8)),
    "float16": Format("float16", 2.0**-11, 2.0**-14, 2.0**-25, 65504.0),
}


def format_of(dtype: Any) -> Format:
    """The format of a dtype given by name, as a NumPy dtype or as a `Format`."""
    if isinstance(dtype, Format):
        return dtype
    name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
    if name not in FORMATS:
        problem = f"no error analysis for dtype {name!r}; write one of {', '.join(FORMATS)}"
        raise UsageError(problem)
    return FORMATS[name]


def rescaled(gap: Any, measured: Any, dtype: Any) -> Any:
    """A rounding error that was measured in one format, as it is in another: to first order.

    Args:
        gap: The error, a number or an array.
        measured: The format in which it was seen.
        dtype: The format for which it is wanted.
    """
    return format_of(dtype).unit / format_of(measured).unit * gap
