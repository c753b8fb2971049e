"""Which axis sizes are tried: few, since JAX compiles anew for each, but telling.

The *pool* is the ladder down which a counterexample shrinks, from the smallest sizes up; its
*members* are the few of it from which examples are generated.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.algebra.shapes import (
    DOTS,
    axes_of,
    base_axis,
    concrete_shape,
    is_anonymous,
    is_broadcast,
    is_number,
    leading_axes,
)
from gradcheck.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from gradcheck.algebra.conditions import Condition
    from gradcheck.domains import Domain
    from gradcheck.parameters import Parameter

_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29)
# One more than a power of two that kernels use as a block.
BEYOND = 33
# One more than the largest block that kernels usually take of a row at once.
BLOCK = 1025
# Where a condition couples axes, the large one may have to be a multiple of something: so much is added.
_MORE = (0, 1, 3, 7, 15, 31)
# What the other axes may be then, beside 1 and 2: as large, or a part or a multiple of it.
_PARTS = (1.0, 0.25, 4.0, 0.5, 2.0, 0.125, 8.0)
# So many of their combinations are looked at.
_TABLES = 2000
# What an axis without a name counts as in the cost of sizes.
_NOMINAL = 3
# Where a condition excludes the usual sizes, all up to this one are searched.
_SEARCHED = 12
_SEARCH_LIMIT = 20_000
# Fewer possible sizes than these are too few.
_FEW = 5


@dataclass(frozen=True)
class Sizes:
    """One assignment of sizes.

    Attributes:
        rank: How many axes `...` stands for; None where no input has `...`.
        items: The size of each axis, also of `#n` and of the leading axes `...0`, `...1`.
    """

    rank: int | None
    items: tuple[tuple[str, int], ...]

    def as_dict(self) -> dict[str, int]:
        """The sizes by axis."""
        return dict(self.items)

    @property
    def empty(self) -> bool:
        """Whether an axis has size 0."""
        return any(size == 0 for _, size in self.items)

    def __str__(self) -> str:
        return ", ".join(f"{axis} = {size}" for axis, size in self.items) or "no axes"


@dataclass(frozen=True)
class Pool:
    """The sizes to generate from, and the ladder to shrink down, the smallest first."""

    members: tuple[Sizes, ...]
    ladder: tuple[Sizes, ...]

    def below(self, sizes: Mapping[str, int]) -> tuple[Sizes, ...]:
        """The rungs before these sizes; all of them where these are not among them."""
        known = {axis: size for axis, size in sizes.items() if not is_anonymous(axis)}
        rungs = [i for i, rung in enumerate(self.ladder) if rung.as_dict() == known]
        return self.ladder[: rungs[0]] if rungs else self.ladder


def remaining(
    palette: Iterable[Any], name: str, conditions: Iterable[Condition], sizes: Mapping[str, int]
) -> tuple[Any, ...]:
    """The values of a parameter that the conditions on it alone leave at these sizes."""
    own = [c for c in conditions if name in c.names and c.names <= {name, *sizes}]
    return tuple(v for v in palette if all(c.holds({**sizes, name: v}) for c in own))


@dataclass(frozen=True)
class Space:
    """What sizes are possible.

    Attributes:
        inputs: The domains.
        conditions: Those of `where`; those on several parameters at once are not looked at here.
        cost: The cost of a check at given sizes.
        budget: The largest cost allowed.
        params: The parameters.
    """

    inputs: Mapping[str, Domain]
    conditions: tuple[Condition, ...]
    cost: Callable[[Mapping[str, int]], float]
    budget: float
    params: Mapping[str, Parameter] = field(default_factory=dict)

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes that have names, in order; leading axes are not among them."""
        found: list[str] = []
        for domain in self.inputs.values():
            found += [axis for axis in axes_of(domain.shape) if not is_anonymous(axis)]
            dependent = [name for _, name in domain.arguments]
            found += [*dependent, str(domain.below)] if domain.below is not None else dependent
        others = {*self.params, *(axis for axis in found if is_number(axis))}
        return tuple(axis for axis in dict.fromkeys(found) if axis not in others)

    @property
    def dotted(self) -> bool:
        """Whether an input has leading axes."""
        return any(DOTS in domain.shape for domain in self.inputs.values())

    @property
    def broadcast(self) -> tuple[str, ...]:
        """The axes that occur as `#n`."""
        dims = (dim for domain in self.inputs.values() for dim in domain.shape)
        return tuple(dict.fromkeys(base_axis(dim) for dim in dims if is_broadcast(dim)))

    @property
    def anonymous(self) -> dict[str, int]:
        """Axes without a name, at a nominal size."""
        dims = (dim for domain in self.inputs.values() for dim in domain.shape)
        return {dim: _NOMINAL for dim in dims if is_anonymous(dim)}

    def variants(self, sizes: Mapping[str, int], rank: int | None) -> Iterator[Sizes]:
        """These sizes with `#n` as 1 and as n."""
        for ones in (True, False) if self.broadcast else (True,):
            extra = {f"#{axis}": 1 if ones else sizes[axis] for axis in self.broadcast}
            yield Sizes(rank, tuple({**sizes, **extra}.items()))

    def obstacle(self, sizes: Sizes) -> str:
        """Why these sizes are not allowed; "" where they are."""
        table = sizes.as_dict()
        for condition in self.conditions:
            if condition.names <= table.keys() and not condition.holds(table):
                return f"where='{condition.text}'"
        for name, parameter in self.params.items():
            if not remaining(parameter.palette(), name, self.conditions, table):
                return f"where, for the parameter {name} = {parameter.describe()},"
        for name, domain in self.inputs.items():
            if not domain.admits({**table, **self.anonymous}):
                return f"the domain of {name}, {domain.describe()},"
        if self.cost({**table, **self.anonymous}) > self.budget:
            return f"the budget of {self.budget:g}"
        return ""

    def entries(self, sizes: Sizes) -> int:
        """The number of entries of all inputs."""
        table = {**sizes.as_dict(), **self.anonymous}
        return sum(math.prod(concrete_shape(d.shape, table)) for d in self.inputs.values())

    def order(self, sizes: Sizes) -> tuple[bool, float, int, tuple[int, ...]]:
        """Small sizes first, and empty ones last: the simplest example has entries."""
        own = tuple(size for _, size in sizes.items)
        return sizes.empty, self.entries(sizes), sizes.rank or 0, own


