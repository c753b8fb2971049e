"""Arrays over the lanes: residues of a value and of its tangents, and what else is known of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.algebra.source import caller
from gradcheck.errors import UnsupportedOperation
from gradcheck.running.operand import Operand

if TYPE_CHECKING:
    from gradcheck.errors import Location
    from gradcheck.oracles.exact.degrees import Bound
    from gradcheck.oracles.exact.namespace import FieldNamespace
    from gradcheck.oracles.exact.primes import Residues


class ResampleError(Exception):
    """This evaluation hit a point that says nothing, such as a zero denominator: draw another.

    Attributes:
        what: What was not possible, for the case that it never is.
        location: The user's line.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self.location: Location | None = caller()
        super().__init__(what)


class NeedsSquareError(Exception):
    """A root of a whole number is needed: draw primes modulo which it is a square."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__()


class NeedsCellError(Exception):
    """A decision that has no generic answer, such as `equal` after a maximum: go to cells."""


class StraddleError(Exception):
    """The real point does not decide a branch: draw another one."""


def unsupported(problem: str) -> UnsupportedOperation:
    """The error for something that has no exact meaning here, with the user's line."""
    place = caller()
    return UnsupportedOperation(f"{place}: {problem}" if place else problem)


class FieldArray(Operand):
    """Values in all lanes, with their tangents.

    Attributes:
        data: Residues by lane, then value and tangents, then the array's axes; the second axis is 1
            where no tangent is known to be other than 0.
        exact: The rational numbers themselves, where the array is constant.
        depth: How many square roots of it exist in every lane and have the sign of the real ones.
        recipe: How exp of it is composed: ("lin", ((c, x), …)), ("log", t), ("move", x, places),
            ("sum", x, axes), or None.
        bound: On the size of its entries as rational functions; `slope` on that of its tangents.
        shadow: Balls at a real point, or None.
        truth: Whether it is the indicator of a condition.
    """

    __slots__ = ("bound", "data", "depth", "exact", "recipe", "shadow", "slope", "space", "truth")

    def __init__(
        self,
        space: FieldNamespace,
        data: Residues,
        bound: Bound,
        *,
        slope: Bound | None = None,
        exact: Any = None,
        depth: int = 0,
        recipe: Any = None,
        shadow: Any = None,
        truth: bool = False,
    ) -> None:
        self.space: Any = space
        self.data = data
        self.bound = bound
        self.slope = slope
        self.exact = exact
        self.depth = depth
        self.recipe = recipe
        self.shadow = shadow
        self.truth = truth

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the axes."""
        return self.data.shape[2:]

    @property
    def dtype(self) -> Any:
        """The dtype of the computation that this stands for."""
        return np.dtype(np.float64)

    @property
    def values(self) -> Residues:
        """The values without tangents, by lane."""
        return self.data[:, 0]

    @property
    def moves(self) -> bool:
        """Whether it has tangents."""
        return bool(self.data.shape[1] > 1)

    def still(self) -> FieldArray:
        """The same values without tangents."""
        if not self.moves:
            return self
        return FieldArray(
            self.space,
            self.data[:, :1],
            self.bound,
            depth=self.depth,
            recipe=self.recipe,
            shadow=self.shadow,
        )

    def _condition(self, result: Any) -> Any:
        result.truth = True
        return result

    def __invert__(self) -> Any:
        return self._condition(self.space.subtract(1, self))

    def __and__(self, other: Any) -> Any:
        return self._condition(self.space.multiply(self, self.space.asarray(other)))

    __rand__ = __and__

    def __or__(self, other: Any) -> Any:
        return ~(~self & ~self.space.asarray(other))

    __ror__ = __or__

    def __xor__(self, other: Any) -> Any:
        return (self & ~self.space.asarray(other)) | (~self & self.space.asarray(other))

    __rxor__ = __xor__

    def __bool__(self) -> bool:
        if self.exact is not None and self.size == 1:
            return bool(np.reshape(self.exact, -1)[0])
        raise unsupported(
            "`if`, `and`, `or`, `not` or bool() of a computed value; write xp.where(condition, x, y)"
        )

    def __float__(self) -> float:
        if self.exact is not None and self.size == 1:
            return float(np.reshape(self.exact, -1)[0])
        raise unsupported(
            "float(), int() or a math function of a computed value; write the formula with xp "
            "functions, which accept scalars"
        )

    def __index__(self) -> int:
        if self.exact is not None and self.size == 1 and np.reshape(self.exact, -1)[0] % 1 == 0:
            return int(np.reshape(self.exact, -1)[0])
        raise unsupported("a computed value as an index; index with integer inputs or xp.arange")


def aligned(data: Residues, ndim: int) -> Residues:
    """With axes of size 1 before the array's own, for broadcasting."""
    missing = ndim - (data.ndim - 2)
    return data.reshape(data.shape[:2] + (1,) * missing + data.shape[2:]) if missing else data


def entries_of(exact: Any) -> list[Any]:
    """The entries of an object array, or of a single number."""
    return list(np.reshape(np.asarray(exact, dtype=object), -1))
