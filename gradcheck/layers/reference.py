"""The forward that a rule claims to differentiate: its values, its oracles, its carried derivative."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck import backends, running
from gradcheck.arguments import check_call, check_returned
from gradcheck.backends.base import outputs_of
from gradcheck.checking.problem import MAX_DIRECTIONS, MAX_ENTRIES
from gradcheck.errors import GradcheckError, UsageError, in_words
from gradcheck.operation import Operation
from gradcheck.oracles import Oracle, Question

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gradcheck.checking.search import Example
    from gradcheck.domains import Domain, Parameter

_SERIALS = count()
# Their forward is the framework's own; it takes what the framework has, and its own arrays.
_NUMPY_NEEDS = ("autograd", "jax", "torch", "tensorflow")


@dataclass
class Reference:
    """What a rule is held against.

    Attributes:
        inputs: The domains, in the order of the arguments.
        params: The parameters.
        forward: `forward(xp, *arrays, **params)` to a tuple of outputs; None where only frameworks'
            own functions are known.
        own: By framework, `fn(*arrays, **params)` on the framework's own arrays.
        native: Frameworks' own implementations beside a forward.
        where: Conditions of the operation.
        outputs: The names of the outputs, where they are known.
        operation: The spec or chain that the forward is of, where it is of one.
        uncarried: Why the derivative could not be carried through the forward, where it could not.
    """

    inputs: dict[str, Domain]
    params: dict[str, Parameter]
    forward: Callable[..., tuple[Any, ...]] | None
    own: dict[str, Callable[..., Any]] = field(default_factory=dict)
    native: dict[str, Callable[..., Any]] = field(default_factory=dict)
    where: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    operation: Operation | None = None
    uncarried: str = ""
    serial: int = field(default_factory=lambda: next(_SERIALS))

    def oracles(self, names: Sequence[str]) -> list[Oracle]:
        """Those of the named oracles that can be asked here about this forward."""
        here = backends.installed()
        found = []
        for name in names:
            if name == "native":
                found += [Oracle(name, f) for f in self.native if f in here]
            elif name == "differences":
                found.append(Oracle(name, "numpy"))
            elif name in here and (self.forward is not None or name in self.own):
                found.append(Oracle(name, name))
        return found

    def question(
        self, oracle: Oracle, example: Example, wrt: str, output: int, dtype: str
    ) -> Question:
        """∂output/∂wrt at the example, for an oracle, in a dtype of its own."""
        own = self.own.get(oracle.framework) if self.forward is None else None
        fixed = dict(example.params)
        arrays: list[Any] = [example.inputs[n] for n in self.inputs]
        native = {f: _with(fn, fixed) for f, fn in self.native.items()}
        forward = self._forward(oracle, own, fixed)
        # Numbers travel as arrays, so that a framework that compiles does it once.
        if self.forward is not None and oracle.name != "native":
            numbers = {n: v for n, v in fixed.items() if isinstance(v, float)}
            fixed = {n: v for n, v in fixed.items() if n not in numbers}
            arrays += list(numbers.values())
            forward = _split(self.forward, len(self.inputs), tuple(numbers), fixed)
        key = (self.serial, wrt, output, tuple(sorted(fixed.items())))
        return Question(
            forward, native, arrays, list(self.inputs).index(wrt), output, dtype, key, None
        )

    def _forward(
        self, oracle: Oracle, own: Callable[..., Any] | None, params: Mapping[str, Any]
    ) -> Callable[..., tuple[Any, ...]]:
        if self.forward is not None:
            return _bound(self.forward, params)
        if own is not None:
            backend = backends.get(oracle.framework)
            return lambda _xp, *arrays: _outputs(
                own(*(backend.asarray_like(a) for a in arrays), **params)
            )
        framework = next(f for f in self.own if f in backends.installed())
        return lambda _xp, *arrays: tuple(self._hosted(framework, arrays, params, "float64", "cpu"))

    def values(self, example: Example, dtype: str, device: str = "cpu") -> list[np.ndarray]:
        """The outputs at an example, in a dtype where numpy or the framework has it."""
        arrays = [example.inputs[n] for n in self.inputs]
        if self.forward is None:
            framework = next((f for f in self.own if f in backends.installed()), None)
            if framework is None:
                raise UsageError(
                    f"the forward is given for {', '.join(self.own)} only, none of which is installed"
                )
            return self._hosted(framework, arrays, example.params, dtype, device)
        numpy = backends.get("numpy")
        kind = dtype if dtype in numpy.dtypes else "float32"
        return numpy.apply(_bound(self.forward, example.params), arrays, kind)

    def _hosted(
        self,
        framework: str,
        arrays: Sequence[Any],
        params: Mapping[str, Any],
        dtype: str,
        device: str,
    ) -> list[np.ndarray]:
        """A framework's own forward on numpy arrays."""
        own, backend = self.own[framework], backends.get(framework)
        with backend.scope(dtype):
            inputs = [backend.asarray(np.array(a), dtype, device) for a in arrays]
            return [backend.to_numpy(r) for r in _outputs(own(*inputs, **params))]

    def truth(
        self, example: Example, wrt: str, output: int, dtype: str, size: int
    ) -> running.Truth | None:
        """The derivative carried through the forward; None where it is too large, or cannot be."""
        entries = example.inputs[wrt].size
        if self.forward is None or entries > MAX_DIRECTIONS or entries * size > MAX_ENTRIES:
            return None
        arrays = self.carried(example, dtype, wrt)
        forward = _bound(self.forward, example.params)
        try:
            return running.derivative(
                forward, arrays, list(self.inputs).index(wrt), dtype, output=output
            )
        except (GradcheckError, TypeError, AttributeError) as error:
            self.uncarried = in_words(error)
            return None

    def carried(self, example: Example, dtype: str, wrt: str) -> list[Any]:
        """Inputs for the analysis: rows of probabilities are rounded from exact ones."""
        space = running.ErrorNamespace(dtype)
        arrays: list[Any] = []
        for name, domain in self.inputs.items():
            array = example.inputs[name]
            rounded = domain.kind == "probability" and name != wrt
            wide = np.asarray(array, np.float64) if array.dtype.kind == "f" else array
            arrays.append(running.rounded_input(space, wide) if rounded else wide)
        return arrays


