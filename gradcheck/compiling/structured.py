"""A Jacobian without its zeros: its operands, and programs for its products with vectors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gradcheck.algebra.compose import jvp_of, vjp_of
from gradcheck.algebra.shapes import at_rank
from gradcheck.compiling.contraction import Piece
from gradcheck.compiling.lowering import dense
from gradcheck.compiling.making import Made, Maker
from gradcheck.compiling.programs import Builder, compiled_source, kinds_of
from gradcheck.errors import ShapeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gradcheck.algebra.terms import Expression
    from gradcheck.operation import Operation

_VECTOR = "vector"


class Products:
    """The programs that a structured Jacobian runs on its operands, each made when it is asked for.

    Attributes:
        builder: What makes them.
        expression: The Jacobian.
        split: The number of letters of the output; the rest are the input's.
        shape: The sizes of all letters.
    """

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self.expression = builder.expression()
        rank, operation = builder.rank, builder.operation
        self.split = len(at_rank(operation.shapes[builder.request.output], rank))
        axes, sizes = self.expression.terms[0].axes, builder.setting.sizes
        self.shape = tuple(
            int(axes[s]) if axes[s].isdigit() else sizes[axes[s]] for s in self.expression.output
        )
        self._known: dict[Any, Callable[..., Any]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        builder = self.builder
        return _products, (builder.operation, builder.request, builder.setting)

    def run(self, what: str, operands: Mapping[str, Any], *vector: Any) -> Any:
        """One product (or the dense array) of the operands."""
        backend = self.builder.setting.backend
        arrays = (v for v in operands.values() if hasattr(v, "shape"))
        writes = backend.can_write(*arrays, *vector)
        if (what, writes) not in self._known:
            self._known[what, writes] = self._compiled(what, operands, writes=writes)
        return self._known[what, writes](*vector, *operands.values())

    def _expression(self, what: str) -> tuple[Expression, tuple[str, ...]]:
        """The expression of a product, and the axes of its vector."""
        rows, columns = self.expression.output[: self.split], self.expression.output[self.split :]
        axes = self.expression.terms[0].axes
        if what == "rows":
            return vjp_of(self.expression, _VECTOR, self.split), tuple(axes[s] for s in rows)
        if what == "columns":
            found = jvp_of(self.expression, _VECTOR, self.split)
            return found, tuple(axes[s] for s in columns)
        return self.expression, ()

    def _compiled(
        self, what: str, operands: Mapping[str, Any], *, writes: bool
    ) -> Callable[..., Any]:
        builder = self.builder
        setting = builder.setting
        expression, axes = self._expression(what)
        graph, nodes = builder.opaque(kinds_of(operands, setting.backend))
        scope = builder.scope(graph, nodes, late=True)
        given = list(operands)
        if axes:
            name = f"d({_VECTOR})"
            shape = tuple(scope.extent(a) for a in axes)
            scope.operands[name] = Piece(graph.input(_VECTOR, shape, setting.dtype))
            scope.shapes[name] = axes
            given = [_VECTOR, *given]
        lines, (name,) = builder.function(graph, {"": dense(expression, scope)}, writes=writes)
        lines = [f"def {what}({', '.join(given)}):", *lines, f"return {name}"]
        space = Maker(builder.operation, builder.request).space(builder, graph)
        function = compiled_source("\n    ".join(lines) + "\n", what, space)
        found: Callable[..., Any] = setting.backend.bare_results(setting.backend.jitted(function))
        return found


def _products(operation: Operation, request: Any, setting: Any) -> Products:
    return Products(Builder(operation, request, setting))


@dataclass(frozen=True, eq=False)
class Structured:
    """A Jacobian without its zeros: the arrays that it is made of, with its deltas kept as letters.

    Attributes:
        operands: The arrays that the derivative mentions, by name.
        products: What multiplies with it.
    """

    operands: dict[str, Any]
    products: Products

    # NumPy would otherwise take `v @ structured` entry by entry.
    __array_ufunc__ = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the dense array."""
        return self.products.shape

    @property
    def split(self) -> int:
        """The number of output axes; the rest are the input's."""
        return self.products.split

    def dense(self) -> Any:
        """The whole array, zeros included."""
        return self._run("dense")

    def __matmul__(self, tangent: Any) -> Any:
        """J · v: an array of the input's shape to one of the output's."""
        return self._run("columns", self._checked(tangent, self.shape[self.split :]))

    def __rmatmul__(self, cotangent: Any) -> Any:
        """Vᵀ · J: an array of the output's shape to one of the input's."""
        return self._run("rows", self._checked(cotangent, self.shape[: self.split]))

    def _checked(self, vector: Any, expected: tuple[int, ...]) -> Any:
        setting = self.products.builder.setting
        with setting.backend.widths(setting.dtype):
            vector = setting.backend.asarray(vector, setting.dtype, setting.device)
        if tuple(vector.shape) != expected:
            msg = f"the vector has shape {tuple(vector.shape)}; this Jacobian takes {expected}"
            raise ShapeError(msg)
        return vector

    def _run(self, what: str, *vector: Any) -> Any:
        setting = self.products.builder.setting
        with setting.backend.widths(setting.dtype):
            return self.products.run(what, self.operands, *vector)

    def __repr__(self) -> str:
        return f"<Structured {self.products.expression}, shape {self.shape}>"


def structured(
    made: Made,
    operation: Operation,
    request: Any,
    operands: dict[str, Any],
    sizes: Mapping[str, int],
) -> Structured:
    """The result of a program that gives the operands; one program may have run at other sizes, too."""
    known: dict[Any, Products] = made.kept.setdefault("products", {})
    key = tuple(sizes.items())
    if key not in known:
        known[key] = _products(operation, request, replace(made.setting, sizes=sizes))
    return Structured(operands, known[key])
