"""What every framework's rule is made of: a spec's forward, and its hand-derived backward pass.

`as_torch`, `as_jax`, `as_autograd` and `as_tensorflow` hang the two on their framework's own hook for
custom gradients. What the derivative mentions is kept from the forward; nothing else is, and nothing
is computed twice. The backward pass is a compiled program of the framework's own differentiable
operations, so that it has a derivative itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from gradcheck import backends
from gradcheck.algebra.shapes import at_rank, rank_in
from gradcheck.arguments import brief
from gradcheck.chain import Chain
from gradcheck.compiling.making import Maker
from gradcheck.compiling.programs import Request, Setting, kinds_of
from gradcheck.errors import ShapeError, UsageError, in_words
from gradcheck.library import resolve
from gradcheck.operation import Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from gradcheck.algebra.terms import Expression
    from gradcheck.backends.base import Backend
    from gradcheck.backends.writing import Writing

# How many programs are kept for one rule, the least recently used going first.
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
    """

    def __init__(self, target: Operation | str) -> None:
        self.operation = _operation(target)
        self.inputs = tuple(self.operation.inputs)
        self.wrt = self.operation.differentiable
        self._programs: OrderedDict[Any, tuple[Callable[..., Any], tuple[str, ...]]] = OrderedDict()
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
        self, backend: Backend, arrays: Sequence[Any], params: Mapping[str, Any]
    ) -> tuple[Any, Forwarded]:
        """The result, and what the backward pass needs.

        Raises:
            ShapeError: Where the arrays do not fit the axes.
        """
        values = {**dict(zip(self.inputs, arrays, strict=True)), **params}
        sizes = self.operation.sizes_of(values)
        like = values[self.wrt[0]]
        xp = backend.namespace(backend.dtype_of(like), backend.device_of(like))
        operands = self.operation.environment(xp, values)
        kept = {**params, **{n: operands[n] for n in self.mentioned if n in operands}}
        return backend.asarray_like(operands[self.operation.result]), Forwarded(kept, sizes)

    def backward(
        self, backend: Backend, forwarded: Forwarded, cotangent: Any, names: tuple[str, ...]
    ) -> dict[str, Any]:
        """The cotangent of each named input, in the backend's operations."""
        expected = self.shape_of_result(forwarded.sizes)
        if expected is not None and tuple(cotangent.shape) != expected:
            raise ShapeError(
                f"the cotangent has shape {tuple(cotangent.shape)}, but {self.operation.result} has shape "
                f"{expected}"
            )
        request = Request("vjp", names, self.operation.result)
        found: dict[str, Any] = self._run(backend, forwarded, request, cotangent) if names else {}
        return found

    def tangent(self, backend: Backend, forwarded: Forwarded, tangents: Mapping[str, Any]) -> Any:
        """The tangent of the result, from the tangents of some inputs."""
        result = self.operation.result
        parts = [
            self._run(backend, forwarded, Request("jvp", (n,), result), t)
            for n, t in tangents.items()
        ]
        return sum(parts[1:], parts[0])

    def _run(self, backend: Backend, forwarded: Forwarded, request: Request, vector: Any) -> Any:
        """A request by its program, made once for each set of shapes.

        It is of differentiable operations only, and uses no relation of a domain: somebody's weights y
        need not sum to one.
        """
        operands = forwarded.operands
        key = (request, backend.name, *_key_of(vector, backend), *forwarded.sizes.items())
        key += tuple((n, *_key_of(v, backend)) for n, v in operands.items())
        made = self._programs.pop(key, None) or self._made(backend, forwarded, request, vector)
        self._programs[key] = made
        while len(self._programs) > _KEPT:
            self._programs.popitem(last=False)
        program, taken = made
        return program(vector, *(operands[n] for n in taken))

    def _made(
        self, backend: Backend, forwarded: Forwarded, request: Request, vector: Any
    ) -> tuple[Callable[..., Any], tuple[str, ...]]:
        """The program, and the names of the operands that it takes after the vector."""
        operands, sizes = forwarded.operands, forwarded.sizes
        fixed = {n: v for n, v in operands.items() if isinstance(v, int | str)}
        place = backend.dtype_of(vector), backend.device_of(vector)
        setting = Setting(backend, *place, sizes, fixed, writes=False)
        kinds = kinds_of(operands, backend)
        return Maker(self.operation, request).from_operands(setting, kinds), tuple(kinds)

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


