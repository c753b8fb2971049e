"""Products and sums of arrays with letters, as array statements.

A product of two arrays is a multiplication entry by entry where no letter is summed, a product of
matrices where one is, and in no case a loop over all letters at once. Numbers are kept apart from
the arrays for as long as possible, so that they are applied where an array is smallest.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from gradcheck.compiling.graph import Graph, Node, broadcast_shape, within_one

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Letters = tuple[str, ...]


@dataclass(frozen=True)
class Piece:
    """A number times an array with letters.

    Attributes:
        node: The array; None for a mere number.
        letters: The letter of each axis, all different.
        scale: The rational part of the number.
        rest: Its irrational part, from roots of axis sizes.
        inverse: Whether one divides by the array.
    """

    node: Node | None
    letters: Letters = ()
    scale: Fraction = Fraction(1)
    rest: float = 1.0
    inverse: bool = False

    @property
    def number(self) -> Fraction | float:
        """The number before the array."""
        return self.scale if self.rest == 1.0 else float(self.scale) * self.rest


def settled(graph: Graph, piece: Piece) -> Piece:
    """The piece with its number applied and its division done."""
    node = piece.node
    if node is None:
        return piece
    if piece.inverse:
        numerator = piece.number if isinstance(piece.number, float) else _short(piece.number)
        node = graph.add("divide", numerator, node, shape=node.shape)
        return Piece(node, piece.letters)
    return Piece(scale(graph, node, piece.number), piece.letters)


_LARGEST_HALF = 65504


def scale(graph: Graph, node: Node, number: Fraction | float) -> Node:
    """An array times a number; a fraction 1/k divides, which rounds once."""
    if number == 1:
        return node
    if number == -1:
        return graph.add("negative", node, shape=node.shape)
    if isinstance(number, Fraction) and abs(number.numerator) == 1:
        divisor = _short(number.denominator * number.numerator)
        if node.dtype == "float16" and abs(divisor) > _LARGEST_HALF:
            # The divisor itself would be infinite: a power of two first, which rounds nothing away.
            first = 2 ** math.ceil(math.log2(abs(divisor) / _LARGEST_HALF))
            node = graph.add("divide", node, first, shape=node.shape)
            divisor = divisor / first
        return graph.add("divide", node, divisor, shape=node.shape)
    return graph.add("multiply", node, _short(number), shape=node.shape)


def _short(number: Fraction | float) -> float | int:
    """An integer where it is one of a size that floats hold exactly, else a float."""
    value = float(number)
    return int(value) if value.is_integer() and abs(value) < 2**24 else value


def align(graph: Graph, piece: Piece, letters: Letters) -> Node:
    """The array with its axes in the order of `letters`, and axes of size 1 for those it lacks."""
    node = piece.node
    assert node is not None
    have = [s for s in letters if s in piece.letters]
    order = tuple(piece.letters.index(s) for s in have)
    if order != tuple(range(len(order))):
        node = graph.add("transpose", node, order, shape=tuple(node.shape[i] for i in order))
    index = tuple(slice(None) if s in piece.letters else None for s in letters)
    while index and index[0] is None:  # broadcasting adds axes in front by itself
        index = index[1:]
    if None not in index:
        return node
    sizes = iter(node.shape)
    shape = tuple(1 if i is None else next(sizes) for i in index)
    return graph.add("expand", node, index, shape=shape)


def sum_over(graph: Graph, piece: Piece, keep: Iterable[str]) -> Piece:
    """The piece summed over every letter that is not kept."""
    kept = set(keep)
    axes = tuple(i for i, s in enumerate(piece.letters) if s not in kept)
    if not axes or piece.node is None:
        return piece
    if piece.inverse:
        piece = replace(settled(graph, replace(piece, scale=Fraction(1), rest=1.0)),
                        scale=piece.scale, rest=piece.rest)  # fmt: skip
    assert piece.node is not None
    shape = tuple(n for i, n in enumerate(piece.node.shape) if i not in axes)
    which = axes[0] if len(axes) == 1 else axes
    node = graph.add("xp.sum", piece.node, shape=shape, axis=which, keepdims=False)
    return replace(piece, node=node, letters=tuple(s for s in piece.letters if s in kept))


def product(graph: Graph, pieces: Sequence[Piece], keep: Letters) -> Piece:
    """The product of pieces, summed over every letter that is not kept."""
    rational = math.prod((p.scale for p in pieces), start=Fraction(1))
    rest = math.prod(p.rest for p in pieces)
    arrays = [replace(p, scale=Fraction(1), rest=1.0) for p in pieces if p.node is not None]
    small = _smallest(arrays, keep) if rational * rest != 1 else None
    if small is not None:
        arrays[small] = settled(graph, replace(arrays[small], scale=rational, rest=rest))
        rational, rest = Fraction(1), 1.0
    arrays = [_reduced(graph, p, arrays, keep) for p in arrays]
    arrays = _merged(graph, arrays, keep)
    while len(arrays) > 1:
        first, second = _next_pair(arrays, keep)
        others = [p for i, p in enumerate(arrays) if i not in (first, second)]
        needed = {*keep, *(s for p in others for s in p.letters)}
        joined = _pair(graph, arrays[first], arrays[second], needed, keep)
        arrays = [*others, joined]
    if not arrays:
        return Piece(None, (), rational, rest)
    return replace(sum_over(graph, arrays[0], keep), scale=rational, rest=rest)


def _smallest(arrays: Sequence[Piece], keep: Letters) -> int | None:
    """The array to which a number is applied, where the product is larger than that array."""
    sizes = {
        s: n
        for p in arrays
        if p.node is not None
        for s, n in zip(p.letters, p.node.shape, strict=True)
    }
    whole: int = math.prod(n for s, n in sizes.items() if s in keep)
    known = [(p.node.size, i) for i, p in enumerate(arrays) if p.node is not None and p.letters]
    if len(known) < 2 or 2 * min(known)[0] > whole:
        return None
    return min(known)[1]


def _reduced(graph: Graph, piece: Piece, all_pieces: Sequence[Piece], keep: Letters) -> Piece:
    """The piece summed over the letters that nobody else has."""
    others = {s for p in all_pieces if p is not piece for s in p.letters}
    return sum_over(graph, piece, others | set(keep))


def _merged(graph: Graph, pieces: list[Piece], keep: Letters) -> list[Piece]:
    """Arrays of the same letters multiplied at once; divisors joined to an array that covers them."""
    merged: list[Piece] = []
    for piece in sorted(_tamed(pieces), key=lambda p: p.inverse):
        covers = [
            i
            for i, p in enumerate(merged)
            if set(piece.letters) == set(p.letters)
            or (piece.inverse and not p.inverse and set(piece.letters) <= set(p.letters))
        ]
        if covers:
            best = min(covers, key=lambda i: len(merged[i].letters))
            merged[best] = _entrywise(graph, merged[best], piece, keep)
        else:
            merged.append(piece)
    if len(merged) > 1:
        merged = [settled(graph, p) if p.inverse else p for p in merged]
    return merged


def _tamed(pieces: Sequence[Piece]) -> list[Piece]:
    """The pieces with those that cannot exceed one before the third that can.

    A cotangent times one operand is what automatic differentiation multiplies as well. A product of more
    may be infinite where a sigmoid in it is zero, so that d c u σ(u) is computed as d c σ(u) u.
    """
    small = [p.node is not None and not p.inverse and within_one(p.node) for p in pieces]
    large = [p for p, fits in zip(pieces, small, strict=True) if not fits]
    bounded = [p for p, fits in zip(pieces, small, strict=True) if fits]
    return [*large[:2], *bounded, *large[2:]] if len(large) > 2 else list(pieces)


def _next_pair(arrays: Sequence[Piece], keep: Letters) -> tuple[int, int]:
    """Which two arrays to contract first."""
    if len(arrays) == 2:
        return 0, 1
    sizes = {
        s: n
        for p in arrays
        if p.node is not None
        for s, n in zip(p.letters, p.node.shape, strict=True)
    }
    letters = tuple(p.letters for p in arrays)
    return _path_start(letters, tuple(s for s in keep if s in sizes), tuple(sizes.items()))


@functools.lru_cache(maxsize=1024)
def _path_start(
    operands: tuple[Letters, ...], keep: Letters, sizes: tuple[tuple[str, int], ...]
) -> tuple[int, int]:
    """The first step of opt_einsum's contraction path."""
    import opt_einsum

    extent = dict(sizes)
    shapes = [tuple(max(extent[s], 1) for s in letters) for letters in operands]
    symbol = {s: opt_einsum.get_symbol(i) for i, s in enumerate(extent)}
    left = ",".join("".join(symbol[s] for s in letters) for letters in operands)
    equation = f"{left}->{''.join(symbol[s] for s in keep)}"
    path, _ = opt_einsum.contract_path(equation, *shapes, shapes=True)
    first = sorted(path[0])
    return first[0], first[1]


