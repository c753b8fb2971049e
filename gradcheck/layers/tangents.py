"""A jvp at large shapes: signed random tangents, compared entry by entry, then bisected."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.layers.along import along
from gradcheck.layers.probes import PROBES, Probed
from gradcheck.layers.pullback import push
from gradcheck.running import format_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcheck.layers.bench import Bench, Point
    from gradcheck.oracles import Oracle

    Floats = np.ndarray[Any, np.dtype[Any]]


def by_tangents(
    bench: Bench, point: Point, name: str, oracle: Oracle, seed: int, probes: int = PROBES
) -> Probed:
    """A jvp at a large shape: tangents of random signs, compared entry by entry, then bisected.

    The forward carried along the tangent gives the bound of every entry of J u at once.
    """
    found, start = Probed(), time.perf_counter()
    rng, example = np.random.default_rng(seed), point.example
    question = bench.reference.question(oracle, example, name, 0, "float64")

    def pair(direction: Floats) -> tuple[list[Floats], list[Floats]]:
        device = bench.device if oracle.framework != "autograd" else "cpu"
        exact = push(
            oracle.framework, question.forward, question.arrays, question.wrt, direction, "float64",
            device,
        )  # fmt: skip
        return _tangents(bench, point, name, direction), exact

    for _ in range(probes):
        direction = np.where(rng.integers(0, 2, example.inputs[name].shape) > 0, 1.0, -1.0)
        claim, exact = pair(direction)
        bounds = _along_bounds(bench, point, name, direction, exact)
        wrong = _worst(claim, exact, bounds, found)
        if wrong is not None:
            _halve(pair, direction, wrong, found)
            which, index, place = found.wrong  # type: ignore[misc]
            unit = np.zeros(direction.shape)
            unit[place] = 1.0
            found.bound = float(_along_bounds(bench, point, name, unit, exact)[which][index])
            break
        found.probes += 1
    found.seconds = time.perf_counter() - start
    return found


def _tangents(bench: Bench, point: Point, name: str, direction: Floats) -> list[Floats]:
    caller, example = bench.caller, point.example
    vectors = [
        caller.array(direction if n == name else np.zeros(example.inputs[n].shape))
        for n in bench.rule.differentiable
    ]
    raw = caller.push(vectors, caller.arrays(example), example.params)
    return [caller.host(r) for r in raw]


def _along_bounds(
    bench: Bench, point: Point, name: str, direction: Floats, exact: list[Floats]
) -> list[Floats]:
    """What J u may be off: carried along u, once for the rule and once for the oracle."""
    found = None
    if bench.reference.forward is not None:
        found = along(bench.reference, point.example, name, direction, bench.dtype)
    if found is not None:
        return [2 * error for _, error in found]
    # Without a forward to carry anything through: as many roundings as the sum has terms.
    rate = (2 + direction.size) * format_of(bench.dtype).unit
    return [np.asarray(rate * np.max(np.abs(e), initial=0.0) * np.ones(e.shape)) for e in exact]


def _worst(
    claim: list[Floats], exact: list[Floats], bounds: list[Floats], found: Probed
) -> tuple[int, tuple[int, ...]] | None:
    """The output and entry that is furthest beyond its bound; None where none is."""
    worst, place = 1.0, None
    for k, (c, e, b) in enumerate(zip(claim, exact, bounds, strict=True)):
        with np.errstate(all="ignore"):
            gap = np.abs(np.asarray(c, np.float64).reshape(e.shape) - e)
            ratio = np.where(gap == 0, 0.0, np.where(np.isnan(gap), np.inf, gap / b))
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
    pair: Callable[[Floats], tuple[list[Floats], list[Floats]]],
    direction: Floats,
    wrong: tuple[int, tuple[int, ...]],
    found: Probed,
) -> None:
    """Halve the tangent until one input entry is left whose column is wrong at the place."""
    which, index = wrong

    def gap(low: int, high: int) -> tuple[float, float, float]:
        part = np.zeros(direction.size)
        part[low:high] = direction.reshape(-1)[low:high]
        claim, exact = pair(part.reshape(direction.shape))
        c, e = float(claim[which][index]), float(exact[which][index])
        return (abs(c - e) if np.isfinite(c) else np.inf), c, e

    low, high = 0, direction.size
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if gap(low, middle)[0] >= gap(middle, high)[0] else (middle, high)
    sign = float(direction.reshape(-1)[low])
    _, claim, exact = gap(low, low + 1)
    place = tuple(int(i) for i in np.unravel_index(low, direction.shape))
    found.wrong = (which, index, place)
    found.claim, found.oracle = sign * claim, sign * exact
