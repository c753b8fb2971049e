"""Shapes whose Jacobian nobody can write down: signed random cotangents, and bisection to the entry.

For a cotangent v of random signs, vᵀJ is compared entry by entry with the oracle's, not projected
once more to a number: an error δ in a single entry J[i,j] changes entry j of the result by exactly
±δ, whatever the size of the array. So the smallest single error that a probe sees is the tolerance
on an entry of the gradient, and the report states it. Errors in several entries of one column may
cancel under one choice of signs, hence several probes.

The tolerance has two stages. Every entry is *screened* against the error of the framework's own
reverse pass: in a lower dtype, how far it is from that in float64; in float64, that of float32 times
the ratio of the units (errors are proportional to the unit to first order), each the largest along
the last axis. What exceeds the screen is *suspected*, and only the derived bound condemns it: the
forward is carried once more along the single direction of that entry, and |v|ᵀ times its error is
what a right gradient may be off.

On a mismatch the cotangent is halved until one entry is left: about log₂ of the number of outputs
further passes. Time and memory are linear in the input.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.layers import precision
from gradcheck.layers.along import along
from gradcheck.layers.pullback import can, pullback
from gradcheck.running import format_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradcheck.layers.bench import Bench, Point
    from gradcheck.oracles import Oracle

    Floats = np.ndarray[Any, np.dtype[Any]]
    Pull = Callable[[Sequence[Floats]], Floats]

PROBES = 3
# Probes that would take longer than this many seconds are not begun.
LIMIT = 900.0
# How many of the entries that the screen suspects are looked at, until one lies at no kink.
_SUSPECTS = 64
# The screen only chooses what to look at: the measured error is of one format at one point, claim and
# oracle have it each, and a dozen roundings more do not matter beside an error that is one.
_BOTH = 16.0
# Up to so many entries of all inputs the forward is carried along one direction; beyond, memory is
# better spent on the probes.
_CARRIED = 20_000_000


@dataclass
class Probed:
    """What probes of one point found, for one input and one oracle.

    Attributes:
        probes: How many cotangents were compared.
        detects: The smallest error in a single entry of the Jacobian that they would have seen.
        worst: The worst error in units of its tolerance.
        wrong: The wrong entry of the Jacobian: output, its index, the input's index; None if none.
        blocks: The first blocks of outputs to which a bisection came.
        claim: What the rule says there.
        oracle: What the oracle says.
        bound: What rounding can explain.
        zero: Whether a gradient of zeros would have been seen.
        ones: Whether one of ones would have been.
        kinks: How many entries lay at a kink, with the claim between the one-sided derivatives.
        weak: Whether an error of the largest entry's own size would have passed.
        trouble: Why nothing was compared; empty if it was.
        seconds: How long it took.
        predicted: How long it was to take, as far as one forward and one call of the rule tell.
    """

    probes: int = 0
    detects: float = 0.0
    worst: float = 0.0
    wrong: tuple[int, tuple[int, ...], tuple[int, ...]] | None = None
    blocks: list[str] = field(default_factory=list)
    claim: float = 0.0
    oracle: float = 0.0
    bound: float = 0.0
    zero: bool = False
    ones: bool = False
    kinks: int = 0
    weak: bool = False
    trouble: str = ""
    seconds: float = 0.0
    predicted: float = 0.0


class Prober:
    """A rule and an oracle at one large point.

    Args:
        bench: The rule and its reference.
        point: The example, with the values of its outputs.
        name: The input.
        oracle: Who is asked.
        seed: For the cotangents.
    """

    def __init__(self, bench: Bench, point: Point, name: str, oracle: Oracle, seed: int) -> None:
        self.bench, self.point, self.name, self.oracle = bench, point, name, oracle
        self.rng = np.random.default_rng(seed)
        self.shapes = [o.shape for o in point.outputs]
        self.example = point.example
        self.arrays = bench.caller.arrays(self.example)
        self.predicted = self._timed_claim()
        start = time.perf_counter()
        self.exact = self._oracle("float64")
        # A reverse pass costs two to three forward ones; there is one in each of two formats.
        self.predicted += PROBES * 6 * (time.perf_counter() - start)
        self.narrow: Pull | None = None
        self.own = 0.0

    def _timed_claim(self) -> float:
        """What the rule's calls will take, from one that costs nothing more to try."""
        start = time.perf_counter()
        self.claim([np.zeros(s) for s in self.shapes])
        return (PROBES + 1) * (time.perf_counter() - start)

    def _oracle(self, dtype: str, oracle: Oracle | None = None) -> Pull:
        oracle = oracle or self.oracle
        question = self.bench.reference.question(oracle, self.example, self.name, 0, dtype)
        device = self.bench.device if oracle.framework != "autograd" else "cpu"
        return pullback(
            oracle.framework, question.forward, question.arrays, question.wrt, dtype, device
        )

    def claim(self, cotangents: Sequence[Floats]) -> Floats:
        """The rule's gradient, in its own dtype."""
        caller, rule = self.bench.caller, self.bench.rule
        raw = caller.pull([caller.array(c) for c in cotangents], self.arrays, self.example.params)
        found = caller.backend.to_numpy(raw[rule.differentiable.index(self.name)])
        return np.asarray(found).reshape(self.example.inputs[self.name].shape)

    def written(self) -> str:
        """An input that the calls have changed; "" where none is."""
        caller = self.bench.caller
        for name, array in self.arrays.items():
            old = caller.host(caller.array(self.example.inputs[name]))
            if not np.array_equal(caller.host(array), old, equal_nan=True):
                return name
        return ""

    def signs(self) -> list[Floats]:
        """Cotangents of random signs."""
        return [
            np.where(self.rng.integers(0, 2, s, dtype=np.int8) > 0, 1.0, -1.0) for s in self.shapes
        ]

    def run(self) -> Probed:
        """Several probes; on a mismatch, down to the entry."""
        found, start = Probed(predicted=self.predicted), time.perf_counter()
        if self.predicted > LIMIT:
            found.trouble = f"probes would take {self.predicted:.0f} s, more than {LIMIT:.0f} s"
            return found
        for _ in range(PROBES):
            vectors = self.signs()
            if self._compare(vectors, found):
                break
            found.probes += 1
        found.seconds = time.perf_counter() - start
        return found

    def _compare(self, vectors: list[Floats], found: Probed) -> bool:
        """One probe; whether it ends the comparison."""
        limit = precision.weak_from(self.bench.dtype)
        with np.errstate(all="ignore"):
            claim, exact = self.claim(vectors), self.exact(vectors)
            if not np.all(np.isfinite(exact)):
                found.trouble = "the derivative is not finite"
                return True
            screen = self._screen(vectors, exact)
            top = float(np.max(np.abs(exact), initial=0.0))
            gap = np.abs(np.asarray(claim, np.float64) - exact)
            gap[np.isnan(gap)] = np.inf
            found.zero |= bool((np.abs(exact) > screen).any())
            found.ones |= bool((np.abs(exact - 1) > screen).any())
            suspects = self._suspects(gap, screen)
            slack, ratio = float(np.max(screen, initial=0.0)), 0.0
        for place in suspects:
            bound = self._bound(vectors, place, float(np.broadcast_to(screen, gap.shape)[place]))
            beyond = gap[place] > bound
            if beyond and self._at_kink(vectors, place, float(claim[place]), bound):
                found.kinks += 1
                gap[place] = 0.0
                continue
            low = self.bench.dtype in precision.LOW and not np.isfinite(bound)
            if beyond or (low and precision.lost(gap, exact, self.own)[place]):
                self._locate(vectors, place, found)
                return True
            # What stays unexamined exceeds the screen by less: it counts as what was not seen.
            slack, ratio = max(slack, float(gap[gap > screen].max())), float(gap[place] / bound)
            break
        else:
            if len(suspects) == _SUSPECTS:
                found.trouble = f"more than {_SUSPECTS} entries lie at kinks"
                return True
        if not suspects or ratio == 0.0:
            parts = np.divide(gap, screen, where=screen > 0, out=np.zeros(gap.shape))
            ratio = float(np.max(parts, initial=0.0))
        found.detects, found.worst = max(found.detects, slack), max(found.worst, ratio)
        found.weak |= top > 0 and not slack <= limit * top
        return False

    def _at_kink(
        self, vectors: list[Floats], place: tuple[int, ...], claim: float, bound: float
    ) -> bool:
        """Whether the one-sided derivatives at an entry differ, and the claim lies between them."""
        reference, example = self.bench.reference, self.example
        if reference.forward is None or sum(a.size for a in example.inputs.values()) > _CARRIED:
            return False
        towards = np.zeros(example.inputs[self.name].shape)
        towards[place] = 1.0
        sides = [
            along(reference, example, self.name, s * towards, self.bench.dtype) for s in (1, -1)
        ]
        ahead, behind = sides
        if ahead is None or behind is None:
            return False
        low = high = 0.0
        for vector, (above, _), (below, _) in zip(vectors, ahead, behind, strict=True):
            ends = np.stack([vector * above, -vector * below])
            low, high = low + float(ends.min(axis=0).sum()), high + float(ends.max(axis=0).sum())
        return high - low > 2 * bound and low - bound <= claim <= high + bound

    def _suspects(self, gap: Floats, screen: Floats) -> list[tuple[int, ...]]:
        """The entries that exceed the screen the most."""
        over = (gap > screen).reshape(-1)
        places = np.flatnonzero(over)
        if not places.size:
            return []
        flat = np.broadcast_to(screen, gap.shape).reshape(-1)[places]
        ratio = gap.reshape(-1)[places] / np.maximum(flat, np.finfo(np.float64).tiny)
        order = np.argsort(-ratio)[:_SUSPECTS]
        return [tuple(int(i) for i in np.unravel_index(p, gap.shape)) for p in places[order]]

    def _screen(self, vectors: list[Floats], exact: Floats) -> Floats:
        """The measured error of a reverse pass in the dtype, along the last axis at most."""
        dtype = self.bench.dtype
        narrow = "float32" if dtype == "float64" else dtype
        ratio = format_of(dtype).unit / format_of(narrow).unit
        if self.narrow is None:
            own = precision.natives(self.bench, self.oracle) if narrow in precision.LOW else []
            self.narrow = self._oracle(narrow, next((o for o in own if can(o.framework)), None))
        gap = np.abs(np.asarray(self.narrow(vectors), np.float64) - exact)
        size = np.abs(exact)
        if gap.ndim:
            gap, size = gap.max(axis=-1, keepdims=True), size.max(axis=-1, keepdims=True)
        gap = np.where(np.isfinite(gap), gap, 0.0)
        self.own = float(np.max(gap, initial=0.0))
        return np.asarray(_BOTH * ratio * gap + _BOTH * format_of(dtype).unit * size)

    def _bound(self, vectors: list[Floats], place: tuple[int, ...], screen: float) -> float:
        """What a right gradient may be off at one entry, by the forward carried along it."""
        reference, example = self.bench.reference, self.example
        total = sum(a.size for a in example.inputs.values())
        if reference.forward is None or total > _CARRIED:
            return 2 * screen
        towards = np.zeros(example.inputs[self.name].shape)
        towards[place] = 1.0
        errors = along(reference, example, self.name, towards, self.bench.dtype)
        if errors is None:
            return 2 * screen
        # The rule adds up the column in its own dtype, in whatever order.
        unit, slack = format_of(self.bench.dtype).unit, 0.0
        for vector, (value, error) in zip(vectors, errors, strict=True):
            terms = np.count_nonzero(value)
            slack += float(np.sum(np.abs(vector) * (error + terms * unit * np.abs(value))))
        return max(2 * slack, screen) if np.isfinite(slack) else np.inf

    # ------------------------------------------------------------------ bisection

    def _locate(self, vectors: list[Floats], place: tuple[int, ...], found: Probed) -> None:
        """Halve the cotangent until one output is left whose row is wrong at the place."""
        flat = np.concatenate([v.reshape(-1) for v in vectors])
        low, high = 0, flat.size
        while high - low > 1:
            middle = (low + high) // 2
            left, right = (self._gap(flat, a, b, place) for a, b in ((low, middle), (middle, high)))
            low, high = (low, middle) if left >= right else (middle, high)
            if len(found.blocks) < 3:
                found.blocks.append(self._range(low, high))
        which, index = self._output(low)
        alone = self._masked(np.ones(flat.size), low, high)
        claim, exact = self.claim(alone)[place], self.exact(alone)[place]
        found.wrong = (which, index, place)
        found.claim, found.oracle = float(claim), float(exact)
        screen = float(np.max(self._screen(alone, self.exact(alone)), initial=0.0))
        bound = self._bound(alone, place, screen)
        found.bound = bound if np.isfinite(bound) else screen
        found.worst = abs(found.claim - found.oracle) / found.bound if found.bound else np.inf

    def _gap(self, flat: Floats, low: int, high: int, place: tuple[int, ...]) -> float:
        part = self._masked(flat, low, high)
        gap = abs(float(self.claim(part)[place]) - float(self.exact(part)[place]))
        return gap if np.isfinite(gap) else np.inf

    def _masked(self, flat: Floats, low: int, high: int) -> list[Floats]:
        """The cotangents with zeros outside a range of all outputs."""
        kept, start, parts = np.zeros(flat.size), 0, []
        kept[low:high] = flat[low:high]
        for shape in self.shapes:
            size = int(np.prod(shape, dtype=np.int64))
            parts.append(kept[start : start + size].reshape(shape))
            start += size
        return parts

    def _output(self, place: int) -> tuple[int, tuple[int, ...]]:
        for which, shape in enumerate(self.shapes):
            size = int(np.prod(shape, dtype=np.int64))
            if place < size:
                return which, tuple(int(i) for i in np.unravel_index(place, shape))
            place -= size
        return 0, ()

    def _range(self, low: int, high: int) -> str:
        (which, first), (_, last) = self._output(low), self._output(high - 1)
        return f"output {which}, {list(first)} to {list(last)}"
