"""At an exact tie any choice is right for an entry, but the entries of a row belong to one choice.

Of two equal largest entries either may have the gradient, or each a part of it: entry by entry all from 0 to
1 is a derivative. A rule that gives it to both, or to none, is wrong all the same: where all entries rise
together, the maximum rises with them, whatever is chosen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.layers.along import carried
from gradcheck.layers.claimed import names_of
from gradcheck.layers.faults import Fault
from gradcheck.layers.large import label
from gradcheck.reports.numbers import pair
from gradcheck.running import format_of

if TYPE_CHECKING:
    from gradcheck.layers.bench import Bench, Point

    Floats = np.ndarray[Any, np.dtype[Any]]


def ties(bench: Bench, point: Point) -> list[Fault]:
    """What no choice at a tie explains, for each input whose entries are admissible one by one."""
    names = names_of(bench.rule.outputs, len(point.outputs))
    found = []
    for name in point.claimed.jacobians:
        if any(truth is not None and truth.ties for truth in point.truths[name]):
            found += [
                Fault("ties", name, text)
                for k, output in enumerate(names)
                if (text := _together(bench, point, name, k, output))
            ]
    return found


def _together(bench: Bench, point: Point, name: str, k: int, output: str) -> str:
    """What is wrong with one output's derivative along the direction of ones; "" where nothing is."""
    truth, claim, bound = (
        point.truths[name][k],
        point.claimed.jacobians[name][k],
        point.bounds[name][k],
    )
    if truth is None or bench.reference.forward is None or not claim.size:
        return ""
    with np.errstate(all="ignore"):
        inside = (claim >= truth.lower - 2 * bound) & (claim <= truth.upper + 2 * bound)
    if not inside.all():  # its values tell more
        return ""
    ones = np.ones(point.example.inputs[name].shape)
    moved = carried(bench.reference, point.example, name, ones, bench.dtype, every=True)
    if moved is None:
        return ""
    axes = tuple(range(claim.ndim - ones.ndim, claim.ndim))
    rounding = bound + format_of(bench.dtype).unit * ones.size * np.abs(claim)
    (value, error), total = moved.outputs[k], claim.sum(axis=axes)
    with np.errstate(all="ignore"):
        slack = error + rounding.sum(axis=axes)
        off = np.abs(total - value) > slack
    if not off.any():
        return ""
    place = tuple(int(i) for i in np.argwhere(off)[0])
    came, right = pair(float(total[place]), float(value[place]), 6)
    return (
        f"at a tie the entries of the gradient of {label(output, place)} by {name} add up to {came}, and to "
        f"{right} whatever is chosen there: equal entries share one gradient, or one of them has it all"
    )
