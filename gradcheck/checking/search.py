"""Drawing the inputs at which claims are tested, and shrinking those at which one fails.

Sizes come from a small pool (`gradcheck.checking.pool`), values from the domains, both by
Hypothesis. The same seed gives the same examples.
"""

from __future__ import annotations

import time
import zlib
from collections import Counter
from dataclasses import dataclass, fields, replace
from itertools import combinations, zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from gradcheck.algebra.conditions import parse_condition
from gradcheck.algebra.shapes import DOTS, is_anonymous
from gradcheck.checking.pool import BEYOND, BLOCK, Pool, Sizes, Space, build_pool, remaining
from gradcheck.checking.simplify import simplified
from gradcheck.drawing import PLAIN, Features, generate, run
from gradcheck.errors import UsageError
from gradcheck.palettes import MAGNITUDES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from hypothesis.strategies import DrawFn, SearchStrategy
    from numpy.typing import NDArray

    from gradcheck.algebra.conditions import Condition
    from gradcheck.domains import Domain, Parameter


@dataclass(frozen=True)
class Profile:
    """How much is tried.

    Attributes:
        name: "quick", "standard" or "thorough".
        examples: How many examples.
        shapes: In how many sizes they come at most.
    """

    name: str
    examples: int
    shapes: int


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("quick", 10, 4),
        Profile("standard", 30, 8),
        Profile("thorough", 300, 40),
    )
}


@dataclass(frozen=True, eq=False)
class Example:
    """One input at which claims are tested.

    Attributes:
        inputs: An array for each input: float64 numbers of the dtype, or int64.
        params: A value for each parameter.
        sizes: The size of each axis; `#n`, `...0` and `?x0` have entries of their own.
        rank: How many axes `...` stands for; None where no input has it.
        features: What the example exercises.
    """

    inputs: dict[str, NDArray[Any]]
    params: dict[str, Any]
    sizes: dict[str, int]
    rank: int | None = None
    features: Features = PLAIN

    def key(self) -> tuple[object, ...]:
        """Equal for examples that are equal to the bit."""
        arrays = tuple((n, a.shape, a.dtype.str, a.tobytes()) for n, a in self.inputs.items())
        return (*arrays, repr(self.params))

    def complexity(self) -> tuple[int, int, tuple[str, ...]]:
        """How much there is to read: entries, then characters."""
        values = [v for array in self.inputs.values() for v in array.ravel().tolist()]
        values += list(self.params.values())
        shown = tuple(f"{v:g}" if isinstance(v, float) else repr(v) for v in values)
        return len(values), sum(map(len, shown)), shown


@dataclass(frozen=True)
class Search:
    """What there is to draw examples from.

    Attributes:
        inputs: The domain of each input.
        params: The parameters.
        conditions: What must hold of axes and parameters.
        dtype: All floats are numbers of this dtype.
        pool: The sizes.
        features: The features to choose from, with repetition by weight, the plain ones first.
        space: What sizes are possible at all.
    """

    inputs: Mapping[str, Domain]
    params: Mapping[str, Parameter]
    conditions: tuple[Condition, ...]
    dtype: str
    pool: Pool
    features: tuple[Features, ...]
    space: Space

    @property
    def strategy(self) -> SearchStrategy[Example]:
        """Hypothesis strategy of examples of all sizes of the pool."""
        return st.sampled_from(self.pool.ladder).flatmap(self.at)

    def at(self, sizes: Sizes) -> SearchStrategy[Example]:
        """Hypothesis strategy of examples of these sizes."""
        return _examples_at(self, sizes)

    def palette(self, name: str, features: Features, table: Mapping[str, int]) -> tuple[Any, ...]:
        """The values of a parameter that the conditions on it alone leave at these sizes."""
        parameter = self.params[name]
        full = parameter.palette()
        return remaining(parameter.palette(features), name, self.conditions, table) or remaining(
            full, name, self.conditions, table
        )


