"""How far a claim is off, at a real point: residues differ, but say nothing to a reader.

The point is the one behind an evaluation; balls enclose derivative and claim at it.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.algebra.shapes import rank_in
from gradcheck.oracles.balls import certify
from gradcheck.oracles.exact import shadow

if TYPE_CHECKING:
    from gradcheck.operation import Claim, Operation
    from gradcheck.oracles.exact.inputs import Case, Draw

# Larger arrays are not written out.
_READABLE = 12
_BITS = (2 * shadow.PRECISION,)


@dataclass(frozen=True)
class _Point:
    """A point of the domain, as balls take it."""

    inputs: dict[str, Any]
    params: dict[str, Any]
    sizes: dict[str, int]


def residual_at(operation: Operation, claim: Claim, drawn: Draw, case: Case) -> str:
    """`at m = 2, n = 3, where p = 0, r = 1 and z = [[0.5, 1.0]]: claimed 0.25, true 0.125`.

    Empty where balls do not tell the two apart at the point.
    """
    point = _point(operation, drawn, case)
    found = certify(operation, claim, point, precisions=_BITS)
    if found is None:
        return ""
    expression = operation.derivative(claim.output, claim.input, rank_in(case.sizes))
    entry = [f"{s} = {i}" for s, i in zip(expression.output, found.place, strict=True)]
    values = [_shown(n, x) for n, x in {**point.inputs, **point.params}.items()]
    where = ", ".join((*entry, *(v for v in values if v)))
    said = f", where {where}" if where else ""
    return f"at {case.words()}{said}: claimed {found.claimed_digits}, true {found.true_digits}"


def _point(operation: Operation, drawn: Draw, case: Case) -> _Point:
    known = {**drawn.samples, **drawn.points}
    inputs = {n: _floats(known[n]) for n in operation.inputs}
    params = {n: _scalar(known[n]) for n in operation.params}
    return _Point(inputs, params, dict(case.sizes))


def _floats(x: Any) -> Any:
    array = np.asarray(x)
    return array if array.dtype.kind in "iu" else array.astype(np.float64)


def _scalar(x: Any) -> Any:
    x = x.item() if isinstance(x, np.ndarray) else x
    return float(x) if isinstance(x, Fraction) else x


def _shown(name: str, x: Any) -> str:
    """An input, as far as a person would read it."""
    if np.size(x) > _READABLE:
        return ""
    return f"{name} = {x.tolist() if isinstance(x, np.ndarray) else x}"
