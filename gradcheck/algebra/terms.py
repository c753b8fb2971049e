"""The data of the algebra: factors, terms, expressions, and powers of axis sizes.

A term is a rational number, times powers of axis sizes, times tensors with letters, times
Kronecker deltas, summed over every letter that is not in the output. An expression is a sum of
terms with the same output letters. Everything is immutable.
"""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from gradcheck.errors import Location, SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from gradcheck.algebra.grouping import Group
    from gradcheck.algebra.relations import Relation

FUNCTIONS = ("exp", "log", "sqrt", "sigmoid", "tanh", "erf", "abs", "sign", "step")


@dataclass(frozen=True)
class Factor:
    """One tensor with its letters: `function(name)[letters] ** power`.

    A letter may be None: the first entry along that axis (an axis of size 1, broadcast).
    """

    name: str
    letters: tuple[str | None, ...]
    power: Fraction = Fraction(1)
    function: str | None = None

    @property
    def base(self) -> tuple[str, tuple[str | None, ...], str | None]:
        """What must coincide for two factors to merge into one power."""
        return (self.name, self.letters, self.function)

    def renamed(self, letters: Mapping[str, str]) -> Factor:
        """The same factor under a renaming of letters."""
        if not any(s in letters for s in self.letters if s is not None):
            return self
        return replace(
            self,
            letters=tuple(s if s is None else letters.get(s, s) for s in self.letters),
        )


@dataclass(frozen=True)
class Term:
    """coefficient × Π axis sizes × Π factors × Π deltas, summed over letters not in the output.

    Attributes:
        coefficient: A rational number.
        sizes: Powers of axis sizes, sorted: `(("m", Fraction(-1)),)` is 1/m.
        factors: The tensors.
        deltas: Pairs of letters that must be equal for the term to be non-zero.
        axes: The axis of each letter, once the term is bound to a spec.
        location: Where the user wrote it.
        conditions: What must not be zero for the rewritten term to be the written one.
    """

    coefficient: Fraction = Fraction(1)
    sizes: tuple[tuple[str, Fraction], ...] = ()
    factors: tuple[Factor, ...] = ()
    deltas: tuple[tuple[str, str], ...] = ()
    axes: Mapping[str, str] = field(default_factory=dict, hash=False, compare=False)
    location: Location | None = field(default=None, hash=False, compare=False)
    conditions: frozenset[str] = field(default_factory=frozenset, hash=False, compare=False)

    def letters(self) -> list[str]:
        """All letters of factors and deltas, in order of first appearance."""
        found: dict[str, None] = {}
        for factor in self.factors:
            found.update((s, None) for s in factor.letters if s is not None)
        for pair in self.deltas:
            found.update((s, None) for s in pair)
        return list(found)

    def renamed(self, letters: Mapping[str, str]) -> Term:
        """The same term under a renaming of letters."""
        return replace(
            self,
            factors=tuple(f.renamed(letters) for f in self.factors),
            deltas=tuple((letters.get(a, a), letters.get(b, b)) for a, b in self.deltas),
            axes={letters.get(s, s): axis for s, axis in self.axes.items()},
        )

    def scaled(self, size: Size) -> Term:
        """The term times a monomial in axis sizes."""
        return replace(
            self,
            coefficient=self.coefficient * size.coefficient,
            sizes=multiply_sizes(self.sizes, size.powers),
        )


def multiply_sizes(
    left: tuple[tuple[str, Fraction], ...], right: tuple[tuple[str, Fraction], ...]
) -> tuple[tuple[str, Fraction], ...]:
    """Product of two monomials in axis sizes, sorted, without zero powers."""
    powers = dict(left)
    for axis, power in right:
        powers[axis] = powers.get(axis, Fraction(0)) + power
    return tuple(sorted((axis, power) for axis, power in powers.items() if power))


