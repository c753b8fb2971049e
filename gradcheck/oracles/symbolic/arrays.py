"""Arrays whose entries are forms: what a forward sees when it runs once for all sizes.

What would make the run depend on a size or an entry (`int`, `bool`, `len`, a comparison of sizes) ends
in `Undecided`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradcheck.algebra.canonical.forms import Form, scalar
from gradcheck.algebra.canonical.functions import surely_positive
from gradcheck.algebra.canonical.undecided import Undecided

if TYPE_CHECKING:
    from gradcheck.algebra.canonical.forms import Entry
    from gradcheck.oracles.symbolic.namespace import Symbols


def sign_of(form: Form) -> str:
    """What the monomials of a form say about its sign."""
    if form.is_zero:
        return "≥"
    if any(c < 0 for c in form.terms.values()):
        return ""
    entries = [e for k in form.terms for e in k.entries]
    positive = all(map(surely_positive, form.terms))
    if positive and not any(k.deltas for k in form.terms):
        return ">"
    return "≥" if all(map(_not_negative, entries)) else ""


def _not_negative(e: Entry) -> bool:
    even = e.power.denominator == 1 and e.power.numerator % 2 == 0
    return e.atom.positive or e.atom.selects or even


class SymArray:
    """An array of forms: one form over its axes.

    Attributes:
        space: The namespace.
        form: Its entries, as a function of its letters.
        labels: For integer labels, the form of their one-hot tensor, with one more axis.
        sign: ">" or "≥" where all entries are known to be > 0 or ≥ 0, "" elsewhere.
    """

    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self, space: Symbols, form: Form, labels: Form | None = None, sign: str = ""
    ) -> None:
        self.space = space
        self.form = form
        self.labels = labels
        self.sign = sign or sign_of(form)

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
        raise self.space.refusal(
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
        raise self.space.refusal("len() of a symbolic array; write x.shape[0], which is a size")

    def __iter__(self) -> Any:
        raise self.space.refusal("iterating over a symbolic axis; write the sum or einsum over it")

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
        return self.space.subtract(1, self.space.condition(self))

    def __and__(self, other: Any) -> SymArray:
        return self.space.multiply(self.space.condition(self), self.space.condition(other))

    def __or__(self, other: Any) -> SymArray:
        return ~(~self & ~self.space.asarray(other))

    __rand__, __ror__ = __and__, __or__

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

    def __str__(self) -> str:
        return str(self._refuse("the text of a size"))

    def __format__(self, _spec: str) -> str:
        return str(self)

    def __eq__(self, other: object) -> Any:
        if isinstance(other, SymSize) and self.axis == other.axis:
            return True
        # Two axes may have one size at some shapes: what is run there would not be what was traced.
        return self._refuse("a comparison with a size")

    def __ne__(self, other: object) -> Any:
        return not self == other

    __hash__ = None
