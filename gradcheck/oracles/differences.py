"""Central differences with an error estimate: the last resort, where no framework differentiates.

Each entry of the input is moved by a descending ladder of steps. Richardson's extrapolation (in
Ridders's tableau) takes the even powers of the step out of the central differences; where its
neighbours agree, and how far, gives the error. Three things make that error trustworthy:

* *Rounding.* The forward's rounding error divided by the step is carried through the tableau with
  the weights of the extrapolation, and added.
* *Smoothness.* For a smooth function the one-sided differences approach each other in proportion to
  the step: D₊ − D₋ = h f″ + O(h³). Four consecutive levels must show it, or the value does not
  count; across a kink the gap stays as it is, and the error becomes infinite.
* *Consistency.* A value from large steps counts only if it agrees, within both errors, with all
  those from smaller steps: a step far beyond a function's own scale (a sine at 10⁶) gives tableaus
  that agree with each other and with nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck import backends
from gradcheck.backends.base import check_differentiable, outputs_of, pick_output
from gradcheck.errors import GradcheckError
from gradcheck.running import bounds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Forward = Callable[..., Any]
    Array = np.ndarray[Any, np.dtype[np.float64]]

# Steps are powers of two, so that x + h and x - h are exact nearly always, and each is a quarter of
# the one before: from a quarter of the scale down to about a millionth of it.
_RATIO = 4
_LEVELS = 10
# A second, shorter ladder at the entry's own magnitude, where that is far from the scale.
_OWN_LEVELS = 7
_FAR = 64.0
# A tableau entry of column j spans j + 1 levels. Column 1 is not used: one accidental agreement
# would make it look exact, two in a row are needed from column 2 on.
_COLUMNS = (2, 3)
# Smoothness is required of so many consecutive gaps.
_GAPS = 3
# The gap shrinks to a quarter where f'' leads and faster where it vanishes; a half leaves room for
# the higher terms and none for a kink, at which it does not shrink.
_SHRINKS = 0.5
# A neighbour's distance estimates the error of the *worse* of the two, so it is already an excess
# by a factor of about 16 where the extrapolation converges; twice that covers where it just starts.
_SAFETY = 2.0
# Without a bound on the forward's rounding error: this many units in the last place of its value,
# or, for a forward that cancels, what its second differences show at so many more levels, at which
# nothing but rounding is left of them. Their median is taken, as a bound when times eight.
_ULPS = 32
_NOISE_LEVELS = 3
_NOISE_SAFETY = 8.0
# More than this share of the values is no rounding error: it is a jump.
_MOST_NOISE = 1e-4
_EPS = float(np.finfo(np.float64).eps)
# How many numbers are held at once.
_BUDGET = 1 << 22


def differences(
    fn: Forward,
    arrays: Sequence[Any],
    wrt: int,
    *,
    output: int = 0,
    noise: Any = None,
    scale: float = 1.0,
) -> tuple[Array, Array]:
    """The Jacobian of a forward by finite differences, and a bound on its error.

    Args:
        fn: The forward, `fn(xp, *arrays)`, run in NumPy's float64.
        arrays: Its arguments.
        wrt: Which argument to differentiate by.
        output: Which output to differentiate.
        noise: Absolute bounds on the rounding error of the output's entries; without them, those of
            running error analysis, and 32 units in the last place of each value besides.
        scale: The size of inputs over which the forward may be expected to change.

    Returns:
        The Jacobian, of shape output + input, and for each of its entries an estimate of its error,
        infinite where the function shows no derivative: at a kink, a jump, or outside its domain.
    """
    check_differentiable(arrays, wrt)
    probe = _Probe(fn, arrays, wrt, output)
    centre = probe.centre
    carried = _carried(fn, arrays, output) if noise is None else noise
    # With a bound for the values at x, the last unit of the values around it still counts.
    ulps = _ULPS if noise is None else 1
    given = _flat(carried, centre)
    rounding = _Rounding(given, ulps * _EPS, _NOISE_LEVELS if noise is None else 0)
    size = probe.x.size
    jacobian = np.zeros((size, centre.size))
    error = np.zeros((size, centre.size))
    chunk = max(1, _BUDGET // max(1, centre.size * 2 * (_LEVELS + _OWN_LEVELS)))
    for start in range(0, size if centre.size else 0, chunk):
        rows = slice(start, min(start + chunk, size))
        jacobian[rows], error[rows] = _columns(probe, rows, rounding, scale)
    shape = centre.shape + probe.x.shape
    return jacobian.T.reshape(shape), error.T.reshape(shape)


def _carried(fn: Forward, arrays: Sequence[Any], output: int) -> Any:
    """The rounding error of the forward as running error analysis bounds it; 0 where it cannot."""
    try:
        return bounds(fn, list(arrays), "float64")[output][1]
    except (GradcheckError, TypeError, ValueError, AttributeError):
        return 0.0


@dataclass(frozen=True)
class _Rounding:
    """The forward's rounding error: an absolute bound for each entry, and a relative one.

    Where it is not given it is observed, too, at some further levels.
    """

    given: Array
    relative: float
    levels: int


class _Probe:
    """The forward as a function of one argument, one entry of which is moved at a time."""

    def __init__(self, fn: Forward, arrays: Sequence[Any], wrt: int, output: int) -> None:
        self.backend = backends.get("numpy")
        self.xp = self.backend.namespace("float64", "cpu")
        self.fn, self.wrt, self.output = fn, wrt, output
        self.arrays = [np.array(self.backend.asarray(a, "float64")) for a in arrays]
        self.x = self.arrays[wrt].copy()
        with self.backend.scope("float64"):
            self.centre = self.value(self.x)

    def value(self, x: Array) -> Array:
        """The output at another argument, as a copy: a forward may hand back a view."""
        arrays = [*self.arrays[: self.wrt], x, *self.arrays[self.wrt + 1 :]]
        result = pick_output(outputs_of(self.fn(self.xp, *arrays)), self.output)
        return np.array(result, dtype=np.float64)

    def moved(self, place: int, steps: Array) -> tuple[Array, Array, Array, Array]:
        """Points and values above and below: x₊, x₋ of each step, f₊, f₋ of each step and entry."""
        flat, x = self.x.reshape(-1), float(self.x.flat[place])
        points = np.stack([x + steps, x - steps])
        values = np.empty((2, len(steps), self.centre.size))
        for side in range(2):
            for level in range(len(steps)):
                flat[place] = points[side, level]
                values[side, level] = self.value(self.x.copy()).reshape(-1)
        flat[place] = x
        return points[0], points[1], values[0], values[1]


def _flat(noise: Any, centre: Array) -> Array:
    return np.broadcast_to(np.asarray(noise, dtype=np.float64), centre.shape).reshape(-1)


def _columns(probe: _Probe, rows: slice, noise: _Rounding, scale: float) -> tuple[Array, Array]:
    """Jacobian and error for some entries of the input: arrays of input times output."""
    x = probe.x.reshape(-1)[rows]
    with probe.backend.scope("float64"):
        ladders = [_Candidates(probe, rows, np.full(len(x), _top(scale)), _LEVELS, noise)]
        far = (x != 0) & ((np.abs(x) > scale * _FAR) | (np.abs(x) < scale / _FAR))
        if far.any():
            tops = np.where(far, [_top(abs(float(v))) if v else 0.0 for v in x], 0.0)
            ladders.append(_Candidates(probe, rows, tops, _OWN_LEVELS, noise))
        steps, values, errors = (
            np.concatenate([getattr(ladder, name) for ladder in ladders], axis=1)
            for name in ("steps", "values", "errors")
        )
        return _select(steps, values, errors)


def _top(scale: float) -> float:
    """A power of two, a quarter of the scale or a little less."""
    if not math.isfinite(scale) or scale <= 0:
        return 0.0
    return math.ldexp(1.0, math.frexp(scale)[1] - 3)


class _Candidates:
    """What one ladder of steps offers: arrays of shape (input, candidate, output).

    A step of 0 (of a ladder that an entry does not use) gives 0/0 throughout, and no candidate.
    """

    def __init__(
        self, probe: _Probe, rows: slice, tops: Array, levels: int, noise: _Rounding
    ) -> None:
        self.h = tops[:, None] * float(_RATIO) ** -np.arange(levels + noise.levels)
        self.table, self.noise, smooth = self._differences(probe, rows, noise)
        self.h, self.table, self.noise = (
            part[:, :levels] for part in (self.h, self.table, self.noise)
        )
        smooth = smooth[:, : levels - 1]
        self.steps, self.values, self.errors = self._extrapolate(smooth)

    def _differences(
        self, probe: _Probe, rows: slice, bound: _Rounding
    ) -> tuple[Array, Array, np.ndarray[Any, Any]]:
        """Central differences, their rounding error, and where the gap shrinks with the step."""
        shape = (*self.h.shape, probe.centre.size)
        above, below = np.full(shape, np.nan), np.full(shape, np.nan)
        up, down = self.h.copy(), -self.h
        for i, place in enumerate(range(*rows.indices(probe.x.size))):
            if self.h[i, 0] > 0:
                plus, minus, above[i], below[i] = probe.moved(place, self.h[i])
                up[i], down[i] = plus - probe.x.flat[place], minus - probe.x.flat[place]
        f, up, down = probe.centre.reshape(-1), up[..., None], down[..., None]
        central = (above - below) / (up - down)
        gap = (above - f) / up - (f - below) / -down
        biggest = np.maximum(np.maximum(np.abs(above), np.abs(below)), np.abs(f))
        absolute = bound.given + bound.relative * biggest
        if bound.levels:
            observed = _observed_noise(gap, self.h)[:, None]
            largest = np.max(np.where(np.isfinite(biggest), biggest, 0.0), axis=1, keepdims=True)
            rounds = observed <= _MOST_NOISE * largest
            absolute = np.maximum(absolute, np.where(rounds, observed, 0.0))
        rounding = 2 * absolute / (up - down)
        # Where x + h and x - h were rounded the stencil is a little off centre.
        rounding += np.abs(gap) * np.abs(up + down) / (up - down)
        shrinks = np.abs(gap[:, 1:]) <= _SHRINKS * np.abs(gap[:, :-1]) + 4 * rounding[:, 1:]
        return central, rounding, shrinks

    def _extrapolate(self, shrinks: np.ndarray[Any, Any]) -> tuple[Array, Array, Array]:
        """The tableau's entries that rest on smooth levels, with their errors."""
        levels = self.h.shape[1]
        starts = levels - _GAPS
        smooth = np.all([shrinks[:, i : i + starts] for i in range(_GAPS)], axis=0)
        steps, values, errors = [], [], []
        table, noise = self.table, self.noise
        for column in range(1, max(_COLUMNS) + 1):
            weight = 1.0 / (float(_RATIO) ** (2 * column) - 1)
            better = table[:, 1:] + (table[:, 1:] - table[:, :-1]) * weight
            off = np.maximum(np.abs(better - table[:, 1:]), np.abs(better - table[:, :-1]))
            noise = noise[:, 1:] * (1 + weight) + noise[:, :-1] * weight
            table = better
            if column in _COLUMNS:
                error = (_SAFETY * off + noise)[:, :starts]
                usable = smooth & np.isfinite(error) & np.isfinite(better[:, :starts])
                errors.append(np.where(usable, error, np.inf))
                values.append(better[:, :starts])
                steps.append(self.h[:, column : column + starts])
        return tuple(np.concatenate(part, axis=1) for part in (steps, values, errors))  # type: ignore[return-value]


