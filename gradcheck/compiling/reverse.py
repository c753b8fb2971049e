"""How cotangents travel through a chain: link by link, and fused where a closed form is cheaper.

The cotangent of each variable is a sum over the links that the variable feeds. Link by link, it is one
contraction with each link's derivative. Fused, the cotangents of the links' results are replaced by
their own expressions and the whole is simplified: for cross-entropy of a softmax, (a - y)/m, which
needs neither the logarithm nor a division by a. The cheaper of the two is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from gradcheck.algebra.compose import compose, jvp_of, lift, relabel, vjp_of
from gradcheck.algebra.shapes import DOTS, at_rank, leading_axes, rank_in
from gradcheck.algebra.terms import Expression, Term
from gradcheck.compiling.contraction import Piece, align, settled, total
from gradcheck.compiling.graph import Node, extra_cost
from gradcheck.compiling.lowering import Scope, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gradcheck.chain import Chain
    from gradcheck.chain import Node as Link
    from gradcheck.operation import Operation

# A closed form of more terms than this is not looked at: it would hardly be the cheaper one.
MOST_TERMS = 16
# Nor one of longer terms: the cotangents on the way are kept, and it starts again from one of them.
MOST_FACTORS = 12


@dataclass
class Reverse:
    """The cotangents of a chain's variables, as they are found.

    Attributes:
        chain: The chain.
        scope: What the expressions are evaluated in.
        simplify: Makes an equal expression that is shorter.
        forms: The expression of each cotangent, in operands and other cotangents.
        relied: The conditions of what is computed, such as "Σ_q y[p,q] = 1".
    """

    chain: Chain
    scope: Scope
    simplify: Callable[[Expression], Expression]
    forms: dict[str, Expression] = field(default_factory=dict)
    active: set[str] = field(default_factory=set)
    relied: set[str] = field(default_factory=set)

    def run(self, seed: Piece, names: tuple[str, ...]) -> dict[str, Piece]:
        """The cotangent of each named variable, from that of the result."""
        chain = self.chain
        self.active = set().union(*(chain._active(n) for n in names))
        self._start(seed)
        for variable in self._order(self.active):
            self._visit(variable)
        self._rely(names)
        return {n: self._cotangent(n) for n in names}

    def _rely(self, names: tuple[str, ...]) -> None:
        """Collect the conditions of the cotangents, and of those that they are computed from."""
        pending, seen = list(names), set()
        while pending:
            variable = pending.pop()
            if variable in seen or variable not in self.forms:
                continue
            seen.add(variable)
            form = self._simplified(self.forms[variable])
            self.relied.update(form.conditions())
            pending += [n[2:-1] for n in form.names() if n.startswith("d(")]

    def _start(self, seed: Piece) -> None:
        result = self.chain.result
        self.scope.operands[f"d({result})"] = seed
        self.scope.shapes[f"d({result})"] = self.scope.shapes[result]
        if seed.node is None:
            title = ((result, 0),)
            self.forms[result] = Expression((), (Term(seed.scale),), title)

    def _order(self, active: set[str]) -> list[str]:
        """The variables from the result back, each after all that it feeds."""
        made = [node.result for node in self.chain.nodes]
        given = [n for n in self.chain.inputs if n in active]
        return [n for n in reversed(made[:-1]) if n in active] + given

    def _visit(self, variable: str) -> None:
        feeds = [
            link
            for link in self.chain.nodes
            if link.local.get(variable) is not None and f"d({link.result})" in self.scope.operands
        ]
        if not feeds:
            return
        link_by_link = self._sum([self._pullback(n, variable) for n in feeds])
        best, form = self._lower(link_by_link), link_by_link
        fused = self._fused(feeds, variable)
        if fused is not None:
            closed = self._lower(fused)
            free = self._shared(feeds)
            if extra_cost(closed.node, best.node, free) < 0:
                best, form = closed, fused
        self.forms[variable] = form
        name = f"d({variable})"
        self.scope.operands[name] = _titled(best, variable)
        self.scope.shapes[name] = self.scope.shapes[variable]

    def _lower(self, expression: Expression) -> Piece:
        piece = whole(self._simplified(expression), self.scope)
        piece = piece if self.scope.late else settled(self.scope.graph, piece)
        # Its letters are this expression's own: as an operand it has those of each use.
        return _ordered(piece, expression.output, self.scope)

    def _shared(self, feeds: list[Link]) -> list[Node]:
        """The cotangents that several variables are found from: they are there in any case."""
        found = []
        for link in feeds:
            wanted = [
                v for v, local in link.local.items() if v in self.active and local is not None
            ]
            node = self.scope.operands[f"d({link.result})"].node
            if len(wanted) > 1 and node is not None:
                found.append(node)
        return found

    def _simplified(self, expression: Expression) -> Expression:
        return expression if len(expression.terms) > MOST_TERMS else self.simplify(expression)

    def _local(self, link: Link, variable: str) -> Expression:
        chain, rank = self.chain, rank_in(self.scope.sizes)
        split = len([d for d in chain.shapes[link.result] if d != DOTS])
        local = link.local[variable]
        assert local is not None
        leading = leading_axes(rank)
        return lift(local, split, leading, chain.dotted, of=link.result, to=variable)

    def _pullback(self, link: Link, variable: str) -> Expression:
        local = self._local(link, variable)
        return vjp_of(local, link.result, len(self.scope.shapes[link.result]))

    def _fused(self, feeds: list[Link], variable: str) -> Expression | None:
        """The same with every known cotangent replaced by its own expression."""
        if not any(link.result in self.forms for link in feeds):
            return None
        parts = []
        for link in feeds:
            outer = self.forms.get(link.result)
            local = self._local(link, variable)
            if outer is None:
                parts.append(self._pullback(link, variable))
            elif _too_long(outer, local):
                return None
            else:
                composed = compose(
                    replace(outer, title=((link.result, len(outer.output)),)),
                    local,
                    len(outer.output),
                )
                parts.append(composed)
        return self.simplify(self._sum(parts))

    @staticmethod
    def _sum(parts: list[Expression]) -> Expression:
        done = parts[0]
        for part in parts[1:]:
            done = done + relabel(part, done.output)
        return done

    def _cotangent(self, name: str) -> Piece:
        known = self.scope.operands.get(f"d({name})")
        if known is not None:
            return known
        shape = tuple(self.scope.extent(a) for a in self.scope.shapes[name])
        zeros = self.scope.graph.add("zeros", shape=shape, dtype=self.scope.dtype)
        return Piece(zeros, tuple(map(str, range(len(shape)))))


def _too_long(outer: Expression, local: Expression) -> bool:
    factors = [max((len(t.factors) for t in e.terms), default=0) for e in (outer, local)]
    return len(outer.terms) * len(local.terms) > MOST_TERMS or sum(factors) > MOST_FACTORS


def _ordered(piece: Piece, order: tuple[str, ...], scope: Scope) -> Piece:
    """The piece with its axes in the order in which the variable has them."""
    if piece.node is None or piece.inverse or set(piece.letters) != set(order):
        piece = settled(scope.graph, piece)
    if piece.node is None or piece.letters == order:
        return piece
    return replace(piece, node=align(scope.graph, piece, order), letters=order)


def _titled(piece: Piece, variable: str) -> Piece:
    if isinstance(piece.node, Node) and not piece.node.name and piece.node.op != "input":
        times = "" if piece.number == 1 else "_scaled"
        piece.node.name = f"d_{variable}{times}"
    return piece


def pull(
    operation: Operation,
    scope: Scope,
    seed: Piece,
    names: tuple[str, ...],
    simplify: Callable[[Expression], Expression],
    relied: set[str],
) -> dict[str, Piece]:
    """The cotangent of each named input of a spec or a chain; its conditions go into `relied`."""
    if hasattr(operation, "nodes"):
        return Reverse(operation, scope, simplify, relied=relied).run(seed, names)  # type: ignore[arg-type]
    result, rank = operation.result, rank_in(scope.sizes)
    scope.operands[f"d({result})"] = seed
    scope.shapes[f"d({result})"] = scope.shapes[result]
    letters = len(at_rank(operation.shapes[result], rank))
    found = {}
    for name in names:
        expression = simplify(vjp_of(operation.derivative(result, name, rank), result, letters))
        relied.update(expression.conditions())
        found[name] = _ordered(whole(expression, scope), expression.output, scope)
    return found


def push(
    operation: Operation,
    scope: Scope,
    tangent: Node,
    name: str,
    simplify: Callable[[Expression], Expression],
    relied: set[str],
) -> Piece:
    """The tangent of the result when one input moves; its conditions go into `relied`."""
    if hasattr(operation, "nodes"):
        return _push_chain(operation, scope, tangent, name, simplify, relied)  # type: ignore[arg-type]
    result, rank = operation.result, rank_in(scope.sizes)
    _moving(scope, name, Piece(tangent, ()))
    jacobian = operation.derivative(result, name, rank)
    expression = simplify(jvp_of(jacobian, name, len(at_rank(operation.shapes[result], rank))))
    relied.update(expression.conditions())
    return _ordered(whole(expression, scope), expression.output, scope)


def _moving(scope: Scope, name: str, piece: Piece) -> None:
    scope.operands[f"d({name})"] = piece
    scope.shapes[f"d({name})"] = scope.shapes[name]


def _push_chain(
    chain: Chain,
    scope: Scope,
    tangent: Node,
    name: str,
    simplify: Callable[[Expression], Expression],
    relied: set[str],
) -> Piece:
    """Forward accumulation, link by link."""
    reverse = Reverse(chain, scope, simplify)
    _moving(scope, name, Piece(tangent, ()))
    for link in chain.nodes:
        parts = []
        for variable, local in link.local.items():
            if local is not None and f"d({variable})" in scope.operands:
                jacobian = reverse._local(link, variable)
                rows = len(scope.shapes[link.result])
                expression = simplify(jvp_of(jacobian, variable, rows))
                relied.update(expression.conditions())
                piece = _ordered(whole(expression, scope), expression.output, scope)
                parts.append(replace(piece, letters=tuple(map(str, range(len(piece.letters))))))
        if parts:
            order = tuple(map(str, range(len(scope.shapes[link.result]))))
            _moving(scope, link.result, total(scope.graph, parts, order))
    known = scope.operands.get(f"d({chain.result})")
    if known is None:
        shape = tuple(scope.extent(a) for a in scope.shapes[chain.result])
        known = Piece(scope.graph.add("zeros", shape=shape, dtype=scope.dtype))
    return known


def run_steps(scope: Scope, program: Iterable[tuple[str, Expression]]) -> None:
    """Expressions evaluated one after another, each under a name that later ones may use."""
    for target, expression in program:
        piece = whole(expression, scope)
        piece = piece if scope.late else settled(scope.graph, piece)
        scope.operands[target] = _ordered(piece, expression.output, scope)