def build_pool(space: Space, shapes: int, seed: int, *, ranks: Sequence[int] = (0, 2, 1)) -> Pool:
    """The pool of a space of sizes.

    Args:
        space: What sizes are possible.
        shapes: How many members there may be.
        seed: Chooses which axis is empty, which is large, and the sizes that fill up.
        ranks: The numbers of leading axes to try, in the order of preference.

    Raises:
        UsageError: If nothing is possible; it names what excludes everything.
    """
    tried = ranks if space.dotted else (None,)
    wishes = [_possible(space, tried, wish) for wish in _wishes(space, seed)]
    if sum(map(bool, wishes)) < min(shapes, _FEW):
        wishes += [[found] for found in _searched(space, tried, shapes, seed)]
    # Sizes drawn at random only fill up: they are no rungs.
    drawn = [_possible(space, tried, wish) for wish in _random(seed)] if shapes > _FEW else []
    members = _choose([*wishes, *drawn], shapes, tried)
    if not members:
        raise _nothing(space, tried)
    rungs = itertools.chain(members, *wishes, _small(space, tried))
    ladder = sorted(dict.fromkeys(rungs), key=space.order)
    return Pool(tuple(sorted(members, key=space.order)), tuple(ladder))


def beyond_block(space: Space, axis: str, size: int = BLOCK) -> tuple[Sizes | None, str]:
    """Sizes at which one axis goes beyond a block, the others as small as may be.

    Args:
        space: What sizes are possible; its cost is left to the caller.
        axis: The axis, or `...0` for the first of the leading ones.
        size: Its size; somewhat more where a condition excludes just that.

    Returns:
        The sizes with the fewest entries of those that are tried; or None, and what excludes them all.
    """
    rank = 1 if space.dotted else None
    free, why = replace(space, budget=math.inf, cost=lambda _: 0.0), ""
    for tables in _tables(space, axis, size, rank):
        found = []
        for table in itertools.islice(tables, _TABLES):
            for sizes in free.variants(table, rank):
                obstacle = free.obstacle(sizes)
                found += [] if obstacle else [sizes]
                why = why or obstacle
        if found:
            return min(found, key=free.order), ""
    return None, why


