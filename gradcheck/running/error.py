"""Running error analysis: arrays of balls, and the namespace that computes with them.

An `ErrorArray` is a centre, computed in float64, and a bound: both the exact result and whatever a
well-behaved implementation computes in the target format lie in value ± error. Each operation
propagates its operands' balls, second-order terms included, and adds its own rounding, of the
target and of the centre. An exact zero (value 0, error 0) stays exact.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.errors import ShapeError, UnsupportedOperation
from gradcheck.running import linear
from gradcheck.running.balls import ErrorArray, at_infinity, contenders, hull, quiet, total_error
from gradcheck.running.decision import BranchLog, Decision
from gradcheck.running.elementary import (
    ARGUMENT_ROUNDED,
    UNDERFLOWING,
    VALUE,
    power_spread,
    spread,
)
from gradcheck.running.formats import (
    ARITHMETIC,
    QUOTIENT,
    SINGLE,
    ULPS,
    UNIT64,
    Floats,
    format_of,
)
from gradcheck.running.namespace import Axis, Namespace, axes_of, is_integral, plain
from gradcheck.running.operand import Operand

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["ErrorArray", "ErrorNamespace"]


class ErrorNamespace(Namespace):
    """The `xp` whose arrays carry a rigorous bound on their rounding error.

    Args:
        dtype: The target format: float64, float32, float16 or bfloat16.
        log: Where decisions are counted, if several namespaces share it.
    """

    level = 1

    def __init__(self, dtype: Any = "float64", log: BranchLog | None = None) -> None:
        self.format = format_of(dtype)
        self.branches = BranchLog() if log is None else log
        self.counts_ties = log is None
        self.pi = self._constant(math.pi)
        self.e = self._constant(math.e)

    def _constant(self, x: float) -> ErrorArray:
        """An irrational number, which no format holds."""
        return ErrorArray(self, np.float64(x), np.float64(self.format.rate(1.0) * x))

    @quiet
    def asarray(self, x: Any) -> Any:
        """X as balls; what the target cannot represent carries that error."""
        if isinstance(x, ErrorArray):
            return x
        if isinstance(x, Decision):
            return self.where(x, 1, 0)
        if isinstance(x, Operand):
            problem = "a value of another namespace; use the xp that the forward was given"
            raise UnsupportedOperation(problem)
        if isinstance(x, list | tuple) and any(isinstance(one, Operand) for one in x):
            return self.stack(list(x))
        value = np.asarray(x, dtype=np.float64)
        return ErrorArray(self, value, self._representation(value))

    def _representation(self, value: Floats) -> Any:
        """The error of rounding to the target; subnormal numbers may be read as zero."""
        fmt = self.format
        error = np.abs(value - fmt.rounded(value)) if fmt.name != "float64" else None
        size = np.abs(value)
        odd = (size < fmt.normal) & (value != 0)
        if fmt.flush == fmt.normal and np.count_nonzero(odd):
            error = np.where(odd, size, 0.0 if error is None else error)
        if error is None or not np.count_nonzero(error):
            return None
        return np.where(np.isinf(value), 0.0, np.where(np.isnan(error), np.inf, error))

    def _close(
        self,
        value: Any,
        propagated: Any,
        ulps: float,
        live: Callable[[], Any] | None = None,
        infinite: Callable[[], Any] | None = None,
        limit: Any = None,
    ) -> ErrorArray:
        """A result: propagated error plus its own rounding, below and above the normal range too.

        `live` says which results are not exact zeros though they may have vanished, `infinite`
        which are infinite on purpose; both are asked only where it matters.
        """
        fmt = self.format
        size = np.abs(value)
        error = size * fmt.rate(ulps)
        if limit is not None:
            error = np.minimum(error, limit)
        if propagated is not None:
            error = (error + propagated) * fmt.growth(ulps)
        upper = size + error
        fine = (size - error >= fmt.normal) & (upper <= fmt.huge)
        if np.count_nonzero(fine) != fine.size:
            small = ~(size - error >= fmt.normal) & ((upper > 0) if live is None else live())
            error = error + fmt.flush * small
            error = np.where(size + error <= fmt.huge, error, np.inf)
            if infinite is not None:
                error = np.where(np.isinf(value) & infinite(), 0.0, error)
        return ErrorArray(self, value, error)

    # Arithmetic

    def negative(self, x: Any) -> Any:
        """-x, exactly."""
        if is_integral(x):
            return -x
        x = self.asarray(x)
        return ErrorArray(self, -x.value, x.radius)

    @quiet
    def abs(self, x: Any) -> Any:
        """|x|, exactly."""
        if is_integral(x):
            return np.abs(x)
        x = self.asarray(x)
        return ErrorArray(self, np.abs(x.value), x.radius)

    def add(self, x: Any, y: Any) -> Any:
        """X + y."""
        return x + y if plain(x, y) else self._sum(np.add, self.asarray(x), self.asarray(y))

    def subtract(self, x: Any, y: Any) -> Any:
        """X - y."""
        return x - y if plain(x, y) else self._sum(np.subtract, self.asarray(x), self.asarray(y))

    @quiet
    def _sum(self, operation: Any, x: ErrorArray, y: ErrorArray) -> ErrorArray:
        # One rounding of the result, however small an operand is: a fused `x @ w + b` adds the terms
        # of the product to b one by one, and each addition rounds. Only x + 0 is exact.
        both = (x.upper > 0) & (y.upper > 0)
        return self._close(
            operation(x.value, y.value),
            total_error(x, y),
            ARITHMETIC,
            live=lambda: both,
            infinite=lambda: at_infinity(x) | at_infinity(y),
            limit=np.where(both, np.inf, 0.0),
        )

    def multiply(self, x: Any, y: Any) -> Any:
        """X * y."""
        return x * y if plain(x, y) else self._product(self.asarray(x), self.asarray(y))

    @quiet
    def _product(self, x: ErrorArray, y: ErrorArray) -> ErrorArray:
        total = None if x.radius is None else x.radius * y.upper
        if y.radius is not None:
            part = np.abs(x.value) * y.radius
            total = part if total is None else total + part
        return self._close(
            x.value * y.value,
            total,
            ARITHMETIC,
            live=lambda: (x.upper > 0) & (y.upper > 0),
            infinite=lambda: (
                (at_infinity(x) & (np.abs(y.value) > y.error))
                | (at_infinity(y) & (np.abs(x.value) > x.error))
            ),
        )

    @quiet
    def divide(self, x: Any, y: Any) -> Any:
        """X / y."""
        x, y = self.asarray(x), self.asarray(y)
        value = x.value / y.value
        total = x.radius
        low = np.abs(y.value)
        if y.radius is not None:
            part = np.abs(value) * y.radius
            total = part if total is None else total + part
            low = low - y.radius
        if total is not None:
            total = np.where(low > 0, total / np.abs(low), np.inf)
        return self._close(
            value, total, QUOTIENT, live=lambda: (x.upper > 0) | ~(np.abs(y.value) > y.error)
        )

    @quiet
    def pow(self, x: Any, y: Any) -> Any:
        """X to the power y."""
        if plain(x, y) and np.all(np.asarray(y) >= 0):
            return x**y
        x, y = self.asarray(x), self.asarray(y)
        value = np.power(x.value, y.value)
        if y.radius is None and y.size == 1:
            exponent = float(y.value.reshape(()))
            total = None
            if x.radius is not None:
                total = power_spread(x.value, x.radius, exponent, value)
            ulps = ULPS["pow"] + abs(exponent) if exponent == round(exponent) else ULPS["pow"]
        else:
            total, ulps = self._general_power(x, y, value), ULPS["pow"]
        return self._close(
            value, total, ulps, live=lambda: (x.upper > 0) & np.ones(value.shape, dtype=bool)
        )

    def _general_power(self, x: ErrorArray, y: ErrorArray, value: Any) -> Any:
        """The spread of exp(y log x) over balls of both, for x > 0."""
        low = x.value - x.error
        log = np.abs(np.log(np.abs(x.value)))
        elog = np.log1p(x.error / np.abs(low))
        exponent = (np.abs(y.value) + y.error) * elog + log * y.error
        bound = np.maximum(np.abs(value), self.format.normal) * np.expm1(exponent * (1 + 1e-14))
        exact = (x.error == 0) & (y.error == 0)
        return np.where(exact, 0.0, np.where(low > 0, bound, np.inf))

    @quiet
    def unary(self, name: str, x: Any) -> Any:
        """An elementary function by name."""
        x = self.asarray(x)
        value = VALUE[name](x.value)
        total = None if x.radius is None else spread(name, x.value, x.radius, value)
        if name in ARGUMENT_ROUNDED:
            moved = spread(name, x.value, np.abs(x.value) * self.format.unit, value)
            if name in ("acos", "asin"):
                moved = np.where(np.abs(x.value) == 1, 0.0, moved)
            total = moved if total is None else total + moved
        if name == "erf" and self.format.unit > SINGLE:
            # torch's, in half precision, is a float32 polynomial accurate beside 1, not beside x:
            # off by 4.7 units of float32 over all of float16 and bfloat16, 0 at 0.
            coarse = ULPS["erf"] * SINGLE * (x.value != 0)
            total = coarse if total is None else total + coarse
        dense = (lambda: x.value != -np.inf) if name in UNDERFLOWING else None
        return self._close(value, total, ULPS[name], dense, infinite=lambda: at_infinity(x))

    @quiet
    def logaddexp(self, x: Any, y: Any) -> Any:
        """The logarithm of exp x + exp y: 1-Lipschitz in the larger error."""
        x, y = self.asarray(x), self.asarray(y)
        value = np.logaddexp(x.value, y.value)
        total = np.maximum(x.error, y.error) + self._logaddexp_rounding(x.value, y.value)
        return self._close(
            value, total, ARITHMETIC, infinite=lambda: at_infinity(x) | at_infinity(y)
        )

    def _logaddexp_rounding(self, x: Any, y: Any) -> Any:
        """The rounding of max + log1p(exp(-gap)), but for that of the last addition.

        log1p, its argument exp(-gap) and the gap are rounded, the last one by no more than the
        smaller operand, and then by -gap times exp(-gap).
        """
        gap = np.abs(x - y)
        share = np.exp(-gap)
        least = np.minimum(np.abs(x), np.abs(y))
        moved = np.fmin(self.format.rate(ARITHMETIC) * gap, least) * share
        rounded = self.format.rate(ULPS["log1p"] + ULPS["exp"]) * share
        return np.where(np.isfinite(gap), moved + rounded, 0.0)

    def logsumexp(self, x: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
        """The logarithm of Σ exp x, shifted by the largest centre: any constant is exact."""
        x = self.asarray(x)
        axes = axes_of(axis, x.ndim)
        top = np.max(x.value, axis=axes, keepdims=True)
        shift = ErrorArray(self, np.where(np.isfinite(top), top, 0.0))
        total = self.sum(self.unary("exp", self.subtract(x, shift)), axis=axes, keepdims=True)
        result = self.add(self.unary("log", total), shift)
        return result if keepdims else self.squeeze(result, axes)

    # Decisions

    @quiet
    def compare(self, name: str, x: Any, y: Any) -> Any:
        """A comparison by name: greater, greater_equal or equal."""
        if plain(x, y):
            return getattr(np, name)(x, y)
        x, y = self.asarray(x), self.asarray(y)
        gap = x.value - y.value
        margin = (0.0 if x.radius is None else x.radius) + (0.0 if y.radius is None else y.radius)
        margin = margin * (1 + 4 * UNIT64)
        apart = np.abs(gap) > margin
        same = (x.value == y.value) & (margin == 0)
        apart, same = apart | ((gap != 0) & (margin == 0)), np.asarray(same)
        self._note(np.count_nonzero(same), apart.size - np.count_nonzero(apart | same))
        if name == "equal":
            return Decision(self, same, apart)
        above, below = apart & (gap > 0), apart & (gap < 0)
        if name == "greater":
            return Decision(self, above, below | same)
        return Decision(self, above | same, below)

    def _note(self, ties: Any, ambiguous: Any) -> None:
        self.branches.ties += int(ties) if self.counts_ties else 0
        self.branches.ambiguous += int(ambiguous)

    @quiet
    def where(self, condition: Any, x: Any, y: Any) -> Any:
        """X where the condition holds, else y, and both where it is ambiguous."""
        if isinstance(condition, np.ndarray) and plain(x, y):
            return np.where(condition, x, y)
        choice, x, y = self.decision(condition), self.asarray(x), self.asarray(y)
        value = np.where(choice.true, x.value, y.value)
        radius = None
        if x.radius is not None or y.radius is not None:
            radius = np.where(choice.true, x.error, y.error)
        open_ = choice.ambiguous
        if np.count_nonzero(open_):
            middle, half = hull(x.value, x.error, y.value, y.error)
            value = np.where(open_, middle, value)
            radius = np.where(open_, half, 0.0 if radius is None else radius)
        return ErrorArray(self, value, radius)

    @quiet
    def maximum(self, x: Any, y: Any) -> Any:
        """The larger one: its ball, or the larger radius where either may be the larger one."""
        if plain(x, y):
            return np.maximum(x, y)
        x, y = self.asarray(x), self.asarray(y)
        return self.larger(self.greater_equal(x, y), x, y)

    def larger(self, choice: Decision, x: ErrorArray, y: ErrorArray) -> ErrorArray:
        """The larger one, given the outcome of x >= y."""
        value = np.maximum(x.value, y.value)
        if x.radius is None and y.radius is None:
            return ErrorArray(self, value)
        both = np.maximum(x.error, y.error)
        radius = np.where(choice.true, x.error, np.where(choice.false, y.error, both))
        return ErrorArray(self, value, radius)

    @quiet
    def max(self, x: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
        """The largest entry: the largest radius among those that may be it."""
        if is_integral(x):
            return np.max(x, axis=axis, keepdims=keepdims)
        x = self.asarray(x)
        axes = axes_of(axis, x.ndim)
        top = np.max(x.value, axis=axes, keepdims=True)
        value = top if keepdims else np.squeeze(top, axes)
        first, ties = contenders(x, axes)
        count = np.sum(first, axis=axes)
        exact = np.asarray(ties).sum()
        self._note(exact, np.count_nonzero(count > 1) - exact)
        if x.radius is None:
            return ErrorArray(self, value)
        radius = np.max(np.where(first, x.radius, 0.0), axis=axes, keepdims=keepdims)
        return ErrorArray(self, value, radius)

    # Sums and products

    @quiet
    def sum(self, x: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
        """The sum over axes: in any order, (n - 1) u Σ|x|."""
        if is_integral(x):
            return np.sum(x, axis=axis, keepdims=keepdims)
        x = self.asarray(x)
        axes = axes_of(axis, x.ndim)
        value = np.sum(x.value, axis=axes, keepdims=keepdims)
        size = np.sum(x.upper, axis=axes, keepdims=keepdims)
        live = np.sum(x.upper > 0, axis=axes, keepdims=keepdims, dtype=np.float64)
        error = linear.accumulated(self.format, size, live)
        if x.radius is not None:
            error = error + np.sum(x.radius, axis=axes, keepdims=keepdims)
        n = x.size // max(np.size(value), 1)
        return self._settle(value, error * linear.sum_growth(self.format, n), size)

    @quiet
    def cumulative_sum(self, x: Any, axis: int | None = None) -> Any:
        """Partial sums along an axis."""
        if is_integral(x):
            return np.cumsum(x, axis=axis)
        x = self.asarray(x)
        (along,) = axes_of(axis, x.ndim)
        size, live = np.cumsum(x.upper, along), np.cumsum(x.upper > 0, along, dtype=np.float64)
        error = linear.accumulated(self.format, size, live) + np.cumsum(x.error, along)
        growth = linear.sum_growth(self.format, x.shape[along])
        return self._settle(np.cumsum(x.value, along), error * growth, size)

    @quiet
    def einsum(self, equation: str, *operands: Any) -> Any:
        """A sum of products: every order of contraction errs by at most γ Σ|products|."""
        balls = [self.asarray(x) for x in operands]
        letters, _ = linear.parse(equation)
        for one, ball in zip(letters, balls, strict=True):
            if len(one) != ball.ndim:
                problem = f"einsum({equation!r}): {one!r} stands for an array of shape {ball.shape}"
                raise ShapeError(problem)
        values, uppers = [x.value for x in balls], [x.upper for x in balls]
        value = linear.contract(equation, values)
        size = linear.contract(equation, uppers)
        live = linear.contract(equation, [(u > 0).astype(np.float64) for u in uppers])
        error = linear.accumulated(self.format, size, live, products=len(balls) - 1.0)
        moved = linear.propagated(equation, values, [x.radius for x in balls], uppers)
        error = error if moved is None else error + moved
        error = error + linear.intermediate(self.format, uppers, live)
        most = float(np.max(live, initial=0.0)) + len(balls)
        return self._settle(value, error * linear.sum_growth(self.format, int(most)), size)

    def _settle(self, value: Any, error: Any, size: Any = None) -> ErrorArray:
        """A result whose error is complete, but for overflow; of a sum, in any order of its Σ|x|."""
        fine = (np.abs(value) if size is None else size) + error <= self.format.huge
        if np.count_nonzero(fine) != fine.size:
            error = np.where(fine, error, np.inf)
        return ErrorArray(self, value, error)

    @quiet
    def inv(self, x: Any) -> Any:
        """The inverse of (a stack of) square matrices."""
        x = self.asarray(x)
        return self._settle(*linear.inverse_bound(self.format, x.value, x.radius))

    @quiet
    def det(self, x: Any) -> Any:
        """The determinant of (a stack of) square matrices."""
        x = self.asarray(x)
        return self._settle(*linear.det_bound(self.format, x.value, x.radius))

    # Moving entries

    def rearrange(
        self,
        x: Any,
        move: Callable[[Any], Any],
        inner: Callable[[Any], Any] | None = None,  # noqa: ARG002
    ) -> Any:
        """Entries moved, repeated or left out by a NumPy function."""
        if is_integral(x):
            return move(np.asarray(x))
        x = self.asarray(x)
        radius = None if x.radius is None else np.asarray(move(np.asarray(x.radius)))
        return ErrorArray(self, np.asarray(move(np.asarray(x.value))), radius)

    def concat(self, arrays: Sequence[Any], axis: int | None = 0) -> Any:
        """Arrays joined along an axis that they have."""
        if all(is_integral(x) for x in arrays):
            return np.concatenate(list(arrays), axis=axis)
        balls = [self.asarray(x) for x in arrays]
        value = np.concatenate([x.value for x in balls], axis=axis)
        if all(x.radius is None for x in balls):
            return ErrorArray(self, value)
        return ErrorArray(self, value, np.concatenate([x.error for x in balls], axis=axis))
