"""A rule and an oracle at one large point: tangents of the same directions, and their bounds."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.layers import screens
from gradcheck.layers.along import carried
from gradcheck.layers.asking import Malformed
from gradcheck.layers.claimed import names_of
from gradcheck.layers.faults import structure
from gradcheck.layers.large import fresh
from gradcheck.layers.pullback import push
from gradcheck.layers.slices import cut, each, entries_of, slicing, threads_of
from gradcheck.layers.tiles import largest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradcheck.checking.search import Example
    from gradcheck.layers.bench import Bench, Point
    from gradcheck.oracles import Oracle

    Floats = np.ndarray[Any, np.dtype[Any]]
    Place = tuple[int, ...]
    # An output, and the index of one of its entries.
    Row = tuple[int, Place]
    # From an example and a direction, some numbers for every entry of every output: its first axis.
    Pass = Callable[[Example, Floats], list[Floats]]

# What is carried along a direction: J u, and its error.
VALUE, ERROR = range(2)
WIDE = "float64"


class Uncarried(Exception):
    """The forward cannot be carried along a direction."""


@dataclass
class Compared:
    """Rule and oracle for one tangent.

    Attributes:
        direction: The tangent, of signs and zeros.
        claim: J u by the rule, for each output.
        exact: J u by the oracle.
        bounds: What a right rule may be off.
        limits: What is not looked at any closer.
        carried: Whether the bounds are carried through the forward.
        ties: Whether a decision on the way was tied.
    """

    direction: Floats
    claim: list[Floats]
    exact: list[Floats]
    bounds: list[Floats] = field(default_factory=list)
    limits: list[Floats] = field(default_factory=list)
    carried: bool = False
    ties: bool = False

    def gaps(self, k: int) -> Floats:
        """How far an output's tangents are apart; 0 where the truth is no number."""
        with np.errstate(all="ignore"):
            gap = np.asarray(np.abs(self.claim[k] - self.exact[k]))
        gap[np.isnan(gap)] = np.inf
        gap[~np.isfinite(self.exact[k])] = 0
        return gap


