"""One random evaluation of forward and claim, and the probability that it fooled us."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from flint import ctx

from gradcheck.algebra.shapes import rank_in
from gradcheck.oracles.exact import shadow
from gradcheck.oracles.exact.array import (
    FieldArray,
    NeedsSquareError,
    ResampleError,
    StraddleError,
)
from gradcheck.oracles.exact.branches import SELECTORS
from gradcheck.oracles.exact.claim import Claimant, Claimed
from gradcheck.oracles.exact.functions import LEAST_LANES
from gradcheck.oracles.exact.inputs import arrays, draw
from gradcheck.oracles.exact.memory import Memory
from gradcheck.oracles.exact.namespace import FieldNamespace
from gradcheck.oracles.exact.primes import STANDARD, Field, Pool

if TYPE_CHECKING:
    from gradcheck.operation import Claim, Operation
    from gradcheck.oracles.exact.degrees import Bound
    from gradcheck.oracles.exact.inputs import Case, Draw

_TRIES = 4
_MANY_LANES = 512
# The largest array of which there are so many lanes, in entries.
MOST_RELATED = 4000
_POINTS = 24
# Larger arrays are not written out.
_READABLE = 12


@dataclass(frozen=True)
class Settings:
    """How to evaluate: the pool of primes, the number of lanes, the seed."""

    pool: Pool = STANDARD
    lanes: int = 4
    seed: int = 0


@dataclass
class Outcome:
    """What one evaluation found.

    Attributes:
        wrong: The entries, output then input, at which claim and derivative differ in some lane.
        entries: How many entries there are.
        bound: On the probability that a wrong claim looks right here.
        degree: Of the cleared numerator of an entry of true − claimed.
        norm: log2 of the sum of its |coefficients|.
        selected: Whether branches occurred.
        opaque_roots: Whether roots of generic values occurred.
        denominators: What the claim divides by, as residues.
        finite: Whether forward and claim are finite at the real point; None where there is none.
        rounded: Floats of many digits in the forward, with their places.
        point: The real point, in words, where branches were decided at it.
        drawn: The inputs.
    """

    wrong: list[tuple[int, ...]]
    entries: int
    bound: float
    degree: float
    norm: float
    selected: bool
    opaque_roots: bool
    denominators: list[Any]
    finite: bool | None
    rounded: dict[float, Any]
    point: str
    drawn: Draw
    memory: Memory


@dataclass(frozen=True)
class Mode:
    """Whether balls at a real point are carried, decide branches, and roots are related."""

    shadowed: bool = False
    cell: bool = False
    related: bool = False


class Evaluator:
    """Evaluates one claim, again and again."""

    def __init__(self, operation: Operation, claim: Claim, settings: Settings) -> None:
        self.operation = operation
        self.claim = claim
        self.settings = settings
        self.rng = np.random.default_rng(settings.seed)
        self.required: set[int] = set()
        self.draws = 0

    def lanes(self, count: int) -> Field:
        """Random primes, modulo which the numbers whose roots are needed are squares."""
        primes: list[int] = []
        while len(primes) < count:
            p = self.settings.pool.draw(self.rng)
            if all(pow(c, (p - 1) // 2, p) == 1 for c in self.required):
                primes.append(p)
        return Field(primes)

    def evaluate(
        self,
        case: Case,
        *,
        shadowed: bool = False,
        cell: bool = False,
        times: int = 1,
        related: bool = False,
    ) -> Outcome:
        """At random primes and inputs: with generic selectors, or with those of a real point.

        Args:
            case: The sizes.
            shadowed: Whether to follow a real point.
            cell: Whether to decide branches at that point.
            times: How many times the usual number of lanes to take.
            related: Whether to relate roots of generic values to them, in many lanes.

        Raises:
            ResampleError: Where even new lanes and inputs divide by zero.
            StraddleError: Where no real point decides every branch.
        """
        last: Exception | None = None
        zeros = straddles = 0
        while zeros < _TRIES and straddles < _POINTS:
            field = self.lanes(_MANY_LANES if related else self.settings.lanes * times)
            try:
                drawn = self._drawn(case, field)
                memory, mode = Memory(field, self.rng), Mode(shadowed or cell, cell, related)
                return self.run(case, drawn, memory, mode)
            except ResampleError as error:
                zeros, last = zeros + 1, error
            except StraddleError as error:
                straddles, last = straddles + 1, error
            except NeedsSquareError as error:
                self.required.add(error.number)
        assert last is not None
        raise last

    def _drawn(self, case: Case, field: Field) -> Draw:
        self.draws += 1
        return draw(self.operation, case, field, self.rng, self.settings.seed + self.draws)

    def with_other_selectors(self, case: Case, outcome: Outcome) -> Outcome:
        """The same evaluation, except that generic selectors are drawn anew."""
        return self.run(case, outcome.drawn, outcome.memory.without(SELECTORS), Mode())

    def run(self, case: Case, drawn: Draw, memory: Memory, mode: Mode) -> Outcome:
        """Forward, derivative and claim on given inputs."""
        with ctx.workprec(shadow.PRECISION):
            return self._run(case, drawn, memory, mode)

    def _run(self, case: Case, drawn: Draw, memory: Memory, mode: Mode) -> Outcome:
        operation, claim = self.operation, self.claim
        space = FieldNamespace(
            memory.field,
            memory,
            self.rng,
            shadowed=mode.shadowed,
            cell=mode.cell,
            related=mode.related,
        )
        values, wrt = arrays(operation, drawn, space, claim.input)
        operands = operation.environment(space, values)
        result = space.asarray(operands[claim.output])
        sizes = operation.sizes_of({**values, **case.params})
        expression = operation.derivative(claim.output, claim.input, rank_in(sizes))
        claimant = Claimant(space, operands, {**case.sizes, **sizes}, operation.one_hot)
        claimed = claimant.evaluate(expression)
        finite = None
        if mode.shadowed:
            finite = claimed.finite and all(_finite(operands[n]) for n in operation.output_names)
        point = _point_words(drawn) if mode.cell else ""
        return self._compared(space, jacobian(result, wrt), result, claimed, finite, point, drawn)

    def _compared(
        self,
        space: FieldNamespace,
        true: Any,
        result: FieldArray,
        claimed: Claimed,
        finite: bool | None,
        point: str,
        drawn: Draw,
    ) -> Outcome:
        differs = (true - claimed.values) % space.field.column(true.ndim) != 0
        wrong = np.any(differs[space.alive], axis=0)
        bound, size = self._bound(space, result, claimed)
        return Outcome(
            wrong=[tuple(map(int, place)) for place in np.argwhere(wrong)],
            entries=wrong.size,
            bound=bound,
            degree=size.degree,
            norm=size.norm,
            selected=space.selected > 0,
            opaque_roots=space.opaque_roots > 0,
            denominators=claimed.denominators,
            finite=finite,
            rounded=space.rounded,
            point=point,
            drawn=drawn,
            memory=space.memory,
        )

    def _bound(
        self, space: FieldNamespace, result: FieldArray, claimed: Claimed
    ) -> tuple[float, Bound]:
        """Theorem A: on the probability of accepting a wrong entry, and the size of its numerator."""
        size = claimed.bound if result.slope is None else result.slope.plus(claimed.bound)
        one, lanes = self._lane(space, size), space.field.count
        total = one**lanes
        if space.related:
            # Which lanes are left depends on what is evaluated: any of them might be.
            total = math.comb(lanes, LEAST_LANES) * one**LEAST_LANES
            total += _unseen(int(space.alive.sum()), space.hidden)
        for count, arguments in space.memory.met.values():
            pairs = count * (count - 1) / 2
            collision = self._lane(space, arguments.plus(arguments))
            total += pairs * collision**space.field.count
        return min(total, 1.0), size

    def _lane(self, space: FieldNamespace, size: Bound) -> float:
        """That one lane takes something for 0 that is not.

        Roots of constants and odd roots are algebraic: their conjugates multiply degree and norm.
        """
        pool = self.settings.pool
        conjugates = float(space.extension) * space.branching
        # Fourth powers take (p - 1) / 2 values; points with a zero denominator are drawn again.
        points = (pool.low - 1) / 2 - space.zeros_met * conjugates
        # A required root halves the pool, up to the fluctuations of primes in progressions.
        count = pool.count * 0.45 ** len(self.required)
        if points <= 0:
            return 1.0
        hit = conjugates * size.degree / points
        content = conjugates * size.norm / (pool.bits * count)
        return min(hit + content, 1.0)


def _unseen(lanes: int, hidden: int) -> float:
    """That one combination of signs of hidden roots comes in fewer than the least number of lanes.

    Each combination is a region of real points; a claim may be wrong in one of them alone.
    """
    if not hidden:
        return 0.0
    share = 0.5**hidden
    return math.fsum(
        math.comb(lanes, k) * share**k * (1 - share) ** (lanes - k) for k in range(LEAST_LANES)
    )


def jacobian(result: FieldArray, wrt: FieldArray) -> Any:
    """The tangents as an array by lane, output and input."""
    lanes = result.data.shape[0]
    if not result.moves:
        return np.zeros((lanes, *result.shape, *wrt.shape), dtype=np.int64)
    return np.moveaxis(result.data[:, 1:], 1, -1).reshape(lanes, *result.shape, *wrt.shape)


def _finite(x: Any) -> bool:
    return not isinstance(x, FieldArray) or x.shadow is None or shadow.finite(x.shadow)


def _point_words(drawn: Draw) -> str:
    """The real point, such as "z = [[1/2, -3/4]]", as far as a person would read it."""
    shown = []
    for name, point in drawn.points.items():
        whole = np.asarray(point, dtype=object)
        small = whole.size <= _READABLE
        shown.append(f"{name} = {_nested(whole.tolist())}" if small else f"{name} = …")
    return ", ".join(shown)


def _nested(x: Any) -> str:
    return f"[{', '.join(map(_nested, x))}]" if isinstance(x, list) else str(x)
