"""What can be wrong with a rule before any number is compared, and how to say it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck import backends
from gradcheck.arguments import counted
from gradcheck.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck.layers.calling import Caller


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong whatever the derivative is.

    Attributes:
        kind: count, none, type, shape, dtype, raises, linearity, precision, repeat, stale, mutation, layout,
            ties, aliasing, missing cotangent, adjoint, or forward.
        input: The input whose gradient is concerned; "" for all of them.
        text: What was expected, what came, and what to write instead.
        edit: What would mend it, where that is plain.
        bounded: Whether it is a gap beyond a bound on rounding errors.
        slight: Whether that gap is small beside what it is a gap of.
    """

    kind: str
    input: str
    text: str
    edit: str = ""
    bounded: bool = False
    slight: bool = False


class FaultFound(Exception):
    """An adapter found a fault on the way, in the midst of a raw check."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.text)
        self.fault = fault


def structure(
    raw: Any, names: Sequence[str], shapes: Sequence[tuple[int, ...]], caller: Caller, *, what: str
) -> list[Fault]:
    """What is wrong with the number, types, shapes and dtypes of what a rule returned.

    Args:
        raw: The tuple that the rule's adapter hands on, or a fault that the adapter found.
        names: What each member belongs to: inputs for a vjp, outputs for a jvp.
        shapes: The shape that each should have.
        caller: Knows the dtype and the framework.
        what: "gradient" or "tangent".
    """
    if isinstance(raw, Fault):  # an adapter found it on the way; nothing came for any input
        return [replace(raw, input="")]
    found = tuple(raw) if isinstance(raw, tuple | list) else (raw,)
    if len(found) != len(names):
        return [_count(found, names, what)]
    faults = []
    for item, name, shape in zip(found, names, shapes, strict=True):
        fault = _member(item, name, shape, caller, what)
        if fault is not None:
            faults.append(fault)
    return faults


def _count(found: Sequence[Any], names: Sequence[str], what: str) -> Fault:
    listed = ", ".join(names)
    one = f"one {what} for each of {listed}" if len(names) > 1 else f"one {what}, for {listed}"
    return Fault(
        "count",
        "",
        f"the rule returned {counted(len(found), what)}, but must return "
        f"{one}; an input without a derivative is declared constant(...)",
        f"return {counted(len(names), what)}",
    )


def _member(
    item: Any, name: str, shape: tuple[int, ...], caller: Caller, what: str
) -> Fault | None:
    rule = caller.rule
    if item is None:
        return Fault(
            "none",
            name,
            f"the {what} of {name} is None; return zeros of shape {shape} where it is zero, or "
            f"declare {name} constant(...) if no derivative is meant",
        )
    try:
        owner = backends.of(item).name
    except UsageError:
        return Fault("type", name, f"the {what} of {name} is a {type(item).__name__}, no array")
    own = {rule.framework, "numpy"} if rule.framework == "autograd" else {rule.framework}
    if owner not in own and not np.isscalar(item):
        return Fault(
            "type", name, f"the {what} of {name} is an array of {owner}, not of {rule.framework}"
        )
    came = tuple(int(n) for n in getattr(item, "shape", np.shape(item)))
    if rule.raw and came != shape:
        return _shape(came, name, shape, what)
    return _dtype(item, name, caller, what) if rule.raw and rule.strict_dtype else None


def _shape(came: tuple[int, ...], name: str, shape: tuple[int, ...], what: str) -> Fault:
    hint = summed(came, shape)
    if not hint and came == shape[::-1]:
        hint = "transpose it"
    text = f"the {what} of {name} has shape {came}, but {name} has shape {shape}"
    if hint.startswith("sum"):
        text += f": {name} was broadcast, so {hint}"
    elif hint:
        text += f": {hint}"
    return Fault("shape", name, text, hint)


def summed(came: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """Which axes to sum to get from one shape to the other; "" where no sum does it."""
    axes = missing_axes(came, shape)
    if axes is None:
        return ""
    extra = len(came) - len(shape)
    parts = []
    if extra:
        parts.append(f"sum over {_axes(range(extra))}")
    if len(axes) > extra:
        parts.append(f"sum over {_axes(axes[extra:])} with keepdims=True")
    return " and ".join(parts)


def missing_axes(came: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The axes along which `shape` was broadcast to `came`; None where it cannot have been."""
    extra = len(came) - len(shape)
    if extra < 0:
        return None
    pairs = zip(came[extra:], shape, strict=True)
    kept = tuple(extra + i for i, (a, b) in enumerate(pairs) if a != b)
    if any(shape[i - extra] != 1 for i in kept):
        return None
    return (*range(extra), *kept)


def _axes(axes: Any) -> str:
    listed = list(axes)
    return f"axis {listed[0]}" if len(listed) == 1 else f"the axes {tuple(listed)}"


def _dtype(item: Any, name: str, caller: Caller, what: str) -> Fault | None:
    came = caller.dtype_of(item)
    if came == caller.dtype:
        return None
    return Fault(
        "dtype",
        name,
        f"the {what} of {name} is {came}, but {name} is {caller.dtype}; compute in the dtype of the "
        "inputs, or cast the result to it",
        f"cast to {caller.dtype}",
    )
