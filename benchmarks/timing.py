"""Contenders timed in turn: what is compared in the benchmarks of speed, and how."""

from __future__ import annotations

import gc
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jax  # noqa: TID253
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    Call = Callable[[], Any]


@dataclass
class Case:
    """Contenders of one task, timed in turn.

    Attributes:
        task: Which question of the four it belongs to.
        name: Sizes and framework.
        calls: What is timed, by name; "compiled" is ours.
        limits: The ratio compiled / other that is aimed at, by name of the other.
    """

    task: str
    name: str
    calls: dict[str, Call]
    limits: dict[str, float] = field(default_factory=dict)


@dataclass
class Result:
    """What a case took.

    Attributes:
        task: As in `Case`.
        name: As in `Case`.
        seconds: The time of each contender in each round.
        ratios: Quartiles of compiled / other, round by round.
        limits: As in `Case`.
        writing: The time of merely writing the result, in units of each rival's.
    """

    task: str
    name: str
    seconds: dict[str, list[float]]
    ratios: dict[str, tuple[float, float, float]]
    limits: dict[str, float]
    writing: dict[str, float] = field(default_factory=dict)

    def verdict(self, other: str) -> str:
        """Whether the limit is met, within the quartiles or not.

        Memory is the limit where no array could be written within it: writing as many bytes once alone
        takes a larger share of the rival's time, and what is compiled takes no longer than that.
        """
        low, middle, _ = self.ratios[other]
        if other not in self.limits:
            return ""
        limit = self.limits[other]
        if middle <= limit:
            return f"met (≤ {limit:g})"
        if low <= limit:
            return f"within the spread (≤ {limit:g})"
        share = self.writing.get(other, 0.0)
        if share > limit and self.ratios["writing"][1] <= 1:
            return f"memory is the limit (writing the bytes alone takes {share:.2f} of its time)"
        return f"NOT met (≤ {limit:g})"


def measure(case: Case, rounds: int, seconds: float) -> Result:
    """Every contender once a round; a quick one several times, until `seconds` are filled."""
    counts = {}
    for name, call in case.calls.items():
        call()
        call()
        start = time.perf_counter()
        call()
        once = time.perf_counter() - start
        counts[name] = max(1, min(2000, int(seconds / max(once, 1e-7))))
    taken: dict[str, list[float]] = {name: [] for name in case.calls}
    order = list(case.calls)
    shuffle = random.Random(0).shuffle
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            shuffle(order)
            for name in order:
                taken[name].append(timed(case.calls[name], counts[name]))
    finally:
        gc.enable()
    ratios = {n: _quartiles(taken["compiled"], t) for n, t in taken.items() if n != "compiled"}
    writing = {}
    if "writing" in taken:
        shares = {n: _quartiles(taken["writing"], t)[1] for n, t in taken.items()}
        writing = {n: s for n, s in shares.items() if n not in ("writing", "compiled")}
    return Result(case.task, case.name, taken, ratios, case.limits, writing)


def timed(call: Call, count: int) -> float:
    """Seconds of one call, the mean of several."""
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def _quartiles(ours: list[float], theirs: list[float]) -> tuple[float, float, float]:
    ratios = np.array(ours) / np.array(theirs)
    low, middle, high = np.percentile(ratios, [25, 50, 75])
    return float(low), float(middle), float(high)


def ready(function: Callable[..., Any], *args: Any, **values: Any) -> Call:
    """A call that waits for JAX's result."""
    return lambda: jax.block_until_ready(function(*args, **values))