def _pair(graph: Graph, a: Piece, b: Piece, needed: set[str], order: Letters) -> Piece:
    """Two arrays multiplied, and summed over the letters that nobody needs any more."""
    a = sum_over(graph, a, needed | set(b.letters))
    b = sum_over(graph, b, needed | set(a.letters))
    shared = [s for s in a.letters if s in b.letters]
    summed = [s for s in shared if s not in needed]
    if not summed:
        return _entrywise(graph, a, b, order)
    batch = [s for s in shared if s in needed]
    alone = [s for s in a.letters if s not in shared], [s for s in b.letters if s not in shared]
    if batch and not any(alone):
        return sum_over(graph, _entrywise(graph, a, b, (*batch, *summed)), needed)
    if alone[0] and alone[1] and order and _rank(order, alone[1][0]) < _rank(order, alone[0][0]):
        a, b, alone = b, a, (alone[1], alone[0])
    return _matmul(graph, (a, b), batch, alone, summed)


def _rank(order: Letters, letter: str) -> int:
    return order.index(letter) if letter in order else len(order)


def _entrywise(graph: Graph, a: Piece, b: Piece, order: Letters) -> Piece:
    """Two arrays multiplied (or divided) entry by entry, with broadcasting."""
    if a.inverse and not b.inverse:
        a, b = b, a
    letters = _common_order(a.letters, b.letters, order)
    left, right = align(graph, a, letters), align(graph, b, letters)
    op = "divide" if b.inverse and not a.inverse else "multiply"
    shape = broadcast_shape(left.shape, right.shape)
    node = graph.add(op, left, right, shape=shape)
    return Piece(node, letters, inverse=a.inverse and b.inverse)


