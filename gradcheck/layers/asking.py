"""A rule and an oracle at one large point, asked for the gradients of the same cotangents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.layers.faults import structure
from gradcheck.layers.large import fresh
from gradcheck.layers.pullback import pullback
from gradcheck.layers.slices import Sliced, Whole, entries_of, slicing, threads_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradcheck.layers.bench import Bench, Point
    from gradcheck.layers.faults import Fault
    from gradcheck.oracles import Oracle

    Floats = np.ndarray[Any, np.dtype[Any]]
    Pull = Callable[[Sequence[Floats]], Floats]
    Oracled = Sliced | Whole


class Malformed(Exception):
    """What a rule returned for signs is no gradient, though it was one for zeros.

    Args:
        fault: What is wrong with it.
    """

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.text)
        self.fault = fault


class Asking:
    """A rule and an oracle at one large point.

    Args:
        bench: The rule and its reference.
        point: The example, with the values of its outputs.
        name: The input.
        oracle: Who is asked.
        seed: For the cotangents.
        called: How many seconds a call of the rule has taken.
    """

    def __init__(
        self, bench: Bench, point: Point, name: str, oracle: Oracle, seed: int, called: float = 0.0
    ) -> None:
        self.bench, self.point, self.name, self.oracle = bench, point, name, oracle
        self.seed, self.called = seed, called
        self.shapes = [o.shape for o in point.outputs]
        self.example = point.example
        self.arrays = bench.caller.arrays(self.example)
        self.exact: Oracled | None = None
        self.extra: Floats | None = None

    def _oracle(
        self, dtype: str, oracle: Oracle | None = None,
        moved: tuple[tuple[int, ...], float] | None = None,
    ) -> Oracled:  # fmt: skip
        """The gradient by an oracle, slice by slice where the forward allows it.

        Args:
            dtype: Of its passes.
            oracle: Who is asked, where it is another one.
            moved: An entry of the input, and by how much it is moved.
        """
        oracle = oracle or self.oracle
        question = self.bench.reference.question(oracle, self.example, self.name, 0, dtype)
        framework, wrt, given = oracle.framework, question.wrt, list(question.arrays)
        if moved is not None:
            given[wrt] = np.array(given[wrt], np.float64)
            given[wrt][moved[0]] += moved[1]
        device = self.bench.device if framework != "autograd" else "cpu"

        def make(arrays: Sequence[Any]) -> Pull:
            return pullback(framework, question.forward, arrays, wrt, dtype, device)

        found = slicing(self.bench, self.point, self.name, entries_of(framework, device))
        if found is None:
            return Whole(make, given)
        return Sliced(make, given, wrt, found, threads_of(framework, device))

    def given(self, cotangents: Sequence[Floats]) -> list[Any]:
        """Cotangents of signs as fresh arrays of the rule's framework."""
        return [fresh(self.bench.caller, c) for c in cotangents]

    def claim(self, cotangents: Sequence[Floats]) -> Floats:
        """The rule's gradient, in its own dtype."""
        return self.pulled(self.given(cotangents))

    def pulled(self, given: Sequence[Any]) -> Floats:
        """The rule's gradient for arrays of its framework."""
        caller, rule = self.bench.caller, self.bench.rule
        raw = caller.pull(given, self.arrays, self.example.params)
        shapes = [self.example.inputs[n].shape for n in rule.differentiable]
        faults = structure(raw, rule.differentiable, shapes, caller, what="gradient")
        fault = next((f for f in faults if f.input in ("", self.name)), None)
        if fault is not None:
            raise Malformed(fault)
        found = caller.backend.to_numpy(raw[rule.differentiable.index(self.name)])
        return np.asarray(found).reshape(self.example.inputs[self.name].shape)

    def truth(self, cotangents: Sequence[Floats], out: Floats | None = None) -> Floats:
        """The oracle's gradient in float64."""
        assert self.exact is not None
        return self.exact(cotangents, out)

    def truth_at(self, cotangents: Sequence[Floats], place: tuple[int, ...]) -> float:
        """One entry of the oracle's gradient in float64."""
        assert self.exact is not None
        return self.exact.at(cotangents, place)

    def gap(self, part: list[Floats], place: tuple[int, ...]) -> float:
        """How far rule and oracle are apart at one entry; infinitely where that is no number."""
        gap = abs(float(self.claim(part)[place]) - self.truth_at(part, place))
        return gap if np.isfinite(gap) else np.inf

    def reading(self, vectors: list[Floats], place: tuple[int, ...]) -> float:
        """What the adapter's way of reading a gradient may be off it: an update's has lost digits."""
        if self.bench.rule.rounding is None:
            return 0.0
        if self.extra is None:
            self.extra = self.bench.reading(self.example)[self.name]
        size = sum(float(np.count_nonzero(v)) for v in vectors)
        return size * float(
            np.broadcast_to(self.extra, self.example.inputs[self.name].shape)[place]
        )
