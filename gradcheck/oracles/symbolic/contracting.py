"""Sums, means and contractions of arrays of forms."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from gradcheck.algebra.canonical.forms import constant, relettered, summed
from gradcheck.algebra.canonical.undecided import Undecided
from gradcheck.oracles.symbolic.arithmetic import Arithmetic

if TYPE_CHECKING:
    from gradcheck.oracles.symbolic.arrays import SymArray


class Contracting(Arithmetic):
    """The part of the namespace that sums over axes."""

    def sum(self, x: Any, axis: Any = None, *, keepdims: bool = False) -> SymArray:
        """The sum over axes."""
        x = self.asarray(x)
        positions = positions_of(axis, x.ndim)
        return self._keep(
            self.array(summed(x.form, positions), sign=x.sign), x, positions, keepdims=keepdims
        )

    def _keep(
        self, result: SymArray, x: SymArray, positions: tuple[int, ...], *, keepdims: bool
    ) -> SymArray:
        if not keepdims:
            return result
        axes = tuple("1" if i in positions else a for i, a in enumerate(x.form.axes))
        letters = tuple(i for i in range(x.ndim) if i not in positions)
        return self.array(relettered(result.form, axes, letters), sign=result.sign)

    def _count(self, x: SymArray, axis: Any) -> SymArray:
        total = self.array(constant((), Fraction(1)))
        for i in positions_of(axis, x.ndim):
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
        found = self.divide(self.sum(self.square(centred), axis=axis, keepdims=keepdims), count)
        # With a correction above 1 one divides by a negative number where there are few entries.
        small = isinstance(correction, int | float | Fraction) and correction <= 1
        return self.array(found.form, sign="≥" if small else "")

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
        if len(set(output)) < len(output):
            raise Undecided(f"einsum({equation!r}) repeats a letter of its output")
        arrays = [self.asarray(x) for x in operands]
        axes: dict[str, str] = dict.fromkeys(output, "1")
        for group, x in zip(groups, arrays, strict=True):
            own = dict(zip(group, x.form.axes, strict=True))
            for letter, axis in zip(group, x.form.axes, strict=True):
                if own[letter] != axis:
                    raise Undecided(f"the letter {letter!r} of einsum({equation!r}) joins two axes")
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
        return self.array(summed(result, bound), sign=_contracted_sign(groups, arrays))

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


def _contracted_sign(groups: list[str], arrays: list[SymArray]) -> str:
    """The sign of a sum of products: of squares, or of what has a sign."""
    signs = {x.sign for x in arrays}
    if "" not in signs:
        return ">" if signs == {">"} else "≥"
    pairs = [(g, x.form.key()) for g, x in zip(groups, arrays, strict=True) if not x.sign]
    return "≥" if all(pairs.count(pair) % 2 == 0 for pair in pairs) else ""


def positions_of(axis: Any, rank: int) -> tuple[int, ...]:
    """The axes that an `axis` argument names.

    Raises:
        Undecided: Where there is none, or one is named twice.
    """
    if axis is None:
        return tuple(range(rank))
    items = axis if isinstance(axis, tuple | list) else (axis,)
    found = tuple(sorted(position(i, rank) for i in items))
    if len(set(found)) < len(found):
        raise Undecided(f"axis={axis!r} names an axis twice")
    return found


def position(axis: Any, rank: int) -> int:
    """One axis, counted from the front.

    Raises:
        Undecided: Where there is no such axis.
    """
    if not -rank <= int(axis) < rank:
        raise Undecided(f"axis {axis} of an array with {rank} axes")
    return int(axis) % rank
