"""The statements of a program as a graph: each node one array operation with a known shape.

Equal operations on equal operands are one node, so that nothing is computed twice.
"""

from __future__ import annotations

import heapq
import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

# Results that share memory with their operand.
VIEWS = frozenset({"transpose", "reshape", "index", "expand", "xp.broadcast_to", "xp.flip"})
VIEWS |= {f"xp.{n}" for n in ("diagonal", "squeeze", "matrix_transpose", "asarray")}

# Operations that take several times as long for an entry as it takes to read and write it.
DEAR = frozenset(
    p + n for n in ("exp", "log", "tanh", "erf", "sigmoid", "power", "o.pow") for p in ("", "f.")
)

# Functions with values from -1 to 1; those from 0 to 1 leave their difference from 1 there, too.
_POSITIVE = frozenset({"f.sigmoid", "xp.sigmoid", "one_hot", "xp.one_hot", "softmax"})
_SIGNED = frozenset(
    p + n for n in ("tanh", "erf", "sin", "cos", "sign") for p in ("f.", "xp.")
)  # fmt: skip

# What a call costs besides its entries, in entries: half a microsecond, at one entry a nanosecond.
OVERHEAD = 500.0


@dataclass(eq=False)
class Node:
    """One operation.

    Attributes:
        op: "input", "constant", an operation of this room, `f.NAME` for a function of the notation,
            or `xp.NAME` for one of the namespace.
        args: Operands: nodes, numbers, and tuples of these.
        options: Keywords, as sorted pairs.
        shape: The sizes of the result.
        dtype: Its dtype; "" where it is not known, "number" for a Python number.
        name: What the source may call it.
        made: When it was made: after its operands, before what uses it.
    """

    op: str
    args: tuple[Any, ...]
    options: tuple[tuple[str, Any], ...]
    shape: tuple[int, ...]
    dtype: str
    name: str = ""
    made: int = field(default_factory=itertools.count().__next__, repr=False)

    @property
    def size(self) -> int:
        """The number of entries."""
        return math.prod(self.shape)

    def operands(self) -> list[Node]:
        """The nodes among the arguments and keywords."""
        return list(_nodes_in((*self.args, *(v for _, v in self.options))))


def _nodes_in(things: Iterable[Any]) -> Iterable[Node]:
    for thing in things:
        if isinstance(thing, Node):
            yield thing
        elif isinstance(thing, tuple | list):
            yield from _nodes_in(thing)
        elif isinstance(thing, slice):
            yield from _nodes_in((thing.start, thing.stop, thing.step))


@dataclass
class Graph:
    """The nodes made so far.

    Attributes:
        inputs: The arrays that a call brings, by name.
        constants: Arrays that the forward made of nothing, by the name that the source gives them.
    """

    inputs: dict[str, Node] = field(default_factory=dict)
    constants: dict[str, Any] = field(default_factory=dict)
    _known: dict[Any, Node] = field(default_factory=dict)

    def input(self, name: str, shape: tuple[int, ...], dtype: str) -> Node:
        """An array (or a number) that comes with each call."""
        if name not in self.inputs:
            self.inputs[name] = Node("input", (name,), (), shape, dtype, name)
        return self.inputs[name]

    def constant(self, value: Any, shape: tuple[int, ...], dtype: str) -> Node:
        """An array that is the same at each call."""
        for name, known in self.constants.items():
            if known is value:
                return self._known["constant", name]
        name = f"constant{len(self.constants)}"
        self.constants[name] = value
        node = Node("constant", (name,), (), shape, dtype, name)
        self._known["constant", name] = node
        return node

    def add(
        self, op: str, *args: Any, shape: tuple[int, ...], dtype: str = "", **options: Any
    ) -> Node:
        """The node of an operation: one that is known already, or a new one."""
        pairs = tuple(sorted(options.items()))
        keys: Any = _key(args)
        if op in ("add", "multiply"):  # a c is what c a is
            keys = frozenset(keys[1:]) if len({*keys}) > 2 else keys
        key = (op, keys, _key(pairs), shape)
        if key not in self._known:
            self._known[key] = Node(op, args, pairs, shape, dtype or common_dtype(args))
        return self._known[key]


