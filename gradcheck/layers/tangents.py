"""A jvp at large shapes: signed random tangents, compared entry by entry, then bisected.

As for cotangents (`gradcheck.layers.probes`), an error δ in a single entry of the Jacobian changes one entry
of J u by ±δ. The bound of every entry of J u is carried through the forward along u, once for the rule and
once for the oracle; both go slice by slice where the forward allows it (`gradcheck.layers.slices`). The
second tangent is asked for as a multiple in other memory, and what is off is asked again, as there.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.layers import extent
from gradcheck.layers.along import along
from gradcheck.layers.claimed import names_of
from gradcheck.layers.kinks import confirmed_along, refuted
from gradcheck.layers.large import Entry, broken, fresh, label, odd, scaled, unscaled, written
from gradcheck.layers.local import CARRIED, near
from gradcheck.layers.probes import LIMIT, ODD, PROBES, Probed, signs_of
from gradcheck.layers.pullback import push
from gradcheck.layers.slices import cut, each, entries_of, slicing, threads_of
from gradcheck.running import format_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck.checking.search import Example
    from gradcheck.layers.bench import Bench, Point
    from gradcheck.layers.faults import Fault
    from gradcheck.oracles import Oracle

    Floats = np.ndarray[Any, np.dtype[Any]]


def by_tangents(
    bench: Bench, point: Point, name: str, oracle: Oracle, seed: int, probes: int = PROBES
) -> Probed:
    """A jvp at a large shape.

    Args:
        bench: The rule and its reference.
        point: The example, with the values of its outputs.
        name: The input that moves.
        oracle: Who is asked.
        seed: For the tangents.
        probes: How many.
    """
    found, start, pusher = Probed(), time.perf_counter(), Pusher(bench, point, name, oracle)
    rng = np.random.default_rng(seed)
    for probe in range(probes):
        direction = signs_of(rng, point.example.inputs[name].shape)
        exact, bounds = pusher.truth(direction)
        claim = pusher.called(probe, direction, found)
        if not probe:
            found.predicted = probes * (time.perf_counter() - start)
        if found.fault is not None or _too_long(found):
            break
        wrong = _worst(claim, exact, bounds, found)
        if wrong is not None:
            excused = pusher.kinks(direction, claim, bounds)
            found.kinks += sum(int(k.sum()) for k in excused)
            wrong = _worst(claim, exact, bounds, found, excused)
        if wrong is not None:
            which, index = wrong
            value, bound = float(exact[which][index]), float(bounds[which][index])
            found.fault = pusher.broken(direction, wrong, value, bound)
            if found.fault is None:
                _halve(pusher, direction, wrong, found)
                if pusher.at_kink(found):
                    found.wrong, found.trouble = None, "an entry lies at a kink"
                else:
                    _surround(pusher, claim, exact, found)
            break
        found.probes += 1
    found.seconds = time.perf_counter() - start
    return found


def _too_long(found: Probed) -> bool:
    if found.predicted > LIMIT:
        found.trouble = f"probes would take {found.predicted:.0f} s, more than {LIMIT:.0f} s"
    return bool(found.trouble)


class Pusher:
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
        self.question = bench.reference.question(oracle, self.example, name, 0, "float64")
        self.device = bench.device if oracle.framework != "autograd" else "cpu"
        entries = entries_of(oracle.framework, self.device)
        self.slicing = slicing(bench, point, name, entries)

    # ------------------------------------------------------------------ the rule

    def claim(self, moved: Any) -> list[Floats]:
        """The rule's tangents for an array of its framework."""
        inputs = self.example.inputs
        vectors = [
            moved if n == self.name else self.caller.array(np.zeros(inputs[n].shape))
            for n in self.bench.rule.differentiable
        ]
        raw = self.caller.push(vectors, self.arrays, self.example.params)
        return [np.array(self.caller.host(r)) for r in raw]

    def plain(self, direction: Floats) -> list[Floats]:
        """The rule's tangents for signs and zeros."""
        return self.claim(fresh(self.caller, direction))

    def called(self, probe: int, direction: Floats, found: Probed) -> list[Floats]:
        """The rule's tangents for one probe; after the first, whether its arguments are as they were."""
        if probe == ODD:
            (array,) = odd(self.caller, [direction])[1]
            return [unscaled(c) for c in self.claim(array)]
        moved = fresh(self.caller, direction)
        claim = self.claim(moved)
        if not probe:
            was = [(f"the tangent of {self.name}", moved, direction)]
            found.fault = written(self.bench, self.arrays, self.example, was)
        return claim

    def broken(
        self, direction: Floats, wrong: tuple[int, tuple[int, ...]], exact: float, bound: float
    ) -> Fault | None:
        """Whether an entry is off for another reason than a wrong derivative."""
        which, index = wrong

        def asked(how: str) -> float:
            if how == "plain":
                return float(self.plain(direction)[which][index])
            if how == "scaled":
                return float(self.claim(self.caller.array(scaled(direction)))[which][index])
            return float(self.claim(odd(self.caller, [direction])[1][0])[which][index])

        memory, _ = odd(self.caller, [direction.reshape(-1)[:2]])
        output = names_of(self.bench.rule.outputs, len(self.point.outputs))[which]
        text = label(output, index)
        return broken(Entry(text, self.name, "tangent", "result", exact, bound, asked, memory))

    # ------------------------------------------------------------------ the oracle

    def truth(self, direction: Floats) -> tuple[list[Floats], list[Floats]]:
        """J u of every output, and what a rule may be off it."""
        arrays = self.question.arrays
        if self.slicing is None:
            exact = self._pushed(arrays, direction)
            return exact, self._bounds(self.example, direction, exact)
        found = [np.empty(o.shape) for o in self.point.outputs]
        limits = [np.empty(o.shape) for o in self.point.outputs]

        def fill(window: slice) -> None:
            exact, bounds = self._part(direction, window)
            assert self.slicing is not None
            for k, at in enumerate(self.slicing.outputs):
                cut(found[k], at, window)[...] = exact[k]
                cut(limits[k], at, window)[...] = bounds[k]

        threads = threads_of(self.oracle.framework, self.device)
        each(fill, list(self.slicing.windows()), threads)
        return found, limits

    def at(self, direction: Floats, which: int, index: tuple[int, ...]) -> tuple[float, float]:
        """One entry of J u, for which its slice is enough, and its bound."""
        if self.slicing is None:
            exact, bounds = self.truth(direction)
            return float(exact[which][index]), float(bounds[which][index])
        at = self.slicing.outputs[which]
        window = self.slicing.around(index[at])
        inside = (*index[:at], index[at] - window.start, *index[at + 1 :])
        exact, bounds = self._part(direction, window)
        return float(exact[which][inside]), float(bounds[which][inside])

    def kinks(self, direction: Floats, claim: list[Floats], bounds: list[Floats]) -> list[Floats]:
        """Where the derivatives ahead and behind differ, and the claim lies between them."""
        nothing = [np.zeros(b.shape, bool) for b in bounds]
        reference, example = self.bench.reference, self.example
        size = sum(a.size for a in example.inputs.values())
        if size > CARRIED:
            return nothing
        if reference.forward is None:
            return [
                ~confirmed_along(self.bench, example, self.name, direction, k, c, b)
                for k, (c, b) in enumerate(zip(claim, bounds, strict=True))
            ]
        ahead, behind = (
            along(reference, example, self.name, sign * direction, self.bench.dtype)
            for sign in (1, -1)
        )
        if ahead is None or behind is None:
            return nothing
        found = []
        for (a, _), (b, _), c, bound in zip(ahead, behind, claim, bounds, strict=True):
            low, high, value = np.minimum(a, -b), np.maximum(a, -b), np.reshape(c, a.shape)
            between = (low - bound <= value) & (value <= high + bound)
            found.append(np.asarray((high - low > 2 * bound) & between))
        return found

    def at_kink(self, found: Probed) -> bool:
        """Whether the wrong entry's one-sided derivatives differ, and the claim lies between them."""
        assert found.wrong is not None
        which, index, place = found.wrong
        weights = [np.zeros(o.shape) for o in self.point.outputs]
        weights[which][index] = 1.0
        if self.bench.reference.forward is None:
            return not refuted(
                self.bench, self.point, self.name, place, weights, found.claim, found.bound
            )
        local = near(self.bench, self.point, self.name, place, weights, found.oracle)
        return local is not None and local.between(found.claim, found.bound)

    def _part(self, direction: Floats, window: slice) -> tuple[list[Floats], list[Floats]]:
        assert self.slicing is not None
        names = list(self.bench.reference.inputs)
        parts = self.slicing.parts(self.question.arrays, window)
        moved = cut(direction, self.slicing.inputs[names.index(self.name)], window)
        # Behind the inputs stand numbers, which the example has as parameters.
        inputs = dict(zip(names, parts[: len(names)], strict=True))
        exact = self._pushed(parts, moved)
        return exact, self._bounds(replace(self.example, inputs=inputs), moved, exact)

    def _pushed(self, arrays: Sequence[Any], direction: Floats) -> list[Floats]:
        question = self.question
        return push(
            self.oracle.framework, question.forward, arrays, question.wrt,
            direction.astype(np.float64), "float64", self.device,
        )  # fmt: skip

    def _bounds(self, example: Example, direction: Floats, exact: list[Floats]) -> list[Floats]:
        """What J u may be off: carried along u, once for the rule and once for the oracle."""
        reference, found = self.bench.reference, None
        if reference.forward is not None:
            found = along(reference, example, self.name, direction, self.bench.dtype)
        if found is not None:
            return [2 * error for _, error in found]
        # Without a forward to carry anything through: as many roundings as the sum has terms.
        rate = (2 + direction.size) * format_of(self.bench.dtype).unit
        return [np.asarray(rate * np.max(np.abs(e), initial=0.0) * np.ones(e.shape)) for e in exact]