def _common_order(left: Letters, right: Letters, order: Letters) -> Letters:
    """The letters of both: as an operand has them where it has all, so that no array is turned."""
    for own, other in ((left, right), (right, left)):
        if own[len(own) - len(other) :] == other:
            return own
    union = dict.fromkeys((*left, *right))
    return tuple(sorted(union, key=lambda s: _rank(order, s)))


def _matmul(
    graph: Graph,
    pair: tuple[Piece, Piece],
    batch: list[str],
    alone: tuple[list[str], list[str]],
    summed: list[str],
) -> Piece:
    """A product of matrices, in stacks where letters are shared and kept."""
    a, b = pair
    left = _grouped(graph, a, batch, alone[0], summed)
    right = _grouped(graph, b, batch, summed, alone[1])
    if not alone[0] and not batch:
        left = _flat(graph, left)
    if not alone[1] and not batch:
        right = _flat(graph, right)
    rows = left.shape[:-1]
    columns = right.shape[-1:] if len(right.shape) > 1 else ()
    if batch:
        shape = (*broadcast_shape(left.shape[:-2], right.shape[:-2]), left.shape[-2], *columns)
    else:
        shape = (*rows, *columns)
    node = graph.add("matmul", left, right, shape=shape)
    letters = (*batch, *alone[0], *alone[1])
    sizes = {
        s: n
        for p in pair
        if p.node is not None
        for s, n in zip(p.letters, p.node.shape, strict=True)
    }
    return Piece(reshape(graph, node, tuple(sizes[s] for s in letters)), letters)


