"""The true derivative of a forward at a point, with rigorous bounds and one-sided at kinks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.errors import UsageError
from gradcheck.running.balls import ErrorArray, quiet
from gradcheck.running.decision import Decision
from gradcheck.running.dual import Dual, DualNamespace
from gradcheck.running.error import ErrorNamespace
from gradcheck.running.formats import Floats

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from gradcheck.running.namespace import Namespace

Ball = tuple[Floats, Floats]


@dataclass(frozen=True)
class Truth:
    """The derivative of one output with respect to one input.

    Attributes:
        outputs: Value and error of each output of the forward.
        value: The Jacobian, of shape output + input; at a kink, the derivative ahead.
        error: The exact derivative, and whatever is computed in the target, lies in value ± error.
        lower: The lower end of both one-sided derivatives and their errors.
        upper: The upper end.
        kinked: The entries whose one-sided derivatives certainly differ.
        ties: The number of decisions at an exact tie.
        ambiguous: The number of decisions that rounding errors leave open.
        chosen: At a kink, the ends of what the chain rule gives, whatever element of its
            subdifferential each operation takes at a tie; None where there is no kink.
    """

    outputs: list[Ball]
    value: Floats
    error: Floats
    lower: Floats
    upper: Floats
    kinked: NDArray[np.bool_]
    ambiguous: int
    ties: int = 0
    chosen: Ball | None = None

    @property
    def kinks(self) -> int:
        """The number of entries at a kink."""
        return int(np.count_nonzero(self.kinked))


def _operand(space: Namespace, x: Any) -> Any:
    """Floating-point arrays as balls; integer arrays and Python scalars as they are."""
    if isinstance(x, np.ndarray | np.generic) and x.dtype.kind == "f":
        return space.asarray(x)
    return x


def _tuple(result: Any) -> tuple[Any, ...]:
    return tuple(result) if isinstance(result, tuple | list) else (result,)


def _ball(space: Namespace, output: Any) -> Ball:
    """Value and error of an output, whatever kind of value the forward returned."""
    output = space.asarray(output)
    ball = output.value if isinstance(output, Dual) else output
    return np.asarray(ball.value), ball.error


@quiet
def bounds(fn: Callable[..., Any], arrays: Sequence[Any], dtype: Any = "float64") -> list[Ball]:
    """The outputs of fn(xp, *arrays), each as (value, error)."""
    space = ErrorNamespace(dtype)
    result = fn(space, *(_operand(space, x) for x in arrays))
    return [_ball(space, output) for output in _tuple(result)]


@dataclass(frozen=True)
class _Run:
    space: DualNamespace
    outputs: list[Ball]
    value: Floats
    error: Floats


def _run(
    fn: Callable[..., Any], arrays: Sequence[Any], wrt: int, dtype: Any, output: int, side: int,
    *, every: bool = False,
) -> _Run:  # fmt: skip
    """One forward on dual numbers; the Jacobian is that of approaching from `side`."""
    space = DualNamespace(dtype, side, every=every)
    operands = [_operand(space, x) for x in arrays]
    shape = np.shape(arrays[wrt])
    operands[wrt] = space.variable(arrays[wrt])
    results = _tuple(fn(space, *operands))
    chosen = space.asarray(results[output])
    outputs = [_ball(space, one) for one in results if not isinstance(one, Decision)]
    full = (*chosen.shape, *shape)
    if not isinstance(chosen, Dual):
        return _Run(space, outputs, np.zeros(full), np.zeros(full))
    value, error = space.closed(chosen.tangent)
    value, error = (np.moveaxis(a, 0, -1).reshape(full) for a in (side * value, error))
    return _Run(space, outputs, value, error)


def _ends(run: _Run) -> Ball:
    """The ends of value ± error, also where the value is not a number."""
    known = np.isfinite(run.error)
    low = np.where(known, run.value - run.error, -np.inf)
    return low, np.where(known, run.value + run.error, np.inf)


def _differ(ahead: _Run, behind: _Run) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = np.abs(ahead.value - behind.value) > ahead.error + behind.error
    return found


def _apart_in_doubles(
    fn: Callable[..., Any], arrays: Sequence[Any], wrt: int, output: int
) -> NDArray[np.bool_]:
    """Where the one-sided derivatives differ by more than the errors of float64.

    Whether a point is a kink does not depend on who computes there: errors of a few bits, as in half
    precision, may be larger than the step and hide it.
    """
    exact = [a.value if isinstance(a, ErrorArray) else a for a in arrays]
    ahead, behind = (_run(fn, exact, wrt, "float64", output, side) for side in (1, -1))
    return _differ(ahead, behind)


@quiet
def derivative(
    fn: Callable[..., Any],
    arrays: Sequence[Any],
    wrt: int,
    dtype: Any = "float64",
    output: int = 0,
    max_directions: int = 4096,
) -> Truth:
    """The dense Jacobian of an output of fn(xp, *arrays) with respect to arrays[wrt].

    Args:
        fn: The forward; it may return one value or a tuple.
        arrays: Its inputs, already representable in the target format.
        wrt: The position of the input that varies; all others are constants.
        dtype: The target format.
        output: The position of the output.
        max_directions: The largest number of entries of the input that one run takes.
    """
    size = int(np.size(arrays[wrt]))
    if size > max_directions:
        problem = (
            f"a dense derivative with respect to {size} entries, more than {max_directions}; "
            "use smaller axes, or raise max_directions"
        )
        raise UsageError(problem)
    ahead = _run(fn, arrays, wrt, dtype, output, 1)
    (lower, upper), error = _ends(ahead), ahead.error
    apart, chosen = np.zeros(ahead.value.shape, np.bool_), None
    if ahead.space.branches.ties:
        behind = _run(fn, arrays, wrt, dtype, output, -1)
        low, high = _ends(behind)
        lower, upper = np.minimum(lower, low), np.maximum(upper, high)
        # A jump may show on one side only: then the other side's zero is no derivative either.
        error = np.where(np.isinf(behind.error), np.inf, error)
        apart = _differ(ahead, behind)
        if np.any((ahead.value != behind.value) & ~apart):
            apart = apart | _apart_in_doubles(fn, arrays, wrt, output)
        if apart.any():
            chosen = _ends(_run(fn, arrays, wrt, dtype, output, 1, every=True))
    log = ahead.space.branches
    return Truth(
        ahead.outputs, ahead.value, error, lower, upper, apart, log.ambiguous, log.ties, chosen
    )
