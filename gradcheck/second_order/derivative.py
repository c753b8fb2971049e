"""The claimed first derivative as an operation of its own, whose derivative is the second one.

Its forward runs the operation and then the claimed ∂o/∂v; its Jacobian is the Hessian. Every oracle that
differentiates a forward thereby judges second derivatives too. It also keeps the claim ∂o/∂v itself: that
and the derivative of it, together, say that the Hessian is that of o.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradcheck.algebra.compose import lift
from gradcheck.algebra.shapes import DOTS, at_rank, leading_axes, rank_in
from gradcheck.errors import UsageError
from gradcheck.operation import Claim, Operation
from gradcheck.second_order import written
from gradcheck.second_order.rules import second

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradcheck.algebra.shapes import Shape
    from gradcheck.algebra.terms import Expression


class Derivative(Operation):
    """∂o/∂v as it is claimed, with its derivatives in chosen inputs.

    Args:
        of: A spec or a chain.
        first: The input v of the first derivative.
        names: The inputs of the second derivatives.

    Raises:
        UsageError: Where a derivative that is needed is claimed nowhere.
    """

    def __init__(self, of: Operation, first: str, names: tuple[str, ...]) -> None:
        self.of, self.first, self.names = of, first, names
        expression = of.derivative(of.result, first)
        self.output = f"∂{of.result}/∂{first}"
        for name in names:
            second(of, first, name)
        self.name = f"{self.output} of {of.name}"
        self.inputs, self.params, self.one_hot = of.inputs, of.params, of.one_hot
        self.where, self.native, self.location = of.where, {}, None
        self.source = "the product rule on the claimed first derivative"
        self.doc = f"The claimed {expression}, differentiated once more."
        self.outputs = {self.output: self._shape(), of.result: of.shapes[of.result]}
        self.shapes = {**of.shapes, self.output: self._shape()}

    def _shape(self) -> Shape:
        result, first = self.of.shapes[self.of.result], self.of.shapes[self.first]
        return (*result, *(d for d in first if d != DOTS))

    def claims(self) -> list[Claim]:
        """The second derivatives, and the first one on which they rest."""
        found = [Claim(self.output, name, "jacobian", name) for name in self.names]
        result = self.of.result
        return [*found, Claim(result, self.first, "jacobian", f"{result}, {self.first}")]

    def slice_derivative(self, output: str, name: str) -> Expression | None:
        """∂²o/∂v∂name of one slice, or what the operation itself claims."""
        if output != self.output:
            return self.of.slice_derivative(output, name)
        return second(self.of, self.first, name) if name in self.names else None

    def environment(self, xp: Any, values: Mapping[str, Any]) -> dict[str, Any]:
        """Everything that the operation computes, and its claimed first derivative."""
        known = self.of.environment(xp, values)
        rank = rank_in(self.sizes_of(values))
        whole = {n for n, d in self.inputs.items() if d.kind in ("integers", "labels")}
        shapes = {n: at_rank(shape, rank) for n, shape in self.of.shapes.items()}
        operands = written.Operands(known, shapes, self.one_hot, frozenset(whole))
        return {**known, self.output: written.run(self._expression(rank), operands, xp)}

    def _expression(self, rank: int) -> Expression:
        """The first derivative of each slice by its own input: leading axes stand once, in front."""
        result = self.of.result
        expression = self.of.derivative(result, self.first)
        split = len(at_rank(self.of.shapes[result], 0))
        return lift(expression, split, leading_axes(rank), self.of.dotted, of=result, to="")

    def __repr__(self) -> str:
        return f"<Derivative {self.name}>"


def second_order(operation: Operation, *names: str) -> Derivative:
    """∂o/∂first as an operation: `verify` it to verify the Hessian in every other input named.

    Args:
        operation: A spec or a chain.
        *names: The input of the first derivative, then those of the second (all, if none is named).

    Raises:
        UsageError: Without a name, and where a derivative that is needed is claimed nowhere.
    """
    if not names:
        raise UsageError(
            f'name the input of the first derivative: {operation.name}.second_order("'
            f'{next(iter(operation.differentiable), "x")}")'
        )
    first, *rest = names
    return Derivative(operation, first, tuple(dict.fromkeys(rest)) or operation.differentiable)
