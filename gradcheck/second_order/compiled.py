"""`hessian` and `hvp`: second derivatives on numpy, torch and JAX arrays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gradcheck.algebra.shapes import at_rank, rank_in
from gradcheck.errors import UsageError
from gradcheck.evaluation import Bindings, evaluate
from gradcheck.second_order.derivative import Derivative
from gradcheck.second_order.directional import Directional
from gradcheck.second_order.products import Step, run, steps
from gradcheck.second_order.rules import check_product, closed_second, second

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradcheck.algebra.terms import Expression
    from gradcheck.compiling.compiled import Compiled
    from gradcheck.operation import Operation


@dataclass(frozen=True)
class Hessian:
    """∂²result/∂first∂name, ready to be called on arrays; made by `operation.hessian(first, name)`.

    Attributes:
        operation: The spec or chain.
        first: The input of the first derivative.
        name: The input of the second one.
    """

    operation: Operation
    first: str
    name: str

    def __post_init__(self) -> None:
        second(self.operation, self.first, self.name)

    @property
    def expression(self) -> Expression:
        """The Hessian of one slice in closed form: letters of the result, of `first`, of `name`."""
        return self._closed(0)

    def _closed(self, rank: int) -> Expression:
        return closed_second(self.operation, self.first, self.name, rank)

    def conditions(self) -> list[str]:
        """What must not be zero for it to hold: a step has no derivative at 0."""
        return second(self.operation, self.first, self.name).conditions()

    def __call__(self, /, **values: Any) -> Any:
        """An array of shape result + first + name.

        Args:
            **values: An array for each input and a number for each parameter.

        Raises:
            UsageError: For a name that is unknown or missing.
            ShapeError: For arrays that do not fit the axes.
        """
        return self._program(**values)

    @cached_property
    def _program(self) -> Compiled:
        return self.operation._compiled("hessian", (self.first, self.name), None)

    @property
    def source(self) -> str:
        """The program of the last call as text; before any, NumPy's at small sizes."""
        return self._program.source

    def as_operation(self) -> Derivative:
        """∂result/∂first with this Hessian as its derivative: what `verify` takes."""
        return Derivative(self.operation, self.first, (self.name,))

    def evaluated(self, bindings: Bindings, ops: Any) -> Any:
        """The Hessian on arrays that are bound already, error-carrying ones for example."""
        return evaluate(self._closed(rank_in(bindings.sizes)), bindings, ops)

    def __str__(self) -> str:
        expression = self.expression
        result = len(at_rank(self.operation.shapes[self.operation.result], 0))
        middle = result + len(at_rank(self.operation.shapes[self.first], 0))
        parts = (
            (f"∂²{self.operation.result}", expression.output[:result]),
            (f"∂{self.first}", expression.output[result:middle]),
            (f"∂{self.name}", expression.output[middle:]),
        )
        above, *below = (f"{n}[{','.join(s)}]" if s else n for n, s in parts)
        lines = [f"{above}/{''.join(below)} = {expression}"]
        lines += [f"  wherever {c}" for c in self.conditions()]
        return "\n".join(lines)

    def latex(self) -> str:
        """The right-hand side as LaTeX."""
        return self.expression.latex()

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.latex()}$"


@dataclass(frozen=True)
class Hvp:
    """Products of the Hessian of a scalar result and a tangent; made by `operation.hvp("w")`.

    The Hessian is never formed: a product costs a small multiple of the gradient.

    Attributes:
        operation: The spec or chain.
        names: The inputs that move; the product has an entry for each.
    """

    operation: Operation
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        check_product(self.operation, self.names)

    def __call__(self, /, *tangents: Any, **values: Any) -> dict[str, Any]:
        """Σ over the named inputs v of ∂²result/∂u∂v · tangent of v, for each named input u.

        Args:
            *tangents: One array, or a dict with one for each named input.
            **values: An array for each input and a number for each parameter.

        Raises:
            UsageError: For names that are unknown or missing, and for tangents that are no dict where
                several inputs are named.
            ShapeError: For arrays that do not fit.
        """
        given = self._given(tangents)
        found: dict[str, Any] = self._program(*(given[n] for n in self.names), **values)
        return found

    @cached_property
    def _program(self) -> Compiled:
        return self.operation._compiled("hvp", self.names, None)

    @property
    def source(self) -> str:
        """The program of the last call as text; before any, NumPy's at small sizes."""
        return self._program.source

    def _given(self, tangents: tuple[Any, ...]) -> Mapping[str, Any]:
        named = ", ".join(f'"{n}": ...' for n in self.names)
        if len(tangents) != 1:
            raise UsageError(
                "hvp takes the tangent as its positional argument, the inputs by name: "
                + ("hvp(tangent, x=...)" if len(self.names) == 1 else f"hvp({{{named}}}, x=...)")
            )
        (given,) = tangents
        if not isinstance(given, dict):
            if len(self.names) > 1:
                raise UsageError(f"this hvp moves several inputs: give a dict {{{named}}}")
            return {self.names[0]: given}
        if set(given) != set(self.names):
            found = ", ".join(map(str, given)) or "nothing"
            raise UsageError(f"the tangents are for {found}; this hvp takes {{{named}}}")
        return given

    def as_operation(self) -> Directional:
        """The change of the result along tangents, with this product as its derivative: for `verify`."""
        return Directional(self.operation, self.names)

    def evaluated(self, bindings: Bindings, ops: Any, moving: Mapping[str, Any]) -> dict[str, Any]:
        """The product on arrays that are bound already, error-carrying ones for example."""
        rank = rank_in(bindings.sizes)
        program = steps(self.operation, self.names, rank)
        return run(program, self.operation, bindings, ops, moving, rank)

    @property
    def steps(self) -> tuple[Step, ...]:
        """What it computes for one slice, step by step, as text that can be read."""
        return steps(self.operation, self.names, 0)


def hvp(operation: Operation, names: tuple[str, ...]) -> Hvp:
    """Products of the Hessian of a scalar result with tangents.

    Raises:
        UsageError: Where the result is no scalar, or a derivative is claimed nowhere.
    """
    if operation.outputs[operation.result]:
        shape = " ".join(operation.outputs[operation.result])
        raise UsageError(
            f"{operation.name} gives {operation.result} of shape {shape!r}; a Hessian-vector product needs a "
            "scalar. Use .hessian(...) for all second derivatives"
        )
    return Hvp(operation, names or operation.differentiable)