class Rewritten:
    """A backend whose programs are written in another way than its own.

    Args:
        backend: The backend.
        writing: How its programs are written, from a dtype and a device.
    """

    def __init__(self, backend: Backend, writing: Callable[[str, str], Writing]) -> None:
        self._backend, self.writing = backend, writing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)


class FrameworkRule(ABC):
    """A rule as a function on one framework's arrays; made by `as_torch` and its like.

    A framework's own part is what an array is, how several come to one type (`_array`, `_common`, `_cast`),
    and its hook for custom gradients (`_apply`).

    Attributes:
        operation: The spec or chain.
        framework: The name of the framework.
    """

    framework: ClassVar[str]
    _shown: ClassVar[str]
    _hook: ClassVar[str]

    def __init__(self, target: Operation | str) -> None:
        self._rule = RuleOut(target)
        self.operation = self._rule.operation
        self.backend = backends.get(self.framework)
        self._floats: set[Any] = set()
        self.__name__ = f"{self.operation.name}_by_hand"
        self.__doc__ = self._rule.describe(self._shown, self._hook)

    def __call__(self, /, *args: Any, **given: Any) -> Any:
        """The result of the forward.

        Raises:
            UsageError: For a name that is unknown or missing, a dtype that is not a float's, or a shape
                that is not known while a graph is traced.
            ShapeError: For arrays that do not fit the axes.
        """
        given_arrays, params = self._rule.arguments(args, given)
        arrays = self._arrays(given_arrays)
        self._rule.check_shapes(arrays, params)
        return self._apply(arrays, params)

    def _read(self, name: str, value: Any) -> Any:
        """An input as an array of the framework."""
        try:
            return self._array(value)
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"input {name!r} of {self.operation.name} is {brief(value)}, which is no array of "
                f"{self.backend.name}: {in_words(error)}"
            ) from None

    def _arrays(self, given: Sequence[Any]) -> list[Any]:
        """Arrays of one floating point type; conversions, and their gradients, are the framework's."""
        rule = self._rule
        named = {n: self._read(n, a) for n, a in zip(rule.inputs, given, strict=True)}
        for name in rule.wrt:
            self._check_float(name, named[name])
        dtype = self._common({n: a for n, a in named.items() if not rule.is_integer(n)})
        stays = (rule.is_integer(n) or a.dtype == dtype for n, a in named.items())
        pairs = zip(named.values(), stays, strict=True)
        return [a if as_is else self._cast(a, dtype) for a, as_is in pairs]

    def _check_float(self, name: str, array: Any) -> None:
        """Real inputs hold floats."""
        if array.dtype in self._floats:  # the name of a dtype takes microseconds to find
            return
        dtype = self.backend.dtype_of(array)
        if "float" not in dtype:
            raise UsageError(
                f"input {name!r} of {self.operation.name} takes real numbers, but an array of {dtype} came; "
                "convert it to a floating point type first"
            )
        self._floats.add(array.dtype)

    @abstractmethod
    def _array(self, value: Any) -> Any:
        """What a caller gave, as an array of the framework that keeps its history."""

    @abstractmethod
    def _common(self, real: Mapping[str, Any]) -> Any:
        """The type in which arrays that hold real numbers are computed with."""

    @abstractmethod
    def _cast(self, array: Any, dtype: Any) -> Any:
        """The array in that type."""

    @abstractmethod
    def _apply(self, arrays: Sequence[Any], params: dict[str, Any]) -> Any:
        """The result, recorded by the framework with the derivation as its gradient."""

    def __repr__(self) -> str:
        return f"<{self._shown} rule of {self.operation.name}>"


def _key_of(value: Any, backend: Backend) -> tuple[Any, ...]:
    """What a program depends on: shape, dtype and place of an array, a count or word, that it is a float."""
    if hasattr(value, "shape"):
        return tuple(value.shape), value.dtype, backend.device_of(value)
    return (type(value), value if isinstance(value, int | str) else None)


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
