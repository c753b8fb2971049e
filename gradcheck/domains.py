"""Where inputs and parameters live: `real("m n")`, `probability("m n")`, `number(1e-8, 1e-3)`.

A domain knows its shape in axes and draws examples at given sizes. Wherever a domain stands, a
Hypothesis strategy that yields arrays serves too, and so does a function that takes axis sizes and
parameters by name and returns a domain or a strategy; `as_domain` turns them into domains.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.algebra.shapes import (
    DOTS,
    Shape,
    at_rank,
    axes_of,
    base_axis,
    concrete_shape,
    fits,
    is_anonymous,
    is_broadcast,
    is_number,
    parse_shape,
    rank_in,
    show,
)
from gradcheck.errors import ShapeError, SpecError, UsageError
from gradcheck.parameters import (
    Parameter,
    as_parameter,
    check_integer_bounds,
    choice,
    integer,
    number,
    short,
)

__all__ = [
    "Domain",
    "Parameter",
    "as_domain",
    "as_parameter",
    "choice",
    "constant",
    "integer",
    "integers",
    "labels",
    "mask",
    "number",
    "one_hot",
    "positive",
    "probability",
    "real",
]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from hypothesis.strategies import SearchStrategy
    from numpy.typing import NDArray

    from gradcheck.drawing import Features

    Array = NDArray[Any]

_CONSTANT_KINDS = frozenset({"one_hot", "labels", "integers", "mask"})


@dataclass(frozen=True)
class Domain:
    """Where an input lives.

    Attributes:
        kind: "real", "positive", "probability", "one_hot", "labels", "integers", "mask"; "strategy"
            for a user's strategy, "dependent" for a function that returns one.
        shape: The dimensions; `?x0` is one that varies without being any known axis.
        lo: The lower bound, included, or None.
        hi: The upper bound, included, or None.
        below: For labels the number of classes: an axis, a parameter or a number.
        is_constant: Whether no derivative with respect to it is expected.
        source: The user's strategy or function from which arrays are drawn, or None.
        arguments: For a function, what each of its arguments is called here.
    """

    kind: str
    shape: Shape
    lo: float | None = None
    hi: float | None = None
    below: str | int | None = None
    is_constant: bool = False
    source: Any = field(default=None, compare=False)
    arguments: tuple[tuple[str, str], ...] = ()

    @property
    def differentiable(self) -> bool:
        """Whether a derivative with respect to it is expected."""
        return not self.is_constant and self.kind not in _CONSTANT_KINDS

    def at_rank(self, rank: int) -> Domain:
        """The domain with `rank` leading axes in place of `...`."""
        return replace(self, shape=at_rank(self.shape, rank))

    def renamed(self, names: Mapping[str, str]) -> Domain:
        """The domain with axes and parameters renamed, as a chain does where it unifies axes."""
        shape = tuple(
            dim.replace(base_axis(dim), names.get(base_axis(dim), base_axis(dim)))
            for dim in self.shape
        )
        below = names.get(self.below, self.below) if isinstance(self.below, str) else self.below
        arguments = tuple((own, names.get(name, name)) for own, name in self.arguments)
        return replace(self, shape=shape, below=below, arguments=arguments)

    def admits(self, sizes: Mapping[str, int]) -> bool:
        """Whether arrays of these sizes exist: a one-hot row of no entries does not."""
        if self.source is not None or self.kind not in ("probability", "one_hot", "labels"):
            return True
        if self.kind == "labels":
            empty = 0 in concrete_shape(self.shape, sizes)
            return empty or self.below is None or sizes.get(str(self.below), 1) != 0
        *rows, classes = concrete_shape(self.shape, sizes)
        return classes != 0 or 0 in rows

    def strategy(
        self,
        sizes: Mapping[str, int],
        params: Mapping[str, Any] | None = None,
        dtype: str = "float64",
        features: Features | None = None,
    ) -> SearchStrategy[Array]:
        """Hypothesis strategy of float64 arrays (int64 for labels and integers) of the domain.

        Args:
            sizes: The size of each axis; `"#n"` and `"...0"` have entries of their own.
            params: The values of the parameters on which the domain may depend.
            dtype: All values are numbers of this dtype.
            features: What the arrays are to exercise; none where left out.
        """
        from gradcheck import drawing

        chosen = features or drawing.PLAIN
        if self.source is not None:
            return self._from_source(sizes, params or {}, dtype, chosen)
        dims = concrete_shape(self.shape, sizes)
        match self.kind:
            case "probability":
                return drawing.probabilities(dims, chosen, dtype)
            case "one_hot":
                return drawing.one_hots(dims, chosen)
            case "labels":
                return drawing.label_arrays(dims, self._classes(sizes, params or {}), chosen)
            case "mask":
                return drawing.masks(dims, chosen)
            case "integers":
                return drawing.integer_arrays(dims, _whole(self.lo), _whole(self.hi), chosen)
        positive = self.kind == "positive"
        return drawing.reals(dims, (self.lo, self.hi), dtype, chosen, positive=positive)

    def _classes(self, sizes: Mapping[str, int], params: Mapping[str, Any]) -> int:
        if is_number(str(self.below)):
            return int(str(self.below))
        found = {**sizes, **params}.get(str(self.below))
        if found is None:
            problem = f"labels below {self.below!r}: this is neither an axis nor a parameter"
            raise SpecError(problem, hint=f"known are {_listed([*sizes, *params])}")
        return int(found)

    def _from_source(
        self, sizes: Mapping[str, int], params: Mapping[str, Any], dtype: str, features: Features
    ) -> SearchStrategy[Array]:
        """Arrays of the user's strategy, rounded to the dtype and of the expected shape."""
        from gradcheck import drawing

        made = self.source
        if self.arguments:
            # A chain may have unified an argument with a number.
            fixed = {name: int(name) for _, name in self.arguments if is_number(name)}
            known = {**sizes, **params, **fixed}
            _check_known([name for _, name in self.arguments], known, "a function of sizes")
            made = made(**{own: known[name] for own, name in self.arguments})
        if isinstance(made, Domain):
            # The names here are the renamed ones; what has no name here is the function's to say.
            unnamed = any(map(is_anonymous, self.shape))
            below = made.below if self.below is None else self.below
            shape = made.shape if unnamed else self.shape
            return replace(made, shape=shape, below=below).strategy(sizes, params, dtype, features)

        shape = at_rank(self.shape, rank_in(sizes))
        arrays = made.map(lambda drawn: drawing.as_array(drawn, dtype))
        if not self.arguments:
            # Data of their own size: those that fit the other inputs are kept.
            return arrays.filter(lambda array: fits(shape, array.shape, sizes))  # type: ignore[no-any-return]

        def check(array: Array) -> Array:
            if fits(shape, array.shape, sizes):
                return array
            at = ", ".join(f"{axis} = {size}" for axis, size in sizes.items())
            problem = f"an array of shape {array.shape} was drawn where {show(shape)} is expected"
            raise ShapeError(f"{problem} ({at})")

        return arrays.map(check)  # type: ignore[no-any-return]

    def simplest(self, sizes: Mapping[str, int], params: Mapping[str, Any] | None = None) -> Array:
        """The simplest array of the domain at these sizes, such as all zeros."""
        from gradcheck import drawing

        found = drawing.generate(self.strategy(sizes, params), count=1, seed=0)
        if not found:
            at = ", ".join(f"{name} = {size}" for name, size in sizes.items())
            problem = f"{self.describe()} has no array where {at}"
            raise UsageError(problem)
        return found[0]

    def describe(self) -> str:
        """The domain as it is written: `real("m n", 0, 1)`, `constant(positive("n"))`."""
        shape = f'"{" ".join(self.shape)}"'
        if self.kind in ("strategy", "dependent") or self.source is not None:
            named = f"{self.kind} " if self.kind not in ("strategy", "dependent") else ""
            text = f"{named}{shape} by the user's {'function' if self.arguments else 'strategy'}"
        else:
            bounds = "".join(
                f", {name}={short(bound)}"
                for name, bound in (("lo", self.lo), ("hi", self.hi))
                if bound is not None
            )
            below = f", below={self.below!r}".replace("'", '"') if self.below is not None else ""
            text = f"{self.kind}({shape}{bounds}{below})"
        return f"constant({text})" if self._wrapped else text

    @property
    def _wrapped(self) -> bool:
        return self.is_constant and self.kind not in _CONSTANT_KINDS