class Pushing:
    """A rule and an oracle in forward mode at one large point.

    Args:
        bench: The rule and its reference.
        point: The example, with the values of its outputs.
        name: The input that moves.
        oracle: Who is asked.
    """

    def __init__(self, bench: Bench, point: Point, name: str, oracle: Oracle) -> None:
        self.bench, self.point, self.name, self.oracle = bench, point, name, oracle
        self.example, self.caller = point.example, bench.caller
        self.arrays = self.caller.arrays(self.example)
        self.shape = self.example.inputs[name].shape
        self.shapes = [o.shape for o in point.outputs]
        self.names = names_of(bench.rule.outputs, len(self.shapes))
        self.device = bench.device if oracle.framework != "autograd" else "cpu"
        entries = entries_of(oracle.framework, self.device)
        self.slicing = slicing(bench, point, name, entries)
        # Outputs of integers have no derivative.
        self.live = [k for k, o in enumerate(point.outputs) if o.size and o.dtype.kind == "f"]
        self.own: dict[int, Floats] = {}

    # ------------------------------------------------------------------ the rule

    def given(self, moved: Any) -> list[Any]:
        """A tangent for each differentiable input: the array given for the one that moves."""
        inputs = self.example.inputs
        return [
            moved if n == self.name else self.caller.array(np.zeros(inputs[n].shape))
            for n in self.bench.rule.differentiable
        ]

    def claim(self, moved: Any) -> list[Floats]:
        """The rule's tangents for an array of its framework."""
        return self.pushed(self.given(moved))

    def pushed(self, given: Sequence[Any]) -> list[Floats]:
        """The rule's tangents for arrays of its framework.

        Raises:
            Malformed: Where what it returns is no tangent.
        """
        raw = self.caller.push(given, self.arrays, self.example.params)
        faults = structure(raw, self.names, self.shapes, self.caller, what="tangent")
        if faults:
            raise Malformed(replace(faults[0], input=self.name if faults[0].input else ""))
        pairs = zip(raw, self.shapes, strict=True)
        return [np.array(self.caller.host(r)).reshape(s) for r, s in pairs]

    def plain(self, direction: Floats) -> list[Floats]:
        """The rule's tangents for signs and zeros."""
        return self.claim(fresh(self.caller, direction))

    # ------------------------------------------------------------------ the oracle, and what is carried

    def truth(
        self, direction: Floats, dtype: str = "float64", oracle: Oracle | None = None,
        moved: tuple[Place, float] | None = None,
    ) -> list[Floats]:  # fmt: skip
        """J u of every output.

        Args:
            direction: The tangent.
            dtype: Of the oracle's passes.
            oracle: Who is asked, where it is another one.
            moved: An entry of the input, and by how much it is moved.
        """
        example, name = self.example, self.name
        if moved is not None:
            value = np.array(example.inputs[name], np.float64)
            value[moved[0]] += moved[1]
            example = replace(example, inputs={**example.inputs, name: value})
        found = self._over(example, direction, self._pass(dtype, oracle or self.oracle), 1)
        return [f[0, ...] for f in found]

    def truth_at(self, direction: Floats, which: int, index: Place) -> float:
        """One entry of J u, for which its slice is enough."""
        found = self._at(direction, which, index, self._pass("float64", self.oracle), 1)
        return float(found[0])

    def carried(
        self, direction: Floats, *kept: int, every: bool = False
    ) -> tuple[list[Floats], bool]:
        """What is carried through the forward for each output, and whether anything was tied on the way.

        Args:
            direction: The tangent.
            kept: What of it, VALUE or ERROR or both: the first axis of each array.
            every: Whether a tie leaves every branch open, instead of the one just ahead.

        Raises:
            Uncarried: Where the forward cannot be carried.
        """
        ties: list[int] = []
        run = self._carrying(ties, kept, every=every)
        return self._over(self.example, direction, run, len(kept)), any(ties)

    def error_at(self, direction: Floats, which: int, index: Place) -> float:
        """The error of one entry of J u.

        Raises:
            Uncarried: Where the forward cannot be carried.
        """
        return float(self._at(direction, which, index, self._carrying([], (ERROR,)), 1)[0])

    def _pass(self, dtype: str, oracle: Oracle) -> Pass:
        device = self.device if oracle.framework != "autograd" else "cpu"

        def pushed(example: Example, direction: Floats) -> list[Floats]:
            question = self.bench.reference.question(oracle, example, self.name, 0, dtype)
            found = push(
                oracle.framework, question.forward, question.arrays, question.wrt,
                direction.astype(np.float64), dtype, device,
            )  # fmt: skip
            return [np.asarray(f, np.float64)[None] for f in found]

        return pushed

    def _carrying(self, ties: list[int], kept: tuple[int, ...], *, every: bool = False) -> Pass:
        reference, dtype = self.bench.reference, self.bench.dtype

        def moved(example: Example, direction: Floats) -> list[Floats]:
            found = None
            if reference.forward is not None:
                found = carried(reference, example, self.name, direction, dtype, every=every)
            if found is None:
                raise Uncarried
            ties.append(found.ties)
            return [np.stack([pair[k] for k in kept]) for pair in found.outputs]

        return moved

    # ------------------------------------------------------------------ bounds

    def measure(self, direction: Floats, exact: list[Floats]) -> None:
        """The error of a framework's own forward mode, along the last axis of each output."""
        found, narrower = screens.narrow(
            self.bench, self.oracle, lambda dtype, own: self.truth(direction, dtype, own)
        )
        self.own = {
            k: screens.own_error(found[k], narrower, exact[k], self.bench.dtype) for k in self.live
        }

    def screen(self, k: int, exact: Floats) -> Floats:
        """What is not looked at any closer, for each entry of an output."""
        size = largest(np.where(np.isfinite(exact), exact, 0.0))
        column = screens.screen(self.own[k], size, self.bench.dtype)
        inner = (*exact.shape[:-1], 1) if exact.ndim else ()
        return np.broadcast_to(column.reshape(inner), exact.shape)

    def bounded(self, compared: Compared, whole: Compared | None = None) -> Compared:
        """With the bounds; those of a part of a tangent have the screen of the whole.

        In a format shorter than float64 a product of factors may fall below the range before the last of
        them, which no bound of another order of them holds: there no bound is below the screen. In float64
        what is carried is not doubted.
        """
        with contextlib.suppress(Uncarried):
            found, compared.ties = self.carried(compared.direction, ERROR)
            compared.bounds = [np.multiply(f[0, ...], 2, out=f[0, ...]) for f in found]
            compared.carried = True
        for k, exact in enumerate((whole or compared).exact):
            screen = self.screen(k, exact) if k in self.live else np.zeros(exact.shape)
            if not compared.carried:
                compared.bounds.append(2 * screen)
            elif self.bench.dtype != WIDE:
                compared.bounds[k] = np.maximum(compared.bounds[k], screen)
            compared.limits.append(np.minimum(compared.bounds[k], screen))
        return compared

    def bound_at(self, direction: Floats, row: Row, compared: Compared) -> float:
        """What a right rule may be off one entry of J u for a part of a tangent."""
        which, index = row
        limit = float(self.screen(which, compared.exact[which])[index])
        if not compared.carried:
            return 2 * limit
        error = 2 * self.error_at(direction, *row)
        return error if self.bench.dtype == WIDE else max(error, limit)

    # ------------------------------------------------------------------ slice by slice

    def _over(self, example: Example, direction: Floats, run: Pass, count: int) -> list[Floats]:
        """Numbers for every entry of J u, slice by slice where the forward allows it."""
        if self.slicing is None:
            return run(example, direction)
        found = [np.zeros((count, *s)) for s in self.shapes]

        def fill(window: slice) -> None:
            assert self.slicing is not None
            parts = self._part(example, direction, window, run)
            for whole, at, part in zip(found, self.slicing.outputs, parts, strict=True):
                cut(whole, at + 1, window)[...] = part

        # A slice in which nothing moves has tangents of zeros.
        live = [w for w in self.slicing.windows() if self._cut(direction, w).any()]
        each(fill, live, threads_of(self.oracle.framework, self.device))
        return found

    def _at(self, direction: Floats, which: int, index: Place, run: Pass, count: int) -> Floats:
        """The numbers of one entry of J u."""
        if self.slicing is None:
            return np.array([one[index] for one in run(self.example, direction)[which]])
        at = self.slicing.outputs[which]
        window = self.slicing.around(index[at])
        if not self._cut(direction, window).any():
            return np.zeros(count)
        found = self._part(self.example, direction, window, run)[which]
        inside = (*index[:at], index[at] - window.start, *index[at + 1 :])
        return np.array([one[inside] for one in found])

    def _part(self, example: Example, direction: Floats, window: slice, run: Pass) -> list[Floats]:
        assert self.slicing is not None
        names = list(self.bench.reference.inputs)
        parts = self.slicing.parts([example.inputs[n] for n in names], window)
        inputs = dict(zip(names, parts, strict=True))
        return run(replace(example, inputs=inputs), self._cut(direction, window))

    def _cut(self, direction: Floats, window: slice) -> Floats:
        assert self.slicing is not None
        position = self.slicing.inputs[list(self.bench.reference.inputs).index(self.name)]
        return np.asarray(cut(direction, position, window))
