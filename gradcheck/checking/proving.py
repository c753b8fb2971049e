"""Checks by the exact oracles: a proof, an identity, or a refutation certified at a real point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.accumulating import why_link_by_link
from gradcheck.checking import search
from gradcheck.checking.counterexample import entry_text, heat, snippet
from gradcheck.checking.forms import as_it_runs, closed_form, in_words, is_second, stated
from gradcheck.checking.patterns import pattern_at
from gradcheck.checking.problem import Problem
from gradcheck.errors import GradcheckError
from gradcheck.oracles import balls, examine_exactly
from gradcheck.oracles.finding import Finding
from gradcheck.oracles.symbolic import equal, equal_pairs
from gradcheck.oracles.symbolic.cases import RANKS
from gradcheck.reports.model import Counterexample, Verdict
from gradcheck.second_order import SecondOrder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gradcheck.algebra.terms import Expression
    from gradcheck.checking.plan import Planned
    from gradcheck.checking.search import Example, Search
    from gradcheck.operation import Claim, Operation
    from gradcheck.reports.model import Check
    from gradcheck.second_order import Simplified

# Balls carry one derivative an entry at a time: points are kept small.
BUDGET = 150.0
POINTS = 24
# So many products a claim may take at a point that is looked at only to contradict a proof.
WORK = 2000


def settle(planned: Planned, operation: Operation, claim: Claim, check: Check) -> None:
    """The verdict of `symbolic` or `exact` on one claim, into the check."""
    assert planned.oracle is not None
    check.form = stated(operation, claim)
    finding = examine_exactly(planned.oracle.name, operation, claim, planned.seed)
    if finding.verdict in ("proved", "identity"):
        _confirm(planned, operation, claim, finding, check)
    elif finding.verdict == "suspect":
        _certify(planned, operation, claim, finding, check)
    else:
        check.verdict, check.reason = Verdict.UNDECIDED, finding.reason


def _confirm(
    planned: Planned, operation: Operation, claim: Claim, finding: Finding, check: Check
) -> None:
    """Equality counts only where forward and claim are certified to be defined somewhere (H8)."""
    points = _points(planned, operation, claim).members
    if not balls.witness(operation, claim, points):
        outcome = balls.examine(operation, claim, points[0]) if points else None
        why = (outcome.reason if outcome else "") or "none was found"
        check.verdict = Verdict.UNDECIDED
        check.reason = f"vacuous: no point certifies that forward and claim are defined: {why}"
        return
    if differs := _contradicted(operation, claim, points):
        check.verdict, check.reason = Verdict.UNDECIDED, f"{finding.statement}, and yet {differs}"
        return
    check.verdict, check.reason = Verdict(finding.verdict), finding.statement
    check.false_accept = finding.bound
    if claim.form == "chain":
        _tie(operation, claim, check)
    elif isinstance(operation, SecondOrder) and is_second(operation, claim):
        _tie_second(planned, operation, claim, check)


def _contradicted(operation: Operation, claim: Claim, points: Sequence[Example]) -> str:
    """A point at which what was proved is certainly wrong, in words: the proof has a hole there.

    A proof is a program's. That it is never believed against a certificate costs a few milliseconds: points
    at which the claim is much work, as composed second derivatives are, are left out.
    """
    cheap = [e for e in points[::3] if balls.work(operation, claim, e) <= WORK]
    known = balls.search_certificate(operation, claim, cheap, precisions=balls.PRECISIONS[:1])
    if known is None:
        return ""
    example, found = known
    values = ", ".join(f"{n} = {np.asarray(v).tolist()}" for n, v in example.inputs.items())
    return (
        f"at {values} the derivative is {found.true_digits} and the claim {found.claimed_digits}, in entry "
        f"{list(found.place)}: a bug of gradcheck, or a point that the statement excludes"
    )


def _tie(operation: Operation, claim: Claim, check: Check) -> None:
    """What is proved of the composed rule of a chain holds for what runs if the two are equal."""
    if check.verdict is not Verdict.PROVED or why_link_by_link(operation, claim):
        return
    composed = operation.derivative(claim.output, claim.input)
    closed = closed_form(operation, claim, rank=0)
    found = equal(operation, composed, closed)
    if found.verdict == "proved":
        check.form = in_words(closed)
    elif found.verdict == "suspect":
        check.verdict = Verdict.UNDECIDED
        check.reason = (
            f"a bug of gradcheck: its closed form is not the composed one: {found.reason}"
        )


def _tie_second(planned: Planned, operation: SecondOrder, claim: Claim, check: Check) -> None:
    """What is proved of a second derivative holds for what runs if each of its closed forms is equal."""
    if check.verdict is not Verdict.PROVED:
        return
    closed: list[Expression] = []
    for form, found in _compared(operation, claim):
        if found.verdict == "suspect":
            _unequal(planned, operation, claim, form, found, check)
            return
        if found.verdict != "proved":
            check.reason += (
                f"; not of what runs: whether {form.what} in closed form equals it is undecided: "
                f"{found.reason}"
            )
            return
        closed.append(form.runs)
    check.form = as_it_runs(operation, claim, closed)


def _compared(operation: SecondOrder, claim: Claim) -> Iterator[tuple[Simplified, Finding]]:
    """Each closed form that runs, and whether it equals what it comes from, wherever that is defined."""
    for rank in RANKS if operation.dotted else (0,):
        forms = operation.simplified(claim.input, rank)
        findings = equal_pairs(operation, [(f.derived, f.runs) for f in forms], rank)
        for form, found in zip(forms, findings, strict=True):
            more = ", ".join(form.asks_more()) if found.verdict == "proved" else ""
            reason = (
                f"it divides by {more}, or takes a root or logarithm of it, and the rule does not"
            )
            yield form, Finding("undecided", reason=reason) if more else found


def _unequal(
    planned: Planned,
    operation: SecondOrder,
    claim: Claim,
    form: Simplified,
    found: Finding,
    check: Check,
) -> None:
    """A closed form that runs is another than what was proved: refuted at a point, or no proof."""
    relations = [c for c in form.runs.conditions() if c.startswith("Σ")]
    why = " or ".join(["a simplification is wrong", *(f"{r} does not hold" for r in relations)])
    reason = f"what runs is not what the product rule gives, in {form.what}: {found.reason}; {why}"
    running = operation.as_it_runs()
    _certify(planned, running, claim, Finding("suspect", reason=reason), check)
    check.form = f"as it runs, and not {stated(operation, claim)}"
    if check.counterexample is not None:
        check.counterexample.location = None  # no line of a spec is to blame


class _Points:
    """Small points of the domain, and the search that they come from."""

    def __init__(self, strategy: Search, members: list[Example]) -> None:
        self.strategy = strategy
        self.members = members


def _points(planned: Planned, operation: Operation, claim: Claim) -> _Points:
    problem = Problem(operation, claim, "float64")
    strategy = search.examples(
        operation.inputs,
        operation.params,
        where=operation.where,
        profile="standard",
        dtype="float64",
        seed=planned.seed,
        cost=problem.cost,
        budget=BUDGET,
    )
    members = search.collect(strategy, POINTS, planned.seed)
    return _Points(strategy, [e for e in members if all(a.size for a in e.inputs.values())])


def _certify(
    planned: Planned, operation: Operation, claim: Claim, finding: Finding, check: Check
) -> None:
    """A suspicion becomes a refutation at a real point of the domain, and only there."""
    points = _points(planned, operation, claim)
    found = balls.search_certificate(operation, claim, points.members)
    if found is None:
        check.verdict = Verdict.UNDECIDED
        check.reason = (
            f"{finding.reason}; but no point of the domain was found at which they certainly differ"
        )
        return
    known = next(e for e in points.members if e is found[0])
    example = _smallest(planned, operation, claim, points, known)
    certificate = balls.certify(operation, claim, example) or found[1]
    check.verdict, check.reason = Verdict.REFUTED, finding.reason
    check.examples = 1
    check.counterexample = _counterexample(planned, operation, claim, example, certificate)


def _smallest(
    planned: Planned, operation: Operation, claim: Claim, points: _Points, known: Example
) -> Example:
    fails: Callable[[Example], bool] = lambda e: balls.certify(operation, claim, e) is not None  # noqa: E731
    try:
        smaller = search.find_smallest(points.strategy, fails, POINTS, planned.seed, known)
    except GradcheckError:
        return known
    return smaller or known


def _counterexample(
    planned: Planned,
    operation: Operation,
    claim: Claim,
    example: Example,
    certificate: balls.Certificate,
) -> Counterexample:
    problem = Problem(operation, claim, "float64")
    expression = problem.expression(example)
    lines = [t.location for t in expression.terms if t.location is not None]
    place = certificate.place
    return Counterexample(
        sizes=dict(example.sizes),
        inputs={n: np.asarray(v).tolist() for n, v in example.inputs.items()},
        params=dict(example.params),
        entry=entry_text(expression, place),
        claim_value=certificate.claimed,
        oracle_value=certificate.true,
        bound=0.0,
        pattern=pattern_at(expression, place),
        snippet=snippet(planned, problem, example),
        dtype="exact",
        location=str(lines[0]) if lines and claim.form != "chain" else _own(operation),
        **_heat(problem, example, expression),
    )


def _heat(problem: Problem, example: Example, expression: Expression) -> dict[str, Any]:
    """The gaps at the certified point, in floats: a picture, no part of the certificate."""
    evaluated = problem.evaluate(example)
    oracle = None if evaluated.truth is None else evaluated.truth.value
    return heat(expression, evaluated.claim, oracle)


def _own(operation: Operation) -> str | None:
    location: Any = operation.location
    return str(location) if location and not location.file.startswith("<") else None
