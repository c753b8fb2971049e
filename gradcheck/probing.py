"""Finding the static shape of a user's own strategy or function of sizes, by trying it.

A function is called at two sets of pairwise distinct sizes: a dimension is an argument if it equals
it both times, a number if it stays the same, and otherwise a dimension without a name, `?x0`.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from gradcheck.drawing import as_array, generate
from gradcheck.errors import GradcheckError, SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from hypothesis.strategies import SearchStrategy
    from numpy.typing import NDArray

    Probe = Mapping[str, int]

# n + 1 must not be taken for the next argument: the sizes of the second row do not grow alike.
_ROWS = ((2, 3, 5, 7, 11, 13, 17, 19), (5, 4, 3, 6, 9, 8, 11, 10))
# So many draws show whether the arrays of a plain strategy vary in shape.
_DRAWS = 12


def probes_for(arguments: Sequence[str]) -> list[dict[str, int]]:
    """The two sets of sizes at which a function of these arguments is tried."""
    if len(arguments) > len(_ROWS[0]):
        problem = f"a function of {len(arguments)} sizes; at most {len(_ROWS[0])} are understood"
        raise SpecError(problem, hint="split the input")
    return [dict(zip(arguments, row, strict=False)) for row in _ROWS]


def arguments_of(function: Callable[..., Any], name: str, known: Iterable[str]) -> list[str]:
    """The names of the sizes and parameters that a function takes.

    What has a default is only passed where it is known as an axis or a parameter.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        problem = f"input {name!r} is {function!r}, whose arguments cannot be read"
        raise SpecError(problem, hint=f'write "{name}": lambda n: ...') from None
    listed, taken = set(known), []
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.kind is parameter.POSITIONAL_ONLY:
            problem = f"the function of input {name!r} takes {parameter.name!r} by position only"
            raise SpecError(problem, hint="its arguments are passed by name")
        if parameter.default is parameter.empty or parameter.name in listed:
            taken.append(parameter.name)
    return taken


def call(function: Callable[..., Any], name: str, values: Mapping[str, Any]) -> Any:
    """What a function of sizes returns; a failure names the input and the sizes."""
    try:
        return function(**values)
    except GradcheckError:
        raise
    except (Exception, SystemExit) as error:
        at = ", ".join(f"{argument} = {value}" for argument, value in values.items())
        problem = f"the function of input {name!r} raised {type(error).__name__} at {at}: {error}"
        hint = "it must return a domain or a Hypothesis strategy for all sizes"
        raise SpecError(problem, hint=hint) from error


def samples(strategy: SearchStrategy[Any], name: str, count: int = _DRAWS) -> list[NDArray[Any]]:
    """A few arrays of a strategy, the simplest first."""
    drawn = generate(strategy, count, seed=0)
    if not drawn:
        problem = f"the strategy of input {name!r} yields nothing"
        raise SpecError(problem, hint="its filters exclude everything, or its arrays are too large")
    return [as_array(value, "float64") for value in drawn]


def dims_of(shapes: Sequence[Sequence[tuple[Any, ...]]], probes: Sequence[Probe], name: str) -> Any:
    """The dimensions that shapes seen at each probe have in common, as strings.

    Args:
        shapes: For each probe, the shapes that were seen; entries are numbers or names.
        probes: The sizes of each probe; none for a plain strategy.
        name: The input's name.
    """
    ranks = {len(shape) for seen in shapes for shape in seen}
    if len(ranks) > 1:
        listed = " and ".join(map(str, sorted(ranks)))
        problem = f"input {name!r} has arrays of ranks {listed}"
        raise SpecError(problem, hint="its rank must be fixed")
    return tuple(
        common_name([{str(shape[i]) for shape in seen} for seen in shapes], probes) or f"?{name}{i}"
        for i in range(ranks.pop())
    )


def common_name(seen: Sequence[set[str]], probes: Sequence[Probe]) -> str | None:
    """What one dimension is: an argument, a number or a name; None where it varies otherwise."""
    if any(len(values) > 1 for values in seen):
        return None
    found = [next(iter(values)) for values in seen]
    for argument in probes[0] if probes else ():
        if found == [str(probe[argument]) for probe in probes]:
            return argument
    return found[0] if len(set(found)) == 1 else None
