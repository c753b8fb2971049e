"""What an evaluation runs on: small sizes, and inputs drawn from their domains.

Real inputs are indeterminates, drawn as random residues. What is discrete (labels, masks, one-hot
rows, integers) and what a user's own strategy yields is drawn as it is, and converted exactly: those
inputs are samples, and the statement says so.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck import drawing
from gradcheck.algebra.conditions import parse_condition
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
from gradcheck.domains import Domain
from gradcheck.oracles.exact import shadow
from gradcheck.oracles.exact.functions import DEPTH, WEIGHT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from gradcheck.operation import Operation
    from gradcheck.oracles.exact.array import FieldArray
    from gradcheck.oracles.exact.namespace import FieldNamespace
    from gradcheck.oracles.exact.primes import Field
    from gradcheck.parameters import Parameter

_FIRST = (2, 3, 4, 5, 6, 7, 8, 9)
_SEARCHED = 9
_EQUAL = 2
_MOST_VALUES = 6
_MOST_ENTRIES = 100_000
_SAMPLED = ("one_hot", "labels", "integers", "mask")


@dataclass(frozen=True)
class Case:
    """Where to evaluate: sizes, the parameters that are no indeterminates, and an edge or not."""

    sizes: dict[str, int]
    params: dict[str, Any] = field(default_factory=dict)
    edge: bool = False

    def words(self) -> str:
        """How a statement names it: "m = 2, n = 3"."""
        items = {**self.sizes, **self.params}.items()
        return ", ".join(f"{_axis_words(a)} = {n}" for a, n in items) or "its only size"


def _axis_words(axis: str) -> str:
    return f"leading axis {axis.removeprefix(DOTS)}" if axis.startswith(DOTS) else axis


# ------------------------------------------------------------------ sizes


def named_axes(operation: Operation) -> tuple[str, ...]:
    """The axes whose sizes are free."""
    found: list[str] = []
    for domain in operation.inputs.values():
        found += [a for a in axes_of(domain.shape) if not is_anonymous(a)]
        found += [name for _, name in domain.arguments]
        if isinstance(domain.below, str) and not is_number(domain.below):
            found.append(domain.below)
    others = {*operation.params, *(a for a in found if is_number(a))}
    return tuple(a for a in dict.fromkeys(found) if a not in others)


def cases(operation: Operation) -> Iterator[Case]:
    """Two assignments of pairwise distinct sizes ≥ 2, then each axis at size 1, and all axes equal.

    A forward may take a square array for its transpose, which distinct sizes do not show.
    Leading axes are none in the first and two in the second; `#n` is n in the first, then 1.
    """
    axes = named_axes(operation)
    choices = list(parameter_values(operation))
    dotted = any(DOTS in d.shape for d in operation.inputs.values())
    broadcast = _broadcast(operation)
    for params in choices:
        chosen = list(itertools.islice(_possible(operation, axes, params), 2))
        for i, sizes in enumerate(chosen):
            leading = dict(zip(leading_axes(2), (3, 2), strict=True)) if dotted and i else {}
            wide = {f"#{a}": sizes[a] for a in broadcast}
            yield Case({**sizes, **wide, **leading}, params)
            if broadcast and i == 0:
                yield Case({**sizes, **dict.fromkeys(wide, 1)}, params)
    yield from _edges(operation, axes, choices[0], broadcast)


def _possible(
    operation: Operation, axes: tuple[str, ...], params: Mapping[str, Any]
) -> Iterator[dict[str, int]]:
    """The sizes that conditions and domains allow, each once, the usual ones first."""
    seen: list[dict[str, int]] = []
    wishes = (s for s in _main_sizes(axes) if affordable(operation, s))
    for sizes in itertools.chain(wishes, _searched(axes)):
        if sizes not in seen and allowed(operation, sizes, params):
            seen.append(sizes)
            yield sizes


def cases_at(operation: Operation, sizes: Iterable[Mapping[str, int]]) -> Iterator[Case]:
    """The cases of given sizes, with every value of the parameters; `#n` is n unless it is given."""
    broadcast = _broadcast(operation)
    for one, params in itertools.product(sizes, list(parameter_values(operation))):
        yield Case({**{f"#{a}": one[a] for a in broadcast}, **one}, params)


def _broadcast(operation: Operation) -> tuple[str, ...]:
    dims = (dim for d in operation.inputs.values() for dim in d.shape)
    return tuple(dict.fromkeys(base_axis(dim) for dim in dims if is_broadcast(dim)))


def _main_sizes(axes: tuple[str, ...]) -> Iterator[dict[str, int]]:
    """Ascending sizes, then others in which every axis differs; a single axis is 2, then 5.

    Last come 2, 3, 2, 3, …, for what has too many entries at distinct sizes.
    """
    count = len(axes)
    first = _FIRST[:count]
    if count > len(_FIRST):
        first = tuple(range(2, 2 + count))
    yield dict(zip(axes, first, strict=True))
    if not count:
        return
    yield dict(zip(axes, (5,) if count == 1 else (*first[1:], first[0]), strict=True))
    wider = range(2, 4 + min(count, 4))
    for sizes in itertools.islice(itertools.permutations(wider, min(count, 4)), 200):
        yield dict(zip(axes, (*sizes, *first[4:]), strict=False))
    for start in (0, 1):
        yield {axis: 2 + (i + start) % 2 for i, axis in enumerate(axes)}


def _searched(axes: tuple[str, ...]) -> Iterator[dict[str, int]]:
    """All sizes from 2 on, where conditions exclude the usual ones; distinct ones first."""
    if len(axes) > 4:
        return
    grid = list(itertools.product(range(2, _SEARCHED), repeat=len(axes)))
    grid.sort(key=lambda sizes: (len(sizes) - len(set(sizes)), sum(sizes)))
    for sizes in grid:
        yield dict(zip(axes, sizes, strict=True))
    for sizes in itertools.product(range(1, _SEARCHED), repeat=len(axes)):
        yield dict(zip(axes, sizes, strict=True))


def _edges(
    operation: Operation, axes: tuple[str, ...], params: dict[str, Any], broadcast: tuple[str, ...]
) -> Iterator[Case]:
    for sizes in _edge_sizes(axes):
        if affordable(operation, sizes) and allowed(operation, sizes, params):
            yield Case({**sizes, **{f"#{a}": sizes[a] for a in broadcast}}, params, edge=True)


def _edge_sizes(axes: tuple[str, ...]) -> Iterator[dict[str, int]]:
    if len(axes) <= len(_FIRST):
        for axis in axes:
            yield {**dict(zip(axes, _FIRST, strict=False)), axis: 1}
    if len(axes) > 1:
        yield dict.fromkeys(axes, _EQUAL)


def affordable(operation: Operation, sizes: Mapping[str, int]) -> bool:
    """Whether the largest Jacobian is small enough to be held in every lane."""
    known = {**sizes, **{f"#{a}": n for a, n in sizes.items()}}

    def entries(name: str) -> int:
        dims = (d for d in operation.shapes[name] if d != DOTS)
        return math.prod(int(d) if is_number(d) else known.get(d, 3) for d in dims)

    largest = max(map(entries, operation.inputs), default=1)
    return largest * max(map(entries, operation.output_names)) <= _MOST_ENTRIES


def allowed(operation: Operation, sizes: Mapping[str, int], params: Mapping[str, Any]) -> bool:
    """Whether conditions and domains allow the sizes."""
    known = {**sizes, **params}
    for text in operation.where:
        for condition in parse_condition(text):
            if condition.names <= known.keys() and not condition.holds(known):
                return False
    anonymous = {
        d: 3 for domain in operation.inputs.values() for d in domain.shape if is_anonymous(d)
    }
    wide = {f"#{a}": n for a, n in sizes.items()}
    return all(d.admits({**anonymous, **wide, **sizes}) for d in operation.inputs.values())


# ------------------------------------------------------------------ parameters


def parameter_values(operation: Operation) -> Iterator[dict[str, Any]]:
    """Each combination of the values of integers and choices, up to six."""
    discrete = {n: _values(p) for n, p in operation.params.items() if not is_generic(operation, n)}
    combinations = itertools.product(*discrete.values())
    for values in itertools.islice(combinations, _MOST_VALUES):
        yield dict(zip(discrete, values, strict=True))


def is_generic(operation: Operation, name: str) -> bool:
    """Whether a parameter is an indeterminate: a number on which no domain depends."""
    parameter = operation.params[name]
    used = any(own == name for d in operation.inputs.values() for _, own in d.arguments)
    return parameter.kind == "number" and parameter.lo != parameter.hi and not used


def _values(parameter: Parameter) -> tuple[Any, ...]:
    if parameter.kind == "integer":
        assert parameter.lo is not None
        assert parameter.hi is not None
        whole = range(int(parameter.lo), int(parameter.hi) + 1)
        return (
            tuple(whole)
            if len(whole) <= _MOST_VALUES
            else tuple(parameter.palette())[:_MOST_VALUES]
        )
    return tuple(parameter.palette())[:_MOST_VALUES]


def covered(operation: Operation) -> str:
    """Which values of parameters were tried, in words; "" where there is no discrete one."""
    found = list(parameter_values(operation))
    parts = []
    for name in found[0] if found else ():
        values = list(dict.fromkeys(v[name] for v in found))
        parts.append(f"{name} = {', '.join(map(str, values))}")
    return "; ".join(parts)


# ------------------------------------------------------------------ values


@dataclass
class Draw:
    """The inputs of one evaluation: residues of the indeterminates, and the samples.

    Attributes:
        residues: For each indeterminate input or parameter, its residues and whether it is positive.
        samples: The others, as exact numbers or as integer arrays.
        points: A real point for each indeterminate, as fractions.
        sampled: The inputs that are samples.
    """

    residues: dict[str, tuple[Any, bool]]
    samples: dict[str, Any]
    points: dict[str, Any]
    sampled: tuple[str, ...]


def draw(
    operation: Operation, case: Case, lanes: Field, rng: np.random.Generator, seed: int
) -> Draw:
    """Inputs and parameters at the sizes of a case."""
    found = Draw({}, {}, {}, ())
    for name in operation.params:
        parameter = operation.params[name]
        if name in case.params:
            found.samples[name] = case.params[name]
            continue
        positive = parameter.lo is not None and parameter.lo >= 0
        found.residues[name] = lanes.random(rng, (), fourth=positive), positive
        found.points[name] = _reals((), (parameter.lo, parameter.hi), rng)
    for place, (name, domain) in enumerate(operation.inputs.items()):
        _draw_input(found, name, _resolved(domain, case), case, lanes, rng, 97 * seed + place)
    return found


def _resolved(domain: Domain, case: Case) -> Domain:
    """The domain that a user's function of sizes gives, where it gives one."""
    if domain.source is None or not domain.arguments:
        return domain
    known = {**case.sizes, **case.params}
    fixed = {name: int(name) for _, name in domain.arguments if is_number(name)}
    made = domain.source(**{own: {**known, **fixed}[name] for own, name in domain.arguments})
    if not isinstance(made, Domain):
        return domain
    unnamed = any(map(is_anonymous, domain.shape))
    below = made.below if domain.below is None else domain.below
    shape = made.shape if unnamed else domain.shape
    return Domain(made.kind, shape, made.lo, made.hi, below, source=made.source)


