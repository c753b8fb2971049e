"""The claimed derivative by brute force: a sum over all letters, straight from the terms as data.

Nothing of how expressions are rewritten or evaluated elsewhere is used: a delta is an identity
matrix, a summed letter is summed.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.oracles.exact import shadow
from gradcheck.oracles.exact.array import FieldArray, ResampleError
from gradcheck.oracles.exact.degrees import Bound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradcheck.algebra.terms import Expression, Factor, Term
    from gradcheck.oracles.exact.namespace import FieldNamespace
    from gradcheck.oracles.exact.primes import Residues

_ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVW"


class ClaimUndefinedError(Exception):
    """The claim divides by, or takes a logarithm of, something that is 0.

    Attributes:
        factor: How the term has it.
    """

    def __init__(self, factor: str) -> None:
        self.factor = factor
        super().__init__(factor)


@dataclass
class Claimed:
    """The claim at one evaluation: residues by lane, a bound on their size, and what it divides by."""

    values: Residues
    bound: Bound
    denominators: list[Residues]
    finite: bool


class Claimant:
    """Evaluates an expression in the lanes.

    Args:
        space: The namespace in which the forward ran.
        operands: What the forward made, by name.
        sizes: The size of each axis.
        one_hot: For integer labels, the axis of their one-hot tensor.
        shapes: The number of letters of each operand without that.
    """

    def __init__(
        self,
        space: FieldNamespace,
        operands: Mapping[str, Any],
        sizes: Mapping[str, int],
        one_hot: Mapping[str, str],
    ) -> None:
        self.space = space
        self.operands = operands
        self.sizes = sizes
        self.one_hot = one_hot
        self.denominators: list[Residues] = []
        self.finite = True

    def extent(self, axis: str) -> int:
        """The size of an axis, which may be a number or an integer parameter."""
        if axis.isdigit():
            return int(axis)
        return int(self.sizes[axis] if axis in self.sizes else self.operands[axis])

    def evaluate(self, expression: Expression) -> Claimed:
        """The sum of the terms.

        Raises:
            ClaimUndefinedError: Where a denominator of the claim is 0 in all lanes.
            ResampleError: Where it is 0 in some.
        """
        field = self.space.field
        axes = expression.terms[0].axes
        shape = tuple(self.extent(axes[s]) for s in expression.output)
        total = np.zeros((field.count, *shape), dtype=np.int64)
        bound = Bound()
        for term in expression.terms:
            values, size = self._term(term, expression.output)
            total = field.reduce(total + values)
            bound = bound.plus(size)
        return Claimed(total, bound, self.denominators, self.finite)

    def _term(self, term: Term, output: tuple[str, ...]) -> tuple[Residues, Bound]:
        deltas = [pair for pair in term.deltas if not self._dropped(pair, term)]
        letters_met = {s for f in term.factors for s in f.letters} | {s for d in deltas for s in d}
        number = self._coefficient(term, {*output, *letters_met})
        parts: list[tuple[tuple[str, ...], Residues]] = [((), number.values)]
        bound = number.bound
        for factor in term.factors:
            letters, array = self._operand(factor, term)
            parts.append((letters, array.values))
            bound = bound.times(array.bound)
        parts += [self._delta(pair, term) for pair in deltas]
        letters, values = self._contracted(parts, output)
        used = {s for part, _ in parts for s in part}
        count = math.prod(self.extent(term.axes[s]) for s in used if s not in output)
        return self._spread(letters, values, term, output), bound.summed(count)

    def _coefficient(self, term: Term, occurring: set[Any]) -> FieldArray:
        """The rational number, the powers of sizes, and summed letters that stand nowhere."""
        space = self.space
        exact, rest = Fraction(term.coefficient), space.asarray(1)
        powers = [
            *term.sizes,
            *((a, Fraction(1)) for s, a in term.axes.items() if s not in occurring),
        ]
        for axis, power in powers:
            size = self.extent(axis)
            if power.denominator == 1:
                exact *= Fraction(size) ** int(power)
            else:
                rest = space.multiply(rest, space.power(size, power))
        return space.multiply(exact, rest)  # type: ignore[no-any-return]

    def _dropped(self, pair: tuple[str, str], term: Term) -> bool:
        """Whether a letter of a delta runs over a broadcast axis of size 1: then it is 1."""
        axes = [term.axes[s] for s in pair]
        return any(a.startswith("#") and self.extent(a) == 1 for a in axes)

    def _delta(self, pair: tuple[str, str], term: Term) -> tuple[tuple[str, ...], Residues]:
        """An identity matrix."""
        first, second = (self.extent(term.axes[s]) for s in pair)
        unit = np.eye(first, second, dtype=np.int64)
        return pair, np.broadcast_to(unit, (self.space.field.count, *unit.shape))

    # ------------------------------------------------------------------ operands

    def _operand(self, factor: Factor, term: Term) -> tuple[tuple[str, ...], FieldArray]:
        """The letters and the array of a factor: entries chosen, function and power applied."""
        space = self.space
        value = self.operands[factor.name]
        axis = self.one_hot.get(factor.name)
        if axis is not None and len(factor.letters) == np.ndim(value) + 1:
            value = space.one_hot(value, self.extent(axis))
        array = space.asarray(value).still()
        key: list[Any] = []
        letters = []
        for letter, size in zip(factor.letters, array.shape, strict=True):
            if letter is None or (size == 1 and self.extent(term.axes[letter]) != 1):
                key.append(0)
            else:
                key.append(slice(None))
                letters.append(letter)
        if 0 in key:
            array = space.index(array, tuple(key))
        array = self._raised(factor, array)
        if array.shadow is not None and not shadow.finite(array.shadow):
            self.finite = False
        return tuple(letters), array

    def _raised(self, factor: Factor, array: FieldArray) -> FieldArray:
        space = self.space
        if factor.function is not None:
            if factor.function in ("log", "sqrt"):
                self._divides(factor, array)
            array = space.function(factor.function)(array)
        if factor.power < 0 or factor.power.denominator != 1:
            self._divides(factor, array)
        return space.asarray(array if factor.power == 1 else space.power(array, factor.power))

    def _divides(self, factor: Factor, array: FieldArray) -> None:
        """Note what must not be 0."""
        zero = array.values == 0
        if np.any(np.all(zero, axis=0)):
            raise ClaimUndefinedError(factor.name)
        if np.any(zero):
            raise ResampleError(f"the claim divides by {factor.name}, which is 0 at this size")
        self.denominators.append(array.values)

    # ------------------------------------------------------------------ contraction

    def _contracted(
        self, parts: list[tuple[tuple[str, ...], Residues]], output: tuple[str, ...]
    ) -> tuple[tuple[str, ...], Residues]:
        """The product of all parts, summed over every letter that is not in the output."""
        parts = [self._alone(part, parts, output) for part in parts]
        while len(parts) > 1:
            i, j = min(
                itertools.combinations(range(len(parts)), 2), key=lambda pair: _cost(parts, *pair)
            )
            rest = [part for k, part in enumerate(parts) if k not in (i, j)]
            wanted = {*output, *(s for letters, _ in rest for s in letters)}
            kept = tuple(s for s in dict.fromkeys(parts[i][0] + parts[j][0]) if s in wanted)
            names = _names(parts[i][0] + parts[j][0])
            a, b, out = ("".join(names[s] for s in x) for x in (parts[i][0], parts[j][0], kept))
            found = self.space.field.contract(f"Y{a},Y{b}->Y{out}", parts[i][1], parts[j][1])
            parts = [*rest, (kept, found)]
        return parts[0]

    def _alone(
        self,
        part: tuple[tuple[str, ...], Residues],
        parts: list[tuple[tuple[str, ...], Residues]],
        output: tuple[str, ...],
    ) -> tuple[tuple[str, ...], Residues]:
        """Repeated letters on a diagonal, and letters of this part alone summed."""
        letters, values = part
        others = {s for p in parts if p is not part for s in p[0]}
        kept = tuple(dict.fromkeys(s for s in letters if s in output or s in others))
        if kept == letters:
            return part
        names = _names(letters)
        a, out = ("".join(names[s] for s in x) for x in (letters, kept))
        return kept, self.space.field.reduce(np.einsum(f"Y{a}->Y{out}", values))

    def _spread(
        self, letters: tuple[str, ...], values: Residues, term: Term, output: tuple[str, ...]
    ) -> Residues:
        """In the order of the output, repeated along letters that the term does not depend on."""
        order = [letters.index(s) + 1 for s in output if s in letters]
        values = np.transpose(values, (0, *order))
        index = tuple(slice(None) if s in letters else None for s in output)
        sizes = tuple(self.extent(term.axes[s]) for s in output)
        return np.broadcast_to(values[(slice(None), *index)], (len(values), *sizes))


def _names(letters: tuple[str, ...]) -> dict[str, str]:
    return dict(zip(dict.fromkeys(letters), _ALPHABET, strict=False))


def _cost(parts: list[tuple[tuple[str, ...], Residues]], i: int, j: int) -> int:
    """The entries that a product of two parts has before anything is summed."""
    sizes = {
        s: n
        for letters, values in (parts[i], parts[j])
        for s, n in zip(letters, values.shape[1:], strict=True)
    }
    return math.prod(sizes.values())
