"""The change of a scalar result along tangents as an operation, whose derivative is the product `hvp` gives.

With t(L) = Σ_v ∂L/∂v · t(v), a sum over the inputs v that move, ∂t(L)/∂w is the Hessian in w times the
tangents. Its operands are the targets of the steps, so that it is claimed as it is computed: by the last
step, over what the steps before it made.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from gradcheck.algebra.shapes import at_rank, rank_in
from gradcheck.algebra.terms import Expression, Term, free_alphabet
from gradcheck.domains import Domain
from gradcheck.errors import UsageError
from gradcheck.operation import Claim
from gradcheck.second_order import written
from gradcheck.second_order.products import derived_steps, ends, needed, slice_shapes, steps
from gradcheck.second_order.rules import along, check_product, tangent
from gradcheck.second_order.verified import SecondOrder, Simplified

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradcheck.compiling.compiled import Compiled
    from gradcheck.operation import Operation
    from gradcheck.second_order.products import Step


class Directional(SecondOrder):
    """t(L) = Σ_v ∂L/∂v · t(v) as the gradient is claimed, with its derivatives in each v.

    Args:
        of: A spec or a chain with a scalar result.
        names: The inputs that move.
        runs: Whether the steps are the closed forms that run, not as the product rule gives them.

    Raises:
        UsageError: Where a derivative that is needed is claimed nowhere.
    """

    def __init__(self, of: Operation, names: tuple[str, ...], *, runs: bool = False) -> None:
        check_product(of, names)
        self.of, self.names, self.runs = of, names, runs
        self.output = tangent(of.result)
        moving = {tangent(n): Domain("real", of.inputs[n].shape) for n in names}
        self.name = f"{self.output} of {of.name} along {', '.join(moving)}"
        self.inputs, self.params, self.one_hot = {**of.inputs, **moving}, of.params, of.one_hot
        self.where, self.native, self.location = of.where, {}, None
        self.source = "the product rule on the claimed gradient, link by link"
        self.doc = "The claimed gradient along tangents, differentiated once more."
        self.outputs = {self.output: (), of.result: of.shapes[of.result]}
        self.shapes = slice_shapes(of)

    def claims(self) -> list[Claim]:
        """The products, and the gradients on which they rest."""
        result = self.of.result
        found = [Claim(self.output, n, "jacobian", n) for n in self.names]
        return [*found, *(Claim(result, n, "jacobian", f"{result}, {n}") for n in self.names)]

    def derivative(self, output: str, name: str, rank: int = 0) -> Expression:
        """What the last step computes, or what the operation itself claims."""
        if output != self.output or name not in self.names:
            return self.of.derivative(output, name, rank)
        target = ends(self.of, self.names)[name]
        found = next((s.expression for s in self._steps(rank) if s.target == target), None)
        return self._titled(found or self._nothing(name, rank), name)

    def slice_derivative(self, output: str, name: str) -> Expression | None:
        """The same for one slice."""
        if output != self.output:
            return self.of.slice_derivative(output, name)
        return self.derivative(output, name) if name in self.names else None

    def _titled(self, expression: Expression, name: str) -> Expression:
        title = ((self.output, 0), (name, len(expression.output)))
        return Expression(expression.output, expression.terms, title, expression.relations)

    def _nothing(self, name: str, rank: int) -> Expression:
        """No step ends there: the result is linear in all that moves."""
        axes = dict(zip(free_alphabet(()), at_rank(self.of.shapes[name], rank), strict=False))
        return Expression(tuple(axes), (Term(Fraction(0), axes=axes),))

    def _steps(self, rank: int) -> tuple[Step, ...]:
        make = steps if self.runs else derived_steps
        return make(self.of, self.names, rank)

    def simplified(self, name: str, rank: int = 0) -> list[Simplified]:
        """Each step that the product for an input needs."""
        derived = {s.target: s.expression for s in derived_steps(self.of, self.names, rank)}
        program = needed(steps(self.of, self.names, rank), {ends(self.of, self.names)[name]})
        return [Simplified(s.target, derived[s.target], s.expression) for s in program]

    def as_it_runs(self) -> Directional:
        """The product in the closed steps that `hvp` runs."""
        return Directional(self.of, self.names, runs=True)

    def environment(self, xp: Any, values: Mapping[str, Any]) -> dict[str, Any]:
        """Everything that the operation computes, the target of each step, and t(L)."""
        own = {n: values[n] for n in (*self.of.inputs, *self.of.params)}
        known = {**values, **self.of.environment(xp, own)}
        rank = rank_in(self.sizes_of(values))
        shapes = {n: at_rank(shape, rank) for n, shape in self.shapes.items()}
        whole = {n for n, d in self.inputs.items() if d.kind in ("integers", "labels")}
        operands = written.Operands(known, shapes, self.one_hot, frozenset(whole))
        for step in self._steps(rank):
            known[step.target] = written.run(step.expression, operands, xp)
        known[self.output] = written.run(self._change(rank), operands, xp)
        return known

    def _compiled(self, *_: object) -> Compiled:
        """No program: names such as `t(w)` are no arguments of a function.

        Raises:
            UsageError: Always, naming what computes the products.
        """
        named = ", ".join(f'"{n}"' for n in self.names)
        raise UsageError(
            f"{self.name} is there to be verified; for products on arrays call {self.of.name}'s "
            f"hvp({named})(tangent, ...)"
        )

    def _change(self, rank: int) -> Expression:
        """Σ_v Σ over its letters of ∂L/∂v t(v), made once for each rank."""
        cache: dict[int, Expression] = self.__dict__.setdefault("_changes", {})
        if rank not in cache:
            slopes = ((n, self.of.derivative(self.of.result, n, rank)) for n in self.names)
            changes = [along(slope, n, 0) for n, slope in slopes]
            cache[rank] = Expression((), tuple(t for change in changes for t in change.terms))
        return cache[rank]

    def __repr__(self) -> str:
        return f"<Directional {self.name}>"
