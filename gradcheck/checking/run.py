"""Running one check: search, compare, verdict; on a refutation the smallest counterexample."""

from __future__ import annotations

import functools
import time
import traceback
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.algebra.source import internal
from gradcheck.checking import search
from gradcheck.checking.compare import Comparison, compare
from gradcheck.checking.counterexample import counterexample
from gradcheck.checking.given import given
from gradcheck.checking.problem import Evaluated, Problem
from gradcheck.checking.proving import settle
from gradcheck.errors import GradcheckError, MissingBackend, in_words
from gradcheck.oracles import EXACT
from gradcheck.reports.model import Check, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcheck.checking.plan import Planned
    from gradcheck.checking.search import Example
    from gradcheck.operation import Claim, Operation
    from gradcheck.oracles import Answer, Oracle

# The largest Jacobian that the search draws, in entries; sizes above it are left out of the pool.
BUDGET = 6000.0


def run(planned: Planned) -> Check:
    """One check, alone: it needs nothing but its address, and never raises for a bad claim.

    A refutation, an oracle that crashes and a forward that cannot be evaluated are verdicts.
    """
    start = time.perf_counter()
    check = blank(planned)
    if planned.oracle is None:
        check.verdict = Verdict.MISSING
        check.reason = f"no derivative with respect to {planned.label} is claimed"
    elif planned.skip:
        check.verdict, check.reason = Verdict.SKIPPED, planned.skip
    else:
        try:
            if planned.oracle.name in EXACT:
                operation = operation_of(planned)
                settle(planned, operation, claim_of(planned, operation), check)
            else:
                _run(planned, planned.oracle, check)
        except MissingBackend as error:
            check.verdict, check.reason = Verdict.SKIPPED, str(error)
        except GradcheckError as error:
            check.verdict, check.reason = Verdict.ERROR, str(error)
        except (Exception, SystemExit) as error:  # noqa: BLE001  a forward or a framework may raise anything
            check.verdict, check.reason = Verdict.ERROR, reason_of(error)
    if check.verdict is Verdict.REFUTED:
        from gradcheck.diagnosis.explaining import explain

        operation = operation_of(planned)
        check.diagnosis = explain(operation, claim_of(planned, operation), check)
    check.seconds = time.perf_counter() - start
    return check


def blank(planned: Planned) -> Check:
    """A check of which nothing is known yet."""
    oracle = planned.oracle
    return Check(
        claim=planned.claim,
        input=planned.label,
        oracle=oracle.name if oracle else "—",
        framework=oracle.framework if oracle and oracle.name == "native" else "",
        device=planned.device,
        dtype=planned.dtype,
        verdict=Verdict.UNDECIDED,
        address=planned.address,
        required=planned.required,
        kind=planned.kind or _kind(planned),
    )


def _kind(planned: Planned) -> str:
    """The word for what makes the claim."""
    forms = {c.label: c.form for c in operation_of(planned).claims()}
    return {"chain": "chain", "vjp": "vjp"}.get(forms.get(planned.label, ""), "spec")