def _whole(bound: float | None) -> int:
    assert bound is not None
    return int(bound)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names)) or "none"


def _check_known(names: Iterable[str], known: Iterable[str], owner: str) -> None:
    listed = list(known)
    for name in names:
        if name not in listed:
            problem = f"{owner} takes {name!r}, which is neither an axis nor a parameter"
            raise SpecError(problem, hint=f"known are {_listed(listed)}")


# ------------------------------------------------------------ constructors


def real(shape: str, lo: float | None = None, hi: float | None = None) -> Domain:
    """Real numbers, between `lo` and `hi` (both included) where they are given."""
    return Domain("real", parse_shape(shape), *_bounds("real", shape, lo, hi))


def positive(shape: str, lo: float | None = None, hi: float | None = None) -> Domain:
    """Numbers > 0, between `lo` and `hi` (both included) where they are given."""
    low, high = _bounds("positive", shape, lo, hi)
    if low is not None and low < 0:
        problem = f"positive({shape!r}) with lo={lo}: a positive domain starts at 0 or above"
        raise SpecError(problem, hint=f"write real({shape!r}, {lo}, {hi})")
    if high is not None and high <= 0:
        problem = f"positive({shape!r}) with hi={hi} holds nothing"
        raise SpecError(problem, hint="hi must be above 0")
    return Domain("positive", parse_shape(shape), low, high)


