"""Certified refutation: a point of the domain at which claim and derivative provably differ.

The forward runs on dual numbers over balls at one exact point, which gives enclosures of its
derivative; the claim is summed up from its terms in balls at the same point. Where the ball of their
difference does not hold 0, they differ, whatever was rounded. Where all such balls hold 0, nothing is
established.

With respect to an input on a lower-dimensional domain (rows of probabilities), the derivative that a
claim is compared with, entry by entry, is the ambient one: that of the forward as it is written, all
entries free to move, as frameworks take it too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import flint
import numpy as np
from flint import arb

from gradcheck.errors import UnsupportedOperation
from gradcheck.oracles.balls.claims import Claimed
from gradcheck.oracles.balls.entry import Entry, Trouble
from gradcheck.oracles.balls.namespace import BallNamespace
from gradcheck.oracles.balls.points import OutsideDomain, operands

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from gradcheck.operation import Claim, Operation
    from gradcheck.oracles.balls.points import Example

DIFFERS = "differs"
UNDEFINED = "claim undefined where the forward is smooth"

PRECISIONS = (200, 400, 800)
# Entries of a Jacobian beyond which brute force takes too long.
MAX_ENTRIES = 20_000


@dataclass(frozen=True)
class Certificate:
    """A proof, at one point, that a claim is not the derivative.

    Attributes:
        place: The index of the entry: the output's axes, then the input's.
        claimed: What is claimed there; nan where the claim is undefined.
        true: The derivative of the forward.
        claimed_digits: The same as a decimal of which every digit is certain up to its last.
        true_digits: Likewise for the derivative.
        gap: They differ by at least so much; infinite where the claim is undefined.
        precision: The number of bits at which it was established.
        kind: "differs", or "claim undefined where the forward is smooth".
    """

    place: tuple[int, ...]
    claimed: float
    true: float
    claimed_digits: str
    true_digits: str
    gap: float
    precision: int
    kind: str


@dataclass(frozen=True)
class Outcome:
    """What balls established at one point.

    Attributes:
        certificate: The proof of a difference, if there is one.
        finite: Whether forward, derivative and claim are certified finite in every entry.
        radius: How far claim and derivative may still be apart in the entries compared; None where
            there are none.
        compared: The number of entries compared.
        reason: Why nothing, or not everything, was compared; empty otherwise.
    """

    certificate: Certificate | None = None
    finite: bool = False
    radius: float | None = None
    compared: int = 0
    reason: str = ""


@dataclass(frozen=True)
class _Sides:
    """Forward, derivative and claim at a point: arrays of entries, the last two of one shape."""

    output: Any
    true: Any
    claimed: Any


def certify(
    operation: Operation,
    claim: Claim,
    example: Example,
    *,
    precisions: Sequence[int] = PRECISIONS,
) -> Certificate | None:
    """A proof that the claim is wrong at the example; None where balls cannot give one.

    A claim that is undefined where the forward is smooth is wrong if it is so at all points nearby
    (h⁻¹ for h = relu z below 0). Where it divides by a number that merely happens to be 0 at this
    point, it may be right wherever that number is not 0, which is no refutation.

    Args:
        operation: The operation.
        claim: One of its claims.
        example: From which a point of the domain is made: floats are exact, rows of probabilities
            are u/Σu in rationals.
        precisions: In bits, tried in this order.
    """
    return examine(operation, claim, example, precisions=precisions).certificate


def search_certificate(
    operation: Operation,
    claim: Claim,
    examples: Iterable[Example],
    *,
    precisions: Sequence[int] = PRECISIONS,
) -> tuple[Example, Certificate] | None:
    """The first of the examples at which the claim is certainly wrong: low precisions go first."""
    points = list(examples)
    for precision in precisions:
        for example in points:
            found = certify(operation, claim, example, precisions=(precision,))
            if found is not None:
                return example, found
    return None


def witness(
    operation: Operation,
    claim: Claim,
    examples: Iterable[Example],
    *,
    precisions: Sequence[int] = PRECISIONS[:2],
) -> bool:
    """Whether forward, derivative and claim are certified finite at some example with any entry."""
    return any(
        examine(operation, claim, example, precisions=(precision,)).finite
        for example in examples
        for precision in precisions
    )


def work(operation: Operation, claim: Claim, example: Example) -> float:
    """How many products it takes to evaluate a claim at an example; infinite outside the domain."""
    space = BallNamespace()
    try:
        values = operands(operation, example, claim.input, space)
    except (OutsideDomain, UnsupportedOperation):
        return math.inf
    return Claimed(operation, values, operation.sizes_of(values), space).work(claim)


def examine(
    operation: Operation,
    claim: Claim,
    example: Example,
    *,
    precisions: Sequence[int] = PRECISIONS,
) -> Outcome:
    """Everything that balls establish about a claim at an example, at growing precision."""
    outcome = Outcome(reason="no precision was asked for")
    for precision in precisions:
        outcome = _at_precision(operation, claim, example, precision)
        if outcome.certificate is not None:
            break
    return outcome


def _at_precision(operation: Operation, claim: Claim, example: Example, precision: int) -> Outcome:
    with flint.ctx.workprec(precision):
        try:
            sides = _evaluate(operation, claim, example)
        except (OutsideDomain, UnsupportedOperation) as error:
            return Outcome(reason=str(error))
        return _compare(sides, precision)


def _evaluate(operation: Operation, claim: Claim, example: Example) -> _Sides:
    output, true, claimed = _forward(operation, claim, example)
    return _Sides(output, true, claimed.derivative(claim))


def _forward(operation: Operation, claim: Claim, example: Example) -> tuple[Any, Any, Claimed]:
    """The output, its Jacobian, and what evaluates claims at the same point."""
    space = BallNamespace()
    values = operands(operation, example, claim.input, space)
    sizes = operation.sizes_of(values)
    claimed = Claimed(operation, values, sizes, space)
    entries = math.prod(claimed.shape(claim))
    if entries > MAX_ENTRIES:
        problem = f"a Jacobian of {entries} entries is more than {MAX_ENTRIES}; use smaller axes"
        raise UnsupportedOperation(problem)
    claimed.environment = operation.environment(space, values)
    output = space.asarray(claimed.environment[claim.output]).entries
    return output, _jacobian(output, (*output.shape, *values[claim.input].shape)), claimed


def _jacobian(output: Any, shape: tuple[int, ...]) -> Any:
    """The derivatives of all outputs; trouble of an output is trouble of all its derivatives."""
    true = np.empty(shape, dtype=object)
    rows = true.reshape((output.size, -1)) if true.size else true
    for row, entry in zip(rows, output.flat, strict=False):
        for direction in range(len(row)):
            row[direction] = _partial(entry, direction)
    return true


def _partial(entry: Entry, direction: int) -> Entry:
    if entry.trouble:
        return entry
    slope = entry.tangent.get(direction, arb(0))
    if not (entry.value.is_finite() and slope.is_finite()):
        return Entry(None, None, True, Trouble.UNKNOWN)
    return Entry(slope, None, entry.moves)


# ------------------------------------------------------------------ comparing


def _compare(sides: _Sides, precision: int) -> Outcome:
    """The largest certain difference, relative to the derivative; else how well they agree."""
    best: tuple[float, Certificate] | None = None
    radius, compared = arb(0), 0
    troubles = set()
    for place in np.ndindex(sides.true.shape):
        true, claimed = sides.true[place], _settled(sides.claimed[place])
        if true.trouble or claimed.trouble not in (Trouble.NONE, Trouble.UNDEFINED):
            troubles.add(_because(true, claimed))
            continue
        compared += 1
        weight, gap = _gap(true, claimed)
        if weight is None:
            radius = radius.max(gap)
        elif best is None or weight > best[0]:
            best = (weight, _certificate(place, true, claimed, precision))
    certificate = best[1] if best is not None else None
    bound = _upper(radius) if compared and certificate is None else None
    reason = "; ".join(sorted(troubles))
    return Outcome(certificate, _all_finite(sides), bound, compared, reason)


def _settled(claimed: Entry) -> Entry:
    """A claim that is exactly infinite is undefined; one in a ball without bounds is not known."""
    if claimed.trouble or claimed.value.is_finite():
        return claimed
    trouble = Trouble.UNDEFINED if claimed.value.is_exact() else Trouble.UNKNOWN
    return Entry(None, None, True, trouble)


def _all_finite(sides: _Sides) -> bool:
    both = [*sides.true.flat, *sides.claimed.flat]
    return bool(both) and not any(e.trouble or not e.value.is_finite() for e in both)


_REASONS = {
    Trouble.UNKNOWN: "the {} cannot be enclosed at this precision",
    Trouble.STRADDLES: "a branch of the {} is open: a tie, or overlapping balls",
    Trouble.ISOLATED: "the {} is undefined at this point, perhaps not nearby",
    Trouble.UNDEFINED: "the {} is undefined at this point",
}


def _because(true: Entry, claimed: Entry) -> str:
    if true.trouble:
        return _REASONS[true.trouble].format("forward")
    return _REASONS[claimed.trouble].format("claim")


def _gap(true: Entry, claimed: Entry) -> tuple[float | None, arb]:
    """How much a certain difference weighs, or None and the bound on an uncertain one."""
    if claimed.trouble:
        return math.inf, arb("inf")
    gap = claimed.value - true.value
    if gap.contains(0):
        return None, gap.abs_upper()
    scale = abs(true.value).max(abs(claimed.value))
    return float((gap.abs_lower() / scale).mid()), gap


def _certificate(
    place: tuple[int, ...], true: Entry, claimed: Entry, precision: int
) -> Certificate:
    if claimed.trouble:
        number, digits = float(true.value.mid()), true.value.str(17, radius=False)
        return Certificate(
            place, math.nan, number, "undefined", digits, math.inf, precision, UNDEFINED
        )
    gap = claimed.value - true.value
    digits = _digits_needed(true.value, claimed.value, gap)
    return Certificate(
        place,
        float(claimed.value.mid()),
        float(true.value.mid()),
        claimed.value.str(digits, radius=False),
        true.value.str(digits, radius=False),
        _lower(gap),
        precision,
        DIFFERS,
    )


def _digits_needed(true: arb, claimed: arb, gap: arb) -> int:
    """As many as show the difference, and two more."""
    ratio = (abs(true).max(abs(claimed)) / gap.abs_lower()).log() / arb(10).log()
    return max(6, 3 + math.ceil(float(ratio.mid())))


def _lower(gap: arb) -> float:
    """|gap| rounded down."""
    return max(0.0, math.nextafter(float(gap.abs_lower()), 0.0))


def _upper(radius: arb) -> float:
    """A bound rounded up."""
    return math.nextafter(float(radius.abs_upper()), math.inf) if not radius.is_zero() else 0.0


# ------------------------------------------------------------------ the derivative itself

# The error of hi + lo, in ulps of hi.
_ULPS = 2.0**-12
_LAST = 6400


def truth(
    operation: Operation, claim: Claim, example: Example
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """The derivative of the forward as hi + lo, to a 2⁻¹² part of an ulp; None where it has none.

    Entries below the smallest normal number are as good as float64 can hold them.
    """
    precision = PRECISIONS[0]
    while precision <= _LAST:
        with flint.ctx.workprec(precision):
            try:
                _, true, _ = _forward(operation, claim, example)
            except (OutsideDomain, UnsupportedOperation):
                return None
            found = _doubles(true)
        if found is not None:
            return found
        precision *= 2
    return None


def _doubles(true: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    high, low = np.zeros(true.shape), np.zeros(true.shape)
    for place in np.ndindex(true.shape):
        entry = true[place]
        if entry.trouble:
            return None
        high[place] = float(entry.value.mid())
        if not np.isfinite(high[place]):
            return None
        rest = entry.value - arb(float(high[place]))
        low[place] = float(rest.mid())
        if rest.rad() > arb(_ULPS * math.ulp(high[place])):
            return None
    return high, low
