"""The claimed derivative in balls, straight from its terms: a sum over all values of all letters.

Nothing is rewritten on the way, and nothing here is shared with the evaluation on arrays: a delta is
an equality of indices, a letter reads its axis, and a letter that stands nowhere is summed all the
same. Along an axis of size 1, every letter reads the one entry that there is (`#n`).
"""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from flint import arb

from gradcheck.accumulating import accumulate, why_link_by_link
from gradcheck.algebra.shapes import at_rank, is_number, rank_in
from gradcheck.oracles.balls import entry as scalar
from gradcheck.oracles.balls.entry import Entry, Trouble, literal, rational, troubled
from gradcheck.oracles.balls.namespace import BallArray, as_objects
from gradcheck.oracles.balls.rules import function

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gradcheck.algebra.terms import Expression, Factor, Term
    from gradcheck.operation import Claim, Operation
    from gradcheck.oracles.balls.namespace import BallNamespace

Letters = tuple[str, ...]


class Claimed:
    """The claims of one operation at one point.

    Args:
        operation: The operation.
        environment: Every operand by name, as the forward in balls gave them; inputs and parameters
            are enough for the shape of a claim.
        sizes: The size of each axis.
        space: The namespace of the forward.
    """

    def __init__(
        self,
        operation: Operation,
        environment: Mapping[str, Any],
        sizes: Mapping[str, int],
        space: BallNamespace,
    ) -> None:
        self.operation = operation
        self.environment = environment
        self.sizes = sizes
        self.space = space
        self._arrays: dict[object, Any] = {}

    def derivative(self, claim: Claim) -> Any:
        """The claimed derivative: an array of entries without tangents, output axes first."""
        if why_link_by_link(self.operation, claim):
            return self._link_by_link(claim)
        rank = rank_in(self.sizes)
        expression = self.operation.derivative(claim.output, claim.input, rank)
        return self._evaluated(expression, self._dims(claim))

    def work(self, claim: Claim) -> float:
        """How many products the claim takes; infinite where it is evaluated link by link."""
        if why_link_by_link(self.operation, claim):
            return math.inf
        dims = self._dims(claim)
        expression = self.operation.derivative(claim.output, claim.input, rank_in(self.sizes))
        free = dict(zip(expression.output, dims, strict=True))
        total = 0.0
        for term in expression.terms:
            axes = {**term.axes, **free}
            joined = {other for _, other in term.deltas}
            letters = {*free, *term.letters(), *term.axes} - joined
            total += math.prod(self.extent(axes[s]) for s in letters)
        return total

    def _evaluated(self, expression: Expression, dims: Sequence[str]) -> Any:
        out = np.empty(tuple(map(self.extent, dims)), dtype=object)
        for place in np.ndindex(out.shape):
            out[place] = Entry(arb(0))
        for term in expression.terms:
            self._add(out, term, expression, dict(zip(expression.output, dims, strict=True)))
        return out

    def _link_by_link(self, claim: Claim) -> Any:
        """The derivative of a chain too long for one expression."""

        def evaluate(local: Expression) -> Any:
            dims = [local.terms[0].axes[s] for s in local.output]
            rows = math.prod(map(self.extent, dims[: local.title[0][1]]))
            return self._evaluated(local, dims).reshape(rows, -1)

        def multiply(outer: Any, own: Any) -> Any:
            rows = [[_dot(row, column) for column in own.T] for row in outer]
            return np.array(rows, dtype=object).reshape(len(outer), own.shape[1])

        chain: Any = self.operation
        rank, add = rank_in(self.sizes), np.frompyfunc(scalar.add, 2, 1)
        found = accumulate(chain, claim.output, claim.input, rank, evaluate, multiply, add)
        return np.asarray(found, dtype=object).reshape(self.shape(claim))

    def shape(self, claim: Claim) -> tuple[int, ...]:
        """The sizes of a claimed derivative."""
        return tuple(self.extent(axis) for axis in self._dims(claim))

    def _dims(self, claim: Claim) -> list[str]:
        rank = rank_in(self.sizes)
        shapes = self.operation.shapes
        return [a for n in (claim.output, claim.input) for a in at_rank(shapes[n], rank)]

    def extent(self, axis: str) -> int:
        """The size of an axis, which may be a number or a parameter that counts classes."""
        if is_number(axis):
            return int(axis)
        for name in (axis, axis.removeprefix("#")):
            if name in self.sizes:
                return int(self.sizes[name])
        return int(self.environment[axis])

    def _add(self, out: Any, term: Term, expression: Expression, free: Mapping[str, str]) -> None:
        """One term added to every entry of the output that it reaches."""
        axes = {**term.axes, **free}
        letters = [*free, *sorted({*term.letters(), *term.axes} - set(free))]
        extents = {s: self.extent(axes[s]) for s in letters}
        coefficient = self._coefficient(term)
        if term.coefficient == 0:
            return
        factors = [(self._array(f), f.letters) for f in term.factors]
        for at in _assignments(letters, extents, term.deltas):
            product = coefficient
            for array, names in factors:
                product = scalar.multiply(product, _read(array, names, at))
            place = tuple(at[s] for s in expression.output)
            out[place] = scalar.add(out[place], product)

    def _coefficient(self, term: Term) -> Entry:
        exact, rest = term.coefficient, arb(1)
        for axis, power in term.sizes:
            extent = self.extent(axis)
            if extent == 0 and power < 0:
                return troubled(Trouble.UNDEFINED)
            if power.denominator == 1:
                exact *= Fraction(extent) ** int(power)
            else:
                rest *= arb(extent) ** rational(power)
        return Entry(rational(exact) * rest)

    def _array(self, factor: Factor) -> Any:
        """The entries of an operand, with its function and power."""
        key = (factor.name, len(factor.letters), factor.function, factor.power)
        if key not in self._arrays:
            self._arrays[key] = self._compute(factor)
        return self._arrays[key]

    def _compute(self, factor: Factor) -> Any:
        entries = self._entries(factor)
        exponent = Entry(rational(factor.power))

        def change(x: Entry) -> Entry:
            x = x.still()
            if factor.function is not None:
                x = function(factor.function)(x)
            return x if factor.power == 1 else scalar.power(x, exponent)

        return as_objects(np.frompyfunc(change, 1, 1)(entries))

    def _entries(self, factor: Factor) -> Any:
        value = self.environment[factor.name]
        axis = self.operation.one_hot.get(factor.name)
        array = value if isinstance(value, np.ndarray) else None
        if axis is not None and array is not None and len(factor.letters) == array.ndim + 1:
            value = array[..., None] == np.arange(self.extent(axis))
        if isinstance(value, BallArray):
            return value.entries
        if isinstance(value, int | float):
            return as_objects(Entry(literal(value)))
        return self.space.asarray(value).entries


