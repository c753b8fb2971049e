"""Expressions to arrays: each term one einsum, deltas written through diagonal views.

The same code evaluates a claim on a user's numpy, torch or JAX arrays, on the device where they lie,
and on error-carrying arrays; what differs is the `Operations` object that it is given.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol

from gradcheck.algebra.normal import (
    eliminate_deltas,
    first_entries,
    merge_factors,
    resolve_broadcast,
)
from gradcheck.algebra.shapes import is_broadcast, is_number

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gradcheck.algebra.terms import Expression, Factor, Term


class Operations(Protocol):
    """What an evaluation asks of a framework (or of the error-carrying arrays)."""

    def einsum(self, equation: str, *arrays: Any) -> Any:
        """A contraction with an explicit output."""

    def function(self, name: str) -> Callable[[Any], Any]:
        """One of the functions that operands may name."""

    def power(self, x: Any, exponent: Fraction) -> Any:
        """A rational power."""

    def zeros(self, shape: tuple[int, ...], like: Any) -> Any:
        """Zeros of another array's dtype and device."""

    def one_hot(self, labels: Any, size: int, like: Any) -> Any:
        """Labels as one-hot rows, in the dtype and on the device of `like`."""

    def scale(self, x: Any, coefficient: float) -> Any:
        """An array times a number that may have been rounded."""

    def add_diagonal(
        self, out: Any, core: Any, letters_out: Sequence[str], letters_core: Sequence[str]
    ) -> Any:
        """`core` added where equal letters of `out` agree."""


@dataclass(frozen=True)
class Bindings:
    """The arrays behind the names of an expression.

    Attributes:
        values: Arrays (and scalar parameters) by name.
        sizes: The size of each axis.
        shapes: The declared axes of each name, to know which are broadcast.
        one_hot: The axis that makes integer labels one-hot.
        like: An array that gives dtype and device.
    """

    values: Mapping[str, Any]
    sizes: Mapping[str, int]
    shapes: Mapping[str, tuple[str, ...]]
    one_hot: Mapping[str, str]
    like: Any
    memo: dict[Any, Any] = field(default_factory=dict)

    def extent(self, axis: str) -> int:
        """The size of an axis, which may be a number or an integer parameter."""
        if is_number(axis):
            return int(axis)
        return int(self.sizes[axis] if axis in self.sizes else self.values[axis])


@dataclass(frozen=True)
class Block:
    """One evaluated term: an array, and where its entries lie in the output.

    Attributes:
        core: The values; a Python number where no tensor occurs.
        letters: The letters of the core's axes, distinct.
        output: The output's letters, each replaced by the letter that it must equal.
    """

    core: Any
    letters: tuple[str, ...]
    output: tuple[str, ...]


def blocks(expression: Expression, bindings: Bindings, ops: Operations) -> list[Block]:
    """Each term evaluated, without writing the zeros of its deltas."""
    single = {"1", *(a for a, n in bindings.sizes.items() if is_broadcast(a) and n == 1)}
    return [_block(t, expression.output, bindings, ops, single) for t in expression.terms]


def evaluate(expression: Expression, bindings: Bindings, ops: Operations) -> Any:
    """The dense array of an expression, axes in the order of its output letters."""
    shape = output_shape(expression, bindings)
    return dense(blocks(expression, bindings, ops), shape, bindings.like, ops)


def output_shape(expression: Expression, bindings: Bindings) -> tuple[int, ...]:
    """The sizes of the output letters."""
    axes = expression.terms[0].axes
    return tuple(bindings.extent(axes[s]) for s in expression.output)


def dense(parts: list[Block], shape: tuple[int, ...], like: Any, ops: Operations) -> Any:
    """The blocks added into one array; no identity matrix is made on the way."""
    if len(parts) == 1 and parts[0].letters == parts[0].output:
        return parts[0].core
    out = ops.zeros(shape, like)
    for part in parts:
        letters, core = _widened(part, shape, like, ops)
        out = ops.add_diagonal(out, core, part.output, letters)
    return out


