"""Programs made of requests: statements, source, and the functions that run."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field, replace
from fractions import Fraction
from keyword import iskeyword
from typing import TYPE_CHECKING, Any

from gradcheck import backends
from gradcheck.algebra.shapes import axes_of
from gradcheck.compiling.arguments import INTEGERS, holds_reals, refuse_complex
from gradcheck.compiling.programs import (
    RESERVED,
    SINGLE,
    Builder,
    Miss,
    Request,
    Setting,
    compiled_source,
    kinds_of,
)
from gradcheck.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gradcheck.compiling.graph import Graph, Node
    from gradcheck.operation import Operation

# What stands for an argument that was not given.
MISSING = object()

# Sizes of the axes in a program that is only shown.
_SMALL = (7, 5, 3, 4, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16)


@dataclass(frozen=True)
class Made:
    """A program that is ready.

    Attributes:
        text: Its source, which a framework that traces has only after the first call.
        body: What runs on arguments that were checked.
        guarded: The same, with a test of the arguments before it; None where there is none.
        setting: What it was made for.
        direct: Where a framework traces and the program has run once: makes the function that takes any
            arguments and hands those of other kinds to `anew`, or gives None.
        leaves_zeros: Whether its one result is blocks between zeros that nobody writes.
        kept: What was made of it since, such as the parts of structured results.
    """

    text: list[str]
    body: Callable[..., Any]
    guarded: Callable[..., Any] | None
    setting: Setting
    direct: Callable[[Callable[..., Any]], Callable[..., Any] | None] | None = None
    leaves_zeros: bool = False
    kept: dict[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """The program as text."""
        return "\n".join(self.text)


class Maker:
    """Makes the programs of one request."""

    def __init__(self, operation: Operation, request: Request) -> None:
        self.operation, self.request = operation, request
        self.called = "operands" if request.method == "structured" else request.method
        self.vector = request.vectors

    def make(self, setting: Setting, arrays: Mapping[str, Any]) -> Made:
        """The program for a framework, and for the shapes of these arrays."""
        builder = Builder(self.operation, self.request, setting)
        if setting.backend.traces:
            return self._jitted(builder, arrays)
        guard = self._guard(builder, arrays)
        graph, results, traced = builder.best(arrays)
        lines, names = builder.function(graph, results)
        if not traced:
            lines = [self._forward_line(graph), *lines]
        self._refuse_taken(builder, lines)
        lines = [
            self._note(setting),
            *builder.remarks(),
            *lines,
            f"return {builder.returned(names, results)}",
        ]
        space = self.space(builder, graph)
        space |= {
            setting.backend.dtype_of(a): a.dtype for a in arrays.values() if hasattr(a, "dtype")
        }
        made = self._finished(lines, guard if setting.writes else "", space, setting)
        blocks = [n for n in results.values() if n.op == "place" and not _covered(n)]
        return replace(made, leaves_zeros=bool(blocks))

    def _refuse_taken(self, builder: Builder, lines: Sequence[str]) -> None:
        """An input may not hide what its program calls: `np`, or `power` in a program that has powers."""
        own = [*self.operation.inputs, *self.operation.params]
        taken = [n for n in own if n in builder.writing.calls or iskeyword(n)]
        taken += [n for n in own if n in (f"d_{v}" for v in self.vector)]
        taken += [n for n in own if n in RESERVED and re.search(rf"\b{n}[(.]", "\n".join(lines))]
        # Python takes ϵ for ε in its source, and not in a call by name.
        taken += [n for n in own if unicodedata.normalize("NFKC", n) != n]
        if taken:
            raise UsageError(
                f"{self.operation.name} has an input called {taken[0]!r}, a name that compiled programs for "
                f"{builder.setting.backend.name} need themselves; call the input something else"
            )

    def _finished(
        self, lines: Sequence[str], guard: str, space: Mapping[str, Any], setting: Setting
    ) -> Made:
        plain = self._function(lines)
        if not guard:
            body = setting.backend.bare_results(compiled_source(plain, self.called, space))
            return Made([plain], body, None, setting)
        tested = self._function([lines[0], f"if not ({guard}):", "    raise Miss", *lines[1:]])
        guarded = compiled_source(tested, self.called, space)
        # The test is seen only in the text; arguments that were checked need not pass it again.
        return Made([tested], compiled_source(plain, self.called, space), guarded, setting)

    # ---------------------------------------------------------------- pieces of the source

    def _function(self, lines: Sequence[str]) -> str:
        given = ", ".join([*self.operation.inputs, *self.operation.params])
        vectors = "".join(f"d_{n}, " for n in self.vector) + "/, " * bool(self.vector)
        header = f"def {self.called}({vectors}*, {given}):"
        return "\n".join([header, *(f"    {line}" for line in lines)]) + "\n"

    @staticmethod
    def _note(setting: Setting) -> str:
        sizes = ", ".join(f"{a} = {n}" for a, n in setting.sizes.items())
        return f"# {setting.backend.name}, {setting.dtype}, {sizes}"

    def _forward_line(self, graph: Graph) -> str:
        """The call of a forward that could not be recorded."""
        vectors = {f"d_{n}" for n in self.vector}
        wanted = [n for n in graph.inputs if n not in vectors]
        if not wanted:
            return "# no operand of the forward is needed"
        given = ", ".join(f"{n}={n}" for n in [*self.operation.inputs, *self.operation.params])
        return f"{', '.join(wanted)}, = forward({tuple(wanted)!r}, {given})"

    def _guard(self, builder: Builder, arrays: Mapping[str, Any]) -> str:
        """The test that arguments are what the program was made for."""
        writing, setting = builder.writing, builder.setting
        given = {n: arrays[n] for n in self.operation.inputs}
        kinds = kinds_of(given, setting.backend)
        if not writing.guard:
            return ""
        for name in self.vector:
            shape = tuple(
                int(a) if a.isdigit() else setting.sizes.get(a, -1) for a in builder.shapes[name]
            )
            kinds[f"d_{name}"] = (shape, setting.dtype)
        tests = [
            writing.guard.format(n=n, shape=shape, dtype=dtype, device="device")
            for n, (shape, dtype) in kinds.items()
        ]
        tests += [_same_number(n, setting) for n in self.operation.params]
        return " and ".join([*tests, *writing.also(list(kinds))])

    def space(self, builder: Builder, graph: Graph) -> dict[str, Any]:
        """What the names in the source mean."""
        setting = builder.setting
        backend = setting.backend
        xp = backend.namespace(setting.dtype, setting.device)

        def forward(wanted: tuple[str, ...], **values: Any) -> tuple[Any, ...]:
            found = self.operation.environment(xp, values)
            return tuple(found[n] for n in wanted)

        def one_hot(labels: Any, size: int) -> Any:
            return backend.one_hot(
                labels, size, backend.asarray(0.0, setting.dtype, setting.device)
            )

        def power(number: Any, above: int, below: int) -> Any:
            return backend.power(number, Fraction(above, below))

        own = {"xp": xp, "inf": float("inf"), "nan": float("nan"), "notation": _Notation(backend)}
        own |= {"one_hot": one_hot, "power": power, "forward": forward, "Miss": Miss}
        return {**builder.writing.calls, **graph.constants, **own}

    # ---------------------------------------------------------------- frameworks that trace

    def _jitted(self, builder: Builder, arrays: Mapping[str, Any]) -> Made:
        """For a framework that traces: the forward and the statements after it, compiled as one.

        Other shapes are traced anew, so that the function takes any; it looks at them itself.
        """
        first, backend = builder.setting, builder.setting.backend
        free = [n for n in self.operation.params if n not in first.fixed]
        order = [*(f"d_{n}" for n in self.vector), *self.operation.inputs, *free]
        text: list[str] = []
        self._refuse_taken(builder, ())
        results = self._expected(builder)
        names = [f"result{i}" for i in range(len(results))]
        called = _unlike("jitted", order)
        taken = f"{', '.join(names)}, = " if names else ""
        call = f"{taken}{called}({', '.join(order)})"
        lines = [call, f"return {builder.returned(names, results)}"]
        jitted = backend.jitted(self._traced(first, order, text))
        space = {**builder.writing.calls, called: jitted}
        dtypes = {backend.dtype_of(a): a.dtype for a in arrays.values() if hasattr(a, "dtype")}
        body = compiled_source(self._function(lines), self.called, space)
        # A dense array of another shape may be one that somebody else fills.
        dense = self.request.method in ("dense", "hessian")
        guard = self._guard(builder, arrays) if dense else self._loose_guard(builder)

        def direct(anew: Callable[..., Any]) -> Callable[..., Any] | None:
            if jitted.fastest is jitted.plain:  # the forward looks at values
                return None
            own = {**space, **dtypes, called: jitted.fastest}
            own |= {"Miss": Miss, _unlike("anew", order): anew, _unlike("missing", order): MISSING}
            return compiled_source(self._handing_on(guard, lines), self.called, own)

        return Made(text, body, None, first, direct)

    def _traced(
        self, first: Setting, order: Sequence[str], text: list[str]
    ) -> Callable[..., tuple[Any, ...]]:
        """What is traced, a function of arrays in this order; it leaves its source in `text`."""
        xp = first.backend.namespace(first.dtype, first.device)

        def run(*given: Any) -> tuple[Any, ...]:
            values = dict(zip(order, given, strict=True))
            self._refuse_others(values, first)
            vectors = {f"d_{n}": values.pop(f"d_{n}") for n in self.vector}
            values = {**self._cast(values, first), **first.fixed}
            setting = replace(first, sizes=self.operation.sizes_of(values))
            inner = Builder(self.operation, self.request, setting)
            for name in self.vector:
                inner.check_vector(name, vectors[f"d_{name}"])
            found = self.operation.environment(xp, values)
            graph, results = inner.after(kinds_of(found, first.backend))
            lines, names = inner.function(graph, results)
            self._refuse_taken(inner, lines)
            head = f"def {self.called}({', '.join(graph.inputs)}):"
            given_back = f"return {', '.join(names)}," if names else "return ()"
            lines = [self._note(setting), *inner.remarks(), *lines, given_back]
            text[:] = ["\n".join([head, *(f"    {line}" for line in lines)]) + "\n"]
            function = compiled_source(text[0], self.called, self.space(inner, graph))
            operands = {**found, **self._cast(vectors, first)}
            return tuple(function(*(operands[n] for n in graph.inputs)))

        return run

    def _refuse_others(self, values: Mapping[str, Any], setting: Setting) -> None:
        """Arrays of other dtypes, seen while they are traced, so that no call tests them."""
        inputs = self.operation.inputs
        for name, value in values.items():
            refuse_complex(name, value)
            found = str(getattr(value, "dtype", ""))  # a number has none where nothing is traced
            vector = name not in inputs and name not in self.operation.params
            real = vector or (name in inputs and holds_reals(inputs[name]))
            whole = name in inputs and inputs[name].kind in INTEGERS
            if (real and found != setting.dtype) or (whole and "int" not in found):
                raise Miss

    def _handing_on(self, guard: str, lines: Sequence[str]) -> str:
        """The function that takes any arguments and hands on those of other kinds."""
        inputs = [*self.operation.inputs, *self.operation.params]
        vectors = [f"d_{n}" for n in self.vector]
        own = ("more", "others", "anew", "missing")
        more, others, anew, missing = (_unlike(n, inputs) for n in own)
        given = ", ".join(f"{n}={missing}" for n in vectors) + ", /, " * bool(vectors)
        given += ", ".join([f"*{more}", *(f"{n}={missing}" for n in inputs)])
        passed = ", ".join([*vectors, f"*{more}", *(f"{n}={n}" for n in inputs)])
        call, *rest = lines
        whole = [f"if not ({guard}) or {more} or {others}:"]
        whole += [f"    return {anew}({passed}, **{others})", "try:", f"    {call}"]
        whole += ["except Miss:", f"    return {anew}({passed}, **{others})", *rest]
        header = f"def {self.called}({given}, **{others}):"
        return "\n".join([header, *(f"    {line}" for line in whole)]) + "\n"

    @staticmethod
    def _cast(values: Mapping[str, Any], setting: Setting) -> dict[str, Any]:
        """Real arrays in the program's dtype."""
        return {
            n: v.astype(setting.dtype) if "float" in str(getattr(v, "dtype", "")) else v
            for n, v in values.items()
        }

    def _loose_guard(self, builder: Builder) -> str:
        """The test that arguments are the framework's arrays, of the dtype of the program."""
        setting = builder.setting
        vectors, inputs = [f"d_{n}" for n in self.vector], self.operation.inputs
        real = next(n for n, d in inputs.items() if d.kind not in INTEGERS)
        tests = [f"{n}.__class__ is Array" for n in (*vectors, *inputs)]
        tests.append(f"{real}.dtype is {setting.dtype}")
        tests += [_same_number(n, setting) for n in self.operation.params]
        return " and ".join([*tests, *builder.writing.also([*vectors, *inputs])])

    def _expected(self, builder: Builder) -> list[str]:
        """The names of the results, before they are made."""
        request = self.request
        if request.method == "structured":
            return builder.operands()
        if request.method in SINGLE:
            return [request.method]
        value = [" value"] if request.method == "value_and_gradient" else []
        return [*value, *request.names]

    def from_operands(
        self, setting: Setting, kinds: Mapping[str, tuple[tuple[int, ...], str]]
    ) -> Callable[..., Any]:
        """A function of what a forward left: `(vectors..., operands...)` in the order of `kinds`.

        It writes into nothing and trusts no relation: it may be recorded, batched and differentiated.
        """
        builder = Builder(self.operation, self.request, setting, trusting=False)
        graph, results = builder.after(kinds)
        lines, names = builder.function(graph, results, writes=False)
        given = ", ".join([*(f"d_{n}" for n in self.vector), *kinds])
        lines = [f"def {self.called}({given}):", self._note(setting), *lines]
        lines.append(f"return {builder.returned(names, results)}")
        space = self.space(builder, graph)
        return compiled_source("\n    ".join(lines) + "\n", self.called, space)

    def example(self) -> str:
        """The source of NumPy's program at small sizes that are all different."""
        backend = backends.get("numpy")
        axes = dict.fromkeys(a for d in self.operation.inputs.values() for a in axes_of(d.shape))
        sizes = dict(zip(axes, _SMALL, strict=False))
        sizes.update({f"#{a}": n for a, n in sizes.items()})
        params = {n: p.simplest() for n, p in self.operation.params.items()}
        values = {n: d.simplest(sizes, params) for n, d in self.operation.inputs.items()}
        arrays = {n: backend.asarray(v, "float64", "cpu") for n, v in values.items()} | params
        fixed = {n: v for n, v in params.items() if not isinstance(v, float)}
        found = self.operation.sizes_of(arrays)
        return self.make(Setting(backend, "float64", "cpu", found, fixed, True), arrays).source


def _same_number(name: str, setting: Setting) -> str:
    """The test that a parameter is what the program was made for, whatever may come in its place."""
    if name not in setting.fixed:
        return f"{name}.__class__ is float"
    value = setting.fixed[name]
    if value is None:
        return f"{name} is None"
    return f"{name}.__class__ is {type(value).__name__} and {name} == {value!r}"


def _covered(placed: Node) -> bool:
    """Whether the first block is as large as the array into which blocks are placed."""
    first: Any = placed.args[0]
    return getattr(first, "shape", ()) == placed.shape


def _unlike(name: str, taken: Sequence[str]) -> str:
    return name if name not in taken else _unlike(f"{name}_", taken)


class _Notation:
    """The functions of the notation, `notation.sigmoid(z)`."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        value = self._backend.function(name)
        setattr(self, name, value)
        return value
