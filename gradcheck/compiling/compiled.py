"""What users call: a derivative that compiles itself for each framework and shape it meets.

The program of the last call is tried first; it tests its arguments itself. Where they are others, they
are checked, converted, and the program of their shapes is found or made.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck import backends
from gradcheck.compiling.making import INTEGERS, MISSING, Made, Maker
from gradcheck.compiling.programs import (
    WIDTH,
    Builder,
    Miss,
    Request,
    Setting,
    refuse_complex,
)
from gradcheck.compiling.structured import structured
from gradcheck.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gradcheck.operation import Operation

# How many programs are kept for one derivative, the least recently used going first.
_KEPT = 64

# Beyond so many bytes the C library takes fresh pages of the system for every array, and an array is best
# filled by whoever leaves its zeros alone; smaller ones lie in memory that was used before.
_LARGE = 1 << 25


def _missing(*_vector: Any, **_values: Any) -> Any:
    raise Miss


@dataclass(eq=False)
class Compiled:
    """A derivative ready to be called on arrays; made by `dense`, `vjp`, `gradient` and the others.

    Attributes:
        operation: The spec or chain.
        method: What is computed: "gradient", "vjp" and so on.
        names: The inputs that are differentiated by.
        output: The output that is differentiated; None is the result.
    """

    operation: Operation
    method: str
    names: tuple[str, ...]
    output: str | None
    _latest: Callable[..., Any] = field(default=_missing, repr=False)
    _made: OrderedDict[Any, Made] = field(default_factory=OrderedDict, repr=False)
    _source: str = field(default="", repr=False)
    _recorded: dict[Any, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        known = self.operation.shapes
        for name in self.names:
            if name not in known:
                raise UsageError(
                    f"{self.operation.name} has no input {name!r}; it has {', '.join(self.operation.inputs)}"
                )
            self.operation.derivative(self.request.output, name)

    @property
    def request(self) -> Request:
        """What is asked for."""
        return Request(self.method, self.names, self.output or self.operation.result)

    def __call__(self, /, *vector: Any, **values: Any) -> Any:
        """Evaluate; vjp takes a cotangent first, and jvp a tangent.

        Raises:
            UsageError: For a name that is unknown or missing.
            ShapeError: For arrays that do not fit the axes.
        """
        try:
            return self._latest(*vector, **values)
        except (Miss, TypeError):
            pass
        if backends.in_graph():
            return self._in_graph(vector, values)
        return self._checked(vector, values)

    def _in_graph(self, vector: tuple[Any, ...], values: Mapping[str, Any]) -> Any:
        """While `torch.compile` reads along: the program itself becomes part of the graph."""
        if self.method == "structured":
            raise UsageError("structured() is no tensor: inside torch.compile use vjp() and jvp()")
        order = (*self.operation.inputs, *self.operation.params)
        kinds = tuple((n, _kind(values[n])) for n in order)
        name = self.for_kinds(kinds, tuple(_kind(v) for v in vector))
        return getattr(self, name)(*vector, **values)

    def for_kinds(self, kinds: tuple[Any, ...], vectors: tuple[Any, ...]) -> str:
        """The attribute that holds the program for shapes and dtypes, made on tensors of ones."""
        backend = backends.get("torch")
        given = {n: _example(backend, kind) for n, kind in kinds}
        _, dtype, device, arrays, sizes = arguments(self.operation, given)
        vector = tuple(_example(backend, kind) for kind in vectors)
        made = self._program(backend, dtype, device, arrays, sizes, vector, recorded=True)
        name = self._recorded.setdefault((kinds, vectors), f"_program{len(self._recorded)}")
        setattr(self, name, made.body)
        return name

    # torch.compile then runs this function itself, as it is, and keeps what it returns.
    for_kinds._dynamo_marked_constant = True  # type: ignore[attr-defined]

    @property
    def source(self) -> str:
        """The program as text: that of the last call, or before any, NumPy's at small sizes."""
        if not self._source:
            self._source = Maker(self.operation, self.request).example()
        return self._source

    def _checked(self, vector: tuple[Any, ...], values: Mapping[str, Any]) -> Any:
        if len(vector) != len(self.request.vectors):
            kinds = {"vjp": "the cotangent", "jvp": "the tangent", "hvp": "the tangent"}
            what = kinds.get(self.method, "no array")
            raise UsageError(
                f"{self.method} takes {what} as its positional argument, the inputs by name"
            )
        backend, dtype, device, arrays, sizes = arguments(self.operation, values)
        with backend.widths(dtype):
            vector = tuple(self._real(backend, v, dtype, device) for v in vector)
            if (filled := self._filled(backend, dtype, arrays, sizes)) is not None:
                return filled
            made = self._program(backend, dtype, device, arrays, sizes, vector)
            if self.method == "structured":
                return structured(made, self.operation, self.request, made.body(**arrays))
            result = made.body(*vector, **arrays)
            self._remember(made)
            return result

    def _real(self, backend: Any, value: Any, dtype: str, device: str) -> Any:
        """A cotangent or tangent in the dtype of the inputs."""
        what = f"what {self.method} is given first"
        owner = backends.of(value)
        if owner.name not in ("numpy", backend.name):
            raise UsageError(
                f"{what} is an array of {owner.name}, the inputs are of {backend.name}"
            )
        refuse_complex(what, value)
        try:
            array = backend.asarray(value, dtype, device)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{what} is no array of real numbers: {error}") from None
        if "float" in backend.dtype_of(array):
            return array
        return backend.namespace(dtype, device).asarray(array)

    def _filled(
        self, backend: Any, dtype: str, arrays: Mapping[str, Any], sizes: Mapping[str, int]
    ) -> Any:
        """A large array of few blocks, filled by the program of a framework that writes no zeros."""
        if self.method not in ("dense", "hessian") or not self._is_large(dtype, sizes):
            return None
        lender = backend.lender(*(arrays[n] for n in self.operation.inputs))
        if lender is None:
            return None
        lent = {n: np.asarray(v) if n in self.operation.inputs else v for n, v in arrays.items()}
        made = self._program(lender, dtype, "cpu", lent, sizes, ())
        if not made.leaves_zeros:
            return None
        self._source = made.source
        with np.errstate(all="ignore"):  # the framework whose arrays these are warns of nothing
            return backend.adopted(made.body(**lent))

    def _is_large(self, dtype: str, sizes: Mapping[str, int]) -> bool:
        shapes = [self.operation.shapes[n] for n in (self.request.output, *self.names)]
        entries = [sizes.get(a, 1) if not a.isdigit() else int(a) for s in shapes for a in s]
        return WIDTH.get(dtype, 2) * math.prod(entries) > _LARGE

    def _remember(self, made: Made) -> None:
        """The next call tries this program first."""
        self._source, self._latest = made.source, made.guarded or _missing
        if made.direct is not None and "direct" not in made.kept:
            made.kept["direct"] = made.direct(self._anew)
        if direct := made.kept.get("direct"):
            # What XLA compiled runs for so short a time that a frame of ours around its call shows. Python
            # looks `__call__` up in the class, so that the object gets one of its own.
            self.__class__ = type("Compiled", (Compiled,), {"__call__": staticmethod(direct)})
        elif type(self) is not Compiled:
            self.__class__ = Compiled

    def _anew(self, /, *vector: Any, **values: Any) -> Any:
        """A call of arguments that the latest program does not take."""
        given = {n: v for n, v in values.items() if v is not MISSING}
        return Compiled.__call__(self, *(v for v in vector if v is not MISSING), **given)

    def _program(
        self,
        backend: Any,
        dtype: str,
        device: str,
        arrays: Mapping[str, Any],
        sizes: Mapping[str, int],
        vector: tuple[Any, ...],
        *,
        recorded: bool = False,
    ) -> Made:
        fixed = {n: v for n in self.operation.params if not isinstance(v := arrays[n], float)}
        plain = [arrays[n] for n in self.operation.inputs]
        writes = not recorded and backend.can_write(*plain, *vector)
        shapes: tuple[Any, ...] = tuple((tuple(a.shape), backend.dtype_of(a)) for a in plain)
        shapes += tuple((tuple(v.shape), dtype) for v in vector)
        if backend.traces:  # one program takes all shapes: it traces itself anew
            shapes = ()
        key = (backend.name, dtype, device, shapes, writes, tuple(sorted(fixed.items(), key=str)))
        if key not in self._made:
            setting = Setting(backend, dtype, device, sizes, fixed, writes)
            self._check(setting, vector)
            self._made[key] = Maker(self.operation, self.request).make(setting, arrays)
            while len(self._made) > _KEPT:
                self._made.popitem(last=False)
        self._made.move_to_end(key)
        return self._made[key]

    def _check(self, setting: Setting, vector: tuple[Any, ...]) -> None:
        for name, array in zip(self.request.vectors, vector, strict=True):
            Builder(self.operation, self.request, setting).check_vector(name, array)

    def __repr__(self) -> str:
        return f"<{self.method} of {self.operation.name} in {', '.join(self.names)}>"


