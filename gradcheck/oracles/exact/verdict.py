"""The verdict on one claim: "identity" at the shapes tried, "suspect", or "undecided".

An identity is exact, at the sizes and in the cell that its statement names, and no claim beyond them.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.algebra.shapes import rank_in
from gradcheck.algebra.source import internal
from gradcheck.errors import GradcheckError, Location, SpecError, UnsupportedOperation, in_words
from gradcheck.oracles.exact.array import NeedsCellError, ResampleError, StraddleError
from gradcheck.oracles.exact.claim import ClaimUndefinedError
from gradcheck.oracles.exact.evaluation import MOST_RELATED, Evaluator, Outcome, Settings
from gradcheck.oracles.exact.inputs import Case, cases, cases_at, covered, is_generic, is_sampled
from gradcheck.oracles.exact.residual import residual_at
from gradcheck.oracles.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradcheck.operation import Claim, Operation

# The bound on a false accept, and how many times the usual lanes are taken to reach it.
_ENOUGH = 1e-12
_TIMES = (1, 2, 4)
# Real points tried for a witness, cells tried where generic selectors do not decide, and draws of
# inputs that are samples.
_WITNESSES = 8
_CELLS = 4
_DRAWS = 3
# Cells that a statement writes out.
_SHOWN = 3


class _UndecidedError(Exception):
    """Ends the oracle with a reason."""


class _SuspectError(Exception):
    """Ends the oracle: claim and derivative differ."""

    def __init__(self, reason: str, sizes: dict[str, int], residual: str = "") -> None:
        self.reason = reason
        self.sizes = sizes
        self.residual = residual
        super().__init__(reason)


@dataclass
class _Record:
    """What has been established so far."""

    tried: list[Case] = field(default_factory=list)
    undefined: list[Case] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    cells: list[str] = field(default_factory=list)
    rounded: dict[float, Any] = field(default_factory=dict)
    samples: dict[str, None] = field(default_factory=dict)

    def note(self, outcome: Outcome) -> None:
        """What an evaluation used that a statement mentions."""
        self.rounded.update(outcome.rounded)
        self.samples.update(dict.fromkeys(outcome.drawn.sampled))


def exact(
    operation: Operation,
    claim: Claim,
    *,
    seed: int = 0,
    sizes: Sequence[Mapping[str, int]] | None = None,
    settings: Settings | None = None,
) -> Finding:
    """Whether a claimed derivative equals that of the program, in exact arithmetic at small shapes.

    Args:
        operation: A spec or a chain.
        claim: One of its claims.
        seed: Of primes, residues and samples.
        sizes: The sizes to try; by default two assignments of distinct sizes, then each axis at size 1,
            and all sizes equal.
        settings: The pool of primes and the number of lanes.

    Returns:
        A finding: "identity" with its statement and its bound on a false accept, "suspect" where they
        differ (nothing is refuted before a real point certifies it), or "undecided" with the reason.

    Raises:
        SpecError: Where an output has another shape than it is declared to have.
    """
    evaluator = Evaluator(operation, claim, settings or Settings(seed=seed))
    record = _Record()
    tried = list(cases(operation)) if sizes is None else list(cases_at(operation, sizes))
    try:
        _all(evaluator, tried, record)
    except _SuspectError as error:
        if record.rounded:
            return Finding("undecided", reason=_rounded(record), sizes=(error.sizes,))
        return Finding(
            "suspect", reason=error.reason, residual=error.residual, sizes=(error.sizes,)
        )
    except _UndecidedError as error:
        return Finding("undecided", reason=str(error))
    return _identity(operation, evaluator, record)


def _all(evaluator: Evaluator, tried: list[Case], record: _Record) -> None:
    for case in tried:
        _at(evaluator, case, record)
    if not record.outcomes:
        raise _UndecidedError("the operation is defined at none of the sizes tried")


def _at(evaluator: Evaluator, case: Case, record: _Record) -> None:
    """One case; an edge at which the operation is not defined is noted and left out."""
    sampled = any(map(is_sampled, evaluator.operation.inputs.values()))
    draws = _DRAWS if sampled and not case.edge else 1
    try:
        for _ in range(draws):
            _check(evaluator, case, record)
        record.tried.append(case)
    except (ResampleError, StraddleError) as error:
        if case.edge:
            record.undefined.append(case)
            return
        raise _UndecidedError(_never(error, case)) from error
    except (SpecError, _SuspectError, _UndecidedError):
        raise
    except (UnsupportedOperation, NotImplementedError) as error:
        raise _UndecidedError(str(error)) from error
    except GradcheckError:
        raise
    except (ArithmeticError, AttributeError, IndexError, TypeError, ValueError) as error:
        if case.edge:
            record.undefined.append(case)
            return
        where = _user_line(error)
        raise _UndecidedError(
            f"{where}the forward raises {type(error).__name__} on exact arrays: {in_words(error)}"
        ) from error


def _never(error: Exception, case: Case) -> str:
    if isinstance(error, ResampleError):
        place = f"{error.location}: " if error.location else ""
        return f"{place}{error.what} ({case.words()})"
    return f"no real point was found that decides every branch ({case.words()})"


def _user_line(error: BaseException) -> str:
    """The innermost line outside the package, with a colon."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if (
            not internal(frame.filename)
            and "numpy" not in frame.filename
            and frame.lineno is not None
        ):
            return f"{Location(frame.filename, frame.lineno)}: "
    return ""