@st.composite
def _examples_at(draw: DrawFn, search: Search, sizes: Sizes) -> Example:
    """One example of given sizes: features first, then parameters, then values."""
    table = sizes.as_dict()
    features = draw(st.sampled_from(search.features))
    params = {}
    for name in search.params:
        palette = search.palette(name, features, table)
        assume(palette)
        params[name] = draw(st.sampled_from(palette))
    assume(all(condition.holds({**table, **params}) for condition in search.conditions))
    inputs = {
        name: draw(domain.strategy(table, params, search.dtype, features))
        for name, domain in search.inputs.items()
    }
    for name, domain in search.inputs.items():
        shape = domain.at_rank(sizes.rank or 0).shape
        found = zip(shape, inputs[name].shape, strict=True)
        table.update({dim: size for dim, size in found if is_anonymous(dim)})
    return Example(inputs, params, table, sizes.rank, features)


def examples(
    inputs: Mapping[str, Domain],
    params: Mapping[str, Parameter],
    *,
    where: str | Iterable[str] | None = None,
    profile: Profile | str = "standard",
    dtype: str = "float64",
    seed: int = 0,
    cost: Callable[[Mapping[str, int]], float] = lambda _: 0.0,
    budget: float = float("inf"),
) -> Search:
    """What `collect` and `find_smallest` draw from.

    Args:
        inputs: The domain of each input.
        params: The parameters.
        where: Conditions on axes and parameters, one or several.
        profile: How much is tried.
        dtype: All floats are numbers of this dtype.
        seed: Chooses the sizes.
        cost: The cost of a check at given sizes; an axis without a name counts as 3.
        budget: Sizes that cost more are left out.

    Raises:
        UsageError: If nothing can be drawn, naming what excludes everything; or no such profile.
        SpecError: If a condition is not understood.
    """
    chosen = profile_named(profile) if isinstance(profile, str) else profile
    space = Space(inputs, (), cost, budget, params)
    texts = [where] if isinstance(where, str) else list(where or ())
    known = [*space.axes, *params]
    conditions = tuple(c for text in texts for c in parse_condition(text, known))
    space = Space(inputs, conditions, cost, budget, params)
    ranks = (0, 2, 1, 3) if chosen.name == "thorough" else (0, 2, 1)
    pool = build_pool(space, chosen.shapes, seed, ranks=ranks)
    return Search(inputs, params, conditions, dtype, pool, swarm(inputs, params), space)


def profile_named(name: str) -> Profile:
    """The profile of that name."""
    if name not in PROFILES:
        problem = f"there is no profile {name!r}; write one of {', '.join(PROFILES)}"
        raise UsageError(problem)
    return PROFILES[name]


def swarm(inputs: Mapping[str, Domain], params: Mapping[str, Parameter]) -> tuple[Features, ...]:
    """Combinations of at most two features that make a difference here, with a magnitude."""
    kinds = {domain.kind for domain in inputs.values() if domain.source is None}
    floats = bool(kinds & {"real", "positive", "probability"})
    flags = [
        *(["zeros"] if "real" in kinds else []),
        *(["ties", "rows"] if floats else []),
        *(["repeats"] if kinds & {"labels", "integers"} else []),
        *(["masks"] if "mask" in kinds else []),
        *(["ends"] if any(p.kind != "choice" for p in params.values()) else []),
    ]
    magnitudes = ["unit"] * 6 + list(MAGNITUDES[1:]) if floats else ["unit"]
    # None at all and single ones weigh more than pairs, of which there are many.
    weights = (3, 2, 1)
    found = [
        Features(magnitude=magnitude, **dict.fromkeys(on, True))
        for count in (0, 1, 2)
        for magnitude in magnitudes
        for on in list(combinations(flags, count)) * weights[count]
    ]
    return tuple(found)


# ------------------------------------------------------------------------------- generating


