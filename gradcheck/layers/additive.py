"""Whether a jvp adds up what the tangents of several inputs give: asked one at a time, that does not show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.checking.compare import at_largest
from gradcheck.layers.faults import Fault
from gradcheck.layers.large import fresh, label
from gradcheck.layers.probes import signs_of
from gradcheck.layers.pushing import Compared, Pushing
from gradcheck.reports.numbers import pair
from gradcheck.running import format_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck.layers.bench import Bench, Point
    from gradcheck.oracles import Oracle

    Floats = np.ndarray[Any, np.dtype[Any]]


def not_additive(
    bench: Bench, point: Point, oracle: Oracle, rng: np.random.Generator
) -> Fault | None:
    """A fault where the tangents of all inputs together give something else than one by one.

    Args:
        bench: The rule and its reference.
        point: The example, with the values of its outputs.
        oracle: Whose forward mode gives the bounds where nothing can be carried.
        rng: For the tangents.
    """
    names = [n for n in bench.rule.differentiable if point.example.inputs[n].size]
    if len(names) < 2:
        return None
    asked = [(pusher := Pushing(bench, point, n, oracle), _alone(pusher, rng)) for n in names]
    first, parts = asked[0][0], dict(zip(names, (part for _, part in asked), strict=True))
    given = [
        fresh(bench.caller, parts[n].direction)
        if n in parts
        else bench.caller.array(point.example.inputs[n])
        for n in bench.rule.differentiable
    ]
    return _compared(first, first.pushed(given), list(parts.values()))


def _alone(pusher: Pushing, rng: np.random.Generator) -> Compared:
    """One input that moves."""
    direction = signs_of(rng, pusher.shape)
    exact = pusher.truth(direction)
    pusher.measure(direction, exact)
    return pusher.bounded(Compared(direction, pusher.plain(direction), exact))


def _compared(pusher: Pushing, whole: list[Floats], parts: Sequence[Compared]) -> Fault | None:
    unit = format_of(pusher.bench.dtype).unit
    for k in pusher.live:
        with np.errstate(all="ignore"):
            total = np.asarray(sum(part.claim[k] for part in parts))
            size = sum(np.abs(part.claim[k]) for part in parts)
            bound = sum(part.bounds[k] for part in parts) + len(parts) * unit * size
            gap = np.asarray(np.abs(whole[k] - total))
            # What leaves the range is for the values to refute.
            gap = np.where(np.isfinite(gap) & (gap > bound), gap, 0.0)
        if gap.any():
            index = at_largest(gap)
            came, wanted = pair(float(whole[k][index]), float(total[index]), 6)
            return Fault(
                "linearity", "",
                f"the rule is not linear in the tangents: for those of all inputs together "
                f"{label(pusher.names[k], index)} is {came}, and what each gives alone adds up to {wanted}",
            )  # fmt: skip
    return None
