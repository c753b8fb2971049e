"""One random evaluation of forward and claim, and the probability that it fooled us."""

from __future__ import annotations

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
from gradcheck.oracles.exact.inputs import arrays, draw
from gradcheck.oracles.exact.memory import Memory
from gradcheck.oracles.exact.namespace import FieldNamespace
from gradcheck.oracles.exact.primes import STANDARD, Field, Pool

if TYPE_CHECKING:
    from gradcheck.operation import Claim, Operation
    from gradcheck.oracles.exact.degrees import Bound
    from gradcheck.oracles.exact.inputs import Case, Draw

_TRIES = 4
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
    denominators: list[Any]
    finite: bool | None
    rounded: dict[float, Any]
    point: str
    drawn: Draw
    memory: Memory


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
        self, case: Case, *, shadowed: bool = False, cell: bool = False, times: int = 1
    ) -> Outcome:
        """At random primes and inputs: with generic selectors, or with those of a real point.

        Args:
            case: The sizes.
            shadowed: Whether to follow a real point.
            cell: Whether to decide branches at that point.
            times: How many times the usual number of lanes to take.

        Raises:
            ResampleError: Where even new lanes and inputs divide by zero.
            StraddleError: Where no real point decides every branch.
        """
        last: Exception | None = None
        zeros = straddles = 0
        while zeros < _TRIES and straddles < _POINTS:
            field = self.lanes(self.settings.lanes * times)
            try:
                return self._once(case, field, shadowed=shadowed or cell, cell=cell)
            except ResampleError as error:
                zeros, last = zeros + 1, error
            except StraddleError as error:
                straddles, last = straddles + 1, error
            except NeedsSquareError as error:
                self.required.add(error.number)
        assert last is not None
        raise last

    def _once(self, case: Case, field: Field, *, shadowed: bool, cell: bool) -> Outcome:
        self.draws += 1
        drawn = draw(self.operation, case, field, self.rng, self.settings.seed + self.draws)
        return self.run(case, drawn, Memory(field, self.rng), shadowed=shadowed, cell=cell)

    def with_other_selectors(self, case: Case, outcome: Outcome) -> Outcome:
        """The same evaluation, except that generic selectors are drawn anew."""
        return self.run(
            case, outcome.drawn, outcome.memory.without(SELECTORS), shadowed=False, cell=False
        )

    def run(
        self, case: Case, drawn: Draw, memory: Memory, *, shadowed: bool, cell: bool
    ) -> Outcome:
        """Forward, derivative and claim on given inputs."""
        with ctx.workprec(shadow.PRECISION):
            return self._run(case, drawn, memory, shadowed=shadowed, cell=cell)

    def _run(
        self, case: Case, drawn: Draw, memory: Memory, *, shadowed: bool, cell: bool
    ) -> Outcome:
        operation, claim = self.operation, self.claim
        space = FieldNamespace(memory.field, memory, self.rng, shadowed=shadowed, cell=cell)
        values, wrt = arrays(operation, drawn, space, claim.input)
        operands = operation.environment(space, values)
        result = space.asarray(operands[claim.output])
        sizes = operation.sizes_of({**values, **case.params})
        expression = operation.derivative(claim.output, claim.input, rank_in(sizes))
        claimant = Claimant(space, operands, {**case.sizes, **sizes}, operation.one_hot)
        claimed = claimant.evaluate(expression)
        true = jacobian(result, wrt)
        wrong = np.any((true - claimed.values) % memory.field.column(true.ndim) != 0, axis=0)
        bound, size = self._bound(space, result, claimed)
        finite = None
        if shadowed:
            finite = claimed.finite and all(_finite(operands[n]) for n in operation.output_names)
        return Outcome(
            wrong=[tuple(map(int, place)) for place in np.argwhere(wrong)],
            entries=wrong.size,
            bound=bound,
            degree=size.degree,
            norm=size.norm,
            selected=space.selected > 0,
            denominators=claimed.denominators,
            finite=finite,
            rounded=space.rounded,
            point=_point_words(drawn) if cell else "",
            drawn=drawn,
            memory=memory,
        )

    def _bound(
        self, space: FieldNamespace, result: FieldArray, claimed: Claimed
    ) -> tuple[float, Bound]:
        """Theorem A: on the probability of accepting a wrong entry, and the size of its numerator."""
        size = claimed.bound if result.slope is None else result.slope.plus(claimed.bound)
        one = self._lane(space, size)
        total = one**space.field.count
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
