"""A rule run on exact numbers: the forward on dual numbers over prime fields, the rule on the same.

It needs a rule that can: one written with operators and methods (`v * x`, `.sum(-1)`, `@`), or against
an `xp` of its own. `np.exp(x)` cannot run on exact numbers, and such a rule is left undecided. The
cotangent is an array of indeterminates like the inputs, so equality is one of rational functions in both: it
holds for every cotangent, and says that the rule is linear in it. The rest is as for derivations: four
random primes, a bound on the probability that a wrong rule passes, and for branches the cells of real
points, which the statement names.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.checking.search import Example
from gradcheck.errors import GradcheckError
from gradcheck.oracles.exact.array import FieldArray, NeedsCellError, ResampleError, StraddleError
from gradcheck.oracles.exact.claim import Claimed
from gradcheck.oracles.exact.degrees import Bound
from gradcheck.oracles.exact.evaluation import Evaluator, Mode, Outcome, Settings, jacobian
from gradcheck.oracles.exact.inputs import arrays, cases, is_sampled
from gradcheck.oracles.exact.namespace import FieldNamespace
from gradcheck.oracles.finding import Finding

if TYPE_CHECKING:
    from gradcheck.domains import Domain
    from gradcheck.layers.reference import Reference
    from gradcheck.layers.rule import Rule
    from gradcheck.oracles.exact.inputs import Case, Draw
    from gradcheck.oracles.exact.memory import Memory
    from gradcheck.parameters import Parameter

_ENOUGH = 1e-12
_TIMES = (1, 2, 4)
_CELLS = 4
_DRAWS = 3
_OUTPUT = "output"


class _UndecidedError(Exception):
    """Ends the comparison with a reason."""


@dataclass
class _Program:
    """What the exact machinery needs to know of a forward that is no spec."""

    inputs: dict[str, Domain]
    params: dict[str, Parameter]
    where: tuple[str, ...]
    output_names: tuple[str, ...] = (_OUTPUT,)
    shapes: dict[str, tuple[str, ...]] = field(init=False)

    def __post_init__(self) -> None:
        self.shapes = {n: d.shape for n, d in self.inputs.items()}
        self.shapes[_OUTPUT] = max(self.shapes.values(), key=len)


class RuleEvaluator(Evaluator):
    """Evaluates one gradient of a rule, again and again.

    Args:
        rule: Its `program` is run.
        reference: Its forward is.
        name: The input.
        settings: Primes, lanes, seed.
    """

    def __init__(self, rule: Rule, reference: Reference, name: str, settings: Settings) -> None:
        where = tuple(dict.fromkeys([*rule.where, *reference.where]))
        program: Any = _Program(dict(reference.inputs), dict(reference.params), where)
        claim: Any = None  # what a derivation claims; here the rule is asked
        super().__init__(program, claim, settings)
        self.rule, self.reference, self.name = rule, reference, name

    def _run(
        self,
        case: Case,  # noqa: ARG002 - as overridden
        drawn: Draw,
        memory: Memory,
        mode: Mode,
    ) -> Outcome:
        space = FieldNamespace(
            memory.field, memory, self.rng,
            shadowed=mode.shadowed, cell=mode.cell, related=mode.related,
        )  # fmt: skip
        values, wrt = arrays(self.operation, drawn, space, self.name)
        params = {n: values[n] for n in self.reference.params}
        given = [values[n] for n in self.reference.inputs]
        assert self.reference.forward is not None
        results = [space.asarray(r) for r in self.reference.forward(space, *given, **params)]
        vectors = [self._cotangent(space, r.shape) for r in results]
        found = self._gradient(space, vectors, values, params)
        true, slope = _pulled(space, vectors, results, wrt)
        finite = None
        if mode.shadowed:
            finite = all(_finite(x) for x in (*results, found))
        point = _words(drawn) if mode.cell else ""
        carrier = FieldArray(space, found.data[:, :1], Bound(), slope=slope)
        claimed = Claimed(found.values, found.bound, [], finite is not False)
        return self._compared(space, true, carrier, claimed, finite, point, drawn)

    def _cotangent(self, space: FieldNamespace, shape: tuple[int, ...]) -> FieldArray:
        from gradcheck.oracles.exact.inputs import dyadic

        point = dyadic(self.rng.integers(1, 128, shape)) / 32 - 2
        return space.variable(space.field.random(self.rng, shape, fourth=False), point=point)

    def _gradient(
        self, space: FieldNamespace, vectors: list[FieldArray], values: dict[str, Any],
        params: dict[str, Any],
    ) -> FieldArray:  # fmt: skip
        """What the rule gives for the input, on arrays without tangents."""
        rule = self.rule
        assert rule.program is not None
        still = {n: _still(values[n]) for n in rule.inputs}
        raw = rule.program(space, tuple(vectors), still, {n: _still(p) for n, p in params.items()})
        if len(raw) != len(rule.differentiable):
            raise _UndecidedError(f"the rule returns {len(raw)} gradients on exact numbers")
        found: FieldArray = space.asarray(raw[rule.differentiable.index(self.name)])
        if found.shape != values[self.name].shape:
            raise _UndecidedError(
                f"the gradient of {self.name} has shape {found.shape} on exact numbers, where "
                f"{self.name} has {values[self.name].shape}"
            )
        return found


def _pulled(
    space: FieldNamespace, vectors: list[FieldArray], results: list[FieldArray], wrt: FieldArray
) -> tuple[Any, Bound]:
    """vᵀJ in every lane, and a bound on its size."""
    lanes = space.field.count
    total, size = np.zeros((lanes, *wrt.shape), np.int64), Bound()
    for vector, result in zip(vectors, results, strict=True):
        rows = jacobian(result, wrt).reshape(lanes, result.size, wrt.size)
        flat = vector.values.reshape(lanes, result.size)
        part = space.field.contract("Ya,Yab->Yb", flat, rows).reshape(total.shape)
        total = space.field.reduce(total + part)
        if result.slope is not None:
            size = size.plus(result.slope.times(vector.bound).summed(result.size))
    return total, size


def _still(x: Any) -> Any:
    return x.still() if isinstance(x, FieldArray) else x


def _finite(x: Any) -> bool:
    from gradcheck.oracles.exact import shadow

    return not isinstance(x, FieldArray) or x.shadow is None or shadow.finite(x.shadow)


def _words(drawn: Draw) -> str:
    from gradcheck.oracles.exact.evaluation import _point_words

    return _point_words(drawn)


# ---------------------------------------------------------------------- the verdict


@dataclass
class _Record:
    """What has been established so far."""

    tried: list[Case] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    cells: list[str] = field(default_factory=list)
    suspect: tuple[Case, Outcome] | None = None


def exactly(
    rule: Rule, reference: Reference, name: str, seed: int = 0
) -> tuple[Finding, Draw | None]:
    """Whether a rule's gradient equals that of the forward, in exact arithmetic at small shapes.

    Args:
        rule: With a `program`.
        reference: The forward.
        name: The input.
        seed: Of primes and residues.

    Returns:
        A finding, "identity", "suspect" or "undecided", and for a suspect the real point behind it.
    """
    if rule.program is None or reference.forward is None:
        return Finding("undecided", reason=_cannot(rule, reference)), None
    evaluator, record = RuleEvaluator(rule, reference, name, Settings(seed=seed)), _Record()
    try:
        for case in cases(evaluator.operation):
            _at(evaluator, case, record)
            if record.suspect is not None:
                return _suspect(name, *record.suspect)
    except _UndecidedError as error:
        return Finding("undecided", reason=str(error)), None
    if not record.outcomes:
        return Finding("undecided", reason="it is defined at none of the sizes tried"), None
    return _identity(name, record), None


def _cannot(rule: Rule, reference: Reference) -> str:
    if reference.forward is None:
        return f"exact numbers need a forward(xp, ...); `of` has one for {', '.join(reference.own)} only"
    return f"a {rule.kind} of {rule.framework} arrays cannot run on exact numbers"


def _at(evaluator: RuleEvaluator, case: Case, record: _Record) -> None:
    """One case; an edge at which forward or rule is not defined is left out."""
    sampled = any(map(is_sampled, evaluator.operation.inputs.values()))
    try:
        for _ in range(_DRAWS if sampled and not case.edge else 1):
            _check(evaluator, case, record)
        record.tried.append(case)
    except (ResampleError, StraddleError) as error:
        if not case.edge:
            raise _UndecidedError(f"no point was found to compare at ({case.words()})") from error
    except _UndecidedError:
        raise
    except (GradcheckError, NotImplementedError) as error:
        raise _UndecidedError(str(error)) from error
    except Exception as error:
        if not case.edge:
            raise _UndecidedError(_trouble(error)) from error


def _trouble(error: Exception) -> str:
    from gradcheck.oracles.exact.verdict import _user_line

    text, where = str(error), _user_line(error)
    if "__array_ufunc__" in text or "ufunc" in text:
        return (
            f"{where}a NumPy function such as np.exp cannot run on exact numbers; write "
            "vjp(xp, cotangent, ...) with xp.exp"
        )
    return f"{where}{type(error).__name__} on exact numbers: {text}"


def _check(evaluator: RuleEvaluator, case: Case, record: _Record) -> None:
    try:
        outcome = _strong(evaluator, case, cell=False)
    except NeedsCellError:
        outcome = None
    if outcome is None or outcome.selected:
        _in_cells(evaluator, case, record)
    elif outcome.wrong:
        record.suspect = case, outcome
    elif not record.outcomes and not outcome.finite:
        raise _UndecidedError(f"vacuous: no real point was found to be defined ({case.words()})")
    else:
        record.outcomes.append(outcome)


def _in_cells(evaluator: RuleEvaluator, case: Case, record: _Record) -> None:
    """Where something branches: in the cells of some real points."""
    for _ in range(_CELLS):
        outcome = _strong(evaluator, case, cell=True)
        if outcome.wrong:
            record.suspect = case, outcome
            return
        if outcome.finite:
            record.outcomes.append(outcome)
            record.cells.append(outcome.point)


def _strong(evaluator: RuleEvaluator, case: Case, *, cell: bool) -> Outcome:
    """An evaluation in as many lanes as its bound needs."""
    for times in _TIMES:
        outcome = evaluator.evaluate(case, shadowed=True, cell=cell, times=times)
        if outcome.wrong or outcome.bound < _ENOUGH:
            return outcome
    raise _UndecidedError(
        f"the bound on a false accept is {outcome.bound:.1e} at {case.words()}: too large for these primes"
    )


def point_of(reference: Reference, drawn: Draw, sizes: dict[str, int]) -> Example:
    """The real point behind an evaluation, in floats."""
    known = {**drawn.samples, **drawn.points}
    inputs = {n: _floats(known[n]) for n in reference.inputs}
    params = {n: _number(known[n]) for n in reference.params}
    return Example(inputs, params, dict(sizes))


def _floats(x: Any) -> Any:
    array = np.asarray(x)
    return array if array.dtype.kind in "iu" else array.astype(np.float64)


def _number(x: Any) -> Any:
    x = x.item() if isinstance(x, np.ndarray) else x
    return float(x) if isinstance(x, Fraction) else x


def _suspect(name: str, case: Case, outcome: Outcome) -> tuple[Finding, Draw]:
    place = ", ".join(map(str, outcome.wrong[0]))
    at = f"{name}[{place}]" if place else name
    rounded = "; the forward or the rule uses a rounded number" if outcome.rounded else ""
    reason = (
        f"in exact arithmetic the gradient differs in {len(outcome.wrong)} of {outcome.entries} entries, "
        f"first at {at} ({case.words()}){rounded}"
    )
    return Finding("suspect", reason=reason, sizes=(case.sizes,)), outcome.drawn


def _identity(name: str, record: _Record) -> Finding:
    bound = min(sum(o.bound for o in record.outcomes), 1.0)
    degree = max(o.degree for o in record.outcomes)
    lines = [
        f"the gradient of {name} is exactly that of the forward at "
        + "; ".join(case.words() for case in record.tried),
        "for every cotangent",
    ]
    if record.cells:
        cells = list(dict.fromkeys(record.cells))
        lines.append(
            f"in {len(cells)} cells only, of {cells[0]}{' and others' if cells[1:] else ''}"
        )
    if sampled := sorted({n for o in record.outcomes for n in o.drawn.sampled}):
        lines.append(f"with samples of {', '.join(sampled)}")
    lines.append(
        f"wherever both are defined; the entries are rational functions of degree ≤ {degree:.0f}, a wrong "
        f"rule would have passed with probability < {bound:.1e}"
    )
    return Finding(
        "identity", ", ".join(lines), bound=bound, sizes=tuple(c.sizes for c in record.tried)
    )
