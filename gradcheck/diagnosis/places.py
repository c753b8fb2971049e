"""Where a derivative is wrong of which only the values are known: index patterns, and a picture."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.algebra.terms import Expression, Term, free_alphabet
from gradcheck.checking.counterexample import as_dict
from gradcheck.checking.patterns import groups
from gradcheck.diagnosis.matching import is_special, wrong_entries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck.diagnosis.cases import OpaqueCase

_MOST_DRAWN = 400
# Generic points come first; two of them hold every pattern.
_MOST_CASES = 2


def places(cases: Sequence[OpaqueCase], output: str) -> dict[str, Any]:
    """The patterns and the gaps of a diagnosis, from the generic examples; nothing where there are none.

    Args:
        cases: Examples of one claim.
        output: What the output is called.
    """
    chosen = [c for c in cases if c.claimed.shape == c.true.shape and c.true.size]
    chosen = [c for c in chosen if not is_special(c)][:_MOST_CASES]
    if not chosen or any(c.axes != chosen[0].axes for c in chosen):
        return {}
    if not any(wrong_entries(c).any() for c in chosen):
        return {}
    expression = _lettered(chosen[0], output)
    found = groups(expression, [_rated(c) for c in chosen])
    return {
        "patterns": [as_dict(g, expression) for g in found],
        "gaps": _gaps(chosen[0], expression),
    }


def _lettered(case: OpaqueCase, output: str) -> Expression:
    """An expression of no factors, whose letters name the entries."""
    letters = tuple(islice(free_alphabet(()), len(case.axes)))
    named = {s: axis for s, axis in zip(letters, case.axes, strict=True) if axis}
    below = len(case.axes) - case.split
    return Expression(letters, (Term(axes=named),), ((output, case.split), (case.input, below)))


def _rated(case: OpaqueCase) -> tuple[Any, Any, Any, Any]:
    """Which entries are wrong, by how much, and both sides."""
    claimed, true = np.asarray(case.claimed, np.float64), np.asarray(case.true, np.float64)
    with np.errstate(all="ignore"):
        gap = np.abs(claimed - true)
    return wrong_entries(case), np.where(np.isfinite(gap), gap, np.inf), claimed, true


def _gaps(case: OpaqueCase, expression: Expression) -> dict[str, Any] | None:
    """|claim − truth| at one example, for a picture; None where it is too large for one."""
    if case.true.size > _MOST_DRAWN:
        return None
    wrong, gap, _, _ = _rated(case)
    letters = [list(expression.output[: case.split]), list(expression.output[case.split :])]
    return {"letters": letters, "values": np.where(wrong, gap, 0.0).tolist()}