def _tables(
    space: Space, axis: str, size: int, rank: int | None
) -> Iterator[Iterable[dict[str, int]]]:
    """One axis beyond a block: the others at 2, or at 1, or at whatever a condition may ask for."""
    axes = (*leading_axes(rank or 0), *space.axes)
    others = [a for a in axes if a != axis]
    for small in (2, 1):
        yield [{**dict.fromkeys(others, small), axis: size}]
    if space.conditions:
        yield (
            {**dict(zip(others, row, strict=True)), axis: size + more}
            for more in _MORE
            for row in itertools.product(_others(size + more), repeat=len(others))
        )


def _others(size: int) -> list[int]:
    return list(dict.fromkeys([1, 2, *(int(part * size) for part in _PARTS)]))


def _possible(
    space: Space, ranks: Iterable[int | None], wish: Callable[[Sequence[str]], Sequence[int]]
) -> list[Sizes]:
    """A wish at each rank and with each broadcast, where that is allowed."""
    found = []
    for rank in ranks:
        axes = (*leading_axes(rank or 0), *space.axes)
        table = dict(zip(axes, wish(axes), strict=True))
        found += [sizes for sizes in space.variants(table, rank) if not space.obstacle(sizes)]
    return list(dict.fromkeys(found))


def _wishes(space: Space, seed: int) -> list[Callable[[Sequence[str]], Sequence[int]]]:
    """What sizes should be tried, the most telling first."""
    count = max(1, len(space.axes))
    turns = [(seed + i) % count for i in range(count)]
    empty = [_one_axis(0, turn, (2, 3, 5)) for turn in turns]
    large = [_one_axis(BEYOND, turn, (2, 3, 1)) for turn in turns]
    return [
        _cycle((1,)),
        _distinct(_PRIMES),
        empty[0],
        large[0],
        _cycle((1, 2)),
        _cycle((3,)),
        _cycle((2, 1)),
        _distinct((4, 3, 2, 5, 6, 7)),
        *empty[1:],
        *large[1:],
        _cycle((2,)),
        _distinct((1, 2, 3, 4, 5, 6, 7)),
    ]


def _random(seed: int) -> list[Callable[[Sequence[str]], Sequence[int]]]:
    """Small sizes at random, more of them than are needed."""
    generator = np.random.default_rng(seed)
    return [_cycle(generator.integers(1, 9, 12).tolist()) for _ in range(60)]


def _cycle(values: Sequence[int]) -> Callable[[Sequence[str]], Sequence[int]]:
    return lambda axes: list(itertools.islice(itertools.cycle(values), len(axes)))


def _distinct(values: Sequence[int]) -> Callable[[Sequence[str]], Sequence[int]]:
    """Pairwise distinct sizes, of however many axes."""
    return lambda axes: [*values, *range(31, 31 + len(axes))][: len(axes)]


def _one_axis(
    size: int, turn: int, others: Sequence[int]
) -> Callable[[Sequence[str]], Sequence[int]]:
    """One axis of a special size, counted from the last; the others small."""

    def wish(axes: Sequence[str]) -> Sequence[int]:
        sizes = list(itertools.islice(itertools.cycle(others), len(axes)))
        if sizes:
            sizes[-1 - turn % len(sizes)] = size
        return sizes

    return wish


