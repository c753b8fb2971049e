"""Expressions to statements: common factors first, then contractions, then deltas as diagonals."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from gradcheck.algebra.grouping import grouped, swells
from gradcheck.algebra.normal import (
    count_unused,
    eliminate_deltas,
    first_entries,
    merge_factors,
    name_summed,
    resolve_broadcast,
)
from gradcheck.algebra.shapes import is_broadcast, is_number
from gradcheck.algebra.terms import Expression
from gradcheck.compiling.contraction import (
    Letters,
    Piece,
    align,
    product,
    settled,
    total,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradcheck.algebra.grouping import Group
    from gradcheck.algebra.terms import Factor, Term
    from gradcheck.compiling.graph import Graph, Node


@dataclass
class Scope:
    """What an expression is evaluated in.

    Attributes:
        graph: Where the statements go.
        operands: The node (and the number before it) behind each name.
        shapes: The declared axes of each name at the rank of the call.
        sizes: The size of each axis.
        one_hot: The axis that makes integer labels one-hot.
        dtype: The dtype of the result.
        numbers: Parameters that are sizes.
        late: Whether numbers before cotangents are applied where those are used, not at once.
    """

    graph: Graph
    operands: dict[str, Piece]
    shapes: dict[str, tuple[str, ...]]
    sizes: Mapping[str, int]
    one_hot: Mapping[str, str]
    dtype: str
    numbers: Mapping[str, int] = field(default_factory=dict)
    late: bool = False

    def extent(self, axis: str) -> int:
        """The size of an axis, which may be a number or an integer parameter."""
        if is_number(axis):
            return int(axis)
        return int(self.sizes[axis] if axis in self.sizes else self.numbers[axis])

    @property
    def single(self) -> set[str]:
        """The axes that are broadcast here."""
        return {"1", *(a for a, n in self.sizes.items() if is_broadcast(a) and n == 1)}


@dataclass(frozen=True)
class Part:
    """Terms with the same deltas, evaluated: where the entries of an array lie in the output.

    Attributes:
        piece: The array, with distinct letters.
        where: The output's letters, each replaced by the letter that it must equal.
    """

    piece: Piece
    where: Letters


def parts_of(expression: Expression, scope: Scope) -> list[Part]:
    """The expression as arrays along diagonals, those of fewest equations first."""
    groups: dict[Letters, list[Term]] = {}
    for term in expression.terms:
        where, plain = _prepared(term, expression.output, scope)
        if plain.coefficient:
            groups.setdefault(where, []).append(plain)
    found = []
    for where, terms in groups.items():
        letters = tuple(dict.fromkeys(where))
        pieces = [
            piece
            for group in grouped(Expression(letters, tuple(terms)))
            for piece in _pieces(group, letters, scope)
        ]
        found.append(Part(total(scope.graph, pieces, letters), where))
    return sorted(found, key=lambda p: -len(set(p.where)))


def _prepared(term: Term, output: Letters, scope: Scope) -> tuple[Letters, Term]:
    """The term at these sizes without deltas, and the pattern of output letters that they made."""
    term = resolve_broadcast(term, scope.shapes, scope.single)
    term = merge_factors(eliminate_deltas(term, output))
    term = name_summed(count_unused(term, output), output)
    representative = {b: a for a, b in term.deltas}
    where = tuple(representative.get(s, s) for s in output)
    return where, replace(term, deltas=())


def _number(coefficient: Fraction, sizes: tuple[tuple[str, Fraction], ...], scope: Scope) -> Piece:
    """A coefficient: exact as far as it is rational."""
    exact, rest = coefficient, 1.0
    for axis, power in sizes:
        extent = scope.extent(axis)
        if extent == 0 and power < 0:
            rest = float("inf")
        elif power.denominator == 1:
            exact *= Fraction(extent) ** int(power)
        else:
            rest *= float(extent) ** float(power)
    return Piece(None, (), exact, rest)


def _pieces(group: Group, keep: Letters, scope: Scope) -> list[Piece]:
    """The group in one piece, or in several, where a sum would be larger than all that it is made of.

    Of σ(u) (c[p,q] w[t,q] + u[p,q] v[t,q]), summed over q, the sum has three letters: as two products it is
    two matrix products, and neither overflows where the whole does not.
    """
    if not (group.summed and any(swells(terms, (*keep, *group.summed)) for terms in group.sums)):
        return [_group(group, keep, scope)]
    apart = Expression(keep, group.expanded(keep))
    return [_group(g, keep, scope) for g in grouped(apart, small=True)]


def _group(group: Group, keep: Letters, scope: Scope) -> Piece:
    """Common factors times sums, each sum formed before the product is contracted."""
    number = _number(group.coefficient, group.sizes, scope)
    arrays = [_operand(f, scope) for f in group.factors]
    outside = (*keep, *group.summed)
    for terms in group.sums:
        pieces = [_term(t, outside, scope) for t in terms]
        arrays.append(total(scope.graph, pieces, outside))
    return product(scope.graph, [number, *arrays], keep)


def _term(term: Term, keep: Letters, scope: Scope) -> Piece:
    arrays = [_operand(f, scope) for f in term.factors]
    return product(scope.graph, [_number(term.coefficient, term.sizes, scope), *arrays], keep)


# ---------------------------------------------------------------- operands


def _operand(factor: Factor, scope: Scope) -> Piece:
    """The array behind a factor: one-hot, function, power and first entries applied."""
    graph, piece = scope.graph, scope.operands[factor.name]
    if factor.function is not None or factor.power != 1:
        piece = settled(graph, piece)
    if piece.node is None:  # a cotangent that is a mere number, such as the 1 of a gradient
        return Piece(None, (), piece.scale ** int(factor.power), piece.rest)
    node = piece.node
    if len(factor.letters) == len(scope.shapes.get(factor.name, ())) + 1:
        extent = scope.extent(scope.one_hot[factor.name])
        node = graph.add("one_hot", node, extent, shape=(*node.shape, extent), dtype=scope.dtype)
    if (index := first_entries(factor, node.shape)) is not None:
        shape = tuple(n for n, s in zip(node.shape, factor.letters, strict=True) if s is not None)
        node = graph.add("index", node, index, shape=shape)
    if factor.function is not None:
        node = graph.add(f"f.{factor.function}", node, shape=node.shape)
    letters = tuple(s for s in factor.letters if s is not None)
    node, letters = _diagonal(graph, node, letters)
    return _power(graph, replace(piece, node=node, letters=letters), factor.power)


def _diagonal(graph: Graph, node: Node, letters: Letters) -> tuple[Node, Letters]:
    """The diagonal of an array that has a letter twice."""
    distinct = tuple(dict.fromkeys(letters))
    if distinct == letters:
        return node, letters
    sizes = dict(zip(letters, node.shape, strict=True))
    places = tuple(distinct.index(s) for s in letters)
    return graph.add("diagonal", node, places, shape=tuple(sizes[s] for s in distinct)), distinct


def _power(graph: Graph, piece: Piece, power: Fraction) -> Piece:
    node = piece.node
    assert node is not None
    if node.dtype == "number" and power != 1:  # where 1 / 0 is infinite, as it is in arrays
        node = graph.add("power", node, power, shape=(), dtype="number")
        return replace(piece, node=node)
    if abs(power) != 1:
        node = graph.add("power", node, abs(power), shape=node.shape)
    return replace(piece, node=node, inverse=power < 0)


# ---------------------------------------------------------------- dense arrays


def dense(expression: Expression, scope: Scope) -> Node:
    """The array of an expression, zeros included."""
    axes = expression.terms[0].axes
    shape = tuple(scope.extent(axes[s]) for s in expression.output)
    return place(scope, parts_of(expression, scope), expression.output, shape)


def whole(expression: Expression, scope: Scope) -> Piece:
    """The array of an expression as a piece, its number kept apart where no zeros are written."""
    parts = parts_of(expression, scope)
    if len(parts) == 1 and parts[0].where == expression.output:
        piece = parts[0].piece
        if piece.node is not None and set(piece.letters) == set(expression.output):
            return piece
    return Piece(dense(expression, scope), expression.output)


def place(scope: Scope, parts: list[Part], output: Letters, shape: tuple[int, ...]) -> Node:
    """Parts added into one array: what lies within another part's diagonal is added there first."""
    graph = scope.graph
    if not parts:
        return graph.add("zeros", shape=shape, dtype=scope.dtype)
    sizes = dict(zip(output, shape, strict=True))
    if len(parts) == 1 and parts[0].where == output:
        return _full(scope, parts[0].piece, output, sizes)
    settled_parts = _nested(scope, parts, sizes)
    if len(settled_parts) == 1 and settled_parts[0].where == output:
        return _full(scope, settled_parts[0].piece, output, sizes)
    args = []
    for part in settled_parts:
        letters = tuple(dict.fromkeys(part.where))
        node = _aligned(scope, part.piece, letters)
        args += [node, tuple(letters.index(s) for s in part.where)]
    return graph.add("place", *args, shape=shape, dtype=scope.dtype)