def _dot(row: Any, column: Any) -> Entry:
    total = Entry(arb(0))
    for a, b in zip(row, column, strict=True):
        total = scalar.add(total, scalar.multiply(a, b))
    return total


def _assignments(
    letters: list[str], extents: Mapping[str, int], deltas: tuple[tuple[str, str], ...]
) -> Iterator[dict[str, int]]:
    """Every way to give each letter an index such that all deltas are 1."""
    representative = {s: s for s in letters}
    mixed = []
    for a, b in deltas:
        if extents[a] != extents[b]:
            mixed.append((a, b))
            continue
        gone, kept = representative[b], representative[a]
        representative = {s: kept if r == gone else r for s, r in representative.items()}
    roots = [s for s in letters if representative[s] == s]
    for indices in itertools.product(*(range(extents[s]) for s in roots)):
        chosen = dict(zip(roots, indices, strict=True))
        at = {s: chosen[representative[s]] for s in letters}
        # A letter on n meets one on #n, where #n has size 1: every index reads its one entry.
        if all(_along(at[a], extents[b]) == _along(at[b], extents[a]) for a, b in mixed):
            yield at


def _along(index: int, size: int) -> int:
    return 0 if size == 1 else index


def _read(array: Any, letters: tuple[str | None, ...], at: Mapping[str, int]) -> Entry:
    place = tuple(
        0 if s is None else _along(at[s], n) for s, n in zip(letters, array.shape, strict=True)
    )
    entry: Entry = array[place]
    return entry
