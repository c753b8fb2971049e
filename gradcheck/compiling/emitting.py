"""Statements as source: which line each node becomes, and which results are written over others.

A temporary that nobody reads any more takes the next result of its shape and dtype, as one would
write by hand with `out=`. What a caller gave, and what goes back to the caller, is never written into.
"""

from __future__ import annotations

import keyword
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gradcheck.compiling.graph import VIEWS, Graph, Node, reachable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_INFIX = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "o.pow": "**", "o.less": "<",
    "o.less_equal": "<=", "o.greater": ">", "o.greater_equal": ">=", "o.equal": "==",
    "o.not_equal": "!=", "o.floordiv": "//", "o.mod": "%", "o.and": "&", "o.or": "|", "o.xor": "^",
}  # fmt: skip
_PREFIX = {"negative": "-", "o.invert": "~"}
# Namespace functions that hand back what they were given, or a part of it.
_MAY_ALIAS = VIEWS | {"xp.reshape", "xp.permute_dims", "xp.expand_dims", "xp.tril", "xp.triu"}
_STATEMENT = re.compile(r"(\w+) [-+*/]= ")
# Views that are written where they are used, if that is one place.
INLINE = frozenset({"transpose", "expand", "reshape"})
_FRESH_XP = re.compile(
    r"(add|subtract|multiply|divide|negative|matmul|power|scale|one_hot|place|zeros|full|softmax|addmm|copy"
    r"|f\.\w+|o\.\w+|xp\.(exp|expm1|log|log1p|sqrt|sin|cos|tan|tanh|sinh|cosh|sigmoid|erf|square|sum|mean"
    r"|max|min|prod|var|std|logsumexp|where|maximum|minimum|logaddexp|pow|one_hot|concat|stack))\Z"
)


@dataclass
class Dialect:
    """How one framework writes its operations.

    Attributes:
        direct: Lines of operations by name: `"np.exp({0})"`, with `{out}` where a result may be
            written into an array that exists.
        special: Operations whose line depends on more than their arguments.
        writes: Whether arrays can be written into.
    """

    direct: Mapping[str, str]
    into: Mapping[str, str]
    special: Mapping[str, Callable[[Emitter, Node], str]]
    writes: bool