# ------------------------------------------------------------------ one case


def _check(evaluator: Evaluator, case: Case, record: _Record) -> None:
    first = not record.outcomes
    try:
        outcome = _strong(evaluator, case, shadowed=first)
    except NeedsCellError:
        _in_cells(evaluator, case, record)
        return
    except ClaimUndefinedError as error:
        raise _SuspectError(_undefined(evaluator, error, case), case.sizes) from error
    record.note(outcome)
    if outcome.wrong:
        if not outcome.selected:
            raise _suspect(evaluator, outcome, case)
        _in_cells(evaluator, case, record)
        return
    if outcome.selected and _depends_on_selectors(evaluator, case, outcome):
        # Equal with generic selectors, but a denominator of the claim may be 0 in a whole cell.
        _in_cells(evaluator, case, record)
        return
    if first:
        _witness(evaluator, case, outcome)
    record.outcomes.append(outcome)


def _strong(
    evaluator: Evaluator, case: Case, *, shadowed: bool = False, cell: bool = False
) -> Outcome:
    """An evaluation in as many lanes as its bound needs."""
    for times in _TIMES:
        outcome = evaluator.evaluate(case, shadowed=shadowed, cell=cell, times=times)
        if outcome.wrong and outcome.opaque_roots and outcome.entries <= MOST_RELATED:
            related = evaluator.evaluate(case, shadowed=shadowed, cell=cell, related=True)
            if not related.wrong and related.bound < _ENOUGH:
                return related
        if outcome.wrong or outcome.bound < _ENOUGH:
            return outcome
    raise _UndecidedError(
        f"the bound on a false accept is {outcome.bound:.1e} at {case.words()}: the entries are "
        f"rational functions of degree {outcome.degree:.3g}, too large for these primes"
    )


def _depends_on_selectors(evaluator: Evaluator, case: Case, outcome: Outcome) -> bool:
    """Whether something that the claim divides by changes with the selectors."""
    if not outcome.denominators:
        return False
    other = evaluator.with_other_selectors(case, outcome)
    pairs = zip(outcome.denominators, other.denominators, strict=True)
    return any(not np.array_equal(a, b) for a, b in pairs)


def _in_cells(evaluator: Evaluator, case: Case, record: _Record) -> None:
    """Cells of random real points: all must agree, and each is named."""
    established = 0
    for _ in range(_WITNESSES):
        try:
            outcome = _strong(evaluator, case, cell=True)
        except ClaimUndefinedError as error:
            raise _SuspectError(_undefined(evaluator, error, case), case.sizes) from error
        record.note(outcome)
        if outcome.wrong:
            raise _suspect(evaluator, outcome, case)
        if outcome.finite:
            established += 1
            record.outcomes.append(outcome)
            record.cells.append(outcome.point)
        if established == _CELLS:
            return
    if not established:
        raise _UndecidedError(_vacuous(case))


