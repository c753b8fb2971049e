"""A jvp at large shapes: signed random tangents, compared entry by entry, then bisected.

As for cotangents (`gradcheck.layers.probes`), an error δ in a single entry of the Jacobian changes one entry
of J u by ±δ. The bound of every entry of J u is carried through the forward along u, once for the rule and
once for the oracle; both go slice by slice where the forward allows it (`gradcheck.layers.slices`). The
second tangent is asked for as a multiple in other memory, and what is off is asked again, as there.

Within the bound of a long sum, an entry that is further off than the framework's own forward mode in a lower
dtype leads one to expect (the *screen*, `gradcheck.layers.screens`) is asked for parts of the tangent, whose
bounds are smaller. What is off leads to a column of the Jacobian, and the column is looked at as a whole:
where all that is off in it lies at kinks, it is left out of the tangent, which is asked again. So no kink
hides an error beside it.
"""

from __future__ import annotations

import time
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.checking.compare import at_largest
from gradcheck.layers import extent, kinks, precision
from gradcheck.layers.additive import not_additive
from gradcheck.layers.asking import Malformed
from gradcheck.layers.halving import Line
from gradcheck.layers.large import (
    SCALE,
    Entry,
    broken,
    fresh,
    label,
    odd,
    scaled,
    unscaled,
    written,
)
from gradcheck.layers.probed import Probed
from gradcheck.layers.probes import ODD, PROBES, signs_of
from gradcheck.layers.pullback import pullback
from gradcheck.layers.pushing import ERROR, VALUE, WIDE, Compared, Pushing
from gradcheck.running import format_of

if TYPE_CHECKING:
    from gradcheck.layers.bench import Bench, Point
    from gradcheck.layers.faults import Fault
    from gradcheck.oracles import Oracle

    Floats = np.ndarray[Any, np.dtype[Any]]
    Place = tuple[int, ...]
    Row = tuple[int, Place]

# So many columns with kinks are left out, as many as entries of a gradient are looked at.
_COLUMNS = 64


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
    found, start = Probed(), time.perf_counter()
    pusher = Pusher(bench, point, name, oracle)
    if not pusher.live or not point.example.inputs[name].size:
        found.trouble = "the Jacobian has no entries"
        return found
    try:
        rng = np.random.default_rng(seed)
        pusher.run(rng, probes, found)
        first = next(n for n in bench.rule.differentiable if point.example.inputs[n].size)
        if name == first and not (found.trouble or found.fault or found.wrong):
            found.fault = not_additive(bench, point, oracle, rng)
    except Malformed as error:
        found.fault, found.wrong = error.fault, None
    found.seconds = time.perf_counter() - start
    return found


