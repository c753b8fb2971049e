"""Hypothesis strategies for arrays, and running them.

An array with few entries is drawn entry by entry, so that each can be shrunk on its own; a larger
one from a drawn seed. Either way an entry is an index into a palette.
"""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import hypothesis
import numpy as np
from hypothesis import HealthCheck, Phase, Verbosity
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException, Unsatisfiable
from hypothesis.internal.conjecture.providers import HypothesisProvider

from gradcheck.errors import SpecError, UsageError
from gradcheck.palettes import (
    integer_palette,
    real_palette,
    round_to,
    smallest,
    weight_palette,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import SearchStrategy
    from numpy.typing import NDArray

    Dims = tuple[int, ...]
    Array = NDArray[Any]

T = TypeVar("T")

# Above this many entries an array is drawn from a seed.
ENTRYWISE = 36


@dataclass(frozen=True)
class Features:
    """What one example exercises; each example switches on only a few (swarm testing).

    Attributes:
        magnitude: How large the values are, one of `gradcheck.palettes.MAGNITUDES`.
        zeros: Exact zeros at random entries.
        ties: Only two or three distinct values.
        rows: Repeated rows.
        repeats: Repeated labels and integers.
        masks: Rows of masks that are all ones or all zeros beside others.
        ends: Parameters at the ends of their ranges.
    """

    magnitude: str = "unit"
    zeros: bool = False
    ties: bool = False
    rows: bool = False
    repeats: bool = False
    masks: bool = False
    ends: bool = False


PLAIN = Features()


@lru_cache(maxsize=1024)
def indices(shape: Dims, bound: int) -> SearchStrategy[Array]:
    """Arrays of integers below `bound`, shrinking towards 0."""
    entries = math.prod(shape)
    if bound == 0 and entries:
        return st.nothing()
    if bound <= 1 or entries == 0:
        return st.just(np.zeros(shape, dtype=np.int64))
    if entries <= ENTRYWISE:
        drawn = st.tuples(*(st.sampled_from(range(bound)),) * entries)
        return drawn.map(lambda found: np.array(found, dtype=np.int64).reshape(shape))
    seeds = st.integers(0, 2**32 - 1)
    return seeds.map(lambda seed: np.random.default_rng(seed).integers(0, bound, shape))


def chosen(palette: Array, shape: Dims, *, few: bool = False) -> SearchStrategy[Array]:
    """Arrays of values of a palette; `few` allows only three of them, one of which may be twice."""
    if not few:
        return indices(shape, len(palette)).map(lambda found: palette[found])
    picks, places = indices((3,), len(palette)), indices(shape, 3)
    return st.tuples(picks, places).map(lambda found: palette[found[0]][found[1]])


@lru_cache(maxsize=1024)
def reals(
    shape: Dims,
    bounds: tuple[float | None, float | None],
    dtype: str,
    features: Features,
    *,
    positive: bool = False,
) -> SearchStrategy[Array]:
    """Arrays of real values, with the zeros, ties and repeated rows that the features ask for."""
    palette = real_palette(features.magnitude, *bounds, dtype, positive=positive)
    if features.zeros and 0.0 in palette:
        # A third of the entries, and the first choice when shrinking.
        palette = np.concatenate([np.zeros(len(palette) // 2), palette])
    return _with_repeated_rows(chosen(palette, shape, few=features.ties), shape, features)


def _with_repeated_rows(
    arrays: SearchStrategy[Array], shape: Dims, features: Features
) -> SearchStrategy[Array]:
    """Each row is a copy of one of the first two."""
    if not features.rows or len(shape) < 2 or shape[-2] < 2:
        return arrays
    source = indices((shape[-2],), 2)
    return st.tuples(arrays, source).map(lambda found: found[0][..., found[1], :])


@lru_cache(maxsize=1024)
def probabilities(shape: Dims, features: Features, dtype: str) -> SearchStrategy[Array]:
    """Arrays whose last axis sums to 1 up to rounding, all entries positive."""
    if shape[-1] == 0 and 0 not in shape[:-1]:
        return st.nothing()
    weights = chosen(weight_palette(features.magnitude, dtype), shape, few=features.ties)
    weights = _with_repeated_rows(weights, shape, features)
    least = smallest(dtype)

    def normalise(found: Array) -> Array:
        shares = round_to(found / found.sum(axis=-1, keepdims=True), dtype)
        return np.maximum(shares, least)

    return weights.map(normalise)


@lru_cache(maxsize=1024)
def label_arrays(shape: Dims, below: int, features: Features) -> SearchStrategy[Array]:
    """Integers from 0 to below `below`; with `repeats`, of only a few values."""
    return chosen(np.arange(below), shape, few=features.repeats and below > 0)


@lru_cache(maxsize=1024)
def integer_arrays(shape: Dims, lo: int, hi: int, features: Features) -> SearchStrategy[Array]:
    """Integers between lo and hi, both included; with `repeats`, of only a few values."""
    return chosen(integer_palette(lo, hi), shape, few=features.repeats)


@lru_cache(maxsize=1024)
def one_hots(shape: Dims, features: Features) -> SearchStrategy[Array]:
    """Rows with a single 1."""
    classes = label_arrays(shape[:-1], shape[-1], features)
    return classes.map(lambda found: np.eye(shape[-1])[found])


@lru_cache(maxsize=1024)
def masks(shape: Dims, features: Features) -> SearchStrategy[Array]:
    """Zeros and ones; with `masks`, full and empty rows beside the others."""
    entries = chosen(np.array([1.0, 0.0]), shape)
    if not features.masks or not shape:
        return entries
    rows = indices((*shape[:-1], 1), 3)

    def fill(found: tuple[Array, Array]) -> Array:
        kept, kind = found
        return np.where(kind == 0, 1.0, np.where(kind == 1, 0.0, kept))

    return st.tuples(entries, rows).map(fill)


def as_array(drawn: Any, dtype: str) -> Array:
    """What a user's strategy drew: integers as int64, all else as float64 numbers of the dtype."""
    array = np.asarray(drawn)
    if array.dtype.kind in "iu":
        return array.astype(np.int64)
    if array.dtype.kind not in "fb":
        problem = f"a strategy yields {type(drawn).__name__} of dtype {array.dtype}"
        raise SpecError(problem, hint="it must yield numpy arrays of floats or integers")
    return round_to(array.astype(np.float64), dtype)


_SETTINGS = hypothesis.settings(
    database=None,
    deadline=None,
    derandomize=False,
    phases=[Phase.generate],
    print_blob=False,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
    verbosity=Verbosity.quiet,
    backend="hypothesis",
)


class _PlainDraws:
    """While it is entered, Hypothesis draws no constants that it found in loaded modules.

    They would make the examples of a seed depend on what else the process has imported.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depth = 0
        self._own: Any = None

    def __enter__(self) -> None:
        with self._lock:
            self._depth += 1
            if self._depth == 1:
                self._own = getattr(HypothesisProvider, "_maybe_draw_constant", None)
                if self._own is not None:  # older and newer versions may not have it
                    HypothesisProvider._maybe_draw_constant = _no_constant  # type: ignore[method-assign, assignment]

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._depth -= 1
            if self._depth == 0 and self._own is not None:
                HypothesisProvider._maybe_draw_constant = self._own  # type: ignore[method-assign]


def _no_constant(_provider: Any, *_args: Any, **_options: Any) -> None:
    return None


_PLAIN_DRAWS = _PlainDraws()


def run(
    strategy: SearchStrategy[T],
    test: Callable[[T], None],
    *,
    count: int,
    seed: int,
    shrink: bool = False,
) -> None:
    """Let Hypothesis call `test` with up to `count` values, the simplest first.

    Prints nothing, keeps no database, and is deterministic in the seed. Also works inside a test
    that Hypothesis itself runs. What `test` raises comes out, with `shrink` for the smallest value.

    Raises:
        UsageError: If the strategy itself is at fault, in Hypothesis's words.
    """
    phases = [Phase.generate, Phase.shrink] if shrink else [Phase.generate]
    settings = hypothesis.settings(_SETTINGS, max_examples=count, phases=phases)

    def attempt() -> None:
        @hypothesis.seed(seed)
        @settings
        @hypothesis.given(strategy)
        def wrapped(value: T) -> None:
            test(value)

        try:
            with _PLAIN_DRAWS:
                wrapped()
        except Unsatisfiable:
            return
        except HypothesisException as error:
            problem = f"Hypothesis cannot draw from {strategy}: {error}"
            raise UsageError(problem) from error

    if hypothesis.currently_in_test_context():
        # Hypothesis refuses to be nested, which it looks for in the same thread.
        _workers().submit(attempt).result()
    else:
        attempt()


@lru_cache(maxsize=1)
def _workers() -> ThreadPoolExecutor:
    """Threads for nested runs; several, since nested runs may nest again.

    They are kept: in a new thread Hypothesis first collects garbage, which takes its time.
    """
    return ThreadPoolExecutor(max_workers=8, thread_name_prefix="gradcheck")


def generate(strategy: SearchStrategy[T], count: int, seed: int) -> list[T]:
    """Up to `count` values, the simplest first; fewer where there are no more."""
    found: list[T] = []
    run(strategy, found.append, count=count, seed=seed)
    return found
