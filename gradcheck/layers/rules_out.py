"""What every framework's rule is made of: a spec's forward, and its hand-derived backward pass.

`as_torch`, `as_jax`, `as_autograd` and `as_tensorflow` hang the two on their framework's own hook for
custom gradients. What the derivative mentions is kept from the forward; nothing else is, and nothing
is computed twice. The backward pass is written with the framework's own differentiable operations, so
that it has a derivative itself.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gradcheck.algebra.shapes import at_rank, rank_in
from gradcheck.chain import Chain
from gradcheck.compiling.making import Maker
from gradcheck.compiling.programs import Request, Setting, kinds_of
from gradcheck.errors import ShapeError, UsageError
from gradcheck.evaluation import Bindings
from gradcheck.library import resolve
from gradcheck.operation import Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from gradcheck.algebra.terms import Expression
    from gradcheck.backends.base import Backend

# How many programs are kept for one rule, the oldest going first.
_KEPT = 64
INTEGER_KINDS = ("labels", "integers")


@dataclass(frozen=True)
class Forwarded:
    """What one forward leaves for the backward pass.

    Attributes:
        operands: Arrays and numbers that the derivative mentions, by name.
        sizes: The size of each axis.
    """

    operands: dict[str, Any]
    sizes: dict[str, int]


class RuleOut:
    """A spec or chain on its way into a framework: forward, backward pass, and what lies between.

    Attributes:
        operation: The spec or chain.
        inputs: The names of its inputs, in order.
        wrt: The inputs that have a derivative.
        compiles: Whether the backward pass is compiled: where `ops` is a backend whose operations are
            the framework's own.
    """

    def __init__(self, target: Operation | str, *, compiles: bool = False) -> None:
        self.operation, self.compiles = _operation(target), compiles
        self.inputs = tuple(self.operation.inputs)
        self.wrt = self.operation.differentiable
        self._programs: OrderedDict[Any, Callable[..., Any]] = OrderedDict()
        _check_complete(self.operation)

    @cached_property
    def mentioned(self) -> frozenset[str]:
        """The operands that the derivatives mention."""
        return frozenset(name for expression in self._expressions() for name in expression.names())

    @cached_property
    def inner(self) -> tuple[str, ...]:
        """Residuals and intermediate results among them: neither inputs nor parameters nor the result."""
        outside = {*self.inputs, *self.operation.params, self.operation.result}
        return tuple(sorted(self.mentioned - outside))

    def _expressions(self) -> Iterator[Expression]:
        if isinstance(self.operation, Chain):
            local = (e for node in self.operation.nodes for e in node.local.values())
            yield from (e for e in local if e is not None)
            return
        for name in self.wrt:
            expression = self.operation.slice_derivative(self.operation.result, name)
            assert expression is not None  # seen to when the rule was made
            yield expression

    def arguments(
        self, args: Sequence[Any], given: Mapping[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """The inputs in order and the parameters, from the arguments of a call.

        Raises:
            UsageError: For too many inputs, and for a name that is unknown, missing or given twice.
        """
        if len(args) > len(self.inputs):
            raise UsageError(
                f"{self.operation.name} takes {len(self.inputs)} inputs ({', '.join(self.inputs)}) and got "
                f"{len(args)}; parameters are given by name"
            )
        placed = dict(zip(self.inputs, args, strict=False))
        twice = [n for n in given if n in placed]
        if twice:
            raise UsageError(
                f"{self.operation.name} got input {twice[0]!r} twice, by place and by name"
            )
        values = self.operation.complete({**placed, **given})
        for name in self.operation.params:
            self._check_number(name, values[name])
        return [values[n] for n in self.inputs], {n: values[n] for n in self.operation.params}

    def _check_number(self, name: str, value: Any) -> None:
        """A parameter is a plain number or word: a gradient towards an array would be lost in silence."""
        if hasattr(value, "shape"):
            raise UsageError(
                f"parameter {name!r} of {self.operation.name} is an array ({type(value).__name__}); it is a "
                "constant of the rule: give a Python number (under jit, mark it static)"
            )

    def check_shapes(self, arrays: Sequence[Any], params: Mapping[str, Any]) -> None:
        """The arrays fit the axes, found before any framework traces.

        Raises:
            ShapeError: Naming the inputs that disagree.
            UsageError: Where a size is not known yet.
        """
        for name, array in zip(self.inputs, arrays, strict=True):
            if any(n is None for n in array.shape):
                raise UsageError(
                    f"input {name!r} of {self.operation.name} has the shape {tuple(array.shape)} while a "
                    "graph is traced; the rule needs the sizes: give the tensors known shapes"
                )
        self.operation.sizes_of({**dict(zip(self.inputs, arrays, strict=True)), **params})

    def forward(
        self,
        backend: Backend,
        dtype: str,
        device: str,
        arrays: Sequence[Any],
        params: Mapping[str, Any],
    ) -> tuple[Any, Forwarded]:
        """The result, and what the backward pass needs.

        Raises:
            ShapeError: Where the arrays do not fit the axes.
        """
        values = {**dict(zip(self.inputs, arrays, strict=True)), **params}
        sizes = self.operation.sizes_of(values)
        operands = self.operation.environment(backend.namespace(dtype, device), values)
        kept = {n: operands[n] for n in self.mentioned if n in operands}
        return operands[self.operation.result], Forwarded(kept, sizes)

    def backward(
        self, ops: Any, forwarded: Forwarded, cotangent: Any, names: tuple[str, ...]
    ) -> dict[str, Any]:
        """The cotangent of each named input."""
        expected = self.shape_of_result(forwarded.sizes)
        if expected is not None and tuple(cotangent.shape) != expected:
            raise ShapeError(
                f"the cotangent has shape {tuple(cotangent.shape)}, but {self.operation.result} has shape "
                f"{expected}"
            )
        if self.compiles and names:
            return self._compiled(ops, forwarded, cotangent, names)
        bindings = self.bindings(forwarded, cotangent)
        return self.operation.pull(bindings, ops, cotangent, names) if names else {}

    def _compiled(
        self, backend: Backend, forwarded: Forwarded, cotangent: Any, names: tuple[str, ...]
    ) -> dict[str, Any]:
        """The same by a program, made once for each set of shapes; of differentiable operations only.

        It uses no relation of a domain: somebody's weights y need not sum to one.
        """
        operands = forwarded.operands
        kinds = kinds_of(operands, backend)
        sizes = forwarded.sizes
        fixed = {n: v for n, v in operands.items() if isinstance(v, int | str)}
        dtype, device = backend.dtype_of(cotangent), backend.device_of(cotangent)
        key = (names, dtype, device, *kinds.items(), *sizes.items(), *fixed.items())
        program = self._programs.get(key)
        if program is None:
            setting = Setting(backend, dtype, device, sizes, fixed, writes=False)
            maker = Maker(self.operation, Request("vjp", names, self.operation.result))
            program = self._programs[key] = maker.from_operands(setting, kinds)
            while len(self._programs) > _KEPT:
                self._programs.popitem(last=False)
        found: dict[str, Any] = program(cotangent, *(operands[n] for n in kinds))
        return found

    def tangent(self, ops: Any, forwarded: Forwarded, tangents: Mapping[str, Any]) -> Any:
        """The tangent of the result, from the tangents of some inputs."""
        bindings = self.bindings(forwarded, next(iter(tangents.values())))
        parts = [self.operation.push(bindings, ops, t, n) for n, t in tangents.items()]
        return sum(parts[1:], parts[0])

    def bindings(self, forwarded: Forwarded, like: Any) -> Bindings:
        """The arrays of the backward pass."""
        rank = rank_in(forwarded.sizes)
        shapes = {n: at_rank(shape, rank) for n, shape in self.operation.shapes.items()}
        return Bindings(forwarded.operands, forwarded.sizes, shapes, self.operation.one_hot, like)

    def shape_of_result(self, sizes: Mapping[str, int]) -> tuple[int, ...] | None:
        """The result's shape, where its axes are all axes of inputs."""
        axes = at_rank(self.operation.outputs[self.operation.result], rank_in(sizes))
        if not all(a.isdigit() or a in sizes for a in axes):
            return None
        return tuple(int(a) if a.isdigit() else sizes[a] for a in axes)

    def is_integer(self, name: str) -> bool:
        """Whether an input holds integers by nature."""
        return self.operation.inputs[name].kind in INTEGER_KINDS

    def describe(self, framework: str, hook: str) -> str:
        """The docstring of the function that a framework gets."""
        return (
            f"{self.operation.name} as a {hook}: the derivatives are those derived by hand.\n\n"
            f"{self.operation.statement()}\n\nTakes {framework} arrays for the inputs, in order or by name, "
            "and the parameters by name."
        )


