"""The diagnosis of one refuted check: what is known of the claim, and of the example that refutes it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.checking.problem import Problem
from gradcheck.checking.search import Example
from gradcheck.diagnosis.model import blank
from gradcheck.diagnosis.spec import diagnose

if TYPE_CHECKING:
    from gradcheck.operation import Claim, Operation
    from gradcheck.reports.model import Check, Counterexample


def explain(operation: Operation, claim: Claim, check: Check) -> dict[str, Any] | None:
    """The diagnosis of a refuted check; None where it is the forward that is refuted, not the claim."""
    found = check.counterexample
    if found is None:
        return None
    try:
        diagnosis = diagnose(operation, claim)
        if diagnosis["kind"] == "special-values-only":
            diagnosis |= _special(operation, claim, found)
    except Exception as error:  # noqa: BLE001  a user's forward may raise anything; the refutation stands
        return blank() | {"message": f"no diagnosis: {type(error).__name__}: {error}"}
    if not diagnosis["patterns"]:
        diagnosis["patterns"] = list(found.patterns)
    return diagnosis


def _special(operation: Operation, claim: Claim, found: Counterexample) -> dict[str, Any]:
    """What is special about an example, where the claim is right at generic points."""
    where = operation.derivative(claim.output, claim.input).terms
    known = {"location": str(where[0].location) if where and where[0].location else None}
    if not math.isfinite(found.claim_value) and math.isfinite(found.oracle_value):
        return known | {
            "kind": "overflow",
            "message": f"it overflows{_in(found)} where the derivative is finite",
        }
    if found.dtype not in ("float64", "exact") and _right_in_float64(operation, claim, found):
        return known | {
            "kind": "low-precision-only",
            "message": f"right in float64, wrong in {found.dtype}: digits are lost on the way",
        }
    return known | {"kind": "special-values-only", "message": f"wrong {_specialities(found)} only"}


def _in(found: Counterexample) -> str:
    return f" in {found.dtype}" if found.dtype != "exact" else ""


def _right_in_float64(operation: Operation, claim: Claim, found: Counterexample) -> bool:
    """Whether the claim is right at the same point in float64."""
    inputs = {n: np.asarray(v) for n, v in found.inputs.items()}
    example = Example(inputs, dict(found.params), dict(found.sizes))
    at = Problem(operation, claim, "float64").evaluate(example)
    if at.trouble or at.truth is None:
        return False
    gap = np.abs(at.claim - at.truth.value)
    return bool(np.all(gap <= at.tolerance))


def _specialities(found: Counterexample) -> str:
    """`at zeros of z`, `where n = 1`: what sets the example apart from a generic one."""
    parts = []
    arrays = {n: np.asarray(v) for n, v in found.inputs.items()}
    if zeros := [n for n, a in arrays.items() if a.size and (a == 0).any()]:
        parts.append(f"at zeros of {', '.join(zeros)}")
    if ties := [n for n, a in arrays.items() if a.size and np.unique(a).size < a.size]:
        parts.append(f"at equal values in {', '.join(ties)}")
    ones = [a for a, size in found.sizes.items() if size == 1 and not a.startswith(("#", "..."))]
    if ones:
        parts.append(f"where {' and '.join(f'{a} = 1' for a in ones)}")
    return " or ".join(parts) or "at special values"
