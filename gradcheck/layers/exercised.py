"""What the examples of a rule exercised, and what applies to it and never was."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gradcheck.algebra.shapes import DOTS, axes_of, concrete_shape, is_anonymous
from gradcheck.checking import search
from gradcheck.checking.pool import BEYOND, BLOCK, Sizes
from gradcheck.drawing import PLAIN, Features, generate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck.checking.search import Example, Search
    from gradcheck.layers.bench import Point
    from gradcheck.layers.rule import Rule

_FLOATS = ("real", "positive", "probability")


def exercised(examples: Sequence[Example], points: Sequence[Point], dtype: str) -> dict[str, int]:
    """How many examples had what: `{"zeros": 12, "m = 1": 9, "float32": 30, ...}`."""
    counts = Counter(search.describe([p.example for p in points] or list(examples)))
    for point in points:
        counts.update(point.exercised.keys())
    counts[dtype] += len(points)
    return dict(counts)


def never(rule: Rule, counts: dict[str, int]) -> list[str]:
    """What applies to these inputs and no example had."""
    return [name for name in _applicable(rule) if not counts.get(name)]


def topped_up(
    strategy: Search, rule: Rule, examples: Sequence[Example], seed: int
) -> list[Example]:
    """Examples of the difficulties that the search happened not to draw twice."""
    counts = search.describe(examples)
    found: list[Example] = []
    for name in _applicable(rule):
        features = _features(name)
        if features is None or counts.get(name, 0) >= _TWICE:
            continue
        members = [m for m in strategy.pool.members if not m.empty]
        largest = max(members, key=lambda m: min((n for _, n in m.items), default=0))
        drawn = generate(replace(strategy, features=(features,)).at(largest), 3, seed)
        found += drawn[1:] or drawn
    return found


# One more than the largest number of float16: a count that overflows it.
_LONG = 70_001


def long_reduction(strategy: Search, rule: Rule, dtype: str, seed: int) -> list[Example]:
    """In half precision, one example whose last axis is longer than the dtype can count."""
    shape = rule.inputs[rule.differentiable[0]].shape
    member = next((m for m in strategy.pool.members if not m.empty), None)
    if dtype != "float16" or not shape or member is None or shape[-1] not in member.as_dict():
        return []
    table = {axis: _LONG if axis == shape[-1] else 1 for axis in member.as_dict()}
    if not all(c.holds(table) for c in strategy.conditions if c.names <= table.keys()):
        return []
    if any(math.prod(concrete_shape(d.shape, table)) > 2 * _LONG for d in rule.inputs.values()):
        return []
    sizes = Sizes(member.rank, tuple(table.items()))
    return generate(replace(strategy, features=(PLAIN,)).at(sizes), 2, seed)[1:]


# Once may be the example that is skipped.
_TWICE = 2


def _features(name: str) -> Features | None:
    """The features that switch a difficulty on; None where sizes do."""
    if name.startswith("magnitude "):
        return Features(magnitude=name.removeprefix("magnitude "))
    if name in ("zeros", "ties", "rows", "repeats", "masks", "ends"):
        flags: dict[str, Any] = {name: True}
        return replace(PLAIN, **flags)
    return None


def _applicable(rule: Rule) -> list[str]:
    kinds = {domain.kind for domain in rule.inputs.values()}
    axes = {
        axis
        for domain in rule.inputs.values()
        for axis in axes_of(domain.shape)
        if not is_anonymous(axis) and not axis.isdigit()
    }
    found = []
    if "real" in kinds:
        found.append("zeros")
    if kinds & set(_FLOATS):
        found += ["ties", "rows", *(f"magnitude {m}" for m in ("tiny", "mixed", "1000", "edge"))]
    if kinds & {"labels", "integers"}:
        found.append("repeats")
    if "mask" in kinds:
        found.append("masks")
    if any(p.kind != "choice" for p in rule.params.values()):
        found.append("ends")
    found += [f"{axis} = 1" for axis in sorted(axes)]
    if axes:
        found += ["size 0", f"beyond {BEYOND - 1}", f"beyond {BLOCK - 1}"]
    if any(DOTS in domain.shape for domain in rule.inputs.values()):
        found += ["rank 1", "rank 2"]
    return found
