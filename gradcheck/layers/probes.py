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
nothing can be carried at all, twice the screen is the bound, and the report says so. A suspect within a
bound of very many outputs is asked for parts of the cotangent, whose bounds are smaller. What a report
says would have been seen is the larger of the screen and of the bound of a single entry.

On a mismatch the cotangent is halved until one entry is left: about log₂ of the number of outputs
further passes. Time and memory are linear in the input: cotangents are kept as signs of one byte, no
two passes are held at once but the oracle's own, and gradients are compared tile by tile.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.layers import extent, kinks, precision, screens
from gradcheck.layers.asking import Asking, Malformed
from gradcheck.layers.claimed import names_of
from gradcheck.layers.halving import Line
from gradcheck.layers.large import SCALE, Entry, broken, label, odd, scaled, unscaled, written
from gradcheck.layers.local import near
from gradcheck.layers.probed import Probed
from gradcheck.layers.tiles import compared, largest, rows

if TYPE_CHECKING:
    from gradcheck.layers.faults import Fault
    from gradcheck.layers.local import Local
    from gradcheck.layers.tiles import Gaps

    Floats = np.ndarray[Any, np.dtype[Any]]

PROBES = 3
# How many of the entries that the screen suspects are looked at, until one lies at no kink.
_SUSPECTS = 64
# Up to so many entries the bound of single ones is carried through the whole forward at once.
_WHOLE = 1 << 16
# Which probe asks for a multiple of its cotangent, in other memory.
ODD = 1


@dataclass(frozen=True)
class _Judged:
    """An entry that the screen suspects.

    Attributes:
        verdict: "right", "wrong" or "kink"; else why nothing can be said.
        bound: What a right gradient may be off there.
        vectors: The cotangents for which it is wrong.
        exact: The entry according to the oracle for these.
    """

    verdict: str
    bound: float
    vectors: list[Floats] = field(default_factory=list)
    exact: float = 0.0