def collect(search: Search, count: int, seed: int) -> list[Example]:
    """Up to `count` distinct examples, the simplest first, spread over the sizes of the pool.

    Raises:
        UsageError: If there is not a single one, naming what excludes everything.
    """
    members = search.pool.members
    rows = [
        _at_member(search, member, quota, seed)
        for member, quota in zip(members, _quotas(members, count), strict=True)
    ]
    found: dict[object, Example] = {}
    for example in (e for column in zip_longest(*rows) for e in column if e is not None):
        found.setdefault(example.key(), example)
    # Small sizes have few distinct examples: larger ones make up for them.
    drawable = [m for m, row in zip(members, rows, strict=True) if row and not m.empty]
    for member in reversed(drawable):
        missing = count - len(found)
        if missing <= 0:
            break
        for example in generate(search.at(member), 2 * missing + 4, _mixed(seed, member, "more")):
            if len(found) < count:
                found.setdefault(example.key(), example)
    if not found:
        raise _unsatisfiable(search)
    return list(found.values())[:count]


def _quotas(members: Sequence[Sizes], count: int) -> list[int]:
    """How many examples of each size: one of an empty one, the rest in equal shares."""
    full = [i for i, member in enumerate(members) if not member.empty]
    quotas = [1] * len(members)
    share, rest = divmod(max(0, count - (len(members) - len(full))), max(1, len(full)))
    for place, i in enumerate(full):
        quotas[i] = share + (place >= len(full) - rest)
    return quotas


def _at_member(search: Search, member: Sizes, quota: int, seed: int) -> list[Example]:
    """Examples of one size; the all-zero one only of the first size and of empty ones."""
    if quota == 0:
        return []
    simplest = member.empty or member == search.pool.members[0]
    drawn = generate(search.at(member), quota + (not simplest), _mixed(seed, member))
    return drawn if simplest or len(drawn) == 1 else drawn[1:]


def _mixed(seed: int, *parts: object) -> int:
    """A seed of its own for each part, the same in every process."""
    return zlib.crc32(f"{seed} {' '.join(map(str, parts))}".encode())


def _unsatisfiable(search: Search) -> UsageError:
    if search.conditions:
        text = " and ".join(condition.text for condition in search.conditions)
        given = ", ".join(f"{name} {p.describe()}" for name, p in search.params.items())
        return UsageError(
            f"no example can be drawn: where={text!r} excludes all parameters tried ({given})"
        )
    domains = ", ".join(f"{name} {d.describe()}" for name, d in search.inputs.items())
    return UsageError(f"no example can be drawn from the domains {domains}")


# ------------------------------------------------------------------------------- shrinking


class _Stop(BaseException):
    """Leaves Hypothesis's shrinking early; no Exception, which would count as a failing test."""


class _Failed(Exception):
    """Tells Hypothesis that an example fails."""


# How many examples are tried at each size that is smaller than the known one.
_TRIES = 15
# The part of the time that may be spent on smaller sizes before the known one is shrunk.
_SMALLER = 0.7


def find_smallest(
    search: Search,
    fails: Callable[[Example], bool],
    count: int,
    seed: int,
    known: Example | None = None,
    *,
    seconds: float = 5.0,
) -> Example | None:
    """The smallest example found for which `fails` is true; None where it never is.

    Sizes are tried from the smallest up to those of the known example; at the first at which
    something fails, Hypothesis shrinks the values.

    Args:
        search: What to draw from.
        fails: Whether an example fails; called once for each.
        count: How many examples `collect` drew, or would draw.
        seed: The seed of `collect`.
        known: An example that fails.
        seconds: After so many it returns the smallest found so far.
    """
    fails = _remembered(fails)
    if known is None:
        known = next((e for e in collect(search, count, seed) if fails(e)), None)
    if known is None:
        return None
    start = time.monotonic()
    found = None
    for rung in search.pool.below(known.sizes):
        if time.monotonic() > start + _SMALLER * seconds:
            break
        found = _shrunk(search, rung, fails, _TRIES, seed, start + seconds)
        if found is not None:
            break
    if found is None:
        found = _shrink_values(search, fails, count, seed, known, start + seconds)
    return simplified(found, search.inputs, search.dtype, fails, start + seconds)


