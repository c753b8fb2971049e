"""The screen of probes: how far off a framework's own pass in the dtype leads one to expect a right rule.

In a lower dtype that is how far its pass is from that in float64; in float64, how far that in float32 is,
times the ratio of the units (errors are proportional to the unit to first order), each the largest along the
last axis. What exceeds the screen is only *suspected*; bounds condemn.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from gradcheck.layers import precision
from gradcheck.layers.pullback import can
from gradcheck.layers.tiles import apart
from gradcheck.running import format_of, rescaled

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcheck.layers.bench import Bench
    from gradcheck.oracles import Oracle

    Floats = np.ndarray[Any, np.dtype[Any]]

T = TypeVar("T")

# The screen only chooses what to look at: the measured error is of one format at one point, claim and
# oracle have it each, and a dozen roundings more do not matter beside an error that is one.
_BOTH = 16.0
# In half precision a dozen would be as much as the derivative; a rule may have twice the framework's error.
_LOW = 2.0


def narrow(bench: Bench, oracle: Oracle, ask: Callable[[str, Oracle], T]) -> tuple[T, str]:
    """A framework's pass in a format with larger errors, and the format.

    It is the dtype's own, or float32 where that is float64, or where nobody computes in the dtype.

    Args:
        bench: The rule and its reference.
        oracle: Who is asked, unless somebody else computes in the dtype.
        ask: The pass, in a dtype, by an oracle.
    """
    if bench.dtype in precision.LOW:
        for own in precision.natives(bench, oracle):
            if can(own.framework):
                with contextlib.suppress(RuntimeError, TypeError, NotImplementedError):
                    return ask(bench.dtype, own), bench.dtype
    return ask("float32", oracle), "float32"


def own_error(found: Floats, narrower: str, exact: Floats, dtype: str) -> Floats:
    """The error of a pass in the dtype, as one in a narrower format shows it, for each row: a column."""
    with np.errstate(all="ignore"):
        return np.asarray(rescaled(apart(found, exact), narrower, dtype))


def screen(own: Floats, size: Floats, dtype: str) -> Floats:
    """What is not looked at any closer, for each row.

    Args:
        own: The error that the framework's own pass has.
        size: The largest entry of the row.
        dtype: The format.
    """
    both = _LOW if dtype in precision.LOW else _BOTH
    return np.asarray(both * (own + format_of(dtype).unit * size))