def _draw_input(
    found: Draw,
    name: str,
    domain: Domain,
    case: Case,
    lanes: Field,
    rng: np.random.Generator,
    seed: int,
) -> None:
    if domain.source is not None:
        strategy = domain.strategy(case.sizes, case.params)
        array = drawing.generate(strategy, count=3, seed=seed)[-1]
        found.samples[name] = array if array.dtype.kind == "i" else dyadic(array)
        found.sampled += (name,)
        return
    shape = concrete_shape(domain.shape, case.sizes)
    if domain.kind in _SAMPLED:
        found.samples[name] = _discrete(domain, shape, case, rng)
        found.sampled += (name,)
        return
    positive = domain.kind in ("positive", "probability") or (
        domain.lo is not None and domain.lo >= 0
    )
    found.residues[name] = lanes.random(rng, shape, fourth=positive), positive
    if domain.kind == "probability":
        found.points[name] = rows_of(rng.integers(1, 17, shape))
    else:
        lowest = domain.lo if domain.lo is not None or not positive else 0.0
        found.points[name] = _reals(shape, (lowest, domain.hi), rng)


def is_sampled(domain: Domain) -> bool:
    """Whether its inputs are drawn as they are."""
    return domain.source is not None or domain.kind in _SAMPLED


def _discrete(domain: Domain, shape: tuple[int, ...], case: Case, rng: np.random.Generator) -> Any:
    if domain.kind == "labels":
        return rng.integers(0, domain._classes(case.sizes, case.params), shape)
    if domain.kind == "integers":
        assert domain.lo is not None
        assert domain.hi is not None
        return rng.integers(int(domain.lo), int(domain.hi) + 1, shape)
    if domain.kind == "mask":
        return dyadic(rng.integers(0, 2, shape))
    classes = rng.integers(0, shape[-1], shape[:-1])
    return dyadic(np.eye(shape[-1], dtype=np.int64)[classes])