class Pusher(Pushing):
    """Compares a rule with an oracle in forward mode; what it takes, `Pushing` says."""

    def __init__(self, bench: Bench, point: Point, name: str, oracle: Oracle) -> None:
        super().__init__(bench, point, name, oracle)
        self.left_out: list[Place] = []
        self.infinite = False

    def run(self, rng: np.random.Generator, probes: int, found: Probed) -> None:
        """Several probes; on a mismatch, down to the entry."""
        start = time.perf_counter()
        for probe in range(probes):
            direction = signs_of(rng, self.shape)
            for place in self.left_out:
                direction[place] = 0
            compared = self._asked(probe, direction, found)
            if not probe:
                found.predicted = probes * (time.perf_counter() - start)
                found.takes_too_long()
            if found.trouble or found.fault or self._ends(probe, compared, found):
                return
            found.probes += 1
        found.detects = max(found.detects, self._alone(compared))
        if self.infinite:
            found.trouble = "the derivative is not finite"

    def _asked(self, probe: int, direction: Floats, found: Probed) -> Compared:
        """One tangent; after the first, whether the rule's arguments are as they were."""
        exact = self.truth(direction)
        if not self.own:
            self.measure(direction, exact)
        if probe == ODD:
            claim = self._quarter(odd(self.caller, [direction])[1][0], direction, exact)
        else:
            given = self.given(fresh(self.caller, direction))
            claim = self.pushed(given)
            if not probe:
                found.fault = self._written(given, direction)
        return self.bounded(Compared(direction, claim, exact))

    def _quarter(self, multiple: Any, direction: Floats, exact: list[Floats]) -> list[Floats]:
        """What a linear rule gives for a tangent, asked for its multiple."""
        return [
            unscaled(c, e, self.bench.dtype, lambda k=k: self.plain(direction)[k])  # type: ignore[misc]
            for k, (c, e) in enumerate(zip(self.claim(multiple), exact, strict=True))
        ]

    def _written(self, given: list[Any], direction: Floats) -> Fault | None:
        """An input or a tangent that the call has changed."""
        names, inputs = self.bench.rule.differentiable, self.example.inputs
        old = [direction if n == self.name else np.zeros(inputs[n].shape) for n in names]
        named = [f"the tangent of {n}" for n in names]
        was = list(zip(named, given, old, strict=True))
        return written(self.bench, self.arrays, self.example, was)

    def gap(self, direction: Floats, row: Row) -> float:
        """How far rule and oracle are apart at an entry of J u; infinitely where that is no number."""
        which, index = row
        gap = abs(float(self.plain(direction)[which][index]) - self.truth_at(direction, *row))
        return gap if np.isfinite(gap) else np.inf

    def _alone(self, compared: Compared) -> float:
        """The bound of single entries of the Jacobian, in the row in which that of J u is largest.

        A larger gap than the part of J u from which on an example says too little never counts as agreement,
        whatever the bound.
        """
        widest = max(self._single(compared, k) for k in self.live)
        return min(widest, precision.weak_from(self.bench.dtype) * self._top(compared))

    def _single(self, compared: Compared, k: int) -> float:
        """Of an output: halves with the larger bound, until that is no more than what is not looked at."""
        bounds = np.where(np.isfinite(compared.exact[k]), compared.bounds[k], 0.0)
        row, limit = (k, at_largest(bounds)), float(compared.limits[k].max())
        bound = float(bounds[row[1]])
        line = Line([compared.direction])
        if limit < bound < np.inf:
            for *_, bound in line.halves(lambda p: self.bound_at(p[0], row, compared)):
                if bound <= limit:
                    break
        return bound

    def _top(self, compared: Compared) -> float:
        exact = (compared.exact[k] for k in self.live)
        return max(float(np.max(np.abs(e), initial=0.0, where=np.isfinite(e))) for e in exact)

    # ------------------------------------------------------------------ comparison

    def _ends(self, probe: int, compared: Compared, found: Probed) -> bool:
        """Whether one probe ends the comparison; columns with kinks are left out of it on the way."""
        while (suspect := self._suspect(compared)) is not None:
            which, index, off = suspect
            row = which, index
            told = off or self._lost(compared, row)
            part = compared.direction if told else self._narrowed(compared, row)
            if part is None:
                break
            if len(self.left_out) == _COLUMNS and off:
                row = self._certain(compared) or row
            if not self._explained(part, row, compared, found):
                return True
            if len(self.left_out) > _COLUMNS:
                found.trouble = f"more than {_COLUMNS} entries lie at kinks"
                return True
            compared.direction[self.left_out[-1]] = 0
            compared = self._asked(probe or PROBES, compared.direction, found)
        self._agrees(compared, found)
        return False

    def _suspect(self, compared: Compared) -> tuple[int, Place, bool] | None:
        """The entry of J u that is furthest beyond its bound; else of those beyond the screen the worst."""
        ranked = []
        for k in self.live:
            size, bound = compared.gaps(k), compared.bounds[k]
            off = bool((size > bound).any())
            size[~(size > (bound if off else compared.limits[k]))] = 0
            if off:
                with np.errstate(all="ignore"):
                    np.divide(size, bound, where=size > 0, out=size)
            index = at_largest(size)
            ranked.append((off, float(size[index]), k, index))
        off, largest, k, index = max(ranked)
        return (k, index, off) if largest else None

    def _lost(self, compared: Compared, row: Row) -> bool:
        """In half precision, where no bound is finite: whether an entry that nothing cancels is gone."""
        which, index = row
        if self.bench.dtype not in precision.LOW or np.isfinite(compared.bounds[which][index]):
            return False
        weights = [np.zeros(s) for s in self.shapes]
        weights[which][index] = 1.0
        framework = self.oracle.framework
        question = self.bench.reference.question(self.oracle, self.example, self.name, 0, WIDE)
        asked = question.forward, question.arrays, question.wrt, WIDE, self.device
        terms = np.abs(pullback(framework, *asked)(weights) * compared.direction).sum()
        exact, own = compared.exact[which], float(np.max(self.own[which]))
        paths = np.full(exact.shape, terms)
        gone = precision.lost(compared.claim[which], exact, own, self.bench.dtype, paths)
        return bool(gone[index])

    def _agrees(self, compared: Compared, found: Probed) -> None:
        """Count a probe on which nothing is wrong, and what it would have seen."""
        slack, worst, suspects, unit = 0.0, 0.0, False, format_of(self.bench.dtype).unit
        for k in self.live:
            exact, limit, gap = compared.exact[k], compared.limits[k], compared.gaps(k)
            known = np.isfinite(exact)
            self.infinite |= not known.all()
            over = gap > limit
            suspects |= bool(over.any())
            # What stays beyond the screen is explained by its bound: it counts as what was not seen. And less
            # than a rounding of J u is lost in it.
            seen = np.where(over, gap, limit) + unit * np.abs(np.where(known, exact, 0.0))
            slack = max(slack, float(seen.max()))
            with np.errstate(all="ignore"):
                ratio = np.where(gap == 0, 0.0, gap / compared.bounds[k])
                ratio[np.isnan(ratio)] = np.inf
                found.zero |= bool((known & (np.abs(exact) > limit)).any())
                found.ones |= bool((known & (np.abs(exact - 1) > limit)).any())
            worst = max(worst, float(ratio.max()))
        top = self._top(compared)
        found.measured |= suspects and not compared.carried
        found.saw(slack, worst, precision.weak_from(self.bench.dtype) * top)

    def _certain(self, compared: Compared) -> Row | None:
        """Of many entries that are off, one that no kink explains: derivatives along ±u tell."""
        off = {k: compared.gaps(k) > compared.bounds[k] for k in self.live}
        if compared.carried:
            fits = self._between(compared, off)
            wrong = {k: off[k] & ~fits[k] for k in off}
        else:
            asked = self.bench, self.example, self.name, compared.direction
            pairs = {k: (compared.claim[k], compared.bounds[k]) for k in off}
            wrong = {k: off[k] & kinks.confirmed_along(*asked, k, *pairs[k]) for k in off}
        return next(((k, at_largest(w)) for k, w in wrong.items() if w.any()), None)

    def _narrowed(self, compared: Compared, row: Row) -> Floats | None:
        """A part of the tangent for which an entry is beyond its bound; None where none was found.

        The bound of a sum over many entries may hide an error in one of them; halving the tangent makes the
        bound smaller, and not that error.
        """
        limit = float(compared.limits[row[0]][row[1]])
        line = Line([compared.direction])
        for _, _, (part,), gap in line.halves(lambda p: self.gap(p[0], row)):
            if gap <= limit:
                return None
            if gap > self.bound_at(part, row, compared):
                return part
        return None

    # ------------------------------------------------------------------ what is off

    def _explained(self, part: Floats, row: Row, compared: Compared, found: Probed) -> bool:
        """Whether what is off lies at kinks of one column, which is left out from now on."""
        bound, limit = self.bound_at(part, row, compared), float(compared.limits[row[0]][row[1]])
        place = self._located(part, row)
        column = self._column(place, compared)
        if not np.isfinite(bound):  # what is gone, though nothing cancels it
            bound, column.bounds = limit, column.limits
        off = {k: column.gaps(k) > column.bounds[k] for k in self.live}
        alike, why = self._kinks(place, column, off)
        wrong = {k: off[k] & ~alike[k] for k in self.live}
        count = sum(int(o.sum()) for o in off.values())
        if count and not why and not any(w.any() for w in wrong.values()):
            found.kinks += count
            self.left_out.append(place)
            return True
        found.fault = self._broken(part, row, bound)
        if found.fault is not None:
            return False
        if why:
            found.trouble = why
        elif not count:
            self._together(part, row, bound, found)
        else:
            self._refute(place, row, column, wrong, compared, found)
        found.measured |= not compared.carried
        return False

    def _located(self, part: Floats, row: Row) -> Place:
        """The column in which an entry of J u is off: its own, if half of the gap is there, or by halving."""
        which, own = row
        if self.shapes[which] == self.shape and part[own]:
            gap = self.gap(self._unit(own), row)
            if gap >= self.gap(part, row) / 2:
                return own
        line = Line([part])
        halves = list(line.halves(lambda p: self.gap(p[0], row)))
        return line.output(halves[-1][0] if halves else 0)[1]

    def _unit(self, place: Place) -> Floats:
        """The tangent that moves one entry."""
        unit = np.zeros(self.shape, np.int8)
        unit[place] = 1
        return unit

    def _column(self, place: Place, compared: Compared) -> Compared:
        """One column of the Jacobian."""
        unit = self._unit(place)
        column = Compared(unit, self.plain(unit), self.truth(unit))
        return self.bounded(column, compared)

    def _kinks(
        self, place: Place, column: Compared, off: dict[int, Floats]
    ) -> tuple[dict[int, Floats], str]:
        """Where a column lies at kinks, with the claim as good as the oracle's; or why that is not known."""
        if not any(o.any() for o in off.values()):
            return off, ""
        if not column.carried:
            return self._jumps(place, column, off)
        return self._between(column, off), ""

    def _between(self, column: Compared, off: dict[int, Floats]) -> dict[int, Floats]:
        """Where claims lie between one-sided derivatives, or are what a chain rule may take at ties."""
        if not column.ties:
            return {k: np.zeros(o.shape, bool) for k, o in off.items()}
        (ahead, _), (behind, _) = (self.carried(s * column.direction, VALUE) for s in (1, -1))
        chosen, _ = self.carried(column.direction, VALUE, ERROR, every=True)
        found = {}
        with np.errstate(all="ignore"):
            for k in off:
                claim, bound = column.claim[k], column.bounds[k]
                ends = ahead[k][0], -behind[k][0]
                low, high = np.minimum(*ends), np.maximum(*ends)
                fits = (low - bound <= claim) & (claim <= high + bound)
                value, slack = chosen[k]
                one = np.abs(claim - value) <= slack + bound
                fits |= (high - low > 2 * bound) & one
                found[k] = np.asarray(fits & np.isfinite(claim))
        return found

    def _jumps(
        self, place: Place, column: Compared, off: dict[int, Floats]
    ) -> tuple[dict[int, Floats], str]:
        """Of a forward that nothing can be carried through: a kink must show, and so must an error."""
        size = max(1.0, abs(float(self.example.inputs[self.name][place])))

        @cache
        def moved(step: float) -> list[Floats]:
            return self.truth(column.direction, moved=(place, step))

        def entry(k: int, index: Place, step: float) -> float:
            return float(moved(step)[k][index])

        found = {k: np.zeros(o.shape, bool) for k, o in off.items()}
        places = [(k, tuple(index)) for k in off for index in np.argwhere(off[k]).tolist()]
        for k, index in places:
            claim, bound = float(column.claim[k][index]), float(column.bounds[k][index])
            jump = kinks.jumps(partial(entry, k, index), claim, bound, size)
            found[k][index] = jump == "kink"
            if not jump:
                weights = [np.zeros(s) for s in self.shapes]
                weights[k][index] = 1.0
                wrong = kinks.refuted(
                    self.bench, self.point, self.name, place, weights, claim, bound
                )
                return found, "" if wrong else kinks.unlike(self.name, place, self.oracle.name)
        return found, ""

    # ------------------------------------------------------------------ what is said of it

    def _broken(self, direction: Floats, row: Row, bound: float) -> Fault | None:
        """Whether an entry is off for another reason than a wrong derivative."""
        which, index = row
        truth = self.truth(direction)

        def asked(how: str) -> float:
            if how == "plain":
                return float(self.plain(direction)[which][index])
            if how == "scaled":
                multiple = self.caller.array(scaled(direction))
            else:
                _, (multiple,) = odd(self.caller, [direction])
            return SCALE * float(self._quarter(multiple, direction, truth)[which][index])

        memory, _ = odd(self.caller, [direction.reshape(-1)[:2]])
        text, exact = label(self.names[which], index), float(truth[which][index])
        return broken(Entry(text, self.name, "tangent", "result", exact, bound, asked, memory))

    def _together(self, part: Floats, row: Row, bound: float, found: Probed) -> None:
        """Say that an entry of J u is beyond its bound, though no single entry of the Jacobian is."""
        which, index = row
        place = at_largest(np.abs(part))
        unit = self._unit(place)
        found.wrong = (which, index, place)
        found.claim = float(self.plain(unit)[which][index])
        found.oracle, found.bound = self.truth_at(unit, which, index), bound
        found.together(f"{label(self.names[which], index)} of J u", self.gap(part, row), bound)

    def _refute(
        self, place: Place, row: Row, column: Compared, wrong: dict[int, Floats],
        compared: Compared, found: Probed,
    ) -> None:  # fmt: skip
        """Name the wrong entry of a column: the one that led there, or the one that is furthest off."""
        which, index = row
        if not wrong[which][index]:
            gaps = {k: np.where(wrong[k], column.gaps(k), -1.0) for k in wrong}
            which = max(gaps, key=lambda k: float(gaps[k].max()))
            index = at_largest(gaps[which])
        found.wrong = (which, index, place)
        found.claim = float(column.claim[which][index])
        found.oracle = float(column.exact[which][index])
        found.bound = float(column.bounds[which][index])
        gap = float(column.gaps(which)[index])
        found.worst = gap / found.bound if found.bound else np.inf
        self._surround(place, (which, index), compared, found)

    def _surround(self, place: Place, row: Row, compared: Compared, found: Probed) -> None:
        """Name the block around the wrong entry, of the input and of the result."""
        which, _ = row
        if max(int(np.prod(self.shape)), compared.exact[which].size) > extent.ENTRIES:
            return

        def wrong(other: Place) -> bool:
            unit = self._unit(other)
            return not self.gap(unit, row) <= self.bound_at(unit, row, compared)

        block = extent.around(self.shape, place, wrong)
        off = extent.off(compared.claim[which], compared.exact[which])
        found.extent = (
            f"{extent.shown(self.name, block)} is the block of the input that is wrong there, and "
            f"{extent.shown(self.names[which], off)} that of the result"
        )
