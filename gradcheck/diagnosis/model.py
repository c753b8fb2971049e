"""The words of a diagnosis: its keys, the kinds of error, and one sentence for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fractions import Fraction

# Each kind of error with its words; a diagnosis carries the short name.
KINDS = {
    "sign": "wrong sign",
    "factor": "wrong factor",
    "transposed": "two axes are exchanged",
    "permuted": "the axes are in another order",
    "missing-delta": "a delta is missing",
    "extra-delta": "a delta too many",
    "missing-term": "a term is missing",
    "extra-term": "a term too many",
    "wrong-letter": "wrong letter",
    "wrong-operand": "wrong operand",
    "wrong-power": "wrong power",
    "missing-sum": "a sum over a broadcast axis is missing",
    "cotangent-ignored": "the cotangent is ignored",
    "ones-only": "right for a cotangent of ones only",
    "output-for-input": "evaluated at the output where the input belongs",
    "input-for-output": "evaluated at the input where the output belongs",
    "eps-placement": "eps stands in another place",
    "wrong-branch": "the wrong branch of a case",
    "beyond-a-size": "wrong from some size on",
    "special-values-only": "wrong at special values only",
    "less-precise": "right up to rounding in a shorter format",
    "low-precision-only": "wrong in low precision only",
    "shape": "the shape is wrong",
    "overflow": "it overflows where the derivative is finite",
    "none": "no single known error explains it",
}


def blank() -> dict[str, Any]:
    """A diagnosis that knows nothing yet.

    Its keys: `link`, the spec at fault, "composition" or "closed form"; `patterns`, each with
    pattern, wrong, entry, claim, oracle; `kind`, one of `KINDS`; `message`, one sentence; `term`,
    counted from 1; `location`, "file:line"; `edit`, with before, after, file, line, term, proved;
    `derived`, the right derivative as source; `answers`, the question that the claim answers instead;
    `factor`, the factor that is too much; `gaps`, |claim − truth| entry by entry at one generic point,
    with the letters of output and input, where it is small; `seconds`, how long it took.
    """
    return {
        "link": None,
        "patterns": [],
        "kind": "none",
        "message": "",
        "term": None,
        "location": None,
        "edit": None,
        "derived": None,
        "answers": None,
        "factor": None,
        "gaps": None,
        "seconds": 0.0,
    }


def sentence(kind: str, term: int | None, terms: int) -> str:
    """`wrong letter in term 2`; a claim of one term needs no number."""
    words = KINDS[kind]
    return f"{words} in term {term}" if term is not None and terms > 1 else words


def factor_text(coefficient: Fraction, sizes: tuple[tuple[str, Fraction], ...]) -> str:
    """A number times powers of sizes on one line: `1/m`, `2`, `n/2`, `m^(1/2)`."""
    above = [str(abs(coefficient.numerator))] if abs(coefficient.numerator) != 1 else []
    below = [str(coefficient.denominator)] if coefficient.denominator != 1 else []
    for axis, power in sizes:
        size = abs(power)
        shown = (
            axis if size == 1 else f"{axis}^{size}" if size.denominator == 1 else f"{axis}^({size})"
        )
        (above if power > 0 else below).append(shown)
    sign = "−" if coefficient < 0 else ""
    top, bottom = " ".join(above) or "1", " ".join(below)
    if not bottom:
        return f"{sign}{top}"
    return f"{sign}{top}/({bottom})" if len(below) > 1 else f"{sign}{top}/{bottom}"