def _kind(value: Any) -> Any:
    """Shape, dtype and device of a tensor; a number is itself."""
    if not hasattr(value, "shape"):
        return value
    shape = tuple(int(n) for n in value.shape)
    device = value.device
    return shape, str(value.dtype).removeprefix("torch."), device.type, device.index


def _example(backend: Any, kind: Any) -> Any:
    if not isinstance(kind, tuple):
        return kind
    shape, dtype, device, index = kind
    place = device if index is None else f"{device}:{index}"
    return backend.asarray(np.ones(shape, dtype), dtype if "float" in dtype else "float64", place)


def arguments(
    operation: Operation, values: Mapping[str, Any]
) -> tuple[Any, str, str, dict[str, Any], dict[str, int]]:
    """Framework, dtype, device, arrays and sizes of a call, checked and converted.

    Raises:
        UsageError: For names, frameworks or dtypes that do not fit.
        ShapeError: For arrays that do not fit the axes.
    """
    values = dict(operation.complete(values))
    for name, parameter in operation.params.items():
        value = values[name].item() if isinstance(values[name], np.generic) else values[name]
        word = isinstance(value, str) and parameter.kind in ("number", "integer")
        if word or not isinstance(value, int | float | str):
            raise UsageError(
                f"parameter {name!r} of {operation.name} is {parameter.describe()}, and {value!r} came; it "
                "is a constant of the derivative: give a Python number or word (under jit, mark it static)"
            )
        values[name] = value
    for name in operation.inputs:
        refuse_complex(f"input {name!r} of {operation.name}", values[name])
    backend = backends.of(*(values[n] for n in operation.inputs))
    real = (n for n, d in operation.inputs.items() if d.kind not in INTEGERS)
    first = next((values[n] for n in real), None)
    if first is None:
        raise UsageError(f"{operation.name} has no input of real numbers")
    first = backend.asarray_like(first)
    dtype, device = backend.dtype_of(first), backend.device_of(first)
    if "float" not in dtype:
        raise UsageError(
            f"{operation.name} takes real numbers, but an array of {dtype} came; convert it to float64 "
            "or float32 first"
        )
    with backend.widths(dtype):
        arrays = {
            n: backend.asarray(v, dtype, device) if n in operation.inputs else v
            for n, v in values.items()
        }
        return backend, dtype, device, arrays, operation.sizes_of(arrays)
