"""The rule's own contract at a large shape: a handful of calls, no array but gradients.

One call with zeros tells structure and what ignores the cotangent. One more, with −4 times the first
probe's cotangent in other memory, tells at once whether the rule is linear, repeats itself and reads
strides: where its gradient is −4 times the first, all three hold for that cotangent. Only where it is
not are they asked one by one.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.layers.claimed import names_of
from gradcheck.layers.faults import Fault, structure
from gradcheck.layers.layouts import strided
from gradcheck.layers.tiles import compared, largest

if TYPE_CHECKING:
    from gradcheck.layers.bench import Bench, Point
    from gradcheck.layers.probes import Prober

    Floats = np.ndarray[Any, np.dtype[Any]]

# A power of two: no rounding of its own. Signs alone would not tell v³ from v.
_SCALE = -4.0


def with_zeros(bench: Bench, point: Point, name: str) -> tuple[Fault | None, float]:
    """What is wrong with what the rule returns for zeros, and how many seconds the call took."""
    caller, example, rule = bench.caller, point.example, bench.rule
    inputs = [example.inputs[n].shape for n in rule.differentiable]
    outputs = [o.shape for o in point.outputs]
    vjp = rule.vjp is not None
    vectors = [caller.array(np.zeros(s, np.float32)) for s in (outputs if vjp else inputs)]
    arrays = caller.arrays(example)
    start = time.perf_counter()
    raw = (caller.pull if vjp else caller.push)(vectors, arrays, example.params)
    seconds = time.perf_counter() - start
    names = rule.differentiable if vjp else names_of(rule.outputs, len(outputs))
    what = "gradient" if vjp else "tangent"
    faults = structure(raw, names, inputs if vjp else outputs, caller, what=what)
    if not any(f.input == "" for f in faults):
        found = [
            _nonzero(caller.backend.to_numpy(r), n, what) for r, n in zip(raw, names, strict=True)
        ]
        faults += [f for f in found if f is not None]
    return next((f for f in faults if not vjp or f.input in ("", name)), None), seconds


def _nonzero(raw: Any, name: str, what: str) -> Fault | None:
    """A result that is not zero for zeros; what is not finite is for the values to refute."""
    found = np.asarray(raw)
    if not np.any(found) or not np.all(np.isfinite(found)):
        return None
    place = tuple(int(i) for i in np.unravel_index(int(np.argmax(found != 0)), found.shape))
    given = "cotangent" if what == "gradient" else "tangent"
    return Fault(
        "linearity", name,
        f"a {given} of zeros gives {_at(name, place)} the {what} {float(found[place]):.6g} instead of 0: "
        f"the rule ignores the {given}, or adds to it; it must be linear in it",
    )  # fmt: skip


def contract(prober: Prober) -> tuple[Fault | None, Floats]:
    """Linearity, a second call, a strided cotangent and arguments left alone, at the first probe.

    Returns:
        What is broken, and the gradient of the first probe.
    """
    signs = prober.signs(0)
    given = prober.given(signs)
    first = np.array(prober.pulled(given))
    written = _written(prober, given, signs)
    if written is not None:
        return written, first
    scaled = [_SCALE * s.astype(np.float32) for s in signs]
    odd = prober.pulled(_odd(prober, scaled)[1])
    if _apart(prober, odd, first, _SCALE) is None:
        return None, first
    del odd
    return _which(prober, signs, scaled, first), first


def _odd(prober: Prober, vectors: list[Floats]) -> tuple[str, list[Any]]:
    """The cotangents in memory that is not contiguous, where the framework has such."""
    pairs = [strided(prober.bench.caller, vector) for vector in vectors]
    return pairs[0][0], [odd for _, odd in pairs]


def _apart(prober: Prober, found: Floats, first: Floats, scale: float) -> tuple[int, ...] | None:
    """The entry furthest from `scale` times the first gradient, beyond what rounding explains."""
    wanted = first if scale == 1 else first * first.dtype.type(scale)
    with np.errstate(all="ignore"):
        limits = 2 * abs(scale) * prober.screen(largest(first))
        gaps = compared(found, wanted, limits, 1)
    if not gaps.suspects:
        return None
    place = tuple(int(i) for i in np.unravel_index(gaps.suspects[0], first.shape))
    limit = float(limits.reshape(-1)[gaps.suspects[0] // max(first.shape[-1:], default=1)])
    # Both may be off by the derived bound of that entry.
    bound = max(limit, 2 * abs(scale) * prober.admissible(place))
    return place if gaps.beyond > bound or not np.isfinite(gaps.beyond) else None


def _which(
    prober: Prober, signs: list[Floats], scaled: list[Floats], first: Floats
) -> Fault | None:
    """Which part of the contract is broken: asked one by one."""
    again = prober.claim(signs)
    place = _apart(prober, again, first, 1)
    if place is not None:
        return _repeat(prober.name, place, again, first)
    plain = prober.pulled([prober.bench.caller.array(s) for s in scaled])
    place = _apart(prober, plain, first, _SCALE)
    if place is not None:
        return _linear(prober.name, place, plain, first)
    what, given = _odd(prober, scaled)
    odd = prober.pulled(given)
    place = _apart(prober, odd, first, _SCALE)
    return None if place is None else _layout(prober.name, place, odd, plain, what)


def _repeat(name: str, place: tuple[int, ...], again: Floats, first: Floats) -> Fault:
    return Fault(
        "repeat", name,
        f"the second call with the same arrays gives {_at(name, place)} = {float(again[place]):.6g} "
        f"where the first gave {float(first[place]):.6g}: the rule keeps a state of its own, or changes "
        "one that it shares",
    )  # fmt: skip


def _linear(name: str, place: tuple[int, ...], scaled: Floats, first: Floats) -> Fault:
    return Fault(
        "linearity", name,
        f"the rule is not linear in the cotangent: for −4 times a cotangent {_at(name, place)} is "
        f"{float(scaled[place]):.6g}, and −4 times its gradient is {_SCALE * float(first[place]):.6g}",
    )  # fmt: skip


def _layout(name: str, place: tuple[int, ...], odd: Floats, plain: Floats, what: str) -> Fault:
    return Fault(
        "layout", name,
        f"{what} cotangent gives {_at(name, place)} = {float(odd[place]):.6g}, an equal contiguous one "
        f"{float(plain[place]):.6g}: the rule reads the memory of the cotangent without its strides",
    )  # fmt: skip


def _written(prober: Prober, given: list[Any], before: list[Floats]) -> Fault | None:
    """An input or a cotangent that the calls have changed."""
    caller, example = prober.bench.caller, prober.example
    names = names_of(prober.bench.rule.outputs, len(given))
    pairs = [(n, a, caller.array(example.inputs[n])) for n, a in prober.arrays.items()]
    pairs += [
        (f"the cotangent of {n}", g, caller.array(b.astype(np.float32)))
        for n, g, b in zip(names, given, before, strict=True)
    ]
    for name, array, old in pairs:
        was, now = caller.backend.to_numpy(old), caller.backend.to_numpy(array)
        if np.array_equal(was, now, equal_nan=was.dtype.kind == "f"):
            continue
        place = tuple(int(i) for i in np.unravel_index(int(np.argmax(was != now)), was.shape))
        at = f" at [{','.join(map(str, place))}]" if place else ""
        return Fault(
            "mutation", name if name in prober.bench.rule.differentiable else "",
            f"the rule writes into {name}{at}: {float(was[place]):.6g} became {float(now[place]):.6g}; "
            "copy the array before changing it",
            f"copy {name.removeprefix('the ')} first",
        )  # fmt: skip
    return None


def _at(name: str, place: tuple[int, ...]) -> str:
    return f"{name}[{','.join(map(str, place))}]" if place else name