def _observed_noise(gap: Array, h: Array) -> Array:
    """The rounding error that shows at the smallest steps, for each input and output.

    Of the gaps' h f'' nothing is left in g(h) - g(4h)/4, and the next term, of the order of h⁴
    in the second difference, is far below a unit in the last place there.
    """
    left = np.abs(gap[:, 1:] - gap[:, :-1] / _RATIO) * h[:, 1:, None]
    observed = np.median(left[:, -_NOISE_LEVELS:], axis=1)
    return _NOISE_SAFETY * np.where(np.isfinite(observed), observed, 0.0)


def _select(steps: Array, values: Array, errors: Array) -> tuple[Array, Array]:
    """The value of least error among those that agree with all from smaller steps."""
    order = np.argsort(steps, axis=1, kind="stable")[..., None]
    values = np.take_along_axis(values, order, axis=1)
    errors = np.take_along_axis(errors, order, axis=1)
    best, least = np.full(values[:, 0].shape, np.nan), np.full(values[:, 0].shape, np.inf)
    low, high = np.full_like(best, -np.inf), np.full_like(best, np.inf)
    for i in range(values.shape[1]):
        value, error = values[:, i], errors[:, i]
        usable = np.isfinite(error) & (value - error <= high) & (value + error >= low)
        better = usable & (error < least)
        best, least = np.where(better, value, best), np.where(better, error, least)
        finite = np.isfinite(error)
        low = np.where(finite, np.maximum(low, value - error), low)
        high = np.where(finite, np.minimum(high, value + error), high)
    return best, least
