"""One derivative compiled for one framework at one set of shapes: source, and the function it makes."""

from __future__ import annotations

import linecache
import weakref
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.algebra.shapes import at_rank, rank_in
from gradcheck.compiling.contraction import Piece, settled
from gradcheck.compiling.emitting import Dialect, Emitter
from gradcheck.compiling.graph import Graph, Node, cost
from gradcheck.compiling.kernels import fuse, softmax
from gradcheck.compiling.lowering import Scope, dense
from gradcheck.compiling.placing import joined, placed
from gradcheck.compiling.reverse import pull, push, run_steps
from gradcheck.compiling.tracing import Recorder, Traced, record
from gradcheck.errors import ShapeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from gradcheck.algebra.terms import Expression
    from gradcheck.backends.writing import Writing
    from gradcheck.operation import Operation


# Names in a program that no variable may take.
RESERVED = ("xp", "inf", "nan", "notation", "one_hot", "power", "forward", "jitted", "Miss")


# What gives one array, not a dict of them.
SINGLE = ("dense", "jvp", "hessian")


class Miss(Exception):
    """The arguments are not what this program was compiled for."""


@dataclass(frozen=True)
class Request:
    """What is to be computed.

    Attributes:
        method: "dense", "vjp", "jvp", "gradient", "value_and_gradient", "structured", "hvp" or "hessian".
        names: The inputs that are differentiated by.
        output: The output that is differentiated.
    """

    method: str
    names: tuple[str, ...]
    output: str

    @property
    def vectors(self) -> tuple[str, ...]:
        """The operands whose cotangent or tangents come with a call."""
        moving = {"vjp": (self.output,), "jvp": self.names[:1], "hvp": self.names}
        return moving.get(self.method, ())


@dataclass(frozen=True)
class Setting:
    """What a program is compiled for.

    Attributes:
        backend: The framework.
        dtype: The dtype of real numbers.
        device: Where the arrays lie.
        sizes: The size of each axis.
        fixed: Parameters whose values are part of the program: counts and choices.
        writes: Whether temporaries may be written into.
    """

    backend: Any
    dtype: str
    device: str
    sizes: Mapping[str, int]
    fixed: Mapping[str, Any]
    writes: bool


def simplify_with(
    operation: Operation, *, trusting: bool = True
) -> Callable[[Expression], Expression]:
    """Simplification by what holds on the domains of an operation, or at any arrays at all."""
    relations = tuple(operation.row_relations().values())

    def simplify(expression: Expression) -> Expression:
        used = (relations or expression.relations) if trusting else ()
        return replace(expression, relations=used).simplify()

    return simplify


