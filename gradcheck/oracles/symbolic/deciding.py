"""Claims and pairs of expressions decided: proved, suspect, or undecided with the reason."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from gradcheck.accumulating import why_link_by_link
from gradcheck.algebra.canonical.decide import vanishes, with_relations
from gradcheck.algebra.canonical.residues import ACCEPTED, agree_at_random
from gradcheck.algebra.canonical.text import shown
from gradcheck.algebra.canonical.undecided import DividesByZero, Undecided
from gradcheck.algebra.source import internal
from gradcheck.errors import SpecError, in_words
from gradcheck.oracles.finding import Finding
from gradcheck.oracles.symbolic.cases import cases
from gradcheck.oracles.symbolic.links import NotByLinksError, by_links
from gradcheck.oracles.symbolic.operands import in_operands
from gradcheck.oracles.symbolic.run import Run
from gradcheck.oracles.symbolic.statement import has_branches, statement

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradcheck.algebra.canonical.forms import Form
    from gradcheck.algebra.terms import Expression
    from gradcheck.operation import Claim, Operation

# What a forward raises that was written for numbers only.
_ODD = (TypeError, AttributeError, ValueError, RecursionError)


@dataclass(frozen=True)
class Comparison:
    """Two sides in one case, and what was found about them.

    Attributes:
        run: The run of the forward.
        finding: The answer in this case.
        first: The derivative of the forward, or the first expression.
        second: The claim, or the second expression; None where it is undefined.
    """

    run: Run
    finding: Finding
    first: Form
    second: Form | None


def symbolic(operation: Operation, claim: Claim, *, seed: int = 0) -> Finding:
    """Whether a claimed derivative is that of the forward, at every size.

    Returns:
        A finding: "proved" with the statement, "suspect" with the residual true − claimed, or
        "undecided" with the reason.
    """

    def decide() -> Finding:
        found = [_claim(Run(operation, c), claim, seed) for c in cases(operation)]
        return _all(operation, found, claim)

    if apart := why_link_by_link(operation, claim):
        return _by_links(operation, claim, Finding("undecided", reason=apart), seed)
    found = guarded(decide)
    if found.verdict != "undecided" or claim.form != "chain":
        return found
    return _by_links(operation, claim, found, seed)


def _by_links(operation: Operation, claim: Claim, whole: Finding, seed: int) -> Finding:
    """Link by link, where the whole chain is undecided."""

    def decide() -> Finding:
        try:
            return by_links(operation, claim, lambda o, c: symbolic(o, c, seed=seed))  # type: ignore[arg-type]
        except NotByLinksError as error:
            return replace(whole, reason=f"{whole.reason}; nor link by link: {error}")

    found = guarded(decide)
    return whole if found.verdict == "undecided" and "link by link" not in found.reason else found


def equal(operation: Operation, first: Expression, second: Expression, rank: int = 0) -> Finding:
    """Whether two expressions over an operation's operands are equal, at every size.

    Outputs stand for the forward's own forms, and the relations of domains are used as for claims.

    Args:
        operation: A spec or a chain.
        first: Bound to the operation's operands.
        second: Likewise, with the same output letters.
        rank: The number of leading axes that the expressions speak of.

    Returns:
        "proved" with its statement, "suspect" with the residual first − second, or "undecided".

    Raises:
        SpecError: Where the output letters differ.
    """
    (found,) = equal_pairs(operation, [(first, second)], rank)
    return found


def equal_pairs(
    operation: Operation, pairs: Sequence[tuple[Expression, Expression]], rank: int = 0
) -> list[Finding]:
    """The same of several pairs, for which the forward is run once.

    Raises:
        SpecError: Where the output letters of a pair differ.
    """
    for first, second in pairs:
        if first.output != second.output:
            ours, theirs = "".join(first.output), "".join(second.output)
            raise SpecError(
                f"an expression with the letters {ours} is compared with one with {theirs}",
                hint="write both with the same output letters in the same order",
            )
    runs: list[Run] = []

    def start() -> Finding:
        runs.extend(Run(operation, c) for c in cases(operation) if c.rank == rank)
        return Finding("proved")

    started = guarded(start)
    if started.verdict != "proved":
        return [started for _ in pairs]
    return [guarded(partial(_pair, operation, runs, *pair)) for pair in pairs]


def _pair(
    operation: Operation, runs: Sequence[Run], first: Expression, second: Expression
) -> Finding:
    """Two expressions in every case; what other pairs asked of a point is forgotten."""
    counts = [len(run.xp.asked) for run in runs]
    try:
        return _all(operation, [_expressions(run, first, second) for run in runs], None)
    finally:
        for run, count in zip(runs, counts, strict=True):
            del run.xp.asked[count:]


def guarded(decide: Callable[[], Finding]) -> Finding:
    """A decision; what forms cannot express is undecided, with the user's line."""
    try:
        return decide()
    except Undecided as error:
        return Finding("undecided", reason=_sentence(error))
    except SpecError as error:  # the forward is wrong, whatever it is run on; it says what to write
        return Finding("undecided", reason=str(error))
    except _ODD as error:
        text = f"{type(error).__name__}: {in_words(error)}"
        return Finding("undecided", reason=f"not one index expression: {text}{_line(error)}")