def probability(shape: str) -> Domain:
    """Positive numbers that sum to 1 along the last axis."""
    return Domain("probability", _with_last_axis("probability", shape))


def one_hot(shape: str) -> Domain:
    """Rows with a single 1 along the last axis; constant."""
    return Domain("one_hot", _with_last_axis("one_hot", shape), is_constant=True)


def labels(shape: str, below: str | int | None = None) -> Domain:
    """Integers from 0 to below `below`: an axis, a parameter or a number; constant."""
    parsed = parse_shape(shape)
    if below is None:
        problem = f"labels({shape!r}) does not say how many classes there are"
        raise SpecError(problem, hint=f'write labels({shape!r}, below="n") or below=10')
    if isinstance(below, str) and below.isidentifier():
        return Domain("labels", parsed, below=below, is_constant=True)
    if isinstance(below, str) and is_number(below):
        below = int(below)
    if isinstance(below, bool) or not isinstance(below, int | np.integer) or below < 1:
        problem = f"labels({shape!r}, below={below!r}): below is no number of classes"
        raise SpecError(problem, hint="write an axis, a parameter or a whole number from 1 on")
    return Domain("labels", parsed, below=int(below), is_constant=True)


def integers(shape: str, lo: int, hi: int) -> Domain:
    """Integers between `lo` and `hi`, both included; constant."""
    check_integer_bounds(f"integers({shape!r}, {lo!r}, {hi!r})", lo, hi)
    return Domain("integers", parse_shape(shape), lo, hi, is_constant=True)


def mask(shape: str) -> Domain:
    """Zeros and ones, as floats; constant."""
    return Domain("mask", parse_shape(shape), is_constant=True)


def constant(domain: Any) -> Domain:
    """A domain (or what stands for one) with respect to which no derivative is expected."""
    if isinstance(domain, Domain):
        return replace(domain, is_constant=True)
    # Its shape is found by `as_domain`, which knows the axes.
    return Domain("unresolved", (), is_constant=True, source=domain)


def _bounds(
    kind: str, shape: str, lo: float | None, hi: float | None
) -> tuple[float | None, float | None]:
    """Both bounds as floats, checked."""
    called = f"{kind}({shape!r}, lo={lo!r}, hi={hi!r})"
    for bound in (lo, hi):
        if bound is None:
            continue
        if isinstance(bound, bool) or not isinstance(bound, int | float | np.number):
            problem = f"{called}: {bound!r} is no number"
            raise SpecError(problem, hint="bounds are numbers or None")
        if not math.isfinite(bound):
            problem = f"{called}: {bound!r} is no bound"
            raise SpecError(problem, hint="write None for no bound")
    if lo is not None and hi is not None and lo > hi:
        problem = f"{called} holds nothing: lo > hi"
        raise SpecError(problem, hint=f"write lo={hi!r}, hi={lo!r}")
    return None if lo is None else float(lo), None if hi is None else float(hi)