def _worst(
    claim: list[Floats], exact: list[Floats], bounds: list[Floats], found: Probed,
    excused: list[Floats] | None = None,
) -> tuple[int, tuple[int, ...]] | None:  # fmt: skip
    """The output and entry that is furthest beyond its bound; None where none is."""
    worst, place = 1.0, None
    for k, (c, e, b) in enumerate(zip(claim, exact, bounds, strict=True)):
        with np.errstate(all="ignore"):
            gap = np.abs(np.asarray(c, np.float64).reshape(e.shape) - e)
            ratio = np.where(gap == 0, 0.0, np.where(np.isnan(gap), np.inf, gap / b))
            ratio = ratio if excused is None else np.where(excused[k], 0.0, ratio)
        if not ratio.size:
            continue
        found.zero |= bool((np.abs(e) > b).any())
        found.ones |= bool((np.abs(e - 1) > b).any())
        if ratio.max() > worst:
            worst = float(ratio.max())
            place = k, tuple(int(i) for i in np.unravel_index(int(np.argmax(ratio)), ratio.shape))
        else:
            found.worst = max(found.worst, float(ratio.max()))
        found.detects = max(found.detects, float(b.max()))
    if place is not None:
        found.worst = worst
    return place


def _halve(
    pusher: Pusher, direction: Floats, wrong: tuple[int, tuple[int, ...]], found: Probed
) -> None:
    """Halve the tangent until one input entry is left whose column is wrong at the place."""
    which, index = wrong
    flat = direction.reshape(-1)

    def part(low: int, high: int) -> Floats:
        kept = np.zeros(flat.size, np.int8)
        kept[low:high] = flat[low:high]
        return kept.reshape(direction.shape)

    def gap(low: int, high: int) -> float:
        moved = part(low, high)
        apart = abs(float(pusher.plain(moved)[which][index]) - pusher.at(moved, which, index)[0])
        return apart if np.isfinite(apart) else np.inf

    low, high = 0, flat.size
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if gap(low, middle) >= gap(middle, high) else (middle, high)
    unit = np.abs(part(low, low + 1))
    place = tuple(int(i) for i in np.unravel_index(low, direction.shape))
    found.wrong = (which, index, place)
    found.claim = float(pusher.plain(unit)[which][index])
    found.oracle, found.bound = pusher.at(unit, which, index)


def _surround(pusher: Pusher, claim: list[Floats], exact: list[Floats], found: Probed) -> None:
    """Name the block around the wrong entry, of the input and of the result."""
    assert found.wrong is not None
    which, index, place = found.wrong
    shape = pusher.example.inputs[pusher.name].shape
    if max(int(np.prod(shape)), exact[which].size) > extent.ENTRIES:
        return

    def wrong(other: tuple[int, ...]) -> bool:
        moved = np.zeros(shape, np.int8)
        moved[other] = 1
        value, bound = pusher.at(moved, which, index)
        return not abs(float(pusher.plain(moved)[which][index]) - value) <= bound

    block = extent.around(shape, place, wrong)
    output = names_of(pusher.bench.rule.outputs, len(exact))[which]
    off = extent.off(claim[which], exact[which])
    found.extent = (
        f"{extent.shown(pusher.name, block)} is the block of the input that is wrong there, and "
        f"{extent.shown(output, off)} that of the result"
    )