def _sentence(error: Undecided) -> str:
    """The reason, which names the hypothesis once: most say themselves what is no index expression."""
    text = str(error)
    plain = isinstance(error, DividesByZero) or "index expression" in text
    return f"{'' if plain else 'not one index expression: '}{text}{_line(error)}"


def _line(error: BaseException) -> str:
    """The user's own line in a traceback."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not internal(f.filename)]
    return f" ({frames[-1].filename}:{frames[-1].lineno}: {frames[-1].line})" if frames else ""


def _claim(run: Run, claim: Claim, seed: int) -> Comparison:
    """A claim in one case."""
    expression = run.operation.derivative(claim.output, claim.input, run.case.rank)
    true = run.derivative(claim.output, claim.input)
    axes = run.axes(claim.output) + run.axes(claim.input)
    try:
        claimed = run.expression(expression, axes)
    except DividesByZero as error:
        # A point where the forward is smooth and the claim undefined refutes it, if there is one.
        reason = f"the claim is undefined in a whole cell: {error}"
        return Comparison(run, Finding("suspect", reason=reason), true, None)
    finding = _compare(run, true, claimed, expression.output, "true − claimed", seed)
    if finding.verdict != "proved" and run.xp.rounded:
        finding = replace(finding, reason=f"{finding.reason}; {_rounded(run)}")
    return Comparison(run, finding, true, claimed)


def _rounded(run: Run) -> str:
    """That a forward uses numbers which are not what was meant."""
    numbers = ", ".join(map(repr, sorted(run.xp.rounded)))
    return (
        f"the forward uses {numbers}, rounded, which is taken at its word; write integers, "
        "Fraction(1, 3), xp.sqrt(2), xp.sqrt(d) of a size d, or xp.pi"
    )


def _expressions(run: Run, first: Expression, second: Expression) -> Comparison:
    """Two expressions in one case."""
    axes = {s: a for e in (first, second) for t in e.terms for s, a in t.axes.items()}
    own = tuple(run.axis(axes[s]) for s in first.output)
    one, two = run.expression(first, own), run.expression(second, own)
    finding = _compare(run, one, two, first.output, "first − second", 0)
    return Comparison(run, finding, one, two)


def _compare(
    run: Run, first: Form, second: Form, letters: tuple[str, ...], words: str, seed: int
) -> Finding:
    """Canonical and random equality of two forms."""
    related = run.related()
    first, second = with_relations(first, related), with_relations(second, related)
    same = vanishes(run.table, first - second)
    at_random, bound = agree_at_random(run.table, first, second, seed)
    if same and not at_random:
        return Finding(
            "undecided",
            reason="a bug of gradcheck: canonical forms are equal, but random residues are not",
        )
    if same and bound >= ACCEPTED:
        return Finding(
            "undecided", reason=f"random residues leave a chance of {bound:.0e} of an error"
        )
    if same:
        return Finding("proved", bound=bound)
    if at_random:
        return Finding(
            "undecided",
            reason="the difference is 0 at random residues, but was not brought to the form 0",
        )
    text = shown(in_operands(run, first - second), letters)
    case = run.case.words()
    where = f" at {case}" if case else ""
    return Finding("suspect", residual=text, reason=f"{words} = {text}{where}", bound=bound)


def _all(operation: Operation, found: list[Comparison], claim: Claim | None) -> Finding:
    """The finding over all cases."""
    failed = next((c.finding for c in found if c.finding.verdict != "proved"), None)
    if failed is not None:
        return failed
    runs = [c.run for c in found]
    conditions = {c for run in runs for c in run.conditions()}
    # What jumps at a tie may cancel: sign(x)² is 1, and 0 where x is.
    branches = any(run.xp.jumps for run in runs)
    for c in found:
        assert c.second is not None
        value = c.run.form(claim.output) if claim is not None else c.first
        branches = branches or has_branches(value) or has_branches(c.second)
    rule = ""
    if claim is not None and claim.form == "chain":
        links = [node.call.operation.name for node in operation.nodes]  # type: ignore[attr-defined]
        rule = f"by the chain rule over {', '.join(dict.fromkeys(links))}"
    words = statement(
        operation,
        runs,
        conditions=conditions,
        branches=branches,
        rule=rule,
        leading=claim is not None,
    )
    return Finding("proved", statement=words, bound=max(c.finding.bound or 0.0 for c in found))
