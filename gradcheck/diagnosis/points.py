"""Generic points: small, sizes all different, no two values equal, nothing at a special value.

A special point hides what is wrong; at these, hypotheses about an error are told apart.
"""

from __future__ import annotations

from itertools import islice, permutations
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from gradcheck import drawing
from gradcheck.algebra.conditions import parse_condition
from gradcheck.algebra.shapes import base_axis, concrete_shape, is_anonymous, is_number
from gradcheck.checking.search import Example
from gradcheck.errors import GradcheckError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from gradcheck.domains import Domain, Parameter

_SIZES = (2, 3, 4, 5, 6, 7, 8, 9)
_ORDERS = 60


class Ground(Protocol):
    """What points are drawn from: an operation, or whatever else has inputs."""

    @property
    def inputs(self) -> Mapping[str, Domain]:
        """The domain of each input."""

    @property
    def params(self) -> Mapping[str, Parameter]:
        """The scalar parameters."""

    @property
    def where(self) -> tuple[str, ...]:
        """Conditions on axes and parameters."""

    @property
    def axes(self) -> tuple[str, ...]:
        """The names of all axes."""


def generic_points(operation: Ground, count: int = 2, seed: int = 0) -> list[Example]:
    """Up to so many generic points of an operation's domain, of different sizes where it has axes.

    Where a parameter is a choice, each of its values gets a point.
    """
    rng = np.random.default_rng(seed)
    found: list[Example] = []
    wanted = max(count, *(len(p.palette()) for p in _choices(operation)), 1)
    tables = list(islice(_tables(operation), wanted))
    for turn in range(wanted if tables else 0):
        example = _at(operation, tables[turn % len(tables)], turn, rng)
        if example is not None:
            found.append(example)
    return found


def generic_at(operation: Ground, sizes: Mapping[str, int], seed: int = 0) -> Example | None:
    """A generic point of given sizes; None where a condition or a user's strategy does not allow it."""
    return _at(operation, sizes, 0, np.random.default_rng(seed))


def _choices(operation: Ground) -> list[Any]:
    return [p for p in operation.params.values() if p.kind != "number"]


def _named(operation: Ground) -> list[str]:
    return [
        a for a in operation.axes if not is_number(a) and a not in operation.params and a != "..."
    ]


def _tables(operation: Ground) -> Iterator[dict[str, int]]:
    """Sizes, all different where the operation's conditions allow it, the smallest first."""
    axes = list(dict.fromkeys(base_axis(a) for a in _named(operation)))
    pool = _SIZES[: len(axes) + 1]
    orders = list(islice(permutations(pool, len(axes)), _ORDERS))
    first = orders.pop(0)
    # The next orders move every axis, and exchange none: m is not to be mistaken for 6/n.
    orders.sort(key=lambda o: (sum(map(int.__eq__, o, first)), len(o) > 1 and {*o} == {*first}))
    orders.insert(0, first)
    for order in orders:
        table = dict(zip(axes, order, strict=True))
        table.update({f"#{axis}": size for axis, size in table.items()})
        yield table


def _at(
    operation: Ground, table: Mapping[str, int], turn: int, rng: np.random.Generator
) -> Example | None:
    """A point of these sizes; None where a condition or a user's strategy does not allow it."""
    params = {n: _parameter(p, turn) for n, p in operation.params.items()}
    values = {**table, **params}
    try:
        known = [*table, *params]
        if not all(
            c.holds(values) for text in operation.where for c in parse_condition(text, known)
        ):
            return None
        sizes = dict(table)
        inputs = {n: _array(d.at_rank(0), sizes, params, rng) for n, d in operation.inputs.items()}
    except GradcheckError:
        return None
    return Example(inputs, params, sizes)


def _parameter(parameter: Any, turn: int) -> Any:
    values = list(parameter.palette())
    if parameter.kind == "number":
        return values[len(values) // 2]
    return values[turn % len(values)]


def _array(
    domain: Domain, sizes: dict[str, int], params: Mapping[str, Any], rng: np.random.Generator
) -> NDArray[Any]:
    if domain.source is not None or any(map(is_anonymous, domain.shape)):
        return _drawn(domain, sizes, params)
    dims = concrete_shape(domain.shape, sizes)
    if domain.kind == "real" and domain.lo is None and domain.hi is None:
        signs = rng.choice([-1.0, 1.0], dims)
        return np.asarray(np.round(signs * rng.uniform(0.2, 1.9, dims), 3))
    if domain.kind in ("real", "positive"):
        return _within(domain, dims, rng)
    if domain.kind == "probability":
        weights = rng.uniform(0.2, 1.9, dims)
        return np.asarray(weights / weights.sum(axis=-1, keepdims=True))
    return _drawn(domain, sizes, params)


def _within(domain: Domain, dims: tuple[int, ...], rng: np.random.Generator) -> NDArray[Any]:
    """Values well inside the bounds."""
    low = domain.lo if domain.lo is not None else (0.0 if domain.kind == "positive" else None)
    high = domain.hi
    if low is None:
        assert high is not None
        low = high - 2.0
    high = low + 2.0 if high is None else min(high, low + 2.0)
    return np.asarray(rng.uniform(low + 0.05 * (high - low), high - 0.05 * (high - low), dims))


def _drawn(domain: Domain, sizes: dict[str, int], params: Mapping[str, Any]) -> NDArray[Any]:
    """An array of a domain of which no generic values are known: not the simplest one."""
    drawn = drawing.generate(domain.strategy(sizes, params), count=4, seed=1)
    if not drawn:
        problem = f"nothing can be drawn from {domain.describe()}"
        raise GradcheckError(problem)
    return max(drawn, key=lambda array: len(np.unique(array)))
