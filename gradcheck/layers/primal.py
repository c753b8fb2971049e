"""A layer's own forward beside the reference: the same function, but for its rounding."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.layers import precision
from gradcheck.layers.claimed import names_of
from gradcheck.layers.faults import Fault
from gradcheck.layers.large import label
from gradcheck.layers.widening import Lost
from gradcheck.oracles.rounding import measured_rounding
from gradcheck.reports.numbers import pair

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck.checking.search import Example
    from gradcheck.layers.bench import Bench

    Floats = np.ndarray[Any, np.dtype[np.float64]]


class Primal:
    """What a layer computes, compared before its gradient is."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self._lost = Lost("the layer's own forward rounds where `of` does not", "the same function")

    @property
    def loses(self) -> str:
        """Where the layer's formula loses digits that the reference keeps, in words; empty if nowhere."""
        return self._lost.text

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
            beyond = ~(gap <= 2 * error + self._rounding(example, output))
            if not beyond.any() and self.bench.reference.forward is not None:
                self._lost.add(name, theirs, exact, dtype)
            off = beyond
        if not off.any():
            return ""
        place = tuple(int(i) for i in np.argwhere(off)[0])
        shown, right = pair(float(theirs[place]), float(exact[place]), 6)
        return (
            f"the layer computes another function than `of`: {label(name, place)} is {shown}, and {right} "
            "according to `of`"
        )

    def _rounding(self, example: Example, output: int) -> Any:
        """How far rounding alone takes an output of the layer, and of a forward that is a framework's own."""
        names, reference = list(self.bench.rule.inputs), self.bench.reference

        def there(arrays: Sequence[Any]) -> Example:
            return replace(example, inputs=dict(zip(names, arrays, strict=True)))

        def values(arrays: Sequence[Any], dtype: str) -> list[Floats]:
            with self.bench.in_dtype(dtype) as bench:
                return bench.caller.forward(bench.caller.arrays(there(arrays)), example.params)

        def theirs(arrays: Sequence[Any], dtype: str) -> list[Floats]:
            return reference.values(there(arrays), dtype)

        asked = [values, theirs] if reference.forward is None else [values]
        arrays = [example.inputs[n] for n in names]
        found = [measured_rounding(v, arrays, self.bench.dtype) for v in asked]
        return sum(f[output] for f in found if f is not None)
