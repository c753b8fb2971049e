"""The diagnosis of a refuted claim of a spec or a chain."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from gradcheck.algebra.compose import relabel, vjp_of
from gradcheck.algebra.shapes import DOTS
from gradcheck.chain import Chain
from gradcheck.checking.counterexample import as_dict
from gradcheck.checking.patterns import groups
from gradcheck.checking.problem import Problem
from gradcheck.diagnosis.links import faults
from gradcheck.diagnosis.model import KINDS, blank, sentence
from gradcheck.diagnosis.questions import Evidence, answers
from gradcheck.diagnosis.repair import Repair, find_repair
from gradcheck.diagnosis.screen import NEAR, Screen, close, scale_of, value_at
from gradcheck.diagnosis.written import Written, line, written
from gradcheck.errors import GradcheckError
from gradcheck.oracles.symbolic import derived, residual, symbolic
from gradcheck.spec import Spec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradcheck.algebra.terms import Expression, Term
    from gradcheck.operation import Claim, Operation

# All in all a diagnosis computes no longer; most of it is for the edit. Time is that of this thread,
# so that what is found does not depend on what else the machine does.
SECONDS = 1.6
_MOST_DRAWN = 400
_KNOWN: WeakKeyDictionary[Operation, dict[str, dict[str, Any]]] = WeakKeyDictionary()
_REPAIRS: WeakKeyDictionary[Operation, dict[str, tuple[Written, Repair]]] = WeakKeyDictionary()


def diagnose(operation: Operation, claim: Claim, *, seconds: float = SECONDS) -> dict[str, Any]:
    """What is wrong with a claim: link, pattern, kind, edit, and the question it answers instead.

    Several oracles that refute one claim share its diagnosis.

    Args:
        operation: A spec or a chain.
        claim: One of its claims, which something refuted.
        seconds: How long it may take.
    """
    known = _KNOWN.setdefault(operation, {})
    if claim.label not in known:
        start = time.thread_time()
        found = _diagnose(operation, claim, start + seconds)
        known[claim.label] = found | {"seconds": round(time.thread_time() - start, 3)}
    return dict(known[claim.label])


def repair_of(operation: Operation, claim: Claim) -> tuple[Written, Repair] | None:
    """The claim at fault as it was written, and the edit that mends it; None where there is none."""
    diagnose(operation, claim)
    return _REPAIRS.get(operation, {}).get(claim.label)


def _diagnose(operation: Operation, claim: Claim, deadline: float) -> dict[str, Any]:
    if isinstance(operation, Chain):
        return _of_chain(operation, claim, deadline)
    found = blank()
    found["link"] = operation.name
    if isinstance(operation, Spec) and isinstance(operation.forward, Chain):
        found["link"] = "closed form"
    screen = Screen(operation, claim, 2)
    found["patterns"] = patterns(operation, claim, screen)
    found["gaps"] = gaps(operation, claim, screen)
    own = written(operation, claim) if isinstance(operation, Spec) else None
    if own is None or not screen.places:
        found["message"] = "nothing more is known: no generic point of the domain was found"
        return found
    if _right_at(screen, operation, claim):
        return found | {"kind": "special-values-only", "message": KINDS["special-values-only"]}
    repair = find_repair(own, screen, like=_missing(own), seconds=_left(deadline))
    if repair is not None:
        _REPAIRS.setdefault(operation, {})[claim.label] = own, repair
        _describe(found, own, repair)
    else:
        _undescribed(found, own, screen)
    found["answers"] = answers(evidence_of(operation, claim, screen))
    if repair is None or not repair.proved:
        found["derived"] = paste(operation, claim, own.expression)
    return found


def _left(deadline: float) -> float:
    return max(0.2, deadline - time.thread_time())


def _of_chain(chain: Chain, claim: Claim, deadline: float) -> dict[str, Any]:
    """That of the first link at fault; where all are right, the composition is not."""
    fault = next(faults(chain, claim.input), None)
    if fault is not None:
        found = diagnose(fault.spec, fault.claim, seconds=_left(deadline))
        found["link"] = fault.spec.name
        known = repair_of(fault.spec, fault.claim)
        if known is not None:
            _REPAIRS.setdefault(chain, {})[claim.label] = known
        return found
    found = blank()
    found["link"] = "composition"
    screen = Screen(chain, claim, 2)
    found["patterns"], found["gaps"] = patterns(chain, claim, screen), gaps(chain, claim, screen)
    found["message"] = "each link is right by itself, so their composition is not"
    return found


def _right_at(screen: Screen, operation: Operation, claim: Claim) -> bool:
    """Whether the claim is right at generic points after all, as far as floats can tell."""
    if symbolic(operation, claim).verdict == "suspect":
        return False
    terms = screen.terms(operation.derivative(claim.output, claim.input))
    return terms is not None and close(
        screen.true - sum(terms, np.zeros_like(screen.true)), 0.01 * scale_of(terms, screen.true)
    )


def _missing(own: Written) -> list[Term]:
    """The terms that the claim lacks, as the symbolic oracle finds them, in the claim's form."""
    try:
        found = residual(own.spec, own.claim)
    except GradcheckError:
        return []
    if found is None or not found.terms:
        return []
    if own.claim.form == "vjp":
        found = vjp_of(found, own.claim.output, own.split)
    return list(relabel(found, own.expression.output).terms)


