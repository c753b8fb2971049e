"""Python floats in a formula as the exact numbers that somebody meant: 0.1 is 1/10, and 2/3 is 2/3."""

from __future__ import annotations

from fractions import Fraction

# A float with so many digits was rounded on its way; 0.044715 was written like that.
_ROUNDED_DIGITS = 15
# Of what was rounded, fractions with denominators up to this are told.
_LARGEST_DENOMINATOR = 1000


def literal(x: float) -> tuple[Fraction, bool]:
    """A finite float as it is read, and whether it remains a rounded number.

    The decimal that it prints as; of 15 digits or more, the fraction of a small denominator that
    rounds to it, if there is one: such as the outcome of 2/3.
    """
    decimal = Fraction(repr(float(x)))
    digits = repr(float(x)).partition("e")[0].strip("-0.").replace(".", "")
    if len(digits) < _ROUNDED_DIGITS:
        return decimal, False
    near = Fraction(x).limit_denominator(_LARGEST_DENOMINATOR)
    return (near, False) if float(near) == x else (decimal, True)
