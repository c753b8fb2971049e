"""Numbers as a person reads them: few decimals, the exact value where that is short."""

from __future__ import annotations

import math
from typing import Any

MINUS = "−"
_EXACT = 5  # an exact value of at most so many characters is shown as it is
_PLACES = 17  # significant digits that tell any two float64 apart
_INLINE = 76  # values longer than a line are summarised


def number(value: float, digits: int = 2) -> str:
    """The value in prose: "−0.53", "0.125", "3.4e−08"; exact where that is short."""
    if not math.isfinite(value):
        return repr(float(value)).replace("-", MINUS)
    exact = repr(float(value)).removesuffix(".0")
    if len(exact.lstrip("-")) <= _EXACT:
        return ("0" if value == 0 else exact).replace("-", MINUS)
    return _rounded(value, digits).replace("-", MINUS)


def _rounded(value: float, digits: int) -> str:
    """So many significant digits, positional for magnitudes that are easy to read that way."""
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    if -4 <= int(exponent) < 6:
        return f"{value:.{max(0, digits - 1 - int(exponent))}f}"
    return f"{mantissa}e{exponent}"


def pair(first: float, second: float, least: int = 2) -> tuple[str, str]:
    """Both numbers with the fewest digits, but so many at least, that show them to differ."""
    for digits in range(least, _PLACES + 1):
        texts = number(first, digits), number(second, digits)
        if texts[0] != texts[1]:
            break
    return texts


def worst(value: float | None) -> str:
    """A worst error in units of its bound, for a column of the table."""
    return "-" if value is None else f"{value:.2g}"


def duration(seconds: float) -> str:
    """A time, to a hundredth of a second below ten."""
    if seconds < 0.005:
        return "<0.01 s"
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"


def shape(nested: Any) -> tuple[int, ...]:
    """The shape of nested lists; an empty list ends it."""
    if not isinstance(nested, list | tuple):
        return ()
    return (len(nested), *(shape(nested[0]) if nested else ()))


def assignment(name: str, nested: Any) -> str:
    """An input's name, shape and values on one line; "≈" where the values are shortened."""
    sizes = " × ".join(map(str, shape(nested)))
    head = f"{name} ({sizes})" if sizes else name
    text, exact = _values(nested)
    if len(text) <= _INLINE:
        return f"{head} {'=' if exact else '≈'} {text}"
    flat = _flatten(nested)
    shown = ", ".join(_value(item)[0] for item in flat[:4])
    return f"{head} begins {shown}, ... ({len(flat)} values in all)"


def _values(nested: Any) -> tuple[str, bool]:
    """Nested lists as Python writes them, and whether that is exact."""
    if not isinstance(nested, list | tuple):
        return _value(nested)
    texts = [_values(item) for item in nested]
    return f"[{', '.join(text for text, _ in texts)}]", all(exact for _, exact in texts)


def _value(value: Any) -> tuple[str, bool]:
    """One value, exact where that takes at most eight characters, and whether it is exact."""
    if not isinstance(value, float):
        return repr(value), True
    exact = repr(float(value))
    return (exact, True) if len(exact) <= 8 else (f"{value:.6g}", False)


def _flatten(nested: Any) -> list[Any]:
    if not isinstance(nested, list | tuple):
        return [nested]
    return [leaf for item in nested for leaf in _flatten(item)]
