"""Matrix notation as a tree, and how it is written: ᵀ, ⊙, ⊘, 1, diag.

A column or a row in a sum or an entrywise product with a matrix is repeated, as NumPy does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from gradcheck.algebra.text import latex_name

if TYPE_CHECKING:
    from gradcheck.algebra.terms import Factor

_SUM, _SCALED, _ENTRYWISE, _PRODUCT, _ATOM = range(5)


class Matrix(ABC):
    """A node of the tree; `level` says how tightly what it writes holds together."""

    level = _ATOM

    @abstractmethod
    def write(self, *, latex: bool) -> str:
        """The text, without parentheses around it."""

    def text(self) -> str:
        """As plain text."""
        return self.write(latex=False)

    def latex(self) -> str:
        """As LaTeX, without delimiters."""
        return self.write(latex=True)

    def at(self, level: int, *, latex: bool) -> str:
        """The text with parentheses where it holds less tightly than what is around it."""
        inner = self.write(latex=latex)
        if self.level >= level:
            return inner
        return rf"\left( {inner} \right)" if latex else f"({inner})"

    def children(self) -> tuple[Matrix, ...]:
        """The nodes below."""
        return ()


def transposes(matrix: Matrix) -> float:
    """How many transposes are written; one of ones is no work, and counts half."""
    own = (0.5 if isinstance(matrix.of, Ones) else 1.0) if isinstance(matrix, Transpose) else 0.0
    return own + sum(transposes(child) for child in matrix.children())


@dataclass(frozen=True)
class Named(Matrix):
    """An operand, entry by entry a function and a power of it.

    Attributes:
        name: The name in print.
        is_seed: Whether it is the cotangent, which is written first.
    """

    name: str
    function: str | None
    power: Fraction
    is_seed: bool = False

    def write(self, *, latex: bool) -> str:
        """`a`, `step(z)`, `r^∘3`."""
        if latex:
            bare = self.name.removeprefix("d(").removesuffix(")")
            name = rf"\mathbf{{{_escaped(bare)}}}"
            name = name if bare == self.name else rf"\bar{{{name}}}"
            shown = rf"\operatorname{{{self.function}}}({name})" if self.function else name
            return shown if self.power == 1 else rf"{shown}^{{\circ {self.power}}}"
        shown = f"{self.function}({self.name})" if self.function else self.name
        if self.power == 1:
            return shown
        plain = self.power.denominator == 1 and self.power > 0
        return f"{shown}^∘{self.power}" if plain else f"{shown}^∘({self.power})"


def _escaped(name: str) -> str:
    return name.replace("_", r"\_")


@dataclass(frozen=True)
class Ones(Matrix):
    """A column of ones, or the number 1 (repeated) where a number stands."""

    number: bool = False

    def write(self, *, latex: bool) -> str:
        """`1`."""
        return r"\mathbf{1}" if latex and not self.number else "1"


@dataclass(frozen=True)
class Transpose(Matrix):
    """A transposed operand or ones."""

    of: Matrix

    def write(self, *, latex: bool) -> str:
        """`xᵀ`."""
        inner = self.of.at(_ATOM, latex=latex)
        bare = not isinstance(self.of, Named) or self.of.power == 1
        inner = inner if bare else f"({inner})"
        return rf"{inner}^{{\top}}" if latex else f"{inner}ᵀ"

    def children(self) -> tuple[Matrix, ...]:
        """What is transposed."""
        return (self.of,)


@dataclass(frozen=True)
class Diagonal(Matrix):
    """The matrix with a vector on its diagonal; the identity where that is ones."""

    of: Matrix

    def write(self, *, latex: bool) -> str:
        """`diag(a)`, or `I`."""
        if isinstance(self.of, Ones):
            return r"\mathbf{I}" if latex else "I"
        inner = self.of.write(latex=latex)
        return rf"\operatorname{{diag}}({inner})" if latex else f"diag({inner})"

    def children(self) -> tuple[Matrix, ...]:
        """The vector."""
        return (self.of,)


@dataclass(frozen=True)
class Product(Matrix):
    """A matrix product; the first `numbers` of its parts are 1 × 1."""

    parts: tuple[Matrix, ...]
    numbers: int = 0
    level = _PRODUCT

    def write(self, *, latex: bool) -> str:
        """`xᵀ(a − y)`: a space where two names would run together."""
        shown = [
            rf"\left( {p.write(latex=latex)} \right)"
            if latex and i < self.numbers
            else f"({p.write(latex=latex)})"
            if i < self.numbers
            else p.at(_PRODUCT, latex=latex)
            for i, p in enumerate(self.parts)
        ]
        if latex:
            return " ".join(shown)
        text = shown[0]
        for part in shown[1:]:
            touching = text[-1] in ")ᵀ" or part[0] == "("
            text += part if touching else f" {part}"
        return text

    def children(self) -> tuple[Matrix, ...]:
        """The parts."""
        return self.parts


@dataclass(frozen=True)
class Entrywise(Matrix):
    """Products and quotients entry by entry."""

    parts: tuple[Matrix, ...]
    level = _ENTRYWISE

    def write(self, *, latex: bool) -> str:
        """`y ⊘ a`, `a ⊙ (v − (v ⊙ a)1)`."""
        times, over = (r" \odot ", r" \oslash ") if latex else (" ⊙ ", " ⊘ ")
        flat = [p for part in self.parts for p in _flattened(part)]
        below = [p for p in flat if isinstance(p, Named) and p.power < 0]
        above = sorted((p for p in flat if p not in below), key=_weight)
        text = times.join(p.at(_PRODUCT + 1, latex=latex) for p in above) or "1"
        for part in below:
            text += over + replace(part, power=-part.power).write(latex=latex)
        return text

    def children(self) -> tuple[Matrix, ...]:
        """The parts."""
        return self.parts


def _flattened(part: Matrix) -> tuple[Matrix, ...]:
    if isinstance(part, Entrywise):
        return tuple(p for inner in part.parts for p in _flattened(inner))
    return (part,)


def _weight(part: Matrix) -> tuple[int, bool]:
    """Names first, the cotangent before them, sums last."""
    return (isinstance(part, Total), not (isinstance(part, Named) and part.is_seed))


@dataclass(frozen=True)
class Scaled(Matrix):
    """A matrix times a rational number, powers of sizes, and scalar operands."""

    coefficient: Fraction
    sizes: tuple[tuple[str, Fraction], ...]
    scalars: tuple[Factor, ...]
    body: Matrix
    level = _SCALED

    def write(self, *, latex: bool) -> str:
        """`2 w`, `xᵀ(a − y)/m`."""
        above, below = self._monomial(latex=latex)
        sign = "-" if latex else "−"
        sign = sign if self.coefficient < 0 else ""
        bare = isinstance(self.body, Ones) and self.body.number
        if latex:
            head = rf"\frac{{{' '.join(above) or '1'}}}{{{' '.join(below)}}} " if below else ""
            head = head or (" ".join(above) + " " if above else "")
            tail = "" if bare and head else self.body.at(_ENTRYWISE, latex=True)
            return (sign + head + tail).strip()
        head = " ".join(above) + " " if above else ""
        level = _PRODUCT if above or below else _ENTRYWISE
        body = "" if bare and above else self.body.at(level, latex=False)
        tail = f"/{below[0]}" if len(below) == 1 else f"/({' '.join(below)})" if below else ""
        return f"{sign}{(head + body).strip()}{tail}"

    def _monomial(self, *, latex: bool) -> tuple[list[str], list[str]]:
        top, bottom = abs(self.coefficient.numerator), self.coefficient.denominator
        above, below = ([str(n)] if n != 1 else [] for n in (top, bottom))
        for name, power in self.sizes:
            shown = latex_name(name) if latex else name
            (above if power > 0 else below).append(_power(shown, abs(power), latex=latex))
        for factor in self.scalars:
            shown = f"{factor.function}({factor.name})" if factor.function else factor.name
            if latex:
                name = latex_name(factor.name)
                shown = rf"\operatorname{{{factor.function}}}({name})" if factor.function else name
            target = above if factor.power > 0 else below
            target.append(_power(shown, abs(factor.power), latex=latex))
        return above, below

    def children(self) -> tuple[Matrix, ...]:
        """What is scaled."""
        return (self.body,)


def _power(base: str, power: Fraction, *, latex: bool) -> str:
    if power == 1:
        return base
    if power == Fraction(1, 2):
        return rf"\sqrt{{{base}}}" if latex else f"√{base}"
    if latex:
        return rf"{base}^{{{power}}}"
    return f"{base}^{power}" if power.denominator == 1 else f"{base}^({power})"


@dataclass(frozen=True)
class Total(Matrix):
    """A sum."""

    parts: tuple[Matrix, ...]
    level = _SUM

    def write(self, *, latex: bool) -> str:
        """`a − y`."""
        text = ""
        minus = "-" if latex else "−"
        for part in self.parts:
            shown = part.at(_SCALED, latex=latex)
            negative = shown.startswith(minus)
            body = shown[1:] if negative else shown
            if not text:
                text = shown
                continue
            text += f" {minus} {body}" if negative else f" + {body}"
        return text

    def children(self) -> tuple[Matrix, ...]:
        """The summands."""
        return self.parts