def _widened(
    part: Block, shape: tuple[int, ...], like: Any, ops: Operations
) -> tuple[tuple[str, ...], Any]:
    """The core along every letter of the output, also those on which it does not depend."""
    wanted = tuple(dict.fromkeys(part.output))
    if wanted == part.letters:
        return wanted, part.core
    sizes = dict(zip(part.output, shape, strict=True))
    index = tuple(slice(None) if s in part.letters else None for s in wanted)
    return wanted, part.core[index] + ops.zeros(tuple(sizes[s] for s in wanted), like)


def _block(
    term: Term, output: tuple[str, ...], bindings: Bindings, ops: Operations, single: set[str]
) -> Block:
    term = eliminate_deltas(resolve_broadcast(term, dict(bindings.shapes), single), output)
    term = merge_factors(term)
    representative = {b: a for a, b in term.deltas}
    where = tuple(representative.get(s, s) for s in output)
    tensors = [f for f in term.factors if any(s is not None for s in f.letters)]
    scalars = [f for f in term.factors if all(s is None for s in f.letters)]
    letters = tuple(dict.fromkeys(s for s in where if any(s in f.letters for f in tensors)))
    coefficient = _coefficient(term, output, bindings)
    if not tensors:
        core = ops.scale(_one(bindings.like, ops), coefficient)
    else:
        arrays = [_operand(f, bindings, ops) for f in tensors]
        core = ops.scale(ops.einsum(_equation(tensors, letters), *arrays), coefficient)
    for factor in scalars:
        core = core * _operand(factor, bindings, ops)
    return Block(core, letters, where)


def _one(like: Any, ops: Operations) -> Any:
    return ops.zeros((), like) + 1.0


def _coefficient(term: Term, output: tuple[str, ...], bindings: Bindings) -> float:
    """The number before a term: exact as far as it is rational, rounded once."""
    exact, rest = term.coefficient, 1.0
    powers = list(term.sizes)
    occurring = {*output, *term.letters()}
    powers += [(a, Fraction(1)) for s, a in term.axes.items() if s not in occurring]
    for axis, power in powers:
        extent = bindings.extent(axis)
        if extent == 0 and power < 0:
            return float("inf")
        if power.denominator == 1:
            exact *= Fraction(extent) ** int(power)
        else:
            rest *= float(extent) ** float(power)
    return float(exact) * rest


def _equation(factors: list[Factor], output: tuple[str, ...]) -> str:
    """The einsum equation in single letters, whatever the letters are called."""
    names: dict[str, str] = {}
    alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    for factor in factors:
        for s in factor.letters:
            if s is not None and s not in names:
                names[s] = alphabet[len(names)]
    left = ",".join("".join(names[s] for s in f.letters if s is not None) for f in factors)
    return f"{left}->{''.join(names[s] for s in output)}"


def _operand(factor: Factor, bindings: Bindings, ops: Operations) -> Any:
    """The array behind a factor: one-hot, function, power and first entries applied."""
    key = (factor.name, factor.function, factor.power, tuple(s is None for s in factor.letters))
    if key not in bindings.memo:
        bindings.memo[key] = _compute_operand(factor, bindings, ops)
    return bindings.memo[key]


def _compute_operand(factor: Factor, bindings: Bindings, ops: Operations) -> Any:
    value = bindings.values[factor.name]
    axis = bindings.one_hot.get(factor.name)
    if axis is not None and len(factor.letters) == len(bindings.shapes[factor.name]) + 1:
        value = ops.one_hot(value, bindings.extent(axis), bindings.like)
    if (index := first_entries(factor, getattr(value, "shape", ()))) is not None:
        value = value[index]
    if isinstance(value, int | float) and (factor.function or factor.power != 1):
        value = ops.scale(_one(bindings.like, ops), float(value))
    if factor.function is not None:
        value = ops.function(factor.function)(value)
    return value if factor.power == 1 else ops.power(value, factor.power)