def _small(space: Space, ranks: Iterable[int | None]) -> Iterator[Sizes]:
    """Combinations of 1 and 2, all where there are at most three axes; 0 and 33 beside ones."""
    for rank in ranks:
        axes = (*leading_axes(rank or 0), *space.axes)
        rows: Iterable[Sequence[int]] = itertools.product((1, 2), repeat=len(axes))
        if len(axes) > 3:
            odd = [_one_axis(s, i, (3 - s,))(axes) for s in (1, 2) for i in range(len(axes))]
            rows = [_cycle(values)(axes) for values in ((1,), (2,), (1, 2), (2, 1))] + odd
        special = [_one_axis(s, i, (1,))(axes) for s in (0, BEYOND) for i in range(len(axes))]
        for row in (*rows, *special):
            for sizes in space.variants(dict(zip(axes, row, strict=True)), rank):
                if not space.obstacle(sizes):
                    yield sizes


def _searched(space: Space, ranks: Sequence[int | None], shapes: int, seed: int) -> Iterator[Sizes]:
    """Sizes found by looking at all small ones, for conditions such as `n == 4 * h`."""
    rank = ranks[0]
    axes = (*leading_axes(rank or 0), *space.axes)
    grid: Iterable[tuple[int, ...]] = itertools.product(range(_SEARCHED + 1), repeat=len(axes))
    if (_SEARCHED + 1) ** len(axes) > _SEARCH_LIMIT:
        generator = np.random.default_rng(seed)
        drawn = generator.integers(0, _SEARCHED + 1, (_SEARCH_LIMIT, len(axes)))
        grid = map(tuple, drawn.tolist())
    found = 0
    for row in sorted(set(grid), key=lambda row: (0 in row, sum(row), row)):
        for sizes in space.variants(dict(zip(axes, row, strict=True)), rank):
            if not space.obstacle(sizes):
                yield sizes
                found += 1
        if found >= shapes:
            return


def _choose(wishes: Iterable[list[Sizes]], shapes: int, ranks: Sequence[int | None]) -> list[Sizes]:
    """One of each wish, so that ranks and broadcasts take turns."""
    chosen: dict[Sizes, None] = {}
    used: Counter[object] = Counter()

    def turn(sizes: Sizes) -> tuple[int, int, int]:
        return used[sizes.rank], used[_broadcasts(sizes)], ranks.index(sizes.rank)

    for wish in wishes:
        fresh = [sizes for sizes in wish if sizes not in chosen]
        if not fresh:
            continue
        best = min(fresh, key=turn)
        chosen[best] = None
        used.update([best.rank, _broadcasts(best)])
        if len(chosen) == shapes:
            break
    return list(chosen)


def _broadcasts(sizes: Sizes) -> str:
    """Whether `#n` is 1 beside a larger n."""
    table = sizes.as_dict()
    ones = [table[dim] == 1 != table[base_axis(dim)] for dim in table if is_broadcast(dim)]
    return f"broadcast: {any(ones)}"


def _nothing(space: Space, ranks: Sequence[int | None]) -> UsageError:
    """The error that says what excludes all sizes."""
    axes = (*leading_axes(ranks[0] or 0), *space.axes)
    smallest = next(space.variants(dict.fromkeys(axes, 1), ranks[0]))
    conditions = " and ".join(condition.text for condition in space.conditions)
    obstacle = space.obstacle(smallest)
    if obstacle.startswith("where="):
        obstacle = f"where={conditions!r}"
    elif obstacle.startswith("where"):
        obstacle = obstacle.replace("where", f"where={conditions!r}", 1)
    tried = f"sizes 0 to {_SEARCHED} and {BEYOND}" if axes else "the only sizes"
    return UsageError(f"no example can be drawn: {obstacle} excludes {tried}, such as {smallest}")