def _shrink_values(
    search: Search,
    fails: Callable[[Example], bool],
    count: int,
    seed: int,
    known: Example,
    deadline: float,
) -> Example:
    """The simplest failing example of the known one's sizes."""
    table = {axis: size for axis, size in known.sizes.items() if not is_anonymous(axis)}
    own = Sizes(known.rank, tuple(table.items()))
    members = search.pool.members
    quotas = dict(zip(members, _quotas(members, count), strict=True))
    # As many as `collect` drew, which gives the same examples; then more.
    for tries in (quotas.get(own, 0) + 1, 2 * max(count, _TRIES)):
        found = _shrunk(search, own, fails, tries, seed, deadline)
        if found is not None:
            return min(known, found, key=Example.complexity)
    return known


def _shrunk(
    search: Search,
    sizes: Sizes,
    fails: Callable[[Example], bool],
    tries: int,
    seed: int,
    deadline: float,
) -> Example | None:
    """The simplest failing example of these sizes that is found before the deadline."""
    found = _shrunk_by_hypothesis(search, sizes, fails, tries, seed, deadline)
    if found is None or found.features == PLAIN:
        return found
    # An index means another value in each palette, so that Hypothesis seldom finds the way from
    # a magnitude of 1000 to plain values.
    plain = replace(search, features=(PLAIN,))
    simpler = _shrunk_by_hypothesis(plain, sizes, fails, tries, seed, deadline)
    return found if simpler is None else min(found, simpler, key=Example.complexity)


def _shrunk_by_hypothesis(
    search: Search,
    sizes: Sizes,
    fails: Callable[[Example], bool],
    tries: int,
    seed: int,
    deadline: float,
) -> Example | None:
    failing: list[Example] = []

    def test(example: Example) -> None:
        if time.monotonic() > deadline:
            raise _Stop
        try:
            wrong = fails(example)
        except (Exception, SystemExit) as error:
            # Hypothesis would take it for the failure that is looked for.
            raise _Stop from error
        if wrong:
            failing.append(example)
            raise _Failed

    try:
        run(search.at(sizes), test, count=tries, seed=_mixed(seed, sizes), shrink=True)
    except _Failed:
        pass
    except _Stop as stop:
        if stop.__cause__ is not None:
            raise stop.__cause__ from None
    return min(failing, key=Example.complexity, default=None)


def _remembered(fails: Callable[[Example], bool]) -> Callable[[Example], bool]:
    """The same question is not asked twice."""
    memory: dict[object, bool] = {}

    def ask(example: Example) -> bool:
        key = example.key()
        if key not in memory:
            memory[key] = fails(example)
        return memory[key]

    return ask


# ------------------------------------------------------------------------------- describing


def describe(drawn: Iterable[Example]) -> dict[str, int]:
    """How many examples exercise what: `{"zeros": 12, "m = 1": 9, "beyond 32": 3}`."""
    counts: Counter[str] = Counter()
    for example in drawn:
        counts.update(_exercised(example))
    return dict(sorted(counts.items()))


def _exercised(example: Example) -> set[str]:
    """What one example exercises; a feature counts only where its arrays show it."""
    arrays = [array for array in example.inputs.values() if array.size]
    features = example.features
    shown = {
        "zeros": features.zeros and any((array == 0).any() for array in arrays),
        "ties": features.ties and any(np.unique(array).size < array.size for array in arrays),
    }
    flags = {f.name for f in fields(features) if getattr(features, f.name) is True}
    found = {flag for flag in flags if shown.get(flag, True)}
    if features.magnitude != "unit":
        found.add(f"magnitude {features.magnitude}")
    if example.rank is not None:
        found.add(f"rank {example.rank}")
    named = {axis: size for axis, size in example.sizes.items() if not axis.startswith(("#", DOTS))}
    found |= {f"{axis} = 1" for axis, size in example.sizes.items() if size == 1}
    found |= {"size 0" for size in example.sizes.values() if size == 0}
    largest = max(example.sizes.values(), default=0)
    found |= {f"beyond {least - 1}" for least in (BEYOND, BLOCK) if largest >= least}
    larger = [size for size in named.values() if size > 1]
    if len(set(larger)) < len(larger):
        found.add("equal axes")
    return found