def reason_of(error: BaseException) -> str:
    """The exception and the nearest line of the user's own file in its traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    users = [f for f in frames if "site-packages" not in f.filename and not internal(f.filename)]
    where = f" ({users[-1].filename}:{users[-1].lineno})" if users else ""
    if isinstance(error, SystemExit):
        return (
            f"the code under check ended the program (SystemExit: {error.code}){where}; let it raise an "
            "error instead"
        )
    return f"{type(error).__name__}: {in_words(error)}{where}"


# ---------------------------------------------------------------------- examples


@dataclass
class Workspace:
    """A claim in a dtype with its examples, shared by all oracles that are asked about it.

    It keeps the operation and the data alive, by whose identities it is found again.
    """

    problem: Problem
    strategy: Any
    examples: list[Example]
    data: dict[str, Any] | None = None
    evaluated: dict[int, Evaluated] = field(default_factory=dict)

    def at(self, index: int) -> Evaluated:
        """The claim at one of the examples, evaluated once."""
        if index not in self.evaluated:
            self.evaluated[index] = self.problem.evaluate(self.examples[index])
        return self.evaluated[index]


_WORKSPACES: OrderedDict[Any, Workspace] = OrderedDict()
_KEPT = 4
# Threads may drop each other's workspaces: whoever has one keeps it.
_WORKSPACES_LOCK = Lock()


def _workspace(planned: Planned) -> Workspace:
    operation = operation_of(planned)
    key = (
        id(operation),
        planned.label,
        planned.dtype,
        planned.profile,
        planned.seed,
        id(planned.data),
    )
    with _WORKSPACES_LOCK:
        known = _WORKSPACES.get(key)
    if known is not None:
        return known
    # Outside of the lock: a user's forward runs in it, and may itself verify something.
    made = _prepare(planned, operation)
    with _WORKSPACES_LOCK:
        kept = _WORKSPACES.setdefault(key, made)
        while len(_WORKSPACES) > _KEPT:
            _WORKSPACES.popitem(last=False)
    return kept


def operation_of(planned: Planned) -> Operation:
    """The operation of a check, found by its address where the check came from another process."""
    if planned.operation is not None:
        return planned.operation
    if planned.payload is not None:
        return _unpickled(planned.payload)
    from gradcheck.library import resolve

    return resolve([planned.address])[0].operation


@functools.lru_cache(maxsize=4)
def _unpickled(payload: bytes) -> Operation:
    """The operation that was sent; one object for all checks of a batch, which share its examples."""
    import pickle

    return pickle.loads(payload)  # type: ignore[no-any-return]


def claim_of(planned: Planned, operation: Operation) -> Claim:
    """The claim of a check, by its label."""
    return next(c for c in operation.claims() if c.label == planned.label)


def _prepare(planned: Planned, operation: Operation) -> Workspace:
    claim = claim_of(planned, operation)
    problem = Problem(operation, claim, planned.dtype)
    if planned.data is not None:
        return Workspace(
            problem, None, [given(operation, planned.data, planned.dtype)], planned.data
        )
    profile = search.PROFILES[planned.profile]
    strategy = search.examples(
        operation.inputs,
        operation.params,
        where=operation.where,
        profile=profile,
        dtype=planned.dtype,
        seed=planned.seed,
        cost=problem.cost,
        budget=BUDGET,
    )
    return Workspace(problem, strategy, search.collect(strategy, profile.examples, planned.seed))


# ---------------------------------------------------------------------- comparing


@dataclass
class Tally:
    """What the comparisons of one check add up to."""

    agreed: int = 0
    weak: int = 0
    kinks: int = 0
    outliers: int = 0
    worst: float = 0.0
    skipped: Counter[str] = field(default_factory=Counter)
    zero: bool = False
    ones: bool = False
    nonzero: bool = False
    signs: list[bool] = field(default_factory=list)

    def add(self, comparison: Comparison) -> None:
        """One more comparison that did not refute."""
        if comparison.skipped:
            self.skipped[comparison.skipped] += 1
            return
        self.kinks += comparison.kinks
        self.outliers += comparison.outliers
        self.worst = max(self.worst, comparison.worst)
        if comparison.weak:
            self.weak += 1
            return
        self.agreed += 1
        self.zero |= comparison.notices_zero
        self.ones |= comparison.notices_ones
        flags = comparison.notices_signs
        self.signs = (
            [a or b for a, b in zip(self.signs, flags, strict=True)] if self.signs else flags
        )

    def vacuous(self) -> str:
        """Why the examples could not have refuted a wrong claim; empty if they could."""
        if not self.zero and not self.ones:
            return "it would also accept a gradient of zeros and one of ones"
        blind = [str(k + 1) for k, seen in enumerate(self.signs) if not seen]
        if blind:
            return (
                f"it would also accept the claim with the sign of term {', '.join(blind)} flipped"
            )
        return ""


def _run(planned: Planned, oracle: Oracle, check: Check) -> None:
    workspace = _workspace(planned)
    check.form = workspace.problem.form
    tally = Tally()
    check.exercised = search.describe(workspace.examples)
    for index in range(_how_many(oracle, workspace)):
        evaluated = workspace.at(index)
        if evaluated.relation:
            check.verdict, check.reason = Verdict.REFUTED, evaluated.relation
            return
        comparison = _compare(workspace.problem, evaluated, oracle, planned.device)
        if comparison is None:
            tally.skipped[evaluated.trouble] += 1
            continue
        if comparison.refutes:
            _refute(planned, oracle, workspace, index, check)
            return
        if oracle.last_resort and comparison.outliers:
            tally.skipped["differences misjudge their own error"] += 1
            continue
        tally.add(comparison)
    _conclude(tally, check)


def _how_many(oracle: Oracle, workspace: Workspace) -> int:
    """All examples; half of them (ten at least) for the oracle that runs a forward for every entry."""
    total = len(workspace.examples)
    return min(total, max(10, total // 2)) if oracle.last_resort else total


def _compare(
    problem: Problem, evaluated: Evaluated, oracle: Oracle, device: str
) -> Comparison | None:
    """The claim against an oracle, or None where the forward itself cannot be used."""
    if evaluated.trouble:
        return None
    try:
        answer = _answer(problem, evaluated, oracle, device)
    except Exception as error:
        # NumPy's and torch's errors of this name share no base; the draw has no derivative there.
        if type(error).__name__.lstrip("_") != "LinAlgError":
            raise
        empty = np.zeros(0)
        return Comparison(empty, empty, empty, skipped=f"{oracle.framework} raises LinAlgError")
    return compare(evaluated, answer, problem.dtype)


def _answer(problem: Problem, evaluated: Evaluated, oracle: Oracle, device: str) -> Answer:
    return oracle.ask(problem.question(evaluated.example, evaluated), device)


def _conclude(tally: Tally, check: Check) -> None:
    check.examples, check.weak = tally.agreed, tally.weak
    check.kinks, check.apart = tally.kinks, dict(tally.skipped)
    check.worst = tally.worst if tally.agreed or tally.weak else None
    if tally.outliers:
        check.verdict = Verdict.UNDECIDED
        check.reason = (
            f"{check.oracle} itself is off at {tally.outliers} entries: there the claim agrees with the "
            "derivative carried through the forward, and the oracle does not"
        )
    elif not tally.agreed:
        check.reason = _nothing_counted(tally)
    elif vacuous := tally.vacuous():
        check.reason = f"this check could not have failed: {vacuous}"
    else:
        check.verdict = Verdict.AGREES


def _nothing_counted(tally: Tally) -> str:
    parts = [f"{n} × {reason}" for reason, n in tally.skipped.items()]
    if tally.weak:
        parts.append(f"{tally.weak} × the bound was too wide to say anything")
    return "no example could be compared: " + "; ".join(parts or ["none was drawn"])


# ---------------------------------------------------------------------- refuting


def _refute(
    planned: Planned, oracle: Oracle, workspace: Workspace, index: int, check: Check
) -> None:
    problem = workspace.problem

    def fails(example: Example) -> bool:
        comparison = _compare(problem, problem.evaluate(example), oracle, planned.device)
        return comparison is not None and comparison.refutes

    found = _smaller(planned, workspace, fails, workspace.examples[index])
    evaluated = problem.evaluate(found)
    answer = _answer(problem, evaluated, oracle, planned.device)
    comparison = compare(evaluated, answer, problem.dtype)
    check.verdict, check.examples = Verdict.REFUTED, index + 1
    check.worst = comparison.worst
    if comparison.kind == "forward":
        check.reason = comparison.skipped
        return
    if comparison.kind == "overflow":
        check.reason = "the claim overflows where the derivative is finite"
    others = _observed(planned, oracle, workspace)
    check.counterexample = counterexample(planned, problem, evaluated, answer, comparison, others)


def _smaller(
    planned: Planned, workspace: Workspace, fails: Callable[[Example], bool], known: Example
) -> Example:
    """The smallest failing example; the known one where looking for a smaller one goes wrong."""
    if workspace.strategy is None:
        return known
    count = search.PROFILES[planned.profile].examples
    try:
        return search.find_smallest(workspace.strategy, fails, count, planned.seed, known) or known
    except (Exception, SystemExit):  # noqa: BLE001  a forward may raise anything; the refutation stands
        return known


def _observed(planned: Planned, oracle: Oracle, workspace: Workspace) -> list[tuple[Any, ...]]:
    """Wrong, ratio, claim and oracle entry by entry at a dozen of the examples, for the patterns."""
    seen = []
    for index in range(min(12, len(workspace.examples))):
        evaluated = workspace.at(index)
        if evaluated.trouble or not evaluated.claim.size:
            continue
        answer = _answer(workspace.problem, evaluated, oracle, planned.device)
        comparison = compare(evaluated, answer, planned.dtype)
        if comparison.ratio.shape == evaluated.claim.shape:
            seen.append((comparison.wrong, comparison.ratio, evaluated.claim, answer.jacobian))
    return seen