def _outputs(produced: Any) -> tuple[Any, ...]:
    """What somebody's forward gave, as a tuple of arrays; a list is taken for one."""
    produced = tuple(produced) if isinstance(produced, list) else produced
    check_returned(produced, "the forward")
    return outputs_of(produced)


def _bound(
    forward: Callable[..., Any], params: Mapping[str, Any]
) -> Callable[..., tuple[Any, ...]]:
    return lambda xp, *arrays: outputs_of(forward(xp, *arrays, **params))


def _split(
    forward: Callable[..., Any], inputs: int, numbers: tuple[str, ...], fixed: Mapping[str, Any]
) -> Callable[..., tuple[Any, ...]]:
    """A forward whose last arguments are the numeric parameters."""

    def call(xp: Any, *arrays: Any) -> tuple[Any, ...]:
        given = dict(zip(numbers, arrays[inputs:], strict=True))
        return outputs_of(forward(xp, *arrays[:inputs], **given, **fixed))

    return call


def _with(fn: Callable[..., Any], params: Mapping[str, Any]) -> Callable[..., Any]:
    return lambda *arrays: fn(*arrays, **params)


def as_reference(
    of: Any, inputs: dict[str, Domain] | None, params: dict[str, Parameter] | None
) -> Reference:
    """What stands after `of=`: a forward, a spec, a chain, or frameworks' own functions.

    Args:
        of: A forward `forward(xp, *inputs, **params)`; an operation, or the text that names one; or
            `{"torch": fn}` with `fn(*inputs, **params)` on the framework's own arrays.
        inputs: The domains; an operation's own where left out.
        params: The parameters; an operation's own where left out.

    Raises:
        UsageError: Where it is none of these, or the inputs are not those of the operation.
    """
    if isinstance(of, str):
        from gradcheck.library import resolve

        of = resolve([of])[0].operation
    if isinstance(of, Operation):
        return _of_operation(of, inputs, params)
    if not inputs:
        raise UsageError('say where the inputs live: inputs={"x": real("m n"), "g": real("n")}')
    if isinstance(of, dict):
        return _of_frameworks(of, inputs, params or {})
    if callable(of):
        check_call(of, ["xp", *inputs], [*(params or {})], what="`of`", error=UsageError)
        return Reference(inputs, params or {}, lambda xp, *a, **p: _outputs(of(xp, *a, **p)))
    raise UsageError(
        f"of={of!r} is no forward; write of=forward with forward(xp, *inputs, **params), a spec, a "
        'chain, or of={"torch": fn} for a function that only one framework can run'
    )


def _of_operation(
    operation: Operation, inputs: dict[str, Domain] | None, params: dict[str, Parameter] | None
) -> Reference:
    domains = {**operation.inputs, **(inputs or {})}
    unknown = [n for n in domains if n not in operation.inputs]
    if unknown:
        raise UsageError(
            f"{operation.name} has no input {unknown[0]!r}; it has {', '.join(operation.inputs)}"
        )
    strange = [n for n in params or {} if n not in operation.params]
    if strange:
        held = ", ".join(operation.params) or "none"
        raise UsageError(f"{operation.name} has no parameter {strange[0]!r}; it has {held}")
    names = list(domains)

    def forward(xp: Any, *arrays: Any, **params: Any) -> tuple[Any, ...]:
        values = {**dict(zip(names, arrays, strict=True)), **params}
        return (operation.environment(xp, values)[operation.result],)

    return Reference(
        domains,
        {**operation.params, **(params or {})},
        forward,
        native=dict(operation.native),
        where=operation.where,
        outputs=(operation.result,),
        operation=operation,
    )


def _of_frameworks(
    of: dict[str, Any], inputs: dict[str, Domain], params: dict[str, Parameter]
) -> Reference:
    known = _NUMPY_NEEDS
    for name, fn in of.items():
        if name not in known or not callable(fn):
            raise UsageError(
                f"of={{{name!r}: ...}}: write a framework of {', '.join(known)} and its function"
            )
        check_call(fn, [*inputs], [*params], what=f"of[{name!r}]", error=UsageError)
    if not of:
        raise UsageError('of={} names no forward; write of={"torch": fn}')
    return Reference(inputs, params, None, own=dict(of))
