"""The diagnosis of one refuted check: what is known of the claim, and of the example that refutes it."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.checking.problem import Problem
from gradcheck.checking.search import Example
from gradcheck.diagnosis.model import blank
from gradcheck.diagnosis.points import generic_at
from gradcheck.diagnosis.spec import diagnose
from gradcheck.errors import GradcheckError

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
    except (Exception, SystemExit) as error:  # noqa: BLE001  a forward may raise anything; the refutation stands
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
    special = _special_sizes(operation, claim, found) or _specialities(found)
    return known | {"kind": "special-values-only", "message": f"wrong {special} only"}


def _special_sizes(operation: Operation, claim: Claim, found: Counterexample) -> str:
    """`where m = n`, if the claim is wrong at any values of these sizes; "" if it is not."""
    point = generic_at(operation, found.sizes)
    if point is None:
        return ""
    try:
        at = Problem(operation, claim, "float64").evaluate(point)
    except GradcheckError:
        return ""
    if at.trouble or at.truth is None or np.all(np.abs(at.claim - at.truth.value) <= at.tolerance):
        return ""
    named = {a: n for a, n in found.sizes.items() if not a.startswith(("#", "..."))}
    ones = [f"{a} = 1" for a, size in named.items() if size == 1]
    pairs = itertools.combinations(named, 2)
    equal = [f"{a} = {b}" for a, b in pairs if named[a] == named[b] != 1]
    return f"where {' or '.join([*ones, *equal])}" if ones or equal else ""


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
