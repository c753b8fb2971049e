"""Examples as exact points of the domain.

A float of an example is the dyadic number that it is, with these exceptions: a stored row of
probabilities does not sum to 1, so the point is u/Σu in rationals; a number at a bound is the decimal
that the bound was written as; parameters are the decimals that they are printed as; and of arrays
from a user's own strategy only rounded numbers are known (an orthogonal matrix is one up to rounding),
so they are balls that hold the point which the strategy meant.
"""

from __future__ import annotations

import functools
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from flint import arb

from gradcheck.oracles.balls.entry import Entry, rational
from gradcheck.oracles.balls.namespace import BallArray

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradcheck.domains import Domain
    from gradcheck.operation import Operation
    from gradcheck.oracles.balls.namespace import BallNamespace


class Example(Protocol):
    """What a point is made from: arrays of the inputs, values of the parameters."""

    @property
    def inputs(self) -> Mapping[str, Any]:
        """An array for each input."""

    @property
    def params(self) -> Mapping[str, Any]:
        """A value for each parameter."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """The size of each axis."""


class OutsideDomain(Exception):
    """An example from which no point of the domain can be made."""


# How far arrays of a user's strategy may be from what it means, relative to their largest entry.
_ROUNDED = 2.0**-44
_DISCRETE = ("one_hot", "mask", "labels", "integers")
_OWN = ("strategy", "dependent")


def operands(
    operation: Operation, example: Example, wrt: str, space: BallNamespace
) -> dict[str, Any]:
    """Every input and parameter as the forward takes it; `wrt` carries one direction an entry."""
    values: dict[str, Any] = {
        n: _parameter(example.params[n], p.kind, space) for n, p in operation.params.items()
    }
    for name, domain in operation.inputs.items():
        array = np.asarray(example.inputs[name])
        if not array.size:
            problem = f"{name} is empty: claims are made for axes of size 1 and more"
            raise OutsideDomain(problem)
        if array.dtype.kind != "f":
            values[name] = array
            continue
        if not np.all(np.isfinite(array)):
            problem = f"{name} holds a number that is not finite"
            raise OutsideDomain(problem)
        values[name] = BallArray(space, _entries(array, domain, seeded=name == wrt))
    return values


def _parameter(value: Any, kind: str, space: BallNamespace) -> Any:
    if isinstance(value, bool | str) or not isinstance(value, float | np.floating):
        return value
    return BallArray(space, Entry(rational(_decimal(float(value))), None, kind == "number"))


def _entries(array: Any, domain: Domain, *, seeded: bool) -> Any:
    out = np.empty(array.shape, dtype=object)
    balls = _balls(array, domain)
    moves = domain.kind not in _DISCRETE
    for direction, place in enumerate(np.ndindex(array.shape)):
        tangent = {direction: arb(1)} if seeded else None
        out[place] = Entry(balls[direction], tangent, moves)
    return out


def _balls(array: Any, domain: Domain) -> list[arb]:
    flat = array.ravel().tolist()
    if domain.kind == "probability" and array.size:
        rows = array.reshape(-1, array.shape[-1]).tolist()
        return [rational(x) for row in rows for x in _normalised(row)]
    if domain.kind in _OWN:
        radius = _ROUNDED * float(np.max(np.abs(array), initial=0.0))
        return [arb(x) if x == int(x) else arb(x, radius) for x in flat]
    bounds = {b: _decimal(b) for b in (domain.lo, domain.hi) if b is not None}
    return [rational(bounds[x]) if x in bounds else arb(x) for x in flat]


def _normalised(row: list[float]) -> list[Fraction]:
    exact = [Fraction(x) for x in row]
    whole = sum(exact, Fraction(0))
    if whole <= 0 or min(exact) < 0:
        problem = f"a row of probabilities sums to {float(whole)}"
        raise OutsideDomain(problem)
    return [x / whole for x in exact]


@functools.lru_cache(maxsize=1024)
def _decimal(x: float) -> Fraction:
    """A float as the decimal that it is printed as."""
    return Fraction(repr(float(x)))
