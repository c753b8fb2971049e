"""Examples beyond the blocks of kernels: one axis of 1025 entries, the others tiny.

A kernel that forgets all but its first block of 64, 128 or 1024 columns is right at every small shape. Each
axis that may be so large is so in turn, and the rule is then asked by signed probes: a Jacobian of a million
entries is never written down. Where one example would cost too much, the report names the axis and says so.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.algebra.shapes import axes_of, base_axis, is_anonymous, leading_axes
from gradcheck.checking.pool import BEYOND, BLOCK, beyond_block
from gradcheck.checking.run import reason_of
from gradcheck.drawing import PLAIN, generate
from gradcheck.errors import GradcheckError
from gradcheck.palettes import round_to

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck.checking.search import Example, Search
    from gradcheck.layers.bench import Bench, Point

# Who is asked at these shapes, the cheapest first: JAX compiles every operation anew for each of them.
CHEAPEST = ("autograd", "torch", "tensorflow", "jax")
# Where the largest costs too much or is excluded, a smaller one: one more than a power of two, each.
_SIZES = (BLOCK, 513, 257, 129, 65)
# Passes of forward and backward that a gradient takes, each as long as a few forward passes.
_PASSES = 40
# How often a forward that seems slow is timed again.
_AGAIN = 2


@dataclass(frozen=True)
class _Allowed:
    """What a profile may spend on one example: entries of inputs and outputs, and seconds."""

    entries: int
    seconds: float


_ALLOWED = {
    "quick": _Allowed(1 << 14, 0.5),
    "standard": _Allowed(1 << 17, 2.0),
    "thorough": _Allowed(1 << 22, 30.0),
}


@dataclass
class Blocks:
    """Examples with one axis beyond every usual block.

    Attributes:
        examples: One for each axis that can be so large.
        absent: Why there is none with the largest size, by axis.
        sound: The inputs whose gradients an oracle has found right there.
    """

    examples: list[Example] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    sound: set[str] = field(default_factory=set)


def blocks(strategy: Search, bench: Bench, framework: str, profile: str, seed: int) -> Blocks:
    """One example for each axis, where one can be had at the cost that the profile allows.

    Args:
        strategy: What examples are drawn from.
        bench: The rule and its reference.
        framework: Of the oracle that is asked.
        profile: How much may be spent.
        seed: For the values.
    """
    found, allowed = Blocks(), _ALLOWED[profile]
    compiled = "jax" in (framework, bench.rule.framework) and profile != "thorough"
    for axis in _axes(strategy):
        if compiled and found.examples:
            found.absent[axis] = "JAX would compile all anew, which the thorough profile does"
            continue
        for size in _SIZES:
            example = _drawn(strategy, axis, size, allowed, seed)
            why = example if isinstance(example, str) else _too_much(bench, example, allowed)
            if why:
                found.absent.setdefault(axis, why)
            elif not isinstance(example, str):
                bench.probed.add(example)
                found.examples.append(example)
                break
    return found


def _axes(strategy: Search) -> list[str]:
    """The axes whose sizes are free, and the first of the leading ones; the last axis first."""
    space = strategy.space
    shapes = [axes_of(domain.shape) for domain in space.inputs.values()]
    own = {base_axis(axis) for shape in shapes for axis in shape}
    leading = leading_axes(1) if space.dotted else ()
    return [*reversed([a for a in space.axes if a in own]), *leading]


def _drawn(strategy: Search, axis: str, size: int, allowed: _Allowed, seed: int) -> Example | str:
    """An example, or why there is none."""
    sizes, why = beyond_block(strategy.space, axis, size)
    if sizes is None:
        return f"nothing can be drawn: {why} excludes it"
    entries = strategy.space.entries(sizes)
    if entries > allowed.entries:
        return _many("inputs", entries, allowed)
    plain = replace(strategy, features=(PLAIN,))
    drawn = generate(plain.at(sizes), 2, seed)  # the first is the simplest, of zeros
    if not drawn:
        return "no example can be drawn from the domains"
    return _apart(drawn[-1], strategy, seed)


def _apart(example: Example, strategy: Search, seed: int) -> Example:
    """The example without zeros and ties, which are kinks of many forwards; small examples have those.

    Among a thousand short decimals there are ties, so that a maximum of them would tell nothing. The new
    values lie between the smallest and the largest of the old ones, where the domain is sure to be.
    """
    rng, inputs = np.random.default_rng(seed), dict(example.inputs)
    for name, domain in strategy.inputs.items():
        if domain.source is None and domain.kind in ("real", "positive") and inputs[name].size:
            array = inputs[name]
            drawn = rng.uniform(array.min(), array.max(), array.shape)
            inputs[name] = round_to(drawn, strategy.dtype)
    return replace(example, inputs=inputs)


def _too_much(bench: Bench, example: Example, allowed: _Allowed) -> str:
    """Why a rule is not asked at an example; "" where it is."""
    try:
        seconds, outputs = _timed(bench, example)
        for _ in range(
            _AGAIN
        ):  # the first call may have been compiling, or another program running
            if _PASSES * seconds > allowed.seconds:
                seconds = min(seconds, _timed(bench, example)[0])
    except (Exception, SystemExit) as error:  # noqa: BLE001  a forward may refuse a size in its own way
        first = str(error).strip().splitlines()[:1]
        return f"the forward raises {type(error).__name__}{''.join(f': {t}' for t in first)}"
    if outputs > allowed.entries:
        return _many("outputs", outputs, allowed)
    if _PASSES * seconds > allowed.seconds:
        return (
            f"the passes would take longer than the {allowed.seconds:g} s that the profile allows"
        )
    return ""


def _timed(bench: Bench, example: Example) -> tuple[float, int]:
    start = time.perf_counter()
    outputs = bench.reference.values(example, bench.dtype, bench.device)
    return time.perf_counter() - start, sum(o.size for o in outputs)


def _many(what: str, entries: int, allowed: _Allowed) -> str:
    most = f"the {allowed.entries:,} that the profile allows"
    return f"the {what} would have {entries:,} entries, more than {most}"


def at(bench: Bench, example: Example) -> Point:
    """A rule at an example; where it raises, the error says at which sizes."""
    try:
        return bench.at(example)
    except GradcheckError:
        raise
    except Exception as error:
        raise at_sizes(error, example) from error


def at_sizes(error: Exception, example: Example) -> GradcheckError:
    """An error of a rule or an oracle, with the sizes at which it was raised."""
    own = {a: n for a, n in example.sizes.items() if not is_anonymous(a)}
    text = str(error) if isinstance(error, GradcheckError) else reason_of(error)
    if not own:
        return GradcheckError(text)
    where = ", ".join(f"{axis} = {size}" for axis, size in own.items())
    large = max(own, key=lambda axis: own[axis])
    meant, most = (
        f"if the rule is not meant for {'so many' if own[large] > BEYOND else 'such sizes'}",
        own[large],
    )
    said = f'"{large} < {most}"' if most > BEYOND else f'"{large} > {most}", say'
    return GradcheckError(f"at {where}: {text}; {meant}, say where={said}")


def untried(found: Blocks, examples: Sequence[Example]) -> list[str]:
    """What a report says of axes that were never so large.

    Args:
        found: The examples beyond blocks, and why some are absent.
        examples: The others.
    """
    drawn = [*examples, *found.examples]
    lines = []
    for axis, why in found.absent.items():
        most = max((e.sizes.get(axis, 0) for e in drawn), default=0)
        tried = BEYOND - 1 if most == BEYOND else most
        lines.append(f"nothing beyond {tried} was tried in {axis}: at {axis} = {BLOCK} {why}")
    return lines