class Prober(Asking):
    """A rule and an oracle at one large point; what it takes, `Asking` says."""

    own: Floats | None = None
    kept: tuple[list[Floats], tuple[int, ...], Local | None] | None = None

    def signs(self, probe: int) -> list[Floats]:
        """Cotangents of random signs, a byte each."""
        rng = np.random.default_rng([self.seed, probe])
        return [signs_of(rng, shape) for shape in self.shapes]

    def run(self) -> Probed:
        """Several probes; on a mismatch, down to the entry."""
        found, start = Probed(), time.perf_counter()
        if not self.example.inputs[self.name].size:
            found.trouble = "the Jacobian has no entries"
            return found
        try:
            self._run(found, start)
        except Malformed as error:
            found.fault, found.wrong = error.fault, None
        found.seconds = time.perf_counter() - start
        return found

    def _run(self, found: Probed, start: float) -> None:
        vectors = self.signs(0)
        narrow, narrower = self._narrow(vectors)
        self.exact = self._oracle("float64")
        reverse = time.perf_counter()
        exact = self.truth(vectors)
        now = time.perf_counter()
        # What has been run, the reverse passes of the other probes, and the calls of the rule.
        found.predicted = (now - start) + (PROBES - 1) * (now - reverse)
        found.predicted += PROBES * self.called
        if found.takes_too_long():
            return
        self._measure(narrow, narrower, exact)
        del narrow
        self._probes(vectors, exact, found)

    def _probes(self, vectors: list[Floats], exact: Floats, found: Probed) -> None:
        for probe in range(PROBES):
            self.kept = None
            if probe:
                vectors = self.signs(probe)
                exact = self.truth(vectors, exact)
            claim = self._called(probe, vectors, exact, found)
            if found.fault or self._compare(vectors, claim, exact, found):
                return
            del claim  # before the next one is made
            found.probes += 1
        found.detects = max(found.detects, self._alone(vectors, exact))

    def _called(self, probe: int, vectors: list[Floats], exact: Floats, found: Probed) -> Floats:
        """The rule's gradient for one probe; after the first, whether its arguments are as they were."""
        if probe == ODD:
            return self._unscaled(odd(self.bench.caller, vectors)[1], vectors, exact)
        given = self.given(vectors)
        claim = self.pulled(given)
        if not probe:
            names = names_of(self.bench.rule.outputs, len(vectors))
            triples = zip(names, given, vectors, strict=True)
            was = [(f"the cotangent of {n}", g, v) for n, g, v in triples]
            found.fault = written(self.bench, self.arrays, self.example, was)
        return claim

    def _unscaled(self, multiples: list[Any], vectors: list[Floats], exact: Any) -> Floats:
        """The gradient for cotangents, as the rule has it for their multiples."""
        dtype = self.bench.dtype
        return unscaled(self.pulled(multiples), exact, dtype, lambda: self.claim(vectors))

    # ------------------------------------------------------------------ comparison

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
        seen = self._suspected(vectors, claim, exact, screen, gaps, found)
        if seen is None:
            return True
        slack, ratio = seen
        top = float(np.max(size, initial=0.0))
        found.saw(slack, ratio, precision.weak_from(self.bench.dtype) * top)
        return False

    def _suspected(
        self, vectors: list[Floats], claim: Floats, exact: Floats, screen: Floats, gaps: Gaps,
        found: Probed,
    ) -> tuple[float, float] | None:  # fmt: skip
        """What was not seen, and the worst ratio; None where a suspect ends the comparison."""
        slack, width = float(np.max(screen, initial=0.0)), exact.shape[-1] if exact.ndim else 1
        for flat in gaps.suspects:
            place = tuple(int(i) for i in np.unravel_index(flat, exact.shape))
            limit = float(screen[flat // width, 0])
            judged = self._examine(vectors, place, claim, exact, limit, found)
            if judged.verdict == "kink":
                found.kinks += 1
                continue
            if judged.verdict == "right":
                # What stays unexamined exceeds the screen by less: it counts as what was not seen.
                return max(slack, gaps.beyond), _ratio(claim, exact, place, judged.bound)
            if judged.verdict == "wrong":
                self._refute(judged, place, limit, claim, exact, found)
            else:
                found.trouble = judged.verdict
            return None
        if len(gaps.suspects) == _SUSPECTS:
            found.trouble = f"more than {_SUSPECTS} entries lie at kinks"
            return None
        return slack, 0.0 if gaps.suspects else gaps.ratio

    def _examine(
        self, vectors: list[Floats], place: tuple[int, ...], claim: Floats, exact: Floats,
        screen: float, found: Probed,
    ) -> _Judged:  # fmt: skip
        """What there is to say of an entry that the screen suspects."""
        true, value = float(exact[place]), float(claim[place])
        bound = self.bound(vectors, place, true, screen, found)
        if abs(value - true) <= bound:
            if not np.isfinite(bound):
                lost = self._lost(vectors, place, claim, exact)
                return _Judged("wrong" if lost else "right", bound, vectors, true)
            return self._narrowed(vectors, place, value, true, screen, found) or _Judged(
                "right", bound
            )
        if self.bench.reference.forward is None:
            verdict = self._opaque(vectors, place, value, bound)
        else:
            local = self._near(vectors, place, true)
            kink = local is not None and np.isfinite(value) and local.between(value, bound)
            verdict = "kink" if kink else "wrong"
        return _Judged(verdict, bound, vectors, true)

    def _opaque(
        self, vectors: list[Floats], place: tuple[int, ...], value: float, bound: float
    ) -> str:
        """Of a forward that only a framework can run: a kink must show, and so must an error."""

        def moved(step: float) -> float:
            return self._oracle("float64", moved=(place, step)).at(vectors, place)

        size = max(1.0, abs(float(self.example.inputs[self.name][place])))
        jump = kinks.jumps(moved, value, bound, size)
        if jump:
            return jump
        if kinks.refuted(self.bench, self.point, self.name, place, vectors, value, bound):
            return "wrong"
        return kinks.unlike(self.name, place, self.oracle.name)

    def _narrowed(
        self, vectors: list[Floats], place: tuple[int, ...], value: float, true: float, screen: float,
        found: Probed,
    ) -> _Judged | None:  # fmt: skip
        """A part of the cotangent for which an entry is beyond its bound; None where none was found.

        The bound of a sum over many outputs may hide an error in one of them; halving the cotangent
        makes the bound smaller, and not that error.
        """
        local = self._near(vectors, place, true)
        if local is not None and local.alone() >= abs(value - true):
            return None  # no single entry that is off by so much could be told from rounding
        line = Line(vectors)
        for _, _, part, gap in line.halves(lambda p: self.gap(p, place)):
            if gap <= screen:
                return None
            true = self.truth_at(part, place)
            bound = self.bound(part, place, true, screen, found)
            if gap > bound:
                return _Judged("wrong", bound, part, true)
        return None

    def _alone(self, vectors: list[Floats], exact: Floats) -> float:
        """The bound of single entries of the Jacobian, asked where the gradient is largest.

        A larger gap than the part of the gradient from which on an example says too little never counts
        as agreement, whatever the bound.
        """
        size = largest(exact)
        row = int(np.argmax(size))
        column = int(np.argmax(np.abs(rows(exact)[row])))
        flat = row * rows(exact).shape[1] + column
        place = tuple(int(i) for i in np.unravel_index(flat, exact.shape))
        local = near(self.bench, self.point, self.name, place, vectors, float(exact[place]), _WHOLE)
        bound = 2 * float(self.screen(size)[row, 0]) if local is None else local.alone()
        return min(bound, precision.weak_from(self.bench.dtype) * float(size[row, 0]))

    def _lost(
        self, vectors: list[Floats], place: tuple[int, ...], claim: Floats, exact: Floats
    ) -> bool:
        """In half precision, where no bound is finite: whether an entry that nothing cancels is gone."""
        local = self._near(vectors, place, float(exact[place]))
        moved = None if local is None else local.ahead
        if local is None or moved is None or self.bench.dtype not in precision.LOW:
            return False
        pairs = zip(local.vectors, moved.outputs, strict=True)
        terms = sum(float(np.sum(np.abs(v * value))) for v, (value, _) in pairs)
        own = float(np.max(self.own, initial=0.0)) if self.own is not None else np.inf
        values = np.asarray(claim, np.float64)
        gone = precision.lost(values, exact, own, self.bench.dtype, np.full(exact.shape, terms))
        return bool(gone[place])

    # ------------------------------------------------------------------ bounds

    def _near(self, vectors: list[Floats], place: tuple[int, ...], exact: float) -> Local | None:
        """What can be carried for an entry; what was asked last is kept."""
        if self.kept is None or self.kept[0] is not vectors or self.kept[1] != place:
            found = near(self.bench, self.point, self.name, place, vectors, exact)
            self.kept = (vectors, place, found)
        return self.kept[2]

    def _narrow(self, vectors: list[Floats]) -> tuple[Floats, str]:
        """The gradient by a reverse pass in a format with larger errors, and the format."""
        return screens.narrow(
            self.bench, self.oracle, lambda dtype, own: self._oracle(dtype, own)(vectors)
        )

    def _measure(self, narrow: Floats, narrower: str, exact: Floats) -> None:
        """The error of a framework's own reverse pass, along the last axis."""
        self.own = screens.own_error(narrow, narrower, exact, self.bench.dtype)

    def screen(self, size: Floats) -> Floats:
        """What is not looked at any closer, for each row of a gradient of that size."""
        assert self.own is not None
        return screens.screen(self.own, size, self.bench.dtype)

    def bound(
        self, vectors: list[Floats], place: tuple[int, ...], exact: float, screen: float,
        found: Probed,
    ) -> float:  # fmt: skip
        """What a right gradient may be off at one entry, by the forward carried along it."""
        local = self._near(vectors, place, exact)
        enclosed = None if local is None else local.enclosed()
        more = self.reading(vectors, place)
        if enclosed is None:
            found.measured = True
            return 2 * screen + more
        return max(2 * enclosed[1], screen) + more

    # ------------------------------------------------------------------ contract

    def _broken(
        self, vectors: list[Floats], place: tuple[int, ...], exact: float, bound: float
    ) -> Fault | None:
        """Whether an entry is off for another reason than a wrong derivative."""

        def asked(how: str) -> float:
            caller = self.bench.caller
            if how == "plain":
                return float(self.claim(vectors)[place])
            multiples = (
                [caller.array(scaled(v)) for v in vectors]
                if how == "scaled"
                else odd(caller, vectors)[1]
            )
            return SCALE * float(self._unscaled(multiples, vectors, exact)[place])

        memory, _ = odd(self.bench.caller, [v.reshape(-1)[:2] for v in vectors])
        name = self.name
        text = label(name, place)
        return broken(Entry(text, name, "cotangent", "gradient", exact, bound, asked, memory))

    # ------------------------------------------------------------------ bisection

    def _refute(
        self, judged: _Judged, place: tuple[int, ...], screen: float, claim: Floats, exact: Floats,
        found: Probed,
    ) -> None:  # fmt: skip
        """What is wrong at an entry: the contract, or the derivative."""
        bound = judged.bound if np.isfinite(judged.bound) else screen
        found.fault = self._broken(judged.vectors, place, judged.exact, bound)
        if found.fault is None:
            self._locate(judged.vectors, place, found)
            if abs(found.claim - found.oracle) <= found.bound:
                self._together(judged, place, bound, found)
            else:
                self._surround(place, claim, exact, found)

    def _together(
        self, judged: _Judged, place: tuple[int, ...], bound: float, found: Probed
    ) -> None:
        """Say that an entry of the gradient is beyond its bound, though no single output's share is."""
        entry = f"{label(self.name, place)} of the gradient"
        found.together(entry, self.gap(judged.vectors, place), bound)

    def _locate(self, vectors: list[Floats], place: tuple[int, ...], found: Probed) -> None:
        """Halve the cotangent until one output is left whose row is wrong at the place."""
        line, low = Line(vectors), 0
        for low, high, _, _ in line.halves(lambda p: self.gap(p, place)):
            if len(found.blocks) < 3:
                found.blocks.append(line.shown(low, high))
        which, index = line.output(low)
        alone = [np.zeros(s, np.int8) for s in self.shapes]
        alone[which][index] = 1
        claim, whole = float(self.claim(alone)[place]), self.truth(alone)
        exact, size = float(whole[place]), largest(whole)
        found.wrong = (which, index, place)
        found.claim, found.oracle = claim, exact
        row = int(np.ravel_multi_index(place, whole.shape)) // whole.shape[-1] if place else 0
        found.bound = self._finite(alone, place, exact, float(self.screen(size)[row, 0]), found)
        worst = abs(claim - exact) / found.bound if found.bound else np.inf
        found.worst = worst if np.isfinite(worst) else np.inf

    def _surround(
        self, place: tuple[int, ...], claim: Floats, exact: Floats, found: Probed
    ) -> None:
        """Name the block around the wrong entry, of outputs and of the gradient."""
        assert found.wrong is not None
        which, index, _ = found.wrong
        outputs = sum(int(np.prod(s, dtype=np.int64)) for s in self.shapes)
        if max(outputs, exact.size) > extent.ENTRIES:
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


def signs_of(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Random signs, of which a byte of the generator gives eight."""
    size = int(np.prod(shape, dtype=np.int64))
    bits = np.unpackbits(rng.integers(0, 256, -(-size // 8), np.uint8), count=size).view(np.int8)
    bits *= 2
    bits -= 1
    return bits.reshape(shape)


def _ratio(claim: Floats, exact: Floats, place: tuple[int, ...], bound: float) -> float:
    gap = abs(float(claim[place]) - float(exact[place]))
    return gap / bound if bound else 0.0
