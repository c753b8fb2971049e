"""The scalars that a forward takes by keyword: `number(1e-8, 1e-3)`, `choice("mean", "sum")`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.errors import SpecError

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from gradcheck.drawing import Features


def short(value: float) -> str:
    """A number as a person writes it: `1`, not `1.0`."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


def check_integer_bounds(called: str, lo: Any, hi: Any) -> None:
    """Refuse bounds that are no integers or hold nothing between them."""
    for bound in (lo, hi):
        if isinstance(bound, bool) or not isinstance(bound, int | np.integer):
            problem = f"{called}: {bound!r} is no integer"
            raise SpecError(problem, hint="both bounds are whole numbers, both included")
    if lo > hi:
        problem = f"{called} holds nothing: lo > hi"
        raise SpecError(problem, hint=f"write {hi!r}, {lo!r}")


@dataclass(frozen=True)
class Parameter:
    """A scalar that a forward takes by keyword.

    Attributes:
        kind: "number", "integer" or "choice".
        lo: The lower bound, included.
        hi: The upper bound, included.
        values: What a choice is among.
    """

    kind: str
    lo: float | None = None
    hi: float | None = None
    values: tuple[Any, ...] = ()

    def palette(self, features: Features | None = None) -> tuple[Any, ...]:
        """The values to draw from, the simplest first; with `ends`, only those at the ends."""
        from gradcheck import palettes

        if self.kind == "choice":
            return self.values
        assert self.lo is not None
        assert self.hi is not None
        if features is not None and features.ends:
            return tuple(dict.fromkeys((self.lo, self.hi)))
        if self.kind == "integer":
            return tuple(palettes.integer_palette(int(self.lo), int(self.hi)).tolist())
        return palettes.number_palette(self.lo, self.hi)

    def strategy(self, features: Features | None = None) -> SearchStrategy[Any]:
        """Hypothesis strategy of its values."""
        from hypothesis import strategies as st

        return st.sampled_from(self.palette(features))

    def simplest(self) -> Any:
        """The simplest of its values."""
        return self.palette()[0]

    def describe(self) -> str:
        """The parameter as it is written: `number(1e-08, 0.001)`."""
        if self.kind == "choice":
            return f"choice({', '.join(map(repr, self.values))})"
        return f"{self.kind}({short(self.lo or 0)}, {short(self.hi or 0)})"


def number(lo: float, hi: float) -> Parameter:
    """A number between `lo` and `hi`, both included."""
    for bound in (lo, hi):
        if isinstance(bound, bool) or not isinstance(bound, int | float | np.number):
            problem = f"number({lo!r}, {hi!r}): {bound!r} is no number"
            raise SpecError(problem, hint="write the two ends of its range, number(1e-8, 1e-3)")
        if not math.isfinite(bound):
            problem = f"number({lo!r}, {hi!r}): {bound!r} is no end of a range"
            raise SpecError(problem, hint="write two finite ends")
    if lo > hi:
        problem = f"number({lo!r}, {hi!r}) holds nothing: lo > hi"
        raise SpecError(problem, hint=f"write number({hi!r}, {lo!r})")
    return Parameter("number", float(lo), float(hi))


def integer(lo: int, hi: int) -> Parameter:
    """An integer between `lo` and `hi`, both included."""
    check_integer_bounds(f"integer({lo!r}, {hi!r})", lo, hi)
    return Parameter("integer", int(lo), int(hi))


def choice(*values: Any) -> Parameter:
    """One of the values, the simplest first: `choice("mean", "sum")`."""
    if not values:
        problem = "choice() has no values"
        raise SpecError(problem, hint='write choice("mean", "sum")')
    if len(values) == 1 and isinstance(values[0], list | tuple | set):
        written = ", ".join(map(repr, values[0]))
        problem = f"choice({values[0]!r}) is a choice of one value, a {type(values[0]).__name__}"
        raise SpecError(problem, hint=f"write choice({written})")
    return Parameter("choice", values=values)


def as_parameter(thing: Any, name: str) -> Parameter:
    """What stands for a parameter in a spec, checked.

    Raises:
        SpecError: If it is no parameter; the hint says what to write.
    """
    if isinstance(thing, Parameter):
        return thing
    problem = f"parameter {name!r} is {thing!r}, not a range or a choice"
    hint = f'write {name}: number(lo, hi), integer(lo, hi) or choice("a", "b")'
    if isinstance(thing, bool | str):
        hint = f"write choice({thing!r}, ...) with its other values"
    elif isinstance(thing, int | float):
        hint = f"write number({thing!r}, {thing!r}) for a fixed value, or the range it may take"
    elif hasattr(thing, "shape"):
        hint = "an array is an input; a parameter is a scalar: number(lo, hi)"
    elif isinstance(thing, tuple) and len(thing) == 2:
        hint = f"write number({thing[0]!r}, {thing[1]!r})"
    raise SpecError(problem, hint=hint)
