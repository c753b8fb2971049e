"""A refutation as a person can redo it: values, the worst entry, the pattern, and a snippet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.checking.compare import at_largest
from gradcheck.checking.patterns import Group, groups, pattern_at
from gradcheck.reports.model import NOTHING, Counterexample

if TYPE_CHECKING:
    from gradcheck.algebra.terms import Expression
    from gradcheck.checking.compare import Comparison
    from gradcheck.checking.plan import Planned
    from gradcheck.checking.problem import Evaluated, Problem
    from gradcheck.oracles import Answer


def counterexample(
    planned: Planned,
    problem: Problem,
    evaluated: Evaluated,
    answer: Answer,
    comparison: Comparison,
    others: list[tuple[Any, ...]],
) -> Counterexample:
    """The worst entry of a refuted claim, in its surroundings."""
    example = evaluated.example
    expression = problem.expression(example)
    oracle = np.asarray(answer.jacobian, np.float64).reshape(evaluated.claim.shape)
    rated = np.where(comparison.wrong, comparison.ratio, -1.0)
    place = at_largest(rated)
    observed = [*others, (comparison.wrong, comparison.ratio, evaluated.claim, oracle)]
    found = groups(expression, observed)
    return Counterexample(
        sizes=dict(example.sizes),
        inputs={n: v.tolist() for n, v in example.inputs.items()},
        params=dict(example.params),
        entry=entry_text(expression, place),
        claim_value=float(evaluated.claim[place]),
        oracle_value=float(oracle[place]),
        bound=float(comparison.tolerance[place]),
        pattern=pattern_at(expression, place),
        patterns=[as_dict(g, expression) for g in found],
        snippet=snippet(planned, problem, example),
        dtype=problem.dtype,
        location=_location(problem, expression),
        **heat(expression, evaluated.claim, oracle),
    )


# A picture of more entries would show nothing, and a report holds one for each refutation.
MOST_ENTRIES = 4096


def heat(expression: Expression, claim: np.ndarray, oracle: np.ndarray | None) -> dict[str, Any]:
    """|claim − oracle| entry by entry with its letters, as a counterexample keeps it."""
    split = expression.title[0][1] if expression.title else 0
    letters = [list(expression.output[:split]), list(expression.output[split:])]
    if oracle is None or not 0 < claim.size <= MOST_ENTRIES:
        return {"letters": letters, "gaps": None}
    with np.errstate(all="ignore"):
        gaps = np.abs(np.asarray(claim, np.float64) - np.asarray(oracle, np.float64))
    return {"letters": letters, "gaps": gaps.tolist()}


def entry_text(expression: Expression, place: tuple[int, ...]) -> str:
    """`∂a[0,1]/∂z[0,0]`: an entry by its indices, counted from 0."""
    start, parts = 0, []
    for name, count in expression.title:
        index = ",".join(str(i) for i in place[start : start + count])
        parts.append(f"∂{name}[{index}]" if count else f"∂{name}")
        start += count
    return "/".join(parts)


def as_dict(group: Group, expression: Expression) -> dict[str, Any]:
    """A pattern with its entry, as reports keep it."""
    return {
        "pattern": group.text,
        "wrong": group.wrong,
        "entry": entry_text(expression, group.place),
        "claim": group.claim,
        "oracle": group.oracle,
        "entries": group.entries,
    }


def _location(problem: Problem, expression: Expression) -> str | None:
    lines = [t.location for t in expression.terms if t.location is not None]
    own = problem.operation.location
    if problem.claim.form == "chain" or not lines:
        return str(own) if own and not own.file.startswith("<") else None
    return str(lines[0])


def snippet(planned: Planned, problem: Problem, example: Any) -> str:
    """Python that runs the same comparison again."""
    assert planned.oracle is not None
    values = {n: literal(v) for n, v in example.inputs.items()}
    values.update({n: repr(v) for n, v in example.params.items()})
    data = ", ".join(f'"{n}": {text}' for n, text in values.items())
    target, defined = f'"{planned.address}"', ""
    if not planned.address:
        name = problem.operation.name
        target = name if name.isidentifier() else "target"
        defined = f"{target} = ...  # {name} lives in memory only: put it here\n"
    needs = "import numpy as np\n" if "np." in data else ""
    return (
        f"{needs}from gradcheck import verify\n\n"
        f"{defined}data = {{{data}}}\n"
        f'print(verify({target}, wrt="{planned.label}", oracles=["{planned.oracle.name}"], '
        f'{on_device(planned.device)}dtypes=["{problem.dtype}"], data=data))'
    )


def on_device(device: str) -> str:
    """How a snippet asks for the device; the host goes without saying."""
    return "" if device in ("cpu", NOTHING, "") else f'devices=["{device}"], '


def literal(array: np.ndarray) -> str:
    """An array as Python writes it, to the last bit."""
    if array.size and array.size <= 64:
        return f"np.array({array.tolist()!r})"
    if not array.size:
        return f"np.zeros({array.shape!r})"
    with np.printoptions(threshold=10**6, linewidth=10**6, floatmode="unique"):
        return f"np.{array!r}".replace("dtype=", "dtype=np.")