def _grouped(
    graph: Graph, piece: Piece, batch: list[str], rows: list[str], columns: list[str]
) -> Node:
    """The array as a stack of matrices: rows and columns each of several letters together."""
    node = align(graph, piece, (*batch, *rows, *columns))
    sizes = dict(zip((*batch, *rows, *columns), node.shape, strict=True))
    shape = (
        *(sizes[s] for s in batch),
        math.prod(sizes[s] for s in rows),
        math.prod(sizes[s] for s in columns),
    )
    return reshape(graph, node, shape)


def _flat(graph: Graph, node: Node) -> Node:
    return reshape(graph, node, (node.size,))


def reshape(graph: Graph, node: Node, shape: tuple[int, ...]) -> Node:
    """The same entries in another shape; of a reshaped array, the array itself is reshaped."""
    if node.op == "reshape":
        node = node.args[0]
    if shape == node.shape:
        return node
    return graph.add("reshape", node, shape, shape=shape)


def total(graph: Graph, pieces: Sequence[Piece], order: Letters) -> Piece:
    """The sum of pieces; a number that all share stays before the sum."""
    pieces = [p for p in pieces if p.scale] or list(pieces[:1])
    if len(pieces) == 1:
        return pieces[0]
    shared = {(abs(p.scale), p.rest) for p in pieces}
    common, rest = next(iter(shared)) if len(shared) == 1 else (Fraction(1), 1.0)
    if all(p.scale < 0 for p in pieces):
        common = -common
    parts = sorted(
        (replace(p, scale=p.scale / common, rest=p.rest / rest) for p in pieces),
        key=lambda p: len(p.letters),
    )
    if common != 1 and not any(p.node is not None for p in parts):
        return Piece(None, (), sum((p.scale for p in pieces), Fraction(0)), rest)
    done, *others = parts
    while others:
        # Products of matrices that share a factor meet first, and become one.
        near = [i for i, p in enumerate(others) if _shared(done.node, p.node) is not None]
        done = _sum_of_two(graph, done, others.pop(near[0] if near else 0), order)
    return replace(done, scale=done.scale * common, rest=done.rest * rest)


def _sum_of_two(graph: Graph, a: Piece, b: Piece, order: Letters) -> Piece:
    """The sum of two pieces, as a difference where one of them is negative."""
    if a.node is None and b.node is None:
        return Piece(None, (), Fraction(1), float(a.number) + float(b.number))
    negative = [p.scale < 0 for p in (a, b)]
    if negative == [True, False]:
        a, b, negative = b, a, [False, True]
    a, b = (settled(graph, replace(p, scale=abs(p.scale))) for p in (a, b))
    sign = -1 if all(negative) else 1
    letters = _common_order(a.letters, b.letters, order)
    left, right = (
        align(graph, p, letters) if p.node is not None else _short(p.number) for p in (a, b)
    )
    shape = broadcast_shape(*(n.shape for n in (left, right) if isinstance(n, Node)))
    op = "subtract" if negative == [False, True] else "add"
    node = _distributed(graph, op, left, right) or graph.add(op, left, right, shape=shape)
    return Piece(node, letters, Fraction(sign))


def _shared(left: Node | float | None, right: Node | float | None) -> int | None:
    """Which factor two products of matrices of the same shapes share; None where they are none."""
    if not (isinstance(left, Node) and isinstance(right, Node)):
        return None
    if not left.op == right.op == "matmul":
        return None
    pairs = list(zip(left.args, right.args, strict=True))
    if any(a.shape != b.shape for a, b in pairs):
        return None
    return next((i for i, (a, b) in enumerate(pairs) if a is b), None)


def _distributed(graph: Graph, op: str, left: Node | float, right: Node | float) -> Node | None:
    """X b + x c as x (b + c), one product of matrices for two; None where no factor is shared."""
    which = _shared(left, right)
    if which is None or not isinstance(left, Node) or not isinstance(right, Node):
        return None
    args = list(left.args)
    other = left.args[1 - which]
    args[1 - which] = graph.add(op, other, right.args[1 - which], shape=other.shape)
    return graph.add("matmul", *args, shape=left.shape)
