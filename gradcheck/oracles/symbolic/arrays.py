"""The namespace `xp` whose arrays are forms: the forward runs once, for all sizes.

What would make the run depend on a size or an entry (`int`, `bool`, `len`, a comparison of sizes) or
is not one index expression (a concatenation, a cumulative sum) ends in `Undecided`.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from gradcheck.algebra.canonical import functions
from gradcheck.algebra.canonical.forms import (
    Entry,
    Form,
    Key,
    Undecided,
    build,
    constant,
    relettered,
    scalar,
    summed,
)
from gradcheck.backends.names import XP_NAMES

if TYPE_CHECKING:
    from gradcheck.algebra.canonical.atoms import Table

# Sizes that only tell axes apart while shapes are compared.
_FAKE = 1_000_003


class SymArray:
    """An array of forms: one form over its axes.

    Attributes:
        space: The namespace.
        form: Its entries, as a function of its letters.
        labels: For integer labels, the form of their one-hot tensor, with one more axis.
    """

    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, space: Symbols, form: Form, labels: Form | None = None) -> None:
        self.space = space
        self.form = form
        self.labels = labels

    @property
    def shape(self) -> tuple[Any, ...]:
        """Sizes: numbers where they are known, symbols elsewhere."""
        return tuple(int(a) if a.isdigit() else SymSize(self.space, a) for a in self.form.axes)

    @property
    def axes_shape(self) -> tuple[int, ...]:
        """A number for each axis that tells axes apart; never a size."""
        return tuple(self.space.fake_size(a) for a in self.form.axes)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.form.rank

    @property
    def T(self) -> SymArray:  # noqa: N802
        """The transpose."""
        return self.space.permute_dims(self, tuple(reversed(range(self.ndim))))

    def _refuse(self, what: str) -> Any:
        raise Undecided(
            f"{what} of a symbolic value: the result would hold for some sizes or entries only; "
            "use xp.where, xp.maximum or a residual output"
        )

    def __bool__(self) -> bool:
        return bool(self._refuse("bool()"))

    def __int__(self) -> int:
        return int(self._refuse("int()"))

    def __index__(self) -> int:
        return int(self._refuse("an integer"))

    def __float__(self) -> float:
        return float(self._refuse("float()"))

    def __len__(self) -> int:
        raise Undecided("len() of a symbolic array; write x.shape[0], which is a size")

    def __iter__(self) -> Any:
        raise Undecided("iterating over a symbolic axis; write the sum or einsum over it")

    def __getitem__(self, key: Any) -> SymArray:
        return self.space.index(self, key)

    def __neg__(self) -> SymArray:
        return self.space.multiply(-1, self)

    def __pos__(self) -> SymArray:
        return self

    def __abs__(self) -> SymArray:
        return self.space.abs(self)

    def __add__(self, other: Any) -> SymArray:
        return self.space.add(self, other)

    def __radd__(self, other: Any) -> SymArray:
        return self.space.add(other, self)

    def __sub__(self, other: Any) -> SymArray:
        return self.space.subtract(self, other)

    def __rsub__(self, other: Any) -> SymArray:
        return self.space.subtract(other, self)

    def __mul__(self, other: Any) -> SymArray:
        return self.space.multiply(self, other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> SymArray:
        return self.space.divide(self, other)

    def __rtruediv__(self, other: Any) -> SymArray:
        return self.space.divide(other, self)

    def __pow__(self, other: Any) -> SymArray:
        return self.space.pow(self, other)

    def __rpow__(self, other: Any) -> SymArray:
        return self.space.exp(self.space.multiply(self, self.space.log(other)))

    def __matmul__(self, other: Any) -> SymArray:
        return self.space.matmul(self, other)

    def __rmatmul__(self, other: Any) -> SymArray:
        return self.space.matmul(other, self)

    def __gt__(self, other: Any) -> SymArray:
        return self.space.greater(self, other)

    def __ge__(self, other: Any) -> SymArray:
        return self.space.greater_equal(self, other)

    def __lt__(self, other: Any) -> SymArray:
        return self.space.less(self, other)

    def __le__(self, other: Any) -> SymArray:
        return self.space.less_equal(self, other)

    def __eq__(self, other: object) -> Any:
        return self.space.equal(self, other)

    def __ne__(self, other: object) -> Any:
        return self.space.not_equal(self, other)

    def __invert__(self) -> SymArray:
        return self.space.subtract(1, self)

    def __and__(self, other: Any) -> SymArray:
        return self.space.multiply(self, other)

    def __or__(self, other: Any) -> SymArray:
        both = self.space.multiply(self, other)
        return self.space.subtract(self.space.add(self, other), both)

    def sum(self, axis: Any = None, *, keepdims: bool = False) -> SymArray:
        """The sum over axes."""
        return self.space.sum(self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Any = None, *, keepdims: bool = False) -> SymArray:
        """The mean over axes."""
        return self.space.mean(self, axis=axis, keepdims=keepdims)

    def max(self, axis: Any = None, *, keepdims: bool = False) -> SymArray:
        """The maximum over axes."""
        return self.space.max(self, axis=axis, keepdims=keepdims)

    def reshape(self, *shape: Any) -> SymArray:
        """Axes of size one put in or taken out."""
        return self.space.reshape(self, shape[0] if len(shape) == 1 else shape)


class SymSize(SymArray):
    """The size of an axis, as a number that is not known."""

    def __init__(self, space: Symbols, axis: str) -> None:
        super().__init__(space, scalar(axis))
        self.axis = axis

    def __pow__(self, other: Any) -> SymArray:
        if isinstance(other, float) and not other.is_integer():
            raise Undecided(
                f"{self.axis}**{other} of a size is a rounded number; write xp.sqrt(...) in the forward "
                f"and size({self.axis!r})**Fraction(-1, 2) in the claim"
            )
        return super().__pow__(other)

    def __eq__(self, other: object) -> Any:
        if isinstance(other, SymSize):
            return self.axis == other.axis
        return self._refuse("a comparison with a size")

    def __ne__(self, other: object) -> Any:
        return not self == other

    __hash__ = None


def _may_tie(form: Form) -> bool:
    """Whether entries may be equal in a whole cell: where a selector stands, as in a relu."""
    atoms = {e.atom for k in form.terms for e in k.entries}
    return any(a.selects or (a.argument is not None and _may_tie(a.argument)) for a in atoms)


def _aligned(*forms: Form) -> tuple[tuple[str, ...], list[Form]]:
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


class Symbols:
    """The symbolic `xp`.

    Args:
        table: The atoms of the run.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self.newaxis = None
        self.pi = SymArray(self, scalar("pi"))
        self.e = SymArray(self, scalar("e"))
        self.inf = float("inf")
        self._fakes: dict[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        if name in XP_NAMES:
            raise Undecided(
                f"xp.{name} is not one index expression of symbolic size; return its result as a residual "
                "output, or leave this claim to the other oracles"
            )
        raise AttributeError(f"xp.{name} is not in the documented list of names")

    def fake_size(self, axis: str) -> int:
        """A number that stands for an axis while shapes are compared."""
        if axis.isdigit():
            return int(axis)
        return self._fakes.setdefault(axis, _FAKE + len(self._fakes))

    def axis_named(self, number: int) -> str:
        """The axis of a number that `fake_size` gave."""
        return next((a for a, n in self._fakes.items() if n == number), str(number))

    def asarray(self, x: Any) -> SymArray:
        """A number or an array as an array of forms; a float is its shortest decimal."""
        if isinstance(x, SymArray):
            return x
        if isinstance(x, bool | int | Fraction):
            return SymArray(self, constant((), Fraction(x)))
        if isinstance(x, float):
            if x != x or x in (float("inf"), float("-inf")):
                raise Undecided(f"the constant {x} is no real number")
            return SymArray(self, constant((), Fraction(repr(x))))
        raise Undecided(
            f"{type(x).__name__} values cannot be made symbolic; write numbers and xp arrays"
        )

    def _pair(self, x: Any, y: Any) -> tuple[Form, Form]:
        _, (a, b) = _aligned(self.asarray(x).form, self.asarray(y).form)
        return a, b

    # ------------------------------------------------------------------ arithmetic

    def add(self, x: Any, y: Any) -> SymArray:
        """The sum."""
        a, b = self._pair(x, y)
        return SymArray(self, a + b)

    def subtract(self, x: Any, y: Any) -> SymArray:
        """The difference."""
        a, b = self._pair(x, y)
        return SymArray(self, a - b)

    def multiply(self, x: Any, y: Any) -> SymArray:
        """The product."""
        a, b = self._pair(x, y)
        return SymArray(self, a * b)

    def divide(self, x: Any, y: Any) -> SymArray:
        """The quotient."""
        a, b = self._pair(x, y)
        return SymArray(self, a * functions.power(self.table, b, Fraction(-1)))

    def pow(self, x: Any, y: Any) -> SymArray:
        """A rational power."""
        if isinstance(y, SymArray):
            ((key, number),) = (
                y.form.terms.items() if len(y.form.terms) == 1 else ((None, Fraction(0)),)
            )
            if key is None or key.entries or key.scalars:
                raise Undecided(
                    "a power with a symbolic exponent; write exp(p * log(x)) for positive x"
                )
            y = number
        exponent = Fraction(repr(y)) if isinstance(y, float) else Fraction(y)
        return SymArray(self, functions.power(self.table, self.asarray(x).form, exponent))

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
        return SymArray(self, functions.exp(self.table, self.asarray(x).form))

    def log(self, x: Any) -> SymArray:
        """The natural logarithm."""
        return SymArray(self, functions.log(self.table, self.asarray(x).form))

    def expm1(self, x: Any) -> SymArray:
        """The exponential less one."""
        return self.subtract(self.exp(x), 1)

    def log1p(self, x: Any) -> SymArray:
        """The logarithm of one more."""
        return self.log(self.add(x, 1))

    def sigmoid(self, x: Any) -> SymArray:
        """1 / (1 + exp(−x))."""
        return SymArray(self, functions.odd(self.table, "sigmoid", self.asarray(x).form))

    def tanh(self, x: Any) -> SymArray:
        """The hyperbolic tangent."""
        return SymArray(self, functions.odd(self.table, "tanh", self.asarray(x).form))

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
        return SymArray(self, functions.opaque(self.table, kind, self.asarray(x).form))

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
        return self._opaque("asin", x)

    def acos(self, x: Any) -> SymArray:
        """The inverse cosine."""
        return self._opaque("acos", x)

    def atan(self, x: Any) -> SymArray:
        """The inverse tangent."""
        return self._opaque("atan", x)

    # ------------------------------------------------------------------ branches

    def step(self, x: Any) -> SymArray:
        """1 where x > 0, else 0."""
        return SymArray(self, functions.step(self.table, self.asarray(x).form))

    def greater(self, x: Any, y: Any) -> SymArray:
        """Where x > y, as a selector; at a tie nothing is claimed."""
        return self.step(self.subtract(x, y))

    def greater_equal(self, x: Any, y: Any) -> SymArray:
        """Where x ≥ y: 1 where they are one expression, in a whole cell or everywhere."""
        return self.subtract(1, self.less(x, y))

    def less(self, x: Any, y: Any) -> SymArray:
        """Where x < y."""
        return self.step(self.subtract(y, x))

    def less_equal(self, x: Any, y: Any) -> SymArray:
        """Where x ≤ y."""
        return self.subtract(1, self.greater(x, y))

    def equal(self, x: Any, y: Any) -> SymArray:
        """Where x = y: a selector of its own, 1 where they are one expression."""
        gap = self.subtract(x, y).form
        if gap.is_zero:
            return SymArray(self, constant(gap.axes, Fraction(1)))
        chosen = self._selected_by(gap)
        if chosen is not None:
            return chosen
        atom, letters = functions.atom_of(self.table, "equal", gap, selects=True)
        key = Key((), (Entry(atom, letters, Fraction(1)),), ())
        return SymArray(self, build(gap.axes, [(key, Fraction(1))]))

    def _selected_by(self, gap: Form) -> SymArray | None:
        """The selector of a maximum, if the gap is x − max x: away from ties they are one."""
        for atom in [a for a in self.table.atoms.values() if a.kind == "selector"]:
            x = atom.argument
            if x is None or x.rank != gap.rank or atom.axes != x.axes or _may_tie(x):
                continue
            for last in range(gap.rank):
                order = (*(i for i in range(gap.rank) if i != last), last)
                if tuple(gap.axes[i] for i in order) != x.axes:
                    continue
                selector = build(
                    x.axes,
                    [(Key((), (Entry(atom, tuple(range(x.rank)), Fraction(1)),), ()), Fraction(1))],
                )
                most = relettered(
                    summed(selector * x, (x.rank - 1,)), x.axes, tuple(range(x.rank - 1))
                )
                if relettered(x - most, gap.axes, order).terms in (
                    gap.terms,
                    gap.times(Fraction(-1)).terms,
                ):
                    return SymArray(self, relettered(selector, gap.axes, order))
        return None

    def not_equal(self, x: Any, y: Any) -> SymArray:
        """Where x ≠ y."""
        return self.subtract(1, self.equal(x, y))

    def where(self, condition: Any, x: Any, y: Any) -> SymArray:
        """X where the condition holds, else y."""
        return self.add(self.multiply(condition, x), self.multiply(self.subtract(1, condition), y))

    def maximum(self, x: Any, y: Any) -> SymArray:
        """The larger one."""
        return self.where(self.greater(x, y), x, y)

    def minimum(self, x: Any, y: Any) -> SymArray:
        """The smaller one."""
        return self.where(self.greater(x, y), y, x)

    def clip(self, x: Any, min: Any = None, max: Any = None) -> SymArray:
        """X held between bounds."""
        x = self.asarray(x)
        if min is not None:
            x = self.maximum(x, min)
        return x if max is None else self.minimum(x, max)

    def sign(self, x: Any) -> SymArray:
        """−1 or 1, and 0 where x is 0 in a whole cell."""
        return self.subtract(self.step(x), self.step(self.negative(x)))

    def abs(self, x: Any) -> SymArray:
        """The absolute value."""
        return self.multiply(self.sign(x), x)

    def max(self, x: Any, axis: Any = None, *, keepdims: bool = False) -> SymArray:
        """The maximum over axes: Σ w x with a selector w whose rows sum to 1."""
        x = self.asarray(x)
        positions = _positions(axis, x.ndim)
        if not positions:
            return x  # type: ignore[no-any-return]
        if len(positions) > 1:
            raise Undecided("a maximum over several axes; take one axis after the other")
        return self._keep(self._selected(x, positions[0]), x, positions, keepdims=keepdims)

    def _selected(self, x: SymArray, position: int) -> SymArray:
        order = [i for i in range(x.ndim) if i != position] + [position]
        moved = self.permute_dims(x, order).form
        if moved.axes[-1] == "1":
            return SymArray(self, summed(moved, (moved.rank - 1,)))
        # The selector depends on every letter, and its rows run along the last one.
        letters = tuple(i for i, a in enumerate(moved.axes) if a != "1")
        axes = tuple(moved.axes[i] for i in letters)
        atom = self.table.get(
            "selector", "selector", axes, argument=moved, selects=True, sums_to_one=True
        )
        key = Key((), (Entry(atom, letters, Fraction(1)),), ())
        chosen = build(moved.axes, [(key, Fraction(1))]) * moved
        return SymArray(self, summed(chosen, (moved.rank - 1,)))

    def min(self, x: Any, axis: Any = None, *, keepdims: bool = False) -> SymArray:
        """The minimum over axes."""
        return self.negative(self.max(self.negative(x), axis=axis, keepdims=keepdims))

    # ------------------------------------------------------------------ sums

    def sum(self, x: Any, axis: Any = None, *, keepdims: bool = False) -> SymArray:
        """The sum over axes."""
        x = self.asarray(x)
        positions = _positions(axis, x.ndim)
        return self._keep(
            SymArray(self, summed(x.form, positions)), x, positions, keepdims=keepdims
        )

    def _keep(
        self, result: SymArray, x: SymArray, positions: tuple[int, ...], *, keepdims: bool
    ) -> SymArray:
        if not keepdims:
            return result
        axes = tuple("1" if i in positions else a for i, a in enumerate(x.form.axes))
        letters = tuple(i for i in range(x.ndim) if i not in positions)
        return SymArray(self, relettered(result.form, axes, letters))

    def _count(self, x: SymArray, axis: Any) -> SymArray:
        total = SymArray(self, constant((), Fraction(1)))
        for i in _positions(axis, x.ndim):
            total = self.multiply(total, x.shape[i])
        return total

    def mean(self, x: Any, axis: Any = None, *, keepdims: bool = False) -> SymArray:
        """The mean over axes."""
        x = self.asarray(x)
        return self.divide(self.sum(x, axis=axis, keepdims=keepdims), self._count(x, axis))

    def var(
        self, x: Any, axis: Any = None, *, correction: Any = 0, keepdims: bool = False
    ) -> SymArray:
        """The variance over axes."""
        x = self.asarray(x)
        centred = self.subtract(x, self.mean(x, axis=axis, keepdims=True))
        count = self.subtract(self._count(x, axis), correction)
        return self.divide(self.sum(self.square(centred), axis=axis, keepdims=keepdims), count)

    def std(
        self, x: Any, axis: Any = None, *, correction: Any = 0, keepdims: bool = False
    ) -> SymArray:
        """The standard deviation over axes."""
        return self.sqrt(self.var(x, axis=axis, correction=correction, keepdims=keepdims))

    def logsumexp(self, x: Any, axis: Any = None, *, keepdims: bool = False) -> SymArray:
        """Log Σ exp over axes."""
        return self.log(self.sum(self.exp(x), axis=axis, keepdims=keepdims))

    def einsum(self, equation: str, *operands: Any) -> SymArray:
        """A sum of products."""
        text = equation.replace(" ", "")
        if "->" not in text or "." in text:
            raise Undecided(f"einsum({equation!r}) needs an explicit output and no ellipsis")
        left, output = text.split("->")
        groups = left.split(",")
        arrays = [self.asarray(x) for x in operands]
        axes: dict[str, str] = dict.fromkeys(output, "1")
        for group, x in zip(groups, arrays, strict=True):
            for letter, axis in zip(group, x.form.axes, strict=True):
                if axes.setdefault(letter, axis) == "1":
                    axes[letter] = axis
                elif axis not in ("1", axes[letter]):
                    raise Undecided(f"the letter {letter!r} of einsum({equation!r}) joins two axes")
        letters = list(axes)
        common = tuple(axes[s] for s in letters)
        result = constant(common, Fraction(1))
        for group, x in zip(groups, arrays, strict=True):
            result = result * relettered(x.form, common, tuple(letters.index(s) for s in group))
        bound = tuple(i for i, s in enumerate(letters) if s not in output)
        return SymArray(self, summed(result, bound))

    def matmul(self, x: Any, y: Any) -> SymArray:
        """The matrix product."""
        x, y = self.asarray(x), self.asarray(y)
        stack = "abcdefgh"[: max(x.ndim, y.ndim)]
        first = stack[: max(x.ndim - 2, 0)]
        second = stack[: max(y.ndim - 2, 0)]
        if len(first) != len(second) and first and second:
            raise Undecided("a matrix product of stacks of different rank; write xp.einsum")
        left = first + ("xk" if x.ndim > 1 else "k")
        right = second + ("ky" if y.ndim > 1 else "k")
        out = (first or second) + ("x" if x.ndim > 1 else "") + ("y" if y.ndim > 1 else "")
        return self.einsum(f"{left},{right}->{out}", x, y)

    def diagonal(self, x: Any) -> SymArray:
        """The diagonal of the last two axes."""
        letters = "abcdefgh"[: self.asarray(x).ndim - 2]
        return self.einsum(f"{letters}zz->{letters}z", x)

    def trace(self, x: Any) -> SymArray:
        """The sum of the diagonal of the last two axes."""
        letters = "abcdefgh"[: self.asarray(x).ndim - 2]
        return self.einsum(f"{letters}zz->{letters}", x)

    # ------------------------------------------------------------------ shapes

    def permute_dims(self, x: Any, axes: Sequence[int]) -> SymArray:
        """The axes in another order."""
        form = self.asarray(x).form
        order = [a % form.rank for a in axes]
        new = tuple(form.axes[i] for i in order)
        return SymArray(
            self, relettered(form, new, tuple(order.index(i) for i in range(form.rank)))
        )

    def matrix_transpose(self, x: Any) -> SymArray:
        """The last two axes exchanged."""
        n = self.asarray(x).ndim
        return self.permute_dims(x, (*range(n - 2), n - 1, n - 2))

    def expand_dims(self, x: Any, axis: int = 0) -> SymArray:
        """A new axis of size one."""
        x = self.asarray(x)
        at = axis % (x.ndim + 1)
        return self.index(x, (*[slice(None)] * at, None))

    def squeeze(self, x: Any, axis: Any = None) -> SymArray:
        """Axes of size one taken out."""
        x = self.asarray(x)
        positions = _positions(axis, x.ndim) if axis is not None else tuple(range(x.ndim))
        if any(x.form.axes[i] != "1" for i in positions if axis is not None):
            raise Undecided("squeeze of an axis whose size is not 1")
        gone = tuple(i for i in positions if x.form.axes[i] == "1")
        return SymArray(self, summed(x.form, gone))

    def index(self, x: SymArray, key: Any) -> SymArray:
        """Indexing with None, full slices and Ellipsis."""
        parts = list(key) if isinstance(key, tuple) else [key]
        given = sum(1 for p in parts if p is not None and p is not Ellipsis)
        if Ellipsis in [p for p in parts if p is None or p is Ellipsis or isinstance(p, slice)]:
            at = parts.index(Ellipsis)
            parts[at : at + 1] = [slice(None)] * (x.ndim - given)
        parts += [slice(None)] * (x.ndim - sum(1 for p in parts if p is not None))
        axes, letters, at = [], [], 0
        for part in parts:
            if part is None:
                axes.append("1")
            elif isinstance(part, slice) and part == slice(None):
                letters.append(len(axes))
                axes.append(x.form.axes[at])
                at += 1
            elif part == 0 and x.form.axes[at] == "1":
                at += 1
                letters.append(-1)
            else:
                raise Undecided(
                    f"indexing a symbolic axis with {part!r}; ':', None and '...' keep it whole"
                )
        if -1 in letters:
            gone = tuple(i for i, s in enumerate(letters) if s == -1)
            kept = tuple(s for s in letters if s != -1)
            return SymArray(self, relettered(summed(x.form, gone), tuple(axes), kept))
        return SymArray(self, relettered(x.form, tuple(axes), tuple(letters)))

    def reshape(self, x: Any, shape: Any) -> SymArray:
        """Axes of size one put in or taken out; anything else mixes symbolic axes."""
        x = self.asarray(x)
        sizes = tuple(shape) if isinstance(shape, Sequence) else (shape,)
        axes = tuple(s.axis if isinstance(s, SymSize) else str(s) for s in sizes)
        whole = [a for a in axes if a != "1"]
        own = [a for a in x.form.axes if a != "1"]
        if whole != own:
            raise Undecided(f"a reshape from {own} to {whole} over symbolic axes")
        flat = self.squeeze(x)
        places = tuple(i for i, a in enumerate(axes) if a != "1")
        return SymArray(self, relettered(flat.form, axes, places))

    def broadcast_to(self, x: Any, shape: Any) -> SymArray:
        """The array repeated along new axes."""
        return self.add(self.zeros(shape), x)

    def zeros(self, shape: Any) -> SymArray:
        """Zeros."""
        return SymArray(self, Form(self._axes(shape), {}))

    def ones(self, shape: Any) -> SymArray:
        """Ones."""
        return SymArray(self, constant(self._axes(shape), Fraction(1)))

    def _axes(self, shape: Any) -> tuple[str, ...]:
        sizes = tuple(shape) if isinstance(shape, Sequence) else (shape,)
        return tuple(s.axis if isinstance(s, SymSize) else str(s) for s in sizes)

    def zeros_like(self, x: Any) -> SymArray:
        """Zeros of the same shape."""
        return SymArray(self, Form(self.asarray(x).form.axes, {}))

    def ones_like(self, x: Any) -> SymArray:
        """Ones of the same shape."""
        return SymArray(self, constant(self.asarray(x).form.axes, Fraction(1)))

    def eye(self, n: Any) -> SymArray:
        """The identity matrix: a Kronecker delta."""
        (axis,) = self._axes(n)
        return SymArray(self, build((axis, axis), [(Key((), (), ((0, 1),)), Fraction(1))]))

    def take(self, x: Any, indices: Any, *, axis: int) -> SymArray:
        """Rows chosen by integer labels: a contraction with their one-hot tensor."""
        x = self.asarray(x)
        labels = getattr(indices, "labels", None)
        if labels is None:
            raise Undecided("take() with indices that are no input of labels")
        at = axis % x.ndim
        if x.form.axes[at] != labels.axes[-1]:
            raise Undecided(f"labels below {labels.axes[-1]} index an axis {x.form.axes[at]}")
        rows = "uvw"[: labels.rank - 1]
        own = "abcdefgh"[: x.ndim]
        out = own[:at] + rows + own[at + 1 :]
        hot = SymArray(self, labels)
        return self.einsum(f"{rows}{own[at]},{own}->{out}", hot, x)

    def one_hot(self, labels: Any, n: Any) -> SymArray:
        """Labels as their one-hot tensor."""
        hot = getattr(labels, "labels", None)
        if hot is None or hot.axes[-1] != self._axes(n)[0]:
            raise Undecided("one_hot() of something that is no input of labels below that size")
        return SymArray(self, hot)


def _positions(axis: Any, rank: int) -> tuple[int, ...]:
    """The axes that an `axis` argument names."""
    if axis is None:
        return tuple(range(rank))
    items = axis if isinstance(axis, tuple | list) else (axis,)
    return tuple(sorted(int(i) % rank for i in items))
