"""Raw checks of calls that meet: a layer called twice, one array in two slots, a jvp beside a vjp."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.layers.faults import Fault, FaultFound
from gradcheck.reports.numbers import pair
from gradcheck.running import format_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradcheck.checking.search import Example
    from gradcheck.layers.raw import Contract

_AGAIN = "where the layer is called on other inputs of the same shapes before backward,"
_KEPT = (
    "what backward needs is kept for all calls at once, on a class, a module or globally: keep it with the "
    "call, as ctx.save_for_backward does"
)


def interleaved(contract: Contract) -> Iterator[Fault]:
    """With the layer called on other inputs in between, as one that stands twice in a model."""
    caller = contract.caller
    if caller.rule.interleaved is None:
        return
    contract.exercised["called again before backward"] += 1
    vectors = contract.cotangents()
    plain = contract.pull(contract.framework(vectors))
    arrays, between = caller.arrays(contract.example), caller.arrays(_reversed(contract.example))
    caller.rule.restore()
    try:
        with caller.scope():
            raw = caller.rule.interleaved(
                tuple(contract.framework(vectors)), arrays, dict(contract.example.params), between
            )
        found = contract.hosted(raw)
    except FaultFound:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001  a rule may raise anything
        yield Fault("stale", "", f"{_AGAIN} it raises {type(error).__name__}: {error}; {_KEPT}")
        return
    _, bounds = contract.admissible(vectors)
    yield from contract.differ(
        "stale", found, plain, bounds,
        lambda at, got, wanted: f"{_AGAIN} {at} is {got} instead of {wanted}; {_KEPT}",
    )  # fmt: skip


def _reversed(example: Example) -> Example:
    """Other values of the same domains: the same in reverse order."""
    backwards = {n: np.flip(a).copy() for n, a in example.inputs.items()}
    return replace(example, inputs=backwards)


def aliased(contract: Contract) -> Iterator[Fault]:
    """The same array in two slots gives what two equal arrays give."""
    example = contract.example
    for first, second in _pairs(contract):
        contract.exercised["one array in two slots"] += 1
        arrays = contract.caller.arrays(example)
        arrays[second] = contract.caller.array(example.inputs[first])
        vectors = contract.framework(contract.cotangents())
        plain = contract.pull(vectors, dict(arrays))
        one = contract.caller.arrays(example)
        one[second] = one[first]
        found = contract.pull(vectors, one)
        # The same operations on equal numbers: they may only be added up in another order.
        terms = 2 + sum(math.prod(s) for s in contract.shapes)
        unit = terms * format_of(contract.caller.dtype).unit
        slack = {n: np.asarray(unit * np.max(np.abs(v), initial=0.0)) for n, v in plain.items()}
        yield from contract.differ(
            "aliasing", found, plain, slack,
            lambda at, got, wanted, a=first, b=second: (  # type: ignore[misc]
                f"with one array as both {a} and {b}, {at} is {got}; with two equal arrays {wanted}"
            ),
        )  # fmt: skip
        return


def _pairs(contract: Contract) -> Iterator[tuple[str, str]]:
    domains, inputs = contract.caller.rule.inputs, contract.example.inputs
    names = list(domains)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            same = inputs[first].shape == inputs[second].shape
            a, b = domains[first], domains[second]
            alike = (a.kind, a.lo, a.hi, a.source) == (b.kind, b.lo, b.hi, b.source)
            if same and alike and inputs[first].size:
                yield first, second


def adjoint(contract: Contract) -> Iterator[Fault]:
    """⟨v, Ju⟩ = ⟨Jᵀv, u⟩ where the rule has both."""
    caller = contract.caller
    if caller.rule.jvp is None or caller.rule.vjp is None:
        return
    contract.exercised["⟨v, Ju⟩ = ⟨Jᵀv, u⟩"] += 1
    vectors = contract.cotangents()
    for name in contract.claimed.jacobians:
        shapes = [contract.example.inputs[n].shape for n in contract.inputs]
        tangents = [np.zeros(s) for s in shapes]
        here = contract.inputs.index(name)
        tangents[here] = contract.rng.choice([-1.0, 1.0], shapes[here])
        raw = caller.push(
            contract.framework(tangents), caller.arrays(contract.example), contract.example.params
        )
        moved = [caller.host(r) for r in raw]
        expected, bound = contract.expected(vectors, name)
        left = sum(float(np.sum(v * t)) for v, t in zip(vectors, moved, strict=True))
        right = float(np.sum(expected * tangents[here]))
        slack = float(np.sum(bound)) * 2
        if not abs(left - right) <= slack and np.isfinite(slack):
            shown = pair(left, right, 6)
            yield Fault(
                "adjoint", name,
                f"the jvp and the vjp are no transposes of each other: ⟨v, J u⟩ = {shown[0]} and "
                f"⟨Jᵀ v, u⟩ = {shown[1]} for {name}",
            )  # fmt: skip
