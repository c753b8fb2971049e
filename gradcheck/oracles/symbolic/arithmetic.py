"""Arithmetic and elementary functions on arrays of forms."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

from gradcheck.algebra.canonical import functions
from gradcheck.algebra.canonical.forms import Form, constant, relettered, scalar
from gradcheck.algebra.canonical.undecided import Undecided
from gradcheck.algebra.literals import literal
from gradcheck.backends.names import XP_NAMES
from gradcheck.oracles.symbolic.arrays import SymArray

if TYPE_CHECKING:
    from gradcheck.algebra.canonical.atoms import Table
    from gradcheck.oracles.symbolic.namespace import Symbols
    from gradcheck.oracles.symbolic.points import Range
    from gradcheck.oracles.symbolic.ties import Ties

# Sizes that only tell axes apart while shapes are compared.
_FAKE = 1_000_003


def aligned(*forms: Form) -> tuple[tuple[str, ...], list[Form]]:
    """Forms over their common axes, as NumPy broadcasts them."""
    rank = max(f.rank for f in forms)
    axes = ["1"] * rank
    for f in forms:
        for i, axis in enumerate(f.axes, rank - f.rank):
            if axis in ("1", axes[i]):
                continue
            if axes[i] != "1":
                raise Undecided(
                    f"axes {axes[i]!r} and {axis!r} are combined entry by entry, but are different axes"
                )
            axes[i] = axis
    common = tuple(axes)
    return common, [relettered(f, common, tuple(range(rank - f.rank, rank))) for f in forms]


class Arithmetic:
    """The part of the namespace that works entry by entry.

    Args:
        table: The atoms of the run.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self.newaxis = None
        self.pi = self.array(scalar("pi"))
        self.e = self.array(scalar("e"))
        self.inf = float("inf")
        self.asked: list[tuple[Form, str]] = []
        self.asking = True
        self.tied = False
        self.jumps = False
        self._fakes: dict[str, int] = {}
        self.refused: Undecided | None = None
        self.rounded: set[float] = set()
        self.ranges: dict[str, Range] = {}
        self.from_two: set[str] = set()
        self._known_ties: dict[object, Ties] = {}

    def array(self, form: Form, labels: Form | None = None, *, sign: str = "") -> SymArray:
        """An array of this namespace."""
        return SymArray(cast("Symbols", self), form, labels, sign)

    def ask(self, x: SymArray, relation: str) -> None:
        """Note what must hold of an array's entries, unless it is known that they are positive."""
        if x.sign != ">" and self.asking:
            self.asked.append((x.form, relation))

    def refusal(self, why: str) -> Undecided:
        """An error that ends the run, also where the forward catches it and goes on."""
        self.refused = Undecided(why)
        return self.refused

    def __getattr__(self, name: str) -> Any:
        if name in XP_NAMES:
            raise self.refusal(
                f"xp.{name} is not one index expression of symbolic size; return its result as a residual "
                "output, or leave this claim to the other oracles"
            )
        raise AttributeError(f"xp.{name} is not in the documented list of names")

    def fake_size(self, axis: str) -> int:
        """A number that stands for an axis while shapes are compared."""
        if axis.isdigit():
            return int(axis)
        return self._fakes.setdefault(axis, _FAKE + len(self._fakes))

    def asarray(self, x: Any) -> SymArray:
        """A number or an array as an array of forms; a float is what somebody meant by it."""
        if isinstance(x, SymArray):
            return x
        if isinstance(x, bool | int | Fraction):
            return self.array(constant((), Fraction(x)))
        if isinstance(x, float):
            if x != x or x in (float("inf"), float("-inf")):
                raise Undecided(f"the constant {x} is no real number")
            return self.array(constant((), self._read(x)))
        raise Undecided(
            f"{type(x).__name__} values cannot be made symbolic; write numbers and xp arrays"
        )

    def _read(self, x: float) -> Fraction:
        number, rounded = literal(x)
        if rounded:
            self.rounded.add(x)
        return number

    def _pair(self, x: Any, y: Any) -> tuple[Form, Form]:
        _, (a, b) = aligned(self.asarray(x).form, self.asarray(y).form)
        return a, b

    # ------------------------------------------------------------------ arithmetic

    def add(self, x: Any, y: Any) -> SymArray:
        """The sum."""
        x, y = self.asarray(x), self.asarray(y)
        a, b = self._pair(x, y)
        both = "≥" if x.sign and y.sign else ""
        return self.array(a + b, sign=">" if both and ">" in (x.sign, y.sign) else both)

    def subtract(self, x: Any, y: Any) -> SymArray:
        """The difference."""
        a, b = self._pair(x, y)
        return self.array(a - b)

    def multiply(self, x: Any, y: Any) -> SymArray:
        """The product."""
        x, y = self.asarray(x), self.asarray(y)
        a, b = self._pair(x, y)
        square = "≥" if a.terms == b.terms else ""
        return self.array(a * b, sign=product_sign(x, y) or square)

    def divide(self, x: Any, y: Any) -> SymArray:
        """The quotient."""
        x, y = self.asarray(x), self.asarray(y)
        self.ask(y, "≠ 0")
        a, b = self._pair(x, y)
        quotient = a * functions.power(self.table, b, Fraction(-1))
        return self.array(quotient, sign=product_sign(x, y))

    def pow(self, x: Any, y: Any) -> SymArray:
        """A rational power."""
        x, exponent = self.asarray(x), self._exponent(y)
        whole = exponent.denominator == 1
        if not whole or exponent < 0:
            self.ask(x, "≠ 0" if whole else "> 0")
        even = whole and exponent.numerator % 2 == 0
        sign = x.sign or ("≥" if even or not whole else "")
        return self.array(functions.power(self.table, x.form, exponent), sign=sign)

    def _exponent(self, y: Any) -> Fraction:
        if not isinstance(y, SymArray):
            return self._read(y) if isinstance(y, float) else Fraction(y)
        terms = list(y.form.terms.items())
        if not terms:
            return Fraction(0)
        key, number = terms[0]
        if len(terms) > 1 or key.entries or key.scalars:
            raise Undecided(
                "a power with a symbolic exponent; write exp(p * log(x)) for positive x"
            )
        return number

    def negative(self, x: Any) -> SymArray:
        """The negative."""
        return self.multiply(-1, x)

    def square(self, x: Any) -> SymArray:
        """The square."""
        return self.multiply(x, x)

    def sqrt(self, x: Any) -> SymArray:
        """The square root."""
        return self.pow(x, Fraction(1, 2))

    # ------------------------------------------------------------------ functions

    def exp(self, x: Any) -> SymArray:
        """The exponential."""
        return self.array(functions.exp(self.table, self.asarray(x).form), sign=">")

    def log(self, x: Any) -> SymArray:
        """The natural logarithm."""
        x = self.asarray(x)
        self.ask(x, "> 0")
        return self.array(functions.log(self.table, x.form))

    def expm1(self, x: Any) -> SymArray:
        """The exponential less one."""
        return self.subtract(self.exp(x), 1)

    def log1p(self, x: Any) -> SymArray:
        """The logarithm of one more."""
        return self.log(self.add(x, 1))

    def sigmoid(self, x: Any) -> SymArray:
        """1 / (1 + exp(−x))."""
        return self.array(self._opaque("sigmoid", x).form, sign=">")

    def tanh(self, x: Any) -> SymArray:
        """The hyperbolic tangent."""
        return self._opaque("tanh", x)

    def sinh(self, x: Any) -> SymArray:
        """(exp x − exp(−x)) / 2."""
        return self.divide(self.subtract(self.exp(x), self.exp(self.negative(x))), 2)

    def cosh(self, x: Any) -> SymArray:
        """(exp x + exp(−x)) / 2."""
        return self.divide(self.add(self.exp(x), self.exp(self.negative(x))), 2)

    def tan(self, x: Any) -> SymArray:
        """Sin / cos."""
        return self.divide(self.sin(x), self.cos(x))

    def logaddexp(self, x: Any, y: Any) -> SymArray:
        """log(exp x + exp y)."""
        return self.log(self.add(self.exp(x), self.exp(y)))

    def _opaque(self, kind: str, x: Any) -> SymArray:
        return self.array(functions.opaque(self.table, kind, self.asarray(x).form))

    def erf(self, x: Any) -> SymArray:
        """The error function."""
        return self._opaque("erf", x)

    def sin(self, x: Any) -> SymArray:
        """The sine."""
        return self._opaque("sin", x)

    def cos(self, x: Any) -> SymArray:
        """The cosine."""
        return self._opaque("cos", x)

    def asin(self, x: Any) -> SymArray:
        """The inverse sine."""
        self.ask(self.subtract(1, self.square(x)), "> 0")
        return self._opaque("asin", x)

    def acos(self, x: Any) -> SymArray:
        """The inverse cosine."""
        self.ask(self.subtract(1, self.square(x)), "> 0")
        return self._opaque("acos", x)

    def atan(self, x: Any) -> SymArray:
        """The inverse tangent."""
        return self._opaque("atan", x)


def product_sign(x: SymArray, y: SymArray) -> str:
    """The sign of a product or quotient."""
    if not (x.sign and y.sign):
        return ""
    return ">" if x.sign == y.sign == ">" else "≥"
