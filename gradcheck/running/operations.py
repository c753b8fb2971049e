"""What the evaluation of einsum terms asks of error-carrying arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.running.error import ErrorArray

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from fractions import Fraction

    from gradcheck.running.error import ErrorNamespace


_JUMPS = {"step": (0.0, 1.0), "sign": (-1.0, 1.0)}


class ErrorOperations:
    """Terms evaluated with their errors: the bound of a claim.

    Args:
        space: The namespace that ran the forward.
    """

    def __init__(self, space: ErrorNamespace) -> None:
        self.space = space

    def einsum(self, equation: str, *arrays: Any) -> Any:
        """A contraction, with γ Σ|products| and the operands' own errors."""
        return self.space.einsum(equation, *arrays)

    def function(self, name: str) -> Callable[[Any], Any]:
        """One of the functions that operands may name; at its jump it may take any value between."""
        function = self.space.function(name)
        return function if name not in _JUMPS else lambda x: self._at_jump(name, function(x), x)

    def _at_jump(self, name: str, y: Any, x: Any) -> ErrorArray:
        """At an exact 0 frameworks differ: the ball of step holds 0 and 1, that of sign −1 and 1."""
        tied = (np.asarray(x.value) == 0) & (x.error == 0)
        low, high = _JUMPS[name]
        value = np.where(tied, (low + high) / 2, y.value)
        return ErrorArray(self.space, value, np.where(tied, (high - low) / 2, y.error))

    def power(self, x: Any, exponent: Fraction) -> Any:
        """A rational power."""
        return self.space.power(x, exponent)

    def zeros(self, shape: tuple[int, ...], like: Any) -> Any:  # noqa: ARG002
        """Exact zeros."""
        return ErrorArray(self.space, np.zeros(shape))

    def one_hot(self, labels: Any, size: int, like: Any) -> Any:  # noqa: ARG002
        """Labels as exact indicators."""
        return self.space.one_hot(labels, size)

    def scale(self, x: Any, coefficient: float) -> Any:
        """Times a number that was rounded once to a double, and once more to the target."""
        product = self.space.multiply(x, float(coefficient))
        if coefficient in (1.0, -1.0):
            return product
        slack = 2 * self.space.format.rate(1.0) * np.abs(product.value)
        return ErrorArray(self.space, product.value, product.error + slack)

    def add_diagonal(
        self, out: Any, core: Any, letters_out: Sequence[str], letters_core: Sequence[str]
    ) -> Any:
        """`core` added where equal letters of `out` agree; untouched entries stay exact."""
        core = self.space.asarray(core)
        if not letters_out:  # of a scalar, einsum gives a copy
            return self.space.add(out, core)
        value, error = np.array(out.value), np.array(out.error)
        pattern = "".join(chr(97 + list(letters_core).index(s)) for s in letters_out)
        target = "".join(chr(97 + k) for k in range(len(letters_core)))
        view, errors = (np.einsum(f"{pattern}->{target}", a) for a in (value, error))
        total = self.space.add(ErrorArray(self.space, view.copy(), errors.copy()), core)
        view[...], errors[...] = total.value, total.error
        return ErrorArray(self.space, value, error)


def rounded_input(space: ErrorNamespace, array: np.ndarray) -> ErrorArray:
    """An input that was rounded from an exact point of its domain, such as a row that sums to 1."""
    size = np.abs(array)
    # A quotient u/Σu is rounded to a double, then to the target.
    return ErrorArray(space, np.asarray(array, np.float64), 2 * space.format.rate(1.0) * size)