class Builder:
    """Makes one program from one request.

    Args:
        operation: The spec or chain.
        request: What is wanted.
        setting: What it is compiled for.
        trusting: Whether relations of domains are used, such as that rows of y sum to one.
    """

    def __init__(
        self, operation: Operation, request: Request, setting: Setting, *, trusting: bool = True
    ) -> None:
        self.operation, self.request, self.setting = operation, request, setting
        self.simplify = simplify_with(operation, trusting=trusting)
        self.writing: Writing = setting.backend.writing(setting.dtype, setting.device)
        self.rank = rank_in(setting.sizes)
        self.shapes = {n: at_rank(s, self.rank) for n, s in operation.shapes.items()}
        self.relied: set[str] = set()

    # ---------------------------------------------------------------- statements

    def traced(self, values: Mapping[str, Any]) -> tuple[Graph, dict[str, Node]] | None:
        """The forward recorded on arrays; None where it cannot be."""
        graph, backend = Graph(), self.setting.backend
        recorder = Recorder(graph, backend.dtype_of)
        xp = backend.namespace(self.setting.dtype, self.setting.device)
        with np.errstate(all="ignore"):  # a link may overflow that no result needs
            found = record(self.operation.environment, xp, values, recorder, self.setting.fixed)
        if found is None:
            return None
        nodes = {}
        for name, value in found.items():
            if isinstance(value, Traced):
                nodes[name] = value.node
                if value.node.op not in ("input", "constant"):
                    value.node.name = value.node.name or name
            elif hasattr(value, "shape"):
                nodes[name] = graph.constant(value, tuple(value.shape), backend.dtype_of(value))
            elif isinstance(value, int | float):
                nodes[name] = graph.add("number", value, shape=(), dtype="number")
        return graph, nodes

    def opaque(
        self, kinds: Mapping[str, tuple[tuple[int, ...], str]]
    ) -> tuple[Graph, dict[str, Node]]:
        """Every operand as something that comes with the call: the forward is called as it is."""
        graph = Graph()
        return graph, {n: graph.input(n, *kind) for n, kind in kinds.items()}

    def results(self, graph: Graph, nodes: Mapping[str, Node], *, late: bool) -> dict[str, Node]:
        """What the request asks for; `late` applies numbers where they are needed, not at once."""
        scope = self.scope(graph, nodes, late=late)
        return getattr(self, f"_{self.request.method}")(scope, nodes)  # type: ignore[no-any-return]

    def scope(self, graph: Graph, nodes: Mapping[str, Node], *, late: bool) -> Scope:
        """What expressions are evaluated in."""
        setting = self.setting
        return Scope(
            graph,
            {n: Piece(node) for n, node in nodes.items()},
            dict(self.shapes),
            setting.sizes,
            self.operation.one_hot,
            setting.dtype,
            {n: v for n, v in setting.fixed.items() if isinstance(v, int)},
            late=late,
        )

    def _dense(self, scope: Scope, _: Mapping[str, Node]) -> dict[str, Node]:
        return {"dense": dense(self.expression(), scope)}

    def _vector(self, scope: Scope, name: str) -> Node:
        shape = tuple(scope.extent(a) for a in self.shapes[name])
        return scope.graph.input(f"d_{name}", shape, self.setting.dtype)

    def check_vector(self, name: str, vector: Any) -> None:
        """Refuse a cotangent or tangent of another shape than the name's.

        Raises:
            ShapeError: With both shapes.
        """
        dims, sizes = self.shapes[name], self.setting.sizes
        expected = tuple(int(d) if d.isdigit() else sizes.get(d, -1) for d in dims)
        if -1 not in expected and tuple(vector.shape) != expected:
            what = "cotangent" if self.request.method == "vjp" else "tangent"
            raise ShapeError(
                f"the {what} has shape {tuple(vector.shape)}, but {name} has shape {expected}"
            )

    def _vjp(self, scope: Scope, _: Mapping[str, Node]) -> dict[str, Node]:
        seed = Piece(self._vector(scope, self.operation.result), ())
        return self._pulled(scope, seed)

    def _gradient(self, scope: Scope, _: Mapping[str, Node]) -> dict[str, Node]:
        return self._pulled(scope, Piece(None))

    def _pulled(self, scope: Scope, seed: Piece) -> dict[str, Node]:
        names = self.request.names
        found = pull(self.operation, scope, seed, names, self.simplify, self.relied)
        return {n: self._whole(scope, n, piece) for n, piece in found.items()}

    def _whole(self, scope: Scope, name: str, piece: Piece) -> Node:
        piece = settled(scope.graph, piece)
        if piece.node is not None and piece.node.dtype != "number":
            return piece.node
        shape = tuple(scope.extent(a) for a in self.shapes[name])
        zeros = scope.graph.add("zeros", shape=shape, dtype=scope.dtype)
        number: Any = piece.node if piece.node is not None else float(piece.number)
        return scope.graph.add("add", zeros, number, shape=shape, dtype=scope.dtype)

    def _value_and_gradient(self, scope: Scope, nodes: Mapping[str, Node]) -> dict[str, Node]:
        result = self.operation.result
        return {" value": nodes[result], **self._gradient(scope, nodes)}

    def _structured(self, _: Scope, nodes: Mapping[str, Node]) -> dict[str, Node]:
        """The operands that the derivative mentions: the entries are left for later."""
        return {n: nodes[n] for n in self.operands()}

    def expression(self) -> Expression:
        """The derivative itself, simplified."""
        request = self.request
        expression = self.operation.derivative(request.output, request.names[0], self.rank)
        simple = self.simplify(expression)
        self.relied.update(simple.conditions())
        return simple

    def remarks(self) -> list[str]:
        """The relations that the program trusts, each as a comment with its reason."""
        relations = self.operation.row_relations().values()
        return [
            f"# uses {r.equation()}: {r.because}" for r in relations if r.equation() in self.relied
        ]

    def operands(self) -> list[str]:
        """What the derivative mentions."""
        return sorted(self.expression().names())

    def _jvp(self, scope: Scope, _: Mapping[str, Node]) -> dict[str, Node]:
        name = self.request.names[0]
        vector = self._vector(scope, name)
        piece = push(self.operation, scope, vector, name, self.simplify, self.relied)
        return {"tangent": self._whole(scope, self.operation.result, piece)}

    def _hvp(self, scope: Scope, _: Mapping[str, Node]) -> dict[str, Node]:
        """The steps of a Hessian-vector product, from the tangents of the inputs that move."""
        from gradcheck.second_order.products import ends, shapes_of, steps

        program = steps(self.operation, self.request.names, self.rank)
        scope.shapes.update(shapes_of(self.operation, self.rank))
        for name in self.request.names:
            scope.operands[f"t({name})"] = Piece(self._vector(scope, name))
        for step in program:
            self.relied.update(step.expression.conditions())
        run_steps(scope, ((s.target, s.expression) for s in program))
        nothing = Piece(None, (), Fraction(0))
        found = ends(self.operation, self.request.names)
        return {n: self._whole(scope, n, scope.operands.get(t, nothing)) for n, t in found.items()}

    def _hessian(self, scope: Scope, _: Mapping[str, Node]) -> dict[str, Node]:
        from gradcheck.second_order.rules import closed_second

        first, name = self.request.names
        expression = closed_second(self.operation, first, name, self.rank)
        self.relied.update(expression.conditions())
        return {"hessian": dense(expression, scope)}

    def best(self, values: Mapping[str, Any]) -> tuple[Graph, dict[str, Node], bool]:
        """Graph and results, numbers applied early or late, whichever is cheaper; and if traced."""
        made = []
        for late in (False, True):
            start = self.traced(values)
            if start is None:
                break
            made.append((start[0], self.results(*start, late=late)))
        if not made:
            return (*self._after(values), False)
        graph, results = min(made, key=lambda pair: cost(pair[1].values()))
        if self.writing.fused:
            results = fuse(graph, results)
        return graph, results, True

    def _after(self, values: Mapping[str, Any]) -> tuple[Graph, dict[str, Node]]:
        """The same where the forward is called as it is: its operands are arguments."""
        setting = self.setting
        xp = setting.backend.namespace(setting.dtype, setting.device)
        found = self.operation.environment(xp, dict(values))
        return self.after(kinds_of(found, setting.backend))

    def after(
        self, kinds: Mapping[str, tuple[tuple[int, ...], str]]
    ) -> tuple[Graph, dict[str, Node]]:
        """Graph and results from the shapes and dtypes of the operands."""
        made = []
        for late in (False, True):
            graph, nodes = self.opaque(kinds)
            made.append((graph, self.results(graph, nodes, late=late)))
        return min(made, key=lambda pair: cost(pair[1].values()))

    # ---------------------------------------------------------------- source

    def function(
        self, graph: Graph, results: Mapping[str, Node], *, writes: bool | None = None
    ) -> tuple[list[str], list[str]]:
        """The lines of the body, and the names behind which the results are found."""
        in_place = self.setting.writes if writes is None else writes
        if in_place and self.writing.into:
            results = joined(graph, results, self.writing.into)
        emitter = Emitter(graph, self.dialect(), in_place)
        emitter.taken |= {*self.writing.calls, *RESERVED}
        found = emitter.body(results)
        return emitter.lines, list(found.values())

    def returned(self, names: Sequence[str], results: Iterable[str]) -> str:
        """The expression that a call gives back, from the names of the results."""
        method, found = self.request.method, dict(zip(results, names, strict=True))
        if method in SINGLE:
            return names[0]
        wanted = [n for n in found if not n.startswith(" ")]
        pairs = ", ".join(f"{n!r}: {found[n]}" for n in wanted)
        if method == "value_and_gradient":
            return f"{found[' value']}, {{{pairs}}}"
        return f"{{{pairs}}}"

    def dialect(self) -> Dialect:
        """How this framework's lines are written."""
        writing = self.writing
        special: dict[str, Callable[[Emitter, Node], str]] = {
            "matmul": _matmul, "transpose": _transpose, "place": self._place, "zeros": self._made,
            "full": self._made, "diagonal": _diagonal, "power": _power, "number": _number,
            "softmax": softmax,
        }  # fmt: skip
        if "unsqueezed" in writing.direct:
            special["expand"] = _expanded
        if "sum first" in writing.direct:
            special["xp.sum"] = _sum
        into = {n: t for n, t in writing.into.items() if "{other}" not in t}
        special.update({n: self._with_other(n) for n in writing.into if n not in into})
        return Dialect(writing.direct, into, special, bool(writing.into))

    def _with_other(self, op: str) -> Callable[[Emitter, Node], str]:
        """An operation in which either operand may take the result."""
        template = self.writing.into[op]

        def line(emitter: Emitter, node: Node) -> str:
            spare = emitter.reusable(emitter.place, node)
            if spare is None:
                return emitter.over(emitter.place, node) or emitter.plain(node)
            other = next((a for a in node.args if a is not spare), spare)
            return template.format(out=emitter.ref(spare), other=emitter.ref(other))

        return line

    def _made(self, emitter: Emitter, node: Node) -> str:
        refs = [emitter.ref(a) for a in node.args]
        return self.writing.direct[node.op].format(
            *refs, shape=node.shape, dtype=self.setting.dtype, device="device"
        )

    def _place(self, emitter: Emitter, node: Node) -> str:
        return placed(emitter, node, self.writing, self.setting.dtype)


