"""How far rounding takes what no bound was derived of: measured where something is off, and not before.

A framework's own forward (`of={"torch": fn}`) rounds in its own way, and at a single point its error may be
small by accident. A rule may cancel where no derivative of the forward does: σ(z) = (1 + tanh(z/2))/2 has
lost its digits at z = -10. Both errors are proportional to the unit roundoff, and `oracles.rounding` measures
them around the point and from there to 0. What is wrong in all formats alike differs between none, so that
it excuses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.checking.compare import WEAK, at_largest
from gradcheck.errors import GradcheckError
from gradcheck.layers import precision
from gradcheck.layers.claimed import by_columns, by_rows
from gradcheck.layers.large import label
from gradcheck.oracles.rounding import measured_rounding
from gradcheck.reports.numbers import pair
from gradcheck.running import format_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck.layers.bench import Bench, Point

    Floats = np.ndarray[Any, np.dtype[Any]]


def widen(bench: Bench, point: Point, *, slight: bool) -> bool:
    """Add to the bounds of a point what is measured next; whether that was anything.

    Args:
        bench: The rule and its reference.
        point: With its bounds.
        slight: Whether what is off is so small that the rule's own rounding may be all of it.
    """
    for what, wanted, measure in (
        ("forward", True, _of_the_forward),
        ("rule", slight and bench.dtype == "float64", _of_the_rule),
    ):
        if not wanted or what in point.measured:
            continue
        point.measured.add(what)
        measured = measure(bench, point)
        for name, found in measured.items():
            point.bounds[name] = [
                b + more for b, more in zip(point.bounds[name], found, strict=True)
            ]
        if any(np.any(more > 0) for found in measured.values() for more in found):
            return True
    return False


def slight(gap: Floats, size: Floats) -> bool:
    """Whether a gap is a small part of the largest entry: more would say too little if it were excused."""
    with np.errstate(all="ignore"):
        return bool(np.max(gap, initial=0.0) <= WEAK * np.max(np.abs(size), initial=0.0))


def _of_the_forward(bench: Bench, point: Point) -> dict[str, list[Any]]:
    """For each input and output, of a derivative by the framework that alone can run the forward."""
    oracle = precision.own_oracle(bench.reference)
    names = list(bench.rule.inputs)
    found: dict[str, list[Any]] = {}
    for name, truths in point.truths.items():
        found[name] = [0.0] * len(truths)
        for output, truth in enumerate(truths):
            if truth is not None or oracle is None:
                continue

            def values(arrays: Sequence[Any], dtype: str, k: int = output, n: str = name) -> Any:
                there = replace(point.example, inputs=dict(zip(names, arrays, strict=True)))
                return [bench.ask(oracle, there, n, k, dtype).jacobian]

            arrays = [point.example.inputs[n] for n in names]
            measured = measured_rounding(values, arrays, bench.dtype)
            if measured is not None:
                shape = point.bounds[name][output].shape
                found[name][output] = np.broadcast_to(
                    np.reshape(measured[0], shape) if np.ndim(measured[0]) else measured[0], shape
                )
    return found


def _of_the_rule(bench: Bench, point: Point) -> dict[str, list[Any]]:
    """For each input and output, of the Jacobian that the rule claims."""
    claimed = point.claimed.jacobians
    names, shapes = list(bench.rule.inputs), [o.shape for o in point.outputs]
    build = by_rows if bench.rule.vjp is not None else by_columns

    def values(arrays: Sequence[Any], dtype: str) -> list[Any]:
        there = replace(point.example, inputs=dict(zip(names, arrays, strict=True)))
        with bench.in_dtype(dtype) as own, np.errstate(all="ignore"):
            found = build(own.caller, there, shapes)
        if found.faults:
            raise GradcheckError(found.faults[0].text)
        return [j for name in claimed for j in found.jacobians[name]]

    arrays = [point.example.inputs[n] for n in names]
    measured = iter(measured_rounding(values, arrays, bench.dtype) or ())
    return {n: [next(measured, 0.0) for _ in jacobians] for n, jacobians in claimed.items()}


@dataclass
class Lost:
    """The most digits that something was seen to lose, and how a report says it.

    Attributes:
        what: What rounds where what else does not, in words.
        same: What it is otherwise.
        text: For the report; empty where nothing was lost.
    """

    what: str
    same: str
    text: str = ""
    most: float = 0.0

    def add(
        self, name: str, found: Floats, exact: Floats, dtype: str, *, indexed: bool = True
    ) -> None:
        """One more array beside the exact one.

        Args:
            name: What the array is called.
            found: With digits lost.
            exact: What it should be.
            dtype: The dtype that it was computed in.
            indexed: Whether an entry is called by its indices; else the name is that of any entry.
        """
        fmt = format_of(dtype)
        with np.errstate(all="ignore"):
            lost = np.abs(found - exact) / np.maximum(2 * fmt.unit * np.abs(exact), fmt.flush)
        lost = np.where(np.isfinite(lost), lost, 0.0)
        place = at_largest(lost)
        if lost[place] > self.most:
            self.most = float(lost[place])
            shown, right = pair(float(found[place]), float(exact[place]), 6)
            at = label(name, place if indexed else ())
            self.text = (
                f"{self.what}: in {dtype} {at} is up to {self.most:.2g} ulp off ({shown} for {right}); it "
                f"is {self.same} otherwise"
            )
