"""An expression run on any namespace `xp`: a claimed derivative as a forward that can be differentiated.

Each term is one einsum; a delta is an identity matrix, a letter that no operand has is carried by
ones. On arrays `evaluation` is faster; this runs also where sizes are symbols and entries are residues,
balls or dual numbers, since it uses nothing but what a forward may use.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from gradcheck.algebra.normal import (
    eliminate_deltas,
    first_entries,
    merge_factors,
    resolve_broadcast,
)
from gradcheck.algebra.shapes import is_broadcast, is_number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradcheck.algebra.shapes import Shape
    from gradcheck.algebra.terms import Expression, Factor, Term

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Operands:
    """What the names of an expression stand for in one run of a forward.

    Attributes:
        values: Arrays (and scalars) by name.
        shapes: The declared axes of each name, leading axes included.
        one_hot: The axis that makes integer labels one-hot.
        whole: The inputs that hold integers.
    """

    values: Mapping[str, Any]
    shapes: Mapping[str, Shape]
    one_hot: Mapping[str, str]
    whole: frozenset[str] = frozenset()

    def extent(self, axis: str) -> Any:
        """The size of an axis: a number, or a symbol."""
        if is_number(axis):
            return int(axis)
        found = self._dimension(axis)
        if found is None:
            found = self._dimension(f"#{axis}")
        return self.values[axis] if found is None else found

    def _dimension(self, dim: str) -> Any:
        for name, shape in self.shapes.items():
            if dim in shape and name in self.values and hasattr(self.values[name], "shape"):
                return self.values[name].shape[shape.index(dim)]
        return None

    def single(self) -> set[str]:
        """The axes that are known to have size 1."""
        broadcast = {d for shape in self.shapes.values() for d in shape if is_broadcast(d)}
        sizes = {d: self._dimension(d) for d in broadcast}
        return {"1", *(d for d, n in sizes.items() if isinstance(n, int) and n == 1)}


def run(expression: Expression, operands: Operands, xp: Any) -> Any:
    """The array of an expression, axes in the order of its output letters.

    Args:
        expression: With its leading axes, if there are any.
        operands: What its names stand for.
        xp: The namespace in which they live.
    """
    single = operands.single()
    total: Any = None
    for term in _einsums(expression, operands, single):
        part = _term(term, expression.output, operands, xp, single)
        total = part if total is None else total + part
    return _zeros(expression, operands, xp, single) if total is None else total


def _zeros(expression: Expression, operands: Operands, xp: Any, single: set[str]) -> Any:
    axes = expression.terms[0].axes
    return xp.zeros(tuple(_extent(axes[s], operands, single) for s in expression.output))


def _extent(axis: str, operands: Operands, single: set[str]) -> Any:
    return 1 if axis in single else operands.extent(axis.removeprefix("#"))


@dataclass(frozen=True)
class _Einsum:
    """A term as one einsum.

    Attributes:
        term: Without the deltas that could be eliminated.
        tensors: The factors with letters.
        numbers: Those without.
        carried: The free letters that no operand has.
        ones: Whether ones carry them, or stand alone.
        equation: Over the tensors, the deltas and the ones.
    """

    term: Term
    tensors: tuple[Factor, ...]
    numbers: tuple[Factor, ...]
    carried: tuple[str, ...]
    ones: bool
    equation: str


def _einsums(expression: Expression, operands: Operands, single: set[str]) -> tuple[_Einsum, ...]:
    """The terms that are not zero; kept with the expression, since forwards are run many times."""
    kept: dict[Any, tuple[_Einsum, ...]] = expression.__dict__.setdefault("_einsums", {})
    key = (frozenset(single), tuple(operands.shapes.items()))
    if key not in kept:
        shapes, output = dict(operands.shapes), expression.output
        terms = (t for t in expression.terms if t.coefficient)
        kept[key] = tuple(_einsum(t, output, shapes, single) for t in terms)
    return kept[key]


def _einsum(
    term: Term, output: tuple[str, ...], shapes: dict[str, Shape], single: set[str]
) -> _Einsum:
    term = merge_factors(eliminate_deltas(resolve_broadcast(term, shapes, single), output))
    tensors = tuple(f for f in term.factors if any(s is not None for s in f.letters))
    numbers = tuple(f for f in term.factors if f not in tensors)
    groups = [[s for s in f.letters if s is not None] for f in tensors]
    groups += [list(pair) for pair in term.deltas]
    carried = tuple(s for s in output if not any(s in g for g in groups))
    ones = bool(carried) or not groups
    if ones:
        groups.append(list(carried))
    return _Einsum(term, tensors, numbers, carried, ones, _equation(groups, output))


def _term(
    written: _Einsum, output: tuple[str, ...], operands: Operands, xp: Any, single: set[str]
) -> Any:
    term = written.term
    arrays = [_operand(f, operands, xp) for f in written.tensors]
    arrays += [xp.eye(_extent(term.axes[a], operands, single)) for a, _ in term.deltas]
    if written.ones:
        sizes = (_extent(term.axes[s], operands, single) for s in written.carried)
        arrays.append(xp.ones(tuple(sizes)))
    core = xp.einsum(written.equation, *arrays)
    for factor in written.numbers:
        core = core * _operand(factor, operands, xp)
    return _scaled(core, term, output, operands, xp, single)


def _equation(groups: list[list[str]], output: tuple[str, ...]) -> str:
    used = dict.fromkeys(s for g in groups for s in g)
    names = dict(zip(used, _LETTERS, strict=False))
    left = ",".join("".join(names[s] for s in g) for g in groups)
    return f"{left}->{''.join(names[s] for s in output)}"


def _scaled(
    core: Any,
    term: Term,
    output: tuple[str, ...],
    operands: Operands,
    xp: Any,
    single: set[str],
) -> Any:
    """The coefficient applied: what is a number exactly, symbolic sizes one by one."""
    exact = term.coefficient
    occurring = {*output, *term.letters()}
    unused = [(a, Fraction(1)) for s, a in term.axes.items() if s not in occurring]
    for axis, power in (*term.sizes, *unused):
        extent = _extent(axis, operands, single)
        if isinstance(extent, int) and extent == 0 and power < 0:
            core = core * float("inf")  # a mean over nothing
        elif isinstance(extent, int) and power.denominator == 1:
            exact *= Fraction(extent) ** int(power)
        else:
            factor = _power(extent, abs(power), xp)
            core = core * factor if power > 0 else core / factor
    if exact.numerator != 1:
        core = core * exact.numerator
    return core if exact.denominator == 1 else core / exact.denominator


def _operand(factor: Factor, operands: Operands, xp: Any) -> Any:
    """The array behind a factor: one-hot, function, power and first entries applied."""
    value = operands.values[factor.name]
    axis = operands.one_hot.get(factor.name)
    if axis is not None and len(factor.letters) == len(operands.shapes[factor.name]) + 1:
        value = xp.one_hot(value, operands.extent(axis))
    elif factor.name in operands.whole:
        value = xp.asarray(value) * 1.0
    if (index := first_entries(factor, getattr(value, "shape", ()))) is not None:
        value = value[index]
    if factor.function == "step":
        value = xp.where(xp.greater(value, 0), xp.ones_like(value), xp.zeros_like(value))
    elif factor.function is not None:
        value = getattr(xp, factor.function)(value)
    if factor.power == 1:
        return value
    power = _power(value, abs(factor.power), xp)
    return power if factor.power > 0 else 1 / power


def _power(x: Any, exponent: Fraction, xp: Any) -> Any:
    """A positive rational power, exact wherever `xp` is: no exponent is rounded."""
    if exponent.denominator == 1:
        return x ** int(exponent) if exponent != 1 else x
    if exponent.denominator == 2:
        root = xp.sqrt(x)
        return root if exponent.numerator == 1 else root**exponent.numerator
    return xp.exp(xp.log(x) * exponent.numerator / exponent.denominator)
