"""An opaque derivative as the right expression with one mistake in it.

Where the right derivative is known as an expression, the mistake is sought there: which single edit
of the right expression gives what is claimed?
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.chain import Chain
from gradcheck.checking.search import Example
from gradcheck.diagnosis.hypotheses import Found
from gradcheck.diagnosis.model import sentence
from gradcheck.diagnosis.repair import Repair, Workshop
from gradcheck.diagnosis.screen import Place, Screen, bindings_at, close
from gradcheck.diagnosis.source import code
from gradcheck.diagnosis.written import Written, line, written
from gradcheck.errors import GradcheckError
from gradcheck.operation import Claim
from gradcheck.oracles.symbolic import derived, symbolic
from gradcheck.spec import Spec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck.diagnosis.cases import OpaqueCase
    from gradcheck.operation import Operation

# What an edit of the right expression is called when the claim already has it.
_REVERSED = {
    "missing-delta": "extra-delta",
    "extra-delta": "missing-delta",
    "missing-term": "extra-term",
    "extra-term": "missing-term",
}
_MOST_CASES = 3
_MOST_ENTRIES = 2000


class Claimed(Screen):
    """A screen that shows what is claimed in place of the truth."""

    def __init__(self, operation: Operation, claim: Claim, cases: Sequence[OpaqueCase]) -> None:
        self.operation, self.claim = operation, claim
        self.places = [self._claimed(case) for case in cases]
        self.sizes = [place.example.sizes for place in self.places]

    def _claimed(self, case: OpaqueCase) -> Place:
        example = Example(dict(case.inputs), dict(case.params), dict(case.sizes))
        claimed = np.asarray(case.claimed, np.float64)
        return Place(example, bindings_at(self.operation, example), claimed)


def reversed_edit(
    operation: Operation, output: str, cases: Sequence[OpaqueCase], seconds: float
) -> Found | None:
    """The single mistake in the right expression that gives the claim at every example."""
    chosen = [c for c in cases if c.true.size <= _MOST_ENTRIES and c.dtype == "float64"][
        :_MOST_CASES
    ]
    if not chosen:
        return None
    try:
        own = _right(operation, output, chosen[0].input)
        if own is None:
            return None
        screen = Claimed(operation, own.claim, chosen)
    except (GradcheckError, ValueError):
        return None
    shop = Workshop(own, screen, time.thread_time() + seconds)
    if not shop.usable or close(shop.residual, shop.scale):
        return None
    if len(shop.vectors) == 1 and not screen.true.any():
        return None  # a claim of nothing at all is told in other words
    found = min(shop.singles(), key=lambda r: r.order, default=None)
    if found is None or found.cost > 1:
        more = min(shop.additions(()), key=lambda r: r.order, default=found)
        found = more if found is None or (more is not None and more.cost < found.cost) else found
    return None if found is None else _told(own, found)


def _right(operation: Operation, output: str, name: str) -> Written | None:
    """The right derivative: as it is claimed, where that is proved, or else as it is derived."""
    claim = next((c for c in operation.claims() if (c.output, c.input) == (output, name)), None)
    if (
        isinstance(operation, Spec)
        and claim is not None
        and claim.form != "missing"
        and symbolic(operation, claim).verdict == "proved"
    ):
        return written(operation, claim)
    expression = derived(operation, output, name)
    if expression is None or not expression.terms or isinstance(operation, Chain):
        return None
    return Written(operation, Claim(output, name, "jacobian", name), expression)  # type: ignore[arg-type]


def _in(own: Written) -> str:
    """` in ∂a[p,q]/∂z[r,s]`: what the letters of the terms stand for."""
    letters = own.expression.output
    if not letters or own.claim.form == "vjp":
        return ""
    parts = (own.claim.output, letters[: own.split]), (own.claim.input, letters[own.split :])
    above, below = (f"∂{n}[{','.join(s)}]" if s else f"∂{n}" for n, s in parts)
    return f", in {above}/{below}"


def right_source(operation: Operation, output: str, name: str) -> str | None:
    """The right derivative as a spec has it; None where it has no such form."""
    try:
        own = _right(operation, output, name)
    except (GradcheckError, ValueError):
        return None
    return None if own is None else code(own.jacobian(own.expression))


def _told(own: Written, repair: Repair) -> Found:
    """The mistake in words: what is computed, and what belongs there."""
    kind = _REVERSED.get(repair.kind, repair.kind)
    terms, made = own.expression.terms, repair.expression.terms
    right = own.jacobian(own.expression)
    whole = len(repair.changed) == len(terms) > 1
    term = None if whole or repair.kind == "missing-term" else repair.index + 1
    text = sentence(kind, term, len(terms))
    if repair.kind == "extra-term":
        text = f"a term is missing: {line(own.expression, repair.index)}"
    elif repair.kind == "missing-term":
        text += f": {line(repair.expression, len(made) - 1)}"
    elif repair.ratio is not None and not repair.ratio.is_minus_one:
        of = "" if whole else f", {line(own.expression, repair.index)}"
        text += f"{of}: {repair.ratio.inverse().in_excess}"
    elif not whole:
        computed, right_one = (line(e, repair.index) for e in (repair.expression, own.expression))
        text += f": it computes {computed} where {right_one} belongs"
    text += _in(own)
    factor: Any = None if repair.ratio is None else str(repair.ratio.inverse())
    return Found(kind, text, factor=factor, term=term, derived=code(right))