def dyadic(array: Any) -> Any:
    """The exact values of floats, or integers, as fractions."""
    flat = [Fraction(x) for x in np.asarray(array).reshape(-1).tolist()]
    return shadow.filled(flat, np.shape(array))


def rows_of(weights: Any) -> Any:
    """Rows that sum to 1, exactly."""
    exact = dyadic(weights)
    return exact / np.sum(exact, axis=-1, keepdims=True)


def _reals(
    shape: tuple[int, ...], bounds: tuple[float | None, float | None], rng: np.random.Generator
) -> Any:
    """Fractions strictly inside the bounds."""
    low, high = bounds
    lowest = (
        Fraction(low)
        if low is not None
        else (Fraction(high) - 3 if high is not None else Fraction(-3))
    )
    highest = Fraction(high) if high is not None else max(lowest + 3, Fraction(3))
    parts = rng.integers(1, 128, shape)
    return lowest + (highest - lowest) * dyadic(parts) / 128


def arrays(
    operation: Operation, drawn: Draw, space: FieldNamespace, wrt: str
) -> tuple[dict[str, Any], FieldArray]:
    """The inputs in the lanes, the differentiated one with a tangent for each entry."""
    values: dict[str, Any] = {}
    for name, (found, positive) in drawn.residues.items():
        array = space.variable(
            found,
            weight=WEIGHT if positive else 1,
            depth=DEPTH if positive else 0,
            point=drawn.points[name],
        )
        domain = operation.inputs.get(name)
        if domain is not None and domain.kind == "probability":
            array = _shares(array, space, drawn.points[name])
        values[name] = array
    for name, sample in drawn.samples.items():
        exact = isinstance(sample, np.ndarray) and sample.dtype == object
        values[name] = space.constant(sample) if exact else sample
    values[wrt] = space.seeded(values[wrt])
    return values, values[wrt]


def _shares(array: FieldArray, space: FieldNamespace, point: Any) -> FieldArray:
    """Rows u / Σu, which sum to 1 in every lane."""
    shares: FieldArray = space.divide(array, space.sum(array, axis=-1, keepdims=True))
    if space.shadowed:
        shares.shadow = shadow.balls(point, shares.shape)
    return shares
