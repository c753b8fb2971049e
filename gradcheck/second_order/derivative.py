"""The claimed first derivative as an operation of its own, whose derivative is the second one.

Its forward runs the operation and then the claimed ∂o/∂v; its Jacobian is the Hessian. Every oracle that
differentiates a forward thereby judges second derivatives too. It also keeps the claim ∂o/∂v itself: that
and the derivative of it, together, say that the Hessian is that of o.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gradcheck.algebra.compose import lift, relabel
from gradcheck.algebra.shapes import DOTS, at_rank, leading_axes, rank_in
from gradcheck.algebra.terms import free_alphabet
from gradcheck.errors import UsageError
from gradcheck.operation import Claim
from gradcheck.second_order import written
from gradcheck.second_order.rules import closed_second, second
from gradcheck.second_order.verified import SecondOrder, Simplified

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradcheck.algebra.shapes import Shape
    from gradcheck.algebra.terms import Expression
    from gradcheck.operation import Operation


class Derivative(SecondOrder):
    """∂o/∂v as it is claimed, with its derivatives in chosen inputs.

    Args:
        of: A spec or a chain.
        first: The input v of the first derivative.
        names: The inputs of the second derivatives.
        runs: Whether they are claimed in the closed form that runs, not as the product rule gives them.

    Raises:
        UsageError: Where a derivative that is needed is claimed nowhere.
    """

    def __init__(
        self, of: Operation, first: str, names: tuple[str, ...], *, runs: bool = False
    ) -> None:
        self.of, self.first, self.names, self.runs = of, first, names, runs
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
        rule = closed_second if self.runs else second
        return rule(self.of, self.first, name, 0) if name in self.names else None

    def derivative(self, output: str, name: str, rank: int = 0) -> Expression:
        """The same with `rank` leading axes; they stand once in front, for the result and for v."""
        if not (self.runs and rank and output == self.output and name in self.names):
            return super().derivative(output, name, rank)
        ran = closed_second(self.of, self.first, name, rank)
        start, stop = self._repeated(rank)
        return replace(ran, output=(*ran.output[:start], *ran.output[stop:]), title=())

    def _repeated(self, rank: int) -> tuple[int, int]:
        """Which letters of ∂²o/∂v∂name are the leading axes of v, which those of o stand for here."""
        start = len(at_rank(self.of.shapes[self.of.result], rank))
        return start, start + (rank if self.first in self.of.dotted else 0)

    def simplified(self, name: str, rank: int = 0) -> list[Simplified]:
        """The closed form of ∂²o/∂v∂name."""
        what = f"∂²{self.of.result}/∂{self.first}∂{name}"
        runs = closed_second(self.of, self.first, name, rank)
        derived = second(self.of, self.first, name)
        claim = lift(
            derived, self._letters(), leading_axes(rank), self.dotted, of=self.output, to=name
        )
        return [Simplified(what, relabel(self._in_full(claim, rank), runs.output), runs)]

    def _letters(self) -> int:
        """The number of letters of ∂o/∂v of one slice."""
        return len(at_rank(self.shapes[self.output], 0))

    def _in_full(self, claim: Expression, rank: int) -> Expression:
        """The claim with the leading axes of v as well: a delta joins them and those of the result."""
        start, stop = self._repeated(rank)
        used = {s for t in claim.terms for s in (*t.letters(), *t.axes)} | set(claim.output)
        own = tuple(s for s, _ in zip(free_alphabet(used), range(stop - start), strict=False))
        pairs = tuple(zip(claim.output, own, strict=False))
        axes = dict(zip(own, leading_axes(rank), strict=False))
        terms = tuple(
            replace(t, deltas=(*pairs, *t.deltas), axes={**t.axes, **axes}) for t in claim.terms
        )
        output = (*claim.output[:start], *own, *claim.output[start:])
        return replace(claim, output=output, terms=terms, title=())

    def as_it_runs(self) -> Derivative:
        """The Hessian in the closed form that `hessian` runs."""
        return Derivative(self.of, self.first, self.names, runs=True)

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
