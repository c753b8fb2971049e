"""In what shorter format a computation seems to have been done, from the size of its errors."""

from __future__ import annotations

from gradcheck.running.formats import FORMATS

# The longest first: unit roundoff and name. TF32 has the 11 bits of float16.
_SHORTER = (
    (FORMATS["float32"].unit, "float32"),
    (FORMATS["float16"].unit, "float16 or TF32 (GPUs may multiply float32 in it)"),
    (FORMATS["bfloat16"].unit, "bfloat16"),
)
# Bounds are worst cases, and errors a few hundred times smaller: the largest is at least this share of what
# the format explains.
_SHARE = 2.0**-12


def shorter_format(excess: float, dtype: str) -> str:
    """The longest format, shorter than a dtype, whose rounding explains an error; "" where none does.

    Args:
        excess: The error in units of the derived bound, which is proportional to the unit roundoff
            of the dtype, to first order.
        dtype: Of the arrays.
    """
    own = FORMATS[dtype].unit if dtype in FORMATS else 0.0
    for unit, name in _SHORTER:
        if unit > own > 0 and _SHARE * unit / own <= excess <= unit / own:
            return name
    return ""
