"""What a spec and a chain have in common: inputs, outputs, derivatives, and their evaluation.

An operation knows its derivatives as expressions for one slice; `derivative(..., rank=k)` adds k
leading axes where shapes have `...`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gradcheck.algebra.compose import jvp_of, lift, vjp_of
from gradcheck.algebra.relations import Relation
from gradcheck.algebra.shapes import (
    DOTS,
    Shape,
    at_rank,
    axes_of,
    infer_sizes,
    leading_axes,
    rank_in,
)
from gradcheck.algebra.terms import as_fraction
from gradcheck.algebra.text import equation
from gradcheck.errors import SpecError, TooManyTerms, UsageError
from gradcheck.evaluation import Bindings, evaluate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from gradcheck.algebra.terms import Expression
    from gradcheck.chain import Chain
    from gradcheck.compiling.compiled import Compiled
    from gradcheck.domains import Domain, Parameter
    from gradcheck.errors import Location
    from gradcheck.second_order import Derivative, Hessian, Hvp


@dataclass(frozen=True)
class Claim:
    """A derivative that is to be verified.

    Attributes:
        output: The name of the differentiated output.
        input: The name of the input.
        form: "jacobian", "vjp" or "chain": how it was claimed; "missing" where nothing was.
        label: How reports name it: the input, preceded by the output where that is a residual.
    """

    output: str
    input: str
    form: str
    label: str


class Operation(ABC):
    """A spec or a chain.

    Attributes:
        name: The variable's name, or the text of a chain.
        inputs: The domain of each input, in order.
        params: The scalar parameters.
        outputs: The shape of each output; the first is the result, the others are residuals.
        shapes: The shape of everything that may be an operand.
        one_hot: For integer labels, the axis of their one-hot tensor.
        where: Conditions on axes and parameters, each as text.
        native: Frameworks' own implementations, by framework.
    """

    name: str
    inputs: dict[str, Domain]
    params: dict[str, Parameter]
    outputs: dict[str, Shape]
    shapes: dict[str, Shape]
    one_hot: dict[str, str]
    where: tuple[str, ...]
    native: dict[str, Callable[..., Any]]
    source: str
    doc: str
    location: Location | None

    @property
    def result(self) -> str:
        """The name of the first output."""
        return next(iter(self.outputs))

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of all outputs, the result first."""
        return tuple(self.outputs)

    @property
    def axes(self) -> tuple[str, ...]:
        """The names of all axes."""
        return tuple(dict.fromkeys(a for shape in self.shapes.values() for a in axes_of(shape)))

    @property
    def dotted(self) -> frozenset[str]:
        """The names whose shapes have leading axes."""
        return frozenset(n for n, shape in self.shapes.items() if DOTS in shape)

    @property
    def differentiable(self) -> tuple[str, ...]:
        """The inputs that a derivative is expected for."""
        return tuple(n for n, domain in self.inputs.items() if domain.differentiable)

    @abstractmethod
    def claims(self) -> list[Claim]:
        """Every derivative claimed, and every one that is missing."""

    @abstractmethod
    def slice_derivative(self, output: str, name: str) -> Expression | None:
        """∂output/∂name of one slice, or None where nothing is claimed."""

    def knows(self, output: str, name: str) -> bool:
        """Whether ∂output/∂name is known."""
        return self.slice_derivative(output, name) is not None

    def row_relations(self) -> dict[str, Relation]:
        """The operands whose rows sum to one, by name: inputs by their domains, outputs as declared."""
        found = (row_relation(n, d, d.shape) for n, d in self.inputs.items())
        return {r.name: r for r in found if r is not None}

    @abstractmethod
    def environment(self, xp: Any, values: Mapping[str, Any]) -> dict[str, Any]:
        """The forward: every operand's array by name, from the arrays of the inputs."""

    def vjp_expression(self, name: str, rank: int = 0) -> Expression:
        """The gradient in an input, Σ over the result's letters of v · ∂result/∂input, as an expression.

        The cotangent v of the result is the operand `d(result)`. `simplify()` gives the form that
        people write: for softmax `a ⊙ (v − (v ⊙ a)1)`.

        Raises:
            UsageError: Where the derivative is not known.
        """
        jacobian = self.derivative(self.result, name, rank)
        letters = len(at_rank(self.shapes[self.result], rank))
        pulled = vjp_of(jacobian, self.result, letters)
        relations = tuple(self.row_relations().values())
        title = (("L", 0), *jacobian.title[1:])
        return replace(pulled, relations=relations, title=title, seed=self.seed)

    @property
    def seed(self) -> str:
        """What the cotangent of the result is called in print: v, unless an operand is."""
        return "" if "v" in self.shapes else "v"

    def derivative(self, output: str, name: str, rank: int = 0) -> Expression:
        """∂output/∂name with `rank` leading axes.

        Raises:
            UsageError: Where no such derivative is known.
        """
        key = (output, name, rank)
        cache = self.__dict__.setdefault("_derivatives", {})
        if key not in cache:
            expression = self.slice_derivative(output, name)
            if expression is None:
                raise self._unknown(output, name)
            split = len([d for d in self.shapes[output] if d != DOTS])
            cache[key] = lift(
                expression, split, leading_axes(rank), self.dotted, of=output, to=name
            )
        return cache[key]  # type: ignore[no-any-return]

    def _unknown(self, output: str, name: str) -> UsageError:
        known = ", ".join(c.label for c in self.claims() if c.form != "missing") or "none"
        return UsageError(
            f"{self.name} has no derivative of {output} with respect to {name!r}; it has: {known}"
        )

    # ------------------------------------------------------------------ building chains

    def __call__(self, *args: Chain | str, where: str | None = None, **names: Any) -> Chain:
        """This operation applied to variables (by name) and to chains: a chain.

        The same name is the same variable. Inputs that are not given keep their own names.
        """
        from gradcheck.calls import apply

        return apply(self, args, names, where)

    def __rshift__(self, other: object) -> Chain:
        from gradcheck.calls import link

        return link(self, other)

    def __add__(self, other: object) -> Chain:
        from gradcheck.calls import combine

        return combine(self, other, 1)

    def __sub__(self, other: object) -> Chain:
        from gradcheck.calls import combine

        return combine(self, other, -1)

    def __mul__(self, factor: object) -> Chain:
        from gradcheck.calls import scaled

        return scaled(self, factor)

    __rmul__ = __mul__

    def __neg__(self) -> Chain:
        return self * -1

    def __truediv__(self, divisor: object) -> Chain:
        by = as_fraction(divisor, "the divisor of a chain")
        if not by:
            raise SpecError(f"{self.name} is divided by 0", hint="divide by another number")
        return self * (1 / by)

    def __radd__(self, other: object) -> Operation:
        if other == 0:  # what sum([...]) starts from
            return self
        return NotImplemented

    # ------------------------------------------------------------------ evaluation

    def bind(self, values: Mapping[str, Any], operands: Mapping[str, Any], like: Any) -> Bindings:
        """The arrays of one evaluation, with the sizes that they imply."""
        sizes = self.sizes_of(values)
        rank = rank_in(sizes)
        shapes = {n: at_rank(shape, rank) for n, shape in self.shapes.items()}
        return Bindings(operands, sizes, shapes, self.one_hot, like)

    def sizes_of(self, values: Mapping[str, Any]) -> dict[str, int]:
        """The size of each axis, from the arrays of the inputs.

        Raises:
            ShapeError: Naming the inputs that disagree.
        """
        actual = tuple((n, shape_of(values[n])) for n in self.inputs)
        counts = tuple((a, int(values[a])) for a in self.one_hot.values() if a in self.params)
        cache = self.__dict__.setdefault("_sizes", {})
        if (actual, counts) not in cache:
            shapes = {n: d.shape for n, d in self.inputs.items()}
            cache[actual, counts] = {**dict(counts), **infer_sizes(shapes, dict(actual))}
        return dict(cache[actual, counts])

    def complete(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a call, checked against the names of inputs and parameters.

        Raises:
            UsageError: For a name that is unknown or was not given.
        """
        expected = [*self.inputs, *self.params]
        unknown = [n for n in given if n not in expected]
        missing = [n for n in expected if n not in given]
        if unknown or missing:
            parts = [f"unknown {', '.join(unknown)}"] if unknown else []
            parts += [f"missing {', '.join(missing)}"] if missing else []
            raise UsageError(f"{self.name} takes {', '.join(expected)}: {'; '.join(parts)}")
        return dict(given)

    def value(self, /, **values: Any) -> Any:
        """The result of the forward.

        Args:
            **values: An array for each input and a number for each parameter: numpy, torch or JAX
                arrays, on the device where they lie.
        """
        return self._prepare(values).result(self.result)

    def _prepare(self, values: Mapping[str, Any]) -> _Prepared:
        from gradcheck.compiling.arguments import arguments

        backend, dtype, device, arrays, _ = arguments(self, values)
        with backend.widths(dtype):
            operands = self.environment(backend.namespace(dtype, device), arrays)
            bindings = self.bind(arrays, operands, operands[self.result])
        return _Prepared(backend, dtype, operands, bindings)

    def dense(self, name: str, output: str | None = None) -> Compiled:
        """The Jacobian with respect to an input, as an array of shape output + input, zeros included."""
        return self._compiled("dense", (name,), output)

    def structured(self, name: str, output: str | None = None) -> Compiled:
        """The Jacobian without its zeros: `.dense()`, `structured @ tangent`, `cotangent @ structured`."""
        return self._compiled("structured", (name,), output)

    def vjp(self, *names: str) -> Compiled:
        """`(cotangent, **inputs)` to the cotangent of each named input (all, if none is named)."""
        return self._compiled("vjp", names or self.differentiable, None)

    def jvp(self, name: str) -> Compiled:
        """`(tangent, **inputs)` to the tangent of the result, moving one input."""
        return self._compiled("jvp", (name,), None)

    def gradient(self, *names: str) -> Compiled:
        """`(**inputs)` to the gradient of a scalar result with respect to each named input."""
        return self._compiled("gradient", self._scalar(names), None)

    def value_and_gradient(self, *names: str) -> Compiled:
        """`(**inputs)` to the pair of the scalar result and its gradients."""
        return self._compiled("value_and_gradient", self._scalar(names), None)

    def _compiled(self, method: str, names: tuple[str, ...], output: str | None) -> Compiled:
        from gradcheck.compiling.compiled import Compiled

        return Compiled(self, method, names, output)

    def hessian(self, first: str, name: str) -> Hessian:
        """`(**inputs)` to ∂²result/∂first∂name, an array of shape output + first + name."""
        from gradcheck.second_order import Hessian

        return Hessian(self, first, name)

    def hvp(self, *names: str) -> Hvp:
        """`(tangent, **inputs)` to the Hessian of a scalar result times a tangent, by named input."""
        from gradcheck.second_order import hvp

        return hvp(self, names)

    def second_order(self, *names: str) -> Derivative:
        """∂result/∂first, as claimed, with its derivatives in the other names: `verify` takes it."""
        from gradcheck.second_order import second_order

        return second_order(self, *names)

    def _scalar(self, names: tuple[str, ...]) -> tuple[str, ...]:
        if self.outputs[self.result]:
            shape = " ".join(self.outputs[self.result])
            raise UsageError(
                f"{self.name} gives {self.result} of shape {shape!r}; a gradient needs a scalar. "
                "Use .vjp(...) with a cotangent, or .dense(...) for the Jacobian"
            )
        return names or self.differentiable

    def pull(
        self, prepared: Bindings, ops: Any, cotangent: Any, names: tuple[str, ...]
    ) -> dict[str, Any]:
        """The cotangent of each named input; a chain overrides this link by link."""
        return {n: self._pull_one(prepared, ops, cotangent, n) for n in names}

    def _pull_one(self, prepared: Bindings, ops: Any, cotangent: Any, name: str) -> Any:
        rank = rank_in(prepared.sizes)
        jacobian = self.derivative(self.result, name, rank)
        letters = len(at_rank(self.shapes[self.result], rank))
        key = ("vjp", name, rank)
        cache = self.__dict__.setdefault("_derivatives", {})
        if key not in cache:
            cache[key] = vjp_of(jacobian, self.result, letters)
        return evaluate(cache[key], with_operand(prepared, f"d({self.result})", cotangent), ops)

    def push(self, prepared: Bindings, ops: Any, tangent: Any, name: str) -> Any:
        """The tangent of the result when one input moves."""
        rank = rank_in(prepared.sizes)
        jacobian = self.derivative(self.result, name, rank)
        letters = len(at_rank(self.shapes[self.result], rank))
        expression = jvp_of(jacobian, name, letters)
        return evaluate(expression, with_operand(prepared, f"d({name})", tangent), ops)

    def statement(self) -> str:
        """Signature and derivatives as lines of text."""
        return "\n".join(self._statement_lines())

    def _statement_lines(self) -> Iterator[str]:
        taken = ", ".join(f"{n} {d.describe()}" for n, d in self.inputs.items())
        given = ", ".join(f"{n} '{' '.join(shape)}'" for n, shape in self.outputs.items())
        yield f"{self.name}: {taken} → {given}"
        for name, parameter in self.params.items():
            yield f"  parameter {name}: {parameter.describe()}"
        for condition in self.where:
            yield f"  where {condition}"
        for claim in self.claims():
            if claim.form == "missing":
                yield f"  ∂{claim.output}/∂{claim.input}: missing"
                continue
            try:
                expression = self.slice_derivative(claim.output, claim.input)
            except TooManyTerms as error:
                yield f"  ∂{claim.output}/∂{claim.input}: link by link; {str(error).splitlines()[0]}"
                continue
            assert expression is not None
            yield f"  {equation(expression)}"
            yield from (f"    wherever {c}" for c in expression.conditions())


_ROWS = {
    "probability": "each row of {} is a probability distribution",
    "one_hot": "each row of {} is one-hot",
    "labels": "each label of {} stands for a one-hot row",
}


def row_relation(name: str, domain: Domain, shape: Shape) -> Relation | None:
    """Σ over the last letter = 1, where the domain says so; a user's own strategy says nothing."""
    if domain.kind not in _ROWS or domain.source is not None:
        return None
    labels = domain.kind == "labels"
    letters = len([d for d in shape if d != DOTS]) + labels
    # Labels stand with one more letter as their one-hot rows; with leading axes the two may be confused.
    dotted = DOTS in shape and not labels
    return Relation(name, letters, dotted, _ROWS[domain.kind].format(name))


def with_operand(bindings: Bindings, name: str, value: Any) -> Bindings:
    """The same arrays and one more: a cotangent or a tangent."""
    shape = bindings.shapes.get(name[2:-1], ())
    return Bindings(
        {**bindings.values, name: value},
        bindings.sizes,
        {**bindings.shapes, name: shape},
        bindings.one_hot,
        bindings.like,
        bindings.memo if name not in bindings.values else {},
    )


@dataclass(frozen=True)
class _Prepared:
    backend: Any
    dtype: str
    operands: dict[str, Any]
    bindings: Bindings

    def result(self, name: str) -> Any:
        """An output that shares no memory with an input: a transpose may be a mere view of one."""
        value = self.backend.asarray_like(self.operands[name])
        is_view = getattr(value, "base", None) is not None or getattr(value, "_is_view", bool)()
        is_input = any(value is v for n, v in self.operands.items() if n != name)
        return value * 1 if is_view or is_input else value


def shape_of(value: Any) -> tuple[int, ...]:
    """The sizes of an array; where they are symbols, numbers that tell the axes apart."""
    symbolic = getattr(value, "axes_shape", None)
    return tuple(int(s) for s in (getattr(value, "shape", ()) if symbolic is None else symbolic))


def check_outputs(
    operation: Operation, produced: Mapping[str, Any], sizes: Mapping[str, int]
) -> None:
    """Each output has its declared shape at these sizes; shapes once found right are not looked at again.

    Raises:
        SpecError: Naming the output, the shape declared and the shape that came.
    """
    found = tuple((n, shape_of(v)) for n, v in produced.items())
    key = (tuple(sizes.items()), found)
    right = operation.__dict__.setdefault("_right_shapes", set())
    if key not in right:
        _compare_shapes(operation, produced, sizes)
        right.add(key)


def _compare_shapes(
    operation: Operation, produced: Mapping[str, Any], sizes: Mapping[str, int]
) -> None:
    rank = rank_in(sizes)
    for name, value in produced.items():
        declared = at_rank(operation.shapes[name], rank)
        actual = shape_of(value)
        expected = tuple(
            int(d) if d.isdigit() else sizes.get(d, sizes.get(d.removeprefix("#"), -1))
            for d in declared
        )
        fits = len(actual) == len(declared) and all(
            e in (-1, a) for e, a in zip(expected, actual, strict=True)
        )
        if not fits:
            where = ", ".join(f"{a} = {n}" for a, n in sizes.items())
            raise SpecError(
                f"the forward gives {name} the shape {actual}, but it is declared "
                f"{' '.join(operation.shapes[name])!r}, which is {expected} at {where}",
                hint="declare the shape that the forward returns; sum over an axis with keepdims=False "
                "to drop it",
                spec=operation.name,
                location=operation.location,
            )
