"""The finitely many cases of a claim: a rank, broadcast axes of size one, the values of choices.

Sizes are no cases: one run stands for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from gradcheck.algebra.canonical.undecided import Undecided
from gradcheck.algebra.shapes import DOTS, is_broadcast

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradcheck.operation import Operation
    from gradcheck.parameters import Parameter

RANKS = (0, 1, 2)
MOST_CASES = 24


@dataclass(frozen=True)
class Case:
    """One of the cases.

    Attributes:
        rank: The number of leading axes that `...` stands for.
        single: The axes `n` of `#n` that have size 1 here.
        params: The value of each choice.
    """

    rank: int
    single: frozenset[str]
    params: tuple[tuple[str, Any], ...]

    def words(self) -> str:
        """How a statement names it."""
        parts = [f"{n} = {v!r}" for n, v in self.params]
        parts += [f"{a} of size 1" for a in sorted(self.single)]
        return ", ".join(parts)


def cases(operation: Operation) -> list[Case]:
    """Every case of an operation.

    Raises:
        Undecided: Where there are too many of them.
    """
    found = list(_cases(operation))
    if len(found) > MOST_CASES:
        raise Undecided(f"{len(found)} combinations of choices are too many to prove each")
    return found


def _cases(operation: Operation) -> Iterator[Case]:
    dotted = any(DOTS in s for s in operation.shapes.values())
    broadcast = sorted({a for s in operation.shapes.values() for a in s if is_broadcast(a)})
    choices = {n: _values(n, p) for n, p in operation.params.items() if p.kind != "number"}
    for rank in RANKS if dotted else (0,):
        for singles in product((False, True), repeat=len(broadcast)):
            single = frozenset(a for a, one in zip(broadcast, singles, strict=True) if one)
            for values in product(*choices.values()):
                yield Case(rank, single, tuple(zip(choices, values, strict=True)))


def _values(name: str, parameter: Parameter) -> tuple[Any, ...]:
    """The values of a choice or of a short range of integers."""
    if parameter.kind == "choice":
        return parameter.values
    low, high = int(parameter.lo or 0), int(parameter.hi or 0)
    if high - low >= MOST_CASES:
        raise Undecided(f"the parameter {name} has too many values to prove each")
    return tuple(range(low, high + 1))
