"""What every value of an error-carrying namespace can do: operators, methods, and their refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.errors import UnsupportedOperation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradcheck.running.namespace import Namespace


class Operand:
    """Operators and methods, written through the namespace that the value belongs to.

    Where values of two namespaces meet, the one of the higher `level` computes.
    NumPy arrays leave their operators to it (`__array_ufunc__`).
    """

    __slots__ = ()
    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]
    space: Namespace

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the axes."""
        raise NotImplementedError

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of entries."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def dtype(self) -> Any:
        """The dtype in which somebody computes (by name where NumPy has none)."""
        name = self.space.format.name
        return name if name == "bfloat16" else np.dtype(name)

    @property
    def T(self) -> Any:  # noqa: N802
        """The transpose: all axes reversed."""
        return self.space.permute_dims(self, tuple(range(self.ndim))[::-1])

    def _apply(self, name: str, other: Any, *, swap: bool = False) -> Any:
        """`self name other`, or NotImplemented where the other value's namespace must do it."""
        if isinstance(other, Operand) and other.space.level > self.space.level:
            return NotImplemented
        function = getattr(self.space, name)
        return function(other, self) if swap else function(self, other)

    def __add__(self, other: Any) -> Any:
        return self._apply("add", other)

    def __radd__(self, other: Any) -> Any:
        return self._apply("add", other, swap=True)

    def __sub__(self, other: Any) -> Any:
        return self._apply("subtract", other)

    def __rsub__(self, other: Any) -> Any:
        return self._apply("subtract", other, swap=True)

    def __mul__(self, other: Any) -> Any:
        return self._apply("multiply", other)

    def __rmul__(self, other: Any) -> Any:
        return self._apply("multiply", other, swap=True)

    def __truediv__(self, other: Any) -> Any:
        return self._apply("divide", other)

    def __rtruediv__(self, other: Any) -> Any:
        return self._apply("divide", other, swap=True)

    def __pow__(self, other: Any) -> Any:
        return self._apply("pow", other)

    def __rpow__(self, other: Any) -> Any:
        return self._apply("pow", other, swap=True)

    def __matmul__(self, other: Any) -> Any:
        return self._apply("matmul", other)

    def __rmatmul__(self, other: Any) -> Any:
        return self._apply("matmul", other, swap=True)

    def __neg__(self) -> Any:
        return self.space.negative(self)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return self.space.abs(self)

    def __gt__(self, other: Any) -> Any:
        return self._apply("greater", other)

    def __ge__(self, other: Any) -> Any:
        return self._apply("greater_equal", other)

    def __lt__(self, other: Any) -> Any:
        return self._apply("less", other)

    def __le__(self, other: Any) -> Any:
        return self._apply("less_equal", other)

    def __eq__(self, other: object) -> Any:
        return self._apply("equal", other)

    def __ne__(self, other: object) -> Any:
        return self._apply("not_equal", other)

    def __len__(self) -> int:
        if not self.shape:
            problem = "len() of a scalar"
            raise TypeError(problem)
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key: Any) -> Any:
        return self.space.index(self, key)

    def __bool__(self) -> bool:
        return bool(self.space.not_equal(self, 0))

    def __int__(self) -> int:
        return int(float(self))

    def __float__(self) -> float:
        problem = (
            "float() or int() of a computed value: its rounding error would be lost; "
            "write the formula with xp functions, which accept scalars"
        )
        raise UnsupportedOperation(problem)

    def reshape(self, *shape: Any) -> Any:
        """The same entries in another shape, given as a tuple or as arguments."""
        whole = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
        return self.space.reshape(self, tuple(whole))

    def sum(self, axis: Any = None, *, keepdims: bool = False) -> Any:
        """The sum over axes."""
        return self.space.sum(self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Any = None, *, keepdims: bool = False) -> Any:
        """The mean over axes."""
        return self.space.mean(self, axis=axis, keepdims=keepdims)

    def max(self, axis: Any = None, *, keepdims: bool = False) -> Any:
        """The largest entry along axes."""
        return self.space.max(self, axis=axis, keepdims=keepdims)

    def min(self, axis: Any = None, *, keepdims: bool = False) -> Any:
        """The smallest entry along axes."""
        return self.space.min(self, axis=axis, keepdims=keepdims)
