"""The rule's own contract at a large shape: a handful of calls, no array but gradients.

One call with zeros tells structure and what ignores the vector. After the first probe the arguments must be
as they were. The second probe asks for −4 times its vector in memory that is not contiguous: where a quarter
of the result is what it should be, the rule is linear, keeps no state and reads strides, at least for these
vectors. Only where a probe is off are these asked one by one, at the entry that is.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.checking.compare import at_largest
from gradcheck.layers.claimed import names_of
from gradcheck.layers.faults import Fault, structure
from gradcheck.layers.layouts import strided
from gradcheck.layers.tiles import changed
from gradcheck.reports.numbers import pair
from gradcheck.running import format_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradcheck.checking.search import Example
    from gradcheck.layers.bench import Bench, Point
    from gradcheck.layers.calling import Caller

    Floats = np.ndarray[Any, np.dtype[Any]]

# A power of two: no rounding of its own.
SCALE = -4.0


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
    place = at_largest(found != 0)
    given = "cotangent" if what == "gradient" else "tangent"
    return Fault(
        "linearity", name,
        f"a {given} of zeros gives {label(name, place)} the {what} {float(found[place]):.6g} instead of 0: "
        f"the rule ignores the {given}, or adds to it; it must be linear in it",
    )  # fmt: skip


def fresh(caller: Caller, vector: Floats) -> Any:
    """Signs as an array of the rule's framework, of its own memory."""
    return caller.backend.asarray_like(
        caller.backend.asarray(vector.astype(np.float32), caller.dtype, caller.device)
    )


def scaled(vector: Floats) -> Floats:
    """A multiple that tells v³ from v."""
    found: Floats = np.multiply(vector, np.float32(SCALE))
    return found


def odd(caller: Caller, vectors: Sequence[Floats]) -> tuple[str, list[Any]]:
    """Multiples in memory with gaps, where the rule's framework has such."""
    pairs = [_gapped(caller, v) or strided(caller, scaled(v)) for v in vectors]
    return pairs[0][0], [array for _, array in pairs]


def _gapped(caller: Caller, vector: Floats) -> tuple[str, Any] | None:
    """In NumPy at once, without another array of the size."""
    if caller.rule.framework not in ("numpy", "autograd") or not vector.ndim:
        return None
    wide = np.zeros((*vector.shape[:-1], 2 * vector.shape[-1]), caller.dtype)
    np.multiply(vector, wide.dtype.type(SCALE), out=wide[..., ::2])
    return "a non-contiguous", wide[..., ::2]


def unscaled(multiple: Floats, exact: Any, dtype: str, plain: Callable[[], Floats]) -> Floats:
    """What a linear rule gives for a vector, from what it gives for the multiple.

    Args:
        multiple: The rule's result for the multiple.
        exact: What it should be for the vector.
        dtype: The format.
        plain: Asks the rule for the vector itself. That is done where only the multiple leaves the range.
    """
    found = np.asarray(multiple * multiple.dtype.type(1 / SCALE))
    with np.errstate(all="ignore"):
        if np.isfinite(np.sum(found)):
            return found
        out = ~np.isfinite(found) & (np.abs(SCALE * np.asarray(exact)) > format_of(dtype).huge)
    return np.where(out, plain(), found) if out.any() else found


@dataclass(frozen=True)
class Entry:
    """An entry of a result that is off, and how to ask for it again.

    Attributes:
        label: How messages call it: `x[3,4]`.
        input: The input that a fault concerns.
        given: "cotangent" or "tangent".
        what: "gradient" or "result".
        exact: What it should be.
        bound: How far a right rule may be off.
        asked: The entry as the rule has it for the vector ("plain"), for its multiple ("scaled"), and for
            that in other memory ("odd").
        memory: What is odd about that.
    """

    label: str
    input: str
    given: str
    what: str
    exact: float
    bound: float
    asked: Callable[[str], float]
    memory: str


def broken(entry: Entry) -> Fault | None:
    """Which part of the contract explains that an entry is off; None where the derivative is wrong."""
    first = entry.asked("plain")
    off = not abs(first - entry.exact) <= entry.bound
    # Where the plain call is off too, all that is asked is whether the others are off likewise.
    right, limit = (first, 2 * entry.bound) if off else (entry.exact, entry.bound)

    def differs(value: float) -> bool:
        return not (abs(value - right) <= limit or np.array_equal(value, right, equal_nan=True))

    again = entry.asked("plain")
    if differs(again):
        return _repeat(entry, again, first)
    plain = entry.asked("scaled")
    if differs(plain / SCALE):
        return _linear(entry, plain, first)
    odd = entry.asked("odd")
    if differs(odd / SCALE):
        return _layout(entry, odd, plain)
    # It was off, and no call shows it again.
    return None if off else _unsteady(entry)


def _repeat(entry: Entry, again: float, first: float) -> Fault:
    shown = pair(again, first, 6)
    return Fault(
        "repeat", entry.input,
        f"the second call with the same arrays gives {entry.label} = {shown[0]} where the first gave "
        f"{shown[1]}: the rule keeps a state of its own, or changes one that it shares",
    )  # fmt: skip


def _unsteady(entry: Entry) -> Fault:
    return Fault(
        "repeat", entry.input,
        f"{entry.label} was off in one of several calls with the same arrays, and is {entry.exact:.6g} in "
        "the others: the rule keeps a state of its own, or changes one that it shares",
    )  # fmt: skip


def _linear(entry: Entry, found: float, first: float) -> Fault:
    shown = pair(found, SCALE * first, 6)
    return Fault(
        "linearity", entry.input,
        f"the rule is not linear in the {entry.given}: for −4 times a {entry.given} {entry.label} is "
        f"{shown[0]}, and −4 times its {entry.what} is {shown[1]}",
    )  # fmt: skip


def _layout(entry: Entry, odd: float, plain: float) -> Fault:
    shown = pair(odd, plain, 6)
    return Fault(
        "layout", entry.input,
        f"{entry.memory} {entry.given} gives {entry.label} = {shown[0]}, an equal contiguous one "
        f"{shown[1]}: the rule reads the memory of the {entry.given} without its strides",
    )  # fmt: skip


def written(
    bench: Bench, arrays: dict[str, Any], example: Example, vectors: list[tuple[str, Any, Floats]]
) -> Fault | None:
    """An input, a cotangent or a tangent that the calls have changed.

    Args:
        bench: The rule.
        arrays: The inputs as they were given.
        example: What they were.
        vectors: The name, the array and the former values of each cotangent or tangent.
    """
    caller = bench.caller
    inputs = [(n, a, example.inputs[n]) for n, a in arrays.items()]
    for name, array, old in [*inputs, *vectors]:
        now = caller.backend.to_numpy(array)
        place = changed(old, now, lambda part: caller.backend.to_numpy(caller.array(part)))
        if place is None:
            continue
        at = f" at [{','.join(map(str, place))}]" if place else ""
        was, became = pair(float(old[place]), float(now[place]), 6)
        return Fault(
            "mutation", name if name in bench.rule.differentiable else "",
            f"the rule writes into {name}{at}: {was} became {became}; copy the array before changing it",
            f"copy {name.removeprefix('the ')} first",
        )  # fmt: skip
    return None


def label(name: str, place: tuple[int, ...]) -> str:
    """An entry, as messages call it."""
    return f"{name}[{','.join(map(str, place))}]" if place else name