@dataclass(frozen=True)
class Size:
    """A rational number times powers of axis sizes: `2 / size("m")`, `size("d") ** Fraction(-1, 2)`."""

    __array_ufunc__ = None  # NumPy leaves its operators to it, and does not try it entry by entry

    coefficient: Fraction = Fraction(1)
    powers: tuple[tuple[str, Fraction], ...] = ()

    def __mul__(self, other: object) -> Size | Expression:
        if isinstance(other, Expression):
            return other * self
        factor = as_size(other)
        return Size(
            self.coefficient * factor.coefficient, multiply_sizes(self.powers, factor.powers)
        )

    __rmul__ = __mul__

    def __truediv__(self, other: object) -> Size:
        return self * as_size(other) ** -1  # type: ignore[return-value]

    def __rtruediv__(self, other: object) -> Size:
        return as_size(other) * self**-1  # type: ignore[return-value]

    def __neg__(self) -> Size:
        return Size(-self.coefficient, self.powers)

    def __pow__(self, exponent: object) -> Size:
        power = as_fraction(exponent, "an exponent of a size")
        if power.denominator != 1 and self.coefficient != 1:
            msg = f"({self.coefficient} × sizes) ** {power} is not rational"
            raise SpecError(msg, hint="raise the size alone and write the number beside it")
        if power < 0 and not self.coefficient:
            raise SpecError("a division by 0", hint="divide by a rational number that is not 0")
        coefficient = self.coefficient ** int(power) if power.denominator == 1 else Fraction(1)
        return Size(coefficient, tuple((axis, p * power) for axis, p in self.powers if p * power))

    def __add__(self, other: object) -> Size:
        raise SpecError(
            f"sizes are multiplied and divided, not added ({self!r} and {other!r})",
            hint="return the sum from the forward as a residual output, and use it as an operand",
        )

    __radd__ = __sub__ = __rsub__ = __add__


