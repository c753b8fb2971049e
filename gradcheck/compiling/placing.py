"""Arrays of blocks between zeros: each block written once, through a view of where it lies.

A block that is itself blocks between zeros is not made apart and copied: its blocks are those of the
array around it. Nor is one that is a product or a sum and used nowhere else: the product goes where it
belongs.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from gradcheck.compiling.graph import Graph, Node, reachable
from gradcheck.compiling.kernels import renewed

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from gradcheck.backends.writing import Writing
    from gradcheck.compiling.emitting import Emitter

    Blocks = list[tuple[Any, tuple[int, ...]]]

# The bytes of an entry; two in half precision.
WIDTH = {"float64": 8, "float32": 4}


# ---------------------------------------------------------------- the graph


def joined(graph: Graph, results: Mapping[str, Node], into: Collection[str]) -> dict[str, Node]:
    """The same results, where first blocks that nothing else uses are written where they belong.

    Only first ones: those that come later are added, and what is added has to be there as a whole.

    Args:
        graph: Where the results lie.
        results: What is to be computed.
        into: The operations that can write into an array that exists, as `Writing.into` names them.
    """
    order = reachable(results.values())
    uses = Counter(id(o) for n in order for o in n.operands())
    uses.update(id(n) for n in results.values())
    new: dict[int, Node] = {}
    for node in order:
        args = _joined(node, uses, into) if node.op == "place" else node.args
        new[id(node)] = renewed(graph, node, args, new)
    return {name: new[id(node)] for name, node in results.items()}


def _joined(node: Node, uses: Counter[int], into: Collection[str]) -> tuple[Any, ...]:
    """The arguments of a placed array, of which the first block may be several or an operation."""
    (core, where), *others = blocks_of(node)
    while isinstance(core, Node) and core.op == "place" and uses[id(core)] == 1:
        inner = [(block, tuple(places[k] for k in where)) for block, places in blocks_of(core)]
        (core, where), *others = (*inner, *others)
    view = tuple(node.shape[where.index(k)] for k in range(max(where, default=-1) + 1))
    # torch would make the view as small as a block that is repeated along it, and leave the rest zero.
    fits = isinstance(core, Node) and core.shape == view != node.shape
    if fits and uses[id(core)] == 1:
        operation = (core.op, *core.args)
        core = operation if f"{core.op} over" in into and _plain(core, node.dtype) else core
    return tuple(thing for pair in ((core, where), *others) for thing in pair)


def _plain(node: Node, dtype: str) -> bool:
    """Whether an operation takes arrays of this dtype alone, or numbers beside them."""
    first, *more = node.args
    fits = all(not isinstance(a, Node) or a.dtype in (dtype, "number") for a in more)
    return (
        not node.options and isinstance(first, Node) and first.dtype == node.dtype == dtype and fits
    )


def blocks_of(node: Node) -> Blocks:
    """The blocks of a placed array, each with the axis of the block that every axis of the array runs along.

    A block is an array, a number, or an operation to be written in place: its name and its operands.
    """
    return list(zip(node.args[::2], node.args[1::2], strict=True))


# ---------------------------------------------------------------- the source


def placed(emitter: Emitter, node: Node, writing: Writing, dtype: str) -> str:
    """The lines of a placed array, and the name or expression that stands for it."""
    blocks = blocks_of(node)
    if not (emitter.in_place and emitter.dialect.writes):
        return _spread(emitter, node, blocks, dtype)
    core, where = blocks[0]
    whole = isinstance(core, Node) and core.shape == node.shape and where == _identity(node)
    if whole:
        text = _taken(emitter, node, core, writing)
        blocks = blocks[1:]
    else:
        template = writing.blank or writing.direct["zeros"]
        text = template.format(shape=node.shape, dtype=dtype, device="device")
    name = emitter.name_for(node)
    emitter.lines.append(f"{name} = {text}")
    for i, (block, places) in enumerate(blocks):
        view = _view(name, node, places, writing, dtype)
        if i == 0 and not whole:
            emitter.lines.append(_first(emitter, block, view, writing))
        else:
            diagonal = emitter.fresh("diagonal")
            emitter.lines += [f"{diagonal} = {view}", f"{diagonal} += {emitter.ref(block)}"]
    return name


def _identity(node: Node) -> tuple[int, ...]:
    return tuple(range(len(node.shape)))


def _taken(emitter: Emitter, node: Node, core: Node, writing: Writing) -> str:
    """The first block as the array itself, where it is as large.

    The view of a diagonal counts entries in memory: those of a transpose lie elsewhere.
    """
    own = emitter.reusable(emitter.place, node) is core
    return writing.direct["settled" if own else "settled copy"].format(emitter.ref(core))


def _first(emitter: Emitter, block: Any, view: str, writing: Writing) -> str:
    """What writes the first block, where there are zeros until then."""
    if isinstance(block, tuple):
        op, *operands = block
        refs = map(emitter.ref, operands)
        return writing.into[f"{op} over"].format(*refs, out=view)
    template = writing.assign if isinstance(block, Node) else "{view}[...] = {0}"
    return template.format(emitter.ref(block), view=view)


def _view(name: str, node: Node, places: tuple[int, ...], writing: Writing, dtype: str) -> str:
    """The entries of a new array at which the axes of one letter agree."""
    strides = [math.prod(node.shape[i + 1 :]) for i in range(len(node.shape))]
    count = max(places, default=-1) + 1
    steps = tuple(
        sum(s for s, p in zip(strides, places, strict=True) if p == k) for k in range(count)
    )
    width = WIDTH.get(dtype, 2)
    return writing.view.format(
        out=name,
        shape=tuple(node.shape[places.index(k)] for k in range(count)),
        strides=steps,
        bytes=tuple(width * s for s in steps),
        dtype=dtype,
    )


def _spread(emitter: Emitter, node: Node, blocks: Blocks, dtype: str) -> str:
    """The sum of the blocks, each spread between zeros: for frameworks that write into nothing."""
    parts = [
        f"spread({emitter.ref(core)}, {places}, {node.shape}, {dtype!r})" for core, places in blocks
    ]
    return " + ".join(parts)