def _with_last_axis(kind: str, shape: str) -> Shape:
    parsed = parse_shape(shape)
    if not parsed or parsed[-1] == DOTS or is_broadcast(parsed[-1]):
        problem = f"{kind}({shape!r}) has no last axis along which its rows run"
        raise SpecError(problem, hint=f'write {kind}("m n") or {kind}("n")')
    return parsed


# ------------------------------------------------------------ what stands for one


def as_domain(
    thing: Any,
    name: str,
    axes: Iterable[str] | None = None,
    params: Mapping[str, Parameter] | None = None,
) -> Domain:
    """A domain, or what a user wrote in its place: a strategy, or a function of sizes.

    Args:
        thing: A domain; a Hypothesis strategy that yields arrays; or a function that takes axis
            sizes and parameters by name and returns a domain or a strategy.
        name: The input's name, for messages and for dimensions that are no axis.
        axes: The axes known from other inputs; None where they are not known.
        params: The parameters of the spec.

    Raises:
        SpecError: If it is neither, or a function takes something that is not known.
    """
    if isinstance(thing, Domain):
        if thing.kind != "unresolved":
            return thing
        return replace(as_domain(thing.source, name, axes, params), is_constant=True)
    if isinstance(thing, str):
        problem = f"input {name!r} is the shape {thing!r}, which does not say where its values live"
        raise SpecError(problem, hint=f'write real("{" ".join(parse_shape(thing))}")')
    if _is_strategy(thing):
        return _from_strategy(thing, name)
    if callable(thing) and not isinstance(thing, type):
        return _from_function(thing, name, axes, params or {})
    problem = f"input {name!r} is {thing!r}, which is no domain"
    raise SpecError(
        problem, hint='write real("m n"), a Hypothesis strategy, or a function of sizes'
    )


def _is_strategy(thing: Any) -> bool:
    from hypothesis.strategies import SearchStrategy

    return isinstance(thing, SearchStrategy)


def _from_strategy(strategy: SearchStrategy[Any], name: str) -> Domain:
    from gradcheck import probing

    drawn = probing.samples(strategy, name)
    shape = probing.dims_of([[array.shape for array in drawn]], [], name)
    return Domain("strategy", shape, is_constant=_integral(drawn), source=strategy)


def _from_function(
    function: Callable[..., Any],
    name: str,
    axes: Iterable[str] | None,
    params: Mapping[str, Parameter],
) -> Domain:
    """The domain of a function of sizes, which is called at two sets of sizes to find its shape."""
    from gradcheck import probing

    taken = probing.arguments_of(function, name, {*(axes or ()), *params})
    probes = probing.probes_for([argument for argument in taken if argument not in params])
    made = []
    for i, probe in enumerate(probes):
        values = {p: params[p].palette()[: i + 1][-1] for p in taken if p in params}
        made.append(probing.call(function, name, {**probe, **values}))
    arguments = tuple((argument, argument) for argument in taken)
    if all(isinstance(m, Domain) for m in made):
        domain = _common_domain(made, probes, name)
    elif all(map(_is_strategy, made)):
        drawn = [probing.samples(m, name, 3) for m in made]
        shape = probing.dims_of([[a.shape for a in arrays] for arrays in drawn], probes, name)
        domain = Domain("dependent", shape, is_constant=_integral(drawn[0]))
    else:
        problem = f"the function of input {name!r} returns {made[0]!r}"
        raise SpecError(problem, hint="it must return a domain or a Hypothesis strategy")
    if axes is not None:
        known = [*axes, *params, *axes_of(domain.shape)]
        _check_known(taken, known, f"the function of input {name!r}")
    return replace(domain, source=function, arguments=arguments)


def _common_domain(made: list[Domain], probes: list[dict[str, int]], name: str) -> Domain:
    """What the domains that a function returns at different sizes have in common."""
    from gradcheck import probing

    first, second = made
    below = probing.common_name([{str(m.below)} for m in made], probes)
    shape = probing.dims_of([[m.shape] for m in made], probes, name)
    return replace(
        first,
        shape=shape,
        lo=first.lo if first.lo == second.lo else None,
        hi=first.hi if first.hi == second.hi else None,
        below=None if below in (None, "None") else _number_or_name(below),
    )


def _number_or_name(text: str) -> str | int:
    return int(text) if is_number(text) else text


def _integral(arrays: Iterable[Array]) -> bool:
    return all(array.dtype.kind == "i" for array in arrays)