def as_fraction(value: object, what: str) -> Fraction:
    """A rational number, or an error that says how to write one."""
    if isinstance(value, bool) or not isinstance(value, numbers.Rational | float):
        raise SpecError(
            f"{what} must be a rational number, not {value!r}",
            hint="write an int or fractions.Fraction(numerator, denominator)",
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise SpecError(f"{what} is {value!r}", hint="write a rational number: Fraction(1, 2)")
    if isinstance(value, float) and not value.is_integer():
        near = Fraction(value).limit_denominator(1000)
        raise SpecError(
            f"{what} is the rounded number {value!r}",
            hint=f"write it exactly, for example Fraction({near.numerator}, {near.denominator})",
        )
    if isinstance(value, float):
        return Fraction(value)
    # NumPy's integers become Python's.
    return Fraction(int(value.numerator), int(value.denominator))


def as_size(value: object) -> Size:
    """A coefficient: a rational number or a monomial in axis sizes."""
    return value if isinstance(value, Size) else Size(as_fraction(value, "a coefficient"))


@dataclass(frozen=True, eq=False)
class Expression:
    """A sum of terms with the same output letters.

    Attributes:
        output: The letters that are not summed, in the order of the array's axes.
        terms: The terms; none at all is zero.
        title: The left-hand side, where the expression stands for a derivative: the names and the
            numbers of letters of numerator and denominator.
        relations: What holds on the domains of the operands and may be used to simplify.
        is_grouped: Whether terms with common factors are printed as products.
        seed: What the cotangent `d(a)` is printed as: "v", as on paper, or "" for `d(a)` itself.
    """

    output: tuple[str, ...]
    terms: tuple[Term, ...]
    title: tuple[tuple[str, int], ...] = ()
    relations: tuple[Relation, ...] = ()
    is_grouped: bool = False
    seed: str = ""

    __array_ufunc__ = None  # NumPy leaves its operators to it, and does not try it entry by entry

    def map(self, change: Callable[[Term], Term]) -> Expression:
        """The expression with each term changed."""
        return replace(self, terms=tuple(change(t) for t in self.terms))

    def names(self) -> set[str]:
        """The operands that occur."""
        return {f.name for t in self.terms for f in t.factors}

    def conditions(self) -> list[str]:
        """What must hold for this form to equal the one it was derived from: a ≠ 0, Σ_q y[p,q] = 1."""
        return sorted({c for t in self.terms for c in t.conditions})

    def _plus(self, other: object, sign: int) -> Expression:
        if not isinstance(other, Expression):
            if isinstance(other, numbers.Complex) and other == 0:
                return self
            raise SpecError(
                f"an expression and {other!r} cannot be added",
                hint='write the number as a term of its own, such as einsum("->pq", ones)',
            )
        if set(other.output) != set(self.output) or len(other.output) != len(self.output):
            raise _outputs_differ(self, other)
        if other.output != self.output:
            raise _outputs_differ(self, other)
        changed = tuple(replace(t, coefficient=sign * t.coefficient) for t in other.terms)
        relations = tuple(dict.fromkeys(self.relations + other.relations))
        return Expression(self.output, self.terms + changed, self.title, relations)

    def __add__(self, other: object) -> Expression:
        return self._plus(other, 1)

    __radd__ = __add__

    def __sub__(self, other: object) -> Expression:
        return self._plus(other, -1)

    def __rsub__(self, other: object) -> Expression:
        return (-self)._plus(other, 1)

    def __neg__(self) -> Expression:
        return self * -1

    def __mul__(self, other: object) -> Expression:
        if isinstance(other, Expression):
            raise SpecError(
                "two expressions are multiplied by naming their letters",
                hint='write einsum("pq,pq->pq", first, second)',
            )
        factor = as_size(other)
        return self.map(lambda t: t.scaled(factor))

    __rmul__ = __mul__

    def __truediv__(self, other: object) -> Expression:
        if isinstance(other, Expression):
            raise SpecError(
                "an expression cannot be divided by an expression",
                hint='divide by an operand: "a**-1"; return the denominator as a residual output',
            )
        factor = as_size(other) ** -1
        return self.map(lambda t: t.scaled(factor))

    def simplify(self) -> Expression:
        """The closed form: deltas eliminated, powers cancelled, relations applied, terms collected.

        Relations (Σ_q y[r,q] = 1) are those of the operands' domains, which a spec's or chain's
        derivative carries. `conditions()` says where the closed form is equal to the one it comes
        from; `str()` and `latex()` print it with common factors grouped.
        """
        from gradcheck.algebra.simplify import simplified

        return simplified(self)

    def groups(self) -> tuple[Group, ...]:
        """The terms as products of common factors and sums."""
        from gradcheck.algebra.grouping import grouped

        return grouped(self)

    def vectorised(self) -> str:
        """The expression in matrix notation, such as `xᵀ(a − y)/m`.

        ᵀ transposes, ⊙ and ⊘ multiply and divide entry by entry, 1 is a column of ones, and a column
        or row beside a matrix is repeated as NumPy does. The terms are taken as they are: call it on
        `simplify()`.

        Raises:
            UsageError: Where there is no such form: more than two free letters, or a sum that no
                matrix product expresses.
        """
        from gradcheck.algebra.vectorise import vectorised

        return vectorised(self)

    def einsums(self) -> list[str]:
        """One einsum call a term, as text."""
        from gradcheck.algebra.text import einsum_call

        return [einsum_call(t, self.output) for t in self.terms]

    def latex(self) -> str:
        """The expression as LaTeX, without delimiters."""
        from gradcheck.algebra.text import latex

        return latex(self)

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.latex()}$"

    def __str__(self) -> str:
        from gradcheck.algebra.text import plain

        return plain(self)

    def __repr__(self) -> str:
        return f"<Expression {self}>"


def _outputs_differ(left: Expression, right: Expression) -> SpecError:
    ours, theirs = "".join(left.output), "".join(right.output)
    location = right.terms[0].location if right.terms else None
    return SpecError(
        f"a term ends in '->{theirs}' where the term before it ends in '->{ours}'",
        hint=f"write the same output letters in the same order: '->{ours}'",
        location=location,
    )


def free_alphabet(used: Iterable[str]) -> Iterator[str]:
    """Letters that are not used yet: p to z first, then the other lower-case ones, then numbered."""
    taken = set(used)
    for letter in "pqrstuvwxyzijklabcdefghmno":
        if letter not in taken:
            yield letter
    number = 1
    while True:
        if f"k{number}" not in taken:
            yield f"k{number}"
        number += 1
