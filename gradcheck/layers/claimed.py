"""The Jacobian that a rule claims at one example, and its structural faults on the way."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.layers.faults import Fault, structure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck.checking.search import Example
    from gradcheck.layers.calling import Caller

    Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass
class Claimed:
    """A rule's derivative at one example.

    Attributes:
        jacobians: By input, one array for each output, of shape output + input.
        faults: What is wrong with its structure; an input with a fault has no Jacobian.
    """

    jacobians: dict[str, list[Floats]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


def unit(shapes: Sequence[tuple[int, ...]], which: int, place: int) -> list[Floats]:
    """A vector of the standard basis of several arrays together."""
    arrays = [np.zeros(shape) for shape in shapes]
    arrays[which].reshape(-1)[place] = 1.0
    return arrays


def by_rows(caller: Caller, example: Example, outputs: Sequence[tuple[int, ...]]) -> Claimed:
    """The Jacobian of a vjp, one cotangent of the standard basis at a time."""
    rule, claimed = caller.rule, Claimed()
    names = rule.differentiable
    shapes = [example.inputs[n].shape for n in names]
    rows: list[list[list[Floats]]] = [[[] for _ in names] for _ in outputs]
    arrays, sound = caller.arrays(example), _kind(None)
    for which, shape in enumerate(outputs):
        for place in range(math.prod(shape)):
            vectors = [caller.array(v) for v in unit(outputs, which, place)]
            raw = caller.pull(vectors, arrays, example.params)
            if (
                sound is not None and _kind(raw) == sound
            ):  # as the row before, in which nothing was wrong
                for k in range(len(names)):
                    rows[which][k].append(caller.host(raw[k]).reshape(shapes[k]))
                continue
            found = structure(raw, names, shapes, caller, what="gradient")
            claimed.faults += [f for f in found if f not in claimed.faults]
            sound = None if claimed.faults else _kind(raw)
            if any(f.input == "" for f in claimed.faults):
                return claimed
            broken = {f.input for f in claimed.faults if f.kind != "dtype"}
            for k, name in enumerate(names):
                if name not in broken:
                    rows[which][k].append(caller.host(raw[k]).reshape(shapes[k]))
    broken = {f.input for f in claimed.faults if f.kind != "dtype"}
    for k, name in enumerate(names):
        if name not in broken:
            claimed.jacobians[name] = [
                _stacked(rows[which][k], shape, shapes[k]) for which, shape in enumerate(outputs)
            ]
    return claimed


def _kind(raw: Any) -> list[Any] | None:
    """All that the structure of a result depends on; None where that is more than types and shapes."""
    if not isinstance(raw, tuple | list):
        return None
    parts = [(type(r), getattr(r, "dtype", None), getattr(r, "shape", None)) for r in raw]
    return None if any(dtype is None or shape is None for _, dtype, shape in parts) else parts


def _stacked(rows: list[Floats], output: tuple[int, ...], input_: tuple[int, ...]) -> Floats:
    full = (*output, *input_)
    return np.stack(rows).reshape(full) if rows else np.zeros(full)


def by_columns(caller: Caller, example: Example, outputs: Sequence[tuple[int, ...]]) -> Claimed:
    """The Jacobian of a jvp, one tangent of the standard basis at a time."""
    rule, claimed = caller.rule, Claimed()
    shapes = [example.inputs[n].shape for n in rule.differentiable]
    arrays = caller.arrays(example)
    for which, name in enumerate(rule.differentiable):
        columns: list[list[Floats]] = [[] for _ in outputs]
        for place in range(math.prod(shapes[which])):
            vectors = [caller.array(v) for v in unit(shapes, which, place)]
            raw = caller.push(vectors, arrays, example.params)
            faults = structure(
                raw, names_of(rule.outputs, len(outputs)), outputs, caller, what="tangent"
            )
            claimed.faults += [
                f for f in (_about(f, name) for f in faults) if f not in claimed.faults
            ]
            if any(f.kind != "dtype" for f in faults):
                break
            for k in range(len(outputs)):
                columns[k].append(caller.host(raw[k]).reshape(outputs[k]))
        if not any(f.input in ("", name) and f.kind != "dtype" for f in claimed.faults):
            claimed.jacobians[name] = [
                np.moveaxis(
                    _stacked(columns[k], shapes[which], shape),
                    range(len(shapes[which])),
                    range(-len(shapes[which]), 0),
                )
                if shapes[which]
                else _stacked(columns[k], shapes[which], shape)
                for k, shape in enumerate(outputs)
            ]
    return claimed


def _about(fault: Fault, name: str) -> Fault:
    """A fault of an output's tangent, filed under the input that moved."""
    return Fault(fault.kind, name if fault.input else "", fault.text, fault.edit)


def names_of(names: Sequence[str], count: int) -> tuple[str, ...]:
    """Names for the outputs: those that are known, or numbered ones."""
    if len(names) == count:
        return tuple(names)
    return ("out",) if count == 1 else tuple(f"out{i}" for i in range(count))