def kinds_of(values: Mapping[str, Any], backend: Any) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and dtype of each operand."""
    kinds: dict[str, tuple[tuple[int, ...], str]] = {}
    for name, value in values.items():
        if type(value) in (int, float, bool):
            kinds[name] = ((), "number")
        elif hasattr(value, "shape"):
            kinds[name] = (tuple(value.shape), backend.dtype_of(value))
    return kinds


def _matmul(emitter: Emitter, node: Node) -> str:
    left, right = node.args
    direct = emitter.dialect.direct
    flat = len(left.shape) == 2 == len(right.shape)
    if flat and "dot turned" in direct and left.op == "transpose":
        return direct["dot turned"].format(emitter.ref(left.args[0]), emitter.ref(right))
    which = "dot" if flat and "dot" in direct else "matmul"
    return direct[which].format(emitter.ref(left), emitter.ref(right))


def _sum(emitter: Emitter, node: Node) -> str:
    options, operand = dict(node.options), node.args[0]
    first = options.get("axis") == 0 and not options.get("keepdims") and len(node.args) == 1
    if first and isinstance(operand, Node) and len(operand.shape) == 2:
        return emitter.dialect.direct["sum first"].format(emitter.ref(operand))
    return emitter.plain(node)


def _transpose(emitter: Emitter, node: Node) -> str:
    which = "turned" if node.args[1] == (1, 0) else "transpose"
    return emitter.dialect.direct[which].format(*map(emitter.ref, node.args))


def _expanded(emitter: Emitter, node: Node) -> str:
    """One new axis by a method, which takes half the time of an index."""
    operand, index = node.args
    new = [i for i, item in enumerate(index) if item is None]
    if len(new) != 1 or any(item not in (None, slice(None)) for item in index):
        return emitter.plain(node)
    return emitter.dialect.direct["unsqueezed"].format(emitter.ref(operand), new[0])


def _diagonal(emitter: Emitter, node: Node) -> str:
    places = node.args[1]
    letters = "pqrstuvwxyz"
    ends = "".join(letters[p] for p in range(max(places) + 1))
    equation = f"{''.join(letters[p] for p in places)}->{ends}"
    return emitter.dialect.direct["diagonal"].format(
        emitter.ref(node.args[0]), equation=repr(equation)
    )


def _power(emitter: Emitter, node: Node) -> str:
    base, power = node.args
    if node.dtype == "number":
        return f"power({emitter.ref(base)}, {power.numerator}, {power.denominator})"
    if power.denominator == 1:
        return f"{emitter.ref(base)} ** {power.numerator}"
    if power.denominator == 2 and power.numerator == 1:
        return (
            emitter.dialect.direct["xp.sqrt"].format(emitter.ref(base))
            if ("xp.sqrt" in emitter.dialect.direct)
            else f"xp.sqrt({emitter.ref(base)})"
        )
    return f"{emitter.ref(base)} ** {float(power)!r}"


def _number(_: Emitter, node: Node) -> str:
    return repr(node.args[0])


_SERIAL = iter(range(10**9))


def compiled_source(source: str, name: str, names: Mapping[str, Any]) -> Callable[..., Any]:
    """The function that the source defines; tracebacks and debuggers find its lines."""
    file = f"<gradcheck program {next(_SERIAL)}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    space = dict(names)
    exec(compile(source, file, "exec"), space)
    function: Callable[..., Any] = space[name]
    weakref.finalize(function, linecache.cache.pop, file, None)
    return function