# ---------------------------------------------------------------------- patterns


def patterns(operation: Operation, claim: Claim, screen: Screen) -> list[dict[str, Any]]:
    """Where the claim is right and where wrong, one entry each, from the generic points."""
    expression = operation.derivative(claim.output, claim.input)
    problem = Problem(operation, claim, "float64")
    observed = []
    for place in screen.places:
        at = problem.evaluate(place.example)
        claimed = value_at(expression, place.bindings) if at.trouble else at.claim
        if claimed is None:
            continue
        claimed = np.broadcast_to(claimed, place.true.shape)
        limit = NEAR * scale_of([claimed], place.true) if at.trouble else at.tolerance
        observed.append(_rated(claimed, place.true, limit))
    if not observed or not all(o[0].size for o in observed):
        return []
    return [as_dict(g, expression) for g in groups(expression, observed)]


def gaps(operation: Operation, claim: Claim, screen: Screen) -> dict[str, Any] | None:
    """|claim − truth| at the first generic point, for a picture; None where it is too large for one."""
    expression = operation.derivative(claim.output, claim.input)
    split = len([d for d in operation.shapes[claim.output] if d != DOTS])
    for place in screen.places:
        claimed = value_at(expression, place.bindings)
        if claimed is None or place.true.size > _MOST_DRAWN:
            continue
        gap = np.abs(np.broadcast_to(claimed, place.true.shape) - place.true)
        gap[gap <= NEAR * scale_of([claimed], place.true)] = 0.0
        letters = [list(expression.output[:split]), list(expression.output[split:])]
        return {"letters": letters, "values": gap.tolist()}
    return None


def _rated(claimed: Any, true: Any, limit: Any) -> tuple[Any, Any, Any, Any]:
    """Which entries are wrong, by how much, and both sides."""
    with np.errstate(all="ignore"):
        gap = np.abs(claimed - true)
        wrong = ~(gap <= limit) & np.isfinite(limit) | ~np.isfinite(claimed)
        ratio = np.where(gap == 0, 0.0, gap / limit)
    return wrong, np.where(np.isfinite(ratio), ratio, np.inf), claimed, true


# ---------------------------------------------------------------------- describing


def _describe(found: dict[str, Any], own: Written, repair: Repair) -> None:
    """Kind, term and edit, from the edit that makes the claim right."""
    terms = own.expression.terms
    added = len(repair.expression.terms) > len(terms)
    whole = repair.cost == 1 and len(repair.changed) == len(terms) > 1
    term = None if added or whole else repair.index + 1
    at = terms[min(repair.index, len(terms) - 1)].location
    found["kind"], found["term"] = repair.kind, term
    found["message"] = _sentence(own, repair, term)
    if repair.kind == "factor" and repair.ratio is not None:
        found["factor"] = str(repair.ratio)
        found["message"] += f": {repair.ratio.in_excess}"
    if len(repair.changed) > 1 and not whole:
        others = " and ".join(str(k + 1) for k in repair.changed[1:])
        found["message"] += f", and another error in term {others}"
    elif repair.cost > 1:
        found["message"] += f", and {'another error' if repair.cost == 2 else 'others'} there"
    found["location"] = str(at) if at else None
    before, after = _lines(own, repair)
    found["edit"] = {
        "before": before,
        "after": after,
        "file": at.file if at else None,
        "line": at.line if at else None,
        "term": term,
        "proved": repair.proved,
    }


def _sentence(own: Written, repair: Repair, term: int | None) -> str:
    """The kind in words; a tensor that is missing or too many is called so."""
    terms = own.expression.terms
    text = sentence(repair.kind, term, len(terms))
    if repair.kind == "wrong-power" and term is not None and len(repair.changed) == 1:
        more = len(repair.expression.terms[term - 1].factors) - len(terms[term - 1].factors)
        if more:
            text = text.replace(
                KINDS["wrong-power"], "a tensor is missing" if more > 0 else "a tensor too many"
            )
    return text


