"""What a `torch.autograd.Function`'s backward returned, before torch's engine repairs it.

The engine sums a gradient over axes that were broadcast, casts it to the input's dtype, and adds what
comes over several paths; a checker that looks at what the engine hands out cannot see that a sum was
forgotten. Here the backward of every `Function` in a graph is watched while the engine runs it.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gradcheck.arguments import counted
from gradcheck.layers.faults import Fault, summed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass
class Pulled:
    """One backward pass through a graph.

    Attributes:
        gradients: For each leaf what reached it: raw where a watched backward made it, and it alone.
        repaired: Which of them went through the engine.
        fault: What is wrong with what a watched backward returned and no leaf can show, if anything.
    """

    gradients: list[Any]
    repaired: list[bool]
    fault: Fault | None = None


@dataclass
class _Record:
    """One call of a backward: its node, what it was asked for and what it returned."""

    node: Any
    wanted: tuple[bool, ...]
    raw: Any


@dataclass
class _Graph:
    """The nodes behind some outputs, and how many edges lead to each of them."""

    nodes: list[Any] = field(default_factory=list)
    edges: Counter[int] = field(default_factory=Counter)


def pull(outputs: Sequence[Any], cotangents: Sequence[Any], leaves: Sequence[Any]) -> Pulled:
    """The gradients of leaves, as raw as they can be had.

    Args:
        outputs: Tensors; those that depend on no leaf are passed over.
        cotangents: One for each output, or None where it is left out.
        leaves: Tensors that require gradients.

    Raises:
        RuntimeError: What torch raises, unless a watched backward explains it.
    """
    import torch

    pairs = [(o, c) for o, c in zip(outputs, cotangents, strict=True) if c is not None]
    pairs = [(o, c) for o, c in pairs if o.requires_grad]
    if not pairs:  # what is left has no gradient (mark_non_differentiable), or nothing has
        zero = any(o.requires_grad for o in outputs)
        return Pulled([None] * len(leaves), [zero] * len(leaves))
    graph = _walk([o for o, _ in pairs])
    found: list[Any] = [None] * len(leaves)
    failure: Exception | None = None
    with _watched(graph) as records:
        try:
            found = list(
                torch.autograd.grad(
                    [o for o, _ in pairs], leaves, [c for _, c in pairs], allow_unused=True
                )
            )
        except RuntimeError as error:
            failure = error
    return _raw(graph, records, leaves, found, failure)


def _walk(outputs: Sequence[Any]) -> _Graph:
    graph, stack, seen = _Graph(), [o.grad_fn for o in outputs if o.grad_fn is not None], set()
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        graph.nodes.append(node)
        for following, _ in node.next_functions:
            if following is not None:
                graph.edges[id(following)] += 1
                stack.append(following)
    return graph


@contextlib.contextmanager
def _watched(graph: _Graph) -> Iterator[list[_Record]]:
    """While it is entered, the backward of each `Function` of the graph notes what it returns."""
    import torch

    records: list[_Record] = []
    classes = dict.fromkeys(
        node._forward_cls for node in graph.nodes if hasattr(node, "_forward_cls")
    )
    with contextlib.ExitStack() as stack:
        for cls in classes:
            name = "vjp" if cls.vjp is not torch.autograd.Function.vjp else "backward"
            own = name in vars(cls)
            before = vars(cls).get(name)
            setattr(cls, name, staticmethod(_noting(getattr(cls, name), records)))
            if own:
                stack.callback(setattr, cls, name, before)
            else:
                stack.callback(delattr, cls, name)
        yield records


def _noting(backward: Any, records: list[_Record]) -> Any:
    def noting(ctx: Any, *cotangents: Any) -> Any:
        raw = backward(ctx, *cotangents)
        records.append(_Record(ctx, tuple(ctx.needs_input_grad), raw))
        return raw

    return noting


def _raw(
    graph: _Graph,
    records: Sequence[_Record],
    leaves: Sequence[Any],
    found: list[Any],
    failure: Exception | None,
) -> Pulled:
    """The engine's gradients, with what came from a single watched backward as it came."""
    places = {id(leaf): i for i, leaf in enumerate(leaves)}
    pulled = Pulled(found, [True] * len(leaves))
    for record in records:
        members = _members(record)
        if members is None:
            pulled.fault = pulled.fault or _miscount(record)
            continue
        for member, (node, slot) in members:
            leaf = places.get(id(getattr(node, "variable", None)))
            if leaf is not None and graph.edges[id(node)] == 1:
                pulled.gradients[leaf] = _handed_out(member, found[leaf])
                pulled.repaired[leaf] = False
            else:
                pulled.fault = pulled.fault or _inner(record, member, node._input_metadata[slot])
    if failure is not None and pulled.fault is None and all(pulled.repaired):
        raise failure  # nothing that was watched explains it
    return pulled


def _handed_out(member: Any, final: Any) -> Any:
    """What a backward returned; what the engine makes of it where only hooks can have changed it."""
    kinds = [(getattr(g, "shape", None), getattr(g, "dtype", None)) for g in (member, final)]
    return final if final is not None and kinds[0] == kinds[1] else member


def _members(record: _Record) -> list[tuple[Any, tuple[Any, int]]] | None:
    """What was returned for each argument that needs a gradient, with the edge that it goes along."""
    raw = record.raw if isinstance(record.raw, tuple) else (record.raw,)
    count = len(record.wanted)
    if len(raw) < count or any(g is not None for g in raw[count:]):
        return None
    edges = [edge for edge in record.node.next_functions if edge[0] is not None]
    wanted = [g for g, want in zip(raw, record.wanted, strict=False) if want]
    if len(edges) != len(wanted):  # some gradients were not asked for: none can be told apart
        return []
    return list(zip(wanted, edges, strict=True))


def _miscount(record: _Record) -> Fault:
    raw = record.raw if isinstance(record.raw, tuple) else (record.raw,)
    count = len(record.wanted)
    text = (
        f"{record.node._forward_cls.__name__}.backward returned "
        f"{counted(len(raw), 'gradient')} for {count} arguments of forward: it must return one for "
        "each, None for those that are no tensors"
    )
    return Fault("count", "", text, f"return {counted(count, 'gradient')}")


def _inner(record: _Record, member: Any, expected: Any) -> Fault | None:
    """What is wrong with a gradient that goes on inside the graph."""
    came, wanted = tuple(getattr(member, "shape", ())), tuple(expected.shape)
    name = f"{record.node._forward_cls.__name__}.backward"
    if member is not None and came != wanted:
        edit = summed(came, wanted)
        text = (
            f"{name} returned a gradient of shape {came} for an argument of shape {wanted}, which torch's "
            f"engine repairs in silence{': ' + edit if edit else ''}"
        )
        return Fault("shape", "", text, edit)
    if member is not None and getattr(member, "dtype", None) != expected.dtype:
        text = f"{name} returned a gradient of {member.dtype} for an argument of {expected.dtype}"
        return Fault("dtype", "", text)
    return None
