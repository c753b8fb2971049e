"""What is wrong with a derivative of which only the values are known.

Each hypothesis says what the claimed Jacobian would be if one particular mistake had been made, and
is held against all examples at once. The likeliest and most particular come first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.diagnosis import hypotheses
from gradcheck.diagnosis.cases import OpaqueCase
from gradcheck.diagnosis.matching import evidence, typical
from gradcheck.diagnosis.model import blank
from gradcheck.diagnosis.places import places
from gradcheck.diagnosis.precision import less_precise
from gradcheck.diagnosis.questions import answers
from gradcheck.diagnosis.reversing import reversed_edit, right_source
from gradcheck.diagnosis.sizes import beyond_a_size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradcheck.diagnosis.hypotheses import Found
    from gradcheck.operation import Operation

__all__ = ["OpaqueCase", "diagnose_opaque"]

# In the order in which they are tried: what tells examples apart first, then what explains them all.
_OF_ALL: tuple[Callable[[Sequence[OpaqueCase]], Found | None], ...] = (
    hypotheses.shape,
    hypotheses.overflow,
    hypotheses.low_precision,
    hypotheses.branch_at_parameter,
    hypotheses.repeated_index,
    beyond_a_size,
)
_OF_WRONG: tuple[Callable[[Sequence[OpaqueCase]], Found | None], ...] = (
    hypotheses.cotangent_ignored,
    hypotheses.constant_factor,
    hypotheses.permutation,
    hypotheses.at_the_output,
    hypotheses.at_the_input,
)
_LAST: tuple[Callable[[Sequence[OpaqueCase]], Found | None], ...] = (
    hypotheses.nothing_at_all,
    hypotheses.skip,
    hypotheses.ones_only,
    hypotheses.first_only,
    hypotheses.diagonal,
    hypotheses.full_block,
    hypotheses.eps,
    hypotheses.branch_at_input,
    less_precise,
)


def diagnose_opaque(
    cases: Sequence[OpaqueCase],
    *,
    operation: Operation | None = None,
    output: str | None = None,
    seconds: float = 1.5,
) -> dict[str, Any]:
    """Which kind of error explains every case at once.

    Args:
        cases: Examples at which claim and truth were both evaluated, right ones among them; a mix
            of sizes, values and dtypes tells hypotheses apart.
        operation: The operation whose derivative the claim should be, where one is known: its
            derivation's terms then name the term at fault.
        output: The name of the differentiated output; the operation's result where left out.
        seconds: How long it may take.

    Returns:
        The diagnosis: see `gradcheck.diagnosis.model.blank` for its keys.
    """
    found = blank()
    known = list(cases)
    if not known:
        return found | {"message": "there is no example to tell from"}
    with np.errstate(all="ignore"):
        best = _best(known, operation, output, seconds)
        found["answers"] = _answered(known)
        found |= places(known, output or (operation.result if operation is not None else "out"))
    if best is None:
        found["message"] = found["answers"] or "no single known error explains all examples"
        if operation is not None:
            found["derived"] = right_source(operation, output or operation.result, known[0].input)
        return found
    return found | best.as_dict()


def _best(
    cases: list[OpaqueCase], operation: Operation | None, output: str | None, seconds: float
) -> Found | None:
    """The first hypothesis that holds."""
    for hypothesis in _OF_ALL:
        if (found := hypothesis(cases)) is not None:
            return found
    wrong = typical(cases)
    if not wrong:
        return hypotheses.special(cases)
    for hypothesis in _OF_WRONG:
        if (found := hypothesis(wrong)) is not None:
            return found
    if operation is not None:
        edit = reversed_edit(operation, output or operation.result, wrong, seconds)
        if edit is not None:
            return edit
    for hypothesis in _LAST:
        if (found := hypothesis(wrong)) is not None:
            return found
    return hypotheses.special(cases)


def _answered(cases: list[OpaqueCase]) -> str | None:
    wrong = [c for c in typical(cases) if c.claimed.shape == c.true.shape]
    return answers([evidence(c) for c in wrong]) if wrong else None