def _operation(target: Operation | str) -> Operation:
    if isinstance(target, Operation):
        return target
    if not isinstance(target, str):
        raise UsageError(f"expected a spec, a chain or the name of one, got {target!r}")
    found = resolve([target])
    if len(found) != 1:
        names = ", ".join(t.name for t in found)
        raise UsageError(f"{target!r} names {len(found)} operations ({names}); name one of them")
    return found[0].operation


def _check_complete(operation: Operation) -> None:
    """Every differentiable input has a derivative."""
    missing = [c.label for c in operation.claims() if c.form == "missing"]
    if missing:
        raise UsageError(
            f"{operation.name} has no derivative with respect to {', '.join(missing)}: a rule made of it "
            f"would have no gradient to give there; derive it (jacobian={{{missing[0]!r}: einsum(...)}}), or "
            f"declare the input constant({missing[0]}'s domain)"
        )
    if not operation.differentiable:
        raise UsageError(
            f"{operation.name} has no input of real numbers that is not constant: there is nothing to "
            "differentiate"
        )


def check_float(name: str, dtype: str, operation: Operation) -> None:
    """Real inputs hold floats.

    Raises:
        UsageError: Naming the input.
    """
    if "float" not in dtype:
        raise UsageError(
            f"input {name!r} of {operation.name} takes real numbers, but an array of {dtype} came; convert "
            "it to a floating point type first"
        )