@dataclass
class Emitter:
    """One program as source.

    Attributes:
        all_placed: Whether every result is made of blocks between zeros, in memory of its own.
    """

    graph: Graph
    dialect: Dialect
    in_place: bool
    lines: list[str] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    done: list[Node] = field(default_factory=list)
    gone: set[int] = field(default_factory=set)
    all_placed: bool = False

    def body(self, results: Mapping[str, Node]) -> dict[str, str]:
        """Write the lines; gives the name behind which each result is found."""
        finals = list(results.values())
        self.all_placed = all(n.op == "place" for n in finals)
        order = reachable(finals)
        self._lives(order, finals)
        self.taken |= set(self.graph.inputs) | set(self.graph.constants)
        for place, node in enumerate(order):
            self._statement(place, node)
            if id(node) in self.owned:
                self.done.append(node)
        return self._results(results)

    # ---------------------------------------------------------------- who may be written over

    def _lives(self, order: Sequence[Node], finals: Sequence[Node]) -> None:
        """For each buffer, the place of its last use; results are used for ever."""
        self.base: dict[int, Node] = {}
        self.uses = Counter(id(o) for n in order for o in n.operands())
        self.last: dict[int, float] = {}
        self.owned: set[int] = set()
        for place, node in enumerate(order):
            operands = node.operands()
            alias = node.op in _MAY_ALIAS and operands
            self.base[id(node)] = self.base[id(operands[0])] if alias else node
            if not alias and _FRESH_XP.match(node.op):
                self.owned.add(id(node))
            for operand in operands:
                self._use(operand, place)
                if not alias and id(node) not in self.owned:
                    self._use(operand, float("inf"))  # it may hand back a part of its operand
        for node in finals:
            self._use(node, float("inf"))

    def _use(self, node: Node, place: float) -> None:
        base = id(self.base[id(node)])
        self.last[base] = max(self.last.get(base, place), place)

    def reusable(self, place: int, node: Node) -> Node | None:
        """An operand whose memory the result may take."""
        if not (self.in_place and self.dialect.writes) or node.shape == () or not node.dtype:
            return None
        operands = node.operands()
        for operand in operands:
            base = self.base[id(operand)]
            alone = all(self.base[id(o)] is not base or o is operand for o in operands)
            fits = operand.shape == node.shape and operand.dtype == node.dtype
            mine = operand is base and id(operand) in self.owned
            if fits and mine and alone and self.last[id(base)] <= place:
                self.gone.add(id(operand))
                return operand
        return None

    def spare(self, place: int, node: Node) -> Node | None:
        """An array that nobody reads any more, whose memory the result may take.

        Fresh memory costs more than what is computed into it, once arrays outgrow the caches.
        """
        if not (self.in_place and self.dialect.writes) or node.shape == () or not node.dtype:
            return None
        for known in self.done:
            dead = id(known) in self.owned and self.last[id(known)] < place
            fits = known.shape == node.shape and known.dtype == node.dtype
            if dead and fits and id(known) not in self.gone:
                self.gone.add(id(known))
                return known
        return None

    # ---------------------------------------------------------------- statements

    def _statement(self, place: int, node: Node) -> None:
        if node.op in ("input", "constant"):
            self.names[id(node)] = node.args[0]
            return
        # A product that takes its left operand as it was before it was turned needs no line for that.
        turned = node.op == "transpose" and "dot turned" in self.dialect.direct
        if turned or (node.op in INLINE and self.uses[id(node)] == 1):
            special = self.dialect.special.get(node.op)
            self.names[id(node)] = special(self, node) if special else self.plain(node)
            return
        self.place = place
        special = self.dialect.special.get(node.op)
        text = special(self, node) if special else self._written_over(place, node)
        if id(node) in self.names:  # what takes several lines names its result itself
            return
        changed = _STATEMENT.match(text)
        if changed is None:
            self.lines.append(f"{self.name_for(node)} = {text}")
            return
        self.lines.append(text)
        self.names[id(node)] = changed[1]
        if node.name:
            self.lines.append(f"{self.name_for(node)} = {changed[1]}")

    def _written_over(self, place: int, node: Node) -> str:
        """The operation into the memory of an operand, else of a dead array, else of a new one."""
        into = self.dialect.into
        if node.op in into and (spare := self.reusable(place, node)) is not None:
            own = f"{node.op} first"
            key = own if own in into and node.args[0] is spare else node.op
            return self._filled(into[key], node, out=self.ref(spare))
        return self.over(place, node) or self.plain(node)

    def over(self, place: int, node: Node) -> str:
        """The operation into the memory of a dead array; empty where there is none."""
        template = self.dialect.into.get(f"{node.op} over")
        spare = self.spare(place, node) if template is not None else None
        return "" if spare is None else self._filled(template or "", node, out=self.ref(spare))

    def plain(self, node: Node) -> str:
        """The operation as an expression that makes a new array (or a view)."""
        if node.op in self.dialect.direct:
            return self._filled(self.dialect.direct[node.op], node)
        if node.op in _INFIX:
            left, right = map(self.ref, node.args)
            return f"{left} {_INFIX[node.op]} {right}"
        if node.op in _PREFIX:
            return f"{_PREFIX[node.op]}{self.ref(node.args[0])}"
        if node.op in ("index", "expand"):
            return f"{self.ref(node.args[0])}[{self._index(node.args[1])}]"
        if node.op == "reshape":
            return f"{self.ref(node.args[0])}.reshape({self.ref(node.args[1])})"
        arguments = [self.ref(a) for a in node.args]
        arguments += [f"{n}={self.ref(v)}" for n, v in node.options]
        return f"{self.called(node.op)}({', '.join(arguments)})"

    @staticmethod
    def called(op: str) -> str:
        """The function of an operation that has no line of its own."""
        return op.replace("f.", "notation.", 1) if op.startswith("f.") else op

    def _filled(self, template: str, node: Node, out: str = "") -> str:
        refs = [self.ref(a) for a in node.args]
        options = {n: self.ref(v) for n, v in node.options}
        if options.get("keepdims") == "False":
            template = template.replace(", keepdims={keepdims}", "").replace(", {keepdims}", "")
        return template.format(*refs, out=out, **options)

    def ref(self, thing: Any) -> str:
        """A name or a literal."""
        if isinstance(thing, Node):
            return self.names[id(thing)]
        if isinstance(thing, list):
            return f"[{', '.join(map(self.ref, thing))}]"
        if isinstance(thing, tuple):
            inner = ", ".join(map(self.ref, thing))
            return f"({inner},)" if len(thing) == 1 else f"({inner})"
        if isinstance(thing, slice):
            return f"slice({self.ref(thing.start)}, {self.ref(thing.stop)}, {self.ref(thing.step)})"
        if isinstance(thing, float) and thing in (float("inf"), float("-inf")):
            return "inf" if thing > 0 else "-inf"
        return "..." if thing is Ellipsis else "nan" if thing != thing else repr(thing)

    def _index(self, index: Any) -> str:
        items = index if isinstance(index, tuple) else (index,)
        texts = []
        for item in items:
            if isinstance(item, slice):
                ends = [
                    "" if v is None else self.ref(v) for v in (item.start, item.stop, item.step)
                ]
                texts.append(":".join(ends[: 3 if ends[2] else 2]))
            else:
                texts.append(self.ref(item))
        return ", ".join(texts) + ("," if isinstance(index, tuple) and len(index) == 1 else "")

    def name_for(self, node: Node) -> str:
        """A name that nobody has yet."""
        self.names[id(node)] = self.fresh(node.name or "t")
        return self.names[id(node)]

    def fresh(self, wanted: str) -> str:
        """This name, with a number where it is taken."""
        if not wanted.isidentifier() or keyword.iskeyword(wanted):
            wanted = "t"
        name, number = wanted, 0
        while name in self.taken or name == "t":
            number += 1
            name = f"{wanted}{number}"
        self.taken.add(name)
        return name

    def _results(self, results: Mapping[str, Node]) -> dict[str, str]:
        """Results that share memory with nobody: what is a view of an input is copied."""
        found, given = {}, set()
        for name, node in results.items():
            base = self.base[id(node)]
            text = self.names[id(node)]
            own = id(base) in self.owned and node.op not in ("expand", "xp.broadcast_to")
            if node.dtype != "number" and (not own or id(base) in given):
                text = self.dialect.direct["copy"].format(text)
            given.add(id(base))
            found[name] = text
        return found
