"""Shapes whose Jacobian nobody can write down: signed random cotangents, and bisection to the entry.

For a cotangent v of random signs, vᵀJ is compared entry by entry with the oracle's, not projected
once more to a number: an error δ in a single entry J[i,j] changes entry j of the result by exactly
±δ, whatever the size of the array. So the smallest single error that a probe sees is the tolerance
on an entry of the gradient, and the report states it. Errors in several entries of one column may
cancel under one choice of signs, hence several probes.

The tolerance has two stages. Every entry is *screened* against the error of the framework's own
reverse pass: in a lower dtype, how far it is from that in float64; in float64, that of float32 times
the ratio of the units (errors are proportional to the unit to first order), each the largest along
the last axis, measured with the first probe. What exceeds the screen is *suspected*, and only the
derived bound condemns it: the forward is carried once more along the single direction of that entry,
and |v|ᵀ times its error is what a right gradient may be off. At many millions of entries a slice of
the forward is carried, where it can be shown to speak for the whole (`gradcheck.layers.local`); where
nothing can be carried at all, twice the screen is the bound, and the report says so.

On a mismatch the cotangent is halved until one entry is left: about log₂ of the number of outputs
further passes. Time and memory are linear in the input: cotangents are kept as signs of one byte, no
two passes are held at once but the oracle's own, and gradients are compared tile by tile.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.layers import extent, kinks, precision
from gradcheck.layers.claimed import names_of
from gradcheck.layers.large import Entry, broken, fresh, label, odd, scaled, unscaled, written
from gradcheck.layers.local import near
from gradcheck.layers.pullback import can, pullback
from gradcheck.layers.slices import Sliced, Whole, entries_of, slicing, threads_of
from gradcheck.layers.tiles import apart, compared, largest
from gradcheck.running import format_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradcheck.layers.bench import Bench, Point
    from gradcheck.layers.faults import Fault
    from gradcheck.oracles import Oracle

    Floats = np.ndarray[Any, np.dtype[Any]]
    Pull = Callable[[Sequence[Floats]], Floats]
    Oracled = Sliced | Whole

PROBES = 3
# Probes that would take longer than this many seconds are not begun.
LIMIT = 900.0
# How many of the entries that the screen suspects are looked at, until one lies at no kink.
_SUSPECTS = 64
# Which probe asks for a multiple of its cotangent, in other memory.
ODD = 1
# The screen only chooses what to look at: the measured error is of one format at one point, claim and
# oracle have it each, and a dozen roundings more do not matter beside an error that is one.
_BOTH = 16.0


@dataclass
class Probed:
    """What probes of one point found, for one input and one oracle.

    Attributes:
        probes: How many cotangents were compared.
        detects: The smallest error in a single entry of the Jacobian that they would have seen.
        worst: The worst error in units of its tolerance.
        wrong: The wrong entry of the Jacobian: output, its index, the input's index; None if none.
        blocks: The first blocks of outputs to which a bisection came.
        extent: The block around the wrong entry in which outputs, and entries of the gradient, are wrong.
        claim: What the rule says there.
        oracle: What the oracle says.
        bound: What rounding can explain.
        zero: Whether a gradient of zeros would have been seen.
        ones: Whether one of ones would have been.
        kinks: How many entries lay at a kink, with the claim between the one-sided derivatives.
        weak: Whether an error of the largest entry's own size would have passed.
        measured: Whether an entry was judged by the measured error, since nothing could be carried.
        fault: What is wrong with the rule whatever its derivative is.
        trouble: Why nothing was compared; empty if it was.
        seconds: How long it took.
        predicted: How long it was to take, as far as one pass of each kind tells.
    """

    probes: int = 0
    detects: float = 0.0
    worst: float = 0.0
    wrong: tuple[int, tuple[int, ...], tuple[int, ...]] | None = None
    blocks: list[str] = field(default_factory=list)
    extent: str = ""
    claim: float = 0.0
    oracle: float = 0.0
    bound: float = 0.0
    zero: bool = False
    ones: bool = False
    kinks: int = 0
    weak: bool = False
    measured: bool = False
    fault: Fault | None = None
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
        self.own: Floats | None = None
        self.extra: Floats | None = None

    def _oracle(self, dtype: str, oracle: Oracle | None = None) -> Oracled:
        """The gradient by an oracle, slice by slice where the forward allows it."""
        oracle = oracle or self.oracle
        question = self.bench.reference.question(oracle, self.example, self.name, 0, dtype)
        framework, wrt = oracle.framework, question.wrt
        device = self.bench.device if framework != "autograd" else "cpu"

        def make(arrays: Sequence[Any]) -> Pull:
            return pullback(framework, question.forward, arrays, wrt, dtype, device)

        found = slicing(self.bench, self.point, self.name, entries_of(framework, device))
        if found is None:
            return Whole(make, question.arrays)
        return Sliced(make, question.arrays, wrt, found, threads_of(framework, device))

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

    def signs(self, probe: int) -> list[Floats]:
        """Cotangents of random signs, a byte each."""
        rng = np.random.default_rng([self.seed, probe])
        return [signs_of(rng, shape) for shape in self.shapes]

    def run(self) -> Probed:
        """Several probes; on a mismatch, down to the entry."""
        found, start = Probed(), time.perf_counter()
        vectors = self.signs(0)
        narrow = self._narrow(vectors)
        self.exact = self._oracle("float64")
        reverse = time.perf_counter()
        exact = self.truth(vectors)
        now = time.perf_counter()
        # What has been run, the reverse passes of the other probes, and the calls of the rule.
        found.predicted = (now - start) + (PROBES - 1) * (now - reverse)
        found.predicted += PROBES * self.called
        if found.predicted > LIMIT:
            found.trouble = f"probes would take {found.predicted:.0f} s, more than {LIMIT:.0f} s"
            return found
        self._measure(narrow, exact)
        del narrow
        for probe in range(PROBES):
            if probe:
                vectors = self.signs(probe)
                exact = self.truth(vectors, exact)
            claim = self._called(probe, vectors, found)
            if found.fault or self._compare(vectors, claim, exact, found):
                break
            del claim  # before the next one is made
            found.probes += 1
        found.seconds = time.perf_counter() - start
        return found

    def _called(self, probe: int, vectors: list[Floats], found: Probed) -> Floats:
        """The rule's gradient for one probe; after the first, whether its arguments are as they were."""
        if probe == ODD:
            return unscaled(self.pulled(odd(self.bench.caller, vectors)[1]))
        given = self.given(vectors)
        claim = self.pulled(given)
        if not probe:
            names = names_of(self.bench.rule.outputs, len(vectors))
            triples = zip(names, given, vectors, strict=True)
            was = [(f"the cotangent of {n}", g, v) for n, g, v in triples]
            found.fault = written(self.bench, self.arrays, self.example, was)
        return claim

    def _compare(self, vectors: list[Floats], claim: Floats, exact: Floats, found: Probed) -> bool:
        """One probe; whether it ends the comparison."""
        with np.errstate(all="ignore"):
            size = largest(exact)
            if not np.all(np.isfinite(size)):
                found.trouble = "the derivative is not finite"
                return True
            screen = self.screen(size)
            gaps = compared(claim, exact, screen, _SUSPECTS)
        found.zero |= bool((size > screen).any())
        found.ones |= gaps.ones
        slack, ratio = float(np.max(screen, initial=0.0)), gaps.ratio
        width = exact.shape[-1] if exact.ndim else 1
        for flat in gaps.suspects:
            place = tuple(int(i) for i in np.unravel_index(flat, exact.shape))
            limit = float(screen[flat // width, 0])
            verdict, bound = self._examine(vectors, place, claim, exact, limit, found)
            if verdict == "kink":
                found.kinks += 1
                continue
            if verdict == "wrong":
                found.fault = self._broken(vectors, place, float(exact[place]), bound)
                if found.fault is None:
                    self._locate(vectors, place, found)
                    self._surround(place, claim, exact, found)
                return True
            # What stays unexamined exceeds the screen by less: it counts as what was not seen.
            slack, ratio = max(slack, gaps.beyond), _ratio(claim, exact, place, bound)
            break
        else:
            if len(gaps.suspects) == _SUSPECTS:
                found.trouble = f"more than {_SUSPECTS} entries lie at kinks"
                return True
            ratio = 0.0 if gaps.suspects else ratio
        top = float(np.max(size, initial=0.0))
        found.detects, found.worst = max(found.detects, slack), max(found.worst, ratio)
        found.weak |= top > 0 and not slack <= precision.weak_from(self.bench.dtype) * top
        return False

    def _examine(
        self, vectors: list[Floats], place: tuple[int, ...], claim: Floats, exact: Floats,
        screen: float, found: Probed,
    ) -> tuple[str, float]:  # fmt: skip
        """Whether an entry that the screen suspects is "right", "wrong" or at a "kink"; its bound."""
        bound = self.bound(vectors, place, float(exact[place]), screen, found)
        value = float(claim[place])
        if abs(value - float(exact[place])) <= bound:
            lost = not np.isfinite(bound) and self._lost(vectors, place, claim, exact)
            return ("wrong" if lost else "right"), bound
        if self.bench.reference.forward is None:
            off = kinks.refuted(self.bench, self.point, self.name, place, vectors, value, bound)
            return ("wrong" if off else "kink"), bound
        local = near(self.bench, self.point, self.name, place, vectors, float(exact[place]))
        kink = local is not None and np.isfinite(value) and local.between(value, bound)
        return ("kink" if kink else "wrong"), bound

    def _lost(
        self, vectors: list[Floats], place: tuple[int, ...], claim: Floats, exact: Floats
    ) -> bool:
        """In half precision, where no bound is finite: whether an entry that nothing cancels is gone."""
        local = near(self.bench, self.point, self.name, place, vectors, float(exact[place]))
        moved = None if local is None else local.moved()
        if local is None or moved is None or self.bench.dtype not in precision.LOW:
            return False
        pairs = zip(local.vectors, moved, strict=True)
        terms = sum(float(np.sum(np.abs(v * value))) for v, (value, _) in pairs)
        own = float(np.max(self.own, initial=0.0)) if self.own is not None else np.inf
        values = np.asarray(claim, np.float64)
        gone = precision.lost(values, exact, own, self.bench.dtype, np.full(exact.shape, terms))
        return bool(gone[place])

    # ------------------------------------------------------------------ bounds

    def _narrow(self, vectors: list[Floats]) -> Floats:
        """The gradient by a reverse pass in the dtype, or in float32 where that is float64."""
        narrow = _narrower(self.bench.dtype)
        own = precision.natives(self.bench, self.oracle) if narrow in precision.LOW else []
        return self._oracle(narrow, next((o for o in own if can(o.framework)), None))(vectors)

    def _measure(self, narrow: Floats, exact: Floats) -> None:
        """The error of a framework's own reverse pass, along the last axis."""
        dtype = self.bench.dtype
        ratio = format_of(dtype).unit / format_of(_narrower(dtype)).unit
        with np.errstate(all="ignore"):
            self.own = ratio * apart(narrow, exact)

    def screen(self, size: Floats) -> Floats:
        """What is not looked at any closer, for each row of a gradient of that size."""
        assert self.own is not None
        return np.asarray(_BOTH * (self.own + format_of(self.bench.dtype).unit * size))

    def bound(
        self, vectors: list[Floats], place: tuple[int, ...], exact: float, screen: float,
        found: Probed,
    ) -> float:  # fmt: skip
        """What a right gradient may be off at one entry, by the forward carried along it."""
        local = near(self.bench, self.point, self.name, place, vectors, exact)
        enclosed = None if local is None else local.enclosed()
        more = self._reading(vectors, place)
        if enclosed is None:
            found.measured = True
            return 2 * screen + more
        return max(2 * enclosed[1], screen) + more

    def _reading(self, vectors: list[Floats], place: tuple[int, ...]) -> float:
        """What the adapter's way of reading a gradient may be off it: an update's has lost digits."""
        if self.bench.rule.rounding is None:
            return 0.0
        if self.extra is None:
            self.extra = self.bench.reading(self.example)[self.name]
        size = sum(float(np.count_nonzero(v)) for v in vectors)
        return size * float(
            np.broadcast_to(self.extra, self.example.inputs[self.name].shape)[place]
        )

    # ------------------------------------------------------------------ contract

    def _broken(
        self, vectors: list[Floats], place: tuple[int, ...], exact: float, bound: float
    ) -> Fault | None:
        """Whether an entry is off for another reason than a wrong derivative."""

        def asked(how: str) -> float:
            caller = self.bench.caller
            if how == "plain":
                return float(self.claim(vectors)[place])
            if how == "scaled":
                return float(self.pulled([caller.array(scaled(v)) for v in vectors])[place])
            return float(self.pulled(odd(self.bench.caller, vectors)[1])[place])

        memory, _ = odd(self.bench.caller, [v.reshape(-1)[:2] for v in vectors])
        name = self.name
        text = label(name, place)
        return broken(Entry(text, name, "cotangent", "gradient", exact, bound, asked, memory))

    # ------------------------------------------------------------------ bisection

    def _locate(self, vectors: list[Floats], place: tuple[int, ...], found: Probed) -> None:
        """Halve the cotangent until one output is left whose row is wrong at the place."""
        flat = np.concatenate([v.reshape(-1) for v in vectors])
        low, high = self._halved(flat, place, found)
        which, index = self._output(low)
        alone = self._masked(np.ones(flat.size, np.int8), low, high)
        claim, whole = float(self.claim(alone)[place]), self.truth(alone)
        exact, size = float(whole[place]), largest(whole)
        found.wrong = (which, index, place)
        found.claim, found.oracle = claim, exact
        row = int(np.ravel_multi_index(place, whole.shape)) // whole.shape[-1] if place else 0
        found.bound = self._finite(alone, place, exact, float(self.screen(size)[row, 0]), found)
        found.worst = abs(claim - exact) / found.bound if found.bound else np.inf

    def _surround(
        self, place: tuple[int, ...], claim: Floats, exact: Floats, found: Probed
    ) -> None:
        """Name the block around the wrong entry, of outputs and of the gradient."""
        assert found.wrong is not None
        which, index, _ = found.wrong
        rows = sum(int(np.prod(s, dtype=np.int64)) for s in self.shapes)
        if max(rows, exact.size) > extent.ENTRIES:
            return

        def wrong(other: tuple[int, ...]) -> bool:
            alone = [np.zeros(s, np.int8) for s in self.shapes]
            alone[which][other] = 1
            gap = abs(float(self.claim(alone)[place]) - self.truth_at(alone, place))
            return not gap <= found.bound

        block = extent.around(self.shapes[which], index, wrong)
        output = names_of(self.bench.rule.outputs, len(self.shapes))[which]
        off = extent.off(claim, exact)
        found.extent = (
            f"{extent.shown(output, block)} is the block of outputs that is wrong there, and "
            f"{extent.shown(self.name, off)} that of the gradient"
        )

    def _finite(
        self,
        alone: list[Floats],
        place: tuple[int, ...],
        exact: float,
        screen: float,
        found: Probed,
    ) -> float:
        bound = self.bound(alone, place, exact, screen, found)
        return bound if np.isfinite(bound) else screen

    def _halved(self, flat: Floats, place: tuple[int, ...], found: Probed) -> tuple[int, int]:
        """The output at which the gap is found, of which each half's share is asked."""
        low, high = 0, flat.size
        while high - low > 1:
            middle = (low + high) // 2
            left, right = (self._gap(flat, a, b, place) for a, b in ((low, middle), (middle, high)))
            low, high = (low, middle) if left >= right else (middle, high)
            if len(found.blocks) < 3:
                found.blocks.append(self._range(low, high))
        return low, high

    def _gap(self, flat: Floats, low: int, high: int, place: tuple[int, ...]) -> float:
        part = self._masked(flat, low, high)
        gap = abs(float(self.claim(part)[place]) - self.truth_at(part, place))
        return gap if np.isfinite(gap) else np.inf

    def _masked(self, flat: Floats, low: int, high: int) -> list[Floats]:
        """The cotangents with zeros outside a range of all outputs."""
        kept, start, parts = np.zeros(flat.size, np.int8), 0, []
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


def signs_of(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Random signs, of which a byte of the generator gives eight."""
    size = int(np.prod(shape, dtype=np.int64))
    bits = np.unpackbits(rng.integers(0, 256, -(-size // 8), np.uint8), count=size).view(np.int8)
    bits *= 2
    bits -= 1
    return bits.reshape(shape)


def _narrower(dtype: str) -> str:
    return "float32" if dtype == "float64" else dtype


def _ratio(claim: Floats, exact: Floats, place: tuple[int, ...], bound: float) -> float:
    gap = abs(float(claim[place]) - float(exact[place]))
    return gap / bound if bound else 0.0
