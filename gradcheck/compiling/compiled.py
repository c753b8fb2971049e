"""What users call: a derivative that compiles itself for each framework and shape it meets.

The program of the last call is tried first; it tests its arguments itself. Where they are others, they
are checked, converted, and the program of their shapes is found or made.
"""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck import backends
from gradcheck.compiling.arguments import (
    arguments,
    holds_reals,
    on_host,
    real_array,
    refuse_complex,
)
from gradcheck.compiling.filling import Filler
from gradcheck.compiling.making import MISSING, Made, Maker
from gradcheck.compiling.placing import WIDTH
from gradcheck.compiling.programs import (
    Builder,
    Miss,
    Request,
    Setting,
)
from gradcheck.compiling.structured import structured
from gradcheck.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gradcheck.operation import Operation

# How many programs are kept for one derivative, the least recently used going first.
_KEPT = 64

# From so many bytes on an array is filled by NumPy's program (`filling`). XLA's own writes every entry, and
# while it does so the array of the call before is still there: of two large ones the C library gives the
# memory back, and each call waits for pages anew. Measured on the dense Jacobian of softmax, in new
# processes and beside others, a call: at 32 MB 7.7 to 9.9 ms where pages are missing and 0.9 where none are,
# filled 1.0 to 1.7; at 16 to 25 MB 0.5 to 7.3, filled 0.8 to 4.6; up to 12 MB XLA's own is no slower.
_LARGE = 1 << 24

# One for each program that `torch.compile` reads, whichever thread asks.
_NUMBERS = itertools.count()


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
            self._check_known(name)

    def _check_known(self, name: str) -> None:
        """What runs link by link needs no expression of the whole, which may have too many terms."""
        output = self.request.output
        if self.method in ("dense", "structured"):
            self.operation.derivative(output, name)
        elif not self.operation.knows(output, name):
            raise self.operation._unknown(output, name)

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
        except (Miss, TypeError, ValueError, IndexError):  # the checks say what is wrong
            pass
        if backends.in_graph():
            return self._in_graph(vector, values)
        return self._checked(vector, values)

    def _in_graph(self, vector: tuple[Any, ...], values: Mapping[str, Any]) -> Any:
        """While `torch.compile` reads along: the program itself becomes part of the graph."""
        if self.method == "structured":
            raise UsageError("structured() is no tensor: inside torch.compile use vjp() and jvp()")
        kinds = tuple((n, _kind(v)) for n, v in values.items())
        name = self.for_kinds(kinds, tuple(_kind(v) for v in vector))
        return getattr(self, name)(*vector, **values)

    def for_kinds(self, kinds: tuple[Any, ...], vectors: tuple[Any, ...]) -> str:
        """The attribute that holds the program for shapes and dtypes, made on tensors of ones."""
        backend = backends.get("torch")
        labels = [n for n, d in self.operation.inputs.items() if d.kind == "labels"]
        given = {n: _example(backend, kind, fill=int(n not in labels)) for n, kind in kinds}
        _, dtype, device, arrays, sizes = arguments(self.operation, given)
        vector = tuple(_example(backend, kind) for kind in vectors)
        self._refuse_mixed(
            dtype, {**given, **dict(zip(self.request.vectors, vector, strict=False))}
        )
        made = self._program(backend, dtype, device, arrays, sizes, vector, recorded=True)
        name = self._recorded.setdefault((kinds, vectors), f"_program{next(_NUMBERS)}")
        setattr(self, name, made.body)
        return name

    def _refuse_mixed(self, dtype: str, given: Mapping[str, Any]) -> None:
        """A program in a graph takes tensors as they are: nobody converts them."""
        domains = self.operation.inputs
        for name, value in given.items():
            real = name not in domains or holds_reals(domains[name])
            found = str(getattr(value, "dtype", dtype)).removeprefix("torch.")
            if real and name not in self.operation.params and found != dtype:
                raise UsageError(
                    f"inside torch.compile {self.operation.name} takes tensors of one dtype, and {name} has "
                    f"{found} where others have {dtype}; convert it first: {name}.to(torch.{dtype})"
                )

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
            first = kinds.get(self.method, "")
            raise UsageError(
                f"{self.method} takes {first} as its positional argument, the inputs by name"
                if first
                else f"{self.method} takes its inputs by name: "
                f"{self.method}({', '.join(f'{n}=...' for n in self.operation.inputs)})"
            )
        backend, dtype, device, arrays, sizes = arguments(self.operation, values)
        with backend.widths(dtype):
            vector = tuple(self._real(backend, v, dtype, device) for v in vector)
            if (filled := self._filled(backend, dtype, arrays, sizes)) is not None:
                return filled
            made = self._program(backend, dtype, device, arrays, sizes, vector)
            if self.method == "structured":
                held = made.body(**arrays)
                return structured(made, self.operation, self.request, held, sizes)
            result = made.body(*vector, **arrays)
            self._remember(made)
            return result

    def _real(self, backend: Any, value: Any, dtype: str, device: str) -> Any:
        """A cotangent or tangent in the dtype of the inputs."""
        what = f"what {self.method} is given first"
        refuse_complex(what, value)
        owner = backends.of(value)
        if owner.name not in ("numpy", backend.name):
            raise UsageError(
                f"{what} is an array of {owner.name}, the inputs are of {backend.name}"
            )
        return real_array(what, on_host(what, value), backend, dtype, device)

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
        filler = Filler.of(backend, dtype, made, arrays, self.operation.inputs)
        self._source, self._latest, self.__class__ = made.source, filler, Compiled
        return filler.filled(lent)

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
        words = tuple((n, type(v), v) for n, v in fixed.items())
        key = (backend.name, dtype, device, shapes, writes, words)
        made = self._made.pop(key, None)  # other threads may take it out and put it back, too
        if made is None:
            setting = Setting(backend, dtype, device, sizes, fixed, writes)
            self._check(setting, vector)
            made = Maker(self.operation, self.request).make(setting, arrays)
        self._made[key] = made
        while len(self._made) > _KEPT:
            self._made.popitem(last=False)
        return made

    def _check(self, setting: Setting, vector: tuple[Any, ...]) -> None:
        for name, array in zip(self.request.vectors, vector, strict=True):
            Builder(self.operation, self.request, setting).check_vector(name, array)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy, or what another process gets, makes its own programs, of frameworks that it has."""
        return Compiled, (self.operation, self.method, self.names, self.output)

    def __repr__(self) -> str:
        return f"<{self.method} of {self.operation.name} in {', '.join(self.names)}>"


def _kind(value: Any) -> Any:
    """Shape, dtype and device of a tensor; a number is itself."""
    if not hasattr(value, "shape"):
        return value
    shape = tuple(int(n) for n in value.shape)
    device = value.device
    return shape, str(value.dtype).removeprefix("torch."), device.type, device.index


def _example(backend: Any, kind: Any, fill: int = 1) -> Any:
    if not isinstance(kind, tuple):
        return kind
    shape, dtype, device, index = kind
    place = device if index is None else f"{device}:{index}"
    if "float" in dtype:
        return backend.asarray(np.ones(shape), dtype, place)
    return backend.asarray(np.full(shape, fill, dtype), "float64", place)
