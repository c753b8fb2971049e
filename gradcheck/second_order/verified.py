"""What `verify` judges of second derivatives: operations that keep what runs beside what is derived.

`hessian` and `hvp` run closed forms, with relations of domains used. What is differentiated and compared
with oracles is the product rule as it comes; a proof of it is one of what runs only if the two are equal.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradcheck.operation import Operation

if TYPE_CHECKING:
    from gradcheck.algebra.terms import Expression


@dataclass(frozen=True)
class Simplified:
    """One closed form and what it was simplified from.

    Attributes:
        what: Whose value both are: "∂²L/∂w∂b", or a step's target.
        derived: As the product rule gives it.
        runs: The closed form that is compiled.
    """

    what: str
    derived: Expression
    runs: Expression

    def asks_more(self) -> list[str]:
        """What the closed form divides by, or takes a root or logarithm of, and the derived one does not.

        Two forms that are equal wherever both are defined are no proof of the one that is defined less.
        """
        return sorted(_singular(self.runs) - _singular(self.derived))


def _singular(expression: Expression) -> set[str]:
    """The operands, or functions of them, that stand under a quotient, a root or a logarithm."""
    found = set()
    for factor in (f for t in expression.terms for f in t.factors):
        if factor.function in ("log", "sqrt"):
            found.add(f"{factor.function}({factor.name})")
        if factor.power < 0 or factor.power.denominator != 1:
            found.add(f"{factor.function}({factor.name})" if factor.function else factor.name)
    return found


class SecondOrder(Operation):
    """A first derivative as an operation, so that whatever verifies derivatives verifies second ones.

    Attributes:
        of: The spec or chain of which it is a derivative.
        output: What is differentiated once more.
    """

    of: Operation
    output: str

    @abstractmethod
    def simplified(self, name: str, rank: int = 0) -> list[Simplified]:
        """The closed forms that run for the derivative of `output` in an input, in their order.

        Args:
            name: The input.
            rank: The number of leading axes.
        """

    @abstractmethod
    def as_it_runs(self) -> SecondOrder:
        """The same with the closed forms for claims: it is right where `simplified` is."""