def _witness(evaluator: Evaluator, case: Case, outcome: Outcome) -> None:
    """A real point at which balls certify forward and claim finite."""
    for _ in range(_WITNESSES):
        if outcome.finite:
            return
        outcome = evaluator.evaluate(case, shadowed=True)
    if not outcome.finite:
        raise _UndecidedError(_vacuous(case))


def _vacuous(case: Case) -> str:
    return (
        f"vacuous: forward and claim were finite at none of {_WITNESSES} real points of the domain "
        f"({case.words()})"
    )


# ------------------------------------------------------------------ words


def _suspect(evaluator: Evaluator, outcome: Outcome, case: Case) -> _SuspectError:
    """What differs, and how much at a real point."""
    residual = residual_at(evaluator.operation, evaluator.claim, outcome.drawn, case)
    reason = "; ".join(x for x in (_differs(evaluator, outcome, case), residual) if x)
    return _SuspectError(reason, case.sizes, residual)


def _differs(evaluator: Evaluator, outcome: Outcome, case: Case) -> str:
    operation, claim = evaluator.operation, evaluator.claim
    expression = operation.derivative(claim.output, claim.input, rank_in(case.sizes))
    place = ", ".join(
        f"{s} = {i}" for s, i in zip(expression.output, outcome.wrong[0], strict=True)
    )
    where = f", first at {place}" if place else ""
    inside = f", in the cell of {outcome.point}" if outcome.point else ""
    return (
        f"∂{claim.output}/∂{claim.input} differs from the claim in {len(outcome.wrong)} of "
        f"{outcome.entries} entries{where} ({case.words()}){inside}"
    )


def _undefined(evaluator: Evaluator, error: ClaimUndefinedError, case: Case) -> str:
    return (
        f"the claim divides by {error.factor} (or takes its root or logarithm), which is 0 where "
        f"{evaluator.operation.name} is defined ({case.words()})"
    )


def _rounded(record: _Record) -> str:
    value, place = next(iter(record.rounded.items()))
    return (
        f"{place}: the forward uses {value!r}, which was rounded, and an exact comparison takes it at "
        "its word; write integers, Fraction(1, 3), xp.sqrt(2), size('d')**Fraction(-1, 2) or xp.pi"
    )


def _identity(operation: Operation, evaluator: Evaluator, record: _Record) -> Finding:
    claim = evaluator.claim
    bound = min(sum(o.bound for o in record.outcomes), 1.0)
    lines = [
        f"∂{claim.output}/∂{claim.input} is exactly as claimed at "
        + "; ".join(case.words() for case in record.tried)
    ]
    if record.cells:
        cells = list(dict.fromkeys(record.cells))
        more = f" and {len(cells) - _SHOWN} more" if len(cells) > _SHOWN else ""
        lines.append(f"in the cells of {'; of '.join(cells[:_SHOWN])}{more} only")
    if record.samples:
        lines.append(f"with samples of {', '.join(record.samples)}")
    if values := covered(operation):
        lines.append(f"for {values}")
    generic = [n for n in operation.params if is_generic(operation, n)]
    if generic:
        lines.append(f"for every {', '.join(generic)}")
    if record.undefined:
        lines.append(f"not defined at {'; '.join(c.words() for c in record.undefined)}")
    degree = max(o.degree for o in record.outcomes)
    lines.append(
        f"wherever both are defined; the entries are rational functions of degree ≤ {degree:.0f}, a wrong "
        f"claim would have passed with probability < {bound:.1e}"
    )
    return Finding(
        "identity",
        statement=", ".join(lines),
        bound=bound,
        sizes=tuple(case.sizes for case in record.tried),
    )