def _lines(own: Written, repair: Repair) -> tuple[str, str]:
    """The terms before and after; several on lines of their own."""
    terms, made = own.expression.terms, repair.expression
    if len(made.terms) > len(terms):
        return "", line(made, len(made.terms) - 1)
    if len(made.terms) == len(terms):
        return (
            "\n".join(line(own.expression, k) for k in repair.changed),
            "\n".join(line(made, k) for k in repair.changed),
        )
    kept = [k for k in repair.changed if not _gone(own, repair, k)]
    after = "\n".join(line(made, min(k, len(made.terms) - 1)) for k in kept)
    return "\n".join(line(own.expression, k) for k in repair.changed), after


def _gone(own: Written, repair: Repair, index: int) -> bool:
    """Whether a term of the claim has no successor."""
    if len(repair.changed) == 1:
        return True
    rest = [t for k, t in enumerate(own.expression.terms) if k != index]
    others = [t for t in repair.expression.terms if t not in own.expression.terms]
    return len(repair.expression.terms) < len(own.expression.terms) and bool(rest) and not others


def _undescribed(found: dict[str, Any], own: Written, screen: Screen) -> None:
    """What can be said where no edit was found: a branch at a parameter, or a place of a small number."""
    terms = own.expression.terms
    at = terms[0].location
    found["location"] = str(at) if at else None
    branch = _branch(own, screen)
    if branch:
        found["kind"], found["message"] = "wrong-branch", f"wrong where {branch} only"
    elif name := _shrinking(own, screen):
        found["kind"] = "eps-placement"
        found["message"] = (
            f"the parameter {name} stands in another place: the smaller it is, the less is wrong"
        )
    else:
        found["message"] = "no single edit and no pair of edits mends it"


def _branch(own: Written, screen: Screen) -> str:
    """The value of a choice at which alone the claim is wrong."""
    expression = own.jacobian(own.expression)
    right = []
    for place in screen.places:
        value = value_at(expression, place.bindings)
        fits = value is not None and close(value - place.true, scale_of([value], place.true))
        right.append(fits)
    for name, parameter in own.spec.params.items():
        if parameter.kind == "number":
            continue
        values = {
            ok: {
                repr(p.example.params[name])
                for p, r in zip(screen.places, right, strict=True)
                if r is ok
            }
            for ok in (True, False)
        }
        if values[True] and values[False] and not values[True] & values[False]:
            return f"{name} is {' or '.join(sorted(values[False]))}"
    return ""


def _shrinking(own: Written, screen: Screen) -> str:
    """The small parameter with which the error vanishes, if there is one."""
    problem = Problem(own.spec, own.claim, "float64")
    for name, parameter in own.spec.params.items():
        if parameter.kind != "number" or not parameter.lo or not parameter.hi:
            continue
        low, high = float(parameter.lo), float(parameter.hi)
        if low <= 0 or high / low < 100:
            continue
        gaps = []
        for value in (low, high):
            example = screen.places[0].example
            at = problem.evaluate(replace(example, params={**example.params, name: value}))
            if at.trouble or at.truth is None:
                return ""
            size = float(np.abs(at.truth.value).max(initial=0.0)) or 1.0
            gaps.append(float(np.abs(at.claim - at.truth.value).max()) / size)
        if gaps[1] > 0 and gaps[0] <= 10 * gaps[1] * (low / high) ** 0.5:
            return name
    return ""


# ---------------------------------------------------------------------- other questions


def evidence_of(operation: Operation, claim: Claim, screen: Screen) -> list[Evidence]:
    """The claim and the truth at the points of the screen, with the derivatives of other things."""
    expression = operation.derivative(claim.output, claim.input)
    split = len([d for d in operation.shapes[claim.output] if d != DOTS])
    found = []
    for place in screen.places:
        claimed = value_at(expression, place.bindings)
        if claimed is None:
            return []
        claimed = np.broadcast_to(claimed, place.true.shape)
        found.append(
            Evidence(
                claimed,
                place.true,
                split,
                claim.input,
                np.asarray(place.example.inputs[claim.input]),
                np.asarray(place.bindings.values[claim.output]),
                claim.output,
                place.example.sizes,
                NEAR * scale_of([claimed], place.true),
                _others(operation, claim, place.bindings),
            )
        )
    return found


def _others(operation: Operation, claim: Claim, bindings: Any) -> Mapping[str, Any]:
    """What is claimed of other inputs and outputs of the same shapes, in words."""
    found = {}
    for other in operation.claims():
        if other.form == "missing" or other.label == claim.label:
            continue
        value = value_at(operation.derivative(other.output, other.input), bindings)
        if value is not None:
            found[f"the derivative of {other.output} with respect to {other.input}"] = value
    return found


def paste(operation: Operation, claim: Claim, like: Expression) -> str | None:
    """The right derivative as source, derived from the forward; None where there is no such form."""
    from gradcheck.diagnosis.source import code

    try:
        right = derived(operation, claim.output, claim.input)
    except GradcheckError:
        return None
    return None if right is None else code(right, like.output if claim.form != "vjp" else None)