def _key(thing: Any) -> Any:
    """Something hashable that is equal for equal operands only."""
    if isinstance(thing, Node):
        return ("node", id(thing))
    if isinstance(thing, tuple | list):
        return (type(thing).__name__, *map(_key, thing))
    if isinstance(thing, slice):
        return ("slice", _key(thing.start), _key(thing.stop), _key(thing.step))
    # 1, 1.0 and True are equal to Python and not to a dtype; nor is 0.0 what -0.0 is.
    return (type(thing).__name__, repr(thing) if isinstance(thing, float) else thing)


def common_dtype(args: Iterable[Any]) -> str:
    """The dtype that all array operands share, or "" where they differ."""
    found = {n.dtype for n in _nodes_in(args) if n.dtype != "number"}
    return found.pop() if len(found) == 1 else ""


def broadcast_shape(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The common shape of elementwise operands."""
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(s)) + s for s in shapes]
    return tuple(next((n for n in sizes if n != 1), 1) for sizes in zip(*padded, strict=True))


def within_one(thing: Any) -> bool:
    """Whether no entry is larger than 1 in magnitude, as far as the operations show it."""
    if not isinstance(thing, Node):
        return isinstance(thing, int | float) and abs(thing) <= 1
    if thing.op in VIEWS or thing.op == "negative":
        return within_one(thing.args[0])
    if thing.op == "multiply":
        return all(map(within_one, thing.args))
    if thing.op == "power":
        return thing.args[1] > 0 and within_one(thing.args[0])
    if thing.op == "subtract":
        return thing.args[0] == 1 and _from_zero_to_one(thing.args[1])
    return thing.op in _POSITIVE or thing.op in _SIGNED


def _from_zero_to_one(thing: Any) -> bool:
    if not isinstance(thing, Node):
        return False
    if thing.op in VIEWS:
        return _from_zero_to_one(thing.args[0])
    return thing.op in _POSITIVE


def reachable(results: Iterable[Node]) -> list[Node]:
    """The nodes that the results need, operands first: all else is dead."""
    order: dict[int, Node] = {}
    stack = [(node, False) for node in reversed(list(results))]
    while stack:
        node, ready = stack.pop()
        if id(node) in order:
            continue
        if ready:
            order[id(node)] = node
            continue
        stack.append((node, True))
        stack.extend((n, False) for n in reversed(node.operands()) if id(n) not in order)
    return list(order.values())


def cost(results: Iterable[Node], free: Iterable[Node] = ()) -> float:
    """What computing the results takes, in entries read and written; `free` nodes are there already."""
    done = {id(n) for n in reachable(free)}
    return sum(node_cost(n) for n in reachable(results) if id(n) not in done)


def extra_cost(first: Node | None, second: Node | None, free: Iterable[Node] = ()) -> float:
    """The cost of computing the first, less that of the second, for any number of nodes below.

    What both need cancels, and nothing below it is looked at: from the last node back, each is reached
    after all that uses it.
    """
    needs: dict[int, int] = {}  # 1: the first needs it, 2: the second, 3: both
    heap: list[tuple[int, Node]] = []
    apart, total = 0, 0.0

    def reach(node: Node, bits: int) -> None:
        nonlocal apart
        before = needs.get(node.made, 0)
        if not before:
            heapq.heappush(heap, (-node.made, node))
        after = needs[node.made] = before | bits
        apart += (after in (1, 2)) - (before in (1, 2))

    for node, bits in ((first, 1), (second, 2), *((n, 3) for n in free)):
        if node is not None:
            reach(node, bits)
    while apart:
        node = heapq.heappop(heap)[1]
        bits = needs[node.made]
        if bits != 3:
            apart -= 1
            total += node_cost(node) if bits == 1 else -node_cost(node)
        for operand in node.operands():
            reach(operand, bits)
    return total


def node_cost(node: Node) -> float:
    """What one operation takes."""
    if node.op in ("input", "constant"):
        return 0.0
    if node.op in VIEWS:
        return 0.1 * OVERHEAD
    if node.op == "matmul":
        left = node.args[0].shape
        # A multiplication inside a product of matrices costs a fraction of one that goes to memory.
        return OVERHEAD + node.size * float(left[-1]) / 16 + node.size
    entries = max([node.size, *(n.size for n in node.operands())])
    return OVERHEAD + entries * (4.0 if node.op.removeprefix("xp.") in DEAR else 1.0)