def _aligned(scope: Scope, piece: Piece, letters: Letters) -> Node | float:
    piece = settled(scope.graph, piece)
    return float(piece.number) if piece.node is None else align(scope.graph, piece, letters)


def _full(scope: Scope, piece: Piece, output: Letters, sizes: Mapping[str, int]) -> Node:
    """The array along all output letters, also those on which it does not depend."""
    shape = tuple(sizes[s] for s in output)
    node = _aligned(scope, piece, output)
    if isinstance(node, float):
        return scope.graph.add("full", node, shape=shape, dtype=scope.dtype)
    if node.shape == shape and node.dtype != "number":
        return node
    zeros = scope.graph.add("zeros", shape=shape, dtype=scope.dtype)
    return scope.graph.add("add", zeros, node, shape=shape)


def _nested(scope: Scope, parts: list[Part], sizes: Mapping[str, int]) -> list[Part]:
    """The parts, each that lies on a diagonal of a larger one added to that one."""
    kept: list[tuple[Letters, list[Part]]] = []
    for part in parts:
        home = next((inner for where, inner in kept if _refines(part.where, where)), None)
        if home is None:
            kept.append((part.where, [part]))
        else:
            home.append(part)
    return [_joined(scope, where, inner, sizes) for where, inner in kept]


def _refines(fine: Letters, coarse: Letters) -> bool:
    """Whether every equation between letters that `coarse` has is one that `fine` has."""
    return all(fine[i] == fine[coarse.index(s)] for i, s in enumerate(coarse))


def _joined(scope: Scope, where: Letters, parts: list[Part], sizes: Mapping[str, int]) -> Part:
    if len(parts) == 1:
        return parts[0]
    letters = tuple(dict.fromkeys(where))
    first = {s: where.index(s) for s in letters}
    shape = tuple(sizes[s] for s in letters)
    args: list[object] = []
    for part in parts:
        pattern = tuple(part.where[first[s]] for s in letters)
        distinct = tuple(dict.fromkeys(pattern))
        args += [_aligned(scope, part.piece, distinct), tuple(map(distinct.index, pattern))]
    node = scope.graph.add("place", *args, shape=shape, dtype=scope.dtype)
    return Part(Piece(node, letters), where)
