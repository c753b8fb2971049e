"""Reshaping, indexing and one-hot rows: what moves, inserts or joins axes of arrays of forms."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from gradcheck.algebra.canonical.forms import Form, Key, build, constant, relettered, summed
from gradcheck.algebra.canonical.undecided import Undecided
from gradcheck.oracles.symbolic.arrays import SymArray, SymSize
from gradcheck.oracles.symbolic.contracting import Contracting, position, positions_of


class Shaping(Contracting):
    """The part of the namespace that changes shapes."""

    def permute_dims(self, x: Any, axes: Sequence[int]) -> SymArray:
        """The axes in another order."""
        x = self.asarray(x)
        form = x.form
        order = [position(a, form.rank) for a in axes]
        new = tuple(form.axes[i] for i in order)
        return self.array(relettered(form, new, tuple(order.index(i) for i in range(form.rank))))

    def matrix_transpose(self, x: Any) -> SymArray:
        """The last two axes exchanged."""
        n = self.asarray(x).ndim
        return self.permute_dims(x, (*range(n - 2), n - 1, n - 2))

    def expand_dims(self, x: Any, axis: int = 0) -> SymArray:
        """A new axis of size one."""
        x = self.asarray(x)
        at = position(axis, x.ndim + 1)
        return self.index(x, (*[slice(None)] * at, None))

    def squeeze(self, x: Any, axis: Any = None) -> SymArray:
        """Axes of size one taken out."""
        x = self.asarray(x)
        positions = positions_of(axis, x.ndim) if axis is not None else tuple(range(x.ndim))
        if any(x.form.axes[i] != "1" for i in positions if axis is not None):
            raise Undecided("squeeze of an axis whose size is not 1")
        gone = tuple(i for i in positions if x.form.axes[i] == "1")
        return self.array(summed(x.form, gone), sign=x.sign)

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
            elif type(part) is int and part == 0 and x.form.axes[at] == "1":
                at += 1
                letters.append(-1)
            else:
                raise Undecided(
                    f"indexing a symbolic axis with {part!r}; ':', None and '...' keep it whole"
                )
        if -1 in letters:
            gone = tuple(i for i, s in enumerate(letters) if s == -1)
            kept = tuple(s for s in letters if s != -1)
            return self.array(relettered(summed(x.form, gone), tuple(axes), kept), sign=x.sign)
        return self.array(relettered(x.form, tuple(axes), tuple(letters)), sign=x.sign)

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
        return self.array(relettered(flat.form, axes, places), sign=x.sign)

    def broadcast_to(self, x: Any, shape: Any) -> SymArray:
        """The array repeated along new axes."""
        x = self.asarray(x)
        return self.array(self.add(self.zeros(shape), x).form, sign=x.sign)

    def zeros(self, shape: Any) -> SymArray:
        """Zeros."""
        return self.array(Form(self._axes(shape), {}))

    def ones(self, shape: Any) -> SymArray:
        """Ones."""
        return self.array(constant(self._axes(shape), Fraction(1)))

    def _axes(self, shape: Any) -> tuple[str, ...]:
        sizes = tuple(shape) if isinstance(shape, Sequence) else (shape,)
        return tuple(s.axis if isinstance(s, SymSize) else str(s) for s in sizes)

    def zeros_like(self, x: Any) -> SymArray:
        """Zeros of the same shape."""
        return self.array(Form(self.asarray(x).form.axes, {}))

    def ones_like(self, x: Any) -> SymArray:
        """Ones of the same shape."""
        return self.array(constant(self.asarray(x).form.axes, Fraction(1)))

    def eye(self, n: Any) -> SymArray:
        """The identity matrix: a Kronecker delta."""
        (axis,) = self._axes(n)
        if axis == "1":
            return self.ones((1, 1))
        return self.array(build((axis, axis), [(Key((), (), ((0, 1),)), Fraction(1))]))

    def take(self, x: Any, indices: Any, *, axis: int) -> SymArray:
        """Rows chosen by integer labels: a contraction with their one-hot tensor."""
        x = self.asarray(x)
        labels = getattr(indices, "labels", None)
        if labels is None:
            raise Undecided("take() with indices that are no input of labels")
        at = position(axis, x.ndim)
        if x.form.axes[at] != labels.axes[-1]:
            raise Undecided(f"labels below {labels.axes[-1]} index an axis {x.form.axes[at]}")
        rows = "uvw"[: labels.rank - 1]
        own = "abcdefgh"[: x.ndim]
        out = own[:at] + rows + own[at + 1 :]
        hot = self.array(labels)
        return self.array(self.einsum(f"{rows}{own[at]},{own}->{out}", hot, x).form, sign=x.sign)

    def one_hot(self, labels: Any, n: Any) -> SymArray:
        """Labels as their one-hot tensor."""
        hot = getattr(labels, "labels", None)
        if hot is None or hot.axes[-1] != self._axes(n)[0]:
            raise Undecided("one_hot() of something that is no input of labels below that size")
        return self.array(hot)
