"""A layer's own forward beside the reference: the same function, but for its rounding."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.layers import precision
from gradcheck.layers.claimed import names_of
from gradcheck.layers.faults import Fault
from gradcheck.layers.large import label
from gradcheck.oracles.rounding import measured_rounding
from gradcheck.running import format_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck.checking.search import Example
    from gradcheck.layers.bench import Bench

    Floats = np.ndarray[Any, np.dtype[np.float64]]


class Primal:
    """What a layer computes, compared before its gradient is.

    Attributes:
        loses: Where its formula loses digits that the reference keeps, in words; empty if nowhere.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.loses = ""
        self._most = 0.0

    def faults(self, example: Example, outputs: Sequence[Floats]) -> list[Fault]:
        """What the layer's own forward computes that the reference does not, given its outputs."""
        caller = self.bench.caller
        values = caller.forward(caller.arrays(example), example.params)
        if len(values) != len(outputs):
            text = f"the layer gives {len(values)} outputs, `of` gives {len(outputs)}"
            return [Fault("forward", "", text)]
        names = names_of(self.bench.rule.outputs, len(outputs))
        for k, (name, theirs) in enumerate(zip(names, values, strict=True)):
            if text := self._differs(example, k, name, theirs):
                return [Fault("forward", "", text)]
        return []

    def _differs(self, example: Example, output: int, name: str, theirs: Floats) -> str:
        dtype = self.bench.dtype
        exact, error = precision.output_bound(self.bench.reference, example, output, dtype)
        if theirs.shape != exact.shape:
            return f"the layer gives {name} the shape {theirs.shape}, `of` gives {exact.shape}"
        with np.errstate(all="ignore"):
            gap = np.where(theirs == exact, 0.0, np.abs(theirs - exact))
        off = ~(gap <= 2 * error)
        if off.any() and np.isfinite(theirs).all():
            beyond = ~(gap <= 2 * error + self._own_rounding(example, output))
            if not beyond.any():
                self._note(name, theirs, exact)
            off = beyond
        if not off.any():
            return ""
        place = tuple(int(i) for i in np.argwhere(off)[0])
        return (
            f"the layer computes another function than `of`: {label(name, place)} is {theirs[place]:.6g}, "
            f"and {exact[place]:.6g} according to `of`"
        )

    def _own_rounding(self, example: Example, output: int) -> Any:
        """How far rounding alone takes an output of the layer."""
        names = list(self.bench.rule.inputs)

        def values(arrays: Sequence[Any], dtype: str) -> list[Floats]:
            there = replace(example, inputs=dict(zip(names, arrays, strict=True)))
            with self.bench.in_dtype(dtype) as bench:
                return bench.caller.forward(bench.caller.arrays(there), there.params)

        found = measured_rounding(values, [example.inputs[n] for n in names], self.bench.dtype)
        return 0.0 if found is None else found[output]

    def _note(self, name: str, theirs: Floats, exact: Floats) -> None:
        fmt = format_of(self.bench.dtype)
        with np.errstate(all="ignore"):
            lost = np.abs(theirs - exact) / np.maximum(2 * fmt.unit * np.abs(exact), fmt.flush)
        place = tuple(int(i) for i in np.unravel_index(int(np.argmax(lost)), lost.shape))
        if lost[place] > self._most:
            self._most = float(lost[place])
            self.loses = (
                f"the layer's own forward rounds where `of` does not: in {self.bench.dtype} "
                f"{label(name, place)} is up to {self._most:.2g} ulp off ({theirs[place]:.6g} for "
                f"{exact[place]:.6g}); it is the same function otherwise"
            )
