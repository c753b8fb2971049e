"""Groups of statements that a framework has one fused operation for: softmax, product plus bias."""

from __future__ import annotations

import operator
from collections import Counter
from typing import TYPE_CHECKING, Any

from gradcheck.compiling.graph import Graph, Node, reachable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradcheck.compiling.emitting import Emitter

# torch takes the rows of a matrix one by one, and the columns several at once: with at most so many columns
# and so many rows or more, the transpose is faster, up to five times (float64 and float32 on the host).
_FEW, _MANY = 12, 128


def fuse(graph: Graph, results: Mapping[str, Node]) -> dict[str, Node]:
    """The same results with fused operations where the parts are used nowhere else."""
    order = reachable(results.values())
    uses = Counter(id(o) for n in order for o in set(n.operands()))
    uses.update(id(n) for n in results.values())
    new: dict[int, Node] = {}
    for node in order:
        new[id(node)] = _fused(graph, node, uses, new)
    return {name: new[id(node)] for name, node in results.items()}


def _fused(graph: Graph, node: Node, uses: Counter[int], new: Mapping[int, Node]) -> Node:
    found = _softmax(node, uses) or _addmm(node, uses)
    if found is not None:
        op, args = found
        args = tuple(_renewed(a, new) for a in args)
        fused = graph.add(op, *args, shape=node.shape, dtype=node.dtype)
        fused.name = fused.name or node.name
        return fused
    return renewed(graph, node, node.args, new)


def renewed(graph: Graph, node: Node, args: tuple[Any, ...], new: Mapping[int, Node]) -> Node:
    """The node with these arguments, the nodes among them replaced by the new ones."""
    args = tuple(_renewed(a, new) for a in args)
    options = {n: _renewed(v, new) for n, v in node.options}
    same = len(args) == len(node.args) and all(map(operator.is_, args, node.args))
    if same or node.op == "input":
        return node
    made = graph.add(node.op, *args, shape=node.shape, dtype=node.dtype, **options)
    made.name = made.name or node.name
    return made


def _renewed(thing: Any, new: Mapping[int, Node]) -> Any:
    if isinstance(thing, Node):
        return new[id(thing)]
    if isinstance(thing, list | tuple):
        items = [_renewed(t, new) for t in thing]
        changed = any(a is not b for a, b in zip(items, thing, strict=True))
        return type(thing)(items) if changed else thing
    return thing


def _softmax(node: Node, uses: Counter[int]) -> tuple[str, tuple[Any, ...]] | None:
    """The softmax, e / Σ e with e = exp(z - max z) along one axis: as stable as its parts."""
    if node.op != "divide" or not all(isinstance(a, Node) for a in node.args):
        return None
    e, below = node.args
    if e.op != "xp.exp" or below.op != "xp.sum" or below.args[0] is not e:
        return None
    axis, keep = (dict(below.options).get(n) for n in ("axis", "keepdims"))
    if not isinstance(axis, int) or not keep or uses[id(e)] != 2 or uses[id(below)] != 1:
        return None
    inner = e.args[0]
    if inner.op != "subtract" or not all(isinstance(a, Node) for a in inner.args):
        return None
    z, top = inner.args
    same = top.op == "xp.max" and top.args[0] is z and dict(top.options) == dict(below.options)
    if not same or uses[id(inner)] != 1 or uses[id(top)] != 1 or not z.dtype.startswith("float"):
        return None
    return "softmax", (z, axis)


def _addmm(node: Node, uses: Counter[int]) -> tuple[str, tuple[Any, ...]] | None:
    """A product of two matrices plus a bias."""
    if node.op != "add" or not all(isinstance(a, Node) for a in node.args):
        return None
    for product, bias in (node.args, node.args[::-1]):
        matrices = product.op == "matmul" and all(
            isinstance(a, Node) and len(a.shape) == 2 for a in product.args
        )
        fits = bias.dtype == product.dtype != "" and len(bias.shape) in (1, 2)
        if matrices and fits and uses[id(product)] == 1 and product.shape == node.shape:
            return "addmm", (bias, *product.args)
    return None


def softmax(emitter: Emitter, node: Node) -> str:
    """The line of a softmax: of few columns that of the transpose, where that is the faster one.

    Its entries then lie column by column, which is as good for what goes between zeros; arrays that a caller
    gets lie row by row.
    """
    (z, axis), shape, direct = node.args, node.shape, emitter.dialect.direct
    narrow = len(shape) == 2 and axis in (1, -1) and shape[0] >= _MANY and shape[1] <= _FEW
    if not (narrow and emitter.in_place and "softmax of columns" in direct):
        return emitter.plain(node)
    text = direct["softmax of columns"].format(emitter.ref(z))
    return text if emitter.all_placed else direct["settled"].format(text)
